//! What a checkpoint has of an operator's keys, and what has changed since.
//!
//! ```text
//!  touch ──▶ changed ─┐
//!  end ────▶ gone ────┴─ take, at a save ──▶ the keys to put, and those to take away ── done ──▶ saved
//! ```
//!
//! Keys go by their ids in the operator's table of keys. An id that has been given up may stand for another key later: what the
//! checkpoint has of the former one is remembered by its columns.

use arrow::array::{Array, ArrayRef};
use millstream_core::Result;

#[derive(Default)]
pub struct SavedKeys {
    pub tracking: bool,
    dirty: Vec<u32>,
    /// By id.
    is_dirty: Vec<bool>,
    is_saved: Vec<bool>,
    /// Keys that are no more, and that the checkpoint still has.
    gone: Vec<Vec<ArrayRef>>,
}

/// What is to be saved.
pub struct Taken {
    pub ids: Vec<u32>,
    /// Columns of keys that are to be taken away, before the others are put: a key may have come back. None of a whole save.
    pub gone: Vec<Vec<ArrayRef>>,
}

impl SavedKeys {
    /// Makes room for ids below `ids`.
    pub fn make_room(&mut self, ids: usize) {
        if self.is_saved.len() < ids {
            self.is_saved.resize(ids, false);
            self.is_dirty.resize(ids, false);
        }
    }

    /// What is remembered of a key has changed.
    #[inline]
    pub fn touch(&mut self, id: u32) {
        if self.tracking && !std::mem::replace(&mut self.is_dirty[id as usize], true) {
            self.dirty.push(id);
        }
    }

    /// Nothing is remembered of these keys any more. `columns`: what they are called.
    pub fn end(&mut self, ids: &[u32], columns: impl FnOnce(&[u32]) -> Result<Vec<ArrayRef>>) -> Result<()> {
        let gone = self.known(ids);
        if !gone.is_empty() {
            self.gone.push(columns(&gone)?);
            gone.iter().for_each(|id| self.is_saved[*id as usize] = false);
        }
        Ok(())
    }

    /// Those of the keys that the checkpoint has.
    pub fn known(&self, ids: &[u32]) -> Vec<u32> {
        ids.iter().copied().filter(|id| self.is_saved[*id as usize]).collect()
    }

    /// Begins a save, of all ids below `ids` where it is a whole one.
    pub fn take(&mut self, whole: bool, ids: usize) -> Taken {
        let changed = std::mem::take(&mut self.dirty);
        changed.iter().for_each(|id| self.is_dirty[*id as usize] = false);
        let gone = std::mem::take(&mut self.gone);
        if whole {
            self.is_saved.fill(false);
            return Taken { ids: (0..ids as u32).collect(), gone: Vec::new() };
        }
        Taken { ids: changed, gone }
    }

    /// The checkpoint has these keys.
    pub fn done(&mut self, ids: &[u32]) {
        ids.iter().for_each(|id| self.is_saved[*id as usize] = true);
    }

    pub fn bytes(&self) -> usize {
        let gone: usize = self.gone.iter().flatten().map(|column| column.get_array_memory_size()).sum();
        self.is_dirty.capacity() + self.is_saved.capacity() + self.dirty.capacity() * 4 + gone
    }
}
