//! Slices below the memory: what does not fit goes to scratch space as runs, and comes back range by range.
//!
//! ```text
//!  slice ─┬─ table in memory (takes in rows)     ──shed──▶ a run; the table begins anew, empty
//!         └─ runs  0 1 2 ..  each: range 0 │ range 1 │ .. │ range 127      many runs ──merge──▶ one
//!
//!  a window fires:  for each range: that range of all runs of its slices, joined ──▶ result
//! ```
//!
//! A row is never looked up below: it goes into the table in memory, and a key may stand in several runs and in the table.
//! States of one key can be joined, in any order, to the bit (see [`crate::aggregate`]), so nothing needs to be read before
//! the result is due. Runs are then as cheap to write as a file is, and what is joined at a time is one range.
//!
//! In a checkpoint every run stands under its own number, beside the table's: rows of one key and different runs do not
//! replace each other, and are joined where they are loaded. A run never changes, so it is saved once. A slice that has
//! been loaded from several runs is saved anew, as what it then is.
//!
//! Always true:
//! - What lies in runs and in the table of a slice, joined, is what the slice would hold in memory.
//! - The numbers in `Slice::saved` are those that the checkpoint knows rows of; a number is never used again while it is
//!   one of them.

use super::emit::{PLAIN, times};
use super::grid::SliceId;
use super::saved::Tables;
use super::table::{Grouping, Rows, Table};
use super::{Slice, WindowAggregate};
use crate::aggregate::{Accumulators, Names};
use crate::operator::Output;
use arrow::array::*;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millstream_core::{Millis, Result};
use millstream_state::table::Saver;
use millstream_state::tier::{Packing, Places, RANGES, RunId, RunWriter, Spill, read_block};
use std::ops::Range;
use std::sync::Arc;

/// Runs of one level of a slice that are merged into one of the next level. More: fewer bytes written, more space taken
/// by keys that stand in many runs.
const FAN_IN: usize = 16;

/// A slice's table of less than this part of the memory that was too much stays where it is when its windows fire. So a
/// stream that has become quiet comes back to memory.
const SMALL_PART: usize = 16;

/// Part of a slice that lies in scratch space.
pub(super) struct Run {
    /// Under which its rows stand in a checkpoint.
    pub number: i32,
    /// Merges that it has come from.
    level: u8,
    /// It stands in the checkpoint.
    pub saved: bool,
    file: Arc<RunFile>,
    /// For each range: the block of the groups, then one for each distinct set.
    places: Arc<Places>,
}

/// Gone from scratch space with the last who knows it: a slice, or a checkpoint that has yet to be written.
struct RunFile {
    space: Arc<dyn Spill>,
    id: RunId,
}

impl Drop for RunFile {
    fn drop(&mut self) {
        self.space.remove(self.id);
    }
}

/// One kind of blocks of a run, as a checkpoint reads it.
#[derive(Clone)]
struct Stored {
    below: Arc<Below>,
    grouping: Arc<Grouping>,
    file: Arc<RunFile>,
    places: Arc<Places>,
    /// 0: the groups, otherwise a distinct set.
    block: usize,
    number: i32,
    span: (Millis, Millis),
}

impl Stored {
    /// The columns of one range, in the order of their table.
    fn columns(&self, range: usize) -> Result<Option<Vec<ArrayRef>>> {
        let (below, grouping) = (&self.below, &self.grouping);
        let schema = if self.block == 0 { &below.groups } else { &below.sets[self.block - 1] };
        let at = range * below.blocks_of_range() + self.block;
        let Some(rows) = read_block(below.space.as_ref(), self.file.id, &self.places, at, schema)? else {
            return Ok(None);
        };
        let mut columns = lead(self.span.0, self.span.1, self.number, rows.num_rows());
        if self.block > 0 || !below.records {
            columns.extend(rows.columns().iter().cloned());
            return Ok(Some(columns));
        }
        let (mut table, mut part, mut ids) = (grouping.table(), grouping.table(), Vec::new());
        below.join_blocks(grouping, &[Some(rows)], &mut table, &mut part, &mut ids)?;
        columns.extend(grouping.codec.decode_ids(&table.keys, &ids)?);
        columns.extend(table.state.save(&ids)?);
        Ok(Some(columns))
    }
}

/// Where a run stands.
type Stand = (Arc<RunFile>, Arc<Places>);

/// Scratch space, and how blocks look there.
pub(super) struct Below {
    space: Arc<dyn Spill>,
    pub packing: Packing,
    groups: SchemaRef,
    sets: Vec<SchemaRef>,
    /// Whether groups are stored as the records that they are in memory.
    records: bool,
    keys: usize,
}

impl Below {
    pub fn new(space: Arc<dyn Spill>, grouping: &Grouping, input: &Schema) -> Below {
        let plan = &grouping.plan;
        let keys = |names: &mut Names| -> Vec<Field> {
            let fields = grouping.keys.iter().map(|k| input.field(*k));
            fields.map(|f| f.clone().with_name(names.take(f.name()))).collect()
        };
        let records = plan.records_only();
        let mut names = Names::default();
        let mut groups = keys(&mut names);
        match records {
            true => groups.extend(Accumulators::partial_fields(plan)),
            false => groups.extend(plan.saved_fields(&mut names)),
        }
        let set = |set: usize| {
            let mut names = Names::default();
            let mut fields = keys(&mut names);
            fields.extend(plan.distinct_fields(set, &mut names));
            fields.push(Field::new(names.take("mask"), DataType::Int64, true));
            millstream_state::tier::block_schema(fields)
        };
        Below {
            space,
            packing: Packing::default(),
            groups: millstream_state::tier::block_schema(groups),
            sets: (0..plan.distinct_sets()).map(set).collect(),
            records,
            keys: grouping.keys.len(),
        }
    }

    fn blocks_of_range(&self) -> usize {
        1 + self.sets.len()
    }

    /// Writes all that a table holds.
    fn write(&self, grouping: &Grouping, table: &Table) -> Result<Stand> {
        let sorted = Sorted::new(self, grouping, table)?;
        let mut writer = RunWriter::new(self.space.as_ref(), self.packing)?;
        for range in 0..RANGES {
            for block in sorted.blocks(range)? {
                writer.push(block.as_ref())?;
            }
        }
        self.stand(writer)
    }

    fn stand(&self, writer: RunWriter<'_>) -> Result<Stand> {
        let (id, places) = writer.finish()?;
        let file = RunFile { space: self.space.clone(), id };
        Ok((Arc::new(file), Arc::new(places)))
    }

    /// Joins one range of a run to a table. `part` and `ids` are scratch.
    pub fn join(
        &self,
        grouping: &Grouping,
        run: &Run,
        range: usize,
        into: &mut Table,
        part: &mut Table,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        let at = range * self.blocks_of_range();
        let mut blocks = Vec::with_capacity(self.blocks_of_range());
        for (at, schema) in (at..).zip(std::iter::once(&self.groups).chain(&self.sets)) {
            blocks.push(read_block(self.space.as_ref(), run.file.id, &run.places, at, schema)?);
        }
        self.join_blocks(grouping, &blocks, into, part, ids)
    }

    fn join_blocks(
        &self,
        grouping: &Grouping,
        blocks: &[Option<RecordBatch>],
        into: &mut Table,
        part: &mut Table,
        ids: &mut Vec<u32>,
    ) -> Result<()> {
        if blocks.iter().all(Option::is_none) {
            return Ok(());
        }
        // Distinct values are counted as they join what is there: a table that is loaded has its counts from elsewhere.
        let direct = self.records || (into.len() == 0 && self.sets.is_empty());
        let target = match direct {
            true => &mut *into,
            false => {
                part.clear();
                &mut *part
            }
        };
        for (at, rows) in blocks.iter().enumerate() {
            let Some(rows) = rows else { continue };
            let columns = rows.columns();
            let keys = grouping.codec.encode(&columns[..self.keys], rows.num_rows())?;
            target.keys.assign(&keys, 0..rows.num_rows(), ids);
            target.state.resize(target.keys.len());
            let rest = &columns[self.keys..];
            match (at, rest.split_last()) {
                (0, _) if self.records => target.state.merge_partials(ids, rest, 0..rows.num_rows())?,
                (0, _) => target.state.load(ids, rest)?,
                (_, Some((masks, values))) => {
                    target.state.load_distinct(at - 1, ids, values, masks.as_primitive::<Int64Type>())?;
                }
                (_, None) => {}
            }
        }
        if direct { Ok(()) } else { into.merge(part, ids) }
    }
}

/// What a table holds, by range.
struct Sorted<'a> {
    below: &'a Below,
    grouping: &'a Grouping,
    table: &'a Table,
    order: Vec<u32>,
    starts: Vec<usize>,
    sets: Vec<SortedSet>,
}

struct SortedSet {
    groups: Vec<u32>,
    values: Vec<ArrayRef>,
    masks: Int64Array,
    order: Vec<u32>,
    starts: Vec<usize>,
}

impl<'a> Sorted<'a> {
    fn new(below: &'a Below, grouping: &'a Grouping, table: &'a Table) -> Result<Sorted<'a>> {
        let (order, starts) = table.by_range(RANGES);
        let set = |set: usize| -> Result<SortedSet> {
            let entries = table.state.distinct_entries(set)?;
            let mut by_range: Vec<Vec<u32>> = vec![Vec::new(); RANGES];
            for (entry, group) in entries.groups.iter().enumerate() {
                by_range[table.keys.range(*group, RANGES)].push(entry as u32);
            }
            let mut starts = vec![0];
            let mut order = Vec::with_capacity(entries.groups.len());
            for mut of_range in by_range {
                order.append(&mut of_range);
                starts.push(order.len());
            }
            Ok(SortedSet { groups: entries.groups, values: entries.values, masks: entries.masks, order, starts })
        };
        let sets = (0..below.sets.len()).map(set).collect::<Result<_>>()?;
        Ok(Sorted { below, grouping, table, order, starts, sets })
    }

    /// The blocks of a range, `None` where one is empty.
    fn blocks(&self, range: usize) -> Result<Vec<Option<RecordBatch>>> {
        let (below, codec, table) = (self.below, &self.grouping.codec, self.table);
        let mut blocks = Vec::with_capacity(below.blocks_of_range());
        let ids = &self.order[self.starts[range]..self.starts[range + 1]];
        blocks.push(match ids.is_empty() {
            true => None,
            false => {
                let mut columns = codec.decode_ids(&table.keys, ids)?;
                match below.records {
                    true => columns.extend(table.state.partials_of(ids)),
                    false => columns.extend(table.state.save(ids)?),
                }
                Some(block(&below.groups, columns, ids.len())?)
            }
        });
        for (set, schema) in self.sets.iter().zip(&below.sets) {
            let entries = &set.order[set.starts[range]..set.starts[range + 1]];
            if entries.is_empty() {
                blocks.push(None);
                continue;
            }
            let groups: Vec<u32> = entries.iter().map(|e| set.groups[*e as usize]).collect();
            let entries = UInt32Array::from(entries.to_vec());
            let mut columns = codec.decode_ids(&table.keys, &groups)?;
            for values in &set.values {
                columns.push(take(values, &entries, None)?);
            }
            columns.push(take(&set.masks, &entries, None)?);
            blocks.push(Some(block(schema, columns, groups.len())?));
        }
        Ok(blocks)
    }
}

fn block(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

impl Slice {
    pub(super) fn new(table: Table) -> Slice {
        Slice {
            table,
            bytes: 0,
            saved: Vec::new(),
            changed: false,
            anew: false,
            touched: true,
            runs: Vec::new(),
            number: 0,
            next: 1,
            loading: Vec::new(),
        }
    }

    /// Takes note that the checkpoint knows rows under this number.
    pub(super) fn know_number(&mut self, number: i32) {
        if !self.saved.contains(&number) {
            self.saved.push(number);
        }
        self.next = self.next.max(number + 1);
    }

    /// Whether the checkpoint knew rows under this number; from now on it is to forget them.
    fn forget_number(&mut self, number: i32) -> bool {
        let before = self.saved.len();
        self.saved.retain(|known| *known != number);
        self.saved.len() < before
    }

    /// The table that takes in rows which were saved under this number.
    pub(super) fn loading_table(&mut self, number: i32, fresh: impl FnOnce() -> Table) -> &mut Table {
        if self.table.len() == 0 && self.loading.is_empty() && self.runs.is_empty() {
            self.number = number;
        }
        if self.number == number {
            return &mut self.table;
        }
        let at = self.loading.iter().position(|(n, _)| *n == number).unwrap_or_else(|| {
            self.loading.push((number, fresh()));
            self.loading.len() - 1
        });
        &mut self.loading[at].1
    }

    /// The number of the next run, or of the table once what it holds has become one.
    pub(super) fn next_number(&mut self) -> i32 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Whether all it holds is its table.
    pub(super) fn is_in_memory(&self) -> bool {
        self.runs.is_empty() && self.loading.is_empty()
    }

    pub(super) fn measure(&self) -> usize {
        let runs: usize = self.runs.iter().map(|r| r.places.bytes()).sum();
        self.table.bytes() + self.loading.iter().map(|(_, t)| t.bytes()).sum::<usize>() + runs
    }

    /// Bytes that would be given back, were it written out.
    fn movable(&self) -> usize {
        let all = std::iter::once(&self.table).chain(self.loading.iter().map(|(_, t)| t));
        all.filter(|t| t.len() > 0).map(Table::bytes).sum()
    }
}

impl WindowAggregate {
    pub(super) fn measure(&mut self, id: SliceId) {
        if let Some(slice) = self.slices.get_mut(&id) {
            let bytes = slice.measure();
            self.held = self.held - slice.bytes + bytes;
            slice.bytes = bytes;
        }
    }

    /// Gives memory back: spare tables and the running window first, since they can be made anew; then slices, the
    /// greatest first, where one that has not been touched since the last time counts double.
    pub(super) fn shed_bytes(&mut self, bytes: usize) -> Result<()> {
        if self.below.is_none() {
            return Ok(());
        }
        let before = self.memory();
        self.spilling_from = self.spilling_from.max(before);
        self.spare.clear();
        self.spare_states.clear();
        self.give_up_running();
        while before - self.memory().min(before) < bytes {
            let weight = |slice: &Slice| slice.movable() << u32::from(!slice.touched);
            let most = self.slices.iter().map(|(id, slice)| (weight(slice), *id)).max();
            let Some((1.., id)) = most else { break };
            self.write_out(id)?;
        }
        self.slices.values_mut().for_each(|s| s.touched = false);
        Ok(())
    }

    pub(super) fn give_up_running(&mut self) {
        if let Some(running) = &mut self.running {
            running.table = self.grouping.table();
            (running.from, running.to) = (Millis::MIN, Millis::MIN);
        }
    }

    /// Makes a run of what a slice has in memory.
    pub(super) fn write_out(&mut self, id: SliceId) -> Result<()> {
        // It would be taken away from there as a table.
        if self.running.as_ref().is_some_and(|r| (r.from..r.to).contains(&id.0)) {
            self.give_up_running();
        }
        let Some(below) = &self.below else { return Ok(()) };
        let Some(slice) = self.slices.get_mut(&id) else { return Ok(()) };
        let mut fresh = self.grouping.table();
        if self.tracked {
            fresh.track();
        }
        let number = slice.number;
        let table = std::mem::replace(&mut slice.table, fresh);
        let changed = std::mem::take(&mut slice.changed) || slice.anew;
        // What is loaded and what is under way are still told apart by their numbers; only `resume` gives new ones.
        let loaded: Vec<(i32, Table)> = slice.loading.drain(..).collect();
        for (number, table) in std::iter::once((number, table)).chain(loaded).filter(|(_, t)| t.len() > 0) {
            let (file, places) = below.write(&self.grouping, &table)?;
            slice.runs.push(Run { number, level: 0, saved: !changed, file, places });
        }
        slice.anew = false;
        if !self.loading {
            slice.number = slice.next_number();
        }
        self.measure(id);
        self.merge_runs(id)
    }

    /// Merges runs of a slice where there are many of one level.
    fn merge_runs(&mut self, id: SliceId) -> Result<()> {
        // What is being loaded is told apart by its numbers until all of it is here.
        let (Some(below), false) = (&self.below, self.loading) else { return Ok(()) };
        let Some(slice) = self.slices.get_mut(&id) else { return Ok(()) };
        let mut level = 0;
        while slice.runs.iter().any(|r| r.level >= level) {
            if slice.runs.iter().filter(|r| r.level == level).count() < FAN_IN {
                level += 1;
                continue;
            }
            let (merged, kept): (Vec<Run>, Vec<Run>) = slice.runs.drain(..).partition(|r| r.level == level);
            slice.runs = kept;
            let number = slice.next_number();
            let (file, places) = below.merge(&self.grouping, &merged, &mut self.ids)?;
            slice.runs.push(Run { number, level: level + 1, saved: false, file, places });
            for old in &merged {
                if slice.forget_number(old.number) {
                    self.dropped.push((id, old.number));
                }
            }
            level += 1;
        }
        self.measure(id);
        Ok(())
    }

    /// Whether a window is to be joined range by range: it has runs, or the memory has run out not long ago.
    pub(super) fn goes_by_range(&self, window: (Millis, Millis), id: SliceId) -> bool {
        if self.below.is_none() {
            return false;
        }
        let short = self.spilling_from > 0 && self.running.is_some();
        short || self.slices_of(window, id).iter().any(|s| !self.slices[s].runs.is_empty())
    }

    pub(super) fn slices_of(&self, window: (Millis, Millis), id: SliceId) -> Vec<SliceId> {
        match self.timing.grid.one_slice() {
            true => vec![id],
            false => self.slices.range((window.0, Millis::MIN)..(window.1, Millis::MIN)).map(|s| *s.0).collect(),
        }
    }

    /// Emits a window whose slices lie in runs.
    pub(super) fn fire_by_range(&mut self, id: SliceId, window: (Millis, Millis), out: &mut dyn Output) -> Result<()> {
        self.give_up_running();
        let slices = self.slices_of(window, id);
        // The greater tables too: they are complete, and the results need memory.
        for id in &slices {
            if self.slices[id].table.bytes() > self.spilling_from / SMALL_PART {
                self.write_out(*id)?;
            }
        }
        let Some(below) = &self.below else { return Ok(()) };
        let (grouping, mut ids) = (&self.grouping, std::mem::take(&mut self.ids));
        let sorted = slices.iter().map(|id| Sorted::new(below, grouping, &self.slices[id].table));
        let sorted = sorted.collect::<Result<Vec<_>>>()?;
        let runs: Vec<&Run> = slices.iter().flat_map(|id| &self.slices[id].runs).collect();
        let (mut whole, mut part) = (grouping.table(), grouping.table());
        for range in 0..RANGES {
            whole.clear();
            for run in &runs {
                below.join(grouping, run, range, &mut whole, &mut part, &mut ids)?;
            }
            for sorted in &sorted {
                below.join_blocks(grouping, &sorted.blocks(range)?, &mut whole, &mut part, &mut ids)?;
            }
            self.emitter.emit(grouping, &whole, window, out)?;
        }
        self.ids = ids;
        Ok(())
    }

    /// Emits the new results of the touched keys of a window that has fired and whose slices lie in runs: of the runs,
    /// only the ranges of these keys are read.
    pub(super) fn fire_again_by_range(
        &mut self,
        id: SliceId,
        window: (Millis, Millis),
        rows: &Rows,
        range: Range<usize>,
        out: &mut dyn Output,
    ) -> Result<()> {
        let slices = self.slices_of(window, id);
        let Some(below) = &self.below else { return Ok(()) };
        let (grouping, ids) = (&self.grouping, &mut self.ids);
        let mut touched = grouping.codec.table();
        touched.assign(&rows.keys, range, ids);
        let mut by_range: Vec<Vec<usize>> = vec![Vec::new(); RANGES];
        (0..touched.len()).for_each(|id| by_range[touched.range(id as u32, RANGES)].push(id));
        let sorted = slices.iter().map(|id| Sorted::new(below, grouping, &self.slices[id].table));
        let sorted = sorted.collect::<Result<Vec<_>>>()?;
        let (mut whole, mut part) = (grouping.table(), grouping.table());
        for (range, keys) in by_range.iter().enumerate().filter(|(_, keys)| !keys.is_empty()) {
            whole.clear();
            for (id, sorted) in slices.iter().zip(&sorted) {
                for run in &self.slices[id].runs {
                    below.join(grouping, run, range, &mut whole, &mut part, ids)?;
                }
                below.join_blocks(grouping, &sorted.blocks(range)?, &mut whole, &mut part, ids)?;
            }
            // Keys of other ranges get groups without rows here, which nobody asks for.
            whole.keys.assign_all(&touched, ids);
            whole.state.resize(whole.keys.len());
            let groups: Vec<u32> = keys.iter().map(|key| ids[*key]).collect();
            self.emitter.emit_again(grouping, &whole, window, &groups, out)?;
        }
        Ok(())
    }

    /// Back to running windows once all that was written out is gone and there is room again.
    pub(super) fn see_whether_there_is_room(&mut self) {
        if self.spilling_from > 0
            && self.memory() < self.spilling_from / 2
            && self.slices.values().all(|s| s.runs.is_empty())
        {
            self.spilling_from = 0;
        }
    }

    /// Puts the rows of a run, to be read range by range when they are written.
    pub(super) fn save_run(
        below: &Arc<Below>,
        grouping: &Arc<Grouping>,
        tables: &Tables,
        run: &Run,
        span: (Millis, Millis),
        saver: &mut Saver,
    ) -> Result<()> {
        for (block, table) in std::iter::once(&tables.groups).chain(&tables.distincts).enumerate() {
            let (below, grouping) = (below.clone(), grouping.clone());
            let (file, places) = (run.file.clone(), run.places.clone());
            let stored = Stored { below, grouping, file, places, block, number: run.number, span };
            saver.put_later(table, move || {
                let stored = stored.clone();
                Box::new((0..RANGES).filter_map(move |range| stored.columns(range).transpose()))
            })?;
        }
        Ok(())
    }

    /// Everything has been loaded: a slice that has come from several runs is one again, and is saved anew.
    pub(super) fn join_loaded(&mut self) -> Result<()> {
        self.loading = false;
        let ids: Vec<SliceId> = self.slices.keys().copied().collect();
        for id in ids {
            let slice = self.slices.get_mut(&id).expect("its id was just read");
            if slice.is_in_memory() {
                continue;
            }
            let known = std::mem::take(&mut slice.saved);
            self.dropped.extend(known.into_iter().map(|number| (id, number)));
            if slice.runs.is_empty() {
                let mut joined = self.grouping.table();
                if self.tracked {
                    joined.track();
                }
                joined.merge(&slice.table, &mut self.ids)?;
                for (_, table) in slice.loading.drain(..) {
                    joined.merge(&table, &mut self.ids)?;
                }
                slice.table = joined;
            } else {
                self.write_out(id)?;
            }
            let slice = self.slices.get_mut(&id).expect("it was there");
            for at in 0..slice.runs.len() {
                let number = slice.next_number();
                let run = &mut slice.runs[at];
                (run.number, run.saved) = (number, false);
            }
            slice.number = slice.next_number();
            slice.anew = slice.table.len() > 0;
            self.merge_runs(id)?;
            self.measure(id);
        }
        Ok(())
    }
}

impl Below {
    /// One run of several: range by range.
    fn merge(&self, grouping: &Grouping, runs: &[Run], ids: &mut Vec<u32>) -> Result<Stand> {
        let (mut whole, mut part) = (grouping.table(), grouping.table());
        let mut writer = RunWriter::new(self.space.as_ref(), self.packing)?;
        for range in 0..RANGES {
            whole.clear();
            for run in runs {
                self.join(grouping, run, range, &mut whole, &mut part, ids)?;
            }
            for block in Sorted::new(self, grouping, &whole)?.blocks(range)? {
                writer.push(block.as_ref())?;
            }
        }
        self.stand(writer)
    }
}

/// The columns that name a slice's rows in front of their keys.
pub(super) fn lead(start: Millis, end: Millis, number: i32, rows: usize) -> Vec<ArrayRef> {
    vec![
        times(vec![start; rows], &PLAIN),
        times(vec![end; rows], &PLAIN),
        Arc::new(Int32Array::from_value(number, rows)),
    ]
}
