//! Sides that keep one state for each group: what most of them are.

use super::input::Picked;
use super::{Groups, Prepared, Side};
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use millstream_core::{Error, Result};
use std::any::Any;

/// One state for each group.
pub(super) struct PerGroup<F: Fold> {
    fold: F,
    states: Vec<F::State>,
    /// Bytes that the states hold beside themselves, about.
    held: usize,
}

pub(super) trait Fold: Send + Sized + 'static {
    type State: Default + Clone + Send;

    /// Adds the picked rows. Adds to `held` what the states hold more.
    fn update(
        &self,
        states: &mut [Self::State],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()>;

    /// Takes the picked rows back. Only called where the plan says that rows may be.
    fn take(
        &self,
        _states: &mut [Self::State],
        _input: &Prepared,
        _rows: &Picked<'_>,
        _groups: Groups<'_>,
        _held: &mut usize,
    ) -> Result<()> {
        Err(Error::internal("this aggregate takes no rows back"))
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) -> Result<()>;

    /// Takes away what was merged before. Only called where the plan says that it can be.
    fn unmerge(&self, _into: &mut Self::State, _from: &Self::State) {}

    fn finish(&self, states: &[&Self::State]) -> Result<ArrayRef>;

    fn held(&self, state: &Self::State) -> usize;

    /// Type of the column that states are saved in.
    fn saved_type(&self) -> DataType;

    /// States as a column of that type. What it keeps is exact: a state that comes back gives the same bits.
    fn encode(&self, states: &[&Self::State]) -> Result<ArrayRef>;

    /// The state in a row of such a column.
    fn decode(&self, column: &ArrayRef, row: usize) -> Result<Self::State>;
}

impl<F: Fold> PerGroup<F> {
    pub fn boxed(fold: F) -> Box<dyn Side> {
        Box::new(PerGroup { fold, states: Vec::new(), held: 0 })
    }
}

impl<F: Fold> Side for PerGroup<F> {
    fn resize(&mut self, groups: usize) {
        self.states.resize(groups, F::State::default());
    }

    fn update(&mut self, input: &Prepared, rows: &Picked<'_>, groups: Groups<'_>) -> Result<()> {
        self.fold.update(&mut self.states, input, rows, groups, &mut self.held)
    }

    fn take(&mut self, input: &Prepared, rows: &Picked<'_>, groups: Groups<'_>) -> Result<()> {
        self.fold.take(&mut self.states, input, rows, groups, &mut self.held)
    }

    fn merge(&mut self, into: &[u32], from: &dyn Side, away: bool) -> Result<()> {
        let from = from.as_any().downcast_ref::<PerGroup<F>>().expect("sides of one plan are of one make");
        for (state, group) in from.states.iter().zip(into) {
            let mine = &mut self.states[*group as usize];
            self.held -= self.fold.held(mine).min(self.held);
            if away {
                self.fold.unmerge(mine, state);
            } else {
                self.fold.merge(mine, state)?;
            }
            self.held += self.fold.held(mine);
        }
        Ok(())
    }

    fn merge_within(&mut self, into: u32, from: u32) -> Result<()> {
        let from = self.states[from as usize].clone();
        let mine = &mut self.states[into as usize];
        self.held -= self.fold.held(mine).min(self.held);
        self.fold.merge(mine, &from)?;
        self.held += self.fold.held(mine);
        Ok(())
    }

    fn reset(&mut self, group: u32) {
        let old = std::mem::take(&mut self.states[group as usize]);
        self.held -= self.fold.held(&old).min(self.held);
    }

    fn swap_remove(&mut self, group: u32) {
        let old = self.states.swap_remove(group as usize);
        self.held -= self.fold.held(&old).min(self.held);
    }

    fn shrink(&mut self) {
        self.states.shrink_to_fit();
    }

    fn finish(&self, groups: &mut dyn Iterator<Item = usize>) -> Result<ArrayRef> {
        let states: Vec<&F::State> = groups.map(|g| &self.states[g]).collect();
        self.fold.finish(&states)
    }

    fn saved_type(&self) -> DataType {
        self.fold.saved_type()
    }

    fn save(&self, groups: &[u32]) -> Result<ArrayRef> {
        let states: Vec<&F::State> = groups.iter().map(|g| &self.states[*g as usize]).collect();
        self.fold.encode(&states)
    }

    fn load(&mut self, groups: &[u32], column: &ArrayRef) -> Result<()> {
        for (row, group) in groups.iter().enumerate() {
            let state = self.fold.decode(column, row)?;
            self.held += self.fold.held(&state);
            self.states[*group as usize] = state;
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.held + self.states.capacity() * size_of::<F::State>()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
