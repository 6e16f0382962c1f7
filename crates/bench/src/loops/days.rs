//! q15, q16, q17: statistics of a day, one row for each key when the day is over.

use super::map::{Bits, Map};
use super::out::{Out, TextOut};
use super::tumble;
use arrow::array::RecordBatch;

pub(super) const DAY: i64 = 86_400_000;

/// 0 below 10,000, 1 below 1,000,000, else 2.
#[inline(always)]
pub(super) fn rank(price: i64) -> usize {
    usize::from(price >= 10_000) + usize::from(price >= 1_000_000)
}

/// Counts of bids, distinct bidders and distinct auctions: over all, then for each rank of price.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub bids: [i64; 4],
    pub bidders: [i64; 4],
    pub auctions: [i64; 4],
}

/// Counts a value of this rank where it is new; `seen` has a bit for each rank that the value was seen at.
#[inline(always)]
pub(super) fn distinct(counts: &mut [i64; 4], seen: &mut Bits, value: u64, rank: usize) {
    let bit = 1u8 << rank;
    let before = seen.set(value, bit);
    counts[0] += i64::from(before == 0);
    counts[1 + rank] += i64::from(before & bit == 0);
}

#[derive(Default)]
struct Q15 {
    counts: Counts,
    bidders: Bits,
    auctions: Bits,
}

pub fn q15(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    tumble(
        batches,
        DAY,
        out,
        |s: &mut Q15, b, rows| {
            for i in rows {
                if let Some(ahead) = b.auction.get(i + 16) {
                    s.auctions.prefetch(*ahead as u64);
                }
                let rank = rank(b.price[i]);
                s.counts.bids[0] += 1;
                s.counts.bids[1 + rank] += 1;
                distinct(&mut s.counts.bidders, &mut s.bidders, b.bidder[i] as u64, rank);
                distinct(&mut s.counts.auctions, &mut s.auctions, b.auction[i] as u64, rank);
            }
        },
        |s, start, out| {
            out.emit(&s.counts.bids, 1, |_| {
                let c = &s.counts;
                let mut row = [0; 14];
                row[0] = start as u64;
                row[1] = (start + DAY) as u64;
                for (to, from) in row[2..].iter_mut().zip(c.bids.iter().chain(&c.bidders).chain(&c.auctions)) {
                    *to = *from as u64;
                }
                row
            })
        },
    );
}

/// A channel's name as a number: it has at most 16 bytes.
#[inline(always)]
fn name_code(name: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name);
    u128::from_le_bytes(bytes)
}

/// An id within a channel, as a key.
#[inline(always)]
pub(super) fn key(channel: u32, id: i64) -> u64 {
    u64::from(channel) << 40 | id as u64
}

#[derive(Default)]
pub(super) struct Q16 {
    /// Channel number by a hash of its name; names that share a hash follow each other by `next`.
    numbers: Map<u32>,
    pub channels: Vec<Channel>,
    /// By channel number above and bidder or auction below.
    pub bidders: Bits,
    pub auctions: Bits,
    /// The channel number of each row at hand.
    pub rows: Vec<u32>,
}

#[derive(Clone, Copy)]
pub(super) struct Channel {
    pub name: u128,
    pub length: usize,
    next: u32,
    pub last_minute: i64,
    pub counts: Counts,
}

const NO_CHANNEL: u32 = u32::MAX;

impl Q16 {
    #[inline(always)]
    pub fn number(&mut self, name: &[u8]) -> u32 {
        let code = name_code(name);
        let hash = (code as u64 ^ ((code >> 64) as u64).rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
        let (first, new) = self.numbers.entry(hash);
        let mut number = if new { NO_CHANNEL } else { *first };
        while number != NO_CHANNEL {
            let channel = &self.channels[number as usize];
            if channel.name == code {
                return number;
            }
            number = channel.next;
        }
        let next = if new { NO_CHANNEL } else { *first };
        *first = self.channels.len() as u32;
        self.channels.push(Channel { name: code, length: name.len(), next, last_minute: 0, counts: Counts::default() });
        *first
    }
}

pub fn q16(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    tumble(
        batches,
        DAY,
        out,
        |s: &mut Q16, b, rows| {
            let mut numbers = std::mem::take(&mut s.rows);
            numbers.clear();
            numbers.extend(rows.clone().map(|i| s.number(b.channel.get(i))));
            for (n, i) in rows.clone().enumerate() {
                if let (Some(channel), Some(ahead)) = (numbers.get(n + 16), b.auction.get(i + 16)) {
                    s.auctions.prefetch(key(*channel, *ahead));
                    s.bidders.prefetch(key(*channel, b.bidder[i + 16]));
                }
                let rank = rank(b.price[i]);
                let channel = &mut s.channels[numbers[n] as usize];
                channel.last_minute = channel.last_minute.max(b.time[i].rem_euclid(DAY) / 60_000);
                channel.counts.bids[0] += 1;
                channel.counts.bids[1 + rank] += 1;
                distinct(&mut channel.counts.bidders, &mut s.bidders, key(numbers[n], b.bidder[i]), rank);
                distinct(&mut channel.counts.auctions, &mut s.auctions, key(numbers[n], b.auction[i]), rank);
            }
            s.rows = numbers;
        },
        |s, start, out| {
            let (mut names, mut minutes) = (TextOut::default(), TextOut::default());
            let mut columns: [Vec<i64>; 14] = Default::default();
            for c in &s.channels {
                names.push(&c.name.to_le_bytes()[..c.length]);
                minutes.push(format!("{:02}:{:02}", c.last_minute / 60, c.last_minute % 60).as_bytes());
                let counts = c.counts.bids.iter().chain(&c.counts.bidders).chain(&c.counts.auctions);
                let values = [start, start + DAY].into_iter().chain(counts.copied());
                columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
            }
            out.emit(&(&names, &minutes, &columns), s.channels.len(), |i| {
                let mut row = [0; 16];
                row[0] = names.code(i);
                row[1] = columns[0][i] as u64;
                row[2] = columns[1][i] as u64;
                row[3] = minutes.code(i);
                row[4..].iter_mut().zip(&columns[2..]).for_each(|(to, column)| *to = column[i] as u64);
                row
            });
        },
    );
}

#[derive(Clone, Copy, Default)]
pub(super) struct Q17 {
    pub count: i64,
    pub ranks: [i64; 3],
    pub min: i64,
    pub max: i64,
    pub sum: i64,
}

impl Q17 {
    #[inline(always)]
    pub fn add(&mut self, price: i64) {
        if self.count == 0 {
            (self.min, self.max) = (price, price);
        }
        self.count += 1;
        self.ranks[rank(price)] += 1;
        self.min = self.min.min(price);
        self.max = self.max.max(price);
        self.sum += price;
    }
}

pub fn q17(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    tumble(
        batches,
        DAY,
        out,
        |auctions: &mut Map<Q17>, b, rows| {
            for i in rows {
                if let Some(ahead) = b.auction.get(i + 16) {
                    auctions.prefetch(*ahead as u64);
                }
                let price = b.price[i];
                auctions.entry(b.auction[i] as u64).0.add(price);
            }
        },
        |auctions, start, out| {
            let mut columns: [Vec<i64>; 11] = Default::default();
            columns.iter_mut().for_each(|c| c.reserve(auctions.len()));
            for (auction, s) in auctions.iter() {
                let [low, middle, high] = s.ranks;
                let average = s.sum / s.count;
                let key = *auction as i64;
                let row = [key, start, start + DAY, s.count, low, middle, high, s.min, s.max, average, s.sum];
                columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
            }
            out.emit(&columns, auctions.len(), |i| std::array::from_fn::<u64, 11, _>(|c| columns[c][i] as u64));
        },
    );
}
