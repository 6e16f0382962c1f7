//! Look-up joins as a user writes them: files against DataFusion's plain join of them, at every parallelism, through crashes;
//! and PostgreSQL, where there is one (`./dev servers cargo test -p millstream --test it lookup`).

use crate::cli::Folder;
use crate::state::{World, lines, wait_until};
use crate::support::{difference, run};
use millstream::{Mode, Program, RunOptions, Runner, Running, StateOptions, Step, Stop};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const ORDERS: u64 = 20_000;

/// Orders in one file, and rates in a file of `format`: keys with none, one and three rows, and one that is NULL.
fn world(folder: &Folder, format: &str) -> String {
    let orders: String = (0..ORDERS)
        .map(|i| {
            let dice = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
            let key = if dice.is_multiple_of(50) { String::new() } else { format!("c{}", dice % 97) };
            format!("2024-01-01 {:02}:{:02}:{:02},{i},{key},{}\n", i / 3600, i / 60 % 60, i % 60, dice % 1_000)
        })
        .collect();
    let orders = folder.write("orders.csv", &orders);
    let rates: Vec<(String, f64, bool)> = (0..70)
        .flat_map(|k| (0..if k % 10 == 0 { 3 } else { 1 }).map(move |n| (k, n)))
        .map(|(k, n)| (format!("c{k}"), f64::from(k) + f64::from(n) / 4.0, (k + n) % 3 != 0))
        .collect();
    let declare = |name: &str, format: &str, path: &str| {
        format!(
            "CREATE TABLE {name} (k STRING, rate DOUBLE, active BOOLEAN, twice AS rate * 2) \
             WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = '{format}');\n"
        )
    };
    let csv: String = rates.iter().map(|(k, rate, active)| format!("{k},{rate},{active}\n")).collect();
    let tables = format!(
        "CREATE TABLE orders (ts TIMESTAMP(3), id BIGINT, k STRING, amount BIGINT, proctime AS PROCTIME(), \
         WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) \
         WITH ('connector' = 'filesystem', 'path' = '{orders}', 'format' = 'csv', 'csv.null-literal' = '');\n"
    );
    let rates_declared = match format {
        "csv" => declare("rates", "csv", &folder.write("rates.csv", &(csv + ",99.0,true\n"))),
        "json" => {
            let json: String = rates
                .iter()
                .map(|(k, rate, active)| format!("{{\"k\":\"{k}\",\"rate\":{rate},\"active\":{active}}}\n"))
                .collect();
            declare("rates", "json", &folder.write("rates.json", &(json + "{\"rate\":99.0,\"active\":true}\n")))
        }
        _ => {
            // Written by ourselves, into a folder of part files.
            let made = declare("made", "csv", &folder.write("made.csv", &csv));
            let parts = folder.path("rates-parquet").display().to_string();
            let to = declare("rates", "parquet", &parts);
            run(&format!("{made}{to}INSERT INTO rates SELECT k, rate, active FROM made"), Mode::Streaming, 1)
                .expect("rates are written");
            to
        }
    };
    tables + &rates_declared
}

const QUERIES: [&str; 7] = [
    "SELECT o.id, o.k, r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.proctime AS r ON o.k = r.k",
    "SELECT o.id, r.k, r.twice FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.proctime AS r ON o.k = r.k",
    // A condition on both, on the table alone, on the left alone.
    "SELECT o.id, o.amount, r.rate FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.proctime AS r \
     ON o.k = r.k AND o.amount > r.rate * 10 AND r.active = TRUE AND o.id > 100",
    "SELECT o.id, r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.proctime AS r ON o.k = r.k AND r.active WHERE r.rate > 5",
    // Computed keys on both sides, and the clock in a subquery.
    "SELECT o.id, r.rate FROM (SELECT *, PROCTIME() AS p FROM orders WHERE amount > 10) AS o \
     JOIN rates FOR SYSTEM_TIME AS OF o.p AS r ON UPPER(o.k) = UPPER(r.k) AND MOD(o.amount, 7) = MOD(CAST(r.rate AS BIGINT), 7)",
    // Two tables, one after the other; what is found first asks next.
    "SELECT o.id, r.rate, s.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.proctime AS r ON o.k = r.k \
     LEFT JOIN rates FOR SYSTEM_TIME AS OF o.proctime AS s ON CONCAT('c', CAST(CAST(r.rate AS BIGINT) + 1 AS STRING)) = s.k AND s.active",
    // Windows by the left's time go on behind it.
    "SELECT window_start, k, SUM(v), COUNT(*) FROM TABLE(TUMBLE(TABLE priced, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) \
     GROUP BY window_start, window_end, k",
];

const PRICED: &str = "CREATE VIEW priced AS SELECT o.ts, o.k, o.amount * r.rate AS v \
                      FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.proctime AS r ON o.k = r.k;\n";

#[test]
fn files_say_what_a_plain_join_of_them_says() {
    for format in ["csv", "json", "parquet"] {
        let folder = Folder::new();
        let tables = world(&folder, format) + PRICED;
        for query in QUERIES {
            let sql = format!("{tables}{query}");
            let batch = run(&sql, Mode::Batch, 1).unwrap_or_else(|e| panic!("{e}\n{sql}"));
            assert!(batch.len() > 100, "{} rows: {query}", batch.len());
            // A JSON file is enough for one parallelism.
            let levels: &[usize] = if format == "csv" { &[1, 2, 7] } else { &[2] };
            for parallelism in levels {
                let got = run(&sql, Mode::Streaming, *parallelism).unwrap_or_else(|e| panic!("{e}\n{sql}"));
                assert!(got == batch, "{format}, {parallelism}: {}\n{query}", difference(&got, &batch));
            }
        }
    }
}

/// The plain join is DataFusion's: none of the words of a look-up is left in it.
#[test]
fn batch_mode_joins_files_without_our_operators() {
    let folder = Folder::new();
    let sql = format!("SET 'execution.runtime-mode' = 'batch';{}{}", world(&folder, "csv"), QUERIES[1]);
    let program = Program::parse(&sql, "test.sql").expect("it is SQL");
    let (plans, _) = program.check(&Default::default()).expect("it is planned");
    let text = plans[0].text();
    assert!(text.contains("Left Join") && !text.contains("LookupJoin"), "{text}");
}

#[test]
fn rows_of_an_unordered_many_partitions_source_find_the_same() {
    let folder = Folder::new();
    let tables = world(&folder, "csv")
        + "CREATE TABLE bids (auction BIGINT, at AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '50000', \
           'rows-per-second' = '0', 'fields.auction.min' = '0', 'fields.auction.max' = '120');\n";
    let query = "SELECT b.auction, r.rate FROM bids AS b LEFT JOIN rates FOR SYSTEM_TIME AS OF b.at AS r \
                 ON CONCAT('c', CAST(b.auction AS STRING)) = r.k";
    let batch = run(&format!("{tables}{query}"), Mode::Batch, 1).expect("runs");
    for parallelism in [1, 2, 7] {
        let got = run(&format!("{tables}{query}"), Mode::Streaming, parallelism).expect("runs");
        assert!(got == batch, "{parallelism}: {}", difference(&got, &batch));
    }
}

#[test]
fn a_table_that_is_missing_or_wrong_is_an_error_at_the_start() {
    let folder = Folder::new();
    let tables = world(&folder, "csv");
    let bad = |rates: &str| {
        let sql = format!("{tables}{}", QUERIES[0]).replace("rates.csv", rates);
        run(&sql, Mode::Streaming, 2).expect_err("nothing to look into").to_string()
    };
    let e = bad("nowhere.csv");
    assert!(e.contains("nowhere.csv"), "{e}");
    folder.write("wrong.csv", "c1,1.5,true\nc2,many,true\n");
    let e = bad("wrong.csv");
    assert!(e.contains("wrong.csv:2") && e.contains("many"), "{e}");
    // Nothing in it is no error.
    folder.write("empty.csv", "");
    let sql = format!("{tables}{}", QUERIES[1]).replace("rates.csv", "empty.csv");
    let rows = run(&sql, Mode::Streaming, 2).expect("runs");
    assert!(rows.len() as u64 == ORDERS && rows.iter().all(|r| r.ends_with("|NULL|NULL")));
}

fn start(script: &str, state: StateOptions) -> Running {
    let options = RunOptions { parallelism: Some(2), state, ..RunOptions::default() };
    let mut runner = Runner::new(Program::parse(script, "job.sql").expect("it is SQL"), options);
    loop {
        match runner.step().expect("the script has a query").unwrap_or_else(|e| panic!("{e}")) {
            Step::Running(running) => return running,
            _ => continue,
        }
    }
}

/// A job with state goes on where it was; it reads what it looks up anew.
#[test]
fn a_job_goes_on_and_asks_the_table_as_it_is_then() {
    let world = World::new();
    let rates = world.0.write("rates.csv", "ann,10\n");
    let script = world.script(&format!(
        "CREATE TABLE rates (name STRING, rate INT) WITH ('connector' = 'filesystem', 'path' = '{rates}', 'format' = 'csv');\n\
         INSERT INTO out SELECT e.ts, e.name, r.rate, CAST(e.n AS BIGINT) FROM (SELECT *, PROCTIME() AS p FROM events) AS e \
         LEFT JOIN rates FOR SYSTEM_TIME AS OF e.p AS r ON e.name = r.name"
    ));
    let go = |script: &str, available_now: bool| {
        let state = StateOptions { location: Some(world.place("state")), available_now, ..StateOptions::default() };
        start(script, state).wait().unwrap_or_else(|e| panic!("{e}"));
    };
    go(&script, true);
    let first = world.out();
    assert_eq!(first.len(), 6);
    assert!(first.contains(&"2024-01-01 00:00:01,ann,10,5".to_string()), "{first:?}");
    world.0.write("rates.csv", "ann,20\nbob,7\n");
    world.file("2.csv", "2024-01-01 00:00:40,ann,1\n2024-01-01 00:00:41,bob,2\n");
    go(&script, false);
    let mut wanted = first;
    wanted.extend(["2024-01-01 00:00:40,ann,20,1", "2024-01-01 00:00:41,bob,7,2"].map(str::to_owned));
    wanted.sort();
    assert_eq!(world.out(), wanted);
}

/// Killed at any time, each order comes out with its rate once.
#[test]
fn a_job_that_is_killed_gives_each_row_once() {
    let folder = Folder::new();
    let (out, state) = (folder.path("out"), folder.path("state").display().to_string());
    let script = world(&folder, "csv")
        + &format!(
            "CREATE TABLE out (id BIGINT, k STRING, rate DOUBLE) \
             WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n\
             INSERT INTO out {}",
            out.display(),
            QUERIES[0]
        );
    // Slow enough to be caught in the middle.
    let orders = std::fs::read_to_string(folder.path("orders.csv")).expect("written above");
    std::fs::remove_file(folder.path("orders.csv")).expect("it is there");
    std::fs::create_dir(folder.path("orders")).expect("a folder");
    let endless = script.replace("orders.csv'", "orders', 'source.monitor-interval' = '20 ms'");
    let file = folder.write("job.sql", &endless);
    let pieces: Vec<&str> = orders.lines().collect();
    for (n, piece) in pieces.chunks(pieces.len() / 4).enumerate() {
        let hidden = folder.write(&format!("orders/.{n}"), &(piece.join("\n") + "\n"));
        let mut job = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(["run", &file, "--state", &state, "--checkpoint-interval", "50ms", "--progress", "none", "-p", "3"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        std::fs::rename(hidden, folder.path(&format!("orders/{n}.csv"))).expect("it appears as a whole");
        let before = lines(&out).len();
        wait_until("rows come out", || lines(&out).len() > before || job.try_wait().expect("asked").is_some());
        job.kill().expect("it runs");
        job.wait().expect("it has ended");
    }
    let bounded = script.replace("orders.csv'", "orders'");
    start(&bounded, StateOptions { location: Some(state), ..StateOptions::default() })
        .wait()
        .unwrap_or_else(|e| panic!("{e}"));
    let query = bounded.split_once("INSERT INTO out ").expect("it writes").0.to_owned() + QUERIES[0];
    let mut wanted: Vec<String> =
        run(&query, Mode::Batch, 1).expect("runs").into_iter().map(|r| r.replace('|', ",")).collect();
    wanted.sort();
    let got = lines(&out);
    assert!(got == wanted, "{}", difference(&got, &wanted));
}

/// `lookup.cache.ttl`: a table that is too old is read again by the next row.
#[test]
fn files_are_read_again_when_they_are_too_old() {
    let world = World::new();
    let rates = world.0.write("rates.csv", "ann,1\n");
    for (option, seen) in [("lookup.full-cache.periodic-reload.interval", true), ("none", false)] {
        let _ = std::fs::remove_dir_all(world.0.path("out"));
        world.0.write("rates.csv", "ann,1\n");
        let ttl = if seen { format!(", '{option}' = '10 ms'") } else { String::new() };
        let script = world.endless(&format!(
            "CREATE TABLE rates (name STRING, rate INT) WITH ('connector' = 'filesystem', 'path' = '{rates}', 'format' = 'csv'{ttl});\n\
             INSERT INTO out SELECT e.ts, e.name, r.rate, CAST(e.n AS BIGINT) FROM (SELECT *, PROCTIME() AS p FROM events) AS e \
             JOIN rates FOR SYSTEM_TIME AS OF e.p AS r ON e.name = r.name"
        ));
        // Without state, part files are seen when the job ends.
        let running = start(&script, StateOptions::default());
        wait_until("the first rows", || running.snapshot().rows_out >= 4);
        world.0.write("rates.csv", "ann,2\n");
        std::thread::sleep(Duration::from_millis(30));
        world.file("later.csv", "2024-01-01 00:00:50,ann,8\n");
        wait_until("the last row", || running.snapshot().rows_out >= 5);
        running.stop(Stop::Drain);
        running.wait().unwrap_or_else(|e| panic!("{e}"));
        let last = format!("2024-01-01 00:00:50,ann,{},8", if seen { 2 } else { 1 });
        assert!(world.out().contains(&last), "{:?}", world.out());
        std::fs::remove_file(world.0.path("in/later.csv")).expect("it is there");
    }
}

// ---- PostgreSQL -------------------------------------------------------------------------------------------------------

/// Where the server is; `None` where this run has none, which is said loudly, and is a failure in CI.
fn postgres() -> Option<String> {
    let url = std::env::var("MILLSTREAM_TEST_POSTGRES").ok().filter(|u| !u.is_empty());
    if url.is_none() {
        assert!(std::env::var_os("CI").is_none(), "MILLSTREAM_TEST_POSTGRES is not set, and CI must not skip");
        let _ = writeln!(
            std::io::stderr(),
            "!! SKIPPED: MILLSTREAM_TEST_POSTGRES is not set; run ./dev servers cargo test .."
        );
    }
    url
}

/// Rates in a table of the server, written there by a job of ours.
fn rates_on(url: &str, folder: &Folder, table: &str, options: &str) -> String {
    let sink = format!("'connector' = 'jdbc', 'url' = 'jdbc:{url}', 'table-name' = '{table}'");
    let files = world(folder, "csv");
    let fill = format!(
        "{files}CREATE TABLE stored (k STRING, rate DOUBLE, active BOOLEAN) WITH ({sink});\n\
         INSERT INTO stored SELECT k, rate, active FROM rates"
    );
    run(&fill, Mode::Streaming, 1).unwrap_or_else(|e| panic!("{e}"));
    let orders = files.split_once("CREATE TABLE rates").expect("declared second").0;
    format!(
        "{orders}CREATE TABLE rates (k STRING, rate DOUBLE, active BOOLEAN, twice AS rate * 2) WITH ({sink}{options});\n"
    )
}

/// Makes an empty table with psql's help, as a user would.
fn make_table(url: &str, table: &str) -> bool {
    let sql = format!(
        "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (k text, rate double precision, active boolean); CREATE INDEX ON {table} (k)"
    );
    match Command::new("psql").args([url, "-q", "-c", &sql]).output() {
        Ok(done) => {
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            true
        }
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "!! SKIPPED: psql cannot be run: {e}");
            assert!(std::env::var_os("CI").is_none(), "CI must not skip");
            false
        }
    }
}

#[test]
fn a_server_says_what_a_plain_join_says() {
    let Some(url) = postgres() else { return };
    let caches = [
        "",
        ", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '20'",
        ", 'lookup.cache' = 'PARTIAL', 'lookup.partial-cache.max-rows' = '5000', 'lookup.partial-cache.cache-missing-key' = 'false'",
    ];
    for (n, options) in caches.into_iter().enumerate() {
        let (folder, table) = (Folder::new(), format!("lookup_it_{n}"));
        if !make_table(&url, &table) {
            return;
        }
        let tables = rates_on(&url, &folder, &table, options) + PRICED;
        let files = world(&folder, "csv") + PRICED;
        for query in QUERIES {
            let wanted = run(&format!("{files}{query}"), Mode::Batch, 1).expect("runs");
            if query.contains("UPPER(r.k)") {
                // No key that the server stores.
                let e = run(&format!("{tables}{query}"), Mode::Streaming, 1).expect_err("no key").to_string();
                assert!(e.contains("compares no column of `rates`"), "{e}");
                continue;
            }
            for (mode, parallelism) in [(Mode::Streaming, 1), (Mode::Streaming, 7), (Mode::Batch, 2)] {
                let got =
                    run(&format!("{tables}{query}"), mode, parallelism).unwrap_or_else(|e| panic!("{e}\n{query}"));
                assert!(got == wanted, "{mode:?} {parallelism} {options}: {}\n{query}", difference(&got, &wanted));
            }
        }
    }
}

/// Killed while answers are under way, each order comes out with its rate once.
#[test]
fn a_job_that_asks_a_server_and_is_killed_gives_each_row_once() {
    let Some(url) = postgres() else { return };
    let (folder, table) = (Folder::new(), "lookup_it_killed");
    if !make_table(&url, table) {
        return;
    }
    let tables = rates_on(&url, &folder, table, "");
    let (out, state) = (folder.path("out"), folder.path("state").display().to_string());
    let script = format!(
        "{tables}CREATE TABLE out (id BIGINT, k STRING, rate DOUBLE) WITH ('connector' = 'filesystem', 'path' = '{}', \
         'format' = 'csv');\nINSERT INTO out {}",
        out.display(),
        QUERIES[0]
    );
    let file = folder.write("job.sql", &script);
    let mut wanted: Vec<String> = run(&format!("{}{}", world(&folder, "csv"), QUERIES[0]), Mode::Batch, 1)
        .expect("runs")
        .into_iter()
        .map(|r| r.replace('|', ","))
        .collect();
    wanted.sort();
    for pause in [20, 60, 120, 200, 300] {
        let mut job = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(["run", &file, "--state", &state, "--checkpoint-interval", "20ms", "--progress", "none", "-p", "2"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        std::thread::sleep(Duration::from_millis(pause));
        let _ = job.kill();
        job.wait().expect("it has ended");
    }
    start(&script, StateOptions { location: Some(state), ..StateOptions::default() })
        .wait()
        .unwrap_or_else(|e| panic!("{e}"));
    let got = lines(&out);
    assert!(got == wanted, "{}", difference(&got, &wanted));
}
