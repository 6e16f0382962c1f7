//! State of ten times the memory that a job is given: the same results, within the memory.

use crate::cli::{Folder, millstream, told};
use crate::support::texts;
use arrow::datatypes::SchemaRef;
use millstream::{Batch, ByteSize, JobConfig, Mode, Program, ResultRows, RunOptions, Runner, Step, standing};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

#[test]
fn rows_of_a_join_that_are_ten_times_the_memory() {
    let query = "SELECT a.ts, a.place, b.n, a.note FROM events a JOIN events b ON a.place = b.place";
    compare("a join", "ts TIMESTAMP(3), place INT, n INT, note STRING", query);
}

/// Orders of 9,000 customers and what is known of these, each with a text of 400 bytes: joined, summed up and ranked they are
/// several times what a job is given.
fn orders(folder: &Folder) -> String {
    let random =
        |i: u64| (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 20;
    let mut text = String::new();
    for i in 0..30_000 {
        writeln!(text, "{i},{},{},{i:0400}", random(i) % 9_000, random(i) / 9_000 % 1_000).expect("a string grows");
    }
    let orders = folder.write("orders.csv", &text);
    let people: String = (0..9_000u64).fold(String::new(), |text, who| text + &format!("{who},{who:0400}\n"));
    let people = folder.write("people.csv", &people);
    format!(
        "CREATE TABLE orders (id INT, who INT, n INT, note STRING) \
         WITH ('connector' = 'filesystem', 'path' = '{orders}', 'format' = 'csv');\n\
         CREATE TABLE people (who INT, about STRING) \
         WITH ('connector' = 'filesystem', 'path' = '{people}', 'format' = 'csv');\n"
    )
}

/// What stands in the end of a streaming job with so much memory, and the bytes that it has written to files meanwhile.
fn little(sql: &str, memory_mb: u64, parallelism: usize, scratch: PathBuf) -> millstream::Result<(Vec<String>, u64)> {
    let rows = Arc::<Rows>::default();
    let job = JobConfig { memory: Some(ByteSize::mib(memory_mb)), scratch: Some(scratch), ..JobConfig::default() };
    let options =
        RunOptions { mode: Some(Mode::Streaming), parallelism: Some(parallelism), job, ..RunOptions::default() };
    let options = RunOptions { tables: options.tables.with_result(rows.clone()), ..options };
    let mut runner = Runner::new(Program::parse(sql, "test.sql")?, options);
    let mut written = 0;
    while let Some(step) = runner.step() {
        if let Step::Running(running) = step? {
            while !running.is_finished() {
                std::thread::sleep(Duration::from_millis(5));
            }
            written = running.scratch_written();
            running.wait()?;
        }
    }
    let mut stands = texts(&standing(&rows.0.lock().expect("no test has failed with it"))?);
    stands.sort_unstable();
    Ok((stands, written))
}

#[derive(Default)]
struct Rows(Mutex<Vec<Batch>>);

impl ResultRows for Rows {
    fn start(&self, _: &SchemaRef, _: bool) -> millstream::Result<()> {
        Ok(())
    }

    fn rows(&self, batch: &Batch) -> millstream::Result<()> {
        self.0.lock().expect("no test has failed with it").push(batch.clone());
        Ok(())
    }

    fn flush(&self) -> millstream::Result<()> {
        Ok(())
    }

    fn finish(&self) -> millstream::Result<()> {
        Ok(())
    }
}

#[test]
fn a_join_its_sums_and_a_ranking_of_these_that_are_several_times_the_memory() {
    let folder = Folder::new();
    let sql = format!(
        "{}SELECT who, total, times, about, latest, r FROM (SELECT who, total, times, about, latest, \
         ROW_NUMBER() OVER (PARTITION BY MOD(who, 200) ORDER BY total DESC, who) AS r FROM (\
         SELECT o.who AS who, p.about AS about, SUM(o.n) AS total, COUNT(*) AS times, MAX(o.note) AS latest \
         FROM orders o JOIN people p ON o.who = p.who GROUP BY o.who, p.about)) WHERE r <= 3",
        orders(&folder)
    );
    let expected = crate::support::run(&sql, Mode::Batch, 1).expect("the batch job runs");
    assert_eq!(expected.len(), 600);
    for parallelism in [1, 2] {
        let (got, written) = little(&sql, 10, parallelism, folder.path("scratch")).expect("the job runs");
        println!("parallelism {parallelism}: {} MB written to files", written >> 20);
        assert!(written > 10 << 20, "{written} bytes went to files: there was memory for all");
        assert!(got == expected, "parallelism {parallelism}: {}", crate::support::difference(&got, &expected));
        assert!(folder.files("scratch").is_empty(), "scratch files are left");
    }
}

#[test]
fn a_join_without_equal_columns_ends_where_its_memory_does() {
    let folder = Folder::new();
    let sql = format!("{}SELECT o.note, p.about FROM orders o JOIN people p ON o.n < p.who - 9990", orders(&folder));
    let error = little(&sql, 2, 1, folder.path("scratch")).expect_err("there is no room for the rows of both sides");
    let (text, help) = (error.to_string(), error.help().unwrap_or_default().to_owned());
    assert!(text.contains("its budget is") && text.contains("Join("), "{text}");
    assert!(help.contains("--memory") && help.contains("equal columns"), "{help}");
}
