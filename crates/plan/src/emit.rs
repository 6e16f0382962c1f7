//! `EMIT`: when a windowed aggregate tells its results, and what a later one says of an earlier one.
//!
//! ```text
//!  EMIT EARLY EVERY INTERVAL '10' SECOND          before the window closes, by the clock
//!       EARLY EVERY 1000 ROWS                                             with every 1000th row of a key
//!       EARLY ON CHANGE                                                   with each row
//!       LATE EVERY .. | ON CHANGE                 for late rows          (without: with each row)
//!       ON CHANGE                                 EARLY ON CHANGE LATE ON CHANGE
//!       ALLOWED LATENESS INTERVAL '1' MINUTE      how long a closed window still takes rows
//!       RETRACTING | ACCUMULATING | DISCARDING    what a pane says        (without: RETRACTING)
//! ```
//!
//! What the clause leaves open, the settings `table.exec.emit.*` say, as in Flink. Here is what was written; which panes come of it
//! is decided where the aggregate is lowered.

use crate::catalog::Span;
use crate::statement::Settings;
use millstream_core::{Error, Millis, Result};
use millstream_dataflow::graph::{Panes, Trigger};

/// An `EMIT` clause as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emit {
    pub early: Option<Trigger>,
    pub late: Option<Trigger>,
    pub lateness: Option<Millis>,
    pub panes: Option<Panes>,
    /// Where it stands.
    pub at: Span,
}

const PANES: [(&str, Panes); 3] =
    [("retracting", Panes::Retracting), ("accumulating", Panes::Accumulating), ("discarding", Panes::Discarding)];

/// The word for this kind of panes.
pub fn panes_word(panes: Panes) -> &'static str {
    PANES.iter().find(|(_, p)| *p == panes).map_or("", |(word, _)| word)
}

impl Emit {
    /// As one word for each part, to be carried in a literal through a parser that does not know the clause.
    pub fn encode(&self) -> String {
        let trigger = |t: &Trigger| match t {
            Trigger::Every(ms) => format!("every:{ms}"),
            Trigger::Rows(rows) => format!("rows:{rows}"),
            Trigger::Change => "change:1".into(),
        };
        let parts = [
            Some(format!("at={}:{}", self.at.line, self.at.column)),
            self.early.as_ref().map(|t| format!("early={}", trigger(t))),
            self.late.as_ref().map(|t| format!("late={}", trigger(t))),
            self.lateness.map(|ms| format!("lateness={ms}")),
            self.panes.map(|p| format!("panes={}", panes_word(p))),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// What [`Emit::encode`] has made.
    pub fn decode(text: &str) -> Result<Emit> {
        let mut emit = Emit::default();
        let wrong = || Error::internal(format!("`{text}` is no EMIT clause"));
        let pair = |value: &str| -> Result<(String, u64)> {
            let (word, number) = value.split_once(':').ok_or_else(wrong)?;
            Ok((word.to_string(), number.parse().map_err(|_| wrong())?))
        };
        let trigger = |value: &str| -> Result<Trigger> {
            let (word, number) = pair(value)?;
            Ok(match word.as_str() {
                "every" => Trigger::Every(i64::try_from(number).map_err(|_| wrong())?),
                "rows" => Trigger::Rows(number),
                "change" => Trigger::Change,
                _ => return Err(wrong()),
            })
        };
        for part in text.split(' ') {
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            match key {
                "at" => {
                    let (line, column) = pair(value)?;
                    emit.at = Span { line: line.parse().map_err(|_| wrong())?, column };
                }
                "early" => emit.early = Some(trigger(value)?),
                "late" => emit.late = Some(trigger(value)?),
                "lateness" => emit.lateness = Some(value.parse().map_err(|_| wrong())?),
                "panes" => emit.panes = PANES.iter().find(|(word, _)| *word == value).map(|(_, p)| *p),
                _ => return Err(wrong()),
            }
        }
        Ok(emit)
    }

    pub fn goes_by_the_clock(&self) -> bool {
        let by_clock = |t: &Option<Trigger>| matches!(t, Some(Trigger::Every(_)));
        by_clock(&self.early) || by_clock(&self.late)
    }
}

impl Settings {
    /// What the settings `table.exec.emit.*` say for every windowed aggregate.
    ///
    /// # Errors
    /// One is switched on whose delay is missing.
    pub fn emit(&self) -> Result<Emit> {
        let fire = |enabled: bool, delay: Option<Millis>, which: &str| match (enabled, delay) {
            (false, _) => Ok(None),
            (true, Some(0)) => Ok(Some(Trigger::Change)),
            (true, Some(ms)) => Ok(Some(Trigger::Every(ms))),
            (true, None) => Err(Error::sql(format!(
                "'table.exec.emit.{which}-fire.enabled' is set, and 'table.exec.emit.{which}-fire.delay' is not"
            ))
            .remedy(format!("SET 'table.exec.emit.{which}-fire.delay' = '10 s'; '0 ms' tells each change"))),
        };
        Ok(Emit {
            early: fire(self.early_fire, self.early_fire_delay, "early")?,
            late: fire(self.late_fire, self.late_fire_delay, "late")?,
            ..Emit::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clause_comes_back_from_its_text() {
        let at = Span { line: 3, column: 7 };
        for emit in [
            Emit { at, ..Emit::default() },
            Emit { early: Some(Trigger::Every(10_000)), late: Some(Trigger::Rows(7)), at, ..Emit::default() },
            Emit {
                early: Some(Trigger::Change),
                late: Some(Trigger::Change),
                lateness: Some(60_000),
                panes: Some(Panes::Discarding),
                at,
            },
        ] {
            assert_eq!(Emit::decode(&emit.encode()), Ok(emit));
        }
        for wrong in ["", "at", "at=1", "early=every", "early=sometimes:1", "what=1"] {
            assert!(Emit::decode(wrong).is_err(), "{wrong}");
        }
    }
}
