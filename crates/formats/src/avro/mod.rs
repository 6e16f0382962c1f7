//! Avro: files that carry their schema, records that do not, and records that name it by a number (Confluent's registry).
//!
//! ```text
//!  avro, files      container: schema, blocks of records ─┐
//!  avro, records    the table's own schema ───────────────┼─▶ resolve: writer's fields ⇄ columns ─▶ read ─▶ columns
//!  avro-confluent   0, id (4 bytes), record ──▶ schemas ──┘     once for each schema               value by value
//! ```
//!
//! Records become columns by our own reader and not by Arrow's (`arrow-avro`), for three reasons. A record that is bad leaves half
//! a row in that one's builders and does not say in which field; it wants the names of records to agree, which a table does not
//! have; and what an array claims to hold without bytes is made. Here a bad record is taken back, the rest of a batch stays, and
//! what is held is bounded by the bytes that are there.
//!
//! Always true:
//! - A field that no column wants is passed over, not decoded.
//! - A record leaves a whole row or nothing.
//! - A file's rows do not depend on how its bytes were cut: blocks are whole when they are looked at.
//!
mod changes;
mod container;
mod derive;
mod message;
mod read;
mod resolve;
mod schema;
mod wire;
mod write;

pub use changes::{AvroChangesDecoder, AvroChangesEncoder, envelope};
pub use container::{AvroDecoder, AvroEncoder, AvroMark};
pub use derive::schema_of;
pub(crate) use message::goes;
pub use message::{AvroRecordDecoder, AvroRecordEncoder};

use crate::options::flag;
use arrow::datatypes::{Fields, SchemaRef};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the blocks of a file are packed. Flink's default is snappy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    Null,
    Deflate,
    #[default]
    Snappy,
    Zstandard,
}

impl Codec {
    const ALL: [Codec; 4] = [Codec::Null, Codec::Deflate, Codec::Snappy, Codec::Zstandard];

    /// As a file's header names it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Null => "null",
            Codec::Deflate => "deflate",
            Codec::Snappy => "snappy",
            Codec::Zstandard => "zstandard",
        }
    }

    pub fn of(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// The options of `avro`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvroOptions {
    /// `avro.codec`, for files that are written. Files say themselves how they are packed.
    pub codec: Codec,
    /// `avro.timestamp_mapping.legacy`, default true: TIMESTAMP is written as `timestamp-…`; else as `local-timestamp-…`.
    pub legacy_timestamps: bool,
    /// `avro.ignore-parse-errors`, our own, default false: records that cannot be read are left out.
    pub ignore_parse_errors: bool,
}

impl Default for AvroOptions {
    fn default() -> AvroOptions {
        AvroOptions { codec: Codec::default(), legacy_timestamps: true, ignore_parse_errors: false }
    }
}

impl AvroOptions {
    pub const KEYS: [&'static str; 4] =
        ["avro.codec", "avro.encoding", "avro.ignore-parse-errors", "avro.timestamp_mapping.legacy"];

    pub fn parse(options: &BTreeMap<String, String>) -> Result<AvroOptions> {
        let codec = match options.get("avro.codec").map(String::as_str) {
            None => Codec::default(),
            Some(name) => Codec::of(name).ok_or_else(|| {
                let names = Codec::ALL.map(Codec::name);
                let guess = did_you_mean(name, names).map(|g| format!("did you mean '{g}'? ")).unwrap_or_default();
                Error::sql(format!("'avro.codec' cannot be '{name}'"))
                    .remedy(format!("{guess}There are {}", names.join(", ")))
            })?,
        };
        match options.get("avro.encoding").map(String::as_str) {
            None | Some("binary") => {}
            Some(other) => {
                return Err(Error::sql(format!("'avro.encoding' cannot be '{other}'"))
                    .remedy("use 'binary'; for text there is 'format' = 'json'"));
            }
        }
        Ok(AvroOptions {
            codec,
            legacy_timestamps: flag(options, "avro.timestamp_mapping.legacy")?.unwrap_or(true),
            ignore_parse_errors: flag(options, "avro.ignore-parse-errors")?.unwrap_or(false),
        })
    }
}

/// The options of `avro-confluent` and `debezium-avro-confluent`, but for those of the registry itself, which are the connector's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfluentOptions {
    /// `avro-confluent` or `debezium-avro-confluent`, which begins the names of its options.
    pub name: &'static str,
    /// `avro-confluent.schema`: the schema that rows are written with, and that records are read as; else the table's columns
    /// make it.
    pub schema: Option<String>,
    /// `avro-confluent.ignore-parse-errors`, our own, default false.
    pub ignore_parse_errors: bool,
}

pub const CONFLUENT: &str = "avro-confluent";
/// The same of changes: see [`changes`].
pub const DEBEZIUM_CONFLUENT: &str = "debezium-avro-confluent";

macro_rules! keys {
    ($format:literal) => {
        &[
            concat!($format, ".url"),
            concat!($format, ".subject"),
            concat!($format, ".schema"),
            concat!($format, ".basic-auth.credentials-source"),
            concat!($format, ".basic-auth.user-info"),
            concat!($format, ".bearer-auth.credentials-source"),
            concat!($format, ".bearer-auth.token"),
            concat!($format, ".ssl.truststore.location"),
            concat!($format, ".ssl.truststore.password"),
            concat!($format, ".ssl.keystore.location"),
            concat!($format, ".ssl.keystore.password"),
            concat!($format, ".properties.auto.register.schemas"),
            concat!($format, ".ignore-parse-errors"),
        ]
    };
}

impl ConfluentOptions {
    /// The option keys of such a format.
    pub fn keys(name: &str) -> &'static [&'static str] {
        if name == CONFLUENT { keys!("avro-confluent") } else { keys!("debezium-avro-confluent") }
    }

    pub fn parse(name: &'static str, options: &BTreeMap<String, String>) -> Result<ConfluentOptions> {
        let ignore = flag(options, &format!("{name}.ignore-parse-errors"))?.unwrap_or(false);
        let schema = options.get(&format!("{name}.schema")).cloned();
        let parsed = ConfluentOptions { name, schema, ignore_parse_errors: ignore };
        parsed.reader()?;
        Ok(parsed)
    }

    /// The schema that rows of these columns are written with, as JSON.
    pub fn schema_text(&self, columns: &SchemaRef) -> Result<String> {
        match &self.schema {
            Some(text) => Ok(text.clone()),
            None => schema_of(columns.fields(), true),
        }
    }

    /// That rows of these columns can be written.
    pub fn check_written(&self, columns: &SchemaRef) -> Result<()> {
        let schema = parsed(&self.schema_text(columns)?, self.name)?;
        // What may not be NULL is found row by row.
        write::check(&schema, columns.fields())
    }

    fn reader(&self) -> Result<Option<Arc<schema::Schema>>> {
        self.schema.as_deref().map(|text| parsed(text, self.name).map(Arc::new)).transpose()
    }
}

fn parsed(text: &str, format: &str) -> Result<schema::Schema> {
    schema::Schema::parse(text).map_err(|why| {
        Error::sql(format!("'{format}.schema': {why}"))
            .remedy("write a schema of Avro as JSON, such as that of a registry")
    })
}

/// That a schema can be made of these columns.
pub(crate) fn check(columns: &Fields) -> Result<()> {
    check_types(columns)?;
    schema_of(columns, true).map(drop)
}

/// That these columns can be read from records with schemas of their own.
pub(crate) fn check_types(columns: &Fields) -> Result<()> {
    crate::columns::check(columns, "Avro")
}

#[cfg(test)]
mod tests;
