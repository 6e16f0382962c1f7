//! `EMIT` over sessions: results while a session grows, when it closes, and for late rows.
//!
//! ```text
//!  gap 5, on change    10          12               20          16
//!                  +I [10, 15) 1   -D [10, 15) 1    +I [20, 25) -D [20, 25) 1       16 bridges the two
//!                                  +I [10, 17) 2                -D [10, 17) 2
//!                                                               +I [10, 25) 4
//! ```
//!
//! A session's pane is due as a window's is (see [`super::super::panes`]): by the early trigger until the watermark closes it, then by
//! the late one, and only where rows have come since the last pane. What differs:
//! - Its window moves with its rows. A pane that replaces one with another window takes that back as a whole (`-D`).
//! - Sessions that merge are one from then on: the rows since their last panes add up, and what was told of all but one is taken back
//!   with the row that joins them. Panes that discard or accumulate stay as they were told.
//! - A late row may carry a closed session past the watermark. It is open again then, and goes by the early trigger.
//!
//! Where a trigger asks row by row, rows are added one by one, so that a pane comes with the very row that completes it.

use super::SessionAggregate;
use crate::aggregate::Groups;
use crate::graph::{self, Panes};
use crate::operator::{Output, ROWS_MAX};
use crate::window::emit::Changed;
use crate::window::panes::Rules;
use crate::window::panes::told::{Results, Told};
use crate::window::table::Rows;
use arrow::array::Int8Array;
use millstream_core::{ChangeKind, Millis, Result, Watermark};
use std::ops::Range;

/// When sessions are told, and what each has been told.
pub(super) struct Telling {
    pub rules: Rules,
    pub results: Results,
    /// By id.
    pub panes: Vec<Pane>,
    /// Ids that may have rows since their last pane, in the order in which these came.
    waiting: Vec<u32>,
    /// Of the clock that triggers go by.
    pub clock: Watermark,
    told_bytes: usize,
    rows: PaneRows,
}

/// What is told of a session, beside its state.
#[derive(Default)]
pub(super) struct Pane {
    /// Rows since the last one.
    pub pending: u64,
    /// It stands in `waiting`.
    listed: bool,
    /// The window and the result that were told last. Not where panes discard.
    pub told: Option<(Window, Told)>,
}

/// Start and end.
pub(super) type Window = (Millis, Millis);

impl Telling {
    pub fn resize(&mut self, ids: usize) {
        if self.panes.len() < ids {
            self.panes.resize_with(ids, Pane::default);
        }
    }

    /// Rows have come since the last pane.
    pub fn add_pending(&mut self, id: u32, rows: u64) {
        let pane = &mut self.panes[id as usize];
        pane.pending += rows;
        if pane.pending > 0 && !pane.listed {
            pane.listed = true;
            self.waiting.push(id);
        }
    }

    pub fn set_told(&mut self, id: u32, told: Option<(Window, Told)>) {
        let bytes = |told: &Option<(Window, Told)>| told.as_ref().map_or(0, |(_, told)| told.len());
        let pane = &mut self.panes[id as usize];
        self.told_bytes = self.told_bytes - bytes(&pane.told) + bytes(&told);
        pane.told = told;
    }

    /// A session of this key is part of another one.
    pub fn merge(&mut self, key: u32, from: u32, into: u32) {
        let gone = &mut self.panes[from as usize];
        let (pending, told) = (std::mem::take(&mut gone.pending), gone.told.take());
        self.told_bytes -= told.as_ref().map_or(0, |(_, told)| told.len());
        self.add_pending(into, pending);
        let Some((window, told)) = told else { return };
        if self.panes[into as usize].told.is_none() {
            self.set_told(into, Some((window, told)));
        } else if self.rules.panes == Panes::Retracting {
            self.rows.push(ChangeKind::Delete, key, window, &told);
        }
    }

    /// The session of this id is no more.
    fn forget(&mut self, id: u32) {
        self.set_told(id, None);
        self.panes[id as usize].pending = 0;
    }

    /// The ids with rows since their last pane for which `due` holds.
    fn take_due(&mut self, due: impl Fn(u32) -> bool) -> Vec<u32> {
        let (panes, mut taken) = (&mut self.panes, Vec::new());
        self.waiting.retain(|id| {
            let pane = &mut panes[*id as usize];
            if pane.pending > 0 && due(*id) {
                taken.push(*id);
                pane.listed = false;
            } else {
                pane.listed = pane.pending > 0;
            }
            pane.listed
        });
        taken
    }

    pub fn bytes(&self) -> usize {
        self.panes.capacity() * size_of::<Pane>() + self.waiting.capacity() * 4 + self.told_bytes
    }
}

/// Rows of panes on their way out.
#[derive(Default)]
struct PaneRows {
    kinds: Vec<i8>,
    keys: Vec<u32>,
    windows: Vec<Window>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl PaneRows {
    fn push(&mut self, kind: ChangeKind, key: u32, window: Window, result: &[u8]) {
        self.kinds.push(kind as i8);
        self.keys.push(key);
        self.windows.push(window);
        self.bytes.extend_from_slice(result);
        self.ends.push(self.bytes.len());
    }
}

impl SessionAggregate {
    /// The same, told in panes.
    pub fn told_by(mut self, node: &graph::WindowPanes) -> Result<SessionAggregate> {
        let results = Results::new(&self.grouping.plan, node.panes)?;
        self.book = super::Book::told(&self.grouping, &self.input, &results, node.panes);
        self.telling = Some(Telling {
            rules: Rules::of(node)?,
            results,
            panes: Vec::new(),
            waiting: Vec::new(),
            clock: Watermark::MIN,
            told_bytes: 0,
            rows: PaneRows::default(),
        });
        Ok(self)
    }

    /// As [`SessionAggregate::add`], telling what is due with these rows.
    pub(super) fn add_told(
        &mut self,
        rows: &Rows,
        times: &[Millis],
        range: Range<usize>,
        out: &mut dyn Output,
    ) -> Result<()> {
        let Some(telling) = &self.telling else { return Ok(()) };
        let no_pane = !telling.rules.due_by_row(false, u64::MAX)
            && !times[range.clone()].iter().any(|at| self.reaches_closed(*at, self.local_watermark));
        if no_pane {
            self.add_all(rows, times, range, out)?;
            if let Some(telling) = &mut self.telling {
                self.ids.iter().for_each(|id| telling.add_pending(*id, 1));
            }
            return self.send_out(out);
        }
        for row in range {
            let id = self.add_one(rows, times[row], row, out)?;
            let late = self.sessions[id as usize].fired;
            let Some(telling) = &mut self.telling else { break };
            telling.add_pending(id, 1);
            if telling.rules.due_by_row(late, telling.panes[id as usize].pending) {
                self.tell(&[id], out)?;
            }
        }
        self.send_out(out)
    }

    /// Adds a row; returns its session, which is closed if the watermark has closed what it is now.
    fn add_one(&mut self, rows: &Rows, at: Millis, row: usize, out: &mut dyn Output) -> Result<u32> {
        let mut ids = std::mem::take(&mut self.ids);
        self.table.keys.assign(&rows.keys, row..row + 1, &mut ids);
        let key = ids[0];
        self.ids = ids;
        self.grow();
        let id = match self.sessions[key as usize].extend(at, self.gap) {
            true => key,
            false => self.place(key, at, out)?,
        };
        while let Some((gone, _)) = self.merged.pop() {
            self.give_back(gone);
        }
        let end = self.end(self.sessions[id as usize].last);
        let closed = self.local_watermark.closes(end);
        if self.sessions[id as usize].fired != closed {
            self.sessions[id as usize].fired = closed;
            self.wait(id, end.saturating_sub(1).saturating_add(if closed { self.lateness } else { 0 }));
        }
        self.table.mark(&[id]);
        self.table.state.update(Groups::Each(&[id]), &rows.prepared, row..row + 1)?;
        Ok(id)
    }

    /// Tells a pane of each of these sessions, in this order.
    fn tell(&mut self, ids: &[u32], out: &mut dyn Output) -> Result<()> {
        for ids in ids.chunks(ROWS_MAX / 2) {
            let results = self.table.state.finish_ids(ids)?;
            let room = self.telling.as_ref().is_some_and(|t| t.rows.kinds.len() + 2 * ids.len() <= ROWS_MAX);
            if !room {
                self.send_out(out)?;
            }
            let Some(telling) = &mut self.telling else { return Ok(()) };
            let encoded = telling.results.encode(results, ids.len())?;
            let Rules { panes, update_before, .. } = telling.rules;
            for (at, id) in ids.iter().enumerate() {
                let session = self.sessions[*id as usize];
                let (key, window) = (session.key, (session.first, session.last.saturating_add(self.gap)));
                let new = encoded.row(at);
                telling.panes[*id as usize].pending = 0;
                let rows = &mut telling.rows;
                match &telling.panes[*id as usize].told {
                    Some((before, told)) if *before == window && **told == *new => continue,
                    Some((before, told)) if panes == Panes::Retracting && *before == window => {
                        if update_before {
                            rows.push(ChangeKind::UpdateBefore, key, window, told);
                        }
                        rows.push(ChangeKind::UpdateAfter, key, window, new);
                    }
                    Some((before, told)) if panes == Panes::Retracting => {
                        rows.push(ChangeKind::Delete, key, *before, told);
                        rows.push(ChangeKind::Insert, key, window, new);
                    }
                    _ => rows.push(ChangeKind::Insert, key, window, new),
                }
                if panes != Panes::Discarding {
                    telling.set_told(*id, Some((window, new.into())));
                }
            }
            if panes == Panes::Discarding {
                for id in ids {
                    self.book.begin_anew(*id, self.sessions[*id as usize].key);
                    self.table.state.reset(*id);
                }
            }
            self.table.mark(ids);
        }
        Ok(())
    }

    /// Tells of sessions that have closed (end, first row, key, id), then what is left of those that are dropped.
    pub(super) fn tell_closed(
        &mut self,
        closed: &mut Vec<(Millis, Millis, u32, u32)>,
        dropped: &[u32],
        out: &mut dyn Output,
    ) -> Result<()> {
        for id in dropped {
            let session = self.sessions[*id as usize];
            closed.push((self.end(session.last), session.first, session.key, *id));
        }
        closed.sort_unstable();
        closed.dedup();
        let Some(telling) = &self.telling else { return Ok(()) };
        let due: Vec<u32> = closed.iter().map(|c| c.3).filter(|id| telling.panes[*id as usize].pending > 0).collect();
        self.tell(&due, out)?;
        self.send_out(out)?;
        self.table.mark(&closed.iter().map(|c| c.3).collect::<Vec<_>>());
        if let Some(telling) = &mut self.telling {
            dropped.iter().for_each(|id| telling.forget(*id));
        }
        Ok(())
    }

    /// Tells the panes that are due by the clock.
    pub(super) fn tick(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        let Some(telling) = &mut self.telling else { return Ok(()) };
        let before = std::mem::replace(&mut telling.clock, to);
        let (early, late) = telling.rules.due_by_clock(before, to);
        if !early && !late {
            return Ok(());
        }
        let sessions = &self.sessions;
        let due = telling.take_due(|id| if sessions[id as usize].fired { late } else { early });
        self.tell(&due, out)?;
        self.send_out(out)
    }

    fn send_out(&mut self, out: &mut dyn Output) -> Result<()> {
        let Some(telling) = &mut self.telling else { return Ok(()) };
        let PaneRows { kinds, keys, windows, bytes, ends } = std::mem::take(&mut telling.rows);
        if kinds.is_empty() {
            return Ok(());
        }
        let mut start = 0;
        let rows = ends.iter().map(|end| &bytes[std::mem::replace(&mut start, *end)..*end]);
        let results = telling.results.decode(rows)?;
        let inserts = kinds.iter().all(|kind| *kind == ChangeKind::Insert as i8);
        let kinds = (!inserts).then(|| Int8Array::from(kinds));
        let told = Changed { keys: &keys, results, kinds };
        self.emitter.emit_changes_each(&self.grouping, &self.table, &windows, told, out)
    }
}
