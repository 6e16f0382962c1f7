//! SQL to Dataflow.
//!
//! ```text
//!  text ──parse──▶ Statement ──▶ catalog (tables, views, settings)
//!                     └─ INSERT, SELECT ──plan──▶ DataFusion LogicalPlan ──optimize──▶ ──lower──▶ Dataflow
//! ```

pub mod catalog;
pub mod plan;
pub mod statement;
