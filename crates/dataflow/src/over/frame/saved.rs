//! What a checkpoint holds of a call.
//!
//! A frame that rows leave is saved as the values of its rows, which are added again when it is loaded: those of a
//! RANGE frame with the rows of the log, those of a ROWS frame as the last rows of their key. A frame without a
//! beginning has no rows; its aggregate says itself what lasts ([`Lasting`]).

use super::{Accumulator, Argument, Log, RangeCall, RowsCall, Values};
use crate::over::words::Codec;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;
use millstream_core::{Error, Result};
use std::collections::VecDeque;
use std::ops::Range;

/// What lasts of an aggregate over a frame without a beginning.
pub(crate) enum Lasting {
    /// For each key a row of columns of these types.
    State(Vec<DataType>),
    /// Values, for ever.
    Values,
    /// The last so many values of each key.
    Last(u64),
}

/// Where a checkpoint keeps a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// With the rows of the log.
    Log,
    /// With the last so many rows of each key.
    Last(u64),
    /// In the one row of each key.
    State,
    /// In a table of its own.
    Values,
}

/// A call as it is saved and loaded. Which of the pairs is asked for, [`Saved::memory`] says; columns are those of
/// [`Saved::columns`].
pub(crate) trait Saved {
    fn memory(&self) -> Memory;
    fn columns(&self) -> Vec<DataType>;
    /// Whose values they are: calls that agree on it can share the columns, if the values come back as they were.
    fn shared(&self) -> Option<&Argument>;
    fn track(&mut self);

    /// The values of these rows of the log.
    fn save_log(&self, rows: Range<usize>) -> Result<Vec<ArrayRef>>;
    /// Takes in the values of all rows of the log. Those from `cursor` on are in the frame.
    fn load_log(&mut self, log: &Log, cursor: usize, slots: usize, columns: &[ArrayRef]) -> Result<()>;

    /// For each group the value so many rows before its last one; NULL where it is held no more.
    fn save_last(&self, groups: &[u32], back: &[usize]) -> Result<Vec<ArrayRef>>;
    /// Takes in the last rows of each group, oldest first.
    fn load_last(&mut self, groups: &[u32], slots: usize, columns: &[ArrayRef]) -> Result<()>;

    fn save_state(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>>;
    fn load_state(&mut self, groups: &[u32], slots: usize, columns: &[ArrayRef]) -> Result<()>;

    /// The values that came since this was last asked, or all, and the group of each.
    fn save_values(&mut self, all: bool) -> Result<(Vec<u32>, Vec<ArrayRef>)>;
    fn load_values(&mut self, groups: &[u32], slots: usize, columns: &[ArrayRef]) -> Result<()>;
}

impl<I: Codec> Values<I> {
    /// Whether a column says which rows count, because a NULL among the values does not.
    fn flagged(&self) -> bool {
        let Argument { columns, filter, keep_nulls } = &self.argument;
        match self.input.types().is_empty() {
            true => filter.is_some() || !(*keep_nulls || columns.is_empty()),
            false => filter.is_some() && *keep_nulls,
        }
    }

    fn types(&self) -> Vec<DataType> {
        self.input.types().into_iter().chain(self.flagged().then_some(DataType::Boolean)).collect()
    }

    /// `present`: which rows count; `None`: all.
    fn write(&self, values: Vec<I::Value>, present: Option<BooleanBuffer>) -> Result<Vec<ArrayRef>> {
        let rows = values.len();
        let nulls = present.clone().filter(|_| !self.argument.keep_nulls).map(NullBuffer::new);
        let mut columns = self.input.write_all(values, nulls)?;
        if self.flagged() {
            let present = present.unwrap_or_else(|| BooleanBuffer::new_set(rows));
            columns.push(std::sync::Arc::new(BooleanArray::new(present, None)));
        }
        Ok(columns)
    }

    /// What `write` wrote.
    fn read(&self, columns: &[ArrayRef], rows: usize) -> Result<(Vec<I::Value>, Option<BooleanBuffer>)> {
        let (values, flag) = columns.split_at(self.input.types().len());
        let present = match flag.first() {
            Some(flag) => {
                let flag = flag.as_boolean();
                let counts = NullBuffer::new(flag.values().clone());
                NullBuffer::union(Some(&counts), flag.nulls())
            }
            None if self.argument.keep_nulls => None,
            None => values.iter().fold(None, |all, c| NullBuffer::union(all.as_ref(), c.logical_nulls().as_ref())),
        };
        let present = present.filter(|p| p.null_count() > 0).map(NullBuffer::into_inner);
        Ok((self.input.read(values, rows)?, present))
    }
}

fn lasting_memory<A: Accumulator>(accumulator: &A, input: &[DataType]) -> Memory {
    match accumulator.lasting(input) {
        Lasting::State(_) => Memory::State,
        Lasting::Values => Memory::Values,
        Lasting::Last(rows) => Memory::Last(rows),
    }
}

fn lasting_columns<A: Accumulator, I: Codec>(accumulator: &A, values: &Values<I>) -> Vec<DataType> {
    match accumulator.lasting(&values.input.types()) {
        Lasting::State(types) => types,
        // Only values that count get so far.
        Lasting::Values => values.input.types(),
        Lasting::Last(_) => values.types(),
    }
}

fn save_values<A, I>(accumulator: &mut A, values: &Values<I>, all: bool) -> Result<(Vec<u32>, Vec<ArrayRef>)>
where
    A: Accumulator,
    I: Codec<Value = A::In>,
{
    let (groups, taken): (Vec<u32>, Vec<A::In>) = accumulator.take_values(all).into_iter().unzip();
    Ok((groups, values.input.write_all(taken, None)?))
}

fn load_values<A, I>(
    accumulator: &mut A,
    values: &Values<I>,
    groups: &[u32],
    slots: usize,
    columns: &[ArrayRef],
) -> Result<()>
where
    A: Accumulator,
    I: Codec<Value = A::In>,
{
    accumulator.grow(slots);
    let read = values.input.read(columns, groups.len())?;
    for (&group, value) in groups.iter().zip(&read) {
        accumulator.add(group as usize, value, 0)?;
    }
    // What was loaded has been saved.
    accumulator.take_values(false);
    Ok(())
}

/// What can only be a mistake of ours: a table of one kind is asked of a call of another.
fn unasked<T>() -> Result<T> {
    Err(Error::internal("a call is saved in one place alone"))
}

impl<A, I, O> Saved for RangeCall<A, I, O>
where
    A: Accumulator,
    I: Codec<Value = A::In>,
{
    fn memory(&self) -> Memory {
        match self.kept {
            Some(_) => Memory::Log,
            None => lasting_memory(&self.accumulator, &self.values.input.types()),
        }
    }

    fn columns(&self) -> Vec<DataType> {
        match self.kept {
            Some(_) => self.values.types(),
            None => lasting_columns(&self.accumulator, &self.values),
        }
    }

    fn shared(&self) -> Option<&Argument> {
        (self.kept.is_some() && !self.values.input.joins()).then_some(&self.values.argument)
    }

    fn track(&mut self) {
        if self.kept.is_none() {
            self.accumulator.track();
        }
    }

    fn save_log(&self, rows: Range<usize>) -> Result<Vec<ArrayRef>> {
        let Some(kept) = &self.kept else { return unasked() };
        let present = kept.present.as_ref().map(|p| BooleanBuffer::from(&p[rows.clone()]));
        self.values.write(kept.values[rows].to_vec(), present)
    }

    fn load_log(&mut self, log: &Log, cursor: usize, slots: usize, columns: &[ArrayRef]) -> Result<()> {
        let Some(kept) = &mut self.kept else { return unasked() };
        let (values, present) = self.values.read(columns, log.groups.len())?;
        self.accumulator.grow(slots);
        kept.append(&values, present.as_ref());
        for (i, value) in values.iter().enumerate().skip(cursor) {
            if present.as_ref().is_none_or(|p| p.value(i)) {
                self.accumulator.add(log.groups[i] as usize, value, log.gone + i as u64)?;
            }
        }
        Ok(())
    }

    fn save_last(&self, _: &[u32], _: &[usize]) -> Result<Vec<ArrayRef>> {
        unasked()
    }

    fn load_last(&mut self, _: &[u32], _: usize, _: &[ArrayRef]) -> Result<()> {
        unasked()
    }

    fn save_state(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        // Another table may know keys of which this call has seen nothing yet.
        self.accumulator.grow(groups.iter().max().map_or(0, |last| *last as usize + 1));
        self.accumulator.save(groups, &self.values.input)
    }

    fn load_state(&mut self, groups: &[u32], slots: usize, columns: &[ArrayRef]) -> Result<()> {
        self.accumulator.grow(slots);
        self.accumulator.load(groups, columns, &self.values.input)
    }

    fn save_values(&mut self, all: bool) -> Result<(Vec<u32>, Vec<ArrayRef>)> {
        save_values(&mut self.accumulator, &self.values, all)
    }

    fn load_values(&mut self, groups: &[u32], slots: usize, columns: &[ArrayRef]) -> Result<()> {
        load_values(&mut self.accumulator, &self.values, groups, slots, columns)
    }
}

impl<A, I, O> Saved for RowsCall<A, I, O>
where
    A: Accumulator,
    I: Codec<Value = A::In>,
{
    fn memory(&self) -> Memory {
        match self.preceding {
            Some(preceding) => Memory::Last(preceding.saturating_add(1)),
            None => lasting_memory(&self.accumulator, &self.values.input.types()),
        }
    }

    fn columns(&self) -> Vec<DataType> {
        match self.preceding {
            Some(_) => self.values.types(),
            None => lasting_columns(&self.accumulator, &self.values),
        }
    }

    fn shared(&self) -> Option<&Argument> {
        // Calls with another frame hold other rows.
        None
    }

    fn track(&mut self) {
        if self.preceding.is_none() {
            self.accumulator.track();
        }
    }

    fn save_log(&self, _: Range<usize>) -> Result<Vec<ArrayRef>> {
        unasked()
    }

    fn load_log(&mut self, _: &Log, _: usize, _: usize, _: &[ArrayRef]) -> Result<()> {
        unasked()
    }

    fn save_last(&self, groups: &[u32], back: &[usize]) -> Result<Vec<ArrayRef>> {
        let held = |(&group, &back): (&u32, &usize)| match self.preceding {
            None => self.accumulator.back(group as usize, back),
            Some(_) => {
                let ring = self.rings.get(group as usize)?;
                ring.len().checked_sub(back + 1).and_then(|at| ring[at].clone())
            }
        };
        let held: Vec<Option<A::In>> = groups.iter().zip(back).map(held).collect();
        let present = BooleanBuffer::collect_bool(held.len(), |i| held[i].is_some());
        let values = held.into_iter().map(|v| v.unwrap_or_else(|| self.values.input.blank())).collect();
        self.values.write(values, Some(present))
    }

    fn load_last(&mut self, groups: &[u32], slots: usize, columns: &[ArrayRef]) -> Result<()> {
        let (values, present) = self.values.read(columns, groups.len())?;
        self.accumulator.grow(slots);
        self.counts.resize(slots.max(self.counts.len()), 0);
        if self.preceding.is_some() {
            self.rings.resize_with(slots.max(self.rings.len()), VecDeque::new);
        }
        for (i, (&group, value)) in groups.iter().zip(values).enumerate() {
            let group = group as usize;
            let value = present.as_ref().is_none_or(|p| p.value(i)).then_some(value);
            let nth = self.counts[group];
            self.counts[group] += 1;
            if let Some(value) = &value {
                self.accumulator.add(group, value, nth)?;
            }
            if self.preceding.is_some() {
                self.rings[group].push_back(value);
                self.held += 1;
            }
        }
        Ok(())
    }

    fn save_state(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        // Another table may know keys of which this call has seen nothing yet.
        self.accumulator.grow(groups.iter().max().map_or(0, |last| *last as usize + 1));
        self.accumulator.save(groups, &self.values.input)
    }

    fn load_state(&mut self, groups: &[u32], slots: usize, columns: &[ArrayRef]) -> Result<()> {
        self.accumulator.grow(slots);
        self.accumulator.load(groups, columns, &self.values.input)
    }

    fn save_values(&mut self, all: bool) -> Result<(Vec<u32>, Vec<ArrayRef>)> {
        save_values(&mut self.accumulator, &self.values, all)
    }

    fn load_values(&mut self, groups: &[u32], slots: usize, columns: &[ArrayRef]) -> Result<()> {
        load_values(&mut self.accumulator, &self.values, groups, slots, columns)
    }
}
