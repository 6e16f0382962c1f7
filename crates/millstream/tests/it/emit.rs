//! EMIT from SQL to rows: what panes amount to in the end, whatever the triggers, and panes that go by a clock in the hand.

use crate::support::{difference, run, texts};
use arrow::datatypes::SchemaRef;
use millstream::{
    Batch, JobConfig, Mode, Program, Result, ResultRows, RunOptions, Runner, Running, Step, Stop, Tables,
};
use millstream_core::{ChangeKind, Clock};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ROWS: u64 = 4_000;

/// Rows within two hours, up to four minutes out of order, whose watermark has no delay: many are late, none by an hour.
fn disordered(folder: &tempfile::TempDir) -> String {
    let lines: String = (0..ROWS)
        .map(|i| {
            let dice =
                (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11;
            let at = (i * 2).saturating_sub(dice % 240);
            let (h, m, s) = (at / 3600, at / 60 % 60, at % 60);
            format!("2024-01-01 {h:02}:{m:02}:{s:02},k{},{},{}\n", dice % 7, dice % 100, (dice % 1000) as f64 / 7.0)
        })
        .collect();
    let file = folder.path().join("t.csv");
    std::fs::write(&file, lines).expect("a temporary file can be written");
    format!(
        "CREATE TABLE t (ts TIMESTAMP(3), k STRING, n INT, d DOUBLE, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', \
         'path' = '{}', 'format' = 'csv');\n",
        file.display()
    )
}

const TUMBLE: &str = "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE)";
const HOP: &str = "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' MINUTE, INTERVAL '10' MINUTE)";
const CUMULATE: &str = "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '5' MINUTE, INTERVAL '20' MINUTE)";

const CALLS: &str = "COUNT(*) AS c, SUM(n) AS s, SUM(d) AS x, MIN(n) AS least, COUNT(DISTINCT n) AS u";

fn query(window: &str, calls: &str, clause: &str) -> String {
    format!(
        "SELECT window_start, window_end, k, {calls} FROM TABLE({window}) WHERE n <> 13 GROUP BY window_start, window_end, k \
         {clause}"
    )
}

#[test]
fn in_the_end_the_result_is_that_of_batch_whatever_the_triggers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = disordered(&folder);
    let lateness = "ALLOWED LATENESS INTERVAL '1' HOUR";
    for window in [TUMBLE, HOP, CUMULATE] {
        let batch =
            run(&format!("{table}{}", query(window, CALLS, "")), Mode::Batch, 1).unwrap_or_else(|e| panic!("{e}"));
        assert!(batch.len() > 100);
        for clause in [
            format!("EMIT {lateness}"),
            format!("EMIT ON CHANGE {lateness}"),
            format!("EMIT EARLY EVERY 5 ROWS LATE EVERY 3 ROWS {lateness}"),
            format!("EMIT EARLY EVERY INTERVAL '0.002' SECOND LATE EVERY INTERVAL '0.005' SECOND {lateness}"),
        ] {
            let sql = table.clone() + &query(window, CALLS, &clause);
            for parallelism in [1, 2, 7] {
                let streaming = run(&sql, Mode::Streaming, parallelism).unwrap_or_else(|e| panic!("{e}\n{sql}"));
                let apart =
                    || format!("{window} {clause}, parallelism {parallelism}: {}", difference(&batch, &streaming));
                assert!(batch == streaming, "{}", apart());
            }
            // A bounded job in batch mode gives the end alone.
            assert_eq!(run(&sql, Mode::Batch, 1).unwrap_or_else(|e| panic!("{e}\n{sql}")), batch, "{clause}");
        }
    }
}

const SESSIONS: &str = "SELECT window_start, window_end, k, COUNT(*) AS c, SUM(n) AS s, SUM(d) AS x, COUNT(DISTINCT n) AS u \
                        FROM TABLE(SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '20' SECOND)) \
                        GROUP BY window_start, window_end, k";

#[test]
fn in_the_end_sessions_are_those_of_batch_whatever_the_triggers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = disordered(&folder);
    let batch = run(&format!("{table}{SESSIONS}"), Mode::Batch, 1).unwrap_or_else(|e| panic!("{e}"));
    assert!(batch.len() > 100, "{}", batch.len());
    for clause in [
        "EMIT",
        "EMIT ON CHANGE",
        "EMIT EARLY EVERY 5 ROWS LATE EVERY 3 ROWS",
        "EMIT EARLY EVERY INTERVAL '0.002' SECOND LATE EVERY INTERVAL '0.005' SECOND",
    ] {
        let sql = format!("{table}{SESSIONS} {clause} ALLOWED LATENESS INTERVAL '1' HOUR");
        for parallelism in [1, 2, 7] {
            let streaming = run(&sql, Mode::Streaming, parallelism).unwrap_or_else(|e| panic!("{e}\n{sql}"));
            assert!(batch == streaming, "{clause}, parallelism {parallelism}: {}", difference(&batch, &streaming));
        }
    }
    // Panes that discard add up to all rows.
    let counts = |rows: &[String]| -> u64 {
        rows.iter().map(|row| row.split('|').nth(3).and_then(|c| c.parse::<u64>().ok()).expect("a count")).sum()
    };
    let sql = format!("{table}{SESSIONS} EMIT EARLY EVERY 3 ROWS ALLOWED LATENESS INTERVAL '1' HOUR DISCARDING");
    let panes = run(&sql, Mode::Streaming, 2).unwrap_or_else(|e| panic!("{e}\n{sql}"));
    assert_eq!((counts(&panes), counts(&batch)), (ROWS, ROWS));
    assert!(panes.len() > 1_000, "{}", panes.len());
}

#[test]
fn panes_by_rows_are_the_same_at_any_parallelism() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = disordered(&folder);
    for clause in [
        "EMIT EARLY EVERY 4 ROWS LATE EVERY 2 ROWS ALLOWED LATENESS INTERVAL '2' MINUTE DISCARDING",
        "EMIT EARLY EVERY 4 ROWS LATE EVERY 2 ROWS ALLOWED LATENESS INTERVAL '2' MINUTE ACCUMULATING",
        "EMIT ON CHANGE ACCUMULATING",
    ] {
        let sql = table.clone() + &query(HOP, &format!("{CALLS}, LAST_VALUE(n) AS l, LISTAGG(k) AS o"), clause);
        let one = run(&sql, Mode::Streaming, 1).unwrap_or_else(|e| panic!("{e}\n{sql}"));
        assert!(one.len() > 1_500, "{clause}: {}", one.len());
        for parallelism in [2, 7] {
            let many = run(&sql, Mode::Streaming, parallelism).unwrap_or_else(|e| panic!("{e}\n{sql}"));
            assert!(one == many, "{clause}, parallelism {parallelism}: {}", difference(&one, &many));
        }
    }
}

#[test]
fn panes_that_discard_add_up_to_the_whole_and_those_that_accumulate_end_with_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = disordered(&folder);
    let calls = "COUNT(*) AS c, SUM(n) AS s";
    let batch = run(&(table.clone() + &query(TUMBLE, calls, "")), Mode::Batch, 1).expect("runs");
    let parts = |row: &str| -> (String, [i64; 2]) {
        let cells: Vec<&str> = row.split('|').collect();
        let number = |i: usize| cells[i].parse::<i64>().expect("a number");
        (cells[..3].join("|"), [number(3), number(4)])
    };
    let whole: BTreeMap<String, [i64; 2]> = batch.iter().map(|row| parts(row)).collect();
    let told = |panes: &str| {
        let clause = format!("EMIT EARLY EVERY 3 ROWS LATE ON CHANGE ALLOWED LATENESS INTERVAL '1' HOUR {panes}");
        run(&(table.clone() + &query(TUMBLE, calls, &clause)), Mode::Streaming, 2).unwrap_or_else(|e| panic!("{e}"))
    };
    let mut sums: BTreeMap<String, [i64; 2]> = BTreeMap::new();
    for (window, [count, sum]) in told("DISCARDING").iter().map(|row| parts(row)) {
        let all = sums.entry(window).or_default();
        *all = [all[0] + count, all[1] + sum];
    }
    assert_eq!(sums, whole);
    let mut last: BTreeMap<String, [i64; 2]> = BTreeMap::new();
    for (window, told) in told("ACCUMULATING").iter().map(|row| parts(row)) {
        let most = last.entry(window).or_default();
        *most = (*most).max(told);
    }
    assert_eq!(last, whole);
}

#[test]
fn rows_that_come_too_late_for_the_lateness_are_set_aside() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = disordered(&folder);
    let late = folder.path().join("late");
    let sql = |lateness: &str| {
        format!(
            "CREATE TABLE late (event_time TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
             SET 'millstream.late-rows.table' = 'late';\n{table}{}",
            late.join(lateness).display(),
            query(TUMBLE, "COUNT(*) AS c", &format!("EMIT ALLOWED LATENESS INTERVAL '{lateness}' SECOND"))
        )
    };
    let counted = |rows: &[String]| -> usize {
        rows.iter().map(|row| row.rsplit('|').next().and_then(|c| c.parse::<usize>().ok()).expect("a count")).sum()
    };
    let all = counted(&run(&sql("3600"), Mode::Streaming, 1).expect("runs"));
    let some = counted(&run(&sql("20"), Mode::Streaming, 2).expect("runs"));
    let mut set_aside = 0;
    for entry in std::fs::read_dir(late.join("20")).expect("late rows were written") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|e| e == "csv") {
            set_aside += std::fs::read_to_string(path).expect("it can be read").lines().count();
        }
    }
    assert!(set_aside > 50, "{set_aside}");
    assert_eq!(some + set_aside, all);
}

/// A clock that stands where it is put.
#[derive(Default)]
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> i64 {
        self.0.load(Relaxed)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.now().max(0) as u64 * 1_000_000
    }
}

/// The changes of a SELECT as they come.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl ResultRows for Seen {
    fn start(&self, _: &SchemaRef, _: bool) -> Result<()> {
        Ok(())
    }

    fn rows(&self, batch: &Batch) -> Result<()> {
        let kind = |i: usize| batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i)));
        let rows = texts(std::slice::from_ref(&batch.rows));
        let told = rows.into_iter().enumerate().map(|(i, row)| format!("{} {row}", kind(i).short()));
        self.0.lock().expect("nobody panics with it").extend(told);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

/// Only a job that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

fn until(what: &str, running: &Running, wanted: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted() {
        assert!(!running.is_finished(), "the job ended before {what}");
        assert!(Instant::now() < deadline, "waited in vain until {what}: {:?}", running.snapshot());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn early_panes_come_when_the_clock_passes_the_interval_though_no_row_comes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let put = |name: &str, text: &str| {
        let hidden = folder.path().join(format!(".{name}"));
        std::fs::write(&hidden, text).expect("a temporary file can be written");
        std::fs::rename(hidden, folder.path().join(name)).expect("a temporary file can be renamed");
    };
    let sql = format!(
        "CREATE TABLE clicks (ts TIMESTAMP(3), user_id STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', \
         'path' = '{}', 'format' = 'csv', 'source.monitor-interval' = '10 ms');\n\
         SELECT user_id, window_start, COUNT(*) AS n\n\
         FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' HOUR))\n\
         GROUP BY window_start, window_end, user_id\n\
         EMIT EARLY EVERY INTERVAL '10' SECOND ALLOWED LATENESS INTERVAL '5' MINUTE;",
        folder.path().display()
    );
    let (seen, clock) = (Arc::new(Seen::default()), Arc::new(Hand(AtomicI64::new(1_000_000_003_000))));
    let job = JobConfig { clock: clock.clone(), ..JobConfig::default() };
    let tables = Tables::default().with_result(seen.clone());
    let options =
        RunOptions { mode: Some(Mode::Streaming), parallelism: Some(2), tables, job, ..RunOptions::default() };
    let mut runner = Runner::new(Program::parse(&sql, "test.sql").expect("it parses"), options);
    let running = loop {
        match runner.step().expect("there is a query").unwrap_or_else(|e| panic!("{e}")) {
            Step::Running(running) => break running,
            _ => continue,
        }
    };
    let told = || seen.0.lock().expect("nobody panics with it").clone();
    let taken_in = || {
        running.snapshot().nodes.iter().filter(|n| n.label.starts_with("WindowPanes")).map(|n| n.rows_in).sum::<u64>()
    };
    put("1.csv", "2024-01-01 00:10:00,ann\n2024-01-01 00:20:00,ann\n");
    until("the rows are in", &running, || taken_in() == 2);
    assert_eq!(told(), [""; 0]);
    clock.0.store(1_000_000_009_999, Relaxed);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(told(), [""; 0]);
    clock.0.store(1_000_000_010_000, Relaxed);
    until("the pane is told", &running, || told() == ["+I ann|2024-01-01T00:00:00|2"]);
    put("2.csv", "2024-01-01 00:30:00,ann\n");
    until("the row is in", &running, || taken_in() == 3);
    // Nothing is told between, and the on-time pane does not wait for the clock. The watermark is that of the next hour's row.
    put("3.csv", "2024-01-01 01:00:00,bob\n");
    let closed = ["+I ann|2024-01-01T00:00:00|2", "-U ann|2024-01-01T00:00:00|2", "+U ann|2024-01-01T00:00:00|3"];
    until("the window closes", &running, || told() == closed);
    // Late rows say so at once.
    put("4.csv", "2024-01-01 00:40:00,ann\n");
    until("the late row counts", &running, || told().len() == 5);
    assert_eq!(told()[3..], ["-U ann|2024-01-01T00:00:00|3", "+U ann|2024-01-01T00:00:00|4"]);
    running.stop(Stop::Drain);
    running.wait().expect("the job ends well");
    assert_eq!(told()[5..], ["+I bob|2024-01-01T01:00:00|1"]);
}

#[test]
fn a_file_takes_panes_that_add_rows_and_no_others() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let table = disordered(&folder);
    let sql = |panes: &str| {
        format!(
            "{table}CREATE TABLE o (s TIMESTAMP(3), e TIMESTAMP(3), k STRING, c BIGINT) WITH ('connector' = 'filesystem', \
             'path' = '{}', 'format' = 'csv');\nINSERT INTO o {};",
            folder.path().join("o").display(),
            query(TUMBLE, "COUNT(*) AS c", &format!("EMIT EARLY EVERY 100 ROWS {panes}"))
        )
    };
    let refused = run(&sql(""), Mode::Streaming, 1).expect_err("a file cannot take rows back");
    assert_eq!(refused.what(), "EMIT updates what it has told (RETRACTING), and `o` ('filesystem') can only add rows");
    for panes in ["DISCARDING", "ACCUMULATING"] {
        run(&sql(panes), Mode::Streaming, 1).unwrap_or_else(|e| panic!("{e}"));
    }
}
