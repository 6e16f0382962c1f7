//! The connector `jdbc` against a real PostgreSQL: `./dev servers cargo test -p millstream-connect --test postgres`.
//!
//! Each test has a schema of its own. They share the server, but for the one that stops it.

#[path = "postgres/lookup.rs"]
mod lookup;
#[path = "postgres/types.rs"]
mod types;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};
use millstream_connect::Registry;
use millstream_core::table::{Connectors, TableUse};
use millstream_core::{
    Batch, Committable, Committer, Error, ErrorKind, JobRun, Place, Result, Sink, SinkContext, TableSpec,
};
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

static UP: RwLock<()> = RwLock::new(());

/// Where the server is; `None` where this run has none, which is said loudly, and is a failure in CI.
fn url() -> Option<String> {
    let url = std::env::var("MILLSTREAM_TEST_POSTGRES").ok().filter(|u| !u.is_empty());
    if url.is_none() {
        assert!(std::env::var_os("CI").is_none(), "MILLSTREAM_TEST_POSTGRES is not set, and CI must not skip");
        skipped("MILLSTREAM_TEST_POSTGRES");
    }
    url
}

/// Past the test harness, which shows what a test prints only if it fails.
fn skipped(variable: &str) {
    let _ = writeln!(std::io::stderr(), "!! SKIPPED: {variable} is not set; run ./dev servers cargo test ..");
}

/// A schema on the server, dropped and made anew.
struct Server {
    url: String,
    schema: &'static str,
    _up: RwLockReadGuard<'static, ()>,
}

fn server(schema: &'static str) -> Option<Server> {
    let up = UP.read().unwrap_or_else(|e| e.into_inner());
    let server = Server { url: url()?, schema, _up: up };
    server.sql(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}"));
    Some(server)
}

fn ask(url: &str, sql: &str) -> std::result::Result<Vec<String>, tokio_postgres::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an executor");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        let rows = client.simple_query(sql).await?.into_iter().filter_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|c| row.get(c).unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
            }
            _ => None,
        });
        Ok(rows.collect())
    })
}

impl Server {
    fn sql(&self, sql: &str) -> Vec<String> {
        ask(&self.url, sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"))
    }

    /// `CREATE TABLE` in the schema.
    fn table(&self, definition: &str) {
        self.sql(&format!("CREATE TABLE {}.{definition}", self.schema));
    }

    fn rows(&self, table: &str) -> Vec<String> {
        self.sql(&format!("SELECT * FROM {}.{table} ORDER BY 1", self.schema))
    }

    fn spec(&self, table: &str, columns: Vec<Field>, key: &[&str], options: &[(&str, &str)]) -> TableSpec {
        let mut all = vec![
            ("connector".to_string(), "jdbc".to_string()),
            ("url".to_string(), format!("jdbc:{}?ApplicationName={}", self.url, self.schema)),
            ("table-name".to_string(), format!("{}.{table}", self.schema)),
        ];
        all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
        TableSpec {
            name: "t".into(),
            schema: Arc::new(Schema::new(columns)),
            projection: None,
            metadata: Vec::new(),
            options: all.into_iter().collect(),
            partitioned_by: Vec::new(),
            primary_key: key.iter().map(ToString::to_string).collect(),
            place: Some(Place("q.sql:1:14".into())),
        }
    }

    /// A table `t (k bigint, v text)`, with its declaration.
    fn pairs(&self, key: bool, options: &[(&str, &str)]) -> TableSpec {
        self.table(if key { "t (k bigint PRIMARY KEY, v text)" } else { "t (k bigint, v text)" });
        self.spec("t", pair_fields(), if key { &["k"] } else { &[] }, options)
    }
}

fn pair_fields() -> Vec<Field> {
    vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Utf8, true)]
}

/// Rows of `k` and `v` with their kinds: 0 `+I`, 1 `-U`, 2 `+U`, 3 `-D`.
fn pairs(rows: &[(i64, &str, i8)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))),
    ];
    let kinds = rows.iter().any(|r| r.2 != 0).then(|| Int8Array::from_iter_values(rows.iter().map(|r| r.2)));
    Batch { kinds, ..RecordBatch::try_new(Arc::new(Schema::new(pair_fields())), columns).expect("two columns").into() }
}

fn run(generation: u64, epoch: u64) -> JobRun {
    JobRun { job: "job-1".into(), generation, epoch }
}

fn open(spec: &TableSpec) -> Result<Box<dyn Sink>> {
    Registry::new().open_sink(spec, &SinkContext::one_of(0, 1))
}

fn open_in(spec: &TableSpec, run: &JobRun) -> Result<Box<dyn Sink>> {
    Registry::new().open_sink(spec, &SinkContext { index: 0, writers: 1, job: Some(run.clone()) })
}

fn committer(spec: &TableSpec, run: &JobRun) -> Result<Box<dyn Committer>> {
    Registry::new().open_committer(spec, run).map(|c| c.expect("exactly once has one"))
}

/// The outbox of one writer that was given these rows.
fn outbox(spec: &TableSpec, batches: &[Batch]) -> Committable {
    let mut sink = open_in(spec, &run(1, 0)).expect("opened");
    for batch in batches {
        sink.write(batch).expect("written");
    }
    let prepared = sink.prepare(1).expect("prepared");
    assert!(prepared.committable.is_none() && prepared.settle.is_none());
    Committable { data: None, outbox: prepared.outbox }
}

fn fails<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("this should have failed"),
        Err(e) => e,
    }
}

/// Tries as the runtime does: again while the error may pass.
fn commit_until_done(committer: &mut dyn Committer, epoch: u64, of: &[Committable]) {
    let until = Instant::now() + Duration::from_secs(30);
    while let Err(e) = committer.commit(epoch, of) {
        assert!(e.kind() == ErrorKind::Io && Instant::now() < until, "{e}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn without_checkpoints_rows_are_added_as_they_come() {
    let Some(server) = server("added") else { return };
    let spec = server.pairs(false, &[("sink.buffer-flush.max-rows", "2"), ("sink.buffer-flush.interval", "0")]);
    let mut sink = open(&spec).expect("opened");
    sink.write(&pairs(&[(1, "a\tb\\N\n", 0)])).expect("held");
    sink.flush().expect("no interval");
    assert!(server.rows("t").is_empty(), "one row is held back");
    sink.write(&pairs(&[(2, "", 0)])).expect("sent");
    assert_eq!(server.rows("t"), ["1|a\tb\\N\n", "2|"]);
    sink.write(&pairs(&[(3, "c", 0)])).expect("held");
    sink.finish().expect("sent");
    assert_eq!(server.rows("t").len(), 3);
    assert!(sink.bytes() > 0);
    let e = fails(sink.write(&pairs(&[(3, "c", 3)])));
    assert!(e.what().contains("takes new rows only"), "{e}");
}

#[test]
fn rows_held_back_go_at_the_interval_and_a_job_that_fails_drops_them() {
    let Some(server) = server("interval") else { return };
    let spec = server.pairs(false, &[("sink.buffer-flush.interval", "50 ms")]);
    let mut sink = open(&spec).expect("opened");
    sink.write(&pairs(&[(1, "a", 0)])).expect("held");
    sink.flush().expect("too early");
    std::thread::sleep(Duration::from_millis(60));
    sink.flush().expect("sent");
    assert_eq!(server.rows("t"), ["1|a"]);
    sink.write(&pairs(&[(2, "b", 0)])).expect("held");
    sink.abort();
    drop(sink);
    assert_eq!(server.rows("t"), ["1|a"]);
}

#[test]
fn with_a_key_rows_are_inserted_updated_and_deleted() {
    let Some(server) = server("changed") else { return };
    let spec = server.pairs(true, &[]);
    assert!(Registry::new().single_writer(&spec), "one key, one order");
    let mut sink = open(&spec).expect("opened");
    sink.write(&pairs(&[(1, "a", 0), (2, "b", 0), (3, "c", 0)])).expect("held");
    sink.finish().expect("sent");
    assert_eq!(server.rows("t"), ["1|a", "2|b", "3|c"]);
    // 1 changes, 2 goes, 3 goes and comes back, 4 comes and goes, 5 is new.
    sink.write(&pairs(&[(1, "a", 1), (1, "A", 2), (2, "b", 3), (3, "c", 3), (3, "C", 0)])).expect("held");
    sink.write(&pairs(&[(4, "d", 0), (5, "e", 0), (4, "d", 3)])).expect("held");
    sink.finish().expect("sent");
    assert_eq!(server.rows("t"), ["1|A", "3|C", "5|e"]);
    let mut null = pairs(&[(1, "a", 0)]);
    let columns = vec![Arc::new(Int64Array::from(vec![None])) as ArrayRef, null.rows.column(1).clone()];
    null.rows = RecordBatch::try_new(null.rows.schema(), columns).expect("two columns");
    let e = fails(sink.write(&null));
    assert!(e.kind() == ErrorKind::Data && e.what().contains("key column `k`"), "{e}");
}

#[test]
fn a_table_of_keys_alone_and_columns_in_another_order_are_written() {
    let Some(server) = server("keys") else { return };
    server.table("t (note text DEFAULT 'kept', \"B\" int, a bigint, UNIQUE (a, \"B\"))");
    let fields = || vec![Field::new("A", DataType::Int64, true), Field::new("B", DataType::Int32, true)];
    let spec = server.spec("t", fields(), &["B", "A"], &[]);
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![7, 7])), Arc::new(Int32Array::from(vec![1, 2]))];
    let rows = Batch::from(RecordBatch::try_new(Arc::new(Schema::new(fields())), columns).expect("two columns"));
    for _ in 0..2 {
        let mut sink = open(&spec).expect("opened");
        sink.write(&rows).expect("held");
        sink.finish().expect("sent");
    }
    assert_eq!(server.sql("SELECT * FROM keys.t ORDER BY 2"), ["kept|1|7", "kept|2|7"]);
}

#[test]
fn an_epoch_is_seen_once_it_is_committed_and_the_second_time_changes_nothing() {
    let Some(server) = server("epochs") else { return };
    let spec = server.pairs(false, &[]);
    let mut committer = committer(&spec, &run(1, 0)).expect("opened");
    // Two writers, as there may be without a key.
    let first =
        [outbox(&spec, &[pairs(&[(1, "a", 0)])]), outbox(&spec, &[pairs(&[(2, "b", 0)]), pairs(&[(2, "b", 0)])])];
    assert!(server.rows("t").is_empty(), "nothing before the manifest");
    committer.commit(1, &first).expect("committed");
    assert_eq!(server.rows("t"), ["1|a", "2|b", "2|b"]);
    committer.commit(1, &first).expect("again");
    assert_eq!(server.rows("t").len(), 3);
    committer.commit(2, &[]).expect("an epoch without rows");
    committer.commit(3, &[outbox(&spec, &[pairs(&[(3, "c", 0)])])]).expect("committed");
    committer.commit(1, &first).expect("long done");
    assert_eq!(server.rows("t").len(), 4);
    assert_eq!(server.rows("millstream_commits"), ["job-1|t|3|1"]);
}

#[test]
fn a_crash_between_manifest_and_commit_is_made_good_by_the_next_run() {
    let Some(server) = server("crash") else { return };
    let spec = server.pairs(true, &[]);
    let of_7 = [outbox(&spec, &[pairs(&[(1, "a", 0), (2, "b", 0)])])];
    let mut first = committer(&spec, &run(1, 0)).expect("opened");
    first.commit(6, &[outbox(&spec, &[pairs(&[(1, "old", 0)])])]).expect("committed");
    drop(first);
    // The manifest of 7 was written, its commit never began; then the same with a commit whose answer was lost.
    for (generation, then) in [(2, "2|b"), (3, "2|seen")] {
        let mut next = committer(&spec, &run(generation, 7)).expect("opened");
        next.clean(7, &of_7).expect("nothing to clean");
        next.commit(7, &of_7).expect("committed");
        assert_eq!(server.rows("t"), ["1|a", then]);
        // What has been done is not done again: this stays.
        server.sql("UPDATE crash.t SET v = 'seen' WHERE k = 2");
    }
    assert_eq!(server.rows("millstream_commits"), ["job-1|t|7|3"]);
}

#[test]
fn a_run_that_was_replaced_commits_nothing_more() {
    let Some(server) = server("zombie") else { return };
    let spec = server.pairs(false, &[]);
    let rows = [outbox(&spec, &[pairs(&[(1, "a", 0)])])];
    let mut zombie = committer(&spec, &run(4, 0)).expect("opened");
    zombie.commit(1, &rows).expect("alive");
    let mut heir = committer(&spec, &run(5, 1)).expect("opened");
    let e = fails(zombie.commit(2, &rows));
    assert!(e.what().contains("run 5 of the job `job-1` has taken over `t`; this is run 4"), "{e}");
    assert_ne!(e.kind(), ErrorKind::Io, "it does not pass");
    let e = fails(zombie.commit(2, &rows));
    assert!(e.what().contains("run 5"), "not after a new connection either: {e}");
    assert_eq!(server.rows("t").len(), 1);
    heir.commit(2, &rows).expect("the heir goes on");
    let e = fails(committer(&spec, &run(4, 1)));
    assert!(e.what().contains("run 5"), "{e}");
    assert_eq!(server.rows("t").len(), 2);
}

#[test]
fn a_run_that_starts_before_what_is_committed_is_refused_with_the_way_out() {
    let Some(server) = server("ahead") else { return };
    let spec = server.pairs(false, &[]);
    let mut first = committer(&spec, &run(1, 0)).expect("opened");
    first.commit(40, &[outbox(&spec, &[pairs(&[(1, "a", 0)])])]).expect("committed");
    let e = fails(committer(&spec, &run(2, 0)));
    assert!(e.what().contains("up to 40") && e.what().contains("from epoch 0"), "{e}");
    let help = e.help().expect("a way out").to_string();
    let statement = &help[help.find("DELETE").expect("a statement to copy")..];
    server.sql(statement);
    committer(&spec, &run(2, 0)).expect("begun anew");
}

#[test]
fn jobs_and_tables_have_notes_of_their_own() {
    let Some(server) = server("notes") else { return };
    let spec = server.pairs(false, &[]);
    let rows = [outbox(&spec, &[pairs(&[(1, "a", 0)])])];
    let mut other = spec.clone();
    other.name = "other".into();
    for (spec, job) in [(&spec, "one"), (&spec, "two"), (&other, "one")] {
        let run = JobRun { job: job.into(), generation: 1, epoch: 0 };
        committer(spec, &run).expect("opened").commit(1, &rows).expect("committed");
    }
    assert_eq!(server.rows("t").len(), 3);
}

#[test]
fn two_writers_of_one_key_do_not_fail_the_epoch() {
    let Some(server) = server("twice") else { return };
    let spec = server.pairs(true, &[]);
    let of = |v| outbox(&spec, &[pairs(&[(1, v, 0), (1, v, 1), (1, v, 2)])]);
    let mut committer = committer(&spec, &run(1, 0)).expect("opened");
    committer.commit(1, &[of("a"), of("b")]).expect("committed");
    assert_eq!(server.rows("t"), ["1|b"]);
}

#[test]
fn a_server_that_stands_still_is_an_error_that_passes() {
    let Some(server) = server("still") else { return };
    let spec = server.pairs(false, &[("connection.max-retry-timeout", "1 s")]);
    let mut committer = committer(&spec, &run(1, 0)).expect("opened");
    let rows = [outbox(&spec, &[pairs(&[(1, "a", 0)])])];
    let pid = server.sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'still'").remove(0);
    let signal = |signal: &str| {
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.is_ok_and(|s| s.success()), "kill {signal} {pid}");
    };
    signal("-STOP");
    let began = Instant::now();
    let e = fails(committer.commit(1, &rows));
    assert!(e.kind() == ErrorKind::Io && e.what().contains("has not answered for 1 s"), "{e}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    signal("-CONT");
    commit_until_done(committer.as_mut(), 1, &rows);
    assert_eq!(server.rows("t"), ["1|a"]);
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_done_twice() {
    let Some(server) = server("lost") else { return };
    let spec = server.pairs(false, &[("connection.max-retry-timeout", "1 s")]);
    // COMMIT takes 3 s, and is given up after one; the server finishes it all the same.
    server.sql(
        "CREATE FUNCTION lost.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON lost.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lost.slow()",
    );
    let rows = [outbox(&spec, &[pairs(&[(1, "a", 0)])])];
    let mut committer = committer(&spec, &run(1, 0)).expect("opened");
    let e = fails(committer.commit(1, &rows));
    assert!(e.kind() == ErrorKind::Io && e.what().contains("COMMIT"), "{e}");
    commit_until_done(committer.as_mut(), 1, &rows);
    assert_eq!(server.rows("t"), ["1|a"]);
}

#[test]
fn a_connection_that_is_cut_during_a_commit_is_made_anew() {
    let Some(server) = server("cut") else { return };
    let spec = server.pairs(true, &[("sink.max-retries", "0")]);
    let rows = [outbox(&spec, &[pairs(&[(1, "a", 0)])])];
    let mut committer = committer(&spec, &run(1, 0)).expect("opened");
    // The commit waits for the table, and is cut there.
    let url = server.url.clone();
    let holder = std::thread::spawn(move || {
        ask(&url, "BEGIN; LOCK TABLE cut.t; SELECT pg_sleep(60); COMMIT").expect_err("it is ended");
    });
    let url = server.url.clone();
    let cutter = std::thread::spawn(move || {
        let waiting = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut' AND wait_event_type = 'Lock'";
        let until = Instant::now() + Duration::from_secs(20);
        while ask(&url, waiting).expect("asked").is_empty() {
            assert!(Instant::now() < until, "the commit never waited");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let held =
        "SELECT count(*) FROM pg_locks WHERE relation = 'cut.t'::regclass AND mode = 'AccessExclusiveLock' AND granted";
    while server.sql(held) != ["1"] {
        std::thread::sleep(Duration::from_millis(20));
    }
    let e = fails(committer.commit(1, &rows));
    assert_eq!(e.kind(), ErrorKind::Io, "{e}");
    cutter.join().expect("cut");
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK TABLE cut.t%'");
    holder.join().expect("ended");
    commit_until_done(committer.as_mut(), 1, &rows);
    assert_eq!(server.rows("t"), ["1|a"]);
}

#[test]
fn a_server_that_is_stopped_and_started_gets_the_epoch_once() {
    let Ok(control) = std::env::var("MILLSTREAM_TEST_POSTGRES_CONTROL") else {
        assert!(std::env::var_os("CI").is_none(), "MILLSTREAM_TEST_POSTGRES_CONTROL is not set");
        skipped("MILLSTREAM_TEST_POSTGRES_CONTROL");
        return;
    };
    let Some(server) = server("restart") else { return };
    let spec = server.pairs(true, &[]);
    let mut direct = server.spec("u", pair_fields(), &["k"], &[("sink.max-retries", "10")]);
    direct.options.insert("sink.delivery-guarantee".into(), "at-least-once".into());
    server.table("u (k bigint PRIMARY KEY, v text)");
    let rows = [outbox(&spec, &[pairs(&[(1, "a", 0)])])];
    let mut committer = committer(&spec, &run(1, 0)).expect("opened");
    let mut sink = open_in(&direct, &run(1, 0)).expect("opened");
    // Alone from here on.
    let Server { url, _up, .. } = server;
    drop(_up);
    let _alone: RwLockWriteGuard<()> = UP.write().unwrap_or_else(|e| e.into_inner());
    let tell = |word: &str| {
        let told = Command::new(&control).arg(word).output().expect("the server can be controlled");
        assert!(told.status.success(), "{word}: {}", String::from_utf8_lossy(&told.stderr));
    };
    tell("stop");
    let e = fails(committer.commit(1, &rows));
    assert_eq!(e.kind(), ErrorKind::Io, "{e}");
    let e = fails(committer.commit(1, &rows));
    assert!(e.kind() == ErrorKind::Io && e.what().contains("cannot be reached"), "{e}");
    // A writer without exactly-once tries again by itself.
    let writing = std::thread::spawn(move || {
        sink.write(&pairs(&[(1, "a", 0)])).expect("held");
        sink.prepare(1).map(drop)
    });
    std::thread::sleep(Duration::from_millis(300));
    tell("start");
    commit_until_done(committer.as_mut(), 1, &rows);
    writing.join().expect("no panic").expect("sent after the start");
    for table in ["t", "u"] {
        assert_eq!(ask(&url, &format!("SELECT * FROM restart.{table}")).expect("asked"), ["1|a"]);
    }
}

#[test]
fn at_least_once_has_sent_everything_at_a_barrier() {
    let Some(server) = server("barrier") else { return };
    let spec = server.pairs(false, &[("sink.delivery-guarantee", "at-least-once")]);
    assert!(Registry::new().open_committer(&spec, &run(1, 0)).expect("none needed").is_none());
    let mut sink = open_in(&spec, &run(1, 0)).expect("opened");
    sink.write(&pairs(&[(1, "a", 0)])).expect("held");
    let prepared = sink.prepare(1).expect("sent");
    assert!(prepared.outbox.is_empty() && prepared.committable.is_none());
    assert_eq!(server.rows("t"), ["1|a"]);
    // Without checkpoints exactly-once cannot be kept, and is refused where it was asked for.
    let mut spec = spec;
    spec.options.insert("sink.delivery-guarantee".into(), "exactly-once".into());
    let e = fails(open(&spec));
    assert!(e.what().contains("needs checkpoints") && e.place().is_some(), "{e}");
}

#[test]
fn an_epoch_too_large_for_its_outbox_is_an_error_and_changes_of_few_keys_are_not() {
    let Some(server) = server("bound") else { return };
    let spec = server.pairs(true, &[("sink.outbox.max-bytes", "10kb")]);
    let mut sink = open_in(&spec, &run(1, 0)).expect("opened");
    for _ in 0..1_000 {
        sink.write(&pairs(&[(1, "the same key again", 0), (2, "and another", 2)])).expect("compacted");
    }
    assert_eq!(sink.prepare(1).expect("prepared").outbox.iter().map(Batch::len).sum::<usize>(), 2);
    let e = (0..1_000).find_map(|k| sink.write(&pairs(&[(k, "another key", 0)])).err()).expect("too much");
    assert!(e.what().contains("10.0 KiB") && e.help().is_some_and(|h| h.contains("sink.outbox.max-bytes")), "{e}");
}

#[test]
fn a_sink_works_inside_another_executor() {
    let Some(server) = server("inside") else { return };
    let spec = server.pairs(false, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
    runtime.block_on(async {
        let mut sink = open(&spec).expect("opened");
        sink.write(&pairs(&[(1, "a", 0)])).expect("held");
        sink.finish().expect("sent");
        drop(sink);
        let e = fails(open(&server.spec("missing", pair_fields(), &[], &[])));
        assert!(e.what().contains("no table"), "{e}");
    });
    assert_eq!(server.rows("t"), ["1|a"]);
}

#[test]
fn rows_of_a_megabyte_arrive_whole() {
    let Some(server) = server("large") else { return };
    let spec = server.pairs(true, &[]);
    let text = "0123456\\9\n".repeat(100 << 10);
    let rows: Vec<(i64, &str, i8)> = (0..20).map(|k| (k, text.as_str(), 0)).collect();
    let mut committer = committer(&spec, &run(1, 0)).expect("opened");
    committer.commit(1, &[outbox(&spec, &[pairs(&rows)])]).expect("committed");
    let whole = format!("SELECT count(*) FROM large.t WHERE v = repeat('0123456\\9' || chr(10), {})", 100 << 10);
    assert_eq!(server.sql(&whole), ["20"]);
}

#[test]
fn a_row_that_the_table_refuses_is_named_and_nothing_of_its_epoch_is_seen() {
    let Some(server) = server("refused") else { return };
    server.table("t (k bigint CHECK (k < 900000), v uuid)");
    let spec = server.spec("t", pair_fields(), &[], &[]);
    let id = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
    let mut committer = committer(&spec, &run(1, 0)).expect("opened");
    // Enough rows behind the bad one that the server answers in the middle of the COPY.
    let mut rows = vec![(1, id, 0); 100_000];
    rows[5].1 = "no uuid";
    let e = fails(committer.commit(1, &[outbox(&spec, &[pairs(&rows)])]));
    assert!(e.kind() == ErrorKind::Data && e.what().contains("no uuid") && e.what().contains("line 6"), "{e}");
    let e = fails(committer.commit(1, &[outbox(&spec, &[pairs(&[(1, id, 0), (900_000, id, 0)])])]));
    assert!(e.kind() == ErrorKind::Data && e.what().contains("t_k_check"), "{e}");
    assert!(server.rows("t").is_empty());
    committer.commit(1, &[outbox(&spec, &[pairs(&[(1, id, 0)])])]).expect("a good one");
    assert_eq!(server.rows("t"), [format!("1|{id}")]);
}

#[test]
fn what_does_not_fit_the_declaration_is_named_before_the_first_row() {
    let Some(server) = server("misfit") else { return };
    server.table("t (k int, v text, d numeric(10,2), ts timestamp(0), must int NOT NULL, sum int GENERATED ALWAYS AS (k + 1) STORED)");
    let with = |field: Field| {
        let fields = vec![Field::new("must", DataType::Int32, true), field];
        fails(committer(&server.spec("t", fields, &[], &[]), &run(1, 0)))
    };
    let e = with(Field::new("k", DataType::Int64, true));
    assert!(e.what().contains("`k` is BIGINT") && e.what().contains("integer"), "{e}");
    assert!(e.help().is_some_and(|h| h.contains("ALTER COLUMN \"k\" TYPE bigint")), "{e}");
    assert_eq!(e.place().map(|p| p.0.as_str()), Some("q.sql:1:14"));
    let e = with(Field::new("d", DataType::Decimal128(12, 2), true));
    assert!(e.what().contains("DECIMAL(12, 2)") && e.what().contains("numeric(10,2)"), "{e}");
    let e = with(Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true));
    assert!(e.what().contains("timestamp(0)"), "{e}");
    let e = with(Field::new("v", DataType::Int64, true));
    assert!(e.what().contains("text"), "{e}");
    let e = with(Field::new("w", DataType::Utf8, true));
    assert!(e.what().contains("no column `w`") && e.help().is_some_and(|h| h.contains("ADD COLUMN \"w\" text")), "{e}");
    let e = with(Field::new("sum", DataType::Int32, true));
    assert!(e.what().contains("computed there"), "{e}");
    let fields = vec![Field::new("k", DataType::Int32, true)];
    let e = fails(open(&server.spec("t", fields.clone(), &[], &[])));
    assert!(e.what().contains("`must`") && e.what().contains("NOT NULL"), "{e}");
    server.table("u (k int)");
    let e = fails(open(&server.spec("u", fields, &["k"], &[])));
    assert!(e.what().contains("no unique index"), "{e}");
    server.sql(e.help().expect("a statement to copy"));
    let e = fails(open(&server.spec("missing", pair_fields(), &["k"], &[])));
    assert!(e.what().contains("no table misfit.missing"), "{e}");
    assert!(e.help().is_some_and(|h| h.contains("CREATE TABLE misfit.missing (") && h.contains("PRIMARY KEY (\"k\")")));
}

#[test]
fn a_server_that_cannot_be_used_is_an_error_at_once_and_shows_no_secret() {
    let Some(server) = server("unusable") else { return };
    let spec = server.pairs(false, &[]);
    let with = |url: String, password: Option<&str>| {
        let mut spec = spec.clone();
        spec.options.insert("url".into(), url);
        if let Some(password) = password {
            spec.options.insert("password".into(), password.into());
        }
        spec.options.insert("connection.max-retry-timeout".into(), "1 s".into());
        let began = Instant::now();
        let e = fails(committer(&spec, &run(1, 0)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert!(!format!("{e} {e:?}").contains("hunter2"), "{e}");
        assert!(fails(open(&spec)).what().contains(e.what()), "the same for a writer: {e}");
        e
    };
    let url = server.url.as_str();
    let host = &url[url.find('@').expect("a login") + 1..];
    let (host, _) = host.split_once('/').expect("a database");
    let e = with(url.into(), Some("hunter2"));
    assert!(
        e.kind() == ErrorKind::Usage && e.what().contains(host) && e.what().contains("password authentication"),
        "{e}"
    );
    assert!(e.help().is_some_and(|h| h.contains("'password'")), "{e}");
    let e = with(format!("postgresql://millstream@{host}/postgres"), None);
    assert!(e.what().contains("asks for a password"), "{e}");
    let e = with(url.replace("/postgres", "/nowhere"), None);
    assert!(e.kind() == ErrorKind::Usage && e.what().contains("\"nowhere\" does not exist"), "{e}");
    // Nobody listens; nobody answers; there is no such host.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let e = with(format!("postgresql://u:hunter2@127.0.0.1:{port}/db"), None);
    assert!(
        e.kind() == ErrorKind::Io && e.what().contains(&format!("127.0.0.1:{port}/db has not answered for 1 s")),
        "{e}"
    );
    drop(silent);
    let e = with(format!("postgresql://u:hunter2@127.0.0.1:{port}/db"), None);
    assert!(e.kind() == ErrorKind::Io && e.what().contains("refused") && e.what().contains(&port.to_string()), "{e}");
    let e = with("postgresql://u:hunter2@no-such-host.invalid/db".into(), None);
    assert!(e.kind() == ErrorKind::Io && e.what().contains("no-such-host.invalid:5432"), "{e}");
}

#[test]
fn a_password_may_come_from_the_environment() {
    let Some(server) = server("environment") else { return };
    let mut spec = server.pairs(false, &[("password", "${MILLSTREAM_TEST_NOT_SET}")]);
    Registry::new().validate(&spec, TableUse::Sink).expect("a script can be checked without it");
    let e = fails(open(&spec));
    assert!(e.what().contains("MILLSTREAM_TEST_NOT_SET") && e.place().is_some(), "{e}");
    let (login, rest) = server.url.split_once('@').expect("a login");
    let password = login.rsplit(':').next().expect("a password");
    // The variable that holds the whole URL is there; a part of it is set by a child of this process alone.
    spec.options.insert("password".into(), "${MILLSTREAM_TEST_PASSWORD}".into());
    spec.options.insert("url".into(), format!("postgresql://millstream@{rest}"));
    if std::env::var("MILLSTREAM_TEST_PASSWORD").is_ok() {
        open(&spec).expect("the password was found");
        return;
    }
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_password_may_come_from_the_environment"])
        .env("MILLSTREAM_TEST_PASSWORD", password)
        .output()
        .expect("started");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}
