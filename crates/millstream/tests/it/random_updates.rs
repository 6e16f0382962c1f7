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
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Cases in a usual run.
const SEEDS: u64 = 2_000;

/// Cases at a time.
const WORKERS: usize = 2;

/// Milliseconds that a row may be behind the newest.
const DELAY: u64 = 5_000;

/// Rows of one table at the most: joins multiply them.
const ROWS_MAX: u64 = 60;

/// A CSV file of rows, in the order of their arrival.
///
/// `versions`: each row has a key, and a time of its own.
fn write_rows(dice: &mut Dice, file: &Path, versions: bool) {
    let n = dice.below(ROWS_MAX);
    let step = [1, 40, 400, 4_000][dice.below(4) as usize];
    let mut at = 1_600_000_000_000;
    let mut rows: Vec<(u64, String)> = (0..n)
        .map(|_| {
            at += dice.below(step * 2) + u64::from(versions);
            let null = |dice: &mut Dice, text: String| if dice.below(8) == 0 { String::new() } else { text };
            let k = dice.below(6).to_string();
            let k = if versions { k } else { null(dice, k) };
            let g = dice.one(&["red", "green", "blue", "a longer text than sixteen bytes"]).to_owned();
            let v = (dice.below(20) as i64 - 10).to_string();
            let v = null(dice, v);
            (at + dice.below(DELAY), format!("{k},{g},{v},{}", millstream::Watermark(at as i64)))
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
    match dice.below(16) {
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
            match dice.below(5) {
                4 => {
                    let sets = dice.one(&["GROUPING SETS ((k), (g), ())", "ROLLUP (k, g)", "CUBE (k, g)"]);
                    format!("SELECT k, g, CAST({v} AS BIGINT) AS v FROM ({a}) GROUP BY {sets}{having}")
                }
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
            match dice.below(4) {
                0 => format!("SELECT k, g, v FROM ({l}) l WHERE k {not}IN (SELECT k FROM ({r}) r)"),
                3 => format!("SELECT k, g, v FROM ({l}) l WHERE v {not}IN (SELECT v FROM ({r}) r WHERE r.k = l.k)"),
                1 => format!("SELECT k, g, v FROM ({l}) l WHERE {not}EXISTS (SELECT 1 FROM ({r}) r WHERE r.k = l.k)"),
                _ => format!(
                    "SELECT k, g, v FROM ({l}) l WHERE {not}EXISTS (SELECT 1 FROM ({r}) r WHERE r.g = l.g AND r.v > l.v)"
                ),
            }
        }
        6 => format!("SELECT DISTINCT k, g, v FROM ({})", below(dice)),
        7 => {
            let (l, r) = (below(dice), below(dice));
            let operation = dice.one(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"]);
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
        11 | 12 => marked(dice, depth),
        _ => timed(dice),
    }
}

/// IN and EXISTS where their value counts.
fn marked(dice: &mut Dice, depth: u64) -> String {
    let (l, r) = (relation(dice, depth - 1), relation(dice, depth - 1));
    let not = if dice.below(2) == 0 { "NOT " } else { "" };
    let test = match dice.below(5) {
        0 => format!("k {not}IN (SELECT k FROM ({r}) r)"),
        1 => format!("v {not}IN (SELECT v FROM ({r}) r WHERE r.k = l.k)"),
        2 => format!("{not}EXISTS (SELECT 1 FROM ({r}) r WHERE r.k = l.k AND r.v < l.v)"),
        3 => format!("(k, g) {not}IN (SELECT k, g FROM ({r}) r)"),
        _ => format!("{not}EXISTS (SELECT 1 FROM ({r}) r WHERE r.v > 8)"),
    };
    match dice.below(4) {
        0 | 1 => format!("SELECT k, g, v FROM ({l}) l WHERE {} OR {test}", dice.one(&FILTERS)),
        2 => format!("SELECT k, g, CASE WHEN {test} THEN v ELSE -v END AS v FROM ({l}) l"),
        _ => format!("SELECT k, COALESCE(CAST({test} AS STRING), 'unknown') AS g, v FROM ({l}) l"),
    }
}

/// Windows of some kind over a table, with their bounds as columns.
fn windows(dice: &mut Dice, table: &str) -> String {
    let size = 1 + dice.below(8);
    match dice.below(4) {
        0 | 1 => format!("TABLE(TUMBLE(TABLE {table}, DESCRIPTOR(ts), INTERVAL '{size}' SECOND))"),
        2 => format!(
            "TABLE(HOP(TABLE {table}, DESCRIPTOR(ts), INTERVAL '{}' SECOND, INTERVAL '{}' SECOND))",
            1 + dice.below(3),
            size + 2
        ),
        _ => {
            let step = 1 + dice.below(3);
            let size = step * (1 + dice.below(4));
            format!(
                "TABLE(CUMULATE(TABLE {table}, DESCRIPTOR(ts), INTERVAL '{step}' SECOND, INTERVAL '{size}' SECOND))"
            )
        }
    }
}

/// What goes by time: rows that come once.
fn timed(dice: &mut Dice) -> String {
    let (l, r) = (table(dice), table(dice));
    let kind = dice.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    let not = if dice.below(2) == 0 { "NOT " } else { "" };
    match dice.below(12) {
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
        3 => {
            let window = windows(dice, l);
            format!(
                "SELECT k, g, v FROM (SELECT k, g, v, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY v DESC, k, g) \
                 AS rn FROM (SELECT k, MIN(g) AS g, SUM(v) AS v, window_start, window_end FROM {window} \
                 GROUP BY k, window_start, window_end)) WHERE rn <= {}",
                1 + dice.below(3)
            )
        }
        // Rows of the same window, as they are.
        4 => {
            let (size, half) = (2 + dice.below(8), dice.below(2) == 0);
            let side = |t: &str| format!("TABLE(TUMBLE(TABLE {t}, DESCRIPTOR(ts), INTERVAL '{size}' SECOND))");
            let same = "l.k = r.k AND l.window_start = r.window_start AND l.window_end = r.window_end";
            match half {
                true => format!("SELECT l.k, r.g, l.v FROM {} l {kind} {} r ON {same} AND l.v < r.v", side(l), side(r)),
                false => format!(
                    "SELECT k, g, v FROM {} l WHERE {not}EXISTS (SELECT 1 FROM {} r WHERE {same})",
                    side(l),
                    side(r)
                ),
            }
        }
        5 => {
            let window = windows(dice, l);
            let sets = dice.one(&["k, g", "GROUPING SETS ((k), (g), ())", "CUBE (k, g)"]);
            let v = dice.one(&["SUM(v)", "COUNT(DISTINCT v)", "MAX(v) FILTER (WHERE g <> 'red')", "COUNT(*)"]);
            format!(
                "SELECT k, g, CAST({v} AS BIGINT) AS v FROM {window} GROUP BY window_start, window_end, {sets}{}",
                dice.one(&["", "", " HAVING COUNT(*) > 1"])
            )
        }
        6 => format!(
            "SELECT k, MAX(g) AS g, SUM(v) AS v FROM TABLE(SESSION(TABLE {l} PARTITION BY k, DESCRIPTOR(ts), INTERVAL '{}' SECOND)) \
             GROUP BY k, window_start, window_end",
            1 + dice.below(5)
        ),
        7 => {
            let frame = match dice.below(3) {
                0 => "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_owned(),
                1 => format!("RANGE BETWEEN INTERVAL '{}' SECOND PRECEDING AND CURRENT ROW", dice.below(20)),
                _ => format!("ROWS BETWEEN {} PRECEDING AND CURRENT ROW", dice.below(4)),
            };
            let call = dice.one(&["SUM(v)", "COUNT(*)", "MAX(v)", "COUNT(v)"]);
            let partition = dice.one(&["PARTITION BY k ", "PARTITION BY g ", ""]);
            format!("SELECT k, g, CAST({call} OVER ({partition}ORDER BY ts {frame}) AS BIGINT) AS v FROM {l}")
        }
        // The first or the last row of each key, or of each key and window.
        8 => {
            let order = dice.one(&["ts", "ts DESC"]);
            format!(
                "SELECT k, g, v FROM (SELECT k, g, v, ROW_NUMBER() OVER (PARTITION BY k ORDER BY {order}) AS rn FROM versions) \
                 WHERE rn = 1"
            )
        }
        9 => {
            let (order, window) = (dice.one(&["ts", "ts DESC"]), windows(dice, "versions"));
            format!(
                "SELECT k, g, v FROM (SELECT k, g, v, ROW_NUMBER() OVER (PARTITION BY k, window_start, window_end ORDER BY {order}) \
                 AS rn FROM {window}) WHERE rn = 1"
            )
        }
        10 => {
            let (a, b) = (dice.below(6), dice.below(6));
            let near =
                format!("l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL '{a}' SECOND AND l.ts + INTERVAL '{b}' SECOND");
            match dice.below(2) {
                0 => format!("SELECT k, g, v FROM {l} l WHERE {not}EXISTS (SELECT 1 FROM {r} r WHERE {near})"),
                _ => format!("SELECT k, g, v FROM {l} l WHERE v > 5 OR EXISTS (SELECT 1 FROM {r} r WHERE {near})"),
            }
        }
        // Batch mode has no temporal joins: there, versions hold from their time until the next one.
        _ => {
            let kind = dice.one(&["JOIN", "LEFT JOIN"]);
            let residual = dice.one(&["", "", " AND l.v < r.v"]);
            let streaming = "versions FOR SYSTEM_TIME AS OF l.ts AS r ON l.k = r.k";
            let batch = "(SELECT a.k, a.g, a.v, a.ts, MIN(b.ts) AS until FROM versions a LEFT JOIN versions b ON a.k = b.k AND \
                         b.ts > a.ts GROUP BY a.k, a.g, a.v, a.ts) AS r ON l.k = r.k AND r.ts <= l.ts AND \
                         (r.until IS NULL OR l.ts < r.until)";
            format!("SELECT l.k, r.g, l.v FROM {l} l {kind} {STREAMING}{streaming}{BATCH}{batch}{END}{residual}")
        }
    }
}

/// What a text says differently in the two modes: `{STREAMING}..{BATCH}..{END}`.
const STREAMING: char = '\u{1}';
const BATCH: char = '\u{2}';
const END: char = '\u{3}';

/// The text as one of the modes takes it.
fn said(text: &str, mode: Mode) -> String {
    let mut said = String::with_capacity(text.len());
    let mut parts = text.split(STREAMING);
    said.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (streaming, rest) = part.split_once(BATCH).expect("both modes are there");
        let (batch, rest) = rest.split_once(END).expect("both modes are there");
        said.push_str(if mode == Mode::Batch { batch } else { streaming });
        said.push_str(rest);
    }
    said
}

/// One query over rows of its own.
fn play(seed: u64, folder: &Path) {
    let mut dice = Dice(seed ^ 0x5EED);
    let names = ["events", "others", "versions"];
    let files = names.map(|name| folder.join(format!("{name}-{seed}.csv")));
    for (name, file) in names.iter().zip(&files) {
        write_rows(&mut dice, file, *name == "versions");
    }
    let tables: String = names
        .iter()
        .zip(&files)
        .map(|(name, file)| {
            let key = if *name == "versions" { "PRIMARY KEY (k) NOT ENFORCED, " } else { "" };
            format!(
                "CREATE TABLE {name} (k INT, g STRING, v BIGINT, ts TIMESTAMP(3), {key}WATERMARK FOR ts AS ts - INTERVAL \
                 '5' SECOND) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.null-literal' = '');\n",
                file.display()
            )
        })
        .collect();
    let depth = 1 + dice.below(3);
    let text = format!("{tables}{}", relation(&mut dice, depth));
    let answer = |mode, parallelism| {
        let sql = said(&text, mode);
        run(&sql, mode, parallelism).unwrap_or_else(|e| panic!("seed {seed}, {mode:?} x{parallelism}: {e}\n{sql}"))
    };
    let batch = answer(Mode::Batch, 1);
    for parallelism in [1, 2, 7] {
        let streaming = answer(Mode::Streaming, parallelism);
        assert!(
            streaming == batch,
            "seed {seed}: streaming x{parallelism} differs from batch: {}\n{}",
            difference(&streaming, &batch),
            said(&text, Mode::Streaming)
        );
    }
    files.iter().for_each(|f| std::fs::remove_file(f).expect("the temporary file is there"));
}

#[test]
fn what_stands_in_the_end_is_what_batch_answers() {
    let seeds = match env("MILLSTREAM_SEED") {
        Some(one) => one..one + 1,
        None => 0..env("MILLSTREAM_SEEDS").unwrap_or(SEEDS),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    if std::panic::catch_unwind(|| play(seed, folder.path())).is_err() {
                        failed.lock().expect("no test panics with the list in its hands").push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no test panics with the list in its hands");
    assert!(
        failed.is_empty(),
        "what failed is printed above: {} of {} seeds, {failed:?}",
        failed.len(),
        seeds.end - seeds.start
    );
}
