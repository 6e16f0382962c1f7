//! Takes rows and forgets them.

use crate::Connector;
use crate::options::{check_keys, only};
use millstream_core::table::{TableUse, Takes};
use millstream_core::{Batch, Error, Result, Sink, SinkContext, Source, TableSpec};

pub struct Blackhole;

impl Connector for Blackhole {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        only(table, use_as, TableUse::Sink)?;
        check_keys(table, &[])
    }

    fn takes(&self, _table: &TableSpec) -> Takes {
        Takes::All
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        only(table, TableUse::Source, TableUse::Sink)?;
        Err(Error::internal("a blackhole gives no rows"))
    }

    fn open_sink(&self, _table: &TableSpec, _context: &SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(BlackholeSink { rows: 0 }))
    }
}

/// Counts, so that what went in can be seen in a debugger and the work before it cannot be left out.
struct BlackholeSink {
    rows: u64,
}

impl Sink for BlackholeSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.rows += std::hint::black_box(batch).len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}
}
