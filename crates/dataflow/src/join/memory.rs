//! What a side of a join remembers of its rows, whatever way they are found again.

use super::store::{NONE, Rows};
use crate::rows::take_rows;
use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, SortField};
use millstream_core::{Batch, ChangeKind, Error, Millis, Result};
use millstream_state::keys::{KeyCodec, KeyTable, prefetch};
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// The rows of one side. What only some joins need is there for these alone.
pub(super) struct Memory {
    pub rows: Rows,
    /// By slot: results that the row is in, where an outer row has to know; saturated at 1 where none is taken back.
    pub matches: Vec<u32>,
    pub counted: bool,
    /// The other side takes rows back, so that matches have to be counted beyond the first.
    pub recounted: bool,
    /// Rows that are equal share a slot, for sides that take rows back.
    identity: Option<Identity>,
    /// Slots that a checkpoint has to see; only where changes are tracked.
    dirty: Option<Dirty>,
}

#[derive(Default)]
struct Dirty {
    slots: Vec<u32>,
    is: Vec<bool>,
}

/// What a row of a batch does to its own side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Act {
    /// 1: it comes; -1: it goes; 0: it takes back what is not there, which changes nothing.
    pub sign: i8,
    /// `NONE`: it is not remembered.
    pub slot: u32,
    /// It is the first of its kind.
    pub fresh: bool,
    /// It has been put under its slot just now.
    pub new: bool,
    /// If it has no partner yet, it waits for one.
    pub waits: bool,
}

impl Memory {
    pub fn new(schema: SchemaRef, counted: bool, recounted: bool, retracts: bool) -> Result<Memory> {
        let identity = retracts.then(|| Identity::new(&schema)).transpose()?;
        Ok(Memory { rows: Rows::new(schema), matches: Vec::new(), counted, recounted, identity, dirty: None })
    }

    pub fn retracts(&self) -> bool {
        self.identity.is_some()
    }

    pub fn track(&mut self) {
        self.dirty = Some(Dirty::default());
    }

    pub fn touch(&mut self, slot: u32) {
        if let Some(dirty) = &mut self.dirty {
            let at = slot as usize;
            if dirty.is.len() <= at {
                dirty.is.resize(at + 1, false);
            }
            if !std::mem::replace(&mut dirty.is[at], true) {
                dirty.slots.push(slot);
            }
        }
    }

    /// The slots that have changed since this was asked last; `None` where nobody kept track.
    pub fn take_dirty(&mut self) -> Option<Vec<u32>> {
        let dirty = self.dirty.as_mut()?;
        let slots = std::mem::take(&mut dirty.slots);
        slots.iter().for_each(|s| dirty.is[*s as usize] = false);
        Some(slots)
    }

    /// How many equal rows the slot stands for.
    #[inline]
    pub fn copies(&self, slot: u32) -> u32 {
        self.identity.as_ref().map_or(1, |i| i.copies[slot as usize])
    }

    /// Takes the rows of a batch in or lets them go. `stays(row)`: the row is remembered, or would have been.
    ///
    /// Rows that have gone keep their slots until [`Memory::forget_gone`], so that nothing else comes under their
    /// numbers while the batch is under way.
    pub fn apply(&mut self, batch: &Batch, stays: impl Fn(usize) -> bool, acts: &mut Vec<Act>) -> Result<()> {
        acts.clear();
        let goes = |row: usize| match &batch.kinds {
            None => false,
            Some(kinds) => {
                matches!(ChangeKind::from_code(kinds.value(row)), ChangeKind::UpdateBefore | ChangeKind::Delete)
            }
        };
        let (mut new_rows, mut new_slots): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        match &mut self.identity {
            None => {
                for row in 0..batch.len() {
                    if goes(row) {
                        return Err(Error::internal("a join's input takes a row back, and was said to insert only"));
                    }
                    let slot = if stays(row) { self.rows.next_slot() } else { NONE };
                    acts.push(Act { sign: 1, slot, fresh: true, new: slot != NONE, waits: false });
                    if slot != NONE {
                        new_rows.push(row as u32);
                        new_slots.push(slot);
                    }
                }
            }
            Some(identity) => {
                identity.find(&batch.rows)?;
                // Row by row: a row may take back one that the same batch has brought.
                for row in 0..batch.len() {
                    let slot = identity.ids[row];
                    let copies = &mut identity.copies[slot as usize];
                    let act = match (goes(row), stays(row)) {
                        (false, false) => Act { sign: 1, slot: NONE, fresh: true, new: false, waits: false },
                        (false, true) => {
                            *copies += 1;
                            let new = !std::mem::replace(&mut identity.stored[slot as usize], true);
                            if new {
                                new_rows.push(row as u32);
                                new_slots.push(slot);
                            }
                            Act { sign: 1, slot, fresh: *copies == 1, new, waits: false }
                        }
                        (true, true) if *copies > 0 => {
                            *copies -= 1;
                            Act { sign: -1, slot, fresh: false, new: false, waits: false }
                        }
                        (true, _) => Act { sign: 0, slot: NONE, fresh: false, new: false, waits: false },
                    };
                    acts.push(act);
                }
            }
        }
        for act in acts.iter().filter(|a| a.slot != NONE) {
            let at = act.slot as usize;
            if self.counted && self.matches.len() <= at {
                self.matches.resize(at + 1, 0);
            }
            if self.dirty.is_some() {
                self.touch(act.slot);
            }
        }
        let rows = match new_rows.len() == batch.len() {
            true => batch.rows.clone(),
            false => take_rows(&batch.rows, &UInt32Array::from(new_rows))?,
        };
        self.rows.add(rows, new_slots)
    }

    /// Takes a row in as a checkpoint has it; all of them at once, in their order. What comes back are their slots.
    pub fn load(&mut self, rows: RecordBatch, copies: Option<&[i64]>, matches: Option<&[i64]>) -> Result<Vec<u32>> {
        let slots: Vec<u32> = match &mut self.identity {
            None => (0..rows.num_rows()).map(|_| self.rows.next_slot()).collect(),
            Some(identity) => {
                identity.find(&rows)?;
                let slots = identity.ids.clone();
                for (row, slot) in slots.iter().enumerate() {
                    identity.copies[*slot as usize] += copies.map_or(1, |c| c[row]) as u32;
                    if std::mem::replace(&mut identity.stored[*slot as usize], true) {
                        return Err(Error::data("a table of a join names a row twice"));
                    }
                }
                slots
            }
        };
        if self.counted {
            for (row, slot) in slots.iter().enumerate() {
                let at = *slot as usize;
                if self.matches.len() <= at {
                    self.matches.resize(at + 1, 0);
                }
                self.matches[at] = matches.map_or(0, |m| m[row]) as u32;
            }
        }
        self.rows.add(rows, slots.clone())?;
        Ok(slots)
    }

    /// The slots whose last row has gone with this batch. They are to be unlinked, and then given to
    /// [`Memory::forget_gone`].
    pub fn gone(&self, gone: &mut Vec<u32>) {
        gone.clear();
        let Some(identity) = &self.identity else { return };
        let is_gone = |slot: &&u32| identity.copies[**slot as usize] == 0 && identity.stored[**slot as usize];
        gone.extend(identity.ids.iter().filter(is_gone));
        gone.sort_unstable();
        gone.dedup();
    }

    /// Lets the slots of [`Memory::gone`] go, and the names of rows that were asked for and are not there.
    pub fn forget_gone(&mut self, gone: &[u32]) -> Result<()> {
        gone.iter().for_each(|s| self.rows.remove(*s, false));
        if let Some(identity) = &mut self.identity {
            for slot in &identity.ids {
                if identity.copies[*slot as usize] == 0 {
                    identity.copies[*slot as usize] = RELEASED;
                    identity.stored[*slot as usize] = false;
                    identity.names.release(*slot);
                }
            }
            identity.ids.clear();
        }
        self.rows.tidy()
    }

    /// Forgets rows whose time is over.
    pub fn forget(&mut self, slots: &[u32]) -> Result<()> {
        for slot in slots {
            self.rows.remove(*slot, self.identity.is_none());
            if let Some(identity) = &mut self.identity {
                identity.copies[*slot as usize] = RELEASED;
                identity.stored[*slot as usize] = false;
                identity.names.release(*slot);
            }
        }
        self.rows.tidy()
    }

    pub fn bytes(&self) -> usize {
        let dirty = self.dirty.as_ref().map_or(0, |d| d.slots.capacity() * 4 + d.is.capacity());
        self.rows.bytes() + self.matches.capacity() * 4 + dirty + self.identity.as_ref().map_or(0, Identity::bytes)
    }
}

/// Which slot stands for a row, by its content.
///
/// Rows are told apart by 128 bits of hash of their content: 2^64 rows until two of them are likely to be taken for one.
struct Identity {
    converter: RowConverter,
    codec: KeyCodec,
    names: KeyTable,
    /// By slot: equal rows; `RELEASED` where the slot is nobody's.
    copies: Vec<u32>,
    /// By slot: the row is among the rows.
    stored: Vec<bool>,
    /// The slot of each row of the batch under way.
    ids: Vec<u32>,
}

const RELEASED: u32 = u32::MAX;

impl Identity {
    fn new(schema: &SchemaRef) -> Result<Identity> {
        let fields = schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(|e| {
            Error::sql(format!("rows with these columns cannot be found again when they are taken back: {e}"))
                .remedy("leave out columns of MAP types before the join, or pick fields out of them")
        })?;
        let codec = KeyCodec::new(&[DataType::UInt64, DataType::UInt64])?;
        let names = codec.table();
        Ok(Identity { converter, codec, names, copies: Vec::new(), stored: Vec::new(), ids: Vec::new() })
    }

    /// Finds the slot of each row; what is not known gets a new one, without copies.
    fn find(&mut self, rows: &RecordBatch) -> Result<()> {
        let (mut high, mut low) = (Vec::with_capacity(rows.num_rows()), Vec::with_capacity(rows.num_rows()));
        if rows.num_columns() == 0 {
            (high, low) = (vec![0; rows.num_rows()], vec![0; rows.num_rows()]);
        } else {
            // Row by row, since the content of a row is one run of bytes.
            for row in &self.converter.convert_columns(rows.columns())? {
                let hash = xxh3_128(row.data());
                high.push((hash >> 64) as u64);
                low.push(hash as u64);
            }
        }
        let hashes: [ArrayRef; 2] = [Arc::new(UInt64Array::from(high)), Arc::new(UInt64Array::from(low))];
        let hashes = self.codec.encode(&hashes, rows.num_rows())?;
        self.names.assign(&hashes, 0..rows.num_rows(), &mut self.ids);
        self.copies.resize(self.names.len(), RELEASED);
        self.stored.resize(self.names.len(), false);
        for id in &self.ids {
            let copies = &mut self.copies[*id as usize];
            if *copies == RELEASED {
                *copies = 0;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.names.bytes() + self.copies.capacity() * 4 + self.stored.capacity() + self.ids.capacity() * 4
    }
}

/// The rows of each key in a list through their slots, the newest first.
#[derive(Default)]
pub(super) struct Chains {
    /// By key.
    heads: Vec<u32>,
    /// By slot.
    next: Vec<u32>,
    /// By slot, where rows leave.
    prev: Option<Vec<u32>>,
}

impl Chains {
    pub fn new(leave: bool) -> Chains {
        Chains { heads: Vec::new(), next: Vec::new(), prev: leave.then(Vec::new) }
    }

    #[inline]
    pub fn first(&self, key: u32) -> u32 {
        self.heads.get(key as usize).copied().unwrap_or(NONE)
    }

    /// Asks the memory for what [`Chains::first`] and [`Chains::link`] look at.
    #[inline(always)]
    pub fn prefetch(&self, key: u32) {
        prefetch(&self.heads, key as usize);
    }

    #[inline]
    pub fn next(&self, slot: u32) -> u32 {
        self.next[slot as usize]
    }

    pub fn link(&mut self, key: u32, slot: u32) {
        let (key, at) = (key as usize, slot as usize);
        if self.heads.len() <= key {
            self.heads.resize(key + 1, NONE);
        }
        if self.next.len() <= at {
            self.next.resize(at + 1, NONE);
        }
        let first = std::mem::replace(&mut self.heads[key], slot);
        self.next[at] = first;
        if let Some(prev) = &mut self.prev {
            if prev.len() <= at {
                prev.resize(at + 1, NONE);
            }
            prev[at] = NONE;
            if first != NONE {
                prev[first as usize] = slot;
            }
        }
    }

    /// For chains whose rows leave.
    pub fn unlink(&mut self, key: u32, slot: u32) {
        let Some(prev) = &mut self.prev else { return };
        let (before, behind) = (prev[slot as usize], self.next[slot as usize]);
        match before {
            NONE => self.heads[key as usize] = behind,
            before => self.next[before as usize] = behind,
        }
        if behind != NONE {
            prev[behind as usize] = before;
        }
    }

    pub fn bytes(&self) -> usize {
        (self.heads.capacity() + self.next.capacity() + self.prev.as_ref().map_or(0, Vec::capacity)) * 4
    }
}

/// Slots by time, to find those whose time is over without a look at the others.
///
/// A block holds a span of time; it is put in order when the first of its rows may have to go.
pub(super) struct Blocks {
    width: Millis,
    blocks: BTreeMap<i64, Block>,
    entries: usize,
}

#[derive(Default)]
struct Block {
    /// The latest first, once it is in order.
    entries: Vec<(Millis, u32)>,
    ordered: bool,
}

/// Blocks in the time that a row stays.
const BLOCKS: Millis = 16;

/// The least that a block spans.
const WIDTH_MIN: Millis = 1_000;

impl Blocks {
    /// `stay`: about how long rows stay.
    pub fn new(stay: Millis) -> Blocks {
        Blocks { width: (stay / BLOCKS).max(WIDTH_MIN), blocks: BTreeMap::new(), entries: 0 }
    }

    pub fn push(&mut self, time: Millis, slot: u32) {
        let block = self.blocks.entry(time.div_euclid(self.width)).or_default();
        block.entries.push((time, slot));
        block.ordered = false;
        self.entries += 1;
    }

    /// The earliest time.
    pub fn first_time(&self) -> Option<Millis> {
        // A row later than that may stand behind it, none in another block is earlier.
        self.blocks.first_key_value()?.1.entries.iter().map(|e| e.0).min()
    }

    /// The slots with times up to this one, earliest first.
    pub fn pop_through(&mut self, through: Millis, popped: &mut Vec<(Millis, u32)>) {
        popped.clear();
        while let Some(mut first) = self.blocks.first_entry() {
            if first.key().saturating_mul(self.width) > through {
                break;
            }
            let block = first.get_mut();
            if !block.ordered {
                block.entries.sort_unstable_by_key(|e| std::cmp::Reverse(*e));
                block.ordered = true;
            }
            let from = block.entries.partition_point(|e| e.0 > through);
            popped.extend(block.entries.drain(from..).rev());
            if !block.entries.is_empty() {
                break;
            }
            first.remove();
        }
        self.entries -= popped.len();
    }

    pub fn bytes(&self) -> usize {
        self.entries * size_of::<(Millis, u32)>() + self.blocks.len() * 96
    }
}

/// For each row, whether its key can be equal to another: no NULL but where NULL equals NULL. `None`: all can.
pub(super) fn matchable(keys: &[ArrayRef], null_equals_null: &[bool]) -> Option<arrow::buffer::NullBuffer> {
    let nulls = keys.iter().zip(null_equals_null).filter(|(_, equal)| !**equal);
    let nulls = nulls.fold(None, |nulls, (column, _)| {
        arrow::buffer::NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref())
    });
    nulls.filter(|n| n.null_count() > 0)
}

/// The times of a time attribute's column. Fails where one is NULL.
pub(super) fn times(rows: &RecordBatch, column: usize) -> Result<arrow::buffer::ScalarBuffer<Millis>> {
    let times = rows.column(column);
    if times.null_count() > 0 {
        let name = rows.schema().field(column).name().clone();
        return Err(Error::data(format!("the time attribute `{name}` of a join's input is NULL"))
            .remedy("filter such rows before the join: WHERE the column IS NOT NULL"));
    }
    crate::over::words::Words::of(times)
}
