//! Each loop against plain code that holds everything and takes its time.

use super::out::{Out, text_code};
use super::*;
use crate::data::Bids;
use crate::report::run_loop;
use std::collections::{BTreeMap, BTreeSet};

/// A bid as plain code likes it.
struct Bid {
    auction: i64,
    bidder: i64,
    price: i64,
    time: i64,
    channel: String,
    url: String,
    extra: String,
}

fn bids(events: usize, rate: u64) -> (Vec<RecordBatch>, Vec<Bid>) {
    let batches = Bids::make(events, rate).unwrap().at_rate(rate).unwrap().to_vec();
    let mut all = Vec::new();
    for batch in &batches {
        let b = BidBatch::of(batch);
        let owned = |t: &[u8]| String::from_utf8(t.to_vec()).unwrap();
        all.extend((0..batch.num_rows()).map(|i| Bid {
            auction: b.auction[i],
            bidder: b.bidder[i],
            price: b.price[i],
            time: b.time[i],
            channel: owned(b.channel.get(i)),
            url: owned(b.url.get(i)),
            extra: owned(b.extra.get(i)),
        }));
    }
    assert_eq!(all.len(), events);
    (batches, all)
}

/// The loop gives the rows that `plain` gives, whatever the batches and the rate of event time.
fn check<const N: usize>(name: &str, rates: &[u64], plain: impl Fn(&[Bid]) -> Vec<[u64; N]>) {
    check_some(name, 30_000, rates, plain);
}

fn check_some<const N: usize>(name: &str, events: usize, rates: &[u64], plain: impl Fn(&[Bid]) -> Vec<[u64; N]>) {
    let bench = crate::queries::BENCHES.iter().find(|b| b.name == name).unwrap();
    for rate in rates {
        let (batches, bids) = bids(events, *rate);
        let mut expected = Out::new(true);
        let rows = plain(&bids);
        expected.emit(&(), rows.len(), |i| rows[i]);
        assert!(expected.rows > 0, "{name} gives something at {rate}/s");

        let mut got = Out::new(true);
        (bench.loop_fn)(&mut batches.iter().cloned(), &mut got);
        assert_eq!((got.rows, got.checksum), (expected.rows, expected.checksum), "{name} at {rate}/s");

        let mut got = Out::new(true);
        let pieces = batches.iter().flat_map(|b| (0..b.num_rows()).step_by(777).map(move |i| (b, i)));
        let mut pieces = pieces.map(|(b, i)| b.slice(i, 777.min(b.num_rows() - i)));
        (bench.loop_fn)(&mut pieces, &mut got);
        assert_eq!((got.rows, got.checksum), (expected.rows, expected.checksum), "{name}, in small batches");

        let source = crate::engine::SourceKind::Generator { events, rate: *rate };
        let got = run_loop(bench, &source, true).unwrap();
        assert_eq!((got.rows, got.checksum), (expected.rows, expected.checksum), "{name}, from the generator");
    }
}

fn hop(bids: &[Bid], size: i64, slide: i64, key: impl Fn(&Bid) -> i64) -> Vec<[u64; 4]> {
    let mut counts: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    for bid in bids {
        let mut start = bid.time.div_euclid(slide) * slide;
        while start > bid.time - size {
            *counts.entry((start, key(bid))).or_default() += 1;
            start -= slide;
        }
    }
    counts.iter().map(|((start, key), n)| [*key as u64, *n, *start as u64, (*start + size) as u64]).collect()
}

#[test]
fn hopping_counts() {
    check("q5count", &[1_000, 10_000, 100_000], |b| hop(b, 10_000, 2_000, |b| b.auction));
    // 3,000 bids at one a second are longer than a window.
    check_some("hop30m", 3_000, &[1], |b| hop(b, 1_800_000, 1_000, |b| b.bidder));
    check_some("hop30m_1k", 3_000, &[1], |b| hop(b, 1_800_000, 1_000, |b| b.bidder % 1000));
}

#[test]
fn maxima() {
    check("q7max", &[500, 100_000], |bids| {
        let mut max: BTreeMap<i64, i64> = BTreeMap::new();
        for bid in bids {
            let max = max.entry(bid.time / 10_000 * 10_000).or_default();
            *max = bid.price.max(*max);
        }
        max.iter().map(|(start, max)| [*max as u64, *start as u64, *start as u64 + 10_000]).collect()
    });
}

#[test]
fn sessions() {
    check("q11", &[300, 1_000, 50_000], |bids| {
        let mut times: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        bids.iter().for_each(|b| times.entry(b.bidder).or_default().push(b.time));
        let mut rows = Vec::new();
        for (bidder, times) in times {
            for session in times.chunk_by(|a, b| b - a <= 10_000) {
                let (start, last) = (session[0], session[session.len() - 1]);
                rows.push([bidder as u64, session.len() as u64, start as u64, last as u64 + 10_000]);
            }
        }
        rows
    });
}

#[test]
fn counts_by_the_wall_clock_add_up() {
    let bench = crate::queries::BENCHES.iter().find(|b| b.name == "q12").unwrap();
    let (batches, bids) = bids(30_000, 100_000);
    let mut out = Out::new(false);
    (bench.loop_fn)(&mut batches.iter().cloned(), &mut out);
    let bidders: BTreeSet<i64> = bids.iter().map(|b| b.bidder).collect();
    assert!(out.rows as usize >= bidders.len());
}

const DAY: i64 = 86_400_000;

fn day(bid: &Bid) -> i64 {
    bid.time / DAY * DAY
}

fn in_rank(rank: usize, price: i64) -> bool {
    [true, price < 10_000, (10_000..1_000_000).contains(&price), price >= 1_000_000][rank]
}

/// Bids, distinct bidders and distinct auctions, each over all and by rank.
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
fn statistics_of_days() {
    // 32,000 events at one in ten seconds are four days.
    let rates = [1, 100_000];
    check("q15", &rates, |bids| {
        let rows = grouped(bids, day).into_iter().map(|(day, bids)| {
            let counts = counts(&bids);
            std::array::from_fn::<u64, 14, _>(|i| match i {
                0 => day as u64,
                1 => (day + DAY) as u64,
                i => counts[i - 2],
            })
        });
        rows.collect()
    });
    check("q16", &rates, |bids| {
        let rows = grouped(bids, |b| (day(b), b.channel.clone())).into_iter().map(|((day, channel), bids)| {
            let counts = counts(&bids);
            let minutes = bids.iter().map(|b| millstream_core::time::format_millis(b.time)[11..16].to_string());
            let minute = minutes.max().unwrap();
            std::array::from_fn::<u64, 16, _>(|i| match i {
                0 => text_code(channel.as_bytes()),
                1 => day as u64,
                2 => (day + DAY) as u64,
                3 => text_code(minute.as_bytes()),
                i => counts[i - 4],
            })
        });
        rows.collect()
    });
    check("q17", &rates, |bids| {
        let rows = grouped(bids, |b| (day(b), b.auction)).into_iter().map(|((day, auction), bids)| {
            let prices = || bids.iter().map(|b| b.price);
            let rank = |r| prices().filter(|p| in_rank(r, *p)).count() as i64;
            let (sum, n) = (prices().sum::<i64>(), prices().count() as i64);
            let (min, max) = (prices().min().unwrap(), prices().max().unwrap());
            [auction, day, day + DAY, n, rank(1), rank(2), rank(3), min, max, sum / n, sum].map(|v| v as u64)
        });
        rows.collect()
    });
}

#[test]
fn sliding_frames() {
    // Within a few seconds of each other, with many peers; and over hours, with rows that leave.
    check("over30m", &[3, 100_000], |bids| {
        let mut rows = Vec::new();
        for (bidder, bids) in grouped(bids, |b| b.bidder) {
            for bid in &bids {
                let frame = || bids.iter().filter(|b| b.time <= bid.time && b.time >= bid.time - 1_800_000);
                let sum: i64 = frame().map(|b| b.price).sum();
                rows.push([bidder, bid.time, bid.price, frame().count() as i64, sum].map(|v| v as u64));
            }
        }
        rows
    });
}

#[test]
fn rows_by_themselves() {
    let rates = [3, 100_000];
    let row = |b: &Bid, price: i64| {
        [b.auction as u64, b.bidder as u64, price as u64, b.time as u64, text_code(b.extra.as_bytes())]
    };
    check("q0", &rates, |bids| bids.iter().map(|b| row(b, b.price)).collect());
    check("q1", &rates, |bids| bids.iter().map(|b| row(b, b.price * 908)).collect());
    check("q2", &rates, |bids| {
        bids.iter().filter(|b| b.auction % 123 == 0).map(|b| [b.auction as u64, b.price as u64]).collect()
    });
    check("q14", &rates, |bids| {
        let rows = bids.iter().filter(|b| (1_000_000.0..50_000_000.0).contains(&(b.price as f64 * 0.908))).map(|b| {
            let kind = match b.time % DAY / 3_600_000 {
                8..=18 => "dayTime",
                19 | 7 => "otherTime",
                _ => "nightTime",
            };
            let letters = b.extra.matches('c').count() as u64;
            let (auction, bidder, price, time) =
                (b.auction as u64, b.bidder as u64, b.price as u64 * 908, b.time as u64);
            [auction, bidder, price, text_code(kind.as_bytes()), time, text_code(b.extra.as_bytes()), letters]
        });
        rows.collect()
    });
    check("q21", &rates, |bids| {
        let id = |b: &Bid| match b.channel.to_lowercase().as_str() {
            "apple" => Some("0".to_string()),
            "google" => Some("1".to_string()),
            "facebook" => Some("2".to_string()),
            "baidu" => Some("3".to_string()),
            _ => b.url.split('&').find_map(|p| p.strip_prefix("channel_id=")).map(str::to_string),
        };
        let rows = bids.iter().filter_map(|b| {
            let (channel, id) = (text_code(b.channel.as_bytes()), text_code(id(b)?.as_bytes()));
            Some([b.auction as u64, b.bidder as u64, b.price as u64, channel, id])
        });
        rows.collect()
    });
    check("q22", &rates, |bids| {
        let rows = bids.iter().map(|b| {
            let parts: Vec<u64> = b.url.split('/').map(|p| text_code(p.as_bytes())).collect();
            let channel = text_code(b.channel.as_bytes());
            [b.auction as u64, b.bidder as u64, b.price as u64, channel, parts[3], parts[4], parts[5]]
        });
        rows.collect()
    });
}
