//! `SELECT /*+ BROADCAST(t) */ .. FROM s JOIN t`: on its way through DataFusion, a node over `t`.
//!
//! ```text
//!  FROM s JOIN t   ──rewrite──▶   FROM s JOIN __broadcast(t)   ──plan──▶   Join(s, Broadcast(t))
//! ```
//!
//! Filters and the choice of columns pass through the node; the join finds it below what its side makes of the table.

use datafusion_common::{DFSchemaRef, Result};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion_sql::sqlparser::ast::{Expr as Ast, Ident, TableFactor, TableWithJoins, Value};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Name of the relation that stands for a hinted one.
const NAME: &str = "__broadcast";

/// Rows that every task is to have all of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
pub struct Broadcast {
    pub input: Arc<LogicalPlan>,
    /// As the hint calls it.
    pub name: String,
}

/// The hinted relation that a side of a join is made of, and of nothing else.
pub fn hinted(plan: &LogicalPlan) -> Option<&Broadcast> {
    if let LogicalPlan::Extension(e) = plan
        && let Some(hinted) = e.node.as_any().downcast_ref::<Broadcast>()
    {
        return Some(hinted);
    }
    match plan.inputs().as_slice() {
        [input] => hinted(input),
        _ => None,
    }
}

/// Marks the relation of this name. False where there is none.
pub fn mark(from: &mut [TableWithJoins], name: &str, named: &dyn Fn(&TableFactor) -> Option<String>) -> bool {
    let of = from
        .iter_mut()
        .flat_map(|t| std::iter::once(&mut t.relation).chain(t.joins.iter_mut().map(|j| &mut j.relation)));
    for relation in of {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = relation {
            if mark(std::slice::from_mut(table_with_joins), name, named) {
                return true;
            }
            continue;
        }
        if named(relation).as_deref() != Some(name) {
            continue;
        }
        *relation = TableFactor::Unpivot {
            table: Box::new(relation.clone()),
            value: Ast::value(Value::SingleQuotedString(name.to_owned())),
            name: Ident::new(NAME),
            columns: Vec::new(),
            null_inclusion: None,
            alias: None,
        };
        return true;
    }
    false
}

impl UserDefinedLogicalNodeCore for Broadcast {
    fn name(&self) -> &str {
        "Broadcast"
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
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Broadcast: {}", self.name)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) => Ok(Broadcast { input: Arc::new(input), name: self.name.clone() }),
            None => datafusion_common::internal_err!("a broadcast of nothing"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Plans a marked relation.
#[derive(Debug)]
pub struct BroadcastPlanner {
    /// The batch engine chooses by itself how it joins.
    pub batch: bool,
}

impl RelationPlanner for BroadcastPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let (table, name) = match relation {
            TableFactor::Unpivot { table, value: Ast::Value(value), name, .. } if name.value == NAME => {
                (table, value.value.into_string().unwrap_or_default())
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let input = context.plan(*table)?;
        if self.batch {
            return Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(input, None))));
        }
        let node = Broadcast { input: Arc::new(input), name };
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}
