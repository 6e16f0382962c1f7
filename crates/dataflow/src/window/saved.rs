//! What window aggregations remember, as tables.
//!
//! ```text
//!  slices            slice_start │ slice_end │ run │ key .. │ count │ sum_price │ ..    one row for each slice and key
//!  distinct_bidder   slice_start │ slice_end │ run │ key .. │ bidder │ mask             one for each value seen
//!  waiting           waits_for │ the input's columns ..                              rows that wait for a watermark
//! ```
//!
//! Of a slice, the groups that have changed are saved again; a slice that is done with is dropped as one part. What
//! is made of slices (a running window, an index) is not saved: it is made again when it is needed.
//!
//! `run` is 0 unless memory was short: then a key may stand in several runs of a slice (see [`super::spill`]), and its state
//! is all of these rows, joined. Version 1 has no such column.
//!
//! A window of the rows' own ([`Window::Attached`]) is its slice: its start and end are then those of the slice.

use super::WindowAggregate;
use super::emit::{PLAIN, times};
use super::grid::{Grid, SliceId};
use super::spill;
use super::table::{Grouping, Table};
use crate::aggregate::Names;
use crate::operator::{ROWS_MAX, Watermarks};
use crate::rows::saved_columns;
use arrow::array::*;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimestampMillisecondType};
use millstream_core::{Batch, Error, Millis, Result};
use millstream_state::table::{Saver, TableDef};
use std::sync::Arc;

/// The tables of groups: named by a few columns (a slice, or a session's name) and the keys.
pub(super) struct Tables {
    pub groups: TableDef,
    /// One for each distinct set.
    pub distincts: Vec<TableDef>,
    /// So many columns stand before the keys.
    lead: usize,
    keys: usize,
    /// So many columns stand between the keys and the state.
    extra: usize,
}

/// Rows to save: the columns before the keys, and the ids of keys and groups.
pub(super) struct Groups<'a> {
    pub lead: Vec<ArrayRef>,
    pub keys: &'a [u32],
    pub groups: &'a [u32],
    pub extra: Vec<ArrayRef>,
}

/// Rows as they were saved.
pub(super) struct Loaded {
    pub lead: Vec<ArrayRef>,
    pub keys: Vec<ArrayRef>,
    pub rest: Vec<ArrayRef>,
}

impl Tables {
    /// `part`: so many columns name what is dropped together with all its distinct values.
    pub fn new(
        name: &str,
        grouping: &Grouping,
        input: &Schema,
        lead: Vec<Field>,
        extra: Vec<Field>,
        part: usize,
    ) -> Tables {
        let (before, keys) = (lead.len(), grouping.keys.len());
        // What names a row: the same in all tables.
        let naming = |names: &mut Names| -> Vec<Field> {
            let keys = grouping.keys.iter().map(|k| input.field(*k));
            let fields: Vec<&Field> = lead.iter().chain(keys).collect();
            fields.into_iter().map(|f| f.clone().with_name(names.take(f.name()))).collect()
        };
        let plan = &grouping.plan;
        let mut names = Names::default();
        let mut columns = naming(&mut names);
        columns.extend(extra.iter().map(|f| f.clone().with_name(names.take(f.name()))));
        columns.extend(plan.saved_fields(&mut names));
        let groups = TableDef::new(name, columns, before + keys).part(part).group_by(before..before + keys);
        let mut tables = Names::default();
        let distinct = |set: usize| {
            let mut names = Names::default();
            let mut columns = naming(&mut names);
            columns.extend(plan.distinct_fields(set, &mut names));
            let key = columns.len();
            columns.push(Field::new(names.take("mask"), DataType::Int64, true));
            let name = tables.take(&format!("distinct_{}", plan.distinct_name(set)));
            TableDef::new(&name, columns, key).part(part).group_by(before..before + keys)
        };
        let distincts = (0..plan.distinct_sets()).map(distinct).collect();
        Tables { groups, distincts, lead: before, keys, extra: extra.len() }
    }

    /// Columns that the exchange hashes behind the keys.
    pub fn hashed(mut self, columns: &[usize]) -> Tables {
        for table in std::iter::once(&mut self.groups).chain(&mut self.distincts) {
            table.group_by.extend(columns);
        }
        self
    }

    /// These columns have come with this version.
    fn later(mut self, version: u32, columns: &[usize]) -> Tables {
        self.groups = self.groups.later(version, columns);
        self.distincts = self.distincts.into_iter().map(|d| d.later(version, columns)).collect();
        self
    }

    pub fn all(&self) -> Vec<TableDef> {
        std::iter::once(&self.groups).chain(&self.distincts).cloned().collect()
    }

    /// Puts groups.
    pub fn put(&self, saver: &mut Saver, grouping: &Grouping, table: &Table, rows: Groups<'_>) -> Result<()> {
        // In pieces, so that the state is never there a second time as columns.
        for from in (0..rows.groups.len()).step_by(ROWS_MAX) {
            let to = (from + ROWS_MAX).min(rows.groups.len());
            let part = |column: &ArrayRef| column.slice(from, to - from);
            let mut columns: Vec<ArrayRef> = rows.lead.iter().map(part).collect();
            columns.extend(grouping.codec.decode_ids(&table.keys, &rows.keys[from..to])?);
            columns.extend(rows.extra.iter().map(part));
            columns.extend(table.state.save(&rows.groups[from..to])?);
            saver.put(&self.groups, columns)?;
        }
        Ok(())
    }

    /// Puts what distinct sets have gained, or `all` they hold. `lead` and `key` say what stands for a group.
    pub fn put_distinct(
        &self,
        saver: &mut Saver,
        all: bool,
        grouping: &Grouping,
        table: &mut Table,
        lead: impl Fn(&[u32]) -> Vec<ArrayRef>,
        key: impl Fn(u32) -> u32,
    ) -> Result<()> {
        for (set, def) in self.distincts.iter().enumerate() {
            let entries = table.state.save_distinct(set, all)?;
            if entries.groups.is_empty() {
                continue;
            }
            let mut columns = lead(&entries.groups);
            let keys: Vec<u32> = entries.groups.iter().map(|g| key(*g)).collect();
            columns.extend(grouping.codec.decode_ids(&table.keys, &keys)?);
            columns.extend(entries.values);
            columns.push(Arc::new(entries.masks));
            saver.put(def, columns)?;
        }
        Ok(())
    }

    /// The distinct set of the table of this name, or `None` for the table of the groups.
    pub fn find(&self, table: &str) -> Result<Option<usize>> {
        if table == self.groups.name {
            return Ok(None);
        }
        let set = self.distincts.iter().position(|d| d.name == table);
        set.map(Some).ok_or_else(|| Error::internal(format!("there is no table `{table}` to load")))
    }

    /// Rows of the groups' table or of a distinct set's.
    pub fn read(&self, set: Option<usize>, rows: &RecordBatch) -> Result<Loaded> {
        let mut lead = saved_columns(set.map_or(&self.groups, |s| &self.distincts[s]), rows)?;
        let mut keys = lead.split_off(self.lead);
        let rest = keys.split_off(self.keys);
        Ok(Loaded { lead, keys, rest })
    }

    /// Takes in rows of the groups' table or of a distinct set's: row `i` is of group `ids[i]`.
    pub fn load(&self, set: Option<usize>, table: &mut Table, ids: &[u32], rest: &[ArrayRef]) -> Result<()> {
        table.state.resize(table.keys.len());
        match set {
            None => table.state.load(ids, &rest[self.extra..]),
            Some(set) => {
                let (masks, values) = rest.split_last().ok_or_else(|| Error::internal("a table without columns"))?;
                table.state.load_distinct(set, ids, values, masks.as_primitive::<Int64Type>())
            }
        }
    }
}

/// Milliseconds of a column that names a slice or a session.
pub(super) fn millis(column: &ArrayRef) -> &[Millis] {
    column.as_primitive::<TimestampMillisecondType>().values()
}

/// A column of times without a zone.
pub(super) fn time_field(name: &str) -> Field {
    Field::new(name, PLAIN, true)
}

/// The tables of windows on a grid.
pub(super) fn slices(grouping: &Grouping, input: &Schema, grid: &Grid) -> Tables {
    let run = Field::new("run", DataType::Int32, true);
    let lead = vec![time_field("slice_start"), time_field("slice_end"), run];
    let tables = Tables::new("slices", grouping, input, lead, Vec::new(), 3).later(2, &[2]);
    // Windows that rows bring along are keys of the exchange as well.
    if matches!(grid, Grid::Attached) { tables.hashed(&[0, 1]) } else { tables }
}

/// The table of rows that wait for a watermark. Only windows of several slices have such rows.
pub(super) fn waiting(grouping: &Grouping, input: &Schema, grid: &Grid) -> Option<TableDef> {
    if grid.one_slice() {
        return None;
    }
    let mut names = Names::default();
    let mut columns = vec![Field::new(names.take("waits_for"), DataType::Int64, false)];
    columns.extend(input.fields().iter().map(|f| f.as_ref().clone().with_name(names.take(f.name()))));
    Some(TableDef::new("waiting", columns, 0).group_by(grouping.keys.iter().map(|k| k + 1)))
}

/// Rows that are late for windows which have not fired yet.
pub(super) struct Waiting {
    /// The (local) watermark that they wait for.
    pub mark: Millis,
    pub batch: Batch,
    pub saved: bool,
}

impl WindowAggregate {
    pub(super) fn save_tables(&mut self, saver: &mut Saver) -> Result<()> {
        let whole = saver.whole();
        let dropped = std::mem::take(&mut self.dropped);
        if !whole && !dropped.is_empty() {
            let part = self.lead_of(&dropped);
            for table in self.tables.all() {
                saver.drop_parts(&table, part.clone())?;
            }
        }
        let (tables, grouping, grid) = (&self.tables, &self.grouping, self.timing.grid);
        for (id, slice) in &mut self.slices {
            if whole {
                slice.saved.clear();
            }
            let (start, end) = grid.span(*id);
            for at in 0..slice.runs.len() {
                let (run, Some(below)) = (&mut slice.runs[at], &self.below) else { continue };
                if whole || !run.saved {
                    Self::save_run(below, grouping, tables, run, (start, end), saver)?;
                    run.saved = true;
                }
                let number = run.number;
                slice.know_number(number);
            }
            if !whole && !slice.changed && !slice.anew {
                continue;
            }
            let number = slice.number;
            let lead = |rows: &[u32]| spill::lead(start, end, number, rows.len());
            let all = whole || slice.anew;
            let ids = slice.table.take_changed(all);
            let rows = Groups { lead: lead(&ids), keys: &ids, groups: &ids, extra: Vec::new() };
            tables.put(saver, grouping, &slice.table, rows)?;
            tables.put_distinct(saver, all, grouping, &mut slice.table, lead, |group| group)?;
            if slice.table.len() > 0 {
                slice.know_number(number);
            }
            (slice.changed, slice.anew) = (false, false);
        }
        let Some(waiting) = &self.waiting else { return Ok(()) };
        if std::mem::take(&mut self.went_on) && !whole {
            saver.drop_through(waiting, self.local_watermark.0)?;
        }
        for rows in self.deferred.iter_mut().filter(|r| whole || !r.saved) {
            rows.saved = true;
            let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_value(rows.mark, rows.batch.len()))];
            columns.extend(rows.batch.rows.columns().iter().cloned());
            saver.put(waiting, columns)?;
        }
        Ok(())
    }

    fn lead_of(&self, parts: &[(SliceId, i32)]) -> Vec<ArrayRef> {
        let spans: Vec<(Millis, Millis)> = parts.iter().map(|part| self.timing.grid.span(part.0)).collect();
        vec![
            times(spans.iter().map(|s| s.0).collect(), &PLAIN),
            times(spans.iter().map(|s| s.1).collect(), &PLAIN),
            Arc::new(Int32Array::from_iter_values(parts.iter().map(|part| part.1))),
        ]
    }

    pub(super) fn load_table(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        if let Some(waiting) = self.waiting.as_ref().filter(|w| w.name == table) {
            let columns = saved_columns(waiting, rows)?;
            return self.load_waiting(&columns);
        }
        let set = self.tables.find(table)?;
        let loaded = self.tables.read(set, rows)?;
        let (starts, ends) = (millis(&loaded.lead[0]), millis(&loaded.lead[1]));
        let numbers = loaded.lead[2].as_primitive::<Int32Type>().values();
        let keys = self.grouping.codec.encode(&loaded.keys, rows.num_rows())?;
        self.loading = true;
        let name = |row: usize| (starts[row], ends[row], numbers[row]);
        let mut from = 0;
        while from < rows.num_rows() {
            let (start, end, number) = name(from);
            let to = (from..rows.num_rows()).find(|row| name(*row) != name(from)).unwrap_or(rows.num_rows());
            let id = if matches!(self.timing.grid, Grid::Attached) { (end, start) } else { (start, end) };
            self.slice(id);
            let slice = self.slices.get_mut(&id).expect("made just now");
            slice.know_number(number);
            let table = slice.loading_table(number, || self.grouping.table());
            table.keys.assign(&keys, from..to, &mut self.ids);
            let rest: Vec<ArrayRef> = loaded.rest.iter().map(|c| c.slice(from, to - from)).collect();
            self.tables.load(set, table, &self.ids, &rest)?;
            self.measure(id);
            from = to;
        }
        Ok(())
    }

    fn load_waiting(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let Some((marks, columns)) = columns.split_first() else { return Ok(()) };
        let rows = RecordBatch::try_new(self.input.clone(), columns.to_vec())?;
        let mut by_mark: std::collections::BTreeMap<Millis, Vec<u32>> = std::collections::BTreeMap::new();
        for (row, mark) in marks.as_primitive::<Int64Type>().values().iter().enumerate() {
            by_mark.entry(*mark).or_default().push(row as u32);
        }
        for (mark, indices) in by_mark {
            let batch = Batch::from(take_record_batch(&rows, &UInt32Array::from(indices))?);
            self.held += batch.bytes();
            self.deferred.push(Waiting { mark, batch, saved: true });
        }
        Ok(())
    }

    pub(super) fn go_on(&mut self, watermarks: Watermarks) {
        self.watermark = watermarks.of(self.timing.domain);
        self.local_watermark = self.timing.local(self.watermark);
    }
}
