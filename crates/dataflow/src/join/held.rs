//! The keys of both sides, each with the number of rows that are linked to it, so that it can go with the last of them.

use arrow::array::ArrayRef;
use millstream_core::Result;
use millstream_state::keys::{KeyCodec, KeyTable};

/// In place of a number of rows: the id is nobody's.
const RELEASED: u32 = u32::MAX;

pub(super) struct HeldKeys {
    codec: KeyCodec,
    table: KeyTable,
    /// By key: rows of both sides.
    pub rows: Vec<u32>,
    /// The key of each row of the batch under way.
    pub ids: Vec<u32>,
}

impl HeldKeys {
    pub const UNKNOWN: u32 = KeyTable::UNKNOWN;

    pub fn new(codec: KeyCodec) -> HeldKeys {
        HeldKeys { table: codec.table(), codec, rows: Vec::new(), ids: Vec::new() }
    }

    /// Finds the id of each row's key. A new one has no row until one is linked to it.
    pub fn assign(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        self.table.assign(&self.codec.encode(columns, rows)?, 0..rows, &mut self.ids);
        self.rows.resize(self.table.len().max(self.rows.len()), 0);
        for id in &self.ids {
            let held = &mut self.rows[*id as usize];
            if *held == RELEASED {
                *held = 0;
            }
        }
        Ok(())
    }

    /// The id of each row's key, [`HeldKeys::UNKNOWN`] where no row is linked to it. Nothing is made known by it.
    pub fn find(&mut self, columns: &[ArrayRef], rows: usize) -> Result<()> {
        self.table.find_all(&self.codec.encode(columns, rows)?, &mut self.ids);
        Ok(())
    }

    /// Forgets those of these keys that no row is linked to.
    pub fn release(&mut self, keys: &[u32]) {
        for key in keys {
            let held = &mut self.rows[*key as usize];
            if *held == 0 {
                *held = RELEASED;
                self.table.release(*key);
            }
        }
    }

    /// Forgets the keys of the batch that no row is linked to.
    pub fn release_batch(&mut self) {
        let ids = std::mem::take(&mut self.ids);
        self.release(&ids);
        self.ids = ids;
    }

    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.rows.capacity() * 4 + self.ids.capacity() * 4
    }
}
