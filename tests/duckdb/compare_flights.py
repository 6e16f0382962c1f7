#!/usr/bin/env python3
"""The flights queries, answered by Millstream and by DuckDB: the same rows, the same bits.

    compare_flights.py path/to/millstream        # needs `duckdb` from PyPI; `./dev test` sees to it
    compare_flights.py --oracle                  # only DuckDB's answers: row counts and sums, for reference

Each SQL file of examples/flights, and each pair, runs with the real binary in a folder of its own: streaming at parallelism 1, 2 and 7,
and in batch mode. What it wrote as Parquet is compared with DuckDB's answer over the same input. DuckDB's queries are
written from the meaning of the SQL, not from how the engine works: hop windows are a join with generated window
starts, sessions a running sum over LAG, lateness a running maximum over the rows in file order. More questions, asked of
both, are in pairs.py. Then DuckDB reads the files of a checkpoint (tests/fixtures/state-v1) and has to find in them what
`millstream state query` does. Last, the first example of README.md prints what README.md says.

Compared exactly: every column, as a bag of rows. A DOUBLE must be equal, not nearly (0.0 equals -0.0, all other values
have one pattern of bits). Means and sums of whole numbers are exact in both; where DuckDB's own sum is not (weather:
temperatures have fractions), the reference is Python's math.fsum, the exactly rounded sum, divided by the count.

One line for each comparison; the last line is `N passed, N failed`. Exit code 1 if any failed.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from pairs import PAIRS, VIEWS

ROOT = Path(__file__).resolve().parents[2]
FLIGHTS = ROOT / "examples" / "flights"
RUN_SECONDS_MAX = 600

MODES = [
    ("streaming, parallelism 1", ["--parallelism", "1"]),
    ("streaming, parallelism 2", ["--parallelism", "2"]),
    ("streaming, parallelism 7", ["--parallelism", "7"]),
    ("batch", ["--mode", "batch"]),
]

DEPARTURES = f"read_parquet('{FLIGHTS}/departures.parquet', file_row_number = true)"
WEATHER = f"read_parquet('{FLIGHTS}/weather.parquet')"

HOURLY = f"""
    SELECT date_trunc('hour', sched_dep)::TIMESTAMP AS window_start,
           (date_trunc('hour', sched_dep) + INTERVAL 1 HOUR)::TIMESTAMP AS window_end,
           origin, count(*) AS departures, avg(dep_delay) AS mean_delay, max(dep_delay) AS max_delay
    FROM {DEPARTURES} GROUP BY ALL"""

# For each row more starts of windows than can hold it, and then only those that do.
HOPPING = f"""
    SELECT s AS window_start, s + INTERVAL 1 HOUR AS window_end, origin,
           count(*) AS departures, avg(dep_delay) AS mean_delay, max(dep_delay) AS max_delay
    FROM (SELECT *, unnest(generate_series(date_trunc('hour', sched_dep)::TIMESTAMP - INTERVAL 1 HOUR,
                                           date_trunc('hour', sched_dep)::TIMESTAMP + INTERVAL 1 HOUR,
                                           INTERVAL 10 MINUTE)) AS s FROM {DEPARTURES})
    WHERE sched_dep >= s AND sched_dep < s + INTERVAL 1 HOUR
    GROUP BY ALL"""

# A new session begins where the departure before lies more than the gap back; a distance of exactly the gap joins.
SESSIONS = f"""
    WITH steps AS (
        SELECT *, CASE WHEN sched_dep - lag(sched_dep) OVER aircraft <= INTERVAL 8 HOUR THEN 0 ELSE 1 END AS opens
        FROM {DEPARTURES} WINDOW aircraft AS (PARTITION BY tailnum ORDER BY sched_dep, file_row_number)),
    numbered AS (
        SELECT *, sum(opens) OVER (PARTITION BY tailnum ORDER BY sched_dep, file_row_number) AS nth FROM steps)
    SELECT min(sched_dep) AS window_start, max(sched_dep) + INTERVAL 8 HOUR AS window_end, tailnum,
           count(*) AS departures, sum(distance)::BIGINT AS miles, max(dep_delay) AS worst_delay
    FROM numbered GROUP BY tailnum, nth"""

LAST30 = f"""
    SELECT id, origin, sched_dep, dep_delay,
           count(*) OVER w AS departures_30m, avg(dep_delay) OVER w AS mean_delay_30m
    FROM {DEPARTURES}
    WINDOW w AS (PARTITION BY origin ORDER BY sched_dep
                 RANGE BETWEEN INTERVAL 30 MINUTE PRECEDING AND CURRENT ROW)"""

# The watermark before each row: the latest event time of the rows before it in the file, less 15 minutes. A row is late
# when its hour had closed: the last millisecond of the hour is at or before that watermark.
JUDGED = f"""
    SELECT *, date_trunc('hour', sched_dep)::TIMESTAMP AS hour,
           max(sched_dep) OVER (ORDER BY file_row_number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
               - INTERVAL 15 MINUTE AS mark
    FROM {DEPARTURES}"""
LATE = "coalesce(hour + INTERVAL 1 HOUR - INTERVAL 1 MILLISECOND <= mark, false)"
HOURLY_15MIN = f"""
    SELECT hour AS window_start, hour + INTERVAL 1 HOUR AS window_end, origin,
           count(*) AS departures, avg(dep_delay) AS mean_delay, max(dep_delay) AS max_delay
    FROM ({JUDGED}) WHERE NOT {LATE} GROUP BY ALL"""
LATE_ROWS = f"SELECT sched_dep AS event_time, mark AS watermark FROM ({JUDGED}) WHERE {LATE}"

# Lists instead of sums: python adds them up exactly.
DAILY_WEATHER = f"""
    SELECT date_trunc('day', observed - INTERVAL 5 HOUR)::TIMESTAMP + INTERVAL 5 HOUR AS window_start,
           date_trunc('day', observed - INTERVAL 5 HOUR)::TIMESTAMP + INTERVAL 29 HOUR AS window_end,
           origin, count(*) AS observations,
           list(temp) FILTER (temp IS NOT NULL) AS mean_temp, list(precip) FILTER (precip IS NOT NULL) AS rain,
           max(wind_speed) AS strongest
    FROM {WEATHER} GROUP BY ALL"""


def mean(values):
    return math.fsum(values) / len(values) if values else None


def total(values):
    return math.fsum(values) if values else None


def weather_sums(row):
    return row[:4] + (mean(row[4]), total(row[5])) + row[6:]


# One result folder with DuckDB's query for it, and what to do to a reference row.
HOURLY_RESULT = ("hourly", HOURLY, None)
HOPPING_RESULT = ("hopping", HOPPING, None)
SESSIONS_RESULT = ("sessions", SESSIONS, None)
LAST30_RESULT = ("last30", LAST30, None)

# File to run, and the results it leaves.
JOBS = [
    ("hourly.sql", [HOURLY_RESULT]),
    ("hopping.sql", [HOPPING_RESULT]),
    ("sessions.sql", [SESSIONS_RESULT]),
    ("last30.sql", [LAST30_RESULT]),
    ("demo.sql", [HOURLY_RESULT, HOPPING_RESULT, SESSIONS_RESULT, LAST30_RESULT]),
    ("late.sql", [("hourly_15min", HOURLY_15MIN, None), ("late_rows", LATE_ROWS, None)]),
    ("weather.sql", [("daily_weather", DAILY_WEATHER, weather_sums)]),
]

# The pairs: a table for the result, and the query as one more job.
JOBS += [(f"pair {name}", [(name, query, None)]) for name, _, _, query in PAIRS]

# Batch mode sees the whole input at once: no row can come too late, and the answer is the one of the patient watermark.
IN_BATCH_MODE = {"late.sql": [("hourly_15min", HOURLY, None)]}


class Oracle:
    """DuckDB's answers, each worked out once and kept as a table; and the comparison with them."""

    def __init__(self):
        self.db = duckdb.connect()
        self.db.execute(f"CREATE VIEW departures AS FROM {DEPARTURES}")
        self.tables = {}

    def answer(self, result):
        """The table that holds the answer."""
        _, query, finish = result
        if query not in self.tables:
            table = f"answer_{len(self.tables)}"
            if finish is None:
                self.db.execute(f"CREATE TABLE {table} AS {query}")
            else:
                raw = self.db.sql(query)
                # A list of values becomes one value.
                columns = ", ".join(f"{c} {str(t).removesuffix('[]')}" for c, t in zip(raw.columns, raw.types))
                rows = [finish(row) for row in raw.fetchall()]
                self.db.execute(f"CREATE TABLE {table} ({columns})")
                self.db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
            self.tables[query] = table
        return self.tables[query]

    def count(self, query):
        return self.db.sql(f"SELECT count(*) FROM ({query})").fetchall()[0][0]

    def compare(self, result, folder: Path):
        """None when the Parquet files in `folder` hold the answer; else what differs, with examples."""
        wanted = self.answer(result)
        files = sorted(str(f) for f in folder.rglob("*") if f.is_file() and not f.name.startswith((".", "_")))
        if not files:
            return "nothing was written"
        columns = ", ".join(f'"{c}"' for c in self.db.table(wanted).columns)
        self.db.execute(f"CREATE OR REPLACE TABLE found AS SELECT {columns} FROM read_parquet({files})")
        extra, missing = f"FROM found EXCEPT ALL FROM {wanted}", f"FROM {wanted} EXCEPT ALL FROM found"
        counts = [self.count(q) for q in ("FROM found", f"FROM {wanted}", extra, missing)]
        if counts[0] == counts[1] and counts[2] == counts[3] == 0:
            return None
        lines = ["{:,} rows, DuckDB has {:,}; {:,} only here, {:,} only there".format(*counts)]
        for title, query in (("only here ", extra), ("only there", missing)):
            rows = self.db.sql(f"SELECT * FROM ({query}) ORDER BY ALL LIMIT 3").fetchall()
            lines += [f"      {title} ({', '.join(map(str, row))})" for row in rows]
        return "\n".join(lines)


def script_file(script: str, folder: Path) -> Path:
    """The SQL file of a job: of the example, or of a pair, with the declaration of the example's table in front."""
    name = script.removeprefix("pair ")
    if name == script:
        return FLIGHTS / script
    columns, query = next((c, q) for n, c, q, _ in PAIRS if n == name)
    declaration = re.search(r"^CREATE TABLE departures .*?^\);", (FLIGHTS / "hourly.sql").read_text(), re.M | re.S).group()
    sink = f"CREATE TABLE {name} ({columns}) WITH ('connector' = 'filesystem', 'path' = 'out/{name}', 'format' = 'parquet');"
    file = folder / f"{name}.sql"
    file.write_text(f"{declaration}\n{VIEWS}\n{sink}\nINSERT INTO {name}{query};\n")
    return file


def run(binary: Path, script: str, arguments, folder: Path):
    for data in FLIGHTS.glob("*.parquet"):
        (folder / data.name).symlink_to(data)
    command = [str(binary), "run", str(script_file(script, folder)), *arguments]
    environment = {**os.environ, "NO_COLOR": "1", "RUST_BACKTRACE": "0", "TZ": "Asia/Kolkata"}  # The machine's zone may not matter.
    try:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=RUN_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return f"not done after {RUN_SECONDS_MAX} s: {' '.join(command)}"
    if done.returncode != 0:
        tail = "\n".join("      " + line for line in (done.stdout + done.stderr).strip().splitlines()[-12:])
        return f"exit code {done.returncode}: {' '.join(command)}\n{tail}"
    return None


def first_example(binary: Path):
    """None when the first example prints the rows that README.md shows; else what it printed."""
    shown = sorted(re.findall(r"^\+I\[.*\]$", (ROOT / "README.md").read_text(), re.M))
    command = [str(binary), "run", "clicks.sql", "--parallelism", "1"]
    done = subprocess.run(command, cwd=ROOT / "examples" / "clicks", stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=RUN_SECONDS_MAX)
    printed = sorted(line for line in done.stdout.splitlines() if line.startswith("+"))
    if done.returncode == 0 and printed == shown:
        return None
    return f"exit code {done.returncode}; README.md shows {shown}, printed was {printed}\n{done.stderr[-2000:]}"


def alive(node, table, root):
    """DuckDB's query for the rows of a checkpoint's table: what no newer change of the same task has replaced, deleted or dropped."""
    pieces = [(chain["task"], at, root / piece["path"]) for chain in table["chains"] for at, piece in enumerate(chain["pieces"])]
    names = [f'"{column.split(" ")[0]}"' for column in table["columns"]]

    def same(columns):
        return " AND ".join(f"later.{c} IS NOT DISTINCT FROM c.{c}" for c in columns) or "false"

    files = " UNION ALL ".join(
        f"SELECT *, {task} AS \"$task\", {at} AS \"$piece\" FROM read_parquet('{path}', file_row_number = true)"
        for task, at, path in pieces)
    return f"""
        WITH changes AS (
            SELECT *, row_number() OVER (PARTITION BY "$task" ORDER BY "$piece", file_row_number) AS "$nth" FROM ({files}))
        SELECT {", ".join(names)} FROM changes AS c WHERE "$change" = 0 AND NOT EXISTS (
            FROM changes AS later WHERE later."$task" = c."$task" AND later."$nth" > c."$nth"
            AND CASE later."$change" WHEN 2 THEN {same(names[:table["part"]])}
                                     WHEN 3 THEN c.{names[0]} <= later.{names[0]}
                                     WHEN 1 THEN {same(names[:table["key"]])}
                                     ELSE {same(names[:table["key"]])} END)"""


def checkpoint_tables(binary: Path):
    """Each table of the checkpoint of tests/fixtures/state-v1: its name and what differs between DuckDB's reading of its files
    and `millstream state query`; None: nothing."""
    job = ROOT / "tests" / "fixtures" / "state-v1" / "state" / "job"
    manifest = json.loads((job / "manifests" / "000000000001.json").read_text())
    db = duckdb.connect()
    for node, table in [(n, t) for n in manifest["nodes"] for t in n["tables"] if any(c["pieces"] for c in t["chains"])]:
        name = re.sub("[^0-9A-Za-z]", "_", f"{node['id']}_{table['name']}")
        with tempfile.TemporaryDirectory(prefix="millstream-state-") as folder:
            # Through a file of Parquet, so that values are compared and not their texts.
            columns = [row[:2] for row in db.sql(f"DESCRIBE {alive(node, table, job)}").fetchall()]
            types = {"VARCHAR": "STRING", "INTEGER": "INT", "BLOB": "BYTES", "TIMESTAMP_MS": "TIMESTAMP(3)", "TIMESTAMP": "TIMESTAMP(3)"}
            declared = ", ".join(f"`{c}` {types.get(t, t)}" for c, t in columns)
            sql = (f"CREATE TABLE out ({declared}) WITH ('connector' = 'filesystem', 'path' = '{folder}/out', 'format' = 'parquet'); "
                   f"INSERT INTO out SELECT * FROM {name}")
            done = subprocess.run([str(binary), "state", "query", str(job.parent), sql], capture_output=True, text=True)
            if done.returncode != 0:
                yield name, done.stderr
                continue
            files = [str(f) for f in Path(folder).rglob("*.parquet")]
            mine = f"FROM read_parquet({files})" if files else f"FROM ({alive(node, table, job)}) LIMIT 0"
            theirs = f"FROM ({alive(node, table, job)})"
            counts = [db.sql(f"SELECT count(*) FROM ({q})").fetchall()[0][0]
                      for q in (mine, theirs, f"{mine} EXCEPT ALL {theirs}")]
            same = counts[0] == counts[1] and counts[2] == 0
            yield f"{name} ({counts[1]} rows)", None if same else "{} rows, DuckDB has {}; {} only here".format(*counts)


def compare_all(binary: Path) -> int:
    oracle, passed, failed = Oracle(), 0, 0

    def report(name, problem, seconds=None):
        nonlocal passed, failed
        passed, failed = (passed + 1, failed) if problem is None else (passed, failed + 1)
        took = "" if seconds is None else f"  ({seconds:.1f} s)"
        print(f"{'ok    ' if problem is None else 'FAILED'} {name}{took}" + ("" if problem is None else f"\n      {problem}"), flush=True)

    for script, results in JOBS:
        for mode, arguments in MODES:
            expected = IN_BATCH_MODE.get(script, results) if mode == "batch" else results
            with tempfile.TemporaryDirectory(prefix="millstream-flights-") as folder:
                start = time.monotonic()
                problem = run(binary, script, arguments, Path(folder))
                seconds = time.monotonic() - start
                for result in expected:
                    name = f"{script}, {mode}: {result[0]}"
                    if problem:
                        report(name, problem)
                        continue
                    try:
                        report(name, oracle.compare(result, Path(folder) / "out" / result[0]), seconds)
                    except duckdb.Error as error:
                        report(name, f"cannot read what was written: {error}")
    for name, problem in checkpoint_tables(binary):
        report(f"checkpoint: {name}", problem)
    report("the first example prints what README.md shows", first_example(binary))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def show_oracle() -> int:
    oracle = Oracle()
    seen = set()
    for _, results in JOBS:
        for result in results:
            if result[0] in seen:
                continue
            seen.add(result[0])
            start = time.monotonic()
            answer = oracle.db.table(oracle.answer(result))
            print(f"{result[0]:20} {len(answer):>8,} rows  ({time.monotonic() - start:.1f} s)  {', '.join(answer.columns)}")
            for row in answer.order(answer.columns[0]).limit(2).fetchall():
                print(f"    ({', '.join(map(str, row))})")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary", nargs="?", type=Path, help="the millstream binary to test")
    parser.add_argument("--oracle", action="store_true", help="only DuckDB's answers")
    arguments = parser.parse_args()
    if arguments.oracle:
        sys.exit(show_oracle())
    if arguments.binary is None:
        parser.error("say which binary to test")
    if not os.access(arguments.binary, os.X_OK):
        parser.error(f"{arguments.binary} is not there or cannot be run: build it with `cargo build -p millstream`")
    sys.exit(compare_all(arguments.binary.resolve()))
