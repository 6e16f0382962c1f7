//! The outer world: what opens tables, by the name of their connector.
//!
//! ```text
//!  'connector' = 'filesystem' ──▶ Registry ──▶ filesystem ──▶ Source or Sink
//! ```
//!
//! Each connector checks its options before anything is opened, and says at the declaration what is wrong with them.
//! I/O that may block long runs on threads of the connectors' own; decoding runs on the caller's, in `poll`.

#[cfg(not(all(feature = "kafka", feature = "postgres")))]
mod absent;
pub mod blackhole;
mod compact;
pub mod datagen;
pub mod delta;
pub mod filesystem;
#[cfg(feature = "kafka")]
pub mod history;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod nexmark;
pub mod options;
mod outbox;
mod percent;
mod position;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod print;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "kafka")]
mod schemas;
pub mod store;

pub use filesystem::wants_single_writer;

use arrow::datatypes::Field;
use millstream_core::error::did_you_mean;
use millstream_core::table::{Brings, Connectors, TableUse, Takes, cannot_be_looked_up};
use millstream_core::{Committer, Error, JobRun, LookedUp, Result, Sink, SinkContext, Source, TableSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What opens the tables of one kind.
pub trait Connector: Send + Sync {
    /// Checks the options without opening anything. Errors need no place; the registry adds that of the table.
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()>;

    /// The metadata keys that can be read, with their types.
    fn metadata(&self, _table: &TableSpec) -> Result<Vec<Field>> {
        Ok(Vec::new())
    }

    /// See [`Connectors::finds_fields_by_name`].
    fn finds_fields_by_name(&self, _table: &TableSpec) -> bool {
        false
    }

    /// Which changes this table takes, as one that is written to.
    fn takes(&self, _table: &TableSpec) -> Takes {
        Takes::Inserts
    }

    /// Which changes this table brings, as one that is read.
    fn brings(&self, _table: &TableSpec) -> Brings {
        Brings::Inserts
    }

    /// See [`Connectors::asked_by_key`].
    fn asked_by_key(&self) -> bool {
        false
    }

    /// See [`Connectors::open_lookup`].
    fn open_lookup(&self, table: &TableSpec, _keys: &[usize]) -> Result<LookedUp> {
        Err(cannot_be_looked_up(table))
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>>;

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>>;

    /// See [`Connectors::open_committer`].
    fn open_committer(&self, _table: &TableSpec, _job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        Ok(None)
    }
}

/// All connectors, by name.
#[derive(Clone)]
pub struct Registry {
    by_name: BTreeMap<String, Arc<dyn Connector>>,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

impl Registry {
    /// The connectors of this crate.
    pub fn new() -> Registry {
        #[cfg(feature = "postgres")]
        let jdbc: Arc<dyn Connector> = Arc::new(postgres::Jdbc);
        #[cfg(not(feature = "postgres"))]
        let jdbc: Arc<dyn Connector> = Arc::new(absent::Absent { feature: "postgres" });
        #[cfg(feature = "kafka")]
        let [kafka, upsert_kafka]: [Arc<dyn Connector>; 2] =
            [Arc::new(kafka::Kafka::new(false)), Arc::new(kafka::Kafka::new(true))];
        #[cfg(not(feature = "kafka"))]
        let [kafka, upsert_kafka]: [Arc<dyn Connector>; 2] =
            [Arc::new(absent::Absent { feature: "kafka" }), Arc::new(absent::Absent { feature: "kafka" })];
        #[cfg(feature = "kafka")]
        let history: Arc<dyn Connector> = Arc::new(history::HistoryThenLive);
        #[cfg(not(feature = "kafka"))]
        let history: Arc<dyn Connector> = Arc::new(absent::Absent { feature: "kafka" });
        Registry { by_name: BTreeMap::new() }
            .with("blackhole", Arc::new(blackhole::Blackhole))
            .with("datagen", Arc::new(datagen::Datagen))
            .with("delta", Arc::new(delta::Delta))
            .with("filesystem", Arc::new(filesystem::Filesystem))
            .with("history-then-live", history)
            .with("jdbc", jdbc)
            .with("kafka", kafka)
            .with("nexmark", Arc::new(nexmark::Nexmark))
            .with("print", Arc::new(print::Print))
            .with("upsert-kafka", upsert_kafka)
    }

    /// Adds a connector, in place of one of the same name.
    pub fn with(mut self, name: &str, connector: Arc<dyn Connector>) -> Registry {
        self.by_name.insert(name.to_owned(), connector);
        self
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    fn of(&self, table: &TableSpec) -> Result<&dyn Connector> {
        let name = table.connector();
        if let Some(connector) = self.by_name.get(name) {
            return Ok(connector.as_ref());
        }
        let known = self.names().collect::<Vec<_>>().join(", ");
        Err(if name.is_empty() {
            Error::sql(format!("the table `{}` does not say what it is connected to", table.name))
                .remedy(format!("add WITH ('connector' = '…'); there are {known}"))
        } else {
            Error::sql(format!("there is no connector '{name}'")).remedy(match did_you_mean(name, self.names()) {
                Some(guess) => format!("did you mean '{guess}'? There are {known}"),
                None => format!("there are {known}"),
            })
        })
    }
}

/// Adds where the table is declared.
fn at_table<T>(table: &TableSpec, result: Result<T>) -> Result<T> {
    match (result, &table.place) {
        (Err(e), Some(place)) => Err(e.at(place.clone())),
        (result, _) => result,
    }
}

impl Connectors for Registry {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        at_table(table, self.of(table).and_then(|c| c.validate(table, use_as)))
    }

    fn metadata(&self, table: &TableSpec) -> Result<Vec<Field>> {
        at_table(table, self.of(table).and_then(|c| c.metadata(table)))
    }

    fn finds_fields_by_name(&self, table: &TableSpec) -> bool {
        self.of(table).is_ok_and(|c| c.finds_fields_by_name(table))
    }

    fn takes(&self, table: &TableSpec) -> Takes {
        self.of(table).map_or(Takes::Inserts, |c| c.takes(table))
    }

    fn brings(&self, table: &TableSpec) -> Brings {
        self.of(table).map_or(Brings::Inserts, |c| c.brings(table))
    }

    fn single_writer(&self, table: &TableSpec) -> bool {
        match table.connector() {
            "filesystem" => wants_single_writer(table),
            "delta" => delta::wants_single_writer(table),
            #[cfg(feature = "postgres")]
            "jdbc" => postgres::wants_single_writer(table),
            // Rows of one key keep their order only in one writer.
            #[cfg(feature = "kafka")]
            "upsert-kafka" => true,
            _ => false,
        }
    }

    fn asked_by_key(&self, table: &TableSpec) -> bool {
        self.of(table).is_ok_and(|c| c.asked_by_key())
    }

    fn open_lookup(&self, table: &TableSpec, keys: &[usize]) -> Result<LookedUp> {
        at_table(table, self.of(table).and_then(|c| c.open_lookup(table, keys)))
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        at_table(table, self.of(table).and_then(|c| c.open_source(table)))
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        at_table(table, self.of(table).and_then(|c| c.open_sink(table, context)))
    }

    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        at_table(table, self.of(table).and_then(|c| c.open_committer(table, job)))
    }
}

#[cfg(test)]
mod tests;
