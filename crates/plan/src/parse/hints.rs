//! `/*+ OPTIONS('key' = 'value') */` behind a table's name, `/*+ BROADCAST(t) */` behind SELECT.
//!
//! To the tokenizer a hint is a comment. OPTIONS stands behind the name of a table; where the parsed statement has that
//! table, the options go into its `with_hints`, each as the expression `'key' = 'value'`. BROADCAST goes into the
//! `optimizer_hints` of its SELECT. A hint that finds no place, or says something else, is refused: to pass over it would
//! change what the statement means, or what it takes to run it.

use super::fail;
use crate::dialect::MillstreamDialect;
use crate::statement::Statement;
use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, ObjectNamePart, OptimizerHint, OptimizerHintStyle, Select, TableFactor, Value, VisitMut,
    VisitorMut,
};
use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace};
use std::ops::ControlFlow;

/// What a hint says, without blanks.
type Tokens = std::vec::IntoIter<Token>;

/// A hint with the word that it stands behind.
pub(super) struct Hint {
    says: Says,
    /// Where that word begins: SELECT, or the last part of a table's name.
    behind: Location,
    at: Location,
}

enum Says {
    Options(Vec<(String, String)>),
    /// The names of tables.
    Broadcast(Vec<String>),
}

/// The tables that a SELECT wants in every task.
pub fn broadcast(select: &Select) -> Vec<String> {
    select.optimizer_hints.iter().filter(|h| h.prefix == BROADCAST).map(|h| h.text.clone()).collect()
}

const BROADCAST: &str = "BROADCAST";

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
                let says = read(&text[1..], at)?;
                let Some(behind) = behind else { return misplaced(&says, at) };
                hints.push(Hint { says, behind, at });
            }
            Token::Whitespace(_) => {}
            _ => behind = Some(token.span.start),
        }
    }
    Ok(hints)
}

/// `OPTIONS('key' = 'value', ..)` or `BROADCAST(t, ..)`.
fn read(text: &str, at: Location) -> Result<Says, ParserError> {
    let tokens = Tokenizer::new(&MillstreamDialect, text).tokenize()?;
    let tokens = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_)));
    let mut tokens = tokens.collect::<Vec<_>>().into_iter();
    match tokens.next() {
        Some(Token::Word(w)) if w.value.eq_ignore_ascii_case("OPTIONS") => options(tokens, at).map(Says::Options),
        Some(Token::Word(w)) if w.value.eq_ignore_ascii_case(BROADCAST) => names(tokens, at).map(Says::Broadcast),
        Some(other) => fail(
            format!("the hint {other} is not supported"),
            "take it out; of Flink's hints OPTIONS and BROADCAST are known",
            at,
        ),
        None => fail("an empty hint", OPTIONS_FORM, at),
    }
}

const OPTIONS_FORM: &str = "write /*+ OPTIONS('key' = 'value') */";

/// `(t, s, ..)`: names of tables, or texts as Flink takes them.
fn names(tokens: Tokens, at: Location) -> Result<Vec<String>, ParserError> {
    let form = "write SELECT /*+ BROADCAST(t) */, with the name or the alias of a table in FROM";
    listed(tokens, at, form, |tokens| match tokens.next() {
        Some(Token::Word(w)) => Some(w.value),
        Some(Token::SingleQuotedString(name)) => Some(name),
        _ => None,
    })
}

/// `('key' = 'value', ..)`.
fn options(tokens: Tokens, at: Location) -> Result<Vec<(String, String)>, ParserError> {
    listed(tokens, at, OPTIONS_FORM, |tokens| match (tokens.next(), tokens.next(), tokens.next()) {
        (Some(Token::SingleQuotedString(k)), Some(Token::Eq), Some(Token::SingleQuotedString(v))) => Some((k, v)),
        _ => None,
    })
}

/// What stands in the parentheses of a hint, with commas between and nothing behind.
fn listed<T>(
    mut tokens: Tokens,
    at: Location,
    form: &str,
    one: impl Fn(&mut Tokens) -> Option<T>,
) -> Result<Vec<T>, ParserError> {
    let wrong = || fail("cannot read the hint", form, at);
    if tokens.next() != Some(Token::LParen) {
        return wrong();
    }
    let mut all = Vec::new();
    loop {
        match one(&mut tokens) {
            Some(one) => all.push(one),
            None => return wrong(),
        }
        match tokens.next() {
            Some(Token::Comma) => {}
            Some(Token::RParen) => break,
            _ => return wrong(),
        }
    }
    match tokens.next() {
        None => Ok(all),
        Some(_) => fail("more than one hint in one comment", form, at),
    }
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
        Some(left) => misplaced(&left.says, left.at),
        None => Ok(()),
    }
}

fn misplaced<T>(says: &Says, at: Location) -> Result<T, ParserError> {
    let (what, remedy) = match says {
        Says::Options(_) => (
            "a hint has to stand behind the name of a table in FROM",
            "write FROM t /*+ OPTIONS('key' = 'value') */ AS a, or put the options into the table's WITH clause",
        ),
        Says::Broadcast(_) => {
            ("the hint BROADCAST has to stand behind SELECT", "write SELECT /*+ BROADCAST(t) */ .. FROM s JOIN t ON ..")
        }
    };
    fail(what, remedy, at)
}

struct Attach {
    hints: Vec<Hint>,
}

impl VisitorMut for Attach {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let behind = select.select_token.0.span.start;
        self.hints.retain(|hint| {
            let Says::Broadcast(names) = &hint.says else { return true };
            if hint.behind != behind {
                return true;
            }
            // One for each name, so that nobody has to read them again.
            select.optimizer_hints.extend(names.iter().map(|name| OptimizerHint {
                prefix: BROADCAST.to_owned(),
                text: name.clone(),
                style: OptimizerHintStyle::MultiLine,
            }));
            false
        });
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, with_hints, .. } = table
            && let Some(ObjectNamePart::Identifier(last)) = name.0.last()
        {
            self.hints.retain(|hint| {
                let Says::Options(options) = &hint.says else { return true };
                if hint.behind != last.span.start {
                    return true;
                }
                let text = |s: &str| Box::new(Expr::Value(Value::SingleQuotedString(s.into()).into()));
                with_hints.extend(options.iter().map(|(k, v)| Expr::BinaryOp {
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
