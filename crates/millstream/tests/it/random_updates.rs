//! Random queries whose results are updated: joins, aggregates without windows, set operations, top-N, one inside the other.
//! What stands in the end, at any parallelism, is what batch answers, and batch is another engine.
//!
//! Every relation has the columns `k INT, g STRING, v BIGINT`, so that any can stand in any other. No row is late. Where rows
//! are chosen by an order, the order names all columns, so that there is one answer.
//!
//! A failing case prints its seed and its SQL; `MILLSTREAM_SEED=n` plays one seed alone, and `MILLSTREAM_SEEDS=n` plays that
//! many.

use crate::dice::{Dice, env};
use crate::support::{difference, run};
use millstream::Mode;
use std::path::Path;

/// Cases in a usual run.
const SEEDS: u64 = 250;

/// Milliseconds that a row may be behind the newest.
const DELAY: u64 = 5_000;

/// Rows of one table at the most: joins multiply them.
const ROWS_MAX: u64 = 60;

/// A CSV file of rows, in the order of their arrival.
fn write_rows(dice: &mut Dice, file: &Path) {
    let n = dice.below(ROWS_MAX);
    let step = [1, 40, 400, 4_000][dice.below(4) as usize];
    let mut at = 1_600_000_000_000;
    let mut rows: Vec<(u64, String)> = (0..n)
        .map(|_| {
            at += dice.below(step * 2);
            let null = |dice: &mut Dice, text: String| if dice.below(8) == 0 { String::new() } else { text };
            let k = dice.below(6).to_string();
            let k = null(dice, k);
            let g = dice.one(&["red", "green", "blue", "a longer text than sixteen bytes"]).to_owned();
            let v = (dice.below(20) as i64 - 10).to_string();
            let v = null(dice, v);
            let d = format!("{}", (dice.below(2_000_001) as f64 - 1e6) / [1.0, 7.0, 1e-9][dice.below(3) as usize]);
            (at + dice.below(DELAY), format!("{k},{g},{v},{d},{}", millstream::Watermark(at as i64)))
        })
        .collect();
    rows.sort_by_key(|(arrival, _)| *arrival);
    let text: String = rows.into_iter().map(|(_, row)| row + "\n").collect();
    std::fs::write(file, text).expect("a temporary file can be written");
}

const FILTERS: [&str; 6] =
    ["v > 0", "g <> 'red'", "v IS NOT NULL", "k = 1 OR g LIKE '%e%'", "MOD(v, 3) = 0", "k IS NULL OR v < 5"];

fn filter(dice: &mut Dice) -> String {
    if dice.below(2) == 0 { format!(" WHERE {}", dice.one(&FILTERS)) } else { String::new() }
}

fn table(dice: &mut Dice) -> &'static str {
    if dice.below(2) == 0 { "events" } else { "others" }
}

/// A relation of `k INT, g STRING, v BIGINT`.
fn relation(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 || dice.below(6) == 0 {
        let (table, filter) = (table(dice), filter(dice));
        return format!("SELECT k, g, v FROM {table}{filter}");
    }
    let below = |dice: &mut Dice| relation(dice, depth - 1);
    match dice.below(12) {
        0 | 1 => {
            let v = dice.one(&[
                "SUM(v)",
                "COUNT(*)",
                "COUNT(v)",
                "MIN(v)",
                "MAX(v)",
                "COUNT(DISTINCT v)",
                "SUM(DISTINCT v)",
                "AVG(v)",
                "COUNT(*) FILTER (WHERE v > 0)",
                "SUM(v) FILTER (WHERE g <> 'red')",
            ]);
            let (a, having) = (below(dice), if dice.below(3) == 0 { " HAVING COUNT(*) > 1" } else { "" });
            match dice.below(4) {
                0 => format!("SELECT k, MIN(g) AS g, CAST({v} AS BIGINT) AS v FROM ({a}) GROUP BY k{having}"),
                1 => format!("SELECT MAX(k) AS k, g, CAST({v} AS BIGINT) AS v FROM ({a}) GROUP BY g{having}"),
                2 => format!("SELECT k, g, CAST({v} AS BIGINT) AS v FROM ({a}) GROUP BY k, g{having}"),
                _ => format!("SELECT MIN(k) AS k, MAX(g) AS g, CAST({v} AS BIGINT) AS v FROM ({a}){having}"),
            }
        }
        2..=4 => {
            let kind = dice.one(&["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
            let residual = dice.one(&["", "", " AND l.v < r.v", " AND l.g = r.g", " AND (l.v > 0 OR r.g = 'red')"]);
            let (l, r) = (below(dice), below(dice));
            let columns = dice.one(&["l.k, r.g, l.v", "r.k, l.g, r.v", "l.k, l.g, r.v", "r.k, r.g, l.v + r.v AS v"]);
            format!("SELECT {columns} FROM ({l}) l {kind} ({r}) r ON l.k = r.k{residual}")
        }
        5 => {
            let (l, r) = (below(dice), below(dice));
            let not = if dice.below(2) == 0 { "NOT " } else { "" };
            match dice.below(3) {
                0 => format!("SELECT k, g, v FROM ({l}) l WHERE k {not}IN (SELECT k FROM ({r}) r)"),
                1 => format!("SELECT k, g, v FROM ({l}) l WHERE {not}EXISTS (SELECT 1 FROM ({r}) r WHERE r.k = l.k)"),
                _ => format!(
                    "SELECT k, g, v FROM ({l}) l WHERE {not}EXISTS (SELECT 1 FROM ({r}) r WHERE r.g = l.g AND r.v > l.v)"
                ),
            }
        }
        6 => format!("SELECT DISTINCT k, g, v FROM ({})", below(dice)),
        7 => {
            let (l, r) = (below(dice), below(dice));
            let operation = dice.one(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT"]);
            format!("(SELECT k, g, v FROM ({l})) {operation} (SELECT k, g, v FROM ({r}))")
        }
        8 => {
            let rank = dice.one(&["ROW_NUMBER", "RANK", "DENSE_RANK"]);
            let partition = dice.one(&["PARTITION BY k ", "PARTITION BY g ", ""]);
            let order = dice.one(&["v DESC, k, g", "g, v, k DESC", "k, g DESC, v"]);
            let ranks = dice.one(&["rn <= 1", "rn <= 3", "rn < 3", "rn = 1", "rn BETWEEN 2 AND 3"]);
            let v = dice.one(&["v", "CAST(rn AS BIGINT) AS v"]);
            format!(
                "SELECT k, g, {v} FROM (SELECT *, {rank}() OVER ({partition}ORDER BY {order}) AS rn FROM ({})) WHERE {ranks}",
                below(dice)
            )
        }
        9 => {
            let offset = if dice.below(3) == 0 { " OFFSET 2" } else { "" };
            format!("SELECT k, g, v FROM ({}) ORDER BY v DESC, g, k LIMIT {}{offset}", below(dice), 1 + dice.below(6))
        }
        10 => {
            let (l, r) = (below(dice), below(dice));
            match dice.below(2) {
                0 => format!("SELECT k, g, v FROM ({l}) WHERE v > (SELECT MIN(v) FROM ({r}))"),
                _ => format!("SELECT k, g, v FROM ({l}) l WHERE v >= (SELECT MAX(v) FROM ({r}) r WHERE r.k = l.k)"),
            }
        }
        _ => timed(dice),
    }
}

/// What goes by time: rows that come once.
fn timed(dice: &mut Dice) -> String {
    let (l, r) = (table(dice), table(dice));
    let kind = dice.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    match dice.below(4) {
        0 | 1 => {
            let (a, b) = (dice.below(6), dice.below(6));
            let residual = dice.one(&["", "", " AND l.v < r.v"]);
            format!(
                "SELECT l.k, r.g, CAST(l.v AS BIGINT) AS v FROM {l} l {kind} {r} r ON l.k = r.k \
                 AND l.ts BETWEEN r.ts - INTERVAL '{a}' SECOND AND r.ts + INTERVAL '{b}' SECOND{residual}"
            )
        }
        2 => {
            let size = 1 + dice.below(8);
            let side = |t: &str| {
                format!(
                    "(SELECT k, MIN(g) AS g, COUNT(*) AS v, window_start, window_end FROM \
                     TABLE(TUMBLE(TABLE {t}, DESCRIPTOR(ts), INTERVAL '{size}' SECOND)) GROUP BY k, window_start, window_end)"
                )
            };
            format!(
                "SELECT l.k, r.g, l.v FROM {} l {kind} {} r \
                 ON l.k = r.k AND l.window_start = r.window_start AND l.window_end = r.window_end",
                side(l),
                side(r)
            )
        }
        _ => format!(
            "SELECT k, g, v FROM (SELECT k, g, v, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v DESC, k, g) \
             AS rn FROM (SELECT k, MIN(g) AS g, SUM(v) AS v, window_start, window_end FROM \
             TABLE(TUMBLE(TABLE {l}, DESCRIPTOR(ts), INTERVAL '{}' SECOND)) GROUP BY k, window_start, window_end)) WHERE rn <= {}",
            1 + dice.below(8),
            1 + dice.below(3)
        ),
    }
}

#[test]
fn what_stands_in_the_end_is_what_batch_answers() {
    let seeds = match env("MILLSTREAM_SEED") {
        Some(one) => one..one + 1,
        None => 0..env("MILLSTREAM_SEEDS").unwrap_or(SEEDS),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    for seed in seeds {
        let mut dice = Dice(seed ^ 0x5EED);
        let files = ["events", "others"].map(|name| folder.path().join(format!("{name}-{seed}.csv")));
        files.iter().for_each(|f| write_rows(&mut dice, f));
        let tables: String = ["events", "others"]
            .iter()
            .zip(&files)
            .map(|(name, file)| {
                format!(
                    "CREATE TABLE {name} (k INT, g STRING, v BIGINT, d DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL \
                     '5' SECOND) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.null-literal' = '');\n",
                    file.display()
                )
            })
            .collect();
        let depth = 1 + dice.below(3);
        let sql = format!("{tables}{}", relation(&mut dice, depth));
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
        files.iter().for_each(|f| std::fs::remove_file(f).expect("the temporary file is there"));
    }
}
