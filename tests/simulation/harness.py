"""A seeded scheduler over the real runtime: one thread, every choice drawn from the seed.

A seed draws the parallelism, the cuts of the data into batches, which task is stepped next, when checkpoints begin and
where the job crashes; after a crash it goes on at another parallelism. What comes out at the end must not show any of it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from streamdsl import Config, Topology
from streamdsl._native.event_time.clock import ManualClock
from streamdsl.compiler import compile
from streamdsl.runtime.environment import MemoryEnvironment
from streamdsl.runtime.job import Job
from streamdsl.testing.endpoints import DriverSink, DriverSource, Entry

Rows = Sequence[Mapping[str, Any]]
#: A run that takes longer is stuck.
MOST_STEPS = 200_000


class Simulation:
    """One seeded run of a topology over rows that are all there from the start."""

    def __init__(self, topology: Topology, rows: Mapping[str, Rows], seed: int, *, key: str = "key", crashes: int = 2) -> None:
        self.topology, self.seed, self.crashes = topology, seed, crashes
        self.random = random.Random(seed)
        self.clock = ManualClock(0)
        self.environment = MemoryEnvironment()
        self.sources = {name: self._source(name, source, rows[name], key) for name, source in topology.sources().items()}
        self.sinks = {name: DriverSink(name) for name in topology.sinks()}
        self.restores = 0
        self.from_checkpoint = 0

    def _source(self, name: str, source: Any, rows: Rows, key: str) -> DriverSource:
        """Put the rows into the logs of a few partitions, a key always into the same one, cut into random batches."""
        partitions = self.random.randint(1, 3)
        driver = DriverSource(name, source.schema, partitions, source.errors)
        for partition in range(partitions):
            own = [row for row in rows if zlib.crc32(str(row[key]).encode()) % partitions == partition]
            entries = driver.logs[str(partition)].entries
            while own:
                cut = self.random.choice([1, 2, 5, 50, len(own)])
                entries.append(Entry(rows=driver.batch_of(own[:cut])))
                own = own[cut:]
            entries.append(Entry(end=True))
        return driver

    def run(self) -> dict[str, list[tuple[int, dict[str, Any]]]]:
        """Run to the end, with crashes on the way, and return (timestamp, row) of every sink."""
        while not self._one_incarnation(crash=self.restores < self.crashes):
            self.restores += 1
        return {name: list(sink.rows) for name, sink in self.sinks.items()}

    def _one_incarnation(self, *, crash: bool) -> bool:
        parallelism = self.random.randint(1, 4)
        config = Config(
            parallelism=parallelism,
            state_backend="memory",
            checkpoint_interval=self.random.randint(1, 20),
            batch_rows=self.random.choice([1, 2, 5, 40]),
        )
        plans = compile(self.topology, parallelism=parallelism, bind={**self.sources, **self.sinks})
        job = Job(plans.physical, config, self.environment, clock=self.clock, seed=self.random.getrandbits(30))
        job.open()
        self.from_checkpoint += bool(self.environment.completed)
        last = self.random.randint(1, 800) if crash else MOST_STEPS
        for _ in range(last):
            if job.ended:
                break
            self._step(job)
        if not job.ended:
            assert crash, f"seed {self.seed}: the job does not end (parallelism {parallelism})"
            job.abandon()
            return False
        if job.error is not None:
            raise AssertionError(f"seed {self.seed}") from job.error
        job.close()
        return job.finished

    def _step(self, job: Job) -> None:
        self.clock.ms += self.random.randint(0, 2)
        choice = self.random.random()
        if choice < 0.7:
            self.random.choice(job.tasks).step_once()
        elif choice < 0.85:
            job.write_step()
        else:
            job.control_step()


def reference(topology: Topology, rows: Mapping[str, Rows]) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Return what comes out at parallelism 1, one batch a source, without a crash."""
    sources = {}
    for name, source in topology.sources().items():
        driver = DriverSource(name, source.schema, 1, source.errors)
        driver.logs["0"].entries[:] = [Entry(rows=driver.batch_of(list(rows[name]))), Entry(end=True)]
        sources[name] = driver
    sinks = {name: DriverSink(name) for name in topology.sinks()}
    plans = compile(topology, parallelism=1, bind={**sources, **sinks})
    job = Job(plans.physical, Config(state_backend="memory"), MemoryEnvironment(), clock=ManualClock(0))
    job.open()
    job.run_until_quiet()
    job.close()
    return {name: list(sink.rows) for name, sink in sinks.items()}


def multiset(rows: Sequence[tuple[int, Mapping[str, Any]]]) -> list[str]:
    """Return the rows in an order that does not depend on how they came."""
    return sorted(repr((time, sorted(row.items()))) for time, row in rows)


def by_key(rows: Sequence[tuple[int, Mapping[str, Any]]], key: str = "key") -> dict[Any, list[str]]:
    """Return the rows of each key in the order in which they came."""
    found: dict[Any, list[str]] = {}
    for time, row in rows:
        found.setdefault(row[key], []).append(repr((time, sorted(row.items()))))
    return found


def random_rows(seed: int, n: int, *, keys: int = 7, disorder: int = 20) -> list[dict[str, Any]]:
    """Return rows {key, at, x, city} whose times are at most `disorder` ms out of order; x may be null."""
    draw = random.Random(seed)
    now, rows = 1_000, []
    for _ in range(n):
        now += draw.choice([0, 1, 3, 10, 40])
        rows.append(
            {
                "key": f"k{draw.randrange(keys)}",
                "at": now - draw.randint(0, disorder),
                "x": None if draw.random() < 0.1 else draw.randint(-5, 50) / 4,
                "city": draw.choice(["Lima", "Cusco", "Tacna", "Arica"]),
            }
        )
    return rows


Check = Callable[[Sequence[Any], Sequence[Any]], None]
SCHEMA = pa.schema([("key", pa.string()), ("at", pa.int64()), ("x", pa.float64()), ("city", pa.string())])
