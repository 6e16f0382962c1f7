//! Chance from a seed, the same everywhere.

/// SplitMix64 (Steele, Lea, Flood 2014): small and good enough.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// `stream` tells apart what is drawn for different purposes from one seed: a change in one leaves the others alone.
    pub fn new(seed: u64, stream: u64) -> Dice {
        let mut dice = Dice(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        dice.roll();
        dice
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }

    /// `min..=max`.
    pub fn between(&mut self, min: u64, max: u64) -> u64 {
        min + self.below(max - min + 1)
    }

    /// True in `of` out of 10,000 cases.
    pub fn chance(&mut self, of: u64) -> bool {
        self.below(10_000) < of
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn some<T: Copy>(&mut self, of: &[T], at_least: usize, at_most: usize) -> Vec<T> {
        let n = self.between(at_least as u64, at_most as u64) as usize;
        let mut rest = of.to_vec();
        (0..n.min(of.len())).map(|_| rest.swap_remove(self.below(rest.len() as u64) as usize)).collect()
    }
}
