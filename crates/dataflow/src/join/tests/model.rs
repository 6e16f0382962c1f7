//! Joins against nested loops over all rows, in random cuts, on random tasks, with crashes.
//!
//! Rows of both sides are `k, v, t` and the window of ten in which `t` is. What happens is resolved first into plain
//! steps, so that only rows are taken back that are there, but for some that never were.

use super::*;
use crate::testing::{Crew, Table, pressed_if, render};
use arrow::array::{Int8Array, TimestampMillisecondArray};
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    k: Option<i64>,
    v: Option<i64>,
    t: Millis,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Row { side: usize, sign: i8, row: Row },
    Watermark(Millis),
}

/// What a test chooses at random of one step.
#[derive(Debug, Clone, Copy)]
enum Move {
    Come { side: usize, k: i64, v: i64, behind: Millis },
    Go { side: usize, which: usize },
    Advance(Millis),
}

/// How the steps are played.
#[derive(Debug, Clone)]
struct Play {
    /// Rows in a batch, at most.
    cut: usize,
    /// Batches go across watermarks, with marks.
    marked: bool,
    /// Tasks after each crash.
    tasks: Vec<usize>,
    /// A crash after so many steps.
    crash: usize,
    /// A save without a crash after so many steps.
    save: usize,
    /// All memory is to be given back after so many steps; 0: never.
    every: usize,
}

fn moves(goes: u32) -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        10 => (0usize..2, 0i64..4, 0i64..4, 0i64..14).prop_map(|(side, k, v, behind)| Move::Come { side, k, v, behind }),
        goes => (0usize..2, 0usize..64).prop_map(|(side, which)| Move::Go { side, which }),
        3 => (0i64..8).prop_map(Move::Advance),
    ];
    prop::collection::vec(one, 1..70)
}

fn plays() -> impl Strategy<Value = Play> {
    let tasks = prop::collection::vec(prop::sample::select(vec![1usize, 2, 3, 7]), 1..4);
    let every = prop_oneof![1 => Just(0usize), 1 => 1usize..4];
    let one = (prop::sample::select(vec![1usize, 2, 5, 100]), any::<bool>(), tasks, 1usize..12, 1usize..6, every);
    one.prop_map(|(cut, marked, tasks, crash, save, every)| Play { cut, marked, tasks, crash, save, every })
}

fn kinds() -> impl Strategy<Value = JoinKind> {
    use JoinKind::*;
    prop::sample::select(vec![Inner, Left, Right, Full, Semi, Anti, Mark])
}

/// `unique`: no two rows are equal.
fn resolve(moves: &[Move], retracts: [bool; 2], unique: bool) -> Vec<Step> {
    let (mut steps, mut there) = (Vec::new(), [Vec::new(), Vec::new()]);
    let (mut clock, mut watermark) = (20, 0);
    for (at, one) in moves.iter().enumerate() {
        match *one {
            Move::Come { side, k, v, behind } => {
                let v = if unique { Some(at as i64) } else { (v > 0).then_some(v) };
                let t = if unique { clock - behind } else { (clock - behind) / 8 * 8 };
                let row = Row { k: (k > 0).then_some(k), v, t };
                steps.push(Step::Row { side, sign: 1, row });
                there[side].push(row);
            }
            Move::Go { side, .. } if !retracts[side] => {}
            Move::Go { side, which } => {
                let row = match there[side].len() {
                    0 => Row { k: Some(1), v: Some(99), t: clock },
                    all if which % 8 == 7 => Row { v: Some(99), ..there[side][which % all] },
                    all => there[side].swap_remove(which % all),
                };
                steps.push(Step::Row { side, sign: -1, row });
            }
            Move::Advance(by) => {
                clock += by;
                watermark = watermark.max(clock - 6);
                steps.push(Step::Watermark(watermark));
            }
        }
    }
    steps
}

fn schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let time = |name: &str| Field::new(name, timestamp(), true);
    Arc::new(Schema::new(vec![number("k"), number("v"), time("t"), time("ws"), time("we")]))
}

fn batch(rows: &[(i8, Row)], marks: Option<&[Millis]>) -> Batch {
    let time = |of: &dyn Fn(Millis) -> Millis| {
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| of(r.1.t)))) as Arc<dyn Array>
    };
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(rows.iter().map(|r| r.1.k).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.1.v).collect::<Int64Array>()),
        time(&|t| t),
        time(&|t| t.div_euclid(10) * 10),
        time(&|t| t.div_euclid(10) * 10 + 10),
    ];
    let kinds: Vec<i8> = rows.iter().map(|r| if r.0 > 0 { 0 } else { 3 }).collect();
    let kinds = kinds.contains(&3).then(|| Int8Array::from(kinds));
    let rows = RecordBatch::try_new(schema(), columns).expect("as declared");
    Batch { rows, kinds, marks: marks.map(|m| m.to_vec().into()) }
}

/// What comes out: the final table, and the late rows.
fn play(
    make: impl Fn() -> Box<dyn Operator>,
    keys: &[usize],
    steps: &[Step],
    play: &Play,
) -> (Vec<String>, Vec<String>) {
    let (mut table, mut late) = (Table::default(), Vec::new());
    let space = Arc::<MemorySpace>::default();
    let make = || pressed_if(make(), play.every, &space);
    let mut crew = Crew::new(&make, play.tasks[0]);
    let (mut held, mut marks, mut of, mut now) = (Vec::new(), Vec::new(), 0, Millis::MIN);
    let (mut crashes, mut told) = (0, Millis::MIN);
    let mut take = |capture: Capture| {
        assert!(capture.emitted.iter().all(|(_, b)| b.len() <= ROWS_MAX && !b.is_empty()));
        table.take(&capture);
        late.extend(capture.late.iter().flat_map(|l| render(&l.rows, false)));
    };
    let flush = |crew: &mut Crew, held: &mut Vec<(i8, Row)>, marks: &mut Vec<Millis>, of: usize| {
        let mut captures = Vec::new();
        if !held.is_empty() {
            let batch = batch(held, play.marked.then_some(marks.as_slice()));
            captures.push(crew.step(keys, Event::Batch { input: of, batch }));
        }
        held.clear();
        marks.clear();
        captures
    };
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Row { side, sign, row } => {
                if of != side || held.len() >= play.cut {
                    flush(&mut crew, &mut held, &mut marks, of).into_iter().for_each(&mut take);
                    if told < now {
                        take(crew.step(keys, Event::Watermark(TimeDomain::Event, Watermark(now))));
                        told = now;
                    }
                }
                of = side;
                held.push((sign, row));
                marks.push(now);
            }
            Step::Watermark(to) => {
                now = to;
                if !play.marked {
                    flush(&mut crew, &mut held, &mut marks, of).into_iter().for_each(&mut take);
                    take(crew.step(keys, Event::Watermark(TimeDomain::Event, Watermark(to))));
                    told = now;
                }
            }
        }
        if (at + 1).is_multiple_of(play.save) {
            crew.save();
        }
        if (at + 1).is_multiple_of(play.crash) {
            flush(&mut crew, &mut held, &mut marks, of).into_iter().for_each(&mut take);
            take(crew.step(keys, Event::Watermark(TimeDomain::Event, Watermark(now))));
            told = now;
            crashes += 1;
            crew = crew.crash(&make, play.tasks[crashes % play.tasks.len()]);
        }
    }
    flush(&mut crew, &mut held, &mut marks, of).into_iter().for_each(&mut take);
    take(crew.step(keys, Event::Watermark(TimeDomain::Event, Watermark::MAX)));
    take(crew.step(keys, Event::End));
    late.sort();
    (table.rows(), late)
}

fn text(row: Option<&Row>) -> String {
    let number = |n: Option<i64>| n.map_or("null".to_owned(), |n| n.to_string());
    match row {
        None => "null null null null null".to_owned(),
        Some(Row { k, v, t }) => {
            let start = t.div_euclid(10) * 10;
            format!("{} {} {t} {start} {}", number(*k), number(*v), start + 10)
        }
    }
}

/// A row of the result: of a semi or anti join the left alone.
fn result(kind: JoinKind, left: Option<&Row>, right: Option<&Row>) -> String {
    match kind {
        JoinKind::Semi | JoinKind::Anti => text(left),
        _ => format!("{} {}", text(left), text(right)),
    }
}

/// A row of a mark join.
fn marked(left: &Row, matched: bool) -> String {
    format!("{} {matched}", text(Some(left)))
}

/// All pairs, and what the kind makes of rows without a partner.
fn nested_loops(kind: JoinKind, left: &[Row], right: &[Row], meet: impl Fn(&Row, &Row) -> bool) -> Vec<String> {
    use JoinKind::*;
    let mut results = Vec::new();
    for l in left {
        let partners: Vec<&Row> = right.iter().filter(|r| meet(l, r)).collect();
        match kind {
            Semi | Anti => results.extend(((kind == Semi) != partners.is_empty()).then(|| text(Some(l)))),
            Mark => results.push(marked(l, !partners.is_empty())),
            _ => results.extend(partners.iter().map(|r| result(kind, Some(l), Some(r)))),
        }
        if matches!(kind, Left | Full) && partners.is_empty() {
            results.push(result(kind, Some(l), None));
        }
    }
    if matches!(kind, Right | Full) {
        let alone = right.iter().filter(|r| !left.iter().any(|l| meet(l, r)));
        results.extend(alone.map(|r| result(kind, None, Some(r))));
    }
    results.sort();
    results
}

fn condition(on: bool) -> Option<Expr> {
    on.then(|| residual(1, Sign::Lt, 1, 5))
}

/// Whether rows have one key, and the condition holds.
fn equal(on: bool, nulls: bool, l: &Row, r: &Row) -> bool {
    let keys = if nulls { l.k == r.k } else { l.k.is_some() && l.k == r.k };
    keys && (!on || matches!((l.v, r.v), (Some(l), Some(r)) if l < r))
}

fn made(spec: &graph::Join) -> impl Fn() -> Box<dyn Operator> + '_ {
    let inputs = [schema(), schema()];
    let output = output(spec.kind, &inputs);
    move || join(spec, &inputs, &output).expect("the join can be made")
}

/// A row that has come, as the row-by-row model knows it.
struct Known {
    side: usize,
    row: Row,
    there: bool,
    matches: i64,
}

/// Row by row, with rows that are forgotten.
fn forgetful(kind: JoinKind, on: bool, keep: Millis, steps: &[Step]) -> Vec<String> {
    use JoinKind::*;
    let lonely = |side: usize| matches!((kind, side), (Left | Full | Anti | Mark, 0) | (Right | Full, 1));
    let chosen = |side: usize| matches!(kind, Semi | Mark) && side == 0;
    let (mut known, mut counts): (Vec<Known>, BTreeMap<String, i64>) = (Vec::new(), BTreeMap::new());
    let mut now = Millis::MIN;
    let alone = |side: usize, row: &Row, matched: bool| match (kind, side) {
        (Mark, _) => marked(row, matched),
        (_, 0) => result(kind, Some(row), None),
        _ => result(kind, None, Some(row)),
    };
    for step in steps {
        let (side, sign, row) = match *step {
            Step::Watermark(to) => {
                now = to;
                continue;
            }
            Step::Row { side, sign, row } => (side, i64::from(sign), row),
        };
        let mine = known.iter().position(|k| k.there && k.side == side && k.row == row);
        if sign < 0 && (mine.is_none() || now >= row.t + keep) {
            continue;
        }
        let before = mine.map_or(0, |m| known[m].matches);
        let mut found = 0;
        for other in known.iter_mut().filter(|k| k.there && k.side != side && now < k.row.t + keep) {
            let (l, r) = if side == 0 { (&row, &other.row) } else { (&other.row, &row) };
            if !equal(on, false, l, r) {
                continue;
            }
            found += 1;
            if !matches!(kind, Semi | Anti | Mark) {
                *counts.entry(result(kind, Some(l), Some(r))).or_default() += sign;
            }
            let matches = other.matches;
            other.matches += sign;
            if (matches == 0) != (other.matches == 0) {
                if lonely(1 - side) {
                    *counts.entry(alone(1 - side, &other.row, false)).or_default() -= sign;
                }
                if chosen(1 - side) {
                    *counts.entry(alone(1 - side, &other.row, true)).or_default() += sign;
                }
            }
        }
        let matches = if sign > 0 { found } else { before };
        if (lonely(side) && matches == 0) || (chosen(side) && matches > 0) {
            *counts.entry(alone(side, &row, matches > 0)).or_default() += sign;
        }
        match mine {
            Some(mine) if sign < 0 => known[mine].there = false,
            _ => known.push(Known { side, row, there: now < row.t + keep, matches: found }),
        }
    }
    counts.into_iter().flat_map(|(row, n)| std::iter::repeat_n(row, n.max(0) as usize)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_join_is_what_nested_loops_make_of_the_rows_left(
        kind in kinds(), moves in moves(6), how in plays(), on: bool, nulls: bool, retracts: [bool; 2],
    ) {
        let steps = resolve(&moves, retracts, false);
        let mut spec = spec(kind, &[0], JoinScope::Always { ttl: None, retracts });
        spec.residual = condition(on);
        spec.null_equals_null = vec![nulls];
        let (table, late) = play(made(&spec), &[0], &steps, &how);
        let mut there = [Vec::new(), Vec::new()];
        for step in &steps {
            match *step {
                Step::Row { side, sign: 1, row } => there[side].push(row),
                Step::Row { side, row, .. } => {
                    if let Some(at) = there[side].iter().position(|r| *r == row) {
                        there[side].remove(at);
                    }
                }
                Step::Watermark(_) => {}
            }
        }
        let wanted = nested_loops(kind, &there[0], &there[1], |l, r| equal(on, nulls, l, r));
        prop_assert_eq!((table, late.len()), (wanted, 0));
    }

    #[test]
    fn what_is_forgotten_is_not_found(
        kind in kinds(), moves in moves(4), how in plays(), on: bool, retracts: [bool; 2], keep in 1i64..20,
    ) {
        let steps = resolve(&moves, retracts, true);
        let ttl = Some(StateTtl { keep, times: vec![2, 2] });
        let mut spec = spec(kind, &[0], JoinScope::Always { ttl, retracts });
        spec.residual = condition(on);
        let (table, _) = play(made(&spec), &[0], &steps, &how);
        prop_assert_eq!(table, forgetful(kind, on, keep, &steps));
    }

    #[test]
    fn a_window_join_is_what_nested_loops_make_of_the_rows_in_time(
        kind in kinds(), moves in moves(0), how in plays(), on: bool, nulls: bool,
    ) {
        let steps = resolve(&moves, [false, false], false);
        let scope = JoinScope::Window { start: [3, 3], end: [4, 4], domain: TimeDomain::Event };
        let mut spec = spec(kind, &[3, 4, 0], scope);
        spec.residual = condition(on);
        spec.null_equals_null = vec![false, false, nulls];
        let (table, late) = play(made(&spec), &[3, 4, 0], &steps, &how);
        let (mut there, mut too_late, mut now) = ([Vec::new(), Vec::new()], Vec::new(), Millis::MIN);
        for step in &steps {
            match *step {
                Step::Row { side, row, .. } => match now >= row.t.div_euclid(10) * 10 + 9 {
                    true => too_late.push(text(Some(&row))),
                    false => there[side].push(row),
                },
                Step::Watermark(to) => now = to,
            }
        }
        too_late.sort();
        let meet = |l: &Row, r: &Row| l.t.div_euclid(10) == r.t.div_euclid(10) && equal(on, nulls, l, r);
        prop_assert_eq!((table, late), (nested_loops(kind, &there[0], &there[1], meet), too_late));
    }

    #[test]
    fn an_interval_join_is_what_nested_loops_make_of_the_rows_in_reach(
        kind in kinds(), moves in moves(0), how in plays(), on: bool, nulls: bool, lower in -12i64..8, width in -2i64..12,
    ) {
        let steps = resolve(&moves, [false, false], true);
        let upper = lower + width;
        let scope = JoinScope::Interval { times: [2, 2], domain: TimeDomain::Event, lower, upper };
        let mut spec = spec(kind, &[0], scope);
        spec.residual = condition(on);
        spec.null_equals_null = vec![nulls];
        let (table, late) = play(made(&spec), &[0], &steps, &how);
        // Each row with its place and the watermark before it: the later one has to find the earlier one still there.
        let (mut there, mut came, mut now) = ([Vec::new(), Vec::new()], BTreeMap::new(), Millis::MIN);
        for (at, step) in steps.iter().enumerate() {
            match *step {
                Step::Row { side, row, .. } => {
                    there[side].push(row);
                    came.insert(row.v, (at, now));
                }
                Step::Watermark(to) => now = to,
            }
        }
        let found = |first: &Row, reach: Millis, second: &Row| {
            came[&first.v].1 < first.t + reach && came[&second.v].1 <= first.t + reach
        };
        let meet = |l: &Row, r: &Row| {
            let near = r.t + lower <= l.t && l.t <= r.t + upper;
            let first = match came[&l.v].0 < came[&r.v].0 {
                true => found(l, -lower, r),
                false => found(r, upper, l),
            };
            near && first && equal(on, nulls, l, r)
        };
        prop_assert_eq!((table, late.len()), (nested_loops(kind, &there[0], &there[1], meet), 0));
    }

    #[test]
    fn a_temporal_join_finds_the_version_of_each_time(
        moves in moves(4), how in plays(), on: bool, outer: bool, tolerance in prop::option::of(0i64..12),
    ) {
        let steps = resolve(&moves, [false, true], true);
        let spec = graph::TemporalJoin {
            outer,
            keys: vec![(0, 0)],
            residual: condition(on),
            times: [2, 2],
            tolerance,
            order: None,
        };
        let inputs = [schema(), schema()];
        let output = output(JoinKind::Inner, &inputs);
        let make = || temporal(&spec, &inputs, &output).expect("the join can be made");
        let (table, late) = play(make, &[0], &steps, &how);
        let (mut results, mut too_late) = (Vec::new(), Vec::new());
        let (mut versions, mut waiting, mut now): (Vec<(i8, Row)>, Vec<Row>, _) = (Vec::new(), Vec::new(), Millis::MIN);
        for step in steps.iter().chain([&Step::Watermark(Millis::MAX)]) {
            match *step {
                Step::Row { side: 0, row, .. } if row.t <= now => too_late.push(text(Some(&row))),
                Step::Row { side: 0, row, .. } => waiting.push(row),
                Step::Row { sign, row, .. } => versions.push((sign, row)),
                Step::Watermark(to) => {
                    now = to;
                    for l in waiting.iter().filter(|l| l.t <= now) {
                        // The last to come of those with the latest time.
                        let of_key = versions.iter().filter(|(_, r)| l.k.is_some() && r.k == l.k && r.t <= l.t);
                        let version = of_key.max_by_key(|(_, r)| r.t);
                        let holds = |(sign, r): &&(i8, Row)| {
                            *sign > 0 && tolerance.is_none_or(|most| r.t + most >= l.t) && equal(on, false, l, r)
                        };
                        match version.filter(holds) {
                            Some((_, r)) => results.push(result(JoinKind::Inner, Some(l), Some(r))),
                            None => results.extend(outer.then(|| result(JoinKind::Left, Some(l), None))),
                        }
                    }
                    waiting.retain(|l| l.t > now);
                }
            }
        }
        results.sort();
        too_late.sort();
        prop_assert_eq!((table, late), (results, too_late));
    }
}
