//! What a deduplication remembers, as tables.
//!
//! ```text
//!  kept      keys, all other columns      keep last: the row of each key
//!  waiting   keys, all other columns      keep first: rows that wait for the watermark
//!  told      keys [, time]                keep first: keys whose row has been told; when it was, with a time to live
//! ```
//!
//! A save has the keys of which something has changed since the last one. Keys are saved as they are looked up, with one
//! zero and one NaN, so that a key stands in a table once.

use super::{Deduplicate, State};
use crate::graph::{self, Keep};
use crate::operator::ROWS_MAX;
use crate::over::words::Words;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use millstream_core::{Error, Millis, Result, TimeDomain};
use millstream_state::table::{Saver, TableDef};
use std::cmp::Reverse;
use std::sync::Arc;

/// The row of a key is in the table of rows; the key is in the table of keys told.
const ROW_SAVED: u8 = 1;
const TOLD_SAVED: u8 = 2;

pub(super) struct Tables {
    tracking: bool,
    rows: Option<TableDef>,
    told: Option<TableDef>,
    /// Columns of the input behind the keys.
    others: Vec<usize>,
    /// Keys that have changed since the last save, and by id whether it is among them and what is saved of it.
    dirty: Vec<u32>,
    is_dirty: Vec<bool>,
    saved: Vec<u8>,
    /// Keys to delete from `rows` and from `told`.
    gone_rows: Vec<Vec<ArrayRef>>,
    gone_told: Vec<Vec<ArrayRef>>,
}

impl Tables {
    pub fn new(spec: &graph::Deduplicate, input: &SchemaRef) -> Tables {
        let others: Vec<usize> = (0..input.fields().len()).filter(|c| !spec.keys.contains(c)).collect();
        let mut keys: Vec<Field> = spec.keys.iter().map(|k| input.field(*k).clone()).collect();
        if keys.is_empty() {
            // A row has to have a name, and there is one.
            keys.push(Field::new("$all", DataType::Int64, false));
        }
        let table = |name: &str, others: Vec<Field>| {
            let fields = keys.iter().cloned().chain(others).collect();
            TableDef::new(name, fields, keys.len()).group_by(0..spec.keys.len())
        };
        let columns: Vec<Field> = others.iter().map(|c| input.field(*c).clone()).collect();
        let (rows, told) = match (spec.keep, spec.domain) {
            (Keep::Last, _) => (Some(table("kept", columns)), false),
            (Keep::First, TimeDomain::Event) => (Some(table("waiting", columns)), true),
            (Keep::First, TimeDomain::Processing) => (None, true),
        };
        let touched = Field::new("$touched", DataType::Timestamp(TimeUnit::Millisecond, None), false);
        let told = told.then(|| table("told", spec.ttl.iter().map(|_| touched.clone()).collect()));
        Tables {
            tracking: false,
            rows,
            told,
            others,
            dirty: Vec::new(),
            is_dirty: Vec::new(),
            saved: Vec::new(),
            gone_rows: Vec::new(),
            gone_told: Vec::new(),
        }
    }

    pub fn all(&self) -> Vec<TableDef> {
        self.rows.iter().chain(&self.told).cloned().collect()
    }

    pub fn track(&mut self) {
        self.tracking = true;
    }

    pub fn resize(&mut self, ids: usize) {
        if self.saved.len() < ids {
            self.saved.resize(ids, 0);
            self.is_dirty.resize(ids, false);
        }
    }

    /// What is remembered of the key has changed.
    pub fn change(&mut self, id: u32) {
        if self.tracking && !std::mem::replace(&mut self.is_dirty[id as usize], true) {
            self.dirty.push(id);
        }
    }

    pub fn bytes(&self) -> usize {
        let gone = self.gone_rows.iter().chain(&self.gone_told).flatten();
        self.dirty.capacity() * 4
            + self.is_dirty.capacity()
            + self.saved.capacity()
            + gone.map(|column| column.get_array_memory_size()).sum::<usize>()
    }
}

impl Deduplicate {
    /// Keys of which nothing is known any more, before their ids are given up.
    pub(super) fn note_gone(&mut self, ids: &[u32]) -> Result<()> {
        for (bit, told) in [(ROW_SAVED, false), (TOLD_SAVED, true)] {
            let saved = |id: &u32| self.tables.saved[*id as usize] & bit != 0;
            let gone: Vec<u32> = ids.iter().copied().filter(saved).collect();
            if gone.is_empty() {
                continue;
            }
            let keys = self.key_columns(&gone)?;
            if told {
                self.tables.gone_told.push(keys)
            } else {
                self.tables.gone_rows.push(keys)
            }
            gone.iter().for_each(|id| self.tables.saved[*id as usize] &= !bit);
        }
        Ok(())
    }

    fn key_columns(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        match self.spec.keys.is_empty() {
            true => Ok(vec![Arc::new(Int64Array::from_value(0, ids.len()))]),
            false => self.memory.codec.decode_ids(&self.memory.ids, ids),
        }
    }

    pub(super) fn save_tables(&mut self, saver: &mut Saver) -> Result<()> {
        let mut ids = std::mem::take(&mut self.tables.dirty);
        ids.iter().for_each(|id| self.tables.is_dirty[*id as usize] = false);
        let gone = (std::mem::take(&mut self.tables.gone_rows), std::mem::take(&mut self.tables.gone_told));
        if saver.whole() {
            self.tables.saved.fill(0);
            ids = (0..self.memory.states.len() as u32).collect();
        } else {
            // Before those that are there: a key may have come back.
            for (table, gone) in [(&self.tables.rows, gone.0), (&self.tables.told, gone.1)] {
                if let Some(table) = table {
                    gone.into_iter().try_for_each(|keys| saver.delete(table, keys))?;
                }
            }
        }
        let told = |id: &u32| self.memory.states[*id as usize] == State::Told;
        let there = |id: &u32| matches!(self.memory.states[*id as usize], State::Waiting | State::Kept);
        let (told, rows): (Vec<u32>, Vec<u32>) =
            (ids.iter().copied().filter(told).collect(), ids.iter().copied().filter(there).collect());
        if let Some(table) = self.tables.rows.clone() {
            self.delete_saved(saver, &table, &told, ROW_SAVED)?;
            for ids in rows.chunks(ROWS_MAX) {
                let columns = self.rows.decode(ids.iter().filter_map(|id| self.memory.kept.get(*id)))?;
                let mut saved = self.key_columns(ids)?;
                saved.extend(self.tables.others.iter().map(|c| columns[*c].clone()));
                saver.put(&table, saved)?;
            }
            rows.iter().for_each(|id| self.tables.saved[*id as usize] |= ROW_SAVED);
        }
        if let Some(table) = self.tables.told.clone() {
            self.delete_saved(saver, &table, &rows, TOLD_SAVED)?;
            for ids in told.chunks(ROWS_MAX) {
                let mut saved = self.key_columns(ids)?;
                if self.spec.ttl.is_some() {
                    let touched = ids.iter().map(|id| self.memory.touched[*id as usize]);
                    saved.push(Arc::new(TimestampMillisecondArray::from_iter_values(touched)));
                }
                saver.put(&table, saved)?;
            }
            told.iter().for_each(|id| self.tables.saved[*id as usize] |= TOLD_SAVED);
        }
        Ok(())
    }

    /// Deletes those of the keys that the table has.
    fn delete_saved(&mut self, saver: &mut Saver, table: &TableDef, ids: &[u32], bit: u8) -> Result<()> {
        let gone: Vec<u32> = ids.iter().copied().filter(|id| self.tables.saved[*id as usize] & bit != 0).collect();
        for ids in gone.chunks(ROWS_MAX) {
            saver.delete(table, self.key_columns(ids)?)?;
            ids.iter().for_each(|id| self.tables.saved[*id as usize] &= !bit);
        }
        Ok(())
    }

    pub(super) fn load_table(&mut self, table: &str, saved: &RecordBatch) -> Result<()> {
        let keys = self.spec.keys.len().max(1);
        let known = match table {
            "told" => self.tables.told.as_ref(),
            _ => self.tables.rows.as_ref().filter(|rows| rows.name == table),
        };
        if known.is_none_or(|known| known.columns.fields().len() != saved.num_columns()) {
            return Err(Error::internal(format!("there is no table `{table}` to load")));
        }
        let named = if self.spec.keys.is_empty() { &[] } else { &saved.columns()[..keys] };
        self.assign_keys(named, saved.num_rows())?;
        let groups = std::mem::take(&mut self.memory.groups);
        if table == "told" {
            let touched = saved.columns().get(keys).map(Words::of).transpose()?;
            for (row, &id) in groups.iter().enumerate() {
                self.memory.states[id as usize] = State::Told;
                self.tables.saved[id as usize] |= TOLD_SAVED;
                if let Some(touched) = &touched {
                    self.memory.touched[id as usize] = touched[row];
                    self.memory.timers.extend(self.memory.due(id).map(|due| Reverse((due, id))));
                }
            }
        } else {
            self.load_rows(saved, &groups, keys)?;
        }
        self.memory.groups = groups;
        Ok(())
    }

    fn load_rows(&mut self, saved: &RecordBatch, groups: &[u32], keys: usize) -> Result<()> {
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.input.fields().len()];
        for (at, column) in self.spec.keys.iter().enumerate() {
            columns[*column] = Some(saved.column(at).clone());
        }
        for (at, column) in self.tables.others.iter().enumerate() {
            columns[*column] = Some(saved.column(keys + at).clone());
        }
        let rows = RecordBatch::try_new(self.input.clone(), columns.into_iter().flatten().collect())?;
        let encoded = self.rows.encode(&rows)?;
        let times = self.times(&rows, self.spec.time)?;
        let live = self.spec.ttl.as_ref().map(|ttl| self.times(&rows, ttl.times[0])).transpose()?;
        let state = if self.spec.keep == Keep::Last { State::Kept } else { State::Waiting };
        let memory = &mut self.memory;
        for (row, &id) in groups.iter().enumerate() {
            let at = id as usize;
            memory.states[at] = state;
            memory.kept.set(id, encoded.row(row));
            memory.times[at] = times[row];
            if let Some(live) = &live {
                memory.touched[at] = live.get(row).copied().unwrap_or(Millis::MIN);
            }
            memory.timers.extend(memory.due(id).map(|due| Reverse((due, id))));
            self.tables.saved[at] |= ROW_SAVED;
        }
        Ok(())
    }
}
