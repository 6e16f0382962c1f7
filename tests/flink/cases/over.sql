-- OVER by event time: bounds that touch, ties, NULLs, and rows that come after the watermark, which Flink leaves out.

-- case: range_seconds
SELECT id, customer, ts, COUNT(*) OVER w AS n, SUM(quantity) OVER w AS total FROM orders
WINDOW w AS (PARTITION BY customer ORDER BY ts RANGE BETWEEN INTERVAL '90' SECOND PRECEDING AND CURRENT ROW)

-- case: range_seconds_late_rows
SELECT id, who, ts, COUNT(*) OVER w AS n, SUM(ms) OVER w AS total FROM clicks
WINDOW w AS (PARTITION BY who ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW)

-- case: range_unbounded
SELECT id, who, COUNT(*) OVER w, MIN(ms) OVER w, MAX(ms) OVER w FROM clicks
WINDOW w AS (PARTITION BY who ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)

-- case: range_default_frame
SELECT id, COUNT(*) OVER (PARTITION BY who ORDER BY ts) FROM clicks

-- case: range_global
SELECT id, COUNT(*) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '5' SECOND PRECEDING AND CURRENT ROW) FROM clicks

-- case: rows_two
SELECT id, customer, SUM(quantity) OVER w, COUNT(*) OVER w, COUNT(quantity) OVER w FROM orders
WINDOW w AS (PARTITION BY customer ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)

-- case: rows_unbounded
SELECT id, customer, SUM(amount) OVER w FROM orders
WINDOW w AS (PARTITION BY customer ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)

-- case: rows_global
SELECT id, COUNT(amount) OVER w, MAX(amount) OVER w FROM orders
WINDOW w AS (ORDER BY ts ROWS BETWEEN 4 PRECEDING AND CURRENT ROW)

-- case: rows_with_late_rows
SELECT id, who, COUNT(*) OVER w, SUM(id) OVER w FROM clicks
WINDOW w AS (PARTITION BY who ORDER BY ts ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)

-- case: range_decimal_nulls
SELECT id, customer, SUM(amount) OVER w, AVG(amount) OVER w, MIN(amount) OVER w FROM orders
WINDOW w AS (PARTITION BY customer ORDER BY ts RANGE BETWEEN INTERVAL '2' MINUTE PRECEDING AND CURRENT ROW)

-- case: range_doubles
-- doubles: 12
SELECT id, AVG(price) OVER w FROM (SELECT * FROM orders WHERE price < 100)
WINDOW w AS (PARTITION BY item ORDER BY ts RANGE BETWEEN INTERVAL '3' MINUTE PRECEDING AND CURRENT ROW)

-- case: distinct_over
SELECT id, item, COUNT(DISTINCT customer) OVER w FROM orders
WINDOW w AS (PARTITION BY item ORDER BY ts RANGE BETWEEN INTERVAL '3' MINUTE PRECEDING AND CURRENT ROW)

-- case: distinct_over_late_rows
SELECT id, who, COUNT(DISTINCT page) OVER w FROM clicks
WINDOW w AS (PARTITION BY who ORDER BY ts RANGE BETWEEN INTERVAL '30' SECOND PRECEDING AND CURRENT ROW)

-- case: row_number_over_time
SELECT id, customer, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts) AS rn FROM orders

-- case: rank_over_time
SELECT id, RANK() OVER (PARTITION BY item ORDER BY ts) AS r, DENSE_RANK() OVER (PARTITION BY item ORDER BY ts) AS dr FROM orders WHERE id NOT IN (20, 29)

-- case: rank_over_time_ties
SELECT id, RANK() OVER (PARTITION BY item ORDER BY ts) AS r FROM orders

-- case: lag
SELECT id, customer, LAG(amount) OVER (PARTITION BY customer ORDER BY ts) AS previous, LAG(id, 2) OVER (PARTITION BY customer ORDER BY ts) AS two FROM orders WHERE id NOT IN (9, 19)

-- case: lag_ties
SELECT id, LAG(id) OVER (PARTITION BY customer ORDER BY ts) AS previous FROM orders WHERE customer = 'bob' OR customer = 'cyd'

-- case: lag_default
SELECT id, LAG(id, 1, -1) OVER (PARTITION BY customer ORDER BY ts) AS previous FROM orders

-- case: first_last_over
SELECT id, customer, FIRST_VALUE(id) OVER w, LAST_VALUE(id) OVER w FROM orders
WINDOW w AS (PARTITION BY customer ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)

-- case: last_over_nulls
SELECT id, item, LAST_VALUE(amount) OVER w FROM orders
WINDOW w AS (PARTITION BY item ORDER BY ts RANGE BETWEEN INTERVAL '3' MINUTE PRECEDING AND CURRENT ROW)

-- case: first_over_nulls
SELECT id, item, FIRST_VALUE(amount) OVER w FROM orders
WINDOW w AS (PARTITION BY item ORDER BY ts RANGE BETWEEN INTERVAL '3' MINUTE PRECEDING AND CURRENT ROW)

-- case: over_filtered_afterwards
SELECT id, n FROM (
  SELECT id, COUNT(*) OVER (PARTITION BY customer ORDER BY ts RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING AND CURRENT ROW) AS n FROM orders
) WHERE n > 1

-- case: over_then_window
CREATE TEMPORARY VIEW counted AS
SELECT ts, customer, COUNT(*) OVER (PARTITION BY customer ORDER BY ts RANGE BETWEEN INTERVAL '2' MINUTE PRECEDING AND CURRENT ROW) AS n FROM orders;
SELECT window_start, customer, MAX(n) FROM TABLE(TUMBLE(TABLE counted, DESCRIPTOR(ts), INTERVAL '3' MINUTE)) GROUP BY window_start, window_end, customer

-- case: over_then_window_late_rows
CREATE TEMPORARY VIEW counted AS
SELECT ts, who, COUNT(*) OVER (PARTITION BY who ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW) AS n FROM clicks;
SELECT window_start, who, MAX(n) FROM TABLE(TUMBLE(TABLE counted, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end, who

-- case: listagg_over
SELECT id, LISTAGG(item, '+') OVER (PARTITION BY customer ORDER BY ts ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM orders

-- case: running_sum_with_case
SELECT id, SUM(CASE WHEN item = 'pen' THEN quantity ELSE id END) OVER (ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM orders

-- case: running_sum_of_literals
SELECT id, SUM(CASE WHEN item = 'pen' THEN 1 ELSE 0 END) OVER (ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM orders

-- case: stddev_over
-- doubles: 11
SELECT id, STDDEV_POP(CAST(quantity AS DOUBLE)) OVER (PARTITION BY item ORDER BY ts ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM orders
