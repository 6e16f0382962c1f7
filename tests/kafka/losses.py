#!/usr/bin/env python3
"""What may happen to a cluster of Kafka while a job runs on it, and whether each row still comes once.

    losses.py MILLSTREAM --kafka LIB [NAME..]

Three brokers hold every partition three times and take a record when two have it. Each test runs the real binary under load,
does something to brokers or to the job, and waits until results come again; in the end Kafka's own client reads the result
topic with `read_committed`, and it has to hold what was counted by hand: every row, and each once.

The last line is `N passed, N failed`.
"""

import argparse
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from cluster import BROKERS, PATIENCE, SESSION_SECONDS, Cluster, Failed, wait_until
from jobs import Load, Run, Windows, errors_of

# Events a second.
RATE = 1000
# The broker whose disk is small, and how large it is.
SMALL, SMALL_DISK = 3, "160m"
# How long a broker stands still: longer than its session, and than a request may take.
STALL_SECONDS = SESSION_SECONDS + 8
NOTES = "millstream-commits"


class World:
    """What a test is given."""

    def __init__(self, binary, cluster, folder, disk):
        self.binary, self.cluster, self.folder, self.disk = binary, cluster, folder, disk
        self.mark, self.opened = 0, []

    def job(self, properties="", rate=RATE):
        """A job that runs, under load, of which something can already be seen."""
        job = self.declared(properties)
        run, load = Run(self.binary, job, self.folder / job.mark), Load(self.cluster, job, rate)
        self.opened.append((run, load))
        load.start()
        run.start()
        run.await_results("at first", load.sent)
        return run, load

    def declared(self, properties=""):
        self.mark += 1
        mark = f"{os.getpid()}-{self.mark}"
        job = Windows(self.cluster, mark, properties)
        job.mark = mark
        return job

    def finish(self, run, load):
        """No more is done to anybody: in the end the results are complete."""
        load.end()
        self.cluster.await_whole()
        run.await_all(load.sent)
        print(f"  {load.sent} events, {run.job.results[0].rows.total()} rows, each once", flush=True)

    def close(self):
        for run, load in self.opened:
            run.end()
            if load is not None:
                load.abandon()
        self.opened = []
        self.cluster.release()
        for broker in self.cluster.brokers.values():
            if broker.up():
                broker.go_on()
        self.disk.free()
        for broker in self.cluster.brokers.values():
            if not broker.up():
                broker.start()
                broker.await_start()
        self.cluster.await_whole()


def tell(what, seconds):
    print(f"  {what}: results go on after {seconds:.1f} s", flush=True)


def broker_killed(world):
    """The leader of a partition is killed: of what is read, of what is written, of the notes of what is committed."""
    run, load = world.job()
    for what, topic in [("what is read", run.job.events), ("what is written", run.job.sums), ("the notes", NOTES)]:
        broker = world.cluster.leader(topic)
        broker.kill()
        # While it is away: the others have to do.
        tell(f"the leader of {what} is killed", run.await_results(f"without broker {broker.number}", load.sent))
        broker.start()
        broker.await_start()
        world.cluster.await_whole()
    world.finish(run, load)


def rolling_restart(world):
    """All brokers are restarted, one after the other, as for a new version."""
    run, load = world.job()
    for broker in world.cluster.brokers.values():
        broker.stop()
        broker.start()
        broker.await_start()
        world.cluster.await_whole()
        tell(f"broker {broker.number} restarted", run.await_results("after a restart", load.sent))
    world.finish(run, load)


def broker_stands_still(world):
    """A broker stops answering for longer than its session, with its connections open; then it goes on as if nothing were.
    The job leaves it after five seconds; after fifteen if it does not say so, which would only take longer."""
    run, load = world.job(", 'properties.request.timeout.ms' = '5000'")
    for what, topic in [("what is read", run.job.events), ("what is written", run.job.sums)]:
        broker = world.cluster.leader(topic)
        broker.pause()
        begun = time.monotonic()
        tell(f"the leader of {what} stands still", run.await_results(f"while broker {broker.number} stands still", load.sent))
        time.sleep(max(0, begun + STALL_SECONDS - time.monotonic()))
        broker.go_on()
        world.cluster.await_whole()
    run.await_results("after it", load.sent)
    world.finish(run, load)


def disk_full(world):
    """The disk of a broker is full: it ends itself. Later there is room again, and it is started."""
    if not world.disk.there:
        print("!! no disk can be mounted here, so none gets full: SKIPPED")
        return
    run, load = world.job()
    broker = world.cluster.brokers[SMALL]
    world.disk.fill()
    begun = time.monotonic()
    wait_until("the broker ends itself", lambda: not broker.up())
    print(f"  its disk is full: it ended itself after {time.monotonic() - begun:.1f} s", flush=True)
    tell("its disk is full", run.await_results("without it", load.sent))
    world.disk.free()
    broker.start()
    broker.await_start()
    world.cluster.await_whole()
    world.finish(run, load)


def all_brokers_killed(world):
    """One broker is left for a while, which is too few to take a record; then none, as when the power fails."""
    run, load = world.job()
    for away in [[1, 2], [3]]:
        for number in away:
            world.cluster.brokers[number].kill()
        time.sleep(8)
        run.check()
    world.cluster.start_all()
    tell("all brokers came back", run.await_results("after all came back", load.sent))
    world.finish(run, load)


def new_partitions(world):
    """Partitions are added while the job runs, and while a broker that does not hear of it stands still."""
    run, load = world.job()
    load.stop()
    job, before = run.job, run.job.partitions
    deaf = world.cluster.leader(job.events)
    deaf.pause()
    # Not before somebody else leads what it led.
    wait_until("another broker leads", lambda: world.cluster.leader(job.events) is not deaf)
    world.cluster.admin.ask("grow", job.events, before + 2)
    time.sleep(2)
    deaf.go_on()
    job.partitions, job.fresh = before + 2, [before, before + 1]
    # The old ones are silent: they hold the watermark until the new ones have been found, so that none of their rows is late.
    load.send(3000)
    load.client.flush()
    world.cluster.await_whole()
    time.sleep(2)
    run.check()
    job.fresh = None
    load.start()
    tell("two partitions more", run.await_results("with new partitions", load.sent))
    world.finish(run, load)


def brokers_away_at_the_start(world):
    """A job is started while one broker is away, and one while all are; they come later."""
    job = world.declared()
    run, load = Run(world.binary, job, world.folder / job.mark), Load(world.cluster, job, RATE)
    world.opened.append((run, load))
    load.start()
    # Its address is the first in 'properties.bootstrap.servers'.
    first = world.cluster.brokers[BROKERS[0]]
    first.kill()
    run.start()
    tell("one broker away at the start", run.await_results("without the first broker", load.sent))
    run.kill()
    for broker in list(world.cluster.brokers.values())[1:]:
        broker.kill()
    run.start()
    time.sleep(8)
    run.check()
    world.cluster.start_all()
    tell("all brokers away at the start", run.await_results("after all came", load.sent))
    world.finish(run, load)


def transaction_runs_out(world):
    """The job stands still while a transaction of its is open, until the brokers give it up."""
    run, load = world.job(", 'properties.transaction.timeout.ms' = '3000'", rate=4 * RATE)
    client, topic = world.cluster.admin, run.job.sums
    for _ in range(50):
        if client.ask("open", topic, 30) != "true":
            raise Failed("no transaction is seen")
        run.signal(signal.SIGSTOP)
        # What was on its way has arrived by then: if it is open still, nobody but the brokers can end it.
        time.sleep(0.5)
        if client.ask("closed", topic, 0) != "true":
            break
        run.signal(signal.SIGCONT)
        time.sleep(0.1)
    else:
        raise Failed("the job could not be stopped within a transaction")
    begun = time.monotonic()
    if client.ask("closed", topic, 60) != "true":
        raise Failed("the brokers do not give the transaction up")
    print(f"  the brokers gave the transaction up after {time.monotonic() - begun:.1f} s", flush=True)
    run.signal(signal.SIGCONT)
    tell("its transaction was given up", run.await_results("after its transaction was given up", load.sent))
    world.finish(run, load)


def second_job_refused(world):
    """Two jobs with one transactional id: the second is refused, and the first does not notice. And two of one name, with
    states of their own, are two jobs too."""
    run, load = world.job(", 'sink.transactional-id-prefix' = 'shared'")
    sql = run.job.sql
    for name, said in [("another", "belongs to the table `sums` of the job"), (None, "another job of this name")]:
        folder = world.folder / f"{run.job.mark}-{name}"
        job = type("Job", (), {"sql": sql.replace("SET 'pipeline.name' = 'windows", f"SET 'pipeline.name' = '{name}") if name else sql})
        second = Run(world.binary, job, folder)
        second.start()
        try:
            code = second.process.wait(timeout=PATIENCE)
        finally:
            second.end()
        text = errors_of(second)
        if code == 0 or said not in text or "sink.transactional-id-prefix" not in text:
            raise Failed(f"the second job ended with {code} and says: {text}")
        print(f"  refused: {text}", flush=True)
        run.await_results("after a second job was refused", load.sent)
    world.finish(run, load)


def wrong_input(world):
    """What is wrong with a topic or a record is said with its place and what to do; a record of ten megabytes passes where
    topic and table let it."""
    cluster, mark = world.cluster, f"{os.getpid()}-wrong"
    good, poisoned, narrow = (cluster.topic(f"{name}-{mark}", 1) for name in ["good", "poisoned", "narrow"])
    wide = cluster.topic(f"wide-{mark}", 1, ",max.message.bytes=20971520")
    large = cluster.topic(f"large-{mark}", 1, ",max.message.bytes=20971520")
    client = cluster.client()
    for topic, values in [(good, ["1"]), (poisoned, ["1", "x", "3"]), (large, ["1", "7" * (10 << 20), "3"])]:
        for value in values:
            client.send(topic, 0, "\\N", f'{{"v":"{value}"}}' if value != "x" else value)
    client.flush()

    def job(source, sink, more=""):
        table = f"'connector' = 'kafka', 'properties.bootstrap.servers' = '{cluster.address}', 'format' = 'json'{more}"
        sql = f"""
CREATE TABLE source (v STRING) WITH ({table}, 'topic' = '{source}', 'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset');
CREATE TABLE sink (v STRING) WITH ({table}, 'topic' = '{sink}');
INSERT INTO sink SELECT v FROM source;
"""
        world.mark += 1
        job = type("Job", (), {"sql": f"SET 'pipeline.name' = '{mark}-{world.mark}';{sql}"})
        run = Run(world.binary, job, world.folder / f"{mark}-{world.mark}")
        world.opened.append((run, None))
        run.start()
        return run.process.wait(timeout=PATIENCE), errors_of(run)

    wide_enough = ", 'properties.max.request.size' = '20971520'"
    for what, given, words in [
            ("a source's topic is missing", job("missing", good), ["job.sql:2:1", "has no topic 'missing'", "kafka-topics.sh"]),
            ("a sink's topic is missing", job(good, "missing"), ["job.sql:4:1", "has no topic 'missing'", "kafka-topics.sh"]),
            ("a poisoned record", job(poisoned, good), [f"{poisoned}[0]@1", "json.ignore-parse-errors"]),
            ("a record too large for the client", job(large, wide), [wide, "larger than Kafka takes", "max.request.size"]),
            ("a record too large for the topic", job(large, narrow, wide_enough), [narrow, "larger than Kafka takes", "max.message.bytes"])]:
        code, said = given
        missing = [word for word in words if word not in said]
        if code == 0 or missing:
            raise Failed(f"{what}: {missing} not said, exit {code}: {said[:1000]}")
        print(f"  {what}: {said[:300]}", flush=True)
    code, said = job(large, wide, wide_enough)
    lengths = sorted(len(value) for _, _, _, value in client.lines("again", wide)[0])
    if code != 0 or lengths != [len('{"v":"1"}')] * 2 + [len('{"v":""}') + (10 << 20)]:
        raise Failed(f"ten megabytes do not pass: exit {code}, records of {lengths} bytes: {said[:1000]}")


TESTS = [broker_killed, rolling_restart, broker_stands_still, disk_full, all_brokers_killed, new_partitions,
         brokers_away_at_the_start, transaction_runs_out, second_job_refused, wrong_input]

# In a third of the time. What the others do to a job these do too, or the connector's own tests.
SHORT = [broker_killed, broker_stands_still, disk_full, transaction_runs_out, second_job_refused]


class Disk:
    """A small disk of its own, which can be filled and freed. Without the right to mount: none."""

    def __init__(self, folder, size):
        self.folder, self.ballast = folder, folder / ".ballast"
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        self.there = mounted.returncode == 0
        self.filling = None

    def fill(self):
        """Fills it, and whatever gets free while it is to be full."""
        def keep_full():
            while self.filling is not None:
                try:
                    with open(self.ballast, "ab", buffering=0) as file:
                        while self.filling is not None:
                            file.write(bytes(1 << 16))
                except OSError as e:
                    if e.errno != errno.ENOSPC:
                        raise
                time.sleep(0.02)
        self.filling = threading.Thread(target=keep_full, daemon=True)
        self.filling.start()

    def free(self):
        if self.filling is not None:
            filling, self.filling = self.filling, None
            filling.join()
        self.ballast.unlink(missing_ok=True)

    def remove(self):
        if self.there:
            subprocess.run(["umount", "-l", self.folder], check=False)
            self.there = False


def run_all(binary, lib, names, keep):
    tests = [t for t in TESTS if not names or t.__name__ in names]
    unknown = set(names) - {t.__name__ for t in TESTS}
    if unknown:
        raise SystemExit(f"no such test: {', '.join(sorted(unknown))}; there are {', '.join(t.__name__ for t in TESTS)}")
    passed = failed = 0
    folder = Path(tempfile.mkdtemp(prefix="millstream-losses-"))
    disk = Disk(folder / "disk", SMALL_DISK)
    try:
        with Cluster(folder / "cluster", lib, {SMALL: disk.folder / "data"} if disk.there else {}) as cluster:
            world = World(binary, cluster, folder, disk)
            for test in tests:
                print(f"{test.__name__.replace('_', ' ')}", flush=True)
                begun = time.monotonic()
                try:
                    test(world)
                    passed += 1
                except (Failed, subprocess.SubprocessError) as e:
                    print(f"  FAILED: {e}", flush=True)
                    failed += 1
                finally:
                    took = time.monotonic() - begun
                    world.close()
                print(f"  {took:.0f} s, and {time.monotonic() - begun - took:.0f} s to make all whole", flush=True)
    except Failed as e:
        print(f"  FAILED: {e}", flush=True)
        failed += 1
    finally:
        disk.remove()
    if failed or keep:
        print(f"what is left: {folder}")
    else:
        subprocess.run(["rm", "-rf", folder], check=False)
    return passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("names", nargs="*", help="only these tests")
    parser.add_argument("--kafka", type=Path, required=True, help="the folder with Kafka's jars")
    parser.add_argument("--short", action="store_true", help="only these: " + ", ".join(t.__name__ for t in SHORT))
    parser.add_argument("--keep", action="store_true", help="leave logs and states behind")
    args = parser.parse_intermixed_args()
    if args.short:
        args.names += [t.__name__ for t in SHORT]
    # Whoever ends it wants brokers and mounts gone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    passed, failed = run_all(args.binary.resolve(), args.kafka.resolve(), args.names, args.keep)
    print(f"losses: {time.monotonic() - begun:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
