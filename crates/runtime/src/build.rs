//! Opens a job's tables and builds each worker's tasks: operators with what they remember, and the channels between them.

use crate::align::Align;
use crate::chain::{Cell, Chain, Part, Route, To};
use crate::checkpoint::{Message, Mine, Requests, Restored, TaskAt, Weight};
use crate::exchange::{Inbox, Sender};
use crate::gate::{Gates, small_input};
use crate::life::Life;
use crate::lookup;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::placement::{Placed, Placement, Work};
use crate::sabotage::{Bug, on};
use crate::settle::{saved_tasks, settle};
use crate::side::Sides;
use crate::source::{Limit, Settings, SourceDriver};
use crate::worker::{Control, First, Helper, Saving, Task};
use millstream_checkpoint::manifest::{NodeState, PartitionState};
use millstream_core::key::{hash_rows, key_group, owner};
use millstream_core::rate::rate_limit;
use millstream_core::{
    Batch, Clock, Connectors, Error, Lookup, PartitionReader, Result, SavedPartition, Sink, SinkContext,
};
use millstream_dataflow::feed::SourceFeed;
use millstream_dataflow::graph::{Exchange, NodeKind};
use millstream_dataflow::not_null::Guard;
use millstream_dataflow::operator::{Operator, Watermarks};
use millstream_dataflow::valve::Valve;
use millstream_state::chain::Desk;
use millstream_state::room::SaveRoom;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc};

/// Readers and writers, opened before anything runs, by (node, task).
#[derive(Default)]
pub(crate) struct Opened {
    readers: BTreeMap<(usize, usize), Vec<Box<dyn PartitionReader>>>,
    sinks: BTreeMap<(usize, usize), Box<dyn Sink>>,
    lookups: BTreeMap<(usize, usize), Box<dyn Lookup>>,
    /// Tasks by (stage, task) that nothing will ever come out of, since they have sources alone and no partition of
    /// them. They are left out from the start: were they to end a moment later, then for that moment they would hold
    /// the watermark back, and whether a row is late would depend on the moment.
    pub dry: BTreeSet<(usize, usize)>,
    /// For each source how many of its partitions are open, over all its tasks: they share the table's rate.
    pub open_partitions: BTreeMap<usize, Arc<AtomicUsize>>,
}

pub(crate) fn open(
    placement: &Placement,
    parallelism: usize,
    connectors: &dyn Connectors,
    clock: &Arc<dyn Clock>,
    life: Option<&Life>,
) -> Result<Opened> {
    let mut opened = Opened::default();
    for (index, node) in placement.nodes.iter().enumerate() {
        if let Work::Node { kind: NodeKind::Source(source), .. } = &node.work {
            let saved = life.and_then(|l| l.restored.as_ref()?.node(&node.id));
            open_source(&mut opened, index, source, parallelism, connectors, (life.is_some(), saved))?;
        }
    }
    opened.dry = dry_tasks(placement, &opened);
    opened.lookups = lookup::open(placement, connectors, clock, |node, task| {
        !opened.dry.contains(&(placement.nodes[node].stage, task))
    })?;
    for (index, node) in placement.nodes.iter().enumerate() {
        let Work::Node { kind: NodeKind::Sink(sink), .. } = &node.work else { continue };
        for task in (0..node.tasks).filter(|t| !opened.dry.contains(&(node.stage, *t))) {
            let context = SinkContext { job: life.map(|l| l.run.clone()), ..SinkContext::one_of(task, node.tasks) };
            match connectors.open_sink(&sink.table, &context) {
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
    (saves, saved): (bool, Option<&NodeState>),
) -> Result<()> {
    let mut table = connectors.open_source(&source.table)?;
    // A source meets the outer world only when it is asked for its partitions.
    let declared = |e: Error| match &source.table.place {
        Some(place) => e.at(place.clone()),
        None => e,
    };
    if saves && !table.replays() {
        let what =
            format!("the table `{}` cannot be read again, so a job over it cannot be restored", source.table.name);
        return Err(declared(
            Error::usage(what).remedy("run it without checkpoints, or put what it reads into files first"),
        ));
    }
    let readers = match saved {
        None => table.partitions(parallelism).map_err(declared)?,
        Some(node) => {
            let open = node.partitions.iter().filter(|p| !p.ended);
            let position = |p: &PartitionState| match p.position.parse::<u64>() {
                Ok(at) if on(Bug::OffsetOffByOne) => at.saturating_sub(1).to_string(),
                _ => p.position.clone(),
            };
            let open = open.map(|p| SavedPartition { name: p.name.clone(), position: position(p) });
            let open: Vec<_> = open.collect();
            let gone: BTreeSet<&str> = node.partitions.iter().filter(|p| p.ended).map(|p| p.name.as_str()).collect();
            let over = node.partitions.iter().filter(|p| p.ended);
            let over = over.map(|p| SavedPartition { name: p.name.clone(), position: p.position.clone() });
            table.recall(&over.collect::<Vec<_>>()).map_err(declared)?;
            let readers = match open.is_empty() && !gone.is_empty() {
                true => Vec::new(),
                false => table.resume(&open, parallelism).map_err(declared)?,
            };
            let again = on(Bug::EndedPartitionReadAgain);
            readers.into_iter().filter(|r| again || !gone.contains(r.name())).collect()
        }
    };
    opened.open_partitions.insert(node, Arc::new(AtomicUsize::new(readers.len())));
    for (i, reader) in readers.into_iter().enumerate() {
        opened.readers.entry((node, i % parallelism)).or_default().push(reader);
    }
    Ok(())
}

impl Opened {
    pub fn of_worker(&mut self, worker: usize) -> Opened {
        let readers = std::mem::take(&mut self.readers);
        let (mine, others) = readers.into_iter().partition(|((_, task), _)| *task == worker);
        self.readers = others;
        let sinks = std::mem::take(&mut self.sinks);
        let (my_sinks, other_sinks) = sinks.into_iter().partition(|((_, task), _)| *task == worker);
        self.sinks = other_sinks;
        let lookups = std::mem::take(&mut self.lookups);
        let (my_lookups, other_lookups) = lookups.into_iter().partition(|((_, task), _)| *task == worker);
        self.lookups = other_lookups;
        let (dry, open_partitions) = (self.dry.clone(), self.open_partitions.clone());
        Opened { readers: mine, sinks: my_sinks, lookups: my_lookups, dry, open_partitions }
    }

    pub fn abort(&mut self) {
        self.sinks.values_mut().for_each(|s| s.abort());
    }
}

/// How the tasks of a job take part in its checkpoints.
pub(crate) struct Saves {
    pub reports: mpsc::Sender<Message>,
    pub requests: Arc<Requests>,
    /// What to go on from.
    pub restored: Option<Restored>,
    /// The epoch to go on from.
    pub epoch: u64,
    /// See [`Saving::whole_pieces`].
    pub whole_pieces: bool,
    pub room: Arc<SaveRoom>,
}

/// Everything that a worker builds its tasks from.
pub(crate) struct Build {
    pub placement: Placement,
    pub index: usize,
    pub inboxes: BTreeMap<(usize, usize), Arc<Inbox>>,
    pub metrics: Arc<Metrics>,
    pub sides: Arc<Sides>,
    pub control: Arc<Control>,
    pub clock: Arc<dyn Clock>,
    /// See [`Opened::dry`].
    pub dry: BTreeSet<(usize, usize)>,
    pub gates: Gates,
    pub held_bytes_max: usize,
    pub memory: Memory,
    pub available_now: bool,
    /// In jobs with checkpoints.
    pub saves: Option<Saves>,
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
    pub fn tasks(&self, mut opened: Opened) -> Result<Vec<Task>> {
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
        let helper = Helper::new(stage, position, self.control.clone(), self.clock.clone(), self.metrics.measured);
        let restored = self.saves.as_ref().and_then(|s| s.restored.as_ref());
        let same_tasks = restored.is_some_and(|r| r.same_tasks(self.placement.parallelism()));
        let mut first: Vec<First> = Vec::new();
        let mut cells = Vec::with_capacity(nodes.len());
        let mut sources = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let placed = &self.placement.nodes[*node];
            let input_schemas: Vec<_> = placed.inputs.iter().map(|i| self.placement.schema_of(i)).collect();
            let saved = restored.and_then(|r| r.node(&placed.id).map(|n| (r, n)));
            let mut before = match saved {
                None => Watermarks::NONE,
                // Partitions go to whichever task is next, so what its namesake had promised for others is not ours to keep.
                Some((_, saved)) if same_tasks && !self.fed_by_source(*node) => {
                    Restored::watermarks_of(saved, self.index)
                }
                Some((_, saved)) => Restored::watermarks(saved),
            };
            let share = self.memory.budget.share(placed.label.clone());
            let mut is_copy = false;
            let part = match &placed.work {
                Work::Node { kind: NodeKind::Source(source), .. } => {
                    let readers = opened.readers.remove(&(*node, self.index)).unwrap_or_default();
                    let feed = SourceFeed::new(source, placed.schema.clone())?;
                    let name = source.table.name.clone();
                    let now = self.clock.now();
                    let open = opened.open_partitions.get(node).cloned().unwrap_or_default();
                    let settings = Settings {
                        name,
                        available_now: self.available_now,
                        limit: rate_limit(&source.table)?.map(|rate| Limit::new(rate, open)),
                    };
                    let source = match saved {
                        None => SourceDriver::table(at, settings, feed, readers, now),
                        Some((_, saved)) => {
                            SourceDriver::resumed(at, settings, feed, readers, (saved, self.index), now)
                        }
                    };
                    sources.push(source.behind(self.gates.of_source(*node)));
                    Part::Source
                }
                Work::Node { kind: NodeKind::Values(values), .. } => {
                    let read = saved.is_some_and(|(_, n)| n.partitions.iter().any(|p| p.ended));
                    let values = if read { values.slice(0, 0) } else { values.clone() };
                    sources.push(SourceDriver::values(at, values).behind(self.gates.of_source(*node)));
                    Part::Source
                }
                Work::Node { kind: NodeKind::Sink(spec), .. } => match opened.sinks.remove(&(*node, self.index)) {
                    Some(sink) => {
                        if let Some((restored, saved)) = saved {
                            let under_way = self.under_way(restored, saved, placed, same_tasks)?;
                            first.extend(under_way.into_iter().map(|(input, batch)| First::Rows { at, input, batch }));
                        }
                        Part::Sink { sink, guard: Guard::new(&spec.table, spec.not_null), unflushed: false }
                    }
                    None => return Err(Error::internal("a sink has no writer for this task")),
                },
                Work::Node { kind: NodeKind::LookupJoin(spec), .. } => {
                    let table = opened.lookups.remove(&(*node, self.index));
                    let table = table.ok_or_else(|| Error::internal("nobody answers the look-ups of this task"))?;
                    let mut operator =
                        millstream_dataflow::join::asking(spec, table, &input_schemas[0], &placed.schema)?;
                    if let Some((restored, saved)) = saved {
                        operator.resume(before)?;
                        let under_way = self.under_way(restored, saved, placed, same_tasks)?;
                        first.extend(under_way.into_iter().map(|(input, batch)| First::Rows { at, input, batch }));
                    }
                    Part::Operator(operator)
                }
                Work::Node { kind, partials } => {
                    // What a local aggregation had sent still arrives, though there may be none any more.
                    let partials = *partials
                        || saved
                            .is_some_and(|(_, n)| n.in_flight.iter().any(|f| f.input > 0) && placed.inputs.len() == 1);
                    // One for all that are made: what one of them puts there, another may take away.
                    let space = self.memory.scratch.counted(self.metrics.nodes[*node].spilled.clone());
                    let small = small_input(&placed.work);
                    is_copy = small.is_some() && self.index > 0;
                    let make = || -> Result<Box<dyn Operator>> {
                        let mut operator = millstream_dataflow::build(kind, &input_schemas, &placed.schema, partials)?;
                        operator.spill_to(space.clone());
                        if self.saves.is_some() && !is_copy {
                            operator.track_changes();
                        }
                        Ok(operator)
                    };
                    let mut operator = make()?;
                    if let Some((restored, saved)) = saved {
                        let room = &self.saves.as_ref().expect("only a job with checkpoints has been restored").room;
                        let desk = Desk { bytes_max: room.bytes_max(), space: room.space() };
                        let mine = Mine { task: self.index, tasks: placed.tasks, all: same_tasks, share: &share, desk };
                        if let Some(small) = small {
                            let mine = Mine { task: 0, tasks: 1, all: true, ..mine };
                            restored.load(saved, operator.as_mut(), 0, &mine)?;
                            operator.resume(before)?;
                            let under_way = self.under_way_beside(restored, saved, placed, same_tasks, small)?;
                            first.extend(under_way.into_iter().map(|(input, batch)| First::Rows { at, input, batch }));
                        } else if same_tasks || operator.tables().is_empty() {
                            if same_tasks {
                                restored.load(saved, operator.as_mut(), self.index, &mine)?;
                            }
                            if !on(Bug::TimersLostAtLoad) {
                                operator.resume(before)?;
                            }
                            let under_way = self.under_way(restored, saved, placed, same_tasks)?;
                            first.extend(under_way.into_iter().map(|(input, batch)| First::Rows { at, input, batch }));
                        } else {
                            before = Restored::furthest(saved);
                            let under_way = |task| self.under_way_to(restored, saved, placed, task);
                            let settled = settle(restored, saved, operator.as_mut(), &mine, &make, &under_way)?;
                            first.extend(settled.emitted.into_iter().map(|(port, batch)| First::Out {
                                at,
                                port,
                                batch,
                            }));
                            first.extend(settled.late.into_iter().map(|late| First::Late { at, late }));
                        }
                    }
                    Part::Operator(operator)
                }
                Work::LocalAggregate { of, spec } => {
                    let mut local = of.build_local(&input_schemas[0], spec)?;
                    // Valves before it do not say again what they had said, and there may have been no such node before.
                    let before = &self.placement.nodes[placed.inputs[0].node].id;
                    if let Some(before) = restored.and_then(|r| r.node(before)) {
                        local.resume(Restored::watermarks(before))?;
                    }
                    Part::Operator(local)
                }
            };
            // Tasks that no source reaches but by an exchange all hear the same of it.
            let together: Vec<Option<usize>> = self
                .channels(*node, self.index)
                .iter()
                .filter(|c| !c.quiet)
                .map(|c| (c.remote && !self.fed_by_source(c.from.0)).then_some(c.from.0))
                .collect();
            let channels = together.len();
            cells.push(Cell {
                node: *node,
                work: RefCell::new(part),
                share,
                valve: (channels > 1).then(|| {
                    let mut valve = Valve::new(channels);
                    valve.idle_together(together);
                    if saved.is_some() {
                        valve.resume(before.event, before.processing);
                    }
                    RefCell::new(valve)
                }),
                is_copy,
                gate: self.gates.of_join(*node),
                routes: self.routes(*node, &cell_of),
                // A source's place is entered by its driver alone.
                open: std::cell::Cell::new(channels.max(1)),
                stopped: Default::default(),
                watermarks: std::cell::Cell::new(before),
                weight: std::cell::Cell::new(match saved.filter(|_| same_tasks) {
                    Some((_, saved)) => Weight::new(Some(rows_of(saved, self.index))),
                    None => Weight::new(None),
                }),
            });
        }
        let inbox_channels = self.inbox_channels(stage, self.index);
        let channels: Vec<(usize, usize, usize)> = inbox_channels
            .iter()
            .map(|(node, c)| (cell_of(*node).expect("a node of this stage"), c.input, c.valve))
            .collect();
        let signals_of: Vec<usize> = inbox_channels
            .iter()
            .enumerate()
            .map(|(at, (node, c))| match c.quiet {
                false => at,
                true => {
                    let brings = |(n, other): &(usize, Channel)| n == node && !other.quiet && other.from == c.from;
                    inbox_channels.iter().position(brings).unwrap_or(at)
                }
            })
            .collect();
        let saving =
            self.saves.as_ref().map(|Saves { reports, requests, restored, epoch, whole_pieces, room }| Saving {
                at: TaskAt { stage, task: self.index },
                requests: requests.clone(),
                reports: reports.clone(),
                align: RefCell::new(Align::new(&signals_of, *epoch)),
                last: std::cell::Cell::new(*epoch),
                chained: std::cell::Cell::new(restored.is_some() && (same_tasks || on(Bug::BaseForgotten))),
                over: Default::default(),
                held_bytes_max: self.held_bytes_max,
                whole_pieces: *whole_pieces,
                room: room.clone(),
            });
        let asking = cells.iter().enumerate().filter(|(_, c)| c.asks()).map(|(at, _)| at).collect();
        Ok(Task {
            first: RefCell::new(first),
            open_channels: std::cell::Cell::new(inbox_channels.iter().filter(|(_, c)| !c.quiet).count()),
            inbox: (!channels.is_empty()).then(|| self.inboxes[&(stage, self.index)].clone()),
            channels,
            sources: RefCell::new(sources),
            chain: Chain {
                cells,
                asking,
                helper,
                metrics: self.metrics.clone(),
                sides: self.sides.clone(),
                task: self.index,
                set_aside: saving.as_ref().map(|_| RefCell::default()),
            },
            running: Default::default(),
            meter: self.metrics.measured.then(|| self.metrics.task(stage, self.index).clone()),
            saving,
        })
    }

    /// Whether the rows of some source reach this node without an exchange.
    fn fed_by_source(&self, node: usize) -> bool {
        let placed = &self.placement.nodes[node];
        matches!(&placed.work, Work::Node { kind: NodeKind::Source(_), .. })
            || placed.inputs.iter().any(|i| i.exchange == Exchange::Forward && self.fed_by_source(i.node))
    }

    /// What was under way to this task, or to whom it takes over from.
    fn under_way(
        &self,
        restored: &Restored,
        saved: &NodeState,
        placed: &Placed,
        same_tasks: bool,
    ) -> Result<Vec<(usize, Batch)>> {
        if same_tasks {
            return restored.in_flight(saved, self.index);
        }
        let mut batches = Vec::new();
        for task in saved_tasks(saved) {
            batches.extend(self.under_way_to(restored, saved, placed, task)?);
        }
        Ok(batches)
    }

    /// The same of a join with a small input that every task has all of: of that, what was under way to the first task,
    /// whose rows are those of all.
    fn under_way_beside(
        &self,
        restored: &Restored,
        saved: &NodeState,
        placed: &Placed,
        same_tasks: bool,
        small: usize,
    ) -> Result<Vec<(usize, Batch)>> {
        let mut batches = restored.in_flight(saved, 0)?;
        batches.retain(|(input, _)| *input == small);
        let large = self.under_way(restored, saved, placed, same_tasks)?;
        batches.extend(large.into_iter().filter(|(input, _)| *input != small));
        Ok(batches)
    }

    /// This task's share of what was under way to a saved task.
    fn under_way_to(
        &self,
        restored: &Restored,
        saved: &NodeState,
        placed: &Placed,
        saved_task: usize,
    ) -> Result<Vec<(usize, Batch)>> {
        let mut batches = Vec::new();
        for (input, batch) in restored.in_flight(saved, saved_task)? {
            batches.extend(self.share_under_way(placed, input, batch)?.map(|batch| (input, batch)));
        }
        Ok(batches)
    }

    /// This task's share of a batch that was under way to an input of a node; `None` where it has none.
    fn share_under_way(&self, placed: &Placed, input: usize, batch: Batch) -> Result<Option<Batch>> {
        let keys = match placed.inputs.get(input).map(|i| &i.exchange) {
            _ if placed.tasks == 1 => return Ok(Some(batch)),
            Some(Exchange::Hash(keys)) => keys,
            _ => return Ok((self.index == 0).then_some(batch)),
        };
        let columns: Vec<_> = keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        let mut hashes = Vec::new();
        hash_rows(&columns, batch.len(), &mut hashes)?;
        let mine = (0..batch.len() as u32)
            .filter(|row| owner(key_group(hashes[*row as usize]), placed.tasks as u32) == self.index as u32);
        let mine: Vec<u32> = mine.collect();
        if mine.is_empty() { Ok(None) } else { Ok(Some(batch.take(&mine.into())?)) }
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
                    let sender =
                        Sender { keys, to_all: from.exchange == Exchange::Broadcast, targets, hashes: Vec::new() };
                    Route { to: To::Remote(RefCell::new(sender)), quiet }
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

/// Rows in the pieces that a task saved of a node.
fn rows_of(saved: &NodeState, task: usize) -> u64 {
    let chains = saved.tables.iter().flat_map(|t| t.chains.iter()).filter(|c| c.task == task);
    chains.flat_map(|c| c.pieces.iter().map(|p| p.rows)).sum()
}
