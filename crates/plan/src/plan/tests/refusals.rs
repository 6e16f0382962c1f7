//! What is refused, in which words, and where.

use super::{check, refused};

#[test]
fn inserts_fit_the_sink() {
    check(
        "INSERT INTO counts VALUES (1, 2, TIMESTAMP '2020-01-01 00:00:00')",
        "
Sink(counts)
└─ Calc(column1 AS auction, column2 AS n, cast_as_TIMESTAMP(3)(column3) AS window_end)
   └─ Values(1 row)",
    );
    check(
        "INSERT INTO counts (n, auction) SELECT qty, 7 FROM bid",
        "
Sink(counts)
└─ Calc(7 AS auction, CAST(qty AS Int64) AS n, NULL AS window_end)
   └─ Source(bid)
         reads qty, ts
         watermark ts - 4000 ms",
    );
    check(
        "INSERT INTO small SELECT 1, CASE WHEN price > 3 THEN 1 ELSE 0 END FROM bid",
        "
Sink(small)
└─ Calc(1 AS a, CAST(CASE WHEN price > 3 THEN 1 ELSE 0 END AS Int32) AS b)
   └─ Source(bid)
         reads price, ts
         watermark ts - 4000 ms",
    );
    refused(
        "INSERT INTO counts SELECT auction, channel, ts FROM bid",
        "
column `n` of `counts` is BIGINT, the query gives STRING (`channel`)
  at q.sql:1:36
  help: write CAST(.. AS BIGINT); the query gives (auction BIGINT, channel STRING, ts TIMESTAMP(3)), the table takes (auction BIGINT, n BIGINT, window_end TIMESTAMP(3))",
    );
    refused(
        "INSERT INTO counts SELECT auction FROM bid",
        "
INSERT INTO `counts` takes 3 columns, the query gives 1
  at q.sql:1:1
  help: the query gives (auction BIGINT), the table takes (auction BIGINT, n BIGINT, window_end TIMESTAMP(3))",
    );
    refused(
        "INSERT INTO counts (auction, nn) SELECT auction, price FROM bid",
        "
column `nn` is unknown
  at q.sql:1:1
  help: did you mean `n`?",
    );
    refused(
        "INSERT INTO bid (auction, fee) SELECT 1, 2",
        "
column `fee` of `bid` is computed or virtual, nothing goes into it
  at q.sql:1:1
  help: leave it out of the list",
    );
    refused(
        "INSERT INTO small SELECT price, 1 FROM bid",
        "
column `a` of `small` is TINYINT, the query gives BIGINT (`price`)
  at q.sql:1:26
  help: write CAST(.. AS TINYINT); the query gives (price BIGINT, 1 BIGINT), the table takes (a TINYINT, b INT)",
    );
    refused(
        "INSERT INTO couns SELECT 1",
        "
the table `couns` is unknown
  at q.sql:1:1
  help: did you mean `counts`?",
    );
}

#[test]
fn rows_set_aside_go_to_tables() {
    check(
        "SET 'millstream.late-rows.table' = 'late'; SET 'millstream.bad-rows.table' = 'bad';
CREATE TABLE late (operator STRING, `row` STRING) WITH ('connector' = 'x'); CREATE TABLE bad (raw STRING, reason STRING) WITH ('connector' = 'x');
SELECT auction FROM bid",
        "
Sink(result)
└─ Calc(auction)
   └─ Source(bid)
         reads auction, ts
         watermark ts - 4000 ms
late rows go to late(operator, row)
bad rows go to bad(raw, reason)",
    );
    refused(
        "SET 'millstream.late-rows.table' = 'late'; CREATE TABLE late (operator STRING, rowe STRING) WITH ('connector' = 'x'); SELECT auction FROM bid",
        "
column `rowe` is unknown
  at q.sql:1:44
  help: did you mean `row`?",
    );
    refused(
        "SET 'millstream.late-rows.table' = 'late'; CREATE TABLE late (operator INT) WITH ('connector' = 'x'); SELECT auction FROM bid",
        "
column `operator` of `late` is INT, 'millstream.late-rows.table' gives STRING
  at q.sql:1:44
  help: declare it STRING",
    );
    refused(
        "SET 'millstream.late-rows.table' = 'lat'; SELECT auction FROM bid",
        "
'millstream.late-rows.table' names the table `lat`, which is not declared
  at q.sql:1:43
  help: declared so far: auction, bid, big, counts, ltz, person, plain, small, upserts",
    );
}

#[test]
fn a_window_needs_a_time_attribute() {
    refused(
        "SELECT count(*) FROM TUMBLE(TABLE plain, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
TUMBLE needs a time attribute, and column `ts` of `plain` is none
  at q.sql:1:42
  help: declare WATERMARK FOR ts AS ts - INTERVAL '5' SECOND in CREATE TABLE plain",
    );
    refused(
        "SELECT count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(price), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
TUMBLE needs a time attribute, and column `price` of `bid` is none
  at q.sql:1:51
  help: it is BIGINT: make it TIMESTAMP(3) (or add `t AS CAST(price AS TIMESTAMP(3))`) and declare WATERMARK FOR price AS price - INTERVAL '5' SECOND in CREATE TABLE bid",
    );
    refused(
        "SELECT count(*) FROM TUMBLE(TABLE (SELECT ts + INTERVAL '1' HOUR AS t2 FROM bid), DESCRIPTOR(t2), INTERVAL '1' HOUR) GROUP BY window_start, window_end",
        "
TUMBLE needs a time attribute, and column `t2` is none
  at q.sql:1:83
  help: declare WATERMARK FOR t2 AS t2 - INTERVAL '5' SECOND",
    );
    refused(
        "SELECT * FROM TUMBLE(TABLE bid, DESCRIPTOR(tss), INTERVAL '5' MINUTE)",
        "
column `tss` is unknown
  at q.sql:1:44
  help: did you mean `ts`?",
    );
    refused(
        "SELECT * FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' MONTH)",
        "
TUMBLE: SIZE is `INTERVAL '5' MONTH`, not an interval of a fixed length in milliseconds
  at q.sql:1:58
  help: write for example INTERVAL '10' MINUTE; months and years have no fixed length",
    );
    refused(
        "SELECT * FROM TUMBLE(TABLE bid, DESCRIPTOR(ts))",
        "
TUMBLE is given no SIZE
  at q.sql:1:15
  help: write TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '10' MINUTE)",
    );
    refused(
        "SELECT * FROM HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '0' SECOND, INTERVAL '1' SECOND)",
        "
the slide of HOP is not longer than nothing
  at q.sql:1:55
  help: write an interval above zero",
    );
    refused(
        "SELECT * FROM CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '10' SECOND)",
        "
CUMULATE: the size (10000 ms) is no multiple of the step (3000 ms)
  at q.sql:1:15
  help: choose a step that divides the size",
    );
    refused(
        "SELECT * FROM TUMBLE(TABLE bid PARTITION BY auction, DESCRIPTOR(ts), INTERVAL '5' MINUTE)",
        "
TUMBLE takes no PARTITION BY; only SESSION does
  at q.sql:1:15
  help: write TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '10' MINUTE)",
    );
    refused(
        "SELECT * FROM TUMBLE(DATA => TABLE bid, TIME => DESCRIPTOR(ts), SIZE => INTERVAL '5' MINUTE)",
        "
there is no argument `TIME`; there are DATA, TIMECOL, SIZE, OFFSET
  at q.sql:1:15
  help: write TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '10' MINUTE)",
    );
}

#[test]
fn an_aggregate_needs_its_window() {
    refused(
        "SELECT auction, count(*) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY auction, window_start",
        "
GROUP BY has one bound of the window only: window_end is missing
  at q.sql:1:93
  help: group by both window_start and window_end",
    );
    refused(
        "SELECT auction, channel, max(price) FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '5' MINUTE) GROUP BY auction, window_start, window_end",
        "
column `bid.channel` is neither in GROUP BY nor inside an aggregate
  at q.sql:1:17
  help: add `bid.channel` to GROUP BY, or aggregate it, for example MAX(bid.channel)",
    );
    refused(
        "SELECT count(*) FROM bid GROUP BY window_start, window_end",
        "
column `window_start` is unknown
  at q.sql:1:35
  help: it is a column of a window function: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE))",
    );
}

#[test]
fn what_is_not_there_yet_says_so() {
    refused(
        "SELECT price FROM bid ORDER BY price",
        "
ORDER BY is not there in streaming: a stream has no end to sort by
  at q.sql:1:32
  help: leave it out, order by the time attribute alone, add LIMIT n to keep the first rows up to date, or run it over bounded input with SET 'execution.runtime-mode' = 'batch'",
    );
    refused(
        "SELECT unnest(tags) FROM bid",
        "
UNNEST in SELECT is not there
  at q.sql:1:8
  help: write FROM t CROSS JOIN UNNEST(t.array) AS e (x)",
    );
    refused(
        "SELECT auction FROM bid LIMIT 5 OFFSET 3",
        "
OFFSET has no meaning in a stream without order
  at q.sql:1:1
  help: leave it out, or run the query with SET 'execution.runtime-mode' = 'batch'",
    );
}

#[test]
fn over_runs_with_time() {
    refused(
        "SELECT SUM(price) OVER (PARTITION BY auction ORDER BY price) FROM bid",
        "
SUM OVER needs a time attribute, and column `price` of `bid` is none
  at q.sql:1:8
  help: it is BIGINT: make it TIMESTAMP(3) (or add `t AS CAST(price AS TIMESTAMP(3))`) and declare WATERMARK FOR price AS price - INTERVAL '5' SECOND in CREATE TABLE bid",
    );
    refused(
        "SELECT SUM(price) OVER (PARTITION BY auction ORDER BY ts DESC) FROM bid",
        "
SUM OVER is ordered downwards, and a stream runs upwards
  at q.sql:1:8
  help: order by the time attribute ascending",
    );
    refused(
        "SELECT SUM(price) OVER (PARTITION BY auction ORDER BY ts ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM bid",
        "
SUM OVER: the frame does not end at the current row
  at q.sql:1:8
  help: write ROWS or RANGE BETWEEN .. PRECEDING AND CURRENT ROW: a row's result never waits for later rows",
    );
    refused(
        "SELECT SUM(price) OVER (PARTITION BY auction) FROM bid",
        "
SUM OVER has no ORDER BY
  at q.sql:1:8
  help: write OVER (PARTITION BY key ORDER BY time RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND CURRENT ROW)",
    );
    refused(
        "SELECT LEAD(price) OVER (ORDER BY ts) FROM bid",
        "
LEAD OVER is not there yet in streaming
  at q.sql:1:8
  help: ROW_NUMBER, RANK, DENSE_RANK, LAG(x [, n]) and all aggregates are",
    );
}

#[test]
fn names_are_looked_for() {
    refused(
        "SELECT prise FROM bid",
        "
column `prise` is unknown
  at q.sql:1:8
  help: did you mean `price`?",
    );
    refused(
        "SELECT Auction FROM bid",
        "
column `Auction` is unknown
  at q.sql:1:8
  help: did you mean `auction`?",
    );
    refused(
        "SELECT b.auctio FROM bid b",
        "
column `b.auctio` is unknown
  at q.sql:1:8
  help: did you mean `auction`?",
    );
    refused(
        "SELECT price FROM bidd",
        "
the table `bidd` is unknown
  at q.sql:1:19
  help: did you mean `bid`?",
    );
    refused(
        "SELECT upperr(channel) FROM bid",
        "
function `upperr` is unknown
  at q.sql:1:8
  help: did you mean `upper`?",
    );
    refused(
        "SELECT auction, price FROM bid b1, bid b2",
        "
column `auction` is ambiguous
  at q.sql:1:8
  help: write its table before it: `t.column`",
    );
    refused(
        "SELECT channel + 1 FROM bid",
        "
Cannot coerce arithmetic expression STRING + BIGINT to valid types
  at q.sql:1:8
  help: write CAST(.. AS ..) where the types differ",
    );
    refused(
        "SELECT upper(price, 3) FROM bid",
        "
Function 'upper' expects 1 arguments but received 2
  at q.sql:1:8
  help: it is given upper(BIGINT, BIGINT); write CAST(.. AS ..) where the types differ",
    );
}
