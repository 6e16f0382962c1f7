//! Joins with a table in every task, held against the batch engine, which joins in its own way.

use crate::dice::Dice;
use crate::support::{difference, run};
use millstream::Mode;

/// A folder with `events`, `cities` and `areas`, in several files each.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, files, rows) in [("events", 5, 150), ("cities", 3, 8), ("areas", 2, 6)] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder of its own");
            for file in 0..files {
                let row = |_| {
                    let key = match dice.below(10) {
                        0 => String::new(),
                        n => (n % 7).to_string(),
                    };
                    let (value, time) = (dice.below(20), dice.below(600));
                    format!("{key},{value},2026-01-01 00:{:02}:{:02}\n", time / 60, time % 60)
                };
                let text: String = (0..rows).map(row).collect();
                std::fs::write(folder.path().join(format!("{name}/{file}.csv")), text).expect("a file can be written");
            }
        }
        World { folder }
    }

    fn sql(&self, query: &str) -> String {
        let table = |name: &str| {
            format!(
                "CREATE TABLE {name} (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '10' MINUTE)
                   WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n",
                self.folder.path().join(name).display()
            )
        };
        ["events", "cities", "areas"].map(table).concat() + query + ";"
    }

    #[track_caller]
    fn check(&self, query: &str) {
        let sql = self.sql(query);
        let batch = run(&sql, Mode::Batch, 2).unwrap_or_else(|e| panic!("{query}\n{e}"));
        for parallelism in [1, 2, 7] {
            let rows = run(&sql, Mode::Streaming, parallelism).unwrap_or_else(|e| panic!("{query}\n{e}"));
            assert!(rows == batch, "{query}, {parallelism} tasks: {}", difference(&rows, &batch));
        }
    }
}

#[test]
fn every_kind_of_join_says_what_the_batch_engine_says() {
    let world = World::new(1);
    let mut dice = Dice(2);
    for (kind, hint) in [("JOIN", "c"), ("JOIN", "e"), ("LEFT JOIN", "c"), ("RIGHT JOIN", "e")] {
        for on in ["e.k = c.k", "e.k = c.k AND e.v < c.v", "e.k = c.k AND e.v = c.v", "e.v = c.v + 14"] {
            let columns = dice.one(&["e.k, e.v, c.v AS w", "e.v, c.k, c.v AS w", "c.ts, e.v"]);
            world.check(&format!("SELECT /*+ BROADCAST({hint}) */ {columns} FROM events e {kind} cities c ON {on}"));
        }
    }
    world.check("SELECT /*+ BROADCAST(c) */ e.v, c.v AS w FROM events e JOIN cities c ON e.k IS NOT DISTINCT FROM c.k");
    world.check("SELECT /*+ BROADCAST(a) */ e.v, a.v AS w FROM events e JOIN areas a ON e.v > a.v + 15");
    world.check("SELECT /*+ BROADCAST(c) */ e.k, e.v FROM events e, cities c WHERE e.v = 3 AND c.v = 4");
}

#[test]
fn subqueries_and_several_tables() {
    let world = World::new(3);
    for not in ["", "NOT "] {
        world.check(&format!(
            "SELECT k, v FROM events e WHERE {not}EXISTS (SELECT /*+ BROADCAST(c) */ 1 FROM cities c WHERE c.k = e.k AND c.v > e.v)"
        ));
        world.check(&format!(
            "SELECT k, v FROM events WHERE {not}k IN (SELECT /*+ BROADCAST(cities) */ k FROM cities WHERE k > 3)"
        ));
    }
    world.check(
        "SELECT /*+ BROADCAST(c, a) */ e.v, c.v AS w, a.v AS x FROM events e LEFT JOIN cities c ON e.v = c.v
         LEFT JOIN areas a ON c.k = a.k",
    );
    // One small side waits for another.
    world.check(
        "SELECT /*+ BROADCAST(s) */ e.k, s.n FROM events e LEFT JOIN
           (SELECT /*+ BROADCAST(a) */ c.k AS k, COUNT(*) AS n FROM cities c JOIN areas a ON c.k = a.k GROUP BY c.k) s ON e.k = s.k",
    );
}

#[test]
fn what_changes_goes_through() {
    let world = World::new(4);
    world.check(
        "SELECT /*+ BROADCAST(c) */ e.k, e.n, c.n AS m FROM (SELECT k, COUNT(*) AS n FROM events GROUP BY k) e
         LEFT JOIN (SELECT k, SUM(v) AS n FROM cities GROUP BY k) c ON e.k = c.k",
    );
    world.check(
        "SELECT w, COUNT(*) AS n FROM (SELECT /*+ BROADCAST(c) */ e.n, c.v AS w FROM
           (SELECT k, MAX(v) AS n FROM events GROUP BY k) e LEFT JOIN cities c ON e.n = c.v) GROUP BY w",
    );
}

/// The time of what passes by stays, so windows go on behind the join, and none of its rows is late for them.
#[test]
fn windows_go_on_behind_the_join() {
    let world = World::new(5);
    world.check(
        "CREATE TEMPORARY VIEW known AS SELECT /*+ BROADCAST(c) */ e.v, e.ts, c.v AS w FROM events e LEFT JOIN cities c ON e.k = c.k;
         SELECT w, window_start, COUNT(*) AS n, SUM(v) AS s FROM TABLE(TUMBLE(TABLE known, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
         GROUP BY w, window_start, window_end",
    );
}

/// Both sides come out of one stage of the job by way of a table that they do not share.
#[test]
fn stages_that_would_wait_for_each_other_are_parted() {
    let world = World::new(6);
    world.check(
        "CREATE TEMPORARY VIEW joined AS SELECT /*+ BROADCAST(c) */ e.k, c.n AS v FROM events e JOIN
           (SELECT k, COUNT(*) AS n FROM cities GROUP BY k) c ON e.k = c.k;
         SELECT k, v FROM joined UNION ALL SELECT k, v FROM events UNION ALL SELECT k, v FROM cities",
    );
}
