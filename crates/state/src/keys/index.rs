//! The slots of a key table.

pub(super) fn set<K: Default + Clone>(keys: &mut Vec<K>, id: u32, key: K) {
    let id = id as usize;
    if id == keys.len() {
        keys.push(key);
    } else {
        if id > keys.len() {
            keys.resize(id + 1, K::default());
        }
        keys[id] = key;
    }
}

/// A key as it stands in a slot.
pub(super) trait Slotted: Copy + PartialEq + Default {
    fn hash(self) -> u64;
}

/// Fibonacci hashing: 2^64 divided by the golden ratio. The upper bits of the product choose the slot.
pub(super) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Slotted for u64 {
    #[inline(always)]
    fn hash(self) -> u64 {
        self.wrapping_mul(GOLDEN)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Slot<K> {
    pub key: K,
    /// `EMPTY`, or the id.
    pub id: u32,
}

pub(super) const EMPTY: u32 = u32::MAX;

/// Open addressing with linear probing, at most half full. No slots at all: not built.
#[derive(Default)]
pub(super) struct Index<K> {
    pub slots: Vec<Slot<K>>,
    pub shift: u32,
    pub used: usize,
}

/// The slots of an index while nothing changes them.
#[derive(Clone, Copy)]
pub(super) struct View<'a, K> {
    slots: &'a [Slot<K>],
    shift: u32,
}

impl<K: Slotted> View<'_, K> {
    #[inline(always)]
    pub fn prefetch(self, key: K) {
        prefetch(self.slots, (key.hash() >> self.shift) as usize);
    }

    /// The id of the key, or the slot where it would stand. For keys that are compared whole.
    #[inline(always)]
    pub fn find(self, key: K) -> std::result::Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = (key.hash() >> self.shift) as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.id == EMPTY {
                return Err(at);
            }
            if slot.key == key {
                return Ok(slot.id);
            }
            at = (at + 1) & mask;
        }
    }
}

/// Asks the memory for one of these.
#[inline(always)]
pub fn prefetch<T>(items: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(item) = items.get(at) {
        // SAFETY: a prefetch reads nothing that the program can see, and the address is that of an item.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(std::ptr::from_ref(item).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, at);
}

impl<K: Slotted> Index<K> {
    #[inline(always)]
    pub fn view(&self) -> View<'_, K> {
        View { slots: &self.slots, shift: self.shift }
    }

    pub fn is_large(&self) -> bool {
        self.slots.len() * size_of::<Slot<K>>() > 128 << 10
    }

    /// Beyond what a look-up among others waits for without being asked in advance: the second cache and more.
    pub fn is_far(&self) -> bool {
        self.slots.len() * size_of::<Slot<K>>() > 1 << 20
    }

    #[inline(always)]
    pub fn home(&self, key: K) -> usize {
        (key.hash() >> self.shift) as usize
    }

    #[inline(always)]
    pub fn prefetch(&self, key: K) {
        prefetch(&self.slots, self.home(key));
    }

    /// The id that stands first where the key would, if it is that of such a key: for what is only asked for in advance.
    #[inline(always)]
    pub fn peek(&self, key: K) -> Option<u32> {
        let slot = self.slots.get(self.home(key))?;
        (slot.id != EMPTY && slot.key == key).then_some(slot.id)
    }

    /// The id of the key, or the slot where it would stand.
    #[inline(always)]
    pub fn find(&self, key: K, same: impl Fn(u32) -> bool) -> std::result::Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut at = self.home(key);
        loop {
            let slot = &self.slots[at & mask];
            if slot.id == EMPTY {
                return Err(at & mask);
            }
            if slot.key == key && same(slot.id) {
                return Ok(slot.id);
            }
            at += 1;
        }
    }

    #[inline]
    pub fn put(&mut self, at: usize, key: K, id: u32) {
        self.slots[at] = Slot { key, id };
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            self.grow();
        }
    }

    #[cold]
    pub fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.rebuild(self.used, old.into_iter().filter(|s| s.id != EMPTY).map(|s| (s.key, s.id)));
    }

    /// Slots for `keys` keys, filled with these.
    pub fn rebuild(&mut self, keys: usize, entries: impl Iterator<Item = (K, u32)>) {
        let slots = (keys * 2).next_power_of_two().max(16);
        self.slots = vec![Slot { key: K::default(), id: EMPTY }; slots];
        self.shift = 64 - slots.trailing_zeros();
        self.used = 0;
        let mask = slots - 1;
        for (key, id) in entries {
            let mut at = self.home(key);
            while self.slots[at & mask].id != EMPTY {
                at += 1;
            }
            self.slots[at & mask] = Slot { key, id };
            self.used += 1;
        }
    }

    pub fn place(&self, key: K, id: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = self.home(key) & mask;
        while self.slots[at].id != id {
            debug_assert!(self.slots[at].id != EMPTY, "the key is in the index");
            at = (at + 1) & mask;
        }
        at
    }

    pub fn rename(&mut self, key: K, from: u32, to: u32) {
        let at = self.place(key, from);
        self.slots[at].id = to;
    }

    /// Removes by moving back what was pushed on by it, so that no marks of the dead are needed.
    pub fn remove(&mut self, key: K, id: u32) {
        let mask = self.slots.len() - 1;
        let mut gap = self.place(key, id);
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            if self.slots[at].id == EMPTY {
                break;
            }
            let home = self.home(self.slots[at].key);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[at];
                gap = at;
            }
        }
        self.slots[gap].id = EMPTY;
        self.used -= 1;
    }

    pub fn clear(&mut self, keys: usize) {
        if self.slots.len() > (keys * 16).max(1024) {
            self.slots = Vec::new();
        }
        // In one go: this is what makes a recycled table cheaper than a new one.
        self.slots.fill(Slot { key: K::default(), id: EMPTY });
        self.used = 0;
    }

    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<K>>()
    }
}
