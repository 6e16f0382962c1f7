//! Rows that a join remembers, in columns, each under a number that stays.
//!
//! ```text
//!  slots    0 1 2 3 4 5 6 ..     a row's number; given out again when the row has gone
//!           │ │ │ │ │ │ │
//!  chunks  [A0 A1 A2][B0 B1]..   immutable columns, mostly as they came
//! ```
//!
//! A chunk is let go with its last row. Chunks of few rows, and those of which more than half has gone, are copied
//! together when there are [`TIDY`] of them, so what is held stays in proportion to what is alive, at a cost for each
//! row that is bounded, and without a pause.

use crate::operator::ROWS_MAX;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::{interleave, take};
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Result};

/// No slot: where a row has no partner.
pub(super) const NONE: u32 = u32::MAX;

/// A chunk of fewer rows is copied together with others.
const SMALL: usize = 1_024;

/// So many chunks are small or mostly dead before they are copied together.
const TIDY: usize = 32;

pub(super) struct Rows {
    schema: SchemaRef,
    chunks: Vec<Option<Chunk>>,
    free_chunks: Vec<u32>,
    /// By slot. A slot without a row has the chunk `NONE`.
    places: Vec<Place>,
    free: Vec<u32>,
    untidy: Vec<u32>,
    live: usize,
    bytes: usize,
    /// Scratch space: where each chunk stands among the sources of a gather, by chunk.
    sources: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Place {
    chunk: u32,
    row: u32,
}

const NOWHERE: Place = Place { chunk: NONE, row: 0 };

struct Chunk {
    rows: RecordBatch,
    /// The slot of each row.
    slots: Vec<u32>,
    live: usize,
    bytes: usize,
    untidy: bool,
}

impl Rows {
    pub fn new(schema: SchemaRef) -> Rows {
        Rows {
            schema,
            chunks: Vec::new(),
            free_chunks: Vec::new(),
            places: Vec::new(),
            free: Vec::new(),
            untidy: Vec::new(),
            live: 0,
            bytes: 0,
            sources: Vec::new(),
        }
    }

    /// Every slot is below this.
    pub fn slots(&self) -> usize {
        self.places.len()
    }

    pub fn len(&self) -> usize {
        self.live
    }

    #[inline]
    pub fn is_live(&self, slot: u32) -> bool {
        self.places.get(slot as usize).is_some_and(|p| p.chunk != NONE)
    }

    /// A slot for a row that is about to come.
    pub fn next_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(NOWHERE);
            self.places.len() as u32 - 1
        })
    }

    /// Takes rows in, each under its slot.
    pub fn add(&mut self, rows: RecordBatch, slots: Vec<u32>) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        debug_assert_eq!(rows.num_rows(), slots.len());
        self.live += slots.len();
        self.push(own(rows)?, slots);
        if self.untidy.len() >= TIDY { self.tidy() } else { Ok(()) }
    }

    fn push(&mut self, rows: RecordBatch, slots: Vec<u32>) {
        let at = self.free_chunks.pop().unwrap_or_else(|| {
            self.chunks.push(None);
            self.chunks.len() as u32 - 1
        });
        for (row, slot) in slots.iter().enumerate() {
            if self.places.len() <= *slot as usize {
                self.places.resize(*slot as usize + 1, NOWHERE);
            }
            self.places[*slot as usize] = Place { chunk: at, row: row as u32 };
        }
        let bytes = Batch::from(rows.clone()).bytes() + slots.len() * size_of::<u32>();
        self.bytes += bytes;
        let (live, untidy) = (slots.len(), slots.len() < SMALL);
        if untidy {
            self.untidy.push(at);
        }
        self.chunks[at as usize] = Some(Chunk { rows, slots, live, bytes, untidy });
    }

    /// Forgets a row. Its slot is given out again, unless the caller has slots of its own.
    pub fn remove(&mut self, slot: u32, reuse: bool) {
        let place = std::mem::replace(&mut self.places[slot as usize], NOWHERE);
        if reuse {
            self.free.push(slot);
        }
        self.live -= 1;
        let Some(chunk) = &mut self.chunks[place.chunk as usize] else { return };
        chunk.live -= 1;
        if chunk.live == 0 {
            self.bytes -= chunk.bytes;
            self.chunks[place.chunk as usize] = None;
            self.free_chunks.push(place.chunk);
        } else if !chunk.untidy && chunk.live * 2 < chunk.slots.len() {
            chunk.untidy = true;
            self.untidy.push(place.chunk);
        }
    }

    /// Copies the chunks together that are small or mostly dead. After rows have been removed, and by itself when rows
    /// come.
    pub fn tidy(&mut self) -> Result<()> {
        // A chunk may have gone, and another have come in its place: that one is in the list by itself.
        self.untidy.sort_unstable();
        self.untidy.dedup();
        let untidy = std::mem::take(&mut self.untidy);
        let there = |at: &u32| self.chunks[*at as usize].as_ref().is_some_and(|c| c.untidy);
        let untidy: Vec<u32> = untidy.into_iter().filter(there).collect();
        if untidy.len() < TIDY {
            self.untidy = untidy;
            return Ok(());
        }
        let mut slots = Vec::new();
        for at in &untidy {
            let chunk = self.chunks[*at as usize].as_ref().expect("only chunks that are there were kept");
            let stays = |(row, slot): (usize, &u32)| {
                let place = self.places[*slot as usize];
                place.chunk == *at && place.row as usize == row
            };
            slots.extend(chunk.slots.iter().enumerate().filter(|(r, s)| stays((*r, *s))).map(|(_, s)| *s));
        }
        let mut copies = Vec::new();
        for slots in slots.chunks(ROWS_MAX) {
            copies.push((self.rows_at(slots)?, slots.to_vec()));
        }
        for at in untidy {
            self.bytes -= self.chunks[at as usize].take().map_or(0, |c| c.bytes);
            self.free_chunks.push(at);
        }
        copies.into_iter().for_each(|(rows, slots)| self.push(rows, slots));
        Ok(())
    }

    /// Columns of the rows at these slots; a row of NULLs for `NONE`.
    pub fn gather(&mut self, slots: &[u32], columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let mut chunks: Vec<u32> = Vec::new();
        let mut nulls = false;
        self.sources.resize(self.chunks.len(), NONE);
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(slots.len());
        for slot in slots {
            if *slot == NONE {
                nulls = true;
                places.push((usize::MAX, 0));
                continue;
            }
            let place = self.places[*slot as usize];
            let source = &mut self.sources[place.chunk as usize];
            if *source == NONE {
                *source = chunks.len() as u32;
                chunks.push(place.chunk);
            }
            places.push((*source as usize, place.row as usize));
        }
        chunks.iter().for_each(|c| self.sources[*c as usize] = NONE);
        if nulls {
            places.iter_mut().filter(|p| p.0 == usize::MAX).for_each(|p| p.0 = chunks.len());
        }
        let chunk = |at: u32| &self.chunks[at as usize].as_ref().expect("a place points into a chunk").rows;
        if let ([one], false) = (chunks.as_slice(), nulls) {
            let rows: UInt32Array = places.iter().map(|p| p.1 as u32).collect::<Vec<_>>().into();
            return columns.iter().map(|c| Ok(take(chunk(*one).column(*c), &rows, None)?)).collect();
        }
        let mut gathered = Vec::with_capacity(columns.len());
        for column in columns {
            let null = nulls.then(|| new_null_array(self.schema.field(*column).data_type(), 1));
            if chunks.is_empty() {
                gathered.push(new_null_array(self.schema.field(*column).data_type(), slots.len()));
                continue;
            }
            let sources: Vec<_> =
                chunks.iter().map(|c| chunk(*c).column(*column).as_ref()).chain(null.as_deref()).collect();
            gathered.push(interleave(&sources, &places)?);
        }
        Ok(gathered)
    }

    /// The rows at these slots.
    pub fn rows_at(&mut self, slots: &[u32]) -> Result<RecordBatch> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let columns = self.gather(slots, &all)?;
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// The slots that have a row.
    pub fn live_slots(&self) -> Vec<u32> {
        (0..self.places.len() as u32).filter(|s| self.is_live(*s)).collect()
    }

    pub fn bytes(&self) -> usize {
        self.bytes + self.places.capacity() * size_of::<Place>() + (self.free.capacity() + self.sources.capacity()) * 4
    }
}

/// The rows without the rest of larger buffers that they are a slice of.
fn own(rows: RecordBatch) -> Result<RecordBatch> {
    let needed = Batch::from(rows.clone()).bytes();
    if rows.get_array_memory_size() <= needed * 2 + 4_096 {
        return Ok(rows);
    }
    let all: UInt32Array = (0..rows.num_rows() as u32).collect::<Vec<_>>().into();
    crate::rows::take_rows(&rows, &all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use std::sync::Arc;

    fn rows(values: std::ops::Range<i64>) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)]);
        let texts: StringArray = values.clone().map(|v| Some(format!("row {v}"))).collect();
        let numbers = Int64Array::from_iter_values(values);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers), Arc::new(texts)]).expect("two columns")
    }

    #[test]
    fn rows_keep_their_slots_while_chunks_are_copied_together() {
        let mut store = Rows::new(rows(0..0).schema());
        let mut alive = std::collections::BTreeMap::new();
        let mut next = 0;
        for round in 0..200usize {
            let many = [1, 7, 300, 3_000][round % 4];
            let slots: Vec<u32> = (0..many).map(|_| store.next_slot()).collect();
            slots.iter().enumerate().for_each(|(i, s)| assert!(alive.insert(*s, next + i as i64).is_none()));
            store.add(rows(next..next + many as i64), slots).expect("rows of the schema");
            next += many as i64;
            // Two of three go, so that chunks die slowly.
            let gone: Vec<u32> = alive.keys().copied().filter(|s| s % 3 != round as u32 % 3).collect();
            for slot in gone {
                alive.remove(&slot);
                store.remove(slot, true);
            }
            store.tidy().expect("the copy succeeds");
            let mut slots: Vec<u32> = alive.keys().copied().collect();
            slots.push(NONE);
            let got = store.gather(&slots, &[1, 0]).expect("the rows are there");
            let numbers = got[1].as_primitive::<Int64Type>();
            assert_eq!(numbers.iter().flatten().collect::<Vec<_>>(), alive.values().copied().collect::<Vec<_>>());
            assert!(numbers.iter().last() == Some(None) && store.len() == alive.len());
            assert!(
                got[0].as_string::<i32>().iter().flatten().zip(alive.values()).all(|(t, v)| t == format!("row {v}"))
            );
        }
        let held: usize = store.chunks.iter().flatten().map(|c| c.slots.len()).sum();
        assert!(held < store.len() * 2 + TIDY * 3_000, "{held} rows are held for {}", store.len());
        store.live_slots().into_iter().for_each(|s| store.remove(s, true));
        assert_eq!((store.len(), store.chunks.iter().flatten().count()), (0, 0));
    }
}
