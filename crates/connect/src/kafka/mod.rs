//! Reads and writes topics: Flink's connectors `kafka` and `upsert-kafka`.
//!
//! ```text
//!  reading:          broker ─▶ librdkafka's threads ─▶ a queue for each partition, bounded in bytes ─▶ poll: decode ─▶ rows
//!  exactly once:     writer ─▶ outbox of the epoch ─▶ checkpoint ─▶ committer ─▶ one transaction: rows, note of the epoch
//!                       └─▶ rows, as they come ─────────────────────────────────────────┘
//!  otherwise:        writer ─▶ librdkafka's queue, bounded in bytes ─▶ broker
//! ```
//!
//! Offsets live in the job's checkpoints, and partitions are assigned by the engine: no group is joined, so there is no
//! rebalance that stops everybody. A `properties.group.id` is told the offsets after each checkpoint, for tools that show
//! how far behind a reader is.
//!
//! A transaction of Kafka's does not survive a crash, and one that is left open is given up by the broker after a while,
//! with all that was in it. So what counts is the outbox, and nothing can be seen before the checkpoint is safe: see `commit`. Rows that
//! are never changed are sent before, so that they can be seen soon after: see `running`.
//!
//! `kafka` has new rows only, unless its format says what has become of rows; `upsert-kafka` goes by the table's PRIMARY KEY, and
//! a deleted row is a record without a value (a tombstone).

mod client;
mod commit;
mod encode;
mod handover;
mod layout;
mod marker;
mod native;
mod offsets;
mod options;
mod produce;
mod properties;
mod reader;
mod rows;
mod running;
mod sink;
mod source;

use crate::Connector;
use crate::options::Guarantee;
use arrow::datatypes::Field;
use millstream_core::table::{Brings, TableUse, Takes, cannot_be_looked_up};
use millstream_core::{Committer, JobRun, Result, Sink, SinkContext, Source, TableSpec};
use millstream_formats::avro::{CONFLUENT, DEBEZIUM_CONFLUENT};
use millstream_formats::protobuf::{PROTOBUF, PROTOBUF_CONFLUENT};
use options::Settings;

/// Opens a topic that goes on where a history ends.
pub(crate) fn open_live(table: &TableSpec) -> Result<Box<dyn crate::history::Live>> {
    let settings = Settings::of(table, TableUse::Source, false, true)?;
    Ok(Box::new(source::KafkaSource::open(table, settings)?))
}

/// Both connectors; they differ in what a row without its like means.
pub struct Kafka {
    upsert: bool,
    running: running::AllRunning,
}

impl Kafka {
    pub fn new(upsert: bool) -> Kafka {
        Kafka { upsert, running: running::AllRunning::default() }
    }
}

impl Connector for Kafka {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        if use_as == TableUse::Lookup {
            return Err(cannot_be_looked_up(table));
        }
        let settings = Settings::of(table, use_as, self.upsert, false)?;
        match use_as {
            TableUse::Source => layout::Reading::of(table, &settings).map(drop),
            TableUse::Sink | TableUse::Lookup => layout::Writing::of(table, &settings).map(drop),
        }
    }

    fn metadata(&self, table: &TableSpec) -> Result<Vec<Field>> {
        Ok(layout::metadata(table))
    }

    fn finds_fields_by_name(&self, table: &TableSpec) -> bool {
        // The key's columns may have another format. Records of `avro` say nothing of their fields, so all of them have to be known.
        let formats = ["format", "value.format", "key.format"].into_iter().filter_map(|key| table.options.get(key));
        formats.clone().count() > 0
            && formats.clone().all(|format| {
                ["json", CONFLUENT, DEBEZIUM_CONFLUENT, PROTOBUF, PROTOBUF_CONFLUENT].contains(&format.as_str())
            })
    }

    fn takes(&self, table: &TableSpec) -> Takes {
        match self.upsert {
            true => Takes::Upserts,
            false if options::tells_changes(table) => Takes::Retractions,
            false => Takes::Inserts,
        }
    }

    fn brings(&self, table: &TableSpec) -> Brings {
        match self.upsert {
            true => Brings::Upserts,
            false if options::tells_changes(table) => Brings::All,
            false => Brings::Inserts,
        }
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        let settings = Settings::of(table, TableUse::Source, self.upsert, true)?;
        Ok(Box::new(source::KafkaSource::open(table, settings)?))
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        let settings = Settings::of(table, TableUse::Sink, self.upsert, true)?;
        sink::open(table, settings, context, &self.running)
    }

    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        let settings = Settings::of(table, TableUse::Sink, self.upsert, true)?;
        if !Guarantee::commits(settings.sink.guarantee, true)? {
            return Ok(None);
        }
        Ok(Some(Box::new(commit::EpochCommitter::open(settings, table, job.clone(), &self.running)?)))
    }
}
