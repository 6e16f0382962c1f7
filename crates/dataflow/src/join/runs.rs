//! The rows of one key in order of time, so that a look at a span of time looks at its rows alone.

use millstream_core::Millis;
use std::collections::VecDeque;

/// Times with slots. Most keys of most joins have one row or none; only others have memory of their own.
#[derive(Default)]
pub(super) enum Run {
    #[default]
    Empty,
    One(Millis, u32),
    #[expect(clippy::box_collection, reason = "there is one for each key, most are empty: 16 bytes and not 32")]
    Many(Box<VecDeque<(Millis, u32)>>),
}

impl Run {
    pub fn len(&self) -> usize {
        match self {
            Run::Empty => 0,
            Run::One(..) => 1,
            Run::Many(rows) => rows.len(),
        }
    }

    pub fn get(&self, at: usize) -> Option<(Millis, u32)> {
        match self {
            Run::One(time, slot) if at == 0 => Some((*time, *slot)),
            Run::Many(rows) => rows.get(at).copied(),
            _ => None,
        }
    }

    /// How many rows have times for which `before` holds. It holds for the first ones alone.
    pub fn partition_point(&self, before: impl Fn(Millis) -> bool) -> usize {
        match self {
            Run::Empty => 0,
            Run::One(time, _) => usize::from(before(*time)),
            // The usual case: all of them.
            Run::Many(rows) if rows.back().is_some_and(|r| before(r.0)) => rows.len(),
            Run::Many(rows) => rows.partition_point(|r| before(r.0)),
        }
    }

    /// Behind all rows of the same time.
    pub fn insert(&mut self, time: Millis, slot: u32) {
        match self {
            Run::Empty => *self = Run::One(time, slot),
            Run::One(first, other) => {
                let mut rows = VecDeque::with_capacity(4);
                rows.push_back((*first, *other));
                *self = Run::Many(Box::new(rows));
                self.insert(time, slot);
            }
            Run::Many(rows) => {
                let at = match rows.back() {
                    Some(last) if last.0 > time => rows.partition_point(|r| r.0 <= time),
                    _ => rows.len(),
                };
                // Near the end, where rows come nearly in order.
                rows.insert(at, (time, slot));
            }
        }
    }

    /// Puts another slot in the place of one.
    pub fn replace(&mut self, at: usize, slot: u32) {
        match self {
            Run::One(_, other) if at == 0 => *other = slot,
            Run::Many(rows) => {
                if let Some(row) = rows.get_mut(at) {
                    row.1 = slot;
                }
            }
            _ => {}
        }
    }

    pub fn pop_front(&mut self) -> Option<(Millis, u32)> {
        match self {
            Run::Empty => None,
            Run::One(time, slot) => {
                let first = (*time, *slot);
                *self = Run::Empty;
                Some(first)
            }
            Run::Many(rows) => {
                let first = rows.pop_front();
                if rows.is_empty() {
                    *self = Run::Empty;
                } else if rows.len() * 4 < rows.capacity() {
                    rows.shrink_to(rows.len() * 2);
                }
                first
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_run_is_a_list_in_order_of_time(moves in prop::collection::vec(prop::option::of(0i64..20), 0..200)) {
            let (mut run, mut plain) = (Run::default(), Vec::<(i64, u32)>::new());
            for (slot, time) in moves.into_iter().enumerate() {
                match time {
                    Some(time) => {
                        run.insert(time, slot as u32);
                        plain.push((time, slot as u32));
                        plain.sort_by_key(|r| r.0);
                    }
                    None => {
                        let first = (!plain.is_empty()).then(|| plain.remove(0));
                        prop_assert_eq!(run.pop_front(), first);
                    }
                }
                prop_assert_eq!(run.len(), plain.len());
                prop_assert!((0..plain.len()).all(|i| run.get(i) == Some(plain[i])) && run.get(plain.len()).is_none());
                for time in 0..20 {
                    prop_assert_eq!(run.partition_point(|t| t < time), plain.partition_point(|r| r.0 < time));
                }
            }
        }
    }
}
