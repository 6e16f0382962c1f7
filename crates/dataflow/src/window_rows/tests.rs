use super::*;
use crate::graph::WindowTime;
use crate::testing::{Capture, Crew, Timeline, owners, pressed, pressed_with, timestamp};
use arrow::datatypes::{Field, Schema, TimeUnit};
use millstream_core::time::format_millis;
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;

const MINUTE: Millis = 60_000;

fn operator(window: Window, zone: Option<&str>, input: &SchemaRef) -> Box<dyn Operator> {
    let kind = input.field(0).data_type().clone();
    let appended = [("window_start", timestamp()), ("window_end", timestamp()), ("window_time", kind)];
    let appended = appended.map(|(name, kind)| Arc::new(Field::new(name, kind, false)));
    let output = Arc::new(Schema::new(input.fields().iter().cloned().chain(appended).collect::<Vec<_>>()));
    let time = WindowTime { column: 0, domain: TimeDomain::Event, zone: zone.map(str::to_owned) };
    let spec = graph::WindowRows { window, time, order: None };
    build(&spec, input, output).expect("the window is possible")
}

fn check(window: Window, script: &str) {
    let timeline = Timeline::new(&[("ts", timestamp()), ("who", DataType::Utf8)]).keyed(&[1]);
    timeline.check(|| operator(window.clone(), None, &timeline.schema()), script);
    // The same with hardly any memory, with and without time to catch up.
    for (every, leisure) in [(1, 1), (2, 1), (1, 0), (2, 3)] {
        let space = Arc::<MemorySpace>::default();
        let timeline = if leisure == 1 { timeline.clone() } else { timeline.clone().delayed() };
        let make = || pressed_with(operator(window.clone(), None, &timeline.schema()), every, leisure, space.clone());
        timeline.check(make, script);
        assert_eq!(space.runs(), 0, "scratch space is given back");
    }
}

#[test]
fn a_row_has_one_tumbling_window_also_when_it_has_closed() {
    check(
        Window::Tumble { size: 10 * MINUTE, offset: 0 },
        "
        rows       12:07:00 ann     -> 12:07:00 ann 12:00:00 12:10:00 12:09:59.999
        watermark  12:09:59.998
        rows       12:00:00 bob     -> 12:00:00 bob 12:00:00 12:10:00 12:09:59.999
        watermark  12:09:59.999
        rows       12:09:00 cid     -> 12:09:00 cid 12:00:00 12:10:00 12:09:59.999
        end",
    );
}

#[test]
fn a_row_has_all_its_hops_also_those_that_have_closed() {
    check(
        Window::Hop { size: 10, slide: 5, offset: 0 },
        "
        rows       8 ann     -> 8 ann 0 10 9, 8 ann 5 15 14
        watermark  12
        rows       8 bob     -> 8 bob 0 10 9, 8 bob 5 15 14
        rows       4 cid     -> 4 cid -5 5 4, 4 cid 0 10 9
        end",
    );
}

#[test]
fn cumulating_windows_start_together() {
    check(
        Window::Cumulate { size: 10, step: 4, offset: 0 },
        "
        rows       5 ann     -> 5 ann 0 8 7, 5 ann 0 10 9
        rows       9 bob     -> 9 bob 0 10 9
        rows       -1 cid    -> -1 cid -10 0 -1
        end",
    );
}

#[test]
fn a_session_waits_until_it_has_closed_and_a_late_row_may_bridge_two() {
    check(
        Window::Session { gap: 5, partition: vec![1] },
        "
        rows       10 ann, 12 ann, 20 ann, 11 bob
        watermark  15               -> 11 bob 11 16 15
        rows       16 ann
        watermark  23
        watermark  24               -> 10 ann 10 25 24, 12 ann 10 25 24, 16 ann 10 25 24, 20 ann 10 25 24
        rows       19 ann           -> late 19 ann
        rows       21 ann           # beside the closed session, not in it
        end                         -> 21 ann 21 26 25",
    );
}

#[test]
fn rows_at_the_distance_of_the_gap_are_one_session() {
    check(
        Window::Session { gap: 5, partition: vec![1] },
        "
        rows       10 ann, 15 ann, 21 ann
        end        -> 10 ann 10 20 19, 15 ann 10 20 19, 21 ann 21 26 25",
    );
}

#[test]
fn a_row_may_be_late_by_itself_and_in_time_for_an_open_session() {
    check(
        Window::Session { gap: 5, partition: vec![1] },
        "
        rows       10 ann, 14 ann
        watermark  16
        rows       9 ann
        rows       9 bob     -> late 9 bob
        end                  -> 9 ann 9 19 18, 10 ann 9 19 18, 14 ann 9 19 18",
    );
}

#[test]
fn hops_with_odd_sizes_and_gaps_cover_what_the_rule_says() {
    let starts = |size, slide, offset, at| {
        let mut starts = Vec::new();
        for_each_window(&Window::Hop { size, slide, offset }, at, |start, end| {
            assert_eq!(end - start, size);
            starts.push(start);
        });
        starts
    };
    assert_eq!(starts(5, 2, 0, 7), [4, 6]);
    assert_eq!(starts(5, 2, 0, 6), [2, 4, 6]);
    assert_eq!(starts(5, 3, 0, 1), [-3, 0]);
    assert_eq!(starts(2, 5, 0, 3), [0i64; 0]);
    assert_eq!(starts(2, 5, 0, 6), [5]);
    let tumble = |offset, at| {
        let mut start = 0;
        for_each_window(&Window::Tumble { size: 10 * MINUTE, offset }, at, |s, _| start = s);
        format_millis(start)[11..16].to_owned()
    };
    assert_eq!(tumble(0, 4_000), "00:00");
    assert_eq!(tumble(-4 * MINUTE, 4_000), "23:56");
    for offset in [4, -6, -16] {
        assert_eq!(tumble(offset * MINUTE, 4_000), "23:54");
    }
}

#[test]
fn local_days_are_cut_by_the_wall_clock_and_end_as_instants() {
    let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let timeline = Timeline::new(&[("ts", instant), ("who", DataType::Utf8)]).keyed(&[1]);
    let day = Window::Tumble { size: 24 * 60 * MINUTE, offset: 0 };
    // 2023-10-29 in Berlin has 25 hours: from 22:00 UTC of the day before (1698530400000) to 23:00 UTC.
    timeline.check(
        || operator(day.clone(), Some("Europe/Berlin"), &timeline.schema()),
        "
        rows       1698530399999 ann -> 1698530399999 ann 1698451200000 1698537600000 1698530399999
        rows       1698530400000 bob -> 1698530400000 bob 1698537600000 1698624000000 1698620399999
        watermark  1698620399998
        rows       1698530400000 cid -> 1698530400000 cid 1698537600000 1698624000000 1698620399999
        watermark  1698620399999
        rows       1698620399999 dan -> 1698620399999 dan 1698537600000 1698624000000 1698620399999
        end",
    );
}

/// Sessions by the book: rows of a key in order of time, cut where the distance is above the gap.
fn naive_sessions(rows: &[(i64, i64)], gap: i64) -> Vec<String> {
    let mut out = Vec::new();
    for key in 0..3 {
        let mut times: Vec<i64> = rows.iter().filter(|r| r.0 == key).map(|r| r.1).collect();
        times.sort_unstable();
        for session in times.chunk_by(|a, b| b - a <= gap) {
            let (start, end) = (session[0], session[session.len() - 1] + gap);
            out.extend(session.iter().map(|t| format!("{t} {key} {start} {end} {}", end - 1)));
        }
    }
    out.sort();
    out
}

proptest! {
    #[test]
    fn sessions_hold_the_rows_that_belong_together(rows in prop::collection::vec((0i64..3, 0i64..60), 0..60),
                                                   gap in 1i64..8, cut in 1usize..20) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("ts", timestamp(), false),
            Field::new("key", DataType::Int64, true),
        ]));
        let mut operator = operator(Window::Session { gap, partition: vec![1] }, None, &schema);
        let mut out = Capture::default();
        // Disorder is bounded by 60, and the watermark stays behind it: nothing is late.
        let rows: Vec<(i64, i64)> = rows.iter().enumerate().map(|(i, (k, t))| (*k, t + i as i64 * 3)).collect();
        let mut wm = i64::MIN;
        for part in rows.chunks(cut) {
            let times: TimestampMillisecondArray = part.iter().map(|r| Some(r.1)).collect();
            let keys: Int64Array = part.iter().map(|r| Some(r.0)).collect();
            let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(times), Arc::new(keys)]).expect("fits");
            operator.step(Event::Batch { input: 0, batch: batch.into() }, &mut out).expect("rows wait");
            wm = part.iter().fold(wm, |wm, r| wm.max(r.1 - 61));
            operator.step(Event::Watermark(TimeDomain::Event, Watermark(wm)), &mut out).expect("sessions close");
        }
        operator.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), &mut out).expect("all close");
        prop_assert!(out.late.is_empty());
        let mut got: Vec<String> = out.emitted.iter().flat_map(|(_, b)| crate::testing::render(&b.rows, false)).collect();
        got.sort();
        prop_assert_eq!(got, naive_sessions(&rows, gap));
        prop_assert_eq!(operator.state_bytes() < 4096, true);
    }
}

proptest! {
    #[test]
    fn sessions_and_late_rows_do_not_depend_on_cuts(rows in prop::collection::vec((0i64..2, 0i64..25), 1..60),
                                                    gap in 1i64..6, delay in 0i64..12, cut in 1usize..30) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("ts", timestamp(), false),
            Field::new("key", DataType::Int64, true),
        ]));
        let rows: Vec<(i64, i64)> = rows.iter().enumerate().map(|(i, (k, t))| (*k, t + i as i64 * 2)).collect();
        let play = |cut: usize| {
            let mut operator = operator(Window::Session { gap, partition: vec![1] }, None, &schema);
            let (mut out, mut wm) = (Capture::default(), i64::MIN);
            for part in rows.chunks(cut) {
                let marks: Vec<i64> = part.iter().scan(wm, |wm, r| {
                    let mark = *wm;
                    *wm = mark.max(r.1 - delay);
                    Some(mark)
                }).collect();
                let times: TimestampMillisecondArray = part.iter().map(|r| Some(r.1)).collect();
                let keys: Int64Array = part.iter().map(|r| Some(r.0)).collect();
                let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(times), Arc::new(keys)]).expect("fits");
                let batch = Batch { rows, marks: Some(marks.into()), kinds: None };
                operator.step(Event::Batch { input: 0, batch }, &mut out).expect("rows wait");
                wm = part.iter().fold(wm, |wm, r| wm.max(r.1 - delay));
                operator.step(Event::Watermark(TimeDomain::Event, Watermark(wm)), &mut out).expect("sessions close");
            }
            operator.step(Event::Watermark(TimeDomain::Event, Watermark::MAX), &mut out).expect("all close");
            let mut all: Vec<String> = out.emitted.iter().flat_map(|(_, b)| crate::testing::render(&b.rows, false)).collect();
            all.extend(out.late.iter().flat_map(|l| crate::testing::render(&l.rows, false)).map(|l| format!("late {l}")));
            all.sort();
            (all, operator.state_bytes())
        };
        let (one_by_one, _) = play(1);
        let (in_pieces, bytes) = play(cut);
        prop_assert_eq!(one_by_one.len(), rows.len());
        prop_assert_eq!(one_by_one, in_pieces);
        prop_assert!(bytes < 4096);
    }
}

#[test]
fn sessions_that_become_one_stay_one_over_a_crash() {
    check(
        Window::Session { gap: 5, partition: vec![1] },
        "
        rows       10 ann, 20 ann, 30 null
        rows       11 ann, 21 ann
        rows       15 ann           # bridges the two
        rows       26 ann, 1 bob
        watermark  29               -> 1 bob 1 6 5
        rows       40 null
        watermark  30               -> 10 ann 10 31 30, 11 ann 10 31 30, 15 ann 10 31 30, 20 ann 10 31 30
                                    -> 21 ann 10 31 30, 26 ann 10 31 30
        rows       35 null          # the sessions of no name become one
        watermark  43
        watermark  44               -> 30 null 30 45 44, 35 null 30 45 44, 40 null 30 45 44
        end",
    );
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Take(usize),
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
    prop::collection::vec(one, 1..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn crashes_leave_no_trace(rows in prop::collection::vec((prop::option::weighted(0.9, 0i64..3), 0i64..30), 1..70),
                              moves in moves(), gap in 1i64..8, delay in 0i64..25, marked: bool, keyed: bool,
                              every in prop_oneof![2 => Just(0usize), 1 => 1usize..4]) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("ts", timestamp(), false),
            Field::new("key", DataType::Int64, true),
            Field::new("place", DataType::Int64, false),
        ]));
        let partition = if keyed { vec![1] } else { Vec::new() };
        let space = Arc::<MemorySpace>::default();
        let in_memory = || operator(Window::Session { gap, partition: partition.clone() }, None, &schema);
        // `every`: how often all memory is to be given back, in steps; 0 for never.
        let make = || if every > 0 { pressed(in_memory(), every, space.clone()) } else { in_memory() };
        let rows: Vec<(Option<i64>, i64)> = rows.iter().enumerate().map(|(i, (k, t))| (*k, t + i as i64)).collect();
        // The undisturbed one neither saves nor keeps track of anything.
        let mut undisturbed = Crew::new(&make, 1);
        undisturbed.tasks = vec![in_memory()];
        let mut crew = Crew::new(&make, 1);
        let (mut expected, mut got) = (Capture::default(), Capture::default());
        let (mut from, mut seen) = (0usize, i64::MIN);
        let follow = |crew: &mut Crew, to: Watermark, out: &mut Capture| {
            crew.watermarks.advance(TimeDomain::Event, to);
            for operator in &mut crew.tasks {
                operator.step(Event::Watermark(TimeDomain::Event, to), out).expect("sessions close");
            }
        };
        for step in moves.into_iter().chain([Move::Take(usize::MAX)]) {
            match step {
                Move::Take(some) => {
                    let to = rows.len().min(from.saturating_add(some));
                    let part = &rows[from..to];
                    let marks: Vec<i64> = part.iter().map(|r| {
                        let mark = seen.saturating_sub(delay);
                        seen = seen.max(r.1);
                        mark
                    }).collect();
                    let times: TimestampMillisecondArray = part.iter().map(|r| Some(r.1)).collect();
                    let keys: Int64Array = part.iter().map(|r| r.0).collect();
                    let places: Int64Array = (from as i64..to as i64).map(Some).collect();
                    let columns: Vec<ArrayRef> = vec![Arc::new(times), Arc::new(keys), Arc::new(places)];
                    let rows = RecordBatch::try_new(schema.clone(), columns).expect("fits");
                    let batch = Batch { rows, marks: marked.then(|| marks.into()), kinds: None };
                    from = to;
                    for (crew, out) in [(&mut undisturbed, &mut expected), (&mut crew, &mut got)] {
                        let tasks = crew.tasks.len();
                        let owners = match keyed && tasks > 1 {
                            true => owners(&batch.rows.columns()[1..2], batch.len(), tasks),
                            false => vec![0; batch.len()],
                        };
                        for (task, operator) in crew.tasks.iter_mut().enumerate() {
                            let mine: Vec<u32> =
                                (0..).zip(&owners).filter(|(_, o)| **o == task).map(|(i, _)| i).collect();
                            let batch = batch.take(&UInt32Array::from(mine)).expect("rows that are there");
                            if !batch.is_empty() {
                                operator.step(Event::Batch { input: 0, batch }, out).expect("rows wait");
                            }
                        }
                    }
                }
                Move::Follow => {
                    let to = Watermark(seen.saturating_sub(delay));
                    follow(&mut undisturbed, to, &mut expected);
                    follow(&mut crew, to, &mut got);
                }
                Move::Save => crew.save(),
                Move::Crash(tasks) => {
                    crew = crew.crash(&make, if keyed { tasks } else { 1 });
                    crew.take_settled(&mut got);
                }
            }
        }
        follow(&mut undisturbed, Watermark::MAX, &mut expected);
        follow(&mut crew, Watermark::MAX, &mut got);
        let all = |out: &Capture| {
            let mut all: Vec<String> =
                out.emitted.iter().flat_map(|(_, b)| crate::testing::render(&b.rows, false)).collect();
            all.extend(out.late.iter().flat_map(|l| crate::testing::render(&l.rows, false)).map(|l| format!("late {l}")));
            all.sort();
            all
        };
        prop_assert_eq!(all(&got), all(&expected));
    }
}

/// A save holds what came and went since the last one, and not what waits.
#[test]
fn a_save_is_as_large_as_the_change() {
    let timeline = Timeline::new(&[("ts", timestamp()), ("who", DataType::Utf8)]);
    let mut operator = operator(Window::Session { gap: 5, partition: vec![1] }, None, &timeline.schema());
    operator.track_changes();
    let mut out = Capture::default();
    let mut feed = |operator: &mut Box<dyn Operator>, rows: &[(i64, &str)], to: i64| {
        let rows: Vec<Vec<String>> = rows.iter().map(|(t, who)| vec![t.to_string(), who.to_string()]).collect();
        let batch = timeline.batch(&rows).into();
        operator.step(Event::Batch { input: 0, batch }, &mut out).expect("rows wait");
        operator.step(Event::Watermark(TimeDomain::Event, Watermark(to)), &mut out).expect("sessions close");
    };
    let save = |operator: &mut Box<dyn Operator>, whole: bool| {
        let mut saver = Saver::new(whole);
        operator.save(&mut saver).expect("the save succeeds");
        saver.into_pieces().iter().map(|p| p.rows.num_rows()).collect::<Vec<_>>()
    };
    feed(&mut operator, &[(10, "ann"), (12, "ann"), (20, "bob"), (30, "ann")], 9);
    assert_eq!(save(&mut operator, true), [4]);
    feed(&mut operator, &[(14, "ann"), (22, "bob")], 9);
    assert_eq!(save(&mut operator, false), [2]);
    feed(&mut operator, &[(21, "cid")], 19);
    assert_eq!(save(&mut operator, false), [1, 1], "one session has closed, one row has come");
    assert_eq!(save(&mut operator, false), [0usize; 0]);
    feed(&mut operator, &[(25, "ann")], 19);
    assert_eq!(save(&mut operator, false), [1], "it has joined the session of 30");
    assert_eq!(save(&mut operator, true), [5]);
}
