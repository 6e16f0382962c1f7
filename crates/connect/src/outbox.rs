//! A writer whose rows wait in the checkpoint until the committer writes them to a server.
//!
//! For servers that cannot hold a transaction open over a crash: what an epoch wrote is kept with the checkpoint, and the
//! committer writes it in one transaction together with a note of the epoch.

use crate::compact::Held;
use crate::options::GUARANTEE;
use millstream_core::{Batch, ByteSize, Error, Prepared, Result, Sink, TableSpec};

pub const OUTBOX_BYTES: &str = "sink.outbox.max-bytes";

/// Bytes that one writer may hold for an epoch. They are in memory, then in the checkpoint, then in one transaction.
pub const OUTBOX_BYTES_MAX_DEFAULT: ByteSize = ByteSize::mib(256);

pub struct Outbox {
    table: String,
    held: Held,
    bytes_max: ByteSize,
    bytes: u64,
}

impl Outbox {
    pub fn new(table: &TableSpec, held: Held, bytes_max: ByteSize) -> Outbox {
        Outbox { table: table.name.clone(), held, bytes_max, bytes: 0 }
    }

    /// The rows of the epoch that runs.
    #[cfg(feature = "kafka")]
    pub fn held(&self) -> &Held {
        &self.held
    }
}

impl Sink for Outbox {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.held.push(batch)?;
        if self.held.bytes() as u64 <= self.bytes_max.0 {
            return Ok(());
        }
        self.held.compact()?;
        // Half, or the next row would have to compact all of it again.
        if self.held.bytes() as u64 <= self.bytes_max.0 / 2 {
            return Ok(());
        }
        Err(Error::usage(format!(
            "an epoch has more rows for `{}` than a writer may hold: {} of {}",
            self.table,
            ByteSize(self.held.bytes() as u64),
            self.bytes_max
        ))
        .remedy(format!(
            "take checkpoints more often ('execution.checkpointing.interval'), raise '{OUTBOX_BYTES}', or set '{GUARANTEE}' = 'at-least-once'"
        )))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.held.rows() == 0 {
            return Ok(());
        }
        Err(Error::internal(format!("`{}` was ended with rows that no epoch has", self.table)))
    }

    fn abort(&mut self) {
        self.held.clear();
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Prepared> {
        let outbox = self.held.take()?;
        self.bytes += outbox.iter().map(|b| b.bytes() as u64).sum::<u64>();
        Ok(Prepared { outbox, ..Prepared::default() })
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
