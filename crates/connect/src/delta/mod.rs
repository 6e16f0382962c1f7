//! Tables of Delta Lake: a folder of Parquet files with a log that says which of them are the table.
//!
//! ```text
//!  exactly once:  writers ─▶ files, or rows by key ─▶ checkpoint ─▶ committer ─▶ one commit of the log for each epoch
//!  otherwise:     writer  ─▶ files ─▶ one commit at its end
//!  read:          log ─▶ the files of one version ─▶ rows
//! ```
//!
//! The log (`_delta_log`) is JSON, with a checkpoint in Parquet now and then; both are read and written here, by the protocol
//! of Delta (reader 1, writer 2, and what is listed in `protocol`). The files themselves are those of the connector
//! `filesystem`, on this machine or in a bucket that speaks S3: the same writers, the same reader, the same bounds.
//!
//! A table with PRIMARY KEY takes changes: an epoch's rows are compacted to the last of each key, and the files that hold
//! these keys are written anew without them (`merge`). Not here: watching a table for new versions, deletion vectors, column
//! mapping, and what administrators do (OPTIMIZE, VACUUM).

mod actions;
mod checkpoint;
mod commit;
mod log;
mod merge;
mod protocol;
mod schema;
mod settings;
mod sink;
mod source;
mod stats;
mod table;

use crate::Connector;
use commit::EpochCommitter;
use millstream_core::table::{TableUse, Takes, cannot_be_looked_up};
use millstream_core::{Committer, JobRun, Result, Sink, SinkContext, Source, TableSpec};
use settings::Settings;

pub struct Delta;

/// Whether all rows of a table must go through one writer: those of one key keep their order only there.
pub fn wants_single_writer(table: &TableSpec) -> bool {
    !table.primary_key.is_empty()
}

impl Connector for Delta {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        settings::check(table, use_as)?;
        if use_as == TableUse::Lookup { Err(cannot_be_looked_up(table)) } else { Ok(()) }
    }

    fn finds_fields_by_name(&self, _table: &TableSpec) -> bool {
        true
    }

    fn takes(&self, table: &TableSpec) -> Takes {
        if table.primary_key.is_empty() { Takes::Inserts } else { Takes::Upserts }
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        self.validate(table, TableUse::Source)?;
        Ok(Box::new(source::DeltaSource::open(table)?))
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        self.validate(table, TableUse::Sink)?;
        sink::open(table, context)
    }

    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(EpochCommitter::open(&Settings::of(table)?, job, true)?)))
    }
}
