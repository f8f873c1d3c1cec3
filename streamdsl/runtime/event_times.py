"""Readers whose rows get their event times from a column that has to be converted, or looked at, first."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.flow.convert import python_value
from streamdsl.connectors.base import Chunk, Rejected
from streamdsl.formats.times import EventTimes
from streamdsl.physical.node import PhysicalSource

__all__ = ["timed"]

_NO_TIME: Final = "the record has no event time"


def timed(reader: Any, spec: PhysicalSource) -> Any:
    """Return the reader with the event times of `spec`; those that need nothing as they are."""
    times = spec.times
    if times is None or (times.as_it_is and (times.unit is not None or pa.types.is_timestamp(times.type))):
        return reader
    return TimedReader(reader, EventTimes(spec.name, times.column, times.type, times.unit, times.format, times.tz), times.as_it_is)


class TimedReader:
    """Reads as `reader` does, and looks at the first times. `as_it_is`: the column needs no conversion."""

    def __init__(self, reader: Any, times: EventTimes, as_it_is: bool) -> None:
        self._reader, self._times, self._as_it_is = reader, times, as_it_is
        self._checked = False
        # Asked of each split with each checkpoint: by `__getattr__`, a thousand of them would take a millisecond.
        self.committed, self.position, self.caught_up = reader.committed, reader.position, reader.caught_up

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read(self, max_rows: int) -> Any:
        """Return the next rows with their event times, unless they come with times of their own."""
        chunk = self._reader.read(max_rows)
        if (self._checked and self._as_it_is) or not isinstance(chunk, Chunk) or chunk.timestamps is not None or not chunk.rows.num_rows:
            return chunk
        column = chunk.rows.column(self._times.column)
        self._checked = self._checked or self._times.check(column)
        if self._as_it_is:
            return chunk
        return dataclasses.replace(chunk, timestamps=self._times.of(column))

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected | None:
        """Return the record of a row; one without an event time shows what stands in its place."""
        value = python_value(chunk.rows.column(self._times.column)[row])
        if reason == _NO_TIME and value is not None:
            reason = f"field {self._times.column!r}: {value!r} is no event time"
        found: Rejected | None = self._reader.rejected(chunk, row, reason)
        return found
