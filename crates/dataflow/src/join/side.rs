//! One input of a join that is kept up to date: its rows, linked by key.

use super::held::HeldKeys;
use super::memory::{Blocks, Chains, Memory, matchable, times};
use super::saved::Ledger;
use super::store::NONE;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::NullBuffer;
use millstream_core::{Error, Millis, Result, Watermark};
use millstream_state::keys::{AHEAD, prefetch};

/// The rows of one input of a join that is kept up to date, by key.
pub(super) struct Side {
    pub keys: Vec<usize>,
    pub memory: Memory,
    pub chains: Chains,
    /// One row of each key says all that the other side asks of this one.
    pub one_suffices: bool,
    /// By slot: the key that the row is linked to, where rows leave.
    pub key_of: Option<Vec<u32>>,
    pub ttl: Option<Ttl>,
    pub ledger: Ledger,
}

pub(super) struct Ttl {
    pub column: usize,
    pub keep: Millis,
    /// By slot.
    pub times: Vec<Millis>,
    pub blocks: Blocks,
}

impl Ttl {
    pub fn has_expired(&self, time: Millis, mark: Watermark) -> bool {
        mark.0 >= time.saturating_add(self.keep)
    }
}

/// The side whose table has this name.
pub(super) fn of_table(sides: &[Side], table: &str) -> Result<usize> {
    let side = sides.iter().position(|s| s.ledger.table.name == table);
    side.ok_or_else(|| Error::internal(format!("there is no table `{table}` to load")))
}

impl Side {
    pub fn key_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|k| rows.column(*k).clone()).collect()
    }

    /// Links rows of a batch that have been put under slots.
    pub fn link(
        &mut self,
        rows: impl Iterator<Item = (usize, u32)>,
        ids: &[u32],
        times: Option<&[Millis]>,
        is_matchable: impl Fn(usize) -> bool,
        held: &mut [u32],
    ) {
        for (row, slot) in rows {
            if let Some(ahead) = ids.get(row + AHEAD) {
                self.chains.prefetch(*ahead);
                prefetch(held, *ahead as usize);
            }
            let at = slot as usize;
            if let (Some(ttl), Some(times)) = (&mut self.ttl, times) {
                if ttl.times.len() <= at {
                    ttl.times.resize(at + 1, 0);
                }
                ttl.times[at] = times[row];
                ttl.blocks.push(times[row], slot);
            }
            let key = if is_matchable(row) { ids[row] } else { NONE };
            if let Some(key_of) = &mut self.key_of {
                if key_of.len() <= at {
                    key_of.resize(at + 1, NONE);
                }
                key_of[at] = key;
            }
            if key != NONE {
                self.chains.link(key, slot);
                held[key as usize] += 1;
            }
        }
    }

    /// Takes rows of the table in and links them. What comes back are their slots, and whose key can be equal to another.
    /// The keys of the batch are to be released where rows may have been linked to none.
    pub fn load(
        &mut self,
        saved: &RecordBatch,
        null_equals_null: &[bool],
        keys: &mut HeldKeys,
    ) -> Result<(Vec<u32>, Option<NullBuffer>)> {
        let (rows, slots) = self.ledger.load(&mut self.memory, saved)?;
        let columns = self.key_columns(&rows);
        let row_times = self.ttl.as_ref().map(|t| times(&rows, t.column)).transpose()?;
        let nulls = matchable(&columns, null_equals_null);
        keys.assign(&columns, rows.num_rows())?;
        let is_matchable = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let linked = slots.iter().copied().enumerate();
        self.link(linked, &keys.ids, row_times.as_deref(), is_matchable, &mut keys.rows);
        Ok((slots, nulls))
    }

    /// Takes rows out of their chains, and tells their keys.
    pub fn unlink(&mut self, slots: &[u32], held: &mut [u32], keys: &mut Vec<u32>) {
        let Some(key_of) = &mut self.key_of else { return };
        for slot in slots {
            let key = std::mem::replace(&mut key_of[*slot as usize], NONE);
            if key != NONE {
                self.chains.unlink(key, *slot);
                held[key as usize] -= 1;
                keys.push(key);
            }
        }
    }

    /// Lets the rows go that the batch under way has taken back.
    pub fn forget_gone(&mut self, held: &mut [u32]) -> Result<()> {
        if !self.memory.retracts() {
            return Ok(());
        }
        let mut gone = Vec::new();
        self.memory.gone(&mut gone);
        self.ledger.delete(&mut self.memory, &gone)?;
        self.unlink(&gone, held, &mut Vec::new());
        self.memory.forget_gone(&gone)
    }

    pub fn bytes(&self) -> usize {
        let ttl = self.ttl.as_ref().map_or(0, |t| t.times.capacity() * 8 + t.blocks.bytes());
        let key_of = self.key_of.as_ref().map_or(0, |k| k.capacity() * 4);
        self.memory.bytes() + self.chains.bytes() + key_of + ttl + self.ledger.bytes()
    }
}
