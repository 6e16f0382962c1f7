//! Each function by examples: SQL on the left, Flink's text of the result on the right.
//!
//! `check` evaluates an expression as planned, then with every text literal in turn a column of Utf8, LargeUtf8 and Utf8View:
//! a constant and a column must give the same.

mod aggregates;
mod docs;
mod fused;
mod json;
mod nested;
mod numbers;
mod text;
mod time;

use super::planner::{FlinkExprPlanner, plain_calls};
use super::{FlinkCasts, FunctionRegistry, SessionZone, register};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue, TableReference, not_impl_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;
use std::sync::Arc;

/// A session that knows functions and nothing else.
struct Bench {
    functions: FunctionRegistry,
    zone: SessionZone,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

impl Bench {
    fn new(zone: &str) -> Bench {
        let zone: SessionZone = zone.parse().expect("a zone");
        let functions = register(&zone);
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(FlinkExprPlanner::new(&functions).expect("all functions")),
            Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
            Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
        ];
        Bench { functions, zone, planners, options: ConfigOptions::default() }
    }

    /// The expression, with literals of text as columns of type `text` if one is given.
    fn evaluate(&self, sql: &str, text: Option<&DataType>) -> Result<ScalarValue> {
        let mut parsed = Parser::new(&GenericDialect {}).try_with_sql(sql)?.parse_expr()?;
        plain_calls(&mut parsed);
        let options = ParserOptions::new().with_map_string_types_to_utf8view(false);
        let expr = SqlToRel::new_with_options(self, options).sql_to_expr(
            parsed,
            &DFSchema::empty(),
            &mut PlannerContext::new(),
        )?;
        let mut columns: Vec<(Field, ArrayRef)> = Vec::new();
        let expr = match text {
            None => expr,
            Some(text) => {
                let column = |e: Expr| match &e {
                    Expr::Literal(ScalarValue::Utf8(value), _) => {
                        let name = format!("c{}", columns.len());
                        // Two rows, the second NULL: it must not disturb the first.
                        let column = ScalarValue::Utf8(value.clone()).cast_to(text)?;
                        let column = ScalarValue::iter_to_array([column, ScalarValue::try_from(text)?])?;
                        columns.push((Field::new(&name, text.clone(), true), column));
                        Ok(Transformed::yes(Expr::Column(name.into())))
                    }
                    _ => Ok(Transformed::no(e)),
                };
                expr.transform_up(column)?.data
            }
        };
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
        let schema = Arc::new(Schema::new(fields));
        let rows = if arrays.is_empty() { 1 } else { 2 };
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?;
        let physical = self.physical(expr, &schema)?;
        let value = physical.evaluate(&batch)?.into_array(rows)?;
        assert_eq!(value.len(), rows);
        ScalarValue::try_from_array(&value, 0)
    }

    fn physical(&self, expr: Expr, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
        let schema = DFSchema::try_from(schema.clone())?;
        let expr = expr.rewrite(&mut TypeCoercionRewriter::new(&schema))?.data;
        // What the optimizer does; COALESCE and IF become CASE.
        let context = SimplifyContext::default();
        let simplify = |e: Expr| match e {
            Expr::ScalarFunction(f) => match f.func.simplify(f.args.clone(), &context)? {
                ExprSimplifyResult::Simplified(e) => Ok(Transformed::yes(e)),
                ExprSimplifyResult::Original(_) => Ok(Transformed::no(Expr::ScalarFunction(f))),
            },
            e => Ok(Transformed::no(e)),
        };
        let expr = expr.transform_up(simplify)?.data;
        let casts = FlinkCasts { zone: self.zone };
        let expr = expr.transform_up(|e| casts.rewrite(e, &schema, &self.options))?.data;
        expr.get_type(&schema)?;
        let compiled = datafusion_physical_expr::create_physical_expr(
            &expr,
            &schema,
            &ExecutionProps::new(),
            &Default::default(),
        )?;
        millstream_dataflow::floats::compared(compiled, schema.as_arrow())
    }

    /// The value as CAST(x AS STRING) writes it.
    fn text(&self, sql: &str, text: Option<&DataType>) -> String {
        let value = match self.evaluate(sql, text) {
            Ok(value) => value,
            Err(e) => return format!("error: {}", e.strip_backtrace()),
        };
        let array = value.to_array().expect("an array");
        let array = super::cast::to_text(&array, &self.zone).expect("a text");
        super::kernel::Text::of(&array).and_then(|t| t.at(0)).unwrap_or("NULL").to_string()
    }
}

/// `(sql, result)`; a result that begins with `error:` names a part of the message.
fn check_in(zone: &str, examples: &[(&str, &str)]) {
    let bench = Bench::new(zone);
    let mut wrong = Vec::new();
    for (sql, wanted) in examples {
        let types = [None, Some(DataType::Utf8), Some(DataType::LargeUtf8), Some(DataType::Utf8View)];
        for data_type in types {
            let got = bench.text(sql, data_type.as_ref());
            let right = match wanted.strip_prefix("error:") {
                Some(part) => got.starts_with("error:") && got.contains(part.trim()),
                None => got == *wanted,
            };
            // What must be constant, or may not be NULL, can refuse a column whose second row is NULL.
            let refusals = ["must be a constant", "is no text", "key of a MAP is NULL"];
            let refused = data_type.is_some() && refusals.iter().any(|why| got.contains(why));
            if !right && !refused {
                wrong.push(format!("{sql} as {data_type:?}\n    wanted {wanted}\n    got    {got}"));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn check(examples: &[(&str, &str)]) {
    check_in("UTC", examples);
}

/// The types of the results, as TYPEOF names them.
fn check_types(examples: &[(&str, &str)]) {
    let bench = Bench::new("UTC");
    for (sql, wanted) in examples {
        let value = bench.evaluate(sql, None).unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(super::cast::sql_type(&value.data_type()), *wanted, "{sql}");
    }
}

impl ContextProvider for Bench {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        not_impl_err!("there is no table {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar(name)
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(name)
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(name)
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn get_variable_field(&self, _: &[String]) -> Option<FieldRef> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window_names()
    }
}
