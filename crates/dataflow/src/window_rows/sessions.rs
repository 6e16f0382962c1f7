//! Rows that wait for the end of their session.
//!
//! For each key: open sessions, each with places of its rows. A row joins every open session it touches, which makes
//! them one; at a distance of exactly the gap they still touch, as in Flink. A session that the row's mark has closed
//! takes no more rows, even when the watermark itself has not arrived yet: so cuts do not matter.

use super::{Judge, Late};
use crate::operator::ROWS_MAX;
use crate::over::words::Words;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Millis, Result, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub(super) struct Sessions {
    gap: Millis,
    keys: Vec<usize>,
    order: Option<usize>,
    codec: KeyCodec,
    groups: KeyTable,
    /// By group, in no order: few at a time.
    open: Vec<Vec<Session>>,
    /// When to look at a group. A session that has grown since is looked at again later.
    timers: BinaryHeap<Reverse<(Millis, u32)>>,
    store: Store,
    arrivals: u64,
    row_groups: Vec<u32>,
}

struct Session {
    start: Millis,
    /// The last row's time and the gap: the session's end, exclusive.
    end: Millis,
    rows: Vec<Waiting>,
}

/// Ordered as rows of a session come out: by time, tie, arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    time: Millis,
    tie: i64,
    arrival: u64,
    batch: u32,
    row: u32,
}

impl Sessions {
    pub(super) fn new(gap: Millis, keys: &[usize], order: Option<usize>, input: &SchemaRef) -> Result<Sessions> {
        let types: Vec<_> = keys.iter().map(|k| input.field(*k).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        Ok(Sessions {
            gap,
            keys: keys.to_vec(),
            order,
            groups: codec.table(),
            codec,
            open: Vec::new(),
            timers: BinaryHeap::new(),
            store: Store::default(),
            arrivals: 0,
            row_groups: Vec::new(),
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let sessions = self.open.capacity() * size_of::<Vec<Session>>() + self.timers.len() * size_of::<Session>();
        self.store.bytes
            + self.store.waiting * size_of::<Waiting>()
            + sessions
            + self.timers.len() * 16
            + self.groups.bytes()
    }

    pub(super) fn take_in(
        &mut self,
        rows: &RecordBatch,
        times: &[Millis],
        locals: &[Millis],
        judge: &mut Judge,
        late: &mut Late,
    ) -> Result<()> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| rows.column(*k).clone()).collect();
        let ties = self.order.map(|o| Words::of(rows.column(o))).transpose()?;
        let mut row_groups = std::mem::take(&mut self.row_groups);
        self.groups.assign(&self.codec.encode(&keys, times.len())?, 0..times.len(), &mut row_groups);
        self.open.resize_with(self.groups.len().max(self.open.len()), Vec::new);
        let batch = self.store.put(rows);
        let mut empty = Vec::new();
        // Row by row, because where a row belongs depends on the rows before it.
        for (i, &group) in row_groups.iter().enumerate() {
            let tie = ties.as_ref().map_or(0, |t| t[i]);
            let waiting = Waiting { time: times[i], tie, arrival: self.arrivals, batch, row: i as u32 };
            self.arrivals += 1;
            if self.place(group, locals[i], judge.local(i), waiting) {
                self.store.hold(batch);
            } else {
                late.push(i, times[i], judge.mark(i));
                empty.push(group);
            }
        }
        // Keys of which only late rows came. Not sooner: later rows of the batch knew them by the same numbers.
        empty.sort_unstable();
        empty.dedup();
        empty.retain(|g| self.open[*g as usize].is_empty());
        empty.into_iter().for_each(|group| self.release(group));
        self.row_groups = row_groups;
        self.store.drop_if_empty(batch);
        if self.store.wasteful() {
            self.compact()?;
        }
        Ok(())
    }

    fn release(&mut self, group: u32) {
        // Without keys there is one group, which need not be found again.
        if !self.keys.is_empty() {
            self.groups.release(group);
        }
    }

    /// Puts a row into the session it belongs to. False: it is late.
    fn place(&mut self, group: u32, at: Millis, closed: Watermark, row: Waiting) -> bool {
        let sessions = &mut self.open[group as usize];
        let end = at.saturating_add(self.gap);
        let touches = |s: &Session| s.start <= end && at <= s.end && !closed.closes(s.end);
        let Some(first) = sessions.iter().position(touches) else {
            if closed.closes(end) {
                return false;
            }
            sessions.push(Session { start: at, end, rows: vec![row] });
            self.timers.push(Reverse((end, group)));
            return true;
        };
        sessions[first].rows.push(row);
        sessions[first].start = sessions[first].start.min(at);
        let before = sessions[first].end;
        sessions[first].end = before.max(end);
        // The row may close the gap between two sessions.
        while let Some(other) = (first + 1..sessions.len()).find(|o| touches(&sessions[*o])) {
            let other = sessions.swap_remove(other);
            let joined = &mut sessions[first];
            joined.start = joined.start.min(other.start);
            joined.end = joined.end.max(other.end);
            joined.rows.extend(other.rows);
        }
        if sessions[first].end > before {
            self.timers.push(Reverse((sessions[first].end, group)));
        }
        true
    }

    /// Hands over the rows of closed sessions by (end, start, time, tie), in pieces, with their windows.
    pub(super) fn close_through(
        &mut self,
        to: Watermark,
        mut hand: impl FnMut(&RecordBatch, &[Millis], &[Millis]) -> Result<()>,
    ) -> Result<()> {
        let mut closed: Vec<Session> = Vec::new();
        while let Some(Reverse((end, group))) = self.timers.peek().copied() {
            if !to.closes(end) {
                break;
            }
            self.timers.pop();
            let sessions = &mut self.open[group as usize];
            if sessions.is_empty() {
                // An earlier timer has closed what this one was for.
                continue;
            }
            let (done, left) = std::mem::take(sessions).into_iter().partition(|s| to.closes(s.end));
            *sessions = left;
            closed.extend::<Vec<Session>>(done);
            if sessions.is_empty() {
                self.release(group);
            }
        }
        let mut rows: Vec<(Millis, Millis, Waiting)> =
            closed.into_iter().flat_map(|s| s.rows.into_iter().map(move |r| (s.end, s.start, r))).collect();
        rows.sort_unstable();
        for piece in rows.chunks(ROWS_MAX) {
            let starts: Vec<Millis> = piece.iter().map(|r| r.1).collect();
            let ends: Vec<Millis> = piece.iter().map(|r| r.0).collect();
            hand(&self.store.get(piece.iter().map(|r| &r.2))?, &starts, &ends)?;
        }
        rows.iter().for_each(|r| self.store.release(r.2.batch));
        if self.store.wasteful() { self.compact() } else { Ok(()) }
    }

    /// Copies the rows that wait out of batches that mostly do not.
    fn compact(&mut self) -> Result<()> {
        let mut fresh = Store::default();
        let mut waiting: Vec<&mut Waiting> = self.open.iter_mut().flatten().flat_map(|s| s.rows.iter_mut()).collect();
        waiting.sort_unstable_by_key(|w| (w.batch, w.row));
        for piece in waiting.chunks_mut(ROWS_MAX) {
            let rows = self.store.get(piece.iter().map(|w| &**w))?;
            let batch = fresh.put(&rows);
            for (i, w) in piece.iter_mut().enumerate() {
                (w.batch, w.row) = (batch, i as u32);
                fresh.hold(batch);
            }
        }
        self.store = fresh;
        Ok(())
    }
}

/// Batches, each with the number of its rows that wait.
#[derive(Default)]
struct Store {
    batches: Vec<Option<(RecordBatch, usize)>>,
    free: Vec<u32>,
    waiting: usize,
    rows: usize,
    bytes: usize,
}

impl Store {
    fn put(&mut self, rows: &RecordBatch) -> u32 {
        self.rows += rows.num_rows();
        self.bytes += Batch::from(rows.clone()).bytes();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.batches.push(None);
            self.batches.len() as u32 - 1
        });
        self.batches[slot as usize] = Some((rows.clone(), 0));
        slot
    }

    fn hold(&mut self, slot: u32) {
        if let Some((_, waiting)) = &mut self.batches[slot as usize] {
            *waiting += 1;
            self.waiting += 1;
        }
    }

    fn release(&mut self, slot: u32) {
        if let Some((_, waiting)) = &mut self.batches[slot as usize] {
            *waiting -= 1;
            self.waiting -= 1;
        }
        self.drop_if_empty(slot);
    }

    fn drop_if_empty(&mut self, slot: u32) {
        if let Some((rows, 0)) = &self.batches[slot as usize] {
            self.rows -= rows.num_rows();
            self.bytes -= Batch::from(rows.clone()).bytes();
            self.batches[slot as usize] = None;
            self.free.push(slot);
        }
    }

    /// More than three of four rows held wait no longer.
    fn wasteful(&self) -> bool {
        self.rows > 8 * ROWS_MAX && self.waiting * 4 < self.rows
    }

    fn get<'a>(&self, waiting: impl Iterator<Item = &'a Waiting> + Clone) -> Result<RecordBatch> {
        let mut slots: Vec<u32> = waiting.clone().map(|w| w.batch).collect();
        slots.sort_unstable();
        slots.dedup();
        let batches: Vec<&RecordBatch> =
            slots.iter().filter_map(|s| self.batches[*s as usize].as_ref()).map(|(rows, _)| rows).collect();
        let indices: Vec<(usize, usize)> =
            waiting.map(|w| (slots.binary_search(&w.batch).unwrap_or_default(), w.row as usize)).collect();
        Ok(interleave_record_batch(&batches, &indices)?)
    }
}
