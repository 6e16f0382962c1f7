//! Aggregates give the same bits in a window, in OVER and in batch mode, in whatever order their rows come. Rows
//! compare as text, and the text of a double tells every bit.

use crate::support::{difference, run};
use millstream::{Mode, Program, RunOptions, Runner, Step};

const ROWS: u64 = 3_000;

/// A table of numbers of very different sizes, with NULLs, within one day; nothing is late. `turned`: the rows come from the last
/// to the first.
fn numbers(folder: &tempfile::TempDir, turned: bool) -> String {
    let mut lines: Vec<String> = (0..ROWS)
        .map(|i| {
            let dice =
                (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11;
            let tiny = (dice % 1_000) as f64 / 7.0 - 70.0;
            let double = match dice % 10 {
                0 => tiny * 1e12,
                1 => tiny / 1e9,
                _ => tiny,
            };
            let double = if i % 17 == 0 { String::new() } else { double.to_string() };
            let at = format!("2024-01-01 {:02}:{:02}:{:02}", i / 3600, i / 60 % 60, i % 60);
            format!(
                "{at},k{},{double},{},{}.{:02},w{}\n",
                dice % 3,
                dice % 2_000,
                dice % 90_000,
                dice % 100,
                dice % 700
            )
        })
        .collect();
    if turned {
        lines.reverse();
    }
    let file = folder.path().join(format!("{turned}.csv"));
    std::fs::write(&file, lines.concat()).expect("a temporary file can be written");
    format!(
        "CREATE TABLE t (ts TIMESTAMP(3), k STRING, d DOUBLE, n INT, c DECIMAL(10, 2), w STRING, WATERMARK FOR ts AS ts - \
         INTERVAL '1' DAY) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.null-literal' = '');\n",
        file.display()
    )
}

/// The same answer in batch mode, in streaming at any parallelism, and over the rows in the other order.
fn agree(query: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sql = numbers(&folder, false) + query;
    let batch = run(&sql, Mode::Batch, 1).unwrap_or_else(|e| panic!("{e}\n{sql}"));
    assert!(!batch.is_empty(), "{query}");
    for (turned, parallelism) in [(false, 1), (false, 2), (true, 1), (true, 7)] {
        let sql = numbers(&folder, turned) + query;
        let streaming = run(&sql, Mode::Streaming, parallelism).unwrap_or_else(|e| panic!("{e}\n{sql}"));
        assert!(
            batch == streaming,
            "turned {turned}, parallelism {parallelism}: {}\n{query}",
            difference(&batch, &streaming)
        );
    }
    let turned = run(&(numbers(&folder, true) + query), Mode::Batch, 1).unwrap_or_else(|e| panic!("{e}\n{query}"));
    assert!(batch == turned, "batch over turned rows: {}\n{query}", difference(&batch, &turned));
    batch
}

const SKETCHES: &str = "APPROX_PERCENTILE(d, 0.9), APPROX_PERCENTILE(n, 0.25), APPROX_PERCENTILE(c, 0.5), APPROX_MEDIAN(d), \
                        APPROX_COUNT_DISTINCT(w), APPROX_COUNT_DISTINCT(n), APPROX_COUNT_DISTINCT(d)";

const MOMENTS: &str = "SUM(d), AVG(d), VAR_POP(d), VAR_SAMP(d), STDDEV_POP(d), STDDEV_SAMP(d), VAR_POP(n), STDDEV_SAMP(n), \
                       VAR_SAMP(c), STDDEV_POP(c)";

fn in_windows(calls: &str, window: &str) -> String {
    format!("SELECT window_start, window_end, k, {calls} FROM TABLE({window}) GROUP BY window_start, window_end, k")
}

const TUMBLE: &str = "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '20' MINUTE)";
const HOP: &str = "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '4' MINUTE, INTERVAL '20' MINUTE)";

#[test]
fn approximate_aggregates_of_windows_agree() {
    agree(&in_windows(SKETCHES, TUMBLE));
    // Windows that run on take values away.
    agree(&in_windows(SKETCHES, HOP));
    agree(&in_windows("APPROX_PERCENTILE(d, 0.9), COUNT(*)", HOP));
    agree(&in_windows("APPROX_PERCENTILE(DISTINCT n, 0.9), APPROX_PERCENTILE(d, 0.5) FILTER (WHERE n > 500)", TUMBLE));
}

#[test]
fn exact_moments_of_windows_agree() {
    agree(&in_windows(MOMENTS, TUMBLE));
    agree(&in_windows(MOMENTS, HOP));
    agree(&in_windows("SUM(CAST(d AS FLOAT)), AVG(CAST(d AS FLOAT)), VAR_POP(CAST(d AS FLOAT))", TUMBLE));
    agree(&in_windows("VAR_POP(DISTINCT d), SUM(DISTINCT d), STDDEV_SAMP(DISTINCT n)", TUMBLE));
}

#[test]
fn approximate_aggregates_and_moments_agree_over_frames() {
    let frame = |calls: &str, preceding: &str| {
        let over =
            calls.split("), ").map(|c| format!("{}) OVER w", c.trim_end_matches(')'))).collect::<Vec<_>>().join(", ");
        format!(
            "SELECT ts, {over} FROM t WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN {preceding} PRECEDING AND CURRENT ROW)"
        )
    };
    let few = "APPROX_PERCENTILE(d, 0.9), APPROX_COUNT_DISTINCT(w), VAR_SAMP(d), STDDEV_POP(c), SUM(d)";
    agree(&frame(few, "INTERVAL '3' MINUTE"));
    agree(&frame(few, "UNBOUNDED"));
}

#[test]
fn a_window_and_the_last_frame_of_its_rows_say_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = numbers(&folder, false);
    let window = "SELECT k, APPROX_PERCENTILE(d, 0.9), APPROX_COUNT_DISTINCT(w), VAR_SAMP(d) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), \
         INTERVAL '1' DAY)) GROUP BY window_start, window_end, k".to_owned();
    let frames = "SELECT k, APPROX_PERCENTILE(d, 0.9) OVER w, APPROX_COUNT_DISTINCT(w) OVER w, VAR_SAMP(d) OVER w, COUNT(*) OVER w \
                  FROM t WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)";
    let windows = run(&(table.clone() + &window), Mode::Streaming, 1).expect("runs");
    let frames = run(&(table + frames), Mode::Streaming, 1).expect("runs");
    assert_eq!(windows.len(), 3);
    for row in windows {
        let key = row.split('|').next().unwrap_or("");
        let of_key = frames.iter().filter(|f| f.starts_with(&format!("{key}|"))).filter_map(|f| f.rsplit_once('|'));
        let last = of_key.max_by_key(|(_, n)| n.parse::<u64>().expect("a count")).map(|(row, _)| row);
        assert_eq!(Some(row.as_str()), last);
    }
}

#[test]
fn percentiles_have_the_words_of_the_standard_too() {
    let rows = "CREATE VIEW v AS SELECT * FROM (VALUES (1.0), (2.0), (3.0), (4.0), (NULL)) AS t(x);\n";
    let query = "SELECT APPROX_PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY x), APPROX_PERCENTILE_CONT(0.25) WITHIN GROUP (ORDER BY x \
                 DESC), APPROX_PERCENTILE(x, 0.25), APPROX_MEDIAN(x) FROM v";
    let answer = run(&format!("{rows}{query}"), Mode::Batch, 1).expect("runs");
    assert_eq!(answer, ["1.75|3.25|1.75|2.5"]);
}

/// Rows are summed up before they change hands where a task has many of a key, and not where it has few: both in one query.
#[test]
fn rows_that_are_summed_up_before_the_exchange_give_the_same_bits() {
    agree("SELECT k, COUNT(*), SUM(d), AVG(c), MIN(n), MAX(d) FROM t GROUP BY k");
    agree("SELECT n, w, COUNT(*), SUM(d) FROM t GROUP BY n, w");
    agree("SELECT COUNT(*), SUM(d), MAX(n), MIN(c) FROM t");
    agree("SELECT k, n, SUM(d) FROM t GROUP BY GROUPING SETS ((k), (n), ())");
    agree("SELECT DISTINCT k, n FROM t");
    agree("SELECT k, COUNT(*), SUM(d) FROM t GROUP BY k HAVING SUM(n) > 10");
}

/// Rows that the local halves of a job were given, and those that they handed on.
fn summed_up(query: &str, parallelism: usize) -> Option<(u64, u64)> {
    let sql = format!(
        "CREATE TABLE t (k BIGINT, n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '10000', 'rows-per-second' = '100000000', \
           'fields.k.min' = '1', 'fields.k.max' = '5');
         CREATE TABLE nothing (k BIGINT, c BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO nothing {query};"
    );
    let program = Program::parse(&sql, "test.sql").unwrap_or_else(|e| panic!("{e}"));
    let options = RunOptions { parallelism: Some(parallelism), ..RunOptions::default() };
    let mut runner = Runner::new(program, options);
    while let Some(step) = runner.step() {
        if let Step::Running(running) = step.unwrap_or_else(|e| panic!("{e}")) {
            let summary = running.wait().unwrap_or_else(|e| panic!("{e}"));
            return summary
                .snapshot
                .nodes
                .iter()
                .find(|n| n.label.starts_with("Local"))
                .map(|n| (n.rows_in, n.rows_out));
        }
    }
    panic!("no job has run")
}

#[test]
fn few_keys_cross_the_exchange_as_few_rows() {
    let (rows, partials) = summed_up("SELECT k, COUNT(*) AS c FROM t GROUP BY k", 2).expect("a local half");
    assert_eq!(rows, 10_000);
    assert!(partials < 1_000, "{partials} rows have crossed");
    let (rows, partials) = summed_up("SELECT n, COUNT(*) AS c FROM t GROUP BY n", 2).expect("a local half");
    assert_eq!((rows, partials), (10_000, 10_000), "all keys differ");
    assert_eq!(summed_up("SELECT k, COUNT(*) AS c FROM t GROUP BY k", 1), None, "there is no exchange");
}
