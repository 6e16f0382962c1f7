//! Rows in the text form of COPY: a line for each row, tabulators between, `\N` for NULL.
//!
//! Text and not binary, since the server then reads each value as the type of its own column: a STRING becomes a UUID,
//! an enum or JSONB, an INT a NUMERIC, without a word from us.

use arrow::array::types::*;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, TimeUnit};
use millstream_core::{Error, Result};
use millstream_formats::text::{JsonValues, write_time, write_timestamp};
use std::io::Write;

/// How the values of one column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Plain,
    /// As an array of PostgreSQL's, `{a,"b c",NULL}`.
    Array,
    /// As JSON: nested values, and arrays for a JSON column.
    Json,
}

/// The columns of a batch, ready to be written row by row.
pub struct Rows<'a>(Vec<Cells<'a>>);

enum Cells<'a> {
    Plain(&'a dyn Array),
    Array(&'a dyn Array),
    Json(&'a dyn Array, JsonValues<'a>),
}

impl<'a> Rows<'a> {
    /// `columns`: which columns of the batch, and how.
    pub fn new(rows: &'a RecordBatch, columns: impl IntoIterator<Item = (usize, Form)>) -> Result<Rows<'a>> {
        let cells = columns.into_iter().map(|(c, form)| {
            let array = rows.column(c).as_ref();
            Ok(match form {
                Form::Plain => Cells::Plain(array),
                Form::Array => Cells::Array(array),
                Form::Json => Cells::Json(array, JsonValues::new(array)?),
            })
        });
        Ok(Rows(cells.collect::<Result<_>>()?))
    }

    /// Appends the line of one row. By rows, since a line is what COPY takes.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        for (n, cells) in self.0.iter().enumerate() {
            if n > 0 {
                out.push(b'\t');
            }
            let (Cells::Plain(array) | Cells::Array(array) | Cells::Json(array, _)) = cells;
            if array.is_null(row) {
                out.extend_from_slice(b"\\N");
                continue;
            }
            match cells {
                Cells::Plain(array) => match array.data_type() {
                    DataType::Utf8 => escape(array.as_string::<i32>().value(row).as_bytes(), out),
                    DataType::Binary => {
                        // The backslash of `\x` is one of COPY's text, so it is doubled.
                        out.push(b'\\');
                        write_value(*array, row, out)?;
                    }
                    _ => write_value(*array, row, out)?,
                },
                Cells::Array(array) => {
                    let mut text = Vec::new();
                    write_array(*array, row, &mut text)?;
                    escape(&text, out);
                }
                Cells::Json(_, json) => {
                    let mut text = Vec::new();
                    json.write(row, &mut text);
                    escape(&text, out);
                }
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut done = 0;
    for (i, c) in text.iter().enumerate() {
        let escaped: &[u8] = match c {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            _ => continue,
        };
        out.extend_from_slice(&text[done..i]);
        out.extend_from_slice(escaped);
        done = i + 1;
    }
    out.extend_from_slice(&text[done..]);
}

fn write_array(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    let items = array.as_list::<i32>().value(row);
    out.push(b'{');
    let mut item = Vec::new();
    for i in 0..items.len() {
        if i > 0 {
            out.push(b',');
        }
        if items.is_null(i) {
            out.extend_from_slice(b"NULL");
            continue;
        }
        item.clear();
        write_value(items.as_ref(), i, &mut item)?;
        // Quoted always: an empty text, a brace or the word NULL would read as something else.
        out.push(b'"');
        for &c in &item {
            if matches!(c, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(c);
        }
        out.push(b'"');
    }
    out.push(b'}');
    Ok(())
}

/// The text of a value that is not NULL and not nested, as PostgreSQL reads it.
pub fn write_value(array: &dyn Array, row: usize, out: &mut Vec<u8>) -> Result<()> {
    match array.data_type() {
        DataType::Boolean => out.push(if array.as_boolean().value(row) { b't' } else { b'f' }),
        DataType::Int8 => show(out, array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => show(out, array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => show(out, array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => show(out, array.as_primitive::<Int64Type>().value(row)),
        // Debug, since that is the shortest text that reads back as the same number; NaN and inf are read as well.
        DataType::Float32 => write!(out, "{:?}", array.as_primitive::<Float32Type>().value(row)).expect("to memory"),
        DataType::Float64 => write!(out, "{:?}", array.as_primitive::<Float64Type>().value(row)).expect("to memory"),
        DataType::Decimal128(_, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            // NUMERIC reads an exponent, which spares moving the point.
            show(out, value);
            if *scale != 0 {
                write!(out, "e{}", -i32::from(*scale)).expect("to memory");
            }
        }
        DataType::Utf8 => out.extend_from_slice(array.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\x");
            for b in array.as_binary::<i32>().value(row) {
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
        }
        DataType::Date32 => write_date(i64::from(array.as_primitive::<Date32Type>().value(row)), out),
        DataType::Time32(TimeUnit::Millisecond) => {
            write_time(i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000_000, out);
        }
        DataType::Timestamp(unit, zone) => {
            let (at, per_second) = match unit {
                TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1),
                TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
                TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 1_000_000),
                // PostgreSQL keeps microseconds. Cut off, not rounded, as everywhere.
                TimeUnit::Nanosecond => {
                    (array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(1_000), 1_000_000)
                }
            };
            let unit = if *unit == TimeUnit::Nanosecond { TimeUnit::Microsecond } else { *unit };
            let days = at.div_euclid(per_second).div_euclid(86_400);
            if (YEAR_1..YEAR_10000).contains(&days) {
                write_timestamp(at, unit, zone.is_some(), b' ', out);
            } else {
                write_date(days, out);
                out.push(b' ');
                write_time((at - days * 86_400 * per_second) * (1_000_000_000 / per_second), out);
                if zone.is_some() {
                    out.push(b'Z');
                }
            }
        }
        other => return Err(Error::internal(format!("a column of Arrow type {other} cannot be sent to PostgreSQL"))),
    }
    Ok(())
}

fn show(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(out, "{value}").expect("to memory");
}

/// Days since 1970-01-01 of the first day of the years 1 and 10000: between them a date has the form that all agree on.
const YEAR_1: i64 = -719_162;
const YEAR_10000: i64 = 2_932_897;

/// Outside that span as the number of a Julian day, the one form that PostgreSQL reads at any distance.
fn write_date(days: i64, out: &mut Vec<u8>) {
    const JULIAN_1970: i64 = 2_440_588;
    if (YEAR_1..YEAR_10000).contains(&days) {
        millstream_formats::text::write_date(days, out);
    } else {
        write!(out, "J{}", days + JULIAN_1970).expect("to memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BinaryArray, Date32Array, Decimal128Array, ListArray, StringArray};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    fn line(array: impl Array + 'static, form: Form) -> String {
        let rows = RecordBatch::try_from_iter([("c", Arc::new(array) as ArrayRef)]).expect("one column");
        let mut out = Vec::new();
        let cells = Rows::new(&rows, [(0, form)]).expect("a known type");
        for row in 0..rows.num_rows() {
            cells.write(row, &mut out).expect("a known type");
        }
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_line_survives_what_a_text_may_hold() {
        let text = StringArray::from(vec![Some("a\tb\nc\\N\r"), None, Some("")]);
        assert_eq!(line(text, Form::Plain), "a\\tb\\nc\\\\N\\r\n\\N\n\n");
        assert_eq!(line(BinaryArray::from_vec(vec![&[0, 255]]), Form::Plain), "\\\\x00ff\n");
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), Some(vec![])]);
        assert_eq!(line(list.clone(), Form::Array), "{\"1\",NULL}\n{}\n");
        assert_eq!(line(list, Form::Json), "[1,null]\n[]\n");
        let decimal = Decimal128Array::from(vec![-12_345]).with_precision_and_scale(10, 2).expect("fits");
        assert_eq!(line(decimal, Form::Plain), "-12345e-2\n");
    }

    #[test]
    fn the_bounds_of_the_common_form_are_those_of_the_calendar() {
        let days = Date32Array::from(vec![YEAR_1 as i32, YEAR_10000 as i32 - 1, YEAR_10000 as i32, YEAR_1 as i32 - 1]);
        assert_eq!(line(days, Form::Plain), "0001-01-01\n9999-12-31\nJ5373485\nJ1721425\n");
    }
}
