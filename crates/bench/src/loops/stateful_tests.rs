//! The loops over all events against plain code that looks at all of them at the end, and against the engine.

use super::events::{AUCTION, BID, Events, PERSON};
use super::out::{Out, text_code};
use crate::data::{Text, events_in_memory};
use crate::engine::SourceKind;
use crate::queries::{Bench, STATEFUL};
use crate::report::{measure, run_loop};
use crate::runner::Engine;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use millstream_core::ChangeKind;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone)]
struct Person {
    id: i64,
    time: i64,
    name: u64,
    city: u64,
    state: String,
}

#[derive(Clone)]
struct Auction {
    id: i64,
    item: u64,
    description: u64,
    initial_bid: i64,
    reserve: i64,
    time: i64,
    expires: i64,
    seller: i64,
    category: i64,
    extra: u64,
}

#[derive(Clone)]
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    channel: u64,
    url: u64,
    time: i64,
    extra: u64,
}

/// Events as plain code likes them, by kind, each in the order in which they come.
#[derive(Default)]
struct Plain {
    people: Vec<Person>,
    auctions: Vec<Auction>,
    bids: Vec<Bid>,
}

fn plain(batches: &[RecordBatch]) -> Plain {
    let mut all = Plain::default();
    for batch in batches {
        let e = Events::of(batch);
        let code = |t: &Text, i: usize| text_code(t.get(i));
        for i in 0..batch.num_rows() {
            let (p, a, b) = (&e.person, &e.auction, &e.bid);
            match e.kind[i] {
                PERSON => all.people.push(Person {
                    id: p.id[i],
                    time: p.time[i],
                    name: code(&p.name, i),
                    city: code(&p.city, i),
                    state: String::from_utf8(p.state.get(i).to_vec()).unwrap(),
                }),
                AUCTION => all.auctions.push(Auction {
                    id: a.id[i],
                    item: code(&a.item, i),
                    description: code(&a.description, i),
                    initial_bid: a.initial_bid[i],
                    reserve: a.reserve[i],
                    time: a.time[i],
                    expires: a.expires[i],
                    seller: a.seller[i],
                    category: a.category[i],
                    extra: code(&a.extra, i),
                }),
                BID => all.bids.push(Bid {
                    auction: b.auction[i],
                    bidder: b.bidder[i],
                    price: b.price[i],
                    channel: code(&b.channel, i),
                    url: code(&b.url, i),
                    time: b.time[i],
                    extra: code(&b.extra, i),
                }),
                other => panic!("no event is of kind {other}"),
            }
        }
    }
    all
}

const EVENTS: usize = 20_000;

fn bench(name: &str) -> &'static Bench {
    STATEFUL.iter().find(|b| b.name == name).unwrap()
}

/// The same rows, the last one first: bids come before their auction, and auctions before their seller.
fn backwards(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    let turn = |b: &RecordBatch| take_record_batch(b, &UInt32Array::from_iter_values((0..b.num_rows() as u32).rev()));
    batches.iter().rev().map(|b| turn(b).unwrap()).collect()
}

/// The loop leaves the rows that `wanted` gives, however the rows are cut into batches.
fn check<const N: usize>(name: &str, rates: &[u64], any_order: bool, wanted: impl Fn(&Plain) -> Vec<[u64; N]>) {
    for rate in rates {
        let batches = events_in_memory(EVENTS, *rate).unwrap().to_vec();
        let mut streams = vec![batches.clone()];
        if any_order {
            streams.push(backwards(&batches));
        }
        for (turned, batches) in streams.into_iter().enumerate() {
            let mut expected = Out::new(true);
            let rows = wanted(&plain(&batches));
            expected.emit(&(), rows.len(), |i| rows[i]);
            assert!(expected.rows > 0, "{name} gives something at {rate}/s");

            let mut got = Out::new(true);
            (bench(name).loop_fn)(&mut batches.iter().cloned(), &mut got);
            let case = format!("{name} at {rate}/s{}", if turned == 1 { ", backwards" } else { "" });
            assert_eq!((got.rows, got.checksum), (expected.rows, expected.checksum), "{case}");

            let mut got = Out::new(true);
            let pieces = batches.iter().flat_map(|b| (0..b.num_rows()).step_by(777).map(move |i| (b, i)));
            let mut pieces = pieces.map(|(b, i)| b.slice(i, 777.min(b.num_rows() - i)));
            (bench(name).loop_fn)(&mut pieces, &mut got);
            assert_eq!((got.rows, got.checksum), (expected.rows, expected.checksum), "{case}, in small batches");

            if turned == 0 {
                let source = SourceKind::Generator { events: EVENTS, rate: *rate };
                let got = run_loop(bench(name), &source, true).unwrap();
                assert_eq!((got.rows, got.checksum), (expected.rows, expected.checksum), "{case}, from the generator");
            }
        }
    }
}

fn is_open(auction: &Auction, bid: &Bid) -> bool {
    bid.auction == auction.id && auction.time <= bid.time && bid.time <= auction.expires
}

#[test]
fn joins() {
    check("q3", &[100_000], true, |all| {
        let people = || all.people.iter().filter(|p| ["OR", "ID", "CA"].contains(&p.state.as_str()));
        let of = |a: &Auction| people().filter(|p| p.id == a.seller).map(|p| (p.clone(), a.id)).collect::<Vec<_>>();
        let rows = all.auctions.iter().filter(|a| a.category == 10).flat_map(of);
        rows.map(|(p, id)| [p.name, p.city, text_code(p.state.as_bytes()), id as u64]).collect()
    });
    check("q4", &[1_000, 100_000], true, |all| {
        let mut highest: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for auction in &all.auctions {
            let prices = all.bids.iter().filter(|b| is_open(auction, b)).map(|b| b.price);
            highest.entry(auction.category).or_default().extend(prices.max());
        }
        let average = |prices: &[i64]| prices.iter().sum::<i64>() / prices.len() as i64;
        highest.iter().map(|(category, prices)| [*category as u64, average(prices) as u64]).collect()
    });
    check("q9", &[1_000, 100_000], true, |all| {
        let best = |a: &Auction| {
            let bid = all.bids.iter().filter(|b| is_open(a, b)).min_by_key(|b| (-b.price, b.time))?.clone();
            Some((a.clone(), bid))
        };
        let row = |(a, b): (Auction, Bid)| {
            let [id, initial, reserve, time] = [a.id, a.initial_bid, a.reserve, a.time].map(|v| v as u64);
            let [expires, seller, category] = [a.expires, a.seller, a.category].map(|v| v as u64);
            let [auction, bidder, price, bid_time] = [b.auction, b.bidder, b.price, b.time].map(|v| v as u64);
            [
                id,
                a.item,
                a.description,
                initial,
                reserve,
                time,
                expires,
                seller,
                category,
                a.extra,
                auction,
                bidder,
                price,
                bid_time,
                b.extra,
            ]
        };
        all.auctions.iter().filter_map(best).map(row).collect()
    });
    check("q20", &[100_000], true, |all| {
        let auctions: BTreeMap<i64, &Auction> =
            all.auctions.iter().filter(|a| a.category == 10).map(|a| (a.id, a)).collect();
        let row = |b: &Bid| {
            let a = auctions.get(&b.auction)?;
            let [auction, bidder, price, time] = [b.auction, b.bidder, b.price, b.time].map(|v| v as u64);
            let [initial, reserve, opened] = [a.initial_bid, a.reserve, a.time].map(|v| v as u64);
            let [expires, seller, category] = [a.expires, a.seller, a.category].map(|v| v as u64);
            Some([
                auction,
                bidder,
                price,
                b.channel,
                b.url,
                time,
                b.extra,
                a.item,
                a.description,
                initial,
                reserve,
                opened,
                expires,
                seller,
                category,
                a.extra,
            ])
        };
        all.bids.iter().filter_map(row).collect()
    });
}

#[test]
fn rounds() {
    let rates = [500, 100_000];
    check("q5", &rates, false, |all| {
        let mut counts: BTreeMap<i64, BTreeMap<i64, u64>> = BTreeMap::new();
        for bid in &all.bids {
            let last = bid.time / 2_000 * 2_000;
            for start in (0..5).map(|n| last - n * 2_000) {
                *counts.entry(start).or_default().entry(bid.auction).or_default() += 1;
            }
        }
        let most = |window: &BTreeMap<i64, u64>| {
            let most = *window.values().max().unwrap();
            window.iter().filter(|(_, n)| **n == most).map(|(a, n)| [*a as u64, *n]).collect::<Vec<_>>()
        };
        counts.values().flat_map(most).collect()
    });
    check("q7", &rates, false, |all| {
        let mut highest: BTreeMap<i64, i64> = BTreeMap::new();
        for bid in &all.bids {
            let price = highest.entry(bid.time / 10_000 * 10_000 + 10_000).or_default();
            *price = bid.price.max(*price);
        }
        let of = |(end, price): (&i64, &i64)| {
            let found = all.bids.iter().filter(|b| b.price == *price && b.time >= end - 10_000 && b.time <= *end);
            found
                .map(|b| [b.auction as u64, b.bidder as u64, b.price as u64, b.time as u64, b.extra])
                .collect::<Vec<_>>()
        };
        highest.iter().flat_map(of).collect()
    });
    check("q8", &rates, false, |all| {
        let sold: BTreeSet<(i64, i64)> = all.auctions.iter().map(|a| (a.seller, a.time / 10_000)).collect();
        let found = all.people.iter().filter(|p| sold.contains(&(p.id, p.time / 10_000)));
        let rows: BTreeSet<_> = found.map(|p| [p.id as u64, p.name, p.time as u64 / 10_000 * 10_000]).collect();
        rows.into_iter().collect()
    });
}

const DAY: i64 = 86_400_000;

fn day(bid: &Bid) -> u64 {
    text_code(&millstream_core::time::format_millis(bid.time).as_bytes()[..10])
}

fn in_rank(rank: usize, price: i64) -> bool {
    [true, price < 10_000, (10_000..1_000_000).contains(&price), price >= 1_000_000][rank]
}

fn counts(bids: &[&Bid]) -> [u64; 12] {
    std::array::from_fn(|i| {
        let of_rank = bids.iter().filter(|b| in_rank(i % 4, b.price));
        match i / 4 {
            0 => of_rank.count() as u64,
            1 => of_rank.map(|b| b.bidder).collect::<BTreeSet<_>>().len() as u64,
            _ => of_rank.map(|b| b.auction).collect::<BTreeSet<_>>().len() as u64,
        }
    })
}

fn grouped<K: Ord>(bids: &[Bid], key: impl Fn(&Bid) -> K) -> BTreeMap<K, Vec<&Bid>> {
    let mut groups: BTreeMap<K, Vec<&Bid>> = BTreeMap::new();
    bids.iter().for_each(|b| groups.entry(key(b)).or_default().push(b));
    groups
}

#[test]
fn totals() {
    // 20,000 events at one in twelve seconds are nearly three days.
    let rates = [1, 100_000];
    assert!(EVENTS as i64 * 1000 * 5 > DAY);
    check("q15", &rates, true, |all| {
        let rows = grouped(&all.bids, day).into_iter().map(|(day, bids)| {
            let counts = counts(&bids);
            std::array::from_fn::<u64, 13, _>(|i| if i == 0 { day } else { counts[i - 1] })
        });
        rows.collect()
    });
    check("q16", &rates, true, |all| {
        let rows = grouped(&all.bids, |b| (day(b), b.channel)).into_iter().map(|((day, channel), bids)| {
            let counts = counts(&bids);
            let minutes = bids.iter().map(|b| millstream_core::time::format_millis(b.time)[11..16].to_string());
            let minute = minutes.max().unwrap();
            std::array::from_fn::<u64, 15, _>(|i| match i {
                0 => channel,
                1 => day,
                2 => text_code(minute.as_bytes()),
                i => counts[i - 3],
            })
        });
        rows.collect()
    });
    check("q17", &rates, true, |all| {
        let rows = grouped(&all.bids, |b| (day(b), b.auction)).into_iter().map(|((day, auction), bids)| {
            let prices = || bids.iter().map(|b| b.price);
            let rank = |r| prices().filter(|p| in_rank(r, *p)).count() as i64;
            let (sum, n) = (prices().sum::<i64>(), prices().count() as i64);
            let (min, max) = (prices().min().unwrap(), prices().max().unwrap());
            let [auction, n, low, middle] = [auction, n, rank(1), rank(2)].map(|v| v as u64);
            let [high, min, max, average, sum] = [rank(3), min, max, sum / n as i64, sum].map(|v| v as u64);
            [auction, day, n, low, middle, high, min, max, average, sum]
        });
        rows.collect()
    });
}

#[test]
fn newest() {
    let row = |b: &Bid| [b.auction as u64, b.bidder as u64, b.price as u64, b.channel, b.url, b.time as u64, b.extra];
    let rates = [1_000, 100_000];
    check("q18", &rates, true, |all| {
        let groups = grouped(&all.bids, |b| (b.bidder, b.auction));
        // Of equal ones, the last to come.
        groups.values().map(|bids| row(bids.iter().max_by_key(|b| b.time).unwrap())).collect()
    });
    check("q19", &rates, true, |all| {
        let ten = |mut bids: Vec<&Bid>| {
            bids.sort_by_key(|b| -b.price);
            let ranked = bids.iter().zip(1..=10).map(|(b, rank)| {
                let [auction, bidder, price, channel, url, time, extra] = row(b);
                [auction, bidder, price, channel, url, time, extra, rank]
            });
            ranked.collect::<Vec<_>>()
        };
        grouped(&all.bids, |b| b.auction).into_values().flat_map(ten).collect()
    });
}

/// Events of half a minute: windows close, and the first batch is most of one.
const RATE: u64 = 1_000;

fn against_the_engine(bench: &Bench, parallelism: usize) -> millstream_core::Result<crate::report::Line> {
    let source = SourceKind::Generator { events: EVENTS, rate: RATE };
    measure(bench, &source, EVENTS, parallelism, 1, Some(&Engine))
}

#[test]
fn the_engine_leaves_the_same_rows() {
    for bench in STATEFUL {
        for parallelism in [1, 2] {
            let line = against_the_engine(bench, parallelism).unwrap_or_else(|e| panic!("{}: {e}", bench.name));
            assert!(line.rows_out > 0, "{}", bench.name);
        }
        let memory = SourceKind::Memory(events_in_memory(EVENTS, RATE).unwrap());
        measure(bench, &memory, EVENTS, 1, 1, Some(&Engine)).unwrap_or_else(|e| panic!("{}: {e}", bench.name));
    }
}

#[test]
fn a_loop_that_is_wrong_is_never_timed() {
    macro_rules! without_its_first_batch {
        ($($module:ident $query:ident),*) => {
            [$((stringify!($query), |b, out| super::$module::$query(&mut b.skip(1), out))),*]
        };
    }
    let lossy: [(&str, super::Loop); 12] = without_its_first_batch!(
        joins q3, joins q4, rounds q5, joins q7, rounds q8, joins q9, totals q15, totals q16, totals q17, newest q18,
        newest q19, joins q20
    );
    for (name, loop_fn) in lossy {
        let wrong = Bench { loop_fn, ..*bench(name) };
        assert!(against_the_engine(&wrong, 1).is_err(), "{name} without its first batch");
    }
    let with = |loop_fn| against_the_engine(&Bench { loop_fn, ..*bench("q4") }, 1);
    fn never_takes_back(b: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
        super::joins::q4(b, out);
        out.change(&(), &[ChangeKind::Insert as i8], |_, take| [10, 5].into_iter().for_each(take));
    }
    fn another_number(b: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
        super::joins::q4(b, out);
        let kinds = [ChangeKind::UpdateBefore as i8, ChangeKind::UpdateAfter as i8];
        out.change(&(), &kinds, |i, take| [10, i as u64].into_iter().for_each(take));
    }
    assert!(with(never_takes_back).is_err(), "a row too many");
    assert!(with(another_number).is_err(), "as many rows, and another value");
    assert!(with(super::joins::q4).is_ok());
}
