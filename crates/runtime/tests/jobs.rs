//! Whole jobs over tables in memory: every row arrives once, whatever the parallelism, however small the queues; and
//! nothing that failed looks complete.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use millstream_core::table::TableUse;
use millstream_core::{
    Batch, ByteSize, Connectors, Error, ErrorKind, PartitionReader, Polled, Result, Sink, SinkContext, Source,
    TableSpec,
};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{
    Calc, Changes, Dataflow, Exchange, Input, Node, NodeKind, SinkNode, SourceNode, WatermarkSpec,
};
use millstream_runtime::{JobConfig, Stop, start};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, None);
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false), Field::new("ts", time, false)]))
}

/// `batches` batches of 100 rows; keys count up through all partitions.
#[derive(Clone)]
struct World {
    batches: usize,
    partitions: usize,
    endless: bool,
    fail_at: Option<i64>,
    panic_at: Option<i64>,
    slow: bool,
    seen: Arc<Mutex<Vec<i64>>>,
    finished: Arc<AtomicUsize>,
    aborted: Arc<AtomicUsize>,
}

impl World {
    fn new(batches: usize, partitions: usize) -> World {
        World {
            batches,
            partitions,
            endless: false,
            fail_at: None,
            panic_at: None,
            slow: false,
            seen: Arc::default(),
            finished: Arc::default(),
            aborted: Arc::default(),
        }
    }

    fn seen(&self) -> Vec<i64> {
        let mut seen = self.seen.lock().expect("no writer panics").clone();
        seen.sort_unstable();
        seen
    }

    fn job(&self, parallelism: usize, queue_bytes: u64) -> Result<millstream_runtime::Job> {
        let config = JobConfig { parallelism, queue_bytes_max: ByteSize(queue_bytes), ..JobConfig::default() };
        start(&dataflow(), self, config)
    }
}

/// Source, then twice an exchange by key, then the sink.
fn dataflow() -> Dataflow {
    let spec = |name: &str| TableSpec {
        name: name.into(),
        schema: schema(),
        projection: None,
        metadata: Vec::new(),
        options: Default::default(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    };
    let source = SourceNode {
        table: spec("in"),
        processing_time: false,
        computed: None,
        watermark: Some(WatermarkSpec { column: 1, expression: Expr::column(&schema(), 1), delay: Some(0) }),
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
    let by = |node, column| vec![Input { node, port: 0, exchange: Exchange::Hash(vec![column]) }];
    let calc = || NodeKind::Calc(Calc { filter: None, columns: None });
    Dataflow {
        nodes: vec![
            node("source", NodeKind::Source(source), Vec::new()),
            node("first", calc(), by(0, 0)),
            node("second", calc(), by(1, 1)),
            node(
                "sink",
                NodeKind::Sink(SinkNode { table: spec("out"), not_null: Default::default() }),
                vec![Input::forward(2)],
            ),
        ],
        ..Dataflow::default()
    }
}

impl Connectors for World {
    fn validate(&self, _: &TableSpec, _: TableUse) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, _: &TableSpec) -> Result<Vec<Field>> {
        Ok(Vec::new())
    }

    fn open_source(&self, _: &TableSpec) -> Result<Box<dyn Source>> {
        Ok(Box::new(Numbers(self.clone())))
    }

    fn open_sink(&self, _: &TableSpec, _: &SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Collect { world: self.clone(), open: AtomicBool::new(true) }))
    }
}

struct Numbers(World);

impl Source for Numbers {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        !self.0.endless
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let world = &self.0;
        let reader = |i| Box::new(Reader { world: world.clone(), index: i, next: i }) as Box<dyn PartitionReader>;
        Ok((0..world.partitions).map(reader).collect())
    }
}

struct Reader {
    world: World,
    index: usize,
    next: usize,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        ["0", "1", "2", "3"][self.index]
    }

    fn poll(&mut self) -> Result<Polled> {
        if self.next >= self.world.batches && !self.world.endless {
            return Ok(Polled::End);
        }
        let from = (self.next * 100) as i64;
        self.next += self.world.partitions;
        let keys: Vec<i64> = (from..from + 100).collect();
        let times: Vec<i64> = keys.iter().map(|k| k / 10).collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(keys)), Arc::new(TimestampMillisecondArray::from(times))];
        Ok(Polled::Rows(RecordBatch::try_new(schema(), columns)?.into()))
    }
}

struct Collect {
    world: World,
    open: AtomicBool,
}

impl Sink for Collect {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let keys = batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        if self.world.fail_at.is_some_and(|k| keys.contains(&k)) {
            return Err(Error::io("the disk is full"));
        }
        if self.world.panic_at.is_some_and(|k| keys.contains(&k)) {
            panic!("a bug in a sink");
        }
        if self.world.slow {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.world.seen.lock().expect("no writer panics").extend(keys);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        assert!(self.open.swap(false, SeqCst), "a sink is finished once");
        self.world.finished.fetch_add(1, SeqCst);
        Ok(())
    }

    fn abort(&mut self) {
        self.world.aborted.fetch_add(1, SeqCst);
    }
}

#[test]
fn every_row_arrives_once_at_any_parallelism() {
    for parallelism in [1, 2, 7] {
        for partitions in [1, 3] {
            let world = World::new(200, partitions);
            let summary = world.job(parallelism, 1 << 20).and_then(|j| j.wait()).expect("the job ends well");
            assert_eq!(world.seen(), (0..20_000).collect::<Vec<i64>>());
            assert_eq!((summary.snapshot.rows_in, summary.snapshot.rows_out), (20_000, 20_000));
            assert_eq!((world.finished.load(SeqCst), world.aborted.load(SeqCst)), (parallelism, 0));
            assert_eq!(summary.snapshot.queued_bytes, 0);
        }
    }
}

#[test]
fn queues_smaller_than_a_batch_slow_the_job_down_and_stop_nothing() {
    for parallelism in [2, 7] {
        let mut world = World::new(300, 3);
        world.slow = true;
        world.job(parallelism, 1).and_then(|j| j.wait()).expect("the job ends well");
        assert_eq!(world.seen(), (0..30_000).collect::<Vec<i64>>());
    }
}

#[test]
fn a_slow_sink_holds_the_source_back() {
    let mut world = World::new(100_000, 2);
    world.slow = true;
    let job = world.job(2, 64 << 10).expect("the job starts");
    let mut most = 0;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(2));
        most = most.max(job.metrics().snapshot().queued_bytes);
    }
    // Two inboxes of 64 KiB for each of two stages, and one batch past the bound for each sender.
    assert!(most < 4 * (64 << 10) + 16 * 4096, "{most} bytes waited in queues");
    job.stop(Stop::Here);
    job.wait().expect("the job stops well");
}

#[test]
fn a_failing_sink_fails_the_job_and_no_sink_finishes() {
    for parallelism in [1, 2, 7] {
        let mut world = World::new(400, 3);
        world.fail_at = Some(17_777);
        let error = world.job(parallelism, 1 << 16).and_then(|j| j.wait()).expect_err("the sink fails");
        assert_eq!((error.kind(), error.what()), (ErrorKind::Io, "the disk is full"));
        assert_eq!((world.finished.load(SeqCst), world.aborted.load(SeqCst)), (0, parallelism));
    }
}

#[test]
fn a_panic_is_an_error_and_not_the_end_of_the_process() {
    for parallelism in [1, 2] {
        let mut world = World::new(50, 1);
        world.panic_at = Some(1_234);
        let error = world.job(parallelism, 1 << 16).and_then(|j| j.wait()).expect_err("the sink panics");
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.what().contains("a bug in a sink"), "{error}");
        assert_eq!(world.finished.load(SeqCst), 0);
    }
}

#[test]
fn an_endless_job_stops_when_asked_and_keeps_what_arrived() {
    for how in [Stop::Here, Stop::Drain] {
        for parallelism in [1, 2, 7] {
            let mut world = World::new(0, 2);
            world.endless = true;
            let job = world.job(parallelism, 1 << 16).expect("the job starts");
            while world.seen.lock().expect("no writer panics").len() < 5_000 {
                std::thread::sleep(Duration::from_millis(1));
            }
            job.stop(how);
            let summary = job.wait().expect("the job stops well");
            assert_eq!(summary.stopped, Some(how));
            assert_eq!(summary.snapshot.rows_in, world.seen().len() as u64, "what was read has arrived");
            assert_eq!(world.finished.load(SeqCst), parallelism);
        }
    }
}

#[test]
fn a_dropped_job_takes_everything_back() {
    let mut world = World::new(0, 1);
    world.endless = true;
    drop(world.job(2, 1 << 16).expect("the job starts"));
    assert_eq!((world.finished.load(SeqCst), world.aborted.load(SeqCst)), (0, 2));
}
