//! Makes changes fit a table with a primary key that is not the key of the query (rule 31).
//!
//! ```text
//!  query by (id, shop), table by id:     +I 7 oslo,  +I 7 rome,   -D 7 oslo        rome stays
//!  the same from two tasks:              +I 7 oslo,  -D 7 oslo,   +I 7 rome        rome stays
//! ```
//!
//! A table that only knows the key would let `-D 7 oslo` delete the row of rome. So for each key the rows are kept that are
//! there, in the order of their arrival, and the last of them is the one that the table has. A row taken back is the last
//! one equal to it; one that is not there changes nothing. Of each batch only the difference is told.
//!
//! The rows of a key are one byte string (mostly there is one row): so a key with very many rows at a time is slow.

use crate::by_group;
use crate::kept::Kept;
use crate::operator::{Event, Operator, Output, ROWS_MAX};
use crate::row_bytes::{Changes, RowBytes};
use crate::saved_keys::{SavedKeys, Taken};
use crate::shelves;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use millstream_core::{Batch, ChangeKind, Error, Result, TimeDomain, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use millstream_state::table::{Saver, TableDef};
use std::sync::Arc;

/// The operator of a node, which goes to disk by shelves. See [`UpsertMaterialize::new`].
pub fn build(keys: &[usize], update_before: bool, input: &SchemaRef, output: SchemaRef) -> Result<Box<dyn Operator>> {
    let (of, by) = (input.clone(), keys.to_vec());
    let make: shelves::Make =
        Box::new(move || Ok(Box::new(UpsertMaterialize::new(&by, update_before, &of, output.clone())?)));
    shelves::wrap(make, std::slice::from_ref(input), &[keys])
}

/// The operator of [`UpsertMaterialize`](crate::graph::NodeKind::UpsertMaterialize).
pub struct UpsertMaterialize {
    keys: Vec<usize>,
    update_before: bool,
    input: SchemaRef,
    rows: RowBytes,
    codec: KeyCodec,
    ids: KeyTable,
    groups: Vec<u32>,
    /// By id: the rows, as [`List`] writes them.
    lists: Kept,
    changes: Changes,
    /// Rows of the key at hand, before and after.
    list: List,
    last: Vec<u8>,
    table: TableDef,
    /// Columns of the input behind the keys.
    others: Vec<usize>,
    saved: SavedKeys,
}

/// Rows one behind the other.
#[derive(Default)]
struct List {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl List {
    /// Each row behind its length, in 4 bytes.
    fn read(&mut self, list: &[u8]) {
        self.bytes.clear();
        self.ends.clear();
        let mut rest = list;
        while let Some((len, behind)) = rest.split_first_chunk::<4>() {
            let (row, next) = behind.split_at(u32::from_le_bytes(*len) as usize);
            self.push(row);
            rest = next;
        }
    }

    fn write(&self, list: &mut Vec<u8>) {
        list.clear();
        for at in 0..self.ends.len() {
            let row = self.row(at);
            list.extend_from_slice(&(row.len() as u32).to_le_bytes());
            list.extend_from_slice(row);
        }
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.ends[at - 1] }
    }

    fn row(&self, at: usize) -> &[u8] {
        &self.bytes[self.start(at)..self.ends[at]]
    }

    fn last(&self) -> Option<&[u8]> {
        self.ends.len().checked_sub(1).map(|at| self.row(at))
    }

    fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(self.bytes.len());
    }

    /// Takes out the last row that is equal to this one.
    fn remove(&mut self, row: &[u8]) {
        let Some(at) = (0..self.ends.len()).rev().find(|at| self.row(*at) == row) else { return };
        self.bytes.drain(self.start(at)..self.ends[at]);
        self.ends.remove(at);
        self.ends[at..].iter_mut().for_each(|end| *end -= row.len());
    }
}

impl UpsertMaterialize {
    /// `keys`: the primary key's columns; `output`: the columns of the input.
    pub fn new(keys: &[usize], update_before: bool, input: &SchemaRef, output: SchemaRef) -> Result<UpsertMaterialize> {
        let types: Vec<_> = keys.iter().map(|k| input.field(*k).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let others: Vec<usize> = (0..input.fields().len()).filter(|c| !keys.contains(c)).collect();
        let mut fields: Vec<Field> = keys.iter().map(|k| input.field(*k).clone()).collect();
        if fields.is_empty() {
            // A part has to have a name, and there is one.
            fields.push(Field::new("$all", DataType::Int64, false));
        }
        let named = fields.len();
        fields.push(Field::new("$place", DataType::Int64, false));
        fields.extend(others.iter().map(|c| input.field(*c).clone()));
        let table = TableDef::new("rows", fields, named + 1).part(named).group_by(0..keys.len());
        let rows = RowBytes::new(input, &[])?;
        Ok(UpsertMaterialize {
            keys: keys.to_vec(),
            update_before,
            input: input.clone(),
            ids: codec.table(),
            codec,
            groups: Vec::new(),
            lists: Kept::default(),
            changes: Changes::new(&rows, output, false),
            rows,
            list: List::default(),
            last: Vec::new(),
            table,
            others,
            saved: SavedKeys::default(),
        })
    }

    fn assign(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        self.ids.assign(&self.codec.encode(keys, rows)?, 0..rows, &mut self.groups);
        self.saved.make_room(self.ids.len());
        Ok(())
    }

    fn take_in(&mut self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        self.assign(&keys, batch.len())?;
        let encoded = self.rows.encode(&batch.rows)?;
        let mut places: Vec<u64> = (0..batch.len()).map(|row| by_group::place(self.groups[row], row)).collect();
        places.sort_unstable();
        let mut empty = Vec::new();
        for run in by_group::runs(&places) {
            let id = by_group::group(places[run.start]);
            self.list.read(self.lists.get(id).unwrap_or_default());
            let was_there = self.list.last().map(|last| {
                self.last.clear();
                self.last.extend_from_slice(last);
            });
            // Row by row, since which row is the last one depends on their order.
            for place in &places[run] {
                let row = by_group::row(*place);
                let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(row)));
                match kind {
                    ChangeKind::Insert | ChangeKind::UpdateAfter => self.list.push(encoded.row(row)),
                    ChangeKind::UpdateBefore | ChangeKind::Delete => self.list.remove(encoded.row(row)),
                }
            }
            self.tell(was_there.is_some(), out)?;
            self.keep(id);
            if self.list.ends.is_empty() {
                empty.push(id);
            }
        }
        self.changes.flush(&self.rows, out)?;
        self.release(&empty)
    }

    /// Tells what has become of the key's row.
    fn tell(&mut self, was_there: bool, out: &mut dyn Output) -> Result<()> {
        self.changes.make_room(2, &self.rows, out)?;
        match (was_there, self.list.last()) {
            (true, Some(row)) if row == self.last => {}
            (true, Some(row)) => {
                if self.update_before {
                    self.changes.push(ChangeKind::UpdateBefore, &self.last, 1);
                }
                self.changes.push(ChangeKind::UpdateAfter, row, 1);
            }
            (true, None) => self.changes.push(ChangeKind::Delete, &self.last, 1),
            (false, Some(row)) => self.changes.push(ChangeKind::Insert, row, 1),
            (false, None) => {}
        }
        Ok(())
    }

    /// Keeps the list at hand as that of a key.
    fn keep(&mut self, id: u32) {
        if self.list.ends.is_empty() {
            self.lists.remove(id);
        } else {
            let mut list = std::mem::take(&mut self.last);
            self.list.write(&mut list);
            self.lists.set(id, &list);
            self.last = list;
        }
        self.saved.touch(id);
    }

    /// Gives up the ids of keys without rows.
    fn release(&mut self, ids: &[u32]) -> Result<()> {
        let mut saved = std::mem::take(&mut self.saved);
        let ended = saved.end(ids, |gone| self.key_columns(gone));
        self.saved = saved;
        ended?;
        // Without keys there is one group, which need not be found again.
        if !self.keys.is_empty() {
            ids.iter().for_each(|id| self.ids.release(*id));
        }
        Ok(())
    }

    fn key_columns(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        match self.keys.is_empty() {
            true => Ok(vec![Arc::new(Int64Array::from_value(0, ids.len()))]),
            false => self.codec.decode_ids(&self.ids, ids),
        }
    }

    /// Puts the rows of some keys.
    fn put(&mut self, saver: &mut Saver, ids: &[u32]) -> Result<()> {
        let (mut rows, mut places, mut of) = (List::default(), Vec::new(), Vec::new());
        for id in ids {
            self.list.read(self.lists.get(*id).unwrap_or_default());
            for at in 0..self.list.ends.len() {
                rows.push(self.list.row(at));
                places.push(at as i64);
                of.push(*id);
            }
        }
        let columns = self.rows.decode((0..rows.ends.len()).map(|at| rows.row(at)))?;
        let mut saved = self.key_columns(&of)?;
        saved.push(Arc::new(Int64Array::from(places)));
        saved.extend(self.others.iter().map(|c| columns[*c].clone()));
        saver.put(&self.table, saved)
    }
}

impl Operator for UpsertMaterialize {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(&batch, out),
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.lists.bytes()
            + self.ids.bytes()
            + self.groups.capacity() * 4
            + self.changes.bytes()
            + self.list.bytes.capacity()
            + self.saved.bytes()
    }

    fn due(&self, _: TimeDomain) -> Option<Watermark> {
        None
    }

    fn tables(&self) -> Vec<TableDef> {
        vec![self.table.clone()]
    }

    fn track_changes(&mut self) {
        self.saved.tracking = true;
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        let Taken { mut ids, gone } = self.saved.take(saver.whole(), self.ids.len());
        gone.into_iter().try_for_each(|keys| saver.drop_parts(&self.table, keys))?;
        ids.retain(|id| self.lists.get(*id).is_some());
        let known = self.saved.known(&ids);
        if !known.is_empty() {
            saver.drop_parts(&self.table, self.key_columns(&known)?)?;
        }
        for ids in ids.chunks(ROWS_MAX) {
            self.put(saver, ids)?;
        }
        self.saved.done(&ids);
        Ok(())
    }

    fn load(&mut self, table: &str, _: u32, saved: &RecordBatch) -> Result<()> {
        if table != self.table.name || saved.num_columns() != self.table.columns.fields().len() {
            return Err(Error::internal(format!("there is no table `{table}` to load")));
        }
        let named = self.keys.len().max(1);
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.input.fields().len()];
        for (at, column) in self.keys.iter().enumerate() {
            columns[*column] = Some(saved.column(at).clone());
        }
        for (at, column) in self.others.iter().enumerate() {
            columns[*column] = Some(saved.column(named + 1 + at).clone());
        }
        let rows = RecordBatch::try_new(self.input.clone(), columns.into_iter().flatten().collect())?;
        self.assign(if self.keys.is_empty() { &[] } else { &saved.columns()[..named] }, saved.num_rows())?;
        let encoded = self.rows.encode(&rows)?;
        for row in 0..rows.num_rows() {
            let id = self.groups[row];
            self.list.read(self.lists.get(id).unwrap_or_default());
            self.list.push(encoded.row(row));
            self.list.write(&mut self.last);
            self.lists.set(id, &self.last);
        }
        self.saved.done(&self.groups);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Crew, Table, Timeline, pressed_if, render};
    use arrow::array::Int8Array;
    use millstream_state::tier::MemorySpace;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn columns() -> [(&'static str, DataType); 3] {
        [("id", DataType::Int64), ("shop", DataType::Utf8), ("n", DataType::Int64)]
    }

    fn build(keys: &[usize], update_before: bool, input: &SchemaRef) -> Box<dyn Operator> {
        super::build(keys, update_before, input, input.clone()).expect("the operator builds")
    }

    #[test]
    fn a_row_taken_back_leaves_the_one_that_came_after_it() {
        let timeline = Timeline::new(&columns()).keyed(&[0]).by_table();
        let schema = timeline.schema();
        let script = "
            rows  7 oslo 1              -> 7 oslo 1
            rows  7 rome 1              -> -U 7 oslo 1, +U 7 rome 1
            rows  -D 7 oslo 1           # not the row that the table has
            rows  -D 7 rome 1, 8 bonn 2 -> -D 7 rome 1, 8 bonn 2
            rows  -D 8 kyiv 2           # nobody knows it
            rows  -U 8 bonn 2, +U 8 bonn 3, 9 lima 1, -D 9 lima 1 -> -U 8 bonn 2, +U 8 bonn 3
            rows  8 kyiv 5              -> -U 8 bonn 3, +U 8 kyiv 5
            rows  -D 8 kyiv 5           -> -U 8 kyiv 5, +U 8 bonn 3
            rows  8 bonn 3, -D 8 bonn 3";
        timeline.check(|| build(&[0], true, &schema), script);
        timeline.check_pressed(|| build(&[0], true, &schema), script);
    }

    #[test]
    fn without_the_row_before_an_update_is_one_row() {
        let timeline = Timeline::new(&columns()).keyed(&[0]).identity(1);
        let schema = timeline.schema();
        let script = "rows 7 oslo 1 -> 7 oslo 1\n rows 7 rome 1 -> +U 7 rome 1\n rows -U 7 rome 1 -> +U 7 oslo 1";
        timeline.check(|| build(&[0], false, &schema), script);
    }

    type Row = (i64, i64, i64);

    /// A row, whether it is taken back, and what happens behind it: 0 nothing, 8 a save, 9 a crash.
    fn moves() -> impl Strategy<Value = Vec<(Row, bool, u8)>> {
        prop::collection::vec(((0i64..4, 0i64..3, 0i64..2), any::<bool>(), 0u8..10), 1..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_table_has_the_last_row_of_each_key(
            moves in moves(),
            whole in any::<bool>(),
            update_before in any::<bool>(),
            cut in prop::sample::select(vec![1usize, 4, 100]),
            tasks in prop::sample::select(vec![vec![1usize], vec![2, 7, 1], vec![3]]),
            every in 0usize..4,
        ) {
            let keys: &[usize] = if whole { &[] } else { &[0] };
            let timeline = Timeline::new(&columns());
            let schema = timeline.schema();
            let space = Arc::<MemorySpace>::default();
            let make = || pressed_if(build(keys, update_before, &schema), every, &space);
            let mut crew = Crew::new(&make, tasks[0]);
            let mut model: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
            let (mut table, mut last, mut crashes) = (Table::default(), BTreeMap::new(), 0);
            for part in moves.chunks(cut) {
                let texts: Vec<Vec<String>> =
                    part.iter().map(|((id, shop, n), ..)| [id, shop, n].map(|v| v.to_string()).to_vec()).collect();
                let mut batch = Batch::from(timeline.batch(&texts));
                batch.kinds = Some(part.iter().map(|m| if m.1 { 3 } else { 0 }).collect::<Int8Array>());
                for (row, removal, _) in part {
                    let rows = model.entry(if whole { 0 } else { row.0 }).or_default();
                    match rows.iter().rposition(|r| r == row) {
                        Some(at) if *removal => drop(rows.remove(at)),
                        None if *removal => {}
                        _ => rows.push(*row),
                    }
                }
                let capture = crew.step(keys, Event::Batch { input: 0, batch });
                if update_before {
                    table.take(&capture);
                }
                for (_, batch) in &capture.emitted {
                    for (i, row) in render(&batch.rows, false).into_iter().enumerate() {
                        let key = if whole { String::new() } else { row.split(' ').take(1).collect() };
                        match batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i))) {
                            ChangeKind::Delete => prop_assert_eq!(last.remove(&key), Some(row)),
                            ChangeKind::UpdateBefore => prop_assert!(update_before),
                            _ => drop(last.insert(key, row)),
                        }
                    }
                }
                let mut wanted: Vec<String> =
                    model.values().filter_map(|rows| rows.last().map(|(a, b, c)| format!("{a} {b} {c}"))).collect();
                wanted.sort();
                let mut got: Vec<String> = last.values().cloned().collect();
                got.sort();
                prop_assert_eq!(&got, &wanted);
                prop_assert!(!update_before || table.rows() == wanted);
                match part.last().map_or(0, |m| m.2) {
                    8 => crew.save(),
                    9 => {
                        crashes += 1;
                        crew = crew.crash(&make, tasks[crashes % tasks.len()]);
                    }
                    _ => {}
                }
            }
        }
    }
}
