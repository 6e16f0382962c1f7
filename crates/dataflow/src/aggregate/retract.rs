//! Rows that come and rows that are taken back, over one plan.
//!
//! The rows of a batch are given in two lists; those that come are added first. Which of them a call takes (a filter, a value
//! that appears or disappears) is worked out once for each list, so the passes over the cells stay plain loops. Sums and counts
//! do not mind the order. Bags with places do, since a row without its place takes back the earliest: they see all rows in the
//! order in which they came.

use super::bag::BagSet;
use super::input::{Pick, Picked};
use super::{Accumulators, Groups, Prepared};
use millstream_core::Result;
use std::ops::Range;

impl Accumulators {
    /// Adds rows, by their place in the batch, and takes others back. `groups` begin at row `from`. Only for a plan that may
    /// take rows back.
    pub fn change(&mut self, groups: &[u32], from: usize, input: &Prepared, adds: &[u32], takes: &[u32]) -> Result<()> {
        debug_assert!(self.plan.retracts, "the plan is for rows that stay");
        self.change_placed(groups, from, input, adds, takes);
        self.change_all(groups, from, input, adds, false)?;
        self.change_all(groups, from, input, takes, true)
    }

    fn change_placed(&mut self, groups: &[u32], from: usize, input: &Prepared, adds: &[u32], takes: &[u32]) {
        if self.plan.bags.iter().all(|b| b.order.is_none()) {
            return;
        }
        let row = |away: bool| move |i: &u32| (*i as usize, groups[*i as usize - from] as usize, away);
        let mut rows: Vec<(usize, usize, bool)> = adds.iter().map(row(false)).collect();
        rows.extend(takes.iter().map(row(true)));
        rows.sort_unstable();
        for ((bag, spec), values) in self.bags.iter_mut().zip(&self.plan.bags).zip(&input.bags) {
            if spec.order.is_some() {
                bag.change(spec, values, spec.filter.map(|f| input.filter(f)), rows.iter().copied());
            }
        }
    }

    fn change_all(&mut self, groups: &[u32], from: usize, input: &Prepared, rows: &[u32], away: bool) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let plan = self.plan.clone();
        for ((bag, spec), values) in self.bags.iter_mut().zip(&plan.bags).zip(&input.bags) {
            if spec.order.is_none() {
                let rows = rows.iter().map(|i| (*i as usize, groups[*i as usize - from] as usize, away));
                bag.change(spec, values, spec.filter.map(|f| input.filter(f)), rows);
            }
        }
        let passing =
            |filter: usize| rows.iter().copied().filter(|i| input.filter(filter).value(*i as usize)).collect();
        let filtered: Vec<Vec<u32>> = (0..plan.filters.len()).map(passing).collect();
        let picked = |bags, pick| Picked::List { rows: chosen(bags, &filtered, rows, pick), from };
        let groups = Groups::Each(groups);
        for (cell, wides) in plan.cells.iter().zip(&mut self.wides) {
            let picked = picked(&self.bags, cell.pick);
            match away {
                false => cell.update(&mut self.words, plan.stride, wides, input, &picked, groups),
                true => cell.take(&mut self.words, plan.stride, wides, input, &picked, groups),
            }
        }
        for (side, spec) in self.sides.iter_mut().zip(&plan.sides) {
            let picked = picked(&self.bags, spec.pick);
            if away { side.take(input, &picked, groups)? } else { side.update(input, &picked, groups)? }
        }
        Ok(())
    }

    /// The rows of a range come.
    pub(super) fn add_to_bags(&mut self, groups: Groups<'_>, input: &Prepared, rows: Range<usize>) {
        let group = |offset: usize| match groups {
            Groups::One => 0,
            Groups::Each(ids) => ids[offset] as usize,
        };
        for ((bag, spec), values) in self.bags.iter_mut().zip(&self.plan.bags).zip(&input.bags) {
            let rows = rows.clone().enumerate().map(|(offset, i)| (i, group(offset), false));
            bag.change(spec, values, spec.filter.map(|f| input.filter(f)), rows);
        }
    }
}

fn chosen<'a>(bags: &'a [BagSet], filtered: &'a [Vec<u32>], rows: &'a [u32], pick: Pick) -> &'a [u32] {
    match pick {
        Pick::All => rows,
        Pick::Filter(at) => &filtered[at],
        Pick::Turned { bag } => bags[bag].turned(),
        Pick::Fresh { .. } => unreachable!("such a plan has bags, and no sets of what it has seen"),
    }
}
