//! What each construct becomes.

use super::{check, refused};

#[test]
fn filters_and_projections_are_one_calc() {
    check(
        "SELECT auction, price * 2 AS p FROM bid WHERE qty > 3",
        "
Sink(result)
└─ Calc(auction, price * 2 AS p WHERE qty > 3)
   └─ Source(bid)
         reads auction, price, qty, ts
         watermark ts - 4000 ms",
    );
    check(
        "SELECT auction AS a, bidder FROM (SELECT auction, bidder FROM bid WHERE price > 1) WHERE bidder > 2",
        "
Sink(result)
└─ Calc(auction AS a, bidder WHERE price > 1 AND bidder > 2)
   └─ Source(bid)
         reads auction, bidder, price, ts
         watermark ts - 4000 ms",
    );
    check(
        "SELECT * FROM bid",
        "
Sink(result)
└─ Source(bid)
      reads auction, bidder, price, channel, qty, ts, tags, items, info(city, zip), $proctime
      computes fee AS price * 2
      watermark ts - 4000 ms",
    );
    check(
        "SELECT info.city, tags[1], CAST(price AS DECIMAL(10,2)), EXTRACT(YEAR FROM ts), CASE WHEN price > 3 THEN 1 ELSE 0 END FROM bid",
        "
Sink(result)
└─ Calc(get_field(info, city) AS city, array_element(tags, 1) AS tags[1], CAST(price AS Decimal128(10, 2)) AS CAST(price AS DECIMAL(10,2)), extract(YEAR, ts) AS EXTRACT(YEAR FROM ts), CASE WHEN price > 3 THEN 1 ELSE 0 END)
   └─ Source(bid)
         reads price, ts, tags, info(city, zip)
         watermark ts - 4000 ms",
    );
    check(
        "SELECT price + 1, qty + 1, price * 0.908 FROM bid",
        "
Sink(result)
└─ Calc(price + 1, qty + 1, CAST(price AS Decimal128(20, 0)) * 0.908 AS price * 0.908)
   └─ Source(bid)
         reads price, qty, ts
         watermark ts - 4000 ms",
    );
}

/// To compare with constants what LOWER makes of a column costs less than to make it; all else is computed once.
#[test]
fn what_costs_is_computed_once() {
    check(
        "SELECT CASE WHEN LOWER(channel) = 'a' THEN 1 WHEN LOWER(channel) = 'b' THEN 2 END AS n FROM bid",
        "
Sink(result)
└─ Calc(CASE WHEN lower(channel) = a THEN 1 WHEN lower(channel) = b THEN 2 END AS n)
   └─ Source(bid)
         reads channel, ts
         watermark ts - 4000 ms",
    );
    check(
        "SELECT CASE WHEN UPPER(channel) = 'A' THEN 1 WHEN UPPER(channel) = 'B' THEN 2 END AS n FROM bid",
        "
Sink(result)
└─ Calc(CASE WHEN __common_expr_1 = A THEN 1 WHEN __common_expr_1 = B THEN 2 END AS n)
   └─ Calc(upper(channel) AS __common_expr_1)
      └─ Source(bid)
            reads channel, ts
            watermark ts - 4000 ms",
    );
}

#[test]
fn windows_stand_in_the_aggregate() {
    check(
        "SELECT auction, count(*) AS n, sum(price) FILTER (WHERE channel = 'a') AS s, window_end
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' MINUTE))
WHERE qty + 1 > 3 GROUP BY auction, window_start, window_end",
        "
Sink(result)
└─ Calc(auction, count(*) AS n, sum(price) FILTER (WHERE channel = a) AS s, window_end)
   └─ WindowAggregate(TUMBLE 10 min, by auction: count(*), sum(price) FILTER (WHERE channel = a))
      └─ hash(auction) ─ Calc(auction, price, channel = a AS filter, ts WHERE qty + 1 > 3)
         └─ Source(bid)
               reads auction, price, channel, qty, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, count(*) FROM HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '10' SECONDS)
GROUP BY auction, window_start, window_end HAVING count(*) > 2 AND auction > 7",
        "
Sink(result)
└─ Calc(auction, count(*) WHERE count(*) > 2)
   └─ WindowAggregate(HOP 10 s every 2 s, by auction: count(*))
      └─ hash(auction) ─ Calc(auction, ts WHERE auction > 7)
         └─ Source(bid)
               reads auction, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT sum(price) FROM CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' MINUTE, INTERVAL '10' MINUTE)
GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(sum(price))
   └─ WindowAggregate(CUMULATE 10 min by 2 min: sum(price))
      └─ single ─ Source(bid)
            reads price, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT bidder, count(DISTINCT auction) AS c, window_start
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY bidder, window_start, window_end",
        "
Sink(result)
└─ Calc(bidder, count(DISTINCT auction) AS c, window_start)
   └─ WindowAggregate(SESSION gap 10 s, by bidder: count(DISTINCT auction))
      └─ hash(bidder) ─ Source(bid)
            reads auction, bidder, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT count(*) FROM TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' HOUR, `OFFSET` => INTERVAL '5' MINUTE) AS w
GROUP BY w.window_start, w.window_end",
        "
Sink(result)
└─ Calc(count(*))
   └─ WindowAggregate(TUMBLE 1 h offset 5 min: count(*))
      └─ single ─ Source(bid)
            reads ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(at), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(count(*))
   └─ WindowAggregate(TUMBLE 1 h: count(*))
      └─ single ─ Calc(at)
         └─ Source(bid)
               reads ts, $proctime
               watermark ts - 4000 ms",
    );
}

#[test]
fn a_test_on_a_window_takes_whole_windows() {
    check(
        "SELECT window_start, count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' MINUTE)
GROUP BY window_start, window_end HAVING window_start > TIMESTAMP '2020-01-01 00:00:00'",
        "
Sink(result)
└─ Calc(window_start, count(*) WHERE window_start > 1577836800000)
   └─ WindowAggregate(TUMBLE 5 min: count(*))
      └─ single ─ Source(bid)
            reads ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT window_start, price FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' MINUTE)
WHERE price > 3 AND EXTRACT(HOUR FROM window_start) = 3",
        "
Sink(result)
└─ Calc(window_start, price WHERE extract(HOUR, window_start) = 3)
   └─ WindowRows(TUMBLE 5 min)
      └─ Calc(price, ts WHERE price > 3)
         └─ Source(bid)
               reads price, ts
               watermark ts - 4000 ms",
    );
}

#[test]
fn rows_of_a_session_are_filtered_after_it() {
    check(
        "SELECT window_start, price, bidder FROM SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '5' MINUTE)
WHERE price > 3",
        "
Sink(result)
└─ Calc(window_start, price, bidder WHERE price > 3)
   └─ WindowRows(SESSION gap 5 min, by bidder)
      └─ hash(bidder) ─ Source(bid)
            reads bidder, price, ts
            watermark ts - 4000 ms",
    );
    check(
        "SELECT channel, window_start, count(*) FROM SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(ts), INTERVAL '5' MINUTE)
GROUP BY channel, window_start, window_end",
        "
Sink(result)
└─ Calc(channel, window_start, count(*))
   └─ WindowAggregate(its window, by channel: count(*))
      └─ hash(channel) ─ Calc(channel, window_start, window_end)
         └─ WindowRows(SESSION gap 5 min, by bidder)
            └─ hash(bidder) ─ Source(bid)
                  reads bidder, channel, ts
                  watermark ts - 4000 ms",
    );
}

#[test]
fn windows_stand_on_windows() {
    check(
        "SELECT window_start, window_end, sum(n) FROM (
  SELECT window_start, window_end, auction, count(*) n FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)
  GROUP BY auction, window_start, window_end) GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(window_start, window_end, sum(count(*)) AS sum(n))
   └─ WindowAggregate(its window: sum(count(*)))
      └─ single ─ Calc(count(*) AS n, window_start, window_end)
         └─ WindowAggregate(TUMBLE 1 h, by auction: count(*))
            └─ hash(auction) ─ Source(bid)
                  reads auction, ts
                  watermark ts - 4000 ms",
    );
    check(
        "WITH h AS (SELECT window_time AS rowtime, auction, count(*) n FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)
  GROUP BY auction, window_start, window_end, window_time)
SELECT window_start, window_end, max(n) FROM TUMBLE(TABLE h, DESCRIPTOR(rowtime), INTERVAL '1' DAY) GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(window_start, window_end, max(count(*)) AS max(n))
   └─ WindowAggregate(TUMBLE 1 d: max(count(*)))
      └─ single ─ Calc(count(*) AS n, window_time AS rowtime)
         └─ WindowAggregate(TUMBLE 1 h, by auction: count(*))
            └─ hash(auction) ─ Source(bid)
                  reads auction, ts
                  watermark ts - 4000 ms",
    );
    check(
        "SELECT DATE_FORMAT(window_start, 'yyyy') AS y, count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' MINUTE)
GROUP BY window_start, window_end, DATE_FORMAT(window_start, 'yyyy')",
        "
Sink(result)
└─ Calc(date_format(window_start, yyyy) AS y, count(*))
   └─ WindowAggregate(its window, by date_format(window_start, yyyy): count(*))
      └─ hash(date_format(window_start, yyyy)) ─ Calc(date_format(window_start, yyyy), window_start, window_end)
         └─ WindowRows(TUMBLE 5 min)
            └─ Source(bid)
                  reads ts
                  watermark ts - 4000 ms",
    );
}

#[test]
fn grouping_sets_expand_rows() {
    check(
        "SELECT auction, channel, count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)
GROUP BY window_start, window_end, GROUPING SETS ((auction, channel), (auction), ())",
        "
Sink(result)
└─ Calc(auction, channel, count(*))
   └─ WindowAggregate(TUMBLE 1 h, by auction, channel, $grouping: count(*))
      └─ hash(auction, channel, $grouping) ─ Expand(3 grouping sets)
         └─ Source(bid)
               reads auction, channel, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, GROUPING(auction), count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)
GROUP BY window_start, window_end, ROLLUP (auction, channel)",
        "
Sink(result)
└─ Calc(auction, CAST($grouping & 2 >> 1 AS Int32) AS GROUPING(auction), count(*))
   └─ WindowAggregate(TUMBLE 1 h, by auction, channel, $grouping: count(*))
      └─ hash(auction, channel, $grouping) ─ Expand(3 grouping sets)
         └─ Source(bid)
               reads auction, channel, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, sum(auction) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)
GROUP BY window_start, window_end, CUBE (auction, channel)",
        "
Sink(result)
└─ Calc(auction, sum(auction))
   └─ WindowAggregate(TUMBLE 1 h, by auction, channel, $grouping: sum(auction))
      └─ hash(auction, channel, $grouping) ─ Expand(4 grouping sets)
         └─ Source(bid)
               reads auction, channel, ts
               watermark ts - 4000 ms",
    );
}

#[test]
fn what_depends_on_order_carries_it() {
    check(
        "SELECT auction, LISTAGG(channel, '|'), FIRST_VALUE(price), ARRAY_AGG(price)
FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) WHERE price > 2 GROUP BY auction, window_start, window_end",
        "
Sink(result)
└─ Calc(auction, listagg(channel, '|') AS LISTAGG(channel, '|'), first_value(price) AS FIRST_VALUE(price), array_agg(price) AS ARRAY_AGG(price))
   └─ WindowAggregate(TUMBLE 1 h, by auction: listagg(channel, '|'), first_value(price), array_agg(price))
      └─ hash(auction) ─ Calc(auction, channel, price, ts, $order WHERE price > 2)
         └─ Source(bid)
               reads auction, price, channel, ts, $order
               watermark ts - 4000 ms",
    );
}

#[test]
fn every_aggregate_of_datafusion_is_there() {
    check(
        "SELECT median(price), approx_distinct(bidder), avg(qty), sum(qty), corr(price, qty), stddev(price), count(channel),
  approx_percentile(price, 0.9), bool_and(qty > 3), count(DISTINCT auction, bidder), max(DISTINCT price)
FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(median(CAST(price AS Float64)) AS median(price), approx_distinct(bidder), avg(qty), sum(qty), corr(CAST(price AS Float64), CAST(qty AS Float64)) AS corr(price, qty), stddev_samp(price) AS stddev(price), count(channel), approx_percentile(CAST(price AS Float64), 0.9) AS approx_percentile(price, 0.9), bool_and(qty > 3), count(DISTINCT auction, bidder), max(price) AS max(DISTINCT price))
   └─ WindowAggregate(TUMBLE 1 h: median(CAST(price AS Float64)), approx_distinct(bidder), avg(qty), sum(qty), corr(CAST(price AS Float64), CAST(qty AS Float64)), stddev_samp(price), count(channel), approx_percentile(CAST(price AS Float64), 0.9), bool_and(qty > 3), count(DISTINCT auction, bidder), max(price))
      └─ single ─ Calc(CAST(price AS Float64) AS __common_expr_1, bidder, qty, CAST(qty AS Float64), price, channel, qty > 3, auction, ts)
         └─ Source(bid)
               reads auction, bidder, price, channel, qty, ts
               watermark ts - 4000 ms",
    );
}

#[test]
fn over_calls_of_the_same_keys_share_a_node() {
    check(
        "SELECT auction, price,
  SUM(price) OVER (PARTITION BY auction ORDER BY ts RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND CURRENT ROW) s,
  COUNT(*) OVER w c, ROW_NUMBER() OVER (PARTITION BY bidder ORDER BY ts) rn
FROM bid WINDOW w AS (PARTITION BY auction ORDER BY ts ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)",
        "
Sink(result)
└─ Calc(auction, price, sum(price) of the last 30 min AS s, count(*) of 9 rows before and this AS c, row_number AS rn)
   └─ Over(ts, by bidder: row_number)
      └─ hash(bidder) ─ Over(ts, by auction: sum(price) of the last 30 min, count(*) of 9 rows before and this)
         └─ hash(auction) ─ Source(bid)
               reads auction, bidder, price, ts, $order
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, LAG(price, 2) OVER (PARTITION BY auction ORDER BY ts) AS l,
  FIRST_VALUE(price) OVER (PARTITION BY auction ORDER BY ts) AS f FROM bid",
        "
Sink(result)
└─ Calc(auction, lag 2 AS l, first_value(price) so far AS f)
   └─ Over(ts, by auction: lag 2, first_value(price) so far)
      └─ hash(auction) ─ Source(bid)
            reads auction, price, ts, $order
            watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, sum(price * 2) OVER (PARTITION BY MOD(auction, 3) ORDER BY ts) AS s FROM bid WHERE price > 1",
        "
Sink(result)
└─ Calc(auction, sum(price * 2) so far AS s)
   └─ Over(ts, by mod(auction, 3): sum(price * 2) so far)
      └─ hash(mod(auction, 3)) ─ Calc(auction, price, ts, mod(auction, 3), price * 2 WHERE price > 1)
         └─ Source(bid)
               reads auction, price, ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, sum(price) OVER (PARTITION BY auction, window_start, window_end ORDER BY window_time) AS s
FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
        "
Sink(result)
└─ Calc(auction, sum(price) so far AS s)
   └─ Over(window_time, by auction, window_start, window_end: sum(price) so far)
      └─ hash(auction, window_start, window_end) ─ Calc(auction, price, window_start, window_end, window_time)
         └─ WindowRows(TUMBLE 1 h)
            └─ Source(bid)
                  reads auction, price, ts
                  watermark ts - 4000 ms",
    );
}

#[test]
fn arrays_are_unnested() {
    check(
        "SELECT auction, t.tag FROM bid CROSS JOIN UNNEST(tags) AS t (tag) WHERE t.tag <> 'x'",
        "
Sink(result)
└─ Calc(auction, tag WHERE tag != x)
   └─ Unnest(tags)
      └─ Calc(auction, tags)
         └─ Source(bid)
               reads auction, ts, tags
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, sku, n FROM bid, UNNEST(bid.items) AS i WHERE price > 3",
        "
Sink(result)
└─ Calc(auction, sku, n)
   └─ Unnest(items)
      └─ Calc(auction, price, items WHERE price > 3)
         └─ Source(bid)
               reads auction, price, ts, items
               watermark ts - 4000 ms",
    );
    check(
        "SELECT b.auction, i.o FROM bid AS b LEFT JOIN UNNEST(b.items) WITH ORDINALITY AS i (s, n, o) ON TRUE",
        "
Sink(result)
└─ Calc(auction, o)
   └─ Unnest(items)
      └─ Calc(auction, items)
         └─ Source(bid)
               reads auction, ts, items
               watermark ts - 4000 ms",
    );
}

#[test]
fn unions_keep_the_time_attribute() {
    check(
        "SELECT auction, ts FROM bid WHERE price > 1 UNION ALL SELECT bidder, ts FROM bid",
        "
Sink(result)
└─ Union
   ├─ Calc(auction, ts WHERE price > 1)
   │  └─ [1] Source(bid)
   │        reads auction, bidder, price, ts
   │        watermark ts - 4000 ms
   └─ Calc(bidder AS auction, ts)
      └─ [1]",
    );
    check(
        "SELECT window_end, count(*) FROM TUMBLE(TABLE (SELECT auction, ts FROM bid UNION ALL SELECT bidder, ts FROM bid), DESCRIPTOR(ts), INTERVAL '1' MINUTE)
GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(window_end, count(*))
   └─ WindowAggregate(TUMBLE 1 min: count(*))
      └─ single ─ Union
         ├─ [1] Source(bid)
         │     reads ts
         │     watermark ts - 4000 ms
         └─ [1]",
    );
}

#[test]
fn rows_in_the_text_are_a_source() {
    check(
        "SELECT 1, 'a'",
        "
Sink(result)
└─ Calc(1, a AS 'a')
   └─ Values(1 row)",
    );
    check(
        "SELECT k, v FROM (VALUES ('a', 1), ('b', 2)) AS t (k, v) WHERE v > 1",
        "
Sink(result)
└─ Calc(column1 AS k, column2 AS v WHERE column2 > 1)
   └─ Values(2 rows)",
    );
    check(
        "SELECT auction FROM bid LIMIT 5",
        "
Sink(result)
└─ Limit(5)
   └─ single ─ Calc(auction)
      └─ Source(bid)
            reads auction, ts
            watermark ts - 4000 ms",
    );
}

#[test]
fn views_are_planned_in_place() {
    check(
        "CREATE VIEW v (x, y) AS SELECT auction, ts FROM bid WHERE price > 10;
SELECT x, max(x) AS m, window_time FROM TUMBLE(TABLE v, DESCRIPTOR(y), INTERVAL '1' HOUR) GROUP BY x, window_start, window_end, window_time",
        "
Sink(result)
└─ Calc(x, max(auction) AS m, window_time)
   └─ WindowAggregate(TUMBLE 1 h, by x: max(auction))
      └─ hash(x) ─ Calc(auction AS x, ts AS y WHERE price > 10)
         └─ Source(bid)
               reads auction, price, ts
               watermark ts - 4000 ms",
    );
    refused(
        "CREATE VIEW x AS SELECT * FROM y; CREATE VIEW y AS SELECT * FROM x; SELECT * FROM x",
        "
view `x` stands on itself
  at q.sql:1:1
  help: name another table in its query",
    );
}

#[test]
fn sources_complete_their_rows() {
    check(
        "CREATE TABLE logs (line STRING, file STRING NOT NULL METADATA FROM 'file.path' VIRTUAL, ts AS TO_TIMESTAMP(SPLIT_INDEX(line, ',', 0)),
  n AS CHAR_LENGTH(line), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH ('connector' = 'x');
SELECT file, count(*) FROM TUMBLE(TABLE logs, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY file, window_start, window_end",
        "
Sink(result)
└─ Calc(file, count(*))
   └─ WindowAggregate(TUMBLE 1 h, by file: count(*))
      └─ hash(file) ─ Source(logs)
            reads line, file
            computes ts AS to_timestamp(split_index(line, ,, 0))
            watermark ts - 60000 ms",
    );
}

#[test]
fn statements_of_a_set_share_what_is_alike() {
    check(
        "EXECUTE STATEMENT SET BEGIN
INSERT INTO counts SELECT auction, count(*), window_end FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY auction, window_start, window_end;
INSERT INTO big SELECT auction, count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY auction, window_start, window_end HAVING count(*) > 100;
INSERT INTO big SELECT auction, price FROM bid WHERE price > 1000;
END",
        "
Sink(counts)
└─ Calc(auction, count(*) AS n, window_end)
   └─ [1] WindowAggregate(TUMBLE 1 h, by auction: count(*))
      └─ hash(auction) ─ Calc(auction, ts)
         └─ [2] Source(bid)
               reads auction, price, ts
               watermark ts - 4000 ms
Sink(big)
└─ Union
   ├─ Calc(auction, count(*) AS n WHERE count(*) > 100)
   │  └─ [1]
   └─ Calc(auction, price AS n WHERE price > 1000)
      └─ [2]",
    );
}

#[test]
fn names_that_repeat_get_a_digit() {
    check(
        "SELECT 1, 1, auction, auction, price AS auction FROM bid",
        "
Sink(result)
└─ Calc(1, 1 AS 1 (2), auction, auction AS auction0, price AS auction1)
   └─ Source(bid)
         reads auction, price, ts
         watermark ts - 4000 ms",
    );
    check(
        "INSERT INTO big SELECT auction, auction FROM bid",
        "
Sink(big)
└─ Calc(auction, auction AS n)
   └─ Source(bid)
         reads auction, ts
         watermark ts - 4000 ms",
    );
}

#[test]
fn processing_time_is_read_from_the_source() {
    check(
        "CREATE VIEW b AS SELECT *, PROCTIME() AS p_time FROM bid;
SELECT bidder, count(*), window_end FROM TABLE(TUMBLE(TABLE b, DESCRIPTOR(p_time), INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end",
        "
Sink(result)
└─ Calc(bidder, count(*), window_end)
   └─ WindowAggregate(TUMBLE 10 s, by bidder: count(*))
      └─ hash(bidder) ─ Calc(bidder, $proctime AS p_time)
         └─ Source(bid)
               reads bidder, ts, $proctime
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction, DATE_FORMAT(PROCTIME(), 'HH') AS h FROM bid WHERE price > 3",
        "
Sink(result)
└─ Calc(auction, date_format($proctime, HH) AS h WHERE price > 3)
   └─ Source(bid)
         reads auction, price, ts, $proctime
         watermark ts - 4000 ms",
    );
    refused(
        "SELECT PROCTIME() AS p, n FROM (SELECT count(*) AS n FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end)",
        "
PROCTIME() cannot be read here: rows of an aggregate, a union or an array have no such time
  at q.sql:1:8
  help: read it before, in a subquery or view over the table",
    );
}

#[test]
fn first_values_leave_nulls_out_by_themselves() {
    check(
        "SELECT FIRST_VALUE(price) IGNORE NULLS AS f FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(first_value(price) AS f)
   └─ WindowAggregate(TUMBLE 1 h: first_value(price))
      └─ single ─ Source(bid)
            reads price, ts, $order
            watermark ts - 4000 ms",
    );
    check(
        "SELECT ARRAY_AGG(price ORDER BY ts) AS a FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(array_agg(price) AS a)
   └─ WindowAggregate(TUMBLE 1 h: array_agg(price))
      └─ single ─ Source(bid)
            reads price, ts, $order
            watermark ts - 4000 ms",
    );
    refused(
        "SELECT ARRAY_AGG(price ORDER BY price) AS a FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
array_agg with an ORDER BY of its own is not there yet
  at q.sql:1:8
  help: leave it out: rows come in the order of their event time",
    );
    check(
        "SELECT window_start, window_end FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(window_start, window_end)
   └─ WindowAggregate(TUMBLE 1 h)
      └─ single ─ Source(bid)
            reads ts
            watermark ts - 4000 ms",
    );
}

#[test]
fn what_flink_holds_for_int_goes_into_int() {
    check(
        "INSERT INTO small SELECT 1, COALESCE(qty, 0) + 1 FROM bid",
        "
Sink(small)
└─ Calc(1 AS a, CAST(CASE WHEN __common_expr_1 IS NOT NULL THEN __common_expr_1 ELSE 0 END + 1 AS Int32) AS b)
   └─ Calc(CAST(qty AS Int64) AS __common_expr_1)
      └─ Source(bid)
            reads qty, ts
            watermark ts - 4000 ms",
    );
}

#[test]
fn the_current_watermark_is_a_column_of_the_source() {
    check(
        "SELECT auction FROM bid WHERE CURRENT_WATERMARK(ts) IS NULL OR ts > CURRENT_WATERMARK(ts)",
        "
Sink(result)
└─ Calc(auction WHERE $watermark IS NULL OR ts > $watermark)
   └─ Source(bid)
         reads auction, ts
         watermark ts - 4000 ms
         $watermark before each row",
    );
    check(
        "SELECT count(*), max(late) FROM TABLE(TUMBLE(TABLE (SELECT ts, CURRENT_WATERMARK(ts) AS late FROM bid), DESCRIPTOR(ts),
         INTERVAL '1' HOUR)) GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(count(*), max($watermark) AS max(late))
   └─ WindowAggregate(TUMBLE 1 h: count(*), max($watermark))
      └─ single ─ Source(bid)
            reads ts
            watermark ts - 4000 ms
            $watermark before each row",
    );
}

#[test]
fn the_current_watermark_is_there_only_straight_over_a_table() {
    let below = "  help: read it in a subquery or view over the table, below windows, aggregates, OVER, UNNEST and UNION, and \
                 hand the column on";
    refused(
        "SELECT CURRENT_WATERMARK(window_time) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR))",
        &format!(
            "CURRENT_WATERMARK cannot be read here: it is there only straight over a table that declares a WATERMARK\n  at \
             q.sql:1:8\n{below}"
        ),
    );
    refused(
        "SELECT CURRENT_WATERMARK(ts) FROM plain",
        &format!(
            "CURRENT_WATERMARK cannot be read here: it is there only straight over a table that declares a WATERMARK\n  at \
             q.sql:1:8\n{below}"
        ),
    );
    refused(
        "SELECT CURRENT_WATERMARK(at) FROM bid",
        "
CURRENT_WATERMARK takes the event-time column itself
  at q.sql:1:8
  help: name the column that WATERMARK FOR declares, as in CURRENT_WATERMARK(ts)",
    );
}

#[test]
fn a_filter_that_nothing_passes_leaves_the_stream_its_time() {
    check(
        "SELECT count(*) FROM TUMBLE(TABLE (SELECT * FROM bid WHERE 1 = 0), DESCRIPTOR(ts), INTERVAL '1' HOUR) WHERE 1 = 1 GROUP BY window_start, window_end",
        "
Sink(result)
└─ Calc(count(*))
   └─ WindowAggregate(TUMBLE 1 h: count(*))
      └─ single ─ Calc(ts WHERE false)
         └─ Source(bid)
               reads ts
               watermark ts - 4000 ms",
    );
    check(
        "SELECT auction FROM bid FETCH FIRST 5 ROWS ONLY",
        "
Sink(result)
└─ Limit(5)
   └─ single ─ Calc(auction)
      └─ Source(bid)
            reads auction, ts
            watermark ts - 4000 ms",
    );
}

#[test]
fn branches_of_a_union_share_their_source() {
    check(
        "SELECT n FROM (SELECT auction, count(*) AS n FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY auction, window_start, window_end)
UNION ALL SELECT n FROM (SELECT bidder, count(*) AS n FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY bidder, window_start, window_end)",
        "
Sink(result)
└─ Union
   ├─ Calc(count(*) AS n)
   │  └─ WindowAggregate(TUMBLE 1 h, by auction: count(*))
   │     └─ hash(auction) ─ Calc(auction, ts)
   │        └─ [1] Source(bid)
   │              reads auction, bidder, ts
   │              watermark ts - 4000 ms
   └─ Calc(count(*) AS n)
      └─ WindowAggregate(TUMBLE 1 h, by bidder: count(*))
         └─ hash(bidder) ─ Calc(bidder, ts)
            └─ [1]",
    );
}

#[test]
fn nexmark_reads_its_rows_from_nested_fields() {
    check(
        "CREATE TABLE datagen (event_type int,
  person ROW<id BIGINT, name VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  auction ROW<id BIGINT, itemName VARCHAR, `dateTime` TIMESTAMP(3), seller BIGINT, category BIGINT, expires TIMESTAMP(3), extra VARCHAR>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>,
  `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) WITH ('connector' = 'nexmark');
CREATE VIEW b AS SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra FROM datagen WHERE event_type = 2;
CREATE TABLE s1 (auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP(3), extra VARCHAR) WITH ('connector' = 'blackhole');
INSERT INTO s1 SELECT auction, bidder, 0.908 * price as price, `dateTime`, extra FROM b",
        "
Sink(s1)
└─ Calc(get_field(bid, auction) AS auction, get_field(bid, bidder) AS bidder, CAST(0.908 * CAST(get_field(bid, price) AS Decimal128(20, 0)) AS Decimal128(23, 3)) AS price, dateTime, get_field(bid, extra) AS extra WHERE event_type = 2)
   └─ Source(datagen)
         reads event_type, person(dateTime), auction(dateTime), bid(auction, bidder, price, dateTime, extra)
         computes dateTime AS CASE WHEN event_type = 0 THEN get_field(person, dateTime) WHEN event_type = 1 THEN get_field(auction, dateTime) ELSE get_field(bid, dateTime) END
         watermark dateTime - 4000 ms",
    );
    check(
        "CREATE TABLE datagen (event_type int, person ROW<id BIGINT, name VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>, auction ROW<id BIGINT, itemName VARCHAR, `dateTime` TIMESTAMP(3), seller BIGINT, category BIGINT, expires TIMESTAMP(3), extra VARCHAR>, bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, `dateTime` TIMESTAMP(3), extra VARCHAR>, `dateTime` AS CASE WHEN event_type = 0 THEN person.`dateTime` WHEN event_type = 1 THEN auction.`dateTime` ELSE bid.`dateTime` END, WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '4' SECOND) WITH ('connector' = 'nexmark');
CREATE VIEW b AS SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, `dateTime`, bid.extra FROM datagen WHERE event_type = 2;
SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime FROM TABLE(HOP(TABLE b, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end",
        "
Sink(result)
└─ Calc(auction, count(*) AS num, window_start AS starttime, window_end AS endtime)
   └─ WindowAggregate(HOP 10 s every 2 s, by auction: count(*))
      └─ hash(auction) ─ Calc(get_field(bid, auction) AS auction, dateTime WHERE event_type = 2)
         └─ Source(datagen)
               reads event_type, person(dateTime), auction(dateTime), bid(auction, dateTime)
               computes dateTime AS CASE WHEN event_type = 0 THEN get_field(person, dateTime) WHEN event_type = 1 THEN get_field(auction, dateTime) ELSE get_field(bid, dateTime) END
               watermark dateTime - 4000 ms",
    );
}

#[test]
fn rows_in_the_order_of_their_times() {
    check(
        "SELECT price FROM bid ORDER BY ts",
        "
Sink(result)
└─ Calc(price)
   └─ Over(ts: row_number)
      └─ single ─ Source(bid)
            reads price, ts, $order
            watermark ts - 4000 ms",
    );
}
