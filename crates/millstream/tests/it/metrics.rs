//! A job seen from outside: what it serves over a socket while it runs, against what is known of its input.

use crate::cli::{Folder, millstream, told};
use crate::state::{Child, World, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Only a job that hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One reading of the metrics, taken apart as strictly as a scraper would.
pub(crate) struct Scrape {
    /// By name and labels, sorted by label.
    samples: BTreeMap<(String, Vec<(String, String)>), f64>,
    kinds: BTreeMap<String, String>,
}

impl Scrape {
    /// # Panics
    /// What the format, or the rules for names, do not allow.
    pub(crate) fn parse(text: &str) -> Scrape {
        assert!(text.ends_with('\n'), "the last line has an end");
        let (mut samples, mut kinds, mut helps) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let (mut family, mut closed) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
                assert!(!help.trim().is_empty() && helps.insert(name.to_owned()), "{line}");
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helps.contains(name) && kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
                assert_eq!(
                    kind == "counter",
                    name.ends_with("_total"),
                    "counters, and they alone, end with _total: {line}"
                );
                closed.insert(std::mem::replace(&mut family, name.to_owned()));
                assert!(!closed.contains(name), "the samples of a family stand together: {line}");
                continue;
            }
            assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
            let (name, labels, value) = sample(line);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
            let of = match kinds.get(&family).map(String::as_str) {
                Some("histogram") => ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)),
                _ => Some(name.as_str()),
            };
            assert_eq!(of, Some(family.as_str()), "a sample outside of its family: {line}");
            let unit =
                ["seconds", "bytes", "info", "total", "rows", "files", "ratio", "generation", "partitions", "epoch"];
            assert!(unit.iter().any(|u| family.ends_with(u)), "no unit, or another one: {line}");
            assert!(samples.insert((name, labels), value).is_none(), "twice: {line}");
        }
        let scrape = Scrape { samples, kinds };
        scrape.check_histograms();
        scrape
    }

    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let bucket = format!("{name}_bucket");
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for ((_, labels), count) in self.samples.iter().filter(|((n, _), _)| *n == bucket) {
                let (_, bound) = labels.iter().find(|(key, _)| key == "le").expect("a bucket has a bound");
                buckets.push((if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a number") }, *count));
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|w| w[0].1 <= w[1].1), "{name}: {buckets:?}");
            assert_eq!(buckets.last().map(|b| b.0), Some(f64::INFINITY), "{name}");
            assert_eq!(buckets.last().map(|b| b.1), Some(self.sum(&format!("{name}_count"), &[])), "{name}");
        }
    }

    /// The sum of the samples with these labels; 0 where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).iter().sum()
    }

    /// Those with these labels.
    pub(crate) fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let has = |all: &[(String, String)]| labels.iter().all(|(k, v)| all.iter().any(|(a, b)| a == k && b == v));
        self.samples.iter().filter(|((n, all), _)| n == name && has(all)).map(|(_, value)| *value).collect()
    }

    /// Counters of `self` that have gone back since `before`.
    fn gone_back(&self, before: &Scrape) -> Vec<String> {
        let counts = |name: &str| {
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            self.kinds.get(family).or(self.kinds.get(name)).is_some_and(|kind| kind != "gauge")
        };
        let earlier = before.samples.iter().filter(|((name, _), _)| counts(name));
        let lower = earlier.filter(|(key, value)| self.samples.get(*key).is_none_or(|now| now < *value));
        lower.map(|((name, labels), value)| format!("{name} {labels:?} was {value}")).collect()
    }
}

/// `name{key="value",…} 1.5`.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
            let (mut text, mut chars) = (String::new(), value.char_indices());
            let end = loop {
                match chars.next() {
                    Some((at, '"')) => break at,
                    Some((_, '\\')) => match chars.next().map(|(_, c)| c) {
                        Some('n') => text.push('\n'),
                        Some(c @ ('\\' | '"')) => text.push(c),
                        other => panic!("\\{other:?}: {line}"),
                    },
                    Some((_, c)) => text.push(c),
                    None => panic!("a label without an end: {line}"),
                }
            };
            labels.push((key.to_owned(), text));
            rest = &value[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("labels without an end: {line}"));
    }
    labels.sort();
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no value: {line}"));
    (name.to_owned(), labels, value.parse().unwrap_or_else(|e| panic!("{e}: {line}")))
}

/// A running binary with an endpoint.
pub(crate) struct Watched {
    pub(crate) child: Child,
    address: String,
    said: std::path::PathBuf,
}

impl Watched {
    pub(crate) fn start(folder: &std::path::Path, args: &[&str]) -> Watched {
        let said = folder.join(format!("said-{}", args.len()));
        let file = std::fs::File::create(&said).expect("a file can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(args).args(["--metrics", "127.0.0.1:0"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().expect("it runs");
        let mut watched = Watched { child: Child(child), address: String::new(), said };
        wait_until("the endpoint is told", || {
            let said = watched.said();
            let address = said.split("metrics at http://").nth(1).and_then(|rest| rest.split_once("/metrics"));
            watched.address = address.map_or(String::new(), |(address, _)| address.to_owned());
            !watched.address.is_empty()
        });
        watched
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.said).expect("it can be read")
    }

    /// Status and body; `None` when it is gone.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if path == "/metrics" {
            assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        }
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    pub(crate) fn scrape(&self) -> Scrape {
        let (status, body) = self.get("/metrics").unwrap_or_else(|| panic!("nobody answers; it said {}", self.said()));
        assert_eq!(status, 200);
        Scrape::parse(&body)
    }

    /// The first reading that is as it should be.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&Scrape) -> bool) -> Scrape {
        let until = Instant::now() + PATIENCE;
        loop {
            let scrape = self.scrape();
            if is(&scrape) {
                return scrape;
            }
            assert!(Instant::now() < until, "{what}: {:#?}\nit said {}", scrape.samples, self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stopped as by Ctrl-C.
    fn stop(&mut self) {
        let stopped = Command::new("kill").args(["-INT", &self.child.0.id().to_string()]).status();
        assert!(stopped.is_ok_and(|s| s.success()));
        wait_until("it ends", || self.child.0.try_wait().expect("a child can be asked").is_some());
        assert!(self.child.0.wait().is_ok_and(|s| s.success()), "{}", self.said());
    }
}

const WINDOWS: &str = "INSERT INTO out SELECT window_start, name, SUM(n) AS total, COUNT(DISTINCT n) AS kinds \
                       FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                       GROUP BY window_start, window_end, name";

/// Seconds since 1970 of a moment of the first minute of 2024.
fn at(second: u32) -> f64 {
    1_704_067_200.0 + f64::from(second)
}

#[test]
fn the_metrics_of_a_job_are_what_is_known_of_it_also_after_it_goes_on() {
    let world = World::new();
    let sql =
        world.endless(WINDOWS).replacen("'format' = 'csv'", "'format' = 'csv', 'csv.ignore-parse-errors' = 'true'", 1);
    let script = world.0.write("clicks.sql", &sql);
    let state = world.place("state");
    let args =
        ["run", &script, "--state", &state, "--trigger", "100ms", "-p", "2", "--memory", "64mb", "--progress", "none"];
    let bytes_of = |name: &str| std::fs::metadata(world.0.path("in").join(name)).expect("it is there").len() as f64;
    let mut watched = Watched::start(&world.0.path("."), &args);
    let (source, sink) = ([("table", "events")], [("table", "out")]);
    let first = watched.until("six rows, and the windows of twenty seconds", |s| {
        s.sum("millstream_sink_rows_total", &sink) == 3.0 && s.sum("millstream_checkpoints_total", &[]) >= 2.0
    });
    assert_eq!(first.sum("millstream_source_rows_total", &source), 6.0);
    assert_eq!(first.sum("millstream_source_bytes_total", &source), bytes_of("1.csv"));
    assert_eq!(first.sum("millstream_sink_rows_total", &[("operator", "sink-out"), ("job", "clicks")]), 3.0);
    assert_eq!(first.all("millstream_watermark_timestamp_seconds", &source), [at(27)]);
    assert_eq!(first.all("millstream_watermark_timestamp_seconds", &sink), [at(27)]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs_f64();
    let lag = first.all("millstream_watermark_lag_seconds", &source);
    assert!(lag.len() == 1 && (now - lag[0] - at(27)).abs() < 30.0, "{lag:?}");
    assert_eq!(first.sum("millstream_late_rows_total", &[]), 0.0);
    assert_eq!(first.sum("millstream_skipped_total", &[]), 0.0);
    assert_eq!(first.sum("millstream_job_generation", &[]), 1.0);
    assert_eq!(first.all("millstream_source_partitions", &source), [1.0]);

    // Two rows for windows that are open, one that is late, and one that is none.
    world.file(
        "2.csv",
        "2024-01-01 00:00:35,bob,1\n2024-01-01 00:00:04,ann,100\n2024-01-01 00:00:39,ann,2\n2024-01-01,x\n",
    );
    let second = watched.until("the second file is read", |s| {
        s.sum("millstream_source_rows_total", &source) == 9.0 && s.sum("millstream_source_lag_files", &source) == 0.0
    });
    let second = if second.sum("millstream_skipped_total", &[]) > 0.0 { second } else { watched.scrape() };
    assert_eq!(second.gone_back(&first), [] as [String; 0]);
    assert_eq!(second.sum("millstream_late_rows_total", &[]), 1.0);
    assert_eq!(second.sum("millstream_skipped_total", &source), 1.0);
    assert_eq!(second.sum("millstream_source_bytes_total", &source), bytes_of("1.csv") + bytes_of("2.csv"));
    assert_eq!(second.all("millstream_watermark_timestamp_seconds", &source), [at(34)]);
    assert_eq!(second.sum("millstream_source_lag_bytes", &source), 0.0);
    assert_eq!(second.sum("millstream_sink_rows_total", &sink), 3.0, "nothing new is complete");
    assert!(second.sum("millstream_state_memory_bytes", &[]) > 0.0, "the window of half a minute is open");
    assert_eq!(second.sum("millstream_state_disk_bytes", &[]), 0.0);
    assert_eq!(second.sum("millstream_queue_bytes", &[]), 0.0, "nothing is on its way");
    let (budget, used) =
        (second.sum("millstream_memory_budget_bytes", &[]), second.sum("millstream_memory_used_bytes", &[]));
    assert!(budget > 32e6 && budget <= 64e6 * 1.1 && used > 0.0 && used < budget, "{used} of {budget}");

    // Checkpoints as their store knows them.
    let third = watched.until("one more checkpoint", |s| {
        s.sum("millstream_checkpoint_last_epoch", &[]) > second.sum("millstream_checkpoint_last_epoch", &[])
    });
    let completed = |s: &Scrape| s.sum("millstream_checkpoints_total", &[("outcome", "completed")]);
    assert!((completed(&third) - third.sum("millstream_checkpoint_duration_seconds_count", &[])).abs() <= 1.0);
    assert_eq!(third.sum("millstream_checkpoints_total", &[("outcome", "given_up")]), 0.0);
    assert_eq!(third.sum("millstream_checkpoints_total", &[("outcome", "failed")]), 0.0);
    let age = third.all("millstream_checkpoint_age_seconds", &[]);
    assert!(age.len() == 1 && (0.0..60.0).contains(&age[0]), "{age:?}");
    assert!(third.sum("millstream_checkpoint_written_bytes_total", &[]) > 0.0);

    // Every task's time is somewhere, and most of it is spent waiting: there is nothing to do.
    let uptime = third.sum("millstream_uptime_seconds", &[]);
    let waiting = third.sum("millstream_task_seconds_total", &[("state", "waiting")]);
    let all = third.sum("millstream_task_seconds_total", &[]);
    let tasks = third.all("millstream_task_seconds_total", &[("state", "busy")]).len() as f64;
    assert!(
        tasks == 3.0 && all <= tasks * uptime + 0.1 && all > tasks * uptime * 0.5,
        "{tasks} tasks, {all} of {uptime}"
    );
    assert!(waiting > all * 0.5, "{waiting} of {all}");
    assert_eq!(["/health", "/ready", "/nothing"].map(|p| watched.get(p).expect("an answer").0), [200, 200, 404]);
    watched.stop();
    assert!(watched.get("/health").is_none(), "it goes with the job");

    // It goes on: what it counts begins anew, what it knows of time does not.
    world.file("3.csv", "2024-01-01 00:00:52,cyd,1\n");
    let mut watched = Watched::start(&world.0.path("."), &args);
    let after = watched.until("the third file", |s| s.sum("millstream_sink_rows_total", &sink) == 2.0);
    assert_eq!(after.sum("millstream_source_rows_total", &source), 1.0, "rows before the restore were counted before");
    assert_eq!(after.sum("millstream_source_bytes_total", &source), bytes_of("3.csv"));
    assert_eq!(after.all("millstream_watermark_timestamp_seconds", &source), [at(47)]);
    assert!(after.sum("millstream_job_generation", &[]) > 1.0);
    watched.stop();
}

#[test]
fn counters_only_grow_while_a_job_runs_and_add_up_at_any_moment() {
    let folder = Folder::new();
    let sql = "CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '20000', \
               'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '100000000'); \
               CREATE TABLE nowhere (k BIGINT, c BIGINT) WITH ('connector' = 'blackhole'); \
               INSERT INTO nowhere SELECT MOD(n, 7) AS k, COUNT(*) AS c FROM numbers GROUP BY MOD(n, 7)";
    let mut watched = Watched::start(&folder.path("."), &["run", "-e", sql, "-p", "2", "--progress", "none"]);
    let mut before = watched.until("rows", |s| s.sum("millstream_source_rows_total", &[]) > 0.0);
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(30));
        let now = watched.scrape();
        assert_eq!(now.gone_back(&before), [] as [String; 0]);
        let read = now.sum("millstream_source_rows_total", &[]);
        let through = now.sum("millstream_operator_rows_in_total", &[("operator", "sink-nowhere")]);
        assert!(through <= 2.0 * now.sum("millstream_operator_rows_in_total", &[]) && read > 0.0);
        before = now;
    }
    assert!(before.sum("millstream_operator_bytes_out_total", &[("table", "numbers")]) >= 8.0);
    assert_eq!(before.all("millstream_source_lag_rows", &[]), [] as [f64; 0], "a generator is behind nothing");
    assert_eq!(before.all("millstream_checkpoints_total", &[]), [] as [f64; 0], "there are none");
    assert_eq!(before.all("millstream_watermark_lag_seconds", &[("table", "numbers")]), [] as [f64; 0]);
    assert_eq!(before.sum("millstream_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1.0);
    assert!(before.sum("process_resident_memory_bytes", &[]) > 1e6);
    watched.stop();
}

#[test]
fn a_limited_table_is_read_at_its_rate_and_what_is_left_of_it_is_told() {
    let folder = Folder::new();
    let lines: String = (0..400).map(|n| format!("{n},{}\n", n % 7)).collect();
    let input = folder.write("in.csv", &lines);
    let out = folder.path("out");
    for mode in ["streaming", "batch"] {
        let sql = format!(
            "CREATE TABLE i (n BIGINT, k BIGINT) WITH ('connector' = 'filesystem', 'path' = '{input}', 'format' = 'csv', \
             'scan.rate-limit.rows-per-second' = '100'); \
             CREATE TABLE o (n BIGINT, k BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv'); \
             INSERT INTO o SELECT n, k FROM i",
            out.display()
        );
        let began = Instant::now();
        let args = ["run", "-e", &sql, "-p", "2", "--progress", "none", "--mode", mode];
        let watched = Watched::start(&folder.path("."), &args);
        let scrape = watched.until("some rows", |s| s.sum("millstream_source_rows_total", &[]) >= 50.0);
        let read = scrape.sum("millstream_source_rows_total", &[]);
        assert!(read <= 100.0 * began.elapsed().as_secs_f64() + 20.0, "{mode}: {read} rows in {:?}", began.elapsed());
        if mode == "streaming" {
            // It is told twice a second for four seconds, and is nothing only at the very end.
            let left = watched.until("what is left", |s| s.sum("millstream_source_lag_bytes", &[("table", "i")]) > 0.0);
            let bytes = left.sum("millstream_source_lag_bytes", &[("partition", &input)]);
            assert!(bytes > 0.0 && bytes <= lines.len() as f64, "{bytes} of {}", lines.len());
            assert_eq!(left.sum("millstream_source_lag_files", &[]), 1.0);
        }
        let mut watched = watched;
        wait_until("it ends", || watched.child.0.try_wait().expect("a child can be asked").is_some());
        assert!(began.elapsed() >= Duration::from_millis(3_900), "{mode}: {:?} for 400 rows", began.elapsed());
        let mut rows = crate::state::lines(&out);
        rows.sort_by_key(|l| l.split(',').next().and_then(|n| n.parse::<u64>().ok()));
        assert_eq!(rows.join("\n") + "\n", lines, "{mode}");
        std::fs::remove_dir_all(&out).expect("it can be removed");
    }
}

#[test]
fn an_address_that_cannot_be_had_ends_the_program_before_it_begins() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (code, _, err) = told(&millstream(&["run", "-e", "SELECT 1", "--metrics", &address]));
    assert_eq!(code, 4, "{err}");
    assert!(err.contains(&format!("cannot listen at {address} for metrics")) && err.contains("help: "), "{err}");
    for wrong in ["9090", "localhost:http", "localhost"] {
        let (code, _, err) = told(&millstream(&["run", "-e", "SELECT 1", "--metrics", wrong]));
        assert!(code == 2 && err.contains("give a host and a port"), "{wrong}: {code} {err}");
    }
}
