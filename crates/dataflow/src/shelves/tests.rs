//! Operators that go below and come back say what one that stays in memory says. Their own tests play every script of theirs
//! without memory; here is what concerns shelves alone.

use super::*;
use crate::graph::{self, AggregateCall, AggregateFunction, Frame, OverCall, OverFunction, Window, WindowTime};
use crate::testing::{Capture, Crew, render, timestamp};
use crate::window_rows::WindowRows;
use crate::{over, window};
use arrow::array::{ArrayRef, Float64Array, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use millstream_core::ByteSize;
use millstream_state::tier::{Budget, MemorySpace, RunId};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), false),
        Field::new("key", DataType::Int64, true),
        Field::new("place", DataType::Int64, false),
        Field::new("x", DataType::Float64, true),
    ]))
}

#[derive(Debug, Clone, Copy)]
struct Row {
    at: i64,
    key: Option<i64>,
    place: i64,
}

fn batch(rows: &[Row], marks: Option<Vec<i64>>) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.at)).collect::<TimestampMillisecondArray>()),
        Arc::new(rows.iter().map(|r| r.key).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.place)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| (r.place % 7 > 0).then_some(r.place as f64 / 10.0)).collect::<Float64Array>()),
    ];
    let rows = RecordBatch::try_new(schema(), columns).expect("as declared");
    Batch { rows, marks: marks.map(Into::into), kinds: None }
}

fn call(function: AggregateFunction, args: &[usize], result: DataType) -> AggregateCall {
    AggregateCall {
        function,
        args: args.to_vec(),
        distinct: false,
        filter: None,
        result: Field::new("r", result, true),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Over,
    Frames,
    Sessions,
    SessionRows,
}

/// One operator as it is without shelves.
fn plain(which: Which, keys: &[usize]) -> Make {
    let keys = keys.to_vec();
    let frame = |function, args: &[usize], result, frame| OverCall {
        function: OverFunction::Aggregate(call(function, args, result)),
        frame,
    };
    let over = |calls: Vec<OverCall>| -> Make {
        let spec = graph::Over { keys: keys.clone(), time: 0, domain: TimeDomain::Event, order: None, calls };
        let results = spec.calls.iter().enumerate().map(|(i, c)| match &c.function {
            OverFunction::Aggregate(a) => Arc::new(a.result.clone().with_name(format!("r{i}"))),
            OverFunction::RowNumber { result } | OverFunction::Lag { result, .. } => Arc::new(result.clone()),
            _ => unreachable!("not used here"),
        });
        let output: SchemaRef =
            Arc::new(Schema::new(schema().fields().iter().cloned().chain(results).collect::<Vec<_>>()));
        Box::new(move || Ok(Box::new(over::Over::new(&spec, &schema(), output.clone())?)))
    };
    use AggregateFunction::*;
    match which {
        Which::Over => over(vec![
            frame(Sum, &[3], DataType::Float64, Frame::Range { preceding: Some(9) }),
            frame(Count, &[], DataType::Int64, Frame::Range { preceding: Some(4) }),
        ]),
        Which::Frames => over(vec![
            frame(Sum, &[3], DataType::Float64, Frame::Range { preceding: None }),
            frame(Max, &[2], DataType::Int64, Frame::Rows { preceding: Some(2) }),
            frame(LastValue, &[3], DataType::Float64, Frame::Range { preceding: None }),
            OverCall {
                function: OverFunction::RowNumber { result: Field::new("n", DataType::Int64, false) },
                frame: Frame::Rows { preceding: None },
            },
            OverCall {
                function: OverFunction::Lag { arg: 2, offset: 2, result: Field::new("lag", DataType::Int64, true) },
                frame: Frame::Rows { preceding: None },
            },
        ]),
        Which::Sessions => {
            let mut distinct = call(Count, &[3], DataType::Int64);
            distinct.distinct = true;
            let calls = vec![call(Count, &[], DataType::Int64), call(Sum, &[3], DataType::Float64), distinct];
            let time = WindowTime { column: 0, domain: TimeDomain::Event, zone: None };
            let window = Window::Session { gap: 5, partition: keys.clone() };
            let node = graph::WindowAggregate { window, time, keys, calls, lateness: 0, order: None };
            Box::new(move || Ok(Box::new(window::session::SessionAggregate::new(&node, 5, &schema())?)))
        }
        Which::SessionRows => {
            let appended =
                ["window_start", "window_end", "window_time"].map(|n| Arc::new(Field::new(n, timestamp(), false)));
            let output = Schema::new(schema().fields().iter().cloned().chain(appended).collect::<Vec<_>>());
            let time = WindowTime { column: 0, domain: TimeDomain::Event, zone: None };
            let spec = graph::WindowRows { window: Window::Session { gap: 5, partition: keys }, time, order: None };
            let output: SchemaRef = Arc::new(output);
            let numbers = Default::default();
            Box::new(move || {
                let numbers = Clone::clone(&numbers);
                Ok(Box::new(WindowRows::numbered(&spec, &schema(), output.clone(), numbers)?))
            })
        }
    }
}

pub(super) fn small(pile_bytes_min: usize) -> Bounds {
    Bounds { shelves: 4, pile_bytes_min }
}

fn by_shelves(which: Which, bounds: Bounds, space: &Arc<MemorySpace>) -> Box<dyn Operator> {
    let mut operator = Shelves::of(plain(which, &[1]), &[schema()], &[&[1]], bounds).expect("builds");
    operator.spill_to(space.clone());
    operator
}

/// All that came out, with the bits of DOUBLEs, in no order.
fn shown(out: &Capture) -> Vec<String> {
    let mut all = Vec::new();
    for (_, batch) in &out.emitted {
        let mut texts = render(&batch.rows, false);
        for column in batch.rows.columns().iter().filter_map(|c| c.as_any().downcast_ref::<Float64Array>()) {
            for (text, value) in texts.iter_mut().zip(column.iter()) {
                text.push_str(&format!(" {:x}", value.unwrap_or(0.25).to_bits()));
            }
        }
        all.extend(texts);
    }
    for late in &out.late {
        let marks = late.watermarks.values();
        all.extend(render(&late.rows, false).into_iter().zip(marks).map(|(t, mark)| format!("late {t} by {mark}")));
    }
    all.sort();
    all
}

#[derive(Debug, Clone, Copy)]
enum Move {
    /// So many of the rows come in, as one batch.
    Take(usize),
    /// The watermark follows the rows.
    Follow,
    /// The clock goes on.
    Tick,
    Save,
    /// On so many tasks, by shelves or not.
    Crash(usize, bool),
    /// So many bytes are asked for.
    Shed(usize),
    CatchUp,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (1usize..8).prop_map(Move::Take),
        4 => Just(Move::Follow),
        1 => Just(Move::Tick),
        1 => Just(Move::Save),
        1 => (prop::sample::select(vec![1, 2, 7]), any::<bool>()).prop_map(|(tasks, shelves)| Move::Crash(tasks, shelves)),
        3 => prop::sample::select(vec![1, 1_000, 10_000, usize::MAX]).prop_map(Move::Shed),
        1 => Just(Move::CatchUp),
    ];
    prop::collection::vec(one, 1..60)
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (prop::option::weighted(0.9, 0i64..9), 0i64..30);
    prop::collection::vec(row, 1..120).prop_map(|rows| {
        rows.into_iter().zip(0..).map(|((key, at), place)| Row { at: at + place / 2, key, place }).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn shelves_leave_no_trace(
        which in prop::sample::select(vec![Which::Over, Which::Frames, Which::Sessions, Which::SessionRows]),
        rows in rows(), moves in moves(), delay in 0i64..20, marked: bool, pile in prop::sample::select(vec![0usize, 600, 1 << 20]),
    ) {
        let space = Arc::<MemorySpace>::default();
        let shelves = || by_shelves(which, small(pile), &space);
        let without = || plain(which, &[1])().expect("builds");
        let mut undisturbed = Crew::new(&without, 1);
        undisturbed.tasks = vec![without()];
        let mut crew = Crew::new(&shelves, 1);
        let (mut expected, mut got) = (Capture::default(), Capture::default());
        let (mut from, mut seen, mut ticks) = (0usize, i64::MIN, 0);
        let all = |crew: &mut Crew, event: &dyn Fn() -> Event, out: &mut Capture| {
            let step = crew.step(&[1], event());
            out.emitted.extend(step.emitted);
            out.late.extend(step.late);
        };
        let flush = |crew: &mut Crew, out: &mut Capture| crew.tasks.iter_mut().for_each(|t| t.flush(out).expect("flushes"));
        for step in moves.into_iter().chain([Move::Take(usize::MAX)]) {
            match step {
                Move::Take(some) => {
                    let to = rows.len().min(from.saturating_add(some));
                    if from == to { continue }
                    let part = &rows[from..to];
                    let marks: Vec<i64> = part.iter().map(|r| {
                        let mark = seen.saturating_sub(delay);
                        seen = seen.max(r.at);
                        mark
                    }).collect();
                    let event = || Event::Batch { input: 0, batch: batch(part, marked.then(|| marks.clone())) };
                    all(&mut undisturbed, &event, &mut expected);
                    all(&mut crew, &event, &mut got);
                    from = to;
                }
                Move::Follow => {
                    let event = || Event::Watermark(TimeDomain::Event, Watermark(seen.saturating_sub(delay)));
                    all(&mut undisturbed, &event, &mut expected);
                    all(&mut crew, &event, &mut got);
                }
                Move::Tick => {
                    ticks += 1;
                    all(&mut crew, &|| Event::Watermark(TimeDomain::Processing, Watermark(ticks)), &mut got);
                }
                Move::Save => {
                    flush(&mut crew, &mut got);
                    crew.save();
                }
                Move::Crash(tasks, true) => {
                    flush(&mut crew, &mut got);
                    crew = crew.crash(&shelves, tasks);
                }
                Move::Crash(tasks, false) => {
                    flush(&mut crew, &mut got);
                    crew = crew.crash(&without, tasks);
                }
                Move::Shed(bytes) => crew.tasks.iter_mut().for_each(|t| t.shed(bytes).expect("sheds")),
                Move::CatchUp => crew.tasks.iter_mut().for_each(|t| t.catch_up(&mut got).expect("catches up")),
            }
        }
        let end = || Event::Watermark(TimeDomain::Event, Watermark::MAX);
        all(&mut undisturbed, &end, &mut expected);
        all(&mut crew, &end, &mut got);
        prop_assert_eq!(shown(&got), shown(&expected));
        drop(crew);
        prop_assert_eq!(space.runs(), 0);
    }
}

#[test]
fn where_memory_suffices_nothing_is_written_and_a_watermark_is_handed_on_at_once() {
    let space = Arc::<MemorySpace>::default();
    let mut operator = by_shelves(Which::Over, small(0), &space);
    let mut out = Capture::default();
    let rows: Vec<Row> = (0..100).map(|i| Row { at: i, key: Some(i), place: i }).collect();
    operator.step(Event::Batch { input: 0, batch: batch(&rows, None) }, &mut out).expect("steps");
    operator.step(Event::Watermark(TimeDomain::Event, Watermark(50)), &mut out).expect("steps");
    assert_eq!((shown(&out).len(), out.advanced.len(), space.created()), (51, 1, 0));
}

#[test]
fn what_has_no_keys_stays_whole() {
    let mut operator = Shelves::of(plain(Which::Over, &[]), &[schema()], &[&[]], small(0)).expect("builds");
    let space = Arc::<MemorySpace>::default();
    operator.spill_to(space.clone());
    operator
        .step(
            Event::Batch { input: 0, batch: batch(&[Row { at: 1, key: None, place: 1 }], None) },
            &mut Capture::default(),
        )
        .expect("steps");
    operator.shed(usize::MAX).expect("keeps what it has");
    assert!(operator.state_bytes() > 0 && space.created() == 0);
}

fn feed(operator: &mut dyn Operator, keys: Range<i64>, at: i64, out: &mut Capture) {
    let rows: Vec<Row> = keys.map(|k| Row { at, key: Some(k), place: k }).collect();
    operator.step(Event::Batch { input: 0, batch: batch(&rows, None) }, out).expect("steps");
}

#[test]
fn a_watermark_waits_for_what_is_due_below_and_for_nothing_else() {
    let space = Arc::<MemorySpace>::default();
    let mut operator = by_shelves(Which::Over, small(1 << 20), &space);
    let mut out = Capture::default();
    let watermark = |operator: &mut Box<dyn Operator>, to: i64, out: &mut Capture| {
        operator.step(Event::Watermark(TimeDomain::Event, Watermark(to)), out).expect("steps");
        (out.emitted.iter().map(|(_, b)| b.len()).sum::<usize>(), out.advanced.last().map(|(_, w)| w.0))
    };
    feed(operator.as_mut(), 0..100, 50, &mut out);
    operator.shed(usize::MAX).expect("sheds");
    let created = space.created();
    assert_eq!(watermark(&mut operator, 49, &mut out), (0, Some(49)), "nothing is due");
    assert_eq!(space.created(), created, "and nothing was touched");
    assert_eq!(watermark(&mut operator, 50, &mut out), (0, Some(49)), "the rows of 50 are due, below");
    operator.catch_up(&mut out).expect("catches up");
    assert_eq!(watermark(&mut operator, 51, &mut out), (100, Some(51)));
    feed(operator.as_mut(), 0..1, 60, &mut out);
    assert_eq!(watermark(&mut operator, 55, &mut out), (100, Some(51)), "a row waits on the pile");
    operator.flush(&mut out).expect("flushes");
    assert_eq!(watermark(&mut operator, 56, &mut out), (100, Some(56)));
    assert_eq!(watermark(&mut operator, i64::MAX, &mut out), (101, Some(i64::MAX)));
}

/// Rows with marks of two tasks, of which one has been promised more than the other.
#[test]
fn shares_that_marks_have_brought_to_different_places_are_joined_at_one() {
    let space = Arc::<MemorySpace>::default();
    let shelves = || by_shelves(Which::Over, small(0), &space);
    let without = || plain(Which::Over, &[1])().expect("builds");
    let keys: ArrayRef = Arc::new((0..9).collect::<Int64Array>());
    let owners = crate::testing::owners(&[keys], 9, 2);
    let of = |task| owners.iter().position(|o| *o == task).expect("a key of each task") as i64;
    let (a, b) = (of(0), of(1));
    let marked = |rows: &[(i64, i64, i64, i64)]| {
        let marks = rows.iter().map(|r| r.3).collect();
        let rows: Vec<Row> = rows.iter().map(|&(at, key, place, _)| Row { at, key: Some(key), place }).collect();
        Event::Batch { input: 0, batch: batch(&rows, Some(marks)) }
    };
    let first = || marked(&[(1, a, 1, i64::MIN), (1, b, 2, i64::MIN)]);
    let second = || marked(&[(22, a, 3, 0), (40, b, 4, 0), (50, b, 5, 0), (52, b, 6, 45)]);
    let third = || marked(&[(46, a, 8, 45)]);
    let end = || Event::Watermark(TimeDomain::Event, Watermark::MAX);
    let (mut undisturbed, mut expected) = (without(), Capture::default());
    for event in [first(), second(), third(), end()] {
        undisturbed.step(event, &mut expected).expect("steps");
    }
    for tasks in [1, 2, 7] {
        let mut crew = Crew::new(&shelves, 2);
        let mut got = crew.step(&[1], first());
        crew.tasks.iter_mut().for_each(|t| t.shed(usize::MAX).expect("sheds"));
        let Capture { emitted, advanced, .. } = crew.step(&[1], second());
        got.emitted.extend(emitted);
        got.advanced.extend(advanced);
        crew.tasks.iter_mut().for_each(|t| t.flush(&mut got).expect("flushes"));
        assert_eq!(crew.tasks[1].reached().event, Watermark(45), "and says so to who saves");
        assert_eq!(got.advanced.last(), Some(&(TimeDomain::Event, Watermark(45))), "and to who comes behind");
        crew = crew.crash(&without, tasks);
        for event in [third(), end()] {
            got.emitted.extend(crew.step(&[1], event).emitted);
        }
        assert_eq!(shown(&got), shown(&expected), "on {tasks} tasks");
    }
}

fn saved(operator: &mut dyn Operator, whole: bool) -> usize {
    let mut saver = Saver::new(whole);
    operator.save(&mut saver).expect("saves");
    saver.into_pieces().iter().map(|p| p.rows.num_rows()).sum()
}

#[test]
fn a_checkpoint_has_what_has_changed_and_no_more() {
    let space = Arc::<MemorySpace>::default();
    let mut operator = by_shelves(Which::Sessions, small(1 << 20), &space);
    operator.track_changes();
    let mut out = Capture::default();
    feed(operator.as_mut(), 1..1_001, 10, &mut out);
    let everything = saved(operator.as_mut(), true);
    feed(operator.as_mut(), 2_001..2_004, 10, &mut out);
    operator.shed(usize::MAX).expect("sheds");
    let three = saved(operator.as_mut(), false);
    assert!((3..100).contains(&three), "what had changed before it went below: {three} of {everything} rows");
    assert_eq!(saved(operator.as_mut(), false), 0);
    feed(operator.as_mut(), 3_001..3_002, 10, &mut out);
    operator.flush(&mut out).expect("flushes");
    operator.shed(usize::MAX).expect("sheds");
    feed(operator.as_mut(), 3_001..3_002, 11, &mut out);
    operator.flush(&mut out).expect("flushes");
    let twice = saved(operator.as_mut(), false);
    assert!((2..100).contains(&twice), "{twice} rows for two changes of one session");
    assert!(saved(operator.as_mut(), true) > everything);
    assert!(operator.save(&mut Saver::new(false)).is_ok());
    feed(operator.as_mut(), 3_001..3_002, 12, &mut out);
    assert!(operator.save(&mut Saver::new(false)).is_err(), "rows on the pile would be lost");
}

/// Scratch space of a disk that goes bad.
#[derive(Default)]
struct Unsound {
    space: MemorySpace,
    bad: AtomicBool,
}

impl Spill for Unsound {
    fn create(&self) -> Result<RunId> {
        self.space.create()
    }

    fn append(&self, run: RunId, bytes: &[u8]) -> Result<()> {
        self.space.append(run, bytes)
    }

    fn read(&self, run: RunId, bytes: Range<u64>) -> Result<Vec<u8>> {
        let mut read = self.space.read(run, bytes)?;
        if self.bad.load(Relaxed)
            && let Some(last) = read.last_mut()
        {
            *last ^= 1;
        }
        Ok(read)
    }

    fn remove(&self, run: RunId) {
        self.space.remove(run);
    }
}

#[test]
fn a_disk_that_gives_back_other_bytes_ends_the_job() {
    let space = Arc::<Unsound>::default();
    let mut operator = Shelves::of(plain(Which::Over, &[1]), &[schema()], &[&[1]], small(0)).expect("builds");
    operator.spill_to(space.clone());
    let mut out = Capture::default();
    feed(operator.as_mut(), 0..100, 50, &mut out);
    operator.shed(usize::MAX).expect("sheds");
    space.bad.store(true, Relaxed);
    let error = operator.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), &mut out).expect_err("unsound");
    assert!(error.help().is_some_and(|h| h.contains("disk is sound")), "{error}");
}

/// Steps an operator as a job does, with so much memory. Returns the most it has held, and how many operators were made.
fn play_within(which: Which, memory: Option<usize>, out: &mut Capture) -> (usize, usize) {
    let space = Arc::<MemorySpace>::default();
    let made = Arc::new(AtomicUsize::new(0));
    let make: Make = {
        let (made, one) = (made.clone(), plain(which, &[1]));
        Box::new(move || {
            made.fetch_add(1, Relaxed);
            one()
        })
    };
    let mut operator =
        Shelves::of(make, &[schema()], &[&[1]], Bounds { shelves: 64, pile_bytes_min: 4 << 10 }).expect("builds");
    operator.spill_to(space.clone());
    let share = Budget::new(ByteSize(memory.map_or(u64::MAX, |m| m as u64)), true).share("state");
    let mut most = 0;
    for round in 0..150i64 {
        let rows: Vec<Row> = (0..500)
            .map(|i| {
                let place = round * 500 + i;
                let random = millstream_core::key::mix(place as u64);
                Row { at: place / 10_000 + (random >> 40) as i64 % 3, key: Some(random as i64 % 10_000), place }
            })
            .collect();
        let to = Watermark(round * 500 / 10_000 - 1);
        for event in [Event::Batch { input: 0, batch: batch(&rows, None) }, Event::Watermark(TimeDomain::Event, to)] {
            operator.step(event, out).expect("steps");
            let too_much = share.report(operator.state_bytes());
            if too_much > 0 {
                operator.shed(too_much).expect("sheds");
                share.settle(operator.state_bytes());
                share.check().expect("within the budget");
            }
            most = most.max(operator.state_bytes());
        }
    }
    operator.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), out).expect("steps");
    (most, made.load(Relaxed))
}

#[test]
fn a_tenth_of_the_memory_is_kept_to_and_shelves_are_loaded_a_few_times() {
    for which in [Which::Over, Which::Frames, Which::Sessions, Which::SessionRows] {
        let (mut expected, mut got) = (Capture::default(), Capture::default());
        let (most, _) = play_within(which, None, &mut expected);
        let (held, made) = play_within(which, Some(most / 10), &mut got);
        assert!(held <= most / 10, "{which:?}: {held} bytes held of {most}");
        // 300 events: were shelves loaded when a key of theirs is due, there would be twenty thousand.
        assert!(made < 64 * 40, "{which:?}: {made} operators were made");
        assert_eq!(shown(&got), shown(&expected), "{which:?}");
    }
}
