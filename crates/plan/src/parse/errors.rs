//! What sqlparser says, said so that it helps.
//!
//! sqlparser knows what it expected and what it found, and where. This adds what to do about it, from the tokens around
//! the place: a comma too many, a parenthesis that was never closed, a reserved word used as a name.

use super::{REMEDY, expected, fail, parser_over, place_of};
use crate::catalog::Span;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span as TokenSpan, Token, TokenWithSpan, TokenizerError};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Place};

/// What stands behind an error's text: ` at Line: 3, Column: 5`.
const LOCATION: &str = " at Line: ";

/// Statements that are ours, for "did you mean".
const STATEMENTS: [&str; 12] = [
    "SELECT",
    "INSERT",
    "CREATE",
    "DROP",
    "SET",
    "RESET",
    "EXPLAIN",
    "EXECUTE",
    "WITH",
    "VALUES",
    "BEGIN",
    "STATEMENT",
];

/// A statement that begins with a word we do not know.
pub(super) fn no_such_statement<T>(first: &str, parser: &Parser) -> Result<T, ParserError> {
    let remedy = match first {
        "USE" => "leave it out: all tables of a script live in one catalog",
        "SHOW" | "DESCRIBE" | "DESC" => "a script declares its tables itself; `millstream check` lists them",
        "ALTER" => "change the CREATE statement: a script starts with an empty catalog",
        "UPDATE" | "DELETE" | "TRUNCATE" | "MERGE" => "streams are written with INSERT INTO only",
        "ADD" | "REMOVE" | "LOAD" | "UNLOAD" => "leave it out: connectors and functions are built in",
        "ANALYZE" | "CALL" | "COMPILE" | "STOP" => "leave it out",
        "FROM" => "write SELECT .. FROM ..",
        "END" => "END closes EXECUTE STATEMENT SET BEGIN; take it away",
        "COMMIT" | "ROLLBACK" | "START" => "leave it out: results are committed by checkpoints",
        _ => {
            let what = format!("no statement begins with {first}");
            return match did_you_mean(first, STATEMENTS) {
                Some(known) => fail(what, format!("did you mean {known}?"), place_of(parser)),
                None => fail(
                    what,
                    "statements are SELECT, INSERT INTO, CREATE TABLE, CREATE VIEW, EXECUTE STATEMENT SET, SET and EXPLAIN",
                    place_of(parser),
                ),
            };
        }
    };
    fail(format!("{first} is not supported"), remedy, place_of(parser))
}

pub(super) fn from_tokenizer(e: &TokenizerError, file: &str) -> Error {
    let message = e.message.as_str();
    let (what, remedy) = if message.contains("string literal") {
        ("a string is not closed".to_string(), "end it with a single quote; a quote inside is written twice: 'it''s'")
    } else if message.contains("multi-line comment") {
        ("a comment is not closed".to_string(), "end it with */")
    } else if message.contains("close delimiter") {
        ("a quoted name is not closed".to_string(), "end it with the quote that it begins with")
    } else {
        (lower_first(message), "mend or remove these characters")
    };
    let Location { line, column } = e.location;
    Error::sql(what).at(Place::line_column(file, line.max(1), column.max(1))).remedy(remedy)
}

/// The error in our own words. `start` is the place of the statement, for an error that knows no place.
pub(super) fn from_parser(e: &ParserError, start: Span, file: &str) -> Error {
    let text = match e {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            return Error::sql("the statement is nested too deep")
                .at(Place::line_column(file, start.line, start.column))
                .remedy("cut the inner part out into a view, or a WITH query");
        }
    };
    let (text, at) = located(text);
    let at = at.unwrap_or(Location::new(start.line, start.column));
    let place = Place::line_column(file, at.line, at.column);
    match text.split_once(REMEDY) {
        Some((what, remedy)) => Error::sql(what).at(place).remedy(remedy),
        None => Error::sql(lower_first(text)).at(place).remedy("check what stands around this place"),
    }
}

/// Takes the place off an error's text.
fn located(text: &str) -> (&str, Option<Location>) {
    let parsed = || {
        let (message, place) = text.rsplit_once(LOCATION)?;
        let (line, column) = place.split_once(", Column: ")?;
        Some((message, Location::new(line.parse().ok()?, column.parse().ok()?)))
    };
    match parsed() {
        Some((message, at)) => (message, Some(at)),
        None => (text, None),
    }
}

/// Finds the true place of an error, and says what to do.
///
/// Where sqlparser may read parentheses as two things it tries one, forgets why that failed, and complains about the
/// other, at the SELECT of a perfectly possible subquery. Reading that subquery alone gives the error that matters.
pub(super) fn deepest(e: ParserError, tokens: &[TokenWithSpan]) -> ParserError {
    let (mut e, mut tried) = (e, Vec::new());
    // Each round reads another parenthesis, and the guard has bounded how many can be open at once.
    loop {
        let ParserError::ParserError(text) = &e else { return e };
        let (message, Some(at)) = located(text) else { return e };
        if message.contains(REMEDY) {
            return e;
        }
        let index = tokens.iter().position(|t| t.span.start == at && !matches!(t.token, Token::Whitespace(_)));
        let subquery = enclosing(index.unwrap_or(tokens.len()), tokens).into_iter().rev().find(|s| !tried.contains(s));
        let inner = subquery.and_then(|start| {
            tried.push(start);
            inside(start, tokens)
        });
        match inner {
            Some(inner) => e = inner,
            None if subquery.is_some() && tried.len() <= super::NESTING_MAX => {}
            None => return explain(message, at, index, tokens),
        }
    }
}

/// Where the subqueries begin that are open at `index`, from the outermost to the innermost.
fn enclosing(index: usize, tokens: &[TokenWithSpan]) -> Vec<usize> {
    let mut open = Vec::new();
    let significant = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_));
    for (i, token) in tokens.iter().enumerate().take(index.saturating_add(1)) {
        match &token.token {
            Token::LParen => open.push(i),
            Token::RParen if i < index => drop(open.pop()),
            _ => {}
        }
    }
    let first = |paren: &usize| tokens[paren + 1..].iter().find(significant).map(|t| &t.token);
    let begins = |token: &Token| {
        matches!(token, Token::Word(w) if w.quote_style.is_none()
            && matches!(w.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES))
    };
    open.retain(|paren| first(paren).is_some_and(begins));
    open.iter().map(|paren| paren + 1).collect()
}

/// The error of the subquery that begins at `start`, if it has one.
fn inside(start: usize, tokens: &[TokenWithSpan]) -> Option<ParserError> {
    let mut depth = 0usize;
    let end = tokens[start..].iter().position(|t| match t.token {
        Token::LParen => {
            depth += 1;
            false
        }
        Token::RParen if depth == 0 => true,
        Token::RParen => {
            depth -= 1;
            false
        }
        _ => false,
    });
    let mut inner = tokens[start..end.map_or(tokens.len(), |e| start + e + 1)].to_vec();
    let last = inner.last().map_or(Location::new(1, 1), |t| t.span.end);
    inner.push(TokenWithSpan::new(Token::EOF, TokenSpan::new(last, last)));
    let mut parser = parser_over(inner);
    match parser.parse_query() {
        Err(e) => Some(e),
        Ok(_) if parser.peek_token_ref().token == Token::RParen => None,
        Ok(_) => expected::<()>("`)`", &parser).err(),
    }
}

/// The last token before `index` that is no blank.
fn before(index: usize, tokens: &[TokenWithSpan]) -> Option<&TokenWithSpan> {
    tokens[..index.min(tokens.len())].iter().rev().find(|t| !matches!(t.token, Token::Whitespace(_)))
}

/// The first token behind `index` that is no blank.
fn after(index: usize, tokens: &[TokenWithSpan]) -> Option<&Token> {
    tokens[index + 1..].iter().map(|t| &t.token).find(|t| !matches!(t, Token::Whitespace(_)))
}

/// `Expected: x, found: y` with what to do about it.
fn explain(message: &str, at: Location, index: Option<usize>, tokens: &[TokenWithSpan]) -> ParserError {
    let said = |what: &str, remedy: &str, at: Location| ParserError::ParserError(format!("{what}{REMEDY}{remedy}{at}"));
    if let Some(case) = case_without_end(tokens) {
        return said("this CASE has no END", "write CASE WHEN condition THEN value ELSE value END", case);
    }
    if let Some(i) = index
        && let Token::Char('\u{2018}'..='\u{201F}') = tokens[i].token
    {
        let what = format!("`{}` is a quote for print", tokens[i].token);
        return said(&what, "strings stand in plain single quotes, names in back-quotes", at);
    }
    if message.starts_with("No infix parser") {
        let what = match index {
            Some(i) => format!("`{}` is no operator", tokens[i].token),
            None => "an operator that is unknown".into(),
        };
        return said(&what, "see the functions: what other systems write with a sign mostly has a name here", at);
    }
    let split = message.strip_prefix("Expected").and_then(|m| m.trim_start_matches(':').rsplit_once(", found: "));
    let Some((wanted, found)) = split else {
        return said(&lower_first(message), "check what stands around this place", at);
    };
    // Where a reserved word is no expression sqlparser points behind it.
    let (mut at, mut index) = (at, index);
    let shows = |t: &TokenWithSpan| t.token.to_string().eq_ignore_ascii_case(found);
    if found != "EOF" && !index.is_some_and(|i| shows(&tokens[i])) {
        let upto = index.unwrap_or(tokens.len());
        if let Some(i) = tokens[..upto].iter().rposition(shows) {
            (at, index) = (tokens[i].span.start, Some(i));
        }
    }
    let wanted = wanted.trim();
    let wanted = match wanted {
        ")" | "(" | "," | "=" | "]" | "[" | ";" | "." => format!("`{wanted}`"),
        _ if wanted.starts_with("an expression") => "an expression".into(),
        "identifier" => "a name".into(),
        "[NOT] NULL | TRUE | FALSE | DISTINCT | [form] NORMALIZED FROM after IS" => {
            "NULL, TRUE, FALSE, UNKNOWN or DISTINCT FROM after IS".into()
        }
        _ => wanted.into(),
    };
    let shown = match found {
        _ if index.is_none() => "the end of the statement".to_string(),
        "EOF" => "the end of the statement".into(),
        _ if found.starts_with(['\'', '`', '"']) => found.into(),
        _ => format!("`{found}`"),
    };
    let what = format!("expected {wanted}, found {shown}");
    if let ("GROUP" | "ORDER" | "PARTITION", Some(i)) = (found.to_ascii_uppercase().as_str(), index)
        && !matches!(after(i, tokens), Some(Token::Word(w)) if w.keyword == Keyword::BY)
    {
        let word = found.to_ascii_uppercase();
        return said(&format!("{word} without BY"), &format!("write {word} BY"), at);
    }
    let previous = before(index.unwrap_or(tokens.len()), tokens);
    let remedy = remedy(&wanted, index.map(|i| &tokens[i].token), previous.map(|t| &t.token), index, tokens);
    said(&what, &remedy, at)
}

/// The first CASE that no END closes.
fn case_without_end(tokens: &[TokenWithSpan]) -> Option<Location> {
    let mut open = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let Token::Word(w) = &token.token else { continue };
        match w.keyword {
            // `a.case` and `AS case` are names.
            Keyword::CASE if w.quote_style.is_none() => {
                let name = matches!(before(i, tokens).map(|t| &t.token), Some(Token::Period))
                    || matches!(before(i, tokens).map(|t| &t.token), Some(Token::Word(w)) if w.keyword == Keyword::AS);
                if !name {
                    open.push(token.span.start);
                }
            }
            Keyword::END if w.quote_style.is_none() => drop(open.pop()),
            _ => {}
        }
    }
    open.first().copied()
}

/// What to do where `wanted` was expected. `found` is `None` at the end of the statement.
fn remedy(
    wanted: &str,
    found: Option<&Token>,
    previous: Option<&Token>,
    index: Option<usize>,
    tokens: &[TokenWithSpan],
) -> String {
    let keyword = match found {
        Some(Token::Word(w)) if w.quote_style.is_none() => w.keyword,
        _ => Keyword::NoKeyword,
    };
    let Some(found) = found else {
        return match unclosed(tokens) {
            Some(at) => format!("the `(` at {}:{} is not closed", at.line, at.column),
            None => match previous {
                Some(Token::Comma) => "a comma ends the statement: take it away, or write what should follow".into(),
                _ => "the statement is cut short: write what is missing before the `;`".into(),
            },
        };
    };
    if previous == Some(&Token::Comma)
        && matches!(keyword, Keyword::FROM | Keyword::WHERE | Keyword::GROUP | Keyword::ORDER | Keyword::HAVING)
    {
        return format!("take the comma before {found} away");
    }
    if previous == Some(&Token::Comma) && matches!(found, Token::RParen) {
        return "take the comma before `)` away".into();
    }
    if *found == Token::RParen
        && unclosed(&tokens[..index.unwrap_or_default() + 1]).is_none()
        && closes_nothing(index, tokens)
    {
        return "there is one `)` too many".into();
    }
    match keyword {
        Keyword::FOR | Keyword::SYSTEM_TIME => {
            return "the order is: table FOR SYSTEM_TIME AS OF time AS alias".into();
        }
        Keyword::SELECT | Keyword::INSERT | Keyword::CREATE | Keyword::SET | Keyword::EXECUTE | Keyword::DROP
            if wanted.contains("end of the statement") =>
        {
            return format!("a `;` is missing before {found}");
        }
        _ if [Some(found), previous].iter().flatten().any(|t| t.to_string().eq_ignore_ascii_case("EMIT")) => {
            return "EMIT is not supported: a window's result is emitted once, when it is final".into();
        }
        Keyword::JOIN | Keyword::LEFT | Keyword::RIGHT | Keyword::FULL | Keyword::INNER
            if wanted.contains("end of the statement") =>
        {
            return "a join stands in the FROM clause, before WHERE and GROUP BY".into();
        }
        Keyword::FROM if matches!(previous, Some(Token::Word(w)) if matches!(w.keyword, Keyword::SELECT | Keyword::DISTINCT)) =>
        {
            return "write what to select: columns, expressions or *".into();
        }
        _ => {}
    }
    if wanted.contains("end of the statement") || wanted == "`)`" || wanted.contains("`,`") {
        match found {
            Token::Word(w) if w.keyword == Keyword::NoKeyword || w.quote_style.is_some() => {
                return format!("a comma or an operator may be missing before {found}");
            }
            Token::Number(..) | Token::SingleQuotedString(_) => {
                return format!("a comma or an operator may be missing before {found}");
            }
            _ => {}
        }
    }
    if wanted.contains("`)`")
        && let Some(at) = unclosed(&tokens[..index.unwrap_or_default()])
    {
        return format!("the `(` at {}:{} is not closed", at.line, at.column);
    }
    if (wanted.contains("name") || wanted == "an expression" || wanted.contains("a column"))
        && keyword != Keyword::NoKeyword
    {
        return format!("{found} is a reserved word; as a name it stands in back-quotes: `{found}`");
    }
    if wanted.contains("name") && matches!(found, Token::Number(..)) {
        return "a name begins with a letter; others stand in back-quotes".into();
    }
    match found {
        Token::Word(w) if w.quote_style == Some('"') => format!("a string stands in single quotes: '{}'", w.value),
        _ if keyword != Keyword::NoKeyword && wanted.contains("end of the statement") => {
            format!("{found} is not possible here, or something before it is missing")
        }
        _ => format!("write {wanted} here"),
    }
}

/// The innermost `(` without its `)`.
fn unclosed(tokens: &[TokenWithSpan]) -> Option<Location> {
    let mut open = Vec::new();
    for token in tokens {
        match token.token {
            Token::LParen => open.push(token.span.start),
            Token::RParen => drop(open.pop()),
            _ => {}
        }
    }
    open.pop()
}

/// True when the `)` at `index` has no `(`.
fn closes_nothing(index: Option<usize>, tokens: &[TokenWithSpan]) -> bool {
    let upto = &tokens[..index.map_or(0, |i| i + 1)];
    let count = |wanted: &Token| upto.iter().filter(|t| t.token == *wanted).count();
    count(&Token::RParen) > count(&Token::LParen)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
