//! Window aggregation against a naive reading of the rules, row by row, over random events, cuts and windows.

use super::*;
use crate::graph::{AggregateCall, AggregateFunction, Trigger, WindowTime};
use crate::testing::{Capture, Crew, pressed, render, timestamp};
use arrow::datatypes::{DataType, Field};
use millstream_core::multiset::multiset_of;
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
struct Row {
    at: Millis,
    key: u8,
    n: i64,
    flag: bool,
    /// Place in the table: unique.
    order: i64,
}

#[derive(Debug, Clone)]
enum Act {
    Row(Row),
    /// The watermark goes on by this.
    Advance(Millis),
    /// The batch ends here.
    Cut,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let row = (-40i64..60, 0u8..3, -5i64..5, any::<bool>())
        .prop_map(|(at, key, n, flag)| Act::Row(Row { at, key, n, flag, order: 0 }));
    let act = prop_oneof![6 => row, 2 => (0i64..12).prop_map(Act::Advance), 1 => Just(Act::Cut)];
    prop::collection::vec(act, 1..60).prop_map(|mut acts| {
        // Time goes on with the watermark, so that rows fall on both sides of it.
        let (mut now, mut order) = (-60, 0);
        for act in &mut acts {
            match act {
                Act::Row(row) => {
                    row.at = now + row.at.rem_euclid(50) - 15;
                    row.order = order * 7 % 101;
                    order += 1;
                }
                Act::Advance(by) => now += *by,
                Act::Cut => {}
            }
        }
        acts
    })
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", timestamp(), false),
        Field::new("key", DataType::Int64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("order", DataType::Int64, false),
        Field::new("x", DataType::Float64, true),
    ]))
}

/// n = -5 is NULL.
fn batch(rows: &[&Row]) -> RecordBatch {
    let n = |r: &&Row| (r.n != -5).then_some(r.n);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from(rows.iter().map(|r| r.at).collect::<Vec<_>>())),
        Arc::new(rows.iter().map(|r| (r.key > 0).then_some(i64::from(r.key))).collect::<Int64Array>()),
        Arc::new(rows.iter().map(n).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| Some(r.flag)).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|r| n(r).map(|n| format!("t{n}"))).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| Some(r.order)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| n(r).map(|n| n as f64 / 10.0)).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(schema(), columns).expect("as declared")
}

fn call(function: AggregateFunction, arg: Option<usize>, kind: DataType) -> AggregateCall {
    let result = Field::new("r", kind, true);
    AggregateCall { function, args: arg.into_iter().collect(), distinct: false, filter: None, result }
}

/// Calls that can be taken back, and stand in records.
fn plain_calls() -> Vec<AggregateCall> {
    use AggregateFunction::*;
    vec![
        call(Count, None, DataType::Int64),
        call(Count, Some(2), DataType::Int64),
        AggregateCall { filter: Some(3), ..call(Sum, Some(2), DataType::Int64) },
        call(Avg, Some(2), DataType::Int64),
        call(Sum, Some(6), DataType::Float64),
    ]
}

fn rich_calls() -> Vec<AggregateCall> {
    use AggregateFunction::*;
    vec![
        call(Max, Some(2), DataType::Int64),
        AggregateCall { distinct: true, ..call(Count, Some(2), DataType::Int64) },
        AggregateCall { distinct: true, filter: Some(3), ..call(Count, Some(2), DataType::Int64) },
        AggregateCall { distinct: true, ..call(Sum, Some(2), DataType::Int64) },
        call(Min, Some(4), DataType::Utf8),
        call(ListAgg { separator: "+".into() }, Some(4), DataType::Utf8),
        call(Collect, Some(2), multiset_of(&DataType::Int64)),
        AggregateCall { distinct: true, filter: Some(3), ..call(Collect, Some(2), multiset_of(&DataType::Int64)) },
        call(FirstValue, Some(2), DataType::Int64),
        call(LastValue, Some(4), DataType::Utf8),
        AggregateCall { distinct: true, ..call(Count, Some(4), DataType::Int64) },
    ]
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or("null".to_string(), |v| v.to_string())
}

/// The result columns of these rows, as text.
fn reference(rows: &[Row], rich: bool) -> String {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|r| (r.at, r.order));
    let n = |r: &Row| (r.n != -5).then_some(r.n);
    let values: Vec<i64> = rows.iter().filter_map(n).collect();
    let flagged: Vec<i64> = rows.iter().filter(|r| r.flag).filter_map(n).collect();
    let distinct = |v: &[i64]| v.iter().copied().collect::<BTreeSet<i64>>();
    if rich {
        let set = distinct(&values);
        let texts: Vec<String> = values.iter().map(|n| format!("t{n}")).collect();
        return [
            shown(values.iter().max()),
            set.len().to_string(),
            distinct(&flagged).len().to_string(),
            shown((!set.is_empty()).then(|| set.iter().sum::<i64>())),
            shown(texts.iter().min()),
            shown((!texts.is_empty()).then(|| texts.join("+"))),
            multiset(values.iter()),
            multiset(distinct(&flagged).iter()),
            shown(values.first()),
            shown(texts.last()),
            set.len().to_string(),
        ]
        .join(" ");
    }
    let some = |sum: i64, of: &[i64]| (!of.is_empty()).then_some(sum);
    let sum: i64 = values.iter().sum();
    // The exact sum of the floats n / 10, each an f64, is the nearest to the decimal one here.
    let mut exact = millstream_state::exact::ExactSum::default();
    values.iter().for_each(|n| exact.add(*n as f64 / 10.0));
    [
        rows.len().to_string(),
        values.len().to_string(),
        shown(some(flagged.iter().sum(), &flagged)),
        shown(some(if values.is_empty() { 0 } else { sum / values.len() as i64 }, &values)),
        shown((!values.is_empty()).then(|| format!("{:?}", exact.value()))),
    ]
    .join(" ")
}

/// As it is printed.
fn multiset<'a>(values: impl Iterator<Item = &'a i64>) -> String {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    values.for_each(|value| *counts.entry(*value).or_default() += 1);
    let entries: Vec<String> = counts.iter().map(|(value, n)| format!("{value}:_{n}")).collect();
    format!("{{{}}}", entries.join(";"))
}

type Results = BTreeMap<String, String>;

fn key_text(key: u8) -> String {
    if key == 0 { "null".to_string() } else { key.to_string() }
}

/// The windows of a row, naively.
fn windows(window: &Window, t: Millis) -> Vec<(Millis, Millis)> {
    let start_of = |size: Millis, offset: Millis| (t - offset).div_euclid(size) * size + offset;
    match *window {
        Window::Tumble { size, offset } => vec![(start_of(size, offset), start_of(size, offset) + size)],
        Window::Hop { size, slide, offset } => {
            let last = start_of(slide, offset);
            (0..).map(|k| last - k * slide).take_while(|s| *s > t - size).map(|s| (s, s + size)).collect()
        }
        Window::Cumulate { size, step, offset } => {
            let base = start_of(size, offset);
            (1..=size / step).map(|k| (base, base + k * step)).filter(|w| w.1 > t).collect()
        }
        _ => Vec::new(),
    }
}

/// Results and late rows by the rules, one row after the other.
fn model(node: &graph::WindowAggregate, acts: &[Act], rich: bool) -> (Results, Vec<i64>) {
    let (mut now, mut late) = (Watermark::MIN, Vec::new());
    let mut held: BTreeMap<(u8, Millis, Millis), Vec<Row>> = BTreeMap::new();
    // Cumulating windows also fire without rows of their own; rows are in all that end after them.
    let mut sessions: Vec<(u8, Millis, Millis, Vec<Row>)> = Vec::new();
    let mut start = -60;
    for act in acts {
        match act {
            Act::Advance(by) => {
                start += by;
                now = Watermark(start);
            }
            Act::Cut => {}
            Act::Row(row) => match node.window {
                Window::Session { gap, .. } => {
                    let open: Vec<usize> = (0..sessions.len())
                        .filter(|i| {
                            let s = &sessions[*i];
                            s.0 == row.key
                                && !now.forgets(s.2 + gap, node.lateness)
                                && row.at >= s.1 - gap
                                && row.at <= s.2 + gap
                        })
                        .collect();
                    let last = open.iter().map(|i| sessions[*i].2).max().unwrap_or(row.at).max(row.at);
                    if now.forgets(last + gap, node.lateness) {
                        late.push(row.order);
                        continue;
                    }
                    let mut joined = (row.key, row.at, last, vec![row.clone()]);
                    for i in open.into_iter().rev() {
                        let gone = sessions.remove(i);
                        joined.1 = joined.1.min(gone.1);
                        joined.3.extend(gone.3);
                    }
                    sessions.push(joined);
                }
                _ => {
                    let of = windows(&node.window, row.at);
                    let open: Vec<_> = of.iter().filter(|w| !now.forgets(w.1, node.lateness)).collect();
                    if open.is_empty() && !of.is_empty() {
                        late.push(row.order);
                    }
                    for (start, end) in open {
                        held.entry((row.key, *start, *end)).or_default().push(row.clone());
                    }
                }
            },
        }
    }
    if let Window::Session { gap, .. } = node.window {
        for (key, first, last, rows) in sessions {
            held.insert((key, first, last + gap), rows);
        }
    }
    let results = held
        .into_iter()
        .map(|((key, start, end), rows)| (format!("{} {start} {end}", key_text(key)), reference(&rows, rich)))
        .collect();
    late.sort_unstable();
    (results, late)
}

fn take_results(capture: &Capture, results: &mut Results, late: &mut Vec<i64>) {
    for (_, batch) in &capture.emitted {
        for (i, text) in render(&batch.rows, false).into_iter().enumerate() {
            let words: Vec<&str> = text.split(' ').collect();
            let (name, values) = (words[..3].join(" "), words[4..].join(" "));
            match batch.kinds.as_ref().map_or(0, |k| k.value(i)) {
                3 => assert_eq!(results.remove(&name), Some(values), "what is taken back has been said"),
                0 => assert_eq!(results.insert(name, values), None, "said once"),
                _ => drop(results.insert(name, values)),
            }
        }
    }
    for rows in &capture.late {
        late.extend(rows.rows.column(5).as_primitive::<arrow::datatypes::Int64Type>().values());
    }
}

/// Batches with marks where a watermark lies within, and the watermarks between them.
fn events(acts: &[Act]) -> Vec<Event> {
    let (mut now, mut start, mut said) = (i64::MIN, -60, i64::MIN);
    let (mut rows, mut marks, mut events) = (Vec::new(), Vec::new(), Vec::new());
    let mut flush = |rows: &mut Vec<&Row>, marks: &mut Vec<i64>, now: i64, events: &mut Vec<Event>| {
        if !rows.is_empty() {
            let mut batch = Batch::from(batch(rows));
            // A source leaves marks out where none is above the watermark that it has handed on.
            if marks.iter().any(|m| *m > said) {
                batch.marks = Some(Int64Array::from(std::mem::take(marks)));
            }
            events.push(Event::Batch { input: 0, batch });
        }
        rows.clear();
        marks.clear();
        events.push(Event::Watermark(TimeDomain::Event, Watermark(now)));
        said = now;
    };
    for act in acts {
        match act {
            Act::Row(row) => {
                rows.push(row);
                marks.push(now);
            }
            Act::Advance(by) => {
                start += by;
                now = start;
            }
            Act::Cut => flush(&mut rows, &mut marks, now, &mut events),
        }
    }
    flush(&mut rows, &mut marks, now, &mut events);
    events.push(Event::Watermark(TimeDomain::Event, Watermark::MAX));
    events.push(Event::End);
    events
}

fn play(node: &graph::WindowAggregate, acts: &[Act]) -> (Results, Vec<i64>) {
    play_with(build(node, &schema(), false).expect("builds"), acts)
}

fn play_with(mut operator: Box<dyn Operator>, acts: &[Act]) -> (Results, Vec<i64>) {
    let (mut results, mut late) = (Results::new(), Vec::new());
    for event in events(acts) {
        let mut capture = Capture::default();
        operator.step(event, &mut capture).expect("steps");
        take_results(&capture, &mut results, &mut late);
    }
    late.sort_unstable();
    (results, late)
}

/// The same through local aggregations, each of a share of the rows, and the exchange.
fn play_split(node: &graph::WindowAggregate, acts: &[Act]) -> (Results, Vec<i64>) {
    let spec = local::split(node, &schema()).expect("these calls can be split");
    let mut local = local::build_local(node, &schema(), &spec).expect("builds");
    let mut operator = build(node, &schema(), true).expect("builds");
    let (mut results, mut late) = (Results::new(), Vec::new());
    for event in events(acts) {
        let mut exchanged = Capture::default();
        local.step(event, &mut exchanged).expect("steps");
        let mut capture = Capture::default();
        for (port, batch) in exchanged.emitted {
            let input = 1 - port;
            operator.step(Event::Batch { input, batch }, &mut capture).expect("steps");
        }
        for (domain, to) in exchanged.advanced {
            operator.step(Event::Watermark(domain, to), &mut capture).expect("steps");
        }
        take_results(&capture, &mut results, &mut late);
    }
    late.sort_unstable();
    (results, late)
}

/// The same on several tasks, which are saved, thrown away and restored after every event.
fn play_crashing(node: &graph::WindowAggregate, acts: &[Act], tasks: &[usize]) -> (Results, Vec<i64>) {
    play_crashing_with(&|| build(node, &schema(), false).expect("builds"), acts, tasks)
}

fn play_crashing_with(make: &impl Fn() -> Box<dyn Operator>, acts: &[Act], tasks: &[usize]) -> (Results, Vec<i64>) {
    let mut crew = Crew::new(make, tasks[0]);
    let (mut results, mut late) = (Results::new(), Vec::new());
    for (at, event) in events(acts).into_iter().enumerate() {
        let last = matches!(event, Event::End);
        take_results(&crew.step(&[1], event), &mut results, &mut late);
        if !last {
            crew = crew.crash(make, tasks[(at + 1) % tasks.len()]);
        }
    }
    late.sort_unstable();
    (results, late)
}

/// The same with a local aggregation, which is thrown away too.
fn play_split_crashing(node: &graph::WindowAggregate, acts: &[Act], tasks: &[usize]) -> (Results, Vec<i64>) {
    let spec = local::split(node, &schema()).expect("these calls can be split");
    let make_local = || local::build_local(node, &schema(), &spec).expect("builds");
    let make = || build(node, &schema(), true).expect("builds");
    let (mut local, mut crew) = (make_local(), Crew::new(&make, tasks[0]));
    let (mut results, mut late) = (Results::new(), Vec::new());
    for (at, event) in events(acts).into_iter().enumerate() {
        let last = matches!(event, Event::End);
        let mut exchanged = Capture::default();
        local.step(event, &mut exchanged).expect("steps");
        local.flush(&mut exchanged).expect("flushes");
        for (port, batch) in exchanged.emitted {
            let keys = if port == 0 { &spec.keys } else { &spec.raw_keys };
            let capture = crew.step(keys, Event::Batch { input: 1 - port, batch });
            take_results(&capture, &mut results, &mut late);
        }
        for (domain, to) in exchanged.advanced {
            take_results(&crew.step(&[], Event::Watermark(domain, to)), &mut results, &mut late);
        }
        if !last {
            crew = crew.crash(&make, tasks[(at + 1) % tasks.len()]);
            local = make_local();
            local.resume(crew.watermarks).expect("resumes");
        }
    }
    late.sort_unstable();
    (results, late)
}

fn node(window: Window, lateness: Millis, rich: bool) -> graph::WindowAggregate {
    graph::WindowAggregate {
        window,
        time: WindowTime { column: 0, domain: TimeDomain::Event, zone: None },
        keys: vec![1],
        calls: if rich { rich_calls() } else { plain_calls() },
        lateness,
        order: Some(5),
    }
}

fn any_window() -> impl Strategy<Value = Window> {
    prop_oneof![
        (1i64..20, -9i64..9).prop_map(|(size, offset)| Window::Tumble { size, offset }),
        (1i64..20, 1i64..12, -9i64..9).prop_map(|(size, slide, offset)| Window::Hop { size, slide, offset }),
        (1i64..6, 1i64..5, -9i64..9).prop_map(|(step, n, offset)| Window::Cumulate { size: step * n, step, offset }),
        (1i64..15).prop_map(|gap| Window::Session { gap, partition: vec![1] }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn windows_are_as_the_rules_say_however_the_rows_are_cut(
        window in any_window(), acts in acts(), lateness in prop_oneof![Just(0i64), 1i64..15], rich in any::<bool>(),
    ) {
        let node = node(window, lateness, rich);
        prop_assert_eq!(play(&node, &acts), model(&node, &acts, rich));
    }

    #[test]
    fn hardly_any_memory_changes_nothing(
        window in any_window(), acts in acts(), lateness in prop_oneof![Just(0i64), 1i64..15], rich in any::<bool>(),
        every in 1usize..5,
    ) {
        let node = node(window, lateness, rich);
        let space = Arc::<MemorySpace>::default();
        let operator = pressed(build(&node, &schema(), false).expect("builds"), every, space.clone());
        prop_assert_eq!(play_with(operator, &acts), model(&node, &acts, rich));
        prop_assert_eq!(space.runs(), 0);
    }

    #[test]
    fn counting_alone_counts_as_beside_others(
        window in any_window(), acts in acts(), lateness in prop_oneof![Just(0i64), 1i64..15], nulls in any::<bool>(),
    ) {
        let mut acts = acts;
        for act in &mut acts {
            if let Act::Row(row) = act && !nulls {
                row.key = row.key.max(1);
            }
        }
        let beside = node(window, lateness, false);
        let alone = graph::WindowAggregate { calls: plain_calls()[..1].to_vec(), ..beside.clone() };
        let (mut expected, late) = model(&beside, &acts, false);
        expected.values_mut().for_each(|v| v.truncate(v.find(' ').unwrap_or(v.len())));
        prop_assert_eq!(play(&alone, &acts), (expected, late));
    }

    #[test]
    fn aggregating_before_the_exchange_changes_nothing(window in any_window(), acts in acts()) {
        prop_assume!(!matches!(window, Window::Session { .. }));
        let node = node(window, 0, false);
        prop_assert_eq!(play_split(&node, &acts), model(&node, &acts, false));
    }
}

fn any_trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![Just(Trigger::Change), (1u64..4).prop_map(Trigger::Rows), Just(Trigger::Every(1000))]
}

/// The panes of a node, each of which takes the one before it back.
fn told(
    node: &graph::WindowAggregate,
    (early, late, update_before): (Option<Trigger>, Trigger, bool),
) -> impl Fn() -> Box<dyn Operator> {
    let panes = graph::Panes::Retracting;
    let node = graph::WindowPanes { windows: node.clone(), early, late, panes, update_before };
    move || super::panes::build(&node, &schema()).expect("builds")
}

fn any_telling() -> impl Strategy<Value = (Option<Trigger>, Trigger, bool)> {
    (prop::option::weighted(0.8, any_trigger()), any_trigger(), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn told_in_panes_the_last_word_is_the_same(
        window in any_window(), acts in acts(), lateness in prop_oneof![Just(0i64), 1i64..15], rich in any::<bool>(),
        telling in any_telling(),
    ) {
        let node = node(window, lateness, rich);
        prop_assert_eq!(play_with(told(&node, telling)(), &acts), model(&node, &acts, rich));
    }
}

fn any_tasks() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..5, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn crashes_change_nothing_on_however_many_tasks(
        window in any_window(), acts in acts(), lateness in prop_oneof![Just(0i64), 1i64..15], rich in any::<bool>(),
        tasks in any_tasks(),
    ) {
        let node = node(window, lateness, rich);
        prop_assert_eq!(play_crashing(&node, &acts, &tasks), model(&node, &acts, rich));
    }

    #[test]
    fn crashes_change_nothing_about_the_last_word_of_panes(
        window in any_window(), acts in acts(), lateness in prop_oneof![Just(0i64), 1i64..15], rich in any::<bool>(),
        tasks in any_tasks(), telling in any_telling(),
    ) {
        let node = node(window, lateness, rich);
        prop_assert_eq!(play_crashing_with(&told(&node, telling), &acts, &tasks), model(&node, &acts, rich));
    }

    #[test]
    fn crashes_change_nothing_where_rows_are_aggregated_before_the_exchange(
        window in any_window(), acts in acts(), tasks in any_tasks(),
    ) {
        prop_assume!(!matches!(window, Window::Session { .. }));
        let node = node(window, 0, false);
        prop_assert_eq!(play_split_crashing(&node, &acts, &tasks), model(&node, &acts, false));
    }
}
