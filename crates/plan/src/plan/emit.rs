//! `EMIT` on its way through DataFusion: a condition of HAVING, then a node over the aggregate.
//!
//! ```text
//!  Filter: n > 1 AND $emit('..')            Filter: n > 1
//!    Aggregate                      ──▶       Emit '..'
//!                                               Aggregate
//! ```
//!
//! DataFusion knows no such clause, and a condition that reads no column would be moved below the aggregate. So it is taken out
//! of the condition before anything is optimised. A bounded job has no panes: there the condition is only dropped.

use crate::emit::Emit;
use datafusion_common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion_common::{DFSchemaRef, DataFusionError, Result, ScalarValue};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{Expr, Extension, Filter, LogicalPlan, ScalarUDF, UserDefinedLogicalNodeCore};
use millstream_core::Result as OurResult;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

pub const NAME: &str = "$emit";

/// [`place`] takes it out.
pub fn marker() -> ScalarUDF {
    super::marker::marker(NAME, 1, "EMIT stands where it was not foreseen")
}

/// An aggregate whose results are told as its clause says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct EmitNode {
    pub input: Arc<LogicalPlan>,
    /// [`Emit::encode`]d.
    text: String,
}

impl EmitNode {
    pub fn emit(&self) -> OurResult<Emit> {
        Emit::decode(&self.text)
    }
}

impl UserDefinedLogicalNodeCore for EmitNode {
    fn name(&self) -> &str {
        "Emit"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// Whole groups may be left out below; which results pass is asked of what is told.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let groups = match self.input.as_ref() {
            LogicalPlan::Aggregate(a) => a.schema.fields().len() - a.aggr_expr.len(),
            _ => 0,
        };
        self.schema().fields().iter().skip(groups).map(|f| f.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Emit {}", self.text)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) => Ok(EmitNode { input: Arc::new(input), text: self.text.clone() }),
            None => datafusion_common::internal_err!("EMIT of nothing"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// The text of the marker, if the condition is one.
fn text_of(e: &Expr) -> Option<&str> {
    match e {
        Expr::ScalarFunction(f) if f.name() == NAME => match f.args.first() {
            Some(Expr::Literal(ScalarValue::Utf8(Some(text)), _)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Takes the clauses out of the conditions and, if panes are wanted, puts them over their aggregates.
pub fn place(plan: LogicalPlan, panes: bool) -> Result<LogicalPlan, DataFusionError> {
    let placed = plan.transform_down_with_subqueries(|plan| {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let tests = split_conjunction(&filter.predicate);
        let Some(text) = tests.iter().find_map(|test| text_of(test)).map(str::to_string) else {
            return Ok(Transformed::no(plan));
        };
        let rest = conjunction(tests.into_iter().filter(|test| text_of(test).is_none()).cloned());
        let mut below = filter.input.clone();
        if panes {
            let node = Arc::new(EmitNode { input: below, text });
            below = Arc::new(LogicalPlan::Extension(Extension { node }));
        }
        Ok(Transformed::yes(match rest {
            Some(rest) => LogicalPlan::Filter(Filter::try_new(rest, below)?),
            None => Arc::unwrap_or_clone(below),
        }))
    })?;
    Ok(placed.data)
}

/// Whether an EMIT clause of this plan goes by the clock.
pub fn goes_by_the_clock(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let search = plan.apply_with_subqueries(|p| {
        if let LogicalPlan::Extension(e) = p
            && let Some(node) = e.node.as_any().downcast_ref::<EmitNode>()
        {
            found |= node.emit().is_ok_and(|emit| emit.goes_by_the_clock());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    search.is_ok() && found
}
