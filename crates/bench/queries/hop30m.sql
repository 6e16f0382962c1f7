-- Bids of each bidder in the last 30 minutes, every second.
CREATE TABLE result (bidder BIGINT, num BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3))
WITH ('connector' = 'blackhole');

INSERT INTO result
SELECT bidder, COUNT(*) AS num, window_start, window_end
FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '1' SECOND, INTERVAL '30' MINUTE))
GROUP BY bidder, window_start, window_end;
