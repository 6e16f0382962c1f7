//! Count and sum of each bidder's bids in the 30 minutes up to each bid.

use super::BidBatch;
use super::map::Map;
use super::out::Out;
use arrow::array::RecordBatch;
use std::collections::VecDeque;

const RANGE: i64 = 1_800_000;

#[derive(Clone, Copy, Default)]
struct Frame {
    count: i64,
    sum: i64,
}

/// Rows of the same millisecond are peers: each sees all of them, so a row is given only when a later one has come.
///
/// This loop rests on rows coming in time order: one queue over all bidders says what leaves a frame next.
pub fn over30m(batches: &mut dyn Iterator<Item = RecordBatch>, out: &mut Out) {
    let mut frames: Map<Frame> = Map::default();
    let mut held: VecDeque<(i64, u64, i64)> = VecDeque::new();
    // How many of the newest rows held have not been given yet: all of one millisecond.
    let mut waiting = 0;
    let mut columns: [Vec<i64>; 5] = Default::default();

    let give = |columns: &mut [Vec<i64>; 5], frames: &mut Map<Frame>, peers: &[(i64, u64, i64)]| {
        for (time, bidder, price) in peers {
            let frame = *frames.entry(*bidder).0;
            let row = [*bidder as i64, *time, *price, frame.count, frame.sum];
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
    };
    let mut peers: Vec<(i64, u64, i64)> = Vec::new();
    for batch in batches {
        let b = BidBatch::of(&batch);
        columns.iter_mut().for_each(Vec::clear);
        let mut i = 0;
        while i < b.time.len() {
            let time = b.time[i];
            if waiting > 0 && held.back().is_some_and(|r| r.0 < time) {
                peers.clear();
                peers.extend(held.range(held.len() - waiting..));
                give(&mut columns, &mut frames, &peers);
                waiting = 0;
            }
            while let Some((_, bidder, price)) = held.pop_front_if(|r| r.0 < time - RANGE) {
                let frame = frames.entry(bidder).0;
                frame.count -= 1;
                frame.sum -= price;
                if frame.count == 0 {
                    frames.remove(bidder);
                }
            }
            while i < b.time.len() && b.time[i] == time {
                if let Some(ahead) = b.bidder.get(i + 16) {
                    frames.prefetch(*ahead as u64);
                }
                let (bidder, price) = (b.bidder[i] as u64, b.price[i]);
                let frame = frames.entry(bidder).0;
                frame.count += 1;
                frame.sum += price;
                held.push_back((time, bidder, price));
                waiting += 1;
                i += 1;
            }
        }
        out.emit(&columns, columns[0].len(), |i| std::array::from_fn::<u64, 5, _>(|c| columns[c][i] as u64));
    }
    columns.iter_mut().for_each(Vec::clear);
    peers.clear();
    peers.extend(held.range(held.len() - waiting..));
    give(&mut columns, &mut frames, &peers);
    out.emit(&columns, columns[0].len(), |i| std::array::from_fn::<u64, 5, _>(|c| columns[c][i] as u64));
}
