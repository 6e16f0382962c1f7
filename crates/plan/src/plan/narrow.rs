//! Where Flink has INT for a column and DataFusion BIGINT.
//!
//! Flink reads whole numbers in the text as INT, and what is computed from INT alone stays INT: `ARRAY[1]` fits a column
//! of ARRAY<INT>, `SUM(1)` one of INT. DataFusion reads them as BIGINT. So the column may go where Flink's would; a value
//! that does not fit fails at run time.

use super::emit::EmitNode;
use super::types::fits;
use arrow::datatypes::{DataType, Field};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::GroupingSet;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan, WindowFunctionDefinition};

/// Whether this column of the query may go into a column of type `to`, as Flink types it.
pub fn fits_in_flink(plan: &LogicalPlan, column: usize, to: &DataType) -> bool {
    match plan {
        LogicalPlan::Projection(p) => p.expr.get(column).is_some_and(|e| fits_expr(e, &p.input, to)),
        LogicalPlan::Values(v) => v.values.iter().all(|row| row.get(column).is_some_and(|e| fits_expr(e, plan, to))),
        LogicalPlan::SubqueryAlias(a) => fits_in_flink(&a.input, column, to),
        LogicalPlan::Filter(f) => fits_in_flink(&f.input, column, to),
        LogicalPlan::Limit(l) => fits_in_flink(&l.input, column, to),
        LogicalPlan::Sort(s) => fits_in_flink(&s.input, column, to),
        LogicalPlan::Distinct(datafusion_expr::Distinct::All(input)) => fits_in_flink(input, column, to),
        LogicalPlan::Extension(e) if e.node.as_any().is::<EmitNode>() => {
            e.node.inputs().first().is_some_and(|input| fits_in_flink(input, column, to))
        }
        LogicalPlan::Union(u) => u.inputs.iter().all(|input| fits_in_flink(input, column, to)),
        LogicalPlan::Aggregate(a) => {
            if a.group_expr.iter().any(|e| {
                matches!(
                    e,
                    Expr::GroupingSet(GroupingSet::Rollup(_) | GroupingSet::Cube(_) | GroupingSet::GroupingSets(_))
                )
            }) {
                return false;
            }
            let e = a.group_expr.iter().chain(&a.aggr_expr).nth(column);
            e.is_some_and(|e| fits_expr(e, &a.input, to))
        }
        LogicalPlan::Window(w) => {
            let given = w.input.schema().fields().len();
            match column.checked_sub(given) {
                None => fits_in_flink(&w.input, column, to),
                Some(call) => w.window_expr.get(call).is_some_and(|e| fits_expr(e, &w.input, to)),
            }
        }
        plan => plan.schema().fields().get(column).is_some_and(|f| fits(f.data_type(), to)),
    }
}

fn fits_expr(e: &Expr, input: &LogicalPlan, to: &DataType) -> bool {
    let schema: &DFSchema = input.schema();
    match e {
        Expr::Alias(a) => fits_expr(&a.expr, input, to),
        Expr::Column(c) => schema.index_of_column(c).is_ok_and(|i| fits_in_flink(input, i, to)),
        Expr::Literal(v, _) if v.is_null() => true,
        _ if e.get_type(schema).is_ok_and(|found| fits(&found, to)) => true,
        // What was made INT in all rows, or BIGINT of INT beside another column.
        Expr::Cast(c) => is_long(c.field.data_type()) && fits_expr(&c.expr, input, to),
        Expr::ScalarFunction(f) => match (f.name(), to) {
            ("make_array", DataType::List(item)) => f.args.iter().all(|a| fits_expr(a, input, item.data_type())),
            (
                "array_union" | "array_except" | "array_intersect" | "array_concat" | "array_distinct",
                DataType::List(_),
            ) => f.args.iter().all(|a| fits_expr(a, input, to)),
            ("element", to) => {
                let list = DataType::List(Field::new("item", to.clone(), true).into());
                f.args.iter().all(|a| fits_expr(a, input, &list))
            }
            ("struct", DataType::Struct(fields)) => {
                f.args.len() == fields.len()
                    && f.args.iter().zip(fields).all(|(a, field)| fits_expr(a, input, field.data_type()))
            }
            ("map", DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(entry) => {
                    let lists =
                        entry.iter().map(|e| DataType::List(Field::new("item", e.data_type().clone(), true).into()));
                    f.args.iter().zip(lists).all(|(a, list)| fits_expr(a, input, &list))
                }
                _ => false,
            },
            (name, to) if is_integer(to) => match name {
                "coalesce" | "nullif" | "abs" | "greatest" | "least" | "mod" | "nvl" | "ifnull" => {
                    f.args.iter().all(|a| fits_expr(a, input, to))
                }
                "if" => f.args.iter().skip(1).all(|a| fits_expr(a, input, to)),
                _ => false,
            },
            _ => false,
        },
        _ if !is_integer(to) => false,
        Expr::Literal(ScalarValue::Int64(Some(v)), _) => i32::try_from(*v).is_ok(),
        Expr::Negative(e) => fits_expr(e, input, to),
        Expr::BinaryExpr(b) => {
            b.op.is_numerical_operators() && fits_expr(&b.left, input, to) && fits_expr(&b.right, input, to)
        }
        Expr::Case(c) => {
            c.when_then_expr.iter().all(|(_, then)| fits_expr(then, input, to))
                && c.else_expr.as_deref().is_none_or(|e| fits_expr(e, input, to))
        }
        Expr::AggregateFunction(f) => keeps(f.func.name()) && f.params.args.iter().all(|a| fits_expr(a, input, to)),
        Expr::WindowFunction(f) => {
            let name = match &f.fun {
                WindowFunctionDefinition::AggregateUDF(f) => f.name(),
                WindowFunctionDefinition::WindowUDF(f) => f.name(),
            };
            keeps(name) && f.params.args.first().is_some_and(|a| fits_expr(a, input, to))
        }
        _ => false,
    }
}

/// Aggregates whose result has the type of what they are given.
fn keeps(name: &str) -> bool {
    matches!(name, "sum" | "avg" | "min" | "max" | "first_value" | "last_value" | "lag")
}

fn is_long(t: &DataType) -> bool {
    match t {
        DataType::List(item) => is_long(item.data_type()),
        t => *t == DataType::Int64,
    }
}

fn is_integer(t: &DataType) -> bool {
    matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32)
}
