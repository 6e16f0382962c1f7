//! SQL to Dataflow.
//!
//! ```text
//!  text ──parse──▶ Statement ──▶ catalog (tables, views, settings)
//!                     └─ INSERT, SELECT ──plan──▶ DataFusion LogicalPlan ──optimize──▶ ──lower──▶ Dataflow
//! ```

pub mod catalog;
pub mod dialect;
pub mod emit;
pub mod explain;
pub mod functions;
pub mod message;
pub mod parse;
pub mod plan;
pub mod settings;
pub mod statement;
pub mod target;
