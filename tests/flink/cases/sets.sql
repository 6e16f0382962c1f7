-- UNION, INTERSECT, EXCEPT, with and without ALL, over bags with doubles and NULLs; IN and EXISTS have their own file.

-- case: union_all
SELECT k, v FROM bag_a UNION ALL SELECT k, v FROM bag_b

-- case: union
SELECT k, v FROM bag_a UNION SELECT k, v FROM bag_b

-- case: union_of_one
SELECT k FROM bag_a UNION SELECT k FROM bag_a

-- case: intersect
SELECT k, v FROM bag_a INTERSECT SELECT k, v FROM bag_b

-- case: intersect_all
SELECT k, v FROM bag_a INTERSECT ALL SELECT k, v FROM bag_b

-- case: except
SELECT k, v FROM bag_a EXCEPT SELECT k, v FROM bag_b

-- case: except_all
SELECT k, v FROM bag_a EXCEPT ALL SELECT k, v FROM bag_b

-- case: except_other_way
SELECT k, v FROM bag_b EXCEPT SELECT k, v FROM bag_a

-- case: three_unions
SELECT k FROM bag_a UNION ALL SELECT k FROM bag_b UNION ALL SELECT k + 10 FROM bag_a

-- case: union_types
SELECT k FROM bag_a UNION ALL SELECT CAST(k AS BIGINT) * 10000000000 FROM bag_b

-- case: union_of_aggregates
SELECT k, COUNT(*) FROM bag_a GROUP BY k UNION SELECT k, COUNT(*) FROM bag_b GROUP BY k

-- case: intersect_of_aggregates
SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k INTERSECT SELECT k, COUNT(*) AS n FROM bag_b GROUP BY k

-- case: except_all_of_aggregates
SELECT COUNT(*) AS n FROM bag_a GROUP BY k EXCEPT ALL SELECT COUNT(*) AS n FROM bag_b GROUP BY k

-- case: with_nothing
SELECT k, v FROM bag_a INTERSECT SELECT k, v FROM nothing

-- case: except_nothing
SELECT k, v FROM bag_a EXCEPT SELECT k, v FROM nothing

-- case: mixed_precedence
SELECT k FROM bag_a UNION SELECT k FROM bag_b INTERSECT SELECT k FROM bag_a WHERE k > 1

-- case: union_all_with_values
SELECT k, v FROM bag_a WHERE k = 1 UNION ALL VALUES (CAST(100 AS INT), 'hundred')

-- case: cte
WITH c AS (SELECT k, COUNT(*) AS n FROM bag_a GROUP BY k), d AS (SELECT * FROM c WHERE n > 1) SELECT * FROM d UNION ALL SELECT k, CAST(-1 AS BIGINT) FROM c

-- case: order_by_limit
SELECT k, v FROM bag_a WHERE k IS NOT NULL AND v IS NOT NULL ORDER BY v, k LIMIT 4

-- case: order_by_desc_limit
SELECT id, amount FROM orders WHERE amount IS NOT NULL ORDER BY amount DESC, id LIMIT 5

-- case: order_by_nulls_limit
SELECT id, amount FROM orders ORDER BY amount, id LIMIT 6

-- case: order_by_desc_nulls_limit
SELECT id, amount FROM orders ORDER BY amount DESC, id LIMIT 45

-- case: order_by_nulls_last_limit
SELECT id, amount FROM orders ORDER BY amount NULLS LAST, id LIMIT 3

-- case: order_by_limit_offset
SELECT id, amount FROM orders WHERE amount IS NOT NULL ORDER BY amount DESC, id LIMIT 5 OFFSET 3

-- case: order_by_limit_of_aggregate
SELECT customer, COUNT(*) AS n FROM orders WHERE customer IS NOT NULL GROUP BY customer ORDER BY n DESC, customer LIMIT 3

-- case: order_by_time
SELECT id, ts FROM orders WHERE id < 12 ORDER BY ts

-- case: order_by_time_with_late_rows
SELECT id, ts FROM clicks ORDER BY ts

-- case: limit_zero
SELECT k FROM bag_a LIMIT 0

-- case: limit_large
SELECT k, v FROM bag_a LIMIT 1000

-- case: limit_of_constant
SELECT 'x' FROM bag_a LIMIT 3
