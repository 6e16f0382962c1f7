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
use crate::chain::{Cell, Chain, Part, Route, To};
use crate::exchange::{Bell, Inbox, Sender};
use crate::metrics::{Metrics, NodeMetrics, Snapshot};
use crate::placement::{Placement, Work, place};
use crate::side::Sides;
use crate::source::SourceDriver;
use crate::worker::{Control, Helper, Task, Worker};
use millstream_core::{ByteSize, Clock, Connectors, Error, PartitionReader, Result, Sink};
use millstream_dataflow::feed::SourceFeed;
use millstream_dataflow::graph::{Dataflow, Exchange, NodeKind};
use millstream_dataflow::not_null::Guard;
use millstream_dataflow::valve::Valve;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
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
    pub clock: Arc<dyn Clock>,
}

impl Default for JobConfig {
    fn default() -> JobConfig {
        JobConfig {
            parallelism: std::thread::available_parallelism().map_or(1, |n| n.get()),
            queue_bytes_max: ByteSize::mib(4),
            clock: Arc::new(SystemClock::default()),
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
}

/// Opens the tables of `dataflow` and starts its workers.
pub fn start(dataflow: &Dataflow, connectors: &dyn Connectors, config: JobConfig) -> Result<Job> {
    if !(1..=256).contains(&config.parallelism) {
        return Err(Error::usage(format!("parallelism {} is not in 1 to 256", config.parallelism)));
    }
    let placement = place(dataflow, config.parallelism, connectors)?;
    let metrics = Arc::new(Metrics {
        nodes: placement
            .nodes
            .iter()
            .map(|n| {
                let kind = if let Work::Node { kind, .. } = &n.work { Some(kind) } else { None };
                let is_source = matches!(kind, Some(NodeKind::Source(_) | NodeKind::Values(_)));
                NodeMetrics::new(n.label.clone(), is_source, matches!(kind, Some(NodeKind::Sink(_))), n.tasks)
            })
            .collect(),
        ..Metrics::default()
    });
    let control = Arc::new(Control::default());
    let bells: Vec<Arc<Bell>> = (0..config.parallelism).map(|_| Arc::default()).collect();
    let mut opened = open(&placement, config.parallelism, connectors)?;
    let sides = match Sides::open(dataflow.late_output.as_ref(), dataflow.bad_output.as_ref(), connectors) {
        Ok(sides) => Arc::new(sides),
        Err(e) => {
            opened.abort();
            return Err(e);
        }
    };
    let inboxes: BTreeMap<(usize, usize), Arc<Inbox>> = placement
        .stages
        .iter()
        .enumerate()
        .flat_map(|(stage, s)| (0..s.tasks).map(move |task| (stage, task)))
        .map(|(stage, task)| {
            let bytes_max = config.queue_bytes_max.0 as usize;
            ((stage, task), Arc::new(Inbox::new(bytes_max, bells[task].clone(), metrics.clone())))
        })
        .collect();
    let started_at = config.clock.monotonic_nanos();
    let mut workers = Vec::with_capacity(config.parallelism);
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
        };
        let mine = opened.of_worker(index);
        let (shared, bell) = (control.clone(), bells[index].clone());
        let all_bells = bells.clone();
        let thread = std::thread::Builder::new().name(format!("millstream-{index}"));
        let spawned = thread.spawn(move || run_worker(build, mine, shared, bell, &all_bells));
        match spawned {
            Ok(handle) => workers.push(handle),
            Err(e) => {
                // The workers that run already see it and give up; their sinks take everything back as they drop.
                control.cancel();
                bells.iter().for_each(|b| b.ring());
                return Err(Error::io(format!("cannot start a worker thread: {e}"))
                    .remedy("lower --parallelism or raise the limit of threads (ulimit -u)"));
            }
        }
    }
    Ok(Job { metrics, control, clock: config.clock, bells, started_at, workers, sides: Some(sides), placement })
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
        let mut sinks = self.join();
        if let Some(error) = self.control.failure() {
            sinks.iter_mut().for_each(|s| s.abort());
            return Err(error);
        }
        for i in 0..sinks.len() {
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

/// Readers and writers, opened before anything runs, by (node, task).
#[derive(Default)]
struct Opened {
    readers: BTreeMap<(usize, usize), Vec<Box<dyn PartitionReader>>>,
    sinks: BTreeMap<(usize, usize), Box<dyn Sink>>,
    /// Tasks by (stage, task) that nothing will ever come out of, since they have sources alone and no partition of
    /// them. They are left out from the start: were they to end a moment later, then for that moment they would hold
    /// the watermark back, and whether a row is late would depend on the moment.
    dry: BTreeSet<(usize, usize)>,
}

fn open(placement: &Placement, parallelism: usize, connectors: &dyn Connectors) -> Result<Opened> {
    let mut opened = Opened::default();
    for (index, node) in placement.nodes.iter().enumerate() {
        if let Work::Node { kind: NodeKind::Source(source), .. } = &node.work {
            open_source(&mut opened, index, source, parallelism, connectors)?;
        }
    }
    opened.dry = dry_tasks(placement, &opened);
    for (index, node) in placement.nodes.iter().enumerate() {
        let Work::Node { kind: NodeKind::Sink(sink), .. } = &node.work else { continue };
        for task in (0..node.tasks).filter(|t| !opened.dry.contains(&(node.stage, *t))) {
            match connectors.open_sink(&sink.table, task, node.tasks) {
                Ok(writer) => {
                    opened.sinks.insert((index, task), writer);
                }
                Err(e) => {
                    opened.abort();
                    return Err(e);
                }
            }
        }
    }
    Ok(opened)
}

fn dry_tasks(placement: &Placement, opened: &Opened) -> BTreeSet<(usize, usize)> {
    let mut dry = BTreeSet::new();
    for (index, stage) in placement.stages.iter().enumerate() {
        let is_fed = |task: usize| {
            stage.nodes.iter().any(|n| {
                let node = &placement.nodes[*n];
                let values = matches!(&node.work, Work::Node { kind: NodeKind::Values(_), .. });
                let exchange = node.inputs.iter().any(|i| i.exchange != Exchange::Forward);
                values || exchange || opened.readers.contains_key(&(*n, task))
            })
        };
        // The first task stays in any case: somebody has to say that an empty table has ended.
        dry.extend((1..stage.tasks).filter(|t| !is_fed(*t)).map(|t| (index, t)));
    }
    dry
}

fn open_source(
    opened: &mut Opened,
    node: usize,
    source: &millstream_dataflow::graph::SourceNode,
    parallelism: usize,
    connectors: &dyn Connectors,
) -> Result<()> {
    let mut table = connectors.open_source(&source.table)?;
    for (i, reader) in table.partitions(parallelism)?.into_iter().enumerate() {
        opened.readers.entry((node, i % parallelism)).or_default().push(reader);
    }
    Ok(())
}

impl Opened {
    fn of_worker(&mut self, worker: usize) -> Opened {
        let readers = std::mem::take(&mut self.readers);
        let (mine, others) = readers.into_iter().partition(|((_, task), _)| *task == worker);
        self.readers = others;
        let sinks = std::mem::take(&mut self.sinks);
        let (my_sinks, other_sinks) = sinks.into_iter().partition(|((_, task), _)| *task == worker);
        self.sinks = other_sinks;
        Opened { readers: mine, sinks: my_sinks, dry: self.dry.clone() }
    }

    fn abort(&mut self) {
        self.sinks.values_mut().for_each(|s| s.abort());
    }
}

/// Everything that a worker builds its tasks from.
struct Build {
    placement: Placement,
    index: usize,
    inboxes: BTreeMap<(usize, usize), Arc<Inbox>>,
    metrics: Arc<Metrics>,
    sides: Arc<Sides>,
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    /// See [`Opened::dry`].
    dry: BTreeSet<(usize, usize)>,
}

/// One way into a node's task: from a cell of the same chain or over an exchange.
struct Channel {
    input: usize,
    /// `(node, task)` of the sender.
    from: (usize, usize),
    remote: bool,
    /// The valve's channel: one for each sender, also where two inputs come from the same one (two ports of it, or the
    /// same rows twice). What it promises holds for both, so neither may wait for the other's word.
    valve: usize,
    /// Not the first channel from this sender: brings rows only, since the first one brings the signals.
    quiet: bool,
}

impl Channel {
    fn add(channels: &mut Vec<Channel>, input: usize, from: (usize, usize), remote: bool) {
        let known = channels.iter().find(|c| c.from == from && c.remote == remote).map(|c| c.valve);
        let valve = known.unwrap_or_else(|| channels.iter().filter(|c| !c.quiet).count());
        channels.push(Channel { input, from, remote, valve, quiet: known.is_some() });
    }
}

impl Build {
    fn tasks(&self, mut opened: Opened) -> Result<Vec<Task>> {
        let mine = |stage: usize, tasks: usize| self.index < tasks && !self.dry.contains(&(stage, self.index));
        let stages = self.placement.stages.iter().enumerate().filter(|(i, s)| mine(*i, s.tasks));
        stages.enumerate().map(|(position, (stage, _))| self.task(stage, position, &mut opened)).collect()
    }

    /// The channels by which a task of `node` is reached, in an order that sender and receiver agree on.
    fn channels(&self, node: usize, task: usize) -> Vec<Channel> {
        let mut channels = Vec::new();
        for (input, from) in self.placement.nodes[node].inputs.iter().enumerate() {
            let senders = self.placement.nodes[from.node].tasks;
            match from.exchange {
                Exchange::Forward => Channel::add(&mut channels, input, (from.node, task), false),
                Exchange::Single if task > 0 => {}
                _ => {
                    let stage = self.placement.nodes[from.node].stage;
                    for sender in (0..senders).filter(|s| !self.dry.contains(&(stage, *s))) {
                        Channel::add(&mut channels, input, (from.node, sender), true);
                    }
                }
            }
        }
        channels
    }

    /// For a task's inbox: the index of each remote channel, over all nodes of its stage.
    fn inbox_channels(&self, stage: usize, task: usize) -> Vec<(usize, Channel)> {
        let nodes = self.placement.stages[stage].nodes.iter();
        let all = nodes.flat_map(|node| self.channels(*node, task).into_iter().map(|c| (*node, c)));
        all.filter(|(_, c)| c.remote).collect()
    }

    fn task(&self, stage: usize, position: usize, opened: &mut Opened) -> Result<Task> {
        let nodes = &self.placement.stages[stage].nodes;
        let cell_of = |node: usize| nodes.iter().position(|n| *n == node);
        let helper = Helper::new(position, self.control.clone(), self.clock.clone());
        let mut cells = Vec::with_capacity(nodes.len());
        let mut sources = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let placed = &self.placement.nodes[*node];
            let input_schemas: Vec<_> = placed.inputs.iter().map(|i| self.placement.schema_of(i)).collect();
            let part = match &placed.work {
                Work::Node { kind: NodeKind::Source(source), .. } => {
                    let readers = opened.readers.remove(&(*node, self.index)).unwrap_or_default();
                    let feed = SourceFeed::new(source, placed.schema.clone())?;
                    let name = source.table.name.clone();
                    sources.push(SourceDriver::table(at, name, feed, readers, self.clock.now()));
                    Part::Source
                }
                Work::Node { kind: NodeKind::Values(values), .. } => {
                    sources.push(SourceDriver::values(at, values.clone()));
                    Part::Source
                }
                Work::Node { kind: NodeKind::Sink(spec), .. } => match opened.sinks.remove(&(*node, self.index)) {
                    Some(sink) => Part::Sink { sink, guard: Guard::new(&spec.table, spec.not_null), unflushed: false },
                    None => return Err(Error::internal("a sink has no writer for this task")),
                },
                Work::Node { kind, partials } => {
                    Part::Operator(millstream_dataflow::build(kind, &input_schemas, &placed.schema, *partials)?)
                }
                Work::LocalAggregate { node, spec } => {
                    Part::Operator(millstream_dataflow::window::local::build_local(node, &input_schemas[0], spec)?)
                }
            };
            let channels = self.channels(*node, self.index).iter().filter(|c| !c.quiet).count();
            cells.push(Cell {
                node: *node,
                work: RefCell::new(part),
                valve: (channels > 1).then(|| RefCell::new(Valve::new(channels))),
                routes: self.routes(*node, &cell_of),
                // A source's place is entered by its driver alone.
                open: std::cell::Cell::new(channels.max(1)),
                stopped: Default::default(),
            });
        }
        let inbox_channels = self.inbox_channels(stage, self.index);
        let channels: Vec<(usize, usize, usize)> = inbox_channels
            .iter()
            .map(|(node, c)| (cell_of(*node).expect("a node of this stage"), c.input, c.valve))
            .collect();
        Ok(Task {
            open_channels: std::cell::Cell::new(inbox_channels.iter().filter(|(_, c)| !c.quiet).count()),
            inbox: (!channels.is_empty()).then(|| self.inboxes[&(stage, self.index)].clone()),
            channels,
            sources: RefCell::new(sources),
            chain: Chain { cells, helper, metrics: self.metrics.clone(), sides: self.sides.clone(), task: self.index },
            running: Default::default(),
        })
    }

    /// Where the outputs of `node` lead from this worker's task.
    fn routes(&self, node: usize, cell_of: &dyn Fn(usize) -> Option<usize>) -> Vec<Vec<Route>> {
        let mut routes: Vec<Vec<Route>> = Vec::new();
        for (reader, placed) in self.placement.nodes.iter().enumerate() {
            for (input, from) in placed.inputs.iter().enumerate().filter(|(_, f)| f.node == node) {
                let me = (node, self.index);
                let is_mine = |c: &Channel| c.input == input && c.from == me;
                let route = if from.exchange == Exchange::Forward {
                    let channels = self.channels(reader, self.index);
                    let channel = channels.iter().find(|c| is_mine(c)).expect("a reader has a channel for each input");
                    let cell = cell_of(reader).expect("forward edges stay within a stage");
                    Route { to: To::Local { cell, input, channel: channel.valve }, quiet: channel.quiet }
                } else {
                    let tasks = if from.exchange == Exchange::Single { 1 } else { placed.tasks };
                    let mut quiet = false;
                    let targets = (0..tasks).map(|task| {
                        let channels = self.inbox_channels(placed.stage, task);
                        let at = channels.iter().position(|(n, c)| *n == reader && is_mine(c));
                        let at = at.expect("sender and receiver count channels alike");
                        quiet = channels[at].1.quiet;
                        (self.inboxes[&(placed.stage, task)].clone(), at)
                    });
                    let targets = targets.collect();
                    let keys = if let Exchange::Hash(keys) = &from.exchange { keys.clone() } else { Vec::new() };
                    Route { to: To::Remote(RefCell::new(Sender { keys, targets, hashes: Vec::new() })), quiet }
                };
                if routes.len() <= from.port {
                    routes.resize_with(from.port + 1, Vec::new);
                }
                routes[from.port].push(route);
            }
        }
        routes
    }
}
