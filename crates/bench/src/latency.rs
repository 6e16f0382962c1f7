//! How long a row takes from its arrival to its emission, at a steady rate.
//!
//! Rows are due at fixed moments whether the engine keeps up or not, and each carries the moment at which it was due: a
//! stall shows in every row that had to wait, not in one.

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millstream::{Mode, Program, RunOptions, Runner, Step, Tables};
use millstream_core::table::TableUse;
use millstream_core::{Batch, Connectors, PartitionReader, Polled, Result, Sink, SinkContext, Source, TableSpec};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What was measured, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub rows: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

/// Sends `rate` rows a second for `seconds` through a filter.
///
/// # Errors
/// Whatever the engine says.
pub fn measure(rate: u64, seconds: u64, parallelism: usize) -> Result<Latency> {
    let paced = Paced { start: Instant::now(), rate, rows: rate * seconds, delays: Arc::default() };
    let script = "CREATE TABLE arriving (due BIGINT NOT NULL) WITH ('connector' = 'paced'); \
                  CREATE TABLE leaving (due BIGINT NOT NULL) WITH ('connector' = 'paced'); \
                  INSERT INTO leaving SELECT due FROM arriving WHERE due >= 0";
    let options = RunOptions {
        mode: Some(Mode::Streaming),
        parallelism: Some(parallelism),
        tables: Tables::over(Arc::new(paced.clone())),
        ..RunOptions::default()
    };
    let mut runner = Runner::new(Program::parse(script, "latency.sql")?, options);
    while let Some(step) = runner.step() {
        if let Step::Running(running) = step? {
            running.wait()?;
        }
    }
    let mut delays = std::mem::take(&mut *paced.delays.lock().unwrap_or_else(|p| p.into_inner()));
    delays.sort_unstable();
    let at = |share: f64| {
        let i = ((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1));
        delays.get(i).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    };
    Ok(Latency { rows: delays.len(), p50_ms: at(0.5), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: at(1.0) })
}

/// Source and sink at once: they share the clock.
#[derive(Clone)]
struct Paced {
    /// Planning and opening fall into the first second, which does not count.
    start: Instant,
    rate: u64,
    rows: u64,
    /// Nanoseconds from due to written, of all rows but those of the first second.
    delays: Arc<Mutex<Vec<u64>>>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("due", DataType::Int64, false)]))
}

impl Connectors for Paced {
    fn validate(&self, _: &TableSpec, _: TableUse) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, _: &TableSpec) -> Result<Vec<Field>> {
        Ok(Vec::new())
    }

    fn open_source(&self, _: &TableSpec) -> Result<Box<dyn Source>> {
        Ok(Box::new(self.clone()))
    }

    fn open_sink(&self, _: &TableSpec, _: &SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Arrivals { world: self.clone(), delays: Vec::new() }))
    }
}

impl Source for Paced {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        Ok(vec![Box::new(Reader { world: self.clone(), sent: 0 })])
    }
}

struct Reader {
    world: Paced,
    sent: u64,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        "paced"
    }

    fn poll(&mut self) -> Result<Polled> {
        if self.sent == self.world.rows {
            return Ok(Polled::End);
        }
        let elapsed = self.world.start.elapsed().as_nanos() as u64;
        let due = (u128::from(elapsed) * u128::from(self.world.rate) / 1_000_000_000) as u64;
        let to = due.min(self.world.rows).min(self.sent + 8_192);
        if to == self.sent {
            return Ok(Polled::Pending);
        }
        let moments = (self.sent..to).map(|i| (i * 1_000_000_000 / self.world.rate) as i64);
        let rows = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from_iter_values(moments))])?;
        self.sent = to;
        Ok(Polled::Rows(rows.into()))
    }
}

struct Arrivals {
    world: Paced,
    delays: Vec<u64>,
}

impl Sink for Arrivals {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let now = self.world.start.elapsed().as_nanos() as u64;
        let due = batch.rows.column(0).as_primitive::<Int64Type>().values();
        self.delays.extend(due.iter().filter(|d| **d > 1_000_000_000).map(|d| now.saturating_sub(*d as u64)));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.world.delays.lock().unwrap_or_else(|p| p.into_inner()).append(&mut self.delays);
        Ok(())
    }

    fn abort(&mut self) {}
}
