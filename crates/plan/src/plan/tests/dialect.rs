//! The dialect's own syntax and rules, through everything that a job goes through: a function that works by itself and
//! that nobody asks when a query is planned is of no use.

use super::{plan, try_plan};
use arrow::array::Array;
use arrow::util::display::array_value_to_string;
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, LogicalPlan};

/// The constant that the planned query has for this expression.
fn constant(sql: &str) -> ScalarValue {
    let planned = plan(&format!("SELECT {sql} AS x FROM plain"));
    let logical = &planned.statements[0].logical;
    let LogicalPlan::Projection(projection) = logical else { panic!("{sql}\n{logical}") };
    match projection.expr[0].clone().unalias() {
        Expr::Literal(value, _) => value,
        other => panic!("{sql} is no constant: {other}"),
    }
}

/// `(sql, value)`, as Arrow writes the value.
#[track_caller]
fn constants(examples: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, wanted) in examples {
        let array = constant(sql).to_array().expect("an array");
        let got =
            if array.is_valid(0) { array_value_to_string(&array, 0).expect("a text") } else { "NULL".to_string() };
        if got != *wanted {
            wrong.push(format!("{sql}\n    wanted {wanted}\n    got    {got}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn syntax_that_stands_for_functions() {
    constants(&[
        ("EXTRACT(DOW FROM DATE '2024-02-29')", "5"),
        ("FLOOR(TIMESTAMP '2024-02-29 13:45:59' TO HOUR)", "2024-02-29T13:00:00"),
        ("CEIL(TIMESTAMP '2024-02-29 13:45:59' TO MONTH)", "2024-03-01T00:00:00"),
        ("TIMESTAMPDIFF(DAY, TIMESTAMP '2024-02-28 00:00:00', TIMESTAMP '2024-03-01 00:00:00')", "2"),
        ("SUBSTRING('Hello', -3)", "llo"),
        ("SUBSTRING('Hello' FROM 2 FOR 3)", "ell"),
        ("OVERLAY('Hello' PLACING 'XY' FROM 2 FOR 3)", "HXYo"),
        ("POSITION('l' IN 'Hello')", "3"),
        ("JSON_OBJECT('a' VALUE 1, 'b' VALUE NULL ABSENT ON NULL)", "{\"a\":1}"),
    ]);
}

/// Views, subqueries, conditions, keys, computed columns and watermarks are planned in other places.
#[test]
fn syntax_is_understood_wherever_an_expression_stands() {
    plan("SELECT 1 AS x FROM plain WHERE EXTRACT(DOW FROM ts) = 5 AND k IN (SELECT SUBSTRING(k, -3) FROM plain)");
    plan("CREATE VIEW w AS SELECT FLOOR(ts TO HOUR) AS h FROM plain; SELECT h FROM w");
    plan(
        "SELECT FLOOR(window_start TO DAY) AS d, COUNT(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR))
         GROUP BY window_start, window_end, FLOOR(window_start TO DAY)",
    );
    plan(
        "CREATE TABLE t (s STRING, raw TIMESTAMP(3), ts AS FLOOR(raw TO SECOND), d AS EXTRACT(DOW FROM raw),
         WATERMARK FOR ts AS FLOOR(ts TO MINUTE)) WITH ('connector' = 'x');
         SELECT d, ts FROM t",
    );
}

#[test]
fn an_error_in_such_syntax_says_where() {
    for wrong in ["TIMESTAMPDIFF(DAY, ts, channel)", "FLOOR(channel TO HOUR)"] {
        let e = try_plan(&format!("SELECT qty,\n  {wrong} FROM bid")).expect_err(wrong).to_string();
        assert!(e.contains("is STRING, wanted DATE, TIME or TIMESTAMP") && e.contains("at q.sql:2:"), "{e}");
    }
}

#[test]
fn a_double_and_a_number_with_a_point_are_compared_as_doubles() {
    constants(&[
        ("CAST('1e300' AS DOUBLE) > 2.5", "true"),
        ("2.5 < CAST('1e300' AS DOUBLE)", "true"),
        ("CAST('2.5e-19' AS DOUBLE) > 0.0", "true"),
        ("CAST('1e300' AS DOUBLE) BETWEEN 0.5 AND 2.5", "false"),
        ("CAST('0.1' AS DOUBLE) IN (0.1, 1e300)", "true"),
        ("CAST('1e300' AS DOUBLE) IS DISTINCT FROM 0.1", "true"),
        ("1e2 / 3", "33.333333333333336"),
        ("TYPEOF(1e2)", "DOUBLE NOT NULL"),
    ]);
}

#[test]
fn numbers_have_flinks_types() {
    constants(&[
        ("CAST(1 AS INT) / CAST(12.345 AS DECIMAL(10, 3))", "0.08100445525"),
        ("-CAST(2 AS DECIMAL(5, 0)) / 3", "-0.66666666667"),
        ("CAST(CAST(7 AS BIGINT) % 4 AS STRING)", "3"),
        ("TYPEOF(MOD(CAST(7 AS BIGINT), 4))", "INT NOT NULL"),
        ("SQRT(CAST(-1 AS DOUBLE))", "NaN"),
        ("SIN(CAST(1.5 AS FLOAT))", "0.9974949866040544"),
    ]);
}

#[test]
fn patterns_escape_nothing_but_what_they_are_told_to() {
    constants(&[
        (r"'a\b' LIKE 'a\b'", "true"),
        (r"'a%' LIKE 'a\%'", "false"),
        ("'a_b' LIKE 'a!_b' ESCAPE '!'", "true"),
        ("'axb' LIKE 'a!_b' ESCAPE '!'", "false"),
        ("'Hello World' SIMILAR TO '%(World|me)%'", "true"),
        ("'Hello World' SIMILAR TO 'World'", "false"),
        ("'a.b' SIMILAR TO 'a.b' AND NOT 'axb' SIMILAR TO 'a.b'", "true"),
    ]);
}

#[test]
fn casts_are_flinks() {
    constants(&[
        ("CAST(TRUE AS STRING)", "TRUE"),
        ("CAST(1e300 AS STRING)", "1.0E300"),
        ("CAST(ARRAY['a', NULL] AS STRING)", "[a, NULL]"),
        ("CAST('abcdef' AS VARCHAR(3))", "abc"),
        ("CAST('abc' AS CHAR(5)) || '|'", "abc  |"),
        ("CAST(' 2026-01-01 ' AS DATE)", "2026-01-01"),
        ("CAST(TIMESTAMP '2026-01-01 12:00:00.789' AS TIMESTAMP(0))", "2026-01-01T12:00:00"),
        ("CAST(TIMESTAMP '2026-01-01 12:00:00.789' AS TIME)", "12:00:00"),
        ("CAST(CAST('1969-12-31 23:59:59.999999' AS TIMESTAMP(6)) AS TIMESTAMP(3))", "1969-12-31T23:59:59.999"),
        ("TO_TIMESTAMP('2026-02-03 04:05')", "NULL"),
        ("CARDINALITY(SPLIT('', ','))", "0"),
    ]);
}

/// The sink's column has the session's zone too.
#[test]
fn casts_know_the_sessions_zone() {
    let berlin = "SET 'table.local-time-zone' = 'Europe/Berlin';";
    let constant = |sql: &str| {
        let planned = plan(&format!("{berlin} SELECT {sql} AS x FROM plain"));
        format!("{}", planned.statements[0].logical)
    };
    let midnight = "TIMESTAMP '2026-01-01 00:00:00'";
    let text = constant(&format!("CAST(CAST({midnight} AS TIMESTAMP_LTZ(3)) AS STRING)"));
    assert!(text.contains("2026-01-01 00:00:00.000"), "{text}");
    let instant = constant(&format!("CAST({midnight} AS TIMESTAMP_LTZ(3))"));
    // An hour before midnight in UTC.
    assert!(instant.contains("1767222000000"), "{instant}");
    let planned = plan(&format!(
        "{berlin} CREATE TABLE out (t TIMESTAMP_LTZ(3)) WITH ('connector' = 'x'); INSERT INTO out SELECT {midnight} FROM plain"
    ));
    let text = format!("{}", planned.statements[0].logical);
    assert!(text.contains("1767222000000"), "{text}");
}
