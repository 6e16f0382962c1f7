//! Tables that are written to a bucket, by jobs that are killed at any point.

use super::buckets::{Both, through};
use super::commits::{committer, open, prepare, run_of};
use super::*;
use crate::s3::proxy::{Fault, Proxy};
use crate::store::bucket::tests::{READER, variable};
use millstream_core::{Committable, JobRun, Watermark};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What a reader of the table sees, sorted.
fn visible(spec: &TableSpec, both: &Both) -> Vec<i64> {
    if both.names().iter().all(|name| name.contains("_SUCCESS") || name.starts_with('.')) {
        return Vec::new();
    }
    let mut spec = spec.clone();
    spec.projection = Some(vec![0]);
    spec.options.remove("s3.endpoint");
    let mut ids: Vec<i64> = rows(&spec).iter().map(|r| r.parse().expect("a number")).collect();
    ids.sort_unstable();
    ids
}

/// A job as its runtime drives it, with a manifest that survives.
struct Job<'a> {
    both: &'a Both,
    spec: TableSpec,
    run: JobRun,
    sinks: Vec<Box<dyn Sink>>,
    zombies: Vec<Box<dyn Sink>>,
    manifest: (u64, Vec<Committable>),
    next_id: i64,
    written: Vec<i64>,
    promised: BTreeSet<i64>,
}

impl Job<'_> {
    fn start(both: &Both, spec: TableSpec, writers: usize) -> Job<'_> {
        let run = run_of("orders-1", 1, 0);
        let sinks = (0..writers).map(|n| open(&spec, &run, n, writers)).collect();
        Job {
            both,
            spec,
            run,
            sinks,
            zombies: Vec::new(),
            manifest: (0, Vec::new()),
            next_id: 0,
            written: Vec::new(),
            promised: BTreeSet::new(),
        }
    }

    fn write(&mut self, writer: usize, rows: i64) {
        let ids = self.next_id..self.next_id + rows;
        self.next_id += rows;
        let writer = writer % self.sinks.len();
        self.sinks[writer].write(&batch(ids.clone())).expect("written");
        self.written.extend(ids);
    }

    /// Up to a point; only 4 is its end.
    fn checkpoint(&mut self, until: u8) {
        let epoch = self.manifest.0 + 1;
        let prepared = self.sinks.iter_mut().map(|sink| prepare(sink.as_mut(), epoch).expect("prepared")).collect();
        if until == 0 {
            return;
        }
        self.manifest = (epoch, prepared);
        self.promised.extend(self.written.drain(..));
        let mut committer = committer(&self.spec, &self.run);
        match until {
            1 => {}
            2 => committer.commit(epoch, &self.manifest.1[..1]).expect("committed"),
            _ => {
                committer.commit(epoch, &self.manifest.1).expect("committed");
                self.check();
                committer.commit(epoch, &self.manifest.1).expect("committed again");
                self.check();
            }
        }
    }

    fn kill_and_restart(&mut self, how: u8) {
        for mut sink in std::mem::take(&mut self.sinks) {
            match how {
                // The process is gone, and its uploads with nobody to abort them.
                0 => std::mem::forget(sink),
                1 => self.zombies.push(sink),
                _ => sink.abort(),
            }
        }
        self.written.clear();
        let (epoch, committables) = &self.manifest;
        self.run = run_of("orders-1", self.run.generation + 1, *epoch);
        let mut committer = committer(&self.spec, &self.run);
        committer.commit(*epoch, committables).expect("committed");
        committer.clean(*epoch, committables).expect("cleaned");
        self.check();
        assert_eq!(self.both.uploads(), [""; 0], "left behind");
        for zombie in &mut self.zombies {
            let _ = zombie.write(&batch(-50..-1)).and_then(|()| prepare(zombie.as_mut(), epoch + 1));
        }
        self.check();
        let writers = 1 + self.run.generation as usize % 3;
        self.sinks = (0..writers).map(|n| open(&self.spec, &self.run, n, writers)).collect();
    }

    fn check(&self) {
        assert_eq!(visible(&self.spec, self.both), self.promised.iter().copied().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn what_can_be_seen_is_what_was_committed_wherever_the_job_is_killed(
        format in prop_oneof![Just("csv"), Just("parquet")],
        partitioned in any::<bool>(),
        steps in proptest::collection::vec((0..3usize, 1..400i64, 0..7u8, 0..3u8), 1..5),
    ) {
        let Some(both) = Both::new("kills") else { return Ok(()) };
        let mut spec = both.there("", format);
        if partitioned {
            spec.partitioned_by = vec!["name".into()];
            spec.options.insert("sink.partition-commit.policy.kind".into(), "success-file".into());
        }
        spec.options.insert("sink.rolling-policy.file-size".into(), "6kb".into());
        let mut job = Job::start(&both, spec, 2);
        for (writer, rows, until, how) in steps {
            job.write(writer, rows);
            job.write(writer + 1, rows / 3);
            job.checkpoint(until);
            if until < 4 {
                job.kill_and_restart(how);
            }
        }
        job.kill_and_restart(0);
        job.zombies.into_iter().for_each(std::mem::forget);
    }
}

#[test]
fn an_upload_of_many_parts_is_whole_and_seen_only_after_the_commit() {
    let Some(both) = Both::new("parts") else { return };
    let spec = both.there("", "csv");
    let run = run_of("j", 1, 0);
    let proxy = Proxy::start();
    let slow_down = Fault::Answer("503 Slow Down", "<Error><Code>SlowDown</Code><Message>Slow.</Message></Error>");
    proxy.next_at("PUT", "partNumber=1", slow_down);
    proxy.next_at("PUT", "partNumber=2", Fault::LoseAnswer);
    proxy.next_at("PUT", "partNumber=3", Fault::CutBody);
    let mut sink = open(&through(&spec, &proxy), &run, 0, 1);
    proxy.next_at("POST", "uploads=", Fault::CutBody);
    // 25 MB: three parts and a rest.
    let wide = |from: i64| {
        let rows = batch(from..from + 5_000).rows;
        let name: arrow::array::ArrayRef =
            Arc::new(arrow::array::StringArray::from_iter_values((0..5_000).map(|i| format!("{i:0>480}"))));
        let columns = vec![rows.column(0).clone(), name, rows.column(2).clone()];
        Batch::from(RecordBatch::try_new(schema(), columns).expect("the columns fit"))
    };
    (0..10).for_each(|n| sink.write(&wide(n * 5_000)).expect("written"));
    assert_eq!(both.names(), [""; 0]);
    let committable = prepare(sink.as_mut(), 1).expect("prepared");
    // The job fails: what is prepared stays.
    sink.abort();
    drop(sink);
    // The second one was begun, and nobody heard of it.
    assert_eq!((both.names().len(), both.uploads().len()), (0, 2));
    let mut committer = committer(&through(&spec, &proxy), &run);
    proxy.next_at("GET", "uploadId=", slow_down);
    proxy.next_at("GET", "uploadId=", Fault::LoseAnswer);
    // Completed, and nobody heard of it: the second try finds no upload.
    proxy.next_at("POST", "uploadId=", Fault::CutBody);
    committer.commit(1, std::slice::from_ref(&committable)).expect("committed");
    assert_eq!(visible(&spec, &both), (0..50_000).collect::<Vec<_>>());
    committer.commit(1, &[committable]).expect("a second time changes nothing");
    assert_eq!(both.names(), ["part-j-".to_owned() + &both.names()[0]["part-j-".len()..]]);
    assert!(both.names()[0].ends_with("-1-0-0.csv"), "{:?}", both.names());
    // What a process left that died at its start goes as well, and what is somebody else's stays.
    both.begin(".probe-1-2-3");
    both.begin("part-k-00000000-1-0-0.csv");
    super::commits::committer(&spec, &run_of("j", 2, 1)).clean(1, &[]).expect("cleaned");
    assert_eq!(both.uploads(), ["part-k-00000000-1-0-0.csv"]);
}

#[test]
fn what_was_saved_and_is_not_there_is_an_error_that_says_so() {
    let Some(both) = Both::new("torn") else { return };
    let spec = both.there("", "csv");
    let run = run_of("j", 1, 0);
    let prepared = |rows: std::ops::Range<i64>| {
        let mut sink = open(&spec, &run, 7, 8);
        sink.write(&batch(rows)).expect("written");
        prepare(sink.as_mut(), 1).expect("prepared")
    };
    let refused = |committable: Committable, parts: &[&str]| {
        let e = committer(&spec, &run).commit(1, &[committable]).expect_err("refused");
        parts.iter().for_each(|part| assert!(e.to_string().contains(part), "`{part}` is not in {e}"));
        assert!(e.kind() == ErrorKind::Data && e.help().is_some(), "{e}");
        assert!(e.place().is_some_and(|p| p.0.starts_with(&both.url)), "{e}");
    };
    // A part is lost.
    let mut torn = prepared(0..5);
    torn.data = torn.data.map(|text| text.replace("\"parts\":1,", "\"parts\":2,"));
    refused(torn, &["1 parts", "some are lost"]);
    assert_eq!(both.names(), [""; 0], "nothing of it is shown");
    // The upload is gone: a later run has cleaned it away, as if no manifest named it.
    let gone = prepared(5..10);
    committer(&spec, &run_of("j", 2, 0)).clean(0, &[]).expect("cleaned");
    assert_eq!(both.uploads(), [""; 0]);
    refused(gone.clone(), &["neither the upload nor the object"]);
    // Something else of that name.
    let text = gone.data.clone().expect("rows were written");
    let name = text.split("\"name\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a name").to_owned();
    both.put_there(&name, b"1,x,\n".to_vec());
    refused(gone, &["5 bytes", "another one"]);
}

#[test]
fn without_checkpoints_rows_are_seen_at_the_end_or_never() {
    let Some(both) = Both::new("plain") else { return };
    let mut spec = both.there("/out", "json");
    spec.partitioned_by = vec!["name".into()];
    spec.options.insert("sink.partition-commit.policy.kind".into(), "success-file".into());
    let start = |spec: &TableSpec| Registry::new().open_sink(spec, &SinkContext::one_of(0, 1)).expect("opened");
    for how in 0..2 {
        let mut sink = start(&spec);
        sink.write(&batch(0..5)).expect("written");
        if how == 0 {
            sink.abort();
        }
        drop(sink);
        assert_eq!((both.names(), both.uploads()), (Vec::new(), Vec::new()), "a job that fails leaves nothing");
    }
    let mut sink = start(&spec);
    sink.write(&batch(0..5)).expect("written");
    assert_eq!(both.names(), [""; 0]);
    sink.finish().expect("finished");
    assert_eq!(visible(&spec, &both), [0, 1, 2, 3, 4]);
    let marks = both.names().iter().filter(|name| name.ends_with("/_SUCCESS")).count();
    assert_eq!((marks, both.uploads().len()), (3, 0));

    // One object, which is replaced as a whole.
    let spec = both.there("/one.csv.gz", "csv");
    assert!(wants_single_writer(&spec));
    for rows in [0..3, 7..9] {
        let mut sink = start(&spec);
        sink.write(&batch(rows.clone())).expect("written");
        sink.finish().expect("finished");
        assert_eq!(read(&spec).expect("readable").0.len(), rows.count());
    }
    // It is there even if no row comes.
    start(&both.there("/none.csv", "csv")).finish().expect("finished");
    assert!(both.names().contains(&"none.csv".to_owned()), "{:?}", both.names());
    let context = SinkContext { index: 0, writers: 1, job: Some(run_of("j", 1, 0)) };
    let e = Registry::new().open_sink(&spec, &context).err().expect("one object");
    assert!(e.help().is_some_and(|h| h.contains("name a folder")), "{e}");
}

#[test]
fn partitions_wait_for_the_watermark_of_all_writers_on_disks_and_in_buckets() {
    let Some(both) = Both::new("waiting") else { return };
    for mut spec in [both.there("", "csv"), both.here("", "csv")] {
        let in_bucket = spec.options["path"].starts_with("s3://");
        let marks = || -> Vec<String> {
            let names = match in_bucket {
                true => both.names(),
                false => ["name=1970-01-01 10", "name=1970-01-01 11"]
                    .iter()
                    .flat_map(|f| names(&both.folder.path().join(f)).into_iter().map(move |n| format!("{f}/{n}")))
                    .collect(),
            };
            names.into_iter().filter_map(|n| n.strip_suffix("/_SUCCESS").map(str::to_owned)).collect()
        };
        spec.partitioned_by = vec!["name".into()];
        for (key, value) in [
            ("sink.partition-commit.policy.kind", "success-file"),
            ("sink.partition-commit.trigger", "partition-time"),
            ("sink.partition-commit.delay", "1 h"),
            ("partition.time-extractor.timestamp-pattern", "$name:00:00"),
        ] {
            spec.options.insert(key.into(), value.into());
        }
        Registry::new().validate(&spec, TableUse::Sink).expect("valid");
        let rows = |hours: &[&str]| {
            let n = hours.len();
            let columns: Vec<arrow::array::ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(0..n as i64)),
                Arc::new(arrow::array::StringArray::from_iter_values(hours.iter().map(|h| format!("1970-01-01 {h}")))),
                Arc::new(arrow::array::TimestampMillisecondArray::from(vec![0; n])),
            ];
            Batch::from(RecordBatch::try_new(schema(), columns).expect("the columns fit"))
        };
        let hour = |h: i64| Watermark(h * 3_600_000 + 1);
        let run = run_of("j", 1, 0);
        let mut sinks = [open(&spec, &run, 0, 2), open(&spec, &run, 1, 2)];
        let mut first = committer(&spec, &run);
        let epoch = |sinks: &mut [Box<dyn Sink>], n: u64| -> Vec<Committable> {
            sinks.iter_mut().map(|sink| prepare(sink.as_mut(), n).expect("prepared")).collect()
        };
        sinks[0].write(&rows(&["10", "11"])).expect("written");
        sinks[0].advance(hour(11));
        sinks[1].advance(hour(10));
        first.commit(1, &epoch(&mut sinks, 1)).expect("committed");
        assert_eq!(marks(), [""; 0], "the other writer is not there yet");
        drop(first);
        // Another run, whose writers have nothing to write, and a watermark that comes.
        sinks.iter_mut().for_each(|sink| sink.abort());
        let run = run_of("j", 2, 1);
        let mut sinks = [open(&spec, &run, 0, 2), open(&spec, &run, 1, 2)];
        let mut second = committer(&spec, &run);
        second.clean(1, &[]).expect("cleaned");
        second.commit(2, &epoch(&mut sinks, 2)).expect("committed");
        assert_eq!(marks(), [""; 0], "no watermark yet");
        sinks.iter_mut().for_each(|sink| sink.advance(hour(11)));
        let committables = epoch(&mut sinks, 3);
        for _ in 0..2 {
            second.commit(3, &committables).expect("committed");
            assert_eq!(marks(), ["name=1970-01-01 10"]);
        }
        sinks.iter_mut().for_each(|sink| sink.advance(Watermark::MAX));
        second.commit(4, &epoch(&mut sinks, 4)).expect("committed");
        assert_eq!(marks(), ["name=1970-01-01 10", "name=1970-01-01 11"]);
        let notes = match in_bucket {
            true => both.names(),
            false => names(both.folder.path()),
        };
        assert!(notes.iter().all(|n| !n.starts_with(".waiting")), "{notes:?}");
        // A row whose partition has no time is refused before anything is saved.
        let e = sinks[0].write(&rows(&["soon"])).expect_err("no time");
        assert!(e.to_string().contains("name=1970-01-01 soon") && e.help().is_some(), "{e}");
        sinks.iter_mut().for_each(|sink| sink.abort());
    }
}

#[test]
fn what_s3_refuses_is_said_with_its_place_and_remedy_and_without_secrets() {
    let Some(both) = Both::new("refused") else { return };
    both.put("1.csv", "1,x,\n");
    let secret = "verySecretKey";
    let with = |options: &[(&str, &str)]| {
        let mut spec = both.there("", "csv");
        spec.options.extend(options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        spec
    };
    let says = |e: Error, parts: &[&str]| {
        let text = format!("{e}\n{}\n{:?}", e.help().expect("a remedy"), e.place());
        parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
        assert!(!text.contains(secret) && !text.contains("AKIDNOBODY"), "{text}");
        let own = std::env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_default();
        assert!(own.is_empty() || !text.contains(&own), "a secret is shown");
    };
    let source = |spec: &TableSpec| read(spec).expect_err("refused");
    let sink = |spec: &TableSpec| {
        let context = SinkContext { index: 0, writers: 1, job: Some(run_of("j", 1, 0)) };
        Registry::new().open_sink(spec, &context).err().expect("refused")
    };
    let missing = table(&[("connector", "filesystem"), ("path", "s3://there-is-no-such-bucket/x"), ("format", "csv")]);
    for e in [source(&missing), sink(&missing)] {
        says(
            e,
            &[
                "there is no bucket `there-is-no-such-bucket`",
                "make the bucket first",
                "s3://there-is-no-such-bucket/x",
            ],
        );
    }
    let nobody = with(&[("s3.access-key", "AKIDNOBODY"), ("s3.secret-key", secret)]);
    let key = std::env::var("AWS_ACCESS_KEY_ID").expect("set with the server");
    let wrong = with(&[("s3.access-key", &key), ("s3.secret-key", secret)]);
    for open in [source, sink] as [fn(&TableSpec) -> Error; 2] {
        says(open(&nobody), &["InvalidAccessKeyId", "access key", &both.url]);
        says(open(&wrong), &["SignatureDoesNotMatch", "secret key", &both.url]);
    }
    // Keys and clocks go wrong while a job runs as well.
    let answer = |code: &'static str| {
        let proxy = Proxy::start();
        let body: &'static str = match code {
            "ExpiredToken" => "<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>",
            _ => "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>",
        };
        let status = if code == "ExpiredToken" { "400 Bad Request" } else { "403 Forbidden" };
        ["GET", "POST", "HEAD"]
            .iter()
            .for_each(|method| (0..4).for_each(|_| proxy.next(method, Fault::Answer(status, body))));
        proxy
    };
    for (code, remedy) in [("ExpiredToken", "AWS_SESSION_TOKEN"), ("RequestTimeTooSkewed", "set the clock")] {
        let proxy = answer(code);
        says(source(&through(&both.there("", "csv"), &proxy)), &[code, remedy, &both.url]);
        says(sink(&through(&both.there("", "csv"), &proxy)), &[code, remedy, &both.url]);
    }
    let Some(reader) = variable(READER) else { return };
    let (key, secret) = reader.split_once(':').expect("KEY:SECRET");
    let reader = with(&[("s3.access-key", key), ("s3.secret-key", secret)]);
    assert_eq!(rows(&reader).len(), 1, "it may read");
    let e = sink(&reader);
    says(e.clone(), &["AccessDenied", "s3:PutObject", "s3:AbortMultipartUpload", &both.url]);
    assert!(!format!("{e:?}").contains(secret));

    let e = Registry::new().validate(&with(&[("s3.acces-key", "x")]), TableUse::Source).expect_err("unknown");
    says(e, &["s3.access-key"]);
    let at = table(&[("connector", "filesystem"), ("path", "s3://me:verySecretKey@bucket/x"), ("format", "csv")]);
    says(Registry::new().validate(&at, TableUse::Source).expect_err("keys in a path"), &["AWS_ACCESS_KEY_ID"]);
    let other = table(&[("connector", "filesystem"), ("path", "gs://bucket/x"), ("format", "csv")]);
    says(Registry::new().validate(&other, TableUse::Source).expect_err("unknown"), &["gs://", "s3://bucket/prefix"]);
}
