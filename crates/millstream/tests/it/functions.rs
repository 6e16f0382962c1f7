//! Functions that a script names anew, and functions that give rows.

use crate::support::run;
use millstream::Mode;

#[track_caller]
fn check(sql: &str, expected: &[&str]) {
    for (mode, parallelism) in [(Mode::Streaming, 1), (Mode::Streaming, 2), (Mode::Streaming, 7), (Mode::Batch, 2)] {
        let rows = run(sql, mode, parallelism).unwrap_or_else(|e| panic!("{sql}\n{e}"));
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(rows, expected, "{sql}, {mode:?}, {parallelism} tasks");
    }
}

const TEXTS: &str = "CREATE TEMPORARY VIEW texts AS SELECT * FROM (VALUES (1, 'a,b'), (2, ''), (3, 'c'), (4, CAST(NULL AS STRING))) AS v (id, s);\n";

#[test]
fn a_created_function_is_the_built_in_one_that_it_names() {
    check("CREATE FUNCTION shout AS 'upper'; SELECT SHOUT('a'), shout('b');", &["A|B"]);
    check(
        "CREATE TEMPORARY FUNCTION IF NOT EXISTS total AS 'SUM'; SELECT total(x) FROM (VALUES (1), (2)) AS v (x);",
        &["3"],
    );
    // As Nexmark's q14 says it.
    check(
        "CREATE FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar';
         SELECT count_char('a canny cat', 'a'), count_char('äöä', 'ä'), count_char('aaa', 'aa'), count_char('a', ''), count_char(NULL, 'a');",
        &["3|2|1|0|NULL"],
    );
    check("CREATE TEMPORARY SYSTEM FUNCTION upper AS 'lower'; SELECT upper('Ab');", &["ab"]);
    check(
        "CREATE FUNCTION f AS 'upper'; DROP FUNCTION f; CREATE FUNCTION f AS 'lower'; DROP FUNCTION IF EXISTS g; SELECT f('Ab');",
        &["ab"],
    );
    check(
        "CREATE FUNCTION f AS 'upper'; CREATE TEMPORARY VIEW v AS SELECT f(x) AS y FROM (VALUES ('a')) AS t (x); SELECT y FROM v;",
        &["A"],
    );
    let e = run("CREATE FUNCTION shout AS 'upper'; SELECT shot('a');", Mode::Streaming, 1).expect_err("it is unknown");
    assert!(e.to_string().contains("shout"), "{e}");
}

#[test]
fn a_function_that_returns_an_array_gives_rows() {
    for join in ["texts, LATERAL", "texts CROSS JOIN LATERAL", "texts JOIN LATERAL", "texts,", "texts CROSS JOIN"] {
        let on = if join == "texts JOIN LATERAL" { " ON TRUE" } else { "" };
        check(
            &format!("{TEXTS}SELECT id, part FROM {join} TABLE(SPLIT(s, ',')) AS p (part){on};"),
            &["1|a", "1|b", "3|c"],
        );
    }
    check(
        &format!(
            "{TEXTS}SELECT id, part FROM texts LEFT JOIN LATERAL TABLE(SPLIT(s, ',')) AS p (part) ON TRUE WHERE id <> 1;"
        ),
        &["2|NULL", "3|c", "4|NULL"],
    );
    check(
        &format!("{TEXTS}SELECT id, k, v FROM texts, LATERAL TABLE(STR_TO_MAP('x=1,y=2')) AS m (k, v) WHERE id = 1;"),
        &["1|x|1", "1|y|2"],
    );
    check(
        &format!(
            "{TEXTS}CREATE FUNCTION parts AS 'split'; SELECT part, COUNT(*) FROM texts, LATERAL TABLE(parts(s, ',')) AS p (part) GROUP BY part;"
        ),
        &["a|1", "b|1", "c|1"],
    );
}

#[test]
fn rows_of_a_function_alone() {
    check("SELECT n FROM TABLE(GENERATE_SERIES(1, 3)) AS s (n);", &["1", "2", "3"]);
    check("SELECT x + 1 FROM UNNEST(ARRAY[1, 2]) AS a (x);", &["2", "3"]);
    check(
        "SELECT * FROM UNNEST(ARRAY['a', 'b']) AS a (x), UNNEST(ARRAY[x, 'c']) AS b (y);",
        &["a|a", "a|c", "b|b", "b|c"],
    );
}

#[test]
fn what_gives_no_rows_says_so() {
    let e = run(&format!("{TEXTS}SELECT * FROM texts, LATERAL TABLE(UPPER(s)) AS p (part);"), Mode::Streaming, 1);
    assert!(
        e.expect_err("a text")
            .to_string()
            .contains("UNNEST and TABLE(f(..)) take an ARRAY, a MAP or a MULTISET, and this is STRING")
    );
    let e = run("SELECT * FROM TABLE(TUMBEL(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR));", Mode::Streaming, 1);
    assert!(e.expect_err("a slip").to_string().contains("TUMBLE"));
}

#[test]
fn a_plan_says_which_changes_come() {
    let explained = |how: &str| {
        let sql = format!("EXPLAIN {how}SELECT x, COUNT(*) FROM (VALUES (1)) AS v (x) GROUP BY x;");
        millstream::Program::parse(&sql, "t.sql").is_ok()
    };
    assert!(explained("") && explained("CHANGELOG_MODE ") && explained("PLAN FOR "));
}
