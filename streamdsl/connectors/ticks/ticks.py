"""`topology.every("10s")`: a record whenever so much time has passed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from streamdsl.connectors.base import Chunk, End, Json, Source, SplitReader, no_metadata
from streamdsl.schema import Field, Schema

__all__ = ["Ticks"]

_TIME = pa.timestamp("ms", tz="UTC")
_SCHEMA = Schema((Field("time", _TIME, nullable=False), Field("n", pa.int64(), nullable=False)))


@dataclass(frozen=True, eq=False)
class Ticks(Source):
    """A record at each multiple of `every_ms` since the epoch, by the wall clock: its `time`, and `n`, which counts multiples.

    Several that were missed, while the job stood still, are one: the last.
    """

    every_ms: int
    name: str
    clock: Callable[[], float] = time.time

    schema = _SCHEMA
    bounded = False
    position_form = "ticks"

    def splits(self) -> Sequence[str]:
        """Return the one split."""
        return ["ticks"]

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Begin at the next multiple; a position is the last one that was given."""
        last = position["last"] if isinstance(position, Mapping) else None
        return _TickReader(self, last if isinstance(last, int) else None, columns)

    def rows_until(self, last: int, now_ms: int) -> tuple[int, pa.RecordBatch] | None:
        """Return the number of the last tick after number `last` up to `now_ms`, and its record; None: there is none yet."""
        number = now_ms // self.every_ms
        if number <= last:
            return None
        time_ = pa.array([number * self.every_ms], _TIME)
        return number, pa.RecordBatch.from_arrays([time_, pa.array([number], pa.int64())], names=["time", "n"])


class _TickReader(SplitReader):
    def __init__(self, source: Ticks, last: int | None, columns: Sequence[str]) -> None:
        self._source, self._columns = source, tuple(columns)
        self._last = self._now() // source.every_ms if last is None else last

    def _now(self) -> int:
        return int(self._source.clock() * 1000)

    def start(self) -> Json:
        """Return the tick that was the last one when reading began."""
        return {"last": self._last}

    def read(self, max_rows: int) -> Chunk | End | None:
        """Return the tick that is due, if one is."""
        found = self._source.rows_until(self._last, self._now())
        if found is None:
            return None
        before, self._last = self._last, found[0]
        rows = found[1]
        columns = [rows.column(name) if name in rows.schema.names else no_metadata(name, 1) for name in self._columns]
        taken = pa.RecordBatch.from_arrays(columns, names=self._columns) if columns else rows.select([])
        times: Any = rows.column("time").cast(pa.int64())
        # Nothing is behind it until the next one: nobody waits for its time meanwhile.
        return Chunk(taken, {"last": before}, timestamps=times, idle=True)

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the tick behind the first `rows` rows of `chunk`."""
        return {"last": self._last} if rows else chunk.position
