//! Refuses what sqlparser reads and Flink does not, where passing it on would give a poor message later.
//!
//! An interval is the case: `INTERVAL 10 MINUTE` and `INTERVAL '10 minutes'` are read as something, and a unit that is
//! unknown silently becomes a column's alias.

use super::fail;
use crate::catalog::ColumnKind;
use crate::statement::{Statement, StatementKind};
use datafusion_sql::sqlparser::ast::{DateTimeField, Expr, Interval, Query, Spanned, Value, Visit, Visitor};
use datafusion_sql::sqlparser::parser::ParserError;
use std::ops::ControlFlow;

pub(super) fn statement(statement: &Statement) -> Result<(), ParserError> {
    match &statement.kind {
        StatementKind::Query(query) => self::query(query),
        StatementKind::CreateView { view, .. } => self::query(&view.query),
        StatementKind::Insert(insert) => self::query(&insert.query),
        StatementKind::StatementSet(inserts) => inserts.iter().try_for_each(|insert| self::query(&insert.query)),
        StatementKind::Explain { statement, .. } => self::statement(statement),
        StatementKind::CreateTable { table, .. } => {
            for column in &table.columns {
                if let ColumnKind::Computed { expression } = &column.kind {
                    self::expression(expression)?;
                }
            }
            table.watermark.iter().try_for_each(|watermark| self::expression(&watermark.expression))
        }
        StatementKind::DropTable { .. } | StatementKind::DropView { .. } | StatementKind::Set { .. } => Ok(()),
    }
}

pub(super) fn expression(expression: &Expr) -> Result<(), ParserError> {
    outcome(Visit::visit(expression, &mut Check))
}

fn query(query: &Query) -> Result<(), ParserError> {
    outcome(Visit::visit(query, &mut Check))
}

fn outcome(flow: ControlFlow<ParserError>) -> Result<(), ParserError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Check;

impl Visitor for Check {
    type Break = ParserError;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<ParserError> {
        let Expr::Interval(interval) = expr else { return ControlFlow::Continue(()) };
        match check_interval(interval) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}

fn check_interval(interval: &Interval) -> Result<(), ParserError> {
    let at = interval.value.span().start;
    let text = match &*interval.value {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(text) => Some(text.as_str()),
            _ => None,
        },
        _ => None,
    };
    let unit = interval.leading_field.as_ref().map(ToString::to_string);
    match (text, unit) {
        (None, unit) => {
            let unit = unit.unwrap_or("MINUTE".into());
            fail(
                "the length of an INTERVAL stands in single quotes",
                format!(
                    "write INTERVAL '{}' {unit}; a length that is computed: x * INTERVAL '1' {unit}",
                    interval.value
                ),
                at,
            )
        }
        (Some(text), None) => {
            let mut words = text.split_whitespace();
            let remedy = match (words.next(), words.next(), words.next()) {
                (Some(count), Some(unit), None) if count.parse::<f64>().is_ok() => {
                    format!("write INTERVAL '{count}' {}", unit.to_uppercase())
                }
                _ => format!("write INTERVAL '{text}' SECOND, or another of YEAR, MONTH, WEEK, DAY, HOUR, MINUTE"),
            };
            fail("an INTERVAL without a unit behind its string", remedy, at)
        }
        (Some(_), Some(unit)) => match &interval.leading_field {
            Some(
                DateTimeField::Year
                | DateTimeField::Years
                | DateTimeField::Quarter
                | DateTimeField::Month
                | DateTimeField::Months
                | DateTimeField::Week(None)
                | DateTimeField::Weeks
                | DateTimeField::Day
                | DateTimeField::Days
                | DateTimeField::Hour
                | DateTimeField::Hours
                | DateTimeField::Minute
                | DateTimeField::Minutes
                | DateTimeField::Second
                | DateTimeField::Seconds
                | DateTimeField::Millisecond
                | DateTimeField::Milliseconds,
            ) => Ok(()),
            _ => fail(
                format!("an INTERVAL has no unit {unit}"),
                "units are YEAR, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND and MILLISECOND",
                at,
            ),
        },
    }
}
