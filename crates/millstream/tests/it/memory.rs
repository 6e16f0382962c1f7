//! State of ten times the memory that a job is given: the same results, within the memory.

use crate::cli::{Folder, millstream, told};
use std::fmt::Write;

/// What a job is given at the least. With 4,000 bytes of state for each row, there is ten times as much.
const MEMORY_MB: u64 = 16;
const ROWS: u64 = 40_000;
const STATE_MB: f64 = 160.0;

/// `ROWS` rows, in order of time within a few seconds, each with a note of 4,000 bytes that no other has. The watermark is
/// so far behind that all of them wait for it.
fn events(folder: &Folder) -> String {
    let mut text = String::new();
    for i in 0..ROWS {
        // Some number of this row, the same in each run.
        let random =
            (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20;
        let (at, who) = (i / 4 + random % 4, random % 5_000);
        let (h, m, s) = (at / 3600, at / 60 % 60, at % 60);
        writeln!(text, "2024-01-01 {h:02}:{m:02}:{s:02},{who},{i},{},{i:04000}", random % 1000)
            .expect("a string grows");
    }
    let path = folder.write("events.csv", &text);
    format!(
        "CREATE TABLE events (ts TIMESTAMP(3), who INT, place INT, n INT, note STRING, \
         WATERMARK FOR ts AS ts - INTERVAL '3' HOUR) \
         WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv');\n"
    )
}

fn compare(what: &str, columns: &str, query: &str) {
    let folder = Folder::new();
    let scratch = folder.path("scratch").display().to_string();
    let given = format!("{MEMORY_MB}mb");
    let state = folder.path("state").display().to_string();
    let table = events(&folder);
    let job = |name: &str, more: &[&str]| {
        let out = folder.path(name).display().to_string();
        let sink = format!(
            "CREATE TABLE out ({columns}) WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'csv');\n"
        );
        let sql = format!("{table}{sink}INSERT INTO out {query}");
        let args = [&["run", "-e", sql.as_str(), "--progress", "plain", "--parallelism", "1"], more].concat();
        let (code, printed, err) = told(&millstream(&args));
        assert_eq!(code, 0, "{what}: {printed}{err}");
        let mut lines = Vec::new();
        for file in folder.files(name).iter().filter(|f| f.starts_with("part-")) {
            let text = std::fs::read_to_string(folder.path(name).join(file)).expect("an output file");
            lines.extend(text.lines().map(str::to_owned));
        }
        lines.sort();
        (lines, peak(&err))
    };
    let (expected, in_memory) = job("large", &["--memory", "4gb"]);
    assert!(!expected.is_empty());
    let little = ["--memory", &given, "--scratch", &scratch];
    let saving = [&little[..], &["--state", &state, "--checkpoint-interval", "2s"]].concat();
    for (name, more) in [("small", &little[..]), ("saved", &saving)] {
        let (got, peak) = job(name, more);
        println!("{what}, {name}: peak {in_memory} MB in memory, {peak} MB with --memory {given}");
        assert!(got == expected, "{what}, {name}: {} rows, not {}, or others", got.len(), expected.len());
        // What a checkpoint encodes comes on top.
        let within = name == "saved" || peak < in_memory - STATE_MB / 2.0;
        assert!(within, "{what}, {name}: {peak} MB with {given}, {in_memory} MB without");
        assert!(folder.files("scratch").is_empty(), "scratch files are left");
    }
}

/// In MB, from the last word of a job.
fn peak(err: &str) -> f64 {
    let peak = err.rsplit("peak memory ").next().unwrap_or_default();
    let mut words = peak.split_whitespace();
    let number: f64 = words.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no peak in {err}"));
    if words.next().is_some_and(|unit| unit.starts_with('G')) { number * 1024.0 } else { number }
}

#[test]
fn over_rows_that_are_ten_times_the_memory() {
    let query = "SELECT ts, place, SUM(n) OVER w, COUNT(*) OVER w, note FROM events WINDOW w AS \
                 (PARTITION BY who ORDER BY ts RANGE BETWEEN INTERVAL '10' MINUTE PRECEDING AND CURRENT ROW)";
    compare("OVER", "ts TIMESTAMP(3), place INT, total BIGINT, times BIGINT, note STRING", query);
}

#[test]
fn sessions_that_are_ten_times_the_memory() {
    let query = "SELECT window_start, window_end, note, COUNT(*), SUM(n), COUNT(DISTINCT n) FROM \
                 TABLE(SESSION(TABLE events PARTITION BY note, DESCRIPTOR(ts), INTERVAL '1' HOUR)) \
                 GROUP BY window_start, window_end, note";
    let columns = "s TIMESTAMP(3), e TIMESTAMP(3), note STRING, times BIGINT, total BIGINT, various BIGINT";
    compare("sessions", columns, query);
}

#[test]
fn rows_of_sessions_that_are_ten_times_the_memory() {
    let query = "SELECT window_start, window_end, note, place FROM \
                 TABLE(SESSION(TABLE events PARTITION BY who, DESCRIPTOR(ts), INTERVAL '1' HOUR))";
    compare("rows of sessions", "s TIMESTAMP(3), e TIMESTAMP(3), note STRING, place INT", query);
}
