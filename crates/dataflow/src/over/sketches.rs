//! APPROX_COUNT_DISTINCT and APPROX_PERCENTILE in frames: the sketches of windows, with values taken away as they leave.

use super::frame::Accumulator;
use super::words::Codec;
use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use millstream_core::{Error, Result, key};
use millstream_state::sketch::{CountedDistinct, Quantiles};

/// Any column, as the pinned hashes of its values.
pub(super) struct Hashes;

impl Codec for Hashes {
    type Value = u64;

    fn read(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>> {
        let mut hashes = Vec::new();
        key::hash_rows(columns, rows, &mut hashes)?;
        Ok(hashes)
    }

    fn write(&self, _: Vec<u64>, _: Option<NullBuffer>) -> Result<ArrayRef> {
        Err(Error::internal("hashes are arguments, not results"))
    }

    fn blank(&self) -> u64 {
        0
    }
}

/// One sketch for each group, on the heap: many keys hold few rows.
#[derive(Default)]
pub(super) struct DistinctSketches {
    groups: Vec<Option<Box<CountedDistinct>>>,
    held: usize,
}

fn held_by(sketch: &Option<Box<CountedDistinct>>) -> usize {
    sketch.as_ref().map_or(0, |s| size_of::<CountedDistinct>() + s.bytes())
}

impl DistinctSketches {
    fn change(&mut self, group: usize, act: impl FnOnce(&mut CountedDistinct)) {
        let sketch = &mut self.groups[group];
        self.held -= held_by(sketch);
        act(sketch.get_or_insert_default());
        self.held += held_by(sketch);
    }
}

impl Accumulator for DistinctSketches {
    type In = u64;
    type Out = i64;

    fn grow(&mut self, slots: usize) {
        self.groups.resize_with(slots.max(self.groups.len()), Default::default);
    }

    fn add(&mut self, group: usize, hash: &u64, _: u64) -> Result<()> {
        self.change(group, |s| s.add(*hash));
        Ok(())
    }

    fn retract(&mut self, group: usize, hash: &u64, _: u64) -> Result<()> {
        self.change(group, |s| s.remove(*hash));
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
}
