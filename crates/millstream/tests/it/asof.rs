//! `ASOF JOIN`: each row with the last row of its key so far, held against a look through all of them.

use crate::dice::Dice;
use crate::support::run;
use millstream::Mode;

/// An id or a value, a key, seconds.
type Row = (u64, u64, u64);

struct World {
    folder: tempfile::TempDir,
    trades: Vec<Row>,
    quotes: Vec<Row>,
}

impl World {
    /// Both in the order of time, with rows at one time; no two quotes of a key at one time.
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let mut rows = |many: u64| -> Vec<Row> {
            let mut rows: Vec<Row> = (0..many).map(|i| (i, dice.below(6), dice.below(4_000))).collect();
            rows.sort_by_key(|row| row.2);
            rows
        };
        let (trades, mut quotes) = (rows(400), rows(300));
        let mut seen = std::collections::HashSet::new();
        quotes.retain(|(_, key, time)| seen.insert((*key, *time)));
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, rows) in [("trades", &trades), ("quotes", &quotes)] {
            let line = |(n, key, time): &Row| {
                format!("{n},{key},2026-01-01 {:02}:{:02}:{:02}\n", time / 3600, time / 60 % 60, time % 60)
            };
            let text: String = rows.iter().map(line).collect();
            std::fs::write(folder.path().join(format!("{name}.csv")), text).expect("a temporary file can be written");
        }
        World { folder, trades, quotes }
    }

    fn sql(&self, query: &str) -> String {
        let table = |name: &str, columns: &str| {
            let path = self.folder.path().join(format!("{name}.csv"));
            format!(
                "CREATE TABLE {name} ({columns}, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
                   WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n",
                path.display()
            )
        };
        table("trades", "id BIGINT, k BIGINT") + &table("quotes", "v BIGINT, k BIGINT") + query + ";"
    }

    /// Each trade with what it meets, as it is printed.
    fn expected(&self, tolerance: Option<u64>, which: impl Fn(&Row) -> bool, outer: bool) -> Vec<String> {
        let met = |(id, key, time): &Row| {
            let before = self.quotes.iter().filter(|q| which(q) && q.1 == *key && q.2 <= *time).max_by_key(|q| q.2);
            match before.filter(|q| tolerance.is_none_or(|most| q.2 + most >= *time)) {
                Some((value, ..)) => Some(format!("{id}|{value}")),
                None => outer.then(|| format!("{id}|NULL")),
            }
        };
        let mut rows: Vec<String> = self.trades.iter().filter_map(met).collect();
        rows.sort();
        rows
    }

    fn check(&self, query: &str, expected: &[String]) {
        for (mode, parallelism) in [(Mode::Streaming, 1), (Mode::Streaming, 2), (Mode::Streaming, 7), (Mode::Batch, 2)]
        {
            let mut rows = run(&self.sql(query), mode, parallelism).expect("an answer");
            rows.sort();
            assert_eq!(rows, expected, "{query}, {mode:?}, {parallelism}");
        }
    }
}

#[test]
fn each_row_meets_the_last_one_of_its_key() {
    for seed in 0..5 {
        let world = World::new(seed);
        let all = world.expected(None, |_| true, true);
        assert!(all.iter().any(|row| row.ends_with("NULL")) && all.iter().any(|row| !row.ends_with("NULL")));
        world.check(
            "SELECT t.id, q.v FROM trades t ASOF JOIN quotes q MATCH_CONDITION (t.ts >= q.ts) ON t.k = q.k",
            &all,
        );
    }
}

#[test]
fn a_row_that_is_too_old_counts_as_none() {
    let world = World::new(7);
    let expected = world.expected(Some(60), |_| true, true);
    assert_ne!(expected, world.expected(None, |_| true, true));
    assert_ne!(expected, world.expected(Some(59), |_| true, true), "the bound itself counts");
    for condition in [
        "t.ts >= q.ts AND q.ts >= t.ts - INTERVAL '1' MINUTE",
        "q.ts <= t.ts AND t.ts <= q.ts + INTERVAL '60' SECOND",
        "q.ts BETWEEN t.ts - INTERVAL '1' MINUTE AND t.ts",
    ] {
        world.check(
            &format!("SELECT t.id, q.v FROM trades t ASOF JOIN quotes AS q MATCH_CONDITION ({condition}) ON t.k = q.k"),
            &expected,
        );
    }
    world.check(
        "SELECT t.id, q.v FROM trades t ASOF JOIN quotes q MATCH_CONDITION (q.ts BETWEEN t.ts - INTERVAL '1' MINUTE AND t.ts)
         ON t.k = q.k WHERE q.v IS NOT NULL",
        &world.expected(Some(60), |_| true, false),
    );
}

/// What a view leaves out is not there; what else stands in ON, the row that is met has to fulfil.
#[test]
fn a_view_chooses_rows_and_on_judges_the_one_that_is_met() {
    let world = World::new(11);
    world.check(
        "CREATE TEMPORARY VIEW even AS SELECT v, k, ts FROM quotes WHERE v % 2 = 0;
         SELECT t.id, q.v FROM trades t ASOF JOIN even q MATCH_CONDITION (t.ts >= q.ts) ON t.k = q.k",
        &world.expected(None, |quote| quote.0 % 2 == 0, true),
    );
    let last = world.expected(None, |_| true, true);
    let judged = |row: &String| match row.split_once('|') {
        Some((id, value)) if value.parse().is_ok_and(|v: u64| v % 2 == 1) => format!("{id}|NULL"),
        _ => row.clone(),
    };
    let mut judged: Vec<String> = last.iter().map(judged).collect();
    judged.sort();
    assert_ne!(judged, last);
    world.check(
        "SELECT t.id, q.v FROM trades t ASOF JOIN quotes q MATCH_CONDITION (t.ts >= q.ts) ON t.k = q.k AND q.v % 2 = 0",
        &judged,
    );
}
