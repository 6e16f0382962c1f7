//! Whether the simulator bites: faults that are built in on purpose, and how many seeds it takes to find each.

use crate::play::play;
use millstream_runtime::sabotage::{Bug, build_in};

/// A fault, and how it was found.
#[derive(Debug)]
pub struct Found {
    pub bug: Bug,
    /// The seeds that were played, the last of which found it; `None`: none did.
    pub seeds: Option<u64>,
    /// What the seed said.
    pub wrong: String,
}

/// Looks for a fault with at most so many seeds.
pub fn look_for(bug: Bug, from: u64, seeds_max: u64) -> Found {
    build_in(Some(bug));
    let found = (0..seeds_max).find_map(|at| {
        let wrong = play(from + at).wrong?;
        // A seed that fails in any case has not found this fault.
        build_in(None);
        let healthy = play(from + at).wrong.is_none();
        build_in(Some(bug));
        healthy.then_some((at + 1, wrong))
    });
    build_in(None);
    match found {
        Some((seeds, wrong)) => Found { bug, seeds: Some(seeds), wrong },
        None => Found { bug, seeds: None, wrong: String::new() },
    }
}
