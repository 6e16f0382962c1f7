//! `EMIT ..` behind GROUP BY and HAVING.
//!
//! sqlparser does not know the clause and has no fork for it. So it is read here, on the tokens, and its content goes on as a
//! condition of HAVING, from where planning takes it out again (`plan::emit`):
//!
//! ```text
//!  GROUP BY window_start, window_end HAVING n > 1 EMIT EARLY ON CHANGE
//!  GROUP BY window_start, window_end HAVING (n > 1) AND `$emit`('at=1:48 early=change:1')
//! ```
//!
//! `emit` stays a name like any other: it is the clause only where a name cannot stand, behind the end of an expression and
//! before a word.

use super::fail;
use crate::catalog::Span;
use crate::emit::Emit;
use crate::plan::emit::NAME;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::ParserError;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Whitespace, Word};
use millstream_core::Millis;
use millstream_core::error::did_you_mean;
use millstream_dataflow::graph::{Panes, Trigger};

/// Words that the clause may go on with.
const WORDS: [&str; 7] = ["EARLY", "LATE", "ON", "ALLOWED", "RETRACTING", "ACCUMULATING", "DISCARDING"];

/// Words behind which a name or an expression begins, so that `emit` is one.
const OPENS: [Keyword; 29] = [
    Keyword::SELECT,
    Keyword::DISTINCT,
    Keyword::ALL,
    Keyword::FROM,
    Keyword::JOIN,
    Keyword::WHERE,
    Keyword::BY,
    Keyword::HAVING,
    Keyword::AND,
    Keyword::OR,
    Keyword::NOT,
    Keyword::AS,
    Keyword::ON,
    Keyword::IN,
    Keyword::IS,
    Keyword::LIKE,
    Keyword::BETWEEN,
    Keyword::CASE,
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
    Keyword::WITH,
    Keyword::WINDOW,
    Keyword::TABLE,
    Keyword::INTO,
    Keyword::VIEW,
    Keyword::EXISTS,
    Keyword::USING,
    Keyword::OF,
];

/// Words that end the clause: what follows it in a query.
const ENDS: [Keyword; 9] = [
    Keyword::ORDER,
    Keyword::LIMIT,
    Keyword::OFFSET,
    Keyword::FETCH,
    Keyword::UNION,
    Keyword::INTERSECT,
    Keyword::EXCEPT,
    Keyword::MINUS,
    Keyword::WINDOW,
];

/// What one level of parentheses has seen of its query.
#[derive(Default, Clone, Copy)]
struct Level {
    select: bool,
    group: bool,
    having: Option<usize>,
    /// ORDER BY, LIMIT and what follows it.
    tail: bool,
    emitted: bool,
}

/// The tokens with each EMIT clause turned into a condition. `None`: there is none.
pub(super) fn rewrite(tokens: &[TokenWithSpan]) -> Result<Option<Vec<TokenWithSpan>>, ParserError> {
    // Most statements have no such word.
    if !tokens.iter().any(|t| is(&t.token, "EMIT")) {
        return Ok(None);
    }
    // What is to be put in place of which tokens.
    let mut edits: Vec<(usize, usize, Vec<TokenWithSpan>)> = Vec::new();
    let mut levels = vec![Level::default()];
    let (mut before, mut at): (Option<&Token>, usize) = (None, 0);
    while at < tokens.len() {
        let token = &tokens[at];
        let keyword = match &token.token {
            Token::Whitespace(_) => {
                at += 1;
                continue;
            }
            Token::Word(w) if w.quote_style.is_none() => w.keyword,
            _ => Keyword::NoKeyword,
        };
        match &token.token {
            Token::LParen | Token::LBracket => levels.push(Level::default()),
            Token::RParen | Token::RBracket if levels.len() > 1 => drop(levels.pop()),
            _ => {}
        }
        let level = levels.last_mut().ok_or_else(|| ParserError::ParserError("no level".into()))?;
        let next = significant(tokens, at + 1);
        match keyword {
            Keyword::SELECT => *level = Level { select: true, ..Level::default() },
            Keyword::GROUP if next.is_some_and(|n| is(&tokens[n].token, "BY")) => level.group = true,
            Keyword::HAVING => level.having = Some(at),
            Keyword::ORDER | Keyword::LIMIT | Keyword::OFFSET | Keyword::FETCH => level.tail = true,
            _ => {}
        }
        if is(&token.token, "EMIT") && level.select && ends_an_expression(before) && begins(tokens, at, *level) {
            let start = token.span.start;
            misplaced(*level, start)?;
            level.emitted = true;
            let mut clause = Clause { tokens, at: at + 1, start };
            let emit = clause.read()?;
            edits.extend(edit(&tokens[at], level.having, (at, clause.at), &emit));
            at = clause.at;
            before = None;
            continue;
        }
        if level.emitted && keyword == Keyword::HAVING {
            return fail("HAVING stands behind EMIT", "write GROUP BY .. HAVING .. EMIT ..", token.span.start);
        }
        before = Some(&token.token);
        at += 1;
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let mut out = tokens.to_vec();
    edits.sort_by_key(|(from, to, _)| std::cmp::Reverse((*from, *to)));
    for (from, to, with) in edits {
        out.splice(from..to, with);
    }
    Ok(Some(out))
}

fn is(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// The next token from here that is no blank.
fn significant(tokens: &[TokenWithSpan], from: usize) -> Option<usize> {
    (from..tokens.len()).find(|i| !matches!(tokens[*i].token, Token::Whitespace(_) | Token::EOF))
}

fn ends_an_expression(token: Option<&Token>) -> bool {
    match token {
        Some(Token::Word(w)) => w.quote_style.is_some() || !OPENS.contains(&w.keyword),
        Some(Token::Number(..) | Token::SingleQuotedString(_) | Token::RParen | Token::RBracket) => true,
        _ => false,
    }
}

/// Whether the EMIT at `at` begins a clause. Behind GROUP BY no alias can stand; before it, what follows tells.
fn begins(tokens: &[TokenWithSpan], at: usize, level: Level) -> bool {
    let Some(next) = significant(tokens, at + 1) else { return level.group };
    let second = significant(tokens, next + 1);
    let third = second.and_then(|s| significant(tokens, s + 1)).map(|t| &tokens[t].token);
    let token = &tokens[next].token;
    if level.group {
        return matches!(token, Token::Word(w) if w.quote_style.is_none())
            || matches!(token, Token::SemiColon | Token::RParen);
    }
    match second.map(|s| &tokens[s].token) {
        // `JOIN t emit ON change = 1`
        Some(word) if is(token, "ON") => {
            is(word, "CHANGE") && matches!(third, None | Some(Token::Word(_) | Token::RParen | Token::SemiColon))
        }
        _ => WORDS.iter().any(|word| *word != "ON" && is(token, word)),
    }
}

fn misplaced(level: Level, at: Location) -> Result<(), ParserError> {
    if !level.group {
        return fail(
            "EMIT stands in a query without GROUP BY, which has no windows to tell of",
            "write it behind GROUP BY window_start, window_end, ..",
            at,
        );
    }
    if level.tail {
        return fail("EMIT stands behind ORDER BY or LIMIT", "write it right behind GROUP BY and HAVING", at);
    }
    if level.emitted {
        return fail("EMIT stands there twice", "write all of it into one clause", at);
    }
    Ok(())
}

/// What takes the place of a clause: a condition more.
fn edit(
    token: &TokenWithSpan,
    having: Option<usize>,
    (from, to): (usize, usize),
    emit: &Emit,
) -> Vec<(usize, usize, Vec<TokenWithSpan>)> {
    let put = |of: Token| TokenWithSpan::new(of, token.span);
    let word = |value: &str, quote_style: Option<char>, keyword: Keyword| {
        put(Token::Word(Word { value: value.into(), quote_style, keyword }))
    };
    let blank = || put(Token::Whitespace(Whitespace::Space));
    let call = [
        word(NAME, Some('`'), Keyword::NoKeyword),
        put(Token::LParen),
        put(Token::SingleQuotedString(emit.encode())),
        put(Token::RParen),
        blank(),
    ];
    match having {
        None => vec![(from, to, [word("HAVING", None, Keyword::HAVING), blank()].into_iter().chain(call).collect())],
        Some(having) => {
            let and = [put(Token::RParen), blank(), word("AND", None, Keyword::AND), blank()];
            vec![
                (from, to, and.into_iter().chain(call).collect()),
                (having + 1, having + 1, vec![blank(), put(Token::LParen)]),
            ]
        }
    }
}

/// Reads a clause, from behind its EMIT.
struct Clause<'t> {
    tokens: &'t [TokenWithSpan],
    at: usize,
    start: Location,
}

impl Clause<'_> {
    fn read(&mut self) -> Result<Emit, ParserError> {
        let mut emit = Emit { at: Span { line: self.start.line, column: self.start.column }, ..Emit::default() };
        let mut parts = 0;
        while let Some((token, at)) = self.peek() {
            let token = token.clone();
            if matches!(token, Token::RParen | Token::SemiColon) || ends(&token) {
                break;
            }
            if matches!(token, Token::Comma) && parts > 0 {
                self.advance();
                continue;
            }
            parts += 1;
            let name = token.to_string().to_uppercase();
            let twice = |there: bool| match there {
                true => fail(format!("EMIT says {name} twice"), "say it once", at),
                false => Ok(()),
            };
            self.advance();
            match name.as_str() {
                "EARLY" => {
                    twice(emit.early.is_some())?;
                    emit.early = Some(self.trigger("EARLY")?);
                }
                "LATE" => {
                    twice(emit.late.is_some())?;
                    emit.late = Some(self.trigger("LATE")?);
                }
                "ON" => {
                    self.expect("CHANGE", "write EMIT ON CHANGE")?;
                    twice(emit.early.is_some())?;
                    emit.early = Some(Trigger::Change);
                }
                "ALLOWED" => {
                    self.expect("LATENESS", "write ALLOWED LATENESS INTERVAL '1' MINUTE")?;
                    twice(emit.lateness.is_some())?;
                    emit.lateness = Some(self.interval("ALLOWED LATENESS", "ALLOWED LATENESS")?.0);
                }
                "RETRACTING" | "ACCUMULATING" | "DISCARDING" => {
                    if emit.panes.is_some() {
                        let what = "EMIT says twice what a pane tells";
                        return fail(what, "say RETRACTING, ACCUMULATING or DISCARDING, and one of them", at);
                    }
                    emit.panes = Some(match name.as_str() {
                        "RETRACTING" => Panes::Retracting,
                        "ACCUMULATING" => Panes::Accumulating,
                        _ => Panes::Discarding,
                    });
                }
                "EVERY" => {
                    let what = "EMIT EVERY does not say of which panes";
                    return fail(
                        what,
                        "write EARLY EVERY .., before a window closes, or LATE EVERY .., for late rows",
                        at,
                    );
                }
                "FINAL" => {
                    let what = "EMIT FINAL is what happens without EMIT";
                    return fail(what, "take it out: a window is told once, when it closes", at);
                }
                _ => return self.unknown(&name, &WORDS, at),
            }
        }
        if parts == 0 {
            return fail("EMIT says nothing", "write for example EMIT EARLY EVERY INTERVAL '10' SECOND", self.start);
        }
        Ok(emit)
    }

    /// `EVERY INTERVAL '10' SECOND`, `EVERY 1000 ROWS`, `ON CHANGE`.
    fn trigger(&mut self, of: &str) -> Result<Trigger, ParserError> {
        let form = format!("write {of} EVERY INTERVAL '10' SECOND, {of} EVERY 1000 ROWS or {of} ON CHANGE");
        let Some((token, at)) = self.peek().map(|(t, at)| (t.clone(), at)) else {
            return fail(format!("{of} does not say when"), form, self.start);
        };
        if is(&token, "ON") {
            self.advance();
            self.expect("CHANGE", &form)?;
            return Ok(Trigger::Change);
        }
        if !is(&token, "EVERY") {
            if matches!(token, Token::Word(_)) && !ends(&token) {
                return self.unknown(&token.to_string().to_uppercase(), &["EVERY", "ON CHANGE"], at);
            }
            return fail(format!("{of} does not say when"), form, at);
        }
        self.advance();
        let Some((token, at)) = self.peek().map(|(t, at)| (t.clone(), at)) else {
            return fail(format!("{of} EVERY does not say what"), form, self.start);
        };
        match &token {
            Token::Number(text, _) => {
                self.advance();
                let Some(rows) = text.parse::<u64>().ok().filter(|n| *n > 0) else {
                    return fail(format!("EVERY {text} ROWS is not possible"), "give a whole number from 1", at);
                };
                match self.peek().map(|(t, at)| (t.clone(), at)) {
                    Some((t, _)) if is(&t, "ROWS") || is(&t, "ROW") => self.advance(),
                    other => {
                        let at = other.map_or(at, |(_, at)| at);
                        return fail(format!("EVERY {text} of what?"), format!("write EVERY {text} ROWS"), at);
                    }
                }
                Ok(Trigger::Rows(rows))
            }
            Token::Minus => fail("EVERY takes no negative length or number", form, at),
            _ if is(&token, "INTERVAL") => match self.interval(&format!("{of} EVERY"), "EVERY")? {
                (0, at) => fail(
                    "EVERY takes an interval of at least a millisecond",
                    format!("write {of} ON CHANGE to tell each change"),
                    at,
                ),
                (ms, _) => Ok(Trigger::Every(ms)),
            },
            _ => fail(format!("{of} EVERY does not say what"), form, at),
        }
    }

    /// `INTERVAL '10' SECOND`, in milliseconds, and where its length stands.
    fn interval(&mut self, of: &str, what: &str) -> Result<(Millis, Location), ParserError> {
        let form = format!("write {of} INTERVAL '10' SECOND");
        let mut at = self.start;
        if let Some((Token::Minus, minus)) = self.peek() {
            return fail(format!("{what} takes no negative length"), form, minus);
        }
        self.expect("INTERVAL", &form)?;
        let text = match self.peek() {
            Some((Token::SingleQuotedString(text), place)) => {
                at = place;
                text.clone()
            }
            Some((Token::Minus, place)) => return fail(format!("{what} takes no negative length"), form, place),
            Some((_, place)) => return fail("the length of an INTERVAL stands in single quotes", form, place),
            None => return fail("an INTERVAL without a length", form, at),
        };
        self.advance();
        let unit = match self.peek() {
            Some((Token::Word(w), _)) => w.value.to_uppercase(),
            _ => return fail("an INTERVAL without a unit behind its string", form, at),
        };
        let millis = match unit.trim_end_matches('S') {
            "MILLISECOND" => 1,
            "SECOND" => 1_000,
            "MINUTE" => 60_000,
            "HOUR" => 3_600_000,
            "DAY" => 86_400_000,
            "MONTH" | "YEAR" | "QUARTER" => {
                return fail(format!("a {unit} has no fixed length"), "give it in DAY or a smaller unit", at);
            }
            _ => {
                let units = "units are DAY, HOUR, MINUTE, SECOND and MILLISECOND";
                return fail(format!("an INTERVAL has no unit {unit}"), units, at);
            }
        };
        self.advance();
        if text.trim_start().starts_with('-') {
            return fail(format!("{what} takes no negative length, and this is '{text}' {unit}"), form, at);
        }
        match length(text.trim(), millis) {
            Some(ms) => Ok((ms, at)),
            None => fail(format!("INTERVAL '{text}' {unit} is no length in whole milliseconds"), form, at),
        }
    }

    fn expect(&mut self, word: &str, form: &str) -> Result<(), ParserError> {
        match self.peek().map(|(t, at)| (t.clone(), at)) {
            Some((token, _)) if is(&token, word) => {
                self.advance();
                Ok(())
            }
            Some((token, at)) => fail(format!("expected {word}, found {token}"), form, at),
            None => fail(format!("expected {word} behind EMIT"), form, self.start),
        }
    }

    fn unknown<T>(&self, word: &str, known: &[&str], at: Location) -> Result<T, ParserError> {
        let remedy = match did_you_mean(word, known.iter().copied()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("it goes on with {}", known.join(", ")),
        };
        fail(format!("EMIT has no word {word} here"), remedy, at)
    }

    /// The next token that is no blank, and its place.
    fn peek(&self) -> Option<(&Token, Location)> {
        significant(self.tokens, self.at).map(|i| (&self.tokens[i].token, self.tokens[i].span.start))
    }

    fn advance(&mut self) {
        if let Some(next) = significant(self.tokens, self.at) {
            self.at = next + 1;
        }
    }
}

fn ends(token: &Token) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && (ENDS.contains(&w.keyword) || w.keyword == Keyword::HAVING))
}

/// `10`, `0.5`: so many units, in whole milliseconds.
fn length(text: &str, unit: Millis) -> Option<Millis> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10i64.pow(fraction.len() as u32);
    let parts = i128::from(whole.parse::<i64>().ok()?) * i128::from(scale)
        + i128::from(if fraction.is_empty() { 0 } else { fraction.parse::<i64>().ok()? });
    let scaled = parts * i128::from(unit);
    (scaled % i128::from(scale) == 0).then(|| i64::try_from(scaled / i128::from(scale)).ok()).flatten()
}
