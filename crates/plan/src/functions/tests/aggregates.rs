use super::{SessionZone, register};
use arrow::array::{
    ArrayRef, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::Accumulator;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, PhysicalSortExpr};
use std::sync::Arc;

/// An aggregate over the column `x`, with further constants, in the order of `by` if that is given.
fn aggregate(
    name: &str,
    columns: &[(&str, ArrayRef)],
    more: &[ScalarValue],
    distinct: bool,
) -> Result<AggregateFunctionExpr> {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(n, c)| (*n, c.clone(), true)))?;
    let schema: Arc<Schema> = batch.schema();
    let mut args: Vec<Arc<dyn PhysicalExpr>> = vec![Arc::new(Column::new("x", 0))];
    args.extend(more.iter().map(|v| Arc::new(Literal::new(v.clone())) as Arc<dyn PhysicalExpr>));
    let function = register(&SessionZone::UTC).aggregate(name).expect("an aggregate");
    let order = columns
        .iter()
        .position(|(n, _)| *n == "by")
        .map(|at| PhysicalSortExpr::new_default(Arc::new(Column::new("by", at)) as Arc<dyn PhysicalExpr>));
    let builder =
        AggregateExprBuilder::new(function, args).schema(schema).alias("result").order_by(order.into_iter().collect());
    if distinct { builder.distinct() } else { builder }.build()
}

/// The result of all rows at once, which must be that of the rows in two parts that are merged, and that of all rows and some
/// more that are taken away again.
fn result(name: &str, column: ArrayRef, distinct: bool) -> Result<ScalarValue> {
    let expr = aggregate(name, &[("x", column.clone())], &[], distinct)?;
    let mut whole = expr.create_accumulator()?;
    whole.update_batch(std::slice::from_ref(&column))?;
    let answer = whole.evaluate();
    assert_eq!(
        answer.as_ref().map(|v| v.data_type()).unwrap_or(expr.field().data_type().clone()),
        *expr.field().data_type()
    );
    let cut = column.len() / 2;
    let mut merged = expr.create_accumulator()?;
    for part in [column.slice(cut, column.len() - cut), column.slice(0, cut)] {
        let mut own = expr.create_accumulator()?;
        own.update_batch(&[part])?;
        let state = own.state()?.iter().map(|s| s.to_array()).collect::<Result<Vec<_>>>()?;
        merged.merge_batch(&state)?;
    }
    same(&answer, &merged.evaluate(), name);
    let mut back: Box<dyn Accumulator> = expr.create_accumulator()?;
    if back.supports_retract_batch() && !distinct {
        back.update_batch(std::slice::from_ref(&column))?;
        back.update_batch(&[column.slice(0, cut)])?;
        back.retract_batch(&[column.slice(0, cut)])?;
        same(&answer, &back.evaluate(), name);
    }
    answer
}

fn same(a: &Result<ScalarValue>, b: &Result<ScalarValue>, name: &str) {
    match (a, b) {
        (Ok(a), Ok(b)) => assert_eq!(a, b, "{name}"),
        (a, b) => assert_eq!(a.is_err(), b.is_err(), "{name}: {a:?} {b:?}"),
    }
}

fn ints(values: &[Option<i32>]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

fn doubles(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

fn decimals(values: &[i128]) -> ArrayRef {
    Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(10, 2).expect("a DECIMAL"))
}

#[test]
fn sums_and_means_have_flinks_types() {
    let some = ints(&[Some(5), None, Some(-8), Some(-4)]);
    assert_eq!(result("sum", some.clone(), false).unwrap(), ScalarValue::Int32(Some(-7)));
    assert_eq!(result("avg", some, false).unwrap(), ScalarValue::Int32(Some(-2)));
    assert_eq!(result("sum", ints(&[None]), false).unwrap(), ScalarValue::Int32(None));
    assert_eq!(result("avg", ints(&[]), false).unwrap(), ScalarValue::Int32(None));
    let cents = decimals(&[100, 100, 0]);
    assert_eq!(result("sum", cents.clone(), false).unwrap(), ScalarValue::Decimal128(Some(200), 38, 2));
    assert_eq!(result("avg", cents, false).unwrap(), ScalarValue::Decimal128(Some(666_667), 38, 6));
    let floats: ArrayRef = Arc::new(Float32Array::from(vec![1.5, 2.0]));
    assert_eq!(result("sum", floats, false).unwrap(), ScalarValue::Float32(Some(3.5)));
}

#[test]
fn an_overflow_is_an_error_that_says_what_to_do() {
    let error = result("sum", ints(&[Some(i32::MAX), Some(1)]), false).expect_err("too large");
    assert!(error.to_string().contains("SUM(CAST(x AS BIGINT))"), "{error}");
    let longs: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, 1, -2]));
    assert_eq!(result("sum", longs, false).unwrap(), ScalarValue::Int64(Some(i64::MAX - 1)));
}

#[test]
fn doubles_are_summed_exactly() {
    let values = doubles(&[1e100, 0.1, 1.0, -1e100, 0.2]);
    assert_eq!(result("sum", values.clone(), false).unwrap(), ScalarValue::Float64(Some(1.3)));
    assert_eq!(result("avg", values, false).unwrap(), ScalarValue::Float64(Some(1.3 / 5.0)));
}

#[test]
fn variances_survive_large_means() {
    let values = doubles(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]);
    for (name, wanted) in [
        ("var_pop", 22.5),
        ("var_samp", 30.0),
        ("variance", 30.0),
        ("stddev", 30f64.sqrt()),
        ("stddev_pop", 22.5f64.sqrt()),
    ] {
        assert_eq!(result(name, values.clone(), false).unwrap(), ScalarValue::Float64(Some(wanted)), "{name}");
    }
    assert_eq!(result("var_samp", doubles(&[1.0]), false).unwrap(), ScalarValue::Float64(None));
    assert_eq!(result("var_pop", doubles(&[1.0]), false).unwrap(), ScalarValue::Float64(Some(0.0)));
    assert_eq!(result("stddev_pop", doubles(&[]), false).unwrap(), ScalarValue::Float64(None));
}

#[test]
fn distinct_counts_each_value_once() {
    assert_eq!(result("sum", ints(&[Some(2), Some(2), Some(3), None]), true).unwrap(), ScalarValue::Int32(Some(5)));
    assert_eq!(result("avg", doubles(&[1.0, 1.0, 4.0]), true).unwrap(), ScalarValue::Float64(Some(2.5)));
}

#[test]
fn listagg_first_and_last_keep_the_order_and_leave_nulls_out() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![None, Some("b"), Some("é"), None]));
    for (name, more, wanted) in [
        ("listagg", vec![], Some("b,é")),
        ("listagg", vec![ScalarValue::from("--")], Some("b--é")),
        ("first_value", vec![], Some("b")),
        ("last_value", vec![], Some("é")),
    ] {
        let expr = aggregate(name, &[("x", texts.clone())], &more, false).unwrap();
        let mut accumulator = expr.create_accumulator().unwrap();
        let columns: Vec<ArrayRef> =
            std::iter::once(texts.clone()).chain(more.iter().map(|m| m.to_array_of_size(4).unwrap())).collect();
        accumulator.update_batch(&columns).unwrap();
        assert_eq!(accumulator.evaluate().unwrap(), ScalarValue::Utf8(wanted.map(str::to_string)), "{name}");
        let mut empty = expr.create_accumulator().unwrap();
        assert_eq!(empty.evaluate().unwrap(), ScalarValue::Utf8(None), "{name} of nothing");
    }
}

#[test]
fn ordered_parts_merge_in_order() {
    let parts: [(ArrayRef, ArrayRef); 2] = [
        (Arc::new(StringArray::from(vec!["b", "d"])), ints(&[Some(2), Some(4)])),
        (Arc::new(StringArray::from(vec!["a", "c"])), ints(&[Some(1), Some(3)])),
    ];
    for (name, wanted) in [("listagg", "a,b,c,d"), ("first_value", "a"), ("last_value", "d")] {
        let expr = aggregate(name, &[("x", parts[0].0.clone()), ("by", parts[0].1.clone())], &[], false).unwrap();
        let mut merged = expr.create_accumulator().unwrap();
        for (values, by) in &parts {
            let mut own = expr.create_accumulator().unwrap();
            own.update_batch(&[values.clone(), by.clone()]).unwrap();
            let state: Vec<ArrayRef> = own.state().unwrap().iter().map(|s| s.to_array().unwrap()).collect();
            merged.merge_batch(&state).unwrap();
        }
        assert_eq!(merged.evaluate().unwrap(), ScalarValue::from(wanted), "{name}");
    }
}

#[test]
fn state_fields_are_what_the_state_is() {
    for (name, column) in
        [("sum", ints(&[Some(1)])), ("avg", doubles(&[1.0])), ("stddev", doubles(&[1.0])), ("sum", decimals(&[1]))]
    {
        for distinct in [false, true] {
            let expr = aggregate(name, &[("x", column.clone())], &[], distinct).unwrap();
            let mut accumulator = expr.create_accumulator().unwrap();
            accumulator.update_batch(std::slice::from_ref(&column)).unwrap();
            let states: Vec<DataType> = accumulator.state().unwrap().iter().map(ScalarValue::data_type).collect();
            let fields: Vec<DataType> = expr.state_fields().unwrap().iter().map(|f| f.data_type().clone()).collect();
            assert_eq!(states, fields, "{name} distinct {distinct}");
        }
    }
}

#[test]
fn percentiles_take_their_fraction_as_an_argument() {
    let values = doubles(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    let more = [ScalarValue::Float64(Some(0.5))];
    let expr = aggregate("approx_percentile", &[("x", values.clone())], &more, false).unwrap();
    let mut accumulator = expr.create_accumulator().unwrap();
    accumulator.update_batch(&[values, more[0].to_array_of_size(5).unwrap()]).unwrap();
    assert_eq!(accumulator.evaluate().unwrap(), ScalarValue::Float64(Some(3.0)));
    assert!(register(&SessionZone::UTC).aggregate("APPROX_COUNT_DISTINCT").is_some());
}

#[test]
fn variances_of_whole_numbers_are_exact() {
    let four = ints(&[Some(1), Some(2), None, Some(3), Some(4)]);
    assert_eq!(
        result("var_pop", arrow::compute::cast(&four, &DataType::Int64).unwrap(), false).unwrap(),
        ScalarValue::Float64(Some(1.25))
    );
    assert_eq!(result("var_pop", decimals(&[100, 200]), false).unwrap(), ScalarValue::Float64(Some(0.25)));
    let far: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX, i64::MAX - 1, i64::MAX - 2]));
    assert_eq!(result("var_samp", far, false).unwrap(), ScalarValue::Float64(Some(1.0)));
    assert!(
        matches!(result("var_pop", doubles(&[1.0, f64::INFINITY]), false).unwrap(), ScalarValue::Float64(Some(v)) if v.is_nan())
    );
}
