-- FOR SYSTEM_TIME AS OF by event time: a table of versions made by keeping the last row of each key.

-- case: inner
SELECT o.id, o.currency, r.rate FROM orders o JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency

-- case: left
SELECT o.id, o.currency, r.rate, r.ts FROM orders o LEFT JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency

-- case: left_residual
SELECT o.id, o.currency, r.rate FROM orders o LEFT JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency AND r.rate > 1.1

-- case: expression
SELECT o.id, o.amount * r.rate FROM orders o JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency WHERE o.amount > 0

-- case: then_window
SELECT window_start, currency, COUNT(*), SUM(v) FROM TABLE(TUMBLE((
  SELECT o.ts, o.currency, o.amount * r.rate AS v FROM orders o LEFT JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
), DESCRIPTOR(ts), INTERVAL '3' MINUTE)) GROUP BY window_start, window_end, currency

-- case: then_group
SELECT o.currency, SUM(o.amount * r.rate) FROM orders o JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency GROUP BY o.currency

-- case: versions_filtered
CREATE TEMPORARY VIEW good_rates AS
SELECT currency, rate, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY currency ORDER BY ts DESC) AS rn FROM rates) WHERE rn = 1 AND rate > 1.0;
SELECT o.id, r.rate FROM orders o LEFT JOIN good_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency

-- case: two_of_them
SELECT o.id, r.rate, s.rate FROM orders o
LEFT JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency
LEFT JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS s ON s.currency = 'EUR' AND o.currency = s.currency

-- case: declared_key
CREATE TEMPORARY TABLE keyed_rates (
  currency STRING, rate DECIMAL(10, 4), ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '30' SECOND, PRIMARY KEY (currency) NOT ENFORCED
) WITH ('connector' = 'filesystem', 'path' = 'data/rates.json', 'format' = 'json');
SELECT o.id, r.rate FROM orders o LEFT JOIN keyed_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency

-- case: after_filter
SELECT o.id, r.rate FROM (SELECT * FROM orders WHERE item = 'pen') o JOIN versioned_rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency

-- case: of_payments
SELECT p.id, p.means, r.rate FROM (SELECT id, means, ts, CASE WHEN means = 'card' THEN 'EUR' ELSE 'USD' END AS currency FROM payments) p LEFT JOIN versioned_rates FOR SYSTEM_TIME AS OF p.ts AS r ON r.currency = p.currency
