-- The same figures for the last hour, fresh every ten minutes: six windows overlap at any time.
--
--   cd examples/flights && millstream run hopping.sql
--
-- A row is added to one slice of ten minutes only; a window's result is made of its six slices.
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

CREATE TABLE hopping (
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  origin       STRING,
  departures   BIGINT,
  mean_delay   DOUBLE,     -- minutes
  max_delay    INT         -- minutes
) WITH (
  'connector' = 'filesystem',
  'path'      = 'out/hopping',
  'format'    = 'parquet'
);

-- HOP takes the slide first, then the size.
INSERT INTO hopping
SELECT window_start, window_end, origin,
       COUNT(*)                       AS departures,
       AVG(CAST(dep_delay AS DOUBLE)) AS mean_delay,
       MAX(dep_delay)                 AS max_delay
FROM TABLE(HOP(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '10' MINUTE, INTERVAL '1' HOUR))
GROUP BY window_start, window_end, origin;
