//! A connector that this build leaves out: known by name, so that the error says what to do and not that there is none.

use crate::Connector;
use millstream_core::table::TableUse;
use millstream_core::{Error, Result, Sink, SinkContext, Source, TableSpec};

pub struct Absent {
    /// The cargo feature that brings it in.
    pub feature: &'static str,
}

impl Absent {
    fn missing<T>(&self, table: &TableSpec) -> Result<T> {
        Err(Error::sql(format!("this build of Millstream is without the connector '{}'", table.connector())).remedy(
            format!(
                "build it with `cargo build -p millstream --features {}`, or without --no-default-features",
                self.feature
            ),
        ))
    }
}

impl Connector for Absent {
    fn validate(&self, table: &TableSpec, _use_as: TableUse) -> Result<()> {
        self.missing(table)
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        self.missing(table)
    }

    fn open_sink(&self, table: &TableSpec, _context: &SinkContext) -> Result<Box<dyn Sink>> {
        self.missing(table)
    }
}
