"""A processor called row by row and timer by timer: what a keyed process function of PyFlink does, without PyFlink."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from streamdsl._native.operators.user_code import results_of
from streamdsl.errors import StreamError
from streamdsl.flink.python.calls import Reader, Writer, failure
from streamdsl.flink.python.context import Emitted, FlinkContext, Keyed
from streamdsl.flink.python.process import PythonProcess

__all__ = ["Processing"]


class Processing:
    """One task's copy of a processor."""

    def __init__(self, made: PythonProcess, keyed: Keyed, row: Callable[..., Any]) -> None:
        self._made = made
        self._reader = Reader(made.given)
        self._ctx = FlinkContext(made.step, keyed, {tag: Writer(made.step, schema, row) for tag, _, schema in made.outputs})
        self._processor = made.processor() if isinstance(made.processor, type) else copy.deepcopy(made.processor)
        self._processor.open(self._ctx)

    def row(self, values: Sequence[Any], timestamp: int, watermark: int | None) -> list[Emitted]:
        """Return what becomes of a row."""
        row = self._reader.row(values)
        self._at(row, timestamp, watermark)
        return self._called(self._processor.process, row, "process", row)

    def timer(self, values: Sequence[Any], at: int, watermark: int | None) -> list[Emitted]:
        """Return what becomes of the timers of a time; `values` are those of a row of the key."""
        found: list[Emitted] = []
        row = self._reader.row(values)
        self._at(row, at, watermark)
        for name in self._ctx.fired(at):
            timer = SimpleNamespace(time=at, timestamp=at, name=name, clock="event")
            found += self._called(self._processor.on_timer, timer, "on_timer", None)
        return found

    def close(self) -> None:
        """End."""
        self._processor.close()

    def _at(self, row: Any, timestamp: int, watermark: int | None) -> None:
        keys = tuple(row[name] for name in self._made.keys)
        self._ctx.key = keys[0] if len(keys) == 1 else keys
        self._ctx.timestamp, self._ctx.watermark = timestamp, watermark

    def _called(self, method: Callable[..., Any], what: Any, doing: str, row: Any) -> list[Emitted]:
        try:
            for result in results_of(method(what, self._ctx)):
                self._ctx.emit(result)
        except StreamError:
            raise
        except Exception as error:  # whatever user code raises
            raise failure(self._made.step, doing, error, row, self._ctx.key) from error
        return self._ctx.taken()
