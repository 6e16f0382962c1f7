//! Syntax that stands for functions: `EXTRACT(DAY FROM ts)`, `FLOOR(ts TO HOUR)`, `TIMESTAMPDIFF(DAY, a, b)`,
//! `JSON_VALUE(x, '$' RETURNING INT)`.
//!
//! ```text
//!  parsed SQL ──plain_calls──▶ the same with plain calls ──FlinkExprPlanner, during planning──▶ logical expressions
//! ```

use super::FunctionRegistry;
use super::interval::interval_times;
use crate::parse::types::parse_text;
use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{Expr, ExprSchemable, ScalarUDF};
use datafusion_sql::sqlparser::ast::{
    self, CastKind, CeilFloorKind, DateTimeField, Expr as Sql, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, JsonNullClause, ObjectName, Spanned,
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
    times: Arc<ScalarUDF>,
}

impl FlinkExprPlanner {
    /// `None` if `functions` were not made by [`super::register`].
    pub fn new(functions: &FunctionRegistry) -> Option<FlinkExprPlanner> {
        Some(FlinkExprPlanner {
            extract: functions.scalar("extract")?,
            position: functions.scalar("position")?,
            substring: functions.scalar("substring")?,
            overlay: functions.scalar("overlay")?,
            times: Arc::new(interval_times()),
        })
    }
}

fn call(function: &Arc<ScalarUDF>, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
    Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(function.clone(), args))))
}

impl ExprPlanner for FlinkExprPlanner {
    /// `n * INTERVAL '1' SECOND`, which DataFusion gives no type.
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op != ast::BinaryOperator::Multiply {
            return Ok(PlannerResult::Original(expr));
        }
        let is = |e: &Expr, of: fn(&DataType) -> bool| e.get_type(schema).is_ok_and(|t| of(&t));
        let interval = |e: &Expr| is(e, |t| matches!(t, DataType::Interval(_)));
        let whole = |e: &Expr| is(e, DataType::is_integer);
        let args = match (&expr.left, &expr.right) {
            (left, right) if interval(left) && whole(right) => vec![expr.left, expr.right],
            (left, right) if whole(left) && interval(right) => vec![expr.right, expr.left],
            _ => return Ok(PlannerResult::Original(expr)),
        };
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(self.times.clone(), args))))
    }

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
        // A number with an exponent is a DOUBLE; DataFusion would read a DECIMAL.
        Sql::Value(value) => {
            if let ast::Value::Number(digits, _) = &value.value
                && digits.contains(['e', 'E'])
            {
                *expr = Sql::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(text(digits.clone())),
                    data_type: ast::DataType::Double(ast::ExactNumberInfo::None),
                    array: false,
                    format: None,
                };
            }
        }
        // The type's values have milliseconds; those that are not asked for are cut off.
        Sql::Cast { data_type, .. } if whole_seconds(data_type) => {
            let at = expr.span();
            *expr = plain(Ident::with_span(at, "floor_to"), vec![expr.clone(), text("SECOND")]);
        }
        Sql::Cast { data_type, .. } => {
            if let Some((fill, length)) = length(data_type) {
                let (at, count) = (expr.span(), |n: i32| Sql::Value(ast::Value::Number(n.to_string(), false).into()));
                *expr = match fill {
                    true => plain(Ident::with_span(at, "rpad"), vec![expr.clone(), count(length), text(" ")]),
                    false => plain(Ident::with_span(at, "substring"), vec![expr.clone(), count(1), count(length)]),
                };
            }
        }
        Sql::Interval(interval) => {
            if let Some(written) = interval.last_field.clone().and_then(|last| fields_of(interval, &last)) {
                *interval.value = text(written);
                (interval.leading_field, interval.last_field) = (None, None);
                (interval.leading_precision, interval.fractional_seconds_precision) = (None, None);
            }
        }
        Sql::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            if let Some(or) = default_of_lag(&name, function) {
                *expr = or;
                return;
            }
            if name == "typeof" {
                literal_is_int(function);
            }
            if name == "grouping_id" {
                function.name = ObjectName::from(vec![Ident::with_span(function.name.span(), "grouping")]);
            }
            if let FunctionArguments::List(list) = &mut function.args
                && let Some(other) = arguments(&name, list)
            {
                function.name = ObjectName::from(vec![Ident::with_span(function.name.span(), other)]);
            }
        }
        _ => {}
    }
}

/// A whole number in the text is an INT where it fits, and DataFusion reads a BIGINT.
fn literal_is_int(function: &mut ast::Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))) = list.args.first_mut() else { return };
    let (sign, digits) = match &*arg {
        Sql::UnaryOp { op: ast::UnaryOperator::Minus, expr } => ("-", expr.as_ref()),
        other => ("", other),
    };
    let Sql::Value(ast::ValueWithSpan { value: ast::Value::Number(digits, _), .. }) = digits else { return };
    if format!("{sign}{digits}").parse::<i32>().is_ok() {
        *arg = Sql::Cast {
            kind: CastKind::Cast,
            expr: Box::new(arg.clone()),
            data_type: ast::DataType::Int(None),
            array: false,
            format: None,
        };
    }
}

/// `LAG(x, n, d) OVER w` is `d` in the first rows, and `LAG(x, n) OVER w` in the others.
fn default_of_lag(name: &str, function: &mut ast::Function) -> Option<Sql> {
    let FunctionArguments::List(list) = &mut function.args else { return None };
    if name != "lag" || function.over.is_none() || list.args.len() != 3 {
        return None;
    }
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(default))) = list.args.pop() else { return None };
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(offset)) = list.args[1].clone() else { return None };
    let mut number = function.clone();
    number.name = ObjectName::from(vec![Ident::with_span(function.name.span(), "row_number")]);
    number.null_treatment = None;
    if let FunctionArguments::List(list) = &mut number.args {
        list.args.clear();
    }
    let first =
        Sql::BinaryOp { left: Box::new(Sql::Function(number)), op: ast::BinaryOperator::LtEq, right: Box::new(offset) };
    Some(Sql::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![ast::CaseWhen { condition: first, result: default }],
        else_result: Some(Box::new(Sql::Function(function.clone()))),
    })
}

/// `'1 02:03' DAY TO MINUTE` as `1 DAY 2 HOUR 3 MINUTE`; `None` where it does not have these fields.
fn fields_of(interval: &ast::Interval, last: &DateTimeField) -> Option<String> {
    let Sql::Value(value) = interval.value.as_ref() else { return None };
    let ast::Value::SingleQuotedString(written) = &value.value else { return None };
    let units: [(&str, &[DateTimeField]); 6] = [
        ("YEAR", &[DateTimeField::Year, DateTimeField::Years]),
        ("MONTH", &[DateTimeField::Month, DateTimeField::Months]),
        ("DAY", &[DateTimeField::Day, DateTimeField::Days]),
        ("HOUR", &[DateTimeField::Hour, DateTimeField::Hours]),
        ("MINUTE", &[DateTimeField::Minute, DateTimeField::Minutes]),
        ("SECOND", &[DateTimeField::Second, DateTimeField::Seconds]),
    ];
    let unit = |field: &DateTimeField| units.iter().position(|(_, names)| names.contains(field));
    let (from, to) = (unit(interval.leading_field.as_ref()?)?, unit(last)?);
    let written = written.trim();
    let (sign, digits) = match written.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", written.strip_prefix('+').unwrap_or(written)),
    };
    let parts: Vec<&str> = digits.split([' ', ':', '-']).collect();
    let numbers = parts.iter().all(|p| p.starts_with(|c: char| c.is_ascii_digit()) && p.parse::<f64>().is_ok());
    if from > to || parts.len() != to - from + 1 || !numbers {
        return None;
    }
    let fields = parts.iter().zip(&units[from..]).map(|(part, (name, _))| format!("{sign}{part} {name}"));
    Some(fields.collect::<Vec<_>>().join(" "))
}

/// TIMESTAMP(0) or TIMESTAMP_LTZ(0).
fn whole_seconds(data_type: &ast::DataType) -> bool {
    let written = data_type.to_string();
    written.contains("(0)")
        && parse_text(&written).is_ok_and(|t| matches!(t.text.as_str(), "TIMESTAMP(0)" | "TIMESTAMP_LTZ(0)"))
}

/// The length of CHAR(n), which is filled up to it, or of VARCHAR(n), where one is given.
fn length(data_type: &ast::DataType) -> Option<(bool, i32)> {
    let written = data_type.to_string();
    if !written.ends_with(')') {
        return None;
    }
    // In the one form that a type has when it is written in full.
    let full = parse_text(&written).ok()?.text;
    let (name, length) = full.strip_suffix(')')?.split_once('(')?;
    let fill = match name {
        "CHAR" => true,
        "VARCHAR" => false,
        _ => return None,
    };
    length.parse().ok().filter(|n| *n < i32::MAX).map(|n| (fill, n))
}

/// An argument that is TRUE or FALSE.
fn flag(arg: &FunctionArg) -> Option<bool> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Sql::Value(value))) => match value.value {
            ast::Value::Boolean(flag) => Some(flag),
            _ => None,
        },
        _ => None,
    }
}

fn rounded(name: &str, of: &Sql, unit: &DateTimeField) -> Sql {
    // The name stands where the value does: errors say where.
    let name = Ident::with_span(of.span(), name);
    plain(name, [of.clone(), text(unit.to_string())].into())
}

/// A call without clauses.
fn plain(name: Ident, args: Vec<Sql>) -> Sql {
    let args: Vec<_> = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Sql::Function(ast::Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
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
        // ARRAY_SORT(array, ascending[, nulls first]): NULLs stand in front if it goes up, and behind if it goes down.
        "array_sort" => {
            let flags: Option<Vec<bool>> = list.args.iter().skip(1).map(flag).collect();
            if let Some([ascending, rest @ ..]) = flags.as_deref() {
                let nulls_first = rest.first().unwrap_or(ascending);
                let words =
                    [if *ascending { "ASC" } else { "DESC" }, if *nulls_first { "NULLS FIRST" } else { "NULLS LAST" }];
                list.args.truncate(1);
                list.args.extend(words.map(|word| FunctionArg::Unnamed(FunctionArgExpr::Expr(text(word)))));
            }
            None
        }
        // To the last item, if no end is given.
        "array_slice" => {
            if list.args.len() == 2 {
                let last = Sql::Value(ast::Value::Number("1".into(), false).into());
                let last = Sql::UnaryOp { op: ast::UnaryOperator::Minus, expr: Box::new(last) };
                list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(last)));
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
                    // The dialect's parser takes `'a' VALUE 1` for an argument whose name stands in quotes.
                    FunctionArg::Named {
                        name,
                        arg,
                        operator: FunctionArgOperator::Value | FunctionArgOperator::Colon,
                    } => {
                        let name = match name.quote_style {
                            Some('\'') => text(name.value),
                            _ => Sql::Identifier(name),
                        };
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
