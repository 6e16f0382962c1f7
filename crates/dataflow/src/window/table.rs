//! Keys and their accumulators: what a slice, a running window and a local aggregation remember.

use crate::aggregate::{Accumulators, Groups, Plan, Prepared};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use millstream_core::Result;
use millstream_state::keys::{KeyBatch, KeyCodec, KeyTable};
use std::ops::Range;
use std::sync::Arc;

/// Rows of one pass over the accumulators: what they touch stays in the cache from the first cell to the last.
const BLOCK: usize = 1024;

/// How rows become groups and groups become results; shared by all tables of an operator.
pub(super) struct Grouping {
    pub keys: Vec<usize>,
    pub codec: KeyCodec,
    pub plan: Arc<Plan>,
}

/// Rows as tables take them in.
pub(super) struct Rows {
    pub keys: KeyBatch,
    pub prepared: Prepared,
}

impl Grouping {
    pub fn new(keys: &[usize], plan: Arc<Plan>, schema: &Schema) -> Result<Grouping> {
        let types: Vec<_> = keys.iter().map(|k| schema.field(*k).data_type().clone()).collect();
        Ok(Grouping { keys: keys.to_vec(), codec: KeyCodec::new(&types)?, plan })
    }

    pub fn read(&self, rows: &RecordBatch) -> Result<Rows> {
        let columns: Vec<ArrayRef> = self.keys.iter().map(|k| rows.column(*k).clone()).collect();
        let keys = self.codec.encode(&columns, rows.num_rows())?;
        Ok(Rows { keys, prepared: self.plan.prepare(rows)? })
    }

    pub fn table(&self) -> Table {
        Table::new(self.codec.table(), Accumulators::new(&self.plan))
    }
}

/// What a pass that only counts works on: keys, counts by group, and the marks of what it changes where it is to mark.
pub(super) type Counting<'a> = (&'a mut KeyTable, &'a mut Vec<u64>, Option<&'a mut [u8]>);

/// Groups by key, with the state of every call.
pub(super) struct Table {
    pub keys: KeyTable,
    pub state: Accumulators,
    /// Where changes are kept track of.
    changes: Option<Changes>,
}

/// Groups that share a mark. A row then costs a store into an array so small that it is always near; a save takes
/// along up to so many groups that have not changed.
const MARKED_TOGETHER: usize = 8;

/// Which groups may have changed since the last save.
#[derive(Default)]
struct Changes {
    marks: Vec<u8>,
}

impl Changes {
    /// The marks of so many groups, for a pass that marks row by row: it need not ask for room.
    fn room(&mut self, groups: usize) -> &mut [u8] {
        let len = groups.div_ceil(MARKED_TOGETHER);
        if self.marks.len() < len {
            self.marks.resize(len, 0);
        }
        &mut self.marks
    }

    /// Marks the groups of a range.
    fn mark_all(&mut self, groups: Range<usize>) {
        if !groups.is_empty() {
            self.room(groups.end)[groups.start / MARKED_TOGETHER..groups.end.div_ceil(MARKED_TOGETHER)].fill(1);
        }
    }

    /// The marked groups below `groups`; no group is marked from now on.
    fn take(&mut self, groups: usize) -> Vec<u32> {
        let mut taken = Vec::new();
        for (at, mark) in self.marks.iter_mut().enumerate().filter(|(_, m)| **m != 0) {
            *mark = 0;
            let from = at * MARKED_TOGETHER;
            taken.extend((from.min(groups)..(from + MARKED_TOGETHER).min(groups)).map(|g| g as u32));
        }
        taken
    }
}

/// Marks a group for which there is room.
#[inline(always)]
pub(super) fn mark(marks: &mut [u8], group: u32) {
    if let Some(mark) = marks.get_mut(group as usize / MARKED_TOGETHER) {
        *mark = 1;
    }
}

/// Where there are so many rows for each group that is known, all groups are marked at once and no row pays for it.
const ROWS_FOR_ALL: usize = 2;

/// Counts each row that is looked up, as far as `mark` is told of it.
#[inline(always)]
fn count_rows(
    keys: &mut KeyTable,
    counts: &mut Vec<u64>,
    rows: &KeyBatch,
    range: Range<usize>,
    mut mark: impl FnMut(u32),
) {
    keys.visit(rows, range, |_, id| {
        mark(id);
        let id = id as usize;
        match counts.get_mut(id) {
            Some(count) => *count += 1,
            None => {
                counts.resize(id, 0);
                counts.push(1);
            }
        }
        true
    });
}

impl Table {
    pub fn new(keys: KeyTable, state: Accumulators) -> Table {
        Table { keys, state, changes: None }
    }

    /// From now on, keeps track of the groups that change.
    pub fn track(&mut self) {
        self.changes.get_or_insert_default();
        self.state.track();
    }

    /// The groups that may have changed since the last call, or all.
    pub fn take_changed(&mut self, whole: bool) -> Vec<u32> {
        let groups = self.len();
        let changed = self.changes.as_mut().map(|c| c.take(groups)).unwrap_or_default();
        if whole { (0..groups as u32).collect() } else { changed }
    }

    /// Takes note of a change of these groups.
    pub fn mark(&mut self, ids: &[u32]) {
        if let Some(changes) = &mut self.changes {
            let groups = self.keys.len();
            if ids.len() >= groups * ROWS_FOR_ALL {
                return changes.mark_all(0..groups);
            }
            let marks = changes.room(groups);
            ids.iter().for_each(|id| mark(marks, *id));
        }
    }

    /// Keys and counts, where rows are only counted, for a pass of so many rows over groups that are known; and the
    /// marks, if it is to mark what it changes.
    pub fn counting(&mut self, rows: usize) -> Option<Counting<'_>> {
        let counts = self.state.counts_only()?;
        let groups = self.keys.len();
        let marks = match &mut self.changes {
            None => None,
            Some(changes) if rows >= groups * ROWS_FOR_ALL => {
                changes.mark_all(0..groups);
                None
            }
            Some(changes) => Some(changes.room(groups + rows)),
        };
        Some((&mut self.keys, counts, marks))
    }

    /// Takes note of all groups from this one on.
    fn mark_from(&mut self, group: usize) {
        if let Some(changes) = &mut self.changes {
            changes.mark_all(group..self.keys.len());
        }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds rows. `ids` is scratch.
    pub fn add(&mut self, grouping: &Grouping, rows: &Rows, range: Range<usize>, ids: &mut Vec<u32>) -> Result<()> {
        if grouping.keys.is_empty() {
            self.keys.assign(&rows.keys, range.start..range.start + 1, ids);
            self.state.resize(1);
            self.mark(&[0]);
            return self.state.update(Groups::One, &rows.prepared, range);
        }
        let known = self.keys.len();
        if rows.keys.is_plain()
            && let Some((keys, counts, marks)) = self.counting(range.len())
        {
            // Looked up and counted in one pass: one row's count need not wait for the one before it.
            match marks {
                None => count_rows(keys, counts, &rows.keys, range, |_| {}),
                Some(marks) => count_rows(keys, counts, &rows.keys, range, |id| mark(marks, id)),
            }
            self.state.resize(self.keys.len());
            self.mark_from(known);
            return Ok(());
        }
        let mut from = range.start;
        while from < range.end {
            let block = from..(from + BLOCK).min(range.end);
            self.keys.assign(&rows.keys, block.clone(), ids);
            self.state.resize(self.keys.len());
            self.mark(ids);
            self.state.update(Groups::Each(ids), &rows.prepared, block.clone())?;
            from = block.end;
        }
        Ok(())
    }

    /// Adds everything that another table holds.
    pub fn merge(&mut self, other: &Table, ids: &mut Vec<u32>) -> Result<()> {
        self.keys.assign_all(&other.keys, ids);
        self.state.resize(self.keys.len());
        self.state.merge(ids, &other.state)
    }

    /// Takes away everything that another table holds, and the groups that then have no rows.
    pub fn unmerge(&mut self, other: &Table, ids: &mut Vec<u32>) -> Result<()> {
        self.keys.assign_all(&other.keys, ids);
        self.state.unmerge(ids, &other.state)?;
        ids.retain(|id| self.state.rows(*id) == 0);
        // From the highest: what moves into the gap is then never one that has yet to go.
        ids.sort_unstable_by(|a, b| b.cmp(a));
        for id in ids.iter() {
            self.keys.swap_remove(*id);
            self.state.swap_remove(*id);
        }
        Ok(())
    }

    /// The groups by the range that their keys are in, and where each range begins.
    pub fn by_range(&self, ranges: usize) -> (Vec<u32>, Vec<usize>) {
        let groups = self.len();
        let range_of: Vec<u16> = (0..groups as u32).map(|id| self.keys.range(id, ranges) as u16).collect();
        let mut starts = vec![0; ranges + 1];
        range_of.iter().for_each(|range| starts[*range as usize + 1] += 1);
        (0..ranges).for_each(|range| starts[range + 1] += starts[range]);
        let mut next = starts.clone();
        let mut order = vec![0; groups];
        for (group, range) in range_of.iter().enumerate() {
            order[next[*range as usize]] = group as u32;
            next[*range as usize] += 1;
        }
        (order, starts)
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        if self.keys.is_empty() && self.state.groups() == 0 {
            return;
        }
        self.keys.clear();
        self.state.clear();
        if let Some(changes) = &mut self.changes {
            changes.marks.fill(0);
        }
    }

    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.state.bytes() + self.changes.as_ref().map_or(0, |c| c.marks.capacity())
    }
}
