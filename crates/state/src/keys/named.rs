//! Keys of two columns one of which is a text, or both: each text has a number, and the key is a pair of words.
//!
//! ```text
//!  (7, "2026-11-27")  ─▶ texts: "2026-11-27" is 0 ─▶ (7, 0) ─▶ id
//! ```
//!
//! Texts beside another column mostly come again (a day, a channel, a country), and then a key is two words that stand in their
//! slot, with nothing to follow. A text is forgotten with the last key that it is part of. The numbers are those of one table.

use super::bytes::{Arena, BytesPlace, bytes_ids, find_bytes};
use super::index::Index;
use super::pairs::{Pair, Tag, find_pair, pair_ids};
use super::{Ids, KeyTable};
use arrow::array::BinaryArray;
use arrow::buffer::{NullBuffer, ScalarBuffer};
use millstream_core::key::mix;
use std::ops::Range;

/// In place of the NULLs of a key that has been released, whose text may be another's.
const GONE: u32 = u32::MAX;

/// One column of a batch's keys.
pub(super) struct Column {
    pub values: Values,
    pub nulls: Option<NullBuffer>,
}

pub(super) enum Values {
    Words(ScalarBuffer<u64>),
    Texts(BinaryArray),
}

/// The keys of a table.
#[derive(Default)]
pub(super) struct Named {
    index: Index<Tag>,
    keys: Vec<Pair>,
    /// Which word of a key is the number of a text.
    is_text: [bool; 2],
    /// Of each column: one with few texts stays small beside one with many.
    texts: [Texts; 2],
    numbers: Vec<u32>,
}

/// Texts by number, each with the keys that it is part of.
#[derive(Default)]
struct Texts {
    index: Index<u64>,
    arena: Arena,
    ids: Ids,
    uses: Vec<u32>,
}

impl Texts {
    fn add_use(&mut self, number: u64) {
        let at = number as usize;
        if self.uses.len() <= at {
            self.uses.resize(at + 1, 0);
        }
        self.uses[at] += 1;
    }

    fn drop_use(&mut self, number: u64) {
        let uses = &mut self.uses[number as usize];
        *uses -= 1;
        if *uses == 0 {
            self.index.remove(self.arena.hash(number as u32), number as u32);
            self.ids.free.push(number as u32);
        }
    }
}

impl Named {
    pub fn new(is_text: [bool; 2]) -> Named {
        Named { is_text, ..Named::default() }
    }

    /// The keys of these rows. Texts that are new get numbers.
    fn pairs(&mut self, columns: &[Column; 2], rows: &Range<usize>) -> Vec<Pair> {
        let mut pairs = vec![Pair::default(); rows.len()];
        for (side, column) in columns.iter().enumerate() {
            match &column.values {
                Values::Words(words) => {
                    let words = &words[rows.start..rows.end];
                    pairs.iter_mut().zip(words).for_each(|(pair, word)| pair.words[side] = *word);
                }
                Values::Texts(texts) => {
                    self.numbers.clear();
                    let Texts { index, arena, ids, .. } = &mut self.texts[side];
                    let is_null = |row: usize| column.nulls.as_ref().is_some_and(|n| n.is_null(row));
                    let text = |row: usize| Some(if is_null(row) { &[] } else { texts.value(row) });
                    bytes_ids(index, arena, ids, rows.clone(), text, &mut self.numbers);
                    pairs
                        .iter_mut()
                        .zip(&self.numbers)
                        .for_each(|(pair, number)| pair.words[side] = u64::from(*number));
                }
            }
            mark_nulls(&mut pairs, side, column.nulls.as_ref(), rows.start);
        }
        pairs
    }

    /// As [`KeyTable::assign`].
    pub fn assign(&mut self, columns: &[Column; 2], rows: Range<usize>, known: &mut Ids, ids: &mut Vec<u32>) {
        let pairs = self.pairs(columns, &rows);
        self.ids(&pairs, known, ids);
    }

    /// The ids of keys whose texts have numbers.
    fn ids(&mut self, pairs: &[Pair], known: &mut Ids, ids: &mut Vec<u32>) {
        let Named { index, keys, texts, is_text, .. } = self;
        pair_ids(index, keys, known, pairs, ids, |pair| each_text(*is_text, texts, pair, Texts::add_use));
    }

    /// As [`KeyTable::find_all`], of a table that has keys.
    pub fn find_all(&self, columns: &[Column; 2], rows: usize, ids: &mut Vec<u32>) {
        ids.extend((0..rows).map(|row| {
            let mut pair = Pair::default();
            for (side, column) in columns.iter().enumerate() {
                if column.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                    pair.nulls |= 1 << side;
                    continue;
                }
                pair.words[side] = match &column.values {
                    Values::Words(words) => words[row],
                    Values::Texts(texts) => {
                        let known = &self.texts[side];
                        match find_bytes(&known.index, &known.arena, texts.value(row)) {
                            KeyTable::UNKNOWN => return KeyTable::UNKNOWN,
                            number => u64::from(number),
                        }
                    }
                };
            }
            find_pair(&self.index, &self.keys, pair)
        }));
    }

    /// As [`KeyTable::assign_all`].
    pub fn assign_all(&mut self, other: &Named, known: &mut Ids, ids: &mut Vec<u32>) {
        let mut pairs = other.keys.clone();
        for side in (0..2).filter(|side| self.is_text[*side]) {
            let there = &other.texts[side];
            // By number there, the one here.
            let mut here = vec![None; there.arena.places.len()];
            let mut number = Vec::with_capacity(1);
            for (at, _) in there.uses.iter().enumerate().filter(|(_, uses)| **uses > 0) {
                let Texts { index, arena, ids, .. } = &mut self.texts[side];
                number.clear();
                bytes_ids(index, arena, ids, 0..1, |_| Some(there.arena.get(at as u32)), &mut number);
                here[at] = Some(number[0]);
            }
            for pair in pairs.iter_mut().filter(|p| p.nulls & (1 << side) == 0) {
                match here.get(pair.words[side] as usize) {
                    Some(Some(number)) => pair.words[side] = u64::from(*number),
                    _ => pair.nulls = GONE,
                }
            }
        }
        let there: Vec<bool> = pairs.iter().map(|pair| pair.nulls != GONE).collect();
        pairs.retain(|pair| pair.nulls != GONE);
        let mut found = Vec::with_capacity(pairs.len());
        self.ids(&pairs, known, &mut found);
        let mut found = found.into_iter();
        ids.extend(there.into_iter().map(|there| match there {
            true => found.next().unwrap_or(KeyTable::UNKNOWN),
            false => KeyTable::UNKNOWN,
        }));
    }

    /// The hash of a key, the same in every table.
    pub fn hash(&self, id: u32) -> u64 {
        let Pair { words, nulls } = self.keys[id as usize];
        let word = |side: usize| match self.is_text[side] && nulls & (1 << side) == 0 {
            true => self.texts[side].arena.hash(words[side] as u32),
            false => words[side],
        };
        mix(mix(word(0)).rotate_left(17) ^ word(1) ^ u64::from(nulls))
    }

    pub fn forget(&mut self, id: u32) {
        let pair = self.keys[id as usize];
        self.index.remove(pair.tag(), id);
        each_text(self.is_text, &mut self.texts, pair, Texts::drop_use);
    }

    /// The key of id `last` gets `id`, whose own has been forgotten.
    pub fn swap_remove(&mut self, id: u32, last: u32) {
        if id != last {
            self.index.rename(self.keys[last as usize].tag(), last, id);
        }
        self.keys.swap_remove(id as usize);
    }

    pub fn clear(&mut self, keys: usize) {
        self.index.clear(keys);
        self.keys.clear();
        for texts in &mut self.texts {
            texts.index.clear(texts.arena.places.len());
            texts.arena.clear();
            texts.ids = Ids::default();
            texts.uses.clear();
        }
    }

    /// Gives the slots up, to a table that has not a key.
    pub fn seal(&mut self) -> Named {
        self.keys.shrink_to_fit();
        let texts = self.texts.each_mut().map(|texts| {
            texts.arena.bytes.shrink_to_fit();
            texts.arena.places.shrink_to_fit();
            Texts { index: std::mem::take(&mut texts.index), ..Texts::default() }
        });
        Named { index: std::mem::take(&mut self.index), texts, ..Named::new(self.is_text) }
    }

    pub fn unseal(&mut self) {
        if self.index.slots.is_empty() {
            self.index.rebuild(self.keys.len(), self.keys.iter().enumerate().map(|(id, key)| (key.tag(), id as u32)));
        }
        for Texts { index, arena, uses, .. } in &mut self.texts {
            if index.slots.is_empty() {
                let live = uses.iter().enumerate().filter(|(_, uses)| **uses > 0);
                index.rebuild(arena.places.len(), live.map(|(number, _)| (arena.places[number].hash, number as u32)));
            }
        }
    }

    /// The pairs of these ids.
    pub fn pairs_of(&self, ids: impl Iterator<Item = usize>) -> Vec<Pair> {
        ids.map(|id| self.keys[id]).collect()
    }

    /// The text of this number in a column.
    pub fn text(&self, column: usize, number: u64) -> &[u8] {
        self.texts[column].arena.get(number as u32)
    }

    pub fn bytes(&self) -> usize {
        let of = |Texts { index, arena, uses, ids }: &Texts| {
            let places = arena.places.capacity() * size_of::<BytesPlace>();
            index.bytes() + arena.bytes.capacity() + places + (uses.capacity() + ids.free.capacity()) * 4
        };
        let texts: usize = self.texts.iter().map(of).sum();
        self.index.bytes() + self.keys.capacity() * size_of::<Pair>() + self.numbers.capacity() * 4 + texts
    }
}

/// Does something to each text of a key, by its number.
fn each_text(is_text: [bool; 2], texts: &mut [Texts; 2], pair: Pair, each: impl Fn(&mut Texts, u64)) {
    for side in 0..2 {
        if is_text[side] && pair.nulls & (1 << side) == 0 {
            each(&mut texts[side], pair.words[side]);
        }
    }
}

/// A word under NULL means nothing, and is 0.
fn mark_nulls(pairs: &mut [Pair], side: usize, nulls: Option<&NullBuffer>, from: usize) {
    let Some(nulls) = nulls else { return };
    for (row, pair) in pairs.iter_mut().enumerate().filter(|(row, _)| nulls.is_null(from + row)) {
        debug_assert!(from + row < nulls.len());
        pair.words[side] = 0;
        pair.nulls |= 1 << side;
    }
}
