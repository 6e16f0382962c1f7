//! SQL's types as Arrow's, and back for messages; and which value may stand where another is wanted.

use crate::parse::types::arrow_type;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::Result as DfResult;
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::sqlparser::ast;
use millstream_core::multiset::element_of;
use std::sync::Arc;

/// Types inside expressions: `CAST(x AS DECIMAL(10, 2))`.
#[derive(Debug)]
pub struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql: &ast::DataType) -> DfResult<Option<FieldRef>> {
        Ok(arrow_type(sql).map(|t| Arc::new(Field::new("", t, true))))
    }
}

/// The type as one would declare it.
pub fn sql_name(t: &DataType) -> String {
    match t {
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::Float32 => "FLOAT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".into(),
        DataType::Date32 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Decimal128(p, s) => format!("DECIMAL({p}, {s})"),
        DataType::Timestamp(unit, zone) => {
            let p = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            if zone.is_some() { format!("TIMESTAMP_LTZ({p})") } else { format!("TIMESTAMP({p})") }
        }
        DataType::List(item) | DataType::LargeList(item) => format!("ARRAY<{}>", sql_name(item.data_type())),
        DataType::Map(entries, _) => match (element_of(t), entries.data_type()) {
            (Some(element), _) => format!("MULTISET<{}>", sql_name(element)),
            (None, DataType::Struct(f)) if f.len() == 2 => {
                format!("MAP<{}, {}>", sql_name(f[0].data_type()), sql_name(f[1].data_type()))
            }
            (None, other) => other.to_string(),
        },
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("`{}` {}", f.name(), sql_name(f.data_type()))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        DataType::Null => "NULL".into(),
        other => other.to_string(),
    }
}

/// Whether INSERT may put a value of type `from` into a column of type `to` by itself: numbers into numbers that hold
/// them, text into text, times of one kind into each other.
pub fn fits(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    let integer_digits = |t: &DataType| match t {
        Int8 => Some(3),
        Int16 => Some(5),
        Int32 => Some(10),
        Int64 => Some(19),
        // Only a few functions give unsigned numbers; they are counts that fit.
        UInt8 => Some(3),
        UInt16 => Some(5),
        UInt32 => Some(10),
        UInt64 => Some(19),
        _ => None,
    };
    let rank = |t: &DataType| match t {
        Int8 => Some(1),
        UInt8 | Int16 => Some(2),
        UInt16 | Int32 => Some(3),
        UInt32 | UInt64 | Int64 => Some(4),
        _ => None,
    };
    match (from, to) {
        _ if from == to => true,
        (Null, _) => true,
        (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64, Int8 | Int16 | Int32 | Int64) => {
            rank(from) <= rank(to)
        }
        (Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64, Float32 | Float64) => true,
        (f, Decimal128(p, s)) if integer_digits(f).is_some() => {
            integer_digits(f).is_some_and(|d| i32::from(*p) - i32::from(*s) >= d.min(19))
        }
        // Flink rounds the scale; digits before the point that do not fit fail at run time.
        (Decimal128(_, _), Decimal128(_, _) | Float32 | Float64) => true,
        (Float32, Float64) | (Float64, Float32) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8) => true,
        (Binary | LargeBinary | BinaryView | FixedSizeBinary(_), Binary) => true,
        (Timestamp(_, _), Timestamp(_, _)) => true,
        (Date32, Timestamp(_, _)) => true,
        (Time32(_) | Time64(_), Time32(_)) => true,
        (List(a) | LargeList(a) | FixedSizeList(a, _), List(b)) => fits(a.data_type(), b.data_type()),
        (Map(a, _), Map(b, _)) => {
            element_of(from).is_some() == element_of(to).is_some() && fits(a.data_type(), b.data_type())
        }
        (Struct(a), Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fits(a.data_type(), b.data_type()))
        }
        (Dictionary(_, value), to) => fits(value, to),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_widen_and_never_narrow() {
        assert!(fits(&DataType::Int32, &DataType::Int64));
        assert!(!fits(&DataType::Int64, &DataType::Int32));
        assert!(!fits(&DataType::Utf8, &DataType::Int32));
        assert!(!fits(&DataType::Int32, &DataType::Utf8));
    }
}
