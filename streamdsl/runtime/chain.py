"""What one task runs: its operators, connected, with the state behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamdsl._native.event_time.clock import Clock
from streamdsl._native.event_time.timers import TimerService


@dataclass(slots=True)
class Chain:
    """Filled by `deploy` and read once, by the task."""

    shards: int
    owned_shards: list[int]
    new_store: Callable[[], Any]
    clock: Clock
    store: Any = None
    built: list[Any] = field(default_factory=list)  # by operator index of the stage
    operators: list[Any] = field(default_factory=list)
    heads: list[Any] = field(default_factory=list)  # by input
    outputs: list[Any] = field(default_factory=list)
    merges: list[Any] = field(default_factory=list)
    sinks: list[Any] = field(default_factory=list)
    openers: list[Callable[[], None]] = field(default_factory=list)  # open the writers of `sinks`
    readers: list[Any] = field(default_factory=list)
    lookups: list[Any] = field(default_factory=list)
    timed: list[Any] = field(default_factory=list)  # have processing-time timers
    closers: list[Any] = field(default_factory=list)  # have windows that close or timers that fire, in the order of the chain
    restored: list[Any] = field(default_factory=list)  # told once their table has been loaded
    tables_of: dict[str, Any] = field(default_factory=dict)
    dead_letters: Any = None

    def new_table(self, kind: str, name: str, key_layout: str) -> Any:
        """Return a new key table of the task's store; `kind` is "rows", "windows" or "timers"."""
        if self.store is None:
            self.store = self.new_store()
        return self.store.add_table(kind, name, key_layout)

    def new_timers(self, name: str, key_layout: str) -> TimerService:
        """Return the timers of the operator `name`; `key_layout` is that of the user's keys."""
        timers = TimerService(self.new_table("timers", name, f"clock,time,({key_layout}),name"))
        self.restored.append(timers)
        return timers
