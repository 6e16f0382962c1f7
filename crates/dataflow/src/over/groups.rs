//! Dense numbers for keys: every accumulator is a column by group number.

use super::words::Words;
use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use millstream_core::key::mix;
use millstream_core::{Error, Result};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Numbers keys in the order of their first row. A number that is released is given to another key.
pub(crate) struct Groups {
    keys: Keys,
    free: Vec<u32>,
    slots: u32,
}

enum Keys {
    /// No key: one group.
    None,
    /// One column of at most 8 bytes; NULL is kept apart.
    Word {
        numbers: HashMap<i64, u32, BuildHasherDefault<Mixer>>,
        null: Option<u32>,
        words: Vec<i64>,
    },
    Rows {
        converter: RowConverter,
        numbers: HashMap<Box<[u8]>, u32, BuildHasherDefault<Mixer>>,
        rows: Vec<Box<[u8]>>,
    },
}

impl Groups {
    pub(crate) fn new(types: &[DataType]) -> Result<Groups> {
        let keys = match types {
            [] => Keys::None,
            [one] if Words::fit(one) => Keys::Word { numbers: HashMap::default(), null: None, words: Vec::new() },
            many => {
                let fields = many.iter().map(|t| SortField::new(t.clone())).collect();
                let converter = RowConverter::new(fields).map_err(|e| {
                    Error::sql(format!("cannot partition by these columns: {e}"))
                        .remedy("partition by columns of plain types; pick fields out of MAP values")
                })?;
                Keys::Rows { converter, numbers: HashMap::default(), rows: Vec::new() }
            }
        };
        Ok(Groups { keys, free: Vec::new(), slots: 0 })
    }

    /// Numbers handed out so far are below this.
    pub(crate) fn slots(&self) -> usize {
        self.slots as usize
    }

    /// The group of each row; `groups` is overwritten.
    pub(crate) fn assign(&mut self, columns: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<()> {
        groups.clear();
        let Groups { keys, free, slots } = self;
        let mut fresh = || {
            free.pop().unwrap_or_else(|| {
                *slots += 1;
                *slots - 1
            })
        };
        match keys {
            Keys::None => {
                *slots = 1;
                groups.resize(rows, 0);
            }
            Keys::Word { numbers, null, words } => {
                let values = Words::of(&columns[0])?;
                let nulls = columns[0].nulls().filter(|n| n.null_count() > 0);
                // Row by row: one probe of the hash table for each row is what grouping is.
                for (i, &word) in values.iter().enumerate() {
                    let group = if nulls.is_some_and(|n| n.is_null(i)) {
                        *null.get_or_insert_with(&mut fresh)
                    } else {
                        *numbers.entry(word).or_insert_with(|| {
                            let group = fresh();
                            put(words, group, word);
                            group
                        })
                    };
                    groups.push(group);
                }
            }
            Keys::Rows { converter, numbers, rows } => {
                for row in &converter.convert_columns(columns)? {
                    let group = match numbers.get(row.as_ref()) {
                        Some(group) => *group,
                        None => {
                            let (group, key): (u32, Box<[u8]>) = (fresh(), row.as_ref().into());
                            put(rows, group, key.clone());
                            numbers.insert(key, group);
                            group
                        }
                    };
                    groups.push(group);
                }
            }
        }
        Ok(())
    }

    /// Forgets a key. Its number will be that of another.
    pub(crate) fn release(&mut self, group: u32) {
        match &mut self.keys {
            Keys::None => return,
            Keys::Word { null, .. } if *null == Some(group) => *null = None,
            Keys::Word { numbers, words, .. } => {
                numbers.remove(&words[group as usize]);
            }
            Keys::Rows { numbers, rows, .. } => {
                numbers.remove(&std::mem::take(&mut rows[group as usize]));
            }
        }
        self.free.push(group);
    }

    #[cfg(test)]
    pub(crate) fn live(&self) -> usize {
        self.slots as usize - self.free.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        match &self.keys {
            Keys::None => 0,
            Keys::Word { numbers, words, .. } => numbers.capacity() * 17 + words.capacity() * 8,
            Keys::Rows { numbers, rows, .. } => numbers.capacity() * 25 + rows.capacity() * 16 + rows.len() * 64,
        }
    }
}

fn put<T: Default + Clone>(column: &mut Vec<T>, group: u32, value: T) {
    if column.len() <= group as usize {
        column.resize(group as usize + 1, T::default());
    }
    column[group as usize] = value;
}

/// Hashes words and bytes with our own mixing function. In memory only, so it need not be pinned.
#[derive(Default)]
pub(crate) struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.write_u64(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        self.write_u64(u64::from_le_bytes(last) ^ bytes.len() as u64);
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    #[inline]
    fn write_i64(&mut self, word: i64) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        mix(self.0)
    }
}
