#!/usr/bin/env python3
"""Runs the Nexmark queries with the real binary and says what an event costs.

    run.py MILLSTREAM [QUERY ...] [--events N] [--parallelism 1,2] [--runs N] [--markdown]

Each run is a process of its own over the whole stream (46 bids, 3 auctions and 1 person in 50 events, 100,000 events for each
second of event time), into a blackhole. CPU is user and system time of the process, the making of the events included; the
generator alone is measured beside it (`generator`), as a query that reads every column and keeps nothing. What an event costs
is that of the last 80 %: of a run over all events less one over the first fifth of them, so that the start of the process and
the planning, some tenths of a second, do not count for a job that runs for months.

Beside them stands what Apache Flink 2.3.0 took on a machine of 2 cores (heap state, no checkpoints, parallelism 1, the steady
last 80 % of the events; docs/performance.md says how it was measured): figures of another run, good for factors and not for per cents.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# CPU microseconds for each event.
FLINK = {
    "q0": 1.58, "q1": 2.01, "q2": 1.77, "q3": 1.68, "q4": 6.75, "q5": 5.15, "q7": 12.7, "q8": 3.69, "q9": 11.3, "q11": 5.65,
    "q12": 3.05, "q15": 4.62, "q16": 12.0, "q17": 4.55, "q18": 5.27, "q19": 7.14, "q20": 8.18, "q22": 3.44,
}
GENERATOR = """
CREATE TABLE nothing (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO nothing SELECT event_type FROM datagen
WHERE CHAR_LENGTH(person.extra) + CHAR_LENGTH(auction.extra) + CHAR_LENGTH(bid.extra) + CHAR_LENGTH(bid.url) < 0;
"""


def measure(binary, ddl, query, parallelism):
    """CPU seconds, wall seconds, peak MB."""
    start = time.monotonic()
    command = [binary, "run", "--init", ddl, query, "-p", str(parallelism), "--progress", "none"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ddl.parent)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{query.name} failed:\n{said}")
    return usage.ru_utime + usage.ru_stime, time.monotonic() - start, usage.ru_maxrss / 1024


def with_events(events):
    """The tables, with so many events in them."""
    options = f"'events.num' = '{events}', 'first-event.rate' = '100000', 'next-event.rate' = '100000'"
    return re.sub(r"'events.num' = '\d+'", options, (HERE / "ddl.sql").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("queries", nargs="*", help="such as q3; default: all")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--parallelism", default="1,2")
    parser.add_argument("--runs", type=int, default=1, help="of each, of which the least CPU counts")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    levels = [int(p) for p in args.parallelism.split(",")]
    files = sorted(HERE.glob("q*.sql"), key=lambda f: int(re.sub(r"\D", "", f.stem)))
    known = [f.stem for f in files]
    for q in args.queries:
        if q not in known:
            raise SystemExit(f"there is no query {q}; there are {', '.join(known)}")
    files = [f for f in files if not args.queries or f.stem in args.queries]
    with tempfile.TemporaryDirectory(prefix="millstream-nexmark-") as folder:
        first, ddl = Path(folder) / "first.sql", Path(folder) / "ddl.sql"
        first_events = args.events // 5
        first.write_text(with_events(first_events))
        ddl.write_text(with_events(args.events))
        generator = Path(folder) / "generator.sql"
        generator.write_text(GENERATOR)
        bar = "|" if args.markdown else " "
        print(f"{bar} query {bar} threads {bar} CPU µs/event {bar} events/s {bar} peak MB {bar} Flink CPU µs/event {bar} ratio {bar}")
        if args.markdown:
            print("|---|---:|---:|---:|---:|---:|---:|")
        for query in [generator] + files:
            for threads in levels:
                least = [min(measure(args.binary.resolve(), d, query, threads) for _ in range(args.runs)) for d in (first, ddl)]
                (start_cpu, start_wall, _), (cpu, wall, peak) = least
                each = (cpu - start_cpu) / (args.events - first_events) * 1e6
                rate = (args.events - first_events) / max(wall - start_wall, 1e-9)
                flink = FLINK.get(query.stem) if threads == 1 else None
                beside = f"{flink:.2f} {bar} {flink / each:.0f}" if flink else f"– {bar} –"
                print(f"{bar} {query.stem:9} {bar} {threads} {bar} {each:.3f} {bar} {rate:,.0f} {bar} {peak:.0f} {bar} {beside} {bar}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
