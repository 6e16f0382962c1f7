use super::*;
use crate::testing::render;
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use millstream_core::multiset::multiset_of;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("a batch")
}

fn call(function: AggregateFunction, arg: usize, kind: DataType) -> AggregateCall {
    AggregateCall { function, args: vec![arg], distinct: false, filter: None, result: Field::new("r", kind, true) }
}

/// The results over all rows in one group, which must not depend on how the rows are cut, merged, or moved about.
fn aggregate(calls: &[AggregateCall], rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let plan = Plan::new(calls, &rows.schema(), Some(0), None)?;
    let mut whole = Accumulators::new(&plan);
    whole.resize(1);
    whole.update(Groups::One, &plan.prepare(rows)?, 0..rows.num_rows())?;
    let results = whole.finish(0..1)?;

    let half = rows.num_rows() / 2;
    let (mut left, mut right) = (Accumulators::new(&plan), Accumulators::new(&plan));
    for (part, range) in [(&mut left, 0..half), (&mut right, half..rows.num_rows())] {
        part.resize(3);
        let prepared = plan.prepare(rows)?;
        for row in range {
            part.update(Groups::Each(&[2]), &prepared, row..row + 1)?;
        }
    }
    let (mut left, right) = (through_tables(&mut left, &plan)?, through_tables(&mut right, &plan)?);
    left.merge(&[0, 1, 2], &right)?;
    left.swap_remove(0);
    assert_eq!(left.finish_ids(&[0])?, results, "row by row, in halves, merged and moved");
    left.merge_within(1, 0)?;
    left.reset(0);
    assert_eq!(left.finish_ids(&[1])?, results, "merged within");
    if plan.records_only() {
        let mut other = Accumulators::new(&plan);
        other.resize(1);
        other.merge_partials(&[0], &left.partials(1..2), 0..1)?;
        assert_eq!(other.finish(0..1)?, results, "through partials");
    }
    if plan.invertible() {
        left.resize(2);
        left.merge(&[1], &whole)?;
        left.unmerge(&[1], &whole)?;
        assert_eq!(left.finish_ids(&[1])?, results, "added and taken away");
    }
    Ok(results)
}

/// The groups as they come back from tables, with the distinct sets loaded before the groups or behind them.
fn through_tables(from: &mut Accumulators, plan: &Arc<Plan>) -> Result<Accumulators> {
    let groups: Vec<u32> = (0..from.groups() as u32).collect();
    let columns = from.save(&groups)?;
    let kinds: Vec<DataType> = columns.iter().map(|c| c.data_type().clone()).collect();
    let fields = plan.saved_fields(&mut Names::default());
    assert_eq!(kinds, fields.iter().map(|f| f.data_type().clone()).collect::<Vec<_>>(), "as declared");
    let sets = (0..plan.distinct_sets()).map(|set| from.save_distinct(set, true)).collect::<Result<Vec<_>>>()?;
    let load = |sets_first: bool| -> Result<Accumulators> {
        let mut to = Accumulators::new(plan);
        to.resize(groups.len());
        for of_sets in [sets_first, !sets_first] {
            if !of_sets {
                to.load(&groups, &columns)?;
                continue;
            }
            for (set, e) in sets.iter().enumerate() {
                to.load_distinct(set, &e.groups, &e.values, &e.masks)?;
            }
        }
        assert_eq!(to.save(&groups)?, columns, "saved again");
        Ok(to)
    };
    load(false)?;
    load(true)
}

fn text(results: Vec<ArrayRef>) -> String {
    let columns = results.into_iter().enumerate().map(|(i, c)| (format!("c{i}"), c, true));
    render(&RecordBatch::try_from_iter_with_nullable(columns).expect("a batch"), false)[0].clone()
}

fn times(n: usize) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from((0..n as i64).rev().collect::<Vec<_>>()))
}

#[test]
fn decimals_sum_and_average_as_in_flink() {
    let x = Decimal128Array::from(vec![Some(100), Some(100), None, Some(-1)]).with_precision_and_scale(10, 2);
    let rows = batch(vec![("ts", times(4)), ("x", Arc::new(x.expect("fits")))]);
    use AggregateFunction::*;
    let results = aggregate(
        &[
            call(Sum, 1, DataType::Decimal128(38, 2)),
            call(Avg, 1, DataType::Decimal128(38, 6)),
            call(Min, 1, DataType::Decimal128(10, 2)),
            call(Max, 1, DataType::Decimal128(10, 2)),
            call(VarPop, 1, DataType::Float64),
        ],
        &rows,
    )
    .expect("aggregates");
    assert_eq!(results[0].as_primitive::<Decimal128Type>().value(0), 199);
    assert_eq!(results[1].as_primitive::<Decimal128Type>().value(0), 663_333, "1.99 / 3, half away from zero");
    assert_eq!(text(results[2..4].to_vec()), "-0.01 1.00");
    assert!((results[4].as_primitive::<Float64Type>().value(0) - 0.226_688_888).abs() < 1e-6);
}

#[test]
fn a_sum_may_pass_its_type_on_the_way_but_not_in_the_end() {
    let sum = |values: Vec<i64>| {
        let rows = batch(vec![("ts", times(values.len())), ("x", Arc::new(Int64Array::from(values)))]);
        aggregate(&[call(AggregateFunction::Sum, 1, DataType::Int64)], &rows)
    };
    assert_eq!(text(sum(vec![i64::MAX, 1, -1]).expect("fits")), i64::MAX.to_string());
    let error = sum(vec![i64::MAX, 1]).expect_err("does not fit");
    assert!(error.to_string().contains("CAST the argument to a wider type"), "{error}");
}

#[test]
fn a_decimal_sum_may_pass_38_digits_on_the_way() {
    let much = 9 * 10i128.pow(37);
    let x = Decimal128Array::from(vec![much, much, much, -much, -much, -1]).with_precision_and_scale(38, 2);
    let rows = batch(vec![("ts", times(6)), ("x", Arc::new(x.expect("fits")))]);
    let sum = call(AggregateFunction::Sum, 1, DataType::Decimal128(38, 2));
    // Its first half is beyond what the column of a table takes.
    let results = aggregate(std::slice::from_ref(&sum), &rows).expect("aggregates");
    assert_eq!(results[0].as_primitive::<Decimal128Type>().value(0), much - 1);
    let plan = Plan::new(&[sum], &rows.schema(), None, None).expect("plans");
    let mut half = Accumulators::new(&plan);
    half.resize(1);
    half.update(Groups::One, &plan.prepare(&rows).expect("prepares"), 0..3).expect("adds");
    let columns = half.save(&[0]).expect("saves");
    // Rows, NULLs, the sum, and what it does not hold.
    assert_eq!((columns[2].is_null(0), columns[3].is_null(0)), (true, false));
}

#[test]
fn averages_of_integers_are_integers_rounded_toward_zero() {
    let rows = batch(vec![("ts", times(3)), ("x", Arc::new(Int32Array::from(vec![-1, -1, -3])))]);
    let average = aggregate(&[call(AggregateFunction::Avg, 1, DataType::Int32)], &rows);
    assert_eq!(text(average.expect("aggregates")), "-1");
}

#[test]
fn floats_of_every_size_sum_exactly() {
    let x = Float64Array::from(vec![1e308, 1.0, -1e308, 1e-300, f64::MAX, -f64::MAX, -1e-300]);
    let rows = batch(vec![("ts", times(7)), ("x", Arc::new(x))]);
    use AggregateFunction::*;
    let calls = [Sum, Avg, Min, Max].map(|f| call(f, 1, DataType::Float64));
    let results = aggregate(&calls, &rows).expect("aggregates");
    let values: Vec<f64> = results.iter().map(|r| r.as_primitive::<Float64Type>().value(0)).collect();
    assert_eq!(values, [1.0, 1.0 / 7.0, -f64::MAX, f64::MAX]);
}

#[test]
fn a_group_without_values_is_null_and_counts_nothing() {
    let x: ArrayRef = Arc::new(Int64Array::from(vec![None, None]));
    let name: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>, None]));
    let rows = batch(vec![("ts", times(2)), ("x", x), ("name", name)]);
    use AggregateFunction::*;
    let int = DataType::Int64;
    let mut calls: Vec<AggregateCall> =
        [Count, Sum, Avg, Min, Max, VarSamp, StddevPop, FirstValue].map(|f| call(f, 1, int.clone())).to_vec();
    calls.push(AggregateCall { distinct: true, ..call(Count, 1, int.clone()) });
    calls.push(call(Min, 2, DataType::Utf8));
    calls.push(call(ListAgg { separator: ",".into() }, 2, DataType::Utf8));
    calls.push(call(Collect, 2, multiset_of(&DataType::Utf8)));
    calls.push(call(ApproxCountDistinct, 2, int.clone()));
    calls.push(call(ApproxPercentile { fraction: 0.5 }, 1, DataType::Float64));
    let results = aggregate(&calls, &rows).expect("aggregates");
    assert_eq!(text(results), "0 null null null null null null null 0 null null {} 0 null");
}

#[test]
fn moments_and_lists_and_edges_go_by_time_not_by_arrival() {
    let x: ArrayRef =
        Arc::new(Int64Array::from(vec![Some(2), Some(4), Some(4), None, Some(5), Some(5), Some(7), Some(9), Some(4)]));
    let rows = batch(vec![("ts", times(9)), ("x", x)]);
    use AggregateFunction::*;
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    let calls = [
        call(VarPop, 1, DataType::Float64),
        call(StddevPop, 1, DataType::Float64),
        call(VarSamp, 1, DataType::Int64),
        call(FirstValue, 1, DataType::Int64),
        call(LastValue, 1, DataType::Int64),
        call(ArrayAgg, 1, list),
    ];
    let results = aggregate(&calls, &rows).expect("aggregates");
    assert_eq!(text(results), "4.0 2.0 4 4 2 [4;9;7;5;5;;4;4;2]".replace(";;", ";null;"));
}

#[test]
fn a_multiset_counts_values_in_their_order() {
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(-2), None, Some(7), Some(0), Some(7)]));
    let name: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), Some(""), None, Some("é"), Some("b"), Some("a")]));
    let double: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0, f64::NAN, 1.5, -f64::NAN, 0.0]));
    let rows = batch(vec![("ts", times(6)), ("x", x), ("name", name), ("double", double)]);
    let collect = |column: usize, kind: &DataType| call(AggregateFunction::Collect, column, multiset_of(kind));
    let once = |call: AggregateCall| AggregateCall { distinct: true, ..call };
    let calls = [
        collect(1, &DataType::Int64),
        once(collect(1, &DataType::Int64)),
        collect(2, &DataType::Utf8),
        collect(3, &DataType::Float64),
    ];
    let results = aggregate(&calls, &rows).expect("aggregates");
    let wanted = "{-2:_1;0:_1;7:_3} {-2:_1;0:_1;7:_1} {:_1;a:_1;b:_2;é:_1} {0.0:_3;1.5:_1;NaN:_2}";
    assert_eq!(text(results), wanted);
}

#[test]
fn approximations_are_near_and_exact_for_small_numbers() {
    let values: Vec<i64> = (0..50_000).map(|i| i * 7919 % 20_000).collect();
    let rows = batch(vec![("ts", times(values.len())), ("x", Arc::new(Int64Array::from(values)))]);
    use AggregateFunction::*;
    let calls =
        [call(ApproxCountDistinct, 1, DataType::Int64), call(ApproxPercentile { fraction: 0.9 }, 1, DataType::Float64)];
    let results = aggregate(&calls, &rows).expect("aggregates");
    let distinct = results[0].as_primitive::<Int64Type>().value(0);
    assert!((19_500..20_500).contains(&distinct), "{distinct}");
    let percentile = results[1].as_primitive::<Float64Type>().value(0);
    assert!((17_999.0 * (1.0 - 1.0 / 256.0)..=18_000.0).contains(&percentile), "{percentile}");
    let few: Vec<i64> = (0..101).map(|i| i * 7919 % 101).collect();
    let few = batch(vec![("ts", times(few.len())), ("x", Arc::new(Int64Array::from(few)))]);
    let results = aggregate(&calls, &few).expect("aggregates");
    assert!((100..=102).contains(&results[0].as_primitive::<Int64Type>().value(0)));
    assert_eq!(results[1].as_primitive::<Float64Type>().value(0), 90.0);
}

#[test]
fn a_group_without_values_has_none_beside_one_that_has() {
    let rows = batch(vec![("n", Arc::new(Int64Array::from(vec![Some(5), None, Some(3), None])) as ArrayRef)]);
    let built = datafusion_physical_expr::aggregate::AggregateExprBuilder::new(
        datafusion_functions_aggregate::bit_and_or_xor::bit_xor_udaf(),
        vec![Arc::new(datafusion_physical_expr::expressions::Column::new("n", 0))],
    )
    .schema(rows.schema())
    .alias("r")
    .build()
    .expect("builds");
    let kernel = call(AggregateFunction::Kernel(Arc::new(built)), 0, DataType::Int64);
    let plan = Plan::new(&[kernel], &rows.schema(), None, None).expect("plans");
    let mut state = Accumulators::new(&plan);
    state.resize(4);
    let prepared = plan.prepare(&rows).expect("prepares");
    // Group 3 has had a value when group 1 is given NULL; group 2 is never given anything.
    state.update(Groups::Each(&[3]), &prepared, 0..1).expect("updates");
    state.update(Groups::Each(&[1, 3, 1]), &prepared, 1..4).expect("updates");
    let results = state.finish(0..4).expect("finishes");
    assert_eq!(results[0].as_primitive::<Int64Type>(), &Int64Array::from(vec![None, None, None, Some(6)]));
}

#[test]
fn any_aggregate_of_the_library_is_a_kernel() {
    use datafusion_functions_aggregate as functions;
    use datafusion_physical_expr::aggregate::AggregateExprBuilder;
    use datafusion_physical_expr::expressions::Column;
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), Some(1), None, Some(3), Some(9)]));
    let y = arrow::compute::cast(&x, &DataType::Float64).expect("casts");
    let rows = batch(vec![("ts", times(5)), ("x", x), ("y", y)]);
    // One with grouped accumulators, one with single ones only.
    for (function, at, wanted) in [
        (functions::median::median_udaf(), 1, "4"),
        (functions::bit_and_or_xor::bit_xor_udaf(), 1, "14"),
        (functions::approx_median::approx_median_udaf(), 2, "3"),
    ] {
        let built =
            AggregateExprBuilder::new(function, vec![Arc::new(Column::new(if at == 1 { "x" } else { "y" }, at))])
                .schema(rows.schema())
                .alias("r")
                .build()
                .expect("builds");
        let kernel = call(AggregateFunction::Kernel(Arc::new(built)), at, DataType::Int64);
        assert_eq!(text(aggregate(&[kernel], &rows).expect("aggregates")), wanted);
    }
}

#[test]
fn a_kernel_without_values_is_null_also_beside_groups_that_have_some() {
    use datafusion_functions_aggregate::bit_and_or_xor::bit_xor_udaf;
    use datafusion_physical_expr::aggregate::AggregateExprBuilder;
    use datafusion_physical_expr::expressions::Column;
    let x: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), Some(3), None, Some(9)]));
    let big: ArrayRef = Arc::new(BooleanArray::from(vec![false, false, true, true]));
    let rows = batch(vec![("ts", times(4)), ("x", x), ("big", big)]);
    let built = AggregateExprBuilder::new(bit_xor_udaf(), vec![Arc::new(Column::new("x", 1))])
        .schema(rows.schema())
        .alias("r")
        .build()
        .expect("builds");
    let kernel = call(AggregateFunction::Kernel(Arc::new(built)), 1, DataType::Int64);
    let calls = [kernel.clone(), AggregateCall { filter: Some(2), ..kernel }];
    let plan = Plan::new(&calls, &rows.schema(), Some(0), None).expect("plans");
    let mut groups = Accumulators::new(&plan);
    groups.resize(4);
    let prepared = plan.prepare(&rows).expect("prepares");
    // Group 0 is known when group 1, whose only value is NULL, comes beside it; group 2 has no row.
    groups.update(Groups::Each(&[0]), &prepared, 0..1).expect("adds");
    groups.update(Groups::Each(&[0, 1, 3]), &prepared, 1..4).expect("adds");
    let results = groups.finish(0..4).expect("finishes");
    let values = |column: &ArrayRef| column.as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
    assert_eq!(values(&results[0]), [Some(6), None, None, Some(9)]);
    assert_eq!(values(&results[1]), [None, None, None, Some(9)]);
}

#[test]
fn numbers_are_asked_for_where_numbers_are_needed() {
    let rows = batch(vec![("ts", times(1)), ("x", Arc::new(StringArray::from(vec!["a"])))]);
    let error = aggregate(&[call(AggregateFunction::Sum, 1, DataType::Int64)], &rows).expect_err("text");
    assert!(error.to_string().contains("CAST the argument to a number"), "{error}");
}
