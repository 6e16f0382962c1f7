//! How fast files are decoded: bids written as CSV, JSON lines, Avro and Parquet, read back column by column.
//!
//! Text and Avro are decoded out of memory, so that no disk is timed; Parquet out of a file that was just written, which the
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
use millstream_formats::{FormatOptions, OnBadRow, decoder, encoder};
use serde::Serialize;
use std::fs::File;
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

/// Writes and reads `events` bids in each format, `reps` times, and hands each line to `tell`.
pub fn measure(events: usize, reps: usize, mut tell: impl FnMut(&FormatLine)) -> Result<Vec<FormatLine>> {
    let batches = generate(events, 100_000, None)?.collect::<Result<Vec<_>>>()?;
    let folder = Folder(std::env::temp_dir().join(format!("millstream-bench-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).map_err(|e| io(&folder.0, e))?;
    let avro = |codec| FormatOptions::Avro(AvroOptions { codec, ..AvroOptions::default() });
    let parquet = |compression| FormatOptions::Parquet(ParquetOptions { compression });
    let mut lines = Vec::new();
    for (name, format) in [
        ("csv", FormatOptions::Csv(CsvOptions::default())),
        ("json", FormatOptions::Json(JsonOptions::default())),
        ("debezium-json", FormatOptions::Changes(ChangeOptions::parse(ChangeFormat::Debezium, &Default::default())?)),
        ("avro, plain", avro(Codec::Null)),
        ("avro, snappy", avro(Codec::Snappy)),
        ("parquet, plain", parquet(Compression::None)),
        ("parquet, snappy", parquet(Compression::Snappy)),
        ("parquet, zstd", parquet(Compression::Zstd)),
    ] {
        let path = folder.0.join(name.replace(", ", "."));
        let (written, _, encode) = timed(|| write(&format, &batches, &path));
        let bytes = written? as f64;
        for projection in [(0..bid_schema().fields().len()).collect::<Vec<_>>(), vec![0, 2]] {
            let mut expected = 0u64;
            for batch in &batches {
                expected = expected.wrapping_add(checksum(&batch.project(&projection)?)?);
            }
            let mut seconds = Vec::new();
            for rep in 0..=reps {
                let content = match format {
                    FormatOptions::Parquet(_) => Vec::new(),
                    _ => std::fs::read(&path).map_err(|e| io(&path, e))?,
                };
                // The first run compares the rows and is not timed.
                let (got, _, cpu) = timed(|| read(&format, &content, &path, &projection, rep == 0));
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
        // Eight formats, with all columns and with two.
        assert_eq!(lines.len(), 16);
        assert!(lines.iter().all(|l| l.file_mb > 0.1));
    }
}
