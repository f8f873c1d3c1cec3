"""TopologyTestDriver: a whole topology in one thread, step by step, under the test's clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from streamdsl._native.event_time.clock import ManualClock
from streamdsl.compiler import compile
from streamdsl.config import Config
from streamdsl.connectors.base import Sink, Source
from streamdsl.connectors.ticks import Ticks
from streamdsl.dsl.topology import Topology
from streamdsl.errors import StreamError, TopologyError
from streamdsl.runtime.environment import MemoryEnvironment
from streamdsl.runtime.job import Job
from streamdsl.schema import Schema
from streamdsl.testing.endpoints import DriverSink, DriverSource, Entry, rows_of

__all__ = ["TopologyTestDriver"]


class TopologyTestDriver:
    """Runs the real tasks of a topology synchronously: no threads, no files, no broker.

    Every source is replaced by a log that the test writes with `send`, every sink by a list that it reads with `read`.
    After each call everything that could happen has happened.

    Parameters
    ----------
    topology : Topology
    parallelism : int
        Tasks of each stage.
    partitions : int
        Splits of each source.
    start_ms : int
        Where the clock stands at first, in ms since the epoch.
    seed : int, optional
        Chooses the order in which tasks are stepped and inputs read; the promised results do not depend on it.
    strict_names : bool
        Insist on `name=` for everything that keeps state.
    batch_rows : int
        Rows of a batch at most.
    state_memory : int or str
        Bytes for keyed state in memory, over all tasks; with little, what is kept is read back from below all the time.

    Examples
    --------
    >>> from streamdsl import Topology, col, memory
    >>> topology = Topology("doubling")
    >>> numbers = topology.stream(memory("numbers", schema={"n": int}))
    >>> numbers.select(twice=col("n") * 2).to(memory("doubled"))
    >>> driver = TopologyTestDriver(topology)
    >>> driver.send("numbers", {"n": 21}, timestamp=0)
    >>> driver.read("doubled")
    [{'twice': 42}]

    Time, and a crash:

    >>> topology = Topology("visits")
    >>> visits = topology.stream(memory("visits", {"user": str}), disorder="5s")
    >>> visits.key_by("user").window(tumbling("1m")).count(name="counts").select("user", "count").to(memory("counts"))
    >>> driver = TopologyTestDriver(topology, partitions=2)
    >>> driver.send_batch("visits", [{"user": "ann"}, {"user": "bob"}], timestamps=[1_000, 2_000])
    >>> driver.checkpoint()
    1
    >>> driver.send("visits", {"user": "ann"}, timestamp=3_000, partition=1)
    >>> driver.crash_and_restore(parallelism=2)  # what was sent behind the checkpoint is read again
    >>> driver.send("visits", {"user": "eve"}, timestamp=70_000)  # so the watermark is 64,999 in partition 0 alone
    >>> driver.read("counts")
    []
    >>> driver.idle("visits", partition=1)
    >>> sorted(driver.read("counts", timestamps=True), key=str)
    [(59999, {'user': 'ann', 'count': 2}), (59999, {'user': 'bob', 'count': 1})]
    >>> driver.active("visits", partition=1)
    >>> driver.advance_watermark("visits", 119_999)
    >>> driver.read("counts")
    [{'user': 'eve', 'count': 1}]
    >>> driver.send("visits", {"user": "eve"}, timestamp=130_000)
    >>> list(driver.state("counts"))
    ['eve']
    >>> driver.end()
    >>> driver.read("counts"), driver.metrics()["sinks"]
    ([{'user': 'eve', 'count': 1}], {'counts': 4})
    """

    def __init__(
        self,
        topology: Topology,
        *,
        parallelism: int = 1,
        partitions: int = 1,
        start_ms: int = 0,
        seed: int | None = None,
        strict_names: bool = False,
        batch_rows: int = 4096,
        state_memory: int | str = "256MiB",
    ) -> None:
        self.topology = topology
        self.clock = ManualClock(start_ms)
        self._seed = seed
        self._options: dict[str, Any] = {
            "strict_names": strict_names,
            "batch_rows": batch_rows,
            "state_backend": "memory",
            "state_memory": state_memory,
        }
        self._sources = {
            name: DriverSource(name, self._schema(name, source), partitions, source.errors) for name, source in topology.sources().items()
        }
        self._sinks = {name: DriverSink(name) for name in topology.sinks()}
        self._ticks = {name: source for name, source in topology.sources().items() if isinstance(source, Ticks)}
        self._ticked = {name: start_ms // ticks.every_ms for name, ticks in self._ticks.items()}
        self._storage = MemoryEnvironment()
        self._job = self._start(parallelism)

    @staticmethod
    def _schema(name: str, source: Any) -> Schema:
        if source.schema is None:
            raise TopologyError(f"source {name!r} has no schema", remedy="give it one with schema=, so that rows can be checked")
        return Schema.of(source.schema)

    def _start(self, parallelism: int) -> Job:
        config = Config(parallelism=parallelism, **self._options)
        bind: dict[str, Source | Sink] = {**self._sources, **self._sinks}
        plans = compile(self.topology, parallelism=parallelism, bind=bind, strict_names=config.strict_names, errors=config.errors)
        job = Job(plans.physical, config, self._storage, clock=self.clock, seed=self._seed)
        job.open()
        self._parallelism = parallelism
        return job

    def _settle(self) -> None:
        self._job.run_until_quiet()

    def _source(self, name: str) -> DriverSource:
        if name not in self._sources:
            raise StreamError(f"no source {name!r}", remedy=f"the topology reads: {', '.join(self._sources) or 'nothing'}")
        return self._sources[name]

    def _append(self, source: str, partition: int | None, entry: Entry) -> None:
        logs = self._source(source).logs
        if partition is not None and str(partition) not in logs:
            raise StreamError(f"source {source!r} has no partition {partition}", remedy=f"it has {len(logs)}")
        for split, log in logs.items():
            if partition is None or split == str(partition):
                if log.entries and log.entries[-1].end and not entry.end:
                    raise StreamError(f"source {source!r} has ended: nothing can follow", remedy="send before end()")
                log.entries.append(entry)

    def send(self, source: str, row: Any, *, timestamp: int | None = None, partition: int = 0) -> None:
        """Send one row (dict, dataclass or named tuple); `timestamp` (ms) overrides the row's event time.

        Raises
        ------
        DataError
            The row does not fit the source's schema.
        """
        self.send_batch(source, [row], timestamps=None if timestamp is None else [timestamp], partition=partition)

    def send_batch(self, source: str, rows: Any, *, timestamps: Iterable[int] | None = None, partition: int = 0) -> None:
        """Send rows (a list of rows, a RecordBatch or a Table) as one batch."""
        batch = self._source(source).batch_of(rows_of(rows))
        times = None if timestamps is None else pa.array(list(timestamps), pa.int64())
        if times is not None and len(times) != batch.num_rows:
            raise StreamError(f"{len(times)} timestamps for {batch.num_rows} rows", remedy="give one timestamp for each row")
        self._append(source, partition, Entry(rows=batch, timestamps=times))
        self._settle()

    def advance_watermark(self, source: str, timestamp: int, *, partition: int | None = None) -> None:
        """Say that no record with time ≤ `timestamp` (ms) follows."""
        self._append(source, partition, Entry(watermark=timestamp))
        self._settle()

    def idle(self, source: str, *, partition: int | None = None) -> None:
        """Make the source idle: it steps out of the minimum."""
        self._append(source, partition, Entry(idle=True))
        self._settle()

    def active(self, source: str, *, partition: int | None = None) -> None:
        """Make the source active again; sending does so, too."""
        self._append(source, partition, Entry(idle=False))
        self._settle()

    def end(self, source: str | None = None) -> None:
        """End one source, or all: open windows close."""
        for name in self._sources if source is None else [source]:
            self._append(name, None, Entry(end=True))
        self._settle()

    def advance_processing_time(self, ms: int) -> None:
        """Move the clock on; what is due by then happens. For an example see `Topology.every`."""
        if ms < 0:
            raise StreamError(f"advance_processing_time({ms}): the clock does not go back")
        self.clock.ms += ms
        self._tick()
        self._settle()

    def _tick(self) -> None:
        """Send the ticks that are due, as their sources would: of several that were missed, the last."""
        for name, ticks in self._ticks.items():
            found = ticks.rows_until(self._ticked[name], self.clock.ms)
            log = self._sources[name].logs["0"]
            if found is not None and not (log.entries and log.entries[-1].end):
                self._ticked[name], rows = found
                times = rows.column("time").cast(pa.int64())
                log.entries.extend([Entry(rows=rows, timestamps=times), Entry(idle=True)])

    def read(self, sink: str, *, timestamps: bool = False) -> list[Any]:
        """Return the rows that have come to a sink since the last call; with `timestamps`, pairs (timestamp, row)."""
        if sink not in self._sinks:
            raise StreamError(f"no sink {sink!r}", remedy=f"the topology writes: {', '.join(self._sinks) or 'nothing'}")
        taken = self._sinks[sink].take()
        return list(taken) if timestamps else [row for _, row in taken]

    def state(self, operator: str) -> dict[Any, Any]:
        """Return the keyed state of an operator: {key: value}."""
        return self._job.state(operator)

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of the run, as `Run.metrics`."""
        return self._job.metrics()

    def checkpoint(self) -> int:
        """Take a checkpoint and return its id.

        Raises
        ------
        StateError
            It failed.
        """
        return self._job.checkpoint_now()

    def crash_and_restore(self, parallelism: int | None = None) -> None:
        """Lose everything that no checkpoint covers and start again from the last one, at another parallelism if given.

        What was sent since is read again. Rows that `read` has returned before are not returned twice.
        """
        self._job.abandon()
        self._job = self._start(self._parallelism if parallelism is None else parallelism)
        self._settle()
        for sink in self._sinks.values():
            sink.recognise()
