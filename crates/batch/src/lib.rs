//! Bounded jobs through DataFusion's executor: the same answer as streaming, found by another engine.
//!
//! ```text
//!  LogicalPlan (from plan) ──windows──▶ plain relational plan ──tables──▶ scans over our sources ──▶ DataFusion ──▶ Sink
//! ```
//!
//! This is `--mode batch`, and it is the oracle of the tests: it shares the front end, the scalar functions and the sources
//! with streaming, but no operator. Nothing is late here, since there is no watermark.
//!
//! The only crate that uses DataFusion's umbrella crate, which decides our build time.

mod job;
mod tables;
mod unnest;
mod windows;

pub use job::{Job, start};
pub use tables::check_bounded;
