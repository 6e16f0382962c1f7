//! The exact sum of any number of doubles, rounded once at the end. So neither order nor grouping can change the result.
//!
//! The sum is a fixed-point number: digits of 32 bits, each held in an `i64` with room for carries. Only the digits between
//! the least and the greatest that were ever touched are kept: three to five of them for numbers of like size.

use datafusion_common::{Result, internal_err};

/// Bit 0 of digit 0 is worth 2^-1074, the least positive double.
const LEAST: i32 = -1074;
/// Each addition changes a digit by less than 2^32, so carries must be settled before 2^31 of them.
const ADDS_BEFORE_CARRY: u32 = 1 << 30;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExactSum {
    /// The place of `digits[0]`.
    base: usize,
    digits: Vec<i64>,
    adds: u32,
    /// How many of each were added, less how many were taken away.
    nans: i64,
    plus_infinities: i64,
    minus_infinities: i64,
}

impl ExactSum {
    pub(super) fn add(&mut self, value: f64) {
        self.change(value, 1);
    }

    /// Takes a value away that was added before.
    pub(super) fn remove(&mut self, value: f64) {
        self.change(value, -1);
    }

    fn change(&mut self, value: f64, by: i64) {
        if !value.is_finite() {
            match value {
                f64::INFINITY => self.plus_infinities += by,
                f64::NEG_INFINITY => self.minus_infinities += by,
                _ => self.nans += by,
            }
            return;
        }
        let (mantissa, place) = parts(value);
        if mantissa == 0 {
            return;
        }
        self.put(mantissa, place, if value < 0.0 { -by } else { by });
    }

    /// Adds `sign * mantissa * 2^place`, in units of bit 0.
    fn put(&mut self, mantissa: u64, place: usize, sign: i64) {
        let shifted = u128::from(mantissa) << (place % 32);
        let at = self.reach(place / 32, 3);
        for (i, digit) in self.digits[at..at + 3].iter_mut().enumerate() {
            *digit += sign * (shifted >> (32 * i) & 0xffff_ffff) as i64;
        }
        self.adds += 1;
        if self.adds >= ADDS_BEFORE_CARRY {
            self.carry();
        }
    }

    /// Makes room for `count` digits from place `first` on, and answers where they start.
    fn reach(&mut self, first: usize, count: usize) -> usize {
        if self.digits.is_empty() {
            self.base = first;
        }
        if first < self.base {
            self.digits.splice(0..0, std::iter::repeat_n(0, self.base - first));
            self.base = first;
        }
        let at = first - self.base;
        if self.digits.len() < at + count {
            self.digits.resize(at + count, 0);
        }
        at
    }

    /// Brings every digit but the last into `0..2^32`; the last carries the sign.
    fn carry(&mut self) {
        self.adds = 0;
        let mut carry = 0;
        let last = self.digits.len().saturating_sub(1);
        for digit in self.digits.iter_mut().take(last) {
            let sum = *digit + carry;
            *digit = sum & 0xffff_ffff;
            carry = sum >> 32;
        }
        if let Some(top) = self.digits.last_mut() {
            *top += carry;
            if top.unsigned_abs() >> 32 != 0 {
                let over = *top >> 32;
                *top &= 0xffff_ffff;
                self.digits.push(over);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &ExactSum) {
        let mut other = other.clone();
        other.carry();
        self.carry();
        if !other.digits.is_empty() {
            let at = self.reach(other.base, other.digits.len());
            for (digit, add) in self.digits[at..].iter_mut().zip(&other.digits) {
                *digit += add;
            }
        }
        self.adds += 1;
        self.nans += other.nans;
        self.plus_infinities += other.plus_infinities;
        self.minus_infinities += other.minus_infinities;
    }

    /// The double nearest to the exact sum, ties to even. An exact zero is +0.
    pub(super) fn round(&self) -> f64 {
        if self.nans > 0 || (self.plus_infinities > 0 && self.minus_infinities > 0) {
            return f64::NAN;
        }
        if self.plus_infinities > 0 {
            return f64::INFINITY;
        }
        if self.minus_infinities > 0 {
            return f64::NEG_INFINITY;
        }
        self.round_units(LEAST)
    }

    /// The sign, and the magnitude in digits of `0..2^32`.
    fn settled(&self) -> (bool, ExactSum) {
        let mut settled = self.clone();
        settled.carry();
        let negative = settled.digits.last().is_some_and(|top| *top < 0);
        if negative {
            settled.digits.iter_mut().for_each(|d| *d = -*d);
            settled.carry();
        }
        (negative, settled)
    }

    /// As [`ExactSum::round`], where bit 0 is worth `2^unit`.
    fn round_units(&self, unit: i32) -> f64 {
        let (negative, settled) = self.settled();
        let digits = &settled.digits;
        let Some(top) = digits.iter().rposition(|d| *d != 0) else { return 0.0 };
        // The highest three digits hold at least 65 bits; what lies below only says whether there is more.
        let digit = |i: usize| top.checked_sub(i).map_or(0, |at| digits[at] as u128);
        let high = digit(0) << 64 | digit(1) << 32 | digit(2);
        let more = digits[..top.saturating_sub(2)].iter().any(|d| *d != 0);
        let place = (settled.base as i32 + top as i32 - 2) * 32 + unit;
        let magnitude = round_bits(high, more, place);
        if negative { -magnitude } else { magnitude }
    }

    pub(super) fn bytes(&self) -> usize {
        self.digits.capacity() * size_of::<i64>()
    }

    pub(super) fn save(&self) -> Vec<u8> {
        let mut settled = self.clone();
        settled.carry();
        let head = [settled.base as i64, settled.nans, settled.plus_infinities, settled.minus_infinities];
        head.iter().chain(&settled.digits).flat_map(|n| n.to_le_bytes()).collect()
    }

    pub(super) fn restore(bytes: &[u8]) -> Result<ExactSum> {
        let mut numbers =
            bytes.chunks_exact(8).map(|c| c.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b)) as i64);
        let (Some(base), Some(nans), Some(plus), Some(minus)) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next())
        else {
            return internal_err!("a saved sum of {} bytes is too short", bytes.len());
        };
        let digits: Vec<i64> = numbers.collect();
        match usize::try_from(base) {
            Ok(base) if base < 160 && digits.len() < 160 => {
                Ok(ExactSum { base, digits, adds: 0, nans, plus_infinities: plus, minus_infinities: minus })
            }
            _ => internal_err!("a saved sum has {} digits from {base} on", digits.len()),
        }
    }
}

/// Count, sum and sum of squares, all exact: what the variances are made of.
#[derive(Debug, Clone, Default)]
pub(super) struct ExactMoments {
    pub(super) count: i64,
    pub(super) sum: ExactSum,
    /// In units of 2^-2148.
    pub(super) squares: ExactSum,
}

impl ExactMoments {
    /// Adds a value (`by` 1) or takes it away (`by` -1).
    pub(super) fn change(&mut self, value: f64, by: i64) {
        self.count += by;
        self.sum.change(value, by);
        if value.is_finite() {
            let (mantissa, place) = parts(value);
            self.square(mantissa, 2 * place, by);
        }
    }

    /// The same for a whole number.
    pub(super) fn change_whole(&mut self, value: i64, by: i64) {
        self.count += by;
        self.sum.put(value.unsigned_abs(), LEAST.unsigned_abs() as usize, value.signum() * by);
        self.square(value.unsigned_abs(), 2 * LEAST.unsigned_abs() as usize, by);
    }

    fn square(&mut self, mantissa: u64, place: usize, by: i64) {
        let square = u128::from(mantissa) * u128::from(mantissa);
        self.squares.put(square as u64, place, by);
        if square >> 64 != 0 {
            self.squares.put((square >> 64) as u64, place + 64, by);
        }
    }

    /// `(n * squares - sum^2) / (n * (n or n - 1))`: the upper part exactly and rounded once, then one division.
    pub(super) fn variance(&self, sample: bool) -> Option<f64> {
        let below = if sample { self.count - 1 } else { self.count };
        if below <= 0 {
            return None;
        }
        let special = self.sum.nans != 0 || self.sum.plus_infinities != 0 || self.sum.minus_infinities != 0;
        if special {
            return Some(f64::NAN);
        }
        let (_, squares) = self.squares.settled();
        let (_, sum) = self.sum.settled();
        let mut above = ExactSum::default();
        let n = self.count.unsigned_abs();
        for (i, digit) in squares.digits.iter().enumerate() {
            for (j, part) in [n & 0xffff_ffff, n >> 32].into_iter().enumerate() {
                above.put(digit.unsigned_abs() * part, 32 * (squares.base + i + j), 1);
            }
        }
        for (i, a) in sum.digits.iter().enumerate() {
            for (j, b) in sum.digits.iter().enumerate() {
                above.put(a.unsigned_abs() * b.unsigned_abs(), 32 * (2 * sum.base + i + j), -1);
            }
        }
        Some(above.round_units(2 * LEAST) / (self.count as f64 * below as f64))
    }
}

/// The mantissa of a finite value and the place of its lowest bit.
fn parts(value: f64) -> (u64, usize) {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let exponent = (bits >> 52 & 0x7ff) as usize;
    if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) }
}

/// `bits * 2^place`, plus a little more if `more`, as the nearest double.
fn round_bits(bits: u128, more: bool, place: i32) -> f64 {
    let length = 128 - bits.leading_zeros() as i32;
    // Doubles have 53 bits, but none below 2^-1074.
    let drop = (length - 53).max(LEAST - place).max(0);
    if drop >= 128 {
        return 0.0;
    }
    let kept = (bits >> drop) as u64;
    let rest = bits & ((1u128 << drop) - 1);
    let half = if drop == 0 { 0 } else { 1u128 << (drop - 1) };
    let up = drop > 0 && (rest > half || (rest == half && (more || kept & 1 == 1)));
    let kept = kept + u64::from(up);
    scale(kept, place + drop)
}

/// `mantissa * 2^exponent`, which is exact by construction or too large.
fn scale(mantissa: u64, exponent: i32) -> f64 {
    let mut value = mantissa as f64;
    let mut left = exponent;
    // Powers of two in steps that are doubles themselves.
    while left > 1023 {
        value *= f64::powi(2.0, 1023);
        left -= 1023;
    }
    while left < -1000 {
        value *= f64::powi(2.0, -1000);
        left += 1000;
    }
    value * f64::powi(2.0, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|v| sum.add(*v));
        sum.round()
    }

    #[test]
    fn the_sum_is_rounded_once() {
        for (values, wanted) in [
            (vec![], 0.0),
            (vec![0.1; 10], 1.0),
            (vec![1e100, 1.0, -1e100], 1.0),
            (vec![1e308, 1e308, -1e308], 1e308),
            (vec![1e308, 1e308], f64::INFINITY),
            (vec![-1e308, -1e308], f64::NEG_INFINITY),
            (vec![5e-324, 5e-324], 1e-323),
            (vec![f64::MAX, -5e-324], f64::MAX),
            (vec![1.0, f64::EPSILON / 2.0], 1.0),
            (vec![1.0, f64::EPSILON / 2.0, 5e-324], 1.0 + f64::EPSILON),
            (vec![-1.0, 1.0], 0.0),
            (vec![-3.5], -3.5),
            (vec![f64::INFINITY, 1.0], f64::INFINITY),
        ] {
            assert_eq!(sum(&values), wanted, "{values:?}");
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }

    proptest! {
        #[test]
        fn order_and_grouping_change_nothing(
            values in proptest::collection::vec(proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL, 0..40),
            cut in 0usize..40,
        ) {
            let straight = sum(&values);
            let mut back = values.clone();
            back.reverse();
            prop_assert_eq!(straight.to_bits(), sum(&back).to_bits());
            let (a, b) = values.split_at(cut.min(values.len()));
            let mut merged = ExactSum::default();
            for part in [a, b] {
                let mut own = ExactSum::default();
                part.iter().for_each(|v| own.add(*v));
                merged.merge(&ExactSum::restore(&own.save()).expect("just saved"));
            }
            prop_assert_eq!(straight.to_bits(), merged.round().to_bits());
            b.iter().for_each(|v| merged.remove(*v));
            prop_assert_eq!(sum(a).to_bits(), merged.round().to_bits());
        }

        #[test]
        fn two_doubles_sum_as_the_machine_does(a in proptest::num::f64::NORMAL, b in proptest::num::f64::NORMAL) {
            prop_assert_eq!(sum(&[a, b]), a + b);
        }
    }
}
