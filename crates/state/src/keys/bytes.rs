//! Keys that are byte strings: where they are kept, and how they are found.

use super::index::{Index, prefetch, set};
use super::{AHEAD, Ids, KeyTable};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// Byte strings by id, one behind the other.
#[derive(Default)]
pub(super) struct Arena {
    pub bytes: Vec<u8>,
    pub places: Vec<BytesPlace>,
    /// Bytes of strings that are gone.
    pub waste: usize,
}

#[derive(Clone, Copy, Default)]
pub(super) struct BytesPlace {
    pub from: u64,
    pub len: u32,
    pub hash: u64,
}

impl Arena {
    #[inline]
    pub fn get(&self, id: u32) -> &[u8] {
        let place = self.places[id as usize];
        &self.bytes[place.from as usize..place.from as usize + place.len as usize]
    }

    pub fn hash(&self, id: u32) -> u64 {
        self.places[id as usize].hash
    }

    #[inline(always)]
    pub fn prefetch_place(&self, id: u32) {
        prefetch(&self.places, id as usize);
    }

    #[inline(always)]
    pub fn prefetch_bytes(&self, id: u32) {
        if let Some(place) = self.places.get(id as usize) {
            prefetch(&self.bytes, place.from as usize);
        }
    }

    pub fn set(&mut self, id: u32, bytes: &[u8], hash: u64) {
        if let Some(old) = self.places.get(id as usize) {
            self.waste += old.len as usize;
            self.places[id as usize].len = 0;
            self.collect();
        }
        let place = BytesPlace { from: self.bytes.len() as u64, len: bytes.len() as u32, hash };
        self.bytes.extend_from_slice(bytes);
        set(&mut self.places, id, place);
    }

    pub fn swap_remove(&mut self, id: u32) {
        self.waste += self.places[id as usize].len as usize;
        self.places.swap_remove(id as usize);
        self.collect();
    }

    /// Copies the living together once the dead hold half of the arena.
    pub fn collect(&mut self) {
        if self.waste * 2 <= self.bytes.len() || self.bytes.len() < 4096 {
            return;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.waste);
        for place in &mut self.places {
            let from = place.from as usize;
            place.from = bytes.len() as u64;
            bytes.extend_from_slice(&self.bytes[from..from + place.len as usize]);
        }
        self.bytes = bytes;
        self.waste = 0;
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
        self.waste = 0;
    }
}

/// The ids of byte strings; `None` is NULL. In a large table each is found by way of three places, its slot, where its bytes
/// are, and these: they are asked for some rows ahead, one after the other, since each is known by the one before.
pub(super) fn bytes_ids<'a>(
    index: &mut Index<u64>,
    arena: &mut Arena,
    known: &mut Ids,
    rows: Range<usize>,
    key: impl Fn(usize) -> Option<&'a [u8]>,
    ids: &mut Vec<u32>,
) {
    let id = |index: &mut _, arena: &mut _, known: &mut _, bytes: Option<&[u8]>, hash| match bytes {
        Some(bytes) => bytes_id(index, arena, known, bytes, hash),
        None => bytes_null_id(arena, known),
    };
    let hash = |bytes: Option<&[u8]>| bytes.map_or(0, xxh3_64);
    if !index.is_large() {
        // Neighbours are often equal: rows of one day, of one device.
        let mut last = None;
        ids.extend(rows.map(|row| {
            let key = key(row);
            if let Some((same, id)) = last
                && same == key
            {
                return id;
            }
            let id = id(index, arena, known, key, hash(key));
            last = Some((key, id));
            id
        }));
        return;
    }
    let hashes: Vec<u64> = rows.clone().map(|row| hash(key(row))).collect();
    ids.extend(rows.enumerate().map(|(i, row)| {
        if let Some(slot) = hashes.get(i + AHEAD) {
            index.prefetch(*slot);
        }
        if let Some(id) = hashes.get(i + AHEAD * 2 / 3).and_then(|h| index.peek(*h)) {
            arena.prefetch_place(id);
        }
        if let Some(id) = hashes.get(i + AHEAD / 3).and_then(|h| index.peek(*h)) {
            arena.prefetch_bytes(id);
        }
        id(index, arena, known, key(row), hashes[i])
    }));
}

#[inline]
fn bytes_id(index: &mut Index<u64>, arena: &mut Arena, known: &mut Ids, bytes: &[u8], hash: u64) -> u32 {
    match index.find(hash, |id| arena.get(id) == bytes) {
        Ok(id) => id,
        Err(at) => {
            let id = known.next();
            arena.set(id, bytes, hash);
            index.put(at, hash, id);
            id
        }
    }
}

pub(super) fn find_bytes(index: &Index<u64>, arena: &Arena, bytes: &[u8]) -> u32 {
    index.find(xxh3_64(bytes), |id| arena.get(id) == bytes).unwrap_or(KeyTable::UNKNOWN)
}

fn bytes_null_id(arena: &mut Arena, known: &mut Ids) -> u32 {
    known.null.unwrap_or_else(|| {
        let id = known.next();
        arena.set(id, &[], 0);
        known.null = Some(id);
        id
    })
}
