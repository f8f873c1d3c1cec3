"""Real brokers: one JVM each, in KRaft mode, on loopback, with ports, data and a life of their own.

with Broker() as broker:
    broker.bootstrap, broker.kill(), broker.start(), broker.pause(), broker.resume()
with Cluster(3) as cluster:
    cluster.bootstrap, cluster[0].kill(), cluster[0].start()
"""

from __future__ import annotations

import functools
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka import leash
from tests.kafka.distribution import QUICKLY_THERE, Distribution, NoKafka, alone, fetch

__all__ = ["Broker", "BrokerFailed", "Cluster", "NoKafka", "kafka"]

HOST: Final = "127.0.0.1"
CLUSTER_ID: Final = "streamdsl-tests-000000"
#: Far more than it takes but where several brokers share one core: there one that was killed is let in again late.
START_TIMEOUT_S: Final = 120.0
#: One that went on serves within a second; very rarely one that had stood still for longer than its session did not within minutes.
RESUMED_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 20.0


#: A broker that was killed is not let in again before its last session is over; a shorter one ends on a busy machine by itself.
_ALONE: Final = {"broker.heartbeat.interval.ms": "250", "broker.session.timeout.ms": "3000"}
#: A broker drops a registration, or a heartbeat, that it could not send within one interval, and begins again. Where several share a core
#: and the controller moves, 250 ms are too few again and again: for a minute one of them was not let in, and others were taken for dead.
_TOGETHER: Final = {"broker.heartbeat.interval.ms": "1000", "broker.session.timeout.ms": "6000"}


class BrokerFailed(RuntimeError):
    """A broker did not do what it was told; the text has the end of its log."""


class Broker:
    """One broker, which is its own controller.

    Parameters
    ----------
    directory : Path, optional
        For data, configuration and log; default: a temporary one, which `close` removes.
    heap : str
        The most that the JVM may take for objects.
    options : mapping, optional
        Kafka's configuration, beside or instead of what is chosen here.
    jvm : tuple of str
        Flags for a broker that has to be fast rather than quickly there.
    node, ports
        For a broker that is one of several: its number, and for each of them (client port, controller port).
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        heap: str = "512m",
        options: Mapping[str, str] | None = None,
        jvm: tuple[str, ...] = QUICKLY_THERE,
        node: int = 1,
        ports: Mapping[int, tuple[int, int]] | None = None,
        distribution: Distribution | None = None,
    ) -> None:
        self.kafka = distribution or kafka()
        self.node = node
        self.ports = ports or free_ports(1)
        self.heap, self.jvm, self.options = heap, jvm, dict(options or {})
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="streamdsl-kafka-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients find it: HOST:PORT."""
        return f"{HOST}:{self.ports[self.node][0]}"

    @property
    def pid(self) -> int | None:
        """Its process, or None if it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, on the ports and with the data that it had, and wait until it serves clients."""
        if self.pid is not None:
            raise BrokerFailed(f"broker {self.node} is running already, as process {self.pid}")
        self._configure()
        with self._log.open("ab") as log:
            self._process = leash.start(self._command("kafka.Kafka", str(self._configuration)), log)
        self._wait_until_ready()

    def kill(self) -> None:
        """End it with SIGKILL; its data stay. A paused one too."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it as an operator would, with SIGTERM; its data stay."""
        if self.pid is None:
            return
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed(f"broker {self.node} did not stop within {STOP_TIMEOUT_S:.0f} s{self.log_tail()}") from None

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): connections stay, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused one go on."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again: same ports, same data."""
        self.kill()
        self.start()

    def revive(self) -> None:
        """Have it serve, whatever was done to it: for whoever shares it and comes next."""
        if self.pid is None:
            self.start()
            return
        self.resume()
        if len(self.ports) > 1:
            self._wait_until_ready()
            return
        try:
            self._wait_until_ready(RESUMED_TIMEOUT_S)
        except BrokerFailed as failed:
            warnings.warn(f"killed and started again: {failed}", stacklevel=2)
            self.restart()

    def close(self) -> None:
        """End it at once; a temporary directory goes with it."""
        self.kill()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Broker:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def log_tail(self, lines: int = 30) -> str:
        """Return the end of what it logged, to be put behind a message."""
        said = self._log.read_text(errors="replace").splitlines()[-lines:] if self._log.exists() else []
        return "".join(f"\n  {line}" for line in [f"{self._log}:", *said])

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is None:
            raise BrokerFailed(f"broker {self.node} is not running: no {number.name}{self.log_tail()}")
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def _log(self) -> Path:
        return self.directory / "broker.log"

    @property
    def _configuration(self) -> Path:
        return self.directory / "server.properties"

    def _command(self, main: str, *arguments: str) -> list[str]:
        return self.kafka.command(main, *arguments, heap=self.heap, jvm=self.jvm)

    def _configure(self) -> None:
        """Write the configuration, and format the data directory if it is new."""
        data = self.directory / "data"
        self._configuration.write_text("".join(f"{name}={value}\n" for name, value in self._settings(data).items()))
        if (data / "meta.properties").exists():
            return
        format_ = self._command("kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", str(self._configuration))
        with self._log.open("ab") as log:
            if leash.start(format_, log).wait():
                raise BrokerFailed(f"broker {self.node}: its data directory could not be formatted{self.log_tail()}")

    def _settings(self, data: Path) -> dict[str, str]:
        client, controller = self.ports[self.node]
        replicas = str(min(3, len(self.ports)))
        in_sync = "1" if replicas == "1" else "2"
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node),
            "controller.quorum.voters": ",".join(f"{node}@{HOST}:{port}" for node, (_, port) in self.ports.items()),
            "listeners": f"PLAINTEXT://{HOST}:{client},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{client}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(data),
            "auto.create.topics.enable": "false",
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": replicas,
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "transaction.state.log.num.partitions": "4",
            # What a test would otherwise wait for: a group's first members, a transaction whose time is over, a dead broker.
            "group.initial.rebalance.delay.ms": "0",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
            **(_ALONE if len(self.ports) == 1 else _TOGETHER),
            # Event times of tests lie years back: their records would be gone whenever retention comes by.
            "log.retention.ms": "-1",
            # Its default is half of the memory that a broker has here.
            "log.cleaner.dedupe.buffer.size": str(8 << 20),
            "log.cleaner.threads": "1",
            "num.network.threads": "2",
            "num.io.threads": "4",
            **self.options,
        }

    def _wait_until_ready(self, patience_s: float = START_TIMEOUT_S) -> None:
        """Wait until it serves clients and, if it is alone, leads all partitions again."""
        until = time.monotonic() + patience_s
        admin, anew, why = None, 0.0, "nobody listens"
        while time.monotonic() < until:
            if self.pid is None:
                assert self._process is not None
                raise BrokerFailed(f"broker {self.node} ended with exit code {self._process.returncode}{self.log_tail()}")
            if time.monotonic() > anew and listening(self.ports[self.node][0]):
                # Now and then another client: it may be this one that hangs on a connection of before.
                anew = time.monotonic() + 10
                admin = AdminClient({"bootstrap.servers": self.bootstrap, "reconnect.backoff.max.ms": 100, "log_level": 2})
            if admin is not None:
                why = self._fault(admin)
                if not why:
                    return
            time.sleep(0.02)
        raise BrokerFailed(f"broker {self.node} did not serve clients within {patience_s:.0f} s: {why}{self.log_tail()}")

    def _fault(self, admin: AdminClient) -> str:
        """Return why it does not serve yet; nothing where it does."""
        try:
            told = admin.list_topics(timeout=1)
        except KafkaException as error:
            return str(error)
        if self.node not in told.brokers:
            return f"it knows of the brokers {sorted(told.brokers)}"
        if len(self.ports) > 1:
            return ""
        led = ((name, part.id, part.leader) for name, topic in told.topics.items() for part in topic.partitions.values())
        return ", ".join(f"{name}/{number} is led by {leader}" for name, number, leader in led if leader != self.node)


class Cluster:
    """Several brokers, each of them a controller too; topics of theirs have three replicas, and two are enough to go on."""

    def __init__(
        self, size: int = 3, directory: Path | None = None, *, heap: str = "320m", options: Mapping[str, str] | None = None
    ) -> None:
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="streamdsl-kafka-"))
        ports = free_ports(size)
        self.brokers = []
        for node in ports:
            (self.directory / str(node)).mkdir()
            self.brokers.append(Broker(self.directory / str(node), heap=heap, options=options, node=node, ports=ports))

    @property
    def bootstrap(self) -> str:
        """Where clients find them: all, with commas."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def __getitem__(self, index: int) -> Broker:
        return self.brokers[index]

    def __len__(self) -> int:
        return len(self.brokers)

    def __iter__(self) -> Iterator[Broker]:
        return iter(self.brokers)

    def start(self) -> None:
        """Start all that are not running."""
        self._each(lambda broker: broker.start() if broker.pid is None else None)

    def revive(self) -> None:
        """Have all of them serve, whatever was done to them."""
        self._each(Broker.revive)

    def close(self) -> None:
        """End all at once; a temporary directory goes with them."""
        for broker in self.brokers:
            broker.close()
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def leader_of(self, topic: str, partition: int) -> Broker:
        """Return the broker that leads a partition, once the one that is asked knows it: each hears of it in its own time."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})
        until = time.monotonic() + 30
        while True:
            known = admin.list_topics(topic, timeout=10).topics[topic].partitions.get(partition)
            for broker in self.brokers:
                if known is not None and broker.node == known.leader:
                    return broker
            if time.monotonic() > until:
                raise RuntimeError(f"nobody leads partition {partition} of {topic}: {known}")
            time.sleep(0.2)

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _each(self, act: Callable[[Broker], None]) -> None:
        # At the same time: none of them is ready before most of them are there.
        with ThreadPoolExecutor(len(self.brokers)) as pool:
            list(pool.map(act, self.brokers))


@functools.cache
def kafka() -> Distribution:
    """Return Kafka, with an archive of its classes, which the first call makes by a short life of a broker."""
    distribution = fetch()
    with alone(distribution.home):
        if not distribution.archive.exists():
            partial = distribution.archive.with_suffix(".partial")
            # What it has loaded when it is ready is what every start loads.
            jvm = (f"-XX:ArchiveClassesAtExit={partial}", *QUICKLY_THERE)
            with Broker(jvm=jvm, distribution=distribution) as broker:
                broker.stop()
            partial.rename(distribution.archive)
    return distribution


def listening(port: int) -> bool:
    """Say whether somebody accepts connections there."""
    try:
        socket.create_connection((HOST, port), 0.5).close()
    except OSError:
        return False
    return True


def free_ports(brokers: int) -> dict[int, tuple[int, int]]:
    """Return a port for clients and one for controllers for each broker, numbered from 1.

    They lie below the ports that the kernel gives to outgoing connections: a client that tries again and again to reach a dead
    broker would otherwise hold its port one day, connected with itself.
    """
    lowest = 32_768
    ephemeral = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if ephemeral.exists():
        lowest = min(lowest, int(ephemeral.read_text().split()[0]))
    candidates = range(max(1_024, lowest // 2), lowest)
    found = [port for port in random.SystemRandom().sample(candidates, min(len(candidates), 20 * brokers)) if _is_free(port)]
    return {node + 1: (found[2 * node], found[2 * node + 1]) for node in range(brokers)}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
