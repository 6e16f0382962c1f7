//! One worker: a thread that turns its tasks, the ones farthest downstream first.

use crate::chain::Chain;
use crate::exchange::{Bell, Inbox, Signal, lock};
use crate::source::SourceDriver;
use millstream_core::{Clock, Error, Result};
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Messages that a task takes from its inbox before another task gets its turn.
const MESSAGES_PER_TURN: usize = 16;
/// How long a worker with nothing to do sleeps before it asks its sources again.
const NAP: Duration = Duration::from_millis(1);
/// Sinks hand on what they hold back at least this often, in nanoseconds.
const FLUSH_EVERY: u64 = 1_000_000_000;

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
        let worked = self.work(clock, stop);
        self.running.set(false);
        worked
    }

    fn work(&self, clock: &dyn Clock, stop: Option<bool>) -> Result<bool> {
        let mut worked = false;
        if let Some(inbox) = &self.inbox {
            for _ in 0..MESSAGES_PER_TURN {
                let Some(message) = inbox.take() else { break };
                worked = true;
                if matches!(message.signal, Signal::End | Signal::Stop) {
                    self.open_channels.set(self.open_channels.get() - 1);
                }
                let (cell, input, channel) = self.channels[message.channel];
                self.chain.deliver(cell, input, channel, message.signal)?;
            }
        }
        let mut sources = self.sources.borrow_mut();
        for source in sources.iter_mut().filter(|s| s.is_empty()) {
            worked |= source.poll(&self.chain, clock.now())?;
        }
        for source in sources.iter_mut() {
            worked |= match stop {
                None => source.poll(&self.chain, clock.now())?,
                Some(_) if source.ended => false,
                Some(drain) => {
                    source.stop(&self.chain, drain)?;
                    true
                }
            };
        }
        Ok(worked)
    }
}

/// Lets a task that waits for room in a queue turn the tasks downstream of it meanwhile.
pub(crate) struct Helper {
    tasks: OnceCell<Weak<Vec<Task>>>,
    /// Position of the task that this helper belongs to, in its worker's order.
    position: usize,
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
}

impl Helper {
    pub fn new(position: usize, control: Arc<Control>, clock: Arc<dyn Clock>) -> Rc<Helper> {
        Rc::new(Helper { tasks: OnceCell::new(), position, control, clock })
    }

    pub fn wait_for_room(&self, inbox: &Inbox) -> Result<()> {
        while !inbox.has_room() {
            if self.control.is_cancelled() {
                return Err(cancelled());
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

    /// Turns the tasks until all have ended.
    pub fn run(&self) -> Result<()> {
        let mut flushed_at = self.clock.monotonic_nanos();
        loop {
            if self.control.is_cancelled() {
                return Err(cancelled());
            }
            let stop = self.control.stop();
            let mut worked = false;
            let mut done = true;
            for task in self.tasks.iter().rev() {
                worked |= task.turn(self.clock.as_ref(), stop)?;
                done &= task.done();
            }
            let now = self.clock.monotonic_nanos();
            if !worked || now - flushed_at > FLUSH_EVERY {
                self.tasks.iter().try_for_each(|t| t.chain.flush())?;
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
