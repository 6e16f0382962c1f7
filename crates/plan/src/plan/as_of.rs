//! `FOR SYSTEM_TIME AS OF time`: on its way through DataFusion, a condition of the join.
//!
//! ```text
//!  o JOIN r FOR SYSTEM_TIME AS OF o.ts AS r ON o.k = r.k   ──▶   o JOIN r ON o.k = r.k AND $as_of(o.ts, o.k = r.k, FALSE)
//! ```
//!
//! DataFusion knows tables of no time but the present and drops the clause. As a condition it is resolved where both sides
//! are in scope, and what else stands in ON keeps it from being moved to one of them. Lowering takes it out again. The last
//! argument says whether it is the MATCH_CONDITION of an ASOF JOIN, which comes the same way.
//!
//! The versions themselves stand under a [`Versions`] node: their time is read though no expression names it, and no filter
//! may go below, since a version that does not pass still ends the one before it.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion_common::{DFSchemaRef, Result};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, Extension, LogicalPlan, ScalarUDF, UserDefinedLogicalNodeCore};
use datafusion_sql::sqlparser::ast::{TableFactor, TableVersion};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

pub const NAME: &str = "$as_of";

/// Lowering takes it out.
pub fn as_of() -> ScalarUDF {
    super::marker::marker(
        NAME,
        3,
        "FOR SYSTEM_TIME AS OF is not there yet in batch mode: run the query in streaming mode",
    )
}

/// A table of versions, before one of them is chosen for each row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct Versions {
    pub input: Arc<LogicalPlan>,
    /// The table is asked as it is now, so nobody reads when its rows began to hold.
    pub now: bool,
}

impl UserDefinedLogicalNodeCore for Versions {
    fn name(&self) -> &str {
        "Versions"
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

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema().fields().iter().map(|f| f.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Versions")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) => Ok(Versions { input: Arc::new(input), now: self.now }),
            None => datafusion_common::internal_err!("versions of nothing"),
        }
    }

    /// Whatever may be the time is kept.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let may_be_time = |i: &usize| {
            output_columns.contains(i)
                || !self.now
                    && matches!(self.schema().field(*i).data_type(), DataType::Timestamp(TimeUnit::Millisecond, _))
        };
        Some(vec![(0..self.schema().fields().len()).filter(may_be_time).collect()])
    }
}

/// Puts a [`Versions`] node over a table with `FOR SYSTEM_TIME AS OF`, whose time has become a condition.
#[derive(Debug)]
pub struct VersionsPlanner;

impl RelationPlanner for VersionsPlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::Table { version: version @ Some(TableVersion::ForSystemTimeAsOf(_)), alias, .. } =
            &mut relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        *version = None;
        let alias = alias.take();
        let input = Arc::new(context.plan(relation)?);
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(Versions { input, now: false }) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}
