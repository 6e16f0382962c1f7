//! `/*+ OPTIONS('key' = 'value') */` behind a table's name.
//!
//! To the tokenizer a hint is a comment. Its place is behind the name of a table; where the parsed statement has that
//! table, the options go into its `with_hints`, each as the expression `'key' = 'value'`. A hint that finds no table,
//! or says something else than OPTIONS, is refused: to pass over it would change what the statement means.

use super::fail;
use crate::dialect::MillstreamDialect;
use crate::statement::Statement;
use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr, ObjectNamePart, TableFactor, Value, VisitMut, VisitorMut};
use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use std::ops::ControlFlow;

/// A hint with the name that it stands behind.
pub(super) struct Hint {
    options: Vec<(String, String)>,
    /// Where the name's last part begins.
    behind: Location,
    at: Location,
}

/// The options that a hint gives to a table of the FROM clause.
pub fn table_options(table: &TableFactor) -> Vec<(String, String)> {
    let TableFactor::Table { with_hints, .. } = table else { return Vec::new() };
    let text = |e: &Expr| match e {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(s) => Some(s.clone()),
            _ => None,
        },
        _ => None,
    };
    with_hints
        .iter()
        .filter_map(|hint| match hint {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => Some((text(left)?, text(right)?)),
            _ => None,
        })
        .collect()
}

/// All hints of a statement.
pub(super) fn find(tokens: &[TokenWithSpan]) -> Result<Vec<Hint>, ParserError> {
    let (mut hints, mut behind) = (Vec::new(), None);
    for token in tokens {
        match &token.token {
            Token::Whitespace(Whitespace::MultiLineComment(text)) if text.starts_with('+') => {
                let at = token.span.start;
                let options = read(&text[1..], at)?;
                let Some(behind) = behind else { return misplaced(at) };
                hints.push(Hint { options, behind, at });
            }
            Token::Whitespace(_) => {}
            _ => behind = Some(token.span.start),
        }
    }
    Ok(hints)
}

/// `OPTIONS('key' = 'value', ..)`.
fn read(text: &str, at: Location) -> Result<Vec<(String, String)>, ParserError> {
    let form = "write /*+ OPTIONS('key' = 'value') */";
    let tokens = Tokenizer::new(&MillstreamDialect, text).tokenize()?;
    let mut tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_)));
    match tokens.next() {
        Some(Token::Word(w)) if w.value.eq_ignore_ascii_case("OPTIONS") => {}
        Some(other) => {
            return fail(
                format!("the hint {other} is not supported"),
                "take it out; of Flink's hints only OPTIONS is known",
                at,
            );
        }
        None => return fail("an empty hint", form, at),
    }
    if tokens.next() != Some(Token::LParen) {
        return fail("cannot read the hint", form, at);
    }
    let mut options = Vec::new();
    loop {
        match (tokens.next(), tokens.next(), tokens.next()) {
            (Some(Token::SingleQuotedString(k)), Some(Token::Eq), Some(Token::SingleQuotedString(v))) => {
                options.push((k, v));
            }
            _ => return fail("cannot read the hint", form, at),
        }
        match tokens.next() {
            Some(Token::Comma) => {}
            Some(Token::RParen) => break,
            _ => return fail("cannot read the hint", form, at),
        }
    }
    if tokens.next().is_some() {
        return fail("more than one hint in one comment", form, at);
    }
    Ok(options)
}

/// Puts the hints to their tables.
pub(super) fn attach(statement: &mut Statement, hints: Vec<Hint>) -> Result<(), ParserError> {
    if hints.is_empty() {
        return Ok(());
    }
    let mut attach = Attach { hints };
    super::balance::each_query(statement, &mut |query| {
        let _ = VisitMut::visit(query, &mut attach);
    });
    match attach.hints.first() {
        Some(left) => misplaced(left.at),
        None => Ok(()),
    }
}

fn misplaced<T>(at: Location) -> Result<T, ParserError> {
    fail(
        "a hint has to stand behind the name of a table in FROM",
        "write FROM t /*+ OPTIONS('key' = 'value') */ AS a, or put the options into the table's WITH clause",
        at,
    )
}

struct Attach {
    hints: Vec<Hint>,
}

impl VisitorMut for Attach {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, with_hints, .. } = table
            && let Some(ObjectNamePart::Identifier(last)) = name.0.last()
        {
            self.hints.retain(|hint| {
                if hint.behind != last.span.start {
                    return true;
                }
                let text = |s: &str| Box::new(Expr::Value(Value::SingleQuotedString(s.into()).into()));
                with_hints.extend(hint.options.iter().map(|(k, v)| Expr::BinaryOp {
                    left: text(k),
                    op: BinaryOperator::Eq,
                    right: text(v),
                }));
                false
            });
        }
        ControlFlow::Continue(())
    }
}
