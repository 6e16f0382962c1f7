//! The connectors `kafka` and `upsert-kafka` against a real broker:
//! `./dev servers cargo test -p millstream-connect --test kafka`.
//!
//! Each test has topics of its own. They share the broker, but for those that stop it.

#[path = "kafka/bounded.rs"]
mod bounded;
#[path = "kafka/broker.rs"]
mod broker;
#[path = "kafka/protobuf.rs"]
mod protobuf;
#[path = "kafka/reading.rs"]
mod reading;
#[path = "kafka/running.rs"]
mod running;
#[cfg(feature = "schema-registry")]
#[path = "kafka/schemas.rs"]
mod schemas;
#[path = "kafka/writing.rs"]
mod writing;
#[path = "kafka/wrong.rs"]
mod wrong;
