//! Joins as timelines: the worked examples of the rules, and what they leave open.

mod broadcast;
mod lookup;
mod model;
mod multi;

use super::*;
use crate::expr::Expr;
use crate::graph::{JoinKind, StateTtl};
use crate::operator::{Event, ROWS_MAX};
use crate::testing::{Capture, Timeline, timestamp};
use arrow::array::{Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::Operator as Sign;
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use millstream_core::{Batch, Millis, TimeDomain, Watermark};
use std::sync::Arc;

pub(super) const ALWAYS: JoinScope = JoinScope::Always { ttl: None, retracts: [true, true] };
const INSERTS: JoinScope = JoinScope::Always { ttl: None, retracts: [false, false] };

pub(super) fn spec(kind: JoinKind, keys: &[usize], scope: JoinScope) -> graph::Join {
    graph::Join {
        kind,
        keys: keys.iter().map(|k| (*k, *k)).collect(),
        null_equals_null: vec![false; keys.len()],
        residual: None,
        scope,
    }
}

/// `left.column <sign> right.column`, where the left has `width` columns.
pub(super) fn residual(left: usize, sign: Sign, right: usize, width: usize) -> Expr {
    let (l, r) = (Arc::new(Column::new("l", left)), Arc::new(Column::new("r", width + right)));
    let sql = format!("l {sign} r");
    Expr::new(Arc::new(BinaryExpr::new(l, sign, r)), Field::new("holds", DataType::Boolean, true), sql)
}

/// The columns that a join of this kind emits.
pub(super) fn output(kind: JoinKind, inputs: &[SchemaRef]) -> SchemaRef {
    let both = if matches!(kind, JoinKind::Semi | JoinKind::Anti | JoinKind::Mark) { 1 } else { 2 };
    let fields = inputs[..both].iter().flat_map(|s| s.fields().iter().cloned());
    let mark = (kind == JoinKind::Mark).then(|| Arc::new(Field::new("mark", DataType::Boolean, false)));
    Arc::new(Schema::new(fields.chain(mark).collect::<Vec<_>>()))
}

fn check(spec: &graph::Join, timeline: &Timeline, script: &str) {
    let inputs = timeline.schemas();
    let output = output(spec.kind, inputs);
    let make = || join(spec, inputs, &output).expect("the join can be made");
    timeline.check(make, script);
    if !spec.keys.is_empty() {
        timeline.check_pressed(make, script);
    }
}

fn people() -> Timeline {
    let left = [("k", DataType::Int64), ("who", DataType::Utf8)];
    Timeline::new(&left).right(&[("k", DataType::Int64), ("town", DataType::Utf8)]).keyed(&[0]).by_table()
}

#[test]
fn rows_meet_whichever_comes_first() {
    for scope in [INSERTS, ALWAYS] {
        let script = "
            left   1 ann, 2 bob
            right  1 oslo                 -> 1 ann 1 oslo
            right  1 rome, 3 bonn         -> 1 ann 1 rome
            left   1 eve, 3 joe           -> 1 eve 1 oslo, 1 eve 1 rome, 3 joe 3 bonn
            left   null joe
            right  null nice, 1 oslo      -> 1 ann 1 oslo, 1 eve 1 oslo    # an equal row
            end";
        check(&spec(JoinKind::Inner, &[0], scope), &people(), script);
    }
}

#[test]
fn an_outer_row_is_taken_back_with_its_first_partner_and_returns_with_the_last() {
    let script = "
        left   1 ann                      -> 1 ann null null
        right  2 oslo                     -> null null 2 oslo
        right  1 rome                     -> -D 1 ann null null, 1 ann 1 rome
        right  1 nice                     -> 1 ann 1 nice
        left   1 ann                      -> 1 ann 1 rome, 1 ann 1 nice
        right  -D 1 nice                  -> -D 1 ann 1 nice, -D 1 ann 1 nice
        right  -D 1 rome                  -> -D 1 ann 1 rome, -D 1 ann 1 rome, 1 ann null null, 1 ann null null
        left   -D 1 ann                   -> -D 1 ann null null
        left   null x                     -> null x null null
        left   -U null x, +U null y       -> -D null x null null, null y null null
        right  -D 7 gone, -D 1 rome       # they are not there
        left   2 bob                      -> -D null null 2 oslo, 2 bob 2 oslo
        left   -D 2 bob                   -> -D 2 bob 2 oslo, null null 2 oslo
        right  -D 2 oslo                  -> -D null null 2 oslo
        end";
    check(&spec(JoinKind::Full, &[0], ALWAYS), &people(), script);
}

#[test]
fn a_row_that_comes_and_goes_in_one_batch_leaves_nothing() {
    let script = "
        right  1 oslo
        left   1 ann, -D 1 ann, 1 ann, 1 ann, -D 1 ann    -> 1 ann 1 oslo, -D 1 ann 1 oslo, 1 ann 1 oslo
                                                          -> 1 ann 1 oslo, -D 1 ann 1 oslo
        left   -D 1 ann, 1 ann, -D 1 ann                  -> -D 1 ann 1 oslo, 1 ann 1 oslo, -D 1 ann 1 oslo
        right  1 oslo
        left   1 ann                                      -> 1 ann 1 oslo, 1 ann 1 oslo
        end";
    check(&spec(JoinKind::Left, &[0], ALWAYS), &people(), script);
}

#[test]
fn outer_rows_of_one_side_alone() {
    let script = "
        left   1 ann, null joe            -> 1 ann null null, null joe null null
        right  3 bonn
        right  1 oslo                     -> -D 1 ann null null, 1 ann 1 oslo
        left   3 eve                      -> 3 eve 3 bonn
        end";
    check(&spec(JoinKind::Left, &[0], INSERTS), &people(), script);
    let script = "
        left   1 ann, null joe
        right  3 bonn, null nice          -> null null 3 bonn, null null null nice
        right  1 oslo                     -> 1 ann 1 oslo
        left   3 eve                      -> -D null null 3 bonn, 3 eve 3 bonn
        end";
    check(&spec(JoinKind::Right, &[0], INSERTS), &people(), script);
}

#[test]
fn a_row_with_a_partner_comes_out_once() {
    for scope in [INSERTS, ALWAYS] {
        let script = "
            left   1 ann, 2 bob, null joe
            right  1 oslo                 -> 1 ann
            right  1 rome, 4 bonn, null nice
            left   1 eve, 4 max           -> 1 eve, 4 max
            end";
        check(&spec(JoinKind::Semi, &[0], scope), &people(), script);
    }
    let script = "
        left   1 ann, 1 ann, 2 bob
        right  1 oslo, 1 rome         -> 1 ann, 1 ann
        right  -D 1 oslo
        left   -D 1 ann               -> -D 1 ann
        right  -D 1 rome              -> -D 1 ann
        right  2 rome                 -> 2 bob
        left   -D 2 bob               -> -D 2 bob
        end";
    check(&spec(JoinKind::Semi, &[0], ALWAYS), &people(), script);
}

#[test]
fn a_row_without_a_partner_goes_when_one_comes() {
    for scope in [INSERTS, ALWAYS] {
        let script = "
            left   1 ann, 2 bob, null joe -> 1 ann, 2 bob, null joe
            right  1 oslo                 -> -D 1 ann
            right  1 rome, 4 bonn
            left   1 eve, 4 max, 5 tim    -> 5 tim
            end";
        check(&spec(JoinKind::Anti, &[0], scope), &people(), script);
    }
    let script = "
        left   1 ann                  -> 1 ann
        right  1 oslo, 1 rome         -> -D 1 ann
        right  -D 1 oslo
        right  -D 1 rome              -> 1 ann
        left   -D 1 ann               -> -D 1 ann
        end";
    check(&spec(JoinKind::Anti, &[0], ALWAYS), &people(), script);
}

#[test]
fn a_row_is_marked_anew_when_its_first_partner_comes_and_when_its_last_goes() {
    for scope in [INSERTS, ALWAYS] {
        let script = "
            left   1 ann, null joe        -> 1 ann false, null joe false
            right  1 oslo                 -> -D 1 ann false, 1 ann true
            right  1 rome, 4 bonn, null nice
            left   1 eve, 4 max, 5 tim    -> 1 eve true, 4 max true, 5 tim false
            end";
        check(&spec(JoinKind::Mark, &[0], scope), &people(), script);
    }
    let script = "
        left   1 ann, 1 ann           -> 1 ann false, 1 ann false
        right  1 oslo, 1 rome         -> -D 1 ann false, -D 1 ann false, 1 ann true, 1 ann true
        left   1 ann                  -> 1 ann true
        right  -D 1 oslo
        left   -D 1 ann               -> -D 1 ann true
        right  -D 1 rome              -> -D 1 ann true, -D 1 ann true, 1 ann false, 1 ann false
        left   -D 1 ann               -> -D 1 ann false
        left   -D 2 bob               # it is not there
        end";
    check(&spec(JoinKind::Mark, &[0], ALWAYS), &people(), script);
}

#[test]
fn null_equals_null_where_it_is_asked_for() {
    let mut spec = spec(JoinKind::Left, &[0], ALWAYS);
    spec.null_equals_null = vec![true];
    let script = "
        left   null ann               -> null ann null null
        right  null oslo              -> -D null ann null null, null ann null oslo
        right  -D null oslo           -> -D null ann null oslo, null ann null null
        end";
    check(&spec, &people(), script);
}

#[test]
fn what_else_has_to_hold_decides_about_partners_too() {
    let columns = [("k", DataType::Int64), ("n", DataType::Int64)];
    let timeline = Timeline::new(&columns).right(&columns).keyed(&[0]).by_table();
    let mut spec = spec(JoinKind::Full, &[0], ALWAYS);
    spec.residual = Some(residual(1, Sign::Lt, 1, 2));
    let script = "
        left   1 10, 1 20, 1 null     -> 1 10 null null, 1 20 null null, 1 null null null
        right  1 15, 1 null           -> -D 1 10 null null, 1 10 1 15, null null 1 null
        right  -D 1 15                -> -D 1 10 1 15, 1 10 null null
        left   1 1                    -> 1 1 null null
        right  1 5                    -> -D 1 1 null null, 1 1 1 5
        end";
    check(&spec, &timeline, script);
}

#[test]
fn without_keys_all_meet_all() {
    let timeline = Timeline::new(&[("a", DataType::Int64)]).right(&[("b", DataType::Int64)]).by_table();
    let script = "
        left   1, 2
        right  7, 8        -> 1 7, 2 7, 1 8, 2 8
        left   -D 1        -> -D 1 7, -D 1 8
        end";
    check(&spec(JoinKind::Inner, &[], ALWAYS), &timeline, script);
}

#[test]
fn a_row_is_found_until_the_watermark_has_passed_its_time_to_live() {
    let columns = [("ts", timestamp()), ("k", DataType::Int64)];
    let timeline = Timeline::new(&columns).right(&columns).keyed(&[1]).by_table();
    let ttl = Some(StateTtl { keep: 10, times: vec![0, 0] });
    let script = "
        left       10 1, 12 2             -> 10 1 null null, 12 2 null null
        watermark  15
        right      16 1                   -> -D 10 1 null null, 10 1 16 1
        watermark  19
        right      17 1                   -> 10 1 17 1
        watermark  20
        right      21 1                   # the left row has been forgotten, and what it was joined to stays
        right      -D 16 1, 11 2          -> -D 12 2 null null, 12 2 11 2
        left       -D 10 1                # it is not there any more
        left       9 1                    -> 9 1 17 1, 9 1 21 1    # too old to be remembered
        right      22 1
        watermark  31
        left       -D 12 2, 33 1          -> 33 1 22 1
        end";
    check(&spec(JoinKind::Left, &[1], JoinScope::Always { ttl, retracts: [true, true] }), &timeline, script);
}

/// Numbers under one key, in one batch.
fn numbers(key: i64, from: i64, rows: i64) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("n", DataType::Int64, true)]);
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(Int64Array::from_value(key, rows as usize)),
        Arc::new(Int64Array::from_iter_values(from..from + rows)),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).expect("two columns")
}

#[test]
fn a_row_with_many_partners_comes_out_in_pieces() {
    let input = numbers(1, 0, 1).schema();
    let inputs = [input.clone(), input];
    for kind in [JoinKind::Inner, JoinKind::Full] {
        let retracts = kind == JoinKind::Full;
        let scope = JoinScope::Always { ttl: None, retracts: [retracts, retracts] };
        let mut operator = join(&spec(kind, &[0], scope), &inputs, &output(kind, &inputs)).expect("it can be made");
        let mut out = Capture::default();
        for from in [0, 8_192, 16_384] {
            let batch = numbers(1, from, 8_192).into();
            operator.step(Event::Batch { input: 1, batch }, &mut out).expect("the step succeeds");
        }
        out.emitted.clear();
        operator.step(Event::Batch { input: 0, batch: numbers(1, 7, 2).into() }, &mut out).expect("the step succeeds");
        let rows: Vec<usize> = out.emitted.iter().map(|(_, b)| b.len()).collect();
        assert!(rows.iter().all(|r| *r <= ROWS_MAX), "{rows:?}");
        let taken_back = if retracts { 24_576 } else { 0 };
        assert_eq!(rows.iter().sum::<usize>(), 2 * 24_576 + taken_back);
    }
}

#[test]
fn what_has_been_taken_back_is_given_back() {
    let input = numbers(1, 0, 1).schema();
    let inputs = [input.clone(), input];
    let made = join(&spec(JoinKind::Left, &[0], ALWAYS), &inputs, &output(JoinKind::Left, &inputs));
    let (mut operator, mut out) = (made.expect("it can be made"), Capture::default());
    let mut most = 0;
    for round in 0..40 {
        for kind in [0i8, 3] {
            let mut batch = millstream_core::Batch::from(numbers(round, 0, 4_000));
            batch.kinds = Some(arrow::array::Int8Array::from_value(kind, 4_000));
            operator.step(Event::Batch { input: 0, batch }, &mut out).expect("the step succeeds");
            out.emitted.clear();
            if round == 3 {
                most = most.max(operator.state_bytes());
            }
        }
    }
    assert!(operator.state_bytes() <= most, "{} bytes after all, {most} in the fourth round", operator.state_bytes());
}

fn visits() -> Timeline {
    let left = [("ws", timestamp()), ("we", timestamp()), ("k", DataType::Int64), ("who", DataType::Utf8)];
    let right = [("ws", timestamp()), ("we", timestamp()), ("k", DataType::Int64), ("town", DataType::Utf8)];
    Timeline::new(&left).right(&right).keyed(&[0, 1, 2])
}

fn windowed(kind: JoinKind) -> graph::Join {
    spec(kind, &[0, 1, 2], JoinScope::Window { start: [0, 0], end: [1, 1], domain: TimeDomain::Event })
}

#[test]
fn a_window_is_joined_once_with_its_lonely_rows() {
    let script = "
        left       0 10 1 ann, 0 10 2 bob, 10 20 1 eve, 0 10 null joe
        right      0 10 1 oslo, 0 10 3 bonn, 5 10 1 rome
        watermark  8
        watermark  9         -> 0 10 1 ann 0 10 1 oslo, 0 10 2 bob null null null null
                             -> 0 10 null joe null null null null, null null null null 0 10 3 bonn
                             -> null null null null 5 10 1 rome
        left       0 10 1 tim, 10 20 2 tim    -> late 0 10 1 tim
        right      0 10 1 nice                -> late 0 10 1 nice
        right      10 20 2 nice, 10 20 2 bari
        watermark  19        -> 10 20 1 eve null null null null, 10 20 2 tim 10 20 2 nice, 10 20 2 tim 10 20 2 bari
        left       20 30 1 ann
        end                  -> 20 30 1 ann null null null null";
    check(&windowed(JoinKind::Full), &visits(), script);
}

#[test]
fn a_window_chooses_rows_of_the_left() {
    let rows = "
        left       0 10 1 ann, 0 10 2 bob, 0 10 null joe
        right      0 10 1 oslo, 0 10 1 rome
        watermark  9         -> ";
    check(&windowed(JoinKind::Semi), &visits(), &format!("{rows} 0 10 1 ann\nend"));
    check(&windowed(JoinKind::Anti), &visits(), &format!("{rows} 0 10 2 bob, 0 10 null joe\nend"));
    let marked = "0 10 1 ann true, 0 10 2 bob false, 0 10 null joe false";
    check(&windowed(JoinKind::Mark), &visits(), &format!("{rows} {marked}\nend"));
}

fn near(kind: JoinKind, lower: Millis, upper: Millis) -> graph::Join {
    spec(kind, &[1], JoinScope::Interval { times: [0, 0], domain: TimeDomain::Event, lower, upper })
}

fn orders() -> Timeline {
    let columns = [("ts", timestamp()), ("k", DataType::Int64)];
    Timeline::new(&columns).right(&columns).keyed(&[1])
}

const HOUR: Millis = 3_600_000;

#[test]
fn a_row_is_alone_once_the_watermark_has_passed_the_last_that_could_come() {
    // The right up to an hour after the left.
    let script = "
        left       12:00:00 1, 12:00:00 2
        right      12:30:00 1, 12:00:00 1      -> 12:00:00 1 12:30:00 1, 12:00:00 1 12:00:00 1
        right      11:59:59.999 1, 13:00:00.001 1
        watermark  12:59:59.999
        right      13:00:00 1                  -> 12:00:00 1 13:00:00 1
        watermark  13:00:00
        watermark  13:00:00.001                -> 12:00:00 2 null null
        end";
    check(&near(JoinKind::Left, -HOUR, 0), &orders(), script);
}

#[test]
fn a_row_too_late_to_be_remembered_still_looks() {
    let script = "
        right      13:00:00 1
        watermark  13:00:00
        left       12:00:00 1, 12:00:00 2      -> 12:00:00 1 13:00:00 1, 12:00:00 2 null null
        left       12:00:00.001 2              # a partner at 13:00:00.001 may still come
        watermark  13:00:00.001
        right      13:00:00.001 2              -> 12:00:00.001 2 13:00:00.001 2      # late, but within reach
        watermark  13:00:00.002
        left       11:00:00 1                  -> 11:00:00 1 null null
        end";
    check(&near(JoinKind::Left, -HOUR, 0), &orders(), script);
}

#[test]
fn who_has_been_forgotten_by_the_watermark_before_a_row_is_not_met() {
    // Played in one batch with marks, the left row is still there when the last row comes.
    let script = "
        left       10 1
        right      100 2, 15 1     -> 10 1 15 1
        watermark  15
        right      12 1            -> 10 1 12 1    # late, but the left row is remembered until 16
        watermark  16
        right      11 1
        end";
    check(&near(JoinKind::Inner, -5, 5), &orders(), script);
}

#[test]
fn bounds_may_lie_to_one_side() {
    // The left from 5 to 10 after the right.
    let script = "
        right      10 1, 10 2
        left       14 1, 15 1, 20 1, 21 1, 15 null     -> 15 1 10 1, 20 1 10 1, 15 null null null
        watermark  9
        watermark  10                                  -> 14 1 null null
        watermark  16
        watermark  17                                  -> 21 1 null null
        watermark  20
        watermark  21                                  -> null null 10 2
        end";
    check(&near(JoinKind::Full, 5, 10), &orders(), script);
}

#[test]
fn an_empty_interval_joins_nothing() {
    let script = "
        left       10 1            -> 10 1 null null
        right      10 1, 10 2      -> null null 10 1, null null 10 2
        watermark  20
        end";
    // There is nothing that could go to disk.
    for (kind, script) in [(JoinKind::Full, script), (JoinKind::Inner, "left 10 1\nright 10 1\nend")] {
        let (timeline, spec) = (orders(), near(kind, 1, 0));
        let output = output(kind, timeline.schemas());
        timeline.check(|| join(&spec, timeline.schemas(), &output).expect("the join can be made"), script);
    }
}

#[test]
fn rows_near_each_other_are_chosen_or_not() {
    let script = "
        left       10 1, 10 2
        right      12 1            -> 10 1
        right      13 1
        left       14 1            -> 14 1
        end";
    check(&near(JoinKind::Semi, -5, 5), &orders(), script);
    let script = "
        left       10 1, 10 2
        right      12 1, 13 1
        left       14 1
        watermark  15
        watermark  16              -> 10 2
        end";
    check(&near(JoinKind::Anti, -5, 5), &orders(), script);
    let script = "
        left       10 1, 10 2
        right      12 1, 13 1      -> 10 1 true
        left       14 1            -> 14 1 true
        watermark  15
        watermark  16              -> 10 2 false
        end";
    check(&near(JoinKind::Mark, -5, 5), &orders(), script);
}

#[test]
fn the_watermark_is_held_back_by_the_wider_bound() {
    for (lower, upper, behind) in [(-HOUR, 0, HOUR + 1), (-5, 10, 11), (5, 10, 11), (-10, -5, 11), (1, 0, 0)] {
        let timeline = orders();
        let inputs = timeline.schemas();
        let made = join(&near(JoinKind::Full, lower, upper), inputs, &output(JoinKind::Full, inputs));
        let (mut operator, mut out) = (made.expect("it can be made"), Capture::default());
        for to in [Watermark(7 * HOUR), Watermark::MAX] {
            operator.step(Event::Watermark(TimeDomain::Event, to), &mut out).expect("the step succeeds");
        }
        let event = [Watermark(7 * HOUR - behind), Watermark::MAX].map(|w| (TimeDomain::Event, w));
        assert_eq!(out.advanced, event, "{lower}..{upper}");
    }
}

#[test]
fn what_a_late_row_brings_is_judged_by_the_watermark_before_it() {
    let timeline = orders();
    let inputs = timeline.schemas();
    let never = i64::MIN;
    // The watermark is held back by 6.
    type Case<'t> = (JoinKind, usize, [i64; 2], [i64; 2], &'t [i64]);
    let cases: [Case<'_>; 4] = [
        (JoinKind::Inner, 1, [9, 12], [never, 11], &[never, 5]),
        (JoinKind::Full, 1, [9, 12], [never, 11], &[never, 5]),
        (JoinKind::Semi, 1, [4, 12], [never, 11], &[5]),
        (JoinKind::Left, 0, [2, 12], [11, 11], &[5]),
    ];
    for (kind, side, row_times, marks, wanted) in cases {
        let made = join(&near(kind, -5, 5), inputs, &output(kind, inputs));
        let (mut operator, mut out) = (made.expect("it can be made"), Capture::default());
        let rows = |times: &[i64]| -> Batch {
            let rows: Vec<_> = times.iter().map(|t| vec![t.to_string(), "1".to_owned()]).collect();
            timeline.batch(&rows).into()
        };
        operator.step(Event::Batch { input: 0, batch: rows(&[10]) }, &mut out).expect("the step succeeds");
        let batch = Batch { marks: Some(marks.to_vec().into()), ..rows(&row_times) };
        operator.step(Event::Batch { input: side, batch }, &mut out).expect("the step succeeds");
        let got: Vec<i64> = out.emitted.iter().filter_map(|(_, b)| b.marks.as_ref()).flatten().flatten().collect();
        assert_eq!(got, wanted, "{kind:?}");
    }
}

fn rates() -> Timeline {
    let left = [("ts", timestamp()), ("id", DataType::Int64), ("k", DataType::Utf8)];
    let right = [("ts", timestamp()), ("k", DataType::Utf8), ("rate", DataType::Utf8)];
    Timeline::new(&left).right(&right).keyed_by(&[2], &[1])
}

fn as_of(outer: bool, tolerance: Option<Millis>, script: &str) {
    let timeline = rates();
    let spec = graph::TemporalJoin { outer, keys: vec![(2, 1)], residual: None, times: [0, 0], tolerance, order: None };
    let inputs = timeline.schemas();
    let output = output(JoinKind::Inner, inputs);
    let make = || temporal(&spec, inputs, &output).expect("the join can be made");
    timeline.check(make, script);
    timeline.check_pressed(make, script);
}

#[test]
fn a_row_meets_the_version_of_its_time() {
    let script = "
        right      10:00:00 eur 1.10
        left       10:05:00 1 eur, 10:05:00 2 yen, 10:01:00 3 eur, 10:05:00 4 null
        right      10:03:00 eur 1.15, 10:06:00 eur 1.30, 10:00:00 null 9
        watermark  10:05:00      -> 10:05:00 1 eur 10:03:00 eur 1.15, 10:05:00 2 yen null null null
                                 -> 10:01:00 3 eur 10:00:00 eur 1.10, 10:05:00 4 null null null null
        right      10:04:00 eur 1.20                 # too late for the first order
        left       10:05:30 5 eur, 10:05:00 6 eur    -> late 10:05:00 6 eur
        watermark  10:05:40      -> 10:05:30 5 eur 10:04:00 eur 1.20
        right      -U 10:06:00 eur 1.30, +U 10:06:00 eur 1.31
        left       10:06:00 7 eur
        watermark  10:06:00      -> 10:06:00 7 eur 10:06:00 eur 1.31
        right      -D 10:07:00 eur 1.31
        left       10:06:59.999 8 eur, 10:07:00 9 eur
        watermark  10:08:00      -> 10:06:59.999 8 eur 10:06:00 eur 1.31, 10:07:00 9 eur null null null
        right      10:06:30 eur 1.40                 # older than the deletion
        left       10:08:01 10 eur
        watermark  10:09:00      -> 10:08:01 10 eur null null null
        right      10:09:01 eur 1.50
        left       10:09:01 11 eur
        end                      -> 10:09:01 11 eur 10:09:01 eur 1.50";
    as_of(true, None, script);
}

#[test]
fn a_row_without_a_version_goes_where_it_has_to_have_one() {
    let script = "
        left       10 1 eur, 20 2 eur, 10 3 null
        right      15 eur a
        watermark  20            -> 20 2 eur 15 eur a
        end";
    as_of(false, None, script);
}

#[test]
fn a_version_may_be_too_old() {
    let script = "
        right      10 eur a
        left       20 1 eur, 21 2 eur
        watermark  30            -> 20 1 eur 10 eur a, 21 2 eur null null null
        right      29 eur b, 25 eur c
        left       35 3 eur, 39 4 eur, 40 5 eur
        watermark  38            -> 35 3 eur 29 eur b
        end                      -> 39 4 eur 29 eur b, 40 5 eur null null null";
    as_of(true, Some(10), script);
}

#[test]
fn keys_of_other_types_are_an_error_of_the_plan() {
    let left: SchemaRef = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
    let right: SchemaRef = Arc::new(Schema::new(vec![Field::new("k", DataType::Utf8, true)]));
    let inputs = [left, right];
    let error = join(&spec(JoinKind::Inner, &[0], ALWAYS), &inputs, &output(JoinKind::Inner, &inputs));
    let text = error.err().expect("BIGINT is no STRING").to_string();
    assert!(text.contains("`k` of type Int64 with `k` of type Utf8"), "{text}");
}
