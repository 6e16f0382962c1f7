//! Rows as byte strings whose order is an order of the rows, and back.
//!
//! ```text
//!  sort columns ─▶ the other columns, in their order ─▶ how long the texts are    = one byte string for each row
//!
//!  number       1 │ the first byte first, the sign turned, so that bytes compare as the numbers do
//!  text         1 │ its bytes, 00 as 00 FF │ 00 00
//!  NULL         0 or FF, as NULLs come first or last; then zeros for a number, and nothing for a text
//!  all others   as a text: what Arrow's row format makes of the column
//! ```
//!
//! In a column that descends, all bits behind the first byte are turned. Each column stands in it once, so the bytes are the
//! row: two rows are equal where their bytes are, the smaller bytes are the earlier row, and the row comes back from its
//! bytes. No string begins another one, since each column's part says where it ends; so the lengths at the end never decide
//! an order: with them texts are given back without being searched for their ends. Floats are in total order: -0.0 before
//! 0.0, NaN behind all numbers. The order is that of Arrow's row format, which fills texts up to blocks of 32 bytes, wants the
//! rows side by side before it writes them, and looks for the end of each text when they come back.

mod changes;
mod number;
mod read;
mod write;

pub(crate) use changes::Changes;
pub(crate) use read::Columns;
pub(crate) use write::{Encoded, Opened};

use crate::graph::SortColumn;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, SortField};
use millstream_core::{Error, Result};
use number::Number;

/// The first byte of a value that is there.
const THERE: u8 = 1;

/// What a text ends with, and what stands for a zero in it.
const END: [u8; 2] = [0, 0];
const ZERO: [u8; 2] = [0, 0xFF];

/// In a length: there are zeros in the text. No text is as long.
const HAS_ZEROS: u32 = 1 << 31;

/// How rows of a schema become bytes in an order.
pub(crate) struct RowBytes {
    parts: Vec<Part>,
    /// The lengths of the texts stand behind the columns.
    measured: bool,
    input: SchemaRef,
}

/// One column in the bytes.
struct Part {
    column: usize,
    form: Form,
    descending: bool,
    /// The first byte of a NULL.
    null: u8,
}

enum Form {
    Number(Number),
    Bool,
    Text,
    Binary,
    /// NULL and order are the converter's own.
    Other(Box<RowConverter>),
}

impl RowBytes {
    /// Whole rows, ordered by `sort`, then by all other columns.
    pub fn new(input: &SchemaRef, sort: &[SortColumn]) -> Result<RowBytes> {
        let rest: Vec<SortColumn> = (0..input.fields().len()).map(ascending).collect();
        Ok(RowBytes { measured: true, ..RowBytes::keys(input, &[sort, &rest].concat())? })
    }

    /// What rows are ordered by alone: what the bytes of a whole row begin with, where its order begins with `sort`. Nothing
    /// comes back from them.
    pub fn keys(input: &SchemaRef, sort: &[SortColumn]) -> Result<RowBytes> {
        let mut parts: Vec<Part> = Vec::with_capacity(sort.len());
        for by in sort {
            if parts.iter().all(|p| p.column != by.column) {
                parts.push(Part::new(by, input.field(by.column).data_type())?);
            }
        }
        Ok(RowBytes { parts, measured: false, input: input.clone() })
    }

    /// There is something to order by.
    pub fn has_columns(&self) -> bool {
        !self.parts.is_empty()
    }

    pub fn open(&self, rows: &RecordBatch) -> Result<Opened> {
        Opened::new(self, rows)
    }

    /// All rows of a batch.
    pub fn encode(&self, rows: &RecordBatch) -> Result<Encoded> {
        Ok(self.open(rows)?.encode(0..rows.num_rows()))
    }

    /// Where rows come back to.
    pub fn columns(&self) -> Columns {
        Columns::new(self)
    }

    /// The rows in columns of the schema.
    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let mut columns = self.columns();
        rows.for_each(|row| columns.push(row));
        columns.finish(self)
    }
}

impl Part {
    fn new(by: &SortColumn, kind: &DataType) -> Result<Part> {
        let form = match kind {
            DataType::Boolean => Form::Bool,
            DataType::Utf8 => Form::Text,
            DataType::Binary => Form::Binary,
            kind => match Number::of(kind) {
                Some(number) => Form::Number(number),
                None => Form::Other(Box::new(converter(by, kind)?)),
            },
        };
        let null = if by.nulls_first { 0 } else { 0xFF };
        Ok(Part { column: by.column, form, descending: by.descending, null })
    }

    /// What is laid over each byte behind the first.
    fn turned(&self) -> u8 {
        if self.descending && !matches!(self.form, Form::Other(_)) { 0xFF } else { 0 }
    }

    /// There is a length of it behind the row.
    fn has_length(&self) -> bool {
        matches!(self.form, Form::Text | Form::Binary | Form::Other(_))
    }
}

fn converter(by: &SortColumn, kind: &DataType) -> Result<RowConverter> {
    let options = SortOptions { descending: by.descending, nulls_first: by.nulls_first };
    RowConverter::new(vec![SortField::new_with_options(kind.clone(), options)]).map_err(|e| {
        Error::sql(format!("rows with these columns cannot be ordered: {e}"))
            .remedy("order and keep columns of plain types; pick fields out of nested values")
    })
}

/// A column in its own order, NULLs first.
pub(crate) fn ascending(column: usize) -> SortColumn {
    SortColumn { column, descending: false, nulls_first: true }
}

#[cfg(test)]
mod tests;
