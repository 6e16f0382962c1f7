//! The first rows of each partition in an order: `ROW_NUMBER() OVER (PARTITION BY .. ORDER BY ..) <= n`.
//!
//! ```text
//!  batch ──▶ partition of each row ──▶ can it still matter? ──▶ into its place ──▶ shown before / shown after ──▶ changes
//!                                       compared with the last
//!                                       row worth keeping
//! ```
//!
//! Kept up to date at once: each partition that a batch touches is told of once, by the difference between what was
//! shown before the batch and what is shown after it ([`ranking`]). In a window: everything comes out when the watermark
//! closes it, and rows of a window that their mark has closed are late.
//!
//! A partition is its rows as byte strings in order ([`sorted`]): by the sort columns, then by the tie column, then by
//! all others, so the order is total and a function of the rows. Where the input only inserts, a row that cannot be shown
//! any more is not kept: all but `to` rows, or all that sort behind the row of rank `to`. Where the input takes rows
//! back, all are kept, since the next one moves up. A row taken back that is not there changes nothing.
//!
//! With a time to live a partition is forgotten when the watermark has passed its last row's time by as much, whatever
//! became of that row; its rows are not taken back. A row is judged by its mark, so what is told does not depend on
//! batches: what a partition showed until then is told before it is forgotten.

mod log;
mod partitions;
mod ranking;
mod saved;
mod sorted;

use self::log::Log;
use self::partitions::Partitions;
use self::ranking::{Copied, Ranking};
use self::saved::Tables;
use self::sorted::Sorted;
use crate::by_group;
use crate::graph::{self, RankFunction, SortColumn, TopNScope};
use crate::operator::{Event, LateRows, Operator, Output, Watermarks};
use crate::over::words::Words;
use crate::row_bytes::{Changes, Encoded, RowBytes, ascending};
use crate::rows::time_column;
use crate::shelves;
use arrow::array::{Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, ChangeKind, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::table::{Saver, TableDef};
use std::ops::Range;

/// The operator of `spec`, which goes to disk by shelves. `input`, `output`: see [`TopN::new`].
pub fn build(spec: &graph::TopN, input: &SchemaRef, output: SchemaRef) -> Result<Box<dyn Operator>> {
    let (spec, of, keys) = (spec.clone(), input.clone(), spec.partition.clone());
    let make: shelves::Make = Box::new(move || Ok(Box::new(TopN::new(&spec, &of, output.clone())?)));
    shelves::wrap(make, std::slice::from_ref(input), &[&keys])
}

/// The operator of [`graph::TopN`].
pub struct TopN {
    input: SchemaRef,
    ranking: Ranking,
    /// The input only inserts.
    inserts: bool,
    /// The window's columns and what it follows.
    window: Option<(usize, TimeDomain)>,
    watermarks: Watermarks,
    /// Makes what rows are compared by, of the sort columns alone.
    order: RowBytes,
    rows: RowBytes,
    partitions: Partitions,
    changes: Changes,
    tables: Tables,
    /// Rows to save; `None`: nobody keeps track.
    log: Option<Log>,
    before: Copied,
    work: Work,
}

/// Scratch space.
#[derive(Default)]
struct Work {
    order: Vec<usize>,
    deltas: Vec<Delta>,
}

/// How often a row comes or goes in a batch, all told.
struct Delta {
    row: usize,
    by: i64,
    /// How often it was there; only known where somebody asks.
    before: usize,
}

impl TopN {
    /// `input`: columns of the rows; `output`: these, then the rank where it is asked for.
    pub fn new(spec: &graph::TopN, input: &SchemaRef, output: SchemaRef) -> Result<TopN> {
        let mut keys = Vec::new();
        let mut add = |column: usize| {
            if !keys.contains(&column) {
                keys.push(column);
            }
        };
        spec.partition.iter().copied().for_each(&mut add);
        let (mut window, mut ttl, mut inserts) = (None, None, true);
        match &spec.scope {
            TopNScope::Always { ttl: keep, retracts } => {
                (ttl, inserts) = (keep.as_ref(), !retracts);
            }
            TopNScope::Window { start, end, domain } => {
                time_column(input.field(*end).data_type(), input.field(*end).name())?;
                [*start, *end].into_iter().for_each(&mut add);
                window = Some((*end, *domain));
            }
        }
        let number = |rank: u64| usize::try_from(rank).unwrap_or(usize::MAX);
        let ranking = Ranking {
            function: spec.function,
            from: number(spec.from).max(1),
            to: number(spec.to),
            ranked: spec.rank.is_some(),
            update_before: spec.update_before,
        };
        let mut order: Vec<SortColumn> = Vec::with_capacity(spec.sort.len() + 1);
        let mut whole: Vec<SortColumn> = Vec::with_capacity(spec.sort.len() + 1);
        for (column, sorts) in spec.sort.iter().map(|s| (*s, true)).chain(spec.order.map(|o| (ascending(o), false))) {
            if whole.iter().all(|w| w.column != column.column) {
                whole.push(column);
                // Rows that tie have different numbers, so there the tie column can reject a row too.
                if sorts || spec.function == RankFunction::RowNumber {
                    order.push(column);
                }
            }
        }
        let rows = RowBytes::new(input, &whole)?;
        Ok(TopN {
            ranking,
            inserts,
            window,
            watermarks: Watermarks::NONE,
            order: RowBytes::keys(input, &order)?,
            tables: Tables::new(input, &keys, &spec.partition, window.map(|w| w.0), ttl.is_some()),
            partitions: Partitions::new(input, keys, ttl)?,
            changes: Changes::new(&rows, output, spec.rank.is_some()),
            rows,
            log: None,
            before: Copied::default(),
            work: Work::default(),
            input: input.clone(),
        })
    }

    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        if self.ranking.from > self.ranking.to {
            return Ok(());
        }
        if self.inserts && batch.kinds.as_ref().is_some_and(|k| k.values().iter().any(|k| is_removal(*k))) {
            return Err(Error::internal("rows are taken back where the plan says that they are only inserted"));
        }
        let (batch, ends) = match self.window {
            Some((end, domain)) => {
                let (batch, ends) = self.in_time(batch, end, domain, out)?;
                (batch, Some(ends))
            }
            None => (batch, None),
        };
        if batch.is_empty() {
            return Ok(());
        }
        let times = self.partitions.times(&batch.rows)?;
        self.partitions.assign(&batch.rows)?;
        let keys = self.order.encode(&batch.rows)?;
        let event = self.watermarks.event;
        let marks = |i: usize| batch.mark(i, event);
        let latest = (0..batch.len()).map(marks).max().unwrap_or(Watermark::MIN);
        // By partition, and within one in the order of the batch.
        let mut rows: Vec<u64> = (0..batch.len()).map(|i| self.partitions.place(i)).collect();
        if self.inserts {
            self.partitions.touch_and_reject(&mut rows, &keys, latest, times.as_deref());
        }
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable();
        if self.inserts && !self.ranking.tailed() && times.is_none() && self.order.has_columns() {
            leave_first(&mut rows, &keys, self.ranking.to);
        }
        let encoded = self.encode(&batch.rows, &keys, &rows)?;
        let kinds = batch.kinds.as_ref().filter(|_| !self.inserts).map(|k| k.values());
        let removal = |i: usize| kinds.is_some_and(|kinds| is_removal(kinds[i]));
        for run in by_group::runs(&rows) {
            let group = by_group::group(rows[run.start]);
            let mut from = run.start;
            // Row by row, because the partition may have been forgotten before any of them.
            for at in run.clone().filter(|_| times.is_some()) {
                let row = by_group::row(rows[at]);
                if self.partitions.is_forgotten(group, marks(row)) {
                    self.apply(group, from..at, &rows, &encoded, removal, out)?;
                    self.forget(group);
                    from = at;
                }
                self.partitions.touch(group, times.as_ref().map_or(Millis::MIN, |t| t[row]));
            }
            let empty = self.partitions.part(group).is_empty();
            self.apply(group, from..run.end, &rows, &encoded, removal, out)?;
            if let Some(ends) = ends.as_ref().filter(|_| empty) {
                self.partitions.open(ends[by_group::row(rows[run.start])], group);
            }
        }
        self.changes.flush(&self.rows, out)?;
        for run in by_group::runs(&rows) {
            self.partitions.release_if_empty(by_group::group(rows[run.start]));
        }
        self.settle_log(false);
        Ok(())
    }

    /// The rows of windows that are open, with their ends; the others are late.
    fn in_time(
        &self,
        batch: Batch,
        end: usize,
        domain: TimeDomain,
        out: &mut dyn Output,
    ) -> Result<(Batch, Vec<Millis>)> {
        let column = batch.rows.column(end);
        if column.null_count() > 0 {
            let name = batch.rows.schema().field(end).name().clone();
            return Err(Error::data(format!("the end of the row's window, `{name}`, is NULL"))
                .remedy("filter such rows before: WHERE the column IS NOT NULL"));
        }
        let ends = Words::of(column)?;
        let mark = |i: usize| match domain {
            TimeDomain::Event => batch.mark(i, self.watermarks.event),
            TimeDomain::Processing => self.watermarks.processing,
        };
        let (late, open): (Vec<u32>, Vec<u32>) =
            (0..batch.len() as u32).partition(|i| mark(*i as usize).closes(ends[*i as usize]));
        if late.is_empty() {
            let ends = ends.to_vec();
            return Ok((batch, ends));
        }
        let times: Vec<Millis> = late.iter().map(|i| ends[*i as usize].saturating_sub(1)).collect();
        out.set_aside(LateRows {
            times: Int64Array::from(times),
            watermarks: late.iter().map(|i| mark(*i as usize).0).collect::<Int64Array>(),
            rows: take_record_batch(&batch.rows, &UInt32Array::from(late))?,
            reason: "the watermark had closed the row's window".to_owned(),
        })?;
        let ends = open.iter().map(|i| ends[*i as usize]).collect();
        Ok((batch.take(&UInt32Array::from(open))?, ends))
    }

    /// The chosen rows in full, in the order in which they are chosen, with their tails where the ranks need them.
    fn encode(&self, batch: &RecordBatch, keys: &Encoded, rows: &[u64]) -> Result<Encoded> {
        let (batch, chosen) = (self.rows.open(batch)?, rows.iter().map(|r| by_group::row(*r)));
        Ok(match self.ranking.tailed() {
            false => batch.encode(chosen),
            true => batch.encode_with(chosen, |row, bytes| {
                bytes.extend_from_slice(&(keys.row(row).len() as u32).to_le_bytes());
            }),
        })
    }

    /// Puts some rows of one partition in their places, and tells what is shown differently.
    fn apply(
        &mut self,
        group: u32,
        range: Range<usize>,
        rows: &[u64],
        encoded: &Encoded,
        removal: impl Fn(usize) -> bool + Copy,
        out: &mut dyn Output,
    ) -> Result<()> {
        let TopN { ranking, partitions, log, work, .. } = self;
        let removal = |at: usize| removal(by_group::row(rows[at]));
        let part = partitions.part(group);
        work.add_up(part, range, encoded, log.is_some(), removal);
        let Some(low) = work.deltas.first().map(|d| encoded.row(d.row)) else { return Ok(()) };
        let reaches = ranking.reaches(part, low);
        if self.inserts && !reaches {
            return Ok(());
        }
        let told = reaches && self.window.is_none();
        match self.inserts && part.is_small() && !ranking.tailed() {
            true => self.merge(group, low, told, encoded, out),
            false => self.change(group, low, told, encoded, out),
        }
    }

    /// Puts the first ones of some rows and of those that are there in the place of the latter: few rows, in one go.
    fn merge(&mut self, group: u32, low: &[u8], told: bool, encoded: &Encoded, out: &mut dyn Output) -> Result<()> {
        let TopN { ranking, partitions, log, changes, work, rows: codec, .. } = self;
        let part = partitions.part(group);
        let (mut old, mut kept) = (part.from(0).peekable(), 0);
        let mut rows: Vec<&[u8]> = Vec::with_capacity(part.len() + work.deltas.len());
        for delta in &work.deltas {
            let row = encoded.row(delta.row);
            while rows.len() < ranking.to
                && let Some(before) = old.next_if(|before| *before <= row)
            {
                rows.push(before);
                kept += 1;
            }
            if rows.len() == ranking.to {
                break;
            }
            if let Some(log) = log {
                log.push(group, delta.before, row);
            }
            rows.extend(std::iter::repeat_n(row, (ranking.to - rows.len()).min(delta.by.unsigned_abs() as usize)));
        }
        let room = ranking.to - rows.len();
        kept += room.min(part.len() - kept);
        rows.extend(old.take(room));
        if let Some(log) = log {
            log.push_from(group, part, kept);
        }
        let rows = Sorted::of(&rows);
        let before = partitions.replace(group, rows);
        partitions.trim(group, ranking, None);
        match told {
            true => {
                let (before, after) = (&before, partitions.part(group));
                let (before, after) = (ranking.show(before, Some(low)), ranking.show(after, Some(low)));
                ranking.tell(&before, &after, changes, codec, out)
            }
            false => Ok(()),
        }
    }

    /// Changes the rows where they are.
    fn change(&mut self, group: u32, low: &[u8], told: bool, encoded: &Encoded, out: &mut dyn Output) -> Result<()> {
        let TopN { ranking, partitions, log, changes, before, work, rows: codec, .. } = self;
        if told {
            before.copy(&ranking.show(partitions.part(group), Some(low)));
        }
        partitions.change(group, |part| {
            for delta in &work.deltas {
                let row = encoded.row(delta.row);
                if self.inserts && ranking.is_behind(part, row) {
                    // And so are those that follow.
                    break;
                }
                if let Some(log) = log {
                    log.push(group, delta.before, row);
                }
                let copies = delta.by.unsigned_abs() as usize;
                if delta.by > 0 { part.insert(row, copies) } else { part.remove(row, copies) }
            }
        });
        if self.inserts {
            partitions.trim(group, ranking, log.as_mut());
        }
        if told {
            let after = ranking.show(partitions.part(group), Some(low));
            ranking.tell(&before.shown(), &after, changes, codec, out)?;
        }
        Ok(())
    }

    /// Forgets a partition's rows. Nobody is told.
    fn forget(&mut self, group: u32) {
        if let Some(log) = &mut self.log {
            log.push_from(group, self.partitions.part(group), 0);
        }
        self.partitions.clear(group);
    }

    fn forget_through(&mut self, to: Watermark) -> Result<()> {
        let groups = self.partitions.expired(to);
        groups.iter().for_each(|group| self.forget(*group));
        self.partitions.release_forgotten(&groups, self.log.is_some())?;
        self.settle_log(false);
        Ok(())
    }

    /// Shows the windows that the watermark closes, and forgets them.
    fn close_through(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        while let Some(groups) = self.partitions.close(to) {
            for group in groups {
                for shown in self.ranking.show(self.partitions.part(group), None) {
                    self.ranking.tell_one(ChangeKind::Insert, shown, &mut self.changes, &self.rows, out)?;
                }
                self.partitions.clear(group);
                self.partitions.release_if_empty(group);
            }
        }
        self.changes.flush(&self.rows, out)
    }

    fn settle_log(&mut self, now: bool) {
        let partitions = &self.partitions;
        if let Some(log) = self.log.as_mut().filter(|log| now || log.has_grown()) {
            log.settle(|group, row| partitions.part(group).count(row));
        }
    }
}

impl Work {
    /// What rows of one partition come to: each row once, in order, without those that come and go.
    ///
    /// A row taken back that is not there at that moment changes nothing, so the order of the batch counts for equal rows.
    fn add_up(
        &mut self,
        part: &Sorted,
        range: Range<usize>,
        encoded: &Encoded,
        counted: bool,
        removal: impl Fn(usize) -> bool,
    ) {
        let Work { order, deltas } = self;
        order.clear();
        deltas.clear();
        order.extend(range);
        if order.len() > 1 {
            order.sort_unstable_by(|a, b| encoded.row(*a).cmp(encoded.row(*b)).then(a.cmp(b)));
        }
        for equal in order.chunk_by(|a, b| encoded.row(*a) == encoded.row(*b)) {
            let removals = equal.iter().any(|at| removal(*at));
            let before = if removals || counted { part.count(encoded.row(equal[0])) } else { 0 };
            let after = equal.iter().fold(before, |n, at| if removal(*at) { n.saturating_sub(1) } else { n + 1 });
            if after != before {
                deltas.push(Delta { row: equal[0], by: after as i64 - before as i64, before });
            }
        }
    }
}

/// Leaves of each partition the rows that can be among its first `to`, so that the others are never looked at in full:
/// often a batch brings many rows of one partition. Rows whose keys are equal are told apart later.
fn leave_first(rows: &mut Vec<u64>, keys: &Encoded, to: usize) {
    let mut left = 0;
    let mut start = 0;
    while start < rows.len() {
        let group = by_group::group(rows[start]);
        let mut end = start + rows[start..].partition_point(|row| by_group::group(*row) == group);
        let next = end;
        if end - start > to {
            let key = |row: &u64| keys.row(by_group::row(*row));
            let (_, last, behind) = rows[start..end].select_nth_unstable_by(to - 1, |a, b| key(a).cmp(key(b)));
            let last = *last;
            let mut ties = 0;
            for at in 0..behind.len() {
                if key(&behind[at]) == key(&last) {
                    behind.swap(ties, at);
                    ties += 1;
                }
            }
            end = start + to + ties;
            // As they came.
            rows[start..end].sort_unstable();
        }
        rows.copy_within(start..end, left);
        left += end - start;
        start = next;
    }
    rows.truncate(left);
}

fn is_removal(kind: i8) -> bool {
    matches!(ChangeKind::from_code(kind), ChangeKind::UpdateBefore | ChangeKind::Delete)
}

impl Operator for TopN {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(batch, out),
            Event::Watermark(domain, to) => {
                self.watermarks.advance(domain, to);
                if self.window.is_some_and(|(_, follows)| follows == domain) {
                    self.close_through(to, out)?;
                }
                if domain == TimeDomain::Event {
                    self.forget_through(to)?;
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.partitions.bytes() + self.log.as_ref().map_or(0, Log::bytes) + self.changes.bytes() + self.before.bytes()
    }

    /// A partition is forgotten in silence, a window is shown.
    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        let end = self.partitions.first_end().filter(|_| self.window.is_some_and(|(_, follows)| follows == domain))?;
        Some(Watermark(end.saturating_sub(1)))
    }

    fn tables(&self) -> Vec<TableDef> {
        self.tables.all()
    }

    fn track_changes(&mut self) {
        self.log = Some(Log::default());
        self.partitions.track();
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.save_tables(saver)
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        self.load_table(table, rows)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.watermarks = watermarks;
        if self.inserts {
            (0..self.partitions.len() as u32).for_each(|group| self.partitions.trim(group, &self.ranking, None));
        }
        Ok(())
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
