//! Rows of three or more inputs with one key, kept up to date at once.
//!
//! ```text
//!  two at a time    a ─┐                         multi    a ─┐
//!                   b ─┴▶ a, b remembered ─┐              b ─┼▶ each remembered once ─▶ all with all of the key
//!                   c ────────────────────┴▶              c ─┘
//! ```
//!
//! Joins of two remember what the first of them make: of a key with 100 rows in each of three inputs, 10,000 pairs, and again
//! in the next join. Here a row is joined to the rows of all other inputs where it comes, and nothing is remembered but rows.
//!
//! An input by LEFT JOIN has NULLs in the place of its rows where it has none of the key: its first row of a key takes back
//! what came out with NULLs, and its last one brings it out again.

use super::held::HeldKeys;
use super::memory::{Act, Chains, Memory, matchable};
use super::saved::Ledger;
use super::side::{Side, of_table};
use super::store::NONE;
use crate::graph;
use crate::operator::{Event, Operator, Output, ROWS_MAX};
use crate::rows::conform;
use arrow::array::{ArrayRef, Int8Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, ChangeKind, Error, Result, TimeDomain, Watermark};
use millstream_state::keys::KeyCodec;
use millstream_state::table::{Saver, TableDef};

/// The operator of [`graph::MultiJoin`].
pub(super) struct Multi {
    keys: HeldKeys,
    /// Of no key.
    null_equals_null: Vec<bool>,
    sides: Vec<Side>,
    /// Of each input by LEFT JOIN: how many rows each key has.
    outer: Vec<Option<Vec<u32>>>,
    shape: Shape,
    acts: Vec<Act>,
}

struct Shape {
    output: SchemaRef,
    /// Of each input, the columns that come out.
    wanted: Vec<Vec<usize>>,
    /// Of each column that comes out: the input, and its place among those wanted of it.
    places: Vec<(usize, usize)>,
}

impl Multi {
    pub fn new(spec: &graph::MultiJoin, inputs: &[SchemaRef], output: &SchemaRef) -> Result<Multi> {
        let types: Vec<_> = spec.keys[0].iter().map(|k| inputs[0].field(*k).data_type().clone()).collect();
        let side = |at: usize| -> Result<Side> {
            let (keys, input, retracts) = (spec.keys[at].clone(), &inputs[at], spec.retracts[at]);
            let memory = Memory::new(input.clone(), false, false, retracts)?;
            Ok(Side {
                ledger: Ledger::new(&format!("input_{at}"), input, None, &keys, &memory, retracts),
                keys,
                memory,
                chains: Chains::new(retracts),
                one_suffices: false,
                key_of: retracts.then(Vec::new),
                ttl: None,
            })
        };
        let mut wanted = vec![Vec::new(); inputs.len()];
        let mut places = Vec::with_capacity(spec.columns.len());
        for (input, column) in &spec.columns {
            let of: &mut Vec<usize> = &mut wanted[*input];
            let at = of.iter().position(|c| c == column).unwrap_or_else(|| {
                of.push(*column);
                of.len() - 1
            });
            places.push((*input, at));
        }
        Ok(Multi {
            keys: HeldKeys::new(KeyCodec::new(&types)?),
            null_equals_null: vec![false; types.len()],
            sides: (0..inputs.len()).map(side).collect::<Result<_>>()?,
            outer: spec.outer.iter().map(|outer| outer.then(Vec::new)).collect(),
            shape: Shape { output: output.clone(), wanted, places },
            acts: Vec::new(),
        })
    }

    fn take_in(&mut self, input: usize, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let columns = self.sides[input].key_columns(&batch.rows);
        let nulls = matchable(&columns, &self.null_equals_null);
        self.keys.assign(&columns, batch.len())?;
        let Multi { keys, sides, outer, shape, .. } = self;
        let is_matchable = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let mut acts = std::mem::take(&mut self.acts);
        let own = &mut sides[input];
        // A row whose key is NULL meets nobody; it has to be known only if it may be taken back.
        let retracts = own.memory.retracts();
        own.memory.apply(batch, |row| retracts || is_matchable(row), &mut acts)?;
        let new = || acts.iter().enumerate().filter(|(_, a)| a.new).map(|(row, a)| (row, a.slot));
        own.ledger.name(new().map(|(_, slot)| slot));
        own.link(new(), &keys.ids, None, is_matchable, &mut keys.rows);

        let others: Vec<usize> = (0..sides.len()).filter(|at| *at != input).collect();
        // Nobody else is needed for a row to come out.
        let suffices = outer[input].is_none() && others.iter().all(|at| outer[*at].is_some());
        let needed: Vec<usize> = others.iter().copied().filter(|at| outer[*at].is_none()).collect();
        let mut found = Found::new(shape, input, others, &batch.rows, sides, out);
        for (row, act) in acts.iter().enumerate().filter(|(_, a)| a.sign != 0) {
            let kind = if act.sign > 0 { ChangeKind::Insert } else { ChangeKind::Delete };
            if !is_matchable(row) {
                if suffices {
                    found.alone(row as u32, kind)?;
                }
                continue;
            }
            let key = keys.ids[row];
            let turns = outer[input].as_mut().is_some_and(|rows| turn(rows, key, act.sign));
            if !needed.iter().all(|at| found.has(*at, key)) {
                continue;
            }
            match (turns, kind) {
                (true, ChangeKind::Insert) => {
                    found.all(NONE, key, ChangeKind::Delete)?;
                    found.all(row as u32, key, kind)?;
                }
                (true, _) => {
                    found.all(row as u32, key, kind)?;
                    found.all(NONE, key, ChangeKind::Insert)?;
                }
                (false, _) => found.all(row as u32, key, kind)?,
            }
        }
        found.emit()?;
        sides[input].forget_gone(&mut keys.rows)?;
        self.acts = acts;
        self.release(nulls.is_some());
        Ok(())
    }

    /// Rows of the batch may have gone, or never have been linked to their key.
    fn release(&mut self, unmatched: bool) {
        if unmatched || self.sides.iter().any(|s| s.key_of.is_some()) {
            self.keys.release_batch();
        }
    }
}

/// Counts a row of a key that comes or goes; whether it is the first or was the last.
fn turn(rows: &mut Vec<u32>, key: u32, sign: i8) -> bool {
    if rows.len() <= key as usize {
        rows.resize(key as usize + 1, 0);
    }
    let rows = &mut rows[key as usize];
    let before = *rows;
    *rows = if sign > 0 { before.saturating_add(1) } else { before.saturating_sub(1) };
    (before == 0) != (*rows == 0)
}

/// What the rows of a batch make with those of the other inputs.
struct Found<'a> {
    shape: &'a Shape,
    input: usize,
    others: Vec<usize>,
    batch: &'a RecordBatch,
    sides: &'a mut [Side],
    out: &'a mut dyn Output,
    /// Of each input, the row that is chosen.
    chosen: Vec<u32>,
    /// What comes out: rows of the batch, slots of the other inputs, by input; `NONE` for NULLs.
    rows: Vec<Vec<u32>>,
    kinds: Vec<i8>,
}

impl<'a> Found<'a> {
    fn new(
        shape: &'a Shape,
        input: usize,
        others: Vec<usize>,
        batch: &'a RecordBatch,
        sides: &'a mut [Side],
        out: &'a mut dyn Output,
    ) -> Found<'a> {
        let (chosen, rows) = (vec![NONE; sides.len()], vec![Vec::new(); sides.len()]);
        Found { shape, input, others, batch, sides, out, chosen, rows, kinds: Vec::new() }
    }

    fn has(&self, input: usize, key: u32) -> bool {
        self.sides[input].chains.first(key) != NONE
    }

    /// A row with NULLs in the place of all others.
    fn alone(&mut self, row: u32, kind: ChangeKind) -> Result<()> {
        self.chosen.fill(NONE);
        self.chosen[self.input] = row;
        self.push(1, kind)
    }

    /// A row of the batch, or NULLs in its place, with all rows of the key.
    fn all(&mut self, row: u32, key: u32, kind: ChangeKind) -> Result<()> {
        self.chosen[self.input] = row;
        self.each(0, key, 1, kind)
    }

    /// Chooses rows of the other inputs from `from` on. `times`: how many equal rows those chosen so far stand for.
    fn each(&mut self, from: usize, key: u32, times: u64, kind: ChangeKind) -> Result<()> {
        let Some(&at) = self.others.get(from) else { return self.push(times, kind) };
        let mut slot = self.sides[at].chains.first(key);
        if slot == NONE {
            self.chosen[at] = NONE;
            return self.each(from + 1, key, times, kind);
        }
        while slot != NONE {
            self.chosen[at] = slot;
            let copies = u64::from(self.sides[at].memory.copies(slot));
            self.each(from + 1, key, times.saturating_mul(copies), kind)?;
            slot = self.sides[at].chains.next(slot);
        }
        Ok(())
    }

    fn push(&mut self, times: u64, kind: ChangeKind) -> Result<()> {
        for _ in 0..times {
            self.rows.iter_mut().zip(&self.chosen).for_each(|(rows, chosen)| rows.push(*chosen));
            self.kinds.push(kind as i8);
            if self.kinds.len() >= ROWS_MAX {
                self.emit()?;
            }
        }
        Ok(())
    }

    fn emit(&mut self) -> Result<()> {
        let rows = self.kinds.len();
        if rows == 0 {
            return Ok(());
        }
        let mut gathered = Vec::with_capacity(self.sides.len());
        for (at, side) in self.sides.iter_mut().enumerate() {
            let wanted = &self.shape.wanted[at];
            let chosen = std::mem::take(&mut self.rows[at]);
            if at == self.input {
                let indices: UInt32Array = match chosen.contains(&NONE) {
                    false => chosen.into(),
                    true => chosen.iter().map(|row| (*row != NONE).then_some(*row)).collect(),
                };
                let taken = wanted.iter().map(|c| take(self.batch.column(*c), &indices, None));
                gathered.push(taken.collect::<Result<Vec<ArrayRef>, _>>()?);
            } else {
                gathered.push(side.memory.rows.gather(&chosen, wanted)?);
            }
        }
        let columns = self.shape.places.iter().map(|(input, at)| gathered[*input][*at].clone()).collect();
        let kinds = std::mem::take(&mut self.kinds);
        let kinds = kinds.iter().any(|k| *k != ChangeKind::Insert as i8).then(|| Int8Array::from(kinds));
        self.out.emit(0, Batch { rows: conform(&self.shape.output, columns, rows)?, marks: None, kinds })
    }
}

impl Operator for Multi {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { input, batch } if input < self.sides.len() => self.take_in(input, &batch, out),
            Event::Batch { .. } => Err(Error::internal("a join has no such input")),
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        let counts: usize = self.outer.iter().flatten().map(|rows| rows.capacity() * 4).sum();
        let own = self.keys.bytes() + self.acts.capacity() * size_of::<Act>() + counts;
        own + self.sides.iter().map(Side::bytes).sum::<usize>()
    }

    /// Nothing comes out by time.
    fn due(&self, _: TimeDomain) -> Option<Watermark> {
        None
    }

    fn tables(&self) -> Vec<TableDef> {
        self.sides.iter().map(|s| s.ledger.table.clone()).collect()
    }

    fn track_changes(&mut self) {
        for side in &mut self.sides {
            side.ledger.track();
            side.memory.track();
        }
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.sides.iter_mut().try_for_each(|s| s.ledger.save(&mut s.memory, saver))
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        let input = of_table(&self.sides, table)?;
        let (slots, nulls) = self.sides[input].load(rows, &self.null_equals_null, &mut self.keys)?;
        if let Some(counts) = &mut self.outer[input] {
            let is_matchable = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
            for (row, slot) in slots.iter().enumerate().filter(|(row, _)| is_matchable(*row)) {
                let key = self.keys.ids[row] as usize;
                counts.resize(counts.len().max(key + 1), 0);
                counts[key] = counts[key].saturating_add(self.sides[input].memory.copies(*slot));
            }
        }
        self.release(nulls.is_some());
        Ok(())
    }
}
