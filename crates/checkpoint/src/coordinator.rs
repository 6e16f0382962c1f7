//! Decides when a checkpoint begins, when it is complete, and what must happen then.
//!
//! ```text
//!  idle ──begin──▶ saving ──every task saved──▶ writing ──manifest written──▶ committing ──committed──▶ idle
//!   ▲                │                            │  └──another run wrote this number──▶ ended, with an error
//!   └──epoch given up┴─ a task could not, or the ─┘
//!      (its saves are   time is up; the manifest            the last epoch is done: ended
//!       kept)           was not written
//! ```
//!
//! The checkpoint of epoch `e` is a promise: after any crash the job goes on as if nothing past `e` had been
//! read. It rests on one order of writes: tasks save, then the manifest is written, then sinks commit.
//!
//! Always true:
//! - One epoch is open at most, and epochs only grow.
//! - The manifest of `e` is written once, after the last task has saved `e` and not before.
//! - Sinks commit `e` after its manifest was written and not before.
//! - What was saved for an epoch that was given up goes into the next manifest: a task's next save holds only what has
//!   changed since its last one, and what a sink prepared is prepared once.
//! - Whoever asked for a checkpoint gets one that began after the asking, or is refused in words.
//!
//! What is asked of the driver: a task reports its saves in the order of their epochs, and only once everything that the
//! save needs is safe: files put, sinks settled. A task that could not save keeps what it would have saved for its next
//! save; one that cannot keep it fails the job. An epoch that was given up may still be saved by tasks that learn of it
//! too late, or be skipped by them.
//!
//! Not here: storage ([`Store`](millstream_core::Store)), lining up barriers (`runtime`), and time: `now` is an
//! argument. Neither are rows: what a task saved is of a type `S` that is kept and handed on.

use millstream_core::{Error, Millis, Result, format_duration};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// How long an epoch that was given up holds back the next attempt, at least: a store that refuses everything at once
/// must not be asked in a tight loop.
pub const RETRY_PAUSE: Millis = 100;

/// Names of tasks that a message lists at most.
const NAMED_TASKS_MAX: usize = 5;

/// A task: one share of the key groups of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub stage: usize,
    pub task: usize,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {} task {}", self.stage, self.task)
    }
}

/// When checkpoints are taken and when they are given up.
#[derive(Debug, Clone)]
pub struct CoordinatorConfig {
    /// Everyone who has to save before an epoch is complete.
    pub tasks: Vec<TaskId>,
    /// From the start of one checkpoint to the start of the next. `None`: only when asked. Sensible 1 s to 10 min.
    /// Shorter: less to replay after a crash, fresher transactional output. Longer: fewer, larger files.
    pub interval: Option<Millis>,
    /// From the start of an epoch until it is given up, while tasks are still saving. Sensible 1 min to 30 min. Nothing
    /// is given up once the manifest is being written: it may be there already.
    pub timeout: Millis,
    /// From the end of one checkpoint to the start of the next that only the interval asks for. Default 0.
    /// Longer: the job is left alone even if checkpoints take as long as the interval.
    pub min_pause: Millis,
    /// So many epochs in a row may be given up; one more ends the job, so that it starts anew from the last manifest.
    /// Default 3. What was saved for them is kept until the next manifest.
    pub failures_max: u32,
    /// From the start of an epoch until its barriers overtake what waits in queues. `None`: never. Shorter: checkpoints
    /// finish sooner under backpressure, and hold more rows that were under way.
    pub overtake_after: Option<Millis>,
}

/// Why a checkpoint is taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Interval,
    /// A user wants to keep it under this name.
    Savepoint {
        name: String,
    },
    /// A micro-batch is to be committed.
    MicroBatch,
    /// All input has been read: the last checkpoint.
    Final,
    /// The job is to stop at this checkpoint: the last one.
    Stop,
}

impl Reason {
    /// Whether the job ends with it.
    pub fn last(&self) -> bool {
        matches!(self, Reason::Final | Reason::Stop)
    }
}

/// What has happened.
#[derive(Debug)]
pub enum Event<S> {
    /// Time has passed; see [`Coordinator::wake`].
    Tick,
    /// Somebody wants a checkpoint.
    Trigger(Reason),
    /// A task has saved everything up to the barrier, and it is safe.
    TaskSaved {
        epoch: u64,
        task: TaskId,
        saved: S,
    },
    /// A task could not save; it has kept what it would have saved.
    TaskFailed {
        epoch: u64,
        why: Error,
    },
    ManifestWritten {
        epoch: u64,
    },
    /// It is certain that the manifest is not there and will not be. The saves come back, for the next one.
    ManifestFailed {
        epoch: u64,
        why: Error,
        saves: Vec<Save<S>>,
    },
    /// Another run has written the manifest of this number.
    ManifestRefused {
        epoch: u64,
        why: Error,
    },
    /// All sinks have committed.
    Committed {
        epoch: u64,
    },
    /// A sink could not commit, and trying again has not helped.
    CommitFailed {
        epoch: u64,
        why: Error,
    },
}

/// What must happen.
#[derive(Debug, PartialEq)]
pub enum Effect<S> {
    /// Ask the sources for barriers. If one of the reasons is the last, they give no row after it.
    Begin { epoch: u64, reasons: Vec<Reason> },
    /// Let the barriers overtake what waits in queues.
    Overtake { epoch: u64 },
    /// Write the manifest from this, then say how it went.
    WriteManifest { epoch: u64, saves: Vec<Save<S>> },
    /// Let the sinks commit what the manifest names.
    Commit { epoch: u64 },
    /// Do not wait for this epoch any more. Whoever asked for it gets the next one.
    GiveUp { epoch: u64, why: Error },
    /// The checkpoint is there and its output visible. After the last one nothing follows.
    Done { epoch: u64, reasons: Vec<Reason> },
    /// No checkpoint will come for this request: the job has ended.
    Refuse { reason: Reason, why: Error },
    /// End the job; a restart goes on from the last manifest. Nothing follows.
    Stop(Error),
}

/// What a task saved for an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Save<S> {
    pub task: TaskId,
    /// The manifest's own, or one before it that was given up.
    pub epoch: u64,
    pub saved: S,
}

/// Where the coordinator is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Saving(Open),
    Writing(Open),
    Committing(Open),
    /// The last checkpoint is done, or the job has to end.
    Ended,
}

/// The open epoch; its number is the coordinator's `epoch`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Open {
    since: Millis,
    reasons: BTreeSet<Reason>,
    overtaken: bool,
}

impl Open {
    fn last(&self) -> bool {
        self.reasons.iter().any(Reason::last)
    }
}

/// Takes a job's checkpoints, one after the other.
#[derive(Debug)]
pub struct Coordinator<S> {
    config: CoordinatorConfig,
    state: State,
    /// The epoch that was begun last; at first that of the restored manifest.
    epoch: u64,
    /// Requests for the next epoch.
    asked: BTreeSet<Reason>,
    /// The epoch that each task saved last.
    saved: BTreeMap<TaskId, u64>,
    /// What was saved since the last manifest, in the order of arrival.
    saves: Vec<Save<S>>,
    /// Epochs given up since the last one that was completed.
    failures: u32,
    /// When the epoch before began, and when it ended; at first when the first event came.
    began: Option<Millis>,
    ended: Millis,
    /// No epoch begins before.
    held_until: Millis,
    now: Millis,
}

impl<S> Coordinator<S> {
    /// `epoch` is that of the restored manifest, or 0.
    pub fn new(config: CoordinatorConfig, epoch: u64) -> Coordinator<S> {
        let saved = config.tasks.iter().map(|task| (*task, epoch)).collect();
        Coordinator {
            config,
            state: State::Idle,
            epoch,
            asked: BTreeSet::new(),
            saved,
            saves: Vec::new(),
            failures: 0,
            began: None,
            ended: Millis::MIN,
            held_until: Millis::MIN,
            now: Millis::MIN,
        }
    }

    /// A clock that was set back stands still here until it has caught up.
    pub fn step(&mut self, event: Event<S>, now: Millis) -> Vec<Effect<S>> {
        self.now = self.now.max(now);
        self.began.get_or_insert(self.now);
        let mut effects = Vec::new();
        match event {
            Event::Tick => {}
            Event::Trigger(reason) => self.ask(reason, &mut effects),
            Event::TaskSaved { epoch, task, saved } => self.take_save(Save { task, epoch, saved }, &mut effects),
            Event::TaskFailed { epoch, why } => {
                if matches!(self.state, State::Saving(_)) && epoch == self.epoch {
                    self.give_up(why, &mut effects);
                }
            }
            Event::ManifestWritten { epoch } => self.commit(epoch, &mut effects),
            Event::ManifestFailed { epoch, why, saves } => match self.state {
                State::Writing(_) if epoch == self.epoch => {
                    self.saves = saves;
                    self.give_up(why, &mut effects);
                }
                State::Ended => {}
                _ => self.misled(format!("manifest {epoch} failed, which was not being written"), &mut effects),
            },
            Event::ManifestRefused { why, .. } | Event::CommitFailed { why, .. } => self.stop(why, &mut effects),
            Event::Committed { epoch } => self.complete(epoch, &mut effects),
        }
        self.go_on(&mut effects);
        effects
    }

    /// When time alone will change something; the next [`Event::Tick`] need not come before.
    pub fn wake(&self) -> Option<Millis> {
        match &self.state {
            State::Idle => self.due(),
            State::Saving(open) => {
                let time_up = open.since.saturating_add(self.config.timeout);
                let overtake = self.config.overtake_after.filter(|_| !open.overtaken);
                Some(overtake.map_or(time_up, |after| time_up.min(open.since.saturating_add(after))))
            }
            State::Writing(_) | State::Committing(_) | State::Ended => None,
        }
    }

    /// The epoch that is open.
    pub fn open(&self) -> Option<u64> {
        (!matches!(self.state, State::Idle | State::Ended)).then_some(self.epoch)
    }

    /// What follows from where we are, whatever has just happened.
    fn go_on(&mut self, effects: &mut Vec<Effect<S>>) {
        if self.state == State::Idle && self.due().is_some_and(|due| due <= self.now) {
            self.begin(effects);
        }
        let State::Saving(open) = &mut self.state else { return };
        if self.saved.values().all(|saved| *saved == self.epoch) {
            self.write(effects);
            return;
        }
        let waited = self.now.saturating_sub(open.since);
        if waited >= self.config.timeout {
            let why = self.time_is_up();
            self.give_up(why, effects);
        } else if !open.overtaken && self.config.overtake_after.is_some_and(|after| waited >= after) {
            open.overtaken = true;
            effects.push(Effect::Overtake { epoch: self.epoch });
        }
    }

    /// When the next epoch begins, if none is open and nobody else asks for one.
    fn due(&self) -> Option<Millis> {
        let by_interval = self.config.interval.map(|interval| {
            // An interval counts from the first event on.
            self.began.map_or(self.now, |began| began.saturating_add(interval))
        });
        let by_interval = if self.asked.contains(&Reason::Interval) { Some(self.now) } else { by_interval };
        let by_interval = by_interval.map(|at| at.max(self.ended.saturating_add(self.config.min_pause)));
        let by_request = self.asked.iter().any(|r| *r != Reason::Interval).then_some(self.now);
        let due = [by_interval, by_request].into_iter().flatten().min()?;
        Some(due.max(self.held_until))
    }

    fn ask(&mut self, reason: Reason, effects: &mut Vec<Effect<S>>) {
        match &mut self.state {
            State::Ended => effects.push(refused(reason)),
            // Nothing is read after the last epoch's barrier, so it holds all that the asker can want to have in it.
            State::Saving(open) | State::Writing(open) | State::Committing(open) if open.last() => {
                open.reasons.insert(reason);
            }
            _ => {
                self.asked.insert(reason);
            }
        }
    }

    fn begin(&mut self, effects: &mut Vec<Effect<S>>) {
        self.epoch += 1;
        self.began = Some(self.now);
        let mut reasons = std::mem::take(&mut self.asked);
        if reasons.is_empty() {
            reasons.insert(Reason::Interval);
        }
        effects.push(Effect::Begin { epoch: self.epoch, reasons: reasons.iter().cloned().collect() });
        self.state = State::Saving(Open { since: self.now, reasons, overtaken: false });
    }

    fn take_save(&mut self, save: Save<S>, effects: &mut Vec<Effect<S>>) {
        let (task, epoch) = (save.task, save.epoch);
        let Some(before) = self.saved.get_mut(&task) else {
            return self.misled(format!("{task} saved epoch {epoch} and is no task of this job"), effects);
        };
        if epoch <= *before || epoch > self.epoch {
            let what = format!("{task} saved epoch {epoch} after epoch {before}, the newest is {}", self.epoch);
            return self.misled(what, effects);
        }
        *before = epoch;
        if self.state != State::Ended {
            self.saves.push(save);
        }
    }

    fn write(&mut self, effects: &mut Vec<Effect<S>>) {
        let State::Saving(open) = std::mem::replace(&mut self.state, State::Idle) else { return };
        self.state = State::Writing(open);
        // Of one task, older ones first: that is the order in which they came.
        let mut saves = std::mem::take(&mut self.saves);
        saves.sort_by_key(|save| (save.task, save.epoch));
        effects.push(Effect::WriteManifest { epoch: self.epoch, saves });
    }

    fn commit(&mut self, epoch: u64, effects: &mut Vec<Effect<S>>) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Writing(open) if epoch == self.epoch => {
                self.state = State::Committing(open);
                effects.push(Effect::Commit { epoch });
            }
            State::Ended => {}
            other => {
                self.state = other;
                self.misled(format!("manifest {epoch} was written without being asked for"), effects);
            }
        }
    }

    fn complete(&mut self, epoch: u64, effects: &mut Vec<Effect<S>>) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Committing(open) if epoch == self.epoch => {
                self.failures = 0;
                self.ended = self.now;
                let last = open.last();
                effects.push(Effect::Done { epoch, reasons: open.reasons.into_iter().collect() });
                if last {
                    self.refuse_asked(effects);
                } else {
                    self.state = State::Idle;
                }
            }
            State::Ended => {}
            other => {
                self.state = other;
                self.misled(format!("epoch {epoch} was committed without being asked for"), effects);
            }
        }
    }

    fn give_up(&mut self, why: Error, effects: &mut Vec<Effect<S>>) {
        let open = match std::mem::replace(&mut self.state, State::Idle) {
            State::Saving(open) | State::Writing(open) => open,
            other => {
                self.state = other;
                return;
            }
        };
        // Whoever asked for it asks for the next one.
        self.asked.extend(open.reasons);
        self.failures += 1;
        if self.failures > self.config.failures_max {
            let count = self.failures;
            let what = format!("{count} checkpoints in a row were given up, the last one because: {}", why.what());
            let mut stop = Error::new(why.kind(), what);
            if let Some(place) = why.place() {
                stop = stop.at(place.clone());
            }
            let remedy = why.help().unwrap_or("see the log for the ones before; the job goes on from the last one");
            return self.stop(stop.remedy(remedy), effects);
        }
        effects.push(Effect::GiveUp { epoch: self.epoch, why });
        self.ended = self.now;
        self.held_until = self.now.saturating_add(self.config.min_pause.max(RETRY_PAUSE));
    }

    fn time_is_up(&self) -> Error {
        let missing: Vec<String> =
            self.saved.iter().filter(|(_, saved)| **saved < self.epoch).map(|(task, _)| task.to_string()).collect();
        let named = missing[..missing.len().min(NAMED_TASKS_MAX)].join(", ");
        let more = if missing.len() > NAMED_TASKS_MAX { ", .." } else { "" };
        let timeout = format_duration(Duration::from_millis(self.config.timeout.max(0).unsigned_abs()));
        Error::io(format!(
            "epoch {} was not saved within {timeout}: {} of {} tasks are missing ({named}{more})",
            self.epoch,
            missing.len(),
            self.saved.len(),
        ))
        .remedy("a slow sink or a hot key holds the barriers back: see which task is busy, or allow more time")
    }

    /// The driver and we do not agree on what has happened: to go on could lose rows, to start anew cannot.
    fn misled(&mut self, what: String, effects: &mut Vec<Effect<S>>) {
        self.stop(Error::internal(format!("checkpoint coordinator: {what}")), effects);
    }

    fn stop(&mut self, why: Error, effects: &mut Vec<Effect<S>>) {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return,
            State::Idle => {}
            State::Saving(open) | State::Writing(open) | State::Committing(open) => self.asked.extend(open.reasons),
        }
        self.saves.clear();
        effects.push(Effect::Stop(why));
        self.refuse_asked(effects);
    }

    fn refuse_asked(&mut self, effects: &mut Vec<Effect<S>>) {
        effects.extend(std::mem::take(&mut self.asked).into_iter().filter(|r| *r != Reason::Interval).map(refused));
    }
}

fn refused<S>(reason: Reason) -> Effect<S> {
    let why = Error::usage("the job has ended: it takes no more checkpoints")
        .remedy("its last checkpoint is in its store, ready to be restored");
    Effect::Refuse { reason, why }
}

impl CoordinatorConfig {
    /// # Errors
    /// A setting makes no sense.
    pub fn check(&self) -> Result<()> {
        let positive = |name: &str, value: Millis, least: Millis| {
            if value >= least {
                return Ok(());
            }
            let unit = "use a length of time such as '10 s'";
            Err(Error::usage(format!("the checkpoints' {name} cannot be {value} ms")).remedy(unit))
        };
        positive("interval", self.interval.unwrap_or(1), 1)?;
        positive("time-out", self.timeout, 1)?;
        positive("pause", self.min_pause, 0)?;
        positive("time until barriers overtake", self.overtake_after.unwrap_or(0), 0)
    }
}

#[cfg(test)]
mod tests;
