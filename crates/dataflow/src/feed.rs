//! Turns what a source task reads into the stream that operators see: completed rows, their marks, and watermarks.
//!
//! ```text
//!  partition 0 ──rows──┐   $proctime,      NULL time?    watermark per     ┌▶ Bad, Active
//!  partition 1 ──rows──┼─▶ computed   ──▶  fail or   ──▶ partition, least ─┼▶ Batch (+ marks)
//!  the clock ──now─────┘   columns         set aside     over them         └▶ Watermark, Idle, End
//! ```
//!
//! Always true:
//! - A watermark belongs to one partition and rests on rows already handed on: a row whose own arrival moves the
//!   watermark is never late by it. The task's watermark is the least over its partitions that count (see
//!   [`valve`](crate::valve)), and never goes back.
//! - The marks of a batch say what row-by-row feeding would have said, however the rows are cut into batches.
//! - The watermark of processing time is one millisecond behind the clock: the next rows may be stamped with the
//!   reading that the last ones were stamped with, and they must not be late.
//!
//! Not here: reading (`core::source`), waiting and the clock itself; `now` is an argument.

use crate::expr::Expr;
use crate::fuse::fuse;
use crate::graph::{Changes, SourceNode, WatermarkSpec};
use crate::rows::{conform, row_as_json, time_column};
use crate::valve::Merge;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int8Array, Int64Array, RecordBatch, TimestampMillisecondArray,
};
use arrow::compute::is_not_null;
use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::metadata::{PROCESSING_TIME, ltz_millis};
use millstream_core::{BadRow, Batch, ChangeKind, Error, Millis, Place, Result, SourceRows, TimeDomain, Watermark};
use std::borrow::Cow;
use std::sync::Arc;

/// What the driver of a source task must do, in this order.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Rows that could not be read, or that have no event time: for the bad-row output and its counter.
    Bad(Vec<BadRow>),
    /// The task speaks again after [`Effect::Idle`].
    Active,
    Batch(Batch),
    Watermark(TimeDomain, Watermark),
    /// Every partition is silent: whoever waits for this task's watermark may leave it out.
    Idle,
    /// Every partition has ended. Both watermarks have been `MAX` before.
    End,
}

struct Partition {
    name: String,
    /// Rows taken in, for the places of bad rows.
    rows: u64,
    /// When rows last came, or when the partition was added.
    heard_at: Millis,
    ended: bool,
}

/// What a checkpoint remembers of a partition beside its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionMemory {
    /// Its own promise.
    pub watermark: Watermark,
    /// Rows taken in, for the places of bad rows.
    pub rows: u64,
    pub idle: bool,
    pub ended: bool,
}

/// The expressions of the columns, each over a row of the source with `$proctime`.
enum Computed {
    AsPlanned(Vec<Expr>),
    /// The columns that they are over were known with the first rows.
    Fused(Vec<Expr>),
}

impl Computed {
    fn over(&mut self, rows: &RecordBatch) -> Result<&[Expr]> {
        if let Computed::AsPlanned(exprs) = self {
            *self = Computed::Fused(exprs.iter().map(|e| fuse(e, rows.schema_ref())).collect::<Result<_>>()?);
        }
        let (Computed::AsPlanned(exprs) | Computed::Fused(exprs)) = self;
        Ok(exprs)
    }
}

/// The feed of one source task, over all its partitions.
pub struct SourceFeed {
    table: String,
    processing_time: bool,
    computed: Option<Computed>,
    watermark: Option<WatermarkSpec>,
    idle_timeout: Option<Millis>,
    wall_clock_fallback: Option<Millis>,
    nothing_late: bool,
    null_time_set_aside: bool,
    /// Rows that are gone may know no time.
    by_key: bool,
    /// Columns that are completed: those handed on but for `$watermark`.
    output: SchemaRef,
    /// The columns with `$watermark`, where it is asked for.
    watermarked: Option<SchemaRef>,
    /// Columns of the source's rows, with `$proctime`: known with the first rows.
    completed: Option<SchemaRef>,
    partitions: Vec<Partition>,
    merge: Merge,
    /// More partitions may be added even when all have ended.
    open: bool,
    idle: bool,
    ended: bool,
    /// The latest clock reading. The machine's clock may jump back, ours does not.
    now: Millis,
    /// The watermark of processing time handed on.
    clock: Watermark,
}

impl SourceFeed {
    /// A feed without partitions yet. `output`: the columns handed on, as the graph's node says.
    pub fn new(node: &SourceNode, output: SchemaRef) -> Result<SourceFeed> {
        if let Some(w) = &node.watermark {
            time_column(output.field(w.column).data_type(), output.field(w.column).name())?;
        }
        let (output, watermarked) = match node.row_watermarks {
            false => (output, None),
            true if node.watermark.is_none() => return Err(Error::internal("a `$watermark` without a watermark")),
            true => {
                let completed: Vec<usize> = (0..output.fields().len().saturating_sub(1)).collect();
                (Arc::new(output.project(&completed)?), Some(output))
            }
        };
        Ok(SourceFeed {
            table: node.table.name.clone(),
            processing_time: node.processing_time,
            computed: node.computed.clone().map(Computed::AsPlanned),
            watermark: node.watermark.clone(),
            idle_timeout: node.idle_timeout,
            wall_clock_fallback: node.wall_clock_fallback,
            nothing_late: node.nothing_late,
            null_time_set_aside: node.null_time_set_aside,
            by_key: node.brings == Changes::Upsert,
            output,
            watermarked,
            completed: None,
            partitions: Vec::new(),
            merge: Merge::new(0),
            open: false,
            idle: false,
            ended: false,
            now: Millis::MIN,
            clock: Watermark::MIN,
        })
    }

    /// Adds a partition and returns its number. One added later starts without a promise: it counts once it has caught
    /// up with the task's watermark.
    pub fn add_partition(&mut self, name: impl Into<String>, now: Millis) -> usize {
        self.see(now);
        self.partitions.push(Partition { name: name.into(), rows: 0, heard_at: self.now, ended: false });
        self.merge.add()
    }

    /// What a checkpoint has to remember of a partition.
    pub fn partition_state(&self, partition: usize) -> PartitionMemory {
        let Partition { rows, ended, .. } = self.partitions[partition];
        let idle = !self.merge.is_active(partition);
        PartitionMemory { watermark: self.merge.watermark(partition), rows, idle, ended }
    }

    /// Adds a partition that goes on where a checkpoint left it, and returns its number. Followed by
    /// [`SourceFeed::resume`] when all are there.
    pub fn add_saved_partition(&mut self, name: impl Into<String>, memory: PartitionMemory, now: Millis) -> usize {
        let partition = self.add_partition(name, now);
        let PartitionMemory { watermark, rows, idle, ended } = memory;
        self.partitions[partition].rows = rows;
        self.partitions[partition].ended = ended;
        self.merge.restore(partition, watermark, !idle, false);
        partition
    }

    /// Goes on from a checkpoint: these watermarks had been handed on, perhaps over other partitions than these, and
    /// do not go back. After all partitions were added, and after [`SourceFeed::keep_open`]. What comes back is to be
    /// handed on before the first row. That everything has ended is said by the next [`SourceFeed::on_tick`].
    pub fn resume(&mut self, output: Watermark, processing: Watermark) -> Vec<Effect> {
        for partition in (0..self.partitions.len()).filter(|p| self.partitions[*p].ended) {
            // As in `on_end`: where more may follow, an ended partition is but silent.
            self.merge.restore(partition, self.merge.watermark(partition), !self.open, !self.open);
        }
        self.merge.resume_output(output);
        // Rows stamped from now on must not be late by the clock that was handed on.
        self.see(processing.0.saturating_add(1));
        self.clock = self.clock.max(processing);
        let mut effects = Vec::new();
        let told = [(TimeDomain::Event, self.merge.output()), (TimeDomain::Processing, self.clock)];
        effects.extend(told.iter().filter(|t| t.1 > Watermark::MIN).map(|t| Effect::Watermark(t.0, t.1)));
        if self.follows_clock().is_none() && self.merge.idle() {
            self.idle = true;
            effects.push(Effect::Idle);
        }
        effects
    }

    /// How far the watermark stays behind the clock while all partitions are silent, where it follows the clock then.
    fn follows_clock(&self) -> Option<Millis> {
        self.wall_clock_fallback.filter(|_| self.watermark.is_some())
    }

    /// More partitions may be found: until [`SourceFeed::close`] the end of all is not the end of the feed.
    pub fn keep_open(&mut self) {
        self.open = true;
    }

    /// The watermark of event time handed on so far.
    pub fn watermark(&self) -> Watermark {
        self.merge.output()
    }

    /// The watermark of processing time handed on so far.
    pub fn clock(&self) -> Watermark {
        self.clock
    }

    /// True after [`Effect::End`].
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes in rows of a partition, read at `now`.
    pub fn on_rows(&mut self, partition: usize, read: SourceRows, now: Millis) -> Result<Vec<Effect>> {
        self.see(now);
        let mut effects = Vec::with_capacity(4);
        let mut bad = read.bad;
        self.partitions[partition].heard_at = self.now;
        let mut risen = None;
        if !self.merge.is_active(partition) {
            risen = self.merge.set_active(partition, true);
        }
        let before = self.partitions[partition].rows;
        self.partitions[partition].rows += read.rows.num_rows() as u64;
        let rows = if read.rows.num_rows() > 0 {
            Some(self.complete(partition, before, (read.rows, read.kinds), &mut bad)?).filter(|r| r.0.num_rows() > 0)
        } else {
            None
        };
        if !bad.is_empty() {
            effects.push(Effect::Bad(bad));
        }
        if self.idle {
            self.idle = false;
            effects.push(Effect::Active);
        }
        if let Some((rows, kinds)) = rows {
            let (rows, marks, reached) = self.mark(partition, before, rows)?;
            let marks = marks.filter(|_| !self.nothing_late);
            effects.push(Effect::Batch(Batch { rows, marks, kinds }));
            risen = self.merge.advance(partition, reached).or(risen);
        }
        effects.extend(self.risen(risen));
        self.tell_time(&mut effects);
        Ok(effects)
    }

    /// The partition has no rows now, and keeps to a watermark all the same: it waits for something that it knows of, so it
    /// is not silent.
    pub fn on_promise(&mut self, partition: usize, watermark: Watermark, now: Millis) -> Vec<Effect> {
        self.see(now);
        let mut effects = Vec::new();
        self.partitions[partition].heard_at = self.now;
        let mut risen = None;
        if !self.merge.is_active(partition) {
            risen = self.merge.set_active(partition, true);
        }
        if self.idle {
            self.idle = false;
            effects.push(Effect::Active);
        }
        // The end of a partition is told by `on_end`, and by nothing else.
        risen = self.merge.advance(partition, Watermark(watermark.0.min(TIME_MAX))).or(risen);
        effects.extend(self.risen(risen));
        effects
    }

    /// Time has passed. Call it about every `idle_timeout / 10`, and at least every 100 ms where processing time is
    /// asked for.
    pub fn on_tick(&mut self, now: Millis) -> Vec<Effect> {
        self.see(now);
        let mut effects = Vec::new();
        if self.finish(&mut effects) {
            return effects;
        }
        if let Some(timeout) = self.idle_timeout {
            for i in 0..self.partitions.len() {
                if self.merge.is_active(i) && self.now.saturating_sub(self.partitions[i].heard_at) >= timeout {
                    let risen = self.merge.set_active(i, false);
                    effects.extend(self.risen(risen));
                }
            }
        }
        if let Some(behind) = self.follows_clock() {
            // A task that follows the clock is not idle: its watermark moves, and others wait for it.
            if !self.partitions.is_empty() && self.silent_for(self.idle_timeout.unwrap_or(behind)) {
                let risen = self.merge.lift(Watermark(self.now.saturating_sub(behind)));
                effects.extend(self.risen(risen));
            }
        } else if self.merge.idle() && !self.idle {
            self.idle = true;
            effects.push(Effect::Idle);
        }
        self.tell_time(&mut effects);
        effects
    }

    /// The partition may not give rows yet, since the rate of its table is limited, and was not asked: that is no silence.
    pub fn not_asked(&mut self, partition: usize, now: Millis) {
        self.see(now);
        if self.merge.is_active(partition) {
            self.partitions[partition].heard_at = self.now;
        }
    }

    /// The partition has ended; it holds nobody back from now on.
    pub fn on_end(&mut self, partition: usize, now: Millis) -> Vec<Effect> {
        self.see(now);
        self.partitions[partition].ended = true;
        let risen = if self.open {
            // More partitions may follow, so the end of this one promises nothing for the task.
            self.merge.set_active(partition, false)
        } else {
            self.merge.advance(partition, Watermark::MAX)
        };
        self.after_end(risen)
    }

    /// No more partitions will be added: the end of all is the end of the feed.
    pub fn close(&mut self, now: Millis) -> Vec<Effect> {
        self.see(now);
        self.open = false;
        let mut risen = None;
        for i in (0..self.partitions.len()).filter(|i| self.partitions[*i].ended) {
            risen = self.merge.advance(i, Watermark::MAX).or(risen);
        }
        self.after_end(risen)
    }

    fn after_end(&mut self, risen: Option<Watermark>) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.finish(&mut effects) {
            effects.extend(self.risen(risen));
        }
        effects
    }

    /// What is told of the watermark of event time.
    fn risen(&self, to: Option<Watermark>) -> Option<Effect> {
        to.filter(|_| !self.nothing_late).map(|to| Effect::Watermark(TimeDomain::Event, to))
    }

    fn see(&mut self, now: Millis) {
        self.now = self.now.max(now);
    }

    /// All partitions that have not ended have been silent for so long.
    fn silent_for(&self, span: Millis) -> bool {
        self.partitions.iter().filter(|p| !p.ended).all(|p| self.now.saturating_sub(p.heard_at) >= span)
    }

    /// Says once that everything has ended, when it has.
    fn finish(&mut self, effects: &mut Vec<Effect>) -> bool {
        if !self.ended && !self.open && self.merge.ended() {
            self.ended = true;
            effects.push(Effect::Watermark(TimeDomain::Event, Watermark::MAX));
            effects.push(Effect::Watermark(TimeDomain::Processing, Watermark::MAX));
            effects.push(Effect::End);
        }
        self.ended
    }

    fn tell_time(&mut self, effects: &mut Vec<Effect>) {
        let clock = Watermark(self.now.saturating_sub(1));
        if self.processing_time && clock > self.clock {
            self.clock = clock;
            effects.push(Effect::Watermark(TimeDomain::Processing, clock));
        }
    }

    /// Adds `$proctime`, evaluates the computed columns and takes out the rows without an event time.
    fn complete(
        &mut self,
        partition: usize,
        before: u64,
        (rows, kinds): (RecordBatch, Option<Int8Array>),
        bad: &mut Vec<BadRow>,
    ) -> Result<(RecordBatch, Option<Int8Array>)> {
        let rows = self.stamp(rows)?;
        let columns: Vec<ArrayRef> = match &mut self.computed {
            None => rows.columns().to_vec(),
            Some(computed) => computed
                .over(&rows)?
                .iter()
                .map(|e| e.evaluate(&rows))
                .collect::<Result<_>>()
                .map_err(|e| e.at(self.place(partition, before + 1)))?,
        };
        let nulls = self.watermark.as_ref().map_or(0, |w| columns[w.column].null_count());
        if nulls > 0 {
            let time = self.watermark.as_ref().map_or(0, |w| w.column);
            let gone = kinds.as_ref().filter(|_| self.by_key);
            let keep = self.without_time(partition, before, &rows, (&columns[time], gone), bad)?;
            let columns: Vec<ArrayRef> =
                columns.iter().map(|c| arrow::compute::filter(c, &keep)).collect::<Result<_, _>>()?;
            let kinds = match &kinds {
                Some(kinds) => Some(arrow::compute::filter(kinds, &keep)?.as_primitive().clone()),
                None => None,
            };
            return Ok((conform(&self.output, columns, keep.true_count())?, kinds));
        }
        Ok((conform(&self.output, columns, rows.num_rows())?, kinds))
    }

    fn stamp(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        if !self.processing_time {
            return Ok(rows);
        }
        let schema = self.completed.get_or_insert_with(|| {
            let stamp = Arc::new(Field::new(PROCESSING_TIME, ltz_millis(), false));
            let fields: Vec<_> = rows.schema().fields().iter().cloned().chain([stamp]).collect();
            Arc::new(Schema::new(fields))
        });
        let stamps = TimestampMillisecondArray::from_value(self.now, rows.num_rows()).with_timezone("UTC");
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(stamps));
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }

    /// A row without an event time has no place in the stream: it fails the job or is set aside; but for one that is `gone`
    /// and known by its key alone. Returns which rows stay.
    fn without_time(
        &self,
        partition: usize,
        before: u64,
        rows: &RecordBatch,
        (times, gone): (&ArrayRef, Option<&Int8Array>),
        bad: &mut Vec<BadRow>,
    ) -> Result<BooleanArray> {
        let name = self.watermark.as_ref().map_or("", |w| self.output.field(w.column).name().as_str());
        let reason = format!("the event time `{name}` is NULL");
        let mut keep = is_not_null(times)?;
        if let Some(kinds) = gone {
            let gone = kinds.values().iter().map(|k| Some(*k == ChangeKind::Delete as i8));
            keep = arrow::compute::or(&keep, &gone.collect())?;
        }
        // What was read, without what this task has stamped on it: the clock says nothing of why the row is bad.
        let stamped = usize::from(self.processing_time);
        let read = rows.project(&(0..rows.num_columns() - stamped).collect::<Vec<_>>())?;
        let missing = (0..times.len()).filter(|i| !keep.value(*i));
        for i in missing {
            let place = self.place(partition, before + i as u64 + 1);
            if !self.null_time_set_aside {
                return Err(Error::data(reason).at(place).remedy(
                    "repair the input, give the column a default with COALESCE in a computed column, or set such rows \
                     aside: SET 'millstream.bad-rows.table' = '<a declared table>'",
                ));
            }
            bad.push(BadRow { place, reason: reason.clone(), raw: row_as_json(&read, i) });
        }
        Ok(keep)
    }

    fn out_of_range(&self, partition: usize, before: u64, times: &[Millis]) -> Error {
        let (row, time) = (0u64..)
            .zip(times)
            .find(|(_, t)| t.unsigned_abs() > TIME_MAX.unsigned_abs())
            .map_or((0, 0), |(row, time)| (row, *time));
        Error::data(format!("the event time is {time} ms from 1970, which is no time"))
            .at(self.place(partition, before + row + 1))
            .remedy("repair the row, or make such times NULL in a computed column and set rows without a time aside")
    }

    fn place(&self, partition: usize, row: u64) -> Place {
        Place(format!("{}[{}] row {row}", self.table, self.partitions[partition].name))
    }

    /// Rows of a partition, with their `$watermark` where it is asked for, their marks where one of them may be late by
    /// another, and the partition's watermark after them.
    fn mark(
        &self,
        partition: usize,
        before: u64,
        rows: RecordBatch,
    ) -> Result<(RecordBatch, Option<Int64Array>, Watermark)> {
        let own = self.merge.watermark(partition);
        let Some(spec) = &self.watermark else { return Ok((rows, None, own)) };
        let bounds = self.merge.bounds(partition);
        let times = times_of(rows.column(spec.column))?;
        // A row that is gone and knows no time is never late, and promises nothing.
        let or = |unknown: Millis| -> Cow<'_, [Millis]> {
            match times.null_count() {
                0 => Cow::Borrowed(times.values()),
                _ => times.iter().map(|t| t.unwrap_or(unknown)).collect(),
            }
        };
        let (on_time, promised) = (or(Millis::MAX), or(Millis::MIN));
        let (least, most) = match times.null_count() {
            0 => span(times.values()),
            _ => span(&times.iter().flatten().collect::<Vec<_>>()),
        };
        if least < -TIME_MAX || most > TIME_MAX {
            return Err(self.out_of_range(partition, before, times.values()));
        }
        if let Some(delay) = spec.delay {
            let reached = Watermark(most.saturating_sub(delay).max(own.0));
            let promise = || promised.iter().map(|t| t.saturating_sub(delay));
            let marks = marks(own.0, bounds, (least, reached.0), &on_time, promise());
            let rows = self.with_watermarks(&rows, own.0, bounds, promise())?;
            return Ok((rows, marks, reached));
        }
        let promises = spec.expression.evaluate(&rows)?;
        let promises = times_of(&promises)?;
        let promise = || promises.iter().map(|p| p.unwrap_or(Millis::MIN));
        let reached = Watermark(promise().max().unwrap_or(Millis::MIN).max(own.0));
        let marks = marks(own.0, bounds, (least, reached.0), &on_time, promise());
        let rows = self.with_watermarks(&rows, own.0, bounds, promise())?;
        Ok((rows, marks, reached))
    }

    /// Appends `$watermark` where it is asked for: the mark of *every* row, also of those that cannot be late.
    fn with_watermarks(
        &self,
        rows: &RecordBatch,
        own: Millis,
        bounds: (Millis, Millis),
        promises: impl Iterator<Item = Millis>,
    ) -> Result<RecordBatch> {
        let Some(schema) = &self.watermarked else { return Ok(rows.clone()) };
        let known = |mark: Millis| (mark != Watermark::MIN.0).then_some(mark);
        let marks: TimestampMillisecondArray = marks_before(own, bounds, promises).map(known).collect();
        let kind = schema.field(schema.fields().len() - 1).data_type();
        let mut columns = rows.columns().to_vec();
        columns.push(arrow::compute::cast(&marks, kind)?);
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}

/// Event times further from 1970 than this (a million years) are damage, and would overflow what is computed from them.
const TIME_MAX: Millis = 1 << 55;

fn times_of(column: &ArrayRef) -> Result<&TimestampMillisecondArray> {
    column.as_any().downcast_ref::<TimestampMillisecondArray>().ok_or_else(|| {
        Error::internal(format!("a watermark needs a TIMESTAMP(3) column, this one is {}", column.data_type()))
    })
}

/// Least and most of a column; the loop is plain so that the compiler makes vector instructions of it.
fn span(times: &[Millis]) -> (Millis, Millis) {
    times.iter().fold((Millis::MAX, Millis::MIN), |(least, most), &t| (least.min(t), most.max(t)))
}

/// `own`: the partition's watermark before the rows. `bounds`: what a mark means behind the merge with the other
/// partitions. `reach`: the earliest row, and the partition's watermark after the rows.
fn marks(
    own: Millis,
    bounds: (Millis, Millis),
    (least, reached): (Millis, Millis),
    times: &[Millis],
    promises: impl Iterator<Item = Millis>,
) -> Option<Int64Array> {
    let (floor, ceiling) = bounds;
    // The usual case: even the last mark is before the earliest row.
    let highest = reached.min(ceiling).max(floor);
    if highest == floor || least > highest {
        return None;
    }
    let mut late = false;
    let marks: Vec<Millis> = times
        .iter()
        .zip(marks_before(own, bounds, promises))
        .map(|(&time, mark)| {
            late |= time <= mark && mark > floor;
            mark
        })
        .collect();
    late.then(|| Int64Array::from(marks))
}

/// The watermark before each row. Row by row, because each rests on all rows before it.
fn marks_before(
    own: Millis,
    (floor, ceiling): (Millis, Millis),
    promises: impl Iterator<Item = Millis>,
) -> impl Iterator<Item = Millis> {
    promises.scan(own, move |running, promise| {
        let mark = (*running).min(ceiling).max(floor);
        *running = promise.max(*running);
        Some(mark)
    })
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
