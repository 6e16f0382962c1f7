//! Jobs that go on: what is kept, what an edit of the query does to it, what is refused, and how it is looked at.

use crate::cli::{Folder, millstream, told};
use crate::support::texts;
use millstream::state::{self, Request};
use millstream::{
    Error, ErrorKind, Mode, Program, RestoreFrom, Result, RunOptions, Runner, Running, StateOptions, Step,
};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const FIRST: &str = "2024-01-01 00:00:01,ann,5\n2024-01-01 00:00:07,bob,2\n2024-01-01 00:00:03,ann,1\n\
                     2024-01-01 00:00:12,ann,4\n2024-01-01 00:00:31,bob,9\n2024-01-01 00:00:32,ann,7\n";
const SECOND: &str = "2024-01-01 00:00:35,bob,1\n2024-01-01 00:00:04,ann,100\n2024-01-01 00:00:39,ann,2\n";

/// How long something that happens beside the test may take.
const PATIENCE: Duration = Duration::from_secs(60);

const WINDOWS: &str = "INSERT INTO out SELECT window_start, name, SUM(n) AS total, COUNT(DISTINCT n) AS kinds \
                       FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                       GROUP BY window_start, window_end, name";

/// One job's world: a folder of input, one of output, a place for its state.
pub(crate) struct World(pub(crate) Folder);

impl World {
    /// With the first file there.
    pub(crate) fn new() -> World {
        let world = World(Folder::new());
        std::fs::create_dir(world.0.path("in")).expect("a folder can be made");
        world.file("1.csv", FIRST);
        world
    }

    /// Appears as a whole.
    pub(crate) fn file(&self, name: &str, text: &str) {
        let hidden = self.0.write(&format!("in/.{name}"), text);
        std::fs::rename(hidden, self.0.path("in").join(name)).expect("a file can be renamed");
    }

    pub(crate) fn place(&self, name: &str) -> String {
        self.0.path(name).display().to_string()
    }

    /// The tables, and then `query`.
    pub(crate) fn script(&self, query: &str) -> String {
        format!(
            "CREATE TABLE events (ts TIMESTAMP(3), name STRING, n INT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) \
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
             CREATE TABLE out (window_start TIMESTAMP(3), name STRING, total INT, kinds BIGINT) \
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n{query}",
            self.place("in"),
            self.place("out"),
        )
    }

    /// The script of a job that waits for more files.
    pub(crate) fn endless(&self, query: &str) -> String {
        let end = "'format' = 'csv');";
        self.script(query).replacen(end, "'format' = 'csv', 'source.monitor-interval' = '50 ms');", 1)
    }

    fn options(&self) -> StateOptions {
        StateOptions { location: Some(self.place("state")), available_now: true, ..StateOptions::default() }
    }

    /// Runs what is there now.
    fn now(&self, query: &str) -> Result<Vec<String>> {
        go(&self.script(query), self.options())
    }

    /// Runs to the end of the input, where every window closes.
    fn to_the_end(&self, query: &str) -> Result<Vec<String>> {
        go(&self.script(query), StateOptions { available_now: false, ..self.options() })
    }

    /// The lines of all that is visible in the output, sorted.
    pub(crate) fn out(&self) -> Vec<String> {
        lines(&self.0.path("out"))
    }

    /// The first file of the newest checkpoint's tables.
    fn a_file_of_the_checkpoint(&self) -> std::path::PathBuf {
        let (job, store) = state::job_stores(&self.place("state")).expect("there is state").remove(0);
        let manifest = state::manifest(store.as_ref(), None).expect("there is a checkpoint");
        let file = manifest.files().next().expect("its tables hold something");
        self.0.path("state").join(job).join(&file.path)
    }
}

pub(crate) fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with(['.', '_']);
        if !hidden {
            let text = std::fs::read_to_string(entry.path()).expect("a part file holds text");
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

fn runner(script: &str, state: StateOptions) -> Result<Runner> {
    runner_of("job.sql", script, state)
}

fn runner_of(file: &str, script: &str, state: StateOptions) -> Result<Runner> {
    let options = RunOptions { parallelism: Some(2), state, ..RunOptions::default() };
    Ok(Runner::new(Program::parse(script, file)?, options))
}

/// Runs a script to its end; the notices of its jobs.
fn go(script: &str, state: StateOptions) -> Result<Vec<String>> {
    let mut runner = runner(script, state)?;
    let mut notices = Vec::new();
    while let Some(step) = runner.step() {
        if let Step::Running(running) = step? {
            notices.extend(running.notices().iter().cloned());
            running.wait()?;
        }
    }
    Ok(notices)
}

/// Starts the first job of a script.
fn start(script: &str, state: StateOptions) -> Result<Running> {
    let mut runner = runner(script, state)?;
    loop {
        if let Step::Running(running) = runner.step().expect("the script has a query")? {
            return Ok(running);
        }
    }
}

pub(crate) fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !there() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks a running job, as `millstream savepoint` and `stop` do from another process.
fn ask(running: &mut Running, location: &str, request: &Request) -> Result<String> {
    let (_, store) = state::job_stores(location)?.remove(0);
    state::ask(store.as_ref(), "test", request)?;
    let mut answered = None;
    wait_until("an answer", || {
        running.listen();
        answered = state::answer(store.as_ref(), "test").expect("the store can be read");
        answered.is_some()
    });
    answered.expect("it was waited for")
}

/// The rows of a query over the newest checkpoint, sorted.
fn asked(location: &str, at: Option<&str>, sql: &str) -> Result<Vec<String>> {
    let (_, store) = state::job_stores(location)?.remove(0);
    let manifest = state::manifest(store.as_ref(), at)?;
    let (program, tables) = state::query(&store, &manifest, sql)?;
    let options = RunOptions { mode: Some(Mode::Batch), tables, ..RunOptions::default() };
    let mut rows = texts(&millstream::collect(program, options)?);
    rows.sort();
    Ok(rows)
}

fn says(e: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = format!("{e}\n{}", e.help().unwrap_or(""));
    assert_eq!(e.kind(), kind, "{text}");
    assert!(e.help().is_some(), "no remedy: {text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in: {text}"));
}

#[test]
fn a_folder_that_grows_is_read_on_and_open_windows_stay_open() {
    let world = World::new();
    assert_eq!(world.now(WINDOWS).unwrap(), Vec::<String>::new());
    let closed = ["2024-01-01 00:00:00,ann,6,2", "2024-01-01 00:00:00,bob,2,1", "2024-01-01 00:00:10,ann,4,1"];
    assert_eq!(world.out(), closed);
    world.file("2.csv", SECOND);
    let notices = world.now(WINDOWS).unwrap();
    assert!(notices[0].contains("goes on from checkpoint"), "{notices:?}");
    assert_eq!(world.out(), closed, "no window has closed since, and the late row counts nowhere");
    let rows = asked(&world.place("state"), None, "SELECT name, `rows` FROM partitions").unwrap();
    assert_eq!(rows, [format!("{}|9", world.place("in"))], "each file once");
    world.now(WINDOWS).unwrap();
    assert_eq!(world.out(), closed, "nothing new");
    world.to_the_end(WINDOWS).unwrap();
    assert_eq!(world.out()[3..], ["2024-01-01 00:00:30,ann,9,2", "2024-01-01 00:00:30,bob,10,2"]);
    let notices = world.to_the_end(WINDOWS).unwrap();
    assert!(notices[0].contains("nothing is left to do"), "{notices:?}");
    assert_eq!(world.out().len(), 5);
}

#[test]
fn an_edit_beside_a_window_leaves_its_state() {
    let world = World::new();
    world.now(WINDOWS).unwrap();
    world.file("2.csv", SECOND);
    // The window's rows go to other columns, and a second query reads the same source.
    let moved = "CREATE TABLE out (kinds BIGINT, total INT, name STRING) ";
    let edited = world
        .script("")
        .replace("CREATE TABLE out (window_start TIMESTAMP(3), name STRING, total INT, kinds BIGINT) ", moved)
        + &format!(
            "CREATE TABLE raw (ts TIMESTAMP(3), name STRING, n INT) \
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
             EXECUTE STATEMENT SET BEGIN\n\
             INSERT INTO raw SELECT * FROM events;\n\
             INSERT INTO out SELECT kinds, total, name FROM ({});\nEND",
            world.place("raw"),
            WINDOWS.replace("INSERT INTO out ", ""),
        );
    go(&edited, StateOptions { available_now: false, ..world.options() }).unwrap();
    assert_eq!(world.out()[..2], ["2,10,bob", "2,9,ann"]);
    assert_eq!(world.out().len(), 3 + 2, "what was written before is left alone");
    assert_eq!(lines(&world.0.path("raw")).len(), 3, "the new query reads where the source was");
}

#[test]
fn output_that_may_be_waiting_for_a_table_that_is_gone_is_not_forgotten() {
    let world = World::new();
    world.now(WINDOWS).unwrap();
    let renamed = |text: String| text.replace("TABLE out", "TABLE counts").replace("INTO out", "INTO counts");
    let e = go(&renamed(world.script(WINDOWS)), world.options()).unwrap_err();
    says(&e, ErrorKind::Usage, &["sink-out (out): output of 1 writers", "--allow-dropped-state"]);
    let options = StateOptions { allow_dropped_state: true, available_now: false, ..world.options() };
    go(&renamed(world.script(WINDOWS)), options).unwrap();
    assert_eq!(world.out()[3..], ["2024-01-01 00:00:30,ann,7,1", "2024-01-01 00:00:30,bob,9,1"]);
}

#[test]
fn another_window_is_refused_until_its_state_may_go() {
    let world = World::new();
    world.now(WINDOWS).unwrap();
    world.file("2.csv", SECOND);
    let wider = WINDOWS.replace("'10' SECOND", "'20' SECOND");
    let e = world.now(&wider).unwrap_err();
    says(
        &e,
        ErrorKind::Usage,
        &["no place for what is saved", "table `slices`", "has it become", "--allow-dropped-state"],
    );
    // Refused, it has changed nothing.
    world.now(WINDOWS).unwrap();
    let options = StateOptions { allow_dropped_state: true, available_now: false, ..world.options() };
    world.file("3.csv", "2024-01-01 00:00:36,cy,3\n");
    go(&world.script(&wider), options).unwrap();
    assert_eq!(world.out()[3..], ["2024-01-01 00:00:20,cy,3,1"], "the source went on, the window began anew");
}

#[test]
fn check_says_what_a_restore_would_do() {
    let world = World::new();
    let script = world.0.write("job.sql", &world.script(WINDOWS));
    let state = world.place("state");
    let (code, _, err) =
        told(&millstream(&["run", &script, "--state", &state, "--available-now", "--progress", "none"]));
    assert_eq!(code, 0, "{err}");
    let check = |query: &str| {
        let script = world.0.write("job.sql", &world.script(query));
        told(&millstream(&["check", &script, "--against", &state]))
    };
    let (code, out, err) = check(WINDOWS);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("job `job` against checkpoint") && out.contains("kept     source-events"), "{out}");
    assert!(out.contains("table `slices`, 2 rows in its files") && !out.contains("dropped"), "{out}");

    let wider = WINDOWS.replace("'10' SECOND", "'20' SECOND");
    let (code, out, err) = check(&wider);
    assert_eq!(code, 2, "{out}{err}");
    assert!(out.contains("dropped  window-aggregate") && out.contains("new      window-aggregate"), "{out}");
    assert!(err.contains("--allow-dropped-state"), "{err}");

    let calls = WINDOWS.replace("SUM(n) AS total", "MAX(n) AS total");
    let (code, out, err) = check(&calls);
    assert_eq!(code, 2, "{out}{err}");

    // Each query of a script against a job of its own; one that has none starts from the beginning.
    let two = format!("{WINDOWS};\n{wider}");
    let (code, out, err) = check(&two);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("job `job` against") && out.contains("job `job-2`") && out.contains("starts empty"), "{out}");
    let (code, out, err) = check(&format!("SET 'pipeline.name' = 'renamed';\n{WINDOWS}"));
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("`renamed`") && err.contains("no query here goes on with job `job`"), "{out}{err}");
    let (code, _, err) = told(&millstream(&["check", &script, "--against", &world.place("nowhere")]));
    assert_eq!((code, err.contains("--state")), (2, true), "{err}");
}

#[test]
fn a_job_goes_on_at_an_older_checkpoint_at_a_savepoint_and_in_another_place() {
    let world = World::new();
    let state = world.place("state");
    let kept = format!("SET 'state.checkpoints.num-retained' = '20';\n{WINDOWS}");
    world.now(&kept).unwrap();
    let early = state::manifest(state::job_stores(&state).unwrap()[0].1.as_ref(), None).unwrap().epoch;
    // A savepoint is asked of the running job, which has then read the second file.
    world.file("2.csv", SECOND);
    let mut running = start(&world.endless(&kept), StateOptions { available_now: false, ..world.options() }).unwrap();
    wait_until("the second file is read", || running.snapshot().nodes.iter().any(|n| n.rows_out >= 3));
    let number = ask(&mut running, &state, &Request::Savepoint("early".to_owned())).unwrap();
    let e = ask(&mut running, &state, &Request::Savepoint("../out".to_owned())).unwrap_err();
    assert!(e.what().contains("../out"), "{e}");
    assert_eq!(ask(&mut running, &state, &Request::Stop { drain: false }).unwrap(), "0");
    wait_until("the job stops", || running.is_finished());
    running.wait().unwrap();
    // The second run has written the checkpoint that it began with anew, under another number.
    let (_, store) = state::job_stores(&state).unwrap().remove(0);
    let numbers =
        store.list("manifests/").unwrap().into_iter().filter_map(|s| millstream::Manifest::number_of(&s.path));
    let mut manifests = numbers.map(|n| state::manifest(store.as_ref(), Some(&n.to_string())).unwrap());
    let early = manifests.find(|m| m.epoch == early).expect("20 are kept").number;
    assert!(number.parse::<u64>().unwrap() > early);
    assert_eq!(world.out().len(), 3);

    let all = ["2024-01-01 00:00:30,ann,9,2", "2024-01-01 00:00:30,bob,10,2"];
    let again = |restore: RestoreFrom, out: &str, location: &str| {
        let script = world.script(&kept).replace(&world.place("out"), &world.place(out));
        let state = StateOptions { restore, location: Some(world.place(location)), ..StateOptions::default() };
        go(&script, state).map(|_| lines(&world.0.path(out)))
    };
    // Another place first: what is copied stays what it is.
    assert_eq!(again(RestoreFrom::Named(state.clone()), "out-a", "state-a").unwrap(), all);
    let e = again(RestoreFrom::Named(state.clone()), "out-a", "state-a").unwrap_err();
    says(&e, ErrorKind::Usage, &["has state of its own already"]);
    let e = again(RestoreFrom::Named("late".to_owned()), "out-b", "state").unwrap_err();
    says(&e, ErrorKind::Usage, &["neither a savepoint `late`"]);
    let e = again(RestoreFrom::Number(77), "out-b", "state").unwrap_err();
    says(&e, ErrorKind::Usage, &["77"]);
    assert_eq!(again(RestoreFrom::Number(early), "out-b", "state").unwrap(), all, "it reads the second file again");
    assert_eq!(again(RestoreFrom::Named("early".to_owned()), "out-c", "state").unwrap(), all);
    assert!(state::remove_savepoint(store.as_ref(), "early").unwrap());
    assert!(!state::remove_savepoint(store.as_ref(), "early").unwrap());
}

#[test]
fn what_is_damaged_missing_or_foreign_is_named() {
    let world = World::new();
    world.now(WINDOWS).unwrap();
    let file = world.a_file_of_the_checkpoint();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    says(&world.now(WINDOWS).unwrap_err(), ErrorKind::Data, &[&name, "damaged", "--restore-at"]);
    let e = asked(&world.place("state"), None, "SELECT * FROM partitions");
    assert_eq!(e.unwrap().len(), 1, "what is whole can be read");
    std::fs::remove_file(&file).unwrap();
    says(&world.now(WINDOWS).unwrap_err(), ErrorKind::Data, &[&name, "not whole"]);
    std::fs::write(&file, &whole).unwrap();

    let foreign = format!("SET 'pipeline.name' = 'foreign';\n{WINDOWS}");
    let state = world.0.path("state");
    let copied = Command::new("cp").arg("-r").args([state.join("job"), state.join("foreign")]).status();
    assert!(copied.is_ok_and(|s| s.success()));
    says(&world.now(&foreign).unwrap_err(), ErrorKind::Usage, &["`job`", "`foreign`"]);

    let manifests = state.join("job/manifests");
    for entry in std::fs::read_dir(&manifests).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        std::fs::write(entry.path(), text.replacen("\"format\": 1", "\"format\": 99", 1)).unwrap();
    }
    says(&world.now(WINDOWS).unwrap_err(), ErrorKind::Data, &["format 99", "000"]);
}

#[test]
fn a_job_has_one_run_and_a_place_that_can_be_written() {
    let world = World::new();
    let options = || StateOptions { available_now: false, ..world.options() };
    let running = start(&world.endless(WINDOWS), options()).unwrap();
    let e = start(&world.endless(WINDOWS), options()).err().expect("two runs of one job");
    let owner = format!("process {}", std::process::id());
    says(&e, ErrorKind::Usage, &[&owner, "millstream run job.sql (job job)"]);
    running.stop(millstream::Stop::Here);
    running.wait().unwrap();
    // The lock has gone with the run.
    world.now(WINDOWS).unwrap();

    let plain = world.0.write("plain-file", "");
    let nowhere = StateOptions { location: Some(format!("{plain}/below")), ..world.options() };
    says(&go(&world.script(WINDOWS), nowhere).unwrap_err(), ErrorKind::Io, &["plain-file"]);
    let homeless = StateOptions { location: None, ..world.options() };
    says(&go(&world.script(WINDOWS), homeless).unwrap_err(), ErrorKind::Usage, &["--state DIR"]);
}

#[test]
fn a_query_over_the_state_sees_what_the_window_will_emit() {
    let world = World::new();
    world.now(WINDOWS).unwrap();
    world.file("2.csv", SECOND);
    world.now(WINDOWS).unwrap();
    let state = world.place("state");
    let (_, store) = state::job_stores(&state).unwrap().remove(0);
    let manifest = state::manifest(store.as_ref(), None).unwrap();
    let named = |table: &str| {
        let tables = state::tables(&manifest);
        tables.iter().find(|t| t.table.name.starts_with(table)).expect("the window has this table").name.clone()
    };
    let (slices, distinct) = (named("slices"), named("distinct"));
    assert!(slices.starts_with("window_aggregate_") && slices.ends_with("_slices"), "{slices}");
    let sql = format!(
        "SELECT s.slice_start, s.name, s.sum_n, d.kinds FROM {slices} AS s \
         JOIN (SELECT slice_start, name, COUNT(*) AS kinds FROM {distinct} GROUP BY slice_start, name) AS d \
         ON s.slice_start = d.slice_start AND s.name = d.name"
    );
    let held = asked(&state, None, &sql).unwrap();
    // Of both parallel tasks, of both runs, and not what has been emitted: bob and ann of the one open window.
    assert_eq!(held.len(), 2, "{held:?}");
    world.to_the_end(WINDOWS).unwrap();
    let emitted: Vec<String> = world.out()[3..].iter().map(|l| l.replace(',', "|").replacen(' ', "T", 1)).collect();
    assert_eq!(held, emitted);

    let manifest = state::manifest(store.as_ref(), None).unwrap();
    let rows: u64 = manifest.files().map(|f| f.rows).sum();
    let files = "SELECT COUNT(*), SUM(`rows`) FROM checkpoint_files";
    assert_eq!(asked(&state, None, files).unwrap(), [format!("{}|{rows}", manifest.files().count())]);
    says(&asked(&state, Some("../up"), files).unwrap_err(), ErrorKind::Usage, &["../up"]);
    let e = asked(&state, None, "SELECT * FROM slicez").unwrap_err();
    says(&e, ErrorKind::Sql, &["slicez", &slices, "partitions", "checkpoint_files"]);
    says(&asked(&state, None, "SELEC 1").unwrap_err(), ErrorKind::Sql, &["1:1"]);
    let e = asked(&state, None, "INSERT INTO partitions SELECT * FROM partitions").unwrap_err();
    says(&e, ErrorKind::Usage, &["cannot be written"]);
}

/// A job of its own process. Killed when the test is done with it, whatever becomes of the test.
pub(crate) struct Child(pub(crate) std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(args: &[&str]) -> Child {
    spawn_with(args, Stdio::null())
}

fn spawn_with(args: &[&str], stderr: Stdio) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    Child(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().expect("it runs"))
}

#[test]
fn the_commands_reach_a_running_job() {
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.endless(WINDOWS));
    let state = world.place("state");
    let run = ["run", &script, "--state", &state, "--trigger", "100ms", "-p", "2", "--progress", "none"];
    let mut child = spawn(&run);
    // The trigger's checkpoints make closed windows visible while the job runs.
    wait_until("the closed windows are visible", || world.out().len() == 3);
    let (code, _, err) = told(&millstream(&run));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains(&format!("process {}", child.0.id())), "{err}");
    let (code, out, err) = told(&millstream(&["savepoint", &state, "before"]));
    assert_eq!((code, out.contains("savepoint `before` is checkpoint")), (0, true), "{out}{err}");
    let (code, out, err) = told(&millstream(&["stop", &state, "--savepoint", "last"]));
    assert_eq!((code, out.contains("asked to stop")), (0, true), "{out}{err}");
    wait_until("the job stops", || child.0.try_wait().expect("a child can be asked").is_some());
    assert!(child.0.wait().is_ok_and(|s| s.success()));
    assert_eq!(world.out().len(), 3, "open windows stay open");

    let (code, out, _) = told(&millstream(&["state", "ls", &state]));
    assert!(code == 0 && out.contains("savepoint before") && out.contains("savepoint last"), "{out}");
    let (code, shown, _) = told(&millstream(&["state", "show", &state, "--at", "last"]));
    let slices = shown
        .lines()
        .find_map(|l| l.trim().strip_prefix("in SQL ").filter(|n| n.ends_with("_slices")))
        .expect("show names the table");
    assert!(code == 0 && slices.starts_with("window_aggregate_"), "{shown}");
    let sql = format!("SELECT name, sum_n FROM {} ORDER BY name", slices);
    let (code, out, err) = told(&millstream(&["state", "query", &state, &sql, "--at", "last", "--format", "csv"]));
    assert_eq!((code, out.as_str()), (0, "name,sum_n\nann,7\nbob,9\n"), "{err}");
    let (code, out, err) = told(&millstream(&["state", "query", &state, "SELECT \"n\" FROM nothing"]));
    assert_eq!(code, 3, "{out}{err}");
    assert!(err.contains("nothing") && err.contains("partitions"), "{err}");
    let (code, out, _) = told(&millstream(&["state", "rm", &state, "before"]));
    assert_eq!((code, out.contains("is gone")), (0, true), "{out}");
    let (code, _, err) = told(&millstream(&["state", "rm", &state, "before"]));
    assert_eq!((code, err.contains("help:")), (2, true), "{err}");
    let (code, _, err) = told(&millstream(&["savepoint", &state, "nobody", "--timeout", "200ms"]));
    assert_eq!((code, err.contains("is it running?")), (2, true), "{err}");

    let copy = world.place("copy");
    let (code, out, err) = told(&millstream(&["state", "copy", &state, "--at", "last", &copy]));
    assert_eq!((code, out.contains("is now in")), (0, true), "{err}");
    world.file("2.csv", SECOND);
    let bounded = world.0.write("clicks.sql", &world.script(WINDOWS));
    let (code, _, err) = told(&millstream(&["run", &bounded, "--state", &copy, "--progress", "none"]));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("goes on from checkpoint 1"), "{err}");
    assert_eq!(world.out()[3..], ["2024-01-01 00:00:30,ann,9,2", "2024-01-01 00:00:30,bob,10,2"]);
}

#[test]
fn a_checkpoint_that_is_given_up_is_told_with_its_remedy() {
    let world = World::new();
    let script = world.0.write("clicks.sql", &world.endless(WINDOWS));
    let state = world.place("state");
    let run = ["run", &script, "--state", &state, "--checkpoint-interval", "1500ms", "-p", "2", "--progress", "none"];
    let said = world.0.path("stderr");
    let mut child = spawn_with(&run, std::fs::File::create(&said).expect("a file can be made").into());
    wait_until("the closed windows are visible", || world.out().len() == 3);
    // Where the checkpoints' files were, there is something else: nothing can be written until it is gone.
    let job = std::fs::read_dir(&state).expect("there is state").next().expect("of a job").expect("which can be read");
    let data = job.path().join("data");
    std::fs::rename(&data, job.path().join("moved")).expect("a folder can be renamed");
    std::fs::write(&data, "in the way").expect("a file can be written");
    world.file("2.csv", SECOND);
    let text = || std::fs::read_to_string(&said).expect("it can be read");
    wait_until("a warning", || text().contains("warning: checkpoint "));
    std::fs::remove_file(&data).expect("a file can be removed");
    std::fs::rename(job.path().join("moved"), &data).expect("a folder can be renamed");
    // The job has lived with it, and what it could not save before it saves now.
    let (code, _, err) = told(&millstream(&["savepoint", &state, "after"]));
    assert_eq!(code, 0, "{err}{}", text());
    let (code, _, err) = told(&millstream(&["stop", &state]));
    assert_eq!(code, 0, "{err}");
    wait_until("the job stops", || child.0.try_wait().expect("a child can be asked").is_some());
    let text = text();
    assert!(child.0.wait().is_ok_and(|s| s.success()), "{text}");
    let warnings = text.lines().filter(|l| l.starts_with("warning: ")).count();
    // At once the first time; more of them come together, at the end of so short a run.
    assert!(text.contains("was given up: ") && (1..=2).contains(&warnings), "{text}");
    assert_eq!(text.lines().filter(|l| l.starts_with("  help: ")).count(), warnings, "{text}");
}
