//! SQL's types as Arrow's, and back for messages; and which value may stand where another is wanted.

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion_common::Result as DfResult;
use datafusion_common::plan_err;
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::sqlparser::ast::{
    self, ArrayElemTypeDef, DataType as Sql, ExactNumberInfo, ObjectNamePart, TimezoneInfo,
};
use std::sync::Arc;

/// Types inside expressions: `CAST(x AS DECIMAL(10, 2))`.
#[derive(Debug)]
pub struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql: &Sql) -> DfResult<Option<FieldRef>> {
        Ok(arrow_type(sql)?.map(|t| Arc::new(Field::new("", t, true))))
    }
}

/// The Arrow type of a SQL type. `None`: not one of ours.
pub fn arrow_type(sql: &Sql) -> DfResult<Option<DataType>> {
    Ok(Some(match sql {
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::TinyInt(_) => DataType::Int8,
        Sql::SmallInt(_) => DataType::Int16,
        Sql::Int(_) | Sql::Integer(_) => DataType::Int32,
        Sql::BigInt(_) => DataType::Int64,
        Sql::Float(_) | Sql::Real => DataType::Float32,
        Sql::Double(_) | Sql::DoublePrecision => DataType::Float64,
        Sql::Decimal(info) | Sql::Numeric(info) | Sql::Dec(info) => match info {
            // Flink's default.
            ExactNumberInfo::None => DataType::Decimal128(10, 0),
            ExactNumberInfo::Precision(p) => decimal(*p, 0)?,
            ExactNumberInfo::PrecisionAndScale(p, s) => decimal(*p, *s)?,
        },
        Sql::String(_) | Sql::Varchar(_) | Sql::Char(_) | Sql::Text | Sql::CharVarying(_) | Sql::Character(_) => {
            DataType::Utf8
        }
        Sql::Bytes(_) | Sql::Varbinary(_) | Sql::Binary(_) | Sql::Bytea => DataType::Binary,
        Sql::Date => DataType::Date32,
        Sql::Time(_, _) => DataType::Time32(TimeUnit::Millisecond),
        // Flink's default precision is 6.
        Sql::Timestamp(p, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            DataType::Timestamp(unit(p.unwrap_or(6))?, None)
        }
        Sql::Timestamp(p, _) => DataType::Timestamp(unit(p.unwrap_or(6))?, Some("UTC".into())),
        Sql::Custom(name, args) => {
            let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return Ok(None) };
            if !name.value.eq_ignore_ascii_case("TIMESTAMP_LTZ") {
                return Ok(None);
            }
            let precision = match args.as_slice() {
                [] => 6,
                [p] => match p.parse() {
                    Ok(p) => p,
                    Err(_) => return plan_err!("TIMESTAMP_LTZ takes a precision from 0 to 9, not {p}"),
                },
                _ => return plan_err!("TIMESTAMP_LTZ takes one precision"),
            };
            DataType::Timestamp(unit(precision)?, Some("UTC".into()))
        }
        Sql::Array(
            ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::SquareBracket(item, _)
            | ArrayElemTypeDef::Parenthesis(item),
        ) => match arrow_type(item)? {
            Some(item) => DataType::List(Arc::new(Field::new("item", item, true))),
            None => return Ok(None),
        },
        Sql::Map(key, value) => match (arrow_type(key)?, arrow_type(value)?) {
            (Some(key), Some(value)) => {
                let entries = vec![Field::new("key", key, false), Field::new("value", value, true)];
                let entries = Field::new("entries", DataType::Struct(Fields::from(entries)), false);
                DataType::Map(Arc::new(entries), false)
            }
            _ => return Ok(None),
        },
        Sql::Struct(fields, _) => {
            let mut out = Vec::with_capacity(fields.len());
            for (i, f) in fields.iter().enumerate() {
                let Some(t) = arrow_type(&f.field_type)? else { return Ok(None) };
                let name = f.field_name.as_ref().map_or_else(|| format!("f{i}"), |n: &ast::Ident| n.value.clone());
                out.push(Field::new(name, t, true));
            }
            DataType::Struct(out.into())
        }
        _ => return Ok(None),
    }))
}

fn decimal(precision: u64, scale: i64) -> DfResult<DataType> {
    if !(1..=38).contains(&precision) || !(0..=precision as i64).contains(&scale) {
        return plan_err!(
            "DECIMAL({precision}, {scale}): the precision is 1 to 38, the scale 0 to the precision"
        );
    }
    Ok(DataType::Decimal128(precision as u8, scale as i8))
}

fn unit(precision: u64) -> DfResult<TimeUnit> {
    Ok(match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        7..=9 => TimeUnit::Nanosecond,
        _ => return plan_err!("the precision of a TIMESTAMP is 0 to 9, not {precision}"),
    })
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
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(f) if f.len() == 2 => {
                format!("MAP<{}, {}>", sql_name(f[0].data_type()), sql_name(f[1].data_type()))
            }
            other => other.to_string(),
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
        (Map(a, _), Map(b, _)) => fits(a.data_type(), b.data_type()),
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
