-- Regular joins: every kind, NULL keys, residual conditions, joins of what changes.

-- case: inner
SELECT a.k, a.v, b.v FROM bag_a a JOIN bag_b b ON a.k = b.k

-- case: inner_two_keys
SELECT a.k, a.v FROM bag_a a JOIN bag_b b ON a.k = b.k AND a.v = b.v

-- case: inner_where
SELECT a.k, a.v, b.v FROM bag_a a, bag_b b WHERE a.k = b.k AND b.v <> 'c'

-- case: using
SELECT k, bag_a.v, bag_b.v FROM bag_a JOIN bag_b USING (k)

-- case: left
SELECT a.k, a.v, b.v FROM bag_a a LEFT JOIN bag_b b ON a.k = b.k

-- case: right
SELECT a.k, a.v, b.k, b.v FROM bag_a a RIGHT JOIN bag_b b ON a.k = b.k

-- case: full
SELECT a.k, a.v, b.k, b.v FROM bag_a a FULL JOIN bag_b b ON a.k = b.k

-- case: left_residual
SELECT a.k, a.v, b.v FROM bag_a a LEFT JOIN bag_b b ON a.k = b.k AND a.v < b.v

-- case: right_residual
SELECT a.k, a.v, b.k, b.v FROM bag_a a RIGHT JOIN bag_b b ON a.k = b.k AND a.v <> b.v

-- case: full_residual
SELECT a.k, a.v, b.k, b.v FROM bag_a a FULL JOIN bag_b b ON a.k = b.k AND a.v <> b.v

-- case: left_condition_on_left_only
SELECT a.k, a.v, b.v FROM bag_a a LEFT JOIN bag_b b ON a.k = b.k AND a.v = 'a'

-- case: left_where_is_null
SELECT a.k, a.v FROM bag_a a LEFT JOIN bag_b b ON a.k = b.k WHERE b.k IS NULL

-- case: left_where_on_right
SELECT a.k, a.v, b.v FROM bag_a a LEFT JOIN bag_b b ON a.k = b.k WHERE b.v = 'a'

-- case: null_safe_keys
SELECT a.k, a.v, b.v FROM bag_a a JOIN bag_b b ON a.k IS NOT DISTINCT FROM b.k

-- case: key_expression
SELECT a.k, b.k FROM bag_a a JOIN bag_b b ON a.k + 1 = b.k

-- case: key_types
SELECT a.k, b.l FROM bag_a a JOIN (SELECT CAST(k AS BIGINT) AS l FROM bag_b) b ON a.k = b.l

-- case: self_join
SELECT a.id, b.id FROM orders a JOIN orders b ON a.customer = b.customer AND a.id < b.id WHERE a.id < 15 AND b.id < 15

-- case: self_left_join
SELECT a.k, a.v, b.v FROM bag_a a LEFT JOIN bag_a b ON a.k = b.k AND a.v > b.v

-- case: three_way
SELECT o.id, o.customer, c.city, p.paid FROM orders o JOIN customers c ON o.customer = c.name JOIN payments p ON p.order_id = o.id

-- case: three_way_left
SELECT o.id, c.city, p.id FROM orders o LEFT JOIN customers c ON o.customer = c.name LEFT JOIN payments p ON p.order_id = o.id

-- case: three_way_mixed
SELECT a.k, b.v, c.v FROM bag_a a FULL JOIN bag_b b ON a.k = b.k LEFT JOIN bag_b c ON b.k = c.k AND c.v = 'a'

-- case: with_nothing
SELECT a.k, n.v FROM bag_a a LEFT JOIN nothing n ON a.k = n.k

-- case: full_with_nothing
SELECT n.k, b.k, b.v FROM nothing n FULL JOIN bag_b b ON n.k = b.k

-- case: cross
SELECT a.v, b.n FROM bag_a a CROSS JOIN (VALUES ('1'), ('2')) AS b (n)

-- case: non_equi_inner
SELECT a.k, b.k FROM bag_a a JOIN bag_b b ON a.k < b.k WHERE b.k > 4

-- case: join_of_aggregates
SELECT a.k, a.n, b.n FROM (SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k) a JOIN (SELECT k, COUNT(*) AS n FROM bag_b GROUP BY k) b ON a.k = b.k

-- case: left_join_of_aggregates
SELECT a.k, a.n, b.n FROM (SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k) a LEFT JOIN (SELECT k, COUNT(*) AS n FROM bag_b GROUP BY k) b ON a.k = b.k

-- case: full_join_of_aggregates_on_value
SELECT a.k, a.n, b.k, b.n FROM (SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k) a FULL JOIN (SELECT k, COUNT(*) AS n FROM bag_b GROUP BY k) b ON a.n = b.n

-- case: join_row_to_its_aggregate
SELECT o.id, o.amount, t.total FROM orders o JOIN (SELECT customer, SUM(amount) AS total FROM orders GROUP BY customer) t ON o.customer = t.customer

-- case: left_join_residual_of_aggregates
SELECT a.k, a.n, b.n FROM (SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k) a LEFT JOIN (SELECT k, COUNT(*) AS n FROM bag_b GROUP BY k) b ON a.k = b.k AND a.n > b.n

-- case: aggregate_of_join
SELECT c.city, COUNT(*), SUM(o.amount) FROM orders o JOIN customers c ON o.customer = c.name GROUP BY c.city

-- case: aggregate_of_left_join
SELECT c.name, COUNT(o.id), SUM(o.amount) FROM customers c LEFT JOIN orders o ON o.customer = c.name GROUP BY c.name

-- case: aggregate_of_full_join
SELECT COUNT(*), COUNT(a.k), COUNT(b.k) FROM bag_a a FULL JOIN bag_b b ON a.k = b.k

-- case: distinct_of_join
SELECT DISTINCT a.k FROM bag_a a JOIN bag_b b ON a.k = b.k

-- case: join_on_strings
SELECT a.v, b.k FROM bag_a a JOIN bag_b b ON a.v = b.v

-- case: join_on_decimal
SELECT o.id, p.id FROM orders o JOIN payments p ON o.amount = p.paid AND o.id = p.order_id

-- case: left_join_coalesce
SELECT o.id, COALESCE(c.city, 'nowhere') FROM orders o LEFT JOIN customers c ON o.customer = c.name AND c.age > 20

-- case: join_of_unions
SELECT a.k, b.v FROM (SELECT k FROM bag_a UNION SELECT k FROM bag_b) a JOIN bag_b b ON a.k = b.k

-- case: join_in_view_twice
CREATE TEMPORARY VIEW joined AS SELECT a.k, b.v FROM bag_a a JOIN bag_b b ON a.k = b.k;
SELECT x.k, x.v, y.v FROM joined x JOIN joined y ON x.k = y.k AND x.v < y.v
