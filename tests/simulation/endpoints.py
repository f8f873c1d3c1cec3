"""The ends of a simulated topology: splits whose cuts, waits and idleness were drawn, and sinks that a power cut tears."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from streamdsl._native.event_time.clock import ManualClock
from streamdsl.connectors.base import (
    END,
    METADATA_COLUMNS,
    POSITION_COLUMNS,
    Chunk,
    End,
    Json,
    Sink,
    SinkWriter,
    Source,
    SplitFeed,
    SplitReader,
    Together,
    no_metadata,
)
from streamdsl.schema import Schema


@dataclass(slots=True)
class Entry:
    """One entry of a split: `rows` rows, then a word about time; or a wait of so many ms before what follows."""

    rows: int = 0
    watermark: int | None = None
    idle: bool = False
    wait_ms: int = 0


@dataclass(slots=True)
class SplitLog:
    """A split: its rows as one batch, how they are cut, in order. `at` are the numbers of its rows in the source."""

    batch: pa.RecordBatch
    at: list[int]
    entries: list[Entry] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)  # the watermark that the first k rows allow


class SimulatedSource(Source):
    """Reads split logs. `fed`: one feed brings the rows of a task's splits, several of them in one batch."""

    def __init__(
        self,
        name: str,
        schema: Any,
        logs: Mapping[str, SplitLog],
        clock: ManualClock,
        *,
        bounded: bool,
        partitioned_by: str | None = None,
        fed: bool = False,
    ) -> None:
        self.name, self.schema, self.logs, self.clock, self.bounded = name, Schema.of(schema), logs, clock, bounded
        self.partitioned_by = partitioned_by
        self.fed, self.read_together = fed, 0
        self.opened: dict[str, Json] = {}  # split -> position at which the last start opened it

    def splits(self) -> Sequence[str]:
        return list(self.logs)

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        self.opened[split] = position
        return _Reader(self.name, self.logs[split], position, columns, self.clock)

    def open_splits(self, positions: Mapping[str, Json], columns: Sequence[str], *, own_time: bool) -> Mapping[str, SplitReader]:
        readers = super().open_splits(positions, columns, own_time=own_time)
        if self.fed:
            feed = _Feed(self, readers)
            for reader in readers.values():
                reader.feed = lambda: feed  # type: ignore[method-assign]
        return readers


class _Feed(SplitFeed):
    """Says that every split has something, and hands over together what can be."""

    def __init__(self, source: SimulatedSource, readers: Mapping[str, Any]) -> None:
        self._source, self._readers = source, readers

    def poll(self) -> Collection[str]:
        return list(self._readers)

    def read_together(self, splits: Collection[str], max_rows: int) -> Together | None:
        waiting = [split for split in splits if self._readers[split].next_rows()]
        if len(waiting) < 2 or sum(self._readers[split].next_rows() for split in waiting) > max_rows:
            return None
        self._source.read_together += 1
        parts = [(split, self._readers[split].read(max_rows)) for split in waiting]
        return Together(pa.concat_batches([chunk.rows for _, chunk in parts]), parts)


class _Reader(SplitReader):
    """A position is [entry, rows of the entry that are taken, rows of the split that are taken]."""

    def __init__(self, name: str, log: SplitLog, position: Any, columns: Sequence[str], clock: ManualClock) -> None:
        self._entries = log.entries
        if METADATA_COLUMNS.keys().isdisjoint(columns):
            self._rows = log.batch.select(list(columns))
        else:
            self._rows = pa.RecordBatch.from_arrays([_column(name, log, column) for column in columns], names=list(columns))
        self._entry, self._skip, self._row = (0, 0, 0) if position is None else position
        self._clock = clock
        self._until = -1

    def next_rows(self) -> int:
        """Return how many rows may be read at once; 0: there is something else to be read, or to be waited for."""
        entry = self._entries[self._entry] if self._entry < len(self._entries) else Entry()
        return 0 if entry.wait_ms else entry.rows - self._skip

    def read(self, max_rows: int) -> Chunk | End | None:
        at = self._entry
        if at >= len(self._entries):
            return END
        entry = self._entries[at]
        if entry.wait_ms:
            if self._until < 0:
                self._until = self._clock.ms + entry.wait_ms
            if self._clock.ms < self._until:
                return None
            self._until = -1
            self._entry += 1
            return self.read(max_rows)
        skip, row = self._skip, self._row
        rows = self._rows.slice(row, entry.rows - skip)
        self._entry, self._skip, self._row = at + 1, 0, row + entry.rows - skip
        return Chunk(rows, [at, skip, row], watermark=entry.watermark, idle=entry.idle)

    def position(self, chunk: Chunk, rows: int) -> Json:
        entry, skip, row = chunk.position  # type: ignore[misc, union-attr]
        if rows == chunk.rows.num_rows:
            return [entry + 1, 0, row + rows]
        return [entry, skip + rows, row + rows]


def _column(name: str, log: SplitLog, column: str) -> pa.Array:
    if column not in METADATA_COLUMNS:
        return log.batch.column(column)
    if column not in POSITION_COLUMNS:
        return no_metadata(column, len(log.at))
    values = {"_topic": [name] * len(log.at), "_partition": [0] * len(log.at), "_offset": log.at}[column]
    return pa.array(values, METADATA_COLUMNS[column])


class SimulatedSink(Sink):
    """Keeps what is written as it comes; rows are made at the end. Durable is what a snapshot has counted."""

    gathers = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.batches: list[tuple[pa.RecordBatch, pa.Int64Array]] = []
        self.length = 0
        self.durable = 0
        self.restored: int | None = None  # length at the last start
        self.missing = 0  # rows that a checkpoint covers and that were not there

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        length = state["length"] if isinstance(state, Mapping) else 0
        assert isinstance(length, int)
        self.missing = max(0, length - self.length)
        self.cut(length)
        self.restored = length
        return _Writer(self)

    def cut(self, length: int) -> None:
        """Keep the first `length` rows."""
        while self.length > length:
            rows, times = self.batches.pop()
            kept = max(0, length - (self.length - rows.num_rows))
            self.length -= rows.num_rows - kept
            if kept:
                self.batches.append((rows.slice(0, kept), times.slice(0, kept)))
        self.durable = min(self.durable, self.length)

    def power_cut(self, draw: random.Random) -> None:
        """Lose some of what no snapshot has made durable."""
        self.cut(draw.randint(self.durable, self.length))

    def rows(self) -> list[tuple[int, tuple[Any, ...]]]:
        """Return (event time, row) of everything written."""
        if not self.batches:
            return []
        whole = pa.Table.from_batches([rows for rows, _ in self.batches])
        # Times are compared as the numbers they are.
        columns = [(column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist() for column in whole.columns]
        times = [time for _, own in self.batches for time in own.to_pylist()]
        return list(zip(times, zip(*columns, strict=True), strict=True))

    @property
    def columns(self) -> list[str]:
        """Names of the columns, as far as anything was written."""
        return self.batches[0][0].schema.names if self.batches else []


class _Writer(SinkWriter):
    def __init__(self, sink: SimulatedSink) -> None:
        self.sink = sink

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        self.sink.batches.append((rows, timestamps))
        self.sink.length += rows.num_rows

    def snapshot(self, checkpoint_id: int) -> Json:
        self.sink.durable = self.sink.length
        return {"length": self.sink.length}
