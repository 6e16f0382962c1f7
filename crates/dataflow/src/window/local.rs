//! Aggregation before the exchange: rows of one task become one row for each slice and key.
//!
//! ```text
//!  rows ──▶ local tables by slice ──a watermark completes the slice, or there is no more room──▶ port 0: partials
//!   └─ rows of a slice that the watermark here has completed ──────────────────────────────────▶ port 1: as they are
//! ```
//!
//! Partials are keys, the slice (two columns), and the records of the calls. A slice is handed on before the watermark
//! that completes it, so partials are never late; what may be late is judged where the windows are. Before a barrier
//! everything is handed on: a checkpoint finds nothing here.

use super::grid::{Grid, SliceId};
use super::table::{Grouping, Rows, Table};
use super::{Timing, all_within};
use crate::aggregate::{Accumulators, Plan};
use crate::graph;
use crate::local::LocalSpec;
use crate::operator::{Event, Operator, Output, ROWS_MAX, Watermarks};
use arrow::array::*;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::{Batch, ByteSize, Error, Millis, Result, Watermark};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that a local aggregation holds at most before it hands everything on.
pub const HELD_BYTES_MAX: ByteSize = ByteSize::mib(16);

/// How a window aggregation is split in two; `None` where it cannot be: sessions, and calls whose state is more than
/// a record of fixed size.
pub fn split(node: &graph::WindowAggregate, input: &Schema) -> Option<LocalSpec> {
    Grid::new(&node.window).ok()??;
    let plan = Plan::new(&node.calls, &Arc::new(input.clone()), None, None).ok()?;
    if !plan.records_only() || node.lateness > 0 {
        return None;
    }
    let mut fields: Vec<Field> = node.keys.iter().map(|k| input.field(*k).clone()).collect();
    fields.push(Field::new("$slice", DataType::Int64, false));
    fields.push(Field::new("$slice_other", DataType::Int64, false));
    fields.extend(Accumulators::partial_fields(&plan));
    let (mut keys, mut raw_keys): (Vec<usize>, Vec<usize>) = ((0..node.keys.len()).collect(), node.keys.clone());
    if let graph::Window::Attached { start, end } = node.window {
        // A window goes to the same task by its rows and by its partials, whose slice is (end, start): a restored job
        // may have the one exchange where it had the other.
        keys.extend([node.keys.len() + 1, node.keys.len()]);
        raw_keys.extend([start, end]);
    }
    Some(LocalSpec { partials: Arc::new(Schema::new(fields)), keys, raw_keys })
}

/// Makes the local half of a node for which [`split`] gave `spec`.
pub fn build_local(node: &graph::WindowAggregate, input: &Schema, spec: &LocalSpec) -> Result<Box<dyn Operator>> {
    let input = Arc::new(input.clone());
    let grid = Grid::new(&node.window)?.ok_or_else(|| Error::internal("sessions have no grid"))?;
    let plan = Plan::new(&node.calls, &input, Some(node.time.column), node.order)?;
    Ok(Box::new(LocalAggregate {
        timing: Timing::new(node, grid)?,
        grouping: Grouping::new(&node.keys, plan, &input)?,
        schema: spec.partials.clone(),
        slices: BTreeMap::new(),
        spare: Vec::new(),
        local_watermark: Watermark::MIN,
        held_bytes_max: HELD_BYTES_MAX.0 as usize,
        held: 0,
        ids: Vec::new(),
    }))
}

struct LocalAggregate {
    timing: Timing,
    grouping: Grouping,
    schema: SchemaRef,
    slices: BTreeMap<SliceId, (Table, usize)>,
    spare: Vec<Table>,
    local_watermark: Watermark,
    held_bytes_max: usize,
    held: usize,
    ids: Vec<u32>,
}

impl LocalAggregate {
    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let times = self.timing.read(&batch)?;
        let grid = self.timing.grid;
        let watermark = self.local_watermark.0;
        if times.attached.is_none() && times.marks.is_none() {
            let slice = grid.slice(times.local.value(0));
            if all_within(times.local.values(), slice.0, slice.1 - 1) && !self.local_watermark.closes(slice.1) {
                let rows = self.grouping.read(&batch.rows)?;
                self.add(slice, &rows, 0..batch.len())?;
                return self.bound(out);
            }
        }
        let mut by_slice: BTreeMap<SliceId, Vec<u32>> = BTreeMap::new();
        let mut raw = Vec::new();
        let mut last: Option<(SliceId, bool)> = None;
        let mut run: Vec<u32> = Vec::new();
        for row in 0..batch.len() {
            // Neighbours mostly share their slice: the map is asked only where it changes.
            let id = match (&times.attached, last) {
                (Some((ends, starts)), _) => (ends.value(row), starts.value(row)),
                (None, Some((id, _))) if (id.0..id.1).contains(&times.local.value(row)) => id,
                _ => grid.slice(times.local.value(row)),
            };
            let mark = times.marks.as_ref().map_or(watermark, |m| m[row].max(watermark));
            if Watermark(mark).closes(grid.span(id).1) {
                raw.push(row as u32);
                continue;
            }
            if last.is_none_or(|(known, _)| known != id) {
                if let Some((known, _)) = last {
                    by_slice.insert(known, std::mem::take(&mut run));
                }
                run = by_slice.remove(&id).unwrap_or_default();
                last = Some((id, true));
            }
            run.push(row as u32);
        }
        if let Some((known, _)) = last {
            by_slice.insert(known, run);
        }
        if !raw.is_empty() {
            out.emit(1, batch.take(&UInt32Array::from(raw))?)?;
        }
        let (mut order, mut ranges) = (Vec::with_capacity(batch.len()), Vec::new());
        for (id, mut rows) in by_slice {
            ranges.push((id, order.len()..order.len() + rows.len()));
            order.append(&mut rows);
        }
        if order.is_empty() {
            return Ok(());
        }
        let sorted = match order.len() == batch.len() && order.is_sorted() {
            true => batch.rows,
            false => take_record_batch(&batch.rows, &UInt32Array::from(order))?,
        };
        let rows = self.grouping.read(&sorted)?;
        for (id, range) in ranges {
            self.add(id, &rows, range)?;
        }
        self.bound(out)
    }

    fn add(&mut self, id: SliceId, rows: &Rows, range: Range<usize>) -> Result<()> {
        let (spare, grouping) = (&mut self.spare, &self.grouping);
        let fresh = || (spare.pop().unwrap_or_else(|| grouping.table()), 0);
        let (table, bytes) = self.slices.entry(id).or_insert_with(fresh);
        table.add(grouping, rows, range, &mut self.ids)?;
        self.held -= *bytes;
        *bytes = table.bytes();
        self.held += *bytes;
        Ok(())
    }

    /// Hands everything on when there is no more room.
    fn bound(&mut self, out: &mut dyn Output) -> Result<()> {
        if self.held > self.held_bytes_max { self.hand_on(Millis::MAX, out) } else { Ok(()) }
    }

    /// Hands on the slices that end at or before this.
    fn hand_on(&mut self, end: Millis, out: &mut dyn Output) -> Result<()> {
        let due: Vec<SliceId> = self.slices.keys().copied().filter(|id| self.timing.grid.span(*id).1 <= end).collect();
        for id in due {
            let (mut table, bytes) = self.slices.remove(&id).expect("it is one of them");
            self.held -= bytes;
            let mut from = 0;
            while from < table.len() {
                let to = (from + ROWS_MAX).min(table.len());
                let mut columns = self.grouping.codec.decode(&table.keys, from..to)?;
                columns.push(Arc::new(Int64Array::from_value(id.0, to - from)));
                columns.push(Arc::new(Int64Array::from_value(id.1, to - from)));
                columns.extend(table.state.partials(from..to));
                out.emit(0, Batch::from(RecordBatch::try_new(self.schema.clone(), columns)?))?;
                from = to;
            }
            if self.spare.len() < super::SPARE_MAX {
                table.clear();
                self.spare.push(table);
            }
        }
        Ok(())
    }
}

impl Operator for LocalAggregate {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(batch, out),
            Event::Watermark(domain, to) => {
                if domain == self.timing.domain {
                    self.local_watermark = self.timing.local(to).max(self.local_watermark);
                    self.hand_on(self.local_watermark.0.saturating_add(1), out)?;
                }
                out.advance(domain, to)
            }
            Event::End => self.hand_on(Millis::MAX, out),
        }
    }

    /// Everything: so there is nothing to remember.
    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        self.hand_on(Millis::MAX, out)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.local_watermark = self.timing.local(watermarks.of(self.timing.domain));
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.held + self.spare.iter().map(Table::bytes).sum::<usize>()
    }
}
