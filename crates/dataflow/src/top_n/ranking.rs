//! Which rows of a partition are shown, with which rank, and what changes between two showings.
//!
//! ```text
//!  scores          9  7  7  5
//!  ROW_NUMBER      1  2  3  4      a place
//!  RANK            1  2  2  4      1 + rows that sort before
//!  DENSE_RANK      1  2  2  3      1 + values that sort before
//! ```
//!
//! A row changes the ranks of those behind it alone, so a partition is looked at from its first change on.
//!
//! With a rank, a ROW_NUMBER is the name of what is shown: the row of rank 2 becomes another one (`-U`, `+U`). RANK and
//! DENSE_RANK name nothing, since rows may share them: there a row is itself, and it is its rank that is updated.
//! Without a rank, rows come (`+I`) and go (`-D`), those that go first.

use super::sorted::Sorted;
use crate::graph::RankFunction;
use crate::operator::Output;
use crate::row_bytes::{Changes, RowBytes};
use millstream_core::{ChangeKind, Result};

/// What is asked of the ranks.
pub(super) struct Ranking {
    pub function: RankFunction,
    /// The ranks shown, from 1, both inclusive.
    pub from: usize,
    pub to: usize,
    /// The rank is shown too.
    pub ranked: bool,
    pub update_before: bool,
}

/// Bytes that hold the length of a row's sort columns, behind the row, where ranks depend on it.
const TAIL: usize = 4;

impl Ranking {
    /// Rows are kept with the length of their sort columns behind them, to tell which of them tie.
    pub fn tailed(&self) -> bool {
        self.function != RankFunction::RowNumber
    }

    /// The row without what stands behind it.
    pub fn plain<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        if self.tailed() { &row[..row.len() - TAIL] } else { row }
    }

    /// The sort columns of a row with its tail.
    fn sort_part<'a>(&self, row: &'a [u8]) -> &'a [u8] {
        let (plain, tail) = row.split_at(row.len() - TAIL);
        let len = u32::from_le_bytes(tail.try_into().expect("the tail has four bytes"));
        &plain[..len as usize]
    }

    fn tie(&self, row: &[u8], other: &[u8]) -> bool {
        // No sort key begins another one, so a row that begins with it has the same.
        other.starts_with(self.sort_part(row))
    }

    /// Whether a row here, or one that was here, can have a rank that is shown, or shift one.
    pub fn reaches(&self, part: &Sorted, row: &[u8]) -> bool {
        match self.function {
            RankFunction::RowNumber => part.position(row, self.to) < self.to,
            RankFunction::Rank => part.position(self.sort_part(row), self.to) < self.to,
            // Nobody counts the values before it.
            RankFunction::DenseRank => true,
        }
    }

    /// The rows shown that are not smaller than `low`, and some that are, with their ranks.
    pub fn show<'a>(&self, part: &'a Sorted, low: Option<&[u8]>) -> Vec<Shown<'a>> {
        match self.function {
            RankFunction::RowNumber => {
                let first = low.map_or(0, |low| part.position(low, self.to)).max(self.from - 1);
                part.from(first).zip(first + 1..=self.to).collect()
            }
            RankFunction::Rank => {
                let first = low.map_or(0, |low| part.position(self.sort_part(low), self.to));
                let mut shown = Vec::new();
                let (mut rank, mut before): (usize, Option<&[u8]>) = (first + 1, None);
                for (at, row) in part.from(first).enumerate() {
                    if before.is_some_and(|before| !self.tie(before, row)) {
                        rank = first + at + 1;
                    }
                    if rank > self.to {
                        break;
                    }
                    if rank >= self.from {
                        shown.push((row, rank));
                    }
                    before = Some(row);
                }
                shown
            }
            RankFunction::DenseRank => {
                let mut shown = Vec::new();
                let (mut rank, mut before): (usize, Option<&[u8]>) = (1, None);
                for row in part.from(0) {
                    rank += usize::from(before.is_some_and(|before| !self.tie(before, row)));
                    if rank > self.to {
                        break;
                    }
                    if rank >= self.from {
                        shown.push((row, rank));
                    }
                    before = Some(row);
                }
                shown
            }
        }
    }

    /// How many first rows can ever be shown if rows are only added, and whether a row behind the last of these can not.
    pub fn worth_keeping(&self, part: &Sorted) -> (usize, bool) {
        let len = part.len();
        match self.function {
            RankFunction::RowNumber => (self.to.min(len), len >= self.to),
            RankFunction::Rank if len < self.to => (len, false),
            RankFunction::Rank => {
                let mut rows = part.from(self.to - 1);
                let ties = rows.next().map_or(0, |last| rows.take_while(|row| self.tie(last, row)).count());
                (self.to + ties, true)
            }
            RankFunction::DenseRank => {
                let (mut rank, mut before): (usize, Option<&[u8]>) = (1, None);
                for (at, row) in part.from(0).enumerate() {
                    rank += usize::from(before.is_some_and(|before| !self.tie(before, row)));
                    if rank > self.to {
                        return (at, true);
                    }
                    before = Some(row);
                }
                (len, len > 0 && rank >= self.to)
            }
        }
    }

    /// Whether the rows that are there leave no rank for this one and for those behind it, if rows are only added.
    pub fn is_behind(&self, part: &Sorted, row: &[u8]) -> bool {
        let Some(last) = part.last().filter(|_| part.len() >= self.to) else { return false };
        match self.function {
            RankFunction::RowNumber => row >= last,
            RankFunction::Rank => row > last && !self.tie(last, row),
            // Nobody has counted the values.
            RankFunction::DenseRank => false,
        }
    }

    /// Tells what has changed from one showing to the other.
    pub fn tell(
        &self,
        before: &[Shown],
        after: &[Shown],
        changes: &mut Changes,
        codec: &RowBytes,
        out: &mut dyn Output,
    ) -> Result<()> {
        if self.ranked && !self.tailed() {
            return self.tell_places(before, after, changes, codec, out);
        }
        for pair in (Pairs { before, after }) {
            if let (Some(before), None) = pair {
                self.tell_one(ChangeKind::Delete, before, changes, codec, out)?;
            }
        }
        for pair in (Pairs { before, after }) {
            match pair {
                (None, Some(after)) => self.tell_one(ChangeKind::Insert, after, changes, codec, out)?,
                (Some(before), Some(after)) if self.ranked && before.1 != after.1 => {
                    self.tell_update(before, after, changes, codec, out)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Both showings begin with the same place.
    fn tell_places(
        &self,
        before: &[Shown],
        after: &[Shown],
        changes: &mut Changes,
        codec: &RowBytes,
        out: &mut dyn Output,
    ) -> Result<()> {
        for at in 0..before.len().max(after.len()) {
            match (before.get(at), after.get(at)) {
                (Some(before), Some(after)) if before.0 != after.0 => {
                    self.tell_update(*before, *after, changes, codec, out)?;
                }
                (Some(before), None) => self.tell_one(ChangeKind::Delete, *before, changes, codec, out)?,
                (None, Some(after)) => self.tell_one(ChangeKind::Insert, *after, changes, codec, out)?,
                _ => {}
            }
        }
        Ok(())
    }

    pub fn tell_one(
        &self,
        kind: ChangeKind,
        (row, rank): Shown,
        changes: &mut Changes,
        codec: &RowBytes,
        out: &mut dyn Output,
    ) -> Result<()> {
        changes.make_room(1, codec, out)?;
        changes.push(kind, self.plain(row), rank as u64);
        Ok(())
    }

    fn tell_update(
        &self,
        before: Shown,
        after: Shown,
        changes: &mut Changes,
        codec: &RowBytes,
        out: &mut dyn Output,
    ) -> Result<()> {
        changes.make_room(2, codec, out)?;
        if self.update_before {
            changes.push(ChangeKind::UpdateBefore, self.plain(before.0), before.1 as u64);
        }
        changes.push(ChangeKind::UpdateAfter, self.plain(after.0), after.1 as u64);
        Ok(())
    }
}

/// A row that is shown, and its rank. Those of a partition stand in order.
pub(super) type Shown<'a> = (&'a [u8], usize);

/// Rows that are shown, copied: those that are about to change where they are.
#[derive(Default)]
pub(super) struct Copied {
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

impl Copied {
    /// Instead of those that it held.
    pub fn copy(&mut self, shown: &[Shown]) {
        self.bytes.clear();
        self.ends.clear();
        for (row, rank) in shown {
            self.bytes.extend_from_slice(row);
            self.ends.push((self.bytes.len(), *rank));
        }
    }

    pub fn shown(&self) -> Vec<Shown<'_>> {
        let mut start = 0;
        let row = |(end, rank): &(usize, usize)| (&self.bytes[std::mem::replace(&mut start, *end)..*end], *rank);
        self.ends.iter().map(row).collect()
    }

    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 16
    }
}

/// The rows of two showings, each with the equal one of the other where there is one.
struct Pairs<'a, 'b> {
    before: &'a [Shown<'b>],
    after: &'a [Shown<'b>],
}

impl<'b> Iterator for Pairs<'_, 'b> {
    type Item = (Option<Shown<'b>>, Option<Shown<'b>>);

    fn next(&mut self) -> Option<Self::Item> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let (before, after) = (self.before.first().copied(), self.after.first().copied());
        let order = match (before, after) {
            (None, None) => return None,
            (Some(_), None) => Less,
            (None, Some(_)) => Greater,
            (Some(before), Some(after)) => before.0.cmp(after.0),
        };
        self.before = &self.before[usize::from(order != Greater)..];
        self.after = &self.after[usize::from(order != Less)..];
        Some(match order {
            Less => (before, None),
            Greater => (None, after),
            Equal => (before, after),
        })
    }
}
