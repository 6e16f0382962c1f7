//! VAR and STDDEV from exact moments, and the approximate aggregates.
//!
//! The approximations too are functions of the rows alone: HyperLogLog registers and histogram bins do not depend on
//! order, cuts or merges. (A t-digest would.)

mod saved;

use super::input::{Lane, LaneValues, Picked};
use super::{Fold, Groups, PerGroup, Prepared, Side, each_row};
use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use millstream_core::{Error, Result, key};
use millstream_state::exact::{ExactMoments, IntegerMoments};
use std::collections::BTreeMap;
use std::sync::Arc;

type Make = Arc<dyn Fn() -> Box<dyn Side> + Send + Sync>;

// ---- VAR and STDDEV

struct Moments {
    lane: usize,
    sample: bool,
    root: bool,
    /// Digits behind the point of a DECIMAL argument.
    scale: i32,
    kind: DataType,
}

#[derive(Clone, Default)]
enum MomentsState {
    #[default]
    None,
    Floats(Box<ExactMoments>),
    Integers(Box<IntegerMoments>),
}

impl MomentsState {
    fn integers(&mut self) -> &mut IntegerMoments {
        if !matches!(self, MomentsState::Integers(_)) {
            *self = MomentsState::Integers(Box::default());
        }
        match self {
            MomentsState::Integers(moments) => moments,
            _ => unreachable!("made just now"),
        }
    }

    fn floats(&mut self) -> &mut ExactMoments {
        if !matches!(self, MomentsState::Floats(_)) {
            *self = MomentsState::Floats(Box::default());
        }
        match self {
            MomentsState::Floats(moments) => moments,
            _ => unreachable!("made just now"),
        }
    }
}

pub(super) fn moments(lane: usize, sample: bool, root: bool, scale: i32, kind: &DataType) -> Make {
    let kind = kind.clone();
    Arc::new(move || PerGroup::boxed(Moments { lane, sample, root, scale, kind: kind.clone() }))
}

impl Fold for Moments {
    type State = MomentsState;

    fn update(
        &self,
        states: &mut [MomentsState],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        let Some(lane) = input.lane(self.lane) else { return Ok(()) };
        let lane: &Lane = lane;
        let mut failed = Ok(());
        each_row(rows, groups, |i, g| {
            if lane.is_null(i) {
                return;
            }
            let state = &mut states[g];
            if matches!(state, MomentsState::None) {
                *held += size_of::<ExactMoments>() + 544;
            }
            match &lane.values {
                LaneValues::Floats(values) => state.floats().add(values[i]),
                LaneValues::Integers(values) => state.integers().add(values[i]),
                LaneValues::Wides(values) => match i64::try_from(values[i]) {
                    Ok(value) => state.integers().add(value),
                    Err(_) => {
                        failed = Err(Error::data("VAR and STDDEV of DECIMAL take at most 18 digits")
                            .remedy("CAST the argument to DOUBLE"));
                    }
                },
                LaneValues::None => {}
            }
        });
        failed
    }

    fn merge(&self, into: &mut MomentsState, from: &MomentsState) -> Result<()> {
        match from {
            MomentsState::None => {}
            MomentsState::Floats(other) => into.floats().merge(other),
            MomentsState::Integers(other) => into.integers().merge(other),
        }
        Ok(())
    }

    fn unmerge(&self, into: &mut MomentsState, from: &MomentsState) {
        match from {
            MomentsState::None => {}
            MomentsState::Floats(other) => into.floats().unmerge(other),
            MomentsState::Integers(other) => into.integers().unmerge(other),
        }
    }

    fn finish(&self, states: &[&MomentsState]) -> Result<ArrayRef> {
        let unit = 10f64.powi(-self.scale);
        let values: Float64Array = states
            .iter()
            .map(|state| {
                let variance = match state {
                    MomentsState::None => None,
                    MomentsState::Floats(moments) => moments.variance(self.sample),
                    MomentsState::Integers(moments) => moments.variance(self.sample, unit),
                };
                if self.root { variance.map(f64::sqrt) } else { variance }
            })
            .collect();
        Ok(cast(&values, &self.kind)?)
    }

    fn held(&self, state: &MomentsState) -> usize {
        match state {
            MomentsState::None => 0,
            _ => size_of::<ExactMoments>() + 544,
        }
    }

    fn saved_type(&self) -> DataType {
        DataType::Binary
    }

    fn encode(&self, states: &[&MomentsState]) -> Result<ArrayRef> {
        Ok(saved::column(states, MomentsState::write))
    }

    fn decode(&self, column: &ArrayRef, row: usize) -> Result<MomentsState> {
        saved::read(column, row, MomentsState::read)
    }
}

// ---- APPROX_COUNT_DISTINCT

/// Registers are 2^14: a standard error of 0.8 %.
const PRECISION: u32 = 14;
const REGISTERS: usize = 1 << PRECISION;
/// Registers that a small group lists one by one before it gets them all.
const SPARSE_MAX: usize = 1024;

struct CountDistinct {
    column: usize,
}

/// HyperLogLog (Flajolet and others, 2007) with the estimator of O. Ertl, "New cardinality estimation algorithms for
/// HyperLogLog sketches" (2017), which needs no tables and is good at every size.
#[derive(Clone, Default)]
struct Registers {
    /// By register, until there are too many.
    sparse: BTreeMap<u16, u8>,
    dense: Option<Box<[u8]>>,
}

impl Registers {
    fn raise(&mut self, register: usize, rank: u8) {
        if let Some(dense) = &mut self.dense {
            dense[register] = dense[register].max(rank);
            return;
        }
        let known = self.sparse.entry(register as u16).or_insert(rank);
        *known = rank.max(*known);
        if self.sparse.len() > SPARSE_MAX {
            let mut dense = vec![0u8; REGISTERS].into_boxed_slice();
            std::mem::take(&mut self.sparse).iter().for_each(|(r, rank)| dense[*r as usize] = *rank);
            self.dense = Some(dense);
        }
    }

    fn add(&mut self, hash: u64) {
        let rank = ((hash << PRECISION) | 1 << (PRECISION - 1)).leading_zeros() as u8 + 1;
        self.raise((hash >> (64 - PRECISION)) as usize, rank);
    }

    fn estimate(&self) -> i64 {
        const LAST: usize = 64 - PRECISION as usize + 1;
        let mut ranks = [0usize; LAST + 1];
        match &self.dense {
            Some(dense) => dense.iter().for_each(|r| ranks[*r as usize] += 1),
            None => {
                self.sparse.values().for_each(|r| ranks[*r as usize] += 1);
                ranks[0] = REGISTERS - self.sparse.len();
            }
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - ranks[LAST] as f64 / m);
        for rank in (1..LAST).rev() {
            z = 0.5 * (z + ranks[rank] as f64);
        }
        z += m * sigma(ranks[0] as f64 / m);
        (m * m / (2.0 * std::f64::consts::LN_2) / z).round() as i64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

pub(super) fn approx_count_distinct(column: usize) -> Make {
    Arc::new(move || PerGroup::boxed(CountDistinct { column }))
}

impl Fold for CountDistinct {
    type State = Registers;

    fn update(
        &self,
        states: &mut [Registers],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        let array = input.rows.column(self.column);
        let (from, len) = span(rows);
        let slice = array.slice(from, len);
        let mut hashes = Vec::new();
        key::hash_rows(&[slice], len, &mut hashes)?;
        each_row(rows, groups, |i, g| {
            if array.is_valid(i) {
                let before = self.held(&states[g]);
                states[g].add(hashes[i - from]);
                *held += self.held(&states[g]).saturating_sub(before);
            }
        });
        Ok(())
    }

    fn merge(&self, into: &mut Registers, from: &Registers) -> Result<()> {
        from.sparse.iter().for_each(|(register, rank)| into.raise(*register as usize, *rank));
        if let Some(dense) = &from.dense {
            dense.iter().enumerate().filter(|(_, r)| **r > 0).for_each(|(at, rank)| into.raise(at, *rank));
        }
        Ok(())
    }

    fn finish(&self, states: &[&Registers]) -> Result<ArrayRef> {
        Ok(Arc::new(states.iter().map(|s| Some(s.estimate())).collect::<Int64Array>()))
    }

    fn held(&self, state: &Registers) -> usize {
        state.sparse.len() * 8 + state.dense.as_ref().map_or(0, |d| d.len())
    }

    fn saved_type(&self) -> DataType {
        DataType::Binary
    }

    fn encode(&self, states: &[&Registers]) -> Result<ArrayRef> {
        Ok(saved::column(states, Registers::write))
    }

    fn decode(&self, column: &ArrayRef, row: usize) -> Result<Registers> {
        saved::read(column, row, Registers::read)
    }
}

/// First row and number of rows that cover what is picked.
fn span(rows: &Picked<'_>) -> (usize, usize) {
    match rows {
        Picked::All(rows) | Picked::Bits { rows, .. } => (rows.start, rows.len()),
        Picked::List { rows, .. } => match (rows.first(), rows.last()) {
            (Some(first), Some(last)) => (*first as usize, (last - first) as usize + 1),
            _ => (0, 0),
        },
    }
}

// ---- APPROX_PERCENTILE

/// Up to so many values of a group the percentile is exact.
const EXACT_MAX: usize = 1024;

struct Percentile {
    column: usize,
    fraction: f64,
    kind: DataType,
}

/// All values while they are few; then how many fall into bins of 1/256 of their power of two: at most 0.2 % off.
#[derive(Clone, Default)]
struct Histogram {
    values: Vec<f64>,
    bins: BTreeMap<i32, u64>,
    count: u64,
}

/// The bin of a value: sign, exponent and the first 8 bits of the fraction, in the order of the values.
fn bin(v: f64) -> i32 {
    (super::input::ordered(v) >> 44) as i32
}

fn middle(bin: i32) -> f64 {
    super::input::unordered((i64::from(bin) << 44) | 1 << 43)
}

impl Histogram {
    fn add(&mut self, v: f64) {
        self.count += 1;
        if self.bins.is_empty() {
            self.values.push(v);
            self.settle();
        } else {
            *self.bins.entry(bin(v)).or_insert(0) += 1;
        }
    }

    fn settle(&mut self) {
        if self.values.len() > EXACT_MAX || !self.bins.is_empty() {
            for v in std::mem::take(&mut self.values) {
                *self.bins.entry(bin(v)).or_insert(0) += 1;
            }
        }
    }

    fn percentile(&self, fraction: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = fraction.clamp(0.0, 1.0) * (self.count - 1) as f64;
        if self.bins.is_empty() {
            let mut sorted = self.values.clone();
            sorted.sort_by(f64::total_cmp);
            let (low, part) = (rank.floor() as usize, rank.fract());
            let (a, b) = (sorted[low], sorted[(low + 1).min(sorted.len() - 1)]);
            return Some(if part == 0.0 { a } else { a + (b - a) * part });
        }
        let mut seen = 0u64;
        self.bins
            .iter()
            .find(|(_, n)| {
                seen += **n;
                seen as f64 > rank
            })
            .map(|(bin, _)| if *bin == self::bin(0.0) { 0.0 } else { middle(*bin) })
    }
}

pub(super) fn approx_percentile(column: usize, fraction: f64, kind: &DataType) -> Make {
    let kind = kind.clone();
    Arc::new(move || PerGroup::boxed(Percentile { column, fraction, kind: kind.clone() }))
}

impl Fold for Percentile {
    type State = Histogram;

    fn update(
        &self,
        states: &mut [Histogram],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        let (from, len) = span(rows);
        let slice = cast(&input.rows.column(self.column).slice(from, len), &DataType::Float64)?;
        let values = slice.as_primitive::<Float64Type>();
        each_row(rows, groups, |i, g| {
            if values.is_valid(i - from) {
                let before = self.held(&states[g]);
                states[g].add(values.value(i - from));
                *held = (*held + self.held(&states[g])).saturating_sub(before);
            }
        });
        Ok(())
    }

    fn merge(&self, into: &mut Histogram, from: &Histogram) -> Result<()> {
        into.count += from.count;
        into.values.extend_from_slice(&from.values);
        from.bins.iter().for_each(|(bin, n)| *into.bins.entry(*bin).or_insert(0) += n);
        into.settle();
        Ok(())
    }

    fn finish(&self, states: &[&Histogram]) -> Result<ArrayRef> {
        let values: Float64Array = states.iter().map(|s| s.percentile(self.fraction)).collect();
        Ok(cast(&values, &self.kind)?)
    }

    fn held(&self, state: &Histogram) -> usize {
        state.values.len() * 8 + state.bins.len() * 24
    }

    fn saved_type(&self) -> DataType {
        DataType::Binary
    }

    fn encode(&self, states: &[&Histogram]) -> Result<ArrayRef> {
        Ok(saved::column(states, Histogram::write))
    }

    fn decode(&self, column: &ArrayRef, row: usize) -> Result<Histogram> {
        saved::read(column, row, Histogram::read)
    }
}
