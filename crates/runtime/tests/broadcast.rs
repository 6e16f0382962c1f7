//! Joins with a small table in every task: nothing of the large side is read before the small one has ended everywhere, and
//! every row of it meets all of the table, whatever the parallelism and however small the queues.

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use millstream_core::table::TableUse;
use millstream_core::{
    Batch, ByteSize, Connectors, PartitionReader, Polled, Result, Sink, SinkContext, Source, TableSpec,
};
use millstream_dataflow::graph::{
    Calc, Changes, Dataflow, Exchange, Input, Join, JoinKind, JoinScope, Node, NodeKind, SinkNode, SourceNode,
};
use millstream_runtime::{JobConfig, Placement, Stop, place, start};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PARTITIONS: usize = 3;

/// Batches of each partition of the small table, and rows in a batch.
const BATCHES: i64 = 20;
const ROWS: i64 = 50;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, false)]))
}

#[derive(Clone, Default)]
struct World {
    /// Partitions of the small table that have ended.
    ended: Arc<AtomicUsize>,
    /// The large side was read before that.
    too_early: Arc<AtomicBool>,
    /// The large side has no end.
    endless: bool,
    /// The right side of each pair.
    seen: Arc<Mutex<Vec<i64>>>,
}

fn spec(name: &str) -> TableSpec {
    TableSpec {
        name: name.into(),
        schema: schema(),
        projection: None,
        metadata: Vec::new(),
        options: Default::default(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    }
}

fn node(id: &str, kind: NodeKind, inputs: Vec<Input>) -> Node {
    Node { id: id.into(), label: id.into(), kind, inputs, schema: schema(), changes: Changes::Insert }
}

fn source(name: &str) -> NodeKind {
    NodeKind::Source(SourceNode {
        table: spec(name),
        processing_time: false,
        computed: None,
        watermark: None,
        idle_timeout: None,
        wall_clock_fallback: None,
        nothing_late: false,
        null_time_set_aside: false,
        row_watermarks: false,
        brings: Changes::Insert,
    })
}

/// `large` meets `small` behind an exchange by key. `entangled`: what both give beside comes out of one stage.
fn dataflow(entangled: bool) -> Dataflow {
    let by_key = |node| vec![Input { node, port: 0, exchange: Exchange::Hash(vec![0]) }];
    let join = NodeKind::Join(Join {
        kind: JoinKind::Inner,
        keys: vec![(0, 0)],
        null_equals_null: vec![false],
        residual: None,
        scope: JoinScope::Broadcast { small: 1, retracts: false },
    });
    let both = vec![Input::forward(0), Input { node: 2, port: 0, exchange: Exchange::Broadcast }];
    let mut joined = node("join", join, both);
    joined.schema =
        Arc::new(Schema::new(vec![Field::new("l", DataType::Int64, true), Field::new("r", DataType::Int64, true)]));
    let sink = |name: &str| NodeKind::Sink(SinkNode { table: spec(name), not_null: Default::default() });
    let mut nodes = vec![
        node("large", source("large"), Vec::new()),
        node("small", source("small"), Vec::new()),
        node("same", NodeKind::Calc(Calc { filter: None, columns: None }), by_key(1)),
        joined,
        node("pairs", sink("pairs"), vec![Input::forward(3)]),
    ];
    if entangled {
        nodes.push(node("union", NodeKind::Union, vec![Input::forward(0), Input::forward(1)]));
        nodes.push(node("rows", sink("rows"), vec![Input::forward(5)]));
    }
    Dataflow { nodes, ..Dataflow::default() }
}

impl World {
    fn job(&self, entangled: bool, parallelism: usize, queue_bytes: u64) -> Result<millstream_runtime::Job> {
        let config = JobConfig { parallelism, queue_bytes_max: ByteSize(queue_bytes), ..JobConfig::default() };
        start(&dataflow(entangled), self, config)
    }
}

impl Connectors for World {
    fn validate(&self, _: &TableSpec, _: TableUse) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, _: &TableSpec) -> Result<Vec<Field>> {
        Ok(Vec::new())
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        Ok(Box::new(Numbers { world: self.clone(), small: table.name == "small" }))
    }

    fn open_sink(&self, table: &TableSpec, _: &SinkContext) -> Result<Box<dyn Sink>> {
        Ok(Box::new(Collect { world: self.clone(), pairs: table.name == "pairs" }))
    }
}

struct Numbers {
    world: World,
    small: bool,
}

impl Source for Numbers {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        self.small || !self.world.endless
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let reader = |index| {
            Box::new(Reader { world: self.world.clone(), small: self.small, index, polls: 0, next: 0 })
                as Box<dyn PartitionReader>
        };
        Ok((0..PARTITIONS).map(reader).collect())
    }
}

struct Reader {
    world: World,
    small: bool,
    index: usize,
    polls: usize,
    next: i64,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        ["0", "1", "2"][self.index]
    }

    fn poll(&mut self) -> Result<Polled> {
        self.polls += 1;
        if !self.small && self.world.ended.load(SeqCst) < PARTITIONS {
            self.world.too_early.store(true, SeqCst);
        }
        if self.small && !self.polls.is_multiple_of(3) {
            return Ok(Polled::Pending);
        }
        if self.next == BATCHES && (self.small || !self.world.endless) {
            if self.small {
                self.world.ended.fetch_add(1, SeqCst);
            }
            return Ok(Polled::End);
        }
        let from = self.next * ROWS;
        self.next += 1;
        // Each key is in one partition of the small table, and in all of the large one.
        let keys = from..from + ROWS;
        let keys: Int64Array = match self.small {
            true => keys.map(|k| k * PARTITIONS as i64 + self.index as i64).collect(),
            false => keys.map(|k| k % (BATCHES * ROWS) * PARTITIONS as i64).collect(),
        };
        Ok(Polled::Rows(RecordBatch::try_new(schema(), vec![Arc::new(keys) as ArrayRef])?.into()))
    }
}

struct Collect {
    world: World,
    pairs: bool,
}

impl Sink for Collect {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        if self.pairs {
            let right = batch.rows.column(1).as_primitive::<Int64Type>().values().to_vec();
            self.world.seen.lock().expect("no writer panics").extend(right);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self) {}
}

#[test]
fn the_large_side_waits_for_the_small_one_and_meets_all_of_it() {
    for entangled in [false, true] {
        for parallelism in [1, 2, 7] {
            for queue_bytes in [1, 1 << 20] {
                let world = World::default();
                world.job(entangled, parallelism, queue_bytes).and_then(|j| j.wait()).expect("the job ends well");
                assert!(!world.too_early.load(SeqCst), "{parallelism} tasks");
                let mut seen = world.seen.lock().expect("no writer panics").clone();
                seen.sort_unstable();
                let each = (0..BATCHES * ROWS).flat_map(|k| std::iter::repeat_n(k * PARTITIONS as i64, PARTITIONS));
                assert_eq!(seen, each.collect::<Vec<_>>(), "{parallelism} tasks");
            }
        }
    }
}

#[test]
fn an_endless_large_side_stops_when_asked() {
    for parallelism in [1, 2, 7] {
        let world = World { endless: true, ..World::default() };
        let job = world.job(false, parallelism, 1 << 16).expect("the job starts");
        while world.seen.lock().expect("no writer panics").len() < 5_000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        job.stop(Stop::Here);
        job.wait().expect("the job stops well");
        assert!(!world.too_early.load(SeqCst));
    }
}

fn placed(entangled: bool, parallelism: usize) -> Placement {
    place(&dataflow(entangled), parallelism, &World::default()).expect("it can be placed")
}

#[test]
fn the_large_side_stays_where_it_is_unless_the_small_one_comes_out_of_its_stage() {
    let text = placed(false, 3).text();
    assert!(text.contains("join <- [0.0 Forward, 2.0 Broadcast]"), "{text}");
    let text = placed(true, 3).text();
    assert!(text.contains("join <- [0.0 Hash([0]), 2.0 Broadcast]"), "{text}");
    let text = placed(true, 1).text();
    assert!(text.contains("join <- [0.0 Forward, 2.0 Forward]"), "{text}");
}
