//! q15, q16, q17: statistics of each day, kept up to date: after each batch, the rows that it has changed.

use super::days::{Channel, Counts, DAY, Q16, Q17, distinct, key, rank};
use super::events::{At, BID, Events, Told};
use super::map::{Bits, Map};
use super::out::Out;
use arrow::array::RecordBatch;
use millstream_core::ChangeKind;
use millstream_core::time::format_millis;

const AHEAD: usize = 16;

/// What is known of a day.
struct Day<S> {
    start: i64,
    /// Its name, such as `2023-11-14`.
    name: String,
    state: S,
}

/// The days so far. A day is never over: the query groups by its name, not by windows.
struct Days<S> {
    days: Vec<Day<S>>,
    /// The day of the row before.
    last: usize,
}

impl<S: Default> Days<S> {
    fn new() -> Self {
        Days { days: Vec::new(), last: 0 }
    }

    #[inline(always)]
    fn of(&mut self, time: i64) -> &mut S {
        if self.days.get(self.last).is_none_or(|d| !(d.start..d.start + DAY).contains(&time)) {
            self.find(time);
        }
        &mut self.days[self.last].state
    }

    #[cold]
    fn find(&mut self, time: i64) {
        let start = time - time.rem_euclid(DAY);
        self.last = self.days.iter().position(|d| d.start == start).unwrap_or_else(|| {
            let name = format_millis(start)[..10].to_string();
            self.days.push(Day { start, name, state: S::default() });
            self.days.len() - 1
        });
    }
}

/// Tells that a row has become another one, or has come.
#[inline(always)]
fn tell<const N: usize, const T: usize>(
    told: &mut Told<N, T>,
    before: Option<([i64; N], [&[u8]; T])>,
    now: ([i64; N], [&[u8]; T]),
) {
    match before {
        None => told.push(ChangeKind::Insert, now.0, now.1),
        Some(before) => {
            told.push(ChangeKind::UpdateBefore, before.0, before.1);
            told.push(ChangeKind::UpdateAfter, now.0, now.1);
        }
    }
}

impl Counts {
    fn row(&self) -> [i64; 12] {
        std::array::from_fn(|i| match i / 4 {
            0 => self.bids[i % 4],
            1 => self.bidders[i % 4],
            _ => self.auctions[i % 4],
        })
    }
}

#[derive(Default)]
struct Q15 {
    now: Counts,
    told: Counts,
    bidders: Bits,
    auctions: Bits,
}

const Q15_COLUMNS: &[At] = &[
    At::Text(0),
    At::Number(0),
    At::Number(1),
    At::Number(2),
    At::Number(3),
    At::Number(4),
    At::Number(5),
    At::Number(6),
    At::Number(7),
    At::Number(8),
    At::Number(9),
    At::Number(10),
    At::Number(11),
];

/// Bids, bidders and auctions of each day, by rank of price.
pub fn q15(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut days: Days<Q15> = Days::new();
    let mut told = Told::<12, 1>::new(Q15_COLUMNS);
    for batch in batches {
        let e = Events::of(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if *kind != BID {
                continue;
            }
            let s = days.of(e.bid.time[i]);
            if let Some(ahead) = e.bid.auction.get(i + AHEAD) {
                s.auctions.prefetch(*ahead as u64);
            }
            let rank = rank(e.bid.price[i]);
            s.now.bids[0] += 1;
            s.now.bids[1 + rank] += 1;
            distinct(&mut s.now.bidders, &mut s.bidders, e.bid.bidder[i] as u64, rank);
            distinct(&mut s.now.auctions, &mut s.auctions, e.bid.auction[i] as u64, rank);
        }
        for day in &mut days.days {
            let (s, name) = (&mut day.state, day.name.as_bytes());
            if s.now.bids[0] != s.told.bids[0] {
                let before = (s.told.bids[0] > 0).then(|| (s.told.row(), [name]));
                tell(&mut told, before, (s.now.row(), [name]));
                s.told = s.now;
            }
        }
        told.give(out);
    }
}

#[derive(Default)]
struct Channels {
    all: Q16,
    /// For each channel, one more than the number of the batch in which it last changed.
    changed: Vec<u32>,
    /// Those that this batch has changed, as they were before.
    before: Vec<(u32, Channel)>,
}

const Q16_COLUMNS: &[At] = &[
    At::Text(0),
    At::Text(1),
    At::Text(2),
    At::Number(0),
    At::Number(1),
    At::Number(2),
    At::Number(3),
    At::Number(4),
    At::Number(5),
    At::Number(6),
    At::Number(7),
    At::Number(8),
    At::Number(9),
    At::Number(10),
    At::Number(11),
];

/// The same for each channel, with the last minute of activity.
pub fn q16(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut days: Days<Channels> = Days::new();
    let mut told = Told::<12, 3>::new(Q16_COLUMNS);
    let minutes: Vec<String> = (0..24 * 60).map(|m| format!("{:02}:{:02}", m / 60, m % 60)).collect();
    for (number, batch) in (1..).zip(batches) {
        let e = Events::of(&batch);
        let b = &e.bid;
        // The channels first, so that what they hold can be brought near ahead of its turn.
        let mut numbers: Vec<u32> = Vec::with_capacity(e.kind.len());
        for (i, kind) in e.kind.iter().enumerate() {
            numbers.push(if *kind == BID { days.of(b.time[i]).all.number(b.channel.get(i)) } else { 0 });
        }
        for (i, kind) in e.kind.iter().enumerate() {
            if *kind != BID {
                continue;
            }
            let s = days.of(b.time[i]);
            if let Some(ahead) = numbers.get(i + AHEAD) {
                s.all.auctions.prefetch(key(*ahead, b.auction[i + AHEAD]));
                s.all.bidders.prefetch(key(*ahead, b.bidder[i + AHEAD]));
            }
            let (rank, at) = (rank(b.price[i]), numbers[i]);
            let channel = &mut s.all.channels[at as usize];
            if s.changed.len() <= at as usize {
                s.changed.resize(at as usize + 1, 0);
            }
            if s.changed[at as usize] != number {
                s.changed[at as usize] = number;
                s.before.push((at, *channel));
            }
            channel.last_minute = channel.last_minute.max(b.time[i].rem_euclid(DAY) / 60_000);
            channel.counts.bids[0] += 1;
            channel.counts.bids[1 + rank] += 1;
            distinct(&mut channel.counts.bidders, &mut s.all.bidders, key(at, b.bidder[i]), rank);
            distinct(&mut channel.counts.auctions, &mut s.all.auctions, key(at, b.auction[i]), rank);
        }
        for day in &mut days.days {
            let (s, day) = (&mut day.state, day.name.as_bytes());
            for (at, before) in s.before.drain(..) {
                let now = &s.all.channels[at as usize];
                let name = now.name.to_le_bytes();
                let name = &name[..now.length];
                let row = |c: &Channel| (c.counts.row(), [name, day, minutes[c.last_minute as usize].as_bytes()]);
                tell(&mut told, (before.counts.bids[0] > 0).then(|| row(&before)), row(now));
            }
        }
        told.give(out);
    }
}

#[derive(Default)]
struct Auctions {
    /// With one more than the number of the batch in which it last changed.
    all: Map<(Q17, u32)>,
    before: Vec<(u64, Q17)>,
}

const Q17_COLUMNS: &[At] = &[
    At::Number(0),
    At::Text(0),
    At::Number(1),
    At::Number(2),
    At::Number(3),
    At::Number(4),
    At::Number(5),
    At::Number(6),
    At::Number(7),
    At::Number(8),
];

/// Prices of each auction and day, by rank.
pub fn q17(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut days: Days<Auctions> = Days::new();
    let mut told = Told::<9, 1>::new(Q17_COLUMNS);
    for (number, batch) in (1..).zip(batches) {
        let e = Events::of(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if *kind != BID {
                continue;
            }
            let s = days.of(e.bid.time[i]);
            if let Some(ahead) = e.bid.auction.get(i + AHEAD) {
                s.all.prefetch(*ahead as u64);
            }
            let auction = e.bid.auction[i] as u64;
            let (now, changed) = s.all.entry(auction).0;
            if *changed != number {
                *changed = number;
                s.before.push((auction, *now));
            }
            now.add(e.bid.price[i]);
        }
        for day in &mut days.days {
            let (s, name) = (&mut day.state, day.name.as_bytes());
            for (auction, before) in s.before.drain(..) {
                let row = |q: &Q17| {
                    let [low, middle, high] = q.ranks;
                    let average = q.sum / q.count;
                    ([auction as i64, q.count, low, middle, high, q.min, q.max, average, q.sum], [name])
                };
                let now = &s.all.entry(auction).0.0;
                tell(&mut told, (before.count > 0).then(|| row(&before)), row(now));
            }
        }
        told.give(out);
    }
}
