//! How fast files are decoded: bids written as CSV, JSON lines, Avro, Protobuf and Parquet, read back column by column.
//!
//! Protobuf is a format of records: its file is one record behind the other, and where each begins is known, as a broker knows it.
//! Text, Avro and records are decoded out of memory, so that no disk is timed; Parquet out of a file that was just written, which the
//! system still holds. MB are those of the file (10^6 bytes), seconds those of the CPU, on one thread.

use crate::data::{bid_schema, generate};
use crate::loops::out::checksum;
use crate::measure::{median, timed};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, Result};
use millstream_formats::avro::{AvroOptions, Codec};
use millstream_formats::changes::{ChangeFormat, ChangeOptions};
use millstream_formats::options::{Compression, CsvOptions, JsonOptions, ParquetOptions};
use millstream_formats::parquet::{ParquetReader, ParquetWriter};
use millstream_formats::protobuf::Files;
use millstream_formats::records::{RECORDS_MAX, RecordOptions};
use millstream_formats::{FormatOptions, OnBadRow, decoder, encoder};
use serde::Serialize;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows asked for at once: what a source asks for.
const BATCH_ROWS: usize = 8192;
/// Bytes handed to a text decoder at once.
const READ_BYTES: usize = 1 << 20;

/// How fast one format is, with all columns of the bids or with two of the seven.
#[derive(Debug, Clone, Serialize)]
pub struct FormatLine {
    pub name: &'static str,
    pub columns: usize,
    pub rows: u64,
    pub file_mb: f64,
    pub encode_mb_per_s: f64,
    pub decode_mb_per_s: f64,
    pub decode_ns_per_row: f64,
}

pub const HEAD: &str = "format            columns        rows   file MB   encode MB/s   decode MB/s   decode ns/row";

pub fn row(l: &FormatLine) -> String {
    format!(
        "{:<17} {:>7} {:>11} {:>9.1} {:>13.0} {:>13.0} {:>15.1}",
        l.name, l.columns, l.rows, l.file_mb, l.encode_mb_per_s, l.decode_mb_per_s, l.decode_ns_per_row
    )
}

/// A folder that goes when it is let go of.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Left behind in the folder for temporary files if that fails: nobody is misled by it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How bids are written.
enum Written {
    Files(FormatOptions),
    Records(RecordOptions),
}

/// The description of a bid.
struct Bid;

const BID: &str = "syntax = \"proto3\"; import \"google/protobuf/timestamp.proto\"; message Bid { int64 auction = 1; int64 bidder = 2;
    int64 price = 3; string channel = 4; string url = 5; google.protobuf.Timestamp dateTime = 6; string extra = 7; }";

impl Files for Bid {
    fn read(&self, path: &str) -> std::result::Result<Option<Vec<u8>>, String> {
        Ok((path == "bid.proto").then(|| BID.into()))
    }
}

/// Writes and reads `events` bids in each format, `reps` times, and hands each line to `tell`.
pub fn measure(events: usize, reps: usize, mut tell: impl FnMut(&FormatLine)) -> Result<Vec<FormatLine>> {
    let batches = generate(events, 100_000, None)?.collect::<Result<Vec<_>>>()?;
    let folder = Folder(std::env::temp_dir().join(format!("millstream-bench-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).map_err(|e| io(&folder.0, e))?;
    let avro = |codec| Written::Files(FormatOptions::Avro(AvroOptions { codec, ..AvroOptions::default() }));
    let parquet = |compression| Written::Files(FormatOptions::Parquet(ParquetOptions { compression }));
    let changes = FormatOptions::Changes(ChangeOptions::parse(ChangeFormat::Debezium, &Default::default())?);
    let described = [("protobuf.schema-file".to_owned(), "bid.proto".to_owned())].into();
    let mut lines = Vec::new();
    for (name, format) in [
        ("csv", Written::Files(FormatOptions::Csv(CsvOptions::default()))),
        ("json", Written::Files(FormatOptions::Json(JsonOptions::default()))),
        ("debezium-json", Written::Files(changes)),
        ("avro, plain", avro(Codec::Null)),
        ("avro, snappy", avro(Codec::Snappy)),
        ("protobuf", Written::Records(RecordOptions::parse_with("protobuf", "", &described, &Bid)?)),
        ("parquet, plain", parquet(Compression::None)),
        ("parquet, snappy", parquet(Compression::Snappy)),
        ("parquet, zstd", parquet(Compression::Zstd)),
    ] {
        let path = folder.0.join(name.replace(", ", "."));
        let (written, _, encode) = timed(|| match &format {
            Written::Files(format) => Ok((write(format, &batches, &path)?, Vec::new())),
            Written::Records(format) => write_records(format, &batches, &path),
        });
        let (bytes, ranges) = written?;
        let bytes = bytes as f64;
        for projection in [(0..bid_schema().fields().len()).collect::<Vec<_>>(), vec![0, 2]] {
            let mut expected = 0u64;
            for batch in &batches {
                expected = expected.wrapping_add(checksum(&batch.project(&projection)?)?);
            }
            let mut seconds = Vec::new();
            for rep in 0..=reps {
                let content = match format {
                    Written::Files(FormatOptions::Parquet(_)) => Vec::new(),
                    _ => std::fs::read(&path).map_err(|e| io(&path, e))?,
                };
                // The first run compares the rows and is not timed.
                let (got, _, cpu) = timed(|| match &format {
                    Written::Files(format) => read(format, &content, &path, &projection, rep == 0),
                    Written::Records(format) => read_records(format, &content, &ranges, &projection, rep == 0),
                });
                let (rows, sum) = got?;
                if rows != events as u64 || (rep == 0 && sum != expected) {
                    return Err(Error::internal(format!("{name}: what was read is not what was written")));
                }
                if rep > 0 {
                    seconds.push(cpu);
                }
            }
            let decode = median(seconds);
            let line = FormatLine {
                name,
                columns: projection.len(),
                rows: events as u64,
                file_mb: bytes / 1e6,
                encode_mb_per_s: bytes / 1e6 / encode,
                decode_mb_per_s: bytes / 1e6 / decode,
                decode_ns_per_row: decode * 1e9 / events as f64,
            };
            tell(&line);
            lines.push(line);
        }
    }
    Ok(lines)
}

fn io(path: &Path, e: std::io::Error) -> Error {
    Error::io(format!("{}: {e}", path.display())).remedy("TMPDIR names the folder for temporary files")
}

/// Writes the batches and gives the size of the file.
fn write(format: &FormatOptions, batches: &[RecordBatch], path: &Path) -> Result<u64> {
    let mut file = File::create(path).map_err(|e| io(path, e))?;
    if let FormatOptions::Parquet(options) = format {
        let mut writer = ParquetWriter::new(file, bid_schema(), options)?;
        for batch in batches {
            writer.write(batch)?;
        }
        writer.finish()?;
    } else {
        let mut encoder = encoder(format, &bid_schema())?;
        let mut text = Vec::new();
        encoder.start(&mut text)?;
        for batch in batches {
            encoder.encode(&Batch::from(batch.clone()), &mut text)?;
            std::io::Write::write_all(&mut file, &text).map_err(|e| io(path, e))?;
            text.clear();
        }
        encoder.drain(&mut text)?;
        std::io::Write::write_all(&mut file, &text).map_err(|e| io(path, e))?;
    }
    Ok(std::fs::metadata(path).map_err(|e| io(path, e))?.len())
}

/// Where each of some records stands.
type Ranges = Vec<Option<Range<usize>>>;

/// Writes the batches as records, one behind the other with a byte between them; the size of the file, and where they stand.
fn write_records(format: &RecordOptions, batches: &[RecordBatch], path: &Path) -> Result<(u64, Ranges)> {
    let mut encoder = format.encoder(&bid_schema())?;
    let (mut laid, mut ranges) = (Vec::new(), Ranges::new());
    for batch in batches {
        for record in encoder.encode_records(batch, None)?.iter().flatten() {
            ranges.push(Some(laid.len()..laid.len() + record.len()));
            laid.extend_from_slice(record);
            laid.push(0);
        }
    }
    std::fs::write(path, &laid).map_err(|e| io(path, e))?;
    Ok((laid.len() as u64, ranges))
}

fn read_records(
    format: &RecordOptions,
    content: &[u8],
    ranges: &[Option<Range<usize>>],
    projection: &[usize],
    check: bool,
) -> Result<(u64, u64)> {
    let mut decoder = format.decoder(&bid_schema(), projection, OnBadRow::Fail)?;
    let (mut rows, mut sum) = (0, 0u64);
    for some in ranges.chunks(RECORDS_MAX.min(BATCH_ROWS)) {
        let read = decoder.decode_records(content, some)?.rows;
        rows += read.num_rows() as u64;
        if check {
            sum = sum.wrapping_add(checksum(&read)?);
        }
        std::hint::black_box(&read);
    }
    Ok((rows, sum))
}

/// Decodes all rows; their number and, if asked for, their checksum.
fn read(format: &FormatOptions, content: &[u8], path: &Path, projection: &[usize], check: bool) -> Result<(u64, u64)> {
    let (mut rows, mut sum) = (0, 0u64);
    let mut take = |batch: &RecordBatch| -> Result<()> {
        rows += batch.num_rows() as u64;
        if check {
            sum = sum.wrapping_add(checksum(batch)?);
        }
        std::hint::black_box(batch);
        Ok(())
    };
    if let FormatOptions::Parquet(_) = format {
        let schema: SchemaRef = Arc::new(bid_schema().project(projection)?);
        let file = File::open(path).map_err(|e| io(path, e))?;
        let mut reader = ParquetReader::open(file, "bids", &schema, 0, BATCH_ROWS)?;
        while let Some(batch) = reader.next_rows()? {
            take(&batch)?;
        }
    } else {
        let mut decoder = decoder(format, &bid_schema(), projection, OnBadRow::Fail)?;
        decoder.start("bids");
        let (mut from, mut window) = (0, READ_BYTES);
        while from < content.len() {
            let to = (from + window).min(content.len());
            let decoded = decoder.decode(&content[from..to], to == content.len(), BATCH_ROWS)?;
            from += decoded.consumed;
            // A record longer than what was handed over: hand over more.
            let nothing = decoded.consumed == 0 && decoded.rows.num_rows() == 0;
            window = if nothing { window * 2 } else { READ_BYTES };
            take(&decoded.rows)?;
        }
    }
    Ok((rows, sum))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_format_gives_back_what_was_written() {
        let lines = super::measure(20_000, 1, |_| ()).unwrap();
        // Nine formats, with all columns and with two.
        assert_eq!(lines.len(), 18);
        assert!(lines.iter().all(|l| l.file_mb > 0.1));
    }
}
