//! The graph of a job as plain data, and the operators that do its work.
//!
//! ```text
//!  plan ──▶ graph::Dataflow ──▶ runtime places it ──▶ build(node) ──▶ Operator::step(event) ──▶ Output
//! ```
//!
//! An operator is a synchronous state machine over columns: no clock, no thread, no I/O, no randomness. What it
//! decides depends on the events it is given alone.

pub mod aggregate;
mod build;
mod by_group;
pub mod calc;
pub mod deduplicate;
pub mod expand;
pub mod expr;
pub mod feed;
pub mod floats;
pub mod fuse;
pub mod graph;
pub mod group;
pub mod join;
mod kept;
pub mod limit;
pub mod local;
pub mod multiset;
pub mod normalize;
pub mod not_null;
pub mod operator;
pub mod over;
mod row_bytes;
mod rows;
mod saved_keys;
pub mod shelves;
pub mod testing;
pub mod top_n;
pub mod union;
pub mod unnest;
pub mod upsert;
pub mod valve;
pub mod window;
pub mod window_rows;
pub mod zone;

pub use build::build;
/// The exact sums and the sketches of the operators, for whoever has to give the same bits.
pub use millstream_state::{exact, sketch};
#[cfg(test)]
mod stateless_tests;
