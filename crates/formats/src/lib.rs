//! Bytes to batches and back, and nothing else: no file is opened here, no thread started, no clock read.
//!
//! ```text
//!  bytes ──▶ Decoder ──▶ RecordBatch + rows that could not be read
//!  Batch ──▶ Encoder ──▶ bytes
//! ```
//!
//! A text decoder is given what has arrived and takes whole records from its front, at most so many rows; what it
//! leaves is given again together with what comes next. So how the bytes were cut on their way never shows in the
//! rows. It works in columns. Only where that fails for a piece of the input is this piece looked at row by row, so
//! that every bad row is found with its line, the reason and its bytes, and the rest is still read.
//!
//! Always true:
//! - Every record of the input becomes a row, a bad row, a counted omission, or an error. None vanishes. In formats of
//!   [`changes`] a record is several rows, or says that there is nothing to tell.
//! - What becomes of a record depends on the record alone, not on its neighbours and not on the cuts.
//! - A record is at most [`RECORD_BYTES_MAX`] long; what is longer is a bad row.
//!
//! A record of [`avro`] is no text, but its files are a stream all the same: of blocks.
//!
//! Parquet is not a stream of records and has an interface of its own, in [`parquet`]; messages, each of which is a record
//! by itself, have theirs in [`records`].

pub mod avro;
pub mod bad;
pub mod changes;
mod columns;
pub mod csv;
pub mod fuzz;
pub mod json;
mod lines;
pub mod options;
pub mod parquet;
pub mod protobuf;
pub mod raw;
pub mod records;
pub mod registry;
pub mod text;
pub mod types;

pub use bad::OnBadRow;
pub use options::{Format, FormatOptions};

use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use millstream_core::{BadRow, Batch, Result};
use serde::{Deserialize, Serialize};

/// The longest record that a text decoder takes, in bytes. Bounds what is held back while its end is awaited.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Takes records from the front of bytes.
pub trait Decoder: Send {
    /// The columns of the rows: those of the declared schema that were asked for, in that order.
    fn schema(&self) -> &SchemaRef;

    /// A new file begins; `name` is how messages call it. What is known of the former file is forgotten.
    fn start(&mut self, name: &str);

    /// Decodes whole records from the front of `bytes`, at most `rows_max`. `last`: nothing follows in this file, so
    /// the last record needs no line end. Where [`Decoded::consumed`] is 0 and there is no row and no bad one, more bytes are
    /// needed; with `last` and bytes left that never is. Rows without bytes come of a block that has more of them.
    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<Decoded>;

    /// Where the decoder stands. With the number of bytes consumed since the file began it is a position: a decoder
    /// that is resumed there and given the bytes behind it reads what this one would have read.
    fn mark(&self) -> Mark;

    /// In place of [`start`](Decoder::start): goes on inside a file whose messages call it `name`. The columns that are
    /// read may be others than those of the decoder that gave the mark.
    fn resume(&mut self, name: &str, mark: &Mark) -> Result<()>;
}

/// What a decoder knows of a file behind which it stands, but for how many bytes that was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The line on which the next record begins, from 1.
    pub line: u64,
    /// The byte order mark has been passed, or seen to be absent.
    pub begun: bool,
    /// What there is of a header has been read.
    #[serde(default)]
    pub header_read: bool,
    /// The names in the header, where columns go by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Vec<String>>,
    /// In the middle of a record that is too long: its line is passed over to its end.
    #[serde(default)]
    pub skipping: bool,
    /// What the header of a file of Avro says. `line` is then the record that comes next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avro: Option<Box<avro::AvroMark>>,
}

/// What became of the front of the bytes.
#[derive(Debug)]
pub struct Decoded {
    pub rows: RecordBatch,
    /// What each row does, as [`ChangeKind`](millstream_core::ChangeKind) codes; `None`: every row is an insert.
    pub kinds: Option<Int8Array>,
    /// Rows set aside; empty unless the decoder was told to ([`OnBadRow::SetAside`]).
    pub bad: Vec<BadRow>,
    /// Rows and fields left out because the table's options say so.
    pub skipped: u64,
    /// How many bytes are done with.
    pub consumed: usize,
}

/// Writes rows as text, one after the other.
pub trait Encoder: Send {
    /// What stands before the first row of every file, such as a header.
    fn start(&mut self, out: &mut Vec<u8>) -> Result<()>;

    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()>;

    /// Writes what is held back to make larger pieces of it. Before the end of a file, and where readers wait.
    fn drain(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// The decoder of a text format, for the columns `projection` of `schema`.
pub fn decoder(
    options: &FormatOptions,
    schema: &SchemaRef,
    projection: &[usize],
    on_bad_row: OnBadRow,
) -> Result<Box<dyn Decoder>> {
    decoder_beyond(options, schema, projection, &changes::Beyond::default(), on_bad_row)
}

/// The same, with what only formats of changes give.
pub fn decoder_beyond(
    options: &FormatOptions,
    schema: &SchemaRef,
    projection: &[usize],
    beyond: &changes::Beyond,
    on_bad_row: OnBadRow,
) -> Result<Box<dyn Decoder>> {
    match options {
        FormatOptions::Csv(csv) => {
            Ok(Box::new(csv::CsvDecoder::new(csv.clone(), schema.clone(), projection, on_bad_row)?))
        }
        FormatOptions::Json(json) => {
            Ok(Box::new(json::JsonDecoder::new(json.clone(), schema, projection, on_bad_row)?))
        }
        FormatOptions::Changes(o) => {
            Ok(Box::new(changes::ChangesDecoder::new(o, schema, projection, beyond, on_bad_row)?))
        }
        FormatOptions::Avro(_) => Ok(Box::new(avro::AvroDecoder::new(schema, projection, on_bad_row)?)),
        FormatOptions::Parquet(_) => {
            Err(millstream_core::Error::internal("Parquet is read from files, not from a stream"))
        }
    }
}

/// The encoder of a text format.
pub fn encoder(options: &FormatOptions, schema: &SchemaRef) -> Result<Box<dyn Encoder>> {
    match options {
        FormatOptions::Csv(csv) => Ok(Box::new(csv::CsvEncoder::new(csv.clone(), schema.clone()))),
        FormatOptions::Json(json) => Ok(Box::new(json::JsonEncoder::new(json.clone(), schema.clone()))),
        FormatOptions::Changes(o) => Ok(Box::new(changes::ChangesEncoder::new(o, schema.clone()))),
        FormatOptions::Avro(o) => Ok(Box::new(avro::AvroEncoder::new(o, schema)?)),
        FormatOptions::Parquet(_) => {
            Err(millstream_core::Error::internal("Parquet is written to files, not to a stream"))
        }
    }
}
