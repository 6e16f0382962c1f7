//! Columns of a written table that are NOT NULL: a row with a NULL in one of them never gets to the table.
//!
//! Which columns can be NULL is known from the query only in part, so rows are looked at where they are written, in
//! streaming and in batch mode alike. The table's setting decides what becomes of such a row: it fails the job, or it
//! is left out and counted.

use crate::graph::NotNull;
use crate::rows::row_as_json;
use arrow::array::{Array, BooleanArray};
use arrow::buffer::NullBuffer;
use millstream_core::{Batch, Error, Result, TableSpec};

/// Stands before the writer of a table.
pub struct Guard {
    table: TableSpec,
    /// Positions of the NOT NULL columns among those written.
    columns: Vec<usize>,
    enforcer: NotNull,
}

impl Guard {
    /// `None` where there is nothing to look at.
    pub fn new(table: &TableSpec, enforcer: Option<NotNull>) -> Option<Guard> {
        let enforcer = enforcer?;
        let fields = table.schema.fields().iter().enumerate();
        let columns: Vec<usize> = fields.filter(|(_, f)| !f.is_nullable()).map(|(i, _)| i).collect();
        (!columns.is_empty()).then(|| Guard { table: table.clone(), columns, enforcer })
    }

    /// The rows that may be written, and how many were left out.
    ///
    /// # Errors
    /// A NULL where none may be, if that is to fail the job: with table, column, row and remedy.
    pub fn pass(&self, batch: Batch) -> Result<(Batch, u64)> {
        let mut whole: Option<NullBuffer> = None;
        for &at in &self.columns {
            let Some(nulls) = batch.rows.column(at).logical_nulls().filter(|n| n.null_count() > 0) else { continue };
            if self.enforcer == NotNull::Error {
                let row = (0..nulls.len()).find(|i| nulls.is_null(*i)).unwrap_or(0);
                return Err(self.refusal(&batch, at, row));
            }
            whole = NullBuffer::union(whole.as_ref(), Some(&nulls));
        }
        let Some(whole) = whole else { return Ok((batch, 0)) };
        let left_out = whole.null_count() as u64;
        let keep = BooleanArray::new(whole.into_inner(), None);
        Ok((batch.filter(&keep)?, left_out))
    }

    fn refusal(&self, batch: &Batch, column: usize, row: usize) -> Error {
        let name = self.table.schema.field(column).name();
        let row = row_as_json(&batch.rows, row);
        let e = Error::data(format!(
            "column `{name}` of `{}` is NOT NULL, and NULL was to be written into it, in the row {}",
            self.table.name,
            String::from_utf8_lossy(&row)
        ))
        .remedy(format!(
            "give it a value with COALESCE, filter with WHERE .. IS NOT NULL, declare `{name}` without NOT NULL, or leave such \
             rows out and count them: SET 'table.exec.sink.not-null-enforcer' = 'DROP'"
        ));
        match &self.table.place {
            Some(place) => e.at(place.clone()),
            None => e,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::sync::Arc;

    fn guard(enforcer: NotNull, nullable: [bool; 2]) -> Option<Guard> {
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, nullable[0]),
            Field::new("name", DataType::Utf8, nullable[1]),
        ]);
        let table = TableSpec {
            name: "people".into(),
            schema: Arc::new(schema),
            projection: None,
            metadata: Vec::new(),
            options: Default::default(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            place: Some(millstream_core::Place("job.sql:3:1".into())),
        };
        Guard::new(&table, Some(enforcer))
    }

    fn rows() -> Batch {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4)]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("ann"), Some("bob"), None, Some("eve")]));
        let rows = RecordBatch::try_from_iter_with_nullable([("c0", ids, true), ("c1", names, true)]).expect("a batch");
        Batch { rows, marks: Some(Int64Array::from(vec![10, 20, 30, 40])), kinds: None }
    }

    #[test]
    fn a_null_fails_with_table_column_and_remedy() {
        let e = guard(NotNull::Error, [true, false]).expect("a column").pass(rows()).expect_err("a NULL");
        assert_eq!(
            e.what(),
            "column `name` of `people` is NOT NULL, and NULL was to be written into it, in the row {\"c0\":3,\"c1\":null}"
        );
        assert_eq!(e.place().map(|p| p.0.as_str()), Some("job.sql:3:1"));
        assert!(e.help().is_some_and(|h| h.contains("not-null-enforcer")), "{e}");
    }

    #[test]
    fn rows_with_a_null_are_left_out_and_counted() {
        let (kept, left_out) = guard(NotNull::Drop, [false, false]).expect("columns").pass(rows()).expect("passes");
        assert_eq!((kept.rows.column(0).as_primitive::<Int64Type>().values().to_vec(), left_out), (vec![1, 4], 2));
        assert_eq!(kept.marks, Some(Int64Array::from(vec![10, 40])));
        let (kept, left_out) = guard(NotNull::Drop, [true, false]).expect("a column").pass(rows()).expect("passes");
        assert_eq!((kept.len(), left_out), (3, 1));
    }

    #[test]
    fn where_every_column_may_be_null_nothing_is_looked_at() {
        assert!(guard(NotNull::Error, [true, true]).is_none());
    }
}
