//! Where the rows of a plain `SELECT` go: to whoever runs the program.

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::{OwnedRow, RowConverter, SortField};
use millstream_core::{Batch, ChangeKind, Error, Result, Sink};
use std::collections::HashMap;
use std::sync::Arc;

/// Takes the rows of a `SELECT` as they come. Called from one worker thread.
pub trait ResultRows: Send + Sync {
    /// Called once, before the first row, also when there is none. `updates`: rows may take others back, so their
    /// [`Batch::kinds`] have to be heeded.
    fn start(&self, schema: &SchemaRef, updates: bool) -> Result<()>;

    fn rows(&self, batch: &Batch) -> Result<()>;

    /// Show what is held back.
    fn flush(&self) -> Result<()>;

    /// No row comes any more.
    fn finish(&self) -> Result<()>;
}

/// The sink in front of a [`ResultRows`].
pub struct ResultSink {
    rows: Arc<dyn ResultRows>,
    schema: SchemaRef,
    updates: bool,
    started: bool,
}

impl ResultSink {
    pub fn new(rows: Arc<dyn ResultRows>, schema: &SchemaRef, updates: bool) -> ResultSink {
        ResultSink { rows, schema: schema.clone(), updates, started: false }
    }

    fn start(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.started, true) { Ok(()) } else { self.rows.start(&self.schema, self.updates) }
    }
}

impl Sink for ResultSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.start()?;
        self.rows.rows(batch)
    }

    fn flush(&mut self) -> Result<()> {
        if self.started { self.rows.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<()> {
        self.start()?;
        self.rows.finish()
    }

    fn abort(&mut self) {
        // What was shown cannot be taken back; what is held back is shown, so that it helps to understand the error.
        let _ = self.flush();
    }
}

/// The rows that stand after all changes, those of a batch together, in the order in which they came.
///
/// # Errors
/// A row is taken back that does not stand.
pub fn standing(batches: &[Batch]) -> Result<Vec<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let sorts = first.rows.schema().fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
    let converter = RowConverter::new(sorts)?;
    let mut places: HashMap<OwnedRow, Vec<(usize, u32)>> = HashMap::new();
    let mut stands: Vec<Vec<bool>> = Vec::with_capacity(batches.len());
    for (at, batch) in batches.iter().enumerate() {
        let rows = converter.convert_columns(batch.rows.columns())?;
        let mut alive = vec![false; batch.len()];
        for (i, row) in rows.iter().enumerate() {
            let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i)));
            if matches!(kind, ChangeKind::Insert | ChangeKind::UpdateAfter) {
                alive[i] = true;
                places.entry(row.owned()).or_default().push((at, i as u32));
                continue;
            }
            let Some((batch, row)) = places.get_mut(&row.owned()).and_then(Vec::pop) else {
                return Err(Error::internal("a result takes a row back that does not stand"));
            };
            match stands.get_mut(batch) {
                Some(earlier) => earlier[row as usize] = false,
                None => alive[row as usize] = false,
            }
        }
        stands.push(alive);
    }
    let mut standing = Vec::new();
    for (batch, alive) in batches.iter().zip(stands) {
        let rows: UInt32Array = (0u32..).zip(alive).filter_map(|(i, alive)| alive.then_some(i)).collect();
        if !rows.is_empty() {
            standing.push(take_record_batch(&batch.rows, &rows)?);
        }
    }
    Ok(standing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int8Array, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};

    fn batch(changes: &[(i8, i64)]) -> Batch {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let values = Int64Array::from_iter_values(changes.iter().map(|c| c.1));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(values)]).expect("one column");
        Batch { kinds: Some(Int8Array::from_iter_values(changes.iter().map(|c| c.0))), ..Batch::from(rows) }
    }

    #[test]
    fn what_was_taken_back_does_not_stand() {
        let changes = [batch(&[(0, 1), (0, 2), (0, 2)]), batch(&[(1, 1), (2, 5), (3, 2), (0, 7), (3, 7)])];
        let left = standing(&changes).expect("all stood");
        let column =
            |b: &RecordBatch| b.column(0).as_any().downcast_ref::<Int64Array>().expect("BIGINT").values().to_vec();
        assert_eq!(left.iter().flat_map(column).collect::<Vec<_>>(), [2, 5]);
        assert!(standing(&[batch(&[(0, 1), (3, 2)])]).is_err());
    }
}
