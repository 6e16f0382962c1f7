//! q5, q8: windows over all events, and what is joined within each.

use super::closes;
use super::events::{AUCTION, At, BID, Events, PERSON, Told};
use super::kept::{Chain, Chains};
use super::map::Map;
use super::out::Out;
use super::windows::{Hopping, Moving};
use crate::data::WATERMARK_DELAY_MS;
use arrow::array::RecordBatch;
use millstream_core::ChangeKind;
use std::collections::VecDeque;

fn watermark(e: &Events) -> i64 {
    e.last_time().map_or(i64::MIN, |t| t - WATERMARK_DELAY_MS)
}

/// The auctions with the most bids in each ten seconds, every two seconds.
pub fn q5(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    const SLIDE: i64 = 2_000;
    let mut windows = Hopping::new(10_000, SLIDE);
    let mut told = Told::<2, 0>::new(&[At::Number(0), At::Number(1)]);
    let mut give = |window: &Moving, out: &mut Out| {
        let most = window.counts.iter().copied().max();
        for (auction, count) in window.keys.iter().zip(&window.counts) {
            if Some(*count) == most {
                told.push(ChangeKind::Insert, [*auction, *count], []);
            }
        }
        told.give(out);
    };
    for batch in batches {
        let e = Events::of(&batch);
        let mut from = 0;
        while from < e.kind.len() {
            // Rows of one pane lie together, whatever their kind.
            let time = e.time(from);
            let start = time - time.rem_euclid(SLIDE);
            let (mut low, mut high) = (from, e.kind.len());
            while low < high {
                let middle = low.midpoint(high);
                if e.time(middle) < start + SLIDE { low = middle + 1 } else { high = middle }
            }
            let pane = windows.pane(start);
            for (kind, auction) in e.kind[from..low].iter().zip(&e.bid.auction[from..low]) {
                if *kind == BID {
                    *pane.entry(*auction as u64).0 += 1;
                }
            }
            from = low;
        }
        windows.close_through(watermark(&e), |window, _| give(window, out));
    }
    windows.finish(|window, _| give(window, out));
}

/// Who has joined and opened an auction in the same ten seconds.
pub fn q8(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    const SIZE: i64 = 10_000;
    #[derive(Default)]
    struct Window {
        start: i64,
        by_id: Map<Chain>,
        /// Id and place of the name, each pair once.
        people: Chains<(i64, usize, usize)>,
        names: Vec<u8>,
        /// Who has sold.
        sellers: Map<u8>,
    }
    let mut open: VecDeque<Window> = VecDeque::new();
    let mut told = Told::<2, 1>::new(&[At::Number(0), At::Text(0), At::Number(1)]);
    let close = |mut window: Window, told: &mut Told<2, 1>| {
        for (id, from, to) in window.people.iter() {
            if window.sellers.get(*id as u64).is_some() {
                told.push(ChangeKind::Insert, [*id, window.start], [&window.names[*from..*to]]);
            }
        }
    };
    for batch in batches {
        let e = Events::of(&batch);
        for (i, kind) in e.kind.iter().enumerate() {
            if *kind == BID {
                continue;
            }
            let time = e.time(i);
            if open.back().is_none_or(|w| w.start + SIZE <= time) {
                open.push_back(Window { start: time - time.rem_euclid(SIZE), ..Window::default() });
            }
            let window = open.back_mut().expect("a window that has just been seen to be there");
            if *kind == PERSON {
                let (id, name) = (e.person.id[i], e.person.name.get(i));
                let chain = window.by_id.entry(id as u64).0;
                if window.people.walk(*chain).all(|(_, (_, from, to))| &window.names[*from..*to] != name) {
                    let from = window.names.len();
                    window.names.extend_from_slice(name);
                    window.people.push(chain, (id, from, window.names.len()));
                }
            } else if *kind == AUCTION {
                window.sellers.entry(e.auction.seller[i] as u64);
            }
        }
        let watermark = watermark(&e);
        while let Some(window) = open.pop_front_if(|w| closes(watermark, w.start + SIZE)) {
            close(window, &mut told);
        }
        told.give(out);
    }
    open.into_iter().for_each(|window| close(window, &mut told));
    told.give(out);
}
