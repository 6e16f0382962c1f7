//! Reads one column of cells into an array: one loop for each type, no question asked inside it but that of NULL.

use crate::json::CellReader;
use crate::text::{parse_bool, parse_bytes, parse_date, parse_decimal, parse_time, parse_timestamp};
use arrow::array::types::*;
use arrow::array::*;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Field, TimeUnit};
use millstream_core::{Error, Result};
use std::sync::Arc;

/// The cells of the records that have the right number of fields.
pub(super) struct Cells<'a> {
    pub data: &'a [u8],
    /// `data` as text, where all of it is UTF-8: checked once here, not once for each string.
    pub text: Option<&'a str>,
    /// From and to of each cell in `data`, row after row.
    pub spans: &'a [(u32, u32)],
    pub rows: usize,
    /// Cells of a row.
    pub fields: usize,
    pub null_literal: Option<&'a [u8]>,
}

impl<'a> Cells<'a> {
    #[inline]
    pub fn get(&self, row: usize, position: usize) -> &'a [u8] {
        let (from, to) = self.spans[row * self.fields + position];
        &self.data[from as usize..to as usize]
    }

    #[inline]
    pub fn is_null(&self, cell: &[u8], is_text: bool) -> bool {
        (!is_text && (cell.is_empty() || cell.trim_ascii().is_empty())) || self.null_literal.is_some_and(|n| n == cell)
    }
}

pub(super) fn is_text(of: &DataType) -> bool {
    matches!(of, DataType::Utf8)
}

pub(super) struct ColumnReader {
    data_type: DataType,
    /// For arrays, maps and rows, which stand as JSON in their field.
    nested: Option<CellReader>,
}

impl ColumnReader {
    pub fn new(field: &Field) -> Result<ColumnReader> {
        let nested = match field.data_type() {
            DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => Some(CellReader::new(field)?),
            _ => None,
        };
        Ok(ColumnReader { data_type: field.data_type().clone(), nested })
    }

    /// Reads the cells at `position` of every record. What cannot be read is NULL in the array and is told to `bad`
    /// by its row, in order.
    pub fn read(&mut self, cells: &Cells, position: usize, bad: impl FnMut(usize)) -> Result<ArrayRef> {
        fn numbers<T: ArrowPrimitiveType + Parser>(c: &Cells, p: usize, bad: impl FnMut(usize)) -> ArrayRef {
            let parse = |cell: &[u8]| T::parse(std::str::from_utf8(cell).ok()?);
            Arc::new(primitive::<T>(c, p, parse, bad))
        }
        let (c, p) = (cells, position);
        Ok(match &self.data_type {
            DataType::Int8 => {
                Arc::new(primitive::<Int8Type>(c, p, |t| integer(t).and_then(|v| v.try_into().ok()), bad))
            }
            DataType::Int16 => {
                Arc::new(primitive::<Int16Type>(c, p, |t| integer(t).and_then(|v| v.try_into().ok()), bad))
            }
            DataType::Int32 => {
                Arc::new(primitive::<Int32Type>(c, p, |t| integer(t).and_then(|v| v.try_into().ok()), bad))
            }
            DataType::Int64 => Arc::new(primitive::<Int64Type>(c, p, integer, bad)),
            DataType::Float32 => numbers::<Float32Type>(c, p, bad),
            DataType::Float64 => numbers::<Float64Type>(c, p, bad),
            DataType::Date32 => Arc::new(primitive::<Date32Type>(c, p, parse_date, bad)),
            DataType::Time32(TimeUnit::Millisecond) => {
                Arc::new(primitive::<Time32MillisecondType>(c, p, parse_time, bad))
            }
            DataType::Timestamp(unit, zone) => {
                fn times<T: ArrowTimestampType>(
                    c: &Cells,
                    p: usize,
                    zone: Option<Arc<str>>,
                    bad: impl FnMut(usize),
                ) -> ArrayRef {
                    let array = primitive::<T>(c, p, |text| parse_timestamp(text, T::UNIT), bad);
                    Arc::new(array.with_timezone_opt(zone))
                }
                match unit {
                    TimeUnit::Second => times::<TimestampSecondType>(c, p, zone.clone(), bad),
                    TimeUnit::Millisecond => times::<TimestampMillisecondType>(c, p, zone.clone(), bad),
                    TimeUnit::Microsecond => times::<TimestampMicrosecondType>(c, p, zone.clone(), bad),
                    TimeUnit::Nanosecond => times::<TimestampNanosecondType>(c, p, zone.clone(), bad),
                }
            }
            DataType::Decimal128(precision, scale) => {
                let parse = |cell: &[u8]| parse_decimal(cell, *precision, *scale);
                let array = primitive::<Decimal128Type>(c, p, parse, bad);
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            DataType::Boolean => Arc::new(booleans(c, p, bad)),
            DataType::Utf8 => strings(c, p, bad),
            DataType::Binary => Arc::new(bytes(c, p, bad)),
            DataType::List(_) | DataType::Map(..) | DataType::Struct(_) => match &mut self.nested {
                Some(reader) => nested(reader, c, p, bad)?,
                None => return Err(Error::internal("a nested column has no reader")),
            },
            other => return Err(Error::internal(format!("CSV cannot hold the Arrow type {other}"))),
        })
    }
}

/// A whole number, with an optional sign.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 19 {
        // Leading zeros may still make a number of it.
        return std::str::from_utf8(text).ok()?.parse().ok();
    }
    let mut value: u64 = 0;
    for &c in digits {
        let digit = c.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// The loop over rows is the work itself: every cell is text and has to be read on its own.
fn primitive<T: ArrowPrimitiveType>(
    cells: &Cells,
    position: usize,
    parse: impl Fn(&[u8]) -> Option<T::Native>,
    mut bad: impl FnMut(usize),
) -> PrimitiveArray<T> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(cells.rows);
    for row in 0..cells.rows {
        let cell = cells.get(row, position);
        if cells.is_null(cell, false) {
            builder.append_null();
            continue;
        }
        match parse(cell.trim_ascii()) {
            Some(value) => builder.append_value(value),
            None => {
                builder.append_null();
                bad(row);
            }
        }
    }
    builder.finish()
}

fn booleans(cells: &Cells, position: usize, mut bad: impl FnMut(usize)) -> BooleanArray {
    let mut builder = BooleanBuilder::with_capacity(cells.rows);
    for row in 0..cells.rows {
        let cell = cells.get(row, position);
        let value = parse_bool(cell.trim_ascii());
        if value.is_none() && !cells.is_null(cell, false) {
            bad(row);
        }
        builder.append_option(value);
    }
    builder.finish()
}

fn strings(cells: &Cells, position: usize, mut bad: impl FnMut(usize)) -> ArrayRef {
    let rows = 0..cells.rows;
    let total: usize = rows.clone().map(|row| cells.get(row, position).len()).sum();
    let mut builder = StringBuilder::with_capacity(cells.rows, total);
    for row in rows {
        let cell = cells.get(row, position);
        if cells.is_null(cell, true) {
            builder.append_null();
            continue;
        }
        let (from, to) = cells.spans[row * cells.fields + position];
        let text = match cells.text {
            Some(text) => text.get(from as usize..to as usize),
            None => std::str::from_utf8(cell).ok(),
        };
        if text.is_none() {
            bad(row);
        }
        builder.append_option(text);
    }
    Arc::new(builder.finish())
}

fn bytes(cells: &Cells, position: usize, mut bad: impl FnMut(usize)) -> BinaryArray {
    let mut builder = BinaryBuilder::new();
    for row in 0..cells.rows {
        let cell = cells.get(row, position);
        let value = if cells.is_null(cell, false) { None } else { parse_bytes(cell.trim_ascii()) };
        if value.is_none() && !cells.is_null(cell, false) {
            bad(row);
        }
        builder.append_option(value);
    }
    builder.finish()
}

/// Nested values are read one by one: there is no common run of bytes to read in columns.
fn nested(reader: &mut CellReader, cells: &Cells, position: usize, mut bad: impl FnMut(usize)) -> Result<ArrayRef> {
    let mut values = Vec::with_capacity(cells.rows);
    for row in 0..cells.rows {
        let cell = cells.get(row, position);
        if cells.is_null(cell, false) {
            values.push(reader.null());
            continue;
        }
        values.push(reader.read(cell)?.unwrap_or_else(|| {
            bad(row);
            reader.null()
        }));
    }
    if values.is_empty() {
        return Ok(reader.null().slice(0, 0));
    }
    let refs: Vec<&dyn Array> = values.iter().map(|v| v.as_ref()).collect();
    Ok(arrow::compute::concat(&refs)?)
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn whole_numbers_read_to_their_limits() {
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"9223372036854775808"), None);
        assert_eq!(integer(b"00000000000000000000000012"), Some(12));
        assert_eq!(integer(b"+5"), Some(5));
        for text in [&b""[..], b"-", b"1.5", b"1e3", b"0x1", b"12 "] {
            assert_eq!(integer(text), None);
        }
    }
}
