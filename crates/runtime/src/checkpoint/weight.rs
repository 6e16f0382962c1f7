//! When a task saves all that an operator remembers, rather than what has changed.
//!
//! ```text
//!  whole 900 rows ◀─ 800 changed ◀─ 850 changed     a chain as heavy as what it changes has to be merged: read, compared
//!                                                   row by row, written again
//!  whole 900      ◀─ 800 changed,  whole 950        a whole piece begins a new chain, and costs as much as the changes
//! ```
//!
//! Changes are saved so that a checkpoint costs what has changed and not what there is. Where nearly everything changes
//! from one barrier to the next the two are the same, and the whole is cheaper: nothing of the old chain is read again.
//! Where little changes, chains grow and are merged beside the job.

/// A change has to be one part in so many of the whole, or it is saved as a change: to copy the whole at the barrier
/// holds the task up for at most so many times longer.
const PART_MIN: u64 = 2;

/// Rows that a task has saved of one operator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    /// In the first piece of the chain; `None`: more than can be told.
    whole: Option<u64>,
    /// In the pieces behind it, and in the last of them.
    changes: u64,
    last: u64,
}

impl Weight {
    /// Of a chain that a checkpoint holds, or of none.
    pub fn new(rows: Option<u64>) -> Weight {
        Weight { whole: rows, changes: 0, last: 0 }
    }

    /// Whether the next save had better be a whole one.
    pub fn is_heavy(&self) -> bool {
        self.whole.is_some_and(|rows| self.changes >= rows && self.last.saturating_mul(PART_MIN) >= rows)
    }

    /// `rows`: `None` where some are read from scratch files when the piece is written. Those are too many to be written
    /// again for nothing.
    pub fn saved(&mut self, whole: bool, rows: Option<u64>) {
        match rows {
            rows if whole => *self = Weight::new(rows),
            Some(rows) => {
                self.last = rows;
                self.changes = self.changes.saturating_add(rows);
            }
            None => self.whole = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which saves are whole, where so many rows change before each of them and `there` are so many in all.
    fn wholes(changes: &[u64], there: u64) -> Vec<bool> {
        let mut weight = Weight::new(Some(there));
        let whole = |rows: &u64| {
            let whole = weight.is_heavy();
            weight.saved(whole, Some(if whole { there } else { *rows }));
            whole
        };
        changes.iter().map(whole).collect()
    }

    #[test]
    fn what_changes_as_a_whole_is_saved_as_a_whole() {
        assert_eq!(wholes(&[100, 100, 100, 100], 100), [false, true, false, true]);
        assert_eq!(wholes(&[60, 60, 60, 60, 60], 100), [false, false, true, false, false]);
    }

    #[test]
    fn what_changes_a_little_is_saved_as_changes() {
        assert_eq!(wholes(&[10; 40], 100), [false; 40]);
        // As many as there are, and the last time few of them.
        assert_eq!(wholes(&[50, 45, 10, 10], 100), [false; 4]);
    }

    #[test]
    fn rows_in_scratch_files_are_not_written_again() {
        let mut weight = Weight::new(None);
        weight.saved(false, Some(1_000_000));
        assert!(!weight.is_heavy());
        weight.saved(true, None);
        weight.saved(false, Some(1_000_000));
        assert!(!weight.is_heavy());
        // They may come there later.
        weight.saved(true, Some(10));
        weight.saved(false, Some(10));
        assert!(weight.is_heavy());
        weight.saved(false, None);
        weight.saved(false, Some(10));
        assert!(!weight.is_heavy());
    }
}
