//! What the plans of a job read of each table.

use super::super::table::{DeclaredTable, Needed};
use super::{calls, lookup, over, temporal};
use datafusion_expr::LogicalPlan;
use std::collections::BTreeMap;

/// Columns of each table that the plans of a job scan, and whether `$order` is wanted.
#[derive(Debug, Default, Clone)]
pub struct Needs {
    pub tables: BTreeMap<String, Needed>,
    /// The same of tables that are looked up.
    pub lookups: BTreeMap<String, Needed>,
    /// The batch engine is to run it, which has no use for `$order`.
    pub batch: bool,
    /// The answer depends on the order of rows in their table.
    pub ordered: bool,
}

impl Needs {
    /// Adds what this plan reads. `order`: whether something above it puts rows in an order of their own; `clock`: whether
    /// the statement says `PROCTIME()`; `watermarks`: whether it says `CURRENT_WATERMARK(..)`.
    pub fn add(&mut self, plan: &LogicalPlan, order: bool, clock: bool, watermarks: bool) {
        if let LogicalPlan::TableScan(scan) = plan {
            let Some(table) = scan.source.downcast_ref::<DeclaredTable>() else { return };
            let all = || (0..table.schema.fields().len()).collect();
            let needed = self.tables.entry(table.name.clone()).or_default();
            needed.columns.extend(scan.projection.clone().unwrap_or_else(all));
            needed.order |= order && !self.batch;
            self.ordered |= order;
            needed.clock |= clock;
            needed.row_watermarks |= watermarks;
            return;
        }
        if let LogicalPlan::Join(j) = plan
            && lookup::is_lookup(j)
        {
            self.add(&j.left, false, clock, watermarks);
            // What is no table is refused when the join is lowered.
            let scan = lookup::looked_up(&j.right).ok();
            if let Some((scan, table)) = scan.and_then(|s| Some((s, s.source.downcast_ref::<DeclaredTable>()?))) {
                let all = || (0..table.schema.fields().len()).collect();
                let needed = self.lookups.entry(table.name.clone()).or_default();
                needed.columns.extend(scan.projection.clone().unwrap_or_else(all));
            }
            return;
        }
        let below = wants_order_below(plan, order);
        for input in plan.inputs() {
            self.add(input, below, clock, watermarks);
        }
    }
}

/// Whether the inputs of this plan have to carry `$order`.
pub fn wants_order_below(plan: &LogicalPlan, above: bool) -> bool {
    match plan {
        LogicalPlan::Aggregate(a) => a.aggr_expr.iter().any(calls::is_ordered_aggregate),
        // What comes out of a join has no place in a table; the order in which its rows go in decides between versions only.
        LogicalPlan::Join(j) => temporal::has_as_of(j),
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Window(w) => above || w.window_expr.iter().any(over::needs_order),
        // Of several inputs there is no one order.
        LogicalPlan::Union(_) => false,
        _ => above,
    }
}
