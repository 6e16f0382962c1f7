//! A table that is read from a bounded history first and then goes on live: `'connector' = 'history-then-live'`.
//!
//! ```text
//!  files ──▶ history ────────rows, watermark───────▶│ ended: greatest offsets, greatest time, ids of its end
//!                         │ promise                 ▼
//!  topic[0] ─▶ live 0   (waits, keeps to the promise) ── opened there ──▶ rows that the history does not have
//!  topic[1] ─▶ live 1   (waits, keeps to the promise) ── opened there ──▶ …
//! ```
//!
//! The history is one partition, as the files of any table are; each live partition is one of its own, and all of them are
//! there from the start. A live partition that came only when the history has ended would begin without a promise: whichever
//! answered first would move the watermark alone, and whether the others' rows are late would depend on who that was. One
//! that was there and promised nothing would hold every window open until the whole history has been read. So while it
//! waits, a live partition *keeps to* the watermark of the history: its rows come behind the history's, so what the history
//! has promised it can promise too. When the history ends, every live partition therefore stands at the watermark that the
//! history has come to, counts, and holds it until its own rows come. No live row can make a row of the history late, since
//! none is there before the history has ended; and no partition can make the first rows of another one late. All of that
//! goes through promises in the order of each task's own stream, so no moment of time decides anything.
//!
//! Where the handover goes by offset the history says which partition each row came from. Its watermark then stays behind by
//! what the slowest partition is behind the fastest ([`PartitionReader::lag`]: in the task that reads the history, so that
//! no row of the history is overtaken by what holds it), and each live partition keeps to what *its own* rows have come to.
//! The watermark is then what it would have been had the topic been read from its beginning: a partition that was archived
//! less far than others is not late by what the others have. One with records of which the history has had none so far holds
//! the watermark until the history ends.
//!
//! Always true:
//! - The live leg is opened only after the last row of the history has been handed on, and where it begins follows from the
//!   rows of the history alone (or from what the table says).
//! - A position of the history holds all that decides the handover. When the history has ended, the checkpoint still has it
//!   ([`Source::recall`]): a task may have saved that the history is over, and another one that it still waits.
//! - Files that come to the history's folder after reading began belong to the live leg, also after a restart.
//! - Remembered ids are not saved: a position names a place in the history from which a restart reads them again, so they
//!   cost no checkpoint anything. They are bounded by event time and by bytes, and a live row below that bound is an error.
//!
//! Here: `options`, checked by the connectors of the legs; `layout`, which columns of a leg are which; `past` and `live`, the
//! readers; `hub`, what they share; `ids`. Not here: files and topics themselves.
//!
//! [`Source::recall`]: millstream_core::Source::recall

mod hub;
mod ids;
mod layout;
mod live;
mod options;
mod past;
mod source;

use crate::Connector;
use crate::options::only;
use crate::{filesystem, kafka};
use arrow::datatypes::{Field, SchemaRef};
use millstream_core::table::TableUse;
use millstream_core::{Millis, PartitionReader, Result, Sink, SinkContext, Source, TableSpec};
use options::Settings;
use std::collections::BTreeMap;

pub struct HistoryThenLive;

/// Where the live leg begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Each partition at the offset named; those that are not named at their beginning. Nothing before the offsets may be
    /// missing.
    Offsets(BTreeMap<i32, i64>),
    /// At the first records whose own timestamps are this or later.
    Time(Millis),
    Beginning,
    /// As the options of the leg say.
    AsTheTableSays,
}

/// A live partition, as it is known before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePartition {
    pub name: String,
    pub number: i32,
    /// It has no record.
    pub empty: bool,
}

/// What goes on where a history ends.
pub trait Live: Send {
    fn schema(&self) -> SchemaRef;

    fn bounded(&self) -> bool;

    fn partitions(&mut self) -> Result<Vec<LivePartition>>;

    /// Readers of the partitions: `known` ones at their positions, or where `begin` says. Of an unbounded leg also those
    /// that are not among them, at their beginning.
    fn open(
        &mut self,
        begin: &Begin,
        known: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Box<dyn PartitionReader>>>;
}

/// Opens the legs, as often as it takes.
pub trait Legs: Send + Sync {
    /// The history, with all columns that are read of it, or with these.
    fn history(&self, columns: Option<&[String]>) -> Result<Box<dyn Source>>;

    fn live(&self) -> Result<Box<dyn Live>>;
}

/// Files and a topic.
struct FilesAndTopic {
    history: TableSpec,
    live: TableSpec,
}

impl Legs for FilesAndTopic {
    fn history(&self, columns: Option<&[String]>) -> Result<Box<dyn Source>> {
        let mut table = self.history.clone();
        if let Some(columns) = columns {
            let at = |name: &String| Ok(table.schema.index_of(name)?);
            table.projection = Some(columns.iter().map(at).collect::<Result<_>>()?);
            table.metadata = Vec::new();
        }
        options::of_history(&table, filesystem::open_once(&table))
    }

    fn live(&self) -> Result<Box<dyn Live>> {
        let topic = options::of_live(&self.live, kafka::open_live(&self.live))?;
        Ok(Box::new(Topic { topic, table: self.live.clone() }))
    }
}

/// Says what is wrong with keys as the table has them.
struct Topic {
    topic: Box<dyn Live>,
    table: TableSpec,
}

impl Live for Topic {
    fn schema(&self) -> SchemaRef {
        self.topic.schema()
    }

    fn bounded(&self) -> bool {
        self.topic.bounded()
    }

    fn partitions(&mut self) -> Result<Vec<LivePartition>> {
        options::of_live(&self.table, self.topic.partitions())
    }

    fn open(
        &mut self,
        begin: &Begin,
        known: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Box<dyn PartitionReader>>> {
        options::of_live(&self.table, self.topic.open(begin, known))
    }
}

impl Connector for HistoryThenLive {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        only(table, use_as, TableUse::Source)?;
        Settings::of(table).map(drop)
    }

    fn metadata(&self, table: &TableSpec) -> Result<Vec<Field>> {
        kafka::Kafka::new(false).metadata(table)
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        let settings = Settings::of(table)?;
        let legs = FilesAndTopic { history: settings.history.clone(), live: settings.live.clone() };
        Ok(Box::new(source::HistorySource::open(settings, Box::new(legs))?))
    }

    fn open_sink(&self, table: &TableSpec, _context: &SinkContext) -> Result<Box<dyn Sink>> {
        only(table, TableUse::Sink, TableUse::Source)?;
        Err(millstream_core::Error::internal("a table that is only read has no sink"))
    }
}

#[cfg(test)]
mod tests;
