//! Rows that wait to be written, and how they become few: of each key only the last change counts.

use arrow::array::BooleanArray;
use arrow::row::{RowConverter, SortField};
use millstream_core::{Batch, ChangeKind, Error, Result, TableSpec};
use std::collections::HashMap;

/// Rows in the order they came.
pub struct Held {
    table: String,
    /// The columns of the key; empty: rows are not told apart.
    key: Vec<usize>,
    /// Without a key: every change is handed on as it is. Else rows are added and never changed.
    all: bool,
    batches: Vec<Batch>,
    rows: usize,
    bytes: usize,
}

/// Whether a change takes the row of its key away. `-U` does: the `+U` behind it brings it back, under the same key or
/// another.
pub fn takes_away(batch: &Batch, row: usize) -> bool {
    batch.kinds.as_ref().is_some_and(|kinds| {
        matches!(ChangeKind::from_code(kinds.value(row)), ChangeKind::UpdateBefore | ChangeKind::Delete)
    })
}

impl Held {
    pub fn new(table: &TableSpec) -> Result<Held> {
        let key = table.primary_key.iter().map(|c| Ok(table.schema.index_of(c)?)).collect::<Result<_>>()?;
        Ok(Held { table: table.name.clone(), key, all: false, batches: Vec::new(), rows: 0, bytes: 0 })
    }

    /// For a table that takes every change as it comes.
    #[cfg(any(feature = "kafka", test))]
    pub fn all(table: &TableSpec) -> Held {
        Held { table: table.name.clone(), key: Vec::new(), all: true, batches: Vec::new(), rows: 0, bytes: 0 }
    }

    /// Whether rows stay what they are and in their order for as long as they are held.
    #[cfg(any(feature = "kafka", test))]
    pub fn keeps_rows(&self) -> bool {
        self.key.is_empty()
    }

    /// What is held, as it came.
    #[cfg(any(feature = "kafka", test))]
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, batch: &Batch) -> Result<()> {
        let adds = self.key.is_empty() && !self.all;
        if adds && batch.kinds.as_ref().is_some_and(|kinds| kinds.values().iter().any(|&k| k != 0)) {
            return Err(Error::sql(format!(
                "`{}` has no key and takes new rows only, and this query also changes rows that it has given before",
                self.table
            ))
            .remedy("declare PRIMARY KEY (..) NOT ENFORCED: rows are then written by their key"));
        }
        for &c in &self.key {
            if batch.rows.column(c).null_count() > 0 {
                let column = batch.rows.schema_ref().field(c).name().clone();
                return Err(Error::data(format!("the key column `{column}` of `{}` is NULL in a row", self.table))
                    .remedy(format!("leave such rows out: WHERE {column} IS NOT NULL")));
            }
        }
        if !batch.is_empty() {
            self.rows += batch.len();
            self.bytes += batch.bytes();
            // Marks judge lateness, which is over at a sink.
            self.batches.push(Batch { rows: batch.rows.clone(), marks: None, kinds: batch.kinds.clone() });
        }
        Ok(())
    }

    /// Drops every change that a later one of its key makes void.
    pub fn compact(&mut self) -> Result<()> {
        if self.key.is_empty() || self.rows < 2 {
            return Ok(());
        }
        let schema = self.batches[0].rows.schema();
        let fields = self.key.iter().map(|&c| SortField::new(schema.field(c).data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let keys = self
            .batches
            .iter()
            .map(|b| {
                let columns: Vec<_> = self.key.iter().map(|&c| b.rows.column(c).clone()).collect();
                Ok(converter.convert_columns(&columns)?)
            })
            .collect::<Result<Vec<_>>>()?;
        // By rows: each has a key of its own.
        let mut last = HashMap::with_capacity(self.rows);
        for (b, keys) in keys.iter().enumerate() {
            for (r, key) in keys.iter().enumerate() {
                last.insert(key, (b, r));
            }
        }
        if last.len() == self.rows {
            return Ok(());
        }
        let mut keep: Vec<Vec<bool>> = self.batches.iter().map(|b| vec![false; b.len()]).collect();
        for (b, r) in last.into_values() {
            keep[b][r] = true;
        }
        (self.rows, self.bytes) = (0, 0);
        for (batch, keep) in self.batches.iter_mut().zip(keep) {
            *batch = batch.filter(&BooleanArray::from(keep))?;
            self.rows += batch.len();
            self.bytes += batch.bytes();
        }
        self.batches.retain(|b| !b.is_empty());
        Ok(())
    }

    /// What is held, compacted; kept until [`Held::clear`].
    #[cfg(any(feature = "postgres", test))]
    pub fn compacted(&mut self) -> Result<&[Batch]> {
        self.compact()?;
        Ok(&self.batches)
    }

    pub fn take(&mut self) -> Result<Vec<Batch>> {
        self.compact()?;
        let batches = std::mem::take(&mut self.batches);
        self.clear();
        Ok(batches)
    }

    pub fn clear(&mut self) {
        self.batches.clear();
        (self.rows, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int8Array, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;

    fn table(key: &[&str]) -> TableSpec {
        TableSpec {
            name: "t".into(),
            schema: Arc::new(Schema::new(vec![
                Field::new("k", DataType::Int64, true),
                Field::new("v", DataType::Int64, true),
            ])),
            projection: None,
            metadata: Vec::new(),
            options: Default::default(),
            partitioned_by: Vec::new(),
            primary_key: key.iter().map(ToString::to_string).collect(),
            place: None,
        }
    }

    fn batch(rows: &[(i64, i64, i8)]) -> Batch {
        let column = |f: fn(&(i64, i64, i8)) -> i64| Arc::new(Int64Array::from_iter_values(rows.iter().map(f))) as _;
        let columns = vec![column(|r| r.0), column(|r| r.1)];
        let kinds = Some(Int8Array::from_iter_values(rows.iter().map(|r| r.2)));
        Batch { kinds, ..RecordBatch::try_new(table(&[]).schema, columns).expect("two columns").into() }
    }

    fn shown(batches: &[Batch]) -> Vec<(i64, i64, bool)> {
        let value = |b: &Batch, c: usize, r: usize| {
            b.rows.column(c).as_any().downcast_ref::<Int64Array>().expect("BIGINT").value(r)
        };
        batches
            .iter()
            .flat_map(|b| (0..b.len()).map(move |r| (value(b, 0, r), value(b, 1, r), takes_away(b, r))))
            .collect()
    }

    #[test]
    fn the_last_change_of_each_key_is_left() {
        let mut held = Held::new(&table(&["k"])).expect("the key is there");
        held.push(&batch(&[(1, 10, 0), (2, 20, 0), (1, 10, 1), (1, 11, 2)])).expect("taken");
        held.push(&batch(&[(3, 30, 0), (2, 20, 3), (3, 30, 3), (3, 31, 0)])).expect("taken");
        assert_eq!(shown(held.compacted().expect("compacted")), [(1, 11, false), (2, 20, true), (3, 31, false)]);
        assert_eq!(held.rows(), 3);
    }

    #[test]
    fn without_a_key_every_row_stays_and_no_change_is_taken() {
        let mut held = Held::new(&table(&[])).expect("no key");
        held.push(&batch(&[(1, 10, 0), (1, 10, 0)])).expect("taken");
        assert_eq!(held.take().expect("all").len(), 1);
        assert_eq!((held.rows(), held.bytes()), (0, 0));
        let e = held.push(&batch(&[(1, 10, 3)])).expect_err("a change");
        assert!(e.what().contains("new rows only") && e.help().is_some_and(|h| h.contains("PRIMARY KEY")), "{e}");
    }
}
