//! All rows of the one side with all of the other, kept up to date at once.
//!
//! ```text
//!  left  +I ann      ─▶ own side: remembered ─▶ other side: partners of the key ─▶ +I ann, oslo
//!  right -D oslo     ─▶ own side: forgotten  ─▶ other side: partners of the key ─▶ -D ann, oslo  (+I ann, NULL)
//! ```
//!
//! Both sides share one table of keys, so that a row is looked up once, to be remembered and to be joined. A row of a side
//! that is told of when it is alone knows how many partners it has. Equal rows of a side that takes rows back are one row
//! with a count; a side that only inserts pays for neither.
//!
//! A row is found as long as the watermark before the row that looks for it has not reached its own time plus the time to
//! live. From then on it is not there, neither to be joined nor to be taken back; what it has been joined to stays.

use super::held::HeldKeys;
use super::memory::{Act, Blocks, Chains, Memory, matchable, times};
use super::pairs::{LEFT, Probe, RIGHT, Shape};
use super::saved::Ledger;
use super::side::{Side, Ttl, of_table};
use super::store::NONE;
use crate::graph::{self, StateTtl};
use crate::operator::{Event, Operator, Output, Watermarks};
use crate::rows::time_column;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, Result, TimeDomain, Watermark};
use millstream_state::keys::{AHEAD, KeyCodec};
use millstream_state::table::{Saver, TableDef};

/// The operator of [`graph::JoinScope::Always`].
pub(super) struct Regular {
    shape: Shape,
    null_equals_null: Vec<bool>,
    keys: HeldKeys,
    sides: [Side; 2],
    /// The watermark, or the highest mark so far: rows before it have gone.
    now: Watermark,
    acts: Vec<Act>,
}

impl Regular {
    pub fn new(
        spec: &graph::Join,
        ttl: Option<&StateTtl>,
        retracts: [bool; 2],
        inputs: &[SchemaRef],
        output: &SchemaRef,
    ) -> Result<Regular> {
        let shape = Shape::new(spec.kind, inputs, output, spec.residual.as_ref(), true)?;
        let types: Vec<_> = spec.keys.iter().map(|k| inputs[LEFT].field(k.0).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let side = |side: usize, name: &str| -> Result<Side> {
            let keys: Vec<usize> = spec.keys.iter().map(|k| if side == LEFT { k.0 } else { k.1 }).collect();
            let input = &inputs[side];
            let memory = Memory::new(input.clone(), shape.counted(side), retracts[1 - side], retracts[side])?;
            let time = ttl.map(|t| t.times[side]);
            if let Some(time) = time {
                time_column(input.field(time).data_type(), input.field(time).name())?;
            }
            let leave = retracts[side] || ttl.is_some();
            Ok(Side {
                ledger: Ledger::new(name, input, time, &keys, &memory, retracts[side] || shape.counted(side)),
                keys,
                memory,
                chains: Chains::new(leave),
                one_suffices: side == RIGHT && !shape.pairs() && spec.residual.is_none() && !leave,
                key_of: leave.then(Vec::new),
                ttl: ttl.map(|t| Ttl {
                    column: t.times[side],
                    keep: t.keep,
                    times: Vec::new(),
                    blocks: Blocks::new(t.keep),
                }),
            })
        };
        Ok(Regular {
            null_equals_null: spec.null_equals_null.clone(),
            keys: HeldKeys::new(codec),
            sides: [side(LEFT, "left")?, side(RIGHT, "right")?],
            shape,
            now: Watermark::MIN,
            acts: Vec::new(),
        })
    }

    fn take_in(&mut self, side: usize, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let columns = self.sides[side].key_columns(&batch.rows);
        let nulls = matchable(&columns, &self.null_equals_null);
        self.keys.assign(&columns, batch.len())?;
        let (left, right) = self.sides.split_at_mut(1);
        let (own, other) = match side {
            LEFT => (&mut left[0], &mut right[0]),
            _ => (&mut right[0], &mut left[0]),
        };
        // The watermark before each row, which never goes back.
        let mut marks: Vec<Watermark> = Vec::new();
        let mut row_times = None;
        if let Some(ttl) = &own.ttl {
            row_times = Some(times(&batch.rows, ttl.column)?);
            marks.extend((0..batch.len()).map(|row| {
                self.now = self.now.max(batch.mark(row, self.now));
                self.now
            }));
        }
        let is_matchable = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        // A row whose key is NULL meets nobody; it has to be known only if it may be taken back.
        let remembered = |row: usize| match is_matchable(row) {
            true => !own.one_suffices || own.chains.first(self.keys.ids[row]) == NONE,
            false => own.memory.retracts(),
        };
        let mut acts = std::mem::take(&mut self.acts);
        let stays: Vec<bool> = (0..batch.len())
            .map(|row| {
                let expired = match (&own.ttl, &row_times) {
                    (Some(ttl), Some(times)) => ttl.has_expired(times[row], marks[row]),
                    _ => false,
                };
                remembered(row) && !expired
            })
            .collect();
        own.memory.apply(batch, |row| stays[row], &mut acts)?;
        let new = || acts.iter().enumerate().filter(|(_, a)| a.new).map(|(row, a)| (row, a.slot));
        own.ledger.name(new().map(|(_, slot)| slot));
        own.link(new(), &self.keys.ids, row_times.as_deref(), is_matchable, &mut self.keys.rows);

        let skips = !self.shape.pairs();
        let mut probe =
            Probe::new(&self.shape, side, &batch.rows, &acts, Some(&mut own.memory), &mut other.memory, out);
        for (row, act) in acts.iter().enumerate().filter(|(_, a)| a.sign != 0) {
            if let Some(ahead) = self.keys.ids.get(row + AHEAD) {
                other.chains.prefetch(*ahead);
            }
            if is_matchable(row) {
                let mut slot = other.chains.first(self.keys.ids[row]);
                while slot != NONE {
                    let found = match &other.ttl {
                        Some(ttl) => !ttl.has_expired(ttl.times[slot as usize], marks[row]),
                        None => true,
                    };
                    // Who has been chosen for good, or has a partner for good, is not asked again.
                    if found && !(skips && probe.is_matched(slot)) {
                        probe.candidate(row, slot)?;
                        if other.one_suffices {
                            break;
                        }
                    }
                    slot = other.chains.next(slot);
                }
            }
            debug_assert!(act.sign > 0 || act.slot != NONE);
            probe.end_row(row);
        }
        probe.finish()?;
        own.forget_gone(&mut self.keys.rows)?;
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

    /// Forgets the rows that no row to come can find.
    fn forget_expired(&mut self) -> Result<()> {
        let mut popped = Vec::new();
        for side in &mut self.sides {
            let Some(ttl) = &mut side.ttl else { continue };
            let through = self.now.0.saturating_sub(ttl.keep);
            ttl.blocks.pop_through(through, &mut popped);
            // A row may have gone before its time, and its slot be another's.
            let mut slots: Vec<u32> = popped.iter().map(|p| p.1).collect();
            slots.sort_unstable();
            slots.dedup();
            slots.retain(|s| side.memory.rows.is_live(*s) && ttl.times[*s as usize] <= through);
            if slots.is_empty() {
                continue;
            }
            side.ledger.drop_through(through);
            let mut keys = Vec::with_capacity(slots.len());
            side.unlink(&slots, &mut self.keys.rows, &mut keys);
            side.memory.forget(&slots)?;
            self.keys.release(&keys);
        }
        Ok(())
    }
}

impl Operator for Regular {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { input, batch } if input < 2 => self.take_in(input, &batch, out),
            Event::Batch { .. } => Err(Error::internal("a join has two inputs")),
            Event::Watermark(domain, to) => {
                if domain == TimeDomain::Event && to > self.now {
                    self.now = to;
                    self.forget_expired()?;
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        let own = self.keys.bytes() + self.acts.capacity() * size_of::<Act>();
        own + self.sides.iter().map(Side::bytes).sum::<usize>()
    }

    /// What is forgotten is forgotten in silence.
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
        let side = of_table(&self.sides, table)?;
        let (_, nulls) = self.sides[side].load(rows, &self.null_equals_null, &mut self.keys)?;
        self.release(nulls.is_some());
        Ok(())
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.now = watermarks.event;
        self.forget_expired()
    }
}
