//! Jobs with checkpoints that write files, killed at any point.

use super::*;
use millstream_core::{Committable, JobRun};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::PathBuf;

pub(super) fn run_of(job: &str, generation: u64, epoch: u64) -> JobRun {
    JobRun { job: job.into(), generation, epoch }
}

pub(super) fn open(spec: &TableSpec, run: &JobRun, index: usize, writers: usize) -> Box<dyn Sink> {
    let context = SinkContext { index, writers, job: Some(run.clone()) };
    Registry::new().open_sink(spec, &context).unwrap_or_else(|e| panic!("{e}"))
}

pub(super) fn committer(spec: &TableSpec, run: &JobRun) -> Box<dyn Committer> {
    Registry::new().open_committer(spec, run).expect("opened").expect("files have one")
}

/// Ends an epoch, and brings to the disk what belongs to it.
pub(super) fn prepare(sink: &mut dyn Sink, epoch: u64) -> Result<Committable> {
    let prepared = sink.prepare(epoch)?;
    assert!(prepared.outbox.is_empty());
    if let Some(settle) = prepared.settle {
        settle()?;
    }
    Ok(Committable { data: prepared.committable, outbox: Vec::new() })
}

/// All files below a folder whose names are hidden, or all others.
fn below(folder: &Path, hidden: bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(below(&path, hidden));
        } else if name.starts_with('.') == hidden {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What a reader of the table sees, sorted.
fn visible(spec: &TableSpec, root: &Path) -> Vec<i64> {
    if below(root, false).iter().all(|p| p.ends_with("_SUCCESS")) {
        return Vec::new();
    }
    let mut spec = spec.clone();
    spec.projection = Some(vec![0]);
    let mut ids: Vec<i64> = rows(&spec).iter().map(|r| r.parse().expect("a number")).collect();
    ids.sort_unstable();
    ids
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        writer: usize,
        rows: i64,
    },
    /// Up to this point of the checkpoint; only 5 is its end.
    Checkpoint {
        until: u8,
    },
    Kill {
        how: u8,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3usize, 1..400i64).prop_map(|(writer, rows)| Step::Write { writer, rows }),
        3 => prop_oneof![3 => Just(5u8), 2 => 0..5u8].prop_map(|until| Step::Checkpoint { until }),
        1 => (0..3u8).prop_map(|how| Step::Kill { how }),
    ]
}

/// A job as its runtime drives it, with a manifest that survives.
struct Job {
    spec: TableSpec,
    root: PathBuf,
    writers: usize,
    run: JobRun,
    sinks: Vec<Box<dyn Sink>>,
    committer: Box<dyn Committer>,
    /// Sinks of runs that were thought dead and are not.
    zombies: Vec<Box<dyn Sink>>,
    /// The epoch of the newest manifest, and what it names.
    manifest: (u64, Vec<Committable>),
    next_id: i64,
    /// Rows since the last prepare, and those that a manifest holds.
    written: Vec<i64>,
    promised: BTreeSet<i64>,
}

impl Job {
    fn start(spec: TableSpec, root: PathBuf, writers: usize) -> Job {
        let run = run_of("orders-1", 1, 0);
        let sinks = (0..writers).map(|n| open(&spec, &run, n, writers)).collect();
        Job {
            committer: committer(&spec, &run),
            spec,
            root,
            writers,
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
        let writer = writer % self.writers;
        self.sinks[writer].write(&batch(ids.clone())).expect("written");
        self.written.extend(ids);
    }

    /// Returns whether it came to its end.
    fn checkpoint(&mut self, until: u8) -> bool {
        let epoch = self.manifest.0 + 1;
        let mut committables = Vec::new();
        for (n, sink) in self.sinks.iter_mut().enumerate() {
            if until == 0 && n == 1 {
                return false;
            }
            committables.push(prepare(sink.as_mut(), epoch).expect("prepared"));
        }
        if until <= 1 {
            return false;
        }
        self.manifest = (epoch, committables);
        self.promised.extend(self.written.drain(..));
        if until == 2 {
            return false;
        }
        if until == 3 {
            // In the middle of the commit.
            self.committer.commit(epoch, &self.manifest.1[..1]).expect("committed");
            return false;
        }
        self.committer.commit(epoch, &self.manifest.1).expect("committed");
        if until == 4 {
            return false;
        }
        self.check();
        self.committer.commit(epoch, &self.manifest.1).expect("committed again");
        self.check();
        true
    }

    fn kill_and_restart(&mut self, how: u8) {
        for mut sink in std::mem::take(&mut self.sinks) {
            match how {
                // The process is gone: what it held back with it.
                0 => std::mem::forget(sink),
                1 => self.zombies.push(sink),
                _ => sink.abort(),
            }
        }
        self.written.clear();
        let (epoch, committables) = &self.manifest;
        self.run = run_of("orders-1", self.run.generation + 1, *epoch);
        self.committer = committer(&self.spec, &self.run);
        self.sinks = (0..self.writers).map(|n| open(&self.spec, &self.run, n, self.writers)).collect();
        // As a run does that crashes in its own recovery.
        if how == 2 {
            self.committer.clean(*epoch, committables).expect("cleaned");
        }
        self.committer.commit(*epoch, committables).expect("committed");
        self.committer.clean(*epoch, committables).expect("cleaned");
        self.check();
        let left = below(&self.root, true);
        assert!(left.is_empty(), "left behind: {left:?}");
        // A zombie does what it can, and that is nothing.
        for zombie in &mut self.zombies {
            let _ = zombie.write(&batch(-50..-1));
            let _ = prepare(zombie.as_mut(), epoch + 1);
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(visible(&self.spec, &self.root), self.promised.iter().copied().collect::<Vec<_>>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_can_be_seen_is_what_was_committed_wherever_the_job_is_killed(
        format in prop_oneof![Just("csv"), Just("json"), Just("parquet")],
        writers in 1..4usize,
        partitioned in any::<bool>(),
        rolls in any::<bool>(),
        steps in proptest::collection::vec(any_step(), 1..20),
    ) {
        let dir = TempDir::new().expect("a folder");
        let root = dir.path().join("out");
        let mut spec = files(&root, format);
        if partitioned {
            spec.partitioned_by = vec!["name".into()];
            spec.options.insert("sink.partition-commit.policy.kind".into(), "success-file".into());
        }
        if rolls {
            spec.options.insert("sink.rolling-policy.file-size".into(), "2kb".into());
        }
        let mut job = Job::start(spec, root, writers);
        for step in steps {
            match step {
                Step::Write { writer, rows } => job.write(writer, rows),
                Step::Checkpoint { until } => {
                    if !job.checkpoint(until) {
                        job.kill_and_restart(until % 3);
                    }
                }
                Step::Kill { how } => job.kill_and_restart(how),
            }
        }
        job.kill_and_restart(0);
        // Epochs without rows leave nothing.
        prop_assert!(job.checkpoint(5));
        prop_assert!(job.manifest.1.iter().all(|c| c.data.is_none()));
        for sink in &mut job.sinks {
            sink.finish().expect("nothing is left to finish");
        }
        for zombie in job.zombies {
            std::mem::forget(zombie);
        }
    }
}

#[test]
fn nothing_is_seen_before_the_commit() {
    let dir = TempDir::new().expect("a folder");
    let spec = files(&dir.path().join("out"), "csv");
    let run = run_of("j", 1, 0);
    let mut sink = open(&spec, &run, 0, 1);
    sink.write(&batch(0..5)).expect("written");
    sink.flush().expect("flushed");
    let committable = prepare(sink.as_mut(), 1).expect("prepared");
    sink.write(&batch(5..7)).expect("written");
    assert!(below(dir.path(), false).is_empty());
    // The job fails: what is prepared stays, the rest goes.
    sink.abort();
    assert_eq!(below(dir.path(), true).len(), 1);
    committer(&spec, &run).commit(1, &[committable]).expect("committed");
    assert_eq!(visible(&spec, &dir.path().join("out")), [0, 1, 2, 3, 4]);
    let name = below(dir.path(), false)[0].file_name().expect("has a name").to_string_lossy().into_owned();
    assert!(name.starts_with("part-j-") && name.ends_with("-1-0-0.csv"), "{name}");
}

#[test]
fn leftovers_of_others_are_left_alone() {
    let dir = TempDir::new().expect("a folder");
    let spec = files(dir.path(), "csv");
    let mut other_table = spec.clone();
    other_table.name = "u".into();
    let later = run_of("j", 3, 0);
    for (spec, run) in [
        (&spec, run_of("j", 1, 0)),
        (&spec, run_of("j-1", 1, 0)),
        (&spec, run_of("i", 1, 0)),
        (&spec, later.clone()),
        (&other_table, run_of("j", 1, 0)),
    ] {
        let mut sink = open(spec, &run, 0, 1);
        sink.write(&batch(0..5)).expect("written");
        std::mem::forget(sink);
    }
    for name in [".other", ".part-j-1.inprogress", ".part-j-x-1-0-0.csv.inprogress"] {
        fs::write(dir.path().join(name), "").expect("written");
    }
    let before = below(dir.path(), true);
    assert_eq!(before.len(), 8);
    committer(&spec, &run_of("j", 2, 0)).clean(0, &[]).expect("cleaned");
    let gone: Vec<PathBuf> = before.into_iter().filter(|p| !p.exists()).collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert!(gone[0].display().to_string().ends_with("-1-0-0.csv.inprogress"));
    // A folder that is not there holds nothing to clean.
    committer(&files(&dir.path().join("none"), "csv"), &later).clean(0, &[]).expect("nothing to do");
}

#[test]
fn a_commit_that_fails_can_be_tried_again() {
    let dir = TempDir::new().expect("a folder");
    let spec = files(dir.path(), "csv");
    let run = run_of("j", 1, 0);
    let mut sink = open(&spec, &run, 0, 1);
    sink.write(&batch(0..5)).expect("written");
    let committables = [prepare(sink.as_mut(), 1).expect("prepared")];
    let hidden = below(dir.path(), true)[0].clone();
    let name = hidden.file_name().expect("has a name").to_string_lossy().into_owned();
    let target = dir.path().join(name.trim_start_matches('.').trim_end_matches(".inprogress"));
    let mut committer = committer(&spec, &run);
    // Something is in the way.
    fs::create_dir_all(target.join("x")).expect("a folder");
    let e = committer.commit(1, &committables).expect_err("cannot be named");
    assert!(e.kind() == ErrorKind::Io && e.what().contains(&target.display().to_string()), "{e}");
    fs::remove_dir_all(&target).expect("there");
    committer.commit(1, &committables).expect("committed");
    assert_eq!(visible(&spec, dir.path()), [0, 1, 2, 3, 4]);
    // Lost: neither the one nor the other.
    fs::rename(&target, dir.path().join(".away")).expect("renamed");
    let e = committer.commit(1, &committables).expect_err("lost");
    assert!(
        e.what().contains(&target.display().to_string()) && e.what().contains(&hidden.display().to_string()),
        "{e}"
    );
    // Damaged.
    fs::write(&hidden, "0,x").expect("written");
    let e = committer.commit(1, &committables).expect_err("cut off");
    assert!(e.what().contains("3 bytes") && e.help().is_some(), "{e}");
    assert!(!target.exists());
}

#[test]
fn a_partition_is_marked_when_its_files_are_there() {
    let dir = TempDir::new().expect("a folder");
    let mut spec = files(dir.path(), "json");
    spec.partitioned_by = vec!["name".into()];
    spec.options.insert("sink.partition-commit.policy.kind".into(), "success-file".into());
    let run = run_of("j", 1, 0);
    let mut sink = open(&spec, &run, 0, 2);
    sink.write(&batch(0..1)).expect("written");
    let committables = [prepare(sink.as_mut(), 1).expect("prepared")];
    assert!(below(dir.path(), false).is_empty());
    committer(&spec, &run).commit(1, &committables).expect("committed");
    assert!(dir.path().join("name=n0/_SUCCESS").exists());
    assert!(!dir.path().join("_SUCCESS").exists());
    // Without checkpoints one writer knows when its files are there, and several do not.
    spec.options.insert("path".into(), dir.path().join("b").display().to_string());
    spec.options.insert("sink.partition-commit.success-file.name".into(), "_DONE".into());
    let mut sink = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 1)).expect("opened");
    sink.write(&batch(0..1)).expect("written");
    sink.finish().expect("finished");
    assert!(dir.path().join("b/name=n0/_DONE").exists());
    let e = Registry::new().open_sink(&spec, &SinkContext::one_of(0, 2)).err().expect("cannot know");
    assert!(e.help().is_some_and(|h| h.contains("sink.parallelism")), "{e}");
}

#[test]
fn weaker_guarantees_show_rows_earlier() {
    let dir = TempDir::new().expect("a folder");
    let run = run_of("j", 1, 0);
    let spec = |guarantee: &str| {
        let mut spec = files(&dir.path().join(guarantee), "csv");
        spec.options.insert("sink.delivery-guarantee".into(), guarantee.into());
        spec.options.insert("sink.rolling-policy.rollover-interval".into(), "1 ms".into());
        spec.options.insert("sink.rolling-policy.check-interval".into(), "1 ms".into());
        spec
    };
    for (guarantee, at_flush, at_prepare) in [("exactly-once", 0, 0), ("at-least-once", 0, 5), ("none", 5, 5)] {
        let (spec, root) = (spec(guarantee), dir.path().join(guarantee));
        let mut sink = open(&spec, &run, 0, 1);
        sink.write(&batch(0..5)).expect("written");
        std::thread::sleep(Duration::from_millis(5));
        sink.flush().expect("flushed");
        assert_eq!(visible(&spec, &root).len(), at_flush, "{guarantee}");
        let committables = [prepare(sink.as_mut(), 1).expect("prepared")];
        assert_eq!(visible(&spec, &root).len(), at_prepare, "{guarantee}");
        let mut committer = committer(&spec, &run);
        for _ in 0..2 {
            committer.commit(1, &committables).expect("committed");
            assert_eq!(visible(&spec, &root), [0, 1, 2, 3, 4], "{guarantee}");
        }
    }
}

#[test]
fn one_file_is_no_table_of_a_job_with_checkpoints_and_a_stream_is() {
    let dir = TempDir::new().expect("a folder");
    let run = run_of("j", 1, 0);
    let context = SinkContext { index: 0, writers: 1, job: Some(run.clone()) };
    let e = Registry::new().open_sink(&files(&dir.path().join("out.csv"), "csv"), &context).err().expect("one file");
    assert!(e.what().contains("out.csv") && e.help().is_some_and(|h| h.contains("name a folder")), "{e}");
    assert_eq!(names(dir.path()), [""; 0]);

    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|s| s.success()), "mkfifo is there");
    let spec = files(&pipe, "csv");
    assert!(Registry::new().open_committer(&spec, &run).expect("opened").is_none());
    let reader = std::thread::spawn(move || fs::read_to_string(pipe).expect("readable"));
    let mut sink = Registry::new().open_sink(&spec, &context).expect("opened");
    sink.write(&batch(1..2)).expect("written");
    assert!(prepare(sink.as_mut(), 1).expect("given away").data.is_none());
    drop(sink);
    assert_eq!(reader.join().expect("read"), "1,n1,2013-01-01 10:15:00\n");
}

#[test]
fn what_cannot_be_promised_is_refused() {
    let refused = |key: &str, value: &str, partitioned: bool| {
        let mut spec = files(Path::new("out"), "csv");
        spec.options.insert(key.into(), value.into());
        if partitioned {
            spec.partitioned_by = vec!["name".into()];
        }
        let e = Registry::new().validate(&spec, TableUse::Sink).expect_err("refused");
        assert!(e.what().contains(key) && e.help().is_some(), "{e}");
    };
    refused("sink.delivery-guarantee", "at-most-once", false);
    refused("sink.partition-commit.trigger", "partition-time", true);
    refused("sink.partition-commit.trigger", "event-time", true);
    refused("sink.partition-commit.watermark-time-zone", "Europe/Berlin", true);
    refused("partition.time-extractor.kind", "custom", true);
    refused("sink.partition-commit.policy.kind", "metastore,success-file", true);
    refused("sink.partition-commit.policy.kind", "success-file", false);
    refused("sink.partition-commit.success-file.name", "done", true);
    refused("sink.rolling-policy.rollover-interval", "0 s", false);
}
