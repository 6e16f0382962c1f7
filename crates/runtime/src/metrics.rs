//! What a running job says of itself: counters that tasks add to once for each batch, read by anyone at any time.
//!
//! ```text
//!  each batch   ─▶ rows, late, bad, watermark, state
//!  each turn    ─▶ busy, waiting, held up            only where the job is measured: it costs two readings of the clock
//!  twice a second ─▶ what waits in front of each partition
//! ```
//!
//! A counter begins at nothing with the process and never goes back; what a restored job had counted before is in the
//! metrics of the run before.

use crate::backfill::BackfillMetrics;
use crate::exchange::lock;
use crate::memory::Memory;
use crate::scratch::Scratch;
use crate::warnings::{Warning, WarningKind, Warnings};
use millstream_core::{Backfill, Behind, Error, Millis, Watermark};
use millstream_state::room::SaveRoom;
use millstream_state::tier::Budget;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Counters of one node, summed over its tasks.
#[derive(Debug, Default)]
pub struct NodeMetrics {
    /// Stable and unique in the job.
    pub id: String,
    /// For people.
    pub label: String,
    /// The table that it reads, writes or looks up.
    pub table: Option<String>,
    pub stage: usize,
    pub is_source: bool,
    pub is_sink: bool,
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    pub late: AtomicU64,
    pub bad: AtomicU64,
    /// Rows left out, and fields made NULL, since the table's options say so.
    pub skipped: AtomicU64,
    /// Bytes that a source has read.
    pub bytes_read: AtomicU64,
    /// Bytes of the batches handed in and out, in memory. Only where the job is measured.
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    /// What it remembers and has put into scratch space.
    pub spilled: Arc<AtomicU64>,
    /// Of a source that reads a history first.
    pub backfill: BackfillMetrics,
    /// For each task: the event-time watermark it last handed on, the bytes that it remembers in memory, and those that it
    /// has written as a sink.
    watermarks: Vec<AtomicI64>,
    state_bytes: Vec<AtomicU64>,
    bytes_written: Vec<AtomicU64>,
    /// Of a source, by task.
    partitions: Vec<Mutex<Vec<PartitionFigures>>>,
}

/// How one partition of a source is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFigures {
    pub name: String,
    /// What is there and not handed on yet, as far as the reader knows.
    pub behind: Behind,
    /// It is silent, and nobody waits for its watermark.
    pub idle: bool,
}

impl NodeMetrics {
    pub fn new(label: String, is_source: bool, is_sink: bool, tasks: usize) -> NodeMetrics {
        NodeMetrics {
            id: label.clone(),
            label,
            is_source,
            is_sink,
            watermarks: (0..tasks).map(|_| AtomicI64::new(i64::MIN)).collect(),
            state_bytes: (0..tasks).map(|_| AtomicU64::new(0)).collect(),
            bytes_written: (0..tasks).map(|_| AtomicU64::new(0)).collect(),
            partitions: (0..tasks).map(|_| Mutex::default()).collect(),
            ..NodeMetrics::default()
        }
    }

    /// Under the id of its node, with the table that it is about.
    pub fn known_as(self, id: &str, table: Option<&str>, stage: usize) -> NodeMetrics {
        NodeMetrics { id: id.to_owned(), table: table.map(str::to_owned), stage, ..self }
    }

    /// A task that is left out holds no watermark back.
    pub(crate) fn leave_out(&self, task: usize) {
        self.set_watermark(task, Watermark::MAX);
    }

    pub(crate) fn set_watermark(&self, task: usize, to: Watermark) {
        self.watermarks[task].store(to.0, Relaxed);
    }

    pub(crate) fn set_state_bytes(&self, task: usize, bytes: usize) {
        self.state_bytes[task].store(bytes as u64, Relaxed);
    }

    /// So much has the sink of a task written in all.
    pub fn set_bytes_written(&self, task: usize, bytes: u64) {
        self.bytes_written[task].store(bytes, Relaxed);
    }

    pub(crate) fn set_partitions(&self, task: usize, partitions: Vec<PartitionFigures>) {
        *lock(&self.partitions[task]) = partitions;
    }

    /// The least watermark of the node's tasks.
    pub fn watermark(&self) -> Watermark {
        Watermark(self.watermarks.iter().map(|w| w.load(Relaxed)).min().unwrap_or(i64::MIN))
    }

    pub fn state_bytes(&self) -> u64 {
        self.state_bytes.iter().map(|b| b.load(Relaxed)).sum()
    }

    /// Bytes that a source has read or a sink has written.
    pub fn bytes(&self) -> u64 {
        self.bytes_read.load(Relaxed) + self.bytes_written.iter().map(|b| b.load(Relaxed)).sum::<u64>()
    }

    /// The open partitions of a source, in the order of their names.
    pub fn partitions(&self) -> Vec<PartitionFigures> {
        let mut all: Vec<PartitionFigures> = self.partitions.iter().flat_map(|p| lock(p).clone()).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// Counters of one task.
#[derive(Debug, Default)]
pub struct TaskMetrics {
    pub stage: usize,
    pub task: usize,
    /// Bytes that wait in front of it.
    pub(crate) queued_bytes: AtomicI64,
    /// It is not there: nothing would ever come to it.
    left_out: AtomicBool,
    /// In nanoseconds, together the time since its first turn up to `measured_to`. Only where the job is measured.
    busy: AtomicU64,
    waiting: AtomicU64,
    held_up: AtomicU64,
    measured_to: AtomicU64,
}

/// What a task has done with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskTime {
    pub busy: Duration,
    /// For input, or for its turn on the thread that it shares with other tasks.
    pub waiting: Duration,
    /// For room in the queue of a task behind it.
    pub held_up: Duration,
}

impl TaskMetrics {
    pub(crate) fn new(stage: usize, task: usize) -> TaskMetrics {
        TaskMetrics { stage, task, ..TaskMetrics::default() }
    }

    pub(crate) fn leave_out(&self) {
        self.left_out.store(true, Relaxed);
    }

    pub fn is_left_out(&self) -> bool {
        self.left_out.load(Relaxed)
    }

    pub fn queued_bytes(&self) -> u64 {
        self.queued_bytes.load(Relaxed).max(0) as u64
    }

    /// A turn from `began` to `ended`, during which it waited for room for `held_up`. `worked`: it found something to do.
    /// Called by the task's own thread alone.
    pub(crate) fn turned(&self, began: u64, ended: u64, held_up: u64, worked: bool) {
        let add = |to: &AtomicU64, nanos: u64| to.store(to.load(Relaxed) + nanos, Relaxed);
        let before = match self.measured_to.swap(ended, Relaxed) {
            // Its first turn: what was before is no time of its.
            0 => 0,
            last => began.saturating_sub(last),
        };
        let took = ended.saturating_sub(began);
        match worked {
            true => {
                add(&self.waiting, before);
                add(&self.held_up, held_up.min(took));
                add(&self.busy, took.saturating_sub(held_up));
            }
            false => add(&self.waiting, before + took),
        }
    }

    pub fn time(&self) -> TaskTime {
        let of = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        TaskTime { busy: of(&self.busy), waiting: of(&self.waiting), held_up: of(&self.held_up) }
    }
}

/// Counters of a job, by node in the order of the graph.
#[derive(Debug, Default)]
pub struct Metrics {
    pub nodes: Vec<Arc<NodeMetrics>>,
    /// In the order of stages.
    pub tasks: Vec<Arc<TaskMetrics>>,
    /// Whether what costs time is counted too. See [`JobConfig::measured`](crate::JobConfig::measured).
    pub measured: bool,
    /// Which run of the job this is, from 1 on; 0 where it keeps no state.
    pub(crate) generation: AtomicU64,
    pub checkpoints: CheckpointMetrics,
    pub memory: MemoryMetrics,
}

/// How a job does with its memory.
#[derive(Default)]
pub struct MemoryMetrics {
    of: Option<(Arc<Budget>, Arc<Scratch>)>,
    /// In jobs with checkpoints.
    room: Option<Arc<SaveRoom>>,
    /// Whether it has been said that the memory does not suffice.
    said: AtomicBool,
    warnings: Warnings,
}

impl std::fmt::Debug for MemoryMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryMetrics").field("budget", &self.budget_bytes()).finish_non_exhaustive()
    }
}

impl MemoryMetrics {
    pub(crate) fn of(memory: &Memory) -> MemoryMetrics {
        let of = Some((memory.budget.clone(), memory.scratch.clone()));
        MemoryMetrics { of, room: memory.room.clone(), ..MemoryMetrics::default() }
    }

    /// Bytes that operators have said to hold in memory.
    pub fn used_bytes(&self) -> u64 {
        self.of.as_ref().map_or(0, |(budget, _)| budget.used() as u64)
    }

    /// Bytes that operators may hold in memory.
    pub fn budget_bytes(&self) -> u64 {
        self.of.as_ref().map_or(0, |(budget, _)| budget.bytes_max() as u64)
    }

    /// Bytes in scratch files now.
    pub fn scratch_bytes(&self) -> u64 {
        self.of.as_ref().map_or(0, |(_, scratch)| scratch.held())
    }

    /// Bytes written to scratch files so far.
    pub fn scratch_written(&self) -> u64 {
        self.of.as_ref().map_or(0, |(_, scratch)| scratch.written())
    }

    /// Most bytes of saves that have ever waited in memory to be written.
    pub fn saves_held_most(&self) -> u64 {
        self.room.as_ref().map_or(0, |room| room.most() as u64)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.of.as_ref().is_some_and(|(budget, _)| budget.is_over())
    }

    /// A budget that nobody has set is exceeded: said once, lived with.
    pub(crate) fn say_over(&self) {
        let Some((budget, _)) = &self.of else { return };
        if !self.said.load(Relaxed)
            && let Some(what) = budget.excess()
            && !self.said.swap(true, Relaxed)
        {
            self.warnings.say(WarningKind::MemoryExceeded, what);
        }
    }
}

/// What has become of the job's checkpoints.
#[derive(Debug, Default)]
pub struct CheckpointMetrics {
    /// Completed: manifest written and output visible.
    pub done: AtomicU64,
    pub given_up: AtomicU64,
    /// Those that ended the job.
    pub failed: AtomicU64,
    /// Commits that failed and are tried again.
    pub retried: AtomicU64,
    /// Of the last one that was completed.
    pub epoch: AtomicU64,
    pub millis: AtomicU64,
    pub last_bytes: AtomicU64,
    /// When it was completed; 0: none was.
    pub done_at: AtomicI64,
    /// Written so far, all of them together, and what has been merged of it.
    pub bytes: AtomicU64,
    took: Histogram,
    /// Of `bytes`, what was there before anything was written for the next one.
    counted_bytes: AtomicU64,
    began: AtomicI64,
    /// The one under way, and those that are over and nobody has asked for yet, oldest first.
    open: Mutex<Option<CheckpointTrace>>,
    over: Mutex<VecDeque<CheckpointTrace>>,
    warnings: Warnings,
}

/// How one checkpoint went, by the job's clock. A moment that was not reached is the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointTrace {
    pub epoch: u64,
    pub began: Millis,
    /// The first task had lined up its barriers and handed over what it remembers, and the last one.
    pub first_saved: Millis,
    pub last_saved: Millis,
    /// All that had been handed over was written, and the manifest begun.
    pub written: Millis,
    /// The manifest was there: from then on sinks commit.
    pub manifest: Millis,
    pub ended: Millis,
    /// Why it was given up.
    pub given_up: Option<String>,
}

/// A moment in the life of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reached {
    Saved,
    Written,
    Manifest,
}

/// Checkpoints that are kept until somebody asks how they went; older ones are forgotten.
const TRACES_MAX: usize = 64;

/// Upper bounds of how long a checkpoint takes, in milliseconds.
pub const TOOK_BOUNDS: [u64; 14] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000];

/// How long checkpoints took: how many up to each of [`TOOK_BOUNDS`], and how many took longer.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; TOOK_BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    fn add(&self, millis: u64) {
        self.counts[TOOK_BOUNDS.partition_point(|bound| *bound < millis)].fetch_add(1, Relaxed);
        self.sum.fetch_add(millis, Relaxed);
    }

    /// For each bound, then for all, how many took no longer; and the sum in milliseconds.
    pub fn cumulative(&self) -> (Vec<u64>, u64) {
        let mut all = 0;
        let counts = self.counts.iter().map(|c| {
            all += c.load(Relaxed);
            all
        });
        (counts.collect(), self.sum.load(Relaxed))
    }
}

impl CheckpointMetrics {
    pub(crate) fn begin(&self, epoch: u64, now: Millis) {
        self.began.store(now, Relaxed);
        let [first_saved, last_saved, written, manifest, ended] = [now; 5];
        let given_up = None;
        *lock(&self.open) =
            Some(CheckpointTrace { epoch, began: now, first_saved, last_saved, written, manifest, ended, given_up });
    }

    pub(crate) fn reached(&self, what: Reached, now: Millis) {
        let mut open = lock(&self.open);
        let Some(open) = open.as_mut() else { return };
        match what {
            Reached::Saved if open.last_saved == open.began => (open.first_saved, open.last_saved) = (now, now),
            Reached::Saved => open.last_saved = now,
            Reached::Written => open.written = now,
            Reached::Manifest => open.manifest = now,
        }
    }

    fn over(&self, now: Millis, given_up: Option<String>) {
        let Some(mut trace) = lock(&self.open).take() else { return };
        trace.written = trace.written.max(trace.last_saved);
        trace.manifest = trace.manifest.max(trace.written);
        (trace.ended, trace.given_up) = (now.max(trace.manifest), given_up);
        let mut over = lock(&self.over);
        if over.len() == TRACES_MAX {
            over.pop_front();
        }
        over.push_back(trace);
    }

    /// How checkpoints went that have ended since this was last asked.
    pub fn take_traces(&self) -> Vec<CheckpointTrace> {
        lock(&self.over).drain(..).collect()
    }

    pub(crate) fn done(&self, epoch: u64, now: Millis) {
        let millis = now.saturating_sub(self.began.load(Relaxed)).max(0) as u64;
        self.done.fetch_add(1, Relaxed);
        self.epoch.store(epoch, Relaxed);
        self.millis.store(millis, Relaxed);
        self.took.add(millis);
        self.over(now, None);
        self.done_at.store(now, Relaxed);
        self.last_bytes.store(self.bytes.load(Relaxed) - self.counted_bytes.load(Relaxed), Relaxed);
    }

    /// What is written from now on is for the next checkpoint.
    pub(crate) fn tidied(&self) {
        self.counted_bytes.store(self.bytes.load(Relaxed), Relaxed);
    }

    /// How long those took that were completed.
    pub fn took(&self) -> &Histogram {
        &self.took
    }

    pub(crate) fn given_up(&self, epoch: u64, why: &Error, now: Millis) {
        self.over(now, Some(why.what().to_owned()));
        self.given_up.fetch_add(1, Relaxed);
        let what = format!("checkpoint {epoch} was given up");
        self.warnings.say_why(WarningKind::CheckpointGivenUp, &what, why, Some(epoch));
    }

    pub(crate) fn commit_retried(&self, epoch: u64, why: &Error) {
        self.retried.fetch_add(1, Relaxed);
        self.warnings.say_why(WarningKind::CommitRetried, "a commit is tried again", why, Some(epoch));
    }

    pub(crate) fn not_tidied(&self, why: &Error) {
        self.warnings.say_why(WarningKind::NotTidied, "old checkpoints could not be tidied up", why, None);
    }
}

/// A reading of [`NodeMetrics`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSnapshot {
    pub label: String,
    pub is_source: bool,
    pub is_sink: bool,
    pub rows_in: u64,
    pub rows_out: u64,
    pub late: u64,
    pub bytes: u64,
    pub state_bytes: u64,
    pub watermark: Watermark,
    /// Of a source that reads a history first.
    pub backfill: Option<Backfill>,
}

/// A reading of the whole job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Rows that sources handed on.
    pub rows_in: u64,
    /// Rows that sinks were given.
    pub rows_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub late: u64,
    pub bad: u64,
    /// The least watermark of all sources.
    pub watermark: Watermark,
    pub state_bytes: u64,
    pub queued_bytes: u64,
    /// What waits in front of all sources, where it is known.
    pub behind: Behind,
    /// Completed so far, and how long the last one took.
    pub checkpoints: u64,
    pub checkpoint_millis: u64,
    /// Of all tables that read a history first, together: until it is complete, results lack what is still to be read.
    /// `None`: there is no such table.
    pub backfill: Option<Backfill>,
    pub nodes: Vec<NodeSnapshot>,
}

impl Metrics {
    /// Of a job that another engine runs: it has no tasks of ours, and takes no checkpoints.
    pub fn of(nodes: Vec<Arc<NodeMetrics>>) -> Metrics {
        Metrics { nodes, ..Metrics::default() }
    }

    pub(crate) fn task(&self, stage: usize, task: usize) -> &Arc<TaskMetrics> {
        let found = self.tasks.iter().find(|t| (t.stage, t.task) == (stage, task));
        found.expect("there is one for each task of the placement")
    }

    pub(crate) fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Relaxed);
    }

    /// Which run of the job this is, from 1 on: each start from its state makes one more. `None`: it keeps no state.
    pub fn generation(&self) -> Option<u64> {
        Some(self.generation.load(Relaxed)).filter(|g| *g > 0)
    }

    /// Bytes waiting in queues between tasks.
    pub fn queued_bytes(&self) -> u64 {
        self.tasks.iter().map(|t| t.queued_bytes()).sum()
    }

    fn behind(&self) -> Behind {
        let mut all = Behind::default();
        let add = |to: &mut Option<u64>, more: Option<u64>| *to = more.map(|m| m + to.unwrap_or(0)).or(*to);
        for partition in self.nodes.iter().filter(|n| n.is_source).flat_map(|n| n.partitions()) {
            add(&mut all.rows, partition.behind.rows);
            add(&mut all.files, partition.behind.files);
            add(&mut all.bytes, partition.behind.bytes);
        }
        all
    }

    /// What went wrong since this was last asked, and was lived with.
    pub fn take_warnings(&self) -> Vec<Warning> {
        [self.memory.warnings.take(), self.checkpoints.warnings.take()].concat()
    }

    pub fn snapshot(&self) -> Snapshot {
        let nodes: Vec<NodeSnapshot> = self
            .nodes
            .iter()
            .map(|n| NodeSnapshot {
                label: n.label.clone(),
                is_source: n.is_source,
                is_sink: n.is_sink,
                rows_in: n.rows_in.load(Relaxed),
                rows_out: n.rows_out.load(Relaxed),
                late: n.late.load(Relaxed),
                bytes: n.bytes(),
                state_bytes: n.state_bytes(),
                watermark: n.watermark(),
                backfill: n.backfill.get(),
            })
            .collect();
        let sources = || nodes.iter().filter(|n| n.is_source);
        let sinks = || nodes.iter().filter(|n| n.is_sink);
        Snapshot {
            rows_in: sources().map(|n| n.rows_out).sum(),
            rows_out: sinks().map(|n| n.rows_in).sum(),
            bytes_in: sources().map(|n| n.bytes).sum(),
            bytes_out: sinks().map(|n| n.bytes).sum(),
            late: nodes.iter().map(|n| n.late).sum(),
            bad: self.nodes.iter().map(|n| n.bad.load(Relaxed) + n.skipped.load(Relaxed)).sum(),
            watermark: sources().map(|n| n.watermark).min().unwrap_or(Watermark::MIN),
            state_bytes: nodes.iter().map(|n| n.state_bytes).sum(),
            queued_bytes: self.queued_bytes(),
            behind: self.behind(),
            checkpoints: self.checkpoints.done.load(Relaxed),
            checkpoint_millis: self.checkpoints.millis.load(Relaxed),
            backfill: nodes.iter().filter_map(|n| n.backfill).reduce(Backfill::with),
            nodes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::ByteSize;

    #[test]
    fn the_times_of_a_task_add_up_to_the_time_that_has_passed() {
        let task = TaskMetrics::default();
        let nanos = |t: TaskTime| [t.busy, t.waiting, t.held_up].map(|d| d.as_nanos());
        task.turned(1_000, 1_100, 0, true);
        assert_eq!(nanos(task.time()), [100, 0, 0], "time counts from the first turn on");
        task.turned(1_400, 1_450, 0, false);
        assert_eq!(nanos(task.time()), [100, 350, 0], "a turn with nothing to do is waiting too");
        task.turned(1_500, 2_500, 700, true);
        assert_eq!(nanos(task.time()), [400, 400, 700]);
        assert_eq!(nanos(task.time()).iter().sum::<u128>(), 2_500 - 1_000);
    }

    #[test]
    fn checkpoints_are_counted_by_how_long_they_took_and_what_they_wrote() {
        let metrics = CheckpointMetrics::default();
        for (epoch, began, took, bytes) in [(1, 1_000, 10, 100), (2, 5_000, 11, 50), (3, 9_000, 700_000, 7)] {
            metrics.begin(epoch, began);
            metrics.reached(Reached::Saved, began + 3);
            metrics.reached(Reached::Saved, began + 5);
            metrics.bytes.fetch_add(bytes, Relaxed);
            metrics.done(epoch, began + took);
            assert_eq!(metrics.last_bytes.load(Relaxed), bytes);
            // Merging writes too, and is no part of a checkpoint.
            metrics.bytes.fetch_add(1_000, Relaxed);
            metrics.tidied();
        }
        let traces = metrics.take_traces();
        let first = &traces[0];
        assert_eq!((traces.len(), first.epoch, first.first_saved, first.last_saved), (3, 1, 1_003, 1_005));
        // What has not been told apart is no time between two moments, and none goes back.
        assert_eq!((first.written, first.manifest, first.ended), (1_005, 1_005, 1_010));
        assert!(metrics.take_traces().is_empty(), "each is told once");
        let (counts, sum) = metrics.took().cumulative();
        assert_eq!((counts[0], counts[1], counts[TOOK_BOUNDS.len() - 1], counts[TOOK_BOUNDS.len()]), (1, 2, 2, 3));
        assert_eq!((sum, metrics.done_at.load(Relaxed)), (700_021, 709_000));
    }

    #[test]
    fn what_the_writers_of_a_table_have_written_is_added_up_and_a_task_left_out_holds_nothing_back() {
        let sink = NodeMetrics::new("Sink(t)".into(), false, true, 3);
        sink.set_bytes_written(0, 5);
        sink.set_bytes_written(1, 7);
        sink.set_bytes_written(0, 6);
        assert_eq!(sink.bytes(), 13);
        sink.set_watermark(0, Watermark(20));
        sink.set_watermark(1, Watermark(10));
        assert_eq!(sink.watermark(), Watermark::MIN, "the third has promised nothing yet");
        sink.leave_out(2);
        assert_eq!(sink.watermark(), Watermark(10));
    }

    #[test]
    fn what_waits_is_added_up_where_it_is_known() {
        let source = NodeMetrics::new("Source(t)".into(), true, false, 2);
        let figures = |name: &str, rows, bytes| PartitionFigures {
            name: name.into(),
            behind: Behind { rows, bytes, files: None },
            idle: false,
        };
        source.set_partitions(1, vec![figures("a", Some(3), None)]);
        source.set_partitions(0, vec![figures("b", Some(4), None), figures("c", None, Some(9))]);
        assert_eq!(source.partitions().iter().map(|p| p.name.as_str()).collect::<String>(), "abc");
        let metrics = Metrics { nodes: vec![Arc::new(source)], ..Metrics::default() };
        assert_eq!(metrics.snapshot().behind, Behind { rows: Some(7), bytes: Some(9), files: None });
    }

    #[test]
    fn a_budget_that_nobody_has_set_is_exceeded_and_that_is_said_once() {
        let budget = Budget::new(ByteSize::mib(1), false);
        let share = budget.share("sessions by user");
        let of = Some((budget, Scratch::new(None)));
        let metrics = Metrics { memory: MemoryMetrics { of, ..MemoryMetrics::default() }, ..Metrics::default() };
        metrics.memory.say_over();
        assert_eq!(metrics.take_warnings(), []);
        // It is asked to shed, and has as much as before afterwards.
        assert!(share.report(2 << 20) > 0);
        share.settle(2 << 20);
        metrics.memory.say_over();
        let said = metrics.take_warnings();
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].what, "the job holds 2.0 MiB in memory, its budget is 1.0 MiB: sessions by user 2.0 MiB");
        assert!(said[0].remedy.contains("--memory"), "{}", said[0].remedy);
        metrics.memory.say_over();
        assert_eq!(metrics.take_warnings(), [], "once is enough");
    }
}
