//! What a running job says of itself: counters that tasks add to once for each batch, read by anyone at any time.

use crate::backfill::BackfillMetrics;
use crate::memory::Memory;
use crate::scratch::Scratch;
use crate::warnings::{Warning, WarningKind, Warnings};
use millstream_core::{Backfill, Error, Millis, Watermark};
use millstream_state::room::SaveRoom;
use millstream_state::tier::Budget;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// Counters of one node, summed over its tasks.
#[derive(Debug)]
pub struct NodeMetrics {
    pub label: String,
    pub is_source: bool,
    pub is_sink: bool,
    pub rows_in: AtomicU64,
    pub rows_out: AtomicU64,
    pub late: AtomicU64,
    pub bad: AtomicU64,
    pub bytes: AtomicU64,
    /// Of a source that reads a history first.
    pub backfill: BackfillMetrics,
    /// For each task: the event-time watermark it last handed on, and the bytes that it remembers.
    watermarks: Vec<AtomicI64>,
    state_bytes: Vec<AtomicU64>,
}

impl NodeMetrics {
    pub fn new(label: String, is_source: bool, is_sink: bool, tasks: usize) -> NodeMetrics {
        NodeMetrics {
            label,
            is_source,
            is_sink,
            rows_in: AtomicU64::new(0),
            rows_out: AtomicU64::new(0),
            late: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            backfill: BackfillMetrics::default(),
            watermarks: (0..tasks).map(|_| AtomicI64::new(i64::MIN)).collect(),
            state_bytes: (0..tasks).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(crate) fn set_watermark(&self, task: usize, to: Watermark) {
        self.watermarks[task].store(to.0, Relaxed);
    }

    pub(crate) fn set_state_bytes(&self, task: usize, bytes: usize) {
        self.state_bytes[task].store(bytes as u64, Relaxed);
    }

    /// The least watermark of the node's tasks.
    pub fn watermark(&self) -> Watermark {
        Watermark(self.watermarks.iter().map(|w| w.load(Relaxed)).min().unwrap_or(i64::MIN))
    }

    pub fn state_bytes(&self) -> u64 {
        self.state_bytes.iter().map(|b| b.load(Relaxed)).sum()
    }
}

/// Counters of a job, by node in the order of the graph.
#[derive(Debug, Default)]
pub struct Metrics {
    pub nodes: Vec<NodeMetrics>,
    /// Bytes waiting in queues between tasks.
    pub queued_bytes: AtomicI64,
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
    /// Of the last one that was completed.
    pub epoch: AtomicU64,
    pub millis: AtomicU64,
    /// Written so far, all of them together.
    pub bytes: AtomicU64,
    began: AtomicI64,
    warnings: Warnings,
}

impl CheckpointMetrics {
    pub(crate) fn begin(&self, _epoch: u64, now: Millis) {
        self.began.store(now, Relaxed);
    }

    pub(crate) fn done(&self, epoch: u64, now: Millis) {
        self.done.fetch_add(1, Relaxed);
        self.epoch.store(epoch, Relaxed);
        self.millis.store(now.saturating_sub(self.began.load(Relaxed)).max(0) as u64, Relaxed);
    }

    pub(crate) fn given_up(&self, epoch: u64, why: &Error) {
        self.given_up.fetch_add(1, Relaxed);
        self.warnings.say_why(WarningKind::CheckpointGivenUp, &format!("checkpoint {epoch} was given up"), why);
    }

    pub(crate) fn commit_retried(&self, why: &Error) {
        self.warnings.say_why(WarningKind::CommitRetried, "a commit is tried again", why);
    }

    pub(crate) fn not_tidied(&self, why: &Error) {
        self.warnings.say_why(WarningKind::NotTidied, "old checkpoints could not be tidied up", why);
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
    /// Completed so far, and how long the last one took.
    pub checkpoints: u64,
    pub checkpoint_millis: u64,
    /// Of all tables that read a history first, together: until it is complete, results lack what is still to be read.
    /// `None`: there is no such table.
    pub backfill: Option<Backfill>,
    pub nodes: Vec<NodeSnapshot>,
}

impl Metrics {
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
                bytes: n.bytes.load(Relaxed),
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
            bad: self.nodes.iter().map(|n| n.bad.load(Relaxed)).sum(),
            watermark: sources().map(|n| n.watermark).min().unwrap_or(Watermark::MIN),
            state_bytes: nodes.iter().map(|n| n.state_bytes).sum(),
            queued_bytes: self.queued_bytes.load(Relaxed).max(0) as u64,
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
