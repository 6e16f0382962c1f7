//! Jobs that are killed at any moment and come back, on other tasks each time: what their sink has shown in the end is
//! what an undisturbed job shows.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use millstream_core::rate::RATE_LIMIT;
use millstream_core::table::TableUse;
use millstream_core::{
    Batch, ByteSize, Clock, Committable, Committer, Connectors, Error, JobRun, MemoryStore, Millis, PartitionReader,
    Polled, Prepared, Put, Result, SavedPartition, Sink, SinkContext, Source, Stat, Store, Stored, TableSpec,
    TimeDomain,
};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{
    AggregateCall, AggregateFunction, Changes, Dataflow, Exchange, Input, Node, NodeKind, SinkNode, SourceNode,
    WatermarkSpec, Window, WindowAggregate, WindowRows, WindowTime,
};
use millstream_runtime::stepped::Turns;
use millstream_runtime::{CheckpointConfig, JobConfig, Restore, Stepped, Stop, start};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
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
    /// Partition 1 gives half of its rows and then nothing for the time being.
    holds: Arc<AtomicBool>,
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
        nothing_late: false,
        null_time_set_aside: false,
        row_watermarks: false,
        brings: Changes::Insert,
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
        changes: Changes::Insert,
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
                NodeKind::Sink(SinkNode { table: spec("out", results.clone()), not_null: None }),
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

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        let partitions = if table.name == "short" { 1 } else { PARTITIONS };
        Ok(Box::new(Log { world: self.clone(), partitions }))
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
    world: World,
    partitions: usize,
}

impl Source for Log {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        Ok((0..self.partitions).map(|p| self.reader(p, 0)).collect())
    }

    fn resume(&mut self, saved: &[SavedPartition], _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let number = |text: &str| text.parse().expect("a number");
        Ok(saved.iter().map(|s| self.reader(number(&s.name), number(&s.position) as i64)).collect())
    }

    fn replays(&self) -> bool {
        true
    }
}

impl Log {
    fn reader(&self, partition: usize, next: i64) -> Box<dyn PartitionReader> {
        Box::new(Reader { partition, next, polls: 0, world: self.world.clone() })
    }
}

struct Reader {
    partition: usize,
    next: i64,
    polls: u64,
    world: World,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        ["0", "1", "2"][self.partition]
    }

    fn poll(&mut self) -> Result<Polled> {
        self.polls += 1;
        if self.partition == 1 && self.next > ROWS / 2 && self.world.holds.load(Relaxed) {
            return Ok(Polled::Pending);
        }
        if self.world.pauses > 0 && self.polls.is_multiple_of(self.world.pauses) {
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
        held_bytes_max: ByteSize(16 << 10),
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
                memory: Some(ByteSize(1792 << 10)),
                scratch: Some(scratch.path().to_owned()),
                ..config(&store, parallelism, 5)
            };
            let job = start(&dataflow, &world, small).expect("starts");
            // A little more each time: where the machine is busy, no run would get as far as a checkpoint otherwise.
            let patience = Duration::from_millis(60 + (seed * 13 + run as u64 * 97) % 400 + 4 * run as u64);
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
    // Rows that wait for the one session of a stream without keys: there is nothing to divide.
    let window = Window::Session { gap: 60_000, partition: Vec::new() };
    let mut dataflow = dataflow_by(window.clone(), &[0]);
    let appended = ["window_start", "window_end", "window_time"].map(|n| Arc::new(Field::new(n, time(), false)));
    let rows: SchemaRef = Arc::new(Schema::new(schema().fields().iter().cloned().chain(appended).collect::<Vec<_>>()));
    let event_time = WindowTime { column: 1, domain: TimeDomain::Event, zone: None };
    dataflow.nodes[1].kind = NodeKind::WindowRows(WindowRows { window, time: event_time, order: None });
    dataflow.nodes[1].inputs[0].exchange = Exchange::Single;
    for node in &mut dataflow.nodes[1..] {
        node.schema = rows.clone();
    }
    if let NodeKind::Sink(sink) = &mut dataflow.nodes[2].kind {
        sink.table.schema = rows;
    }
    let small = JobConfig { parallelism: 1, memory: Some(ByteSize(800 << 10)), ..JobConfig::default() };
    let error = start(&dataflow, &World::default(), small).expect("starts").wait().expect_err("it does not fit");
    assert!(error.what().contains("its budget is 7") && error.what().contains(": count "), "{error}");
    assert!(error.help().expect("a remedy").contains("--memory"), "{error}");
}

/// The same windows over two tables together: `in` and one of a single partition.
fn turns() -> Turns {
    Turns { choose: Rc::new(|_| 0), messages_max: 16 }
}

fn two_tables() -> Dataflow {
    let mut flow = dataflow();
    let mut other = flow.nodes[0].clone();
    other.id = "other".into();
    if let NodeKind::Source(source) = &mut other.kind {
        source.table.name = "short".into();
    }
    let union = Node {
        id: "union".into(),
        label: "union".into(),
        kind: NodeKind::Union,
        inputs: vec![Input::forward(0), Input::forward(1)],
        schema: schema(),
        changes: Changes::Insert,
    };
    flow.nodes.splice(1..1, [other, union]);
    flow.nodes[3].inputs[0].node = 2;
    flow.nodes[4].inputs[0].node = 3;
    flow
}

#[test]
fn a_partition_that_moves_to_a_task_whose_own_had_ended_still_closes_windows() {
    let alone = World::default();
    let config_alone = JobConfig { parallelism: 1, ..JobConfig::default() };
    start(&two_tables(), &alone, config_alone).expect("starts").wait().expect("ends");

    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let world = World::default();
    world.holds.store(true, Relaxed);
    let config = JobConfig { queue_bytes_max: ByteSize::mib(64), ..config(&store, 2, 1_000_000) };
    let begin = || Stepped::start(&two_tables(), &world, config.clone(), turns()).expect("starts");
    let turn = |job: &mut Stepped| {
        for worker in 0..job.workers() {
            job.turn(worker).expect("no task fails");
        }
        job.turn_checkpoints();
    };
    let mut job = begin();
    // By now everything has been read but the half of one partition that is held back, and task 0 has no more to give.
    (0..2_000).for_each(|_| turn(&mut job));
    let answer = job.checkpoint(None);
    (0..100).for_each(|_| turn(&mut job));
    answer.try_recv().expect("an answer").expect("it is saved");
    drop(job);
    world.holds.store(false, Relaxed);
    let mut job = begin();
    (0..5_000).for_each(|_| turn(&mut job));
    assert!(job.is_over());
    job.finish().expect("ends well");
    same(&world.shown(), &alone.shown(), "after the partition has moved");
}

/// A clock that moves when it is told to.
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

#[test]
fn a_partition_that_is_left_alone_does_not_take_the_watermark_back() {
    let mut flow = dataflow();
    if let NodeKind::Source(source) = &mut flow.nodes[0].kind {
        source.idle_timeout = Some(1_000);
    }
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let world = World::default();
    world.holds.store(true, Relaxed);
    let clock = Arc::new(Hand::default());
    let config =
        JobConfig { queue_bytes_max: ByteSize::mib(64), clock: clock.clone(), ..config(&store, 2, 1_000_000_000) };
    let begin = || Stepped::start(&flow, &world, config.clone(), turns()).expect("starts");
    let turn = |job: &mut Stepped| {
        for worker in 0..job.workers() {
            job.turn(worker).expect("no task fails");
        }
        job.turn_checkpoints();
    };
    let mut job = begin();
    (0..2_000).for_each(|_| turn(&mut job));
    // The others have ended and this one is silent: the windows follow the furthest promise.
    clock.0.store(5_000, Relaxed);
    (0..100).for_each(|_| turn(&mut job));
    let answer = job.checkpoint(None);
    (0..100).for_each(|_| turn(&mut job));
    answer.try_recv().expect("an answer").expect("it is saved");
    let shown = world.shown().len();
    assert!(shown > 1_000, "windows beyond the silent partition's watermark have been shown: {shown}");
    drop(job);
    world.holds.store(false, Relaxed);
    let mut job = begin();
    (0..5_000).for_each(|_| turn(&mut job));
    assert!(job.is_over());
    job.finish().expect("ends well");
}

/// A limited table is read more slowly and gives the same: whoever waits for its share is not silent, and a run that goes on
/// after a crash is limited too.
#[test]
fn a_limited_table_gives_the_same_later() {
    let mut flow = dataflow();
    if let NodeKind::Source(source) = &mut flow.nodes[0].kind {
        // Between two batches of a partition lie four milliseconds.
        source.idle_timeout = Some(3);
        source.table.options.insert(RATE_LIMIT.into(), "30000".into());
    }
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let world = World::default();
    let clock = Arc::new(Hand::default());
    let config = JobConfig { queue_bytes_max: ByteSize::mib(64), clock: clock.clone(), ..config(&store, 2, 50) };
    let read = |job: &Stepped| job.metrics().snapshot().rows_in;
    let run = |job: &mut Stepped, millis: i64| {
        for _ in 0..millis {
            clock.0.fetch_add(1, Relaxed);
            for _ in 0..4 {
                for worker in 0..job.workers() {
                    job.turn(worker).expect("no task fails");
                }
                job.turn_checkpoints();
            }
        }
    };
    let mut job = Stepped::start(&flow, &world, config.clone(), turns()).expect("starts");
    run(&mut job, 300);
    let before = read(&job);
    // 30 rows each millisecond; each of the three partitions is ahead by less than one batch.
    assert!((8_900..=9_000 + 3 * 43).contains(&before), "{before} rows in 300 ms");
    drop(job);
    let mut job = Stepped::start(&flow, &world, config, turns()).expect("starts again");
    run(&mut job, 100);
    assert!((2_900..=3_000 + 3 * 43).contains(&read(&job)), "{} rows in 100 ms", read(&job));
    run(&mut job, 600);
    assert!(job.is_over());
    job.finish().expect("ends well");
    same(&world.shown(), &undisturbed(), "a limited table");
}

/// A store that refuses so many files of checkpoints.
struct Refusing {
    store: MemoryStore,
    left: Mutex<u32>,
}

impl Store for Refusing {
    fn put(&self, path: &str, bytes: &[u8], how: Put) -> Result<Stored> {
        let mut left = self.left.lock().unwrap();
        if path.starts_with("data/") && *left > 0 {
            *left -= 1;
            return Err(Error::io("the store is away for a moment"));
        }
        self.store.put(path, bytes, how)
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.store.get(path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stat>> {
        self.store.list(prefix)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.store.delete(path)
    }

    fn name(&self) -> String {
        self.store.name()
    }
}

#[test]
fn a_store_that_is_away_when_the_last_task_ends_is_asked_again() {
    let wanted = undisturbed();
    let world = World::default();
    // Without a checkpoint in between there is nothing but the last saves, and no later epoch that would write them.
    let store: Arc<dyn Store> = Arc::new(Refusing { store: MemoryStore::default(), left: Mutex::new(3) });
    let job = start(&dataflow(), &world, config(&store, 2, 1_000_000)).expect("starts");
    job.wait().expect("ends well");
    same(&world.shown(), &wanted, "the last saves were refused at first");
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
    // However many the older run takes before the newer one is there, and however many that one would keep.
    let all_kept = |parallelism, interval| {
        let mut config = config(&store, parallelism, interval);
        config.checkpoints.as_mut().expect("set").kept = 10_000;
        config
    };
    let old = start(&dataflow(), &world, all_kept(2, 5)).expect("starts");
    let taken = || old.checkpoint(None).expect("it takes checkpoints").recv().expect("an answer").expect("it works");
    let first = taken();
    // The newer run begins with a manifest of the last epoch, of which only the newest is kept.
    taken();
    let new = start(&dataflow(), &world, all_kept(1, 1_000_000)).expect("takes over");
    let e = old.wait().expect_err("it is told that it was replaced");
    assert!(e.what().contains("another run of this job has taken over"), "{e}");
    drop(new);
    let at = CheckpointConfig { restore: Restore::Number(first), ..config(&store, 1, 5).checkpoints.expect("set") };
    let job = start(&dataflow(), &world, JobConfig { checkpoints: Some(at), ..JobConfig::default() });
    job.expect("an older checkpoint is still there").cancel();
}

#[test]
fn a_view_shows_committed_rows_to_other_threads_and_survives_a_restart() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let world = World { pauses: 2, ..World::default() };
    let with_view = |parallelism| {
        let mut config = config(&store, parallelism, 2);
        let checkpoints = config.checkpoints.as_mut().expect("set");
        checkpoints.views = vec![("count".into(), "slices".into())];
        config
    };
    let wrong =
        CheckpointConfig { views: vec![("count".into(), "slice".into())], ..with_view(1).checkpoints.expect("set") };
    let e = start(&dataflow(), &world, JobConfig { checkpoints: Some(wrong), ..JobConfig::default() });
    let e = e.err().expect("there is no such table");
    assert!(e.to_string().contains("count slices"), "{e}");

    let job = start(&dataflow(), &world, with_view(2)).expect("starts");
    let view = job.view("count", "slices").expect("it was asked for");
    // Readers ask all the while; what they see is of one epoch, and epochs never go back.
    let (mut last, mut seen) = (0, 0);
    while !job.is_finished() && view.epoch() < 10 {
        let epoch = view.epoch();
        assert!(epoch >= last, "from epoch {last} back to {epoch}");
        last = epoch;
        seen = seen.max(view.len());
    }
    assert!(seen > 0, "nothing was seen in {last} epochs");
    job.stop(Stop::Here);
    job.wait().expect("stops");
    let rows = view.len();
    assert!(rows > 0, "slices are open");
    let job = start(&dataflow(), &world, with_view(3)).expect("goes on");
    let again = job.view("count", "slices").expect("it was asked for");
    assert!(again.epoch() >= view.epoch());
    job.wait().expect("ends");
    assert_eq!(again.len(), 0, "every window has closed");
}

/// A store that counts how many files of checkpoints are read, and knows the largest that was written.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    reads: AtomicI64,
    largest: AtomicI64,
}

impl Store for Counting {
    fn put(&self, path: &str, bytes: &[u8], how: Put) -> Result<Stored> {
        if path.starts_with("data/") {
            self.largest.fetch_max(bytes.len() as i64, Relaxed);
        }
        self.store.put(path, bytes, how)
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.reads.fetch_add(i64::from(path.starts_with("data/")), Relaxed);
        self.store.get(path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stat>> {
        self.store.list(prefix)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.store.delete(path)
    }

    fn name(&self) -> String {
        self.store.name()
    }
}

#[test]
fn where_everything_changes_no_checkpoint_is_read_again() {
    let counting = Arc::new(Counting::default());
    let store: Arc<dyn Store> = counting.clone();
    let world = World::default();
    let config = JobConfig { queue_bytes_max: ByteSize::mib(64), ..config(&store, 2, 1_000_000_000) };
    // One window over all rows, and in each batch rows of most keys.
    let flow = dataflow_by(Window::Tumble { size: 1_000_000, offset: 0 }, &[0]);
    let mut job = Stepped::start(&flow, &world, config, turns()).expect("starts");
    let saved = turn_until(&mut job, i32::MAX);
    assert!(job.is_over());
    job.finish().expect("ends well");
    // So many changes would make chains that are worth merging, and for that they are read.
    assert!(saved > 30, "{saved} checkpoints");
    assert_eq!(counting.reads.load(Relaxed), 0, "files read again by {saved} checkpoints");
}

/// Turns a job until it is over or has taken so many checkpoints, one after the other. How many it has taken.
fn turn_until(job: &mut Stepped, wanted: i32) -> i32 {
    let (mut saved, mut asked) = (0, None::<std::sync::mpsc::Receiver<Result<u64>>>);
    for _ in 0..20_000 {
        if job.is_over() || saved >= wanted {
            break;
        }
        for worker in 0..job.workers() {
            job.turn(worker).expect("no task fails");
        }
        for _ in 0..8 {
            job.turn_checkpoints();
        }
        if let Some(answer) = asked.take() {
            match answer.try_recv() {
                Ok(answer) => saved += i32::from(answer.is_ok()),
                Err(_) => asked = Some(answer),
            }
        }
        asked = asked.or_else(|| Some(job.checkpoint(None)));
    }
    saved
}

#[test]
fn what_a_checkpoint_holds_at_once_is_bounded() {
    // Each (k, v) is a key of its own, in one window over all rows: more than a megabyte, and each checkpoint adds to it.
    let flow = dataflow_by(Window::Tumble { size: 1_000_000, offset: 0 }, &[0, 2]);
    let world = World::default();
    start(&flow, &world, JobConfig { parallelism: 1, ..JobConfig::default() }).expect("starts").wait().expect("ends");
    let wanted = world.shown();
    assert_eq!(wanted.len(), PARTITIONS * ROWS as usize);
    let scratch = tempfile::tempdir().expect("a directory");
    let held_max = ByteSize(32 << 10);
    let counting = Arc::new(Counting::default());
    let store: Arc<dyn Store> = counting.clone();
    let bounded = |parallelism| {
        let config = config(&store, parallelism, 1_000_000_000);
        let checkpoints = config.checkpoints.expect("it takes them");
        let checkpoints = CheckpointConfig { saves_bytes_max: Some(held_max), ..checkpoints };
        JobConfig { checkpoints: Some(checkpoints), scratch: Some(scratch.path().to_owned()), ..config }
    };
    let world = World::default();
    let mut fullest = 0;
    // Whole saves of a restored job, changes, chains that are merged, and restores of what was merged, by others and by the same.
    for parallelism in [1, 2, 3, 3, 2] {
        let mut job = Stepped::start(&flow, &world, bounded(parallelism), turns()).expect("starts");
        let saved = turn_until(&mut job, 20);
        assert!(saved >= 20 || job.is_over(), "{saved} checkpoints");
        let metrics = &job.metrics().memory;
        // A piece is handed over before it is known whether it fits; and of each task's, a quarter of the room stays.
        let most = held_max.0 * (2 + parallelism as u64);
        assert!(metrics.saves_held_most() <= most, "{} bytes of saves were held at once", metrics.saves_held_most());
        fullest = fullest.max(metrics.saves_held_most());
    }
    assert!(fullest > held_max.0, "no save has been larger than the room: {fullest} bytes at once");
    assert!(counting.reads.load(Relaxed) > 100, "nothing was merged");
    let largest = counting.largest.load(Relaxed);
    assert!(largest <= held_max.0 as i64, "a file of {largest} bytes");
    let mut job = Stepped::start(&flow, &world, bounded(2), turns()).expect("starts");
    turn_until(&mut job, i32::MAX);
    assert!(job.is_over());
    same(&world.shown(), &wanted, "restored from files that were cut");
}
