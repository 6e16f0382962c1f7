#!/usr/bin/env python3
"""What other programs make of our Delta tables, and we of theirs.

    check.py MILLSTREAM [--kills N] [--seed S]

Readers are DuckDB with its own extension for Delta, and delta-rs (`deltalake`); each has an implementation of the log that
knows nothing of ours. Tables are written under SIGKILL at random moments, by key and not, while delta-rs compacts their files,
and hold every row once in the end;
a table of all types is read back; and a table that delta-rs has written, changed and checkpointed is read by us, and added to.

The last line is `N passed, N failed`.
"""

import argparse
import glob
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import deltalake
import duckdb

ROWS = 60_000
PER_SECOND = 25_000
GROUPS = 50

KILLED = f"""
CREATE TABLE src (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '{ROWS}', 'rows-per-second' = '{PER_SECOND}',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '{ROWS}');
CREATE TABLE appended (id BIGINT, part STRING) PARTITIONED BY (part)
WITH ('connector' = 'delta', 'path' = 'appended', 'delta.checkpointInterval' = '3');
CREATE TABLE counted (k BIGINT, part STRING, n BIGINT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED) PARTITIONED BY (part)
WITH ('connector' = 'delta', 'path' = 'counted', 'delta.checkpointInterval' = '3');
EXECUTE STATEMENT SET BEGIN
INSERT INTO appended SELECT id, 'p ' || CAST(id % 3 AS STRING) FROM src;
INSERT INTO counted SELECT id % {GROUPS}, 'p ' || CAST(id % {GROUPS} % 2 AS STRING), COUNT(*), SUM(id) FROM src
GROUP BY id % {GROUPS};
END;
"""

TYPES = """id BIGINT, day DATE, `at` TIMESTAMP(6), ltz TIMESTAMP_LTZ(3), price DECIMAL(20, 4), name STRING, yes BOOLEAN,
  x DOUBLE, f FLOAT, i INT, s SMALLINT, t TINYINT, b BYTES, tags ARRAY<STRING>, m MAP<STRING, BIGINT>, r ROW<a INT, b STRING>"""

ALL_TYPES = f"""
CREATE TABLE src (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '2000',
  'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '2000');
CREATE TABLE typed ({TYPES}) PARTITIONED BY (day, name) WITH ('connector' = 'delta', 'path' = 'typed');
INSERT INTO typed SELECT id,
  CASE id % 3 WHEN 0 THEN DATE '2024-02-29' WHEN 1 THEN DATE '1969-12-31' ELSE CAST(NULL AS DATE) END,
  TIMESTAMP '1969-12-31 23:59:59.123456', CAST('2024-01-01 00:00:00.123' AS TIMESTAMP_LTZ(3)),
  CAST(id AS DECIMAL(20, 4)) / 100, CASE WHEN id % 7 = 0 THEN CAST(NULL AS STRING) ELSE 'ä/b=%' || CAST(id % 2 AS STRING) END,
  id % 2 = 0, CAST(id AS DOUBLE) / 4, CAST(id AS FLOAT), CAST(id AS INT), CAST(id AS SMALLINT), CAST(id % 100 AS TINYINT),
  CAST('ab' AS BYTES), ARRAY['a', 'b'], MAP['k', id], CAST(ROW(1, 'x') AS ROW<a INT, b STRING>) FROM src;
"""


class Failed(Exception):
    pass


def expect(what, got, wanted):
    if got != wanted:
        raise Failed(f"{what}: {got}, and it ought to be {wanted}")


def newest(state):
    """The number of the newest manifest: a run begins with one of its own, and each checkpoint adds one."""
    return max((int(file.stem) for file in state.glob("*/manifests/*.json")), default=0)


class Checks:
    def __init__(self, binary, kills, seed):
        self.binary, self.kills, self.chance = binary, kills, random.Random(seed)
        self.work = Path(tempfile.mkdtemp(prefix="millstream-delta-"))
        self.duck = duckdb.connect()
        package = os.path.dirname(importlib.util.find_spec("duckdb_extension_delta").origin)
        extension, = glob.glob(f"{package}/extensions/v{duckdb.__version__}/delta.duckdb_extension")
        self.duck.execute(f"LOAD '{extension}'; SET TimeZone = 'UTC'")

    def run(self, sql, *options):
        (self.work / "job.sql").write_text(sql)
        command = [self.binary, "run", "job.sql", "--progress", "none", *options]
        done = subprocess.run(command, cwd=self.work, capture_output=True, timeout=120)
        if done.returncode != 0:
            raise Failed(f"the job ended with {done.returncode}: {done.stderr.decode().strip()}")

    def ask(self, query):
        return self.duck.execute(query).fetchall()

    def table(self, name):
        return f"delta_scan('{self.work / name}')"

    def what_is_killed_at_random_comes_once(self):
        (self.work / "killed.sql").write_text(KILLED)
        command = [self.binary, "run", "killed.sql", "--state", "state", "--checkpoint-interval", "100ms", "--progress", "none"]
        kills, runs = 0, 0
        while True:
            runs += 1
            with open(self.work / "stderr", "w") as stderr:
                process = subprocess.Popen(command, cwd=self.work, stderr=stderr)
            if kills < self.kills:
                # Two of three wait for a checkpoint of the run, so that kills hit commits and not only starts.
                before, waits = newest(self.work / "state"), self.chance.random() < 2 / 3
                while waits and process.poll() is None and newest(self.work / "state") < before + 2:
                    time.sleep(0.005)
                until = time.monotonic() + self.chance.uniform(0, 0.15 if waits else 0.6)
                while process.poll() is None and time.monotonic() < until:
                    time.sleep(0.005)
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
            code = process.wait(timeout=120)
            if code == 0:
                break
            if code != -signal.SIGKILL:
                raise Failed(f"run {runs} ended with {code}: {(self.work / 'stderr').read_text().strip()}")
            if (self.work / "appended/_delta_log/00000000000000000001.json").exists():
                (rows, ids), = self.ask(f"SELECT count(*), count(DISTINCT id) FROM {self.table('appended')}")
                expect(f"rows of the appended table after kill {kills}", rows, ids)
                # What was just committed, and may be committed again, is then in other files.
                for name in ("appended", "counted"):
                    if self.chance.random() < 0.5 and (self.work / name / "_delta_log/00000000000000000001.json").exists():
                        deltalake.DeltaTable(self.work / name).optimize.compact()
        if kills < min(self.kills, 5):
            raise Failed(f"only {kills} kills prove nothing")
        total = ROWS * (ROWS + 1) // 2
        appended = self.ask(f"SELECT count(*), count(DISTINCT id), sum(id) FROM {self.table('appended')}")
        expect("the appended table", appended, [(ROWS, ROWS, total)])
        counted = self.ask(f"SELECT count(*), count(DISTINCT k), sum(n), sum(total) FROM {self.table('counted')}")
        expect("the table by key", counted, [(GROUPS, GROUPS, ROWS, total)])
        expect("its parts", self.ask(f"SELECT count(*) FROM {self.table('counted')} WHERE part = 'p ' || (k % 2)"), [(GROUPS,)])
        # One commit for each epoch, and delta-rs reads the same, from our checkpoint of the log.
        other = deltalake.DeltaTable(self.work / "appended")
        epochs = [int(h["operationParameters"]["epochId"]) for h in other.history() if "epochId" in h["operationParameters"]]
        expect("epochs that were committed twice", len(epochs) - len(set(epochs)), 0)
        if not (self.work / "appended/_delta_log/_last_checkpoint").exists():
            raise Failed("the log has no checkpoint")
        for file in (self.work / "appended/_delta_log").glob("0*0[0-4].json"):
            file.unlink()
        expect("files by delta-rs", len(deltalake.DeltaTable(self.work / "appended").file_uris()), len(other.file_uris()))
        # Nothing that is the table's would be cleaned away.
        live = {os.path.basename(uri) for uri in other.file_uris()}
        gone = other.vacuum(retention_hours=0, dry_run=True, enforce_retention_duration=False)
        expect("files of the table that VACUUM would take", live & {os.path.basename(f) for f in gone}, set())
        print(f"delta: {kills} kills in {runs} runs, {len(epochs)} epochs: every row once")

    def all_types_are_read_by_others(self):
        self.run(ALL_TYPES)
        of = self.table("typed")
        expect("rows", self.ask(f"SELECT count(*), sum(id), sum(price)::TEXT FROM {of}"), [(2000, 2001000, "20010.0000")])
        row = self.ask(f"SELECT COLUMNS(*)::TEXT FROM {of} WHERE id = 15")
        expect("a row", row, [(
            "15", "2024-02-29", "1969-12-31 23:59:59.123456", "2024-01-01 00:00:00.123+00", "0.1500", "ä/b=%1", "false",
            "3.75", "15.0", "15", "15", "15", "ab", "[a, b]", "{k=15}", "{'a': 1, 'b': x}")])
        # Readers leave files out by our statistics.
        expect("by id", self.ask(f"SELECT count(*) FROM {of} WHERE id BETWEEN 500 AND 509"), [(10,)])
        expect("by time", self.ask(f"SELECT count(*) FROM {of} WHERE \"at\" < TIMESTAMP '1970-01-01'"), [(2000,)])
        expect("by partition", self.ask(f"SELECT count(*) FROM {of} WHERE day IS NULL AND name IS NULL"), [(95,)])
        back = f"""CREATE TABLE typed ({TYPES}) WITH ('connector' = 'delta', 'path' = 'typed');
        CREATE TABLE out ({TYPES}) WITH ('connector' = 'filesystem', 'path' = 'typed.parquet', 'format' = 'parquet');
        INSERT INTO out SELECT * FROM typed;"""
        self.run(back)
        both = f"(SELECT * FROM {of}), (SELECT * FROM read_parquet('{self.work}/typed.parquet'))".split(", (")
        for a, b in [(both[0], "(" + both[1]), ("(" + both[1], both[0])]:
            expect("rows that differ", self.ask(f"SELECT count(*) FROM (FROM {a} EXCEPT ALL FROM {b})"), [(0,)])

    def a_table_of_delta_rs_is_read_and_added_to(self):
        path = str(self.work / "theirs")
        rows = lambda a, b, more="": self.duck.sql(f"""SELECT i AS id, ['x', 'y z', NULL][i % 3 + 1] AS part,
            DATE '2020-01-01' + (i % 400)::INT AS day, TIMESTAMP '2020-01-01 00:00:00.000001' + INTERVAL (i) SECOND AS "at",
            (i / 8.0)::DECIMAL(12, 3) AS price{more} FROM range({a}, {b}) t(i)""")
        deltalake.write_deltalake(path, rows(0, 1000), partition_by=["part", "day"])
        deltalake.write_deltalake(path, rows(1000, 1200), mode="append")
        table = deltalake.DeltaTable(path)
        table.delete("id % 5 = 0")
        table.create_checkpoint()
        deltalake.write_deltalake(path, rows(1200, 1300, ", 'new' AS added"), mode="append", schema_mode="merge")
        theirs = "id BIGINT, part STRING, day DATE, `at` TIMESTAMP(6), price DECIMAL(12, 3), added STRING"
        sql = f"""CREATE TABLE theirs ({theirs}) WITH ('connector' = 'delta', 'path' = 'theirs'%s);
        CREATE TABLE out ({theirs}) WITH ('connector' = 'filesystem', 'path' = 'theirs.parquet', 'format' = 'parquet');
        INSERT INTO out SELECT * FROM theirs;"""
        for version, wanted in [("", 960 + 100), (", 'versionAsOf' = '2'", 960), (", 'versionAsOf' = '0'", 1000)]:
            if version:
                # The column was added later.
                query = sql.replace(", added STRING", "") % version
            else:
                query = sql % version
            self.run(query)
            expect(f"rows{version}", self.ask(f"SELECT count(*) FROM read_parquet('{self.work}/theirs.parquet')"), [(wanted,)])
            if not version:
                ours, of = f"read_parquet('{self.work}/theirs.parquet')", self.table("theirs")
                for a, b in [(ours, of), (of, ours)]:
                    columns = 'id, part, day, "at", price, added'
                    difference = f"SELECT count(*) FROM (SELECT {columns} FROM {a} EXCEPT ALL SELECT {columns} FROM {b})"
                    expect("rows that differ", self.ask(difference), [(0,)])
        self.run(f"""CREATE TABLE src (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '50',
          'fields.id.kind' = 'sequence', 'fields.id.start' = '5000', 'fields.id.end' = '5049');
        CREATE TABLE theirs ({theirs}) PARTITIONED BY (part, day) WITH ('connector' = 'delta', 'path' = 'theirs');
        INSERT INTO theirs SELECT id, 'ours', DATE '2020-01-01', TIMESTAMP '2020-01-01 00:00:00', CAST(1 AS DECIMAL(12, 3)), 'o'
        FROM src;""")
        expect("rows with ours", self.ask(f"SELECT count(*) FROM {self.table('theirs')}"), [(1110,)])
        expect("rows by delta-rs", deltalake.DeltaTable(path).count(), 1110)
        expect("by part", self.ask(f"SELECT count(*) FROM {self.table('theirs')} WHERE part = 'ours'"), [(50,)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(4), "little")
    checks, passed, failed = Checks(args.binary.resolve(), args.kills, seed), 0, 0
    all_checks = [checks.all_types_are_read_by_others, checks.a_table_of_delta_rs_is_read_and_added_to,
                  checks.what_is_killed_at_random_comes_once]
    for check in all_checks:
        try:
            check()
            passed += 1
        except Exception as e:
            failed += 1
            if not isinstance(e, Failed):
                traceback.print_exc()
            print(f"delta: {check.__name__} FAILED: {e}\n  seed {seed}; what is left: {checks.work}")
    if not failed:
        shutil.rmtree(checks.work)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
