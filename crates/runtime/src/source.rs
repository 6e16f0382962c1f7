//! Drives the partitions that one source task owns.

use crate::chain::Chain;
use crate::exchange::Signal;
use arrow::array::RecordBatch;
use millstream_core::{Millis, PartitionReader, Polled, Result, TimeDomain, Watermark};
use millstream_dataflow::feed::{Effect, SourceFeed};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) struct SourceDriver {
    /// The source's cell in the chain.
    cell: usize,
    origin: Origin,
    pub ended: bool,
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
    /// Rows and fields left out: those counted so far, and those of partitions that have ended.
    skipped: u64,
    skipped_before: u64,
}

impl SourceDriver {
    pub fn table(
        cell: usize,
        name: String,
        mut feed: SourceFeed,
        readers: Vec<Box<dyn PartitionReader>>,
        now: Millis,
    ) -> SourceDriver {
        let partitions = readers.into_iter().map(|reader| (feed.add_partition(reader.name(), now), reader)).collect();
        let table = Table { name, feed, partitions, skipped: 0, skipped_before: 0 };
        SourceDriver { cell, origin: Origin::Table(table), ended: false }
    }

    pub fn values(cell: usize, rows: RecordBatch) -> SourceDriver {
        SourceDriver { cell, origin: Origin::Values(rows), ended: false }
    }

    /// A table of which this task has no partition. It ends before any other source of the task speaks, so that it never
    /// holds the watermark back.
    pub fn is_empty(&self) -> bool {
        matches!(&self.origin, Origin::Table(table) if table.partitions.is_empty())
    }

    /// Hands on the next rows, if there are any. True when anything was done.
    pub fn poll(&mut self, chain: &Chain, now: Millis) -> Result<bool> {
        let moved = match &mut self.origin {
            _ if self.ended => return Ok(false),
            Origin::Table(table) => table.poll(self.cell, chain, now)?,
            Origin::Values(rows) => {
                chain.deliver(self.cell, 0, 0, Signal::Batch(rows.clone().into()))?;
                None
            }
        };
        match moved {
            Some(moved) => Ok(moved),
            None => self.end(chain).map(|()| true),
        }
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
    /// Asks each partition at most once and stops at the first that has rows. `None` when all have ended.
    fn poll(&mut self, cell: usize, chain: &Chain, now: Millis) -> Result<Option<bool>> {
        for _ in 0..self.partitions.len() {
            let Some((id, mut reader)) = self.partitions.pop_front() else { break };
            match reader.poll()? {
                Polled::Rows(rows) => {
                    self.count_skipped(cell, chain, reader.as_ref());
                    self.partitions.push_back((id, reader));
                    chain.metrics.nodes[chain.cells[cell].node].bytes.fetch_add(rows.bytes, Relaxed);
                    let effects = self.feed.on_rows(id, rows, now)?;
                    self.carry_out(cell, chain, effects)?;
                    return Ok(Some(true));
                }
                Polled::Pending => self.partitions.push_back((id, reader)),
                Polled::End => {
                    self.count_skipped(cell, chain, reader.as_ref());
                    self.skipped_before += reader.skipped();
                    let effects = self.feed.on_end(id, now);
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

    /// What the table's options leave out counts as bad, so that it shows.
    fn count_skipped(&mut self, cell: usize, chain: &Chain, asked: &dyn PartitionReader) {
        let others: u64 = self.partitions.iter().map(|(_, r)| r.skipped()).sum();
        let skipped = self.skipped_before + others + asked.skipped();
        chain.metrics.nodes[chain.cells[cell].node].bad.fetch_add(skipped - self.skipped, Relaxed);
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
                    chain.sides.bad(&self.name, &bad)?;
                    continue;
                }
            };
            chain.deliver(cell, 0, 0, signal)?;
        }
        Ok(())
    }
}
