"""More questions about the flights, each asked twice: in Millstream's SQL and, from its meaning, in DuckDB's.

Each pair is (name, columns of the result table, Millstream's query, DuckDB's query). Both read a table `departures`; DuckDB's has
`file_row_number` as well, the place of a row in its source, which orders rows of the same time.
"""

PAIRS = [
    (
        "stateless",
        "id INT, number STRING, verdict STRING, made_up INT",
        """
        SELECT id, carrier || '-' || CAST(flight AS STRING),
               CASE WHEN dep_delay > 15 THEN 'late' WHEN dep_delay < 0 THEN 'early' ELSE 'on time' END,
               dep_delay - arr_delay
        FROM departures WHERE dest IN ('LAX', 'SFO')
        UNION ALL
        SELECT id, UPPER(dest), tailnum, CAST(NULL AS INT) FROM departures WHERE distance > 4900""",
        """
        SELECT id, carrier || '-' || flight AS number,
               CASE WHEN dep_delay > 15 THEN 'late' WHEN dep_delay < 0 THEN 'early' ELSE 'on time' END AS verdict,
               dep_delay - arr_delay AS made_up
        FROM departures WHERE dest IN ('LAX', 'SFO')
        UNION ALL
        SELECT id, upper(dest), tailnum, NULL FROM departures WHERE distance > 4900""",
    ),
    (
        # A step without new rows is emitted too, once the day has a row of the key.
        "cumulate",
        "window_start TIMESTAMP(3), window_end TIMESTAMP(3), origin STRING, departures BIGINT, miles BIGINT",
        """
        SELECT window_start, window_end, origin, COUNT(*), SUM(CAST(distance AS BIGINT))
        FROM TABLE(CUMULATE(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '2' HOUR, INTERVAL '1' DAY))
        GROUP BY window_start, window_end, origin""",
        """
        SELECT date_trunc('day', sched_dep)::TIMESTAMP AS window_start,
               date_trunc('day', sched_dep)::TIMESTAMP + to_hours(2 * n) AS window_end,
               origin, count(*) AS departures, sum(distance)::BIGINT AS miles
        FROM departures, range(1, 13) AS steps(n)
        WHERE sched_dep < date_trunc('day', sched_dep)::TIMESTAMP + to_hours(2 * n)
        GROUP BY ALL""",
    ),
    (
        # The size is no multiple of the slide: a row is in two or three windows.
        "uneven_hop",
        "window_start TIMESTAMP(3), window_end TIMESTAMP(3), origin STRING, departures BIGINT, best_delay INT, mean_delay DOUBLE",
        """
        SELECT window_start, window_end, origin, COUNT(*), MIN(dep_delay), AVG(CAST(dep_delay AS DOUBLE))
        FROM TABLE(HOP(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '10' MINUTE, INTERVAL '25' MINUTE))
        GROUP BY window_start, window_end, origin""",
        """
        SELECT s AS window_start, s + INTERVAL 25 MINUTE AS window_end, origin,
               count(*) AS departures, min(dep_delay) AS best_delay, avg(dep_delay) AS mean_delay
        FROM (SELECT *, unnest(generate_series(date_trunc('hour', sched_dep)::TIMESTAMP - INTERVAL 1 HOUR,
                                               date_trunc('hour', sched_dep)::TIMESTAMP + INTERVAL 1 HOUR,
                                               INTERVAL 10 MINUTE)) AS s FROM departures)
        WHERE sched_dep >= s AND sched_dep < s + INTERVAL 25 MINUTE
        GROUP BY ALL""",
    ),
    (
        "daily",
        "window_start TIMESTAMP(3), origin STRING, departures BIGINT, places BIGINT, late BIGINT, first_carrier STRING, mean_whole INT",
        """
        SELECT window_start, origin, COUNT(*), COUNT(DISTINCT dest), COUNT(*) FILTER (WHERE dep_delay > 15),
               MIN(carrier), AVG(dep_delay)
        FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '1' DAY))
        GROUP BY window_start, window_end, origin
        HAVING COUNT(*) > 100""",
        """
        SELECT date_trunc('day', sched_dep)::TIMESTAMP AS window_start, origin, count(*) AS departures,
               count(DISTINCT dest) AS places, count(*) FILTER (dep_delay > 15) AS late, min(carrier) AS first_carrier,
               trunc(avg(dep_delay))::INT AS mean_whole
        FROM departures GROUP BY 1, 2 HAVING count(*) > 100""",
    ),
    (
        "grouping_sets",
        "window_start TIMESTAMP(3), origin STRING, carrier STRING, departures BIGINT, max_delay INT",
        """
        SELECT window_start, origin, carrier, COUNT(*), MAX(dep_delay)
        FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '1' DAY))
        GROUP BY window_start, window_end, GROUPING SETS ((), (origin), (origin, carrier))""",
        """
        SELECT date_trunc('day', sched_dep)::TIMESTAMP AS window_start, origin, carrier, count(*) AS departures,
               max(dep_delay) AS max_delay
        FROM departures
        GROUP BY GROUPING SETS ((window_start), (window_start, origin), (window_start, origin, carrier))""",
    ),
    (
        # Many pairs of departures lie exactly four hours apart: they belong together.
        "sessions_4h",
        "window_start TIMESTAMP(3), window_end TIMESTAMP(3), tailnum STRING, route STRING, first_dest STRING, last_dest STRING",
        """
        SELECT window_start, window_end, tailnum, LISTAGG(dest, '-'), FIRST_VALUE(dest), LAST_VALUE(dest)
        FROM TABLE(SESSION(TABLE departures PARTITION BY tailnum, DESCRIPTOR(sched_dep), INTERVAL '4' HOUR))
        GROUP BY window_start, window_end, tailnum""",
        """
        WITH steps AS (
            SELECT *, CASE WHEN sched_dep - lag(sched_dep) OVER aircraft <= INTERVAL 4 HOUR THEN 0 ELSE 1 END AS opens
            FROM departures WINDOW aircraft AS (PARTITION BY tailnum ORDER BY sched_dep, file_row_number)),
        numbered AS (
            SELECT *, sum(opens) OVER (PARTITION BY tailnum ORDER BY sched_dep, file_row_number) AS nth FROM steps)
        SELECT min(sched_dep) AS window_start, max(sched_dep) + INTERVAL 4 HOUR AS window_end, tailnum,
               string_agg(dest, '-' ORDER BY sched_dep, file_row_number) AS route,
               first(dest ORDER BY sched_dep, file_row_number) AS first_dest,
               last(dest ORDER BY sched_dep, file_row_number) AS last_dest
        FROM numbered GROUP BY tailnum, nth""",
    ),
    (
        "windows_over_windows",
        "window_start TIMESTAMP(3), busiest BIGINT, hours BIGINT",
        """
        SELECT window_start, MAX(n), COUNT(*)
        FROM TABLE(TUMBLE(TABLE hourly_counts, DESCRIPTOR(at_end), INTERVAL '1' DAY))
        GROUP BY window_start, window_end""",
        """
        SELECT date_trunc('day', hour)::TIMESTAMP AS window_start, max(n) AS busiest, count(*) AS hours
        FROM (SELECT date_trunc('hour', sched_dep)::TIMESTAMP AS hour, origin, count(*) AS n FROM departures GROUP BY ALL)
        GROUP BY 1""",
    ),
    (
        # Frames by rows: ties go by the place in the source.
        "over_rows",
        "id INT, nth BIGINT, miles_of_five BIGINT, worst_of_five INT, dest_before STRING",
        """
        SELECT id,
               ROW_NUMBER() OVER (PARTITION BY tailnum ORDER BY sched_dep),
               SUM(CAST(distance AS BIGINT)) OVER (PARTITION BY tailnum ORDER BY sched_dep ROWS BETWEEN 4 PRECEDING AND CURRENT ROW),
               MAX(dep_delay) OVER (PARTITION BY tailnum ORDER BY sched_dep ROWS BETWEEN 4 PRECEDING AND CURRENT ROW),
               LAG(dest, 1) OVER (PARTITION BY tailnum ORDER BY sched_dep)
        FROM departures""",
        """
        SELECT id, row_number() OVER aircraft AS nth, sum(distance) OVER five::BIGINT AS miles_of_five,
               max(dep_delay) OVER five AS worst_of_five, lag(dest) OVER aircraft AS dest_before
        FROM departures
        WINDOW aircraft AS (PARTITION BY tailnum ORDER BY sched_dep, file_row_number),
               five AS (PARTITION BY tailnum ORDER BY sched_dep, file_row_number ROWS BETWEEN 4 PRECEDING AND CURRENT ROW)""",
    ),
    (
        # Several frames in one query; from the beginning and for two hours, peers included.
        "over_range",
        "id INT, so_far BIGINT, worst_so_far INT, in_two_hours BIGINT, best_of_two_hours INT",
        """
        SELECT id,
               COUNT(*)       OVER (PARTITION BY dest ORDER BY sched_dep RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
               MAX(dep_delay) OVER (PARTITION BY dest ORDER BY sched_dep RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
               COUNT(*)       OVER (PARTITION BY dest ORDER BY sched_dep RANGE BETWEEN INTERVAL '2' HOUR PRECEDING AND CURRENT ROW),
               MIN(dep_delay) OVER (PARTITION BY dest ORDER BY sched_dep RANGE BETWEEN INTERVAL '2' HOUR PRECEDING AND CURRENT ROW)
        FROM departures""",
        """
        SELECT id, count(*) OVER always AS so_far, max(dep_delay) OVER always AS worst_so_far,
               count(*) OVER recent AS in_two_hours, min(dep_delay) OVER recent AS best_of_two_hours
        FROM departures
        WINDOW always AS (PARTITION BY dest ORDER BY sched_dep RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW),
               recent AS (PARTITION BY dest ORDER BY sched_dep RANGE BETWEEN INTERVAL 2 HOUR PRECEDING AND CURRENT ROW)""",
    ),
]

# Views that Millstream's queries stand on. `window_time` is the last millisecond of the window, so an hour falls into its own day.
VIEWS = """
CREATE VIEW hourly_counts AS
SELECT window_time AS at_end, origin, COUNT(*) AS n
FROM TABLE(TUMBLE(TABLE departures, DESCRIPTOR(sched_dep), INTERVAL '1' HOUR))
GROUP BY window_start, window_end, window_time, origin;
"""
