//! Reads one partition, from its own queue of the shared client.
//!
//! The queue is filled by the client's threads up to its bound in bytes; nobody takes from it but `poll`. So a reader that
//! is not asked stops the fetching of its partition, and of no other.
//!
//! A bounded partition ends with its last record, or, where only records are left that nobody may see (those of aborted
//! transactions, and the marks of transactions), with the client's word that it has come to the end.

use super::client::{ReadClient, Said};
use super::offsets::{Partition, gone};
use super::rows::Gather;
use super::source::Hub;
use crate::position;
use millstream_core::{Behind, PartitionReader, Polled, Result};
use rdkafka::consumer::Consumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Records of one batch at most.
pub const ROWS_MAX: usize = millstream_formats::records::RECORDS_MAX;
/// Bytes of them at most, but for the last record.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// How long the oldest record may be asked for, once the place to go on at is gone.
const OLDEST_PATIENCE: Duration = Duration::from_secs(5);

/// Where a partition goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The offset of the next record.
    pub next: i64,
    /// Where the table ends, if it was bounded when the job began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<i64>,
}

/// Where a run stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Records from here on are not read.
    pub before: i64,
    /// So far had the topic come when the run started: to have read what is there is to be at the end. An end that lies
    /// farther is waited for.
    pub there: bool,
}

pub struct Reader {
    pub partition: Partition,
    pub name: String,
    /// `None`: there is nothing to be read.
    pub queue: Option<PartitionQueue<Said>>,
    pub hub: Arc<Hub>,
    pub gather: Gather,
    pub position: Position,
    /// Where this run stops, which a bounded table does not go beyond and `--available-now` chooses anew each time.
    pub stop: Option<Stop>,
    /// The end has been seen.
    pub ended: bool,
    /// Everything that may be read before this offset has been: behind the last record lie marks of transactions.
    pub read_to: i64,
    /// Records of one batch at most.
    pub rows_max: usize,
    /// One reader of the table hands on the partitions that have come since.
    pub finds: bool,
}

impl Reader {
    fn at_end(&self) -> bool {
        self.stop.is_some_and(|stop| self.position.next >= stop.before)
    }

    /// Takes in what has come. True when the partition has come to its end.
    fn take_in(&mut self) -> Result<bool> {
        let Some(queue) = &self.queue else { return Ok(true) };
        // Record by record, since that is how the client hands them out; they become columns behind this loop.
        while self.gather.len() < self.rows_max && self.gather.bytes() < BATCH_BYTES_MAX {
            match queue.poll(Duration::ZERO) {
                None => return Ok(false),
                Some(Ok(record)) => {
                    if self.stop.is_some_and(|stop| record.offset() >= stop.before) {
                        return Ok(true);
                    }
                    self.gather.push(&record);
                    self.position.next = record.offset() + 1;
                    if self.stop.is_some_and(|stop| self.position.next >= stop.before) {
                        return Ok(true);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    let high = self.hub.high_watermark(&self.partition);
                    self.read_to = high.unwrap_or(self.read_to);
                    // A leader that has just been elected may know of fewer records for a moment than were there when the
                    // run began: then this is its end and not that of the partition.
                    if self.stop.is_some_and(|stop| stop.there && high.is_none_or(|high| high >= stop.before)) {
                        return Ok(true);
                    }
                }
                Some(Err(e)) => self.hear(&e)?,
            }
        }
        Ok(self.at_end())
    }

    /// What the client says of this partition.
    fn hear(&self, e: &KafkaError) -> Result<()> {
        match e.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                let Partition { topic, number } = &self.partition;
                let watermarks = self.hub.client.fetch_watermarks(topic, *number, OLDEST_PATIENCE);
                Err(gone(&self.partition, self.position.next, watermarks.ok().map(|w| w.0)))
            }
            _ => self.hub.hear(e, &self.name).map_or(Ok(()), |e| Err(e.at(self.partition.at(self.position.next)))),
        }
    }

    fn finish(&mut self) {
        if self.queue.take().is_some() {
            self.hub.release(&self.partition);
        }
    }
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        // What lies beyond the end is taken from the queue once, and then it is empty.
        self.ended = self.ended || self.at_end() || self.take_in()?;
        if self.gather.len() > 0 {
            return Ok(Polled::Rows(self.gather.rows()?));
        }
        if self.ended {
            self.finish();
            return Ok(Polled::End);
        }
        self.hub.check()?;
        Ok(Polled::Pending)
    }

    fn skipped(&self) -> u64 {
        self.gather.skipped()
    }

    fn behind(&self) -> Behind {
        let high = self.hub.high_watermark(&self.partition);
        let end = self.stop.map(|stop| stop.before);
        let end = high.into_iter().chain(end).min();
        let rows = end.filter(|_| !self.ended).map(|end| end.saturating_sub(self.position.next.max(self.read_to)));
        let rows = if self.ended { Some(0) } else { rows };
        Behind { rows: rows.map(|rows| rows.max(0) as u64), ..Behind::default() }
    }

    fn take_at_most(&mut self, rows: usize) {
        self.rows_max = rows.clamp(1, ROWS_MAX);
    }

    fn position(&self) -> Result<String> {
        position::write(&self.position)
    }

    fn committed(&mut self, position: &str) -> Result<()> {
        let position: Position = position::parse(position, &self.name)?;
        self.hub.tell_group(&self.partition, position.next);
        Ok(())
    }

    fn found(&mut self) -> Result<Vec<Box<dyn PartitionReader>>> {
        if self.finds { self.hub.clone().readers_found() } else { Ok(Vec::new()) }
    }
}

/// The queue of a partition, apart from those of the others.
pub fn queue_of(client: &Arc<ReadClient>, partition: &Partition) -> Result<PartitionQueue<Said>> {
    client.split_partition_queue(&partition.topic, partition.number).ok_or_else(|| {
        millstream_core::Error::io(format!("the Kafka client has no room for {}", partition.name())).remedy("try again")
    })
}
