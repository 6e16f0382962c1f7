//! Avro's files: a header with the schema, then blocks of records, each packed by itself and closed by the file's mark.
//!
//! ```text
//!  Obj1 │ schema, codec │ mark │ count │ bytes │ packed records │ mark │ count │ …
//! ```
//!
//! A block is decoded when all of it has arrived; of one with more rows than are asked for, the rest comes with the next call,
//! and a position in between is the block's begin and how many of its records are done with. So a file can be gone on with at
//! any row, though a packed block has no middle.
//!
//! What is damaged costs as little as can be: a record that is read to its end and is no row costs itself; bytes that are not what
//! the schema says cost the rest of their block, since nothing tells where the next record begins; and where the blocks
//! themselves are damaged, the next mark is looked for. A header that cannot be read is an error whatever the table's options
//! say: without it the file has no rows.

use super::read::{Outcome, Rows, Writer};
use super::schema::Schema;
use super::wire::{Cursor, NOTHINGS_MAX, put_counted, put_long};
use super::{AvroOptions, Codec, parsed, schema_of, write};
use crate::bad::remedy;
use crate::registry::Registered;
use crate::{Decoded, Decoder, Encoder, Mark, OnBadRow};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema as Columns, SchemaRef};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use millstream_core::{BadRow, Batch, Error, Place, Result};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128_with_seed;

const MAGIC: &[u8; 4] = b"Obj\x01";
const MARK_BYTES: usize = 16;

/// The longest header that is read, its schema in it.
const HEADER_BYTES_MAX: usize = super::schema::SCHEMA_BYTES_MAX + (64 << 10);

/// The largest block that is read, packed or unpacked. Writers make them of 16 to 64 KB, some of a few MB.
const BLOCK_BYTES_MAX: usize = 64 << 20;

/// Records are gathered until they have this many bytes, unpacked, and then make a block: as Avro's own writer does.
const BLOCK_BYTES: usize = 64_000;

/// Bytes of blocks that become one batch, and bytes that symbols of enums may become.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Bytes of a bad block that are shown to whoever wants its rows set aside.
const RAW_BYTES_MAX: usize = 64 << 10;

/// Where in a file a decoder stands, beside the number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvroMark {
    pub schema: String,
    pub codec: String,
    pub mark: [u8; MARK_BYTES],
    /// Records of the block that begins here that are done with.
    #[serde(default)]
    pub done: u64,
}

/// What the header says.
struct Header {
    text: String,
    codec: Codec,
    mark: [u8; MARK_BYTES],
    writer: Writer,
}

/// A block that has arrived as a whole.
struct Block {
    /// Bytes of it in the file, its mark in them.
    length: usize,
    records: u64,
    done: u64,
    /// Unpacked, unless it is not packed; and where in it, or in the file's bytes, the next record begins.
    unpacked: Option<Vec<u8>>,
    at: usize,
    end: usize,
}

pub struct AvroDecoder {
    rows: Rows,
    on_bad_row: OnBadRow,
    file: String,
    header: Option<Header>,
    block: Option<Block>,
    /// Of the block that begins here, records that a former run has had.
    done: u64,
    /// The record that comes next, from 1.
    record: u64,
    /// The next mark is being looked for.
    lost: bool,
}

/// What is found at the front of the bytes.
enum Found {
    /// It is not all there.
    Part,
    Block(Block),
    Damaged(String),
}

/// What is gathered for one answer.
#[derive(Default)]
struct Answer {
    bad: Vec<BadRow>,
    skipped: u64,
}

impl AvroDecoder {
    pub fn new(schema: &SchemaRef, projection: &[usize], on_bad_row: OnBadRow) -> Result<AvroDecoder> {
        let wanted: Vec<_> = projection.iter().map(|&i| schema.field(i).clone()).collect();
        Ok(AvroDecoder {
            rows: Rows::new(&Arc::new(Columns::new(wanted)))?,
            on_bad_row,
            file: String::new(),
            header: None,
            block: None,
            done: 0,
            record: 1,
            lost: false,
        })
    }

    fn unreadable(&self, why: impl Into<String>, remedy: &str) -> Error {
        Error::data(why.into()).at(Place(self.file.clone())).remedy(remedy.to_owned())
    }

    fn header(&self, text: &str, codec: &str, mark: [u8; MARK_BYTES]) -> Result<Header> {
        let Some(known) = Codec::of(codec) else {
            let names = Codec::ALL.map(Codec::name).join(", ");
            return Err(self.unreadable(
                format!("the file is packed with '{codec}', which is not known here"),
                &format!("write it with one of {names}"),
            ));
        };
        let writer = Writer::new(&Registered::alone(text), None, self.rows.schema()).map_err(|why| {
            self.unreadable(
                why,
                "declare the table's columns as the file has them; what is not declared is passed over",
            )
        })?;
        Ok(Header { text: text.to_owned(), codec: known, mark, writer })
    }

    /// Reads the header from the front; its length, or `None`: more bytes are needed.
    fn open(&mut self, bytes: &[u8], last: bool) -> Result<Option<usize>> {
        const NOT_AVRO: &str = "name files of Avro only, or use the format that the file has";
        if bytes.is_empty() {
            return Ok(None);
        }
        let there = bytes.len().min(MAGIC.len());
        if bytes[..there] != MAGIC[..there] || (last && there < MAGIC.len()) {
            return Err(self.unreadable("the file is none of Avro: it does not begin with `Obj` and 1", NOT_AVRO));
        }
        let mut cursor = Cursor::new(bytes, MAGIC.len());
        match header_parts(&mut cursor) {
            Ok((schema, codec, mark)) => {
                let text = match schema.map(std::str::from_utf8) {
                    Some(Ok(text)) => text,
                    _ => return Err(self.unreadable("the file's header has no schema", NOT_AVRO)),
                };
                let codec = codec.map_or(Ok("null"), std::str::from_utf8).unwrap_or("?");
                self.header = Some(self.header(text, codec, mark)?);
                Ok(Some(cursor.at))
            }
            Err(super::wire::CUT_OFF) if !last && bytes.len() <= HEADER_BYTES_MAX => Ok(None),
            Err(super::wire::Damage(why)) => {
                Err(self
                    .unreadable(format!("the file's header cannot be read: {why}"), "check that the file is complete"))
            }
        }
    }

    /// What became bad: `why`, and its bytes.
    fn bad(&self, answer: &mut Answer, why: String, raw: &[u8]) -> Result<()> {
        let place = Place(format!("{}, record {}", self.file, self.record));
        match self.on_bad_row {
            OnBadRow::Fail => return Err(Error::data(why).at(place).remedy(remedy("record", "avro"))),
            OnBadRow::Skip => answer.skipped += 1,
            OnBadRow::SetAside => {
                let raw = raw[..raw.len().min(RAW_BYTES_MAX)].to_vec();
                answer.bad.push(BadRow { place, reason: why, raw });
            }
        }
        Ok(())
    }

    /// Reads records of the open block until there are `rows_max` rows; whether the block is done with.
    fn read_block(&mut self, bytes: &[u8], rows_max: usize, answer: &mut Answer) -> Result<bool> {
        let (Some(mut block), Some(header)) = (self.block.take(), self.header.take()) else { return Ok(true) };
        let unpacked = block.unpacked.take();
        let all = unpacked.as_deref().unwrap_or(bytes);
        let mut done = self.read_records(&header.writer, &all[..block.end], &mut block, rows_max, answer);
        if matches!(done, Ok(true)) && block.at < block.end {
            let more = block.end - block.at;
            let why = format!("{more} bytes of a block follow its last record");
            done = self.bad(answer, why, &all[block.at..block.end]).map(|()| true);
        }
        self.header = Some(header);
        if let Ok(false) = done {
            block.unpacked = unpacked;
            self.block = Some(block);
        }
        done
    }

    fn read_records(
        &mut self,
        writer: &Writer,
        bytes: &[u8],
        block: &mut Block,
        rows_max: usize,
        answer: &mut Answer,
    ) -> Result<bool> {
        let mut cursor = Cursor::new(bytes, block.at);
        while block.done < block.records {
            if self.rows.len() + answer.bad.len() >= rows_max || self.rows.bytes_made() >= BATCH_BYTES_MAX {
                return Ok(false);
            }
            let from = cursor.at;
            match self.rows.read(writer, &mut cursor) {
                // A former run has had it.
                Outcome::Row if block.done < self.done => self.rows.forget_last(),
                Outcome::Row => {}
                Outcome::Fault(_) | Outcome::Damaged(_) if block.done < self.done => {}
                Outcome::Fault(why) => self.bad(answer, why, &bytes[from..cursor.at])?,
                Outcome::Damaged(why) => {
                    let lost = block.records - block.done - 1;
                    let why = match lost {
                        0 => why,
                        n => format!("{why}; {n} records behind it in its block are lost with it"),
                    };
                    self.bad(answer, why, &bytes[from..])?;
                    self.record += lost + 1;
                    (block.done, block.at) = (block.records, block.end);
                    return Ok(true);
                }
            }
            block.done += 1;
            self.record += 1;
            block.at = cursor.at;
        }
        Ok(true)
    }

    /// Looks at what begins at the front.
    fn find(&self, header: &Header, bytes: &[u8], last: bool) -> Found {
        let cut = |reason: &str| match last {
            true => Found::Damaged(reason.to_owned()),
            false => Found::Part,
        };
        let mut cursor = Cursor::new(bytes, 0);
        let counts = cursor.long().and_then(|records| Ok((records, cursor.long()?)));
        let (records, packed) = match counts {
            Ok(counts) => counts,
            Err(super::wire::CUT_OFF) => return cut("the file ends in the middle of a block"),
            Err(super::wire::Damage(why)) => return Found::Damaged(format!("a block's head is damaged: {why}")),
        };
        let packed_bytes = usize::try_from(packed).ok().filter(|n| *n <= BLOCK_BYTES_MAX);
        let (Ok(records), Some(packed_bytes)) = (u64::try_from(records), packed_bytes) else {
            return Found::Damaged(format!(
                "a block claims {records} records in {packed} bytes, and at most {} MiB are read",
                BLOCK_BYTES_MAX >> 20
            ));
        };
        let (from, end) = (cursor.at, cursor.at + packed_bytes);
        let length = end + MARK_BYTES;
        if bytes.len() < length {
            return cut("the file ends in the middle of a block");
        }
        if bytes[end..length] != header.mark {
            return Found::Damaged("a block is not closed by the file's mark".into());
        }
        let block = match header.codec {
            Codec::Null => Block { length, records, done: 0, unpacked: None, at: from, end },
            codec => match unpack(codec, &bytes[from..end]) {
                Ok(unpacked) => {
                    let end = unpacked.len();
                    Block { length, records, done: 0, unpacked: Some(unpacked), at: 0, end }
                }
                Err(why) => return Found::Damaged(format!("a block cannot be unpacked: {why}")),
            },
        };
        let there = (block.end - block.at) as u64;
        if records > there + NOTHINGS_MAX {
            return Found::Damaged(format!("a block claims {records} records and has {there} bytes"));
        }
        Found::Block(block)
    }

    /// Behind damage: how many bytes are done with until the next mark, or as far as is known.
    fn look_for_mark(&mut self, header: &Header, bytes: &[u8], last: bool) -> usize {
        match memchr::memmem::find(bytes, &header.mark) {
            Some(at) => {
                self.lost = false;
                at + MARK_BYTES
            }
            None if last => bytes.len(),
            // A part of it may stand at the end.
            None => bytes.len().saturating_sub(MARK_BYTES - 1),
        }
    }

    fn answer(&mut self, answer: Answer, consumed: usize) -> Result<Decoded> {
        let Answer { bad, skipped } = answer;
        Ok(Decoded { rows: self.rows.finish()?, kinds: None, bad, skipped, consumed })
    }
}

/// What a header says: schema, codec, mark.
type Parts<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, [u8; MARK_BYTES]);

fn header_parts<'a>(cursor: &mut Cursor<'a>) -> std::result::Result<Parts<'a>, super::wire::Damage> {
    let (mut schema, mut codec) = (None, None);
    loop {
        let count = cursor.block()?;
        if count == 0 {
            break;
        }
        // Each entry is at least two bytes, so the count is bounded by what is there.
        for _ in 0..count {
            let (key, value) = (cursor.counted()?, cursor.counted()?);
            match key {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = Some(value),
                _ => {}
            }
        }
    }
    let mark = cursor.take(MARK_BYTES)?.try_into().expect("sixteen were taken");
    Ok((schema, codec, mark))
}

impl Decoder for AvroDecoder {
    fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    fn start(&mut self, name: &str) {
        self.file = name.to_owned();
        (self.header, self.block) = (None, None);
        (self.done, self.record, self.lost) = (0, 1, false);
    }

    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<Decoded> {
        let (mut answer, mut consumed) = (Answer::default(), 0);
        if self.header.is_none() {
            return match self.open(bytes, last)? {
                Some(length) => self.answer(answer, length),
                None => self.answer(answer, 0),
            };
        }
        let rows_max = rows_max.max(1);
        while consumed < bytes.len() && consumed < BATCH_BYTES_MAX {
            let rest = &bytes[consumed..];
            if self.block.is_none() {
                let header = self.header.take().expect("looked at before");
                let found = match self.lost {
                    true => {
                        let passed = self.look_for_mark(&header, rest, last);
                        self.header = Some(header);
                        consumed += passed;
                        if passed == 0 || self.lost {
                            break;
                        }
                        continue;
                    }
                    false => self.find(&header, rest, last),
                };
                self.header = Some(header);
                match found {
                    Found::Part => break,
                    Found::Block(block) => self.block = Some(block),
                    Found::Damaged(why) => {
                        self.bad(&mut answer, why, rest)?;
                        // At least one byte on, since a mark may be what stands here.
                        (self.lost, self.done) = (true, 0);
                        consumed += 1;
                        continue;
                    }
                }
            }
            let length = self.block.as_ref().map_or(0, |b| b.length);
            if !self.read_block(rest, rows_max, &mut answer)? {
                break;
            }
            self.done = 0;
            consumed += length;
            if self.rows.len() + answer.bad.len() >= rows_max {
                break;
            }
        }
        self.answer(answer, consumed)
    }

    fn mark(&self) -> Mark {
        let done = self.block.as_ref().map_or(self.done, |b| b.done);
        let avro = self.header.as_ref().map(|h| {
            Box::new(AvroMark { schema: h.text.clone(), codec: h.codec.name().to_owned(), mark: h.mark, done })
        });
        Mark { line: self.record, begun: avro.is_some(), skipping: self.lost, avro, ..Mark::default() }
    }

    fn resume(&mut self, name: &str, mark: &Mark) -> Result<()> {
        self.start(name);
        if let Some(AvroMark { schema, codec, mark: of_file, done }) = mark.avro.as_deref() {
            self.header = Some(self.header(schema, codec, *of_file)?);
            self.done = *done;
            self.record = mark.line.saturating_sub(*done).max(1);
            self.lost = mark.skipping;
        }
        Ok(())
    }
}

/// Unpacks a block, to at most [`BLOCK_BYTES_MAX`].
fn unpack(codec: Codec, packed: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let too_large = || format!("it has more than {} MiB", BLOCK_BYTES_MAX >> 20);
    let read = |input: &mut dyn Read| {
        let mut out = Vec::new();
        let read = input.take(BLOCK_BYTES_MAX as u64 + 1).read_to_end(&mut out).map_err(|e| e.to_string())?;
        if read > BLOCK_BYTES_MAX { Err(too_large()) } else { Ok(out) }
    };
    match codec {
        Codec::Null => Ok(packed.to_vec()),
        Codec::Deflate => read(&mut DeflateDecoder::new(packed)),
        Codec::Zstandard => read(&mut zstd::stream::read::Decoder::new(packed).map_err(|e| e.to_string())?),
        Codec::Snappy => {
            // The sum of the unpacked bytes stands behind them.
            let Some((packed, sum)) = packed.split_last_chunk::<4>() else { return Err("it is too short".into()) };
            let length = snap::raw::decompress_len(packed).map_err(|e| e.to_string())?;
            if length > BLOCK_BYTES_MAX {
                return Err(too_large());
            }
            let out = snap::raw::Decoder::new().decompress_vec(packed).map_err(|e| e.to_string())?;
            match crc32fast::hash(&out) == u32::from_be_bytes(*sum) {
                true => Ok(out),
                false => Err("its sum is wrong".into()),
            }
        }
    }
}

fn pack(codec: Codec, bytes: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("a block could not be packed: {e}"));
    match codec {
        Codec::Null => Ok(bytes.to_vec()),
        Codec::Deflate => {
            let mut out = DeflateEncoder::new(Vec::new(), Compression::default());
            out.write_all(bytes).map_err(|e| failed(&e))?;
            out.finish().map_err(|e| failed(&e))
        }
        Codec::Zstandard => zstd::stream::encode_all(bytes, 0).map_err(|e| failed(&e)),
        Codec::Snappy => {
            let mut out = snap::raw::Encoder::new().compress_vec(bytes).map_err(|e| failed(&e))?;
            out.extend_from_slice(&crc32fast::hash(bytes).to_be_bytes());
            Ok(out)
        }
    }
}

/// Writes a file of Avro.
pub struct AvroEncoder {
    text: String,
    schema: Arc<Schema>,
    codec: Codec,
    /// Of the file that is being written; set with its first block.
    mark: Option<[u8; MARK_BYTES]>,
    /// Records that are to become a block.
    records: u64,
    held: Vec<u8>,
}

impl AvroEncoder {
    pub fn new(options: &AvroOptions, schema: &SchemaRef) -> Result<AvroEncoder> {
        let text = schema_of(schema.fields(), options.legacy_timestamps)?;
        let schema = Arc::new(parsed(&text, "avro")?);
        Ok(AvroEncoder { text, schema, codec: options.codec, mark: None, records: 0, held: Vec::new() })
    }

    /// Writes what is held as a block, behind the header where there is none yet.
    fn end_block(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let mark = match self.mark {
            Some(mark) => mark,
            None => {
                // It must not stand in the records by chance. There is no chance here, so it is made of what is written.
                let of_schema = xxh3_128_with_seed(self.text.as_bytes(), 0) as u64;
                let mark = xxh3_128_with_seed(&self.held, of_schema).to_le_bytes();
                out.extend_from_slice(MAGIC);
                put_long(2, out);
                put_counted(b"avro.schema", out);
                put_counted(self.text.as_bytes(), out);
                put_counted(b"avro.codec", out);
                put_counted(self.codec.name().as_bytes(), out);
                put_long(0, out);
                out.extend_from_slice(&mark);
                self.mark = Some(mark);
                mark
            }
        };
        if self.records > 0 {
            let packed = pack(self.codec, &self.held)?;
            put_long(self.records as i64, out);
            put_counted(&packed, out);
            out.extend_from_slice(&mark);
        }
        self.records = 0;
        self.held.clear();
        Ok(())
    }

    fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let schema = self.schema.clone();
        let records = write::Records::new(&schema, rows)?;
        for row in 0..rows.num_rows() {
            records.write(row, &mut self.held).map_err(write::Unfit::error)?;
            self.records += 1;
            if self.held.len() >= BLOCK_BYTES {
                self.end_block(out)?;
            }
        }
        Ok(())
    }
}

impl Encoder for AvroEncoder {
    fn start(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        // The header is written with the first block.
        (self.mark, self.records) = (None, 0);
        self.held.clear();
        Ok(())
    }

    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.write(&batch.rows, out)
    }

    fn drain(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.records > 0 || self.mark.is_none() { self.end_block(out) } else { Ok(()) }
    }
}
