//! Sums and moments as bytes and back, for checkpoints and for merging between processes.
//!
//! The bytes say the value, not how it came about: a sum that values were added to and taken away from has the bytes of
//! one that was made straight. A number is written as those of its words that say something:
//!
//! ```text
//!  first word (u8) · how many (u8) · words (u64, little-endian)      what lies below is 0, what lies above repeats the sign
//! ```

use super::{
    ExactMoments, ExactSum, FAST_EXPONENT, IntegerMoments, LEAST_EXPONENT, SQUARE_WORDS, SUM_WORDS, Specials, Wide,
};

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// What a word above `word` says that belongs to the same two's complement number.
fn sign_of(word: u64) -> u64 {
    if word >> 63 == 1 { u64::MAX } else { 0 }
}

fn write_words(words: &[u64], out: &mut Vec<u8>) {
    let first = words.iter().position(|w| *w != 0).unwrap_or(words.len());
    let mut end = words.len();
    // The word below has to say the sign by itself.
    while end > first && end > 1 && words[end - 1] == sign_of(if end - 1 > first { words[end - 2] } else { 0 }) {
        end -= 1;
    }
    let first = first.min(end);
    out.extend([first as u8, (end - first) as u8]);
    words[first..end].iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
}

fn read_words(words: &mut [u64], bytes: &mut &[u8]) -> Option<()> {
    let [first, count] = take::<2>(bytes)?.map(usize::from);
    let end = first + count;
    if end > words.len() {
        return None;
    }
    for word in &mut words[first..end] {
        *word = u64::from_le_bytes(take(bytes)?);
    }
    let above = if count == 0 { 0 } else { sign_of(words[end - 1]) };
    words[end..].fill(above);
    Some(())
}

impl ExactSum {
    /// The sum, for [`ExactSum::from_bytes`]. Equal sums have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        self.put(&mut bytes);
        bytes
    }

    /// What [`ExactSum::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<ExactSum> {
        let sum = ExactSum::take(&mut bytes)?;
        bytes.is_empty().then_some(sum)
    }

    fn put(&self, out: &mut Vec<u8>) {
        let mut whole = self.wide.as_deref().cloned().unwrap_or_default();
        whole.add_fixed(self.fixed);
        write_words(&whole.words, out);
        let Specials { nan, plus, minus } = whole.specials;
        let special = whole.specials != Specials::default();
        out.push(u8::from(special));
        if special {
            [nan, plus, minus].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        }
    }

    fn take(bytes: &mut &[u8]) -> Option<ExactSum> {
        let mut whole = Wide::default();
        read_words(&mut whole.words, bytes)?;
        match take::<1>(bytes)? {
            [0] => {}
            [1] => {
                let mut next = || take(bytes).map(i64::from_le_bytes);
                whole.specials = Specials { nan: next()?, plus: next()?, minus: next()? };
            }
            _ => return None,
        }
        Some(match fast(&whole) {
            Some(fixed) => ExactSum { fixed, wide: None },
            None => ExactSum { fixed: 0, wide: Some(Box::new(whole)) },
        })
    }
}

/// The sum in units of 2^-64, where it is a whole number of them and not large: it then stays on the fast path.
fn fast(whole: &Wide) -> Option<i128> {
    const SHIFT: usize = (FAST_EXPONENT - LEAST_EXPONENT) as usize;
    const AT: usize = SHIFT / 64;
    const BITS: u32 = SHIFT as u32 % 64;
    let words: &[u64; SUM_WORDS] = &whole.words;
    let exact = words[..AT].iter().all(|w| *w == 0) && words[AT].trailing_zeros() >= BITS;
    let high = words[AT + 2] as i64;
    let small = words[AT + 3..].iter().all(|w| *w == sign_of(high as u64)) && high.unsigned_abs() < 1 << 48;
    if !exact || !small || whole.specials != Specials::default() {
        return None;
    }
    let low = u128::from(words[AT] >> BITS) | u128::from(words[AT + 1]) << (64 - BITS);
    // The high word carries the sign.
    Some(low as i128 + (i128::from(high) << (128 - BITS)))
}

impl ExactMoments {
    /// Count, sum and squares, for [`ExactMoments::from_bytes`]. Equal moments have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.count.to_le_bytes().to_vec();
        self.sum.put(&mut bytes);
        write_words(&self.squares[..], &mut bytes);
        bytes
    }

    /// What [`ExactMoments::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<ExactMoments> {
        let count = i64::from_le_bytes(take(&mut bytes)?);
        let sum = ExactSum::take(&mut bytes)?;
        let mut squares = Box::new([0; SQUARE_WORDS]);
        read_words(&mut squares[..], &mut bytes)?;
        bytes.is_empty().then_some(ExactMoments { count, sum, squares })
    }
}

impl IntegerMoments {
    /// Count, sum and squares in 56 bytes, for [`IntegerMoments::from_bytes`]. Equal moments have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.count.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.sum.to_le_bytes());
        self.squares.iter().for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
        bytes
    }

    /// What [`IntegerMoments::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Option<IntegerMoments> {
        let count = i64::from_le_bytes(take(&mut bytes)?);
        let sum = i128::from_le_bytes(take(&mut bytes)?);
        let mut squares = [0; 4];
        for word in &mut squares {
            *word = u64::from_le_bytes(take(&mut bytes)?);
        }
        bytes.is_empty().then_some(IntegerMoments { count, sum, squares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let one = prop_oneof![
            6 => (-1_000_000i64..1_000_000).prop_map(|n| n as f64 / 64.0),
            3 => prop::num::f64::NORMAL,
            1 => prop::num::f64::ANY,
        ];
        prop::collection::vec(one, 0..12)
    }

    #[test]
    fn a_sum_of_practice_takes_few_bytes_and_stays_fast() {
        for value in [0.0, 1.0, -1.0, 0.1, -123_456.75, 5e17, -5e17] {
            let mut sum = ExactSum::default();
            sum.add(value);
            let bytes = sum.to_bytes();
            assert!(bytes.len() <= 3 + 3 * 8, "{value}: {} bytes", bytes.len());
            let back = ExactSum::from_bytes(&bytes).expect("just written");
            assert_eq!((back.value(), back.wide), (value, None));
        }
    }

    #[test]
    fn bytes_that_are_no_sum_are_refused() {
        let mut sum = ExactSum::default();
        sum.add(f64::INFINITY);
        let good = sum.to_bytes();
        assert_eq!(ExactSum::from_bytes(&good).map(|s| s.value()), Some(f64::INFINITY));
        for cut in 0..good.len() {
            assert_eq!(ExactSum::from_bytes(&good[..cut]), None, "cut at {cut}");
        }
        assert_eq!(ExactSum::from_bytes(&[good, vec![0]].concat()), None, "too long");
        assert_eq!(ExactSum::from_bytes(&[200, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "beyond every double");
        assert_eq!(IntegerMoments::from_bytes(&[0; 55]), None);
        assert_eq!(ExactMoments::from_bytes(&[0; 4]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_says_the_value_alone(values in values(), gone in values()) {
            let (mut sum, mut roundabout) = (ExactSum::default(), ExactSum::default());
            let (mut moments, mut moved) = (ExactMoments::default(), ExactMoments::default());
            gone.iter().for_each(|v| { roundabout.add(*v); moved.add(*v) });
            values.iter().for_each(|v| { sum.add(*v); moments.add(*v) });
            values.iter().rev().for_each(|v| { roundabout.add(*v); moved.add(*v) });
            gone.iter().for_each(|v| { roundabout.subtract(*v); moved.subtract(*v) });
            prop_assert_eq!(sum.to_bytes(), roundabout.to_bytes());
            prop_assert_eq!(moments.to_bytes(), moved.to_bytes());
            let back = ExactSum::from_bytes(&roundabout.to_bytes()).expect("just written");
            prop_assert_eq!(back.value().to_bits(), sum.value().to_bits());
            prop_assert_eq!(back.to_bytes(), sum.to_bytes());
            let back = ExactMoments::from_bytes(&moved.to_bytes()).expect("just written");
            prop_assert_eq!(back.to_bytes(), moments.to_bytes());
            prop_assert_eq!(back.variance(true).map(f64::to_bits), moments.variance(true).map(f64::to_bits));
        }

        #[test]
        fn moments_of_integers_too(values in prop::collection::vec(any::<i64>(), 0..9)) {
            let mut moments = IntegerMoments::default();
            values.iter().for_each(|v| moments.add(*v));
            prop_assert_eq!(IntegerMoments::from_bytes(&moments.to_bytes()), Some(moments));
        }
    }
}
