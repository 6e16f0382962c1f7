use super::*;
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

fn table(connector: &str, options: &[(&str, &str)]) -> TableSpec {
    let mut all = BTreeMap::from([
        ("connector".to_owned(), connector.to_owned()),
        ("topic".to_owned(), "orders".to_owned()),
        ("properties.bootstrap.servers".to_owned(), "localhost:9092".to_owned()),
        ("scan.startup.mode".to_owned(), "earliest-offset".to_owned()),
    ]);
    all.insert(if connector == "kafka" { "format" } else { "value.format" }.to_owned(), "json".to_owned());
    for (key, value) in options {
        match *value {
            "-" => drop(all.remove(*key)),
            value => drop(all.insert(key.to_string(), value.to_owned())),
        }
    }
    TableSpec {
        name: "t".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("k_id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("amount", DataType::Float64, true),
        ])),
        projection: None,
        metadata: Vec::new(),
        options: all,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    }
}

fn read(options: &[(&str, &str)]) -> Result<Settings> {
    Settings::of(&table("kafka", options), TableUse::Source, false, true)
}

fn written(options: &[(&str, &str)]) -> Result<Settings> {
    Settings::of(&table("kafka", options), TableUse::Sink, false, true)
}

fn said(settings: Result<Settings>) -> String {
    settings.expect_err("refused").to_string()
}

#[test]
fn slips_are_named_with_what_was_meant() {
    for (options, what) in [
        (&[("scan.startup.mod", "x")][..], "did you mean 'scan.startup.mode'?"),
        (&[("scan.startup.mode", "earliest")], "did you mean 'earliest-offset'?"),
        (&[("scan.bounded.mode", "latest")], "did you mean 'latest-offset'?"),
        (&[("format", "jason")], "did you mean 'json'?"),
        (&[("format", "-")], "needs the option 'format'"),
        (&[("format", "-"), ("formt", "json")], "has no option 'formt'"),
        (&[("format", "-"), ("formt", "csv"), ("csv.field-delimiter", ";")], "did you mean 'format'?"),
        (&[("topic", "-")], "needs the option 'topic'"),
        (&[("topic", "a b")], "cannot be the name of a topic"),
        (&[("topic", "a;a")], "names 'a' twice"),
        (&[("topic-pattern", "a.*")], "both set"),
        (&[("topic", "-"), ("topic-pattern", "a(")], "no regular expression"),
        (&[("properties.bootstrap.servers", "-")], "needs the option 'properties.bootstrap.servers'"),
        (
            &[("properties.bootstrap.servers", "-"), ("properties.bootstrap.server", "k:9092")],
            "did you mean 'properties.bootstrap.servers'?",
        ),
        (&[("properties.bootstrap.servers", "localhost")], "no host:port"),
        (&[("properties.isolation.lvel", "x")], "did you mean 'properties.isolation.level'?"),
        (&[("properties.isolation.level", "x")], "has a value that the Kafka client does not take"),
        (&[("properties.transactional.id", "x")], "sink.transactional-id-prefix"),
        (&[("scan.startup.mode", "-")], "does not say where reading begins"),
        (&[("scan.startup.mode", "group-offsets")], "needs a group"),
        (&[("scan.startup.mode", "timestamp")], "needs 'scan.startup.timestamp-millis'"),
        (&[("scan.startup.mode", "specific-offsets")], "names no partition"),
        (
            &[("scan.bounded.mode", "specific-offsets"), ("scan.bounded.specific-offsets", "0:1")],
            "'0:1' names no offset",
        ),
        (&[("scan.startup.mode", "specific-offsets"), ("topic", "a;b")], "needs one topic"),
        (&[("key.fields", "k_id")], "'key.format' is missing"),
        (&[("key.format", "json")], "no column belongs to the key"),
        (&[("key.format", "json"), ("key.fields", "nam")], "did you mean `name`?"),
        (&[("key.format", "json"), ("key.fields", "name"), ("key.fields-prefix", "k_")], "EXCEPT_KEY"),
        (&[("value.fields-include", "SOME")], "use 'ALL' or 'EXCEPT_KEY'"),
        (&[("value.json.ignore-parse-errors", "true")], "has no option 'value.json.ignore-parse-errors'"),
        (&[("csv.field-delimiter", ";")], "has no option 'csv.field-delimiter'"),
    ] {
        let e = said(read(options));
        assert!(e.contains(what), "{options:?}: {e}");
    }
    for (options, what) in [
        (&[("topic", "a;b")][..], "rows are written to one"),
        (&[("sink.partitioner", "round_robin")], "did you mean 'round-robin'?"),
        (&[("sink.delivery-guarantee", "exactly_once")], "did you mean 'exactly-once'?"),
        (
            &[("sink.partitioner", "round-robin"), ("key.format", "raw"), ("key.fields", "name")],
            "tear the rows of one key",
        ),
    ] {
        let e = said(written(options));
        assert!(e.contains(what), "{options:?}: {e}");
    }
}

#[test]
fn the_key_and_the_value_share_the_columns() {
    let all = read(&[("key.format", "json"), ("key.fields", "k_id")]).expect("valid");
    assert_eq!(all.value.names, ["k_id", "name", "amount"]);
    let except = [
        ("key.format", "json"),
        ("key.fields", "k_id"),
        ("key.fields-prefix", "k_"),
        ("value.fields-include", "EXCEPT_KEY"),
        ("key.json.ignore-parse-errors", "true"),
    ];
    let except = read(&except).expect("valid");
    let key = except.key.expect("a key");
    assert_eq!((key.names, key.columns), (vec!["id".to_owned()], vec![0]));
    assert_eq!((except.value.names, except.value.columns), (vec!["name".to_owned(), "amount".to_owned()], vec![1, 2]));
    assert!(key.format.ignores_errors() && !except.value.format.ignores_errors());
}

#[test]
fn an_upsert_table_has_a_key_and_is_read_from_its_beginning() {
    let mut keyed = table("upsert-kafka", &[("key.format", "json"), ("scan.startup.mode", "-")]);
    keyed.primary_key = vec!["name".into()];
    let settings = Settings::of(&keyed, TableUse::Sink, true, true).expect("valid");
    assert_eq!(settings.key.expect("a key").columns, [1]);
    let settings = Settings::of(&keyed, TableUse::Source, true, true).expect("valid");
    assert_eq!((settings.start, settings.end), (Bound::Earliest, End::Never));
    let mut late = keyed.clone();
    late.options.insert("scan.startup.mode".into(), "latest-offset".into());
    assert!(said(Settings::of(&late, TableUse::Source, true, true)).contains("from the beginning"));
    let mut changes = keyed.clone();
    changes.options.insert("value.format".into(), "debezium-json".into());
    changes.options.remove("format");
    assert!(said(Settings::of(&changes, TableUse::Source, true, true)).contains("tells changes"));
    keyed.primary_key.clear();
    assert!(said(Settings::of(&keyed, TableUse::Sink, true, true)).contains("PRIMARY KEY"));
    let mut plain = table("kafka", &[]);
    plain.primary_key = vec!["name".into()];
    assert!(said(Settings::of(&plain, TableUse::Sink, false, true)).contains("upsert-kafka"));
    plain.options.insert("format".into(), "canal-json".into());
    Settings::of(&plain, TableUse::Source, false, true).expect("a format of changes knows what a key is");
}

#[test]
fn where_reading_begins_and_ends_is_read_in_all_forms() {
    let offsets = [
        ("scan.startup.mode", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:0,offset:42; partition:1,offset:300"),
    ];
    assert_eq!(read(&offsets).expect("valid").start, Bound::Offsets(BTreeMap::from([(0, 42), (1, 300)])));
    let group = read(&[("scan.startup.mode", "-"), ("properties.group.id", "g")]).expect("valid");
    assert_eq!((group.start, group.end), (Bound::Group, End::Never));
    let bounded = [("scan.bounded.mode", "timestamp"), ("scan.bounded.timestamp-millis", "1700000000000")];
    assert_eq!(read(&bounded).expect("valid").end, End::At(Bound::Millis(1_700_000_000_000)));
    assert_eq!(read(&[("scan.bounded.mode", "unbounded")]).expect("valid").end, End::Never);
    let pattern = read(&[("topic", "-"), ("topic-pattern", "orders-\\d+")]).expect("valid");
    let Topics::Matching(pattern) = pattern.topics else { panic!("a pattern") };
    assert!(pattern.is_match("orders-12") && !pattern.is_match("old-orders-12") && !pattern.is_match("orders-12a"));
}

#[test]
fn a_file_for_javas_client_is_understood_and_shows_no_secret() {
    let java = [
        ("properties.key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer"),
        ("properties.fetch.max.wait.ms", "100"),
        ("properties.buffer.memory", "33554432"),
        ("properties.sasl.mechanism", "PLAIN"),
        ("properties.security.protocol", "SASL_PLAINTEXT"),
        (
            "properties.sasl.jaas.config",
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"ann\" password=\"hunter2\";",
        ),
    ];
    let settings = read(&java).expect("valid");
    let config = settings.properties.config(&[]);
    assert_eq!(config.get("sasl.username"), Some("ann"));
    assert_eq!(config.get("sasl.password"), Some("hunter2"));
    assert_eq!(config.get("queue.buffering.max.kbytes"), Some("32768"));
    assert!(!format!("{settings:?}").contains("hunter2"), "{settings:?}");
    for options in [
        &[("properties.sasl.jaas.config", "hunter2")][..],
        &[("properties.sasl.pasword", "hunter2")],
        &[("properties.isolation.level", "hunter2")],
        &[("properties.bootstrap.servers", "ann:hunter2@localhost:9092")],
        &[("properties.auto.offset.reset", "hunter2")],
    ] {
        let e = said(read(options));
        assert!(!e.contains("hunter2"), "{e}");
    }
    let e = said(read(&[("properties.sasl.password", "${MILLSTREAM_TEST_NO_SUCH_VARIABLE}")]));
    assert!(e.contains("MILLSTREAM_TEST_NO_SUCH_VARIABLE"), "{e}");
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn tls_is_asked_of_a_build_that_has_it() {
    let e = said(read(&[("properties.security.protocol", "SASL_SSL")]));
    assert!(e.contains("kafka-tls"), "{e}");
}

#[test]
fn a_request_may_take_fifteen_seconds_or_what_the_table_says_and_no_longer_than_a_transaction() {
    for (options, millis) in [
        (&[][..], "15000"),
        (&[("properties.request.timeout.ms", "40000")], "40000"),
        (&[("properties.transaction.timeout.ms", "2000")], "2000"),
        (&[("properties.transaction.timeout.ms", "90000")], "15000"),
    ] {
        let config = written(options).expect("valid").properties.config(&[]);
        assert_eq!(config.get("socket.timeout.ms"), Some(millis), "{options:?}");
        // The library takes them together.
        let client = super::super::client::writer(&written(options).expect("valid").properties, Some("id"));
        assert!(client.is_ok(), "{options:?}");
    }
}
