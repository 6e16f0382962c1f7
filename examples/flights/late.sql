-- hourly.sql with a watermark that waits 15 minutes instead of 22 hours: results come sooner, and some rows too late.
--
--   cd examples/flights && millstream run late.sql
--
-- A row is late when its window has closed; here that means its hour. Nothing is dropped in silence: late rows go,
-- with the reason and the watermark they were judged by, to the table named by the setting, and to a counter.
CREATE TABLE departures (
  id        INT,           -- number of the flight, unique
  carrier   STRING,
  flight    INT,
  tailnum   STRING,        -- the aircraft
  origin    STRING,        -- EWR, JFK or LGA
  dest      STRING,
  sched_dep TIMESTAMP(3),  -- scheduled departure, UTC
  dep       TIMESTAMP(3),  -- actual departure, UTC
  dep_delay INT,           -- minutes, negative when early
  arr_delay INT,
  air_time  INT,
  distance  INT,           -- miles
  WATERMARK FOR sched_dep AS sched_dep - INTERVAL '15' MINUTE
) WITH (
  'connector' = 'filesystem',
  'path'      = 'departures.parquet',
  'format'    = 'parquet'
);

CREATE TABLE hourly_15min (
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  origin       STRING,
  departures   BIGINT,
  mean_delay   DOUBLE,     -- minutes
  max_delay    INT         -- minutes
) WITH (
  'connector' = 'filesystem',
  'path'      = 'out/hourly_15min',
  'format'    = 'parquet'
);

CREATE TABLE late_rows (
  `operator`   STRING,
  `reason`     STRING,
  `event_time` TIMESTAMP(3),
  `watermark`  TIMESTAMP(3),
  `row`        STRING       -- the row as JSON
) WITH (
  'connector' = 'filesystem',
  'path'      = 'out/late_rows',
  'format'    = 'parquet'
);
SET 'millstream.late-rows.table' = 'late_rows';

INSERT INTO hourly_15min
SELECT window_start, window_end, origin,
       COUNT(*)                       AS departures,
       AVG(CAST(dep_delay AS DOUBLE)) AS mean_delay,
       MAX(dep_delay)                 AS max_delay
FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, origin;
