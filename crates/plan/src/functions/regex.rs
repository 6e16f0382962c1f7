//! Regular expressions, in the syntax of Java as far as it can be matched in linear time, and cutting text in parts.
//!
//! Look-around and back-references need time that grows without bound; they are refused with a message that says so.

use super::field::FieldPattern;
use super::kernel::{Call, Function, Kind, Memo, some};
use arrow::array::{Array, ArrayRef, MapBuilder, MapFieldNames, StringBuilder};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion_common::{Result, exec_err};
use millstream_dataflow::fuse::parts::nth_part;
use regex::{Regex, RegexBuilder};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    use DataType::{Boolean, Int32, Utf8};
    use Kind::{Long, Text};
    vec![
        Function::new("regexp_replace", &[Text, Text, Text], Utf8, regexp_replace),
        Function::new("regexp_extract", &[Text, Text, Long], Utf8, regexp_extract).optional(1),
        Function::new("regexp_substr", &[Text, Text], Utf8, regexp_extract),
        Function::new("regexp", &[Text, Text], Boolean, regexp).alias("rlike").alias("regexp_like"),
        Function::new("regexp_count", &[Text, Text], Int32, regexp_count),
        Function::new("regexp_instr", &[Text, Text], Int32, regexp_instr),
        Function::new("regexp_extract_all", &[Text, Text, Long], DataType::new_list(Utf8, true), regexp_extract_all)
            .optional(1),
        Function::new("split_index", &[Text, Text, Long], Utf8, split_index),
        Function::new("split", &[Text, Text], DataType::new_list(Utf8, true), split),
        Function::new("str_to_map", &[Text, Text, Text], text_map(), str_to_map).optional(2),
    ]
}

/// Compiled patterns kept from batch to batch: how many for each thread.
const PATTERNS_KEPT: usize = 32;

thread_local! {
    /// The most recently used last. Compiling costs as much as matching thousands of short texts.
    static PATTERNS: RefCell<Vec<(String, Rc<Regex>)>> = const { RefCell::new(Vec::new()) };
}

/// The compiled pattern, from the cache where it is there.
fn compile(pattern: &str) -> Result<Rc<Regex>> {
    PATTERNS.with_borrow_mut(|kept| {
        if let Some(at) = kept.iter().position(|(p, _)| p == pattern) {
            let found = kept.remove(at);
            let regex = found.1.clone();
            kept.push(found);
            return Ok(regex);
        }
        let regex = match RegexBuilder::new(&from_java(pattern)).size_limit(4 << 20).build() {
            Ok(regex) => Rc::new(regex),
            Err(e) => {
                let why = e.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
                return exec_err!(
                    "`{pattern}` is not a regular expression that can be used here: {why}. The syntax is that of Java \
                     without look-around (?=..), (?<=..) and back-references \\1"
                );
            }
        };
        if kept.len() == PATTERNS_KEPT {
            kept.remove(0);
        }
        kept.push((pattern.to_string(), regex.clone()));
        Ok(regex)
    })
}

/// Java's `\d`, `\w` and `\s` mean ASCII, `\Q..\E` quotes, `\Z` is the end; all else is the same.
fn from_java(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut in_class = 0usize;
    while let Some(ch) = rest.chars().next() {
        if ch != '\\' {
            match ch {
                '[' => in_class += 1,
                ']' => in_class = in_class.saturating_sub(1),
                _ => {}
            }
            out.push(ch);
            rest = &rest[ch.len_utf8()..];
            continue;
        }
        let Some(escaped) = rest[1..].chars().next() else {
            out.push('\\');
            break;
        };
        rest = &rest[1 + escaped.len_utf8()..];
        match escaped {
            'd' if in_class > 0 => out.push_str("0-9"),
            'w' if in_class > 0 => out.push_str("a-zA-Z0-9_"),
            's' if in_class > 0 => out.push_str(r"\t\n\x0B\f\r\x20"),
            'd' => out.push_str("[0-9]"),
            'w' => out.push_str("[a-zA-Z0-9_]"),
            's' => out.push_str(r"[\t\n\x0B\f\r\x20]"),
            'D' => out.push_str("[^0-9]"),
            'W' => out.push_str("[^a-zA-Z0-9_]"),
            'S' => out.push_str(r"[^\t\n\x0B\f\r\x20]"),
            'Z' => out.push_str(r"\z"),
            'e' => out.push_str(r"\x1B"),
            'h' => out.push_str(r"[\t\x20]"),
            'R' => out.push_str(r"(?:\r\n|[\n\x0B\f\r\x{85}\x{2028}\x{2029}])"),
            'Q' => {
                let (quoted, after) = rest.split_once(r"\E").unwrap_or((rest, ""));
                out.push_str(&regex::escape(quoted));
                rest = after;
            }
            other => {
                out.push('\\');
                out.push(other);
            }
        }
    }
    out
}

/// The replacement is taken as it is: `$1` means the two characters, as in Flink.
fn regexp_replace(c: &Call) -> Result<ArrayRef> {
    let (text, pattern, with) = (c.text(0)?, c.text(1)?, c.text(2)?);
    let mut regex = Memo::new();
    c.make_text(|row, out| {
        let (text, pattern, with) = (some!(text.at(row)), some!(pattern.at(row)), some!(with.at(row)));
        let mut from = 0;
        for found in regex.get(pattern, compile)?.find_iter(text) {
            out.push_str(&text[from..found.start()]);
            out.push_str(with);
            from = found.end();
        }
        out.push_str(&text[from..]);
        Ok(Some(()))
    })
}

/// Group 0 is the whole match. NULL where nothing matches, or the group is not there or took no part.
fn regexp_extract(c: &Call) -> Result<ArrayRef> {
    let (text, pattern, group) = (c.text(0)?, c.text(1)?, c.optional_longs(2)?);
    let constant_group = match &group {
        None => Some(0),
        Some(group) if group.constant => group.at(0),
        Some(_) => None,
    };
    if pattern.constant
        && let (Some(pattern), Some(group)) = (pattern.at(0), constant_group)
        && let Some(field) = FieldPattern::parse(pattern)
    {
        let group = usize::try_from(group).unwrap_or(usize::MAX);
        return c.pick_text(|row| {
            let text = some!(text.at(row));
            let found = field.find(text).and_then(|found| field.group(found, group));
            Ok(found.map(|(from, to)| &text[from..to]))
        });
    }
    let mut regex = Memo::new();
    let mut groups: Option<(String, regex::CaptureLocations)> = None;
    c.make_text(|row, out| {
        let group = match &group {
            Some(group) => some!(group.at(row)),
            None => 0,
        };
        let (text, pattern) = (some!(text.at(row)), some!(pattern.at(row)));
        let regex = regex.get(pattern, compile)?;
        let found = match usize::try_from(group) {
            // Groups cost more than a plain search.
            Ok(0) => regex.find(text).map(|m| (m.start(), m.end())),
            Ok(group) => {
                if groups.as_ref().is_none_or(|(p, _)| p != pattern) {
                    groups = Some((pattern.to_string(), regex.capture_locations()));
                }
                groups.as_mut().and_then(|(_, at)| regex.captures_read(at, text).and_then(|_| at.get(group)))
            }
            Err(_) => None,
        };
        let (from, to) = some!(found);
        out.push_str(&text[from..to]);
        Ok(Some(()))
    })
}

fn regexp(c: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (c.text(0)?, c.text(1)?);
    let mut regex = Memo::new();
    c.make_bools(|row| {
        let (text, pattern) = (some!(text.at(row)), some!(pattern.at(row)));
        Ok(Some(!pattern.is_empty() && regex.get(pattern, compile)?.is_match(text)))
    })
}

fn regexp_count(c: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (c.text(0)?, c.text(1)?);
    let mut regex = Memo::new();
    c.make::<Int32Type>(|row| {
        let (text, pattern) = (some!(text.at(row)), some!(pattern.at(row)));
        Ok(Some(regex.get(pattern, compile)?.find_iter(text).count() as i32))
    })
}

fn regexp_instr(c: &Call) -> Result<ArrayRef> {
    let (text, pattern) = (c.text(0)?, c.text(1)?);
    let mut regex = Memo::new();
    c.make::<Int32Type>(|row| {
        let (text, pattern) = (some!(text.at(row)), some!(pattern.at(row)));
        let found = regex.get(pattern, compile)?.find(text);
        Ok(Some(found.map_or(0, |m| text[..m.start()].chars().count() as i32 + 1)))
    })
}

fn regexp_extract_all(c: &Call) -> Result<ArrayRef> {
    let (text, pattern, group) = (c.text(0)?, c.text(1)?, c.optional_longs(2)?);
    let mut regex = Memo::new();
    let mut out = arrow::array::ListBuilder::new(StringBuilder::new());
    for row in 0..c.rows {
        let group = match &group {
            Some(group) => group.at(row),
            None => Some(1),
        };
        let (Some(text), Some(pattern), Some(group)) = (text.at(row), pattern.at(row), group) else {
            out.append(false);
            continue;
        };
        let regex = regex.get(pattern, compile)?;
        match usize::try_from(group).ok().filter(|g| *g < regex.captures_len()) {
            Some(group) => {
                for found in regex.captures_iter(text) {
                    out.values().append_option(found.get(group).map(|m| m.as_str()));
                }
                out.append(true);
            }
            None => out.append(false),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// From 0. NULL past the last part, for a negative index, and for the empty text, which has no parts.
/// An empty delimiter means any white space.
fn split_index(c: &Call) -> Result<ArrayRef> {
    let (text, delimiter, index) = (c.text(0)?, c.text(1)?, c.longs(2)?);
    c.pick_text(|row| {
        let (text, delimiter, index) = (some!(text.at(row)), some!(delimiter.at(row)), some!(index.at(row)));
        let index = some!(usize::try_from(index).ok());
        Ok(match delimiter.as_bytes() {
            _ if text.is_empty() => None,
            [] => text.split(char::is_whitespace).nth(index),
            [only] => nth_part(text, *only, index),
            _ => text.split(delimiter).nth(index),
        })
    })
}

/// SPLIT(text, delimiter): all parts, none of the empty text. An empty delimiter splits into characters.
fn split(c: &Call) -> Result<ArrayRef> {
    let (text, delimiter) = (c.text(0)?, c.text(1)?);
    let mut out = arrow::array::ListBuilder::new(StringBuilder::new());
    for row in 0..c.rows {
        let (Some(text), Some(delimiter)) = (text.at(row), delimiter.at(row)) else {
            out.append(false);
            continue;
        };
        if text.is_empty() {
            // No parts, not one that is empty.
        } else if delimiter.is_empty() {
            for (at, ch) in text.char_indices() {
                out.values().append_value(&text[at..at + ch.len_utf8()]);
            }
        } else {
            text.split(delimiter).for_each(|part| out.values().append_value(part));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// MAP<STRING, STRING> in the engine's layout.
pub(super) fn text_map() -> DataType {
    let fields = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields.into()), false)), false)
}

/// Both delimiters are regular expressions. Of a key that comes twice, the last value stands, at the first one's place.
fn str_to_map(c: &Call) -> Result<ArrayRef> {
    let (text, pairs, values) = (c.text(0)?, c.optional_text(1)?, c.optional_text(2)?);
    let (mut pair_regex, mut value_regex) = (Memo::new(), Memo::new());
    let names = MapFieldNames { entry: "entries".to_string(), key: "key".to_string(), value: "value".to_string() };
    let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for row in 0..c.rows {
        let pairs = pairs.map_or(Some(","), |p| p.at(row));
        let values = values.map_or(Some("="), |v| v.at(row));
        let (Some(text), Some(pairs), Some(values)) = (text.at(row), pairs, values) else {
            out.append(false)?;
            continue;
        };
        let value_regex = value_regex.get(values, compile)?;
        let mut entries: Vec<(&str, Option<&str>)> = Vec::new();
        let mut parts: Vec<&str> = pair_regex.get(pairs, compile)?.split(text).collect();
        // As Java's `split`: no empty parts at the end.
        while parts.last().is_some_and(|p| p.is_empty()) {
            parts.pop();
        }
        for part in parts {
            let mut key_and_value = value_regex.splitn(part, 2);
            let (key, value) = (key_and_value.next().unwrap_or(part), key_and_value.next());
            match entries.iter_mut().find(|(k, _)| *k == key) {
                Some(entry) => entry.1 = value,
                None => entries.push((key, value)),
            }
        }
        for (key, value) in entries {
            out.keys().append_value(key);
            out.values().append_option(value);
        }
        out.append(true)?;
    }
    let map = out.finish();
    debug_assert_eq!(map.data_type(), &text_map());
    Ok(Arc::new(map))
}
