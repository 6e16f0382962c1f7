//! How far a table is in the history that it begins with, as its tasks last said it.

use millstream_core::Backfill;
use std::sync::{Mutex, PoisonError};

/// Nothing, for a table without a history.
#[derive(Debug, Default)]
pub struct BackfillMetrics(Mutex<Option<Backfill>>);

impl BackfillMetrics {
    /// What a task has last seen.
    pub fn set(&self, backfill: Backfill) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Several tasks tell, each what it has last seen.
        let newer = |old: &Backfill| backfill.complete || (!old.complete && backfill.done_bytes >= old.done_bytes);
        if told.as_ref().is_none_or(newer) {
            *told = Some(backfill);
        }
    }

    pub fn get(&self) -> Option<Backfill> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_late_takes_nothing_back() {
        let metrics = BackfillMetrics::default();
        let at = |done_bytes, complete| Backfill { done_bytes, all_bytes: 200, complete };
        assert_eq!(metrics.get(), None);
        metrics.set(at(120, false));
        metrics.set(at(60, false));
        assert_eq!(metrics.get().map(|b| b.percent()), Some(60));
        metrics.set(at(200, true));
        metrics.set(at(199, false));
        assert_eq!(metrics.get(), Some(at(200, true)));
    }
}
