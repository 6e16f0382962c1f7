//! `OVER (PARTITION BY keys ORDER BY time RANGE | ROWS ...)`: each row with what its frame holds, exact to the row.
//!
//! ```text
//!  rows ──▶ late? ──▶ wait until the watermark has reached them ──▶ in order of (time, tie): in, out, answer ──▶ rows
//! ```
//!
//! A row comes out when the watermark has reached its time: then every earlier row and every row of the same time has
//! been seen, so the answer never has to be taken back. A row at or before the watermark it is judged by is late: its
//! neighbours have gone out without it.
//!
//! What is remembered: rows that wait ([`pending`]), the rows of the longest bounded RANGE frame ([`frame`]), the
//! last rows of each key for ROWS frames, and for each key the state of its aggregates. With bounded RANGE frames
//! alone a key is forgotten when its last row leaves; a ROWS frame or one without a beginning keeps its keys. What a
//! checkpoint has of it stands in [`memory`].

mod calls;
mod frame;
mod memory;
mod numbers;
pub(crate) mod pending;
mod sketches;
mod values;
pub(crate) mod words;

use self::frame::{Call, Chunk, Log, RangeFrame, past};
use self::memory::{Tables, edge};
use self::pending::Pending;
use crate::graph;
use crate::operator::{Event, LateRows, Operator, Output, ROWS_MAX, Watermarks};
use crate::rows::{conform, time_column};
use crate::shelves;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use millstream_state::table::{Saver, TableDef};

/// The log is shortened when this many rows of it, and half of it, have left every frame.
const TRIM_MIN: usize = 16_384;

/// The operator of `spec`, which goes to disk by shelves. `input`, `output`: see [`Over::new`].
pub fn build(spec: &graph::Over, input: &SchemaRef, output: SchemaRef) -> Result<Box<dyn Operator>> {
    let (spec, of) = (spec.clone(), input.clone());
    let keys = spec.keys.clone();
    let make: shelves::Make = Box::new(move || Ok(Box::new(Over::new(&spec, &of, output.clone())?)));
    shelves::wrap(make, std::slice::from_ref(input), &[&keys])
}

/// The operator of [`graph::Over`].
pub struct Over {
    domain: TimeDomain,
    time: usize,
    keys: Vec<usize>,
    input: SchemaRef,
    output: SchemaRef,
    watermark: Watermark,
    pending: Pending,
    work: Frames,
    tables: Tables,
}

/// What is remembered of the rows that have gone out.
struct Frames {
    keys: Vec<usize>,
    codec: KeyCodec,
    groups: KeyTable,
    log: Log,
    frames: Vec<RangeFrame>,
    /// Each call and its frame; `None`: it keeps what it needs by itself.
    calls: Vec<(Box<dyn Call>, Option<usize>)>,
    /// By group: its rows in the log.
    held: Vec<u32>,
    /// Rows of the log before it have left every frame and are no longer held.
    released: usize,
    /// Keys are forgotten with their last row.
    forgetful: bool,
    /// Scratch space: the group of each row, and the runs of rows of the same time.
    row_groups: Vec<u32>,
    runs: Vec<usize>,
}

impl Over {
    /// `input`: columns of the rows; `output`: these with one more for each call.
    pub fn new(spec: &graph::Over, input: &SchemaRef, output: SchemaRef) -> Result<Over> {
        time_column(input.field(spec.time).data_type(), input.field(spec.time).name())?;
        let types: Vec<_> = spec.keys.iter().map(|k| input.field(*k).data_type().clone()).collect();
        let mut frames: Vec<RangeFrame> = Vec::new();
        let mut calls = Vec::with_capacity(spec.calls.len());
        for call in &spec.calls {
            let frame = calls::bounded_range(call).map(|preceding| {
                frames.iter().position(|f| f.preceding == preceding).unwrap_or_else(|| {
                    frames.push(RangeFrame { preceding, cursor: 0, leave: Vec::new() });
                    frames.len() - 1
                })
            });
            calls.push((calls::build(call, input, spec.time)?, frame));
        }
        let codec = KeyCodec::new(&types)?;
        let work = Frames {
            keys: spec.keys.clone(),
            groups: codec.table(),
            codec,
            log: Log::default(),
            // Without keys there is one group, which need not be found again.
            forgetful: !spec.keys.is_empty() && calls.iter().all(|(_, frame)| frame.is_some()),
            frames,
            calls,
            held: Vec::new(),
            released: 0,
            row_groups: Vec::new(),
            runs: Vec::new(),
        };
        let tables = Tables::new(&work, input, spec.time);
        Ok(Over {
            domain: spec.domain,
            time: spec.time,
            keys: spec.keys.clone(),
            input: input.clone(),
            output,
            watermark: Watermark::MIN,
            pending: Pending::new(spec.time, spec.order),
            work,
            tables,
        })
    }

    /// Lets the rows in that are still in time.
    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let times = batch.rows.column(self.time);
        if times.null_count() > 0 {
            let name = batch.rows.schema().field(self.time).name().clone();
            return Err(Error::data(format!("the time attribute `{name}` is NULL"))
                .remedy("filter such rows before the OVER window: WHERE the column IS NOT NULL"));
        }
        let times = words::Words::of(times)?;
        let marks = batch.marks.as_ref().filter(|_| self.domain == TimeDomain::Event);
        let earliest = times.iter().copied().min().unwrap_or(Millis::MAX);
        let highest = marks.map_or(Millis::MIN, |m| m.values().iter().copied().max().unwrap_or(Millis::MIN));
        if earliest > self.watermark.0.max(highest) {
            return self.pending.add(batch.rows);
        }
        let mark = |i: usize| marks.map_or(self.watermark.0, |m| m.value(i).max(self.watermark.0));
        let (late, on_time): (Vec<u32>, Vec<u32>) =
            (0..times.len() as u32).partition(|&i| times[i as usize] <= mark(i as usize));
        if late.is_empty() {
            return self.pending.add(batch.rows);
        }
        let at = |i: &u32| *i as usize;
        out.set_aside(LateRows {
            rows: take_record_batch(&batch.rows, &UInt32Array::from(late.clone()))?,
            times: late.iter().map(|i| times[at(i)]).collect::<Vec<_>>().into(),
            watermarks: late.iter().map(|i| mark(at(i))).collect::<Int64Array>(),
            reason: "the watermark had passed the row's time: the rows around it have gone out".to_owned(),
        })?;
        self.pending.add(take_record_batch(&batch.rows, &UInt32Array::from(on_time))?)
    }

    /// Answers every row that the watermark has reached.
    fn answer_through(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        let Over { work, pending, output, tables, .. } = self;
        pending.take(to, |rows, times| {
            let results = work.answer(rows, times, tables)?;
            let columns = rows.columns().iter().cloned().chain(results).collect();
            let rows = conform(output, columns, rows.num_rows())?;
            for from in (0..rows.num_rows()).step_by(ROWS_MAX) {
                out.emit(0, rows.slice(from, ROWS_MAX.min(rows.num_rows() - from)).into())?;
            }
            Ok(())
        })?;
        self.work.leave_before(to, &mut self.tables)?;
        self.watermark = to;
        Ok(())
    }

    /// Keys that are remembered.
    #[cfg(test)]
    fn live_keys(&self) -> usize {
        self.work.held.iter().filter(|rows| **rows > 0).count()
    }
}

impl Operator for Over {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(batch, out),
            Event::Watermark(domain, to) => {
                if domain == self.domain && to > self.watermark {
                    self.answer_through(to, out)?;
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.pending.bytes() + self.work.bytes() + self.tables.bytes() + self.keys.capacity() * 8
    }

    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        self.pending.first_time().filter(|_| domain == self.domain).map(Watermark)
    }

    fn tables(&self) -> Vec<TableDef> {
        self.tables.all()
    }

    fn track_changes(&mut self) {
        self.track();
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.save_tables(saver)
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        self.load_table(table, rows)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.resume_from(watermarks.of(self.domain))
    }
}

impl Frames {
    /// One column for each call. `rows` are in order and end with the last row of their time.
    fn answer(&mut self, rows: &RecordBatch, times: &[Millis], tables: &mut Tables) -> Result<Vec<ArrayRef>> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| rows.column(*k).clone()).collect();
        self.groups.assign(&self.codec.encode(&keys, times.len())?, 0..times.len(), &mut self.row_groups);
        self.runs.clear();
        self.runs.extend((1..times.len()).filter(|i| times[*i] != times[i - 1]));
        self.runs.push(times.len());
        let slots = self.groups.len();
        tables.touch(&self.row_groups, slots);
        if !self.frames.is_empty() {
            self.log.times.extend_from_slice(times);
            self.log.groups.extend_from_slice(&self.row_groups);
            if self.forgetful {
                self.held.resize(slots, 0);
                self.row_groups.iter().for_each(|g| self.held[*g as usize] += 1);
            }
        }
        let chunk = Chunk { rows, times, groups: &self.row_groups, slots, runs: &self.runs };
        for frame in &mut self.frames {
            frame.plan(&self.log, &chunk);
        }
        let mut results = Vec::with_capacity(self.calls.len());
        for (call, frame) in &mut self.calls {
            let (cursor, leave) = match frame {
                Some(f) => (self.frames[*f].cursor, self.frames[*f].leave.as_slice()),
                None => (0, [].as_slice()),
            };
            results.push(call.answer(&chunk, &self.log, cursor, leave)?);
        }
        for frame in &mut self.frames {
            frame.cursor = frame.leave.last().copied().unwrap_or(frame.cursor);
        }
        self.release(tables);
        Ok(results)
    }

    /// Every row to come is later than the watermark: what is too old for the next of them leaves now, whether or not
    /// its key is seen again.
    fn leave_before(&mut self, to: Watermark, tables: &mut Tables) -> Result<()> {
        for at in 0..self.frames.len() {
            let frame = &mut self.frames[at];
            let from = frame.cursor;
            frame.cursor = past(&self.log.times, from, edge(to, frame.preceding));
            for (call, _) in self.calls.iter_mut().filter(|(_, f)| *f == Some(at)) {
                call.leave(&self.log, from..self.frames[at].cursor)?;
            }
        }
        self.release(tables);
        Ok(())
    }

    /// Forgets the rows that have left every frame, and the keys whose last row that was.
    fn release(&mut self, tables: &mut Tables) {
        let Some(left) = self.frames.iter().map(|f| f.cursor).min() else { return };
        if self.forgetful {
            for i in self.released..left {
                let group = self.log.groups[i] as usize;
                self.held[group] -= 1;
                if self.held[group] == 0 {
                    self.calls.iter_mut().for_each(|(call, _)| call.forget(group));
                    self.groups.release(group as u32);
                }
            }
        }
        self.released = left;
        if left >= TRIM_MIN && left * 2 >= self.log.times.len() {
            self.log.times.drain(..left);
            self.log.groups.drain(..left);
            self.log.gone += left as u64;
            for (call, _) in self.calls.iter_mut().filter(|(_, f)| f.is_some()) {
                call.trim(left);
            }
            self.frames.iter_mut().for_each(|f| f.cursor -= left);
            tables.trim(left);
            self.released = 0;
        }
    }

    fn bytes(&self) -> usize {
        let log = self.log.times.capacity() * 8 + self.log.groups.capacity() * 4;
        let calls: usize = self.calls.iter().map(|(c, _)| c.bytes()).sum();
        log + calls + self.groups.bytes() + self.held.capacity() * 4
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod crash_tests;

#[cfg(test)]
mod kernel_tests;
