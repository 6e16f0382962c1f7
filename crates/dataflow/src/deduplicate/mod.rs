//! One row for each key, by a time attribute: `ROW_NUMBER() OVER (PARTITION BY keys ORDER BY time) = 1`.
//!
//! ```text
//!  keep first   rows ──▶ the earliest of each key waits ──▶ told when the watermark reaches it ──▶ the key is remembered
//!  keep last    rows ──▶ later than the one kept? ──▶ told at once, +I and then -U/+U
//! ```
//!
//! Which row is the first: by time, then by the tie column, then by all other columns; so it is a function of the rows.
//! By processing time it is the order of arrival: then the first row of a key is told at once.
//!
//! Keep first never revises what it has told. A key counts as told once the mark of a row has reached the time of the one
//! that waits, even where the watermark itself has not come yet, so batches do not matter. Rows of a key that is told are
//! what this operator is there to drop. A row behind its mark of a key that is *not* told is late, as in Flink: it would
//! have been the first, and is set aside.
//!
//! With a time to live, a key is forgotten when the watermark has passed the time of the row that was kept by as much.
//! Rows that change nothing do not make it live longer. A row that waits is told before its key is forgotten.

mod saved;

use self::saved::Tables;
use crate::by_group;
use crate::graph::{self, Keep};
use crate::kept::Kept;
use crate::operator::{Event, LateRows, Operator, Output, ROWS_MAX, Watermarks};
use crate::over::words::Words;
use crate::row_bytes::{Changes, Encoded, RowBytes, ascending};
use crate::rows::{conform, time_column};
use crate::shelves;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, ChangeKind, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use millstream_state::table::{Saver, TableDef};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// Rows that are kept are looked up so many at a time, before any of them is told: the memory is then asked for all of them
/// at once, and not for one when the one before has been copied.
const LOOKED_UP_AT_ONCE: usize = 64;

/// Timers are gathered anew when there are this many more than twice the keys.
const TIMERS_SPARE: usize = 1_024;

/// The operator of `spec`, which goes to disk by shelves. `input`, `output`: see [`Deduplicate::new`].
pub fn build(spec: &graph::Deduplicate, input: &SchemaRef, output: SchemaRef) -> Result<Box<dyn Operator>> {
    let (spec, of, keys) = (spec.clone(), input.clone(), spec.keys.clone());
    let make: shelves::Make = Box::new(move || Ok(Box::new(Deduplicate::new(&spec, &of, output.clone())?)));
    shelves::wrap(make, std::slice::from_ref(input), &[&keys])
}

/// The operator of [`graph::Deduplicate`].
pub struct Deduplicate {
    spec: graph::Deduplicate,
    input: SchemaRef,
    output: SchemaRef,
    watermarks: Watermarks,
    rows: RowBytes,
    memory: Memory,
    changes: Changes,
    tables: Tables,
}

/// What is remembered of each key.
struct Memory {
    codec: KeyCodec,
    ids: KeyTable,
    /// By id, as all that follows.
    states: Vec<State>,
    /// The row that waits, or the last one.
    kept: Kept,
    /// Its time.
    times: Vec<Millis>,
    /// How long a key is remembered, and by id the event time of the row kept. Empty without.
    keep: Option<Millis>,
    touched: Vec<Millis>,
    /// When to look at a key. A timer that says another time than its key has no meaning any more.
    timers: BinaryHeap<Reverse<(Millis, u32)>>,
    /// The id of each row of the batch at hand.
    groups: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    /// Its first row so far waits for the watermark.
    Waiting,
    /// Its first row has been told.
    Told,
    /// Its last row so far is kept.
    Kept,
}

/// The times of a batch.
struct Times {
    /// What rows are ordered by.
    order: ScalarBuffer<i64>,
    /// What keys live by.
    live: Option<ScalarBuffer<i64>>,
}

impl Deduplicate {
    /// `input`: columns of the rows; `output`: the same.
    pub fn new(spec: &graph::Deduplicate, input: &SchemaRef, output: SchemaRef) -> Result<Deduplicate> {
        time_column(input.field(spec.time).data_type(), input.field(spec.time).name())?;
        let types: Vec<_> = spec.keys.iter().map(|k| input.field(*k).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let spec = spec.clone();
        if let Some(ttl) = &spec.ttl {
            let column = *ttl.times.first().ok_or_else(|| Error::internal("a time to live without a time column"))?;
            time_column(input.field(column).data_type(), input.field(column).name())?;
        }
        let order: Vec<_> = [ascending(spec.time)].into_iter().chain(spec.order.map(ascending)).collect();
        let rows = RowBytes::new(input, &order)?;
        Ok(Deduplicate {
            memory: Memory {
                ids: codec.table(),
                codec,
                states: Vec::new(),
                kept: Kept::default(),
                times: Vec::new(),
                keep: spec.ttl.as_ref().map(|ttl| ttl.keep),
                touched: Vec::new(),
                timers: BinaryHeap::new(),
                groups: Vec::new(),
            },
            changes: Changes::new(&rows, output.clone(), false),
            rows,
            tables: Tables::new(&spec, input),
            watermarks: Watermarks::NONE,
            input: input.clone(),
            output,
            spec,
        })
    }

    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let removal = |k: &i8| matches!(ChangeKind::from_code(*k), ChangeKind::UpdateBefore | ChangeKind::Delete);
        if batch.kinds.as_ref().is_some_and(|k| k.values().iter().any(removal)) {
            return Err(Error::internal("rows are taken back where the plan says that they are only inserted"));
        }
        let times = Times {
            order: self.times(&batch.rows, self.spec.time)?,
            live: self.spec.ttl.as_ref().map(|ttl| self.times(&batch.rows, ttl.times[0])).transpose()?,
        };
        self.assign(&batch.rows)?;
        let groups = std::mem::take(&mut self.memory.groups);
        match (self.spec.keep, self.spec.domain) {
            (Keep::First, TimeDomain::Event) => self.wait(&batch, &groups, &times, out)?,
            (Keep::First, TimeDomain::Processing) => self.tell_new(&batch, &groups, &times, out)?,
            (Keep::Last, _) => self.replace(&batch, &groups, &times, out)?,
        }
        self.memory.groups = groups;
        self.changes.flush(&self.rows, out)
    }

    fn times(&self, rows: &RecordBatch, column: usize) -> Result<ScalarBuffer<i64>> {
        if rows.column(column).null_count() > 0 {
            let name = self.input.field(column).name();
            return Err(Error::data(format!("the time attribute `{name}` is NULL"))
                .remedy("filter such rows before: WHERE the column IS NOT NULL"));
        }
        Words::of(rows.column(column))
    }

    /// Finds the id of each row's key.
    fn assign(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|k| rows.column(*k).clone()).collect();
        self.assign_keys(&keys, rows.num_rows())
    }

    fn assign_keys(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        let memory = &mut self.memory;
        memory.ids.assign(&memory.codec.encode(keys, rows)?, 0..rows, &mut memory.groups);
        let len = memory.ids.len();
        if memory.states.len() < len {
            memory.states.resize(len, State::Unknown);
            memory.times.resize(len, Millis::MIN);
            if memory.keep.is_some() {
                memory.touched.resize(len, Millis::MIN);
            }
        }
        self.tables.resize(len);
        Ok(())
    }

    /// Keep first, by arrival: the first row of a key goes on as it came.
    fn tell_new(&mut self, batch: &Batch, groups: &[u32], times: &Times, out: &mut dyn Output) -> Result<()> {
        let mut told: Vec<u32> = Vec::new();
        // Row by row, because a row of the batch makes those of its key behind it drop.
        for (row, &id) in groups.iter().enumerate() {
            let mark = batch.mark(row, self.watermarks.event);
            if self.memory.states[id as usize] == State::Told && !self.memory.is_forgotten(id, mark) {
                continue;
            }
            self.memory.states[id as usize] = State::Told;
            self.touch(id, row, times);
            told.push(row as u32);
        }
        if told.is_empty() {
            return Ok(());
        }
        let told = batch.take(&UInt32Array::from(told))?;
        let rows = conform(&self.output, told.rows.columns().to_vec(), told.len())?;
        let told = Batch { rows, marks: told.marks, kinds: None };
        for from in (0..told.len()).step_by(ROWS_MAX) {
            out.emit(0, told.slice(from, ROWS_MAX.min(told.len() - from)))?;
        }
        Ok(())
    }

    /// Keep first, by event time: the earliest row of a key waits.
    fn wait(&mut self, batch: &Batch, groups: &[u32], times: &Times, out: &mut dyn Output) -> Result<()> {
        let mut candidates: Vec<u64> = Vec::new();
        let mut late: Vec<u32> = Vec::new();
        // Row by row, because what becomes of a row depends on those of its key before it; rows that are kept are
        // copied together.
        for (row, &id) in groups.iter().enumerate() {
            let (at, mark) = (id as usize, batch.mark(row, self.watermarks.event));
            let time = times.order[row];
            match self.memory.states[at] {
                State::Told if !self.memory.is_forgotten(id, mark) => continue,
                State::Waiting if self.memory.times[at] <= mark.0 => {
                    if self.spec.ttl.as_ref().is_some_and(|ttl| ttl.times[0] != self.spec.time) {
                        // Which of some rows of the same time is kept decides how long the key lives.
                        self.keep_earliest(batch, &mut candidates)?;
                    }
                    let passed =
                        self.memory.keep.is_some_and(|keep| mark.0 >= self.memory.touched[at].saturating_add(keep));
                    if !passed {
                        continue;
                    }
                    // Told and forgotten before this row, though the watermark that says so is still to come.
                    self.keep_earliest(batch, &mut candidates)?;
                    self.tell_waiting(id, out)?;
                    self.memory.states[at] = State::Unknown;
                }
                State::Told => self.memory.states[at] = State::Unknown,
                _ => {}
            }
            if time <= mark.0 {
                late.push(row as u32);
                continue;
            }
            if self.memory.states[at] == State::Waiting && time > self.memory.times[at] {
                continue;
            }
            let earlier = self.memory.states[at] == State::Unknown || time < self.memory.times[at];
            self.memory.states[at] = State::Waiting;
            if earlier {
                self.memory.times[at] = time;
                self.memory.timers.push(Reverse((time, id)));
                if let Some(live) = &times.live {
                    self.memory.touched[at] = live[row];
                }
            }
            candidates.push(by_group::place(id, row));
        }
        self.keep_earliest(batch, &mut candidates)?;
        self.memory.bound_timers();
        if late.is_empty() {
            return Ok(());
        }
        let at = |row: &u32| *row as usize;
        // Keys of which only late rows came.
        self.release_unknown(late.iter().map(|row| groups[at(row)]))?;
        out.set_aside(LateRows {
            times: late.iter().map(|row| times.order[at(row)]).collect::<Int64Array>(),
            watermarks: late.iter().map(|row| batch.mark(at(row), self.watermarks.event).0).collect::<Int64Array>(),
            rows: take_record_batch(&batch.rows, &UInt32Array::from(late))?,
            reason: "the watermark had passed the row's time, and its key had no row before it".to_owned(),
        })
    }

    /// Of each key the earliest of the row that waits and the candidates, of which none is known to be later.
    fn keep_earliest(&mut self, batch: &Batch, candidates: &mut Vec<u64>) -> Result<()> {
        if candidates.is_empty() {
            return Ok(());
        }
        candidates.sort_unstable();
        let encoded = self.encode(&batch.rows, candidates)?;
        let live = self.spec.ttl.as_ref().map(|ttl| self.times(&batch.rows, ttl.times[0])).transpose()?;
        for (at, candidate) in candidates.iter().enumerate() {
            let (id, row) = (by_group::group(*candidate), encoded.row(at));
            if self.memory.kept.get(id).is_none_or(|kept| row < kept) {
                self.memory.kept.set(id, row);
                if let Some(live) = &live {
                    self.memory.touched[id as usize] = live[by_group::row(*candidate)];
                }
                self.tables.change(id);
            }
        }
        candidates.clear();
        Ok(())
    }

    /// Tells the row of a key that waits. The key is told from now on.
    fn tell_waiting(&mut self, id: u32, out: &mut dyn Output) -> Result<()> {
        let memory = &mut self.memory;
        memory.states[id as usize] = State::Told;
        self.tables.change(id);
        if let Some(row) = memory.kept.get(id) {
            self.changes.make_room(1, &self.rows, out)?;
            self.changes.push(ChangeKind::Insert, row, 1);
        }
        memory.kept.remove(id);
        if let Some(due) = memory.due(id) {
            memory.timers.push(Reverse((due, id)));
        }
        Ok(())
    }

    /// Keep last: a row that is not earlier than the one kept takes its place.
    fn replace(&mut self, batch: &Batch, groups: &[u32], times: &Times, out: &mut dyn Output) -> Result<()> {
        let by_time = self.spec.domain == TimeDomain::Event;
        let latest = (0..batch.len()).map(|i| batch.mark(i, self.watermarks.event)).max().unwrap_or(Watermark::MIN);
        // A later row of the batch may live shorter than the one kept: then an earlier one behind it finds nothing.
        let lives_apart = self.spec.ttl.as_ref().is_some_and(|ttl| ttl.times[0] != self.spec.time);
        let stays = |row: &usize| {
            let id = groups[*row];
            !by_time
                || lives_apart
                || self.memory.states[id as usize] == State::Unknown
                || times.order[*row] >= self.memory.times[id as usize]
                || self.memory.is_forgotten(id, latest)
        };
        let mut rows: Vec<u64> = (0..batch.len()).filter(stays).map(|row| by_group::place(groups[row], row)).collect();
        rows.sort_unstable();
        if self.spec.ttl.is_none() {
            return self.replace_all(batch, &rows, times, out);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let encoded = self.encode(&batch.rows, &rows)?;
        let mut from = 0;
        for run in rows.chunk_by(|a, b| by_group::group(*a) == by_group::group(*b)) {
            let id = by_group::group(run[0]);
            // The row of the run that is kept so far, where it is not the one from before.
            let mut newest: Option<usize> = None;
            for (at, place) in run.iter().enumerate().map(|(i, place)| (from + i, place)) {
                let row = encoded.row(at);
                if self.memory.is_forgotten(id, batch.mark(by_group::row(*place), self.watermarks.event)) {
                    self.tell_newest(id, newest.take().map(|at| encoded.row(at)), out)?;
                    self.memory.kept.remove(id);
                    self.memory.states[id as usize] = State::Unknown;
                }
                let kept = newest.map(|at| encoded.row(at)).or(self.memory.kept.get(id));
                if !by_time || kept.is_none_or(|kept| row >= kept) {
                    newest = Some(at);
                    self.memory.times[id as usize] = times.order[by_group::row(*place)];
                    self.memory.states[id as usize] = State::Kept;
                    self.touch(id, by_group::row(*place), times);
                }
            }
            self.tell_newest(id, newest.map(|at| encoded.row(at)), out)?;
            from += run.len();
        }
        Ok(())
    }

    /// Keep last, where no key is forgotten between two rows: of each key one row of the batch matters. `rows`: those that
    /// are not earlier than the one kept, by key.
    fn replace_all(&mut self, batch: &Batch, rows: &[u64], times: &Times, out: &mut dyn Output) -> Result<()> {
        let by_time = self.spec.domain == TimeDomain::Event;
        let time = |place: &u64| times.order[by_group::row(*place)];
        let mut last: Vec<u64> = Vec::with_capacity(rows.len());
        for run in rows.chunk_by(|a, b| by_group::group(*a) == by_group::group(*b)) {
            if by_time {
                let latest = run.iter().map(time).max();
                last.extend(run.iter().filter(|place| Some(time(place)) == latest));
            } else {
                last.extend(run.last());
            }
        }
        let encoded = self.encode(&batch.rows, &last)?;
        let runs: Vec<_> = by_group::runs(&last).collect();
        // Rows of the same time stand in the order of their bytes.
        let newest = |run: &Range<usize>| run.clone().max_by_key(|at| encoded.row(*at)).unwrap_or(run.start);
        for runs in runs.chunks(LOOKED_UP_AT_ONCE) {
            let kept = &self.memory.kept;
            let old: Vec<Option<&[u8]>> = runs.iter().map(|run| kept.get(by_group::group(last[run.start]))).collect();
            let mut replaced: Vec<usize> = Vec::with_capacity(runs.len());
            for (run, old) in runs.iter().zip(old) {
                let at = newest(run);
                let row = encoded.row(at);
                if old.is_some_and(|old| row == old || by_time && row < old) {
                    continue;
                }
                self.changes.make_room(2, &self.rows, out)?;
                if let Some(old) = old.filter(|_| self.spec.update_before) {
                    self.changes.push(ChangeKind::UpdateBefore, old, 1);
                }
                let kind = if old.is_some() { ChangeKind::UpdateAfter } else { ChangeKind::Insert };
                self.changes.push(kind, row, 1);
                replaced.push(at);
            }
            for at in replaced {
                let (id, row) = (by_group::group(last[at]), by_group::row(last[at]));
                self.memory.times[id as usize] = times.order[row];
                self.memory.states[id as usize] = State::Kept;
                self.memory.kept.set(id, encoded.row(at));
                self.tables.change(id);
            }
        }
        Ok(())
    }

    /// Puts a row in the place of the one that was told last.
    fn tell_newest(&mut self, id: u32, row: Option<&[u8]>, out: &mut dyn Output) -> Result<()> {
        let Some(row) = row else { return Ok(()) };
        self.changes.make_room(2, &self.rows, out)?;
        match self.memory.kept.get(id) {
            Some(kept) if kept == row => return Ok(()),
            Some(kept) => {
                if self.spec.update_before {
                    self.changes.push(ChangeKind::UpdateBefore, kept, 1);
                }
                self.changes.push(ChangeKind::UpdateAfter, row, 1);
            }
            None => self.changes.push(ChangeKind::Insert, row, 1),
        }
        self.memory.kept.set(id, row);
        self.tables.change(id);
        Ok(())
    }

    fn encode(&self, batch: &RecordBatch, places: &[u64]) -> Result<Encoded> {
        Ok(self.rows.open(batch)?.encode(places.iter().map(|place| by_group::row(*place))))
    }

    /// A row of the key has been kept.
    fn touch(&mut self, id: u32, row: usize, times: &Times) {
        if let Some(live) = &times.live {
            let memory = &mut self.memory;
            // A key that is updated has one timer, which follows its row when it goes off.
            let timed = memory.states[id as usize] == State::Kept && memory.touched[id as usize] != Millis::MIN;
            memory.touched[id as usize] = live[row];
            if let Some(due) = memory.due(id).filter(|_| !timed) {
                memory.timers.push(Reverse((due, id)));
            }
        }
        self.tables.change(id);
    }

    /// Tells and forgets what the watermark says is due.
    fn advance_to(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        let mut forgotten = Vec::new();
        while let Some(Reverse((at, id))) = self.memory.timers.peek().copied().filter(|t| t.0.0 <= to.0) {
            self.memory.timers.pop();
            match (self.memory.states[id as usize], self.memory.due(id)) {
                (State::Waiting, Some(due)) if due == at => self.tell_waiting(id, out)?,
                (State::Told, Some(due)) if due == at => forgotten.push(id),
                (State::Kept, Some(due)) if due <= to.0 => forgotten.push(id),
                (State::Kept, Some(due)) => self.memory.timers.push(Reverse((due, id))),
                _ => {}
            }
        }
        for id in &forgotten {
            self.memory.states[*id as usize] = State::Unknown;
            self.memory.kept.remove(*id);
        }
        self.changes.flush(&self.rows, out)?;
        self.release_unknown(forgotten.into_iter())
    }

    /// Gives up the ids of keys of which nothing is known.
    fn release_unknown(&mut self, ids: impl Iterator<Item = u32>) -> Result<()> {
        let mut ids: Vec<u32> = ids.filter(|id| self.memory.states[*id as usize] == State::Unknown).collect();
        if ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        ids.dedup();
        self.note_gone(&ids)?;
        for id in ids {
            if self.memory.keep.is_some() {
                self.memory.touched[id as usize] = Millis::MIN;
            }
            // Without keys there is one group, which need not be found again.
            if !self.spec.keys.is_empty() {
                self.memory.ids.release(id);
            }
        }
        Ok(())
    }
}

impl Memory {
    /// When something becomes of the key: the row that waits is told, or it is forgotten.
    fn due(&self, id: u32) -> Option<Millis> {
        match self.states[id as usize] {
            State::Unknown => None,
            State::Waiting => Some(self.times[id as usize]),
            State::Told | State::Kept => self.keep.map(|keep| self.touched[id as usize].saturating_add(keep)),
        }
    }

    fn is_forgotten(&self, id: u32, mark: Watermark) -> bool {
        matches!(self.states[id as usize], State::Told | State::Kept) && self.due(id).is_some_and(|due| mark.0 >= due)
    }

    /// A key whose row is replaced by earlier ones leaves timers behind.
    fn bound_timers(&mut self) {
        if self.timers.len() > 2 * self.states.len() + TIMERS_SPARE {
            let due = (0..self.states.len() as u32).filter_map(|id| self.due(id).map(|due| Reverse((due, id))));
            self.timers = due.collect();
        }
    }

    fn bytes(&self) -> usize {
        self.kept.bytes()
            + self.ids.bytes()
            + self.states.capacity()
            + (self.times.capacity() + self.touched.capacity()) * 8
            + self.timers.capacity() * 16
            + self.groups.capacity() * 4
    }
}

impl Operator for Deduplicate {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(batch, out),
            Event::Watermark(domain, to) => {
                self.watermarks.advance(domain, to);
                if domain == TimeDomain::Event {
                    self.advance_to(to, out)?;
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.memory.bytes() + self.changes.bytes() + self.tables.bytes()
    }

    /// Rows that wait are told; a key is forgotten in silence.
    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        // Timers are for both, so all keys are looked at: this is asked where all of them are written down.
        let waits = |(state, _): &(&State, &Millis)| **state == State::Waiting;
        let waiting = self.memory.states.iter().zip(&self.memory.times).filter(waits).map(|(_, time)| *time);
        waiting.min().filter(|_| domain == TimeDomain::Event).map(Watermark)
    }

    fn tables(&self) -> Vec<TableDef> {
        self.tables.all()
    }

    fn track_changes(&mut self) {
        self.tables.track();
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.save_tables(saver)
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        self.load_table(table, rows)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.watermarks = watermarks;
        Ok(())
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
