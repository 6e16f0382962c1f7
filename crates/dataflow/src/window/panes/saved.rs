//! What windows with panes remember, as tables.
//!
//! ```text
//!  windows           window_start │ window_end │ key .. │ pending │ closed │ told │ told_n .. │ count │ sum_price │ ..
//!  distinct_bidder   window_start │ window_end │ key .. │ bidder │ mask
//! ```
//!
//! One row for each window and key: how many rows have come since its last pane, whether its on-time pane has been told,
//! what was told last (where `told`), and the state of its calls. Of a window, the groups that have changed are saved
//! again; a window that is forgotten is dropped as one part. Where panes discard, a key's distinct values are a part too:
//! with each pane they begin anew.

use super::{Group, Open, WindowId, WindowPanes};
use crate::aggregate::Plan;
use crate::graph::Panes;
use crate::operator::ROWS_MAX;
use crate::window::emit::{PLAIN, times};
use crate::window::grid::Grid;
use crate::window::saved::{Groups, Tables, millis, time_field};
use crate::window::table::Grouping;
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use millstream_core::{Error, Millis, Result};
use millstream_state::table::Saver;
use std::sync::Arc;

/// Parts of the distinct tables that are gone since the last save: the columns that name them.
#[derive(Default)]
pub(super) struct Gone {
    parts: Vec<Vec<ArrayRef>>,
    bytes: usize,
}

impl Gone {
    fn push(&mut self, part: Vec<ArrayRef>) {
        self.bytes += part.iter().map(|c| c.get_array_memory_size()).sum::<usize>();
        self.parts.push(part);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

pub(super) fn tables(grouping: &Grouping, input: &Schema, grid: &Grid, panes: Panes) -> Tables {
    let mut extra = vec![Field::new("pending", DataType::Int64, true), Field::new("closed", DataType::Boolean, true)];
    if panes != Panes::Discarding {
        extra.push(Field::new("told", DataType::Boolean, true));
        let told = |f: &Field| f.clone().with_name(format!("told_{}", f.name())).with_nullable(true);
        extra.extend(grouping.plan.results().map(told));
    }
    let lead = vec![time_field("window_start"), time_field("window_end")];
    let mut tables = Tables::new("windows", grouping, input, lead, extra, 2);
    if begins_anew(&grouping.plan, panes) {
        for distinct in &mut tables.distincts {
            *distinct = distinct.clone().part(2 + grouping.keys.len());
        }
    }
    // Windows that rows bring along are keys of the exchange as well.
    if matches!(grid, Grid::Attached) { tables.hashed(&[0, 1]) } else { tables }
}

/// Whether distinct values that have been saved may be gone before their window is.
fn begins_anew(plan: &Plan, panes: Panes) -> bool {
    panes == Panes::Discarding && plan.distinct_sets() > 0
}

fn lead(id: WindowId, rows: usize) -> Vec<ArrayRef> {
    vec![times(vec![id.1; rows], &PLAIN), times(vec![id.0; rows], &PLAIN)]
}

impl WindowPanes {
    /// Takes note that these groups are about to begin anew.
    pub(super) fn note_begun_anew(&mut self, id: WindowId, window: &Open, groups: &[u32]) -> Result<()> {
        if self.tracked && window.saved && begins_anew(&self.grouping.plan, self.rules.panes) {
            let mut part = lead(id, groups.len());
            part.extend(self.grouping.codec.decode_ids(&window.table.keys, groups)?);
            self.gone.push(part);
        }
        Ok(())
    }

    /// Takes note that a window is gone.
    pub(super) fn note_dropped(&mut self, id: WindowId, window: &Open) -> Result<()> {
        if !self.tracked || !window.saved {
            return Ok(());
        }
        let groups = window.table.len();
        for from in (0..groups).step_by(ROWS_MAX) {
            let ids: Vec<u32> = (from as u32..(from + ROWS_MAX).min(groups) as u32).collect();
            self.note_begun_anew(id, window, &ids)?;
        }
        self.dropped.push(id);
        Ok(())
    }

    pub(super) fn save_tables(&mut self, saver: &mut Saver) -> Result<()> {
        let whole = saver.whole();
        let (dropped, gone) = (std::mem::take(&mut self.dropped), std::mem::take(&mut self.gone));
        if !whole {
            for part in gone.parts {
                for distinct in &self.tables.distincts {
                    saver.drop_parts(distinct, part.clone())?;
                }
            }
            if !dropped.is_empty() {
                let (ends, starts): (Vec<Millis>, Vec<Millis>) = dropped.into_iter().unzip();
                let part = vec![times(starts, &PLAIN), times(ends, &PLAIN)];
                saver.drop_parts(&self.tables.groups, part.clone())?;
                if !begins_anew(&self.grouping.plan, self.rules.panes) {
                    for distinct in &self.tables.distincts {
                        saver.drop_parts(distinct, part.clone())?;
                    }
                }
            }
        }
        let (tables, grouping) = (&self.tables, &self.grouping);
        for (id, window) in &mut self.windows {
            if !whole && !window.changed {
                continue;
            }
            let ids = window.table.take_changed(whole);
            let mut extra: Vec<ArrayRef> = Vec::new();
            let groups: Vec<&Group> = ids.iter().map(|id| &window.groups[*id as usize]).collect();
            extra.push(Arc::new(Int64Array::from_iter_values(groups.iter().map(|g| g.pending as i64))));
            extra.push(Arc::new(groups.iter().map(|g| Some(g.closed)).collect::<BooleanArray>()));
            if self.rules.panes != Panes::Discarding {
                let told = BooleanArray::from_iter(groups.iter().map(|g| Some(g.told.is_some())));
                let values = self.results.decode(groups.iter().filter_map(|g| g.told.as_deref()))?;
                extra.push(Arc::new(told.clone()));
                for values in values {
                    extra.push(spread(&told, &values)?);
                }
            }
            let lead = |rows: &[u32]| lead(*id, rows.len());
            let rows = Groups { lead: lead(&ids), keys: &ids, groups: &ids, extra };
            tables.put(saver, grouping, &window.table, rows)?;
            tables.put_distinct(saver, whole, grouping, &mut window.table, lead, |group| group)?;
            window.saved = true;
            window.changed = false;
        }
        Ok(())
    }

    pub(super) fn load_table(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        let set = self.tables.find(table)?;
        let loaded = self.tables.read(set, rows)?;
        let (starts, ends) = (millis(&loaded.lead[0]), millis(&loaded.lead[1]));
        let keys = self.grouping.codec.encode(&loaded.keys, rows.num_rows())?;
        let mut ids = std::mem::take(&mut self.ids);
        let mut from = 0;
        while from < rows.num_rows() {
            let id = (ends[from], starts[from]);
            let to = (from..rows.num_rows()).find(|row| (ends[*row], starts[*row]) != id).unwrap_or(rows.num_rows());
            let tracked = self.tracked;
            // Whether it has closed is known when the watermark is.
            let mut window =
                self.windows.remove(&id).unwrap_or_else(|| Open::new(self.grouping.table(), false, tracked));
            window.table.keys.assign(&keys, from..to, &mut ids);
            window.make_room();
            let rest: Vec<ArrayRef> = loaded.rest.iter().map(|c| c.slice(from, to - from)).collect();
            self.tables.load(set, &mut window.table, &ids, &rest)?;
            if set.is_none() {
                self.load_groups(&mut window, &ids, &rest)?;
            }
            window.saved = true;
            self.put_back(id, window);
            from = to;
        }
        self.ids = ids;
        Ok(())
    }

    /// What stands beside the state.
    fn load_groups(&self, window: &mut Open, ids: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let missing = || Error::internal("a table of windows without its columns");
        let [pending, closed, rest @ ..] = columns else { return Err(missing()) };
        let (pending, closed) = (pending.as_primitive::<Int64Type>(), closed.as_boolean());
        for (row, id) in ids.iter().enumerate() {
            let group = &mut window.groups[*id as usize];
            group.pending = u64::try_from(pending.value(row)).unwrap_or(0);
            group.closed = closed.value(row);
            window.some_closed |= group.closed;
            if group.pending > 0 && !group.listed {
                group.listed = true;
                window.waiting.push(*id);
            }
        }
        if self.rules.panes == Panes::Discarding {
            return Ok(());
        }
        let [told, rest @ ..] = rest else { return Err(missing()) };
        let values = rest.get(..self.results.schema().fields().len()).ok_or_else(missing)?;
        let encoded = self.results.encode(values.to_vec(), ids.len())?;
        for (row, id) in ids.iter().enumerate().filter(|(row, _)| told.as_boolean().value(*row)) {
            let bytes = encoded.row(row);
            window.told_bytes += bytes.len();
            window.groups[*id as usize].told = Some(bytes.into());
        }
        Ok(())
    }
}

/// The values, each where `at` says so, and NULL elsewhere.
pub(in crate::window) fn spread(at: &BooleanArray, values: &ArrayRef) -> Result<ArrayRef> {
    let mut next = 0;
    let indices: UInt32Array = at
        .values()
        .iter()
        .map(|there| {
            next += u32::from(there);
            there.then(|| next - 1)
        })
        .collect();
    Ok(arrow::compute::take(values, &indices, None)?)
}
