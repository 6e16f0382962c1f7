//! An OVER window that is thrown away and restored goes on as if nothing had happened.
//!
//! The timelines of this file are played with a crash after every line, on one, two, seven and changing tasks
//! ([`Timeline::keyed`]); the property compares random rows, watermarks, saves and crashes with one undisturbed
//! operator, bit by bit.

use super::tests::{
    Row, aggregate, batch, build, by_shelves, calls, check_pressed, distinct, frames, over, rows, schema,
};
use super::*;
use crate::graph::{AggregateFunction, Frame, OverCall, OverFunction};
use crate::testing::{Capture, Crew, Timeline, owners, pressed, timestamp};
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use millstream_core::multiset::multiset_of;
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;
use std::sync::Arc;

const BEGINNING: Frame = Frame::Range { preceding: None };
const ALL_ROWS: Frame = Frame::Rows { preceding: None };
const RANGE_10: Frame = Frame::Range { preceding: Some(10) };
const LAST_2: Frame = Frame::Rows { preceding: Some(1) };

fn check(calls: Vec<OverCall>, script: &str) {
    let columns = [
        ("ts", timestamp()),
        ("who", DataType::Utf8),
        ("n", DataType::Int64),
        ("d", DataType::Float64),
        ("money", DataType::Decimal128(10, 2)),
    ];
    let shown: Vec<usize> = [0, 1].into_iter().chain(5..5 + calls.len()).collect();
    let timeline = Timeline::new(&columns).keyed(&[1]).show(&shown);
    let spec = over(&[1], 0, None, calls);
    timeline.check(|| Box::new(build(&spec, &timeline.schema())), script);
    check_pressed(&timeline, &spec, script);
}

fn ranked(function: fn(Field) -> OverFunction) -> OverCall {
    OverCall { function: function(Field::new("r", DataType::Int64, false)), frame: ALL_ROWS }
}

fn lag(arg: usize, kind: DataType, offset: u64) -> OverCall {
    OverCall { function: OverFunction::Lag { arg, offset, result: Field::new("lag", kind, true) }, frame: ALL_ROWS }
}

#[test]
fn ranks_and_lags_go_on_counting() {
    check(
        vec![
            ranked(|result| OverFunction::RowNumber { result }),
            ranked(|result| OverFunction::Rank { result }),
            ranked(|result| OverFunction::DenseRank { result }),
            lag(2, DataType::Int64, 1),
            lag(3, DataType::Float64, 2),
        ],
        "
        rows       10 ann 1 0.5 0
        watermark  10               -> 10 ann 1 1 1 null null
        rows       20 ann 2 1.5 0, 20 ann 3 null 0, 20 null 7 7.5 0
        watermark  20               -> 20 ann 2 2 2 1 null, 20 ann 3 2 2 2 0.5, 20 null 1 1 1 null null
        rows       30 ann null 3.5 0, 20 ann 9 9 0, 31 null 8 8 0     -> late 20 ann 9 9.0 0.00
        watermark  40               -> 30 ann 4 4 3 3 1.5, 31 null 2 2 2 7 null
        rows       41 ann 5 5 0, 42 null 9 9 0, 43 bob 1 1 0
        end                         -> 41 ann 5 5 4 null null, 42 null 3 3 3 8 7.5, 43 bob 1 1 1 null null",
    );
}

#[test]
fn sums_from_the_beginning_stay_exact() {
    use AggregateFunction::*;
    let double = || DataType::Float64;
    check(
        vec![
            aggregate(Sum, &[3], double(), BEGINNING),
            aggregate(Avg, &[3], double(), ALL_ROWS),
            aggregate(StddevPop, &[3], double(), BEGINNING),
            aggregate(Sum, &[4], DataType::Decimal128(38, 2), BEGINNING),
            aggregate(VarPop, &[4], double(), BEGINNING),
            aggregate(Avg, &[2], DataType::Int64, BEGINNING),
            aggregate(Min, &[3], double(), BEGINNING),
            aggregate(Max, &[4], DataType::Decimal128(10, 2), ALL_ROWS),
        ],
        "
        rows       10 ann 1 1e17 1.25
        watermark  10               -> 10 ann 1e17 1e17 0.0 1.25 0.0 1 1e17 1.25
        rows       20 ann 5 0.1 1.75
        watermark  20               -> 20 ann 1e17 5e16 5e16 3.00 0.0625 3 0.1 1.75
        rows       30 ann null -1e17 -9.5
        watermark  30               -> 30 ann 0.1 0.03333333333333333 8.16496580927726e16 -6.50 26.930555555555557 3 -1e17 1.75
        rows       40 ann 6 -0.1 null, 41 null 9 NaN 9
        watermark  41               -> 40 ann 0.0 0.0 7.071067811865475e16 -6.50 26.930555555555557 4 -1e17 1.75
                                    -> 41 null NaN NaN NaN 9.00 0.0 9 NaN 9.00
        end",
    );
}

#[test]
fn values_from_the_beginning_stay_in_order() {
    use AggregateFunction::*;
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    check(
        vec![
            aggregate(FirstValue, &[2], DataType::Int64, BEGINNING),
            aggregate(LastValue, &[2], DataType::Int64, BEGINNING),
            aggregate(ArrayAgg, &[2], list, BEGINNING),
            aggregate(Collect, &[2], multiset_of(&DataType::Int64), BEGINNING),
            distinct(aggregate(Count, &[2], DataType::Int64, BEGINNING)),
            distinct(aggregate(Sum, &[2], DataType::Int64, ALL_ROWS)),
            distinct(aggregate(Sum, &[3], DataType::Float64, BEGINNING)),
            aggregate(ApproxCountDistinct, &[3], DataType::Int64, BEGINNING),
            aggregate(Count, &[3], DataType::Int64, BEGINNING),
        ],
        "
        rows       10 ann null 0.5 0
        watermark  10               -> 10 ann null null [null] {} 0 null 0.5 1 1
        rows       20 ann 4 0.5 0
        watermark  20               -> 20 ann 4 4 [null;4] {4:_1} 1 4 0.5 1 2
        rows       30 ann 4 2.5 0, 30 bob 1 null 0
        watermark  30               -> 30 ann 4 4 [null;4;4] {4:_2} 1 4 3.0 2 3, 30 bob 1 1 [1] {1:_1} 1 1 null 0 0
        rows       40 ann 6 0 0, 41 ann 4 -0.0 0
        watermark  41               -> 40 ann 4 6 [null;4;4;6] {4:_2;6:_1} 2 10 3.0 3 4
                                    -> 41 ann 4 4 [null;4;4;6;4] {4:_3;6:_1} 2 10 3.0 3 5
        end",
    );
}

#[test]
fn bounded_frames_are_computed_again_from_their_rows() {
    use AggregateFunction::*;
    let text = || DataType::Utf8;
    let list = |separator: &str| ListAgg { separator: separator.into() };
    check(
        vec![
            aggregate(Count, &[], DataType::Int64, RANGE_10),
            aggregate(Sum, &[3], DataType::Float64, RANGE_10),
            aggregate(list("+"), &[1], text(), Frame::Range { preceding: Some(3) }),
            aggregate(Max, &[2], DataType::Int64, RANGE_10),
            distinct(aggregate(Count, &[2], DataType::Int64, RANGE_10)),
            aggregate(FirstValue, &[2], DataType::Int64, RANGE_10),
            aggregate(LastValue, &[2], DataType::Int64, LAST_2),
            aggregate(Sum, &[2], DataType::Int64, LAST_2),
            aggregate(list("-"), &[1], text(), Frame::Rows { preceding: Some(2) }),
            aggregate(Count, &[2], DataType::Int64, Frame::Rows { preceding: Some(0) }),
        ],
        "
        rows       10 ann 9 0.1 0
        watermark  10               -> 10 ann 1 0.1 ann 9 1 9 9 9 ann 1
        rows       12 ann null 0.2 0, 14 ann 2 1e17 0, 14 ann 2 -1e17 0, 15 null 1 1 0
        watermark  15               -> 12 ann 2 0.30000000000000004 ann+ann 9 1 9 9 9 ann-ann 0
                                    -> 14 ann 4 0.30000000000000004 ann+ann+ann 9 2 9 2 2 ann-ann-ann 1
                                    -> 14 ann 4 0.30000000000000004 ann+ann+ann 9 2 9 2 4 ann-ann-ann 1
                                    -> 15 null 1 1.0 null 1 1 1 1 1 null 1
        watermark  19
        rows       21 ann 5 null 0
        watermark  22               -> 21 ann 4 0.2 ann 5 2 2 5 7 ann-ann-ann 1
        watermark  40
        rows       41 ann 1 1 0, 42 null 2 2 0
        watermark  43               -> 41 ann 1 1.0 ann 1 1 1 1 6 ann-ann-ann 1, 42 null 1 2.0 null 2 1 2 2 3 null 1
        end",
    );
}

/// One step of what may happen to a job.
#[derive(Debug, Clone, Copy)]
enum Move {
    /// So many of the rows come in, as one batch.
    Take(usize),
    /// The watermark follows the rows.
    Follow,
    Save,
    Crash(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (1usize..8).prop_map(Move::Take),
        3 => Just(Move::Follow),
        1 => Just(Move::Save),
        2 => prop::sample::select(vec![1, 2, 3, 7]).prop_map(Move::Crash),
    ];
    prop::collection::vec(one, 1..40)
}

/// Every call that can be asked for, over two frames.
fn all_calls(a: Frame, b: Frame) -> Vec<OverCall> {
    use AggregateFunction::*;
    let (double, int, text) = (|| DataType::Float64, || DataType::Int64, || DataType::Utf8);
    let list = DataType::List(Arc::new(Field::new("item", int(), true)));
    let filtered = |mut call: OverCall| {
        if let OverFunction::Aggregate(call) = &mut call.function {
            call.filter = Some(6);
        }
        call
    };
    let more = [
        ranked(|result| OverFunction::RowNumber { result }),
        ranked(|result| OverFunction::Rank { result }),
        ranked(|result| OverFunction::DenseRank { result }),
        lag(5, text(), 1),
        lag(3, int(), 3),
        aggregate(StddevSamp, &[4], double(), a),
        aggregate(Avg, &[4], double(), b),
        distinct(aggregate(Avg, &[4], double(), a)),
        distinct(aggregate(Count, &[4], int(), b)),
        distinct(aggregate(VarPop, &[3], double(), b)),
        aggregate(Min, &[4], double(), a),
        filtered(aggregate(FirstValue, &[5], text(), a)),
        filtered(aggregate(FirstValue, &[3], int(), b)),
        filtered(aggregate(ArrayAgg, &[3], list, a)),
        filtered(aggregate(Count, &[], int(), a)),
        filtered(aggregate(Count, &[5], int(), b)),
        filtered(aggregate(ListAgg { separator: "-".into() }, &[5], text(), b)),
    ];
    calls(a, b).into_iter().chain(more).collect()
}

/// Rows by `$order`, which names a row, with the bits of their results, and the rows that were late.
fn outcome(out: &Capture) -> (Vec<(i64, Vec<String>)>, Vec<i64>) {
    let mut emitted = Vec::new();
    for (_, batch) in &out.emitted {
        let places = batch.rows.column(2).as_primitive::<Int64Type>();
        for i in 0..batch.len() {
            let cell = |c: &ArrayRef| match c.as_primitive_opt::<Float64Type>() {
                Some(c) if c.is_valid(i) => format!("{:x}", c.value(i).to_bits()),
                _ => array_value_to_string(c, i).expect("every type prints"),
            };
            emitted.push((places.value(i), batch.rows.columns().iter().map(cell).collect()));
        }
    }
    emitted.sort();
    let late = out.late.iter().flat_map(|l| l.rows.column(2).as_primitive::<Int64Type>().values().to_vec());
    let mut late: Vec<i64> = late.collect();
    late.sort_unstable();
    (emitted, late)
}

fn take_in(crew: &mut Crew, keys: &[usize], rows: &[Row], out: &mut Capture) {
    let rows = batch(rows);
    let columns: Vec<ArrayRef> = keys.iter().map(|k| rows.column(*k).clone()).collect();
    let owners = match keys.is_empty() {
        true => vec![0; rows.num_rows()],
        false => owners(&columns, rows.num_rows(), crew.tasks.len()),
    };
    for (task, operator) in crew.tasks.iter_mut().enumerate() {
        let mine: Vec<u32> = (0..).zip(&owners).filter(|(_, o)| **o == task).map(|(i, _)| i).collect();
        if !mine.is_empty() {
            let batch = take_record_batch(&rows, &UInt32Array::from(mine)).expect("rows that are there").into();
            operator.step(Event::Batch { input: 0, batch }, out).expect("rows wait");
        }
    }
}

fn follow(crew: &mut Crew, to: Watermark, out: &mut Capture) {
    crew.watermarks.advance(TimeDomain::Event, to);
    for operator in &mut crew.tasks {
        operator.step(Event::Watermark(TimeDomain::Event, to), out).expect("rows go out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn crashes_leave_no_trace(rows in rows(), moves in moves(), a in frames(), b in frames(), delay in 0i64..10,
                              order in prop::option::of(Just(2usize)), only_bounded: bool,
                              keys in prop::sample::select(vec![vec![0], vec![], vec![5], vec![0, 3], vec![0, 5], vec![4]]),
                              every in prop_oneof![2 => Just(0usize), 1 => 1usize..4]) {
        let calls = match only_bounded {
            // Keys are forgotten here.
            true => calls(Frame::Range { preceding: Some(3) }, Frame::Range { preceding: Some(7) }),
            false => all_calls(a, b),
        };
        let spec = over(&keys, 1, order, calls);
        let space = Arc::<MemorySpace>::default();
        // `every`: how often all memory is to be given back, in steps; 0 for never.
        let make = || match every {
            0 => Box::new(build(&spec, &schema())) as Box<dyn Operator>,
            every => pressed(by_shelves(&spec, &schema()), every, space.clone()),
        };
        // The undisturbed one neither saves nor keeps track of anything.
        let mut undisturbed = Crew::new(&make, 1);
        undisturbed.tasks = vec![Box::new(build(&spec, &schema()))];
        let mut crew = Crew::new(&make, 1);
        let (mut expected, mut got) = (Capture::default(), Capture::default());
        let (mut from, mut seen) = (0usize, i64::MIN);
        for step in moves.into_iter().chain([Move::Take(usize::MAX)]) {
            match step {
                Move::Take(some) => {
                    let to = rows.len().min(from.saturating_add(some));
                    if from == to { continue }
                    take_in(&mut undisturbed, &[], &rows[from..to], &mut expected);
                    take_in(&mut crew, &keys, &rows[from..to], &mut got);
                    seen = rows[from..to].iter().fold(seen, |seen, r| seen.max(r.time));
                    from = to;
                }
                Move::Follow => {
                    let to = Watermark(seen.saturating_sub(delay));
                    follow(&mut undisturbed, to, &mut expected);
                    follow(&mut crew, to, &mut got);
                }
                Move::Save => crew.save(),
                Move::Crash(tasks) => {
                    crew = crew.crash(&make, if keys.is_empty() { 1 } else { tasks });
                    crew.take_settled(&mut got);
                }
            }
        }
        follow(&mut undisturbed, Watermark::MAX, &mut expected);
        follow(&mut crew, Watermark::MAX, &mut got);
        prop_assert_eq!(outcome(&got), outcome(&expected));
    }
}

/// What one save after `before` rows writes for `new` more: rows of each table and change.
fn saved_rows(calls: Vec<OverCall>, before: i64, new: i64) -> Vec<(String, usize)> {
    let mut operator = build(&over(&[0], 1, None, calls), &schema());
    operator.track_changes();
    let mut out = Capture::default();
    let row = |i: i64| Row { key: Some(i % 10), time: i, place: i, int: Some(i), double: None, text: None };
    let mut feed = |operator: &mut Over, range: std::ops::Range<i64>| {
        let rows: Vec<Row> = range.clone().map(row).collect();
        operator.step(Event::Batch { input: 0, batch: batch(&rows).into() }, &mut out).expect("rows wait");
        let to = Watermark(range.end - 6);
        operator.step(Event::Watermark(TimeDomain::Event, to), &mut out).expect("rows go out");
    };
    feed(&mut operator, 0..before);
    operator.save(&mut Saver::new(true)).expect("the save succeeds");
    feed(&mut operator, before..before + new);
    let mut saver = Saver::new(false);
    operator.save(&mut saver).expect("the save succeeds");
    saver.into_pieces().into_iter().map(|p| (p.table.name.clone(), p.rows.num_rows())).collect()
}

#[test]
fn a_save_is_as_large_as_the_change() {
    let range = |preceding| Frame::Range { preceding: Some(preceding) };
    let calls = vec![
        aggregate(AggregateFunction::Sum, &[3], DataType::Int64, range(1_000)),
        aggregate(AggregateFunction::Max, &[3], DataType::Int64, range(1_000)),
        aggregate(AggregateFunction::Sum, &[3], DataType::Int64, Frame::Rows { preceding: Some(50) }),
        aggregate(AggregateFunction::Sum, &[3], DataType::Int64, BEGINNING),
        distinct(aggregate(AggregateFunction::Count, &[5], DataType::Int64, BEGINNING)),
    ];
    let sizes = saved_rows(calls, 100_000, 7);
    // A drop and five rows that wait still, though two of them came before; a drop and seven rows of the log.
    let expected = [("waiting", 1), ("waiting", 5), ("log", 1), ("log", 7), ("last", 7), ("state", 7)];
    assert_eq!(sizes, expected.map(|(name, rows)| (name.to_owned(), rows)));
}

/// Feeds these batches, with the watermark so far behind the last row of each, to an undisturbed operator and to one
/// that is saved after each batch and crashes in the end.
fn compare_over_saves(spec: &graph::Over, batches: &[Vec<Row>], behind: i64) {
    let make = || Box::new(build(spec, &schema())) as Box<dyn Operator>;
    let mut undisturbed = Crew::new(&make, 1);
    undisturbed.tasks = vec![make()];
    let mut crew = Crew::new(&make, 1);
    let (mut expected, mut got) = (Capture::default(), Capture::default());
    for (i, rows) in batches.iter().enumerate() {
        let to = Watermark(rows.last().map_or(0, |r| r.time) - behind);
        for (crew, out) in [(&mut undisturbed, &mut expected), (&mut crew, &mut got)] {
            take_in(crew, &[], rows, out);
            follow(crew, to, out);
        }
        match i + 2 < batches.len() {
            true => crew.save(),
            false => crew = crew.crash(&make, 1),
        }
    }
    follow(&mut undisturbed, Watermark::MAX, &mut expected);
    follow(&mut crew, Watermark::MAX, &mut got);
    assert_eq!(outcome(&got), outcome(&expected));
}

#[test]
fn a_log_is_saved_without_a_gap_while_its_beginning_is_taken_away() {
    let range = |preceding| Frame::Range { preceding: Some(preceding) };
    let calls = vec![
        aggregate(AggregateFunction::Sum, &[3], DataType::Int64, range(9_000)),
        aggregate(AggregateFunction::FirstValue, &[3], DataType::Int64, range(500)),
    ];
    let row = |i: i64| Row { key: Some(i % 7), time: i, place: i, int: Some(i * i % 1_000), double: None, text: None };
    let batches: Vec<Vec<Row>> = (0..12).map(|b| (b * 3_000..(b + 1) * 3_000).map(row).collect()).collect();
    // The crash comes before, right after, and a while after the log has been shortened.
    for crash in 8..=batches.len() {
        compare_over_saves(&over(&[0], 1, Some(2), calls.clone()), &batches[..crash], 100);
    }
}

#[test]
fn many_small_batches_that_wait_are_saved_once_and_keep_their_order() {
    // All of the same time, and the order of arrival is all that LAG and ARRAY_AGG can go by. Every 40th batch is
    // large, so that small pieces are joined around it.
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let calls = vec![
        lag(3, DataType::Int64, 1),
        ranked(|result| OverFunction::RowNumber { result }),
        aggregate(AggregateFunction::ArrayAgg, &[3], list, Frame::Rows { preceding: Some(3) }),
    ];
    let row = |i: i64| Row { key: None, time: 10, place: i, int: Some(i), double: None, text: None };
    let early = |i: i64| Row { time: i - 1_000, ..row(1_000_000 + i) };
    let batches: Vec<Vec<Row>> = (0..150)
        .map(|b| {
            let rows = if b % 40 == 39 { 2_000 } else { 1 + b % 3 };
            // One row goes out each time, for pieces are joined when some have gone.
            (0..rows).map(|r| row(b * 3_000 + r)).chain([early(b)]).collect()
        })
        .collect();
    compare_over_saves(&over(&[0], 1, None, calls), &batches, 0);
}
