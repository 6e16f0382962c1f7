//! Finds in each record the objects that are rows, and what becomes of them.
//!
//! Only what a record is made of is looked at, not the values of its rows. That the whole is JSON has been looked at before, so
//! that what is passed over here is not passed over unseen.

use super::{ChangeFormat, ChangeOptions, whole};
use crate::bad::shown;
use crate::json::{skip_value, space};
use millstream_core::{ChangeKind, Result};
use regex::Regex;
use std::ops::Range;

/// One row of a record.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub record: u32,
    pub kind: ChangeKind,
    /// Its object.
    pub object: u32,
    /// The object has only what was different: what it leaves out is as in `rest`.
    pub partial: Option<Partial>,
}

#[derive(Debug, Clone, Copy)]
pub struct Partial {
    /// The object that has the rest.
    pub rest: u32,
    /// Where in [`Scan::present`] it stands which columns the object has.
    pub present: usize,
}

/// What has been found in a piece.
#[derive(Debug, Default)]
pub struct Scan {
    /// Objects that are rows, or parts of one, in the bytes of the piece.
    pub objects: Vec<Range<usize>>,
    /// The record of each object.
    pub owners: Vec<u32>,
    pub rows: Vec<Row>,
    /// Of each partial object, which of the columns it has.
    pub present: Vec<bool>,
}

impl Scan {
    fn object(&mut self, record: u32, at: Range<usize>) -> u32 {
        self.objects.push(at);
        self.owners.push(record);
        (self.objects.len() - 1) as u32
    }

    fn row(&mut self, record: u32, kind: ChangeKind, object: u32) {
        self.rows.push(Row { record, kind, object, partial: None });
    }

    pub fn clear(&mut self) {
        self.objects.clear();
        self.owners.clear();
        self.rows.clear();
        self.present.clear();
    }
}

/// Reads envelopes of one format.
pub struct Scanner {
    format: ChangeFormat,
    schema_include: bool,
    by_key: bool,
    database: Option<Regex>,
    table: Option<Regex>,
    /// The columns that are asked for.
    columns: Vec<String>,
}

/// `"name": value` of an object: the name without its quotes.
type Member = (Range<usize>, Range<usize>);

type Found<T> = std::result::Result<T, String>;

impl Scanner {
    pub fn new(options: &ChangeOptions, columns: Vec<String>, by_key: bool) -> Result<Scanner> {
        let compiled = |pattern: &Option<String>| {
            pattern.as_deref().map(whole).transpose().map_err(|e| millstream_core::Error::internal(e.to_string()))
        };
        Ok(Scanner {
            format: options.format,
            schema_include: options.schema_include,
            by_key,
            database: compiled(&options.database)?,
            table: compiled(&options.table)?,
            columns,
        })
    }

    /// Adds the rows of the record at `at`; where it has a fault, nothing, and says why. Gives back the envelope's own object,
    /// unless there is nothing to tell.
    pub fn record(&self, bytes: &[u8], at: Range<usize>, record: u32, scan: &mut Scan) -> Found<Option<Range<usize>>> {
        let before = (scan.objects.len(), scan.rows.len(), scan.present.len());
        let found = self.envelope(bytes, at, record, scan);
        if found.is_err() {
            scan.objects.truncate(before.0);
            scan.owners.truncate(before.0);
            scan.rows.truncate(before.1);
            scan.present.truncate(before.2);
        }
        found
    }

    fn envelope(&self, bytes: &[u8], at: Range<usize>, record: u32, scan: &mut Scan) -> Found<Option<Range<usize>>> {
        let text = &bytes[at.clone()];
        if let Err(e) = serde_json::from_slice::<serde::de::IgnoredAny>(text) {
            let why = e.to_string().replace("line 1 column", "column");
            return Err(format!("the record is not valid JSON: {why}; it holds `{}`", shown(text)));
        }
        let mut at = at;
        let mut members = members(bytes, at.clone())
            .ok_or_else(|| format!("a record must be a JSON object, this one is `{}`", shown(text)))?;
        if self.schema_include {
            let payload = find(bytes, &members, "payload").ok_or_else(|| {
                format!(
                    "the record has no `payload`, and 'debezium-json.schema-include' says so; it holds `{}`",
                    shown(text)
                )
            })?;
            at = payload.clone();
            members = self::members(bytes, payload.clone())
                .ok_or_else(|| format!("`payload` is no JSON object but `{}`", shown(&bytes[payload])))?;
        }
        let part = |name: &str| find(bytes, &members, name).filter(|v| &bytes[v.clone()] != b"null");
        let says = |name: &str| -> Found<String> {
            let value = part(name).ok_or_else(|| {
                let wrapped =
                    self.format == ChangeFormat::Debezium && !self.schema_include && part("payload").is_some();
                let hint = match wrapped {
                    true => "; it has a `payload`: set 'debezium-json.schema-include' = 'true'",
                    false => "",
                };
                format!("the record does not say in `{name}` what has changed{hint}; it holds `{}`", shown(text))
            })?;
            serde_json::from_slice::<String>(&bytes[value.clone()])
                .map_err(|_| format!("`{name}` is no text but `{}`", shown(&bytes[value])))
        };
        match self.format {
            ChangeFormat::Debezium => {
                let op = says("op")?;
                self.debezium(&op, part("before"), part("after"), record, scan)?;
            }
            ChangeFormat::Maxwell => {
                let kind = says("type")?;
                let data = part("data").ok_or_else(|| missing("data", &kind))?;
                let object = scan.object(record, data);
                match kind.as_str() {
                    "insert" | "bootstrap-insert" => scan.row(record, ChangeKind::Insert, object),
                    "update" => self.update(bytes, part("old"), object, record, scan)?,
                    "delete" => scan.row(record, ChangeKind::Delete, object),
                    _ => return Err(unknown("type", &kind, "insert, update, delete")),
                }
            }
            ChangeFormat::Canal => {
                let passed = |pattern: &Option<Regex>, name: &str| -> Found<bool> {
                    Ok(match pattern {
                        None => true,
                        Some(_) if part(name).is_none() => false,
                        Some(pattern) => pattern.is_match(&says(name)?),
                    })
                };
                if !passed(&self.database, "database")? || !passed(&self.table, "table")? {
                    return Ok(None);
                }
                let kind = says("type")?;
                if kind == "CREATE" {
                    // It tells of the table, not of its rows.
                    return Ok(None);
                }
                let data = part("data").ok_or_else(|| missing("data", &kind))?;
                let data = elements(bytes, data.clone())
                    .ok_or_else(|| format!("`data` is no JSON array but `{}`", shown(&bytes[data])))?;
                let old = match part("old") {
                    None => Vec::new(),
                    Some(old) => elements(bytes, old.clone())
                        .ok_or_else(|| format!("`old` is no JSON array but `{}`", shown(&bytes[old])))?,
                };
                for (i, data) in data.into_iter().enumerate() {
                    let object = scan.object(record, data);
                    match kind.as_str() {
                        "INSERT" => scan.row(record, ChangeKind::Insert, object),
                        "UPDATE" => self.update(bytes, old.get(i).cloned(), object, record, scan)?,
                        "DELETE" => scan.row(record, ChangeKind::Delete, object),
                        _ => return Err(unknown("type", &kind, "INSERT, UPDATE, DELETE")),
                    }
                }
            }
        }
        Ok(Some(at))
    }

    fn debezium(
        &self,
        op: &str,
        before: Option<Range<usize>>,
        after: Option<Range<usize>>,
        record: u32,
        scan: &mut Scan,
    ) -> Found<()> {
        let was = |what: &str| {
            before.clone().ok_or_else(|| {
                let instead = match self.by_key {
                    true => "",
                    false => {
                        ", or declare PRIMARY KEY (..) NOT ENFORCED and SET 'table.exec.source.cdc-events-duplicate' = 'true', \
                         and rows are remembered here"
                    }
                };
                format!(
                    "`before` is null in {what}, so it is not said which row that was. Let the database tell it (PostgreSQL: \
                     ALTER TABLE … REPLICA IDENTITY FULL){instead}"
                )
            })
        };
        let is = || after.clone().ok_or_else(|| missing("after", op));
        match op {
            "c" | "r" => {
                let object = scan.object(record, is()?);
                scan.row(record, ChangeKind::Insert, object);
            }
            "u" => {
                if before.is_some() || !self.by_key {
                    let object = scan.object(record, was("an update")?);
                    scan.row(record, ChangeKind::UpdateBefore, object);
                }
                let object = scan.object(record, is()?);
                scan.row(record, ChangeKind::UpdateAfter, object);
            }
            "d" => {
                let object = scan.object(record, was("a deletion")?);
                scan.row(record, ChangeKind::Delete, object);
            }
            _ => return Err(unknown("op", op, "c, r, u, d")),
        }
        Ok(())
    }

    /// An update whose old row has only what was different.
    fn update(&self, bytes: &[u8], old: Option<Range<usize>>, new: u32, record: u32, scan: &mut Scan) -> Found<()> {
        let old = old.ok_or_else(|| missing("old", "an update"))?;
        let members = members(bytes, old.clone())
            .ok_or_else(|| format!("`old` is no JSON object but `{}`", shown(&bytes[old.clone()])))?;
        let present = scan.present.len();
        scan.present.extend(self.columns.iter().map(|column| find(bytes, &members, column).is_some()));
        let object = scan.object(record, old);
        let partial = Some(Partial { rest: new, present });
        scan.rows.push(Row { record, kind: ChangeKind::UpdateBefore, object, partial });
        scan.row(record, ChangeKind::UpdateAfter, new);
        Ok(())
    }
}

fn missing(part: &str, kind: &str) -> String {
    format!("`{part}` is missing or null, and the record says that it is `{kind}`")
}

fn unknown(field: &str, value: &str, known: &str) -> String {
    format!("`{field}` is `{}`, which is no change of a row: there are {known}", shown(value.as_bytes()))
}

/// The members of the object at `at`. `None`: it is none.
fn members(bytes: &[u8], at: Range<usize>) -> Option<Vec<Member>> {
    let text = &bytes[..at.end];
    let mut members = Vec::with_capacity(8);
    let mut from = space(text, at.start);
    if text.get(from) != Some(&b'{') {
        return None;
    }
    loop {
        from = space(text, from + 1);
        if text.get(from) == Some(&b'}') {
            return Some(members);
        }
        let end = skip_value(text, from)?;
        let colon = space(text, end);
        if text.get(from) != Some(&b'"') || text.get(colon) != Some(&b':') {
            return None;
        }
        let begin = space(text, colon + 1);
        let stop = skip_value(text, begin)?;
        members.push((from + 1..end - 1, trimmed(text, begin, stop)));
        from = space(text, stop);
        match text.get(from) {
            Some(b',') => {}
            Some(b'}') => return Some(members),
            _ => return None,
        }
    }
}

/// The elements of the array at `at`. `None`: it is none.
fn elements(bytes: &[u8], at: Range<usize>) -> Option<Vec<Range<usize>>> {
    let text = &bytes[..at.end];
    let mut elements = Vec::with_capacity(1);
    let mut from = space(text, at.start);
    if text.get(from) != Some(&b'[') {
        return None;
    }
    loop {
        from = space(text, from + 1);
        if text.get(from) == Some(&b']') {
            return Some(elements);
        }
        let stop = skip_value(text, from)?;
        elements.push(trimmed(text, from, stop));
        from = space(text, stop);
        match text.get(from) {
            Some(b',') => {}
            Some(b']') => return Some(elements),
            _ => return None,
        }
    }
}

/// A number or word may be followed by a line end.
fn trimmed(text: &[u8], from: usize, to: usize) -> Range<usize> {
    from..from + text[from..to].trim_ascii_end().len()
}

/// The value of a name; of a name given twice the last one counts.
fn find(bytes: &[u8], members: &[Member], wanted: &str) -> Option<Range<usize>> {
    let same = |name: &Range<usize>| {
        let raw = &bytes[name.clone()];
        raw == wanted.as_bytes()
            // Rarely written with escapes.
            || (raw.contains(&b'\\')
                && serde_json::from_slice::<String>(&bytes[name.start - 1..name.end + 1]).is_ok_and(|n| n == wanted))
    };
    members.iter().rev().find(|(name, _)| same(name)).map(|(_, value)| value.clone())
}
