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
        Table { keys: self.codec.table(), state: Accumulators::new(&self.plan) }
    }
}

/// Groups by key, with the state of every call.
pub(super) struct Table {
    pub keys: KeyTable,
    pub state: Accumulators,
}

impl Table {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Adds rows. `ids` is scratch.
    pub fn add(&mut self, grouping: &Grouping, rows: &Rows, range: Range<usize>, ids: &mut Vec<u32>) -> Result<()> {
        if grouping.keys.is_empty() {
            self.keys.assign(&rows.keys, range.start..range.start + 1, ids);
            self.state.resize(1);
            return self.state.update(Groups::One, &rows.prepared, range);
        }
        if rows.keys.is_plain()
            && let Some(counts) = self.state.counts_only()
        {
            // Looked up and counted in one pass: one row's count need not wait for the one before it.
            self.keys.visit(&rows.keys, range, |_, id| {
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
            self.state.resize(self.keys.len());
            return Ok(());
        }
        let mut from = range.start;
        while from < range.end {
            let block = from..(from + BLOCK).min(range.end);
            self.keys.assign(&rows.keys, block.clone(), ids);
            self.state.resize(self.keys.len());
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

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.state.clear();
    }

    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.state.bytes()
    }
}
