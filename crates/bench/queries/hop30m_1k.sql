-- Bids of each of 1,000 groups of bidders in the last 30 minutes, every second.
CREATE TABLE result (bidders BIGINT, num BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3))
WITH ('connector' = 'blackhole');

CREATE TEMPORARY VIEW grouped AS SELECT MOD(bidder, 1000) AS bidders, dateTime FROM bid;

INSERT INTO result
SELECT bidders, COUNT(*) AS num, window_start, window_end
FROM TABLE(HOP(TABLE grouped, DESCRIPTOR(dateTime), INTERVAL '1' SECOND, INTERVAL '30' MINUTE))
GROUP BY bidders, window_start, window_end;
