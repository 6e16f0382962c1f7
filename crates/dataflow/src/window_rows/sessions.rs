//! Rows that wait for the end of their session.
//!
//! For each key: open sessions, each with places of its rows. A row joins every open session it touches, which makes
//! them one; at a distance of exactly the gap they still touch, as in Flink. A session that the row's mark has closed
//! takes no more rows, even when the watermark itself has not arrived yet: so cuts do not matter.
//!
//! A checkpoint has the rows, each under the number of its session ([`Tables`]): so those of a session go together
//! when it closes, and sessions come back as they were, also where a mark has closed one beside another. When two
//! sessions become one, its rows are saved again under a number of its own, which is rare.

use super::{Judge, Late};
use crate::operator::ROWS_MAX;
use crate::over::words::Words;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use millstream_core::{Batch, Error, Millis, Result, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use millstream_state::table::{Saver, TableDef};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

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
    tables: Tables,
    row_groups: Vec<u32>,
}

struct Session {
    start: Millis,
    /// The last row's time and the gap: the session's end, exclusive.
    end: Millis,
    rows: Vec<Waiting>,
    /// Numbers under which a checkpoint has rows of it.
    saved_as: Vec<i64>,
}

/// Where numbers of sessions come from. Operators that divide the keys of one task among them share it, since their rows
/// stand in one table. One thread at a time turns them, so that the numbers are the same in every run.
#[derive(Clone, Default)]
pub(crate) struct Numbers(Arc<AtomicI64>);

impl Numbers {
    fn next(&self) -> i64 {
        self.0.fetch_add(1, Relaxed)
    }

    /// These have been given already.
    fn are_taken(&self, numbers: &Int64Array) {
        if let Some(last) = numbers.values().iter().max() {
            self.0.fetch_max(last + 1, Relaxed);
        }
    }
}

fn numbers_of(column: &ArrayRef) -> Result<&Int64Array> {
    let numbers = column.as_primitive_opt::<Int64Type>();
    numbers.ok_or_else(|| Error::internal("the number of a session is a BIGINT"))
}

/// What a checkpoint has of the sessions, and what has changed since.
struct Tables {
    tracking: bool,
    waiting: TableDef,
    /// Rows that arrived before this have been saved.
    saved: u64,
    /// The next session saved gets a number from here.
    numbers: Numbers,
    /// Groups with rows that have not been saved, and whether a group is among them.
    touched: Vec<u32>,
    is_touched: Vec<bool>,
    /// Numbers of sessions that have closed.
    closed: Vec<i64>,
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
    pub(super) fn new(
        gap: Millis,
        keys: &[usize],
        order: Option<usize>,
        input: &SchemaRef,
        numbers: Numbers,
    ) -> Result<Sessions> {
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
            tables: Tables::new(keys, input, numbers),
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
            + self.tables.touched.capacity() * 4
            + self.tables.is_touched.capacity()
            + self.tables.closed.capacity() * 8
    }

    /// No session closes before this.
    pub(super) fn first_end(&self) -> Option<Millis> {
        self.timers.peek().map(|Reverse((end, _))| *end)
    }

    pub(super) fn table(&self) -> &TableDef {
        &self.tables.waiting
    }

    pub(super) fn track_changes(&mut self) {
        self.tables.tracking = true;
    }

    pub(super) fn save(&mut self, saver: &mut Saver) -> Result<()> {
        let Sessions { tables, open, store, arrivals, .. } = self;
        let closed = std::mem::take(&mut tables.closed);
        let mut groups = std::mem::take(&mut tables.touched);
        groups.iter().for_each(|group| tables.is_touched[*group as usize] = false);
        if saver.whole() {
            groups = (0..open.len() as u32).collect();
        } else {
            saver.drop_parts(&tables.waiting, vec![Arc::new(Int64Array::from(closed))])?;
        }
        let (mut rows, mut numbers, mut joined): (Vec<Waiting>, Vec<i64>, Vec<i64>) = Default::default();
        for group in groups {
            for session in &mut open[group as usize] {
                let mut unsaved = tables.saved;
                if saver.whole() {
                    unsaved = 0;
                }
                if (saver.whole() && !saver.moves()) || session.saved_as.len() > 1 {
                    // Anew: other tasks may have saved sessions under the same numbers, or they have become one.
                    joined.append(&mut session.saved_as);
                    unsaved = 0;
                }
                let before = rows.len();
                rows.extend(session.rows.iter().filter(|r| r.arrival >= unsaved));
                if rows.len() == before {
                    continue;
                }
                // Rows of a session come back in the order of the table, which is that of their arrival.
                rows[before..].sort_unstable_by_key(|r| r.arrival);
                if session.saved_as.is_empty() {
                    session.saved_as.push(tables.numbers.next());
                }
                numbers.resize(rows.len(), session.saved_as[0]);
            }
        }
        tables.saved = *arrivals;
        if !saver.whole() {
            saver.drop_parts(&tables.waiting, vec![Arc::new(Int64Array::from(joined))])?;
        }
        for (rows, numbers) in rows.chunks(ROWS_MAX).zip(numbers.chunks(ROWS_MAX)) {
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(numbers.to_vec()))];
            columns.extend(store.get(rows.iter())?.columns().iter().cloned());
            saver.put(&tables.waiting, columns)?;
        }
        Ok(())
    }

    /// Sessions with these numbers are saved already.
    pub(super) fn take_names(&self, numbers: &ArrayRef) -> Result<()> {
        self.tables.numbers.are_taken(numbers_of(numbers)?);
        Ok(())
    }

    /// Takes in saved rows without the number of their session, of which `times` and `locals` are the times.
    pub(super) fn load(
        &mut self,
        numbers: &ArrayRef,
        rows: &RecordBatch,
        times: &[Millis],
        locals: &[Millis],
    ) -> Result<()> {
        let numbers = numbers_of(numbers)?;
        self.tables.numbers.are_taken(numbers);
        let (batch, row_groups, ties) = self.put(rows)?;
        for (i, &group) in row_groups.iter().enumerate() {
            let tie = ties.as_ref().map_or(0, |t| t[i]);
            let row = Waiting { time: times[i], tie, arrival: self.arrivals, batch, row: i as u32 };
            self.arrivals += 1;
            self.store.hold(batch);
            let (number, at, end) = (numbers.value(i), locals[i], locals[i].saturating_add(self.gap));
            let sessions = &mut self.open[group as usize];
            let risen = match sessions.iter_mut().find(|s| s.saved_as == [number]) {
                Some(session) => {
                    session.rows.push(row);
                    session.start = session.start.min(at);
                    let risen = end > session.end;
                    session.end = session.end.max(end);
                    risen
                }
                None => {
                    sessions.push(Session { start: at, end, rows: vec![row], saved_as: vec![number] });
                    true
                }
            };
            if risen {
                self.timers.push(Reverse((end, group)));
            }
        }
        self.row_groups = row_groups;
        self.tables.saved = self.arrivals;
        Ok(())
    }

    /// Keeps a batch: its slot, the group of each row, and the ties.
    fn put(&mut self, rows: &RecordBatch) -> Result<(u32, Vec<u32>, Option<ScalarBuffer<i64>>)> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| rows.column(*k).clone()).collect();
        let ties = self.order.map(|o| Words::of(rows.column(o))).transpose()?;
        let mut row_groups = std::mem::take(&mut self.row_groups);
        self.groups.assign(&self.codec.encode(&keys, rows.num_rows())?, 0..rows.num_rows(), &mut row_groups);
        self.open.resize_with(self.groups.len().max(self.open.len()), Vec::new);
        Ok((self.store.put(rows), row_groups, ties))
    }

    pub(super) fn take_in(
        &mut self,
        rows: &RecordBatch,
        times: &[Millis],
        locals: &[Millis],
        judge: &mut Judge,
        late: &mut Late,
    ) -> Result<()> {
        let (batch, row_groups, ties) = self.put(rows)?;
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
        if self.tables.tracking {
            self.tables.touch(&row_groups, self.open.len());
        }
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
            sessions.push(Session { start: at, end, rows: vec![row], saved_as: Vec::new() });
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
            joined.saved_as.extend(other.saved_as);
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
            if self.tables.tracking {
                self.tables.closed.extend(done.iter().flat_map(|s: &Session| &s.saved_as));
            }
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

impl Tables {
    fn new(keys: &[usize], input: &SchemaRef, numbers: Numbers) -> Tables {
        let number = Field::new("session", DataType::Int64, true);
        let fields = std::iter::once(number).chain(input.fields().iter().map(|f| f.as_ref().clone())).collect();
        Tables {
            tracking: false,
            waiting: TableDef::new("waiting", fields, 0).part(1).group_by(keys.iter().map(|k| k + 1)),
            saved: 0,
            numbers,
            touched: Vec::new(),
            is_touched: Vec::new(),
            closed: Vec::new(),
        }
    }

    fn touch(&mut self, groups: &[u32], slots: usize) {
        self.is_touched.resize(slots.max(self.is_touched.len()), false);
        for &group in groups {
            if !std::mem::replace(&mut self.is_touched[group as usize], true) {
                self.touched.push(group);
            }
        }
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
