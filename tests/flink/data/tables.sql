-- The tables of all cases; paths from tests/flink. Only clicks has late rows: with one source what is late is a
-- function of the file, with two it would depend on which of them Flink reads faster.

-- Disorder up to the bound of 5 s, ties, and late rows: some by their window only, some by everything.
CREATE TABLE clicks (
  id INT, who STRING, page STRING, ms INT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'data/clicks.csv', 'format' = 'csv');

-- Disorder within the bound, ties, NULLs, zeros, negative amounts, empty strings.
CREATE TABLE orders (
  id INT, customer STRING, item STRING, quantity INT, amount DECIMAL(10, 2), price DOUBLE, currency STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '30' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'data/orders.json', 'format' = 'json');

-- Of orders: some twice, some never, some of an order that is not there or NULL.
CREATE TABLE payments (
  id INT, order_id INT, means STRING, paid DECIMAL(10, 2), ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '30' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'data/payments.json', 'format' = 'json');

CREATE TABLE rates (
  currency STRING, rate DECIMAL(10, 4), ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '30' SECOND
) WITH ('connector' = 'filesystem', 'path' = 'data/rates.json', 'format' = 'json');

-- The rates as a table of versions.
CREATE VIEW versioned_rates AS
SELECT currency, rate, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY ts DESC) AS rn FROM rates
) WHERE rn = 1;

-- No time attribute: names twice, NULLs in every column.
CREATE TABLE customers (
  name STRING, city STRING, age INT, score DOUBLE
) WITH ('connector' = 'filesystem', 'path' = 'data/customers.json', 'format' = 'json');

-- Two bags of the same shape, with doubles and NULLs.
CREATE TABLE bag_a (k INT, v STRING) WITH ('connector' = 'filesystem', 'path' = 'data/bag_a.json', 'format' = 'json');
CREATE TABLE bag_b (k INT, v STRING) WITH ('connector' = 'filesystem', 'path' = 'data/bag_b.json', 'format' = 'json');

CREATE TABLE nothing (k INT, v STRING) WITH ('connector' = 'filesystem', 'path' = 'data/nothing.json', 'format' = 'json');

-- One column of each type.
CREATE TABLE things (
  id INT, i INT, j INT, l BIGINT, si SMALLINT, d DOUBLE, f FLOAT, m DECIMAL(10, 3), n DECIMAL(5, 1), flag BOOLEAN,
  s STRING, t STRING, js STRING, dt DATE, tm TIME(0), ts TIMESTAMP(3), us TIMESTAMP(6),
  arr ARRAY<INT>, words ARRAY<STRING>, mp MAP<STRING, INT>, rw ROW<a INT, b STRING>
) WITH ('connector' = 'filesystem', 'path' = 'data/things.json', 'format' = 'json');

-- Moments: time with a zone, out of a number.
CREATE TABLE moments (
  id INT, epoch_ms BIGINT, v INT,
  moment AS TO_TIMESTAMP_LTZ(epoch_ms, 3),
  WATERMARK FOR moment AS moment - INTERVAL '10' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/moments.csv', 'format' = 'csv');

-- A NULL where the event time should be.
CREATE TABLE timeless (
  id INT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts
) WITH ('connector' = 'filesystem', 'path' = 'data/timeless.json', 'format' = 'json');
