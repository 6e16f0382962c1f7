#!/usr/bin/env python3
"""Kills jobs between topics with SIGKILL at random moments, under load, and looks at what their topics hold.

    kafka.py MILLSTREAM --kafka LIB [--kills N] [--brokers N] [--seed S] [--seconds-max T]

On three brokers two jobs take turns: windows over a topic, and two joins of two topics, one of them into an upsert topic. A
job is started on other tasks and with other checkpoints each time, killed after a random while, and started again, while
events keep coming. Two kills of three wait until the run has written a checkpoint; the others come at any moment, also while
the job starts. Now and then a broker is killed, stopped or held up for a while, one at a time. Always true, while it runs: no
row is there twice, as Kafka's own client reads it with `read_committed`. In the end all are there: exactly those that were
counted by hand.

The last line is `N passed, N failed`.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kafka"))

from cluster import BROKERS, PATIENCE, Cluster, Failed
from jobs import Joins, Load, Run, Windows

PARALLELISM = [1, 2, 3, 7]
CHECKPOINTS = [("--checkpoint-interval", "100ms"), ("--checkpoint-interval", "1s"), ("--trigger", "100ms")]
# Events a second.
RATE = 500
# Kills of a job before its results are compared, at most, and then the next job begins.
KILLS_OF_A_JOB = 20
# Kills that wait for a checkpoint first.
SETTLED = 2 / 3
# Seconds from a start to its kill, at most; and from the first checkpoint of a run.
PATIENCE_MAX = 3
PATIENCE_BEHIND = 1
# Seconds that a broker is away, at most.
AWAY_MAX = 8


class Trouble:
    """One broker at a time, for a while."""

    def __init__(self, cluster, chance, thread):
        self.cluster, self.chance, self.thread, self.running, self.told = cluster, chance, thread, None, []

    def begin(self):
        broker = self.cluster.brokers[self.chance.choice(BROKERS)]
        how, away = self.chance.choice(["killed", "restarted", "held up"]), self.chance.uniform(0, AWAY_MAX)
        self.told.append(how)

        def run():
            if how == "held up":
                broker.pause()
                time.sleep(away)
                broker.go_on()
            else:
                broker.kill() if how == "killed" else broker.stop()
                time.sleep(away)
                broker.start()
                broker.await_start()
        self.running = self.thread.submit(run)

    def end(self):
        """All is well again."""
        if self.running is not None:
            self.running.result()
        self.cluster.await_whole()


def one_job(cluster, chance, make, folder, binary, kills, troubles, thread):
    """Kills a job so often; returns how many of the kills came behind a checkpoint of their run, and its rows."""
    job = make(cluster, f"{os.getpid()}-{folder.name}")
    run, load, trouble = Run(binary, job, folder), Load(cluster, job, RATE), Trouble(cluster, chance, thread)
    when = sorted(chance.sample(range(kills), min(kills, troubles)))
    settled = 0
    try:
        load.start()
        for kill in range(kills):
            if kill in when:
                # One more than the cluster can do without would be another test.
                trouble.end()
                trouble.begin()
            before = run.newest()
            run.start(tasks=chance.choice(PARALLELISM), checkpoints=chance.choice(CHECKPOINTS))
            waits = chance.random() < SETTLED
            patience = chance.uniform(0, PATIENCE_BEHIND if waits else PATIENCE_MAX)
            late = time.monotonic() + PATIENCE
            while waits and run.newest() < before + 2:
                run.check()
                if time.monotonic() > late:
                    raise Failed(f"kill {kill}: the run has written no checkpoint in {PATIENCE} s: {run.said()}")
                time.sleep(0.01)
            time.sleep(patience)
            run.kill()
            settled += waits
            for result in job.results:
                result.look()
        trouble.end()
        load.end()
        run.start()
        seconds = run.await_all(load.sent)
        rows = sum(result.rows.total() for result in job.results)
        what = f", brokers {', '.join(trouble.told)}" if trouble.told else ""
        print(f"  {job.name}: {kills} kills{what}; {load.sent} events, {rows} rows, each once, {seconds:.0f} s after the last", flush=True)
        return settled, rows
    finally:
        run.end()
        load.abandon()
        cluster.release()


def soak(binary, lib, kills_wanted, troubles, seed, seconds_max):
    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="millstream-soak-kafka-"))
    print(f"soak of Kafka: seed {seed}, {kills_wanted} kills, {troubles} troubles of brokers, in {folder}", flush=True)
    kills = settled = rows = jobs = done = 0
    try:
        # One thread for all: a broker ends with the thread that started it (see `with_this_program`).
        with ThreadPoolExecutor(max_workers=1) as thread, Cluster(folder / "cluster", lib) as cluster:
            begun = time.monotonic()
            while kills < kills_wanted and time.monotonic() - begun < seconds_max:
                of_it = min(kills_wanted - kills, max(1, min(KILLS_OF_A_JOB, kills_wanted // 2)))
                of_brokers = round(troubles * (kills + of_it) / kills_wanted) - done
                found = one_job(cluster, chance, [Windows, Joins][jobs % 2], folder / f"job{jobs}", binary, of_it, of_brokers, thread)
                settled, rows = settled + found[0], rows + found[1]
                kills, jobs, done = kills + of_it, jobs + 1, done + of_brokers
            seconds = time.monotonic() - begun
        print(f"soak of Kafka: {kills} kills in {jobs} jobs, {settled} of them behind a checkpoint of their run, {done} troubles of "
              f"brokers, {seconds:.0f} s: {rows} rows, every row once")
        if kills < min(kills_wanted, 10):
            raise Failed(f"only {kills} kills in {seconds:.0f} s prove nothing")
        subprocess.run(["rm", "-rf", folder], check=False)
        return jobs, 0
    except (Failed, subprocess.SubprocessError) as e:
        print(f"soak of Kafka FAILED: {e}\n  again: ./dev soak kafka --seed {seed} --kills {kills_wanted} --brokers {troubles}\n"
              f"  what is left: {folder}")
        return jobs, 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("--kafka", type=Path, required=True, help="the folder with Kafka's jars")
    parser.add_argument("--kills", type=int, default=16)
    parser.add_argument("--brokers", type=int, default=1, help="how often a broker is killed, stopped or held up meanwhile")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time")
    parser.add_argument("--seconds-max", type=float, default=90, help="no new job is begun after this")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(4), "little")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    passed, failed = soak(args.binary.resolve(), args.kafka.resolve(), args.kills, args.brokers, seed, args.seconds_max)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
