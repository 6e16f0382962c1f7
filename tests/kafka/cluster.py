"""Three brokers of Kafka on loopback, and a client of theirs that knows nothing of ours.

    with Cluster(folder, lib) as cluster: ...

Each broker is a process that is broker and controller, with its files in a folder of its own; so the cluster can lose any
one of them and go on. They are started, stopped in any way, and known by process id; none outlives this program, also not
when it is killed. The client is Kafka's own, in Java (`client/Client.java`).
"""

import ctypes
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BROKERS = [1, 2, 3]
# Most of its code runs a few times only: the quick compiler is the right one.
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
# How long anything may take on a busy machine.
PATIENCE = 180
# A broker of which nothing is heard for so long is left out by the others.
SESSION_SECONDS = 6

PROPERTIES = """\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=3
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms={session}
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=4
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=4194304
"""


class Failed(Exception):
    pass


def with_this_program():
    """The process that is begun ends with this one, however this one ends (where the system can do that); to be exact, with the
    thread that begins it."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def free_ports(number):
    """Ports that nobody listens on, below those that the system gives to connections."""
    found = []
    while len(found) < number:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as s:
            if port not in found and s.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
    return found


def wait_until(what, is_so, seconds=PATIENCE, pause=0.05):
    """Seconds that it took. `is_so` may raise `Failed` to end it at once."""
    begun = time.monotonic()
    while not is_so():
        if time.monotonic() - begun > seconds:
            raise Failed(f"after {seconds} s it is not so that {what}")
        time.sleep(pause)
    return time.monotonic() - begun


class Broker:
    def __init__(self, number, folder, lib, properties, port):
        self.number, self.folder, self.lib, self.port = number, folder, lib, port
        self.process = None
        self.properties = folder / "properties"
        self.properties.write_text(properties)

    def java(self, heap, *args):
        return [*JAVA, f"-Xmx{heap}", "-cp", f"{self.lib}/*", *map(str, args)]

    def formatting(self):
        command = self.java("128m", "kafka.tools.StorageTool", "format", "-t", "MillstreamTestCluster1", "-c", self.properties)
        with open(self.folder / "log", "wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=with_this_program)

    def start(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(self.java("256m", "kafka.Kafka", self.properties), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, preexec_fn=with_this_program)

    def up(self):
        return self.process is not None and self.process.poll() is None

    def listens(self):
        with socket.socket() as s:
            s.settimeout(1)
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def await_start(self):
        def there():
            if not self.up():
                raise Failed(f"broker {self.number} does not start: {self.said()}")
            return self.listens()
        wait_until(f"broker {self.number} listens", there)

    def kill(self):
        """As the machine's end would."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """As whoever looks after it would: it hands its partitions over first."""
        self.process.terminate()
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def said(self):
        lines = (self.folder / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-5:])


class Cluster:
    def __init__(self, folder, lib, data=None):
        """`data`: where brokers keep their files, by their number; under `folder` unless it says otherwise."""
        self.folder, self.lib = Path(folder), Path(lib)
        ports = free_ports(2 * len(BROKERS))
        voters = ",".join(f"{n}@127.0.0.1:{ports[2 * n - 1]}" for n in BROKERS)
        self.brokers = {}
        for n in BROKERS:
            home = self.folder / f"broker{n}"
            home.mkdir(parents=True)
            where = (data or {}).get(n, home / "data")
            text = PROPERTIES.format(id=n, voters=voters, port=ports[2 * n - 2], controller=ports[2 * n - 1],
                                     data=where, session=SESSION_SECONDS * 1000)
            self.brokers[n] = Broker(n, home, self.lib, text, ports[2 * n - 2])
        self.address = ",".join(f"127.0.0.1:{self.brokers[n].port}" for n in BROKERS)
        self.clients = []
        self.classes = self.folder / "classes"
        self.classes.mkdir()

    def __enter__(self):
        begun = time.monotonic()
        try:
            compiling = subprocess.Popen(["javac", "-d", self.classes, "-cp", f"{self.lib}/*", HERE / "client/Client.java"])
            for broker, made in [(b, b.formatting()) for b in self.brokers.values()]:
                if made.wait(timeout=PATIENCE) != 0:
                    raise Failed(f"broker {broker.number} cannot be set up: {broker.said()}")
            if compiling.wait(timeout=PATIENCE) != 0:
                raise Failed("client/Client.java does not compile")
            self.start_all()
            self.admin = self.client()
            self.await_whole()
        except BaseException:
            self.__exit__()
            raise
        print(f"three brokers at {self.address}, after {time.monotonic() - begun:.0f} s", flush=True)
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.end()
        for broker in self.brokers.values():
            if broker.up():
                broker.kill()

    def client(self):
        """A client of its own: one that sends waits while brokers fail, and another can look meanwhile."""
        made = Client(self)
        self.clients.append(made)
        return made

    def release(self):
        """Ends all clients but the one that looks after the cluster."""
        for client in self.clients:
            if client is not self.admin:
                client.end()
        self.clients = [self.admin]

    def start_all(self):
        """All at once: none is up before most of them are."""
        for broker in self.brokers.values():
            broker.start()
        for broker in self.brokers.values():
            broker.await_start()

    def await_whole(self):
        """All brokers are up, and no copy of any partition lags."""
        return wait_until("all copies of all partitions are in sync", lambda: self.admin.ask("whole", len(BROKERS)) == "true",
                          pause=0.2)

    def topic(self, name, partitions, more=""):
        # Events carry times of their own, long past.
        self.admin.ask("topic", name, partitions, 3, f"min.insync.replicas=2,retention.ms=-1{more}")
        return name

    def leader(self, topic, partition=0):
        """The broker that leads a partition."""
        found = []

        def there():
            found[:] = [int(self.admin.ask("leader", topic, partition))]
            return found[0] > 0
        wait_until(f"{topic}[{partition}] has a leader", there)
        return self.brokers[found[0]]


class Client:
    """Kafka's own client as a process that is told what to do. For one thread."""

    def __init__(self, cluster):
        command = [*JAVA, "-Xmx192m", "-cp", f"{cluster.lib}/*:{cluster.classes}", "Client", cluster.address]
        self.errors = open(cluster.folder / "clients", "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, bufsize=1 << 16, preexec_fn=with_this_program)

    def ask(self, *words):
        return self.lines(*words)[1]

    def lines(self, *words):
        """The lines of an answer, as lists of words, and what stands behind its `ok`."""
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        found = []
        for line in self.process.stdout:
            line = line.rstrip("\n")
            if line.startswith("\t"):
                found.append(line[1:].split("\t"))
            elif line.startswith("ok "):
                return found, line[3:]
            else:
                raise Failed(f"Kafka's client cannot {' '.join(map(str, words))}: {line}")
        raise Failed(f"Kafka's client ended, asked to {' '.join(map(str, words))}")

    def send(self, topic, partition, key, value):
        self.process.stdin.write(f"send\t{topic}\t{partition}\t{key}\t{value}\n")

    def flush(self):
        return int(self.ask("flush"))

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        try:
            self.process.stdin.close()
        except OSError:
            pass  # What was still to be said to it: nobody hears it.
        self.errors.close()
