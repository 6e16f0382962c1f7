-- IN, EXISTS and their negations, with NULL on either side; scalar and correlated subqueries; LATERAL.

-- case: in_subquery
SELECT k, v FROM bag_a WHERE k IN (SELECT k FROM bag_b)

-- case: in_subquery_two
SELECT k, v FROM bag_a WHERE (k, v) IN (SELECT k, v FROM bag_b)

-- case: not_in_with_nulls
SELECT k, v FROM bag_a WHERE k NOT IN (SELECT k FROM bag_b)

-- case: not_in_without_nulls
SELECT k, v FROM bag_a WHERE k NOT IN (SELECT k FROM bag_b WHERE k IS NOT NULL)

-- case: not_in_nothing
SELECT k, v FROM bag_a WHERE k NOT IN (SELECT k FROM nothing)

-- case: in_nothing
SELECT k, v FROM bag_a WHERE k IN (SELECT k FROM nothing)

-- case: in_aggregate
SELECT k, v FROM bag_a WHERE k IN (SELECT k FROM bag_b GROUP BY k HAVING COUNT(*) > 1)

-- case: in_that_turns_false
SELECT k, v FROM bag_a WHERE k IN (SELECT k FROM bag_b GROUP BY k HAVING COUNT(*) = 1)

-- case: not_in_that_turns
SELECT k, v FROM bag_a WHERE k NOT IN (SELECT k FROM bag_b WHERE k IS NOT NULL GROUP BY k HAVING COUNT(*) = 1)

-- case: exists
SELECT k, v FROM bag_a a WHERE EXISTS (SELECT 1 FROM bag_b b WHERE a.k = b.k)

-- case: not_exists
SELECT k, v FROM bag_a a WHERE NOT EXISTS (SELECT 1 FROM bag_b b WHERE a.k = b.k)

-- case: exists_residual
SELECT k, v FROM bag_a a WHERE EXISTS (SELECT 1 FROM bag_b b WHERE a.k = b.k AND a.v <> b.v)

-- case: not_exists_residual
SELECT k, v FROM bag_a a WHERE NOT EXISTS (SELECT 1 FROM bag_b b WHERE a.k = b.k AND a.v <> b.v)

-- case: exists_uncorrelated
SELECT k, v FROM bag_a WHERE EXISTS (SELECT 1 FROM bag_b WHERE k = 4)

-- case: not_exists_uncorrelated
SELECT k, v FROM bag_a WHERE NOT EXISTS (SELECT 1 FROM nothing)

-- case: in_and_exists
SELECT k, v FROM bag_a a WHERE k IN (SELECT k FROM bag_b) AND NOT EXISTS (SELECT 1 FROM bag_b b WHERE b.v = a.v)

-- case: in_over_updating_left
SELECT k, n FROM (SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k) WHERE k IN (SELECT k FROM bag_b)

-- case: not_exists_over_updating_left
SELECT k, n FROM (SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k) a WHERE NOT EXISTS (SELECT 1 FROM bag_b b WHERE b.k = a.n)

-- case: scalar_subquery
SELECT id, amount, (SELECT MAX(paid) FROM payments) AS most FROM orders WHERE id < 6

-- case: scalar_subquery_in_where
SELECT id, amount FROM orders WHERE amount > (SELECT AVG(amount) FROM orders)

-- case: scalar_subquery_of_nothing
SELECT k, (SELECT MAX(k) FROM nothing) FROM bag_a

-- case: scalar_count_of_nothing
SELECT k, (SELECT COUNT(*) FROM nothing) FROM bag_a WHERE k < 3

-- case: correlated_scalar
SELECT o.id, (SELECT SUM(p.paid) FROM payments p WHERE p.order_id = o.id) FROM orders o

-- case: correlated_count
SELECT o.id, (SELECT COUNT(*) FROM payments p WHERE p.order_id = o.id) FROM orders o

-- case: correlated_in_where
SELECT o.id FROM orders o WHERE o.amount > (SELECT AVG(i.amount) FROM orders i WHERE i.customer = o.customer)

-- case: lateral
SELECT a.k, l.v FROM bag_a a, LATERAL (SELECT b.v FROM bag_b b WHERE b.k = a.k) AS l

-- case: lateral_left
SELECT a.k, l.n FROM (SELECT DISTINCT k FROM bag_a) a LEFT JOIN LATERAL (SELECT COUNT(*) AS n FROM bag_b b WHERE b.k = a.k) AS l ON TRUE

-- case: subquery_in_from
SELECT k, n FROM (SELECT k, COUNT(*) AS n FROM (SELECT k FROM bag_a WHERE v IS NOT NULL) GROUP BY k) WHERE n > 1

-- case: in_or
SELECT k, v FROM bag_a WHERE k IN (SELECT k FROM bag_b) OR v = 'x'

-- case: case_with_in
SELECT k, CASE WHEN k IN (SELECT k FROM bag_b WHERE k IS NOT NULL) THEN 'there' ELSE 'not' END FROM bag_a WHERE k IS NOT NULL

-- case: any_all
SELECT k FROM bag_a WHERE k > ALL (SELECT k FROM bag_b WHERE k < 3)
