//! Joins with a small table in every task against nested loops, in random cuts, on random tasks, with crashes.

use super::multi::{Row, batch, schema, text};
use super::*;
use crate::testing::{Table, render};
use millstream_state::table::{Saver, alive};
use proptest::prelude::*;

fn made(spec: &graph::Join) -> Box<dyn Operator> {
    let inputs = [schema(), schema()];
    join(spec, &inputs, &output(spec.kind, &inputs)).expect("the join can be made")
}

/// What the rows of the large side come to beside all of the small one.
fn nested_loops(spec: &graph::Join, small: usize, table: &[Row], passed: &[Row]) -> Vec<String> {
    let mut rows = Vec::new();
    for large in passed {
        let meets = |of: &&Row| {
            let equal = spec.keys.is_empty() || large.0 == of.0 && (large.0.is_some() || spec.null_equals_null[0]);
            let (l, r) = if small == 1 { (large, *of) } else { (*of, large) };
            equal && (spec.residual.is_none() || l.1 < r.1)
        };
        let show = |row: &Row| format!("{} {}", text(row.0), row.1);
        let met: Vec<&Row> = table.iter().filter(meets).collect();
        let beside = |other: String| match small {
            1 => format!("{} {other}", show(large)),
            _ => format!("{other} {}", show(large)),
        };
        match spec.kind {
            JoinKind::Semi if !met.is_empty() => rows.push(show(large)),
            JoinKind::Anti if met.is_empty() => rows.push(show(large)),
            JoinKind::Mark => rows.push(format!("{} {}", show(large), !met.is_empty())),
            JoinKind::Left | JoinKind::Right if met.is_empty() => rows.push(beside("null null".to_owned())),
            JoinKind::Inner | JoinKind::Left | JoinKind::Right => rows.extend(met.iter().map(|m| beside(show(m)))),
            _ => {}
        }
    }
    rows.sort();
    rows
}

/// The tasks of a join, the first of which saves what all of them have.
struct Tasks {
    all: Vec<Box<dyn Operator>>,
    pieces: Vec<RecordBatch>,
}

impl Tasks {
    fn new(spec: &graph::Join, tasks: usize, pieces: Vec<RecordBatch>) -> Tasks {
        let mut all: Vec<_> = (0..tasks).map(|_| made(spec)).collect();
        all[0].track_changes();
        let table = all[0].tables().remove(0);
        assert!(table.group_by.is_empty(), "its rows belong to no share of the keys");
        for rows in alive(&table, &pieces).expect("the pieces merge").iter().filter(|r| r.num_rows() > 0) {
            all.iter_mut().for_each(|t| t.load(&table.name, 1, rows).expect("loads"));
        }
        Tasks { all, pieces }
    }

    fn save(&mut self) {
        let mut saver = Saver::new(self.pieces.is_empty());
        self.all[0].save(&mut saver).expect("saves");
        self.pieces.extend(saver.into_pieces().into_iter().map(|p| p.rows));
    }
}

/// What a test chooses at random of one step.
#[derive(Debug, Clone, Copy)]
enum Move {
    Come { k: i64, v: i64 },
    Go { which: usize },
    Save,
    Crash(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        10 => (0i64..4, 0i64..4).prop_map(|(k, v)| Move::Come { k, v }),
        4 => (0usize..64).prop_map(|which| Move::Go { which }),
        1 => Just(Move::Save),
        1 => prop::sample::select(vec![1usize, 2, 7]).prop_map(Move::Crash),
    ];
    prop::collection::vec(one, 0..40)
}

fn kinds() -> impl Strategy<Value = (JoinKind, usize)> {
    use JoinKind::*;
    prop::sample::select(vec![(Inner, 0), (Inner, 1), (Left, 1), (Right, 0), (Semi, 1), (Anti, 1), (Mark, 1)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn what_passes_by_meets_all_of_the_table(
        first in moves(), then in moves(), (kind, small) in kinds(), keyed: bool, nulls: bool, less: bool,
        retracts: [bool; 2], cut in 1usize..6,
    ) {
        let mut spec = spec(kind, if keyed { &[0] } else { &[] }, JoinScope::Broadcast { small, retracts: retracts[0] });
        spec.null_equals_null = vec![nulls; spec.keys.len()];
        spec.residual = less.then(|| residual(1, Sign::Lt, 1, 2));
        let mut tasks = Tasks::new(&spec, 1, Vec::new());
        let mut result = Table::default();
        let mut there: [Vec<Row>; 2] = [Vec::new(), Vec::new()];
        for (of, moves) in [(0, first), (1, then)] {
            let mut held: Vec<(i8, Row)> = Vec::new();
            let input = if of == 0 { small } else { 1 - small };
            for (at, one) in moves.into_iter().chain([Move::Crash(2)]).enumerate() {
                let change = match one {
                    Move::Come { k, v } => {
                        let row = ((k > 0).then_some(k), v);
                        there[of].push(row);
                        Some((1, row))
                    }
                    Move::Go { which } if retracts[of] && !there[of].is_empty() => {
                        let which = which % there[of].len();
                        Some((-1, there[of].swap_remove(which)))
                    }
                    Move::Go { .. } => continue,
                    _ => None,
                };
                held.extend(change);
                if change.is_some() && held.len() < cut {
                    continue;
                }
                if !held.is_empty() {
                    let batch = batch(&held);
                    held.clear();
                    let many = tasks.all.len();
                    for (task, operator) in tasks.all.iter_mut().enumerate() {
                        // What passes by goes to one of them, whichever.
                        if of == 1 && task != at % many {
                            continue;
                        }
                        let mut out = Capture::default();
                        operator.step(Event::Batch { input, batch: batch.clone() }, &mut out).expect("steps");
                        prop_assert!(of == 1 || out.emitted.is_empty());
                        result.take(&out);
                    }
                }
                match one {
                    Move::Save => tasks.save(),
                    Move::Crash(many) => {
                        tasks.save();
                        tasks = Tasks::new(&spec, many, tasks.pieces);
                    }
                    _ => {}
                }
            }
        }
        prop_assert_eq!(result.rows(), nested_loops(&spec, small, &there[0], &there[1]));
    }
}

#[test]
fn times_and_order_stay_and_nothing_that_passes_is_remembered() {
    let spec = spec(JoinKind::Left, &[0], JoinScope::Broadcast { small: 1, retracts: false });
    let mut operator = made(&spec);
    let mut out = Capture::default();
    let table: Vec<(i8, Row)> = vec![(1, (Some(1), 10)), (1, (Some(2), 20)), (1, (None, 30))];
    operator.step(Event::Batch { input: 1, batch: batch(&table) }, &mut out).expect("steps");
    let before = operator.state_bytes();
    let rows: Vec<(i8, Row)> = (0..20_000).map(|n| (1, (Some(n % 4), n))).collect();
    for rows in rows.chunks(5_000) {
        let mut passing = batch(rows);
        passing.marks = Some((0..rows.len() as i64).collect());
        operator.step(Event::Batch { input: 0, batch: passing }, &mut out).expect("steps");
        operator.step(Event::Watermark(TimeDomain::Event, Watermark(rows[0].1.1)), &mut out).expect("steps");
    }
    assert!(operator.state_bytes() < before + 600_000, "{} bytes", operator.state_bytes());
    let seen: Vec<String> = out.emitted.iter().flat_map(|(_, b)| render(&b.rows, false)).collect();
    let expected = |n: i64| match n % 4 {
        1 => format!("1 {n} 1 10"),
        2 => format!("2 {n} 2 20"),
        k => format!("{k} {n} null null"),
    };
    assert_eq!(seen, (0..20_000).map(expected).collect::<Vec<_>>());
    let marks = out.emitted.iter().flat_map(|(_, b)| b.marks.clone().expect("as they came").values().to_vec());
    assert_eq!(marks.collect::<Vec<_>>(), (0..20_000).map(|n| n % 5_000).collect::<Vec<i64>>());
}

#[test]
fn a_table_whose_own_rows_would_come_out_is_refused() {
    use JoinKind::*;
    for (kind, small) in [(Full, 0), (Full, 1), (Left, 0), (Right, 1), (Semi, 0), (Anti, 0), (Mark, 0)] {
        let spec = spec(kind, &[0], JoinScope::Broadcast { small, retracts: false });
        let inputs = [schema(), schema()];
        assert!(join(&spec, &inputs, &output(kind, &inputs)).is_err(), "{kind:?} {small}");
    }
}
