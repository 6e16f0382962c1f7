//! What the binary says on standard error when it is asked to say it in JSON: every line an object, whatever happens.

use crate::cli::{Folder, millstream, told};
use crate::state::{Child, World, wait_until};
use serde_json::Value;

const WINDOWS: &str = "INSERT INTO out SELECT window_start, name, SUM(n) AS total, COUNT(*) AS kinds \
                       FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                       GROUP BY window_start, window_end, name";

/// Every line of standard error, taken apart.
fn events(err: &str) -> Vec<Value> {
    err.lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\nof\n{err}"));
            let text = |key: &str| event[key].as_str().unwrap_or_else(|| panic!("no {key}: {line}")).to_owned();
            let at = text("timestamp");
            assert!(at.len() == 24 && at.ends_with('Z') && at.as_bytes()[10] == b'T', "{line}");
            assert!(["error", "warn", "info", "debug"].contains(&text("level").as_str()), "{line}");
            assert!(!text("message").is_empty() && text("target") == "millstream", "{line}");
            event
        })
        .collect()
}

fn run(args: &[&str]) -> (i32, Vec<Value>) {
    let (code, _, err) = told(&millstream(&[&["--log-format", "json"], args].concat()));
    (code, events(&err))
}

#[test]
fn notes_progress_and_the_summary_are_events() {
    let (code, events) = run(&["run", "-e", "SET 'rest.port' = '1'; SELECT 1 AS n", "--progress", "plain"]);
    assert_eq!(code, 0);
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[0]["message"].as_str().is_some_and(|m| m.starts_with("'rest.port' has no effect")), "{events:?}");
    assert_eq!(
        (&events[1]["message"], &events[1]["rows_out"], &events[1]["job"]),
        (&"done".into(), &1.into(), &"job".into())
    );
}

#[test]
fn an_error_says_where_and_what_to_do_in_fields() {
    let (code, events) = run(&["run", "-e", "SELECT prise FROM (VALUES (1)) AS t(price)"]);
    assert_eq!((code, events.len()), (3, 1), "{events:?}");
    let error = &events[0];
    assert_eq!((&error["level"], &error["kind"], &error["place"]), (&"error".into(), &"sql".into(), &"-e:1:8".into()));
    assert!(error["remedy"].as_str().is_some_and(|r| r.contains("price")), "{error}");
    // What is wrong with the arguments is said the same way, whichever way the format was asked for.
    for args in [&["--log-format", "json", "run", "--mod", "batch"][..], &["run", "--nonsense", "--log-format=json"]] {
        let (code, _, err) = told(&millstream(args));
        let events = self::events(&err);
        assert!(code == 2 && events.len() == 1 && events[0]["kind"] == "usage", "{err}");
    }
}

#[test]
fn lints_are_events_with_their_place() {
    let sql =
        "CREATE TABLE t (price BIGINT) WITH ('connector' = 'nexmark', 'nexmark.table' = 'bid'); SELECT price FROM t";
    let (_, events) = run(&["check", "--target", "flink-1.20", "-e", sql]);
    let warned = events.iter().find(|e| e["level"] == "warn").unwrap_or_else(|| panic!("{events:?}"));
    assert!(warned["place"].as_str().is_some_and(|p| p.starts_with("-e:")) && warned["remedy"].is_string(), "{warned}");
}

#[test]
fn a_level_leaves_out_what_is_below_it_and_debug_tells_each_checkpoint() {
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.script(WINDOWS));
    let state = world.place("state");
    let args = ["run", &script, "--state", &state, "--log-level", "debug"];
    let (code, events) = run(&args);
    assert_eq!(code, 0, "{events:?}");
    let completed =
        events.iter().find(|e| e["message"] == "checkpoint completed").unwrap_or_else(|| panic!("{events:?}"));
    assert_eq!((&completed["level"], &completed["job"]), (&"debug".into(), &"clicks".into()));
    assert!(completed["epoch"].as_u64() >= Some(1) && completed["millis"].is_u64(), "{completed}");
    let again = |level: &str| told(&millstream(&["run", &script, "--state", &state, "--log-level", level]));
    let (code, _, err) = again("info");
    assert!(code == 0 && err.contains("note: job `clicks` had read all of its input"), "{err}");
    let (code, _, err) = again("warn");
    assert_eq!((code, err.as_str()), (0, ""));
    let (code, _, err) = told(&millstream(&["run", "-e", "SELECT prise FROM t", "--log-level", "error"]));
    assert!(code == 3 && err.starts_with("error: "), "{err}");
}

#[test]
fn a_checkpoint_that_is_given_up_is_a_warning_with_its_epoch() {
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.endless(WINDOWS));
    let state = world.place("state");
    let said = world.0.path("said");
    let file = std::fs::File::create(&said).expect("a file can be made");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args([
        "run",
        &script,
        "--state",
        &state,
        "--checkpoint-interval",
        "500ms",
        "--log-format",
        "json",
        "-p",
        "1",
    ]);
    let child = Child(command.stderr(file).spawn().expect("it runs"));
    let data = world.0.path("state").join("clicks/data");
    let told = || std::fs::read_to_string(&said).expect("it can be read");
    wait_until("the closed windows are visible", || world.out().len() == 3);
    // Nothing can be put where a file is in the way of the folder.
    std::fs::rename(&data, data.with_extension("aside")).and_then(|()| std::fs::write(&data, "")).expect("moved away");
    world.file("2.csv", "2024-01-01 00:00:35,bob,1\n");
    wait_until("it is told", || told().lines().any(|l| l.contains("was given up")));
    drop(child);
    // A line that was being written when it was killed is none.
    let text = told();
    let events = events(text.rsplit_once('\n').map_or("", |(whole, _)| whole));
    let warned = events.iter().find(|e| e["level"] == "warn").unwrap_or_else(|| panic!("{events:?}"));
    assert!(warned["message"].as_str().is_some_and(|m| m.contains("was given up: ")), "{warned}");
    assert!(warned["epoch"].is_u64() && warned["job"] == "clicks" && warned["remedy"].is_string(), "{warned}");
}

#[test]
fn no_secret_is_ever_said() {
    let folder = Folder::new();
    let script = folder.write(
        "secret.sql",
        "CREATE TABLE o (n INT) WITH ('connector' = 'jdbc', 'url' = 'jdbc:postgresql://127.0.0.1:1/shop', 'table-name' = 't', \
         'username' = 'ann', 'password' = 'hunter2', 'connection.max-retry-timeout' = '1 s'); INSERT INTO o SELECT 1",
    );
    for format in ["json", "text"] {
        let args = ["run", &script, "--log-format", format, "--log-level", "debug"];
        let (code, out, err) = told(&millstream(&args));
        assert!(code != 0 && !err.contains("hunter2") && !out.contains("hunter2"), "{code} {err}");
        if format == "json" {
            assert_eq!(events(&err).last().map(|e| e["level"].clone()), Some("error".into()));
        }
    }
}
