//! What the engine puts in the place of an expression (`millstream_dataflow::fuse`) says what the expression says: over
//! rows nobody thought of, with NULLs, extremes, the empty text and letters of more than one byte.

use super::*;
use arrow::array::{
    AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, LargeStringArray, StringArray, StructArray,
    TimestampMillisecondArray,
};
use arrow::compute::filter;
use arrow::datatypes::{Fields, TimeUnit};
use millstream_core::Batch;
use millstream_dataflow::calc::Calc;
use millstream_dataflow::expr::Expr as Compiled;
use millstream_dataflow::fuse::fuse;
use millstream_dataflow::graph;
use millstream_dataflow::operator::{Event, Operator};
use millstream_dataflow::testing::Capture;
use proptest::prelude::*;

/// An expression, and what of ours is to stand in its place; nothing where it is to stay.
const EXPRESSIONS: &[(&str, &str)] = &[
    ("0.908 * i", "Scaled"),
    ("i * 0.908", "Scaled"),
    ("-2.5 * i", "Scaled"),
    ("n * 0.001", "Scaled"),
    ("0.0 * i", "Scaled"),
    ("i * CAST(NULL AS DECIMAL(3, 1))", ""),
    ("CAST(0.908 * i AS DECIMAL(30, 3))", "Scaled"),
    ("0.908 * i > 1000000", "Int64(1101321)"),
    ("0.908 * i >= 1000000", "Int64(1101322)"),
    ("0.908 * i < 908", "Int64(1000)"),
    ("0.908 * i <= 908", "Int64(1000)"),
    ("908 > 0.908 * i", "Int64(1000)"),
    ("-0.5 * i < 3", "Int64(-6)"),
    ("-0.5 * i <= 3.2", "Int64(-6)"),
    ("-0.3 * i > -7", "Int64(24)"),
    ("-0.3 * i >= 7", "Int64(-24)"),
    ("0.001 * n > 2", "Int32(2000)"),
    ("0.001 * n > 2147483", "Int32(2147483000)"),
    ("0.001 * n > 2147484", "Scaled"),
    ("0.5 * i = 3", "Scaled"),
    ("0.0 * i < 3", "Scaled"),
    ("t = 'apple'", "InWords"),
    ("'apple' = LOWER(t)", "InWords"),
    ("LOWER(t) IN ('apple', 'k', 'straße', '', 'i\u{307}')", "InWords"),
    ("t IN ('apple', 'K', 'Σ')", "InWords"),
    ("LOWER(t) = 'APPLE'", "InWords"),
    ("LOWER(t) = 'apple' OR 'k' = LOWER(t) OR LOWER(t) IN ('x', 'é')", "[\"apple\", \"k\", \"x\", \"é\"]"),
    ("LOWER(t) = 'apple' OR t = 'k' OR LOWER(u) = 'a'", "InWords"),
    ("LOWER(u) IN ('aaaaaaaaaaaaaaaa', 'a', 'b', '/')", "codes: Some"),
    ("u IN ('aaaaaaaaaaaaaaaaa', 'A', '&=', '')", "codes: None"),
    ("t IN ('apple', 'k', 'x', 'é', NULL)", ""),
    ("t NOT IN ('apple', 'k', 'x', 'é')", ""),
    ("t IN ('1', '2', '3', '4', '5', '6', '7', '8', '9')", ""),
    ("large = 'apple'", ""),
    ("REGEXP_EXTRACT(u, '(&|^)id=([^&]*)', 2) IS NOT NULL OR LOWER(t) = 'apple'", "Open"),
    ("REGEXP_EXTRACT(u, '(&|^)id=([^&]*)', 2) = 'a' OR LOWER(t) = 'apple' OR i > 5", "Open"),
    ("LOWER(t) = 'apple' AND REGEXP_EXTRACT(u, 'a+') = 'a'", "Open"),
    ("REGEXP_EXTRACT(u, 'a+') = 'a' AND (i > 0 AND t <> 'x')", "Open"),
    ("SPLIT_INDEX(u, '/', 1) = 'a' AND t = 'apple' OR b", "Open"),
    ("i > 5 OR t = 'apple'", "InWords"),
    ("i > 5 OR CAST(n AS BIGINT) > 3", ""),
    ("i > 5 AND CAST(n AS BIGINT) > 3", "Open"),
    ("CASE WHEN LOWER(t) = 'apple' THEN '0' WHEN LOWER(t) IN ('k', 'straße') THEN '1' ELSE u END", "Choice"),
    ("CASE WHEN t = 'apple' THEN '0' WHEN LOWER(t) = 'apple' THEN '1' END", "Choice"),
    ("CASE WHEN i > 8 AND n < 3 THEN 'high' WHEN i < 0 OR i IS NULL THEN NULL ELSE 'other' END", "Choice"),
    ("CASE WHEN t = 'apple' THEN '0' ELSE REGEXP_EXTRACT(u, '(&|^)id=([^&]*)', 2) END", "Choice"),
    ("CASE WHEN b THEN 'yes' WHEN NOT b THEN '' ELSE SPLIT_INDEX(u, '/', 1) END", "Choice"),
    ("CASE WHEN i > 0 THEN 1 ELSE 2 END", ""),
    ("CASE WHEN n = 0 THEN i WHEN n = 1 THEN r.m ELSE i END", "Numbers"),
    ("CASE WHEN n = 0 THEN ts WHEN n = 1 THEN r.at ELSE ts END", "Pick"),
    ("CASE WHEN i = 0 THEN r.at WHEN i = 0 THEN ts WHEN i = 1 THEN ts WHEN i = -1 THEN r.at END", "Numbers"),
    ("CASE WHEN n = 0 THEN i ELSE r.m END", "Numbers"),
    ("CASE WHEN i > 0 THEN r.m WHEN b THEN NULL WHEN t = 'apple' THEN i END", "alike: No"),
    ("CASE WHEN i > 0 THEN r.m ELSE 2 END", ""),
    ("CASE WHEN i > 0 THEN n ELSE 2 END", ""),
    ("n = 1 AND r.m > 5", "Open"),
    ("n = 1 AND (r.w = 'apple' OR r.w = 'k' OR r.w = 'x' OR r.w = 'é') AND b", "Open"),
    ("r.m > 5 OR r.w = 'apple'", "InWords"),
    ("CASE WHEN i > 0 THEN t ELSE 'x' END", ""),
    ("CASE t WHEN 'apple' THEN 'a' ELSE 'b' END", ""),
    ("CHAR_LENGTH(REPLACE(t, 'p', ''))", "Without"),
    ("CHAR_LENGTH(t) - CHAR_LENGTH(REPLACE(t, 'K', ''))", "Without"),
    ("CHAR_LENGTH(REPLACE(t, 'é', ''))", ""),
    ("CHAR_LENGTH(REPLACE(t, 'pp', ''))", ""),
    ("CHAR_LENGTH(REPLACE(t, 'p', 'q'))", ""),
    ("CHAR_LENGTH(REPLACE(t, '', ''))", ""),
    ("SPLIT_INDEX(u, '/', 0)", ""),
    ("SPLIT_INDEX(u, '/', 3)", ""),
    ("SPLIT_INDEX(u, '/', 1)", ""),
    ("SPLIT_INDEX(u, '/', 1)", ""),
    ("SPLIT_INDEX(u, '&', 1)", ""),
    ("SPLIT_INDEX(u, '&', 0)", ""),
    ("SPLIT_INDEX(u, '=', 1)", ""),
    ("SPLIT_INDEX(u, '/', -1)", ""),
    ("SPLIT_INDEX(u, '/', n)", ""),
    ("SPLIT_INDEX(large, '/', 1)", ""),
    ("SPLIT_INDEX(large, '/', 2)", ""),
    ("d > 1 AND e < 2", "Open"),
    ("d <> e OR NOT d >= e", ""),
    ("d = e", ""),
    ("d BETWEEN e AND 3", "Open"),
    ("d IN (1, e, CAST('NaN' AS DOUBLE))", ""),
    ("d NOT IN (1, 2, CAST('NaN' AS DOUBLE), 4)", ""),
    ("CASE WHEN d > 1 THEN 'more' WHEN d <= e THEN 'less' ELSE 'none' END", "Choice"),
    ("CASE WHEN d < e THEN i WHEN d = e THEN r.m ELSE i END", "Pick"),
    ("e > 0 AND REGEXP_EXTRACT(u, 'a+') = 'a'", "Open"),
    ("HOUR(ts)", ""),
    ("MINUTE(ts)", ""),
];

fn schema() -> Arc<Schema> {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("i", DataType::Int64),
        field("n", DataType::Int32),
        field("t", DataType::Utf8),
        field("u", DataType::Utf8),
        field("large", DataType::LargeUtf8),
        field("b", DataType::Boolean),
        field("ts", DataType::Timestamp(TimeUnit::Millisecond, None)),
        field("r", DataType::Struct(row_fields())),
        field("d", DataType::Float64),
        field("e", DataType::Float64),
    ]))
}

fn row_fields() -> Fields {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let at = DataType::Timestamp(TimeUnit::Millisecond, None);
    vec![field("m", DataType::Int64), field("w", DataType::Utf8), field("at", at)].into()
}

fn compiled(sql: &str) -> Compiled {
    let bench = Bench::new("UTC");
    let mut parsed = Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap();
    plain_calls(&mut parsed);
    let options = ParserOptions::new().with_map_string_types_to_utf8view(false).with_parse_float_as_decimal(true);
    let columns = DFSchema::try_from(schema().as_ref().clone()).unwrap();
    let planner = SqlToRel::new_with_options(&bench, options);
    let expr = planner.sql_to_expr(parsed, &columns, &mut PlannerContext::new()).unwrap();
    // Constants are computed once, as the optimizer does.
    let context = SimplifyContext::builder().with_schema(Arc::new(columns.clone())).build();
    let expr = expr.rewrite(&mut TypeCoercionRewriter::new(&columns)).unwrap().data;
    let expr = datafusion_optimizer::simplify_expressions::ExprSimplifier::new(context).simplify(expr).unwrap();
    let physical = bench.physical(expr, &schema()).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let data_type = physical.data_type(&schema()).unwrap();
    Compiled::new(physical, Field::new(sql, data_type, true), sql)
}

#[test]
fn what_has_a_known_shape_is_replaced_and_the_rest_stays() {
    let ours = ["Scaled", "InWords", "Open", "Choice", "Pick", "Without"];
    // The product of the first may be too large for 128 bits.
    let more = [("9223372036854775807.0 * i", ""), ("CAST(0.908 * i AS DECIMAL(21, 3))", "CastExpr")];
    let mut wrong = Vec::new();
    for (sql, wanted) in EXPRESSIONS.iter().chain(&more) {
        let after = format!("{:?}", fuse(&compiled(sql), &schema()).unwrap().physical);
        let right = match *wanted {
            "" => !ours.iter().any(|name| after.contains(&format!("{name} {{"))),
            part => after.contains(part),
        };
        if !right {
            wrong.push(format!("{sql}\n    wanted {wanted:?}\n    got    {after}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

type Row = (Option<i64>, Option<i32>, Option<String>, Option<String>, Option<bool>, Option<i64>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    // Columns that are ASCII all through take ways of their own.
    any::<bool>().prop_flat_map(rows_in)
}

fn rows_in(ascii: bool) -> impl Strategy<Value = Vec<Row>> {
    let number = prop_oneof![
        8 => -30i64..30,
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(i64::MAX - 1)],
        2 => 1_101_315i64..1_101_330,
        2 => 995i64..1005,
        1 => any::<i64>(),
    ];
    let small =
        prop_oneof![4 => -5..5i32, 1 => Just(i32::MIN), 1 => Just(i32::MAX), 1 => 1998..2003i32, 1 => any::<i32>()];
    let word = if ascii {
        "(apple|APPLE|aPPle|apple\u{0}|APPLES|@|Z|k|K|x|)"
    } else {
        "(apple|aPPle|k|K|\u{212a}|Σ|σ|ς|straße|STRASSE|İ|i\u{307}|é|pépé|x|)"
    };
    let path = if ascii {
        "([aA]{15,17}|(id=|/|&|=|a|B|long-and-longer-than-sixteen-bytes|\n){0,8})"
    } else {
        "(id=|/|&|=|a|b|é|long-and-longer-than-sixteen-bytes|\n){0,8}"
    };
    let time = prop_oneof![any::<i64>().prop_map(|t| t / 1000), -100_000_000..100_000_000i64];
    prop::collection::vec(
        (
            prop::option::weighted(0.9, number),
            prop::option::weighted(0.9, small),
            prop::option::weighted(0.9, word),
            prop::option::weighted(0.9, path),
            prop::option::weighted(0.9, any::<bool>()),
            prop::option::weighted(0.9, time),
        ),
        1..40,
    )
}

fn batch(rows: &[Row]) -> RecordBatch {
    // A ROW that is NULL may still have something in its fields.
    let fields: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0.map(|i| i.wrapping_sub(3))).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.2.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.5.map(|at| at.wrapping_mul(3))).collect::<TimestampMillisecondArray>()),
    ];
    let known: Vec<bool> = rows.iter().map(|r| r.1 != Some(1) || r.4 == Some(true)).collect();
    let row: ArrayRef = Arc::new(StructArray::new(row_fields(), fields, Some(known.into())));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.1).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.2.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.3.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.3.as_deref()).collect::<LargeStringArray>()),
        Arc::new(rows.iter().map(|r| r.4).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|r| r.5).collect::<TimestampMillisecondArray>()),
        row,
        Arc::new(rows.iter().map(|r| r.0.map(float)).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.1.map(|n| float(n.into()))).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// Many of those that compare in a way of their own.
fn float(n: i64) -> f64 {
    match n.rem_euclid(7) {
        0 | 1 => f64::NAN,
        2 => 0.0,
        3 => -0.0,
        _ => n as f64,
    }
}

fn run(columns: &[Compiled], filter: Option<Compiled>, rows: RecordBatch) -> Option<RecordBatch> {
    let fields: Vec<Field> = columns.iter().map(|c| c.field.clone()).collect();
    let spec = graph::Calc { filter, columns: Some(columns.to_vec()) };
    let mut calc = Calc::new(&spec, &schema(), Arc::new(Schema::new(fields))).unwrap();
    let mut out = Capture::default();
    calc.step(Event::Batch { input: 0, batch: Batch::from(rows) }, &mut out).unwrap();
    out.emitted.pop().map(|(_, batch)| batch.rows)
}

#[test]
fn an_operator_makes_what_the_expressions_make() {
    let columns: Vec<Compiled> = EXPRESSIONS.iter().map(|(sql, _)| compiled(sql)).collect();
    let filters: Vec<Compiled> =
        columns.iter().filter(|c| *c.field.data_type() == DataType::Boolean).cloned().collect();
    proptest!(ProptestConfig::with_cases(300), |(rows in rows(), slice in 0..3usize, by in 0..filters.len())| {
        let rows = batch(&rows);
        // Columns may begin in the middle of their buffers.
        let slice = slice.min(rows.num_rows() - 1);
        let rows = rows.slice(slice, rows.num_rows() - slice);
        let wanted: Vec<ArrayRef> = columns.iter().map(|c| c.evaluate(&rows).unwrap()).collect();
        let got = run(&columns, None, rows.clone()).unwrap();
        for ((column, wanted), got) in columns.iter().zip(&wanted).zip(got.columns()) {
            prop_assert_eq!(got, wanted, "{}", column.sql);
        }
        let keep = filters[by].evaluate(&rows).unwrap();
        let got = run(&columns, Some(filters[by].clone()), rows);
        prop_assert_eq!(got.as_ref().map_or(0, RecordBatch::num_rows), keep.as_boolean().true_count());
        for (at, got) in got.iter().flat_map(|g| g.columns().iter().enumerate()) {
            let wanted = filter(&wanted[at], keep.as_boolean()).unwrap();
            prop_assert_eq!(got, &wanted, "{} WHERE {}", columns[at].sql, filters[by].sql);
        }
    });
}

/// A cast to too few digits fails as it did, and names the expression as it was written.
#[test]
fn what_fails_still_fails() {
    let narrow = compiled("CAST(0.908 * i AS DECIMAL(10, 3))");
    let row = |i| batch(&[(Some(i), None, None, None, None, None)]);
    let fused = fuse(&narrow, &schema()).unwrap();
    assert!(fused.evaluate(&row(1000)).is_ok());
    let error = fused.evaluate(&row(i64::MAX)).unwrap_err().to_string();
    assert!(error.contains("in `CAST(0.908 * i AS DECIMAL(10, 3))`"), "{error}");
    // A test that keeps another one from failing still does.
    let guarded = compiled("n <> 0 AND REGEXP_EXTRACT(u, 'a', 10 / n) IS NULL");
    let rows = batch(&[(None, Some(0), None, None, None, None), (None, Some(5), None, None, None, None)]);
    let kept = fuse(&guarded, &schema()).unwrap().evaluate(&rows).unwrap();
    assert_eq!(kept.as_boolean(), &BooleanArray::from(vec![false, true]));
}
