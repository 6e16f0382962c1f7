//! An expression that is evaluated on some rows of a batch.

use super::Physical;
use super::reads::{Reads, name};
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::FilterBuilder;
use arrow::datatypes::{Field, Schema};
use datafusion_common::Result;
use std::sync::Arc;

/// The expression over the whole batch, and over what it reads alone.
#[derive(Debug)]
pub struct SomeRows {
    pub whole: Physical,
    reads: Reads,
    narrow: Physical,
}

impl SomeRows {
    /// `input`: the columns of the batch, where they are known; else whole columns are copied, also where only fields of
    /// a ROW are read.
    pub fn new(whole: Physical, input: Option<&Schema>) -> Result<SomeRows> {
        let mut reads = Reads::default();
        let narrow = reads.narrow(&whole, input)?;
        Ok(SomeRows { whole, reads, narrow })
    }

    /// One value for each row that `chosen` holds for, in their order. `chosen` has no NULL.
    pub fn evaluate(&self, batch: &RecordBatch, chosen: &BooleanArray, count: usize) -> Result<ArrayRef> {
        if count == batch.num_rows() {
            return self.whole.evaluate(batch)?.into_array(count);
        }
        let chosen = FilterBuilder::new(chosen);
        let chosen = if self.reads.exprs.len() > 1 { chosen.optimize().build() } else { chosen.build() };
        let read = |e: &Physical| Ok(chosen.filter(&e.evaluate(batch)?.into_array(batch.num_rows())?)?);
        let columns: Vec<ArrayRef> = self.reads.exprs.iter().map(read).collect::<Result<_>>()?;
        let field = |(rank, column): (usize, &ArrayRef)| Field::new(name(rank), column.data_type().clone(), true);
        let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?;
        self.narrow.evaluate(&rows)?.into_array(count)
    }
}
