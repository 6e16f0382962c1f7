-- The maxima of q7: the highest price of each 10 seconds.
CREATE TABLE result (maxprice BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3))
WITH ('connector' = 'blackhole');

INSERT INTO result
SELECT MAX(price) AS maxprice, window_start, window_end
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
