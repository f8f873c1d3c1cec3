"""Timers that fire together need not be in memory together, nor those that are far off, and nobody sees it in what comes out."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamdsl import Config, Processor, Topology, memory
from streamdsl._native.event_time.clock import ManualClock
from streamdsl.errors import StateError
from streamdsl.runtime import chain
from streamdsl.runtime.environment import DirectoryEnvironment, MemoryEnvironment
from tests.state.stepped import PIECE, Stepped

KEYS, ROWS = 1_200, 6_000
SCHEMA = {"key": str, "at": int}
FIRED = {"key": str, "time": int, "name": str, "n": int}
#: Where one begins as another does, and where NUL is part of it.
HEADS = ["k", "k\0", "kk", "\0", "k\0\x01", ""]


def names(keys: int) -> list[str]:
    return [f"{HEADS[i % len(HEADS)]}{i // len(HEADS)}" for i in range(keys)]


def rows(keys: int = KEYS, seed: int = 1) -> list[dict[str, Any]]:
    """The keys come in any order, some often; the time moves on by 1 ms a row."""
    draw = random.Random(seed)
    known = names(keys)
    given = known + [draw.choice(known) for _ in range(ROWS - keys)]
    draw.shuffle(given)
    return [{"key": key, "at": 1_000 + i} for i, key in enumerate(given)]


class Timed(Processor):
    """Says when which timer fired, as the how-manieth of its key."""

    output = FIRED

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int)
        self.due = ctx.state.value("due", int)

    def process(self, row: Any, ctx: Any) -> None:
        if self.due.get() is None:
            self.due.set(self.first(row, ctx))
            ctx.set_timer(self.due.get())

    def first(self, row: Any, ctx: Any) -> int:
        return 90_000 + 7 * (hash_of(row.key) % 5_000)

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        self.n.set(self.n.get(0) + 1)
        yield {"key": ctx.key, "time": timer.time, "name": timer.name, "n": self.n.get()}


def hash_of(key: str) -> int:
    return sum((i + 1) * byte for i, byte in enumerate(key.encode())) * 2_654_435_761 % 2**32


class Together(Timed):
    def first(self, row: Any, ctx: Any) -> int:
        return 60_000


class Soon(Timed):
    def first(self, row: Any, ctx: Any) -> int:
        return ctx.timestamp + 2_000


class Periodic(Timed):
    def process(self, row: Any, ctx: Any) -> None:
        if self.due.get() is None:
            self.due.set(ctx.timestamp + hash_of(row.key) % 700)
            ctx.set_timer(self.due.get(), "again", every="700ms")


class PutOff(Timed):
    """Every row puts the timer off, but for one in three, which cancels it."""

    def process(self, row: Any, ctx: Any) -> None:
        due = self.due.get()
        if due is not None and due > ctx.timestamp:
            ctx.cancel_timer(due)
        self.due.set(ctx.timestamp + 1_500)
        if row.at % 3:
            ctx.set_timer(self.due.get())


class Chained(Timed):
    """A timer sets others: for later in the same advance, for the moment itself, for the past, and one that it cancels."""

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        yield from super().on_timer(timer, ctx)
        if self.n.get() < 6:
            ctx.set_timer(timer.time + 40, "later")
            ctx.set_timer(timer.time, timer.name)
            ctx.set_timer(timer.time - 30_000, "past")
            ctx.set_timer(timer.time + 10, "never")
        ctx.cancel_timer(timer.time + 10, "never")


class TwoNames(Timed):
    def process(self, row: Any, ctx: Any) -> None:
        if self.due.get() is None:
            self.due.set(30_000 + 1_000 * (hash_of(row.key) % 3))
            for name in ("é", "", "z"):
                ctx.set_timer(self.due.get(), name)
            ctx.cancel_timer(self.due.get(), "z")


class Scattered(Timed):
    """Over three hundred years, and before 1970."""

    def process(self, row: Any, ctx: Any) -> None:
        if self.due.get() is None:
            self.due.set(hash_of(row.key) ** 2 % 10**13)
            ctx.set_timer(self.due.get())
            ctx.set_timer(-self.due.get() - 1, "behind")


class Again(Timed):
    """A timer sets itself for its moment, which is put off, and another one."""

    def first(self, row: Any, ctx: Any) -> int:
        return 60_000

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        yield from super().on_timer(timer, ctx)
        ctx.set_timer(timer.time, timer.name)
        if not timer.name:
            ctx.set_timer(timer.time + 1, "later")


JOBS = [Timed, Together, Soon, Periodic, PutOff, Chained, TwoNames, Scattered]


def job(processor: Any, given: list[dict[str, Any]]) -> tuple[Topology, Any]:
    topology, sink = Topology("timed"), memory("out")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at", disorder="50ms", name="in").key_by("key")
    stream.process(processor, name="timed").to(sink, name="out")
    return topology, sink


def run(topology: Topology, config: Config, path: Path | None = None, piece: int = 0) -> Stepped:
    environment = MemoryEnvironment() if path is None else DirectoryEnvironment(path, config.state_backend)
    stepped = Stepped(topology, environment, config, ManualClock(), piece)
    while stepped.step():
        stepped.job.clock.ms += 1
    assert stepped.job.error is None
    stepped.job.abandon()
    return stepped


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("processor", JOBS)
def test_timers_fire_in_their_order_wherever_they_are(processor: Any, backend: Any, tmp_path: Path) -> None:
    topology, sink = job(processor, rows())
    ample = run(topology, Config(state_backend="memory", parallelism=1, batch_rows=200))
    expected = sink.rows()
    assert ample.coldest == 0 and len(expected) >= KEYS
    tiny = Config(state_backend=backend, state_memory="96KiB", parallelism=1, checkpoint_interval="20ms", batch_rows=200)
    stepped = run(topology, tiny, tmp_path / "state" if backend == "rocksdb" else None)
    assert stepped.coldest > KEYS / 4
    if processor is Scattered:  # what is set for the past fires with the next watermark, which comes as often as there are batches
        assert Counter(map(repr, sink.rows())) == Counter(map(repr, expected))
    else:
        assert sink.rows() == expected


@pytest.mark.parametrize(("processor", "keys"), [(Together, 40_000), (Timed, 40_000), (Again, 15_000)])
def test_the_memory_holds_while_all_timers_fire(processor: Any, keys: int) -> None:
    limit = 1 << 20
    given = [{"key": name, "at": 1_000 + i // 50} for i, name in enumerate(names(keys))]
    random.Random(3).shuffle(given)
    topology, sink = job(processor, given)
    ample = run(topology, Config(state_backend="memory", parallelism=1, batch_rows=500), piece=PIECE)
    assert ample.most > 4 * limit, "else there is nothing to see"
    expected = sink.rows()
    tiny = run(topology, Config(state_backend="memory", parallelism=1, state_memory=limit, batch_rows=500), piece=PIECE)
    assert sink.rows() == expected and len(expected) >= keys
    assert tiny.coldest > keys / 2
    marks = 22 * len(expected) * (3 if processor is Again else 1)  # what is set as the input ends is marked as well
    assert tiny.most < 1.3 * limit + marks < ample.most


def test_no_checkpoint_is_taken_while_timers_fire_and_a_crash_there_is_none_to_the_rows() -> None:
    topology, sink = job(Together, rows())
    environment, clock = MemoryEnvironment(), ManualClock()
    config = Config(state_backend="memory", parallelism=1, state_memory="96KiB", checkpoint_interval="10ms", batch_rows=100)
    first = Stepped(topology, environment, config, clock)
    while not any(task.closing for task in first.job.tasks):
        clock.ms += 1
        assert first.step()
    begun = environment.storage.ids()[-1]
    for _ in range(20):
        clock.ms += 10
        assert first.step() and first.closing, "many pieces"
    assert max(first.job.coordinator.completed) <= begun
    first.job.abandon()
    again = Stepped(topology, environment, Config(state_backend="memory", parallelism=2, state_memory="96KiB"), clock)
    while again.step():
        pass
    assert Counter(row["key"] for row in sink.rows()) == Counter(names(KEYS))


@pytest.mark.parametrize("small_bytes", [0, 32 << 20])
@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("processor", [Timed, Soon])
def test_cold_timers_come_back_at_another_parallelism(processor: Any, backend: Any, small_bytes: int, tmp_path: Path) -> None:
    topology, sink = job(processor, rows())
    run(topology, Config(state_backend="memory", parallelism=1, batch_rows=100))
    expected = sink.rows()

    def environment() -> Any:
        made = memories if backend == "memory" else DirectoryEnvironment(tmp_path / "state", backend)
        made.small_bytes = small_bytes
        return made

    memories, clock, coldest = MemoryEnvironment(), ManualClock(), 0
    for parallelism, steps in ((1, 60), (3, 40), (2, 30), (2, 10**9)):
        config = Config(state_backend=backend, parallelism=parallelism, state_memory="192KiB", checkpoint_interval="5ms", batch_rows=50)
        stepped = Stepped(topology, environment(), config, clock)
        while steps > 0 and stepped.step():
            clock.ms += 1
            steps -= 1
        assert stepped.job.error is None
        coldest = max(coldest, stepped.coldest)
        stepped.job.abandon()
    assert coldest > KEYS / 6
    assert Counter(repr(row) for row in sink.rows()) == Counter(repr(row) for row in expected)


class Clocked(Timed):
    """Timers by the wall clock."""

    def process(self, row: Any, ctx: Any) -> None:
        ctx.set_timer(1_000_000 + hash_of(row.key) % 3, clock="processing")


def test_timers_of_the_wall_clock_are_cold_as_well() -> None:
    given = rows()
    topology = Topology("clocked")
    sink = memory("out")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at", disorder="50ms", name="in").key_by("key")
    stream.process(Clocked, name="timed").to(sink, name="out")
    clock = ManualClock()
    config = Config(state_backend="memory", parallelism=1, state_memory="96KiB", batch_rows=50)
    stepped = Stepped(topology, MemoryEnvironment(), config, clock)
    while stepped.coldest < KEYS / 4:
        assert stepped.step()
    clock.ms = 2_000_000
    while stepped.step():
        pass
    found = [(row["time"], row["key"]) for row in sink.rows()]
    assert {key for _, key in found} == set(names(KEYS))


def test_timers_in_another_form_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    new_table = chain.Chain.new_table

    def in_old_form(self: Any, kind: str, name: str, key_layout: str) -> Any:
        return new_table(self, kind, name, "str" if kind == "timers" else key_layout)

    topology, _ = job(Timed, rows())
    environment, clock = MemoryEnvironment(), ManualClock()
    config = Config(state_backend="memory", parallelism=1, checkpoint_interval="5ms", batch_rows=50)
    with monkeypatch.context() as patch:
        patch.setattr(chain.Chain, "new_table", in_old_form)
        first = Stepped(topology, environment, config, clock)
        while not first.job.coordinator.completed:
            clock.ms += 1
            assert first.step()
        first.job.abandon()
    with pytest.raises(StateError, match="timed: str → clock,time,\\(str\\),name"):
        Stepped(topology, environment, config, clock)
