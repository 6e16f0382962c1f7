-- Aggregates without windows: results that change, groups that come and go, aggregates over aggregates.

-- case: count_by
SELECT customer, COUNT(*), COUNT(amount), COUNT(DISTINCT item) FROM orders GROUP BY customer

-- case: count_all
SELECT COUNT(*), COUNT(amount), SUM(quantity) FROM orders

-- case: count_of_nothing
SELECT COUNT(*), SUM(k), MAX(v) FROM nothing

-- case: count_of_nothing_by_key
SELECT k, COUNT(*) FROM nothing GROUP BY k

-- case: sum_min_max_avg
SELECT item, SUM(amount), MIN(amount), MAX(amount), AVG(amount), SUM(quantity), AVG(quantity) FROM orders GROUP BY item

-- case: doubles
-- doubles: 12
SELECT item, SUM(price), AVG(price), MIN(price), MAX(price) FROM orders GROUP BY item

-- case: variance
-- doubles: 11
SELECT city, STDDEV_POP(score), VAR_SAMP(score), STDDEV_SAMP(score) FROM customers GROUP BY city

-- case: having
SELECT customer, SUM(amount) AS s FROM orders GROUP BY customer HAVING SUM(amount) > 20 AND COUNT(*) > 2

-- case: having_that_turns_false
SELECT item, COUNT(*) AS n FROM orders GROUP BY item HAVING COUNT(*) < 5

-- case: filter_clause
SELECT customer, COUNT(*) FILTER (WHERE amount > 5), SUM(amount) FILTER (WHERE item = 'pen') FROM orders GROUP BY customer

-- case: group_by_expression
SELECT CHAR_LENGTH(customer) AS len, quantity > 1 AS many, COUNT(*) FROM orders GROUP BY CHAR_LENGTH(customer), quantity > 1

-- case: group_by_two
SELECT customer, item, COUNT(*), MAX(id) FROM orders GROUP BY customer, item

-- case: select_distinct
SELECT DISTINCT customer FROM orders

-- case: select_distinct_two
SELECT DISTINCT k, v FROM bag_a

-- case: count_distinct_several
SELECT COUNT(DISTINCT customer), COUNT(DISTINCT item), COUNT(DISTINCT k1) FROM (SELECT customer, item, quantity AS k1 FROM orders)

-- case: count_distinct_pairs
SELECT COUNT(*) FROM (SELECT DISTINCT customer, item FROM orders)

-- case: sum_distinct
SELECT k, SUM(DISTINCT CHAR_LENGTH(v)), COUNT(DISTINCT v), COUNT(v) FROM bag_a GROUP BY k

-- case: nested_count_of_counts
SELECT n, COUNT(*) FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) GROUP BY n

-- case: nested_sum_and_max
SELECT MAX(n), MIN(n), SUM(n), COUNT(*) FROM (SELECT item, COUNT(*) AS n FROM orders GROUP BY item)

-- case: nested_max_retracts
SELECT low, MAX(q), MIN(q) FROM (SELECT customer, CHAR_LENGTH(customer) AS low, SUM(quantity) AS q FROM orders GROUP BY customer) GROUP BY low

-- case: nested_avg_decimal
SELECT COUNT(*), AVG(s), SUM(s) FROM (SELECT customer, SUM(amount) AS s FROM orders GROUP BY customer)

-- case: nested_distinct_retracts
SELECT COUNT(DISTINCT n), SUM(DISTINCT n) FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer)

-- case: nested_filter_retracts
SELECT COUNT(*) FILTER (WHERE n > 4), COUNT(*) FILTER (WHERE n <= 4) FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer)

-- case: nested_where_retracts
SELECT COUNT(*), SUM(n) FROM (SELECT item, COUNT(*) AS n FROM orders GROUP BY item) WHERE n < 8

-- case: group_appears_and_goes
SELECT n, COUNT(*) FROM (SELECT item, COUNT(*) AS n FROM orders GROUP BY item) WHERE n BETWEEN 2 AND 5 GROUP BY n

-- case: nested_three
SELECT c, COUNT(*) FROM (SELECT n, COUNT(*) AS c FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) GROUP BY n) GROUP BY c

-- case: first_last_value
SELECT customer, FIRST_VALUE(id), LAST_VALUE(id), FIRST_VALUE(item), LAST_VALUE(amount) FROM orders GROUP BY customer

-- case: listagg
SELECT k, LISTAGG(v), LISTAGG(v, '|') FROM bag_a GROUP BY k

-- case: listagg_distinct
SELECT k, LISTAGG(DISTINCT v) FROM bag_a WHERE k <> 1 GROUP BY k

-- case: collect
SELECT k, COLLECT(v) FROM bag_a WHERE v IS NOT NULL GROUP BY k

-- case: array_agg
SELECT k, ARRAY_AGG(v) FROM bag_a GROUP BY k

-- case: grouping_sets
SELECT customer, item, COUNT(*), SUM(amount) FROM orders GROUP BY GROUPING SETS ((customer), (item), ())

-- case: rollup
SELECT city, age, COUNT(*), GROUPING(city) AS gc, GROUPING(age) AS ga FROM customers GROUP BY ROLLUP (city, age)

-- case: cube
SELECT k, v, COUNT(*) FROM bag_a GROUP BY CUBE (k, v)

-- case: grouping_sets_of_nothing
SELECT k, COUNT(*) FROM nothing GROUP BY GROUPING SETS ((k), ())

-- case: min_max_strings
SELECT MIN(customer), MAX(customer), MIN(ts), MAX(ts) FROM orders

-- case: aggregate_of_constant
SELECT customer, SUM(1), COUNT(1), MAX('x') FROM orders GROUP BY customer

-- case: expression_over_aggregates
SELECT customer, SUM(amount) / COUNT(*), MAX(id) - MIN(id), CASE WHEN COUNT(*) > 5 THEN 'many' ELSE 'few' END FROM orders GROUP BY customer

-- case: aggregate_of_window_result
SELECT who, SUM(n), COUNT(*) FROM (
  SELECT window_start, who, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, who
) GROUP BY who

-- case: distinct_of_aggregate
SELECT DISTINCT n FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer)

-- case: union_all_then_group
SELECT k, COUNT(*) FROM (SELECT k FROM bag_a UNION ALL SELECT k FROM bag_b) GROUP BY k

-- case: sum_of_int_wraps
SELECT SUM(i) FROM (VALUES (CAST(2147483647 AS INT)), (CAST(1 AS INT))) AS t (i)

-- case: group_by_boolean_and_date
SELECT flag, COUNT(*), MIN(dt), MAX(tm) FROM things GROUP BY flag

-- case: group_by_decimal_double
SELECT amount, price, COUNT(*) FROM orders GROUP BY amount, price

-- case: having_on_null
SELECT k, COUNT(*) FILTER (WHERE v IS NULL) FROM bag_a GROUP BY k HAVING MAX(v) IS NOT NULL OR k IS NULL
