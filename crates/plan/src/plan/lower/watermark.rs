//! `CURRENT_WATERMARK(ts)`: the watermark that a row is judged by.
//!
//! The source task knows it for every row, however rows are cut into batches, and adds it as the column `$watermark`;
//! here the function becomes that column. It is there as long as rows stand straight over their source: behind a
//! window, an aggregate, an array or a union rows come out at another moment than they came in.

use super::Rel;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_expr::{Expr as Logical, LogicalPlan};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use millstream_core::{Error, Result, TimeDomain};
use std::sync::Arc;

const NAME: &str = "current_watermark";

/// Whether a plan says `CURRENT_WATERMARK(..)` anywhere.
pub fn says_watermark(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let search = plan.apply_with_subqueries(|p| {
        p.apply_expressions(|e| {
            found |= reads(e);
            Ok(TreeNodeRecursion::Continue)
        })
    });
    search.is_ok() && found
}

pub(super) fn reads(e: &Logical) -> bool {
    e.exists(|e| Ok(matches!(e, Logical::ScalarFunction(f) if f.name() == NAME))).unwrap_or(false)
}

fn call(e: &Arc<dyn PhysicalExpr>) -> Option<&ScalarFunctionExpr> {
    e.downcast_ref::<ScalarFunctionExpr>().filter(|f| f.name() == NAME)
}

/// Each call has to name the event-time column. `e` is over the logical columns of the rel.
pub(super) fn check(rel: &Rel, e: &Arc<dyn PhysicalExpr>) -> Result<()> {
    if rel.watermark.is_none() {
        return Err(Error::sql(
            "CURRENT_WATERMARK cannot be read here: it is there only straight over a table that declares a WATERMARK",
        )
        .remedy(
            "read it in a subquery or view over the table, below windows, aggregates, OVER, UNNEST and UNION, and hand the \
             column on",
        ));
    }
    let mut wrong = false;
    let searched = e.apply(|node| {
        if let Some(call) = call(node) {
            let column = call.args().first().and_then(|a| a.downcast_ref::<Column>()).map(Column::index);
            let time = column.and_then(|i| rel.columns.get(i)).and_then(|c| c.time);
            wrong |= time != Some(TimeDomain::Event);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    searched.map_err(|e| Error::internal(e.strip_backtrace()))?;
    if wrong {
        return Err(Error::sql("CURRENT_WATERMARK takes the event-time column itself")
            .remedy("name the column that WATERMARK FOR declares, as in CURRENT_WATERMARK(ts)"));
    }
    Ok(())
}

/// Puts `$watermark` in the place of the calls. `e` is over the columns of the node.
pub(super) fn put(rel: &Rel, e: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let Some(watermark) = &rel.watermark else { return Ok(e) };
    let put = e.transform_down(|node| {
        Ok(match call(&node) {
            Some(_) => Transformed::new(watermark.physical.clone(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    });
    put.map(|t| t.data).map_err(|e| Error::internal(e.strip_backtrace()))
}
