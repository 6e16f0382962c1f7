//! Maps the key columns of a batch to dense group ids, and back.
//!
//! ```text
//!  columns ─▶ KeyCodec::encode ─▶ KeyBatch ─▶ KeyTable::assign ─▶ ids 0, 1, 2 ..   (one table for each window)
//!  columns ◀─ KeyCodec::decode ◀─ ids
//! ```
//!
//! There is one way for each shape of key: no key; one column of at most 8 bytes (the key stands in the slot beside
//! its id, so a look-up touches one cache line); two such columns; one text or binary column; two columns with a text among
//! them, which has a number ([`named`]); and everything else by Arrow's row format. NULL is a key of its own. `-0.0` and
//! `0.0` are one key, and so is every NaN.
//!
//! Keys are also kept densely by id, so that they come back as columns by a copy, and so that the slots can be given
//! up ([`KeyTable::seal`]) while a table is only read in order. They are built again when they are needed.
//!
//! An id leaves in one of two ways, and one table keeps to one of them: [`KeyTable::swap_remove`] moves the last id
//! into the gap, [`KeyTable::release`] keeps all others where they are and hands the id out again.

mod bytes;
mod columns;
mod index;
mod named;
mod pairs;

use arrow::array::*;
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::*;
use arrow::row::{RowConverter, Rows, SortField};
use bytes::{Arena, BytesPlace, bytes_ids, find_bytes};
use columns::{canonical, fits_word, from_texts, from_words, is_text, nulls_of, texts, words};
pub use index::prefetch;
use index::{Index, View, set};
use millstream_core::key::mix;
use millstream_core::{Error, Result};
use named::{Column, Named, Values};
use pairs::{Pair, Tag, find_pair, pair_ids};
use std::ops::Range;

/// How key columns become keys and come back. Shared by all tables of one operator.
pub struct KeyCodec {
    shape: Shape,
}

enum Shape {
    None,
    Word(DataType),
    Pair(DataType, DataType),
    Text(DataType),
    Named([DataType; 2]),
    Rows(RowConverter),
}

/// The keys of a batch in the form that tables look up.
pub struct KeyBatch {
    keys: Keys,
    rows: usize,
}

enum Keys {
    None,
    Word(ScalarBuffer<u64>, Option<NullBuffer>),
    Pair(Vec<Pair>),
    Text(BinaryArray),
    Named([Column; 2]),
    Rows(Rows),
}

impl KeyCodec {
    /// Fails on a type that cannot be a key.
    pub fn new(types: &[DataType]) -> Result<KeyCodec> {
        let shape = match types {
            [] => Shape::None,
            [one] if fits_word(one) => Shape::Word(one.clone()),
            [one] if is_text(one) => Shape::Text(one.clone()),
            [a, b] if fits_word(a) && fits_word(b) => Shape::Pair(a.clone(), b.clone()),
            [a, b] if [a, b].iter().all(|t| fits_word(t) || is_text(t)) => Shape::Named([a.clone(), b.clone()]),
            many => {
                let fields = many.iter().map(|t| SortField::new(t.clone())).collect();
                let converter = RowConverter::new(fields).map_err(|e| {
                    Error::sql(format!("these columns cannot be grouped by: {e}"))
                        .remedy("group by columns of plain types; pick fields out of MAP values")
                })?;
                Shape::Rows(converter)
            }
        };
        Ok(KeyCodec { shape })
    }

    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<KeyBatch> {
        let keys = match &self.shape {
            Shape::None => Keys::None,
            Shape::Word(_) => {
                Keys::Word(words(&columns[0])?, columns[0].logical_nulls().filter(|n| n.null_count() > 0))
            }
            Shape::Pair(..) => {
                let (a, b) = (words(&columns[0])?, words(&columns[1])?);
                let mut pairs: Vec<Pair> =
                    a.iter().zip(b.iter()).map(|(a, b)| Pair { words: [*a, *b], nulls: 0 }).collect();
                for (at, column) in columns.iter().enumerate() {
                    let Some(nulls) = column.logical_nulls().filter(|n| n.null_count() > 0) else { continue };
                    for (i, pair) in pairs.iter_mut().enumerate().filter(|(i, _)| nulls.is_null(*i)) {
                        debug_assert!(i < rows);
                        pair.words[at] = 0;
                        pair.nulls |= 1 << at;
                    }
                }
                Keys::Pair(pairs)
            }
            Shape::Text(_) => Keys::Text(texts(&columns[0])),
            Shape::Named(types) => {
                let column = |at: usize| -> Result<Column> {
                    let values = match is_text(&types[at]) {
                        true => Values::Texts(texts(&columns[at])),
                        false => Values::Words(words(&columns[at])?),
                    };
                    Ok(Column { values, nulls: columns[at].logical_nulls().filter(|n| n.null_count() > 0) })
                };
                Keys::Named([column(0)?, column(1)?])
            }
            Shape::Rows(converter) => {
                let columns: Vec<ArrayRef> = columns.iter().map(canonical).collect();
                Keys::Rows(converter.convert_columns(&columns)?)
            }
        };
        Ok(KeyBatch { keys, rows })
    }

    pub fn table(&self) -> KeyTable {
        let store = match &self.shape {
            Shape::None => Store::None,
            Shape::Word(_) => Store::Word(Index::default(), Vec::new()),
            Shape::Pair(..) => Store::Pair(Index::default(), Vec::new()),
            Shape::Text(_) | Shape::Rows(_) => Store::Bytes(Index::default(), Arena::default()),
            Shape::Named(types) => Store::Named(Box::new(Named::new([is_text(&types[0]), is_text(&types[1])]))),
        };
        KeyTable { store, ids: Ids::default() }
    }

    /// Whether a key is one word of 8 bytes.
    pub fn is_word(&self) -> bool {
        matches!(self.shape, Shape::Word(_))
    }

    /// Words, as [`KeyBatch::words`] gave them, as a column. `None` where a key is not a word.
    pub fn decode_words(&self, words: &[u64]) -> Option<ArrayRef> {
        match &self.shape {
            Shape::Word(kind) => Some(from_words(kind, words.to_vec(), None)),
            _ => None,
        }
    }

    /// The keys of a run of ids as columns.
    pub fn decode(&self, table: &KeyTable, ids: Range<usize>) -> Result<Vec<ArrayRef>> {
        let nulls = table.ids.null.map(|n| n as usize).filter(|n| ids.contains(n)).map(|n| n - ids.start);
        self.columns(table, ids.len(), nulls.as_slice(), ids.clone())
    }

    /// The keys of these ids as columns.
    pub fn decode_ids(&self, table: &KeyTable, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        let nulls: Vec<usize> = match table.ids.null {
            Some(null) => ids.iter().enumerate().filter(|(_, id)| **id == null).map(|(i, _)| i).collect(),
            None => Vec::new(),
        };
        self.columns(table, ids.len(), &nulls, ids.iter().map(|id| *id as usize))
    }

    fn columns(
        &self,
        table: &KeyTable,
        len: usize,
        nulls: &[usize],
        ids: impl Iterator<Item = usize>,
    ) -> Result<Vec<ArrayRef>> {
        let null_buffer = (!nulls.is_empty()).then(|| {
            let mut valid = BooleanBufferBuilder::new(len);
            valid.append_n(len, true);
            nulls.iter().for_each(|i| valid.set_bit(*i, false));
            NullBuffer::new(valid.finish())
        });
        Ok(match (&self.shape, &table.store) {
            (Shape::Word(kind), Store::Word(_, keys)) => {
                vec![from_words(kind, ids.map(|id| keys[id]).collect(), null_buffer)]
            }
            (Shape::Pair(a, b), Store::Pair(_, keys)) => {
                let pairs: Vec<Pair> = ids.map(|id| keys[id]).collect();
                let column = |at: usize, kind: &DataType| {
                    from_words(kind, pairs.iter().map(|p| p.words[at]).collect(), nulls_of(&pairs, at))
                };
                vec![column(0, a), column(1, b)]
            }
            (Shape::Text(kind), Store::Bytes(_, arena)) => {
                vec![from_texts(kind, ids.map(|id| arena.get(id as u32)), len, null_buffer)?]
            }
            (Shape::Named(types), Store::Named(named)) => {
                let pairs = named.pairs_of(ids);
                let column = |at: usize| -> Result<ArrayRef> {
                    let kind = &types[at];
                    let nulls = nulls_of(&pairs, at);
                    if !is_text(kind) {
                        return Ok(from_words(kind, pairs.iter().map(|p| p.words[at]).collect(), nulls));
                    }
                    let text =
                        |pair: &Pair| if pair.nulls & (1 << at) == 0 { named.text(at, pair.words[at]) } else { &[] };
                    from_texts(kind, pairs.iter().map(text), len, nulls)
                };
                vec![column(0)?, column(1)?]
            }
            (Shape::Rows(converter), Store::Bytes(_, arena)) => {
                let parser = converter.parser();
                converter.convert_rows(ids.map(|id| parser.parse(arena.get(id as u32))))?
            }
            _ => Vec::new(),
        })
    }
}

impl KeyBatch {
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether every key is one word and none is NULL: what [`KeyTable::visit`] is fast for.
    pub fn is_plain(&self) -> bool {
        matches!(self.keys, Keys::Word(_, None))
    }

    /// The keys as words, where a key is one; those under NULL mean nothing.
    pub fn words(&self) -> Option<&[u64]> {
        match &self.keys {
            Keys::Word(words, _) => Some(words),
            _ => None,
        }
    }
}

/// Keys with dense ids, in the order of their first appearance.
pub struct KeyTable {
    store: Store,
    ids: Ids,
}

enum Store {
    None,
    Word(Index<u64>, Vec<u64>),
    Pair(Index<Tag>, Vec<Pair>),
    Bytes(Index<u64>, Arena),
    Named(Box<Named>),
}

/// Which ids are in use.
#[derive(Default)]
struct Ids {
    len: u32,
    free: Vec<u32>,
    /// The id of the NULL key, where the shape keeps it apart from the others.
    null: Option<u32>,
}

impl Ids {
    fn next(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.len += 1;
            self.len - 1
        })
    }
}

impl KeyTable {
    /// No id of any key.
    pub const UNKNOWN: u32 = u32::MAX;

    /// Every id is below this. Without `release` and `extra`, it is the number of keys.
    pub fn len(&self) -> usize {
        self.ids.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.ids.len == 0
    }

    /// The id of each row's key; keys not yet known get the next ids. Overwrites `ids`.
    pub fn assign(&mut self, batch: &KeyBatch, rows: Range<usize>, ids: &mut Vec<u32>) {
        self.unseal();
        ids.clear();
        let known = &mut self.ids;
        match (&mut self.store, &batch.keys) {
            (Store::Word(index, keys), Keys::Word(words, nulls)) => {
                let words = &words[rows.start..rows.end];
                match nulls {
                    Some(nulls) => ids.extend(words.iter().zip(rows).map(|(word, row)| {
                        if nulls.is_valid(row) { word_id(index, keys, known, *word) } else { null_id(keys, known) }
                    })),
                    None if index.is_large() => ids.extend(words.iter().enumerate().map(|(i, word)| {
                        if let Some(ahead) = words.get(i + AHEAD) {
                            index.prefetch(*ahead);
                        }
                        word_id(index, keys, known, *word)
                    })),
                    None => ids.extend(words.iter().map(|word| word_id(index, keys, known, *word))),
                }
            }
            (Store::Pair(index, keys), Keys::Pair(pairs)) => {
                pair_ids(index, keys, known, &pairs[rows.start..rows.end], ids, |_| {});
            }
            (Store::Bytes(index, arena), Keys::Text(texts)) => {
                bytes_ids(index, arena, known, rows, |row| texts.is_valid(row).then(|| texts.value(row)), ids);
            }
            (Store::Bytes(index, arena), Keys::Rows(texts)) => {
                bytes_ids(index, arena, known, rows, |row| Some(texts.row(row).data()), ids);
            }
            (Store::Named(named), Keys::Named(columns)) => named.assign(columns, rows, known, ids),
            // Without key columns every row is in group 0.
            _ => {
                known.len = known.len.max(u32::from(!rows.is_empty()));
                ids.resize(rows.len(), 0);
            }
        }
    }

    /// The id of each row's key, [`KeyTable::UNKNOWN`] for keys that are not here. Overwrites `ids`. The table stays as it is,
    /// so that several tasks can share one.
    pub fn find_all(&self, batch: &KeyBatch, ids: &mut Vec<u32>) {
        ids.clear();
        if self.is_empty() {
            ids.resize(batch.rows, Self::UNKNOWN);
            return;
        }
        let null = self.ids.null.unwrap_or(Self::UNKNOWN);
        match (&self.store, &batch.keys) {
            (Store::Word(index, _), Keys::Word(words, nulls)) => {
                ids.extend(words.iter().take(batch.rows).enumerate().map(|(row, word)| {
                    if let Some(ahead) = words.get(row + AHEAD) {
                        index.prefetch(*ahead);
                    }
                    match nulls {
                        Some(nulls) if nulls.is_null(row) => null,
                        _ => index.find(*word, |_| true).unwrap_or(Self::UNKNOWN),
                    }
                }));
            }
            (Store::Pair(index, keys), Keys::Pair(pairs)) => {
                ids.extend(pairs.iter().map(|pair| find_pair(index, keys, *pair)));
            }
            (Store::Bytes(index, arena), Keys::Text(texts)) => ids.extend(
                (0..batch.rows)
                    .map(|row| if texts.is_null(row) { null } else { find_bytes(index, arena, texts.value(row)) }),
            ),
            (Store::Bytes(index, arena), Keys::Rows(texts)) => {
                ids.extend((0..batch.rows).map(|row| find_bytes(index, arena, texts.row(row).data())));
            }
            (Store::Named(named), Keys::Named(columns)) => named.find_all(columns, batch.rows, ids),
            // Without key columns there is group 0.
            _ => ids.resize(batch.rows, 0),
        }
    }

    /// Gives each row with the id of its key to `each`, new keys with new ids as [`KeyTable::assign`] does, until it
    /// answers `false`. Returns the row and the id that were refused; the rows behind them have not been looked up.
    ///
    /// What `each` does for a row then overlaps with the look-ups of the next ones, which pays where it is little.
    /// One pass for plain keys ([`KeyBatch::is_plain`]); others are looked up row by row.
    #[inline]
    pub fn visit(
        &mut self,
        batch: &KeyBatch,
        rows: Range<usize>,
        mut each: impl FnMut(usize, u32) -> bool,
    ) -> Option<(usize, u32)> {
        let (Store::Word(..), Keys::Word(words, None)) = (&self.store, &batch.keys) else {
            let mut ids = Vec::with_capacity(1);
            return rows.into_iter().find_map(|row| {
                self.assign(batch, row..row + 1, &mut ids);
                (!each(row, ids[0])).then_some((row, ids[0]))
            });
        };
        self.unseal();
        let Store::Word(index, keys) = &mut self.store else { return None };
        let words = &words[..rows.end];
        let mut from = rows.start;
        while from < words.len() {
            // The slots stay where they are until a new key comes, so the loop holds them in registers.
            let stop = match index.is_far() {
                true => visit_known::<true>(index.view(), words, from, &mut each),
                false => visit_known::<false>(index.view(), words, from, &mut each),
            };
            let (row, at) = match stop? {
                (row, Ok(id)) => return Some((row, id)),
                (row, Err(at)) => (row, at),
            };
            let id = self.ids.next();
            set(keys, id, words[row]);
            index.put(at, words[row], id);
            if !each(row, id) {
                return Some((row, id));
            }
            from = row + 1;
        }
        None
    }

    /// The id here of each key of `other` (of the same codec), by its id there. Overwrites `ids`. Ids that `other` has
    /// released must not be asked for.
    pub fn assign_all(&mut self, other: &KeyTable, ids: &mut Vec<u32>) {
        self.unseal();
        ids.clear();
        let known = &mut self.ids;
        match (&mut self.store, &other.store) {
            (Store::Word(index, keys), Store::Word(_, words)) => {
                ids.extend(words.iter().enumerate().map(|(i, word)| {
                    if let Some(ahead) = words.get(i + AHEAD) {
                        index.prefetch(*ahead);
                    }
                    if other.ids.null == Some(i as u32) {
                        null_id(keys, known)
                    } else {
                        word_id(index, keys, known, *word)
                    }
                }));
            }
            (Store::Pair(index, keys), Store::Pair(_, pairs)) => pair_ids(index, keys, known, pairs, ids, |_| {}),
            (Store::Bytes(index, arena), Store::Bytes(_, texts)) => {
                let key = |i: usize| (other.ids.null != Some(i as u32)).then(|| texts.get(i as u32));
                bytes_ids(index, arena, known, 0..other.ids.len as usize, key, ids);
            }
            (Store::Named(named), Store::Named(others)) => named.assign_all(others, known, ids),
            _ => {
                known.len = known.len.max(other.ids.len);
                ids.extend(0..other.ids.len);
            }
        }
    }

    /// Which of `ranges` ranges the key of this id is in: the same in every table of one codec, and independent of the
    /// key groups, so that the keys of one task are spread over all ranges too.
    #[inline]
    pub fn range(&self, id: u32, ranges: usize) -> usize {
        if self.ids.null == Some(id) {
            return 0;
        }
        let hash = match &self.store {
            Store::None => return 0,
            Store::Word(_, keys) => mix(keys[id as usize]),
            Store::Pair(_, keys) => {
                let Pair { words, nulls } = keys[id as usize];
                mix(mix(words[0]).rotate_left(17) ^ words[1] ^ u64::from(nulls))
            }
            Store::Bytes(_, arena) => mix(arena.hash(id)),
            Store::Named(named) => named.hash(id),
        };
        // The upper half of the bits, multiplied down.
        ((hash >> 32) as usize * ranges) >> 32
    }

    /// An id without a key, for state that belongs to a key which has an id already. Given back by `release_extra`.
    pub fn extra(&mut self) -> u32 {
        self.ids.next()
    }

    pub fn release_extra(&mut self, id: u32) {
        self.ids.free.push(id);
    }

    /// Forgets the key of this id; all other ids stay. The id will be handed out again.
    pub fn release(&mut self, id: u32) {
        self.unseal();
        self.forget(id);
        // Without key columns, 0 is the id of every row for ever.
        if !matches!(self.store, Store::None) {
            self.ids.free.push(id);
        }
    }

    /// Forgets the key of this id. The key of the last id gets this one, as in `Vec::swap_remove`.
    pub fn swap_remove(&mut self, id: u32) {
        self.unseal();
        debug_assert!(self.ids.free.is_empty(), "one table, one way to remove");
        self.forget(id);
        let last = self.ids.len - 1;
        if id != last {
            let moved_null = self.ids.null == Some(last);
            if moved_null {
                self.ids.null = Some(id);
            }
            match &mut self.store {
                Store::None => {}
                Store::Word(index, keys) => {
                    if !moved_null {
                        index.rename(keys[last as usize], last, id);
                    }
                }
                Store::Pair(index, keys) => index.rename(keys[last as usize].tag(), last, id),
                Store::Bytes(index, arena) => {
                    if !moved_null {
                        index.rename(arena.hash(last), last, id);
                    }
                }
                // It moves the key itself.
                Store::Named(_) => {}
            }
        }
        match &mut self.store {
            Store::None => {}
            Store::Word(_, keys) => drop(keys.swap_remove(id as usize)),
            Store::Pair(_, keys) => drop(keys.swap_remove(id as usize)),
            Store::Bytes(_, arena) => arena.swap_remove(id),
            Store::Named(named) => named.swap_remove(id, last),
        }
        self.ids.len = last;
    }

    /// Takes the key out of the index.
    fn forget(&mut self, id: u32) {
        if self.ids.null == Some(id) {
            self.ids.null = None;
            return;
        }
        match &mut self.store {
            Store::None => {}
            Store::Word(index, keys) => index.remove(keys[id as usize], id),
            Store::Pair(index, keys) => index.remove(keys[id as usize].tag(), id),
            Store::Bytes(index, arena) => index.remove(arena.hash(id), id),
            Store::Named(named) => named.forget(id),
        }
    }

    /// Empties the table and keeps its memory, unless it was hardly used.
    pub fn clear(&mut self) {
        let len = self.ids.len as usize;
        self.ids = Ids::default();
        match &mut self.store {
            Store::None => {}
            Store::Word(index, keys) => {
                index.clear(len);
                keys.clear();
            }
            Store::Pair(index, keys) => {
                index.clear(len);
                keys.clear();
            }
            Store::Bytes(index, arena) => {
                index.clear(len);
                arena.clear();
            }
            Store::Named(named) => named.clear(len),
        }
    }

    /// Gives up the slots of a table that is only read in order from now on. They are built again when needed. What
    /// comes back is an empty table that goes on with their memory. Not for a table that releases ids.
    pub fn seal(&mut self) -> KeyTable {
        let len = self.len();
        let store = match &mut self.store {
            Store::None => Store::None,
            Store::Word(index, keys) => {
                keys.shrink_to_fit();
                Store::Word(std::mem::take(index), Vec::new())
            }
            Store::Pair(index, keys) => {
                keys.shrink_to_fit();
                Store::Pair(std::mem::take(index), Vec::new())
            }
            Store::Bytes(index, arena) => {
                arena.bytes.shrink_to_fit();
                arena.places.shrink_to_fit();
                Store::Bytes(std::mem::take(index), Arena::default())
            }
            Store::Named(named) => Store::Named(Box::new(named.seal())),
        };
        let mut spare = KeyTable { store, ids: Ids { len: len as u32, ..Ids::default() } };
        spare.clear();
        spare
    }

    fn unseal(&mut self) {
        let null = self.ids.null;
        let live = |id: usize| null != Some(id as u32);
        match &mut self.store {
            Store::Word(index, keys) if index.slots.is_empty() => {
                index.rebuild(keys.len(), (0..keys.len()).filter(|id| live(*id)).map(|id| (keys[id], id as u32)));
            }
            Store::Pair(index, keys) if index.slots.is_empty() => {
                index.rebuild(keys.len(), (0..keys.len()).map(|id| (keys[id].tag(), id as u32)));
            }
            Store::Bytes(index, arena) if index.slots.is_empty() => {
                let len = arena.places.len();
                index.rebuild(len, (0..len).filter(|id| live(*id)).map(|id| (arena.places[id].hash, id as u32)));
            }
            Store::Named(named) => named.unseal(),
            _ => {}
        }
    }

    /// Bytes held, by capacity.
    pub fn bytes(&self) -> usize {
        let store = match &self.store {
            Store::None => 0,
            Store::Word(index, keys) => index.bytes() + keys.capacity() * 8,
            Store::Pair(index, keys) => index.bytes() + keys.capacity() * size_of::<Pair>(),
            Store::Bytes(index, arena) => {
                index.bytes() + arena.bytes.capacity() + arena.places.capacity() * size_of::<BytesPlace>()
            }
            Store::Named(named) => named.bytes(),
        };
        store + self.ids.free.capacity() * 4
    }
}

/// Rows that a look-up [asks the memory for](prefetch) in advance.
pub const AHEAD: usize = 16;

/// Visits rows until one is refused (that row and its id) or not known (that row and the slot for its key).
#[inline(always)]
fn visit_known<const PREFETCH: bool>(
    known: View<'_, u64>,
    words: &[u64],
    from: usize,
    each: &mut impl FnMut(usize, u32) -> bool,
) -> Option<(usize, std::result::Result<u32, usize>)> {
    for (row, word) in words.iter().enumerate().skip(from) {
        if PREFETCH && let Some(ahead) = words.get(row + AHEAD) {
            known.prefetch(*ahead);
        }
        match known.find(*word) {
            Ok(id) if each(row, id) => {}
            stop => return Some((row, stop)),
        }
    }
    None
}

#[inline(always)]
fn word_id(index: &mut Index<u64>, keys: &mut Vec<u64>, known: &mut Ids, word: u64) -> u32 {
    match index.find(word, |_| true) {
        Ok(id) => id,
        Err(at) => {
            let id = known.next();
            set(keys, id, word);
            index.put(at, word, id);
            id
        }
    }
}

fn null_id(keys: &mut Vec<u64>, known: &mut Ids) -> u32 {
    known.null.unwrap_or_else(|| {
        let id = known.next();
        set(keys, id, 0);
        known.null = Some(id);
        id
    })
}

#[cfg(test)]
mod tests;
