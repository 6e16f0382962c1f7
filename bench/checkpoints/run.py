#!/usr/bin/env python3
"""What checkpoints cost, with the real binary: CPU, bytes written, memory, and the time until a job is back.

    run.py MILLSTREAM [cost|bytes|memory|recovery ...] [--keys N] [--rows N] [--memory SIZE] [--runs N] [--dir DIR]

    cost      CPU (user and system) of a job without checkpoints and with one each 10 s, 1 s, 100 ms, in turns in one run.
              Rows come at --rate a second for --seconds, so that between two checkpoints as many change as said.
              Two states: one of which most changes in a second, and one of which little does.
    bytes     bytes written to the store for each byte of what changed, from the files of all checkpoints of a run.
    memory    resident memory and scratch files against the budget, sampled twice a second, for windows, sessions and OVER.
    recovery  a job is killed (-9) when a checkpoint of --keys keys is there: from the start of the next one to its first new
              result.

Rows come from the generator `datagen`: a random key, a number, and an event time that goes on by 1 ms for each row.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SOURCE = """
CREATE TABLE rows_in (
  n BIGINT, k BIGINT, v INT, ts AS TO_TIMESTAMP_LTZ(n, 3), WATERMARK FOR ts AS ts
) WITH ('connector' = 'datagen', 'rows-per-second' = '{rate}', 'fields.n.kind' = 'sequence', 'fields.n.start' = '0',
        'fields.n.end' = '{last}', 'fields.k.min' = '0', 'fields.k.max' = '{top}', 'fields.v.min' = '0', 'fields.v.max' = '1000');
CREATE TABLE nothing (k BIGINT, n BIGINT, total BIGINT, most INT) WITH ('connector' = 'blackhole');
CREATE TABLE shown (k BIGINT, n BIGINT, total BIGINT, most INT) WITH ('connector' = 'print');
"""
WINDOW = "SELECT k, COUNT(*), SUM(v), MAX(v) FROM TABLE(TUMBLE(TABLE rows_in, DESCRIPTOR(ts), INTERVAL '{size}' SECOND)) GROUP BY window_start, window_end, k"
SESSION = "SELECT k, COUNT(*), SUM(v), MAX(v) FROM TABLE(SESSION(TABLE rows_in PARTITION BY k, DESCRIPTOR(ts), INTERVAL '{size}' SECOND)) GROUP BY window_start, window_end, k"
OVER = ("SELECT k, COUNT(*) OVER w AS n, SUM(v) OVER w AS total, MAX(v) OVER w AS most FROM rows_in "
        "WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '{size}' SECOND PRECEDING AND CURRENT ROW)")


class Bench:
    def __init__(self, args):
        self.args, self.binary = args, args.binary.resolve()
        self.work = Path(tempfile.mkdtemp(prefix="millstream-checkpoints-", dir=args.dir))
        self.jobs = 0

    def script(self, rows, keys, query, size, into="nothing", rate=100_000_000):
        self.jobs += 1
        path = self.work / f"job{self.jobs}.sql"
        source = SOURCE.format(last=rows - 1, top=keys - 1, rate=rate)
        path.write_text(source + f"INSERT INTO {into} " + query.format(size=size) + ";\n")
        return path

    def start(self, sql, *more, stdout=subprocess.DEVNULL):
        command = [self.binary, "run", sql, "-p", str(self.args.parallelism), "--progress", "none", "--scratch", self.work, *more]
        return subprocess.Popen([str(c) for c in command], stdout=stdout, stderr=subprocess.PIPE)

    def end(self, process):
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        if status != 0:
            raise SystemExit(f"a job failed:\n{said}")
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024

    def run(self, sql, *more):
        """CPU seconds, wall seconds, peak MB."""
        begun = time.monotonic()
        cpu, peak = self.end(self.start(sql, *more))
        return cpu, time.monotonic() - begun, peak

    def fresh_state(self):
        state = self.work / "state"
        shutil.rmtree(state, ignore_errors=True)
        return state

    def cost(self):
        rate, rows = self.args.rate, self.args.rate * self.args.seconds
        print(f"cost: {rate:,} rows/s for {self.args.seconds} s, COUNT, SUM, MAX by key, medians of {self.args.runs} runs in turns")
        print("keys       change/s checkpoints   CPU s    ratio  CPU ms each  wall s  taken  peak MB")
        for keys in [rate, self.args.keys]:
            part = 1 - (1 - 1 / keys) ** rate
            sql = self.script(rows, keys, WINDOW, 10_000_000, rate=rate)
            taken = {}
            every = [None, "10s", "1s", "100ms"]
            for _ in range(self.args.runs):
                for interval in every:
                    more, state = [], self.fresh_state()
                    if interval:
                        more = ["--state", state, "--checkpoint-interval", interval]
                    run = self.run(sql, *more)
                    taken.setdefault(interval, []).append(run + (epochs(state),))
            base = statistics.median(r[0] for r in taken[None])
            for interval in every:
                cpu, wall, peak, count = (statistics.median(column) for column in zip(*taken[interval]))
                each = (cpu - base) / count * 1e3 if count else 0
                print(f"{keys:10,} {part:8.0%} {interval or 'none':>11} {cpu:7.2f} {cpu / base:8.3f} {each:12.1f} {wall:7.1f} {count:6.0f} {peak:8.0f}", flush=True)

    def bytes(self):
        keys, rows = self.args.keys, self.args.rows
        print(f"bytes: {keys:,} keys, {rows:,} rows; a checkpoint each second, all kept")
        print("state     checkpoints  written MB  rows written M  rows changed M  ratio")
        for name, query in [("window", WINDOW), ("session", SESSION)]:
            state = self.fresh_state()
            more = [] if not self.args.memory else ["--memory", self.args.memory]
            sql = self.script(rows, keys, query, 10_000_000)
            sql.write_text("SET 'execution.checkpointing.num-retained' = '1000000';\n" + sql.read_text())
            self.run(sql, "--state", state, "--checkpoint-interval", "1s", *more)
            size, there, changed = written(state, keys)
            print(f"{name:9} {epochs(state):11} {size / 1e6:11.1f} {there / 1e6:15.2f} {changed / 1e6:15.2f} {there / changed:6.2f}", flush=True)

    def memory(self):
        keys, rows, budget = self.args.keys, self.args.rows, self.args.memory or "64MB"
        print(f"memory: {keys:,} keys, {rows:,} rows, --memory {budget}, a checkpoint each {self.args.interval}")
        print("state     wall s   CPU s  checkpoints  resident MB: median  p95  peak   scratch GB at most  state MB")
        for name, query in [("window", WINDOW), ("session", SESSION), ("over", OVER)]:
            if self.args.only and name not in self.args.only:
                continue
            state = self.fresh_state()
            sql = self.script(rows, keys, query, 10_000_000 if name != "over" else 600)
            begun = time.monotonic()
            process = self.start(sql, "--memory", budget, "--state", state, "--checkpoint-interval", self.args.interval)
            resident, scratch, over = [], [0], threading.Event()

            def sample():
                while not over.wait(0.5):
                    try:
                        status = Path(f"/proc/{process.pid}/status").read_text()
                    except OSError:
                        return
                    found = re.search(r"VmRSS:\s+(\d+)", status)
                    resident.append(int(found[1]) / 1024 if found else 0)
                    scratch.append(folder_bytes(self.work.glob("millstream-scratch-*")))

            watcher = threading.Thread(target=sample)
            watcher.start()
            try:
                cpu, peak = self.end(process)
            finally:
                over.set()
                watcher.join()
            resident.sort()
            middle, high = resident[len(resident) // 2], resident[len(resident) * 95 // 100]
            print(f"{name:9} {time.monotonic() - begun:6.1f} {cpu:7.1f} {epochs(state):12} {middle:20.0f} {high:5.0f} {peak:5.0f} {max(scratch) / 1e9:20.2f} {largest_state(state) / 1e6:9.0f}", flush=True)

    def recovery(self):
        keys = self.args.keys
        rows = self.args.rows
        print(f"recovery: {keys:,} keys, killed (-9) behind a checkpoint, until the first new result")
        print("state     files MB  start to first row s  CPU s  peak MB until then")
        for name, query in [("over", OVER)]:
            state = self.fresh_state()
            query = "SELECT * FROM (" + query + ") WHERE MOD(total, 1000) = 0"
            sql = self.script(10 * rows, keys, query, 100_000_000, into="shown")
            more = ["--state", state, "--checkpoint-interval", "1000s"]
            more += [] if not self.args.memory else ["--memory", self.args.memory]
            process = self.start(sql, *more)
            time.sleep(self.args.fill)
            subprocess.run([self.binary, "savepoint", state, "full"], check=True, stdout=subprocess.DEVNULL, timeout=1200)
            process.send_signal(signal.SIGKILL)
            process.wait()
            size = largest_state(state)
            for _ in range(self.args.runs):
                begun = time.monotonic()
                again = self.start(sql, *more, stdout=subprocess.PIPE)
                first = again.stdout.readline()
                took = time.monotonic() - begun
                peak = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{again.pid}/status").read_text())[1]) / 1024
                ticks = Path(f"/proc/{again.pid}/stat").read_text().rsplit(")", 1)[1].split()
                cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
                again.send_signal(signal.SIGKILL)
                again.wait()
                assert first, again.stderr.read()
                print(f"{name:9} {size / 1e6:8.0f} {took:21.2f} {cpu:6.1f} {peak:19.0f}", flush=True)


def manifests(state):
    files = sorted(state.glob("*/manifests/*.json"))
    return [json.loads(f.read_text()) for f in files]


def epochs(state):
    return max((m["epoch"] for m in manifests(state)), default=0)


def chains(manifest):
    for node in manifest["nodes"]:
        for table in node["tables"]:
            for chain in table["chains"]:
                yield (node["id"], table["name"], chain["task"]), chain["pieces"]


def written(state, keys):
    """Bytes and rows of all files of tables that were ever named, and how many rows had changed: of so many keys, all of them
    equally likely, n rows between two checkpoints change keys * (1 - (1 - 1 / keys) ^ n)."""
    files, changed, before = {}, 0.0, 0
    for manifest in manifests(state):
        for _, pieces in chains(manifest):
            files.update((p["path"], p) for p in pieces)
        read = sum(p.get("rows") or 0 for node in manifest["nodes"] for p in node["partitions"])
        # What has changed last is emitted at the end, and not saved any more.
        if not manifest["finished"]:
            changed += keys * (1 - (1 - 1 / keys) ** (read - before))
        before = read
    return sum(p["bytes"] for p in files.values()), sum(p["rows"] for p in files.values()), changed


def largest_state(state):
    """Bytes of the files that the newest manifest names."""
    all_ = manifests(state)
    return sum(p["bytes"] for _, pieces in chains(all_[-1]) for p in pieces) if all_ else 0


def folder_bytes(folders):
    total = 0
    for folder in folders:
        for file in folder.glob("run-*"):
            try:
                total += file.stat().st_size
            except OSError:
                pass
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("what", nargs="*", choices=["cost", "bytes", "memory", "recovery", []])
    parser.add_argument("--keys", type=int, default=2_000_000)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rate", type=int, default=200_000, help="of `cost`: rows a second")
    parser.add_argument("--seconds", type=int, default=30, help="of `cost`")
    parser.add_argument("--memory", default=None, help="such as 64MB")
    parser.add_argument("--interval", default="10s", help="of `memory`")
    parser.add_argument("--only", nargs="*", help="of `memory`: window, session, over")
    parser.add_argument("--fill", type=float, default=60, help="of `recovery`: seconds until it is saved and killed")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--dir", default=None, help="where files go: a local disk")
    args = parser.parse_args()
    bench = Bench(args)
    try:
        for what in args.what or ["cost", "bytes", "memory", "recovery"]:
            getattr(bench, what)()
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
