//! Folders that are marked as complete while their job is killed again and again.

use crate::bucket::rows;
use crate::state::{Child, World, lines, wait_until};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// What is in the folders that are marked.
fn marked(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut marked = BTreeMap::new();
    for entry in std::fs::read_dir(world.0.path("out")).into_iter().flatten().flatten() {
        if entry.path().join("_SUCCESS").exists() {
            marked.insert(entry.file_name().to_string_lossy().into_owned(), lines(&entry.path()));
        }
    }
    marked
}

#[test]
fn a_folder_that_is_marked_by_its_time_gets_no_row_any_more_wherever_the_job_is_killed() {
    let world = World::new();
    let script = |watched: &str| {
        format!(
            "CREATE TABLE events (ts TIMESTAMP(3), name STRING, n INT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) \
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv'{watched});\n\
             CREATE TABLE out (ts TIMESTAMP(3), name STRING, n INT, at STRING) PARTITIONED BY (at) \
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', \
             'sink.partition-commit.policy.kind' = 'success-file', 'sink.partition-commit.trigger' = 'partition-time', \
             'sink.partition-commit.delay' = '10 s', 'partition.time-extractor.timestamp-pattern' = '$at');\n\
             INSERT INTO out SELECT ts, name, n, SUBSTRING(DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss'), 1, 18) || '0' FROM events",
            world.place("in"),
            world.place("out"),
        )
    };
    let endless = world.0.write("copy.sql", &script(", 'source.monitor-interval' = '20 ms'"));
    let command = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(args).args(["--state", &world.place("state"), "--progress", "none"]).stdin(Stdio::null());
        command
    };
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (round, parallelism) in ["2", "1", "3", "2"].into_iter().enumerate() {
        let said = std::fs::File::create(world.0.path("said.txt")).expect("a file can be made");
        let mut run = command(&["run", &endless, "--trigger", "50ms", "-p", parallelism]);
        let mut child = Child(run.stdout(Stdio::null()).stderr(said).spawn().expect("it runs"));
        for file in round as u32 * 2..round as u32 * 2 + 2 {
            world.file(&format!("{}.csv", file + 10), &rows(file));
        }
        wait_until("folders are marked", || {
            let ended = child.0.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "{}", std::fs::read_to_string(world.0.path("said.txt")).unwrap_or_default());
            marked(&world).len() > seen.len()
        });
        child.0.kill().expect("it can be killed");
        child.0.wait().expect("it ends");
        for (folder, rows) in marked(&world) {
            let before = seen.entry(folder.clone()).or_insert_with(|| rows.clone());
            assert_eq!(*before, rows, "{folder} was marked, and rows have come to it");
        }
    }
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(world.0.path("out")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    assert!(seen.len() < names().len(), "the newest folders wait");
    let bounded = world.0.write("copy.sql", &script(""));
    let ended = command(&["run", &bounded, "-p", "2"]).output().expect("it runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let all = marked(&world);
    for (folder, rows) in &seen {
        assert_eq!(all.get(folder), Some(rows), "{folder} was marked, and rows have come to it");
    }
    // The end of the input is the end of all waiting, and nothing is left that waits.
    assert_eq!(all.len(), names().len(), "{:?}", names());
    assert_eq!(all.values().map(Vec::len).sum::<usize>(), 6 + 8 * 200);
}
