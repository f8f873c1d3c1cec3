"""Processors and reduce functions on windows."""

from __future__ import annotations

from typing import Any

import pytest

from streamdsl import Processor, Topology, memory, tumbling
from streamdsl.schema import Schema
from streamdsl.testing import TopologyTestDriver

from .jobs import ROW, driven, row, send


class Summed(Processor):
    """Adds up a window, and counts the windows of the key."""

    output = Schema.of({"k": str, "start": int, "end": int, "x": float, "windows": int})

    def open(self, ctx: Any) -> None:
        self.windows = ctx.state.value("windows", int)

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        self.windows.set(self.windows.get(0) + 1)
        assert key == ctx.key and ctx.timestamp == window.end - 1
        yield {"k": key, "start": window.start, "end": window.end, "x": sum(row.x for row in rows), "windows": self.windows.get()}


def found(driver: TopologyTestDriver) -> list[tuple[Any, ...]]:
    return [tuple(item.values()) for item in driver.read("out")]


@pytest.mark.parametrize("crash", [False, True])
def test_windows_close_by_end_start_and_key(crash: bool) -> None:
    driver = driven(Summed, window=tumbling(10), tags=("late",))
    send(driver, (12, row("b", 0, 1.0)), (3, row("b", 0, 2.0)), (-1, row("a", 0, 4.0)), (4, row("a", 0, 8.0)), (9, row("a", 0, 16.0)))
    driver.advance_watermark("in", 8)
    assert found(driver) == [("a", -10, 0, 4.0, 1)]
    if crash:
        driver.checkpoint()
        driver.crash_and_restore()
        driver.read("out")
    send(driver, (-2, row("c", 5)))
    assert [item["n"] for item in driver.read("late")] == [5]
    driver.end()
    assert found(driver) == [("a", 0, 10, 24.0, 2), ("b", 0, 10, 2.0, 1), ("b", 10, 20, 1.0, 2)]


class Recalling(Processor):
    """Tells what the window before has left, which is known for 15 ms."""

    output = {"end": int, "left": int | None}

    def open(self, ctx: Any) -> None:
        self.left = ctx.state.value("left", int, ttl="15ms")

    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        yield {"end": window.end, "left": self.left.get()}
        self.left.set(len(rows))


@pytest.mark.parametrize("leap", [None, 2**40])
def test_a_window_sees_the_values_of_its_own_time_however_far_time_leaps(leap: int | None) -> None:
    driver = driven(Recalling, window=tumbling(10))
    send(driver, (1, row("a")), (2, row("a")), (11, row("a")), (41, row("a")))
    if leap is None:
        driver.end()
    else:
        driver.advance_watermark("in", leap)
    assert found(driver) == [(10, None), (20, 2), (50, None)]


def test_running_reduce() -> None:
    topology = Topology("job")
    table = topology.stream(memory("in", schema=ROW)).key_by("k").reduce(lambda a, b: {"k": "?", "n": a.n + b.n, "x": max(a.x, b.x)})
    table.to_stream().to(memory("out"))
    driver = TopologyTestDriver(topology)
    send(driver, (1, row("a", 1, 1.0)), (2, row("b", 2, 2.0)), (3, row("a", 3, 0.5)))
    changes = [(item["k"], item["n"], item["x"], item["op"]) for item in driver.read("out")]
    assert changes == [("a", 1, 1.0, "add"), ("b", 2, 2.0, "add"), ("a", 4, 1.0, "replace")]
    driver.checkpoint()
    driver.crash_and_restore()
    driver.read("out")
    send(driver, (4, row("a", 1, 9.0)))
    assert [(item["n"], item["x"]) for item in driver.read("out")] == [(5, 9.0)]
