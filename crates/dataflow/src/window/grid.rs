//! Where windows lie on the line of time, and which slices they share.
//!
//! ```text
//!  hop 5 by 2     [0        5)          slices of gcd(5, 2) = 1
//!                     [2        7)      a row goes into one slice; a window is a run of slices
//!                         [4        9)
//! ```
//!
//! Everything here is arithmetic on milliseconds, rounded toward minus infinity.

use crate::graph::Window;
use millstream_core::{Error, Millis, Result};

/// A slice by its place in the order in which slices are done with. Regular windows: (start, end). Attached ones:
/// (end, start).
pub(super) type SliceId = (Millis, Millis);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Grid {
    Tumble {
        size: Millis,
        offset: Millis,
    },
    Hop {
        size: Millis,
        slide: Millis,
        offset: Millis,
        slice: Millis,
    },
    Cumulate {
        size: Millis,
        step: Millis,
        offset: Millis,
        slice: Millis,
    },
    /// The window stands in the row: a slice is a window.
    Attached,
}

fn gcd(a: Millis, b: Millis) -> Millis {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The last multiple of `size`, counted from `offset`, at or before `at`.
fn floor(at: Millis, size: Millis, offset: Millis) -> Millis {
    at.saturating_sub((i128::from(at) - i128::from(offset)).rem_euclid(i128::from(size)) as Millis)
}

impl Grid {
    /// `None` for sessions, which have no grid.
    pub fn new(window: &Window) -> Result<Option<Grid>> {
        let positive = |length: Millis, what: &str| match length {
            1.. => Ok(length),
            _ => Err(Error::sql(format!("the {what} of a window is {length} ms"))
                .remedy("write an interval of at least one millisecond")),
        };
        Ok(Some(match *window {
            Window::Tumble { size, offset } => Grid::Tumble { size: positive(size, "size")?, offset },
            Window::Hop { size, slide, offset } => {
                let (size, slide) = (positive(size, "size")?, positive(slide, "slide")?);
                Grid::Hop { size, slide, offset, slice: gcd(size, slide) }
            }
            Window::Cumulate { size, step, offset } => {
                let (size, step) = (positive(size, "size")?, positive(step, "step")?);
                Grid::Cumulate { size, step, offset, slice: gcd(size, step) }
            }
            Window::Attached { .. } => Grid::Attached,
            Window::Session { .. } => return Ok(None),
        }))
    }

    /// The slice that takes in a row of this time. Not for attached windows.
    pub fn slice(&self, at: Millis) -> SliceId {
        let (length, offset) = match *self {
            Grid::Tumble { size, offset } => (size, offset),
            Grid::Hop { slice, offset, .. } | Grid::Cumulate { slice, offset, .. } => (slice, offset),
            Grid::Attached => (1, 0),
        };
        let start = floor(at, length, offset);
        (start, start.saturating_add(length))
    }

    /// Start and end of a slice.
    pub fn span(&self, id: SliceId) -> (Millis, Millis) {
        match self {
            Grid::Attached => (id.1, id.0),
            _ => id,
        }
    }

    /// Whether each window is one slice.
    pub fn one_slice(&self) -> bool {
        match self {
            Grid::Tumble { .. } | Grid::Attached => true,
            Grid::Hop { size, slice, .. } | Grid::Cumulate { size, slice, .. } => size == slice,
        }
    }

    /// The end of the first window that holds the slice and ends after `after`. A hop with gaps has slices that are
    /// in no window.
    pub fn next_end(&self, id: SliceId, after: Millis) -> Option<Millis> {
        let (start, end) = self.span(id);
        match *self {
            Grid::Tumble { .. } | Grid::Attached => (end > after).then_some(end),
            Grid::Hop { size, slide, offset, .. } => {
                // Ends are at offset + size + k * slide. The first at or after `end`, and after `after`.
                let least = end.max(after.saturating_add(1));
                let found = ceil(least, slide, offset.wrapping_add(size));
                (found.checked_sub(size)? <= start).then_some(found)
            }
            Grid::Cumulate { size, step, offset, .. } => {
                let base = floor(start, size, offset);
                let least = end.max(after.saturating_add(1));
                let found = ceil(least, step, base).min(base.saturating_add(size));
                (found >= least).then_some(found)
            }
        }
    }

    /// The end of the last window that holds the slice.
    pub fn last_end(&self, id: SliceId) -> Option<Millis> {
        let (start, end) = self.span(id);
        match *self {
            Grid::Tumble { .. } | Grid::Attached => Some(end),
            Grid::Hop { size, slide, offset, .. } => {
                let last = floor(start, slide, offset).saturating_add(size);
                (last >= end).then_some(last)
            }
            Grid::Cumulate { size, offset, .. } => Some(floor(start, size, offset).saturating_add(size)),
        }
    }

    /// The start of the window that ends at `end` and holds the slice.
    pub fn window_start(&self, id: SliceId, end: Millis) -> Millis {
        match *self {
            Grid::Tumble { .. } | Grid::Attached => self.span(id).0,
            Grid::Hop { size, .. } => end - size,
            Grid::Cumulate { size, offset, .. } => floor(self.span(id).0, size, offset),
        }
    }
}

/// The first of `offset + k * size` at or after `at`.
fn ceil(at: Millis, size: Millis, offset: Millis) -> Millis {
    let below = floor(at, size, offset);
    if below == at { at } else { below.saturating_add(size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All windows of a row, by the rules as they are written down.
    fn windows(grid: &Grid, t: Millis) -> Vec<(Millis, Millis)> {
        let start_of = |size: Millis, offset: Millis| (t - offset).div_euclid(size) * size + offset;
        match *grid {
            Grid::Tumble { size, offset } => vec![(start_of(size, offset), start_of(size, offset) + size)],
            Grid::Hop { size, slide, offset, .. } => {
                let mut start = start_of(slide, offset);
                let mut found = Vec::new();
                while start > t - size {
                    found.push((start, start + size));
                    start -= slide;
                }
                found.reverse();
                found
            }
            Grid::Cumulate { size, step, offset, .. } => {
                let base = start_of(size, offset);
                (1..=size / step).map(|k| (base, base + k * step)).filter(|w| w.1 > t).collect()
            }
            Grid::Attached => Vec::new(),
        }
    }

    fn of_slice(grid: &Grid, t: Millis) -> Vec<(Millis, Millis)> {
        let id = grid.slice(t);
        let (mut after, mut found) = (Millis::MIN, Vec::new());
        while let Some(end) = grid.next_end(id, after) {
            found.push((grid.window_start(id, end), end));
            after = end;
        }
        assert_eq!(found.last().map(|w| w.1), grid.last_end(id));
        found
    }

    fn grid(window: Window) -> Grid {
        Grid::new(&window).expect("sound").expect("regular")
    }

    #[test]
    fn the_worked_examples_of_rules_1_and_4() {
        let tumble = |size, offset, t| of_slice(&grid(Window::Tumble { size, offset }), t)[0];
        assert_eq!(tumble(10, 0, -1), (-10, 0));
        let minute = 60_000;
        assert_eq!(tumble(10 * minute, 0, 4_000), (0, 10 * minute));
        assert_eq!(tumble(10 * minute, -4 * minute, 4_000), (-4 * minute, 6 * minute));
        for offset in [4, -6, -16] {
            assert_eq!(tumble(10 * minute, offset * minute, 4_000), (-6 * minute, 4 * minute));
        }
        let hop = grid(Window::Hop { size: 5, slide: 2, offset: 0 });
        assert_eq!(of_slice(&hop, 7), [(4, 9), (6, 11)]);
        assert_eq!(of_slice(&hop, 6), [(2, 7), (4, 9), (6, 11)]);
        assert_eq!(of_slice(&hop, 1), [(-2, 3), (0, 5)]);
    }

    proptest! {
        #[test]
        fn a_rows_windows_are_its_slices_windows(
            t in -500i64..500, size in 1i64..40, slide in 1i64..60, steps in 1i64..8, offset in -50i64..50,
        ) {
            for window in [
                Window::Tumble { size, offset },
                Window::Hop { size, slide, offset },
                Window::Cumulate { size: slide * steps, step: slide, offset },
            ] {
                let grid = grid(window);
                prop_assert_eq!(of_slice(&grid, t), windows(&grid, t), "{:?}", grid);
            }
        }
    }
}
