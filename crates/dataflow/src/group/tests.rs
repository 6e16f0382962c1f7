use super::*;
use crate::graph::{AggregateCall, StateTtl};
use crate::operator::ROWS_MAX;
use crate::testing::{Capture, Crew, Timeline, render, timestamp};
use arrow::datatypes::{DataType, Field};
use millstream_core::ErrorKind;

/// A row: its change, time, key, value.
type Row = (ChangeKind, Millis, Option<i64>, Option<i64>);

use ChangeKind::{Delete, Insert, UpdateAfter, UpdateBefore};

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("ts", timestamp(), true),
        Field::new("key", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
    ])
}

fn batch(rows: &[Row]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.1)).collect::<TimestampMillisecondArray>()),
        Arc::new(rows.iter().map(|r| r.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.3).collect::<Int64Array>()),
    ];
    let kinds = rows.iter().map(|r| r.0 as i8).collect::<Vec<i8>>();
    Batch {
        rows: RecordBatch::try_new(Arc::new(schema()), columns).expect("as declared"),
        marks: None,
        kinds: Some(Int8Array::from(kinds)),
    }
}

fn rows(changes: &[(ChangeKind, i64)]) -> Event {
    let rows: Vec<Row> = changes.iter().map(|(kind, n)| (*kind, 0, Some(1), Some(*n))).collect();
    Event::Batch { input: 0, batch: batch(&rows) }
}

fn call(function: AggregateFunction, arg: Option<usize>) -> AggregateCall {
    let result = Field::new("r", DataType::Int64, true);
    AggregateCall { function, args: arg.into_iter().collect(), distinct: false, filter: None, result }
}

fn count() -> AggregateCall {
    call(AggregateFunction::Count, None)
}

fn sum() -> AggregateCall {
    call(AggregateFunction::Sum, Some(2))
}

fn node(keys: &[usize], calls: Vec<AggregateCall>) -> graph::GroupAggregate {
    let keys = keys.to_vec();
    graph::GroupAggregate { keys, calls, retracts: true, update_before: true, ttl: None, order: None }
}

fn output(node: &graph::GroupAggregate) -> SchemaRef {
    let mut fields: Vec<Field> = node.keys.iter().map(|k| schema().field(*k).clone()).collect();
    fields.extend(node.calls.iter().map(|c| c.result.clone()));
    Arc::new(Schema::new(fields))
}

fn operator(node: &graph::GroupAggregate) -> Result<GroupAggregate> {
    GroupAggregate::new(node, &schema(), output(node))
}

fn make(node: &graph::GroupAggregate) -> Box<dyn Operator> {
    Box::new(operator(node).expect("the node is sound"))
}

/// As a job has it: it goes to disk by shelves.
fn by_shelves(node: &graph::GroupAggregate) -> Box<dyn Operator> {
    build(node, &Arc::new(schema()), output(node), false).expect("the node is sound")
}

fn said(capture: &Capture) -> Vec<String> {
    let mut said = Vec::new();
    for (_, batch) in &capture.emitted {
        for (i, text) in render(&batch.rows, false).into_iter().enumerate() {
            let kind = batch.kinds.as_ref().map_or(Insert, |k| ChangeKind::from_code(k.value(i)));
            said.push(format!("{} {text}", kind.short()));
        }
    }
    said
}

fn step(operator: &mut dyn Operator, event: Event) -> Vec<String> {
    let mut capture = Capture::default();
    operator.step(event, &mut capture).expect("the step succeeds");
    said(&capture)
}

const NOTHING: [&str; 0] = [];

/// A script of times, keys and values, played in every cut, on several tasks and with crashes.
fn check(node: &graph::GroupAggregate, script: &str) {
    let columns = [("ts", timestamp()), ("key", DataType::Int64), ("n", DataType::Int64)];
    let timeline = Timeline::new(&columns).by_table();
    // Without keys there is one task, and nothing to divide.
    if node.keys.is_empty() {
        return timeline.check(|| make(node), script);
    }
    let timeline = timeline.keyed(&node.keys);
    timeline.check(|| make(node), script);
    timeline.check_pressed(|| by_shelves(node), script);
}

#[test]
fn the_script_of_a_sum_that_rows_are_taken_from() {
    let script = "
        rows  0 1 5      -> 1 5
        rows  0 1 3      -> -U 1 5, +U 1 8
        rows  0 1 0      # the same sum: nothing is told
        rows  -D 0 1 5   -> -U 1 8, +U 1 3
        rows  -D 0 1 0
        rows  -D 0 1 3   -> -D 1 3
        rows  -D 0 1 3   # there is no such group any more
        rows  0 1 4, 0 2 7, -U 0 1 4, +U 0 1 6   -> 1 6, 2 7
        rows  0 null null                        -> null null
        end";
    check(&node(&[1], vec![sum()]), script);
}

#[test]
fn the_script_of_distinct_values_that_come_and_go() {
    let distinct = AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some(2)) };
    let script = "
        rows  0 1 4      -> 1 1
        rows  0 1 4
        rows  -D 0 1 4
        rows  0 1 null
        rows  -D 0 1 4   -> -U 1 1, +U 1 0
        rows  -D 0 1 null -> -D 1 0
        end";
    check(&node(&[1], vec![distinct.clone()]), script);
    let script = "
        rows  0 1 4      -> 1
        rows  0 1 4
        rows  -D 0 1 4
        rows  -D 0 1 4   -> -U 1, +U 0
        end";
    check(&node(&[], vec![distinct]), script);
    check(&node(&[], vec![sum()]), "end -> null");
}

#[test]
fn the_script_of_first_and_last_values_by_place() {
    let first_last = [AggregateFunction::FirstValue, AggregateFunction::LastValue].map(|f| call(f, Some(2)));
    // The time stands for the place. A deletion that has no row's place takes back the earliest of its value.
    let by_place = graph::GroupAggregate { order: Some(0), ..node(&[1], first_last.to_vec()) };
    let script = "
        rows  3 1 30         -> 1 30 30
        rows  1 1 10, 5 1 10 -> -U 1 30 30, +U 1 10 10
        rows  -D 9 1 10      -> -U 1 10 10, +U 1 30 10
        rows  -D 5 1 10      -> -U 1 30 10, +U 1 30 30
        # NULL is no value to be the last.
        rows  7 1 null
        end";
    check(&by_place, script);
    // Without places, by value.
    let script = "
        rows  3 1 30         -> 1 30 30
        rows  1 1 10, 5 1 10 -> -U 1 30 30, +U 1 10 30
        rows  -D 0 1 30      -> -U 1 10 30, +U 1 10 10
        rows  0 1 null
        end";
    check(&node(&[1], first_last.to_vec()), script);
}

#[test]
fn the_script_of_a_group_that_is_forgotten() {
    let columns = [("ts", timestamp()), ("key", DataType::Int64), ("n", DataType::Int64)];
    let script = "
        rows       10 1 5, 30 2 1   -> 1 5, 2 1
        watermark  109
        rows       120 2 1          -> +U 2 2
        watermark  110
        rows       125 1 2, 126 2 3 -> 1 2, +U 2 5
        watermark  300
        rows       310 2 9          -> 2 9
        end";
    for retracts in [false, true] {
        let node = graph::GroupAggregate { retracts, update_before: false, ..with_ttl(100, &[1], vec![sum()]) };
        let timeline = Timeline::new(&columns).keyed(&[1]).identity(1);
        timeline.check(|| make(&node), script);
        timeline.check_pressed(|| by_shelves(&node), script);
    }
}

#[test]
fn a_change_is_told_as_it_was_and_as_it_is_and_no_change_is_not_told() {
    let mut group = make(&node(&[1], vec![sum()]));
    let mut play = |changes: &[(ChangeKind, i64)]| step(group.as_mut(), rows(changes));
    assert_eq!(play(&[(Insert, 5)]), ["+I 1 5"]);
    assert_eq!(play(&[(Insert, 3)]), ["-U 1 5", "+U 1 8"]);
    assert_eq!(play(&[(Insert, 0)]), NOTHING);
    assert_eq!(play(&[(Delete, 5)]), ["-U 1 8", "+U 1 3"]);
    assert_eq!(play(&[(Delete, 0)]), NOTHING);
    assert_eq!(play(&[(Delete, 3)]), ["-D 1 3"]);
    // There is no such group any more.
    assert_eq!(play(&[(Delete, 3)]), NOTHING);
    assert_eq!(play(&[(Insert, 7)]), ["+I 1 7"]);
}

#[test]
fn without_a_reader_of_it_nobody_is_told_how_a_row_was() {
    let mut group = make(&graph::GroupAggregate { update_before: false, ..node(&[1], vec![sum()]) });
    let mut play = |changes: &[(ChangeKind, i64)]| step(group.as_mut(), rows(changes));
    assert_eq!(play(&[(Insert, 5)]), ["+I 1 5"]);
    assert_eq!(play(&[(UpdateBefore, 5), (UpdateAfter, 6)]), ["+U 1 6"]);
    assert_eq!(play(&[(Insert, 0)]), NOTHING);
    assert_eq!(play(&[(Delete, 6), (Delete, 0)]), ["-D 1 6"]);
}

#[test]
fn a_distinct_count_changes_with_the_first_and_the_last_of_a_value() {
    let distinct = AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some(2)) };
    let mut keyed = make(&node(&[1], vec![distinct.clone()]));
    let mut global = make(&node(&[], vec![distinct]));
    let mut play =
        |changes: &[(ChangeKind, i64)]| (step(keyed.as_mut(), rows(changes)), step(global.as_mut(), rows(changes)));
    let both = |keyed: &[&str], global: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        (owned(keyed), owned(global))
    };
    assert_eq!(play(&[(Insert, 4)]), both(&["+I 1 1"], &["+I 1"]));
    assert_eq!(play(&[(Insert, 4)]), both(&[], &[]));
    assert_eq!(play(&[(Delete, 4)]), both(&[], &[]));
    assert_eq!(play(&[(Delete, 4)]), both(&["-D 1 1"], &["-U 1", "+U 0"]));
}

#[test]
fn one_step_tells_of_a_group_once() {
    let mut group = make(&node(&[1], vec![count(), sum()]));
    // Emptied and begun anew within a step: what was before it is void, and it is an update all the same.
    assert_eq!(step(group.as_mut(), rows(&[(Insert, 1), (Insert, 2), (Delete, 1)])), ["+I 1 1 2"]);
    assert_eq!(step(group.as_mut(), rows(&[(Delete, 2), (Insert, 9)])), ["-U 1 1 2", "+U 1 1 9"]);
    assert_eq!(step(group.as_mut(), rows(&[(Delete, 9), (Insert, 9)])), NOTHING);
    // A retraction that comes first is passed over, whatever follows it.
    assert_eq!(step(group.as_mut(), rows(&[(Delete, 9), (Delete, 9), (Insert, 3)])), ["-U 1 1 9", "+U 1 1 3"]);
    let mut group = make(&node(&[1], vec![count(), sum()]));
    assert_eq!(step(group.as_mut(), rows(&[(Delete, 9), (Insert, 3), (Delete, 3)])), NOTHING);
}

#[test]
fn groups_are_told_of_in_the_order_in_which_they_were_touched() {
    let mut group = make(&node(&[1], vec![sum()]));
    let event = |rows: &[Row]| Event::Batch { input: 0, batch: batch(rows) };
    let first = [(Insert, 0, Some(7), Some(1)), (Insert, 0, None, Some(2)), (Insert, 0, Some(3), None)];
    assert_eq!(step(group.as_mut(), event(&first)), ["+I 7 1", "+I null 2", "+I 3 null"]);
    let second = [
        (Insert, 0, Some(3), Some(5)),
        (Insert, 0, Some(9), Some(1)),
        (Delete, 0, None, Some(2)),
        (Insert, 0, Some(7), Some(1)),
    ];
    let wanted = ["-U 3 null", "+U 3 5", "+I 9 1", "-D null 2", "-U 7 1", "+U 7 2"];
    assert_eq!(step(group.as_mut(), event(&second)), wanted);
}

#[test]
fn a_row_as_it_was_and_as_it_is_are_never_parted() {
    let keys = ROWS_MAX as i64 + 100;
    let mut group = make(&node(&[1], vec![sum()]));
    let all = |n: i64| {
        // One group is new, so that the pairs do not begin at even places.
        let rows: Vec<Row> = (-n + 1..keys).map(|key| (Insert, 0, Some(key), Some(n))).collect();
        Event::Batch { input: 0, batch: batch(&rows) }
    };
    step(group.as_mut(), all(1));
    let mut capture = Capture::default();
    group.step(all(2), &mut capture).expect("the step succeeds");
    let sizes: Vec<usize> = capture.emitted.iter().map(|(_, b)| b.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 2 * keys as usize + 1);
    assert_eq!(sizes, [ROWS_MAX - 1, ROWS_MAX, 202]);
    let kinds = |b: &Batch| b.kinds.as_ref().map(|k| k.values().to_vec()).expect("they are updates");
    for (_, batch) in &capture.emitted {
        assert_ne!(kinds(batch).last(), Some(&(UpdateBefore as i8)));
    }
}

#[test]
fn a_query_without_keys_always_has_its_one_row() {
    let node = node(&[], vec![count(), sum()]);
    let make = || make(&node);
    assert_eq!(step(make().as_mut(), Event::End), ["+I 0 null"]);
    assert_eq!(step(make().as_mut(), rows(&[(Delete, 3)])), NOTHING);
    let mut crew = Crew::new(&make, 1);
    assert_eq!(said(&crew.step(&[], rows(&[(Delete, 3)]))), NOTHING);
    crew = crew.crash(&make, 1);
    assert_eq!(said(&crew.step(&[], rows(&[(Insert, 3)]))), ["+I 1 3"]);
    assert_eq!(said(&crew.step(&[], rows(&[(Delete, 3)]))), ["-U 1 3", "+U 0 null"]);
    crew = crew.crash(&make, 1);
    assert_eq!(said(&crew.step(&[], Event::End)), NOTHING);
    assert_eq!(said(&crew.step(&[], rows(&[(Insert, 4)]))), ["-U 0 null", "+U 1 4"]);
}

#[test]
fn the_row_of_no_rows_is_told_once() {
    let node = node(&[], vec![count()]);
    let make = || make(&node);
    let mut crew = Crew::new(&make, 1);
    assert_eq!(said(&crew.step(&[], Event::End)), ["+I 0"]);
    crew = crew.crash(&make, 1);
    assert_eq!(said(&crew.step(&[], Event::End)), NOTHING);
}

#[test]
fn a_group_without_calls_is_the_keys_that_there_are() {
    let mut group = make(&node(&[1], Vec::new()));
    assert_eq!(step(group.as_mut(), rows(&[(Insert, 1), (Insert, 2)])), ["+I 1"]);
    assert_eq!(step(group.as_mut(), rows(&[(Delete, 1)])), NOTHING);
    assert_eq!(step(group.as_mut(), rows(&[(Delete, 2)])), ["-D 1"]);
}

fn with_ttl(keep: Millis, keys: &[usize], calls: Vec<AggregateCall>) -> graph::GroupAggregate {
    graph::GroupAggregate { ttl: Some(StateTtl { keep, times: vec![0] }), ..node(keys, calls) }
}

fn at(rows: &[(Millis, i64, i64)], marks: Option<&[Millis]>) -> Event {
    let rows: Vec<Row> = rows.iter().map(|(at, key, n)| (Insert, *at, Some(*key), Some(*n))).collect();
    let marks = marks.map(|m| Int64Array::from(m.to_vec()));
    Event::Batch { input: 0, batch: Batch { marks, kinds: None, ..batch(&rows) } }
}

fn watermark(to: Millis) -> Event {
    Event::Watermark(TimeDomain::Event, Watermark(to))
}

#[test]
fn a_group_is_forgotten_in_silence_and_begins_anew() {
    for retracts in [false, true] {
        let node = graph::GroupAggregate { retracts, ..with_ttl(100, &[1], vec![sum()]) };
        let mut group = make(&node);
        assert_eq!(step(group.as_mut(), at(&[(10, 1, 5), (30, 2, 1)], None)), ["+I 1 5", "+I 2 1"]);
        assert_eq!(step(group.as_mut(), watermark(109)), NOTHING);
        assert_eq!(step(group.as_mut(), at(&[(120, 2, 1)], None)), ["-U 2 1", "+U 2 2"]);
        assert_eq!(step(group.as_mut(), watermark(110)), NOTHING);
        assert_eq!(step(group.as_mut(), at(&[(125, 1, 2), (125, 2, 3)], None)), ["+I 1 2", "-U 2 2", "+U 2 5"]);
        // The mark of the row decides, and not what the operator has been handed: the batch is cut where a group begins
        // anew that it has touched.
        let marked = at(&[(130, 1, 1), (300, 2, 1), (305, 1, 7)], Some(&[124, 124, 299]));
        let wanted = ["-U 1 2", "+U 1 3", "-U 2 5", "+U 2 6", "+I 1 7"];
        assert_eq!(step(group.as_mut(), marked), wanted, "retracts: {retracts}");
    }
}

#[test]
fn a_retraction_does_not_find_what_is_forgotten() {
    let mut group = make(&with_ttl(100, &[1], vec![count(), sum()]));
    let one = |kind, at, n| Event::Batch { input: 0, batch: batch(&[(kind, at, Some(1), Some(n))]) };
    assert_eq!(step(group.as_mut(), one(Insert, 0, 5)), ["+I 1 1 5"]);
    step(group.as_mut(), watermark(100));
    assert_eq!(step(group.as_mut(), one(Delete, 101, 5)), NOTHING);
    assert_eq!(step(group.as_mut(), one(Insert, 102, 6)), ["+I 1 1 6"]);
}

#[test]
fn without_keys_what_is_forgotten_begins_anew_as_an_update() {
    let node = with_ttl(100, &[], vec![count(), sum()]);
    let make = || make(&node);
    let mut crew = Crew::new(&make, 1);
    assert_eq!(said(&crew.step(&[], at(&[(0, 1, 5)], None))), ["+I 1 5"]);
    crew.step(&[], watermark(200));
    crew = crew.crash(&make, 1);
    assert_eq!(said(&crew.step(&[], at(&[(250, 1, 7), (250, 1, 1)], None))), ["-U 1 5", "+U 2 8"]);
}

#[test]
fn memory_is_given_back_when_groups_are_forgotten() {
    let distinct = |retracts| {
        let calls = vec![sum(), AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some(2)) }];
        graph::GroupAggregate { retracts, ..with_ttl(1000, &[1], calls) }
    };
    for node in [distinct(false), distinct(true)] {
        let mut group = operator(&node).expect("the node is sound");
        group.track_changes();
        let empty = group.state_bytes();
        for wave in 0..10i64 {
            let rows: Vec<(Millis, i64, i64)> =
                (0..20_000).map(|key| (wave * 5000, wave * 20_000 + key, key)).collect();
            for rows in rows.chunks(4096) {
                step(&mut group, at(rows, None));
            }
            let full = group.state_bytes();
            assert_eq!(group.table.len(), 20_000, "of earlier waves nothing is left");
            step(&mut group, watermark(wave * 5000 + 1100));
            assert_eq!(group.table.len(), 0);
            let left = group.state_bytes() - empty;
            assert!(full > 2_000_000 && left < 400_000, "{full} bytes were held, {left} are left");
        }
    }
}

#[test]
fn a_save_takes_along_what_has_changed_and_nothing_else() {
    let least = call(AggregateFunction::Min, Some(2));
    let mut group = operator(&node(&[1], vec![sum(), least])).expect("the node is sound");
    group.track_changes();
    let saved = |group: &mut GroupAggregate, whole: bool| {
        let mut saver = Saver::new(whole);
        group.save(&mut saver).expect("the save succeeds");
        let pieces = saver.into_pieces();
        pieces.iter().map(|p| format!("{} {}", p.table.name, render(&p.rows, false).join(", "))).collect::<Vec<_>>()
    };
    let event = |rows: &[(ChangeKind, i64, i64)]| {
        let rows: Vec<Row> = rows.iter().map(|(kind, key, n)| (*kind, 0, Some(*key), Some(*n))).collect();
        Event::Batch { input: 0, batch: batch(&rows) }
    };
    step(&mut group, event(&[(Insert, 1, 5), (Insert, 2, 6), (Insert, 2, 7), (Insert, 3, 8)]));
    // Change, key, count, (nulls,) sum; and change, key, value, count.
    assert_eq!(
        saved(&mut group, true),
        ["groups 0 1 1 0 5, 0 2 2 0 13, 0 3 1 0 8", "values_n 0 1 5 1, 0 2 6 1, 0 2 7 1, 0 3 8 1"]
    );
    assert_eq!(saved(&mut group, false), NOTHING);
    step(&mut group, event(&[(Insert, 2, 7), (Delete, 2, 6)]));
    assert_eq!(saved(&mut group, false), ["groups 0 2 2 0 14", "values_n 1 2 6 null", "values_n 0 2 7 2"]);
    // A group that is gone takes its values along; the last one has got its id and is not taken for changed.
    step(&mut group, event(&[(Delete, 1, 5)]));
    assert_eq!(saved(&mut group, false), ["values_n 2 1 null null", "groups 1 1 null null null"]);
    // One that comes and goes between two saves leaves nothing.
    step(&mut group, event(&[(Insert, 9, 5)]));
    step(&mut group, event(&[(Delete, 9, 5)]));
    assert_eq!(saved(&mut group, false), NOTHING);
    assert_eq!(saved(&mut group, true), ["groups 0 3 1 0 8, 0 2 2 0 14", "values_n 0 3 8 1, 0 2 7 2"]);
}

#[test]
fn what_cannot_be_taken_back_is_refused_with_a_remedy() {
    // A row that is taken back where the plan says that none is: our own mistake.
    let mut group = make(&graph::GroupAggregate { retracts: false, ..node(&[1], vec![sum()]) });
    let error = group.step(rows(&[(Insert, 1), (Delete, 1)]), &mut Capture::default()).expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Internal);
    // A group that is to be forgotten in time, and a row without a time.
    let mut group = make(&with_ttl(100, &[1], vec![sum()]));
    let columns = vec![new_null_array(&timestamp(), 1), Arc::new(Int64Array::from(vec![1])) as ArrayRef];
    let columns = columns.into_iter().chain([Arc::new(Int64Array::from(vec![1])) as ArrayRef]).collect();
    let batch = Batch::from(RecordBatch::try_new(Arc::new(schema()), columns).expect("as declared"));
    let error = group.step(Event::Batch { input: 0, batch }, &mut Capture::default()).expect_err("it is refused");
    assert!(error.what().contains("`ts` of a row is NULL") && error.help().is_some(), "{error}");
}

#[test]
fn an_aggregate_of_the_library_is_refused_where_rows_are_taken_back() {
    use datafusion_physical_expr::aggregate::AggregateExprBuilder;
    let column = datafusion_physical_expr::expressions::col("n", &schema()).expect("a column");
    let function = datafusion_functions_aggregate::bit_and_or_xor::bit_xor_udaf();
    let function = AggregateExprBuilder::new(function, vec![column])
        .schema(Arc::new(schema()))
        .alias("x")
        .build()
        .expect("an aggregate");
    let kernel = call(AggregateFunction::Kernel(Arc::new(function)), Some(2));
    let error = operator(&node(&[1], vec![kernel.clone()])).err().expect("it is refused");
    assert!(error.what().contains("bit_xor cannot take rows back") && error.help().is_some(), "{error}");
    let mut group = make(&graph::GroupAggregate { retracts: false, ..node(&[1], vec![kernel]) });
    assert_eq!(step(group.as_mut(), rows(&[(Insert, 5), (Insert, 3)])), ["+I 1 6"]);
    assert_eq!(step(group.as_mut(), rows(&[(Insert, 1)])), ["-U 1 6", "+U 1 7"]);
}

// ---- Summed up before the exchange

/// The ports that a batch of these keys leaves a local half by, with the rows.
fn leaves(half: &mut dyn Operator, keys: &[i64]) -> Vec<(usize, usize)> {
    let rows: Vec<Row> = keys.iter().map(|key| (Insert, 0, Some(*key), Some(1))).collect();
    let mut capture = Capture::default();
    half.step(Event::Batch { input: 0, batch: batch(&rows) }, &mut capture).expect("steps");
    capture.emitted.iter().map(|(port, batch)| (*port, batch.len())).collect()
}

fn adds_only(keys: &[usize], calls: Vec<AggregateCall>) -> graph::GroupAggregate {
    graph::GroupAggregate { retracts: false, ..node(keys, calls) }
}

fn half(node: &graph::GroupAggregate) -> Box<dyn Operator> {
    let spec = local::split(node, &schema()).expect("it can be split");
    local::build_local(node, &schema(), &spec).expect("the node is sound")
}

#[test]
fn rows_of_a_key_become_one_before_the_exchange_where_that_pays() {
    let mut half = half(&adds_only(&[1], vec![count(), sum()]));
    assert_eq!(leaves(half.as_mut(), &[1, 2, 1, 1, 2]), [(0, 2)]);
    // As many keys as rows: this batch goes by, and so do the next rows until one is looked at again.
    assert_eq!(leaves(half.as_mut(), &[1, 2, 3]), [(1, 3)]);
    let passed = (0..100).take_while(|_| leaves(half.as_mut(), &[1, 1, 1, 1]) == [(1, 4)]).count();
    assert!((1..=40).contains(&passed), "{passed} batches went by");
    assert_eq!(leaves(half.as_mut(), &[1, 1, 1, 1]), [(0, 1)]);
}

#[test]
fn without_keys_each_batch_becomes_one_row() {
    let mut half = half(&adds_only(&[], vec![count()]));
    assert_eq!(leaves(half.as_mut(), &[1]), [(0, 1)]);
    assert_eq!(leaves(half.as_mut(), &[1, 2, 3]), [(0, 1)]);
}

#[test]
fn what_counts_row_by_row_is_not_split() {
    let split = |node: &graph::GroupAggregate| local::split(node, &schema()).is_some();
    let plain = adds_only(&[1], vec![count(), sum()]);
    assert!(split(&plain));
    assert!(!split(&node(&[1], vec![count()])), "rows may be taken back");
    assert!(!split(&with_ttl(50, &[1], vec![count()])), "groups are forgotten");
    let distinct = AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some(2)) };
    assert!(!split(&adds_only(&[1], vec![distinct])), "values are remembered beside the record");
}
