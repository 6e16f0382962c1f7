//! How fast the engine is, told as a ratio: its CPU time over that of a hand-written loop which does the same work on
//! the same batches in the same run.
//!
//! ```text
//!  nexmark generator ──▶ batches of rows ──▶ loop (no engine, one thread) ──▶ rows, checksum ┐ must be
//!        (data)             (in memory)  └─▶ engine: memory ─▶ SQL ─▶ blackhole ─▶ rows, checksum ┘  the same
//! ```
//!
//! - `queries`: each query's SQL, its loop, and the rate of event time it is run at.
//! - `loops`: what the machine can do: the loops, over Arrow buffers read as slices.
//! - `engine`: what the engine needs to run the same: batches in memory as a source, a sink that only counts.
//! - `measure`, `report`: clocks, peak memory, medians, the table and its JSON.
//!
//! - `state`: updates of a large state, in memory and with a tenth of it.
//!
//! One event is one bid handed to the query. (Figures of the official suite count persons and auctions too, 50
//! events for each 46 bids, so that theirs are 8 % lower for the same work.) Only `stateful` runs the queries of
//! `bench/nexmark` as they are, over all events, of which each counts as one.

pub mod data;
pub mod engine;
pub mod flat;
pub mod formats;
pub mod latency;
pub mod loops;
pub mod measure;
pub mod queries;
pub mod report;
pub mod runner;
pub mod state;
