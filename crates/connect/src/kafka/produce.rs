//! Hands records to the client that writes, at the speed at which brokers take them.

use super::client::{LEADER_PATIENCE, Said, WriteClient, explain, explain_code, no_topic, partitions_of};
use super::encode::Encoded;
use super::options::{Partitioner, Settings, TOPIC};
use millstream_core::{Error, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use std::time::Duration;

/// How long to wait for room in the client's queue before the next try.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// How long everything that was handed over may take to arrive.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(300);

pub struct Produce {
    pub client: WriteClient,
    pub said: Said,
    topic: String,
    partitions: usize,
    partitioner: Partitioner,
    next: usize,
    bytes: u64,
}

impl Produce {
    /// Looks that the topic is there.
    pub fn new(settings: &Settings, (client, said): (WriteClient, Said)) -> Result<Produce> {
        let topic = settings.topic().to_owned();
        let partitions = partitions_of(&settings.properties, client.client(), &said, &topic)?
            .ok_or_else(|| no_topic(&settings.properties, TOPIC, &topic))?;
        let partitioner = settings.sink.partitioner;
        Ok(Produce { client, said, topic, partitions: partitions.len(), partitioner, next: 0, bytes: 0 })
    }

    /// Bytes of records handed over so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends records of the writer `index`.
    pub fn send(&mut self, settings: &Settings, records: &Encoded, index: usize) -> Result<()> {
        for row in 0..records.len() {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
            let (key, value) = (records.key(row), records.value(row));
            self.bytes += (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
            record.key = key;
            record.payload = value;
            record.timestamp = records.millis(row);
            record.headers = records.headers(row);
            record.partition = match self.partitioner {
                Partitioner::Default => None,
                Partitioner::Fixed => Some((index % self.partitions) as i32),
                Partitioner::RoundRobin => {
                    self.next = (self.next + 1) % self.partitions;
                    Some(self.next as i32)
                }
            };
            self.hand_over(settings, record)?;
        }
        self.check(settings)
    }

    pub fn hand_over(&self, settings: &Settings, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    // Records that nobody takes are given up after a while, and then there is room and an error.
                    self.check(settings)?;
                    record = back;
                    std::thread::sleep(FULL_PAUSE);
                }
                Err((e, _)) => return Err(self.failed(settings, &format!("take a record for '{}'", self.topic), &e)),
            }
        }
    }

    /// That no record was lost.
    pub fn check(&self, settings: &Settings) -> Result<()> {
        match self.said.lost() {
            None => Ok(()),
            Some(code) => Err(explain_code(
                &settings.properties,
                &format!("take a record for '{}'", self.topic),
                code,
                &self.said,
            )),
        }
    }

    /// Waits until everything has arrived.
    pub fn arrive(&self, settings: &Settings) -> Result<()> {
        let done = self.client.flush(ARRIVAL_PATIENCE);
        self.check(settings)?;
        done.map_err(|e| self.failed(settings, "take the records", &e))
    }

    pub fn failed(&self, settings: &Settings, doing: &str, e: &KafkaError) -> Error {
        explain(&settings.properties, doing, e, &self.said)
    }

    /// Readies the client for transactions: what an earlier one of this id has left open is ended, and it is shut out.
    pub fn begin_life(&self, settings: &Settings) -> Result<()> {
        self.client
            .init_transactions(LEADER_PATIENCE)
            .map_err(|e| self.failed(settings, "take up the transactional id", &e))
    }
}
