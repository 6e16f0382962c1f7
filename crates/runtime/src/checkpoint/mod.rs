//! Checkpoints of a running job: what tasks hand over at a barrier, how it is written, and how a job comes back.
//!
//! ```text
//!  worker threads                         the checkpoint thread                        the store
//!  ──────────────                         ─────────────────────                        ─────────
//!  sources see the epoch ◀── Begin(7) ─── Coordinator (crate checkpoint)
//!  barrier 7 through the queues
//!  task lined up: TaskSave ─────────────▶ pieces as Parquet, sinks' files synced ────▶ data/7-…
//!  (and goes on at once)                  every task saved: the manifest ────────────▶ manifests/…42.json (create)
//!                                         sinks' committers commit epoch 7
//! ```
//!
//! A task is saved as a whole, between two messages: then nothing is under way inside of it, since operators of a task
//! call each other directly. What a task does at a barrier is copying what has changed; encoding, writing and waiting
//! happen on the checkpoint thread.
//!
//! What tasks have handed over waits in memory only as far as there is room ([`SaveRoom`](millstream_state::room::SaveRoom));
//! the rest waits in scratch space. Files are cut where they have grown, so that neither writing nor merging nor restoring
//! holds more than a few of them.
//!
//! Always true: what a task handed over is part of the next manifest, also when the epoch it was meant for is given
//! up. Nothing that a sink has prepared is ever forgotten while the job lives.

mod driver;
mod files;
mod inspect;
mod manifest;
mod restore;
mod weight;

pub use crate::life::shapes;
pub use driver::Ask;
pub(crate) use driver::{Driver, Message, Requests, commit_again};
pub use inspect::{columns, rows};
pub(crate) use manifest::{Memory, NodeMemory, SinkMemory, columns_of};
pub use restore::find;
pub(crate) use restore::{Mine, Restored, Taken, manifests, take_over};
pub(crate) use weight::Weight;

use crate::side::SideRows;
use millstream_checkpoint::manifest::PartitionState;
use millstream_core::{Batch, ByteSize, Prepared, Store};
use millstream_dataflow::operator::Watermarks;
use millstream_state::table::{Saved, TableDef};
use std::sync::Arc;
use std::time::Duration;

/// How a job takes checkpoints.
#[derive(Clone)]
pub struct CheckpointConfig {
    pub store: Arc<dyn Store>,
    /// The job's lasting name in the store. Letters, digits, `-` and `_`.
    pub job: String,
    /// From the start of one checkpoint to the start of the next. `None`: only when asked for, and at the end. Default
    /// 10 s, sensible 100 ms to 10 min. Shorter: less to do again after a crash, fresher output. Longer: fewer files.
    pub interval: Option<Duration>,
    /// From the end of one checkpoint to the start of the next, at least. Default none.
    pub min_pause: Duration,
    /// A checkpoint that takes longer is given up; the job goes on. Default 10 min.
    pub timeout: Duration,
    /// Checkpoints in a row that may fail before the job does. Default 3.
    pub failures_max: u32,
    /// Checkpoints that are kept beside savepoints. Default 3.
    pub kept: usize,
    /// Barriers overtake the rows that wait in queues after this long. Default 5 s; `None`: never.
    pub overtake_after: Option<Duration>,
    /// Bytes that one task may hold back while it waits for barriers; past them the barrier overtakes. Default 64 MiB.
    pub held_bytes_max: ByteSize,
    /// Bytes that what has been saved may take in memory until it is written, for the whole job; what does not fit waits in
    /// scratch space. As many again are for writing and merging files, which are cut accordingly. Default a sixteenth of the
    /// job's memory, at least 4 MiB. Less: more and smaller files.
    pub saves_bytes_max: Option<ByteSize>,
    /// Tables that other threads read: the id of a node and the name of a table. See [`Job::view`](crate::Job::view).
    pub views: Vec<(String, String)>,
    /// Where to go on.
    pub restore: Restore,
    /// Let go of state of which the query knows nothing any more.
    pub drop_state: bool,
    /// Read what is there at the start, commit it and end, with windows that are still open kept for the next run.
    pub available_now: bool,
}

impl CheckpointConfig {
    pub fn new(store: Arc<dyn Store>, job: &str) -> CheckpointConfig {
        CheckpointConfig {
            store,
            job: job.to_owned(),
            interval: Some(Duration::from_secs(10)),
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(600),
            failures_max: 3,
            kept: 3,
            overtake_after: Some(Duration::from_secs(5)),
            held_bytes_max: ByteSize::mib(64),
            saves_bytes_max: None,
            views: Vec::new(),
            restore: Restore::Latest,
            drop_state: false,
            available_now: false,
        }
    }
}

/// Where a job goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Restore {
    /// At the latest checkpoint; from the beginning where there is none.
    #[default]
    Latest,
    /// At the manifest with this number.
    Number(u64),
    /// At the savepoint of this name.
    Savepoint(String),
}

/// What a task hands over at a barrier, or at its end.
pub(crate) struct TaskSave {
    pub task: TaskAt,
    /// The epoch it is for; 0 at its end, when it counts for every epoch after `last`.
    pub epoch: u64,
    /// The epoch that the task saved before.
    pub last: u64,
    pub nodes: Vec<NodeSave>,
    pub set_aside: Vec<SideRows>,
}

/// A task of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskAt {
    pub stage: usize,
    pub task: usize,
}

/// One node's share of a task.
pub(crate) struct NodeSave {
    /// Index in the placement.
    pub node: usize,
    pub watermarks: Watermarks,
    pub tables: Vec<TableDef>,
    /// What has changed: in memory, or in scratch space and read while it is written.
    pub saved: Saved,
    /// The pieces stand for everything: earlier ones do not count any more.
    pub whole: bool,
    pub partitions: Vec<PartitionState>,
    pub prepared: Option<Prepared>,
    /// Batches that the barrier has overtaken, by input.
    pub in_flight: Vec<(usize, Batch)>,
}
