//! Millstream as a library: streaming SQL inside your own program.
//!
//! ```no_run
//! use millstream::{Program, RunOptions};
//!
//! let program = Program::parse("SELECT * FROM (VALUES (1, 'one'), (2, 'two')) AS t(n, word)", "query.sql")?;
//! let rows = millstream::collect(program, RunOptions::default())?;
//! println!("{}", arrow::util::pretty::pretty_format_batches(&rows).unwrap());
//! # Ok::<(), millstream::Error>(())
//! ```
//!
//! A [`Program`] is a script of SQL statements. [`Runner`] executes it statement by statement; `INSERT` and `SELECT`
//! become jobs, whose progress can be watched and which can be stopped from another thread.

mod connectors;
pub mod metrics;
mod program;
mod result;
mod run;
pub mod state;

pub use connectors::Tables;
pub use millstream_checkpoint::Manifest;
pub use millstream_core::{
    Batch, Behind, ByteSize, ChangeKind, Error, ErrorKind, Place, Result, Sink, Source, Watermark,
};
pub use millstream_plan::message;
pub use millstream_runtime::{
    CheckpointMetrics, CheckpointTrace, JobConfig, Metrics, Snapshot, Stop, Summary, Warning, WarningKind,
};
pub use program::{Plan, Program};
pub use result::{ResultRows, ResultSink, standing};
pub use run::{Mode, RunOptions, Runner, Running, Step, collect};
pub use state::{RestoreFrom, StateOptions};

/// What the script's `check` can lint for.
pub use millstream_plan::target;
