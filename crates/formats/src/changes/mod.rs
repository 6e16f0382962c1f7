//! Records that say what has become of rows: the formats of Debezium, Maxwell and Canal, which tell of a database.
//!
//! ```text
//!  {"before": {…}, "after": {…}, "op": "u"}  ──▶  -U before, +U after
//!
//!  record ─▶ scan: which objects are rows, and what each row does ─▶ all objects at once as JSON ─▶ columns
//!                                                                  └ what an old row leaves out comes of the new one
//! ```
//!
//! The envelope is looked through for the places of its parts and no more. The objects in it are rows of the table and are read
//! as [`json`](crate::json) reads rows, all of a piece together; so a value is read, and a bad one named, as it is there.
//!
//! A record that cannot be read in one of its parts gives no row at all: an update is never half done. One that has nothing to
//! tell (a tombstone, a table that is not asked for) is no fault and gives no row.
//!
//! **By key.** Where the planner remembers the rows of a table by its primary key, an update need not say what it replaces, and a
//! row that is gone need only know its key ([`Beyond::by_key`]).

mod beside;
mod decode;
mod encode;
mod kept;
mod scan;

pub(crate) use beside::Wanted;
pub use decode::{Beyond, ChangesDecoder};
pub use encode::ChangesEncoder;
pub(crate) use kept::Kept;
pub(crate) use scan::Row;

use crate::options::{JsonOptions, flag};
use arrow::datatypes::Field;
use millstream_core::{Error, Result};
use regex::Regex;
use std::collections::BTreeMap;

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeFormat {
    Debezium,
    Maxwell,
    Canal,
}

/// What records of `debezium-avro-confluent` say beside their rows.
pub fn metadata_in_avro() -> Vec<Field> {
    beside::typed_fields()
}

impl ChangeFormat {
    pub const ALL: [ChangeFormat; 3] = [ChangeFormat::Debezium, ChangeFormat::Maxwell, ChangeFormat::Canal];

    pub fn of(name: &str) -> Option<ChangeFormat> {
        ChangeFormat::ALL.into_iter().find(|f| f.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            ChangeFormat::Debezium => "debezium-json",
            ChangeFormat::Maxwell => "maxwell-json",
            ChangeFormat::Canal => "canal-json",
        }
    }

    /// The option keys of this format.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            ChangeFormat::Debezium => &[
                "debezium-json.schema-include",
                "debezium-json.ignore-parse-errors",
                "debezium-json.timestamp-format.standard",
                "debezium-json.encode.ignore-null-fields",
                "debezium-json.encode.decimal-as-plain-number",
            ],
            ChangeFormat::Maxwell => &[
                "maxwell-json.ignore-parse-errors",
                "maxwell-json.timestamp-format.standard",
                "maxwell-json.encode.ignore-null-fields",
                "maxwell-json.encode.decimal-as-plain-number",
            ],
            ChangeFormat::Canal => &[
                "canal-json.ignore-parse-errors",
                "canal-json.timestamp-format.standard",
                "canal-json.encode.ignore-null-fields",
                "canal-json.encode.decimal-as-plain-number",
                CANAL_DATABASE,
                CANAL_TABLE,
            ],
        }
    }

    /// What a record says beside its rows, with its type: Flink's metadata keys, without the `value.` of Kafka tables.
    pub fn metadata(self) -> Vec<Field> {
        beside::fields(self)
    }
}

const CANAL_DATABASE: &str = "canal-json.database.include";
const CANAL_TABLE: &str = "canal-json.table.include";

/// The options of such a format, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeOptions {
    pub format: ChangeFormat,
    pub json: JsonOptions,
    /// `debezium-json.schema-include`, default false: the record is `{"schema": …, "payload": {…}}`.
    pub schema_include: bool,
    /// `canal-json.database.include`, `.table.include`: regular expressions for whole names. Records of others are passed over.
    pub database: Option<String>,
    pub table: Option<String>,
}

impl ChangeOptions {
    pub fn parse(format: ChangeFormat, options: &BTreeMap<String, String>) -> Result<ChangeOptions> {
        let pattern = |key: &str| -> Result<Option<String>> {
            let Some(text) = options.get(key).filter(|_| format == ChangeFormat::Canal) else { return Ok(None) };
            whole(text).map_err(|e| {
                let why = e.to_string().lines().last().unwrap_or_default().trim().to_owned();
                Error::sql(format!("'{key}' is no regular expression: {why}")).remedy("write for example 'shop_.*'")
            })?;
            Ok(Some(text.clone()))
        };
        let schema_include = match format {
            ChangeFormat::Debezium => flag(options, "debezium-json.schema-include")?.unwrap_or(false),
            _ => false,
        };
        Ok(ChangeOptions {
            format,
            json: JsonOptions::parse(format.name(), options)?,
            schema_include,
            database: pattern(CANAL_DATABASE)?,
            table: pattern(CANAL_TABLE)?,
        })
    }
}

/// A regular expression that has to match the whole of a name.
fn whole(pattern: &str) -> std::result::Result<Regex, regex::Error> {
    Regex::new(&format!("^(?:{pattern})$"))
}

#[cfg(test)]
mod tests;
