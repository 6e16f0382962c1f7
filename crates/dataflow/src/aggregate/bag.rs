//! Multisets: which values a group has and how often, for calls over rows that may be taken back.
//!
//! ```text
//!  rows ──encode──▶ value (and place) ──▶ Bag of the group: value ─▶ count     MIN, MAX, FIRST_VALUE, lists, multisets: read in order
//!                                           └─ 0 ◀─▶ 1 ──▶ rows that turned their value   DISTINCT: counted by the cells
//! ```
//!
//! Calls on the same argument and filter share a bag. Counts have a sign: a row that was never there can be taken back and
//! leaves a debt, so what a group holds in the end does not depend on the order of its rows. What counts zero is not kept.
//!
//! Lists and FIRST_VALUE keep each value with its place in the table, where the input has one. A row that is taken back names
//! its value, but not always its place: what a database tells of a deletion has the place of the deletion. So it takes the
//! value at its own place if that is there, and otherwise the earliest of its value.

mod read;

use super::cells::from_ordered;
use super::input::{self, LaneKind};
use arrow::array::*;
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::{Error, Result};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Values that a bag keeps side by side; more go into a tree.
const FEW_MAX: usize = 32;

/// Bytes of a value's place in its key.
const PLACE: usize = 8;

/// Notes for a save that are kept as they come.
const NOTES_MIN: usize = 256;

/// What a tree takes for an entry beside the value itself, about.
const ENTRY_BYTES: usize = 16;

/// Which values are kept, and how.
pub(super) struct BagSpec {
    pub args: Vec<usize>,
    /// The column of the place in the table.
    pub order: Option<usize>,
    /// By index into the plan's filters.
    pub filter: Option<usize>,
    /// Whether NULL is a value.
    pub nulls: bool,
    /// Whether the values are kept in the order of their places as well.
    pub by_place: bool,
    types: Vec<DataType>,
    form: Form,
}

enum Form {
    /// As an integer of the same order.
    Word,
    /// As bytes of the same order, in Arrow's row format.
    Bytes(RowConverter),
}

/// What is read of a bag.
pub(super) enum BagRead {
    Least,
    Greatest,
    /// By place, then by value.
    First,
    Last,
    /// All values, by place and then by value; `once`: each value once.
    List {
        separator: String,
        once: bool,
    },
    Array {
        once: bool,
    },
    /// Each value with its count.
    Multiset {
        once: bool,
    },
}

/// The values of a batch.
pub(super) struct BagInput {
    keys: InputKeys,
    /// NULLs, where they are no values.
    nulls: Option<NullBuffer>,
    places: Option<Vec<i64>>,
}

enum InputKeys {
    Words(ScalarBuffer<i64>),
    Rows(Rows),
}

/// A value as a bag keeps it.
trait Key: Ord + Clone + Send + Borrow<<Self as Key>::Ref> + 'static {
    type Ref: Ord + ?Sized;
    fn of(key: &Self::Ref) -> Self;
    /// Bytes on the heap.
    fn heap(&self) -> usize;
}

impl Key for i64 {
    type Ref = i64;
    fn of(key: &i64) -> i64 {
        *key
    }
    fn heap(&self) -> usize {
        0
    }
}

impl Key for Box<[u8]> {
    type Ref = [u8];
    fn of(key: &[u8]) -> Box<[u8]> {
        key.into()
    }
    fn heap(&self) -> usize {
        self.len()
    }
}

/// How often a value is there; below zero, it is owed. Beside it stands whether a save has been told of a change.
#[derive(Clone, Copy)]
struct Count(i64);

impl Count {
    fn new(n: i64, noted: bool) -> Count {
        Count(n << 1 | i64::from(noted))
    }

    fn n(self) -> i64 {
        self.0 >> 1
    }

    fn noted(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Values and their counts, none of which is zero.
enum Entries<K> {
    Few(Vec<(K, Count)>),
    Many(BTreeMap<K, Count>),
}

impl<K> Default for Entries<K> {
    fn default() -> Self {
        Entries::Few(Vec::new())
    }
}

/// What a change of a count has met.
struct Met {
    before: i64,
    /// A save is to be told of it, and has not been yet.
    note: bool,
}

/// Bytes of an entry, about.
fn entry_bytes<K: Key>(key: &K) -> usize {
    size_of::<(K, Count)>() + ENTRY_BYTES + key.heap()
}

impl<K: Key> Entries<K> {
    /// Changes the count of a value.
    fn change(&mut self, key: &K::Ref, by: i64, track: bool, held: &mut usize) -> Met {
        let fresh = Met { before: 0, note: track };
        let known = |count: &mut Count| {
            let met = Met { before: count.n(), note: track && !count.noted() };
            *count = Count::new(met.before + by, track || count.noted());
            met
        };
        match self {
            Entries::Few(few) => match few.binary_search_by(|(k, _)| Borrow::<K::Ref>::borrow(k).cmp(key)) {
                Ok(at) => {
                    let met = known(&mut few[at].1);
                    if few[at].1.n() == 0 {
                        *held = held.saturating_sub(entry_bytes(&few.remove(at).0));
                    }
                    met
                }
                Err(at) => {
                    let key = K::of(key);
                    *held += entry_bytes(&key);
                    few.insert(at, (key, Count::new(by, track)));
                    if few.len() > FEW_MAX {
                        *self = Entries::Many(std::mem::take(few).into_iter().collect());
                    }
                    fresh
                }
            },
            Entries::Many(many) => match many.get_mut(key) {
                Some(count) => {
                    let met = known(count);
                    if count.n() == 0
                        && let Some((key, _)) = many.remove_entry(key)
                    {
                        *held = held.saturating_sub(entry_bytes(&key));
                    }
                    met
                }
                None => {
                    let key = K::of(key);
                    *held += entry_bytes(&key);
                    many.insert(key, Count::new(by, track));
                    fresh
                }
            },
        }
    }

    fn get_mut(&mut self, key: &K::Ref) -> Option<&mut Count> {
        match self {
            Entries::Few(few) => {
                let at = few.binary_search_by(|(k, _)| Borrow::<K::Ref>::borrow(k).cmp(key)).ok()?;
                Some(&mut few[at].1)
            }
            Entries::Many(many) => many.get_mut(key),
        }
    }

    /// Everything, in order.
    fn all(&self) -> Box<dyn DoubleEndedIterator<Item = (&K, i64)> + '_> {
        match self {
            Entries::Few(few) => Box::new(few.iter().map(|(k, n)| (k, n.n()))),
            Entries::Many(many) => Box::new(many.iter().map(|(k, n)| (k, n.n()))),
        }
    }

    /// What is there, in order: debts are not.
    fn present(&self) -> impl DoubleEndedIterator<Item = (&K, i64)> {
        self.all().filter(|(_, n)| *n > 0)
    }

    /// The least value that is there and not below `from`.
    fn from(&self, from: &K::Ref) -> Option<&K> {
        use std::ops::Bound::{Included, Unbounded};
        match self {
            Entries::Few(few) => {
                let at = few.partition_point(|(k, _)| Borrow::<K::Ref>::borrow(k) < from);
                few[at..].iter().find(|(_, n)| n.n() > 0).map(|(k, _)| k)
            }
            Entries::Many(many) => {
                many.range::<K::Ref, _>((Included(from), Unbounded)).find(|(_, n)| n.n() > 0).map(|(k, _)| k)
            }
        }
    }

    fn bytes(&self) -> usize {
        self.all().map(|(k, _)| entry_bytes(k)).sum()
    }
}

/// What a group has.
struct Bag<K> {
    entries: Entries<K>,
    /// What a save is to be told of.
    changed: Vec<K>,
}

impl<K> Default for Bag<K> {
    fn default() -> Self {
        Bag { entries: Entries::default(), changed: Vec::new() }
    }
}

impl<K: Key> Bag<K> {
    /// Takes note of a value for the next save. A value that comes and goes is noted each time that it comes, so where the notes
    /// are as many as a power of two, they are sorted and each is kept once.
    fn note(&mut self, key: &K::Ref, held: &mut usize) {
        let key = K::of(key);
        *held += size_of::<K>() + key.heap();
        self.changed.push(key);
        if self.changed.len() >= NOTES_MIN && self.changed.len().is_power_of_two() {
            *held = held.saturating_sub(self.notes_bytes());
            self.changed.sort_unstable();
            self.changed.dedup();
            *held += self.notes_bytes();
        }
    }

    fn notes_bytes(&self) -> usize {
        self.changed.iter().map(|k| size_of::<K>() + k.heap()).sum()
    }

    fn bytes(&self) -> usize {
        self.entries.bytes() + self.notes_bytes()
    }
}

enum Bags {
    Words(Vec<Bag<i64>>),
    Bytes(Vec<Bag<Box<[u8]>>>),
}

/// The bags of all groups.
pub(super) struct BagSet {
    bags: Bags,
    /// The same values by place, for FIRST_VALUE and LAST_VALUE. Empty where nobody asks.
    by_place: Vec<Entries<Box<[u8]>>>,
    /// Rows of the last change that made a value appear, or disappear.
    turned: Vec<u32>,
    track: bool,
    held: usize,
}

/// Entries of a bag, as a table keeps them.
#[derive(Default)]
pub struct BagRows {
    pub groups: Vec<u32>,
    /// One column for each argument, and the place where it is kept.
    pub columns: Vec<ArrayRef>,
    pub counts: Vec<i64>,
}

impl BagSpec {
    pub fn new(
        args: &[usize],
        order: Option<usize>,
        filter: Option<usize>,
        nulls: bool,
        schema: &Schema,
    ) -> Result<BagSpec> {
        let types: Vec<DataType> = args.iter().map(|a| schema.field(*a).data_type().clone()).collect();
        let form = match types.as_slice() {
            [one] if order.is_none() && !nulls && input::fits_lane(one) => Form::Word,
            many => {
                let fields = many.iter().map(|t| SortField::new(t.clone())).collect();
                let converter = RowConverter::new(fields).map_err(|e| {
                    Error::sql(format!("values of this type cannot be counted, so none can be taken back: {e}"))
                        .remedy("aggregate plain values; pick fields out of MAP values")
                })?;
                Form::Bytes(converter)
            }
        };
        Ok(BagSpec { args: args.to_vec(), order, filter, nulls, by_place: false, types, form })
    }

    pub fn is_of(&self, args: &[usize], order: Option<usize>, filter: Option<usize>, nulls: bool) -> bool {
        self.args == args && self.order == order && self.filter == filter && self.nulls == nulls
    }

    pub fn set(&self) -> BagSet {
        let bags = match self.form {
            Form::Word => Bags::Words(Vec::new()),
            Form::Bytes(_) => Bags::Bytes(Vec::new()),
        };
        BagSet { bags, by_place: Vec::new(), turned: Vec::new(), track: false, held: 0 }
    }

    pub fn read(&self, rows: &RecordBatch) -> Result<BagInput> {
        let columns: Vec<ArrayRef> = self.args.iter().map(|a| rows.column(*a).clone()).collect();
        let places = self.order.map(|order| {
            let column = cast(rows.column(order), &DataType::Int64)?;
            // A row without a place comes before all others.
            Ok::<_, Error>(column.as_primitive::<Int64Type>().iter().map(|p| p.unwrap_or(i64::MIN)).collect())
        });
        Ok(BagInput { nulls: self.nulls_of(&columns), keys: self.keys_of(&columns)?, places: places.transpose()? })
    }

    fn nulls_of(&self, columns: &[ArrayRef]) -> Option<NullBuffer> {
        if self.nulls {
            return None;
        }
        let nulls = columns.iter().fold(None, |all, c| NullBuffer::union(all.as_ref(), c.logical_nulls().as_ref()));
        nulls.filter(|n| n.null_count() > 0)
    }

    fn keys_of(&self, columns: &[ArrayRef]) -> Result<InputKeys> {
        Ok(match &self.form {
            Form::Word => match input::lane(&columns[0], LaneKind::Ordered)?.values {
                input::LaneValues::Integers(words) => InputKeys::Words(words),
                _ => return Err(Error::internal("ordered values are integers")),
            },
            // Where values are counted and not shown as they came, there is one zero and one NaN.
            Form::Bytes(converter) if self.order.is_none() && !self.nulls => {
                let columns: Vec<ArrayRef> = columns.iter().map(canonical).collect();
                InputKeys::Rows(converter.convert_columns(&columns)?)
            }
            Form::Bytes(converter) => InputKeys::Rows(converter.convert_columns(columns)?),
        })
    }

    /// Values as columns.
    fn columns_of_bytes<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        let Form::Bytes(converter) = &self.form else { return Err(Error::internal("words are no bytes")) };
        let parser = converter.parser();
        Ok(converter.convert_rows(keys.map(|key| parser.parse(key)))?)
    }

    fn column_of_words(&self, words: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        from_ordered(&self.types[0], words, nulls)
    }

    /// Bytes of the place behind a value.
    fn place(&self) -> usize {
        if self.order.is_some() { PLACE } else { 0 }
    }
}

/// The column with one zero and one NaN.
pub(crate) fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let one = |v: f64| input::unordered(input::ordered(v));
            Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Float32 => {
            let one = |v: f32| input::unordered(input::ordered(f64::from(v))) as f32;
            Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        _ => column.clone(),
    }
}

/// A place as bytes of the same order, and back.
fn place_bytes(place: i64) -> [u8; PLACE] {
    ((place as u64) ^ (1 << 63)).to_be_bytes()
}

fn place_of(bytes: &[u8]) -> i64 {
    (u64::from_be_bytes(bytes.try_into().expect("a place has eight bytes")) ^ (1 << 63)) as i64
}

/// The key of a value by its place.
fn turned_around(key: &[u8], place: usize) -> Vec<u8> {
    let (value, place) = key.split_at(key.len() - place);
    [place, value].concat()
}

impl BagSet {
    pub fn resize(&mut self, spec: &BagSpec, groups: usize) {
        match &mut self.bags {
            Bags::Words(bags) => bags.resize_with(groups, Bag::default),
            Bags::Bytes(bags) => bags.resize_with(groups, Bag::default),
        }
        if spec.by_place {
            self.by_place.resize_with(groups, Entries::default);
        }
    }

    /// The rows of the last change that made a value appear in their group, or disappear from it.
    pub fn turned(&self) -> &[u32] {
        &self.turned
    }

    /// Adds rows and takes rows back, in their order. Of each: its place in the batch, its group, whether it is taken back.
    pub fn change(
        &mut self,
        spec: &BagSpec,
        input: &BagInput,
        filter: Option<&BooleanBuffer>,
        rows: impl Iterator<Item = (usize, usize, bool)>,
    ) {
        let by = |away: bool| if away { -1 } else { 1 };
        self.turned.clear();
        let counts = |row: usize| {
            filter.is_none_or(|f| f.value(row)) && input.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
        };
        let BagSet { bags, by_place, turned, track, held } = self;
        // Whether the value is there from now on, or is no more.
        let turns = |before: i64, away: bool| if away { before == 1 } else { before == 0 };
        match (bags, &input.keys) {
            (Bags::Words(bags), InputKeys::Words(words)) => {
                for (row, group, away) in rows.filter(|(row, ..)| counts(*row)) {
                    let bag = &mut bags[group];
                    let met = bag.entries.change(&words[row], by(away), *track, held);
                    if turns(met.before, away) {
                        turned.push(row as u32);
                    }
                    if met.note {
                        bag.note(&words[row], held);
                    }
                }
            }
            (Bags::Bytes(bags), InputKeys::Rows(values)) => {
                let mut key = Vec::new();
                for (row, group, away) in rows.filter(|(row, ..)| counts(*row)) {
                    let bag = &mut bags[group];
                    key.clear();
                    key.extend_from_slice(values.row(row).data());
                    if let Some(places) = &input.places {
                        let value = key.len();
                        key.extend_from_slice(&place_bytes(places[row]));
                        if away && bag.entries.get_mut(&key).is_none_or(|count| count.n() <= 0) {
                            // Not there: the earliest of the same value, if there is one.
                            let mut from = key[..value].to_vec();
                            from.extend_from_slice(&[0; PLACE]);
                            if let Some(first) =
                                bag.entries.from(&from).filter(|k| k[..k.len() - PLACE] == key[..value])
                            {
                                key.copy_from_slice(first);
                            }
                        }
                    }
                    let met = bag.entries.change(&key, by(away), *track, held);
                    if turns(met.before, away) {
                        turned.push(row as u32);
                    }
                    if let Some(entries) = by_place.get_mut(group) {
                        entries.change(&turned_around(&key, spec.place()), by(away), false, held);
                    }
                    if met.note {
                        bag.note(&key, held);
                    }
                }
            }
            _ => unreachable!("a set and its input are of one form"),
        }
    }

    pub fn reset(&mut self, group: u32) {
        let group = group as usize;
        self.held = self.held.saturating_sub(self.group_bytes(group));
        match &mut self.bags {
            Bags::Words(bags) => bags[group] = Bag::default(),
            Bags::Bytes(bags) => bags[group] = Bag::default(),
        }
        if let Some(entries) = self.by_place.get_mut(group) {
            *entries = Entries::default();
        }
    }

    pub fn swap_remove(&mut self, group: u32) {
        let group = group as usize;
        self.held = self.held.saturating_sub(self.group_bytes(group));
        match &mut self.bags {
            Bags::Words(bags) => drop(bags.swap_remove(group)),
            Bags::Bytes(bags) => drop(bags.swap_remove(group)),
        }
        if !self.by_place.is_empty() {
            self.by_place.swap_remove(group);
        }
    }

    fn group_bytes(&self, group: usize) -> usize {
        let values = match &self.bags {
            Bags::Words(bags) => bags[group].bytes(),
            Bags::Bytes(bags) => bags[group].bytes(),
        };
        values + self.by_place.get(group).map_or(0, Entries::bytes)
    }

    pub fn shrink(&mut self) {
        match &mut self.bags {
            Bags::Words(bags) => bags.shrink_to_fit(),
            Bags::Bytes(bags) => bags.shrink_to_fit(),
        }
        self.by_place.shrink_to_fit();
    }

    pub fn bytes(&self) -> usize {
        let groups = match &self.bags {
            Bags::Words(bags) => bags.capacity() * size_of::<Bag<i64>>(),
            Bags::Bytes(bags) => bags.capacity() * size_of::<Bag<Box<[u8]>>>(),
        };
        groups + self.by_place.capacity() * size_of::<Entries<Box<[u8]>>>() + self.held
    }

    // ---- What a table keeps

    pub fn track(&mut self) {
        self.track = true;
    }

    /// Entries of these groups, which are the ones that have changed, or with `whole` all there are: what is there, and what
    /// is gone.
    pub fn save(&mut self, spec: &BagSpec, groups: &[u32], whole: bool) -> Result<(BagRows, BagRows)> {
        fn collect<K: Key>(
            bags: &mut [Bag<K>],
            (groups, whole): (&[u32], bool),
            held: &mut usize,
            mut found: impl FnMut(u32, &K, i64),
        ) {
            for group in groups {
                let bag = &mut bags[*group as usize];
                *held = held.saturating_sub(bag.notes_bytes());
                let mut changed = std::mem::take(&mut bag.changed);
                changed.sort_unstable();
                changed.dedup();
                for key in &changed {
                    let n = bag.entries.get_mut(Borrow::<K::Ref>::borrow(key)).map_or(0, |count| {
                        *count = Count::new(count.n(), false);
                        count.n()
                    });
                    if !whole {
                        found(*group, key, n);
                    }
                }
                if whole {
                    bag.entries.all().for_each(|(key, n)| found(*group, key, n));
                }
            }
        }
        let what = (groups, whole);
        let (mut there, mut gone) = (BagRows::default(), BagRows::default());
        match &mut self.bags {
            Bags::Words(bags) => {
                let (mut words, mut gone_words) = (Vec::new(), Vec::new());
                collect(bags, what, &mut self.held, |group, word, n| {
                    let (rows, words) = if n == 0 { (&mut gone, &mut gone_words) } else { (&mut there, &mut words) };
                    rows.groups.push(group);
                    rows.counts.push(n);
                    words.push(*word);
                });
                there.columns = vec![spec.column_of_words(words, None)?];
                gone.columns = vec![spec.column_of_words(gone_words, None)?];
            }
            Bags::Bytes(bags) => {
                let mut keys: Vec<Box<[u8]>> = Vec::new();
                let mut gone_keys: Vec<Box<[u8]>> = Vec::new();
                collect(bags, what, &mut self.held, |group, key, n| {
                    let (rows, keys) = if n == 0 { (&mut gone, &mut gone_keys) } else { (&mut there, &mut keys) };
                    rows.groups.push(group);
                    rows.counts.push(n);
                    keys.push(key.clone());
                });
                for (rows, keys) in [(&mut there, keys), (&mut gone, gone_keys)] {
                    let place = spec.place();
                    rows.columns = spec.columns_of_bytes(keys.iter().map(|k| &k[..k.len() - place]))?;
                    if spec.order.is_some() {
                        let places = keys.iter().map(|k| place_of(&k[k.len() - PLACE..]));
                        rows.columns.push(Arc::new(Int64Array::from_iter_values(places)));
                    }
                }
            }
        }
        Ok((there, gone))
    }

    /// Takes entries in, in the columns that `save` made. That is no change.
    pub fn load(&mut self, spec: &BagSpec, groups: &[u32], columns: &[ArrayRef], counts: &[i64]) -> Result<()> {
        let keys = spec.keys_of(&columns[..spec.args.len()])?;
        let place = spec.place();
        match (&mut self.bags, &keys) {
            (Bags::Words(bags), InputKeys::Words(words)) => {
                for ((word, group), count) in words.iter().zip(groups).zip(counts) {
                    bags[*group as usize].entries.change(word, *count, false, &mut self.held);
                }
            }
            (Bags::Bytes(bags), InputKeys::Rows(values)) => {
                let places = columns.get(spec.args.len()).map(|c| c.as_primitive::<Int64Type>());
                for (row, (group, count)) in groups.iter().zip(counts).enumerate() {
                    let mut key = values.row(row).data().to_vec();
                    if let Some(places) = places {
                        key.extend_from_slice(&place_bytes(places.value(row)));
                    }
                    let group = *group as usize;
                    bags[group].entries.change(&key, *count, false, &mut self.held);
                    if let Some(entries) = self.by_place.get_mut(group) {
                        entries.change(&turned_around(&key, place), *count, false, &mut self.held);
                    }
                }
            }
            _ => return Err(Error::internal("a table of values has another form")),
        }
        Ok(())
    }
}
