//! Fields of ROW columns: sources read those that are asked for, and answers do not depend on which these are.

use crate::support::run;
use millstream::Mode;
use std::fmt::Write;

const TABLE: &str =
    "CREATE TABLE t (k BIGINT, r ROW<a BIGINT, b STRING, c ROW<x INT, y STRING>, ts TIMESTAMP(3)>, n INT,
  ts AS r.ts, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', 'path' = '%', 'format' = '&');\n";

/// Events as JSON lines; some rows are NULL, some have NULL in them.
fn events(path: &std::path::Path) {
    let mut lines = String::new();
    for i in 0..500 {
        let c = if i % 7 == 0 { "null".into() } else { format!("{{\"x\": {}, \"y\": \"y{}\"}}", i % 11, i % 5) };
        let b = if i % 3 == 0 { "null".into() } else { format!("\"b{}\"", i % 4) };
        let at = format!("2024-01-01 00:{:02}:{:02}", i / 60, i % 60);
        let row = format!("{{\"a\": {i}, \"b\": {b}, \"c\": {c}, \"ts\": \"{at}\"}}");
        writeln!(lines, "{{\"k\": {}, \"r\": {row}, \"n\": {}}}", i % 6, i % 2).expect("a text grows");
    }
    std::fs::write(path, lines).expect("a temporary file can be written");
}

#[test]
fn answers_do_not_depend_on_what_else_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (json, parquet) = (folder.path().join("t.json"), folder.path().join("parquet"));
    events(&json);
    let table =
        |path: &std::path::Path, format: &str| TABLE.replace('%', &path.display().to_string()).replace('&', format);
    let copy = format!(
        "{}CREATE TABLE copy (k BIGINT, r ROW<a BIGINT, b STRING, c ROW<x INT, y STRING>, ts TIMESTAMP(3)>, n INT)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'parquet');
         INSERT INTO copy SELECT k, r, n FROM t",
        table(&json, "json"),
        parquet.display()
    );
    run(&copy, Mode::Streaming, 1).unwrap_or_else(|e| panic!("{e}"));
    // The same with a condition that takes the row as a whole and always holds, so that nothing is left out.
    let queries = [
        ("SELECT r.a, r.b FROM t WHERE r.c.x > 3", " AND (r IS NOT NULL OR n >= 0)"),
        ("SELECT r.c.y, COUNT(*), SUM(r.a) FROM t WHERE n = 1", " AND (r IS NOT NULL OR n >= 0) GROUP BY r.c.y"),
        ("SELECT k, r.c.x + 1 FROM t WHERE r.b IS NOT NULL", " AND (r IS NOT NULL OR n >= 0)"),
        ("SELECT r.c.x IS NULL, r.a FROM t WHERE true", " AND (r IS NOT NULL OR n >= 0)"),
    ];
    for (format, path) in [("json", &json), ("parquet", &parquet)] {
        for (query, more) in queries {
            let whole = query.to_owned() + more;
            let group = more.find(" GROUP BY").map_or("", |at| &more[at..]);
            let mut answers = Vec::new();
            for (sql, mode) in [
                (query.to_owned() + group, Mode::Streaming),
                (whole, Mode::Streaming),
                (query.to_owned() + group, Mode::Batch),
            ] {
                let sql = table(path, format) + &sql;
                answers.push(run(&sql, mode, 2).unwrap_or_else(|e| panic!("{e}\n{sql}")));
            }
            assert!(!answers[0].is_empty());
            assert_eq!(answers[0], answers[1], "{format}: {query}");
            assert_eq!(answers[0], answers[2], "{format}: {query}, batch");
        }
    }
}
