//! Tables of Delta Lake, written by jobs that are killed at any point, and by others at the same time.

#[cfg(feature = "s3")]
use super::buckets::Both;
use super::commits::{committer, open, prepare, run_of};
use super::positions::{Out, poll, resumed, saved};
use super::*;
use arrow::array::{ArrayRef, Int8Array, StringArray};
use millstream_core::table::{TableUse, Takes};
use millstream_core::{Committable, Committer, Error, JobRun, Prepared, Sink, TableSpec};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn delta(path: &str) -> TableSpec {
    table(&[("connector", "delta"), ("path", path)])
}

fn at(dir: &TempDir) -> TableSpec {
    delta(&dir.path().join("lake").display().to_string())
}

fn log_of(spec: &TableSpec) -> PathBuf {
    Path::new(spec.option("path").expect("a path")).join("_delta_log")
}

/// The actions of a version.
fn commit_of(spec: &TableSpec, version: u64) -> Vec<Value> {
    let text = fs::read_to_string(log_of(spec).join(format!("{version:020}.json"))).expect("a commit");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn versions(spec: &TableSpec) -> usize {
    names(&log_of(spec)).iter().filter(|name| name.ends_with(".json")).count()
}

/// The ids that a reader of the table sees, sorted.
fn ids(spec: &TableSpec) -> Vec<i64> {
    let mut spec = spec.clone();
    spec.projection = Some(vec![0]);
    spec.options.retain(|key, _| !key.starts_with("delta."));
    let mut ids: Vec<i64> = rows(&spec).iter().map(|r| r.parse().expect("a number")).collect();
    ids.sort_unstable();
    ids
}

fn refusal(spec: &TableSpec) -> Error {
    Registry::new().open_source(spec).err().expect("it is refused")
}

fn sink_refusal(spec: &TableSpec) -> Error {
    Registry::new().open_sink(spec, &SinkContext::one_of(0, 1)).err().expect("it is refused")
}

/// Writes rows as a job without checkpoints does.
fn write(spec: &TableSpec, batches: &[Batch]) {
    let mut sink = Registry::new().open_sink(spec, &SinkContext::one_of(0, 1)).unwrap_or_else(|e| panic!("{e}"));
    batches.iter().for_each(|batch| sink.write(batch).expect("written"));
    sink.finish().unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn an_epoch_of_all_writers_is_one_commit_with_what_readers_want_to_know() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = at(&dir);
    spec.partitioned_by = vec!["name".into()];
    let run = run_of("orders-1", 1, 0);
    let mut committer = committer(&spec, &run);
    let mut sinks: Vec<_> = (0..3).map(|n| open(&spec, &run, n, 3)).collect();
    sinks[0].write(&batch(0..10)).expect("written");
    sinks[2].write(&batch(10..15)).expect("written");
    let prepared: Vec<_> = sinks.iter_mut().map(|s| prepare(s.as_mut(), 1).expect("prepared")).collect();
    assert_eq!(ids(&spec), [0i64; 0], "what is not committed is seen by nobody");
    committer.commit(1, &prepared).expect("committed");
    assert_eq!(ids(&spec), (0..15).collect::<Vec<_>>());
    committer.commit(1, &prepared).expect("a second time changes nothing");
    assert_eq!((versions(&spec), ids(&spec).len()), (2, 15));

    let commit = commit_of(&spec, 1);
    let txn = commit.iter().find_map(|line| line.get("txn")).expect("a txn");
    assert_eq!((&txn["appId"], &txn["version"]), (&json!("millstream/orders-1/t"), &json!(1)));
    let adds: Vec<&Value> = commit.iter().filter_map(|line| line.get("add")).collect();
    assert_eq!(adds.len(), 6);
    let n0 = adds.iter().find(|add| add["path"].as_str().is_some_and(|p| p.starts_with("name=n0/"))).expect("n0");
    assert_eq!(n0["partitionValues"], json!({"name": "n0"}));
    let stats: Value = serde_json::from_str(n0["stats"].as_str().expect("stats")).expect("JSON");
    let at = "2013-01-01T10:15:00";
    assert_eq!(
        stats,
        json!({
            "numRecords": 4, "minValues": {"id": 0, "at": at}, "maxValues": {"id": 9, "at": at},
            "nullCount": {"id": 0, "at": 0}
        })
    );
    // An epoch without rows is no commit.
    let prepared: Vec<_> = sinks.iter_mut().map(|s| prepare(s.as_mut(), 2).expect("prepared")).collect();
    committer.commit(2, &prepared).expect("committed");
    assert_eq!(versions(&spec), 2);
}

#[test]
fn without_checkpoints_rows_are_committed_at_the_end_and_a_failed_job_leaves_nothing() {
    let dir = TempDir::new().expect("a folder");
    let spec = at(&dir);
    write(&spec, &[batch(0..10), batch(10..20)]);
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
    sink.write(&batch(20..30)).expect("written");
    sink.abort();
    drop(sink);
    assert_eq!((ids(&spec), versions(&spec)), ((0..20).collect(), 2));
    assert_eq!(names(Path::new(spec.option("path").expect("a path"))).len(), 2, "a file and the log");
}

#[test]
fn a_version_or_a_time_of_the_past_can_be_read() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = at(&dir);
    (0..4).for_each(|n| write(&spec, &[batch(n * 10..n * 10 + 10)]));
    let of = |key: &str, value: &str| {
        let mut spec = spec.clone();
        spec.options.insert(key.into(), value.into());
        spec
    };
    assert_eq!(ids(&of("versionAsOf", "0")), [0i64; 0]);
    assert_eq!(ids(&of("versionAsOf", "2")), (0..20).collect::<Vec<_>>());
    let e = refusal(&of("versionAsOf", "9"));
    assert!(e.what().contains("no version 9") && e.help().is_some_and(|h| h.contains("newest is 4")), "{e}");
    // As if the versions were an hour apart.
    let hours = |n: u64| std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + n * 3600);
    for n in 0..5 {
        let file = fs::File::options().write(true).open(log_of(&spec).join(format!("{n:020}.json"))).expect("a commit");
        file.set_modified(hours(n)).expect("set");
    }
    assert_eq!(ids(&of("timestampAsOf", "2023-11-15 00:30:00")), (0..20).collect::<Vec<_>>());
    assert_eq!(ids(&of("timestampAsOf", "2023-11-16")).len(), 40);
    let e = refusal(&of("timestampAsOf", "2023-11-14"));
    assert!(e.help().is_some_and(|h| h.contains("oldest known version is 0, of 2023-11-14 22:13:20")), "{e}");
    for (key, value) in [("versionAsOf", "x"), ("timestampAsOf", "yesterday")] {
        let e = Registry::new().validate(&of(key, value), TableUse::Source).expect_err("no such time");
        assert!(e.what().contains(key), "{e}");
    }
    spec.options.insert("versionAsOf".into(), "1".into());
    assert!(sink_refusal(&spec).what().contains("as it was"));
}

#[test]
fn a_read_goes_on_in_the_version_in_which_it_began() {
    let dir = TempDir::new().expect("a folder");
    let spec = at(&dir);
    let many: Vec<Batch> = (0..5).map(|n| batch(n * 5_000..(n + 1) * 5_000)).collect();
    many.iter().for_each(|batch| write(&spec, std::slice::from_ref(batch)));
    let all = ids(&spec);
    let mut ids_only = spec.clone();
    ids_only.projection = Some(vec![0]);
    let source = || Registry::new().open_source(&ids_only).expect("opened");
    let number = |row: &String| row.parse::<i64>().expect("a number");
    for stop in 0..8 {
        let mut out = Out::default();
        let mut reader = source().partitions(1).expect("opened").remove(0);
        poll(reader.as_mut(), stop, &mut out);
        let position = saved(reader.as_ref());
        // Another job adds rows meanwhile.
        let from = 90_000 + 10 * stop as i64;
        write(&spec, &[batch(from..from + 10)]);
        assert!(poll(resumed(&ids_only, &[position], 1)[0].as_mut(), usize::MAX, &mut out));
        let seen: BTreeSet<i64> = out.rows.iter().map(number).collect();
        assert_eq!(seen.len(), out.rows.len(), "a row came twice");
        let added = seen.iter().filter(|id| **id >= 90_000).count();
        assert_eq!((seen.len() - added, added), (all.len(), stop * 10), "stopped after {stop} batches");
    }
}

/// Sinks and the committer of a run.
type Run = (Vec<Box<dyn Sink>>, Box<dyn Committer>);

/// A job as its runtime drives it, with a manifest that survives.
struct Job {
    spec: TableSpec,
    writers: usize,
    run: JobRun,
    sinks: Vec<Box<dyn Sink>>,
    committer: Box<dyn Committer>,
    manifest: (u64, Vec<Committable>),
    /// Sinks and committers of runs that were thought dead.
    zombies: Vec<Run>,
    next_id: i64,
    written: Vec<i64>,
    promised: BTreeSet<i64>,
}

impl Job {
    fn start(spec: TableSpec, writers: usize) -> Job {
        let run = run_of("orders-1", 1, 0);
        let committer = committer(&spec, &run);
        let sinks = (0..writers).map(|n| open(&spec, &run, n, writers)).collect();
        let (manifest, written, promised) = ((0, Vec::new()), Vec::new(), BTreeSet::new());
        Job { spec, writers, run, sinks, committer, manifest, zombies: Vec::new(), next_id: 0, written, promised }
    }

    fn write(&mut self, writer: usize, rows: i64) {
        let ids = self.next_id..self.next_id + rows;
        self.next_id += rows;
        self.sinks[writer % self.writers].write(&batch(ids.clone())).expect("written");
        self.written.extend(ids);
    }

    /// Up to a point; only 3 is its end.
    fn checkpoint(&mut self, until: u8) {
        let epoch = self.manifest.0 + 1;
        let prepared: Vec<_> = self.sinks.iter_mut().map(|s| prepare(s.as_mut(), epoch).expect("prepared")).collect();
        if until == 0 {
            return;
        }
        self.manifest = (epoch, prepared);
        self.promised.extend(self.written.drain(..));
        if until == 1 {
            return;
        }
        self.committer.commit(epoch, &self.manifest.1).expect("committed");
        self.check();
        if until == 3 {
            self.committer.commit(epoch, &self.manifest.1).expect("committed again");
            self.check();
        }
    }

    fn kill_and_restart(&mut self, forgets: bool) {
        let (epoch, committables) = self.manifest.clone();
        self.written.clear();
        self.run = run_of("orders-1", self.run.generation + 1, epoch);
        let next = committer(&self.spec, &self.run);
        let (sinks, old) = (std::mem::take(&mut self.sinks), std::mem::replace(&mut self.committer, next));
        match forgets {
            // The process is gone: what it held back with it.
            true => sinks.into_iter().for_each(std::mem::forget),
            false => self.zombies.push((sinks, old)),
        }
        self.committer.commit(epoch, &committables).expect("committed");
        self.committer.clean(epoch, &committables).expect("cleaned");
        self.check();
        for (sinks, committer) in &mut self.zombies {
            // It does what it can, and that is nothing.
            let _ = committer.commit(epoch, &committables);
            for sink in sinks {
                let _ = sink.write(&batch(-50..-1)).and_then(|()| prepare(sink.as_mut(), epoch + 1));
            }
        }
        self.check();
        self.sinks = (0..self.writers).map(|n| open(&self.spec, &self.run, n, self.writers)).collect();
    }

    fn check(&self) {
        assert_eq!(ids(&self.spec), self.promised.iter().copied().collect::<Vec<_>>());
    }
}

fn play(mut spec: TableSpec, partitioned: bool, steps: &[(usize, i64, u8, bool)]) {
    if partitioned {
        spec.partitioned_by = vec!["name".into()];
    }
    spec.options.insert("sink.rolling-policy.file-size".into(), "6kb".into());
    spec.options.insert("delta.checkpointInterval".into(), "3".into());
    let mut job = Job::start(spec, 2);
    for &(writer, rows, until, forgets) in steps {
        job.write(writer, rows);
        job.write(writer + 1, rows / 3);
        job.checkpoint(until);
        if until < 3 {
            job.kill_and_restart(forgets);
        }
    }
    job.kill_and_restart(true);
    // What another job has added is not taken for ours.
    write(&job.spec, &[batch(1_000_000..1_000_001)]);
    job.promised.insert(1_000_000);
    job.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_can_be_seen_is_what_was_committed_wherever_the_job_is_killed(
        partitioned in any::<bool>(),
        steps in proptest::collection::vec((0..3usize, 1..400i64, 0..6u8, any::<bool>()), 1..8),
    ) {
        let dir = TempDir::new().expect("a folder");
        play(at(&dir), partitioned, &steps.iter().map(|s| (s.0, s.1, s.2.min(3), s.3)).collect::<Vec<_>>());
    }
}

#[test]
fn writers_that_commit_at_the_same_time_lose_nothing() {
    let dir = TempDir::new().expect("a folder");
    let spec = at(&dir);
    std::thread::scope(|scope| {
        for writer in 0..4i64 {
            let spec = spec.clone();
            scope.spawn(move || {
                let run = run_of(&format!("job-{writer}"), 1, 0);
                let mut committer = committer(&spec, &run);
                let mut sink = open(&spec, &run, 0, 1);
                for epoch in 1..=12u64 {
                    let from = writer * 1_000 + epoch as i64 * 10;
                    sink.write(&batch(from..from + 10)).expect("written");
                    let prepared = prepare(sink.as_mut(), epoch).expect("prepared");
                    committer.commit(epoch, &[prepared]).unwrap_or_else(|e| panic!("{e}"));
                }
            });
        }
    });
    let expected: Vec<i64> = (0..4).flat_map(|w| w * 1_000 + 10..w * 1_000 + 130).collect();
    assert_eq!((ids(&spec), versions(&spec)), (expected, 49));
    let pointer = fs::read_to_string(log_of(&spec).join("_last_checkpoint")).expect("a checkpoint");
    let pointer: Value = serde_json::from_str(&pointer).expect("JSON");
    assert!(pointer["version"].as_u64().is_some_and(|v| v >= 30), "{pointer}");
    // What lies before the checkpoint is not needed any more.
    for version in 0..=pointer["version"].as_u64().expect("a version") {
        fs::remove_file(log_of(&spec).join(format!("{version:020}.json"))).expect("removed");
    }
    assert_eq!(ids(&spec).len(), 480);
    let run = run_of("job-0", 2, 12);
    committer(&spec, &run).commit(12, &[]).expect("its epochs are still known");
    let e = Registry::new().open_committer(&spec, &run_of("job-0", 2, 11)).err().expect("it is ahead");
    assert!(e.what().contains("up to 12") && e.what().contains("from epoch 11"), "{e}");
    let mut old = spec.clone();
    old.options.insert("versionAsOf".into(), "1".into());
    assert!(refusal(&old).what().contains("no version 1"));
}

#[test]
fn a_run_whose_place_was_taken_commits_nothing_more() {
    let dir = TempDir::new().expect("a folder");
    let spec = at(&dir);
    let run = run_of("orders-1", 1, 0);
    let mut committer = committer(&spec, &run);
    let mut sink = open(&spec, &run, 0, 1);
    sink.write(&batch(0..10)).expect("written");
    let prepared = prepare(sink.as_mut(), 1).expect("prepared");
    // Another machine does the same job.
    let txn = json!({"txn": {"appId": "millstream/orders-1/t", "version": 1}}).to_string();
    fs::write(log_of(&spec).join(format!("{:020}.json", 1)), txn).expect("written");
    let e = committer.commit(1, &[prepared]).expect_err("there is another");
    assert!(e.what().contains("another run of the job `orders-1`"), "{e}");
    assert!(e.help().is_some_and(|h| h.contains("pipeline.name")), "{e}");
}

#[test]
fn two_inserts_of_one_job_into_one_table_are_refused() {
    let dir = TempDir::new().expect("a folder");
    let spec = at(&dir);
    let run = run_of("orders-1", 1, 0);
    let first = open(&spec, &run, 0, 1);
    let context = SinkContext { index: 0, writers: 1, job: Some(run.clone()) };
    let e = Registry::new().open_sink(&spec, &context).err().expect("a second one");
    assert!(e.help().is_some_and(|h| h.contains("UNION ALL")), "{e}");
    drop(first);
    drop(open(&spec, &run, 0, 1));
}

#[test]
fn a_log_is_put_together_from_whatever_is_left_of_it() {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let dir = TempDir::new().expect("a folder");
    let mut spec = at(&dir);
    spec.options.insert("delta.checkpointInterval".into(), "3".into());
    (0..7).for_each(|n| write(&spec, &[batch(n * 10..n * 10 + 10)]));
    let file = |name: &str| log_of(&spec).join(name);
    let all: Vec<i64> = (0..70).collect();
    // The pointer is a hint only.
    for pointer in ["{\"version\":5,\"size\":1}", "nonsense", ""] {
        fs::write(file("_last_checkpoint"), pointer).expect("written");
        assert_eq!(ids(&spec), all);
    }
    fs::remove_file(file("_last_checkpoint")).expect("removed");
    (0..=3).for_each(|n| fs::remove_file(file(&format!("{n:020}.json"))).expect("removed"));
    assert_eq!(ids(&spec), all);
    // Another writer cuts its checkpoints in parts; one whose parts are not all there is none.
    let name = |part: u32| file(&format!("{:020}.checkpoint.{part:010}.{:010}.parquet", 6, 2));
    let whole = fs::File::open(file(&format!("{:020}.checkpoint.parquet", 6))).expect("a checkpoint");
    let reader = ParquetRecordBatchReaderBuilder::try_new(whole).and_then(|b| b.build()).expect("Parquet");
    let lines: Vec<RecordBatch> = reader.map(|rows| rows.expect("read")).collect();
    let lines = concat_batches(&lines[0].schema(), &lines).expect("one schema");
    let half = lines.num_rows() / 2;
    for (part, rows) in [(1, lines.slice(0, half)), (2, lines.slice(half, lines.num_rows() - half))] {
        let out = fs::File::create(name(part)).expect("created");
        let mut writer = parquet::arrow::ArrowWriter::try_new(out, rows.schema(), None).expect("a writer");
        writer.write(&rows).expect("written");
        writer.close().expect("closed");
    }
    fs::remove_file(file(&format!("{:020}.checkpoint.parquet", 6))).expect("removed");
    (4..=6).for_each(|n| fs::remove_file(file(&format!("{n:020}.json"))).expect("removed"));
    assert_eq!(ids(&spec), all);
    fs::remove_file(name(2)).expect("removed");
    let e = refusal(&spec);
    assert!(e.what().contains("version 4 is missing, and there are later ones up to 7"), "{e}");
    // A pointer that is older than what has been cleaned away: to commit behind it would tear the log.
    fs::write(file("_last_checkpoint"), "{\"version\":3,\"size\":1}").expect("written");
    assert_eq!((refusal(&spec).what(), sink_refusal(&spec).what()), (e.what(), e.what()));
    fs::remove_file(file(&format!("{:020}.checkpoint.parquet", 3))).expect("removed");
    let e = refusal(&spec);
    assert!(e.what().contains("begins with version 7"), "{e}");
}

#[test]
fn commits_that_are_old_are_cleaned_away_and_the_table_stays() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = at(&dir);
    spec.options.insert("delta.checkpointInterval".into(), "1".into());
    spec.options.insert("delta.logRetentionDuration".into(), "interval 2 days".into());
    let age = |days: u64| {
        for name in names(&log_of(&spec)).iter().filter(|name| name.starts_with('0')) {
            let file = fs::File::options().write(true).open(log_of(&spec).join(name)).expect("a file of the log");
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(days * 86_400)).expect("set");
        }
    };
    (0..6).for_each(|n| write(&spec, &[batch(n * 10..n * 10 + 10)]));
    age(3);
    (6..9).for_each(|n| write(&spec, &[batch(n * 10..n * 10 + 10)]));
    assert_eq!(versions(&spec), 10, "only once in ten checkpoints");
    write(&spec, &[batch(90..100)]);
    let left: Vec<String> = names(&log_of(&spec)).into_iter().filter(|name| name.ends_with(".json")).collect();
    assert_eq!(left[0], format!("{:020}.json", 6), "{left:?}");
    assert_eq!(ids(&spec), (0..100).collect::<Vec<_>>());
    let mut old = spec.clone();
    old.options.insert("versionAsOf".into(), "6".into());
    assert_eq!(ids(&old).len(), 60);
    old.options.insert("versionAsOf".into(), "5".into());
    assert!(refusal(&old).what().contains("no version 5"));
}

/// Changes of rows: (id, group, value, kind).
fn changes(of: &[Change]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.0))),
        Arc::new(StringArray::from_iter_values(of.iter().map(|r| &r.1))),
        Arc::new(Int64Array::from_iter_values(of.iter().map(|r| r.2))),
    ];
    let kinds = Some(Int8Array::from_iter_values(of.iter().map(|r| r.3)));
    Batch { kinds, ..RecordBatch::try_new(by_key_schema(), columns).expect("the columns fit").into() }
}

fn by_key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("part", DataType::Utf8, false),
        Field::new("value", DataType::Int64, true),
    ]))
}

fn by_key(path: &str, key: &[&str], partitioned: bool) -> TableSpec {
    let mut spec = delta(path);
    spec.schema = by_key_schema();
    spec.primary_key = key.iter().map(ToString::to_string).collect();
    if partitioned {
        spec.partitioned_by = vec!["part".into()];
    }
    spec
}

/// What is to be seen, by key.
type Oracle = BTreeMap<(i64, String), (String, i64)>;

fn apply(oracle: &mut Oracle, change: &Change, with_part: bool) {
    let key = (change.0, if with_part { change.1.clone() } else { String::new() });
    match change.3 {
        1 | 3 => drop(oracle.remove(&key)),
        _ => drop(oracle.insert(key, (change.1.clone(), change.2))),
    }
}

fn check_oracle(spec: &TableSpec, oracle: &Oracle) {
    let mut spec = spec.clone();
    spec.options.retain(|key, _| !key.starts_with("delta."));
    let mut seen = rows(&spec);
    seen.sort();
    let mut expected: Vec<String> =
        oracle.iter().map(|((id, _), (part, value))| format!("{id}, {part}, {value}")).collect();
    expected.sort();
    assert_eq!(seen, expected);
}

/// Id, part, value and kind of a row.
type Change = (i64, String, i64, i8);

/// Plays epochs of changes, each with the point to which its commit comes (0: crash before it, 1: crash behind it).
fn play_changes(mut spec: TableSpec, epochs: &[(Vec<Change>, u8)]) {
    spec.options.insert("delta.checkpointInterval".into(), "4".into());
    let with_part = spec.primary_key.len() == 2;
    let (mut oracle, mut run) = (Oracle::new(), run_of("orders-1", 1, 0));
    let mut committer = committer(&spec, &run);
    let mut sink = open(&spec, &run, 0, 1);
    for (n, (rows, until)) in epochs.iter().enumerate() {
        let epoch = n as u64 + 1;
        rows.chunks(7).for_each(|rows| sink.write(&changes(rows)).expect("written"));
        rows.iter().for_each(|change| apply(&mut oracle, change, with_part));
        let Prepared { committable: data, outbox, .. } = sink.prepare(epoch).expect("prepared");
        let manifest = [Committable { data, outbox }];
        if *until > 0 {
            committer.commit(epoch, &manifest).unwrap_or_else(|e| panic!("{e}"));
            check_oracle(&spec, &oracle);
        }
        if *until < 2 {
            std::mem::forget(sink);
            run = run_of("orders-1", run.generation + 1, epoch);
            committer = super::commits::committer(&spec, &run);
            committer.commit(epoch, &manifest).unwrap_or_else(|e| panic!("{e}"));
            committer.clean(epoch, &manifest).expect("cleaned");
            sink = open(&spec, &run, 0, 1);
        }
        committer.commit(epoch, &manifest).expect("a second time changes nothing");
        check_oracle(&spec, &oracle);
    }
}

fn any_epochs() -> impl Strategy<Value = Vec<(Vec<Change>, u8)>> {
    let change =
        (0..30i64, 0..3u8, 0..1000i64, prop_oneof![4 => Just(0i8), 1 => Just(1i8), 3 => Just(2i8), 2 => Just(3i8)]);
    let change = change.prop_map(|(id, part, value, kind)| (id, format!("p/{part} %"), value, kind));
    proptest::collection::vec((proptest::collection::vec(change, 0..40), 0..4u8), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_table_with_a_key_holds_the_last_change_of_each(
        epochs in any_epochs(), partitioned in any::<bool>(), with_part in any::<bool>(),
    ) {
        let dir = TempDir::new().expect("a folder");
        let key: &[&str] = if with_part { &["id", "part"] } else { &["id"] };
        play_changes(by_key(&dir.path().join("lake").display().to_string(), key, partitioned), &epochs);
    }
}

#[test]
fn an_upsert_leaves_alone_files_that_cannot_hold_its_keys() {
    let dir = TempDir::new().expect("a folder");
    let spec = by_key(&dir.path().display().to_string(), &["id"], false);
    let rows = |ids: std::ops::Range<i64>, value: i64, kind: i8| {
        changes(&ids.map(|id| (id, "p".to_owned(), value, kind)).collect::<Vec<_>>())
    };
    (0..4).for_each(|n| write(&spec, &[rows(n * 100..n * 100 + 100, 0, 0)]));
    // What is not looked into need not even be readable.
    let first = commit_of(&spec, 1).into_iter().find_map(|line| line.get("add").cloned()).expect("a file");
    let first = dir.path().join(first["path"].as_str().expect("a path"));
    let good = fs::read(&first).expect("read");
    fs::write(&first, "no Parquet").expect("damaged");
    write(&spec, &[rows(150..151, 7, 2), rows(399..400, 0, 3)]);
    fs::write(&first, good).expect("mended");
    let commit = commit_of(&spec, 5);
    let count = |key: &str| commit.iter().filter(|line| line.get(key).is_some()).count();
    assert_eq!((count("remove"), count("add")), (2, 1));
    let mut values = spec.clone();
    values.projection = Some(vec![2]);
    let seen = super::rows(&values);
    assert_eq!((seen.len(), seen.iter().filter(|v| *v == "7").count()), (399, 1));
    // All rows of a file: it goes, and nothing is written anew for it.
    write(&spec, &[rows(0..100, 0, 3)]);
    let commit = commit_of(&spec, 6);
    assert!(commit.iter().all(|line| line.get("add").is_none()), "{commit:?}");
    assert_eq!(super::rows(&values).len(), 299);
}

#[test]
fn an_upsert_that_comes_second_is_made_anew_from_what_the_first_has_left() {
    let dir = TempDir::new().expect("a folder");
    let spec = by_key(&dir.path().display().to_string(), &["id"], false);
    std::thread::scope(|scope| {
        for writer in 0..3i64 {
            let spec = spec.clone();
            scope.spawn(move || {
                for n in 0..8 {
                    // Each has keys of its own, in files that all of them rewrite.
                    let row = |k: i64| (k * 3 + writer, "p".to_owned(), n, 2);
                    write(&spec, &[changes(&(0..20).map(row).collect::<Vec<_>>())]);
                }
            });
        }
    });
    let oracle: Oracle = (0..60).map(|id| ((id, String::new()), ("p".to_owned(), 7))).collect();
    check_oracle(&spec, &oracle);
}

#[test]
fn changes_into_a_table_without_a_key_are_refused() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = by_key(&dir.path().display().to_string(), &[], false);
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
    let e = sink.write(&changes(&[(1, "p".into(), 1, 2)])).expect_err("a change");
    assert!(e.help().is_some_and(|h| h.contains("PRIMARY KEY")), "{e}");
    sink.abort();
    assert_eq!(Registry::new().takes(&spec), Takes::Inserts);
    spec.primary_key = vec!["id".into()];
    assert_eq!(Registry::new().takes(&spec), Takes::Upserts);
    assert!(Registry::new().single_writer(&spec));
}

/// Adds a commit to a table, as another writer would.
fn add_commit(spec: &TableSpec, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(log_of(spec).join(format!("{:020}.json", versions(spec))), text).expect("written");
}

#[test]
fn a_table_that_would_be_read_wrong_is_refused() {
    let spec_of = || {
        let dir = TempDir::new().expect("a folder");
        let spec = at(&dir);
        write(&spec, &[batch(0..10)]);
        (dir, spec)
    };
    let metadata = |spec: &TableSpec| {
        commit_of(spec, 0).into_iter().find_map(|line| line.get("metaData").cloned()).expect("metadata")
    };
    let file =
        |spec: &TableSpec| commit_of(spec, 1).into_iter().find_map(|line| line.get("add").cloned()).expect("a file");
    let protocol = |reader: i32, writer: i32, features: &[&str]| json!({"protocol": {"minReaderVersion": reader, "minWriterVersion": writer, "readerFeatures": features, "writerFeatures": features}});

    let (_dir, spec) = spec_of();
    let mut add = file(&spec);
    add["deletionVector"] =
        json!({"storageType": "u", "pathOrInlineDv": "x", "offset": 1, "sizeInBytes": 1, "cardinality": 1});
    let remove = json!({"remove": {"path": add["path"], "dataChange": true}});
    add_commit(&spec, &[protocol(3, 7, &["deletionVectors", "timestampNtz"]), remove, json!({"add": add})]);
    let e = refusal(&spec);
    assert!(e.what().contains("deletion vector") && e.help().is_some_and(|h| h.contains("PURGE")), "{e}");

    let (_dir, spec) = spec_of();
    let mut mapped = metadata(&spec);
    mapped["configuration"] = json!({"delta.columnMapping.mode": "name"});
    add_commit(&spec, &[json!({"metaData": mapped})]);
    assert!(refusal(&spec).what().contains("column mapping by name"));

    let (_dir, spec) = spec_of();
    add_commit(&spec, &[protocol(3, 7, &["fromTheFuture"])]);
    assert!(refusal(&spec).what().contains("`fromTheFuture`"));
    add_commit(&spec, &[protocol(4, 8, &[])]);
    assert!(refusal(&spec).what().contains("readers of version 4"));

    let (_dir, spec) = spec_of();
    let mut add = file(&spec);
    add["path"] = json!("s3://elsewhere/a.parquet");
    add_commit(&spec, &[json!({"add": add})]);
    assert!(refusal(&spec).what().contains("shallow clones"));

    let (_dir, spec) = spec_of();
    add_commit(&spec, &[json!("{")]);
    let e = refusal(&spec);
    assert!(e.place().is_some_and(|p| p.0.ends_with("_delta_log/00000000000000000002.json")), "{e}");

    // What is named and not used is no obstacle; what only writers have to know is none for readers.
    let (_dir, spec) = spec_of();
    let mut constrained = metadata(&spec);
    constrained["configuration"] = json!({"delta.constraints.c": "id > 0"});
    add_commit(
        &spec,
        &[protocol(3, 7, &["deletionVectors", "timestampNtz", "columnMapping"]), json!({"metaData": constrained})],
    );
    assert_eq!(ids(&spec).len(), 10);
    assert!(sink_refusal(&spec).what().contains("a constraint (delta.constraints.c)"));

    let (_dir, mut spec) = spec_of();
    let mut append_only = metadata(&spec);
    append_only["configuration"] = json!({"delta.appendOnly": "true"});
    add_commit(&spec, &[json!({"metaData": append_only})]);
    write(&spec, &[batch(10..20)]);
    spec.primary_key = vec!["id".into()];
    assert!(sink_refusal(&spec).what().contains("delta.appendOnly"));

    let dir = TempDir::new().expect("a folder");
    let spec = at(&dir);
    let e = refusal(&spec);
    assert!(e.what().contains("no Delta table at"), "{e}");
    assert!(!dir.path().join("lake").exists(), "to look for a table is not to make it");
}

#[test]
fn a_declaration_that_is_not_the_tables_says_which_column_and_what_to_do() {
    let dir = TempDir::new().expect("a folder");
    let spec = at(&dir);
    write(&spec, &[batch(0..10)]);
    let with = |fields: Vec<Field>| TableSpec { schema: Arc::new(Schema::new(fields)), ..spec.clone() };
    let fields = || spec.schema.fields().iter().map(|f| f.as_ref().clone()).collect::<Vec<_>>();

    let mut other = fields();
    other[0] = Field::new("id", DataType::Int32, true);
    let e = sink_refusal(&with(other.clone()));
    assert_eq!(e.what(), "column `id` of the table is BIGINT, and it is declared as INT");
    assert!(e.help().is_some_and(|h| h.contains("declare it as BIGINT and CAST")), "{e}");
    assert!(refusal(&with(other.clone())).help().is_some_and(|h| h.contains("CAST it in the query")));
    other[0] = Field::new("idd", DataType::Int64, true);
    for e in [sink_refusal(&with(other.clone())), refusal(&with(other))] {
        assert!(e.help().is_some_and(|h| h.starts_with("did you mean `id`?")), "{e}");
    }
    let e = sink_refusal(&with(fields()[..2].to_vec()));
    assert_eq!(e.what(), "the table has a column `at`, which is not declared");
    let mut other = spec.clone();
    other.partitioned_by = vec!["name".into()];
    for e in [sink_refusal(&other), refusal(&other)] {
        assert_eq!(e.what(), "the table is without partitions, and it is declared PARTITIONED BY (name)");
    }
    let mut other = spec.clone();
    other.options.insert("delta.checkpointInterval".into(), "5".into());
    assert!(sink_refusal(&other).what().contains("the table does not have it"));

    let dir = TempDir::new().expect("a folder");
    let mut timed = at(&dir);
    for (of, help) in [
        (DataType::Time32(TimeUnit::Millisecond), "STRING"),
        (DataType::Timestamp(TimeUnit::Nanosecond, None), "microseconds"),
    ] {
        timed.schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("at", of, true)]));
        let e = Registry::new().validate(&timed, TableUse::Sink).expect_err("no such type");
        assert!(e.what().contains("`at`") && e.help().is_some_and(|h| h.contains(help)), "{e}");
    }
    for (key, value, said) in [
        ("delta.checkpointIntervall", "5", "did you mean 'delta.checkpointInterval'"),
        ("delta.checkpointInterval", "0", "a number of commits"),
        ("delta.logRetentionDuration", "long", "interval 30 days"),
        ("path", "gs://x/y", "s3://bucket/prefix"),
        ("table-path", "x", "leave one of them out"),
        ("path", "x/orders.csv", "name the folder"),
    ] {
        let mut spec = at(&dir);
        spec.options.insert(key.into(), value.into());
        let e = Registry::new().validate(&spec, TableUse::Sink).expect_err("no such option");
        assert!(e.help().is_some_and(|h| h.contains(said)), "{e}");
    }
}

#[test]
fn a_column_that_is_younger_than_a_file_is_null_in_it() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = at(&dir);
    write(&spec, &[batch(0..3)]);
    let mut metadata =
        commit_of(&spec, 0).into_iter().find_map(|line| line.get("metaData").cloned()).expect("metadata");
    let mut schema: Value = serde_json::from_str(metadata["schemaString"].as_str().expect("a schema")).expect("JSON");
    schema["fields"]
        .as_array_mut()
        .expect("fields")
        .push(json!({"name": "young", "type": "integer", "nullable": true, "metadata": {}}));
    metadata["schemaString"] = json!(schema.to_string());
    add_commit(&spec, &[json!({"metaData": metadata})]);
    let mut fields: Vec<Field> = spec.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("young", DataType::Int32, true));
    spec.schema = Arc::new(Schema::new(fields));
    spec.projection = Some(vec![3, 0]);
    let mut seen = rows(&spec);
    seen.sort();
    assert_eq!(seen, ["NULL, 0", "NULL, 1", "NULL, 2"].map(|r| r.replace("NULL", &rows_null())));
}

/// How the printer of these tests writes NULL.
fn rows_null() -> String {
    let one = RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![None::<i64>])) as ArrayRef)]);
    text_of(&one.expect("one column")).remove(0)
}

#[cfg(feature = "s3")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]

    #[test]
    fn in_a_bucket_what_can_be_seen_is_what_was_committed_wherever_the_job_is_killed(
        partitioned in any::<bool>(),
        steps in proptest::collection::vec((0..3usize, 1..400i64, 0..6u8, any::<bool>()), 1..4),
        epochs in any_epochs(),
    ) {
        let Some(both) = Both::new("delta") else { return Ok(()) };
        let steps: Vec<_> = steps.iter().map(|s| (s.0, s.1, s.2.min(3), s.3)).collect();
        play(delta(&format!("{}/append", both.url)), partitioned, &steps);
        play_changes(by_key(&format!("{}/upsert", both.url), &["id"], partitioned), &epochs[..epochs.len().min(3)]);
    }
}
