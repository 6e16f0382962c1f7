//! The `WITH` clause of a nexmark table.

use millstream_core::error::did_you_mean;
use millstream_core::{Error, Millis, Place, Result, TableSpec};

/// Name and meaning of each option, in the order in which a reader wants them.
pub const OPTIONS: &[(&str, &str)] = &[
    (
        "nexmark.table",
        "`bid`, `auction` or `person`: a table of these events alone, with flat columns. \
         Absent: all events in one table (event_type, person, auction, bid)",
    ),
    ("events.num", "Events in all, of all three kinds (46 of 50 are bids). 0 or absent: without end"),
    ("first-event.rate", "Events per second of event time. Default 10000; the same as `next-event.rate`"),
    ("next-event.rate", "Events per second of event time. Default 10000; the same as `first-event.rate`"),
    ("rows-per-second", "Rows of this table per second of the wall clock. Absent: as fast as they are taken"),
    ("base-time", "Event time of the first event, in ms since 1970. Default 1700000000000 (2023-11-14 22:13:20)"),
    ("seed", "A whole number that all values follow from. Default 0"),
    (
        "skewed",
        "`true`: the first auction and the first two persons stay the hot ones for good, with half of the bids, three in four of \
         them by one bidder. Default `false`: others are hot with every 100 that are new",
    ),
    ("keep-alive", "`true`: the table stays open, silent, after the last event. Default `false`"),
];

/// Which events are rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Person,
    Auction,
    Bid,
    All,
}

impl Kind {
    /// The places of these events among the 50 of an epoch.
    pub(super) fn places(self) -> std::ops::Range<u64> {
        match self {
            Kind::Person => 0..1,
            Kind::Auction => 1..4,
            Kind::Bid => 4..50,
            Kind::All => 0..50,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub kind: Kind,
    /// `None`: endless.
    pub events: Option<u64>,
    /// Events per second of event time.
    pub event_rate: f64,
    /// Rows per second of the wall clock.
    pub row_rate: Option<f64>,
    pub base: Millis,
    pub seed: u64,
    pub skewed: bool,
    pub keep_alive: bool,
}

impl Options {
    pub(super) fn read(spec: &TableSpec) -> Result<Options> {
        let place = |e: Error| match &spec.place {
            Some(place) => e.at(place.clone()),
            None => e.at(Place(format!("table {}", spec.name))),
        };
        read(spec).map_err(place)
    }
}

fn read(spec: &TableSpec) -> Result<Options> {
    for key in spec.options.keys() {
        if key != "connector" && !OPTIONS.iter().any(|(name, _)| name == key) {
            return Err(unknown_option(key));
        }
    }
    let kind = match spec.option("nexmark.table") {
        None => Kind::All,
        Some(v) if v.eq_ignore_ascii_case("bid") => Kind::Bid,
        Some(v) if v.eq_ignore_ascii_case("auction") => Kind::Auction,
        Some(v) if v.eq_ignore_ascii_case("person") => Kind::Person,
        Some(v) => return Err(wrong("nexmark.table", v, "`bid`, `auction` or `person`")),
    };
    let events = match number::<u64>(spec, "events.num", "a whole number of events, for example 1000000")? {
        None | Some(0) => None,
        // Numbers of events stay far enough from the end of BIGINT that ids and times made of them fit too.
        Some(n) if n > MAX_EVENTS => {
            return Err(wrong("events.num", &n.to_string(), &format!("at most {MAX_EVENTS}; leave it out for no end")));
        }
        some => some,
    };
    let first = rate(spec, "first-event.rate")?;
    let next = rate(spec, "next-event.rate")?;
    if let (Some(a), Some(b)) = (first, next)
        && a != b
    {
        return Err(Error::sql(
            "`first-event.rate` and `next-event.rate` differ: a rate that changes is not there yet",
        )
        .remedy("set both to the same number, or leave one out"));
    }
    let base = number::<i64>(spec, "base-time", "milliseconds since 1970, for example 1700000000000")?;
    if let Some(base) = base
        && !(0..=MAX_BASE).contains(&base)
    {
        return Err(wrong("base-time", &base.to_string(), "milliseconds since 1970, up to the year 9999"));
    }
    Ok(Options {
        kind,
        events,
        event_rate: first.or(next).unwrap_or(10_000.0),
        row_rate: rate(spec, "rows-per-second")?,
        base: base.unwrap_or(1_700_000_000_000),
        seed: number(spec, "seed", "a whole number, 0 or more")?.unwrap_or(0),
        skewed: flag(spec, "skewed")?,
        keep_alive: flag(spec, "keep-alive")?,
    })
}

/// 2^52: event numbers are exact as floating-point numbers, which event times are reckoned with.
const MAX_EVENTS: u64 = 1 << 52;
/// The end of the year 9999.
const MAX_BASE: i64 = 253_402_300_799_999;

fn number<T: std::str::FromStr>(spec: &TableSpec, key: &str, wanted: &str) -> Result<Option<T>> {
    match spec.option(key) {
        None => Ok(None),
        Some(v) => v.trim().parse().map(Some).map_err(|_| wrong(key, v, wanted)),
    }
}

fn flag(spec: &TableSpec, key: &str) -> Result<bool> {
    match spec.option(key) {
        None => Ok(false),
        Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
        Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
        Some(v) => Err(wrong(key, v, "`true` or `false`")),
    }
}

/// A rate is a positive number per second; below one in a day it would say nothing.
fn rate(spec: &TableSpec, key: &str) -> Result<Option<f64>> {
    match number::<f64>(spec, key, RATE)? {
        Some(r) if !(1e-5..=1e12).contains(&r) => Err(wrong(key, &r.to_string(), RATE)),
        other => Ok(other),
    }
}

const RATE: &str = "a positive number per second, for example 10000";

fn wrong(key: &str, value: &str, wanted: &str) -> Error {
    Error::sql(format!("option `{key}` has the value `{value}`")).remedy(format!("give {wanted}"))
}

fn unknown_option(key: &str) -> Error {
    let names = OPTIONS.iter().map(|(name, _)| *name);
    let error = Error::sql(format!("connector `nexmark` has no option `{key}`"));
    match did_you_mean(key, names.clone()) {
        Some(name) => error.remedy(format!("did you mean `{name}`?")),
        None => error.remedy(format!("its options are {}", names.collect::<Vec<_>>().join(", "))),
    }
}
