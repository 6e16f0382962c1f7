//! Comparisons of floating-point numbers as calls, where no compiled expression can be put in their place
//! ([`millstream_dataflow::floats`] says what they mean): between constants, which the optimizer computes by itself, and
//! in batch mode, where DataFusion compiles.

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, internal_err};
use datafusion_expr::expr::{InList, ScalarFunction};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::{disjunction, merge_schema};
use datafusion_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use millstream_dataflow::floats::{compare, is_comparison};
use std::sync::Arc;

/// `left op right`, as a function of both.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Comparison {
    op: Operator,
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Comparison {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [left, right] => compare(self.op, left, right),
            other => internal_err!("a comparison of {} values", other.len()),
        }
    }
}

fn is_float(e: &Expr, schema: &DFSchema) -> bool {
    matches!(e.get_type(schema), Ok(DataType::Float32 | DataType::Float64))
}

/// The comparison as a call. Both sides are of one floating-point type.
pub(super) fn call(left: Expr, op: Operator, right: Expr) -> Expr {
    let signature = Signature::any(2, Volatility::Immutable);
    let comparison = Comparison { op, name: format!("compare {op}"), signature };
    let function = Arc::new(ScalarUDF::new_from_impl(comparison));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![left, right]))
}

/// Whether the value is known when a query is planned.
pub(super) fn is_constant(e: &Expr) -> bool {
    let known = e.exists(|e| {
        Ok(!match e {
            Expr::Literal(..) | Expr::Cast(_) | Expr::TryCast(_) | Expr::BinaryExpr(_) | Expr::Negative(_) => true,
            Expr::ScalarFunction(f) => f.func.signature().volatility == Volatility::Immutable,
            _ => false,
        })
    });
    known.is_ok_and(|unknown| !unknown)
}

/// A plan whose comparisons of floating-point numbers are calls. Types must have been settled; keys of joins stay keys.
///
/// # Errors
/// A plan that does not fit together, which is our mistake.
pub fn compare_floats(plan: LogicalPlan) -> Result<LogicalPlan> {
    let over = |plan: LogicalPlan| {
        let schema = merge_schema(&plan.inputs());
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|e| {
            let name = names.save(&e);
            let e = e.transform_up(|e| Ok(compared(e, &schema)))?;
            Ok(e.update_data(|e| name.restore(e)))
        })
    };
    plan.transform_up_with_subqueries(over).map(|t| t.data)
}

fn compared(e: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match e {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if is_comparison(op) && left != right && is_float(&left, schema) && is_float(&right, schema) =>
        {
            Transformed::yes(call(*left, op, *right))
        }
        Expr::InList(InList { expr, list, negated }) if is_float(&expr, schema) => {
            let equal = |item: Expr| match *expr == item {
                true => item.clone().eq(item),
                false => call(expr.as_ref().clone(), Operator::Eq, item),
            };
            let any = disjunction(list.into_iter().map(equal)).unwrap_or(lit(false));
            Transformed::yes(if negated { Expr::Not(Box::new(any)) } else { any })
        }
        e => Transformed::no(e),
    }
}
