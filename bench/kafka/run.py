#!/usr/bin/env python3
"""Kafka to Kafka: the real binary beside Kafka Streams and Flink's SQL, on one broker, with the same events, in turns in one run.

    ./dev bench kafka [--events N] [--warmup N] [--rate N] [--seconds S] [--only filter,tumble,hop] [--without flink]
                      [--guarantee exactly-once,at-least-once] [--parallelism N] [--binary FILE] [--json FILE]

Three jobs: `filter` passes on half of the bids as they are, `tumble` counts bids of each auction in windows of 5 s, `hop` in windows
of 10 s every 2 s. Each runs exactly once and at least once, with a checkpoint (Kafka Streams: a commit) each second. What a run goes
through, in one process of the system that is measured:

    warm-up   --warmup bids lie in the topic when the process is started; until their results can be read ("start", with its CPU)
    backlog   --events bids lie behind them in a transaction that has been open, and is committed now: from that moment until the
              last result can be read ("events/s"), and what it cost (CPU, user and system, of that process alone)
    live      --rate bids a second for --seconds, and 5 s before that are not measured: from the append of a bid (CreateTime) to
              the moment when its result has been read by somebody who reads what is committed (p50, p99). The result of a window
              is measured from the append of the bid that closed it: the last of those by which each partition came past the end of
              the window and the 4 s that late bids are waited for
    check     all results are held against the events, by their meaning; where they differ there are no figures, and the bench fails

So neither the start of a JVM nor most of the work of its compilers is in the figures of the backlog and of the live part. The reader of
the results is a client of its own, in Java; it, the producer and the broker are no part of anybody's CPU, but they run on the same cores.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
JOBS = ["filter", "tumble", "hop"]
GUARANTEES = ["exactly-once", "at-least-once"]
SYSTEMS = ["millstream", "kafka-streams", "flink"]
PARTITIONS = 4
KEYS = 10_000
SETTLE_SECONDS = 5
# Of both peers' JVMs, which are left to their defaults otherwise.
HEAP = "-Xmx2g"
# Seconds for a process to end by itself before it is killed.
END_SECONDS_MAX = 15

HEAD = ["job", "guarantee", "system", "events/s", "CPU µs/event", "times", "live CPU µs/event", "p50 ms", "p99 ms", "peak MB",
        "start s", "start CPU s"]


def main():
    args = parser().parse_args()
    if not Path("/proc/self/stat").exists():
        raise SystemExit("error: CPU time is read from /proc, which this system does not have\n  help: run it on Linux")
    brokers = os.environ.get("MILLSTREAM_TEST_KAFKA")
    if not brokers:
        raise SystemExit("error: no broker\n  help: ./dev bench kafka starts one; or set MILLSTREAM_TEST_KAFKA=host:port")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="millstream-bench-kafka-", dir=args.dir) as folder:
        bench = Bench(args, brokers, Path(folder))
        try:
            lines, failed = bench.run()
        finally:
            bench.end()
    print("\n" + table(lines))
    if failed:
        raise SystemExit("error: no answer, or a wrong one, above: " + "; ".join(failed))


def parser():
    made = argparse.ArgumentParser(prog="./dev bench kafka", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--events", type=above_zero, default=2_000_000, help="bids of the backlog")
    made.add_argument("--warmup", type=above_zero, default=1_000_000, help="bids before them")
    made.add_argument("--rate", type=above_zero, default=20_000, help="bids a second in the live part, and in a second of event time")
    made.add_argument("--seconds", type=above_zero, default=30, help="how long the live part is measured")
    made.add_argument("--only", type=several(JOBS), default=JOBS, metavar="JOB,..", help=", ".join(JOBS))
    made.add_argument("--guarantee", type=several(GUARANTEES), default=GUARANTEES, metavar="G,..", help=", ".join(GUARANTEES))
    made.add_argument("--without", type=several(SYSTEMS), default=[], metavar="SYSTEM,..", help=", ".join(SYSTEMS))
    made.add_argument("--parallelism", type=above_zero, default=1, help="of each system; for Kafka Streams its threads")
    made.add_argument("--binary", type=Path, help="an optimised millstream that is there already; nothing is built then")
    made.add_argument("--json", type=Path, metavar="FILE", help="writes the figures to this file too")
    made.add_argument("--dir", type=Path, help="where state and checkpoints go; default: the system's for temporary files")
    made.add_argument("--built", type=Path, help=argparse.SUPPRESS)
    return made


def above_zero(text):
    number = int(text.replace("_", "").replace(",", ""))
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def several(known):
    def chosen(text):
        names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"there is no {name}; there are {', '.join(known)}")
        return names

    return chosen


class Bench:
    def __init__(self, args, brokers, folder):
        self.args, self.brokers, self.folder = args, brokers, folder
        self.running = []
        # Topics and groups of two benches on one broker are not the same.
        self.tag = f"{int(time.time()) % 1_000_000}"
        lib = f"{args.built}/kafka/lib/*"
        self.probe = subprocess.Popen(["java", "-Xmx1g", "-XX:+UseSerialGC", "-cp", f"{args.built}/peers/probe:{lib}", "Probe", brokers],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.running.append(self.probe)

    def ask(self, *words):
        self.probe.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.probe.stdin.flush()
        said = self.probe.stdout.readline()
        while said and not said.startswith("{"):
            # What the JVM or a library has to say, which is no answer.
            print(said, end="", file=sys.stderr, flush=True)
            said = self.probe.stdout.readline()
        if not said:
            raise SystemExit("error: the process that fills topics and reads results has ended")
        answer = json.loads(said)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def run(self):
        args = self.args
        for line in versions(args, self.ask("version")["version"]):
            print(line, flush=True)
        print(f"{args.events:,} bids behind {args.warmup:,} of warm-up, {PARTITIONS} partitions, {KEYS:,} keys; live {args.rate:,} bids/s "
              f"for {args.seconds} s; parallelism {args.parallelism}; a checkpoint each second; JVMs with {HEAP}")
        print(f"the comparison refuses {self.ask('prove')['refused']} kinds of wrong answers\n", flush=True)
        lines, failed = [], []
        for guarantee in args.guarantee:
            for job in args.only:
                for system in SYSTEMS:
                    if system in args.without:
                        continue
                    line = self.measure(job, guarantee, system)
                    if line is None:
                        # The others may still be worth their while; that the bench has failed is said at its end.
                        failed.append(f"{job}, {guarantee}, {system}")
                    else:
                        lines.append(line)
                        if args.json:
                            args.json.write_text(json.dumps(lines, indent=1) + "\n")
        return lines, failed

    def measure(self, job, guarantee, system):
        args = self.args
        name = f"{job}-{guarantee}-{system}-{self.tag}"
        load = os.getloadavg()[0]
        print(f"{time.strftime('%H:%M:%S')} {job}, {guarantee}, {system} (load {load:.1f})", flush=True)
        live = args.rate * (SETTLE_SECONDS + args.seconds)
        self.ask("open", job, f"{name}-in", f"{name}-out", PARTITIONS, args.warmup, args.events, live, args.rate, KEYS)
        place = self.folder / name
        place.mkdir()
        begun = time.monotonic()
        process = self.start(system, job, guarantee, name, place)
        try:
            warm = self.ask("warm", process.pid)
            start = time.monotonic() - begun
            # What is still compiled, collected and committed after a start is not part of what follows.
            time.sleep(2)
            backlog = self.ask("release", process.pid)
            steady = self.ask("live", process.pid, SETTLE_SECONDS)
            results = self.ask("check")["results"]
        except RuntimeError as e:
            said = (place / "said").read_text(errors="replace")[-4000:]
            print(f"error: {job}, {guarantee}, {system}: {e}\n{said}", file=sys.stderr, flush=True)
            return None
        finally:
            self.stop(process)
            # Where the bench is being ended the prober may have ended before; topics that stay do no harm.
            with contextlib.suppress(OSError, RuntimeError, SystemExit):
                self.ask("close")
            shutil.rmtree(place)
        line = {
            "job": job, "guarantee": guarantee, "system": system, "parallelism": args.parallelism, "load": round(load, 2),
            "events_per_s": args.events / backlog["wall_ms"] * 1e3,
            "cpu_us": backlog["cpu_ms"] / args.events * 1e3,
            "live_cpu_us": steady["cpu_ms"] / live * 1e3,
            "p50_ms": steady["p50"], "p99_ms": steady["p99"], "max_ms": steady["p100"], "measured": steady["measured"],
            "peak_mb": steady["peak_kb"] / 1024, "start_s": start, "start_cpu_s": warm["cpu_ms"] / 1e3, "results": results,
        }
        print(f"         {line['events_per_s']:,.0f} events/s, {line['cpu_us']:.2f} µs CPU/event; p50 {line['p50_ms']} p99 {line['p99_ms']} ms "
              f"({line['measured']:,} results); {results:,} results are right", flush=True)
        return line

    def start(self, system, job, guarantee, name, place):
        args, built, threads = self.args, self.args.built, str(self.args.parallelism)
        sql = place / "job.sql"
        text = (HERE / "jobs" / f"{job}.sql").read_text()
        sql.write_text(filled(text, input=f"{name}-in", output=f"{name}-out", brokers=self.brokers, name=name, guarantee=guarantee))
        if system == "millstream":
            command = [args.binary.resolve(), "run", sql, "--state", place / "state", "--checkpoint-interval", "1s", "-p", threads,
                       "--progress", "none", "--scratch", place]
        elif system == "flink":
            mode = guarantee.upper().replace("-", "_")
            opens = [f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in ("java.util", "java.lang", "java.net", "java.nio", "sun.nio.ch")]
            command = ["java", HEAP, *opens, "-cp", f"{HERE}/quiet:{built}/peers/flink-kafka/peer.jar:{built}/peers/flink-kafka/lib/*",
                       "RunSql", sql, threads, mode, place / "checkpoints"]
        else:
            mode = {"exactly-once": "exactly_once_v2", "at-least-once": "at_least_once"}[guarantee]
            command = ["java", HEAP, "-cp", f"{HERE}/quiet:{built}/peers/kafka-streams/peer.jar:{built}/peers/kafka-streams/lib/*",
                       "Jobs", self.brokers, job, mode, f"{name}-in", f"{name}-out", name, place / "state", threads]
        with open(place / "said", "wb") as said:
            process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        self.running.append(process)
        return process

    def stop(self, process):
        self.running.remove(process)
        if process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end(self):
        for process in list(self.running):
            self.stop(process)


def filled(text, **values):
    """The text with `{name}` replaced; whoever writes a name that is not there hears of it here, not from a broker."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    code = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    if "{" in code:
        raise ValueError(f"nothing is known for {code[code.index('{'):][:40]}")
    return text


def versions(args, client):
    def jar(folder, begins):
        return next((f.stem for f in sorted((args.built / folder).glob(f"{begins}*.jar"))), f"no {begins}")

    java = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.splitlines()
    ours = subprocess.run([args.binary, "--version"], capture_output=True, text=True).stdout.strip()
    yield f"{ours}; broker {jar('kafka/lib', 'kafka_')}; reader and producer kafka-clients {client}"
    yield f"{jar('peers/kafka-streams/lib', 'kafka-streams-')}; {jar('peers/flink-kafka/lib', 'flink-table-runtime-')}, " \
          f"{jar('peers/flink-kafka/lib', 'flink-sql-connector-kafka-')}"
    yield f"{java[1] if len(java) > 1 else 'java?'}; {cpu()}; load {' '.join(f'{l:.1f}' for l in os.getloadavg())}"


def cpu():
    named = [l.split(":", 1)[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines() if l.startswith("model name")]
    return f"{len(named)} × {named[0]}" if named else "an unknown CPU"


def table(lines):
    """Markdown; `times` is how many times as much CPU as Millstream takes for the same job."""
    rows = [HEAD, ["---"] * 3 + ["---:"] * (len(HEAD) - 3)]
    ours = {(l["job"], l["guarantee"]): l for l in lines if l["system"] == "millstream"}
    for l in lines:
        own = ours.get((l["job"], l["guarantee"]))
        times = "–" if own is None or own is l or not own["cpu_us"] else f"{l['cpu_us'] / own['cpu_us']:.1f}"
        rows.append([
            l["job"], l["guarantee"], l["system"], f"{l['events_per_s']:,.0f}", f"{l['cpu_us']:.2f}", times, f"{l['live_cpu_us']:.1f}",
            f"{l['p50_ms']:,}", f"{l['p99_ms']:,}", f"{l['peak_mb']:,.0f}", f"{l['start_s']:.1f}", f"{l['start_cpu_s']:.1f}",
        ])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
