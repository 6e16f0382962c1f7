//! Regular expressions that cut one field out of a text, without a regular expression.
//!
//! ```text
//!  (&|^)channel_id=([^&]*)
//!  ──┬── ────┬──── ───┬───
//!   lead   words    field      the words are searched for, what stands before them is looked at,
//!                              and the field goes on to the first byte that ends it
//! ```
//!
//! [`FieldPattern::parse`] takes these patterns and no others; whatever it does not know is left to the regex crate, with the
//! same answers. Lead and field may be left out, in groups that capture or not; a lead may be a class: `[?&]id=(\d*)` is
//! not known for its `\d`, `[?&]id=([^&#]+)` is.
//!
//! Why the first hit of the search is the leftmost match: the words hold no byte of the lead, so two places where the
//! words follow a lead never overlap, and at each place one alternative of the lead can match at most.

use memchr::memmem::Finder;

/// A pattern of this shape.
#[derive(Debug)]
pub(super) struct FieldPattern {
    words: Finder<'static>,
    lead: Option<Lead>,
    rest: Option<Rest>,
    /// The groups that hold the lead and the field, from 1.
    lead_group: Option<usize>,
    rest_group: Option<usize>,
}

/// What stands before the words: one of some bytes, or the start of the text.
#[derive(Debug, Default)]
struct Lead {
    bytes: Vec<u8>,
    start: bool,
}

/// All bytes up to one of these: `[^&]*`, or `[^&]+` for one at least.
#[derive(Debug)]
struct Rest {
    ends: Vec<u8>,
    least: usize,
}

/// Where a match lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    start: usize,
    words: usize,
    field: usize,
    end: usize,
}

impl FieldPattern {
    /// `None`: not of this shape.
    pub(super) fn parse(pattern: &str) -> Option<FieldPattern> {
        if !pattern.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return None;
        }
        let (lead, captures, rest) = parse_lead(pattern.as_bytes())?;
        let groups = usize::from(captures);
        let lead_group = captures.then_some(1);
        let (words, rest) = parse_words(rest)?;
        if words.is_empty() || lead.as_ref().is_some_and(|l| l.bytes.iter().any(|b| words.contains(b))) {
            return None;
        }
        let (rest, captures) = parse_rest(rest)?;
        let groups = groups + usize::from(captures);
        let words = Finder::new(&words).into_owned();
        Some(FieldPattern { words, lead, rest, lead_group, rest_group: captures.then_some(groups) })
    }

    /// The leftmost match.
    #[inline]
    pub(super) fn find(&self, text: &str) -> Option<Found> {
        let bytes = text.as_bytes();
        let length = self.words.needle().len();
        let mut from = 0;
        while let Some(at) = self.words.find(&bytes[from..]) {
            let words = from + at;
            let field = words + length;
            from = field;
            let start = match &self.lead {
                None => words,
                Some(lead) if words == 0 && lead.start => 0,
                Some(lead) if words > 0 && lead.bytes.contains(&bytes[words - 1]) => words - 1,
                Some(_) => continue,
            };
            let Some(rest) = &self.rest else { return Some(Found { start, words, field, end: field }) };
            let run = &bytes[field..];
            let run = match rest.ends.as_slice() {
                [one] => memchr::memchr(*one, run).unwrap_or(run.len()),
                some => run.iter().position(|b| some.contains(b)).unwrap_or(run.len()),
            };
            if run >= rest.least {
                return Some(Found { start, words, field, end: field + run });
            }
        }
        None
    }

    /// Where group `group` of a match lies; `None` if there is no such group.
    #[inline]
    pub(super) fn group(&self, found: Found, group: usize) -> Option<(usize, usize)> {
        match group {
            0 => Some((found.start, found.end)),
            g if Some(g) == self.lead_group => Some((found.start, found.words)),
            g if Some(g) == self.rest_group => Some((found.field, found.end)),
            _ => None,
        }
    }
}

/// Bytes that mean something else than themselves in a regular expression.
fn is_special(b: u8) -> bool {
    b"\\.+*?()|[]{}^$".contains(&b)
}

/// A byte for itself, escaped or not, and what comes after it.
fn plain(pattern: &[u8]) -> Option<(u8, &[u8])> {
    match pattern {
        [b'\\', b, rest @ ..] if is_special(*b) || b"&=/:;,#-".contains(b) => Some((*b, rest)),
        [b, rest @ ..] if !is_special(*b) => Some((*b, rest)),
        _ => None,
    }
}

/// `(&|^)`, `(?:\?|&)`, `[?&]`, `^` or nothing: the lead, whether a group captures it, and what comes after it.
fn parse_lead(pattern: &[u8]) -> Option<(Option<Lead>, bool, &[u8])> {
    let mut lead = Lead::default();
    let (mut rest, captures) = match pattern {
        [b'^', rest @ ..] => return Some((Some(Lead { bytes: Vec::new(), start: true }), false, rest)),
        [b'[', rest @ ..] if !rest.starts_with(b"^") => {
            let (bytes, rest) = parse_class(rest)?;
            return Some((Some(Lead { bytes, start: false }), false, rest));
        }
        [b'(', b'?', b':', rest @ ..] => (rest, false),
        [b'(', rest @ ..] => (rest, true),
        _ => return Some((None, false, pattern)),
    };
    loop {
        match rest {
            [b'^', after @ ..] if !lead.start => {
                lead.start = true;
                rest = after;
            }
            _ => {
                let (byte, after) = plain(rest)?;
                lead.bytes.push(byte);
                rest = after;
            }
        }
        match rest {
            [b'|', after @ ..] => rest = after,
            [b')', after @ ..] => return Some((Some(lead), captures, after)),
            _ => return None,
        }
    }
}

/// The bytes of a class up to its `]`. Ranges, escapes and operators of classes are not known.
fn parse_class(pattern: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let length = pattern.iter().position(|b| *b == b']')?;
    let (bytes, rest) = (&pattern[..length], &pattern[length + 1..]);
    let known = |i: usize, b: u8| !b"\\[^-~".contains(&b) && !bytes[..i].contains(&b);
    (length > 0 && bytes.iter().enumerate().all(|(i, b)| known(i, *b))).then(|| (bytes.to_vec(), rest))
}

/// Bytes for themselves, up to a bracket or the end.
fn parse_words(mut pattern: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut words = Vec::new();
    while !pattern.is_empty() && !matches!(pattern[0], b'(' | b'[') {
        let (byte, rest) = plain(pattern)?;
        words.push(byte);
        pattern = rest;
    }
    Some((words, pattern))
}

/// `([^&]*)`, `[^&]+` or nothing, up to the end: the field, and whether a group captures it.
fn parse_rest(pattern: &[u8]) -> Option<(Option<Rest>, bool)> {
    let (pattern, captures) = match pattern {
        [] => return Some((None, false)),
        [b'(', inner @ .., b')'] => (inner, true),
        other => (other, false),
    };
    let (ends, rest) = parse_class(pattern.strip_prefix(b"[^")?)?;
    match rest {
        b"*" => Some((Some(Rest { ends, least: 0 }), captures)),
        b"+" => Some((Some(Rest { ends, least: 1 }), captures)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: &[&str] = &[
        "(&|^)channel_id=([^&]*)",
        "(?:&|^)id=([^&]*)",
        "(^|&|;)id=([^&;]+)",
        r"(\?|&)id=([^&#]+)",
        "[?&]id=([^&#]*)",
        "^id=([^&]*)",
        "^id=",
        "id=[^&]+",
        "aa([^b]*)",
        r"a\.b([^a]+)",
        "(&)aa[^&]*",
        "i",
    ];

    const OTHERS: &[&str] = &[
        "",
        "(&|^)",
        "[^&]*",
        "(a|^)aa=",
        "id=(.*)",
        "id=([^&]*)x",
        "id=([^&]*",
        "(?i)id=",
        "(&|$)id=",
        "(ab|^)id=",
        "[a-z]id=",
        "[^&]id=",
        "id=([^a-z]*)",
        "id=[^&&a]*",
        "id=[^&]*?",
        "id=[^&]{2}",
        r"\did=",
        r"id=([^\d]*)",
        "é=([^&]*)",
        "id*",
        "id=|x",
        "(&|^)+id=",
        "((&|^)id=)",
        "id=()",
        "id=([^]]*)",
        "id=([^&]*)([^x]*)",
        "(&|^|^)id=",
        "(|&)id=",
        "(a|^)ba",
        r"\<id=",
    ];

    #[test]
    fn the_shape_is_known_where_it_is_there_and_only_there() {
        for pattern in KNOWN {
            assert!(FieldPattern::parse(pattern).is_some(), "{pattern}");
        }
        for pattern in OTHERS {
            assert!(FieldPattern::parse(pattern).is_none(), "{pattern}");
        }
    }

    fn same(pattern: &str, text: &str) {
        let Some(field) = FieldPattern::parse(pattern) else { return };
        let regex = regex::Regex::new(pattern).expect("a pattern of this shape is a regular expression");
        let wanted = regex.captures(text);
        let found = field.find(text);
        assert_eq!(field.rest_group.or(field.lead_group).unwrap_or(0) + 1, regex.captures_len(), "groups of {pattern}");
        for group in 0..=regex.captures_len() {
            let wanted = wanted.as_ref().and_then(|w| w.get(group)).map(|m| (m.start(), m.end()));
            assert_eq!(found.and_then(|f| field.group(f, group)), wanted, "group {group} of {pattern} in {text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn it_finds_what_the_regular_expression_finds(
            known in 0..KNOWN.len(),
            text in "(channel_id=|id=|aa|a\\.b|ba|[ab&?#;=é\n]){0,9}",
        ) {
            same(KNOWN[known], &text);
        }

        /// Patterns nobody thought of, made of the bytes that matter.
        #[test]
        fn whatever_is_taken_for_this_shape_is_of_this_shape(
            pattern in "[(]?([&?ab^|]|\\?:|\\\\[.?]){0,4}[)]?[ab=&]{0,3}[(]?(\\[\\^?[&abx|^-]{0,3}\\])?[*+]?[)]?",
            text in "[ab&?=x.|é]{0,10}",
        ) {
            same(&pattern, &text);
        }
    }
}
