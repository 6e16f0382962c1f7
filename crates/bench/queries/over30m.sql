-- Each bid with the number and the sum of its bidder's bids in the 30 minutes up to it.
CREATE TABLE result (bidder BIGINT, dateTime TIMESTAMP(3), price BIGINT, num BIGINT, total BIGINT)
WITH ('connector' = 'blackhole');

INSERT INTO result
SELECT bidder, dateTime, price, COUNT(*) OVER w AS num, SUM(price) OVER w AS total
FROM bid
WINDOW w AS (
  PARTITION BY bidder ORDER BY dateTime RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND CURRENT ROW
);
