//! `CREATE` and `DROP`.
//!
//! sqlparser's own CREATE TABLE stops at WATERMARK, at computed columns and at METADATA, so this is a grammar of our
//! own on its parser: only expressions and queries are read by sqlparser.
//!
//! ```text
//!  table    := CREATE [TEMPORARY] TABLE [IF NOT EXISTS] name '(' element { ',' element } ')'
//!              [COMMENT 'text'] [PARTITIONED BY (columns)] [WITH (options)] [LIKE name ['(' what .. ')']]
//!  element  := column | WATERMARK FOR column AS expression | [CONSTRAINT name] PRIMARY KEY (columns) NOT ENFORCED
//!  column   := name AS expression [COMMENT 'text']
//!            | name type [METADATA [FROM 'key'] [VIRTUAL]] [PRIMARY KEY NOT ENFORCED] [COMMENT 'text']
//!  function := CREATE [TEMPORARY [SYSTEM]] FUNCTION [IF NOT EXISTS] name AS 'target' [LANGUAGE name]
//! ```

use super::types::parse_type;
use super::{expected, fail, first_words, is_word, name, names, place_of, query, span_of, take_word};
use crate::catalog::{ColumnDef, ColumnKind, FunctionDef, LikeClause, TableDef, ViewDef, WatermarkDef};
use crate::statement::StatementKind;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Token};
use millstream_core::Place;
use std::collections::BTreeMap;

pub(super) fn create(parser: &mut Parser, file: &str) -> Result<StatementKind, ParserError> {
    let start = place_of(parser);
    parser.advance_token();
    let place = Place::line_column(file, start.line, start.column);
    if is_word(parser, 0, "OR") {
        return fail(
            "CREATE OR REPLACE is not supported",
            "write CREATE; a script starts with an empty catalog",
            place_of(parser),
        );
    }
    let temporary = take_word(parser, "TEMPORARY");
    let system = temporary && take_word(parser, "SYSTEM");
    if take_word(parser, "FUNCTION") {
        let if_not_exists = if_words(parser, &["IF", "NOT", "EXISTS"])?;
        let function = function(parser, system, place)?;
        return Ok(StatementKind::CreateFunction { function, if_not_exists });
    }
    if take_word(parser, "TABLE") {
        let if_not_exists = if_words(parser, &["IF", "NOT", "EXISTS"])?;
        let table = table(parser, place)?;
        return Ok(StatementKind::CreateTable { table, if_not_exists });
    }
    if take_word(parser, "VIEW") {
        let if_not_exists = if_words(parser, &["IF", "NOT", "EXISTS"])?;
        let view = view(parser, place)?;
        return Ok(StatementKind::CreateView { view, if_not_exists });
    }
    let what = first_words(parser);
    let remedy = match what.as_str() {
        "CATALOG" | "DATABASE" | "SCHEMA" => "leave it out: all tables of a script live in one catalog",
        "SYSTEM" => "write CREATE TEMPORARY SYSTEM FUNCTION",
        "MATERIALIZED" => "use CREATE TABLE for the target and INSERT INTO to fill it",
        "EXTERNAL" => "write CREATE TABLE: every table is external",
        _ => return expected("TABLE, VIEW or FUNCTION", parser),
    };
    fail(format!("CREATE {what} is not supported"), remedy, place_of(parser))
}

pub(super) fn drop(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    parser.advance_token();
    if take_word(parser, "TEMPORARY") {
        take_word(parser, "SYSTEM");
    }
    if take_word(parser, "FUNCTION") {
        let if_exists = if_words(parser, &["IF", "EXISTS"])?;
        return Ok(StatementKind::DropFunction { name: name(parser, "a function name")?, if_exists });
    }
    let view = if take_word(parser, "VIEW") {
        true
    } else if take_word(parser, "TABLE") {
        false
    } else {
        return expected("TABLE, VIEW or FUNCTION", parser);
    };
    let if_exists = if_words(parser, &["IF", "EXISTS"])?;
    let name = name(parser, if view { "a view name" } else { "a table name" })?;
    Ok(if view { StatementKind::DropView { name, if_exists } } else { StatementKind::DropTable { name, if_exists } })
}

/// All of the words, or none when the first is not there.
fn if_words(parser: &mut Parser, words: &[&str]) -> Result<bool, ParserError> {
    if !is_word(parser, 0, words[0]) || matches!(parser.peek_nth_token_ref(1).token, Token::LParen) {
        return Ok(false);
    }
    for word in words {
        if !take_word(parser, word) {
            return expected(&words.join(" "), parser);
        }
    }
    Ok(true)
}

/// `name AS 'target' [LANGUAGE JAVA]`, behind FUNCTION.
fn function(parser: &mut Parser, system: bool, place: Place) -> Result<FunctionDef, ParserError> {
    let name = name(parser, "a function name")?;
    if !take_word(parser, "AS") {
        return expected("AS and the function that is meant", parser);
    }
    let target = string(parser, "the name of a built-in function in single quotes")?;
    if take_word(parser, "LANGUAGE") {
        parser.advance_token();
    }
    if is_word(parser, 0, "USING") {
        let remedy = "name a built-in function: CREATE FUNCTION f AS 'upper'";
        return fail("functions out of a JAR cannot be run", remedy, place_of(parser));
    }
    Ok(FunctionDef { name, target, system, place })
}

fn table(parser: &mut Parser, place: Place) -> Result<TableDef, ParserError> {
    let mut table = TableDef {
        name: name(parser, "a table name")?,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: BTreeMap::new(),
        like: None,
        place,
    };
    if parser.consume_token(&Token::LParen) {
        loop {
            element(parser, &mut table)?;
            if parser.consume_token(&Token::RParen) {
                break;
            }
            if !parser.consume_token(&Token::Comma) {
                return expected("`,` or `)` in the list of columns", parser);
            }
            if parser.peek_token_ref().token == Token::RParen {
                return fail("a comma before `)`", "take the comma away", place_of(parser));
            }
        }
    }
    if take_word(parser, "COMMENT") {
        string(parser, "a comment in single quotes")?;
    }
    if is_word(parser, 0, "DISTRIBUTED") {
        return fail("DISTRIBUTED is not supported", "take it out", place_of(parser));
    }
    if take_word(parser, "PARTITIONED") {
        if !take_word(parser, "BY") {
            return expected("BY", parser);
        }
        table.partitioned_by = names(parser, "a column name")?;
    }
    if take_word(parser, "WITH") {
        table.options = options(parser)?;
    }
    if is_word(parser, 0, "LIKE") {
        table.like = Some(like(parser)?);
    } else if table.columns.is_empty() {
        return expected("`(` and the columns of the table", parser);
    }
    // The columns of a primary key are NOT NULL, as in Flink.
    for column in &mut table.columns {
        if let ColumnKind::Physical { nullable, .. } | ColumnKind::Metadata { nullable, .. } = &mut column.kind {
            *nullable &= !table.primary_key.contains(&column.name);
        }
    }
    match &parser.peek_token_ref().token {
        Token::Word(w) if w.quote_style.is_none() => match w.value.to_uppercase().as_str() {
            "AS" => fail(
                "CREATE TABLE .. AS SELECT is not supported",
                "declare the columns, then fill the table with INSERT INTO",
                place_of(parser),
            ),
            "PARTITIONED" | "COMMENT" => fail(
                format!("{} comes too late", w.value.to_uppercase()),
                "the order is COMMENT, PARTITIONED BY, WITH",
                place_of(parser),
            ),
            _ => Ok(table),
        },
        _ => Ok(table),
    }
}

/// A column, a watermark or a key.
fn element(parser: &mut Parser, table: &mut TableDef) -> Result<(), ParserError> {
    let at = place_of(parser);
    if is_word(parser, 0, "WATERMARK") && is_word(parser, 1, "FOR") {
        return watermark(parser, table);
    }
    if is_word(parser, 0, "PRIMARY") && is_word(parser, 1, "KEY") {
        return primary_key(parser, table, None);
    }
    if is_word(parser, 0, "CONSTRAINT") && (is_word(parser, 2, "PRIMARY") || is_word(parser, 2, "UNIQUE")) {
        parser.advance_token();
        name(parser, "the constraint's name")?;
        return if is_word(parser, 0, "PRIMARY") { primary_key(parser, table, None) } else { unique(at) };
    }
    if is_word(parser, 0, "UNIQUE") && parser.peek_nth_token_ref(1).token == Token::LParen {
        return unique(at);
    }
    if is_word(parser, 0, "PERIOD") && is_word(parser, 1, "FOR") {
        return fail("PERIOD FOR is not supported", "take it out", at);
    }
    column(parser, table)
}

fn unique<T>(at: Location) -> Result<T, ParserError> {
    fail("UNIQUE is not supported", "use PRIMARY KEY (..) NOT ENFORCED, or take it out", at)
}

fn column(parser: &mut Parser, table: &mut TableDef) -> Result<(), ParserError> {
    let span = span_of(parser.peek_token_ref());
    let name = match &parser.peek_token_ref().token {
        Token::Word(_) => name(parser, "a column name")?,
        Token::SingleQuotedString(s) => {
            return fail(
                format!("expected a column, found the string '{s}'"),
                "names stand in back-quotes or bare; options belong into WITH (..) behind the columns",
                place_of(parser),
            );
        }
        _ => return expected("a column, WATERMARK FOR or PRIMARY KEY", parser),
    };
    let mut comment = None;
    if take_word(parser, "AS") {
        let expression = parser.parse_expr()?;
        if take_word(parser, "COMMENT") {
            comment = Some(string(parser, "a comment in single quotes")?);
        }
        table.columns.push(ColumnDef { name, kind: ColumnKind::Computed { expression }, comment, span });
        return Ok(());
    }
    if matches!(parser.peek_token_ref().token, Token::Comma | Token::RParen) {
        return fail(
            format!("the column `{name}` has no type"),
            format!("write {name} STRING, or {name} AS expression"),
            place_of(parser),
        );
    }
    let declared = parse_type(parser)?;
    let (data_type, mut nullable, mut metadata) = (declared.data_type, declared.nullable, None);
    loop {
        let at = place_of(parser);
        if take_word(parser, "METADATA") {
            let from = match take_word(parser, "FROM") {
                true => string(parser, "the metadata key in single quotes")?,
                false => name.clone(),
            };
            metadata = Some((from, take_word(parser, "VIRTUAL")));
        } else if is_word(parser, 0, "VIRTUAL") {
            return fail("VIRTUAL without METADATA", format!("write {name} TYPE METADATA VIRTUAL"), at);
        } else if is_word(parser, 0, "NOT") && is_word(parser, 1, "NULL") {
            parser.advance_token();
            parser.advance_token();
            nullable = false;
        } else if is_word(parser, 0, "PRIMARY") && is_word(parser, 1, "KEY") {
            primary_key(parser, table, Some(&name))?;
        } else if is_word(parser, 0, "CONSTRAINT") {
            parser.advance_token();
            super::name(parser, "the constraint's name")?;
            if !is_word(parser, 0, "PRIMARY") {
                return expected("PRIMARY KEY", parser);
            }
        } else if is_word(parser, 0, "UNIQUE") {
            return unique(at);
        } else if is_word(parser, 0, "DEFAULT") {
            return fail(
                "DEFAULT is not supported",
                format!("take it out; a query can say COALESCE({name}, value)"),
                at,
            );
        } else if is_word(parser, 0, "GENERATED") {
            return fail("GENERATED is not supported", format!("write {name} AS expression"), at);
        } else if is_word(parser, 0, "REFERENCES") || is_word(parser, 0, "CHECK") {
            return fail(format!("{} is not supported", first_words(parser)), "take it out", at);
        } else if take_word(parser, "COMMENT") {
            comment = Some(string(parser, "a comment in single quotes")?);
        } else if take_word(parser, "AS") {
            return fail(
                format!("the computed column `{name}` has a type"),
                format!("write {name} AS expression; CAST gives it another type"),
                at,
            );
        } else {
            break;
        }
    }
    let kind = match metadata {
        None => ColumnKind::Physical { data_type, nullable },
        Some((key, is_virtual)) => ColumnKind::Metadata { data_type, nullable, key, is_virtual },
    };
    table.columns.push(ColumnDef { name, kind, comment, span });
    Ok(())
}

fn watermark(parser: &mut Parser, table: &mut TableDef) -> Result<(), ParserError> {
    let span = span_of(parser.peek_token_ref());
    let at = place_of(parser);
    parser.advance_token();
    parser.advance_token();
    let column = match &parser.peek_token_ref().token {
        Token::Word(_) => parser.parse_identifier()?.value,
        _ => return expected("the name of the watermark's column", parser),
    };
    if parser.peek_token_ref().token == Token::Period {
        return fail(
            "a nested field cannot carry the watermark",
            format!("add a computed column: event_time AS CAST({column}.field AS TIMESTAMP(3))"),
            place_of(parser),
        );
    }
    if !take_word(parser, "AS") {
        return expected("AS", parser);
    }
    let expression = parser.parse_expr()?;
    if table.watermark.is_some() {
        return fail("a second WATERMARK in one table", "keep one: a table has one event time", at);
    }
    table.watermark = Some(WatermarkDef { column, expression, span });
    Ok(())
}

/// `PRIMARY KEY (columns) NOT ENFORCED`, or behind a column without the list.
fn primary_key(parser: &mut Parser, table: &mut TableDef, of: Option<&str>) -> Result<(), ParserError> {
    let at = place_of(parser);
    parser.advance_token();
    parser.advance_token();
    let columns = match of {
        Some(column) => vec![column.to_string()],
        None => names(parser, "a column name")?,
    };
    if !(is_word(parser, 0, "NOT") && is_word(parser, 1, "ENFORCED")) {
        return fail(
            "PRIMARY KEY without NOT ENFORCED",
            "write PRIMARY KEY (..) NOT ENFORCED: the data is not ours, so nobody can enforce the key",
            at,
        );
    }
    parser.advance_token();
    parser.advance_token();
    if !table.primary_key.is_empty() {
        return fail("a second PRIMARY KEY in one table", "name all columns of the key in one list", at);
    }
    table.primary_key = columns;
    Ok(())
}

/// `('key' = 'value', ..)`.
fn options(parser: &mut Parser) -> Result<BTreeMap<String, String>, ParserError> {
    let mut options = BTreeMap::new();
    if !parser.consume_token(&Token::LParen) {
        return expected("`(` and the table's options", parser);
    }
    if parser.consume_token(&Token::RParen) {
        return Ok(options);
    }
    loop {
        let at = place_of(parser);
        let key = option_key(parser)?;
        if !parser.consume_token(&Token::Eq) {
            return expected(&format!("`=` and the value of '{key}'"), parser);
        }
        let value = option_value(parser, &key)?;
        if options.insert(key.clone(), value).is_some() {
            return fail(format!("the option '{key}' is given twice"), "keep one of them", at);
        }
        if parser.consume_token(&Token::RParen) {
            return Ok(options);
        }
        if !parser.consume_token(&Token::Comma) {
            return expected("`,` or `)` in the options", parser);
        }
        if parser.peek_token_ref().token == Token::RParen {
            return fail("a comma before `)`", "take the comma away", place_of(parser));
        }
    }
}

fn option_key(parser: &mut Parser) -> Result<String, ParserError> {
    let at = place_of(parser);
    match &parser.peek_token_ref().token {
        Token::SingleQuotedString(s) => {
            let key = s.clone();
            parser.advance_token();
            Ok(key)
        }
        Token::Word(w) => {
            let mut key = w.value.clone();
            // The rest of a dotted or dashed key, for the message only.
            let mut n = 1;
            while let (between @ (Token::Period | Token::Minus), Token::Word(w)) =
                (&parser.peek_nth_token_ref(n).token, &parser.peek_nth_token_ref(n + 1).token)
            {
                key = format!("{key}{between}{}", w.value);
                n += 2;
            }
            fail(
                format!("the key of an option stands in single quotes, found {}", parser.peek_token_ref()),
                format!("write '{key}' = 'value'"),
                at,
            )
        }
        _ => expected("the key of an option in single quotes", parser),
    }
}

fn option_value(parser: &mut Parser, key: &str) -> Result<String, ParserError> {
    let at = place_of(parser);
    match &parser.peek_token_ref().token {
        Token::SingleQuotedString(s) => {
            let value = s.clone();
            parser.advance_token();
            Ok(value)
        }
        Token::Word(w) => fail(
            format!("the value of '{key}' stands in single quotes, found {}", parser.peek_token_ref()),
            format!("write '{key}' = '{}'", w.value),
            at,
        ),
        Token::Number(n, _) => fail(
            format!("the value of '{key}' stands in single quotes, found {n}"),
            format!("write '{key}' = '{n}'"),
            at,
        ),
        _ => expected(&format!("the value of '{key}' in single quotes"), parser),
    }
}

/// `LIKE name [(INCLUDING | EXCLUDING | OVERWRITING what ..)]`.
fn like(parser: &mut Parser) -> Result<LikeClause, ParserError> {
    let span = span_of(parser.peek_token_ref());
    parser.advance_token();
    let table = name(parser, "the name of the table to be like")?;
    let mut like = LikeClause { table, span, rules: Vec::new() };
    if parser.consume_token(&Token::LParen) {
        while !parser.consume_token(&Token::RParen) {
            let at = place_of(parser);
            let how = first_words(parser);
            if !["INCLUDING", "EXCLUDING", "OVERWRITING"].contains(&how.as_str()) {
                return expected("INCLUDING, EXCLUDING or OVERWRITING", parser);
            }
            parser.advance_token();
            let what = first_words(parser);
            let known =
                ["ALL", "CONSTRAINTS", "DISTRIBUTION", "GENERATED", "METADATA", "OPTIONS", "PARTITIONS", "WATERMARKS"];
            if !known.contains(&what.as_str()) {
                return expected("ALL, CONSTRAINTS, GENERATED, METADATA, OPTIONS, PARTITIONS or WATERMARKS", parser);
            }
            if how == "OVERWRITING" && !["GENERATED", "METADATA", "OPTIONS", "WATERMARKS"].contains(&what.as_str()) {
                return fail(
                    format!("OVERWRITING {what} is not possible"),
                    format!("use INCLUDING or EXCLUDING {what}"),
                    at,
                );
            }
            parser.advance_token();
            like.rules.push((how, what));
        }
    }
    Ok(like)
}

fn view(parser: &mut Parser, place: Place) -> Result<ViewDef, ParserError> {
    let name = name(parser, "a view name")?;
    let mut columns = Vec::new();
    if parser.peek_token_ref().token == Token::LParen {
        columns = names(parser, "a column name")?;
    }
    if take_word(parser, "COMMENT") {
        string(parser, "a comment in single quotes")?;
    }
    if !take_word(parser, "AS") {
        return expected("AS and the view's query", parser);
    }
    match first_words(parser).as_str() {
        "SELECT" | "WITH" | "VALUES" | "(" => {}
        _ => return expected("SELECT, WITH or VALUES", parser),
    }
    Ok(ViewDef { name, columns, query: query(parser)?, place })
}

fn string(parser: &mut Parser, what: &str) -> Result<String, ParserError> {
    match &parser.peek_token_ref().token {
        Token::SingleQuotedString(s) => {
            let s = s.clone();
            parser.advance_token();
            Ok(s)
        }
        _ => expected(what, parser),
    }
}
