//! How often something that failed is tried again, and how long it waits in between.
//!
//! ```text
//!  try ─✗─ first ─ try ─✗─ 2 × first ─ try ─✗─ 4 × first … at most `most` ─ try ─✗─ the error is said
//! ```
//!
//! Each pause lies between a half and the whole of its step, so that many jobs that were hit by one outage do not all come
//! back in the same moment. What chooses it is a name and the number of the try, no chance and no clock: a run can be repeated.
//!
//! Not here: what may pass and what will be refused again (that says the error's kind), and the waiting itself.

use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Doublings that change anything: any pause is at its most by then.
const DOUBLINGS_MAX: u32 = 31;

/// When to try again, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The pause before the second try, at the most.
    pub first: Duration,
    /// No pause is longer.
    pub most: Duration,
    /// Tries in all, the first one among them.
    pub tries_max: u32,
}

impl RetryPolicy {
    /// The tries of something that is called `name`: what fails beside it should have another name.
    pub fn tries(self, name: &str) -> Tries {
        Tries { policy: self, seed: xxh3_64(name.as_bytes()), failed: 0 }
    }
}

/// Tries of one thing.
#[derive(Debug, Clone)]
pub struct Tries {
    policy: RetryPolicy,
    seed: u64,
    failed: u32,
}

impl Tries {
    /// A try has failed. How long to wait before the next one; `None`: that was the last.
    pub fn after_failure(&mut self) -> Option<Duration> {
        self.failed = self.failed.saturating_add(1);
        if self.failed >= self.policy.tries_max {
            return None;
        }
        let doublings = (self.failed - 1).min(DOUBLINGS_MAX);
        let step = self.policy.first.saturating_mul(1 << doublings).min(self.policy.most);
        let draw = xxh3_64(&[self.seed.to_le_bytes(), u64::from(self.failed).to_le_bytes()].concat());
        let half = step / 2;
        // In 1024 parts, which is fine enough to part those who would meet.
        Some(half + (step - half) * (draw % 1025) as u32 / 1024)
    }

    /// Tries that have failed so far.
    pub fn failed(&self) -> u32 {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy { first: Duration::from_millis(100), most: Duration::from_secs(30), tries_max: 12 };

    fn pauses(policy: RetryPolicy, name: &str) -> Vec<Duration> {
        let mut tries = policy.tries(name);
        std::iter::from_fn(|| tries.after_failure()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_most_and_end() {
        let pauses = pauses(POLICY, "orders");
        assert_eq!(pauses.len(), 11, "twelve tries have eleven pauses");
        for (i, pause) in pauses.iter().enumerate() {
            let step = (POLICY.first * (1 << i)).min(POLICY.most);
            assert!(*pause >= step / 2 && *pause <= step, "pause {i} is {pause:?}, its step {step:?}");
        }
    }

    #[test]
    fn the_same_name_waits_alike_and_others_do_not() {
        assert_eq!(pauses(POLICY, "orders"), pauses(POLICY, "orders"));
        let firsts: std::collections::BTreeSet<Duration> =
            (0..100).map(|job| pauses(POLICY, &format!("job-{job}"))[0]).collect();
        assert!(firsts.len() > 80, "a hundred jobs come back in {} moments", firsts.len());
    }

    #[test]
    fn one_try_is_no_retry_and_many_do_not_overflow() {
        assert_eq!(pauses(RetryPolicy { tries_max: 1, ..POLICY }, "x"), []);
        assert_eq!(pauses(RetryPolicy { tries_max: 0, ..POLICY }, "x"), []);
        let long = pauses(RetryPolicy { tries_max: 1_000, ..POLICY }, "x");
        assert!(long.len() == 999 && long.iter().all(|p| *p <= POLICY.most));
    }
}
