"""Windows that close together need not be in memory together, and nobody sees it in what comes out."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamdsl import Config, Processor, Topology, col, count, hopping, memory, tumbling
from streamdsl._native.event_time.clock import ManualClock
from streamdsl.runtime.environment import MemoryEnvironment
from tests.state.stepped import PIECE, Stepped

KEYS, ROWS = 1_500, 12_000
SCHEMA = {"key": str, "at": int, "x": float}


def rows(seed: int = 1) -> list[dict[str, Any]]:
    """Every key comes now and then; the time moves on by 1 ms a row, some rows are behind, and few of those too late."""
    draw = random.Random(seed)
    behind = [-draw.choice((0, 0, 0, 40, 400, 2_500)) if draw.random() < 0.2 else 0 for _ in range(ROWS)]
    return [{"key": f"key-{draw.randrange(KEYS)}", "at": 4_000 + i + behind[i], "x": draw.randrange(100) / 4} for i in range(ROWS)]


class Summed(Processor):
    """The sum of a window, and the number of the key's windows so far."""

    output = {"key": str, "start": int, "n": int, "total": float, "windows": int}

    def open(self, ctx: Any) -> None:
        self.windows = ctx.state.value("windows", int)

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        self.windows.set(self.windows.get(0) + 1)
        yield {"key": key, "start": window.start, "n": len(rows), "total": sum(row.x for row in rows), "windows": self.windows.get()}


def nested(stream: Any) -> Any:
    first = stream.window(tumbling("3s"), grace="50ms").aggregate(n=count(), total=col("x").sum())
    return first.key_by("key").window(hopping("9s", "3s")).aggregate(windows=count(), most=col("n").max())


JOBS = {
    "tumbling": lambda stream: stream.window(tumbling("4s")).aggregate(n=count(), total=col("x").sum(), values=col("x").to_list()),
    "hopping with grace": lambda stream: stream.window(hopping("4s", "1s"), grace="500ms").aggregate(n=count(), low=col("x").min()),
    "late": lambda stream: stream.window(hopping("2s", "1s"), late="late").aggregate(n=count(), total=col("x").sum()),
    "short windows": lambda stream: stream.window(tumbling("20ms")).aggregate(n=count(), total=col("x").sum()),
    "windows of windows": nested,
    "processor": lambda stream: stream.window(tumbling("4s"), grace="200ms").process(Summed(), name="summed"),
    "hopping processor": lambda stream: stream.window(hopping("4s", "2s"), late="late").process(Summed(), name="summed"),
    "reduce": lambda stream: stream.window(tumbling("4s")).reduce(lambda a, b: {**b.asdict(), "x": a.x + b.x}),
    "update": lambda stream: stream.window(hopping("4s", "2s"), emit="update").aggregate(n=count(), total=col("x").sum()),
}


def outcome(job: str, config: Config, given: list[dict[str, Any]]) -> tuple[list[Any], list[Any], dict[str, int]]:
    """Return the rows as they came out, the late ones, and the figures of the state."""
    topology = Topology("closing")
    out, late = memory("out"), memory("late")
    stream = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at", disorder="100ms", name="in").key_by("key")
    made = JOBS[job](stream)
    made.to(out, name="out")
    if job in ("late", "hopping processor"):
        made.output("late").to(late, name="late")
    run = topology.run(config)
    return [tuple(row.items()) for row in out.rows()], [tuple(row.items()) for row in late.rows()], run.metrics()["state"]


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
@pytest.mark.parametrize("job", JOBS)
def test_windows_close_in_their_order_wherever_they_are(job: str, backend: Any, tmp_path: Path) -> None:
    given = rows()
    expected, late, ample = outcome(job, Config(state_backend="memory", parallelism=1), given)
    assert ample["evicted"] == 0 and (late or job not in ("late", "hopping processor"))
    # Keys leave with their last window: of short ones there are few at a time.
    room = "12KiB" if job == "short windows" else "96KiB"
    tiny = Config(state_backend=backend, state_memory=room, parallelism=1, checkpoint_interval="20ms", state_dir=tmp_path)
    found, found_late, figures = outcome(job, tiny, given)
    assert figures["evicted"] > KEYS and figures["reads"] > 0
    assert found_late == late
    assert found == expected


def many_windows(job: str, keys: int) -> tuple[Topology, Any]:
    """Return a topology with so many windows of one start, and its sink."""
    names = [f"key-{i}" for i in range(keys)]
    random.Random(3).shuffle(names)
    topology = Topology("many")
    sink = memory("out")
    given = [{"key": name, "at": 1_000 + i // 50, "x": 1.0} for i, name in enumerate(names)]
    stream = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at", disorder="5ms", name="in").key_by("key")
    window = stream.window(tumbling("1h"))
    made = window.process(Summed(), name="summed") if job == "processor" else window.aggregate(n=count(), total=col("x").sum())
    made.to(sink, name="out")
    return topology, sink


@pytest.mark.parametrize("job", ["aggregate", "processor"])
def test_the_memory_holds_while_all_windows_close(job: str) -> None:
    keys, limit = 60_000, 1 << 20
    topology, sink = many_windows(job, keys)
    ample = Stepped(topology, MemoryEnvironment(), Config(state_backend="memory", parallelism=1), ManualClock(), PIECE)
    while ample.step():
        pass
    assert ample.most > 5 * limit, "else there is nothing to see"
    expected = sink.rows()
    config = Config(state_backend="memory", parallelism=1, state_memory=limit, batch_rows=500)
    tiny = Stepped(topology, MemoryEnvironment(), config, ManualClock(), PIECE)
    while tiny.step():
        pass
    assert tiny.most < 1.3 * limit
    assert sink.rows() == expected and len(expected) == keys


@pytest.mark.parametrize("job", ["aggregate", "processor"])
def test_no_checkpoint_is_taken_amid_a_closing_and_a_crash_there_is_none_to_the_rows(job: str) -> None:
    keys = 6_000
    topology, sink = many_windows(job, keys)
    environment, clock = MemoryEnvironment(), ManualClock()
    config = Config(state_backend="memory", parallelism=1, state_memory="192KiB", checkpoint_interval="10ms", batch_rows=100)
    first = Stepped(topology, environment, config, clock)
    while not first.closing:
        clock.ms += 1
        assert first.step()
    coordinator = first.job.coordinator
    while not coordinator._not_passed:  # no barrier is on its way to the windows
        clock.ms += 10
        assert first.step() and first.closing, "a closing of many steps"
    under_way = coordinator.pending
    assert under_way is not None
    for _ in range(20):
        clock.ms += 10
        assert first.step() and first.closing
    assert coordinator.pending == under_way
    first.job.abandon()
    for parallelism in (2, 1):
        again = Stepped(topology, environment, Config(state_backend="memory", parallelism=parallelism, state_memory="192KiB"), clock)
        while not again.closing:
            assert again.step()
        for _ in range(10):
            again.step()
        if parallelism == 2:
            again.job.abandon()
    while again.step():
        pass
    assert Counter(row["key"] for row in sink.rows()) == Counter(f"key-{i}" for i in range(keys))


@pytest.mark.parametrize("batch_rows", [500, 4_096])
def test_windows_close_while_a_checkpoint_has_still_to_write_their_deadlines(batch_rows: int) -> None:
    keys = 30_000
    topology, sink = many_windows("aggregate", keys)
    clock = ManualClock()
    config = Config(state_backend="memory", parallelism=1, checkpoint_interval="10ms", batch_rows=batch_rows)
    job = Stepped(topology, MemoryEnvironment(), config, clock)
    while job.step():
        clock.ms += 1
    assert [row["key"] for row in sink.rows()] == sorted(f"key-{i}" for i in range(keys))


FAMILIES = {
    "short": [f"{i}" for i in range(700)],
    "alike up to their end": [f"customer-of-the-house-{i:06d}" for i in range(700)],
    "one begins another": ["a" * n for n in range(1, 701)],
    "zeros and nothing": ["", "\0", "a", "a\0", "a\0\0", "a\0b", *(f"a\0\0{i}" for i in range(700))],
    "alike but for a few": [*(f"long-common-beginning-{i}" for i in range(700)), "long", "z"],
    "numbers": list(range(-350, 350)),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_of_one_end_close_in_the_order_of_their_keys(family: str) -> None:
    keys = FAMILIES[family]
    shuffled: list[Any] = list(keys)
    random.Random(7).shuffle(shuffled)
    topology = Topology("ordered")
    sink = memory("out")
    given = [{"key": key, "at": 1_000 + at} for at in (0, 5_000) for key in shuffled]
    stream = topology.stream(memory("in", schema={"key": type(keys[0]), "at": int}, rows=given), timestamp="at", name="in")
    stream.key_by("key").window(tumbling("5s")).aggregate(n=count()).to(sink, name="out")
    topology.run(Config(state_backend="memory", parallelism=1))
    # Numbers are ordered as their bytes are, which do not know of a sign.
    order = (lambda key: key % 2**64) if family == "numbers" else str.encode
    assert [row["key"] for row in sink.rows()] == 2 * sorted(keys, key=order)


class Reminded(Processor):
    """Passes every row on, and for some keys the row comes again at a moment of the wall clock."""

    output = SCHEMA

    def process(self, row: Any, ctx: Any) -> Any:
        if int(row.key[4:]) % 16 == 0:
            ctx.set_timer(1_000_000, clock="processing")
        yield row.asdict()

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        yield {"key": ctx.key, "at": 1_000, "x": 1.0}


def test_windows_that_close_may_be_asked_for_meanwhile() -> None:
    """What a timer makes is late for them, and still brings them into memory out of their turn."""
    keys = 6_000
    names = [f"key-{i}" for i in range(keys)]
    random.Random(4).shuffle(names)
    topology = Topology("reminded")
    sink = memory("out")
    given = [{"key": name, "at": 1_000 + i // 50, "x": 1.0} for i, name in enumerate(names)]
    stream = topology.stream(memory("in", schema=SCHEMA, rows=given), timestamp="at", disorder="5ms", name="in").key_by("key")
    reminded = stream.process(Reminded(), name="reminded").key_by("key")
    reminded.window(tumbling("1h")).aggregate(n=count(), total=col("x").sum()).to(sink, name="out")
    clock = ManualClock()
    config = Config(state_backend="memory", parallelism=1, state_memory="192KiB", batch_rows=100)
    run = Stepped(topology, MemoryEnvironment(), config, clock)
    while not run.closing:
        assert run.step()
    for _ in range(5):
        run.step()
    assert run.closing
    clock.ms = 1_000_000
    while run.step():
        pass
    assert sum(figures.get("late", 0) for figures in run.job.metrics()["operators"].values()) == keys // 16
    assert [(row["key"], row["n"]) for row in sink.rows()] == [(name, 1) for name in sorted(names)]
