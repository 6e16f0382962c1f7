//! `GROUP BY window_start, window_end, keys EMIT ..`: results before the window closes, when it does, and for late rows.
//!
//! ```text
//!  rows ──by window──▶ groups of open windows ──a trigger, the close, or a late row──▶ pane ──compare──▶ +I -U +U
//!                       state │ rows since the last pane │ what was told                  with what was told
//! ```
//!
//! Each key of a window has a life of its own:
//!
//! ```text
//!  first row ──▶ early ──the watermark closes the window──▶ late ──it forgets the window──▶ gone
//!                 │ panes by the early trigger      │ the on-time pane   │ panes by the late trigger   │ what is left
//! ```
//!
//! A pane is due only where rows have come since the last one, and what it tells is the new result ([`Panes`]): where that is
//! what was told before, nothing comes out. So the last word on a key is the result over all its rows but those that came when
//! the window was forgotten, whatever the triggers are; these are late for it and, where they are late for all their windows,
//! set aside.
//!
//! Always true:
//! - Panes by rows come with the very row that completes them, however rows are cut into batches and shared out between tasks:
//!   a batch that completes several panes of a key is added in rounds, one for each.
//! - A row is judged by its own mark. Where it says that the window has closed before this operator has heard of it, the
//!   key's on-time pane comes first.
//! - Panes by the clock are due when it passes a multiple of the interval, and hold for all keys at once.
//! - A window is remembered until the watermark forgets it, and then dropped as a whole.
//!
//! Windows that rows make themselves are told by [`session`](super::session). Not here: sharing between windows that overlap (each
//! has its own groups), and scratch space for what does not fit into memory.

mod rounds;
pub(super) mod saved;
#[cfg(test)]
mod tests;
pub(super) mod told;

use super::emit::{Changed, Emitter};
use super::grid::Grid;
use super::saved::Tables;
use super::session::SessionAggregate;
use super::table::{Grouping, Table};
use super::{Times, Timing, by_slice};
use crate::aggregate::{Groups, Plan};
use crate::graph::{self, Panes, Trigger, Window};
use crate::operator::{Event, Operator, Output, Watermarks};
use arrow::array::{Int8Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, ChangeKind, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::table::{Saver, TableDef};
use rounds::Rounds;
use std::collections::BTreeMap;
use told::{Results, Told};

/// A window by its end and start: the next one to close comes first.
type WindowId = (Millis, Millis);

/// Makes the operator of a node. `input`: columns of its rows.
pub fn build(node: &graph::WindowPanes, input: &SchemaRef) -> Result<Box<dyn Operator>> {
    Ok(match node.windows.window {
        Window::Session { gap, .. } => Box::new(SessionAggregate::new(&node.windows, gap, input)?.told_by(node)?),
        _ => Box::new(WindowPanes::new(node, input)?),
    })
}

/// The operator of [`graph::WindowPanes`], but for sessions.
pub struct WindowPanes {
    timing: Timing,
    grouping: Grouping,
    emitter: Emitter,
    rules: Rules,
    results: Results,
    lateness: Millis,
    windows: BTreeMap<WindowId, Open>,
    tables: Tables,
    /// Whether changes are kept track of, for the next save.
    tracked: bool,
    /// Windows that have been saved and are gone since.
    dropped: Vec<WindowId>,
    gone: saved::Gone,
    /// Of the windows' own clock: the last one as it came, and in local time.
    watermark: Watermark,
    local: Watermark,
    /// Of the clock that triggers go by.
    clock: Watermark,
    held: usize,
    ids: Vec<u32>,
}

/// When panes are due and what they say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub early: Option<Trigger>,
    pub late: Trigger,
    pub panes: Panes,
    pub update_before: bool,
}

impl Rules {
    /// # Errors
    /// A trigger that is always due.
    pub fn of(node: &graph::WindowPanes) -> Result<Rules> {
        for trigger in node.early.iter().chain([&node.late]) {
            if matches!(trigger, Trigger::Every(..=0) | Trigger::Rows(0)) {
                return Err(Error::internal(format!("a trigger that is always due: {trigger:?}")));
            }
        }
        Ok(Rules { early: node.early, late: node.late, panes: node.panes, update_before: node.update_before })
    }

    /// Whether the early panes by the clock are due, and the late ones, when it goes on from one reading to the next.
    pub fn due_by_clock(&self, before: Watermark, to: Watermark) -> (bool, bool) {
        // The first reading begins the count. At the end of the input windows close by themselves.
        if before == Watermark::MIN || to == Watermark::MAX {
            return (false, false);
        }
        // The watermark is a millisecond behind the clock.
        let passes = |trigger: Option<Trigger>| match trigger {
            Some(Trigger::Every(ms)) => (to.0 + 1).div_euclid(ms) > before.0.saturating_add(1).div_euclid(ms),
            _ => false,
        };
        (passes(self.early), passes(Some(self.late)))
    }

    /// Whether a pane is due with the row that makes so many since the last one.
    pub fn due_by_row(&self, late: bool, pending: u64) -> bool {
        match self.trigger(late) {
            None | Some(Trigger::Every(_)) => false,
            Some(Trigger::Rows(rows)) => pending >= rows,
            Some(Trigger::Change) => true,
        }
    }

    pub fn trigger(&self, late: bool) -> Option<Trigger> {
        if late { Some(self.late) } else { self.early }
    }
}

/// A window that is open, or closed and not forgotten.
struct Open {
    table: Table,
    groups: Vec<Group>,
    /// Groups that may have rows since their last pane, in the order in which these came.
    waiting: Vec<u32>,
    closed: bool,
    /// Some group has been closed by the mark of a row, before the window was.
    some_closed: bool,
    /// Bytes of what was told.
    told_bytes: usize,
    /// As last measured.
    bytes: usize,
    /// A checkpoint has rows of it.
    saved: bool,
    changed: bool,
}

/// A key of a window, beside its state.
#[derive(Default)]
struct Group {
    /// Rows since the last pane.
    pending: u64,
    /// It stands in `waiting`.
    listed: bool,
    /// Its on-time pane has been told.
    closed: bool,
    /// In which round of the batch at hand its next row is added.
    round: u32,
    /// The result that was told last. Not where panes discard.
    told: Option<Told>,
}

impl Open {
    fn new(mut table: Table, closed: bool, tracked: bool) -> Open {
        if tracked {
            table.track();
        }
        Open {
            table,
            groups: Vec::new(),
            waiting: Vec::new(),
            closed,
            some_closed: false,
            told_bytes: 0,
            bytes: 0,
            saved: false,
            changed: false,
        }
    }

    /// Makes room for groups that have got an id.
    fn make_room(&mut self) {
        self.table.state.resize(self.table.len());
        self.groups.resize_with(self.table.len(), Group::default);
    }

    /// The groups with rows since their last pane, as far as `due` says so. They have none from now on.
    fn take_due(&mut self, due: impl Fn(&Group) -> bool) -> Vec<u32> {
        let (groups, mut taken) = (&mut self.groups, Vec::new());
        self.waiting.retain(|id| {
            let group = &mut groups[*id as usize];
            let fires = group.pending > 0 && due(group);
            if fires {
                group.pending = 0;
                taken.push(*id);
            }
            group.listed = group.pending > 0;
            group.listed
        });
        taken
    }

    fn measure(&self) -> usize {
        self.table.bytes()
            + self.groups.capacity() * size_of::<Group>()
            + self.waiting.capacity() * 4
            + self.told_bytes
            + size_of::<Open>()
    }
}

impl WindowPanes {
    /// `input`: columns of the rows.
    pub fn new(node: &graph::WindowPanes, input: &SchemaRef) -> Result<WindowPanes> {
        let graph::WindowPanes { windows: of, panes, .. } = node;
        let grid = Grid::new(&of.window)?.ok_or_else(|| Error::internal("sessions have no grid"))?;
        let plan = Plan::new(&of.calls, input, Some(of.time.column), of.order)?;
        let grouping = Grouping::new(&of.keys, plan, input)?;
        let timing = Timing::new(of, grid)?;
        Ok(WindowPanes {
            emitter: Emitter::new(of, input, &timing.zone),
            results: Results::new(&grouping.plan, *panes)?,
            tables: saved::tables(&grouping, input, &grid, *panes),
            rules: Rules::of(node)?,
            lateness: of.lateness.max(0),
            windows: BTreeMap::new(),
            tracked: false,
            dropped: Vec::new(),
            gone: saved::Gone::default(),
            watermark: Watermark::MIN,
            local: Watermark::MIN,
            clock: Watermark::MIN,
            held: 0,
            ids: Vec::new(),
            timing,
            grouping,
        })
    }

    // ---- Rows

    fn take_in(&mut self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let times = self.timing.read(batch)?;
        for (id, rows) in self.divide(batch, &times, out)? {
            self.add(id, batch, rows, &times, out)?;
        }
        Ok(())
    }

    /// The watermark that a row is judged by, in local time.
    fn mark(&self, times: &Times, row: u32) -> Watermark {
        times.marks.as_ref().map_or(self.local, |marks| Watermark(marks[row as usize].max(self.local.0)))
    }

    /// The rows of each window that takes them, in their order. Sets aside what no window takes.
    fn divide(&self, batch: &Batch, times: &Times, out: &mut dyn Output) -> Result<BTreeMap<WindowId, Vec<u32>>> {
        let grid = self.timing.grid;
        let mut windows: BTreeMap<WindowId, Vec<u32>> = BTreeMap::new();
        for (slice, rows) in by_slice(grid, times, batch.len()) {
            let Some(last) = grid.last_end(slice) else {
                continue; // Between the windows of a hop with gaps: in no window, and so not late for one.
            };
            let highest = rows.iter().map(|row| self.mark(times, *row)).max().unwrap_or(self.local);
            let mut after = Millis::MIN;
            while let Some(end) = grid.next_end(slice, after) {
                after = end;
                let taken = windows.entry((end, grid.window_start(slice, end))).or_default();
                if highest.forgets(end, self.lateness) {
                    let takes = |row: &&u32| !self.mark(times, **row).forgets(end, self.lateness);
                    taken.extend(rows.iter().filter(takes));
                } else {
                    taken.extend(&rows);
                }
            }
            if highest.forgets(last, self.lateness) {
                let takes_none = |row: &u32| self.mark(times, *row).forgets(last, self.lateness);
                let late: Vec<u32> = rows.into_iter().filter(takes_none).collect();
                self.timing.set_aside(batch, &late, self.watermark, (grid.window_start(slice, last), last), out)?;
            }
        }
        windows.retain(|_, rows| !rows.is_empty());
        for rows in windows.values_mut().filter(|rows| !rows.is_sorted()) {
            rows.sort_unstable(); // They have come from several slices.
        }
        Ok(windows)
    }

    /// Adds rows to a window, and tells the panes that they complete.
    fn add(&mut self, id: WindowId, batch: &Batch, rows: Vec<u32>, times: &Times, out: &mut dyn Output) -> Result<()> {
        let marks: Vec<Watermark> = match &times.marks {
            Some(_) => rows.iter().map(|row| self.mark(times, *row)).collect(),
            None => Vec::new(),
        };
        let taken = match rows.len() == batch.len() {
            true => batch.rows.clone(),
            false => take_record_batch(&batch.rows, &UInt32Array::from(rows))?,
        };
        let (closed, tracked) = (self.local.closes(id.0), self.tracked);
        let mut window = self.windows.remove(&id).unwrap_or_else(|| Open::new(self.grouping.table(), closed, tracked));
        let keys = self.grouping.keys.iter().map(|k| taken.column(*k).clone()).collect::<Vec<_>>();
        let keys = self.grouping.codec.encode(&keys, taken.num_rows())?;
        let mut ids = std::mem::take(&mut self.ids);
        window.table.keys.assign(&keys, 0..taken.num_rows(), &mut ids);
        window.make_room();
        window.table.mark(&ids);
        window.changed = true;
        let rounds = Rounds::of(&self.rules, &mut window, &ids, |row| {
            marks.get(row).copied().unwrap_or(self.local).closes(id.0)
        });
        let added = self.add_rounds(id, &mut window, &taken, &mut ids, &rounds, out);
        self.ids = ids;
        self.put_back(id, window);
        added
    }

    fn add_rounds(
        &mut self,
        id: WindowId,
        window: &mut Open,
        rows: &RecordBatch,
        ids: &mut Vec<u32>,
        rounds: &Rounds,
        out: &mut dyn Output,
    ) -> Result<()> {
        let ordered = match rounds.order() {
            None => rows.clone(),
            Some(order) => {
                *ids = order.iter().map(|row| ids[*row as usize]).collect();
                take_record_batch(rows, &UInt32Array::from(order))?
            }
        };
        let prepared = self.grouping.plan.prepare(&ordered)?;
        let mut panes = PaneRows::default();
        let mut from = 0;
        for (rows, due) in rounds.each() {
            let range = from..from + rows;
            if rows > 0 {
                window.table.state.update(Groups::Each(&ids[range.clone()]), &prepared, range.clone())?;
            }
            self.tell(id, window, due, true, &mut panes, out)?;
            from = range.end;
        }
        self.send_out(id, window, &mut panes, out)
    }

    fn put_back(&mut self, id: WindowId, mut window: Open) {
        let bytes = window.measure();
        self.held = self.held - window.bytes + bytes;
        window.bytes = bytes;
        self.windows.insert(id, window);
    }

    // ---- Time

    /// Tells the on-time panes of the windows that the watermark closes, in the order of their ends, then what is left of those
    /// that it forgets.
    fn advance(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        assert!(self.watermark <= to, "watermark went back from {} to {to}", self.watermark);
        // Monotone also in local time, where a clock is set back.
        let local = self.timing.local(to).max(self.local);
        let closes: Vec<WindowId> = self
            .windows
            .range((self.local.0.saturating_add(1), Millis::MIN)..)
            .take_while(|(id, _)| local.closes(id.0))
            .filter(|(_, window)| !window.closed)
            .map(|(id, _)| *id)
            .collect();
        for id in closes {
            let Some(mut window) = self.windows.remove(&id) else { continue };
            let due = window.take_due(|group| !group.closed);
            window.closed = true;
            let kept = !local.forgets(id.0, self.lateness);
            self.tell_at_once(id, &mut window, &due, kept, out)?;
            self.put_back(id, window);
        }
        while let Some((&id, _)) = self.windows.first_key_value() {
            if !local.forgets(id.0, self.lateness) {
                break;
            }
            let Some(mut window) = self.windows.remove(&id) else { break };
            let left = window.take_due(|_| true);
            self.tell_at_once(id, &mut window, &left, false, out)?;
            self.held -= window.bytes;
            self.note_dropped(id, &window)?;
        }
        (self.watermark, self.local) = (to, local);
        Ok(())
    }

    /// Tells the panes that are due by the clock.
    fn tick(&mut self, to: Watermark, out: &mut dyn Output) -> Result<()> {
        let before = std::mem::replace(&mut self.clock, to);
        let (early, late) = self.rules.due_by_clock(before, to);
        if !early && !late {
            return Ok(());
        }
        let ids: Vec<WindowId> =
            self.windows.iter().filter(|(_, w)| !w.waiting.is_empty()).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(mut window) = self.windows.remove(&id) else { continue };
            let closed = window.closed;
            let due = window.take_due(|group| if closed || group.closed { late } else { early });
            self.tell_at_once(id, &mut window, &due, true, out)?;
            self.put_back(id, window);
        }
        Ok(())
    }

    // ---- Panes

    fn tell_at_once(
        &mut self,
        id: WindowId,
        window: &mut Open,
        due: &[u32],
        kept: bool,
        out: &mut dyn Output,
    ) -> Result<()> {
        if due.is_empty() {
            return Ok(());
        }
        window.changed = true;
        window.table.mark(due);
        let mut panes = PaneRows::default();
        self.tell(id, window, due, kept, &mut panes, out)?;
        self.send_out(id, window, &mut panes, out)
    }

    /// Tells a pane of each of these groups. `kept`: the window may be told of again.
    fn tell(
        &mut self,
        id: WindowId,
        window: &mut Open,
        due: &[u32],
        kept: bool,
        panes: &mut PaneRows,
        out: &mut dyn Output,
    ) -> Result<()> {
        for due in due.chunks(ROWS_AT_ONCE) {
            let results = window.table.state.finish_ids(due)?;
            let compared = self.rules.panes != Panes::Discarding
                && (kept || due.iter().any(|id| window.groups[*id as usize].told.is_some()));
            if !compared && due.len() >= COLUMNS_FROM {
                self.send_out(id, window, panes, out)?;
                let told = Changed { keys: due, results, kinds: None };
                self.emitter.emit_changes(&self.grouping, &window.table, (id.1, id.0), told, out)?;
            } else {
                let encoded = self.results.encode(results, due.len())?;
                for (at, group) in due.iter().enumerate() {
                    panes.make_room(|panes| self.send_out(id, window, panes, out))?;
                    let new = encoded.row(at);
                    let told = &mut window.groups[*group as usize].told;
                    match told {
                        _ if !compared => panes.push(ChangeKind::Insert, *group, new),
                        None => panes.push(ChangeKind::Insert, *group, new),
                        Some(told) if **told == *new => continue,
                        Some(_) if self.rules.panes == Panes::Accumulating => {
                            panes.push(ChangeKind::Insert, *group, new);
                        }
                        Some(told) => {
                            if self.rules.update_before {
                                panes.push(ChangeKind::UpdateBefore, *group, told);
                            }
                            panes.push(ChangeKind::UpdateAfter, *group, new);
                        }
                    }
                    if compared && kept {
                        window.told_bytes -= told.as_ref().map_or(0, |told| told.len());
                        window.told_bytes += new.len();
                        *told = Some(new.into());
                    }
                }
            }
            if self.rules.panes == Panes::Discarding && kept {
                self.note_begun_anew(id, window, due)?;
                due.iter().for_each(|group| window.table.state.reset(*group));
            }
        }
        Ok(())
    }

    fn send_out(&self, id: WindowId, window: &Open, panes: &mut PaneRows, out: &mut dyn Output) -> Result<()> {
        if panes.kinds.is_empty() {
            return Ok(());
        }
        let mut start = 0;
        let rows = panes.ends.iter().map(|end| &panes.bytes[std::mem::replace(&mut start, *end)..*end]);
        let results = self.results.decode(rows)?;
        let kinds = std::mem::take(&mut panes.kinds);
        let inserts = kinds.iter().all(|kind| *kind == ChangeKind::Insert as i8);
        let kinds = (!inserts).then(|| Int8Array::from(kinds));
        let groups = std::mem::take(&mut panes.groups);
        panes.bytes.clear();
        panes.ends.clear();
        let told = Changed { keys: &groups, results, kinds };
        self.emitter.emit_changes(&self.grouping, &window.table, (id.1, id.0), told, out)
    }
}

/// Groups whose results are made at once.
const ROWS_AT_ONCE: usize = crate::operator::ROWS_MAX;

/// Results from which on they go out in their columns, where nothing has to be compared. Fewer are gathered with others.
const COLUMNS_FROM: usize = 64;

/// Rows of panes of one window on their way out.
#[derive(Default)]
struct PaneRows {
    kinds: Vec<i8>,
    groups: Vec<u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl PaneRows {
    /// Sends out what is held where the two rows of an update would not find room.
    fn make_room(&mut self, flush: impl FnOnce(&mut PaneRows) -> Result<()>) -> Result<()> {
        if self.kinds.len() + 2 > crate::operator::ROWS_MAX { flush(self) } else { Ok(()) }
    }

    fn push(&mut self, kind: ChangeKind, group: u32, result: &[u8]) {
        self.kinds.push(kind as i8);
        self.groups.push(group);
        self.bytes.extend_from_slice(result);
        self.ends.push(self.bytes.len());
    }
}

impl Operator for WindowPanes {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(&batch, out),
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

    fn state_bytes(&self) -> usize {
        self.held + self.gone.bytes()
    }

    fn tables(&self) -> Vec<TableDef> {
        self.tables.all()
    }

    fn track_changes(&mut self) {
        self.tracked = true;
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.save_tables(saver)
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        self.load_table(table, rows)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.watermark = watermarks.of(self.timing.domain);
        self.local = self.timing.local(self.watermark);
        self.clock = watermarks.of(TimeDomain::Processing);
        for (id, window) in &mut self.windows {
            window.closed = self.local.closes(id.0);
        }
        Ok(())
    }
}
