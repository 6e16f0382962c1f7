-- Joins of two windowed tables by their window, and window aggregates of both sides.

-- case: inner
SELECT o.id, p.id, o.window_start, o.window_end
FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
JOIN (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) p
ON o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end

-- case: left
SELECT o.id, p.id, o.window_start, p.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
LEFT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) p
ON o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end

-- case: right
SELECT o.id, p.id, p.window_start
FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
RIGHT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) p
ON o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end

-- case: full
SELECT o.id, p.id, COALESCE(o.window_start, p.window_start), COALESCE(o.window_end, p.window_end)
FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
FULL JOIN (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) p
ON o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end

-- case: left_residual
SELECT o.id, p.id
FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE))) o
LEFT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '2' MINUTE))) p
ON o.id = p.order_id AND o.amount > p.paid AND o.window_start = p.window_start AND o.window_end = p.window_end

-- case: null_keys
SELECT o.id, q.id
FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
FULL JOIN (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) q
ON o.customer = q.customer AND o.id < q.id AND o.window_start = q.window_start AND o.window_end = q.window_end

-- case: window_only
SELECT o.id, p.id
FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '20' SECOND))) o
JOIN (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '20' SECOND))) p
ON o.window_start = p.window_start AND o.window_end = p.window_end

-- case: semi
SELECT id, window_start FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
WHERE o.id IN (SELECT order_id FROM (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) p
  WHERE o.window_start = p.window_start AND o.window_end = p.window_end)

-- case: semi_exists
SELECT id, window_start FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
WHERE EXISTS (SELECT 1 FROM (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) p
  WHERE o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end)

-- case: anti
SELECT id, window_start FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
WHERE NOT EXISTS (SELECT 1 FROM (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) p
  WHERE o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end)

-- case: anti_not_in
SELECT id, window_start FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) o
WHERE o.id NOT IN (SELECT order_id FROM (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) p
  WHERE o.window_start = p.window_start AND o.window_end = p.window_end)

-- case: hop
SELECT o.id, p.id, o.window_start
FROM (SELECT * FROM TABLE(HOP(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE))) o
JOIN (SELECT * FROM TABLE(HOP(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE))) p
ON o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end

-- case: cumulate
SELECT o.id, p.id, o.window_start, o.window_end
FROM (SELECT * FROM TABLE(CUMULATE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '3' MINUTE))) o
JOIN (SELECT * FROM TABLE(CUMULATE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '3' MINUTE))) p
ON o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end

-- case: aggregates_of_both
SELECT o.window_start, o.n, p.n, p.paid
FROM (SELECT window_start, window_end, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end) o
LEFT JOIN (SELECT window_start, window_end, COUNT(*) AS n, SUM(paid) AS paid FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end) p
ON o.window_start = p.window_start AND o.window_end = p.window_end

-- case: row_to_its_window_maximum
SELECT o.id, o.amount, m.most
FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE))) o
JOIN (SELECT window_start, window_end, MAX(amount) AS most FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end) m
ON o.window_start = m.window_start AND o.window_end = m.window_end AND o.amount = m.most
