"""Kills the fraud rules between two topics, and the broker too, and compares what a reader of committed records sees with the oracle.

``python -m tests.kafka.crash --kills 100 --broker-kills 10 --seed 7``: at random moments (see `tests/crash/campaign.py`).
``python -m tests.kafka.crash --hits 20``, in the checked build: so often at each step of a commit.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "crash"), str(ROOT / "tests" / "fraud")]

import oracle  # noqa: E402
from campaign import Report, Round, Settings, kill, rounds  # noqa: E402

from examples.fraud import data  # noqa: E402
from tests.kafka.broker import Broker  # noqa: E402
from tests.kafka.topics import console_consume, consume_all, create_topic, produce, wait_until_settled  # noqa: E402

JOB = ROOT / "tests" / "kafka" / "fraud_job.py"
SOURCE = "bank-transactions"
PARTITIONS = 3
#: The steps of a commit: published, flush, the marker, the commit (before, and under way), committed, the next begun; and a start
#: that has fenced and not yet read the marker.
STEPS = ("FP13:kill", "FP14:kill", "FP17:kill", "FP17:later", "FP20:kill", "FP22:kill", "FP29:kill")
#: The broker lives so long between two kills, and is away for so long.
BROKER_LIFE_S, BROKER_AWAY_S = (5.0, 15.0), (0.5, 3.0)


def as_alert(value: bytes) -> oracle.Alert:
    """Return an alert of the topic as the oracle has it."""
    row = json.loads(value)
    return oracle.Alert(*(row[name] for name in oracle.Alert._fields))


def fill(bootstrap: str, sample: data.Sample, source: str = SOURCE) -> None:
    """Write the sample into the source topic: the files side by side, each in its order."""
    create_topic(bootstrap, source, PARTITIONS)
    rows = heapq.merge(*map(_rows, sample.transactions), key=lambda row: row["event_time"])
    produce(bootstrap, source, ((row["account_number"], json.dumps(row)) for row in rows))


def _rows(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="") as lines:
        for row in csv.DictReader(lines):
            numbers = {"transaction_id": int(row["transaction_id"]), "event_time": int(row["event_time"]), "amount": float(row["amount"])}
            yield {**row, **numbers, "category": row.get("category") or None}


class KafkaRound(Round):
    """The fraud rules between two topics."""

    def __init__(
        self, directory: pathlib.Path, chance: random.Random, bootstrap: str, sample: data.Sample, rate: int, source: str = SOURCE
    ) -> None:
        super().__init__(directory, chance)
        self.bootstrap, self._sample, self.rate, self._source = bootstrap, sample, rate, source
        self.quiet = threading.Lock()  # held by whoever kills the broker, and by who looks at what it has
        self.more: dict[str, str] = {}  # further arguments of the job
        self.sink = f"alerts-{directory.parent.name}-{directory.name}"

    def command(self, settings: Settings) -> list[str]:
        arguments = {
            "broker": self.bootstrap,
            "source": self._source,
            "sink": self.sink,
            "state-dir": str(self.state),
            "rate": str(self.rate),
            "checkpoint-interval": settings.interval,
            "state-memory": settings.memory,
            "parallelism": str(settings.parallelism),
            **self.more,
        }
        return [str(JOB), *(part for name, value in arguments.items() for part in (f"--{name}", value))]

    def finish(self) -> None:
        """Read the rest as fast as can be."""
        self.rate = 10**7
        super().finish()

    def wrong(self) -> str:
        """Compare with the oracle what two different clients see, and look for transactions that hang."""
        with self.quiet:
            return self._wrong()

    def _wrong(self) -> str:
        try:
            wait_until_settled(self.bootstrap, self.sink)
        except AssertionError as error:
            return str(error)
        expected = oracle.expected(self._sample.transactions)
        problem = oracle.difference(expected, Counter(as_alert(r.value) for r in consume_all(self.bootstrap, self.sink) if r.value))
        return problem or oracle.difference(expected, Counter(map(as_alert, console_consume(self.bootstrap, self.sink))))

    def die_at(self, step: str, number: int) -> bool:
        """Run until the `number`-th pass of a step kills the process; return whether it was that."""
        hits = self.directory / "hits"
        hits.unlink(missing_ok=True)
        self.environment = {"STREAMDSL_FAULT": f"{step}:{number}", "STREAMDSL_FAULT_LOG": str(hits)}
        process = self.start(Settings(parallelism=self._chance.randint(1, 2)))
        try:
            process.wait(60)
        finally:
            kill(process)
            self.environment = {}
        return hits.exists()


class BrokerKiller(threading.Thread):
    """Kills the broker again and again, and starts it again."""

    def __init__(self, broker: Broker, kills: int, chance: random.Random, life_s: tuple[float, float] = BROKER_LIFE_S) -> None:
        super().__init__(daemon=True)
        self._life_s = life_s
        self.quiet = threading.Lock()
        self.broker, self.left, self._chance = broker, kills, chance
        self.done = threading.Event()
        self.killed = 0

    def run(self) -> None:
        while self.left and not self.done.wait(self._chance.uniform(*self._life_s)):
            with self.quiet:
                self.broker.kill()
                self.killed += 1
                self.left -= 1
                time.sleep(self._chance.uniform(*BROKER_AWAY_S))
                self.broker.revive()


def campaign(
    kills: int,
    broker_kills: int,
    seed: int,
    directory: pathlib.Path,
    broker: Broker,
    transactions: int,
    rate: int,
    source: str = SOURCE,
    broker_life_s: tuple[float, float] = BROKER_LIFE_S,
) -> tuple[Report, int]:
    """Kill the job so often, and the broker; return the report and how often the broker was killed."""
    sample = data.generate(directory / "data", transactions, transactions // 10, seed)
    fill(broker.bootstrap, sample, source)
    killer = BrokerKiller(broker, broker_kills, random.Random(seed), broker_life_s)
    killer.start()

    def make(place: pathlib.Path, chance: random.Random) -> Round:
        made = KafkaRound(place, chance, broker.bootstrap, sample, rate, source)
        made.quiet = killer.quiet
        return made

    try:
        return rounds(kills, seed, directory, make), killer.killed
    finally:
        killer.done.set()
        killer.join()


def at_each_step(hits: int, seed: int, directory: pathlib.Path, broker: Broker, transactions: int, rate: int) -> Report:
    """Die so often at each step of a commit."""
    sample = data.generate(directory / "data", transactions, transactions // 10, seed)
    fill(broker.bootstrap, sample)
    report, chance = Report(seed), random.Random(seed)
    place = directory / "round-1"
    place.mkdir()
    run = KafkaRound(place, chance, broker.bootstrap, sample, rate)
    orders = [step for step in STEPS for _ in range(hits)]
    chance.shuffle(orders)
    try:
        for step in orders:
            number = 1 if step.startswith("FP29") else chance.randint(1, 4)
            if not run.die_at(step, number):
                raise RuntimeError(f"{step}:{number} was not reached\n{(place / 'log.txt').read_text()[-2000:]}")
            report.kills += 1
            report.phases[step] += 1
        run.finish()
        problem = run.wrong()
    except RuntimeError as error:
        problem = str(error)
    finally:
        run.close()
    report.rounds = 1
    report.violations += [problem] if problem else []
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--broker-kills", type=int, default=10)
    parser.add_argument("--hits", type=int, default=0, help="instead: so many deaths at each step of a commit (checked build)")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--transactions", type=int, default=200_001)
    parser.add_argument("--rate", type=int, default=1_500, help="records a second while there are kills")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    directory = pathlib.Path(tempfile.mkdtemp(prefix="crash-kafka-"))
    (directory / "broker").mkdir()
    with Broker(directory / "broker") as broker:
        began = time.monotonic()
        if asked.hits:
            report, broker_kills = at_each_step(asked.hits, seed, directory, broker, asked.transactions, asked.rate), 0
        else:
            report, broker_kills = campaign(asked.kills, asked.broker_kills, seed, directory, broker, asked.transactions, asked.rate)
        print(report)
        print(f"the broker was killed {broker_kills} times; {time.monotonic() - began:.0f} s")
    if not report.violations:
        shutil.rmtree(directory)
    return 1 if report.violations else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(ROOT))
    sys.exit(main())
