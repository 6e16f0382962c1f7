//! Timelines of deduplication. What is left is held against a model in [`super::model`].

use crate::graph::{self, Keep, StateTtl};
use crate::operator::{Event, Operator};
use crate::testing::{Capture, Timeline, timestamp};
use arrow::array::Int64Array;
use arrow::datatypes::{DataType, SchemaRef};
use millstream_core::{Batch, TimeDomain, Watermark};

fn columns() -> [(&'static str, DataType); 3] {
    [("who", DataType::Utf8), ("what", DataType::Utf8), ("ts", timestamp())]
}

fn spec(keep: Keep) -> graph::Deduplicate {
    graph::Deduplicate {
        keys: vec![0],
        time: 2,
        domain: TimeDomain::Event,
        keep,
        update_before: true,
        ttl: None,
        order: None,
    }
}

pub(super) fn build(spec: &graph::Deduplicate, input: &SchemaRef) -> Box<dyn Operator> {
    super::build(spec, input, input.clone()).expect("the operator builds")
}

fn check(spec: &graph::Deduplicate, script: &str) {
    let timeline = Timeline::new(&columns()).keyed(&spec.keys).by_table();
    let schema = timeline.schema();
    timeline.check(|| build(spec, &schema), script);
    if !spec.keys.is_empty() {
        timeline.check_pressed(|| build(spec, &schema), script);
    }
}

#[test]
fn the_first_row_is_told_when_no_earlier_one_can_come() {
    check(
        &spec(Keep::First),
        "
        rows       a x 12, a y 10, b z 15
        watermark  9
        watermark  10       -> a y 10
        rows       a w 11               # of a key that is told
        rows       a r 5                # behind the watermark, and its key is told
        rows       c q 8    -> late c q 8
        watermark  14
        rows       b s 14   -> late b s 14
        watermark  20       -> b z 15
        rows       c v 30
        end                 -> c v 30",
    );
}

#[test]
fn rows_of_the_same_time_stand_in_the_order_of_their_columns() {
    check(&spec(Keep::First), "rows a y 10, a x 10\n rows a z 10\n watermark 10 -> a x 10");
    check(
        &spec(Keep::Last),
        "
        rows  a y 10            -> a y 10
        rows  a x 10
        rows  a z 10            -> -U a y 10, +U a z 10
        rows  a z 10, b z 10    -> b z 10",
    );
    // The tie column comes before them.
    let by_what = graph::Deduplicate { keys: vec![], order: Some(1), ..spec(Keep::First) };
    check(&by_what, "rows a y 10, b x 10\n rows a z 10\n watermark 10 -> b x 10");
}

#[test]
fn the_last_row_is_told_at_once_and_updated() {
    check(
        &spec(Keep::Last),
        "
        rows       a x 12, a y 10       -> a x 12
        rows       a z 11                       # older than the one kept
        watermark  20
        rows       a w 15, b q 1        -> -U a x 12, +U a w 15, b q 1
        rows       a v 30, a u 31, a t 29   -> -U a w 15, +U a u 31
        end",
    );
}

#[test]
fn without_the_row_before_the_last_row_is_all_that_is_told() {
    let spec = graph::Deduplicate { update_before: false, ..spec(Keep::Last) };
    let timeline = Timeline::new(&columns()).keyed(&[0]).identity(1);
    let schema = timeline.schema();
    let script = "rows a x 12 -> a x 12\n rows a y 13, b z 1 -> +U a y 13, b z 1\n rows a z 1";
    timeline.check(|| build(&spec, &schema), script);
    timeline.check_pressed(|| build(&spec, &schema), script);
}

#[test]
fn by_processing_time_arrival_decides() {
    let by_arrival = |keep| graph::Deduplicate { domain: TimeDomain::Processing, ..spec(keep) };
    check(&by_arrival(Keep::First), "rows a x 12, a y 10, b z 15 -> a x 12, b z 15\n rows a w 1, c v 1 -> c v 1\n end");
    check(
        &by_arrival(Keep::Last),
        "
        rows  a x 12, b z 15    -> a x 12, b z 15
        rows  a y 10            -> -U a x 12, +U a y 10
        rows  b z 15, a w 1     -> -U a y 10, +U a w 1",
    );
}

#[test]
fn a_row_told_on_arrival_keeps_its_mark() {
    let spec = graph::Deduplicate { domain: TimeDomain::Processing, ..spec(Keep::First) };
    let timeline = Timeline::new(&columns());
    let mut operator = build(&spec, &timeline.schema());
    let words = |row: &str| row.split(' ').map(str::to_owned).collect::<Vec<String>>();
    let mut batch = Batch::from(timeline.batch(&[words("a x 1"), words("a y 2"), words("b z 3")]));
    batch.marks = Some(Int64Array::from(vec![10, 11, 12]));
    let mut capture = Capture::default();
    operator.step(Event::Batch { input: 0, batch }, &mut capture).expect("the step succeeds");
    let marks: Vec<_> =
        capture.emitted.iter().flat_map(|(_, b)| (0..b.len()).map(|i| b.mark(i, Watermark::MIN).0)).collect();
    assert_eq!(marks, [10, 12]);
}

#[test]
fn a_key_is_forgotten_in_time() {
    let ttl = Some(StateTtl { keep: 100, times: vec![2] });
    check(
        &graph::Deduplicate { ttl: ttl.clone(), ..spec(Keep::First) },
        "
        rows       a x 10
        watermark  60       -> a x 10
        rows       a y 70               # dropped, and does not make the key live longer
        watermark  109
        rows       a w 115              # still remembered
        watermark  110
        rows       a z 120
        watermark  120      -> a z 120
        watermark  300
        rows       a q 310
        end                 -> a q 310",
    );
    check(
        &graph::Deduplicate { ttl, ..spec(Keep::Last) },
        "
        rows       a x 10   -> a x 10
        watermark  60
        rows       a y 70   -> -U a x 10, +U a y 70
        rows       a v 65               # changes nothing
        watermark  169
        rows       a w 171  -> -U a y 70, +U a w 171
        watermark  271
        rows       a z 280  -> a z 280
        end",
    );
}

#[test]
fn a_later_row_may_live_shorter_than_the_one_that_it_replaces() {
    let columns = [("who", DataType::Utf8), ("what", DataType::Utf8), ("ts", timestamp()), ("live", timestamp())];
    let spec = graph::Deduplicate { ttl: Some(StateTtl { keep: 1, times: vec![3] }), ..spec(Keep::Last) };
    let timeline = Timeline::new(&columns).keyed(&[0]).by_table();
    let schema = timeline.schema();
    let script = "
        rows       a x 7 23             -> a x 7 23
        watermark  23
        rows       a y 7 0, a z 0 0     -> -U a x 7 23, +U a y 7 0, a z 0 0
        end";
    timeline.check(|| build(&spec, &schema), script);
}

#[test]
fn a_key_that_is_told_holds_no_row() {
    let timeline = Timeline::new(&columns());
    let mut operator = build(&spec(Keep::First), &timeline.schema());
    let rows: Vec<Vec<String>> = (0..1_000)
        .map(|i| vec![format!("k{}", i % 10), format!("{}-{i}", "long".repeat(200)), (10_000 - i).to_string()])
        .collect();
    let (batch, mut capture) = (timeline.batch(&rows).into(), Capture::default());
    operator.step(Event::Batch { input: 0, batch }, &mut capture).expect("the step succeeds");
    let waiting = operator.state_bytes();
    operator.step(Event::Watermark(TimeDomain::Event, Watermark(20_000)), &mut capture).expect("the step succeeds");
    let late = timeline.batch(&rows[..10]).into();
    operator.step(Event::Batch { input: 0, batch: late }, &mut capture).expect("the step succeeds");
    assert_eq!(capture.emitted.iter().map(|(_, b)| b.len()).sum::<usize>(), 10);
    assert!(capture.late.is_empty());
    assert!(operator.state_bytes() <= waiting, "{} bytes grew to {}", waiting, operator.state_bytes());
}
