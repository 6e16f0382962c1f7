//! Tables that bring changes, over files: what a query makes of a database's history is what batch makes of its last state.
//!
//! A failing case prints its seed; `MILLSTREAM_SEED=n` plays one seed alone, and `MILLSTREAM_SEEDS=n` plays that many.

use crate::cli::Folder;
use crate::dice::{Dice, env};
use crate::support::{difference, run, texts};
use millstream::{Mode, Program, Result, RunOptions, Runner, StateOptions, Step};
use std::collections::BTreeMap;

/// Cases in a usual run.
const SEEDS: u64 = 60;

/// One row of the table behind the history: `g STRING, v BIGINT`; NULL is `None`.
pub(crate) type Row = (Option<&'static str>, Option<i64>);

/// Some changes, and what stands in the end.
pub(crate) type History = (Vec<Change>, BTreeMap<i64, Row>);

/// A change of one row, as a database knows it.
pub(crate) enum Change {
    Insert(i64, Row),
    Update((i64, Row), (i64, Row)),
    Delete(i64, Row),
}

/// `moves`: now and then a row moves to another key.
pub(crate) fn history(dice: &mut Dice, length: u64, moves: bool) -> History {
    let (mut table, mut changes) = (BTreeMap::new(), Vec::new());
    for _ in 0..length {
        let id = dice.below(12) as i64;
        let g = [Some("red"), Some("green"), Some("a longer text than sixteen bytes"), None][dice.below(4) as usize];
        let v = (dice.below(6) > 0).then(|| dice.below(20) as i64 - 10);
        match table.get(&id).copied() {
            None => {
                table.insert(id, (g, v));
                changes.push(Change::Insert(id, (g, v)));
            }
            Some(old) if dice.below(3) == 0 => {
                table.remove(&id);
                changes.push(Change::Delete(id, old));
            }
            Some(old) => {
                let to = dice.below(12) as i64;
                let to = if moves && dice.below(4) == 0 && !table.contains_key(&to) { to } else { id };
                table.remove(&id);
                table.insert(to, (g, v));
                changes.push(Change::Update((id, old), (to, (g, v))));
            }
        }
    }
    (changes, table)
}

pub(crate) fn object(id: i64, (g, v): Row) -> String {
    let text = |g: Option<&str>| g.map_or("null".to_owned(), |g| format!("\"{g}\""));
    let number = |v: Option<i64>| v.map_or("null".to_owned(), |v| v.to_string());
    format!("{{\"id\":{id},\"g\":{},\"v\":{}}}", text(g), number(v))
}

/// The members of the old row that are different.
fn different((id, old): (i64, Row), (to, new): (i64, Row)) -> String {
    let whole = object(id, old);
    let parts: Vec<&str> = whole.trim_matches(['{', '}']).split(',').collect();
    let keep = [id != to, old.0 != new.0, old.1 != new.1];
    let kept: Vec<&str> = parts.into_iter().zip(keep).filter_map(|(part, keep)| keep.then_some(part)).collect();
    format!("{{{}}}", kept.join(","))
}

pub(crate) fn told(change: &Change, format: &str) -> String {
    match (format, change) {
        ("debezium-json", Change::Insert(id, row)) => {
            format!("{{\"before\":null,\"after\":{},\"op\":\"c\"}}", object(*id, *row))
        }
        ("debezium-json", Change::Update(old, new)) => {
            format!("{{\"before\":{},\"after\":{},\"op\":\"u\"}}", object(old.0, old.1), object(new.0, new.1))
        }
        ("debezium-json", Change::Delete(id, row)) => {
            format!("{{\"before\":{},\"after\":null,\"op\":\"d\"}}", object(*id, *row))
        }
        // The database tells no more of an old row than its key, and that only where it changes.
        ("by-key", Change::Update(old, new)) if old.0 == new.0 => {
            format!("{{\"before\":null,\"after\":{},\"op\":\"u\"}}", object(new.0, new.1))
        }
        ("by-key", Change::Update(old, new)) => {
            format!("{{\"before\":{{\"id\":{}}},\"after\":{},\"op\":\"u\"}}", old.0, object(new.0, new.1))
        }
        ("by-key", Change::Delete(id, _)) => format!("{{\"before\":{{\"id\":{id}}},\"op\":\"d\"}}"),
        ("by-key", change) => told(change, "debezium-json"),
        ("maxwell-json", Change::Insert(id, row)) => format!("{{\"type\":\"insert\",\"data\":{}}}", object(*id, *row)),
        ("maxwell-json", Change::Update(old, new)) => {
            format!("{{\"type\":\"update\",\"data\":{},\"old\":{}}}", object(new.0, new.1), different(*old, *new))
        }
        ("maxwell-json", Change::Delete(id, row)) => format!("{{\"type\":\"delete\",\"data\":{}}}", object(*id, *row)),
        (_, Change::Insert(id, row)) => {
            format!("{{\"type\":\"INSERT\",\"data\":[{}],\"old\":null}}", object(*id, *row))
        }
        (_, Change::Update(old, new)) => {
            format!("{{\"type\":\"UPDATE\",\"data\":[{}],\"old\":[{}]}}", object(new.0, new.1), different(*old, *new))
        }
        (_, Change::Delete(id, row)) => format!("{{\"type\":\"DELETE\",\"data\":[{}]}}", object(*id, *row)),
    }
}

/// A table over a file, and the same with what stands in the end.
fn tables(dice: &mut Dice, folder: &Folder, name: &str, format: &str) -> (String, String) {
    let length = dice.below(60);
    let (changes, last) = history(dice, length, true);
    let mut lines: Vec<String> = changes.iter().map(|c| told(c, format)).collect();
    if format == "by-key" {
        // What has been told may be told again, as long as nothing else of its key has come.
        for at in (0..lines.len()).rev() {
            if dice.below(5) == 0 {
                lines.insert(at + 1, lines[at].clone());
            }
        }
    }
    let history = folder.write(&format!("{name}.json"), &(lines.join("\n") + "\n"));
    let rows: String = last.iter().map(|(id, row)| object(*id, *row) + "\n").collect();
    let last = folder.write(&format!("{name}-last.json"), &rows);
    let (key, format) = match format {
        "by-key" => (", PRIMARY KEY (id) NOT ENFORCED", "debezium-json"),
        other => ("", other),
    };
    let table = |path: &str, format: &str, key: &str| {
        format!(
            "CREATE TABLE {name} (id BIGINT NOT NULL, g STRING, v BIGINT{key}) WITH ('connector' = 'filesystem', \
             'path' = '{path}', 'format' = '{format}');\n"
        )
    };
    (table(&history, format, key), table(&last, "json", ""))
}

const QUERIES: [&str; 14] = [
    "SELECT * FROM a",
    "SELECT id, v FROM a WHERE v > 0 OR g IS NULL",
    "SELECT g, COUNT(*), SUM(v), MIN(v), MAX(v), AVG(v), COUNT(DISTINCT v) FROM a GROUP BY g",
    "SELECT COUNT(*), SUM(id) FROM a",
    "SELECT DISTINCT g FROM a",
    "SELECT a.id, a.v, b.v FROM a JOIN b ON a.id = b.id",
    "SELECT a.id, b.id, b.g FROM a LEFT JOIN b ON a.v = b.v",
    "SELECT a.id, b.id FROM a FULL JOIN b ON a.g = b.g AND a.v < b.v",
    "SELECT id FROM a WHERE v IN (SELECT v FROM b)",
    "SELECT id, v FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.id = a.id)",
    "SELECT g, id, rn FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY g ORDER BY v DESC, id) AS rn FROM a) WHERE rn <= 2",
    "SELECT g, v FROM a UNION SELECT g, v FROM b",
    "SELECT n, COUNT(*) FROM (SELECT g, COUNT(*) AS n FROM a GROUP BY g) GROUP BY n",
    "SELECT id, v FROM a ORDER BY v DESC, id LIMIT 3",
];

fn plays(seed: u64) {
    let mut dice = Dice(seed);
    let folder = Folder::new();
    let format = ["debezium-json", "maxwell-json", "canal-json", "by-key"][dice.below(4) as usize];
    let (a, a_last) = tables(&mut dice, &folder, "a", format);
    let (b, b_last) = tables(&mut dice, &folder, "b", format);
    let by_key = match format {
        "by-key" => "SET 'table.exec.source.cdc-events-duplicate' = 'true';\n",
        _ => "",
    };
    for _ in 0..3 {
        let query = dice.one(&QUERIES);
        let wanted = run(&format!("{a_last}{b_last}{query}"), Mode::Batch, 1).expect("batch answers");
        for parallelism in [1, 2, 7] {
            let sql = format!("{by_key}{a}{b}{query}");
            let got = run(&sql, Mode::Streaming, parallelism)
                .unwrap_or_else(|e| panic!("seed {seed}, {format}, parallelism {parallelism}: {e}\n{sql}"));
            assert!(
                got == wanted,
                "seed {seed}, {format}, parallelism {parallelism}, {query}: {}",
                difference(&got, &wanted)
            );
        }
    }
}

#[test]
fn a_history_gives_what_its_last_state_gives() {
    match env("MILLSTREAM_SEED") {
        Some(seed) => plays(seed),
        None => (0..env("MILLSTREAM_SEEDS").unwrap_or(SEEDS)).for_each(plays),
    }
}

/// Runs a script to its end with state.
fn go(sql: &str, folder: &Folder, parallelism: usize) -> Result<()> {
    let state = StateOptions {
        location: Some(folder.path("state").display().to_string()),
        available_now: true,
        ..StateOptions::default()
    };
    let options = RunOptions { parallelism: Some(parallelism), state, ..RunOptions::default() };
    let mut runner = Runner::new(Program::parse(sql, "job.sql")?, options);
    while let Some(step) = runner.step() {
        if let Step::Running(running) = step? {
            running.wait()?;
        }
    }
    Ok(())
}

/// What stands of records of `debezium-json` as they are written here, counted here and not by the engine.
pub(crate) fn stands<'l>(records: impl Iterator<Item = &'l str>) -> Vec<String> {
    let mut rows: BTreeMap<&str, i64> = BTreeMap::new();
    for line in records {
        let (row, by) =
            match line.strip_prefix("{\"before\":null,\"after\":").and_then(|l| l.strip_suffix(",\"op\":\"c\"}")) {
                Some(row) => (row, 1),
                None => {
                    let row =
                        line.strip_prefix("{\"before\":").and_then(|l| l.strip_suffix(",\"after\":null,\"op\":\"d\"}"));
                    (row.unwrap_or_else(|| panic!("neither there nor gone: {line}")), -1)
                }
            };
        *rows.entry(row).or_default() += by;
    }
    rows.retain(|_, count| *count != 0);
    assert!(rows.values().all(|count| *count == 1), "{rows:?}");
    rows.into_keys().map(str::to_owned).collect()
}

/// `SELECT g, COUNT(*) AS n, SUM(v) AS total … GROUP BY g` as objects, also for a `g` that is NULL or not.
pub(crate) fn grouped(table: &BTreeMap<i64, Row>, nulls: bool) -> Vec<String> {
    let mut groups: BTreeMap<Option<&str>, (i64, Option<i64>)> = BTreeMap::new();
    for (g, v) in table.values().filter(|(g, _)| nulls || g.is_some()) {
        let group = groups.entry(*g).or_default();
        group.0 += 1;
        group.1 = v.map(|v| v + group.1.unwrap_or_default()).or(group.1);
    }
    let mut rows: Vec<String> = groups
        .into_iter()
        .map(|(g, (n, total))| {
            let g = g.map_or("null".to_owned(), |g| format!("\"{g}\""));
            format!("{{\"g\":{g},\"n\":{n},\"total\":{}}}", total.map_or("null".to_owned(), |t| t.to_string()))
        })
        .collect();
    rows.sort();
    rows
}

/// A job that is run again and again, at another parallelism each time, goes on where it was; by key and without.
#[test]
fn a_restored_job_knows_the_rows_that_it_was_told() {
    for format in ["debezium-json", "by-key"] {
        let folder = Folder::new();
        std::fs::create_dir(folder.path("in")).expect("a folder can be made");
        let (changes, last) = history(&mut Dice(7), 400, true);
        let key = if format == "by-key" { ", PRIMARY KEY (id) NOT ENFORCED" } else { "" };
        let sql = format!(
            "SET 'table.exec.source.cdc-events-duplicate' = '{}';
             CREATE TABLE a (id BIGINT NOT NULL, g STRING, v BIGINT{key}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json');
             CREATE TABLE out (g STRING, n BIGINT, total BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json');
             INSERT INTO out SELECT g, COUNT(*), SUM(v) FROM a GROUP BY g;",
            format == "by-key",
            folder.path("in").display(),
            folder.path("out").display(),
        );
        for (n, (part, parallelism)) in changes.chunks(80).zip([1, 2, 7, 1, 3]).enumerate() {
            let lines: String = part.iter().map(|c| told(c, format) + "\n").collect();
            folder.write(&format!("in/{n}.json"), &lines);
            go(&sql, &folder, parallelism).unwrap_or_else(|e| panic!("{format}, run {n}: {e}"));
        }
        let out = crate::state::lines(&folder.path("out"));
        assert_eq!(stands(out.iter().map(String::as_str)), grouped(&last, true), "{format}");
    }
}

#[test]
fn a_record_that_cannot_be_read_goes_to_its_table_and_takes_none_with_it() {
    let folder = Folder::new();
    let input = folder.write(
        "in.json",
        "{\"after\":{\"id\":1,\"v\":5},\"op\":\"c\"}\n\
         {\"before\":null,\"after\":{\"id\":1,\"v\":6},\"op\":\"u\"}\n\
         {\"before\":{\"id\":1,\"v\":5},\"after\":{\"id\":1,\"v\":7},\"op\":\"u\"}\n\
         {\"after\":{\"id\":\"x\",\"v\":1},\"op\":\"c\"}\n",
    );
    let bad = folder.path("bad.csv").display().to_string();
    let sql = format!(
        "SET 'millstream.bad-rows.table' = 'bad';
         CREATE TABLE bad (source STRING, place STRING, reason STRING) WITH ('connector' = 'filesystem', 'path' = '{bad}', 'format' = 'csv');
         CREATE TABLE a (id BIGINT NOT NULL, v BIGINT) WITH ('connector' = 'filesystem', 'path' = '{input}', 'format' = 'debezium-json');
         SELECT id, v FROM a;"
    );
    assert_eq!(run(&sql, Mode::Streaming, 2).expect("set aside"), ["1|7"]);
    let bad = std::fs::read_to_string(bad).expect("the bad rows");
    assert_eq!(bad.lines().count(), 2, "{bad}");
    assert!(bad.contains("in.json:2") && bad.contains("REPLICA IDENTITY FULL") && bad.contains("in.json:4"), "{bad}");
    let strict = sql.replace("SET 'millstream.bad-rows.table' = 'bad';", "");
    let e = run(&strict, Mode::Streaming, 2).expect_err("the second line");
    assert!(e.place().is_some_and(|p| p.to_string().ends_with("in.json:2")), "{e}");
}

/// Of a table with a primary key, the version that held at a row's time; what is gone is none.
#[test]
fn changes_are_versions_for_a_temporal_join() {
    let folder = Folder::new();
    let rates = folder.write(
        "rates.json",
        "{\"after\":{\"c\":\"eur\",\"rate\":10,\"ts\":\"2026-01-01 10:00:00\"},\"op\":\"c\"}\n\
         {\"before\":{\"c\":\"eur\",\"rate\":10,\"ts\":\"2026-01-01 10:00:00\"},\"after\":{\"c\":\"eur\",\"rate\":12,\"ts\":\"2026-01-01 10:05:00\"},\"op\":\"u\"}\n\
         {\"before\":{\"c\":\"eur\",\"rate\":12,\"ts\":\"2026-01-01 10:09:00\"},\"op\":\"d\"}\n",
    );
    let orders = folder.write(
        "orders.csv",
        "1,eur,2026-01-01 09:59:00\n2,eur,2026-01-01 10:04:00\n3,eur,2026-01-01 10:05:00\n4,eur,2026-01-01 10:10:00\n",
    );
    let sql = format!(
        "CREATE TABLE rates (c STRING, rate BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts, PRIMARY KEY (c) NOT ENFORCED)
           WITH ('connector' = 'filesystem', 'path' = '{rates}', 'format' = 'debezium-json');
         CREATE TABLE orders (id INT, c STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
           WITH ('connector' = 'filesystem', 'path' = '{orders}', 'format' = 'csv');
         SELECT o.id, r.rate FROM orders o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.c = r.c;"
    );
    for setting in ["false", "true"] {
        let sql = format!("SET 'table.exec.source.cdc-events-duplicate' = '{setting}';\n{sql}");
        assert_eq!(
            run(&sql, Mode::Streaming, 2).expect("an answer"),
            ["1|NULL", "2|10", "3|12", "4|NULL"],
            "{setting}"
        );
    }
}

#[test]
fn batch_mode_says_why_it_does_not_read_changes() {
    let folder = Folder::new();
    let input = folder.write("in.json", "{\"after\":{\"id\":1},\"op\":\"c\"}\n");
    let sql = format!(
        "CREATE TABLE a (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{input}', 'format' = 'debezium-json');\nSELECT * FROM a;"
    );
    let e = run(&sql, Mode::Batch, 1).expect_err("changes");
    assert!(e.what().contains("brings changes") && e.help().is_some_and(|h| h.contains("streaming mode")), "{e}");
    let rows =
        millstream::collect(Program::parse(&sql, "t.sql").expect("valid"), RunOptions::default()).expect("streaming");
    assert_eq!(texts(&rows), ["1"]);
}
