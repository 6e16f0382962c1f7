//! The tables that a job can open: every connector there is, and the place where the rows of a plain `SELECT` go.

use crate::result::{ResultRows, ResultSink};
use arrow::datatypes::Field;
use millstream_connect::Registry;
use millstream_core::table::{Brings, TableUse, Takes};
use millstream_core::{Committer, Connectors, JobRun, LookedUp, Result, Sink, SinkContext, Source, TableSpec};
use std::sync::Arc;

/// The name under which the planner addresses the result of a plain `SELECT`.
pub(crate) const RESULT: &str = "result";

/// All connectors. Programs may add their own with [`Tables::over`].
#[derive(Clone)]
pub struct Tables {
    inner: Arc<dyn Connectors>,
    result: Option<Arc<dyn ResultRows>>,
}

impl Default for Tables {
    fn default() -> Tables {
        Tables::over(Arc::new(Registry::default()))
    }
}

impl Tables {
    /// These connectors, and nothing else but the result of a `SELECT`.
    pub fn over(inner: Arc<dyn Connectors>) -> Tables {
        Tables { inner, result: None }
    }

    /// Sends the rows of a plain `SELECT` to `rows`.
    pub fn with_result(&self, rows: Arc<dyn ResultRows>) -> Tables {
        Tables { inner: self.inner.clone(), result: Some(rows) }
    }
}

impl Connectors for Tables {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        if table.connector() == RESULT { Ok(()) } else { self.inner.validate(table, use_as) }
    }

    fn metadata(&self, table: &TableSpec) -> Result<Vec<Field>> {
        if table.connector() == RESULT { Ok(Vec::new()) } else { self.inner.metadata(table) }
    }

    fn single_writer(&self, table: &TableSpec) -> bool {
        table.connector() == RESULT || self.inner.single_writer(table)
    }

    fn finds_fields_by_name(&self, table: &TableSpec) -> bool {
        self.inner.finds_fields_by_name(table)
    }

    fn takes(&self, table: &TableSpec) -> Takes {
        if table.connector() == RESULT { Takes::All } else { self.inner.takes(table) }
    }

    fn brings(&self, table: &TableSpec) -> Brings {
        self.inner.brings(table)
    }

    fn asked_by_key(&self, table: &TableSpec) -> bool {
        self.inner.asked_by_key(table)
    }

    fn open_lookup(&self, table: &TableSpec, keys: &[usize]) -> Result<LookedUp> {
        self.inner.open_lookup(table, keys)
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        self.inner.open_source(table)
    }

    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        match table.connector() {
            RESULT => Ok(None),
            _ => self.inner.open_committer(table, job),
        }
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        match &self.result {
            Some(rows) if table.connector() == RESULT => {
                let updates = table.options.contains_key(millstream_plan::plan::UPDATES);
                Ok(Box::new(ResultSink::new(rows.clone(), &table.schema, updates)))
            }
            _ => self.inner.open_sink(table, context),
        }
    }
}
