//! The session's time zone: where TIMESTAMP_LTZ meets the wall clock.

use chrono::{DateTime, FixedOffset, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use millstream_core::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// `table.local-time-zone`: an IANA name (`Europe/Berlin`), `UTC`, `Z`, or an offset (`+08:00`, `GMT-3`, `UTC+01:30`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionZone(Rules);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rules {
    Named(Tz),
    Offset(FixedOffset),
}

impl SessionZone {
    pub const UTC: SessionZone = SessionZone(Rules::Named(Tz::UTC));

    /// Seconds to add to UTC at the instant `utc_seconds` (since the epoch) to read the wall clock.
    pub fn offset_at(&self, utc_seconds: i64) -> i64 {
        match self.0 {
            Rules::Named(Tz::UTC) => 0,
            Rules::Offset(offset) => i64::from(offset.local_minus_utc()),
            Rules::Named(tz) => {
                let at = DateTime::<Utc>::from_timestamp(utc_seconds, 0).map(|t| t.naive_utc());
                at.map_or(0, |at| i64::from(tz.offset_from_utc_datetime(&at).fix().local_minus_utc()))
            }
        }
    }

    /// Seconds to take away from the wall-clock reading `local_seconds` to get UTC.
    ///
    /// As `java.time` does it: a reading that the clock shows twice means the first time (the earlier instant), and one that
    /// the clock skips is moved on by the length of the gap, so it is read with the offset from before the gap.
    pub fn offset_of_local(&self, local_seconds: i64) -> i64 {
        match self.0 {
            Rules::Named(Tz::UTC) => 0,
            Rules::Offset(offset) => i64::from(offset.local_minus_utc()),
            Rules::Named(tz) => {
                let Some(local) = naive(local_seconds) else { return 0 };
                match tz.offset_from_local_datetime(&local) {
                    LocalResult::Single(o) | LocalResult::Ambiguous(o, _) => i64::from(o.fix().local_minus_utc()),
                    // No zone has ever skipped more than a day: a day earlier the old offset was in force.
                    LocalResult::None => {
                        self.offset_at(local_seconds - 86_400 - self.offset_at(local_seconds - 86_400))
                    }
                }
            }
        }
    }
}

fn naive(seconds: i64) -> Option<NaiveDateTime> {
    DateTime::<Utc>::from_timestamp(seconds, 0).map(|t| t.naive_utc())
}

impl Default for SessionZone {
    fn default() -> SessionZone {
        SessionZone::UTC
    }
}

impl FromStr for SessionZone {
    type Err = Error;

    fn from_str(text: &str) -> Result<SessionZone> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("z") {
            return Ok(SessionZone::UTC);
        }
        if let Ok(tz) = Tz::from_str(text) {
            return Ok(SessionZone(Rules::Named(tz)));
        }
        let offset = ["UTC", "GMT", "UT", ""].iter().find_map(|p| text.strip_prefix(p)).and_then(parse_offset);
        match offset {
            Some(offset) => Ok(SessionZone(Rules::Offset(offset))),
            None => {
                let close = millstream_core::error::did_you_mean(text, chrono_tz::TZ_VARIANTS.iter().map(|z| z.name()));
                let remedy = match close {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => "give an IANA name such as 'Europe/Berlin', or an offset such as '+08:00'".to_string(),
                };
                Err(Error::usage(format!("`{text}` is not a time zone")).remedy(remedy))
            }
        }
    }
}

/// `+8`, `+08`, `+0800`, `+08:00`, `+08:00:30`; at most 18 hours, as in `java.time.ZoneOffset`.
fn parse_offset(text: &str) -> Option<FixedOffset> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let parts: Vec<&str> = match digits.contains(':') {
        true => digits.split(':').collect(),
        false if digits.len() > 2 && digits.is_ascii() => {
            vec![&digits[..digits.len() - 2], &digits[digits.len() - 2..]]
        }
        false => vec![digits],
    };
    if parts.len() > 3 || parts.iter().any(|p| p.is_empty() || p.len() > 2 || !p.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    let number = |i: usize| parts.get(i).map_or(Some(0), |p| p.parse::<i32>().ok());
    let (h, m, s) = (number(0)?, number(1)?, number(2)?);
    let seconds = h * 3600 + m * 60 + s;
    (m < 60 && s < 60 && seconds <= 18 * 3600).then(|| FixedOffset::east_opt(sign * seconds)).flatten()
}

impl fmt::Display for SessionZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rules::Named(tz) => f.write_str(tz.name()),
            Rules::Offset(offset) => write!(f, "{offset}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> SessionZone {
        text.parse().expect("a zone")
    }

    #[test]
    fn zones_are_names_or_offsets() {
        for (text, seconds) in [
            ("UTC", 0),
            ("Z", 0),
            ("Asia/Shanghai", 28_800),
            ("+08:00", 28_800),
            ("GMT-3", -10_800),
            ("UTC+01:30", 5_400),
            ("-0930", -34_200),
        ] {
            assert_eq!(zone(text).offset_at(0), seconds, "{text}");
        }
        for wrong in ["Europe/Berlni", "+25:00", "+8:0x", "", "+", "+08:"] {
            assert!(wrong.parse::<SessionZone>().is_err(), "{wrong}");
        }
        let error = "Europe/Berlni".parse::<SessionZone>().expect_err("misspelt");
        assert_eq!(error.help(), Some("did you mean `Europe/Berlin`?"));
    }

    #[test]
    fn an_hour_shown_twice_is_the_first_and_a_skipped_one_moves_on() {
        let berlin = zone("Europe/Berlin");
        // 2021-10-31 02:30 is shown twice: the first is summer time (+2 h).
        assert_eq!(berlin.offset_of_local(1_635_647_400), 7_200);
        // 2021-03-28 02:30 is skipped: read with +1 h it is 01:30 UTC, which the clock shows as 03:30.
        assert_eq!(berlin.offset_of_local(1_616_898_600), 3_600);
    }
}
