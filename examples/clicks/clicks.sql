-- Clicks of each user in each minute, from rows that come out of order.
--
--   cd examples/clicks && millstream run clicks.sql --parallelism 1
--
-- The watermark waits one minute: the click of 12:00:30 comes after one of 12:01:06 and still counts. The click of
-- 12:00:20 comes after one of 12:02:40, when its minute had closed: it is late, and the summary says so.
CREATE TABLE clicks (
  ts  TIMESTAMP(3),
  who STRING,
  WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE
) WITH (
  'connector' = 'filesystem',
  'path'      = 'clicks.csv',
  'format'    = 'csv'
);

CREATE TABLE clicks_by_minute (
  window_start TIMESTAMP(3),
  who          STRING,
  clicks       BIGINT
) WITH (
  'connector' = 'print'
);

INSERT INTO clicks_by_minute
SELECT window_start, who, COUNT(*)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, who;
