//! Every aggregate function through tables and back, how much is saved, and how the tables look.

use super::*;
use crate::graph::{AggregateCall, AggregateFunction, WindowTime};
use crate::testing::{Capture, Crew, pressed, render, timestamp};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_functions_aggregate as functions;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::Column;
use millstream_core::ChangeKind;
use millstream_core::multiset::multiset_of;
use millstream_state::table::Piece;
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;

const FLOATS: [Option<f64>; 10] = [
    Some(0.1),
    Some(-0.0),
    Some(1e300),
    Some(-1e300),
    Some(1e-300),
    Some(f64::NAN),
    Some(f64::INFINITY),
    Some(288_230_376_151_711_744.0),
    Some(-7.25),
    None,
];

const COLUMNS: [&str; 10] = ["ts", "key", "small", "big", "price", "x", "y", "title", "cheap", "day"];

fn schema() -> SchemaRef {
    use DataType::*;
    let kinds =
        [timestamp(), Utf8, Int32, Int64, Decimal128(20, 3), Float64, Float32, Utf8, Boolean, Date32].into_iter();
    let mut fields: Vec<Field> = COLUMNS.iter().zip(kinds).map(|(n, kind)| Field::new(*n, kind, *n != "ts")).collect();
    fields.push(Field::new("start", timestamp(), false));
    fields.push(Field::new("end", timestamp(), false));
    Arc::new(Schema::new(fields))
}

const START: usize = 10;
const END: usize = 11;

/// A time and a number that all other columns are made of.
type Row = (Millis, u8);

fn batch(rows: &[Row]) -> RecordBatch {
    let n = |r: &Row| (r.1 % 7 != 6).then(|| i64::from(r.1) - 100);
    let array = |f: &dyn Fn(&Row) -> Option<i64>| rows.iter().map(f).collect::<Int64Array>();
    let cast = |a: Int64Array, kind: DataType| arrow::compute::cast(&a, &kind).expect("casts");
    let float = |r: &Row| FLOATS[r.1 as usize % FLOATS.len()];
    let price = rows.iter().map(|r| n(r).map(|n| i128::from(n) * 90_071_992_547_409_931)).collect::<Decimal128Array>();
    let start = |r: &Row| r.0.div_euclid(10) * 10;
    let ends = rows.iter().map(|r| Some(start(r) + 10 + i64::from(r.1 % 2) * 10));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from(rows.iter().map(|r| r.0).collect::<Vec<_>>())),
        Arc::new(rows.iter().map(|r| (r.1 % 5 > 0).then(|| format!("k{}", r.1 % 5))).collect::<StringArray>()),
        cast(array(&|r| n(r)), DataType::Int32),
        Arc::new(array(&|r| n(r).map(|n| n.saturating_mul(i64::MAX / 50)))),
        Arc::new(price.with_precision_and_scale(20, 3).expect("fits")),
        Arc::new(rows.iter().map(float).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| float(r).map(|x| x as f32)).collect::<Float32Array>()),
        Arc::new(rows.iter().map(|r| n(r).map(|n| format!("t{}", n % 11))).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| (r.1 % 3 > 0).then_some(r.1 % 3 == 1)).collect::<BooleanArray>()),
        arrow::compute::cast(&cast(array(&|r| n(r)), DataType::Int32), &DataType::Date32).expect("casts"),
        Arc::new(rows.iter().map(|r| Some(start(r))).collect::<TimestampMillisecondArray>()),
        Arc::new(ends.collect::<TimestampMillisecondArray>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("as declared")
}

fn at(name: &str) -> usize {
    COLUMNS.iter().position(|c| *c == name).expect("a column")
}

fn call(function: AggregateFunction, arg: Option<&str>, kind: DataType) -> AggregateCall {
    let result = Field::new("r", kind, true);
    AggregateCall { function, args: arg.map(at).into_iter().collect(), distinct: false, filter: None, result }
}

fn kernel(function: Arc<datafusion_expr::AggregateUDF>, arg: &str, kind: DataType) -> AggregateCall {
    let built = AggregateExprBuilder::new(function, vec![Arc::new(Column::new(arg, at(arg)))])
        .schema(schema())
        .alias("r")
        .build()
        .expect("builds");
    call(AggregateFunction::Kernel(Arc::new(built)), Some(arg), kind)
}

/// Every function over every kind of column that it treats in a way of its own.
fn every_call() -> Vec<AggregateCall> {
    use AggregateFunction::*;
    use DataType::*;
    let list = |kind| List(Arc::new(Field::new("item", kind, true)));
    let wide = Decimal128(38, 3);
    let mut calls = vec![call(Count, None, Int64)];
    calls.extend(COLUMNS[2..].iter().map(|c| call(Count, Some(*c), Int64)));
    for (column, kind) in [("small", Int64), ("price", wide.clone()), ("x", Float64), ("y", Float32)] {
        calls.extend([Sum, Avg].map(|f| call(f, Some(column), kind.clone())));
    }
    // Their sums of BIGINT may pass the type: the average does not.
    calls.push(call(Avg, Some("big"), Int64));
    for column in COLUMNS[2..].iter().copied() {
        let kind = schema().field(at(column)).data_type().clone();
        calls.extend([Min, Max, FirstValue, LastValue].map(|f| call(f, Some(column), kind.clone())));
        calls.push(call(Collect, Some(column), multiset_of(&kind)));
        calls.push(call(ArrayAgg, Some(column), list(kind)));
    }
    for column in ["small", "x"] {
        calls.extend([VarPop, VarSamp, StddevPop, StddevSamp].map(|f| call(f, Some(column), Float64)));
        calls.push(call(ApproxPercentile { fraction: 0.5 }, Some(column), Float64));
    }
    calls.push(call(ListAgg { separator: "+".into() }, Some("title"), Utf8));
    calls.extend(["big", "title"].map(|c| call(ApproxCountDistinct, Some(c), Int64)));
    calls.push(kernel(functions::median::median_udaf(), "small", Int32));
    calls.push(kernel(functions::bit_and_or_xor::bit_xor_udaf(), "big", Int64));
    let mut more = Vec::new();
    for plain in &calls {
        more.push(AggregateCall { filter: Some(at("cheap")), ..plain.clone() });
    }
    for filter in [None, Some(at("cheap"))] {
        for c in [
            call(Count, Some("big"), Int64),
            call(Count, Some("title"), Int64),
            call(Sum, Some("small"), Int64),
            call(Avg, Some("price"), wide.clone()),
            call(Sum, Some("x"), Float64),
            call(ListAgg { separator: "+".into() }, Some("title"), Utf8),
            call(ArrayAgg, Some("day"), list(Date32)),
            call(Collect, Some("title"), multiset_of(&Utf8)),
            call(StddevPop, Some("small"), Float64),
        ] {
            more.push(AggregateCall { distinct: true, filter, ..c });
        }
    }
    calls.extend(more);
    calls
}

fn node(window: Window, keys: &[usize], calls: Vec<AggregateCall>) -> graph::WindowAggregate {
    graph::WindowAggregate {
        window,
        time: WindowTime { column: 0, domain: TimeDomain::Event, zone: None },
        keys: keys.to_vec(),
        calls,
        lateness: 0,
        order: None,
    }
}

#[derive(Debug, Clone)]
enum Act {
    Rows(Vec<Row>),
    Watermark(Millis),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let row = (-12i64..25, any::<u8>());
    let act = prop_oneof![
        2 => prop::collection::vec(row, 1..12).prop_map(Act::Rows),
        1 => (0i64..14).prop_map(Act::Watermark),
    ];
    prop::collection::vec(act, 1..10).prop_map(|mut acts| {
        let mut now = 0;
        for act in &mut acts {
            match act {
                Act::Rows(rows) => rows.iter_mut().for_each(|r| r.0 += now),
                Act::Watermark(by) => {
                    now += *by;
                    *by = now;
                }
            }
        }
        acts.push(Act::Watermark(Millis::MAX));
        acts
    })
}

fn shown(capture: &Capture, into: &mut Vec<String>) {
    for (_, batch) in &capture.emitted {
        for (i, text) in render(&batch.rows, false).into_iter().enumerate() {
            let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i)));
            into.push(format!("{} {text}", kind.short()));
        }
    }
    for late in &capture.late {
        into.extend(render(&late.rows, false).into_iter().map(|text| format!("late {text}")));
    }
}

/// Everything that comes out; with crashes if there are tasks to go on with.
/// `every`: how often all memory is to be given back, in steps; 0 for never.
fn play(node: &graph::WindowAggregate, acts: &[Act], tasks: &[usize], every: usize) -> Vec<String> {
    let space = Arc::<MemorySpace>::default();
    let make = || {
        let operator = build(node, &schema(), false).expect("builds");
        if every > 0 { pressed(operator, every, space.clone()) } else { operator }
    };
    let mut keys = node.keys.clone();
    if let Window::Attached { start, end } = node.window {
        keys.extend([start, end]);
    }
    let mut crew = Crew::new(&make, tasks.first().copied().unwrap_or(1));
    let mut all = Vec::new();
    for (step, act) in acts.iter().enumerate() {
        let event = match act {
            Act::Rows(rows) => Event::Batch { input: 0, batch: Batch::from(batch(rows)) },
            Act::Watermark(to) => Event::Watermark(TimeDomain::Event, Watermark(*to)),
        };
        shown(&crew.step(&keys, event), &mut all);
        if let Some(next) = tasks.get((step + 1) % tasks.len().max(1)) {
            crew = crew.crash(&make, *next);
        }
    }
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_aggregate_comes_back_bit_for_bit(
        acts in acts(), shape in 0usize..5, lateness in prop_oneof![Just(0i64), 1i64..12],
        keys in prop_oneof![Just(vec![1]), Just(vec![1, 2]), Just(vec![3]), Just(vec![])],
        tasks in prop::collection::vec(1usize..4, 0..3), every in prop_oneof![2 => Just(0usize), 1 => 1usize..4],
    ) {
        let window = match shape {
            0 => Window::Tumble { size: 10, offset: 3 },
            1 => Window::Hop { size: 12, slide: 4, offset: 0 },
            2 => Window::Cumulate { size: 12, step: 4, offset: 0 },
            3 => Window::Attached { start: START, end: END },
            _ => Window::Session { gap: 4, partition: keys.clone() },
        };
        let node = graph::WindowAggregate { lateness, ..node(window, &keys, every_call()) };
        prop_assert_eq!(play(&node, &acts, &tasks, every), play(&node, &acts, &[], 0));
    }
}

/// Rows of one time without a place in a table, one of them NULL: what lay in scratch space came back in front.
#[test]
fn rows_that_tie_come_back_in_one_order() {
    let acts = [
        Act::Rows(vec![(16, 13), (0, 0), (0, 0)]),
        Act::Watermark(5),
        Act::Watermark(17),
        Act::Rows(vec![(16, 131), (17, 12)]),
        Act::Watermark(Millis::MAX),
    ];
    let node = node(Window::Attached { start: START, end: END }, &[], every_call());
    assert_eq!(play(&node, &acts, &[1], 2), play(&node, &acts, &[], 0));
}

fn save(operator: &mut dyn Operator, whole: bool) -> Vec<Piece> {
    let mut saver = Saver::new(whole);
    operator.save(&mut saver).expect("saves");
    saver.into_pieces()
}

/// Rows of a table's pieces: puts, and all others.
fn rows_of(pieces: &[Piece], table: &str) -> (usize, usize) {
    let (mut puts, mut others) = (0, 0);
    for piece in pieces.iter().filter(|p| p.table.name == table) {
        for change in piece.rows.column(0).as_primitive::<arrow::datatypes::Int8Type>().values() {
            *(if *change == 0 { &mut puts } else { &mut others }) += 1;
        }
    }
    (puts, others)
}

fn many_keys(at: Millis, keys: std::ops::Range<i64>) -> Event {
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), false),
        Field::new("auction", DataType::Int64, true),
        Field::new("bidder", DataType::Int64, true),
    ]));
    let times = TimestampMillisecondArray::from_value(at, keys.clone().count());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times),
        Arc::new(Int64Array::from_iter_values(keys.clone())),
        Arc::new(Int64Array::from_iter_values(keys.map(|k| k % 100))),
    ];
    let rows = RecordBatch::try_new(schema, columns).expect("as declared");
    Event::Batch { input: 0, batch: Batch::from(rows) }
}

fn auctions(window: Window, distinct: bool) -> Box<dyn Operator> {
    let mut calls = vec![call(AggregateFunction::Count, None, DataType::Int64)];
    if distinct {
        let count = call(AggregateFunction::Count, None, DataType::Int64);
        calls.push(AggregateCall { distinct: true, args: vec![2], ..count });
    }
    let Event::Batch { batch, .. } = many_keys(0, 0..1) else { unreachable!("it makes a batch") };
    let mut operator = build(&node(window, &[1], calls), &batch.rows.schema(), false).expect("builds");
    operator.track_changes();
    operator
}

fn step(operator: &mut dyn Operator, event: Event) {
    operator.step(event, &mut Capture::default()).expect("steps");
}

#[test]
fn a_save_of_one_change_among_ten_thousand_groups_is_small() {
    for distinct in [false, true] {
        let hop = Window::Hop { size: 200, slide: 100, offset: 0 };
        for window in [Window::Tumble { size: 100, offset: 0 }, hop] {
            let mut operator = auctions(window.clone(), distinct);
            let operator = operator.as_mut();
            step(operator, many_keys(7, 0..10_000));
            assert_eq!(rows_of(&save(operator, true), "slices"), (10_000, 0));
            assert!(save(operator, false).is_empty(), "nothing has changed");
            step(operator, many_keys(8, 5_000..5_001));
            step(operator, many_keys(108, 3..4));
            let pieces = save(operator, false);
            let (puts, others) = rows_of(&pieces, "slices");
            assert!((2..=9).contains(&puts) && others == 0, "{puts} puts");
            // The value of the first slice was seen before.
            assert_eq!(rows_of(&pieces, "distinct_bidder"), (usize::from(distinct), 0));
            step(operator, Event::Watermark(TimeDomain::Event, Watermark(250)));
            let gone = usize::from(matches!(window, Window::Tumble { .. })) + 1;
            let pieces = save(operator, false);
            assert_eq!(rows_of(&pieces, "slices"), (0, gone), "a slice that is gone is one row");
            assert_eq!(rows_of(&pieces, "distinct_bidder"), (0, if distinct { gone } else { 0 }));
        }
    }
}

#[test]
fn a_session_that_grows_merges_or_closes_is_a_row_or_two() {
    let mut operator = auctions(Window::Session { gap: 10, partition: vec![1] }, true);
    let operator = operator.as_mut();
    step(operator, many_keys(100, 0..1_000));
    step(operator, many_keys(130, 500..501));
    assert_eq!(rows_of(&save(operator, true), "sessions"), (1_001, 0));
    step(operator, many_keys(95, 77..78));
    let pieces = save(operator, false);
    assert!(rows_of(&pieces, "sessions").0 <= 8 && rows_of(&pieces, "sessions").1 == 0, "it grows to the left");
    assert_eq!(rows_of(&pieces, "distinct_bidder"), (0, 0));
    step(operator, many_keys(110, 500..501));
    step(operator, many_keys(120, 500..501));
    let pieces = save(operator, false);
    let (puts, others) = rows_of(&pieces, "sessions");
    assert!(puts <= 8 && others == 1, "a merge: {puts} puts, {others} deletes");
    step(operator, Event::Watermark(TimeDomain::Event, Watermark(125)));
    let pieces = save(operator, false);
    assert_eq!(rows_of(&pieces, "sessions"), (0, 999), "all but one have closed");
    assert_eq!(rows_of(&pieces, "distinct_bidder"), (0, 999));
}

#[test]
fn a_session_that_came_and_went_between_two_saves_leaves_nothing() {
    let mut operator = auctions(Window::Session { gap: 10, partition: vec![1] }, true);
    let operator = operator.as_mut();
    assert!(save(operator, true).is_empty());
    step(operator, many_keys(100, 0..10));
    step(operator, Event::Watermark(TimeDomain::Event, Watermark(500)));
    assert!(save(operator, false).is_empty());
    // Its id is another key's from now on.
    step(operator, many_keys(600, 20..21));
    assert_eq!(rows_of(&save(operator, false), "sessions"), (1, 0));
}

/// `name TYPE` of each column; those that name a row in brackets.
fn layout(table: &TableDef) -> String {
    let columns = table.columns.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
    let columns: Vec<String> = columns.collect();
    let (key, rest) = columns.split_at(table.key);
    format!("{} [{}] {} | group by {:?}", table.name, key.join(", "), rest.join(", "), table.group_by)
        .replace("Timestamp(ms)", "TIMESTAMP")
        .replace(&format!("{}", timestamp()), "TIMESTAMP")
}

#[test]
fn the_tables_of_a_typical_query_can_be_read_by_name() {
    use AggregateFunction::*;
    let mut calls = vec![
        call(Count, None, DataType::Int64),
        call(Sum, Some("big"), DataType::Int64),
        call(Avg, Some("price"), DataType::Decimal128(38, 6)),
        call(Min, Some("price"), DataType::Decimal128(20, 3)),
        AggregateCall { filter: Some(at("cheap")), ..call(Count, None, DataType::Int64) },
        AggregateCall { distinct: true, ..call(Count, Some("title"), DataType::Int64) },
        call(Sum, Some("x"), DataType::Float64),
        call(LastValue, Some("title"), DataType::Utf8),
    ];
    let tables = |calls: &[AggregateCall], window| {
        let node = node(window, &[1], calls.to_vec());
        build(&node, &schema(), false).expect("builds").tables()
    };
    let hop = Window::Hop { size: 10, slide: 5, offset: 0 };
    let before = tables(&calls, hop.clone());
    let shown: Vec<String> = before[..2].iter().map(layout).collect();
    assert_eq!(
        shown,
        [
            "slices [slice_start TIMESTAMP, slice_end TIMESTAMP, run Int32, key Utf8] count Int64, nulls_big Int64, \
             sum_big Decimal128(38, 0), nulls_price Int64, sum_price Decimal128(38, 3), \
             sum_price_wide FixedSizeBinary(24), min_price Decimal128(20, 3), count_if_cheap Int64, \
             count_distinct_title Int64, nulls_x Int64, sum_x FixedSizeBinary(16), sum_x_wide Binary, \
             last_title Struct(\"time\": Int64, \"order\": Int64, \"value\": Utf8) | group by [3]",
            "distinct_title [slice_start TIMESTAMP, slice_end TIMESTAMP, run Int32, key Utf8, title Utf8] mask Int64 \
             | group by [3]",
        ]
    );
    assert_eq!((before[2].name.as_str(), before[2].columns.field(0).name().as_str()), ("waiting", "waits_for"));
    // A call behind the others leaves their columns as they are.
    calls.extend([call(Min, Some("big"), DataType::Int64), call(LastValue, Some("title"), DataType::Utf8)]);
    let after = tables(&calls, hop);
    let names = |t: &TableDef| t.columns.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&after[0])[..names(&before[0]).len()], names(&before[0]));
    assert_eq!(names(&after[0])[names(&before[0]).len()..], ["min_big", "last_title_2"]);
    let session = tables(&calls[..1], Window::Session { gap: 5, partition: vec![1] });
    assert_eq!(
        layout(&session[0]),
        "sessions [session TIMESTAMP, key Utf8] session_start TIMESTAMP, last_row TIMESTAMP, fired Boolean, \
         count Int64 | group by [1]"
    );
    let attached = tables(&calls[..1], Window::Attached { start: START, end: END });
    assert_eq!(attached[0].group_by, [3, 0, 1], "as the exchange hashes: keys, start, end");
    assert_eq!(attached.len(), 1, "rows of such windows never wait");
}

#[test]
fn a_column_that_is_not_there_is_named() {
    let node = node(Window::Tumble { size: 10, offset: 0 }, &[1], every_call()[..2].to_vec());
    let mut operator = build(&node, &schema(), false).expect("builds");
    let table = operator.tables().remove(0);
    let rows = RecordBatch::new_empty(table.columns.clone()).project(&[0, 1, 2, 3]).expect("projects");
    let error = operator.load("slices", 1, &rows).expect_err("no counts");
    assert!(error.to_string().contains("table `slices` has no column `count`"), "{error}");
    assert!(operator.load("slides", 1, &rows).is_err());
}

#[test]
fn times_beside_milliseconds_are_kept() {
    // MIN of a time in microseconds, LAST of a date: columns of their own types.
    let kind = DataType::Timestamp(TimeUnit::Microsecond, None);
    let schema =
        Arc::new(Schema::new(vec![Field::new("ts", timestamp(), false), Field::new("at", kind.clone(), true)]));
    let least = AggregateCall { args: vec![1], ..call(AggregateFunction::Min, None, kind.clone()) };
    let node = node(Window::Tumble { size: 10, offset: 0 }, &[], vec![least]);
    let table = build(&node, &schema, false).expect("builds").tables().remove(0);
    assert_eq!(table.columns.field_with_name("min_at").expect("a column").data_type(), &kind);
}
