//! State by shelves: how an operator by key goes to disk where memory is short.
//!
//! ```text
//!  memory suffices      one operator, stepped as if there were nothing around it
//!       │ first shed: saved, and divided by a hash of the keys
//!       ▼
//!  rows, watermarks ──▶ pile, by shelf ──▶ round, when it pays: shelf by shelf ─┬─ in memory: step
//!                         └─ runs below                                         └─ below: load, step, save ──▶ scratch space
//! ```
//!
//! Each shelf is an operator of the same kind that knows a part of the keys. It goes below by its own `save`, as rows of the
//! tables that a checkpoint would hold, and comes back by `load`. So an operator needs nothing more for it than what it has
//! for checkpoints.
//!
//! A shelf is loaded for many rows or not at all. Once there are shelves, rows are put on a *pile*, each with the watermark
//! before it, and a *round* plays the pile to one shelf after another: every shelf sees what it would have seen, in that
//! order. Results by time become due everywhere at once, at nearly every watermark, so a shelf cannot be fetched when one of
//! its keys is due: that would read all of them for a handful of rows. Instead the watermark is held back until the round has
//! been, and handed on behind what came out. A result is then later, and no other.
//!
//! A round comes
//! - when the pile has grown to half of what lies below ([`PILE_SHARE`]), so that a row pays for two rows of state at most,
//! - when the runtime has time for it or has waited long enough ([`Operator::catch_up`]),
//! - before a barrier, so that a checkpoint has the operator's own tables and nothing else,
//! - at a watermark by which no shelf below is due and for which nothing waits, and at the last one.
//!
//! Always true:
//! - A key is on one shelf. The order of rows of one key is kept; that of different keys may be another.
//! - The tables of a checkpoint do not show whether there were shelves, and how many.
//! - What a shelf had changed before it went below reaches the next checkpoint: its changes are taken down first.
//!
//! An operator joins by handing [`wrap`] what makes one of it, and the columns of each input by which its rows are exchanged.
//! It has to keep to this:
//! - `save` and `load` take all that it remembers, but for watermarks. Names of rows that a [moving](Saver::moving) saver has
//!   asked for stay, and those that operators of one task give never meet: where the keys are no part of a name, they share
//!   what gives the names, and learn by [`Operator::take_names`] of those in a checkpoint (`window_rows` does).
//! - [`Operator::due`] is the least watermark at which a step would emit or set anything aside by itself.
//! - At [`Event::End`] nothing is left to say, and nothing waits for [`Operator::flush`].
//! - [`Operator::behind`] says by how much it holds a watermark back.
//! - Where it emits at once what a row causes, rows of it come by the next round: [`Operator::catch_up`] bounds the delay.
//!
//! Rows of a round come out shelf by shelf, and the marks of one shelf would go back behind those of the one before. A mark is
//! a promise about all rows behind it, so they are left out: whoever reads the rows judges them by the watermark that was handed
//! on before the round. None that is in time is late for that; one that was late when it came may still count further on.

mod pile;
mod shelf;
mod stored;

use self::pile::{Pile, Sorted};
use self::shelf::{DOMAINS, Shelf};
use self::stored::{Block, Stock};
use crate::operator::{Event, LateRows, Operator, Output, Watermarks};
use arrow::array::{RecordBatch, new_empty_array};
use arrow::compute::max;
use arrow::datatypes::SchemaRef;
use millstream_core::key::hash_rows;
use millstream_core::{Batch, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::table::{Saver, TableDef};
use millstream_state::tier::Spill;
use std::sync::Arc;

/// Parts that the keys of a task are divided into. With a state of ten times the memory, one is a sixth of the memory.
const SHELVES: usize = 64;

/// The pile is played when it is one part in so many of what lies below. Less: fewer bytes are read and written for each
/// row; more: results come sooner, and the pile takes less scratch space.
const PILE_SHARE: u64 = 2;

/// Of the memory that is left to an operator, what shelves take at most, and the pile: one part in so many. The rest is for
/// the shelf at work.
const HOT_SHARE: usize = 2;
const PILE_HELD_SHARE: usize = 4;

/// A pile below this stays in memory, unless that is asked for.
const PILE_BYTES_MIN: usize = 256 << 10;

/// After a round, the memory that an operator thinks it has grows by one part in so many and a little: if that is more than
/// there is, it will be told.
const ROOM_GROWS_BY: usize = 16;
const ROOM_GROWS_MIN: usize = 64 << 10;

/// Makes one more operator of a kind.
pub type Make = Box<dyn Fn() -> Result<Box<dyn Operator>> + Send>;

/// An operator of this kind that goes to scratch space where memory is short. `keys`: for each of its inputs, the columns
/// that the rows are exchanged by. One that cannot be divided, since it has no keys, stays as it is.
pub fn wrap(make: Make, inputs: &[SchemaRef], keys: &[&[usize]]) -> Result<Box<dyn Operator>> {
    Shelves::of(make, inputs, keys, Bounds::default())
}

/// Sizes, which tests make small.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// A power of two.
    shelves: usize,
    pile_bytes_min: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { shelves: SHELVES, pile_bytes_min: PILE_BYTES_MIN }
    }
}

/// What all shelves of an operator have in common.
struct Kind {
    make: Make,
    /// By input.
    keys: Vec<Vec<usize>>,
    tables: Vec<TableDef>,
    /// By domain: how far the watermark is held back.
    behind: [Millis; 2],
    space: Option<Arc<dyn Spill>>,
    tracking: bool,
    bounds: Bounds,
}

struct Shelves {
    kind: Kind,
    /// What has been handed to the operator.
    watermarks: Watermarks,
    state: State,
}

enum State {
    Whole(Box<dyn Operator>),
    /// Tables are being loaded: they are kept as they are until all have come, since only then it is known whether they fit.
    Loading(Loading),
    Divided(Divided),
}

struct Loading {
    /// Of the kind; takes the names that have been given.
    scout: Box<dyn Operator>,
    held: Stock,
    /// By shelf: what did not fit.
    below: Option<Vec<Stock>>,
}

/// An operator by shelves.
struct Divided {
    shelves: Vec<Shelf>,
    pile: Pile,
    /// The watermarks up to which something has been handed on.
    handed: Watermarks,
    /// The highest mark of a row that has come.
    marked: Watermark,
    /// Bytes that may be held, as far as that is known.
    room: usize,
    /// Bytes of shelves in memory.
    hot: usize,
    /// Bytes of shelves below.
    below: u64,
    /// Changes that the next checkpoint has to have, oldest first.
    changes: Vec<Block>,
    rounds: u64,
}

impl Shelves {
    fn of(make: Make, inputs: &[SchemaRef], keys: &[&[usize]], bounds: Bounds) -> Result<Box<dyn Operator>> {
        debug_assert!(bounds.shelves.is_power_of_two() && inputs.len() == keys.len());
        let operator = make()?;
        let tables = operator.tables();
        let can_be_keys = |(input, keys): (&SchemaRef, &&[usize])| {
            let columns: Vec<_> = keys.iter().map(|k| new_empty_array(input.field(*k).data_type())).collect();
            !keys.is_empty() && hash_rows(&columns, 0, &mut Vec::new()).is_ok()
        };
        let divides = inputs.iter().zip(keys).all(can_be_keys) && tables.iter().all(|t| !t.group_by.is_empty());
        if tables.is_empty() || !divides {
            return Ok(operator);
        }
        let keys = keys.iter().map(|k| k.to_vec()).collect();
        let behind = DOMAINS.map(|domain| operator.behind(domain));
        let kind = Kind { make, keys, tables, behind, space: None, tracking: false, bounds };
        Ok(Box::new(Shelves { kind, watermarks: Watermarks::NONE, state: State::Whole(operator) }))
    }

    /// Everything has been loaded.
    fn go_on(&mut self, watermarks: Option<Watermarks>) -> Result<()> {
        if let Some(watermarks) = watermarks {
            self.watermarks = watermarks;
        }
        let state = std::mem::replace(&mut self.state, State::Divided(Divided::new(Vec::new(), Watermarks::NONE, 0)));
        self.state = match state {
            State::Loading(Loading { scout: mut operator, held, below: None }) => {
                held.load_into(operator.as_mut(), &self.kind.tables)?;
                watermarks.map_or(Ok(()), |w| operator.resume(w))?;
                State::Whole(operator)
            }
            State::Loading(mut loading) => {
                loading.go_below(&self.kind)?;
                let stocks = loading.below.unwrap_or_default();
                let shelves = stocks.into_iter().map(|stock| Shelf::below(stock, self.watermarks, Shelf::DUE));
                State::Divided(Divided::new(shelves.collect(), self.watermarks, 0))
            }
            State::Whole(mut operator) => {
                watermarks.map_or(Ok(()), |w| operator.resume(w))?;
                State::Whole(operator)
            }
            divided => divided,
        };
        Ok(())
    }

    /// What has been loaded counts, also where nobody has said that everything has come.
    fn settle(&mut self) -> Result<()> {
        if matches!(self.state, State::Loading(_)) { self.go_on(None) } else { Ok(()) }
    }
}

impl Loading {
    fn go_below(&mut self, kind: &Kind) -> Result<()> {
        let held = std::mem::take(&mut self.held);
        let fresh = || vec![Stock::default(); kind.bounds.shelves];
        held.divide(kind, self.below.get_or_insert_with(fresh))
    }
}

impl Divided {
    fn new(shelves: Vec<Shelf>, watermarks: Watermarks, room: usize) -> Divided {
        Divided {
            pile: Pile::new(shelves.len()),
            below: shelves.iter().map(Shelf::bytes_below).sum(),
            shelves,
            handed: watermarks,
            marked: Watermark::MIN,
            room,
            hot: 0,
            changes: Vec::new(),
            rounds: 0,
        }
    }

    /// Divides what an operator remembers. All shelves are below then.
    fn from_whole(kind: &Kind, operator: &mut dyn Operator, watermarks: Watermarks, room: usize) -> Result<Divided> {
        let space = kind.space()?;
        let due = Shelf::due_of(operator);
        let mut changes = Vec::new();
        if kind.tracking {
            changes = stored::write_changes(space, operator, &kind.tables)?;
        }
        let stock = Stock::of(operator, &kind.tables)?;
        let mut stocks = vec![Stock::default(); kind.bounds.shelves];
        stock.divide(kind, &mut stocks)?;
        let shelves = stocks.into_iter().map(|stock| Shelf::below(stock, watermarks, due));
        Ok(Divided { changes, ..Divided::new(shelves.collect(), watermarks, room) })
    }

    fn take_in(
        &mut self,
        kind: &Kind,
        now: &mut Watermarks,
        input: usize,
        batch: &Batch,
        out: &mut dyn Output,
    ) -> Result<()> {
        let keys = &kind.keys[input];
        let columns: Vec<_> = keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        self.marked = self.marked.max(batch.marks.as_ref().and_then(max).map_or(Watermark::MIN, Watermark));
        self.pile.add(input, *now, Sorted::new(batch, &columns, kind.bounds.shelves)?);
        let held_max = self.pile_held_max(kind);
        if self.pile.held() > held_max {
            self.pile.go_below(kind.space()?)?;
        }
        let pays = (self.below / PILE_SHARE).max(held_max as u64);
        if self.pile.bytes() > pays { self.round(kind, now, out) } else { Ok(()) }
    }

    fn pile_held_max(&self, kind: &Kind) -> usize {
        (self.room / PILE_HELD_SHARE).max(kind.bounds.pile_bytes_min)
    }

    /// A watermark has come. Held back, unless there is nothing that it has to wait for.
    fn advance(&mut self, kind: &Kind, now: &mut Watermarks, to: Watermark, out: &mut dyn Output) -> Result<()> {
        let reached = self.reached(*now);
        let waits = !self.pile.is_empty() || self.shelves.iter().any(|s| s.is_below() && s.is_due(reached));
        if waits && to < Watermark::MAX { Ok(()) } else { self.round(kind, now, out) }
    }

    /// What every shelf is brought to. A mark is a watermark that has been promised, though it has not come by itself yet: the
    /// shelf of its row has acted on it, and what it says to a checkpoint holds for the rows of all shelves.
    fn reached(&self, now: Watermarks) -> Watermarks {
        Watermarks { event: now.event.max(self.marked), ..now }
    }

    fn catch_up(&mut self, kind: &Kind, now: &mut Watermarks, out: &mut dyn Output) -> Result<()> {
        if self.pile.is_empty() && self.handed == *now { Ok(()) } else { self.round(kind, now, out) }
    }

    /// Brings every shelf to where the operator is, and the operator to where marks have promised that it may go; then hands
    /// the watermarks on.
    fn round(&mut self, kind: &Kind, now: &mut Watermarks, out: &mut dyn Output) -> Result<()> {
        let pile = std::mem::replace(&mut self.pile, Pile::new(self.shelves.len()));
        let reached = self.reached(*now);
        *now = reached;
        self.rounds += 1;
        // Those in memory first, whichever they are: room is then given to those that come last.
        let mut order: Vec<usize> = (0..self.shelves.len()).collect();
        order.sort_by_key(|at| self.shelves[*at].is_below());
        for at in order {
            let shelf = &mut self.shelves[at];
            let has_rows = pile.has(at);
            if shelf.is_below() && !has_rows && !shelf.is_due(reached) {
                continue;
            }
            self.hot -= shelf.bytes();
            self.below -= shelf.bytes_below();
            shelf.come_up(kind)?;
            if has_rows {
                shelf.touched = self.rounds;
                pile.play(at, |segment, batch| shelf.step(segment, batch, &mut OfRound(&mut *out)))?;
            }
            shelf.bring(reached, &mut OfRound(&mut *out))?;
            if self.hot + shelf.measure() > self.room / HOT_SHARE {
                shelf.go_below(kind, &mut self.changes)?;
            }
            self.hot += shelf.bytes();
            self.below += shelf.bytes_below();
        }
        self.room = self.room.saturating_add(self.room / ROOM_GROWS_BY + ROOM_GROWS_MIN);
        for (domain, behind) in DOMAINS.into_iter().zip(kind.behind) {
            let to = reached.of(domain);
            if to > self.handed.of(domain) {
                self.handed.advance(domain, to);
                let held_back = if to == Watermark::MAX { to } else { Watermark(to.0.saturating_sub(behind)) };
                out.advance(domain, held_back)?;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let shelves = self.shelves.capacity() * size_of::<Shelf>();
        self.hot + self.pile.held() + self.pile.bytes_of_places() + self.changes.len() * size_of::<Block>() + shelves
    }

    /// Gives back so many bytes: shelves first that have had no row for the longest time, then the pile.
    fn shed(&mut self, kind: &Kind, bytes: usize) -> Result<()> {
        self.room = self.bytes().saturating_sub(bytes);
        if self.pile.held() > self.pile_held_max(kind) {
            self.pile.go_below(kind.space()?)?;
        }
        let mut order: Vec<usize> = (0..self.shelves.len()).filter(|at| !self.shelves[*at].is_below()).collect();
        order.sort_by_key(|at| self.shelves[*at].touched);
        for at in order {
            if self.bytes() <= self.room {
                return Ok(());
            }
            let shelf = &mut self.shelves[at];
            self.hot -= shelf.bytes();
            shelf.go_below(kind, &mut self.changes)?;
            self.below += shelf.bytes_below();
        }
        if self.bytes() > self.room { self.pile.go_below(kind.space()?) } else { Ok(()) }
    }

    fn save(&mut self, kind: &Kind, now: Watermarks, saver: &mut Saver) -> Result<()> {
        if !self.pile.is_empty() || self.handed != now {
            return Err(Error::internal("an operator by shelves is saved before it has been flushed"));
        }
        if saver.whole() {
            self.changes.clear();
            for shelf in &mut self.shelves {
                self.below -= shelf.bytes_below();
                shelf.save_whole(kind, saver)?;
                self.below += shelf.bytes_below();
            }
            return Ok(());
        }
        // Behind each other, as they happened: what a shelf has changed since it came up, behind what it had before.
        for shelf in &mut self.shelves {
            shelf.changes(kind, &mut self.changes)?;
        }
        stored::push_changes(std::mem::take(&mut self.changes), &kind.tables, saver)
    }
}

impl Kind {
    fn space(&self) -> Result<&Arc<dyn Spill>> {
        self.space.as_ref().ok_or_else(|| Error::internal("there is no scratch space"))
    }

    /// An operator that nothing has been loaded into.
    fn fresh(&self) -> Result<Box<dyn Operator>> {
        let mut operator = (self.make)()?;
        if self.tracking {
            operator.track_changes();
        }
        Ok(operator)
    }
}

/// What comes out of a shelf. Watermarks are handed on when all shelves have come to them, and marks mean nothing among rows of
/// other shelves.
struct OfRound<'a>(&'a mut dyn Output);

impl Output for OfRound<'_> {
    fn emit(&mut self, port: usize, batch: Batch) -> Result<()> {
        self.0.emit(port, Batch { marks: None, ..batch })
    }

    fn advance(&mut self, _: TimeDomain, _: Watermark) -> Result<()> {
        Ok(())
    }

    fn set_aside(&mut self, late: LateRows) -> Result<()> {
        self.0.set_aside(late)
    }
}

impl Operator for Shelves {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        if let Event::Watermark(domain, to) = &event {
            self.watermarks.advance(*domain, *to);
        }
        self.settle()?;
        let (kind, now) = (&self.kind, &mut self.watermarks);
        match (&mut self.state, event) {
            (State::Whole(operator), event) => operator.step(event, out),
            (State::Loading(_), _) => Err(Error::internal("tables are still being loaded")),
            (State::Divided(divided), Event::Batch { input, batch }) => divided.take_in(kind, now, input, &batch, out),
            (State::Divided(divided), Event::Watermark(_, to)) => divided.advance(kind, now, to, out),
            (State::Divided(divided), Event::End) => divided.catch_up(kind, now, out),
        }
    }

    fn state_bytes(&self) -> usize {
        match &self.state {
            State::Whole(operator) => operator.state_bytes(),
            State::Loading(loading) => loading.held.bytes(),
            State::Divided(divided) => divided.bytes(),
        }
    }

    fn spill_to(&mut self, space: Arc<dyn Spill>) {
        self.kind.space = Some(space);
    }

    fn shed(&mut self, bytes: usize) -> Result<()> {
        if self.kind.space.is_none() {
            return Ok(());
        }
        match &mut self.state {
            State::Whole(operator) => {
                let before = operator.state_bytes();
                operator.shed(bytes)?;
                let room = before.saturating_sub(bytes);
                if operator.state_bytes() > room {
                    let divided = Divided::from_whole(&self.kind, operator.as_mut(), self.watermarks, room)?;
                    self.state = State::Divided(divided);
                }
                Ok(())
            }
            State::Loading(loading) => loading.go_below(&self.kind),
            State::Divided(divided) => divided.shed(&self.kind, bytes),
        }
    }

    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        match &self.state {
            State::Whole(operator) => operator.due(domain),
            _ => Some(Watermark::MIN),
        }
    }

    fn behind(&self, domain: TimeDomain) -> Millis {
        self.kind.behind[DOMAINS.iter().position(|d| *d == domain).unwrap_or_default()]
    }

    fn catch_up(&mut self, out: &mut dyn Output) -> Result<()> {
        match &mut self.state {
            State::Divided(divided) => divided.catch_up(&self.kind, &mut self.watermarks, out),
            _ => Ok(()),
        }
    }

    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        match &mut self.state {
            State::Whole(operator) => operator.flush(out),
            State::Loading(_) => Ok(()),
            State::Divided(divided) => divided.catch_up(&self.kind, &mut self.watermarks, out),
        }
    }

    fn reached(&self) -> Watermarks {
        self.watermarks
    }

    fn tables(&self) -> Vec<TableDef> {
        self.kind.tables.clone()
    }

    fn track_changes(&mut self) {
        self.kind.tracking = true;
        if let State::Whole(operator) = &mut self.state {
            operator.track_changes();
        }
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.settle()?;
        match &mut self.state {
            State::Whole(operator) => operator.save(saver),
            State::Loading(_) => Err(Error::internal("tables are still being loaded")),
            State::Divided(divided) => divided.save(&self.kind, self.watermarks, saver),
        }
    }

    fn load(&mut self, table: &str, version: u32, rows: &RecordBatch) -> Result<()> {
        let at = self.kind.tables.iter().position(|t| t.name == table);
        let at = at.ok_or_else(|| Error::internal(format!("there is no table `{table}` to load")))?;
        if let State::Whole(_) = &self.state {
            let loading = Loading { scout: self.kind.fresh()?, held: Stock::default(), below: None };
            self.state = State::Loading(loading);
        }
        match &mut self.state {
            State::Loading(loading) => {
                loading.scout.take_names(table, rows)?;
                loading.held.push(Block::held(at, version, rows.clone()));
                Ok(())
            }
            _ => Err(Error::internal("tables are loaded before the first event")),
        }
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.go_on(Some(watermarks))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod updates_tests;
