//! What a stream of changes amounts to.

use super::{Capture, render};
use millstream_core::ChangeKind;
use std::collections::BTreeMap;

/// A table that changes have been made to: each row with how many times it is there.
#[derive(Debug, Default)]
pub struct Table {
    counts: BTreeMap<String, usize>,
}

impl Table {
    /// The table after what was emitted, with all columns.
    pub fn take(&mut self, emitted: &Capture) {
        for (_, batch) in &emitted.emitted {
            for (i, text) in render(&batch.rows, false).into_iter().enumerate() {
                let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i)));
                self.change(kind, &text);
            }
        }
    }

    /// Panics where a row is taken back that is not there.
    pub fn change(&mut self, kind: ChangeKind, row: &str) {
        let count = self.counts.entry(row.to_owned()).or_default();
        match kind {
            ChangeKind::Insert | ChangeKind::UpdateAfter => *count += 1,
            ChangeKind::UpdateBefore | ChangeKind::Delete => {
                assert!(*count > 0, "`{} {row}` takes back a row that is not there", kind.short());
                *count -= 1;
            }
        }
    }

    /// Each row as many times as it is there, in order.
    pub fn rows(&self) -> Vec<String> {
        self.counts.iter().flat_map(|(row, count)| std::iter::repeat_n(row.clone(), *count)).collect()
    }
}
