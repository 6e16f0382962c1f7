//! A sum of doubles without rounding, from which values can be taken away again.
//!
//! The sum is a whole number of 2^-1074, written with digits of 32 bits that may overflow into the upper half of a
//! word until they are carried. Only the digits around the values seen are stored.

/// Additions between two carries: each adds less than 2^32 to a digit, which has room for 2^30 of them.
const ADDS_MAX: u32 = 1 << 30;

#[derive(Debug, Clone, Default)]
pub(super) struct ExactSum {
    /// Digits from position `low` up.
    digits: Vec<i64>,
    low: usize,
    adds: u32,
    nans: u32,
    infinite: [u32; 2],
}

impl ExactSum {
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.put(value, false);
    }

    /// Takes away a value that has been added.
    #[inline]
    pub(super) fn retract(&mut self, value: f64) {
        self.put(value, true);
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<ExactSum>() + self.digits.capacity() * 8
    }

    fn put(&mut self, value: f64, away: bool) {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7FF) as usize;
        let fraction = bits & ((1 << 52) - 1);
        let negative = value.is_sign_negative();
        if exponent == 0x7FF {
            let count = if fraction != 0 { &mut self.nans } else { &mut self.infinite[usize::from(negative)] };
            *count = if away { *count - 1 } else { *count + 1 };
            return;
        }
        if value == 0.0 {
            return;
        }
        let (mantissa, position) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let (digit, shift) = (position / 32, position % 32);
        let shifted = u128::from(mantissa) << shift;
        self.reach(digit);
        let at = digit - self.low;
        let sign = if negative != away { -1 } else { 1 };
        for (i, place) in self.digits[at..at + 3].iter_mut().enumerate() {
            *place += sign * (shifted >> (32 * i) & 0xFFFF_FFFF) as i64;
        }
        self.adds += 1;
        if self.adds >= ADDS_MAX {
            self.carry();
        }
    }

    /// Makes room for three digits from `digit` on, and one more to carry into.
    #[inline]
    fn reach(&mut self, digit: usize) {
        if self.digits.is_empty() {
            self.low = digit;
        } else if digit < self.low {
            self.digits.splice(0..0, std::iter::repeat_n(0, self.low - digit));
            self.low = digit;
        }
        let end = digit - self.low + 4;
        if self.digits.len() < end {
            self.digits.resize(end, 0);
        }
    }

    /// Brings every digit but the last into 0..2^32.
    fn carry(&mut self) {
        self.adds = 0;
        let last = self.digits.len() - 1;
        let mut carry = 0;
        for (i, digit) in self.digits.iter_mut().enumerate() {
            let value = *digit + carry;
            (*digit, carry) = if i == last { (value, 0) } else { (value & 0xFFFF_FFFF, value >> 32) };
        }
        // The last digit keeps its sign; it moves on when it grows beyond 32 bits.
        let top = self.digits[last];
        if top != i64::from(top as i32) {
            self.digits[last] = top & 0xFFFF_FFFF;
            self.digits.push(top >> 32);
        }
    }

    /// The sum, rounded once, to the nearest double.
    pub(super) fn value(&self) -> f64 {
        match (self.nans, self.infinite) {
            (0, [0, 0]) => {}
            (0, [_, 0]) => return f64::INFINITY,
            (0, [0, _]) => return f64::NEG_INFINITY,
            _ => return f64::NAN,
        }
        if self.digits.is_empty() {
            return 0.0;
        }
        let mut sum = self.clone();
        sum.carry();
        let negative = sum.digits.last().is_some_and(|d| *d < 0);
        if negative {
            sum.digits.iter_mut().for_each(|d| *d = -*d);
            sum.carry();
        }
        while sum.digits.last() == Some(&0) {
            sum.digits.pop();
        }
        let Some(&top) = sum.digits.last() else { return 0.0 };
        // The upper three digits as one number, and whether anything is below.
        let count = sum.digits.len();
        let digit = |back: usize| count.checked_sub(back).map_or(0, |i| sum.digits[i] as u128);
        let upper = (top as u128) << 64 | digit(2) << 32 | digit(3);
        let below = count > 3 && sum.digits[..count - 3].iter().any(|d| *d != 0);
        let magnitude = round(upper, below, (sum.low + count) as i64 * 32 - 96 - 1074);
        if negative { -magnitude } else { magnitude }
    }
}

/// `upper * 2^exponent`, plus a little where `below`, to the nearest double; ties to even.
fn round(upper: u128, below: bool, exponent: i64) -> f64 {
    let length = 128 - i64::from(upper.leading_zeros());
    // The lowest bit that a double of this size has.
    let lowest = (exponent + length - 53).max(-1074);
    let drop = lowest - exponent;
    if drop <= 0 {
        // Fewer bits than a double has; nothing can be below, or the upper digits would have 65 bits at least.
        return scale(upper as u64, exponent);
    }
    let kept = (upper >> drop.min(127)) as u64;
    let rest = upper & ((1u128 << drop.min(127)) - 1);
    let half = 1u128 << (drop - 1).min(127);
    let up = rest > half || rest == half && (below || kept & 1 == 1);
    scale(kept + u64::from(up), lowest)
}

/// `mantissa * 2^exponent`, exact or infinite. The mantissa has at most 54 bits and the exponent is at least -1074.
fn scale(mantissa: u64, exponent: i64) -> f64 {
    if exponent > 971 {
        return if mantissa == 0 { 0.0 } else { f64::INFINITY };
    }
    // Two steps, each exact: a power of two below 2^-1022 is not normal, but a product with a whole number may be.
    let power =
        |e: i64| if e >= -1022 { f64::from_bits(((e + 1023) as u64) << 52) } else { f64::from_bits(1 << (e + 1074)) };
    mantissa as f64 * power(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|v| sum.add(*v));
        sum.value()
    }

    #[test]
    fn nothing_is_rounded_before_the_end() {
        assert_eq!(sum(&[]), 0.0);
        assert_eq!(sum(&[0.1, 0.2, 0.3, -0.3, -0.2, -0.1]), 0.0);
        assert_eq!(sum(&[1e308, 1e308, -1e308]), 1e308);
        assert_eq!(sum(&[1e308, 1e308]), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, 1e291]), f64::MAX);
        assert_eq!(sum(&[1.0, 1e100, 1.0, -1e100]), 2.0);
        assert_eq!(sum(&[5e-324, 5e-324]), 1e-323);
        assert_eq!(sum(&[1e16, 1.0, 1e-300]), 1e16 + 2.0);
        assert_eq!(sum(&[1e16, 1.0]), 1e16);
        assert_eq!(sum(&[-1e16, -1.0, -1e-300]), -1e16 - 2.0);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    proptest! {
        #[test]
        fn one_value_and_its_double_come_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(sum(&[value]), value);
            prop_assert_eq!(sum(&[value, value]), value * 2.0);
        }

        #[test]
        fn order_and_detours_do_not_matter(values in prop::collection::vec(any::<f64>(), 0..20), at in 0usize..20) {
            let whole = sum(&values);
            let mut detour = ExactSum::default();
            values.iter().rev().for_each(|v| detour.add(*v));
            let extra = [f64::NAN, 1e300, 3e-310, f64::NEG_INFINITY, -7.25];
            extra.iter().for_each(|v| detour.add(*v));
            extra.iter().skip(at % 5).chain(extra.iter().take(at % 5)).for_each(|v| detour.retract(*v));
            prop_assert_eq!(whole.to_bits() & (u64::MAX >> u32::from(whole.is_nan())), detour.value().to_bits() & (u64::MAX >> u32::from(whole.is_nan())));
        }

        #[test]
        fn whole_numbers_sum_as_whole_numbers(values in prop::collection::vec(-(1i64 << 53)..1 << 53, 0..200)) {
            let exact: i128 = values.iter().map(|v| i128::from(*v)).sum();
            prop_assert_eq!(sum(&values.iter().map(|v| *v as f64).collect::<Vec<_>>()), exact as f64);
        }
    }
}
