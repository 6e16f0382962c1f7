//! Tables of PostgreSQL: Flink's connector `jdbc`, as a sink, and looked up by key (`lookup`).
//!
//! ```text
//!  exactly once:  writer ─▶ outbox of the epoch ─▶ checkpoint ─▶ committer ─▶ BEGIN; rows, note of the epoch; COMMIT
//!  otherwise:     writer ─▶ some thousand rows ─▶ BEGIN; rows; COMMIT
//! ```
//!
//! PostgreSQL cannot keep a transaction open over a crash without help from its administrator (prepared transactions are
//! off by default, and one that is forgotten blocks vacuum for ever). So the rows of an epoch travel with the checkpoint,
//! and one transaction writes them together with the number of the epoch: see `commit`.
//!
//! A table with PRIMARY KEY is written by key (insert, update, delete), one without takes new rows only. Not here:
//! reading a table from end to end (`scan`), TLS, and making tables: a table that is missing is an error with the statement to copy.

mod commit;
mod encode;
mod load;
mod lookup;
mod options;
mod session;
mod sink;
mod target;

use crate::Connector;
use crate::options::Guarantee;
use commit::EpochCommitter;
use millstream_core::table::{TableUse, Takes};
use millstream_core::{Committer, Error, JobRun, LookedUp, Result, Sink, SinkContext, Source, TableSpec};
use options::Settings;

pub struct Jdbc;

/// Whether all rows of a table must go through one writer: those of one key keep their order only there.
pub fn wants_single_writer(table: &TableSpec) -> bool {
    !table.primary_key.is_empty()
}

fn unread(table: &TableSpec) -> Error {
    let name = &table.name;
    Error::sql(format!("`{name}` cannot be read from end to end: 'jdbc' takes rows and is looked up by key")).remedy(
        format!("look it up, FROM left JOIN {name} FOR SYSTEM_TIME AS OF left.proctime AS r ON left.key = r.key"),
    )
}

impl Connector for Jdbc {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        Settings::of(table, false)?;
        if !table.partitioned_by.is_empty() {
            return Err(Error::sql(format!("`{}` has PARTITIONED BY, which means folders of files", table.name))
                .remedy("leave it out; PostgreSQL finds the partition of a row by itself"));
        }
        // Last, since a declaration is checked as a source first: what is wrong with it otherwise is worth more.
        if use_as == TableUse::Source { Err(unread(table)) } else { Ok(()) }
    }

    fn takes(&self, table: &TableSpec) -> Takes {
        if table.primary_key.is_empty() { Takes::Inserts } else { Takes::Upserts }
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        Err(unread(table))
    }

    fn asked_by_key(&self) -> bool {
        true
    }

    fn open_lookup(&self, table: &TableSpec, keys: &[usize]) -> Result<LookedUp> {
        self.validate(table, TableUse::Lookup)?;
        Ok(LookedUp::Asked(lookup::open(table, keys)?))
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        sink::open(table, context)
    }

    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        let settings = Settings::of(table, true)?;
        if !Guarantee::commits(settings.guarantee, true)? {
            return Ok(None);
        }
        Ok(Some(Box::new(EpochCommitter::open(settings, table.clone(), job.clone())?)))
    }
}
