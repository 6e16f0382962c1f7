//! Event time, processing time and the watermark.
//!
//! All times inside the engine are whole milliseconds since 1970-01-01T00:00:00 UTC, as `i64`. A time
//! attribute is a column of Arrow type `Timestamp(Millisecond, _)`.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00 UTC, or a length of time in milliseconds.
pub type Millis = i64;

/// Which clock a time attribute, a watermark or a window follows.
///
/// Both kinds travel in the stream: the watermark of processing time is the clock reading of the source task,
/// handed on after the rows that were stamped with it. So a window by processing time never sees a late row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimeDomain {
    /// The time that a row carries in a column.
    Event,
    /// The time at which the source task took the row in.
    Processing,
}

/// A promise: no row with `time <= watermark` is still to come, but for late ones.
///
/// It never goes back. `MIN` promises nothing; `MAX` says that the input has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watermark(pub Millis);

impl Watermark {
    pub const MIN: Watermark = Watermark(i64::MIN);
    pub const MAX: Watermark = Watermark(i64::MAX);

    /// True when the window that ends (exclusively) at `end` is complete: `watermark >= end - 1 ms`.
    /// Flink's SQL rule: a window `[s, e)` fires when the watermark reaches `e - 1`.
    #[inline]
    pub fn closes(self, end: Millis) -> bool {
        self.0 >= end.saturating_sub(1)
    }

    /// True when a window that ends at `end` takes no more rows: `end - 1 ms + lateness <= watermark`.
    #[inline]
    pub fn forgets(self, end: Millis, lateness: Millis) -> bool {
        self.0 >= end.saturating_sub(1).saturating_add(lateness)
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Watermark::MIN => f.write_str("MIN"),
            Watermark::MAX => f.write_str("MAX"),
            Watermark(at) => write!(f, "{}", format_millis(at)),
        }
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `2013-01-01 10:15:00.000`, in UTC. Proleptic Gregorian calendar; years outside 0..=9999 print as they are.
pub fn format_millis(at: Millis) -> String {
    let (days, of_day) = (at.div_euclid(86_400_000), at.rem_euclid(86_400_000));
    // Days to civil date: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (h, m, s, ms) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_closes_one_millisecond_before_its_end() {
        assert!(!Watermark(9_998).closes(10_000));
        assert!(Watermark(9_999).closes(10_000));
        assert!(!Watermark(12_998).forgets(10_000, 3_000));
        assert!(Watermark(12_999).forgets(10_000, 3_000));
        assert!(Watermark::MAX.forgets(i64::MAX, i64::MAX));
    }

    #[test]
    fn times_print_as_dates_on_both_sides_of_the_epoch() {
        assert_eq!(format_millis(0), "1970-01-01 00:00:00.000");
        assert_eq!(format_millis(-1), "1969-12-31 23:59:59.999");
        assert_eq!(format_millis(1_357_035_300_123), "2013-01-01 10:15:00.123");
        assert_eq!(format_millis(951_782_400_000), "2000-02-29 00:00:00.000");
    }
}
