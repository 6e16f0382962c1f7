//! Joins of several inputs against nested loops over the rows that are left, in random cuts, on random tasks, with crashes.

use super::*;
use crate::testing::{Crew, Table, pressed_if};
use arrow::array::Int8Array;
use millstream_state::tier::MemorySpace;
use proptest::prelude::*;

pub(super) type Row = (Option<i64>, i64);

pub(super) fn schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![number("k"), number("v")]))
}

pub(super) fn batch(rows: &[(i8, Row)]) -> Batch {
    let keys: Int64Array = rows.iter().map(|r| r.1.0).collect();
    let values: Int64Array = rows.iter().map(|r| Some(r.1.1)).collect();
    let kinds: Vec<i8> = rows.iter().map(|r| if r.0 > 0 { 0 } else { 3 }).collect();
    let kinds = kinds.contains(&3).then(|| Int8Array::from(kinds));
    let rows = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)]).expect("as declared");
    Batch { rows, marks: None, kinds }
}

/// Every second input by LEFT JOIN where `outer` says so. The columns come out backwards.
fn spec(outer: &[bool], retracts: &[bool]) -> graph::MultiJoin {
    let columns = (0..outer.len()).rev().flat_map(|input| [(input, 1), (input, 0)]);
    graph::MultiJoin {
        keys: vec![vec![0]; outer.len()],
        outer: outer.to_vec(),
        retracts: retracts.to_vec(),
        columns: columns.collect(),
    }
}

fn made(spec: &graph::MultiJoin) -> impl Fn() -> Box<dyn Operator> + '_ {
    let inputs = vec![schema(); spec.keys.len()];
    let field = |(input, column): &(usize, usize)| inputs[*input].field(*column).clone();
    let output = Arc::new(Schema::new(spec.columns.iter().map(field).collect::<Vec<_>>()));
    move || multi(spec, &inputs, &output).expect("the join can be made")
}

/// All rows of a key with each other, input by input.
fn nested_loops(there: &[Vec<Row>], outer: &[bool]) -> Vec<String> {
    let mut joined: Vec<(Option<i64>, String)> =
        there[0].iter().map(|(k, v)| (*k, format!("{v} {}", text(*k)))).collect();
    for (rows, outer) in there.iter().zip(outer).skip(1) {
        let mut next = Vec::new();
        for (k, before) in &joined {
            let partners: Vec<&Row> = rows.iter().filter(|r| k.is_some() && r.0 == *k).collect();
            if partners.is_empty() && *outer {
                next.push((*k, format!("null null {before}")));
            }
            next.extend(partners.iter().map(|(of, v)| (*k, format!("{v} {} {before}", text(*of)))));
        }
        joined = next;
    }
    let mut rows: Vec<String> = joined.into_iter().map(|j| j.1).collect();
    rows.sort();
    rows
}

pub(super) fn text(n: Option<i64>) -> String {
    n.map_or("null".to_owned(), |n| n.to_string())
}

/// What a test chooses at random of one step.
#[derive(Debug, Clone, Copy)]
enum Move {
    Come { input: usize, k: i64, v: i64 },
    Go { input: usize, which: usize },
    Save,
    Crash(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        10 => (0usize..4, 0i64..4, 0i64..3).prop_map(|(input, k, v)| Move::Come { input, k, v }),
        6 => (0usize..4, 0usize..64).prop_map(|(input, which)| Move::Go { input, which }),
        1 => Just(Move::Save),
        1 => prop::sample::select(vec![1usize, 2, 7]).prop_map(Move::Crash),
    ];
    prop::collection::vec(one, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_join_of_several_inputs_is_what_nested_loops_make_of_the_rows_left(
        moves in moves(), inputs in 3usize..5, outer: [bool; 3], retracts: [bool; 4], cut in 1usize..6, every in 0usize..3,
    ) {
        let outer: Vec<bool> = std::iter::once(false).chain(outer).take(inputs).collect();
        let spec = spec(&outer, &retracts[..inputs]);
        let space = Arc::<MemorySpace>::default();
        let make = made(&spec);
        let make = || pressed_if(make(), every, &space);
        let mut crew = Crew::new(&make, 1);
        let mut table = Table::default();
        let mut there: Vec<Vec<Row>> = vec![Vec::new(); inputs];
        let mut held: (usize, Vec<(i8, Row)>) = (0, Vec::new());
        for one in moves.into_iter().chain([Move::Save]) {
            let change = match one {
                Move::Come { input, k, v } => {
                    let row = ((k > 0).then_some(k), v);
                    there[input % inputs].push(row);
                    Some((input % inputs, 1, row))
                }
                Move::Go { input, which } if spec.retracts[input % inputs] => {
                    let input = input % inputs;
                    let row = match there[input].len() {
                        // One that never was.
                        0 => (Some(1), 99),
                        all => there[input].swap_remove(which % all),
                    };
                    Some((input, -1, row))
                }
                Move::Go { .. } => continue,
                _ => None,
            };
            if change.is_none_or(|(input, ..)| input != held.0) || held.1.len() >= cut {
                if !held.1.is_empty() {
                    table.take(&crew.step(&[0], Event::Batch { input: held.0, batch: batch(&held.1) }));
                }
                held.1.clear();
            }
            match (change, one) {
                (Some((input, sign, row)), _) => {
                    held.0 = input;
                    held.1.push((sign, row));
                }
                (None, Move::Crash(tasks)) => crew = crew.crash(&make, tasks),
                (None, _) => {
                    let done: Vec<Vec<Row>> = there.clone();
                    crew.save();
                    prop_assert_eq!(table.rows(), nested_loops(&done, &outer));
                }
            }
        }
    }
}

#[test]
fn what_comes_out_is_cut_and_nothing_but_rows_is_remembered() {
    let spec = spec(&[false, false, false], &[false; 3]);
    let mut operator = made(&spec)();
    let many: Vec<(i8, Row)> = (0..200).map(|v| (1, (Some(1), v))).collect();
    let mut out = Capture::default();
    for input in 0..3 {
        operator
            .step(Event::Batch { input, batch: batch(&many[..if input == 2 { 3 } else { 200 }]) }, &mut out)
            .expect("steps");
    }
    assert!(out.emitted.iter().all(|(_, b)| b.len() <= ROWS_MAX));
    assert_eq!(out.emitted.iter().map(|(_, b)| b.len()).sum::<usize>(), 200 * 200 * 3);
    assert!(operator.state_bytes() < 100_000, "403 rows, not 40,000 pairs: {} bytes", operator.state_bytes());
}

#[test]
fn the_first_row_of_a_left_join_takes_nulls_back_and_the_last_brings_them_again() {
    let spec = spec(&[false, false, true], &[true; 3]);
    let mut operator = made(&spec)();
    let mut told = |input: usize, sign: i8, row: Row| {
        let mut out = Capture::default();
        operator.step(Event::Batch { input, batch: batch(&[(sign, row)]) }, &mut out).expect("steps");
        let mut all = Vec::new();
        for (_, batch) in &out.emitted {
            let kinds = batch.kinds.clone();
            for (i, text) in crate::testing::render(&batch.rows, false).into_iter().enumerate() {
                let gone = kinds.as_ref().is_some_and(|k| k.value(i) != 0);
                all.push(format!("{}{text}", if gone { "-D " } else { "" }));
            }
        }
        all
    };
    let none: [&str; 0] = [];
    assert_eq!(told(0, 1, (Some(1), 10)), none);
    assert_eq!(told(2, 1, (Some(1), 30)), none);
    assert_eq!(told(1, 1, (Some(1), 20)), ["30 1 20 1 10 1"]);
    assert_eq!(told(2, -1, (Some(1), 30)), ["-D 30 1 20 1 10 1", "null null 20 1 10 1"]);
    assert_eq!(told(2, 1, (Some(1), 31)), ["-D null null 20 1 10 1", "31 1 20 1 10 1"]);
    assert_eq!(told(1, -1, (Some(1), 20)), ["-D 31 1 20 1 10 1"]);
    assert_eq!(told(0, 1, (None, 11)), none, "a key of NULL meets nobody, and the second input is needed");
}
