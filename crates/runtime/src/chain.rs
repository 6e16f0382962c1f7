//! One task's operators, joined by direct calls.
//!
//! ```text
//!  signal ─▶ valve (where several channels meet) ─▶ operator.step ─▶ Out ─▶ next cell, or an exchange
//! ```
//!
//! A push runs down the chain at once: what an operator emits has left the chain before its step goes on.

use crate::checkpoint::Weight;
use crate::exchange::{Inbox, Sender, Signal};
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::side::{SideRows, Sides};
use crate::worker::{First, Helper};
use millstream_core::{BadRow, Batch, Error, Result, Sink, TimeDomain, Watermark};
use millstream_dataflow::not_null::Guard;
use millstream_dataflow::operator::{Event, LateRows, Operator, Output, Watermarks};
use millstream_dataflow::valve::Valve;
use millstream_state::tier::Share;
use std::cell::{Cell as Flag, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) struct Chain {
    pub cells: Vec<Cell>,
    /// The cells whose operators ask outside.
    pub asking: Vec<usize>,
    pub helper: Rc<Helper>,
    pub metrics: Arc<Metrics>,
    pub sides: Arc<Sides>,
    /// Which of the stage's tasks this is.
    pub task: usize,
    /// In jobs with checkpoints: rows set aside since the last barrier. They are written with the checkpoint.
    pub set_aside: Option<RefCell<Vec<SideRows>>>,
}

/// An operator at its place in the chain.
pub(crate) struct Cell {
    /// Index of the node in the placement, which is also its index in the metrics.
    pub node: usize,
    pub work: RefCell<Part>,
    /// Of the job's memory.
    pub share: Share,
    /// Merges the channels where there is more than one.
    pub valve: Option<RefCell<Valve>>,
    /// What it keeps is what its namesake in the first task keeps, which saves it for all.
    pub is_copy: bool,
    /// Keeps sources waiting until one of its inputs has ended.
    pub gate: Option<Arc<Gate>>,
    /// Where each output port leads.
    pub routes: Vec<Vec<Route>>,
    /// Channels that have neither ended nor stopped.
    pub open: Flag<usize>,
    /// Some channel stopped before its end, so this cell has no end either.
    pub stopped: Flag<bool>,
    /// What the operator has been handed so far.
    pub watermarks: Flag<Watermarks>,
    /// What has been saved of the operator.
    pub weight: Flag<Weight>,
}

pub(crate) enum Part {
    /// A source's place: the source task pushes from here.
    Source,
    Operator(Box<dyn Operator>),
    Sink {
        sink: Box<dyn Sink>,
        /// Keeps NULL out of NOT NULL columns.
        guard: Option<Guard>,
        unflushed: bool,
    },
}

pub(crate) struct Route {
    pub to: To,
    /// Rows only: another route to the same reader brings the signals.
    pub quiet: bool,
}

pub(crate) enum To {
    /// To another cell of the chain: its index, its input, its valve's channel.
    Local {
        cell: usize,
        input: usize,
        channel: usize,
    },
    Remote(RefCell<Sender>),
}

impl Cell {
    /// Whether its operator asks outside.
    pub fn asks(&self) -> bool {
        matches!(&*self.work.borrow(), Part::Operator(operator) if operator.asks())
    }
}

impl Chain {
    /// Takes a signal into a cell.
    pub fn deliver(&self, at: usize, input: usize, channel: usize, signal: Signal) -> Result<()> {
        let cell = &self.cells[at];
        if let Some(gate) = &cell.gate {
            gate.on(input, &signal);
        }
        match signal {
            Signal::Batch(mut batch) => {
                if let Some(valve) = &cell.valve {
                    valve.borrow_mut().clamp(channel, &mut batch);
                }
                self.step(at, Event::Batch { input, batch })
            }
            Signal::Watermark(domain, to) => match &cell.valve {
                // After a restore: who is left upstream may have promised less than all of them did together.
                None if to < cell.watermarks.get().of(domain) => Ok(()),
                None => self.step(at, Event::Watermark(domain, to)),
                Some(valve) => {
                    let merged = valve.borrow_mut().on_watermark(channel, domain, to);
                    merged.map_or(Ok(()), |to| self.step(at, Event::Watermark(domain, to)))
                }
            },
            Signal::Idle => {
                let Some(valve) = &cell.valve else { return self.tell_of_idleness(at) };
                let risen = valve.borrow_mut().on_idle(channel);
                self.risen(at, risen)?;
                self.tell_idle(at, valve)
            }
            Signal::Active => {
                let Some(valve) = &cell.valve else { return self.pass_on(at, &Signal::Active) };
                let risen = valve.borrow_mut().on_active(channel);
                self.tell_idle(at, valve)?;
                self.risen(at, risen)
            }
            Signal::End => {
                cell.open.set(cell.open.get() - 1);
                if let Some(valve) = &cell.valve {
                    let risen = valve.borrow_mut().on_end(channel);
                    for (domain, to) in risen {
                        to.map_or(Ok(()), |to| self.step(at, Event::Watermark(domain, to)))?;
                    }
                    if cell.open.get() > 0 {
                        return self.tell_idle(at, valve);
                    }
                }
                if cell.stopped.get() {
                    self.push_out_of(at)?;
                    return self.pass_on(at, &Signal::Stop);
                }
                self.step(at, Event::End)?;
                self.pass_on(at, &Signal::End)
            }
            Signal::Stop => {
                // What is in flight on the other channels still arrives; the last one to stop tells the readers.
                cell.stopped.set(true);
                cell.open.set(cell.open.get() - 1);
                if cell.open.get() > 0 {
                    return Ok(());
                }
                // Nobody listens any more once they have been told.
                self.push_out_of(at)?;
                self.pass_on(at, &Signal::Stop)
            }
            Signal::Barrier(epoch) => Err(Error::internal(format!("the barrier of epoch {epoch} reached an operator"))),
        }
    }

    fn risen(&self, at: usize, to: Option<Watermark>) -> Result<()> {
        to.map_or(Ok(()), |to| self.step(at, Event::Watermark(TimeDomain::Event, to)))
    }

    /// Tells the readers when the merge of all channels has become idle, or is no longer.
    fn tell_idle(&self, at: usize, valve: &RefCell<Valve>) -> Result<()> {
        let change = valve.borrow_mut().idle_changed();
        match change {
            None => Ok(()),
            Some(true) => self.tell_of_idleness(at),
            Some(false) => self.pass_on(at, &Signal::Active),
        }
    }

    /// Nobody waits any more for what is said by a channel that is idle: what has been put off comes first, and what waits
    /// for an answer.
    fn tell_of_idleness(&self, at: usize) -> Result<()> {
        self.answered_at(at, true)?;
        self.catch_up_at(at)?;
        self.pass_on(at, &Signal::Idle)
    }

    fn step(&self, at: usize, event: Event) -> Result<()> {
        let cell = &self.cells[at];
        let counters = &self.metrics.nodes[cell.node];
        if let Event::Batch { batch, .. } = &event {
            if batch.is_empty() {
                return Ok(());
            }
            counters.rows_in.fetch_add(batch.len() as u64, Relaxed);
            if self.metrics.measured {
                counters.bytes_in.fetch_add(batch.bytes() as u64, Relaxed);
            }
        }
        if let Event::Watermark(domain, to) = &event {
            let mut handed = cell.watermarks.get();
            handed.advance(*domain, *to);
            cell.watermarks.set(handed);
        }
        match &mut *cell.work.borrow_mut() {
            Part::Source => self.pass_event(at, event),
            Part::Sink { sink, guard, unflushed } => {
                match event {
                    Event::Batch { mut batch, .. } => {
                        if let Some(guard) = guard {
                            let (passed, left_out) = guard.pass(batch)?;
                            counters.bad.fetch_add(left_out, Relaxed);
                            batch = passed;
                        }
                        sink.write(&batch)?;
                        *unflushed = true;
                        counters.set_bytes_written(self.task, sink.bytes());
                    }
                    Event::Watermark(TimeDomain::Event, to) => {
                        sink.advance(to);
                        counters.set_watermark(self.task, to);
                    }
                    Event::Watermark(..) => {}
                    Event::End => sink.flush()?,
                }
                Ok(())
            }
            Part::Operator(operator) => {
                operator.step(event, &mut Out { chain: self, at })?;
                self.keep_within(at, operator.as_mut())
            }
        }
    }

    /// A source's events go to its readers as they are.
    fn pass_event(&self, at: usize, event: Event) -> Result<()> {
        let mut out = Out { chain: self, at };
        match event {
            Event::Batch { batch, .. } => out.emit(0, batch),
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }

    /// Hands a signal that is no batch to every reader of every port.
    pub fn pass_on(&self, at: usize, signal: &Signal) -> Result<()> {
        for route in self.cells[at].routes.iter().flatten().filter(|r| !r.quiet) {
            match &route.to {
                To::Local { cell, input, channel } => self.deliver(*cell, *input, *channel, signal.clone())?,
                To::Remote(sender) => {
                    for (inbox, channel) in &sender.borrow().targets {
                        inbox.put(*channel, signal.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn send(&self, route: &Route, batch: Batch) -> Result<()> {
        match &route.to {
            To::Local { cell, input, channel } => self.deliver(*cell, *input, *channel, Signal::Batch(batch)),
            To::Remote(sender) => {
                let pieces = sender.borrow_mut().cut(batch)?;
                for (target, piece) in pieces {
                    let (inbox, channel): (Arc<Inbox>, usize) = sender.borrow().targets[target].clone();
                    self.helper.wait_for_room(&inbox)?;
                    inbox.put(channel, Signal::Batch(piece));
                }
                Ok(())
            }
        }
    }

    /// Does what a restored task does before anything else.
    pub fn begin_with(&self, first: First) -> Result<()> {
        match first {
            // Its marks are those of the merged channels already.
            First::Rows { at, input, batch } => self.step(at, Event::Batch { input, batch }),
            First::Out { at, port, batch } => Out { chain: self, at }.emit(port, batch),
            First::Late { at, late } => Out { chain: self, at }.set_aside(late),
        }
    }

    /// Tells the tasks downstream that what comes next belongs to a later epoch.
    pub fn send_barrier(&self, epoch: u64) {
        for cell in &self.cells {
            for route in cell.routes.iter().flatten().filter(|r| !r.quiet) {
                if let To::Remote(sender) = &route.to {
                    for (inbox, channel) in &sender.borrow().targets {
                        inbox.put(*channel, Signal::Barrier(epoch));
                    }
                }
            }
        }
    }

    /// Pushes out what operators hold that is in no table of theirs.
    pub fn push_out(&self) -> Result<()> {
        (0..self.cells.len()).try_for_each(|at| self.push_out_of(at))
    }

    fn push_out_of(&self, at: usize) -> Result<()> {
        match &mut *self.cells[at].work.borrow_mut() {
            Part::Operator(operator) => {
                operator.flush(&mut Out { chain: self, at })?;
                self.keep_within(at, operator.as_mut())
            }
            _ => Ok(()),
        }
    }

    /// Does what operators have put off.
    pub fn catch_up(&self) -> Result<()> {
        (0..self.cells.len()).try_for_each(|at| self.catch_up_at(at))
    }

    fn catch_up_at(&self, at: usize) -> Result<()> {
        match &mut *self.cells[at].work.borrow_mut() {
            Part::Operator(operator) => {
                operator.catch_up(&mut Out { chain: self, at })?;
                self.keep_within(at, operator.as_mut())
            }
            _ => Ok(()),
        }
    }

    /// Pushes out what has been answered of what operators asked. Returns whether anything was.
    pub fn answered(&self) -> Result<bool> {
        let mut any = false;
        for at in &self.asking {
            any |= self.answered_at(*at, false)?;
        }
        Ok(any)
    }

    fn answered_at(&self, at: usize, wait: bool) -> Result<bool> {
        match &mut *self.cells[at].work.borrow_mut() {
            Part::Operator(operator) if operator.asks() => {
                let any = operator.answered(wait, &mut Out { chain: self, at })?;
                self.keep_within(at, operator.as_mut())?;
                Ok(any)
            }
            _ => Ok(false),
        }
    }

    /// Takes note of what an operator holds after it has worked.
    fn keep_within(&self, at: usize, operator: &mut dyn Operator) -> Result<()> {
        let cell = &self.cells[at];
        let held = keep_within(&cell.share, operator)?;
        self.metrics.nodes[cell.node].set_state_bytes(self.task, held);
        if self.metrics.memory.is_over() {
            self.metrics.memory.say_over();
        }
        Ok(())
    }

    /// Bad rows of a source of this task.
    pub fn set_aside_bad(&self, table: &str, rows: &[BadRow]) -> Result<()> {
        self.to_side(self.sides.bad(table, rows)?)
    }

    fn to_side(&self, rows: Option<SideRows>) -> Result<()> {
        match (rows, &self.set_aside) {
            (None, _) => Ok(()),
            (Some(rows), Some(kept)) => {
                kept.borrow_mut().push(rows);
                Ok(())
            }
            (Some(rows), None) => self.sides.write(&rows),
        }
    }

    /// Flushes the sinks that hold something back.
    pub fn flush(&self) -> Result<()> {
        for cell in &self.cells {
            // A sink that is writing right now is not idle: it is farther up this call stack.
            let Ok(mut work) = cell.work.try_borrow_mut() else { continue };
            if let Part::Sink { sink, unflushed, .. } = &mut *work
                && std::mem::take(unflushed)
            {
                sink.flush()?;
            }
        }
        Ok(())
    }

    pub fn into_sinks(self) -> Vec<Box<dyn Sink>> {
        let parts = self.cells.into_iter().map(|c| c.work.into_inner());
        parts.filter_map(|p| if let Part::Sink { sink, .. } = p { Some(sink) } else { None }).collect()
    }
}

/// Takes note of what an operator holds; where memory is short, it gives some back. Returns what it then holds.
pub(crate) fn keep_within(share: &Share, operator: &mut dyn Operator) -> Result<usize> {
    let held = operator.state_bytes();
    let too_much = share.report(held);
    if too_much == 0 {
        return Ok(held);
    }
    operator.shed(too_much)?;
    let held = operator.state_bytes();
    share.settle(held);
    share.check()?;
    Ok(held)
}

/// Where the operator of cell `at` puts its results.
struct Out<'a> {
    chain: &'a Chain,
    at: usize,
}

impl Output for Out<'_> {
    fn emit(&mut self, port: usize, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let cell = &self.chain.cells[self.at];
        let counters = &self.chain.metrics.nodes[cell.node];
        counters.rows_out.fetch_add(batch.len() as u64, Relaxed);
        if self.chain.metrics.measured {
            counters.bytes_out.fetch_add(batch.bytes() as u64, Relaxed);
        }
        let Some((last, others)) = cell.routes.get(port).and_then(|r| r.split_last()) else { return Ok(()) };
        for route in others {
            self.chain.send(route, batch.clone())?;
        }
        self.chain.send(last, batch)
    }

    fn advance(&mut self, domain: TimeDomain, to: Watermark) -> Result<()> {
        if domain == TimeDomain::Event {
            self.chain.metrics.nodes[self.chain.cells[self.at].node].set_watermark(self.chain.task, to);
        }
        self.chain.pass_on(self.at, &Signal::Watermark(domain, to))
    }

    fn set_aside(&mut self, late: LateRows) -> Result<()> {
        let node = &self.chain.metrics.nodes[self.chain.cells[self.at].node];
        node.late.fetch_add(late.rows.num_rows() as u64, Relaxed);
        self.chain.to_side(self.chain.sides.late(&node.label, &late)?)
    }
}
