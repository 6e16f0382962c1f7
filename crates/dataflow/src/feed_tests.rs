use super::*;
use arrow::array::{AsArray, Int64Array, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal};
use millstream_core::TableSpec;
use proptest::prelude::*;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("ts", timestamp(), true), Field::new("n", DataType::Int64, true)]))
}

fn rows(times: &[Option<i64>]) -> SourceRows {
    let ns: Int64Array = (0..times.len() as i64).map(Some).collect();
    let times = TimestampMillisecondArray::from(times.to_vec());
    RecordBatch::try_new(schema(), vec![Arc::new(times), Arc::new(ns)]).expect("columns fit").into()
}

fn at(times: &[i64]) -> SourceRows {
    rows(&times.iter().map(|t| Some(*t)).collect::<Vec<_>>())
}

fn node(delay: Option<Millis>) -> SourceNode {
    let table = TableSpec {
        name: "orders".into(),
        schema: schema(),
        projection: None,
        metadata: Vec::new(),
        options: Default::default(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    };
    let watermark = WatermarkSpec { column: 0, expression: Expr::column(&schema(), 0), delay };
    SourceNode {
        table,
        processing_time: false,
        computed: None,
        watermark: Some(watermark),
        idle_timeout: None,
        wall_clock_fallback: None,
        nothing_late: false,
        null_time_set_aside: false,
        row_watermarks: false,
        brings: Changes::Insert,
    }
}

fn feed(node: &SourceNode, partitions: usize) -> SourceFeed {
    let mut feed = SourceFeed::new(node, schema()).expect("a time column");
    (0..partitions).for_each(|p| assert_eq!(feed.add_partition(p.to_string(), 0), p));
    feed
}

/// Effects as text: `rows 1 2 late-by 5 5`, `event 7`, `clock 9`, `idle`.
fn said(effects: Vec<Effect>) -> Vec<String> {
    let times =
        |b: &Batch| b.rows.column(0).as_primitive::<arrow::datatypes::TimestampMillisecondType>().values().to_vec();
    let list = |v: &[i64]| v.iter().map(i64::to_string).collect::<Vec<_>>().join(" ");
    let one = |e: Effect| match e {
        Effect::Batch(b) => match &b.marks {
            None => format!("rows {}", list(&times(&b))),
            Some(m) => {
                format!("rows {} marks {}", list(&times(&b)), list(m.values()).replace(&i64::MIN.to_string(), "min"))
            }
        },
        Effect::Watermark(TimeDomain::Event, wm) => format!("event {}", wm.0).replace(&i64::MAX.to_string(), "max"),
        Effect::Watermark(TimeDomain::Processing, wm) => {
            format!("clock {}", wm.0).replace(&i64::MAX.to_string(), "max")
        }
        Effect::Idle => "idle".into(),
        Effect::Active => "active".into(),
        Effect::End => "end".into(),
        Effect::Bad(bad) => {
            bad.iter().map(|b| format!("bad {}: {}, {}", b.place, b.reason, String::from_utf8_lossy(&b.raw))).collect()
        }
    };
    effects.into_iter().map(one).collect()
}

#[test]
fn where_nothing_is_late_event_time_stands_still_until_the_end() {
    let mut feed = feed(&SourceNode { nothing_late: true, row_watermarks: false, ..node(Some(0)) }, 1);
    assert_eq!(said(feed.on_rows(0, at(&[10, 30, 11]), 0).unwrap()), ["rows 10 30 11"]);
    assert_eq!(said(feed.on_rows(0, at(&[5]), 0).unwrap()), ["rows 5"]);
    assert_eq!(said(feed.on_end(0, 0)), ["event max", "clock max", "end"]);
}

#[test]
fn a_row_is_late_by_the_rows_before_it_and_never_by_itself() {
    let mut feed = feed(&node(Some(5)), 1);
    assert_eq!(said(feed.on_rows(0, at(&[10, 12, 11]), 0).unwrap()), ["rows 10 12 11", "event 7"]);
    assert_eq!(
        said(feed.on_rows(0, at(&[20, 15, 30, 16]), 0).unwrap()),
        ["rows 20 15 30 16 marks 7 15 15 25", "event 25"]
    );
    assert_eq!(said(feed.on_rows(0, at(&[24, 26]), 0).unwrap()), ["rows 24 26"], "the watermark itself judges these");
    assert_eq!(said(feed.on_end(0, 0)), ["event max", "clock max", "end"]);
}

#[test]
fn the_slowest_partition_holds_the_watermark_until_it_ends() {
    let mut feed = feed(&node(Some(0)), 2);
    assert_eq!(said(feed.on_rows(0, at(&[50, 40]), 0).unwrap()), ["rows 50 40"], "the other has promised nothing");
    assert_eq!(said(feed.on_rows(1, at(&[20, 60, 30]), 0).unwrap()), ["rows 20 60 30 marks min 20 50", "event 50"]);
    assert_eq!(said(feed.on_end(0, 0)), ["event 60"]);
    let later = feed.add_partition("2", 0);
    assert_eq!(said(feed.on_rows(later, at(&[10]), 0).unwrap()), ["rows 10"]);
    assert_eq!(said(feed.on_end(1, 0)), [""; 0]);
    assert_eq!(said(feed.on_rows(later, at(&[70]), 0).unwrap()), ["rows 70", "event 70"]);
    assert_eq!(said(feed.on_end(later, 0)), ["event max", "clock max", "end"]);
}

#[test]
fn a_silent_partition_leaves_the_minimum_and_the_last_one_lets_go() {
    let mut feed = feed(&SourceNode { idle_timeout: Some(100), ..node(Some(0)) }, 2);
    feed.on_rows(0, at(&[50]), 0).unwrap();
    feed.on_rows(1, at(&[20]), 60).unwrap();
    assert_eq!(feed.watermark(), Watermark(20));
    assert_eq!(said(feed.on_tick(99)), [""; 0]);
    assert_eq!(said(feed.on_tick(100)), [""; 0], "the active one holds it at 20");
    assert_eq!(said(feed.on_tick(160)), ["event 50", "idle"]);
    assert_eq!(said(feed.on_tick(170)), [""; 0]);
    assert_eq!(said(feed.on_rows(1, at(&[30, 45]), 180).unwrap()), ["active", "rows 30 45"]);
    assert_eq!(said(feed.on_rows(1, at(&[55, 52]), 190).unwrap()), ["rows 55 52 marks 50 55", "event 55"]);
    assert_eq!(said(feed.on_tick(500)), ["idle"]);
}

#[test]
fn a_partition_that_waits_keeps_to_what_it_promises_and_is_not_silent() {
    let mut node = node(Some(5));
    node.idle_timeout = Some(100);
    let mut feed = feed(&node, 2);
    assert_eq!(said(feed.on_rows(0, at(&[50]), 0).unwrap()), ["rows 50"], "the other has promised nothing");
    assert_eq!(said(feed.on_promise(1, Watermark(40), 0)), ["event 40"]);
    assert_eq!(said(feed.on_promise(1, Watermark(30), 0)), [""; 0], "a promise does not go back");
    assert_eq!(said(feed.on_rows(0, at(&[60]), 150).unwrap()), ["rows 60"]);
    assert_eq!(said(feed.on_promise(1, Watermark(45), 150)), ["event 45"]);
    assert_eq!(said(feed.on_tick(150)), [""; 0], "it waits, and is asked for");
    // Its first rows are judged by what it has promised, and not by what the other has come to.
    assert_eq!(said(feed.on_rows(1, at(&[52, 47]), 160).unwrap()), ["rows 52 47 marks 45 47", "event 47"]);
    assert_eq!(said(feed.on_end(0, 160)), [""; 0]);
    assert_eq!(said(feed.on_rows(1, at(&[70]), 160).unwrap()), ["rows 70", "event 65"]);
}

#[test]
fn the_clock_may_stand_in_for_silent_partitions() {
    let mut feed = feed(&SourceNode { wall_clock_fallback: Some(1000), ..node(Some(0)) }, 1);
    feed.on_rows(0, at(&[5_000]), 5_000).unwrap();
    assert_eq!(said(feed.on_tick(5_999)), [""; 0]);
    assert_eq!(said(feed.on_tick(6_500)), ["event 5500"]);
    assert_eq!(said(feed.on_rows(0, at(&[5_400, 6_400]), 6_510).unwrap()), ["rows 5400 6400", "event 6400"]);
    assert_eq!(said(feed.on_tick(7_000)), [""; 0]);
}

#[test]
fn processing_time_stays_behind_the_rows_that_may_still_bear_it() {
    let stamped = Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), true),
        Field::new("n", DataType::Int64, true),
        Field::new(PROCESSING_TIME, ltz_millis(), false),
    ]));
    let node = SourceNode { processing_time: true, watermark: None, ..node(None) };
    let mut feed = SourceFeed::new(&node, stamped).unwrap();
    feed.add_partition("0", 0);
    let effects = feed.on_rows(0, at(&[1, 2]), 100).unwrap();
    let Effect::Batch(batch) = &effects[0] else { panic!("rows come first") };
    let stamps = batch.rows.column(2).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    assert_eq!(stamps.values().to_vec(), [100, 100]);
    assert_eq!(said(effects)[1..], ["clock 99"]);
    assert_eq!(said(feed.on_rows(0, at(&[3]), 90).unwrap())[1..], [""; 0], "a clock that jumps back stands still");
    assert_eq!(said(feed.on_tick(150)), ["clock 149"]);
}

/// The columns of [`schema`] with `$watermark`.
fn watermarked() -> SchemaRef {
    let mut fields: Vec<Field> = schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new(millstream_core::metadata::ROW_WATERMARK, timestamp(), true));
    Arc::new(Schema::new(fields))
}

fn row_watermarks(effects: &[Effect]) -> Vec<Option<i64>> {
    let batches = effects.iter().filter_map(|e| if let Effect::Batch(b) = e { Some(b) } else { None });
    batches
        .flat_map(|b| {
            let last = b.rows.column(b.rows.num_columns() - 1);
            last.as_primitive::<arrow::datatypes::TimestampMillisecondType>().iter().collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_row_can_carry_the_watermark_before_it_also_where_it_cannot_be_late() {
    let spec = SourceNode { row_watermarks: true, ..node(Some(5)) };
    let mut feed = SourceFeed::new(&spec, watermarked()).unwrap();
    feed.add_partition("0", 0);
    let first = feed.on_rows(0, at(&[10, 12, 30]), 0).unwrap();
    assert_eq!(row_watermarks(&first), [None, Some(5), Some(7)]);
    assert_eq!(said(first), ["rows 10 12 30", "event 25"], "no row of these can be late, so there are no marks");
    assert_eq!(row_watermarks(&feed.on_rows(0, at(&[31, 20]), 0).unwrap()), [Some(25), Some(26)]);
}

#[test]
fn a_row_without_an_event_time_fails_the_job_or_is_set_aside() {
    let mut strict = feed(&node(Some(0)), 1);
    strict.on_rows(0, at(&[1, 2]), 0).unwrap();
    let e = strict.on_rows(0, rows(&[Some(3), None]), 0).expect_err("a NULL");
    assert_eq!(e.place(), Some(&Place("orders[0] row 4".into())));
    assert!(e.help().is_some_and(|h| h.contains("set such rows aside")), "{e}");

    let mut lenient = feed(&SourceNode { null_time_set_aside: true, ..node(Some(0)) }, 1);
    let effects = said(lenient.on_rows(0, rows(&[Some(3), None, Some(4)]), 0).unwrap());
    let bad = r#"bad orders[0] row 2: the event time `ts` is NULL, {"ts":null,"n":1}"#;
    assert_eq!(effects, [bad, "rows 3 4", "event 4"]);
    let effects = said(lenient.on_rows(0, rows(&[None]), 0).unwrap());
    assert_eq!(effects, [r#"bad orders[0] row 4: the event time `ts` is NULL, {"ts":null,"n":0}"#]);
}

#[test]
fn a_row_that_is_set_aside_is_as_it_was_read_without_the_clock() {
    let stamped = Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), true),
        Field::new("n", DataType::Int64, true),
        Field::new(PROCESSING_TIME, ltz_millis(), false),
    ]));
    let node = SourceNode { processing_time: true, null_time_set_aside: true, ..node(Some(0)) };
    let mut feed = SourceFeed::new(&node, stamped).unwrap();
    feed.add_partition("0", 0);
    let effects = said(feed.on_rows(0, rows(&[Some(3), None]), 100).unwrap());
    let bad = r#"bad orders[0] row 2: the event time `ts` is NULL, {"ts":null,"n":1}"#;
    assert_eq!(effects, [bad, "rows 3", "event 3", "clock 99"]);
}

#[test]
fn a_time_that_is_no_time_is_an_error_with_its_place() {
    let mut feed = feed(&node(Some(0)), 1);
    feed.on_rows(0, at(&[1, 2]), 0).unwrap();
    let e = feed.on_rows(0, at(&[3, i64::MIN]), 0).expect_err("far beyond the calendar");
    assert_eq!(e.place(), Some(&Place("orders[0] row 4".into())));
}

#[test]
fn a_feed_that_is_kept_open_ends_when_it_is_closed() {
    let mut feed = feed(&node(Some(0)), 1);
    feed.keep_open();
    feed.on_rows(0, at(&[7]), 0).unwrap();
    assert_eq!(said(feed.on_end(0, 0)), [""; 0]);
    assert_eq!(said(feed.on_tick(1)), ["idle"]);
    assert_eq!(said(feed.close(2)), ["event max", "clock max", "end"]);
    assert_eq!(said(feed.on_tick(3)), [""; 0]);
}

proptest! {
    #[test]
    fn marks_say_what_feeding_row_by_row_says(
        script in prop::collection::vec((0usize..3, prop::collection::vec(0i64..60, 1..9)), 1..12),
        delay in 0i64..12, by_expression: bool,
    ) {
        let mut spec = node((!by_expression).then_some(delay));
        if let Some(w) = spec.watermark.as_mut().filter(|_| by_expression) {
            let interval = datafusion_common::ScalarValue::DurationMillisecond(Some(delay));
            let physical = BinaryExpr::new(Arc::new(Column::new("ts", 0)), Operator::Minus, Arc::new(Literal::new(interval)));
            w.expression = Expr::new(Arc::new(physical), Field::new("wm", timestamp(), true), "ts - delay");
        }
        let carrying = SourceNode { row_watermarks: true, ..spec.clone() };
        let mut carried = SourceFeed::new(&carrying, watermarked()).unwrap();
        (0..3).for_each(|p| { carried.add_partition(p.to_string(), 0); });
        let (mut whole, mut single) = (feed(&spec, 3), feed(&spec, 3));
        for (partition, times) in script {
            let before = whole.watermark();
            prop_assert_eq!(before, single.watermark());
            let effects = whole.on_rows(partition, at(&times), 0).unwrap();
            let Effect::Batch(batch) = &effects[0] else { panic!("rows come first") };
            let carried = row_watermarks(&carried.on_rows(partition, at(&times), 0).unwrap());
            for (i, time) in times.iter().enumerate() {
                let exact = single.watermark();
                // What matters is what a row is judged by when it may be late, and that nobody else is called late.
                let judged = batch.mark(i, before);
                prop_assert_eq!(*time <= judged.0, *time <= exact.0);
                prop_assert_eq!(carried[i].unwrap_or(i64::MIN), exact.0);
                if let Some(marks) = &batch.marks {
                    prop_assert_eq!(marks.value(i), exact.0);
                }
                for effect in single.on_rows(partition, at(&[*time]), 0).unwrap() {
                    if let Effect::Batch(b) = effect { prop_assert!(b.marks.is_none()) }
                }
            }
            let out: Vec<i64> = batch.rows.column(1).as_primitive::<Int64Type>().values().to_vec();
            prop_assert_eq!(out.len(), times.len());
        }
    }
}

/// A new feed that goes on where `old` stands.
fn restored(old: &SourceFeed, node: &SourceNode, now: Millis) -> (SourceFeed, Vec<String>) {
    let mut feed = SourceFeed::new(node, schema()).expect("a time column");
    if old.open {
        feed.keep_open();
    }
    for partition in 0..old.partitions.len() {
        let memory = old.partition_state(partition);
        assert_eq!(feed.add_saved_partition(partition.to_string(), memory, now), partition);
        assert_eq!(feed.partition_state(partition), memory);
    }
    let effects = said(feed.resume(old.watermark(), old.clock));
    (feed, effects)
}

#[test]
fn a_restored_partition_counts_before_its_first_row() {
    let mut old = feed(&node(Some(0)), 2);
    old.on_rows(0, at(&[50]), 0).unwrap();
    old.on_rows(1, at(&[20]), 0).unwrap();
    let (mut feed, effects) = restored(&old, &node(Some(0)), 0);
    assert_eq!(effects, ["event 20"]);
    assert_eq!(said(feed.on_rows(0, at(&[60]), 0).unwrap()), ["rows 60"], "the other holds it at 20");
    assert_eq!(said(feed.on_rows(1, at(&[70, 30]), 0).unwrap()), ["rows 70 30 marks 20 60", "event 60"]);
    let e = feed.on_rows(1, rows(&[None]), 0).expect_err("a NULL");
    assert_eq!(e.place(), Some(&Place("orders[1] row 4".into())), "rows are counted over the crash");
}

#[test]
fn a_silent_partition_that_was_behind_stays_out_until_it_has_caught_up() {
    let node = SourceNode { idle_timeout: Some(100), ..node(Some(0)) };
    let mut old = feed(&node, 2);
    old.on_rows(0, at(&[50]), 0).unwrap();
    old.on_rows(1, at(&[20]), 0).unwrap();
    assert_eq!(said(old.on_tick(100)), ["event 50", "idle"]);
    let (mut feed, effects) = restored(&old, &node, 110);
    assert_eq!(effects, ["event 50", "idle"]);
    assert_eq!(said(feed.on_rows(1, at(&[30, 45]), 110).unwrap()), ["active", "rows 30 45"]);
    let (mut feed, effects) = restored(&feed, &node, 120);
    assert_eq!(effects, ["event 50"]);
    assert_eq!(said(feed.on_rows(0, at(&[80]), 120).unwrap()), ["rows 80", "event 80"]);
    assert_eq!(said(feed.on_rows(1, at(&[90, 75]), 120).unwrap()), ["rows 90 75"]);
    assert_eq!(said(feed.on_rows(0, at(&[100]), 120).unwrap()), ["rows 100", "event 90"]);
}

#[test]
fn partitions_that_come_from_other_tasks_hold_what_all_tasks_had_promised() {
    let memory = |watermark| PartitionMemory { watermark: Watermark(watermark), rows: 1, idle: false, ended: false };
    let resumed = |partitions: &[PartitionMemory]| {
        let mut feed = SourceFeed::new(&node(Some(0)), schema()).expect("a time column");
        for partition in partitions {
            feed.add_saved_partition("p", *partition, 0);
        }
        let effects = said(feed.resume(Watermark(30), Watermark::MIN));
        (feed, effects)
    };
    assert_eq!(resumed(&[memory(100), memory(20)]).1, ["event 30"], "the one behind was left out, and still is");
    assert_eq!(resumed(&[memory(100), memory(70)]).1, ["event 70"], "alone, these have promised more");
    let idle = |watermark| PartitionMemory { idle: true, ..memory(watermark) };
    assert_eq!(resumed(&[memory(100), idle(10)]).1, ["event 100"]);
    assert_eq!(resumed(&[idle(40), idle(10)]).1, ["event 40", "idle"]);
    let ended = |watermark| PartitionMemory { ended: true, ..memory(watermark) };
    assert_eq!(resumed(&[ended(10), memory(35)]).1, ["event 35"]);
    let (mut feed, effects) = resumed(&[ended(10), ended(90)]);
    assert_eq!(effects, ["event 30"]);
    assert_eq!(said(feed.on_tick(1)), ["event max", "clock max", "end"]);
    let (mut feed, effects) = resumed(&[]);
    assert_eq!(effects, ["event 30"], "a task without a partition");
    assert_eq!(said(feed.on_tick(1)), ["event max", "clock max", "end"]);
}

#[test]
fn a_partition_that_had_ended_is_silent_while_more_may_be_found() {
    let mut old = feed(&node(Some(0)), 2);
    old.keep_open();
    old.on_rows(0, at(&[7]), 0).unwrap();
    old.on_rows(1, at(&[5]), 0).unwrap();
    assert_eq!(said(old.on_end(1, 0)), ["event 7"]);
    let (mut feed, effects) = restored(&old, &node(Some(0)), 0);
    assert_eq!(effects, ["event 7"]);
    assert_eq!(said(feed.on_end(0, 0)), [""; 0]);
    let (mut feed, effects) = restored(&feed, &node(Some(0)), 0);
    assert_eq!(effects, ["event 7", "idle"]);
    assert_eq!(said(feed.on_tick(1)), [""; 0]);
    assert_eq!(said(feed.close(2)), ["event max", "clock max", "end"]);
}

#[test]
fn the_clock_that_was_handed_on_does_not_go_back() {
    let stamped = Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), true),
        Field::new("n", DataType::Int64, true),
        Field::new(PROCESSING_TIME, ltz_millis(), false),
    ]));
    let node = SourceNode { processing_time: true, watermark: None, ..node(None) };
    let mut feed = SourceFeed::new(&node, stamped).unwrap();
    let memory = PartitionMemory { watermark: Watermark::MIN, rows: 3, idle: false, ended: false };
    feed.add_saved_partition("0", memory, 40);
    assert_eq!(said(feed.resume(Watermark::MIN, Watermark(99))), ["clock 99"]);
    let effects = feed.on_rows(0, at(&[1]), 50).unwrap();
    let Effect::Batch(batch) = &effects[0] else { panic!("rows come first") };
    let stamps = batch.rows.column(2).as_primitive::<arrow::datatypes::TimestampMillisecondType>();
    assert_eq!(stamps.values().to_vec(), [100], "a row is not late by the clock of before the crash");
    assert_eq!(said(effects)[1..], [""; 0]);
    assert_eq!(said(feed.on_tick(150)), ["clock 149"]);
}

#[derive(Debug, Clone)]
enum Move {
    Rows(usize, Vec<i64>),
    /// Nobody speaks for longer than the timeout.
    Silence,
    End(usize),
    Found,
    Crash,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => (0usize..3, prop::collection::vec(0i64..60, 1..6)).prop_map(|(p, times)| Move::Rows(p, times)),
        2 => Just(Move::Silence),
        1 => (0usize..3).prop_map(Move::End),
        1 => Just(Move::Found),
        4 => Just(Move::Crash),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_feed_restored_at_any_point_says_what_an_undisturbed_one_says(
        moves in moves(), delay in 0i64..12, open: bool, follows_clock: bool,
    ) {
        let spec = SourceNode {
            idle_timeout: Some(100),
            wall_clock_fallback: follows_clock.then_some(950),
            ..node(Some(delay))
        };
        let (mut undisturbed, mut feed) = (feed(&spec, 3), feed(&spec, 3));
        if open {
            undisturbed.keep_open();
            feed.keep_open();
        }
        let mut now = 0;
        for step in moves {
            // Whether the feed is idle is said anew after a crash, so that is compared apart from the rest.
            let rest = |effects| said(effects).into_iter().filter(|e| e != "idle" && e != "active").collect::<Vec<_>>();
            let both = |undisturbed: Vec<Effect>, feed: Vec<Effect>| (rest(undisturbed), rest(feed));
            let (expected, got) = match step {
                Move::Rows(p, times) if !undisturbed.partitions[p].ended => {
                    let times: Vec<i64> = times.iter().map(|t| t + now / 100).collect();
                    let rows = |f: &mut SourceFeed| f.on_rows(p, at(&times), now).unwrap();
                    both(rows(&mut undisturbed), rows(&mut feed))
                }
                Move::Silence => {
                    now += 1_000;
                    both(undisturbed.on_tick(now), feed.on_tick(now))
                }
                Move::End(p) if !undisturbed.partitions[p].ended => {
                    let end = |f: &mut SourceFeed| {
                        let mut effects = f.on_end(p, now);
                        if !follows_clock {
                            effects.extend(f.on_tick(now));
                        }
                        effects
                    };
                    both(end(&mut undisturbed), end(&mut feed))
                }
                Move::Found => {
                    undisturbed.add_partition("later", now);
                    feed.add_partition("later", now);
                    continue;
                }
                Move::Crash => {
                    let (again, effects) = restored(&feed, &spec, now);
                    let watermark = (feed.watermark() > Watermark::MIN).then(|| format!("event {}", feed.watermark().0));
                    let idle = (!follows_clock && undisturbed.merge.idle()).then(|| "idle".to_owned());
                    let expected: Vec<String> = watermark.into_iter().chain(idle).collect();
                    feed = again;
                    (expected, effects)
                }
                Move::Rows(..) | Move::End(_) => continue,
            };
            prop_assert_eq!(got, expected);
            prop_assert_eq!(feed.watermark(), undisturbed.watermark());
            prop_assert_eq!(feed.merge.idle(), undisturbed.merge.idle());
            if undisturbed.ended() {
                break;
            }
        }
    }
}

#[test]
fn changes_go_through_and_a_row_that_is_gone_needs_no_time() {
    let kinds = |kinds: &[i8]| Some(arrow::array::Int8Array::from(kinds.to_vec()));
    let read = |times: &[Option<i64>], of: &[i8]| SourceRows { kinds: kinds(of), ..rows(times) };
    let taken = |effects: Vec<Effect>| match &effects[0] {
        Effect::Batch(batch) => (batch.kinds.as_ref().map(|k| k.values().to_vec()), batch.marks.is_some()),
        other => panic!("{other:?}"),
    };
    let mut by_key = feed(&SourceNode { brings: Changes::Upsert, ..node(Some(0)) }, 1);
    // The row without a time neither moves the watermark nor is late by it.
    let effects =
        by_key.on_rows(0, read(&[Some(5), None, Some(7)], &[2, 3, 2]), 0).expect("a time where one is needed");
    assert_eq!(taken(effects.clone()), (Some(vec![2, 3, 2]), false));
    assert!(matches!(effects[1], Effect::Watermark(TimeDomain::Event, Watermark(7))), "{effects:?}");
    let effects = by_key.on_rows(0, read(&[None], &[3]), 0).expect("nothing but a row that is gone");
    assert_eq!(taken(effects), (Some(vec![3]), false));
    assert!(by_key.on_rows(0, read(&[None], &[2]), 0).is_err(), "a row that is there has a time");

    let mut all = feed(&SourceNode { brings: Changes::Retract, null_time_set_aside: true, ..node(Some(0)) }, 1);
    let effects = all.on_rows(0, read(&[Some(5), None, Some(4)], &[0, 3, 1]), 0).expect("set aside");
    assert!(matches!(&effects[0], Effect::Bad(bad) if bad.len() == 1), "{effects:?}");
    assert_eq!(taken(effects[1..].to_vec()), (Some(vec![0, 1]), true));
}
