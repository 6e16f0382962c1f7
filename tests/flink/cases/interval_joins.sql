-- Interval joins: every kind, bounds that are hit exactly, one-sided and uneven bounds, NULL keys.

-- case: inner
SELECT o.id, p.id, o.ts, p.ts FROM orders o, payments p WHERE o.id = p.order_id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' MINUTE

-- case: inner_before_and_after
SELECT o.id, p.id FROM orders o JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts - INTERVAL '10' SECOND AND o.ts + INTERVAL '30' SECOND

-- case: inner_exclusive
SELECT o.id, p.id FROM orders o JOIN payments p ON o.id = p.order_id AND p.ts > o.ts AND p.ts < o.ts + INTERVAL '60' SECOND

-- case: inner_only_after
SELECT o.id, p.id FROM orders o JOIN payments p ON o.id = p.order_id AND p.ts >= o.ts + INTERVAL '30' SECOND AND p.ts <= o.ts + INTERVAL '2' MINUTE

-- case: inner_from_the_right
SELECT o.id, p.id FROM orders o JOIN payments p ON o.id = p.order_id AND o.ts BETWEEN p.ts - INTERVAL '1' MINUTE AND p.ts

-- case: left
SELECT o.id, p.id, p.paid FROM orders o LEFT JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' MINUTE

-- case: right
SELECT o.id, p.id, o.customer FROM orders o RIGHT JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' MINUTE

-- case: full
SELECT o.id, p.id FROM orders o FULL JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' MINUTE

-- case: left_residual
SELECT o.id, p.id FROM orders o LEFT JOIN payments p ON o.id = p.order_id AND o.amount = p.paid AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' MINUTE

-- case: left_non_equi_residual
SELECT o.id, p.id FROM orders o LEFT JOIN payments p ON o.id = p.order_id AND p.paid < o.amount AND p.ts BETWEEN o.ts - INTERVAL '1' MINUTE AND o.ts + INTERVAL '2' MINUTE

-- case: full_non_equi_residual
SELECT o.id, p.id FROM orders o FULL JOIN payments p ON o.id = p.order_id AND p.means <> 'card' AND p.ts BETWEEN o.ts - INTERVAL '1' MINUTE AND o.ts + INTERVAL '2' MINUTE

-- case: wide
SELECT o.id, p.id FROM orders o JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts - INTERVAL '1' HOUR AND o.ts + INTERVAL '1' HOUR

-- case: same_time_only
SELECT o.id, p.id FROM orders o JOIN payments p ON o.id = p.order_id AND o.ts = p.ts

-- case: left_empty_interval
SELECT o.id, p.id FROM orders o LEFT JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts + INTERVAL '1' MINUTE AND o.ts - INTERVAL '1' MINUTE

-- case: string_key_with_nulls
SELECT a.id, b.id FROM orders a LEFT JOIN orders b ON a.customer = b.customer AND a.id <> b.id AND b.ts BETWEEN a.ts - INTERVAL '30' SECOND AND a.ts

-- case: self
SELECT a.id, b.id FROM orders a JOIN orders b ON a.item = b.item AND a.id < b.id AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE

-- case: without_equality
SELECT o.id, p.id FROM orders o JOIN payments p ON p.ts BETWEEN o.ts AND o.ts + INTERVAL '5' SECOND

-- case: then_window
SELECT window_start, COUNT(*), SUM(paid) FROM TABLE(TUMBLE((
  SELECT o.ts, p.paid FROM orders o JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' MINUTE
), DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end

-- case: then_group
SELECT o.customer, COUNT(p.id) FROM orders o LEFT JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' MINUTE GROUP BY o.customer

-- case: three
SELECT o.id, p.id, q.id FROM orders o JOIN payments p ON o.id = p.order_id AND p.ts BETWEEN o.ts AND o.ts + INTERVAL '1' MINUTE
JOIN orders q ON q.customer = o.customer AND q.id > o.id AND q.ts BETWEEN o.ts AND o.ts + INTERVAL '3' MINUTE
