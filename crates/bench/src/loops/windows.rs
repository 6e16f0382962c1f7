//! q5 (its counts), q7 (its maxima), q11, q12 and the hopping window of 30 minutes by one second.

use super::map::Map;
use super::out::Out;
use super::{BidBatch, closes, tumble, watermark};
use crate::data::WATERMARK_DELAY_MS;
use arrow::array::RecordBatch;
use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bids of each auction in the last 10 s, every 2 s.
pub fn q5count(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    hop(batches, out, 10_000, 2_000, |b| b.auction, |key| key);
}

/// Bids of each bidder in the last 30 min, every second.
pub fn hop30m(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    hop(batches, out, 1_800_000, 1_000, |b| b.bidder, |key| key);
}

/// The same for 1,000 groups of bidders.
pub fn hop30m_1k(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    hop(batches, out, 1_800_000, 1_000, |b| b.bidder, |key| key % 1000);
}

/// Counts of a window that moves on: keys and counts lie side by side, ready to be given away as columns.
#[derive(Default)]
pub(super) struct Moving {
    places: Map<u32>,
    pub keys: Vec<i64>,
    pub counts: Vec<i64>,
}

impl Moving {
    fn add(&mut self, pane: &[(u64, u32)]) {
        for (i, (key, count)) in pane.iter().enumerate() {
            if let Some(ahead) = pane.get(i + 16) {
                self.places.prefetch(ahead.0);
            }
            let (place, new) = self.places.entry(*key);
            if new {
                *place = self.keys.len() as u32;
                self.keys.push(*key as i64);
                self.counts.push(0);
            }
            self.counts[*place as usize] += i64::from(*count);
        }
    }

    fn take_away(&mut self, pane: &[(u64, u32)]) {
        for (i, (key, count)) in pane.iter().enumerate() {
            if let Some(ahead) = pane.get(i + 16) {
                self.places.prefetch(ahead.0);
            }
            let place = *self.places.entry(*key).0 as usize;
            self.counts[place] -= i64::from(*count);
            if self.counts[place] == 0 {
                self.counts.swap_remove(place);
                self.keys.swap_remove(place);
                self.places.remove(*key);
                if let Some(moved) = self.keys.get(place) {
                    *self.places.entry(*moved as u64).0 = place as u32;
                }
            }
        }
    }
}

/// Each row is counted in one pane of `slide` ms; a window adds the pane that it gains to the window before and takes
/// away the one that it loses.
pub(super) struct Hopping {
    size: i64,
    slide: i64,
    /// Panes that still take rows, by their start.
    open: VecDeque<(i64, Map<u32>)>,
    /// Panes that are in the window, oldest first.
    held: VecDeque<(i64, Vec<(u64, u32)>)>,
    window: Moving,
    spare: Vec<Map<u32>>,
    next_end: Option<i64>,
}

impl Hopping {
    pub fn new(size: i64, slide: i64) -> Hopping {
        let (open, held, spare) = Default::default();
        Hopping { size, slide, open, held, window: Moving::default(), spare, next_end: None }
    }

    /// The pane that starts at `start`, where rows of that time are counted.
    #[inline(always)]
    pub fn pane(&mut self, start: i64) -> &mut Map<u32> {
        self.next_end.get_or_insert(start + self.slide);
        if self.open.back().is_none_or(|p| p.0 < start) {
            self.open.push_back((start, self.spare.pop().unwrap_or_else(|| Map::with_bits(11))));
        }
        let pane = self.open.iter_mut().rev().find(|p| p.0 == start);
        &mut pane.expect("rows come in order of time, so their pane is among those that are open").1
    }

    /// Hands `give` the windows that are complete at this watermark, each with its end.
    pub fn close_through(&mut self, watermark: i64, mut give: impl FnMut(&Moving, i64)) {
        while let Some(end) = self.next_end.filter(|end| closes(watermark, *end)) {
            self.move_to(end);
            give(&self.window, end);
            self.next_end = Some(end + self.slide);
        }
    }

    /// The end of the input completes every window that still holds a row.
    pub fn finish(mut self, mut give: impl FnMut(&Moving, i64)) {
        while let Some(end) = self.next_end {
            self.move_to(end);
            give(&self.window, end);
            let more = !self.window.keys.is_empty() || !self.open.is_empty();
            self.next_end = more.then_some(end + self.slide);
        }
    }

    fn move_to(&mut self, end: i64) {
        if let Some((start, mut pane)) = self.open.pop_front_if(|p| p.0 == end - self.slide) {
            let counted: Vec<(u64, u32)> = pane.iter().copied().collect();
            pane.clear();
            self.spare.push(pane);
            self.window.add(&counted);
            self.held.push_back((start, counted));
        }
        while let Some((_, lost)) = self.held.pop_front_if(|p| p.0 < end - self.size) {
            self.window.take_away(&lost);
        }
    }
}

#[inline(always)]
fn hop(
    batches: &mut dyn Iterator<Item = RecordBatch>,
    out: &mut Out,
    size: i64,
    slide: i64,
    column: impl for<'a> Fn(&BidBatch<'a>) -> &'a [i64],
    group: impl Fn(u64) -> u64,
) {
    let mut windows = Hopping::new(size, slide);
    let (mut starts, mut ends): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
    let mut keys: Vec<i64> = Vec::new();
    let mut counts: Vec<i64> = Vec::new();
    let mut give = |window: &Moving, end: i64, out: &mut Out| {
        let rows = window.keys.len();
        for (column, value) in [(&mut starts, end - size), (&mut ends, end)] {
            column.clear();
            column.resize(rows, value);
        }
        // Copied, as rows that are given away must be: the window goes on counting.
        keys.clone_from(&window.keys);
        counts.clone_from(&window.counts);
        out.emit(&(&keys, &counts, &starts, &ends), rows, |i| {
            [keys[i] as u64, counts[i] as u64, starts[i] as u64, ends[i] as u64]
        });
    };
    for batch in batches {
        let b = BidBatch::of(&batch);
        let mut i = 0;
        while i < b.time.len() {
            let start = b.time[i] - b.time[i].rem_euclid(slide);
            let to = i + b.time[i..].partition_point(|t| *t < start + slide);
            let pane = windows.pane(start);
            for key in &column(&b)[i..to] {
                *pane.entry(group(*key as u64)).0 += 1;
            }
            i = to;
        }
        windows.close_through(watermark(b.time), |window, end| give(window, end, out));
    }
    windows.finish(|window, end| give(window, end, out));
}

/// The highest price of each 10 s.
pub fn q7max(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    tumble(
        batches,
        10_000,
        out,
        |max: &mut i64, b, rows| {
            // Eight maxima side by side do not wait for each other.
            let (eights, rest) = b.price[rows].as_chunks::<8>();
            let mut lanes = [*max; 8];
            for eight in eights {
                lanes.iter_mut().zip(eight).for_each(|(lane, price)| *lane = (*lane).max(*price));
            }
            *max = lanes.iter().chain(rest).fold(*max, |m, p| m.max(*p));
        },
        |max, start, out| {
            let row = [max as u64, start as u64, (start + 10_000) as u64];
            out.emit(&row, 1, |_| row);
        },
    );
}

const GAP: i64 = 10_000;

#[derive(Clone, Copy, Default)]
struct Session {
    start: i64,
    last: i64,
    count: i64,
}

/// Bids of each bidder in a session that 10 s of silence end.
pub fn q11(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut sessions: Map<Session> = Map::default();
    // A wheel of slots of 100 ms: a bidder stands in the slot in which its session would end as last looked at. As
    // many as the gap, the delay and a batch last together, with room.
    let mut wheel: Vec<Vec<u64>> = vec![Vec::new(); 4096];
    let slots = wheel.len() as i64;
    let slot = |at: i64| (at / 100).rem_euclid(slots) as usize;
    let mut looked_at = None;
    let mut ended: Vec<(u64, Session)> = Vec::new();
    let mut columns: [Vec<i64>; 4] = Default::default();
    let mut give = |ended: &mut Vec<(u64, Session)>, out: &mut Out| {
        let rows = ended.len();
        columns.iter_mut().for_each(Vec::clear);
        columns[0].extend(ended.iter().map(|s| s.0 as i64));
        columns[1].extend(ended.iter().map(|s| s.1.count));
        columns[2].extend(ended.iter().map(|s| s.1.start));
        columns[3].extend(ended.iter().map(|s| s.1.last + GAP));
        out.emit(&columns, rows, |i| [0, 1, 2, 3].map(|c: usize| columns[c][i] as u64));
        ended.clear();
    };
    for batch in batches {
        let b = BidBatch::of(&batch);
        for (time, bidder) in b.time.iter().zip(b.bidder) {
            let (session, new) = sessions.entry(*bidder as u64);
            // A row that comes just as the gap ends still belongs to the session.
            if !new && *time - session.last <= GAP {
                session.last = session.last.max(*time);
                session.count += 1;
            } else {
                if new {
                    wheel[slot(*time + GAP)].push(*bidder as u64);
                } else {
                    ended.push((*bidder as u64, *session));
                }
                *session = Session { start: *time, last: *time, count: 1 };
            }
        }
        let Some(last) = b.time.last() else { continue };
        // A session [start, end) is complete when the watermark is at `end - 1`: slots below `upto` are all complete.
        let upto = (last - WATERMARK_DELAY_MS + 1) / 100;
        let from = *looked_at.get_or_insert(upto.min(b.time[0] / 100));
        for at in from..upto {
            let mut due = std::mem::take(&mut wheel[at.rem_euclid(slots) as usize]);
            for bidder in due.drain(..) {
                let Some(session) = sessions.get(bidder) else { continue };
                let end = session.last + GAP;
                if end / 100 <= at {
                    ended.push((bidder, *session));
                    sessions.remove(bidder);
                } else {
                    wheel[slot(end)].push(bidder);
                }
            }
            wheel[at.rem_euclid(slots) as usize] = due;
        }
        looked_at = Some(upto.max(from));
        give(&mut ended, out);
    }
    ended.extend(sessions.iter().copied());
    give(&mut ended, out);
}

/// Bids of each bidder in 10 s of the wall clock, read once for each batch.
pub fn q12(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut counts: Map<u32> = Map::default();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let mut window = None;
    let give = |counts: &Map<u32>, start: i64, out: &mut Out| {
        let keys: Vec<i64> = counts.iter().map(|e| e.0 as i64).collect();
        let values: Vec<i64> = counts.iter().map(|e| i64::from(e.1)).collect();
        let (starts, ends) = (vec![start; keys.len()], vec![start + 10_000; keys.len()]);
        out.emit(&(&keys, &values, &starts, &ends), keys.len(), |i| {
            [keys[i] as u64, values[i] as u64, starts[i] as u64, ends[i] as u64]
        });
    };
    for batch in batches {
        let start = now() / 10_000 * 10_000;
        if let Some(open) = window.replace(start)
            && open != start
        {
            give(&counts, open, out);
            counts = Map::default();
        }
        for bidder in BidBatch::of(&batch).bidder {
            *counts.entry(*bidder as u64).0 += 1;
        }
    }
    give(&counts, window.unwrap_or(0), out);
}
