#!/usr/bin/env python3
"""Runs the Nexmark queries with the real binary and says what an event costs.

    run.py MILLSTREAM [QUERY ...] [--events N] [--parallelism 1,2] [--runs N] [--memory SIZE] [--checkpoints TIME] [--skew] [--markdown]
    run.py MILLSTREAM [QUERY ...] --ways     the same queries in all of these ways beside each other
    run.py MILLSTREAM [QUERY ...] --state    what they remember, and how many bytes that is for each row
    run.py MILLSTREAM [QUERY ...] --flink DIR  beside Flink in the same run, over the same events (`./dev bench nexmark --flink`)

Each run is a process of its own over the whole stream (46 bids, 3 auctions and 1 person in 50 events, 100,000 events for each
second of event time), into a blackhole. CPU is user and system time of the process, the making of the events included; the
generator alone is measured beside it (`generator`), as a query that reads every column and keeps nothing. What an event costs
is that of the last 80 %: of a run over all events less one over the first fifth of them, so that the start of the process and
the planning, some tenths of a second, do not count for a job that runs for months. Of several --runs the median counts.

Without --flink, beside them stands what Apache Flink 2.3.0 took on a machine of 2 cores (heap state, no checkpoints, parallelism 1, the steady
last 80 % of the events; docs/performance.md says how it was measured): figures of another run, good for factors and not for per cents.

--memory gives the job so much, so that state goes to files. --checkpoints keeps its state in a folder with a checkpoint so often,
and one at the end, which saves all that has changed since the one before; the folder is removed afterwards. --skew has half of all
bids on one auction, three in four of them by one bidder, for good.

--flink runs each query with Flink 2.2.1, too: the same SQL, the events of the same generator (bench/peers/flink-nexmark makes them in
Java, value for value, which is looked at first), one thread, a blackhole. Its CPU is that of its process from the moment on when a
fifth of the events have been made, so that the start of the JVM and the first compilations do not count. Twice: with its state on
the heap and no checkpoints, and in RocksDB with a checkpoint each 10 s (incremental), beside ours in memory, and with a folder
of state and a checkpoint each 10 s.
"""

import argparse
import dataclasses
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
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
# Flink runs all but q6 (its OVER takes no updates) and those that read or write files.
NOT_FLINK = {"q6", "q10", "q13"}
FLINK_HEAP = "-Xmx4g"
# Every field of every kind of event, summed up or by its least and greatest.
SAME_EVENTS = """
SELECT event_type, COUNT(*), SUM(bid.price), SUM(bid.auction), SUM(bid.bidder), SUM(CHAR_LENGTH(bid.url)), MAX(bid.url),
  SUM(CHAR_LENGTH(bid.channel)), MAX(bid.channel), MAX(bid.extra), MIN(bid.extra), SUM(CHAR_LENGTH(bid.extra)),
  SUM(auction.id), MAX(auction.itemName), MAX(auction.description), SUM(CHAR_LENGTH(auction.description)), SUM(auction.initialBid),
  SUM(auction.reserve), CAST(MAX(auction.expires) AS STRING), SUM(auction.seller), SUM(auction.category), MIN(auction.extra),
  SUM(CHAR_LENGTH(auction.extra)), SUM(person.id), MAX(person.name), SUM(CHAR_LENGTH(person.name)), MAX(person.emailAddress),
  MAX(person.creditCard), MIN(person.creditCard), MAX(person.city), SUM(CHAR_LENGTH(person.city)), SUM(CHAR_LENGTH(person.state)),
  MAX(person.extra), SUM(CHAR_LENGTH(person.extra)), CAST(MAX(dateTime) AS STRING)
FROM datagen GROUP BY event_type;
"""
# Seconds that a job whose input has an end may take to read it, before --state gives up.
STATE_SECONDS_MAX = 600


@dataclasses.dataclass(frozen=True)
class Way:
    """How a query is run."""

    threads: int = 1
    memory: str | None = None
    checkpoints: str | None = None
    skew: bool = False

    def name(self):
        parts = [f"{self.threads} thread{'s' if self.threads > 1 else ''}"]
        parts += [self.memory] if self.memory else []
        parts += [f"checkpoints {self.checkpoints}"] if self.checkpoints else []
        parts += ["skew"] if self.skew else []
        return ", ".join(parts)


@dataclasses.dataclass
class Run:
    cpu: float
    wall: float
    peak_mb: float
    checkpoints: int
    """Bytes in the folder of the job's state when it has ended."""
    saved: int


def tables(events, skew=False, **more):
    """The tables, with so many events in them."""
    options = {"connector": "nexmark", "events.num": events, "first-event.rate": 100_000, **more}
    if skew:
        options["skewed"] = "true"
    text = ", ".join(f"'{k}' = '{v}'" for k, v in options.items())
    declared = "'connector' = 'nexmark', 'events.num' = '100000'"
    ddl = (HERE / "ddl.sql").read_text()
    assert declared in ddl, f"ddl.sql declares its source as {declared}"
    return ddl.replace(declared, text)


class Bench:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary.resolve(), Path(folder)

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def command(self, ddl, query, way, *more):
        command = [self.binary, "run", "--init", ddl, query, "-p", way.threads, "--progress", "plain", "--scratch", self.folder]
        if way.memory:
            command += ["--memory", way.memory]
        if way.checkpoints:
            command += ["--state", self.folder / "state", "--checkpoint-interval", way.checkpoints]
        return [str(c) for c in [*command, *more]]

    def measure(self, events, query, way):
        state = self.folder / "state"
        shutil.rmtree(state, ignore_errors=True)
        ddl = self.file("ddl.sql", tables(events, way.skew))
        start = time.monotonic()
        command = self.command(ddl, query, way)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=self.folder)
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        wall = time.monotonic() - start
        if status != 0:
            raise SystemExit(f"{query.name} ({way.name()}) failed:\n{said}")
        taken = re.findall(r"([\d,]+) checkpoints?, peak", said)
        saved = sum(f.stat().st_size for f in state.rglob("*") if f.is_file())
        shutil.rmtree(state, ignore_errors=True)
        count = int(taken[-1].replace(",", "")) if taken else 0
        return Run(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024, count, saved)

    def cost(self, query, ways, events, runs):
        """For each way: CPU microseconds for an event of the last 80 %, events/s, and the median run over all events."""
        first = events // 5
        seen = {way: [] for way in ways}
        # In turns, so that what disturbs the machine disturbs all of them.
        for _ in range(runs):
            for way in ways:
                seen[way].append((self.measure(first, query, way), self.measure(events, query, way)))
        result = {}
        for way, pairs in seen.items():
            each = statistics.median((all.cpu - start.cpu) / (events - first) * 1e6 for start, all in pairs)
            rate = statistics.median((events - first) / max(all.wall - start.wall, 1e-9) for start, all in pairs)
            result[way] = each, rate, sorted((all for _, all in pairs), key=lambda r: r.peak_mb)[len(pairs) // 2]
        return result

    def result_rows(self, events, query):
        """How many rows the query leaves in the end."""
        text = re.sub(r"(?m)^\s*--.*$", "", query.read_text())
        select = text[text.rindex("INSERT INTO"):].split(None, 3)[3].strip().rstrip(";")
        # A script may declare views of its own in front of its query.
        views = "\n".join(re.findall(r"(?s)CREATE VIEW .*?;", text))
        counted = self.file("count.sql", f"{views}\nSELECT COUNT(*) AS n FROM ({select});")
        command = [self.binary, "run", "--mode", "batch", "--init", self.file("ddl.sql", tables(events)), counted, "--format", "json"]
        done = subprocess.run([str(c) for c in [*command, "--progress", "none"]], capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            return None
        return json.loads(done.stdout.strip().splitlines()[-1])["n"]

    def state(self, query, events, way):
        """Of each operator that remembers something: its name, bytes, and the rows it has taken in."""
        ddl = self.file("ddl.sql", tables(events, way.skew, **{"keep-alive": "true"}))
        command = self.command(ddl, query, way, "--metrics", "127.0.0.1:0")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.folder)
        try:
            where = None
            for line in process.stderr:
                if found := re.search(r"http://[\d.]+:\d+", line):
                    where = found[0]
                    break
            if not where:
                raise SystemExit(f"{query.name}: the job says of no address where its metrics are")
            before, until = None, time.monotonic() + STATE_SECONDS_MAX
            while time.monotonic() < until:
                time.sleep(0.3)
                now = metrics(where)
                # All has been read, and nothing moves any more.
                if now == before and sum(now["millstream_source_rows_total"].values()) >= events:
                    break
                before = now
            else:
                raise SystemExit(f"{query.name} has not read its {events:,} events within {STATE_SECONDS_MAX} s")
        finally:
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            process.wait()
        memory, disk = now["millstream_state_memory_bytes"], now["millstream_state_disk_bytes"]
        rows_in = now["millstream_operator_rows_in_total"]
        return [(name, memory[name] + disk.get(name, 0), rows_in.get(name, 0)) for name in memory if memory[name] + disk.get(name, 0)]


class Flink:
    """Flink, with our generator as a connector of its own, in a process for each run."""

    def __init__(self, bench, built):
        self.bench, self.built = bench, built.resolve()

    def run(self, events, kind, interval, scripts):
        """What the process printed, and its peak in MB. `kind` is `heap`, `rocksdb` or `check`."""
        checkpoints = self.bench.folder / "checkpoints"
        opens = [f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in ("java.util", "java.lang", "java.net", "java.nio", "sun.nio.ch")]
        classes = f"{HERE.parent}/kafka/quiet:{self.built}/peer.jar:{self.built}/lib/*"
        files = []
        for at, script in enumerate(scripts):
            # A word of Flink's own.
            files.append(self.bench.file(f"flink{at}.sql", re.sub(r"(?<![`\w])dateTime\b", "`dateTime`", script)))
        command = ["java", FLINK_HEAP, *opens, "-cp", classes, "RunNexmark", 1, events, kind, interval or "-", checkpoints, *files]
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        shutil.rmtree(checkpoints, ignore_errors=True)
        if status != 0:
            raise SystemExit(f"Flink failed:\n{said[:4000]}")
        return said, usage.ru_maxrss / 1024

    def cost(self, events, query, kind, interval):
        """CPU microseconds for an event, peak MB."""
        said, peak = self.run(events, kind, interval, [tables(events), query.read_text()])
        return json.loads(said.strip().splitlines()[-1])["cpu_us"], peak

    def makes_the_same_events(self):
        events = 100_000
        ddl, query = self.bench.file("ddl.sql", tables(events)), self.bench.file("same.sql", SAME_EVENTS)
        command = [self.bench.binary, "run", "--mode", "batch", "--init", ddl, query, "--format", "csv", "--progress", "none"]
        ours = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout.splitlines()[1:]
        theirs = re.findall(r"(?m)^\+I\[(.*)\]$", self.run(events, "check", None, [tables(events), SAME_EVENTS])[0])
        theirs = ["," .join("" if v == "null" else v for v in row.split(", ")) for row in theirs]
        if sorted(ours) != sorted(theirs) or len(ours) != 3:
            raise SystemExit("Flink's generator makes other events:\n" + "\n".join(["ours", *sorted(ours), "Flink's", *sorted(theirs)]))


def beside_flink(bench, queries, args):
    flink = Flink(bench, args.flink)
    flink.makes_the_same_events()
    interval = args.checkpoints or "10s"
    ways = [Way(), Way(checkpoints=interval)]
    print(f"CPU µs for an event (peak MB), {args.events:,} events, 1 thread, medians of {args.runs}; load {os.getloadavg()[0]:.0f}\n")
    head = ["query", "ours", "Flink, heap", "times", f"ours, {interval}", f"Flink, RocksDB, {interval}", "times"]
    table = Table(head, args.markdown)
    for query in (q for q in queries if q.stem not in NOT_FLINK):
        theirs = {kind: [] for kind in ("heap", "rocksdb")}
        ours = {way: [] for way in ways}
        for _ in range(args.runs):
            for way, kind, every in zip(ways, theirs, (None, interval)):
                each, _, run = bench.cost(query, [way], args.events, 1)[way]
                ours[way].append((each, run.peak_mb))
                theirs[kind].append(flink.cost(args.events, query, kind, every))
        cells = [f"{query.stem:9}"]
        for mine, its in zip(ours.values(), theirs.values()):
            (a, a_mb), (b, b_mb) = (tuple(map(statistics.median, zip(*runs))) for runs in (mine, its))
            cells += [f"{a:.3f} ({a_mb:.0f})", f"{b:.2f} ({b_mb:.0f})", f"{b / a:.0f}"]
        table.line(cells)


def metrics(where):
    """Those that --state looks at, by operator."""
    found = {f"millstream_{n}": {} for n in ["source_rows_total", "state_memory_bytes", "state_disk_bytes", "operator_rows_in_total"]}
    text = urllib.request.urlopen(where + "/metrics", timeout=10).read().decode()
    for name, labels, value in re.findall(r"(?m)^(\w+)\{(.*)\} (\S+)$", text):
        if name in found:
            operator = re.search(r'operator="([^"]*)"', labels)[1]
            found[name][operator] = found[name].get(operator, 0) + int(float(value))
    return found


class Table:
    """Columns for people, or Markdown."""

    def __init__(self, columns, markdown):
        self.bar = "|" if markdown else " "
        self.line(columns)
        if markdown:
            print("|---|" + "---:|" * (len(columns) - 1))

    def line(self, cells):
        print(f"{self.bar} {f' {self.bar} '.join(str(c) for c in cells)} {self.bar}", flush=True)


def told_of(run):
    """What else is to be said of a run with checkpoints."""
    return f"{run.checkpoints} {run.saved / 1e6:,.0f} MB" if run.checkpoints else "–"


def costs(bench, queries, args):
    levels = [int(p) for p in args.parallelism.split(",")]
    ways = [Way(p, args.memory, args.checkpoints, args.skew) for p in levels]
    plain = not (args.memory or args.checkpoints or args.skew)
    head = ["query", "threads", "CPU µs/event", "events/s", "peak MB"]
    head += ["checkpoints, saved"] if args.checkpoints else []
    table = Table(head + (["Flink CPU µs/event", "ratio"] if plain else []), args.markdown)
    for query in queries:
        for way, (each, rate, run) in bench.cost(query, ways, args.events, args.runs).items():
            cells = [f"{query.stem:9}", way.threads, f"{each:.3f}", f"{rate:,.0f}", f"{run.peak_mb:.0f}"]
            cells += [told_of(run)] if args.checkpoints else []
            if plain:
                flink = FLINK.get(query.stem) if way.threads == 1 else None
                cells += [f"{flink:.2f}", f"{flink / each:.0f}"] if flink else ["–", "–"]
            table.line(cells)


def all_ways(bench, queries, args):
    memory, interval = args.memory or "128MB", args.checkpoints or "10s"
    ways = [Way(), Way(2), Way(memory=memory), Way(checkpoints=interval), Way(memory=memory, checkpoints=interval), Way(skew=True)]
    print(f"CPU µs for an event (peak MB; checkpoints taken, MB saved), {args.events:,} events, medians of {args.runs}\n")
    table = Table(["query"] + [w.name() for w in ways], args.markdown)
    for query in queries:
        cells = [f"{query.stem:9}"]
        for each, _, run in bench.cost(query, ways, args.events, args.runs).values():
            cells.append(f"{each:.3f} ({run.peak_mb:.0f}{'; ' + told_of(run) if run.checkpoints else ''})")
        table.line(cells)


def states(bench, queries, args):
    way = Way(memory=args.memory, skew=args.skew)
    print(f"{args.events:,} events, {way.name()}; rows in are all kept by a join, and by nothing else\n")
    table = Table(["query", "operator", "state MB", "rows in", "bytes for each", "rows of the result", "bytes for each"], args.markdown)
    for query in queries:
        found = bench.state(query, args.events, way)
        rows = bench.result_rows(args.events, query) if found and not args.skew else None
        for at, (name, size, rows_in) in enumerate(found):
            cells = [f"{query.stem:9}", name.rsplit("-", 1)[0], f"{size / 1e6:,.1f}", f"{rows_in:,}", f"{size / max(rows_in, 1):,.0f}"]
            # What the last of them remembers is the result, where it is a result that is kept.
            last = at + 1 == len(found) and rows
            table.line(cells + ([f"{rows:,}", f"{size / rows:,.0f}"] if last else ["–", "–"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("queries", nargs="*", help="such as q3; default: all")
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--parallelism", default="1,2")
    parser.add_argument("--runs", type=int, default=1, help="of each, in turns; the median counts")
    parser.add_argument("--memory", metavar="SIZE", help="for the job, such as 128MB: state that does not fit goes to files")
    parser.add_argument("--checkpoints", metavar="TIME", help="keep the state in a folder, with a checkpoint so often, such as 10s")
    parser.add_argument("--skew", action="store_true", help="half of all bids on one auction, three in four by one bidder")
    parser.add_argument("--ways", action="store_true", help="each query in all ways: 1 and 2 threads, --memory (128MB), --checkpoints (10s), both, --skew")
    parser.add_argument("--state", action="store_true", help="bytes that each operator remembers when all events are read")
    parser.add_argument("--flink", type=Path, metavar="DIR", help="where bench/peers/flink-nexmark was built: run it beside ours")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    if args.events < 5 or args.runs < 1:
        parser.error("--events counts from 5 and --runs from 1")
    files = sorted(HERE.glob("q*.sql"), key=lambda f: int(re.sub(r"\D", "", f.stem)))
    known = [f.stem for f in files]
    for q in args.queries:
        if q not in known:
            raise SystemExit(f"there is no query {q}; there are {', '.join(known)}")
    files = [f for f in files if not args.queries or f.stem in args.queries]
    with tempfile.TemporaryDirectory(prefix="millstream-nexmark-") as folder:
        bench = Bench(args.binary, folder)
        if args.flink:
            beside_flink(bench, files, args)
        elif args.state:
            states(bench, files, args)
        elif args.ways:
            all_ways(bench, files, args)
        else:
            costs(bench, [bench.file("generator.sql", GENERATOR)] + files, args)


if __name__ == "__main__":
    sys.exit(main())
