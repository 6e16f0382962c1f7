-- Result types of functions, and the corners of functions that the other files do not reach.

-- case: types_of_rounding
SELECT TYPEOF(CEIL(d)), TYPEOF(ROUND(m, 1)), TYPEOF(ROUND(d, 1)), TYPEOF(ROUND(i, 1)), TYPEOF(CEIL(i)), TYPEOF(TRUNCATE(m, 1)) FROM things WHERE id = 1

-- case: types_of_ceil_decimal
SELECT TYPEOF(CEIL(m)), TYPEOF(FLOOR(n)) FROM things WHERE id = 1

-- case: types_of_decimal_functions
SELECT TYPEOF(ROUND(m)), TYPEOF(ABS(m)), TYPEOF(SIGN(m)), TYPEOF(-m) FROM things WHERE id = 1

-- case: types_of_numbers
SELECT TYPEOF(ABS(si)), TYPEOF(SIGN(i)), TYPEOF(SIGN(d)), TYPEOF(POWER(i, i)), TYPEOF(SQRT(i)), TYPEOF(EXP(i)), TYPEOF(-si), TYPEOF(-f) FROM things WHERE id = 1

-- case: types_of_texts
SELECT TYPEOF(CHAR_LENGTH(s)), TYPEOF(POSITION('a' IN s)), TYPEOF(UPPER(s)), TYPEOF(SUBSTRING(s, 1, 2)), TYPEOF(CONCAT(s, t)), TYPEOF(s || t), TYPEOF(ASCII(s)), TYPEOF(SPLIT(s, ',')) FROM things WHERE id = 1

-- case: types_of_literals_of_text
SELECT TYPEOF('abc'), TYPEOF('abc' || 'de'), TYPEOF('')

-- case: types_of_times
SELECT TYPEOF(YEAR(dt)), TYPEOF(ts + INTERVAL '1' DAY), TYPEOF(dt + INTERVAL '1' DAY), TYPEOF(us), TYPEOF(tm), TYPEOF(DATE_FORMAT(ts, 'yyyy')) FROM things WHERE id = 1

-- case: type_of_extract
SELECT TYPEOF(EXTRACT(HOUR FROM ts)) FROM things WHERE id = 1

-- case: types_of_timestampdiff
SELECT TYPEOF(TIMESTAMPDIFF(DAY, ts, ts)), TYPEOF(TIMESTAMPADD(DAY, 1, ts)), TYPEOF(TIMESTAMPADD(DAY, 1, dt)), TYPEOF(FLOOR(ts TO HOUR)) FROM things WHERE id = 1

-- case: types_of_case
SELECT TYPEOF(CASE WHEN i > 0 THEN i ELSE l END), TYPEOF(CASE WHEN i > 0 THEN i ELSE m END), TYPEOF(CASE WHEN i > 0 THEN i ELSE d END), TYPEOF(COALESCE(si, i)), TYPEOF(COALESCE(m, n)), TYPEOF(GREATEST(i, l)) FROM things WHERE id = 1

-- case: type_of_nullif
SELECT TYPEOF(NULLIF(i, l)) FROM things WHERE id = 1

-- case: types_of_collections
SELECT TYPEOF(arr), TYPEOF(arr[1]), TYPEOF(mp['k']), TYPEOF(CARDINALITY(arr)), TYPEOF(rw.b), TYPEOF(mp), TYPEOF(rw) FROM things WHERE id = 1

-- case: types_of_window_aggregates
SELECT window_start, TYPEOF(COUNT(*)), TYPEOF(SUM(quantity)), TYPEOF(SUM(amount)), TYPEOF(AVG(quantity)), TYPEOF(AVG(amount)), TYPEOF(SUM(price)), TYPEOF(MAX(amount))
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end

-- case: types_of_window_columns
SELECT TYPEOF(window_start), TYPEOF(window_end), TYPEOF(COUNT(*)) FROM TABLE(TUMBLE(TABLE moments, DESCRIPTOR(moment), INTERVAL '1' HOUR)) GROUP BY window_start, window_end

-- case: window_sum_overflow
SELECT window_start, SUM(quantity + CAST(2147480000 AS INT)) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY window_start, window_end

-- case: window_avg_of_large
SELECT window_start, AVG(quantity + CAST(2147480000 AS INT)) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '10' MINUTE)) GROUP BY window_start, window_end

-- case: window_variance_of_whole_numbers
SELECT window_start, VAR_POP(quantity), VAR_SAMP(quantity), STDDEV_SAMP(quantity) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end

-- case: window_variance_of_decimals
SELECT window_start, VAR_POP(amount), STDDEV_POP(amount) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '4' MINUTE)) GROUP BY window_start, window_end

-- case: window_min_max_boolean_date
SELECT window_start, MIN(CAST(ts AS DATE)), MAX(quantity > 1), MIN(quantity > 1) FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ts), INTERVAL '2' MINUTE)) GROUP BY window_start, window_end

-- case: negative_zero
SELECT -d, ABS(-d), -d = d, CAST(-d AS STRING) FROM things WHERE id = 3

-- case: not_a_number_compares
SELECT n, n = n, n > 1, n < 1, n IS NULL FROM (SELECT d / f AS n FROM things WHERE id = 3)

-- case: modulo_signs
SELECT MOD(CAST(-7 AS INT), CAST(3 AS INT)), MOD(CAST(7 AS INT), CAST(-3 AS INT)), CAST(-7.5 AS DECIMAL(5, 1)) % CAST(2 AS DECIMAL(5, 1))

-- case: logarithms
-- doubles: 14
SELECT LOG(CAST(2 AS DOUBLE), CAST(10 AS DOUBLE)), LOG(CAST(10 AS DOUBLE)), LOG2(CAST(10 AS DOUBLE)), SINH(CAST(1 AS DOUBLE)), COSH(CAST(1 AS DOUBLE)), TANH(CAST(1 AS DOUBLE)), COT(CAST(1 AS DOUBLE)), ASIN(CAST(1 AS DOUBLE)), ACOS(CAST(1 AS DOUBLE)), PI(), E()

-- case: power
SELECT POWER(CAST(2 AS DOUBLE), CAST(-1 AS DOUBLE)), POWER(CAST(0 AS DOUBLE), CAST(0 AS DOUBLE)), POWER(CAST(-8 AS DOUBLE), CAST(3 AS DOUBLE)), POWER(m, 2) FROM things WHERE id = 1

-- case: power_of_negative_fraction
SELECT POWER(CAST(-8 AS DOUBLE), CAST(0.5 AS DOUBLE))

-- case: between_symmetric
SELECT id, i BETWEEN SYMMETRIC 10 AND -10 FROM things

-- case: case_without_else
SELECT id, CASE WHEN i > 5 THEN s END, CASE WHEN FALSE THEN 1.5 END FROM things

-- case: not_in_strings
SELECT id FROM things WHERE s NOT IN ('', 'a,b,,c')

-- case: compare_string_with_number
SELECT id FROM things WHERE CAST(i AS STRING) = '7'

-- case: decimal_literal_compare
SELECT id, m = 12.345, m > 12.3449999, d = 2.5, d = 0.1 FROM things WHERE id <> 5

-- case: large_double_with_decimal_literal
SELECT id, d > 2.5 FROM things

-- case: small_double_with_decimal_literal
SELECT id, d * 0.0000000000000000001 > 0.0, d + 1.5 FROM things WHERE id = 1

-- case: decimal_to_double
SELECT id, CAST(m AS DOUBLE), m + d, m * d FROM things WHERE id <> 5

-- case: decimal_of_38_digits
SELECT CAST('99999999999999999999999999999999999999' AS DECIMAL(38, 0)) - 1, CAST(1 AS DECIMAL(38, 10)) * CAST(2 AS DECIMAL(38, 10))

-- case: decimal_rounding_of_cast
SELECT CAST(1.005 AS DECIMAL(3, 2)), CAST(1.004 AS DECIMAL(3, 2)), CAST(-1.005 AS DECIMAL(3, 2)), CAST(CAST(2.675 AS DOUBLE) AS DECIMAL(5, 2))

-- case: decimal_as_string_keeps_zeros
SELECT CAST(CAST(1.5 AS DECIMAL(10, 4)) AS STRING), CAST(CAST(0 AS DECIMAL(10, 2)) AS STRING)

-- case: cast_string_trims
SELECT CAST(' 1.5 ' AS DECIMAL(5, 2)), CAST(' 2026-01-01 ' AS DATE)

-- case: cast_string_to_boolean_words
SELECT CAST('t' AS BOOLEAN), CAST('yes' AS BOOLEAN), CAST('1' AS BOOLEAN), CAST('n' AS BOOLEAN), CAST('0' AS BOOLEAN)

-- case: cast_to_char
SELECT CAST('abc' AS CHAR(5)) || '|', CAST('abcdef' AS VARCHAR(3)), CAST(12345 AS VARCHAR(3))

-- case: cast_bytes
SELECT CAST('ab' AS BYTES), CAST(X'4142' AS STRING)

-- case: concat_with_null_operator
SELECT id, s || CAST(NULL AS STRING), CONCAT(s, CAST(NULL AS STRING)) FROM things

-- case: concat_numbers
SELECT CONCAT('a', CAST(1 AS STRING)), 'a' || CAST(1.5 AS STRING)

-- case: lower_of_turkish_and_sharp
SELECT LOWER('ABCÄÖ'), UPPER('äöü'), LOWER('I')

-- case: regexp_replace_special
SELECT REGEXP_REPLACE('a.b.c', '\.', '-'), REGEXP_REPLACE('abc', '', '-'), REGEXP_REPLACE('aaa', 'a', 'b$1')

-- case: regexp_extract_none
SELECT REGEXP_EXTRACT('abc', 'x', 0), REGEXP_EXTRACT('abc', '(b)(c)', 1), REGEXP_EXTRACT('abc', '(b)(c)', 2), REGEXP_EXTRACT('abc', 'b', 5)

-- case: like_special
SELECT 'a.c' LIKE 'a.c', 'abc' LIKE 'a.c', 'A' LIKE 'a', 'ab' LIKE 'a_', 'ab' LIKE '__', '' LIKE '%'

-- case: like_backslash
SELECT 'a\b' LIKE 'a\b', 'a%' LIKE 'a\%', s LIKE '%\_%' FROM things WHERE id = 1

-- case: not_like_null
SELECT id, s LIKE CAST(NULL AS STRING), t NOT LIKE '%' FROM things

-- case: trim_null_and_empty
SELECT id, TRIM(t), CHAR_LENGTH(TRIM(s)), LTRIM(t), RTRIM(t) FROM things

-- case: date_literals_compare
SELECT id, dt = DATE '2024-02-29', ts = TIMESTAMP '2000-01-01 00:00:00', ts BETWEEN TIMESTAMP '2000-01-01 00:00:00' AND TIMESTAMP '2025-12-31 23:59:59' FROM things

-- case: date_minus_date
SELECT id, TIMESTAMPDIFF(DAY, DATE '2024-01-01', dt) FROM things

-- case: cast_date_arithmetic
SELECT id, CAST(dt AS TIMESTAMP(3)) + INTERVAL '1' SECOND, CAST(ts AS DATE) + INTERVAL '1' DAY FROM things WHERE id <> 2

-- case: date_format_week_and_text
SELECT DATE_FORMAT(TIMESTAMP '2026-01-02 15:04:05', 'hh:mm a'), DATE_FORMAT(TIMESTAMP '2026-01-02 15:04:05', 'EEEE'), DATE_FORMAT(TIMESTAMP '2026-01-02 15:04:05', '''at'' HH')

-- case: to_timestamp_short_forms
SELECT TO_TIMESTAMP('2026-02-03'), TO_TIMESTAMP('2026-02-03T04:05:06'), TO_TIMESTAMP('2026-2-3 4:5:6')

-- case: to_timestamp_without_seconds
SELECT TO_TIMESTAMP('2026-02-03 04:05')

-- case: to_date_bad
SELECT TO_DATE('2026-13-01'), TO_DATE('x'), TO_DATE(CAST(NULL AS STRING))

-- case: json_value_scalars
SELECT JSON_VALUE('{"a": 15}', '$.a'), JSON_VALUE('{"a": true}', '$.a'), JSON_VALUE('{"a b": 1}', '$[''a b'']'), JSON_VALUE('{"a": "x"}', 'strict $.a')

-- case: json_value_keeps_digits
SELECT JSON_VALUE('{"a": 1.50}', '$.a'), JSON_VALUE('{"a": 1e3}', '$.a')

-- case: json_query_text
SELECT JSON_QUERY('{"a": {"b": [1, "x", null]}}', '$.a'), JSON_QUERY('{"a": {"b": [1,  2]}}', '$.a.b'), JSON_QUERY('[1]', '$')

-- case: array_contains_null
SELECT id, ARRAY_CONTAINS(arr, CAST(NULL AS INT)), ARRAY_POSITION(arr, CAST(NULL AS INT)), ARRAY_REMOVE(arr, CAST(NULL AS INT)) FROM things

-- case: distinct_rows_compare
SELECT id, (i, j) = (j, i) FROM things

-- case: nested_calls
SELECT id, COALESCE(NULLIF(TRIM(s), ''), 'blank'), UPPER(SUBSTRING(COALESCE(s, 'none'), 1, 1)) FROM things
