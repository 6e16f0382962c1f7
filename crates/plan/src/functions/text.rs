//! Text: pieces of it, places in it, padding, joining.
//!
//! Positions and lengths count characters (Unicode scalar values) from 1, as in Flink.

use super::kernel::{Call, Function, Kind, some};
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion_common::Result;

pub(super) fn functions() -> Vec<Function> {
    use DataType::{Boolean, Int32, Utf8};
    use Kind::{Any, Bytes, Long, Text};
    vec![
        Function::new("char_length", &[Text], Int32, char_length).alias("character_length").alias("length"),
        Function::new("position", &[Text, Text], Int32, position),
        Function::new("instr", &[Text, Text, Long, Long], Int32, instr).optional(2).alias("strpos"),
        Function::new("locate", &[Text, Text, Long], Int32, locate).optional(1),
        Function::new("count_char", &[Text, Text], DataType::Int64, count_char),
        Function::new("repeat", &[Text, Long], Utf8, repeat),
        Function::new("overlay", &[Text, Text, Long, Long], Utf8, overlay).optional(1),
        Function::new("substring", &[Text, Long, Long], Utf8, substring).optional(1).alias("substr"),
        Function::new("left", &[Text, Long], Utf8, left),
        Function::new("right", &[Text, Long], Utf8, right),
        Function::new("concat", &[], Utf8, concat).rest(Any),
        Function::new("concat_ws", &[Text], Utf8, concat_ws).rest(Any),
        Function::new("lpad", &[Text, Long, Text], Utf8, |c| pad(c, true)).optional(1),
        Function::new("rpad", &[Text, Long, Text], Utf8, |c| pad(c, false)).optional(1),
        Function::new("chr", &[Long], Utf8, chr),
        Function::new("elt", &[Long, Text], Utf8, elt).rest(Text),
        Function::new("startswith", &[Bytes, Bytes], Boolean, |c| ends(c, <[u8]>::starts_with)).alias("starts_with"),
        Function::new("endswith", &[Bytes, Bytes], Boolean, |c| ends(c, <[u8]>::ends_with)).alias("ends_with"),
        Function::new("is_alpha", &[Any], Boolean, |c| is(c, |s| s.chars().all(char::is_alphabetic), |_| false)),
        Function::new("is_digit", &[Any], Boolean, |c| {
            is(c, |s| s.chars().all(|x| x.is_numeric() && x.is_alphanumeric()), DataType::is_integer)
        }),
        Function::new("is_decimal", &[Any], Boolean, |c| is(c, is_number, DataType::is_numeric)),
        Function::new("printf", &[Text], Utf8, super::printf::printf).rest(Any),
    ]
}

fn count_char(c: &Call) -> Result<ArrayRef> {
    let (text, part) = (c.text(0)?, c.text(1)?);
    c.make::<Int64Type>(|row| Ok(Some(occurrences(some!(text.at(row)), some!(part.at(row))))))
}

/// How often a part stands in a text, without overlaps; the empty one never does.
fn occurrences(text: &str, part: &str) -> i64 {
    match part.as_bytes() {
        [] => 0,
        // Sums of one byte each, so that the compiler counts many side by side.
        [one] => {
            let some = |bytes: &[u8]| bytes.iter().map(|b| u8::from(b == one)).sum::<u8>();
            text.as_bytes().chunks(u8::MAX as usize).map(|bytes| i64::from(some(bytes))).sum()
        }
        _ => text.matches(part).count() as i64,
    }
}

/// The byte at which character `n` (from 0) starts; the end of the text where there are fewer.
pub(super) fn byte_at(text: &str, n: usize) -> usize {
    if n <= text.len() && text.is_ascii() {
        return n;
    }
    text.char_indices().nth(n).map_or(text.len(), |(at, _)| at)
}

fn count(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// The position (from 1) of `seek` in `text`, looked for from position `from`; 0 if it is not there.
fn find(text: &str, seek: &str, from: i64) -> i32 {
    let Ok(from) = usize::try_from(from.max(1) - 1) else { return 0 };
    if from > count(text) {
        return 0;
    }
    let start = byte_at(text, from);
    match text[start..].find(seek) {
        Some(at) => count(&text[..start + at]) as i32 + 1,
        None => 0,
    }
}

fn char_length(c: &Call) -> Result<ArrayRef> {
    let text = c.text(0)?;
    c.make::<Int32Type>(|row| Ok(text.at(row).map(|s| count(s) as i32)))
}

fn position(c: &Call) -> Result<ArrayRef> {
    let (seek, text) = (c.text(0)?, c.text(1)?);
    c.make::<Int32Type>(|row| Ok(Some(find(some!(text.at(row)), some!(seek.at(row)), 1))))
}

fn locate(c: &Call) -> Result<ArrayRef> {
    let (seek, text, from) = (c.text(0)?, c.text(1)?, c.optional_longs(2)?);
    c.make::<Int32Type>(|row| {
        let from = match &from {
            Some(from) => some!(from.at(row)),
            None => 1,
        };
        Ok(Some(if from < 1 { 0 } else { find(some!(text.at(row)), some!(seek.at(row)), from) }))
    })
}

/// INSTR(text, seek[, start[, nth]]): a negative start counts and looks from the end.
fn instr(c: &Call) -> Result<ArrayRef> {
    let (text, seek) = (c.text(0)?, c.text(1)?);
    let (from, nth) = (c.optional_longs(2)?, c.optional_longs(3)?);
    c.make::<Int32Type>(|row| {
        let (text, seek) = (some!(text.at(row)), some!(seek.at(row)));
        let from = match &from {
            Some(from) => some!(from.at(row)),
            None => 1,
        };
        let nth = match &nth {
            Some(nth) => some!(nth.at(row)),
            None => 1,
        };
        if nth <= 0 {
            return datafusion_common::exec_err!("INSTR: the occurrence must be 1 or more, not {nth}");
        }
        Ok(Some(match from {
            0 => 0,
            1.. => find_nth(text, seek, from, nth),
            _ => {
                let reverse = |s: &str| s.chars().rev().collect::<String>();
                match find_nth(&reverse(text), &reverse(seek), from.saturating_neg(), nth) {
                    0 => 0,
                    at => count(text) as i32 + 2 - at - count(seek) as i32,
                }
            }
        }))
    })
}

fn find_nth(text: &str, seek: &str, from: i64, nth: i64) -> i32 {
    let mut at = 0;
    let mut from = from;
    for _ in 0..nth {
        at = find(text, seek, from);
        if at == 0 {
            return 0;
        }
        from = i64::from(at) + 1;
    }
    at
}

fn repeat(c: &Call) -> Result<ArrayRef> {
    let (text, times) = (c.text(0)?, c.longs(1)?);
    c.make_text(|row, out| {
        let text = some!(text.at(row));
        let times = usize::try_from(some!(times.at(row))).unwrap_or(0);
        c.check_value(text.len().saturating_mul(times))?;
        for _ in 0..if text.is_empty() { 0 } else { times } {
            out.push_str(text);
        }
        Ok(Some(()))
    })
}

/// OVERLAY(text PLACING new FROM start [FOR length]).
fn overlay(c: &Call) -> Result<ArrayRef> {
    let (text, new, start, length) = (c.text(0)?, c.text(1)?, c.longs(2)?, c.optional_longs(3)?);
    c.make_text(|row, out| {
        let (text, new, start) = (some!(text.at(row)), some!(new.at(row)), some!(start.at(row)));
        let length = match &length {
            Some(length) => some!(length.at(row)),
            None => count(new) as i64,
        };
        let Some(before) = usize::try_from(start).ok().filter(|s| *s >= 1 && *s <= count(text)) else {
            out.push_str(text);
            return Ok(Some(()));
        };
        out.push_str(&text[..byte_at(text, before - 1)]);
        out.push_str(new);
        if length > 0 {
            out.push_str(&text[byte_at(text, (before - 1).saturating_add(length as usize))..]);
        }
        Ok(Some(()))
    })
}

/// A start of 0 means 1, a negative one counts from the end; past either end the result is empty.
fn substring(c: &Call) -> Result<ArrayRef> {
    let (text, start, length) = (c.text(0)?, c.longs(1)?, c.optional_longs(2)?);
    c.pick_text(|row| {
        let (text, start) = (some!(text.at(row)), some!(start.at(row)));
        let length = match &length {
            Some(length) => some!(length.at(row)),
            None => i64::MAX,
        };
        let length = some!(usize::try_from(length).ok());
        let start = match start {
            1.. => (start - 1) as usize,
            0 => 0,
            _ => match count(text).checked_sub(start.unsigned_abs() as usize) {
                Some(start) => start,
                None => return Ok(Some("")),
            },
        };
        let rest = &text[byte_at(text, start).min(text.len())..];
        Ok(Some(&rest[..byte_at(rest, length).min(rest.len())]))
    })
}

fn left(c: &Call) -> Result<ArrayRef> {
    let (text, n) = (c.text(0)?, c.longs(1)?);
    c.pick_text(|row| {
        let (text, n) = (some!(text.at(row)), some!(n.at(row)));
        Ok(Some(&text[..byte_at(text, usize::try_from(n).unwrap_or(0)).min(text.len())]))
    })
}

fn right(c: &Call) -> Result<ArrayRef> {
    let (text, n) = (c.text(0)?, c.longs(1)?);
    c.pick_text(|row| {
        let (text, n) = (some!(text.at(row)), some!(n.at(row)));
        let skip = count(text).saturating_sub(usize::try_from(n).unwrap_or(0));
        Ok(Some(&text[byte_at(text, skip).min(text.len())..]))
    })
}

/// The arguments from `first` on, as text. Numbers, dates and the rest are written as CAST(x AS STRING) writes them.
fn texts(c: &Call, first: usize) -> Result<Vec<(ArrayRef, bool)>> {
    (first..c.args.len()).map(|i| Ok((super::cast::to_text(&c.args[i], c.zone)?, c.constant[i]))).collect()
}

fn concat(c: &Call) -> Result<ArrayRef> {
    let columns = texts(c, 0)?;
    c.make_text(|row, out| {
        for (column, constant) in &columns {
            out.push_str(some!(super::kernel::Text::of(column).and_then(|t| t.at(if *constant { 0 } else { row }))));
        }
        Ok(Some(()))
    })
}

/// Leaves NULLs out; NULL only where the separator is.
fn concat_ws(c: &Call) -> Result<ArrayRef> {
    let separator = c.text(0)?;
    let columns = texts(c, 1)?;
    c.make_text(|row, out| {
        let separator = some!(separator.at(row));
        let mut first = true;
        for (column, constant) in &columns {
            let text = super::kernel::Text::of(column).and_then(|t| t.at(if *constant { 0 } else { row }));
            if let Some(text) = text {
                out.push_str(if first { "" } else { separator });
                out.push_str(text);
                first = false;
            }
        }
        Ok(Some(()))
    })
}

/// Cuts what is longer; NULL for a negative length or an empty pad.
fn pad(c: &Call, before: bool) -> Result<ArrayRef> {
    let (text, length, with) = (c.text(0)?, c.longs(1)?, c.optional_text(2)?);
    c.make_text(|row, out| {
        let (text, length) = (some!(text.at(row)), some!(length.at(row)));
        let with = match &with {
            Some(with) => some!(with.at(row)),
            None => " ",
        };
        let length = some!(usize::try_from(length).ok());
        if with.is_empty() {
            return Ok(None);
        }
        let have = count(text);
        if have >= length {
            out.push_str(&text[..byte_at(text, length)]);
            return Ok(Some(()));
        }
        c.check_value((length - have).saturating_mul(with.len().div_ceil(count(with))).saturating_add(text.len()))?;
        let padding = with.chars().cycle().take(length - have);
        if before {
            out.extend(padding);
            out.push_str(text);
        } else {
            out.push_str(text);
            out.extend(padding);
        }
        Ok(Some(()))
    })
}

/// The character of the lowest eight bits; the empty text for a negative number.
fn chr(c: &Call) -> Result<ArrayRef> {
    let code = c.longs(0)?;
    c.make_text(|row, out| {
        let code = some!(code.at(row));
        if code >= 0 {
            out.push(char::from((code & 0xff) as u8));
        }
        Ok(Some(()))
    })
}

fn elt(c: &Call) -> Result<ArrayRef> {
    let index = c.longs(0)?;
    let texts = (1..c.args.len()).map(|i| c.text(i)).collect::<Result<Vec<_>>>()?;
    c.pick_text(|row| {
        let index = some!(index.at(row));
        Ok(usize::try_from(index).ok().filter(|i| *i >= 1).and_then(|i| texts.get(i - 1)).and_then(|t| t.at(row)))
    })
}

fn ends(c: &Call, test: fn(&[u8], &[u8]) -> bool) -> Result<ArrayRef> {
    let (text, part) = (c.bytes(0)?, c.bytes(1)?);
    c.make_bools(|row| Ok(Some(test(some!(text.at(row)), some!(part.at(row))))))
}

/// IS_ALPHA and its like: FALSE for NULL and for the empty text, never NULL.
fn is(c: &Call, text: fn(&str) -> bool, other: fn(&DataType) -> bool) -> Result<ArrayRef> {
    let constant = c.constant[0];
    match super::kernel::Text::of(&c.args[0]) {
        Some(column) => c.make_bools(|row| {
            Ok(Some(column.at(if constant { 0 } else { row }).is_some_and(|s| !s.is_empty() && text(s))))
        }),
        None => {
            let yes = other(c.args[0].data_type());
            c.make_bools(|row| Ok(Some(yes && c.args[0].is_valid(if constant { 0 } else { row }))))
        }
    }
}

/// What Java's `Double.parseDouble` takes: blanks around, a sign, digits with a point and an exponent, a suffix `d` or `f`.
fn is_number(text: &str) -> bool {
    let text = text.trim_matches(|c: char| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "NaN" || unsigned == "Infinity" {
        return true;
    }
    let unsigned = unsigned.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(unsigned);
    unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') && unsigned.parse::<f64>().is_ok()
}
