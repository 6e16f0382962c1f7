//! Cells: state of fixed size, in words of the groups' records.
//!
//! Each pass goes over the rows for one cell and knows its type, so the compiler sees a plain loop. Rows without
//! keys are reduced in registers instead.

use super::input::{Pick, Picked, Prepared, unordered};
use super::{Groups, each_row};
use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::datatypes::*;
use millstream_core::{Error, Result};
use millstream_state::exact::{self, Wide};
use std::ops::Range;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CellKind {
    /// Picked rows.
    Count,
    /// Picked rows whose value is NULL.
    Nulls,
    /// Of integers of 32 bits at most: cannot overflow.
    SumSmall,
    /// i128.
    SumInteger,
    /// 192 bits.
    SumDecimal,
    /// In units of 2^-64; what does not fit is in [`Wides`].
    SumFloat,
    Min,
    Max,
    MinWide,
    MaxWide,
}

const I64_MAX: u64 = i64::MAX as u64;
const I64_MIN: u64 = i64::MIN as u64;

impl CellKind {
    pub fn words(self) -> usize {
        self.blank().len()
    }

    /// The words of a group without rows.
    pub fn blank(self) -> &'static [u64] {
        match self {
            CellKind::Count | CellKind::Nulls | CellKind::SumSmall => &[0],
            CellKind::SumInteger | CellKind::SumFloat => &[0, 0],
            CellKind::SumDecimal => &[0, 0, 0],
            CellKind::Min => &[I64_MAX],
            CellKind::Max => &[I64_MIN],
            CellKind::MinWide => &[u64::MAX, I64_MAX],
            CellKind::MaxWide => &[0, I64_MIN],
        }
    }

    pub fn invertible(self) -> bool {
        !matches!(self, CellKind::Min | CellKind::Max | CellKind::MinWide | CellKind::MaxWide)
    }
}

#[derive(Debug)]
pub(super) struct Cell {
    pub kind: CellKind,
    /// First word in the record.
    pub at: usize,
    pub lane: usize,
    pub pick: Pick,
}

#[inline(always)]
pub(super) fn wide_at(words: &[u64], at: usize) -> i128 {
    let pair = &words[at..at + 2];
    (u128::from(pair[1]) << 64 | u128::from(pair[0])) as i128
}

#[inline(always)]
pub(super) fn put_wide(words: &mut [u64], at: usize, value: i128) {
    let pair = &mut words[at..at + 2];
    pair[0] = value as u64;
    pair[1] = (value as u128 >> 64) as u64;
}

/// Adds 192 bits of two's complement.
#[inline(always)]
fn add_three(words: &mut [u64], at: usize, other: [u64; 3], away: bool) {
    let three = &mut words[at..at + 3];
    let mut carry = away;
    for (word, part) in three.iter_mut().zip(other) {
        let part = if away { !part } else { part };
        let (sum, first) = word.overflowing_add(part);
        let (sum, second) = sum.overflowing_add(u64::from(carry));
        (*word, carry) = (sum, first || second);
    }
}

pub(super) fn three(value: i128) -> [u64; 3] {
    [value as u64, (value as u128 >> 64) as u64, (value >> 127) as u64]
}

impl Cell {
    /// Adds the picked rows.
    pub fn update(
        &self,
        words: &mut [u64],
        stride: usize,
        wides: &mut Wides,
        input: &Prepared,
        picked: &Picked<'_>,
        groups: Groups<'_>,
    ) {
        let at = self.at;
        if self.kind == CellKind::Count {
            return count(words, stride, at, picked, groups);
        }
        let Some(lane) = input.lane(self.lane) else { return };
        if self.kind == CellKind::Nulls {
            if let Some(nulls) = &lane.nulls {
                each_row(picked, groups, |i, g| words[g * stride + at] += u64::from(nulls.is_null(i)));
            }
            return;
        }
        // A pass for each type: the branch on NULLs is outside of the loop.
        macro_rules! pass {
            ($values:expr, |$record:ident, $value:ident| $body:expr) => {{
                let values = $values;
                match &lane.nulls {
                    None => each_row(picked, groups, |i, g| {
                        let ($record, $value) = (g * stride + at, values[i]);
                        $body
                    }),
                    Some(nulls) => each_row(picked, groups, |i, g| {
                        if nulls.is_valid(i) {
                            let ($record, $value) = (g * stride + at, values[i]);
                            $body
                        }
                    }),
                }
            }};
        }
        match self.kind {
            CellKind::SumSmall => pass!(lane.integers(), |r, v| words[r] = words[r].wrapping_add(v as u64)),
            CellKind::SumInteger => match (groups, picked, &lane.nulls) {
                (Groups::One, Picked::All(rows), None) => {
                    let sum = wide_at(words, at) + sum_of(&lane.integers()[rows.clone()]);
                    put_wide(words, at, sum);
                }
                _ => pass!(lane.integers(), |r, v| {
                    let sum = wide_at(words, r) + i128::from(v);
                    put_wide(words, r, sum);
                }),
            },
            CellKind::SumDecimal => pass!(lane.wides(), |r, v| add_three(words, r, three(v), false)),
            CellKind::SumFloat => pass!(lane.floats(), |r, v| {
                match exact::fixed(v).and_then(|v| wide_at(words, r).checked_add(v)) {
                    Some(sum) => put_wide(words, r, sum),
                    None => wides.change(words, r, (r - at) / stride, |sum, wide| exact::add_to(sum, wide, v, false)),
                }
            }),
            CellKind::Min => match (groups, picked, &lane.nulls) {
                (Groups::One, Picked::All(rows), None) => {
                    let least = lane.integers()[rows.clone()].iter().copied().min().unwrap_or(i64::MAX);
                    words[at] = (words[at] as i64).min(least) as u64;
                }
                _ => pass!(lane.integers(), |r, v| words[r] = (words[r] as i64).min(v) as u64),
            },
            CellKind::Max => match (groups, picked, &lane.nulls) {
                (Groups::One, Picked::All(rows), None) => {
                    let most = lane.integers()[rows.clone()].iter().copied().max().unwrap_or(i64::MIN);
                    words[at] = (words[at] as i64).max(most) as u64;
                }
                _ => pass!(lane.integers(), |r, v| words[r] = (words[r] as i64).max(v) as u64),
            },
            CellKind::MinWide => pass!(lane.wides(), |r, v| {
                let least = wide_at(words, r).min(v);
                put_wide(words, r, least);
            }),
            CellKind::MaxWide => pass!(lane.wides(), |r, v| {
                let most = wide_at(words, r).max(v);
                put_wide(words, r, most);
            }),
            CellKind::Count | CellKind::Nulls => {}
        }
    }

    /// Takes the picked rows back. Never asked of MIN and MAX: where rows can be taken back, those read a bag.
    pub fn take(
        &self,
        words: &mut [u64],
        stride: usize,
        wides: &mut Wides,
        input: &Prepared,
        picked: &Picked<'_>,
        groups: Groups<'_>,
    ) {
        let at = self.at;
        if self.kind == CellKind::Count {
            return each_row(picked, groups, |_, g| words[g * stride + at] = words[g * stride + at].wrapping_sub(1));
        }
        let Some(lane) = input.lane(self.lane) else { return };
        if self.kind == CellKind::Nulls {
            if let Some(nulls) = &lane.nulls {
                each_row(picked, groups, |i, g| {
                    let count = &mut words[g * stride + at];
                    *count = count.wrapping_sub(u64::from(nulls.is_null(i)));
                });
            }
            return;
        }
        macro_rules! pass {
            ($values:expr, |$record:ident, $value:ident| $body:expr) => {{
                let values = $values;
                each_row(picked, groups, |i, g| {
                    if !lane.is_null(i) {
                        let ($record, $value) = (g * stride + at, values[i]);
                        $body
                    }
                })
            }};
        }
        match self.kind {
            CellKind::SumSmall => pass!(lane.integers(), |r, v| words[r] = words[r].wrapping_sub(v as u64)),
            CellKind::SumInteger => pass!(lane.integers(), |r, v| {
                let sum = wide_at(words, r) - i128::from(v);
                put_wide(words, r, sum);
            }),
            CellKind::SumDecimal => pass!(lane.wides(), |r, v| add_three(words, r, three(v), true)),
            CellKind::SumFloat => pass!(lane.floats(), |r, v| {
                match exact::fixed(v).and_then(|v| wide_at(words, r).checked_sub(v)) {
                    Some(sum) => put_wide(words, r, sum),
                    None => wides.change(words, r, (r - at) / stride, |sum, wide| exact::add_to(sum, wide, v, true)),
                }
            }),
            _ => debug_assert!(false, "{:?} cannot be taken back", self.kind),
        }
    }

    /// Joins record `i` of `from` to record `into[i]`, or takes it away.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, whose arguments are the parts of one thing; a struct would only rename them"
    )]
    pub fn merge(
        &self,
        words: &mut [u64],
        stride: usize,
        wides: &mut Wides,
        into: &[u32],
        from: &[u64],
        from_wides: &Wides,
        away: bool,
    ) {
        let at = self.at;
        for (i, group) in into.iter().enumerate() {
            self.merge_record(words, *group as usize * stride + at, &from[i * stride + at..], away);
        }
        if self.kind == CellKind::SumFloat {
            for (i, group) in into.iter().enumerate() {
                let sum = wide_at(from, i * stride + at);
                wides.change(words, *group as usize * stride + at, *group as usize, |mine, wide| {
                    exact::add_fixed(mine, wide, if away { -sum } else { sum });
                    if let Some(other) = from_wides.get(i) {
                        wide.get_or_insert_default().merge(other, away);
                    }
                });
            }
        }
    }

    /// One record of all kinds but `SumFloat`.
    #[inline(always)]
    fn merge_record(&self, words: &mut [u64], r: usize, from: &[u64], away: bool) {
        match self.kind {
            CellKind::Count | CellKind::Nulls | CellKind::SumSmall => {
                words[r] = if away { words[r].wrapping_sub(from[0]) } else { words[r].wrapping_add(from[0]) };
            }
            CellKind::SumInteger => {
                let other = wide_at(from, 0);
                let sum = wide_at(words, r) + if away { -other } else { other };
                put_wide(words, r, sum);
            }
            CellKind::SumDecimal => add_three(words, r, [from[0], from[1], from[2]], away),
            CellKind::SumFloat => {}
            CellKind::Min => words[r] = (words[r] as i64).min(from[0] as i64) as u64,
            CellKind::Max => words[r] = (words[r] as i64).max(from[0] as i64) as u64,
            CellKind::MinWide => {
                let least = wide_at(words, r).min(wide_at(from, 0));
                put_wide(words, r, least);
            }
            CellKind::MaxWide => {
                let most = wide_at(words, r).max(wide_at(from, 0));
                put_wide(words, r, most);
            }
        }
    }

    pub fn merge_within(&self, words: &mut [u64], stride: usize, wides: &mut Wides, into: u32, from: u32) {
        let source = from as usize * stride + self.at;
        let mut record = [0u64; 3];
        record[..self.kind.words()].copy_from_slice(&words[source..source + self.kind.words()]);
        let target = into as usize * stride + self.at;
        self.merge_record(words, target, &record, false);
        if self.kind == CellKind::SumFloat {
            let (sum, other) = (wide_at(&record, 0), wides.get(from as usize).cloned());
            wides.change(words, target, into as usize, |mine, wide| {
                exact::add_fixed(mine, wide, sum);
                if let Some(other) = other {
                    wide.get_or_insert_default().merge(&other, false);
                }
            });
        }
    }
}

fn count(words: &mut [u64], stride: usize, at: usize, picked: &Picked<'_>, groups: Groups<'_>) {
    match groups {
        Groups::One => {
            words[at] += match picked {
                Picked::All(rows) => rows.len(),
                Picked::Bits { bits, rows } => bits.slice(rows.start, rows.len()).count_set_bits(),
                Picked::List { rows, .. } => rows.len(),
            } as u64;
        }
        Groups::Each(ids) => match picked {
            Picked::All(_) => ids.iter().for_each(|g| words[*g as usize * stride + at] += 1),
            _ => each_row(picked, groups, |_, g| words[g * stride + at] += 1),
        },
    }
}

/// The sum without overflow, of halves that the compiler can add side by side.
fn sum_of(values: &[i64]) -> i128 {
    // Below 2^31 rows neither sum of halves can overflow.
    let (mut high, mut low) = (0i64, 0i64);
    for v in values {
        high += v >> 32;
        low += v & 0xFFFF_FFFF;
    }
    (i128::from(high) << 32) + i128::from(low)
}

/// What float sums hold beside the two words of their records, by group. Nearly always empty.
#[derive(Default)]
pub(super) struct Wides(Vec<Option<Box<Wide>>>);

impl Wides {
    pub fn get(&self, group: usize) -> Option<&Wide> {
        self.0.get(group)?.as_deref()
    }

    /// Lets `change` work on both parts of the sum at word `at`, of a group.
    #[inline]
    fn change(
        &mut self,
        words: &mut [u64],
        at: usize,
        group: usize,
        change: impl FnOnce(&mut i128, &mut Option<Box<Wide>>),
    ) {
        let mut sum = wide_at(words, at);
        let mut wide = self.0.get_mut(group).and_then(Option::take);
        change(&mut sum, &mut wide);
        put_wide(words, at, sum);
        if wide.is_some() {
            if self.0.len() <= group {
                self.0.resize(group + 1, None);
            }
            self.0[group] = wide;
        }
    }

    pub fn put(&mut self, group: usize, wide: Wide) {
        if self.0.len() <= group {
            self.0.resize(group + 1, None);
        }
        self.0[group] = Some(Box::new(wide));
    }

    pub fn reset(&mut self, group: u32) {
        if let Some(wide) = self.0.get_mut(group as usize) {
            *wide = None;
        }
    }

    pub fn swap_remove(&mut self, group: u32, last: usize) {
        let moved = self.0.get_mut(last).and_then(Option::take);
        self.0.truncate(last);
        if let Some(wide) = self.0.get_mut(group as usize) {
            *wide = moved;
        } else if moved.is_some() && (group as usize) < last {
            self.0.resize(group as usize + 1, None);
            self.0[group as usize] = moved;
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn bytes(&self) -> usize {
        self.0.capacity() * 8 + self.0.iter().flatten().count() * size_of::<Wide>()
    }

    /// All cells' spilled sums of a run of groups as one binary column: cell number and words, NULL where there is none.
    pub fn encode(cells: &[Wides], groups: impl Iterator<Item = usize>) -> ArrayRef {
        let mut column = BinaryBuilder::new();
        for group in groups {
            let mut bytes = Vec::new();
            for (cell, wides) in cells.iter().enumerate() {
                if let Some(wide) = wides.get(group) {
                    bytes.extend_from_slice(&(cell as u64).to_le_bytes());
                    wide.write(&mut bytes);
                }
            }
            column.append_option((!bytes.is_empty()).then_some(bytes));
        }
        Arc::new(column.finish())
    }

    pub fn decode(cells: usize, column: &BinaryArray, rows: Range<usize>) -> Result<Vec<Wides>> {
        let mut all: Vec<Wides> = (0..cells).map(|_| Wides::default()).collect();
        if column.null_count() == column.len() {
            return Ok(all);
        }
        for (group, row) in rows.enumerate().filter(|(_, row)| column.is_valid(*row)) {
            let mut bytes = column.value(row);
            while let Some((cell, rest)) = bytes.split_first_chunk::<8>() {
                let (wide, rest) = Wide::read(rest).ok_or_else(|| Error::internal("a spilled sum is cut short"))?;
                let wides = &mut all[u64::from_le_bytes(*cell) as usize].0;
                wides.resize(group + 1, None);
                wides[group] = Some(Box::new(wide));
                bytes = rest;
            }
        }
        Ok(all)
    }
}

/// Reads one cell of many groups as a result column. A group without values is NULL.
pub(super) struct Read<'a> {
    pub cell: &'a Cell,
    pub words: &'a [u64],
    pub stride: usize,
    pub wides: &'a Wides,
    /// Type of the argument.
    pub source: &'a DataType,
    /// Values of each group.
    pub counts: &'a [i64],
    pub result: &'a Field,
}

impl Read<'_> {
    fn nulls(&self) -> Option<NullBuffer> {
        let nulls: NullBuffer = self.counts.iter().map(|c| *c > 0).collect::<Vec<bool>>().into();
        (nulls.null_count() > 0).then_some(nulls)
    }

    fn integers<'s>(&'s self, groups: impl Iterator<Item = usize> + 's) -> impl Iterator<Item = i128> + 's {
        groups.map(|g| {
            let at = g * self.stride + self.cell.at;
            match self.cell.kind {
                CellKind::SumSmall => i128::from(self.words[at] as i64),
                _ => wide_at(self.words, at),
            }
        })
    }

    /// Sums of decimals, where they fit i128.
    fn decimals<'s>(&'s self, groups: impl Iterator<Item = usize> + 's) -> impl Iterator<Item = Option<i128>> + 's {
        groups.map(|g| {
            let at = g * self.stride + self.cell.at;
            let value = wide_at(self.words, at);
            (self.words[at + 2] == (value >> 127) as u64).then_some(value)
        })
    }

    fn overflow(&self, what: &str) -> Error {
        Error::data(format!("{what} does not fit its type {}, in `{}`", self.result.data_type(), self.result.name()))
            .remedy("CAST the argument to a wider type, for example SUM(CAST(x AS DECIMAL(38, 0)))")
    }

    pub fn sum(&self, groups: impl Iterator<Item = usize>) -> Result<ArrayRef> {
        match self.cell.kind {
            CellKind::SumFloat => self.floats(groups, |sum, _| sum),
            CellKind::SumDecimal => {
                let scale = match self.source {
                    DataType::Decimal128(_, scale) => *scale,
                    _ => 0,
                };
                let fits = |v: i128| v.unsigned_abs() < 10u128.pow(38);
                let sums: Vec<i128> = self
                    .decimals(groups)
                    .map(|v| v.filter(|v| fits(*v)).ok_or_else(|| self.overflow("the sum")))
                    .collect::<Result<_>>()?;
                let array = Decimal128Array::new(sums.into(), self.nulls()).with_precision_and_scale(38, scale)?;
                Ok(Arc::new(array))
            }
            _ => self.whole(self.integers(groups), "the sum"),
        }
    }

    /// Integers in the type of the result.
    fn whole(&self, values: impl Iterator<Item = i128>, what: &str) -> Result<ArrayRef> {
        macro_rules! narrow {
            ($type:ty) => {{
                let values = values
                    .map(|v| v.try_into().map_err(|_| self.overflow(what)))
                    .collect::<Result<Vec<<$type as ArrowPrimitiveType>::Native>>>()?;
                Ok(Arc::new(PrimitiveArray::<$type>::new(values.into(), self.nulls())))
            }};
        }
        match self.result.data_type() {
            DataType::Int8 => narrow!(Int8Type),
            DataType::Int16 => narrow!(Int16Type),
            DataType::Int32 => narrow!(Int32Type),
            DataType::Decimal128(precision, 0) => {
                let values: Vec<i128> = values.collect();
                if values.iter().any(|v| v.unsigned_abs() >= 10u128.pow(u32::from(*precision))) {
                    return Err(self.overflow(what));
                }
                let array = Decimal128Array::new(values.into(), self.nulls());
                Ok(Arc::new(array.with_precision_and_scale(*precision, 0)?))
            }
            DataType::Float64 => Ok(Arc::new(Float64Array::new(values.map(|v| v as f64).collect(), self.nulls()))),
            _ => narrow!(Int64Type),
        }
    }

    fn floats(&self, groups: impl Iterator<Item = usize>, value: impl Fn(f64, i64) -> f64) -> Result<ArrayRef> {
        let values = groups.zip(self.counts).map(|(g, count)| {
            value(exact::total(wide_at(self.words, g * self.stride + self.cell.at), self.wides.get(g)), *count)
        });
        Ok(match self.source {
            DataType::Float32 => Arc::new(Float32Array::new(values.map(|v| v as f32).collect(), self.nulls())),
            _ => Arc::new(Float64Array::new(values.collect(), self.nulls())),
        })
    }

    pub fn average(&self, groups: impl Iterator<Item = usize>) -> Result<ArrayRef> {
        let counts = self.counts.iter().map(|c| i128::from((*c).max(1)));
        match self.cell.kind {
            CellKind::SumFloat => self.floats(groups, |sum, count| if count > 0 { sum / count as f64 } else { 0.0 }),
            CellKind::SumDecimal => {
                let from = match self.source {
                    DataType::Decimal128(_, scale) => *scale,
                    _ => 0,
                };
                let (precision, to) = match self.result.data_type() {
                    DataType::Decimal128(precision, scale) => (*precision, *scale),
                    _ => (38, from.max(6)),
                };
                let factor = 10i128.pow(u32::from((to - from).max(0) as u8));
                let averages: Vec<i128> = self
                    .decimals(groups)
                    .zip(counts)
                    .map(|(sum, count)| {
                        let sum = sum.ok_or_else(|| self.overflow("the sum"))?;
                        // Whole part first: the product with the factor then stays in range.
                        let (whole, rest) = (sum / count, sum % count);
                        let scaled = rest.checked_mul(factor).ok_or_else(|| self.overflow("the average"))?;
                        let mut part = scaled / count;
                        // Half away from zero, as Java's HALF_UP.
                        if (scaled % count).unsigned_abs() * 2 >= count.unsigned_abs() {
                            part += if sum < 0 { -1 } else { 1 };
                        }
                        whole
                            .checked_mul(factor)
                            .and_then(|w| w.checked_add(part))
                            .ok_or_else(|| self.overflow("the average"))
                    })
                    .collect::<Result<_>>()?;
                let array = Decimal128Array::new(averages.into(), self.nulls());
                Ok(Arc::new(array.with_precision_and_scale(precision, to.max(from))?))
            }
            _ if self.result.data_type().is_floating() => {
                let values = self.integers(groups).zip(self.counts).map(|(sum, c)| sum as f64 / (*c).max(1) as f64);
                Ok(Arc::new(Float64Array::new(values.collect(), self.nulls())))
            }
            _ => self.whole(self.integers(groups).zip(counts).map(|(sum, count)| sum / count), "the average"),
        }
    }

    /// MIN and MAX, in the type of the argument.
    pub fn extreme(&self, groups: impl Iterator<Item = usize>) -> Result<ArrayRef> {
        let nulls = self.nulls();
        let at = |g: usize| g * self.stride + self.cell.at;
        if let DataType::Decimal128(precision, scale) = self.source {
            let values = groups.zip(self.counts).map(|(g, c)| if *c > 0 { wide_at(self.words, at(g)) } else { 0 });
            let array = Decimal128Array::new(values.collect(), nulls);
            return Ok(Arc::new(array.with_precision_and_scale(*precision, *scale)?));
        }
        let values: Vec<i64> =
            groups.zip(self.counts).map(|(g, c)| if *c > 0 { self.words[at(g)] as i64 } else { 0 }).collect();
        from_ordered(self.source, values, nulls)
    }
}

/// Integers of [`LaneKind::Ordered`](super::input::LaneKind::Ordered) as a column of the type that they came from.
pub(super) fn from_ordered(source: &DataType, values: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    macro_rules! narrow {
        ($type:ty) => {
            Arc::new(PrimitiveArray::<$type>::new(values.iter().map(|v| *v as _).collect(), nulls)) as ArrayRef
        };
    }
    use DataType::*;
    Ok(match source {
        Boolean => Arc::new(BooleanArray::new(values.iter().map(|v| *v != 0).collect(), nulls)),
        Int8 => narrow!(Int8Type),
        Int16 => narrow!(Int16Type),
        Int32 => narrow!(Int32Type),
        UInt8 => narrow!(UInt8Type),
        UInt16 => narrow!(UInt16Type),
        UInt32 => narrow!(UInt32Type),
        Date32 => narrow!(Date32Type),
        Time32(TimeUnit::Second) => narrow!(Time32SecondType),
        Time32(_) => narrow!(Time32MillisecondType),
        Float32 => Arc::new(Float32Array::new(values.iter().map(|v| unordered(*v) as f32).collect(), nulls)),
        Float64 => Arc::new(Float64Array::new(values.iter().map(|v| unordered(*v)).collect(), nulls)),
        kind => {
            let data = ArrayData::builder(kind.clone())
                .len(values.len())
                .nulls(nulls)
                .add_buffer(arrow::buffer::Buffer::from_vec(values))
                .build()?;
            make_array(data)
        }
    })
}
