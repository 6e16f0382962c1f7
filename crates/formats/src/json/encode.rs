//! Rows as JSON lines.

use crate::Encoder;
use crate::options::JsonOptions;
use crate::text::{Column, Style, write_json_string};
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Result};

/// Writes one object for each row, with all columns, NULL as `null`.
pub struct JsonEncoder {
    style: Style,
    /// `{"a":`, `,"b":` and so on: what stands before each value.
    before: Vec<Vec<u8>>,
}

impl JsonEncoder {
    pub fn new(options: JsonOptions, schema: SchemaRef) -> JsonEncoder {
        let before = schema.fields().iter().enumerate().map(|(n, field)| {
            let mut text = if n == 0 { b"{".to_vec() } else { b",".to_vec() };
            write_json_string(field.name().as_bytes(), &mut text);
            text.push(b':');
            text
        });
        JsonEncoder { style: Style::Json { iso_8601: options.iso_8601 }, before: before.collect() }
    }
}

impl Encoder for JsonEncoder {
    fn start(&mut self, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        let columns = batch.rows.columns().iter().map(|c| Column::new(c.as_ref())).collect::<Result<Vec<_>>>()?;
        // Row by row, since that is what the format is.
        for row in 0..batch.len() {
            if columns.is_empty() {
                out.push(b'{');
            }
            for (before, column) in self.before.iter().zip(&columns) {
                out.extend_from_slice(before);
                column.write_inside(row, self.style, out);
            }
            out.extend_from_slice(b"}\n");
        }
        Ok(())
    }
}
