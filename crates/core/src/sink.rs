//! Where rows go, and how a table gets each of them once.
//!
//! ```text
//!  without checkpoints:  write, write ── finish ──▶ visible as a whole          (abort: as if nothing had been)
//!
//!  with checkpoints:     write, write ── prepare(7) ──▶ Prepared ─┐
//!                        write        ── prepare(8) ──▶ ..        │ stored in the manifest of epoch 7
//!                                                                 ▼
//!                                        Committer::commit(7, all writers' committables) ──▶ visible
//! ```
//!
//! A sink that can do exactly-once keeps what an epoch wrote invisible until its committer is told. The manifest of the
//! epoch is written in between, so after a crash it alone says what is to be committed (again) and what never was.

use crate::batch::Batch;
use crate::error::Result;
use crate::time::Watermark;

/// How a sink is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkContext {
    /// Which of the table's writers this is, and how many there are.
    pub index: usize,
    pub writers: usize,
    /// Set when the job takes checkpoints: then the sink is driven by [`Sink::prepare`] and never by [`Sink::finish`].
    pub job: Option<JobRun>,
}

impl SinkContext {
    /// One of the writers of a job without checkpoints.
    pub fn one_of(index: usize, writers: usize) -> SinkContext {
        SinkContext { index, writers, job: None }
    }
}

/// A run of a job that takes checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRun {
    /// The job's lasting name in its store: letters, digits and `-`; the same after every restart.
    pub job: String,
    /// Counts the starts of the job. No two runs have the same, even if one of them is a zombie.
    pub generation: u64,
    /// The epoch that this run starts from; 0 for a fresh start. Epochs of this run are greater.
    pub epoch: u64,
}

/// What a sink hands over at a barrier.
#[derive(Default)]
pub struct Prepared {
    /// Small; goes into the manifest and comes back to [`Committer::commit`]. `None`: nothing to commit.
    pub committable: Option<String>,
    /// Rows to be kept with the checkpoint and handed to the committer: an outbox, for receivers that cannot hold an
    /// open transaction over a crash.
    pub outbox: Vec<Batch>,
    /// What has to be done before the manifest may be written and may take long (to sync files); run off the worker thread.
    pub settle: Option<Box<dyn FnOnce() -> Result<()> + Send>>,
}

/// One writer of a table. Owned and driven by one task.
///
/// Without checkpoints, what was written becomes visible as a whole with [`Sink::finish`] or, for sinks that have no end,
/// at [`Sink::flush`]. A sink that is dropped without `finish` leaves nothing behind that looks complete.
pub trait Sink: Send {
    fn write(&mut self, batch: &Batch) -> Result<()>;

    /// Hands on what is held back, where that is possible before the end (a terminal, a pipe). Called when the
    /// task has nothing else to do, and at least every second.
    fn flush(&mut self) -> Result<()>;

    /// The job has ended well: make everything visible. In a job with checkpoints, not called where a committer does it.
    fn finish(&mut self) -> Result<()>;

    /// The job has failed: remove what is half written. What was prepared stays: a manifest may name it.
    fn abort(&mut self);

    /// Everything that [`Sink::write`] will still be given is later than this, but for late rows: for sinks that tell their
    /// readers what is complete. It never goes back; [`Watermark::MAX`] is the end of the input.
    fn advance(&mut self, to: Watermark) {
        let _ = to;
    }

    /// Ends an epoch: what was written since the last call belongs to it. The default is that of a sink that gives rows
    /// away as they come, at least once.
    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        let _ = epoch;
        self.flush()?;
        Ok(Prepared::default())
    }

    /// Whether its table has a [`Committer`], which makes its rows visible in a job with checkpoints.
    fn commits(&self) -> bool {
        false
    }

    /// Bytes written so far, where the sink counts them.
    fn bytes(&self) -> u64 {
        0
    }
}

/// What one writer prepared for an epoch, read back from the manifest.
#[derive(Debug, Clone)]
pub struct Committable {
    pub data: Option<String>,
    pub outbox: Vec<Batch>,
}

/// Makes the epochs of a table visible, one after the other. One for each table of a job, apart from its writers.
pub trait Committer: Send {
    /// Makes what all writers prepared for `epoch` visible, as a whole. Called after the manifest was written; called
    /// again after a crash, until it has returned once: the second time changes nothing.
    ///
    /// # Errors
    /// Those of kind [`Io`](crate::ErrorKind::Io) may pass (a server that is away): the caller tries again with back-off.
    /// Others end the job.
    fn commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()>;

    /// After a restore and before the first row: takes away what runs after `epoch` left behind and no manifest names.
    /// `kept` is everything that a manifest still names.
    fn clean(&mut self, epoch: u64, kept: &[Committable]) -> Result<()> {
        let _ = (epoch, kept);
        Ok(())
    }
}
