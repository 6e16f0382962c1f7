//! Rows and what they do, as records of changes.
//!
//! As in Flink, an update is two records: what it replaces is deleted, what it puts there is new. Who reads them as changes
//! has the same table in the end.

use super::{ChangeFormat, ChangeOptions};
use crate::Encoder;
use crate::json::JsonEncoder;
use crate::records::RecordEncoder;
use crate::text::Column;
use arrow::array::{BinaryArray, BinaryBuilder, Int8Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, ChangeKind, Result};

pub struct ChangesEncoder {
    row: JsonEncoder,
    /// What stands before and behind a row that is there, and one that is gone.
    there: (&'static str, &'static str),
    gone: (&'static str, &'static str),
}

impl ChangesEncoder {
    pub fn new(options: &ChangeOptions, schema: SchemaRef) -> ChangesEncoder {
        let (there, gone) = match (options.format, options.json.ignore_null_fields) {
            (ChangeFormat::Debezium, false) => {
                ((r#"{"before":null,"after":"#, r#","op":"c"}"#), (r#"{"before":"#, r#","after":null,"op":"d"}"#))
            }
            (ChangeFormat::Debezium, true) => ((r#"{"after":"#, r#","op":"c"}"#), (r#"{"before":"#, r#","op":"d"}"#)),
            (ChangeFormat::Maxwell, _) => {
                ((r#"{"data":"#, r#","type":"insert"}"#), (r#"{"data":"#, r#","type":"delete"}"#))
            }
            (ChangeFormat::Canal, _) => {
                ((r#"{"data":["#, r#"],"type":"INSERT"}"#), (r#"{"data":["#, r#"],"type":"DELETE"}"#))
            }
        };
        ChangesEncoder { row: JsonEncoder::new(options.json.clone(), schema), there, gone }
    }

    fn write(&self, columns: &[Column<'_>], kinds: Option<&Int8Array>, row: usize, out: &mut Vec<u8>) {
        let kind = kinds.map_or(ChangeKind::Insert, |kinds| ChangeKind::from_code(kinds.value(row)));
        let (before, behind) = match kind {
            ChangeKind::Insert | ChangeKind::UpdateAfter => self.there,
            ChangeKind::UpdateBefore | ChangeKind::Delete => self.gone,
        };
        out.extend_from_slice(before.as_bytes());
        self.row.write_row(columns, row, out);
        out.extend_from_slice(behind.as_bytes());
    }
}

impl Encoder for ChangesEncoder {
    fn start(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        let columns = batch.rows.columns().iter().map(|c| Column::new(c.as_ref())).collect::<Result<Vec<_>>>()?;
        // Row by row, since that is what the format is.
        for row in 0..batch.len() {
            self.write(&columns, batch.kinds.as_ref(), row, out);
            out.push(b'\n');
        }
        Ok(())
    }
}

impl RecordEncoder for ChangesEncoder {
    fn encode_records(&mut self, rows: &RecordBatch, kinds: Option<&Int8Array>) -> Result<BinaryArray> {
        let columns = rows.columns().iter().map(|c| Column::new(c.as_ref())).collect::<Result<Vec<_>>>()?;
        let mut out = BinaryBuilder::new();
        let mut record = Vec::new();
        for row in 0..rows.num_rows() {
            record.clear();
            self.write(&columns, kinds, row, &mut record);
            out.append_value(&record);
        }
        Ok(out.finish())
    }
}
