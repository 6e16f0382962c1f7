//! Rows that pass by all rows of a small table.
//!
//! ```text
//!  small  1 oslo, 2 rome  ─▶ kept, the same in every task, until it has ended
//!  large  +I 1 ann        ─▶ partners of the key ─▶ +I 1 ann 1 oslo        what passes is not remembered
//! ```
//!
//! Nothing of the large side comes before the small one has ended: whoever runs the operator keeps its sources waiting. So
//! what comes out of a row is final, a row without partner is known to have none, and rows that take others back make the same
//! of them as when they came. The order, the times and the marks of what passes stay as they are.

use super::held::HeldKeys;
use super::memory::{Act, Chains, Memory, matchable};
use super::pairs::{LEFT, Probe, RIGHT, Shape};
use super::saved::Ledger;
use super::side::{Side, of_table};
use super::store::NONE;
use crate::graph::{self, JoinKind};
use crate::operator::{Event, Operator, Output};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, ChangeKind, Error, Millis, Result};
use millstream_state::keys::KeyCodec;
use millstream_state::table::{Saver, TableDef};

/// The operator of [`graph::JoinScope::Broadcast`].
pub(super) struct Broadcast {
    shape: Shape,
    null_equals_null: Vec<bool>,
    keys: HeldKeys,
    /// Which input is the small one.
    small_side: usize,
    /// One, as a side of a join.
    small: [Side; 1],
    /// The key columns of the large side.
    large_keys: Vec<usize>,
    acts: Vec<Act>,
}

impl Broadcast {
    /// `retracts`: the small side may take rows back.
    pub fn new(
        spec: &graph::Join,
        small_side: usize,
        retracts: bool,
        inputs: &[SchemaRef],
        output: &SchemaRef,
    ) -> Result<Broadcast> {
        let passes = match spec.kind {
            JoinKind::Inner => true,
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => small_side == RIGHT,
            JoinKind::Right => small_side == LEFT,
            JoinKind::Full => false,
        };
        if !passes {
            return Err(Error::internal("a small table whose own rows come out cannot be held by every task"));
        }
        let shape = Shape::new(spec.kind, inputs, output, spec.residual.as_ref(), false)?;
        let types: Vec<_> = spec.keys.iter().map(|k| inputs[LEFT].field(k.0).data_type().clone()).collect();
        let of = |side: usize| spec.keys.iter().map(|k| if side == LEFT { k.0 } else { k.1 }).collect::<Vec<_>>();
        let input = &inputs[small_side];
        let memory = Memory::new(input.clone(), false, false, retracts)?;
        let small = Side {
            // Its rows belong to no share of the keys.
            ledger: Ledger::new("small", input, None, &[], &memory, retracts),
            keys: of(small_side),
            memory,
            chains: Chains::new(retracts),
            one_suffices: !shape.pairs() && spec.residual.is_none() && !retracts,
            key_of: retracts.then(Vec::new),
            ttl: None,
        };
        Ok(Broadcast {
            null_equals_null: spec.null_equals_null.clone(),
            keys: HeldKeys::new(KeyCodec::new(&types)?),
            small_side,
            small: [small],
            large_keys: of(1 - small_side),
            shape,
            acts: Vec::new(),
        })
    }

    /// Rows of the small side.
    fn keep(&mut self, batch: &Batch) -> Result<()> {
        let [small] = &mut self.small;
        let columns = small.key_columns(&batch.rows);
        let nulls = matchable(&columns, &self.null_equals_null);
        self.keys.assign(&columns, batch.len())?;
        // A row whose key is NULL meets nobody, and it does not come out itself.
        let is_matchable = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let is_needed = |row: usize| !small.one_suffices || small.chains.first(self.keys.ids[row]) == NONE;
        let stays: Vec<bool> = (0..batch.len()).map(|row| is_matchable(row) && is_needed(row)).collect();
        let mut acts = std::mem::take(&mut self.acts);
        small.memory.apply(batch, |row| stays[row], &mut acts)?;
        let new = || acts.iter().enumerate().filter(|(_, a)| a.new).map(|(row, a)| (row, a.slot));
        small.ledger.name(new().map(|(_, slot)| slot));
        small.link(new(), &self.keys.ids, None, is_matchable, &mut self.keys.rows);
        small.forget_gone(&mut self.keys.rows)?;
        self.acts = acts;
        self.keys.release_batch();
        Ok(())
    }

    /// Rows of the large side.
    fn pass(&mut self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let columns: Vec<_> = self.large_keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        let nulls = matchable(&columns, &self.null_equals_null);
        self.keys.find(&columns, batch.len())?;
        let comes = |row: usize| match &batch.kinds {
            None => true,
            Some(kinds) => {
                matches!(ChangeKind::from_code(kinds.value(row)), ChangeKind::Insert | ChangeKind::UpdateAfter)
            }
        };
        let act =
            |row| Act { sign: if comes(row) { 1 } else { -1 }, slot: NONE, fresh: true, new: false, waits: false };
        self.acts.clear();
        self.acts.extend((0..batch.len()).map(act));
        let marks: Option<&[Millis]> = batch.marks.as_ref().map(|m| m.values().as_ref());
        let [small] = &mut self.small;
        let side = 1 - self.small_side;
        let mut probe = Probe::new(&self.shape, side, &batch.rows, &self.acts, None, &mut small.memory, out);
        probe = probe.with_marks(marks);
        for (row, id) in self.keys.ids.iter().enumerate() {
            if *id != HeldKeys::UNKNOWN && nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                let mut slot = small.chains.first(*id);
                while slot != NONE {
                    probe.candidate(row, slot)?;
                    if small.one_suffices {
                        break;
                    }
                    slot = small.chains.next(slot);
                }
            }
            probe.end_row(row);
        }
        probe.finish()
    }
}

impl Operator for Broadcast {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { input, batch } if input == self.small_side => self.keep(&batch),
            Event::Batch { input: 0 | 1, batch } => self.pass(&batch, out),
            Event::Batch { .. } => Err(Error::internal("a join has two inputs")),
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.keys.bytes() + self.small[0].bytes() + self.acts.capacity() * size_of::<Act>()
    }

    fn tables(&self) -> Vec<TableDef> {
        vec![self.small[0].ledger.table.clone()]
    }

    fn track_changes(&mut self) {
        self.small[0].ledger.track();
        self.small[0].memory.track();
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        let [small] = &mut self.small;
        small.ledger.save(&mut small.memory, saver)
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        let side = of_table(&self.small, table)?;
        self.small[side].load(rows, &self.null_equals_null, &mut self.keys)?;
        self.keys.release_batch();
        Ok(())
    }
}
