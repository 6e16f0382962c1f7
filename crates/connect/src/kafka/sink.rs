//! The writers of a table.
//!
//! ```text
//!  exactly once:   write ─▶ held ──prepare──▶ the epoch's outbox (checkpoint) ──▶ commit.rs
//!                            └──as they come──▶ the transaction of the epoch that runs ──▶ running.rs
//!  at least once:  write ─▶ client's queue ──prepare, finish: wait until all has arrived──▶ broker
//! ```
//!
//! Rows with a key are held for a moment in any case, so that of several changes of a key only the last is sent. Exactly once they are
//! held until the barrier, for that reason: nothing of them is sent before.

use super::client::writer;
use super::commit::{STEP_ROWS, transactional_id};
use super::encode::{Encode, Encoded};
use super::layout::Writing;
use super::options::Settings;
use super::produce::Produce;
use super::running::{AllRunning, Part, Running};
use crate::compact::Held;
use crate::options::Guarantee;
use crate::outbox::Outbox;
use millstream_core::{Batch, Prepared, Result, Sink, SinkContext, TableSpec};
use std::sync::Arc;

/// Bytes of changes by key that are held back before they are sent, without exactly-once.
const HELD_BYTES_MAX: usize = 4 << 20;

pub fn open(table: &TableSpec, settings: Settings, context: &SinkContext, all: &AllRunning) -> Result<Box<dyn Sink>> {
    let writing = Writing::of(table, &settings)?;
    let held = if settings.value.format.tells_changes() { Held::all(table) } else { Held::new(table)? };
    if Guarantee::commits(settings.sink.guarantee, context.job.is_some())? {
        // The committer holds the connection, and has looked for the topic.
        let running = context.job.as_ref().and_then(|job| all.find(&transactional_id(&settings, job), job.generation));
        let running = running.filter(|_| held.keeps_rows());
        let outbox = Outbox::new(table, held, settings.sink.outbox_bytes_max);
        let Some(running) = running else { return Ok(Box::new(outbox)) };
        let encode = Encode::new(&writing, settings.upsert)?;
        let (writer, part) = (context.index, 0);
        return Ok(Box::new(Flowing { settings, outbox, encode, running, writer, part, place: Place::default() }));
    }
    let produce = Produce::new(&settings, writer(&settings.properties, None)?)?;
    let encode = Encode::new(&writing, settings.upsert)?;
    Ok(Box::new(Direct { held, encode, produce, index: context.index, settings }))
}

struct Direct {
    settings: Settings,
    held: Held,
    encode: Encode,
    produce: Produce,
    index: usize,
}

impl Direct {
    fn send(&mut self) -> Result<()> {
        for batch in self.held.take()? {
            let records = self.encode.encode(&batch)?;
            self.produce.send(&self.settings, &records, self.index)?;
        }
        Ok(())
    }
}

impl Sink for Direct {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.held.push(batch)?;
        if self.settings.upsert && self.held.bytes() < HELD_BYTES_MAX {
            return Ok(());
        }
        self.send()
    }

    fn flush(&mut self) -> Result<()> {
        self.send()?;
        self.produce.check(&self.settings)
    }

    fn finish(&mut self) -> Result<()> {
        self.send()?;
        self.produce.arrive(&self.settings)
    }

    fn abort(&mut self) {
        self.held.clear();
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Prepared> {
        self.send()?;
        // The epoch's manifest says that it need not be read again, so what it wrote has to be there.
        if self.settings.sink.guarantee != Some(Guarantee::None) {
            self.produce.arrive(&self.settings)?;
        }
        Ok(Prepared::default())
    }

    fn bytes(&self) -> u64 {
        self.produce.bytes()
    }
}

/// Keeps the rows of an epoch for the checkpoint, and sends them into the transaction that is open meanwhile.
struct Flowing {
    settings: Settings,
    outbox: Outbox,
    encode: Encode,
    running: Arc<Running>,
    writer: usize,
    part: u64,
    place: Place,
}

/// How far the rows of a part have been sent.
#[derive(Default)]
struct Place {
    /// So many rows, which are all of the batches before this one and some of its own.
    rows: u64,
    batch: usize,
    row: usize,
    /// Records of its rows from there on, where the client had no room for all of them.
    rest: Option<(Encoded, usize)>,
}

impl Flowing {
    /// Sends what waits, if that is possible now. What brokers say of it the committer finds out: the rows are safe in the outbox.
    fn send(&mut self) -> Result<()> {
        let Flowing { settings, outbox, encode, running, writer, part, place } = self;
        let mut unwritable = None;
        running.offer(*writer, *part, |produce, there| {
            if place.rows != there {
                // Another transaction: all rows of the part have to go there.
                *place = Place::default();
            }
            let encode = |rows: &Batch| encode.encode(rows).inspect_err(|e| unwritable = Some(e.clone()));
            place.send(outbox.held().batches(), encode, |records, from| {
                produce.offer(settings, records, from, *writer)
            })?;
            Ok(place.rows)
        });
        unwritable.map_or(Ok(()), Err)
    }
}

impl Place {
    /// Sends from here on, as long as `offer` takes everything; it says up to which row it has taken records.
    fn send(
        &mut self,
        batches: &[Batch],
        mut encode: impl FnMut(&Batch) -> Result<Encoded>,
        mut offer: impl FnMut(&Encoded, usize) -> Result<usize>,
    ) -> Result<()> {
        while let Some(batch) = batches.get(self.batch) {
            if self.row == batch.len() {
                (self.batch, self.row) = (self.batch + 1, 0);
                continue;
            }
            let (records, from) = match self.rest.take() {
                Some(rest) => rest,
                None => (encode(&batch.slice(self.row, STEP_ROWS.min(batch.len() - self.row)))?, 0),
            };
            let to = offer(&records, from)?;
            self.row += to - from;
            self.rows += (to - from) as u64;
            if to < records.len() {
                self.rest = Some((records, to));
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Sink for Flowing {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.outbox.write(batch)?;
        self.send()
    }

    fn flush(&mut self) -> Result<()> {
        self.outbox.flush()?;
        self.send()
    }

    fn finish(&mut self) -> Result<()> {
        self.outbox.finish()
    }

    fn abort(&mut self) {
        self.outbox.abort();
    }

    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        self.send()?;
        let mut prepared = self.outbox.prepare(epoch)?;
        self.running.seal(self.writer, self.part);
        // Also without a row: the committer has to hear that the writer may send again.
        let part = Part { run: self.running.run, writer: self.writer, part: self.part };
        prepared.committable = Some(part.write()?);
        self.part += 1;
        self.place = Place::default();
        Ok(prepared)
    }

    fn bytes(&self) -> u64 {
        self.outbox.bytes()
    }
}
