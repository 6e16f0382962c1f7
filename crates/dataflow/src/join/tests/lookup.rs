//! Look-ups as timelines, over a table that answers at once and one that takes its time.

use super::*;
use crate::graph::{Calc, LookupJoin};
use crate::join::{Steps, asking};
use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::Int64Type;
use millstream_core::{Found, Lookup, TableSpec};
use proptest::prelude::*;
use std::collections::VecDeque;

/// `k` with its towns: 1 oslo; 2 rome, riga; 3 with NULL.
const TOWNS: [(i64, Option<&str>); 4] = [(1, Some("oslo")), (2, Some("rome")), (2, Some("riga")), (3, None)];

fn right() -> SchemaRef {
    let fields = [("k", DataType::Int64), ("town", DataType::Utf8)].map(|(n, t)| Field::new(n, t, true));
    Arc::new(Schema::new(fields.to_vec()))
}

/// A table whose answers can be had after they have been asked for so many times.
struct Towns {
    rows: RecordBatch,
    asks: VecDeque<(Vec<std::ops::Range<u32>>, u32)>,
    delay: u32,
}

impl Towns {
    fn after(delay: u32) -> Towns {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(TOWNS.map(|t| t.0))),
            Arc::new(StringArray::from(TOWNS.map(|t| t.1).to_vec())),
        ];
        let rows = RecordBatch::try_new(right(), columns).expect("two columns");
        Towns { rows, asks: VecDeque::new(), delay }
    }
}

impl Lookup for Towns {
    fn ask(&mut self, keys: &[ArrayRef]) -> Result<()> {
        let range = |key: Option<i64>| match key {
            Some(1) => 0..1,
            Some(2) => 1..3,
            Some(3) => 3..4,
            _ => 0..0,
        };
        self.asks.push_back((keys[0].as_primitive::<Int64Type>().iter().map(range).collect(), self.delay));
        Ok(())
    }

    fn answer(&mut self, wait: bool) -> Result<Option<Found>> {
        let (_, left) = self.asks.front_mut().expect("something was asked");
        if *left > 0 && !wait {
            *left -= 1;
            return Ok(None);
        }
        let (ranges, _) = self.asks.pop_front().expect("just seen");
        Ok(Some(Found { rows: self.rows.clone(), ranges }))
    }
}

fn people_by_time() -> Timeline {
    Timeline::new(&[("ts", timestamp()), ("k", DataType::Int64), ("who", DataType::Utf8)])
}

fn lookup(outer: bool, residual: Option<Expr>) -> LookupJoin {
    let table = TableSpec {
        name: "towns".into(),
        schema: right(),
        projection: None,
        metadata: Vec::new(),
        options: Default::default(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    };
    LookupJoin { table, steps: Vec::new(), looked_up: right(), outer, keys: vec![(1, 0)], residual }
}

fn operator(spec: &LookupJoin, delay: u32) -> Box<dyn Operator> {
    let input = people_by_time().schema();
    let fields: Vec<_> = input.fields().iter().chain(spec.looked_up.fields()).cloned().collect();
    let table = Steps::new(spec, &right()).after(Box::new(Towns::after(delay)));
    asking(spec, table, &input, &Arc::new(Schema::new(fields))).expect("the join can be made")
}

#[test]
fn a_row_comes_out_with_each_row_of_its_key() {
    let script = "
        rows       12:00:01 1 ann, 12:00:02 2 bob     -> 12:00:01 1 ann 1 oslo
                                                      -> 12:00:02 2 bob 2 rome, 12:00:02 2 bob 2 riga
        rows       12:00:03 4 eve, 12:00:03 null fay
        watermark  12:00:02
        rows       12:00:04 3 gus                     -> 12:00:04 3 gus 3 null
        end";
    people_by_time().check(|| operator(&lookup(false, None), 0), script);
}

#[test]
fn a_row_that_finds_nothing_comes_out_with_nulls_at_its_place() {
    let script = "
        rows       12:00:01 4 ann, 12:00:02 1 bob, 12:00:03 null eve   -> 12:00:01 4 ann null null
                                                                       -> 12:00:02 1 bob 1 oslo
                                                                       -> 12:00:03 null eve null null
        end";
    people_by_time().check(|| operator(&lookup(true, None), 0), script);
}

#[test]
fn a_condition_takes_partners_away_and_an_outer_row_stays() {
    // who < town
    let less = || Some(residual(2, Sign::Lt, 1, 3));
    let script = "
        rows       12:00:01 2 rim, 12:00:02 2 zoe, 12:00:03 9 ann, 12:00:04 1 ann, 12:00:05 3 ann
                   -> 12:00:01 2 rim 2 rome, 12:00:02 2 zoe null null, 12:00:03 9 ann null null
                   -> 12:00:04 1 ann 1 oslo, 12:00:05 3 ann null null
        end";
    people_by_time().check(|| operator(&lookup(true, less()), 0), script);
    let script = "
        rows       12:00:01 2 rim, 12:00:02 2 zoe, 12:00:03 9 ann, 12:00:04 1 ann
                   -> 12:00:01 2 rim 2 rome, 12:00:04 1 ann 1 oslo
        end";
    people_by_time().check(|| operator(&lookup(false, less()), 0), script);
}

#[test]
fn what_is_made_of_the_table_keeps_each_key_with_its_rows() {
    let town = Arc::new(Column::new("town", 1)) as Arc<dyn datafusion_physical_expr::PhysicalExpr>;
    let riga = Arc::new(datafusion_physical_expr::expressions::Literal::new("riga".into()));
    let not_riga = Arc::new(BinaryExpr::new(town.clone(), Sign::NotEq, riga));
    let field = |n: &str, t: DataType| Field::new(n, t, true);
    let mut spec = lookup(true, None);
    spec.steps = vec![Calc {
        filter: Some(Expr::new(not_riga, field("f", DataType::Boolean), "town <> 'riga'")),
        columns: Some(vec![Expr::new(town, field("town", DataType::Utf8), "town"), Expr::column(&right(), 0)]),
    }];
    spec.looked_up = Arc::new(Schema::new(vec![field("town", DataType::Utf8), field("k", DataType::Int64)]));
    spec.keys = vec![(1, 1)];
    assert_eq!(spec.stored_keys(), [Some(0)]);
    // NULL <> 'riga' is not true.
    let script = "
        rows       12:00:01 2 ann, 12:00:02 3 bob, 12:00:03 1 eve
                   -> 12:00:01 2 ann rome 2, 12:00:02 3 bob null null, 12:00:03 1 eve oslo 1
        end";
    people_by_time().check(|| operator(&spec, 0), script);
}

/// Keeps rows and watermarks in the order in which they came.
#[derive(Default)]
struct Captured(Vec<String>);

impl crate::operator::Output for Captured {
    fn emit(&mut self, _: usize, batch: Batch) -> Result<()> {
        assert!((1..=ROWS_MAX).contains(&batch.len()));
        let keys = batch.rows.column(1).as_primitive::<Int64Type>().iter();
        self.0.extend(keys.map(|k| k.map_or("null".into(), |k| k.to_string())));
        Ok(())
    }

    fn advance(&mut self, _: TimeDomain, to: Watermark) -> Result<()> {
        self.0.push(format!("to {}", to.0));
        Ok(())
    }

    fn set_aside(&mut self, _: crate::operator::LateRows) -> Result<()> {
        panic!("no row is late in a look-up");
    }
}

fn batch(keys: &[i64]) -> Event {
    let rows = keys.iter().map(|k| vec!["12:00:00".to_string(), k.to_string(), "x".to_string()]).collect::<Vec<_>>();
    Event::Batch { input: 0, batch: people_by_time().batch(&rows).into() }
}

#[test]
fn a_watermark_waits_behind_the_rows_that_wait_and_a_barrier_for_all() {
    let (mut operator, mut out) = (operator(&lookup(true, None), 3), Captured::default());
    assert!(operator.asks());
    operator.step(batch(&[1, 4]), &mut out).expect("steps");
    operator.step(Event::Watermark(TimeDomain::Event, Watermark(10)), &mut out).expect("steps");
    assert!(operator.state_bytes() > 0);
    // Each step asks for the answer once; the fourth time it is there, and what waited behind it comes along.
    operator.step(batch(&[2]), &mut out).expect("steps");
    assert!(out.0.is_empty());
    assert!(operator.answered(false, &mut out).expect("answers"));
    assert_eq!(out.0, ["1", "4", "to 10"]);
    // A second watermark of a domain takes the place of the first.
    let mut out = Captured::default();
    operator.step(Event::Watermark(TimeDomain::Event, Watermark(20)), &mut out).expect("steps");
    operator.step(Event::Watermark(TimeDomain::Event, Watermark(30)), &mut out).expect("steps");
    operator.step(Event::Watermark(TimeDomain::Processing, Watermark(5)), &mut out).expect("steps");
    operator.flush(&mut out).expect("flushes");
    assert_eq!(out.0.first().map(String::as_str), Some("2"));
    assert_eq!(out.0[out.0.len() - 2..], ["to 30", "to 5"]);
    assert_eq!(operator.state_bytes(), 0);
}

#[test]
fn nothing_waits_behind_a_barrier_however_slow_the_table_is() {
    let (mut operator, mut out) = (operator(&lookup(true, None), u32::MAX), Captured::default());
    operator.step(batch(&[1, 4]), &mut out).expect("steps");
    operator.step(Event::Watermark(TimeDomain::Event, Watermark(10)), &mut out).expect("steps");
    operator.step(batch(&[3]), &mut out).expect("steps");
    assert!(out.0.is_empty() && operator.state_bytes() > 0);
    operator.flush(&mut out).expect("flushes");
    assert_eq!(out.0, ["1", "4", "to 10", "3"]);
    assert_eq!(operator.state_bytes(), 0);
    // Before a channel is said to be idle as well.
    operator.step(batch(&[5]), &mut out).expect("steps");
    assert!(operator.answered(true, &mut out).expect("answers"));
    assert_eq!(out.0.last().map(String::as_str), Some("5"));
}

#[test]
fn rows_that_wait_are_bounded_and_none_is_lost_at_the_end() {
    let (mut operator, mut out) = (operator(&lookup(true, None), u32::MAX), Captured::default());
    for step in 1..=50 {
        operator.step(batch(&[7; 1000]), &mut out).expect("steps");
        assert!(step * 1000 - out.0.len() <= 8_000, "{} rows wait", step * 1000 - out.0.len());
    }
    operator.step(Event::End, &mut out).expect("ends");
    assert_eq!(out.0.len(), 50_000);
    assert!(operator.tables().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the delay, rows and watermarks come out in the order in which they came in.
    #[test]
    fn the_order_does_not_depend_on_when_answers_come(
        events in prop::collection::vec(prop_oneof![
            prop::collection::vec(0i64..6, 1..5).prop_map(Some),
            Just(None),
        ], 1..40),
        delay in 0u32..9,
        outer in any::<bool>(),
        tested in any::<bool>(),
    ) {
        let spec = lookup(outer, tested.then(|| residual(2, Sign::Gt, 1, 3)));
        let play = |delay: u32| {
            let (mut operator, mut out) = (operator(&spec, delay), Captured::default());
            for (at, event) in events.iter().enumerate() {
                let event = match event {
                    Some(keys) => batch(keys),
                    None => Event::Watermark(TimeDomain::Event, Watermark(at as i64)),
                };
                operator.step(event, &mut out).expect("steps");
                if at % 7 == 6 {
                    operator.flush(&mut out).expect("flushes");
                    assert_eq!(operator.state_bytes(), 0, "rows wait behind a barrier");
                }
            }
            operator.step(Event::End, &mut out).expect("ends");
            out.0
        };
        let at_once = play(0);
        // Of watermarks that waited together only the last is told.
        let (mut late, mut told) = (play(delay).into_iter().peekable(), at_once.into_iter().peekable());
        while let Some(next) = told.next() {
            if next.starts_with("to ") && told.peek().is_some_and(|t| t.starts_with("to ")) && late.peek() != Some(&next) {
                continue;
            }
            prop_assert_eq!(late.next(), Some(next));
        }
        prop_assert_eq!(late.next(), None);
    }
}
