//! Sessions: for each key, rows at most `gap` apart belong together.
//!
//! ```text
//!  gap 5    10   12           20        one session [10, 17), one [20, 25)
//!           10   12    16     20        16 bridges them: one session [10, 25)
//! ```
//!
//! Nearly every key has one open session, so that one has the id of its key: a row then costs the look-up of its key
//! and a comparison. Further sessions of a key get ids of their own. Accumulators go by the same ids, and where
//! sessions merge, their groups do.
//!
//! A session `[first, last + gap)` closes when the watermark reaches `last + gap - 1`. It waits for that in a bucket of
//! the time at which it was expected to close; when rows have moved its end, it moves on to a later bucket. So a row
//! never touches a timer.
//!
//! Always true:
//! - Two open sessions of a key are more than `gap` apart (at distance `gap` they merge, as in Flink).
//! - A row is late when the session it makes, merged with all open ones in reach, is closed for the row's own mark. A
//!   batch is cut where a row's mark has closed what the row could reach, so the answer is that of row by row.
//! - With allowed lateness a closed session is kept that long. When a row changes it, its old result is taken back (a
//!   delete), since its window is another one from now on.
//!
//! With `EMIT` a session is told while it grows: [`panes`].

mod panes;
mod saved;

use super::emit::{Each, Emitter};
use super::grid::Grid;
use super::table::{Grouping, Rows, Table, mark};
use super::{Times, Timing, all_within};
use crate::aggregate::{Groups, Plan};
use crate::graph;
use crate::operator::{Event, Operator, Output, Watermarks};
use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, ChangeKind, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::keys::{KeyBatch, KeyTable};
use millstream_state::table::{Saver, TableDef};
use panes::Telling;
use saved::Book;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Rows of one pass.
const BLOCK: usize = 1024;

pub(crate) struct SessionAggregate {
    timing: Timing,
    grouping: Grouping,
    emitter: Emitter,
    input: SchemaRef,
    gap: Millis,
    lateness: Millis,
    table: Table,
    /// By id.
    sessions: Vec<Session>,
    /// By key: the ids of its sessions beside the first. Only keys that have any.
    more: HashMap<u32, Vec<u32>>,
    /// Ids by the bucket of their due time.
    timers: Wheel,
    bucket: Millis,
    watermark: Watermark,
    local_watermark: Watermark,
    /// What stands in the tables of a checkpoint.
    book: Book,
    /// With `EMIT`.
    telling: Option<Telling>,
    /// Scratch of a block: sessions that went into others, and ids to give back.
    merged: Vec<(u32, u32)>,
    ids: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct Session {
    first: Millis,
    last: Millis,
    /// The bucket in which it waits; entries elsewhere are stale.
    timer: i64,
    key: u32,
    open: bool,
    /// The key has other sessions too. Kept at the first one.
    many: bool,
    /// Emitted already, and kept for late rows.
    fired: bool,
}

impl Session {
    /// The only one of its key, and open: what nearly every row finds.
    #[inline(always)]
    fn is_simple(&self) -> bool {
        self.open & !self.many & !self.fired
    }

    /// Takes a row in, if this is the only session of its key and the row is in its reach.
    #[inline(always)]
    fn extend(&mut self, at: Millis, gap: Millis) -> bool {
        // `first - gap <= at <= last + gap`, as one comparison of distances.
        let distance = at.wrapping_sub(self.first).wrapping_add(gap) as u64;
        let reach = self.last.wrapping_sub(self.first).wrapping_add(gap).wrapping_add(gap) as u64;
        if distance > reach || !self.is_simple() {
            return false;
        }
        self.first = self.first.min(at);
        self.last = self.last.max(at);
        true
    }
}

/// Buckets of ids. Those of the near future, which nearly all ids wait in, are a ring; the others are sorted.
struct Wheel {
    /// The buckets `[base, base + NEAR)`, each at its number modulo `NEAR`.
    near: Vec<Vec<u32>>,
    base: i64,
    far: BTreeMap<i64, Vec<u32>>,
}

/// Buckets of the ring: four gaps long.
const NEAR: i64 = 256;

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel { near: vec![Vec::new(); NEAR as usize], base: i64::MIN, far: BTreeMap::new() }
    }
}

impl Wheel {
    /// Puts an id into a bucket, or into the first one if that has gone by. Returns the bucket.
    fn push(&mut self, bucket: i64, id: u32) -> i64 {
        let bucket = bucket.max(self.base);
        match bucket.saturating_sub(self.base) < NEAR {
            true => self.near[(bucket & (NEAR - 1)) as usize].push(id),
            false => self.far.entry(bucket).or_default().push(id),
        }
        bucket
    }

    /// Takes out all buckets up to this one, which is the first from now on.
    fn take_through(&mut self, last: i64, mut each: impl FnMut(i64, u32)) {
        if last < self.base {
            return;
        }
        for bucket in self.base..=last.min(self.base.saturating_add(NEAR - 1)) {
            self.near[(bucket & (NEAR - 1)) as usize].drain(..).for_each(|id| each(bucket, id));
        }
        while let Some(entry) = self.far.first_entry()
            && *entry.key() <= last
        {
            let (bucket, ids) = entry.remove_entry();
            ids.into_iter().for_each(|id| each(bucket, id));
        }
        self.base = last;
    }

    /// The first bucket that is not empty. One that was far when it was filled may have come near since.
    fn first(&self) -> Option<i64> {
        let end = self.base.saturating_add(NEAR);
        let near = (self.base..end).find(|b| !self.near[(b & (NEAR - 1)) as usize].is_empty());
        near.into_iter().chain(self.far.first_key_value().map(|(bucket, _)| *bucket)).min()
    }

    fn bytes(&self) -> usize {
        let near = self.near.iter().map(|ids| ids.capacity() * 4 + size_of::<Vec<u32>>()).sum::<usize>();
        near + self.far.values().map(|ids| ids.capacity() * 4 + 48).sum::<usize>()
    }
}

impl SessionAggregate {
    pub fn new(node: &graph::WindowAggregate, gap: Millis, input: &SchemaRef) -> Result<SessionAggregate> {
        if gap <= 0 {
            return Err(Error::sql(format!("the gap of a session is {gap} ms"))
                .remedy("write an interval of at least one millisecond"));
        }
        if let graph::Window::Session { partition, .. } = &node.window {
            let sorted = |columns: &[usize]| {
                let mut columns = columns.to_vec();
                columns.sort_unstable();
                columns.dedup();
                columns
            };
            if sorted(partition) != sorted(&node.keys) {
                return Err(Error::internal("sessions are grouped by other columns than they are partitioned by")
                    .remedy("make the session's rows first, then aggregate over the attached windows"));
            }
        }
        let plan = Plan::new(&node.calls, input, Some(node.time.column), node.order)?;
        let grouping = Grouping::new(&node.keys, plan, input)?;
        let timing = Timing::new(node, Grid::Attached)?;
        Ok(SessionAggregate {
            emitter: Emitter::new(node, input, &timing.zone),
            book: Book::new(&grouping, input),
            telling: None,
            input: input.clone(),
            timing,
            gap,
            lateness: node.lateness.max(0),
            table: grouping.table(),
            grouping,
            sessions: Vec::new(),
            more: HashMap::new(),
            timers: Wheel::default(),
            bucket: (gap / 64).max(1),
            watermark: Watermark::MIN,
            local_watermark: Watermark::MIN,
            merged: Vec::new(),
            ids: Vec::new(),
        })
    }

    fn end(&self, last: Millis) -> Millis {
        last.saturating_add(self.gap)
    }

    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let times = self.timing.read(&batch)?;
        let rows = self.grouping.read(&batch.rows)?;
        let refire = self.lateness > 0 && self.telling.is_none();
        let mut from = 0;
        while from < batch.len() {
            let mark = self.mark(&times, from);
            let at = times.local.value(from);
            if mark > self.local_watermark && self.reaches_closed(at, mark) {
                self.fire_through(mark, out)?;
            }
            if self.may_be_late(at, mark) {
                self.take_in_late(&batch, &rows, at, from, out)?;
                from += 1;
                continue;
            }
            // As far as no row asks for a decision of its own.
            let calm = |row: usize| {
                let (mark, at) = (self.mark(&times, row), times.local.value(row));
                !self.may_be_late(at, mark) && (mark <= self.local_watermark || !self.reaches_closed(at, mark))
            };
            let plain = times.marks.is_none() && {
                let latest = self.local_watermark.0.saturating_sub(self.gap).saturating_sub(self.lateness);
                all_within(&times.local.values()[from..], latest.saturating_add(2), super::FAR)
            };
            let to = match plain {
                true => batch.len(),
                false => (from + 1..batch.len()).find(|row| !calm(*row)).unwrap_or(batch.len()),
            };
            let mut block = from;
            while block < to {
                let end = (block + BLOCK).min(to);
                self.add(&rows, times.local.values(), block..end, out)?;
                block = end;
            }
            from = to;
        }
        if refire {
            // Sessions changed by late rows that are closed all the same.
            self.fire_through(self.local_watermark, out)?;
        }
        Ok(())
    }

    fn mark(&self, times: &Times, row: usize) -> Watermark {
        match &times.marks {
            None => self.local_watermark,
            Some(marks) => Watermark(marks[row].max(self.local_watermark.0)),
        }
    }

    /// Whether a row of this time could touch a session that the mark has closed.
    fn reaches_closed(&self, at: Millis, mark: Watermark) -> bool {
        at <= mark.0.saturating_add(1)
    }

    fn may_be_late(&self, at: Millis, mark: Watermark) -> bool {
        mark.forgets(self.end(at), self.lateness)
    }

    /// One row whose own session would be closed already. It counts if an open session is in reach.
    fn take_in_late(&mut self, batch: &Batch, rows: &Rows, at: Millis, row: usize, out: &mut dyn Output) -> Result<()> {
        let mut ids = std::mem::take(&mut self.ids);
        self.table.keys.assign(&rows.keys, row..row + 1, &mut ids);
        let key = ids[0];
        self.ids = ids;
        self.grow();
        let in_reach = |s: &Session| s.open && at >= s.first.saturating_sub(self.gap) && at <= self.end(s.last);
        let extra = self.more.get(&key).into_iter().flatten().copied();
        if std::iter::once(key).chain(extra).any(|id| in_reach(&self.sessions[id as usize])) {
            return self.add(rows, &vec![at; row + 1], row..row + 1, out);
        }
        if !self.sessions[key as usize].open {
            self.table.keys.release(key);
        }
        self.timing.set_aside(batch, &[row as u32], self.watermark, (at, self.end(at)), out)
    }

    fn grow(&mut self) {
        let ids = self.table.keys.len();
        if self.sessions.len() < ids {
            self.sessions.resize(ids, Session::default());
        }
        if let Some(telling) = &mut self.telling {
            telling.resize(ids);
        }
        self.table.state.resize(ids);
    }

    /// Adds rows of which none is late.
    fn add(&mut self, rows: &Rows, times: &[Millis], range: Range<usize>, out: &mut dyn Output) -> Result<()> {
        if self.telling.is_some() {
            return self.add_told(rows, times, range, out);
        }
        if rows.keys.is_plain() && self.table.state.counts_only().is_some() {
            return self.add_counts(rows, times, range, out);
        }
        self.add_all(rows, times, range, out)
    }

    /// Adds rows, and leaves the session of each in `ids`.
    fn add_all(&mut self, rows: &Rows, times: &[Millis], range: Range<usize>, out: &mut dyn Output) -> Result<()> {
        let mut ids = std::mem::take(&mut self.ids);
        self.table.keys.assign(&rows.keys, range.clone(), &mut ids);
        self.grow();
        let gap = self.gap;
        for (id, at) in ids.iter_mut().zip(&times[range.clone()]) {
            if !self.sessions[*id as usize].extend(*at, gap) {
                *id = self.place(*id, *at, out)?;
            }
        }
        if !self.merged.is_empty() {
            // In the order of the merges, so that a session that went on into a third one is followed.
            let merged = std::mem::take(&mut self.merged);
            for id in &mut ids {
                for (from, into) in &merged {
                    if from == id {
                        *id = *into;
                    }
                }
            }
            self.table.mark(&ids);
            self.table.state.update(Groups::Each(&ids), &rows.prepared, range)?;
            merged.iter().for_each(|(from, _)| self.give_back(*from));
        } else {
            self.table.mark(&ids);
            self.table.state.update(Groups::Each(&ids), &rows.prepared, range)?;
        }
        self.ids = ids;
        Ok(())
    }

    /// As [`SessionAggregate::add`], where rows are only counted: key, session and count in one pass.
    fn add_counts(&mut self, rows: &Rows, times: &[Millis], range: Range<usize>, out: &mut dyn Output) -> Result<()> {
        let mut from = range.start;
        let times = &times[..range.end];
        while let Some((keys, counts, marks)) = self.table.counting(range.end - from) {
            let known = (keys, &mut self.sessions[..], &mut counts[..]);
            let rest = from..range.end;
            let refused = match marks {
                None => count_simple(known, self.gap, &rows.keys, times, rest, |_| {}),
                Some(marks) => count_simple(known, self.gap, &rows.keys, times, rest, |id| mark(marks, id)),
            };
            let Some((row, key)) = refused else { break };
            self.grow();
            let id = self.place(key, times[row], out)?;
            while let Some((gone, _)) = self.merged.pop() {
                self.give_back(gone);
            }
            if let Some(counts) = self.table.state.counts_only() {
                counts[id as usize] += 1;
            }
            self.table.mark(&[id]);
            from = row + 1;
        }
        Ok(())
    }

    /// The session for a row whose key has none, several, or one out of reach.
    #[cold]
    fn place(&mut self, key: u32, at: Millis, out: &mut dyn Output) -> Result<u32> {
        if !self.sessions[key as usize].open {
            self.open(key, key, at);
            return Ok(key);
        }
        let extra: Vec<u32> = self.more.get(&key).cloned().unwrap_or_default();
        let reached: Vec<u32> = std::iter::once(key)
            .chain(extra)
            .filter(|id| {
                let s = &self.sessions[*id as usize];
                at >= s.first.saturating_sub(self.gap) && at <= self.end(s.last)
            })
            .collect();
        let Some((into, others)) = reached.split_first() else {
            let id = self.table.keys.extra();
            self.grow();
            self.open(id, key, at);
            self.more.entry(key).or_default().push(id);
            self.sessions[key as usize].many = true;
            return Ok(id);
        };
        let at_once = self.telling.is_none();
        for id in &reached {
            if at_once && self.sessions[*id as usize].fired {
                self.take_back(*id, out)?;
            }
        }
        for other in others {
            self.book.strike(*other, key);
            let gone = std::mem::take(&mut self.sessions[*other as usize]);
            let session = &mut self.sessions[*into as usize];
            session.first = session.first.min(gone.first);
            session.last = session.last.max(gone.last);
            self.table.state.merge_within(*into, *other)?;
            if let Some(telling) = &mut self.telling {
                telling.merge(key, *other, *into);
            }
            self.unlink(key, *other);
            self.merged.push((*other, *into));
        }
        let session = &mut self.sessions[*into as usize];
        session.first = session.first.min(at);
        session.last = session.last.max(at);
        Ok(*into)
    }

    /// Withdraws the result of a session that has fired and is about to change.
    fn take_back(&mut self, id: u32, out: &mut dyn Output) -> Result<()> {
        let session = self.sessions[id as usize];
        let window = (session.first, self.end(session.last));
        let mut one = Retract { out };
        let each = Each { windows: &[window], keys: &[session.key], groups: &[id] };
        self.emitter.emit_each(&self.grouping, &self.table, each, true, &mut one)?;
        self.sessions[id as usize].fired = false;
        self.wait(id, window.1.saturating_sub(1));
        Ok(())
    }

    fn open(&mut self, id: u32, key: u32, at: Millis) {
        let many = self.sessions[id as usize].many;
        self.sessions[id as usize] = Session { first: at, last: at, timer: 0, key, open: true, many, fired: false };
        self.wait(id, self.end(at).saturating_sub(1));
    }

    fn wait(&mut self, id: u32, due: Millis) {
        let bucket = due.div_euclid(self.bucket);
        self.sessions[id as usize].timer = self.timers.push(bucket, id);
    }

    fn unlink(&mut self, key: u32, id: u32) {
        if let Some(extra) = self.more.get_mut(&key) {
            extra.retain(|other| *other != id);
            if extra.is_empty() {
                self.more.remove(&key);
                self.sessions[key as usize].many = false;
            }
        }
    }

    /// Gives an id back that is not its key's own.
    fn give_back(&mut self, id: u32) {
        self.sessions[id as usize] = Session::default();
        self.table.state.reset(id);
        self.table.keys.release_extra(id);
    }

    /// Fires and drops what is due, in the order of the ends.
    fn fire_through(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        self.local_watermark = self.local_watermark.max(to);
        let last_bucket = to.0.div_euclid(self.bucket);
        let (mut fire, mut drop) = (Vec::new(), Vec::new());
        let mut again = Vec::new();
        let (sessions, gap, lateness) = (&mut self.sessions, self.gap, self.lateness);
        self.timers.take_through(last_bucket, |bucket, id| {
            let session = &mut sessions[id as usize];
            if !session.open || session.timer != bucket {
                return;
            }
            let end = session.last.saturating_add(gap);
            if !session.fired && to.closes(end) {
                session.fired = true;
                fire.push((end, session.first, session.key, id));
            }
            let due = end.saturating_sub(1).saturating_add(if session.fired { lateness } else { 0 });
            if session.fired && to.forgets(end, lateness) {
                // Its entries elsewhere are stale from now on.
                session.open = false;
                drop.push(id);
            } else {
                session.timer = i64::MIN;
                again.push((id, due));
            }
        });
        for (id, due) in again {
            self.wait(id, due);
        }
        if self.telling.is_some() {
            self.tell_closed(&mut fire, &drop, out)?;
        } else if !fire.is_empty() {
            fire.sort_unstable();
            let windows: Vec<_> = fire.iter().map(|f| (f.1, f.0)).collect();
            let keys: Vec<u32> = fire.iter().map(|f| f.2).collect();
            let ids: Vec<u32> = fire.iter().map(|f| f.3).collect();
            let each = Each { windows: &windows, keys: &keys, groups: &ids };
            self.emitter.emit_each(&self.grouping, &self.table, each, false, out)?;
        }
        if self.lateness > 0 {
            fire.iter().for_each(|f| self.table.mark(&[f.3]));
        }
        for id in &drop {
            self.book.strike(*id, self.sessions[*id as usize].key);
        }
        if !drop.is_empty() {
            self.book.write_out(&self.grouping, &self.table)?;
        }
        // Further sessions first: what is left of them can then take the place of a key's own.
        let (own, extra): (Vec<u32>, Vec<u32>) =
            drop.into_iter().partition(|id| self.sessions[*id as usize].key == *id);
        for id in extra {
            let key = self.sessions[id as usize].key;
            self.unlink(key, id);
            self.give_back(id);
        }
        for id in own {
            self.table.state.reset(id);
            let extra = if self.sessions[id as usize].many { self.more.get(&id) } else { None };
            match extra.and_then(|extra| extra.first().copied()) {
                Some(next) => {
                    self.table.state.merge_within(id, next)?;
                    if let Some(telling) = &mut self.telling {
                        telling.merge(id, next, id);
                    }
                    self.book.rename(next, id);
                    self.table.mark(&[id]);
                    let moved = self.sessions[next as usize];
                    self.sessions[id as usize] = Session { many: true, ..moved };
                    let due = self.end(moved.last).saturating_sub(1);
                    self.wait(id, if moved.fired { due.saturating_add(self.lateness) } else { due });
                    self.unlink(id, next);
                    self.give_back(next);
                }
                None => {
                    self.sessions[id as usize] = Session::default();
                    self.table.keys.release(id);
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        assert!(self.watermark <= to, "watermark went back from {} to {to}", self.watermark);
        let local = self.timing.local(to).max(self.local_watermark);
        self.fire_through(local, out)?;
        self.watermark = to;
        Ok(())
    }
}

/// Counts rows as far as each has its key's only session in reach. Where one has not: the row and its key.
#[inline(always)]
fn count_simple(
    (keys, sessions, counts): (&mut KeyTable, &mut [Session], &mut [u64]),
    gap: Millis,
    rows: &KeyBatch,
    times: &[Millis],
    range: Range<usize>,
    mut mark: impl FnMut(u32),
) -> Option<(usize, u32)> {
    // Of one length, so that one check does for both.
    let ids = counts.len().min(sessions.len());
    let (sessions, counts) = (&mut sessions[..ids], &mut counts[..ids]);
    keys.visit(rows, range, |row, id| {
        let at = id as usize;
        if at >= ids || !sessions[at].extend(times[row], gap) {
            return false;
        }
        mark(id);
        counts[at] += 1;
        true
    })
}

/// Turns what is emitted into deletes.
struct Retract<'a> {
    out: &'a mut dyn Output,
}

impl Output for Retract<'_> {
    fn emit(&mut self, port: usize, batch: Batch) -> Result<()> {
        let kinds = Some(Int8Array::from_value(ChangeKind::Delete as i8, batch.len()));
        self.out.emit(port, Batch { kinds, ..batch })
    }

    fn advance(&mut self, domain: TimeDomain, to: Watermark) -> Result<()> {
        self.out.advance(domain, to)
    }

    fn set_aside(&mut self, late: crate::operator::LateRows) -> Result<()> {
        self.out.set_aside(late)
    }
}

impl Operator for SessionAggregate {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(batch, out),
            Event::Watermark(domain, to) => {
                if domain == self.timing.domain {
                    self.advance(to, out)?;
                }
                if domain == TimeDomain::Processing {
                    self.tick(to, out)?;
                }
                out.advance(domain, to)
            }
            Event::End => Ok(()),
        }
    }

    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        let bucket = self.timers.first().filter(|_| domain == self.timing.domain)?;
        Some(Watermark(self.timing.zone.no_later_than(bucket.saturating_mul(self.bucket))))
    }

    fn tables(&self) -> Vec<TableDef> {
        self.book.tables.all()
    }

    fn track_changes(&mut self) {
        self.table.track();
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.save_tables(saver)
    }

    fn load(&mut self, table: &str, _version: u32, rows: &RecordBatch) -> Result<()> {
        self.load_table(table, rows)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.go_on(watermarks);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes()
            + self.book.bytes()
            + self.telling.as_ref().map_or(0, Telling::bytes)
            + self.sessions.capacity() * size_of::<Session>()
            + self.more.len() * 48
            + self.timers.bytes()
    }
}
