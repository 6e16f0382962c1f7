#!/usr/bin/env python3
"""Kills the real binary with SIGKILL at random moments, under load, and looks at what its tables hold.

    soak.py MILLSTREAM [--kills N] [--seed S] [--seconds-max T]

A job is started on other tasks each time (`--parallelism` 1, 2, 3, 7), killed after a random while, and started again,
until it has come to its end between two kills; then the next job begins. Two kills of three wait until the run has
written a checkpoint, so that jobs get on and kills hit them at all their ages; the others come at any moment, also while
the job starts. Always true, while it runs: a file that can be seen is
whole, and all visible rows are rows of the undisturbed run, none of them twice. In the end they are all of them. Now and
then the output folder's disk (a small tmpfs, where this user may mount one) is full for a while.

The last line is `N passed, N failed`.
"""

import argparse
import collections
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARALLELISM = [1, 2, 3, 7]
FOLDERS = ["tumble", "hop", "session", "over", "late"]
POSTGRES = os.environ.get("MILLSTREAM_TEST_POSTGRES")
# Seconds from a start to its kill, at most, where the undisturbed run takes no more than so many seconds; and from the first
# checkpoint of a run, since when there are two in that time.
PATIENCE_MAX = 0.7
PATIENCE_BEHIND = 0.25
UNDISTURBED = 4
# Kills that wait for a checkpoint first.
SETTLED = 2 / 3


class Failed(Exception):
    pass


def script(out, work):
    """The job's SQL, with the folder that it writes to. With a server it also writes into two tables there."""
    text = (HERE / "windows.sql").read_text()
    if POSTGRES:
        url = urllib.parse.urlsplit(POSTGRES)
        text = text.replace("${PG}", f"jdbc:postgresql://{url.hostname}:{url.port}{url.path}")
        text = text.replace("${PG_USER}", url.username or "").replace("${PG_PASSWORD}", url.password or "")
        text = re.sub(r"--PG (.*)", r"\1", text)
    path = work / "windows.sql"
    path.write_text(text.replace("${OUT}", str(out)))
    return path


def psql(query):
    done = subprocess.run(["psql", POSTGRES, "-qAt", "-v", "ON_ERROR_STOP=1", "-c", query], capture_output=True, timeout=60)
    if done.returncode != 0:
        raise Failed(f"psql: {done.stderr.decode().strip()}")
    return done.stdout.splitlines()


def fresh_tables():
    """The tables of the server, empty, and without memory of earlier commits."""
    if POSTGRES:
        psql("DROP TABLE IF EXISTS soak_append, soak_upsert, millstream_commits;"
             "CREATE TABLE soak_append (window_start timestamp, auction bigint, n bigint, total bigint);"
             "CREATE TABLE soak_upsert (auction bigint PRIMARY KEY, window_start timestamp, n bigint)")


class Visible:
    """The rows that can be seen in a table's folder. A file is read again only when it is another one than before."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}
        self.rows = collections.Counter()

    def look(self):
        """All rows with how often each is there, and those that are new."""
        there = {}
        for file in self.folder.glob("*"):
            if not file.name.startswith((".", "_")):
                stat = file.stat()
                there[file] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        fresh = []
        for file, (was, rows) in list(self.files.items()):
            if there.get(file) != was:
                self.rows.subtract(rows)
                del self.files[file]
        for file, what in there.items():
            if file in self.files:
                continue
            data = file.read_bytes()
            if data and not data.endswith(b"\n"):
                raise Failed(f"{file} can be seen and is not whole: it ends with {data[-40:]!r}")
            rows = data.splitlines()
            self.files[file] = (what, rows)
            self.rows.update(rows)
            fresh += rows
        return self.rows, fresh


class Everything:
    """All tables of one job."""

    def __init__(self, out):
        self.folders = {table: Visible(out / table) for table in FOLDERS}

    def look(self):
        seen = {table: folder.look() for table, folder in self.folders.items()}
        if POSTGRES:
            for table in ["soak_append", "soak_upsert"]:
                rows = psql(f"SELECT * FROM {table}")
                seen[table] = (collections.Counter(rows), rows)
        return seen


def has_checkpoint(state):
    """Whether a run left more than the mark that it had begun."""
    return any(re.search(r'"epoch":\s*[1-9]', file.read_text()) for file in state.glob("*/manifests/*.json"))


def newest(state):
    """The number of the newest manifest: a run begins with one of its own, and each checkpoint adds one."""
    return max((int(file.stem) for file in state.glob("*/manifests/*.json")), default=0)


def compare(seen, wanted, whole):
    for table, (got, fresh) in seen.look().items():
        # A row that is replaced later is right in its time, and only the last one is known of the undisturbed run.
        if table == "soak_upsert" and not whole:
            continue
        # Only rows that have come can be too many.
        extra = {row: got[row] - wanted[table][row] for row in fresh if got[row] > wanted[table][row]}
        if extra:
            raise Failed(f"{table}: {sum(extra.values())} rows too many, such as {next(iter(extra))!r}")
        missing = wanted[table] - got if whole else None
        if missing:
            raise Failed(f"{table}: {sum(missing.values())} rows are missing, such as {next(iter(missing))!r}")


class Disk:
    """A small disk of its own for the output, which can be filled and freed. Without the right to mount: none."""

    def __init__(self, folder, size):
        self.folder = folder
        folder.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
        self.there = mounted.returncode == 0
        self.ballast = folder / ".ballast"

    def fill(self):
        # Where the job is faster than we are, there is no room left even for the file itself.
        try:
            with open(self.ballast, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 16))
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise

    def free(self):
        self.ballast.unlink(missing_ok=True)

    def remove(self):
        if self.there:
            subprocess.run(["umount", "-l", self.folder], check=False)


def soak(binary, kills_wanted, seed, seconds_max):
    chance = random.Random(seed)
    passed = 0
    work = Path(tempfile.mkdtemp(prefix="millstream-soak-"))
    disk = Disk(work / "disk", "512m")
    print(f"soak: seed {seed}, {kills_wanted} kills, in {work}")
    if not disk.there:
        print("!! no disk can be mounted here, so none gets full: SKIPPED")
    if not POSTGRES:
        if os.environ.get("CI"):
            raise SystemExit("MILLSTREAM_TEST_POSTGRES is not set: run ./dev test")
        print("!! without a PostgreSQL server (./dev servers) the tables there are SKIPPED")
    try:
        oracle = work / "oracle"
        fresh_tables()
        start = time.monotonic()
        subprocess.run([binary, "run", script(oracle, work), "-p", "1", "--progress", "none"], check=True, timeout=300)
        # On a busy machine a run needs longer to come as far, and kills that hit nothing but starts prove nothing.
        slow = max(1, (time.monotonic() - start) / UNDISTURBED)
        wanted = {table: rows for table, (rows, _) in Everything(oracle).look().items()}
        empty = [table for table in wanted if not wanted[table]]
        if empty:
            raise Failed(f"the undisturbed run leaves {empty} empty, so nothing would be proven of them")
        shutil.rmtree(oracle)
        start, kills, settled, rounds, full = time.monotonic(), 0, 0, 0, 0
        while kills < kills_wanted and time.monotonic() - start < seconds_max:
            rounds += 1
            out, state = (disk.folder if disk.there else work) / f"out{rounds}", work / f"state{rounds}"
            sql = script(out, work)
            fresh_tables()
            seen, run = Everything(out), 0
            while True:
                # Sources are divided at the first start, and a run that was killed before its first checkpoint leaves
                # that to the next one. One share: which rows are late then depends on the rows alone.
                tasks = chance.choice(PARALLELISM) if has_checkpoint(state) else 1
                before = newest(state)
                command = [binary, "run", sql, "--state", state, "--checkpoint-interval", "100ms", "--progress", "none",
                           "-p", str(tasks)]
                with open(work / "stderr", "w") as stderr:
                    process = subprocess.Popen(command, stderr=stderr)
                run += 1
                fills = disk.there and chance.random() < 0.1
                if fills:
                    disk.fill()
                    full += 1
                if kills < kills_wanted:
                    waits = chance.random() < SETTLED
                    patience = slow * (chance.uniform(0, PATIENCE_BEHIND) if waits else chance.uniform(0.02, PATIENCE_MAX))
                    # With a full disk there may be no checkpoint, and the run ends by itself.
                    late = time.monotonic() + 600
                    while waits and process.poll() is None and newest(state) < before + 2:
                        if time.monotonic() > late:
                            raise Failed(f"run {run} has written no checkpoint in ten minutes")
                        time.sleep(0.01)
                    until = time.monotonic() + patience
                    while process.poll() is None and time.monotonic() < until:
                        time.sleep(0.005)
                    if process.poll() is None:
                        process.send_signal(signal.SIGKILL)
                        kills += 1
                        settled += waits
                code = process.wait(timeout=600)
                if fills:
                    disk.free()
                compare(seen, wanted, whole=False)
                if code == 0:
                    break
                said = (work / "stderr").read_text()
                # A full disk is no success, and says so.
                if code != -signal.SIGKILL and not (fills and code == 4 and re.search("[Nn]o space left|full", said)):
                    raise Failed(f"run {run} ended with {code}: {said.strip()}")
            compare(seen, wanted, whole=True)
            hidden = [f for f in out.rglob(".*") if f.name != ".ballast"]
            if hidden:
                raise Failed(f"the finished job leaves {hidden[:3]} behind")
            passed += 1
            shutil.rmtree(out)
            shutil.rmtree(state)
        seconds = time.monotonic() - start
        behind = f"{settled} of them behind a checkpoint of their run"
        print(f"soak: {kills} kills in {rounds} jobs, {behind}, the disk full {full} times, {seconds:.0f} s: every row once")
        if kills < min(kills_wanted, 20):
            raise Failed(f"only {kills} kills in {seconds:.0f} s prove nothing")
        return passed, 0
    except (Failed, subprocess.SubprocessError) as e:
        print(f"soak FAILED: {e}\n  again: ./dev soak --seed {seed} --kills {kills_wanted}\n  what is left: {work}")
        return passed, 1
    finally:
        disk.remove()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time")
    parser.add_argument("--seconds-max", type=float, default=150, help="no new job is begun after this")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(4), "little")
    passed, failed = soak(args.binary.resolve(), args.kills, seed, args.seconds_max)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
