-- One source, four kinds of memory: what each remembers must survive any kill.
SET 'millstream.late-rows.table' = 'late_rows';
CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, `dateTime` TIMESTAMP(3),
  shifted AS CASE WHEN MOD(price, 31) = 0 THEN `dateTime` - INTERVAL '3' SECOND ELSE `dateTime` END,
  WATERMARK FOR shifted AS shifted - INTERVAL '500' MILLISECOND
) WITH ('connector' = 'nexmark', 'nexmark.table' = 'bid', 'events.num' = '240000', 'seed' = '11',
        'base-time' = '1700000000000', 'rows-per-second' = '100000');

CREATE TABLE tumble_out (window_start TIMESTAMP(3), auction BIGINT, n BIGINT, total BIGINT, most BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/tumble', 'format' = 'csv');
CREATE TABLE hop_out (window_end TIMESTAMP(3), channel STRING, n BIGINT, bidders BIGINT, mean DOUBLE)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/hop', 'format' = 'json');
CREATE TABLE session_out (window_start TIMESTAMP(3), window_end TIMESTAMP(3), bidder BIGINT, n BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/session', 'format' = 'csv');
CREATE TABLE over_out (at TIMESTAMP(3), bidder BIGINT, price BIGINT, last_n BIGINT, last_total BIGINT)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/over', 'format' = 'csv');
CREATE TABLE late_rows (reason STRING, event_time TIMESTAMP(3), `row` STRING)
WITH ('connector' = 'filesystem', 'path' = '${OUT}/late', 'format' = 'json');

--PG CREATE TABLE pg_append (window_start TIMESTAMP(3), auction BIGINT, n BIGINT, total BIGINT)
--PG WITH ('connector' = 'jdbc', 'url' = '${PG}', 'table-name' = 'soak_append', 'username' = '${PG_USER}', 'password' = '${PG_PASSWORD}');
--PG CREATE TABLE pg_upsert (auction BIGINT, window_start TIMESTAMP(3), n BIGINT, PRIMARY KEY (auction) NOT ENFORCED)
--PG WITH ('connector' = 'jdbc', 'url' = '${PG}', 'table-name' = 'soak_upsert', 'username' = '${PG_USER}', 'password' = '${PG_PASSWORD}');

EXECUTE STATEMENT SET BEGIN
--PG INSERT INTO pg_append SELECT window_start, auction, COUNT(*), SUM(price)
--PG FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(shifted), INTERVAL '500' MILLISECOND)) GROUP BY window_start, window_end, auction;
--PG INSERT INTO pg_upsert SELECT MOD(auction, 1000), window_start, COUNT(*)
--PG FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(shifted), INTERVAL '500' MILLISECOND)) GROUP BY window_start, window_end, MOD(auction, 1000);
INSERT INTO tumble_out
SELECT window_start, auction, COUNT(*), SUM(price), MAX(bidder)
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(shifted), INTERVAL '1' SECOND)) GROUP BY window_start, window_end, auction;
INSERT INTO hop_out
SELECT window_end, LEFT(channel, 2), COUNT(*), COUNT(DISTINCT bidder), AVG(CAST(price AS DOUBLE))
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(shifted), INTERVAL '250' MILLISECOND, INTERVAL '1' SECOND))
GROUP BY window_start, window_end, LEFT(channel, 2);
INSERT INTO session_out
SELECT window_start, window_end, bidder, COUNT(*)
FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(shifted), INTERVAL '100' MILLISECOND))
GROUP BY window_start, window_end, bidder;
INSERT INTO over_out
SELECT shifted, bidder, price,
       COUNT(*) OVER w, SUM(price) OVER w
FROM bid WINDOW w AS (PARTITION BY bidder ORDER BY shifted RANGE BETWEEN INTERVAL '1' SECOND PRECEDING AND CURRENT ROW);
END;
