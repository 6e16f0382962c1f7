//! Jobs that keep their state in a bucket: `./dev servers cargo test -p millstream --test it bucket`.

use crate::cli::told;
use crate::state::{Child, World, lines, wait_until};
use crate::support::difference;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

const WINDOWS: &str = "INSERT INTO out SELECT window_start, name, SUM(n) AS total, COUNT(DISTINCT n) AS kinds \
                       FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                       GROUP BY window_start, window_end, name";

/// A place of its own in the bucket of the server. `None` where this run has none, which is said loudly, and is a failure
/// in CI.
fn place(name: &str) -> Option<String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let Some(bucket) = std::env::var("MILLSTREAM_TEST_S3").ok().filter(|u| !u.is_empty()) else {
        assert!(std::env::var_os("CI").is_none(), "MILLSTREAM_TEST_S3 is not set, and CI must not skip");
        // Past the test harness, which shows what a test prints only if it fails.
        let _ =
            writeln!(std::io::stderr(), "!! SKIPPED: MILLSTREAM_TEST_S3 is not set; run ./dev servers cargo test ..");
        return None;
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is past 1970");
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Some(format!("{bucket}/{name}-{}-{next}-{}", std::process::id(), now.as_nanos()))
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error; in which no secret is.
fn run(command: &mut Command) -> (i32, String, String) {
    let (code, out, err) = told(&command.output().expect("the binary runs"));
    let secret = std::env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_default();
    assert!(secret.is_empty() || !(out.contains(&secret) || err.contains(&secret)), "a secret is shown");
    (code, out, err)
}

fn millstream(args: &[&str]) -> (i32, String, String) {
    run(&mut command(args))
}

/// What it says goes to a file, to be read when it does not do what it should.
fn spawn(args: &[&str], said: &Path) -> Child {
    let said = std::fs::File::create(said).expect("a file can be made");
    Child(command(args).stdout(Stdio::null()).stderr(said).spawn().expect("it runs"))
}

/// Rows of ten names in 20 seconds, after those of the world's first file; out of order by less than the watermark waits,
/// so that none is late: in batch mode none ever is.
pub(crate) fn rows(file: u32) -> String {
    let row = |i: u32| {
        let at = 43 + file * 20 + i / 10 - i * 7 % 4;
        format!("2024-01-01 00:{:02}:{:02},name{},{}\n", at / 60, at % 60, i * 31 % 10, i * 17 % 23)
    };
    (0..200).map(row).collect()
}

/// No window shows twice.
fn each_once(out: &[String]) {
    let keys: BTreeSet<&str> = out.iter().map(|l| l.rsplitn(3, ',').nth(2).expect("four columns")).collect();
    assert_eq!(keys.len(), out.len(), "{out:?}");
}

#[test]
fn a_job_that_is_killed_goes_on_from_the_bucket_on_other_tasks() {
    let Some(state) = place("kill") else { return };
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.endless(WINDOWS));
    let said = world.0.path("said.txt");
    let mut file = 10;
    for (round, parallelism) in ["1", "4", "2", "3"].into_iter().enumerate() {
        let args = ["run", &script, "--state", &state, "--trigger", "100ms", "-p", parallelism, "--progress", "plain"];
        let mut child = spawn(&args, &said);
        let before = world.out().len();
        // Killed somewhere between two checkpoints, or within one.
        for _ in 0..4 + round {
            world.file(&format!("{file}.csv"), &rows(file - 10));
            file += 1;
            std::thread::sleep(std::time::Duration::from_millis(70));
        }
        wait_until("windows close", || {
            let ended = child.0.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "{}", std::fs::read_to_string(&said).unwrap_or_default());
            world.out().len() > before + 10
        });
        child.0.kill().expect("it can be killed");
        child.0.wait().expect("it ends");
        each_once(&world.out());
    }
    let bounded = world.0.write("clicks.sql", &world.script(WINDOWS));
    let (code, _, err) = millstream(&["run", &bounded, "--state", &state, "-p", "2", "--progress", "none"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("goes on from checkpoint"), "{err}");

    let oracle = world.script(WINDOWS).replace(&world.place("out"), &world.place("oracle"));
    let (code, _, err) = millstream(&["run", "-e", &oracle, "--mode", "batch", "--progress", "none"]);
    assert_eq!(code, 0, "{err}");
    let expected = lines(&world.0.path("oracle"));
    assert!(expected.len() > 300, "{}", expected.len());
    assert!(world.out() == expected, "{}", difference(&world.out(), &expected));

    // Three epochs are kept, and nothing else but what they need.
    let (code, listed, err) = millstream(&["state", "ls", &state]);
    assert_eq!(code, 0, "{err}");
    assert!(listed.contains("job clicks") && listed.contains("finished"), "{listed}");
    assert!(listed.lines().count() < 2 + 10, "{listed}");
}

#[test]
fn the_commands_reach_a_job_by_its_bucket() {
    let Some(state) = place("commands") else { return };
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.endless(WINDOWS));
    let run = ["run", &script, "--state", &state, "--trigger", "100ms", "-p", "2", "--progress", "none"];
    let mut child = spawn(&run, &world.0.path("said.txt"));
    wait_until("the closed windows are visible", || world.out().len() == 3);
    let (code, _, err) = millstream(&run);
    assert_eq!(code, 2, "{err}");
    let holder = format!("in use by process {}", child.0.id());
    assert!(err.contains(&holder) && err.contains("clicks.sql") && err.contains("help:"), "{err}");

    let (code, out, err) = millstream(&["savepoint", &state, "before"]);
    assert_eq!((code, out.contains("savepoint `before` is checkpoint")), (0, true), "{out}{err}");
    let (code, out, err) = millstream(&["stop", &state]);
    assert_eq!((code, out.contains("asked to stop")), (0, true), "{out}{err}");
    wait_until("the job stops", || child.0.try_wait().expect("a child can be asked").is_some());
    assert!(child.0.wait().is_ok_and(|s| s.success()));

    let (code, out, _) = millstream(&["state", "ls", &state]);
    assert!(code == 0 && out.contains("savepoint before"), "{out}");
    let sql = "SELECT name, `rows` FROM partitions";
    let (code, out, err) = millstream(&["state", "query", &state, sql, "--at", "before", "--format", "csv"]);
    assert_eq!((code, out), (0, format!("name,rows\n{},6\n", world.place("in"))), "{err}");

    // From the bucket to another prefix, and from there to a folder.
    let (elsewhere, folder) = (place("elsewhere").expect("there is a server"), world.place("folder"));
    let copied = ["state", "copy", &state, "--at", "before", &elsewhere];
    let (code, out, err) = millstream(&copied);
    assert_eq!((code, out.contains(&elsewhere)), (0, true), "{out}{err}");
    let bounded = world.0.write("clicks.sql", &world.script(WINDOWS));
    let (code, _, err) =
        millstream(&["run", &bounded, "--state", &folder, "--restore", &elsewhere, "--progress", "none"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("goes on from checkpoint 1"), "{err}");
    let out = world.out();
    assert_eq!((out.len(), out[3].as_str()), (5, "2024-01-01 00:00:30,ann,7,1"), "{out:?}");

    let nothing = format!("{elsewhere}/nothing");
    let (code, _, err) = millstream(&["state", "ls", &nothing]);
    assert_eq!((code, err.contains("holds no checkpoints")), (2, true), "{err}");
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_at_the_start() {
    let Some(state) = place("wrong") else { return };
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.script(WINDOWS));
    let at = |state: &str| command(&["run", &script, "--state", state, "--progress", "none"]);
    let says = |command: &mut Command, code: i32, parts: &[&str]| {
        let (was, _, err) = run(command);
        assert_eq!(was, code, "{err}");
        assert!(err.contains("help:"), "{err}");
        parts.iter().for_each(|part| assert!(err.contains(part), "`{part}` is not in: {err}"));
    };
    says(&mut at("s3://there-is-no-such-bucket/x"), 2, &["there is no bucket `there-is-no-such-bucket`"]);
    says(&mut at("s3:///x"), 2, &["names no bucket"]);
    says(at(&state).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), 4, &["127.0.0.1:1", "refused", "AWS_ENDPOINT_URL"]);
    says(at(&state).env("AWS_SECRET_ACCESS_KEY", "mistyped"), 4, &["SignatureDoesNotMatch", "secret key"]);
    let mut without = at(&state);
    without.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    // Where a machine of Amazon's would tell its role.
    without.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1");
    says(&mut without, 2, &["there are no credentials", "AWS_ACCESS_KEY_ID"]);
    says(at(&state).env_remove("AWS_SECRET_ACCESS_KEY"), 2, &["AWS_"]);
    assert!(world.out().is_empty(), "nothing was run");
    let restore = ["run", &script, "--state", &state, "--restore", "s3://there-is-no-such-bucket/x"];
    says(&mut command(&restore), 2, &["there is no bucket `there-is-no-such-bucket`"]);
}

/// Rows of a file, each with a number of its own; see [`rows`] for their times.
fn numbered(file: u32) -> String {
    let row = |(n, line): (usize, &str)| {
        let (at_and_name, _) = line.rsplit_once(',').expect("three columns");
        format!("{at_and_name},{}\n", file as usize * 1000 + n)
    };
    rows(file).lines().enumerate().map(row).collect()
}

/// A moment that no two runs share.
fn some_time() -> std::time::Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is past 1970");
    std::time::Duration::from_millis(u64::from(now.subsec_nanos()) / 7 % 500)
}

#[test]
fn a_job_from_a_bucket_into_a_bucket_that_is_killed_anywhere_shows_each_row_once() {
    let Some(place) = place("tables") else { return };
    let world = World::new();
    let columns = "ts TIMESTAMP(3), name STRING, n INT";
    let table = |name: &str, below: &str, format: &str, more: &str| {
        format!(
            "CREATE TABLE {name} ({columns}{}) {} WITH ('connector' = 'filesystem', 'path' = '{place}/{below}', \
             'format' = '{format}'{more});\n",
            if name == "events" { ", WATERMARK FOR ts AS ts - INTERVAL '5' SECOND" } else { "" },
            if name == "sorted" { "PARTITIONED BY (name)" } else { "" },
        )
    };
    let script = |watched: &str| {
        let rolling = ", 'sink.rolling-policy.file-size' = '4kb', 'sink.partition-commit.policy.kind' = 'success-file'";
        table("events", "in/*/*.parquet", "parquet", watched)
            + &table("sorted", "sorted", "parquet", rolling)
            + &table("plain", "plain", "json", "")
            + "EXECUTE STATEMENT SET BEGIN\nINSERT INTO sorted SELECT ts, name, n FROM events;\n\
               INSERT INTO plain SELECT ts, name, n FROM events WHERE n % 2 = 0;\nEND;"
    };
    // Each file of the disk becomes an object.
    let upload = |file: u32| {
        let here = world.0.write(&format!("{file}.csv"), &numbered(file));
        let load = format!(
            "CREATE TABLE here ({columns}) WITH ('connector' = 'filesystem', 'path' = '{here}', 'format' = 'csv');\n"
        ) + &table("there", &format!("in/{file}"), "parquet", "")
            + "INSERT INTO there SELECT * FROM here";
        let (code, _, err) = millstream(&["run", "-e", &load, "--progress", "none"]);
        assert_eq!(code, 0, "{err}");
    };
    upload(0);
    let state = format!("{place}/state");
    let endless = world.0.write("copy.sql", &script(", 'source.monitor-interval' = '50 ms'"));
    let said = world.0.path("said.txt");
    for (round, parallelism) in ["1", "4", "2", "3", "1"].into_iter().enumerate() {
        let args = ["run", &endless, "--state", &state, "--trigger", "100ms", "-p", parallelism, "--progress", "plain"];
        let mut child = spawn(&args, &said);
        upload(round as u32 + 1);
        if round % 2 == 0 {
            // At some moment of a job that is at work; else also of one that is just starting.
            let epoch = || -> u64 {
                let (_, listed, _) = millstream(&["state", "ls", &state]);
                listed.lines().filter_map(|l| l.split_whitespace().nth(1)?.parse().ok()).max().unwrap_or(0)
            };
            let before = epoch();
            wait_until("a checkpoint is written", || epoch() > before);
        }
        std::thread::sleep(some_time());
        let ended = child.0.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "{round}, {ended:?}: {}", std::fs::read_to_string(&said).unwrap_or_default());
        child.0.kill().expect("it can be killed");
        child.0.wait().expect("it ends");
    }
    let bounded = world.0.write("copy.sql", &script(""));
    let (code, _, err) = millstream(&["run", &bounded, "--state", &state, "-p", "2", "--progress", "none"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("goes on from checkpoint"), "{err}");

    let expected: Vec<String> =
        (0..6).flat_map(|file| numbered(file).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    for (below, format, every) in [("sorted", "parquet", 1), ("plain", "json", 2)] {
        let query = table(below, below, format, "") + &format!("SELECT ts, name, n FROM {below}");
        let (code, out, err) = millstream(&["run", "-e", &query, "--format", "csv", "--progress", "none"]);
        assert_eq!(code, 0, "{err}");
        let mut shown: Vec<String> = out.lines().skip(1).map(|line| line.replace(".000,", ",")).collect();
        let mut expected: Vec<String> = expected
            .iter()
            .filter(|line| line.rsplit(',').next().is_some_and(|n| n.parse::<u32>().is_ok_and(|n| n % every == 0)))
            .cloned()
            .collect();
        shown.sort();
        expected.sort();
        assert!(shown == expected, "{below}: {}", difference(&shown, &expected));
    }
}
