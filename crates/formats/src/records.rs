//! Rows that come and go one by one, each with an end of its own, as the messages of a log do.
//!
//! ```text
//!  record, record, record ──▶ RecordDecoder ──▶ RecordBatch + faults + which records gave no row
//!  RecordBatch            ──▶ RecordEncoder ──▶ a BinaryArray, one value for each row
//! ```
//!
//! A line of a file is found by what stands in it; a record is whole as it is, whatever it holds, and is exactly one row
//! or none. Only in formats of [`changes`](crate::changes) it may be several, each of which says what it does; then each row says
//! which record it came of. Where a record comes from only the caller knows, so faults come back as they are: the caller adds the place,
//! and does with them what the table's options say.
//!
//! Always true: without [`Records::changes`] each record is a row of the batch, or its number is in [`Records::left_out`].

use crate::avro::{
    self, AvroChangesDecoder, AvroChangesEncoder, AvroOptions, AvroRecordDecoder, AvroRecordEncoder, CONFLUENT,
    ConfluentOptions, DEBEZIUM_CONFLUENT,
};
use crate::bad::Fault;
use crate::changes::{Beyond, ChangeFormat, ChangeOptions, ChangesDecoder, ChangesEncoder};
use crate::csv::{CsvDecoder, CsvEncoder};
use crate::json::{JsonDecoder, JsonEncoder};
use crate::lines::too_long;
use crate::options::{CsvOptions, Header, JsonOptions};
use crate::protobuf::{
    Files, NoFiles, PROTOBUF, PROTOBUF_CONFLUENT, ProtobufDecoder, ProtobufEncoder, ProtobufOptions,
};
use crate::raw::{RawDecoder, RawEncoder, RawOptions};
use crate::{Format, FormatOptions, OnBadRow, RECORD_BYTES_MAX};
use arrow::array::{BinaryArray, Int8Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// The formats that records may have.
pub const NAMES: [&str; 11] = [
    "csv",
    "json",
    "raw",
    "avro",
    CONFLUENT,
    PROTOBUF,
    PROTOBUF_CONFLUENT,
    "debezium-json",
    DEBEZIUM_CONFLUENT,
    "maxwell-json",
    "canal-json",
];

/// Whether records of the format `name` say what has become of rows.
pub fn tells_changes(name: &str) -> bool {
    ChangeFormat::of(name).is_some() || name == DEBEZIUM_CONFLUENT
}

/// Reads records into columns.
pub trait RecordDecoder: Send {
    /// The columns of the rows: those of the declared schema that were asked for, in that order.
    fn columns(&self) -> &SchemaRef;

    /// Decodes `records`, which are at most [`RECORDS_MAX`] and stand in `bytes` in this order; between two of them is one
    /// byte that belongs to none. `None` is a record that is no bytes at all, not even zero of them.
    fn decode_records(&mut self, bytes: &[u8], records: &[Option<Range<usize>>]) -> Result<Records>;
}

/// Records that a decoder takes at a time.
pub const RECORDS_MAX: usize = 8192;

/// What became of some records.
#[derive(Debug)]
pub struct Records {
    pub rows: RecordBatch,
    /// What the rows do. `None`: each record but those left out is one new row.
    pub changes: Option<Changes>,
    /// Records that could not be read, by number, and why. With [`OnBadRow::Skip`] fields that could not be read have
    /// become NULL and are no fault.
    pub faults: Vec<(usize, String)>,
    /// Records that gave no row, ascending: the faults, and those that are no bytes where the format has no row for that. With
    /// `changes`, the faults alone: a record that had nothing to tell is in order.
    pub left_out: Vec<usize>,
    /// Fields that became NULL because they could not be read.
    pub skipped: u64,
}

/// Rows that say what they do.
#[derive(Debug)]
pub struct Changes {
    /// [`ChangeKind`](millstream_core::ChangeKind) codes, one for each row.
    pub kinds: Int8Array,
    /// The record that each row came of, ascending.
    pub of: Vec<u32>,
}

/// Reads each record by itself: those that are no row by their fault, and those that are nothing at all. `read` says why one is
/// none.
pub(crate) fn each_record(
    bytes: &[u8],
    records: &[Option<Range<usize>>],
    mut read: impl FnMut(&[u8]) -> Result<std::result::Result<(), String>>,
) -> Result<(Vec<Fault>, Vec<usize>)> {
    let (mut faults, mut nulls) = (Vec::new(), Vec::new());
    for (record, at) in records.iter().enumerate() {
        let Some(at) = at else {
            nulls.push(record);
            continue;
        };
        let reason = match &bytes[at.clone()] {
            long if long.len() > RECORD_BYTES_MAX => Some(too_long(record, 0, at.start).reason),
            one => read(one)?.err(),
        };
        faults.extend(reason.map(|reason| Fault { record, line: 0, reason, raw: at.clone() }));
    }
    Ok((faults, nulls))
}

impl Records {
    pub(crate) fn new(rows: RecordBatch, mut faults: Vec<Fault>, mut nulls: Vec<usize>, skipped: u64) -> Records {
        faults.sort_by_key(|f| f.record);
        nulls.extend(faults.iter().map(|f| f.record));
        nulls.sort_unstable();
        let faults = faults.into_iter().map(|f| (f.record, f.reason)).collect();
        Records { rows, changes: None, faults, left_out: nulls, skipped }
    }
}

/// Writes each row as a record.
pub trait RecordEncoder: Send {
    /// One value for each row; NULL where the row is no bytes at all. `kinds` says what the rows do; `None`: they are new. A format
    /// of rows passes it over.
    fn encode_records(&mut self, rows: &RecordBatch, kinds: Option<&Int8Array>) -> Result<BinaryArray>;
}

/// The options of a format of records, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordOptions {
    Csv(CsvOptions),
    Json(JsonOptions),
    Raw(RawOptions),
    Avro(AvroOptions),
    Confluent(ConfluentOptions),
    DebeziumConfluent(ConfluentOptions),
    Protobuf(ProtobufOptions),
    ProtobufConfluent(ProtobufOptions),
    Changes(ChangeOptions),
}

impl RecordOptions {
    /// Reads the options of the format `name`: all that begin with `prefix` (`key.`, `value.` or nothing).
    pub fn parse(name: &str, prefix: &str, options: &BTreeMap<String, String>) -> Result<RecordOptions> {
        RecordOptions::parse_with(name, prefix, options, &NoFiles)
    }

    /// The same, where options may name files.
    pub fn parse_with(
        name: &str,
        prefix: &str,
        options: &BTreeMap<String, String>,
        files: &dyn Files,
    ) -> Result<RecordOptions> {
        let mine: BTreeMap<String, String> = options
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
            .collect();
        let format = match name {
            "raw" => return Ok(RecordOptions::Raw(RawOptions::parse(&mine)?)),
            "avro" => return Ok(RecordOptions::Avro(AvroOptions::parse(&mine)?)),
            CONFLUENT => return Ok(RecordOptions::Confluent(ConfluentOptions::parse(CONFLUENT, &mine)?)),
            DEBEZIUM_CONFLUENT => {
                let options = ConfluentOptions::parse(DEBEZIUM_CONFLUENT, &mine)?;
                return Ok(RecordOptions::DebeziumConfluent(options));
            }
            PROTOBUF => return Ok(RecordOptions::Protobuf(ProtobufOptions::parse(PROTOBUF, &mine, files)?)),
            PROTOBUF_CONFLUENT => {
                let options = ProtobufOptions::parse(PROTOBUF_CONFLUENT, &mine, files)?;
                return Ok(RecordOptions::ProtobufConfluent(options));
            }
            "csv" => Format::Csv,
            "json" => Format::Json,
            _ => {
                if let Some(format) = ChangeFormat::of(name) {
                    return Ok(RecordOptions::Changes(ChangeOptions::parse(format, &mine)?));
                }
                let guess = did_you_mean(name, NAMES).map(|g| format!("did you mean '{g}'? ")).unwrap_or_default();
                return Err(Error::sql(format!("there is no format '{name}' for records"))
                    .remedy(format!("{guess}There are {}", NAMES.join(", "))));
            }
        };
        match FormatOptions::parse(format, &mine)? {
            FormatOptions::Csv(o) if o.header == Header::Yes => {
                Err(Error::sql(format!("'{prefix}csv.header' = 'true': a record has no room for a header"))
                    .remedy("leave it out: columns go by their position"))
            }
            FormatOptions::Csv(o) => Ok(RecordOptions::Csv(o)),
            FormatOptions::Json(o) => Ok(RecordOptions::Json(o)),
            FormatOptions::Changes(o) => Ok(RecordOptions::Changes(o)),
            FormatOptions::Avro(o) => Ok(RecordOptions::Avro(o)),
            FormatOptions::Parquet(_) => Err(Error::internal("Parquet is no format of records")),
        }
    }

    /// The option keys of the format `name`, without a prefix.
    pub fn keys(name: &str) -> &'static [&'static str] {
        match name {
            "raw" => &["raw.charset", "raw.endianness"],
            "csv" => Format::Csv.keys(),
            "json" => Format::Json.keys(),
            "avro" => Format::Avro.keys(),
            CONFLUENT | DEBEZIUM_CONFLUENT => ConfluentOptions::keys(name),
            PROTOBUF | PROTOBUF_CONFLUENT => ProtobufOptions::keys(name),
            _ => ChangeFormat::of(name).map_or(&[], ChangeFormat::keys),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            RecordOptions::Csv(_) => "csv",
            RecordOptions::Json(_) => "json",
            RecordOptions::Raw(_) => "raw",
            RecordOptions::Avro(_) => "avro",
            RecordOptions::Confluent(_) => CONFLUENT,
            RecordOptions::DebeziumConfluent(_) => DEBEZIUM_CONFLUENT,
            RecordOptions::Protobuf(_) => PROTOBUF,
            RecordOptions::ProtobufConfluent(_) => PROTOBUF_CONFLUENT,
            RecordOptions::Changes(o) => o.format.name(),
        }
    }

    /// Whether the table asks for what cannot be read to be left out.
    pub fn ignores_errors(&self) -> bool {
        match self {
            RecordOptions::Csv(o) => o.ignore_parse_errors,
            RecordOptions::Json(o) => o.ignore_parse_errors,
            RecordOptions::Raw(_) => false,
            RecordOptions::Avro(o) => o.ignore_parse_errors,
            RecordOptions::Confluent(o) | RecordOptions::DebeziumConfluent(o) => o.ignore_parse_errors,
            RecordOptions::Protobuf(o) | RecordOptions::ProtobufConfluent(o) => o.ignore_parse_errors,
            RecordOptions::Changes(o) => o.json.ignore_parse_errors,
        }
    }

    /// Whether its records say what has become of rows.
    pub fn tells_changes(&self) -> bool {
        matches!(self, RecordOptions::Changes(_) | RecordOptions::DebeziumConfluent(_))
    }

    /// The schema that records of rows of these columns are written with, where it has a number.
    pub fn numbered_schema(&self, declared: &SchemaRef) -> Result<Option<String>> {
        match self {
            RecordOptions::Confluent(o) => o.schema_text(declared).map(Some),
            RecordOptions::DebeziumConfluent(o) => o.schema_text(&avro::envelope(declared.fields())).map(Some),
            RecordOptions::ProtobufConfluent(o) => o.schema_text().map(Some),
            _ => Ok(None),
        }
    }

    /// Whether its records name their schemas by numbers.
    pub fn asks_for_schemas(&self) -> bool {
        matches!(
            self,
            RecordOptions::Confluent(_) | RecordOptions::DebeziumConfluent(_) | RecordOptions::ProtobufConfluent(_)
        )
    }

    /// Checks that the format can hold these columns.
    pub fn check(&self, schema: &SchemaRef) -> Result<()> {
        match self {
            RecordOptions::Raw(_) => crate::raw::check(schema),
            RecordOptions::Avro(_) => avro::check(schema.fields()),
            RecordOptions::Confluent(_) | RecordOptions::DebeziumConfluent(_) => avro::check_types(schema.fields()),
            RecordOptions::Protobuf(o) | RecordOptions::ProtobufConfluent(o) => o.check(schema),
            _ => Ok(()),
        }
    }

    /// Checks that rows of these columns can be written.
    pub fn check_written(&self, schema: &SchemaRef) -> Result<()> {
        match self {
            RecordOptions::Confluent(o) => o.check_written(schema),
            RecordOptions::DebeziumConfluent(o) => o.check_written(&avro::envelope(schema.fields())),
            RecordOptions::Protobuf(o) | RecordOptions::ProtobufConfluent(o) => o.check_written(schema),
            RecordOptions::Raw(_) | RecordOptions::Avro(_) => self.check(schema),
            _ => crate::json::check_written(schema.fields()),
        }
    }

    /// The decoder for the columns `projection` of `schema`.
    pub fn decoder(
        &self,
        schema: &SchemaRef,
        projection: &[usize],
        on_bad_row: OnBadRow,
    ) -> Result<Box<dyn RecordDecoder>> {
        self.decoder_beyond(schema, projection, &Beyond::default(), on_bad_row)
    }

    /// The same, with what only formats of changes give, and who knows schemas by their numbers.
    pub fn decoder_beyond(
        &self,
        schema: &SchemaRef,
        projection: &[usize],
        beyond: &Beyond,
        on_bad_row: OnBadRow,
    ) -> Result<Box<dyn RecordDecoder>> {
        let schemas = || {
            let known = beyond.schemas.clone();
            known.ok_or_else(|| Error::internal("records with numbers, and nobody who knows them"))
        };
        Ok(match self {
            RecordOptions::Changes(o) => Box::new(ChangesDecoder::new(o, schema, projection, beyond, on_bad_row)?),
            RecordOptions::Csv(o) => {
                // Every record is a row, whatever it holds.
                let options = CsvOptions { header: Header::No, ..o.clone() };
                Box::new(CsvDecoder::new(options, schema.clone(), projection, on_bad_row)?)
            }
            RecordOptions::Json(o) => Box::new(JsonDecoder::new(o.clone(), schema, projection, on_bad_row)?),
            RecordOptions::Raw(o) => Box::new(RawDecoder::new(o.clone(), schema, projection)?),
            RecordOptions::Avro(o) => Box::new(AvroRecordDecoder::plain(o, schema, projection)?),
            RecordOptions::Confluent(o) => Box::new(AvroRecordDecoder::numbered(o, schemas()?, schema, projection)?),
            RecordOptions::DebeziumConfluent(o) => {
                Box::new(AvroChangesDecoder::new(o, schemas()?, schema, projection, beyond)?)
            }
            RecordOptions::Protobuf(o) => Box::new(ProtobufDecoder::plain(o, schema, projection)?),
            RecordOptions::ProtobufConfluent(o) => {
                Box::new(ProtobufDecoder::numbered(o, schemas()?, schema, projection)?)
            }
        })
    }

    /// The encoder of rows of these columns.
    pub fn encoder(&self, schema: &SchemaRef) -> Result<Box<dyn RecordEncoder>> {
        self.encoder_as(schema, None)
    }

    /// The same, for records that name their schema by the number `id`. `schema`: as the table declares it, whatever may be NULL in
    /// the rows.
    pub fn encoder_as(&self, schema: &SchemaRef, id: Option<u32>) -> Result<Box<dyn RecordEncoder>> {
        self.check(schema)?;
        let number = || id.ok_or_else(|| Error::internal("a schema without its number"));
        Ok(match self {
            RecordOptions::Csv(o) => Box::new(CsvEncoder::new(o.clone(), schema.clone())),
            RecordOptions::Json(o) => Box::new(JsonEncoder::new(o.clone(), schema.clone())),
            RecordOptions::Raw(o) => Box::new(RawEncoder::new(o.clone())),
            RecordOptions::Avro(o) => Box::new(AvroRecordEncoder::plain(o, schema)?),
            RecordOptions::Confluent(o) => Box::new(AvroRecordEncoder::numbered(o, schema, number()?)?),
            RecordOptions::DebeziumConfluent(o) => Box::new(AvroChangesEncoder::new(o, schema, number()?)?),
            RecordOptions::Protobuf(o) => Box::new(ProtobufEncoder::new(o, schema, None)?),
            RecordOptions::ProtobufConfluent(o) => Box::new(ProtobufEncoder::new(o, schema, Some(number()?))?),
            RecordOptions::Changes(o) => Box::new(ChangesEncoder::new(o, schema.clone())),
        })
    }
}

#[cfg(test)]
mod tests;
