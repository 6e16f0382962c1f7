-- Arithmetic, comparison, NULL logic, CASE and casts: over one column of each type, with NULL, zero, negative and extreme values.

-- case: int_arithmetic
SELECT id, i + 1.0, i - j, i * 2, -j FROM things WHERE i < 100 OR i IS NULL

-- case: int_division
SELECT id, i / j, MOD(i, j), i % j FROM things WHERE j <> 0

-- case: int_division_types
SELECT TYPEOF(i / j), TYPEOF(l / j), TYPEOF(i + l), TYPEOF(si + si), TYPEOF(i * d), TYPEOF(f + i) FROM things WHERE id = 1

-- case: smallint_arithmetic
SELECT id, si + CAST(1 AS SMALLINT), si * si FROM things WHERE si < 100

-- case: int_overflow_wraps
SELECT id, i + 1, i * 2 FROM things WHERE id = 5

-- case: bigint_arithmetic
SELECT id, l + 1, l - i, l * 3, l / 7 FROM things

-- case: bigint_modulo
SELECT id, MOD(l, 7), l % 7, TYPEOF(MOD(l, 7)) FROM things

-- case: double_arithmetic
SELECT id, d + 1, d * 0.1, d / 3, d - f FROM things WHERE id <> 5

-- case: double_division_by_zero
SELECT id, d / CAST(0 AS DOUBLE), -d / CAST(0 AS DOUBLE) FROM things WHERE id IN (1, 2)

-- case: int_division_by_zero
SELECT id, i / (j - j) FROM things WHERE id = 1

-- case: float_arithmetic
SELECT id, f + f, f * 2, CAST(f AS DOUBLE) FROM things WHERE id <> 6

-- case: decimal_addition
SELECT id, m + n, m - n, m + 1 FROM things

-- case: decimal_multiplication
SELECT id, m * n, m * 2, m * 0.5 FROM things

-- case: decimal_division
SELECT id, m / n, n / m FROM things WHERE n <> 0

-- case: decimal_division_by_int
SELECT id, m / 3 FROM things

-- case: int_divided_by_decimal
SELECT id, 1 / m FROM things WHERE m <> 0

-- case: decimal_modulo
SELECT id, MOD(m, n) FROM things WHERE n <> 0

-- case: decimal_types
SELECT TYPEOF(m + n), TYPEOF(m * n), TYPEOF(m + i), TYPEOF(m * i), TYPEOF(m + d), TYPEOF(1.50) FROM things WHERE id = 1

-- case: decimal_division_types
SELECT TYPEOF(m / n), TYPEOF(m / i), TYPEOF(i / m) FROM things WHERE id = 1

-- case: aggregate_types
SELECT TYPEOF(SUM(i)), TYPEOF(SUM(l)), TYPEOF(SUM(m)), TYPEOF(AVG(i)), TYPEOF(AVG(m)), TYPEOF(AVG(d)), TYPEOF(COUNT(*)), TYPEOF(SUM(f)), TYPEOF(SUM(si)) FROM things

-- case: decimal_compare
SELECT id, m > n, m = 0, m < 0.0051, m >= i FROM things

-- case: compare_mixed
SELECT id, i > d, l = i, f < d, i <> j FROM things

-- case: compare_strings
SELECT id, s < t, s = '', s >= 'H', s <> t FROM things

-- case: compare_times
SELECT id, ts > TIMESTAMP '2000-01-01 00:00:00', dt < DATE '2000-01-01', tm >= TIME '12:00:00' FROM things

-- case: between
SELECT id FROM things WHERE i BETWEEN -7 AND 7

-- case: not_between_with_null
SELECT id, i NOT BETWEEN j AND 10 FROM things

-- case: in_list
SELECT id, i IN (7, 0, -1), i NOT IN (7, 0), s IN ('', 'a,b,,c') FROM things

-- case: in_list_with_null
SELECT id, i IN (7, CAST(NULL AS INT)), i NOT IN (7, CAST(NULL AS INT)) FROM things

-- case: three_valued_and_or
SELECT id, flag AND i > 0, flag OR i > 0, NOT flag FROM things

-- case: is_true_is_false
SELECT id, flag IS TRUE, flag IS FALSE, flag IS NOT TRUE, flag IS UNKNOWN, flag IS NOT UNKNOWN FROM things

-- case: where_null_is_not_true
SELECT id FROM things WHERE NOT (i > 0)

-- case: is_distinct_from
SELECT id, i IS DISTINCT FROM j, s IS NOT DISTINCT FROM t FROM things

-- case: is_null
SELECT id, s IS NULL, arr IS NOT NULL, rw IS NULL FROM things

-- case: coalesce_nullif
SELECT id, COALESCE(s, 'none'), NULLIF(i, j), COALESCE(flag, FALSE), COALESCE(CAST(NULL AS INT), j, id) FROM things

-- case: coalesce_nullif_with_literals
SELECT id, NULLIF(i, 7), COALESCE(i, -99) FROM things

-- case: ifnull
SELECT id, IFNULL(s, 'none'), IFNULL(i, -1) FROM things

-- case: if_function
SELECT id, IF(i > 0, 'plus', 'other'), IF(flag, i, j) FROM things

-- case: greatest_least
SELECT id, GREATEST(i, j, 3), LEAST(d, CAST(1 AS DOUBLE)), GREATEST(s, t) FROM things

-- case: case_searched
SELECT id, CASE WHEN i > 10 THEN 'big' WHEN i < 0 THEN 'neg' WHEN i IS NULL THEN 'void' ELSE 'small' END FROM things

-- case: case_simple
SELECT id, CASE i WHEN 7 THEN 'seven' WHEN 0 THEN 'zero' END, CASE flag WHEN TRUE THEN 1 ELSE 0 END FROM things

-- case: case_mixed_numbers
SELECT id, CASE WHEN id = 1 THEN i WHEN id = 2 THEN l ELSE m END FROM things

-- case: case_int_double
SELECT id, CASE WHEN id < 3 THEN i ELSE d END FROM things

-- case: cast_int_to_string
SELECT id, CAST(i AS STRING), CAST(l AS STRING), CAST(m AS STRING) FROM things

-- case: cast_boolean_to_string
SELECT id, CAST(flag AS STRING) FROM things

-- case: cast_double_to_string
SELECT id, CAST(d AS STRING), CAST(f AS STRING) FROM things WHERE id <> 5

-- case: cast_big_double_to_string
SELECT CAST(d AS STRING), CAST(CAST(1234567.5 AS DOUBLE) AS STRING), CAST(CAST(12345678.5 AS DOUBLE) AS STRING), CAST(CAST(0.0001 AS DOUBLE) AS STRING) FROM things WHERE id = 5

-- case: cast_float_to_string_shortest
SELECT CAST(f AS STRING) FROM things WHERE id = 5

-- case: cast_ts_to_string
SELECT id, CAST(ts AS STRING), CAST(us AS STRING) FROM things

-- case: cast_date_to_string
SELECT id, CAST(dt AS STRING), CAST(tm AS STRING) FROM things

-- case: cast_array_to_string
SELECT id, CAST(arr AS STRING) FROM things

-- case: cast_row_to_string
SELECT id, CAST(rw AS STRING) FROM things

-- case: cast_map_to_string
SELECT id, CAST(mp AS STRING) FROM things WHERE id <> 1

-- case: cast_string_to_number
SELECT CAST('12' AS INT), CAST(' 12 ' AS INT), CAST('-1.5' AS DOUBLE), CAST('1e3' AS DOUBLE), CAST('12.345' AS DECIMAL(5, 2)), CAST('7' AS BIGINT)

-- case: cast_string_to_int_with_fraction
SELECT CAST('12.9' AS INT)

-- case: cast_bad_string_to_int
SELECT CAST(s AS INT) FROM things WHERE id = 1

-- case: try_cast
SELECT id, TRY_CAST(s AS INT), TRY_CAST(js AS DOUBLE), TRY_CAST('12' AS INT), TRY_CAST('x' AS DATE), TRY_CAST('true' AS BOOLEAN) FROM things

-- case: cast_double_to_int
SELECT id, CAST(d AS INT), CAST(f AS INT), CAST(-d AS BIGINT) FROM things WHERE id <> 5

-- case: cast_double_to_int_overflow
SELECT id, CAST(d AS INT), CAST(d AS BIGINT), CAST(f AS INT) FROM things WHERE id = 5

-- case: cast_decimal
SELECT id, CAST(m AS INT), CAST(m AS DECIMAL(12, 1)), CAST(d AS DECIMAL(10, 2)), CAST(i AS DECIMAL(12, 2)) FROM things WHERE id <> 5

-- case: cast_decimal_overflow
SELECT id, CAST(m AS DECIMAL(5, 1)) FROM things

-- case: cast_int_narrowing
SELECT id, CAST(i AS TINYINT), CAST(l AS INT) FROM things

-- case: cast_boolean
SELECT id, CAST(flag AS INT), CAST(i AS BOOLEAN), CAST('true' AS BOOLEAN), CAST('FALSE' AS BOOLEAN) FROM things

-- case: cast_string_to_times
SELECT CAST('2026-03-04' AS DATE), CAST('2026-03-04 05:06:07.891' AS TIMESTAMP(3)), CAST('05:06:07' AS TIME), CAST('2026-03-04' AS TIMESTAMP(3))

-- case: cast_ts_to_date
SELECT id, CAST(ts AS DATE), CAST(dt AS TIMESTAMP(3)) FROM things WHERE id <> 2

-- case: cast_ts_to_time
SELECT id, CAST(ts AS TIME) FROM things WHERE id <> 2

-- case: cast_ts_precision
SELECT id, CAST(us AS TIMESTAMP(3)), CAST(us AS TIMESTAMP(0)), CAST(ts AS TIMESTAMP(6)) FROM things WHERE id <> 2

-- case: cast_ts_precision_before_1970
SELECT CAST(us AS TIMESTAMP(3)), CAST(us AS TIMESTAMP(0)), CAST(ts AS TIMESTAMP(6)) FROM things WHERE id = 2

-- case: cast_ts_to_date_before_1970
SELECT CAST(ts AS DATE) FROM things WHERE id = 2

-- case: cast_ts_to_ltz
SELECT id, CAST(ts AS TIMESTAMP_LTZ(3)) FROM things

-- case: cast_ts_to_ltz_in_a_zone
SET 'table.local-time-zone' = 'Europe/Berlin';
SELECT id, CAST(ts AS TIMESTAMP_LTZ(3)) FROM things

-- case: cast_ltz_to_string_in_a_zone
SET 'table.local-time-zone' = 'Europe/Berlin';
SELECT id, CAST(moment AS STRING) FROM moments

-- case: round_family
SELECT id, ROUND(d, 1), ROUND(m, 1), ROUND(d), CEIL(d), FLOOR(d), CEIL(m), FLOOR(m), TRUNCATE(d, 1), TRUNCATE(m, 2) FROM things WHERE id <> 5

-- case: round_negative_digits
SELECT id, ROUND(i, -1), ROUND(m, -1), TRUNCATE(i, -1) FROM things WHERE id <> 5

-- case: round_half_double
SELECT ROUND(CAST(2.5 AS DOUBLE)), ROUND(CAST(-2.5 AS DOUBLE)), ROUND(CAST(1.005 AS DOUBLE), 2), ROUND(2.5), ROUND(-2.5), ROUND(0.125, 2)

-- case: abs_sign
SELECT id, ABS(i), ABS(d), ABS(m), SIGN(i), SIGN(d), SIGN(m) FROM things

-- case: powers_and_logs
SELECT id, POWER(i, 2), SQRT(ABS(d)), EXP(CAST(0 AS DOUBLE)), LN(CAST(1 AS DOUBLE)), LOG10(CAST(1000 AS DOUBLE)), LOG2(CAST(8 AS DOUBLE)) FROM things WHERE id <> 5

-- case: log_of_zero
SELECT LN(CAST(0 AS DOUBLE)), LOG10(CAST(0 AS DOUBLE))

-- case: root_of_negative
SELECT SQRT(CAST(-1 AS DOUBLE)), LN(CAST(-1 AS DOUBLE))

-- case: trigonometry
-- doubles: 14
SELECT id, SIN(d), COS(d), TAN(d), ATAN(d), ATAN2(d, CAST(2 AS DOUBLE)), DEGREES(d), RADIANS(d) FROM things WHERE id <> 5

-- case: trigonometry_of_float
-- doubles: 14
SELECT id, TAN(f), SIN(f), TYPEOF(SIN(f)) FROM things WHERE id <> 5

-- case: literals
SELECT 1, -1, 1.5, 1.50, 1e2, 'it''s', TRUE, CAST(NULL AS STRING), DATE '2026-01-31', TIMESTAMP '2026-01-31 01:02:03.004', TIME '01:02:03', 12345678901

-- case: literal_types
SELECT TYPEOF(12345678901), TYPEOF(1.5), TYPEOF(TRUE), TYPEOF(DATE '2026-01-31')

-- case: literal_int_type
SELECT TYPEOF(1), TYPEOF(-5)

-- case: literal_double_type
SELECT TYPEOF(1e2), 1e2 / 3

-- case: bin_hex
SELECT id, BIN(i), HEX(l), HEX(s), BIN(-1) FROM things WHERE id <> 5

-- case: no_from
SELECT 1 + 1, UPPER('a')

-- case: like
SELECT id, s LIKE 'H%', s LIKE '%o%', s LIKE '_,%', s NOT LIKE '%i%', s LIKE '' FROM things

-- case: like_escape
SELECT 'a_b' LIKE 'a!_b' ESCAPE '!', 'axb' LIKE 'a!_b' ESCAPE '!', '10%' LIKE '10#%' ESCAPE '#'

-- case: similar_to
SELECT id, s SIMILAR TO '%(World|me)%', s SIMILAR TO '[A-Z]%', s NOT SIMILAR TO '%o%' FROM things

-- case: concat_operator
SELECT id, s || '-' || t, s || CAST(i AS STRING) FROM things
