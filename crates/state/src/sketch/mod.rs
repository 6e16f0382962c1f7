//! Sketches: answers about many values from little memory, and a function of the values alone.
//!
//! ```text
//!  values ──▶ Quantiles        how many fall into each bucket         APPROX_PERCENTILE, less than 1/256 off
//!         └─▶ Distinct         the greatest rank of each register     APPROX_COUNT_DISTINCT, about 0.8 % off
//!             CountedDistinct  all ranks of each register, counted:   the same answer, and values can be taken away
//! ```
//!
//! Always true: neither the order of the values nor how they are split and merged changes a sketch, so windows, OVER
//! and batch mode give the same bits. And a sketch written as bytes is the same sketch when read: equal ones have equal
//! bytes.

mod distinct;
mod quantiles;

pub use distinct::{CountedDistinct, Distinct};
pub use quantiles::{BUCKETS_MAX, Quantiles};

/// The next `N` bytes, and those behind them.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    Some((*head, rest))
}
