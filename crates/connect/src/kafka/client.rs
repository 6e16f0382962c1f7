//! Clients of a cluster, and what they say in our words.
//!
//! librdkafka tries again by itself, without an end, and mostly says so in its log alone. So the last thing that it had to
//! say is kept here, and stands in the error once somebody has waited long enough.

use super::properties::{Properties, refused};
use millstream_core::{Error, ErrorKind, Result};
use rdkafka::bindings::rd_kafka_get_watermark_offsets;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, NoCustomPartitioner, ProducerContext};
use rdkafka::types::RDKafkaRespErr;
use std::ffi::CString;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long brokers may take to answer a question before it is given up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// And how long at a time: in between it is looked whether the client has been refused, which would be half a minute's
/// silence otherwise.
const CONTACT_SLICE: Duration = Duration::from_secs(1);

/// How long one question about a partition may go unanswered before it is asked anew: who leads the partition is looked up
/// with each, and a leader that has just died is asked in vain until the cluster has noticed, by default after nine seconds.
pub const ASK_SLICE: Duration = Duration::from_secs(10);

/// And how long such questions are asked again: so long may a partition have no leader, or the transactional id nobody who
/// keeps it.
pub const LEADER_PATIENCE: Duration = Duration::from_secs(60);

/// The wait before something is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(100);

pub type ReadClient = BaseConsumer<Said>;

/// What a client has said, for whoever asks why nothing comes.
#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    log: Option<String>,
    /// A word that no other try will change: a login that is refused.
    refused: Option<RDKafkaErrorCode>,
    /// The first record that was not taken.
    lost: Option<RDKafkaErrorCode>,
}

impl Said {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn log(&self) -> Option<String> {
        self.kept().log.clone()
    }

    /// Why nothing will ever come of this client, if that has been said.
    pub fn refused(&self) -> Option<RDKafkaErrorCode> {
        self.kept().refused
    }

    /// Why a record was not delivered, if any was not.
    pub fn lost(&self) -> Option<RDKafkaErrorCode> {
        self.kept().lost
    }
}

impl ClientContext for Said {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, text: &str) {
        // `[thrd:localhost:9092/bootstrap]: localhost:9092/bootstrap: Connect to … failed: Connection refused (…)`
        let text = text.split_once("]: ").map_or(text, |(_, rest)| rest);
        self.kept().log = Some(text.chars().take(300).collect());
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let mut kept = self.kept();
        // That no broker is up says less than why it was left, which has been said before.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) || kept.log.is_none() {
            kept.log = Some(reason.chars().take(300).collect());
        }
        let refusals =
            [Code::Authentication, Code::SaslAuthenticationFailed, Code::UnsupportedSASLMechanism, Code::SSL];
        kept.refused = error.rdkafka_error_code().filter(|code| refusals.contains(code)).or(kept.refused);
    }
}

impl ConsumerContext for Said {}

impl ProducerContext<NoCustomPartitioner> for Said {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((e, _)) = delivered {
            let code = e.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            self.kept().lost.get_or_insert(code);
        }
    }
}

/// How often it is listened to what a client that writes has to say, and how much at a time: records that were not taken, and
/// what is wrong with brokers. Of records that were taken it says nothing.
const HEAR_PAUSE: Duration = Duration::from_millis(20);
const HEARD_MAX: usize = 16;

/// A client that writes, with a thread that listens to it.
///
/// The crate has one too, which looks at the clock without a pause for the last millisecond of each tenth of a second.
pub struct WriteClient {
    producer: Arc<BaseProducer<Said>>,
    over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl WriteClient {
    fn new(producer: BaseProducer<Said>) -> Result<WriteClient> {
        let (producer, over) = (Arc::new(producer), Arc::new(AtomicBool::new(false)));
        let (heard, ended) = (producer.clone(), over.clone());
        let listener = thread::Builder::new().name("kafka-writer".to_owned()).spawn(move || {
            while !ended.load(Ordering::Acquire) {
                (0..HEARD_MAX).for_each(|_| heard.poll(Duration::ZERO));
                thread::park_timeout(HEAR_PAUSE);
            }
        });
        let listener = listener.map_err(|e| {
            Error::io(format!("no thread can be started for a client of Kafka: {e}"))
                .remedy("see how many threads a process may have: ulimit -u")
        })?;
        Ok(WriteClient { producer, over, listener: Some(listener) })
    }
}

impl Deref for WriteClient {
    type Target = BaseProducer<Said>;

    fn deref(&self) -> &BaseProducer<Said> {
        &self.producer
    }
}

impl Drop for WriteClient {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(listener) = self.listener.take() {
            listener.thread().unpark();
            let _ = listener.join();
        }
    }
}

/// Bytes that may wait in a client for rows that are read, over all partitions of a table.
const PREFETCH_BYTES: usize = 64 << 20;
/// And for each partition at least: less than a record or two would stop the flow.
const PREFETCH_BYTES_MIN: usize = 1 << 20;

/// A client that reads. It joins no group.
pub fn reader(properties: &Properties, partitions: usize) -> Result<(ReadClient, Said)> {
    let kilobytes = (PREFETCH_BYTES / partitions.max(1)).max(PREFETCH_BYTES_MIN) >> 10;
    let mut config = properties.config(&[
        ("isolation.level", "read_committed"),
        ("queued.max.messages.kbytes", &kilobytes.to_string()),
        // The queues are short, and filled again as soon as there is room.
        ("fetch.queue.backoff.ms", "10"),
        ("fetch.error.backoff.ms", "100"),
    ]);
    // The library insists on a name of a group; one that nobody joins and nothing is committed to is no group.
    config.set("group.id", properties.group().unwrap_or("millstream"));
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    // What retention has taken away must be heard of, and is never jumped over.
    config.set("auto.offset.reset", "error");
    config.set("enable.partition.eof", "true");
    let said = Said::default();
    let client = ReadClient::from_config_and_context(&config, said.clone()).map_err(|e| refused(&e))?;
    Ok((client, said))
}

/// One past the last record of a partition as the client knows it from what it has fetched: asks nobody and does not wait.
/// `None`: it has heard nothing of it yet.
pub fn known_high(client: &ReadClient, topic: &str, partition: i32) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the handle lives as long as `client` is borrowed, the topic ends with a NUL, and both results have a place
    // of their own. The call looks into the client's own memory; the crate has no safe name for it.
    let code = unsafe {
        rd_kafka_get_watermark_offsets(client.client().native_ptr(), topic.as_ptr(), partition, &mut low, &mut high)
    };
    (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// A client that writes; with `id` in transactions.
pub fn writer(properties: &Properties, id: Option<&str>) -> Result<(WriteClient, Said)> {
    let mut config = properties.config(&[
        // As Java's client does it, so that both send a key to the same partition.
        ("partitioner", "murmur2_random"),
        ("linger.ms", "5"),
        // Bytes that wait to be sent; a writer that is ahead of the brokers waits.
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "1000000"),
    ]);
    match id {
        Some(id) => {
            config.set("transactional.id", id);
        }
        None => {
            // Sent again after a lost answer, a record is stored once, and the order stays.
            config.set("enable.idempotence", "true");
        }
    }
    config.set("delivery.report.only.error", "true");
    let said = Said::default();
    let client = BaseProducer::from_config_and_context(&config, said.clone()).map_err(|e| refused(&e))?;
    Ok((WriteClient::new(client)?, said))
}

/// What a client met while it was `doing` something. The kind says whether another try may help: `Io` if so.
pub fn explain(properties: &Properties, doing: &str, e: &KafkaError, said: &Said) -> Error {
    match e.rdkafka_error_code() {
        Some(code) => explain_code(properties, doing, code, said),
        None => Error::io(format!("Kafka at {} did not {doing}: {e}", properties.brokers()))
            .remedy("see that the brokers are well"),
    }
}

/// How the client says that a broker has closed the connection: it depends on who notices first.
const CLOSED: [&str; 4] = ["security.protocol", "closed by peer", "reset by peer", "Broken pipe"];

pub fn explain_code(properties: &Properties, doing: &str, code: RDKafkaErrorCode, said: &Said) -> Error {
    use RDKafkaErrorCode as Code;
    let brokers = properties.brokers();
    let last = said.log().map(|l| format!("; the last thing heard: {l}")).unwrap_or_default();
    match code {
        // A broker that wants a login, or TLS, closes the connection of whoever speaks otherwise, and says nothing.
        Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut
            if CLOSED.iter().any(|sign| last.contains(sign)) =>
        {
            Error::io(format!("the brokers of Kafka at {brokers} close the connection, asked to {doing}{last}")).remedy(
                "if they are up, they may want a login or TLS: set 'properties.security.protocol', \
                 'properties.sasl.mechanism' and the login",
            )
        }
        Code::Authentication | Code::SaslAuthenticationFailed => {
            Error::usage(format!("Kafka at {brokers} refuses the login when asked to {doing}{last}"))
                .remedy("check 'properties.security.protocol', 'properties.sasl.mechanism' and the login")
        }
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            Error::usage(format!("Kafka at {brokers} wants to be logged into by other means{last}"))
                .remedy("check 'properties.security.protocol' and 'properties.sasl.mechanism'")
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => {
            let what = match code {
                Code::GroupAuthorizationFailed => "the group",
                Code::ClusterAuthorizationFailed => "the cluster",
                Code::TransactionalIdAuthorizationFailed => "the transactional id",
                _ => "the topic",
            };
            Error::usage(format!("Kafka at {brokers} does not allow this user {what}, when asked to {doing}"))
                .remedy("have the rights (ACL) granted, or log in as another user")
        }
        // The client's word also for a partition that nobody leads while brokers are away.
        Code::UnknownPartition | Code::LeaderNotAvailable => {
            Error::io(format!("nobody leads a partition that Kafka at {brokers} needs to {doing}{last}"))
                .remedy("see which brokers are away, and have them started: kafka-topics.sh --describe --unavailable-partitions")
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic => {
            Error::usage(format!("Kafka at {brokers} does not know the topic when asked to {doing}"))
                .remedy("create the topic, or correct 'topic'")
        }
        Code::SSL => Error::usage(format!("TLS to Kafka at {brokers} cannot be set up{last}"))
            .remedy("check 'properties.ssl.ca.location' and the certificates"),
        Code::NotImplemented | Code::UnsupportedCompressionType | Code::BadCompression => {
            Error::usage(format!("records are compressed in a way that this build cannot read ({code})"))
                .remedy("for zstd: build with `cargo build -p millstream --features kafka-zstd`")
        }
        Code::MessageSizeTooLarge => Error::data(format!("a record is larger than Kafka takes, when asked to {doing}"))
            .remedy("raise 'properties.max.request.size' and the topic's max.message.bytes, or write smaller rows"),
        Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve => {
            Error::io(format!("no broker of Kafka at {brokers} can be reached, to {doing}{last}"))
                .remedy("see that the brokers are up, that 'properties.bootstrap.servers' names them, and that they are reached from here by the names they give themselves (advertised.listeners)")
        }
        _ => Error::io(format!("Kafka at {brokers} did not {doing}: {code}{last}"))
            .remedy("see that the brokers are well and can be reached from here"),
    }
}

/// Asks again, while what was answered may pass, for as long as anybody waits: after a restart of a broker some of them do not
/// know for a moment who leads a partition.
pub fn patiently<T>(mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let until = Instant::now() + LEADER_PATIENCE;
    loop {
        match ask() {
            Err(e) if e.kind() == ErrorKind::Io && Instant::now() < until => std::thread::sleep(ASK_PAUSE),
            answered => return answered,
        }
    }
}

/// Waits until a broker has answered a client that nobody polls yet.
pub fn first_contact(properties: &Properties, client: &ReadClient, said: &Said, topic: Option<&str>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let Err(e) = client.fetch_metadata(topic, CONTACT_SLICE) else { return Ok(()) };
        let doing = "describe its topics";
        // What was heard meanwhile; there are no records yet, since nothing is assigned.
        while let Some(heard) = client.poll(Duration::ZERO) {
            let heard = heard.err().map(|heard| explain(properties, doing, &heard, said));
            if let Some(final_word) = heard.filter(|e| e.kind() != ErrorKind::Io) {
                return Err(final_word);
            }
        }
        if Instant::now() >= until {
            return Err(explain(properties, doing, &e, said));
        }
    }
}

/// How long a topic may be unknown that has just been made: brokers hear of it one after the other.
const NEW_TOPIC_PATIENCE: Duration = Duration::from_secs(3);

/// The partitions of a topic, ascending. `None`: there is no such topic, also not a moment later.
pub fn partitions_of(
    properties: &Properties,
    client: &Client<Said>,
    said: &Said,
    topic: &str,
) -> Result<Option<Vec<i32>>> {
    let until = Instant::now() + NEW_TOPIC_PATIENCE;
    loop {
        match partitions_now(properties, client, said, topic)? {
            None if Instant::now() < until => std::thread::sleep(ASK_PAUSE),
            found => return Ok(found),
        }
    }
}

/// The partitions of a topic, ascending. `None`: the broker that was asked knows of none.
pub fn partitions_now(
    properties: &Properties,
    client: &Client<Said>,
    said: &Said,
    topic: &str,
) -> Result<Option<Vec<i32>>> {
    let (doing, until) = (format!("describe the topic '{topic}'"), Instant::now() + PATIENCE);
    let metadata = loop {
        match client.fetch_metadata(Some(topic), CONTACT_SLICE) {
            Ok(metadata) => break metadata,
            Err(e) => {
                if let Some(code) = said.refused() {
                    return Err(explain_code(properties, &doing, code, said));
                }
                if Instant::now() >= until {
                    return Err(explain(properties, &doing, &e, said));
                }
            }
        }
    };
    Ok(described(properties, said, &metadata, topic)?.filter(|p| !p.is_empty()))
}

/// The partitions of a topic as its cluster's description has them.
pub fn described(
    properties: &Properties,
    said: &Said,
    metadata: &rdkafka::metadata::Metadata,
    topic: &str,
) -> Result<Option<Vec<i32>>> {
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {}
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
        Some(code) => return Err(explain_code(properties, &format!("describe the topic '{topic}'"), code, said)),
    }
    let mut partitions: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
    partitions.sort_unstable();
    Ok(Some(partitions))
}

/// That a topic is missing, and how to get it.
pub fn no_topic(properties: &Properties, option: &str, topic: &str) -> Error {
    Error::usage(format!("'{option}': Kafka at {} has no topic '{topic}'", properties.brokers())).remedy(format!(
        "create it: kafka-topics.sh --bootstrap-server {} --create --topic {topic} --partitions 4",
        properties.brokers()
    ))
}
