//! Which values a group has seen, for every call with DISTINCT on the same argument at once.
//!
//! `COUNT(DISTINCT x)` and `COUNT(DISTINCT x) FILTER (WHERE c)` share one set of (group, value). Beside each pair stand
//! bits that say under which filters the value has been seen. A row is *fresh* for a filter when it sets that bit; the
//! call then takes the fresh rows as if they had been filtered.

use super::{Groups, find_or_push};
use arrow::array::*;
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::Schema;
use millstream_core::Result;
use millstream_state::keys::{KeyBatch, KeyCodec, KeyTable, prefetch};
use std::ops::Range;
use std::sync::Arc;

/// Filters that one set can tell apart.
const BITS: usize = 32;

/// How many rows ahead the slot of a value is fetched.
const AHEAD: usize = 16;

pub(super) struct DistinctSpec {
    pub args: Vec<usize>,
    /// By bit: the filter, by index into the plan's.
    filters: Vec<Option<usize>>,
    codec: KeyCodec,
}

/// The arguments of a batch.
pub(super) struct DistinctInput {
    keys: KeyBatch,
    /// By row: the filters that it passes. 0 for NULL, which is no value.
    masks: Vec<u32>,
}

/// Entries of a set, as a table keeps them.
pub struct Entries {
    pub groups: Vec<u32>,
    /// One column for each argument.
    pub values: Vec<ArrayRef>,
    /// By entry: the filters under which the value has been seen, as bits.
    pub masks: Int64Array,
}

/// An entry that is new, or has been seen under another filter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Changed {
    group: u32,
    serial: u32,
    word: u64,
}

/// What a set has gained by a merge: entries, and for each bit the entries that gained it.
pub(super) struct Gained {
    pub groups: Vec<u32>,
    words: Vec<u64>,
    pub rows: Vec<Vec<u32>>,
}

impl DistinctSpec {
    pub fn new(args: &[usize], schema: &Schema) -> Result<DistinctSpec> {
        let types: Vec<_> = args.iter().map(|a| schema.field(*a).data_type().clone()).collect();
        Ok(DistinctSpec { args: args.to_vec(), filters: Vec::new(), codec: KeyCodec::new(&types)? })
    }

    pub fn has_room_for(&self, filter: Option<usize>) -> bool {
        self.filters.len() < BITS || self.filters.contains(&filter)
    }

    pub fn bit(&mut self, filter: Option<usize>) -> usize {
        find_or_push(&mut self.filters, filter)
    }

    pub fn filter(&self, bit: usize) -> Option<usize> {
        self.filters[bit]
    }

    pub fn set(&self) -> DistinctSet {
        DistinctSet {
            slots: Vec::new(),
            used: 0,
            serials: Vec::new(),
            entries: Vec::new(),
            next_serial: 0,
            dead: 0,
            values: self.codec.table(),
            ids: Vec::new(),
            fresh: vec![Vec::new(); self.filters.len()],
            changed: None,
        }
    }

    pub fn read(&self, rows: &RecordBatch, filters: &[BooleanBuffer]) -> Result<DistinctInput> {
        let columns: Vec<ArrayRef> = self.args.iter().map(|a| rows.column(*a).clone()).collect();
        let len = rows.num_rows();
        let plain: u32 = self.filters.iter().enumerate().filter(|(_, f)| f.is_none()).map(|(bit, _)| 1 << bit).sum();
        let mut masks = vec![plain; len];
        for (eight, filters_of) in self.filters.chunks(8).enumerate() {
            let columns = filters_of.iter().map(|f| f.map(|f| &filters[f]));
            add_bits(&mut masks, columns, 8 * eight as u32);
        }
        let nulls = columns.iter().fold(None, |all, c| NullBuffer::union(all.as_ref(), c.logical_nulls().as_ref()));
        if let Some(nulls) = nulls.filter(|n| n.null_count() > 0) {
            masks.iter_mut().zip(nulls.iter()).filter(|(_, valid)| !valid).for_each(|(m, _)| *m = 0);
        }
        Ok(DistinctInput { keys: self.codec.encode(&columns, len)?, masks })
    }
}

/// Moves bit `i` of up to eight columns to the mask of row `i`: those of the first column to bit `first`. Eight rows at a
/// time, which lie side by side in a word.
fn add_bits<'a>(masks: &mut [u32], columns: impl Iterator<Item = Option<&'a BooleanBuffer>>, first: u32) {
    let mut words = vec![0u64; masks.len().div_ceil(64) * 8];
    for (bit, column) in columns.enumerate() {
        let Some(column) = column else { continue };
        for (rows, words) in column.bit_chunks().iter_padded().zip(words.chunks_exact_mut(8)) {
            for (word, eight) in words.iter_mut().zip(rows.to_le_bytes()) {
                *word |= spread(eight) << bit;
            }
        }
    }
    for (masks, word) in masks.chunks_mut(8).zip(words) {
        masks.iter_mut().zip(word.to_le_bytes()).for_each(|(mask, bits)| *mask |= u32::from(bits) << first);
    }
}

/// Bit `i` of the byte as byte `i` of a word.
fn spread(bits: u8) -> u64 {
    // Each byte keeps one bit of its copy; what is not 0 then carries into the byte's highest bit.
    let one_each = u64::from(bits).wrapping_mul(0x0101_0101_0101_0101) & 0x8040_2010_0804_0201;
    ((one_each + 0x7f7f_7f7f_7f7f_7f7f) >> 7) & 0x0101_0101_0101_0101
}

#[derive(Clone, Copy, Default)]
struct Slot {
    word: u64,
    serial: u32,
    /// 0: the slot is empty.
    mask: u32,
}

pub(super) struct DistinctSet {
    slots: Vec<Slot>,
    used: usize,
    /// By group: the number that its entries carry. A group that is reset gets another one; the entries of the
    /// old number are dead, and are swept out when they are the half.
    serials: Vec<u32>,
    /// By group: its entries.
    entries: Vec<u32>,
    next_serial: u32,
    dead: usize,
    /// Ids of values that do not fit a word.
    values: KeyTable,
    ids: Vec<u32>,
    fresh: Vec<Vec<u32>>,
    /// What has changed since the last save, where that is kept track of. At most one for each bit that was set.
    changed: Option<Vec<Changed>>,
}

/// Where an entry would stand; of the number the lowest bits count, as many as a place has. So entries that come in the
/// order of the places of a larger set (what has been saved, or is merged) fall all over a smaller one. By the highest bits
/// they would crowd at its beginning, and to take them in would cost the square of their number.
#[inline(always)]
fn home(word: u64, serial: u32) -> usize {
    let joined = word ^ u64::from(serial).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mixed = joined.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 32)) as usize
}

impl DistinctSet {
    pub fn resize(&mut self, groups: usize) {
        for _ in self.serials.len()..groups {
            self.serials.push(self.next_serial);
            self.entries.push(0);
            self.next_serial += 1;
        }
    }

    /// Rows of the last update that were fresh under this bit, by their place in the batch.
    pub fn fresh(&self, bit: usize) -> &[u32] {
        &self.fresh[bit]
    }

    pub fn update(&mut self, input: &DistinctInput, rows: Range<usize>, groups: Groups<'_>) {
        self.fresh.iter_mut().for_each(Vec::clear);
        let masks = &input.masks[rows.clone()];
        match (input.keys.words(), groups) {
            // A pass for each, so that the compiler knows the group where there is only one.
            (Some(words), Groups::One) => self.see_rows(&words[rows.clone()], masks, rows.start, |_| 0),
            (Some(words), Groups::Each(ids)) => {
                self.see_rows(&words[rows.clone()], masks, rows.start, |offset| ids[offset] as usize);
            }
            (None, _) => {
                let mut ids = std::mem::take(&mut self.ids);
                self.values.assign(&input.keys, rows.clone(), &mut ids);
                let words: Vec<u64> = ids.iter().map(|id| u64::from(*id)).collect();
                let group = |offset: usize| match groups {
                    Groups::One => 0,
                    Groups::Each(ids) => ids[offset] as usize,
                };
                self.see_rows(&words, masks, rows.start, group);
                self.ids = ids;
            }
        }
    }

    /// Marks the words of rows that begin at `start` of their batch, and notes the fresh ones.
    #[inline(always)]
    fn see_rows(&mut self, words: &[u64], masks: &[u32], start: usize, group: impl Fn(usize) -> usize) {
        let mut fresh = std::mem::take(&mut self.fresh);
        for (offset, (word, mask)) in words.iter().zip(masks).enumerate() {
            if let Some(ahead) = words.get(offset + AHEAD) {
                self.prefetch(*ahead, group(offset + AHEAD));
            }
            if *mask == 0 {
                continue;
            }
            let mut gained = self.see(*word, group(offset), *mask);
            if gained != 0 {
                self.note(*word, group(offset));
            }
            while gained != 0 {
                let bit = gained.trailing_zeros() as usize;
                fresh[bit].push((start + offset) as u32);
                gained &= gained - 1;
            }
        }
        self.fresh = fresh;
    }

    #[inline(always)]
    fn prefetch(&self, word: u64, group: usize) {
        let last = self.slots.len().wrapping_sub(1);
        prefetch(&self.slots, home(word, self.serials[group]) & last);
    }

    /// Marks the value as seen by the group under these filters; the bits that are new.
    #[inline(always)]
    fn see(&mut self, word: u64, group: usize, mask: u32) -> u32 {
        let serial = self.serials[group];
        if let Some(last) = self.slots.len().checked_sub(1) {
            let mut at = home(word, serial);
            loop {
                let slot = &mut self.slots[at & last];
                if slot.word == word && slot.serial == serial && slot.mask != 0 {
                    let gained = mask & !slot.mask;
                    slot.mask |= mask;
                    return gained;
                }
                if slot.mask == 0 {
                    break;
                }
                at += 1;
            }
        }
        self.insert(word, serial, mask);
        self.entries[group] += 1;
        mask
    }

    /// A value that is not there yet. Not part of the loop over rows: most rows bring a value that has been seen.
    #[inline(never)]
    fn insert(&mut self, word: u64, serial: u32, mask: u32) {
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let last = self.slots.len() - 1;
        let mut at = home(word, serial);
        while self.slots[at & last].mask != 0 {
            at += 1;
        }
        self.slots[at & last] = Slot { word, serial, mask };
        self.used += 1;
    }

    #[inline]
    fn note(&mut self, word: u64, group: usize) {
        if let Some(changed) = &mut self.changed {
            changed.push(Changed { group: group as u32, serial: self.serials[group], word });
        }
    }

    /// From now on, keeps note of what changes.
    pub fn track(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// The entries that have changed since the last call, or all.
    pub fn save(&mut self, spec: &DistinctSpec, whole: bool) -> Result<Entries> {
        let mut changed = self.changed.as_mut().map(std::mem::take).unwrap_or_default();
        if whole {
            return self.all(spec);
        }
        let (mut groups, mut words, mut masks) = (Vec::new(), Vec::new(), Vec::new());
        changed.sort_unstable();
        changed.dedup();
        let mut group_of = Vec::new();
        for change in &changed {
            let group = match self.serials.get(change.group as usize) == Some(&change.serial) {
                true => change.group,
                // The group has got another id, or has been reset since then: no group has its serial any more.
                false => {
                    if group_of.is_empty() {
                        group_of = self.group_of();
                    }
                    match group_of[change.serial as usize] {
                        u32::MAX => continue,
                        group => group,
                    }
                }
            };
            groups.push(group);
            words.push(change.word);
            masks.push(i64::from(self.mask(change.word, change.serial)));
        }
        Ok(Entries { groups, values: self.columns(spec, &words)?, masks: masks.into() })
    }

    /// All entries.
    pub fn all(&self, spec: &DistinctSpec) -> Result<Entries> {
        let (mut groups, mut words, mut masks) = (Vec::new(), Vec::new(), Vec::new());
        let group_of = self.group_of();
        for slot in self.slots.iter().filter(|s| s.mask != 0 && group_of[s.serial as usize] != u32::MAX) {
            groups.push(group_of[slot.serial as usize]);
            words.push(slot.word);
            masks.push(i64::from(slot.mask));
        }
        Ok(Entries { groups, values: self.columns(spec, &words)?, masks: masks.into() })
    }

    /// By serial: its group, or `u32::MAX` where it is no group's any more.
    fn group_of(&self) -> Vec<u32> {
        let mut group_of = vec![u32::MAX; self.next_serial as usize];
        self.serials.iter().enumerate().for_each(|(group, serial)| group_of[*serial as usize] = group as u32);
        group_of
    }

    fn mask(&self, word: u64, serial: u32) -> u32 {
        let last = self.slots.len() - 1;
        let mut at = home(word, serial);
        loop {
            let slot = &self.slots[at & last];
            if slot.mask == 0 || (slot.word == word && slot.serial == serial) {
                return slot.mask;
            }
            at += 1;
        }
    }

    /// Takes entries in. That is no change.
    pub fn load(&mut self, spec: &DistinctSpec, groups: &[u32], values: &[ArrayRef], masks: &Int64Array) -> Result<()> {
        let keys = spec.codec.encode(values, groups.len())?;
        let words: Vec<u64> = match keys.words() {
            Some(words) => words.to_vec(),
            None => {
                let mut ids = Vec::new();
                self.values.assign(&keys, 0..groups.len(), &mut ids);
                ids.into_iter().map(u64::from).collect()
            }
        };
        for ((word, group), mask) in words.iter().zip(groups).zip(masks.values()) {
            self.see(*word, *group as usize, *mask as u32);
        }
        Ok(())
    }

    /// Twice the slots, or fewer without the dead.
    #[cold]
    fn grow(&mut self) {
        let mut live = vec![false; self.next_serial as usize];
        self.serials.iter().for_each(|s| live[*s as usize] = true);
        let alive = self.used - self.dead;
        // At the most two thirds of those that may be used, so that it is not at once time to grow again.
        let slots = ((alive + 1) * 3).next_power_of_two().max(16);
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); slots]);
        for slot in old.into_iter().filter(|s| s.mask != 0 && live[s.serial as usize]) {
            let mut at = home(slot.word, slot.serial);
            while self.slots[at & (slots - 1)].mask != 0 {
                at += 1;
            }
            self.slots[at & (slots - 1)] = slot;
        }
        (self.used, self.dead) = (alive, 0);
    }

    pub fn merge(&mut self, spec: &DistinctSpec, into: &[u32], from: &DistinctSet) -> Gained {
        let mut group_of = vec![u32::MAX; from.next_serial as usize];
        for (group, serial) in from.serials.iter().enumerate().take(into.len()) {
            group_of[*serial as usize] = into[group];
        }
        let by_id = !spec.codec.is_word();
        let mut ids = Vec::new();
        if by_id {
            self.values.assign_all(&from.values, &mut ids);
        }
        let entries = from.slots.iter().filter(|s| s.mask != 0 && group_of[s.serial as usize] != u32::MAX);
        let entries: Vec<(u64, u32, u32)> = entries
            .map(|s| {
                let word = if by_id { u64::from(ids[s.word as usize]) } else { s.word };
                (word, group_of[s.serial as usize], s.mask)
            })
            .collect();
        self.see_all(entries)
    }

    pub fn merge_within(&mut self, into: u32, from: u32) -> Gained {
        let serial = self.serials[from as usize];
        let entries = self.slots.iter().filter(|s| s.mask != 0 && s.serial == serial);
        let entries = entries.map(|s| (s.word, into, s.mask)).collect();
        self.see_all(entries)
    }

    fn see_all(&mut self, entries: Vec<(u64, u32, u32)>) -> Gained {
        let mut gained = Gained { groups: Vec::new(), words: Vec::new(), rows: vec![Vec::new(); self.fresh.len()] };
        for (word, group, mask) in entries {
            let mut bits = self.see(word, group as usize, mask);
            if bits == 0 {
                continue;
            }
            self.note(word, group as usize);
            let entry = gained.groups.len() as u32;
            gained.groups.push(group);
            gained.words.push(word);
            while bits != 0 {
                gained.rows[bits.trailing_zeros() as usize].push(entry);
                bits &= bits - 1;
            }
        }
        gained
    }

    /// The gained values in the columns of the input; all other columns are NULL.
    pub fn values(&self, spec: &DistinctSpec, gained: &Gained, schema: &Arc<Schema>) -> Result<RecordBatch> {
        let values = self.columns(spec, &gained.words)?;
        let nullable: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let columns = nullable.iter().enumerate().map(|(at, field)| match spec.args.iter().position(|a| *a == at) {
            Some(arg) => values[arg].clone(),
            None => new_null_array(field.data_type(), gained.words.len()),
        });
        let columns = columns.collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(nullable)), columns)?)
    }

    fn columns(&self, spec: &DistinctSpec, words: &[u64]) -> Result<Vec<ArrayRef>> {
        match spec.codec.decode_words(words) {
            Some(column) => Ok(vec![column]),
            None => {
                let ids: Vec<u32> = words.iter().map(|w| *w as u32).collect();
                spec.codec.decode_ids(&self.values, &ids)
            }
        }
    }

    pub fn reset(&mut self, group: u32) {
        let group = group as usize;
        if self.entries[group] > 0 {
            self.dead += self.entries[group] as usize;
            self.entries[group] = 0;
            self.serials[group] = self.next_serial;
            self.next_serial += 1;
            self.sweep();
        }
    }

    pub fn swap_remove(&mut self, group: u32) {
        self.dead += self.entries[group as usize] as usize;
        self.serials.swap_remove(group as usize);
        self.entries.swap_remove(group as usize);
        self.sweep();
    }

    fn sweep(&mut self) {
        if self.dead * 2 > self.used && self.dead > 1024 {
            self.grow();
            self.renumber();
        }
    }

    /// Serials from 0 again, so that they never run out.
    fn renumber(&mut self) {
        let group_of = self.group_of();
        if let Some(changed) = &mut self.changed {
            changed.retain(|c| group_of[c.serial as usize] != u32::MAX);
            changed.iter_mut().for_each(|c| {
                c.group = group_of[c.serial as usize];
                c.serial = c.group;
            });
        }
        let mut renamed = vec![0; self.next_serial as usize];
        for (group, serial) in self.serials.iter_mut().enumerate() {
            renamed[*serial as usize] = group as u32;
            *serial = group as u32;
        }
        self.next_serial = self.serials.len() as u32;
        self.slots.iter_mut().filter(|s| s.mask != 0).for_each(|s| s.serial = renamed[s.serial as usize]);
        // The place of an entry depends on its serial.
        self.grow();
    }

    /// Gives back memory that is not used.
    pub fn shrink(&mut self) {
        self.serials.shrink_to_fit();
        self.entries.shrink_to_fit();
        if !self.slots.is_empty() {
            self.grow();
            self.renumber();
        }
        if let Some(changed) = &mut self.changed {
            changed.shrink_to_fit();
        }
    }

    pub fn clear(&mut self, spec: &DistinctSpec) {
        let slots = std::mem::take(&mut self.slots);
        let used = self.used;
        let changed = self.changed.is_some().then(Vec::new);
        *self = DistinctSet { changed, ..spec.set() };
        // Memory is kept for the next window unless this one hardly used it.
        if used * 16 > slots.len() {
            self.slots = slots;
            self.slots.fill(Slot::default());
        }
    }

    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.serials.capacity() * 8
            + self.values.bytes()
            + self.changed.as_ref().map_or(0, |c| c.capacity() * size_of::<Changed>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Int64Type};

    /// How far the entry that was pushed on furthest stands from its place.
    fn furthest(set: &DistinctSet) -> usize {
        let last = set.slots.len().wrapping_sub(1);
        let filled = set.slots.iter().enumerate().filter(|(_, slot)| slot.mask != 0);
        filled.map(|(at, slot)| at.wrapping_sub(home(slot.word, slot.serial)) & last).max().unwrap_or(0)
    }

    #[test]
    fn what_comes_in_the_order_of_its_places_is_not_crowded() {
        let schema = Schema::new(vec![Field::new("v", DataType::Int64, true)]);
        let mut spec = DistinctSpec::new(&[0], &schema).expect("a number can be told apart");
        spec.bit(None);
        let mut whole = spec.set();
        whole.resize(100);
        let groups: Vec<u32> = (0..200_000).map(|i| i * 7 % 100).collect();
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..200_000).map(|i| i / 3)));
        let masks = Int64Array::from_value(1, 200_000);
        whole.load(&spec, &groups, &[values], &masks).expect("entries of the set");
        let saved = whole.all(&spec).expect("all of them");
        let mut back = spec.set();
        back.resize(100);
        for from in (0..saved.groups.len()).step_by(5_000) {
            let some = 5_000.min(saved.groups.len() - from);
            let (values, masks) = (saved.values[0].slice(from, some), saved.masks.slice(from, some));
            back.load(&spec, &saved.groups[from..from + some], &[values], &masks).expect("entries of the set");
            assert!(furthest(&back) < 200, "{} places on, of {} entries", furthest(&back), back.used);
        }
        let entries = |set: &DistinctSet| {
            let all = set.all(&spec).expect("all of them");
            let values = all.values[0].as_primitive::<Int64Type>().values().to_vec();
            let mut entries: Vec<(u32, i64)> = all.groups.into_iter().zip(values).collect();
            entries.sort_unstable();
            entries
        };
        assert_eq!(entries(&back), entries(&whole));
    }

    #[test]
    fn there_are_at_most_four_slots_for_each_entry() {
        let schema = Schema::new(vec![Field::new("v", DataType::Int64, true)]);
        let mut spec = DistinctSpec::new(&[0], &schema).expect("a number can be told apart");
        spec.bit(None);
        let mut set = spec.set();
        set.resize(1);
        for entries in 1..20_000 {
            assert_ne!(set.see(entries, 0, 1), 0);
            let slots = set.slots.len() as u64;
            assert!((entries * 2..=(entries * 4).max(16)).contains(&slots), "{slots} slots for {entries} entries");
        }
    }

    #[test]
    fn each_row_has_a_bit_for_each_filter_that_it_passes() {
        for rows in [0usize, 1, 7, 8, 63, 64, 65, 130, 1000] {
            // Columns that begin anywhere in a byte, and more of them than a byte has bits.
            let column = |c: usize| {
                let bits = BooleanBuffer::collect_bool(rows + c, |i| (i * i + c * 7).is_multiple_of(c + 2));
                bits.slice(c, rows)
            };
            let columns: Vec<Option<BooleanBuffer>> = (0..19).map(|c| (c != 4).then(|| column(c))).collect();
            let mut masks = vec![1 << 31; rows];
            for (eight, columns) in columns.chunks(8).enumerate() {
                add_bits(&mut masks, columns.iter().map(Option::as_ref), 8 * eight as u32);
            }
            for (row, mask) in masks.iter().enumerate() {
                let bit = |(c, column): (usize, &Option<BooleanBuffer>)| {
                    u32::from(column.as_ref().is_some_and(|column| column.value(row))) << c
                };
                let wanted = columns.iter().enumerate().map(bit).sum::<u32>() | 1 << 31;
                assert_eq!(*mask, wanted, "row {row} of {rows}");
            }
        }
    }
}
