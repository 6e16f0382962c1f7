//! The hand-written loops: what one thread of this machine can do when there is no engine, only the question.
//!
//! Each reads the Arrow buffers of its batches as slices, keeps what it has to keep in tables made for it, and builds
//! the columns of every row that the query gives, at the time at which the watermark (the batch's last event time less
//! four seconds) allows it. Unlike an engine a loop may know its data: rows come in time order, keys are 64-bit
//! numbers, channels have at most 16 bytes, urls have seven parts.

//!
//! `joins`, `newest`, `rounds` and `totals` are over the one stream of all events (`events`), and their results are kept up to
//! date: after each batch they tell what has changed, a row that is replaced and the one in its place. They know no more than
//! the query does about keys and about which event comes first: an auction may come twice, and an hour behind its bids. Only
//! the windows (`rounds`) rest on the order of time, as all windows here.

pub mod days;
pub mod events;
pub mod joins;
pub mod kept;
pub mod map;
pub mod newest;
pub mod out;
pub mod over;
pub mod rounds;
#[cfg(test)]
mod stateful_tests;
pub mod stateless;
#[cfg(test)]
mod tests;
pub mod totals;
pub mod windows;

use crate::data::{Text, WATERMARK_DELAY_MS, numbers, text};
use arrow::array::RecordBatch;
use out::Out;
use std::collections::VecDeque;
use std::ops::Range;

/// A loop: takes in all batches, gives all rows.
pub type Loop = fn(&mut dyn Iterator<Item = RecordBatch>, &mut Out);

/// A batch of bids as slices. Columns that the batch was made without are empty.
pub struct BidBatch<'a> {
    pub auction: &'a [i64],
    pub bidder: &'a [i64],
    pub price: &'a [i64],
    pub time: &'a [i64],
    pub channel: Text<'a>,
    pub url: Text<'a>,
    pub extra: Text<'a>,
}

impl BidBatch<'_> {
    pub fn of(batch: &RecordBatch) -> BidBatch<'_> {
        BidBatch {
            auction: numbers(batch, "auction"),
            bidder: numbers(batch, "bidder"),
            price: numbers(batch, "price"),
            time: numbers(batch, "dateTime"),
            channel: text(batch, "channel"),
            url: text(batch, "url"),
            extra: text(batch, "extra"),
        }
    }
}

/// The watermark behind a batch; no watermark behind none.
fn watermark(time: &[i64]) -> i64 {
    time.last().map_or(i64::MIN, |t| t - WATERMARK_DELAY_MS)
}

/// True when the window that ends at `end` is complete.
fn closes(watermark: i64, end: i64) -> bool {
    watermark >= end - 1
}

/// Tumbling windows of `size` ms: cuts each batch by window, hands the cuts to `take` and complete windows to `emit`.
fn tumble<S: Default>(
    batches: &mut dyn Iterator<Item = RecordBatch>,
    size: i64,
    out: &mut Out,
    mut take: impl FnMut(&mut S, &BidBatch, Range<usize>),
    mut emit: impl FnMut(S, i64, &mut Out),
) {
    let mut open: VecDeque<(i64, S)> = VecDeque::new();
    for batch in batches {
        let b = BidBatch::of(&batch);
        let mut i = 0;
        while i < b.time.len() {
            let start = b.time[i] - b.time[i].rem_euclid(size);
            let to = i + b.time[i..].partition_point(|t| *t < start + size);
            if open.back().is_none_or(|w| w.0 < start) {
                open.push_back((start, S::default()));
            }
            if let Some(window) = open.iter_mut().rev().find(|w| w.0 == start) {
                take(&mut window.1, &b, i..to);
            }
            i = to;
        }
        let watermark = watermark(b.time);
        while let Some((start, state)) = open.pop_front_if(|w| closes(watermark, w.0 + size)) {
            emit(state, start, out);
        }
    }
    for (start, state) in open {
        emit(state, start, out);
    }
}
