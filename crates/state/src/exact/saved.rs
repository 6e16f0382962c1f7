//! Moments as bytes and back, exactly. Words are little-endian, least word first.

use super::{ExactMoments, ExactSum, IntegerMoments, SQUARE_WORDS, Wide};

impl ExactMoments {
    /// Appends count, sum of squares, sum, and what of the sum does not fit 128 bits. For [`ExactMoments::read`].
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.count.to_le_bytes());
        self.squares.iter().for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
        bytes.extend_from_slice(&self.sum.fixed.to_le_bytes());
        if let Some(wide) = &self.sum.wide {
            wide.write(bytes);
        }
    }

    /// Reads all of the bytes that [`ExactMoments::write`] wrote.
    pub fn read(bytes: &[u8]) -> Option<ExactMoments> {
        let (count, bytes) = bytes.split_first_chunk::<8>()?;
        let (words, bytes) = bytes.split_at_checked(SQUARE_WORDS * 8)?;
        let (fixed, bytes) = bytes.split_first_chunk::<16>()?;
        let wide = match bytes.is_empty() {
            true => None,
            false => Some(Box::new(Wide::read(bytes).filter(|(_, rest)| rest.is_empty())?.0)),
        };
        let mut squares = Box::new([0; SQUARE_WORDS]);
        fill(&mut squares[..], words);
        let sum = ExactSum { fixed: i128::from_le_bytes(*fixed), wide };
        Some(ExactMoments { count: i64::from_le_bytes(*count), sum, squares })
    }
}

impl IntegerMoments {
    /// Appends count, sum of squares and sum. For [`IntegerMoments::read`].
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.count.to_le_bytes());
        self.squares.iter().for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
        bytes.extend_from_slice(&self.sum.to_le_bytes());
    }

    /// Reads all of the bytes that [`IntegerMoments::write`] wrote.
    pub fn read(bytes: &[u8]) -> Option<IntegerMoments> {
        let (count, bytes) = bytes.split_first_chunk::<8>()?;
        let mut moments = IntegerMoments { count: i64::from_le_bytes(*count), ..IntegerMoments::default() };
        let (words, sum) = bytes.split_at_checked(moments.squares.len() * 8)?;
        fill(&mut moments.squares, words);
        moments.sum = i128::from_le_bytes(sum.try_into().ok()?);
        Some(moments)
    }
}

fn fill(words: &mut [u64], bytes: &[u8]) {
    let read = bytes.chunks_exact(8).filter_map(|w| w.try_into().ok()).map(u64::from_le_bytes);
    words.iter_mut().zip(read).for_each(|(word, read)| *word = read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back_bit_for_bit() {
        for values in [&[][..], &[0.1, -3.5, 2e9], &[1e300, 1e-300, f64::NAN, -0.0], &[f64::MIN_POSITIVE; 3]] {
            let mut moments = ExactMoments::default();
            values.iter().for_each(|v| moments.add(*v));
            let mut bytes = Vec::new();
            moments.write(&mut bytes);
            assert_eq!(ExactMoments::read(&bytes).as_ref(), Some(&moments));
            assert_eq!(ExactMoments::read(&bytes[..bytes.len() - 1]), None, "cut short");
        }
        let mut whole = IntegerMoments::default();
        [i64::MIN, i64::MAX, -7, 12].iter().for_each(|v| whole.add(*v));
        let mut bytes = Vec::new();
        whole.write(&mut bytes);
        assert_eq!(IntegerMoments::read(&bytes), Some(whole));
        assert_eq!(IntegerMoments::read(&bytes[1..]), None, "cut short");
    }
}
