//! What a seed computes: rows in a log, and SQL over them.
//!
//! A result must be a function of the rows alone, or there is nothing to compare. So:
//! - Rows come out of order, but never farther than the watermark's delay, wherever a log has several partitions or a
//!   query has several logs: then no row is late.
//! - Late rows are in logs of one partition alone. Its watermark before each row is a function of the rows before it,
//!   and rows carry it along as marks: whether a row is late, and by which watermark, does not depend on the interleaving.
//! - A partition that becomes idle has given all rows that another one could make late, and goes on with rows later than
//!   all others'. The others never pause before they have given their last row, so none of them becomes idle in between.
//! - `LIMIT` takes rows in the order of arrival: one partition, and nothing that lies between.
//! - With allowed lateness, how often a window is shown depends on the batches, and with panes by the clock on the clock; its
//!   last showing, the one that counts most rows, does not. That one is compared.
//! - Where results are updated, what stands in the end is compared: how often something was said and taken back in between
//!   depends on the batches.

use crate::dice::Dice;
use crate::sink::{BETWEEN, TableKind};
use crate::updating;
use millstream_core::ChangeKind;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// Milliseconds that a row may be behind the newest of its partition.
const DELAY: u64 = 5_000;

const FIRST_ROW: u64 = 1_600_000_000_000;

/// One entry of a log.
#[derive(Debug, Clone)]
pub enum Entry {
    Row(Row),
    /// Bytes that are no row.
    Bad(String),
}

#[derive(Debug, Clone)]
pub struct Row {
    pub k: Option<i32>,
    pub g: Option<&'static str>,
    pub v: Option<i32>,
    pub d: Option<f64>,
    pub m: Option<i128>,
    pub b: Option<bool>,
    pub ts: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct Partition {
    pub entries: Vec<Entry>,
    /// Of 10,000 polls so many find nothing.
    pub pauses: u64,
    /// It gives nothing from here on until all others have been read.
    pub silent_at: Option<usize>,
}

/// A table of the log.
#[derive(Debug, Clone)]
pub struct Log {
    pub name: String,
    /// Which log of the workload it is: part of the order of its rows.
    pub source: usize,
    pub partitions: Vec<Partition>,
}

/// What one seed computes.
#[derive(Debug)]
pub struct Workload {
    pub sql: String,
    pub logs: BTreeMap<String, Arc<Log>>,
    pub kinds: BTreeMap<String, TableKind>,
    /// All rows of a table go through one writer.
    pub single_writer: bool,
    /// Some partition falls silent.
    pub idles: bool,
    /// Of windows that are shown again: the column that counts, and the columns before it that name a window.
    pub last_by: Option<usize>,
    /// What was said may be taken back.
    pub updates: bool,
    /// Tasks come to be saved at different watermarks, and as others are restored from that.
    pub straggles: bool,
}

/// Of 10,000 seeds so many have a result that is updated, or a join.
const UPDATES: u64 = 2_000;

/// And so many are about tasks that lag behind one another, with windows that are kept for late rows: whether such a window has
/// been shown is told by the watermark of its task alone.
const STRAGGLES: u64 = 1_000;

/// Properties that the query and the rows have to agree upon.
struct Shape {
    partitions: usize,
    late: bool,
    two_logs: bool,
    idles: bool,
}

const KEYS: &[&str] = &["k", "g", "b"];

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
    "SUM(v * 2 + 1)",
    "VAR_POP(v)",
    "STDDEV_SAMP(v)",
    "VAR_SAMP(d)",
    "STDDEV_POP(v)",
    "APPROX_COUNT_DISTINCT(v)",
];

/// Their answers depend on the order of rows of one time, which the log gives.
const ORDERED: &[&str] = &["FIRST_VALUE(v)", "LAST_VALUE(v)", "LAST_VALUE(g)", "LISTAGG(g)", "ARRAY_AGG(v)"];

const OVER: &[&str] =
    &["COUNT(*)", "COUNT(v)", "SUM(v)", "AVG(v)", "MIN(v)", "MAX(v)", "SUM(d)", "AVG(d)", "MAX(d)", "SUM(m)", "MIN(g)"];

pub const FILTERS: &[&str] = &["v > 0", "b", "g <> 'red'", "v IS NOT NULL AND d < 1000", "k = 1 OR g LIKE '%e%'"];

impl Workload {
    pub fn new(seed: u64) -> Workload {
        let mut dice = Dice::new(seed, 1);
        let late = dice.chance(3_500);
        let partitions = if late { 1 } else { dice.between(1, 5) as usize };
        let idles = !late && partitions > 1 && dice.chance(2_000);
        let mut shape = Shape { partitions, late, two_logs: !late && !idles && dice.chance(2_000), idles };
        // Chance of its own, so that all other seeds compute what they computed before there were updates.
        let mut updating = Dice::new(seed, 4);
        let updates = updating.chance(UPDATES);
        let straggles = !updates && Dice::new(seed, 5).chance(STRAGGLES);
        let (query, last_by) = if updates {
            shape.two_logs = !late && !idles && updating.chance(6_000);
            let query = match shape.two_logs {
                true => updating::over_two_logs(&mut updating, Dice::new(seed, 7).chance(5_000)),
                false => updating::over_one_log(&mut updating),
            };
            (query, None)
        } else if straggles {
            windows_with_lateness(&mut Dice::new(seed, 6), "")
        } else {
            query(&mut dice, &shape)
        };
        let mut logs = BTreeMap::new();
        let names: &[&str] = if shape.two_logs { &["events", "more"] } else { &["events"] };
        for (source, name) in names.iter().enumerate() {
            let partitions = partitions_of(&mut dice, &shape);
            logs.insert((*name).to_owned(), Arc::new(Log { name: (*name).to_owned(), source, partitions }));
        }
        let mut kinds = BTreeMap::new();
        for table in ["result", "out", "again", "late", "bad"] {
            kinds.insert(table.to_owned(), dice.one(&[TableKind::Ledger, TableKind::Files]));
        }
        let columns = "k INT, g STRING, v INT, d DOUBLE, m DECIMAL(10, 2), b BOOLEAN, ts TIMESTAMP(3)";
        let mut sql = String::new();
        for name in names {
            let _ = writeln!(
                sql,
                "CREATE TABLE {name} ({columns}, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'log');"
            );
        }
        sql.push_str(
            "CREATE TABLE late (operator STRING, reason STRING, event_time TIMESTAMP(3), `watermark` TIMESTAMP(3), \
             `row` STRING) WITH ('connector' = 'table');\n\
             CREATE TABLE bad (source STRING, place STRING, reason STRING, raw STRING) WITH ('connector' = 'table');\n\
             SET 'millstream.late-rows.table' = 'late';\nSET 'millstream.bad-rows.table' = 'bad';\n",
        );
        if idles {
            sql.push_str("SET 'table.exec.source.idle-timeout' = '1 h';\n");
        }
        sql.push_str(&query);
        sql.push(';');
        Workload { sql, logs, kinds, single_writer: dice.chance(1_500), idles, last_by, updates, straggles }
    }

    /// What counts of a table's rows.
    pub fn settled(&self, table: &str, rows: Vec<String>) -> Vec<String> {
        if self.updates && table == "result" {
            return standing(rows);
        }
        let Some(column) = self.last_by.filter(|_| table == "result") else { return rows };
        let mut last: BTreeMap<String, (i64, String)> = BTreeMap::new();
        for row in rows {
            // Whether a showing is the first or a later one depends on the batches, too.
            if row.ends_with("-U") {
                continue;
            }
            let row = row.trim_end_matches("+U").to_owned();
            let values: Vec<&str> = row.split(BETWEEN).collect();
            let count = values[column].parse::<i64>().unwrap_or(0);
            let name = values[..column].join("|");
            if last.get(&name).is_none_or(|(most, _)| *most < count) {
                last.insert(name, (count, row));
            }
        }
        last.into_values().map(|(_, row)| row).collect()
    }
}

/// Rows that were said more often than they were taken back. Taken back more often than said: with the kind of change.
fn standing(rows: Vec<String>) -> Vec<String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows {
        let taken_back = [ChangeKind::UpdateBefore, ChangeKind::Delete].map(ChangeKind::short);
        let (text, count) = match taken_back.iter().find_map(|kind| row.strip_suffix(kind)) {
            Some(text) => (text, -1),
            None => (row.strip_suffix(ChangeKind::UpdateAfter.short()).unwrap_or(&row), 1),
        };
        *counts.entry(text.to_owned()).or_default() += count;
    }
    let said = |(row, count): (String, i64)| {
        let row = if count < 0 { format!("{row}{}", ChangeKind::Delete.short()) } else { row };
        std::iter::repeat_n(row, count.unsigned_abs() as usize)
    };
    counts.into_iter().flat_map(said).collect()
}

fn partitions_of(dice: &mut Dice, shape: &Shape) -> Vec<Partition> {
    let rows = dice.one(&[20, 100, 300, 600]);
    let per_partition = |dice: &mut Dice| 1 + dice.below(rows / shape.partitions as u64 + 1) as usize;
    let step = dice.one(&[5, 40, 400, 4_000]);
    let silent = shape.idles.then(|| dice.below(shape.partitions as u64) as usize);
    let mut partitions = Vec::new();
    let mut latest = FIRST_ROW;
    for p in 0..shape.partitions {
        let n = per_partition(dice);
        let (entries, end) = entries(dice, n, step, FIRST_ROW, shape.late);
        latest = latest.max(end);
        let pauses = if silent.is_some_and(|s| s != p) { 0 } else { dice.one(&[0, 1_000, 5_000, 8_000]) };
        partitions.push(Partition { entries, pauses, silent_at: None });
    }
    if let Some(silent) = silent {
        let n = per_partition(dice);
        let (after, _) = entries(dice, n, step, latest + 3 * DELAY, false);
        let partition = &mut partitions[silent];
        partition.silent_at = Some(partition.entries.len());
        partition.entries.extend(after);
    }
    partitions
}

/// Rows in the order of their arrival, and the latest time among them.
fn entries(dice: &mut Dice, n: usize, step: u64, from: u64, late: bool) -> (Vec<Entry>, u64) {
    let mut at = from + dice.below(10_000);
    let mut rows: Vec<(u64, u64)> = Vec::with_capacity(n);
    for _ in 0..n {
        // Ties are common, and now and then there is a long silence.
        if dice.below(4) > 0 {
            at += dice.below(step * 2);
        }
        if dice.below(60) == 0 {
            at += dice.below(60_000);
        }
        rows.push((at + dice.below(DELAY), at));
    }
    rows.sort_by_key(|(arrival, _)| *arrival);
    let mut newest = from;
    let mut all = Vec::with_capacity(n);
    for (_, at) in rows {
        newest = newest.max(at);
        if dice.below(40) == 0 {
            all.push(Entry::Bad(format!("not a row {}", dice.below(1_000))));
        }
        let ts = match (late, dice.below(100)) {
            (_, 0) => None,
            (true, 1..=12) => Some((newest - DELAY).saturating_sub(dice.below(30_000)) as i64),
            _ => Some(at as i64),
        };
        all.push(Entry::Row(row(dice, ts)));
    }
    (all, at)
}

fn row(dice: &mut Dice, ts: Option<i64>) -> Row {
    let null = |dice: &mut Dice| dice.below(12) == 0;
    let k = dice.below(7) as i32;
    let v = dice.below(200) as i32 - 100;
    let d = (dice.below(2_000_001) as f64 - 1e6) / dice.one(&[1.0, 7.0, 1e-9, 1e12]);
    let m = i128::from(dice.below(100_000));
    Row {
        k: (!null(dice)).then_some(k),
        g: Some(dice.one(&["red", "green", "blue", "a longer text than sixteen bytes"])),
        v: (!null(dice)).then_some(v),
        d: (!null(dice)).then_some(d),
        m: (!null(dice)).then_some(m),
        b: Some(dice.below(2) == 0),
        ts,
    }
}

pub fn windows(dice: &mut Dice, source: &str) -> String {
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

fn session(dice: &mut Dice, source: &str, key: &str) -> String {
    let gap = 1 + dice.below(6);
    format!("TABLE(SESSION(TABLE {source} PARTITION BY {key}, DESCRIPTOR(ts), INTERVAL '{gap}' SECOND))")
}

pub fn named(calls: &[&str]) -> String {
    calls.iter().enumerate().fold(String::new(), |mut text, (i, call)| {
        let _ = write!(text, ", {call} AS a{i}");
        text
    })
}

/// The statement, and by which column windows are shown again.
fn query(dice: &mut Dice, shape: &Shape) -> (String, Option<usize>) {
    let filter = if dice.chance(4_000) { format!(" WHERE {}", dice.one(FILTERS)) } else { String::new() };
    if shape.two_logs {
        return (two_logs(dice, &filter), None);
    }
    let aggregates = [AGGREGATES, ORDERED].concat();
    // Single tasks that a restore brings together are no place for LIMIT, and neither are several partitions.
    let kinds = if shape.partitions == 1 { 11 } else { 10 };
    match dice.below(kinds) {
        0 | 1 => {
            let keys: String = dice.some(KEYS, 0, 2).iter().map(|k| format!("{k}, ")).collect();
            let calls = named(&dice.some(&aggregates, 1, 5));
            let having = if dice.below(4) == 0 { " HAVING COUNT(*) > 1" } else { "" };
            let window = windows(dice, "events");
            let query = format!(
                "SELECT {keys}window_start, window_end{calls} FROM {window}{filter} GROUP BY {keys}window_start, window_end{having}"
            );
            (query, None)
        }
        2 => windows_with_lateness(dice, &filter),
        3 | 4 => {
            let key = dice.one(&["k", "g"]);
            let calls = named(&dice.some(&aggregates, 1, 4));
            let window = session(dice, "events", key);
            let query = format!(
                "SELECT {key}, window_start, window_end{calls} FROM {window} GROUP BY {key}, window_start, window_end"
            );
            (query, None)
        }
        5 | 6 => (over(dice, &filter), None),
        7 => {
            // Rows of windows, and windows attached to rows.
            let window = if dice.chance(5_000) { session(dice, "events", "k") } else { windows(dice, "events") };
            let query = match dice.below(2) {
                0 => format!("SELECT k, g, v, ts, window_start, window_end, window_time FROM {window}{filter}"),
                _ => format!(
                    "SELECT g, window_start, window_end, COUNT(*) AS n, SUM(v) AS s FROM \
                     (SELECT k, g, v, window_start, window_end FROM {window}{filter}) GROUP BY g, window_start, window_end"
                ),
            };
            (query, None)
        }
        8 => {
            let window = windows(dice, "events");
            let query = format!(
                "SELECT window_start, window_end, MAX(n) AS most, COUNT(*) AS many, SUM(s) AS total FROM \
                 (SELECT k, window_start, window_end, COUNT(*) AS n, SUM(v) AS s FROM {window}{filter} \
                 GROUP BY k, window_start, window_end) GROUP BY window_start, window_end"
            );
            (query, None)
        }
        9 => {
            let (one, other) = (windows(dice, "events"), dice.one(&["v > 0", "b"]));
            let query = format!(
                "CREATE TABLE `out` (k INT, window_start TIMESTAMP(3), n BIGINT NOT NULL) WITH ('connector' = 'table');\n\
                 CREATE TABLE again (k INT, g STRING, v INT, ts TIMESTAMP(3)) WITH ('connector' = 'table');\n\
                 EXECUTE STATEMENT SET BEGIN\n\
                 INSERT INTO `out` SELECT k, window_start, COUNT(*) FROM {one} GROUP BY k, window_start, window_end;\n\
                 INSERT INTO again SELECT k, g, v, ts FROM events WHERE {other};\nEND"
            );
            (query, None)
        }
        _ => (format!("SELECT k, g, v, ts FROM events{filter} LIMIT {}", dice.below(100)), None),
    }
}

/// Windows that are shown again for late rows.
fn windows_with_lateness(dice: &mut Dice, filter: &str) -> (String, Option<usize>) {
    let keys = dice.some(KEYS, 0, 2);
    let (columns, names) = (keys.len() + 2, keys.iter().map(|k| format!("{k}, ")).collect::<String>());
    let calls = named(&dice.some(AGGREGATES, 1, 4));
    let window = windows(dice, "events");
    let lateness = 1 + dice.below(20);
    // By a setting, or in panes: by rows, and by the clock.
    let (set, emit) = match lateness % 6 {
        0..=3 => (format!("SET 'table.exec.emit.allow-lateness' = '{lateness} s';\n"), String::new()),
        4 => (String::new(), format!(" EMIT EARLY EVERY {lateness} ROWS")),
        _ => (String::new(), " EMIT EARLY EVERY INTERVAL '0.05' SECOND LATE EVERY 2 ROWS".into()),
    };
    let emit = match emit.is_empty() {
        true => emit,
        false => format!("{emit} ALLOWED LATENESS INTERVAL '{lateness}' SECOND ACCUMULATING"),
    };
    let query = format!(
        "{set}SELECT {names}window_start, window_end, COUNT(*) AS n{calls} FROM {window}{filter} \
         GROUP BY {names}window_start, window_end{emit}"
    );
    (query, Some(columns))
}

fn over(dice: &mut Dice, filter: &str) -> String {
    let partition = dice.one(&["PARTITION BY k ", "PARTITION BY g, b ", ""]);
    let frame = match dice.below(5) {
        0 => format!("RANGE BETWEEN INTERVAL '{}' SECOND PRECEDING AND CURRENT ROW", dice.below(20)),
        1 => "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_owned(),
        2 => format!("RANGE BETWEEN INTERVAL '{}' MINUTE PRECEDING AND CURRENT ROW", 1 + dice.below(9)),
        3 => format!("ROWS BETWEEN {} PRECEDING AND CURRENT ROW", dice.below(6)),
        _ => "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".to_owned(),
    };
    let calls = dice.some(OVER, 1, 3);
    let mut calls: Vec<String> = calls.iter().map(|a| format!("{a} OVER ({partition}ORDER BY ts {frame})")).collect();
    if dice.chance(4_000) {
        let call = dice.one(&["ROW_NUMBER()", "RANK()", "DENSE_RANK()", "LAG(v, 2)"]);
        calls.push(format!("{call} OVER ({partition}ORDER BY ts)"));
    }
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    format!("SELECT k, g, v, ts{} FROM events{filter}", named(&calls))
}

fn two_logs(dice: &mut Dice, filter: &str) -> String {
    let calls = named(&dice.some(AGGREGATES, 1, 4));
    let both = "CREATE VIEW both_logs AS SELECT k, g, v, d, m, b, ts FROM events \
                UNION ALL SELECT k, g, v, d, m, b, ts FROM more;\n";
    match dice.below(3) {
        0 => format!("SELECT k, g, v, ts FROM events{filter} UNION ALL SELECT k, g, v, ts FROM more"),
        1 => {
            let window = windows(dice, "both_logs");
            format!(
                "{both}SELECT k, window_start, window_end{calls} FROM {window}{filter} GROUP BY k, window_start, window_end"
            )
        }
        _ => {
            let (one, other) = (windows(dice, "events"), windows(dice, "more"));
            let query = |window: &str| {
                format!("SELECT g, window_start, window_end{calls} FROM {window} GROUP BY g, window_start, window_end")
            };
            format!("{} UNION ALL {}", query(&one), query(&other))
        }
    }
}
