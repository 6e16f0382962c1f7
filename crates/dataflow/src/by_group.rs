//! Rows of a batch by the group of their key: a group and a place in the batch in one number, which sorts by group and
//! then by place.

use std::ops::Range;

pub(crate) fn place(group: u32, row: usize) -> u64 {
    u64::from(group) << 32 | row as u64
}

pub(crate) fn group(place: u64) -> u32 {
    (place >> 32) as u32
}

pub(crate) fn row(place: u64) -> usize {
    place as u32 as usize
}

/// Runs of places of the same group.
pub(crate) fn runs(places: &[u64]) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    places.chunk_by(|a, b| group(*a) == group(*b)).map(move |run| {
        let start = from;
        from += run.len();
        start..from
    })
}
