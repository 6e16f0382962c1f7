//! A job that one thread turns step by step: the same layout, tasks and checkpoints as [`start`](crate::start) runs on
//! threads, with the order of everything in the caller's turns.
//!
//! ```text
//!  Job                                   Stepped
//!  a thread for each worker: turn, turn  turn(0), turn(2), turn_task(2, 1), ..   whoever the caller chooses
//!  the checkpoint thread: turn, turn     turn_checkpoints()                      one message, or the time
//!  a full queue: nap                     a full queue: other workers' tasks farther downstream are turned
//! ```
//!
//! It is how a simulator drives the engine. A crash is to drop it: no sink is told, nothing is flushed.
//!
//! Always true: nothing here waits, sleeps or starts a thread.

use crate::checkpoint::{Ask, Driver, Message};
use crate::job::{JobConfig, Layout, Stop, lay_out};
use crate::metrics::Metrics;
use crate::metrics::Snapshot;
use crate::placement::Placement;
use crate::side::Sides;
use crate::worker::{Control, Crowd, Task, Worker};
use millstream_core::{Connectors, Error, Result, Sink};
use millstream_dataflow::graph::Dataflow;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

/// What a worker's turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Worked,
    /// There was nothing to do; it would sleep now.
    Idle,
    /// All its tasks have ended.
    Over,
}

/// What a caller decides beside whose turn it is.
pub struct Turns {
    /// Which of so many tasks is asked first to make room in a queue.
    pub choose: Rc<dyn Fn(usize) -> usize>,
    /// Messages that a task takes from its queue in one turn, at least 1. Few: queues fill, and barriers wait in them.
    pub messages_max: usize,
}

/// A job, turned by turns.
pub struct Stepped {
    workers: Vec<Worker>,
    over: Vec<bool>,
    driver: Option<Driver>,
    reports: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
    control: Arc<Control>,
    metrics: Arc<Metrics>,
    placement: Placement,
    sides: Arc<Sides>,
}

impl Stepped {
    /// Opens the tables of `dataflow` and builds its workers.
    pub fn start(dataflow: &Dataflow, connectors: &dyn Connectors, config: JobConfig, turns: Turns) -> Result<Stepped> {
        let clock = config.clock.clone();
        let laid_out = lay_out(dataflow, connectors, config, &|_| {})?;
        let Layout { placement, metrics, control, bells, sides, builds, driver, reports, messages } = laid_out;
        let mut workers = Vec::with_capacity(builds.len());
        for (index, (build, mine)) in builds.into_iter().enumerate() {
            workers.push(Worker::new(build.tasks(mine)?, control.clone(), clock.clone(), bells[index].clone()));
        }
        let tasks = workers.iter().map(|w| Rc::downgrade(&w.tasks)).collect();
        let crowd = Rc::new(Crowd { tasks, choose: turns.choose, messages_max: turns.messages_max.max(1) });
        workers.iter().for_each(|w| w.join(&crowd));
        let over = vec![false; workers.len()];
        let mut job = Stepped { workers, over, driver, reports, messages, control, metrics, placement, sides };
        // As the checkpoint thread does before it waits.
        if let Some(driver) = &mut job.driver {
            driver.turn(None);
        }
        Ok(job)
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Gives each task of a worker a turn.
    ///
    /// # Errors
    /// The job has failed; every later turn fails too.
    pub fn turn(&mut self, worker: usize) -> Result<Turn> {
        self.turn_of(worker, 0..self.tasks(worker))
    }

    /// Tasks of a worker, those upstream first.
    pub fn tasks(&self, worker: usize) -> usize {
        self.workers[worker].tasks.len()
    }

    /// Gives one task of a worker a turn: the worker's thread would have been held up in it for as long.
    ///
    /// # Errors
    /// As [`turn`](Stepped::turn).
    pub fn turn_task(&mut self, worker: usize, task: usize) -> Result<Turn> {
        self.turn_of(worker, task..task + 1)
    }

    fn turn_of(&mut self, worker: usize, tasks: Range<usize>) -> Result<Turn> {
        if self.over[worker] {
            return Ok(Turn::Over);
        }
        let turned = self.turn_tasks(worker, tasks);
        if let Err(e) = &turned {
            // The first error stays: this may be what another worker gives up with.
            self.control.fail(e.clone());
        }
        turned
    }

    fn turn_tasks(&mut self, worker: usize, tasks: Range<usize>) -> Result<Turn> {
        let (worked, done) = self.workers[worker].turn_of(tasks)?;
        if !worked {
            self.workers[worker].catch_up()?;
            self.workers[worker].flush()?;
        }
        self.over[worker] = done;
        Ok(match (done, worked) {
            (true, _) => Turn::Over,
            (false, true) => Turn::Worked,
            (false, false) => Turn::Idle,
        })
    }

    /// Hands the checkpoint driver one message that waits for it, or the time alone. Whether there was a message.
    pub fn turn_checkpoints(&mut self) -> bool {
        let gone = self.over.iter().all(|o| *o);
        let Some(driver) = self.driver.as_mut().filter(|d| !d.is_over()) else { return false };
        let message = self.messages.try_recv().ok();
        let waited = message.is_some();
        driver.turn(message.or(gone.then_some(Message::WorkersGone)));
        waited
    }

    /// Asks for a checkpoint, as [`Job::checkpoint`](crate::Job::checkpoint).
    pub fn checkpoint(&self, savepoint: Option<String>) -> mpsc::Receiver<Result<u64>> {
        let (reply, answer) = mpsc::channel();
        let _ = self.reports.send(Message::Ask(Ask { savepoint, reply }));
        answer
    }

    pub fn stop(&self, how: Stop) {
        self.control.ask_to_stop(how == Stop::Drain);
    }

    /// Whether everything has ended well: the tasks, and the last checkpoint.
    pub fn is_over(&self) -> bool {
        self.over.iter().all(|o| *o) && self.driver.as_ref().is_none_or(Driver::is_over)
    }

    pub fn failure(&self) -> Option<Error> {
        self.control.failure()
    }

    /// Ends a job that is over or has failed: its sinks finish, or take back what is not finished.
    ///
    /// # Errors
    /// Why the job has failed.
    pub fn finish(self) -> Result<Snapshot> {
        let saves = self.driver.is_some();
        let Stepped { workers, driver, sides, control, metrics, reports, messages, .. } = self;
        drop((driver, reports, messages));
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        for worker in workers {
            let tasks: Vec<Task> = Rc::try_unwrap(worker.tasks).unwrap_or_default();
            sinks.extend(tasks.into_iter().flat_map(|t| t.chain.into_sinks()));
        }
        sinks.extend(Arc::into_inner(sides).map(Sides::into_sinks).unwrap_or_default());
        if let Some(error) = control.failure() {
            sinks.iter_mut().for_each(|s| s.abort());
            return Err(error);
        }
        for i in 0..sinks.len() {
            if saves && sinks[i].commits() {
                continue;
            }
            if let Err(e) = sinks[i].finish() {
                sinks[i..].iter_mut().for_each(|s| s.abort());
                return Err(e);
            }
        }
        Ok(metrics.snapshot())
    }
}
