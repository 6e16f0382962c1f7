//! The checkpoint thread: carries out what the coordinator decides.
//!
//! It takes in what tasks hand over, writes it, writes the manifest, and lets the sinks commit. It never waits inside of
//! a step but for the store: what has to be tried again later is tried in a later turn, so that a simulator can drive it
//! too.

use super::files;
use super::manifest::{Memory, Written, WrittenNode};
use super::{CheckpointConfig, NodeSave, TaskAt, TaskSave};
use crate::exchange::Bell;
use crate::metrics::{Metrics, Reached};
use crate::placement::Placement;
use crate::sabotage::{Bug, on};
use crate::side::{Sides, Which};
use crate::worker::Control;
use arrow::array::RecordBatch;
use millstream_checkpoint::Manifest;
use millstream_checkpoint::coordinator::{Coordinator, CoordinatorConfig, Effect, Event, Reason, TaskId};
use millstream_checkpoint::manifest::{
    CommittableState, FileRef, InFlight, check_savepoint_name, data_path, is_savepoint, savepoint_path,
};
use millstream_checkpoint::recover::{replaced, superseded};
use millstream_checkpoint::retain::{self, Inventory};
use millstream_core::{
    Batch, Clock, Committable, Committer, Error, ErrorKind, Millis, Prepared, Put, Result, RetryPolicy, Stored, Tries,
};
use millstream_state::chain::{Desk, each_alive};
use millstream_state::parquet;
use millstream_state::room::SaveRoom;
use millstream_state::table::Later;
use millstream_state::view::View;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How long the thread sleeps at most before it looks at the clock.
const NAP: Duration = Duration::from_millis(20);

/// A commit that failed is tried again so often before the job fails. A restart then goes on with it. About a minute and a
/// half in all.
const COMMIT_RETRY: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(200), most: Duration::from_secs(30), tries_max: 12 };

/// The same at the start, where somebody waits for it.
const AGAIN_RETRY: RetryPolicy = RetryPolicy { tries_max: COMMIT_RETRY.tries_max / 2, ..COMMIT_RETRY };

/// A file of a table is no larger, however much memory there is.
const FILE_BYTES_MAX: usize = 64 << 20;

/// What the checkpoint thread is told.
pub(crate) enum Message {
    Saved(TaskSave),
    Ask(Ask),
    /// The workers have returned: nothing will be saved any more.
    WorkersGone,
}

/// Somebody wants a checkpoint, and waits for the number of its manifest.
pub struct Ask {
    /// Kept under this name until it is deleted; `None`: one like all others.
    pub savepoint: Option<String>,
    pub reply: Sender<Result<u64>>,
}

/// What tasks look at to see whether they are to be saved.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    epoch: AtomicU64,
    overtake: AtomicU64,
    committed: AtomicU64,
}

impl Requests {
    /// The newest epoch that is safe and that every sink has shown.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// The newest epoch that barriers are asked for.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Barriers of this epoch and older ones may overtake.
    pub fn overtaking(&self) -> u64 {
        self.overtake.load(Ordering::Acquire)
    }

    pub fn overtake(&self, epoch: u64) {
        self.overtake.fetch_max(epoch, Ordering::AcqRel);
    }
}

pub(crate) struct Driver {
    pub config: CheckpointConfig,
    pub coordinator: Coordinator<Written>,
    pub requests: Arc<Requests>,
    pub control: Arc<Control>,
    pub bells: Vec<Arc<Bell>>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    pub sides: Arc<Sides>,
    /// For what tasks have handed over, and as much again to write and merge it.
    pub room: Arc<SaveRoom>,
    pub memory: Memory,
    /// By the id of the sink's node.
    pub committers: BTreeMap<String, Box<dyn Committer>>,
    tasks: usize,
    /// Tasks that have ended: what they saved last, until an epoch takes it.
    ended: BTreeMap<TaskAt, Option<Written>>,
    /// What could not be written yet, by task, oldest first.
    unwritten: BTreeMap<TaskAt, VecDeque<TaskSave>>,
    committing: Option<Committing>,
    asks: Vec<Ask>,
    /// Why the store did not take a save, the last time.
    not_written: Option<Error>,
    last_saves: LastSaves,
    over: bool,
    /// For file names: no two files of a run have the same.
    files: u64,
}

/// The last saves of tasks that have ended, where the store did not take them.
struct LastSaves {
    tries: Tries,
    next_try: Millis,
}

/// What a file is to be called by.
#[derive(Clone, Copy)]
struct File<'a> {
    /// Index in the placement.
    node: usize,
    task: usize,
    epoch: u64,
    what: &'a str,
}

/// A commit under way.
struct Committing {
    epoch: u64,
    /// Sinks that have still to commit.
    sinks: VecDeque<String>,
    tries: Tries,
    next_try: Millis,
}

impl Driver {
    #[expect(clippy::too_many_arguments, reason = "the parts of a job, named one by one where it is put together")]
    pub fn new(
        config: CheckpointConfig,
        tasks: Vec<TaskAt>,
        memory: Memory,
        committers: BTreeMap<String, Box<dyn Committer>>,
        requests: Arc<Requests>,
        control: Arc<Control>,
        bells: Vec<Arc<Bell>>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        sides: Arc<Sides>,
        room: Arc<SaveRoom>,
    ) -> Driver {
        let millis = |d: Duration| d.as_millis().min(i64::MAX as u128) as Millis;
        let coordinator = CoordinatorConfig {
            tasks: tasks.iter().map(|t| TaskId { stage: t.stage, task: t.task }).collect(),
            interval: config.interval.map(millis),
            timeout: millis(config.timeout),
            min_pause: millis(config.min_pause),
            failures_max: config.failures_max,
            overtake_after: config.overtake_after.map(millis),
        };
        let last = COMMIT_RETRY.tries(&format!("{}/last", config.job));
        Driver {
            coordinator: Coordinator::new(coordinator, memory.epoch),
            config,
            requests,
            control,
            bells,
            clock,
            metrics,
            sides,
            room,
            memory,
            committers,
            tasks: tasks.len(),
            ended: BTreeMap::new(),
            unwritten: BTreeMap::new(),
            committing: None,
            asks: Vec::new(),
            not_written: None,
            last_saves: LastSaves { tries: last, next_try: Millis::MIN },
            over: false,
            files: 0,
        }
    }

    /// Works until the last checkpoint is done or the job has failed.
    pub fn run(mut self, messages: &Receiver<Message>) {
        self.turn(None);
        while !self.over {
            let message = match messages.recv_timeout(self.nap()) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    // Nobody can wake it any more; what is due by the clock still is.
                    std::thread::sleep(self.nap());
                    Some(Message::WorkersGone)
                }
            };
            self.turn(message);
        }
    }

    /// How long nothing will be due.
    fn nap(&self) -> Duration {
        let retry = self.committing.as_ref().map(|c| c.next_try);
        let last = (self.last_saves.tries.failed() > 0).then_some(self.last_saves.next_try);
        let due = [self.coordinator.wake(), retry, last].into_iter().flatten().min();
        let millis = due.map_or(i64::MAX, |at| at.saturating_sub(self.clock.now()));
        NAP.min(Duration::from_millis(millis.max(0) as u64))
    }

    /// The views of the job, by node and table.
    pub fn views(&self, placement: &Placement) -> BTreeMap<(String, String), Arc<View>> {
        let named = |((node, table), view): (&(usize, String), &Arc<View>)| {
            ((placement.nodes[*node].id.clone(), table.clone()), view.clone())
        };
        self.memory.views.iter().map(named).collect()
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Takes in a message, if there is one, and does what is due.
    pub fn turn(&mut self, message: Option<Message>) {
        if self.control.is_cancelled() {
            self.end(Error::io("the job has failed").remedy("see the job's own error"));
            return;
        }
        let done = match message {
            None => self.step(Event::Tick),
            Some(Message::Saved(save)) => self.take_in(save),
            Some(Message::Ask(ask)) => {
                let reason = match &ask.savepoint {
                    Some(name) => Reason::Savepoint { name: name.clone() },
                    None => Reason::MicroBatch,
                };
                self.asks.push(ask);
                self.step(Event::Trigger(reason))
            }
            Some(Message::WorkersGone) => self.workers_gone(),
        };
        if let Err(e) = done.and_then(|()| self.commit_where_due()) {
            self.control.fail(e.clone());
            self.bells.iter().for_each(|b| b.ring());
            self.end(e);
        }
    }

    fn end(&mut self, why: Error) {
        self.over = true;
        for ask in self.asks.drain(..) {
            let _ = ask.reply.send(Err(why.clone()));
        }
    }

    fn take_in(&mut self, save: TaskSave) -> Result<()> {
        self.metrics.checkpoints.reached(Reached::Saved, self.clock.now());
        let task = save.task;
        self.unwritten.entry(task).or_default().push_back(save);
        self.write_saves(task)
    }

    /// Nothing new comes. Whatever the tasks had to say has been said before, but the store may not have taken it yet.
    fn workers_gone(&mut self) -> Result<()> {
        self.step(Event::Tick)?;
        if self.ended.len() == self.tasks || self.coordinator.open().is_some() || self.over {
            return Ok(());
        }
        let waiting: Vec<TaskAt> = self.unwritten.iter().filter(|(_, s)| !s.is_empty()).map(|(t, _)| *t).collect();
        if waiting.is_empty() {
            return Err(Error::internal("the workers ended without a last save"));
        }
        // No epoch may ever begin by itself again, so the last saves are tried again without one.
        let now = self.clock.now();
        if now < self.last_saves.next_try {
            return Ok(());
        }
        if let Some(why) = self.not_written.take() {
            let Some(pause) = self.last_saves.tries.after_failure() else { return Err(why) };
            self.last_saves.next_try = now.saturating_add(pause.as_millis() as Millis);
            return Ok(());
        }
        waiting.into_iter().try_for_each(|task| self.write_saves(task))
    }

    /// Writes what a task has handed over, oldest first. What the store does not take is kept for the next time.
    fn write_saves(&mut self, task: TaskAt) -> Result<()> {
        while let Some(mut save) = self.unwritten.get_mut(&task).and_then(VecDeque::pop_front) {
            let (epoch, last) = (save.epoch, save.last);
            match self.write_save(&mut save)? {
                Ok(written) if epoch == 0 => {
                    self.ended.insert(task, Some(written));
                    if self.coordinator.open().is_some_and(|open| last < open) {
                        self.report_ended(task)?;
                    }
                    if self.ended.len() == self.tasks {
                        self.step(Event::Trigger(Reason::Final))?;
                    }
                }
                Ok(written) => self.step(Event::TaskSaved { epoch, task: id(task), saved: written })?,
                Err(why) => {
                    self.unwritten.entry(task).or_default().push_front(save);
                    self.not_written = Some(why.clone());
                    let epoch = if epoch == 0 { self.coordinator.open().unwrap_or(0) } else { epoch };
                    return self.step(Event::TaskFailed { epoch, why });
                }
            }
        }
        Ok(())
    }

    /// A task that has ended counts as saved for the open epoch.
    fn report_ended(&mut self, task: TaskAt) -> Result<()> {
        let Some(epoch) = self.coordinator.open() else { return Ok(()) };
        let Some(saved) = self.ended.get_mut(&task) else { return Ok(()) };
        let saved = saved.take().unwrap_or_default();
        self.step(Event::TaskSaved { epoch, task: id(task), saved })
    }

    /// The outer error ends the job; the inner one is the store's, and may pass.
    fn write_save(&mut self, save: &mut TaskSave) -> Result<Result<Written>> {
        let mut written = Written { set_aside: save.set_aside.clone(), nodes: Vec::new() };
        let epoch = if save.epoch > 0 { save.epoch } else { save.last + 1 };
        for node in &mut save.nodes {
            // Whatever a sink waits for comes first, and only once.
            if let Some(prepared) = &mut node.prepared
                && let Some(settle) = prepared.settle.take()
                && !on(Bug::SettleSkipped)
            {
                settle()?;
            }
            match self.write_node(save.task, epoch, node) {
                Ok(node) => written.nodes.push(node),
                Err(e) => return Ok(Err(e)),
            }
        }
        Ok(Ok(written))
    }

    fn write_node(&mut self, task: TaskAt, epoch: u64, node: &NodeSave) -> Result<WrittenNode> {
        let (mut files, mut viewed) = (BTreeMap::new(), Vec::new());
        let saved = &node.saved;
        for table in &node.tables {
            let below = saved.below.iter().filter(|l| l.table.name == table.name).flat_map(Later::read);
            let pieces = saved.pieces.iter().filter(|p| p.table.name == table.name).map(|p| Ok(p.rows.clone()));
            let later = saved.later.iter().filter(|l| l.table.name == table.name).flat_map(Later::read);
            let view = self.memory.views.get(&(node.node, table.name.clone())).cloned();
            let rows = below.chain(pieces).chain(later).inspect(|rows| {
                if let (Some(view), Ok(rows)) = (&view, rows) {
                    viewed.push((view.clone(), rows.clone()));
                }
            });
            let file = File { node: node.node, task: task.task, epoch, what: &table.name };
            let encoder = parquet::Encoder::new(&table.piece_schema(), self.file_bytes_max());
            let mut written = self.write_rows(file, encoder, rows)?;
            written.iter_mut().for_each(|f| f.whole = node.whole);
            let forgotten = on(Bug::DeltaForgotten) && !node.whole && self.files.is_multiple_of(3);
            if !written.is_empty() && !forgotten {
                files.insert(table.name.clone(), written);
            }
        }
        let mut in_flight = Vec::new();
        for (input, batch) in &node.in_flight {
            let file = File { node: node.node, task: task.task, epoch, what: "in-flight" };
            let written = self.write_batches(file, std::slice::from_ref(batch))?;
            in_flight.extend(written.map(|file| InFlight { task: task.task, input: *input, file }));
        }
        let committable = match &node.prepared {
            Some(prepared) => self.write_prepared(node.node, task, epoch, prepared)?,
            None => None,
        };
        Ok(WrittenNode {
            node: node.node,
            task: task.task,
            watermarks: node.watermarks,
            tables: node.tables.clone(),
            files,
            whole: node.whole,
            partitions: node.partitions.clone(),
            in_flight,
            committable,
            viewed,
        })
    }

    fn write_prepared(
        &mut self,
        node: usize,
        task: TaskAt,
        epoch: u64,
        prepared: &Prepared,
    ) -> Result<Option<(CommittableState, Vec<Batch>)>> {
        if prepared.committable.is_none() && prepared.outbox.is_empty() {
            return Ok(None);
        }
        let file = File { node, task: task.task, epoch, what: "outbox" };
        let outbox = self.write_batches(file, &prepared.outbox)?;
        let state = CommittableState { data: prepared.committable.clone(), outbox };
        Ok(Some((state, prepared.outbox.clone())))
    }

    /// One file of batches; none where there are no rows.
    fn write_batches(&mut self, file: File<'_>, batches: &[Batch]) -> Result<Option<FileRef>> {
        let Some(first) = batches.first() else { return Ok(None) };
        let schema = files::flatten(first)?.schema();
        let encoder = parquet::Encoder::passing(&schema, usize::MAX);
        Ok(self.write_rows(file, encoder, batches.iter().map(files::flatten))?.pop())
    }

    fn write_rows(
        &mut self,
        file: File<'_>,
        encoder: parquet::Encoder,
        mut rows: impl Iterator<Item = Result<RecordBatch>>,
    ) -> Result<Vec<FileRef>> {
        self.writing(file, encoder, |writer| rows.try_for_each(|rows| writer.push(&rows?)))
    }

    /// The files of what `write` writes.
    fn writing(
        &mut self,
        file: File<'_>,
        encoder: parquet::Encoder,
        write: impl FnOnce(&mut files::Writer<'_>) -> Result<()>,
    ) -> Result<Vec<FileRef>> {
        let generation = self.memory.generation;
        let File { node, task, epoch, what } = file;
        let node = self.memory.nodes.get(node).map_or("sides", |n| n.id.as_str());
        // A node's id is text of the query's making; the number alone tells files apart.
        let node: String =
            node.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(40).collect();
        let number = &mut self.files;
        let mut path = || {
            *number += 1;
            data_path(epoch, generation, &format!("{node}-{task}-{what}-{number}.parquet"))
        };
        let mut writer = files::Writer::new(self.config.store.as_ref(), epoch, encoder, &mut path);
        write(&mut writer)?;
        let files = writer.finish()?;
        self.metrics.checkpoints.bytes.fetch_add(files.iter().map(|f| f.bytes).sum(), Ordering::Relaxed);
        Ok(files)
    }

    /// A file of a table that has come to so many bytes is finished. While one is encoded it is held twice.
    fn file_bytes_max(&self) -> usize {
        (self.room.bytes_max() / 2).min(FILE_BYTES_MAX)
    }

    /// Tells the coordinator, and does what it says.
    fn step(&mut self, event: Event<Written>) -> Result<()> {
        let now = self.clock.now();
        for effect in self.coordinator.step(event, now) {
            self.carry_out(effect)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect<Written>) -> Result<()> {
        match effect {
            Effect::Begin { epoch, .. } => {
                self.metrics.checkpoints.begin(epoch, self.clock.now());
                self.requests.epoch.store(epoch, Ordering::Release);
                self.bells.iter().for_each(|b| b.ring());
                for task in self.ended.keys().copied().collect::<Vec<_>>() {
                    self.report_ended(task)?;
                }
                // What an earlier epoch could not write.
                let waiting: Vec<_> = self.unwritten.iter().filter(|(_, s)| !s.is_empty()).map(|(t, _)| *t).collect();
                waiting.into_iter().try_for_each(|task| self.write_saves(task))
            }
            Effect::Overtake { epoch } => {
                self.requests.overtake(epoch);
                self.bells.iter().for_each(|b| b.ring());
                Ok(())
            }
            Effect::WriteManifest { epoch, saves } => {
                self.metrics.checkpoints.reached(Reached::Written, self.clock.now());
                for mut save in saves {
                    if save.epoch < epoch && on(Bug::GivenUpCommittablesForgotten) {
                        save.saved.nodes.iter_mut().for_each(|n| n.committable = None);
                    }
                    if save.epoch < epoch && on(Bug::SideRowsLost) {
                        save.saved.set_aside.clear();
                    }
                    // Rows set aside go to their outputs with the epoch that holds the rows around them.
                    save.saved.set_aside.iter().try_for_each(|rows| self.sides.write(rows))?;
                    self.memory.apply(save.saved);
                }
                if on(Bug::CommitBeforeManifest) {
                    self.commit_all(epoch)?;
                }
                self.write_manifest(epoch)
            }
            Effect::Commit { epoch } => {
                let sinks = self.memory.sinks_to_commit();
                self.committing = Some(Committing {
                    epoch,
                    sinks,
                    tries: COMMIT_RETRY.tries(&self.config.job),
                    next_try: Millis::MIN,
                });
                Ok(())
            }
            Effect::GiveUp { epoch, why } => {
                self.metrics.checkpoints.given_up(epoch, &why, self.clock.now());
                Ok(())
            }
            Effect::Done { epoch, reasons } => self.done(epoch, &reasons),
            Effect::Refuse { reason, why } => {
                self.reply(&reason, &Err(why));
                Ok(())
            }
            Effect::Stop(why) => {
                self.metrics.checkpoints.failed.fetch_add(1, Ordering::Relaxed);
                Err(why)
            }
        }
    }

    fn write_manifest(&mut self, epoch: u64) -> Result<()> {
        for which in Which::ALL {
            if let Some(mut prepared) = self.sides.prepare(which, epoch)? {
                if let Some(settle) = prepared.settle.take() {
                    settle()?;
                }
                let at = TaskAt { stage: 0, task: 0 };
                if let Some((state, rows)) = self.write_prepared(usize::MAX, at, epoch, &prepared)? {
                    self.memory.add_committable(which.id(), state, rows);
                }
            }
        }
        let finished =
            self.ended.len() == self.tasks && self.control.stop() != Some(false) && !self.config.available_now;
        let manifest = self.memory.manifest(epoch, self.clock.now(), finished);
        match self.config.store.put(&Manifest::path(manifest.number), &manifest.to_json(), Put::Create) {
            Ok(Stored::Yes) => self.manifest_written(&manifest),
            Ok(Stored::Exists) if on(Bug::ZombieNotFenced) => self.manifest_written(&manifest),
            Ok(Stored::Exists) => self.refused(&manifest),
            Err(why) => {
                // Whether it is there now is not certain until it has been looked for.
                match self.config.store.get(&Manifest::path(manifest.number)) {
                    Ok(Some(bytes)) if bytes == manifest.to_json() => self.manifest_written(&manifest),
                    Ok(Some(_)) => self.refused(&manifest),
                    // What has been saved stands in `memory` by now and goes into the next one.
                    Ok(None) => self.step(Event::ManifestFailed { epoch, why, saves: Vec::new() }),
                    Err(_) => Err(why.remedy("repair the store, then start the job again: it goes on where it was")),
                }
            }
        }
    }

    /// The manifest is there; it counts unless a later run has gone on already.
    fn manifest_written(&mut self, manifest: &Manifest) -> Result<()> {
        // Without an answer it is not known whether this run may commit. It ends; the next one goes on from here.
        let listed = self.config.store.list("manifests/")?;
        if superseded(manifest.number, &listed).is_some() && !on(Bug::ZombieNotFenced) {
            return self.refused(manifest);
        }
        self.memory.written(manifest);
        self.metrics.checkpoints.reached(Reached::Manifest, self.clock.now());
        self.step(Event::ManifestWritten { epoch: manifest.epoch })
    }

    fn refused(&mut self, manifest: &Manifest) -> Result<()> {
        let why = replaced(manifest.number, &self.config.store.name());
        self.step(Event::ManifestRefused { epoch: manifest.epoch, why })
    }

    /// Tries the commit that is due, sink by sink.
    fn commit_where_due(&mut self) -> Result<()> {
        let Some(mut committing) = self.committing.take() else { return Ok(()) };
        if self.clock.now() < committing.next_try {
            self.committing = Some(committing);
            return Ok(());
        }
        while let Some(sink) = committing.sinks.front() {
            let committables = self.memory.to_commit(sink);
            let done = match self.committers.get_mut(sink) {
                Some(committer) => committer.commit(committing.epoch, &committables),
                None => Ok(()),
            };
            match done {
                Ok(()) => drop(committing.sinks.pop_front()),
                Err(why) => {
                    // Only what the outer world does may pass; a row that is refused will be refused again.
                    let pause = committing.tries.after_failure().filter(|_| why.kind() == ErrorKind::Io);
                    let Some(pause) = pause else {
                        return self.step(Event::CommitFailed { epoch: committing.epoch, why });
                    };
                    committing.next_try = self.clock.now().saturating_add(pause.as_millis() as Millis);
                    self.metrics.checkpoints.commit_retried(committing.epoch, &why);
                    self.committing = Some(committing);
                    return Ok(());
                }
            }
        }
        self.memory.committed(committing.epoch)?;
        self.requests.committed.fetch_max(committing.epoch, Ordering::AcqRel);
        self.step(Event::Committed { epoch: committing.epoch })
    }

    fn done(&mut self, epoch: u64, reasons: &[Reason]) -> Result<()> {
        self.metrics.checkpoints.done(epoch, self.clock.now());
        for reason in reasons {
            let number = match reason {
                Reason::Savepoint { name } => self.savepoint(name),
                _ => Ok(self.memory.number),
            };
            self.reply(reason, &number);
        }
        self.tidy();
        if reasons.iter().any(Reason::last) {
            self.end(Error::usage("the job has ended"));
        }
        Ok(())
    }

    fn reply(&mut self, reason: &Reason, result: &Result<u64>) {
        let meant = |ask: &Ask| match reason {
            Reason::Savepoint { name } => ask.savepoint.as_ref() == Some(name),
            Reason::MicroBatch => ask.savepoint.is_none(),
            _ => false,
        };
        self.asks.retain(|ask| {
            if meant(ask) {
                let _ = ask.reply.send(result.clone());
            }
            !meant(ask)
        });
    }

    /// Keeps the checkpoint under a name until somebody deletes it.
    fn savepoint(&mut self, name: &str) -> Result<u64> {
        check_savepoint_name(name)?;
        let Some(mut manifest) = self.memory.latest.clone() else {
            return Err(Error::internal("a savepoint before the first checkpoint"));
        };
        // All sinks have committed: there is nothing left to do for whoever starts from it.
        manifest.sinks.iter_mut().for_each(|s| s.committables.clear());
        match self.config.store.put(&savepoint_path(name), &manifest.to_json(), Put::Create)? {
            Stored::Yes => Ok(self.memory.number),
            Stored::Exists => Err(Error::usage(format!("there is a savepoint `{name}` already"))
                .remedy("choose another name, or delete the old one first")),
        }
    }

    /// Merges long chains and removes what no kept checkpoint needs. Failing to tidy up harms nobody: the next time will do.
    fn tidy(&mut self) {
        if let Err(e) = self.merge_chains().and_then(|()| self.remove_old()) {
            self.metrics.checkpoints.not_tidied(&e);
        }
        self.metrics.checkpoints.tidied();
    }

    fn merge_chains(&mut self) -> Result<()> {
        let store = self.config.store.clone();
        let room = self.room.clone();
        let desk = Desk { bytes_max: room.bytes_max(), space: room.space() };
        for (node, task, def, pieces) in self.memory.chains_to_merge() {
            let chain = files::Chain { store: store.as_ref(), files: &pieces };
            // The next manifest will name it.
            let epoch = self.memory.latest.as_ref().map_or(0, |m| m.epoch) + 1;
            let file = File { node, task, epoch, what: &def.name };
            let encoder = parquet::Encoder::new(&def.piece_schema(), self.file_bytes_max());
            let mut merged = self.writing(file, encoder, |writer| {
                each_alive(&def, &chain, desk, &mut |rows| writer.push(&def.put(rows.columns().to_vec())?))
            })?;
            merged.iter_mut().for_each(|f| f.whole = true);
            self.memory.merged(node, task, &def.name, &pieces, merged);
        }
        Ok(())
    }

    fn remove_old(&mut self) -> Result<()> {
        let store = self.config.store.as_ref();
        let listing = store.list("")?;
        // Those that cannot be read are left alone, and with them every file.
        let read = |path: &str| -> Result<Option<Manifest>> {
            Ok(store.get(path)?.and_then(|bytes| Manifest::from_json(&bytes).ok()))
        };
        let manifests: Vec<Manifest> =
            super::manifests(store, &listing)?.into_iter().filter_map(|f| f.manifest.ok()).collect();
        let mut savepoints = Vec::new();
        for stat in listing.iter().filter(|s| is_savepoint(&s.path)) {
            savepoints.extend(read(&stat.path)?.map(|m| (stat.path.clone(), m)));
        }
        let inventory = Inventory { manifests: &manifests, savepoints: &savepoints, listing: &listing };
        let plan = retain::plan(inventory, self.config.kept, retain::GRACE, self.clock.now());
        if on(Bug::NeededFilesTidied)
            && let Some(file) = manifests.last().and_then(|m| m.files().next())
        {
            store.delete(&file.path)?;
        }
        plan.in_order().try_for_each(|path| store.delete(path))
    }

    /// For [`Bug::CommitBeforeManifest`].
    fn commit_all(&mut self, epoch: u64) -> Result<()> {
        for sink in self.memory.sinks_to_commit() {
            let committables = self.memory.to_commit(&sink);
            if let Some(committer) = self.committers.get_mut(&sink) {
                committer.commit(epoch, &committables)?;
            }
        }
        Ok(())
    }
}

fn id(task: TaskAt) -> TaskId {
    TaskId { stage: task.stage, task: task.task }
}

/// What a restored job commits again before it reads a row.
pub(crate) fn commit_again(
    committer: &mut dyn Committer,
    job: &str,
    epoch: u64,
    committables: &[Committable],
    pause: &dyn Fn(Duration),
) -> Result<()> {
    let mut tries = AGAIN_RETRY.tries(job);
    loop {
        let Err(e) = committer.commit(epoch, committables) else { return Ok(()) };
        match tries.after_failure() {
            Some(again) if e.kind() == ErrorKind::Io => pause(again),
            _ => return Err(e),
        }
    }
}
