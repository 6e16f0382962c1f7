//! What goes to scratch space, when, and how much of it comes back. That results stay the same is tested with all else.

use super::*;
use crate::graph::{AggregateCall, AggregateFunction, WindowTime};
use crate::testing::{Capture, timestamp};
use arrow::datatypes::{DataType, Field};
use millstream_state::table::{Change, Piece, alive};
use millstream_state::tier::{MemorySpace, RANGES, RunId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Scratch space that counts what is read.
#[derive(Default)]
struct Counting {
    space: MemorySpace,
    read: AtomicU64,
    written: AtomicU64,
    fails: std::sync::atomic::AtomicBool,
}

impl Spill for Counting {
    fn create(&self) -> Result<RunId> {
        self.space.create()
    }

    fn append(&self, run: RunId, bytes: &[u8]) -> Result<()> {
        if self.fails.load(Relaxed) {
            return Err(Error::io("the disk is full"));
        }
        self.written.fetch_add(bytes.len() as u64, Relaxed);
        self.space.append(run, bytes)
    }

    fn read(&self, run: RunId, bytes: Range<u64>) -> Result<Vec<u8>> {
        self.read.fetch_add(bytes.end - bytes.start, Relaxed);
        self.space.read(run, bytes)
    }

    fn remove(&self, run: RunId) {
        self.space.remove(run);
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), false),
        Field::new("key", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

fn rows(at: Millis, keys: Range<i64>) -> Event {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_value(at, keys.clone().count())),
        Arc::new(Int64Array::from_iter_values(keys.clone())),
        Arc::new(Int64Array::from_iter_values(keys.map(|k| k % 1000))),
    ];
    Event::Batch { input: 0, batch: Batch::from(RecordBatch::try_new(schema(), columns).expect("as declared")) }
}

fn watermark(to: Millis) -> Event {
    Event::Watermark(TimeDomain::Event, Watermark(to))
}

fn make(window: Window, lateness: Millis, space: &Arc<Counting>) -> WindowAggregate {
    let call = |function, args: &[usize], distinct| AggregateCall {
        function,
        args: args.to_vec(),
        distinct,
        filter: None,
        result: Field::new("r", DataType::Int64, true),
    };
    let calls = vec![
        call(AggregateFunction::Count, &[], false),
        call(AggregateFunction::Sum, &[2], false),
        call(AggregateFunction::Count, &[2], true),
    ];
    let time = WindowTime { column: 0, domain: TimeDomain::Event, zone: None };
    let node = graph::WindowAggregate { window, time, keys: vec![1], calls, lateness, order: None };
    let mut operator = WindowAggregate::new(&node, &schema(), false).expect("builds");
    operator.spill_to(space.clone());
    operator.track_changes();
    operator
}

fn minute() -> Window {
    Window::Tumble { size: 60_000, offset: 0 }
}

/// By key: count, sum, distinct values.
fn step(operator: &mut WindowAggregate, event: Event) -> BTreeMap<i64, Vec<i64>> {
    let mut capture = Capture::default();
    operator.step(event, &mut capture).expect("steps");
    let mut results = BTreeMap::new();
    for (_, batch) in &capture.emitted {
        let column = |at: usize| batch.rows.column(at).as_primitive::<arrow::datatypes::Int64Type>();
        for row in 0..batch.len() {
            let result = [4, 5, 6].map(|at| column(at).value(row)).to_vec();
            assert!(results.insert(column(0).value(row), result).is_none(), "a key comes once");
        }
    }
    results
}

fn shed_all(operator: &mut WindowAggregate) {
    operator.shed(usize::MAX).expect("sheds");
}

#[test]
fn a_slice_in_many_runs_comes_back_as_one() {
    let space = Arc::<Counting>::default();
    let mut operator = make(minute(), 0, &space);
    let empty = operator.state_bytes();
    // Each key in ten of 50 runs.
    for round in 0..50 {
        assert!(step(&mut operator, rows(7, round * 100..round * 100 + 1000)).is_empty());
        let held = operator.state_bytes();
        shed_all(&mut operator);
        assert!(operator.state_bytes() < held / 2 + empty, "{held} bytes, then {}", operator.state_bytes());
    }
    let runs = operator.slices.values().next().expect("one slice").runs.len();
    assert_eq!(runs, 3 + 2, "50 runs: three of sixteen, and two");
    let results = step(&mut operator, watermark(60_000));
    assert_eq!(results.len(), 5_900);
    for (key, result) in results {
        let times = (0..50).filter(|round| (round * 100..round * 100 + 1000).contains(&key)).count() as i64;
        assert_eq!(result, [times, times * (key % 1000), 1], "key {key}");
    }
    assert_eq!(space.space.runs(), 0, "scratch space is given back");
}

#[test]
fn a_late_row_reads_the_range_of_its_key_alone() {
    let space = Arc::<Counting>::default();
    let mut operator = make(minute(), 100_000, &space);
    step(&mut operator, rows(7, 0..50_000));
    shed_all(&mut operator);
    assert_eq!(step(&mut operator, watermark(60_000)).len(), 50_000);
    let (before, written) = (space.read.load(Relaxed), space.written.load(Relaxed));
    assert_eq!(step(&mut operator, rows(8, 1001..1002)), BTreeMap::from([(1001, vec![2, 2, 1])]));
    let read = space.read.load(Relaxed) - before;
    assert!(read > 0 && read < written / RANGES as u64 * 3, "{read} bytes of {written}");
    assert_eq!(space.written.load(Relaxed), written, "one late row is not written out");
    drop(operator);
    assert_eq!(space.space.runs(), 0);
}

fn save(operator: &mut WindowAggregate, whole: bool) -> Vec<Piece> {
    let mut saver = Saver::new(whole);
    operator.save(&mut saver).expect("saves");
    saver.into_pieces().into_iter().filter(|p| p.table.name == "slices").collect()
}

/// Puts and drops.
fn counts(pieces: &[Piece]) -> (usize, usize) {
    let changes = |p: &Piece| p.rows.column(0).as_primitive::<arrow::datatypes::Int8Type>().values().to_vec();
    let all: Vec<i8> = pieces.iter().flat_map(changes).collect();
    let puts = all.iter().filter(|c| **c == Change::Put as i8).count();
    (puts, all.iter().filter(|c| **c == Change::DropPart as i8).count())
}

#[test]
fn a_run_is_saved_once_and_the_keys_of_two_runs_stand_beside_each_other() {
    let space = Arc::<Counting>::default();
    let mut operator = make(minute(), 0, &space);
    step(&mut operator, rows(7, 0..1000));
    let mut pieces = save(&mut operator, true);
    assert_eq!(counts(&pieces), (1000, 0));
    shed_all(&mut operator);
    assert!(save(&mut operator, false).is_empty(), "it was saved while it was in memory");
    step(&mut operator, rows(8, 500..1500));
    shed_all(&mut operator);
    let piece = save(&mut operator, false);
    assert_eq!(counts(&piece), (1000, 0), "the second run");
    pieces.extend(piece);
    assert!(save(&mut operator, false).is_empty());
    step(&mut operator, rows(9, 700..708));
    pieces.extend(save(&mut operator, false));
    let alive_rows = |pieces: &[Piece]| {
        let batches: Vec<RecordBatch> = pieces.iter().map(|p| p.rows.clone()).collect();
        alive(&pieces[0].table, &batches).expect("merges").iter().map(RecordBatch::num_rows).sum::<usize>()
    };
    assert_eq!(alive_rows(&pieces), 2008);
    // Fourteen more runs, of which the first takes the table that was saved: all become one, in place of the three.
    for _ in 0..14 {
        step(&mut operator, rows(9, 0..10));
        shed_all(&mut operator);
    }
    let piece = save(&mut operator, false);
    assert_eq!(counts(&piece), (1500, 3), "one run in place of the three that were saved");
    pieces.extend(piece);
    assert_eq!(alive_rows(&pieces), 1500);
    step(&mut operator, watermark(60_000));
    let piece = save(&mut operator, false);
    assert_eq!(counts(&piece), (0, 1));
    pieces.extend(piece);
    assert_eq!(alive_rows(&pieces), 0);
}

#[test]
fn a_hop_goes_back_to_its_running_window_when_there_is_room_again() {
    let space = Arc::<Counting>::default();
    let mut operator = make(Window::Hop { size: 30, slide: 10, offset: 0 }, 0, &space);
    let mut all = Vec::new();
    for at in 0..12i64 {
        let keys = if at < 4 { 0..20_000 } else { 0..10 };
        step(&mut operator, rows(at * 10, keys));
        if at == 2 {
            shed_all(&mut operator);
            assert!(operator.spilling_from > 0);
        }
        let results = step(&mut operator, watermark(at * 10 + 9));
        all.push((results.len(), results[&3].clone()));
    }
    assert_eq!(operator.spilling_from, 0);
    assert!(operator.slices.values().all(|s| s.runs.is_empty()));
    let count = |at: i64| (at + 1).min(3);
    for (at, (keys, third)) in all.iter().enumerate() {
        let at = at as i64;
        assert_eq!(*keys, if at < 6 { 20_000 } else { 10 }, "at {at}");
        assert_eq!(*third, [count(at), count(at) * 3, 1]);
    }
}

#[test]
fn the_largest_slice_goes_first_unless_another_has_long_been_quiet() {
    let space = Arc::<Counting>::default();
    let mut operator = make(minute(), 0, &space);
    step(&mut operator, rows(1, 0..10_000));
    step(&mut operator, rows(60_001, 0..3_000));
    step(&mut operator, rows(120_001, 0..100));
    operator.shed(1).expect("sheds");
    let runs = |o: &WindowAggregate| o.slices.values().map(|s| s.runs.len()).collect::<Vec<_>>();
    assert_eq!(runs(&operator), [1, 0, 0], "the largest");
    step(&mut operator, rows(2, 0..4_000));
    operator.shed(1).expect("sheds");
    assert_eq!(runs(&operator), [1, 1, 0], "larger is the first, but the second has not been touched");
}

#[test]
fn a_full_disk_is_an_error_and_leaves_no_run() {
    let space = Arc::<Counting>::default();
    let mut operator = make(minute(), 0, &space);
    step(&mut operator, rows(7, 0..1000));
    space.fails.store(true, Relaxed);
    let error = operator.shed(1).expect_err("the disk is full");
    assert_eq!(error.what(), "the disk is full");
    assert_eq!(space.space.runs(), 0);
}
