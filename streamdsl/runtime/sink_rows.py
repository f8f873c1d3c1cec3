"""Rows of sinks for who looks on: as they are written, and as they are committed."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from typing import Any, Final

from streamdsl._native.flow.convert import python_rows

__all__ = ["CommittedRows", "Watcher"]

#: Rows of one sink that wait for their checkpoint, or to be taken; of all others only the number is known.
KEPT_ROWS: Final = 64
#: Rows of one batch: a batch that is kept whole would keep its memory.
_OF_A_BATCH: Final = 8


class Watcher:
    """Sees what a sink does, in the thread of its task: it must be quick, and must not fail."""

    def on_rows(self, table: Any) -> None:
        """These rows, a batch or a table of Arrow, were written."""

    def on_snapshot(self, checkpoint_id: int) -> None:
        """The rows so far belong to this checkpoint."""

    def on_commit(self, checkpoint_id: int) -> None:
        """The rows of this checkpoint, and of those before, are committed."""


class CommittedRows:
    """Some rows of each sink and the number of all, once they are committed.

    Parameters
    ----------
    without : collection of str
        Sinks that are not looked at.
    """

    def __init__(self, without: Collection[str] = ()) -> None:
        self._without = frozenset(without)
        self._lock = threading.Lock()
        self._fresh: dict[str, tuple[int, list[dict[str, Any]]]] = {}

    def follow(self, operators: Iterable[Any]) -> None:
        """Look at the sinks among the operators of a start."""
        for operator in operators:
            if not hasattr(operator, "watchers") or operator.name in self._without:
                continue
            operator.watchers += (_Waiting(self, operator.name),)

    def take(self) -> dict[str, tuple[int, list[dict[str, Any]]]]:
        """Return {sink: (number of rows, some of them)} since the last call."""
        with self._lock:
            taken, self._fresh = self._fresh, {}
        return taken

    def commit(self, name: str, count: int, rows: list[dict[str, Any]]) -> None:
        """Add rows that are committed."""
        with self._lock:
            before, kept = self._fresh.get(name, (0, []))
            self._fresh[name] = before + count, [*kept, *rows[: KEPT_ROWS - len(kept)]]


class _Waiting(Watcher):
    """The rows of one sink of one task that wait for their checkpoint."""

    def __init__(self, committed: CommittedRows, name: str) -> None:
        self._committed, self._name = committed, name
        self._count, self._rows = 0, list[dict[str, Any]]()  # of no checkpoint yet
        self._waiting: list[tuple[int, int, list[dict[str, Any]]]] = []  # (checkpoint, number, some rows), oldest first

    def on_rows(self, table: Any) -> None:
        """Count rows and keep some."""
        self._count += table.num_rows
        room = min(KEPT_ROWS - len(self._rows), _OF_A_BATCH)
        if room > 0 and table.num_rows:
            self._rows.extend(python_rows(table.slice(0, room)))

    def on_snapshot(self, checkpoint_id: int) -> None:
        """Put the rows so far behind a checkpoint."""
        if self._count:
            self._waiting.append((checkpoint_id, self._count, self._rows))
            self._count, self._rows = 0, []

    def on_commit(self, checkpoint_id: int) -> None:
        """Let go of what is committed."""
        while self._waiting and self._waiting[0][0] <= checkpoint_id:
            _, count, rows = self._waiting.pop(0)
            self._committed.commit(self._name, count, rows)
