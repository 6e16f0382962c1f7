#!/usr/bin/env python3
"""What of `./dev bench kafka` can be said without a broker: its options, its SQL, its table. Timings decide nothing here.

    check.py MILLSTREAM

The last line is `N passed, N failed`.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import run

BINARY = None


def line(system, cpu_us, guarantee="exactly-once"):
    return {"job": "hop", "guarantee": guarantee, "system": system, "events_per_s": 123456.7, "cpu_us": cpu_us, "live_cpu_us": 2.25,
            "p50_ms": 512, "p99_ms": 1024, "peak_mb": 99.5, "start_s": 1.5, "start_cpu_s": 2.5}


def refused(*words):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
        run.parser().parse_args(words)
        return None
    return said.getvalue()


class Options(unittest.TestCase):
    def test_lists_are_read_and_defaults_are_all(self):
        args = run.parser().parse_args(["--only", "hop,filter", "--without", "flink", "--events", "5_000"])
        self.assertEqual((args.only, args.without, args.events), (["hop", "filter"], ["flink"], 5000))
        self.assertEqual(args.guarantee, ["exactly-once", "at-least-once"])

    def test_what_is_not_there_is_named_with_what_is(self):
        self.assertIn("there is no storm; there are millstream, kafka-streams, flink", refused("--without", "storm"))
        self.assertIn("there is no hops", refused("--only", "hops"))
        self.assertIn("0 is not above 0", refused("--rate", "0"))


class Sql(unittest.TestCase):
    def test_every_job_is_valid_once_filled_in(self):
        for job in run.JOBS:
            for guarantee in run.GUARANTEES:
                text = (run.HERE / "jobs" / f"{job}.sql").read_text()
                text = run.filled(text, input="i", output="o", brokers="127.0.0.1:1", name="n", guarantee=guarantee)
                with tempfile.NamedTemporaryFile("w", suffix=".sql") as sql:
                    sql.write(text)
                    sql.flush()
                    said = subprocess.run([BINARY, "check", sql.name], capture_output=True, text=True)
                self.assertEqual(said.returncode, 0, f"{job}: {said.stderr}")

    def test_a_name_that_nobody_fills_in_is_found(self):
        self.assertRaises(ValueError, run.filled, "'topic' = '{inptu}'", input="i")


class Table(unittest.TestCase):
    def test_times_are_against_ours_of_the_same_job_and_guarantee(self):
        lines = [line("millstream", 2.0), line("flink", 11.0), line("flink", 7.0, "at-least-once")]
        rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in run.table(lines).splitlines()]
        self.assertEqual(rows[0], run.HEAD)
        self.assertTrue(all(len(row) == len(run.HEAD) for row in rows))
        self.assertEqual([row[5] for row in rows[2:]], ["–", "5.5", "–"])
        self.assertEqual(rows[2][3:5] + rows[2][7:9], ["123,457", "2.00", "512", "1,024"])


if __name__ == "__main__":
    BINARY = sys.argv[1]
    tests = unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"])
    result = unittest.TextTestRunner(verbosity=1).run(tests)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(failed > 0)
