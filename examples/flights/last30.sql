-- The first feature: for every departure, how many were scheduled at this airport in the last 30 minutes, and how
-- late they left on average. One row out for each row in, exact to the row.
--
--   cd examples/flights && millstream run last30.sql
--
-- Both ends of the frame are included, and departures scheduled for the same minute see each other (peers), whichever
-- came first. This departure counts too.
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

CREATE TABLE last30 (
  id             INT,
  origin         STRING,
  sched_dep      TIMESTAMP(3),
  dep_delay      INT,
  departures_30m BIGINT,
  mean_delay_30m DOUBLE       -- minutes
) WITH (
  'connector' = 'filesystem',
  'path'      = 'out/last30',
  'format'    = 'parquet'
);

INSERT INTO last30
SELECT id, origin, sched_dep, dep_delay,
       COUNT(*)                       OVER last_30_minutes AS departures_30m,
       AVG(CAST(dep_delay AS DOUBLE)) OVER last_30_minutes AS mean_delay_30m
FROM departures
WINDOW last_30_minutes AS (
  PARTITION BY origin
  ORDER BY sched_dep
  RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND CURRENT ROW
);
