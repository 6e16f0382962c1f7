//! Rows as records: row by row, since that is what the format is.
//!
//! The schema says in which order the fields stand and of which types they are; the columns are looked up by name, once for
//! each batch.

use super::schema::{Kind, Logical, NodeId, Schema};
use super::wire::{decimal_bytes, put_counted, put_long};
use crate::types::sql_type;
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use millstream_core::{Error, Result};

/// The values of one field of the schema.
struct Put<'a> {
    name: &'a str,
    nulls: Option<&'a NullBuffer>,
    /// In a union: the branch of `null`, if there is one, and that of values.
    union: Option<(Option<i64>, i64)>,
    values: Values<'a>,
}

enum Values<'a> {
    /// The table has no such column, and the field may be null.
    Null,
    Boolean(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    /// A time, multiplied by the first and divided by the second.
    T32(&'a [i32], i64, i64),
    T64(&'a [i64], i64, i64),
    F32(&'a [f32]),
    F64(&'a [f64]),
    /// As the wider type.
    F32As64(&'a [f32]),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Enum(&'a StringArray, &'a [String]),
    Fixed(&'a BinaryArray, usize),
    Decimal(&'a Decimal128Array, Option<usize>),
    List(&'a [i32], Box<Put<'a>>),
    Map(&'a [i32], &'a StringArray, Box<Put<'a>>),
    Record(Vec<Put<'a>>),
}

/// Rows that can be written one by one.
pub(super) struct Records<'a>(Vec<Put<'a>>);

/// Why a row cannot be written.
pub(super) struct Unfit(String);

impl Unfit {
    pub fn error(self) -> Error {
        Error::data(self.0).remedy("leave such rows out, COALESCE their NULLs, or give a schema that may hold them")
    }
}

impl<'a> Records<'a> {
    pub fn new(schema: &'a Schema, rows: &'a RecordBatch) -> Result<Records<'a>> {
        let fields = rows.schema_ref().fields();
        record(schema, schema.root, fields, rows.columns(), "").map(Records).map_err(disagreement)
    }

    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), Unfit> {
        self.0.iter().try_for_each(|put| put.write(row, out))
    }
}

/// That rows of these columns can be written with the schema.
pub(super) fn check(schema: &Schema, fields: &Fields) -> Result<()> {
    let columns: Vec<ArrayRef> = fields.iter().map(|f| arrow::array::new_empty_array(f.data_type())).collect();
    record(schema, schema.root, fields, &columns, "").map_err(disagreement)?;
    for field in fields {
        if !schema.fields(schema.root).unwrap_or_default().iter().any(|f| f.name == *field.name()) {
            return Err(disagreement(format!(
                "the schema has no field `{}`, which is a column of the table",
                field.name()
            )));
        }
    }
    Ok(())
}

fn disagreement(why: String) -> Error {
    Error::sql(why).remedy("make the schema and the columns of the table agree")
}

fn record<'a>(
    schema: &'a Schema,
    id: NodeId,
    fields: &'a Fields,
    columns: &'a [ArrayRef],
    within: &str,
) -> std::result::Result<Vec<Put<'a>>, String> {
    let Some(written) = schema.fields(id) else {
        return Err(format!("the schema is {}, and a row is a record", schema.describe(id)));
    };
    let put = |f: &'a super::schema::Field| {
        let path = format!("{within}{}", f.name);
        match fields.iter().position(|column| *column.name() == f.name) {
            Some(at) => value(schema, f.node, &fields[at], &columns[at], &path),
            None => match branches(schema, f.node) {
                (_, Some((Some(null), _))) => {
                    Ok(Put { name: &f.name, nulls: None, union: Some((Some(null), 0)), values: Values::Null })
                }
                _ => Err(format!(
                    "the schema has the field `{path}` ({}), which is no column of the table and may not be null",
                    schema.describe(f.node)
                )),
            },
        }
    };
    written.iter().map(put).collect()
}

/// The type of values, and of a union the branches of `null` and of that type.
fn branches(schema: &Schema, id: NodeId) -> (NodeId, Option<(Option<i64>, i64)>) {
    let Kind::Union(branches) = &schema.node(id).kind else { return (id, None) };
    let null = branches.iter().position(|b| schema.node(*b).kind == Kind::Null);
    let value = schema.value_of(id);
    match branches.iter().position(|b| *b == value) {
        Some(at) => (value, Some((null.map(|n| n as i64), at as i64))),
        // Of several types, or of `null` alone.
        None => (id, null.map(|n| (Some(n as i64), 0))),
    }
}

fn value<'a>(
    schema: &'a Schema,
    id: NodeId,
    field: &'a Field,
    column: &'a ArrayRef,
    path: &str,
) -> std::result::Result<Put<'a>, String> {
    let (id, union) = branches(schema, id);
    let node = schema.node(id);
    let unfit = || {
        let (column, written) = (sql_type(field.data_type()), schema.describe(id));
        Err(format!("column `{path}` is {column}, and the schema has {written} for it"))
    };
    use DataType as D;
    let values = match (&node.kind, field.data_type()) {
        (Kind::Boolean, D::Boolean) => Values::Boolean(column.as_boolean()),
        (Kind::Int | Kind::Long, D::Int8) => Values::I8(column.as_primitive::<Int8Type>().values()),
        (Kind::Int | Kind::Long, D::Int16) => Values::I16(column.as_primitive::<Int16Type>().values()),
        (Kind::Int | Kind::Long, D::Int32) => Values::I32(column.as_primitive::<Int32Type>().values()),
        (Kind::Long, D::Int64) => Values::I64(column.as_primitive::<Int64Type>().values()),
        (Kind::Int, D::Date32) if matches!(node.logical, None | Some(Logical::Date)) => {
            Values::I32(column.as_primitive::<Date32Type>().values())
        }
        (Kind::Int | Kind::Long, D::Time32(_) | D::Time64(_) | D::Timestamp(..)) => {
            let to = match (node.logical, field.data_type()) {
                (Some(Logical::Time(unit)), D::Time32(_) | D::Time64(_)) => unit,
                (Some(Logical::Timestamp(unit)), D::Timestamp(..)) => unit,
                (None, D::Timestamp(..)) if node.kind == Kind::Long => TimeUnit::Millisecond,
                _ => return unfit(),
            };
            match time(column, to) {
                Some(values) => values,
                None => return unfit(),
            }
        }
        (Kind::Float, D::Float32) => Values::F32(column.as_primitive::<Float32Type>().values()),
        (Kind::Double, D::Float32) => Values::F32As64(column.as_primitive::<Float32Type>().values()),
        (Kind::Double, D::Float64) => Values::F64(column.as_primitive::<Float64Type>().values()),
        (Kind::String | Kind::Bytes, D::Utf8) if node.logical.is_none() => Values::Text(column.as_string::<i32>()),
        (Kind::Enum { symbols, .. }, D::Utf8) => Values::Enum(column.as_string::<i32>(), symbols),
        (Kind::Bytes, D::Binary) if node.logical.is_none() => Values::Bytes(column.as_binary::<i32>()),
        (Kind::Fixed { size, .. }, D::Binary) if node.logical.is_none() => {
            Values::Fixed(column.as_binary::<i32>(), *size)
        }
        (Kind::Bytes | Kind::Fixed { .. }, D::Decimal128(p, s)) => match node.logical {
            Some(Logical::Decimal { precision, scale })
                if i64::from(scale) == i64::from(*s) && precision >= u32::from(*p) =>
            {
                let size = if let Kind::Fixed { size, .. } = node.kind { Some(size) } else { None };
                Values::Decimal(column.as_primitive::<Decimal128Type>(), size)
            }
            _ => return unfit(),
        },
        (Kind::Array(item), D::List(of)) => {
            let list = column.as_list::<i32>();
            let inner = value(schema, *item, of, list.values(), &format!("{path}[]"))?;
            Values::List(list.value_offsets(), Box::new(inner))
        }
        (Kind::Map(item), D::Map(entries, _)) => {
            let map = column.as_map();
            let D::Struct(pair) = entries.data_type() else { return unfit() };
            let [key, of] = &pair[..] else { return unfit() };
            if *key.data_type() != D::Utf8 {
                return unfit();
            }
            let inner = value(schema, *item, of, map.values(), &format!("{path}[]"))?;
            Values::Map(map.value_offsets(), map.keys().as_string::<i32>(), Box::new(inner))
        }
        (Kind::Record { .. }, D::Struct(fields)) => {
            Values::Record(record(schema, id, fields, column.as_struct().columns(), &format!("{path}."))?)
        }
        _ => return unfit(),
    };
    Ok(Put { name: field.name(), nulls: column.nulls(), union, values })
}

fn time(column: &ArrayRef, to: TimeUnit) -> Option<Values<'_>> {
    use TimeUnit::*;
    let (of, narrow) = match column.data_type() {
        DataType::Time32(unit) => (*unit, true),
        DataType::Time64(unit) | DataType::Timestamp(unit, _) => (*unit, false),
        _ => return None,
    };
    let per = |unit| match unit {
        Second => 1i64,
        Millisecond => 1_000,
        Microsecond => 1_000_000,
        Nanosecond => 1_000_000_000,
    };
    let (multiply, divide) = ((per(to) / per(of)).max(1), (per(of) / per(to)).max(1));
    Some(match (narrow, column.data_type()) {
        (true, DataType::Time32(Second)) => {
            Values::T32(column.as_primitive::<Time32SecondType>().values(), multiply, divide)
        }
        (true, _) => Values::T32(column.as_primitive::<Time32MillisecondType>().values(), multiply, divide),
        (false, DataType::Time64(Nanosecond)) => {
            Values::T64(column.as_primitive::<Time64NanosecondType>().values(), multiply, divide)
        }
        (false, DataType::Time64(_)) => {
            Values::T64(column.as_primitive::<Time64MicrosecondType>().values(), multiply, divide)
        }
        (false, _) => match of {
            Second => Values::T64(column.as_primitive::<TimestampSecondType>().values(), multiply, divide),
            Millisecond => Values::T64(column.as_primitive::<TimestampMillisecondType>().values(), multiply, divide),
            Microsecond => Values::T64(column.as_primitive::<TimestampMicrosecondType>().values(), multiply, divide),
            Nanosecond => Values::T64(column.as_primitive::<TimestampNanosecondType>().values(), multiply, divide),
        },
    })
}

impl Put<'_> {
    fn write(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), Unfit> {
        let null = matches!(self.values, Values::Null) || self.nulls.is_some_and(|n| n.is_null(row));
        match (self.union, null) {
            (None, false) => {}
            (Some((_, branch)), false) => put_long(branch, out),
            (Some((Some(branch), _)), true) => {
                put_long(branch, out);
                return Ok(());
            }
            (_, true) => {
                return Err(Unfit(format!("column `{}` is NULL, and its schema has no null for it", self.name)));
            }
        }
        self.write_value(row, out)
    }

    fn write_value(&self, row: usize, out: &mut Vec<u8>) -> std::result::Result<(), Unfit> {
        let far = || Unfit(format!("column `{}` holds a time that is too far away", self.name));
        match &self.values {
            Values::Null => {}
            Values::Boolean(v) => out.push(u8::from(v.value(row))),
            Values::I8(v) => put_long(i64::from(v[row]), out),
            Values::I16(v) => put_long(i64::from(v[row]), out),
            Values::I32(v) => put_long(i64::from(v[row]), out),
            Values::I64(v) => put_long(v[row], out),
            Values::T32(v, by, of) => put_long((i64::from(v[row]) * by).div_euclid(*of), out),
            Values::T64(v, by, of) => put_long(v[row].checked_mul(*by).ok_or_else(far)?.div_euclid(*of), out),
            Values::F32(v) => out.extend_from_slice(&v[row].to_le_bytes()),
            Values::F64(v) => out.extend_from_slice(&v[row].to_le_bytes()),
            Values::F32As64(v) => out.extend_from_slice(&f64::from(v[row]).to_le_bytes()),
            Values::Text(v) => put_counted(v.value(row).as_bytes(), out),
            Values::Bytes(v) => put_counted(v.value(row), out),
            Values::Enum(v, symbols) => {
                let text = v.value(row);
                let at = symbols.iter().position(|s| s == text).ok_or_else(|| {
                    Unfit(format!("column `{}` holds `{text}`, which is no symbol of its enum", self.name))
                })?;
                put_long(at as i64, out);
            }
            Values::Fixed(v, size) => {
                let bytes = v.value(row);
                if bytes.len() != *size {
                    let found = bytes.len();
                    return Err(Unfit(format!("column `{}` holds {found} bytes, its schema has {size}", self.name)));
                }
                out.extend_from_slice(bytes);
            }
            Values::Decimal(v, size) => {
                let wide = v.value(row).to_be_bytes();
                let few = decimal_bytes(&wide);
                match size {
                    None => put_counted(few, out),
                    Some(size) if few.len() <= *size => {
                        let fill = if wide[0] & 0x80 == 0 { 0 } else { 0xff };
                        out.extend(std::iter::repeat_n(fill, size - few.len()));
                        out.extend_from_slice(few);
                    }
                    Some(_) => {
                        return Err(Unfit(format!("column `{}` holds a number too large for its fixed", self.name)));
                    }
                }
            }
            Values::List(ends, inner) => {
                let (from, to) = (ends[row], ends[row + 1]);
                if from < to {
                    put_long(i64::from(to - from), out);
                    (from..to).try_for_each(|n| inner.write(n as usize, out))?;
                }
                put_long(0, out);
            }
            Values::Map(ends, keys, inner) => {
                let (from, to) = (ends[row], ends[row + 1]);
                if from < to {
                    put_long(i64::from(to - from), out);
                    for n in from..to {
                        put_counted(keys.value(n as usize).as_bytes(), out);
                        inner.write(n as usize, out)?;
                    }
                }
                put_long(0, out);
            }
            Values::Record(fields) => fields.iter().try_for_each(|f| f.write(row, out))?,
        }
        Ok(())
    }
}
