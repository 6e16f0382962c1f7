-- Sessions of an aircraft: departures from New York that lie at most eight hours apart belong together.
--
--   cd examples/flights && millstream run sessions.sql
--
-- A departure that comes out of order may join two sessions into one; with a watermark that waits for it, the result
-- is the same as if it had come in time. Exactly eight hours apart still is one session, as in Flink.
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
  WATERMARK FOR sched_dep AS sched_dep - INTERVAL '22' HOUR
) WITH (
  'connector' = 'filesystem',
  'path'      = 'departures.parquet',
  'format'    = 'parquet'
);

CREATE TABLE sessions (
  window_start TIMESTAMP(3),  -- the first departure
  window_end   TIMESTAMP(3),  -- the last departure, plus eight hours
  tailnum      STRING,
  departures   BIGINT,
  miles        BIGINT,
  worst_delay  INT            -- minutes
) WITH (
  'connector' = 'filesystem',
  'path'      = 'out/sessions',
  'format'    = 'parquet'
);

INSERT INTO sessions
SELECT window_start, window_end, tailnum,
       COUNT(*)                      AS departures,
       SUM(CAST(distance AS BIGINT)) AS miles,
       MAX(dep_delay)                AS worst_delay
FROM TABLE(SESSION(TABLE departures PARTITION BY tailnum, DESCRIPTOR(sched_dep), INTERVAL '8' HOUR))
GROUP BY window_start, window_end, tailnum;
