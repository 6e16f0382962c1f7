//! Shows an error with the line it speaks of.
//!
//! ```text
//! error: expected a name, found `,`
//!   --> query.sql:3:12
//!    |
//!  3 | SELECT a,, b FROM t
//!    |          ^
//!    = help: take the comma away
//! ```

use millstream_core::{Error, Place};
use std::fmt::Write;

/// Characters of a source line that are shown. A longer line is cut around the place.
const SHOWN_MAX: usize = 110;

/// The error for a terminal, ending in a newline. `source_text` is the script that the error's place speaks of; where
/// the place is elsewhere (a data file, a line that is not there) no line is shown.
pub fn render(error: &Error, source_text: &str, colour: bool) -> String {
    let (red, blue, bold, end) =
        if colour { ("\x1b[31;1m", "\x1b[34;1m", "\x1b[1m", "\x1b[0m") } else { ("", "", "", "") };
    let mut out = format!("{red}error{end}{bold}: {}{end}\n", error.what());
    let mut gutter = 1;
    if let Some(place) = error.place() {
        let spot = spot(place).and_then(|(line, column)| {
            let source_text = source_text.strip_prefix('\u{FEFF}').unwrap_or(source_text);
            let text = source_text.split('\n').nth(line.checked_sub(1)?)?;
            Some((line, column, text.trim_end_matches('\r')))
        });
        gutter = spot.map_or(1, |(line, ..)| line.to_string().len());
        let _ = writeln!(out, "{:gutter$} {blue}-->{end} {place}", "");
        if let Some((line, column, text)) = spot {
            let (shown, before, under) = excerpt(text, column);
            let _ = writeln!(out, " {:gutter$} {blue}|{end}", "");
            let _ = writeln!(out, " {blue}{line:gutter$} |{end} {shown}");
            let _ = writeln!(out, " {:gutter$} {blue}|{end} {:before$}{red}{}{end}", "", "", "^".repeat(under));
        }
    }
    if let Some(help) = error.help() {
        let _ = writeln!(out, " {:gutter$} {blue}={end} {bold}help{end}: {help}", "");
    }
    out
}

/// Line and column of `file:line:column`.
fn spot(place: &Place) -> Option<(usize, usize)> {
    let mut parts = place.0.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    parts.next()?;
    Some((line, column))
}

/// The part of a line to show, how many characters stand before the place, and how many belong to it.
fn excerpt(text: &str, column: usize) -> (String, usize, usize) {
    // A tab counts as one character in places, so it is shown as one.
    let chars: Vec<char> = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let at = column.saturating_sub(1).min(chars.len());
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    let under = chars[at..].iter().take_while(|c| is_word(c)).count().clamp(1, SHOWN_MAX / 2);
    let from = if chars.len() <= SHOWN_MAX { 0 } else { at.saturating_sub(SHOWN_MAX / 2).min(chars.len() - SHOWN_MAX) };
    let to = (from + SHOWN_MAX).min(chars.len());
    let (head, tail) = (if from > 0 { ".." } else { "" }, if to < chars.len() { ".." } else { "" });
    let middle: String = chars[from..to].iter().collect();
    (format!("{head}{middle}{tail}"), at - from + head.len(), under)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_with_its_place_marked() {
        let error = Error::sql("column `prise` is unknown")
            .at(Place::line_column("q.sql", 2, 8))
            .remedy("did you mean `price`?");
        let shown = render(&error, "-- a query\nSELECT prise FROM t\n", false);
        assert_eq!(
            shown,
            "error: column `prise` is unknown
  --> q.sql:2:8
   |
 2 | SELECT prise FROM t
   |        ^^^^^
   = help: did you mean `price`?
"
        );
        assert!(render(&error, "-- a query\nSELECT prise FROM t\n", true).contains("\x1b[31;1m^^^^^\x1b[0m"));
    }

    #[test]
    fn places_outside_of_the_text_are_named_only() {
        for (place, text) in [
            (Place("bids.csv:42".into()), "a"),
            (Place::line_column("q.sql", 9, 1), "a"),
            (Place::line_column("q.sql", 0, 0), "a"),
            (Place("q.sql:18446744073709551616:1".into()), "a"),
            (Place("".into()), ""),
        ] {
            let shown = render(&Error::data("bad").at(place.clone()), text, false);
            assert_eq!(shown, format!("error: bad\n  --> {place}\n"));
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}x{}", "a ".repeat(300), " b".repeat(300));
        let shown = render(&Error::sql("e").at(Place::line_column("f", 1, 601)), &text, false);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3].chars().nth(lines[4].find('^').unwrap()), Some('x'), "{shown}");
        assert!(lines[3].len() < 130, "{shown}");
    }

    #[test]
    fn tabs_and_letters_beyond_ascii_keep_the_mark_in_place() {
        let shown = render(&Error::sql("e").at(Place::line_column("f", 1, 4)), "\tä\tx\r\n", false);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3], " 1 |  ä x");
        assert_eq!(lines[4], "   |    ^");
    }
}
