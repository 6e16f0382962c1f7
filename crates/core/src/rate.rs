//! How many rows of a table may be read now, where its declaration limits them.
//!
//! ```text
//!  time ──▶ credit, up to BURST_NANOS worth of rows ──▶ rows a partition may give ──▶ taken, or a debt to wait off
//! ```
//!
//! Each partition has an even share of the table's rate among the partitions that are open, so the table as a whole keeps
//! to the limit whoever reads its partitions. A reader that gives more than it may (a batch that cannot be cut) leaves a
//! debt, which is waited off before it is asked again: over any stretch of time the rate holds, but for one such batch.
//!
//! Not here: the clock (`now` is an argument), and what is done meanwhile.

use crate::error::{Error, Result};
use crate::table::TableSpec;

/// Rows that a table may give in a second, all its partitions together; any connector takes it.
pub const RATE_LIMIT: &str = "scan.rate-limit.rows-per-second";

/// The most that can be asked for: above it there is no limit that could be felt.
const RATE_MAX: u64 = 1_000_000_000;

const NANOS: i128 = 1_000_000_000;

/// Credit of at most this long is kept: a partition that was silent, or was not asked, catches up on no more than that.
const BURST_NANOS: i128 = NANOS / 10;

/// What the table's option says.
///
/// # Errors
/// It is no number from 1 to a billion. Needs no place; whoever knows the table adds it.
pub fn rate_limit(table: &TableSpec) -> Result<Option<u64>> {
    let Some(text) = table.option(RATE_LIMIT) else { return Ok(None) };
    match text.trim().parse::<u64>() {
        Ok(rate @ 1..=RATE_MAX) => Ok(Some(rate)),
        _ => Err(Error::sql(format!("'{RATE_LIMIT}' cannot be '{text}'")).remedy(format!(
            "use a number of rows from 1 to {RATE_MAX}, or take the option out: then there is no limit"
        ))),
    }
}

/// What one partition may give.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// Rows per second of the table.
    rate: i128,
    /// In rows of the table times nanoseconds; negative: a debt.
    credit: i128,
    /// The last reading of the clock.
    at: Option<u64>,
}

impl Allowance {
    /// Of a table that may give `rate` rows in a second. Nothing is due at once.
    pub fn new(rate: u64) -> Allowance {
        Allowance { rate: i128::from(rate), credit: 0, at: None }
    }

    /// Rows that the partition, one of `open`, may give at `now`, in nanoseconds of a clock that never goes back.
    pub fn rows(&mut self, now: u64, open: usize) -> usize {
        let cost = cost(open);
        let passed = now.saturating_sub(self.at.unwrap_or(now));
        self.at = Some(self.at.unwrap_or(now).max(now));
        // One row at least, or a slow table would never have enough for one.
        let most = cost.max(self.rate * BURST_NANOS);
        self.credit = (self.credit + i128::from(passed) * self.rate).min(most);
        usize::try_from(self.credit / cost).unwrap_or(0)
    }

    /// So many have been given, whatever it may.
    pub fn took(&mut self, rows: usize, open: usize) {
        self.credit -= cost(open) * rows as i128;
    }
}

fn cost(open: usize) -> i128 {
    NANOS * open.max(1) as i128
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    /// Rows taken in `steps` steps of `step` nanoseconds by a reader that gives all it may.
    fn taken(allowance: &mut Allowance, from: u64, step: u64, steps: u64, open: usize) -> usize {
        (1..=steps)
            .map(|i| {
                let rows = allowance.rows(from + i * step, open);
                allowance.took(rows, open);
                rows
            })
            .sum()
    }

    #[test]
    fn the_rate_is_exact_however_time_is_cut() {
        for (step, steps) in [(MILLI, 1000), (7 * MILLI, 1000 / 7), (100 * MILLI, 10), (333_333, 3000)] {
            let mut allowance = Allowance::new(300);
            assert_eq!(allowance.rows(5, 1), 0, "nothing is due at once");
            let expected = (300 * step * steps) / 1_000_000_000;
            assert_eq!(taken(&mut allowance, 5, step, steps, 1) as u64, expected, "steps of {step}");
        }
    }

    #[test]
    fn shares_add_up_to_the_rate_of_the_table() {
        let mut shares = [Allowance::new(10), Allowance::new(10), Allowance::new(10)];
        let each: Vec<usize> = shares.iter_mut().map(|s| s.rows(0, 3) + taken(s, 0, 10 * MILLI, 900, 3)).collect();
        assert_eq!(each, [30, 30, 30], "9 seconds of 10 rows, by three");
    }

    #[test]
    fn who_was_silent_catches_up_on_a_tenth_of_a_second() {
        let mut allowance = Allowance::new(1000);
        allowance.rows(0, 1);
        assert_eq!(allowance.rows(3_600_000 * MILLI, 1), 100);
        let mut slow = Allowance::new(1);
        slow.rows(0, 4);
        assert_eq!(slow.rows(3_999 * MILLI, 4), 0);
        assert_eq!(slow.rows(4_000 * MILLI, 4), 1, "one row each four seconds");
        assert_eq!(slow.rows(90_000 * MILLI, 4), 1, "one row at the most, where a tenth of a second is less than one");
    }

    #[test]
    fn a_batch_that_could_not_be_cut_is_waited_off() {
        let mut allowance = Allowance::new(1000);
        allowance.rows(0, 1);
        assert_eq!(allowance.rows(10 * MILLI, 1), 10);
        allowance.took(510, 1);
        assert_eq!(allowance.rows(510 * MILLI, 1), 0);
        assert_eq!(allowance.rows(511 * MILLI, 1), 1);
        // A clock that stands still or goes back gives nothing and takes nothing.
        assert_eq!(allowance.rows(300 * MILLI, 1), 1);
        assert_eq!(allowance.rows(512 * MILLI, 1), 2);
    }
}
