//! What a group aggregation remembers, as tables.
//!
//! ```text
//!  groups            key .. │ touched │ count │ sum_price │ ..     one row for each group
//!  distinct_bidder   key .. │ bidder │ mask                        one for each value seen, where rows stay
//!  values_price      key .. │ price │ place │ count                one for each value there, where rows may be taken back
//! ```
//!
//! Of the groups, those that have changed are saved again; of their values, the values that have. A group that is gone takes its
//! values along, as a part of their tables.
//!
//! `touched` is there where groups are forgotten in time, and `place` where the input has an order. Without keys, `all` stands
//! for them: a table needs a name for its one row, and that the row is there says that it has been told of.

use super::GroupAggregate;
use crate::aggregate::{Names, Plan};
use crate::operator::ROWS_MAX;
use crate::rows::saved_columns;
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit, TimestampMillisecondType};
use millstream_core::{Error, Result};
use millstream_state::table::{Saver, TableDef};
use std::sync::Arc;

/// The name of the group that all rows are in.
const ALL: i32 = 0;

pub(super) struct Tables {
    groups: TableDef,
    distincts: Vec<TableDef>,
    bags: Vec<TableDef>,
    /// So many first columns name a group.
    naming: usize,
    ttl: bool,
}

impl Tables {
    pub fn new(keys: &[usize], plan: &Plan, input: &Schema, ttl: bool) -> Tables {
        let naming = |names: &mut Names| -> Vec<Field> {
            if keys.is_empty() {
                return vec![Field::new(names.take("all"), DataType::Int32, true)];
            }
            keys.iter().map(|k| input.field(*k).clone()).map(|f| f.clone().with_name(names.take(f.name()))).collect()
        };
        let width = keys.len().max(1);
        let mut names = Names::default();
        let mut columns = naming(&mut names);
        if ttl {
            let time = DataType::Timestamp(TimeUnit::Millisecond, None);
            columns.push(Field::new(names.take("touched"), time, true));
        }
        columns.extend(plan.saved_fields(&mut names));
        let groups = TableDef::new("groups", columns, width).group_by(0..keys.len());
        let mut tables = Names::default();
        let mut values = |name: String, fields: &dyn Fn(&mut Names) -> Vec<Field>, last: &str| {
            let mut names = Names::default();
            let mut columns = naming(&mut names);
            columns.extend(fields(&mut names));
            let key = columns.len();
            columns.push(Field::new(names.take(last), DataType::Int64, true));
            TableDef::new(&tables.take(&name), columns, key).part(width).group_by(0..keys.len())
        };
        let distincts = (0..plan.distinct_sets())
            .map(|set| {
                values(
                    format!("distinct_{}", plan.distinct_name(set)),
                    &|n: &mut Names| plan.distinct_fields(set, n),
                    "mask",
                )
            })
            .collect();
        let bags = (0..plan.bags())
            .map(|bag| {
                values(format!("values_{}", plan.bag_name(bag)), &|n: &mut Names| plan.bag_fields(bag, n), "count")
            })
            .collect();
        Tables { groups, distincts, bags, naming: width, ttl }
    }

    pub fn all(&self) -> Vec<TableDef> {
        std::iter::once(&self.groups).chain(self.values()).cloned().collect()
    }

    /// The tables of values.
    fn values(&self) -> impl Iterator<Item = &TableDef> {
        self.distincts.iter().chain(&self.bags)
    }

    /// Whether there is more to a group than its row.
    pub fn has_parts(&self) -> bool {
        self.values().next().is_some()
    }
}

/// What has changed since the last save.
#[derive(Default)]
pub(super) struct Changes {
    /// By group.
    marks: Vec<Mark>,
    /// Ids of groups that have changed, some of which may have moved since.
    changed: Vec<u32>,
    /// What names the groups that have been saved and are gone, or have begun anew.
    gone: Vec<Vec<ArrayRef>>,
    gone_bytes: usize,
}

#[derive(Clone, Copy, Default)]
struct Mark {
    changed: bool,
    /// A checkpoint has a row of it.
    saved: bool,
}

impl Changes {
    pub fn resize(&mut self, groups: usize) {
        self.marks.resize(groups, Mark::default());
    }

    #[inline]
    pub fn mark(&mut self, group: u32) {
        let mark = &mut self.marks[group as usize];
        if !mark.changed {
            mark.changed = true;
            self.changed.push(group);
        }
    }

    /// Removes a group; the last one takes its id.
    pub fn swap_remove(&mut self, group: u32) {
        self.marks.swap_remove(group as usize);
        // It stands in the list under an id that it has no more.
        if self.marks.get(group as usize).is_some_and(|mark| mark.changed) {
            self.changed.push(group);
        }
        if self.changed.len() > 2 * self.marks.len() + 1024 {
            let marks = &self.marks;
            self.changed.sort_unstable();
            self.changed.dedup();
            self.changed.retain(|group| marks.get(*group as usize).is_some_and(|mark| mark.changed));
        }
    }

    /// The groups that have changed, or all; none has changed from now on, and all that are returned are saved.
    fn take(&mut self, whole: bool) -> Vec<u32> {
        let mut taken = std::mem::take(&mut self.changed);
        if whole {
            taken = (0..self.marks.len() as u32).collect();
        } else {
            taken.sort_unstable();
            taken.dedup();
            taken.retain(|group| self.marks.get(*group as usize).is_some_and(|mark| mark.changed));
        }
        taken.iter().for_each(|group| self.marks[*group as usize] = Mark { changed: false, saved: true });
        taken
    }

    pub fn shrink(&mut self) {
        self.marks.shrink_to_fit();
        self.changed.shrink_to_fit();
    }

    pub fn bytes(&self) -> usize {
        self.marks.capacity() * size_of::<Mark>() + self.changed.capacity() * 4 + self.gone_bytes
    }
}

impl GroupAggregate {
    /// What names these groups in a table.
    fn names_of(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.keys.is_empty() {
            return Ok(vec![Arc::new(Int32Array::from_value(ALL, groups.len()))]);
        }
        self.codec.decode_ids(&self.table, groups)
    }

    /// Takes note that the state of these groups is gone: what has been saved of them is void.
    pub(super) fn note_gone(&mut self, groups: &[u32]) -> Result<()> {
        let Some(changes) = &mut self.changes else { return Ok(()) };
        let mut saved = Vec::new();
        for group in groups {
            if std::mem::take(&mut changes.marks[*group as usize].saved) {
                saved.push(*group);
            }
        }
        if saved.is_empty() {
            return Ok(());
        }
        let names = self.names_of(&saved)?;
        if let Some(changes) = &mut self.changes {
            changes.gone_bytes += names.iter().map(|c| c.get_array_memory_size()).sum::<usize>();
            changes.gone.push(names);
        }
        Ok(())
    }

    pub(super) fn save_tables(&mut self, saver: &mut Saver) -> Result<()> {
        let whole = saver.whole();
        let (mut ids, gone) = match &mut self.changes {
            Some(changes) => {
                changes.gone_bytes = 0;
                (changes.take(whole), std::mem::take(&mut changes.gone))
            }
            None => ((0..self.state.groups() as u32).collect(), Vec::new()),
        };
        if self.keys.is_empty() && !self.exists {
            ids.clear();
        }
        if !whole {
            for names in gone {
                for table in self.tables.values() {
                    saver.drop_parts(table, names.clone())?;
                }
                saver.delete(&self.tables.groups, names)?;
            }
        }
        // In pieces, so that the state is never there a second time as columns.
        for ids in ids.chunks(ROWS_MAX) {
            let mut columns = self.names_of(ids)?;
            if let Some(ttl) = &self.ttl {
                let touched = ids.iter().map(|group| ttl.expiry.touched(*group));
                columns.push(Arc::new(TimestampMillisecondArray::from_iter_values(touched)));
            }
            columns.extend(self.state.save(ids)?);
            saver.put(&self.tables.groups, columns)?;
        }
        for set in 0..self.tables.distincts.len() {
            let entries = self.state.save_distinct(set, whole)?;
            let mut columns = self.names_of(&entries.groups)?;
            columns.extend(entries.values);
            columns.push(Arc::new(entries.masks));
            saver.put(&self.tables.distincts[set], columns)?;
        }
        for bag in 0..self.tables.bags.len() {
            let (there, gone) = self.state.save_bag(bag, &ids, whole)?;
            let table = &self.tables.bags[bag];
            let mut names = self.names_of(&gone.groups)?;
            names.extend(gone.columns);
            saver.delete(table, names)?;
            let mut columns = self.names_of(&there.groups)?;
            columns.extend(there.columns);
            columns.push(Arc::new(Int64Array::from(there.counts)));
            saver.put(table, columns)?;
        }
        Ok(())
    }

    pub(super) fn load_table(&mut self, name: &str, rows: &RecordBatch) -> Result<()> {
        let tables = &self.tables;
        let set = tables.distincts.iter().position(|t| t.name == name);
        let bag = tables.bags.iter().position(|t| t.name == name);
        let table = match (set, bag) {
            (Some(set), _) => &tables.distincts[set],
            (_, Some(bag)) => &tables.bags[bag],
            _ if name == tables.groups.name => &tables.groups,
            _ => return Err(Error::internal(format!("there is no table `{name}` to load"))),
        };
        let mut naming = saved_columns(table, rows)?;
        let rest = naming.split_off(tables.naming);
        let keys = if self.keys.is_empty() { Vec::new() } else { naming };
        let mut ids = std::mem::take(&mut self.ids);
        self.table.assign(&self.codec.encode(&keys, rows.num_rows())?, 0..rows.num_rows(), &mut ids);
        self.make_room();
        let last = || rest.split_last().ok_or_else(|| Error::internal("a table without columns"));
        if let Some(set) = set {
            let (masks, values) = last()?;
            self.state.load_distinct(set, &ids, values, masks.as_primitive::<Int64Type>())?;
        } else if let Some(bag) = bag {
            let (counts, values) = last()?;
            self.state.load_bag(bag, &ids, values, counts.as_primitive::<Int64Type>().values())?;
        } else {
            self.state.load(&ids, &rest[usize::from(self.tables.ttl)..])?;
            self.exists = true;
            if let Some(ttl) = &mut self.ttl {
                let touched = rest[0].as_primitive::<TimestampMillisecondType>().values();
                ids.iter().zip(touched).for_each(|(group, at)| ttl.expiry.begin(*group, *at));
            }
            if let Some(changes) = &mut self.changes {
                ids.iter().for_each(|group| changes.marks[*group as usize].saved = true);
            }
        }
        self.ids = ids;
        Ok(())
    }
}
