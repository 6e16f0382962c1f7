//! Rows of which there are more or fewer than at the last save.
//!
//! Each change is written down with how many such rows there were before it. When the log has grown, it is sorted: of
//! each row the first entry says what was saved, the last one where to find it now, and a row that is there as often as
//! it was saved leaves. So the log is bounded by what a save has to write.

use super::sorted::Sorted;

/// The log is sorted when it has grown to twice what was left of it, and by this.
const GROWTH_MIN: usize = 4_096;

#[derive(Default)]
pub(super) struct Log {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    settled: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    len: u32,
    group: u32,
    before: u32,
}

impl Log {
    pub fn push(&mut self, group: u32, before: usize, row: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(row);
        self.entries.push(Entry { start, len: row.len() as u32, group, before: before as u32 });
    }

    /// The rows of a group from a position on, which are about to go.
    pub fn push_from(&mut self, group: u32, part: &Sorted, from: usize) {
        let mut last: Option<&[u8]> = None;
        for row in part.from(from) {
            if last != Some(row) {
                self.push(group, part.count(row), row);
            }
            last = Some(row);
        }
    }

    pub fn has_grown(&self) -> bool {
        self.entries.len() >= 2 * self.settled + GROWTH_MIN
    }

    fn row(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.start..entry.start + entry.len as usize]
    }

    /// Leaves one entry for each row that is there more or less often than at the last save. `now` counts the rows of a
    /// group that are equal to one.
    pub fn settle(&mut self, now: impl Fn(u32, &[u8]) -> usize) {
        let mut order: Vec<u32> = (0..self.entries.len() as u32).collect();
        let at = |i: &u32| self.row(&self.entries[*i as usize]);
        order.sort_unstable_by(|a, b| at(a).cmp(at(b)).then(a.cmp(b)));
        let mut left = Log::default();
        for run in order.chunk_by(|a, b| at(a) == at(b)) {
            let (first, last) = (self.entries[run[0] as usize], self.entries[run[run.len() - 1] as usize]);
            // The row's partition may have been forgotten and have come back under another number.
            let row = self.row(&last);
            if now(last.group, row) != first.before as usize {
                left.push(last.group, first.before as usize, row);
            }
        }
        left.settled = left.entries.len();
        *self = left;
    }

    /// The entries: the group, and the row.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.entries.iter().map(|e| (e.group, self.row(e)))
    }

    pub fn clear(&mut self) {
        *self = Log::default();
    }

    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}
