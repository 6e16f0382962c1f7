//! Operators whose meaning or type in Flink is another than DataFusion's: comparisons, `/`, `%`, LIKE, SIMILAR TO.
//!
//! ```text
//!  logical plan ──FlinkOperators──▶ the same with Flink's operands ──type coercion──▶ FlinkCasts ──▶ optimizer
//! ```
//!
//! - A DOUBLE and a DECIMAL are compared as DOUBLE. DataFusion would compare them as DECIMAL(30, 15), which holds neither
//!   1e300 nor 2.5e-19.
//! - A DECIMAL divided has as many digits as Flink says: see [`quotient_type`].
//! - ROWs are equal if their fields are, one by one: where one is NULL, and no other differs, it is not known.
//! - FLOAT and DOUBLE that are constants are compared as Java does; of columns, once they are compiled.
//! - A remainder has the type of the divisor.
//! - LIKE knows no escape but that of ESCAPE; SIMILAR TO knows `%` and `_`, and takes the whole text.
//! - FIRST_VALUE and LAST_VALUE leave NULLs out.

use super::floats;
use super::kernel::{Call, Function, Kind};
use super::math::decimals;
use super::zone::SessionZone;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, i256};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion_expr::expr::{Between, Cast, InList, NullTreatment, ScalarFunction, WindowFunction};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::{conjunction, disjunction, merge_schema};
use datafusion_expr::{
    BinaryExpr, Expr, ExprSchemable, Like, LogicalPlan, Operator, ScalarUDF, WindowFunctionDefinition, cast, lit, not,
};
use datafusion_functions::core::expr_fn::get_field;
use datafusion_functions::core::r#struct::StructFunc;
use datafusion_optimizer::AnalyzerRule;
use millstream_dataflow::floats as dataflow_floats;
use std::cell::Cell;
use std::fmt::Write;
use std::sync::Arc;

/// The digits that a DECIMAL may have.
const PRECISION_MAX: u8 = 38;
/// The digits after the point that a quotient has at least.
const QUOTIENT_SCALE_MIN: u8 = 6;

/// Functions that are computed as DOUBLE, whatever number they are given.
const AS_DOUBLE: [&str; 18] = [
    "sin", "cos", "tan", "cot", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "degrees", "radians", "exp",
    "ln", "log2", "log10", "cbrt",
];

/// To be run over a plan before type coercion.
#[derive(Debug)]
pub struct FlinkOperators {
    divide: Arc<ScalarUDF>,
    like: Arc<ScalarUDF>,
    similar: Arc<ScalarUDF>,
}

impl Default for FlinkOperators {
    fn default() -> FlinkOperators {
        use Kind::{Number, Text};
        let udf = |f: Function| f.udf(&SessionZone::UTC);
        FlinkOperators {
            divide: udf(Function::new("divide", &[Number, Number], DataType::Null, divide).returns(quotient)),
            like: udf(Function::new("like_pattern", &[Text, Text], DataType::Utf8, |c| patterns(c, like)).optional(1)),
            similar: udf(
                Function::new("similar_pattern", &[Text, Text], DataType::Utf8, |c| patterns(c, similar)).optional(1)
            ),
        }
    }
}

impl AnalyzerRule for FlinkOperators {
    fn name(&self) -> &str {
        "flink_operators"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        // Once a type has changed, the columns of all plans above it may have.
        let changed = Cell::new(false);
        let over = |plan: LogicalPlan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|e| {
                let name = names.save(&e);
                let e = e.transform_up(|e| self.rewrite(e, &schema))?;
                Ok(e.update_data(|e| name.restore(e)))
            })?;
            changed.set(changed.get() || plan.transformed);
            if changed.get() { plan.map_data(LogicalPlan::recompute_schema) } else { Ok(plan) }
        };
        plan.transform_up_with_subqueries(over).map(|t| t.data)
    }
}

impl FlinkOperators {
    /// One expression, whose parts have been rewritten already.
    pub(super) fn rewrite(&self, e: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        match e {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.binary(*left, op, *right, schema),
            Expr::Between(b) => {
                let mut parts = [*b.expr, *b.low, *b.high];
                let changed = as_doubles(&mut parts, schema)?;
                let [expr, low, high] = parts.map(Box::new);
                Ok(told(Expr::Between(Between { expr, negated: b.negated, low, high }), changed))
            }
            Expr::InList(i) if matches!(i.expr.get_type(schema), Ok(DataType::Struct(_))) => {
                let equal = |item: Expr| self.rows_equal(i.expr.as_ref().clone(), item, schema);
                let any = disjunction(i.list.into_iter().map(equal).collect::<Result<Vec<_>>>()?);
                let any = any.unwrap_or(lit(false));
                Ok(Transformed::yes(if i.negated { not(any) } else { any }))
            }
            Expr::InList(mut i) => {
                let mut parts = vec![*i.expr];
                parts.append(&mut i.list);
                let changed = as_doubles(&mut parts, schema)?;
                let expr = Box::new(parts.remove(0));
                Ok(told(Expr::InList(InList { expr, list: parts, negated: i.negated }), changed))
            }
            Expr::Like(l) if !l.case_insensitive => {
                self.pattern(l, schema, &self.like, like).map(|l| l.update_data(Expr::Like))
            }
            Expr::SimilarTo(l) => {
                self.pattern(l, schema, &self.similar, similar).map(|l| l.update_data(Expr::SimilarTo))
            }
            Expr::ScalarFunction(mut f) if AS_DOUBLE.contains(&f.func.name()) => {
                let mut changed = false;
                for arg in &mut f.args {
                    if matches!(arg.get_type(schema), Ok(DataType::Float32)) {
                        *arg = cast(arg.clone(), DataType::Float64);
                        changed = true;
                    }
                }
                Ok(told(Expr::ScalarFunction(f), changed))
            }
            Expr::ScalarFunction(mut f) if f.func.name() == "mod" && f.args.len() == 2 => {
                // The function has the type of its divisor.
                let small = match &f.args[1] {
                    Expr::Literal(ScalarValue::Int64(Some(v)), _) => i32::try_from(*v).ok(),
                    _ => None,
                };
                let whole = f.args[0].get_type(schema).is_ok_and(|t| t.is_integer());
                let changed = small.filter(|_| whole);
                if let Some(small) = changed {
                    f.args[1] = lit(small);
                }
                Ok(told(Expr::ScalarFunction(f), changed.is_some()))
            }
            Expr::ScalarFunction(f) if f.func.name() == "nullif" && f.args.len() == 2 => {
                let (first, second) = (f.args[0].get_type(schema), f.args[1].get_type(schema));
                let call = Expr::ScalarFunction(f);
                Ok(match (first, second) {
                    // It is the first or NULL: it has the type of the first.
                    (Ok(first), Ok(second)) if first.is_integer() && second.is_integer() && first != second => {
                        Transformed::yes(cast(call, first))
                    }
                    _ => Transformed::no(call),
                })
            }
            Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Float64 => {
                let text = match expr.as_ref() {
                    Expr::Literal(ScalarValue::Utf8(Some(text)), _) => text.parse::<f64>().ok(),
                    _ => None,
                };
                Ok(match text {
                    Some(value) => Transformed::yes(lit(value)),
                    None => Transformed::no(Expr::Cast(Cast { expr, field })),
                })
            }
            Expr::WindowFunction(f) => Ok(without_nulls(f)),
            e => Ok(Transformed::no(e)),
        }
    }

    fn binary(&self, left: Expr, op: Operator, right: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let mut sides = [left, right];
        let mut changed = false;
        if matches!(op, Operator::Eq | Operator::NotEq) && sides.iter().all(|side| is_row(side, schema)) {
            let [left, right] = sides;
            let equal = self.rows_equal(left, right, schema)?;
            return Ok(Transformed::yes(if op == Operator::Eq { equal } else { not(equal) }));
        }
        if is_comparison(op) {
            changed = as_doubles(&mut sides, schema)?;
        }
        if dataflow_floats::is_comparison(op) && sides[0] != sides[1] && constant_floats(&sides, schema) {
            let [left, right] = sides.map(|side| cast(side, DataType::Float64));
            return Ok(Transformed::yes(floats::call(left, op, right)));
        }
        let whole = |sides: [Expr; 2]| {
            let [left, right] = sides.map(Box::new);
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        };
        match (op, exact(&sides[0], schema), exact(&sides[1], schema)) {
            (Operator::Divide, Some(a), Some(b)) if a.is_decimal || b.is_decimal => {
                let [left, right] = sides;
                let args = vec![a.as_decimal(left), b.as_decimal(right)];
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(self.divide.clone(), args))))
            }
            // The remainder is nearer to 0 than the divisor: it always fits.
            (Operator::Modulo, Some(a), Some(b)) if !a.is_decimal && !b.is_decimal && b.precision < a.precision => {
                let to = if b.precision == INT.precision { DataType::Int32 } else { sides[1].get_type(schema)? };
                Ok(Transformed::yes(cast(whole(sides), to)))
            }
            _ => Ok(told(whole(sides), changed)),
        }
    }

    /// `a.x = b.x AND a.y = b.y` for `a = b`.
    fn rows_equal(&self, left: Expr, right: Expr, schema: &DFSchema) -> Result<Expr> {
        let (left, right) = (fields(left, schema)?, fields(right, schema)?);
        if left.len() != right.len() {
            return plan_err!("a ROW of {} fields is compared with one of {}", left.len(), right.len());
        }
        let equal = |(left, right)| self.binary(left, Operator::Eq, right, schema).map(|t| t.data);
        let all = left.into_iter().zip(right).map(equal).collect::<Result<Vec<_>>>()?;
        Ok(conjunction(all).unwrap_or(lit(true)))
    }

    /// LIKE or SIMILAR TO with the pattern in the form that the engine's operator takes.
    fn pattern(
        &self,
        mut l: Like,
        schema: &DFSchema,
        at_run_time: &Arc<ScalarUDF>,
        now: fn(&str, Option<char>, &mut String) -> Result<()>,
    ) -> Result<Transformed<Like>> {
        let escape = l.escape_char.take();
        let constant = match l.pattern.as_ref() {
            Expr::Literal(ScalarValue::Utf8(Some(p)) | ScalarValue::Utf8View(Some(p)), _) => Some(p.clone()),
            _ => None,
        };
        let pattern = match constant {
            Some(sql) => {
                let mut pattern = String::new();
                now(&sql, escape, &mut pattern)?;
                if pattern == sql && escape.is_none() {
                    return Ok(Transformed::no(l));
                }
                lit(pattern)
            }
            None if l.pattern.get_type(schema).is_ok_and(|t| t.is_null()) => return Ok(Transformed::no(l)),
            None => {
                let mut args = vec![l.pattern.as_ref().clone()];
                args.extend(escape.map(|e| lit(e.to_string())));
                Expr::ScalarFunction(ScalarFunction::new_udf(at_run_time.clone(), args))
            }
        };
        l.pattern = Box::new(pattern);
        Ok(Transformed::yes(l))
    }
}

fn is_row(e: &Expr, schema: &DFSchema) -> bool {
    matches!(e.get_type(schema), Ok(DataType::Struct(_)))
}

/// The fields of a ROW, as they were written where it is made here.
fn fields(row: Expr, schema: &DFSchema) -> Result<Vec<Expr>> {
    match row {
        Expr::ScalarFunction(f) if f.func.inner().is::<StructFunc>() => Ok(f.args),
        row => match row.get_type(schema)? {
            DataType::Struct(fields) => {
                Ok(fields.iter().map(|field| get_field(row.clone(), field.name().as_str())).collect())
            }
            other => plan_err!("a ROW is compared with a value of type {other}"),
        },
    }
}

fn constant_floats(sides: &[Expr; 2], schema: &DFSchema) -> bool {
    let numbers = sides.iter().map(|side| side.get_type(schema).ok().filter(DataType::is_numeric));
    let types: Vec<DataType> = numbers.flatten().collect();
    types.len() == 2 && types.iter().any(DataType::is_floating) && sides.iter().all(floats::is_constant)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn told<T>(data: T, changed: bool) -> Transformed<T> {
    if changed { Transformed::yes(data) } else { Transformed::no(data) }
}

/// FIRST_VALUE and LAST_VALUE OVER: the first and the last that are not NULL.
fn without_nulls(mut f: Box<WindowFunction>) -> Transformed<Expr> {
    let end = match &f.fun {
        WindowFunctionDefinition::WindowUDF(udf) => matches!(udf.name(), "first_value" | "last_value"),
        WindowFunctionDefinition::AggregateUDF(_) => false,
    };
    let changed = end && f.params.null_treatment.is_none();
    if changed {
        f.params.null_treatment = Some(NullTreatment::IgnoreNulls);
    }
    told(Expr::WindowFunction(f), changed)
}

/// Makes DOUBLEs of the DECIMALs if they stand beside floating-point numbers.
fn as_doubles(parts: &mut [Expr], schema: &DFSchema) -> Result<bool> {
    let types: Vec<DataType> = parts.iter().filter_map(|e| e.get_type(schema).ok()).collect();
    let decimal = |t: &DataType| matches!(t, DataType::Decimal128(..) | DataType::Decimal256(..));
    if types.len() != parts.len() || !types.iter().any(DataType::is_floating) || !types.iter().any(decimal) {
        return Ok(false);
    }
    for (part, data_type) in parts.iter_mut().zip(&types) {
        if !decimal(data_type) {
            continue;
        }
        *part = match &*part {
            // By its digits: to divide by a power of ten could miss the nearest DOUBLE.
            Expr::Literal(ScalarValue::Decimal128(Some(v), precision, scale), _) => {
                match Decimal128Type::format_decimal(*v, *precision, *scale).parse::<f64>() {
                    Ok(value) => lit(value),
                    Err(e) => return internal_err!("a DECIMAL is not written as a number: {e}"),
                }
            }
            part => cast(part.clone(), DataType::Float64),
        };
    }
    Ok(true)
}

/// The digits of an exact number.
#[derive(Debug, Clone, Copy)]
struct Exact {
    precision: u8,
    is_decimal: bool,
}

const INT: Exact = Exact { precision: 10, is_decimal: false };

impl Exact {
    fn as_decimal(self, e: Expr) -> Expr {
        if self.is_decimal {
            return e;
        }
        match e {
            Expr::Literal(ScalarValue::Int64(Some(v)), _) => {
                lit(ScalarValue::Decimal128(Some(i128::from(v)), self.precision, 0))
            }
            e => cast(e, DataType::Decimal128(self.precision, 0)),
        }
    }
}

fn exact(e: &Expr, schema: &DFSchema) -> Option<Exact> {
    let integer = |precision| Some(Exact { precision, is_decimal: false });
    match e {
        // To Flink a whole number in the text is an INT where it fits.
        Expr::Literal(ScalarValue::Int64(Some(v)), _) if i32::try_from(*v).is_ok() => return Some(INT),
        _ => {}
    }
    match e.get_type(schema).ok()? {
        DataType::Int8 => integer(3),
        DataType::Int16 => integer(5),
        DataType::Int32 => Some(INT),
        DataType::Int64 => integer(19),
        DataType::Decimal128(precision, scale) if scale >= 0 => Some(Exact { precision, is_decimal: true }),
        _ => None,
    }
}

/// Flink's type of a DECIMAL quotient: scale max(6, s1 + p2 + 1), with all digits before the point that there can be. Past
/// 38 digits those after the point make room, down to 6.
fn quotient_type(p1: u8, s1: u8, p2: u8, s2: u8) -> (u8, u8) {
    let scale = QUOTIENT_SCALE_MIN.max(s1 + p2 + 1);
    let whole = p1 - s1 + s2;
    if whole + scale <= PRECISION_MAX {
        return (whole + scale, scale);
    }
    (PRECISION_MAX, PRECISION_MAX.saturating_sub(whole).max(QUOTIENT_SCALE_MIN.min(scale)))
}

fn quotient(types: &[DataType]) -> Result<DataType> {
    match types {
        [DataType::Decimal128(p1, s1), DataType::Decimal128(p2, s2)] if *s1 >= 0 && *s2 >= 0 => {
            let (precision, scale) = quotient_type(*p1, *s1 as u8, *p2, *s2 as u8);
            Ok(DataType::Decimal128(precision, scale as i8))
        }
        _ => plan_err!("a quotient of two DECIMALs"),
    }
}

/// a / b, rounded half away from zero.
fn divide(c: &Call) -> Result<ArrayRef> {
    let (a, b) = (c.whole(0)?, c.whole(1)?);
    let (DataType::Decimal128(_, s1), DataType::Decimal128(_, s2), DataType::Decimal128(_, scale)) =
        (a.data_type(), b.data_type(), c.returns)
    else {
        return plan_err!("a quotient of two DECIMALs");
    };
    let digits = i32::from(*scale) + i32::from(*s2) - i32::from(*s1);
    let (up, down) = (power(digits), power(-digits));
    let (a, b) = (a.as_primitive::<Decimal128Type>(), b.as_primitive::<Decimal128Type>());
    let made = arrow::compute::try_binary::<_, _, _, Decimal128Type>(a, b, |a, b| {
        let fits = |v: Option<i128>| {
            v.ok_or_else(|| {
                arrow::error::ArrowError::ComputeError(
                    "the quotient of two DECIMALs does not fit; CAST one of them to DOUBLE".to_string(),
                )
            })
        };
        if b == 0 {
            return Err(arrow::error::ArrowError::DivideByZero);
        }
        // Most fit 128 bits on the way.
        let short = up.to_i128().and_then(|up| a.checked_mul(up)).zip(down.to_i128().and_then(|d| b.checked_mul(d)));
        if let Some((a, b)) = short {
            return fits(half_up(a.checked_div(b), a.checked_rem(b), b));
        }
        let (a, b) = (i256::from_i128(a).checked_mul(up), i256::from_i128(b).checked_mul(down));
        let (Some(a), Some(b)) = (a, b) else { return fits(None) };
        let (whole, rest) = (a.wrapping_div(b), a.wrapping_rem(b));
        let away = rest.wrapping_abs() >= b.wrapping_abs().wrapping_sub(rest.wrapping_abs());
        let step = if !away {
            0
        } else if a.is_negative() == b.is_negative() {
            1
        } else {
            -1
        };
        fits(whole.checked_add(i256::from_i128(step)).and_then(|v| v.to_i128()))
    })?;
    decimals(made, c.returns)
}

/// 10 to a power; to one below 0: 1.
fn power(digits: i32) -> i256 {
    // 76 digits are all that there can be: 38 of the scale and 38 of the divisor's.
    i256::from_i128(10).wrapping_pow(digits.clamp(0, 76) as u32)
}

fn half_up(whole: Option<i128>, rest: Option<i128>, by: i128) -> Option<i128> {
    let (whole, rest) = (whole?, rest?);
    let away = rest.unsigned_abs() >= by.unsigned_abs() - rest.unsigned_abs();
    whole.checked_add(if away { rest.signum() * by.signum() } else { 0 })
}

/// Patterns that are not constant, row by row.
fn patterns(c: &Call, write: fn(&str, Option<char>, &mut String) -> Result<()>) -> Result<ArrayRef> {
    let (pattern, escape) = (c.text(0)?, c.optional_text(1)?);
    c.make_text(|row, out| {
        let Some(pattern) = pattern.at(row) else { return Ok(None) };
        let escape = escape.as_ref().and_then(|e| e.at(row)).and_then(|e| e.chars().next());
        write(pattern, escape, out).map(Some)
    })
}

/// The character behind an escape.
fn escaped(pattern: &str, next: Option<char>, escape: char, may_be: &str) -> Result<char> {
    match next {
        Some(c) if c == escape || may_be.contains(c) => Ok(c),
        _ => exec_err!(
            "the pattern '{pattern}' has the escape '{escape}' before no special character; write it twice if it is meant itself"
        ),
    }
}

/// SQL's pattern for LIKE as Arrow's, where a backslash always escapes.
fn like(pattern: &str, escape: Option<char>, out: &mut String) -> Result<()> {
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        if Some(c) == escape {
            out.push('\\');
            out.push(escaped(pattern, rest.next(), c, "%_")?);
        } else {
            out.push_str(if c == '\\' { "\\" } else { "" });
            out.push(c);
        }
    }
    Ok(())
}

/// SQL's pattern for SIMILAR TO as a regular expression for the whole text.
fn similar(pattern: &str, escape: Option<char>, out: &mut String) -> Result<()> {
    const SPECIAL: &str = "%_[]()|^-+*?{}";
    out.push_str("^(?s:");
    let mut rest = pattern.chars().peekable();
    let mut in_set = false;
    while let Some(c) = rest.next() {
        if Some(c) == escape {
            out.push('\\');
            out.push(escaped(pattern, rest.next(), c, SPECIAL)?);
            continue;
        }
        match c {
            '%' if !in_set => out.push_str(".*"),
            '_' if !in_set => out.push('.'),
            '[' if in_set && rest.peek() == Some(&':') => {
                // [:ALPHA:] and its kind.
                out.push('[');
                for c in rest.by_ref() {
                    out.extend(c.to_lowercase());
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' if !in_set => {
                in_set = true;
                out.push('[');
            }
            ']' if in_set => {
                in_set = false;
                out.push(']');
            }
            '^' if in_set => out.push('^'),
            '.' | '\\' | '$' | '^' | '[' | '&' | '~' => {
                let _ = write!(out, "\\{c}");
            }
            c => out.push(c),
        }
    }
    out.push_str(")$");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(write: fn(&str, Option<char>, &mut String) -> Result<()>, pattern: &str, escape: Option<char>) -> String {
        let mut out = String::new();
        match write(pattern, escape, &mut out) {
            Ok(()) => out,
            Err(e) => format!("error: {}", e.strip_backtrace()),
        }
    }

    #[test]
    fn patterns_escape_where_they_are_told_to() {
        assert_eq!(made(like, r"a\b%", None), r"a\\b%");
        assert_eq!(made(like, "a!_b!!", Some('!')), r"a\_b\!");
        assert!(made(like, "a!b", Some('!')).starts_with("error: "));
        assert!(made(like, "a!", Some('!')).starts_with("error: "));
        assert_eq!(made(similar, "%(World|me)%", None), "^(?s:.*(World|me).*)$");
        assert_eq!(made(similar, "a.b_[%_x-z]$", None), r"^(?s:a\.b.[%_x-z]\$)$");
        assert_eq!(made(similar, "[[:DIGIT:]]+!%", Some('!')), r"^(?s:[[:digit:]]+\%)$");
    }

    /// Flink's own, from its documentation and its answers.
    #[test]
    fn a_quotient_has_flinks_digits() {
        assert_eq!(quotient_type(10, 3, 6, 2), (19, 10));
        assert_eq!(quotient_type(10, 3, 10, 0), (21, 14));
        assert_eq!(quotient_type(10, 0, 10, 3), (24, 11));
        assert_eq!(quotient_type(38, 10, 38, 10), (38, 6));
    }

    #[test]
    fn a_quotient_is_rounded_away_from_zero_at_the_half() {
        for (a, b, wanted) in [(1, 2, 1), (-1, 2, -1), (1, -2, -1), (1, 3, 0), (-2, 3, -1), (7, 2, 4)] {
            assert_eq!(half_up(Some(a / b), Some(a % b), b), Some(wanted), "{a} / {b}");
        }
    }
}
