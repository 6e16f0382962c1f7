//! A table of the outer world, as the SQL text declares it: plain data from the planner to the connectors.

use crate::error::{Place, Result};
use crate::sink::{Committer, JobRun, Sink, SinkContext};
use crate::source::Source;
use arrow::datatypes::{Field, SchemaRef};
use std::collections::BTreeMap;

/// What a connector needs to know to open a table.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// The table's name, for messages and metrics.
    pub name: String,
    /// The physical columns: those that are stored outside, with their types. For a sink: the columns it gets.
    pub schema: SchemaRef,
    /// A source reads only these columns of `schema`, in this order. `None`: all.
    pub projection: Option<Vec<usize>>,
    /// A source appends these behind the projected columns: the connector's own key (`file.path`, `timestamp`, or
    /// [`ROW_ORDER`](crate::metadata::ROW_ORDER)) and the column to hand on, with its declared type.
    pub metadata: Vec<(String, Field)>,
    /// The options of the `WITH` clause, keys as written, without `connector` taken out.
    pub options: BTreeMap<String, String>,
    /// Names of the columns of `PARTITIONED BY`.
    pub partitioned_by: Vec<String>,
    /// Names of the columns of `PRIMARY KEY (..) NOT ENFORCED`.
    pub primary_key: Vec<String>,
    /// Where the table is declared.
    pub place: Option<Place>,
}

impl TableSpec {
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    pub fn connector(&self) -> &str {
        self.option("connector").unwrap_or("")
    }
}

/// What opens tables. The runtime is handed one; it knows no connector by name.
pub trait Connectors: Send + Sync {
    /// Checks the options without opening anything: unknown keys, wrong values, a missing format.
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()>;

    /// The metadata keys that the connector of this table can read, with their types.
    fn metadata(&self, table: &TableSpec) -> Result<Vec<Field>>;

    /// Whether all rows of this table must go through one writer, because it is one file or one stream of text.
    fn single_writer(&self, table: &TableSpec) -> bool {
        let _ = table;
        false
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>>;

    /// Opens one of the writers of a table.
    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>>;

    /// What makes the epochs of this table visible, in a job with checkpoints. `None`: its writers give rows away as
    /// they come.
    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        let _ = (table, job);
        Ok(None)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableUse {
    Source,
    Sink,
}
