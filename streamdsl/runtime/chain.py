"""What one task runs: its operators, connected, with the state behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamdsl._native.event_time.clock import Clock
from streamdsl._native.operators.declaration import Context


@dataclass(slots=True)
class Chain:
    """Filled by `deploy` and read once, by the task. What an operator wants of the task it declares itself."""

    shards: int
    owned_shards: list[int]
    new_store: Callable[[], Any]
    clock: Clock
    store: Any = None
    built: list[Any] = field(default_factory=list)  # by operator index of the stage
    operators: list[Any] = field(default_factory=list)
    heads: list[Any] = field(default_factory=list)  # by input
    outputs: list[Any] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)  # of the source's splits
    dead_letters: Any = None

    def new_table(self, kind: str, name: str, key_layout: str) -> Any:
        """Return a new key table of the task's store; `kind` is "rows", "windows", "timers", "changes" or "times"."""
        if self.store is None:
            self.store = self.new_store()
        return self.store.add_table(kind, name, key_layout)

    def add(self, operator: Any, name: str, lookup: Any) -> None:
        """Take in an operator, and give it what it declares; `lookup` is the key lookup in front of it, or None."""
        self.operators.append(operator)
        declared = operator.declare().tables
        key = "" if lookup is None else ",".join(lookup.decoder.kinds)
        tables = tuple(self.new_table(table.kind, name, table.key.replace("{key}", key)) for table in declared)
        operator.open(Context(name=name, lookup=lookup, tables=tables, clock=self.clock))
