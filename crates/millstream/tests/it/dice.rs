//! Chance from a seed, the same everywhere.

/// SplitMix64 (Steele, Lea, Flood 2014): small and good enough.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn some<'a>(&mut self, of: &[&'a str], at_least: usize, at_most: usize) -> Vec<&'a str> {
        let n = at_least + self.below((at_most - at_least + 1) as u64) as usize;
        let mut rest = of.to_vec();
        (0..n.min(of.len())).map(|_| rest.swap_remove(self.below(rest.len() as u64) as usize)).collect()
    }
}

/// A whole number from the environment.
pub fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}
