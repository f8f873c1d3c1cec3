"""Idle means read to its end. A split whose records wait elsewhere is behind, and others do not go on in time without it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping

import pyarrow as pa

from streamdsl import Config, Topology, kafka, memory, tumbling
from streamdsl.connectors.base import END, Chunk, Source, SplitReader
from streamdsl.connectors.then import _First, _Second, _Wrapped
from streamdsl.schema import Schema

SPLITS = 100
ROWS = 50


class Starving(Source):
    """A client that brings the records of a hundred partitions one partition after another, as librdkafka may, and with long pauses."""

    schema = Schema.of({"at": "int64"})
    bounded = False
    idle_timeout = "20ms"

    def __init__(self, *, told: bool) -> None:
        self.name, self.told = "in", told
        self.turn = 0
        self.next_at = time.monotonic() + 0.1

    def splits(self):
        return [str(number) for number in range(SPLITS)]

    def open_split(self, split, position, columns):
        return _Reader(self, int(split))

    def may(self, number: int) -> bool:
        """Whether it is the partition's turn: the first few come at once, the others when the first have been dry for long."""
        if number < 3:
            return True
        if number == self.turn + 3 and time.monotonic() >= self.next_at:
            self.turn, self.next_at = self.turn + 1, time.monotonic() + (0.06 if number == 3 else 0.0)
            return True
        return number < self.turn + 3


class _Reader(SplitReader):
    def __init__(self, source: Starving, number: int) -> None:
        self.source, self.number, self.done = source, number, False

    def read(self, max_rows):
        if self.done:
            return END if self.source.turn >= SPLITS - 3 else None
        if not self.source.may(self.number):
            return None
        self.done = True
        rows = pa.record_batch({"at": pa.array([1000 * n for n in range(ROWS)])})
        return Chunk(rows, None)

    def position(self, chunk, rows):
        return None

    def caught_up(self):
        return self.done if self.source.told else True


def counted(source: Source) -> tuple[int, int]:
    """Return how many records the windows held, and how many were late."""
    topology, out = Topology("starving"), memory("out")
    windows = topology.stream(source, timestamp="at").key_by().window(tumbling("10s")).count()
    windows.to(out)
    run = topology.start(Config())
    run.wait(60)
    late = sum(figures.get("late", 0) for task in run.metrics()["tasks"] for figures in task["operators"].values())
    return sum(row["count"] for row in out.rows()), late


def test_partitions_that_the_client_starves_lose_nothing():
    assert counted(Starving(told=True)) == (SPLITS * ROWS, 0)


def test_the_same_client_loses_rows_where_readers_do_not_tell():
    """So that the test above can fail."""
    found, late = counted(Starving(told=False))
    assert late > 0 and found < SPLITS * ROWS


def test_what_wraps_a_reader_passes_on_everything():
    contract = {name for name, value in vars(SplitReader).items() if inspect.isfunction(value)}
    for wrapper in (_First, _Second):
        there = {name for kind in (wrapper, _Wrapped) for name in vars(kind)}
        assert not contract - there, wrapper


def test_what_is_bound_says_when_it_is_idle_and_what_is_too_far_ahead():
    topology = Topology("bound")
    stream = topology.stream(kafka("declared", {"a": "int64"}, broker="a:1"), name="in")
    stream.to(memory("out"))
    plan = lambda **bind: _source(topology, bind)  # noqa: E731
    assert (plan().idle_after_ms, plan().most_ahead_ms) == (5000, 3_600_000)
    bound = plan(**{"in": kafka("other", {"a": "int64"}, idle_timeout=None, max_ahead=None)})
    assert (bound.idle_after_ms, bound.most_ahead_ms) == (None, None)
    bound = plan(**{"in": kafka("other", {"a": "int64"}, idle_timeout="1m", max_ahead="2d")})
    assert (bound.idle_after_ms, bound.most_ahead_ms) == (60_000, 172_800_000)
    explicit = Topology("explicit")
    explicit.stream(kafka("declared", {"a": "int64"}), name="in", idle_timeout="7s", max_ahead="8s").to(memory("out"))
    bound = _source(explicit, {"in": kafka("other", {"a": "int64"}, idle_timeout=None, max_ahead=None)})
    assert (bound.idle_after_ms, bound.most_ahead_ms) == (7000, 8000)


def _source(topology: Topology, bind: Mapping[str, Source]):
    [node] = topology.plan(bind=bind).sources
    return node
