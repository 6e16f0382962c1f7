//! The options `properties.*`: those of Java's client, handed to librdkafka, which has nearly the same.
//!
//! What has no meaning here (serializers, how often to poll) is passed over, so that a file which runs on Flink also runs
//! here; what the engine itself settles cannot be set; what is unknown is an error. Values may be secrets: none is shown.

use crate::options::{Secret, referenced};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result, TableSpec};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use std::time::Duration;

const PREFIX: &str = "properties.";
const SERVERS: &str = "bootstrap.servers";
const GROUP: &str = "group.id";
const RESET: &str = "auto.offset.reset";
const COMMIT: &str = "commit.offsets.on.checkpoint";
const JAAS: &str = "sasl.jaas.config";
const PROTOCOL: &str = "security.protocol";
const REQUEST_TIMEOUT: &str = "socket.timeout.ms";
const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";

/// That of the client library.
const TRANSACTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// Milliseconds that a broker has for an answer, before others are asked who leads now. Default 15 s (the library's is a
/// minute), sensible 5 s to 60 s. A broker that stands still with its connections open is noticed by nothing else, and as long
/// as this nothing of what it led is read or written. Longer than the nine seconds after which the cluster itself gives it up;
/// shorter than a minute, after which the brokers give a transaction up.
const REQUEST_TIMEOUT_DEFAULT: u64 = 15_000;

/// Of Java's client and of Flink: without meaning for librdkafka.
const PASSED_OVER: [&str; 33] = [
    "auto.commit.interval.ms",
    "client.dns.lookup",
    "client.id.prefix",
    "default.api.timeout.ms",
    "enable.auto.commit",
    "exclude.internal.topics",
    "flink.partition-discovery.interval-millis",
    "heartbeat.interval.ms",
    "interceptor.classes",
    "key.deserializer",
    "key.serializer",
    "max.block.ms",
    "max.poll.interval.ms",
    "max.poll.records",
    "metadata.max.idle.ms",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "partition.assignment.strategy",
    "partition.discovery.interval.ms",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partitioner.class",
    "partitioner.ignore.keys",
    "receive.buffer.bytes",
    "register.consumer.metrics",
    "register.producer.metrics",
    "sasl.login.class",
    "send.buffer.bytes",
    "session.timeout.ms",
    "value.deserializer",
    "value.serializer",
];

/// What Java's client calls otherwise.
const OTHER_NAMES: [(&str, &str); 4] = [
    ("buffer.memory", "queue.buffering.max.kbytes"),
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("max.request.size", "message.max.bytes"),
    ("request.timeout.ms", REQUEST_TIMEOUT),
];

/// What the engine settles, and what to use instead.
const SETTLED: [(&str, &str); 5] = [
    ("enable.partition.eof", "leave it out"),
    ("enable.idempotence", "set 'sink.delivery-guarantee'"),
    ("enable.auto.offset.store", "leave it out: offsets are in the checkpoints"),
    ("group.instance.id", "leave it out: no group is joined"),
    ("transactional.id", "set 'sink.transactional-id-prefix'"),
];

#[derive(Debug, Clone)]
pub struct Properties {
    brokers: String,
    group: Option<String>,
    /// `auto.offset.reset`: where reading begins when the group has no offset. `None`: nowhere.
    pub reset: Option<Reset>,
    /// Whether the group is told how far the job is.
    pub tells_group: bool,
    /// For librdkafka, by its names.
    others: BTreeMap<String, Secret>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    Earliest,
    Latest,
}

impl Properties {
    pub fn of(table: &TableSpec, secrets: bool) -> Result<Properties> {
        let mut found =
            Properties { brokers: String::new(), group: None, reset: None, tells_group: true, others: BTreeMap::new() };
        for (option, value) in &table.options {
            let Some(key) = option.strip_prefix(PREFIX) else { continue };
            let value = if secrets { referenced(option, value)? } else { value.clone() };
            let cannot =
                |remedy: &str| Error::sql(format!("'{option}' cannot be set to this")).remedy(remedy.to_owned());
            match key {
                SERVERS => found.brokers = servers(option, &value)?,
                GROUP => found.group = Some(value).filter(|g| !g.trim().is_empty()),
                RESET => {
                    found.reset = match value.as_str() {
                        "earliest" | "smallest" | "beginning" => Some(Reset::Earliest),
                        "latest" | "largest" | "end" => Some(Reset::Latest),
                        "none" | "error" => None,
                        _ => return Err(cannot("use 'earliest', 'latest' or 'none'")),
                    }
                }
                COMMIT => {
                    found.tells_group = match value.as_str() {
                        "true" => true,
                        "false" => false,
                        _ => return Err(cannot("use 'true' or 'false'")),
                    }
                }
                JAAS => found.log_in(&value)?,
                PROTOCOL if cfg!(not(feature = "kafka-tls")) && value.to_ascii_uppercase().ends_with("SSL") => {
                    return Err(Error::sql(format!(
                        "'{option}' asks for TLS, and this build of Millstream is without it"
                    ))
                    .remedy("build it with `cargo build -p millstream --features kafka-tls`"));
                }
                _ if PASSED_OVER.contains(&key) => {}
                _ if key.starts_with("ssl.truststore.") || key == "ssl.keystore.type" => {
                    found.trust(option, key, value)?
                }
                _ => {
                    if let Some((_, instead)) = SETTLED.iter().find(|(k, _)| *k == key) {
                        return Err(Error::sql(format!("'{option}' is settled by the engine")).remedy(*instead));
                    }
                    let name = OTHER_NAMES.iter().find(|(java, _)| *java == key).map_or(key, |(_, name)| name);
                    let value = if name == "queue.buffering.max.kbytes" && key != name {
                        kilobytes(option, &value)?
                    } else {
                        value
                    };
                    found.others.insert(name.to_owned(), Secret(value));
                }
            }
        }
        if found.brokers.is_empty() {
            if let Some(key) = found.others.keys().find(|key| did_you_mean(key, [SERVERS]).is_some()) {
                return Err(Error::sql(format!("the connector '{}' has no option '{PREFIX}{key}'", table.connector()))
                    .remedy(format!("did you mean '{PREFIX}{SERVERS}'?")));
            }
            return Err(Error::sql(format!(
                "the connector '{}' needs the option '{PREFIX}{SERVERS}'",
                table.connector()
            ))
            .remedy(format!("add '{PREFIX}{SERVERS}' = 'localhost:9092' to the table's options")));
        }
        found.check(secrets)?;
        Ok(found)
    }

    /// Where the brokers are, as the table says.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// How long a transaction may be open before the brokers give it up.
    pub fn transaction_timeout(&self) -> Duration {
        let set = self.others.get(TRANSACTION_TIMEOUT).and_then(|t| t.reveal().parse().ok());
        set.map_or(TRANSACTION_TIMEOUT_DEFAULT, Duration::from_millis)
    }

    /// What every client is made with. The table's properties come last and win.
    pub fn config(&self, ours: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "millstream");
        // A broker that comes back is found again after two seconds at most; the library would wait up to ten.
        config.set("reconnect.backoff.max.ms", "2000");
        // The library refuses one that is longer than a transaction may take.
        let transaction = self.others.get(TRANSACTION_TIMEOUT).and_then(|t| t.reveal().parse().ok());
        let timeout = transaction.map_or(REQUEST_TIMEOUT_DEFAULT, |t: u64| t.min(REQUEST_TIMEOUT_DEFAULT));
        config.set(REQUEST_TIMEOUT, timeout.to_string());
        for (key, value) in ours {
            config.set(*key, *value);
        }
        for (key, value) in &self.others {
            config.set(key.as_str(), value.reveal());
        }
        config.set("bootstrap.servers", &self.brokers);
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// Holds the properties against what the library knows. A value that is a reference has none yet.
    fn check(&self, secrets: bool) -> Result<()> {
        let mut config = ClientConfig::new();
        for (key, value) in &self.others {
            if secrets || !value.reveal().starts_with("${") {
                config.set(key.as_str(), value.reveal());
            }
        }
        match config.create_native_config() {
            Ok(_) => Ok(()),
            Err(e) => Err(refused(&e)),
        }
    }

    /// `…PlainLoginModule required username="ann" password="…";`, as Java wants its login.
    fn log_in(&mut self, jaas: &str) -> Result<()> {
        let value = |name: &str| {
            let rest = jaas.split_once(&format!("{name}="))?.1;
            let quote = rest.chars().next().filter(|c| ['"', '\''].contains(c))?;
            rest[1..].split_once(quote).map(|(value, _)| value.to_owned())
        };
        let module = jaas.split_whitespace().next().unwrap_or_default();
        match (value("username"), value("password")) {
            (Some(name), Some(password))
                if module.ends_with("PlainLoginModule") || module.ends_with("ScramLoginModule") =>
            {
                self.others.insert("sasl.username".into(), Secret(name));
                self.others.insert("sasl.password".into(), Secret(password));
                Ok(())
            }
            _ => Err(Error::sql(format!("'{PREFIX}{JAAS}' is no login with a name and a password"))
                .remedy(format!("set '{PREFIX}sasl.username' and '{PREFIX}sasl.password'"))),
        }
    }

    /// Java's stores of certificates: only those in PEM can be read here.
    fn trust(&mut self, option: &str, key: &str, value: String) -> Result<()> {
        let pem = value.ends_with(".pem") || value.ends_with(".crt");
        match key {
            "ssl.truststore.location" if pem => {
                self.others.insert("ssl.ca.location".into(), Secret(value));
                Ok(())
            }
            "ssl.truststore.type" | "ssl.keystore.type" if value.eq_ignore_ascii_case("pem") => Ok(()),
            "ssl.truststore.certificates" => {
                self.others.insert("ssl.ca.pem".into(), Secret(value));
                Ok(())
            }
            _ => Err(Error::sql(format!("'{option}' names a store of Java's, which is not read here"))
                .remedy(format!("export the certificates as PEM, and set '{PREFIX}ssl.ca.location'"))),
        }
    }
}

/// What the library says of a property, without its value.
pub fn refused(e: &KafkaError) -> Error {
    match e {
        KafkaError::ClientConfig(_, why, key, _) => {
            let unknown = why.contains("No such configuration property");
            let error = Error::sql(match unknown {
                true => format!("'{PREFIX}{key}' is no property of the Kafka client"),
                false => format!("'{PREFIX}{key}' has a value that the Kafka client does not take"),
            });
            let known = ["acks", "compression.type", "linger.ms", "isolation.level", "sasl.mechanism", "sasl.username",
                "sasl.password", PROTOCOL, GROUP, SERVERS, RESET, "client.id", "ssl.ca.location",
                "max.partition.fetch.bytes", "fetch.min.bytes", "transaction.timeout.ms", "batch.size"];
            error.remedy(match did_you_mean(key, known).filter(|_| unknown) {
                Some(guess) => format!("did you mean '{PREFIX}{guess}'?"),
                None => "see the list of librdkafka's properties (CONFIGURATION.md), or leave it out".to_owned(),
            })
        }
        // Its text may hold what was set.
        _ => Error::usage("the Kafka client cannot be made from the table's 'properties.*'").remedy(
            "check them against the list of librdkafka's properties (CONFIGURATION.md); SCRAM and TLS need the feature kafka-tls",
        ),
    }
}

fn servers(option: &str, value: &str) -> Result<String> {
    let wrong = |what: String| Error::sql(what).remedy("write host:port, several separated by commas");
    let mut servers = Vec::new();
    for server in value.split(',').map(str::trim).filter(|s| !s.is_empty()) {
        let server = server.split_once("://").map_or(server, |(_, rest)| rest);
        match server.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(_))) if !host.is_empty() && !host.contains('@') => servers.push(server),
            _ => return Err(wrong(format!("'{option}' has an entry that is no host:port"))),
        }
    }
    if servers.is_empty() { Err(wrong(format!("'{option}' names no broker"))) } else { Ok(servers.join(",")) }
}

fn kilobytes(option: &str, bytes: &str) -> Result<String> {
    match bytes.trim().parse::<u64>() {
        Ok(bytes) => Ok((bytes / 1024).max(1).to_string()),
        Err(_) => Err(Error::sql(format!("'{option}' is no number of bytes")).remedy("write for example '33554432'")),
    }
}
