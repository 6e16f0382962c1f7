//! What is compared how: numbers that are none, and rows that hold NULL. Both modes say the same.

use crate::support::run;
use millstream::Mode;

/// The answers of a query over `t (id, d, e, i, j)`, which must be the same in both modes and at any parallelism.
fn answers(query: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("t.csv");
    let rows = "1,NaN,1.5,1,1\n2,NaN,NaN,1,2\n3,1.5,NaN,,1\n4,-0.0,0.0,,\n5,,1.5,2,\n";
    std::fs::write(&path, rows).expect("a temporary file can be written");
    let sql = format!(
        "CREATE TABLE t (id INT, d DOUBLE, e DOUBLE, i INT, j INT) WITH ('connector' = 'filesystem', 'path' = '{}',
         'format' = 'csv', 'csv.null-literal' = '');\n{query}",
        path.display()
    );
    let batch = run(&sql, Mode::Batch, 1).unwrap_or_else(|e| panic!("{e}\n{sql}"));
    for parallelism in [1, 3] {
        let streaming = run(&sql, Mode::Streaming, parallelism).unwrap_or_else(|e| panic!("{e}\n{sql}"));
        assert_eq!(streaming, batch, "{query}");
    }
    batch
}

#[test]
fn next_to_nan_nothing_but_unequal_holds() {
    assert_eq!(
        answers("SELECT id, d < e, d <= e, d > e, d >= e, d = e, d <> e FROM t"),
        [
            "1|false|false|false|false|false|true",
            "2|false|false|false|false|false|true",
            "3|false|false|false|false|false|true",
            "4|false|true|false|true|true|false",
            "5|NULL|NULL|NULL|NULL|NULL|NULL"
        ]
    );
    assert_eq!(
        answers("SELECT id, d BETWEEN 0 AND 9, d NOT BETWEEN 0 AND 9, d IN (1.5, 2, e), d NOT IN (1.5, 2, e) FROM t"),
        [
            "1|false|false|false|true",
            "2|false|false|false|true",
            "3|true|false|true|false",
            "4|true|false|true|false",
            "5|NULL|NULL|NULL|NULL"
        ]
    );
    assert_eq!(answers("SELECT id FROM t WHERE d > 1"), ["3"]);
    assert_eq!(answers("SELECT id FROM t WHERE NOT d > 1"), ["4"], "as in Flink, it is d <= 1");
    assert_eq!(answers("SELECT a.id, b.id FROM t a JOIN t b ON a.id = b.id AND a.d >= b.e"), ["4|4"]);
    assert_eq!(answers("SELECT SUM(id) FROM t WHERE d <> 7 GROUP BY d > 1"), ["3", "7"]);
}

/// What is known when a query is planned is computed then, by other means.
#[test]
fn constants_compare_as_columns_do() {
    let nan = "CAST('NaN' AS DOUBLE)";
    assert_eq!(
        answers(&format!("SELECT {nan} > 1, {nan} < 1, {nan} = 1.5, {nan} <> 1, {nan} > e FROM t WHERE id = 1")),
        ["false|false|false|true|false"]
    );
    assert_eq!(answers(&format!("SELECT id FROM t WHERE d < {nan} OR 1 < {nan} OR id = 2")), ["2"]);
}

#[test]
fn what_is_compared_with_itself_is_equal_unless_it_is_null() {
    assert_eq!(
        answers("SELECT id, d = d, d <= d, d >= d, d <> d, d < d FROM t WHERE id IN (1, 5)"),
        ["1|true|true|true|false|false", "5|NULL|NULL|NULL|NULL|NULL"]
    );
}

/// The order of NaN, its groups and its extremes are another thing: there it is one value, above all numbers.
#[test]
fn nan_has_a_place_in_the_order_and_one_group() {
    assert_eq!(answers("SELECT d, COUNT(*) FROM t WHERE id < 4 GROUP BY d"), ["1.5|1", "NaN|2"]);
    assert_eq!(answers("SELECT MAX(d), MIN(d) FROM t WHERE id IN (1, 3)"), ["NaN|1.5"]);
    assert_eq!(answers("SELECT a.id, b.id FROM t a JOIN t b ON a.d = b.e WHERE a.id = 1"), ["1|2", "1|3"]);
}

#[test]
fn rows_are_equal_if_their_fields_are() {
    assert_eq!(
        answers("SELECT id, (i, j) = (j, i), (i, j) <> (j, i), ROW(i, 1) = ROW(j, 2) FROM t"),
        ["1|true|false|false", "2|false|true|false", "3|NULL|NULL|false", "4|NULL|NULL|false", "5|NULL|NULL|false"]
    );
    assert_eq!(answers("SELECT id FROM t WHERE (i, j) IN ((1, 2), (2, 2))"), ["2"]);
    assert_eq!(answers("SELECT id FROM t WHERE (i, j) NOT IN ((1, 2), (3, 2))"), ["1", "3", "5"]);
    assert_eq!(answers("SELECT a.id, b.id FROM t a JOIN t b ON (a.i, a.j) = (b.j, b.i)"), ["1|1"]);
    assert_eq!(
        answers("SELECT id FROM (SELECT id, ROW(i, d) AS r, ROW(j, e) AS s FROM t) WHERE r <> s"),
        ["1", "2", "3"]
    );
    let nested = "SELECT id, ROW(ROW(i), d) = ROW(ROW(j), e) FROM t WHERE id IN (1, 4)";
    assert_eq!(answers(nested), ["1|false", "4|NULL"]);
}
