//! Random queries over random rows: streaming at any parallelism answers as batch does, where batch is another engine.
//!
//! The rows come out of order, but never farther than the watermark's delay, so none is late and the answers must be
//! equal to the last bit. A failing case prints its seed and its SQL; `MILLSTREAM_SEED=n` plays one seed alone, and
//! `MILLSTREAM_SEEDS=n` plays that many.

use crate::dice::{Dice, env};
use crate::support::{difference, run};
use millstream::Mode;
use std::fmt::Write;
use std::path::Path;

/// Cases in a usual run.
const SEEDS: u64 = 120;

/// Milliseconds that a row may be behind the newest.
const DELAY: u64 = 5_000;

/// A CSV file of rows, in the order of their arrival.
fn write_rows(dice: &mut Dice, file: &Path) {
    let n = 1 + dice.below(600);
    let step = [1, 40, 400, 4_000][dice.below(4) as usize];
    let mut at = 1_600_000_000_000 + dice.below(100_000_000);
    let mut rows: Vec<(u64, String)> = (0..n)
        .map(|_| {
            // Ties are common, and now and then there is a long silence.
            if dice.below(4) > 0 {
                at += dice.below(step * 2);
            }
            if dice.below(100) == 0 {
                at += dice.below(400_000);
            }
            let null = |dice: &mut Dice, text: String| if dice.below(12) == 0 { String::new() } else { text };
            let k = dice.below(5).to_string();
            let k = null(dice, k);
            let g = dice.one(&["red", "green", "blue", "a longer text than sixteen bytes"]).to_owned();
            let v = (dice.below(200) as i64 - 100).to_string();
            let v = null(dice, v);
            let d =
                format!("{}", (dice.below(2_000_001) as f64 - 1e6) / [1.0, 7.0, 1e-9, 1e12][dice.below(4) as usize]);
            let d = null(dice, d);
            let m = format!("{}.{:02}", dice.below(1_000), dice.below(100));
            let m = null(dice, m);
            (at + dice.below(DELAY), format!("{k},{g},{v},{d},{m},{},{}", dice.below(2) == 0, millis(at)))
        })
        .collect();
    rows.sort_by_key(|(arrival, _)| *arrival);
    let text: String = rows.into_iter().map(|(_, row)| row + "\n").collect();
    std::fs::write(file, text).expect("a temporary file can be written");
}

fn millis(at: u64) -> String {
    millstream::Watermark(at as i64).to_string()
}

const AGGREGATES: &[&str] = &[
    "COUNT(*)",
    "COUNT(v)",
    "COUNT(DISTINCT v)",
    "COUNT(DISTINCT g)",
    "SUM(v)",
    "AVG(v)",
    "MIN(v)",
    "MAX(v)",
    "MIN(g)",
    "MAX(g)",
    "SUM(d)",
    "AVG(d)",
    "MIN(d)",
    "MAX(d)",
    "SUM(m)",
    "AVG(m)",
    "MAX(m)",
    "COUNT(*) FILTER (WHERE v > 0)",
    "SUM(v) FILTER (WHERE b)",
    "SUM(DISTINCT v)",
    "COUNT(DISTINCT v) FILTER (WHERE b)",
    "MIN(ts)",
    "MAX(ts)",
    "SUM(CASE WHEN v > 10 THEN v ELSE 0 END)",
    "SUM(v * 2 + 1)",
];
const OVER_AGGREGATES: &[&str] =
    &["COUNT(*)", "COUNT(v)", "SUM(v)", "AVG(v)", "MIN(v)", "MAX(v)", "SUM(d)", "AVG(d)", "MAX(d)", "SUM(m)", "MIN(g)"];
const FILTERS: &[&str] =
    &["v > 0", "b", "g <> 'red'", "v IS NOT NULL AND d < 1000", "k = 1 OR g LIKE '%e%'", "MOD(v, 3) = 0"];

fn windows(dice: &mut Dice, source: &str) -> String {
    let size = 1 + dice.below(12);
    let offset = if dice.below(3) == 0 { format!(", INTERVAL '{}' SECOND", dice.below(7)) } else { String::new() };
    match dice.below(3) {
        0 => format!("TABLE(TUMBLE(TABLE {source}, DESCRIPTOR(ts), INTERVAL '{size}' SECOND{offset}))"),
        // Sizes that are no multiple of the slide are part of it.
        1 => format!(
            "TABLE(HOP(TABLE {source}, DESCRIPTOR(ts), INTERVAL '{}' SECOND, INTERVAL '{}' SECOND{offset}))",
            1 + dice.below(4),
            size + 4
        ),
        _ => {
            let step = 1 + dice.below(4);
            format!(
                "TABLE(CUMULATE(TABLE {source}, DESCRIPTOR(ts), INTERVAL '{step}' SECOND, INTERVAL '{}' SECOND{offset}))",
                step * (1 + dice.below(5))
            )
        }
    }
}

/// Now and then, panes: in the end the result is the same.
fn emit(dice: &mut Dice) -> String {
    match dice.below(6) {
        0 => " EMIT ON CHANGE".into(),
        1 => format!(" EMIT EARLY EVERY {} ROWS ALLOWED LATENESS INTERVAL '3' SECOND", 1 + dice.below(9)),
        2 => " EMIT EARLY EVERY INTERVAL '0.001' SECOND".into(),
        _ => String::new(),
    }
}

fn query(dice: &mut Dice) -> String {
    let named = |list: &[&str]| -> String {
        list.iter().enumerate().fold(String::new(), |mut text, (i, a)| {
            let _ = write!(text, ", {a} AS a{i}");
            text
        })
    };
    let filter = if dice.below(2) == 0 { format!(" WHERE {}", dice.one(FILTERS)) } else { String::new() };
    match dice.below(8) {
        0..=2 => {
            let keys: String = dice.some(&["k", "g", "b"], 0, 2).iter().map(|k| format!("{k}, ")).collect();
            let aggregates = named(&dice.some(AGGREGATES, 1, 5));
            let having = if dice.below(4) == 0 { " HAVING COUNT(*) > 1" } else { "" };
            let emit = emit(dice);
            let window = windows(dice, "events");
            format!(
                "SELECT {keys}window_start, window_end{aggregates} FROM {window}{filter} GROUP BY {keys}window_start, window_end{having}{emit}"
            )
        }
        3 => {
            let key = dice.one(&["k", "g"]);
            let aggregates = named(&dice.some(AGGREGATES, 1, 4));
            let gap = 1 + dice.below(6);
            format!(
                "SELECT {key}, window_start, window_end{aggregates} \
                 FROM TABLE(SESSION(TABLE events PARTITION BY {key}, DESCRIPTOR(ts), INTERVAL '{gap}' SECOND)) \
                 GROUP BY {key}, window_start, window_end"
            )
        }
        4 => {
            let frame = match dice.below(4) {
                0 => format!("RANGE BETWEEN INTERVAL '{}' SECOND PRECEDING AND CURRENT ROW", dice.below(20)),
                1 => "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_owned(),
                2 => format!("RANGE BETWEEN INTERVAL '{}' MINUTE PRECEDING AND CURRENT ROW", 1 + dice.below(9)),
                _ => "RANGE BETWEEN INTERVAL '0.5' SECOND PRECEDING AND CURRENT ROW".to_owned(),
            };
            let partition = dice.one(&["PARTITION BY k ", "PARTITION BY g, b ", ""]);
            let aggregates: Vec<String> = dice
                .some(OVER_AGGREGATES, 1, 4)
                .iter()
                .map(|a| format!("{a} OVER ({partition}ORDER BY ts {frame})"))
                .collect();
            let aggregates: Vec<&str> = aggregates.iter().map(String::as_str).collect();
            format!("SELECT k, g, v, ts{} FROM events{filter}", named(&aggregates))
        }
        5 => {
            let (inner, emit) = (windows(dice, "events"), emit(dice));
            format!(
                "SELECT window_start, window_end, MAX(n) AS most, COUNT(*) AS groups, SUM(s) AS total FROM \
                 (SELECT k, window_start, window_end, COUNT(*) AS n, SUM(v) AS s FROM {inner}{filter} \
                 GROUP BY k, window_start, window_end{emit}) GROUP BY window_start, window_end"
            )
        }
        6 => {
            let sets = dice.one(&["GROUPING SETS ((k), (g), ())", "ROLLUP (k, g)", "CUBE (k, g)"]);
            let aggregates = named(&dice.some(AGGREGATES, 1, 3));
            let (window, emit) = (windows(dice, "events"), emit(dice));
            format!(
                "SELECT k, g, window_start, window_end{aggregates} FROM {window}{filter} GROUP BY window_start, window_end, {sets}{emit}"
            )
        }
        _ => format!(
            "SELECT k, UPPER(g) AS g, v + 1 AS w, CASE WHEN v > 0 THEN 'plus' WHEN v < 0 THEN 'minus' ELSE g END AS sign, \
             CAST(d AS STRING) IS NULL AS nothing, ts FROM events{filter} \
             UNION ALL SELECT k, g, v, 'again', b, ts FROM events WHERE b"
        ),
    }
}

#[test]
fn streaming_answers_as_batch_does_at_any_parallelism() {
    let seeds = match env("MILLSTREAM_SEED") {
        Some(one) => one..one + 1,
        None => 0..env("MILLSTREAM_SEEDS").unwrap_or(SEEDS),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for seed in seeds {
        let mut dice = Dice(seed);
        let file = folder.path().join(format!("{seed}.csv"));
        write_rows(&mut dice, &file);
        let sql = format!(
            "CREATE TABLE events (k INT, g STRING, v INT, d DOUBLE, m DECIMAL(10, 2), b BOOLEAN, ts TIMESTAMP(3), \
             WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'filesystem', 'path' = '{}', \
             'format' = 'csv', 'csv.null-literal' = '');\n{}",
            file.display(),
            query(&mut dice)
        );
        let answer = |mode, parallelism| {
            run(&sql, mode, parallelism).unwrap_or_else(|e| panic!("seed {seed}, {mode:?} x{parallelism}: {e}\n{sql}"))
        };
        let batch = answer(Mode::Batch, 1);
        for parallelism in [1, 2, 7] {
            let streaming = answer(Mode::Streaming, parallelism);
            assert!(
                streaming == batch,
                "seed {seed}: streaming x{parallelism} differs from batch: {}\n{sql}",
                difference(&streaming, &batch)
            );
        }
        std::fs::remove_file(&file).expect("the temporary file is there");
    }
}
