//! The operators that remember nothing, or next to nothing, over one small batch each.

use crate::calc::Calc;
use crate::expand::Expand;
use crate::expr::Expr;
use crate::graph;
use crate::limit::Limit;
use crate::operator::{Event, Operator};
use crate::testing::{Capture, Timeline, render};
use crate::union::Union;
use crate::unnest::Unnest;
use arrow::array::builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow::array::{ArrayRef, AsArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_expr::Operator as Sign;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, Column, Literal};
use millstream_core::{Batch, TimeDomain, Watermark};
use std::sync::Arc;

fn schema() -> SchemaRef {
    let fields = ["a", "b", "c"].map(|name| Field::new(name, DataType::Int64, true));
    Arc::new(Schema::new(fields.to_vec()))
}

/// Rows `i, 10 i, 100 i`, with a NULL in `b` of row 2, and marks.
fn batch() -> Batch {
    let column = |factor: i64| Arc::new((0..5).map(|i| Some(i * factor)).collect::<Int64Array>()) as ArrayRef;
    let b: Int64Array = (0..5).map(|i| (i != 2).then_some(i * 10)).collect();
    let rows = RecordBatch::try_new(schema(), vec![column(1), Arc::new(b), column(100)]).expect("columns fit");
    Batch { rows, marks: Some((0..5).map(Some).collect()), kinds: None }
}

fn column(name: &str, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(name, index))
}

fn binary(left: Arc<dyn PhysicalExpr>, sign: Sign, right: i64, kind: DataType) -> Expr {
    let right = Arc::new(Literal::new(ScalarValue::Int64(Some(right))));
    Expr::new(Arc::new(BinaryExpr::new(left, sign, right)), Field::new("x", kind, true), "x")
}

fn step(operator: &mut dyn Operator, batch: Batch) -> Capture {
    let mut out = Capture::default();
    operator.step(Event::Batch { input: 0, batch }, &mut out).expect("the step succeeds");
    out
}

fn shown(out: &Capture) -> Vec<String> {
    out.emitted.iter().flat_map(|(_, b)| render(&b.rows, false)).collect()
}

fn marks(out: &Capture) -> Vec<i64> {
    out.emitted.iter().flat_map(|(_, b)| b.marks.clone().expect("marks travel along").values().to_vec()).collect()
}

#[test]
fn a_filter_keeps_what_is_true_and_the_columns_follow() {
    let columns = vec![Expr::column(&schema(), 2), binary(column("a", 0), Sign::Plus, 1, DataType::Int64)];
    let output =
        Arc::new(Schema::new(vec![Field::new("c", DataType::Int64, true), Field::new("x", DataType::Int64, true)]));
    let filter = |least| Some(binary(column("b", 1), Sign::GtEq, least, DataType::Boolean));
    let calc = |filter| {
        Calc::new(&graph::Calc { filter, columns: Some(columns.clone()) }, &schema(), output.clone()).expect("valid")
    };
    // NULL is not true.
    let some = step(&mut calc(filter(10)), batch());
    assert_eq!((shown(&some), marks(&some)), (vec!["100 2".into(), "300 4".into(), "400 5".into()], vec![1, 3, 4]));
    assert!(step(&mut calc(filter(1000)), batch()).emitted.is_empty());
    let all = step(&mut calc(None), batch());
    assert_eq!((shown(&all).len(), marks(&all)), (5, vec![0, 1, 2, 3, 4]));
    let mut filter_only =
        Calc::new(&graph::Calc { filter: filter(30), columns: None }, &schema(), schema()).expect("valid");
    assert_eq!(shown(&step(&mut filter_only, batch())), ["3 30 300", "4 40 400"]);
}

#[test]
fn a_column_handed_through_is_shared() {
    let calc = graph::Calc { filter: None, columns: Some(vec![Expr::column(&schema(), 1)]) };
    let output = Arc::new(Schema::new(vec![Field::new("b", DataType::Int64, true)]));
    let input = batch();
    let out = step(&mut Calc::new(&calc, &schema(), output).expect("valid"), input.clone());
    assert!(Arc::ptr_eq(input.rows.column(1), out.emitted[0].1.rows.column(0)));
}

#[test]
fn constants_alone_need_no_column() {
    let one =
        Expr::new(Arc::new(Literal::new(ScalarValue::Int64(Some(7)))), Field::new("x", DataType::Int64, false), "7");
    let filter = Some(binary(column("a", 0), Sign::Lt, 2, DataType::Boolean));
    let output = Arc::new(Schema::new(vec![one.field.clone()]));
    let mut calc = Calc::new(&graph::Calc { filter, columns: Some(vec![one]) }, &schema(), output).expect("valid");
    assert_eq!(shown(&step(&mut calc, batch())), ["7", "7"]);
}

#[test]
fn grouping_sets_hand_each_row_on_once_for_each_set() {
    let null =
        Expr::new(Arc::new(Literal::new(ScalarValue::Int64(None))), Field::new("a", DataType::Int64, true), "NULL");
    let rows = vec![vec![Expr::column(&schema(), 0)], vec![null]];
    let output = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let out = step(&mut Expand::new(&graph::Expand { rows }, output), batch().slice(3, 2));
    assert_eq!(
        (shown(&out), marks(&out)),
        (vec!["3".into(), "4".into(), "null".into(), "null".into()], vec![3, 4, 3, 4])
    );
}

#[test]
fn a_limit_cuts_the_batch_that_reaches_it_and_watermarks_go_on() {
    let mut limit = Limit::new(7);
    assert_eq!(step(&mut limit, batch()).emitted[0].1.len(), 5);
    assert!(!limit.reached());
    assert_eq!(step(&mut limit, batch()).emitted[0].1.len(), 2);
    assert!(limit.reached());
    assert!(step(&mut limit, batch()).emitted.is_empty());
    let mut out = Capture::default();
    limit.step(Event::Watermark(TimeDomain::Event, Watermark(3)), &mut out).expect("goes on");
    assert_eq!(out.advanced, [(TimeDomain::Event, Watermark(3))]);
}

#[test]
fn a_limit_goes_on_counting_after_a_crash() {
    let timeline = Timeline::new(&[("n", DataType::Int64)]);
    timeline.check(
        || Box::new(Limit::new(5)),
        "
        rows 1, 2     -> 1, 2
        watermark 10
        rows 3, 4     -> 3, 4
        rows 5, 6     -> 5
        rows 7
        end",
    );
}

#[test]
fn a_union_goes_by_place_and_takes_the_names_of_the_first() {
    let fields = ["x", "y", "z"].map(|name| Field::new(name, DataType::Int64, true));
    let output = Arc::new(Schema::new(fields.to_vec()));
    let out = step(&mut Union::new(output.clone()), batch());
    assert_eq!((out.emitted[0].1.rows.schema(), marks(&out)), (output, vec![0, 1, 2, 3, 4]));
}

/// `UNNEST(list)` of a table with the columns `id` and `list`, and what is appended.
fn unnest(list: ArrayRef, appended: &[(&str, DataType)], outer: bool, with_ordinality: bool) -> Capture {
    let input = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("list", list.data_type().clone(), true),
    ]));
    let ids: Int64Array = (0..list.len() as i64).map(Some).collect();
    let rows = RecordBatch::try_new(input.clone(), vec![Arc::new(ids), list]).expect("columns fit");
    let more = appended.iter().map(|(name, kind)| Arc::new(Field::new(*name, kind.clone(), true)));
    let output = Arc::new(Schema::new(input.fields().iter().cloned().chain(more).collect::<Vec<_>>()));
    let spec = graph::Unnest { array: Expr::column(&input, 1), outer, with_ordinality };
    let marks = Some((0..rows.num_rows() as i64).map(Some).collect());
    step(&mut Unnest::new(&spec, output), Batch { rows, marks, kinds: None })
}

fn without_list(out: &Capture) -> Vec<String> {
    let keep: Vec<usize> = (0..out.emitted[0].1.rows.num_columns()).filter(|c| *c != 1).collect();
    out.emitted.iter().flat_map(|(_, b)| render(&b.rows.project(&keep).expect("columns"), false)).collect()
}

#[test]
fn an_array_gives_a_row_for_each_element() {
    let mut list = ListBuilder::new(Int64Builder::new());
    list.append_value([Some(7), None]);
    list.append_null();
    list.append_value([]);
    list.append_value([Some(8)]);
    let list: ArrayRef = Arc::new(list.finish());
    let int = DataType::Int64;
    let inner = unnest(list.clone(), &[("x", int.clone())], false, false);
    assert_eq!(
        (without_list(&inner), marks(&inner)),
        (vec!["0 7".into(), "0 null".into(), "3 8".into()], vec![0, 0, 3])
    );
    let outer = unnest(list.clone(), &[("x", int.clone()), ("n", DataType::Int32)], true, true);
    assert_eq!(without_list(&outer), ["0 7 1", "0 null 2", "1 null null", "2 null null", "3 8 1"]);
    let sliced = unnest(list.slice(2, 2), &[("x", int)], false, false);
    assert_eq!(without_list(&sliced), ["1 8"]);
}

#[test]
fn a_map_gives_keys_and_values_and_a_row_gives_its_fields() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).expect("one entry");
    map.append(true).expect("no entry");
    let out = unnest(Arc::new(map.finish()), &[("key", DataType::Utf8), ("value", DataType::Int64)], false, false);
    assert_eq!(without_list(&out), ["0 k 1"]);

    let fields = Fields::from(vec![Field::new("s", DataType::Utf8, true), Field::new("i", DataType::Int64, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(Int64Array::from(vec![1, 2]))];
    let nulls = NullBuffer::from(vec![true, false]);
    let rows = StructArray::new(fields.clone(), columns, Some(nulls));
    let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
    let list = ListArray::new(item, OffsetBuffer::from_lengths([2]), Arc::new(rows), None);
    let out = unnest(Arc::new(list), &[("s", DataType::Utf8), ("i", DataType::Int64)], false, false);
    assert_eq!(without_list(&out), ["0 a 1", "0 null null"]);
}

#[test]
fn a_long_array_comes_in_pieces() {
    let mut list = ListBuilder::new(Int64Builder::new());
    list.append_value((0..20_000).map(Some));
    let out = unnest(Arc::new(list.finish()), &[("x", DataType::Int64)], false, false);
    let lengths: Vec<usize> = out.emitted.iter().map(|(_, b)| b.len()).collect();
    assert_eq!(lengths, [8_192, 8_192, 3_616]);
}

#[test]
fn a_number_in_place_of_an_array_gives_the_row_so_often_and_of_an_update_what_comes_or_goes() {
    let input =
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("n", DataType::Int64, true)]));
    // -U 1 2, +U 1 3: one more; -U 1 3, +U 2 3: another row; -U 2 3, +U 2 1: two fewer; then rows by themselves.
    let rows = [
        (0, Some(1), Some(2)),
        (1, Some(1), Some(2)),
        (2, Some(1), Some(3)),
        (1, Some(1), Some(3)),
        (2, Some(2), Some(3)),
        (1, Some(2), Some(3)),
        (2, Some(2), Some(1)),
        (1, None, Some(1)),
        (2, None, Some(2)),
        (3, Some(2), Some(1)),
        (0, Some(4), Some(0)),
        (0, Some(5), None),
        (2, Some(6), Some(-1)),
    ];
    let columns: [Int64Array; 2] = [rows.iter().map(|r| r.1).collect(), rows.iter().map(|r| r.2).collect()];
    let columns = columns.into_iter().map(|c| Arc::new(c) as ArrayRef).collect();
    let batch = RecordBatch::try_new(input.clone(), columns).expect("columns fit");
    let kinds = Some(rows.iter().map(|r| r.0).collect::<arrow::array::Int8Array>());
    let spec = graph::Unnest { array: Expr::column(&input, 1), outer: false, with_ordinality: false };
    let out = step(&mut Unnest::new(&spec, input), Batch { rows: batch, marks: None, kinds });
    let told: Vec<String> = out
        .emitted
        .iter()
        .flat_map(|(_, b)| {
            let kinds: Vec<i8> = (0..b.len()).map(|i| b.kinds.as_ref().map_or(0, |k| k.value(i))).collect();
            let ids = b.rows.column(0).as_primitive::<arrow::datatypes::Int64Type>();
            let ids: Vec<String> = ids.iter().map(|id| id.map_or("null".to_owned(), |id| id.to_string())).collect();
            kinds
                .into_iter()
                .zip(ids)
                .map(|(k, id)| format!("{}{id}", if k == 0 { "+" } else { "-" }))
                .collect::<Vec<_>>()
        })
        .collect();
    let wanted = "+1 +1 +1 -1 -1 -1 +2 +2 +2 -2 -2 +null -2";
    assert_eq!(told.join(" "), wanted);
}
