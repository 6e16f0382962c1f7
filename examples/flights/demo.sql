-- Everything this example computes, as one job: four results from one reading of the departures.
--
--   cd examples/flights && millstream run demo.sql
--
-- The single queries, with what is to be said about each, are hourly.sql, hopping.sql, sessions.sql and last30.sql.
-- A second run adds files to the folders under out/: remove them first, as `./dev demo` does.
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

EXECUTE STATEMENT SET
BEGIN
  INSERT INTO hourly
  SELECT window_start, window_end, origin,
         COUNT(*)                       AS departures,
         AVG(CAST(dep_delay AS DOUBLE)) AS mean_delay,
         MAX(dep_delay)                 AS max_delay
  FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR))
  GROUP BY window_start, window_end, origin;

  INSERT INTO hopping
  SELECT window_start, window_end, origin,
         COUNT(*)                       AS departures,
         AVG(CAST(dep_delay AS DOUBLE)) AS mean_delay,
         MAX(dep_delay)                 AS max_delay
  FROM TABLE(HOP(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '10' MINUTE, INTERVAL '1' HOUR))
  GROUP BY window_start, window_end, origin;

  INSERT INTO sessions
  SELECT window_start, window_end, tailnum,
         COUNT(*)                      AS departures,
         SUM(CAST(distance AS BIGINT)) AS miles,
         MAX(dep_delay)                AS worst_delay
  FROM TABLE(SESSION(TABLE departures PARTITION BY tailnum, DESCRIPTOR(sched_dep), INTERVAL '8' HOUR))
  GROUP BY window_start, window_end, tailnum;

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
END;
