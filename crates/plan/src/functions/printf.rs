//! PRINTF: Java's format strings, as far as columns need them: `%[flags][width][.precision]conversion`.

use super::kernel::{Call, Memo, Text, VALUE_BYTES_MAX};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err};
use std::fmt::Write;

enum Piece {
    Literal(String),
    /// Which argument, and how it is written.
    Value(usize, Spec),
}

#[derive(Clone, Default)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    group: bool,
    width: usize,
    precision: Option<usize>,
    conversion: char,
}

pub(super) fn printf(c: &Call) -> Result<ArrayRef> {
    let format = c.text(0)?;
    let mut pieces = Memo::new();
    let columns = (1..c.args.len()).map(|i| Column::of(c, i)).collect::<Result<Vec<_>>>()?;
    c.make_text(|row, out| {
        let Some(format) = format.at(row) else { return Ok(None) };
        for piece in pieces.get(format, parse)? {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Value(i, spec) => match columns.get(*i) {
                    Some(column) => column.write(row, spec, out)?,
                    None => return exec_err!("PRINTF: `{format}` wants more than {} arguments", columns.len()),
                },
            }
        }
        Ok(Some(()))
    })
}

fn parse(format: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let (mut rest, mut next) = (format.chars().peekable(), 0);
    while let Some(ch) = rest.next() {
        if ch != '%' {
            literal.push(ch);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = rest.next_if(|c| "-0+,".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                _ => spec.group = true,
            }
        }
        let number = |rest: &mut std::iter::Peekable<std::str::Chars>| {
            let mut n = None;
            while let Some(digit) = rest.next_if(char::is_ascii_digit).and_then(|d| d.to_digit(10)) {
                n = Some((n.unwrap_or(0usize) * 10 + digit as usize).min(VALUE_BYTES_MAX));
            }
            n
        };
        spec.width = number(&mut rest).unwrap_or(0);
        let mut index = None;
        if rest.next_if_eq(&'$').is_some() {
            index = spec.width.checked_sub(1);
            spec.width = number(&mut rest).unwrap_or(0);
        }
        if rest.next_if_eq(&'.').is_some() {
            spec.precision = number(&mut rest);
        }
        match rest.next() {
            Some('%') => literal.push('%'),
            Some('n') => literal.push('\n'),
            Some(conversion @ ('s' | 'S' | 'd' | 'f' | 'e' | 'x' | 'X' | 'o' | 'b' | 'c')) => {
                spec.conversion = conversion;
                if spec.width > 10_000 || spec.precision.is_some_and(|p| p > 1_000) {
                    return exec_err!("PRINTF: the width or precision in `{format}` is too large");
                }
                if !literal.is_empty() {
                    pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Value(index.unwrap_or(next), spec));
                next += usize::from(index.is_none());
            }
            Some(other) => {
                return exec_err!(
                    "PRINTF: `%{other}` in `{format}` is unknown; there are %s %d %f %e %x %o %b %c %n %%"
                );
            }
            None => return exec_err!("PRINTF: `{format}` ends within a conversion"),
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

struct Column {
    text: ArrayRef,
    long: Option<Int64Array>,
    double: Option<Float64Array>,
    constant: bool,
    data_type: DataType,
}

impl Column {
    fn of(c: &Call, i: usize) -> Result<Column> {
        let array = &c.args[i];
        let data_type = array.data_type().clone();
        let long = match data_type.is_integer() {
            true => arrow::compute::cast(array, &DataType::Int64)?.as_any().downcast_ref::<Int64Array>().cloned(),
            false => None,
        };
        let double = match data_type.is_numeric() {
            true => arrow::compute::cast(array, &DataType::Float64)?.as_any().downcast_ref::<Float64Array>().cloned(),
            false => None,
        };
        Ok(Column { text: super::cast::to_text(array, c.zone)?, long, double, constant: c.constant[i], data_type })
    }

    fn write(&self, row: usize, spec: &Spec, out: &mut String) -> Result<()> {
        let row = if self.constant { 0 } else { row };
        let text = Text::of(&self.text).and_then(|t| t.at(row));
        let mut body = String::new();
        let (mut negative, mut numeric) = (false, false);
        match (spec.conversion, text) {
            ('b', value) => {
                body.push_str(if value.is_none_or(|v| v.eq_ignore_ascii_case("false")) { "false" } else { "true" });
            }
            (_, None) => body.push_str("null"),
            ('s' | 'S' | 'c', Some(text)) => {
                let text = match spec.precision {
                    Some(n) => &text[..super::text::byte_at(text, n).min(text.len())],
                    None => text,
                };
                body.push_str(text);
                if spec.conversion == 'S' {
                    body = body.to_uppercase();
                }
            }
            (conversion @ ('d' | 'x' | 'X' | 'o'), Some(_)) => {
                let Some(long) = &self.long else { return self.mismatch(conversion) };
                let value = long.value(row);
                numeric = true;
                let done = match conversion {
                    'd' => {
                        negative = value < 0;
                        write!(body, "{}", value.unsigned_abs())
                    }
                    'x' => write!(body, "{value:x}"),
                    'X' => write!(body, "{value:X}"),
                    _ => write!(body, "{value:o}"),
                };
                done.map_err(|e| datafusion_common::DataFusionError::Execution(e.to_string()))?;
            }
            (conversion, Some(_)) => {
                let Some(double) = &self.double else { return self.mismatch(conversion) };
                let value = double.value(row);
                negative = value < 0.0;
                numeric = value.is_finite();
                let digits = spec.precision.unwrap_or(6);
                body = match (conversion, numeric) {
                    (_, false) => {
                        if value.is_nan() {
                            "NaN".to_string()
                        } else {
                            "Infinity".to_string()
                        }
                    }
                    ('f', true) => super::math::half_up_text(value.abs(), digits),
                    _ => {
                        let text = format!("{:.digits$e}", value.abs());
                        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                        let (sign, exponent) = match exponent.strip_prefix('-') {
                            Some(exponent) => ('-', exponent),
                            None => ('+', exponent),
                        };
                        format!("{mantissa}e{sign}{exponent:0>2}")
                    }
                };
            }
        }
        if spec.group && numeric {
            let whole = body.find('.').unwrap_or(body.len());
            for at in (1..whole).rev().filter(|at| (whole - at).is_multiple_of(3)) {
                body.insert(at, ',');
            }
        }
        let sign = if negative {
            "-"
        } else if spec.plus && numeric {
            "+"
        } else {
            ""
        };
        let missing = spec.width.saturating_sub(body.chars().count() + sign.len());
        let padding = |out: &mut String, ch: char| out.extend(std::iter::repeat_n(ch, missing));
        if spec.left {
            out.push_str(sign);
            out.push_str(&body);
            padding(out, ' ');
        } else if spec.zero && numeric {
            out.push_str(sign);
            padding(out, '0');
            out.push_str(&body);
        } else {
            padding(out, ' ');
            out.push_str(sign);
            out.push_str(&body);
        }
        Ok(())
    }

    fn mismatch(&self, conversion: char) -> Result<()> {
        exec_err!("PRINTF: %{conversion} cannot write a {}; use %s, or CAST the argument", self.data_type)
    }
}
