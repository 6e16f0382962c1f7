//! Pieces as Parquet: what a checkpoint's files hold, and any tool reads.
//!
//! Pieces of tables are kept for long and read by key: they are compressed well. Rows under way and outboxes are written with each
//! checkpoint, and are read, if ever, once and whole: for them little is done.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// Rows of one row group.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// Rows that are encoded before it is looked at how many bytes a file has.
const STEP_ROWS: usize = 8 << 10;

/// Rows of one batch read back.
const BATCH_ROWS: usize = 64 << 10;

/// The same where little may be held.
const SMALL_BATCH_ROWS: usize = 8 << 10;

/// Takes one whole file: its bytes and the number of its rows.
pub type Take<'a> = dyn FnMut(Vec<u8>, u64) -> Result<()> + 'a;

/// Makes files of rows. A file that has grown to so many bytes is handed on and another one begun:
/// what is held while writing is bounded by it. Deterministic: the same batches give the same bytes.
pub struct Encoder {
    schema: SchemaRef,
    file_bytes_max: usize,
    lasting: bool,
    writer: Option<ArrowWriter<Vec<u8>>>,
    rows: u64,
}

impl Encoder {
    /// For rows that are kept.
    pub fn new(schema: &SchemaRef, file_bytes_max: usize) -> Encoder {
        Encoder { schema: schema.clone(), file_bytes_max, lasting: true, writer: None, rows: 0 }
    }

    /// For rows that are gone with the next checkpoint.
    pub fn passing(schema: &SchemaRef, file_bytes_max: usize) -> Encoder {
        Encoder { lasting: false, ..Encoder::new(schema, file_bytes_max) }
    }

    pub fn push(&mut self, batch: &RecordBatch, take: &mut Take<'_>) -> Result<()> {
        for from in (0..batch.num_rows()).step_by(STEP_ROWS) {
            let rows = STEP_ROWS.min(batch.num_rows() - from);
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => {
                    let properties = if self.lasting { lasting() } else { passing() };
                    none.insert(
                        ArrowWriter::try_new(Vec::new(), self.schema.clone(), Some(properties)).map_err(failed)?,
                    )
                }
            };
            writer.write(&batch.slice(from, rows)).map_err(failed)?;
            self.rows += rows as u64;
            if writer.bytes_written() + writer.in_progress_size() >= self.file_bytes_max {
                self.finish(take)?;
            }
        }
        Ok(())
    }

    /// Hands on what has been begun.
    pub fn finish(&mut self, take: &mut Take<'_>) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        take(writer.into_inner().map_err(failed)?, std::mem::take(&mut self.rows))
    }
}

fn lasting() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}

/// To look each value up in a dictionary, and for the least and the greatest, costs more than to write it down.
fn passing() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}

fn failed(e: parquet::errors::ParquetError) -> Error {
    Error::internal(format!("rows of a checkpoint cannot be encoded: {e}"))
}

/// The rows of a file that an [`Encoder`] has made.
///
/// # Errors
/// The file is damaged or is none of ours; the caller knows its name.
pub fn decode(bytes: Vec<u8>) -> Result<Vec<RecordBatch>> {
    let reader = reader(bytes)?.with_batch_size(BATCH_ROWS).build().map_err(|e| damaged(&e))?;
    reader.map(|batch| batch.map_err(|e| damaged(&e))).collect()
}

/// The same, batch by batch; of the columns only those with these names, as far as the file has them.
pub fn decode_each(
    bytes: Vec<u8>,
    columns: Option<&[&str]>,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let mut reader = reader(bytes)?.with_batch_size(SMALL_BATCH_ROWS);
    if let Some(columns) = columns {
        let fields = reader.schema().fields().iter().enumerate();
        let wanted: Vec<usize> =
            fields.filter(|(_, f)| columns.contains(&f.name().as_str())).map(|(at, _)| at).collect();
        let mask = ProjectionMask::roots(reader.parquet_schema(), wanted);
        reader = reader.with_projection(mask);
    }
    let reader = reader.build().map_err(|e| damaged(&e))?;
    Ok(reader.map(|batch| batch.map_err(|e| damaged(&e))))
}

fn reader(bytes: Vec<u8>) -> Result<ParquetRecordBatchReaderBuilder<bytes::Bytes>> {
    ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(|e| damaged(&e))
}

fn damaged(e: &dyn std::fmt::Display) -> Error {
    Error::data(format!("the file is damaged or no Parquet file: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn rows(n: i64) -> RecordBatch {
        let text: ArrayRef = Arc::new(StringArray::from_iter((0..n).map(|i| (i % 3 > 0).then(|| format!("k{i}")))));
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(0..n)) as ArrayRef), ("k", text)])
            .expect("columns of one length")
    }

    /// The files that these rows give.
    fn files(batches: &[RecordBatch], file_bytes_max: usize) -> Vec<(Vec<u8>, u64)> {
        let mut files = Vec::new();
        let mut take = |bytes: Vec<u8>, rows: u64| -> Result<()> {
            files.push((bytes, rows));
            Ok(())
        };
        let mut encoder = Encoder::new(&batches[0].schema(), file_bytes_max);
        batches.iter().for_each(|batch| encoder.push(batch, &mut take).unwrap());
        encoder.finish(&mut take).unwrap();
        files
    }

    fn encode(batches: &[RecordBatch]) -> Vec<u8> {
        let mut files = files(batches, usize::MAX);
        assert_eq!(files.len(), 1);
        files.remove(0).0
    }

    #[test]
    fn rows_that_pass_come_back_as_those_that_stay() {
        let batches = [rows(1000), rows(3)];
        let mut encoder = Encoder::passing(&batches[0].schema(), usize::MAX);
        let mut file = Vec::new();
        let mut take = |bytes: Vec<u8>, _| -> Result<()> {
            file = bytes;
            Ok(())
        };
        batches.iter().for_each(|batch| encoder.push(batch, &mut take).unwrap());
        encoder.finish(&mut take).unwrap();
        assert_ne!(file, encode(&batches));
        assert_eq!(decode(file).unwrap(), decode(encode(&batches)).unwrap());
    }

    #[test]
    fn files_are_cut_where_they_have_grown() {
        let batches = [rows(300_000), rows(100_000)];
        let files = files(&batches, 200_000);
        assert!(files.len() > 3, "{} files", files.len());
        assert_eq!(files.iter().map(|f| f.1).sum::<u64>(), 400_000);
        let mut all = Vec::new();
        for (bytes, rows) in files {
            assert!(bytes.len() < 400_000, "{} bytes", bytes.len());
            let batches = decode(bytes.clone()).unwrap();
            assert_eq!(batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(), rows);
            let texts: Vec<RecordBatch> =
                decode_each(bytes, Some(&["k", "not there"])).unwrap().collect::<Result<_>>().unwrap();
            assert_eq!(
                texts.iter().map(|b| (b.num_rows() as u64, b.num_columns())).map(|(r, c)| r * c as u64).sum::<u64>(),
                rows
            );
            all.extend(batches);
        }
        let concat = |b: &[RecordBatch]| arrow::compute::concat_batches(&batches[0].schema(), b).unwrap();
        assert_eq!(concat(&all), concat(&batches));
    }

    #[test]
    fn rows_come_back_and_the_same_rows_give_the_same_bytes() {
        let batch = rows(1000);
        let bytes = encode(std::slice::from_ref(&batch));
        assert_eq!(bytes, encode(&[batch.slice(0, 400), batch.slice(400, 600)]));
        let back = decode(bytes).unwrap();
        assert_eq!(arrow::compute::concat_batches(&batch.schema(), &back).unwrap(), batch);
    }

    #[test]
    fn a_torn_file_is_an_error_wherever_it_is_torn() {
        let batch = rows(50);
        let bytes = encode(std::slice::from_ref(&batch));
        for at in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(decode(bytes[..at].to_vec()).is_err(), "torn at {at}");
        }
    }
}
