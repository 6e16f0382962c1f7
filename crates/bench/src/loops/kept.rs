//! What the loops over all events keep of rows: lists by key, texts that are copied once, columns that are kept as they are.

use super::events::field;
use crate::data::{numbers_of, text_of};
use arrow::array::{ArrayRef, RecordBatch};

/// Lists that only grow, all in one vector; the newest row of a list comes first.
pub struct Chains<T> {
    rows: Vec<(T, u32)>,
}

/// A list: one more than the place of its newest row, or 0 for none.
pub type Chain = u32;

impl<T> Default for Chains<T> {
    fn default() -> Self {
        Chains { rows: Vec::new() }
    }
}

impl<T> Chains<T> {
    #[inline(always)]
    pub fn push(&mut self, chain: &mut Chain, row: T) {
        self.rows.push((row, *chain));
        *chain = self.rows.len() as u32;
    }

    /// The rows with their places, newest first.
    #[inline(always)]
    pub fn walk(&self, chain: Chain) -> impl Iterator<Item = (u32, &T)> {
        let mut next = chain;
        std::iter::from_fn(move || {
            let at = next.checked_sub(1)?;
            let (row, before) = &self.rows[at as usize];
            next = *before;
            Some((at, row))
        })
    }

    /// The rows of all lists, as they came.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.rows.iter().map(|(row, _)| row)
    }

    #[inline(always)]
    pub fn get(&self, at: u32) -> &T {
        &self.rows[at as usize].0
    }
}

/// Bytes of a block of [`Texts`].
const BLOCK: usize = 1 << 20;

/// Texts that are kept for good, copied once into blocks that never move.
#[derive(Default)]
pub struct Texts {
    blocks: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Default)]
pub struct Span {
    block: u32,
    at: u32,
    length: u32,
}

impl Texts {
    pub fn put(&mut self, text: &[u8]) -> Span {
        if self.blocks.last().is_none_or(|b| b.len() + text.len() > b.capacity()) {
            self.blocks.push(Vec::with_capacity(BLOCK.max(text.len())));
        }
        let block = self.blocks.len() - 1;
        let bytes = &mut self.blocks[block];
        let at = bytes.len() as u32;
        bytes.extend_from_slice(text);
        Span { block: block as u32, at, length: text.len() as u32 }
    }

    #[inline(always)]
    pub fn get(&self, span: Span) -> &[u8] {
        &self.blocks[span.block as usize][span.at as usize..][..span.length as usize]
    }
}

/// Columns of bids, batch by batch as they came: nearly all rows are bids, so that to keep the columns is to keep the rows, and
/// nothing is copied.
pub struct Bids<const N: usize, const T: usize> {
    numbers: [&'static str; N],
    texts: [&'static str; T],
    batches: Vec<([ArrayRef; N], [ArrayRef; T])>,
}

/// A row of one of the batches.
#[derive(Clone, Copy)]
pub struct Place {
    batch: u32,
    row: u32,
}

impl<const N: usize, const T: usize> Bids<N, T> {
    pub fn of(numbers: [&'static str; N], texts: [&'static str; T]) -> Self {
        Bids { numbers, texts, batches: Vec::new() }
    }

    pub fn keep(&mut self, batch: &RecordBatch) {
        let column = |name| field(batch, "bid", name).expect("the loop is given the fields that it reads").clone();
        self.batches.push((self.numbers.map(column), self.texts.map(column)));
    }

    /// The place of a row of the batch that was kept last.
    #[inline(always)]
    pub fn place(&self, row: usize) -> Place {
        Place { batch: self.batches.len() as u32 - 1, row: row as u32 }
    }

    #[inline(always)]
    pub fn numbers(&self, place: Place) -> [i64; N] {
        let columns = &self.batches[place.batch as usize].0;
        std::array::from_fn(|c| numbers_of(Some(&columns[c]))[place.row as usize])
    }

    #[inline(always)]
    pub fn texts(&self, place: Place) -> [&[u8]; T] {
        let columns = &self.batches[place.batch as usize].1;
        std::array::from_fn(|c| text_of(Some(&columns[c])).get(place.row as usize))
    }
}
