//! One input of a join that is kept up to date: its rows, linked by key.

use super::memory::{Blocks, Chains, Memory};
use super::saved::Ledger;
use super::store::NONE;
use arrow::array::{ArrayRef, RecordBatch};
use millstream_core::{Millis, Result, Watermark};

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
