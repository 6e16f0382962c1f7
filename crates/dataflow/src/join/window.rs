//! Rows of the same window, joined once, when the watermark closes it.
//!
//! ```text
//!  left   ─▶ [10:00, 10:05): rows  ─┐
//!  right  ─▶ [10:00, 10:05): rows  ─┴─ watermark 10:04:59.999 ─▶ pairs, and who found no partner ─▶ forgotten
//! ```
//!
//! A row of a window that the watermark before it has closed is late and set aside. All rows of a window have come when it
//! is joined, so nothing is ever revised.

use super::memory::{Act, Chains, Memory, matchable};
use super::pairs::{LEFT, Probe, RIGHT, Shape};
use super::saved::Ledger;
use super::store::NONE;
use crate::graph;
use crate::operator::{Event, LateRows, Operator, Output, ROWS_MAX, Watermarks};
use crate::rows::time_column;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::keys::KeyCodec;
use millstream_state::table::{Saver, TableDef};
use std::collections::BTreeMap;

/// The operator of [`graph::JoinScope::Window`].
pub(super) struct Window {
    shape: Shape,
    keys: [Vec<usize>; 2],
    null_equals_null: Vec<bool>,
    ends: [usize; 2],
    domain: TimeDomain,
    codec: KeyCodec,
    /// By their ends; windows that end together are joined together, the start is among the keys.
    open: BTreeMap<Millis, [Memory; 2]>,
    ledgers: [Ledger; 2],
    tracking: bool,
    watermark: Watermark,
}

impl Window {
    /// `ends`: of each side, the column with the window's end.
    pub fn new(
        spec: &graph::Join,
        ends: [usize; 2],
        domain: TimeDomain,
        inputs: &[SchemaRef],
        output: &SchemaRef,
    ) -> Result<Window> {
        let shape = Shape::new(spec.kind, inputs, output, spec.residual.as_ref(), false)?;
        for side in [LEFT, RIGHT] {
            let field = inputs[side].field(ends[side]);
            time_column(field.data_type(), field.name())?;
        }
        let types: Vec<_> = spec.keys.iter().map(|k| inputs[LEFT].field(k.0).data_type().clone()).collect();
        let keys = [spec.keys.iter().map(|k| k.0).collect::<Vec<_>>(), spec.keys.iter().map(|k| k.1).collect()];
        // What a window remembers of a row does not change before the window is joined: its table is a log.
        let plain = |side: usize| Memory::new(inputs[side].clone(), false, false, false);
        let ledger = |side: usize, name: &str| -> Result<Ledger> {
            Ok(Ledger::new(name, &inputs[side], Some(ends[side]), &keys[side], &plain(side)?, false))
        };
        Ok(Window {
            ledgers: [ledger(LEFT, "left")?, ledger(RIGHT, "right")?],
            keys,
            null_equals_null: spec.null_equals_null.clone(),
            ends,
            domain,
            codec: KeyCodec::new(&types)?,
            open: BTreeMap::new(),
            tracking: false,
            watermark: Watermark::MIN,
            shape,
        })
    }

    fn ends(&self, side: usize, rows: &RecordBatch) -> Result<ScalarBuffer<Millis>> {
        super::memory::times(rows, self.ends[side])
    }

    /// The rows of the windows that end then.
    fn at(&mut self, end: Millis) -> Result<&mut [Memory; 2]> {
        if !self.open.contains_key(&end) {
            let memory = |side: usize| -> Result<Memory> {
                let mut memory = Memory::new(self.shape.inputs[side].clone(), false, false, false)?;
                if self.tracking {
                    memory.track();
                }
                Ok(memory)
            };
            self.open.insert(end, [memory(LEFT)?, memory(RIGHT)?]);
        }
        self.open.get_mut(&end).ok_or_else(|| Error::internal("a window that has just been opened is gone"))
    }

    fn take_in(&mut self, side: usize, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        if batch.kinds.is_some() {
            return Err(Error::internal("a window join's inputs only insert"));
        }
        let ends = self.ends(side, &batch.rows)?;
        let by_marks = self.domain == TimeDomain::Event;
        let mark = |row: usize| if by_marks { batch.mark(row, self.watermark) } else { self.watermark };
        let (late, on_time): (Vec<u32>, Vec<u32>) =
            (0..ends.len() as u32).partition(|&i| mark(i as usize).closes(ends[i as usize]));
        if !late.is_empty() {
            out.set_aside(LateRows {
                times: late.iter().map(|i| ends[*i as usize].saturating_sub(1)).collect::<Vec<_>>().into(),
                watermarks: late.iter().map(|i| mark(*i as usize).0).collect::<Int64Array>(),
                rows: take_record_batch(&batch.rows, &UInt32Array::from(late))?,
                reason: "the row's window had been closed by the watermark, and joined".to_owned(),
            })?;
        }
        let on_time = match on_time.len() == batch.len() {
            true => batch.rows.clone(),
            false => take_record_batch(&batch.rows, &UInt32Array::from(on_time))?,
        };
        self.put(side, &on_time, false)
    }

    /// Puts rows to those of their windows.
    fn put(&mut self, side: usize, rows: &RecordBatch, saved: bool) -> Result<()> {
        let ends = self.ends(side, rows)?;
        let mut order: Vec<u32> = (0..ends.len() as u32).collect();
        if !ends.is_sorted() {
            order.sort_by_key(|i| ends[*i as usize]);
        }
        let mut acts = Vec::new();
        for run in order.chunk_by(|a, b| ends[*a as usize] == ends[*b as usize]) {
            let mine = match run.len() == rows.num_rows() {
                true => rows.clone(),
                false => take_record_batch(rows, &UInt32Array::from(run.to_vec()))?,
            };
            let memory = &mut self.at(ends[run[0] as usize])?[side];
            match saved {
                true => drop(memory.load(mine, None, None)?),
                false => memory.apply(&mine.into(), |_| true, &mut acts)?,
            }
        }
        Ok(())
    }

    fn close_through(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        self.watermark = to;
        while let Some(first) = self.open.first_entry().filter(|f| to.closes(*f.key())) {
            let (end, [left, right]) = first.remove_entry();
            self.ledgers.iter_mut().for_each(|l| l.drop_through(end));
            self.join(left, right, out)?;
        }
        Ok(())
    }

    /// All pairs of windows that end together.
    fn join(&self, mut left: Memory, mut right: Memory, out: &mut dyn Output) -> Result<()> {
        right.counted = self.shape.counted(RIGHT);
        right.matches = vec![0; if right.counted { right.rows.slots() } else { 0 }];
        let (mut keys, mut chains, mut ids) = (self.codec.table(), Chains::new(false), Vec::new());
        // Slots were given in order, and none has been given back.
        for slots in slots_of(&right).chunks(ROWS_MAX) {
            let columns = right.rows.gather(slots, &self.keys[RIGHT])?;
            keys.assign(&self.codec.encode(&columns, slots.len())?, 0..slots.len(), &mut ids);
            let nulls = matchable(&columns, &self.null_equals_null);
            let linked = |row: &usize| nulls.as_ref().is_none_or(|n| n.is_valid(*row));
            (0..slots.len()).filter(linked).for_each(|row| chains.link(ids[row], slots[row]));
        }
        for slots in slots_of(&left).chunks(ROWS_MAX) {
            let rows = left.rows.rows_at(slots)?;
            let columns: Vec<ArrayRef> = self.keys[LEFT].iter().map(|k| rows.column(*k).clone()).collect();
            keys.assign(&self.codec.encode(&columns, slots.len())?, 0..slots.len(), &mut ids);
            let nulls = matchable(&columns, &self.null_equals_null);
            let acts = vec![Act { sign: 1, slot: NONE, fresh: true, new: false, waits: false }; slots.len()];
            let mut probe = Probe::new(&self.shape, LEFT, &rows, &acts, None, &mut right, out);
            for (row, id) in ids.iter().enumerate() {
                if nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                    let mut slot = chains.first(*id);
                    while slot != NONE {
                        probe.candidate(row, slot)?;
                        slot = chains.next(slot);
                    }
                }
                probe.end_row(row);
            }
            probe.finish()?;
        }
        if self.shape.lonely(RIGHT) {
            let alone: Vec<u32> = slots_of(&right).into_iter().filter(|s| right.matches[*s as usize] == 0).collect();
            self.shape.emit_padded(RIGHT, &mut right, &alone, out)?;
        }
        Ok(())
    }
}

fn slots_of(memory: &Memory) -> Vec<u32> {
    (0..memory.rows.slots() as u32).collect()
}

impl Operator for Window {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { input, batch } if input < 2 => self.take_in(input, &batch, out),
            Event::Batch { .. } => Err(Error::internal("a join has two inputs")),
            Event::Watermark(domain, to) => {
                if domain == self.domain && to > self.watermark {
                    self.close_through(to, out)?;
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.open.values().flatten().map(Memory::bytes).sum()
    }

    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        let (end, _) = self.open.first_key_value().filter(|_| domain == self.domain)?;
        Some(Watermark(end.saturating_sub(1)))
    }

    fn tables(&self) -> Vec<TableDef> {
        self.ledgers.iter().map(|l| l.table.clone()).collect()
    }

    fn track_changes(&mut self) {
        self.tracking = true;
        self.ledgers.iter_mut().for_each(Ledger::track);
        self.open.values_mut().flatten().for_each(Memory::track);
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        for (side, ledger) in self.ledgers.iter_mut().enumerate() {
            ledger.save_drops(saver)?;
            for memory in self.open.values_mut() {
                ledger.save_rows(&mut memory[side], saver)?;
            }
        }
        Ok(())
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        let side = self.ledgers.iter().position(|l| l.table.name == table);
        let side = side.ok_or_else(|| Error::internal(format!("there is no table `{table}` to load")))?;
        let rows = self.ledgers[side].in_input_columns(rows)?;
        self.put(side, &rows, true)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.watermark = watermarks.of(self.domain);
        Ok(())
    }
}
