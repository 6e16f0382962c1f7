//! Sketches and moments as bytes: a version, then what the state holds, numbers little-endian.
//!
//! Equal states have equal bytes. The version is that of the one sketch; a later one reads all earlier ones.

use super::MomentsState;
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

/// What was read, if nothing is left behind it.
fn to_the_end<T>(read: Option<(T, &[u8])>) -> Option<T> {
    read.filter(|(_, rest)| rest.is_empty()).map(|(what, _)| what)
}
