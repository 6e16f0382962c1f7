//! q3, q4, q7, q9, q20: joins that never forget, and what stands on them.

use super::events::{AUCTION, At, BID, Events, PERSON, Told};
use super::kept::{Bids, Chain, Chains, Place, Span, Texts};
use super::map::Map;
use super::out::Out;
use crate::data::WATERMARK_DELAY_MS;
use arrow::array::RecordBatch;
use millstream_core::ChangeKind;
use std::collections::VecDeque;

/// How many rows ahead a slot of a table is brought near.
const AHEAD: usize = 16;

/// The two sides of a join that have the same key.
#[derive(Clone, Copy, Default)]
struct Sides {
    left: Chain,
    right: Chain,
}

/// Who sells in three states, in category 10.
pub fn q3(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut by_person: Map<Sides> = Map::default();
    let mut auctions: Chains<i64> = Chains::default();
    let mut people: Chains<[Span; 3]> = Chains::default();
    let mut texts = Texts::default();
    let mut told = Told::<1, 3>::new(&[At::Text(0), At::Text(1), At::Text(2), At::Number(0)]);
    for batch in batches {
        let e = Events::of(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if *kind == AUCTION && e.auction.category[i] == 10 {
                let sides = by_person.entry(e.auction.seller[i] as u64).0;
                auctions.push(&mut sides.left, e.auction.id[i]);
                for (_, person) in people.walk(sides.right) {
                    told.push(ChangeKind::Insert, [e.auction.id[i]], person.map(|span| texts.get(span)));
                }
            } else if *kind == PERSON && matches!(e.person.state.get(i), b"OR" | b"ID" | b"CA") {
                let sides = by_person.entry(e.person.id[i] as u64).0;
                let person = [e.person.name.get(i), e.person.city.get(i), e.person.state.get(i)];
                people.push(&mut sides.right, person.map(|text| texts.put(text)));
                for (_, id) in auctions.walk(sides.left) {
                    told.push(ChangeKind::Insert, [*id], person);
                }
            }
        }
        told.give(out);
    }
}

/// Average of the highest bids of all auctions of a category.
pub fn q4(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    struct Auction {
        time: i64,
        expires: i64,
        category: u32,
        /// Its place in `highest`, which auctions of the same id and category share.
        highest: u32,
    }
    struct Category {
        id: i64,
        sum: i64,
        count: i64,
        told: Option<i64>,
    }
    let mut by_auction: Map<Sides> = Map::default();
    let mut auctions: Chains<Auction> = Chains::default();
    let mut bids: Chains<(i64, i64)> = Chains::default();
    let mut highest: Vec<Option<i64>> = Vec::new();
    let mut categories: Vec<Category> = Vec::new();
    let mut told = Told::<2, 0>::new(&[At::Number(0), At::Number(1)]);

    fn raise(highest: &mut Option<i64>, category: &mut Category, price: i64) {
        match *highest {
            Some(before) if before >= price => return,
            Some(before) => category.sum += price - before,
            None => (category.sum, category.count) = (category.sum + price, category.count + 1),
        }
        *highest = Some(price);
    }

    for batch in batches {
        let e = Events::of(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if let Some(ahead) = e.bid.auction.get(i + AHEAD) {
                by_auction.prefetch(*ahead as u64);
            }
            if *kind == BID {
                let (time, price) = (e.bid.time[i], e.bid.price[i]);
                let sides = by_auction.entry(e.bid.auction[i] as u64).0;
                bids.push(&mut sides.right, (time, price));
                for (_, auction) in auctions.walk(sides.left) {
                    if (auction.time..=auction.expires).contains(&time) {
                        let category = &mut categories[auction.category as usize];
                        raise(&mut highest[auction.highest as usize], category, price);
                    }
                }
            } else if *kind == AUCTION {
                let id = e.auction.category[i];
                let category = categories.iter().position(|c| c.id == id).unwrap_or_else(|| {
                    categories.push(Category { id, sum: 0, count: 0, told: None });
                    categories.len() - 1
                }) as u32;
                let sides = by_auction.entry(e.auction.id[i] as u64).0;
                let same = auctions.walk(sides.left).find(|(_, a)| a.category == category).map(|(_, a)| a.highest);
                let place = same.unwrap_or_else(|| {
                    highest.push(None);
                    highest.len() as u32 - 1
                });
                let (time, expires) = (e.auction.time[i], e.auction.expires[i]);
                auctions.push(&mut sides.left, Auction { time, expires, category, highest: place });
                for (_, (at, price)) in bids.walk(sides.right) {
                    if (time..=expires).contains(at) {
                        raise(&mut highest[place as usize], &mut categories[category as usize], *price);
                    }
                }
            }
        }
        for category in categories.iter_mut().filter(|c| c.count > 0) {
            let average = category.sum / category.count;
            match category.told.replace(average) {
                None => told.push(ChangeKind::Insert, [category.id, average], []),
                Some(before) if before != average => {
                    told.push(ChangeKind::UpdateBefore, [category.id, before], []);
                    told.push(ChangeKind::UpdateAfter, [category.id, average], []);
                }
                Some(_) => {}
            }
        }
        told.give(out);
    }
}

const ROUND: i64 = 10_000;

/// The bids with the highest price of each ten seconds: every bid is kept by its price, as the query has it.
pub fn q7(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    /// Bids of a price; ends of the windows in which it was the highest.
    type ByPrice = Map<Sides>;
    let mut by_price: ByPrice = Map::default();
    let mut bids: Chains<(i64, Place)> = Chains::default();
    let mut maxima: Chains<i64> = Chains::default();
    let mut kept = Bids::of(["auction", "bidder"], ["extra"]);
    let mut open: VecDeque<(i64, i64)> = VecDeque::new();
    let columns = &[At::Number(0), At::Number(1), At::Number(2), At::Number(3), At::Text(0)];
    let mut told = Told::<4, 1>::new(columns);

    let close = |(end, price): (i64, i64),
                 by_price: &mut ByPrice,
                 maxima: &mut Chains<i64>,
                 bids: &Chains<(i64, Place)>,
                 kept: &Bids<2, 1>,
                 told: &mut Told<4, 1>| {
        let sides = by_price.entry(price as u64).0;
        maxima.push(&mut sides.right, end);
        for (_, (time, place)) in bids.walk(sides.left) {
            if (end - ROUND..=end).contains(time) {
                let [auction, bidder] = kept.numbers(*place);
                told.push(ChangeKind::Insert, [auction, bidder, price, *time], kept.texts(*place));
            }
        }
    };
    for batch in batches {
        let e = Events::of(&batch);
        kept.keep(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if let Some(ahead) = e.bid.price.get(i + AHEAD) {
                by_price.prefetch(*ahead as u64);
            }
            if *kind != BID {
                continue;
            }
            let (time, price) = (e.bid.time[i], e.bid.price[i]);
            match open.back_mut() {
                Some((end, highest)) if time < *end => *highest = price.max(*highest),
                _ => open.push_back((time - time.rem_euclid(ROUND) + ROUND, price)),
            }
            let sides = by_price.entry(price as u64).0;
            bids.push(&mut sides.left, (time, kept.place(i)));
            for (_, end) in maxima.walk(sides.right) {
                if (end - ROUND..=*end).contains(&time) {
                    let row = [e.bid.auction[i], e.bid.bidder[i], price, time];
                    told.push(ChangeKind::Insert, row, [e.bid.extra.get(i)]);
                }
            }
        }
        let watermark = e.last_time().map_or(i64::MIN, |t| t - WATERMARK_DELAY_MS);
        while let Some(window) = open.pop_front_if(|w| super::closes(watermark, w.0)) {
            close(window, &mut by_price, &mut maxima, &bids, &kept, &mut told);
        }
        told.give(out);
    }
    for window in open {
        close(window, &mut by_price, &mut maxima, &bids, &kept, &mut told);
    }
    told.give(out);
}

/// An auction as a whole, its texts copied.
struct Auction {
    initial_bid: i64,
    reserve: i64,
    time: i64,
    expires: i64,
    seller: i64,
    category: i64,
    item: Span,
    description: Span,
    extra: Span,
}

impl Auction {
    fn keep(e: &Events, i: usize, texts: &mut Texts) -> Auction {
        let a = &e.auction;
        Auction {
            initial_bid: a.initial_bid[i],
            reserve: a.reserve[i],
            time: a.time[i],
            expires: a.expires[i],
            seller: a.seller[i],
            category: a.category[i],
            item: texts.put(a.item.get(i)),
            description: texts.put(a.description.get(i)),
            extra: texts.put(a.extra.get(i)),
        }
    }
}

/// The best bid of each auction while it was open, with the auction.
pub fn q9(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    struct Bid {
        time: i64,
        price: i64,
        place: Place,
    }
    /// Auctions and bids of one id. `best` is the pair that is the first of all by price, then by time.
    #[derive(Default)]
    struct Group {
        id: i64,
        auctions: Chain,
        bids: Chain,
        best: Option<(u32, u32)>,
        /// One more than the number of the batch in which `best` last changed.
        changed: u32,
    }
    type Row = Told<11, 4>;
    let mut by_id: Map<u32> = Map::default();
    let mut groups: Vec<Group> = Vec::new();
    let mut auctions: Chains<Auction> = Chains::default();
    let mut bids: Chains<Bid> = Chains::default();
    let mut texts = Texts::default();
    let mut kept = Bids::of(["bidder"], ["extra"]);
    // Groups whose best pair is another one than before this batch, with the one before.
    let mut changes: Vec<(u32, Option<(u32, u32)>)> = Vec::new();
    const COLUMNS: &[At] = &[
        At::Number(0),
        At::Text(0),
        At::Text(1),
        At::Number(1),
        At::Number(2),
        At::Number(3),
        At::Number(4),
        At::Number(5),
        At::Number(6),
        At::Text(2),
        At::Number(7),
        At::Number(8),
        At::Number(9),
        At::Number(10),
        At::Text(3),
    ];
    let mut told = Row::new(COLUMNS);
    for (number, batch) in (1..).zip(batches) {
        let e = Events::of(&batch);
        kept.keep(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if let Some(ahead) = e.bid.auction.get(i + AHEAD) {
                by_id.prefetch(*ahead as u64);
            }
            if *kind == PERSON {
                continue;
            }
            let id = if *kind == BID { e.bid.auction[i] } else { e.auction.id[i] };
            let (at, new) = by_id.entry(id as u64);
            if new {
                *at = groups.len() as u32;
                groups.push(Group { id, ..Group::default() });
            }
            let at = *at;
            let group = &mut groups[at as usize];
            let before = group.best;
            if *kind == BID {
                let bid = Bid { time: e.bid.time[i], price: e.bid.price[i], place: kept.place(i) };
                bids.push(&mut group.bids, bid);
                let bid_at = group.bids - 1;
                let bid = bids.get(bid_at);
                for (auction_at, auction) in auctions.walk(group.auctions) {
                    let better = group.best.is_none_or(|(_, best)| {
                        let best = bids.get(best);
                        bid.price > best.price || bid.price == best.price && bid.time < best.time
                    });
                    if better && (auction.time..=auction.expires).contains(&bid.time) {
                        group.best = Some((auction_at, bid_at));
                    }
                }
            } else {
                auctions.push(&mut group.auctions, Auction::keep(&e, i, &mut texts));
                let auction_at = group.auctions - 1;
                let auction = auctions.get(auction_at);
                // The newest bid comes first here, and of equal ones the oldest is to be the best.
                for (bid_at, bid) in bids.walk(group.bids) {
                    let better = group.best.is_none_or(|(by, best)| {
                        let best = bids.get(best);
                        let first = bid.time < best.time || bid.time == best.time && by == auction_at;
                        bid.price > best.price || bid.price == best.price && first
                    });
                    if better && (auction.time..=auction.expires).contains(&bid.time) {
                        group.best = Some((auction_at, bid_at));
                    }
                }
            }
            if group.best != before && group.changed != number {
                group.changed = number;
                changes.push((at, before));
            }
        }
        for (at, before) in changes.drain(..) {
            let group = &groups[at as usize];
            let mut tell = |kind: ChangeKind, (auction, bid): (u32, u32)| {
                let (a, b) = (auctions.get(auction), bids.get(bid));
                let [bidder] = kept.numbers(b.place);
                let [bid_extra] = kept.texts(b.place);
                let numbers = [
                    group.id,
                    a.initial_bid,
                    a.reserve,
                    a.time,
                    a.expires,
                    a.seller,
                    a.category,
                    group.id,
                    bidder,
                    b.price,
                    b.time,
                ];
                told.push(kind, numbers, [texts.get(a.item), texts.get(a.description), texts.get(a.extra), bid_extra]);
            };
            match (before, group.best) {
                (Some(before), Some(best)) => {
                    tell(ChangeKind::UpdateBefore, before);
                    tell(ChangeKind::UpdateAfter, best);
                }
                (None, Some(best)) => tell(ChangeKind::Insert, best),
                (_, None) => unreachable!("a best pair is only ever replaced by a better one"),
            }
        }
        told.give(out);
    }
}

/// Bids with their auction, of category 10.
pub fn q20(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut by_id: Map<Sides> = Map::default();
    let mut auctions: Chains<Auction> = Chains::default();
    let mut bids: Chains<Place> = Chains::default();
    let mut texts = Texts::default();
    let mut kept = Bids::of(["bidder", "price", "dateTime"], ["channel", "url", "extra"]);
    const COLUMNS: &[At] = &[
        At::Number(0),
        At::Number(1),
        At::Number(2),
        At::Text(0),
        At::Text(1),
        At::Number(3),
        At::Text(2),
        At::Text(3),
        At::Text(4),
        At::Number(4),
        At::Number(5),
        At::Number(6),
        At::Number(7),
        At::Number(8),
        At::Number(9),
        At::Text(5),
    ];
    let mut told = Told::<10, 6>::new(COLUMNS);
    let tell = |told: &mut Told<10, 6>, id: i64, bid: [i64; 3], of_bid: [&[u8]; 3], a: &Auction, texts: &Texts| {
        let ([bidder, price, time], [channel, url, extra]) = (bid, of_bid);
        let numbers = [id, bidder, price, time, a.initial_bid, a.reserve, a.time, a.expires, a.seller, a.category];
        let of_auction = [a.item, a.description, a.extra].map(|span| texts.get(span));
        let [item, description, auction_extra] = of_auction;
        told.push(ChangeKind::Insert, numbers, [channel, url, extra, item, description, auction_extra]);
    };
    for batch in batches {
        let e = Events::of(&batch);
        kept.keep(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if let Some(ahead) = e.bid.auction.get(i + AHEAD) {
                by_id.prefetch(*ahead as u64);
            }
            if *kind == BID {
                let id = e.bid.auction[i];
                let sides = by_id.entry(id as u64).0;
                bids.push(&mut sides.left, kept.place(i));
                for (_, auction) in auctions.walk(sides.right) {
                    let bid = [e.bid.bidder[i], e.bid.price[i], e.bid.time[i]];
                    let of_bid = [e.bid.channel.get(i), e.bid.url.get(i), e.bid.extra.get(i)];
                    tell(&mut told, id, bid, of_bid, auction, &texts);
                }
            } else if *kind == AUCTION && e.auction.category[i] == 10 {
                let id = e.auction.id[i];
                let sides = by_id.entry(id as u64).0;
                auctions.push(&mut sides.right, Auction::keep(&e, i, &mut texts));
                let auction = auctions.get(sides.right - 1);
                for (_, place) in bids.walk(sides.left) {
                    tell(&mut told, id, kept.numbers(*place), kept.texts(*place), auction, &texts);
                }
            }
        }
        told.give(out);
    }
}
