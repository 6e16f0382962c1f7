//! Aggregates that pick or keep values: MIN, MAX, FIRST_VALUE, LAST_VALUE, LAG, DISTINCT, and all that is computed
//! anew from the rows of the frame.

use super::frame::{Accumulator, Lasting};
use super::words::{Bytes, Codec};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::Accumulator as Kernel;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use millstream_core::key::mix;
use millstream_core::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// Bytes of `slots` deques that hold `held` values together.
fn deque_bytes<T>(slots: usize, held: usize) -> usize {
    slots * size_of::<VecDeque<T>>() + held * size_of::<T>()
}

/// MIN or MAX of a frame that rows leave: the values that may still become the result, best first. A value goes when
/// a later one is at least as good, so each goes in and out once.
pub(super) struct Extremes<T, const MAX: bool> {
    best: Vec<VecDeque<(u64, T)>>,
    held: usize,
}

impl<T, const MAX: bool> Default for Extremes<T, MAX> {
    fn default() -> Self {
        Extremes { best: Vec::new(), held: 0 }
    }
}

impl<T: Ord + Clone + Send, const MAX: bool> Accumulator for Extremes<T, MAX> {
    type In = T;
    type Out = T;

    fn grow(&mut self, slots: usize) {
        self.best.resize_with(slots.max(self.best.len()), VecDeque::new);
    }

    #[inline]
    fn add(&mut self, group: usize, value: &T, nth: u64) -> Result<()> {
        let best = &mut self.best[group];
        while best.back().is_some_and(|(_, last)| if MAX { last <= value } else { last >= value }) {
            best.pop_back();
            self.held -= 1;
        }
        best.push_back((nth, value.clone()));
        self.held += 1;
        Ok(())
    }

    #[inline]
    fn retract(&mut self, group: usize, _: &T, nth: u64) -> Result<()> {
        let best = &mut self.best[group];
        if best.front().is_some_and(|(first, _)| *first == nth) {
            best.pop_front();
            self.held -= 1;
        }
        Ok(())
    }

    #[inline]
    fn result(&mut self, group: usize) -> Result<Option<T>> {
        Ok(self.best[group].front().map(|(_, value)| value.clone()))
    }

    fn forget(&mut self, group: usize) {
        self.held -= std::mem::take(&mut self.best[group]).len();
    }

    fn bytes(&self) -> usize {
        deque_bytes::<(u64, T)>(self.best.len(), self.held)
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        // Never asked for: it is for bounded frames.
        Lasting::Values
    }
}

/// MIN or MAX from the beginning.
pub(super) struct Extreme<T, const MAX: bool> {
    best: Vec<Option<T>>,
}

impl<T, const MAX: bool> Default for Extreme<T, MAX> {
    fn default() -> Self {
        Extreme { best: Vec::new() }
    }
}

impl<T: Ord + Clone + Send, const MAX: bool> Accumulator for Extreme<T, MAX> {
    type In = T;
    type Out = T;

    fn grow(&mut self, slots: usize) {
        self.best.resize(slots.max(self.best.len()), None);
    }

    #[inline]
    fn add(&mut self, group: usize, value: &T, _: u64) -> Result<()> {
        let best = &mut self.best[group];
        if best.as_ref().is_none_or(|b| if MAX { value > b } else { value < b }) {
            *best = Some(value.clone());
        }
        Ok(())
    }

    fn retract(&mut self, _: usize, _: &T, _: u64) -> Result<()> {
        Err(Error::internal("nothing leaves a frame without a beginning"))
    }

    fn result(&mut self, group: usize) -> Result<Option<T>> {
        Ok(self.best[group].clone())
    }

    fn bytes(&self) -> usize {
        self.best.capacity() * size_of::<Option<T>>()
    }

    fn lasting(&self, input: &[DataType]) -> Lasting {
        Lasting::State(input.to_vec())
    }

    fn save(&mut self, groups: &[u32], input: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        let best = |g: &u32| self.best[*g as usize].clone();
        let nulls: NullBuffer = groups.iter().map(|g| best(g).is_some()).collect();
        let values = groups.iter().map(|g| best(g).unwrap_or_else(|| input.blank())).collect();
        input.write_all(values, Some(nulls))
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], input: &dyn Codec<Value = Self::In>) -> Result<()> {
        let nulls = columns[0].logical_nulls();
        for (i, value) in input.read(columns, groups.len())?.into_iter().enumerate() {
            let there = nulls.as_ref().is_none_or(|n| n.is_valid(i));
            self.best[groups[i] as usize] = there.then_some(value);
        }
        Ok(())
    }
}

/// FIRST_VALUE and LAST_VALUE: of the values that are not NULL, which are all that it is given.
pub(super) struct Ends<T> {
    last: bool,
    /// Nothing leaves the frame: one value is enough.
    endless: bool,
    values: Vec<VecDeque<Option<T>>>,
    held: usize,
}

impl<T> Ends<T> {
    pub(super) fn new(last: bool, endless: bool) -> Ends<T> {
        Ends { last, endless, values: Vec::new(), held: 0 }
    }
}

impl<T: Clone + Send> Accumulator for Ends<T> {
    type In = Option<T>;
    type Out = T;

    fn grow(&mut self, slots: usize) {
        self.values.resize_with(slots.max(self.values.len()), VecDeque::new);
    }

    fn add(&mut self, group: usize, value: &Option<T>, _: u64) -> Result<()> {
        let values = &mut self.values[group];
        if self.endless && !values.is_empty() {
            if self.last {
                values[0] = value.clone();
            }
        } else {
            values.push_back(value.clone());
            self.held += 1;
        }
        Ok(())
    }

    fn retract(&mut self, group: usize, _: &Option<T>, _: u64) -> Result<()> {
        self.held -= usize::from(self.values[group].pop_front().is_some());
        Ok(())
    }

    fn result(&mut self, group: usize) -> Result<Option<T>> {
        let values = &self.values[group];
        let end = if self.last { values.back() } else { values.front() };
        Ok(end.cloned().flatten())
    }

    fn forget(&mut self, group: usize) {
        self.held -= std::mem::take(&mut self.values[group]).len();
    }

    fn bytes(&self) -> usize {
        deque_bytes::<Option<T>>(self.values.len(), self.held)
    }

    fn lasting(&self, input: &[DataType]) -> Lasting {
        // A group whose values were all NULL has none yet.
        Lasting::State(input.iter().cloned().chain([DataType::Boolean]).collect())
    }

    fn save(&mut self, groups: &[u32], input: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        let end = |g: &u32| self.values[*g as usize].front();
        let mut columns = input.write_all(groups.iter().map(|g| end(g).cloned().flatten()).collect(), None)?;
        columns.push(Arc::new(groups.iter().map(|g| Some(end(g).is_some())).collect::<BooleanArray>()));
        Ok(columns)
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], input: &dyn Codec<Value = Self::In>) -> Result<()> {
        let (values, there) = columns.split_at(columns.len() - 1);
        let there = there[0].as_boolean();
        for (i, value) in input.read(values, groups.len())?.into_iter().enumerate() {
            if there.value(i) {
                self.values[groups[i] as usize].push_back(value);
                self.held += 1;
            }
        }
        Ok(())
    }
}

/// The value `offset` rows before. Over a ROWS frame without a beginning.
pub(super) struct Lag<T> {
    offset: usize,
    values: Vec<VecDeque<Option<T>>>,
    held: usize,
}

impl<T> Lag<T> {
    pub(super) fn new(offset: u64) -> Lag<T> {
        Lag { offset: offset as usize, values: Vec::new(), held: 0 }
    }
}

impl<T: Clone + Send> Accumulator for Lag<T> {
    type In = Option<T>;
    type Out = T;

    fn grow(&mut self, slots: usize) {
        self.values.resize_with(slots.max(self.values.len()), VecDeque::new);
    }

    fn add(&mut self, group: usize, value: &Option<T>, _: u64) -> Result<()> {
        let values = &mut self.values[group];
        if values.len() > self.offset {
            values.pop_front();
        } else {
            self.held += 1;
        }
        values.push_back(value.clone());
        Ok(())
    }

    fn retract(&mut self, _: usize, _: &Option<T>, _: u64) -> Result<()> {
        Err(Error::internal("LAG has no frame"))
    }

    fn result(&mut self, group: usize) -> Result<Option<T>> {
        let values = &self.values[group];
        Ok(if values.len() > self.offset { values[0].clone() } else { None })
    }

    fn bytes(&self) -> usize {
        deque_bytes::<Option<T>>(self.values.len(), self.held)
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::Last(self.offset as u64 + 1)
    }

    fn back(&self, group: usize, rows: usize) -> Option<Option<T>> {
        let values = self.values.get(group)?;
        values.len().checked_sub(rows + 1).map(|at| values[at].clone())
    }
}

/// What makes two values one for DISTINCT.
pub(super) trait Identity: Sized {
    type Key: Hash + Eq + Send;
    fn key(&self) -> Self::Key;
    /// A value with this key.
    fn of(key: &Self::Key) -> Self;
}

impl Identity for i64 {
    type Key = i64;
    fn key(&self) -> i64 {
        *self
    }

    fn of(key: &i64) -> i64 {
        *key
    }
}

impl Identity for i128 {
    type Key = i128;
    fn key(&self) -> i128 {
        *self
    }

    fn of(key: &i128) -> i128 {
        *key
    }
}

impl Identity for f64 {
    type Key = u64;
    fn key(&self) -> u64 {
        if self.is_nan() { f64::NAN.to_bits() } else { (*self + 0.0).to_bits() }
    }

    fn of(key: &u64) -> f64 {
        f64::from_bits(*key)
    }
}

impl Identity for Arc<[u8]> {
    type Key = Arc<[u8]>;
    fn key(&self) -> Arc<[u8]> {
        self.clone()
    }

    fn of(key: &Arc<[u8]>) -> Arc<[u8]> {
        key.clone()
    }
}

/// Hashes words and bytes with our own mixing function.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = mix(self.0.rotate_left(23) ^ word);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The values of all groups, by group.
fn all_seen<T: Identity>(seen: &[Seen<T::Key>]) -> Vec<(u32, T)> {
    let by_group = (0u32..).zip(seen);
    by_group.flat_map(|(group, seen)| seen.keys().map(move |key| (group, T::of(key)))).collect()
}

type Seen<K> = HashMap<K, u32, BuildHasherDefault<Mixer>>;

/// Bytes of `slots` sets that hold `held` values together, with the room that hash tables leave.
fn seen_bytes<K>(slots: usize, held: usize) -> usize {
    slots * size_of::<Seen<K>>() + held * (size_of::<(K, u32)>() + 1) * 3 / 2
}

/// Lets each value through once: in with its first row, out with its last.
pub(super) struct Distinct<A: Accumulator>
where
    A::In: Identity,
{
    inner: A,
    seen: Vec<Seen<<A::In as Identity>::Key>>,
    held: usize,
    /// Values to save next; `None`: nobody asks for them.
    fresh: Option<Vec<(u32, A::In)>>,
}

impl<A: Accumulator> Distinct<A>
where
    A::In: Identity,
{
    pub(super) fn new(inner: A) -> Distinct<A> {
        Distinct { inner, seen: Vec::new(), held: 0, fresh: None }
    }
}

impl<A: Accumulator> Accumulator for Distinct<A>
where
    A::In: Identity,
{
    type In = A::In;
    type Out = A::Out;

    fn grow(&mut self, slots: usize) {
        self.inner.grow(slots);
        self.seen.resize_with(slots.max(self.seen.len()), HashMap::default);
    }

    fn add(&mut self, group: usize, value: &A::In, nth: u64) -> Result<()> {
        let rows = self.seen[group].entry(value.key()).or_insert(0);
        *rows += 1;
        if *rows > 1 {
            return Ok(());
        }
        self.held += 1;
        if let Some(fresh) = &mut self.fresh {
            fresh.push((group as u32, value.clone()));
        }
        self.inner.add(group, value, nth)
    }

    fn retract(&mut self, group: usize, value: &A::In, nth: u64) -> Result<()> {
        let key = value.key();
        let Some(rows) = self.seen[group].get_mut(&key) else { return Ok(()) };
        *rows -= 1;
        if *rows > 0 {
            return Ok(());
        }
        self.seen[group].remove(&key);
        self.held -= 1;
        self.inner.retract(group, value, nth)
    }

    fn result(&mut self, group: usize) -> Result<Option<A::Out>> {
        self.inner.result(group)
    }

    fn forget(&mut self, group: usize) {
        self.inner.forget(group);
        self.held -= std::mem::take(&mut self.seen[group]).len();
    }

    fn bytes(&self) -> usize {
        let seen = seen_bytes::<<A::In as Identity>::Key>(self.seen.len(), self.held);
        self.inner.bytes() + seen + fresh_bytes(self.fresh.as_deref())
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        // Each once, for how often they came does not matter where nothing leaves.
        Lasting::Values
    }

    fn track(&mut self) {
        self.fresh = Some(Vec::new());
    }

    fn take_values(&mut self, all: bool) -> Vec<(u32, Self::In)> {
        let fresh = self.fresh.as_mut().map(std::mem::take).unwrap_or_default();
        if all { all_seen(&self.seen) } else { fresh }
    }
}

/// COUNT(DISTINCT ..).
pub(super) struct CountDistinct<T: Identity> {
    seen: Vec<Seen<T::Key>>,
    held: usize,
    /// Values to save next; `None`: nobody asks for them.
    fresh: Option<Vec<(u32, T)>>,
}

impl<T: Identity> Default for CountDistinct<T> {
    fn default() -> Self {
        CountDistinct { seen: Vec::new(), held: 0, fresh: None }
    }
}

impl<T: Identity + Clone + Send> Accumulator for CountDistinct<T> {
    type In = T;
    type Out = i64;

    fn grow(&mut self, slots: usize) {
        self.seen.resize_with(slots.max(self.seen.len()), HashMap::default);
    }

    fn add(&mut self, group: usize, value: &T, _: u64) -> Result<()> {
        let rows = self.seen[group].entry(value.key()).or_insert(0);
        *rows += 1;
        if *rows == 1 {
            self.held += 1;
            if let Some(fresh) = &mut self.fresh {
                fresh.push((group as u32, value.clone()));
            }
        }
        Ok(())
    }

    fn retract(&mut self, group: usize, value: &T, _: u64) -> Result<()> {
        let key = value.key();
        if let Some(rows) = self.seen[group].get_mut(&key) {
            *rows -= 1;
            if *rows == 0 {
                self.seen[group].remove(&key);
                self.held -= 1;
            }
        }
        Ok(())
    }

    fn result(&mut self, group: usize) -> Result<Option<i64>> {
        Ok(Some(self.seen[group].len() as i64))
    }

    fn forget(&mut self, group: usize) {
        self.held -= std::mem::take(&mut self.seen[group]).len();
    }

    fn bytes(&self) -> usize {
        seen_bytes::<T::Key>(self.seen.len(), self.held) + fresh_bytes(self.fresh.as_deref())
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        // Each once, for how often they came does not matter where nothing leaves.
        Lasting::Values
    }

    fn track(&mut self) {
        self.fresh = Some(Vec::new());
    }

    fn take_values(&mut self, all: bool) -> Vec<(u32, Self::In)> {
        let fresh = self.fresh.as_mut().map(std::mem::take).unwrap_or_default();
        if all { all_seen(&self.seen) } else { fresh }
    }
}

/// Bytes of the list of values to save next; what they point to is held elsewhere too.
fn fresh_bytes<T>(fresh: Option<&[(u32, T)]>) -> usize {
    fresh.map_or(0, size_of_val)
}

/// Computes a result from the argument columns of a frame's rows, in their order.
pub(super) type Function = Box<dyn Fn(&[ArrayRef]) -> Result<ScalarValue> + Send>;

/// Bytes of a row beside its values: the pointer to it and its counters.
const ROW_BYTES: usize = 32;

/// An aggregate that is computed anew for each row from all rows of its frame.
pub(super) struct Anew {
    codec: Bytes,
    function: Function,
    /// The result of no row at all.
    of_nothing: ScalarValue,
    distinct: bool,
    rows: Vec<VecDeque<Arc<[u8]>>>,
    value_bytes: usize,
    /// Values to save next; `None`: nobody asks for them.
    fresh: Option<Vec<(u32, Arc<[u8]>)>>,
}

impl Anew {
    pub(super) fn new(codec: Bytes, function: Function, of_nothing: ScalarValue, distinct: bool) -> Anew {
        Anew { codec, function, of_nothing, distinct, rows: Vec::new(), value_bytes: 0, fresh: None }
    }
}

impl Accumulator for Anew {
    type In = Arc<[u8]>;
    type Out = ScalarValue;

    fn grow(&mut self, slots: usize) {
        self.rows.resize_with(slots.max(self.rows.len()), VecDeque::new);
    }

    fn add(&mut self, group: usize, value: &Arc<[u8]>, _: u64) -> Result<()> {
        self.value_bytes += value.len() + ROW_BYTES;
        self.rows[group].push_back(value.clone());
        if let Some(fresh) = &mut self.fresh {
            fresh.push((group as u32, value.clone()));
        }
        Ok(())
    }

    fn retract(&mut self, group: usize, _: &Arc<[u8]>, _: u64) -> Result<()> {
        if let Some(gone) = self.rows[group].pop_front() {
            self.value_bytes -= gone.len() + ROW_BYTES;
        }
        Ok(())
    }

    fn result(&mut self, group: usize) -> Result<Option<ScalarValue>> {
        let rows = &self.rows[group];
        if rows.is_empty() {
            return Ok(Some(self.of_nothing.clone()));
        }
        let columns = if self.distinct {
            let mut seen: HashMap<&Arc<[u8]>, (), BuildHasherDefault<Mixer>> = HashMap::default();
            self.codec.columns(rows.iter().filter(|r| seen.insert(r, ()).is_none()))?
        } else {
            self.codec.columns(rows.iter())?
        };
        (self.function)(&columns).map(Some)
    }

    fn forget(&mut self, group: usize) {
        let gone = std::mem::take(&mut self.rows[group]);
        self.value_bytes -= gone.iter().map(|r| r.len() + ROW_BYTES).sum::<usize>();
    }

    fn bytes(&self) -> usize {
        self.value_bytes + deque_bytes::<Arc<[u8]>>(self.rows.len(), 0) + fresh_bytes(self.fresh.as_deref())
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::Values
    }

    fn track(&mut self) {
        self.fresh = Some(Vec::new());
    }

    fn take_values(&mut self, all: bool) -> Vec<(u32, Arc<[u8]>)> {
        let fresh = self.fresh.as_mut().map(std::mem::take).unwrap_or_default();
        if !all {
            return fresh;
        }
        let by_group = (0u32..).zip(&self.rows);
        by_group.flat_map(|(group, rows)| rows.iter().map(move |row| (group, row.clone()))).collect()
    }
}

/// Any aggregate of DataFusion that can take rows back, or never has to.
pub(super) struct Foreign {
    function: Arc<AggregateFunctionExpr>,
    codec: Bytes,
    /// Types of an accumulator's state.
    state_types: Vec<DataType>,
    /// Rows will be taken back.
    sliding: bool,
    kernels: Vec<Option<Box<dyn Kernel>>>,
    held: usize,
}

impl Foreign {
    pub(super) fn new(function: Arc<AggregateFunctionExpr>, codec: Bytes, sliding: bool) -> Result<Foreign> {
        let states = function.state_fields().map_err(explain)?;
        let state_types = states.iter().map(|f| f.data_type().clone()).collect();
        Ok(Foreign { function, codec, state_types, sliding, kernels: Vec::new(), held: 0 })
    }

    fn change(
        &mut self,
        group: usize,
        value: &Arc<[u8]>,
        act: impl FnOnce(&mut Box<dyn Kernel>, &[ArrayRef]) -> Result<(), DataFusionError>,
    ) -> Result<()> {
        let columns = self.codec.columns(std::iter::once(value))?;
        let kernel = self.kernel(group)?;
        let before = kernel.size();
        act(kernel, &columns).map_err(explain)?;
        let after = kernel.size();
        self.held = (self.held + after).saturating_sub(before);
        Ok(())
    }

    fn create(&self) -> Result<Box<dyn Kernel>> {
        let kernel = match self.sliding {
            true => self.function.create_sliding_accumulator(),
            false => self.function.create_accumulator(),
        };
        kernel.map_err(explain)
    }

    /// An accumulator that goes on from a saved state.
    fn restore(&mut self, group: usize, states: &[ArrayRef]) -> Result<()> {
        let mut kernel = self.create()?;
        kernel.merge_batch(states).map_err(explain)?;
        let size = kernel.size();
        let before = self.kernels[group].replace(kernel).map_or(0, |k| k.size());
        self.held = (self.held + size).saturating_sub(before);
        Ok(())
    }

    fn kernel(&mut self, group: usize) -> Result<&mut Box<dyn Kernel>> {
        if self.kernels[group].is_none() {
            let kernel = self.create()?;
            self.held += kernel.size();
            self.kernels[group] = Some(kernel);
        }
        self.kernels[group].as_mut().ok_or_else(|| Error::internal("an accumulator that was just made"))
    }
}

pub(super) fn explain(e: DataFusionError) -> Error {
    Error::data(e.strip_backtrace())
}

impl Accumulator for Foreign {
    type In = Arc<[u8]>;
    type Out = ScalarValue;

    fn grow(&mut self, slots: usize) {
        self.kernels.resize_with(slots.max(self.kernels.len()), || None);
    }

    fn add(&mut self, group: usize, value: &Arc<[u8]>, _: u64) -> Result<()> {
        self.change(group, value, |kernel, columns| kernel.update_batch(columns))
    }

    fn retract(&mut self, group: usize, value: &Arc<[u8]>, _: u64) -> Result<()> {
        self.change(group, value, |kernel, columns| kernel.retract_batch(columns))
    }

    fn result(&mut self, group: usize) -> Result<Option<ScalarValue>> {
        self.kernel(group)?.evaluate().map(Some).map_err(explain)
    }

    fn forget(&mut self, group: usize) {
        let gone = self.kernels[group].take().map_or(0, |k| k.size());
        self.held = self.held.saturating_sub(gone);
    }

    fn bytes(&self) -> usize {
        self.held + self.kernels.len() * 16
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(self.state_types.clone())
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        let mut states: Vec<Vec<ScalarValue>> = self.state_types.iter().map(|_| Vec::new()).collect();
        for group in groups {
            let state = self.kernel(*group as usize)?.state().map_err(explain)?;
            // What has told its state may not go on.
            let again: Vec<ArrayRef> =
                state.iter().map(ScalarValue::to_array).collect::<Result<_, _>>().map_err(explain)?;
            self.restore(*group as usize, &again)?;
            states.iter_mut().zip(state).for_each(|(column, value)| column.push(value));
        }
        let column = |(values, kind): (Vec<ScalarValue>, &DataType)| {
            let column = ScalarValue::iter_to_array(values).map_err(explain)?;
            Ok(if column.data_type() == kind { column } else { arrow::compute::cast(&column, kind)? })
        };
        states.into_iter().zip(&self.state_types).map(column).collect()
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        for (i, group) in groups.iter().enumerate() {
            let states: Vec<ArrayRef> = columns.iter().map(|c| c.slice(i, 1)).collect();
            self.restore(*group as usize, &states)?;
        }
        Ok(())
    }
}
