-- Top-N and keeping the first or last row: with and without the rank, over rows that are added and rows that change, in windows.

-- case: top2_without_rank
SELECT id, customer, amount FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL
) WHERE rn <= 2

-- case: top2_with_rank
SELECT id, customer, amount, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL
) WHERE rn <= 2

-- case: top1
SELECT item, amount FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL
) WHERE rn = 1

-- case: top_ties_keep_first
SELECT id, item, quantity FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY quantity DESC) AS rn FROM orders WHERE quantity IS NOT NULL
) WHERE rn <= 2

-- case: top_nulls_descending
SELECT id, customer, amount, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS rn FROM orders
) WHERE rn <= 2

-- case: top_nulls_ascending
SELECT id, customer, amount, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount, id) AS rn FROM orders
) WHERE rn <= 2

-- case: top_nulls_last
SELECT id, customer, amount, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC NULLS LAST, id) AS rn FROM orders
) WHERE rn <= 2

-- case: top_global
SELECT id, amount, rn FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL) WHERE rn <= 4

-- case: top_ranks_between
SELECT id, customer, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL
) WHERE rn BETWEEN 2 AND 3

-- case: top_by_time
SELECT id, customer, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts, id) AS rn FROM orders
) WHERE rn <= 2

-- case: top_by_text
SELECT id, item, customer FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY customer, id DESC) AS rn FROM orders WHERE customer IS NOT NULL
) WHERE rn <= 1

-- case: top_two_keys
SELECT id, customer, item FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer, item ORDER BY price DESC, id) AS rn FROM orders WHERE price IS NOT NULL
) WHERE rn = 1

-- case: top_of_aggregate_without_rank
SELECT customer, n FROM (
  SELECT customer, n, ROW_NUMBER() OVER (ORDER BY n DESC, customer) AS rn FROM (SELECT customer, COUNT(*) AS n FROM orders WHERE customer IS NOT NULL GROUP BY customer)
) WHERE rn <= 3

-- case: top_of_aggregate_with_rank
SELECT customer, n, rn FROM (
  SELECT customer, n, ROW_NUMBER() OVER (ORDER BY n DESC, customer) AS rn FROM (SELECT customer, COUNT(*) AS n FROM orders WHERE customer IS NOT NULL GROUP BY customer)
) WHERE rn <= 3

-- case: top_of_aggregate_ascending
SELECT customer, s, rn FROM (
  SELECT customer, s, ROW_NUMBER() OVER (ORDER BY s, customer) AS rn FROM (SELECT customer, SUM(amount) AS s FROM orders WHERE customer IS NOT NULL GROUP BY customer)
) WHERE rn <= 2

-- case: top_of_aggregate_by_part
SELECT item, customer, n, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY n DESC, customer) AS rn FROM (SELECT item, customer, COUNT(*) AS n FROM orders WHERE customer IS NOT NULL GROUP BY item, customer)
) WHERE rn <= 2

-- case: top_of_join
SELECT city, id, rn FROM (
  SELECT c.city, o.id, ROW_NUMBER() OVER (PARTITION BY c.city ORDER BY o.amount DESC, o.id, c.name) AS rn
  FROM orders o JOIN customers c ON o.customer = c.name WHERE o.amount IS NOT NULL
) WHERE rn <= 2

-- case: top_of_left_join
SELECT name, id, rn FROM (
  SELECT c.name, o.id, ROW_NUMBER() OVER (PARTITION BY c.name ORDER BY o.id DESC, c.city) AS rn
  FROM customers c LEFT JOIN orders o ON o.customer = c.name
) WHERE rn <= 2

-- case: aggregate_of_top
SELECT COUNT(*), SUM(amount) FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL
) WHERE rn <= 2

-- case: join_of_top
SELECT t.customer, t.amount, c.city FROM (
  SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL) WHERE rn = 1
) t JOIN customers c ON t.customer = c.name

-- case: top_of_top
SELECT id, customer, amount, r2 FROM (
  SELECT id, customer, amount, ROW_NUMBER() OVER (ORDER BY amount, id) AS r2 FROM (
    SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY amount DESC, id) AS rn FROM orders WHERE amount IS NOT NULL) WHERE rn = 1
  )
) WHERE r2 <= 3

-- case: keep_first
SELECT id, customer, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts) AS rn FROM orders
) WHERE rn = 1

-- case: keep_last
SELECT id, customer, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts DESC) AS rn FROM orders
) WHERE rn = 1

-- case: keep_first_ties
SELECT id, item, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY item ORDER BY ts) AS rn FROM orders
) WHERE rn = 1

-- case: keep_first_late_rows
SELECT id, who, page, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY who, page ORDER BY ts) AS rn FROM clicks
) WHERE rn = 1

-- case: keep_last_late_rows
SELECT id, who, page, ts FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY who, page ORDER BY ts DESC) AS rn FROM clicks
) WHERE rn = 1

-- case: keep_last_then_aggregate
SELECT currency, COUNT(*), SUM(rate) FROM (SELECT * FROM versioned_rates) GROUP BY currency

-- case: keep_first_then_window
SELECT window_start, COUNT(*) FROM TABLE(TUMBLE((
  SELECT ts, customer FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY ts) AS rn FROM orders) WHERE rn = 1
), DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end

-- case: keep_last_then_join
SELECT o.id, r.rate FROM orders o JOIN versioned_rates r ON o.currency = r.currency

-- case: window_top2
SELECT window_start, who, id, ms, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY ms DESC, id) AS rn
  FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND))
) WHERE rn <= 2

-- case: window_top_by_key
SELECT window_start, who, id, ms FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, who ORDER BY ms DESC, id) AS rn
  FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND))
) WHERE rn <= 1

-- case: window_top_of_aggregate
SELECT window_start, who, n, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY n DESC, who) AS rn FROM (
    SELECT window_start, window_end, who, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND)) GROUP BY window_start, window_end, who
  )
) WHERE rn <= 2

-- case: window_top_nulls
SELECT window_start, id, amount, rn FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY amount, id) AS rn
  FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE))
) WHERE rn <= 2

-- case: window_top_hop
SELECT window_start, id, ms FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY ms DESC, id DESC) AS rn
  FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' SECOND))
) WHERE rn <= 1

-- case: window_top_of_window_join
SELECT window_start, oid, pid FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY paid DESC, pid) AS rn FROM (
    SELECT o.window_start, o.window_end, o.id AS oid, p.id AS pid, p.paid
    FROM (SELECT * FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE))) o
    JOIN (SELECT * FROM TABLE(TUMBLE(TABLE payments, DESCRIPTOR(ts), INTERVAL '2' MINUTE))) p
    ON o.id = p.order_id AND o.window_start = p.window_start AND o.window_end = p.window_end
  )
) WHERE rn <= 1

-- case: window_keep_first
SELECT window_start, who, id FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, who ORDER BY ts) AS rn
  FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND))
) WHERE rn = 1

-- case: window_keep_last
SELECT window_start, who, id FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end, who ORDER BY ts DESC) AS rn
  FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '20' SECOND))
) WHERE rn = 1
