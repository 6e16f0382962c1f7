use super::*;
use crate::graph::{AggregateCall, AggregateFunction, WindowTime};
use crate::testing::{Crew, Timeline, pressed, pressed_with, timestamp};
use arrow::datatypes::{DataType, Field};
use millstream_state::tier::MemorySpace;

/// Rows of `ts, key, n`.
fn timeline() -> Timeline {
    Timeline::new(&[("ts", timestamp()), ("key", DataType::Utf8), ("n", DataType::Int64)])
}

fn call(function: AggregateFunction, args: &[usize], kind: DataType) -> AggregateCall {
    let result = Field::new("result", kind, true);
    AggregateCall { function, args: args.to_vec(), distinct: false, filter: None, result }
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

fn count() -> Vec<AggregateCall> {
    vec![call(AggregateFunction::Count, &[], DataType::Int64)]
}

fn sum() -> Vec<AggregateCall> {
    vec![call(AggregateFunction::Sum, &[2], DataType::Int64)]
}

fn max() -> Vec<AggregateCall> {
    vec![call(AggregateFunction::Max, &[2], DataType::Int64)]
}

/// Plays the script on one task and on several, crashing after every line.
fn check(timeline: &Timeline, node: &graph::WindowAggregate, script: &str) {
    let schema = timeline.schema();
    let mut exchanged = node.keys.clone();
    if let Window::Attached { start, end } = node.window {
        exchanged.extend([start, end]);
    }
    let make = || build(node, &schema, false).expect("builds");
    timeline.clone().keyed(&exchanged).check(make, script);
    // The same with hardly any memory.
    for every in [1, 2] {
        let space = Arc::<MemorySpace>::default();
        timeline.clone().keyed(&exchanged).check(|| pressed(make(), every, space.clone()), script);
        assert_eq!(space.runs(), 0, "scratch space is given back");
    }
    // Sessions put things off, here without time to catch up.
    if matches!(node.window, Window::Session { .. }) && !node.keys.is_empty() {
        let space = Arc::<MemorySpace>::default();
        let timeline = timeline.clone().keyed(&exchanged).delayed();
        timeline.check(|| pressed_with(make(), 1, 0, space.clone()), script);
    }
}

const MINUTE: Millis = 60_000;

/// Shows `window_end key result`.
fn by_end() -> Timeline {
    timeline().show(&[2, 0, 4])
}

#[test]
fn a_tumbling_window_counts_by_key_and_sets_late_rows_aside() {
    check(
        &by_end(),
        &node(Window::Tumble { size: MINUTE, offset: 0 }, &[1], count()),
        "
        rows       12:00:10 ann 1, 12:00:50 bob 1, 12:00:59 ann 1
        watermark  12:00:59.998
        watermark  12:00:59.999     -> 12:01:00 ann 2, 12:01:00 bob 1
        rows       12:00:30 ann 1   -> late 12:00:30 ann 1
        rows       12:01:06 ann 1
        watermark  12:02:00         -> 12:02:00 ann 1
        end",
    );
}

#[test]
fn window_time_is_the_last_millisecond_and_windows_come_in_order() {
    check(
        &timeline().show(&[0, 1, 2, 3]),
        &node(Window::Tumble { size: 10, offset: 0 }, &[], count()),
        "
        rows       -1 a 0, 1005 a 0, 12 a 0, -10 a 0
        watermark  -2
        watermark  -1               -> -10 0 -1 2
        end                         -> 10 20 19 1, 1000 1010 1009 1",
    );
}

#[test]
fn nothing_comes_of_empty_windows() {
    check(
        &by_end(),
        &node(Window::Tumble { size: 10, offset: 0 }, &[], count()),
        "
        watermark 100
        end",
    );
}

#[test]
fn a_hop_of_no_whole_slides_has_two_or_three_windows_for_a_row() {
    // Rule 4: size 5, slide 2.
    for calls in [sum(), max()] {
        check(
            &timeline().show(&[1, 2, 0, 4]),
            &node(Window::Hop { size: 5, slide: 2, offset: 0 }, &[1], calls),
            "
            rows       7 x 1
            rows       6 y 2
            watermark  6    -> 2 7 y 2
            watermark  8    -> 4 9 x 1, 4 9 y 2
            end             -> 6 11 x 1, 6 11 y 2",
        );
    }
}

#[test]
fn a_row_late_for_one_hop_window_counts_in_the_others() {
    // Rule 9: size 10, slide 5, watermark 12, a row at 8.
    for (calls, before, with) in [(sum(), 3, 7), (max(), 2, 5)] {
        check(
            &timeline().show(&[1, 2, 0, 4]),
            &node(Window::Hop { size: 10, slide: 5, offset: 0 }, &[1], calls),
            &format!(
                "
                rows       2 a 1, 9 a 2, 11 b 3
                watermark  4    -> -5 5 a 1
                watermark  12   -> 0 10 a {before}
                rows       8 a 5, 1 c 1  -> late 1 c 1
                watermark  14   -> 5 15 a {with}, 5 15 b 3
                end             -> 10 20 b 3"
            ),
        );
    }
}

#[test]
fn a_hop_jumps_over_a_long_gap_in_time() {
    check(
        &timeline().show(&[1, 2, 4]),
        &node(Window::Hop { size: 4, slide: 2, offset: 1 }, &[1], sum()),
        "
        rows       0 a 1, 9000000000000000 a 2
        end        -> -3 1 1, -1 3 1, 8999999999999997 9000000000000001 2, 8999999999999999 9000000000000003 2",
    );
}

#[test]
fn a_cumulating_window_fires_each_step_also_without_a_new_row() {
    // Rule 5: step 2 min, size 10 min.
    for (calls, values) in [(sum(), ["3", "4", "4", "10", "10"]), (max(), ["3", "3", "3", "6", "6"])] {
        let [a, b, c, d, e] = values;
        check(
            &by_end(),
            &node(Window::Cumulate { size: 10 * MINUTE, step: 2 * MINUTE, offset: 0 }, &[1], calls),
            &format!(
                "
                rows       08:11:00 k 3, 08:13:00 k 1, 08:17:00 k 6
                watermark  08:13:59.999     -> 08:12:00 k {a}, 08:14:00 k {b}
                watermark  08:16:00         -> 08:16:00 k {c}
                watermark  08:20:00         -> 08:18:00 k {d}, 08:20:00 k {e}
                end"
            ),
        );
    }
}

#[test]
fn a_late_row_within_the_allowed_lateness_fires_the_window_again() {
    let timeline = timeline().show(&[2, 0, 4]).identity(2);
    let mut tumble = node(Window::Tumble { size: 10, offset: 0 }, &[1], sum());
    tumble.lateness = 5;
    check(
        &timeline,
        &tumble,
        "
        rows       1 a 1, 2 b 1
        watermark  9    -> 10 a 1, 10 b 1
        rows       3 a 5    -> +U 10 a 6
        watermark  13
        rows       4 c 1    -> +U 10 c 1
        watermark  14
        rows       5 a 1    -> late 5 a 1
        end",
    );
    for (calls, first, then) in [(sum(), 2, 9), (max(), 1, 7)] {
        let mut hop = node(Window::Hop { size: 10, slide: 5, offset: 0 }, &[1], calls);
        hop.lateness = 5;
        check(
            &timeline,
            &hop,
            &format!(
                "
                rows       6 a 1
                watermark  9    -> 10 a 1
                rows       7 b 2, 12 a 1    -> +U 10 b 2
                watermark  14   -> 15 a {first}, 15 b 2
                rows       8 b 7    -> +U 15 b {then}
                end             -> 20 a 1"
            ),
        );
    }
}

#[test]
fn windows_that_rows_bring_along_close_by_their_ends() {
    let timeline =
        Timeline::new(&[("start", timestamp()), ("end", timestamp()), ("n", DataType::Int64)]).show(&[0, 1, 3]);
    check(
        &timeline,
        &node(Window::Attached { start: 0, end: 1 }, &[], sum()),
        "
        rows       0 10 1, 5 10 2, 0 20 3, 5 10 4
        watermark  9    -> 0 10 1, 5 10 6
        rows       0 10 7, 0 20 1   -> late 0 10 7
        end             -> 0 20 4",
    );
}

#[test]
fn windows_that_end_together_stay_apart_after_a_crash() {
    let timeline =
        Timeline::new(&[("start", timestamp()), ("end", timestamp()), ("key", DataType::Utf8), ("n", DataType::Int64)])
            .show(&[1, 2, 0, 4]);
    let mut calls = vec![call(AggregateFunction::Sum, &[3], DataType::Int64)];
    for lateness in [0, 5] {
        let mut node = node(Window::Attached { start: 0, end: 1 }, &[2], std::mem::take(&mut calls));
        node.lateness = lateness;
        let again = if lateness > 0 { "-> +U 0 10 a 8" } else { "-> late 0 10 a 7" };
        check(
            &timeline.clone().identity(3),
            &node,
            &format!(
                "
                rows       0 10 a 1, 5 10 a 2, 0 20 a 3, 5 10 b 4, 0 10 null 5
                watermark  8
                rows       5 10 a 2
                watermark  9    -> 0 10 a 1, 5 10 a 4, 5 10 b 4, 0 10 null 5
                rows       0 10 a 7     {again}
                watermark  14
                rows       5 10 b 1     -> late 5 10 b 1
                end             -> 0 20 a 3"
            ),
        );
        calls = node.calls;
    }
}

#[test]
fn rows_that_wait_for_a_window_to_fire_are_remembered() {
    // Marks say what the source had promised: rows late for one window wait until it has fired here.
    let hop = node(Window::Hop { size: 10, slide: 5, offset: 0 }, &[1], sum());
    let (timeline, schema) = (timeline(), timeline().schema());
    let make = || build(&hop, &schema, false).expect("builds");
    let mut crew = Crew::new(&make, 2);
    let batch = |rows: &[(&str, &str, &str)], marks: &[Millis]| {
        let rows: Vec<Vec<String>> = rows.iter().map(|r| [r.0, r.1, r.2].map(String::from).to_vec()).collect();
        let mut batch = Batch::from(timeline.batch(&rows));
        batch.marks = Some(Int64Array::from(marks.to_vec()));
        batch
    };
    let mut shown = Vec::new();
    let step = |crew: &mut Crew, event: Event, shown: &mut Vec<String>| {
        let capture = crew.step(&[1], event);
        for (_, batch) in &capture.emitted {
            shown.extend(crate::testing::render(&batch.rows, false));
        }
        assert!(capture.late.is_empty());
    };
    let rows = batch(&[("2", "a", "1"), ("8", "a", "2"), ("9", "b", "3"), ("7", "a", "4")], &[0, 4, 9, 9]);
    step(&mut crew, Event::Batch { input: 0, batch: rows }, &mut shown);
    for tasks in [2, 3, 1, 1] {
        crew = crew.crash(&make, tasks);
    }
    let rows = batch(&[("6", "c", "5"), ("11", "a", "6")], &[9, 9]);
    step(&mut crew, Event::Batch { input: 0, batch: rows }, &mut shown);
    for tasks in [1, 2] {
        crew = crew.crash(&make, tasks);
    }
    assert_eq!(shown, Vec::<String>::new(), "nothing has fired");
    step(&mut crew, Event::Watermark(TimeDomain::Event, Watermark(9)), &mut shown);
    crew = crew.crash(&make, 2);
    step(&mut crew, Event::Watermark(TimeDomain::Event, Watermark(14)), &mut shown);
    shown.sort();
    assert_eq!(
        shown,
        ["a -5 5 4 1", "a 0 10 9 3", "a 5 15 14 12", "b 5 15 14 3", "c 5 15 14 5"],
        "those at 9, 7 and 6 came when [0, 10) was closed"
    );
}

#[test]
fn days_are_cut_in_the_zone() {
    // Rule 33: 14:01 UTC is 22:01 in Shanghai; the window's columns are local, window_time is an instant.
    let timeline =
        Timeline::new(&[("ts", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("UTC".into())))]);
    let mut tumble = node(Window::Tumble { size: 10 * MINUTE, offset: 0 }, &[], count());
    tumble.time.zone = Some("Asia/Shanghai".to_string());
    check(
        &timeline,
        &tumble,
        "
        rows       14:01:00
        watermark  14:09:59.998
        watermark  14:09:59.999     -> 22:00:00 22:10:00 14:09:59.999 1
        rows       14:05:00         -> late 14:05:00
        end",
    );
}

#[test]
fn a_window_by_processing_time_follows_the_clock() {
    let mut tumble = node(Window::Tumble { size: 10, offset: 0 }, &[1], count());
    tumble.time.domain = TimeDomain::Processing;
    check(
        &by_end(),
        &tumble,
        "
        rows       3 a 0
        watermark  50
        clock      9        -> 10 a 1
        rows       12 a 0
        end                 -> 20 a 1",
    );
}

#[test]
fn windows_in_a_zone_whose_clock_is_put_back_fire_once() {
    // Berlin, 2024-10-27: at 01:00 UTC the clock goes from 03:00 back to 02:00.
    let timeline = Timeline::new(&[
        ("ts", DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("UTC".into()))),
        ("key", DataType::Utf8),
    ])
    .show(&[2, 0, 4]);
    let mut tumble = node(Window::Tumble { size: 60 * MINUTE, offset: 0 }, &[1], count());
    tumble.time.zone = Some("Europe/Berlin".to_string());
    let at = |hours: Millis, minutes: Millis| 1_729_987_200_000 + (hours * 60 + minutes) * MINUTE;
    // The script's times are instants; window_end is a reading, which is one hour on, or two before the change.
    let ends = |hour: Millis| 1_729_987_200_000 + hour * 60 * MINUTE;
    check(
        &timeline,
        &tumble,
        &format!(
            "
            rows       {} a, {} a, {} b
            watermark  {}       -> {} a 1
            rows       {} a
            watermark  {}
            watermark  {}       -> {} a 2, {} b 1
            end",
            at(-1, 30),
            at(0, 30),
            at(0, 40),
            at(0, 0),
            ends(2),
            at(1, 30),
            at(1, 50),
            at(2, 0),
            ends(3),
            ends(3),
        ),
    );
}

fn session(gap: Millis) -> graph::WindowAggregate {
    node(Window::Session { gap, partition: vec![1] }, &[1], sum())
}

#[test]
fn sessions_merge_at_a_distance_of_the_gap() {
    // Rules 15, 16 and 17.
    check(
        &timeline().show(&[1, 2, 0, 4]),
        &session(5),
        "
        rows       10 a 1, 15 a 1, 10 b 1, 16 b 1
        watermark  13
        watermark  14       -> 10 15 b 1
        watermark  19       -> 10 20 a 2
        watermark  20       -> 16 21 b 1
        rows       40 a 1, 42 a 1, 50 a 1
        rows       46 a 1
        end                 -> 40 55 a 4",
    );
}

#[test]
fn many_sessions_of_one_key_grow_merge_and_close_across_crashes() {
    let distinct = AggregateCall { distinct: true, ..call(AggregateFunction::Sum, &[2], DataType::Int64) };
    for (calls, [merged, alone, moved, other, last]) in
        [(count(), ["5", "1", "3", "1", "4"]), (vec![distinct], ["15", "7", "8", "1", "6"])]
    {
        check(
            &timeline().show(&[1, 2, 0, 4]),
            &node(Window::Session { gap: 5, partition: vec![1] }, &[1], calls),
            &format!(
                "
                rows       20 a 1, 40 a 7, 60 a 3
                rows       30 a 4, 60 b 1
                rows       17 a 2               # to the left: the session keeps its name
                rows       25 a 8, 22 a 1       # bridges two
                watermark  34                   -> 17 35 a {merged}
                watermark  44                   -> 40 45 a {alone}
                rows       50 a 5
                watermark  46
                rows       46 a 3, 50 a 5
                watermark  54                   -> 46 55 a {moved}
                rows       65 a 2, 70 a 1, 70 a 1
                watermark  65                   -> 60 65 b {other}
                end                             -> 60 75 a {last}"
            ),
        );
    }
}

#[test]
fn a_late_row_counts_where_it_bridges_to_an_open_session() {
    check(
        &timeline().show(&[1, 2, 0, 4]),
        &session(5),
        "
        rows       10 a 1, 22 a 1
        watermark  16       -> 10 15 a 1
        rows       11 a 8   -> late 11 a 8
        rows       18 a 2
        watermark  26       -> 18 27 a 3
        rows       23 a 9   # in reach of nothing that is open, and open itself
        watermark  27       -> 23 28 a 9
        end",
    );
}

#[test]
fn a_session_within_the_allowed_lateness_is_taken_back_and_corrected() {
    let mut late = session(5);
    late.lateness = 10;
    let schema = timeline().schema();
    let mut operator = build(&late, &schema, false).expect("builds");
    let timeline = timeline();
    let mut out = crate::testing::Capture::default();
    let rows = |t: &str, n: &str| Batch::from(timeline.batch(&[vec![t.to_string(), "a".to_string(), n.to_string()]]));
    let step = |operator: &mut Box<dyn Operator>, event, out: &mut crate::testing::Capture| {
        operator.step(event, out).expect("steps")
    };
    step(&mut operator, Event::Batch { input: 0, batch: rows("10", "1") }, &mut out);
    step(&mut operator, Event::Watermark(TimeDomain::Event, Watermark(14)), &mut out);
    step(&mut operator, Event::Batch { input: 0, batch: rows("8", "2") }, &mut out);
    let shown: Vec<String> = out
        .emitted
        .iter()
        .map(|(_, b)| {
            let kind = b.kinds.as_ref().map_or("+I", |k| millstream_core::ChangeKind::from_code(k.value(0)).short());
            format!("{kind} {}", crate::testing::render(&b.rows, false)[0])
        })
        .collect();
    assert_eq!(shown, ["+I a 10 15 14 1", "-D a 10 15 14 1", "+I a 8 15 14 3"]);
}
