//! Rows as CSV.

use crate::Encoder;
use crate::options::{CsvOptions, Header};
use crate::records::RecordEncoder;
use crate::text::{Column, Style};
use arrow::array::{BinaryArray, BinaryBuilder, Int8Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, Result};

/// Writes CSV that [`CsvDecoder`](super::CsvDecoder) and Flink read back.
///
/// A string is quoted where it must be. NULL is the empty field, or `csv.null-literal`; without a literal a NULL string
/// reads back as the empty string, as in Flink.
pub struct CsvEncoder {
    options: CsvOptions,
    schema: SchemaRef,
    cell: Vec<u8>,
}

impl CsvEncoder {
    pub fn new(options: CsvOptions, schema: SchemaRef) -> CsvEncoder {
        CsvEncoder { options, schema, cell: Vec::new() }
    }

    /// Writes a text with the quotes it needs.
    fn write_text(&self, text: &[u8], first: bool, column: &str, out: &mut Vec<u8>) -> Result<()> {
        let o = &self.options;
        let special = |c: u8| c == o.delimiter || c == b'\n' || c == b'\r' || Some(c) == o.quote || Some(c) == o.escape;
        let comment = first && o.allow_comments && text.first() == Some(&b'#');
        if !comment && !text.iter().any(|&c| special(c)) {
            out.extend_from_slice(text);
            return Ok(());
        }
        let Some(quote) = o.quote else {
            if !comment && !text.iter().any(|&c| c == o.delimiter || c == b'\n' || c == b'\r') {
                out.extend_from_slice(text);
                return Ok(());
            }
            return Err(Error::data(format!(
                "column `{column}` holds `{}`, which CSV cannot hold without quotes",
                crate::bad::shown(text)
            ))
            .remedy("leave out 'csv.disable-quote-character', or choose another 'csv.field-delimiter'"));
        };
        out.push(quote);
        for &c in text {
            if Some(c) == o.escape {
                out.push(c);
            } else if c == quote {
                out.push(o.escape.unwrap_or(quote));
            }
            out.push(c);
        }
        out.push(quote);
        Ok(())
    }

    /// Whether even numbers and times need quotes: where the delimiter is a character that they are made of.
    fn quotes_all(&self) -> bool {
        let awkward = |c: u8| c.is_ascii_alphanumeric() || b"+-.: /=".contains(&c);
        [Some(self.options.delimiter), self.options.quote, self.options.escape].into_iter().flatten().any(awkward)
    }

    fn write_row(
        &self,
        columns: &[Column<'_>],
        row: usize,
        quote_all: bool,
        cell: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let begin = out.len();
        for (n, column) in columns.iter().enumerate() {
            if n > 0 {
                out.push(self.options.delimiter);
            }
            if column.is_null(row) {
                out.extend_from_slice(self.options.null_literal.as_deref().unwrap_or("").as_bytes());
            } else if quote_all || column.is_free_text() {
                cell.clear();
                column.write(row, Style::Json { iso_8601: false }, cell);
                self.write_text(cell, n == 0, self.schema.field(n).name(), out)?;
            } else {
                column.write(row, Style::Json { iso_8601: false }, out);
            }
        }
        if out.len() == begin
            && let Some(quote) = self.options.quote
        {
            // A blank line would be no row.
            out.extend_from_slice(&[quote, quote]);
        }
        Ok(())
    }
}

impl Encoder for CsvEncoder {
    fn start(&mut self, out: &mut Vec<u8>) -> Result<()> {
        if self.options.header != Header::Yes {
            return Ok(());
        }
        for (n, field) in self.schema.fields().iter().enumerate() {
            if n > 0 {
                out.push(self.options.delimiter);
            }
            self.write_text(field.name().as_bytes(), n == 0, field.name(), out)?;
        }
        out.push(b'\n');
        Ok(())
    }

    fn encode(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        let columns = batch.rows.columns().iter().map(|c| Column::new(c.as_ref())).collect::<Result<Vec<_>>>()?;
        let (mut cell, quote_all) = (std::mem::take(&mut self.cell), self.quotes_all());
        // Row by row, since that is what the format is.
        for row in 0..batch.len() {
            self.write_row(&columns, row, quote_all, &mut cell, out)?;
            out.push(b'\n');
        }
        self.cell = cell;
        Ok(())
    }
}

impl RecordEncoder for CsvEncoder {
    fn encode_records(&mut self, rows: &RecordBatch, _: Option<&Int8Array>) -> Result<BinaryArray> {
        let columns = rows.columns().iter().map(|c| Column::new(c.as_ref())).collect::<Result<Vec<_>>>()?;
        let (mut cell, quote_all) = (std::mem::take(&mut self.cell), self.quotes_all());
        let mut out = BinaryBuilder::new();
        let mut record = Vec::new();
        for row in 0..rows.num_rows() {
            record.clear();
            self.write_row(&columns, row, quote_all, &mut cell, &mut record)?;
            out.append_value(&record);
        }
        self.cell = cell;
        Ok(out.finish())
    }
}
