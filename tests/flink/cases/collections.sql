-- Arrays, maps and rows, and turning them into rows.

-- case: array_item
SELECT id, arr[1], words[2], arr[9], CARDINALITY(arr) FROM things

-- case: map_item
SELECT id, mp['k'], mp['none'], CARDINALITY(mp) FROM things

-- case: row_field
SELECT id, rw.a, rw.b, things.rw.a + 1 FROM things

-- case: constructors
SELECT ARRAY['a', 'b'], MAP['k', 'v'], ROW('x', TRUE), ARRAY[ARRAY['a'], ARRAY['b', 'c']]

-- case: constructors_of_numbers
SELECT ARRAY[1, 2, 3], MAP['k', 1], ROW(1, 'x'), ARRAY[ARRAY[1], ARRAY[2, 3]]

-- case: array_functions
SELECT id, ARRAY_CONTAINS(arr, 1), ARRAY_DISTINCT(words), ARRAY_POSITION(words, 'b'), ARRAY_REVERSE(arr), ARRAY_REMOVE(words, 'b') FROM things

-- case: array_set_functions
SELECT id, ARRAY_UNION(arr, arr), ARRAY_INTERSECT(arr, ARRAY_REVERSE(arr)), ARRAY_EXCEPT(arr, arr), ARRAY_CONCAT(arr, arr) FROM things

-- case: array_set_functions_with_literals
SELECT id, ARRAY_UNION(arr, ARRAY[1, 9]), ARRAY_INTERSECT(arr, ARRAY[1, 9, 9]), ARRAY_EXCEPT(arr, ARRAY[1]), ARRAY_CONCAT(arr, ARRAY[0]) FROM things

-- case: array_min_max
SELECT id, ARRAY_MAX(arr), ARRAY_MIN(arr) FROM things

-- case: array_append_prepend
SELECT id, ARRAY_APPEND(arr, 4), ARRAY_PREPEND(arr, 4) FROM things

-- case: array_slice
SELECT id, ARRAY_SLICE(arr, 2, 3) FROM things

-- case: array_slice_from_the_end
SELECT id, ARRAY_SLICE(arr, -2) FROM things

-- case: array_join
SELECT id, ARRAY_JOIN(words, '-'), ARRAY_JOIN(words, '-', '?') FROM things

-- case: array_sort
SELECT id, ARRAY_SORT(arr) FROM things

-- case: array_sort_descending
SELECT id, ARRAY_SORT(arr, FALSE) FROM things

-- case: map_functions
SELECT id, MAP_KEYS(mp), MAP_VALUES(mp) FROM things WHERE id <> 1

-- case: map_from_arrays
SELECT id, MAP_FROM_ARRAYS(words, arr) FROM things WHERE id IN (4, 6)

-- case: map_union
SELECT id, MAP_UNION(mp, MAP['k', 100]) FROM things

-- case: map_entries
SELECT id, MAP_ENTRIES(mp) FROM things WHERE id <> 1

-- case: element
SELECT ELEMENT(ARRAY[7]), ELEMENT(arr) FROM things WHERE id = 6

-- case: unnest_cross
SELECT id, w FROM things CROSS JOIN UNNEST(words) AS u (w)

-- case: unnest_comma
SELECT id, x FROM things, UNNEST(arr) AS u (x) WHERE x > 1

-- case: unnest_left
SELECT id, w FROM things LEFT JOIN UNNEST(words) AS u (w) ON TRUE

-- case: unnest_map
SELECT id, k, v FROM things CROSS JOIN UNNEST(mp) AS u (k, v)

-- case: unnest_ordinality
SELECT id, w, o FROM things CROSS JOIN UNNEST(words) WITH ORDINALITY AS u (w, o)

-- case: unnest_left_ordinality
SELECT id, w, o FROM things LEFT JOIN UNNEST(words) WITH ORDINALITY AS u (w, o) ON TRUE

-- case: unnest_split
SELECT id, part FROM things CROSS JOIN UNNEST(SPLIT(s, ',')) AS u (part)

-- case: unnest_rows
SELECT a, b FROM (VALUES (ARRAY[ROW('w', 'x'), ROW('y', 'z')])) AS t (rs) CROSS JOIN UNNEST(rs) AS u (a, b)

-- case: unnest_twice
SELECT id, x, w FROM things CROSS JOIN UNNEST(arr) AS u (x) CROSS JOIN UNNEST(words) AS z (w)

-- case: unnest_then_window
SELECT window_start, part, COUNT(*)
FROM (
  SELECT window_start, window_end, part FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '30' SECOND))
  CROSS JOIN UNNEST(SPLIT(page, '/')) AS u (part) WHERE page <> ''
) GROUP BY window_start, window_end, part

-- case: values
SELECT * FROM (VALUES ('1', 'a'), ('2', CAST(NULL AS STRING)), ('3', 'c')) AS t (n, s) WHERE n <> '3'

-- case: values_of_numbers
SELECT * FROM (VALUES (1, 'a'), (2, CAST(NULL AS STRING)), (3, 'c')) AS t (n, s) WHERE n <> 3

-- case: values_top
VALUES (1, 'a'), (2, 'b')

-- case: values_mixed_types
SELECT n, s FROM (VALUES (1, 'a'), (2.5, 'long')) AS t (n, s)
