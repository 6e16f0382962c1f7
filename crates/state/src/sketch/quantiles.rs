//! Quantiles from counts by bucket.
//!
//! The buckets are cut from the bits of a double: its sign, its exponent, and the first eight bits of its fraction. So
//! each power of two is cut into 256 buckets of like width, and the edges are doubles. This is the idea of DDSketch
//! (Masson, Rim and Lee, 2019), with edges that no logarithm has to be computed for, which machines may round
//! differently.
//!
//! ```text
//!   1.0        1.00390625   1.0078125          2.0      2.0078125
//!    ├─ bucket ─┤─ bucket ─┤─ ...               ├─ bucket ─┤─ ...
//!    ▲ every value of the bucket is told as this edge, the one toward zero
//! ```
//!
//! What follows:
//! - An answer has the sign of the true value, is not above it in magnitude, and less than 1/256 (0.4 %) below it. What has
//!   at most nine significant bits is told exactly: whole numbers to 511, halves to 255.5. (Below 2^-1022, where doubles
//!   lose bits themselves, the bound is 2^-1030 instead.)
//! - Zero has a bucket of its own with what is below 2^-1030; -0.0 is 0.0. The infinities and NaN have theirs; NaN is the
//!   greatest.
//! - There are [`BUCKETS_MAX`] buckets at most, and never more than values: the bound is in the cut, so no rule about what
//!   to join when there are too many could depend on what came first. Values of a few like magnitudes fill a few
//!   thousand.

use std::collections::BTreeMap;

/// Bits of the fraction that tell buckets apart.
const FRACTION_BITS: u32 = 8;
/// Bits of a double that do not.
const DROPPED_BITS: u32 = 52 - FRACTION_BITS;
/// The bucket of infinity, behind those of 2,047 exponents.
const INFINITY: i32 = 2047 << FRACTION_BITS;
/// The bucket of NaN, whose fraction begins with a 1.
const NAN: i32 = INFINITY | 1 << (FRACTION_BITS - 1);
/// Buckets that there can be: finite ones and infinity of each sign, and NaN.
pub const BUCKETS_MAX: usize = 2 * (INFINITY as usize + 1) + 1;

/// Bytes of a bucket, about.
const BUCKET_BYTES: usize = 24;

/// How many values fall into each bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quantiles {
    /// No count is zero. In the order of the values.
    buckets: BTreeMap<i32, u64>,
    count: u64,
}

fn bucket(value: f64) -> i32 {
    let canonical = if value.is_nan() { f64::NAN.abs() } else { value.abs() };
    let magnitude = (canonical.to_bits() >> DROPPED_BITS) as i32;
    // Negative values mirror the positive ones; -1 mirrors 0 and stays free for what is tiny and negative.
    if value < 0.0 { !magnitude } else { magnitude }
}

/// The edge toward zero.
fn edge(bucket: i32) -> f64 {
    let magnitude = |bits: i32| f64::from_bits((bits as u64) << DROPPED_BITS);
    // The sum makes 0.0 of -0.0.
    if bucket < 0 { -magnitude(!bucket) + 0.0 } else { magnitude(bucket) }
}

impl Quantiles {
    pub fn add(&mut self, value: f64) {
        *self.buckets.entry(bucket(value)).or_insert(0) += 1;
        self.count += 1;
    }

    /// Takes away a value that was added before. One that is not there changes nothing: a changelog may take back what it
    /// never said.
    pub fn remove(&mut self, value: f64) {
        let bucket = bucket(value);
        if self.buckets.contains_key(&bucket) {
            self.take(bucket, 1);
        }
    }

    pub fn merge(&mut self, other: &Quantiles) {
        other.buckets.iter().for_each(|(bucket, n)| *self.buckets.entry(*bucket).or_insert(0) += n);
        self.count += other.count;
    }

    /// Takes away a sketch whose values were added before.
    pub fn unmerge(&mut self, other: &Quantiles) {
        other.buckets.iter().for_each(|(bucket, n)| self.take(*bucket, *n));
    }

    fn take(&mut self, bucket: i32, n: u64) {
        let held = self.buckets.get_mut(&bucket).filter(|held| **held >= n);
        let held = held.expect("only what was added is taken away");
        *held -= n;
        if *held == 0 {
            self.buckets.remove(&bucket);
        }
        self.count -= n;
    }

    /// The value at a fraction from 0 to 1 of the way from the least to the greatest: between two neighbours in proportion.
    /// `None` without a value.
    pub fn quantile(&self, fraction: f64) -> Option<f64> {
        let last = self.count.checked_sub(1)?;
        let at = fraction.clamp(0.0, 1.0) * last as f64;
        let (rank, part) = ((at.floor() as u64).min(last), at.fract());
        // The values of rank `rank` and of the one after it.
        let (mut seen, mut below) = (0u64, None);
        for (bucket, n) in &self.buckets {
            seen += n;
            if seen <= rank {
                continue;
            }
            let here = edge(*bucket);
            let low = *below.get_or_insert(here);
            if part == 0.0 || seen > rank + 1 || seen == self.count {
                return Some(if part == 0.0 || low == here { low } else { low + (here - low) * part });
            }
        }
        below
    }

    /// Bytes that the buckets take.
    pub fn bytes(&self) -> usize {
        self.buckets.len() * BUCKET_BYTES
    }

    /// Pairs of bucket (4 bytes) and count (8 bytes), in the order of the buckets, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.buckets.len() * 12);
        for (bucket, n) in &self.buckets {
            bytes.extend_from_slice(&bucket.to_le_bytes());
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        bytes
    }

    /// What [`Quantiles::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Quantiles> {
        let mut sketch = Quantiles::default();
        while !bytes.is_empty() {
            let (bucket, rest) = super::take(bytes)?;
            let (n, rest) = super::take(rest)?;
            let (bucket, n) = (i32::from_le_bytes(bucket), u64::from_le_bytes(n));
            let behind = sketch.buckets.last_key_value().is_none_or(|(last, _)| *last < bucket);
            let known = (!INFINITY..=INFINITY).contains(&bucket) || bucket == NAN;
            if !behind || n == 0 || !known {
                return None;
            }
            sketch.buckets.insert(bucket, n);
            sketch.count = sketch.count.checked_add(n)?;
            bytes = rest;
        }
        Some(sketch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch(values: &[f64]) -> Quantiles {
        let mut sketch = Quantiles::default();
        values.iter().for_each(|v| sketch.add(*v));
        sketch
    }

    fn exact(values: &[f64], fraction: f64) -> (f64, f64, f64) {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = fraction * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        (low, high, low + (high - low) * at.fract())
    }

    #[test]
    fn round_numbers_are_told_exactly() {
        let whole: Vec<f64> = (0..512).map(f64::from).collect();
        assert_eq!(sketch(&whole).quantile(1.0), Some(511.0));
        assert_eq!(sketch(&whole).quantile(0.5), Some(255.5));
        assert_eq!(sketch(&[2.0, 1.0]).quantile(0.5), Some(1.5));
        assert_eq!(sketch(&[2.0, 1.0, 4.0]).quantile(0.75), Some(3.0));
        assert_eq!(sketch(&[1.5, -2.25, 100.0]).quantile(0.0), Some(-2.25));
        assert_eq!(sketch(&[]).quantile(0.5), None);
    }

    #[test]
    fn zeros_infinities_and_nan_have_their_place() {
        assert_eq!(sketch(&[-0.0, 0.0]).quantile(0.5).map(f64::to_bits), Some(0.0f64.to_bits()));
        assert_eq!(sketch(&[-5e-324]).quantile(0.5).map(f64::to_bits), Some(0.0f64.to_bits()));
        assert_eq!(sketch(&[-1.0, 0.0, 1.0]).quantile(0.5), Some(0.0));
        let ends = sketch(&[f64::NEG_INFINITY, 3.0, f64::INFINITY]);
        assert_eq!(ends.quantile(0.0), Some(f64::NEG_INFINITY));
        assert_eq!(ends.quantile(0.5), Some(3.0));
        assert_eq!(ends.quantile(1.0), Some(f64::INFINITY));
        assert_eq!(sketch(&[f64::INFINITY; 2]).quantile(0.3), Some(f64::INFINITY));
        let nans = sketch(&[f64::NAN, -f64::NAN, 1.0]);
        assert_eq!(nans.quantile(0.0), Some(1.0));
        assert!(nans.quantile(1.0).is_some_and(f64::is_nan));
        assert_eq!(nans.buckets.len(), 2, "every NaN is one");
    }

    #[test]
    fn the_buckets_are_as_many_as_the_cut_says() {
        assert_eq!([f64::NEG_INFINITY, f64::INFINITY, f64::NAN].map(bucket), [!INFINITY, INFINITY, NAN]);
        assert_eq!([f64::MAX, 0.0, -5e-324].map(bucket), [INFINITY - 1, 0, -1]);
    }

    #[test]
    fn bytes_that_are_no_sketch_are_refused() {
        let good = sketch(&[1.0, 2.0]).to_bytes();
        assert_eq!(Quantiles::from_bytes(&good), Some(sketch(&[2.0, 1.0])));
        assert_eq!(Quantiles::from_bytes(&good[..good.len() - 1]), None);
        let swapped = [&good[12..], &good[..12]].concat();
        assert_eq!(Quantiles::from_bytes(&swapped), None, "not in order");
        let mut empty = good.clone();
        empty[4..12].fill(0);
        assert_eq!(Quantiles::from_bytes(&empty), None, "a bucket of nothing");
        assert_eq!(Quantiles::from_bytes(&[0xff; 12]).map(|s| s.count), Some(u64::MAX));
        assert_eq!(Quantiles::from_bytes(&[0x7f; 12]), None, "no double has this bucket");
    }

    fn floats() -> impl Strategy<Value = f64> {
        prop_oneof![
            8 => prop::num::f64::NORMAL,
            4 => -1e6f64..1e6,
            1 => prop::num::f64::ANY,
        ]
    }

    proptest! {
        #[test]
        fn any_order_and_any_cut_give_the_same_bits(
            values in prop::collection::vec((floats(), any::<u16>(), 0usize..4), 1..60), fraction in 0.0f64..=1.0,
        ) {
            let straight = sketch(&values.iter().map(|v| v.0).collect::<Vec<_>>());
            let mut shuffled = values.clone();
            shuffled.sort_by_key(|v| v.1);
            let mut parts = vec![Quantiles::default(); 4];
            shuffled.iter().for_each(|(v, _, part)| parts[*part].add(*v));
            let mut merged = Quantiles::default();
            parts.iter().rev().for_each(|p| merged.merge(&Quantiles::from_bytes(&p.to_bytes()).expect("just written")));
            prop_assert_eq!(&merged, &straight);
            prop_assert_eq!(merged.to_bytes(), straight.to_bytes());
            prop_assert_eq!(merged.quantile(fraction).map(f64::to_bits), straight.quantile(fraction).map(f64::to_bits));

            // Taken away again, nothing of it is left.
            merged.unmerge(&parts[0]);
            shuffled.iter().filter(|v| v.2 == 1).for_each(|v| merged.remove(v.0));
            let rest: Vec<f64> = values.iter().filter(|v| v.2 > 1).map(|v| v.0).collect();
            prop_assert_eq!(merged, sketch(&rest));
        }

        #[test]
        fn an_answer_is_less_than_a_256th_off(
            values in prop::collection::vec(prop_oneof![1e-300f64..1e300, -1e9f64..-1e-9, -4.0f64..4.0], 1..80),
            fraction in 0.0f64..=1.0,
        ) {
            let told = sketch(&values).quantile(fraction).expect("there are values");
            let (low, high, between) = exact(&values, fraction);
            let off = low.abs().max(high.abs()) / 256.0;
            prop_assert!((told - between).abs() <= off, "{told} for {between}");
            let least = sketch(&values).quantile(0.0).expect("there are values");
            let truly = exact(&values, 0.0).0;
            prop_assert!(least.abs() <= truly.abs() && truly.abs() * (1.0 - 1.0 / 256.0) <= least.abs());
        }
    }
}
