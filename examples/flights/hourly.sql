-- Departures of each airport in each hour of the schedule: how many, how late on average, how late at worst.
--
--   cd examples/flights && millstream run hourly.sql
--
-- Event time is the SCHEDULED departure; the rows come in the order in which the aircraft really left, so 59 % of
-- them come after a row with a later event time, up to 21 h 40 after. A delay of 22 hours in the watermark waits for
-- every one of them: nothing is late, and the answer is exact. late.sql shows the same query waiting 15 minutes.
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

CREATE TABLE hourly (
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  origin       STRING,
  departures   BIGINT,
  mean_delay   DOUBLE,     -- minutes
  max_delay    INT         -- minutes
) WITH (
  'connector' = 'filesystem',
  'path'      = 'out/hourly',
  'format'    = 'parquet'
);

-- The average of an INT is an INT in this dialect: the cast asks for the fraction too.
INSERT INTO hourly
SELECT window_start, window_end, origin,
       COUNT(*)                       AS departures,
       AVG(CAST(dep_delay AS DOUBLE)) AS mean_delay,
       MAX(dep_delay)                 AS max_delay
FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, origin;
