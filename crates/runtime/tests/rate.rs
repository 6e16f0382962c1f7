//! The rate of a table, to the row: a clock that moves when it is told to, partitions of different lengths, readers that cut
//! their batches.

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::rate::RATE_LIMIT;
use millstream_core::table::{Connectors, TableUse};
use millstream_core::{
    Batch, Behind, Clock, Committer, Error, JobRun, Millis, PartitionReader, Polled, Prepared, Result, Sink,
    SinkContext, Source, TableSpec,
};
use millstream_dataflow::graph::{Changes, Dataflow, Input, Node, NodeKind, SinkNode, SourceNode};
use millstream_runtime::stepped::Turns;
use millstream_runtime::{JobConfig, Stepped};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Rows of each partition.
const LENGTHS: [usize; 3] = [40, 400, 400];

#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Millis {
        self.0.load(Relaxed)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.0.load(Relaxed) as u64 * 1_000_000
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

/// What the sink was given.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Vec<i64>>>);

impl Connectors for World {
    fn validate(&self, _: &TableSpec, _: TableUse) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, _: &TableSpec) -> Result<Vec<Field>> {
        Ok(Vec::new())
    }

    fn open_source(&self, _: &TableSpec) -> Result<Box<dyn Source>> {
        Ok(Box::new(Numbers))
    }

    fn open_sink(&self, _: &TableSpec, _: &SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Collect(self.clone())))
    }

    fn open_committer(&self, _: &TableSpec, _: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        Ok(None)
    }
}

struct Numbers;

impl Source for Numbers {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let reader = |p: usize| Reader { name: p.to_string(), from: 1000 * p, given: 0, of: LENGTHS[p], at_most: 8192 };
        Ok((0..3).map(|p| Box::new(reader(p)) as Box<dyn PartitionReader>).collect())
    }
}

struct Reader {
    name: String,
    from: usize,
    given: usize,
    of: usize,
    at_most: usize,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        let rows = self.at_most.min(self.of - self.given);
        if rows == 0 {
            return Ok(Polled::End);
        }
        let from = self.from + self.given;
        self.given += rows;
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values((from..from + rows).map(|n| n as i64)));
        Ok(Polled::Rows(RecordBatch::try_new(schema(), vec![column])?.into()))
    }

    fn take_at_most(&mut self, rows: usize) {
        assert!(rows > 0, "nobody is asked for nothing");
        self.at_most = rows;
    }

    fn behind(&self) -> Behind {
        Behind { rows: Some((self.of - self.given) as u64), ..Behind::default() }
    }
}

struct Collect(World);

impl Sink for Collect {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let column = batch.rows.column(0).as_any().downcast_ref::<Int64Array>();
        self.0.0.lock().unwrap().extend(column.ok_or_else(|| Error::internal("numbers"))?.values());
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}

    fn prepare(&mut self, _: u64) -> Result<Prepared> {
        Ok(Prepared::default())
    }
}

fn dataflow(rate: &str) -> Dataflow {
    let spec = |name: &str| TableSpec {
        name: name.into(),
        schema: schema(),
        projection: None,
        metadata: Vec::new(),
        options: [(RATE_LIMIT.to_owned(), rate.to_owned())].into(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    };
    let source = SourceNode {
        table: spec("in"),
        processing_time: false,
        computed: None,
        watermark: None,
        idle_timeout: None,
        wall_clock_fallback: None,
        nothing_late: false,
        null_time_set_aside: false,
        row_watermarks: false,
        brings: Changes::Insert,
    };
    let node = |id: &str, kind, inputs| Node {
        id: id.into(),
        label: id.into(),
        kind,
        inputs,
        schema: schema(),
        changes: Changes::Insert,
    };
    let sink = NodeKind::Sink(SinkNode { table: spec("out"), not_null: None });
    Dataflow {
        nodes: vec![node("source", NodeKind::Source(source), Vec::new()), node("sink", sink, vec![Input::forward(0)])],
        ..Dataflow::default()
    }
}

fn start(rate: &str, parallelism: usize) -> Result<(Stepped, World, Arc<Hand>)> {
    let (world, clock) = (World::default(), Arc::new(Hand::default()));
    let config = JobConfig { parallelism, clock: clock.clone(), ..JobConfig::default() };
    let turns = Turns { choose: Rc::new(|_| 0), messages_max: 16 };
    Ok((Stepped::start(&dataflow(rate), &world, config, turns)?, world, clock))
}

#[test]
fn a_table_keeps_to_its_rate_whoever_reads_it() {
    for parallelism in [1, 2, 3, 5] {
        let (mut job, world, clock) = start("300", parallelism).expect("starts");
        let mut seen = Vec::new();
        for step in 0..=3000 {
            clock.0.store(step, Relaxed);
            for _ in 0..3 {
                for worker in 0..job.workers() {
                    job.turn(worker).expect("no task fails");
                }
            }
            if step % 100 == 0 {
                seen.push(world.0.lock().unwrap().len());
            }
        }
        // Three shares of 100 rows a second until the short partition has given its 40, seen to have ended with the row
        // after; then two of 150.
        assert_eq!(seen[..5], [0, 30, 60, 90, 120], "parallelism {parallelism}");
        let later: Vec<usize> = seen[6..].windows(2).map(|w| w[1] - w[0]).take_while(|more| *more > 0).collect();
        let whole = &later[..later.len() - 1];
        assert!(whole.len() >= 20 && whole.iter().all(|more| *more == 30), "parallelism {parallelism}: {later:?}");
        assert!(job.is_over());
        job.finish().expect("ends well");
        let mut rows = std::mem::take(&mut *world.0.lock().unwrap());
        rows.sort_unstable();
        let all = (0..3).flat_map(|p| (0..LENGTHS[p]).map(move |n| (1000 * p + n) as i64));
        assert_eq!(rows, all.collect::<Vec<_>>(), "parallelism {parallelism}");
    }
}

#[test]
fn what_waits_in_front_of_a_limited_table_is_told() {
    let (mut job, world, clock) = start("300", 1).expect("starts");
    for step in 0..=1000 {
        clock.0.store(step, Relaxed);
        job.turn(0).expect("no task fails");
    }
    let given = world.0.lock().unwrap().len() as u64;
    let figures = job.metrics().nodes[0].partitions();
    let names: Vec<&str> = figures.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["1", "2"], "the short one has ended");
    let all = LENGTHS.iter().sum::<usize>() as u64;
    // Told twice a second, so by now at the most.
    let behind = job.metrics().snapshot().behind.rows.expect("known");
    assert!((all - given..=all - given + 150).contains(&behind), "{behind} of {all}, {given} given");
}

#[test]
fn a_rate_that_is_none_is_refused() {
    for rate in ["0", "-1", "many", "1.5", "2000000000"] {
        let e = start(rate, 1).err().expect(rate);
        assert!(e.what().contains(&format!("'{RATE_LIMIT}' cannot be '{rate}'")), "{e}");
    }
}
