//! Each row of the left with the version of the right that held at its time.
//!
//! ```text
//!  right  10:00 v=1.10   10:03 v=1.15   10:08 gone      versions of each key, in order of time
//!  left         10:02 ─▶ 1.10   10:05 ─▶ 1.15   10:09 ─▶ none
//! ```
//!
//! A row of the left comes out when the watermark has reached its time: then every version up to it is known, in whatever
//! order versions came. What came out is never revised, so a row that comes behind the watermark is late and set aside. A
//! version that comes behind the watermark holds for the rows that are still to come out. Where a batch brings such a
//! version, the rows up to the watermark before it come out first: batch cuts decide nothing.
//!
//! Of the versions up to the watermark the last one of each key is remembered, also where that is a deletion: an older one
//! may still come, and must not hold again.

use super::memory::{Act, Blocks, Memory, matchable, times};
use super::pairs::{LEFT, Probe, RIGHT, Shape};
use super::runs::Run;
use super::saved::Ledger;
use super::store::NONE;
use crate::graph::{self, JoinKind};
use crate::operator::{Event, LateRows, Operator, Output, Watermarks};
use crate::over::pending::Pending;
use crate::rows::time_column;
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{Batch, ChangeKind, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use millstream_state::table::{Saver, TableDef};
use std::sync::Arc;

/// The operator of [`graph::TemporalJoin`].
pub struct Temporal {
    shape: Shape,
    left_keys: Vec<usize>,
    left_time: usize,
    null_equals_null: Vec<bool>,
    pending: Pending,
    waiting: Ledger,
    versions: Versions,
    /// The watermark, or the mark of a late version: rows up to it have come out.
    watermark: Watermark,
    acts: Vec<Act>,
    ids: Vec<u32>,
}

/// What is known of the right.
struct Versions {
    keys: Vec<usize>,
    time: usize,
    tolerance: Option<Millis>,
    /// The right's columns, and whether the version says that there is none.
    schema: SchemaRef,
    codec: KeyCodec,
    table: KeyTable,
    memory: Memory,
    /// By key.
    runs: Vec<Run>,
    released: Vec<bool>,
    /// By slot.
    key_of: Vec<u32>,
    deleted: Vec<bool>,
    /// Versions that the watermark has not passed.
    ahead: Blocks,
    /// Versions that it has passed, where they become too old.
    aging: Option<Blocks>,
    ledger: Ledger,
    tracking: bool,
}

/// Name of the column of the table `versions` that says that there is none from then on.
const DELETED: &str = "$deleted";

/// About how long a version is ahead of the watermark: what blocks of time are made for.
const AHEAD: Millis = 60_000;

impl Temporal {
    pub fn new(spec: &graph::TemporalJoin, inputs: &[SchemaRef], output: &SchemaRef) -> Result<Temporal> {
        let kind = if spec.outer { JoinKind::Left } else { JoinKind::Inner };
        let shape = Shape::new(kind, inputs, output, spec.residual.as_ref(), false)?;
        for side in [LEFT, RIGHT] {
            let field = inputs[side].field(spec.times[side]);
            time_column(field.data_type(), field.name())?;
        }
        let left_keys: Vec<usize> = spec.keys.iter().map(|k| k.0).collect();
        let plain = Memory::new(inputs[LEFT].clone(), false, false, false)?;
        Ok(Temporal {
            waiting: Ledger::new("waiting", &inputs[LEFT], Some(spec.times[LEFT]), &left_keys, &plain, false),
            left_keys,
            left_time: spec.times[LEFT],
            null_equals_null: vec![false; spec.keys.len()],
            pending: Pending::new(spec.times[LEFT], spec.order),
            versions: Versions::new(spec, &inputs[RIGHT])?,
            shape,
            watermark: Watermark::MIN,
            acts: Vec::new(),
            ids: Vec::new(),
        })
    }

    fn take_left(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        if batch.kinds.is_some() {
            return Err(Error::internal("the left of a temporal join only inserts"));
        }
        let row_times = times(&batch.rows, self.left_time)?;
        let mark = |row: usize| batch.mark(row, self.watermark);
        let (late, on_time): (Vec<u32>, Vec<u32>) =
            (0..batch.len() as u32).partition(|&i| row_times[i as usize] <= mark(i as usize).0);
        if late.is_empty() {
            return self.pending.add(batch.rows);
        }
        out.set_aside(LateRows {
            times: late.iter().map(|i| row_times[*i as usize]).collect::<Vec<_>>().into(),
            watermarks: late.iter().map(|i| mark(*i as usize).0).collect::<Int64Array>(),
            rows: take_record_batch(&batch.rows, &UInt32Array::from(late))?,
            reason: "the watermark had passed the row's time: the versions before it may be forgotten".to_owned(),
        })?;
        self.pending.add(take_record_batch(&batch.rows, &UInt32Array::from(on_time))?)
    }

    fn take_right(&mut self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let row_times = times(&batch.rows, self.versions.time)?;
        let columns: Vec<ArrayRef> = self.versions.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        let nulls = matchable(&columns, &self.null_equals_null);
        let kind = |row: usize| {
            batch.kinds.as_ref().map_or(ChangeKind::Insert, |kinds| ChangeKind::from_code(kinds.value(row)))
        };
        // What an update replaces is replaced by its new version; a NULL key is nobody's.
        let counts =
            |row: &usize| kind(*row) != ChangeKind::UpdateBefore && nulls.as_ref().is_none_or(|n| n.is_valid(*row));
        let deleted = BooleanArray::from_iter((0..batch.len()).map(|row| Some(kind(row) == ChangeKind::Delete)));
        let rows = self.versions.with_deleted(&batch.rows, deleted)?;
        let mut ready: Vec<u32> = Vec::with_capacity(batch.len());
        for row in (0..batch.len()).filter(counts) {
            let mark = batch.mark(row, self.watermark);
            if row_times[row] <= mark.0 && mark > self.watermark {
                self.versions.take_in(&rows, &ready, self.watermark)?;
                ready.clear();
                self.answer_through(mark, out)?;
            }
            ready.push(row as u32);
        }
        self.versions.take_in(&rows, &ready, self.watermark)
    }

    /// Lets the rows out that the watermark has reached.
    fn answer_through(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        let Temporal { shape, left_keys, null_equals_null, pending, versions, acts, ids, .. } = self;
        pending.take(to, |rows, row_times| {
            let columns: Vec<ArrayRef> = left_keys.iter().map(|k| rows.column(*k).clone()).collect();
            let nulls = matchable(&columns, null_equals_null);
            versions.assign(&columns, row_times.len(), ids)?;
            acts.clear();
            acts.resize(row_times.len(), Act { sign: 1, slot: NONE, fresh: true, new: false, waits: false });
            let slots: Vec<u32> = (0..row_times.len())
                .map(|row| match nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                    true => versions.at(ids[row], row_times[row]),
                    false => NONE,
                })
                .collect();
            let mut probe = Probe::new(shape, LEFT, rows, acts, None, &mut versions.memory, out);
            for (row, slot) in slots.into_iter().enumerate() {
                if slot != NONE {
                    probe.candidate(row, slot)?;
                }
                probe.end_row(row);
            }
            probe.finish()?;
            versions.release(ids);
            Ok(())
        })?;
        if self.watermark < to {
            self.watermark = to;
            self.waiting.drop_through(to.0);
        }
        self.versions.forget_through(to)
    }
}

impl Versions {
    fn new(spec: &graph::TemporalJoin, right: &SchemaRef) -> Result<Versions> {
        let keys: Vec<usize> = spec.keys.iter().map(|k| k.1).collect();
        let types: Vec<_> = keys.iter().map(|k| right.field(*k).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let fields = right.fields().iter().cloned();
        let fields = fields.chain([Arc::new(Field::new(DELETED, DataType::Boolean, false))]);
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let memory = Memory::new(schema.clone(), false, false, false)?;
        Ok(Versions {
            ledger: Ledger::new("versions", &schema, Some(spec.times[RIGHT]), &keys, &memory, true),
            keys,
            time: spec.times[RIGHT],
            tolerance: spec.tolerance,
            schema,
            table: codec.table(),
            codec,
            memory,
            runs: Vec::new(),
            released: Vec::new(),
            key_of: Vec::new(),
            deleted: Vec::new(),
            ahead: Blocks::new(AHEAD),
            aging: spec.tolerance.map(Blocks::new),
            tracking: false,
        })
    }

    fn with_deleted(&self, rows: &RecordBatch, deleted: BooleanArray) -> Result<RecordBatch> {
        let deleted: ArrayRef = Arc::new(deleted);
        let columns = rows.columns().iter().cloned().chain([deleted]).collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn assign(&mut self, columns: &[ArrayRef], rows: usize, ids: &mut Vec<u32>) -> Result<()> {
        self.table.assign(&self.codec.encode(columns, rows)?, 0..rows, ids);
        let keys = self.table.len().max(self.runs.len());
        self.runs.resize_with(keys, Run::default);
        self.released.resize(keys, false);
        ids.iter().for_each(|id| self.released[*id as usize] = false);
        Ok(())
    }

    /// Forgets those of the keys that have no version.
    fn release(&mut self, keys: &[u32]) {
        for key in keys {
            let at = *key as usize;
            if self.runs[at].len() == 0 && !std::mem::replace(&mut self.released[at], true) {
                self.table.release(*key);
            }
        }
    }

    /// Takes these rows of a batch in, in their order.
    fn take_in(&mut self, rows: &RecordBatch, indices: &[u32], watermark: Watermark) -> Result<()> {
        if indices.is_empty() {
            return Ok(());
        }
        let rows = match indices.len() == rows.num_rows() {
            true => rows.clone(),
            false => take_record_batch(rows, &UInt32Array::from(indices.to_vec()))?,
        };
        let mut acts = Vec::new();
        self.memory.apply(&rows.clone().into(), |_| true, &mut acts)?;
        let slots: Vec<u32> = acts.iter().map(|a| a.slot).collect();
        self.ledger.name(slots.iter().copied());
        self.link(&rows, &slots, watermark)
    }

    /// Puts rows that have slots to the versions of their keys.
    fn link(&mut self, rows: &RecordBatch, slots: &[u32], watermark: Watermark) -> Result<()> {
        let columns: Vec<ArrayRef> = self.keys.iter().map(|k| rows.column(*k).clone()).collect();
        let row_times = times(rows, self.time)?;
        let deleted = rows.column(self.schema.fields().len() - 1).as_boolean().clone();
        let mut ids = Vec::new();
        self.assign(&columns, rows.num_rows(), &mut ids)?;
        let mut gone = Vec::new();
        // Row by row: a version may take the place of one of the same batch.
        for (row, slot) in slots.iter().enumerate() {
            let (key, time, at) = (ids[row], row_times[row], *slot as usize);
            self.key_of.resize(self.key_of.len().max(at + 1), NONE);
            self.deleted.resize(self.deleted.len().max(at + 1), false);
            (self.key_of[at], self.deleted[at]) = (key, deleted.value(row));
            let run = &mut self.runs[key as usize];
            let place = run.partition_point(|t| t < time);
            match run.get(place) {
                Some((same, other)) if same == time => {
                    run.replace(place, *slot);
                    gone.push(other);
                }
                // Every row to come finds a later one, which the watermark has passed too.
                Some((later, _)) if later <= watermark.0 => {
                    gone.push(*slot);
                    continue;
                }
                _ => run.insert(time, *slot),
            }
            self.ahead.push(time, *slot);
        }
        self.forget(&gone)?;
        self.release(&ids);
        Ok(())
    }

    /// The version of the key at a time.
    fn at(&self, key: u32, time: Millis) -> u32 {
        let run = &self.runs[key as usize];
        let Some(last) = run.partition_point(|t| t <= time).checked_sub(1) else { return NONE };
        let Some((since, slot)) = run.get(last) else { return NONE };
        let too_old = self.tolerance.is_some_and(|most| since.saturating_add(most) < time);
        if self.deleted[slot as usize] || too_old { NONE } else { slot }
    }

    /// Every row to come has a later time: forgets the versions that none of them finds.
    fn forget_through(&mut self, watermark: Watermark) -> Result<()> {
        let (mut popped, mut gone, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        self.ahead.pop_through(watermark.0, &mut popped);
        for (time, slot) in popped.iter().copied() {
            // Another version may have taken its place, or its slot.
            let Some(key) = self.key_of.get(slot as usize).copied().filter(|k| *k != NONE) else { continue };
            let run = &mut self.runs[key as usize];
            while run.get(1).is_some_and(|next| next.0 <= watermark.0) {
                gone.extend(run.pop_front().map(|r| r.1));
            }
            if let Some(aging) = self.aging.as_mut().filter(|_| run.get(0) == Some((time, slot))) {
                aging.push(time, slot);
            }
            keys.push(key);
        }
        if let (Some(aging), Some(tolerance)) = (&mut self.aging, self.tolerance) {
            aging.pop_through(watermark.0.saturating_sub(tolerance), &mut popped);
            for (time, slot) in popped {
                let Some(key) = self.key_of.get(slot as usize).copied().filter(|k| *k != NONE) else { continue };
                let run = &mut self.runs[key as usize];
                if run.get(0) == Some((time, slot)) {
                    run.pop_front();
                    gone.push(slot);
                    keys.push(key);
                }
            }
        }
        self.forget(&gone)?;
        self.release(&keys);
        Ok(())
    }

    fn forget(&mut self, slots: &[u32]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        self.ledger.delete(&mut self.memory, slots)?;
        slots.iter().for_each(|s| self.key_of[*s as usize] = NONE);
        self.memory.forget(slots)
    }

    fn bytes(&self) -> usize {
        let rows = self.memory.rows.len() * size_of::<(Millis, u32)>();
        let blocks = self.ahead.bytes() + self.aging.as_ref().map_or(0, Blocks::bytes);
        let by_key = self.runs.capacity() * size_of::<Run>() + self.released.capacity();
        let by_slot = self.key_of.capacity() * 4 + self.deleted.capacity();
        self.memory.bytes() + self.table.bytes() + rows + blocks + by_key + by_slot + self.ledger.bytes()
    }
}

impl Operator for Temporal {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { input: LEFT, batch } => self.take_left(batch, out),
            Event::Batch { input: RIGHT, batch } => self.take_right(&batch, out),
            Event::Batch { .. } => Err(Error::internal("a join has two inputs")),
            Event::Watermark(domain, to) => {
                if domain == TimeDomain::Event && to > self.watermark {
                    self.answer_through(to, out)?;
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.pending.bytes() + self.versions.bytes()
    }

    /// Versions are forgotten in silence.
    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        self.pending.first_time().filter(|_| domain == TimeDomain::Event).map(Watermark)
    }

    fn tables(&self) -> Vec<TableDef> {
        vec![self.waiting.table.clone(), self.versions.ledger.table.clone()]
    }

    fn track_changes(&mut self) {
        self.waiting.track();
        self.versions.ledger.track();
        self.versions.memory.track();
        self.versions.tracking = true;
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.waiting.save_drops(saver)?;
        for rows in self.pending.save(saver.whole() || !self.versions.tracking)? {
            self.waiting.put(&rows, saver)?;
        }
        self.versions.ledger.save(&mut self.versions.memory, saver)
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        if table == self.waiting.table.name {
            return self.pending.load(self.waiting.in_input_columns(rows)?);
        }
        let versions = &mut self.versions;
        if table != versions.ledger.table.name {
            return Err(Error::internal(format!("there is no table `{table}` to load")));
        }
        let (rows, slots) = versions.ledger.load(&mut versions.memory, rows)?;
        // None is superseded that was saved.
        versions.link(&rows, &slots, Watermark::MIN)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.watermark = watermarks.event;
        Ok(())
    }
}
