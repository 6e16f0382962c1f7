//! The binary as a user meets it: what it prints, what it leaves behind, its exit codes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a temporary file can be written");
        path.display().to_string()
    }

    /// Names of all files below, hidden ones too.
    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        fn walk(folder: &Path, names: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    walk(&entry.path(), names);
                } else {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
        }
        let mut names = Vec::new();
        walk(&self.path(below), &mut names);
        names.sort();
        names
    }
}

pub(crate) fn millstream(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millstream")).args(args).stdin(Stdio::null()).output().expect("the binary runs")
}

fn run(sql: &str) -> (i32, String, String) {
    told(&millstream(&["run", "-e", sql, "--progress", "none"]))
}

pub(crate) fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

const EVENTS: &str = "2024-01-01 00:00:01,ann,5\n2024-01-01 00:00:07,bob,2\n2024-01-01 00:00:03,ann,1\n\
                      2024-01-01 00:00:12,ann,4\n2024-01-01 00:00:31,bob,9\n";

/// A table over a CSV file, with a watermark that is `delay` seconds behind.
fn table(path: &str, delay: u32) -> String {
    format!(
        "CREATE TABLE events (ts TIMESTAMP(3), name STRING, n INT, WATERMARK FOR ts AS ts - INTERVAL '{delay}' SECOND) \
         WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv');\n"
    )
}

fn fails(sql: &str, code: i32, says: &[&str]) {
    let (got, out, err) = run(sql);
    assert_eq!(got, code, "{sql}\n{out}{err}");
    for part in says {
        assert!(err.contains(part), "`{part}` is not in:\n{err}\n{sql}");
    }
}

#[test]
fn a_window_over_a_file_is_printed_as_a_table() {
    let folder = Folder::new();
    let sql = table(&folder.write("events.csv", EVENTS), 10)
        + "SELECT window_start, name, SUM(n) AS total FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
           GROUP BY window_start, window_end, name";
    for parallelism in ["1", "2", "7"] {
        let (code, out, err) = told(&millstream(&["run", "-e", &sql, "-p", parallelism, "--progress", "none"]));
        assert_eq!(code, 0, "{err}");
        let mut lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["window_start", "name", "total"]);
        let last = lines.pop();
        assert_eq!(last, Some("(4 rows)"));
        lines[2..].sort_unstable();
        let words: Vec<Vec<&str>> = lines[2..].iter().map(|l| l.split_whitespace().skip(1).collect()).collect();
        assert_eq!(
            words,
            [
                ["00:00:00.000", "ann", "6"],
                ["00:00:00.000", "bob", "2"],
                ["00:00:10.000", "ann", "4"],
                ["00:00:30.000", "bob", "9"]
            ]
        );
    }
}

#[test]
fn rows_print_as_csv_and_as_json() {
    let sql = "SELECT * FROM (VALUES (1, 'a,b'), (2, CAST(NULL AS STRING))) AS t(n, word)";
    let (_, csv, _) = told(&millstream(&["run", "-e", sql, "--format", "csv"]));
    assert_eq!(csv, "n,word\n1,\"a,b\"\n2,\n");
    let (_, json, _) = told(&millstream(&["run", "-e", sql, "--format", "json"]));
    assert_eq!(json, "{\"n\":1,\"word\":\"a,b\"}\n{\"n\":2}\n");
}

#[test]
fn a_result_that_is_updated_prints_what_happens_to_each_row() {
    let folder = Folder::new();
    let sql = table(&folder.write("events.csv", EVENTS), 10) + "SELECT name, SUM(n) AS total FROM events GROUP BY name";
    let (code, out, err) = told(&millstream(&["run", "-e", &sql, "-p", "1", "--format", "csv", "--progress", "none"]));
    assert_eq!(code, 0, "{err}");
    // The file is one batch, and what a batch does to a group is one change.
    assert_eq!(out, "op,name,total\n+I,ann,10\n+I,bob,11\n");
    let (_, table, _) = told(&millstream(&["run", "-e", &sql, "-p", "2", "--progress", "none"]));
    assert!(table.starts_with("op  ") && table.ends_with("(2 changes)\n"), "{table}");
    let (_, batch, _) =
        told(&millstream(&["run", "-e", &sql, "--mode", "batch", "--format", "csv", "--progress", "none"]));
    assert!(batch.starts_with("name,total\n"), "in batch nothing is updated: {batch}");
}

#[test]
fn a_table_that_only_adds_rows_takes_no_updates() {
    let folder = Folder::new();
    let sink = "CREATE TABLE counts (name STRING, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '/tmp/never', 'format' = 'csv');";
    let sql = table(&folder.write("events.csv", EVENTS), 10)
        + sink
        + "INSERT INTO counts SELECT name, COUNT(*) FROM events GROUP BY name";
    fails(
        &sql,
        3,
        &["the result is updated while rows come, and `counts` ('filesystem') can only add rows", "PRIMARY KEY"],
    );
}

#[test]
fn scripts_share_declarations() {
    let folder = Folder::new();
    let tables = folder.write("tables.sql", &table(&folder.write("events.csv", EVENTS), 10));
    let query = folder.write("query.sql", "SELECT COUNT(*) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end");
    let args = ["run", "--init", &tables, &query, "--format", "csv", "--progress", "none"];
    assert_eq!(told(&millstream(&args)), (0, "n\n5\n".to_owned(), String::new()));
    let wrong = folder.write("wrong.sql", "SET 'parallelism.default' = '2';\nSELECT 1");
    let (code, _, err) = told(&millstream(&["run", "--init", &wrong, &query]));
    assert_eq!(code, 3);
    for part in ["a script for --init declares, and this is a query", "wrong.sql:2:1", "SELECT 1"] {
        assert!(err.contains(part), "`{part}` is not in:\n{err}");
    }
    let (code, _, err) = told(&millstream(&["check", "--init", "/nowhere/tables.sql", &query]));
    assert!(code == 4 && err.contains("/nowhere/tables.sql"), "{err}");
}

#[test]
fn late_rows_are_counted_and_kept_with_their_reason() {
    let folder = Folder::new();
    let events = folder.write("events.csv", EVENTS);
    let late = folder.path("late").display().to_string();
    let sql = table(&events, 0)
        + &format!(
            "CREATE TABLE late (event_time TIMESTAMP(3), watermark TIMESTAMP(3), reason STRING, `row` STRING) \
             WITH ('connector' = 'filesystem', 'path' = '{late}', 'format' = 'json');\n\
             SET 'millstream.late-rows.table' = 'late';\n\
             SELECT name, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '2' SECOND)) \
             GROUP BY window_start, window_end, name"
        );
    let (code, out, err) = told(&millstream(&["run", "-e", &sql, "--progress", "plain"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("(4 rows)"), "{out}");
    assert!(err.contains("1 late"), "{err}");
    let files = folder.files("late");
    assert_eq!(files.len(), 1, "{files:?}");
    let text = std::fs::read_to_string(folder.path("late").join(&files[0])).expect("the late rows' file");
    assert!(
        text.contains("2024-01-01 00:00:03") && text.contains("2024-01-01 00:00:07") && text.contains("ann"),
        "{text}"
    );
}

#[test]
fn a_bad_row_names_file_and_line_and_can_be_skipped_or_set_aside() {
    let folder = Folder::new();
    let events = folder
        .write("events.csv", "2024-01-01 00:00:01,ann,5\n2024-01-01 00:00:02,bob,many\n2024-01-01 00:00:03,cy,1\n");
    let query = "SELECT name, n FROM events";
    fails(&(table(&events, 5) + query), 1, &["events.csv:2", "`n`", "many", "csv.ignore-parse-errors"]);
    let skipping =
        table(&events, 5).replace("'format' = 'csv'", "'format' = 'csv', 'csv.ignore-parse-errors' = 'true'");
    // As in Flink: the field that cannot be read is NULL.
    for mode in ["streaming", "batch"] {
        let args = ["run", "-e", &(skipping.clone() + query), "--format", "csv", "--mode", mode];
        let (code, out, err) = told(&millstream(&args));
        assert_eq!((code, out.as_str()), (0, "name,n\nann,5\nbob,\ncy,1\n"), "{err}");
        assert!(err.contains("1 bad"), "what was left out is counted: {err}");
    }
    let bad = folder.path("bad").display().to_string();
    let aside = table(&events, 5)
        + &format!(
            "CREATE TABLE bad (place STRING, reason STRING, raw STRING) \
             WITH ('connector' = 'filesystem', 'path' = '{bad}', 'format' = 'json'); \
             SET 'millstream.bad-rows.table' = 'bad';\n{query}"
        );
    let (code, out, err) = told(&millstream(&["run", "-e", &aside, "--progress", "plain"]));
    assert_eq!((code, out.contains("(2 rows)"), err.contains("1 bad")), (0, true, true), "{out}{err}");
    let files = folder.files("bad");
    let text = std::fs::read_to_string(folder.path("bad").join(&files[0])).expect("the bad rows' file");
    assert!(text.contains("events.csv:2") && text.contains("bob,many"), "{text}");
}

#[test]
fn mistakes_are_answered_with_place_and_remedy() {
    let folder = Folder::new();
    let events = folder.write("events.csv", EVENTS);
    let t = table(&events, 5);
    let missing = table(&folder.path("nowhere.csv").display().to_string(), 5);
    fails(&(missing + "SELECT * FROM events"), 4, &["nowhere.csv", "help:"]);
    fails(&(t.clone() + "SELECT nam FROM events"), 3, &["nam", "did you mean", "name", ":2:8"]);
    fails(&t.replace("'path'", "'pth'"), 3, &["pth", "did you mean", "path"]);
    fails(&(t.clone() + "SELECT * FROM event"), 3, &["event", "did you mean", "events"]);
    fails("SELEC 1", 3, &[":1:1"]);
    let unmarked = t.replace(", WATERMARK FOR ts AS ts - INTERVAL '5' SECOND", "");
    let window = "SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                  GROUP BY window_start, window_end";
    fails(&(unmarked + window), 3, &["ts", "WATERMARK FOR"]);
    let null_time = folder.write("null.csv", "2024-01-01 00:00:01,ann,5\n,bob,3\n");
    fails(&(table(&null_time, 5) + window), 1, &["ts", "NULL", "null.csv"]);
    fails(&(t.clone() + "SELECT name FROM events ORDER BY name"), 3, &["ORDER BY", "LIMIT"]);
    let look_up = |join: &str, on: &str| {
        let left = "SELECT a.n, b.name FROM (SELECT *, PROCTIME() AS p FROM events) AS a";
        t.clone() + &format!("{left} {join} events FOR SYSTEM_TIME AS OF a.p AS b ON {on}")
    };
    fails(&look_up("JOIN", "a.n > b.n"), 3, &["compares no column of `events`", "ON left.key = events.key", ":2:"]);
    fails(&look_up("LEFT JOIN", "b.name = 'ann'"), 3, &["compares no column of `events`"]);
    fails(&look_up("RIGHT JOIN", "a.n = b.n"), 3, &["write JOIN or LEFT JOIN", ":2:"]);
    fails(&look_up("FULL JOIN", "a.n = b.n"), 3, &["write JOIN or LEFT JOIN", ":2:"]);
    let unknown = t.replace("'format'", "'lookup.cache.tll' = '1 min', 'format'");
    fails(&(unknown + "SELECT name FROM events"), 3, &["lookup.cache.tll", "did you mean 'lookup.cache.ttl'"]);
    fails(
        &(t + "SELECT * FROM events a JOIN events FOR SYSTEM_TIME AS OF a.ts AS b ON a.n = b.n"),
        3,
        &["primary key"],
    );
    let (code, _, err) = told(&millstream(&["run", "-e", "SELECT 1", "--parallelism", "0"]));
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = told(&millstream(&["run", "/nowhere/job.sql"]));
    assert_eq!(code, 4, "{err}");
}

#[test]
fn an_endless_source_is_refused_in_batch_mode() {
    let sql = "CREATE TABLE t (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '10'); SELECT * FROM t";
    let (code, _, err) = told(&millstream(&["run", "-e", sql, "--mode", "batch"]));
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("never ends") && err.contains("number-of-rows"), "{err}");
}

#[test]
fn an_output_that_cannot_be_written_leaves_nothing_that_looks_complete() {
    let folder = Folder::new();
    let events = folder.write("events.csv", EVENTS);
    let file = folder.write("plain-file", "");
    let sink = |path: &str| {
        format!(
            "CREATE TABLE out (name STRING, n INT) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv');\n\
             INSERT INTO out SELECT name, n FROM events"
        )
    };
    fails(&(table(&events, 5) + &sink(&format!("{file}/below"))), 4, &["plain-file", "help:"]);
    // A job that fails half way: the third row is bad, the first two may have been written already.
    let broken = folder.write("broken.csv", &(EVENTS.repeat(4_000) + "2024-01-01 00:00:09,eve,x\n"));
    let out = folder.path("out").display().to_string();
    fails(&(table(&broken, 5) + &sink(&out)), 1, &["broken.csv:20001"]);
    assert_eq!(folder.files("out"), Vec::<String>::new());
}

#[test]
fn a_full_disk_is_an_error_with_the_place() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let folder = Folder::new();
    let events = folder.write("events.csv", &EVENTS.repeat(20_000));
    let sql = table(&events, 5) + "SELECT * FROM events";
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full opens");
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["run", "-e", &sql, "--progress", "none"])
        .stdout(full)
        .output()
        .expect("the binary runs");
    let (code, _, err) = told(&output);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("standard output"), "{err}");
}

#[test]
fn an_interrupt_ends_an_endless_job_cleanly() {
    let folder = Folder::new();
    let out = folder.path("out").display().to_string();
    let sql = format!(
        "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', \
         'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '100000000'); \
         CREATE TABLE out (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'csv'); \
         INSERT INTO out SELECT n FROM numbers"
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["run", "-e", &sql, "-p", "2"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    std::thread::sleep(Duration::from_millis(1_200));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.is_ok_and(|s| s.success()));
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("a child can be asked").is_none() {
        assert!(Instant::now() < deadline, "the job does not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, _, err) = told(&child.wait_with_output().expect("the child has ended"));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("stopped"), "{err}");
    let files = folder.files("out");
    assert!(!files.is_empty() && files.iter().all(|f| !f.contains("inprogress")), "{files:?}");
    let rows: usize = files
        .iter()
        .map(|f| std::fs::read_to_string(folder.path("out").join(f)).expect("a part file").lines().count())
        .sum();
    assert!(rows > 0);
}

#[test]
fn standard_input_and_output_are_tables_too() {
    let sql = "CREATE TABLE i (ts TIMESTAMP(3), name STRING, n INT) WITH ('connector' = 'filesystem', 'path' = '-', 'format' = 'csv'); \
               CREATE TABLE o (name STRING, twice INT) WITH ('connector' = 'filesystem', 'path' = '-', 'format' = 'json'); \
               INSERT INTO o SELECT name, n * 2 FROM i WHERE n > 1";
    let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["run", "-e", sql, "--progress", "none", "-p", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("piped").write_all(EVENTS.as_bytes()).expect("the child reads");
    let (code, out, _) = told(&child.wait_with_output().expect("the child ends"));
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "{\"name\":\"ann\",\"twice\":10}\n{\"name\":\"bob\",\"twice\":4}\n{\"name\":\"ann\",\"twice\":8}\n{\"name\":\"bob\",\"twice\":18}\n"
    );
}

#[test]
fn settings_without_effect_are_told_in_one_line() {
    let sql = "SET 'state.backend.type' = 'rocksdb'; SET 'rest.port' = '1'; SELECT 1 AS n; SET 'web.timeout' = '1'";
    let (code, _, err) = run(sql);
    let notes: Vec<&str> = err.lines().filter(|l| l.starts_with("note:")).collect();
    assert_eq!(
        (code, notes),
        (
            0,
            vec![
                "note: 'state.backend.type', 'rest.port' have no effect here: they steer Flink's own runtime",
                "note: 'web.timeout' has no effect here: it steers Flink's own runtime"
            ]
        ),
        "{err}"
    );
    let (_, _, err) = told(&millstream(&["check", "-e", sql, "--set", "akka.ask.timeout=1 s"]));
    let together = "note: 'akka.ask.timeout', 'state.backend.type', 'rest.port', 'web.timeout' have no effect here: they steer \
                    Flink's own runtime\n";
    assert_eq!(err, together);
}

#[test]
fn null_never_gets_into_a_column_that_is_not_null() {
    let folder = Folder::new();
    let events =
        folder.write("events.csv", "2024-01-01 00:00:01,ann,5\n2024-01-01 00:00:02,,2\n2024-01-01 00:00:03,cy,1\n");
    let out = folder.path("out").display().to_string();
    let sql = table(&events, 5)
        + &format!(
            "CREATE TABLE people (name STRING NOT NULL, n INT) WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = \
             'csv');\nINSERT INTO people SELECT NULLIF(name, ''), n FROM events"
        );
    for mode in ["streaming", "batch"] {
        let (code, _, err) = told(&millstream(&["run", "-e", &sql, "--mode", mode, "--progress", "none"]));
        assert_eq!(code, 1, "{mode}: {err}");
        for part in
            ["`name`", "`people`", "NOT NULL", "COALESCE", "'table.exec.sink.not-null-enforcer' = 'DROP'", "-e:2:1"]
        {
            assert!(err.contains(part), "`{part}` is not in:\n{err}");
        }
        assert_eq!(folder.files("out"), Vec::<String>::new());
    }
    for mode in ["streaming", "batch"] {
        let dropping = format!("SET 'table.exec.sink.not-null-enforcer' = 'DROP';\n{sql}");
        let (code, _, err) = told(&millstream(&["run", "-e", &dropping, "--mode", mode, "--progress", "plain"]));
        assert_eq!(code, 0, "{mode}: {err}");
        assert!(err.contains("1 bad"), "what was left out is counted: {err}");
        let rows: Vec<String> = folder
            .files("out")
            .iter()
            .flat_map(|f| {
                let path = folder.path("out").join(f);
                let text = std::fs::read_to_string(&path).expect("a part file");
                std::fs::remove_file(&path).expect("a part file can be removed");
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(rows, ["ann,5", "cy,1"], "{mode}");
    }
}

#[test]
fn check_and_explain_show_without_running() {
    let folder = Folder::new();
    let events = folder.path("not-there-yet.csv").display().to_string();
    let script = folder.write(
        "job.sql",
        &(table(&events, 5)
            + "SELECT name, COUNT(*) FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
               GROUP BY window_start, window_end, name;"),
    );
    let (code, out, err) = told(&millstream(&["check", &script, "--target", "flink-1.20"]));
    assert_eq!((code, out.contains("ok")), (0, true), "{out}{err}");
    let (code, out, _) = told(&millstream(&["explain", &script]));
    assert_eq!(code, 0);
    assert!(out.contains("WindowAggregate") && out.contains("events"), "{out}");
    let (code, out, _) = told(&millstream(&["explain", &script, "--mermaid"]));
    assert_eq!((code, out.contains("flowchart") || out.contains("graph")), (0, true), "{out}");
    let (code, out, _) = told(&millstream(&["completions", "bash"]));
    assert_eq!((code, out.contains("millstream")), (0, true));
    let (code, out, _) = told(&millstream(&["--version"]));
    assert_eq!((code, out.starts_with("millstream ")), (0, true));
}
