"""Event times that are a column which has to be converted, or looked at, first."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from streamdsl._native.flow.convert import python_value
from streamdsl.formats.times import EventTimes
from streamdsl.physical.node import PhysicalSource

__all__ = ["RowTimes", "times_of"]

_NO_TIME: Final = "the record has no event time"


def times_of(spec: PhysicalSource) -> RowTimes | None:
    """Return what finds the event times of the source's rows; None where they need nothing."""
    times = spec.times
    if times is None or (times.as_it_is and (times.unit is not None or pa.types.is_timestamp(times.type))):
        return None
    return RowTimes(EventTimes(spec.name, times.column, times.type, times.unit, times.format, times.tz), times.as_it_is)


class RowTimes:
    """Finds the event times of rows that come without, and looks at the first ones. `as_it_is`: the column needs no conversion."""

    def __init__(self, times: EventTimes, as_it_is: bool) -> None:
        self._times, self._as_it_is = times, as_it_is
        self._checked = False

    def of(self, rows: pa.RecordBatch) -> pa.Int64Array | None:
        """Return the times (ms), None where they are the column's as they stand.

        Raises
        ------
        DataError
            The first ones are plausible in another unit.
        """
        if (self._checked and self._as_it_is) or not rows.num_rows:
            return None
        column = rows.column(self._times.column)
        self._checked = self._checked or self._times.check(column)
        return None if self._as_it_is else self._times.of(column)

    def why(self, rows: pa.RecordBatch, row: int, reason: str) -> str:
        """Return why the row is refused: where it has no event time, what stands in its place."""
        value = python_value(rows.column(self._times.column)[row])
        if reason == _NO_TIME and value is not None:
            return f"field {self._times.column!r}: {value!r} is no event time"
        return reason
