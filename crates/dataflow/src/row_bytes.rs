//! Rows as byte strings whose order is an order of the rows, and back.
//!
//! ```text
//!  sort columns ─▶ the other columns, in their order ─▶ Arrow's row format = one byte string for each row
//! ```
//!
//! Each column stands in it once, so the bytes are the row: two rows are equal where their bytes are, the smaller bytes
//! are the earlier row, and the row comes back from its bytes. No string begins another one, since each column's part
//! says where it ends. Floats are in total order: -0.0 before 0.0, NaN behind all numbers.

use crate::graph::SortColumn;
use crate::operator::{Output, ROWS_MAX};
use crate::rows::conform;
use arrow::array::{ArrayRef, Int8Array, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::{Batch, ChangeKind, Error, Result};
use std::sync::Arc;

/// How rows of a schema become bytes in an order.
pub(crate) struct RowBytes {
    converter: RowConverter,
    /// The column that each part of the bytes is.
    columns: Vec<usize>,
    input: SchemaRef,
}

impl RowBytes {
    /// Ordered by `sort`, then by all other columns.
    pub fn new(input: &SchemaRef, sort: &[SortColumn]) -> Result<RowBytes> {
        let mut fields: Vec<SortColumn> = Vec::with_capacity(input.fields().len());
        let rest = (0..input.fields().len()).map(ascending);
        for field in sort.iter().copied().chain(rest) {
            if fields.iter().all(|f| f.column != field.column) {
                fields.push(field);
            }
        }
        let columns = fields.iter().map(|f| f.column).collect();
        Ok(RowBytes { converter: sort_keys(input, &fields)?, columns, input: input.clone() })
    }

    pub fn encode(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| rows.column(*c).clone()).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// The rows in columns of the schema.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        let parts = self.converter.convert_rows(rows.map(|bytes| parser.parse(bytes)))?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; parts.len()];
        for (part, column) in parts.into_iter().zip(&self.columns) {
            // A dictionary comes back as its values.
            let kind = self.input.field(*column).data_type();
            columns[*column] = Some(if part.data_type() == kind { part } else { arrow::compute::cast(&part, kind)? });
        }
        Ok(columns.into_iter().flatten().collect())
    }
}

/// A column in its own order, NULLs first.
pub(crate) fn ascending(column: usize) -> SortColumn {
    SortColumn { column, descending: false, nulls_first: true }
}

/// What makes byte strings of some columns that compare as the columns do.
pub(crate) fn sort_keys(input: &SchemaRef, sort: &[SortColumn]) -> Result<RowConverter> {
    let fields = sort
        .iter()
        .map(|s| {
            let options = SortOptions { descending: s.descending, nulls_first: s.nulls_first };
            SortField::new_with_options(input.field(s.column).data_type().clone(), options)
        })
        .collect();
    RowConverter::new(fields).map_err(|e| {
        Error::sql(format!("rows with these columns cannot be ordered: {e}"))
            .remedy("order and keep columns of plain types; pick fields out of nested values")
    })
}

/// Memory that is kept for the next changes.
const SPARE_BYTES: usize = 1 << 20;

/// Changes on their way out, gathered into batches of [`ROWS_MAX`] rows.
pub(crate) struct Changes {
    output: SchemaRef,
    /// The rank is the last column.
    ranked: bool,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    kinds: Vec<i8>,
    ranks: Vec<i64>,
}

impl Changes {
    pub fn new(output: SchemaRef, ranked: bool) -> Changes {
        Changes { output, ranked, bytes: Vec::new(), ends: Vec::new(), kinds: Vec::new(), ranks: Vec::new() }
    }

    /// Sends out what is held where the next `rows` rows, which belong together, would not find room.
    pub fn make_room(&mut self, rows: usize, codec: &RowBytes, out: &mut dyn Output) -> Result<()> {
        if self.kinds.len() + rows > ROWS_MAX { self.flush(codec, out) } else { Ok(()) }
    }

    pub fn push(&mut self, kind: ChangeKind, row: &[u8], rank: u64) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
        self.kinds.push(kind as i8);
        if self.ranked {
            self.ranks.push(i64::try_from(rank).unwrap_or(i64::MAX));
        }
    }

    pub fn flush(&mut self, codec: &RowBytes, out: &mut dyn Output) -> Result<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        let mut start = 0;
        let rows = self.ends.iter().map(|end| &self.bytes[std::mem::replace(&mut start, *end)..*end]);
        let mut columns = codec.decode(rows)?;
        if self.ranked {
            columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.ranks))));
        }
        let kinds = std::mem::take(&mut self.kinds);
        let rows = conform(&self.output, columns, kinds.len())?;
        let inserts = kinds.iter().all(|k| *k == ChangeKind::Insert as i8);
        self.bytes.clear();
        self.bytes.shrink_to(SPARE_BYTES);
        self.ends.clear();
        out.emit(0, Batch { rows, marks: None, kinds: (!inserts).then(|| Int8Array::from(kinds)) })
    }

    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8 + self.ranks.capacity() * 8
    }
}
