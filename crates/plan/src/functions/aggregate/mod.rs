//! Aggregate functions with Flink's types and results that do not depend on the order of the rows.
//!
//! ```text
//!  SUM, AVG       integers: their own type, overflow is an error · DECIMAL: wide · FLOAT, DOUBLE: exact, rounded once
//!  VAR*, STDDEV*  exact sums of x and x², joined exactly, rounded once, then divided
//!  LISTAGG, FIRST_VALUE, LAST_VALUE   over DataFusion's ordered accumulators; NULLs are left out
//! ```
//!
//! The streaming operators have kernels of their own. These accumulators say the types, and they are what DataFusion's batch
//! executor runs; so both must give the same bits.

mod exact;
mod numbers;
mod ordered;

use datafusion_expr::AggregateUDF;
use std::sync::Arc;

/// The aggregates of ours; those of the same name among DataFusion's give way.
pub(super) fn functions() -> Vec<AggregateUDF> {
    let mut all = numbers::functions();
    all.extend(ordered::functions());
    all.push(renamed(
        &datafusion_functions_aggregate::approx_distinct::approx_distinct_udaf(),
        "approx_count_distinct",
    ));
    all
}

fn renamed(function: &Arc<AggregateUDF>, name: &'static str) -> AggregateUDF {
    function.as_ref().clone().with_aliases([name])
}
