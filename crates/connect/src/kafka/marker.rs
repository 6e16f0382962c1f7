//! The note of what has been committed: a record in a topic of notes, written in the transaction that it speaks of.
//!
//! The topic is compacted: of each transactional id the last note is kept for ever. All are in its first partition. A note
//! is a record of JSON that any tool can read. It is made with as many copies as the topic has that is written to first: a
//! cluster that makes one copy of a topic that does not say would lose the notes with one broker, and till it is back no
//! epoch could be committed.

use super::client::{
    ASK_SLICE, PATIENCE, Said, explain, first_contact, known_high, no_topic, partitions_now, partitions_of, patiently,
};
use super::options::{MARKER_TOPIC, Settings, TOPIC};
use super::properties::refused;
use futures::executor::block_on;
use millstream_core::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::{FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The partition of the notes.
pub const PARTITION: i32 = 0;

/// How long other jobs' transactions may keep a note from being read. They are open for a moment each; one that a crash
/// has left open is ended by the brokers after its transaction.timeout.ms, a minute unless it was set.
const SETTLE_PATIENCE: Duration = Duration::from_secs(90);

/// What the topic is made with: small segments, so that little has to be read at a start.
const TOPIC_SETTINGS: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "3600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The job that writes under this id.
    pub job: String,
    pub table: String,
    /// The run of the job, and what tells it from runs of another job that has the same name.
    pub generation: u64,
    pub run: u64,
    /// The last epoch whose rows are there.
    pub epoch: u64,
}

impl Note {
    pub fn write(&self) -> Result<String> {
        crate::position::write(self)
    }
}

fn client(settings: &Settings, isolation: &str) -> Result<(BaseConsumer<Said>, Said)> {
    let mut config = settings.properties.config(&[]);
    // Of its own, whatever the table says of reading: nothing is committed to it.
    config.set("group.id", settings.properties.group().unwrap_or("millstream"));
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "earliest").set("enable.partition.eof", "true");
    config.set("isolation.level", isolation);
    let said = Said::default();
    let client = BaseConsumer::from_config_and_context(&config, said.clone()).map_err(|e| refused(&e))?;
    Ok((client, said))
}

/// How many copies there are of the topic that is written to.
fn copies(settings: &Settings, reader: &BaseConsumer<Said>, said: &Said) -> Result<i32> {
    let (properties, name) = (&settings.properties, settings.topic());
    if partitions_of(properties, reader.client(), said, name)?.is_none() {
        return Err(no_topic(properties, TOPIC, name));
    }
    patiently(|| {
        let doing = format!("describe the topic '{name}'");
        let metadata =
            reader.fetch_metadata(Some(name), ASK_SLICE).map_err(|e| explain(properties, &doing, &e, said))?;
        let topic = metadata.topics().iter().find(|t| t.name() == name);
        let copies = topic.and_then(|t| t.partitions().iter().map(|p| p.replicas().len()).max());
        match copies {
            Some(copies) if copies > 0 => Ok(copies as i32),
            // Another broker may be the one that is asked now.
            _ => Err(Error::io(format!("Kafka does not say how many copies of the topic '{name}' there are"))
                .remedy("try again")),
        }
    })
}

/// Makes the topic where it is not there.
pub fn make_topic(settings: &Settings) -> Result<()> {
    let topic = &settings.sink.marker_topic;
    let (reader, said) = client(settings, "read_committed")?;
    first_contact(&settings.properties, &reader, &said, Some(topic))?;
    if partitions_now(&settings.properties, reader.client(), &said, topic)?.is_some() {
        return Ok(());
    }
    let config: ClientConfig = settings.properties.config(&[]);
    let admin = AdminClient::from_config(&config).map_err(|e| refused(&e))?;
    let copies = copies(settings, &reader, &said)?;
    // More than half of them, so that no note is lost with whoever took it alone. Of two, one may be away.
    let in_sync = (copies >= 3).then(|| (copies / 2 + 1).to_string());
    let configs: Vec<(&str, &str)> =
        TOPIC_SETTINGS.into_iter().chain(in_sync.as_deref().map(|n| ("min.insync.replicas", n))).collect();
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(copies));
    let wanted = configs.iter().fold(new, |topic, (key, value)| topic.set(key, value));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    let made = block_on(admin.create_topics([&wanted], &options));
    let refused = match made {
        Ok(results) => match results.into_iter().next() {
            // Two at once: one of them is told that it is there.
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => None,
            Some(Err((_, code))) => Some(code.to_string()),
        },
        Err(e) => Some(e.to_string()),
    };
    if let Some(why) = refused {
        let settings: Vec<String> = configs.iter().map(|(k, v)| format!("--config {k}={v}")).collect();
        return Err(Error::usage(format!("the topic of committed epochs, '{topic}', cannot be made: {why}")).remedy(format!(
            "let this user create it, or make it as another, and grant READ and WRITE: kafka-topics.sh --create --topic {topic} \
             --partitions 1 --replication-factor {copies} {}; or name another with '{MARKER_TOPIC}'",
            settings.join(" ")
        )));
    }
    let deadline = Instant::now() + PATIENCE;
    while partitions_now(&settings.properties, reader.client(), &said, topic)?.is_none() {
        if Instant::now() > deadline {
            return Err(Error::io(format!("the topic '{topic}' was made and does not appear")).remedy("try again"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// The last note of a transactional id. With `settled`, all that has been written is waited for, also where it stands behind
/// a transaction of somebody else that is still open.
pub fn read(settings: &Settings, id: &str, settled: bool) -> Result<Option<Note>> {
    let topic = &settings.sink.marker_topic;
    let (reader, said) = client(settings, "read_committed")?;
    let failed = |e: &KafkaError| match e.rdkafka_error_code() {
        // It is there: it was looked for, or made, before. Brokers hear of a topic that has just been made one after the other.
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Error::io(format!(
            "a broker of Kafka at {} does not know the topic '{topic}'",
            settings.properties.brokers()
        ))
        .remedy("see that it was not deleted: it says which epochs are committed"),
        _ => explain(&settings.properties, "read the topic of committed epochs", e, &said),
    };
    let ends = || patiently(|| reader.fetch_watermarks(topic, PARTITION, ASK_SLICE).map_err(|e| failed(&e)));
    let (beginning, mut end) = ends()?;
    if settled {
        let (all, _) = client(settings, "read_uncommitted")?;
        let written = patiently(|| all.fetch_watermarks(topic, PARTITION, ASK_SLICE).map_err(|e| failed(&e)))?.1;
        let deadline = Instant::now() + SETTLE_PATIENCE;
        while end < written {
            if Instant::now() > deadline {
                return Err(Error::io(format!("a transaction of another job stays open in the topic '{topic}'"))
                    .remedy("see which producer it is: kafka-transactions.sh find-hanging"));
            }
            std::thread::sleep(Duration::from_millis(20));
            end = ends()?.1;
        }
    }
    let mut note = None;
    if end <= beginning {
        return Ok(note);
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, PARTITION, Offset::Offset(beginning)).map_err(|e| failed(&e))?;
    reader.assign(&list).map_err(|e| failed(&e))?;
    let mut heard = Instant::now();
    loop {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                heard = Instant::now();
                if record.key() == Some(id.as_bytes()) {
                    note = match record.payload() {
                        Some(text) => Some(parse(topic, id, text)?),
                        // Whoever wrote a tombstone wants the id to begin anew.
                        None => None,
                    };
                }
                if record.offset() + 1 >= end {
                    return Ok(note);
                }
            }
            // A leader that has just been elected knows for a moment of fewer committed records than there are, and says
            // that its end is there: the note that is looked for may stand behind it.
            Some(Err(KafkaError::PartitionEOF(_))) => {
                if known_high(&reader, topic, PARTITION).is_some_and(|high| high >= end) {
                    return Ok(note);
                }
            }
            Some(Err(KafkaError::MessageConsumption(code @ RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                return Err(failed(&KafkaError::MessageConsumption(code)));
            }
            Some(Err(_)) | None if heard.elapsed() > PATIENCE => {
                return Err(Error::io(format!(
                    "the topic '{topic}' gives nothing for {}",
                    millstream_core::format_duration(PATIENCE)
                ))
                .remedy("see that the brokers are well"));
            }
            Some(Err(_)) | None => {}
        }
    }
}

fn parse(topic: &str, id: &str, text: &[u8]) -> Result<Note> {
    crate::position::parse(&String::from_utf8_lossy(text), &format!("the note of '{id}' in the topic '{topic}'"))
}
