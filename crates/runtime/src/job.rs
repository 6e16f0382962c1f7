//! The life of a job: open everything, run the workers, then make the sinks' work visible, or take it back.
//!
//! ```text
//!  start ──▶ opened ──▶ running ──every task ended──▶ sinks finish ──▶ Summary
//!    │                     ├── stop(drain | here) ──▶ as above
//!    └── an error ─────────┴── a task failed ──▶ sinks abort ──▶ Error
//! ```
//!
//! Always true: no sink finishes before every task has ended well.

use crate::SystemClock;
use crate::build::{Build, Opened, Saves, open};
use crate::checkpoint::{Ask, CheckpointConfig, Driver, Message, Requests, TaskAt};
use crate::exchange::{Bell, Inbox};
use crate::gate::Gates;
use crate::life::Life;
use crate::memory::Memory;
use crate::metrics::{MemoryMetrics, Metrics, NodeMetrics, Snapshot, TaskMetrics};
use crate::placement::{Placed, Placement, Work, place};
use crate::side::Sides;
use crate::worker::{Control, Worker};
use millstream_core::{ByteSize, Clock, Connectors, Error, Result, Sink};
use millstream_dataflow::graph::{Dataflow, NodeKind};
use millstream_state::view::View;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a job is run. What it computes does not depend on it.
#[derive(Clone)]
pub struct JobConfig {
    /// Worker threads, each with one task of every stage. Default: the number of cores. 1 to 256.
    pub parallelism: usize,
    /// Bytes that may wait in front of one task. Default 4 MiB, sensible 256 KiB to 64 MiB: smaller keeps less in
    /// flight, larger evens out uneven work. A full queue slows the source; nothing grows.
    pub queue_bytes_max: ByteSize,
    /// Memory for what operators remember and for queues. `None`: 60 % of what the machine or the cgroup has. What does not
    /// fit goes to files in `scratch`; results stay the same, and a row costs more. One that is set is also kept to: what
    /// cannot go to files (what is remembered without keys, such as a join without equal columns) ends the job with an error once
    /// it is exceeded by a tenth.
    /// Sensible 64 MiB and more, for each worker thread.
    pub memory: Option<ByteSize>,
    /// Directory for what does not fit into memory: on a local disk, with room for the whole state. Emptied at the end.
    /// `None`: the system's directory for temporary files.
    pub scratch: Option<PathBuf>,
    pub clock: Arc<dyn Clock>,
    /// `None`: a job that fails begins anew.
    pub checkpoints: Option<CheckpointConfig>,
    /// Also measure what costs something: what each task does with its time (two readings of the clock for each of its
    /// turns), and the bytes that pass between operators (a look at each column of each batch). Default: no.
    pub measured: bool,
}

impl Default for JobConfig {
    fn default() -> JobConfig {
        JobConfig {
            parallelism: std::thread::available_parallelism().map_or(1, |n| n.get()),
            queue_bytes_max: ByteSize::mib(4),
            memory: None,
            scratch: None,
            clock: Arc::new(SystemClock::default()),
            checkpoints: None,
            measured: false,
        }
    }
}

/// How to stop a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Read no more, let what is in flight arrive, finish the sinks. Windows that are open are not emitted: they are not
    /// complete.
    Here,
    /// As at the end of a bounded input: every window closes.
    Drain,
}

/// What a job did.
#[derive(Debug, Clone)]
pub struct Summary {
    pub snapshot: Snapshot,
    pub wall: Duration,
    /// Stopped by [`Job::stop`] before its input had ended.
    pub stopped: Option<Stop>,
}

/// A running job. Dropped, it is cancelled and its sinks take back what is not finished.
pub struct Job {
    metrics: Arc<Metrics>,
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    bells: Vec<Arc<Bell>>,
    started_at: u64,
    workers: Vec<JoinHandle<Vec<Box<dyn Sink>>>>,
    sides: Option<Arc<Sides>>,
    placement: Placement,
    driver: Option<(mpsc::Sender<Message>, JoinHandle<()>)>,
    views: BTreeMap<(String, String), Arc<View>>,
}

/// Opens the tables of `dataflow` and starts its workers.
pub fn start(dataflow: &Dataflow, connectors: &dyn Connectors, config: JobConfig) -> Result<Job> {
    let clock = config.clock.clone();
    let laid_out = lay_out(dataflow, connectors, config, &std::thread::sleep)?;
    let Layout { placement, metrics, control, bells, sides, builds, driver, reports, messages } = laid_out;
    let started_at = clock.monotonic_nanos();
    let cannot = |what: &str, e: std::io::Error| {
        // The workers that run already see it and give up; their sinks take everything back as they drop.
        control.cancel();
        bells.iter().for_each(|b| b.ring());
        Error::io(format!("cannot start {what}: {e}"))
            .remedy("lower --parallelism or raise the limit of threads (ulimit -u)")
    };
    let mut workers = Vec::with_capacity(builds.len());
    for (index, (build, mine)) in builds.into_iter().enumerate() {
        let (shared, bell, all_bells) = (control.clone(), bells[index].clone(), bells.clone());
        let thread = std::thread::Builder::new().name(format!("millstream-{index}"));
        let spawned = thread.spawn(move || run_worker(build, mine, shared, bell, &all_bells));
        workers.push(spawned.map_err(|e| cannot("a worker thread", e))?);
    }
    let views = driver.as_ref().map(|d| d.views(&placement)).unwrap_or_default();
    let driver = match driver {
        None => None,
        Some(driver) => {
            let thread = std::thread::Builder::new().name("millstream-checkpoint".to_owned());
            let spawned = thread.spawn(move || driver.run(&messages));
            Some((reports, spawned.map_err(|e| cannot("the checkpoint thread", e))?))
        }
    };
    Ok(Job { metrics, control, clock, bells, started_at, workers, sides: Some(sides), placement, driver, views })
}

/// A job with everything open and nothing running.
pub(crate) struct Layout {
    pub placement: Placement,
    pub metrics: Arc<Metrics>,
    pub control: Arc<Control>,
    pub bells: Vec<Arc<Bell>>,
    pub sides: Arc<Sides>,
    /// For each worker what it builds its tasks from.
    pub builds: Vec<(Build, Opened)>,
    pub driver: Option<Driver>,
    pub reports: mpsc::Sender<Message>,
    pub messages: mpsc::Receiver<Message>,
}

/// Places a job and opens its tables. `pause`: how to wait before a commit is tried again.
pub(crate) fn lay_out(
    dataflow: &Dataflow,
    connectors: &dyn Connectors,
    config: JobConfig,
    pause: &dyn Fn(Duration),
) -> Result<Layout> {
    if !(1..=256).contains(&config.parallelism) {
        return Err(Error::usage(format!("parallelism {} is not in 1 to 256", config.parallelism)));
    }
    let placement = place(dataflow, config.parallelism, connectors)?;
    let memory = Memory::divide(&config, placement.stages.iter().map(|s| s.tasks).sum());
    let metrics = Arc::new(metrics_of(&placement, &memory, config.measured));
    let control = Arc::new(Control::default());
    let bells: Vec<Arc<Bell>> = (0..config.parallelism).map(|_| Arc::default()).collect();
    let life = config.checkpoints.as_ref();
    let life = life.map(|c| Life::begin(c, dataflow, &placement, connectors, config.clock.as_ref(), pause));
    let life = life.transpose()?;
    let mut opened = open(&placement, config.parallelism, connectors, &config.clock, life.as_ref())?;
    for (stage, task) in &opened.dry {
        placement.stages[*stage].nodes.iter().for_each(|node| metrics.nodes[*node].leave_out(*task));
        metrics.task(*stage, *task).leave_out();
    }
    let run = life.as_ref().map(|l| &l.run);
    metrics.set_generation(run.map_or(0, |run| run.generation));
    let sides = match Sides::open(dataflow.late_output.as_ref(), dataflow.bad_output.as_ref(), connectors, run) {
        Ok(sides) => Arc::new(sides),
        Err(e) => {
            opened.abort();
            return Err(e);
        }
    };
    let bytes_max = memory.queue_bytes_max;
    let inboxes: BTreeMap<(usize, usize), Arc<Inbox>> = placement
        .stages
        .iter()
        .enumerate()
        .flat_map(|(stage, s)| (0..s.tasks).map(move |task| (stage, task)))
        .map(|(stage, task)| {
            let inbox = Inbox::new(bytes_max, bells[task].clone(), metrics.task(stage, task).clone());
            ((stage, task), Arc::new(inbox))
        })
        .collect();
    let (reports, messages) = mpsc::channel();
    let requests = Arc::new(Requests::default());
    let room = memory.room.clone();
    let held_bytes_max = config.checkpoints.as_ref().zip(room.as_ref());
    // What waits for a barrier has as much as what has been saved, and no less than a queue.
    let held_bytes_max = held_bytes_max
        .map_or(bytes_max, |(c, room)| (c.held_bytes_max.0 as usize).min(room.bytes_max().max(bytes_max)));
    let gates = Gates::new(&placement, &opened.dry);
    let mut builds = Vec::with_capacity(config.parallelism);
    for index in 0..config.parallelism {
        let build = Build {
            placement: placement.clone(),
            index,
            inboxes: inboxes.clone(),
            metrics: metrics.clone(),
            sides: sides.clone(),
            control: control.clone(),
            clock: config.clock.clone(),
            dry: opened.dry.clone(),
            gates: gates.clone(),
            held_bytes_max,
            memory: memory.clone(),
            available_now: config.checkpoints.as_ref().is_some_and(|c| c.available_now),
            saves: life.as_ref().zip(room.as_ref()).map(|(l, room)| Saves {
                room: room.clone(),
                reports: reports.clone(),
                requests: requests.clone(),
                restored: l.restored.clone(),
                epoch: l.run.epoch,
                whole_pieces: config.checkpoints.as_ref().is_some_and(|c| c.views.is_empty()),
            }),
        };
        builds.push((build, opened.of_worker(index)));
    }
    let driver = life.zip(room).map(|(life, room)| {
        let tasks = placement
            .stages
            .iter()
            .enumerate()
            .flat_map(|(stage, s)| (0..s.tasks).map(move |task| (stage, task)).filter(|t| !opened.dry.contains(t)));
        let tasks: Vec<TaskAt> = tasks.map(|(stage, task)| TaskAt { stage, task }).collect();
        let (control, bells) = (control.clone(), bells.clone());
        let (clock, metrics, sides) = (config.clock.clone(), metrics.clone(), sides.clone());
        let (config, room) = (life.config, room.clone());
        Driver::new(config, tasks, life.memory, life.committers, requests, control, bells, clock, metrics, sides, room)
    });
    Ok(Layout { placement, metrics, control, bells, sides, builds, driver, reports, messages })
}

fn metrics_of(placement: &Placement, memory: &Memory, measured: bool) -> Metrics {
    let node = |placed: &Placed| {
        let kind = if let Work::Node { kind, .. } = &placed.work { Some(kind) } else { None };
        let table = match kind {
            Some(NodeKind::Source(source)) => Some(&source.table),
            Some(NodeKind::Sink(sink)) => Some(&sink.table),
            Some(NodeKind::LookupJoin(join)) => Some(&join.table),
            _ => None,
        };
        let is_source = matches!(kind, Some(NodeKind::Source(_) | NodeKind::Values(_)));
        let is_sink = matches!(kind, Some(NodeKind::Sink(_)));
        let metrics = NodeMetrics::new(placed.label.clone(), is_source, is_sink, placed.tasks);
        Arc::new(metrics.known_as(&placed.id, table.map(|t| t.name.as_str()), placed.stage))
    };
    let tasks = placement.stages.iter().enumerate();
    let tasks = tasks.flat_map(|(stage, s)| (0..s.tasks).map(move |task| TaskMetrics::new(stage, task)));
    Metrics {
        nodes: placement.nodes.iter().map(node).collect(),
        tasks: tasks.map(Arc::new).collect(),
        memory: MemoryMetrics::of(memory),
        measured,
        ..Metrics::default()
    }
}

/// What a worker thread does from its start to its end: whatever happens, its sinks come back.
fn run_worker(
    build: Build,
    mine: Opened,
    control: Arc<Control>,
    bell: Arc<Bell>,
    bells: &[Arc<Bell>],
) -> Vec<Box<dyn Sink>> {
    let run = AssertUnwindSafe(|| -> Result<Vec<Box<dyn Sink>>> {
        let clock = build.clock.clone();
        let worker = Worker::new(build.tasks(mine)?, control.clone(), clock, bell);
        let ended = worker.run();
        let tasks = std::rc::Rc::try_unwrap(worker.tasks);
        let sinks = tasks.map_or_else(|_| Vec::new(), |t| t.into_iter().flat_map(|t| t.chain.into_sinks()).collect());
        if let Err(e) = ended {
            control.fail(e);
        }
        Ok(sinks)
    });
    let sinks = match std::panic::catch_unwind(run) {
        Ok(Ok(sinks)) => sinks,
        Ok(Err(e)) => {
            control.fail(e);
            Vec::new()
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
            control.fail(
                Error::internal(format!("a task panicked: {text}"))
                    .remedy("this is a bug in Millstream; please report it with the query"),
            );
            Vec::new()
        }
    };
    if control.is_cancelled() {
        bells.iter().for_each(|b| b.ring());
    }
    sinks
}

impl Job {
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Asks the job to stop; [`Job::wait`] tells when it has.
    pub fn stop(&self, how: Stop) {
        self.control.ask_to_stop(how == Stop::Drain);
        self.bells.iter().for_each(|b| b.ring());
    }

    /// Asks for a checkpoint now; with a name it is a savepoint, kept until somebody deletes it. The receiver gets the
    /// number of its manifest once its output is visible.
    ///
    /// # Errors
    /// The job takes no checkpoints.
    pub fn checkpoint(&self, savepoint: Option<String>) -> Result<mpsc::Receiver<Result<u64>>> {
        let Some((messages, _)) = &self.driver else {
            return Err(Error::usage("the job takes no checkpoints").remedy("give it a store: --state DIR"));
        };
        let (reply, answer) = mpsc::channel();
        let _ = messages.send(Message::Ask(Ask { savepoint, reply }));
        Ok(answer)
    }

    /// The committed rows of a table, for any thread to read while the job runs. It was named in
    /// [`CheckpointConfig::views`].
    pub fn view(&self, node: &str, table: &str) -> Option<Arc<View>> {
        self.views.get(&(node.to_owned(), table.to_owned())).cloned()
    }

    /// Stops at once; what is not finished is taken back.
    pub fn cancel(&self) {
        self.control.fail(Error::usage("the job was cancelled before its end"));
        self.bells.iter().for_each(|b| b.ring());
    }

    pub fn is_finished(&self) -> bool {
        self.workers.iter().all(|w| w.is_finished())
    }

    /// Waits for the end, finishes the sinks and says what was done.
    pub fn wait(mut self) -> Result<Summary> {
        let saves = self.driver.is_some();
        let mut sinks = self.join();
        if let Some(error) = self.control.failure() {
            sinks.iter_mut().for_each(|s| s.abort());
            return Err(error);
        }
        // In a job with checkpoints, the last epoch has made everything visible that can wait for it.
        for i in 0..sinks.len() {
            if saves && sinks[i].commits() {
                continue;
            }
            if let Err(e) = sinks[i].finish() {
                sinks[i..].iter_mut().for_each(|s| s.abort());
                return Err(e);
            }
        }
        let wall = Duration::from_nanos(self.clock.monotonic_nanos() - self.started_at);
        let stopped = self.control.stop().map(|drain| if drain { Stop::Drain } else { Stop::Here });
        Ok(Summary { snapshot: self.metrics.snapshot(), wall, stopped })
    }

    /// Joins the workers; all their sinks, and the side outputs'.
    fn join(&mut self) -> Vec<Box<dyn Sink>> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        for worker in self.workers.drain(..) {
            // A worker catches its own panics, so joining cannot fail but by a panic of the drop of its tasks.
            match worker.join() {
                Ok(mine) => sinks.extend(mine),
                Err(_) => self.control.fail(Error::internal("a worker panicked while it was being taken down")),
            }
        }
        if let Some((messages, driver)) = self.driver.take() {
            let _ = messages.send(Message::WorkersGone);
            drop(messages);
            if driver.join().is_err() {
                self.control.fail(Error::internal("the checkpoint thread panicked"));
            }
        }
        if let Some(sides) = self.sides.take().and_then(Arc::into_inner) {
            sinks.extend(sides.into_sinks());
        }
        sinks
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.workers.is_empty() {
            self.cancel();
            self.join().iter_mut().for_each(|s| s.abort());
        }
    }
}
