"""The jobs that tests of Kafka run on three brokers, the events they are given, and what has to come of them.

Everything is a function of an event's number: so what a job has to give is counted here, by a loop that knows nothing of it.
Events are out of order, by less than the tables' watermarks wait.
"""

import collections
import re
import signal
import subprocess
import threading
import time
from datetime import datetime, timedelta

from cluster import PATIENCE, Failed, wait_until, with_this_program

BASE = datetime(2024, 1, 1)
# Behind all others, in tenths of a second: it closes every window.
FAR = 8_000_000
# Events begin here, so that none is of the time before BASE.
FIRST = 1000


def at(tenths):
    return (BASE + timedelta(milliseconds=100 * tenths)).strftime("%Y-%m-%d %H:%M:%S.") + f"{tenths % 10}00"


FRACTION = re.compile(r"(:\d\d)\.(\d*?)0*(?=,|$)")


def plain(row):
    """Times in one way, however they are written: no more of a fraction of a second than there is."""
    return FRACTION.sub(lambda found: found[1] + ("." + found[2] if found[2] else ""), row.replace("T", " "))


class Windows:
    """Kafka to windows to Kafka: sums of ten seconds by name."""

    name = "windows"

    def __init__(self, cluster, mark, properties=""):
        self.partitions, self.fresh = 4, None
        self.events = cluster.topic(f"events-{mark}", self.partitions)
        self.sums = cluster.topic(f"sums-{mark}", 3)
        self.results = [Appended(cluster, self.sums, key=2)]
        common = f"'connector' = 'kafka', 'properties.bootstrap.servers' = '{cluster.address}'{properties}"
        self.sql = f"""
SET 'pipeline.name' = 'windows-{mark}';
CREATE TABLE events (ts TIMESTAMP(3), name STRING, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH (
  {common}, 'topic' = '{self.events}', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset',
  'scan.topic-partition-discovery.interval' = '500 ms');
CREATE TABLE sums (w TIMESTAMP(3), name STRING, total BIGINT, events BIGINT) WITH (
  {common}, 'topic' = '{self.sums}', 'format' = 'csv', 'key.format' = 'raw', 'key.fields' = 'name');
INSERT INTO sums SELECT window_start, name, SUM(n), COUNT(*)
FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, name;
"""

    def event(self, number):
        return FIRST + number - min(number, number * 7 % 40), number * 31 % 10, number * 17 % 23

    def records(self, number):
        tenths, name, n = self.event(number)
        # Partitions that have come since get everything until somebody says otherwise.
        partition = self.fresh[number % len(self.fresh)] if self.fresh else number % self.partitions
        yield self.events, partition, self.json(tenths, name, n)

    def last_records(self):
        for partition in range(self.partitions):
            yield self.events, partition, self.json(FAR, 0, 0)

    @staticmethod
    def json(tenths, name, n):
        return f'{{"ts":"{at(tenths)}","name":"name{name}","n":{n}}}'

    def wanted(self, events):
        sums = collections.defaultdict(lambda: [0, 0])
        for number in range(events):
            tenths, name, n = self.event(number)
            found = sums[tenths // 100, name]
            found[0] += n
            found[1] += 1
        return [collections.Counter(plain(f"{at(100 * w)},name{name},{total},{n}") for (w, name), (total, n) in sums.items())]


class Joins:
    """Kafka to joins to Kafka: orders with their payments near in time, each pair once; and by item what was paid of all
    orders, which changes with each, into an upsert topic."""

    name = "joins"

    def __init__(self, cluster, mark, properties=""):
        self.orders = cluster.topic(f"orders-{mark}", 3)
        self.payments = cluster.topic(f"payments-{mark}", 4)
        self.pairs = cluster.topic(f"pairs-{mark}", 3)
        self.paid = cluster.topic(f"paid-{mark}", 2)
        self.results = [Appended(cluster, self.pairs, key=5), Upserted(cluster, self.paid)]
        common = f"'properties.bootstrap.servers' = '{cluster.address}'{properties}"
        source = f"'connector' = 'kafka', {common}, 'format' = 'json', 'scan.startup.mode' = 'earliest-offset'"
        self.sql = f"""
SET 'pipeline.name' = 'joins-{mark}';
CREATE TABLE orders (id BIGINT, item STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH (
  {source}, 'topic' = '{self.orders}');
CREATE TABLE payments (id BIGINT, amount BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '15' SECOND) WITH (
  {source}, 'topic' = '{self.payments}');
CREATE TABLE pairs (id BIGINT, item STRING, amount BIGINT, ordered TIMESTAMP(3), paid TIMESTAMP(3)) WITH (
  'connector' = 'kafka', {common}, 'topic' = '{self.pairs}', 'format' = 'csv');
CREATE TABLE paid (item STRING, orders BIGINT, payments BIGINT, amount BIGINT, PRIMARY KEY (item) NOT ENFORCED) WITH (
  'connector' = 'upsert-kafka', {common}, 'topic' = '{self.paid}', 'key.format' = 'raw', 'value.format' = 'csv',
  'value.fields-include' = 'EXCEPT_KEY');
EXECUTE STATEMENT SET BEGIN
INSERT INTO pairs SELECT o.id, o.item, p.amount, o.ts, p.ts FROM orders o JOIN payments p
ON o.id = p.id AND p.ts BETWEEN o.ts - INTERVAL '2' SECOND AND o.ts + INTERVAL '4' SECOND;
INSERT INTO paid SELECT o.item, COUNT(DISTINCT o.id), COUNT(p.id), COALESCE(SUM(p.amount), 0)
FROM orders o LEFT JOIN payments p ON o.id = p.id GROUP BY o.item;
END;
"""

    def event(self, number):
        """An order and its payments: none, one or two."""
        ordered = FIRST + number - min(number, number * 7 % 40)
        payments = []
        if number % 3:
            payments.append((number * 17 % 23, ordered - 25 + number * 13 % 80))
        if number % 7 == 0:
            payments.append((number * 19 % 29 + 100, ordered - 25 + number * 11 % 80))
        return ordered, f"item{number * 31 % 10}", payments

    def records(self, number):
        ordered, item, payments = self.event(number)
        order = self.orders, number % 3, f'{{"id":{number},"item":"{item}","ts":"{at(ordered)}"}}'
        of_it = [(self.payments, number % 4, f'{{"id":{number},"amount":{amount},"ts":"{at(paid)}"}}') for amount, paid in payments]
        # Either may come first.
        yield from [order, *of_it] if number % 2 else [*of_it, order]

    def last_records(self):
        return []

    def wanted(self, events):
        pairs, paid = collections.Counter(), collections.defaultdict(lambda: [0, 0, 0])
        for number in range(events):
            ordered, item, payments = self.event(number)
            paid[item][0] += 1
            for amount, when in payments:
                paid[item][1] += 1
                paid[item][2] += amount
                if ordered - 20 <= when <= ordered + 40:
                    pairs[plain(f"{number},{item},{amount},{at(ordered)},{at(when)}")] += 1
        return [pairs, collections.Counter(f"{item}={','.join(map(str, found))}" for item, found in paid.items())]


class Appended:
    """What is committed in a topic of rows that are only added; no two are alike in their first `key` columns. `newest` is the
    row that comes last by its text, which begins with its time where it has one."""

    def __init__(self, cluster, topic, key):
        self.client, self.topic, self.key = cluster.client(), topic, key
        self.rows, self.keys, self.newest = collections.Counter(), set(), ""

    def look(self, command="read"):
        """How many rows have come since. One that has come before is a failure at once."""
        found = self.client.lines(command, self.topic)[0]
        for _, _, _, value in found:
            row = plain(value)
            key = tuple(row.split(",")[:self.key])
            if key in self.keys:
                raise Failed(f"{self.topic}: a row came twice: {row!r}")
            self.keys.add(key)
            self.newest = max(self.newest, row)
            self.rows[row] += 1
        return len(found)

    def look_again(self):
        self.rows, self.keys = collections.Counter(), set()
        self.look("again")


class Upserted:
    """The last record of each key that is committed, as `key=value`."""

    def __init__(self, cluster, topic):
        self.client, self.topic, self.last = cluster.client(), topic, {}

    @property
    def rows(self):
        return collections.Counter(f"{key}={value}" for key, value in self.last.items() if value != "\\N")

    def look(self, command="read"):
        found = self.client.lines(command, self.topic)[0]
        for _, _, key, value in found:
            self.last[key] = value
        return len(found)

    def look_again(self):
        self.last = {}
        self.look("again")


class Load:
    """Sends events of a job, so many a second, until it is told to stop."""

    def __init__(self, cluster, job, rate):
        self.client, self.job, self.rate = cluster.client(), job, rate
        self.sent, self.failed = 0, None
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.thread = None

    def send(self, number):
        for n in range(self.sent, self.sent + number):
            for topic, partition, value in self.job.records(n):
                self.client.send(topic, partition, "\\N", value)
        self.sent += number
        self.client.process.stdin.flush()

    def start(self):
        def run():
            try:
                begun, before = time.monotonic(), self.sent
                while self.goes_on.is_set():
                    due = int((time.monotonic() - begun) * self.rate) - (self.sent - before)
                    # After a pause of a broker no flood.
                    self.send(max(0, min(due, self.rate)))
                    time.sleep(0.05)
            except Exception as e:  # whoever stops it says it
                self.failed = e
        self.goes_on.set()
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def stop(self):
        """All of it has arrived."""
        if self.thread is not None:
            self.goes_on.clear()
            self.thread.join()
            self.thread = None
        if self.failed:
            raise self.failed
        self.client.flush()

    def abandon(self):
        """Whatever has arrived."""
        self.goes_on.clear()
        if self.thread is not None:
            # What it waits for, if brokers are away, ends with its client.
            self.client.end()
            self.thread.join()
            self.thread = None

    def end(self):
        """No event comes after these."""
        self.stop()
        for topic, partition, value in self.job.last_records():
            self.client.send(topic, partition, "\\N", value)
        self.client.flush()


class Run:
    """A job, and its process if one runs."""

    def __init__(self, binary, job, folder):
        self.binary, self.job = binary, job
        folder.mkdir(parents=True, exist_ok=True)
        self.script, self.state, self.stderr = folder / "job.sql", folder / "state", folder / "said"
        self.script.write_text(job.sql)
        self.process = None

    def start(self, *args, tasks=2, checkpoints=("--checkpoint-interval", "200ms")):
        command = [self.binary, "run", self.script, "--state", self.state, "-p", str(tasks), "--progress", "none", *checkpoints, *args]
        with open(self.stderr, "w") as stderr:
            self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=stderr, preexec_fn=with_this_program)

    def said(self):
        return self.stderr.read_text().strip()

    def check(self):
        if self.process.poll() is not None:
            raise Failed(f"the job ended by itself with {self.process.returncode}: {self.said()}")

    def signal(self, what):
        self.check()
        self.process.send_signal(what)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()

    def end(self):
        """Whatever has become of it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def newest(self):
        """The number of the newest manifest: a run begins with one of its own, and each checkpoint adds one."""
        return max((int(file.stem) for file in self.state.glob("*/manifests/*.json")), default=0)

    def await_results(self, what, sent, seconds=PATIENCE):
        """Seconds until a window can be seen that had not begun when so many events had been sent."""
        result, later = self.job.results[0], plain(at(FIRST + sent))

        def there():
            self.check()
            result.look()
            return result.newest > later
        try:
            return wait_until(f"results come {what}", there, seconds)
        except Failed as e:
            raise Failed(f"{e}; the job says: {self.said() or 'nothing'}; newest is {result.newest!r}, wanted is {later!r}") from e

    def await_all(self, events):
        """Waits until the results are those of so many events, exactly; then looks whether they stay so once the job has read
        all there is once more, and reads them with another client."""
        wanted = self.job.wanted(events)

        def same():
            self.check()
            for result in self.job.results:
                result.look()
            return all(result.rows == rows for result, rows in zip(self.job.results, wanted))
        try:
            seconds = wait_until("the results are complete", same, pause=0.2)
        except Failed as e:
            self.compare(wanted, f"{e}; the job says: {self.said()}")
            raise
        self.kill()
        self.start("--available-now", checkpoints=())
        if self.process.wait(timeout=PATIENCE) != 0:
            raise Failed(f"the last run ended with {self.process.returncode}: {self.said()}")
        for result in self.job.results:
            result.look_again()
        self.compare(wanted, "read once more at the end")
        return seconds

    def compare(self, wanted, why):
        for result, rows in zip(self.job.results, wanted):
            extra, missing = result.rows - rows, rows - result.rows
            if extra or missing:
                raise Failed(f"{why}: {result.topic} holds {result.rows.total()} rows of {rows.total()}, {extra.total()} of them "
                             f"wrong, such as {next(iter(extra), None)!r}, and {missing.total()} are missing, such as "
                             f"{next(iter(missing), None)!r}")


def errors_of(run):
    """The error with which a run ended, in one line."""
    return re.sub(r"\s+", " ", run.said())
