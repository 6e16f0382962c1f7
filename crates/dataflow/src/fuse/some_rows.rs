//! An expression that is evaluated on some rows of a batch.

use super::Physical;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::FilterBuilder;
use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use std::sync::Arc;

/// The expression over the whole batch, and over the few columns that it reads.
#[derive(Debug)]
pub struct SomeRows {
    pub whole: Physical,
    reads: Vec<usize>,
    narrow: Physical,
}

impl SomeRows {
    pub fn new(whole: Physical) -> Result<SomeRows> {
        let mut reads: Vec<usize> = collect_columns(&whole).iter().map(Column::index).collect();
        reads.sort_unstable();
        reads.dedup();
        let narrow = whole.clone().transform_down(|e| {
            Ok(match e.downcast_ref::<Column>() {
                Some(column) => {
                    let rank = reads.binary_search(&column.index()).unwrap_or_default();
                    Transformed::yes(Arc::new(Column::new(column.name(), rank)))
                }
                None => Transformed::no(e),
            })
        })?;
        Ok(SomeRows { whole, narrow: narrow.data, reads })
    }

    /// One value for each row that `chosen` holds for, in their order. `chosen` has no NULL.
    pub fn evaluate(&self, batch: &RecordBatch, chosen: &BooleanArray, count: usize) -> Result<ArrayRef> {
        if count == batch.num_rows() {
            return self.whole.evaluate(batch)?.into_array(count);
        }
        let chosen = FilterBuilder::new(chosen);
        let chosen = if self.reads.len() > 1 { chosen.optimize().build() } else { chosen.build() };
        let columns = self.reads.iter().map(|i| chosen.filter(batch.column(*i)));
        let schema = Arc::new(batch.schema_ref().project(&self.reads)?);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(schema, columns.collect::<Result<_, _>>()?, &options)?;
        self.narrow.evaluate(&rows)?.into_array(count)
    }
}
