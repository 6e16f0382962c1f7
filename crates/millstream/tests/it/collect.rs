//! COLLECT and MULTISET, from SQL to rows: the same in both modes and at any parallelism.

use crate::support::run;
use millstream::{Mode, Program, Tables};

fn tables(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("t.csv");
    let rows = "a,x,1,2024-01-01 00:00:01\na,y,2,2024-01-01 00:00:02\na,x,3,2024-01-01 00:00:03\nb,,4,2024-01-01 00:00:04\n\
                a,,5,2024-01-01 00:00:11\nb,z,6,2024-01-01 00:00:12\na,x,7,2024-01-01 00:00:13\n";
    std::fs::write(&path, rows).expect("a temporary file can be written");
    format!(
        "CREATE TABLE t (k STRING, v STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.null-literal' = '');\n",
        path.display()
    )
}

#[track_caller]
fn answers(query: &str, wanted: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sql = tables(&folder) + query;
    for (mode, parallelism) in [(Mode::Batch, 1), (Mode::Streaming, 1), (Mode::Streaming, 3)] {
        let rows = run(&sql, mode, parallelism).unwrap_or_else(|e| panic!("{mode:?} x{parallelism}: {e}\n{query}"));
        assert_eq!(rows, wanted, "{mode:?} x{parallelism}\n{query}");
    }
}

fn refusal(query: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let checked = Program::parse(&(tables(&folder) + query), "q.sql").and_then(|p| p.check(&Tables::default()));
    checked.err().map_or_else(|| panic!("not refused: {query}"), |e| e.to_string())
}

#[test]
fn values_are_counted_and_null_is_none() {
    answers("SELECT k, COLLECT(v) FROM t GROUP BY k", &["a|{x: 3, y: 1}", "b|{z: 1}"]);
    answers("SELECT k, COLLECT(DISTINCT v) FROM t GROUP BY k", &["a|{x: 1, y: 1}", "b|{z: 1}"]);
    answers("SELECT k, COLLECT(ALL n) FILTER (WHERE n > 4) FROM t GROUP BY k", &["a|{5: 1, 7: 1}", "b|{6: 1}"]);
    answers("SELECT COLLECT(v) IS NULL, COLLECT(v) FROM t WHERE v IS NULL", &["false|{}"]);
    answers("SELECT COLLECT(ROW(k, n)) FROM t WHERE n < 3", &["{{c0: a, c1: 1}: 1, {c0: a, c1: 2}: 1}"]);
}

#[test]
fn rows_that_are_taken_back_are_not_counted() {
    // Of each value, only its last row is there.
    let last = "SELECT k, v, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, v ORDER BY ts DESC) AS r FROM t) WHERE r = 1";
    answers(
        &format!("SELECT k, COLLECT(n), COLLECT(DISTINCT v) FROM ({last}) GROUP BY k"),
        &["a|{2: 1, 5: 1, 7: 1}|{x: 1, y: 1}", "b|{4: 1, 6: 1}|{z: 1}"],
    );
    answers("SELECT COLLECT(c) FROM (SELECT k, v, COUNT(*) AS c FROM t GROUP BY k, v)", &["{1: 4, 3: 1}"]);
}

#[test]
fn windows_collect_what_is_in_them() {
    let window = "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))";
    answers(
        &format!("SELECT k, COLLECT(v) FROM {window} GROUP BY k, window_start, window_end"),
        &["a|{x: 1}", "a|{x: 2, y: 1}", "b|{z: 1}", "b|{}"],
    );
    let hop = "TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' SECOND))";
    answers(
        &format!("SELECT k, COLLECT(v), COLLECT(DISTINCT v) FROM {hop} GROUP BY k, window_start, window_end"),
        &[
            "a|{x: 1}|{x: 1}",
            "a|{x: 2, y: 1}|{x: 1, y: 1}",
            "a|{x: 3, y: 1}|{x: 1, y: 1}",
            "b|{z: 1}|{z: 1}",
            "b|{z: 1}|{z: 1}",
            "b|{}|{}",
        ],
    );
    let session = "TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND))";
    answers(
        &format!("SELECT k, COLLECT(v) FROM {session} GROUP BY k, window_start, window_end"),
        &["a|{x: 1}", "a|{x: 2, y: 1}", "b|{z: 1}", "b|{}"],
    );
    answers(
        "SELECT n, COLLECT(v) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM t WHERE k = 'a'",
        &["1|{x: 1}", "2|{x: 1, y: 1}", "3|{x: 2, y: 1}", "5|{x: 1, y: 1}", "7|{x: 2}"],
    );
}

#[test]
fn a_multiset_is_taken_apart_and_counted() {
    let held = "(SELECT k, COLLECT(v) AS vs FROM t GROUP BY k)";
    answers(&format!("SELECT k, v FROM {held} CROSS JOIN UNNEST(vs) AS u (v)"), &["a|x", "a|x", "a|x", "a|y", "b|z"]);
    answers(&format!("SELECT k, CARDINALITY(vs), vs IS NOT NULL FROM {held}"), &["a|4|true", "b|1|true"]);
    answers(
        "SELECT a, b FROM (SELECT COLLECT(ROW(k, n)) AS rs FROM t WHERE n < 3) CROSS JOIN UNNEST(rs) AS u (a, b)",
        &["a|1", "a|2"],
    );
    answers(
        &format!("SELECT CAST(vs AS STRING), TYPEOF(vs) FROM {held}"),
        &["{x=3, y=1}|MULTISET<STRING>", "{z=1}|MULTISET<STRING>"],
    );
}

#[test]
fn json_has_an_object_of_counts_and_reads_it_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("out.json");
    let declared = format!(
        "CREATE TABLE counts (k STRING, vs STRING MULTISET) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');\n",
        out.display()
    );
    let window = "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end";
    let write = format!("{}{declared}INSERT INTO counts SELECT k, COLLECT(v) FROM {window}", tables(&folder));
    run(&write, Mode::Streaming, 1).unwrap_or_else(|e| panic!("{e}"));
    let mut lines: Vec<String> =
        std::fs::read_to_string(&out).expect("it was written").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, [r#"{"k":"a","vs":{"x":3,"y":1}}"#, r#"{"k":"b","vs":{"z":1}}"#]);
    let rows = run(&format!("{declared}SELECT k, CARDINALITY(vs), vs FROM counts"), Mode::Batch, 1);
    assert_eq!(rows.unwrap_or_else(|e| panic!("{e}")), ["a|4|{x: 3, y: 1}", "b|1|{z: 1}"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let into = |columns: &str, format: &str, query: &str| {
        refusal(&format!(
            "CREATE TABLE out ({columns}) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = '{format}'); INSERT INTO out {query}"
        ))
    };
    let collected = "SELECT COLLECT(n) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY window_start, window_end";
    let e = into("ns MULTISET<INT>", "json", collected);
    assert!(e.contains("column `ns` holds a MULTISET<INT>, and keys of JSON objects are text"), "{e}");
    assert!(e.contains("CAST the values AS STRING"), "{e}");
    let e = into("ns ARRAY<ROW<x MULTISET<INT>>>", "csv", "SELECT CAST(NULL AS ARRAY<ROW<x MULTISET<INT>>>)");
    assert!(e.contains("keys of JSON objects are text"), "{e}");
    let e = into("ns MULTISET<INT>", "avro", collected);
    assert!(e.contains("keys of Avro's maps are text"), "{e}");
    let e = into("ns MAP<INT, INT>", "parquet", collected);
    assert!(e.contains("MULTISET<INT>") && e.contains("MAP<INT, INT>"), "{e}");
    let e = refusal("SELECT COLLECT(v, n) FROM t GROUP BY k");
    assert!(e.contains("COLLECT takes one value"), "{e}");
}

#[test]
fn a_multiset_goes_through_parquet() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let declared = format!(
        "CREATE TABLE counts (k STRING, ns MULTISET<INT NOT NULL>) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'parquet');\n",
        folder.path().join("out").display()
    );
    let window = "TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY k, window_start, window_end";
    let write = format!("{}{declared}INSERT INTO counts SELECT k, COLLECT(n) FROM {window}", tables(&folder));
    run(&write, Mode::Streaming, 2).unwrap_or_else(|e| panic!("{e}"));
    let read = |query: &str| run(&format!("{declared}{query}"), Mode::Streaming, 1).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(read("SELECT k, CARDINALITY(ns) FROM counts"), ["a|5", "b|2"]);
    assert_eq!(read("SELECT SUM(n) FROM counts CROSS JOIN UNNEST(ns) AS u (n)"), ["28"]);
}
