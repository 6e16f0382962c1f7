//! Whole numbers as Flink reads them: INT where they fit.

use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{Expr, ExprSchemable};

/// Gives a literal beside a narrower integer that integer's type or INT: `int_column + 1` stays INT, as in Flink, where
/// DataFusion reads every whole number as BIGINT.
#[derive(Debug)]
pub struct LiteralPlanner;

impl ExprPlanner for LiteralPlanner {
    fn plan_binary_op(&self, mut expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        narrow(&mut expr.left, &expr.right, schema);
        let left = expr.left.clone();
        narrow(&mut expr.right, &left, schema);
        Ok(PlannerResult::Original(expr))
    }
}

fn narrow(literal: &mut Expr, beside: &Expr, schema: &DFSchema) {
    let Expr::Literal(ScalarValue::Int64(Some(value)), metadata) = literal else { return };
    if matches!(beside, Expr::Literal(..)) {
        return;
    }
    let Ok(small) = i32::try_from(*value) else { return };
    if matches!(beside.get_type(schema), Ok(DataType::Int8 | DataType::Int16 | DataType::Int32)) {
        *literal = Expr::Literal(ScalarValue::Int32(Some(small)), metadata.take());
    }
}
