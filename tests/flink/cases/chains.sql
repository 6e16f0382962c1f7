-- Several operators on end: what one takes back has to go through all that follow.

-- case: stddev_of_counts
-- doubles: 11
SELECT COUNT(*), STDDEV_POP(CAST(n AS DOUBLE)), AVG(CAST(n AS DOUBLE)) FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer)

-- case: avg_of_sums
SELECT AVG(s), MIN(s), MAX(s) FROM (SELECT customer, SUM(quantity) AS s FROM orders GROUP BY customer)

-- case: last_value_of_changing
SELECT k2, LAST_VALUE(n), COUNT(*) FROM (SELECT customer, 'x' AS k2, COUNT(*) AS n FROM orders WHERE customer = 'ann' GROUP BY customer) GROUP BY k2

-- case: distinct_with_filters
SELECT customer, COUNT(DISTINCT item) FILTER (WHERE quantity > 0), COUNT(DISTINCT item) FILTER (WHERE amount > 5), COUNT(DISTINCT item) FROM orders GROUP BY customer

-- case: grouping_sets_of_changing
SELECT city, n, COUNT(*) FROM (SELECT city, name, COUNT(*) AS n FROM customers GROUP BY city, name) GROUP BY GROUPING SETS ((city), (n), ())

-- case: join_group_join
SELECT t.customer, t.paid, c.city FROM (
  SELECT o.customer, SUM(p.paid) AS paid FROM orders o JOIN payments p ON p.order_id = o.id GROUP BY o.customer
) t LEFT JOIN customers c ON c.name = t.customer

-- case: join_group_having
SELECT c.city, SUM(o.amount) AS s, COUNT(DISTINCT o.customer) FROM orders o JOIN customers c ON o.customer = c.name GROUP BY c.city HAVING COUNT(*) > 5

-- case: left_join_group_top
SELECT name, paid, rn FROM (
  SELECT name, paid, ROW_NUMBER() OVER (ORDER BY paid DESC, name) AS rn FROM (
    SELECT c.name, SUM(p.paid) AS paid FROM (SELECT DISTINCT name FROM customers WHERE name IS NOT NULL) c
    LEFT JOIN orders o ON o.customer = c.name LEFT JOIN payments p ON p.order_id = o.id GROUP BY c.name
  ) WHERE paid IS NOT NULL
) WHERE rn <= 3

-- case: group_left_join_itself
SELECT a.customer, a.n, b.total FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) a
LEFT JOIN (SELECT customer, SUM(amount) AS total FROM orders WHERE amount > 10 GROUP BY customer HAVING COUNT(*) > 2) b ON a.customer = b.customer

-- case: full_join_of_groups_then_group
SELECT has_a, has_b, COUNT(*) FROM (
  SELECT a.k IS NOT NULL AS has_a, b.k IS NOT NULL AS has_b
  FROM (SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k) a FULL JOIN (SELECT k, COUNT(*) AS n FROM bag_b GROUP BY k) b ON a.k = b.k AND a.n = b.n
) GROUP BY has_a, has_b

-- case: semi_join_of_group_then_group
SELECT COUNT(*), SUM(amount) FROM orders WHERE customer IN (SELECT customer FROM orders GROUP BY customer HAVING SUM(quantity) < 8)

-- case: anti_join_of_group_then_group
SELECT item, COUNT(*) FROM orders o WHERE NOT EXISTS (
  SELECT 1 FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) g WHERE g.customer = o.customer AND g.n > 6
) GROUP BY item

-- case: anti_join_of_updating_both
SELECT g.customer, g.n FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) g
WHERE NOT EXISTS (SELECT 1 FROM (SELECT name, COUNT(*) AS m FROM customers GROUP BY name) c WHERE c.name = g.customer AND c.m = 1)

-- case: union_of_changing
SELECT customer FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) WHERE n > 4
UNION SELECT name FROM (SELECT name, COUNT(*) AS n FROM customers GROUP BY name) WHERE n = 1

-- case: union_all_of_changing_then_group
SELECT n, COUNT(*) FROM (
  SELECT COUNT(*) AS n FROM bag_a GROUP BY k UNION ALL SELECT COUNT(*) AS n FROM bag_b GROUP BY k
) GROUP BY n

-- case: except_of_changing
SELECT customer FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) WHERE n > 2
EXCEPT SELECT name FROM (SELECT name, COUNT(*) AS n FROM customers GROUP BY name) WHERE n > 1

-- case: top_then_join_then_group
SELECT c.city, COUNT(*), MAX(t.amount) FROM (
  SELECT customer, amount FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL) WHERE rn <= 3
) t JOIN customers c ON c.name = t.customer GROUP BY c.city

-- case: keep_last_then_group
SELECT item, COUNT(*), SUM(quantity) FROM (
  SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts DESC) AS rn FROM orders) WHERE rn = 1
) GROUP BY item

-- case: keep_last_then_top
SELECT customer, amount, r FROM (
  SELECT customer, amount, ROW_NUMBER() OVER (ORDER BY amount DESC, customer) AS r FROM (
    SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts DESC) AS rn FROM orders WHERE amount IS NOT NULL AND customer IS NOT NULL) WHERE rn = 1
  )
) WHERE r <= 2

-- case: keep_last_left_join_keep_last
SELECT a.customer, a.id, b.id FROM (
  SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts DESC) AS rn FROM orders) WHERE rn = 1
) a LEFT JOIN (
  SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY order_id ORDER BY ts DESC) AS rn FROM payments) WHERE rn = 1
) b ON b.order_id = a.id

-- case: keep_first_then_interval_join
SELECT f.customer, p.id FROM (
  SELECT id, customer, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts) AS rn FROM orders) WHERE rn = 1
) f JOIN payments p ON p.order_id = f.id AND p.ts BETWEEN f.ts - INTERVAL '1' MINUTE AND f.ts + INTERVAL '2' MINUTE

-- case: window_then_join_by_key
SELECT w.window_start, w.customer, w.n, c.city FROM (
  SELECT window_start, window_end, customer, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end, customer
) w JOIN customers c ON c.name = w.customer

-- case: window_then_keep_last
SELECT customer, window_start, n FROM (
  SELECT customer, window_start, n, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY window_start DESC) AS rn FROM (
    SELECT window_start, window_end, customer, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end, customer
  )
) WHERE rn = 1

-- case: window_join_then_window
SELECT window_start, window_end, COUNT(*), SUM(paid) FROM (
  SELECT o.window_start, o.window_end, p.paid
  FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE))) o
  JOIN (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '2' MINUTE))) p
  ON o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end
) GROUP BY window_start, window_end

-- case: interval_join_of_moments
SELECT a.id, b.id FROM moments a JOIN moments b ON a.v = b.v AND b.moment BETWEEN a.moment AND a.moment + INTERVAL '3' HOUR AND a.id < b.id

-- case: interval_join_then_over
SELECT id, n FROM (
  SELECT id, COUNT(*) OVER (PARTITION BY customer ORDER BY ts RANGE BETWEEN INTERVAL '2' MINUTE PRECEDING AND CURRENT ROW) AS n FROM (
    SELECT o.id, o.customer, o.ts FROM orders o JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts - INTERVAL '1' MINUTE AND o.ts + INTERVAL '2' MINUTE
  )
)

-- case: temporal_join_then_top
SELECT id, v, rn FROM (
  SELECT id, v, ROW_NUMBER() OVER (ORDER BY v DESC, id) AS rn FROM (
    SELECT o.id, o.amount * r.rate AS v FROM orders o JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency WHERE o.amount IS NOT NULL AND r.rate IS NOT NULL
  )
) WHERE rn <= 5

-- case: unnest_then_group
SELECT w, COUNT(*), COUNT(DISTINCT id) FROM things CROSS JOIN UNNEST(words) AS u (w) GROUP BY w

-- case: unnest_of_changing
SELECT n, x FROM (SELECT k, COUNT(*) AS n, MAX(ARRAY_JOIN(ARRAY['p', 'q'], ',')) AS a FROM bag_a GROUP BY k) CROSS JOIN UNNEST(SPLIT(a, ',')) AS u (x)

-- case: nothing_left_join_then_group
SELECT COUNT(*), COUNT(n.k) FROM bag_a a LEFT JOIN nothing n ON a.k = n.k

-- case: five_way
SELECT o.id, c.city, p.paid, b.v, a.v FROM orders o JOIN customers c ON c.name = o.customer LEFT JOIN payments p ON p.order_id = o.id LEFT JOIN bag_a a ON a.k = o.quantity AND a.v = 'b' LEFT JOIN bag_b b ON b.k = o.quantity AND b.v = 'a' WHERE o.id < 20

-- case: where_on_changing_outer_join
SELECT c.name, t.n FROM customers c LEFT JOIN (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) t ON t.customer = c.name WHERE t.n IS NULL OR t.n < 5

-- case: case_over_changing
SELECT kind, COUNT(*) FROM (SELECT customer, CASE WHEN COUNT(*) > 5 THEN 'many' WHEN SUM(amount) IS NULL THEN 'none' ELSE 'few' END AS kind FROM orders GROUP BY customer) GROUP BY kind

-- case: limit_of_changing
SELECT customer, n FROM (SELECT customer, COUNT(*) AS n FROM orders WHERE customer IS NOT NULL GROUP BY customer) ORDER BY n, customer LIMIT 3
