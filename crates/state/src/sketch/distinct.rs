//! How many values differ, about.
//!
//! HyperLogLog (Flajolet and others, 2007) with the estimator of O. Ertl, "New cardinality estimation algorithms for
//! HyperLogLog sketches" (2017), which needs no tables and is good at every size. A value's hash picks a register by
//! its first bits; the rank is the place of the first 1 in the rest. A register keeps the greatest rank. The estimate
//! rests on how many registers have each rank.
//!
//! [`CountedDistinct`] counts the values of each register and rank, so that they can be taken away again; it answers with
//! the same bits and takes more memory.

use std::collections::BTreeMap;

/// Registers are 2^14: a standard error of 0.8 %.
const PRECISION: u32 = 14;
const REGISTERS: usize = 1 << PRECISION;
/// The greatest rank.
const LAST: usize = 64 - PRECISION as usize + 1;
/// Registers that a small group lists one by one before it gets them all.
const SPARSE_MAX: usize = 1024;

/// Bytes of an entry of a map, about.
const SPARSE_BYTES: usize = 8;
const COUNTED_BYTES: usize = 24;

/// Register and rank of a hash.
fn place(hash: u64) -> (u16, u8) {
    let rank = ((hash << PRECISION) | 1 << (PRECISION - 1)).leading_zeros() as u8 + 1;
    ((hash >> (64 - PRECISION)) as u16, rank)
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distinct {
    /// By register, until there are too many. No rank is 0.
    sparse: BTreeMap<u16, u8>,
    dense: Option<Box<[u8]>>,
}

impl Distinct {
    /// Adds a value by its hash, which has to be [`hash_rows`](millstream_core::key::hash_rows)'s: it is pinned for ever.
    pub fn add(&mut self, hash: u64) {
        let (register, rank) = place(hash);
        self.raise(register, rank);
    }

    fn raise(&mut self, register: u16, rank: u8) {
        if let Some(dense) = &mut self.dense {
            let known = &mut dense[usize::from(register)];
            *known = rank.max(*known);
            return;
        }
        let known = self.sparse.entry(register).or_insert(rank);
        *known = rank.max(*known);
        if self.sparse.len() > SPARSE_MAX {
            let mut dense = vec![0u8; REGISTERS].into_boxed_slice();
            std::mem::take(&mut self.sparse).iter().for_each(|(r, rank)| dense[usize::from(*r)] = *rank);
            self.dense = Some(dense);
        }
    }

    pub fn merge(&mut self, other: &Distinct) {
        other.sparse.iter().for_each(|(register, rank)| self.raise(*register, *rank));
        if let Some(dense) = &other.dense {
            let touched = (0u16..).zip(dense.iter()).filter(|(_, rank)| **rank > 0);
            touched.for_each(|(register, rank)| self.raise(register, *rank));
        }
    }

    pub fn estimate(&self) -> i64 {
        let mut ranks = [0u32; LAST + 1];
        match &self.dense {
            Some(dense) => dense.iter().for_each(|r| ranks[usize::from(*r)] += 1),
            None => {
                self.sparse.values().for_each(|r| ranks[usize::from(*r)] += 1);
                ranks[0] = (REGISTERS - self.sparse.len()) as u32;
            }
        }
        estimate(&ranks)
    }

    /// Bytes that the registers take.
    pub fn bytes(&self) -> usize {
        self.sparse.len() * SPARSE_BYTES + self.dense.as_ref().map_or(0, |d| d.len())
    }

    /// Few registers: register (2 bytes, little-endian) and rank (1 byte) of each that was touched, in order. Many: all ranks,
    /// one byte each.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.dense {
            Some(dense) => dense.to_vec(),
            None => self.sparse.iter().flat_map(|(r, rank)| [r.to_le_bytes()[0], r.to_le_bytes()[1], *rank]).collect(),
        }
    }

    /// What [`Distinct::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Distinct> {
        let is_rank = |rank: u8| usize::from(rank) <= LAST;
        if bytes.len() == REGISTERS {
            let many = bytes.iter().filter(|r| **r > 0).count() > SPARSE_MAX;
            let whole = many && bytes.iter().all(|r| is_rank(*r));
            return whole.then(|| Distinct { sparse: BTreeMap::new(), dense: Some(bytes.into()) });
        }
        let mut sparse = BTreeMap::new();
        while !bytes.is_empty() {
            let ([low, high, rank], rest) = super::take::<3>(bytes)?;
            let register = u16::from_le_bytes([low, high]);
            let behind = sparse.last_key_value().is_none_or(|(last, _)| *last < register);
            if !behind || usize::from(register) >= REGISTERS || rank == 0 || !is_rank(rank) {
                return None;
            }
            sparse.insert(register, rank);
            bytes = rest;
        }
        (sparse.len() <= SPARSE_MAX).then_some(Distinct { sparse, dense: None })
    }
}

const COUNTED_VERSION: u8 = 1;

/// A sketch that values can be taken away from again.
#[derive(Debug, Clone, PartialEq)]
pub struct CountedDistinct {
    /// How many values there are of each register and rank; none is 0.
    counts: BTreeMap<(u16, u8), u64>,
    /// How many registers have each rank as their greatest.
    ranks: Box<[u32; LAST + 1]>,
}

impl Default for CountedDistinct {
    fn default() -> CountedDistinct {
        let mut ranks = Box::new([0; LAST + 1]);
        ranks[0] = REGISTERS as u32;
        CountedDistinct { counts: BTreeMap::new(), ranks }
    }
}

impl CountedDistinct {
    /// Adds a value by its hash, as [`Distinct::add`].
    pub fn add(&mut self, hash: u64) {
        let (register, rank) = place(hash);
        let before = self.greatest(register);
        *self.counts.entry((register, rank)).or_insert(0) += 1;
        self.moved(before, before.max(rank));
    }

    /// Takes away a value that was added before. One that is not there changes nothing: a changelog may take back what it
    /// never said.
    pub fn remove(&mut self, hash: u64) {
        let (register, rank) = place(hash);
        let before = self.greatest(register);
        let Some(count) = self.counts.get_mut(&(register, rank)) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&(register, rank));
            self.moved(before, self.greatest(register));
        }
    }

    fn greatest(&self, register: u16) -> u8 {
        self.counts.range((register, 0)..=(register, u8::MAX)).next_back().map_or(0, |((_, rank), _)| *rank)
    }

    fn moved(&mut self, from: u8, to: u8) {
        self.ranks[usize::from(from)] -= 1;
        self.ranks[usize::from(to)] += 1;
    }

    /// What [`Distinct::estimate`] says of the same values.
    pub fn estimate(&self) -> i64 {
        estimate(&self.ranks)
    }

    /// Register (2 bytes), rank (1) and count (8) of each, little-endian, behind a version. Equal sketches have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![COUNTED_VERSION];
        for ((register, rank), count) in &self.counts {
            bytes.extend_from_slice(&register.to_le_bytes());
            bytes.push(*rank);
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        bytes
    }

    /// What [`CountedDistinct::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<CountedDistinct> {
        let (&COUNTED_VERSION, mut rest) = bytes.split_first()? else { return None };
        let mut sketch = CountedDistinct::default();
        while !rest.is_empty() {
            let (entry, behind) = rest.split_first_chunk::<11>()?;
            rest = behind;
            let (register, rank) = (u16::from_le_bytes([entry[0], entry[1]]), entry[2]);
            let count = u64::from_le_bytes(entry[3..].try_into().ok()?);
            if usize::from(register) >= REGISTERS || usize::from(rank) > LAST || rank == 0 || count == 0 {
                return None;
            }
            let before = sketch.greatest(register);
            if sketch.counts.insert((register, rank), count).is_some() {
                return None;
            }
            sketch.moved(before, before.max(rank));
        }
        Some(sketch)
    }

    /// Bytes beyond its own size.
    pub fn bytes(&self) -> usize {
        size_of::<[u32; LAST + 1]>() + self.counts.len() * COUNTED_BYTES
    }
}

/// From how many registers have each rank.
fn estimate(ranks: &[u32; LAST + 1]) -> i64 {
    let m = REGISTERS as f64;
    let mut z = m * tau(1.0 - f64::from(ranks[LAST]) / m);
    for rank in (1..LAST).rev() {
        z = 0.5 * (z + f64::from(ranks[rank]));
    }
    z += m * sigma(f64::from(ranks[0]) / m);
    (m * m / (2.0 * std::f64::consts::LN_2) / z).round() as i64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::key::mix;
    use proptest::prelude::*;

    fn sketch(values: impl IntoIterator<Item = u64>) -> Distinct {
        let mut sketch = Distinct::default();
        values.into_iter().for_each(|v| sketch.add(mix(v)));
        sketch
    }

    #[test]
    fn estimates_are_near_at_every_size() {
        assert_eq!(sketch(0..0).estimate(), 0);
        for n in [1, 2, 10, 100, 1_000, 10_000, 100_000, 1_000_000u64] {
            let told = sketch((0..n).chain(0..n / 2)).estimate();
            let off = (told as f64 / n as f64 - 1.0).abs();
            assert!(off < 0.025, "{told} for {n}");
        }
    }

    #[test]
    fn bytes_that_are_no_sketch_are_refused() {
        for n in [0, 1, 500, 30_000] {
            let good = sketch(0..n);
            assert_eq!(Distinct::from_bytes(&good.to_bytes()), Some(good), "{n} values");
        }
        let good = sketch(0..9).to_bytes();
        assert_eq!(Distinct::from_bytes(&good[1..]), None);
        assert_eq!(Distinct::from_bytes(&[&good[3..6], &good[..3]].concat()), None, "not in order");
        assert_eq!(Distinct::from_bytes(&[0, 0, 0]), None, "a register that was not touched");
        assert_eq!(Distinct::from_bytes(&[0, 0, 99]), None, "no hash has this rank");
        assert_eq!(Distinct::from_bytes(&[0; REGISTERS]), None, "few registers are listed one by one");
    }

    proptest! {
        #[test]
        fn any_order_and_any_cut_give_the_same_bits(
            values in prop::collection::vec((0u64..3000, any::<u16>(), 0usize..3), 0..4000),
        ) {
            let straight = sketch(values.iter().map(|v| v.0));
            let mut shuffled = values.clone();
            shuffled.sort_by_key(|v| v.1);
            let mut merged = Distinct::default();
            for part in [2, 0, 1] {
                let part = sketch(shuffled.iter().filter(|v| v.2 == part).map(|v| v.0));
                merged.merge(&Distinct::from_bytes(&part.to_bytes()).expect("just written"));
            }
            prop_assert_eq!(&merged, &straight);
            prop_assert_eq!(merged.to_bytes(), straight.to_bytes());

            let mut counted = CountedDistinct::default();
            shuffled.iter().for_each(|v| counted.add(mix(v.0)));
            prop_assert_eq!(counted.estimate(), straight.estimate());
            shuffled.iter().filter(|v| v.2 == 0).for_each(|v| counted.remove(mix(v.0)));
            prop_assert_eq!(counted.estimate(), sketch(values.iter().filter(|v| v.2 > 0).map(|v| v.0)).estimate());
        }
    }
}
