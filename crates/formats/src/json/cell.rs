//! Reads one JSON value into a column of one row: the careful way, for lines that the quick way refuses and for nested
//! values inside CSV fields. And what lies between Arrow's reading of JSON and Flink's.

use super::too_deep;
use crate::text::{parse_bool, parse_bytes, parse_date, parse_decimal, parse_time, parse_timestamp};
use arrow::array::types::*;
use arrow::array::*;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::json::ReaderBuilder;
use millstream_core::Result;
use std::ops::Range;
use std::sync::Arc;

/// Reads values of one column.
pub(crate) struct CellReader {
    declared: DataType,
    wire: FieldRef,
    decoder: arrow::json::reader::Decoder,
    null: ArrayRef,
}

impl CellReader {
    pub fn new(field: &Field) -> Result<CellReader> {
        let wire = Arc::new(Field::new(field.name(), wire_type(field.data_type()), true));
        Ok(CellReader {
            decoder: fresh(&wire)?,
            wire,
            declared: field.data_type().clone(),
            null: new_null_array(field.data_type(), 1),
        })
    }

    /// A column of one NULL.
    pub fn null(&self) -> ArrayRef {
        self.null.clone()
    }

    /// A column of the one value; `None` where the text is not a value of the column's type.
    pub fn read(&mut self, text: &[u8]) -> Result<Option<ArrayRef>> {
        let text = text.trim_ascii();
        if too_deep(text) {
            return Ok(None);
        }
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(text) else { return Ok(None) };
        if let Some(array) = self.read_with_arrow(text)? {
            return Ok(Some(array));
        }
        Ok(self.mend(text, &value))
    }

    fn read_with_arrow(&mut self, text: &[u8]) -> Result<Option<ArrayRef>> {
        let read = match (self.decoder.decode(text), self.decoder.decode(b"\n")) {
            (Ok(_), Ok(_)) if self.decoder.len() == 1 && !self.decoder.has_partial_record() => {
                self.decoder.flush().ok().flatten()
            }
            _ => None,
        };
        match read {
            Some(rows) => Ok(from_wire(rows.column(0), &self.declared)),
            None => {
                self.decoder = fresh(&self.wire)?;
                Ok(None)
            }
        }
    }

    /// What Flink reads and Arrow does not.
    fn mend(&self, text: &[u8], value: &serde_json::Value) -> Option<ArrayRef> {
        use serde_json::Value;
        match (&self.declared, value) {
            (DataType::Utf8, Value::Array(_) | Value::Object(_)) => {
                Some(Arc::new(StringArray::from(vec![std::str::from_utf8(text).ok()?])))
            }
            (declared, Value::String(s)) => {
                let s = s.trim_ascii().as_bytes();
                match declared {
                    DataType::Boolean => Some(Arc::new(BooleanArray::from(vec![parse_bool(s)?]))),
                    DataType::Date32 => Some(Arc::new(Date32Array::from(vec![parse_date(s)?]))),
                    DataType::Time32(TimeUnit::Millisecond) => {
                        Some(Arc::new(Time32MillisecondArray::from(vec![parse_time(s)?])))
                    }
                    DataType::Timestamp(unit, zone) => {
                        fn one<T: ArrowTimestampType>(at: i64, zone: &Option<Arc<str>>) -> ArrayRef {
                            Arc::new(PrimitiveArray::<T>::from_value(at, 1).with_timezone_opt(zone.clone()))
                        }
                        let at = parse_timestamp(s, *unit)?;
                        Some(match unit {
                            TimeUnit::Second => one::<TimestampSecondType>(at, zone),
                            TimeUnit::Millisecond => one::<TimestampMillisecondType>(at, zone),
                            TimeUnit::Microsecond => one::<TimestampMicrosecondType>(at, zone),
                            TimeUnit::Nanosecond => one::<TimestampNanosecondType>(at, zone),
                        })
                    }
                    DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                        let n: i64 = std::str::from_utf8(s).ok()?.parse().ok()?;
                        Some(match declared {
                            DataType::Int8 => Arc::new(Int8Array::from(vec![i8::try_from(n).ok()?])) as ArrayRef,
                            DataType::Int16 => Arc::new(Int16Array::from(vec![i16::try_from(n).ok()?])),
                            DataType::Int32 => Arc::new(Int32Array::from(vec![i32::try_from(n).ok()?])),
                            _ => Arc::new(Int64Array::from(vec![n])),
                        })
                    }
                    DataType::Float32 => {
                        Some(Arc::new(Float32Array::from(vec![std::str::from_utf8(s).ok()?.parse::<f32>().ok()?])))
                    }
                    DataType::Float64 => {
                        Some(Arc::new(Float64Array::from(vec![std::str::from_utf8(s).ok()?.parse::<f64>().ok()?])))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

fn fresh(wire: &FieldRef) -> Result<arrow::json::reader::Decoder> {
    Ok(ReaderBuilder::new_with_field(wire.clone()).with_coerce_primitive(true).with_batch_size(1).build_decoder()?)
}

/// The type as Arrow is asked to read it: bytes as text, since Arrow takes them for hexadecimal, and decimals as the text
/// of their numbers, to be read by our own rules.
pub(super) fn wire_type(of: &DataType) -> DataType {
    let field = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(wire_type(f.data_type())));
    match of {
        DataType::Binary | DataType::Decimal128(..) => DataType::Utf8,
        DataType::List(item) => DataType::List(field(item)),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        other => other.clone(),
    }
}

/// The way back: `None` where a text is not base64, or no decimal that the type can hold.
pub(super) fn from_wire(array: &ArrayRef, declared: &DataType) -> Option<ArrayRef> {
    if array.data_type() == declared {
        return Some(array.clone());
    }
    match declared {
        DataType::Binary => {
            let text = array.as_string_opt::<i32>()?;
            let mut builder = BinaryBuilder::with_capacity(text.len(), text.value_data().len());
            for value in text {
                match value {
                    None => builder.append_null(),
                    Some(value) => builder.append_value(parse_bytes(value.as_bytes())?),
                }
            }
            Some(Arc::new(builder.finish()))
        }
        DataType::Decimal128(precision, scale) => {
            let text = array.as_string_opt::<i32>()?;
            let mut builder = Decimal128Builder::with_capacity(text.len()).with_data_type(declared.clone());
            for value in text {
                match value {
                    None => builder.append_null(),
                    Some(value) => {
                        builder.append_value(parse_decimal(value.trim_ascii().as_bytes(), *precision, *scale)?);
                    }
                }
            }
            Some(Arc::new(builder.finish()))
        }
        DataType::List(item) => {
            let list = array.as_list_opt::<i32>()?;
            let values = from_wire(list.values(), item.data_type())?;
            let list = ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned());
            Some(Arc::new(list.ok()?))
        }
        DataType::Map(entries, sorted) => {
            let map = array.as_map_opt()?;
            let inside: ArrayRef = Arc::new(map.entries().clone());
            let inside = from_wire(&inside, entries.data_type())?;
            let inside = inside.as_struct().clone();
            let map = MapArray::try_new(entries.clone(), map.offsets().clone(), inside, map.nulls().cloned(), *sorted);
            Some(Arc::new(map.ok()?))
        }
        DataType::Struct(fields) => {
            let row = array.as_struct_opt()?;
            let columns = row.columns().iter().zip(fields).map(|(c, f)| from_wire(c, f.data_type()));
            let columns = columns.collect::<Option<Vec<_>>>()?;
            let row = StructArray::try_new_with_length(fields.clone(), columns, row.nulls().cloned(), row.len());
            Some(Arc::new(row.ok()?))
        }
        _ => None,
    }
}

/// The fields of an object and where their values stand in `text`. `None` where `text` is no object. What is between
/// them is not checked.
pub(super) fn top_level(text: &[u8]) -> Option<Vec<(String, Range<usize>)>> {
    let mut fields = Vec::new();
    let mut at = space(text, 0);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    at += 1;
    loop {
        at = space(text, at);
        while text.get(at) == Some(&b',') {
            at = space(text, at + 1);
        }
        if text.get(at) == Some(&b'}') {
            return Some(fields);
        }
        let end = skip_value(text, at)?;
        let name: String = serde_json::from_slice(&text[at..end]).ok()?;
        at = space(text, end);
        if text.get(at) != Some(&b':') {
            return None;
        }
        let from = space(text, at + 1);
        at = skip_value(text, from)?;
        fields.push((name, from..at));
    }
}

pub(crate) fn space(text: &[u8], at: usize) -> usize {
    at + text[at.min(text.len())..].iter().take_while(|c| c.is_ascii_whitespace()).count()
}

/// The end of the value that begins at `at`.
pub(crate) fn skip_value(text: &[u8], at: usize) -> Option<usize> {
    let (mut depth, mut i) = (0usize, at);
    while let Some(&c) = text.get(i) {
        match c {
            b'"' => {
                i = string_end(text, i + 1)?;
                if depth == 0 {
                    return Some(i);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return (i > at).then_some(i),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            b',' | b':' | b' ' | b'\t' if depth == 0 => return (i > at).then_some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// Behind the quote that ends the string whose text begins at `from`.
fn string_end(text: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', text.get(from..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        from = at + 2;
    }
}
