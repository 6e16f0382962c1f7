//! What the engine needs to run the same queries: batches in memory as a source, a sink that only counts.

use crate::loops::out::{checksum_of_changes, rows};
use crate::measure::{peak_mb, reset_peak, timed};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::metadata::ROW_ORDER;
use millstream_core::table::{TableUse, Takes};
use millstream_core::{
    Batch, Connectors, Error, PartitionReader, Polled, Result, Sink, SinkContext, Source, SourceRows, TableSpec,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Where the rows of table `bid` come from.
#[derive(Clone)]
pub enum SourceKind {
    /// Batches that lie in memory before the clock starts.
    Memory(Arc<Vec<RecordBatch>>),
    /// The nexmark connector, whose work is part of what is measured.
    Generator { events: usize, rate: u64 },
}

impl SourceKind {
    pub fn name(&self) -> &'static str {
        match self {
            SourceKind::Memory(_) => "memory",
            SourceKind::Generator { .. } => "generator",
        }
    }
}

/// What one run of the engine took and gave.
#[derive(Debug, Clone, Copy)]
pub struct RunResult {
    pub events: u64,
    pub rows_out: u64,
    /// As of [`checksum_of_changes`] over all rows out; 0 unless the run was asked to check.
    pub checksum: u64,
    pub wall_s: f64,
    pub cpu_s: f64,
    pub peak_mb: f64,
}

/// The engine, as the bench sees it.
pub trait EngineRunner {
    /// Runs `script` (DDL and the query) to its end over [`BenchConnectors`] with `source` behind table `bid`.
    /// `check` asks for the checksum, which takes time: such runs are not timed.
    fn run(&self, script: &str, source: SourceKind, parallelism: usize, check: bool) -> Result<RunResult>;
}

/// Three connectors: `memory`, `blackhole` and `nexmark`.
pub struct BenchConnectors {
    batches: Arc<Vec<RecordBatch>>,
    pub counts: Arc<Counts>,
}

/// What went into the sinks of a run.
#[derive(Default)]
pub struct Counts {
    check: AtomicBool,
    rows: AtomicU64,
    checksum: AtomicU64,
}

impl Counts {
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub fn checksum(&self) -> u64 {
        self.checksum.load(Ordering::Relaxed)
    }
}

impl BenchConnectors {
    pub fn new(source: &SourceKind, check: bool) -> BenchConnectors {
        let batches = match source {
            SourceKind::Memory(batches) => batches.clone(),
            SourceKind::Generator { .. } => Arc::default(),
        };
        BenchConnectors { batches, counts: Arc::new(Counts { check: AtomicBool::new(check), ..Counts::default() }) }
    }
}

/// Runs `job` over `connectors` and measures it; `job` says how many events it has read. What an [`EngineRunner`] does
/// around the engine, so that every engine is measured alike.
pub fn observe(connectors: &BenchConnectors, job: impl FnOnce() -> Result<u64>) -> Result<RunResult> {
    reset_peak();
    let (events, wall_s, cpu_s) = timed(job);
    let counts = &connectors.counts;
    let (rows_out, checksum) = (counts.rows(), counts.checksum());
    Ok(RunResult { events: events?, rows_out, checksum, wall_s, cpu_s, peak_mb: peak_mb() })
}

impl Connectors for BenchConnectors {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        match (table.connector(), use_as) {
            ("memory", TableUse::Source) | ("blackhole", TableUse::Sink) => Ok(()),
            ("nexmark", TableUse::Source) => millstream_connect::nexmark::validate(table),
            (other, _) => Err(Error::sql(format!("the bench has no connector `{other}` for {use_as:?}"))
                .remedy("it has memory and nexmark as sources, and blackhole as a sink")),
        }
    }

    fn metadata(&self, table: &TableSpec) -> Result<Vec<Field>> {
        Ok(match table.connector() {
            "memory" | "nexmark" => vec![Field::new(ROW_ORDER, arrow::datatypes::DataType::Int64, false)],
            _ => vec![],
        })
    }

    fn finds_fields_by_name(&self, _: &TableSpec) -> bool {
        true
    }

    fn takes(&self, _: &TableSpec) -> Takes {
        Takes::All
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        match table.connector() {
            "nexmark" => millstream_connect::nexmark::open(table),
            _ => Ok(Box::new(Memory::new(self.batches.clone(), table)?)),
        }
    }

    fn open_sink(&self, _table: &TableSpec, _context: &SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Blackhole { counts: self.counts.clone(), rows: 0, checksum: 0 }))
    }
}

/// Hands out batches that lie in memory, round robin to as many partitions as there are tasks.
struct Memory {
    batches: Arc<Vec<RecordBatch>>,
    schema: SchemaRef,
    columns: Vec<usize>,
    /// How many columns of row numbers to append.
    orders: usize,
}

impl Memory {
    fn new(batches: Arc<Vec<RecordBatch>>, table: &TableSpec) -> Result<Memory> {
        let own = batches.first().map(|b| b.schema()).unwrap_or_else(crate::data::bid_schema);
        let wanted: Vec<usize> = match &table.projection {
            Some(projection) => projection.clone(),
            None => (0..table.schema.fields().len()).collect(),
        };
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for i in wanted {
            let field = table.schema.field(i);
            columns.push(own.index_of(field.name())?);
            fields.push(field.clone());
        }
        fields.extend(table.metadata.iter().map(|(_, field)| field.clone()));
        Ok(Memory { batches, schema: Arc::new(Schema::new(fields)), columns, orders: table.metadata.len() })
    }
}

impl Source for Memory {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let of = parallelism.max(1);
        let firsts = self.batches.iter().scan(0, |rows, b| {
            let first = *rows;
            *rows += b.num_rows() as i64;
            Some(first)
        });
        let firsts: Arc<Vec<i64>> = Arc::new(firsts.collect());
        let reader = |partition: usize| -> Box<dyn PartitionReader> {
            Box::new(MemoryReader {
                name: format!("memory[{partition}]"),
                batches: self.batches.clone(),
                firsts: firsts.clone(),
                schema: self.schema.clone(),
                columns: self.columns.clone(),
                orders: self.orders,
                next: partition,
                step: of,
            })
        };
        Ok((0..of).map(reader).collect())
    }
}

/// A ROW column with only those of its fields that are wanted.
fn narrow(column: &ArrayRef, wanted: &Field) -> Result<ArrayRef> {
    let DataType::Struct(fields) = wanted.data_type() else { return Ok(column.clone()) };
    let own = column.as_struct();
    let child = |field: &Arc<Field>| {
        let found = own.column_by_name(field.name());
        found.cloned().ok_or_else(|| Error::internal(format!("there is no field {}", field.name())))
    };
    let children = fields.iter().map(child).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), children, own.nulls().cloned())?))
}

struct MemoryReader {
    name: String,
    batches: Arc<Vec<RecordBatch>>,
    /// The number of each batch's first row among all rows.
    firsts: Arc<Vec<i64>>,
    schema: SchemaRef,
    columns: Vec<usize>,
    orders: usize,
    next: usize,
    step: usize,
}

impl PartitionReader for MemoryReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        let Some(batch) = self.batches.get(self.next) else { return Ok(Polled::End) };
        let first = self.firsts[self.next];
        self.next += self.step;
        let fields = self.columns.iter().zip(self.schema.fields());
        let mut columns = fields.map(|(&c, field)| narrow(batch.column(c), field)).collect::<Result<Vec<_>>>()?;
        let numbers = || Int64Array::from_iter_values(first..first + batch.num_rows() as i64);
        columns.extend((0..self.orders).map(|_| Arc::new(numbers()) as ArrayRef));
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        // Nothing is read from outside.
        Ok(Polled::Rows(SourceRows { rows, kinds: None, bad: Vec::new(), bytes: 0 }))
    }
}

/// Counts the rows of the result that is left, and lets them go.
struct Blackhole {
    counts: Arc<Counts>,
    rows: u64,
    checksum: u64,
}

impl Sink for Blackhole {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.rows = self.rows.wrapping_add_signed(rows(batch));
        if self.counts.check.load(Ordering::Relaxed) {
            self.checksum = self.checksum.wrapping_add(checksum_of_changes(batch)?);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        // Both wrap around: one writer may take back what another has told.
        self.counts.rows.fetch_add(self.rows, Ordering::Relaxed);
        self.counts.checksum.fetch_add(self.checksum, Ordering::Relaxed);
        Ok(())
    }

    fn abort(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Bids, generator_spec};
    use crate::loops::out::Out;
    use crate::loops::stateless::q0;

    fn memory_spec(projection: Option<Vec<usize>>, order: bool) -> TableSpec {
        let mut spec = generator_spec(1, 1, projection);
        spec.options = [("connector".to_string(), "memory".to_string())].into();
        let field = Field::new("$order", arrow::datatypes::DataType::Int64, false);
        spec.metadata = if order { vec![(ROW_ORDER.into(), field)] } else { vec![] };
        spec
    }

    /// Plays an engine that hands rows on as they are.
    fn pass_through(connectors: &BenchConnectors, table: &TableSpec, parallelism: usize) -> Vec<RecordBatch> {
        connectors.validate(table, TableUse::Source).unwrap();
        let mut all = Vec::new();
        for (i, mut reader) in
            connectors.open_source(table).unwrap().partitions(parallelism).unwrap().into_iter().enumerate()
        {
            let mut sink = connectors.open_sink(table, &SinkContext::one_of(i, parallelism)).unwrap();
            while let Polled::Rows(rows) = reader.poll().unwrap() {
                sink.write(&Batch::from(rows.rows.clone())).unwrap();
                all.push(rows.rows);
            }
            sink.finish().unwrap();
        }
        all
    }

    #[test]
    fn rows_through_the_connectors_have_the_checksum_of_the_loop() {
        let batches = Bids::make(50_000, 1000).unwrap().at_rate(1000).unwrap();
        let mut out = Out::new(true);
        q0(&mut batches.iter().cloned(), &mut out);
        let columns = vec![0, 1, 2, 5, 6];
        for parallelism in [1, 2, 7] {
            for source in [SourceKind::Memory(batches.clone()), SourceKind::Generator { events: 50_000, rate: 1000 }] {
                let spec = match source {
                    SourceKind::Memory(_) => memory_spec(Some(columns.clone()), false),
                    _ => generator_spec(50_000, 1000, Some(columns.clone())),
                };
                let connectors = BenchConnectors::new(&source, true);
                let job = || {
                    let rows = pass_through(&connectors, &spec, parallelism);
                    Ok(rows.iter().map(|b| b.num_rows() as u64).sum())
                };
                let got = observe(&connectors, job).unwrap();
                let rows = (got.events, got.rows_out, got.checksum);
                assert_eq!(rows, (out.rows, out.rows, out.checksum), "{} x {parallelism}", source.name());
                assert!(got.cpu_s > 0.0 && got.wall_s > 0.0 && got.peak_mb > 0.0);
            }
        }
    }

    #[test]
    fn every_row_in_memory_has_its_number() {
        let batches = Bids::make(20_000, 1000).unwrap().at_rate(1000).unwrap();
        let connectors = BenchConnectors::new(&SourceKind::Memory(batches), false);
        let rows = pass_through(&connectors, &memory_spec(Some(vec![]), true), 3);
        let mut numbers: Vec<i64> = rows.iter().flat_map(|b| crate::data::numbers(b, "$order").to_vec()).collect();
        numbers.sort();
        assert_eq!(numbers, (0..20_000).collect::<Vec<_>>());
    }

    #[test]
    fn another_rate_changes_event_time_and_nothing_else() {
        let mut bids = Bids::make(10_000, 1000).unwrap();
        let slow = bids.at_rate(1000).unwrap();
        let fast = bids.at_rate(2000).unwrap();
        for (slow, fast) in slow.iter().zip(fast.iter()) {
            for (i, (a, b)) in slow.columns().iter().zip(fast.columns()).enumerate() {
                assert_eq!(a == b, i != 5, "column {i}");
            }
        }
    }
}
