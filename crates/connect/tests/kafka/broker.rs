//! The broker of the tests, and a client of it that knows nothing of ours.

use arrow::datatypes::{Field, Schema};
use futures::executor::block_on;
use millstream_core::{Error, Place, Result, TableSpec};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

static UP: RwLock<()> = RwLock::new(());

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A variable of the environment; `None` where this run is without it, which is said loudly, and is a failure in CI.
pub fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|v| !v.is_empty());
    if value.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is not set, and CI must not skip");
        // Past the test harness, which shows what a test prints only if it fails.
        let _ = writeln!(std::io::stderr(), "!! SKIPPED: {name} is not set; run ./dev servers cargo test ..");
    }
    value
}

pub enum Use {
    /// Others use the broker at the same time.
    Shared { _up: RwLockReadGuard<'static, ()> },
    /// Nobody does: it may be stopped.
    Alone { _up: RwLockWriteGuard<'static, ()> },
}

pub struct Broker {
    pub address: String,
    /// Ends the names of this test's topics.
    unique: String,
    _use: Use,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
    pub millis: i64,
    pub headers: Vec<(String, String)>,
}

pub fn broker() -> Option<Broker> {
    let up = UP.read().unwrap_or_else(|e| e.into_inner());
    Broker::at(Use::Shared { _up: up })
}

pub fn broker_alone() -> Option<Broker> {
    let up = UP.write().unwrap_or_else(|e| e.into_inner());
    Broker::at(Use::Alone { _up: up })
}

impl Broker {
    fn at(used: Use) -> Option<Broker> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let address = variable("MILLSTREAM_TEST_KAFKA")?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is past 1970");
        let unique = format!("{}-{}", now.as_micros(), NEXT.fetch_add(1, Ordering::Relaxed));
        Some(Broker { address, unique, _use: used })
    }

    /// The name of a topic or of anything else, as no other test has it.
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.unique)
    }

    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("a client")
    }

    pub fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.name(name);
        // The tests' records are of 1970, and would be gone at once.
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let made = block_on(self.admin().create_topics([&topic], &AdminOptions::new())).expect("an answer");
        made.into_iter().for_each(|made| drop(made.expect("created")));
        name
    }

    pub fn grow(&self, topic: &str, partitions: usize) {
        let wanted = NewPartitions::new(topic, partitions);
        let grown = block_on(self.admin().create_partitions([&wanted], &AdminOptions::new())).expect("an answer");
        grown.into_iter().for_each(|grown| drop(grown.expect("grown")));
    }

    pub fn delete(&self, topic: &str) {
        let gone = block_on(self.admin().delete_topics(&[topic], &AdminOptions::new())).expect("an answer");
        gone.into_iter().for_each(|gone| drop(gone.expect("deleted")));
    }

    /// Takes away the records before an offset, as retention does.
    pub fn forget_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("listed");
        block_on(self.admin().delete_records(&list, &AdminOptions::new())).expect("deleted");
    }

    pub fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config();
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create().expect("a producer")
    }

    /// Records of key, value and time; all into one partition.
    pub fn produce(&self, topic: &str, partition: i32, records: &[(Option<&str>, Option<&str>, i64)]) {
        let producer = self.producer(&[]);
        for (key, value, millis) in records {
            let mut record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(partition).timestamp(*millis);
            record.key = *key;
            record.payload = *value;
            producer.send(record).map_err(|(e, _)| e).expect("taken");
        }
        producer.flush(PATIENCE).expect("arrived");
    }

    /// Values, at the times 1000, 2000 and so on.
    pub fn values(&self, topic: &str, partition: i32, values: &[&str]) {
        let records: Vec<_> = values.iter().zip(1..).map(|(value, n)| (None, Some(*value), n * 1000)).collect();
        self.produce(topic, partition, &records);
    }

    /// One record of any bytes.
    pub fn bytes(&self, topic: &str, value: &[u8]) {
        let producer = self.producer(&[("message.max.bytes", "104857600")]);
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(0).payload(value);
        producer.send(record).map_err(|(e, _)| e).expect("taken");
        producer.flush(PATIENCE).expect("arrived");
    }

    pub fn with_headers(&self, topic: &str, value: &str, headers: &[(&str, &str)]) {
        let producer = self.producer(&[]);
        let all = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
        let record: BaseRecord<'_, str, str> =
            BaseRecord::to(topic).partition(0).payload(value).timestamp(9000).headers(all);
        producer.send(record).map_err(|(e, _)| e).expect("taken");
        producer.flush(PATIENCE).expect("arrived");
    }

    fn reader(&self, isolation: &str) -> BaseConsumer {
        let mut config = self.config();
        config.set("group.id", self.name("onlooker")).set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("isolation.level", isolation);
        config.create().expect("a consumer")
    }

    /// All that stands in a topic, by partition; what a reader of committed records sees. A broker says that a transaction is
    /// committed a moment before readers see it, so that moment is waited for.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let (committed, all) = (self.reader("read_committed"), self.reader("read_uncommitted"));
        let metadata = all.fetch_metadata(Some(topic), PATIENCE).expect("described");
        let until = Instant::now() + PATIENCE;
        for partition in 0..metadata.topics()[0].partitions().len() {
            let end = |of: &BaseConsumer| of.fetch_watermarks(topic, partition as i32, PATIENCE).expect("an answer").1;
            while end(&committed) < end(&all) {
                assert!(Instant::now() < until, "a transaction stays open in {topic}[{partition}]");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.records_as(topic, "read_committed")
    }

    pub fn records_as(&self, topic: &str, isolation: &str) -> Vec<Record> {
        let reader = self.reader(isolation);
        let metadata = reader.fetch_metadata(Some(topic), PATIENCE).expect("described");
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition as i32, Offset::Beginning).expect("listed");
        }
        reader.assign(&list).expect("assigned");
        let (mut records, mut ended, until) = (Vec::new(), 0, Instant::now() + PATIENCE);
        while ended < partitions {
            assert!(Instant::now() < until, "the topic {topic} has no end");
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(m)) => records.push(Record {
                    partition: m.partition(),
                    offset: m.offset(),
                    key: m.key().map(|k| String::from_utf8_lossy(k).into_owned()),
                    value: m.payload().map(|v| String::from_utf8_lossy(v).into_owned()),
                    millis: m.timestamp().to_millis().unwrap_or(-1),
                    headers: m.headers().map_or_else(Vec::new, |all| {
                        let text = |v: Option<&[u8]>| String::from_utf8_lossy(v.unwrap_or_default()).into_owned();
                        all.iter().map(|h| (h.key.to_owned(), text(h.value))).collect()
                    }),
                }),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                _ => {}
            }
        }
        records.sort_by_key(|r| (r.partition, r.offset));
        records
    }

    /// Values, sorted.
    pub fn sorted(&self, topic: &str) -> Vec<String> {
        let mut values: Vec<_> = self.records(topic).into_iter().map(|r| r.value.unwrap_or("NULL".into())).collect();
        values.sort();
        values
    }

    pub fn commit_group(&self, group: &str, topic: &str, offsets: &[(i32, i64)]) {
        let mut config = self.config();
        let reader: BaseConsumer = config.set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).expect("listed");
        }
        reader.commit(&list, rdkafka::consumer::CommitMode::Sync).expect("committed");
    }

    pub fn group_offset(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let mut config = self.config();
        let reader: BaseConsumer = config.set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = reader.committed_offsets(list, PATIENCE).expect("an answer");
        match list.elements()[0].offset() {
            Offset::Offset(at) => Some(at),
            _ => None,
        }
    }

    pub fn spec(&self, connector: &str, topic: &str, columns: Vec<Field>, options: &[(&str, &str)]) -> TableSpec {
        let mut all = vec![
            ("connector".to_string(), connector.to_string()),
            ("properties.bootstrap.servers".to_string(), self.address.clone()),
            ("topic".to_string(), topic.to_string()),
        ];
        all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
        TableSpec {
            name: "t".into(),
            schema: Arc::new(Schema::new(columns)),
            projection: None,
            metadata: Vec::new(),
            options: all.into_iter().collect(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            place: Some(Place("q.sql:1:14".into())),
        }
    }
}

/// Stops, starts, pauses the broker; `None` where nobody may.
pub fn control(what: &str) -> Option<()> {
    let command = variable("MILLSTREAM_TEST_KAFKA_CONTROL")?;
    let done = std::process::Command::new(command).arg(what).status().expect("it runs");
    assert!(done.success(), "the broker does not {what}");
    Some(())
}

pub fn fails<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(e) => e,
    }
}
