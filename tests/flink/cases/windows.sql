-- Windows over one table with disorder, ties and late rows: what a late row is missing from is part of the answer.

-- case: tumble
SELECT window_start, window_end, who, COUNT(*) AS n, SUM(ms) AS total
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, who

-- case: tumble_global
SELECT window_start, window_end, COUNT(*), MIN(ms), MAX(ms), AVG(ms)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end

-- case: tumble_one_second
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' SECOND))
GROUP BY window_start, window_end

-- case: tumble_offset
SELECT window_start, window_end, COUNT(*)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '3' SECOND))
GROUP BY window_start, window_end

-- case: tumble_negative_offset
SELECT window_start, window_end, COUNT(*)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '-4' SECOND))
GROUP BY window_start, window_end

-- case: tumble_named_arguments
SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(DATA => TABLE clicks, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE))
GROUP BY window_start, window_end

-- case: tumble_day
SELECT window_start, window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' DAY))
GROUP BY window_start, window_end

-- case: tumble_nulls
SELECT window_start, customer, item, COUNT(*), COUNT(amount), SUM(amount), MIN(amount), MAX(amount), SUM(quantity)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '5' MINUTE))
GROUP BY window_start, window_end, customer, item

-- case: tumble_all_null_group
SELECT window_start, COUNT(quantity), SUM(quantity), AVG(quantity), MIN(price), MAX(customer)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end

-- case: tumble_avg_decimal
SELECT window_start, AVG(amount), SUM(amount) / COUNT(*)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '4' MINUTE))
GROUP BY window_start, window_end

-- case: tumble_avg_int_negative
SELECT window_start, AVG(quantity), AVG(-quantity), SUM(quantity) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end

-- case: tumble_double
-- doubles: 12
SELECT window_start, item, SUM(price), AVG(price) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '5' MINUTE))
GROUP BY window_start, window_end, item

-- case: tumble_variance
-- doubles: 11
SELECT window_start, STDDEV_POP(CAST(ms AS DOUBLE)), STDDEV_SAMP(CAST(ms AS DOUBLE)), VAR_POP(CAST(ms AS DOUBLE)), VAR_SAMP(CAST(ms AS DOUBLE))
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end

-- case: tumble_distinct
SELECT window_start, COUNT(DISTINCT who), COUNT(DISTINCT page), SUM(DISTINCT ms), COUNT(*)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end

-- case: tumble_distinct_nulls
SELECT window_start, COUNT(DISTINCT customer), COUNT(DISTINCT amount), COUNT(DISTINCT quantity), MAX(DISTINCT quantity)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '5' MINUTE)) GROUP BY window_start, window_end

-- case: tumble_filter
SELECT window_start, COUNT(*) FILTER (WHERE ms > 10), SUM(ms) FILTER (WHERE who = 'ann'), COUNT(DISTINCT who) FILTER (WHERE page <> 'home')
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end

-- case: tumble_filter_on_null
SELECT window_start, COUNT(*) FILTER (WHERE amount > 10), COUNT(*) FILTER (WHERE amount IS NULL)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end

-- case: tumble_listagg
SELECT window_start, who, LISTAGG(page), LISTAGG(CAST(id AS STRING), '+')
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE id < 21 GROUP BY window_start, window_end, who

-- case: tumble_listagg_of_ordered_rows
SELECT window_start, LISTAGG(customer), LISTAGG(item, '+')
FROM TABLE(TUMBLE((
  SELECT * FROM orders WHERE id IN (1, 2, 3, 4, 5, 7, 10, 11, 12, 13, 14, 15, 17, 21, 23, 24, 25, 26, 28, 32, 34, 36, 37, 38)
), DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end

-- case: tumble_first_last_of_ordered_rows
SELECT window_start, FIRST_VALUE(item), LAST_VALUE(quantity), FIRST_VALUE(currency), LAST_VALUE(amount), FIRST_VALUE(id), LAST_VALUE(id)
FROM TABLE(TUMBLE((
  SELECT * FROM orders WHERE id IN (1, 2, 3, 4, 5, 7, 10, 11, 12, 13, 14, 15, 17, 21, 23, 24, 25, 26, 28, 32, 34, 36, 37, 38)
), DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end

-- case: tumble_listagg_disorder
SELECT window_start, LISTAGG(customer, ';') FROM TABLE(TUMBLE((SELECT * FROM orders WHERE id < 9), DESCRIPTOR(ts), INTERVAL '10' MINUTE))
GROUP BY window_start, window_end

-- case: tumble_listagg_distinct
SELECT window_start, who, LISTAGG(DISTINCT page) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE id < 4 GROUP BY window_start, window_end, who

-- case: tumble_first_last_disorder
SELECT window_start, who, FIRST_VALUE(page), LAST_VALUE(id)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, who

-- case: tumble_first_last_nulls_disorder
SELECT window_start, FIRST_VALUE(customer), LAST_VALUE(amount)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end

-- case: tumble_array_agg
SELECT window_start, who, ARRAY_AGG(id) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) WHERE id < 4 GROUP BY window_start, window_end, who

-- case: tumble_collect
SELECT window_start, COLLECT(page) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end

-- case: tumble_having
SELECT window_start, who, COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end, who HAVING COUNT(*) > 1 AND SUM(ms) > 10

-- case: tumble_expression_key
SELECT window_start, UPPER(who) AS w, ms > 10 AS big, COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, UPPER(who), ms > 10

-- case: tumble_over_filter
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE((SELECT * FROM clicks WHERE who <> 'bob'), DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end

-- case: tumble_over_view
CREATE TEMPORARY VIEW big AS SELECT id, who, ms * 2 AS twice, ts FROM clicks WHERE ms >= 10;
SELECT window_start, who, SUM(twice) FROM TABLE(TUMBLE(TABLE big, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end, who

-- case: tumble_rows
SELECT id, customer, ts, window_start, window_end, window_time FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' SECOND))

-- case: tumble_rows_late_rows
SELECT id, who, ts, window_start, window_end, window_time FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND))

-- case: tumble_empty
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE((SELECT * FROM clicks WHERE id < 0), DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end

-- case: tumble_select_distinct
SELECT DISTINCT window_start, window_end, who FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND))

-- case: hop
SELECT window_start, window_end, who, COUNT(*), SUM(ms)
FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) GROUP BY window_start, window_end, who

-- case: hop_global
SELECT window_start, window_end, COUNT(*), MIN(ms), MAX(ms), COUNT(DISTINCT who)
FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '30' SECOND)) GROUP BY window_start, window_end

-- case: hop_one_slide
SELECT window_start, COUNT(*) FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '10' SECOND)) GROUP BY window_start, window_end

-- case: hop_offset
SELECT window_start, window_end, COUNT(*)
FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND, INTERVAL '2' SECOND)) GROUP BY window_start, window_end

-- case: hop_nulls
SELECT window_start, customer, SUM(amount), AVG(amount), COUNT(price)
FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '3' MINUTE)) GROUP BY window_start, window_end, customer

-- case: hop_rows
SELECT id, window_start, window_end FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE)) WHERE id < 20

-- case: hop_rows_late_rows
SELECT id, window_start, window_end FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) WHERE id < 20

-- case: cumulate
SELECT window_start, window_end, who, COUNT(*), SUM(ms)
FROM TABLE(CUMULATE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND)) GROUP BY window_start, window_end, who

-- case: cumulate_global
SELECT window_start, window_end, COUNT(*), COUNT(DISTINCT who)
FROM TABLE(CUMULATE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '1' MINUTE)) GROUP BY window_start, window_end

-- case: cumulate_day
SELECT window_start, window_end, MAX(ms) FROM TABLE(CUMULATE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '6' HOUR, INTERVAL '1' DAY)) GROUP BY window_start, window_end

-- case: session
SELECT window_start, window_end, who, COUNT(*), SUM(ms)
FROM TABLE(SESSION(TABLE clicks PARTITION BY who, DESCRIPTOR(ts), INTERVAL '5' SECOND)) GROUP BY window_start, window_end, who

-- case: session_global
SELECT window_start, window_end, COUNT(*) FROM TABLE(SESSION(TABLE clicks, DESCRIPTOR(ts), INTERVAL '3' SECOND)) GROUP BY window_start, window_end

-- case: session_long_gap
SELECT window_start, window_end, who, COUNT(DISTINCT page), MIN(id), MAX(id)
FROM TABLE(SESSION(TABLE clicks PARTITION BY who, DESCRIPTOR(ts), INTERVAL '12' SECOND)) GROUP BY window_start, window_end, who

-- case: session_null_key
SELECT window_start, window_end, customer, COUNT(*), SUM(amount)
FROM TABLE(SESSION(TABLE orders PARTITION BY customer, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, customer

-- case: session_distance_is_gap
SELECT window_start, window_end, item, COUNT(*) FROM TABLE(SESSION(TABLE orders PARTITION BY item, DESCRIPTOR(ts), INTERVAL '30' SECOND)) GROUP BY window_start, window_end, item

-- case: session_two_keys
SELECT window_start, window_end, who, page, COUNT(*)
FROM TABLE(SESSION(TABLE clicks PARTITION BY (who, page), DESCRIPTOR(ts), INTERVAL '8' SECOND)) GROUP BY window_start, window_end, who, page

-- case: session_rows
SELECT id, window_start, window_end FROM TABLE(SESSION(TABLE orders PARTITION BY item, DESCRIPTOR(ts), INTERVAL '30' SECOND))

-- case: grouping_sets
SELECT window_start, who, page, COUNT(*), SUM(ms)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, GROUPING SETS ((who), (page), ())

-- case: cube
SELECT window_start, who, page, COUNT(*), GROUPING(who) AS gw, GROUPING(page) AS gp
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND)) GROUP BY window_start, window_end, CUBE (who, page)

-- case: rollup_with_nulls
SELECT window_start, customer, item, SUM(amount), GROUPING(customer) AS gc, GROUPING(item) AS gi
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY window_start, window_end, ROLLUP (customer, item)

-- case: grouping_id
SELECT window_start, GROUPING_ID(who, page) AS gid, COUNT(*)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end, GROUPING SETS ((who, page), (who), ())

-- case: window_over_window
CREATE TEMPORARY VIEW minutes AS
SELECT window_time AS rt, who, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time, who;
SELECT window_start, window_end, SUM(n), MAX(n), COUNT(*) FROM TABLE(TUMBLE(TABLE minutes, DESCRIPTOR(rt), INTERVAL '30' SECOND)) GROUP BY window_start, window_end

-- case: hop_over_tumble
CREATE TEMPORARY VIEW tens AS
SELECT window_time AS rt, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, window_time;
SELECT window_start, window_end, SUM(n) FROM TABLE(HOP(TABLE tens, DESCRIPTOR(rt), INTERVAL '10' SECOND, INTERVAL '30' SECOND)) GROUP BY window_start, window_end

-- case: cascade_in_one_window
SELECT window_start, window_end, MAX(n), COUNT(*) FROM (
  SELECT window_start, window_end, who, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, who
) GROUP BY window_start, window_end

-- case: windows_of_ltz
SELECT window_start, window_end, window_time, COUNT(*), SUM(v)
FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(moment), INTERVAL '1' DAY)) GROUP BY window_start, window_end, window_time

-- case: windows_of_ltz_in_a_zone
SET 'table.local-time-zone' = 'Asia/Shanghai';
SELECT window_start, window_end, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(moment), INTERVAL '1' DAY)) GROUP BY window_start, window_end

-- case: windows_of_ltz_half_hour_zone
SET 'table.local-time-zone' = 'Asia/Kolkata';
SELECT window_start, window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(moment), INTERVAL '1' DAY)) GROUP BY window_start, window_end

-- case: hours_of_ltz_half_hour_zone
SET 'table.local-time-zone' = 'Asia/Kolkata';
SELECT window_start, window_end, COUNT(*) FROM TABLE(HOP(TABLE moments, DESCRIPTOR(moment), INTERVAL '1' HOUR, INTERVAL '2' HOUR)) GROUP BY window_start, window_end

-- case: union_all_then_window
CREATE TEMPORARY VIEW both_of_them AS SELECT 'o' AS src, ts FROM orders UNION ALL SELECT 'p' AS src, ts FROM payments;
SELECT window_start, window_end, src, COUNT(*) FROM TABLE(TUMBLE(TABLE both_of_them, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end, src

-- case: union_all_in_a_window
SELECT window_start, window_end, src, COUNT(*) FROM TABLE(TUMBLE((
  SELECT 'o' AS src, ts FROM orders UNION ALL SELECT 'p' AS src, ts FROM payments
), DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end, src

-- case: allow_lateness
SET 'table.exec.emit.allow-lateness' = '10 s';
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end

-- case: null_event_time
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE timeless, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end

-- case: case_over_window_aggregate
SELECT window_start, CASE WHEN COUNT(*) > 5 THEN 'busy' ELSE 'calm' END, CAST(SUM(ms) AS DOUBLE) / COUNT(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end

-- case: min_max_texts_and_times
SELECT window_start, MIN(who), MAX(page), MIN(ts), MAX(ts) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND)) GROUP BY window_start, window_end

-- case: hours_when_the_clock_goes_forward
SET 'table.local-time-zone' = 'Europe/Berlin';
CREATE TEMPORARY TABLE spring (
  id INT, epoch_ms BIGINT, v INT, moment AS TO_TIMESTAMP_LTZ(epoch_ms + 7516800000, 3), WATERMARK FOR moment AS moment - INTERVAL '10' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/moments.csv', 'format' = 'csv');
SELECT window_start, window_end, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE spring, DESCRIPTOR(moment), INTERVAL '1' HOUR)) GROUP BY window_start, window_end

-- case: days_when_the_clock_goes_forward
SET 'table.local-time-zone' = 'Europe/Berlin';
CREATE TEMPORARY TABLE spring (
  id INT, epoch_ms BIGINT, v INT, moment AS TO_TIMESTAMP_LTZ(epoch_ms + 7516800000, 3), WATERMARK FOR moment AS moment - INTERVAL '10' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/moments.csv', 'format' = 'csv');
SELECT window_start, window_end, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE spring, DESCRIPTOR(moment), INTERVAL '1' DAY)) GROUP BY window_start, window_end

-- case: hops_when_the_clock_goes_forward
SET 'table.local-time-zone' = 'Europe/Berlin';
CREATE TEMPORARY TABLE spring (
  id INT, epoch_ms BIGINT, v INT, moment AS TO_TIMESTAMP_LTZ(epoch_ms + 7516800000, 3), WATERMARK FOR moment AS moment - INTERVAL '10' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/moments.csv', 'format' = 'csv');
SELECT window_start, window_end, COUNT(*), SUM(v) FROM TABLE(HOP(TABLE spring, DESCRIPTOR(moment), INTERVAL '1' HOUR, INTERVAL '3' HOUR)) GROUP BY window_start, window_end

-- case: hours_when_the_clock_goes_back
SET 'table.local-time-zone' = 'Europe/Berlin';
CREATE TEMPORARY TABLE autumn (
  id INT, epoch_ms BIGINT, v INT, moment AS TO_TIMESTAMP_LTZ(epoch_ms + 25660800000, 3), WATERMARK FOR moment AS moment - INTERVAL '10' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/moments.csv', 'format' = 'csv');
SELECT window_start, window_end, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE autumn, DESCRIPTOR(moment), INTERVAL '1' HOUR)) GROUP BY window_start, window_end

-- case: days_when_the_clock_goes_back
SET 'table.local-time-zone' = 'Europe/Berlin';
CREATE TEMPORARY TABLE autumn (
  id INT, epoch_ms BIGINT, v INT, moment AS TO_TIMESTAMP_LTZ(epoch_ms + 25660800000, 3), WATERMARK FOR moment AS moment - INTERVAL '10' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/moments.csv', 'format' = 'csv');
SELECT window_start, window_end, COUNT(*), SUM(v) FROM TABLE(TUMBLE(TABLE autumn, DESCRIPTOR(moment), INTERVAL '1' DAY)) GROUP BY window_start, window_end

-- case: hops_when_the_clock_goes_back
SET 'table.local-time-zone' = 'Europe/Berlin';
CREATE TEMPORARY TABLE autumn (
  id INT, epoch_ms BIGINT, v INT, moment AS TO_TIMESTAMP_LTZ(epoch_ms + 25660800000, 3), WATERMARK FOR moment AS moment - INTERVAL '10' MINUTE
) WITH ('connector' = 'filesystem', 'path' = 'data/moments.csv', 'format' = 'csv');
SELECT window_start, window_end, COUNT(*), SUM(v) FROM TABLE(HOP(TABLE autumn, DESCRIPTOR(moment), INTERVAL '1' HOUR, INTERVAL '3' HOUR)) GROUP BY window_start, window_end
