//! Rows whose times are near each other.
//!
//! ```text
//!  left  L  meets the right in  [L - upper, L - lower]      right  R  meets the left in  [R + lower, R + upper]
//!
//!  a row is remembered as long as the watermark has not passed the end of the span in which its partners are;
//!  then it is forgotten, and comes out with NULLs if it has met none
//! ```
//!
//! No row is late here, as in Flink: a row that comes when nobody can come for it any more still meets those who are
//! remembered, and is not remembered itself; if it has met none it comes out with NULLs at once. Whether a row is still
//! there is decided by the watermark before the row that looks for it, so batch cuts do not matter.
//!
//! Rows come out with times up to the wider bound behind the watermark. So much, and a millisecond for those that come out
//! with NULLs, the watermark is held back.

use super::held::HeldKeys;
use super::memory::{Act, Blocks, Memory, matchable, times};
use super::pairs::{LEFT, Probe, RIGHT, Shape};
use super::runs::Run;
use super::saved::Ledger;
use super::store::NONE;
use crate::graph;
use crate::operator::{Event, Operator, Output, Watermarks};
use crate::rows::time_column;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::keys::KeyCodec;
use millstream_state::table::{Saver, TableDef};

/// The operator of [`graph::JoinScope::Interval`].
pub(super) struct Interval {
    shape: Shape,
    null_equals_null: Vec<bool>,
    domain: TimeDomain,
    /// No time is in the interval.
    empty: bool,
    /// How far the watermark is held back.
    behind: Millis,
    keys: HeldKeys,
    sides: [Side; 2],
    /// The watermark, or the highest mark so far.
    now: Watermark,
    acts: Vec<Act>,
}

struct Side {
    keys: Vec<usize>,
    time: usize,
    /// Partners of a row of time `t` have times from `t + from` to `t + to`.
    from: Millis,
    to: Millis,
    memory: Memory,
    /// By key.
    runs: Vec<Run>,
    /// By slot.
    key_of: Vec<u32>,
    blocks: Blocks,
    ledger: Ledger,
}

/// A join's scope of this kind, as the graph has it.
pub(super) struct Bounds {
    pub times: [usize; 2],
    pub domain: TimeDomain,
    pub lower: Millis,
    pub upper: Millis,
}

impl Interval {
    pub fn new(spec: &graph::Join, bounds: &Bounds, inputs: &[SchemaRef], output: &SchemaRef) -> Result<Interval> {
        let Bounds { times, domain, lower, upper } = *bounds;
        let shape = Shape::new(spec.kind, inputs, output, spec.residual.as_ref(), false)?;
        let types: Vec<_> = spec.keys.iter().map(|k| inputs[LEFT].field(k.0).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let side = |side: usize, name: &str| -> Result<Side> {
            let keys: Vec<usize> = spec.keys.iter().map(|k| if side == LEFT { k.0 } else { k.1 }).collect();
            let input = &inputs[side];
            time_column(input.field(times[side]).data_type(), input.field(times[side]).name())?;
            let memory = Memory::new(input.clone(), shape.counted(side), false, false)?;
            let (from, to) = match side {
                LEFT => (upper.saturating_neg(), lower.saturating_neg()),
                _ => (lower, upper),
            };
            Ok(Side {
                ledger: Ledger::new(name, input, Some(times[side]), &keys, &memory, shape.counted(side)),
                keys,
                time: times[side],
                from,
                to,
                memory,
                runs: Vec::new(),
                key_of: Vec::new(),
                blocks: Blocks::new(upper.saturating_sub(lower)),
            })
        };
        let empty = lower > upper;
        let widest = upper.max(lower.saturating_neg()).max(0);
        Ok(Interval {
            null_equals_null: spec.null_equals_null.clone(),
            domain,
            empty,
            behind: if empty { 0 } else { widest.saturating_add(1) },
            keys: HeldKeys::new(codec),
            sides: [side(LEFT, "left")?, side(RIGHT, "right")?],
            shape,
            now: Watermark::MIN,
            acts: Vec::new(),
        })
    }

    fn take_in(&mut self, side: usize, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        if batch.kinds.is_some() {
            return Err(Error::internal("an interval join's inputs only insert"));
        }
        let columns = self.sides[side].key_columns(&batch.rows);
        let row_times = times(&batch.rows, self.sides[side].time)?;
        let nulls = matchable(&columns, &self.null_equals_null);
        self.keys.assign(&columns, batch.len())?;
        let mut marks = vec![self.now; batch.len()];
        if self.domain == TimeDomain::Event && batch.marks.is_some() {
            for (row, mark) in marks.iter_mut().enumerate() {
                self.now = self.now.max(batch.mark(row, self.now));
                *mark = self.now;
            }
        }
        let (left, right) = self.sides.split_at_mut(1);
        let (own, other) = match side {
            LEFT => (&mut left[0], &mut right[0]),
            _ => (&mut right[0], &mut left[0]),
        };
        let meets = |row: usize| !self.empty && nulls.as_ref().is_none_or(|n| n.is_valid(row));
        // Somebody may still come for the row.
        let stays = |row: usize| meets(row) && marks[row].0 < row_times[row].saturating_add(own.to);
        let mut acts = std::mem::take(&mut self.acts);
        own.memory.apply(batch, stays, &mut acts)?;
        for act in &mut acts {
            act.waits = act.slot != NONE;
        }
        let stored = || acts.iter().enumerate().filter(|(_, a)| a.slot != NONE).map(|(row, a)| (row, a.slot));
        own.ledger.name(stored().map(|(_, slot)| slot));
        own.link(stored(), &self.keys.ids, &row_times, &mut self.keys.rows);

        let skips = !self.shape.pairs();
        // A late row stays one behind the join, in whatever batch it came.
        let handed_on: Option<Vec<Millis>> =
            batch.marks.as_ref().map(|_| marks.iter().map(|m| held_back(*m, self.behind).0).collect());
        let mut probe =
            Probe::new(&self.shape, side, &batch.rows, &acts, Some(&mut own.memory), &mut other.memory, out)
                .with_marks(handed_on.as_deref());
        for row in 0..batch.len() {
            if let Some(run) = other.runs.get(self.keys.ids[row] as usize).filter(|_| meets(row)) {
                let time = row_times[row];
                // Those before have been forgotten by the watermark before the row, perhaps without having been removed.
                let from = time.saturating_add(own.from).max(marks[row].0.saturating_sub(other.to));
                let to = time.saturating_add(own.to);
                let first = run.partition_point(|t| t < from);
                for at in first.. {
                    let Some((_, slot)) = run.get(at).filter(|r| r.0 <= to) else { break };
                    // Who has been chosen, or has a partner, is not asked again.
                    if !skips || !probe.is_matched(slot) {
                        probe.candidate(row, slot)?;
                    }
                }
            }
            probe.end_row(row);
        }
        probe.finish()?;
        self.acts = acts;
        self.keys.release_batch();
        Ok(())
    }

    /// Forgets the rows that nobody can come for, and lets out those of them that are alone.
    fn expire(&mut self, out: &mut dyn Output) -> Result<()> {
        let mut popped = Vec::new();
        for at in [LEFT, RIGHT] {
            let side = &mut self.sides[at];
            let through = match self.now {
                Watermark::MAX => Millis::MAX,
                now => now.0.saturating_sub(side.to).saturating_sub(1),
            };
            side.blocks.pop_through(through, &mut popped);
            if popped.is_empty() {
                continue;
            }
            let slots: Vec<u32> = popped.iter().map(|p| p.1).collect();
            if self.shape.lonely(at) {
                let alone = |s: &&u32| side.memory.matches[**s as usize] == 0;
                let alone: Vec<u32> = slots.iter().filter(alone).copied().collect();
                self.shape.emit_padded(at, &mut side.memory, &alone, out)?;
            }
            side.ledger.drop_through(through);
            let mut keys = Vec::with_capacity(slots.len());
            for slot in &slots {
                let key = side.key_of[*slot as usize];
                // All rows of the key up to that time go, the earliest first.
                side.runs[key as usize].pop_front();
                self.keys.rows[key as usize] -= 1;
                keys.push(key);
            }
            side.memory.forget(&slots)?;
            self.keys.release(&keys);
        }
        Ok(())
    }
}

/// The watermark as it is handed on.
fn held_back(to: Watermark, behind: Millis) -> Watermark {
    match to {
        Watermark::MAX => to,
        to => Watermark(to.0.saturating_sub(behind)),
    }
}

impl Side {
    fn key_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|k| rows.column(*k).clone()).collect()
    }

    fn link(&mut self, rows: impl Iterator<Item = (usize, u32)>, ids: &[u32], times: &[Millis], held: &mut [u32]) {
        for (row, slot) in rows {
            let key = ids[row];
            if self.runs.len() <= key as usize {
                self.runs.resize_with(key as usize + 1, Run::default);
            }
            if self.key_of.len() <= slot as usize {
                self.key_of.resize(slot as usize + 1, NONE);
            }
            self.key_of[slot as usize] = key;
            self.runs[key as usize].insert(times[row], slot);
            self.blocks.push(times[row], slot);
            held[key as usize] += 1;
        }
    }

    fn bytes(&self) -> usize {
        let rows = self.memory.rows.len() * size_of::<(Millis, u32)>();
        self.memory.bytes()
            + self.runs.capacity() * size_of::<Run>()
            + rows
            + self.key_of.capacity() * 4
            + self.blocks.bytes()
            + self.ledger.bytes()
    }
}

impl Operator for Interval {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { input, batch } if input < 2 => self.take_in(input, &batch, out),
            Event::Batch { .. } => Err(Error::internal("a join has two inputs")),
            Event::Watermark(domain, to) if domain != self.domain => out.advance(domain, to),
            Event::Watermark(domain, to) => {
                self.now = self.now.max(to);
                self.expire(out)?;
                out.advance(domain, held_back(to, self.behind))
            }
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        let own = self.keys.bytes() + self.acts.capacity() * size_of::<Act>();
        own + self.sides.iter().map(Side::bytes).sum::<usize>()
    }

    /// A row that is forgotten may come out with NULLs; of a side where it does not, nobody hears.
    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        let first = |at: &usize| {
            let side = &self.sides[*at];
            Some(side.blocks.first_time()?.saturating_add(side.to).saturating_add(1))
        };
        let lonely = [LEFT, RIGHT].into_iter().filter(|at| self.shape.lonely(*at));
        lonely.filter_map(|at| first(&at)).min().filter(|_| domain == self.domain).map(Watermark)
    }

    fn behind(&self, domain: TimeDomain) -> Millis {
        if domain == self.domain { self.behind } else { 0 }
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
        let side = self.sides.iter().position(|s| s.ledger.table.name == table);
        let side = side.ok_or_else(|| Error::internal(format!("there is no table `{table}` to load")))?;
        let own = &mut self.sides[side];
        let (rows, slots) = own.ledger.load(&mut own.memory, rows)?;
        let columns = own.key_columns(&rows);
        let row_times = times(&rows, own.time)?;
        self.keys.assign(&columns, rows.num_rows())?;
        self.sides[side].link(slots.into_iter().enumerate(), &self.keys.ids, &row_times, &mut self.keys.rows);
        Ok(())
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.now = watermarks.of(self.domain);
        Ok(())
    }
}
