//! Makes changes of what a table tells by key alone.
//!
//! ```text
//!  a topic by key:    7 oslo        7 rome                       7 (no value)     7 (no value)
//!  what comes out:    +I 7 oslo     -U 7 oslo, +U 7 rome         -D 7 rome
//! ```
//!
//! For each key the last row is remembered, so that an update can take back what it replaces, and a row that is gone is told as
//! it was. A row that is equal to the last one tells nothing, and neither does the end of a key that nobody knows.
//!
//! Each change comes out by itself, however rows are cut into batches: a temporal join wants every version. Unlike
//! [`upsert`](crate::upsert), which stands before a table and keeps several rows of a key apart, the key is taken at its word
//! here. Nothing is ever forgotten but by its end: a key forgotten too early could not be taken back any more.

use crate::kept::Kept;
use crate::operator::{Event, Operator, Output, ROWS_MAX};
use crate::row_bytes::{Changes, RowBytes};
use crate::saved_keys::{SavedKeys, Taken};
use crate::shelves;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use millstream_core::{Batch, ChangeKind, Error, Result, TimeDomain, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use millstream_state::table::{Saver, TableDef};

/// The operator of a node, which goes to disk by shelves. See [`Normalize::new`].
pub fn build(keys: &[usize], update_before: bool, input: &SchemaRef, output: SchemaRef) -> Result<Box<dyn Operator>> {
    let (of, by) = (input.clone(), keys.to_vec());
    let make: shelves::Make = Box::new(move || Ok(Box::new(Normalize::new(&by, update_before, &of, output.clone())?)));
    shelves::wrap(make, std::slice::from_ref(input), &[keys])
}

/// The operator of [`Normalize`](crate::graph::NodeKind::Normalize).
pub struct Normalize {
    keys: Vec<usize>,
    update_before: bool,
    input: SchemaRef,
    rows: RowBytes,
    codec: KeyCodec,
    ids: KeyTable,
    groups: Vec<u32>,
    /// By id: the key's row.
    kept: Kept,
    changes: Changes,
    table: TableDef,
    /// Columns of the input behind the keys.
    others: Vec<usize>,
    saved: SavedKeys,
}

impl Normalize {
    /// `keys`: the primary key's columns, at least one; `output`: the columns of the input, NOT NULL where they are declared so.
    pub fn new(keys: &[usize], update_before: bool, input: &SchemaRef, output: SchemaRef) -> Result<Normalize> {
        if keys.is_empty() {
            return Err(Error::internal("rows that are told by their key have one"));
        }
        let types: Vec<_> = keys.iter().map(|k| input.field(*k).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let others: Vec<usize> = (0..input.fields().len()).filter(|c| !keys.contains(c)).collect();
        let fields: Vec<Field> = keys.iter().chain(&others).map(|c| input.field(*c).clone()).collect();
        let rows = RowBytes::new(input, &[])?;
        Ok(Normalize {
            keys: keys.to_vec(),
            update_before,
            input: input.clone(),
            ids: codec.table(),
            codec,
            groups: Vec::new(),
            kept: Kept::default(),
            changes: Changes::new(&rows, output, false),
            rows,
            table: TableDef::new("rows", fields, keys.len()).group_by(0..keys.len()),
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
        let mut ended = Vec::new();
        // Row by row, since each takes back what the one of its key before it has left.
        for row in 0..batch.len() {
            let id = self.groups[row];
            let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(row)));
            self.changes.make_room(2, &self.rows, out)?;
            let before = self.kept.get(id);
            match (kind, before) {
                (ChangeKind::Insert | ChangeKind::UpdateAfter, before) => {
                    let row = encoded.row(row);
                    match before {
                        Some(before) if before == row => continue,
                        Some(before) => {
                            if self.update_before {
                                self.changes.push(ChangeKind::UpdateBefore, before, 1);
                            }
                            self.changes.push(ChangeKind::UpdateAfter, row, 1);
                        }
                        None => self.changes.push(ChangeKind::Insert, row, 1),
                    }
                    self.kept.set(id, row);
                }
                (ChangeKind::UpdateBefore | ChangeKind::Delete, Some(before)) => {
                    self.changes.push(ChangeKind::Delete, before, 1);
                    self.kept.remove(id);
                    ended.push(id);
                }
                (ChangeKind::UpdateBefore | ChangeKind::Delete, None) => {
                    ended.push(id);
                    continue;
                }
            }
            self.saved.touch(id);
        }
        self.changes.flush(&self.rows, out)?;
        self.release(ended)
    }

    /// Gives up the ids of keys that have no row in the end.
    fn release(&mut self, mut ids: Vec<u32>) -> Result<()> {
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| self.kept.get(*id).is_none());
        self.saved.end(&ids, |gone| self.codec.decode_ids(&self.ids, gone))?;
        ids.iter().for_each(|id| self.ids.release(*id));
        Ok(())
    }
}

impl Operator for Normalize {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(&batch, out),
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.kept.bytes() + self.ids.bytes() + self.groups.capacity() * 4 + self.changes.bytes() + self.saved.bytes()
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
        gone.into_iter().try_for_each(|keys| saver.delete(&self.table, keys))?;
        ids.retain(|id| self.kept.get(*id).is_some());
        for ids in ids.chunks(ROWS_MAX) {
            let columns = self.rows.decode(ids.iter().filter_map(|id| self.kept.get(*id)))?;
            let mut saved = self.codec.decode_ids(&self.ids, ids)?;
            saved.extend(self.others.iter().map(|c| columns[*c].clone()));
            saver.put(&self.table, saved)?;
        }
        self.saved.done(&ids);
        Ok(())
    }

    fn load(&mut self, table: &str, _: u32, saved: &RecordBatch) -> Result<()> {
        if table != self.table.name || saved.num_columns() != self.table.columns.fields().len() {
            return Err(Error::internal(format!("there is no table `{table}` to load")));
        }
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.input.fields().len()];
        for (at, column) in self.keys.iter().chain(&self.others).enumerate() {
            columns[*column] = Some(saved.column(at).clone());
        }
        let rows = RecordBatch::try_new(self.input.clone(), columns.into_iter().flatten().collect())?;
        self.assign(&saved.columns()[..self.keys.len()], saved.num_rows())?;
        let encoded = self.rows.encode(&rows)?;
        for (row, id) in self.groups.iter().enumerate() {
            self.kept.set(*id, encoded.row(row));
        }
        self.saved.done(&self.groups);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Crew, Table, Timeline, pressed_if};
    use arrow::array::Int8Array;
    use arrow::datatypes::DataType;
    use millstream_state::tier::MemorySpace;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn columns() -> [(&'static str, DataType); 3] {
        [("id", DataType::Int64), ("shop", DataType::Utf8), ("n", DataType::Int64)]
    }

    fn build(update_before: bool, input: &SchemaRef) -> Box<dyn Operator> {
        super::build(&[0], update_before, input, input.clone()).expect("the operator builds")
    }

    #[test]
    fn an_update_takes_back_what_it_replaces() {
        let timeline = Timeline::new(&columns()).keyed(&[0]);
        let schema = timeline.schema();
        let script = "
            rows  +U 7 oslo 1             -> 7 oslo 1
            rows  +U 7 rome 1             -> -U 7 oslo 1, +U 7 rome 1
            rows  +U 7 rome 1             # says nothing new
            rows  -D 7 gone 0, +U 8 bonn 2 -> -D 7 rome 1, 8 bonn 2
            rows  -D 7 gone 0, -D 9 gone 0 # nobody knows them
            rows  +U 8 kyiv 2, +U 8 lima 2, -D 8 gone 0, +U 8 bonn 3 -> -U 8 bonn 2, +U 8 kyiv 2, -U 8 kyiv 2, +U 8 lima 2, -D 8 lima 2, 8 bonn 3
            rows  +U 7 oslo 1             -> 7 oslo 1";
        timeline.check(|| build(true, &schema), script);
        timeline.check_pressed(|| build(true, &schema), script);
    }

    #[test]
    fn where_nobody_asks_for_it_an_update_is_one_row() {
        let timeline = Timeline::new(&columns()).keyed(&[0]).identity(1);
        let schema = timeline.schema();
        let script = "rows +U 7 oslo 1 -> 7 oslo 1\n rows +U 7 rome 1 -> +U 7 rome 1\n rows -D 7 gone 0 -> -D 7 rome 1";
        timeline.check(|| build(false, &schema), script);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_table_has_the_last_row_of_each_key(
            // A row, whether it is gone, and what happens behind it: 8 a save, 9 a crash.
            moves in prop::collection::vec(((0i64..5, 0i64..3), any::<bool>(), 0u8..10), 1..80),
            cut in prop::sample::select(vec![1usize, 4, 100]),
            tasks in prop::sample::select(vec![vec![1usize], vec![2, 7, 1], vec![3]]),
            every in 0usize..4,
        ) {
            let timeline = Timeline::new(&columns());
            let schema = timeline.schema();
            let space = Arc::<MemorySpace>::default();
            let make = || pressed_if(build(true, &schema), every, &space);
            let mut crew = Crew::new(&make, tasks[0]);
            let mut model: BTreeMap<i64, String> = BTreeMap::new();
            let (mut table, mut crashes) = (Table::default(), 0);
            for part in moves.chunks(cut) {
                // Of a row that is gone only the key is known.
                let texts: Vec<Vec<String>> = part
                    .iter()
                    .map(|((id, n), gone, _)| {
                        let shop = if *gone { "-" } else { "x" };
                        vec![id.to_string(), shop.to_string(), if *gone { 0 } else { *n }.to_string()]
                    })
                    .collect();
                let mut batch = Batch::from(timeline.batch(&texts));
                batch.kinds = Some(part.iter().map(|m| if m.1 { 3 } else { 2 }).collect::<Int8Array>());
                for ((id, n), gone, _) in part {
                    if *gone {
                        model.remove(id);
                    } else {
                        model.insert(*id, format!("{id} x {n}"));
                    }
                }
                // Every row that it takes back must be there, or `Table` fails.
                table.take(&crew.step(&[0], Event::Batch { input: 0, batch }));
                let mut wanted: Vec<String> = model.values().cloned().collect();
                wanted.sort();
                prop_assert_eq!(table.rows(), wanted);
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
