//! Local time: windows over `TIMESTAMP_LTZ` are cut where the clock on the wall of the session's zone cuts them.
//!
//! ```text
//!  instants (UTC) ──to_local──▶ wall-clock readings, cut into windows ──to_epoch──▶ instants
//! ```
//!
//! A wall clock is no clock: twice a year it jumps. Where it is put forward some readings do not exist (the gap),
//! where it is put back some exist twice (the ambiguous hour). What always holds:
//! - Every instant has one reading, so every row has its window.
//! - A reading that exists twice means its later instant, and one in a gap is shifted forward by the gap.
//! - [`Zone::watermark_to_local`] never goes back, and it never closes a window that a row may still fall into:
//!   before the clock is put back it waits at the reading the clock is put back to.

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Millis, Result, Watermark};

const DAY: Millis = 86_400_000;
/// The calendar's arithmetic ends a little beyond this (year 250,000); the offset there is that of the edge.
const FARTHEST: Millis = 7_800_000_000_000_000;

/// A time zone by its rules, or a fixed offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    Fixed { offset: Millis },
    Rules(Tz),
}

/// Instants `from..to` share one offset.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Millis,
    to: Millis,
    offset: Millis,
}

impl Zone {
    pub const UTC: Zone = Zone::Fixed { offset: 0 };

    /// Reads an IANA name (`Europe/Berlin`) or an offset (`+08:00`, `UTC`, `GMT-3`), as Flink's
    /// `table.local-time-zone` does.
    pub fn parse(text: &str) -> Result<Zone> {
        let text = text.trim();
        if let Some(offset) = parse_offset(text) {
            return Ok(Zone::Fixed { offset });
        }
        if let Ok(zone) = text.parse::<Tz>() {
            return Ok(if matches!(zone, Tz::UTC | Tz::Etc__UTC) { Zone::UTC } else { Zone::Rules(zone) });
        }
        let remedy = match did_you_mean(text, TZ_VARIANTS.iter().map(|z| z.name())) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "write an IANA name such as Asia/Shanghai, or an offset such as +08:00".to_owned(),
        };
        Err(Error::usage(format!("time zone `{text}` is unknown")).remedy(remedy))
    }

    /// The reading of the wall clock at an instant.
    pub fn to_local(&self, at: Millis) -> Millis {
        at.saturating_add(self.offset_at(at))
    }

    /// The instant of a reading: the later one where it exists twice, shifted forward where it does not exist.
    pub fn to_epoch(&self, local: Millis) -> Millis {
        let tz = match self {
            Zone::Fixed { offset } => return local.saturating_sub(*offset),
            Zone::Rules(tz) => tz,
        };
        let offsets = tz.offset_from_local_datetime(&naive(local)).map(|o| millis_of(&o));
        match (offsets.earliest(), offsets.latest()) {
            (Some(a), Some(b)) => local.saturating_sub(a.min(b)),
            // A day before the reading, taken as UTC, is before the gap: no zone is a day away from UTC.
            _ => local.saturating_sub(self.offset_at(local.saturating_sub(DAY))),
        }
    }

    /// The largest reading `x` for which every window that ends at `x + 1` or before is complete: no instant after
    /// the watermark reads less than `x + 1`.
    pub fn watermark_to_local(&self, watermark: Watermark) -> Watermark {
        if watermark == Watermark::MAX || watermark == Watermark::MIN {
            return watermark;
        }
        let next = watermark.0 + 1;
        let tz = match self {
            Zone::Fixed { offset } => return Watermark(watermark.0.saturating_add(*offset)),
            Zone::Rules(tz) => tz,
        };
        let mut span = span_of(tz, next);
        let mut least = next.saturating_add(span.offset);
        // The clock is put back by a day at most, so a later start of a span reads more than `least`.
        let horizon = next.saturating_add(2 * DAY);
        while span.to < horizon {
            span = span_of(tz, span.to);
            least = least.min(span.from.saturating_add(span.offset));
        }
        Watermark(least - 1)
    }

    /// An instant such that no watermark before it becomes this local one: for who needs a bound, and not the hour.
    pub fn no_later_than(&self, local: Millis) -> Millis {
        if *self == Zone::UTC { local } else { local.saturating_sub(DAY) }
    }

    /// [`Zone::to_local`] for a column.
    pub fn column_to_local(&self, times: &[Millis]) -> Vec<Millis> {
        let tz = match self {
            Zone::Fixed { offset } => return times.iter().map(|t| t.saturating_add(*offset)).collect(),
            Zone::Rules(tz) => tz,
        };
        let mut span = Span { from: 0, to: 0, offset: 0 };
        // Row by row, because the offset may change between two rows; within a day it is one addition.
        times
            .iter()
            .map(|&t| {
                if t < span.from || t >= span.to {
                    span = span_of(tz, t);
                }
                t.saturating_add(span.offset)
            })
            .collect()
    }

    /// [`Zone::to_epoch`] for a column.
    pub fn column_to_epoch(&self, locals: &[Millis]) -> Vec<Millis> {
        if let Zone::Fixed { offset } = self {
            return locals.iter().map(|t| t.saturating_sub(*offset)).collect();
        }
        // Readings of one column are mostly ends of windows, which repeat.
        let mut last = None;
        locals
            .iter()
            .map(|&local| match last {
                Some((key, epoch)) if key == local => epoch,
                _ => {
                    let epoch = self.to_epoch(local);
                    last = Some((local, epoch));
                    epoch
                }
            })
            .collect()
    }

    fn offset_at(&self, at: Millis) -> Millis {
        match self {
            Zone::Fixed { offset } => *offset,
            Zone::Rules(tz) => rule_offset(tz, at),
        }
    }
}

fn naive(at: Millis) -> NaiveDateTime {
    DateTime::from_timestamp_millis(at.clamp(-FARTHEST, FARTHEST)).unwrap_or(DateTime::UNIX_EPOCH).naive_utc()
}

fn millis_of(offset: &impl Offset) -> Millis {
    Millis::from(offset.fix().local_minus_utc()) * 1000
}

fn rule_offset(tz: &Tz, at: Millis) -> Millis {
    millis_of(&tz.offset_from_utc_datetime(&naive(at)))
}

/// The part of the UTC day of `at` around `at` that has one offset. No zone changes its offset twice in a day.
fn span_of(tz: &Tz, at: Millis) -> Span {
    let from = at.saturating_sub(at.rem_euclid(DAY));
    let to = from.saturating_add(DAY);
    let (first, last) = (rule_offset(tz, from), rule_offset(tz, to - 1));
    if first == last {
        return Span { from, to, offset: first };
    }
    let (mut before, mut after) = (from, to - 1);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if rule_offset(tz, middle) == first {
            before = middle;
        } else {
            after = middle;
        }
    }
    if at < after { Span { from, to: after, offset: first } } else { Span { from: after, to, offset: last } }
}

/// `+08:00`, `-3`, `UTC`, `Z`, `GMT+05:30`, `UTC-08:00`.
fn parse_offset(text: &str) -> Option<Millis> {
    let upper = text.to_ascii_uppercase();
    let rest = upper.strip_prefix("UTC").or_else(|| upper.strip_prefix("GMT")).unwrap_or(&upper);
    if rest.is_empty() && !upper.is_empty() || rest == "Z" && upper == "Z" {
        return Some(0);
    }
    let sign = match rest.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let mut parts = rest[1..].split(':');
    let mut unit = |max: Millis| -> Option<Option<Millis>> {
        let Some(part) = parts.next() else { return Some(None) };
        let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        let value: Millis = if digits { part.parse().ok()? } else { return None };
        (value <= max).then_some(Some(value))
    };
    let hours = unit(18)??;
    let minutes = unit(59)?.unwrap_or(0);
    let seconds = unit(59)?.unwrap_or(0);
    if parts.next().is_some() {
        return None;
    }
    Some(sign * (hours * 3_600_000 + minutes * 60_000 + seconds * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::time::format_millis;
    use proptest::prelude::*;

    fn at(text: &str) -> Millis {
        let parsed = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").expect("a time in a test");
        parsed.and_utc().timestamp_millis()
    }

    fn local(zone: &Zone, text: &str) -> String {
        format_millis(zone.to_local(at(text)))
    }

    fn closed(zone: &Zone, text: &str) -> String {
        format_millis(zone.watermark_to_local(Watermark(at(text))).0)
    }

    #[test]
    fn zones_read_as_names_and_as_offsets() {
        assert_eq!(Zone::parse("UTC"), Ok(Zone::UTC));
        assert_eq!(Zone::parse("Z"), Ok(Zone::UTC));
        assert_eq!(Zone::parse("Etc/UTC"), Ok(Zone::UTC));
        assert_eq!(Zone::parse("+08:00"), Ok(Zone::Fixed { offset: 8 * 3_600_000 }));
        assert_eq!(Zone::parse("GMT-03:30"), Ok(Zone::Fixed { offset: -12_600_000 }));
        assert_eq!(Zone::parse("UTC+8"), Ok(Zone::Fixed { offset: 8 * 3_600_000 }));
        assert_eq!(Zone::parse("Asia/Shanghai"), Ok(Zone::Rules(Tz::Asia__Shanghai)));
        for wrong in ["", "+", "+8:0:0:0", "+25:00", "+08:99", "Mars/Olympus"] {
            assert!(Zone::parse(wrong).is_err(), "{wrong}");
        }
        let e = Zone::parse("Europe/Berln").expect_err("no such zone");
        assert_eq!(e.help(), Some("did you mean `Europe/Berlin`?"));
    }

    #[test]
    fn day_windows_shift_with_the_zone() {
        let shanghai = Zone::parse("Asia/Shanghai").expect("known");
        assert_eq!(local(&shanghai, "2021-04-15 14:01:00.0"), "2021-04-15 22:01:00.000");
        assert_eq!(closed(&shanghai, "2021-04-15 15:59:59.999"), "2021-04-15 23:59:59.999");
        // Daylight saving of 1991: put back on 15 September, 02:00 to 01:00 local.
        assert_eq!(local(&shanghai, "1991-09-14 16:30:00.0"), "1991-09-15 01:30:00.000");
        assert_eq!(local(&shanghai, "1991-09-14 17:30:00.0"), "1991-09-15 01:30:00.000");
    }

    #[test]
    fn the_hour_that_comes_twice_closes_once_at_its_second_end() {
        let berlin = Zone::parse("Europe/Berlin").expect("known");
        // 2023-10-29: 03:00 summer time (01:00 UTC) becomes 02:00.
        assert_eq!(local(&berlin, "2023-10-29 00:30:00.0"), "2023-10-29 02:30:00.000");
        assert_eq!(local(&berlin, "2023-10-29 01:30:00.0"), "2023-10-29 02:30:00.000");
        assert_eq!(format_millis(berlin.to_epoch(at("2023-10-29 02:30:00.0"))), "2023-10-29 01:30:00.000");
        assert_eq!(closed(&berlin, "2023-10-28 23:59:59.999"), "2023-10-29 01:59:59.999");
        assert_eq!(closed(&berlin, "2023-10-29 00:30:00.0"), "2023-10-29 01:59:59.999");
        assert_eq!(closed(&berlin, "2023-10-29 00:59:59.999"), "2023-10-29 01:59:59.999");
        assert_eq!(closed(&berlin, "2023-10-29 01:30:00.0"), "2023-10-29 02:30:00.000");
        assert_eq!(closed(&berlin, "2023-10-29 01:59:59.999"), "2023-10-29 02:59:59.999");
    }

    #[test]
    fn the_hour_that_never_comes_closes_at_once() {
        let york = Zone::parse("America/New_York").expect("known");
        // 2013-03-10: 02:00 EST (07:00 UTC) becomes 03:00.
        assert_eq!(local(&york, "2013-03-10 06:59:59.999"), "2013-03-10 01:59:59.999");
        assert_eq!(local(&york, "2013-03-10 07:00:00.0"), "2013-03-10 03:00:00.000");
        assert_eq!(closed(&york, "2013-03-10 06:59:59.998"), "2013-03-10 01:59:59.998");
        assert_eq!(closed(&york, "2013-03-10 06:59:59.999"), "2013-03-10 02:59:59.999");
        assert_eq!(format_millis(york.to_epoch(at("2013-03-10 02:30:00.0"))), "2013-03-10 07:30:00.000");
        let apia = Zone::parse("Pacific/Apia").expect("known");
        // A whole day was left out at the end of 2011-12-29.
        assert_eq!(local(&apia, "2011-12-30 09:59:59.999"), "2011-12-29 23:59:59.999");
        assert_eq!(local(&apia, "2011-12-30 10:00:00.0"), "2011-12-31 00:00:00.000");
        assert_eq!(format_millis(apia.to_epoch(at("2011-12-30 12:00:00.0"))), "2011-12-30 22:00:00.000");
    }

    #[test]
    fn the_ends_of_time_stay_where_they_are() {
        for zone in [Zone::UTC, Zone::parse("+08:00").expect("offset"), Zone::parse("Europe/Berlin").expect("known")] {
            assert_eq!(zone.watermark_to_local(Watermark::MAX), Watermark::MAX);
            assert_eq!(zone.watermark_to_local(Watermark::MIN), Watermark::MIN);
            for t in [i64::MIN, i64::MIN + 1, -FARTHEST - 1, FARTHEST + 1, i64::MAX - 1, i64::MAX] {
                let _ = (zone.to_local(t), zone.to_epoch(t), zone.watermark_to_local(Watermark(t)));
            }
        }
    }

    fn zones() -> impl Strategy<Value = Zone> {
        const NAMES: [&str; 5] =
            ["Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe", "Africa/Casablanca"];
        proptest::sample::select(&NAMES[..]).prop_map(|name| Zone::parse(name).expect("known"))
    }

    proptest! {
        #[test]
        fn a_column_reads_as_its_rows_do(zone in zones(), from in -2_000_000_000_000i64..2_000_000_000_000,
                                         steps in prop::collection::vec(-7_200_000i64..86_400_000, 1..80)) {
            let times: Vec<_> = steps.iter().scan(from, |t, s| { *t += s; Some(*t) }).collect();
            let locals = zone.column_to_local(&times);
            prop_assert_eq!(&locals, &times.iter().map(|t| zone.to_local(*t)).collect::<Vec<_>>());
            let back = zone.column_to_epoch(&locals);
            for (b, t) in back.iter().zip(&times) {
                // The same reading, and never an earlier instant.
                prop_assert_eq!(zone.to_local(*b), zone.to_local(*t));
                prop_assert!(b >= t);
            }
        }

        #[test]
        fn the_local_watermark_is_the_largest_safe_one(zone in zones(), base in 0i64..2_000_000_000,
                                                       ahead in 0i64..200_000) {
            // Half an hour's grid, fine enough to meet every change of offset.
            let wm = base * 1000 - 1;
            let x = zone.watermark_to_local(Watermark(wm)).0;
            let later = zone.watermark_to_local(Watermark(wm + ahead * 1000)).0;
            prop_assert!(x <= later);
            let grid = (0..96).map(|i| (wm + 1).max((wm + 1) / 1_800_000 * 1_800_000 + i * 1_800_000));
            let least = grid.map(|t| zone.to_local(t)).min().expect("not empty");
            prop_assert_eq!(x, least - 1);
        }
    }
}
