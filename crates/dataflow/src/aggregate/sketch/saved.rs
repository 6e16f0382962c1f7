//! Sketches and moments as bytes: a version, then what the state holds, numbers little-endian.
//!
//! Equal states have equal bytes. The version is that of the one sketch; a later one reads all earlier ones.

use super::{Histogram, MomentsState, REGISTERS, Registers};
use crate::aggregate::saved::unreadable;
use arrow::array::*;
use millstream_core::Result;
use millstream_state::exact::{ExactMoments, IntegerMoments};
use std::sync::Arc;

/// NULL where a state has nothing to say.
pub(super) fn column<S>(states: &[&S], write: impl Fn(&S, &mut Vec<u8>)) -> ArrayRef {
    let mut column = BinaryBuilder::new();
    let mut bytes = Vec::new();
    for state in states {
        bytes.clear();
        write(state, &mut bytes);
        column.append_option((!bytes.is_empty()).then_some(&bytes));
    }
    Arc::new(column.finish())
}

pub(super) fn read<S: Default>(column: &ArrayRef, row: usize, read: impl Fn(&[u8]) -> Option<S>) -> Result<S> {
    if column.is_null(row) {
        return Ok(S::default());
    }
    read(column.as_binary::<i32>().value(row)).ok_or_else(|| unreadable("a sketch"))
}

const FLOATS: u8 = 1;
const INTEGERS: u8 = 2;

impl MomentsState {
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            MomentsState::None => {}
            MomentsState::Floats(moments) => {
                bytes.push(FLOATS);
                moments.write(bytes);
            }
            MomentsState::Integers(moments) => {
                bytes.push(INTEGERS);
                moments.write(bytes);
            }
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<MomentsState> {
        match bytes.split_first()? {
            (&FLOATS, rest) => Some(MomentsState::Floats(Box::new(to_the_end(ExactMoments::read(rest))?))),
            (&INTEGERS, rest) => Some(MomentsState::Integers(Box::new(to_the_end(IntegerMoments::read(rest))?))),
            _ => None,
        }
    }
}

/// Registers one by one: number (2 bytes) and rank.
const SPARSE: u8 = 1;
/// The ranks of all registers.
const DENSE: u8 = 2;

impl Registers {
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        match &self.dense {
            Some(dense) => {
                bytes.push(DENSE);
                bytes.extend_from_slice(dense);
            }
            None if self.sparse.is_empty() => {}
            None => {
                bytes.push(SPARSE);
                for (register, rank) in &self.sparse {
                    bytes.extend_from_slice(&register.to_le_bytes());
                    bytes.push(*rank);
                }
            }
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Registers> {
        match bytes.split_first()? {
            (&DENSE, ranks) if ranks.len() == REGISTERS => {
                Some(Registers { dense: Some(ranks.into()), ..Registers::default() })
            }
            (&SPARSE, pairs) if pairs.len() % 3 == 0 => {
                let pair = |p: &[u8]| (u16::from_le_bytes([p[0], p[1]]), p[2]);
                let sparse = pairs.chunks_exact(3).map(pair).collect();
                Some(Registers { sparse, dense: None })
            }
            _ => None,
        }
    }
}

const HISTOGRAM_VERSION: u8 = 1;

impl Histogram {
    /// Number of values, the values, then bins (4 bytes) with their counts (8).
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        if self.count == 0 {
            return;
        }
        bytes.push(HISTOGRAM_VERSION);
        bytes.extend_from_slice(&(self.values.len() as u64).to_le_bytes());
        self.values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        for (bin, count) in &self.bins {
            bytes.extend_from_slice(&bin.to_le_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
        }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Histogram> {
        let (&HISTOGRAM_VERSION, rest) = bytes.split_first()? else { return None };
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
        let (values, bins) = rest.split_at_checked(len.checked_mul(8)?)?;
        let values: Vec<f64> =
            values.chunks_exact(8).filter_map(|v| v.try_into().ok()).map(f64::from_le_bytes).collect();
        let bin = |b: &[u8]| {
            let (bin, count) = b.split_first_chunk::<4>()?;
            Some((i32::from_le_bytes(*bin), u64::from_le_bytes(count.try_into().ok()?)))
        };
        let bins = bins.chunks(12).map(bin).collect::<Option<std::collections::BTreeMap<_, _>>>()?;
        let count = values.len() as u64 + bins.values().sum::<u64>();
        Some(Histogram { values, bins, count })
    }
}
/// What was read, if nothing is left behind it.
fn to_the_end<T>(read: Option<(T, &[u8])>) -> Option<T> {
    read.filter(|(_, rest)| rest.is_empty()).map(|(what, _)| what)
}
