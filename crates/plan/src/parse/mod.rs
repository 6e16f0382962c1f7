//! Text to statements.
//!
//! ```text
//!  text ──one tokenizer──▶ tokens with line and column ──cut at `;`──▶ one piece for each statement
//!   piece ──guard (depth, length)──▶ ── CREATE, DROP, SET, .. : our own grammar (`ddl`, `types`)
//!                                   └─ SELECT, WITH, VALUES   : sqlparser, with our dialect
//! ```
//!
//! Always true:
//! - Lines and columns are those of the whole text, wherever an error is found.
//! - No text overflows the stack: how deep and how long an expression may be is counted on the tokens before anything
//!   recurses over them.
//! - A statement is taken whole or refused; what sqlparser reads but we do not mean is refused here or by the planner,
//!   never dropped.
//!
//! An error inside the grammar is a [`ParserError`], since sqlparser calls back into our dialect; `errors` turns it into
//! an [`Error`] with place and remedy at the end.

mod balance;
mod check;
mod ddl;
mod emit;
mod errors;
mod hints;
pub mod types;

use crate::catalog::Span;
use crate::dialect::MillstreamDialect;
use crate::statement::{Insert, Statement, StatementKind};
use datafusion_sql::sqlparser::ast::Query;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span as TokenSpan, Token, TokenWithSpan, Tokenizer, Whitespace};
use millstream_core::{Error, Place, Result};

pub use hints::{broadcast, table_options};

/// How deep parentheses, brackets and types may be nested in one statement.
pub const NESTING_MAX: usize = 64;

/// How many words an expression may have without AND and OR, not counting what stands in parentheses or in CASE.
pub const CHAIN_WORDS_MAX: usize = 500;

/// How many words an expression may have, with AND and OR.
pub const EXPRESSION_WORDS_MAX: usize = 20_000;

/// How many queries may be joined by UNION, INTERSECT and EXCEPT at one level.
pub const SET_OPERATIONS_MAX: usize = 64;

/// How many joins one level of a query may have.
pub const JOINS_MAX: usize = 256;

/// How long a text may be, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 << 20;

/// sqlparser's own count of how deep it recurses: a call costs one, a subquery three.
const RECURSION_MAX: usize = 128;

/// What `RECURSION_MAX` needs at most, with room to spare: 90 kB for each count where sqlparser is not optimised.
const STACK_BYTES: usize = 32 << 20;

/// Reads a script: statements separated by `;`. `file` is its name, for the places in errors.
///
/// # Errors
/// The first statement that cannot be read, with its place and a remedy.
pub fn script(text: &str, file: &str) -> Result<Vec<Statement>> {
    // The mark that some editors put before the text.
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::sql(format!("the text has {} bytes; at most {TEXT_BYTES_MAX} are read", text.len()))
            .at(Place::line_column(file, 1, 1))
            .remedy("cut the script into several files; rows belong into a file that a table reads"));
    }
    let tokens = Tokenizer::new(&MillstreamDialect, text)
        .tokenize_with_location()
        .map_err(|e| errors::from_tokenizer(&e, file))?;
    with_stack(|| cut(&tokens).into_iter().map(|piece| Source { file }.statement(piece)).collect())
}

/// Runs `work` on a stack of a known size, so that what can be read does not depend on who asks. The pages that are not
/// touched cost nothing; the thread ends before this returns.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread is the only way to a stack of a known size; nothing runs beside it"
)]
pub(crate) fn with_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("sql".into()).stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match reader.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(e) => Err(Error::io(format!("cannot start a thread to read the SQL text: {e}"))
                .remedy("free memory, or raise the limit of threads (ulimit -u)")),
        }
    })
}

/// Reads one expression, as it would stand in a query.
///
/// # Errors
/// As for [`script`].
pub fn expression(text: &str, file: &str) -> Result<datafusion_sql::sqlparser::ast::Expr> {
    let tokens = Tokenizer::new(&MillstreamDialect, text)
        .tokenize_with_location()
        .map_err(|e| errors::from_tokenizer(&e, file))?;
    let parsed = || {
        guard_depth(&tokens)?;
        let mut parser = parser_over(tokens.clone());
        let mut expr = parser.parse_expr()?;
        balance::expression(&mut expr);
        check::expression(&expr)?;
        match parser.peek_token_ref().token {
            Token::EOF => Ok(expr),
            _ => expected("the end of the expression", &parser),
        }
    };
    let start = Span { line: 1, column: 1 };
    with_stack(|| parsed().map_err(|e| errors::from_parser(&errors::deepest(e, &tokens), start, file)))
}

/// For fuzzing: any bytes give statements or an error, never a panic.
pub fn fuzz_script(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match script(&text, "fuzz.sql") {
        Ok(statements) => {
            let mut catalog = crate::catalog::Catalog::default();
            for statement in &statements {
                if let Err(e) = catalog.apply(statement, "fuzz.sql") {
                    crate::message::render(&e, &text, false);
                }
            }
            for target in [crate::target::Target::Flink1_20, crate::target::Target::Flink2_2] {
                crate::target::lint(&statements, target, "fuzz.sql");
            }
        }
        Err(e) => drop(crate::message::render(&e, &text, false)),
    }
}

/// The tokens of one statement, without the `;`, and where it ends.
struct Piece<'t> {
    tokens: &'t [TokenWithSpan],
    end: Location,
}

/// Cuts at `;`. A statement set holds `;` inside: it ends behind its `END`.
fn cut(tokens: &[TokenWithSpan]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut words, mut in_set, mut fresh, mut closed) = (0, Vec::<&str>::new(), false, true, false);
    let mut last = Location::new(1, 1);
    for (i, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => continue,
            Token::SemiColon if !in_set || closed => {
                if !words.is_empty() {
                    pieces.push(Piece { tokens: &tokens[start..i], end: token.span.start });
                }
                (start, in_set, closed) = (i + 1, false, false);
                words.clear();
                fresh = true;
                continue;
            }
            Token::SemiColon => fresh = true,
            Token::Word(w) => {
                closed = in_set && fresh && w.keyword == Keyword::END;
                fresh = w.keyword == Keyword::BEGIN;
                if words.len() < 8 {
                    words.push(&w.value);
                    in_set = in_set || opens_a_set(&words);
                }
            }
            _ => {
                fresh = false;
                if words.len() < 8 {
                    words.push("");
                }
            }
        }
        last = token.span.end;
    }
    if !words.is_empty() {
        pieces.push(Piece { tokens: &tokens[start..], end: last });
    }
    pieces
}

/// `[EXPLAIN [PLAN FOR | MERMAID]] (EXECUTE STATEMENT SET | STATEMENT SET | BEGIN STATEMENT SET)` has been read.
fn opens_a_set(words: &[&str]) -> bool {
    let is = |i: usize, word: &str| words.get(i).is_some_and(|w| w.eq_ignore_ascii_case(word));
    let mut at = 0;
    if is(0, "EXPLAIN") {
        at = if is(1, "PLAN") && is(2, "FOR") { 3 } else { 1 + usize::from(is(1, "MERMAID")) };
    }
    if is(at, "EXECUTE") || is(at, "BEGIN") {
        at += 1;
    }
    is(at, "STATEMENT") && is(at + 1, "SET")
}

/// The text that the pieces come from.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a str,
}

impl Source<'_> {
    fn statement(self, piece: Piece<'_>) -> Result<Statement> {
        let span = piece.tokens.iter().find(|t| !matches!(t.token, Token::Whitespace(_))).map(span_of);
        let span = span.unwrap_or(Span { line: 1, column: 1 });
        let read = || {
            guard_depth(piece.tokens)?;
            let hints = hints::find(piece.tokens)?;
            let mut tokens = emit::rewrite(piece.tokens)?.unwrap_or_else(|| piece.tokens.to_vec());
            tokens.push(TokenWithSpan::new(Token::EOF, TokenSpan::new(piece.end, piece.end)));
            let mut parser = parser_over(tokens);
            let mut statement = self.one(&mut parser)?;
            if parser.peek_token_ref().token != Token::EOF {
                return expected("`;` or the end of the statement", &parser);
            }
            balance::statement(&mut statement);
            check::statement(&statement)?;
            hints::attach(&mut statement, hints)?;
            Ok(statement)
        };
        read().map_err(|e: ParserError| {
            let e = errors::deepest(e, piece.tokens);
            errors::from_parser(&e, span, self.file)
        })
    }

    fn one(self, parser: &mut Parser) -> Result<Statement, ParserError> {
        let span = span_of(parser.peek_token_ref());
        let kind = match first_words(parser).as_str() {
            "CREATE" => ddl::create(parser, self.file)?,
            "DROP" => ddl::drop(parser)?,
            "INSERT" => StatementKind::Insert(insert(parser)?),
            "SET" | "RESET" => set(parser)?,
            "EXECUTE" | "BEGIN" | "STATEMENT" => self.statement_set(parser)?,
            "EXPLAIN" => return self.explain(parser),
            "SELECT" | "WITH" | "VALUES" | "(" => StatementKind::Query(query(parser)?),
            other => return errors::no_such_statement(other, parser),
        };
        Ok(Statement { span, kind })
    }

    /// `EXECUTE STATEMENT SET BEGIN .. END`, `BEGIN STATEMENT SET; .. END`, behind EXPLAIN also `STATEMENT SET BEGIN`.
    fn statement_set(self, parser: &mut Parser) -> Result<StatementKind, ParserError> {
        let begin_first = is_word(parser, 0, "BEGIN");
        let start = place_of(parser);
        if !is_word(parser, 0, "STATEMENT") {
            parser.advance_token();
        }
        if !is_word(parser, 0, "STATEMENT") && !begin_first {
            return self.execute(parser);
        }
        for word in ["STATEMENT", "SET"] {
            if !take_word(parser, word) {
                return expected("STATEMENT SET", parser);
            }
        }
        if !begin_first && !take_word(parser, "BEGIN") {
            return expected("BEGIN", parser);
        }
        let mut inserts = Vec::new();
        loop {
            while parser.consume_token(&Token::SemiColon) {}
            if take_word(parser, "END") {
                break;
            }
            if parser.peek_token_ref().token == Token::EOF {
                return fail("the statement set is not closed", "end it with END;", start);
            }
            if !is_word(parser, 0, "INSERT") {
                return fail(
                    "a statement set holds INSERT INTO statements only",
                    "put CREATE and SET before the set",
                    place_of(parser),
                );
            }
            inserts.push(insert(parser)?);
            if !matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
                return expected("`;`", parser);
            }
        }
        if inserts.is_empty() {
            return fail("the statement set is empty", "put at least one INSERT INTO between BEGIN and END", start);
        }
        Ok(StatementKind::StatementSet(inserts))
    }

    /// `EXECUTE INSERT INTO ..`, `EXECUTE SELECT ..`: Flink's long form of the plain statement.
    fn execute(self, parser: &mut Parser) -> Result<StatementKind, ParserError> {
        match first_words(parser).as_str() {
            "INSERT" | "SELECT" | "WITH" | "VALUES" => Ok(self.one(parser)?.kind),
            _ => expected("STATEMENT SET BEGIN", parser),
        }
    }

    fn explain(self, parser: &mut Parser) -> Result<Statement, ParserError> {
        let span = span_of(parser.peek_token_ref());
        parser.advance_token();
        let mermaid = take_word(parser, "MERMAID");
        // Each plan says it.
        take_word(parser, "CHANGELOG_MODE");
        if is_word(parser, 0, "PLAN") {
            parser.advance_token();
            if !take_word(parser, "FOR") {
                return expected("FOR", parser);
            }
        }
        let first = first_words(parser);
        match first.as_str() {
            "INSERT" | "SELECT" | "WITH" | "VALUES" | "(" | "EXECUTE" | "STATEMENT" | "BEGIN" => {
                let statement = Box::new(self.one(parser)?);
                Ok(Statement { span, kind: StatementKind::Explain { mermaid, statement } })
            }
            "ESTIMATED_COST" | "JSON_EXECUTION_PLAN" | "PLAN_ADVICE" => fail(
                format!("EXPLAIN {first} is not supported"),
                "write EXPLAIN followed by the statement: its plan shows what there is to know",
                place_of(parser),
            ),
            _ => expected("a query, INSERT INTO or a statement set to explain", parser),
        }
    }
}

/// `SET 'k' = 'v'`, `SET k = v`, `RESET 'k'`, `RESET`.
fn set(parser: &mut Parser) -> Result<StatementKind, ParserError> {
    let reset = is_word(parser, 0, "RESET");
    let begin = place_of(parser);
    parser.advance_token();
    if parser.peek_token_ref().token == Token::EOF {
        if reset {
            return Ok(StatementKind::Set { key: String::new(), value: None });
        }
        return fail("SET needs a key", "write SET 'key' = 'value'", begin);
    }
    let from = place_of(parser);
    let key = as_written(parser, true);
    if key.is_empty() || key.contains(|c: char| c.is_whitespace() || "'\"`".contains(c)) {
        return fail(format!("{key} is no key"), "write SET 'key' = 'value'", from);
    }
    if parser.peek_token_ref().token == Token::EOF {
        return Ok(StatementKind::Set { key, value: None });
    }
    if reset {
        return fail("RESET takes a key and no value", format!("write RESET '{key}'"), place_of(parser));
    }
    parser.expect_token(&Token::Eq)?;
    let from = place_of(parser);
    let value = as_written(parser, false);
    if value.is_empty() && parser.get_current_token().token == Token::Eq {
        return fail(format!("SET '{key}' has no value"), format!("write SET '{key}' = 'value'"), from);
    }
    if value.starts_with('\'') || value.starts_with('"') {
        return fail(format!("cannot read the value of '{key}'"), format!("write SET '{key}' = 'value'"), from);
    }
    Ok(StatementKind::Set { key, value: Some(value) })
}

/// What stands up to the end (or up to `=`): a string's content, or the characters as they are, without comments.
fn as_written(parser: &mut Parser, up_to_eq: bool) -> String {
    let ends = |token: &Token| matches!(token, Token::EOF) || (up_to_eq && *token == Token::Eq);
    if let Token::SingleQuotedString(s) = &parser.peek_token_ref().token
        && ends(&parser.peek_nth_token_ref(1).token)
    {
        let s = s.clone();
        parser.advance_token();
        return s;
    }
    let mut written = String::new();
    while !ends(&parser.peek_token_ref().token) {
        match parser.next_token_no_skip().map(|t| &t.token) {
            Some(Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_))) => {}
            Some(token) => written.push_str(&token.to_string()),
            None => break,
        }
    }
    written.trim().to_string()
}

/// `INSERT INTO t [(columns)] query`.
fn insert(parser: &mut Parser) -> Result<Insert, ParserError> {
    let span = span_of(parser.peek_token_ref());
    parser.expect_keyword_is(Keyword::INSERT)?;
    if is_word(parser, 0, "OVERWRITE") {
        return fail(
            "INSERT OVERWRITE is not supported",
            "use INSERT INTO; each run of a filesystem table writes new files",
            place_of(parser),
        );
    }
    if !take_word(parser, "INTO") {
        return expected("INTO", parser);
    }
    let table = name(parser, "a table name")?;
    if is_word(parser, 0, "PARTITION") {
        return fail(
            "INSERT INTO .. PARTITION (..) is not supported",
            "select the partition's value as a column: the sink sorts rows into partitions by it",
            place_of(parser),
        );
    }
    let mut columns = Vec::new();
    let column_list = parser.peek_token_ref().token == Token::LParen
        && !matches!(&parser.peek_nth_token_ref(1).token,
            Token::Word(w) if matches!(w.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES))
        && parser.peek_nth_token_ref(1).token != Token::LParen;
    if column_list {
        columns = names(parser, "a column name")?;
    }
    match first_words(parser).as_str() {
        "SELECT" | "WITH" | "VALUES" | "(" => {}
        "EOF" => {
            return fail(
                "INSERT INTO has no query",
                format!("write INSERT INTO {table} SELECT .., or VALUES (..)"),
                place_of(parser),
            );
        }
        _ => return expected("SELECT, WITH or VALUES", parser),
    }
    Ok(Insert { span, table, columns, query: query(parser)? })
}

/// A query, whole.
fn query(parser: &mut Parser) -> Result<Box<Query>, ParserError> {
    parser.parse_query()
}

/// A name of one part.
fn name(parser: &mut Parser, what: &str) -> Result<String, ParserError> {
    let at = place_of(parser);
    let ident = match &parser.peek_token_ref().token {
        Token::Word(_) => parser.parse_identifier()?,
        Token::SingleQuotedString(s) => {
            let remedy = format!("names stand in back-quotes or bare: `{s}`");
            return fail(format!("expected {what}, found the string '{s}'"), remedy, at);
        }
        _ => return expected(what, parser),
    };
    if parser.peek_token_ref().token == Token::Period {
        return fail(
            format!("`{}` is followed by `.`", ident.value),
            "catalogs, databases and nested names are not supported here: use a name of one part",
            place_of(parser),
        );
    }
    Ok(ident.value)
}

/// `(a, b, c)`.
fn names(parser: &mut Parser, what: &str) -> Result<Vec<String>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return expected("`(`", parser);
    }
    let mut names = Vec::new();
    loop {
        names.push(name(parser, what)?);
        if parser.consume_token(&Token::RParen) {
            return Ok(names);
        }
        if !parser.consume_token(&Token::Comma) {
            return expected("`,` or `)`", parser);
        }
    }
}

/// What one level of parentheses, or of CASE, has seen.
#[derive(Default)]
struct Level {
    case: bool,
    /// Words since the last comma or clause.
    words: usize,
    /// Words since the last comma, clause, AND or OR.
    chained: usize,
    /// BETWEENs that wait for their AND.
    betweens: usize,
    set_operations: usize,
    joins: usize,
}

/// Refuses what would recurse too deep, counted on the tokens.
///
/// A chain `a + b + c ..` is a tree as deep as it is long, so every word counts. AND and OR start anew: their chains are
/// made flat (`balance`) before anybody walks over them.
fn guard_depth(tokens: &[TokenWithSpan]) -> Result<(), ParserError> {
    let mut levels = vec![Level::default()];
    // `ARRAY<ARRAY<..` nests without parentheses; `a < b < c` is a chain and counts as one, too.
    let mut angles = 0;
    for token in tokens {
        let at = token.span.start;
        let keyword = match &token.token {
            Token::Whitespace(_) => continue,
            Token::Word(w) if w.quote_style.is_none() => w.keyword,
            _ => Keyword::NoKeyword,
        };
        if matches!(token.token, Token::RParen | Token::RBracket | Token::RBrace) {
            while levels.len() > 1 && levels.pop().is_some_and(|l| l.case) {}
            continue;
        }
        if keyword == Keyword::END && levels.last().is_some_and(|l| l.case) {
            levels.pop();
            continue;
        }
        let Some(level) = levels.last_mut() else { return Ok(()) };
        level.words += 1;
        level.chained += 1;
        if level.chained > CHAIN_WORDS_MAX || level.words > EXPRESSION_WORDS_MAX {
            let what = match level.chained > CHAIN_WORDS_MAX {
                true => format!("an expression of more than {CHAIN_WORDS_MAX} words without AND or OR"),
                false => format!("an expression of more than {EXPRESSION_WORDS_MAX} words"),
            };
            let remedy = "use x IN (..) for many values, cut it into parts in a view, or put the values into a table";
            return fail(what, remedy, at);
        }
        match (&token.token, keyword) {
            (Token::LParen | Token::LBracket | Token::LBrace, _) | (_, Keyword::CASE) => {
                levels.push(Level { case: keyword == Keyword::CASE, ..Level::default() });
                if levels.len() > NESTING_MAX {
                    return fail(
                        format!("nested more than {NESTING_MAX} levels deep"),
                        "cut the inner part out into a view, or a WITH query",
                        at,
                    );
                }
            }
            (Token::Lt, _) => {
                angles += 1;
                if angles > NESTING_MAX {
                    let what = format!("more than {NESTING_MAX} `<` in one expression or type");
                    return fail(what, "cut it into smaller ones", at);
                }
            }
            (Token::Comma | Token::SemiColon, _) => (level.words, level.chained, angles) = (0, 0, 0),
            // None of these can stand inside an expression without parentheses (FROM can: IS DISTINCT FROM).
            (_, Keyword::SELECT | Keyword::WHERE | Keyword::HAVING | Keyword::JOIN) => {
                (level.words, level.chained, angles) = (0, 0, 0);
                level.joins += usize::from(keyword == Keyword::JOIN);
                if level.joins > JOINS_MAX {
                    return fail(format!("more than {JOINS_MAX} joins in one query"), "cut the query into views", at);
                }
            }
            (_, Keyword::WHEN | Keyword::THEN | Keyword::ELSE) if level.case => {
                (level.words, level.chained, angles) = (0, 0, 0);
            }
            (_, Keyword::BETWEEN) => level.betweens += 1,
            (_, Keyword::AND) if level.betweens > 0 => level.betweens -= 1,
            (_, Keyword::AND | Keyword::OR) => (level.chained, angles) = (0, 0),
            (_, Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::MINUS) => {
                level.set_operations += 1;
                if level.set_operations > SET_OPERATIONS_MAX {
                    return fail(
                        format!("more than {SET_OPERATIONS_MAX} queries in one chain of set operations"),
                        "read the tables in several INSERT INTO statements, in one statement set",
                        at,
                    );
                }
            }
            (_, Keyword::INSERT) => (level.set_operations, level.joins) = (0, 0),
            _ => {}
        }
    }
    Ok(())
}

fn parser_over(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&MillstreamDialect).with_recursion_limit(RECURSION_MAX).with_tokens_with_locations(tokens)
}

/// Separates what is wrong from what to do about it, inside the text of a `ParserError`.
const REMEDY: char = '\u{1}';

/// An error with its remedy, carried through sqlparser's own error type.
pub(crate) fn fail<T>(what: impl AsRef<str>, remedy: impl AsRef<str>, at: Location) -> Result<T, ParserError> {
    Err(ParserError::ParserError(format!("{}{REMEDY}{}{at}", what.as_ref(), remedy.as_ref())))
}

/// `Expected: what, found: the next token`, as sqlparser says it.
fn expected<T>(what: &str, parser: &Parser) -> Result<T, ParserError> {
    parser.expected_ref(what, parser.peek_token_ref())
}

/// True when the `n`-th token from here is this word, unquoted.
fn is_word(parser: &Parser, n: usize, word: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(n).token,
        Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

fn take_word(parser: &mut Parser, word: &str) -> bool {
    let found = is_word(parser, 0, word);
    if found {
        parser.advance_token();
    }
    found
}

/// The next token in capitals.
fn first_words(parser: &Parser) -> String {
    parser.peek_token_ref().token.to_string().to_uppercase()
}

fn place_of(parser: &Parser) -> Location {
    parser.peek_token_ref().span.start
}

fn span_of(token: &TokenWithSpan) -> Span {
    Span { line: token.span.start.line, column: token.span.start.column }
}

#[cfg(test)]
mod tests;
