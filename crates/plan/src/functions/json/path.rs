//! Paths into a document: `[lax|strict] $.name['any name'][0][*]..name`.
//!
//! As Flink reads them: `lax` answers nothing where `strict` (which is meant without a word) fails, and neither looks into the
//! items of an array unasked. A path with `[*]`, `.*`, `..`, a list or a slice of places can match many values.

use datafusion_common::{Result, plan_err};
use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    /// From the end where negative.
    Place(i64),
    Places(Vec<i64>),
    Slice(Option<i64>, Option<i64>),
    All,
    /// All values at any depth, with the next step applied to each.
    Deep,
}

#[derive(Debug, Clone)]
pub(super) struct Path {
    strict: bool,
    steps: Vec<Step>,
}

/// What a path found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    Nothing,
    One(Value),
    /// Of a path that can match many.
    Many(Vec<Value>),
}

impl Found {
    pub(super) fn into_value(self) -> Value {
        match self {
            Found::Nothing => Value::Null,
            Found::One(value) => value,
            Found::Many(values) => Value::Array(values),
        }
    }
}

impl Path {
    pub(super) fn parse(text: &str) -> Result<Path> {
        let trimmed = text.trim();
        let lower = trimmed.to_ascii_lowercase();
        let (strict, rest) = match (lower.starts_with("strict "), lower.starts_with("lax ")) {
            (true, _) => (true, trimmed[7..].trim_start()),
            (_, true) => (false, trimmed[4..].trim_start()),
            _ => (true, trimmed),
        };
        let wrong = |what: &str| plan_err!("the JSON path `{text}` {what}; write it like $.a.b[0]['c d'][*]");
        let Some(mut rest) = rest.strip_prefix('$') else { return wrong("does not begin with $") };
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                steps.push(Step::Deep);
                rest = after;
                if rest.starts_with('[') {
                    continue;
                }
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = after;
                if rest.starts_with('[') {
                    continue;
                }
            } else if let Some(inside) = rest.strip_prefix('[') {
                let inside = inside.trim_start();
                if let Some(quote @ ('\'' | '"')) = inside.chars().next() {
                    let Some((name, after)) = quoted(&inside[1..], quote) else { return wrong("has an open quote") };
                    let Some(after) = after.trim_start().strip_prefix(']') else { return wrong("lacks a ]") };
                    steps.push(Step::Name(name));
                    rest = after;
                    continue;
                }
                let Some((inside, after)) = inside.split_once(']') else { return wrong("lacks a ]") };
                match places(inside.trim()) {
                    Some(step) => steps.push(step),
                    None if inside.trim_start().starts_with('?') => {
                        return wrong("has a filter, which is not supported");
                    }
                    None => return wrong("has something in brackets that is no place"),
                }
                rest = after;
                continue;
            } else {
                return wrong(&format!("cannot be read from `{rest}` on"));
            }
            // A name after a dot.
            if let Some(after) = rest.strip_prefix('*') {
                steps.push(Step::All);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('"') {
                let Some((name, after)) = quoted(after, '"') else { return wrong("has an open quote") };
                steps.push(Step::Name(name));
                rest = after;
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let name = rest[..end].trim();
                if name.is_empty() || name.contains(['(', ')', '?', '@']) {
                    return wrong("lacks a name after a dot");
                }
                steps.push(Step::Name(name.to_string()));
                rest = &rest[end..];
            }
        }
        if steps.last() == Some(&Step::Deep) {
            return wrong("ends with ..");
        }
        Ok(Path { strict, steps })
    }

    /// The error says what is missing, for `strict` paths.
    pub(super) fn find(&self, document: Value) -> Result<Found, String> {
        let many = self.steps.iter().any(|s| !matches!(s, Step::Name(_) | Step::Place(_)));
        let mut current = vec![document];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in current {
                step.apply(value, &mut next);
            }
            if next.is_empty() {
                return match (self.strict, many) {
                    (true, _) => Err("the path leads nowhere".to_string()),
                    (_, true) => Ok(Found::Many(Vec::new())),
                    _ => Ok(Found::Nothing),
                };
            }
            current = next;
        }
        Ok(if many { Found::Many(current) } else { current.pop().map_or(Found::Nothing, Found::One) })
    }
}

impl Step {
    fn apply(&self, value: Value, out: &mut Vec<Value>) {
        let at = |items: &[Value], n: i64| {
            let n = if n < 0 { n + items.len() as i64 } else { n };
            usize::try_from(n).ok().filter(|n| *n < items.len())
        };
        match (self, value) {
            (Step::Name(name), Value::Object(mut fields)) => out.extend(fields.remove(name)),
            (Step::Place(n), Value::Array(mut items)) => out.extend(at(&items, *n).map(|n| items.swap_remove(n))),
            (Step::Places(places), Value::Array(items)) => {
                out.extend(places.iter().filter_map(|n| at(&items, *n).map(|n| items[n].clone())));
            }
            (Step::Slice(from, to), Value::Array(items)) => {
                let length = items.len() as i64;
                let clamp = |n: i64| (if n < 0 { n + length } else { n }).clamp(0, length) as usize;
                let (from, to) = (clamp(from.unwrap_or(0)), clamp(to.unwrap_or(length)));
                out.extend(items.into_iter().take(to).skip(from));
            }
            (Step::All, Value::Array(items)) => out.extend(items),
            (Step::All, Value::Object(fields)) => out.extend(fields.into_iter().map(|(_, v)| v)),
            (Step::Deep, value) => deep(value, out),
            _ => {}
        }
    }
}

fn deep(value: Value, out: &mut Vec<Value>) {
    out.push(value.clone());
    match value {
        Value::Array(items) => items.into_iter().for_each(|item| deep(item, out)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, field)| deep(field, out)),
        _ => {}
    }
}

/// What stands up to the closing quote, with `\` before a quote or itself taken away, and what follows.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, ch)) = chars.next() {
        match ch {
            '\\' => name.push(chars.next()?.1),
            ch if ch == quote => return Some((name, &text[at + ch.len_utf8()..])),
            ch => name.push(ch),
        }
    }
    None
}

fn places(inside: &str) -> Option<Step> {
    let number = |text: &str| match text.trim() {
        "last" => Some(-1),
        text => text.parse::<i64>().ok(),
    };
    if inside == "*" {
        return Some(Step::All);
    }
    if let Some((from, to)) = inside.split_once(':') {
        let bound = |text: &str| if text.trim().is_empty() { Some(None) } else { number(text).map(Some) };
        return Some(Step::Slice(bound(from)?, bound(to)?));
    }
    if inside.contains(',') {
        return Some(Step::Places(inside.split(',').map(number).collect::<Option<_>>()?));
    }
    if let Some((from, to)) = inside.split_once(" to ") {
        let to = number(to)?;
        return Some(Step::Slice(Some(number(from)?), if to == -1 { None } else { Some(to + 1) }));
    }
    number(inside).map(Step::Place)
}
