//! Sums of floats that are exact, and so do not depend on the order of what is added and taken away.
//!
//! ```text
//!  x ──fits 64.64 bits──▶ i128 in units of 2^-64      (nearly every value of practice; 2 words)
//!   └─otherwise─────────▶ Wide: one integer over the whole range of f64   (rare; 35 words, on the heap)
//! ```
//!
//! Every finite f64 is a whole number of 2^-1074. A sum kept as an integer of such units is exact; it is rounded once,
//! to nearest, when it is read. Tiles, retractions, restarts and batch therefore give the same bits. NaN and the
//! infinities are counted, so that they too can be taken away again.

mod saved;

/// The sum's unit on the fast path: 2^-64.
const FAST_EXPONENT: i32 = -64;
/// The least unit of f64.
const LEAST_EXPONENT: i32 = -1074;
/// Words of a sum over the whole range: 2,098 bits for the values, the rest for 2^64 of them and the sign.
const SUM_WORDS: usize = 35;
/// Words of a sum of squares: twice the range.
const SQUARE_WORDS: usize = 68;

/// `x = mantissa * 2^exponent` with an odd mantissa, and the sign. `None` for what is not finite.
#[inline]
fn split(x: f64) -> Option<(u64, i32, bool)> {
    let bits = x.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7FF) as i32, bits & ((1 << 52) - 1));
    let (mantissa, exponent) = match exponent {
        0x7FF => return None,
        0 => (fraction, LEAST_EXPONENT),
        e => (fraction | 1 << 52, e - 1075),
    };
    if mantissa == 0 {
        return Some((0, 0, false));
    }
    let zeros = mantissa.trailing_zeros();
    Some((mantissa >> zeros, exponent + zeros as i32, x.is_sign_negative()))
}

/// The value in units of 2^-64, if it is a whole number of them below 2^59.
#[inline]
pub fn fixed(x: f64) -> Option<i128> {
    // 2^-64 and 2^59 leave room for 16 values of the largest kind before the sum has to be carried over.
    if x.abs() >= 576_460_752_303_423_488.0 || x.is_nan() {
        return None;
    }
    // Scaling by a power of two is exact here; the cast is exact when nothing stands behind the point.
    let scaled = x * 18_446_744_073_709_551_616.0;
    let whole = scaled as i128;
    (whole as f64 == scaled).then_some(whole)
}

/// An exact sum of f64 values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExactSum {
    fixed: i128,
    wide: Option<Box<Wide>>,
}

impl ExactSum {
    #[inline]
    pub fn add(&mut self, x: f64) {
        add_to(&mut self.fixed, &mut self.wide, x, false);
    }

    /// Takes a value away that was added before.
    pub fn subtract(&mut self, x: f64) {
        add_to(&mut self.fixed, &mut self.wide, x, true);
    }

    pub fn merge(&mut self, other: &ExactSum) {
        add_fixed(&mut self.fixed, &mut self.wide, other.fixed);
        if let Some(wide) = &other.wide {
            self.wide.get_or_insert_default().merge(wide, false);
        }
    }

    /// Takes a sum away whose values were added before.
    pub fn unmerge(&mut self, other: &ExactSum) {
        add_fixed(&mut self.fixed, &mut self.wide, -other.fixed);
        if let Some(wide) = &other.wide {
            self.wide.get_or_insert_default().merge(wide, true);
        }
    }

    /// The sum, rounded to nearest, ties to even.
    pub fn value(&self) -> f64 {
        total(self.fixed, self.wide.as_deref())
    }

    pub fn bytes(&self) -> usize {
        size_of::<ExactSum>() + self.wide.as_ref().map_or(0, |_| size_of::<Wide>())
    }

    /// Appends the sum as bytes, for [`ExactSum::read`]: the fast part, then the wide one if there is one.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.fixed.to_le_bytes());
        bytes.push(u8::from(self.wide.is_some()));
        if let Some(wide) = &self.wide {
            wide.write(bytes);
        }
    }

    /// Reads what [`ExactSum::write`] wrote, and gives back the bytes behind it.
    pub fn read(bytes: &[u8]) -> Option<(ExactSum, &[u8])> {
        let (fixed, rest) = bytes.split_first_chunk()?;
        let (has_wide, rest) = rest.split_first()?;
        let (wide, rest) = match has_wide {
            0 => (None, rest),
            _ => Wide::read(rest).map(|(wide, rest)| (Some(Box::new(wide)), rest))?,
        };
        Some((ExactSum { fixed: i128::from_le_bytes(*fixed), wide }, rest))
    }
}

/// Adds (or takes away) a value to a sum whose two parts are kept apart by the caller.
#[inline]
pub fn add_to(sum: &mut i128, wide: &mut Option<Box<Wide>>, x: f64, away: bool) {
    match fixed(x) {
        Some(value) => add_fixed(sum, wide, if away { -value } else { value }),
        None => wide.get_or_insert_default().add(x, away),
    }
}

/// Adds to the fast part of a sum; what does not fit there any more is carried to the wide part.
#[inline]
pub fn add_fixed(sum: &mut i128, wide: &mut Option<Box<Wide>>, value: i128) {
    match sum.checked_add(value) {
        Some(joined) => *sum = joined,
        None => {
            wide.get_or_insert_default().add_fixed(*sum);
            *sum = value;
        }
    }
}

/// What a sum in two parts comes to.
pub fn total(sum: i128, wide: Option<&Wide>) -> f64 {
    match wide {
        // i128 to f64 rounds to nearest, and the scaling is exact.
        None => sum as f64 / 18_446_744_073_709_551_616.0,
        Some(wide) => {
            let mut whole = wide.clone();
            whole.add_fixed(sum);
            whole.value()
        }
    }
}

/// A sum over the whole range of f64, in units of 2^-1074, two's complement, with the special values counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Wide {
    words: [u64; SUM_WORDS],
    specials: Specials,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Specials {
    nan: i64,
    plus: i64,
    minus: i64,
}

impl Specials {
    fn count(&mut self, x: f64, by: i64) {
        match x {
            x if x.is_nan() => self.nan += by,
            x if x > 0.0 => self.plus += by,
            _ => self.minus += by,
        }
    }

    fn merge(&mut self, other: &Specials, by: i64) {
        self.nan += other.nan * by;
        self.plus += other.plus * by;
        self.minus += other.minus * by;
    }

    fn value(&self) -> Option<f64> {
        match (self.nan != 0, self.plus != 0, self.minus != 0) {
            (false, false, false) => None,
            (false, true, false) => Some(f64::INFINITY),
            (false, false, true) => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }
}

impl Default for Wide {
    fn default() -> Wide {
        Wide { words: [0; SUM_WORDS], specials: Specials::default() }
    }
}

impl Wide {
    fn add(&mut self, x: f64, away: bool) {
        match split(x) {
            Some((mantissa, exponent, negative)) => {
                add_shifted(
                    &mut self.words,
                    u128::from(mantissa),
                    (exponent - LEAST_EXPONENT) as u32,
                    negative != away,
                );
            }
            None => self.specials.count(x, if away { -1 } else { 1 }),
        }
    }

    pub fn add_fixed(&mut self, value: i128) {
        let shift = (FAST_EXPONENT - LEAST_EXPONENT) as u32;
        add_shifted(&mut self.words, value.unsigned_abs(), shift, value < 0);
    }

    pub fn merge(&mut self, other: &Wide, away: bool) {
        add_words(&mut self.words, &other.words, away);
        self.specials.merge(&other.specials, if away { -1 } else { 1 });
    }

    /// Appends the sum as bytes, for [`Wide::read`].
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let specials = [self.specials.nan, self.specials.plus, self.specials.minus].map(|n| n as u64);
        self.words.iter().chain(&specials).for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
    }

    /// Reads what [`Wide::write`] wrote, and gives back the bytes behind it.
    pub fn read(bytes: &[u8]) -> Option<(Wide, &[u8])> {
        let (mine, rest) = bytes.split_at_checked((SUM_WORDS + 3) * 8)?;
        let mut wide = Wide::default();
        let mut words = mine.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().expect("eight bytes")));
        wide.words.iter_mut().for_each(|w| *w = words.next().unwrap_or(0));
        let mut special = || words.next().unwrap_or(0) as i64;
        wide.specials = Specials { nan: special(), plus: special(), minus: special() };
        Some((wide, rest))
    }

    fn value(&self) -> f64 {
        self.specials.value().unwrap_or_else(|| round(&Signed::from_complement(&self.words), LEAST_EXPONENT))
    }
}

/// Count, sum and sum of squares, all exact: what VAR and STDDEV are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactMoments {
    pub count: i64,
    sum: ExactSum,
    /// In units of 2^-2148.
    squares: Box<[u64; SQUARE_WORDS]>,
}

impl Default for ExactMoments {
    fn default() -> ExactMoments {
        ExactMoments { count: 0, sum: ExactSum::default(), squares: Box::new([0; SQUARE_WORDS]) }
    }
}

impl ExactMoments {
    pub fn add(&mut self, x: f64) {
        self.change(x, false);
    }

    pub fn subtract(&mut self, x: f64) {
        self.change(x, true);
    }

    fn change(&mut self, x: f64, away: bool) {
        self.count += if away { -1 } else { 1 };
        add_to(&mut self.sum.fixed, &mut self.sum.wide, x, away);
        if let Some((mantissa, exponent, _)) = split(x) {
            let square = u128::from(mantissa) * u128::from(mantissa);
            add_shifted(&mut self.squares[..], square, (2 * exponent - 2 * LEAST_EXPONENT) as u32, away);
        }
    }

    pub fn merge(&mut self, other: &ExactMoments) {
        self.count += other.count;
        self.sum.merge(&other.sum);
        add_words(&mut self.squares[..], &other.squares[..], false);
    }

    pub fn unmerge(&mut self, other: &ExactMoments) {
        self.count -= other.count;
        self.sum.unmerge(&other.sum);
        add_words(&mut self.squares[..], &other.squares[..], true);
    }

    /// The variance, over `count` (population) or `count - 1` (sample); `None` where that is not above zero.
    pub fn variance(&self, sample: bool) -> Option<f64> {
        let specials = self.sum.wide.as_ref().and_then(|w| w.specials.value());
        let mut sum = self.sum.wide.as_deref().cloned().unwrap_or_default();
        sum.add_fixed(self.sum.fixed);
        let sum = Signed::from_complement(&sum.words);
        let squares = Signed::from_complement(&self.squares[..]);
        let variance = variance(self.count, &sum, &squares, 2 * LEAST_EXPONENT, sample)?;
        Some(if specials.is_some() { f64::NAN } else { variance })
    }

    pub fn bytes(&self) -> usize {
        size_of::<ExactMoments>() + SQUARE_WORDS * 8 + self.sum.bytes()
    }

    /// Appends the moments as bytes, for [`ExactMoments::read`].
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.count.to_le_bytes());
        self.squares.iter().for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
        self.sum.write(bytes);
    }

    /// Reads what [`ExactMoments::write`] wrote, and gives back the bytes behind it.
    pub fn read(bytes: &[u8]) -> Option<(ExactMoments, &[u8])> {
        let (count, rest) = bytes.split_first_chunk()?;
        let mut moments = ExactMoments { count: i64::from_le_bytes(*count), ..ExactMoments::default() };
        let rest = read_words(rest, &mut moments.squares[..])?;
        let (sum, rest) = ExactSum::read(rest)?;
        moments.sum = sum;
        Some((moments, rest))
    }
}

/// Count, sum and sum of squares of integers, exact over all of i128's sums and 256 bits of squares.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct IntegerMoments {
    pub count: i64,
    sum: i128,
    squares: [u64; 4],
}

impl IntegerMoments {
    pub fn add(&mut self, x: i64) {
        self.change(x, false);
    }

    /// Takes a value away that was added before.
    pub fn subtract(&mut self, x: i64) {
        self.change(x, true);
    }

    fn change(&mut self, x: i64, away: bool) {
        self.count += if away { -1 } else { 1 };
        self.sum += if away { -i128::from(x) } else { i128::from(x) };
        add_shifted(&mut self.squares, u128::from(x.unsigned_abs()).pow(2), 0, away);
    }

    pub fn merge(&mut self, other: &IntegerMoments) {
        self.count += other.count;
        self.sum += other.sum;
        add_words(&mut self.squares, &other.squares, false);
    }

    pub fn unmerge(&mut self, other: &IntegerMoments) {
        self.count -= other.count;
        self.sum -= other.sum;
        add_words(&mut self.squares, &other.squares, true);
    }

    /// Appends the moments as bytes, for [`IntegerMoments::read`].
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.sum.to_le_bytes());
        self.squares.iter().for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
    }

    /// Reads what [`IntegerMoments::write`] wrote, and gives back the bytes behind it.
    pub fn read(bytes: &[u8]) -> Option<(IntegerMoments, &[u8])> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let mut squares = [0; 4];
        let rest = read_words(rest, &mut squares)?;
        Some((IntegerMoments { count: i64::from_le_bytes(*count), sum: i128::from_le_bytes(*sum), squares }, rest))
    }

    /// As [`ExactMoments::variance`], of values that are `unit` each.
    pub fn variance(&self, sample: bool, unit: f64) -> Option<f64> {
        let sum = self.sum.unsigned_abs();
        let sum = Signed { negative: self.sum < 0, words: vec![sum as u64, (sum >> 64) as u64] };
        let squares = Signed { negative: false, words: self.squares.to_vec() };
        variance(self.count, &sum, &squares, 0, sample).map(|v| v * unit * unit)
    }
}

/// Fills `words` from the front of `bytes`, and gives back the rest.
fn read_words<'a>(bytes: &'a [u8], words: &mut [u64]) -> Option<&'a [u8]> {
    let (mine, rest) = bytes.split_at_checked(words.len() * 8)?;
    let read = mine.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().expect("eight bytes")));
    words.iter_mut().zip(read).for_each(|(word, read)| *word = read);
    Some(rest)
}

/// `(n * squares - sum^2) / (n * (n or n - 1))`: the upper part without any rounding, then one division.
fn variance(count: i64, sum: &Signed, squares: &Signed, exponent: i32, sample: bool) -> Option<f64> {
    let below = if sample { count - 1 } else { count };
    if below <= 0 {
        return None;
    }
    let n = Signed { negative: false, words: vec![count as u64] };
    let above = squares.times(&n).minus_positive(&sum.times(sum));
    Some(round(&above, exponent) / (count as f64 * below as f64))
}

/// Adds `value * 2^shift` to (or takes it from) a two's complement integer.
fn add_shifted(words: &mut [u64], value: u128, shift: u32, away: bool) {
    let (at, shift) = (shift as usize / 64, shift % 64);
    let low = value << shift;
    let high = if shift == 0 { 0 } else { (value >> (128 - shift)) as u64 };
    let parts = [low as u64, (low >> 64) as u64, high];
    let mut carry = false;
    for (i, word) in words[at..].iter_mut().enumerate() {
        let part = parts.get(i).copied().unwrap_or(0);
        if i >= 3 && !carry {
            break;
        }
        (*word, carry) = step(*word, part, carry, away);
    }
}

fn add_words(words: &mut [u64], other: &[u64], away: bool) {
    let mut carry = false;
    for (word, part) in words.iter_mut().zip(other) {
        (*word, carry) = step(*word, *part, carry, away);
    }
}

#[inline]
fn step(word: u64, part: u64, carry: bool, away: bool) -> (u64, bool) {
    let (first, second);
    let result;
    if away {
        let (difference, borrow) = word.overflowing_sub(part);
        (result, second) = difference.overflowing_sub(u64::from(carry));
        first = borrow;
    } else {
        let (sum, over) = word.overflowing_add(part);
        (result, second) = sum.overflowing_add(u64::from(carry));
        first = over;
    }
    (result, first || second)
}

/// A whole number of any size: sign and magnitude, least word first.
struct Signed {
    negative: bool,
    words: Vec<u64>,
}

impl Signed {
    fn from_complement(words: &[u64]) -> Signed {
        let negative = words.last().is_some_and(|w| w >> 63 == 1);
        let mut magnitude = words.to_vec();
        if negative {
            let mut carry = true;
            for word in &mut magnitude {
                (*word, carry) = (!*word).overflowing_add(u64::from(carry));
            }
        }
        Signed { negative, words: magnitude }
    }

    fn times(&self, other: &Signed) -> Signed {
        let mut words = vec![0u64; self.words.len() + other.words.len()];
        for (i, a) in self.words.iter().enumerate().filter(|(_, a)| **a != 0) {
            let mut carry = 0u128;
            for (j, b) in other.words.iter().enumerate() {
                let sum = u128::from(*a) * u128::from(*b) + u128::from(words[i + j]) + carry;
                words[i + j] = sum as u64;
                carry = sum >> 64;
            }
            words[i + other.words.len()] = carry as u64;
        }
        Signed { negative: self.negative != other.negative, words }
    }

    /// `self - other`, for two numbers that are not negative.
    fn minus_positive(&self, other: &Signed) -> Signed {
        let len = self.words.len().max(other.words.len()) + 1;
        let mut words = self.words.clone();
        words.resize(len, 0);
        let mut right = other.words.clone();
        right.resize(len, 0);
        add_words(&mut words, &right, true);
        Signed::from_complement(&words)
    }
}

/// `number * 2^exponent` as the nearest f64, ties to even. `exponent` is at most 0.
fn round(number: &Signed, exponent: i32) -> f64 {
    let Some(top) = number.words.iter().rposition(|w| *w != 0) else { return 0.0 };
    let bits = top as i32 * 64 + 64 - number.words[top].leading_zeros() as i32;
    // The lowest bit that the result can hold: 53 below the top, or the least unit of f64.
    let low = (bits - 53).max(LEAST_EXPONENT - exponent).max(0);
    let bit = |at: i32| at >= 0 && number.words.get(at as usize / 64).is_some_and(|w| w >> (at % 64) & 1 == 1);
    let word = |at: usize| number.words.get(at).copied().unwrap_or(0);
    let (at, shift) = (low as usize / 64, low as u32 % 64);
    let mut mantissa = word(at) >> shift;
    if shift > 0 {
        mantissa |= word(at + 1) << (64 - shift);
    }
    if bits - low < 64 {
        mantissa &= (1u64 << (bits - low).max(0)) - 1;
    }
    let half = low > 0 && bit(low - 1);
    if half {
        let below_half = low - 1;
        let (full, rest) = (below_half as usize / 64, below_half as u32 % 64);
        let sticky = number.words[..full].iter().any(|w| *w != 0) || word(full) & ((1u64 << rest) - 1) != 0;
        if sticky || mantissa & 1 == 1 {
            mantissa += 1;
        }
    }
    let value = scale(mantissa as f64, low + exponent);
    if number.negative { -value } else { value }
}

/// `x * 2^exponent`, where the result is exact or infinite.
fn scale(x: f64, exponent: i32) -> f64 {
    let power = |e: i32| f64::from_bits(((e + 1023) as u64) << 52);
    let (mut x, mut exponent) = (x, exponent);
    while exponent > 1023 {
        x *= power(1023);
        exponent -= 1023;
    }
    while exponent < -1022 {
        // In two exact steps: the last one ends at a whole number of the least unit.
        let by = exponent.max(-1022 - 52).max(-1022);
        x *= power(by);
        exponent -= by;
    }
    x * power(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_float() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (-1_000_000i64..1_000_000).prop_map(|n| n as f64 / 100.0),
            1 => (any::<i64>(), -1000i32..900).prop_map(|(m, e)| scale((m >> 12) as f64, e)),
            1 => any::<f64>().prop_filter("finite", |x| x.is_finite() && x.abs() < 1e300),
            1 => (1u64..100).prop_map(f64::from_bits),
        ]
    }

    /// A reference of another make: integers over the whole range, in 32-bit digits with their own signs.
    fn reference(values: &[f64]) -> f64 {
        let mut digits = [0i128; 72];
        for x in values {
            let (m, e, negative) = split(*x).expect("finite");
            let shift = (e - LEAST_EXPONENT) as usize;
            let wide = u128::from(m) << (shift % 32);
            for k in 0..3 {
                let digit = (wide >> (32 * k) & 0xFFFF_FFFF) as i128;
                digits[shift / 32 + k] += if negative { -digit } else { digit };
            }
        }
        let settle = |digits: &mut [i128; 72]| {
            let mut carry = 0i128;
            for digit in digits.iter_mut() {
                let sum = *digit + carry;
                *digit = sum.rem_euclid(1 << 32);
                carry = sum.div_euclid(1 << 32);
            }
            carry
        };
        let mut negated = digits.map(|d| -d);
        let negative = settle(&mut digits) < 0;
        settle(&mut negated);
        let magnitude = if negative { negated } else { digits };
        // The decimal expansion, read back by the standard library, is rounded to nearest by it.
        let mut text = String::new();
        let mut whole: Vec<u64> = Vec::new();
        for d in magnitude {
            whole.push(d as u64);
        }
        // magnitude / 2^1074 = magnitude * 5^1074 / 10^1074
        for _ in 0..1074 {
            let mut carry = 0u64;
            for d in &mut whole {
                let v = *d * 5 + carry;
                *d = v & 0xFFFF_FFFF;
                carry = v >> 32;
            }
            if carry > 0 {
                whole.push(carry);
            }
        }
        let mut groups = Vec::new();
        while whole.iter().any(|d| *d != 0) {
            let mut rest = 0u64;
            for d in whole.iter_mut().rev() {
                let v = rest << 32 | *d;
                *d = v / 1_000_000_000;
                rest = v % 1_000_000_000;
            }
            groups.push(rest);
            while whole.last() == Some(&0) {
                whole.pop();
            }
        }
        if negative {
            text.push('-');
        }
        text.push('0');
        groups.iter().rev().for_each(|g| text.push_str(&format!("{g:09}")));
        text.push_str("e-1074");
        text.parse().expect("a number")
    }

    #[test]
    fn what_cancels_leaves_nothing() {
        let mut sum = ExactSum::default();
        [1e308, 1e-300, 0.1, -1e308, f64::NAN, f64::INFINITY].iter().for_each(|x| sum.add(*x));
        assert!(sum.value().is_nan());
        [f64::NAN, f64::INFINITY].iter().for_each(|x| sum.subtract(*x));
        [1e-300, 0.1].iter().for_each(|x| sum.subtract(*x));
        assert_eq!(sum.value(), 0.0);
        let mut sum = ExactSum::default();
        (0..10).for_each(|_| sum.add(0.1));
        assert_eq!(sum.value(), 1.0);
        let mut sum = ExactSum::default();
        (0..1000).for_each(|_| sum.add(2f64.powi(58)));
        assert_eq!(sum.value(), 1000.0 * 2f64.powi(58));
        [f64::MAX, f64::MAX].iter().for_each(|x| sum.add(*x));
        assert_eq!(sum.value(), f64::INFINITY);
        sum.subtract(f64::MAX);
        assert_eq!(sum.value(), f64::MAX);
    }

    #[test]
    fn variances_of_known_rows() {
        let (mut floats, mut whole) = (ExactMoments::default(), IntegerMoments::default());
        for x in [2, 4, 4, 4, 5, 5, 7, 9] {
            floats.add(x as f64);
            whole.add(x);
        }
        assert_eq!((floats.variance(false), whole.variance(false, 1.0)), (Some(4.0), Some(4.0)));
        assert_eq!(floats.variance(true), Some(32.0 / 7.0));
        let mut shifted = ExactMoments::default();
        [1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0].iter().for_each(|x| shifted.add(*x));
        assert_eq!((shifted.variance(true), shifted.count), (Some(30.0), 4));
        shifted.subtract(1e9 + 4.0);
        let mut rest = ExactMoments::default();
        [1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0].iter().for_each(|x| rest.add(*x));
        assert_eq!(shifted.variance(true), rest.variance(true));
        assert_eq!(ExactMoments::default().variance(false), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn the_sum_is_the_nearest_float_whatever_the_order(
            values in prop::collection::vec(any_float(), 0..12),
            turn in any::<prop::sample::Index>(),
            gone in prop::collection::vec(any_float(), 0..4),
        ) {
            let (mut sum, mut turned, mut parts) = (ExactSum::default(), ExactSum::default(), ExactSum::default());
            values.iter().for_each(|x| sum.add(*x));
            gone.iter().for_each(|x| turned.add(*x));
            let at = if values.is_empty() { 0 } else { turn.index(values.len()) };
            values[at..].iter().chain(&values[..at]).for_each(|x| turned.add(*x));
            gone.iter().for_each(|x| turned.subtract(*x));
            values[..at].iter().for_each(|x| parts.add(*x));
            let mut right = ExactSum::default();
            values[at..].iter().for_each(|x| right.add(*x));
            parts.merge(&right);
            let wanted = reference(&values);
            prop_assert_eq!(sum.value(), wanted);
            prop_assert_eq!(turned.value(), wanted);
            prop_assert_eq!(parts.value(), wanted);
        }

        #[test]
        fn what_is_written_is_read_again(values in prop::collection::vec(any_float(), 0..12), more in any_float()) {
            let (mut sum, mut moments) = (ExactSum::default(), ExactMoments::default());
            let mut whole = IntegerMoments::default();
            for x in &values {
                sum.add(*x);
                moments.add(*x);
                whole.add(x.to_bits() as i64);
            }
            let mut bytes = Vec::new();
            sum.write(&mut bytes);
            moments.write(&mut bytes);
            whole.write(&mut bytes);
            let (mut read_sum, rest) = ExactSum::read(&bytes).expect("a sum");
            let (mut read_moments, rest) = ExactMoments::read(rest).expect("moments");
            let (read_whole, rest) = IntegerMoments::read(rest).expect("whole moments");
            prop_assert!(rest.is_empty());
            prop_assert_eq!(&read_sum, &sum);
            prop_assert_eq!(&read_moments, &moments);
            prop_assert_eq!(read_whole, whole);
            read_sum.add(more);
            sum.add(more);
            read_moments.add(more);
            moments.add(more);
            prop_assert_eq!(read_sum.value().to_bits(), sum.value().to_bits());
            prop_assert_eq!(read_moments, moments);
            prop_assert!(ExactMoments::read(&bytes[..bytes.len().min(100)]).is_none());
        }
    }
}
