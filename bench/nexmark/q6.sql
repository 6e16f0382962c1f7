-- q6, average selling price of each seller over his last ten closed auctions. Flink cannot run it: its OVER takes no updates.
-- The winning bid of an auction is known when the auction has expired, so it is asked for as of then.
CREATE TABLE nexmark_q6 (seller BIGINT, avg_price BIGINT) WITH ('connector' = 'blackhole');

INSERT INTO nexmark_q6
SELECT seller, AVG(price) OVER (PARTITION BY seller ORDER BY window_time ROWS BETWEEN 9 PRECEDING AND CURRENT ROW)
FROM (
  SELECT A.seller, MAX(B.price) AS price, A.window_start, A.window_end, A.window_time
  FROM (
    SELECT id, seller, dateTime, expires, window_start, window_end, window_time
    FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
  ) A
  JOIN (
    SELECT auction, price, dateTime, window_start, window_end
    FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
  ) B
  ON A.id = B.auction AND A.window_start = B.window_start AND A.window_end = B.window_end
     AND B.dateTime BETWEEN A.dateTime AND A.expires
  GROUP BY A.id, A.seller, A.window_start, A.window_end, A.window_time
);
