//! Timelines of Top-N. What a script leaves is compared with a model in [`super::model`].

use crate::graph::{self, RankFunction, SortColumn, StateTtl, TopNScope};
use crate::operator::{Event, Operator};
use crate::testing::{Capture, Timeline, render, timestamp};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_core::TimeDomain;
use millstream_state::table::Saver;
use std::sync::Arc;

pub(super) const COLUMNS: [(&str, DataType); 3] =
    [("cat", DataType::Utf8), ("id", DataType::Utf8), ("score", DataType::Int64)];

pub(super) fn always(retracts: bool) -> TopNScope {
    TopNScope::Always { ttl: None, retracts }
}

/// The `to` highest scores of each category.
fn highest(to: u64, scope: TopNScope) -> graph::TopN {
    graph::TopN {
        partition: vec![0],
        sort: vec![SortColumn { column: 2, descending: true, nulls_first: false }],
        function: RankFunction::RowNumber,
        from: 1,
        to,
        rank: None,
        scope,
        update_before: true,
        order: None,
    }
}

fn ranked(spec: graph::TopN, function: RankFunction) -> graph::TopN {
    graph::TopN { rank: Some(Field::new("rank", DataType::Int64, false)), function, ..spec }
}

pub(super) fn build(spec: &graph::TopN, input: &SchemaRef) -> Box<dyn Operator> {
    let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.extend(spec.rank.clone());
    super::build(spec, input, Arc::new(Schema::new(fields))).expect("the operator builds")
}

fn check(spec: graph::TopN, columns: &[(&str, DataType)], script: &str) {
    let timeline = Timeline::new(columns).keyed(&spec.partition).by_table();
    let schema = timeline.schema();
    timeline.check(|| build(&spec, &schema), script);
    if !spec.partition.is_empty() {
        timeline.check_pressed(|| build(&spec, &schema), script);
    }
}

#[test]
fn a_better_row_displaces_the_last_one() {
    let script = "
        rows  a x 5, a y 3      -> a x 5, a y 3
        rows  a z 4             -> -D a y 3, a z 4
        rows  a u 2             # too low
        rows  b v 1, a w 9      -> b v 1, -D a z 4, a w 9";
    check(highest(2, always(false)), &COLUMNS, script);
    check(highest(2, always(true)), &COLUMNS, script);
}

#[test]
fn every_shifted_rank_is_written_anew() {
    let script = "
        rows  a x 5, a y 3      -> a x 5 1, a y 3 2
        rows  a z 4             -> -U a y 3 2, +U a z 4 2
        rows  a w 9             -> -U a x 5 1, +U a w 9 1, -U a z 4 2, +U a x 5 2";
    check(ranked(highest(2, always(false)), RankFunction::RowNumber), &COLUMNS, script);
    check(ranked(highest(2, always(true)), RankFunction::RowNumber), &COLUMNS, script);
}

#[test]
fn without_the_row_before_a_rank_says_only_what_it_is_now() {
    let spec = ranked(highest(2, always(true)), RankFunction::RowNumber);
    let spec = graph::TopN { update_before: false, ..spec };
    let timeline = Timeline::new(&COLUMNS).keyed(&[0]).show(&[0, 3, 1, 2]).identity(2);
    let schema = timeline.schema();
    let script = "
        rows  a x 5, a y 3      -> a 1 x 5, a 2 y 3
        rows  a z 4             -> +U a 2 z 4
        rows  a w 9             -> +U a 1 w 9, +U a 2 x 5
        rows  -D a w 9          -> +U a 1 x 5, +U a 2 z 4";
    timeline.check(|| build(&spec, &schema), script);
    timeline.check_pressed(|| build(&spec, &schema), script);
}

#[test]
fn a_row_taken_back_lets_the_next_one_move_up() {
    check(
        highest(2, always(true)),
        &COLUMNS,
        "
        rows  a x 5, a y 3, a z 4   -> a x 5, a z 4
        rows  -D a x 5              -> -D a x 5, a y 3
        rows  -D a q 7, -U b x 5    # nobody knows them
        rows  -U a z 4, +U a z 1    -> -D a z 4, a z 1
        rows  -D a y 3, -D a z 1    -> -D a y 3, -D a z 1
        rows  a n 0                 -> a n 0",
    );
    check(
        ranked(highest(2, always(true)), RankFunction::RowNumber),
        &COLUMNS,
        "
        rows  a x 5, a y 3, a z 4   -> a x 5 1, a z 4 2
        rows  -D a x 5              -> -U a x 5 1, +U a z 4 1, -U a z 4 2, +U a y 3 2
        rows  -D a y 3              -> -D a y 3 2",
    );
}

#[test]
fn a_row_that_comes_and_goes_in_one_batch_is_never_told() {
    check(
        highest(2, always(true)),
        &COLUMNS,
        "
        rows  a x 5, a y 3                      -> a x 5, a y 3
        rows  a z 4, a w 8, -D a w 8, -D a z 4
        rows  -D a x 5, a x 5
        rows  a z 4, a w 8, -D a x 5            -> -D a x 5, -D a y 3, a w 8, a z 4",
    );
}

#[test]
fn equal_rows_count_each() {
    check(
        ranked(highest(3, always(true)), RankFunction::RowNumber),
        &COLUMNS,
        "
        rows  a x 5, a x 5, a y 3   -> a x 5 1, a x 5 2, a y 3 3
        rows  a x 5                 -> -U a y 3 3, +U a x 5 3
        rows  -D a x 5, -D a x 5    -> -U a x 5 2, +U a y 3 2, -D a x 5 3",
    );
}

#[test]
fn ties_share_a_rank_and_all_of_the_last_are_kept() {
    for retracts in [false, true] {
        check(
            ranked(highest(2, always(retracts)), RankFunction::Rank),
            &COLUMNS,
            "
            rows  a x 5, a y 5, a z 5   -> a x 5 1, a y 5 1, a z 5 1
            rows  a u 4                 # of rank 4
            rows  a w 9                 -> a w 9 1, -U a x 5 1, +U a x 5 2, -U a y 5 1, +U a y 5 2,
                                        -> -U a z 5 1, +U a z 5 2
            rows  a q 9                 -> a q 9 1, -D a x 5 2, -D a y 5 2, -D a z 5 2",
        );
        check(
            ranked(highest(2, always(retracts)), RankFunction::DenseRank),
            &COLUMNS,
            "
            rows  a x 5, a y 5, a z 3   -> a x 5 1, a y 5 1, a z 3 2
            rows  a v 3, a u 2          -> a v 3 2
            rows  a w 9                 -> a w 9 1, -U a x 5 1, +U a x 5 2, -U a y 5 1, +U a y 5 2,
                                        -> -D a z 3 2, -D a v 3 2",
        );
    }
    check(
        highest(2, TopNScope::Always { ttl: None, retracts: false }),
        &COLUMNS,
        "
        rows  a x 5, a b 5, a c 5       -> a b 5, a c 5     # by their other columns
        rows  a a 5                     -> a a 5, -D a c 5",
    );
}

#[test]
fn a_page_of_ranks() {
    let spec = graph::TopN { from: 2, partition: vec![], ..highest(3, always(true)) };
    check(
        spec,
        &COLUMNS,
        "
        rows  a x 5                 # of rank 1
        rows  b y 3                 -> b y 3
        rows  a z 7                 -> a x 5
        rows  b w 9                 -> -D b y 3, a z 7
        rows  -D b w 9              -> -D a z 7, b y 3
        rows  -D a z 7, -D a x 5    -> -D a x 5, -D b y 3",
    );
}

#[test]
fn nulls_stand_where_they_are_asked_for() {
    let mut spec = highest(1, always(false));
    check(spec.clone(), &COLUMNS, "rows a x null -> a x null\n rows a y -5 -> -D a x null, a y -5");
    spec.sort[0].nulls_first = true;
    check(spec.clone(), &COLUMNS, "rows a x null -> a x null\n rows a y -5");
    spec.sort[0].descending = false;
    check(spec, &COLUMNS, "rows a x 7 -> a x 7\n rows a y null -> -D a x 7, a y null");
}

const TIMED: [(&str, DataType); 5] = [
    ("cat", DataType::Utf8),
    ("id", DataType::Utf8),
    ("score", DataType::Int64),
    ("window_start", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)),
    ("window_end", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)),
];

#[test]
fn a_window_comes_out_once_when_the_watermark_closes_it() {
    let scope = TopNScope::Window { start: 3, end: 4, domain: TimeDomain::Event };
    for partition in [vec![0], vec![0, 3, 4], vec![4, 3, 0]] {
        let spec = graph::TopN { partition, ..ranked(highest(2, scope.clone()), RankFunction::RowNumber) };
        check(
            spec,
            &TIMED,
            "
            rows       a x 5 0 10, a y 3 0 10, a z 4 0 10, a x 1 10 20, b x 2 0 10
            watermark  8
            rows       a w 9 0 10
            watermark  9            -> a w 9 0 10 1, a x 5 0 10 2, b x 2 0 10 1
            rows       a q 9 0 10   -> late a q 9 0 10
            watermark  12
            rows       a u 7 10 20
            watermark  19           -> a u 7 10 20 1, a x 1 10 20 2
            rows       a u 7 20 30, b v 7 20 30
            end                     -> a u 7 20 30 1, b v 7 20 30 1",
        );
    }
}

#[test]
fn a_partition_is_forgotten_in_time_and_its_rows_stay_as_told() {
    let columns = [("cat", DataType::Utf8), ("id", DataType::Utf8), ("score", DataType::Int64), ("ts", timestamp())];
    for retracts in [false, true] {
        let ttl = Some(StateTtl { keep: 100, times: vec![3] });
        check(
            highest(1, TopNScope::Always { ttl, retracts }),
            &columns,
            "
            rows       a x 5 10, b x 5 10   -> a x 5 10, b x 5 10
            watermark  60
            rows       a y 3 70             # too low, and yet it keeps the partition alive
            watermark  109
            rows       a z 4 115
            watermark  110
            rows       a v 4 120            # a is remembered
            rows       b y 1 120            -> b y 1 120
            watermark  220
            rows       a u 1 230            -> a u 1 230
            end",
        );
    }
}

#[test]
fn a_row_that_cannot_enter_is_not_kept() {
    let timeline = Timeline::new(&COLUMNS);
    let spec = highest(3, always(false));
    let mut operator = build(&spec, &timeline.schema());
    let (mut capture, mut steady) = (Capture::default(), 0);
    for batch in 0..50 {
        let row = |i: i64| vec!["a".to_owned(), format!("row-{batch}-{i}"), (1_000_000 - batch * 500 - i).to_string()];
        let rows: Vec<Vec<String>> = (0..500).map(row).collect();
        let batch = timeline.batch(&rows).into();
        operator.step(Event::Batch { input: 0, batch }, &mut capture).expect("the step succeeds");
        if steady == 0 {
            steady = operator.state_bytes();
        }
        assert!(operator.state_bytes() <= steady, "{} bytes grew to {}", steady, operator.state_bytes());
    }
    let emitted: usize = capture.emitted.iter().map(|(_, b)| b.len()).sum();
    assert_eq!(emitted, 3);
}

#[test]
fn a_save_takes_along_the_rows_that_come_and_those_that_fall_out() {
    let timeline = Timeline::new(&COLUMNS);
    let mut operator = build(&highest(2, always(false)), &timeline.schema());
    operator.track_changes();
    let mut saved_behind = |rows: &[[&str; 3]]| {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        let batch = timeline.batch(&rows).into();
        operator.step(Event::Batch { input: 0, batch }, &mut Capture::default()).expect("the step succeeds");
        let mut saver = Saver::new(false);
        operator.save(&mut saver).expect("the save succeeds");
        saver.into_pieces().iter().map(|p| render(&p.rows, false).join(", ")).collect::<Vec<_>>()
    };
    // Change, row, how many there are.
    assert_eq!(saved_behind(&[["a", "x", "5"], ["a", "y", "3"]]), ["0 a x 5 1, 0 a y 3 1"]);
    assert_eq!(saved_behind(&[["a", "z", "4"]]), ["1 a y 3 null", "0 a z 4 1"]);
    assert_eq!(saved_behind(&[["a", "x", "5"]]), ["1 a z 4 null", "0 a x 5 2"]);
    assert_eq!(saved_behind(&[["a", "w", "6"], ["a", "v", "1"]]), ["0 a w 6 1, 0 a x 5 1"]);
    assert_eq!(saved_behind(&[["a", "u", "2"]]), [""; 0]);
}
