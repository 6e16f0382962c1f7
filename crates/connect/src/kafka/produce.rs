//! Hands records to the client that writes, at the speed at which brokers take them.

use super::client::{LEADER_PATIENCE, Said, WriteClient, explain, explain_code, no_topic, partitions_of};
use super::encode::Encoded;
use super::native::{Out, OutTopic, all_arrived};
use super::options::{Partitioner, Settings, TOPIC};
use millstream_core::{Error, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for room in the client's queue before the next try.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// How long everything that was handed over may take to arrive.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(300);

/// And how long at a time: in between it is looked whether a record was lost.
const ARRIVAL_SLICE: Duration = Duration::from_millis(100);

pub struct Produce {
    pub client: Arc<WriteClient>,
    pub said: Said,
    name: String,
    topic: OutTopic,
    partitions: usize,
    partitioner: Partitioner,
    /// The partition of the next record, for those that go round.
    next: AtomicUsize,
    bytes: AtomicU64,
}

impl Produce {
    /// Looks that the topic is there.
    pub fn new(settings: &Settings, (client, said): (WriteClient, Said)) -> Result<Produce> {
        let name = settings.topic().to_owned();
        let partitions = partitions_of(&settings.properties, client.client(), &said, &name)?
            .ok_or_else(|| no_topic(&settings.properties, TOPIC, &name))?;
        let client = Arc::new(client);
        let topic = OutTopic::new(&client, &name).ok_or_else(|| {
            Error::io(format!("the Kafka client has no room for the topic '{name}'")).remedy("try again")
        })?;
        let (partitions, partitioner) = (partitions.len(), settings.sink.partitioner);
        let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        Ok(Produce { client, said, name, topic, partitions, partitioner, next, bytes })
    }

    /// Bytes of records handed over so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sends records of the writer `index`, and waits where the brokers do not keep up.
    pub fn send(&self, settings: &Settings, records: &Encoded, index: usize) -> Result<()> {
        let mut next = 0;
        loop {
            next = self.offer(settings, records, next, index)?;
            // Records that nobody takes are given up after a while, and then there is room and an error.
            self.check(settings)?;
            if next == records.len() {
                return Ok(());
            }
            std::thread::sleep(FULL_PAUSE);
        }
    }

    /// Sends records of the writer `index` from the row `from` on, as many as there is room for: up to the row that is
    /// returned, and none behind it.
    pub fn offer(&self, settings: &Settings, records: &Encoded, from: usize, index: usize) -> Result<usize> {
        let round = self.next.load(Ordering::Relaxed);
        let partition = |row: usize| match self.partitioner {
            Partitioner::Default => None,
            Partitioner::Fixed => Some((index % self.partitions) as i32),
            Partitioner::RoundRobin => Some((round.wrapping_add(1 + row - from) % self.partitions) as i32),
        };
        let rows = from..records.len();
        let (taken, stopped) = match records.is_plain() {
            true => self.topic.hand_over(rows.map(|row| Out {
                key: records.key(row),
                value: records.value(row),
                partition: partition(row),
            })),
            // One by one: the library has no way to take many with times or headers.
            false => self.hand_over_each(rows.map(|row| {
                let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.name);
                (record.key, record.payload) = (records.key(row), records.value(row));
                record.timestamp = records.millis(row);
                record.headers = records.headers(row);
                record.partition = partition(row);
                record
            })),
        };
        self.next.fetch_add(taken, Ordering::Relaxed);
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len) as u64;
        let bytes = (from..from + taken).map(|row| length(records.key(row)) + length(records.value(row))).sum();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        match stopped {
            None | Some(RDKafkaErrorCode::QueueFull) => Ok(from + taken),
            Some(code) => Err(self.not_taken(settings, code)),
        }
    }

    fn hand_over_each<'a>(
        &self,
        records: impl Iterator<Item = BaseRecord<'a, [u8], [u8]>>,
    ) -> (usize, Option<RDKafkaErrorCode>) {
        let mut taken = 0;
        for record in records {
            if let Err((e, _)) = self.client.send(record) {
                return (taken, Some(e.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)));
            }
            taken += 1;
        }
        (taken, None)
    }

    /// Sends one record to any topic.
    pub fn hand_over(&self, settings: &Settings, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.check(settings)?;
                    record = back;
                    std::thread::sleep(FULL_PAUSE);
                }
                Err((e, _)) => return Err(self.failed(settings, &format!("take a record for '{}'", self.name), &e)),
            }
        }
    }

    /// That no record was lost.
    pub fn check(&self, settings: &Settings) -> Result<()> {
        self.said.lost().map_or(Ok(()), |code| Err(self.not_taken(settings, code)))
    }

    fn not_taken(&self, settings: &Settings, code: RDKafkaErrorCode) -> Error {
        explain_code(&settings.properties, &format!("take a record for '{}'", self.name), code, &self.said)
    }

    /// Waits until everything has arrived.
    pub fn arrive(&self, settings: &Settings) -> Result<()> {
        self.arrive_within(settings, ARRIVAL_PATIENCE)
    }

    /// The same, for as long as that.
    pub fn arrive_within(&self, settings: &Settings, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            let done = all_arrived(&self.client, ARRIVAL_SLICE);
            self.check(settings)?;
            if done {
                return Ok(());
            }
            if Instant::now() >= until {
                let late = KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut);
                return Err(self.failed(settings, "take the records", &late));
            }
        }
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
