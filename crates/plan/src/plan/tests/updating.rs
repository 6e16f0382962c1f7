//! Joins and results that are updated: what each construct becomes.

use super::{check, plan, refused};
use crate::explain;

#[test]
fn a_condition_decides_what_kind_of_join_it_is() {
    check(
        "SELECT b.auction, a.seller FROM bid b JOIN auction a ON b.auction = a.id WHERE b.price > 3 AND a.category = 10",
        "
Sink(result)
└─ Calc(auction, seller)
   └─ Join(inner on auction = id)
      ├─ hash(auction) ─ Calc(auction WHERE price > 3)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id, seller WHERE category = 10)
         └─ Source(auction)
               reads id, seller, category, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction, a.seller FROM bid b LEFT JOIN auction a ON b.auction = a.id AND b.price > a.reserve",
        "
Sink(result)
└─ Calc(auction, seller)
      │ changes +I -U +U -D
   └─ Join(left on auction = id AND price > reserve)
         │ changes +I -U +U -D
      ├─ hash(auction) ─ Calc(auction, price)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id, seller, reserve)
         └─ Source(auction)
               reads id, seller, reserve, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction, a.seller FROM bid b, auction a WHERE b.auction = a.id AND b.ts BETWEEN a.ts AND a.expires",
        "
Sink(result)
└─ Calc(auction, seller)
   └─ Join(inner on auction = id AND ts >= ts AND ts <= expires)
      ├─ hash(auction) ─ Source(bid)
      │     reads auction, ts
      │     watermark ts - 4000 ms
      └─ hash(id) ─ Source(auction)
            reads id, seller, ts, expires
            watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction, a.seller, b.ts FROM bid b JOIN auction a ON b.auction = a.id AND b.ts BETWEEN a.ts - INTERVAL '1' MINUTE AND a.ts + INTERVAL '5' SECOND",
        "
Sink(result)
└─ Calc(auction, seller, ts)
   └─ IntervalJoin(inner on auction = id, ts - ts in -60000 .. 5000 ms)
      ├─ hash(auction) ─ Source(bid)
      │     reads auction, ts
      │     watermark ts - 4000 ms
      └─ hash(id) ─ Source(auction)
            reads id, seller, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction, a.seller FROM bid b FULL JOIN auction a ON b.auction = a.id AND a.ts > b.ts - INTERVAL '10' SECOND AND a.ts <= b.ts",
        "
Sink(result)
└─ Calc(auction, seller)
   └─ IntervalJoin(full on auction = id, ts - ts in 0 .. 9999 ms)
      ├─ hash(auction) ─ Source(bid)
      │     reads auction, ts
      │     watermark ts - 4000 ms
      └─ hash(id) ─ Source(auction)
            reads id, seller, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT l.auction, l.n, r.m FROM (SELECT auction, count(*) AS n, window_start, window_end FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end) l JOIN (SELECT max(price) AS m, window_start, window_end FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end) r ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.n >= r.m",
        "
Sink(result)
└─ Calc(auction, n, m)
   └─ WindowJoin(inner on window_start = window_start AND window_end = window_end AND n >= m)
      ├─ hash(window_start, window_end) ─ Calc(auction, count(*) AS n, window_start, window_end)
      │  └─ WindowAggregate(TUMBLE 10 s, by auction: count(*))
      │     └─ hash(auction) ─ Calc(auction, ts)
      │        └─ [1] Source(bid)
      │              reads auction, price, ts
      │              watermark ts - 4000 ms
      └─ hash(window_start, window_end) ─ Calc(max(price) AS m, window_start, window_end)
         └─ WindowAggregate(TUMBLE 10 s: max(price))
            └─ single ─ Calc(price, ts)
               └─ [1]",
    );
    check(
        "SELECT b.auction, p.name FROM bid b JOIN person FOR SYSTEM_TIME AS OF b.ts AS p ON b.bidder = p.id",
        "
Sink(result)
└─ Calc(auction, name)
   └─ TemporalJoin(inner on bidder as of ts)
      ├─ hash(bidder) ─ Source(bid)
      │     reads auction, bidder, ts, $order
      │     watermark ts - 4000 ms
      └─ hash(id) ─ Source(person)
            reads id, name, ts, $order
            watermark ts - 0 ms",
    );
    check(
        "SELECT b.auction, p.name FROM bid b LEFT JOIN person FOR SYSTEM_TIME AS OF b.ts AS p ON b.bidder = p.id AND b.price > 3",
        "
Sink(result)
└─ Calc(auction, name)
   └─ TemporalJoin(left on bidder as of ts AND price > 3)
      ├─ hash(bidder) ─ Source(bid)
      │     reads auction, bidder, price, ts, $order
      │     watermark ts - 4000 ms
      └─ hash(id) ─ Source(person)
            reads id, name, ts, $order
            watermark ts - 0 ms",
    );
    check(
        "CREATE TEMPORARY VIEW v AS SELECT auction, price, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY ts DESC) AS rn FROM bid) WHERE rn = 1; SELECT a.id, v.price FROM auction a LEFT JOIN v FOR SYSTEM_TIME AS OF a.ts ON a.id = v.auction",
        "
Sink(result)
└─ Calc(id, price)
   └─ TemporalJoin(left on id as of ts)
      ├─ hash(id) ─ Source(auction)
      │     reads id, ts, $order
      │     watermark ts - 4000 ms
      └─ hash(auction) ─ Source(bid)
            reads auction, price, ts, $order
            watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction, a.seller FROM bid b JOIN auction a ON b.auction = a.id AND b.price > a.reserve JOIN person p ON a.seller = p.id",
        "
Sink(result)
└─ Calc(auction, seller)
   └─ Join(inner on seller = id)
      ├─ hash(seller) ─ Calc(auction, seller)
      │  └─ Join(inner on auction = id AND price > reserve)
      │     ├─ hash(auction) ─ Calc(auction, price)
      │     │  └─ Source(bid)
      │     │        reads auction, price, ts
      │     │        watermark ts - 4000 ms
      │     └─ hash(id) ─ Calc(id, seller, reserve)
      │        └─ Source(auction)
      │              reads id, seller, reserve, ts
      │              watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id)
         └─ Source(person)
               reads id, ts
               watermark ts - 0 ms",
    );
}

#[test]
fn subqueries_in_conditions_are_joins() {
    check(
        "SELECT b.auction FROM bid b WHERE b.auction IN (SELECT id FROM auction WHERE category = 3)",
        "
Sink(result)
└─ Join(semi on auction = id)
   ├─ hash(auction) ─ Calc(auction)
   │  └─ Source(bid)
   │        reads auction, ts
   │        watermark ts - 4000 ms
   └─ hash(id) ─ Calc(id WHERE category = 3)
      └─ Source(auction)
            reads id, category, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction FROM bid b WHERE EXISTS (SELECT 1 FROM auction a WHERE a.id = b.auction AND a.reserve < b.price)",
        "
Sink(result)
└─ Calc(auction)
   └─ Join(semi on auction = id AND reserve < price)
      ├─ hash(auction) ─ Calc(auction, price)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id, reserve)
         └─ Source(auction)
               reads id, reserve, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction FROM bid b WHERE b.auction NOT IN (SELECT id FROM auction)",
        "
Sink(result)
└─ Calc(auction WHERE NOT mark)
      │ changes +I -U +U -D
   └─ Join(mark on every row)
         │ changes +I -U +U -D
      ├─ single ─ Calc(auction WHERE auction IS NOT NULL OR NOT mark)
      │     │ changes +I -U +U -D
      │  └─ Join(mark on every row)
      │        │ changes +I -U +U -D
      │     ├─ single ─ Join(anti on auction = id)
      │     │     │ changes +I -U +U -D
      │     │  ├─ hash(auction) ─ Calc(auction)
      │     │  │  └─ Source(bid)
      │     │  │        reads auction, ts
      │     │  │        watermark ts - 4000 ms
      │     │  └─ hash(id) ─ Calc(id)
      │     │     └─ [1] Source(auction)
      │     │           reads id, ts
      │     │           watermark ts - 4000 ms
      │     └─ single ─ GroupAggregate(by some)
      │        └─ hash(some) ─ Calc(true AS some)
      │           └─ [1]
      └─ single ─ GroupAggregate(by some)
         └─ hash(some) ─ Calc(true AS some WHERE id IS NULL)
            └─ [1]",
    );
    check(
        "SELECT b.auction FROM bid b WHERE NOT EXISTS (SELECT 1 FROM auction a WHERE a.id = b.auction)",
        "
Sink(result)
└─ Join(anti on auction = id)
      │ changes +I -U +U -D
   ├─ hash(auction) ─ Calc(auction)
   │  └─ Source(bid)
   │        reads auction, ts
   │        watermark ts - 4000 ms
   └─ hash(id) ─ Calc(id)
      └─ Source(auction)
            reads id, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT auction FROM bid INTERSECT SELECT id FROM auction",
        "
Sink(result)
└─ Join(semi on auction = id)
   ├─ hash(auction) ─ GroupAggregate(by auction)
   │  └─ hash(auction) ─ Calc(auction)
   │     └─ Source(bid)
   │           reads auction, ts
   │           watermark ts - 4000 ms
   └─ hash(id) ─ Calc(id)
      └─ Source(auction)
            reads id, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT auction FROM bid EXCEPT SELECT id FROM auction",
        "
Sink(result)
└─ Join(anti on auction = id)
      │ changes +I -U +U -D
   ├─ hash(auction) ─ GroupAggregate(by auction)
   │  └─ hash(auction) ─ Calc(auction)
   │     └─ Source(bid)
   │           reads auction, ts
   │           watermark ts - 4000 ms
   └─ hash(id) ─ Calc(id)
      └─ Source(auction)
            reads id, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT auction FROM bid WHERE price = (SELECT max(price) FROM bid)",
        "
Sink(result)
└─ Calc(auction)
      │ changes +I -U +U -D
   └─ Join(inner on price = max(price))
         │ changes +I -U +U -D
      ├─ hash(price) ─ Calc(auction, price)
      │  └─ [1] Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ hash(max(price)) ─ GroupAggregate(max(price))
            │ changes +I -U +U -D
         └─ single ─ Calc(price)
            └─ [1]",
    );
    check(
        "SELECT auction, price FROM bid b WHERE price = (SELECT max(reserve) FROM auction a WHERE a.id = b.auction)",
        "
Sink(result)
└─ Calc(auction, price)
      │ changes +I -U +U -D
   └─ Join(inner on auction = id AND price = max(a.reserve))
         │ changes +I -U +U -D
      ├─ hash(auction, price) ─ Calc(auction, price)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ hash(id, max(a.reserve)) ─ Calc(max(reserve) AS max(a.reserve), id)
            │ changes +I -U +U -D
         └─ GroupAggregate(by id, true: max(reserve))
               │ changes +I -U +U -D
            └─ hash(id, true) ─ Calc(id, true, reserve)
               └─ Source(auction)
                     reads id, reserve, ts
                     watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction, t.m FROM bid b, LATERAL (SELECT max(reserve) AS m FROM auction a WHERE a.id = b.auction) AS t",
        "
Sink(result)
└─ Calc(auction, m)
      │ changes +I -U +U -D
   └─ Join(left on auction = id)
         │ changes +I -U +U -D
      ├─ hash(auction) ─ Calc(auction)
      │  └─ Source(bid)
      │        reads auction, ts
      │        watermark ts - 4000 ms
      └─ hash(id) ─ Calc(max(reserve) AS m, id)
            │ changes +I -U +U -D
         └─ GroupAggregate(by id, true: max(reserve))
               │ changes +I -U +U -D
            └─ hash(id, true) ─ Calc(id, true, reserve)
               └─ Source(auction)
                     reads id, reserve, ts
                     watermark ts - 4000 ms",
    );
}

#[test]
fn an_aggregate_without_a_window_is_updated() {
    check(
        "SELECT auction, count(*) AS n, sum(price) FROM bid GROUP BY auction HAVING count(*) > 3",
        "
Sink(result)
└─ Calc(auction, count(*) AS n, sum(price) WHERE count(*) > 3)
      │ changes +I -U +U -D
   └─ GroupAggregate(by auction: count(*), sum(price))
         │ changes +I -U +U -D
      └─ hash(auction) ─ Calc(auction, price)
         └─ Source(bid)
               reads auction, price, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT count(DISTINCT bidder) FROM bid",
        "
Sink(result)
└─ GroupAggregate(count(DISTINCT bidder))
      │ changes +I -U +U -D
   └─ single ─ Calc(bidder)
      └─ Source(bid)
            reads bidder, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT category, avg(m) FROM (SELECT max(b.price) AS m, a.category FROM auction a, bid b WHERE a.id = b.auction AND b.ts BETWEEN a.ts AND a.expires GROUP BY a.id, a.category) GROUP BY category",
        "
Sink(result)
└─ Calc(category, avg(max(price)) AS avg(m))
      │ changes +I -U +U -D
   └─ GroupAggregate(by category: avg(max(price)))
         │ changes +I -U +U -D
      └─ hash(category) ─ Calc(category, max(price) AS m)
            │ changes +I -U +U -D
         └─ GroupAggregate(by id, category: max(price))
               │ changes +I -U +U -D
            └─ hash(id, category) ─ Calc(id, category, price)
               └─ Join(inner on id = auction AND ts >= ts AND ts <= expires)
                  ├─ hash(id) ─ Source(auction)
                  │     reads id, category, ts, expires
                  │     watermark ts - 4000 ms
                  └─ hash(auction) ─ Source(bid)
                        reads auction, price, ts
                        watermark ts - 4000 ms",
    );
    check(
        "SELECT DISTINCT auction FROM bid",
        "
Sink(result)
└─ GroupAggregate(by auction)
   └─ hash(auction) ─ Calc(auction)
      └─ Source(bid)
            reads auction, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT auction FROM bid UNION SELECT id FROM auction",
        "
Sink(result)
└─ GroupAggregate(by auction)
   └─ hash(auction) ─ Union
      ├─ Calc(auction)
      │  └─ Source(bid)
      │        reads auction, ts
      │        watermark ts - 4000 ms
      └─ Calc(id AS auction)
         └─ Source(auction)
               reads id, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, channel, count(*) FROM bid GROUP BY GROUPING SETS ((auction), (channel), ())",
        "
Sink(result)
└─ Calc(auction, channel, count(*))
      │ changes +I -U +U -D
   └─ GroupAggregate(by auction, channel, $grouping: count(*))
         │ changes +I -U +U -D
      └─ hash(auction, channel, $grouping) ─ Expand(3 grouping sets)
         └─ Calc(auction, channel)
            └─ Source(bid)
                  reads auction, channel, ts
                  watermark ts - 4000 ms",
    );
}

#[test]
fn set_operations_with_all_count_rows() {
    check(
        "SELECT auction FROM bid EXCEPT ALL SELECT id FROM auction",
        "
Sink(result)
└─ Calc(auction)
      │ changes +I -U +U -D
   └─ Unnest($copies)
         │ changes +I -U +U -D
      └─ Calc(auction, sum($left) - sum($right) AS $copies WHERE sum($right) < sum($left))
            │ changes +I -U +U -D
         └─ GroupAggregate(by auction: sum($left), sum($right))
               │ changes +I -U +U -D
            └─ hash(auction) ─ Union
               ├─ Calc(auction, 1 AS $left, 0 AS $right)
               │  └─ Source(bid)
               │        reads auction, ts
               │        watermark ts - 4000 ms
               └─ Calc(id AS auction, 0 AS $left, 1 AS $right)
                  └─ Source(auction)
                        reads id, ts
                        watermark ts - 4000 ms",
    );
    refused(
        "SELECT auction FROM bid INTERSECT ALL SELECT id, ts FROM auction",
        "
INTERSECT ALL takes as many columns of each side: 1 and 2
  at q.sql:1:39
  help: name the same columns, in the same order, in both SELECTs",
    );
}

#[test]
fn subqueries_as_values_are_marks() {
    check(
        "SELECT auction FROM bid b WHERE price > 3 OR EXISTS (SELECT 1 FROM auction a WHERE a.id = b.auction)",
        "
Sink(result)
└─ Calc(auction WHERE price > 3 OR mark)
      │ changes +I -U +U -D
   └─ Join(mark on auction = id)
         │ changes +I -U +U -D
      ├─ hash(auction) ─ Calc(auction, price)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id)
         └─ Source(auction)
               reads id, ts
               watermark ts - 4000 ms",
    );
    // Where NULL does no more than FALSE, one mark suffices.
    check(
        "SELECT auction FROM bid WHERE price > 3 OR auction IN (SELECT id FROM auction)",
        "
Sink(result)
└─ Calc(auction WHERE price > 3 OR mark)
      │ changes +I -U +U -D
   └─ Join(mark on auction = id)
         │ changes +I -U +U -D
      ├─ hash(auction) ─ Calc(auction, price)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id)
         └─ Source(auction)
               reads id, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction FROM bid b WHERE (b.auction, b.price) IN (SELECT id, reserve FROM auction)",
        "
Sink(result)
└─ Calc(auction)
   └─ Join(semi on auction = $c0 AND price = $c1)
      ├─ hash(auction, price) ─ Calc(auction, price)
      │  └─ Source(bid)
      │        reads auction, price, ts
      │        watermark ts - 4000 ms
      └─ hash($c0, $c1) ─ Calc(id AS $c0, reserve AS $c1)
         └─ Source(auction)
               reads id, reserve, ts
               watermark ts - 4000 ms",
    );
}

#[test]
fn the_first_rows_in_an_order() {
    check(
        "SELECT auction, price FROM (SELECT auction, price, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rn FROM bid) WHERE rn <= 3",
        "
Sink(result)
└─ Calc(auction, price)
      │ changes +I -U +U -D
   └─ TopN(row_number <= 3, by auction, order price DESC)
         │ changes +I -U +U -D
      └─ hash(auction) ─ Calc(auction, price, $order)
         └─ Source(bid)
               reads auction, price, ts, $order
               watermark ts - 4000 ms",
    );
    check(
        "SELECT * FROM (SELECT auction, price, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, bidder) AS rn FROM bid) WHERE rn <= 3",
        "
Sink(result)
└─ Calc(auction, price, CAST(row_number AS UInt64) AS rn)
      │ changes +I -U +U -D
   └─ TopN(row_number <= 3, by auction, order price DESC, bidder)
         │ changes +I -U +U -D
      └─ hash(auction) ─ Calc(auction, bidder, price, $order)
         └─ Source(bid)
               reads auction, bidder, price, ts, $order
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, bidder, price, ts FROM (SELECT auction, bidder, price, ts, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY ts DESC) AS rn FROM bid) WHERE rn = 1",
        "
Sink(result)
└─ Calc(auction, bidder, price, ts)
      │ changes +I -U +U -D
   └─ Deduplicate(last by ts, by bidder, auction)
         │ changes +I -U +U -D
      └─ hash(bidder, auction) ─ Source(bid)
            reads auction, bidder, price, ts, $order
            watermark ts - 4000 ms",
    );
    check(
        "SELECT * FROM (SELECT auction, ts, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY ts) AS rn FROM bid) WHERE rn = 1",
        "
Sink(result)
└─ Calc(auction, ts, 1 AS rn)
   └─ Deduplicate(first by ts, by auction)
      └─ hash(auction) ─ Source(bid)
            reads auction, ts, $order
            watermark ts - 4000 ms",
    );
    check(
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC) AS rn FROM (SELECT auction, window_start, window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY auction, window_start, window_end)) WHERE rn <= 3",
        "
Sink(result)
└─ Calc(auction, window_start, window_end, n, CAST(row_number AS UInt64) AS rn)
   └─ WindowTopN(row_number <= 3, by window_start, window_end, order n DESC)
      └─ hash(window_start, window_end) ─ Calc(auction, window_start, window_end, count(*) AS n)
         └─ WindowAggregate(TUMBLE 10 min, by auction: count(*))
            └─ hash(auction) ─ Source(bid)
                  reads auction, ts
                  watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, price FROM bid ORDER BY price DESC, auction LIMIT 10",
        "
Sink(result)
└─ Calc(auction, price)
      │ changes +I -U +U -D
   └─ TopN(row_number <= 10, order price DESC, auction)
         │ changes +I -U +U -D
      └─ single ─ Calc(auction, price, $order)
         └─ Source(bid)
               reads auction, price, ts, $order
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction FROM bid ORDER BY price LIMIT 5 OFFSET 2",
        "
Sink(result)
└─ Calc(auction)
      │ changes +I -U +U -D
   └─ TopN(row_number 3 .. 7, order price)
         │ changes +I -U +U -D
      └─ single ─ Calc(auction, price, $order)
         └─ Source(bid)
               reads auction, price, ts, $order
               watermark ts - 4000 ms",
    );
}

#[test]
fn a_table_says_which_changes_it_takes() {
    check(
        "INSERT INTO upserts SELECT auction, count(*) FROM bid GROUP BY auction",
        "
Sink(upserts)
└─ Calc(auction, count(*) AS n)
      │ changes +I +U -D
   └─ GroupAggregate(by auction: count(*))
         │ changes +I +U -D
      └─ hash(auction) ─ Calc(auction)
         └─ Source(bid)
               reads auction, ts
               watermark ts - 4000 ms",
    );
    check(
        "INSERT INTO upserts SELECT auction, count(*) FROM bid GROUP BY auction HAVING count(*) > 2",
        "
Sink(upserts)
└─ Calc(auction, count(*) AS n WHERE count(*) > 2)
      │ changes +I -U +U -D
   └─ GroupAggregate(by auction: count(*))
         │ changes +I -U +U -D
      └─ hash(auction) ─ Calc(auction)
         └─ Source(bid)
               reads auction, ts
               watermark ts - 4000 ms",
    );
    refused(
        "INSERT INTO big SELECT auction, count(*) FROM bid GROUP BY auction",
        "
the result is updated while rows come, and `big` ('x') can only add rows
  at tables.sql:7:1
  help: write to a table with a PRIMARY KEY that takes updates ('jdbc', 'delta'), or aggregate by windows, whose results are final; a plain SELECT and 'print' show the changes",
    );
    check(
        "INSERT INTO upserts SELECT n, auction FROM (SELECT auction, count(*) AS n FROM bid GROUP BY auction)",
        "
Sink(upserts)
└─ UpsertMaterialize(by auction)
      │ changes +I +U -D
   └─ hash(auction) ─ Calc(count(*) AS auction, auction AS n)
         │ changes +I -U +U -D
      └─ GroupAggregate(by auction: count(*))
            │ changes +I -U +U -D
         └─ hash(auction) ─ Calc(auction)
            └─ Source(bid)
                  reads auction, ts
                  watermark ts - 4000 ms",
    );
}

/// An auction moves from task to task with its number of bids: what it was may come behind what it has become.
#[test]
fn a_key_whose_rows_move_between_tasks_is_put_in_order() {
    check(
        "INSERT INTO upserts SELECT auction, n FROM (SELECT auction, n, ROW_NUMBER() OVER (PARTITION BY n ORDER BY auction) AS rn FROM (SELECT auction, count(*) AS n FROM bid GROUP BY auction)) WHERE rn <= 3",
        "
Sink(upserts)
└─ UpsertMaterialize(by auction)
      │ changes +I +U -D
   └─ hash(auction) ─ Calc(auction, count(*) AS n)
         │ changes +I -U +U -D
      └─ TopN(row_number <= 3, by count(*), order auction)
            │ changes +I -U +U -D
         └─ hash(count(*)) ─ GroupAggregate(by auction: count(*))
               │ changes +I -U +U -D
            └─ hash(auction) ─ Calc(auction)
               └─ Source(bid)
                     reads auction, ts
                     watermark ts - 4000 ms",
    );
    check(
        "INSERT INTO upserts SELECT auction, n FROM (SELECT auction, n, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY n) AS rn FROM (SELECT auction, bidder, count(*) AS n FROM bid GROUP BY auction, bidder)) WHERE rn = 1",
        "
Sink(upserts)
└─ TopN(row_number <= 1, by auction, order n)
      │ changes +I -U +U -D
   └─ hash(auction) ─ Calc(auction, count(*) AS n)
         │ changes +I -U +U -D
      └─ GroupAggregate(by auction, bidder: count(*))
            │ changes +I -U +U -D
         └─ hash(auction, bidder) ─ Calc(auction, bidder)
            └─ Source(bid)
                  reads auction, bidder, ts
                  watermark ts - 4000 ms",
    );
}

/// A filter over versions waits until one has been chosen: one that does not pass still ends the one before it.
#[test]
fn no_filter_goes_below_versions() {
    check(
        "SELECT b.auction FROM bid b JOIN person FOR SYSTEM_TIME AS OF b.ts AS p ON b.bidder = p.id WHERE p.name = 'ann'",
        "
Sink(result)
└─ Calc(auction)
   └─ TemporalJoin(inner on bidder as of ts AND filter)
      ├─ hash(bidder) ─ Source(bid)
      │     reads auction, bidder, ts, $order
      │     watermark ts - 4000 ms
      └─ hash(id) ─ Calc(id, $order, ts, name = ann AS filter)
         └─ Source(person)
               reads id, name, ts, $order
               watermark ts - 0 ms",
    );
}

#[test]
fn what_a_join_cannot_do_says_so() {
    refused(
        "SELECT b.auction FROM bid b JOIN auction FOR SYSTEM_TIME AS OF b.ts AS a ON b.auction = a.id",
        "
FOR SYSTEM_TIME AS OF: ON does not compare the primary key of the versioned table
  at q.sql:1:34
  help: declare PRIMARY KEY (..) NOT ENFORCED on it, or keep the last row of each key with ROW_NUMBER() OVER (PARTITION BY key ORDER BY time DESC) = 1, and compare the key in ON",
    );
    refused(
        "SELECT b.auction FROM bid b JOIN person FOR SYSTEM_TIME AS OF b.ts AS p ON b.auction = p.id + 1",
        "
FOR SYSTEM_TIME AS OF: ON does not compare the primary key of the versioned table
  at q.sql:1:34
  help: declare PRIMARY KEY (..) NOT ENFORCED on it, or keep the last row of each key with ROW_NUMBER() OVER (PARTITION BY key ORDER BY time DESC) = 1, and compare the key in ON",
    );
    refused(
        "SELECT b.auction FROM bid b JOIN plain FOR SYSTEM_TIME AS OF b.ts AS p ON b.channel = p.k",
        "
the table on the right of FOR SYSTEM_TIME AS OF, or of ASOF JOIN, has no time attribute
  at q.sql:1:34
  help: declare a WATERMARK on it, and keep the column in the view over it",
    );
    refused(
        "SELECT id FROM person FOR SYSTEM_TIME AS OF ts AS p",
        "
FOR SYSTEM_TIME AS OF stands behind a table that nothing is joined to
  at q.sql:1:16
  help: write FROM left JOIN versions FOR SYSTEM_TIME AS OF left.time AS v ON left.key = v.key",
    );
    refused(
        "SELECT b.auction FROM bid b CROSS JOIN person FOR SYSTEM_TIME AS OF b.ts AS p",
        "
FOR SYSTEM_TIME AS OF takes JOIN or LEFT JOIN with ON
  at q.sql:1:40
  help: write left JOIN v FOR SYSTEM_TIME AS OF left.time ON left.key = v.key",
    );
    refused(
        "SELECT SUM(n) OVER (ORDER BY ts) FROM (SELECT auction, max(ts) AS ts, count(*) AS n FROM bid GROUP BY auction)",
        "
OVER takes rows that stay as they are, and its input is a result that is updated
  at q.sql:1:1
  help: aggregate, join or deduplicate it by windows, so that each row comes once",
    );
    refused(
        "SELECT median(n) FROM (SELECT count(*) AS n FROM bid GROUP BY auction)",
        "
MEDIAN cannot take rows back, and its input is a result that is updated
  at q.sql:1:8
  help: use COUNT, SUM, AVG, MIN, MAX, VAR_POP or STDDEV_POP, or aggregate the rows themselves",
    );
    refused(
        "SET 'table.exec.emit.allow-lateness' = '1 h'; SELECT max(n) FROM (SELECT auction, count(*) AS n FROM TABLE(TUMBLE(TABLE \
         bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY auction, window_start, window_end)",
        "
an aggregation needs to see what an update replaces, and windows with allowed lateness say only what replaces it
  at q.sql:1:47
  help: SET 'table.exec.emit.allow-lateness' = '0 ms', or write the windows to a table of their own",
    );
    refused(
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price) rn FROM bid) WHERE rn <= 0",
        "
no row has such a rank
  at q.sql:1:1
  help: compare the rank with a whole number from 1",
    );
    refused(
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price) rn FROM bid) WHERE rn <= 3000000",
        "
Top-N keeps 3000000 rows of each key in memory
  at q.sql:1:1
  help: ask for at most 1000000",
    );
}

/// A join of what is updated works by its own columns: a row of the table may go under one value of them and come under another,
/// and whoever writes the table may hear of it in any order.
#[test]
fn rows_that_change_the_join_they_are_in_are_put_in_order_for_a_table() {
    const COUNTS: &str = "(SELECT bidder, count(*) AS n FROM bid GROUP BY bidder)";
    let put_in_order = |sql: &str| explain::text(&plan(sql).dataflow).contains("UpsertMaterialize(by auction)");
    // The highest bidder of an auction changes.
    let last = "(SELECT auction, max(bidder) AS b FROM bid GROUP BY auction)";
    let joined = format!("INSERT INTO upserts SELECT l.auction, r.n FROM {last} l JOIN {COUNTS} r ON l.b = r.bidder");
    assert!(put_in_order(&joined));
    assert!(put_in_order(&joined.replace(" JOIN ", " LEFT JOIN ")));
    // Rows that stay, and a join by the key itself.
    let stays = format!(
        "INSERT INTO upserts SELECT l.auction, r.n FROM (SELECT DISTINCT auction FROM bid) l JOIN {COUNTS} r ON l.auction = r.bidder"
    );
    assert!(!put_in_order(&stays));
    let by_key =
        format!("INSERT INTO upserts SELECT l.auction, r.n FROM {last} l JOIN {COUNTS} r ON l.auction = r.bidder");
    assert!(!put_in_order(&by_key));
    // A ranking among the rows of the highest bidder, by the auction.
    let first = format!(
        "INSERT INTO upserts SELECT auction, b FROM (SELECT auction, b, ROW_NUMBER() OVER (PARTITION BY b ORDER BY auction) AS r \
         FROM {last}) WHERE r <= 3"
    );
    assert!(put_in_order(&first));
}
