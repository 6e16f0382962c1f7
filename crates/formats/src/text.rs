//! Values as text, both ways: what CSV, JSON, `print` and the names of partition folders have in common.
//!
//! Times are written as Flink writes them: `2013-01-01 10:15:00`, with as many digits of the second as are needed
//! and no more, and a `Z` behind those that are points in time (`TIMESTAMP_LTZ`). Read is more: a `T` between date
//! and time, a missing second, a zone.

use arrow::array::types::*;
use arrow::array::{Array, AsArray};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{DataType, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use millstream_core::{Error, Result};
use std::io::Write;

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
/// H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// The same source, civil_from_days.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// `n` digits at `at`.
#[inline]
fn digits(text: &[u8], at: usize, n: usize) -> Option<i64> {
    let mut value = 0;
    for &c in text.get(at..at + n)? {
        if !c.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(c - b'0');
    }
    Some(value)
}

/// Days since 1970-01-01 of `2013-01-31`.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    if text.len() == 10 && text[4] == b'-' && text[7] == b'-' {
        let (year, month, day) = (digits(text, 0, 4)?, digits(text, 5, 2)?, digits(text, 8, 2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let of_month = match month {
            2 => 28 + i64::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        return (1..=of_month).contains(&day).then(|| days_from_civil(year, month, day) as i32);
    }
    // Rare forms, such as a year of five digits.
    Date32Type::parse(std::str::from_utf8(text).ok()?)
}

/// Seconds and nanoseconds of `10:15`, `10:15:07` or `10:15:07.25`, and how many bytes that took.
fn parse_time_of_day(text: &[u8]) -> Option<(i64, u32, usize)> {
    let (h, m) = (digits(text, 0, 2)?, digits(text, 3, 2)?);
    if text[2] != b':' || h > 23 || m > 59 {
        return None;
    }
    if text.get(5) != Some(&b':') {
        return Some((h * 3600 + m * 60, 0, 5));
    }
    let s = digits(text, 6, 2)?;
    if s > 59 {
        return None;
    }
    let seconds = h * 3600 + m * 60 + s;
    if text.get(8) != Some(&b'.') {
        return Some((seconds, 0, 8));
    }
    let fraction = text[9..].iter().take_while(|c| c.is_ascii_digit()).count();
    if fraction == 0 || fraction > 9 {
        return None;
    }
    let nanos = digits(text, 9, fraction)? as u32 * 10u32.pow(9 - fraction as u32);
    Some((seconds, nanos, 9 + fraction))
}

/// Milliseconds since midnight of `10:15:07.25`.
pub fn parse_time(text: &[u8]) -> Option<i32> {
    match parse_time_of_day(text) {
        Some((seconds, nanos, used)) if used == text.len() => {
            Some((seconds * 1000) as i32 + (nanos / 1_000_000) as i32)
        }
        _ => Time32MillisecondType::parse(std::str::from_utf8(text).ok()?),
    }
}

/// A point in time in `unit` since 1970-01-01T00:00:00. What is finer than the unit is cut off, as in Flink. A zone
/// behind the time is respected; without one the time counts as UTC.
pub fn parse_timestamp(text: &[u8], unit: TimeUnit) -> Option<i64> {
    let (seconds, nanos) = parse_instant(text)?;
    match unit {
        TimeUnit::Second => Some(seconds),
        TimeUnit::Millisecond => seconds.checked_mul(1_000)?.checked_add(i64::from(nanos / 1_000_000)),
        TimeUnit::Microsecond => seconds.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1_000)),
        TimeUnit::Nanosecond => {
            // Through i128: near the lower end of the range the seconds alone do not fit.
            i64::try_from(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).ok()
        }
    }
}

fn parse_instant(text: &[u8]) -> Option<(i64, u32)> {
    if text.len() >= 16
        && matches!(text[10], b' ' | b'T')
        && text[4] == b'-'
        && let Some(days) = parse_date(&text[..10])
        && let Some((seconds, nanos, used)) = parse_time_of_day(&text[11..])
        && matches!(&text[11 + used..], b"" | b"Z")
    {
        return Some((i64::from(days) * 86_400 + seconds, nanos));
    }
    if text.len() == 10 {
        return Some((i64::from(parse_date(text)?) * 86_400, 0));
    }
    let at = string_to_datetime(&arrow::array::timezone::Tz::from_utc(), std::str::from_utf8(text).ok()?).ok()?;
    Some((at.timestamp(), at.timestamp_subsec_nanos()))
}

/// `UTC` as a zone, parsed once.
trait Utc {
    fn from_utc() -> Self;
}

impl Utc for arrow::array::timezone::Tz {
    fn from_utc() -> Self {
        "UTC".parse().expect("UTC is a zone")
    }
}

/// `true` or `false` in any case of letters. Flink takes everything else for false; here it is an error.
pub fn parse_bool(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// A DECIMAL of `precision` digits, `scale` of them behind the point, as a whole number of its last place. Digits beyond
/// the scale are rounded half up, as in Flink; what the type cannot hold is `None`.
///
/// Our own, since Arrow's cuts off instead of rounding, reads `e5` as zero, and counts digits in a byte.
pub fn parse_decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    const EXPONENT_MAX: i64 = 100_000;
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let mantissa_len = text.iter().position(|c| matches!(c, b'e' | b'E')).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(mantissa_len);
    let exponent: i64 = match exponent {
        [] => 0,
        [_, digits @ ..] => {
            std::str::from_utf8(digits).ok()?.parse().ok().filter(|e| (-EXPONENT_MAX..=EXPONENT_MAX).contains(e))?
        }
    };
    // Significant digits, counted from the first that is not zero, and how many stand behind the point.
    let (mut any, mut significant, mut behind_point, mut seen_point) = (false, 0i64, 0i64, false);
    for &c in mantissa {
        match c {
            b'0'..=b'9' => {
                any = true;
                significant += i64::from(significant > 0 || c != b'0');
                behind_point += i64::from(seen_point);
            }
            b'.' if !seen_point => seen_point = true,
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    // How many of the significant digits stand before the last place of the type.
    let kept = significant + exponent - behind_point + i64::from(scale);
    if significant == 0 || kept < 0 {
        return Some(0);
    }
    if kept > i64::from(precision) {
        return None;
    }
    let mut value: i128 = 0;
    let mut digits = mantissa.iter().filter(|c| c.is_ascii_digit()).skip_while(|&&c| c == b'0').map(|c| c - b'0');
    for _ in 0..kept {
        value = value * 10 + i128::from(digits.next().unwrap_or(0));
    }
    value += i128::from(digits.next().unwrap_or(0) >= 5);
    let fits = value < 10i128.checked_pow(u32::from(precision))?;
    fits.then_some(if negative { -value } else { value })
}

/// Bytes are base64 in text formats, as in Flink.
pub fn parse_bytes(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

pub fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
}

fn write_2(out: &mut Vec<u8>, n: i64) {
    out.extend_from_slice(&[b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8]);
}

pub fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        write_2(out, year / 100);
        write_2(out, year % 100);
    } else {
        let _ = write!(out, "{year:+05}");
    }
    out.push(b'-');
    write_2(out, month);
    out.push(b'-');
    write_2(out, day);
}

/// A time of day in nanoseconds, with as many digits of the second as it needs.
pub fn write_time(nanos: i64, out: &mut Vec<u8>) {
    let (seconds, mut fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    write_2(out, seconds / 3600);
    out.push(b':');
    write_2(out, seconds / 60 % 60);
    out.push(b':');
    write_2(out, seconds % 60);
    if fraction != 0 {
        out.push(b'.');
        let mut unit = 100_000_000;
        while fraction != 0 {
            out.push(b'0' + (fraction / unit) as u8);
            fraction %= unit;
            unit /= 10;
        }
    }
}

/// A point in time in `unit`; `utc` puts a `Z` behind it; `between` stands between date and time.
pub fn write_timestamp(at: i64, unit: TimeUnit, utc: bool, between: u8, out: &mut Vec<u8>) {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    let (seconds, fraction) = (at.div_euclid(per_second), at.rem_euclid(per_second));
    write_date(seconds.div_euclid(86_400), out);
    out.push(between);
    write_time(seconds.rem_euclid(86_400) * 1_000_000_000 + fraction * (1_000_000_000 / per_second), out);
    if utc {
        out.push(b'Z');
    }
}

/// How a column's values are written. Made once for a batch; what type it is, is asked once for a column and then
/// by a jump for each value, which costs little beside the formatting itself.
pub(crate) struct Column<'a> {
    nulls: Option<&'a arrow::buffer::NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Bool(&'a arrow::array::BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Text(&'a arrow::array::StringArray),
    Bytes(&'a arrow::array::BinaryArray),
    Decimal(&'a [i128], i8),
    Date(&'a [i32]),
    Time(&'a [i32]),
    Timestamp(&'a [i64], TimeUnit, bool),
    List(&'a [i32], Box<Column<'a>>),
    Map(&'a [i32], Box<Column<'a>>, Box<Column<'a>>),
    Row(Vec<(String, Column<'a>)>),
}

/// What encloses a nested value, and how what stands in it is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As JSON; the flag chooses ISO-8601 times.
    Json { iso_8601: bool },
    /// As Flink prints a row: nothing quoted, `[a, b]`, `{k=v}`, `+I[a, b]`.
    Print,
}

impl<'a> Column<'a> {
    /// Fails for a type that SQL cannot declare.
    pub fn new(array: &'a dyn Array) -> Result<Column<'a>> {
        let values = match array.data_type() {
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int8 => Values::I8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Values::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Values::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Values::I64(array.as_primitive::<Int64Type>().values()),
            DataType::Float32 => Values::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Values::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => Values::Text(array.as_string()),
            DataType::Binary => Values::Bytes(array.as_binary()),
            DataType::Decimal128(_, scale) => Values::Decimal(array.as_primitive::<Decimal128Type>().values(), *scale),
            DataType::Date32 => Values::Date(array.as_primitive::<Date32Type>().values()),
            DataType::Time32(TimeUnit::Millisecond) => {
                Values::Time(array.as_primitive::<Time32MillisecondType>().values())
            }
            DataType::Timestamp(unit, zone) => {
                let values: &[i64] = match unit {
                    TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                    TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
                    TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
                    TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
                };
                Values::Timestamp(values, *unit, zone.is_some())
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List(list.value_offsets(), Box::new(Column::new(list.values().as_ref())?))
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Values::Map(
                    map.value_offsets(),
                    Box::new(Column::new(map.keys().as_ref())?),
                    Box::new(Column::new(map.values().as_ref())?),
                )
            }
            DataType::Struct(fields) => {
                let row = array.as_struct();
                let columns = fields.iter().zip(row.columns());
                Values::Row(
                    columns.map(|(f, c)| Ok((f.name().clone(), Column::new(c.as_ref())?))).collect::<Result<_>>()?,
                )
            }
            other => return Err(Error::internal(format!("a column of Arrow type {other} cannot be written as text"))),
        };
        Ok(Column { nulls: array.nulls(), values })
    }

    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|n| n.is_null(row))
    }

    /// Whether the text of this column's values may need quoting.
    pub fn is_free_text(&self) -> bool {
        matches!(self.values, Values::Text(_) | Values::List(..) | Values::Map(..) | Values::Row(_))
    }

    /// Writes the bare text of a value that is not NULL; nested values in `style`.
    pub fn write(&self, row: usize, style: Style, out: &mut Vec<u8>) {
        let between = if style == (Style::Json { iso_8601: true }) { b'T' } else { b' ' };
        match &self.values {
            Values::Bool(v) => out.extend_from_slice(if v.value(row) { b"true" } else { b"false" }),
            Values::I8(v) => write_int(i64::from(v[row]), out),
            Values::I16(v) => write_int(i64::from(v[row]), out),
            Values::I32(v) => write_int(i64::from(v[row]), out),
            Values::I64(v) => write_int(v[row], out),
            Values::F32(v) => write_float(f64::from(v[row]), format_args!("{:?}", v[row]), out),
            Values::F64(v) => write_float(v[row], format_args!("{:?}", v[row]), out),
            Values::Text(v) => out.extend_from_slice(v.value(row).as_bytes()),
            Values::Bytes(v) => write_bytes(v.value(row), out),
            Values::Decimal(v, scale) => write_decimal(v[row], *scale, out),
            Values::Date(v) => write_date(i64::from(v[row]), out),
            Values::Time(v) => write_time(i64::from(v[row]) * 1_000_000, out),
            Values::Timestamp(v, unit, utc) => write_timestamp(v[row], *unit, *utc, between, out),
            Values::List(offsets, items) => {
                out.push(b'[');
                for (n, i) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    separate(n, style, out);
                    items.write_inside(i, style, out);
                }
                out.push(b']');
            }
            Values::Map(offsets, keys, values) => {
                out.push(b'{');
                for (n, i) in (offsets[row] as usize..offsets[row + 1] as usize).enumerate() {
                    separate(n, style, out);
                    match style {
                        Style::Print => {
                            keys.write_inside(i, style, out);
                            out.push(b'=');
                        }
                        Style::Json { .. } => {
                            let mut key = Vec::new();
                            keys.write(i, style, &mut key);
                            write_json_string(&key, out);
                            out.push(b':');
                        }
                    }
                    values.write_inside(i, style, out);
                }
                out.push(b'}');
            }
            Values::Row(fields) => {
                out.extend_from_slice(if style == Style::Print { b"+I[" } else { b"{" });
                for (n, (name, field)) in fields.iter().enumerate() {
                    separate(n, style, out);
                    if style != Style::Print {
                        write_json_string(name.as_bytes(), out);
                        out.push(b':');
                    }
                    field.write_inside(row, style, out);
                }
                out.push(if style == Style::Print { b']' } else { b'}' });
            }
        }
    }

    /// Writes a value that stands inside another one, or as a field of a JSON object: NULL as `null`, and in JSON
    /// everything that is no number, truth value or container as a string.
    pub fn write_inside(&self, row: usize, style: Style, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        if style == Style::Print {
            return self.write(row, style, out);
        }
        match &self.values {
            Values::Text(v) => write_json_string(v.value(row).as_bytes(), out),
            Values::Bytes(_) | Values::Date(_) | Values::Time(_) | Values::Timestamp(..) => {
                // None of these holds a character that JSON would escape.
                out.push(b'"');
                self.write(row, style, out);
                out.push(b'"');
            }
            // JSON has no such numbers; as text they read back.
            Values::F32(v) if !v[row].is_finite() => self.write_quoted(row, style, out),
            Values::F64(v) if !v[row].is_finite() => self.write_quoted(row, style, out),
            _ => self.write(row, style, out),
        }
    }

    fn write_quoted(&self, row: usize, style: Style, out: &mut Vec<u8>) {
        out.push(b'"');
        self.write(row, style, out);
        out.push(b'"');
    }
}

fn separate(n: usize, style: Style, out: &mut Vec<u8>) {
    if n > 0 {
        out.extend_from_slice(if style == Style::Print { b", " } else { b"," });
    }
}

fn write_int(n: i64, out: &mut Vec<u8>) {
    // Digits from the back into a small buffer: `write!` costs several times as much for the commonest type.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if n < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_float(value: f64, shown: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else {
        let _ = out.write_fmt(shown);
    }
}

fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let scale = scale.max(0) as usize;
    let digits = format!("{:0width$}", value.unsigned_abs(), width = scale + 1);
    if value < 0 {
        out.push(b'-');
    }
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    out.extend_from_slice(whole.as_bytes());
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    }
}

pub(crate) fn write_json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut done = 0;
    for (i, &c) in text.iter().enumerate() {
        let escaped: &[u8] = match c {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(&text[done..i]);
        if escaped.is_empty() {
            let _ = write!(out, "\\u{c:04x}");
        } else {
            out.extend_from_slice(escaped);
        }
        done = i + 1;
    }
    out.extend_from_slice(&text[done..]);
    out.push(b'"');
}

/// Columns of a batch as Flink prints them, one call for a row: `a, 1, null`.
pub struct Printer<'a>(Vec<Column<'a>>);

impl<'a> Printer<'a> {
    pub fn new(rows: &'a arrow::array::RecordBatch) -> Result<Printer<'a>> {
        rows.columns().iter().map(|c| Column::new(c.as_ref())).collect::<Result<Vec<_>>>().map(Printer)
    }

    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        for (n, column) in self.0.iter().enumerate() {
            separate(n, Style::Print, out);
            column.write_inside(row, Style::Print, out);
        }
    }

    /// The bare text of one value; `None` for NULL.
    pub fn value(&self, column: usize, row: usize) -> Option<Vec<u8>> {
        let column = &self.0[column];
        (!column.is_null(row)).then(|| {
            let mut out = Vec::new();
            column.write(row, Style::Print, &mut out);
            out
        })
    }
}

/// The values of one column as JSON.
pub struct JsonValues<'a>(Column<'a>);

impl<'a> JsonValues<'a> {
    pub fn new(array: &'a dyn Array) -> Result<JsonValues<'a>> {
        Column::new(array).map(JsonValues)
    }

    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        self.0.write_inside(row, Style::Json { iso_8601: false }, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(at: i64, unit: TimeUnit) -> String {
        let mut out = Vec::new();
        write_timestamp(at, unit, false, b' ', &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_time_is_written_with_the_digits_it_needs() {
        assert_eq!(timestamp(1_357_035_300_000, TimeUnit::Millisecond), "2013-01-01 10:15:00");
        assert_eq!(timestamp(1_357_035_300_120, TimeUnit::Millisecond), "2013-01-01 10:15:00.12");
        assert_eq!(timestamp(-1, TimeUnit::Nanosecond), "1969-12-31 23:59:59.999999999");
    }

    #[test]
    fn times_are_read_in_all_their_forms() {
        let at = Some(1_357_035_300_000);
        for text in [
            "2013-01-01 10:15:00",
            "2013-01-01T10:15:00Z",
            "2013-01-01 10:15",
            "2013-01-01 10:15:00.000",
            "2013-01-01T12:15:00+02:00",
        ] {
            assert_eq!(parse_timestamp(text.as_bytes(), TimeUnit::Millisecond), at, "{text}");
        }
        for text in ["", "x", "2013-02-30 00:00:00", "2013-01-01 24:00:00", "2013-13-01", "2013-01-01 10:15:00x"] {
            assert_eq!(parse_timestamp(text.as_bytes(), TimeUnit::Millisecond), None, "{text}");
        }
        assert_eq!(parse_date(b"2000-02-29"), Some(11_016));
        assert_eq!(parse_time(b"10:15:07.25"), Some(36_907_250));
    }

    #[test]
    fn decimals_are_rounded_half_up_and_never_overflow() {
        let parse = |text: &str| parse_decimal(text.as_bytes(), 5, 2);
        for (text, value) in [
            ("1", 100),
            ("-1.5", -150),
            ("+.5", 50),
            ("5.", 500),
            ("1.234", 123),
            ("1.235", 124),
            ("-1.235", -124),
            ("0.004", 0),
            ("0.005", 1),
            ("0.0049999", 0),
            ("999.99", 99_999),
            ("000000000000000999.99", 99_999),
            ("1e2", 10_000),
            ("12345e-2", 12_345),
            ("0e99", 0),
            ("1e-99999", 0),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        let long = "1".repeat(300);
        for text in ["", "-", ".", "e5", "1e", "1.2.3", "999.995", "1000", "1e3", "1e70000", "1e999999999", " 1", &long]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        let most = "9".repeat(38);
        assert_eq!(parse_decimal(most.as_bytes(), 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(parse_decimal(format!("{most}.5").as_bytes(), 38, 0), None);
    }

    proptest::proptest! {
        #[test]
        fn every_decimal_reads_back(value in -(10i128.pow(38) - 1)..10i128.pow(38), scale in 0i8..38) {
            let mut text = Vec::new();
            write_decimal(value, scale, &mut text);
            proptest::prop_assert_eq!(parse_decimal(&text, 38, scale), Some(value));
        }

        #[test]
        fn every_time_reads_back(at in -62_135_596_800_000i64..253_402_300_800_000) {
            let text = timestamp(at, TimeUnit::Millisecond);
            proptest::prop_assert_eq!(parse_timestamp(text.as_bytes(), TimeUnit::Millisecond), Some(at));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in proptest::collection::vec(proptest::num::u8::ANY, 0..40)) {
            parse_timestamp(&text, TimeUnit::Nanosecond);
            parse_date(&text);
            parse_time(&text);
        }
    }
}
