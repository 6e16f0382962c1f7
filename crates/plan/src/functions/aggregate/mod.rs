//! Aggregate functions with Flink's types and results that do not depend on the order of the rows.
//!
//! ```text
//!  SUM, AVG       integers: their own type, overflow is an error · DECIMAL: wide · FLOAT, DOUBLE: exact, rounded once
//!  VAR*, STDDEV*  exact sums of x and x², joined exactly, rounded once, then divided
//!  APPROX_*       the sketches of the streaming operators
//!  COLLECT        the counts of the streaming operators
//!  LISTAGG, FIRST_VALUE, LAST_VALUE   over DataFusion's ordered accumulators; NULLs are left out
//! ```
//!
//! The streaming operators have kernels of their own. These accumulators say the types, and they are what DataFusion's batch
//! executor runs; both give the same bits, since the exact sums and the sketches beneath are the same code.

mod collect;
mod numbers;
mod ordered;
mod sketches;

use datafusion_expr::AggregateUDF;

/// The aggregates of ours; those of the same name among DataFusion's give way.
pub(super) fn functions() -> Vec<AggregateUDF> {
    let mut all = numbers::functions();
    all.extend(collect::functions());
    all.extend(ordered::functions());
    all.extend(sketches::functions());
    all
}
