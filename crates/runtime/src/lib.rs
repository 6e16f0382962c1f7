//! Turns the mill: runs a [`Dataflow`](millstream_dataflow::graph::Dataflow) on worker threads.
//!
//! ```text
//!  Dataflow ──placement──▶ stages, cut at exchanges ──▶ one task of each stage on each worker
//!
//!  worker 0:  ┌ source ▸ calc ▸ local ┐──┐      ┌ aggregate ▸ calc ▸ sink ┐
//!                                        ├─hash─┤                               queues bounded in bytes
//!  worker 1:  ┌ source ▸ calc ▸ local ┐──┘      └ aggregate ▸ calc ▸ sink ┘
//! ```
//!
//! This is the only crate that starts threads inside a job. What decides (operators, valves, feeds) are state machines
//! of `dataflow`; here is the thin part that turns them.
//!
//! A worker runs its tasks in turn, the ones farthest downstream first. A task that finds the next queue full does
//! not block its thread: it runs the worker's tasks farther downstream meanwhile. Since the graph has no cycle, some
//! task at the far end can always go on, so nothing deadlocks, and no queue grows past its bound by more than one batch.

mod align;
mod backfill;
mod build;
mod chain;
pub mod checkpoint;
mod clock;
mod exchange;
mod gate;
mod job;
mod life;
mod lookup;
mod memory;
mod metrics;
mod placement;
pub mod sabotage;
mod scratch;
mod settle;
mod side;
mod source;
pub mod stepped;
mod warnings;
mod worker;

pub use backfill::BackfillMetrics;
pub use checkpoint::{CheckpointConfig, Restore};
pub use clock::SystemClock;
pub use job::{Job, JobConfig, Stop, Summary, start};
pub use metrics::{
    CheckpointMetrics, CheckpointTrace, MemoryMetrics, Metrics, NodeMetrics, NodeSnapshot, PartitionFigures, Snapshot,
    TOOK_BOUNDS, TaskMetrics, TaskTime,
};
pub use placement::{Placement, Stage, place};
pub use scratch::Scratch;
pub use side::{SideRows, Sides};
pub use stepped::Stepped;
pub use warnings::{Warning, WarningKind};
