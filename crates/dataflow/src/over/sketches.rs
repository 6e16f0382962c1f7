//! APPROX_COUNT_DISTINCT and APPROX_PERCENTILE in frames: the sketches of windows, with values taken away as they leave.

use super::frame::{Accumulator, Lasting};
use super::words::Codec;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use millstream_core::{Error, Result, key};
use millstream_state::sketch::{CountedDistinct, Quantiles};
use std::marker::PhantomData;
use std::sync::Arc;

/// The pinned hash of a value beside the value itself, which is what is saved of a row in a frame.
pub(super) struct Hashed<I>(pub I);

impl<I: Codec> Codec for Hashed<I> {
    type Value = (u64, I::Value);

    fn read(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<(u64, I::Value)>> {
        let mut hashes = Vec::new();
        key::hash_rows(columns, rows, &mut hashes)?;
        Ok(hashes.into_iter().zip(self.0.read(columns, rows)?).collect())
    }

    fn write(&self, values: Vec<(u64, I::Value)>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        self.0.write(values.into_iter().map(|v| v.1).collect(), nulls)
    }

    fn blank(&self) -> (u64, I::Value) {
        (0, self.0.blank())
    }

    fn types(&self) -> Vec<DataType> {
        self.0.types()
    }

    fn write_all(&self, values: Vec<(u64, I::Value)>, nulls: Option<NullBuffer>) -> Result<Vec<ArrayRef>> {
        self.0.write_all(values.into_iter().map(|v| v.1).collect(), nulls)
    }

    fn joins(&self) -> bool {
        self.0.joins()
    }
}

/// A column of the sketches of these groups, for a checkpoint.
fn column(sketches: impl Iterator<Item = Vec<u8>>) -> Vec<ArrayRef> {
    vec![Arc::new(BinaryArray::from_iter_values(sketches))]
}

/// The sketches that [`column`] made one of.
fn sketches<S>(columns: &[ArrayRef], read: impl Fn(&[u8]) -> Option<S>) -> Result<Vec<S>> {
    let unreadable = || Error::data("a sketch in the checkpoint cannot be read");
    let column = columns[0].as_binary_opt::<i32>().ok_or_else(unreadable)?;
    (0..column.len()).map(|row| read(column.value(row)).ok_or_else(unreadable)).collect()
}

/// One sketch for each group, on the heap: many keys hold few rows.
pub(super) struct DistinctSketches<V> {
    groups: Vec<Option<Box<CountedDistinct>>>,
    held: usize,
    values: PhantomData<fn(V)>,
}

impl<V> Default for DistinctSketches<V> {
    fn default() -> DistinctSketches<V> {
        DistinctSketches { groups: Vec::new(), held: 0, values: PhantomData }
    }
}

fn held_by(sketch: &Option<Box<CountedDistinct>>) -> usize {
    sketch.as_ref().map_or(0, |s| size_of::<CountedDistinct>() + s.bytes())
}

impl<V> DistinctSketches<V> {
    fn change(&mut self, group: usize, act: impl FnOnce(&mut CountedDistinct)) {
        let sketch = &mut self.groups[group];
        self.held -= held_by(sketch);
        act(sketch.get_or_insert_default());
        self.held += held_by(sketch);
    }
}

impl<V: Clone + Send> Accumulator for DistinctSketches<V> {
    type In = (u64, V);
    type Out = i64;

    fn grow(&mut self, slots: usize) {
        self.groups.resize_with(slots.max(self.groups.len()), Default::default);
    }

    fn add(&mut self, group: usize, value: &(u64, V), _: u64) -> Result<()> {
        self.change(group, |s| s.add(value.0));
        Ok(())
    }

    fn retract(&mut self, group: usize, value: &(u64, V), _: u64) -> Result<()> {
        self.change(group, |s| s.remove(value.0));
        Ok(())
    }

    fn result(&mut self, group: usize) -> Result<Option<i64>> {
        Ok(Some(self.groups[group].as_ref().map_or(0, |s| s.estimate())))
    }

    fn forget(&mut self, group: usize) {
        self.held -= held_by(&self.groups[group].take());
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Option<Box<CountedDistinct>>>() + self.held
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(vec![DataType::Binary])
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        let sketch = |g: &u32| self.groups[*g as usize].as_deref().cloned().unwrap_or_default().to_bytes();
        Ok(column(groups.iter().map(sketch)))
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        for (group, saved) in groups.iter().zip(sketches(columns, CountedDistinct::from_bytes)?) {
            self.change(*group as usize, |sketch| *sketch = saved);
        }
        Ok(())
    }
}

pub(super) struct QuantileSketches {
    groups: Vec<Quantiles>,
    fraction: f64,
    held: usize,
}

impl QuantileSketches {
    pub(super) fn new(fraction: f64) -> QuantileSketches {
        QuantileSketches { groups: Vec::new(), fraction, held: 0 }
    }

    fn change(&mut self, group: usize, act: impl FnOnce(&mut Quantiles)) {
        let sketch = &mut self.groups[group];
        self.held -= sketch.bytes();
        act(sketch);
        self.held += sketch.bytes();
    }
}

impl Accumulator for QuantileSketches {
    type In = f64;
    type Out = f64;

    fn grow(&mut self, slots: usize) {
        self.groups.resize_with(slots.max(self.groups.len()), Default::default);
    }

    fn add(&mut self, group: usize, value: &f64, _: u64) -> Result<()> {
        self.change(group, |s| s.add(*value));
        Ok(())
    }

    fn retract(&mut self, group: usize, value: &f64, _: u64) -> Result<()> {
        self.change(group, |s| s.remove(*value));
        Ok(())
    }

    fn result(&mut self, group: usize) -> Result<Option<f64>> {
        Ok(self.groups[group].quantile(self.fraction))
    }

    fn forget(&mut self, group: usize) {
        self.held -= std::mem::take(&mut self.groups[group]).bytes();
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Quantiles>() + self.held
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(vec![DataType::Binary])
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        Ok(column(groups.iter().map(|g| self.groups[*g as usize].to_bytes())))
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        for (group, saved) in groups.iter().zip(sketches(columns, Quantiles::from_bytes)?) {
            self.change(*group as usize, |sketch| *sketch = saved);
        }
        Ok(())
    }
}
