"""A cluster that is away altogether: in the middle of a run, to come back with other leaders, and at a start.

``python -m tests.kafka.outages --away 60``: compares what a reader of committed records sees with the oracle, and reads the job's log
as its operator would: a few lines that name the broker, and nothing that the client says to itself.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable

from examples.fraud import data
from tests.crash.campaign import Settings, kill
from tests.kafka import crash
from tests.kafka.broker import Broker, Cluster

#: So long the job may take to go on once the brokers are there, on a busy machine.
RESUMED_S = 90.0
RATE = 300
#: How librdkafka names its threads and itself.
CLIENTS_OWN = re.compile(r"thrd:|rdkafka|streamdsl#")


class Outages:
    """One job over a cluster that is taken away twice."""

    def __init__(self, cluster: Cluster, directory: pathlib.Path, away_s: float, seed: int, source: str = crash.SOURCE) -> None:
        self._cluster, self._away_s, self._chance = cluster, away_s, random.Random(seed)
        # Enough for the job to have something to do to the end: while nobody answers it reads what it has fetched.
        records = int(RATE * (2 * away_s + RESUMED_S))
        sample = data.generate(directory / "data", records, records // 10, seed)
        crash.fill(cluster.bootstrap, sample, source)
        place = directory / "round-1"
        place.mkdir()
        self._run = crash.KafkaRound(place, self._chance, cluster.bootstrap, sample, RATE, source)

    def problems(self) -> list[str]:
        """Go through both outages and return what was wrong."""
        try:
            found = [*self._in_the_middle(), *self._at_a_start()]
            self._cluster.revive()
            self._run.finish()
            wrong = self._run.wrong()
            return [*found, wrong] if wrong else found
        finally:
            self._run.close()

    def _in_the_middle(self) -> list[str]:
        process = self._process = self._run.start(Settings())
        try:
            self._commits(5)
            time.sleep(self._chance.uniform(0, 0.2))
            leader = self._cluster.leader_of(self._run.sink, 0)
            # Nobody can reach it, and it forgets nothing: brokers that were killed wait for the one that led last (KIP-966).
            found = self._away(Broker.pause)
            for broker in self._cluster:
                if broker is not leader:
                    broker.resume()
            self._commits(5)
            if process.poll() is not None:
                return [f"the job has ended with exit code {process.returncode}"]
            found += [] if self._cluster.leader_of(self._run.sink, 0) is not leader else ["nobody else leads the topic"]
            leader.resume()
            self._commits(5)
            process.send_signal(signal.SIGTERM)
            if process.wait(60):
                found.append(f"the job has stopped with exit code {process.returncode}")
            return found
        finally:
            kill(process)

    def _at_a_start(self) -> list[str]:
        for broker in self._cluster:
            broker.kill()
        self._process = self._run.start(Settings())
        try:
            found = self._away(Broker.kill)
            self._cluster.start()
            self._commits(5, again=True)
            return found
        finally:
            kill(self._process)

    def _away(self, take_away: Callable[[Broker], None]) -> list[str]:
        """Have all brokers away for so long, and until the job has said so; return what is wrong with what it has logged meanwhile."""
        before, began = len(self._log()), time.monotonic()
        for broker in self._cluster:
            take_away(broker)
        time.sleep(self._away_s)
        # On a busy machine it takes the job long to start, or to find out.
        while not self._names_a_broker(said := self._log()[before:]):
            if time.monotonic() > began + self._away_s + RESUMED_S or self._process.poll() is not None:
                return [f"no broker that is away is named: {said!r}"]
            time.sleep(0.1)
        lines, seconds = said.splitlines(), time.monotonic() - began
        # Each broker, the commit and the sources' topic: once, and then twice a minute.
        allowed = 6 * (1 + int(seconds / 30))
        if len(lines) > allowed or CLIENTS_OWN.search(said):
            return [f"{len(lines)} lines in {seconds:.0f} s, {allowed} are enough, and none of the client's own:\n{said}"]
        return []

    def _names_a_broker(self, said: str) -> bool:
        return any(broker.bootstrap in said for broker in self._cluster)

    def _log(self) -> str:
        return (self._run.directory / "log.txt").read_text()

    def _commits(self, more: int, *, again: bool = False) -> None:
        """Wait for so many checkpoints; with `again` the job is started as often as it says that the cluster has not answered."""
        known, until = self._run.checkpoints()[0], time.monotonic() + RESUMED_S
        taken: set[str] = set()
        while len(taken) < more:
            if time.monotonic() > until:
                raise RuntimeError(f"{len(taken)} checkpoints in {RESUMED_S:.0f} s\n{self._log()[-3000:]}")
            if again and self._process.poll() is not None:
                if "has not answered for" not in self._log():
                    raise RuntimeError(f"it has ended and does not say why: {self._log()[-3000:]}")
                self._process = self._run.start(Settings())  # as a service manager does
            time.sleep(0.02)
            taken |= self._run.checkpoints()[0] - known


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--away", type=float, default=60.0, help="seconds")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    directory = pathlib.Path(tempfile.mkdtemp(prefix="outages-kafka-"))
    with Cluster(3) as cluster:
        began = time.monotonic()
        problems = Outages(cluster, directory, asked.away, seed).problems()
    print(f"seed {seed}: two outages of {asked.away:.0f} s, {time.monotonic() - began:.0f} s in all; {len(problems)} violations")
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
