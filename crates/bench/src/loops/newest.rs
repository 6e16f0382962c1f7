//! q18, q19: the last bid of a bidder on an auction, and the ten highest bids on an auction. Whole rows are kept.

use super::BidBatch;
use super::events::{At, BID, Events, Told};
use super::map::Map;
use super::out::Out;
use arrow::array::RecordBatch;
use millstream_core::ChangeKind;

const AHEAD: usize = 16;

/// A bid as a whole. Its three texts lie one behind the other in a buffer that the next bid in its place takes over.
#[derive(Default)]
struct Row {
    auction: i64,
    bidder: i64,
    price: i64,
    time: i64,
    texts: Vec<u8>,
    channel: u32,
    url: u32,
}

impl Row {
    fn set(&mut self, b: &BidBatch, i: usize) {
        let (channel, url, extra) = (b.channel.get(i), b.url.get(i), b.extra.get(i));
        (self.auction, self.bidder, self.price, self.time) = (b.auction[i], b.bidder[i], b.price[i], b.time[i]);
        (self.channel, self.url) = (channel.len() as u32, (channel.len() + url.len()) as u32);
        self.texts.clear();
        self.texts.reserve_exact(self.url as usize + extra.len());
        self.texts.extend_from_slice(channel);
        self.texts.extend_from_slice(url);
        self.texts.extend_from_slice(extra);
    }

    fn texts(&self) -> [&[u8]; 3] {
        let (channel, url) = (self.channel as usize, self.url as usize);
        [&self.texts[..channel], &self.texts[channel..url], &self.texts[url..]]
    }
}

const Q18: &[At] = &[At::Number(0), At::Number(1), At::Number(2), At::Text(0), At::Text(1), At::Number(3), At::Text(2)];

/// The last bid of each bidder on each auction.
pub fn q18(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    struct Last {
        row: Row,
        /// One more than the number of the batch that it last changed in.
        changed: u32,
    }
    let mut places: Map<u32> = Map::default();
    let mut rows: Vec<Last> = Vec::new();
    // Rows that this batch has changed, with what they are to those who have seen the result.
    let mut changes: Vec<(u32, ChangeKind)> = Vec::new();
    let mut told = Told::<4, 3>::new(Q18);
    let tell = |told: &mut Told<4, 3>, kind: ChangeKind, row: &Row| {
        told.push(kind, [row.auction, row.bidder, row.price, row.time], row.texts());
    };
    let key = |b: &BidBatch, i: usize| (b.bidder[i] as u64) << 32 | b.auction[i] as u64;
    for (number, batch) in (1..).zip(batches) {
        let e = Events::of(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if i + AHEAD < e.kind.len() {
                places.prefetch(key(&e.bid, i + AHEAD));
            }
            if *kind != BID {
                continue;
            }
            let (at, new) = places.entry(key(&e.bid, i));
            if new {
                *at = rows.len() as u32;
                rows.push(Last { row: Row::default(), changed: number });
                changes.push((*at, ChangeKind::Insert));
            }
            let last = &mut rows[*at as usize];
            // Of two of the same time the later one to come is the last.
            if !new && e.bid.time[i] < last.row.time {
                continue;
            }
            if last.changed != number {
                last.changed = number;
                changes.push((*at, ChangeKind::UpdateAfter));
                tell(&mut told, ChangeKind::UpdateBefore, &last.row);
            }
            last.row.set(&e.bid, i);
        }
        for (at, kind) in changes.drain(..) {
            tell(&mut told, kind, &rows[at as usize].row);
        }
        told.give(out);
    }
}

const RANKS: usize = 10;

const Q19: &[At] =
    &[At::Number(0), At::Number(1), At::Number(2), At::Text(0), At::Text(1), At::Number(3), At::Text(2), At::Number(4)];

/// The ten highest bids of an auction, best first: prices, and where the rows lie.
#[derive(Clone, Copy, Default)]
struct Ranking {
    prices: [i64; RANKS],
    rows: [u32; RANKS],
    len: usize,
}

impl Ranking {
    /// Takes a price in, behind those that are as high; says at which rank, and the row that falls out for it.
    #[inline(always)]
    fn insert(&mut self, price: i64) -> Option<(usize, Option<u32>)> {
        if self.len == RANKS && price <= self.prices[RANKS - 1] {
            return None;
        }
        let rank = self.prices[..self.len].partition_point(|p| *p >= price);
        let out = (self.len == RANKS).then(|| self.rows[RANKS - 1]);
        self.len = (self.len + 1).min(RANKS);
        self.prices.copy_within(rank..self.len - 1, rank + 1);
        self.rows.copy_within(rank..self.len - 1, rank + 1);
        self.prices[rank] = price;
        Some((rank, out))
    }
}

/// The ten highest bids on each auction, with their rank.
pub fn q19(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    #[derive(Default)]
    struct Auction {
        now: Ranking,
        changed: u32,
    }
    let mut places: Map<u32> = Map::default();
    let mut auctions: Vec<Auction> = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    let mut free: Vec<u32> = Vec::new();
    // Rows that have fallen out in this batch: they may still have to be told of.
    let mut gone: Vec<u32> = Vec::new();
    let mut changes: Vec<(u32, Ranking)> = Vec::new();
    let mut told = Told::<5, 3>::new(Q19);
    for (number, batch) in (1..).zip(batches) {
        let e = Events::of(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if let Some(ahead) = e.bid.auction.get(i + AHEAD) {
                places.prefetch(*ahead as u64);
            }
            if *kind != BID {
                continue;
            }
            let (at, new) = places.entry(e.bid.auction[i] as u64);
            if new {
                *at = auctions.len() as u32;
                auctions.push(Auction::default());
            }
            let auction = &mut auctions[*at as usize];
            let before = auction.now;
            let Some((rank, out)) = auction.now.insert(e.bid.price[i]) else { continue };
            if auction.changed != number {
                auction.changed = number;
                changes.push((*at, before));
            }
            gone.extend(out);
            let row = free.pop().unwrap_or_else(|| {
                rows.push(Row::default());
                rows.len() as u32 - 1
            });
            rows[row as usize].set(&e.bid, i);
            auction.now.rows[rank] = row;
        }
        for (at, before) in changes.drain(..) {
            let now = &auctions[at as usize].now;
            for rank in 0..now.len {
                let mut tell = |kind: ChangeKind, row: u32| {
                    let r = &rows[row as usize];
                    told.push(kind, [r.auction, r.bidder, r.price, r.time, rank as i64 + 1], r.texts());
                };
                if rank >= before.len {
                    tell(ChangeKind::Insert, now.rows[rank]);
                } else if before.rows[rank] != now.rows[rank] {
                    tell(ChangeKind::UpdateBefore, before.rows[rank]);
                    tell(ChangeKind::UpdateAfter, now.rows[rank]);
                }
            }
        }
        free.append(&mut gone);
        told.give(out);
    }
}
