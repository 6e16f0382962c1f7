//! Keys of two words, and how they are found.
//!
//! A slot has a part of the key's hash and the id, 8 bytes in all; the key stands by its id alone. There are two to four
//! slots for each key, so with the key in them they would be most of what a table takes.

use super::index::{GOLDEN, Index, Slotted, prefetch, set};
use super::{AHEAD, Ids, KeyTable};

/// Two words and which of them are NULL.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Pair {
    pub words: [u64; 2],
    pub nulls: u32,
}

/// The upper half of a pair's hash, by which it is found: the slot by its first bits, the pair among its neighbours, but for
/// one in some thousands, by the others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Tag(u32);

impl Pair {
    #[inline(always)]
    pub fn tag(self) -> Tag {
        let joined = (self.words[0].wrapping_mul(GOLDEN)).rotate_left(32) ^ self.words[1] ^ u64::from(self.nulls);
        Tag((joined.wrapping_mul(GOLDEN) >> 32) as u32)
    }
}

impl Slotted for Tag {
    #[inline(always)]
    fn hash(self) -> u64 {
        u64::from(self.0) << 32
    }
}

/// The id of each pair; those not yet known get the next ids, and `new` hears of them. In a large table the slots are asked for some rows ahead, and
/// then the pairs that they lead to.
pub(super) fn pair_ids(
    index: &mut Index<Tag>,
    keys: &mut Vec<Pair>,
    known: &mut Ids,
    pairs: &[Pair],
    ids: &mut Vec<u32>,
    mut new: impl FnMut(Pair),
) {
    if !index.is_large() {
        ids.extend(pairs.iter().map(|pair| pair_id(index, keys, known, *pair, &mut new)));
        return;
    }
    ids.extend(pairs.iter().enumerate().map(|(i, pair)| {
        if let Some(ahead) = pairs.get(i + AHEAD) {
            index.prefetch(ahead.tag());
        }
        if let Some(id) = pairs.get(i + AHEAD / 2).and_then(|ahead| index.peek(ahead.tag())) {
            prefetch(keys, id as usize);
        }
        pair_id(index, keys, known, *pair, &mut new)
    }));
}

#[inline(always)]
fn pair_id(
    index: &mut Index<Tag>,
    keys: &mut Vec<Pair>,
    known: &mut Ids,
    pair: Pair,
    new: &mut impl FnMut(Pair),
) -> u32 {
    match index.find(pair.tag(), |id| keys[id as usize] == pair) {
        Ok(id) => id,
        Err(at) => {
            let id = known.next();
            set(keys, id, pair);
            index.put(at, pair.tag(), id);
            new(pair);
            id
        }
    }
}

#[inline(always)]
pub(super) fn find_pair(index: &Index<Tag>, keys: &[Pair], pair: Pair) -> u32 {
    index.find(pair.tag(), |id| keys[id as usize] == pair).unwrap_or(KeyTable::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_with_one_tag_are_kept_apart() {
        // What is added to a product with GOLDEN when its inverse is added to the factor: 1, in the lower half of the hash.
        let inverse = (0..6).fold(1u64, |x, _| x.wrapping_mul(2u64.wrapping_sub(GOLDEN.wrapping_mul(x))));
        let pairs: Vec<Pair> = (0..50u64).map(|n| Pair { words: [0, n.wrapping_mul(inverse)], nulls: 0 }).collect();
        assert!(pairs.iter().all(|pair| pair.tag() == pairs[0].tag()));
        let (mut index, mut keys, mut known, mut ids) = (Index::default(), Vec::new(), Ids::default(), Vec::new());
        index.rebuild(0, std::iter::empty());
        for _ in 0..2 {
            ids.clear();
            pair_ids(&mut index, &mut keys, &mut known, &pairs, &mut ids, |_| {});
            assert!(ids.iter().copied().eq(0..50));
        }
        assert!((0..50).all(|n| find_pair(&index, &keys, pairs[n]) == n as u32));
        assert_eq!(
            find_pair(&index, &keys, Pair { words: [0, 50u64.wrapping_mul(inverse)], nulls: 0 }),
            KeyTable::UNKNOWN
        );
    }

    #[test]
    fn a_pair_takes_little_more_than_itself() {
        let pairs: Vec<Pair> = (0..200_000).map(|n| Pair { words: [n, n % 7], nulls: 0 }).collect();
        let (mut index, mut keys, mut known, mut ids) = (Index::default(), Vec::new(), Ids::default(), Vec::new());
        index.rebuild(0, std::iter::empty());
        pair_ids(&mut index, &mut keys, &mut known, &pairs, &mut ids, |_| {});
        // Two to four slots of 8 bytes.
        assert!(index.bytes() <= 200_000 * 32, "{} bytes for each pair", index.bytes() / 200_000);
    }
}
