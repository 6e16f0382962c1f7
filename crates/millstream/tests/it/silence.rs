//! Inputs that fall silent or grow while a job runs, with the real runtime and its clock. Nothing here depends on how
//! fast the machine is: a test waits for something to happen, as long as it takes, and never asserts on how long that
//! was.

use crate::support::texts;
use arrow::datatypes::SchemaRef;
use millstream::{Batch, Mode, Program, Result, ResultRows, RunOptions, Runner, Running, Snapshot, Step, Stop, Tables};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Only a job that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// The rows of a SELECT, seen while it runs.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn rows(&self) -> Vec<String> {
        let mut rows = self.0.lock().expect("nobody panics with it").clone();
        rows.sort_unstable();
        rows
    }
}

impl ResultRows for Seen {
    fn start(&self, _: &SchemaRef, _: bool) -> Result<()> {
        Ok(())
    }

    fn rows(&self, batch: &Batch) -> Result<()> {
        self.0.lock().expect("nobody panics with it").extend(texts(std::slice::from_ref(&batch.rows)));
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }
}

/// A SELECT at work.
struct Work {
    running: Option<Running>,
    seen: Arc<Seen>,
}

impl Work {
    fn start(sql: &str) -> Work {
        let seen = Arc::new(Seen::default());
        let tables = Tables::default().with_result(seen.clone());
        let options = RunOptions { mode: Some(Mode::Streaming), parallelism: Some(1), tables, ..RunOptions::default() };
        let program = Program::parse(sql, "test.sql").unwrap_or_else(|e| panic!("{e}\n{sql}"));
        let mut runner = Runner::new(program, options);
        while let Some(step) = runner.step() {
            if let Step::Running(running) = step.unwrap_or_else(|e| panic!("{e}\n{sql}")) {
                return Work { running: Some(running), seen };
            }
        }
        panic!("no query in {sql}")
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it has not been waited for")
    }

    /// Waits until the job's counters, or the rows seen, are as wanted.
    fn until(&mut self, what: &str, wanted: impl Fn(&Snapshot, &[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (snapshot, rows) = (self.running().snapshot(), self.seen.rows());
            if wanted(&snapshot, &rows) {
                return;
            }
            if self.running().is_finished() {
                let ended = self.running.take().map(Running::wait);
                panic!("the job ended before {what}: {ended:?}");
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}: {rows:?}\n{snapshot:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Rows that the window has taken in, late ones too.
    fn until_windowed(&mut self, rows: u64) {
        self.until("the window has the rows", |s, _| taken_in(s) >= rows);
    }

    /// Closes all windows; all rows of the job.
    fn drain(mut self) -> Vec<String> {
        let running = self.running.take().expect("it has not been waited for");
        running.stop(Stop::Drain);
        running.wait().expect("the job ends well");
        self.seen.rows()
    }
}

fn taken_in(s: &Snapshot) -> u64 {
    s.nodes.iter().filter(|n| n.label.starts_with("WindowAggregate")).map(|n| n.rows_in).sum()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Puts a whole file into a folder that is watched.
fn put(folder: &Path, name: &str, text: &str) {
    let hidden = folder.join(format!(".{name}"));
    std::fs::write(&hidden, text).expect("a temporary file can be written");
    std::fs::rename(hidden, folder.join(name)).expect("a temporary file can be renamed");
}

/// A table over a folder that may grow, without a delay of the watermark.
fn watched(name: &str, folder: &Path) -> String {
    format!(
        "CREATE TABLE {name} (ts TIMESTAMP(3), k STRING, WATERMARK FOR ts AS ts) WITH ('connector' = 'filesystem', \
         'path' = '{}', 'format' = 'csv', 'source.monitor-interval' = '10 ms');\n",
        folder.display()
    )
}

fn counts(of: &str) -> String {
    format!(
        "SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE {of}, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
         GROUP BY window_start, window_end"
    )
}

/// One of two inputs is silent from the start.
fn united(settings: &str, busy: &Path, silent: &Path) -> Work {
    let tables = watched("busy", busy) + &watched("silent", silent);
    let both = "CREATE VIEW both AS SELECT ts FROM busy UNION ALL SELECT ts FROM silent;\n";
    Work::start(&format!("{settings}{tables}{both}{}", counts("both")))
}

const EARLY: &str = "2024-01-01 00:00:01,a\n2024-01-01 00:00:02,a\n2024-01-01 00:00:25,a\n";
const LATER: &str = "2024-01-01 00:00:26,a\n2024-01-01 00:00:47,a\n";

#[test]
fn an_input_that_stays_silent_leaves_the_watermark_to_the_others() {
    let (busy, silent) = (folder(), folder());
    put(busy.path(), "1.csv", EARLY);
    let mut work = united("SET 'table.exec.source.idle-timeout' = '50 ms';\n", busy.path(), silent.path());
    work.until("the window closes", |_, rows| rows == ["2024-01-01T00:00:00|2"]);
    put(busy.path(), "2.csv", LATER);
    work.until("the next one closes", |_, rows| rows == ["2024-01-01T00:00:00|2", "2024-01-01T00:00:20|2"]);
    assert_eq!(work.drain().len(), 3);
}

#[test]
fn without_the_option_a_silent_input_holds_the_watermark() {
    let (busy, silent) = (folder(), folder());
    put(busy.path(), "1.csv", EARLY);
    let mut work = united("", busy.path(), silent.path());
    work.until_windowed(3);
    put(busy.path(), "2.csv", LATER);
    // What the first file would have closed, it would have closed before the rows of the second.
    work.until_windowed(5);
    assert_eq!(work.seen.rows(), [""; 0]);
    put(silent.path(), "1.csv", "2024-01-01 00:00:24,b\n");
    // It is not silent any more: its word counts, and it is the least.
    work.until("the window closes", |_, rows| rows == ["2024-01-01T00:00:00|2"]);
    let wanted = ["2024-01-01T00:00:00|2", "2024-01-01T00:00:20|3", "2024-01-01T00:00:40|1"];
    assert_eq!(work.drain(), wanted);
}

#[test]
fn the_clock_stands_in_where_everything_is_silent() {
    let input = folder();
    let fallback = "SET 'millstream.watermark.wall-clock-fallback' = '50 ms';\n";
    let mut work = Work::start(&format!("{fallback}{}{}", watched("t", input.path()), counts("t")));
    // The row is ahead of the clock, so that it is in time even if it is read a little later. Where the machine was too slow for
    // that, it was late, and another one is tried.
    for attempt in 1.. {
        let ahead = std::time::SystemTime::now() + Duration::from_secs(2);
        let millis = ahead.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
        let row =
            format!("{},a\n", millstream::Watermark(millis as i64).to_string().replace('T', " ").replace('Z', ""));
        put(input.path(), &format!("{attempt}.csv"), &row);
        work.until("the window closes by the clock", |s, rows| !rows.is_empty() || s.late >= attempt);
        if !work.seen.rows().is_empty() {
            break;
        }
    }
    let rows = work.seen.rows();
    assert!(rows.len() == 1 && rows[0].ends_with("|1"), "{rows:?}");
    assert_eq!(work.drain(), rows);
}

#[test]
fn without_the_option_the_clock_closes_no_window() {
    let input = folder();
    put(input.path(), "1.csv", "2024-01-01 00:00:01,a\n");
    let mut work = Work::start(&format!("{}{}", watched("t", input.path()), counts("t")));
    work.until_windowed(1);
    put(input.path(), "2.csv", "2024-01-01 00:00:02,a\n");
    work.until_windowed(2);
    assert_eq!(work.seen.rows(), [""; 0]);
    assert_eq!(work.drain(), ["2024-01-01T00:00:00|2"]);
}

#[test]
fn a_file_that_comes_while_the_job_runs_is_read_once_and_drained() {
    let (input, out) = (folder(), folder());
    put(input.path(), "1.csv", EARLY);
    let sql = format!(
        "{}CREATE TABLE shown (ts TIMESTAMP(3), k STRING) WITH ('connector' = 'print');\n\
         CREATE TABLE counted (at TIMESTAMP(3), n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
         EXECUTE STATEMENT SET BEGIN INSERT INTO shown SELECT ts, k FROM t; INSERT INTO counted {}; END",
        watched("t", input.path()),
        out.path().display(),
        counts("t")
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["run", "-e", &sql, "--drain", "--progress", "none", "-p", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let printed = BufReader::new(child.stdout.take().expect("piped"));
    let (told, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || printed.lines().map_while(|l| l.ok()).try_for_each(|l| told.send(l)));
    let mut shown: Vec<String> = Vec::new();
    let wait_for = |rows: usize, shown: &mut Vec<String>| {
        while shown.len() < rows {
            shown.push(lines.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{e} after {shown:?}")));
        }
    };
    wait_for(3, &mut shown);
    put(input.path(), "2.csv", LATER);
    wait_for(5, &mut shown);
    put(input.path(), "3.csv", "2024-01-01 00:00:48,c\n");
    wait_for(6, &mut shown);
    let stopped = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(stopped.is_ok_and(|s| s.success()));
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child can be asked").is_none() {
        assert!(Instant::now() < deadline, "the job does not stop");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(child.wait().is_ok_and(|s| s.success()));
    let _ = reader.join();
    shown.extend(lines.try_iter());
    assert_eq!(shown.len(), 6, "each row once: {shown:?}");
    let mut results: Vec<String> = std::fs::read_dir(out.path())
        .expect("the folder is there")
        .flat_map(|f| {
            std::fs::read_to_string(f.expect("a file").path())
                .expect("a part file")
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    results.sort_unstable();
    let starts: Vec<(&str, &str)> =
        results.iter().filter_map(|r| r.rsplit_once(',')).map(|(at, n)| (&at[17..19], n)).collect();
    assert_eq!(starts, [("00", "2"), ("20", "2"), ("40", "2")], "windows close by draining: {results:?}");
}
