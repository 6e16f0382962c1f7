//! Drives the partitions that one source task owns.

use crate::chain::Chain;
use crate::checkpoint::Restored;
use crate::exchange::Signal;
use crate::gate::Gate;
use crate::metrics::PartitionFigures;
use crate::sabotage::{Bug, on};
use arrow::array::RecordBatch;
use millstream_checkpoint::manifest::{NodeState, PartitionState};
use millstream_core::{Allowance, Clock, Millis, PartitionReader, Polled, Result, TimeDomain, Watermark};
use millstream_dataflow::feed::{Effect, PartitionMemory, SourceFeed};
use millstream_dataflow::operator::Watermarks;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What stands for the rows of a query itself among the partitions of a checkpoint.
pub(crate) const VALUES: &str = "values";

/// Epochs whose positions are noted at a time. More wait only where checkpoints are given up again and again, and then the
/// newest counts.
const NOTED_MAX: usize = 64;

/// The metrics hear of partitions this often, in milliseconds.
const TELL_EVERY: Millis = 500;

/// Names of partitions, and where they stood.
type Positions = Vec<(String, String)>;

pub(crate) struct SourceDriver {
    /// The source's cell in the chain.
    cell: usize,
    origin: Origin,
    pub ended: bool,
    /// What it waits for before it is read.
    gates: Vec<Arc<Gate>>,
    /// Positions by epoch, oldest first, until the epoch is committed and the readers are told.
    noted: RefCell<VecDeque<(u64, Positions)>>,
}

/// How a table is read.
pub(crate) struct Settings {
    pub name: String,
    /// To have read what is there is enough.
    pub available_now: bool,
    pub limit: Option<Limit>,
}

/// The rate of a table, as far as one of its tasks is concerned.
pub(crate) struct Limit {
    rate: u64,
    /// Partitions of the table that are open, over all its tasks.
    open: Arc<AtomicUsize>,
    /// By the partition's number in the feed.
    shares: BTreeMap<usize, Allowance>,
}

impl Limit {
    pub fn new(rate: u64, open: Arc<AtomicUsize>) -> Limit {
        Limit { rate, open, shares: BTreeMap::new() }
    }

    /// Rows that a partition may give now.
    fn rows(&mut self, partition: usize, now: u64) -> usize {
        let rate = self.rate;
        self.shares.entry(partition).or_insert_with(|| Allowance::new(rate)).rows(now, self.open.load(Relaxed))
    }

    fn took(&mut self, partition: usize, rows: usize) {
        if let Some(share) = self.shares.get_mut(&partition) {
            share.took(rows, self.open.load(Relaxed));
        }
    }
}

enum Origin {
    Table(Table),
    /// Rows that stand in the query itself.
    Values(RecordBatch),
}

struct Table {
    name: String,
    feed: SourceFeed,
    /// Partitions in turn: the front one is asked next.
    partitions: VecDeque<(usize, Box<dyn PartitionReader>)>,
    /// Partitions that have ended, in this run or before it.
    over: Vec<PartitionState>,
    /// Of a partition whose rows come from several streams: a partition of the feed without rows, which keeps the watermark
    /// where the slowest stream is. It belongs to the same task, so no row is overtaken by what holds it.
    holds: BTreeMap<usize, usize>,
    /// To be handed on before anything else.
    first: Vec<Effect>,
    /// Partitions that have given what was there at the start, when that is all that is asked for.
    resting: Vec<(usize, Box<dyn PartitionReader>)>,
    available_now: bool,
    limit: Option<Limit>,
    /// When the metrics were last told of the partitions.
    told_at: Millis,
    /// Rows and fields left out: those counted so far, and those of partitions that have ended.
    skipped: u64,
    skipped_before: u64,
}

impl SourceDriver {
    pub fn table(
        cell: usize,
        settings: Settings,
        mut feed: SourceFeed,
        readers: Vec<Box<dyn PartitionReader>>,
        now: Millis,
    ) -> SourceDriver {
        let mut holds = BTreeMap::new();
        let mut partitions = VecDeque::new();
        for reader in readers {
            let id = feed.add_partition(reader.name(), now);
            if reader.lag().is_some() {
                holds.insert(id, feed.add_partition(reader.name(), now));
            }
            partitions.push_back((id, reader));
        }
        let table = Table::new(settings, feed, partitions, holds, Vec::new(), Vec::new());
        SourceDriver { cell, origin: Origin::Table(table), ended: false, gates: Vec::new(), noted: RefCell::default() }
    }

    /// A table whose partitions go on where a checkpoint left them. `first`: what its readers have to know before the
    /// first row.
    pub fn resumed(
        cell: usize,
        settings: Settings,
        mut feed: SourceFeed,
        readers: Vec<Box<dyn PartitionReader>>,
        (saved, task): (&NodeState, usize),
        now: Millis,
    ) -> SourceDriver {
        let mut partitions = VecDeque::new();
        let mut holds = BTreeMap::new();
        for reader in readers {
            let id = match saved.partitions.iter().find(|p| p.name == reader.name()) {
                Some(known) => {
                    let promised = known.watermark.filter(|_| !on(Bug::PartitionWatermarkReset));
                    let watermark = promised.map_or(Watermark::MIN, Watermark);
                    let memory = PartitionMemory { watermark, rows: known.rows, idle: known.idle, ended: false };
                    feed.add_saved_partition(reader.name(), memory, now)
                }
                None => feed.add_partition(reader.name(), now),
            };
            if let Some(lag) = reader.lag() {
                // What the task had promised was never ahead of it.
                let watermark = behind(feed.partition_state(id).watermark, lag);
                let memory = PartitionMemory { watermark, rows: 0, idle: false, ended: false };
                holds.insert(id, feed.add_saved_partition(reader.name(), memory, now));
            }
            partitions.push_back((id, reader));
        }
        // Partitions that have ended belong to nobody any more; the first task remembers them.
        let over = saved.partitions.iter().filter(|p| p.ended && task == 0).cloned().collect();
        let Watermarks { event, processing } = Restored::watermarks(saved);
        let first = if partitions.is_empty() { Vec::new() } else { feed.resume(event, processing) };
        let table = Table::new(settings, feed, partitions, holds, over, first);
        SourceDriver { cell, origin: Origin::Table(table), ended: false, gates: Vec::new(), noted: RefCell::default() }
    }

    /// Lets it wait for all of these.
    pub fn behind(self, gates: Vec<Arc<Gate>>) -> SourceDriver {
        SourceDriver { gates, ..self }
    }

    pub fn cell(&self) -> usize {
        self.cell
    }

    /// The partitions as a checkpoint keeps them, and what the source has promised.
    pub fn saved(&self) -> Result<(Vec<PartitionState>, Watermarks)> {
        match &self.origin {
            Origin::Table(table) => table.saved(),
            // Rows that stand in the query are not read again once they have been handed on.
            Origin::Values(_) => {
                let to = if self.ended { Watermark::MAX } else { Watermark::MIN };
                let rows = PartitionState {
                    name: VALUES.to_owned(),
                    position: String::new(),
                    watermark: None,
                    rows: 0,
                    idle: false,
                    ended: self.ended,
                };
                Ok((vec![rows], Watermarks { event: to, processing: to }))
            }
        }
    }

    /// Takes note of the positions that an epoch holds.
    pub fn note(&self, epoch: u64, partitions: &[PartitionState]) {
        if matches!(self.origin, Origin::Table(_)) {
            let open = partitions.iter().filter(|p| !p.ended).map(|p| (p.name.clone(), p.position.clone()));
            let mut noted = self.noted.borrow_mut();
            noted.push_back((epoch, open.collect()));
            if noted.len() > NOTED_MAX {
                noted.pop_front();
            }
        }
    }

    /// Epochs through this one are committed: the readers may forget what they keep for going back behind it.
    pub fn tell_committed(&mut self, epoch: u64) -> Result<()> {
        let Origin::Table(table) = &mut self.origin else { return Ok(()) };
        let noted = self.noted.get_mut();
        let mut newest = None;
        while noted.front().is_some_and(|(of, _)| *of <= epoch) {
            newest = noted.pop_front();
        }
        let Some((_, positions)) = newest else { return Ok(()) };
        for (_, reader) in table.partitions.iter_mut().chain(&mut table.resting) {
            if let Some((_, position)) = positions.iter().find(|(name, _)| name == reader.name()) {
                reader.committed(position)?;
            }
        }
        Ok(())
    }

    pub fn values(cell: usize, rows: RecordBatch) -> SourceDriver {
        SourceDriver { cell, origin: Origin::Values(rows), ended: false, gates: Vec::new(), noted: RefCell::default() }
    }

    /// A table of which this task has no partition. It ends before any other source of the task speaks, so that it never
    /// holds the watermark back.
    pub fn is_empty(&self) -> bool {
        matches!(&self.origin, Origin::Table(table) if table.partitions.is_empty())
    }

    /// Hands on the next rows, if there are any. True when anything was done.
    pub fn poll(&mut self, chain: &Chain, clock: &dyn Clock) -> Result<bool> {
        let moved = match &mut self.origin {
            _ if self.ended => return Ok(false),
            _ if !self.gates.iter().all(|gate| gate.is_open()) => {
                self.not_asked(clock.now());
                return Ok(false);
            }
            Origin::Table(table) => {
                let now = clock.now();
                let moved = table.poll(self.cell, chain, now, clock)?;
                table.tell_metrics(self.cell, chain, now, moved.is_none());
                moved
            }
            Origin::Values(rows) => {
                chain.deliver(self.cell, 0, 0, Signal::Batch(rows.clone().into()))?;
                None
            }
        };
        match moved {
            Some(moved) => Ok(moved),
            // What is open stays open: the next run goes on here.
            None if self.rests() => self.stop(chain, false).map(|()| true),
            None => self.end(chain).map(|()| true),
        }
    }

    /// Its partitions are not silent: nobody has asked them.
    fn not_asked(&mut self, now: Millis) {
        if let Origin::Table(table) = &mut self.origin {
            table.partitions.iter().for_each(|(id, _)| table.feed.not_asked(*id, now));
        }
    }

    fn rests(&self) -> bool {
        matches!(&self.origin, Origin::Table(table) if !table.resting.is_empty())
    }

    /// Ends before the input does. With `drain` every window closes, as at the end of the input.
    pub fn stop(&mut self, chain: &Chain, drain: bool) -> Result<()> {
        if drain {
            return self.end(chain);
        }
        self.ended = true;
        chain.deliver(self.cell, 0, 0, Signal::Stop)
    }

    fn end(&mut self, chain: &Chain) -> Result<()> {
        self.ended = true;
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            chain.deliver(self.cell, 0, 0, Signal::Watermark(domain, Watermark::MAX))?;
        }
        chain.deliver(self.cell, 0, 0, Signal::End)
    }
}

impl Table {
    fn new(
        settings: Settings,
        feed: SourceFeed,
        partitions: VecDeque<(usize, Box<dyn PartitionReader>)>,
        holds: BTreeMap<usize, usize>,
        over: Vec<PartitionState>,
        first: Vec<Effect>,
    ) -> Table {
        let Settings { name, available_now, limit } = settings;
        Table {
            name,
            feed,
            partitions,
            over,
            holds,
            first,
            resting: Vec::new(),
            available_now,
            limit,
            told_at: Millis::MIN,
            skipped: 0,
            skipped_before: 0,
        }
    }

    /// Asks each partition at most once and stops at the first that has rows. `None` when all have ended.
    fn poll(&mut self, cell: usize, chain: &Chain, now: Millis, clock: &dyn Clock) -> Result<Option<bool>> {
        let first = std::mem::take(&mut self.first);
        self.carry_out(cell, chain, first)?;
        let mut found = Vec::new();
        for (_, reader) in &mut self.partitions {
            found.append(&mut reader.found()?);
        }
        for reader in found {
            self.partitions.push_back((self.feed.add_partition(reader.name(), now), reader));
            if let Some(limit) = &mut self.limit {
                limit.open.fetch_add(1, Relaxed);
            }
        }
        for _ in 0..self.partitions.len() {
            let Some((id, mut reader)) = self.partitions.pop_front() else { break };
            if let Some(limit) = &mut self.limit {
                match limit.rows(id, clock.monotonic_nanos()) {
                    0 => {
                        // It is not silent: nobody has asked it.
                        self.feed.not_asked(id, now);
                        self.partitions.push_back((id, reader));
                        continue;
                    }
                    rows => reader.take_at_most(rows),
                }
            }
            match reader.poll()? {
                Polled::Rows(rows) => {
                    if let Some(limit) = &mut self.limit {
                        limit.took(id, rows.rows.num_rows() + rows.bad.len());
                    }
                    self.count_skipped(cell, chain, reader.as_ref());
                    note_backfill(cell, chain, reader.as_ref());
                    self.partitions.push_back((id, reader));
                    chain.metrics.nodes[chain.cells[cell].node].bytes_read.fetch_add(rows.bytes, Relaxed);
                    let effects = self.feed.on_rows(id, rows, now)?;
                    self.carry_out(cell, chain, effects)?;
                    self.hold(cell, chain, id, now)?;
                    let reached = self.feed.partition_state(id).watermark;
                    if let Some((_, reader)) = self.partitions.back_mut() {
                        reader.reached(reached);
                    }
                    return Ok(Some(true));
                }
                Polled::Pending => {
                    note_backfill(cell, chain, reader.as_ref());
                    let promised = reader.promises();
                    self.partitions.push_back((id, reader));
                    self.hold(cell, chain, id, now)?;
                    if let Some(promised) = promised {
                        let effects = self.feed.on_promise(id, promised, now);
                        self.carry_out(cell, chain, effects)?;
                    }
                }
                Polled::End if self.available_now && !reader.ended_for_good() => {
                    self.close_share();
                    self.count_skipped(cell, chain, reader.as_ref());
                    note_backfill(cell, chain, reader.as_ref());
                    self.skipped_before += reader.skipped();
                    self.resting.push((id, reader));
                }
                Polled::End => {
                    self.close_share();
                    self.count_skipped(cell, chain, reader.as_ref());
                    note_backfill(cell, chain, reader.as_ref());
                    self.skipped_before += reader.skipped();
                    let mut effects = self.feed.on_end(id, now);
                    if let Some(hold) = self.holds.remove(&id) {
                        effects.extend(self.feed.on_end(hold, now));
                    }
                    // Where nothing is saved, nobody asks for its position, and not every reader knows one.
                    if chain.set_aside.is_some() {
                        self.over.push(PartitionState { ended: true, ..self.saved_partition(id, reader.as_ref())? });
                    }
                    self.carry_out(cell, chain, effects)?;
                }
            }
        }
        if self.partitions.is_empty() {
            return Ok(None);
        }
        let effects = self.feed.on_tick(now);
        let moved = !effects.is_empty();
        self.carry_out(cell, chain, effects)?;
        Ok(Some(moved))
    }

    /// A partition gives nothing more: its share of the table's rate goes to the others.
    fn close_share(&self) {
        if let Some(limit) = &self.limit {
            limit.open.fetch_sub(1, Relaxed);
        }
    }

    /// Tells the metrics of the partitions, now and then.
    fn tell_metrics(&mut self, cell: usize, chain: &Chain, now: Millis, at_end: bool) {
        // A clock that was put back counts from there.
        if !at_end && now >= self.told_at && now.saturating_sub(self.told_at) < TELL_EVERY {
            return;
        }
        self.told_at = now;
        let open = self.partitions.iter().map(|(id, reader)| PartitionFigures {
            name: reader.name().to_owned(),
            behind: reader.behind(),
            idle: self.feed.partition_state(*id).idle,
        });
        chain.metrics.nodes[chain.cells[cell].node].set_partitions(chain.task, open.collect());
    }

    /// The partition that was just asked, the last in turn, keeps the watermark where its slowest stream is.
    fn hold(&mut self, cell: usize, chain: &Chain, id: usize, now: Millis) -> Result<()> {
        let Some(&hold) = self.holds.get(&id) else { return Ok(()) };
        let lag = self.partitions.back().and_then(|(_, reader)| reader.lag()).unwrap_or_default();
        let to = behind(self.feed.partition_state(id).watermark, lag);
        let effects = self.feed.on_promise(hold, to, now);
        self.carry_out(cell, chain, effects)
    }

    fn saved(&self) -> Result<(Vec<PartitionState>, Watermarks)> {
        let open = self.partitions.iter().chain(&self.resting);
        let open = open.map(|(id, reader)| self.saved_partition(*id, reader.as_ref()));
        let open = open.collect::<Result<Vec<_>>>()?;
        let watermarks = Watermarks { event: self.feed.watermark(), processing: self.feed.clock() };
        Ok((self.over.iter().cloned().chain(open).collect(), watermarks))
    }

    fn saved_partition(&self, id: usize, reader: &dyn PartitionReader) -> Result<PartitionState> {
        let memory = self.feed.partition_state(id);
        Ok(PartitionState {
            name: reader.name().to_owned(),
            position: reader.position()?,
            watermark: (memory.watermark > Watermark::MIN).then_some(memory.watermark.0),
            rows: memory.rows,
            idle: memory.idle,
            ended: memory.ended,
        })
    }

    /// What the table's options leave out is counted, so that it shows.
    fn count_skipped(&mut self, cell: usize, chain: &Chain, asked: &dyn PartitionReader) {
        let others: u64 = self.partitions.iter().map(|(_, r)| r.skipped()).sum();
        let skipped = self.skipped_before + others + asked.skipped();
        chain.metrics.nodes[chain.cells[cell].node].skipped.fetch_add(skipped - self.skipped, Relaxed);
        self.skipped = skipped;
    }

    fn carry_out(&self, cell: usize, chain: &Chain, effects: Vec<Effect>) -> Result<()> {
        for effect in effects {
            let signal = match effect {
                Effect::Batch(batch) => Signal::Batch(batch),
                Effect::Watermark(domain, to) => Signal::Watermark(domain, to),
                Effect::Idle => Signal::Idle,
                Effect::Active => Signal::Active,
                // The driver says it itself, once every partition has ended.
                Effect::End => continue,
                Effect::Bad(bad) => {
                    chain.metrics.nodes[chain.cells[cell].node].bad.fetch_add(bad.len() as u64, Relaxed);
                    chain.set_aside_bad(&self.name, &bad)?;
                    continue;
                }
            };
            chain.deliver(cell, 0, 0, signal)?;
        }
        Ok(())
    }
}

fn behind(watermark: Watermark, lag: Millis) -> Watermark {
    if lag == Millis::MAX { Watermark::MIN } else { Watermark(watermark.0.saturating_sub(lag)) }
}

/// Shows how far a table is in its history, where it has one.
fn note_backfill(cell: usize, chain: &Chain, asked: &dyn PartitionReader) {
    if let Some(backfill) = asked.backfill() {
        chain.metrics.nodes[chain.cells[cell].node].backfill.set(backfill);
    }
}
