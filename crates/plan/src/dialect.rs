//! The words and shapes of Flink SQL, for sqlparser.
//!
//! sqlparser asks its dialect at every fork of the grammar. Ours answers as `GenericDialect` does where Flink has the
//! construct, and says no to what Flink has not: fewer words are special, so more names are free, and a slip (a comma
//! too many, a forgotten column list) is an error instead of another vendor's extension.
//!
//! What sqlparser has no fork for is caught at the start of an expression ([`MillstreamDialect::parse_prefix`]) or behind a value
//! ([`MillstreamDialect::parse_infix`]):
//!
//! ```text
//!  TABLE t                      ──▶ __table(t)            the table argument of a window function
//!  TABLE t PARTITION BY a, b    ──▶ __table(t, a, b)
//!  TABLE (SELECT ..)            ──▶ __table((SELECT ..))
//!  MAP['k', v, ..]              ──▶ Expr::Map
//!  JSON_QUERY(x, p WITH WRAPPER) ─▶ JSON_QUERY(x, p, 'WITH', ..): see `json`
//!  x BETWEEN SYMMETRIC a AND b  ──▶ x BETWEEN a AND b OR x BETWEEN b AND a
//!  TRIM(BOTH FROM x)            ──▶ TRIM(BOTH x)
//!  CAST(x AS ROW<a INT>)        ──▶ Expr::Cast, the type as text where sqlparser has no words for it
//! ```
//!
//! `dialect()` answers with the type id of `GenericDialect`, because some forks inside sqlparser go by type and not by
//! question.

mod json;

use crate::parse::types::parse_type;
use datafusion_sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, Map, MapEntry, ObjectName, ObjectNamePart, UnaryOperator,
};
use datafusion_sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Token;
use std::any::TypeId;

/// The name of the call that stands for `TABLE t [PARTITION BY ..]` as an argument. See [`table_argument`].
pub const TABLE_ARGUMENT: &str = "__table";

/// Flink's SQL, as far as sqlparser has to know.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MillstreamDialect;

/// The table argument of a window function, taken apart again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TableArgument<'a> {
    /// A name ([`Expr::Identifier`], [`Expr::CompoundIdentifier`]) or a query ([`Expr::Subquery`]).
    pub table: &'a Expr,
    /// The columns of `PARTITION BY`.
    pub partition_by: &'a [FunctionArg],
}

/// What `TABLE t [PARTITION BY ..]` became: `None` when the expression is something else.
pub fn table_argument(expr: &Expr) -> Option<TableArgument<'_>> {
    let Expr::Function(Function { name, args: FunctionArguments::List(list), .. }) = expr else { return None };
    let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return None };
    let (FunctionArg::Unnamed(FunctionArgExpr::Expr(table)), partition_by) = list.args.split_first()? else {
        return None;
    };
    (name.value == TABLE_ARGUMENT).then_some(TableArgument { table, partition_by })
}

macro_rules! yes {
    ($($question:ident)*) => { $(fn $question(&self) -> bool { true })* };
}

impl Dialect for MillstreamDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    /// Back-quotes are Flink's; double quotes are taken too, so that a string in double quotes gets a message that
    /// speaks of quotes.
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"' || ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    yes! {
        supports_unicode_string_literal
        supports_string_escape_constant
        supports_group_by_expr
        supports_left_associative_joins_without_parens
        supports_match_recognize
        supports_window_function_null_treatment_arg
        supports_window_clause_named_window_reference
        supports_filter_during_aggregation
        supports_within_after_array_aggregation
        supports_named_fn_args_with_rarrow_operator
        supports_select_wildcard_except
        supports_select_wildcard_exclude
        supports_select_wildcard_replace
        allow_extract_custom
        supports_parens_around_table_factor
        supports_table_versioning
        supports_try_convert
        supports_comma_separated_trim
        supports_create_view_comment_syntax
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let Token::Word(word) = &parser.peek_token_ref().token else { return None };
        match word.keyword {
            Keyword::TABLE if word.quote_style.is_none() => parse_table_argument(parser).transpose(),
            Keyword::CAST | Keyword::TRY_CAST if parser.peek_nth_token_ref(1).token == Token::LParen => {
                Some(parse_cast(parser))
            }
            Keyword::TRIM if trims_blanks(parser) => Some(parse_trim(parser)),
            Keyword::MAP if parser.peek_nth_token_ref(1).token == Token::LBracket => Some(parse_map(parser)),
            _ if word.quote_style.is_none() && parser.peek_nth_token_ref(1).token == Token::LParen => {
                json::parser_of(&word.value, parser).map(|parse| parse(parser))
            }
            _ => None,
        }
    }

    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        json::is_json(parser, expr).or_else(|| parse_between(parser, expr))
    }
}

/// `TABLE name [PARTITION BY columns]`, `TABLE (query) [PARTITION BY columns]`. `None` leaves the parser where it was.
fn parse_table_argument(parser: &mut Parser) -> Result<Option<Expr>, ParserError> {
    let start = parser.peek_token_ref().span;
    let query = match &parser.peek_nth_token_ref(1).token {
        Token::Word(_) => false,
        Token::LParen => match &parser.peek_nth_token_ref(2).token {
            Token::Word(w) if matches!(w.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES) => true,
            _ => return Ok(None),
        },
        _ => return Ok(None),
    };
    parser.expect_keyword_is(Keyword::TABLE)?;
    let table = if query {
        parser.expect_token(&Token::LParen)?;
        let query = parser.parse_query()?;
        parser.expect_token(&Token::RParen)?;
        Expr::Subquery(query)
    } else {
        let mut parts = Vec::new();
        for part in parser.parse_object_name(false)?.0 {
            match part {
                ObjectNamePart::Identifier(ident) => parts.push(ident),
                ObjectNamePart::Function(f) => {
                    return Err(ParserError::ParserError(format!("Expected: a table name, found: {f}")));
                }
            }
        }
        match parts.len() {
            1 => Expr::Identifier(parts.remove(0)),
            _ => Expr::CompoundIdentifier(parts),
        }
    };
    let mut args = vec![unnamed(table)];
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        // Columns in parentheses are one list; without them a comma would also end the argument. Flink reads what
        // follows as columns until `DESCRIPTOR` or a name with `=>`, and so does this.
        if parser.consume_token(&Token::LParen) {
            args.extend(parser.parse_comma_separated(Parser::parse_expr)?.into_iter().map(unnamed));
            parser.expect_token(&Token::RParen)?;
        } else {
            args.push(unnamed(parser.parse_expr()?));
            while next_is_one_more_column(parser) {
                parser.expect_token(&Token::Comma)?;
                args.push(unnamed(parser.parse_expr()?));
            }
        }
    }
    let mut name = Ident::new(TABLE_ARGUMENT);
    name.span = start;
    Ok(Some(call(name, args)))
}

/// True when `, column` follows, and the column is neither a function call nor the name of a named argument.
fn next_is_one_more_column(parser: &Parser) -> bool {
    parser.peek_token_ref().token == Token::Comma
        && matches!(&parser.peek_nth_token_ref(1).token, Token::Word(w)
            if w.quote_style.is_some() || !matches!(w.keyword, Keyword::INTERVAL | Keyword::TABLE))
        && !matches!(parser.peek_nth_token_ref(2).token, Token::LParen | Token::RArrow)
}

/// `CAST(x AS type)`, `TRY_CAST(x AS type)`, with the types of Flink.
///
/// What sqlparser reads stays as it reads it. A type that only we know (`ROW<..>`, `MAP<..>`) is carried as its text
/// in [`DataType::Custom`], from which [`arrow_type`](crate::parse::types::arrow_type) makes it again.
fn parse_cast(parser: &mut Parser) -> Result<Expr, ParserError> {
    let kind = match parser.parse_keyword(Keyword::TRY_CAST) {
        true => CastKind::TryCast,
        false => {
            parser.expect_keyword_is(Keyword::CAST)?;
            CastKind::Cast
        }
    };
    parser.expect_token(&Token::LParen)?;
    let expr = Box::new(parser.parse_expr()?);
    parser.expect_keyword_is(Keyword::AS)?;
    let (data_type, _) = parse_cast_type(parser)?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Cast { kind, expr, data_type, array: false, format: None })
}

/// The type of a CAST, and its text in full.
fn parse_cast_type(parser: &mut Parser) -> Result<(DataType, String), ParserError> {
    // Read it once to know that it is ours and where it ends, and go back.
    let mut read = None;
    parser.maybe_parse(|p| {
        read = Some(parse_type(p).map(|declared| (declared.text, p.index())));
        Err::<(), _>(ParserError::ParserError(String::new()))
    })?;
    let Some(read) = read else { return parser.expected_ref("a type", parser.peek_token_ref()) };
    let (text, end) = read?;
    let plain = parser.maybe_parse(|p| {
        let data_type = p.parse_data_type()?;
        if p.index() == end { Ok(data_type) } else { p.expected_ref("the end of the type", p.peek_token_ref()) }
    })?;
    let data_type = match plain {
        Some(data_type) => data_type,
        None => {
            parse_type(parser)?;
            DataType::Custom(ObjectName(vec![ObjectNamePart::Identifier(Ident::new(text.clone()))]), Vec::new())
        }
    };
    Ok((data_type, text))
}

/// `TRIM(BOTH FROM ..` follows: with no characters named, blanks are meant.
fn trims_blanks(parser: &Parser) -> bool {
    let word = |n: usize| match &parser.peek_nth_token_ref(n).token {
        Token::Word(w) if w.quote_style.is_none() => w.keyword,
        _ => Keyword::NoKeyword,
    };
    parser.peek_nth_token_ref(1).token == Token::LParen
        && matches!(word(2), Keyword::BOTH | Keyword::LEADING | Keyword::TRAILING)
        && word(3) == Keyword::FROM
}

/// `TRIM(BOTH FROM x)`, which sqlparser knows as `TRIM(BOTH x)`.
fn parse_trim(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_keyword_is(Keyword::TRIM)?;
    parser.expect_token(&Token::LParen)?;
    let trim_where = Some(parser.parse_trim_where()?);
    parser.expect_keyword_is(Keyword::FROM)?;
    let expr = Box::new(parser.parse_expr()?);
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Trim { expr, trim_where, trim_what: None, trim_characters: None })
}

/// `[NOT] BETWEEN [A]SYMMETRIC low AND high` behind a value; `None` where something else follows. SYMMETRIC takes the bounds in
/// either order.
fn parse_between(parser: &mut Parser, value: &Expr) -> Option<Result<Expr, ParserError>> {
    let word = |n: usize| match &parser.peek_nth_token_ref(n).token {
        Token::Word(w) if w.quote_style.is_none() => w.value.to_ascii_uppercase(),
        _ => String::new(),
    };
    let negated = word(0) == "NOT";
    let at = usize::from(negated);
    let (between, symmetric) = (word(at) == "BETWEEN", word(at + 1));
    if !between || !["SYMMETRIC", "ASYMMETRIC"].contains(&symmetric.as_str()) {
        return None;
    }
    (0..at + 2).for_each(|_| parser.advance_token());
    Some(bounds(parser, value, negated, symmetric == "SYMMETRIC"))
}

fn bounds(parser: &mut Parser, value: &Expr, negated: bool, symmetric: bool) -> Result<Expr, ParserError> {
    let precedence = MillstreamDialect.prec_value(Precedence::Between);
    let low = parser.parse_subexpr(precedence)?;
    parser.expect_keyword_is(Keyword::AND)?;
    let high = parser.parse_subexpr(precedence)?;
    let between = |low: &Expr, high: &Expr| Expr::Between {
        expr: Box::new(value.clone()),
        negated: false,
        low: Box::new(low.clone()),
        high: Box::new(high.clone()),
    };
    let mut test = between(&low, &high);
    if symmetric {
        let turned = Box::new(between(&high, &low));
        test = Expr::BinaryOp { left: Box::new(test), op: BinaryOperator::Or, right: turned };
    }
    let test = Expr::Nested(Box::new(test));
    Ok(if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(test) } } else { test })
}

/// `MAP[key, value, ..]`.
fn parse_map(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_keyword_is(Keyword::MAP)?;
    parser.expect_token(&Token::LBracket)?;
    let mut entries = Vec::new();
    if !parser.consume_token(&Token::RBracket) {
        loop {
            let key = Box::new(parser.parse_expr()?);
            parser.expect_token(&Token::Comma)?;
            let value = Box::new(parser.parse_expr()?);
            entries.push(MapEntry { key, value });
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RBracket)?;
    }
    Ok(Expr::Map(Map { entries }))
}

fn unnamed(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

fn call(name: Ident, args: Vec<FunctionArg>) -> Expr {
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion_sql::sqlparser::ast::{SetExpr, Statement, TableFactor};

    fn parse(sql: &str) -> Result<Statement, String> {
        let mut statements = Parser::parse_sql(&MillstreamDialect, sql).map_err(|e| format!("{e}"))?;
        assert_eq!(statements.len(), 1, "{sql}");
        Ok(statements.remove(0))
    }

    fn relation(sql: &str) -> TableFactor {
        let Statement::Query(query) = parse(sql).unwrap() else { panic!("no query: {sql}") };
        let SetExpr::Select(select) = *query.body else { panic!("no select: {sql}") };
        select.from[0].relation.clone()
    }

    #[test]
    fn window_functions_parse_with_and_without_the_outer_table() {
        for call in [
            "TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
            "TUMBLE(TABLE db.bid, DESCRIPTOR(ts), INTERVAL '1' HOURS, INTERVAL '10' MINUTES)",
            "TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(`ts`), SIZE => INTERVAL '1' HOUR, `OFFSET` => INTERVAL '1' MINUTE)",
            "HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECONDS, INTERVAL '10' SECONDS)",
            "CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' MINUTES, INTERVAL '10' MINUTES)",
            "SESSION(TABLE bid PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' MINUTES)",
            "SESSION(TABLE bid PARTITION BY k, j, DESCRIPTOR(ts), INTERVAL '10' MINUTES)",
            "SESSION(TABLE bid PARTITION BY (k, j), DESCRIPTOR(ts), INTERVAL '10' MINUTES)",
            "SESSION(DATA => TABLE bid PARTITION BY k, TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '10' MINUTES)",
            "TUMBLE((SELECT * FROM bid), DESCRIPTOR(ts), INTERVAL '1' HOUR)",
            "TUMBLE(TABLE (SELECT * FROM bid), DESCRIPTOR(ts), INTERVAL '1' HOUR)",
        ] {
            for alias in ["", " AS w", " w", " AS w(a, b, c)"] {
                let outer = relation(&format!("SELECT * FROM TABLE({call}){alias}"));
                assert!(
                    matches!(&outer, TableFactor::TableFunction { alias: a, .. } if a.is_some() != alias.is_empty()),
                    "{call}"
                );
                let bare = relation(&format!("SELECT * FROM {call}{alias}"));
                assert!(
                    matches!(&bare, TableFactor::Table { args: Some(_), alias: a, .. } if a.is_some() != alias.is_empty()),
                    "{call}"
                );
            }
        }
    }

    #[test]
    fn a_table_argument_can_be_taken_apart() {
        let TableFactor::Table { args: Some(args), .. } =
            relation("SELECT * FROM SESSION(TABLE bid PARTITION BY k, j, DESCRIPTOR(ts), INTERVAL '1' HOUR)")
        else {
            panic!()
        };
        assert_eq!(args.args.len(), 3);
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(first)) = &args.args[0] else { panic!() };
        let taken = table_argument(first).unwrap();
        assert_eq!(taken.table.to_string(), "bid");
        assert_eq!(taken.partition_by.iter().map(ToString::to_string).collect::<Vec<_>>(), ["k", "j"]);
        let Expr::Function(f) = first else { panic!() };
        let ObjectNamePart::Identifier(name) = &f.name.0[0] else { panic!() };
        assert_eq!((name.span.start.line, name.span.start.column), (1, 23));
    }

    #[test]
    fn what_flink_writes_parses() {
        let mut failed = Vec::new();
        for expr in [
            "INTERVAL '10' MINUTE",
            "INTERVAL '10' MINUTES",
            "INTERVAL '1 10:00:00' DAY TO SECOND",
            "INTERVAL '1-2' YEAR TO MONTH",
            "INTERVAL '10' SECOND(3)",
            "INTERVAL '1.5' SECOND",
            "INTERVAL '10' DAY(3)",
            "INTERVAL '1 10:00:00.123' DAY(2) TO SECOND(3)",
            "- INTERVAL '1' DAY",
            "INTERVAL -'1' DAY",
            "CAST(x AS TIMESTAMP_LTZ(3))",
            "CAST(x AS TIMESTAMP(3))",
            "CAST(x AS TIMESTAMP(3) WITH LOCAL TIME ZONE)",
            "CAST(x AS ROW<a INT, b STRING>)",
            "CAST(x AS MAP<STRING, INT>)",
            "CAST(x AS ROW(a INT, b ARRAY<MAP<STRING, ROW<c INT NOT NULL>>>))",
            "CAST(x AS DECIMAL(10, 2))",
            "CAST(x AS ARRAY<INT>)",
            "CAST(x AS STRING)",
            "CAST(x AS BYTES)",
            "TRY_CAST(x AS INT)",
            "CAST(x AS DOUBLE PRECISION)",
            "CAST(x AS INT ARRAY)",
            "TIMESTAMP '2020-01-01 00:00:00'",
            "DATE '2020-01-01'",
            "TIME '10:00:00'",
            "ROW(a, b)",
            "ARRAY[1, 2]",
            "ARRAY[]",
            "MAP['k', v]",
            "MAP['k', v, 'l', w]['k']",
            "MAP[]",
            "a.b.c",
            "IF(a, b, c)",
            "arr[1]",
            "m['k'].f",
            "a[1].b[2].c",
            "ROW(a, b).f0",
            "x IS NOT DISTINCT FROM y",
            "x IS DISTINCT FROM y",
            "x IS UNKNOWN",
            "x IS NOT TRUE",
            "COUNT(*) FILTER (WHERE a > 1)",
            "COUNT(DISTINCT a) FILTER (WHERE a > 1)",
            "TIMESTAMPDIFF(DAY, a, b)",
            "TIMESTAMPADD(HOUR, 1, ts)",
            "EXTRACT(DAY FROM ts)",
            "EXTRACT(EPOCH FROM ts)",
            "FLOOR(ts TO DAY)",
            "CEIL(ts TO HOUR)",
            "FLOOR(x)",
            "FLOOR(ts TO MILLISECOND)",
            "TRIM(BOTH ' ' FROM x)",
            "TRIM(x)",
            "TRIM(LEADING 'a' FROM x)",
            "POSITION(a IN b)",
            "OVERLAY(a PLACING b FROM 1 FOR 2)",
            "SUBSTRING(a FROM 1 FOR 2)",
            "SUBSTRING(a, 1, 2)",
            "LISTAGG(x, ',')",
            "LISTAGG(DISTINCT x)",
            "LISTAGG(x)",
            "JSON_VALUE(x, '$.a' RETURNING INT)",
            "JSON_EXISTS(x, '$.a')",
            "JSON_OBJECT('a' VALUE 1)",
            "JSON_ARRAY(1, 2)",
            "x SIMILAR TO 'a%'",
            "x LIKE 'a!%' ESCAPE '!'",
            "x NOT BETWEEN 1 AND 2",
            "x || y",
            "a % b",
            "MOD(a, b)",
            "CASE WHEN a THEN b ELSE c END",
            "CASE a WHEN 1 THEN 2 END",
            "CURRENT_TIMESTAMP",
            "CURRENT_DATE",
            "LOCALTIME",
            "LOCALTIMESTAMP",
            "NOW()",
            "PROCTIME()",
            "CURRENT_ROW_TIMESTAMP()",
            "CURRENT_WATERMARK(ts)",
            "`a`.`b`",
            "a <> b",
            "a != b",
            "(a, b) OVERLAPS (c, d)",
            "(a, INTERVAL '1' DAY) OVERLAPS (c, d)",
            "x IN (1, 2)",
            "x IN (SELECT a FROM t)",
            "EXISTS (SELECT 1 FROM t)",
            "SUM(x) OVER (PARTITION BY a ORDER BY ts RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND CURRENT ROW)",
            "SUM(x) OVER w",
            "FIRST_VALUE(x) OVER (ORDER BY ts)",
            "LAST_VALUE(x) IGNORE NULLS OVER (ORDER BY ts)",
            "ROW_NUMBER() OVER (PARTITION BY a ORDER BY ts DESC)",
            "CARDINALITY(arr)",
            "ELEMENT(arr)",
            "x'1f'",
            "U&'\\00e4'",
            "_UTF8'a'",
            "1e10",
            "1.5",
            ".5",
            "10L",
            "'it''s'",
            "- x",
            "+ x",
            "NOT a",
            "COLLECT(x)",
            "YEAR(ts)",
            "DATE_FORMAT(ts, 'yyyy')",
            "GROUPING(a)",
            "GROUPING_ID(a, b)",
            "PERCENTILE(x, 0.5)",
            "ARRAY_AGG(x)",
            "CONVERT_TZ('a', 'b', 'c')",
            "TO_TIMESTAMP_LTZ(x, 3)",
            "a AT TIME ZONE 'UTC'",
            "TABLE t",
        ] {
            if let Err(e) = parse(&format!("SELECT {expr} FROM t WINDOW w AS (PARTITION BY a ORDER BY ts)")) {
                failed.push(format!("{expr}: {e}"));
            }
        }
        for sql in [
            "SELECT a, COUNT(*) FROM t GROUP BY GROUPING SETS ((a), ())",
            "SELECT a FROM t GROUP BY ROLLUP (a, b)",
            "SELECT a FROM t GROUP BY CUBE (a, b)",
            "SELECT a FROM t GROUP BY w.window_start, GROUPING SETS ((a), (b))",
            "SELECT * FROM t CROSS JOIN UNNEST(arr) AS u(x)",
            "SELECT * FROM t, UNNEST(t.arr) AS u(x, y)",
            "SELECT * FROM t LEFT JOIN UNNEST(arr) AS u(x) ON TRUE",
            "SELECT * FROM UNNEST(ARRAY[1, 2]) WITH ORDINALITY AS u(x, i)",
            "SELECT * FROM o JOIN r FOR SYSTEM_TIME AS OF o.ts AS rr ON o.a = rr.a",
            "SELECT * FROM t LIMIT 10 OFFSET 5",
            "SELECT * FROM t ORDER BY a FETCH FIRST 5 ROWS ONLY",
            "VALUES (1, 'a'), (2, 'b')",
            "SELECT * FROM (VALUES (1, 'a')) AS v(a, b)",
            "WITH a AS (SELECT 1), b(x) AS (SELECT 2) SELECT * FROM a UNION ALL SELECT * FROM b",
            "SELECT DISTINCT a FROM t",
            "SELECT * FROM t WHERE a > 1 QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1",
            "SELECT t.* FROM t",
            "SELECT window_start, window_end FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY window_start, window_end",
            "SELECT * FROM t TABLESAMPLE SYSTEM (10)",
            "SELECT * FROM LATERAL TABLE(f(x)) AS l(a)",
            "SELECT * FROM t, LATERAL TABLE(f(x)) AS l(a)",
            "SELECT a AS `value`, b AS `timestamp` FROM t",
            "SELECT a AS format, b settings FROM t",
            "SELECT `end`, start FROM t",
            "SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY a ORDER BY ts MEASURES A.x AS x ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW PATTERN (A B+) DEFINE B AS B.x > 1)",
            "SELECT a INTERSECT SELECT b",
            "SELECT a EXCEPT SELECT b",
            "SELECT a MINUS SELECT b",
        ] {
            if let Err(e) = parse(sql) {
                failed.push(format!("{sql}: {e}"));
            }
        }
        assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    }
}
