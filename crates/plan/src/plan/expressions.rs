//! Logical expressions to compiled ones.

use super::errors::explain;
use super::provider::Provider;
use arrow::datatypes::{Field, Schema};
use chrono::{DateTime, Utc};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{EmptyRelation, Expr as Logical, LogicalPlan, Projection};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr, create_physical_expr};
use millstream_core::{Error, Result};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::floats;
use std::fmt;
use std::sync::Arc;

/// Compiles expressions for one job.
pub struct Compiler<'p, 'c> {
    pub provider: &'p Provider<'c>,
    pub props: ExecutionProps,
    pub context: PhysicalPlanningContext,
}

impl<'p, 'c> Compiler<'p, 'c> {
    pub fn new(provider: &'p Provider<'c>) -> Compiler<'p, 'c> {
        let mut props = ExecutionProps::new();
        props.config_options = Some(provider.config.clone());
        props.query_execution_start_time = Some(provider.now());
        Compiler { provider, props, context: PhysicalPlanningContext::default() }
    }

    pub fn fail(&self, e: DataFusionError) -> Error {
        explain(e, self.provider.file, &self.provider.function_names())
    }

    /// Settles the types of an expression by itself: what the analyzer does for a whole plan.
    pub fn settle(&self, expr: Logical, schema: &DFSchemaRef) -> datafusion_common::Result<Logical> {
        let rows = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: schema.clone() });
        let plan = LogicalPlan::Projection(Projection::try_new(vec![expr.alias("settled")], Arc::new(rows))?);
        match self.provider.settle(plan)? {
            LogicalPlan::Projection(mut p) if p.expr.len() == 1 => Ok(p.expr.remove(0).unalias()),
            other => datafusion_common::internal_err!("a projection became {}", other.display()),
        }
    }

    pub fn physical(&self, e: &Logical, schema: &DFSchema) -> datafusion_common::Result<Arc<dyn PhysicalExpr>> {
        let compiled = create_physical_expr(e, schema, &self.props, &self.context)?;
        floats::compared(compiled, schema.as_arrow())
    }

    /// A compiled expression over the columns of `input`, named.
    pub fn expr(&self, physical: Arc<dyn PhysicalExpr>, input: &Schema, name: &str) -> Result<Expr> {
        let data_type = physical.data_type(input).map_err(|e| self.fail(e))?;
        let nullable = physical.nullable(input).map_err(|e| self.fail(e))?;
        let sql = sql_of(physical.as_ref());
        Ok(Expr::new(physical, Field::new(name, data_type, nullable), sql))
    }
}

impl Provider<'_> {
    /// The job's one reading of the clock: what `NOW()` says all along.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.start).unwrap_or_default()
    }
}

/// The same expression with its columns elsewhere.
pub fn remap(e: &Arc<dyn PhysicalExpr>, to: &dyn Fn(usize) -> usize) -> Result<Arc<dyn PhysicalExpr>> {
    substitute(e, &|c| Arc::new(Column::new(c.name(), to(c.index()))))
}

/// The same expression with each column replaced.
pub fn substitute(
    e: &Arc<dyn PhysicalExpr>,
    to: &dyn Fn(&Column) -> Arc<dyn PhysicalExpr>,
) -> Result<Arc<dyn PhysicalExpr>> {
    // Bottom up would meet the columns it has just put in.
    let replaced = e.clone().transform_down(|node| {
        Ok(match node.downcast_ref::<Column>() {
            Some(c) => Transformed::new(to(c), true, datafusion_common::tree_node::TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    });
    replaced.map(|t| t.data).map_err(|e| Error::internal(e.strip_backtrace()))
}

/// The expression as SQL.
pub fn sql_of(e: &dyn PhysicalExpr) -> String {
    struct Sql<'e>(&'e dyn PhysicalExpr);
    impl fmt::Display for Sql<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt_sql(f)
        }
    }
    Sql(e).to_string()
}

/// Whether the expression does more than hand on a column, a field of one, or a constant.
pub fn is_work(e: &dyn PhysicalExpr) -> bool {
    if let Some(f) = e.downcast_ref::<ScalarFunctionExpr>() {
        return f.name() != "get_field" || f.args().iter().any(|a| is_work(a.as_ref()));
    }
    e.downcast_ref::<Column>().is_none() && e.downcast_ref::<datafusion_physical_expr::expressions::Literal>().is_none()
}
