//! The writers of a table.
//!
//! ```text
//!  exactly once:   write ─▶ held ──prepare──▶ the epoch's outbox (checkpoint) ──▶ commit.rs
//!  at least once:  write ─▶ client's queue ──prepare, finish: wait until all has arrived──▶ broker
//! ```
//!
//! Rows with a key are held for a moment in any case, so that of several changes of a key only the last is sent.

use super::client::writer;
use super::encode::Encode;
use super::layout::Writing;
use super::options::Settings;
use super::produce::Produce;
use crate::compact::Held;
use crate::options::Guarantee;
use crate::outbox::Outbox;
use millstream_core::{Batch, Prepared, Result, Sink, SinkContext, TableSpec};

/// Bytes of changes by key that are held back before they are sent, without exactly-once.
const HELD_BYTES_MAX: usize = 4 << 20;

pub fn open(table: &TableSpec, settings: Settings, context: &SinkContext) -> Result<Box<dyn Sink>> {
    let writing = Writing::of(table, &settings)?;
    let held = if settings.value.format.tells_changes() { Held::all(table) } else { Held::new(table)? };
    if Guarantee::commits(settings.sink.guarantee, context.job.is_some())? {
        // The committer holds the connection, and has looked for the topic.
        return Ok(Box::new(Outbox::new(table, held, settings.sink.outbox_bytes_max)));
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
