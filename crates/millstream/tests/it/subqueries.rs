//! IN, EXISTS and set operations with ALL: what the standard says of NULL, and of how often a row comes, in batch mode and in
//! streaming. The answers are DuckDB's too.

use crate::support::run;
use millstream::Mode;

/// `l` and `r` have NULLs, `clean` has none, `none` has no row.
const TABLES: &str = "
    CREATE VIEW l AS SELECT * FROM (VALUES (1, 10), (2, 20), (CAST(NULL AS INT), 30)) AS t (x, y);
    CREATE VIEW r AS SELECT * FROM (VALUES (1, 10), (CAST(NULL AS INT), 20), (1, CAST(NULL AS INT))) AS t (x, y);
    CREATE VIEW clean AS SELECT * FROM (VALUES (1, 10), (3, 30)) AS t (x, y);
    CREATE VIEW none AS SELECT * FROM r WHERE x > 99;";

fn answers(query: &str, wanted: &[&str]) {
    let sql = format!("{TABLES}\n{query}");
    let mut wanted: Vec<&str> = wanted.to_vec();
    wanted.sort_unstable();
    for (mode, parallelism) in [(Mode::Batch, 1), (Mode::Streaming, 1), (Mode::Streaming, 2), (Mode::Streaming, 7)] {
        let rows = run(&sql, mode, parallelism).unwrap_or_else(|e| panic!("{mode:?} x{parallelism}: {e}\n{query}"));
        assert_eq!(rows, wanted, "{mode:?} x{parallelism}\n{query}");
    }
}

#[test]
fn in_has_three_values() {
    let value = |of: &str| format!("SELECT x, x IN (SELECT x FROM {of}), x NOT IN (SELECT x FROM {of}) FROM l");
    answers(&value("clean"), &["1|true|false", "2|false|true", "NULL|NULL|NULL"]);
    answers(&value("r"), &["1|true|false", "2|NULL|NULL", "NULL|NULL|NULL"]);
    answers(&value("none"), &["1|false|true", "2|false|true", "NULL|false|true"]);
    answers("SELECT x, x IN (SELECT x FROM clean) IS UNKNOWN FROM l", &["1|false", "2|false", "NULL|true"]);
}

#[test]
fn not_in_holds_where_nothing_may_be_equal() {
    answers("SELECT y FROM l WHERE x NOT IN (SELECT x FROM clean)", &["20"]);
    answers("SELECT y FROM l WHERE x NOT IN (SELECT x FROM r)", &[]);
    answers("SELECT y FROM l WHERE x NOT IN (SELECT x FROM none)", &["10", "20", "30"]);
    answers("SELECT y FROM l WHERE NOT (y = 10 OR x IN (SELECT x FROM clean))", &["20"]);
    answers("SELECT y FROM l WHERE y = 30 OR x NOT IN (SELECT x FROM clean)", &["20", "30"]);
    answers("SELECT y FROM l WHERE y = 10 OR x NOT IN (SELECT x FROM r)", &["10"]);
    // Of the same y: (1, 10) has (1, 10), (2, 20) has NULL, and (NULL, 30) has nobody.
    answers("SELECT y FROM l WHERE x NOT IN (SELECT r.x FROM r WHERE r.y = l.y)", &["30"]);
    answers("SELECT y FROM l WHERE y = 20 OR x NOT IN (SELECT r.x FROM r WHERE r.y = l.y)", &["20", "30"]);
    answers("SELECT y, x IN (SELECT r.x FROM r WHERE r.y = l.y) FROM l", &["10|true", "20|NULL", "30|false"]);
}

#[test]
fn subqueries_stand_wherever_a_value_does() {
    answers("SELECT y FROM l WHERE y > 25 OR x IN (SELECT x FROM clean)", &["10", "30"]);
    answers("SELECT y FROM l WHERE y > 25 OR EXISTS (SELECT 1 FROM r WHERE r.y = l.y)", &["10", "20", "30"]);
    answers("SELECT y FROM l WHERE y > 25 OR NOT EXISTS (SELECT 1 FROM r WHERE r.x = l.x)", &["20", "30"]);
    answers("SELECT y FROM l WHERE y > 25 OR EXISTS (SELECT 1 FROM none)", &["30"]);
    answers(
        "SELECT CASE WHEN x IN (SELECT x FROM r) THEN 'in' ELSE 'out' END, y FROM l",
        &["in|10", "out|20", "out|30"],
    );
    answers("SELECT COUNT(*) FILTER (WHERE x IN (SELECT x FROM r)), COUNT(*) FROM l", &["1|3"]);
    answers(
        "SELECT x IN (SELECT x FROM clean), COUNT(*) FROM l GROUP BY x IN (SELECT x FROM clean)",
        &["NULL|1", "false|1", "true|1"],
    );
    answers(
        "SELECT y FROM l WHERE x IN (SELECT x FROM clean WHERE y IN (SELECT y FROM r) OR y > 90) OR y = 30",
        &["10", "30"],
    );
    answers("SELECT y FROM l WHERE x = ANY (SELECT x FROM clean) OR y = 30", &["10", "30"]);
}

#[test]
fn rows_are_compared_as_a_whole() {
    answers("SELECT x FROM l WHERE (x, y) IN (SELECT x, y FROM r)", &["1"]);
    answers("SELECT y FROM l WHERE (x, y) NOT IN (SELECT x, y FROM clean)", &["20"]);
    answers("SELECT y FROM l WHERE (x, y) NOT IN (SELECT x, y FROM r)", &[]);
    answers("SELECT y, (x, y) IN (SELECT x, y FROM r) FROM l", &["10|true", "20|NULL", "30|NULL"]);
    answers("SELECT y, (x, y) NOT IN (SELECT x, y FROM clean) FROM l", &["10|false", "20|true", "30|NULL"]);
}

#[test]
fn set_operations_with_all_count_rows() {
    let bag = |rows: &str| format!("SELECT * FROM (VALUES {rows}) AS t (x, g)");
    let (a, b) = (
        bag("(1, 'a'), (1, 'a'), (1, 'a'), (2, 'b'), (CAST(NULL AS INT), 'c'), (CAST(NULL AS INT), 'c'), (3, 'd')"),
        bag("(1, 'a'), (1, 'a'), (CAST(NULL AS INT), 'c'), (4, 'e'), (3, 'd'), (3, 'd')"),
    );
    answers(&format!("{a} INTERSECT ALL {b}"), &["1|a", "1|a", "3|d", "NULL|c"]);
    answers(&format!("{a} EXCEPT ALL {b}"), &["1|a", "2|b", "NULL|c"]);
    answers(&format!("{b} EXCEPT ALL {a}"), &["3|d", "4|e"]);
    answers(&format!("({a} EXCEPT ALL {b}) INTERSECT ALL {a}"), &["1|a", "2|b", "NULL|c"]);
    answers(&format!("SELECT g FROM ({a} EXCEPT ALL {b}) WHERE x IS NULL"), &["c"]);
    answers(
        &format!("WITH a AS ({a}), b AS ({b}) SELECT x FROM a INTERSECT ALL SELECT x FROM b"),
        &["1", "1", "3", "NULL"],
    );
    answers("SELECT x FROM l EXCEPT ALL SELECT CAST(x AS BIGINT) FROM r", &["2"]);
}
