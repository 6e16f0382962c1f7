//! VAR and STDDEV from exact moments, and the approximate aggregates.
//!
//! The approximations too are functions of the rows alone: see [`millstream_state::sketch`], which OVER and batch mode
//! use as well, so that all give the same answer.

mod saved;

use super::input::{Lane, LaneValues, Picked};
use super::{Fold, Groups, PerGroup, Prepared, Side, each_row};
use arrow::array::*;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use millstream_core::{Error, Result, key};
use millstream_state::exact::{ExactMoments, IntegerMoments};
use millstream_state::sketch::{CountedDistinct, Distinct, Quantiles};
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

impl Moments {
    fn change(
        &self,
        states: &mut [MomentsState],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        (held, away): (&mut usize, bool),
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
                LaneValues::Floats(values) if away => state.floats().subtract(values[i]),
                LaneValues::Floats(values) => state.floats().add(values[i]),
                LaneValues::Integers(values) if away => state.integers().subtract(values[i]),
                LaneValues::Integers(values) => state.integers().add(values[i]),
                LaneValues::Wides(values) => match i64::try_from(values[i]) {
                    Ok(value) if away => state.integers().subtract(value),
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
        self.change(states, input, rows, groups, (held, false))
    }

    fn take(
        &self,
        states: &mut [MomentsState],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        self.change(states, input, rows, groups, (held, true))
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

struct CountDistinct {
    column: usize,
}

pub(super) fn approx_count_distinct(column: usize) -> Make {
    Arc::new(move || PerGroup::boxed(CountDistinct { column }))
}

impl Fold for CountDistinct {
    type State = Distinct;

    fn update(
        &self,
        states: &mut [Distinct],
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

    fn merge(&self, into: &mut Distinct, from: &Distinct) -> Result<()> {
        into.merge(from);
        Ok(())
    }

    fn finish(&self, states: &[&Distinct]) -> Result<ArrayRef> {
        Ok(Arc::new(states.iter().map(|s| Some(s.estimate())).collect::<Int64Array>()))
    }

    fn held(&self, state: &Distinct) -> usize {
        state.bytes()
    }

    fn saved_type(&self) -> DataType {
        DataType::Binary
    }

    fn encode(&self, states: &[&Distinct]) -> Result<ArrayRef> {
        Ok(saved::column(states, |state, bytes| bytes.extend(state.to_bytes())))
    }

    fn decode(&self, column: &ArrayRef, row: usize) -> Result<Distinct> {
        saved::read(column, row, Distinct::from_bytes)
    }
}

/// The same where rows may be taken back: it says what the other would say of the rows that are left.
struct CountedDistinctOf {
    column: usize,
}

pub(super) fn counted_distinct(column: usize) -> Make {
    Arc::new(move || PerGroup::boxed(CountedDistinctOf { column }))
}

impl CountedDistinctOf {
    fn change(
        &self,
        states: &mut [Option<Box<CountedDistinct>>],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        (held, away): (&mut usize, bool),
    ) -> Result<()> {
        let array = input.rows.column(self.column);
        let (from, len) = span(rows);
        let slice = array.slice(from, len);
        let mut hashes = Vec::new();
        key::hash_rows(&[slice], len, &mut hashes)?;
        each_row(rows, groups, |i, g| {
            if array.is_valid(i) {
                let before = self.held(&states[g]);
                let state = states[g].get_or_insert_default();
                if away {
                    state.remove(hashes[i - from])
                } else {
                    state.add(hashes[i - from])
                }
                *held = (*held + self.held(&states[g])).saturating_sub(before);
            }
        });
        Ok(())
    }
}

impl Fold for CountedDistinctOf {
    type State = Option<Box<CountedDistinct>>;

    fn update(
        &self,
        states: &mut [Self::State],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        self.change(states, input, rows, groups, (held, false))
    }

    fn take(
        &self,
        states: &mut [Self::State],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        self.change(states, input, rows, groups, (held, true))
    }

    fn merge(&self, _: &mut Self::State, _: &Self::State) -> Result<()> {
        Err(Error::internal("counted sketches are not merged"))
    }

    fn finish(&self, states: &[&Self::State]) -> Result<ArrayRef> {
        let estimate =
            |s: &&Self::State| Some(s.as_ref().map_or_else(|| Distinct::default().estimate(), |s| s.estimate()));
        Ok(Arc::new(states.iter().map(estimate).collect::<Int64Array>()))
    }

    fn held(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, |s| s.bytes())
    }

    fn saved_type(&self) -> DataType {
        DataType::Binary
    }

    fn encode(&self, states: &[&Self::State]) -> Result<ArrayRef> {
        Ok(saved::column(states, |state, bytes| {
            if let Some(state) = state {
                bytes.extend(state.to_bytes());
            }
        }))
    }

    fn decode(&self, column: &ArrayRef, row: usize) -> Result<Self::State> {
        saved::read(column, row, |bytes| Some(Some(Box::new(CountedDistinct::from_bytes(bytes)?))))
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

struct Percentile {
    column: usize,
    fraction: f64,
    kind: DataType,
}

pub(super) fn approx_percentile(column: usize, fraction: f64, kind: &DataType) -> Make {
    let kind = kind.clone();
    Arc::new(move || PerGroup::boxed(Percentile { column, fraction, kind: kind.clone() }))
}

impl Percentile {
    fn change(
        &self,
        states: &mut [Quantiles],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        (held, away): (&mut usize, bool),
    ) -> Result<()> {
        let (from, len) = span(rows);
        let slice = cast(&input.rows.column(self.column).slice(from, len), &DataType::Float64)?;
        let values = slice.as_primitive::<Float64Type>();
        each_row(rows, groups, |i, g| {
            if values.is_valid(i - from) {
                let before = states[g].bytes();
                let value = values.value(i - from);
                if away {
                    states[g].remove(value)
                } else {
                    states[g].add(value)
                }
                *held = (*held + states[g].bytes()).saturating_sub(before);
            }
        });
        Ok(())
    }
}

impl Fold for Percentile {
    type State = Quantiles;

    fn update(
        &self,
        states: &mut [Quantiles],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        self.change(states, input, rows, groups, (held, false))
    }

    fn take(
        &self,
        states: &mut [Quantiles],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        self.change(states, input, rows, groups, (held, true))
    }

    fn merge(&self, into: &mut Quantiles, from: &Quantiles) -> Result<()> {
        into.merge(from);
        Ok(())
    }

    fn unmerge(&self, into: &mut Quantiles, from: &Quantiles) {
        into.unmerge(from);
    }

    fn finish(&self, states: &[&Quantiles]) -> Result<ArrayRef> {
        let values: Float64Array = states.iter().map(|s| s.quantile(self.fraction)).collect();
        Ok(cast(&values, &self.kind)?)
    }

    fn held(&self, state: &Quantiles) -> usize {
        state.bytes()
    }

    fn saved_type(&self) -> DataType {
        DataType::Binary
    }

    fn encode(&self, states: &[&Quantiles]) -> Result<ArrayRef> {
        Ok(saved::column(states, |state, bytes| bytes.extend(state.to_bytes())))
    }

    fn decode(&self, column: &ArrayRef, row: usize) -> Result<Quantiles> {
        saved::read(column, row, Quantiles::from_bytes)
    }
}
