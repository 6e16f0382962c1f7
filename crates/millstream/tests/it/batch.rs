//! Batch mode where our own operators give the answer: all rows are there before anything is told, so none is late.

use crate::support::run;
use millstream::Mode;

struct World(tempfile::TempDir);

impl World {
    fn new(files: &[(&str, &str)]) -> World {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a temporary file can be written");
        }
        World(folder)
    }

    fn table(&self, name: &str, columns: &str) -> String {
        let path = self.0.path().join(format!("{name}.csv"));
        format!(
            "CREATE TABLE {name} ({columns}, WATERMARK FOR ts AS ts)
               WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n",
            path.display()
        )
    }
}

/// Neither file is in the order of time, and nobody can say which of them is read first.
fn orders_and_rates() -> (World, String) {
    let world = World::new(&[
        (
            "orders.csv",
            "1,eur,2026-01-01 10:05:00\n2,eur,2026-01-01 10:01:00\n3,usd,2026-01-01 10:02:00\n4,eur,2026-01-01 09:00:00\n",
        ),
        ("rates.csv", "eur,15,2026-01-01 10:03:00\neur,10,2026-01-01 10:00:00\nusd,99,2026-01-01 09:00:00\n"),
    ]);
    let tables = world.table("orders", "id INT, c STRING, ts TIMESTAMP(3)")
        + &world.table("rates", "c STRING, rate INT, ts TIMESTAMP(3), PRIMARY KEY (c) NOT ENFORCED");
    (world, tables)
}

#[test]
fn a_temporal_join_finds_every_version() {
    let (_world, tables) = orders_and_rates();
    let sql =
        tables + "SELECT o.id, r.rate FROM orders o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.c = r.c;";
    for parallelism in [1, 2, 7] {
        let rows = run(&sql, Mode::Batch, parallelism).expect("an answer");
        assert_eq!(rows, ["1|15", "2|10", "3|99", "4|NULL"]);
    }
}

#[test]
fn a_temporal_join_under_a_result_that_is_updated_is_refused_at_its_place() {
    let (_world, tables) = orders_and_rates();
    let query = "SELECT r.rate, COUNT(*) FROM orders o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.c = r.c GROUP BY r.rate;";
    let e = run(&(tables + query), Mode::Batch, 1).expect_err("nobody can run it");
    assert!(e.what().contains("not there in batch mode"), "{e}");
    assert!(e.place().is_some_and(|p| p.to_string().starts_with("test.sql:5")), "{e}");
}

/// What goes by the order of rows is answered by our own operators too.
#[test]
fn aggregates_by_the_order_of_rows_count_them_all() {
    let (_world, tables) = orders_and_rates();
    let query = "SELECT c, COUNT(*), FIRST_VALUE(id) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' DAY))
                 GROUP BY window_start, window_end, c";
    assert_eq!(run(&(tables + query), Mode::Batch, 2).expect("an answer"), ["eur|3|4", "usd|1|3"]);
}
