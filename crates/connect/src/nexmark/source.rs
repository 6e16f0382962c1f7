//! Partitions and batches of a nexmark table, and the rate at which they are handed out.

use super::generator::{Generator, Rows, rows_of_partition};
use super::layout::Layout;
use super::options::Options;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, PartitionReader, Polled, Result, Source, SourceRows};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of a full batch.
const BATCH_ROWS: u64 = 8192;

pub(super) struct NexmarkSource {
    schema: SchemaRef,
    table: String,
    options: Options,
    generator: Arc<Generator>,
}

impl NexmarkSource {
    pub(super) fn new(layout: Layout, options: Options) -> NexmarkSource {
        let (schema, table) = (layout.schema.clone(), layout.table.clone());
        let generator = Arc::new(Generator::new(layout, &options));
        NexmarkSource { schema, table, options, generator }
    }
}

impl Source for NexmarkSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.options.events.is_some() && !self.options.keep_alive
    }

    fn partitions(&mut self, parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let of = parallelism.max(1) as u64;
        let reader = |partition: u64| -> Box<dyn PartitionReader> {
            let kind = self.options.kind;
            Box::new(Reader {
                name: format!("{}[{partition}]", self.table),
                generator: self.generator.clone(),
                next: Rows { kind, partition, of, first: 0, count: 0 },
                rows: self.options.events.map(|events| rows_of_partition(kind, partition, of, events)),
                keep_alive: self.options.keep_alive,
                // Epochs are dealt out evenly, and so is the rate.
                rate: self.options.row_rate.map(|rate| rate / of as f64),
                started: None,
            })
        };
        Ok((0..of).map(reader).collect())
    }
}

struct Reader {
    name: String,
    generator: Arc<Generator>,
    /// `first` is the row to go on with.
    next: Rows,
    /// Rows of this partition in all; `None`: endless.
    rows: Option<u64>,
    keep_alive: bool,
    /// Rows per second of the wall clock.
    rate: Option<f64>,
    /// When the first row was asked for.
    started: Option<Instant>,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        let left = self.rows.map_or(u64::MAX, |rows| rows - self.next.first);
        if left == 0 {
            return Ok(if self.keep_alive { Polled::Pending } else { Polled::End });
        }
        let due = match self.rate {
            None => BATCH_ROWS,
            Some(rate) => due(rate, self.started.get_or_insert_with(Instant::now).elapsed(), self.next.first),
        };
        let count = due.min(left).min(BATCH_ROWS);
        if count == 0 {
            return Ok(Polled::Pending);
        }
        let rows = self.generator.make(Rows { count: count as usize, ..self.next })?;
        self.next.first += count;
        let bytes = Batch::from(rows.clone()).bytes() as u64;
        Ok(Polled::Rows(SourceRows { rows, bad: Vec::new(), bytes }))
    }
}

/// Rows that may be handed out now: what the rate allows for the time since the start, less what has been given.
/// The first row is due at once; a reader that was not asked for a while catches up.
pub(super) fn due(rate: f64, elapsed: Duration, given: u64) -> u64 {
    let allowed = (elapsed.as_secs_f64() * rate) as u64 + 1;
    allowed.saturating_sub(given)
}
