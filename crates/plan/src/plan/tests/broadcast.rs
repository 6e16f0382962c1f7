//! `BROADCAST`: which side every task has, what the other one keeps, and hints that cannot be followed.

use super::*;

/// `cities` and `areas` end by themselves.
const TABLES: &str = "
CREATE TABLE cities (k BIGINT, city STRING, since TIMESTAMP(3), WATERMARK FOR since AS since) WITH ('connector' = 'ends');
CREATE TABLE areas (k BIGINT, area STRING) WITH ('connector' = 'ends');
";

fn with(sql: &str) -> String {
    format!("{TABLES}{sql}")
}

#[test]
fn the_hinted_side_goes_to_every_task_and_the_other_stays_where_it_is() {
    check(
        &with(
            "SELECT /*+ BROADCAST(c) */ b.auction, c.city FROM bid b LEFT JOIN cities AS c ON b.auction = c.k WHERE b.price > 5",
        ),
        "
Sink(result)
└─ Calc(auction, city)
   └─ BroadcastJoin(left on auction = k, right in every task)
      ├─ Calc(auction WHERE price > 5)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ broadcast ─ Calc(k, city)
         └─ Source(cities)
               reads k, city, since
               watermark since - 0 ms
",
    );
}

/// Rows pass by in their order: windows over their time go on behind the join.
#[test]
fn what_passes_keeps_its_time_and_its_windows() {
    for join in ["b JOIN cities", "b LEFT JOIN cities"] {
        let planned = plan(&with(&format!(
            "CREATE VIEW v AS SELECT /*+ BROADCAST(c) */ b.price, b.ts, c.city FROM bid {join} c ON b.auction = c.k;
             SELECT city, window_start, SUM(price) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
             GROUP BY city, window_start, window_end"
        )));
        assert_eq!(aggregate(&planned).keys.len(), 1);
    }
    let planned = plan(&with(
        "SELECT /*+ BROADCAST(c) */ w.window_start, w.window_end, c.city, COUNT(*) FROM
           (SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) w JOIN cities c ON w.auction = c.k
         GROUP BY w.window_start, w.window_end, c.city",
    ));
    assert!(matches!(aggregate(&planned).window, Window::Attached { .. }));
    let e = try_plan(&with(
        "CREATE VIEW v AS SELECT /*+ BROADCAST(c) */ b.price, c.since FROM bid b JOIN cities c ON b.auction = c.k;
         SELECT COUNT(*) FROM TABLE(TUMBLE(TABLE v, DESCRIPTOR(since), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
    ));
    assert!(e.expect_err("rows of the table come before all time").to_string().contains("since"));
}

#[test]
fn an_outer_row_is_final_and_what_is_updated_stays_so() {
    let join = |sql: &str| {
        let planned = plan(&with(sql));
        well_formed(&planned.dataflow);
        let join = node(&planned, "BroadcastJoin");
        let NodeKind::Join(Join { scope: JoinScope::Broadcast { small, retracts }, .. }) = join.kind else {
            panic!("{}", join.label)
        };
        (join.changes, small, retracts)
    };
    let left = "SELECT /*+ BROADCAST(c) */ b.auction, c.city FROM bid b LEFT JOIN cities c ON b.auction = c.k";
    assert_eq!(join(left), (Changes::Insert, 1, false));
    let right = "SELECT /*+ BROADCAST(cities) */ b.auction, city FROM cities RIGHT JOIN bid b ON b.auction = k";
    assert_eq!(join(right), (Changes::Insert, 0, false));
    let counted =
        "SELECT /*+ BROADCAST(c) */ b.auction, c.n FROM bid b JOIN (SELECT k, COUNT(*) AS n FROM cities GROUP BY k) c
                   ON b.auction = c.k";
    assert_eq!(join(counted), (Changes::Insert, 1, true));
    let updated =
        "SELECT /*+ BROADCAST(c) */ b.n, c.city FROM (SELECT auction, COUNT(*) AS n FROM bid GROUP BY auction) b
                   LEFT JOIN cities c ON b.auction = c.k";
    assert_eq!(join(updated), (Changes::Retract, 1, false));
    let sub = "SELECT auction FROM bid WHERE auction NOT IN (SELECT /*+ BROADCAST(cities) */ k FROM cities WHERE k IS NOT NULL)";
    assert_eq!(join(sub).0, Changes::Insert);
    let both = "SELECT /*+ BROADCAST(c, a) */ b.price, c.city, a.area FROM bid b, cities c, areas a WHERE b.auction = c.k AND c.k = a.k";
    assert_eq!(plan(&with(both)).dataflow.nodes.iter().filter(|n| n.label.starts_with("BroadcastJoin")).count(), 2);
}

#[test]
fn in_batch_mode_the_hint_changes_nothing() {
    let planned = plan(&with(
        "SET 'execution.runtime-mode' = 'batch';
         SELECT /*+ BROADCAST(a) */ c.city, a.area FROM cities c JOIN areas a ON c.k = a.k",
    ));
    assert!(!format!("{}", planned.statements[0].logical.display_indent()).contains("Broadcast"));
}

#[test]
fn a_hint_that_cannot_be_followed_says_so() {
    let refused = |sql: &str, expected: &str| refused(&with(sql), expected);
    refused(
        "SELECT /*+ BROADCAST(b) */ b.auction FROM cities c JOIN bid b ON b.auction = c.k",
        "
BROADCAST(b): `bid` never ends, and the other side would wait for its end
  at q.sql:4:1
  help: take the hint out; a table that changes is joined FOR SYSTEM_TIME AS OF a time",
    );
    refused(
        "SELECT /*+ BROADCAST(city) */ b.auction FROM bid b JOIN cities c ON b.auction = c.k",
        "
BROADCAST(city): FROM has no table of this name
  at q.sql:4:1
  help: name a table in the FROM of the same SELECT, by its alias where it has one",
    );
    refused(
        "SELECT /*+ BROADCAST(area) */ b.auction FROM bid b JOIN areas ON b.auction = k",
        "
BROADCAST(area): FROM has no table of this name
  at q.sql:4:1
  help: did you mean `areas`?",
    );
    for (join, remedy) in [
        ("cities c LEFT JOIN bid b", "LEFT"),
        ("bid b RIGHT JOIN cities c", "RIGHT"),
        ("bid b FULL JOIN cities c", "FULL"),
    ] {
        refused(
            &format!("SELECT /*+ BROADCAST(c) */ b.auction, c.k FROM {join} ON b.auction = c.k"),
            &format!(
                "
BROADCAST(c): its own rows come out of this {remedy} JOIN, once for each task that has them
  at q.sql:4:1
  help: hint at the other side, or take the hint out"
            ),
        );
    }
    refused(
        "SELECT /*+ BROADCAST(d) */ c.k FROM cities c JOIN cities d ON c.k = d.k",
        "
BROADCAST(d): the other side waits for the end of `cities`, which waits for the other side
  at q.sql:4:1
  help: take the hint out",
    );
    refused(
        "CREATE VIEW one AS SELECT /*+ BROADCAST(c) */ a.k, c.city FROM areas a JOIN cities c ON a.k = c.k;
         CREATE VIEW two AS SELECT /*+ BROADCAST(a) */ c.k, a.area AS city FROM cities c JOIN areas a ON a.k = c.k;
         SELECT * FROM one UNION ALL SELECT * FROM two",
        "
BROADCAST(a): the other side waits for the end of `areas`, which waits for the other side
  at q.sql:6:10
  help: take the hint out",
    );
    refused(
        "SELECT /*+ BROADCAST(c) */ c.k FROM cities c",
        "
BROADCAST(c): nothing is joined to it by its rows alone
  at q.sql:4:1
  help: take the hint out",
    );
    refused(
        "SELECT /*+ BROADCAST(a, c) */ c.k FROM cities c JOIN areas a ON c.k = a.k",
        "
BROADCAST(a): both sides of its join are hinted
  at q.sql:4:1
  help: hint at the smaller one alone",
    );
    refused(
        "SELECT /*+ BROADCAST(c) */ b.auction FROM bid b JOIN cities c ON b.auction = c.k
           AND b.ts BETWEEN c.since - INTERVAL '1' MINUTE AND c.since",
        "
BROADCAST(c): an interval join forgets its rows by itself
  at q.sql:4:1
  help: take the hint out",
    );
    refused(
        "SELECT b.auction FROM bid b JOIN cities /*+ BROADCAST(c) */ c ON b.auction = c.k",
        "
the hint BROADCAST has to stand behind SELECT
  at q.sql:4:41
  help: write SELECT /*+ BROADCAST(t) */ .. FROM s JOIN t ON ..",
    );
}
