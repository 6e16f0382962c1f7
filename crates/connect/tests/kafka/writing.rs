//! Topics as sinks.

use crate::broker::{Broker, PATIENCE, broker, broker_alone, control, fails, variable};
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use millstream_connect::Registry;
use millstream_core::table::{Connectors, TableUse};
use millstream_core::{Batch, Committable, Committer, ErrorKind, JobRun, Result, Sink, SinkContext, TableSpec};
use rdkafka::producer::{BaseRecord, Producer};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn pair_fields() -> Vec<Field> {
    vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Utf8, true)]
}

/// Rows of `k` and `v` with their kinds: 0 `+I`, 1 `-U`, 2 `+U`, 3 `-D`.
pub fn pairs(rows: &[(i64, &str, i8)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))),
    ];
    let kinds = rows.iter().any(|r| r.2 != 0).then(|| Int8Array::from_iter_values(rows.iter().map(|r| r.2)));
    Batch { kinds, ..RecordBatch::try_new(Arc::new(Schema::new(pair_fields())), columns).expect("two columns").into() }
}

pub fn appends(broker: &Broker, topic: &str, more: &[(&str, &str)]) -> TableSpec {
    let options: Vec<_> = [("format", "csv")].into_iter().chain(more.iter().copied()).collect();
    broker.spec("kafka", topic, pair_fields(), &options)
}

fn upserts(broker: &Broker, topic: &str, more: &[(&str, &str)]) -> TableSpec {
    let options: Vec<_> =
        [("key.format", "raw"), ("value.format", "csv")].into_iter().chain(more.iter().copied()).collect();
    let mut spec = broker.spec("upsert-kafka", topic, pair_fields(), &options);
    // A key of text, so that it can be read here.
    spec.schema = Arc::new(Schema::new(pair_fields()));
    spec.primary_key = vec!["v".into()];
    spec
}

pub fn run(job: &str, generation: u64, epoch: u64) -> JobRun {
    JobRun { job: job.into(), generation, epoch }
}

pub fn open(spec: &TableSpec, job: Option<JobRun>) -> Result<Box<dyn Sink>> {
    let registry = Registry::new();
    registry.validate(spec, TableUse::Sink)?;
    registry.open_sink(spec, &SinkContext { index: 0, writers: 1, job })
}

pub fn committer(spec: &TableSpec, run: &JobRun) -> Result<Box<dyn Committer>> {
    Registry::new().open_committer(spec, run).map(|c| c.expect("exactly once has one"))
}

/// The outbox of one writer that was given these rows.
pub fn outbox(spec: &TableSpec, rows: &[(i64, &str, i8)]) -> [Committable; 1] {
    let mut sink = open(spec, Some(run("any", 1, 0))).expect("opened");
    sink.write(&pairs(rows)).expect("written");
    let prepared = sink.prepare(1).expect("prepared");
    assert!(prepared.committable.is_none() && prepared.settle.is_none());
    [Committable { data: None, outbox: prepared.outbox }]
}

/// Tries as the runtime does: again while the error may pass.
pub fn commit_until_done(committer: &mut dyn Committer, epoch: u64, of: &[Committable]) -> usize {
    let (until, mut tries) = (Instant::now() + 3 * PATIENCE, 1);
    while let Err(e) = committer.commit(epoch, of) {
        assert!(e.kind() == ErrorKind::Io && Instant::now() < until, "{e}");
        tries += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    tries
}

#[test]
fn without_checkpoints_rows_arrive_as_they_come() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("direct", 4, &[]);
    let keyed = [("key.format", "raw"), ("key.fields", "v")];
    let mut sink = open(&appends(&broker, &topic, &keyed), None).expect("opened");
    for n in 0..40 {
        sink.write(&pairs(&[(n, ["a", "b", "c"][n as usize % 3], 0)])).expect("written");
    }
    sink.finish().expect("arrived");
    assert!(sink.bytes() > 0);
    let records = broker.records(&topic);
    assert_eq!(records.len(), 40);
    for key in ["a", "b", "c"] {
        let mine: Vec<_> = records.iter().filter(|r| r.key.as_deref() == Some(key)).collect();
        assert!(mine.iter().all(|r| r.partition == mine[0].partition), "one key is in one partition");
        let numbers: Vec<i64> = mine
            .iter()
            .map(|r| r.value.as_ref().expect("a value").split(',').next().expect("k").parse().expect("a number"))
            .collect();
        assert!(numbers.is_sorted(), "and in order: {numbers:?}");
    }
    // Where Java's client puts these keys: 32-bit murmur2 of the key, without its sign, modulo four.
    let of = |key: &str| records.iter().find(|r| r.key.as_deref() == Some(key)).expect("a record").partition;
    assert_eq!([of("a"), of("b"), of("c")], ["a", "b", "c"].map(|k| (murmur2(k.as_bytes()) & 0x7fff_ffff) as i32 % 4));
    let e = fails(sink.write(&pairs(&[(1, "x", 3)])));
    assert!(e.what().contains("takes new rows only"), "{e}");
}

/// As in Java's `org.apache.kafka.common.utils.Utils`.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let chunks = data.chunks_exact(4);
    let rest = chunks.remainder();
    for chunk in chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().expect("four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (n, &byte) in rest.iter().enumerate().rev() {
        h ^= u32::from(byte) << (8 * n);
        if n == 0 {
            h = h.wrapping_mul(M);
        }
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[test]
fn a_row_brings_its_time_and_its_headers() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("brought", 2, &[]);
    let pair =
        Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false);
    let ltz = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut columns = pair_fields();
    columns.push(Field::new("ts", ltz.clone(), true));
    columns.push(Field::new("h", map.clone(), true));
    let mut spec = broker.spec("kafka", &topic, columns, &[("format", "json"), ("sink.partitioner", "fixed")]);
    spec.metadata =
        vec![("timestamp".into(), Field::new("ts", ltz, true)), ("headers".into(), Field::new("h", map, true))];
    let mut sink = open(&spec, None).expect("opened");
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut headers = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    headers.keys().append_value("a");
    headers.values().append_value(b"x");
    headers.append(true).expect("one");
    headers.append(false).expect("none");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2])),
        Arc::new(StringArray::from(vec!["a", "b"])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(1234), None]).with_timezone("UTC")),
        Arc::new(headers.finish()),
    ];
    let rows = RecordBatch::try_new(spec.schema.clone(), columns).expect("four columns");
    sink.write(&rows.into()).expect("written");
    sink.finish().expect("arrived");
    let records = broker.records(&topic);
    assert_eq!(records[0].value.as_deref(), Some(r#"{"k":1,"v":"a"}"#));
    assert_eq!((records[0].millis, records[0].headers.as_slice()), (1234, [("a".into(), "x".into())].as_slice()));
    assert!(records[1].millis > 1_700_000_000_000 && records[1].headers.is_empty());
    assert!(records.iter().all(|r| r.partition == 0), "one writer, one partition");
    spec.metadata = vec![("offset".into(), Field::new("k", DataType::Int64, true))];
    assert!(fails(open(&spec, None)).help().expect("help").contains("VIRTUAL"));
}

#[test]
fn an_upsert_table_holds_the_last_of_each_key_and_a_tombstone_for_what_went() {
    let Some(broker) = broker() else { return };
    for job in [None, Some(run("upserts", 1, 0))] {
        let topic = broker.topic(if job.is_some() { "upserts" } else { "upserts-direct" }, 1, &[]);
        let prefix = broker.name("upserts");
        let spec = upserts(&broker, &topic, &[("sink.transactional-id-prefix", &prefix)]);
        let changes = [(1, "a", 0), (2, "b", 0), (1, "a", 1), (3, "a", 2), (2, "b", 3)];
        match &job {
            None => {
                let mut sink = open(&spec, None).expect("opened");
                sink.write(&pairs(&changes)).expect("written");
                sink.finish().expect("arrived");
            }
            Some(run) => {
                let of = outbox(&spec, &changes);
                committer(&spec, run).expect("opened").commit(1, &of).expect("committed");
            }
        }
        let mut found: Vec<_> = broker.records(&topic).into_iter().map(|r| (r.key.expect("a key"), r.value)).collect();
        found.sort();
        assert_eq!(found, [("a".into(), Some("3,a".into())), ("b".into(), None)]);
    }
}

#[test]
fn an_epoch_is_committed_once_however_often_it_is_asked_for() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("once", 3, &[]);
    let job = broker.name("job");
    let spec = appends(&broker, &topic, &[]);
    let mut first = committer(&spec, &run(&job, 1, 0)).expect("opened");
    let (one, two) = (outbox(&spec, &[(1, "a", 0), (2, "b", 0)]), outbox(&spec, &[(3, "c", 0)]));
    first.commit(1, &one).expect("committed");
    first.commit(1, &one).expect("nothing to do");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b"]);
    first.commit(2, &two).expect("committed");
    // After a crash: the checkpoint of epoch 1 says that 1 and 2 may have to be committed.
    drop(first);
    let mut second = committer(&spec, &run(&job, 2, 2)).expect("opened");
    second.commit(1, &one).expect("nothing to do");
    second.commit(2, &two).expect("nothing to do");
    second.commit(3, &outbox(&spec, &[(4, "d", 0)])).expect("committed");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b", "3,c", "4,d"]);
    // An older checkpoint would bring rows twice.
    let e = fails(committer(&spec, &run(&job, 3, 1)));
    assert!(e.what().contains("epochs up to 3") && e.help().expect("help").contains("checkpoint of epoch 3"), "{e}");
}

#[test]
fn what_a_crash_left_open_is_never_seen() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("open", 1, &[]);
    let job = broker.name("job");
    let spec = appends(&broker, &topic, &[]);
    drop(committer(&spec, &run(&job, 1, 0)).expect("opened"));
    // A run that was killed between its rows and the end of the transaction.
    let id = format!("millstream-{job}-{topic}-t");
    let crashed = broker.producer(&[("transactional.id", &id)]);
    crashed.init_transactions(PATIENCE).expect("ready");
    crashed.begin_transaction().expect("begun");
    crashed.send(BaseRecord::<str, str>::to(&topic).payload("half")).map_err(|(e, _)| e).expect("taken");
    crashed.flush(PATIENCE).expect("arrived");
    std::mem::forget(crashed);
    let mut next = committer(&spec, &run(&job, 2, 0)).expect("opened");
    let of = outbox(&spec, &[(1, "a", 0)]);
    next.commit(1, &of).expect("committed");
    assert_eq!(broker.sorted(&topic), ["1,a"]);
    let all: Vec<_> = broker.records_as(&topic, "read_uncommitted").into_iter().filter_map(|r| r.value).collect();
    assert_eq!(all, ["half", "1,a"], "it was there, and was given up");
}

#[test]
fn a_run_that_was_thought_dead_commits_nothing_and_harms_nobody() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("zombie", 2, &[]);
    let job = broker.name("job");
    let spec = appends(&broker, &topic, &[]);
    let mut old = committer(&spec, &run(&job, 1, 0)).expect("opened");
    old.commit(1, &outbox(&spec, &[(1, "a", 0)])).expect("committed");
    let mut new = committer(&spec, &run(&job, 2, 1)).expect("opened");
    let late = outbox(&spec, &[(9, "z", 0)]);
    let mut tries = 0;
    let e = loop {
        let e = fails(old.commit(2, &late));
        tries += 1;
        if e.kind() != ErrorKind::Io || tries > 5 {
            break e;
        }
    };
    assert_eq!(e.kind(), ErrorKind::Usage, "{e}");
    assert!(e.what().contains("a later run") && e.what().contains("run 2"), "{e}");
    new.commit(2, &outbox(&spec, &[(2, "b", 0)])).expect("it was not shut out");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b"]);
}

#[test]
fn a_second_job_under_the_same_id_is_refused_and_the_first_goes_on() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("two-jobs", 1, &[]);
    let prefix = broker.name("prefix");
    let spec = appends(&broker, &topic, &[("sink.transactional-id-prefix", &prefix)]);
    let mut first = committer(&spec, &run("first", 1, 0)).expect("opened");
    let e = fails(committer(&spec, &run("second", 7, 0)));
    assert_eq!(e.kind(), ErrorKind::Usage);
    assert!(e.what().contains("belongs to the table `t` of the job `first`"), "{e}");
    assert!(e.help().expect("help").contains("sink.transactional-id-prefix"), "{e}");
    // The same name, from another place for its state.
    let e = fails(committer(&spec, &run("first", 1, 0)));
    assert!(e.what().contains("another job of this name"), "{e}");
    first.commit(1, &outbox(&spec, &[(1, "a", 0)])).expect("it was not shut out");
    assert_eq!(broker.sorted(&topic), ["1,a"]);
}

#[test]
fn a_missing_topic_is_said_at_the_start() {
    let Some(broker) = broker() else { return };
    let spec = appends(&broker, &broker.name("missing"), &[]);
    for e in [fails(open(&spec, None)), fails(committer(&spec, &run(&broker.name("job"), 1, 0)))] {
        assert!(e.what().contains("has no topic") && e.place().expect("a place").0 == "q.sql:1:14", "{e}");
    }
}

#[test]
fn a_record_that_is_too_large_is_refused_in_words() {
    let Some(broker) = broker() else { return };
    let topic = broker.topic("too-large", 1, &[("max.message.bytes", "1000")]);
    let spec = appends(&broker, &topic, &[]);
    let long = "x".repeat(5000);
    let mut sink = open(&spec, None).expect("opened");
    let e = fails(sink.write(&pairs(&[(1, &long, 0)])).and_then(|()| sink.finish()));
    assert!(e.what().contains("larger than Kafka takes"), "{e}");
    let of = outbox(&spec, &[(1, &long, 0)]);
    let e = fails(committer(&spec, &run(&broker.name("job"), 1, 0)).expect("opened").commit(1, &of));
    assert_eq!(e.kind(), ErrorKind::Data, "{e}");
    assert!(broker.records(&topic).is_empty());
}

#[test]
fn a_broker_that_stands_still_or_restarts_loses_and_doubles_nothing() {
    if variable("MILLSTREAM_TEST_KAFKA_CONTROL").is_none() {
        return;
    }
    let Some(broker) = broker_alone() else { return };
    let topic = broker.topic("restarts", 2, &[]);
    let job = broker.name("job");
    // A transaction is given up after two seconds: it runs out while the broker stands still.
    let spec = appends(&broker, &topic, &[("properties.transaction.timeout.ms", "2000")]);
    let mut sink = committer(&spec, &run(&job, 1, 0)).expect("opened");
    sink.commit(1, &outbox(&spec, &[(1, "a", 0)])).expect("committed");
    control("pause");
    let going_on = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(6));
        control("go-on");
    });
    let two = outbox(&spec, &[(2, "b", 0)]);
    let begun = Instant::now();
    let tries = commit_until_done(sink.as_mut(), 2, &two);
    eprintln!("a broker that stands still for 6 s: {tries} tries, {:?}", begun.elapsed());
    going_on.join().expect("it goes on");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b"]);
    control("stop");
    let started = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(1));
        control("start");
    });
    let begun = Instant::now();
    let tries = commit_until_done(sink.as_mut(), 3, &outbox(&spec, &[(3, "c", 0)]));
    eprintln!("one that restarts: {tries} tries, {:?}", begun.elapsed());
    started.join().expect("it starts");
    assert_eq!(broker.sorted(&topic), ["1,a", "2,b", "3,c"]);
}
