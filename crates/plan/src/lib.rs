//! SQL to Dataflow.
//!
//! ```text
//!  text ──parse──▶ Statement ──▶ catalog (tables, views, settings)
//!                     └─ INSERT, SELECT ──plan──▶ DataFusion LogicalPlan ──optimize──▶ ──lower──▶ Dataflow
//! ```

pub mod catalog;
pub mod plan;
pub mod dialect;
pub mod message;
pub mod parse;
pub mod settings;
pub mod functions;
pub mod statement;
pub mod target;
