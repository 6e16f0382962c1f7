//! What a user would try, through the library: SQL in, rows out.

mod agreement;
mod architecture;
mod asof;
mod batch;
mod broadcast;
mod bucket;
mod changes;
mod cli;
mod collect;
mod comparisons;
mod dice;
mod emit;
mod functions;
mod fuzz;
#[cfg(feature = "kafka")]
mod history;
#[cfg(feature = "kafka")]
mod kafka;
mod logs;
mod lookup;
mod memory;
mod metrics;
#[cfg(feature = "otel")]
mod otel;
mod partitions;
mod random_queries;
mod random_updates;
mod rows;
mod semantics;
mod silence;
mod state;
mod state_v1;
mod subqueries;
mod support;
mod wrong;
