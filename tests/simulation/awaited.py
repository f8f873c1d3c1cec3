"""Calls of `map_async` without a thread: which of those under way ends next, and when, is drawn."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from streamdsl._native.event_time.clock import ManualClock
from streamdsl._native.operators import map_async

__all__ = ["RunningClock", "SimulatedLoop"]


class RunningClock(ManualClock):
    """A clock for which nobody waits: calls are under way while time stands still."""

    def runs(self) -> bool:
        return True


class SimulatedLoop:
    """The event loops of one run."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.calls: list[_Calls] = []

    @contextlib.contextmanager
    def instead(self) -> Iterator[None]:
        """Stand for the real loops."""
        real = map_async.Calls
        map_async.Calls = self._begin
        try:
            yield
        finally:
            map_async.Calls = real

    def _begin(self, function: Callable[[Any], Awaitable[Any]], *_: Any) -> _Calls:
        made = _Calls(self, function, told=_[-1])
        self.calls.append(made)
        return made

    def forget(self) -> None:
        """The process is gone, and its calls with it."""
        self.calls.clear()

    def step(self) -> bool:
        """Let some of the calls end; return whether one did."""
        ended = False
        for calls in self.calls:
            while calls.under_way and self.draw.random() < 0.5:
                calls.end_one()
                ended = True
        return ended


class _Calls:
    """Stands for `Calls`."""

    def __init__(self, loop: SimulatedLoop, function: Callable[[Any], Awaitable[Any]], told: Callable[[], None]) -> None:
        self.loop, self.function, self.told = loop, function, told
        self.under_way: list[Any] = []

    def start(self) -> None:
        """Nothing is opened."""

    def submit(self, calls: Sequence[Any]) -> None:
        """Begin calls."""
        self.under_way.extend(calls)

    def wait(self, seconds: float) -> None:
        """Let a call end."""
        if self.under_way:
            self.end_one()

    def close(self) -> None:
        """Give up what is under way."""
        self.under_way.clear()

    def end_one(self) -> None:
        """Let one call end, whichever."""
        call = self.under_way.pop(self.loop.draw.randrange(len(self.under_way)))
        try:
            self.function(call.row).send(None)  # type: ignore[attr-defined]
        except StopIteration as done:
            call.finish(done.value, None)
        except Exception as error:  # noqa: BLE001 - what the function raises, the operator's policy decides about
            call.finish(None, error)
        self.told()
