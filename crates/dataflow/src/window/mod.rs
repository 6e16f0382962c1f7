//! `GROUP BY window_start, window_end, keys`.
//!
//! ```text
//!  rows ──by slice──▶ tables of open slices ──the watermark completes a window──▶ its slices joined ──▶ result
//!                          ▲                                                       (tumble: the slice itself)
//!  partials of local ──────┘
//! ```
//!
//! A row is added to one slice, however many windows overlap there. A hopping window whose aggregates can be taken
//! back is kept running: the new slices are added, the old ones taken away, so an emission costs what changes and what
//! is emitted, not size / slide. MIN, MAX and DISTINCT cannot be taken back: such a window is joined anew from its
//! slices each time (size / gcd(size, slide) of them). A cumulating window only ever grows, so it always runs.
//!
//! Always true:
//! - A row is judged by its own mark, so batch cuts do not matter. Where a row is late for some of its windows and the
//!   operator has not yet fired those, the row waits until it has.
//! - A window fires once, when the watermark closes it, in the order of the ends; with allowed lateness again, at once,
//!   for the keys that a late row touches, until the watermark forgets it.
//! - What is remembered is bounded by the windows that are open or may still change.
//!
//! Above its share of the memory, slices go to scratch space and windows are joined range by range: [`spill`].
//!
//! With a zone, all times in here are local readings of its clock; `window_time` is turned back into an instant.
//!
//! Here too: [`local`] (aggregation before the exchange), [`session`] (windows that the rows themselves make) and [`panes`]
//! (results that are told before a window closes, and again for late rows).

#[cfg(test)]
mod crash;
mod emit;
mod grid;
pub mod local;
#[cfg(test)]
mod model;
pub mod panes;
mod saved;
pub mod session;
mod spill;
#[cfg(test)]
mod spill_tests;
mod table;
#[cfg(test)]
mod tests;

use crate::aggregate::{Accumulators, Plan};
use crate::graph::{self, Window};
use crate::operator::{Event, LateRows, Operator, Output, Watermarks};
use crate::shelves;
use crate::zone::Zone;
use arrow::array::*;
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef, TimestampMillisecondType};
use emit::Emitter;
use grid::{Grid, SliceId};
use millstream_core::time::format_millis;
use millstream_core::{Batch, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::table::{Saver, TableDef};
use millstream_state::tier::Spill;
use saved::{Tables, Waiting};
use spill::{Below, Run};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use table::{Grouping, Table};

/// Makes the operator of a node. With `local_partials` it has a second input, of what local aggregations of the same
/// node (see [`split`]) have made of the rows.
pub fn build(node: &graph::WindowAggregate, input: &Schema, local_partials: bool) -> Result<Box<dyn Operator>> {
    let input = Arc::new(input.clone());
    if let Window::Session { gap, .. } = node.window {
        let (node, of) = (node.clone(), input.clone());
        let keys = node.keys.clone();
        let make: shelves::Make = Box::new(move || Ok(Box::new(session::SessionAggregate::new(&node, gap, &of)?)));
        return shelves::wrap(make, std::slice::from_ref(&input), &[&keys]);
    }
    Ok(Box::new(WindowAggregate::new(node, &input, local_partials)?))
}

/// What all window aggregations read of their rows.
struct Timing {
    window: Window,
    column: usize,
    domain: TimeDomain,
    zone: Zone,
    grid: Grid,
}

/// The columns that say when.
struct Times {
    /// By row, in the zone's local time. For attached windows: the last instant of the window.
    local: Int64Array,
    /// Ends and starts of attached windows.
    attached: Option<(Int64Array, Int64Array)>,
    /// By row: the watermark to judge it by, where the batch has marks.
    marks: Option<Vec<Millis>>,
}

fn integers(rows: &RecordBatch, column: usize) -> Result<Int64Array> {
    let array = rows.column(column);
    let Some(times) = array.as_primitive_opt::<TimestampMillisecondType>() else {
        let name = rows.schema().field(column).name().clone();
        return Err(Error::internal(format!("the time column `{name}` has type {}", array.data_type())));
    };
    if times.null_count() > 0 {
        let name = rows.schema().field(column).name().clone();
        return Err(Error::data(format!("the time `{name}` of a row is NULL, so it belongs to no window"))
            .remedy("filter with `IS NOT NULL`, or set such rows aside at the source"));
    }
    Ok(Int64Array::new(times.values().clone(), None))
}

impl Timing {
    fn new(node: &graph::WindowAggregate, grid: Grid) -> Result<Timing> {
        let zone = match &node.time.zone {
            Some(zone) => Zone::parse(zone)?,
            None => Zone::UTC,
        };
        Ok(Timing { window: node.window.clone(), column: node.time.column, domain: node.time.domain, zone, grid })
    }

    fn is_utc(&self) -> bool {
        matches!(self.zone, Zone::Fixed { offset: 0 })
    }

    fn local(&self, watermark: Watermark) -> Watermark {
        if self.is_utc() { watermark } else { self.zone.watermark_to_local(watermark) }
    }

    fn read(&self, batch: &Batch) -> Result<Times> {
        if batch.kinds.as_ref().is_some_and(|k| k.values().iter().any(|k| *k != 0)) {
            return Err(Error::sql("a window aggregation over results that are corrected later is not there yet")
                .remedy("set the allowed lateness of the inner window to 0"));
        }
        let attached = match self.window {
            Window::Attached { start, end } => Some((integers(&batch.rows, end)?, integers(&batch.rows, start)?)),
            _ => None,
        };
        let local = match &attached {
            Some((ends, _)) => ends.unary(|end: i64| end.saturating_sub(1)),
            None if self.is_utc() => integers(&batch.rows, self.column)?,
            None => Int64Array::from(self.zone.column_to_local(integers(&batch.rows, self.column)?.values())),
        };
        let marks = batch.marks.as_ref().map(|marks| {
            if self.is_utc() {
                return marks.values().to_vec();
            }
            // Marks stand still for long runs: each is turned once.
            let mut last = (Watermark::MIN, self.local(Watermark::MIN));
            let local = |m: &Millis| {
                if last.0.0 != *m {
                    last = (Watermark(*m), self.local(Watermark(*m)));
                }
                last.1.0
            };
            marks.values().iter().map(local).collect()
        });
        Ok(Times { local, attached, marks })
    }

    /// Sets rows aside that are late everywhere. `rows` of one slice, or of one session.
    fn set_aside(
        &self,
        batch: &Batch,
        rows: &[u32],
        watermark: Watermark,
        window: (Millis, Millis),
        out: &mut dyn Output,
    ) -> Result<()> {
        let indices = UInt32Array::from(rows.to_vec());
        let times = match self.window {
            Window::Attached { end, .. } => integers(&batch.rows, end)?.unary(|end: i64| end.saturating_sub(1)),
            _ => integers(&batch.rows, self.column)?,
        };
        let times: Int64Array = rows.iter().map(|i| Some(times.value(*i as usize))).collect();
        let watermarks: Int64Array = rows.iter().map(|i| Some(batch.mark(*i as usize, watermark).0)).collect();
        let (start, end) = window;
        let reason =
            format!("the row's last window, [{}, {}), was closed already", format_millis(start), format_millis(end));
        out.set_aside(LateRows { rows: take_record_batch(&batch.rows, &indices)?, times, watermarks, reason })
    }
}

/// Windows that lie on a grid: tumbling, hopping, cumulating, and those that rows bring along.
struct WindowAggregate {
    timing: Timing,
    grouping: Arc<Grouping>,
    emitter: Emitter,
    lateness: Millis,
    slices: BTreeMap<SliceId, Slice>,
    /// Empty tables with memory of their own.
    spare: Vec<Table>,
    /// Accumulators without groups, with memory of their own.
    spare_states: Vec<Accumulators>,
    running: Option<Running>,
    deferred: Vec<Waiting>,
    tables: Tables,
    /// The table of `deferred`.
    waiting: Option<TableDef>,
    /// Whether changes are kept track of, for the next save.
    tracked: bool,
    /// What has been saved of slices, by its number, and is gone since.
    dropped: Vec<(SliceId, i32)>,
    /// Rows that waited and were saved have been taken in since.
    went_on: bool,
    /// The last one of the own domain, as it came and in local time.
    watermark: Watermark,
    local_watermark: Watermark,
    partials: Option<usize>,
    input: SchemaRef,
    held: usize,
    ids: Vec<u32>,
    /// Where slices go that do not fit.
    below: Option<Arc<Below>>,
    /// Bytes that were held when there were too many; 0 once all is back in memory.
    spilling_from: usize,
    /// Between the first `load` and `resume`.
    loading: bool,
}

struct Slice {
    table: Table,
    bytes: usize,
    /// Numbers under which the tables of a checkpoint have rows of it.
    saved: Vec<i32>,
    /// The table has changed since the last save.
    changed: bool,
    /// All that the table holds is to be saved, and not only what has changed.
    anew: bool,
    /// Rows have come since memory was last given back.
    touched: bool,
    /// What has been written out.
    runs: Vec<Run>,
    /// Under which the table's rows stand in a checkpoint.
    number: i32,
    /// The least number that has never been used.
    next: i32,
    /// While it is loaded: rows that were saved under other numbers than the table's.
    loading: Vec<(i32, Table)>,
}

/// The slices in `[from, to)`, joined.
struct Running {
    table: Table,
    from: Millis,
    to: Millis,
    invertible: bool,
}

/// Tables kept for the next slices. More would hold memory that a quiet stream does not need.
const SPARE_MAX: usize = 4;

impl WindowAggregate {
    fn new(node: &graph::WindowAggregate, input: &SchemaRef, local_partials: bool) -> Result<WindowAggregate> {
        let grid = Grid::new(&node.window)?.ok_or_else(|| Error::internal("sessions have no grid"))?;
        let plan = Plan::new(&node.calls, input, Some(node.time.column), node.order)?;
        let grouping = Arc::new(Grouping::new(&node.keys, plan.clone(), input)?);
        let timing = Timing::new(node, grid)?;
        let running = (!grid.one_slice()).then(|| Running {
            table: grouping.table(),
            from: Millis::MIN,
            to: Millis::MIN,
            invertible: plan.invertible() && matches!(grid, Grid::Hop { .. }),
        });
        Ok(WindowAggregate {
            emitter: Emitter::new(node, input, &timing.zone),
            tables: saved::slices(&grouping, input, &grid),
            waiting: saved::waiting(&grouping, input, &grid),
            tracked: false,
            dropped: Vec::new(),
            went_on: false,
            timing,
            lateness: node.lateness.max(0),
            slices: BTreeMap::new(),
            spare: Vec::new(),
            spare_states: Vec::new(),
            running,
            deferred: Vec::new(),
            watermark: Watermark::MIN,
            local_watermark: Watermark::MIN,
            partials: local_partials.then_some(node.keys.len()),
            input: input.clone(),
            held: 0,
            ids: Vec::new(),
            below: None,
            spilling_from: 0,
            loading: false,
            grouping,
        })
    }

    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let times = self.timing.read(&batch)?;
        if let Some(slice) = self.one_open_slice(&times) {
            let rows = self.grouping.read(&batch.rows)?;
            return self.add(slice, &rows, 0..batch.len(), out);
        }
        self.take_in_by_slice(batch, &times, out)
    }

    /// The slice that takes in the whole batch, if one does and no row can be late for any window of it.
    fn one_open_slice(&self, times: &Times) -> Option<SliceId> {
        if times.attached.is_some() {
            return None;
        }
        // One pass that the compiler can do side by side, instead of a decision for each row.
        let values = times.local.values();
        let slice = self.timing.grid.slice(*values.first()?);
        if !all_within(values, slice.0, slice.1 - 1) {
            return None;
        }
        let mark = times.marks.as_ref().and_then(|m| m.iter().copied().max()).unwrap_or(Millis::MIN);
        let mark = Watermark(mark.max(self.local_watermark.0));
        let first_end = self.timing.grid.next_end(slice, Millis::MIN)?;
        (!mark.forgets(first_end, self.lateness)).then_some(slice)
    }

    /// Rows of several slices, or some late: sorted by slice, then added slice by slice.
    fn take_in_by_slice(&mut self, batch: Batch, times: &Times, out: &mut dyn Output) -> Result<()> {
        let grid = self.timing.grid;
        let by_slice = by_slice(grid, times, batch.len());

        let (mut order, mut ranges) = (Vec::with_capacity(batch.len()), Vec::with_capacity(by_slice.len()));
        let mut waiting: BTreeMap<Millis, Vec<u32>> = BTreeMap::new();
        for (id, mut rows) in by_slice {
            let (Some(first), Some(last)) = (grid.next_end(id, Millis::MIN), grid.last_end(id)) else {
                continue; // Between the windows of a hop with gaps: in no window, and so not late for one.
            };
            let mark = |row: u32| {
                let mark = times.marks.as_ref().map_or(Millis::MIN, |m| m[row as usize]);
                Watermark(mark.max(self.local_watermark.0))
            };
            let most = match &times.marks {
                Some(_) => rows.iter().map(|r| mark(*r)).max().unwrap_or(self.local_watermark),
                None => self.local_watermark,
            };
            if most.forgets(first, self.lateness) {
                let (late, open): (Vec<u32>, Vec<u32>) =
                    rows.into_iter().partition(|r| mark(*r).forgets(last, self.lateness));
                if !late.is_empty() {
                    let window = (grid.window_start(id, last), last);
                    self.timing.set_aside(&batch, &late, self.watermark, window, out)?;
                }
                rows = open;
                // Late for a window that has not fired here, and so still to be kept out of it.
                let unfired = |row: u32| {
                    let end = grid.next_end(id, self.local_watermark.0.saturating_add(1).saturating_sub(self.lateness));
                    end.is_some_and(|end| mark(row).forgets(end, self.lateness))
                };
                let (wait, now): (Vec<u32>, Vec<u32>) = rows.into_iter().partition(|r| unfired(*r));
                for row in wait {
                    waiting.entry(mark(row).0).or_default().push(row);
                }
                rows = now;
            }
            if !rows.is_empty() {
                ranges.push((id, order.len()..order.len() + rows.len()));
                order.append(&mut rows);
            }
        }
        for (mark, rows) in waiting {
            let rows = batch.take(&UInt32Array::from(rows))?;
            self.held += rows.bytes();
            self.deferred.push(Waiting { mark, batch: Batch { marks: None, ..rows }, saved: false });
        }
        if order.is_empty() {
            return Ok(());
        }
        let in_place = order.len() == batch.len() && order.is_sorted();
        let sorted = match in_place {
            true => batch.rows,
            false => take_record_batch(&batch.rows, &UInt32Array::from(order))?,
        };
        let rows = self.grouping.read(&sorted)?;
        for (id, range) in ranges {
            self.add(id, &rows, range, out)?;
        }
        Ok(())
    }

    fn slice(&mut self, id: SliceId) -> &mut Slice {
        self.slices.entry(id).or_insert_with(|| {
            let mut table = self.spare.pop().unwrap_or_else(|| self.grouping.table());
            if self.tracked {
                table.track();
            }
            Slice::new(table)
        })
    }

    /// Adds rows to a slice, and to what has been made of it already.
    fn add(&mut self, id: SliceId, rows: &table::Rows, range: Range<usize>, out: &mut dyn Output) -> Result<()> {
        let mut ids = std::mem::take(&mut self.ids);
        self.slice(id);
        let slice = self.slices.get_mut(&id).expect("made just now");
        slice.table.add(&self.grouping, rows, range.clone(), &mut ids)?;
        (slice.changed, slice.touched) = (true, true);
        let bytes = slice.measure();
        self.held = self.held - slice.bytes + bytes;
        slice.bytes = bytes;
        if let Some(running) = &mut self.running
            && (running.from..running.to).contains(&id.0)
        {
            running.table.add(&self.grouping, rows, range.clone(), &mut ids)?;
        }
        self.ids = ids;
        // Only with allowed lateness are there windows that have fired and are not forgotten.
        if self.lateness > 0 {
            self.fire_again(id, rows, range, out)?;
        }
        Ok(())
    }

    /// Emits the new results of the touched keys, for each window of the slice that has fired and is not forgotten.
    fn fire_again(&mut self, id: SliceId, rows: &table::Rows, range: Range<usize>, out: &mut dyn Output) -> Result<()> {
        let grid = self.timing.grid;
        let mut after = Millis::MIN;
        while let Some(end) = grid.next_end(id, after) {
            after = end;
            if !self.local_watermark.closes(end) {
                break;
            }
            if self.local_watermark.forgets(end, self.lateness) {
                continue;
            }
            let window = (grid.window_start(id, end), end);
            if self.below.is_some() && self.slices_of(window, id).iter().any(|s| !self.slices[s].runs.is_empty()) {
                self.fire_again_by_range(id, window, rows, range.clone(), out)?;
                continue;
            }
            let mut touched = Vec::new();
            if grid.one_slice() {
                let slice = self.slices.get_mut(&id).expect("rows were added to it");
                slice.table.keys.assign(&rows.keys, range.clone(), &mut touched);
                unique(&mut touched);
                self.emitter.emit_again(&self.grouping, &slice.table, window, &touched, out)?;
                continue;
            }
            let mut whole = self.grouping.table();
            let mut ids = Vec::new();
            for slice in self.slices.range((window.0, Millis::MIN)..(window.1, Millis::MIN)).map(|s| s.1) {
                whole.merge(&slice.table, &mut ids)?;
            }
            whole.keys.assign(&rows.keys, range.clone(), &mut touched);
            unique(&mut touched);
            self.emitter.emit_again(&self.grouping, &whole, window, &touched, out)?;
        }
        Ok(())
    }

    /// Takes in what local aggregations have made of rows: keys, slice, records. Never late: a slice is handed on
    /// before the watermark that completes it.
    fn take_in_partials(&mut self, batch: &Batch, keys: usize) -> Result<()> {
        let columns = batch.rows.columns();
        let slice_ids = (columns[keys].as_primitive::<arrow::datatypes::Int64Type>(), columns[keys + 1].as_primitive());
        let slice_ids: (&Int64Array, &Int64Array) = slice_ids;
        let encoded = self.grouping.codec.encode(&columns[..keys], batch.len())?;
        let id_of = |row: usize| (slice_ids.0.value(row), slice_ids.1.value(row));
        let mut from = 0;
        while from < batch.len() {
            let id = id_of(from);
            let to = (from..batch.len()).find(|row| id_of(*row) != id).unwrap_or(batch.len());
            let mut ids = std::mem::take(&mut self.ids);
            self.slice(id);
            let slice = self.slices.get_mut(&id).expect("made just now");
            slice.table.keys.assign(&encoded, from..to, &mut ids);
            slice.table.state.resize(slice.table.keys.len());
            slice.table.state.merge_partials(&ids, &columns[keys + 2..], from..to)?;
            slice.table.mark(&ids);
            (slice.changed, slice.touched) = (true, true);
            let bytes = slice.measure();
            self.held = self.held - slice.bytes + bytes;
            slice.bytes = bytes;
            self.ids = ids;
            from = to;
        }
        Ok(())
    }

    fn advance(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        assert!(self.watermark <= to, "watermark went back from {} to {to}", self.watermark);
        // Monotone also in local time, where a clock is set back.
        let local = self.timing.local(to).max(self.local_watermark);
        // Rows that wait for a watermark come in between those windows that it closes and those that the next closes.
        let mut waiting = std::mem::take(&mut self.deferred);
        waiting.sort_by_key(|w| w.mark);
        for rows in waiting {
            if rows.mark > local.0 {
                self.deferred.push(rows);
                continue;
            }
            self.held -= rows.batch.bytes().min(self.held);
            self.went_on |= rows.saved;
            self.fire_through(Watermark(rows.mark), out)?;
            self.take_in(rows.batch, out)?;
        }
        self.fire_through(local, out)?;
        self.see_whether_there_is_room();
        self.watermark = to;
        Ok(())
    }

    /// Fires what the watermark closes, in the order of the ends, and drops what it forgets.
    fn fire_through(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        if to <= self.local_watermark {
            return Ok(());
        }
        let mut after = self.local_watermark.0.saturating_add(1);
        // From the next window that holds a row to the next: a gap in time costs nothing.
        while let Some((id, end)) = self.next_window(after) {
            if !to.closes(end) {
                break;
            }
            self.fire(id, end, out)?;
            if matches!(self.timing.grid, Grid::Attached) {
                // Windows that end together are different windows.
                let same_end: Vec<SliceId> = self
                    .slices
                    .range((end, Millis::MIN)..=(end, Millis::MAX))
                    .map(|s| *s.0)
                    .filter(|s| *s != id)
                    .collect();
                for other in same_end {
                    self.fire(other, end, out)?;
                }
            }
            self.forget(Watermark(end.saturating_sub(1)))?;
            after = end;
            if end == Millis::MAX {
                break;
            }
        }
        self.local_watermark = to;
        self.forget(to)
    }

    /// The next window to end after `after` that has a row, by one of its slices.
    fn next_window(&self, after: Millis) -> Option<(SliceId, Millis)> {
        let grid = self.timing.grid;
        // The ends grow with the slices, so the first slice with any window left knows the answer.
        self.slices.keys().find_map(|id| grid.next_end(*id, after).map(|end| (*id, end)))
    }

    fn fire(&mut self, id: SliceId, end: Millis, out: &mut dyn Output) -> Result<()> {
        let window = (self.timing.grid.window_start(id, end), end);
        if self.goes_by_range(window, id) {
            return self.fire_by_range(id, window, out);
        }
        let Some(running) = &mut self.running else {
            let slice = self.slices.get(&id).expect("the window to fire has a slice");
            return self.emitter.emit(&self.grouping, &slice.table, window, out);
        };
        let ids = &mut self.ids;
        let overlaps = running.from <= window.0 && window.0 < running.to;
        let grows = overlaps && (running.from == window.0 || running.invertible);
        if !grows {
            running.table.clear();
            (running.from, running.to) = (window.0, window.0);
        }
        for (_, slice) in self.slices.range((running.from, Millis::MIN)..(window.0, Millis::MIN)) {
            running.table.unmerge(&slice.table, ids)?;
        }
        running.from = window.0;
        for (_, slice) in self.slices.range_mut((running.to, Millis::MIN)..(window.1, Millis::MIN)) {
            running.table.merge(&slice.table, ids)?;
            // From now on it is only read in order; its index serves the next slice.
            if running.invertible {
                let keys = slice.table.keys.seal();
                slice.table.state.shrink();
                if self.spare.len() < SPARE_MAX {
                    let fresh = || Accumulators::new(&self.grouping.plan);
                    self.spare.push(Table::new(keys, self.spare_states.pop().unwrap_or_else(fresh)));
                }
                let bytes = slice.measure();
                self.held = self.held - slice.bytes + bytes;
                slice.bytes = bytes;
            }
        }
        running.to = window.1;
        self.emitter.emit(&self.grouping, &running.table, window, out)
    }

    fn memory(&self) -> usize {
        self.held
            + self.running.as_ref().map_or(0, |r| r.table.bytes())
            + self.spare.iter().map(Table::bytes).sum::<usize>()
    }

    /// Drops slices whose last window is forgotten.
    fn forget(&mut self, watermark: Watermark) -> Result<()> {
        while let Some((id, slice)) = self.slices.first_key_value() {
            let last = self.timing.grid.last_end(*id).unwrap_or(Millis::MIN);
            if !watermark.forgets(last, self.lateness) {
                break;
            }
            let id = *id;
            if let Some(running) = &mut self.running
                && (running.from..running.to).contains(&id.0)
            {
                if running.invertible {
                    running.table.unmerge(&slice.table, &mut self.ids)?;
                    running.from = id.1;
                } else {
                    running.table.clear();
                    (running.from, running.to) = (Millis::MIN, Millis::MIN);
                }
            }
            let mut slice = self.slices.remove(&id).expect("it is the first");
            self.dropped.extend(slice.saved.iter().map(|number| (id, *number)));
            self.held -= slice.bytes;
            if self.spilling_from > 0 {
                continue; // Memory is short: nothing is kept for later.
            }
            slice.table.clear();
            // A slice of a running window has given its index away already.
            if self.running.as_ref().is_some_and(|r| r.invertible) {
                if self.spare_states.len() < SPARE_MAX {
                    self.spare_states.push(slice.table.state);
                }
            } else if self.spare.len() < SPARE_MAX {
                self.spare.push(slice.table);
            }
        }
        Ok(())
    }
}

/// Times beyond this are not looked at many at a time: their differences could overflow.
const FAR: Millis = (1 << 62) - 1;

/// Whether all times lie in `[from, to]`, and none of them is beyond [`FAR`]. One bit decides: the sign of any of the
/// differences. (A minimum of i64 is slow on processors before AVX-512, differences are not.)
fn all_within(times: &[Millis], from: Millis, to: Millis) -> bool {
    let (from, to) = (from.clamp(-FAR, FAR), to.clamp(-FAR, FAR));
    let outside = |t: &Millis| t.wrapping_sub(from) | to.wrapping_sub(*t) | (t ^ (t << 1));
    times.iter().fold(0, |all, t| all | outside(t)) >= 0
}

fn unique(ids: &mut Vec<u32>) {
    ids.sort_unstable();
    ids.dedup();
}

/// The rows of each slice, in their order.
fn by_slice(grid: Grid, times: &Times, rows: usize) -> BTreeMap<SliceId, Vec<u32>> {
    let mut slices: BTreeMap<SliceId, Vec<u32>> = BTreeMap::new();
    let mut run: Option<(SliceId, Vec<u32>)> = None;
    for row in 0..rows {
        // Neighbours mostly share their slice: only where it changes is the map asked.
        let id = match (&times.attached, &run) {
            (Some((ends, starts)), _) => (ends.value(row), starts.value(row)),
            (None, Some((id, _))) if (id.0..id.1).contains(&times.local.value(row)) => *id,
            _ => grid.slice(times.local.value(row)),
        };
        match &mut run {
            Some((last, rows)) if *last == id => rows.push(row as u32),
            _ => {
                if let Some((last, rows)) = run.take() {
                    slices.insert(last, rows);
                }
                let mut rows = slices.remove(&id).unwrap_or_default();
                rows.push(row as u32);
                run = Some((id, rows));
            }
        }
    }
    slices.extend(run);
    slices
}

impl Operator for WindowAggregate {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { input: 0, batch } => self.take_in(batch, out),
            Event::Batch { batch, .. } => match self.partials {
                Some(keys) => self.take_in_partials(&batch, keys),
                None => Err(Error::internal(format!("no partials are expected over {}", self.input))),
            },
            Event::Watermark(domain, to) => {
                if domain == self.timing.domain {
                    self.advance(to, out)?;
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn tables(&self) -> Vec<TableDef> {
        let mut tables = self.tables.all();
        tables.extend(self.waiting.clone());
        tables
    }

    fn track_changes(&mut self) {
        self.tracked = true;
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.save_tables(saver)
    }

    fn load(&mut self, table: &str, _version: u32, rows: &RecordBatch) -> Result<()> {
        self.load_table(table, rows)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.join_loaded()?;
        self.go_on(watermarks);
        Ok(())
    }

    fn spill_to(&mut self, space: Arc<dyn Spill>) {
        self.below = Some(Arc::new(Below::new(space, &self.grouping, &self.input)));
    }

    fn shed(&mut self, bytes: usize) -> Result<()> {
        self.shed_bytes(bytes)
    }

    fn state_bytes(&self) -> usize {
        self.memory()
    }
}
