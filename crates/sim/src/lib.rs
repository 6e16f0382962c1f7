//! The real runtime in a world that can be repeated.
//!
//! ```text
//!                      seed
//!        ┌──────────────┼───────────────┐
//!        ▼              ▼               ▼
//!    workload         play            world
//!    rows, SQL    whose turn it is    what the outside answers: store, log, tables
//!        │              │               ▲
//!        └──▶ plan ─▶ runtime::Stepped ─┘
//! ```
//!
//! Operators, exchange, checkpoints, recovery and the protocol of the sinks are those of the product. What is
//! simulated is the outside alone: time, the store, the log that is read, the tables that are written, and whose turn it
//! is. All of it is decided by one seed, so that a run that found a fault finds it again.
//!
//! Not here: threads, sockets, files. Whether two threads race is a matter for tests of the real binary.

mod connectors;
mod dice;
mod log;
mod play;
mod sink;
mod store;
mod trace;
mod updating;
mod workload;
mod world;

pub use play::{Outcome, Stats, play};
#[cfg(feature = "sabotage")]
pub mod sabotage;
