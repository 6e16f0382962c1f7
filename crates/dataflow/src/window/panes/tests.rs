use super::*;
use crate::graph::{AggregateCall, AggregateFunction, Window, WindowAggregate, WindowTime};
use crate::testing::{Timeline, timestamp};
use arrow::datatypes::{DataType, Field};

fn columns() -> [(&'static str, DataType); 3] {
    [("ts", timestamp()), ("key", DataType::Int64), ("n", DataType::Int64)]
}

fn call(function: AggregateFunction, arg: Option<usize>) -> AggregateCall {
    let result = Field::new("r", DataType::Int64, true);
    AggregateCall { function, args: arg.into_iter().collect(), distinct: false, filter: None, result }
}

fn sum() -> AggregateCall {
    call(AggregateFunction::Sum, Some(2))
}

const TUMBLE: Window = Window::Tumble { size: 10, offset: 0 };

fn node(early: Option<Trigger>, late: Trigger, lateness: Millis, panes: Panes) -> graph::WindowPanes {
    let time = WindowTime { column: 0, domain: TimeDomain::Event, zone: None };
    let windows = WindowAggregate { window: TUMBLE, time, keys: vec![1], calls: vec![sum()], lateness, order: None };
    graph::WindowPanes { windows, early, late, panes, update_before: true }
}

fn make(node: &graph::WindowPanes) -> Box<dyn Operator> {
    let schema = Timeline::new(&columns()).schema();
    build(node, &schema).expect("the node is sound")
}

/// Played in every cut, on several tasks and with crashes: every change is the same each time.
fn check(node: &graph::WindowPanes, script: &str) {
    // key, start, end, result
    let timeline = Timeline::new(&columns()).show(&[0, 1, 2, 4]);
    timeline.keyed(&node.windows.keys).check(|| make(node), script);
}

use Panes::{Accumulating, Discarding, Retracting};

#[test]
fn on_change_every_row_that_changes_the_result_tells_it() {
    let script = "
        rows       1 7 5, 2 7 3, 3 8 1   -> 7 0 10 5, -U 7 0 10 5, +U 7 0 10 8, 8 0 10 1
        rows       4 7 0                 # the same sum: nothing is told
        rows       12 7 2                -> 7 10 20 2
        watermark  9                     # told before
        rows       5 7 100               -> late 5 7 100
        watermark  19
        end";
    check(&node(Some(Trigger::Change), Trigger::Change, 0, Retracting), script);
    let script = script.replace("-U 7 0 10 5, ", "").replace("+U ", "");
    check(&node(Some(Trigger::Change), Trigger::Change, 0, Accumulating), &script);
}

#[test]
fn without_a_reader_of_it_nobody_is_told_how_a_pane_was() {
    let node = node(Some(Trigger::Change), Trigger::Change, 5, Retracting);
    let script = "
        rows       1 7 5, 2 7 3          -> 7 0 10 5, +U 7 0 10 8
        watermark  9
        rows       3 7 1                 -> +U 7 0 10 9
        end";
    check(&graph::WindowPanes { update_before: false, ..node }, script);
}

#[test]
fn the_on_time_pane_is_told_where_the_value_has_changed_since_the_last_one() {
    let script = "
        rows       1 7 5, 2 7 3, 3 7 1   -> 7 0 10 8
        rows       1 8 5
        rows       4 9 1, 5 9 1, 6 9 0   -> 9 0 10 2
        watermark  9                     -> -U 7 0 10 8, +U 7 0 10 9, 8 0 10 5
        end";
    check(&node(Some(Trigger::Rows(2)), Trigger::Change, 0, Retracting), script);
    let script = script.replace("-U 7 0 10 8, ", "").replace("+U ", "");
    check(&node(Some(Trigger::Rows(2)), Trigger::Change, 0, Accumulating), &script);
}

#[test]
fn a_pane_of_n_rows_comes_with_its_last_row_and_discards_what_was_told() {
    let script = "
        rows       1 7 1, 2 7 2, 3 7 4, 4 7 8, 5 7 16   -> 7 0 10 3, 7 0 10 12
        rows       1 8 1, 6 7 32                        -> 7 0 10 48
        watermark  9                                    -> 8 0 10 1
        rows       7 7 1, 8 7 1, 9 8 1                  -> 7 0 10 2
        watermark  14                                   -> 8 0 10 1   # what is left when the window is forgotten
        rows       7 7 1                                -> late 7 7 1
        end";
    check(&node(Some(Trigger::Rows(2)), Trigger::Rows(2), 5, Discarding), script);
}

#[test]
fn late_rows_within_the_allowed_lateness_update_the_result_at_once() {
    let script = "
        rows       1 7 5, 2 8 1
        watermark  9                     -> 7 0 10 5, 8 0 10 1
        rows       3 7 2, 4 7 3          -> -U 7 0 10 5, +U 7 0 10 7, -U 7 0 10 7, +U 7 0 10 10
        rows       5 9 4                 -> 9 0 10 4      # its first row is a late one
        watermark  13
        rows       5 8 1, 14 8 1         -> -U 8 0 10 1, +U 8 0 10 2
        watermark  14
        rows       5 8 1                 -> late 5 8 1
        end                              -> 8 10 20 1";
    check(&node(None, Trigger::Change, 5, Retracting), script);
}

#[test]
fn late_panes_of_n_rows_and_what_is_left_when_the_window_is_forgotten() {
    let script = "
        rows       1 7 5
        watermark  9                     -> 7 0 10 5
        rows       3 7 2, 3 7 2, 3 7 2   -> -U 7 0 10 5, +U 7 0 10 9
        watermark  14                    -> -U 7 0 10 9, +U 7 0 10 11
        end";
    check(&node(None, Trigger::Rows(2), 5, Retracting), script);
}

#[test]
fn by_the_clock_all_that_has_changed_is_told_when_it_passes_a_multiple() {
    let script = "
        rows       1 7 5
        clock      1004                  # the first reading begins the count
        rows       2 7 3, 3 8 1
        clock      1098                  # 1099 ms: no multiple of 100 yet
        clock      1099                  -> 7 0 10 8, 8 0 10 1
        rows       4 8 0
        clock      1250                  # the same sum: nothing is told
        rows       5 8 1
        rows       6 8 1
        clock      1523                  -> -U 8 0 10 1, +U 8 0 10 3
        clock      1524
        watermark  9
        end";
    check(&node(Some(Trigger::Every(100)), Trigger::Change, 0, Retracting), script);
    let script = script.replace("-U 8 0 10 1, ", "").replace("+U ", "");
    check(&node(Some(Trigger::Every(100)), Trigger::Change, 0, Accumulating), &script);
    let discarded = "
        rows       1 7 5
        clock      1004
        clock      1100                  -> 7 0 10 5
        clock      1200
        rows       2 7 3
        clock      1300                  -> 7 0 10 3
        rows       2 7 0
        clock      1400                  -> 7 0 10 0
        rows       3 7 9
        watermark  9                     -> 7 0 10 9
        clock      1500
        end";
    check(&node(Some(Trigger::Every(100)), Trigger::Change, 0, Discarding), discarded);
}

#[test]
fn late_rows_can_wait_for_the_clock_too() {
    let script = "
        clock      999
        rows       1 7 5, 12 7 1
        watermark  9                     -> 7 0 10 5
        rows       3 7 2, 4 7 3
        clock      1099                  -> -U 7 0 10 5, +U 7 0 10 10
        rows       5 7 1
        watermark  14                    -> -U 7 0 10 10, +U 7 0 10 11
        clock      1199
        end                              -> 7 10 20 1";
    check(&node(None, Trigger::Every(100), 5, Retracting), script);
}

#[test]
fn a_key_of_several_windows_has_panes_in_each() {
    let mut hop = node(Some(Trigger::Rows(2)), Trigger::Change, 0, Retracting);
    hop.windows.window = Window::Hop { size: 10, slide: 5, offset: 0 };
    let script = "
        rows       1 7 1                 # -5..5 and 0..10
        rows       6 7 2                 -> 7 0 10 3            # 0..10 and 5..15
        watermark  4                     -> 7 -5 5 1
        rows       3 7 4, 7 7 8          -> -U 7 0 10 3, +U 7 0 10 15, 7 5 15 10
        watermark  9
        rows       3 7 100               -> late 3 7 100
        rows       8 7 16                # still counts in 5..15
        watermark  14                    -> -U 7 5 15 10, +U 7 5 15 26
        end";
    check(&hop, script);
    let mut cumulate = node(Some(Trigger::Change), Trigger::Change, 0, Accumulating);
    cumulate.windows.window = Window::Cumulate { size: 10, step: 5, offset: 0 };
    let script = "
        rows       1 7 1                 -> 7 0 5 1, 7 0 10 1
        watermark  4
        rows       6 7 2                 -> 7 0 10 3
        rows       2 7 4                 -> 7 0 10 7            # too late for 0..5
        end";
    check(&cumulate, script);
}

#[test]
fn windows_by_processing_time_have_early_panes_and_no_late_ones() {
    let mut node = node(Some(Trigger::Every(4)), Trigger::Change, 0, Retracting);
    node.windows.time.domain = TimeDomain::Processing;
    let script = "
        clock      0
        rows       1 7 5
        clock      2                     # 3 ms: no multiple of 4 yet
        rows       3 7 3
        clock      3                     -> 7 0 10 8
        rows       4 7 1, 8 7 2, 9 8 1
        clock      9                     -> -U 7 0 10 8, +U 7 0 10 11, 8 0 10 1
        rows       11 7 1
        end                              -> 7 10 20 1";
    check(&node, script);
}

#[test]
fn windows_that_rows_bring_along_have_panes_too() {
    let columns = [("s", timestamp()), ("e", timestamp()), ("key", DataType::Int64), ("n", DataType::Int64)];
    let mut node = node(Some(Trigger::Rows(2)), Trigger::Change, 0, Retracting);
    node.windows.window = Window::Attached { start: 0, end: 1 };
    node.windows.keys = vec![2];
    node.windows.calls = vec![call(AggregateFunction::Sum, Some(3))];
    let timeline = Timeline::new(&columns).show(&[0, 1, 2, 4]).keyed(&[2, 0, 1]);
    let schema = timeline.schema();
    let make = || -> Box<dyn Operator> { Box::new(WindowPanes::new(&node, &schema).expect("the node is sound")) };
    let script = "
        rows       0 10 7 5, 10 20 7 1, 0 10 7 3, 0 20 7 1, 0 10 8 1   -> 7 0 10 8
        rows       10 20 7 2, 0 10 7 4                                -> 7 10 20 3
        watermark  9                     -> -U 7 0 10 8, +U 7 0 10 12, 8 0 10 1
        rows       0 10 7 1, 0 20 7 2    -> late 0 10 7 1, 7 0 20 3
        end";
    timeline.check(make, script);
}

#[test]
fn distinct_values_begin_anew_with_each_pane_that_discards() {
    let distinct = AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some(2)) };
    let mut node = node(Some(Trigger::Rows(3)), Trigger::Change, 3, Discarding);
    node.windows.calls = vec![distinct];
    let script = "
        rows       1 7 4, 2 7 4
        rows       3 7 4                 -> 7 0 10 1
        rows       4 7 4, 5 7 6, 1 8 1
        rows       6 7 4                 -> 7 0 10 2
        rows       7 7 4
        watermark  9                     -> 7 0 10 1, 8 0 10 1
        rows       8 7 4                 -> 7 0 10 1
        watermark  20
        rows       21 7 4
        end                              -> 7 20 30 1";
    check(&node, script);
}

#[test]
fn the_result_without_calls_is_the_keys_of_the_window() {
    let mut node = node(Some(Trigger::Change), Trigger::Change, 5, Retracting);
    node.windows.calls = Vec::new();
    let timeline = Timeline::new(&columns()).show(&[0, 1, 2]).keyed(&[1]);
    let script = "
        rows       1 7 4, 2 7 4          -> 7 0 10
        watermark  9
        rows       3 7 1, 3 8 1          -> 8 0 10
        end";
    timeline.check(|| make(&node), script);
}

#[test]
fn without_keys_a_window_has_one_row() {
    let mut node = node(Some(Trigger::Rows(2)), Trigger::Change, 0, Retracting);
    node.windows.keys = Vec::new();
    let script = "
        rows       1 7 4, 2 8 4, 3 9 1   -> 0 10 8
        watermark  9                     -> -U 0 10 8, +U 0 10 9
        end";
    Timeline::new(&columns()).show(&[0, 1, 3]).check(|| make(&node), script);
}

#[test]
fn the_state_of_forgotten_windows_is_given_back() {
    let node = node(Some(Trigger::Change), Trigger::Change, 5, Retracting);
    let schema = Timeline::new(&columns()).schema();
    let mut panes = WindowPanes::new(&node, &schema).expect("the node is sound");
    let empty = panes.state_bytes();
    let mut capture = crate::testing::Capture::default();
    let timeline = Timeline::new(&columns());
    for at in 0..200i64 {
        let rows: Vec<Vec<String>> = (0..50).map(|key| vec![at.to_string(), key.to_string(), "1".into()]).collect();
        let batch = Batch::from(timeline.batch(&rows));
        panes.step(Event::Batch { input: 0, batch }, &mut capture).expect("the step succeeds");
        panes.step(Event::Watermark(TimeDomain::Event, Watermark(at)), &mut capture).expect("the step succeeds");
        assert!(panes.windows.len() <= 2, "{at}: {} windows", panes.windows.len());
    }
    assert!(panes.state_bytes() > empty);
    panes.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), &mut capture).expect("the step succeeds");
    assert_eq!((panes.windows.len(), panes.state_bytes()), (0, empty));
}

// ---- Sessions

fn sessions(early: Option<Trigger>, late: Trigger, lateness: Millis, panes: Panes) -> graph::WindowPanes {
    let mut node = node(early, late, lateness, panes);
    node.windows.window = Window::Session { gap: 5, partition: vec![1] };
    node
}

#[test]
fn a_session_is_told_while_it_grows_and_where_it_merges() {
    let script = "
        rows       10 7 1, 12 7 2        -> 7 10 15 1, -D 7 10 15 1, 7 10 17 3
        rows       12 7 4                -> -U 7 10 17 3, +U 7 10 17 7   # the same window
        rows       12 7 0                # and the same sum: nothing is told
        rows       20 7 8                -> 7 20 25 8
        rows       16 7 16               -> -D 7 20 25 8, -D 7 10 17 7, 7 10 25 31
        watermark  24                    # told before
        rows       16 7 1                -> late 16 7 1
        end";
    check(&sessions(Some(Trigger::Change), Trigger::Change, 0, Retracting), script);
    let script = "
        rows       10 7 1, 12 7 2        -> 7 10 15 1, 7 10 17 3
        rows       20 7 8, 16 7 16       -> 7 20 25 8, 7 10 25 27
        watermark  24
        end";
    check(&sessions(Some(Trigger::Change), Trigger::Change, 0, Accumulating), script);
    let script = "
        rows       10 7 1, 12 7 2        -> 7 10 15 1, 7 12 17 2
        end";
    check(&sessions(Some(Trigger::Change), Trigger::Change, 0, Discarding), &script.replace("7 12 17", "7 10 17"));
}

#[test]
fn the_rows_of_sessions_that_merge_make_a_pane_together() {
    let script = "
        rows       10 7 1, 20 7 2, 15 7 4   -> 7 10 25 7
        rows       15 7 8                   # the second row since
        watermark  24                       -> -U 7 10 25 7, +U 7 10 25 15
        end";
    check(&sessions(Some(Trigger::Rows(3)), Trigger::Change, 0, Retracting), script);
    check(
        &sessions(Some(Trigger::Rows(3)), Trigger::Change, 0, Discarding),
        &script.replace("-U 7 10 25 7, +U 7 10 25 15", "7 10 25 8"),
    );
}

#[test]
fn a_late_row_changes_a_closed_session_and_may_open_it_again() {
    let script = "
        rows       10 7 1
        watermark  14                       -> 7 10 15 1
        rows       9 7 2                    -> -D 7 10 15 1, 7 9 15 3
        rows       15 7 4                   # open again, up to 20: told when it closes
        watermark  18
        watermark  19                       -> -D 7 9 15 3, 7 9 20 7
        rows       3 8 1                    -> late 3 8 1
        rows       12 8 1                   -> 8 12 17 1     # its first row is a late one
        watermark  29
        end";
    check(&sessions(None, Trigger::Change, 10, Retracting), script);
}

#[test]
fn late_rows_of_a_session_that_have_not_been_told_are_told_when_it_is_forgotten() {
    let script = "
        rows       10 7 1
        watermark  14                       -> 7 10 15 1
        rows       11 7 2, 9 7 2            # open again to 16
        watermark  15                       -> -D 7 10 15 1, 7 9 16 5
        rows       10 7 4
        watermark  24
        watermark  25                       -> -U 7 9 16 5, +U 7 9 16 9
        end";
    check(&sessions(None, Trigger::Rows(2), 10, Retracting), script);
}

#[test]
fn by_the_clock_sessions_that_have_changed_are_told() {
    let script = "
        clock      1
        rows       10 7 1, 12 7 2, 30 8 1
        clock      10                       -> 7 10 17 3, 8 30 35 1
        rows       13 7 4
        clock      18
        clock      19                       -> -D 7 10 17 3, 7 10 18 7
        clock      30
        end";
    let node = sessions(Some(Trigger::Every(10)), Trigger::Change, 0, Retracting);
    let timeline = Timeline::new(&columns()).show(&[0, 1, 2, 4]).keyed(&[1]);
    timeline.check(|| make(&node), script);
}

#[test]
fn a_session_that_discards_begins_its_distinct_values_anew() {
    let mut node = sessions(Some(Trigger::Rows(2)), Trigger::Change, 0, Discarding);
    node.windows.calls = vec![AggregateCall { distinct: true, ..call(AggregateFunction::Count, Some(2)) }];
    let script = "
        rows       10 7 1, 11 7 1           -> 7 10 16 1
        rows       12 7 1, 13 7 2           -> 7 10 18 2
        rows       14 7 1
        watermark  18                       -> 7 10 19 1
        end";
    check(&node, script);
}
