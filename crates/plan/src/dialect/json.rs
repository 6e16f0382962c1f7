//! The clauses of JSON functions, as plain arguments and calls.
//!
//! ```text
//!  JSON_VALUE(x, p RETURNING t)                ──▶ TRY_CAST(JSON_VALUE(x, p) AS t)
//!  JSON_VALUE(x, p DEFAULT d ON EMPTY)         ──▶ JSON_VALUE(x, p, 'STRING', 'DEFAULT', d, 'NULL', NULL)
//!  JSON_QUERY(x, p WITH WRAPPER NULL ON ERROR) ──▶ JSON_QUERY(x, p, 'WITH', 'NULL', 'NULL')
//!  JSON_EXISTS(x, p TRUE ON ERROR)             ──▶ JSON_EXISTS(x, p, 'TRUE')
//!  JSON_OBJECT(KEY k VALUE v ABSENT ON NULL)   ──▶ JSON_OBJECT_ABSENT_ON_NULL(k, v)
//!  JSON_ARRAYAGG(x), JSON_OBJECTAGG(k VALUE v) ──▶ LISTAGG between brackets
//!  x IS JSON ARRAY                             ──▶ IS_JSON(x, 'ARRAY')
//! ```

use super::{call, parse_cast_type, unnamed};
use crate::parse::fail;
use datafusion_sql::sqlparser::ast::{CastKind, DataType, Expr, FunctionArg, Ident, UnaryOperator, Value};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token};

type Parsed = Result<Expr, ParserError>;

/// The function that reads on from a name with a parenthesis behind it, where that name has clauses of its own.
pub fn parser_of(name: &str, parser: &Parser) -> Option<fn(&mut Parser) -> Parsed> {
    // `JSON_OBJECT(key VALUE 1)` has a column `key`.
    let names_key = || {
        is_word(&parser.peek_nth_token_ref(2).token, "KEY")
            && !is_word(&parser.peek_nth_token_ref(3).token, "VALUE")
            && !matches!(
                parser.peek_nth_token_ref(3).token,
                Token::Colon | Token::Comma | Token::Period | Token::RParen | Token::LParen
            )
    };
    Some(match name.to_ascii_uppercase().as_str() {
        "JSON_VALUE" => value,
        "JSON_QUERY" => query,
        "JSON_EXISTS" => exists,
        "JSON_OBJECT" if names_key() => object,
        "JSON_ARRAYAGG" => array_of_rows,
        "JSON_OBJECTAGG" => object_of_rows,
        _ => return None,
    })
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn takes(parser: &mut Parser, word: &str) -> bool {
    let found = is_word(&parser.peek_token_ref().token, word);
    if found {
        parser.advance_token();
    }
    found
}

fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

fn null() -> Expr {
    Expr::value(Value::Null)
}

/// A call of the function `name` where another stood.
fn plain(name: &str, at: Span, args: Vec<Expr>) -> Expr {
    let args: Vec<FunctionArg> = args.into_iter().map(unnamed).collect();
    call(Ident::with_span(at, name), args)
}

/// What is to be answered in place of a value.
struct Answer {
    word: String,
    default: Option<Expr>,
}

/// `<answer> ON EMPTY`, `<answer> ON ERROR`: the answers to both, where they are given.
fn answers(parser: &mut Parser, allowed: &[&str]) -> Result<[Option<Answer>; 2], ParserError> {
    let mut answers = [None, None];
    loop {
        let at = parser.peek_token_ref().span.start;
        let Token::Word(word) = &parser.peek_token_ref().token else { return Ok(answers) };
        let mut word = word.value.to_ascii_uppercase();
        if !allowed.iter().any(|a| a.split(' ').next() == Some(word.as_str())) {
            return Ok(answers);
        }
        parser.advance_token();
        let mut default = None;
        match word.as_str() {
            "DEFAULT" => default = Some(parser.parse_expr()?),
            "EMPTY" => {
                let what = if takes(parser, "OBJECT") { "OBJECT" } else { "ARRAY" };
                if what == "ARRAY" && !takes(parser, "ARRAY") {
                    return parser.expected_ref("ARRAY or OBJECT after EMPTY", parser.peek_token_ref());
                }
                word = format!("EMPTY {what}");
            }
            _ => {}
        }
        parser.expect_keyword_is(Keyword::ON)?;
        let which = match (takes(parser, "EMPTY"), is_word(&parser.peek_token_ref().token, "ERROR")) {
            (true, _) => 0,
            (false, true) => {
                parser.advance_token();
                1
            }
            _ => return parser.expected_ref("EMPTY or ERROR after ON", parser.peek_token_ref()),
        };
        if answers[which].is_some() {
            let clause = if which == 0 { "EMPTY" } else { "ERROR" };
            return fail(format!("ON {clause} is said twice"), "leave one of them out", at);
        }
        answers[which] = Some(Answer { word, default });
    }
}

/// The name, the parenthesis, and the arguments without clauses.
fn begin(parser: &mut Parser) -> Result<(Ident, Vec<Expr>), ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let mut args = vec![parser.parse_expr()?];
    while parser.consume_token(&Token::Comma) {
        args.push(parser.parse_expr()?);
    }
    Ok((name, args))
}

/// `JSON_VALUE(x, path [RETURNING type] [NULL | ERROR | DEFAULT value ON EMPTY] [.. ON ERROR])`.
fn value(parser: &mut Parser) -> Parsed {
    let (name, mut args) = begin(parser)?;
    let at = parser.peek_token_ref().span.start;
    let mut returning: Option<(DataType, String)> = None;
    if parser.parse_keyword(Keyword::RETURNING) {
        returning = Some(parse_cast_type(parser)?).filter(|(_, text)| text != "STRING");
    }
    let answers = answers(parser, &["NULL", "ERROR", "DEFAULT"])?;
    parser.expect_token(&Token::RParen)?;
    let asked = answers.iter().flatten().any(|a| a.word != "NULL");
    if !asked {
        let value = plain(&name.value, name.span, args);
        return Ok(match returning {
            // NULL ON ERROR is the default.
            Some((data_type, _)) => {
                Expr::Cast { kind: CastKind::TryCast, expr: Box::new(value), data_type, array: false, format: None }
            }
            None => value,
        });
    }
    args.push(text(match returning.as_ref().map(|r| r.1.as_str()) {
        None => "STRING",
        Some(name @ ("BOOLEAN" | "INT" | "DOUBLE")) => name,
        Some(other) => return returns(other, at),
    }));
    for answer in answers {
        let Answer { word, default } = answer.unwrap_or(Answer { word: "NULL".to_owned(), default: None });
        args.extend([text(&word), default.unwrap_or_else(null)]);
    }
    Ok(plain(&name.value, name.span, args))
}

fn returns(other: &str, at: Location) -> Parsed {
    fail(
        format!("JSON_VALUE with ON EMPTY or ON ERROR returns STRING, BOOLEAN, INT or DOUBLE, not {other}"),
        format!("leave RETURNING out and write CAST(JSON_VALUE(..) AS {other})"),
        at,
    )
}

/// `JSON_QUERY(x, path [WITHOUT | WITH [CONDITIONAL | UNCONDITIONAL] [ARRAY] WRAPPER] [.. ON EMPTY] [.. ON ERROR])`.
fn query(parser: &mut Parser) -> Parsed {
    let (name, mut args) = begin(parser)?;
    let at = parser.peek_token_ref().span.start;
    if parser.parse_keyword(Keyword::RETURNING) {
        let (_, returned) = parse_cast_type(parser)?;
        if returned != "STRING" {
            return fail(format!("JSON_QUERY returns STRING, not {returned}"), "leave RETURNING out", at);
        }
    }
    let wrapper = if takes(parser, "WITHOUT") {
        Some("WITHOUT")
    } else if takes(parser, "WITH") {
        let conditional = takes(parser, "CONDITIONAL");
        if !conditional {
            takes(parser, "UNCONDITIONAL");
        }
        Some(if conditional { "CONDITIONAL" } else { "WITH" })
    } else {
        None
    };
    if wrapper.is_some() {
        takes(parser, "ARRAY");
        if !takes(parser, "WRAPPER") {
            return parser.expected_ref("WRAPPER", parser.peek_token_ref());
        }
    }
    let answers = answers(parser, &["NULL", "ERROR", "EMPTY ARRAY"])?;
    parser.expect_token(&Token::RParen)?;
    if wrapper.is_some() || answers.iter().any(Option::is_some) {
        args.push(text(wrapper.unwrap_or("WITHOUT")));
        args.extend(answers.map(|a| text(a.as_ref().map_or("NULL", |a| &a.word))));
    }
    Ok(plain(&name.value, name.span, args))
}

/// `JSON_EXISTS(x, path [TRUE | FALSE | UNKNOWN | ERROR ON ERROR])`.
fn exists(parser: &mut Parser) -> Parsed {
    let (name, mut args) = begin(parser)?;
    let [_, on_error] = answers(parser, &["TRUE", "FALSE", "UNKNOWN", "ERROR"])?;
    parser.expect_token(&Token::RParen)?;
    args.extend(on_error.map(|a| text(&a.word)));
    Ok(plain(&name.value, name.span, args))
}

/// `NULL ON NULL`, `ABSENT ON NULL`: whether NULLs are left out, where it is said.
fn absent_on_null(parser: &mut Parser) -> Result<Option<bool>, ParserError> {
    let absent = is_word(&parser.peek_token_ref().token, "ABSENT");
    if !absent && !is_word(&parser.peek_token_ref().token, "NULL") {
        return Ok(None);
    }
    parser.advance_token();
    parser.expect_keyword_is(Keyword::ON)?;
    parser.expect_keyword_is(Keyword::NULL)?;
    Ok(Some(absent))
}

/// `[KEY] key VALUE value`.
fn pair(parser: &mut Parser) -> Result<[Expr; 2], ParserError> {
    if is_word(&parser.peek_token_ref().token, "KEY") && !is_word(&parser.peek_nth_token_ref(1).token, "VALUE") {
        parser.advance_token();
    }
    let key = parser.parse_expr()?;
    if !parser.consume_token(&Token::Colon) && !takes(parser, "VALUE") {
        return parser.expected_ref("VALUE after the key", parser.peek_token_ref());
    }
    Ok([key, parser.parse_expr()?])
}

/// `JSON_OBJECT(KEY key VALUE value, .. [NULL | ABSENT ON NULL])`.
fn object(parser: &mut Parser) -> Parsed {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let mut args = pair(parser)?.to_vec();
    while parser.consume_token(&Token::Comma) {
        args.extend(pair(parser)?);
    }
    let absent = absent_on_null(parser)?.unwrap_or(false);
    parser.expect_token(&Token::RParen)?;
    Ok(plain(if absent { "json_object_absent_on_null" } else { "json_object" }, name.span, args))
}

/// `JSON_ARRAYAGG(value [NULL | ABSENT ON NULL])`; NULLs are left out where nothing else is said.
fn array_of_rows(parser: &mut Parser) -> Parsed {
    let (name, mut args) = begin(parser)?;
    let absent = absent_on_null(parser)?.unwrap_or(true);
    parser.expect_token(&Token::RParen)?;
    let mut item = plain("json_string", name.span, vec![args.remove(0)]);
    if !absent {
        item = plain("coalesce", name.span, vec![item, text("null")]);
    }
    Ok(listed(name.span, "[", item, "]"))
}

/// `JSON_OBJECTAGG([KEY] key VALUE value [NULL | ABSENT ON NULL])`.
fn object_of_rows(parser: &mut Parser) -> Parsed {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::LParen)?;
    let [key, value] = pair(parser)?;
    let absent = absent_on_null(parser)?.unwrap_or(false);
    parser.expect_token(&Token::RParen)?;
    let (key, mut value) = (plain("json_string", name.span, vec![key]), plain("json_string", name.span, vec![value]));
    if !absent {
        value = plain("coalesce", name.span, vec![value, text("null")]);
    }
    // A NULL among them makes the whole NULL, which LISTAGG leaves out.
    let member = plain("concat", name.span, vec![key, text(":"), value]);
    Ok(listed(name.span, "{", member, "}"))
}

/// The items of all rows between brackets, as JSON.
fn listed(at: Span, open: &str, item: Expr, close: &str) -> Expr {
    let items = plain("listagg", at, vec![item, text(",")]);
    let items = plain("coalesce", at, vec![items, text("")]);
    plain("json", at, vec![plain("concat", at, vec![text(open), items, text(close)])])
}

/// `IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]` behind a value; `None` where something else follows.
pub fn is_json(parser: &mut Parser, value: &Expr) -> Option<Parsed> {
    if !is_word(&parser.peek_token_ref().token, "IS") {
        return None;
    }
    let negated = is_word(&parser.peek_nth_token_ref(1).token, "NOT");
    if !is_word(&parser.peek_nth_token_ref(1 + usize::from(negated)).token, "JSON") {
        return None;
    }
    let at = parser.peek_token_ref().span;
    (0..2 + usize::from(negated)).for_each(|_| parser.advance_token());
    let kind = ["VALUE", "SCALAR", "ARRAY", "OBJECT"].into_iter().find(|kind| takes(parser, kind));
    let test = plain("is_json", at, vec![value.clone(), text(kind.unwrap_or("VALUE"))]);
    Some(Ok(match negated {
        true => Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(test) },
        false => test,
    }))
}
