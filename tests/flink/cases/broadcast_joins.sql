-- Joins with a table in every task (BROADCAST): Flink's batch mode follows the hint, its streaming mode passes over it.
-- The final rows are the same.

-- case: inner
SELECT /*+ BROADCAST(b) */ a.k, a.v, b.v FROM bag_a a JOIN bag_b b ON a.k = b.k

-- case: inner_left_hinted
SELECT /*+ BROADCAST(a) */ a.k, a.v, b.v FROM bag_a a JOIN bag_b b ON a.k = b.k

-- case: left
SELECT /*+ BROADCAST(b) */ a.k, a.v, b.v FROM bag_a a LEFT JOIN bag_b b ON a.k = b.k

-- case: right
SELECT /*+ BROADCAST(bag_a) */ bag_a.k, bag_a.v, b.k, b.v FROM bag_a RIGHT JOIN bag_b b ON bag_a.k = b.k

-- case: left_residual
SELECT /*+ BROADCAST(b) */ a.k, a.v, b.v FROM bag_a a LEFT JOIN bag_b b ON a.k = b.k AND a.v < b.v

-- case: without_keys
SELECT /*+ BROADCAST(b) */ a.k, a.v, b.k, b.v FROM bag_a a JOIN bag_b b ON a.v < b.v

-- case: cross
SELECT /*+ BROADCAST(c) */ o.id, c.name FROM orders o CROSS JOIN customers c WHERE o.id < 10

-- case: null_safe_keys
SELECT /*+ BROADCAST(b) */ a.k, a.v, b.v FROM bag_a a JOIN bag_b b ON a.k IS NOT DISTINCT FROM b.k

-- case: table_that_is_updated
SELECT /*+ BROADCAST(t) */ o.id, t.n FROM orders o LEFT JOIN (SELECT name, COUNT(*) AS n FROM customers GROUP BY name) t
  ON o.customer = t.name

-- case: result_that_is_updated
SELECT /*+ BROADCAST(c) */ o.customer, o.n, c.city FROM (SELECT customer, COUNT(*) AS n FROM orders GROUP BY customer) o
  LEFT JOIN customers c ON o.customer = c.name

-- case: two_tables
SELECT /*+ BROADCAST(c, p) */ o.id, c.city, p.paid FROM orders o LEFT JOIN customers c ON o.customer = c.name
  LEFT JOIN payments p ON p.order_id = o.id

-- case: in_subquery
SELECT id, customer FROM orders WHERE customer IN (SELECT /*+ BROADCAST(customers) */ name FROM customers)

-- case: not_exists
SELECT id, customer FROM orders o WHERE NOT EXISTS (SELECT /*+ BROADCAST(c) */ 1 FROM customers c WHERE c.name = o.customer)

-- case: aggregate_behind
SELECT /*+ BROADCAST(c) */ c.city, COUNT(*) AS n FROM orders o LEFT JOIN customers c ON o.customer = c.name GROUP BY c.city
