//! What can be wrong with a cluster, a topic or a record: it is said where, what, and what to do.

use crate::broker::{Broker, PATIENCE, broker, fails, variable};
use crate::reading::{self, all, drain, numbers, some};
use crate::writing::{self, appends, committer, outbox, pairs, run};
use arrow::datatypes::{DataType, Field};
use millstream_core::{Error, ErrorKind, Result, TableSpec};
use std::time::{Duration, Instant};

/// That the error has these words in what it says and in its remedy, and this place: of a record, or where the table is
/// declared. The engine adds the latter to what a source meets when it is asked for its partitions.
fn says(e: &Error, kind: ErrorKind, place: &str, what: &[&str], remedy: &str) {
    assert_eq!(e.kind(), kind, "{e}");
    assert_eq!(e.place().map_or("", |p| p.0.as_str()), place, "{e}");
    for word in what {
        assert!(e.what().contains(word), "`{word}` is not in: {e}");
    }
    assert!(e.help().is_some_and(|h| h.contains(remedy)), "`{remedy}` is not in the remedy of: {e}");
    eprintln!("{e}");
}

/// What is said when such a table is opened to be read, to be written, and to be written exactly once; and how long that took.
fn all_uses(broker: &Broker, topic: &str, more: &[(&str, &str)]) -> [(&'static str, Error, Duration); 3] {
    let declared = "q.sql:1:14";
    let (read, write) = (numbers(broker, topic, more), appends(broker, topic, more));
    let job = run(&broker.name("job"), 1, 0);
    // Side by side, since each may take its time.
    let [read, direct, once] = std::thread::scope(|scope| {
        let read = scope.spawn(|| timed(|| fails(reading::open(&read))));
        let direct = scope.spawn(|| timed(|| fails(writing::open(&write, None))));
        let once = scope.spawn(|| timed(|| fails(committer(&write, &job))));
        [read, direct, once].map(|thread| thread.join().expect("it fails as it should"))
    });
    [("", read.0, read.1), (declared, direct.0, direct.1), (declared, once.0, once.1)]
}

fn timed(act: impl FnOnce() -> Error) -> (Error, Duration) {
    let begun = Instant::now();
    let e = act();
    (e, begun.elapsed())
}

const LOGIN: [(&str, &str); 4] = [
    ("properties.security.protocol", "SASL_PLAINTEXT"),
    ("properties.sasl.mechanism", "PLAIN"),
    ("properties.sasl.username", "ann"),
    ("properties.sasl.password", "hunter2"),
];

/// How soon a word is said that no waiting changes.
const AT_ONCE: Duration = Duration::from_secs(20);

#[test]
fn a_login_that_nobody_wants_is_said_at_once() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("no-login", 1, &[]);
    for (place, e, took) in all_uses(&broker, &topic, &LOGIN) {
        says(&e, ErrorKind::Usage, place, &[&broker.address], "properties.security.protocol");
        assert!(took < AT_ONCE && !e.to_string().contains("hunter2"), "after {took:?}: {e}");
    }
}

#[test]
fn a_login_that_is_wrong_is_said_to_whoever_writes_exactly_once() {
    let Some(mut broker) = broker() else { return };
    let Some(login) = variable("MILLSTREAM_TEST_KAFKA_LOGIN") else { return };
    let topic = broker.topic("wrong-login", 1, &[]);
    broker.address = login.split_once('@').expect("user:password@host:port").1.to_owned();
    for (place, e, took) in all_uses(&broker, &topic, &LOGIN) {
        says(&e, ErrorKind::Usage, place, &["refuses the login"], "properties.sasl.mechanism");
        assert!(took < AT_ONCE && !e.to_string().contains("hunter2"), "after {took:?}: {e}");
    }
}

#[test]
fn a_login_that_is_wanted_and_missing_is_told_from_a_broker_that_is_down() {
    let Some(mut broker) = broker() else { return };
    let Some(login) = variable("MILLSTREAM_TEST_KAFKA_LOGIN") else { return };
    let topic = broker.topic("login-missing", 1, &[]);
    broker.address = login.split_once('@').expect("user:password@host:port").1.to_owned();
    let e = fails(reading::open(&numbers(&broker, &topic, &[])));
    says(&e, ErrorKind::Io, "", &[&broker.address, "close the connection"], "properties.security.protocol");
}

#[test]
fn brokers_that_are_not_there_are_named_to_whoever_reads_or_writes() {
    let Some(mut broker) = broker() else { return };
    broker.address = "127.0.0.1:1".into();
    for (place, e, took) in all_uses(&broker, "t", &[]) {
        says(&e, ErrorKind::Io, place, &["no broker of Kafka at 127.0.0.1:1"], "properties.bootstrap.servers");
        assert!(took < PATIENCE, "after {took:?}: {e}");
    }
}

#[test]
fn a_topic_that_is_not_there_is_named_to_whoever_reads_or_writes() {
    let Some(broker) = broker() else { return };
    let topic = broker.name("missing");
    for (place, e, took) in all_uses(&broker, &topic, &[]) {
        says(&e, ErrorKind::Usage, place, &["has no topic", &topic], "kafka-topics.sh");
        assert!(took < AT_ONCE, "after {took:?}: {e}");
    }
}

#[test]
fn a_topic_that_is_deleted_while_it_is_read_ends_the_job_in_words() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("deleted", 1, &[]);
    broker.values(&topic, 0, &["1"]);
    let spec = numbers(&broker, &topic, &[("scan.bounded.mode", "unbounded")]);
    let mut readers = reading::open(&spec).expect("opened");
    assert_eq!(some(&mut readers, 1).rows, ["1"]);
    broker.delete(&topic);
    let (e, took) = timed(|| missed(&mut readers));
    assert!(e.what().contains("does not know the topic") && e.what().contains(&topic), "{e}");
    assert!(e.help().is_some_and(|h| h.contains("create the topic")), "{e}");
    eprintln!("after {took:?}: {e}");
}

/// The error of a reader that nothing comes from.
fn missed(readers: &mut [Box<dyn millstream_core::PartitionReader>]) -> Error {
    // The client waits half a minute before it takes a topic for gone that has just been made.
    let until = Instant::now() + 2 * PATIENCE;
    loop {
        assert!(Instant::now() < until, "nobody misses anything");
        if let Err(e) = readers[0].poll() {
            return e;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_retention_takes_away_while_it_is_read_is_missed_loudly() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("going", 1, &[]);
    let row = format!("1{}", " ".repeat(1000));
    broker.values(&topic, 0, &vec![row.as_str(); 4000]);
    // Next to nothing is fetched ahead, so that there is something left to be taken away.
    let options = [
        ("scan.bounded.mode", "unbounded"),
        ("properties.queued.max.messages.kbytes", "16"),
        ("properties.fetch.message.max.bytes", "16384"),
        ("csv.ignore-parse-errors", "true"),
    ];
    let mut readers = reading::open(&numbers(&broker, &topic, &options)).expect("opened");
    some(&mut readers, 1);
    broker.forget_before(&topic, 0, 3900);
    let e = missed(&mut readers);
    let at: String = readers[0].position().expect("a position").chars().filter(char::is_ascii_digit).skip(1).collect();
    says(
        &e,
        ErrorKind::Data,
        &format!("{topic}[0]@{at}"),
        &["retention", "oldest record left is 3900"],
        "retention.ms",
    );
    assert!((2..3900).contains(&at.parse::<i64>().expect("an offset")), "{at}");
}

fn json_numbers(broker: &Broker, topic: &str) -> TableSpec {
    let options =
        [("format", "json"), ("scan.startup.mode", "earliest-offset"), ("scan.bounded.mode", "latest-offset")];
    let columns = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("l", DataType::List(Field::new("item", DataType::Int64, true).into()), true),
    ];
    broker.spec("kafka", topic, columns, &options)
}

#[test]
fn a_poisoned_record_is_named_and_can_be_set_aside_and_those_around_it_are_read() {
    let Some(broker) = broker() else { return };
    let deep = format!("{{\"n\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_list = format!("{{\"n\":1,\"l\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_unknown = format!("{{\"n\":1,\"other\":{}1", "{\"a\":".repeat(100_000));
    let large = format!("{{\"n\":{}}}", "9".repeat(100_000));
    let key = format!("{{\"{}\":1,\"n\":\"x\"}}", "k".repeat(100_000));
    let poisons: [&[u8]; 12] = [
        b"",
        b"{",
        b"{\"n\":1} {\"n\":2}",
        b"null",
        b"\0\0\0\0\x01",
        b"{\"n\":\"\xff\xfe\"}",
        b"{\"n\":1e400}",
        deep.as_bytes(),
        deep_list.as_bytes(),
        deep_unknown.as_bytes(),
        large.as_bytes(),
        key.as_bytes(),
    ];
    for (number, poison) in poisons.iter().enumerate() {
        let topic = broker.topic(&format!("poison{number}"), 1, &[]);
        for value in [b"{\"n\":1}", *poison, b"{\"n\":3}"] {
            broker.bytes(&topic, value);
        }
        let start = String::from_utf8_lossy(&poison[..poison.len().min(40)]).into_owned();
        let spec = json_numbers(&broker, &topic);
        let e = fails(reading::open(&spec).and_then(|mut readers| drain(&mut readers)));
        says(&e, ErrorKind::Data, &format!("{topic}[0]@1"), &[], "json.ignore-parse-errors");
        assert!(e.to_string().len() < 1000, "a whole record is said: {start}");
        let mut aside = spec.clone();
        aside.options.insert("millstream.bad-rows".into(), "set-aside".into());
        let mut readers = reading::open(&aside).expect("opened");
        let read = drain(&mut readers).unwrap_or_else(|e| panic!("{start}: {e}"));
        assert_eq!((read.rows.len(), read.bad.len()), (2, 1), "{start}: {:?}", read.rows);
        assert_eq!(
            (read.bad[0].raw.as_slice(), read.bad[0].place.0.as_str()),
            (*poison, format!("{topic}[0]@1").as_str())
        );
    }
}

/// A value of ten megabytes, which compresses badly.
fn ten_megabytes() -> String {
    let mut at = 88172645463325252u64;
    let mut text = String::with_capacity(10 << 20);
    while text.len() < 10 << 20 {
        at ^= at << 13;
        at ^= at >> 7;
        at ^= at << 17;
        text.push_str(&format!("{at:016x}"));
    }
    text
}

const LARGE_RECORDS: (&str, &str) = ("max.message.bytes", "20971520");

#[test]
fn a_record_of_ten_megabytes_is_read_with_those_around_it() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("ten-megabytes", 1, &[LARGE_RECORDS]);
    let (before, large, after) = (b"a".as_slice(), ten_megabytes(), b"b".as_slice());
    for value in [before, large.as_bytes(), after] {
        broker.bytes(&topic, value);
    }
    let mut spec = numbers(&broker, &topic, &[("format", "raw")]);
    spec.schema = std::sync::Arc::new(arrow::datatypes::Schema::new(vec![Field::new("v", DataType::Utf8, true)]));
    // Also where next to nothing is fetched ahead.
    for kilobytes in ["65536", "1"] {
        spec.options.insert("properties.queued.max.messages.kbytes".into(), kilobytes.into());
        let rows = all(&spec);
        assert!(rows == ["a", large.as_str(), "b"], "{:?}", rows.iter().map(String::len).collect::<Vec<_>>());
    }
}

#[test]
fn a_record_of_ten_megabytes_is_refused_with_what_to_set_and_written_once_that_is_set() {
    let Some(broker) = broker() else { return };
    let large = ten_megabytes();
    let raised = [("properties.max.request.size", "20971520")];
    let try_both = |topic: &str, more: &[(&str, &str)]| -> [Result<()>; 2] {
        let spec = appends(&broker, topic, more);
        let mut sink = writing::open(&spec, None).expect("opened");
        let direct = sink.write(&pairs(&[(1, &large, 0)])).and_then(|()| sink.finish());
        let of = outbox(&spec, &[(2, &large, 0)]);
        // Each a later run of the job.
        let generation = 1 + more.len() as u64;
        let once = committer(&spec, &run(&broker.name("job"), generation, 0)).expect("opened").commit(1, &of);
        [direct, once]
    };
    // The client's own bound, and that of the topic.
    let (wide, narrow) = (broker.topic("wide", 1, &[LARGE_RECORDS]), broker.topic("narrow", 1, &[]));
    for (topic, more) in [(&wide, [].as_slice()), (&narrow, raised.as_slice())] {
        for refused in try_both(topic, more) {
            let e = fails(refused);
            assert!(e.what().contains("larger than Kafka takes") && e.what().contains(topic.as_str()), "{e}");
            let help = e.help().expect("a remedy");
            assert!(help.contains("properties.max.request.size") && help.contains("max.message.bytes"), "{e}");
            assert_eq!(e.kind(), ErrorKind::Data, "{e}");
            eprintln!("{e}");
        }
        assert!(broker.records(topic).is_empty());
    }
    for written in try_both(&wide, &raised) {
        written.expect("written");
    }
    let mut lengths: Vec<_> = broker.records(&wide).into_iter().map(|r| r.value.expect("a value").len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [large.len() + 2, large.len() + 2]);
}
