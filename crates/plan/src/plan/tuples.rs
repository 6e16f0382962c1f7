//! `(a, b) IN (SELECT c, d ..)`: rows compared as a whole.
//!
//! ```text
//!  WHERE (a, b) IN (q)       EXISTS (SELECT 1 FROM (q) AS q (c0, c1) WHERE a = c0 AND b = c1)
//!  WHERE (a, b) NOT IN (q)   NOT EXISTS (.. WHERE (a = c0 AND b = c1) IS NOT FALSE)
//!  elsewhere                 CASE WHEN EXISTS (..) THEN TRUE WHEN EXISTS (.. IS NOT FALSE) THEN NULL ELSE FALSE END
//! ```
//!
//! DataFusion's IN takes one column.
//!
//! `(a, b) OVERLAPS (c, d)`, where `b` and `d` are ends or lengths: both spans, whichever way they run, and their ends belong to them.

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, ObjectName, Query, SetExpr, Statement, TableAlias, TableAliasColumnDef, TableFactor, Value,
    helpers::attached_token::AttachedToken,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;

/// Of what stands for itself in WHERE.
pub fn in_condition(e: &mut Expr) {
    match e {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            in_condition(left);
            in_condition(right);
        }
        Expr::Nested(e) => in_condition(e),
        Expr::InSubquery { expr, subquery, negated } => {
            if let Some(columns) = tuple(expr) {
                *e = exists(columns, subquery, *negated, *negated);
            }
        }
        _ => {}
    }
}

/// Of what stands anywhere else.
pub fn in_value(e: &mut Expr) {
    let Expr::InSubquery { expr, subquery, negated } = e else { return };
    let Some(columns) = tuple(expr) else { return };
    let boolean = |value: bool| Expr::value(Value::Boolean(value));
    let branch = |condition: Expr, result: Expr| CaseWhen { condition, result };
    *e = Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![
            branch(exists(columns, subquery, false, false), boolean(!*negated)),
            branch(exists(columns, subquery, false, true), Expr::value(Value::Null)),
        ],
        else_result: Some(Box::new(boolean(*negated))),
    };
}

/// Turns `OVERLAPS` into comparisons.
pub fn overlaps(e: &mut Expr) {
    let Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } = e else { return };
    let (Some(left), Some(right)) = (tuple(left).and_then(span), tuple(right).and_then(span)) else { return };
    let reaches = |end: &Expr, start: &Expr| Expr::BinaryOp {
        left: Box::new(end.clone()),
        op: BinaryOperator::GtEq,
        right: Box::new(start.clone()),
    };
    *e = Expr::Nested(Box::new(Expr::BinaryOp {
        left: Box::new(reaches(&left.1, &right.0)),
        op: BinaryOperator::And,
        right: Box::new(reaches(&right.1, &left.0)),
    }));
}

/// The earlier and the later end of `(start, end)` or `(start, length)`.
fn span(pair: &[Expr]) -> Option<(Expr, Expr)> {
    let [start, end] = pair else { return None };
    let end = match end {
        Expr::Interval(_) => Expr::Nested(Box::new(Expr::BinaryOp {
            left: Box::new(start.clone()),
            op: BinaryOperator::Plus,
            right: Box::new(end.clone()),
        })),
        end => end.clone(),
    };
    let of = |name: &str| call(name, vec![start.clone(), end.clone()]);
    Some((of("LEAST"), of("GREATEST")))
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn tuple(e: &Expr) -> Option<&[Expr]> {
    match e {
        Expr::Tuple(columns) => Some(columns),
        Expr::Nested(e) => tuple(e),
        _ => None,
    }
}

/// Whether the query has such a row; `unknown`: or one that may be it.
fn exists(columns: &[Expr], query: &Query, negated: bool, unknown: bool) -> Expr {
    let name = |i: usize| Ident::with_quote('`', format!("$c{i}"));
    let relation = Ident::with_quote('`', "$in");
    let equal = columns.iter().enumerate().map(|(i, column)| Expr::BinaryOp {
        left: Box::new(column.clone()),
        op: BinaryOperator::Eq,
        right: Box::new(Expr::CompoundIdentifier(vec![relation.clone(), name(i)])),
    });
    let all = equal.reduce(|l, r| Expr::BinaryOp { left: Box::new(l), op: BinaryOperator::And, right: Box::new(r) });
    let all = all.map(|all| Expr::Nested(Box::new(all)));
    let named = (0..columns.len()).map(|i| TableAliasColumnDef { name: name(i), data_type: None });
    let mut one = one();
    if let SetExpr::Select(select) = one.body.as_mut() {
        if let Some(from) = select.from.first_mut() {
            from.relation = TableFactor::Derived {
                lateral: false,
                subquery: Box::new(query.clone()),
                alias: Some(TableAlias { explicit: true, name: relation, columns: named.collect(), at: None }),
                sample: None,
            };
        }
        select.selection = if unknown { all.map(|all| Expr::IsNotFalse(Box::new(all))) } else { all };
    }
    Expr::Exists { subquery: Box::new(one), negated }
}

/// `SELECT 1 FROM t`.
fn one() -> Query {
    let parsed = Parser::parse_sql(&GenericDialect {}, "SELECT 1 FROM t").ok().and_then(|mut all| all.pop());
    match parsed {
        Some(Statement::Query(query)) => *query,
        _ => unreachable!("the text above is a query"),
    }
}
