//! Syntax that stands for functions: `EXTRACT(DAY FROM ts)`, `FLOOR(ts TO HOUR)`, `TIMESTAMPDIFF(DAY, a, b)`,
//! `JSON_VALUE(x, '$' RETURNING INT)`.
//!
//! ```text
//!  parsed SQL ──plain_calls──▶ the same with plain calls ──FlinkExprPlanner, during planning──▶ logical expressions
//! ```

use super::FunctionRegistry;
use datafusion_common::Result;
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::{ExprPlanner, PlannerResult};
use datafusion_expr::{Expr, ScalarUDF};
use datafusion_sql::sqlparser::ast::{
    self, CeilFloorKind, DateTimeField, Expr as Sql, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, JsonNullClause, ObjectName,
};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Plans SQL's own syntax for functions with the functions of the dialect. To be asked before DataFusion's planners.
#[derive(Debug)]
pub struct FlinkExprPlanner {
    extract: Arc<ScalarUDF>,
    position: Arc<ScalarUDF>,
    substring: Arc<ScalarUDF>,
    overlay: Arc<ScalarUDF>,
}

impl FlinkExprPlanner {
    /// `None` if `functions` were not made by [`super::register`].
    pub fn new(functions: &FunctionRegistry) -> Option<FlinkExprPlanner> {
        Some(FlinkExprPlanner {
            extract: functions.scalar("extract")?,
            position: functions.scalar("position")?,
            substring: functions.scalar("substring")?,
            overlay: functions.scalar("overlay")?,
        })
    }
}

fn call(function: &Arc<ScalarUDF>, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
    Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(function.clone(), args))))
}

impl ExprPlanner for FlinkExprPlanner {
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        call(&self.extract, args)
    }

    /// The planner hands over the text first and what is sought second.
    fn plan_position(&self, mut args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        args.reverse();
        call(&self.position, args)
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        call(&self.substring, args)
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        call(&self.overlay, args)
    }
}

/// Turns syntax that DataFusion does not plan into plain calls, everywhere in a query or an expression.
pub fn plain_calls<T: ast::VisitMut>(sql: &mut T) {
    let _ = ast::visit_expressions_mut(sql, |expr| {
        plain_call(expr);
        ControlFlow::<()>::Continue(())
    });
}

fn text(value: impl Into<String>) -> Sql {
    Sql::Value(ast::Value::SingleQuotedString(value.into()).into())
}

fn plain_call(expr: &mut Sql) {
    match expr {
        Sql::Floor { expr: of, field: CeilFloorKind::DateTimeField(unit) } if *unit != DateTimeField::NoDateTime => {
            *expr = rounded("floor_to", of, unit);
        }
        Sql::Ceil { expr: of, field: CeilFloorKind::DateTimeField(unit) } if *unit != DateTimeField::NoDateTime => {
            *expr = rounded("ceil_to", of, unit);
        }
        Sql::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            if let FunctionArguments::List(list) = &mut function.args
                && let Some(other) = arguments(&name, list)
            {
                function.name = ObjectName::from(vec![Ident::new(other)]);
            }
        }
        _ => {}
    }
}

fn rounded(name: &str, of: &Sql, unit: &DateTimeField) -> Sql {
    let args = [of.clone(), text(unit.to_string())].map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e)));
    Sql::Function(ast::Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// Brings the arguments of a call into their plain form; answers the new name where the clauses ask for one.
fn arguments(name: &str, list: &mut FunctionArgumentList) -> Option<&'static str> {
    match name {
        "timestampdiff" | "timestampadd" => {
            // The unit is a word, which the parser takes for a column.
            if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(unit))) = list.args.first_mut()
                && let Sql::Identifier(word) = unit
                && word.quote_style.is_none()
            {
                *unit = text(word.value.clone());
            }
            None
        }
        "json_value" => {
            let returning = list.clauses.iter().find_map(|clause| match clause {
                FunctionArgumentClause::JsonReturningClause(returning) => Some(returning.data_type.to_string()),
                _ => None,
            });
            if let Some(returning) = returning {
                list.clauses.retain(|c| !matches!(c, FunctionArgumentClause::JsonReturningClause(_)));
                list.args.insert(2.min(list.args.len()), FunctionArg::Unnamed(FunctionArgExpr::Expr(text(returning))));
            }
            None
        }
        "json_object" | "json_array" => {
            let pairs = std::mem::take(&mut list.args);
            for arg in pairs {
                match arg {
                    FunctionArg::ExprNamed {
                        name,
                        arg,
                        operator: FunctionArgOperator::Value | FunctionArgOperator::Colon,
                    } => {
                        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(name)));
                        list.args.push(FunctionArg::Unnamed(arg));
                    }
                    other => list.args.push(other),
                }
            }
            let on_null = list.clauses.iter().find_map(|clause| match clause {
                FunctionArgumentClause::JsonNullClause(on_null) => Some(on_null.clone()),
                _ => None,
            });
            list.clauses.retain(|c| !matches!(c, FunctionArgumentClause::JsonNullClause(_)));
            match (name, on_null) {
                ("json_object", Some(JsonNullClause::AbsentOnNull)) => Some("json_object_absent_on_null"),
                ("json_array", Some(JsonNullClause::NullOnNull)) => Some("json_array_null_on_null"),
                _ => None,
            }
        }
        _ => None,
    }
}
