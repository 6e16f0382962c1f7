//! What opens the world's tables for one run.

use crate::log::LogSource;
use crate::sink::{TableCommitter, TableKind, Writer};
use crate::workload::Workload;
use crate::world::{Run, World};
use arrow::datatypes::Field;
use millstream_core::table::{TableUse, Takes};
use millstream_core::{Committer, Connectors, Error, JobRun, Result, Sink, SinkContext, Source, TableSpec};
use std::sync::Arc;

/// The world's tables, as one run opens them.
pub struct SimTables {
    pub world: Arc<World>,
    pub run: Arc<Run>,
    pub workload: Arc<Workload>,
}

impl SimTables {
    fn kind(&self, table: &str) -> TableKind {
        self.workload.kinds.get(table).copied().unwrap_or(TableKind::Ledger)
    }
}

impl Connectors for SimTables {
    fn validate(&self, _: &TableSpec, _: TableUse) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, _: &TableSpec) -> Result<Vec<Field>> {
        Ok(Vec::new())
    }

    fn takes(&self, _table: &TableSpec) -> Takes {
        Takes::All
    }

    fn single_writer(&self, table: &TableSpec) -> bool {
        self.workload.single_writer && !self.workload.logs.contains_key(&table.name)
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        let log = self.workload.logs.get(&table.name);
        let log = log.ok_or_else(|| Error::usage(format!("the world has no log `{}`", table.name)))?;
        Ok(Box::new(LogSource::new(self.world.clone(), self.run.clone(), log.clone(), table)))
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        let (world, run) = (self.world.clone(), self.run.clone());
        Ok(Box::new(Writer::new(world, run, &table.name, self.kind(&table.name), context)))
    }

    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(TableCommitter {
            world: self.world.clone(),
            run: self.run.clone(),
            table: table.name.clone(),
            kind: self.kind(&table.name),
            generation: job.generation,
        })))
    }
}
