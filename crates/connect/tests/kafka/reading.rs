//! Topics as sources.

use crate::broker::{Broker, PATIENCE, broker, broker_alone, control, fails, variable};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_connect::Registry;
use millstream_core::metadata::ROW_ORDER;
use millstream_core::table::{Connectors, TableUse};
use millstream_core::{BadRow, ErrorKind, PartitionReader, Polled, Result, SavedPartition, SinkContext, TableSpec};
use rdkafka::producer::{BaseRecord, Producer};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn one() -> Vec<Field> {
    vec![Field::new("n", DataType::Int64, true)]
}

/// A table of one number, as CSV, read from the beginning to the end of now.
pub fn numbers(broker: &Broker, topic: &str, more: &[(&str, &str)]) -> TableSpec {
    let mut options =
        vec![("format", "csv"), ("scan.startup.mode", "earliest-offset"), ("scan.bounded.mode", "latest-offset")];
    options.retain(|(key, _)| !more.iter().any(|(k, _)| k == key));
    options.extend_from_slice(more);
    broker.spec("kafka", topic, one(), &options)
}

pub fn open(spec: &TableSpec) -> Result<Vec<Box<dyn PartitionReader>>> {
    let registry = Registry::new();
    registry.validate(spec, TableUse::Source)?;
    registry.open_source(spec)?.partitions(1)
}

#[derive(Default)]
pub struct Read {
    pub rows: Vec<String>,
    pub bad: Vec<BadRow>,
}

impl Read {
    fn take(&mut self, reader: &mut dyn PartitionReader) -> Result<bool> {
        match reader.poll()? {
            Polled::End => return Ok(false),
            Polled::Pending => std::thread::sleep(Duration::from_millis(1)),
            Polled::Rows(rows) => {
                let options = FormatOptions::default().with_null("NULL");
                let shown: Vec<_> =
                    rows.rows.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).expect("shown")).collect();
                self.rows.extend(
                    (0..rows.rows.num_rows())
                        .map(|r| shown.iter().map(|c| c.value(r).to_string()).collect::<Vec<_>>().join(" ")),
                );
                self.bad.extend(rows.bad);
            }
        }
        Ok(true)
    }
}

/// Reads to the end of all partitions, one after the other.
pub fn drain(readers: &mut [Box<dyn PartitionReader>]) -> Result<Read> {
    let (mut read, until) = (Read::default(), Instant::now() + PATIENCE);
    for reader in readers {
        while read.take(reader.as_mut())? {
            assert!(Instant::now() < until, "{} does not end; so far {:?}", reader.name(), read.rows);
        }
    }
    Ok(read)
}

pub fn all(spec: &TableSpec) -> Vec<String> {
    let mut readers = open(spec).unwrap_or_else(|e| panic!("{e}"));
    drain(&mut readers).unwrap_or_else(|e| panic!("{e}")).rows
}

/// Reads until there are so many rows.
pub fn some(readers: &mut [Box<dyn PartitionReader>], rows: usize) -> Read {
    let (mut read, until) = (Read::default(), Instant::now() + PATIENCE);
    while read.rows.len() < rows {
        assert!(Instant::now() < until, "no more than {:?}", read.rows);
        for reader in readers.iter_mut() {
            read.take(reader.as_mut()).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    read
}

fn saved(readers: &[Box<dyn PartitionReader>]) -> Vec<SavedPartition> {
    let position = |r: &dyn PartitionReader| SavedPartition {
        name: r.name().to_owned(),
        position: r.position().expect("a position"),
    };
    readers.iter().map(|r| position(r.as_ref())).collect()
}

fn resume(spec: &TableSpec, saved: &[SavedPartition]) -> Result<Vec<Box<dyn PartitionReader>>> {
    Registry::new().open_source(spec)?.resume(saved, 1)
}

#[test]
fn a_table_begins_and_ends_where_it_says() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("bounds", 2, &[]);
    broker.values(&topic, 0, &["1", "2", "3"]);
    broker.values(&topic, 1, &["10", "20"]);
    let group = broker.name("group");
    broker.commit_group(&group, &topic, &[(0, 2)]);

    assert_eq!(all(&numbers(&broker, &topic, &[])), ["1", "2", "3", "10", "20"]);
    assert_eq!(all(&numbers(&broker, &topic, &[("scan.startup.mode", "latest-offset")])), [""; 0]);
    let at = [("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "2000")];
    assert_eq!(all(&numbers(&broker, &topic, &at)), ["2", "3", "20"]);
    let late = [("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "2500")];
    assert_eq!(all(&numbers(&broker, &topic, &late)), ["3"]);
    let named = [("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:1")];
    assert_eq!(all(&numbers(&broker, &topic, &named)), ["2", "3", "10", "20"]);
    let from_group = [
        ("scan.startup.mode", "group-offsets"),
        ("properties.group.id", group.as_str()),
        ("properties.auto.offset.reset", "earliest"),
    ];
    assert_eq!(all(&numbers(&broker, &topic, &from_group)), ["3", "10", "20"]);
    let e = fails(open(&numbers(&broker, &topic, &from_group[..2])));
    assert!(e.what().contains(&format!("no offset of {topic}[1]")), "{e}");
    let e =
        fails(open(&numbers(&broker, &topic, &[named[0], ("scan.startup.specific-offsets", "partition:0,offset:9")])));
    assert!(e.what().contains("ends before") && e.place().expect("a place").0 == format!("{topic}[0]@9"), "{e}");

    let until = [("scan.bounded.mode", "timestamp"), ("scan.bounded.timestamp-millis", "2000")];
    assert_eq!(all(&numbers(&broker, &topic, &until)), ["1", "10"]);
    let until = [("scan.bounded.mode", "specific-offsets"), ("scan.bounded.specific-offsets", "partition:0,offset:1")];
    assert_eq!(all(&numbers(&broker, &topic, &until)), ["1", "10", "20"]);
    // An end that the topic has not come to is waited for.
    let later = [
        ("scan.bounded.mode", "specific-offsets"),
        ("scan.bounded.specific-offsets", "partition:0,offset:4;partition:1,offset:0"),
    ];
    let mut readers = open(&numbers(&broker, &topic, &later)).expect("opened");
    assert_eq!(some(&mut readers[..1], 3).rows, ["1", "2", "3"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(matches!(readers[0].poll().expect("it waits"), Polled::Pending));
    broker.values(&topic, 0, &["4", "5"]);
    assert_eq!(drain(&mut readers).expect("read").rows, ["4"]);
    let e = fails(open(&numbers(&broker, &broker.name("missing"), &[])));
    assert!(e.what().contains("has no topic") && e.help().expect("help").contains("kafka-topics"), "{e}");
}

#[test]
fn several_topics_and_a_pattern() {
    let Some(broker) = broker() else { return };
    let (a, b) = (broker.topic("many-a", 1, &[]), broker.topic("many-b", 1, &[]));
    broker.values(&a, 0, &["1"]);
    broker.values(&b, 0, &["2"]);
    assert_eq!(all(&numbers(&broker, &format!("{a};{b}"), &[])), ["1", "2"]);
    let pattern = format!("many-.*-?{}", a.trim_start_matches("many-a-"));
    let mut spec = numbers(&broker, "x", &[("topic-pattern", pattern.as_str())]);
    spec.options.remove("topic");
    assert_eq!(all(&spec), ["1", "2"]);
    spec.options.insert("topic-pattern".into(), "no-such-topic-.*x".into());
    assert!(fails(open(&spec)).what().contains("no topic that matches"));
}

#[test]
fn what_stands_beside_key_and_value_can_be_read() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("beside", 1, &[]);
    broker.produce(&topic, 0, &[(Some("{\"id\":7}"), Some("{\"n\":1}"), 5000), (None, Some("{\"n\":2}"), 6000)]);
    broker.with_headers(&topic, "{\"n\":3}", &[("a", "x"), ("b", "y"), ("a", "z")]);
    let columns = vec![Field::new("n", DataType::Int64, true), Field::new("k_id", DataType::Int32, true)];
    let options = [
        ("value.format", "json"),
        ("key.format", "json"),
        ("key.fields", "k_id"),
        ("key.fields-prefix", "k_"),
        ("value.fields-include", "EXCEPT_KEY"),
        ("scan.startup.mode", "earliest-offset"),
        ("scan.bounded.mode", "latest-offset"),
    ];
    let mut spec = broker.spec("kafka", &topic, columns, &options);
    let pair =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false);
    let ltz = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    spec.metadata = vec![
        ("topic".into(), Field::new("of", DataType::Utf8, false)),
        ("partition".into(), Field::new("p", DataType::Int64, false)),
        ("offset".into(), Field::new("o", DataType::Int64, false)),
        ("timestamp".into(), Field::new("ts", ltz, false)),
        ("timestamp-type".into(), Field::new("tt", DataType::Utf8, false)),
        ("headers".into(), Field::new("h", map, false)),
    ];
    let known = Registry::new().metadata(&spec).expect("known");
    for (key, field) in &spec.metadata {
        assert!(known.iter().any(|f| f.name() == key && f.data_type() == field.data_type()), "{key}");
    }
    let head = |n: usize, key: &str| {
        format!("{n} {key} {topic} 0 {} 1970-01-01T00:00:0{}Z CreateTime", n - 1, [5, 6, 9][n - 1])
    };
    let expected = [
        format!("{} {{}}", head(1, "7")),
        format!("{} {{}}", head(2, "NULL")),
        format!("{} {{a: 7a, b: 79}}", head(3, "NULL")),
    ];
    assert_eq!(all(&spec), expected);
    // Only what is asked for, in another order.
    spec.projection = Some(vec![1]);
    spec.metadata = vec![(ROW_ORDER.into(), Field::new(ROW_ORDER, DataType::Int64, false))];
    assert_eq!(all(&spec), ["7 0", "NULL 1", "NULL 2"]);
    spec.metadata = vec![("ofset".into(), Field::new("o", DataType::Int64, false))];
    assert!(fails(open(&spec)).what().contains("no metadata 'ofset'"));
}

#[test]
fn a_bad_record_is_named_by_partition_and_offset() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("bad", 1, &[]);
    broker.produce(&topic, 0, &[(None, Some("1"), 0), (None, Some("x"), 0), (None, None, 0), (None, Some("4"), 0)]);
    let spec = numbers(&broker, &topic, &[]);
    let mut readers = open(&spec).expect("opened");
    let e = fails(drain(&mut readers));
    assert_eq!((e.kind(), e.place().expect("a place").0.as_str()), (ErrorKind::Data, format!("{topic}[0]@1").as_str()));
    assert!(e.what().contains("`x`") && e.help().expect("help").contains("csv.ignore-parse-errors"), "{e}");

    let mut aside = spec.clone();
    aside.options.insert("millstream.bad-rows".into(), "set-aside".into());
    let mut readers = open(&aside).expect("opened");
    let read = drain(&mut readers).expect("read");
    assert_eq!(read.rows, ["1", "4"]);
    assert_eq!((read.bad.len(), read.bad[0].raw.as_slice()), (1, b"x".as_slice()));
    assert_eq!(read.bad[0].place.0, format!("{topic}[0]@1"));
    // The record without a value is counted: nothing vanishes.
    assert_eq!(readers[0].skipped(), 1);

    let mut readers = open(&numbers(&broker, &topic, &[("csv.ignore-parse-errors", "true")])).expect("opened");
    assert_eq!(drain(&mut readers).expect("read").rows, ["1", "NULL", "4"]);
    assert_eq!(readers[0].skipped(), 2);
}

#[test]
fn aborted_transactions_are_not_read_and_do_not_hold_up_the_end() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("aborted", 1, &[]);
    let id = broker.name("id");
    let producer = broker.producer(&[("transactional.id", &id)]);
    producer.init_transactions(PATIENCE).expect("ready");
    for (value, commit) in [("1", true), ("2", false), ("3", true), ("4", false)] {
        producer.begin_transaction().expect("begun");
        producer.send(BaseRecord::<str, str>::to(&topic).payload(value)).map_err(|(e, _)| e).expect("taken");
        producer.flush(PATIENCE).expect("arrived");
        let ended = if commit { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) };
        ended.expect("ended");
    }
    // One that is still open: whoever reads up to now does not wait for it.
    producer.begin_transaction().expect("begun");
    producer.send(BaseRecord::<str, str>::to(&topic).payload("5")).map_err(|(e, _)| e).expect("taken");
    producer.flush(PATIENCE).expect("arrived");
    assert_eq!(all(&numbers(&broker, &topic, &[])), ["1", "3"]);
    let uncommitted = [("properties.isolation.level", "read_uncommitted")];
    assert_eq!(all(&numbers(&broker, &topic, &uncommitted)), ["1", "2", "3", "4", "5"]);
    producer.commit_transaction(PATIENCE).expect("committed");
    assert_eq!(all(&numbers(&broker, &topic, &[])), ["1", "3", "5"]);
}

#[test]
fn a_reader_says_how_far_behind_it_is_and_marks_of_transactions_do_not_count() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("behind", 1, &[]);
    let producer = broker.producer(&[("transactional.id", &broker.name("id"))]);
    producer.init_transactions(PATIENCE).expect("ready");
    let write = |values: std::ops::Range<u32>| {
        producer.begin_transaction().expect("begun");
        for value in values {
            let value = value.to_string();
            producer.send(BaseRecord::<str, str>::to(&topic).payload(&value)).map_err(|(e, _)| e).expect("taken");
        }
        producer.commit_transaction(PATIENCE).expect("committed");
    };
    write(0..100);
    let mut readers = open(&numbers(&broker, &topic, &[("scan.bounded.mode", "unbounded")])).expect("opened");
    let reader = &mut readers[0];
    reader.take_at_most(10);
    let (mut read, until) = (Read::default(), Instant::now() + PATIENCE);
    while read.rows.len() < 10 {
        assert!(Instant::now() < until, "nothing comes");
        read.take(reader.as_mut()).expect("read");
    }
    assert_eq!(read.rows.len(), 10, "ten at once");
    // The mark behind the last record is counted until the end has been seen.
    assert_eq!(reader.behind().rows, Some(91));
    let settled = |reader: &mut Box<dyn PartitionReader>, read: &mut Read, rows: usize| {
        while read.rows.len() < rows || reader.behind().rows != Some(0) {
            assert!(Instant::now() < until, "{} rows, {:?}", read.rows.len(), reader.behind());
            read.take(reader.as_mut()).expect("read");
        }
    };
    settled(reader, &mut read, 100);
    write(100..150);
    settled(reader, &mut read, 150);
    // A table that is bounded is behind its end, not that of the topic.
    let bounded =
        [("scan.bounded.mode", "specific-offsets"), ("scan.bounded.specific-offsets", "partition:0,offset:60")];
    let mut bounded = open(&numbers(&broker, &topic, &bounded)).expect("opened");
    bounded[0].take_at_most(10);
    let mut read = Read::default();
    while read.rows.len() < 10 {
        assert!(Instant::now() < until, "nothing comes");
        read.take(bounded[0].as_mut()).expect("read");
    }
    assert_eq!(bounded[0].behind().rows, Some(50));
    assert_eq!(drain(&mut bounded).expect("read").rows.len(), 50);
    assert_eq!(bounded[0].behind().rows, Some(0));
}

#[test]
fn a_partition_goes_on_where_it_was_saved() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("resumed", 2, &[]);
    broker.values(&topic, 0, &["1", "2"]);
    let endless = numbers(&broker, &topic, &[("scan.bounded.mode", "unbounded")]);
    let mut readers = open(&endless).expect("opened");
    assert_eq!(some(&mut readers, 2).rows, ["1", "2"]);
    let at = saved(&readers);
    assert_eq!(at[0], SavedPartition { name: format!("{topic}[0]"), position: r#"{"v":1,"next":2}"#.into() });
    drop(readers);
    broker.values(&topic, 0, &["3"]);
    broker.values(&topic, 1, &["10"]);
    // Partitions that have come since belong to it from their first record on.
    broker.grow(&topic, 3);
    broker.values(&topic, 2, &["20"]);
    let mut readers = resume(&endless, &at).expect("resumed");
    let mut rows = some(&mut readers, 3).rows;
    rows.sort();
    assert_eq!(rows, ["10", "20", "3"]);
    // For --available-now, up to the ends of now, and the next run goes on behind them.
    let now = numbers(&broker, &topic, &[("scan.bounded.mode", "available-now")]);
    let mut readers = resume(&now, &at).expect("resumed");
    assert_eq!(drain(&mut readers).expect("read").rows, ["3", "10", "20"]);
    let at = saved(&readers);
    broker.values(&topic, 1, &["11"]);
    let mut readers = resume(&now, &at).expect("resumed");
    assert_eq!(drain(&mut readers).expect("read").rows, ["11"]);
    // A table that is bounded ends where it was to end when it began, also in a later run.
    let bounded = numbers(&broker, &topic, &[]);
    let readers = open(&bounded).expect("opened");
    let at = saved(&readers);
    broker.values(&topic, 0, &["4"]);
    let mut readers = resume(&bounded, &at).expect("resumed");
    assert_eq!(drain(&mut readers).expect("read").rows, ["1", "2", "3", "10", "11", "20"]);
}

#[test]
fn what_retention_has_taken_is_missed_loudly() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("gone", 1, &[]);
    broker.values(&topic, 0, &["1", "2", "3", "4"]);
    let spec = numbers(&broker, &topic, &[("scan.bounded.mode", "unbounded")]);
    let mut readers = open(&spec).expect("opened");
    some(&mut readers, 4);
    drop(readers);
    broker.forget_before(&topic, 0, 3);
    let name = format!("{topic}[0]");
    let at = [SavedPartition { name: name.clone(), position: r#"{"v":1,"next":1}"#.into() }];
    let e = fails(resume(&spec, &at));
    assert_eq!((e.kind(), e.place().expect("a place").0.clone()), (ErrorKind::Data, format!("{name}@1")));
    assert!(e.what().contains("retention") && e.what().contains("oldest record left is 3"), "{e}");
    assert!(e.help().expect("help").contains("start the job afresh"), "{e}");
    // From the beginning there is no gap: it begins with what is left.
    assert_eq!(all(&numbers(&broker, &topic, &[])), ["4"]);
    let later = [SavedPartition { name: name.clone(), position: r#"{"v":1,"next":9}"#.into() }];
    assert!(fails(resume(&spec, &later)).what().contains("ends before"));
    let other = [SavedPartition { name: "other[0]".into(), position: r#"{"v":1,"next":0}"#.into() }];
    assert!(fails(resume(&spec, &other)).what().contains("not among the partitions"));
}

#[test]
fn new_partitions_are_found_while_the_table_is_read() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("found", 1, &[]);
    let options = [("scan.bounded.mode", "unbounded"), ("scan.topic-partition-discovery.interval", "200 ms")];
    let mut readers = open(&numbers(&broker, &topic, &options)).expect("opened");
    broker.values(&topic, 0, &["1"]);
    assert_eq!(some(&mut readers, 1).rows, ["1"]);
    broker.grow(&topic, 3);
    broker.values(&topic, 2, &["2"]);
    let until = Instant::now() + PATIENCE;
    while readers.len() < 3 {
        assert!(Instant::now() < until, "nothing was found");
        let found = readers[0].found().expect("found");
        readers.extend(found);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(some(&mut readers, 1).rows, ["2"]);
    let names: Vec<&str> = readers.iter().map(|r| r.name()).collect();
    assert_eq!(names, [format!("{topic}[0]"), format!("{topic}[1]"), format!("{topic}[2]")]);
}

#[test]
fn the_group_is_told_what_is_safe_and_nothing_else() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("told", 1, &[]);
    let group = broker.name("told");
    broker.values(&topic, 0, &["1", "2", "3"]);
    let options = [("scan.bounded.mode", "unbounded"), ("properties.group.id", group.as_str())];
    let mut readers = open(&numbers(&broker, &topic, &options)).expect("opened");
    some(&mut readers, 3);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(broker.group_offset(&group, &topic, 0), None);
    readers[0].committed(r#"{"v":1,"next":2}"#).expect("told");
    let until = Instant::now() + PATIENCE;
    while broker.group_offset(&group, &topic, 0) != Some(2) {
        assert!(Instant::now() < until, "the group was not told");
    }
    // The last word is said when the readers go.
    readers[0].committed(r#"{"v":1,"next":3}"#).expect("told");
    drop(readers);
    while broker.group_offset(&group, &topic, 0) != Some(3) {
        assert!(Instant::now() < until, "the group was not told the last");
    }
}

#[test]
fn a_large_topic_comes_whole_and_in_order() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("large", 3, &[]);
    let values: Vec<String> = (0..60_000).map(|n| n.to_string()).collect();
    for partition in 0..3 {
        let mine: Vec<&str> = values.iter().map(String::as_str).skip(partition).step_by(3).collect();
        broker.values(&topic, partition as i32, &mine);
    }
    let mut readers = open(&numbers(&broker, &topic, &[])).expect("opened");
    for (partition, reader) in readers.iter_mut().enumerate() {
        let mut next = partition as i64;
        loop {
            match reader.poll().expect("read") {
                Polled::End => break,
                Polled::Pending => std::thread::sleep(Duration::from_millis(1)),
                Polled::Rows(rows) => {
                    assert!(rows.rows.num_rows() <= 8192 && rows.bytes > 0);
                    for n in rows.rows.column(0).as_primitive::<Int64Type>().iter().flatten() {
                        assert_eq!(n, next);
                        next += 3;
                    }
                    assert_eq!(rows.rows.column(0).null_count(), 0);
                }
            }
        }
        assert_eq!(next, 60_000 + partition as i64);
    }
}

#[test]
fn a_broker_that_is_not_there_is_named() {
    let Some(mut broker) = broker() else { return };
    broker.address = "127.0.0.1:1".into();
    let e = fails(open(&numbers(&broker, "t", &[])));
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.what().contains("no broker of Kafka at 127.0.0.1:1 can be reached"), "{e}");
}

#[test]
fn a_login_lets_in_and_a_wrong_one_is_said_at_once_without_the_password() {
    let Some(mut broker) = broker() else { return };
    let Some(login) = variable("MILLSTREAM_TEST_KAFKA_LOGIN") else { return };
    let (login, address) = login.split_once('@').expect("user:password@host:port");
    let (user, password) = login.split_once(':').expect("user:password");
    let topic = broker.topic("login", 1, &[]);
    broker.values(&topic, 0, &["1"]);
    broker.address = address.to_owned();
    let with = |password: &str| {
        let jaas = format!(
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{user}\" password=\"{password}\";"
        );
        let options = [
            ("properties.security.protocol", "SASL_PLAINTEXT"),
            ("properties.sasl.mechanism", "PLAIN"),
            ("properties.sasl.jaas.config", jaas.as_str()),
        ];
        numbers(&broker, &topic, &options)
    };
    assert_eq!(all(&with(password)), ["1"]);
    let begun = Instant::now();
    let e = fails(open(&with("hunter2")));
    assert_eq!(e.kind(), ErrorKind::Usage, "{e}");
    assert!(e.what().contains("refuses the login") && !e.to_string().contains("hunter2"), "{e}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    let spec = with("hunter2");
    assert!(!format!("{spec:?}").contains("hunter2"));
    // A sink is refused as well.
    let mut sink = broker.spec("kafka", &topic, one(), &[("format", "csv")]);
    sink.options.extend(spec.options.into_iter().filter(|(k, _)| k.starts_with("properties.")));
    let e = fails(Registry::new().open_sink(&sink, &SinkContext::one_of(0, 1)));
    assert!(
        e.kind() == ErrorKind::Usage && e.what().contains("refuses the login") && !e.to_string().contains("hunter2"),
        "{e}"
    );
}

#[test]
fn a_reader_lives_through_a_restart_of_the_broker() {
    if variable("MILLSTREAM_TEST_KAFKA_CONTROL").is_none() {
        return;
    }
    let Some(broker) = broker_alone() else { return };
    let topic = broker.topic("lives", 2, &[]);
    broker.values(&topic, 0, &["1"]);
    let mut readers = open(&numbers(&broker, &topic, &[("scan.bounded.mode", "unbounded")])).expect("opened");
    assert_eq!(some(&mut readers, 1).rows, ["1"]);
    control("stop");
    for reader in &mut readers {
        assert!(matches!(reader.poll().expect("it waits"), Polled::Pending));
    }
    control("start");
    broker.values(&topic, 0, &["2"]);
    broker.values(&topic, 1, &["3"]);
    let mut rows = some(&mut readers, 2).rows;
    rows.sort();
    assert_eq!(rows, ["2", "3"]);
}
