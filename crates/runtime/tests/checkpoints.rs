//! Jobs that are killed at any moment and come back, on other tasks each time: what their sink has shown in the end is
//! what an undisturbed job shows.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use millstream_core::table::TableUse;
use millstream_core::{
    Batch, ByteSize, Committable, Committer, Connectors, Error, JobRun, MemoryStore, PartitionReader, Polled, Prepared,
    Result, SavedPartition, Sink, SinkContext, Source, Store, TableSpec, TimeDomain,
};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{
    AggregateCall, AggregateFunction, Dataflow, Exchange, Input, Node, NodeKind, SinkNode, SourceNode, WatermarkSpec,
    Window, WindowAggregate, WindowTime,
};
use millstream_runtime::{CheckpointConfig, JobConfig, Restore, Stop, start};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PARTITIONS: usize = 3;
/// Rows of one partition.
const ROWS: i64 = 6_000;

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// `k, ts, v`.
fn schema() -> SchemaRef {
    let columns = [("k", DataType::Int64), ("ts", time()), ("v", DataType::Int64)];
    Arc::new(Schema::new(columns.map(|(n, t)| Field::new(n, t, false)).to_vec()))
}

/// What lies outside of the job and outlives it.
#[derive(Clone, Default)]
struct World {
    /// Prepared and not yet shown, by committable.
    staged: Arc<Mutex<BTreeMap<String, Vec<Vec<i64>>>>>,
    shown: Arc<Mutex<Vec<Vec<i64>>>>,
    commits: Arc<Mutex<BTreeSet<String>>>,
    /// Every so many polls a reader has nothing; 0: never.
    pauses: u64,
}

impl World {
    fn shown(&self) -> Vec<Vec<i64>> {
        let mut rows = self.shown.lock().unwrap().clone();
        rows.sort();
        rows
    }
}

/// Key, time and value of a row, of which each is out of order by up to 200 ms.
fn row(partition: usize, i: i64) -> [i64; 3] {
    let noise = (i * 7919 + partition as i64 * 104_729) % 200;
    [(i * 31 + partition as i64) % 53, i * 5 + noise, i]
}

fn dataflow() -> Dataflow {
    dataflow_by(Window::Hop { size: 2_000, slide: 500, offset: 0 }, &[0])
}

fn dataflow_by(window: Window, keys: &[usize]) -> Dataflow {
    let spec = |name: &str, schema: SchemaRef| TableSpec {
        name: name.into(),
        schema,
        projection: None,
        metadata: Vec::new(),
        options: Default::default(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    };
    let source = SourceNode {
        table: spec("in", schema()),
        processing_time: false,
        computed: None,
        watermark: Some(WatermarkSpec { column: 1, expression: Expr::column(&schema(), 1), delay: Some(200) }),
        idle_timeout: None,
        wall_clock_fallback: None,
        null_time_set_aside: false,
    };
    let call = |function, args: &[usize], name| AggregateCall {
        function,
        args: args.to_vec(),
        distinct: false,
        filter: None,
        result: Field::new(name, DataType::Int64, true),
    };
    let calls = vec![
        call(AggregateFunction::Count, &[], "n"),
        call(AggregateFunction::Sum, &[2], "sum"),
        call(AggregateFunction::Max, &[2], "most"),
    ];
    let aggregate = WindowAggregate {
        window,
        time: WindowTime { column: 1, domain: TimeDomain::Event, zone: None },
        keys: keys.to_vec(),
        calls,
        lateness: 0,
        order: None,
    };
    let mut fields: Vec<Field> = keys.iter().map(|k| schema().field(*k).clone()).collect();
    fields.extend(["window_start", "window_end", "window_time"].map(|n| Field::new(n, time(), false)));
    fields.extend(["n", "sum", "most"].map(|n| Field::new(n, DataType::Int64, true)));
    let results: SchemaRef = Arc::new(Schema::new(fields));
    let node = |id: &str, kind, inputs, schema: &SchemaRef| Node {
        id: id.into(),
        label: id.into(),
        kind,
        inputs,
        schema: schema.clone(),
    };
    Dataflow {
        nodes: vec![
            node("source", NodeKind::Source(source), Vec::new(), &schema()),
            node(
                "count",
                NodeKind::WindowAggregate(aggregate),
                vec![Input { node: 0, port: 0, exchange: Exchange::Hash(keys.to_vec()) }],
                &results,
            ),
            node(
                "sink",
                NodeKind::Sink(SinkNode { table: spec("out", results.clone()) }),
                vec![Input::forward(1)],
                &results,
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
        Ok(Box::new(Log { pauses: self.pauses }))
    }

    fn open_sink(&self, _: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        let run = context.job.clone().map_or("alone".into(), |j| format!("{}-{}", j.generation, context.index));
        Ok(Box::new(Writer { world: self.clone(), run, rows: Vec::new(), files: 0, saves: context.job.is_some() }))
    }

    fn open_committer(&self, _: &TableSpec, _: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        Ok(Some(Box::new(Shows(self.clone()))))
    }
}

struct Log {
    pauses: u64,
}

impl Source for Log {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let reader =
            |p| Box::new(Reader { partition: p, next: 0, polls: 0, pauses: self.pauses }) as Box<dyn PartitionReader>;
        Ok((0..PARTITIONS).map(reader).collect())
    }

    fn resume(&mut self, saved: &[SavedPartition], _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let reader = |s: &SavedPartition| {
            let (partition, next) = (s.name.parse().expect("a number"), s.position.parse().expect("a number"));
            Box::new(Reader { partition, next, polls: 0, pauses: self.pauses }) as Box<dyn PartitionReader>
        };
        Ok(saved.iter().map(reader).collect())
    }

    fn replays(&self) -> bool {
        true
    }
}

struct Reader {
    partition: usize,
    next: i64,
    polls: u64,
    pauses: u64,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        ["0", "1", "2"][self.partition]
    }

    fn poll(&mut self) -> Result<Polled> {
        self.polls += 1;
        if self.pauses > 0 && self.polls % self.pauses == 0 {
            std::thread::sleep(Duration::from_micros(300));
            return Ok(Polled::Pending);
        }
        if self.next >= ROWS {
            return Ok(Polled::End);
        }
        let to = (self.next + 40 + self.partition as i64).min(ROWS);
        let rows: Vec<[i64; 3]> = (self.next..to).map(|i| row(self.partition, i)).collect();
        self.next = to;
        let column = |c: usize| rows.iter().map(|r| r[c]).collect::<Vec<_>>();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(column(0))),
            Arc::new(TimestampMillisecondArray::from(column(1))),
            Arc::new(Int64Array::from(column(2))),
        ];
        Ok(Polled::Rows(RecordBatch::try_new(schema(), columns)?.into()))
    }

    fn position(&self) -> Result<String> {
        Ok(self.next.to_string())
    }
}

struct Writer {
    world: World,
    run: String,
    rows: Vec<Vec<i64>>,
    files: usize,
    saves: bool,
}

impl Sink for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let value = |column: &ArrayRef, i: usize| match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().value(i),
            _ => column.as_primitive::<TimestampMillisecondType>().value(i),
        };
        self.rows.extend((0..batch.len()).map(|i| batch.rows.columns().iter().map(|c| value(c, i)).collect()));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.world.shown.lock().unwrap().append(&mut self.rows);
        Ok(())
    }

    fn abort(&mut self) {
        self.rows.clear();
    }

    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        assert!(self.saves);
        if self.rows.is_empty() {
            return Ok(Prepared::default());
        }
        self.files += 1;
        let name = format!("{}-{epoch}-{}", self.run, self.files);
        let (world, rows, staged) = (self.world.clone(), std::mem::take(&mut self.rows), name.clone());
        let settle = move || {
            world.staged.lock().unwrap().insert(staged, rows);
            Ok(())
        };
        Ok(Prepared { committable: Some(name), outbox: Vec::new(), settle: Some(Box::new(settle)) })
    }

    fn commits(&self) -> bool {
        true
    }
}

struct Shows(World);

impl Committer for Shows {
    fn commit(&mut self, _: u64, committables: &[Committable]) -> Result<()> {
        for name in committables.iter().filter_map(|c| c.data.as_ref()) {
            if self.0.commits.lock().unwrap().insert(name.clone()) {
                let staged = self.0.staged.lock().unwrap().get(name).cloned();
                let rows = staged.ok_or_else(|| Error::io(format!("{name} was committed and never settled")))?;
                self.0.shown.lock().unwrap().extend(rows);
            }
        }
        Ok(())
    }
}

fn undisturbed() -> Vec<Vec<i64>> {
    let world = World::default();
    let config = JobConfig { parallelism: 1, ..JobConfig::default() };
    start(&dataflow(), &world, config).expect("starts").wait().expect("ends");
    world.shown()
}

fn config(store: &Arc<dyn Store>, parallelism: usize, interval: u64) -> JobConfig {
    let checkpoints = CheckpointConfig {
        interval: Some(Duration::from_millis(interval)),
        overtake_after: Some(Duration::from_millis(3)),
        ..CheckpointConfig::new(store.clone(), "hops")
    };
    JobConfig {
        parallelism,
        queue_bytes_max: ByteSize(16 << 10),
        checkpoints: Some(checkpoints),
        ..JobConfig::default()
    }
}

#[test]
fn a_job_killed_again_and_again_shows_what_an_undisturbed_one_shows() {
    let wanted = undisturbed();
    assert!(wanted.len() > 2_000, "{}", wanted.len());
    for seed in 0..6u64 {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let world = World { pauses: 3, ..World::default() };
        let mut kills = 0;
        for run in 0.. {
            assert!(run < 500, "seed {seed}: no run comes to its end");
            let parallelism = [1, 2, 7, 3][(seed as usize + run) % 4];
            let job = start(&dataflow(), &world, config(&store, parallelism, 2)).expect("starts");
            let patience = Duration::from_millis(8 + (seed * 13 + run as u64 * 29) % 60);
            let until = std::time::Instant::now() + patience;
            while !job.is_finished() && std::time::Instant::now() < until {
                std::thread::sleep(Duration::from_micros(200));
            }
            if job.is_finished() {
                job.wait().expect("ends well");
                break;
            }
            kills += 1;
            drop(job);
        }
        same(&world.shown(), &wanted, &format!("seed {seed}, {kills} kills"));
        // Once finished, a job has nothing more to say.
        start(&dataflow(), &world, config(&store, 2, 2)).expect("starts").wait().expect("ends");
        same(&world.shown(), &wanted, &format!("seed {seed}, started once more"));
    }
}

#[test]
fn a_stopped_job_goes_on_where_it_was() {
    let wanted = undisturbed();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let world = World { pauses: 2, ..World::default() };
    let job = start(&dataflow(), &world, config(&store, 2, 1_000_000)).expect("starts");
    std::thread::sleep(Duration::from_millis(5));
    job.stop(Stop::Here);
    let summary = job.wait().expect("stops");
    assert_eq!(summary.stopped, Some(Stop::Here));
    assert!(world.shown().len() < wanted.len());
    start(&dataflow(), &world, config(&store, 3, 1_000_000)).expect("starts").wait().expect("ends");
    same(&world.shown(), &wanted, "stopped and started");
}

#[test]
fn a_job_whose_state_does_not_fit_into_memory_shows_the_same_through_kills() {
    // Each (k, v) is a key of its own: some ten times more than fits.
    let dataflow = dataflow_by(Window::Hop { size: 20_000, slide: 5_000, offset: 0 }, &[0, 2]);
    let world = World::default();
    let config_alone = JobConfig { parallelism: 1, ..JobConfig::default() };
    start(&dataflow, &world, config_alone).expect("starts").wait().expect("ends");
    let wanted = world.shown();
    assert!(wanted.len() > 60_000, "{}", wanted.len());
    let scratch = tempfile::tempdir().expect("a directory");
    for seed in 0..3u64 {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let world = World { pauses: 3, ..World::default() };
        let (mut kills, mut written) = (0, 0);
        for run in 0.. {
            assert!(run < 200, "seed {seed}: no run comes to its end");
            let parallelism = [1, 2, 2, 3][(seed as usize + run) % 4];
            let small = JobConfig {
                memory: Some(ByteSize(1536 << 10)),
                scratch: Some(scratch.path().to_owned()),
                ..config(&store, parallelism, 5)
            };
            let job = start(&dataflow, &world, small).expect("starts");
            let patience = Duration::from_millis(60 + (seed * 13 + run as u64 * 97) % 400);
            let until = std::time::Instant::now() + patience;
            while !job.is_finished() && std::time::Instant::now() < until {
                std::thread::sleep(Duration::from_micros(200));
            }
            written += job.metrics().memory.scratch_written();
            if job.is_finished() {
                job.wait().expect("ends well");
                break;
            }
            kills += 1;
            drop(job);
        }
        assert!(written > 0, "seed {seed}: nothing went to scratch files");
        same(&world.shown(), &wanted, &format!("seed {seed}, {kills} kills"));
    }
    assert_eq!(std::fs::read_dir(scratch.path()).expect("it is there").count(), 0, "scratch files are gone");
}

#[test]
fn what_cannot_go_to_scratch_files_ends_a_job_whose_memory_was_set() {
    let session = Window::Session { gap: 60_000, partition: vec![0, 2] };
    let dataflow = dataflow_by(session, &[0, 2]);
    let small = JobConfig { parallelism: 1, memory: Some(ByteSize(800 << 10)), ..JobConfig::default() };
    let error = start(&dataflow, &World::default(), small).expect("starts").wait().expect_err("it does not fit");
    assert!(error.what().contains("its budget is 7") && error.what().contains(": count "), "{error}");
    assert!(error.help().expect("a remedy").contains("--memory"), "{error}");
}

/// The first rows that differ, and not thousands that do not.
fn same(got: &[Vec<i64>], wanted: &[Vec<i64>], when: &str) {
    let first = got.iter().zip(wanted).find(|(g, w)| g != w);
    assert!(got == wanted, "{when}: {} rows, {} wanted; first other one: {first:?}", got.len(), wanted.len());
}

#[test]
fn an_older_run_cannot_commit_once_a_newer_one_lives() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let world = World { pauses: 1, ..World::default() };
    let old = start(&dataflow(), &world, config(&store, 2, 5)).expect("starts");
    let first = old.checkpoint(None).expect("it takes checkpoints").recv().expect("an answer").expect("it works");
    let new = start(&dataflow(), &world, config(&store, 1, 1_000_000)).expect("takes over");
    let e = old.wait().expect_err("it is told that it was replaced");
    assert!(e.what().contains("another run of this job has taken over"), "{e}");
    drop(new);
    let at = CheckpointConfig { restore: Restore::Number(first), ..config(&store, 1, 5).checkpoints.expect("set") };
    let job = start(&dataflow(), &world, JobConfig { checkpoints: Some(at), ..JobConfig::default() });
    job.expect("an older checkpoint is still there").cancel();
}
