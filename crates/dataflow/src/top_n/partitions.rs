//! The partitions of a task: their rows, the last row worth keeping of each, when each is forgotten.

use super::log::Log;
use super::ranking::Ranking;
use super::sorted::Sorted;
use crate::by_group;
use crate::graph::StateTtl;
use crate::over::words::Words;
use crate::row_bytes::Encoded;
use crate::rows::time_column;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Millis, Result, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

pub(super) struct Partitions {
    /// Columns of the input that make a partition.
    keys: Vec<usize>,
    codec: KeyCodec,
    ids: KeyTable,
    /// By group, as all that follows.
    parts: Vec<Sorted>,
    /// The first bytes of the last row worth keeping; `OPEN` while every row is.
    edges: Vec<u128>,
    /// Bytes of all parts.
    held: usize,
    /// The group of each row of the batch at hand.
    groups: Vec<u32>,
    /// Groups by the end of their window.
    windows: BTreeMap<Millis, Vec<u32>>,
    pub ttl: Option<Ttl>,
}

/// When partitions are forgotten.
pub(super) struct Ttl {
    keep: Millis,
    column: usize,
    /// The latest time of a row of the group; `NEVER` while there was none.
    pub touched: Vec<Millis>,
    /// When to look at a group: one timer for each at the most, and whether it has one.
    timers: BinaryHeap<Reverse<(Millis, u32)>>,
    is_timed: Vec<bool>,
    tracking: bool,
    /// Groups touched since the last save, and whether a group is among them.
    pub dirty: Vec<u32>,
    is_dirty: Vec<bool>,
    /// Keys of groups forgotten since the last save.
    pub forgotten: Vec<Vec<ArrayRef>>,
}

/// Not yet touched. No event time is as early.
pub(super) const NEVER: Millis = Millis::MIN;

/// No row is rejected.
const OPEN: u128 = u128::MAX;

/// The first 16 bytes as a number: of two of them the greater is of the greater string, where they differ.
fn first_bytes(bytes: &[u8]) -> u128 {
    match bytes.first_chunk::<16>() {
        Some(first) => u128::from_be_bytes(*first),
        None => {
            let mut padded = [0; 16];
            padded[..bytes.len()].copy_from_slice(bytes);
            u128::from_be_bytes(padded)
        }
    }
}

impl Partitions {
    pub fn new(input: &SchemaRef, keys: Vec<usize>, ttl: Option<&StateTtl>) -> Result<Partitions> {
        let types: Vec<_> = keys.iter().map(|k| input.field(*k).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let ttl = match ttl {
            None => None,
            Some(ttl) => {
                let column =
                    *ttl.times.first().ok_or_else(|| Error::internal("a time to live without a time column"))?;
                time_column(input.field(column).data_type(), input.field(column).name())?;
                Some(Ttl::new(ttl.keep, column))
            }
        };
        Ok(Partitions {
            keys,
            ids: codec.table(),
            codec,
            parts: Vec::new(),
            edges: Vec::new(),
            held: 0,
            groups: Vec::new(),
            windows: BTreeMap::new(),
            ttl,
        })
    }

    pub fn len(&self) -> usize {
        self.parts.len()
    }

    pub fn part(&self, group: u32) -> &Sorted {
        &self.parts[group as usize]
    }

    /// The event time of each row, where it matters.
    pub fn times(&self, rows: &RecordBatch) -> Result<Option<ScalarBuffer<i64>>> {
        let Some(ttl) = &self.ttl else { return Ok(None) };
        let times = rows.column(ttl.column);
        if times.null_count() > 0 {
            let name = rows.schema().field(ttl.column).name().clone();
            return Err(Error::data(format!("the time attribute `{name}` is NULL"))
                .remedy("filter such rows before: WHERE the column IS NOT NULL"));
        }
        Words::of(times).map(Some)
    }

    /// Finds the group of each row; [`Partitions::place`] has them.
    pub fn assign(&mut self, rows: &RecordBatch) -> Result<()> {
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| rows.column(*k).clone()).collect();
        self.assign_keys(&keys, rows.num_rows())
    }

    pub fn assign_keys(&mut self, keys: &[ArrayRef], rows: usize) -> Result<()> {
        self.ids.assign(&self.codec.encode(keys, rows)?, 0..rows, &mut self.groups);
        if self.parts.len() < self.ids.len() {
            self.parts.resize_with(self.ids.len(), Sorted::default);
            self.edges.resize(self.ids.len(), OPEN);
            if let Some(ttl) = &mut self.ttl {
                ttl.touched.resize(self.ids.len(), NEVER);
                ttl.is_dirty.resize(self.ids.len(), false);
                ttl.is_timed.resize(self.ids.len(), false);
            }
        }
        Ok(())
    }

    pub fn place(&self, row: usize) -> u64 {
        by_group::place(self.groups[row], row)
    }

    pub fn group_of(&self, row: usize) -> u32 {
        self.groups[row]
    }

    /// Leaves the rows that may be shown, or that find their partition forgotten: no mark is later than `latest`. The
    /// others only touch their partition.
    pub fn touch_and_reject(
        &mut self,
        rows: &mut Vec<u64>,
        keys: &Encoded,
        latest: Watermark,
        times: Option<&[Millis]>,
    ) {
        let Partitions { parts, edges, ttl, .. } = self;
        let rejected = |group: usize, key: &[u8]| {
            let (edge, first) = (edges[group], first_bytes(key));
            if first != edge || edge == OPEN {
                return first > edge;
            }
            parts[group].last().is_some_and(|last| key > &last[..key.len().min(last.len())])
        };
        let mut touched = Vec::new();
        rows.retain(|place| {
            let (group, row) = (by_group::group(*place), by_group::row(*place));
            let forgotten = ttl.as_ref().is_some_and(|ttl| ttl.is_forgotten(group, latest));
            let stays = forgotten || !rejected(group as usize, keys.row(row));
            if let Some(times) = times.filter(|_| !stays) {
                touched.push((group, times[row]));
            }
            stays
        });
        touched.into_iter().for_each(|(group, time)| self.touch(group, time));
    }

    /// Lets `with` change the rows of a group.
    pub fn change(&mut self, group: u32, with: impl FnOnce(&mut Sorted)) {
        let part = &mut self.parts[group as usize];
        self.held -= part.bytes();
        with(part);
        self.held += part.bytes();
    }

    /// Puts other rows in the place of those of a group, which are given back.
    pub fn replace(&mut self, group: u32, with: Sorted) -> Sorted {
        let mut old = with;
        self.change(group, |part| std::mem::swap(part, &mut old));
        old
    }

    /// Keeps the rows that can be shown if others only come.
    pub fn trim(&mut self, group: u32, ranking: &Ranking, log: Option<&mut Log>) {
        let (keep, full) = ranking.worth_keeping(self.part(group));
        if keep < self.part(group).len() {
            if let Some(log) = log {
                log.push_from(group, self.part(group), keep);
            }
            self.change(group, |part| part.truncate(keep));
        }
        let edge = self.part(group).last().filter(|_| full).map_or(OPEN, first_bytes);
        self.edges[group as usize] = edge;
    }

    /// Forgets the rows of a group.
    pub fn clear(&mut self, group: u32) {
        self.change(group, |part| *part = Sorted::default());
        self.edges[group as usize] = OPEN;
        if let Some(ttl) = &mut self.ttl {
            ttl.touched[group as usize] = NEVER;
        }
    }

    /// Gives up the number of a group without rows. One that is to be forgotten in time is still remembered by when it
    /// was touched.
    pub fn release_if_empty(&mut self, group: u32) {
        // Without keys there is one group, which need not be found again.
        if self.ttl.is_none() && !self.keys.is_empty() && self.part(group).is_empty() {
            self.ids.release(group);
        }
    }

    /// Notes that a group is part of a window.
    pub fn open(&mut self, end: Millis, group: u32) {
        if !self.part(group).is_empty() {
            self.windows.entry(end).or_default().push(group);
        }
    }

    /// The end of the first window.
    pub fn first_end(&self) -> Option<Millis> {
        self.windows.first_key_value().map(|(end, _)| *end)
    }

    /// The groups of the first window that is closed by now, without the window.
    pub fn close(&mut self, by: Watermark) -> Option<Vec<u32>> {
        let first = self.windows.first_entry()?;
        by.closes(*first.key()).then(|| first.remove())
    }

    pub fn track(&mut self) {
        self.ttl.iter_mut().for_each(|ttl| ttl.tracking = true);
    }

    pub fn is_forgotten(&self, group: u32, mark: Watermark) -> bool {
        self.ttl.as_ref().is_some_and(|ttl| ttl.is_forgotten(group, mark))
    }

    /// A row of the group had this time.
    pub fn touch(&mut self, group: u32, time: Millis) {
        if let Some(ttl) = &mut self.ttl {
            ttl.touch(group, time, true);
        }
    }

    /// The groups that nobody finds any more.
    pub fn expired(&mut self, by: Watermark) -> Vec<u32> {
        let Some(ttl) = &mut self.ttl else { return Vec::new() };
        let mut groups = Vec::new();
        while let Some(Reverse((_, group))) = ttl.timers.peek().copied().filter(|t| t.0.0 <= by.0) {
            ttl.timers.pop();
            let due = ttl.touched[group as usize].saturating_add(ttl.keep);
            if due <= by.0 {
                ttl.is_timed[group as usize] = false;
                groups.push(group);
            } else {
                ttl.timers.push(Reverse((due, group)));
            }
        }
        groups
    }

    /// Gives up the numbers of groups that have been forgotten.
    pub fn release_forgotten(&mut self, groups: &[u32], tracking: bool) -> Result<()> {
        let Some(ttl) = self.ttl.as_mut().filter(|_| !groups.is_empty()) else { return Ok(()) };
        if tracking {
            ttl.forgotten.push(key_columns(&self.codec, &self.ids, self.keys.is_empty(), groups)?);
        }
        if !self.keys.is_empty() {
            groups.iter().for_each(|group| self.ids.release(*group));
        }
        Ok(())
    }

    /// The keys of some groups as columns of the table of touched partitions.
    pub fn key_columns(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        key_columns(&self.codec, &self.ids, self.keys.is_empty(), groups)
    }

    pub fn bytes(&self) -> usize {
        let ttl = self.ttl.as_ref().map_or(0, |ttl| {
            ttl.touched.capacity() * 8
                + ttl.timers.capacity() * 16
                + ttl.dirty.capacity() * 4
                + ttl.is_dirty.capacity()
                + ttl.forgotten.iter().flatten().map(|c| c.get_array_memory_size()).sum::<usize>()
        });
        self.held
            + self.parts.capacity() * size_of::<Sorted>()
            + self.edges.capacity() * 16
            + self.groups.capacity() * 4
            + self.ids.bytes()
            + if self.windows.is_empty() { 0 } else { self.parts.len() * 4 + self.windows.len() * 40 }
            + ttl
    }
}

/// The keys of groups; a column of zeros, where the partition is the whole table and has no key.
fn key_columns(codec: &KeyCodec, ids: &KeyTable, whole: bool, groups: &[u32]) -> Result<Vec<ArrayRef>> {
    match whole {
        true => Ok(vec![Arc::new(Int64Array::from_value(0, groups.len()))]),
        false => codec.decode_ids(ids, groups),
    }
}

impl Ttl {
    fn new(keep: Millis, column: usize) -> Ttl {
        Ttl {
            keep,
            column,
            touched: Vec::new(),
            timers: BinaryHeap::new(),
            is_timed: Vec::new(),
            tracking: false,
            dirty: Vec::new(),
            is_dirty: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    fn is_forgotten(&self, group: u32, mark: Watermark) -> bool {
        let touched = self.touched[group as usize];
        touched != NEVER && mark.0 >= touched.saturating_add(self.keep)
    }

    pub fn touch(&mut self, group: u32, time: Millis, changes: bool) {
        let touched = &mut self.touched[group as usize];
        if time > *touched {
            *touched = time;
            if changes && self.tracking && !std::mem::replace(&mut self.is_dirty[group as usize], true) {
                self.dirty.push(group);
            }
            if !std::mem::replace(&mut self.is_timed[group as usize], true) {
                self.timers.push(Reverse((time.saturating_add(self.keep), group)));
            }
        }
    }

    /// Groups touched since the last save; from now on none is.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().for_each(|group| self.is_dirty[*group as usize] = false);
        dirty
    }
}
