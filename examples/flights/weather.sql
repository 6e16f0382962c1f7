-- The weather at the three airports, by day: mean temperature, rain, strongest wind.
--
--   cd examples/flights && millstream run weather.sql
--
-- A day is cut at midnight of New York's winter time: the offset of five hours. Sums of DOUBLE are exact here: they
-- do not depend on the order of the rows, on batches or on the number of threads.
CREATE TABLE weather (
  origin     STRING,
  observed   TIMESTAMP(3),  -- UTC, on the hour
  temp       DOUBLE,        -- degrees Fahrenheit
  dewp       DOUBLE,
  humid      DOUBLE,
  wind_dir   DOUBLE,
  wind_speed DOUBLE,        -- miles per hour
  wind_gust  DOUBLE,
  precip     DOUBLE,        -- inches
  pressure   DOUBLE,
  visib      DOUBLE,
  WATERMARK FOR observed AS observed - INTERVAL '1' HOUR
) WITH (
  'connector' = 'filesystem',
  'path'      = 'weather.parquet',
  'format'    = 'parquet'
);

CREATE TABLE daily_weather (
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  origin       STRING,
  observations BIGINT,
  mean_temp    DOUBLE,
  rain         DOUBLE,
  strongest    DOUBLE
) WITH (
  'connector' = 'filesystem',
  'path'      = 'out/daily_weather',
  'format'    = 'parquet'
);

INSERT INTO daily_weather
SELECT window_start, window_end, origin,
       COUNT(*)        AS observations,
       AVG(temp)       AS mean_temp,
       SUM(precip)     AS rain,
       MAX(wind_speed) AS strongest
FROM TABLE(TUMBLE(TABLE weather, DESCRIPTOR(observed), INTERVAL '1' DAY, INTERVAL '5' HOUR))
GROUP BY window_start, window_end, origin;
