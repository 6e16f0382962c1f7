use super::*;
use crate::graph::{AggregateCall, AggregateFunction, Frame, OverCall, OverFunction};
use crate::testing::{Capture, Timeline, pressed_with, timestamp};
use arrow::array::{AsArray, Float64Array, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use arrow::util::display::array_value_to_string;
use millstream_core::multiset::multiset_of;
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) fn aggregate(function: AggregateFunction, args: &[usize], result: DataType, frame: Frame) -> OverCall {
    let result = Field::new(format!("{function:?}"), result, true);
    let call = AggregateCall { function, args: args.to_vec(), distinct: false, filter: None, result };
    OverCall { function: OverFunction::Aggregate(call), frame }
}

pub(super) fn distinct(mut call: OverCall) -> OverCall {
    if let OverFunction::Aggregate(a) = &mut call.function {
        a.distinct = true;
    }
    call
}

pub(super) fn over(keys: &[usize], time: usize, order: Option<usize>, calls: Vec<OverCall>) -> graph::Over {
    graph::Over { keys: keys.to_vec(), time, domain: TimeDomain::Event, order, calls }
}

pub(super) fn build(spec: &graph::Over, input: &SchemaRef) -> Over {
    Over::new(spec, input, output(spec, input)).expect("the calls are possible")
}

/// As a job has it: it goes to disk by shelves.
pub(super) fn by_shelves(spec: &graph::Over, input: &SchemaRef) -> Box<dyn Operator> {
    super::build(spec, input, output(spec, input)).expect("the calls are possible")
}

/// The same, with hardly any memory: plays a script with and without time to catch up.
pub(super) fn check_pressed(timeline: &Timeline, spec: &graph::Over, script: &str) {
    for (every, leisure) in [(1, 1), (2, 1), (1, 0), (2, 3)] {
        let space = Arc::<MemorySpace>::default();
        let timeline = if leisure == 1 { timeline.clone() } else { timeline.clone().delayed() };
        let make = || pressed_with(by_shelves(spec, &timeline.schema()), every, leisure, space.clone());
        timeline.check(make, script);
        assert_eq!(space.runs(), 0, "scratch space is given back");
    }
}

fn output(spec: &graph::Over, input: &SchemaRef) -> SchemaRef {
    let results = spec.calls.iter().map(|c| {
        Arc::new(match &c.function {
            OverFunction::Aggregate(a) => a.result.clone(),
            OverFunction::RowNumber { result }
            | OverFunction::Rank { result }
            | OverFunction::DenseRank { result }
            | OverFunction::Lag { result, .. } => result.clone(),
        })
    });
    let fields: Vec<_> = input.fields().iter().cloned().chain(results).collect();
    Arc::new(Schema::new(fields))
}

const RANGE_10_S: Frame = Frame::Range { preceding: Some(10_000) };

fn check(calls: Vec<OverCall>, script: &str) {
    let timeline = Timeline::new(&[("ts", timestamp()), ("who", DataType::Utf8), ("n", DataType::Int64)]).keyed(&[1]);
    let spec = over(&[1], 0, None, calls);
    timeline.check(|| Box::new(build(&spec, &timeline.schema())), script);
    check_pressed(&timeline, &spec, script);
}

#[test]
fn a_row_sees_the_rows_of_its_key_within_the_range_both_ends_included() {
    let calls = vec![
        aggregate(AggregateFunction::Count, &[], DataType::Int64, RANGE_10_S),
        aggregate(AggregateFunction::Sum, &[2], DataType::Int64, RANGE_10_S),
    ];
    check(
        calls,
        "
        rows       12:00:10 ann 1, 12:00:00 ann 2, 12:00:05 bob 5
        watermark  12:00:09         -> 12:00:00 ann 2 1 2, 12:00:05 bob 5 1 5
        watermark  12:00:10         -> 12:00:10 ann 1 2 3
        rows       12:00:20.001 ann 4, 12:00:20 ann null
        watermark  12:00:30         -> 12:00:20 ann null 2 1, 12:00:20.001 ann 4 2 4
        end",
    );
}

#[test]
fn rows_of_the_same_time_see_each_other() {
    check(
        vec![aggregate(AggregateFunction::Sum, &[2], DataType::Int64, RANGE_10_S)],
        "
        rows       12:00:10 ann 1
        rows       12:00:10 ann 2, 12:00:10 bob 7
        watermark  12:00:10         -> 12:00:10 ann 1 3, 12:00:10 ann 2 3, 12:00:10 bob 7 7
        end",
    );
}

#[test]
fn a_row_behind_the_watermark_is_set_aside() {
    check(
        vec![aggregate(AggregateFunction::Count, &[], DataType::Int64, Frame::Range { preceding: None })],
        "
        rows       12:00:10 ann 1
        watermark  12:00:10         -> 12:00:10 ann 1 1
        rows       12:00:10 ann 2, 12:00:11 ann 3    -> late 12:00:10 ann 2
        watermark  12:00:20         -> 12:00:11 ann 3 2
        end",
    );
}

#[test]
fn a_rows_frame_counts_rows_and_answers_one_by_one() {
    let frame = Frame::Rows { preceding: Some(1) };
    check(
        vec![
            aggregate(AggregateFunction::Sum, &[2], DataType::Int64, frame),
            aggregate(AggregateFunction::Max, &[2], DataType::Int64, frame),
            OverCall {
                function: OverFunction::Lag { arg: 2, offset: 2, result: Field::new("lag", DataType::Int64, true) },
                frame,
            },
        ],
        "
        rows       12:00:10 ann 9, 12:00:20 ann 2, 12:00:30 ann 3, 12:00:40 bob 4
        watermark  12:00:50         -> 12:00:10 ann 9 9 9 null, 12:00:20 ann 2 11 9 null
                                    -> 12:00:30 ann 3 5 3 9, 12:00:40 bob 4 4 4 null
        end",
    );
}

#[test]
fn a_sum_that_does_not_fit_its_type_is_an_error() {
    let schema =
        Arc::new(Schema::new(vec![Field::new("ts", timestamp(), false), Field::new("n", DataType::Int64, true)]));
    let spec = over(&[], 0, None, vec![aggregate(AggregateFunction::Sum, &[1], DataType::Int64, RANGE_10_S)]);
    let mut operator = build(&spec, &schema);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(TimestampMillisecondArray::from(vec![1, 2])), Arc::new(Int64Array::from(vec![i64::MAX, 1]))];
    let rows = RecordBatch::try_new(schema, columns).expect("two rows");
    let mut out = Capture::default();
    operator.step(Event::Batch { input: 0, batch: rows.into() }, &mut out).expect("rows wait");
    let e = operator.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), &mut out).expect_err("too large");
    assert!(e.what().contains("does not fit") && e.help().is_some_and(|h| h.contains("CAST")), "{e}");
}

#[test]
fn keys_whose_rows_have_left_are_forgotten() {
    let schema =
        Arc::new(Schema::new(vec![Field::new("ts", timestamp(), false), Field::new("key", DataType::Int64, true)]));
    let calls = vec![
        aggregate(AggregateFunction::Count, &[], DataType::Int64, RANGE_10_S),
        aggregate(AggregateFunction::Max, &[1], DataType::Int64, Frame::Range { preceding: Some(2_000) }),
    ];
    let mut operator = build(&over(&[1], 0, None, calls), &schema);
    let (mut out, mut most) = (Capture::default(), 0);
    for second in 0..400 {
        let times: TimestampMillisecondArray = (0..100).map(|i| Some(second * 1000 + i * 10)).collect();
        let keys: Int64Array = (0..100).map(|i| (i != 7).then_some(second * 100 + i)).collect();
        let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(times), Arc::new(keys)]).expect("columns fit");
        operator.step(Event::Batch { input: 0, batch: rows.into() }, &mut out).expect("rows wait");
        let to = Watermark(second * 1000 + 999);
        operator.step(Event::Watermark(TimeDomain::Event, to), &mut out).expect("rows go out");
        most = most.max(operator.live_keys());
    }
    assert!(most <= 1_100, "{most} keys");
    assert!(operator.state_bytes() < 2 << 20, "{} bytes", operator.state_bytes());
    operator.step(Event::Watermark(TimeDomain::Event, Watermark(500_000)), &mut out).expect("silence passes");
    assert_eq!(operator.live_keys(), 0);
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub key: Option<i64>,
    pub time: i64,
    pub place: i64,
    pub int: Option<i64>,
    pub double: Option<f64>,
    pub text: Option<&'static str>,
}

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("ts", timestamp(), false),
        Field::new("$order", DataType::Int64, false),
        Field::new("int", DataType::Int64, true),
        Field::new("double", DataType::Float64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("keep", DataType::Boolean, true),
    ]))
}

pub(super) fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.key).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.time)).collect::<TimestampMillisecondArray>()),
        Arc::new(rows.iter().map(|r| Some(r.place)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.int).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.double).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.text).collect::<StringArray>()),
        Arc::new(rows.iter().map(keep).collect::<arrow::array::BooleanArray>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("columns are as declared")
}

fn keep(row: &Row) -> Option<bool> {
    row.int.map(|i| i % 2 == 0)
}

pub(super) fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        prop::option::weighted(0.9, 0i64..3),
        0i64..12,
        prop::option::weighted(0.8, -3i64..4),
        prop::option::weighted(0.8, prop::sample::select(vec![0.1, -0.1, 1e17, -1e17, 3.5, f64::INFINITY])),
        prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "cc"])),
    );
    prop::collection::vec(row, 1..50).prop_map(|rows| {
        let rows = rows.into_iter().enumerate();
        rows.map(|(i, (key, disorder, int, double, text))| {
            let i = i as i64;
            Row { key, time: i / 2 * 2 - disorder, place: i * 7 % 50, int, double, text }
        })
        .collect()
    })
}

pub(super) fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (0i64..9).prop_map(|p| Frame::Range { preceding: Some(p) }),
        Just(Frame::Range { preceding: None }),
        (0u64..4).prop_map(|p| Frame::Rows { preceding: Some(p) }),
        Just(Frame::Rows { preceding: None }),
    ]
}

pub(super) fn calls(a: Frame, b: Frame) -> Vec<OverCall> {
    use AggregateFunction::*;
    let int = || DataType::Int64;
    let list = DataType::List(Arc::new(Field::new("item", int(), true)));
    let mut filtered = aggregate(Sum, &[3], int(), b);
    if let OverFunction::Aggregate(call) = &mut filtered.function {
        call.filter = Some(6);
    }
    vec![
        aggregate(Count, &[], int(), a),
        aggregate(Count, &[5], int(), b),
        aggregate(Sum, &[3], int(), a),
        aggregate(Avg, &[3], int(), b),
        aggregate(Min, &[3], int(), a),
        aggregate(Max, &[5], DataType::Utf8, a),
        aggregate(FirstValue, &[3], int(), a),
        aggregate(LastValue, &[5], DataType::Utf8, b),
        distinct(aggregate(Count, &[5], int(), a)),
        distinct(aggregate(Sum, &[3], int(), b)),
        aggregate(Sum, &[4], DataType::Float64, a),
        aggregate(ListAgg { separator: "+".into() }, &[5], DataType::Utf8, a),
        aggregate(ArrayAgg, &[3], list, b),
        aggregate(Collect, &[5], multiset_of(&DataType::Utf8), a),
        distinct(aggregate(Collect, &[3], multiset_of(&int()), b)),
        filtered,
        aggregate(Max, &[4], DataType::Float64, b),
        aggregate(VarSamp, &[3], DataType::Float64, a),
        aggregate(ApproxPercentile { fraction: 0.5 }, &[3], DataType::Float64, b),
        aggregate(ApproxCountDistinct, &[5], int(), a),
        aggregate(ApproxCountDistinct, &[5], int(), b),
    ]
}

/// What each call gives over the rows of a frame, as text.
fn naive(frame: &[&Row]) -> Vec<String> {
    let ints: Vec<i64> = frame.iter().filter_map(|r| r.int).collect();
    let texts: Vec<&str> = frame.iter().filter_map(|r| r.text).collect();
    let doubles: Vec<f64> = frame.iter().filter_map(|r| r.double).collect();
    let show = |v: Option<i64>| v.map_or(String::new(), |v| v.to_string());
    let some = |there: bool, v: i64| show(there.then_some(v));
    let sum: i64 = ints.iter().sum();
    let different: BTreeSet<i64> = ints.iter().copied().collect();
    let even: Vec<i64> = ints.iter().copied().filter(|i| i % 2 == 0).collect();
    // Of these doubles, the large ones cancel or drown the others; whole tenths keep the rest exact.
    let tenths: i128 = doubles.iter().filter(|d| d.is_finite()).map(|d| (d * 10.0).round() as i128).sum();
    let double = if doubles.contains(&f64::INFINITY) { f64::INFINITY } else { tenths as f64 / 10.0 };
    let number = |v: f64| format!("{v:.3e}");
    let mut sorted = ints.clone();
    sorted.sort_unstable();
    let middle = |at: usize| sorted.get(at).map(|v| *v as f64);
    let median = middle(ints.len() / 2).and_then(|m| Some((m + middle(ints.len().saturating_sub(1) / 2)?) / 2.0));
    vec![
        frame.len().to_string(),
        texts.len().to_string(),
        some(!ints.is_empty(), sum),
        some(!ints.is_empty(), sum / ints.len().max(1) as i64),
        show(ints.iter().min().copied()),
        texts.iter().max().unwrap_or(&"").to_string(),
        show(ints.first().copied()),
        texts.last().unwrap_or(&"").to_string(),
        texts.iter().collect::<BTreeSet<_>>().len().to_string(),
        some(!ints.is_empty(), different.iter().sum()),
        if doubles.is_empty() { String::new() } else { number(double) },
        texts.join("+"),
        format!("[{}]", frame.iter().map(|r| show(r.int)).collect::<Vec<_>>().join(", ")),
        multiset(texts.iter()),
        multiset(different.iter()),
        some(!even.is_empty(), even.iter().sum()),
        doubles.iter().copied().max_by(f64::total_cmp).map_or(String::new(), number),
        if ints.len() < 2 { String::new() } else { number(variance(&ints)) },
        median.map_or(String::new(), number),
        texts.iter().collect::<BTreeSet<_>>().len().to_string(),
        texts.iter().collect::<BTreeSet<_>>().len().to_string(),
    ]
}

/// As it is printed.
fn multiset<T: Ord + ToString>(values: impl Iterator<Item = T>) -> String {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let entries: Vec<String> = counts.iter().map(|(value, n)| format!("{}: {n}", value.to_string())).collect();
    format!("{{{}}}", entries.join(", "))
}

fn variance(ints: &[i64]) -> f64 {
    let mean = ints.iter().sum::<i64>() as f64 / ints.len() as f64;
    ints.iter().map(|i| (*i as f64 - mean).powi(2)).sum::<f64>() / (ints.len() - 1) as f64
}

/// The rows of row `i`'s frame; `rows` are those of all keys in order of (time, place).
fn in_frame(rows: &[Row], i: usize, frame: Frame) -> Vec<&Row> {
    let row = &rows[i];
    let same = |r: &&Row| r.key == row.key;
    match frame {
        Frame::Range { preceding } => {
            let from = preceding.map_or(i64::MIN, |p| row.time - p);
            rows.iter().filter(same).filter(|r| r.time >= from && r.time <= row.time).collect()
        }
        Frame::Rows { preceding } => {
            let before: Vec<&Row> = rows[..=i].iter().filter(same).collect();
            let from = before.len() - before.len().min(preceding.map_or(usize::MAX, |p| p as usize + 1));
            before[from..].to_vec()
        }
    }
}

fn shown(batches: &[(usize, Batch)]) -> Vec<(i64, Vec<String>)> {
    let mut all = Vec::new();
    for (_, batch) in batches {
        let places = batch.rows.column(2).as_primitive::<Int64Type>();
        for i in 0..batch.len() {
            let cell = |c: &ArrayRef| match c.as_primitive_opt::<Float64Type>() {
                Some(c) if c.is_valid(i) => format!("{:.3e}", c.value(i)),
                _ => array_value_to_string(c, i).expect("every type prints"),
            };
            all.push((places.value(i), batch.rows.columns()[7..].iter().map(cell).collect()));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn every_frame_is_exact_to_the_row_under_any_cut(rows in rows(), a in frames(), b in frames(), delay in 0i64..10,
                                                     cuts in prop::collection::vec(1usize..20, 1..10)) {
        let spec = over(&[0], 1, Some(2), calls(a, b));
        // What row-by-row feeding lets in.
        let (mut wm, mut marks, mut accepted, mut late) = (i64::MIN, Vec::new(), Vec::new(), BTreeSet::new());
        for row in &rows {
            marks.push(wm);
            if row.time > wm { accepted.push(row.clone()) } else { late.insert(row.place); }
            wm = wm.max(row.time - delay);
        }
        accepted.sort_by_key(|r| (r.time, r.place));
        let expected: Vec<(i64, Vec<String>)> = (0..accepted.len()).map(|i| {
            let (of_a, of_b) = (naive(&in_frame(&accepted, i, a)), naive(&in_frame(&accepted, i, b)));
            let pick = |c: usize| if [1, 3, 7, 9, 12, 14, 15, 16, 18, 20].contains(&c) { of_b[c].clone() } else { of_a[c].clone() };
            (accepted[i].place, (0..of_a.len()).map(pick).collect())
        }).collect();

        let mut operator = build(&spec, &schema());
        let mut out = Capture::default();
        let (mut from, mut cuts, mut wm) = (0, cuts.iter().cycle(), i64::MIN);
        while from < rows.len() {
            let to = rows.len().min(from + cuts.next().expect("cycles"));
            let batch = Batch { marks: Some(marks[from..to].to_vec().into()), ..batch(&rows[from..to]).into() };
            operator.step(Event::Batch { input: 0, batch }, &mut out).expect("rows wait");
            wm = rows[from..to].iter().fold(wm, |wm, r| wm.max(r.time - delay));
            operator.step(Event::Watermark(TimeDomain::Event, Watermark(wm)), &mut out).expect("rows go out");
            from = to;
        }
        operator.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), &mut out).expect("the rest goes out");
        let set_aside: BTreeSet<i64> = out.late.iter()
            .flat_map(|l| l.rows.column(2).as_primitive::<Int64Type>().values().to_vec()).collect();
        prop_assert_eq!(set_aside, late);
        let got = shown(&out.emitted);
        prop_assert_eq!(got.len(), expected.len());
        for (g, e) in got.iter().zip(&expected) {
            prop_assert_eq!(g, e);
        }
    }

    #[test]
    fn ranks_count_from_the_beginning(rows in rows()) {
        let result = |name: &str| Field::new(name, DataType::Int64, false);
        let frame = Frame::Rows { preceding: None };
        let functions = [
            OverFunction::RowNumber { result: result("n") },
            OverFunction::Rank { result: result("rank") },
            OverFunction::DenseRank { result: result("dense") },
            OverFunction::Lag { arg: 5, offset: 1, result: Field::new("lag", DataType::Utf8, true) },
        ];
        let calls = functions.map(|function| OverCall { function, frame }).to_vec();
        let mut operator = build(&over(&[0], 1, Some(2), calls), &schema());
        let mut out = Capture::default();
        operator.step(Event::Batch { input: 0, batch: batch(&rows).into() }, &mut out).expect("rows wait");
        operator.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), &mut out).expect("rows go out");
        let mut ordered = rows.clone();
        ordered.sort_by_key(|r| (r.time, r.place));
        let mut by_key: BTreeMap<Option<i64>, Vec<Row>> = BTreeMap::new();
        for (row, (place, got)) in ordered.iter().zip(shown(&out.emitted)) {
            prop_assert_eq!(row.place, place);
            let before = by_key.entry(row.key).or_default();
            let older = before.iter().filter(|r| r.time < row.time).count();
            let times: BTreeSet<i64> = before.iter().map(|r| r.time).chain([row.time]).collect();
            let lag = before.last().and_then(|r| r.text).unwrap_or("");
            let number = before.len() + 1;
            prop_assert_eq!(got, [number.to_string(), (older + 1).to_string(), times.len().to_string(), lag.to_string()]);
            before.push(row.clone());
        }
    }
}
