//! Refuses what sqlparser reads and nobody behind it would take up.
//!
//! - Clauses that later stages pass over in silence: `FOR UPDATE`, `SELECT .. INTO`, `TABLESAMPLE`. A result that does
//!   not do what the text says is worse than none.
//! - Intervals: `INTERVAL 10 MINUTE` and `INTERVAL '10 minutes'` are read as something, and a unit that is unknown
//!   silently becomes a column's alias.

use super::fail;
use crate::catalog::ColumnKind;
use crate::statement::{Statement, StatementKind};
use datafusion_sql::sqlparser::ast::{
    DateTimeField, Expr, Interval, Query, Select, Spanned, TableFactor, Value, Visit, Visitor,
};
use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::Location;
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
        StatementKind::CreateFunction { .. }
        | StatementKind::DropFunction { .. }
        | StatementKind::DropTable { .. }
        | StatementKind::DropView { .. }
        | StatementKind::Set { .. } => Ok(()),
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

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<ParserError> {
        let at = || query.span().start;
        if !query.locks.is_empty() || query.for_clause.is_some() {
            return refuse("FOR behind a query", "take it out: a stream is not locked", at());
        }
        if query.settings.is_some() || query.format_clause.is_some() || !query.pipe_operators.is_empty() {
            return refuse("a clause of another system behind the query", "take it out", at());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<ParserError> {
        let at = select.select_token.0.span.start;
        let (what, remedy) = match () {
            () if select.into.is_some() => ("SELECT .. INTO", "write INSERT INTO t SELECT .."),
            () if select.top.is_some() => ("TOP", "write LIMIT n behind the query"),
            () if select.prewhere.is_some() => ("PREWHERE", "write WHERE"),
            () if !select.lateral_views.is_empty() => ("LATERAL VIEW", "write CROSS JOIN UNNEST(array) AS t(x)"),
            () if !select.connect_by.is_empty() => ("CONNECT BY", "take it out"),
            () if !select.cluster_by.is_empty() || !select.distribute_by.is_empty() || !select.sort_by.is_empty() => {
                ("CLUSTER BY, DISTRIBUTE BY or SORT BY", "take it out: the engine distributes by itself")
            }
            () if select.value_table_mode.is_some() => ("SELECT AS STRUCT or AS VALUE", "select ROW(..)"),
            () if select.exclude.is_some() => ("EXCLUDE behind the list", "write * EXCLUDE (columns)"),
            () => return ControlFlow::Continue(()),
        };
        refuse(what, remedy, at)
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<ParserError> {
        // Hints of Flink's are attached later, so those that are here stood in the text as WITH (..).
        let TableFactor::Table {
            name, with_hints, partitions, json_path, sample, index_hints, with_ordinality, ..
        } = table
        else {
            let (what, remedy) = match table {
                TableFactor::MatchRecognize { .. } => (
                    "MATCH_RECOGNIZE",
                    "join the table with itself within bounds of time, or compare a row with those before it: LAG(x) OVER (..)",
                ),
                TableFactor::Pivot { .. } => ("PIVOT", "write SUM(x) FILTER (WHERE kind = 'a') AS a, .. with GROUP BY"),
                TableFactor::Unpivot { .. } => {
                    ("UNPIVOT", "write CROSS JOIN UNNEST(MAP['a', a, 'b', b]) AS u (name, v)")
                }
                TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => {
                    ("JSON_TABLE", "write CROSS JOIN UNNEST(..) over an array that JSON_QUERY returns")
                }
                TableFactor::XmlTable { .. } => ("XMLTABLE", "take it out"),
                _ => return ControlFlow::Continue(()),
            };
            return refuse(what, remedy, table.span().start);
        };
        let (what, remedy) = match () {
            () if sample.is_some() => ("TABLESAMPLE", "write WHERE RAND() < 0.1"),
            () if !with_hints.is_empty() => ("WITH behind a table", "write /*+ OPTIONS('key' = 'value') */"),
            () if !partitions.is_empty() => ("PARTITION behind a table", "write WHERE on the partition's column"),
            () if json_path.is_some() || !index_hints.is_empty() || *with_ordinality => {
                ("a clause of another system behind a table", "take it out")
            }
            () => return ControlFlow::Continue(()),
        };
        refuse(what, remedy, name.span().start)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<ParserError> {
        let Expr::Interval(interval) = expr else { return ControlFlow::Continue(()) };
        match check_interval(interval) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}

fn refuse(what: &str, remedy: &str, at: Location) -> ControlFlow<ParserError> {
    match fail::<()>(format!("{what} is not supported"), remedy, at) {
        Ok(()) => ControlFlow::Continue(()),
        Err(e) => ControlFlow::Break(e),
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
