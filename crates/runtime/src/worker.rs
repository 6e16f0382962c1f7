//! One worker: a thread that turns its tasks, the ones farthest downstream first.

use crate::align::{Align, Step};
use crate::chain::{Chain, Part};
use crate::checkpoint::{NodeSave, Requests, TaskAt, TaskSave};
use crate::exchange::{Bell, Inbox, Message, Signal, lock};
use crate::metrics::TaskMetrics;
use crate::sabotage::{Bug, on};
use crate::source::SourceDriver;
use arrow::array::Int64Array;
use millstream_core::{Batch, Clock, Error, Result, TimeDomain};
use millstream_dataflow::operator::{LateRows, Watermarks};
use millstream_state::room::SaveRoom;
use millstream_state::table::{Saved, Saver};
use std::cell::{Cell, OnceCell, RefCell};
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Messages that a task takes from its inbox before another task gets its turn.
const MESSAGES_PER_TURN: usize = 16;
/// How long a worker with nothing to do sleeps before it asks its sources again.
const NAP: Duration = Duration::from_millis(1);
/// Sinks hand on what they hold back at least this often, in nanoseconds.
const FLUSH_EVERY: u64 = 1_000_000_000;
/// Operators do what they have put off when there is nothing else to do, but not more often than this, in nanoseconds, nor
/// for more than half of the time.
const CATCH_UP_EVERY: u64 = 1_000_000_000;
/// Where there is always something else to do, a tenth of that.
const CATCH_UP_BUSY: u64 = 10;

/// What all workers of a job share.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// 0: run; 1: stop here; 2: drain, then stop.
    stop: AtomicU8,
    cancelled: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Control {
    pub fn ask_to_stop(&self, drain: bool) {
        self.stop.store(if drain { 2 } else { 1 }, Relaxed);
    }

    pub fn stop(&self) -> Option<bool> {
        match self.stop.load(Relaxed) {
            0 => None,
            how => Some(how == 2),
        }
    }

    /// Makes every worker give up. The first error is kept.
    pub fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.cancelled.store(true, Relaxed);
    }

    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    pub fn failure(&self) -> Option<Error> {
        lock(&self.failure).clone()
    }
}

/// What a worker gives up with when another one has failed. Never seen by a user.
pub(crate) fn cancelled() -> Error {
    Error::internal("the job was cancelled")
}

/// A stage's share of one worker.
pub(crate) struct Task {
    pub chain: Chain,
    pub inbox: Option<Arc<Inbox>>,
    /// For each channel of the inbox: the cell, its input, its valve's channel.
    pub channels: Vec<(usize, usize, usize)>,
    pub sources: RefCell<Vec<SourceDriver>>,
    /// Channels of the inbox that have not ended.
    pub open_channels: Cell<usize>,
    pub running: Cell<bool>,
    /// Where the job is measured.
    pub meter: Option<Arc<TaskMetrics>>,
    /// In jobs with checkpoints.
    pub saving: Option<Saving>,
    /// What comes of the checkpoint that the job goes on from, before anything else.
    pub first: RefCell<Vec<First>>,
}

/// What a task does first after a restore.
pub(crate) enum First {
    /// Rows that were under way to an input of the cell `at`.
    Rows { at: usize, input: usize, batch: Batch },
    /// Rows that came out of the operator of the cell `at` while it was restored.
    Out { at: usize, port: usize, batch: Batch },
    /// Rows that were late there.
    Late { at: usize, late: LateRows },
}

/// How a task takes part in checkpoints.
pub(crate) struct Saving {
    pub at: TaskAt,
    pub requests: Arc<Requests>,
    pub reports: mpsc::Sender<crate::checkpoint::Message>,
    pub align: RefCell<Align>,
    /// The epoch saved last.
    pub last: Cell<u64>,
    /// The chains of the checkpoint that the job goes on from end with this task's shares: changes are enough.
    pub chained: Cell<bool>,
    /// The last save has been handed over: nothing will come of this task any more.
    pub over: Cell<bool>,
    /// Bytes that may be held back while barriers line up; past them the barrier overtakes.
    pub held_bytes_max: usize,
    /// For what has been saved and not yet written.
    pub room: Arc<SaveRoom>,
    /// Whole pieces may come in the middle. Not where a view follows the changes: a whole does not say what has gone.
    pub whole_pieces: bool,
}

impl Task {
    fn done(&self) -> bool {
        self.open_channels.get() == 0 && self.sources.borrow().iter().all(|s| s.ended)
    }

    /// Does some work; true when there was any. A task that is on the call stack already (it is waiting for room) is
    /// left alone.
    fn turn(&self, clock: &dyn Clock, stop: Option<bool>) -> Result<bool> {
        if self.running.replace(true) {
            return Ok(false);
        }
        let worked = self.measured(clock, || self.work(clock, stop));
        self.running.set(false);
        worked
    }

    /// Takes the time of what the task does, where the job is measured.
    fn measured(&self, clock: &dyn Clock, work: impl FnOnce() -> Result<bool>) -> Result<bool> {
        let Some(meter) = &self.meter else { return work() };
        let began = clock.monotonic_nanos();
        self.chain.helper.held_up.set(0);
        let worked = work();
        let held_up = self.chain.helper.held_up.get();
        meter.turned(began, clock.monotonic_nanos(), held_up, !matches!(worked, Ok(false)));
        worked
    }

    fn work(&self, clock: &dyn Clock, stop: Option<bool>) -> Result<bool> {
        let mut worked = false;
        for first in self.first.take() {
            self.chain.begin_with(first)?;
        }
        worked |= self.chain.answered()?;
        if let Some(inbox) = &self.inbox {
            let messages_max = self.chain.helper.crowd.get().map_or(MESSAGES_PER_TURN, |c| c.messages_max);
            for _ in 0..messages_max {
                let message = match &self.saving {
                    None => inbox.take(),
                    Some(saving) => saving.align.borrow_mut().next(inbox),
                };
                let Some(message) = message else { break };
                worked = true;
                match &self.saving {
                    None => self.deliver(message)?,
                    Some(saving) => self.deliver_in_line(saving, message)?,
                }
            }
        }
        if let Some(saving) = &self.saving {
            worked |= self.save_where_asked(saving)?;
        }
        let mut sources = self.sources.borrow_mut();
        if let Some(saving) = &self.saving {
            let committed = saving.requests.committed();
            sources.iter_mut().try_for_each(|s| s.tell_committed(committed))?;
        }
        for source in sources.iter_mut().filter(|s| s.is_empty()) {
            worked |= source.poll(&self.chain, clock)?;
        }
        for source in sources.iter_mut() {
            worked |= match stop {
                None => source.poll(&self.chain, clock)?,
                Some(_) if source.ended => false,
                Some(drain) => {
                    source.stop(&self.chain, drain)?;
                    true
                }
            };
        }
        drop(sources);
        if let Some(saving) = &self.saving
            && !saving.over.get()
            && self.done()
        {
            self.save(saving, None, Vec::new())?;
            saving.over.set(true);
        }
        Ok(worked)
    }

    /// Lets operators do what they have put off.
    fn catch_up(&self, clock: &dyn Clock) -> Result<()> {
        if self.running.replace(true) {
            return Ok(());
        }
        let done = self.measured(clock, || self.chain.catch_up().map(|()| true));
        self.running.set(false);
        done.map(drop)
    }

    fn deliver(&self, message: Message) -> Result<()> {
        if matches!(message.signal, Signal::End | Signal::Stop) {
            self.open_channels.set(self.open_channels.get() - 1);
        }
        let (cell, input, channel) = self.channels[message.channel];
        self.chain.deliver(cell, input, channel, message.signal)
    }

    /// Delivers a message, unless it has to wait for a barrier; saves the task when the last barrier has come.
    fn deliver_in_line(&self, saving: &Saving, message: Message) -> Result<()> {
        let channel = message.channel;
        let step = saving.align.borrow_mut().on(message);
        let step = match step {
            Step::Deliver(message) => {
                let ends = matches!(message.signal, Signal::End | Signal::Stop);
                self.deliver(message)?;
                if !ends {
                    return Ok(());
                }
                saving.align.borrow_mut().ended(channel)
            }
            step => step,
        };
        match step {
            Step::Save(epoch) => self.save(saving, Some(epoch), Vec::new()),
            _ => Ok(()),
        }
    }

    /// Saves a task that no barrier reaches, since it only has sources; or one whose barriers are all here, though not
    /// yet in turn, when they may overtake.
    fn save_where_asked(&self, saving: &Saving) -> Result<bool> {
        let asked = saving.requests.epoch();
        if asked <= saving.last.get() || self.done() {
            return Ok(false);
        }
        if saving.align.borrow().all_ended() {
            self.save(saving, Some(asked), Vec::new())?;
            return Ok(true);
        }
        let Some(inbox) = &self.inbox else { return Ok(false) };
        let too_much = saving.align.borrow().held_bytes() > saving.held_bytes_max;
        if too_much {
            saving.requests.overtake(asked);
        }
        if saving.requests.overtaking() < asked {
            return Ok(false);
        }
        let overtaken = saving.align.borrow_mut().overtake(asked, inbox);
        match overtaken {
            None => Ok(false),
            Some(overtaken) => self.save(saving, Some(asked), overtaken).map(|()| true),
        }
    }

    /// Hands over what the task remembers, then tells the tasks downstream. `epoch`: `None` at the end of the task.
    fn save(&self, saving: &Saving, epoch: Option<u64>, overtaken: Vec<(usize, Signal)>) -> Result<()> {
        self.chain.push_out()?;
        let last = saving.last.get();
        let mut nodes = Vec::with_capacity(self.chain.cells.len());
        let mut in_flight = self.batches_under_way(overtaken)?;
        for (at, cell) in self.chain.cells.iter().enumerate() {
            let whole = !saving.chained.get() || saving.whole_pieces && cell.weight.get().is_heavy();
            let mut node = NodeSave {
                node: cell.node,
                watermarks: if on(Bug::WatermarkNotSaved) { Watermarks::NONE } else { cell.watermarks.get() },
                tables: Vec::new(),
                saved: Saved::default(),
                whole,
                partitions: Vec::new(),
                prepared: None,
                in_flight: Vec::new(),
            };
            (node.in_flight, in_flight) = {
                let (mine, others): (Vec<_>, Vec<_>) = in_flight.into_iter().partition(|(cell, _, _)| *cell == at);
                (mine.into_iter().map(|(_, input, batch)| (input, batch)).collect(), others)
            };
            match &mut *cell.work.borrow_mut() {
                Part::Source => {}
                Part::Operator(_) if cell.is_copy => {}
                Part::Operator(operator) => {
                    let mut saver = Saver::reading_later(whole).within(saving.room.clone());
                    operator.save(&mut saver)?;
                    if !on(Bug::WatermarkNotSaved) {
                        node.watermarks.advance_to(operator.reached());
                    }
                    node.tables = operator.tables();
                    let rows = saver.rows();
                    node.saved = saver.into_saved();
                    let mut weight = cell.weight.get();
                    weight.saved(whole, node.saved.later.is_empty().then_some(rows));
                    cell.weight.set(weight);
                }
                Part::Sink { sink, unflushed, .. } => {
                    *unflushed = false;
                    node.prepared = Some(sink.prepare(epoch.unwrap_or(u64::MAX))?);
                }
            }
            nodes.push(node);
        }
        for source in self.sources.borrow().iter() {
            let (partitions, watermarks) = source.saved()?;
            if let Some(epoch) = epoch {
                source.note(epoch, &partitions);
            }
            let node = &mut nodes[source.cell()];
            node.partitions = partitions;
            node.watermarks = watermarks;
        }
        let set_aside = self.chain.set_aside.as_ref().map(RefCell::take).unwrap_or_default();
        if let Some(epoch) = epoch {
            self.chain.send_barrier(epoch);
            saving.align.borrow_mut().saved(epoch);
            saving.last.set(epoch);
        }
        saving.chained.set(true);
        let save = TaskSave { task: saving.at, epoch: epoch.unwrap_or(0), last, nodes, set_aside };
        // Nobody listens any more: the job is being taken down, and will say why.
        let _ = saving.reports.send(crate::checkpoint::Message::Saved(save));
        Ok(())
    }

    /// Batches that a barrier has overtaken, by cell and input. The watermarks among them are sent again by those who
    /// sent them; what they meant for the rows behind them stays with the rows, as marks.
    fn batches_under_way(&self, overtaken: Vec<(usize, Signal)>) -> Result<Vec<(usize, usize, Batch)>> {
        let mut promised = vec![i64::MIN; self.channels.len()];
        let mut batches = Vec::new();
        for (from, signal) in overtaken {
            let (cell, input, channel) = self.channels[from];
            // Channels of one sender share their promises.
            let sender = self.channels.iter().position(|c| (c.0, c.2) == (cell, channel)).unwrap_or(from);
            match signal {
                Signal::Batch(mut batch) => {
                    if promised[sender] > i64::MIN {
                        let before = promised[sender];
                        let marks = match &batch.marks {
                            Some(marks) => marks.unary(|m: i64| m.max(before)),
                            None => Int64Array::from_value(before, batch.len()),
                        };
                        batch.marks = Some(marks);
                    }
                    batches.push((cell, input, batch));
                }
                Signal::Watermark(TimeDomain::Event, to) => promised[sender] = promised[sender].max(to.0),
                _ => {}
            }
        }
        Ok(batches)
    }
}

/// Lets a task that waits for room in a queue turn the tasks downstream of it meanwhile.
pub(crate) struct Helper {
    tasks: OnceCell<Weak<Vec<Task>>>,
    /// In a job that one thread turns: everybody's tasks.
    crowd: OnceCell<Rc<Crowd>>,
    stage: usize,
    /// Position of the task that this helper belongs to, in its worker's order.
    position: usize,
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    measured: bool,
    /// Nanoseconds that its task has waited for room in this turn, where the job is measured.
    held_up: Cell<u64>,
}

impl Helper {
    pub fn new(
        stage: usize,
        position: usize,
        control: Arc<Control>,
        clock: Arc<dyn Clock>,
        measured: bool,
    ) -> Rc<Helper> {
        let (tasks, crowd, held_up) = (OnceCell::new(), OnceCell::new(), Cell::new(0));
        Rc::new(Helper { tasks, crowd, stage, position, control, clock, measured, held_up })
    }

    pub fn wait_for_room(&self, inbox: &Inbox) -> Result<()> {
        if !self.measured || inbox.has_room() {
            return self.wait(inbox);
        }
        let began = self.clock.monotonic_nanos();
        let waited = self.wait(inbox);
        self.held_up.set(self.held_up.get() + (self.clock.monotonic_nanos() - began));
        waited
    }

    fn wait(&self, inbox: &Inbox) -> Result<()> {
        while !inbox.has_room() {
            if self.control.is_cancelled() {
                return Err(cancelled());
            }
            if let Some(crowd) = self.crowd.get() {
                // Nobody else will ever make room: rather than wait for ever, let the queue pass its bound.
                if !crowd.help(self.stage, self.clock.as_ref(), self.control.stop())? {
                    return Ok(());
                }
                continue;
            }
            let tasks = self.tasks.get().and_then(Weak::upgrade);
            let mut helped = false;
            for task in tasks.iter().flat_map(|t| t.iter()).skip(self.position + 1) {
                // Only what waits in its inbox: a source would add to what is too much already.
                if task.inbox.is_some() {
                    helped |= task.turn(self.clock.as_ref(), self.control.stop())?;
                }
            }
            if !helped {
                inbox.wait_for_room(NAP);
            }
        }
        Ok(())
    }
}

/// All tasks of a job that one thread turns: there, whoever waits for room turns other workers' tasks too.
pub(crate) struct Crowd {
    /// By worker.
    pub tasks: Vec<Weak<Vec<Task>>>,
    /// Which of so many is asked first.
    pub choose: Rc<dyn Fn(usize) -> usize>,
    /// Messages that a task takes from its inbox in one turn.
    pub messages_max: usize,
}

impl Crowd {
    /// Turns one task downstream of `stage` that has something to do. False where there is none.
    fn help(&self, stage: usize, clock: &dyn Clock, stop: Option<bool>) -> Result<bool> {
        let workers: Vec<Rc<Vec<Task>>> = self.tasks.iter().filter_map(Weak::upgrade).collect();
        let downstream = |t: &&Task| t.chain.helper.stage > stage && t.inbox.is_some();
        let tasks: Vec<&Task> = workers.iter().flat_map(|w| w.iter()).filter(downstream).collect();
        let first = if tasks.is_empty() { 0 } else { (self.choose)(tasks.len()) };
        for at in 0..tasks.len() {
            if tasks[(first + at) % tasks.len()].turn(clock, stop)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

pub(crate) struct Worker {
    /// In the order of stages.
    pub tasks: Rc<Vec<Task>>,
    pub control: Arc<Control>,
    pub clock: Arc<dyn Clock>,
    pub bell: Arc<Bell>,
}

impl Worker {
    pub fn new(tasks: Vec<Task>, control: Arc<Control>, clock: Arc<dyn Clock>, bell: Arc<Bell>) -> Worker {
        let tasks = Rc::new(tasks);
        for task in tasks.iter() {
            let unset = task.chain.helper.tasks.set(Rc::downgrade(&tasks));
            debug_assert!(unset.is_ok(), "each chain has its own helper");
        }
        Worker { tasks, control, clock, bell }
    }

    /// Makes this one of the workers that one thread turns.
    pub fn join(&self, crowd: &Rc<Crowd>) {
        for task in self.tasks.iter() {
            let unset = task.chain.helper.crowd.set(crowd.clone());
            debug_assert!(unset.is_ok(), "a worker joins once");
        }
    }

    /// Lets sinks hand on what they hold back.
    pub fn flush(&self) -> Result<()> {
        self.tasks.iter().try_for_each(|t| t.chain.flush())
    }

    /// Lets operators do what they have put off, those farthest upstream first.
    pub fn catch_up(&self) -> Result<()> {
        self.tasks.iter().try_for_each(|t| t.catch_up(self.clock.as_ref()))
    }

    /// Gives each task a turn. Returns whether any did something, and whether all have ended.
    pub fn turn(&self) -> Result<(bool, bool)> {
        self.turn_of(0..self.tasks.len())
    }

    /// Gives some of the tasks a turn. Returns whether any of them did something, and whether all tasks have ended.
    pub fn turn_of(&self, tasks: Range<usize>) -> Result<(bool, bool)> {
        if self.control.is_cancelled() {
            return Err(cancelled());
        }
        let stop = self.control.stop();
        let mut worked = false;
        for task in self.tasks[tasks].iter().rev() {
            worked |= task.turn(self.clock.as_ref(), stop)?;
        }
        let over = |task: &Task| task.done() && task.saving.as_ref().is_none_or(|s| s.over.get());
        Ok((worked, self.tasks.iter().all(over)))
    }

    /// Turns the tasks until all have ended.
    pub fn run(&self) -> Result<()> {
        let mut flushed_at = self.clock.monotonic_nanos();
        let (mut caught_up_at, mut catching_up_took) = (flushed_at, 0);
        loop {
            let (worked, done) = self.turn()?;
            let mut now = self.clock.monotonic_nanos();
            let pause = catching_up_took.max(CATCH_UP_EVERY) * if worked { CATCH_UP_BUSY } else { 1 };
            if !done && now - caught_up_at > pause {
                self.catch_up()?;
                caught_up_at = self.clock.monotonic_nanos();
                catching_up_took = caught_up_at - now;
                now = caught_up_at;
            }
            if !worked || now - flushed_at > FLUSH_EVERY {
                self.flush()?;
                flushed_at = now;
            }
            if done {
                return Ok(());
            }
            if !worked {
                self.bell.wait(NAP);
            }
        }
    }
}
