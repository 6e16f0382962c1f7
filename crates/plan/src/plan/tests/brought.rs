//! Tables that bring changes.

use super::*;

const DECLARED: &str = "
CREATE TABLE orders (id BIGINT, shop STRING, amount BIGINT NOT NULL, ts TIMESTAMP(3), told TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector' = 'changes');
CREATE TABLE keyed (id BIGINT, shop STRING, amount BIGINT NOT NULL, ts TIMESTAMP(3), told TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  WATERMARK FOR ts AS ts, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'changes');
CREATE TABLE topic (amount BIGINT NOT NULL, id BIGINT, ts TIMESTAMP(3), twice AS amount * 2,
  WATERMARK FOR ts AS ts, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'upserts');
";

/// The script of what is declared here, then this.
fn with(sql: &str) -> String {
    format!("{DECLARED}{sql}")
}

#[test]
fn a_table_says_which_changes_it_brings() {
    check(
        &with("SELECT shop, SUM(amount) AS total FROM orders GROUP BY shop"),
        "
Sink(result)
└─ Calc(shop, sum(amount) AS total)
      │ changes +I -U +U -D
   └─ GroupAggregate(by shop: sum(amount))
         │ changes +I -U +U -D
      └─ hash(shop) ─ Calc(shop, amount)
            │ changes +I -U +U -D
         └─ Source(orders)
               changes +I -U +U -D
               reads shop, amount, ts
               watermark ts - 1000 ms",
    );
}

#[test]
fn a_table_by_key_is_remembered_by_it() {
    check(
        &with("SELECT twice, COUNT(*) AS n FROM topic GROUP BY twice"),
        "
Sink(result)
└─ Calc(twice, count(*) AS n)
      │ changes +I -U +U -D
   └─ GroupAggregate(by twice: count(*))
         │ changes +I -U +U -D
      └─ hash(twice) ─ Calc(twice)
            │ changes +I -U +U -D
         └─ ChangelogNormalize(by id)
               │ changes +I -U +U -D
            └─ hash(id) ─ Source(topic)
                  changes +I +U -D
                  reads amount, id, ts
                  computes twice AS amount * 2
                  watermark ts - 0 ms",
    );
    // Beside its key, a row that is gone has NULLs until it is remembered.
    let planned = plan(&with("SELECT amount, id FROM topic"));
    let nullable = |node: &Node| node.schema.fields().iter().map(|f| f.is_nullable()).collect::<Vec<_>>();
    let source = planned.dataflow.nodes.iter().find(|n| matches!(n.kind, NodeKind::Source(_))).expect("a source");
    let normalize =
        planned.dataflow.nodes.iter().find(|n| matches!(n.kind, NodeKind::Normalize { .. })).expect("its reader");
    assert_eq!((nullable(source), nullable(normalize)), (vec![true, false, true], vec![false, false, true]));
}

#[test]
fn who_writes_by_the_key_asks_for_no_row_before_an_update() {
    check(
        &with("INSERT INTO upserts SELECT id, amount FROM topic"),
        "
Sink(upserts)
└─ Calc(id AS auction, amount AS n)
      │ changes +I +U -D
   └─ ChangelogNormalize(by id)
         │ changes +I +U -D
      └─ hash(id) ─ Source(topic)
            changes +I +U -D
            reads amount, id, ts
            watermark ts - 0 ms",
    );
}

#[test]
fn changes_that_come_twice_are_known_by_the_key() {
    let planned = plan(&with("SET 'table.exec.source.cdc-events-duplicate' = 'true'; SELECT id, shop FROM keyed"));
    let text = explain::text(&planned.dataflow);
    assert!(text.contains("ChangelogNormalize(by id)"), "{text}");
    let NodeKind::Source(source) = &planned.dataflow.nodes[0].kind else { panic!("{text}") };
    assert_eq!(source.table.option(millstream_core::table::BY_KEY), Some("true"));
    let text = explain::text(&plan(&with("SELECT id, shop FROM keyed")).dataflow);
    assert!(!text.contains("ChangelogNormalize"), "{text}");
    let e = try_plan(&with("SET 'table.exec.source.cdc-events-duplicate' = 'true'; SELECT id FROM orders"))
        .expect_err("no key");
    assert!(e.what().contains("has no key to know them by"), "{e}");
}

/// The offset at which a row is taken back is not the one at which it was given.
#[test]
fn what_is_said_of_a_change_is_not_looked_for() {
    for fine in [
        "SELECT id, told FROM orders",
        "SELECT shop, COUNT(*) FROM (SELECT shop, told FROM orders) GROUP BY shop",
        "SELECT told, COUNT(*) FROM keyed GROUP BY told",
    ] {
        plan(&with(fine));
    }
    assert!(explain::text(&plan(&with("SELECT id, told FROM keyed")).dataflow).contains("ChangelogNormalize(by id)"));
    for refused in [
        "SELECT told, COUNT(*) FROM orders GROUP BY told",
        "SELECT id FROM orders WHERE told > TIMESTAMP '2026-01-01 00:00:00'",
        "SELECT o.told, b.price FROM orders o JOIN bid b ON o.id = b.auction",
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY shop ORDER BY amount) AS rn FROM orders) WHERE rn <= 2",
    ] {
        let e = try_plan(&with(refused)).expect_err(refused);
        assert!(e.what().contains("`told` says something of a change of `orders`"), "{refused}: {e}");
        assert!(e.help().is_some_and(|h| h.contains("PRIMARY KEY")), "{e}");
    }
}

#[test]
fn rows_that_are_taken_back_have_no_windows() {
    for sql in [
        "SELECT window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end",
        "SELECT id, SUM(amount) OVER (PARTITION BY id ORDER BY ts) FROM orders",
        "SELECT * FROM orders LIMIT 3",
        "SELECT o.id FROM orders o JOIN person FOR SYSTEM_TIME AS OF o.ts AS p ON o.id = p.id",
    ] {
        let e = try_plan(&with(sql)).expect_err(sql);
        assert!(e.what().contains("`orders` brings changes"), "{sql}: {e}");
        assert!(e.help().is_some_and(|h| h.contains("kept up to date")), "{e}");
    }
    // An aggregation makes new rows of them, or results that are updated.
    let counted = "SELECT id, COUNT(*) OVER (PARTITION BY id ORDER BY ts) FROM (SELECT id, MAX(ts) AS ts FROM orders GROUP BY id)";
    assert!(try_plan(&with(counted)).is_err());
    let e = try_plan(&with("SET 'execution.runtime-mode' = 'batch'; SELECT id FROM orders")).expect_err("batch");
    assert!(e.what().contains("`orders` brings changes, and batch mode reads rows that stay"), "{e}");
    assert!(e.place().is_some(), "{e}");
}

/// Of a row that is gone a temporal join has to know when that was said.
#[test]
fn versions_come_as_they_are_told() {
    // The time comes with the row, and of one that is gone it is that of the row as it was.
    let join = "SELECT b.price, t.amount FROM bid b JOIN topic FOR SYSTEM_TIME AS OF b.ts AS t ON b.auction = t.id";
    assert!(explain::text(&plan(&with(join)).dataflow).contains("ChangelogNormalize"));
    let join = "CREATE TABLE stamped (amount BIGINT, id BIGINT, ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', at AS CAST(ts AS TIMESTAMP(3)),
            WATERMARK FOR at AS at, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'upserts');
        SELECT b.price, t.amount FROM bid b JOIN stamped FOR SYSTEM_TIME AS OF b.ts AS t ON b.auction = t.id";
    let text = explain::text(&plan(&with(join)).dataflow);
    assert!(text.contains("TemporalJoin") && !text.contains("ChangelogNormalize"), "{text}");
    // A filter would lose the end of a row that it does not know.
    let filtered = "CREATE VIEW dear AS SELECT * FROM topic WHERE amount > 5;
        SELECT b.price, t.amount FROM bid b JOIN dear FOR SYSTEM_TIME AS OF b.ts AS t ON b.auction = t.id";
    let text = explain::text(&plan(&with(filtered)).dataflow);
    assert!(text.contains("TemporalJoin") && text.contains("ChangelogNormalize"), "{text}");
}

#[test]
fn rows_are_found_though_they_are_told_at_another_place() {
    let top = "SELECT id FROM (SELECT id, ROW_NUMBER() OVER (PARTITION BY shop ORDER BY amount) AS rn FROM orders) WHERE rn = 1";
    let order = |sql: &str| {
        let planned = plan(&with(sql));
        match &node(&planned, "TopN").kind {
            NodeKind::TopN(t) => t.order.is_some(),
            _ => false,
        }
    };
    assert!(!order(top));
    assert!(order(
        &top.replace("id", "auction").replace("orders", "bid").replace("shop", "channel").replace("amount", "price")
    ));
}

#[test]
fn who_writes_changes_is_told_what_an_update_replaces() {
    let text = explain::text(&plan(&with("CREATE TABLE told (id BIGINT, amount BIGINT) WITH ('connector' = 'changes'); INSERT INTO told SELECT id, amount FROM topic")).dataflow);
    assert!(text.contains("changes +I -U +U -D"), "{text}");
    let late = "SET 'table.exec.emit.allow-lateness' = '1 h';
        CREATE TABLE told (auction BIGINT, n BIGINT) WITH ('connector' = 'changes');
        INSERT INTO told SELECT auction, COUNT(*) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
        GROUP BY auction, window_start, window_end";
    let e = try_plan(late).expect_err("only what replaces");
    assert!(e.what().contains("has to be told what it replaces"), "{e}");
}
