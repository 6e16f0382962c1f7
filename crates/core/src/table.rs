//! A table of the outer world, as the SQL text declares it: plain data from the planner to the connectors.

use crate::error::{Error, Place, Result};
use crate::lookup::LookedUp;
use crate::sink::{Committer, JobRun, Sink, SinkContext};
use crate::source::Source;
use arrow::datatypes::{Field, SchemaRef};
use std::collections::BTreeMap;
use std::fmt;

/// What a connector needs to know to open a table.
///
/// Its `Debug` shows no secret: it ends up in logs and in the messages of failed assertions.
#[derive(Clone)]
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

impl fmt::Debug for TableSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TableSpec { name, schema, projection, metadata, options, partitioned_by, primary_key, place } = self;
        let options: BTreeMap<&str, &str> =
            options.iter().map(|(k, v)| (k.as_str(), if holds_a_secret(k, v) { "***" } else { v })).collect();
        f.debug_struct("TableSpec")
            .field("name", name)
            .field("schema", schema)
            .field("projection", projection)
            .field("metadata", metadata)
            .field("options", &options)
            .field("partitioned_by", partitioned_by)
            .field("primary_key", primary_key)
            .field("place", place)
            .finish()
    }
}

/// Whether the value of an option is nobody's business: by what its key is called, or as a URL with a login in it.
pub fn holds_a_secret(key: &str, value: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let named = ["password", "secret", "token", "credential", "access-key", "api-key", "jaas", "ssl.key"];
    let value = value.to_ascii_lowercase();
    named.iter().any(|n| key.contains(n) || value.contains(&format!("{n}=")))
        || value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
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

    /// Whether the fields of its ROW columns are found by their names wherever they are stored, so that a column may be
    /// declared with fewer of them.
    fn finds_fields_by_name(&self, table: &TableSpec) -> bool {
        let _ = table;
        false
    }

    /// Which changes this table takes, as one that is written to.
    fn takes(&self, table: &TableSpec) -> Takes {
        let _ = table;
        Takes::Inserts
    }

    /// Which changes this table brings, as one that is read.
    fn brings(&self, table: &TableSpec) -> Brings {
        let _ = table;
        Brings::Inserts
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>>;

    /// Whether this table is asked by key where it is looked up. Otherwise it is read whole.
    fn asked_by_key(&self, table: &TableSpec) -> bool {
        let _ = table;
        false
    }

    /// Opens a table to be looked up by these of the columns that it hands on.
    fn open_lookup(&self, table: &TableSpec, keys: &[usize]) -> Result<LookedUp> {
        let _ = keys;
        Err(cannot_be_looked_up(table))
    }

    /// Opens one of the writers of a table.
    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>>;

    /// What makes the epochs of this table visible, in a job with checkpoints. `None`: its writers give rows away as
    /// they come.
    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        let _ = (table, job);
        Ok(None)
    }
}

/// A table whose connector has no look-ups.
pub fn cannot_be_looked_up(table: &TableSpec) -> Error {
    Error::sql(format!("`{}` cannot be looked up: '{}' answers no keys", table.name, table.connector()))
        .remedy("look up a table of 'filesystem' or 'jdbc', or use FOR SYSTEM_TIME AS OF the left side's event time")
}

/// What a table makes of a query that updates what it has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Rows are only added.
    Inserts,
    /// A row replaces the one with its primary key (`+I`, `+U`), and can delete it (`-D`). `-U` is of no use.
    Upserts,
    /// All kinds are handed on, and whoever reads them must find what an update replaces (`-U`).
    Retractions,
    /// All kinds are handed on as they come.
    All,
}

/// What the rows of a table that is read do to what it has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Brings {
    /// Rows are only added.
    #[default]
    Inserts,
    /// A row replaces the one with its primary key (`+U`), or says that it is gone (`-D`) and then knows its key alone.
    Upserts,
    /// All kinds: a row that is replaced or gone is told once more as it was (`-U`, `-D`). With [`BY_KEY`] as upserts.
    All,
}

/// Option that the planner adds to a table that brings [`Brings::All`] where it remembers the rows by their primary key
/// itself: `-U` is then only told where an update moves a row to another key (as `-D`), and a row that is gone need only know
/// its key.
pub const BY_KEY: &str = "millstream.changes-by-key";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableUse {
    Source,
    /// `JOIN table FOR SYSTEM_TIME AS OF` a processing time.
    Lookup,
    Sink,
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    #[test]
    fn a_declaration_shows_its_options_and_no_secret() {
        let options = [
            ("connector", "jdbc"),
            ("url", "jdbc:postgresql://ann:hunter2@db/shop"),
            ("other", "jdbc:postgresql://db/shop?password=hunter2"),
            ("password", "hunter2"),
            ("properties.sasl.jaas.config", "hunter2"),
        ];
        let table = TableSpec {
            name: "t".into(),
            schema: Arc::new(Schema::empty()),
            projection: None,
            metadata: Vec::new(),
            options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            place: None,
        };
        let shown = format!("{table:?}");
        assert!(shown.contains("jdbc") && shown.contains("***") && !shown.contains("hunter2"), "{shown}");
    }
}
