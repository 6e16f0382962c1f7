//! A hash table for keys of 64 bits, as small as the loops need it: open addressing, half full at most.

/// No key has this value: ids and what is made of them stay far below.
const EMPTY: u64 = u64::MAX;

pub struct Map<V> {
    entries: Vec<(u64, V)>,
    shift: u32,
    len: usize,
}

impl<V: Copy + Default> Default for Map<V> {
    fn default() -> Self {
        Map::with_bits(14)
    }
}

impl<V: Copy + Default> Map<V> {
    /// A table of `2^bits` slots to begin with.
    pub fn with_bits(bits: u32) -> Self {
        Map { entries: vec![(EMPTY, V::default()); 1 << bits], shift: 64 - bits, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn slot(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// Has the key's slot brought near: worth it where the table is larger than the cache.
    #[inline(always)]
    pub fn prefetch(&self, key: u64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing that the program sees, and the slot lies within the table.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch(self.entries.as_ptr().add(self.slot(key)).cast::<i8>(), _MM_HINT_T0);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = key;
    }

    /// The value of a key, made of its default if there is none, and whether it is new.
    #[inline(always)]
    pub fn entry(&mut self, key: u64) -> (&mut V, bool) {
        let mask = self.entries.len() - 1;
        let mut i = self.slot(key);
        loop {
            // SAFETY: `slot` keeps as many bits as the table has, and `mask` holds every step within it; here the
            // check costs a tenth of the smallest loops.
            let at = unsafe { self.entries.get_unchecked(i).0 };
            if at == key {
                // SAFETY: as above.
                return (unsafe { &mut self.entries.get_unchecked_mut(i).1 }, false);
            }
            if at == EMPTY {
                return (self.insert(i, key), true);
            }
            i = (i + 1) & mask;
        }
    }

    fn insert(&mut self, mut i: usize, key: u64) -> &mut V {
        if self.len * 2 >= self.entries.len() {
            self.grow();
            i = self.free_slot(key);
        }
        self.len += 1;
        self.entries[i] = (key, V::default());
        &mut self.entries[i].1
    }

    fn free_slot(&self, key: u64) -> usize {
        let mut i = self.slot(key);
        while self.entries[i].0 != EMPTY {
            i = (i + 1) & (self.entries.len() - 1);
        }
        i
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![(EMPTY, V::default()); self.entries.len() * 2];
        let old = std::mem::replace(&mut self.entries, larger);
        self.shift -= 1;
        for entry in old.into_iter().filter(|e| e.0 != EMPTY) {
            let i = self.free_slot(entry.0);
            self.entries[i] = entry;
        }
    }

    fn find(&self, key: u64) -> Option<usize> {
        let mut i = self.slot(key);
        loop {
            match self.entries[i].0 {
                at if at == key => return Some(i),
                EMPTY => return None,
                _ => i = (i + 1) & (self.entries.len() - 1),
            }
        }
    }

    pub fn get(&mut self, key: u64) -> Option<&mut V> {
        self.find(key).map(|i| &mut self.entries[i].1)
    }

    /// Takes a key out; those behind it move up, so that no gap parts a key from its slot.
    pub fn remove(&mut self, key: u64) {
        let Some(mut gap) = self.find(key) else { return };
        self.len -= 1;
        let mask = self.entries.len() - 1;
        let mut j = gap;
        loop {
            j = (j + 1) & mask;
            if self.entries[j].0 == EMPTY {
                break;
            }
            let home = self.slot(self.entries[j].0);
            if (j.wrapping_sub(home) & mask) >= (j.wrapping_sub(gap) & mask) {
                self.entries[gap] = self.entries[j];
                gap = j;
            }
        }
        self.entries[gap].0 = EMPTY;
    }

    pub fn clear(&mut self) {
        self.entries.iter_mut().for_each(|e| e.0 = EMPTY);
        self.len = 0;
    }

    pub fn iter(&self) -> impl Iterator<Item = &(u64, V)> {
        self.entries.iter().filter(|e| e.0 != EMPTY)
    }
}

/// A table of three bits for each key, kept in one word with it: at half the bytes of a [`Map`] for what is bound by
/// cache misses. Keys have 61 bits at most.
pub struct Bits {
    words: Vec<u64>,
    shift: u32,
    len: usize,
}

impl Default for Bits {
    fn default() -> Self {
        Bits { words: vec![EMPTY; 1 << 14], shift: 64 - 14, len: 0 }
    }
}

impl Bits {
    #[inline(always)]
    fn slot(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// As [`Map::prefetch`].
    #[inline(always)]
    pub fn prefetch(&self, key: u64) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing that the program sees, and the slot lies within the table.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch(self.words.as_ptr().add(self.slot(key)).cast::<i8>(), _MM_HINT_T0);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = key;
    }

    /// Sets bits of a key and gives those that were set before.
    #[inline(always)]
    pub fn set(&mut self, key: u64, bits: u8) -> u8 {
        let mask = self.words.len() - 1;
        let mut i = self.slot(key);
        loop {
            let word = &mut self.words[i];
            if *word >> 3 == key {
                let before = (*word & 7) as u8;
                *word |= u64::from(bits);
                return before;
            }
            if *word == EMPTY {
                *word = (key << 3) | u64::from(bits);
                self.len += 1;
                if self.len * 2 > self.words.len() {
                    self.grow();
                }
                return 0;
            }
            i = (i + 1) & mask;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![EMPTY; self.words.len() * 2];
        let old = std::mem::replace(&mut self.words, larger);
        self.shift -= 1;
        let mask = self.words.len() - 1;
        for word in old.into_iter().filter(|w| *w != EMPTY) {
            let mut i = self.slot(word >> 3);
            while self.words[i] != EMPTY {
                i = (i + 1) & mask;
            }
            self.words[i] = word;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn it_holds_what_a_plain_map_holds() {
        let (mut ours, mut plain) = (Map::<u64>::with_bits(2), HashMap::new());
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (state >> 33) % 500;
            if state >> 62 == 0 {
                ours.remove(key);
                plain.remove(&key);
            } else {
                *ours.entry(key).0 += 1;
                *plain.entry(key).or_insert(0) += 1;
            }
        }
        assert_eq!(ours.len(), plain.len());
        assert_eq!(ours.iter().copied().collect::<HashMap<_, _>>(), plain);
    }
    #[test]
    fn bits_are_remembered_by_key() {
        let (mut ours, mut plain) = (Bits::default(), HashMap::new());
        for n in 0..100_000u64 {
            let (key, bits) = (n * n % 30_011, 1 << (n % 3));
            let known = plain.entry(key).or_insert(0u8);
            assert_eq!(ours.set(key, bits), *known);
            *known |= bits;
        }
    }
}
