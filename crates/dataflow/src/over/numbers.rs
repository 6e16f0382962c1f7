//! COUNT, SUM, AVG, VAR, STDDEV and the ranks: what can be taken back by taking away.

use super::frame::{Accumulator, Lasting};
use super::words::Codec;
use arrow::array::{ArrayRef, AsArray, BinaryArray, Decimal128Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, i256};
use millstream_core::{Error, Result};
use millstream_state::exact::{ExactMoments, ExactSum, IntegerMoments};
use std::sync::Arc;

/// The type of a saved sum of integers or unscaled decimals.
const SUM: DataType = DataType::Decimal128(38, 0);

/// A saved column of whole numbers, one for each group.
fn saved_longs(groups: &[u32], number: impl Fn(usize) -> i64) -> ArrayRef {
    Arc::new(groups.iter().map(|g| number(*g as usize)).collect::<Int64Array>())
}

fn longs(column: &ArrayRef) -> Result<&Int64Array> {
    column.as_primitive_opt::<Int64Type>().ok_or_else(|| unreadable("is no BIGINT"))
}

/// A saved column of what is exact in words of its own.
fn saved_bytes(groups: &[u32], write: impl Fn(usize, &mut Vec<u8>)) -> ArrayRef {
    let mut bytes = Vec::new();
    let written = groups.iter().map(|group| {
        bytes.clear();
        write(*group as usize, &mut bytes);
        Some(bytes.clone())
    });
    Arc::new(written.collect::<BinaryArray>())
}

fn load_bytes(groups: &[u32], column: &ArrayRef, mut read: impl FnMut(usize, &[u8]) -> Option<()>) -> Result<()> {
    let column = column.as_binary_opt::<i32>().ok_or_else(|| unreadable("is no BYTES"))?;
    for (i, group) in groups.iter().enumerate() {
        read(*group as usize, column.value(i)).ok_or_else(|| unreadable("holds too few bytes"))?;
    }
    Ok(())
}

fn unreadable(why: &str) -> Error {
    Error::data(format!("a column of the state saved by an OVER window {why}"))
        .remedy("start from an earlier checkpoint, or from none")
}

/// COUNT, with or without an argument; ROW_NUMBER over a frame without a beginning.
#[derive(Default)]
pub(super) struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    type In = ();
    type Out = i64;

    fn grow(&mut self, slots: usize) {
        self.counts.resize(slots.max(self.counts.len()), 0);
    }

    #[inline]
    fn add(&mut self, group: usize, (): &(), _: u64) -> Result<()> {
        self.counts[group] += 1;
        Ok(())
    }

    #[inline]
    fn retract(&mut self, group: usize, (): &(), _: u64) -> Result<()> {
        self.counts[group] -= 1;
        Ok(())
    }

    #[inline]
    fn result(&mut self, group: usize) -> Result<Option<i64>> {
        Ok(Some(self.counts[group]))
    }

    fn forget(&mut self, group: usize) {
        self.counts[group] = 0;
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * 8
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(vec![DataType::Int64])
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        Ok(vec![saved_longs(groups, |g| self.counts[g])])
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        let counts = longs(&columns[0])?;
        groups.iter().zip(counts.values()).for_each(|(g, count)| self.counts[*g as usize] = *count);
        Ok(())
    }
}

/// Sum and number of values. No sum of 2^64 words overflows it.
#[derive(Clone, Copy, Default)]
struct Total {
    sum: i128,
    count: u64,
}

fn save_totals(totals: &[Total], groups: &[u32]) -> Result<Vec<ArrayRef>> {
    let sums: Decimal128Array = groups.iter().map(|g| Some(totals[*g as usize].sum)).collect();
    let sums = sums.with_precision_and_scale(38, 0)?;
    Ok(vec![Arc::new(sums), saved_longs(groups, |g| totals[g].count as i64)])
}

fn load_totals(totals: &mut [Total], groups: &[u32], columns: &[ArrayRef]) -> Result<()> {
    let sums = columns[0].as_primitive_opt::<Decimal128Type>().ok_or_else(|| unreadable("is no DECIMAL"))?;
    let counts = longs(&columns[1])?;
    for (i, group) in groups.iter().enumerate() {
        totals[*group as usize] = Total { sum: sums.value(i), count: counts.value(i) as u64 };
    }
    Ok(())
}

/// SUM and AVG of integers.
pub(super) struct WordTotals {
    totals: Vec<Total>,
    /// AVG, rounded toward zero as in Flink.
    average: bool,
    least: i128,
    most: i128,
    /// The call and its type, for messages.
    name: String,
}

impl WordTotals {
    pub(super) fn new(average: bool, result: &DataType, name: String) -> WordTotals {
        let (least, most) = match result {
            DataType::Int8 => (i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => (i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => (i32::MIN.into(), i32::MAX.into()),
            _ => (i64::MIN.into(), i64::MAX.into()),
        };
        WordTotals { totals: Vec::new(), average, least, most, name }
    }
}

impl Accumulator for WordTotals {
    type In = i64;
    type Out = i64;

    fn grow(&mut self, slots: usize) {
        self.totals.resize(slots.max(self.totals.len()), Total::default());
    }

    #[inline]
    fn add(&mut self, group: usize, value: &i64, _: u64) -> Result<()> {
        let total = &mut self.totals[group];
        total.sum += i128::from(*value);
        total.count += 1;
        Ok(())
    }

    #[inline]
    fn retract(&mut self, group: usize, value: &i64, _: u64) -> Result<()> {
        let total = &mut self.totals[group];
        total.sum -= i128::from(*value);
        total.count -= 1;
        Ok(())
    }

    #[inline]
    fn result(&mut self, group: usize) -> Result<Option<i64>> {
        let Total { sum, count } = self.totals[group];
        if count == 0 {
            return Ok(None);
        }
        let value = if self.average { sum / i128::from(count) } else { sum };
        if value < self.least || value > self.most {
            return Err(overflow(&self.name));
        }
        Ok(Some(value as i64))
    }

    fn forget(&mut self, group: usize) {
        self.totals[group] = Total::default();
    }

    fn bytes(&self) -> usize {
        self.totals.capacity() * size_of::<Total>()
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(vec![SUM, DataType::Int64])
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        save_totals(&self.totals, groups)
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        load_totals(&mut self.totals, groups, columns)
    }
}

fn overflow(name: &str) -> Error {
    Error::data(format!("the result of {name} does not fit its type"))
        .remedy("CAST the argument to a wider type, for example BIGINT or DECIMAL(38, 0)")
}

/// SUM and AVG of decimals.
pub(super) struct DecimalTotals {
    totals: Vec<Total>,
    /// AVG: what the sum is multiplied by to get the result's scale.
    average: Option<i128>,
    most: i128,
    name: String,
}

impl DecimalTotals {
    pub(super) fn sum(precision: u8, name: String) -> DecimalTotals {
        DecimalTotals { totals: Vec::new(), average: None, most: 10i128.pow(precision.min(38).into()), name }
    }

    /// `scale` of the argument, `to` of the result.
    pub(super) fn average(precision: u8, scale: i8, to: i8, name: String) -> DecimalTotals {
        let factor = 10i128.pow((to - scale).clamp(0, 38) as u32);
        DecimalTotals { average: Some(factor), ..DecimalTotals::sum(precision, name) }
    }
}

impl Accumulator for DecimalTotals {
    type In = i128;
    type Out = i128;

    fn grow(&mut self, slots: usize) {
        self.totals.resize(slots.max(self.totals.len()), Total::default());
    }

    #[inline]
    fn add(&mut self, group: usize, value: &i128, _: u64) -> Result<()> {
        let total = &mut self.totals[group];
        total.sum = total.sum.checked_add(*value).ok_or_else(|| overflow(&self.name))?;
        total.count += 1;
        Ok(())
    }

    #[inline]
    fn retract(&mut self, group: usize, value: &i128, _: u64) -> Result<()> {
        let total = &mut self.totals[group];
        total.sum = total.sum.checked_sub(*value).ok_or_else(|| overflow(&self.name))?;
        total.count -= 1;
        Ok(())
    }

    fn result(&mut self, group: usize) -> Result<Option<i128>> {
        let Total { sum, count } = self.totals[group];
        if count == 0 {
            return Ok(None);
        }
        let value = match self.average {
            None => Some(sum),
            Some(factor) => {
                // Half away from zero, as in Flink. Wide, because the factor may carry the sum beyond 128 bits.
                let (wide, count) =
                    (i256::from_i128(sum).wrapping_mul(i256::from_i128(factor)), i256::from_i128(count.into()));
                let (quotient, rest) = (wide.wrapping_div(count), wide.wrapping_rem(count).wrapping_abs());
                let up = rest.wrapping_add(rest) >= count;
                let one = i256::from_i128(if !up {
                    0
                } else if sum < 0 {
                    -1
                } else {
                    1
                });
                quotient.wrapping_add(one).to_i128()
            }
        };
        match value {
            Some(value) if value.unsigned_abs() < self.most.unsigned_abs() => Ok(Some(value)),
            _ => Err(overflow(&self.name)),
        }
    }

    fn forget(&mut self, group: usize) {
        self.totals[group] = Total::default();
    }

    fn bytes(&self) -> usize {
        self.totals.capacity() * size_of::<Total>()
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(vec![SUM, DataType::Int64])
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        save_totals(&self.totals, groups)
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        load_totals(&mut self.totals, groups, columns)
    }
}

/// SUM and AVG of floating point numbers, exact: the same rows give the same bits in every order.
pub(super) struct FloatTotals {
    sums: Vec<ExactSum>,
    counts: Vec<u64>,
    average: bool,
    /// Bytes of sums beyond their place in the column.
    held: usize,
}

impl FloatTotals {
    pub(super) fn new(average: bool) -> FloatTotals {
        FloatTotals { sums: Vec::new(), counts: Vec::new(), average, held: 0 }
    }
}

impl Accumulator for FloatTotals {
    type In = f64;
    type Out = f64;

    fn grow(&mut self, slots: usize) {
        let slots = slots.max(self.counts.len());
        self.sums.resize_with(slots, Default::default);
        self.counts.resize(slots, 0);
    }

    #[inline]
    fn add(&mut self, group: usize, value: &f64, _: u64) -> Result<()> {
        let sum = &mut self.sums[group];
        let before = sum.bytes();
        sum.add(*value);
        self.held += sum.bytes() - before;
        self.counts[group] += 1;
        Ok(())
    }

    #[inline]
    fn retract(&mut self, group: usize, value: &f64, _: u64) -> Result<()> {
        let sum = &mut self.sums[group];
        let before = sum.bytes();
        sum.subtract(*value);
        self.held += sum.bytes() - before;
        self.counts[group] -= 1;
        Ok(())
    }

    fn result(&mut self, group: usize) -> Result<Option<f64>> {
        let count = self.counts[group];
        let sum = || self.sums[group].value();
        Ok((count > 0).then(|| if self.average { sum() / count as f64 } else { sum() }))
    }

    fn forget(&mut self, group: usize) {
        self.held -= std::mem::take(&mut self.sums[group]).bytes() - size_of::<ExactSum>();
        self.counts[group] = 0;
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * 8 + self.sums.capacity() * size_of::<ExactSum>() + self.held
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(vec![DataType::Binary, DataType::Int64])
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        let sums = saved_bytes(groups, |g, bytes| self.sums[g].write(bytes));
        Ok(vec![sums, saved_longs(groups, |g| self.counts[g] as i64)])
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        let counts = longs(&columns[1])?;
        groups.iter().zip(counts.values()).for_each(|(g, count)| self.counts[*g as usize] = *count as u64);
        load_bytes(groups, &columns[0], |group, bytes| {
            let (sum, _) = ExactSum::read(bytes)?;
            self.held += sum.bytes() - size_of::<ExactSum>();
            self.sums[group] = sum;
            Some(())
        })
    }
}

/// Count, sum and squares of values that can be taken back.
pub(super) trait Moments: Default + Send {
    type Value: Clone + Send;

    fn add(&mut self, value: &Self::Value) -> Result<()>;
    fn subtract(&mut self, value: &Self::Value) -> Result<()>;
    /// Of values that are `unit` each.
    fn variance(&self, sample: bool, unit: f64) -> Option<f64>;
    /// Bytes held beyond its own size.
    fn more_bytes(&self) -> usize {
        0
    }
    /// Appends it as bytes, for `read`.
    fn write(&self, bytes: &mut Vec<u8>);
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// By group, and on the heap: these are large, and many keys hold few rows.
#[derive(Default)]
pub(super) struct FloatMoments(Option<Box<ExactMoments>>);

impl Moments for FloatMoments {
    type Value = f64;

    fn add(&mut self, value: &f64) -> Result<()> {
        self.0.get_or_insert_default().add(*value);
        Ok(())
    }

    fn subtract(&mut self, value: &f64) -> Result<()> {
        self.0.get_or_insert_default().subtract(*value);
        Ok(())
    }

    fn variance(&self, sample: bool, _: f64) -> Option<f64> {
        self.0.as_ref()?.variance(sample)
    }

    fn more_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |m| m.bytes())
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        if let Some(moments) = &self.0 {
            moments.write(bytes);
        }
    }

    fn read(bytes: &[u8]) -> Option<FloatMoments> {
        if bytes.is_empty() {
            return Some(FloatMoments(None));
        }
        ExactMoments::read(bytes).map(|(moments, _)| FloatMoments(Some(Box::new(moments))))
    }
}

impl Moments for IntegerMoments {
    type Value = i64;

    fn add(&mut self, value: &i64) -> Result<()> {
        IntegerMoments::add(self, *value);
        Ok(())
    }

    fn subtract(&mut self, value: &i64) -> Result<()> {
        IntegerMoments::subtract(self, *value);
        Ok(())
    }

    fn variance(&self, sample: bool, unit: f64) -> Option<f64> {
        IntegerMoments::variance(self, sample, unit)
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        IntegerMoments::write(self, bytes);
    }

    fn read(bytes: &[u8]) -> Option<IntegerMoments> {
        IntegerMoments::read(bytes).map(|(moments, _)| moments)
    }
}

#[derive(Default)]
pub(super) struct DecimalMoments(IntegerMoments);

fn narrow(value: i128) -> Result<i64> {
    i64::try_from(value).map_err(|_| {
        Error::data("VAR and STDDEV of DECIMAL take at most 18 digits").remedy("CAST the argument to DOUBLE")
    })
}

impl Moments for DecimalMoments {
    type Value = i128;

    fn add(&mut self, value: &i128) -> Result<()> {
        Moments::add(&mut self.0, &narrow(*value)?)
    }

    fn subtract(&mut self, value: &i128) -> Result<()> {
        Moments::subtract(&mut self.0, &narrow(*value)?)
    }

    fn variance(&self, sample: bool, unit: f64) -> Option<f64> {
        self.0.variance(sample, unit)
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        self.0.write(bytes);
    }

    fn read(bytes: &[u8]) -> Option<DecimalMoments> {
        IntegerMoments::read(bytes).map(|(moments, _)| DecimalMoments(moments))
    }
}

/// VAR and STDDEV, from exact sums.
pub(super) struct Spread<M> {
    moments: Vec<M>,
    sample: bool,
    root: bool,
    unit: f64,
    /// Bytes of moments beyond their place in the column.
    held: usize,
}

impl<M> Spread<M> {
    pub(super) fn new(sample: bool, root: bool, unit: f64) -> Spread<M> {
        Spread { moments: Vec::new(), sample, root, unit, held: 0 }
    }
}

impl<M: Moments> Spread<M> {
    fn change(&mut self, group: usize, act: impl FnOnce(&mut M) -> Result<()>) -> Result<()> {
        let moments = &mut self.moments[group];
        let before = moments.more_bytes();
        act(moments)?;
        self.held = self.held + moments.more_bytes() - before;
        Ok(())
    }
}

impl<M: Moments> Accumulator for Spread<M> {
    type In = M::Value;
    type Out = f64;

    fn grow(&mut self, slots: usize) {
        self.moments.resize_with(slots.max(self.moments.len()), M::default);
    }

    fn add(&mut self, group: usize, value: &M::Value, _: u64) -> Result<()> {
        self.change(group, |m| m.add(value))
    }

    fn retract(&mut self, group: usize, value: &M::Value, _: u64) -> Result<()> {
        self.change(group, |m| m.subtract(value))
    }

    fn result(&mut self, group: usize) -> Result<Option<f64>> {
        let variance = self.moments[group].variance(self.sample, self.unit);
        Ok(if self.root { variance.map(f64::sqrt) } else { variance })
    }

    fn forget(&mut self, group: usize) {
        self.held -= std::mem::take(&mut self.moments[group]).more_bytes();
    }

    fn bytes(&self) -> usize {
        self.moments.capacity() * size_of::<M>() + self.held
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(vec![DataType::Binary])
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        Ok(vec![saved_bytes(groups, |g, bytes| self.moments[g].write(bytes))])
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        load_bytes(groups, &columns[0], |group, bytes| {
            let moments = M::read(bytes)?;
            self.held += moments.more_bytes();
            self.moments[group] = moments;
            Some(())
        })
    }
}

/// RANK and DENSE_RANK. Its values are the rows' times.
pub(super) struct Rank {
    dense: bool,
    places: Vec<Place>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    rows: i64,
    rank: i64,
    dense: i64,
    time: i64,
}

impl Rank {
    pub(super) fn new(dense: bool) -> Rank {
        Rank { dense, places: Vec::new() }
    }
}

impl Accumulator for Rank {
    type In = i64;
    type Out = i64;

    fn grow(&mut self, slots: usize) {
        self.places.resize(slots.max(self.places.len()), Place::default());
    }

    fn add(&mut self, group: usize, time: &i64, _: u64) -> Result<()> {
        let place = &mut self.places[group];
        place.rows += 1;
        if place.rows == 1 || *time != place.time {
            place.rank = place.rows;
            place.dense += 1;
            place.time = *time;
        }
        Ok(())
    }

    fn retract(&mut self, _: usize, _: &i64, _: u64) -> Result<()> {
        Err(Error::internal("a rank counts from the beginning"))
    }

    fn result(&mut self, group: usize) -> Result<Option<i64>> {
        let place = &self.places[group];
        Ok(Some(if self.dense { place.dense } else { place.rank }))
    }

    fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place>()
    }

    fn lasting(&self, _: &[DataType]) -> Lasting {
        Lasting::State(vec![DataType::Int64; 4])
    }

    fn save(&mut self, groups: &[u32], _: &dyn Codec<Value = Self::In>) -> Result<Vec<ArrayRef>> {
        let parts: [fn(&Place) -> i64; 4] = [|p| p.rows, |p| p.rank, |p| p.dense, |p| p.time];
        Ok(parts.iter().map(|part| saved_longs(groups, |g| part(&self.places[g]))).collect())
    }

    fn load(&mut self, groups: &[u32], columns: &[ArrayRef], _: &dyn Codec<Value = Self::In>) -> Result<()> {
        let parts = columns.iter().map(longs).collect::<Result<Vec<_>>>()?;
        for (i, group) in groups.iter().enumerate() {
            let [rows, rank, dense, time] = [0, 1, 2, 3].map(|part: usize| parts[part].value(i));
            self.places[*group as usize] = Place { rows, rank, dense, time };
        }
        Ok(())
    }
}
