//! Pieces as Parquet: what a checkpoint's files hold, and any tool reads.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

/// Rows of one row group. What is held while writing is bounded by it.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// Rows of one batch read back.
const BATCH_ROWS: usize = 64 << 10;

/// A whole file with these rows, compressed with zstd. Deterministic: the same rows give the same bytes.
pub fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    Ok(encode_each(schema, batches.iter().cloned().map(Ok))?.0)
}

/// The same of rows that are read one batch after the other, and their number. An error is that of a batch.
pub fn encode_each(schema: &SchemaRef, batches: impl Iterator<Item = Result<RecordBatch>>) -> Result<(Vec<u8>, u64)> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let failed = |e| Error::internal(format!("rows of a checkpoint cannot be encoded: {e}"));
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties)).map_err(failed)?;
    let mut rows = 0;
    for batch in batches {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    Ok((bytes, rows))
}

/// The rows of a file that [`encode`] made.
///
/// # Errors
/// The file is damaged or is none of ours; the caller knows its name.
pub fn decode(bytes: Vec<u8>) -> Result<Vec<RecordBatch>> {
    let damaged = |e: String| Error::data(format!("the file is damaged or no Parquet file: {e}"));
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).map_err(|e| damaged(e.to_string()))?;
    let reader = reader.with_batch_size(BATCH_ROWS).build().map_err(|e| damaged(e.to_string()))?;
    reader.map(|batch| batch.map_err(|e| damaged(e.to_string()))).collect()
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

    #[test]
    fn rows_come_back_and_the_same_rows_give_the_same_bytes() {
        let batch = rows(1000);
        let bytes = encode(&batch.schema(), std::slice::from_ref(&batch)).unwrap();
        assert_eq!(bytes, encode(&batch.schema(), &[batch.slice(0, 400), batch.slice(400, 600)]).unwrap());
        let back = decode(bytes).unwrap();
        assert_eq!(arrow::compute::concat_batches(&batch.schema(), &back).unwrap(), batch);
    }

    #[test]
    fn a_torn_file_is_an_error_wherever_it_is_torn() {
        let batch = rows(50);
        let bytes = encode(&batch.schema(), std::slice::from_ref(&batch)).unwrap();
        for at in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(decode(bytes[..at].to_vec()).is_err(), "torn at {at}");
        }
    }
}
