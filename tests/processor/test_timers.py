"""Timers of Processors: order, cancelling, what is set while time advances, periodic ones, restoring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamdsl import Processor, Topology, memory

from .jobs import ROW, driven, row, send

FIRED = {"k": str, "at": int, "name": str}


class Timed(Processor):
    """Sets the timers that a row names: n is the time, k the key."""

    output = FIRED

    def process(self, row: Any, ctx: Any) -> None:
        ctx.set_timer(row.n)

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        assert ctx.timestamp == timer.time
        yield {"k": ctx.key, "at": timer.time, "name": timer.name}


def fired(driver: Any) -> list[tuple[str, int, str]]:
    return [(found["k"], found["at"], found["name"]) for found in driver.read("out")]


def test_order_is_time_then_key() -> None:
    driver = driven(Timed)
    send(driver, (1, row("b", 50)), (2, row("a", 50)), (3, row("c", 20)), (4, row("b", 90)))
    assert fired(driver) == []
    driver.advance_watermark("in", 60)
    assert fired(driver) == [("c", 20, ""), ("a", 50, ""), ("b", 50, "")]
    driver.advance_watermark("in", 89)
    assert fired(driver) == []
    driver.advance_watermark("in", 90)
    assert driver.read("out", timestamps=True) == [(90, {"k": "b", "at": 90, "name": ""})]


def test_setting_twice_is_one_call() -> None:
    driver = driven(Timed)
    send(driver, (1, row("a", 50)), (2, row("a", 50)))
    driver.advance_watermark("in", 60)
    assert fired(driver) == [("a", 50, "")]


def test_set_at_or_below_the_watermark_fires_with_the_next() -> None:
    driver = driven(Timed)
    driver.advance_watermark("in", 100)
    send(driver, (101, row("a", 40)))
    assert fired(driver) == []
    driver.advance_watermark("in", 101)
    assert fired(driver) == [("a", 40, "")]


class Cancelling(Timed):
    """x > 0 cancels instead of setting."""

    def process(self, row: Any, ctx: Any) -> None:
        if row.x:
            ctx.cancel_timer(row.n, "t")
        else:
            ctx.set_timer(row.n, "t")


def test_cancel() -> None:
    driver = driven(Cancelling)
    send(driver, (1, row("a", 50)), (1, row("b", 50)), (2, row("a", 50, 1.0)), (3, row("b", 51, 1.0)))
    driver.advance_watermark("in", 60)
    assert fired(driver) == [("b", 50, "t")]


class Chained(Timed):
    """A timer sets the next one, three times."""

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        yield from super().on_timer(timer, ctx)
        if len(timer.name) < 3:
            ctx.set_timer(timer.time + 10, timer.name + "x")


def test_set_within_the_advance_fires_in_it() -> None:
    driver = driven(Chained)
    send(driver, (1, row("a", 10)), (1, row("b", 15)))
    driver.advance_watermark("in", 30)
    assert fired(driver) == [("a", 10, ""), ("b", 15, ""), ("a", 20, "x"), ("b", 25, "x"), ("a", 30, "xx")]
    driver.advance_watermark("in", 35)
    assert fired(driver) == [("b", 35, "xx")]


@pytest.mark.parametrize("restored", [False, True])
def test_what_a_timer_sets_for_the_past_waits_for_the_next_watermark_and_the_end_leaves_none(restored: bool) -> None:
    driver = driven(Chained)
    driver.advance_watermark("in", 100)
    send(driver, (101, row("a", 40)), (102, row("b", 200)))
    driver.advance_watermark("in", 101)
    assert fired(driver) == [("a", 40, "")]
    if restored:
        driver.checkpoint()
        driver.crash_and_restore()
    driver.end()
    assert fired(driver) == [
        ("a", 50, "x"), ("a", 60, "xx"), ("a", 70, "xxx"), ("b", 200, ""), ("b", 210, "x"), ("b", 220, "xx"), ("b", 230, "xxx")
    ]  # fmt: skip


class Again(Timed):
    """A timer that sets itself for the moment it fires."""

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        yield from super().on_timer(timer, ctx)
        ctx.set_timer(timer.time)


def test_a_timer_for_now_waits_for_the_next_advance() -> None:
    driver = driven(Again)
    send(driver, (1, row("a", 10)))
    driver.advance_watermark("in", 30)
    assert fired(driver) == [("a", 10, "")]
    driver.advance_watermark("in", 31)
    assert fired(driver) == [("a", 10, "")]


class SelfSetting(Timed):
    """Sets itself anew for ever."""

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        yield from super().on_timer(timer, ctx)
        ctx.set_timer(timer.time + 10)


def test_the_end_of_the_input_ends_timers_that_set_themselves() -> None:
    driver = driven(SelfSetting)
    send(driver, (1, row("a", 10)))
    driver.end()
    assert 1 <= len(fired(driver)) <= 200


class Periodic(Timed):
    """n is the first time; x > 0 cancels."""

    def process(self, row: Any, ctx: Any) -> None:
        if row.x:
            ctx.cancel_timer(row.n, "p", every="10ms")
        else:
            ctx.set_timer(row.n, "p", every="10ms")


def test_periodic_keeps_its_grid() -> None:
    driver = driven(Periodic)
    send(driver, (1, row("a", 13)))
    driver.advance_watermark("in", 13)
    assert fired(driver) == [("a", 13, "p")]
    driver.advance_watermark("in", 58)
    assert fired(driver) == [("a", 23, "p")]
    driver.advance_watermark("in", 63)
    assert fired(driver) == [("a", 63, "p")]
    send(driver, (64, row("a", 13, 1.0)))
    driver.advance_watermark("in", 200)
    assert fired(driver) == []


def test_periodic_ends_with_the_input() -> None:
    driver = driven(Periodic)
    send(driver, (1, row("a", 13)))
    driver.end()
    assert fired(driver) == [("a", 13, "p")]


class Clocked(Timed):
    """Timers by the wall clock."""

    def process(self, row: Any, ctx: Any) -> None:
        ctx.set_timer(row.n, clock="processing")


def test_processing_time() -> None:
    driver = driven(Clocked, start_ms=1000)
    send(driver, (5, row("a", 1500)), (6, row("b", 1200)))
    driver.advance_watermark("in", 10_000)
    driver.advance_processing_time(199)
    assert fired(driver) == []
    driver.advance_processing_time(400)
    assert fired(driver) == [("b", 1200, ""), ("a", 1500, "")]


class Polling(Clocked):
    """A timer sets itself for the moment it fires, three times at most."""

    def open(self, ctx: Any) -> None:
        self.n = ctx.state.value("n", int)

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        self.n.set(self.n.get(0) + 1)
        yield {"k": ctx.key, "at": timer.time, "name": str(self.n.get())}
        if self.n.get() < 3:
            ctx.set_timer(timer.time, clock="processing")


def test_many_timers_of_the_wall_clock_fire_in_order_and_set_themselves_behind_the_last() -> None:
    driver = driven(Polling, start_ms=1000)
    keys = [f"{i:04}" for i in range(1_000)]
    send(driver, *((5, row(key, 1500 + i % 3)) for i, key in enumerate(keys)))
    driver.advance_processing_time(1000)
    once = sorted((1500 + i % 3, key) for i, key in enumerate(keys))
    assert fired(driver) == [(key, at, str(n)) for n in (1, 2, 3) for at, key in once]


def test_the_input_ends_behind_the_timers_of_the_wall_clock_that_are_due() -> None:
    topology = Topology("ending")
    given = [{"k": f"{i:04}", "n": 1, "x": 0.0} for i in range(2_000)]
    out = memory("out")
    stream = topology.stream(memory("in", schema=ROW, rows=given), watermarks="external").key_by("k")
    stream.process(Clocked, name="op").to(out)
    topology.run()
    assert len(out.rows()) == 2_000


@pytest.mark.parametrize("parallelism", [1, 3])
def test_restored_timers_fire_once(parallelism: int) -> None:
    driver = driven(Chained)
    send(driver, *((1, row(key, 50 + n)) for n, key in enumerate("abcdef")))
    driver.advance_watermark("in", 51)
    assert [key for key, _, _ in fired(driver)] == ["a", "b"]
    driver.checkpoint()
    driver.crash_and_restore(parallelism=parallelism)
    driver.read("out")
    driver.advance_watermark("in", 59)
    assert sorted(key for key, _, name in fired(driver) if not name) == ["c", "d", "e", "f"]
    driver.advance_watermark("in", 61)
    assert sorted(key for key, _, name in fired(driver) if name) == ["a", "b"]


def test_overdue_processing_timers_fire_at_once_after_a_restore() -> None:
    driver = driven(Clocked, start_ms=1000)
    send(driver, (5, row("a", 1100)))
    driver.checkpoint()
    driver.crash_and_restore()
    driver.advance_processing_time(5000)
    assert fired(driver) == [("a", 1100, "")]


class Distant(Processor):
    """Sets a timer and keeps a value, for longer than there are times."""

    output = FIRED

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state.value("seen", int)

    def process(self, row: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        yield {"k": ctx.key, "at": ctx.timestamp, "name": f"seen {self.seen.value}"}
        self.seen.set(ctx.timestamp, ttl=2**63)
        ctx.set_timer(ctx.timestamp + 2**63)

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        yield {"k": ctx.key, "at": timer.time, "name": "fired"}


def test_times_beyond_int64_are_the_last_ones() -> None:
    low, high = -(2**63) + 2, 2**63 - 2
    driver = driven(Distant)
    send(driver, (low, row("a")), (0, row("a")), (high - 5, row("a")))
    driver.advance_watermark("in", high - 10)
    send(driver, (high - 1, row("a")))
    assert [name for _, _, name in fired(driver)] == ["seen None", f"seen {low}", "seen 0", "fired", f"seen {high - 5}"]


class Remembering(Timed):
    """Tells what it still knows when a timer fires, ten ms before that is over."""

    output = {"at": int, "known": int | None, "listed": int, "mapped": int}

    def open(self, ctx: Any) -> None:
        self.known = ctx.state.value("known", int, ttl="20ms")
        self.listed = ctx.state.list("listed", int, ttl="20ms")
        self.mapped = ctx.state.map("mapped", int, int, ttl="20ms")

    def process(self, row: Any, ctx: Any) -> None:
        self.known.set(row.n)
        self.listed.append(row.n)
        self.mapped[row.n] = row.n
        ctx.set_timer(ctx.timestamp + 10)
        ctx.set_timer(ctx.timestamp + 20)

    def on_timer(self, timer: Any, ctx: Any) -> Iterator[dict[str, Any]]:
        yield {"at": timer.time, "known": self.known.get(), "listed": len(self.listed), "mapped": len(self.mapped)}


# The end of the input, and one leap of time over more than what late records are granted: see `slack` in state_field.pxd.
@pytest.mark.parametrize("leap", [None, 2**40])
@pytest.mark.parametrize("restored", [False, True])
def test_a_timer_sees_the_values_of_its_own_time_however_far_time_leaps(leap: int | None, restored: bool) -> None:
    driver = driven(Remembering)
    for n in range(3):
        send(driver, (1_000 * n, row(f"k{n}", n)))
    if restored:
        driver.checkpoint()
        driver.crash_and_restore(parallelism=2)
    if leap is None:
        driver.end()
    else:
        driver.advance_watermark("in", leap)
    found = sorted((out["at"], out["known"], out["listed"], out["mapped"]) for out in driver.read("out"))
    assert found == [fired for n in range(3) for fired in ((1_000 * n + 10, n, 1, 1), (1_000 * n + 20, None, 0, 0))]


def test_the_end_of_the_input_removes_nothing_that_a_later_run_goes_on_with() -> None:
    driver = driven(Remembering)
    send(driver, (0, row("a", 1)))
    driver.end()
    assert driver.state("op")["a"] == {"known": 1, "listed": [1], "mapped": {1: 1}}
