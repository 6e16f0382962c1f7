//! Frames: which rows an aggregate sees at each row, and how it gets from one row to the next.
//!
//! Rows come in order of time, over all keys. So a RANGE frame needs no memory for each key: one log of all rows in
//! order, and a cursor in it. What the cursor passes leaves the frame of its key.
//!
//! ```text
//!  log     t: 10 11 11 14 20 │ 21 21 ◀ new rows, a run of peers
//!          g:  0  1  0  2  1 │  0  2
//!                 ▲ cursor: everything before `21 - preceding` has been taken out of its group
//! ```
//!
//! All rows of a run go in before the first of them is answered: they are peers. A ROWS frame keeps the last rows of
//! each key and answers row by row; an unbounded one keeps no rows at all.

mod saved;

pub(super) use self::saved::{Lasting, Memory, Saved};

use super::words::Codec;
use crate::graph::Frame;
use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, RecordBatch};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;
use millstream_core::{Error, Millis, Result};
use std::collections::VecDeque;
use std::ops::Range;

/// What an aggregate does with single values. State is in columns by group.
///
/// `nth` tells values of one group apart: it grows with each value added.
pub(super) trait Accumulator: Send {
    type In: Clone + Send;
    type Out: Clone + Send;

    /// Makes room for groups below `slots`; new ones are empty.
    fn grow(&mut self, slots: usize);
    fn add(&mut self, group: usize, value: &Self::In, nth: u64) -> Result<()>;
    /// Takes the oldest value of the group out again.
    fn retract(&mut self, group: usize, value: &Self::In, nth: u64) -> Result<()>;
    /// `None` is NULL.
    fn result(&mut self, group: usize) -> Result<Option<Self::Out>>;
    /// The group's key is gone and so are all its values; its number may come again.
    fn forget(&mut self, _group: usize) {}
    /// Cheap: asked for with each batch.
    fn bytes(&self) -> usize;

    /// How a frame without a beginning is saved; what leaves a bounded one again is saved as values, and added again.
    /// `input`: types of the columns that values are read from.
    fn lasting(&self, input: &[DataType]) -> Lasting;
    /// [`Lasting::State`]: what these groups hold, in columns of its types. Values are written by `input`.
    fn save(&mut self, _groups: &[u32], _input: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        Err(Error::internal("a state without columns"))
    }
    /// Takes in what `save` made. The groups are empty.
    fn load(&mut self, _groups: &[u32], _columns: &[ArrayRef], _input: &dyn Codec<Value = Self::In>) -> Result<()> {
        Err(Error::internal("a state without columns"))
    }
    /// [`Lasting::Values`]: from now on, keep the values that must be saved next.
    fn track(&mut self) {}
    /// [`Lasting::Values`]: the values that came since this was last asked, or all.
    fn take_values(&mut self, _all: bool) -> Vec<(u32, Self::In)> {
        Vec::new()
    }
    /// [`Lasting::Last`]: the value so many rows before the last one.
    fn back(&self, _group: usize, _rows: usize) -> Option<Self::In> {
        None
    }
}

/// Where a call's values are in the rows.
#[derive(Clone, PartialEq)]
pub(super) struct Argument {
    pub columns: Vec<usize>,
    pub filter: Option<usize>,
    /// NULLs are values too.
    pub keep_nulls: bool,
}

impl Argument {
    fn arrays(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.columns.iter().map(|c| rows.column(*c).clone()).collect()
    }

    /// Which rows count; `None`: all.
    fn present(&self, rows: &RecordBatch) -> Option<BooleanBuffer> {
        let mut present: Option<NullBuffer> = None;
        if !self.keep_nulls {
            for column in &self.columns {
                present = NullBuffer::union(present.as_ref(), rows.column(*column).logical_nulls().as_ref());
            }
        }
        if let Some(filter) = self.filter {
            let filter = rows.column(filter).as_boolean();
            present = NullBuffer::union(present.as_ref(), Some(&NullBuffer::new(filter.values().clone())));
            present = NullBuffer::union(present.as_ref(), filter.nulls());
        }
        present.filter(|p| p.null_count() > 0).map(NullBuffer::into_inner)
    }
}

/// Rows in order of time with the group of each.
pub(super) struct Chunk<'a> {
    pub rows: &'a RecordBatch,
    pub times: &'a [Millis],
    pub groups: &'a [u32],
    /// Groups are below this.
    pub slots: usize,
    /// The end of each run of rows of the same time.
    pub runs: &'a [usize],
}

/// Every row that is in the longest bounded RANGE frame.
#[derive(Default)]
pub(super) struct Log {
    pub times: Vec<Millis>,
    pub groups: Vec<u32>,
    /// Rows that were taken out before those that are here.
    pub gone: u64,
}

/// One call in one kind of frame.
pub(super) trait Call: Saved + Send {
    /// Answers the rows of a chunk, which stand in the log from `base` on. `leave[r]` is how far the cursor of the
    /// frame goes before run `r` is answered.
    fn answer(&mut self, chunk: &Chunk, log: &Log, cursor: usize, leave: &[usize]) -> Result<ArrayRef>;
    /// Takes these rows of the log out of the frame.
    fn leave(&mut self, _log: &Log, _rows: Range<usize>) -> Result<()> {
        Ok(())
    }
    /// The first `rows` of the log are taken away.
    fn trim(&mut self, _rows: usize) {}
    fn forget(&mut self, group: usize);
    fn bytes(&self) -> usize;
}

/// The frame of some calls, in the order of their results.
pub(super) fn call<A, I, O>(accumulator: A, input: I, output: O, argument: Argument, frame: Frame) -> Box<dyn Call>
where
    A: Accumulator + 'static,
    I: Codec<Value = A::In> + 'static,
    O: Codec<Value = A::Out> + 'static,
{
    let values = Values { argument, input };
    let results = Answers { output };
    match frame {
        Frame::Range { preceding } => {
            let kept = preceding.map(|_| Kept { values: Vec::new(), present: None });
            Box::new(RangeCall { accumulator, values, results, kept })
        }
        Frame::Rows { preceding } => Box::new(RowsCall {
            accumulator,
            values,
            results,
            preceding,
            rings: Vec::new(),
            held: 0,
            counts: Vec::new(),
        }),
    }
}

struct Values<I> {
    argument: Argument,
    input: I,
}

struct Answers<O> {
    output: O,
}

/// Results under way.
struct Column<T> {
    values: Vec<T>,
    valid: BooleanBufferBuilder,
}

impl<O: Codec> Answers<O> {
    fn start(&self, rows: usize) -> Column<O::Value> {
        Column { values: Vec::with_capacity(rows), valid: BooleanBufferBuilder::new(rows) }
    }

    #[inline]
    fn push(&self, column: &mut Column<O::Value>, value: Option<O::Value>) {
        column.valid.append(value.is_some());
        column.values.push(value.unwrap_or_else(|| self.output.blank()));
    }

    fn finish(&self, mut column: Column<O::Value>) -> Result<ArrayRef> {
        let nulls = NullBuffer::new(column.valid.finish());
        self.output.write(column.values, Some(nulls).filter(|n| n.null_count() > 0))
    }
}

/// The values of the log's rows.
struct Kept<T> {
    values: Vec<T>,
    /// Which of them count; `None`: all.
    present: Option<Vec<bool>>,
}

impl<T: Clone> Kept<T> {
    fn append(&mut self, values: &[T], present: Option<&BooleanBuffer>) {
        if present.is_some() && self.present.is_none() {
            self.present = Some(vec![true; self.values.len()]);
        }
        if let Some(all) = &mut self.present {
            match present {
                Some(some) => all.extend(some.iter()),
                None => all.resize(all.len() + values.len(), true),
            }
        }
        self.values.extend_from_slice(values);
    }
}

struct RangeCall<A: Accumulator, I, O> {
    accumulator: A,
    values: Values<I>,
    results: Answers<O>,
    /// `None`: the frame has no beginning, and nothing leaves it.
    kept: Option<Kept<A::In>>,
}

impl<A, I, O> Call for RangeCall<A, I, O>
where
    A: Accumulator,
    I: Codec<Value = A::In>,
    O: Codec<Value = A::Out>,
{
    fn answer(&mut self, chunk: &Chunk, log: &Log, cursor: usize, leave: &[usize]) -> Result<ArrayRef> {
        let columns = self.values.argument.arrays(chunk.rows);
        let values = self.values.input.read(&columns, chunk.groups.len())?;
        let present = self.values.argument.present(chunk.rows);
        let base = log.groups.len() - if self.kept.is_some() { chunk.groups.len() } else { 0 };
        self.accumulator.grow(chunk.slots);
        if let Some(kept) = &mut self.kept {
            kept.append(&values, present.as_ref());
        }
        let mut column = self.results.start(values.len());
        let (mut cursor, mut start) = (cursor, 0);
        // Run by run and row by row, because each answer rests on exactly the rows before it; what is done for a row
        // is three updates of typed columns.
        for (r, &end) in chunk.runs.iter().enumerate() {
            if self.kept.is_some() {
                self.leave(log, cursor..leave[r])?;
                cursor = leave[r];
            }
            for (i, value) in (start..end).zip(&values[start..end]) {
                if present.as_ref().is_none_or(|p| p.value(i)) {
                    self.accumulator.add(chunk.groups[i] as usize, value, log.gone + (base + i) as u64)?;
                }
            }
            for &group in &chunk.groups[start..end] {
                let result = self.accumulator.result(group as usize)?;
                self.results.push(&mut column, result);
            }
            start = end;
        }
        self.results.finish(column)
    }

    #[inline]
    fn leave(&mut self, log: &Log, rows: Range<usize>) -> Result<()> {
        let Some(kept) = &self.kept else { return Ok(()) };
        for i in rows {
            if kept.present.as_ref().is_none_or(|p| p[i]) {
                self.accumulator.retract(log.groups[i] as usize, &kept.values[i], log.gone + i as u64)?;
            }
        }
        Ok(())
    }

    fn trim(&mut self, rows: usize) {
        if let Some(kept) = &mut self.kept {
            kept.values.drain(..rows);
            if let Some(present) = &mut kept.present {
                present.drain(..rows);
            }
        }
    }

    fn forget(&mut self, group: usize) {
        self.accumulator.forget(group);
    }

    fn bytes(&self) -> usize {
        let kept = self
            .kept
            .as_ref()
            .map_or(0, |k| k.values.capacity() * size_of::<A::In>() + k.present.as_ref().map_or(0, Vec::capacity));
        self.accumulator.bytes() + kept
    }
}

struct RowsCall<A: Accumulator, I, O> {
    accumulator: A,
    values: Values<I>,
    results: Answers<O>,
    preceding: Option<u64>,
    /// By group: the rows of the frame, `None` where a row does not count. Empty for an unbounded frame.
    rings: Vec<VecDeque<Option<A::In>>>,
    /// Rows in all rings.
    held: usize,
    /// By group: rows seen.
    counts: Vec<u64>,
}

impl<A, I, O> Call for RowsCall<A, I, O>
where
    A: Accumulator,
    I: Codec<Value = A::In>,
    O: Codec<Value = A::Out>,
{
    fn answer(&mut self, chunk: &Chunk, _: &Log, _: usize, _: &[usize]) -> Result<ArrayRef> {
        let columns = self.values.argument.arrays(chunk.rows);
        let values = self.values.input.read(&columns, chunk.groups.len())?;
        let present = self.values.argument.present(chunk.rows);
        self.accumulator.grow(chunk.slots);
        self.counts.resize(chunk.slots.max(self.counts.len()), 0);
        if self.preceding.is_some() {
            self.rings.resize_with(chunk.slots.max(self.rings.len()), VecDeque::new);
        }
        let mut column = self.results.start(values.len());
        // Row by row, because each row has a frame of its own.
        for (i, &group) in chunk.groups.iter().enumerate() {
            let group = group as usize;
            let value = present.as_ref().is_none_or(|p| p.value(i)).then_some(&values[i]);
            let nth = self.counts[group];
            self.counts[group] += 1;
            if let Some(preceding) = self.preceding {
                let ring = &mut self.rings[group];
                if ring.len() as u64 > preceding {
                    let oldest = nth - ring.len() as u64;
                    self.held -= 1;
                    if let Some(Some(gone)) = ring.pop_front() {
                        self.accumulator.retract(group, &gone, oldest)?;
                    }
                }
                ring.push_back(value.cloned());
                self.held += 1;
            }
            if let Some(value) = value {
                self.accumulator.add(group, value, nth)?;
            }
            let result = self.accumulator.result(group)?;
            self.results.push(&mut column, result);
        }
        self.results.finish(column)
    }

    fn forget(&mut self, group: usize) {
        self.accumulator.forget(group);
    }

    fn bytes(&self) -> usize {
        let rings = self.rings.capacity() * size_of::<VecDeque<Option<A::In>>>();
        self.accumulator.bytes() + rings + self.held * size_of::<Option<A::In>>() + self.counts.capacity() * 8
    }
}

/// Calls with the same bounded RANGE frame.
pub(super) struct RangeFrame {
    pub preceding: Millis,
    /// Rows of the log before it have left the frame.
    pub cursor: usize,
    pub leave: Vec<usize>,
}

impl RangeFrame {
    /// How far the cursor goes at each run. The rows of the chunk are in the log already.
    pub(super) fn plan(&mut self, log: &Log, chunk: &Chunk) {
        self.leave.clear();
        let mut cursor = self.cursor;
        for &end in chunk.runs {
            cursor = past(&log.times, cursor, chunk.times[end - 1].saturating_sub(self.preceding));
            self.leave.push(cursor);
        }
    }
}

/// The first row from `cursor` on that is not older than `from`.
pub(super) fn past(times: &[Millis], mut cursor: usize, from: Millis) -> usize {
    while cursor < times.len() && times[cursor] < from {
        cursor += 1;
    }
    cursor
}
