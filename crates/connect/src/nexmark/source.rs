//! Partitions and batches of a nexmark table, and the rate at which they are handed out.

use super::generator::{Generator, Rows, rows_of_partition};
use super::layout::Layout;
use super::options::Options;
use crate::position;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, PartitionReader, Place, Polled, Result, SavedPartition, Source, SourceRows};
use serde::{Deserialize, Serialize};
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
        Ok((0..of).map(|partition| self.reader(partition, of, 0)).collect())
    }

    fn resume(&mut self, saved: &[SavedPartition], parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let Some(first) = saved.first() else { return self.partitions(parallelism) };
        let of = position::read::<Position>(first)?.of;
        let mut rows = vec![0; usize::try_from(of.min(PARTITIONS_MAX)).unwrap_or_default()];
        for saved in saved {
            let position: Position = position::read(saved)?;
            match usize::try_from(position.partition).ok().and_then(|n| rows.get_mut(n)) {
                Some(row) if position.of == of => *row = position.row,
                _ => {
                    return Err(Error::data("the saved partitions of the generator do not belong together")
                        .at(Place(saved.name.clone()))
                        .remedy("start the job afresh"));
                }
            }
            if position.seed != self.options.seed {
                return Err(Error::usage(format!(
                    "the job was started with 'seed' = '{}' and is to go on with '{}'",
                    position.seed, self.options.seed
                ))
                .remedy("set it back, or start the job afresh"));
            }
        }
        Ok((0..of).zip(rows).map(|(partition, row)| self.reader(partition, of, row)).collect())
    }

    fn replays(&self) -> bool {
        true
    }
}

/// More partitions than this are a damaged position.
const PARTITIONS_MAX: u64 = 1 << 16;

/// Where a partition goes on. Partitions stay as they were cut, so that each goes on with its own rows.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    partition: u64,
    /// How many partitions there are.
    of: u64,
    /// The row of the partition to go on with.
    row: u64,
    seed: u64,
}

impl NexmarkSource {
    fn reader(&self, partition: u64, of: u64, row: u64) -> Box<dyn PartitionReader> {
        let kind = self.options.kind;
        Box::new(Reader {
            name: format!("{}[{partition}]", self.table),
            generator: self.generator.clone(),
            next: Rows { kind, partition, of, first: row, count: 0 },
            rows: self.options.events.map(|events| rows_of_partition(kind, partition, of, events)),
            keep_alive: self.options.keep_alive,
            // Epochs are dealt out evenly, and so is the rate.
            rate: self.options.row_rate.map(|rate| rate / of as f64),
            seed: self.options.seed,
            given: 0,
            started: None,
            rows_max: BATCH_ROWS,
        })
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
    seed: u64,
    /// Rows since `started`.
    given: u64,
    /// When the first row was asked for.
    started: Option<Instant>,
    /// Rows of one batch at most.
    rows_max: u64,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        let left = self.rows.map_or(u64::MAX, |rows| rows.saturating_sub(self.next.first));
        if left == 0 {
            return Ok(if self.keep_alive { Polled::Pending } else { Polled::End });
        }
        let due = match self.rate {
            None => BATCH_ROWS,
            Some(rate) => due(rate, self.started.get_or_insert_with(Instant::now).elapsed(), self.given),
        };
        let count = due.min(left).min(self.rows_max);
        if count == 0 {
            return Ok(Polled::Pending);
        }
        let rows = self.generator.make(Rows { count: count as usize, ..self.next })?;
        self.next.first += count;
        self.given += count;
        let bytes = Batch::from(rows.clone()).bytes() as u64;
        Ok(Polled::Rows(SourceRows { rows, kinds: None, bad: Vec::new(), bytes }))
    }

    fn take_at_most(&mut self, rows: usize) {
        self.rows_max = (rows as u64).clamp(1, BATCH_ROWS);
    }

    fn position(&self) -> Result<String> {
        let Rows { partition, of, first, .. } = self.next;
        position::write(&Position { partition, of, row: first, seed: self.seed })
    }
}

/// Rows that may be handed out now: what the rate allows for the time since the start, less what has been given.
/// The first row is due at once; a reader that was not asked for a while catches up.
pub(super) fn due(rate: f64, elapsed: Duration, given: u64) -> u64 {
    let allowed = (elapsed.as_secs_f64() * rate) as u64 + 1;
    allowed.saturating_sub(given)
}
