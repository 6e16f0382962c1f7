//! Rows as JSON lines.

use crate::Encoder;
use crate::options::JsonOptions;
use crate::records::RecordEncoder;
use crate::text::{Column, Style, write_json_string};
use crate::types::sql_type;
use arrow::array::{BinaryArray, BinaryBuilder, Int8Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use millstream_core::multiset::element_of;
use millstream_core::{Batch, Error, Result};

/// Checks that rows of these columns can be written.
///
/// # Errors
/// A MULTISET of something else than texts: its values are the keys of an object.
pub fn check_written(columns: &Fields) -> Result<()> {
    fn other_keys(of: &DataType) -> Option<&DataType> {
        let fields: &[std::sync::Arc<Field>] = match of {
            multiset if element_of(multiset).is_some_and(|e| *e != DataType::Utf8) => return Some(multiset),
            DataType::List(inner) | DataType::Map(inner, _) => std::slice::from_ref(inner),
            DataType::Struct(fields) => fields,
            _ => return None,
        };
        fields.iter().find_map(|f| other_keys(f.data_type()))
    }
    for column in columns {
        if let Some(multiset) = other_keys(column.data_type()) {
            return Err(Error::sql(format!(
                "column `{}` holds a {}, and keys of JSON objects are text",
                column.name(),
                sql_type(multiset)
            ))
            .remedy("CAST the values AS STRING before they are collected, and declare MULTISET<STRING>"));
        }
    }
    Ok(())
}

/// Writes one object for each row, with all columns, NULL as `null` or left out.
pub struct JsonEncoder {
    style: Style,
    ignore_null_fields: bool,
    /// `,"a":`, `,"b":` and so on: what stands before each value. The first comma of a row becomes its brace.
    before: Vec<Vec<u8>>,
}

impl JsonEncoder {
    pub fn new(options: JsonOptions, schema: SchemaRef) -> JsonEncoder {
        let before = schema.fields().iter().map(|field| {
            let mut text = b",".to_vec();
            write_json_string(field.name().as_bytes(), &mut text);
            text.push(b':');
            text
        });
        JsonEncoder {
            style: Style::Json { iso_8601: options.iso_8601 },
            ignore_null_fields: options.ignore_null_fields,
            before: before.collect(),
        }
    }

    pub(crate) fn write_row(&self, columns: &[Column<'_>], row: usize, out: &mut Vec<u8>) {
        let begin = out.len();
        for (before, column) in self.before.iter().zip(columns) {
            if self.ignore_null_fields && column.is_null(row) {
                continue;
            }
            out.extend_from_slice(before);
            column.write_inside(row, self.style, out);
        }
        match out.get_mut(begin) {
            Some(comma) => *comma = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
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
            self.write_row(&columns, row, out);
            out.push(b'\n');
        }
        Ok(())
    }
}

impl RecordEncoder for JsonEncoder {
    fn encode_records(&mut self, rows: &RecordBatch, _: Option<&Int8Array>) -> Result<BinaryArray> {
        let columns = rows.columns().iter().map(|c| Column::new(c.as_ref())).collect::<Result<Vec<_>>>()?;
        let mut out = BinaryBuilder::new();
        let mut record = Vec::new();
        for row in 0..rows.num_rows() {
            record.clear();
            self.write_row(&columns, row, &mut record);
            out.append_value(&record);
        }
        Ok(out.finish())
    }
}
