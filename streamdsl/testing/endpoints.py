"""The driver's ends of a topology: a source that is a log the test writes, a sink that is a list the test reads."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from streamdsl._native.flow.convert import python_rows
from streamdsl._native.flow.values import NotAValue, named_column
from streamdsl.connectors.base import END, Chunk, End, Json, Rejected, Sink, SinkWriter, Source, SplitReader, no_metadata
from streamdsl.errors import DataError
from streamdsl.schema import Schema


@dataclass(slots=True)
class Entry:
    """One entry of a split's log: rows, or a word about time (watermark, idle), or the end.

    With `offsets` the rows say themselves where they came from, in partition 0: that does not depend on the split.
    """

    rows: pa.RecordBatch | None = None
    timestamps: pa.Int64Array | None = None
    offsets: pa.Int64Array | None = None
    watermark: int | None = None
    idle: bool | None = None
    end: bool = False


@dataclass(slots=True)
class Log:
    """What was sent to one split; it survives a crash, as a topic does. `offset`: rows so far."""

    entries: list[Entry] = field(default_factory=list)
    offset: int = 0


class DriverSource(Source):
    """Stands in for the source `name`; its splits are logs. A bounded one is read together with others in event-time order."""

    def __init__(self, name: str, schema: Schema, partitions: int, errors: Any, *, bounded: bool = False) -> None:
        self.name, self.schema, self.errors, self.bounded = name, schema, errors, bounded
        self.logs = {str(i): Log() for i in range(partitions)}

    def splits(self) -> Sequence[str]:
        """Return the names of the splits: "0", "1", …"""
        return list(self.logs)

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Open a log at entry `position["entry"]`, `position["skip"]` rows into it."""
        return _LogReader(self, split, position if isinstance(position, Mapping) else {"entry": 0, "skip": 0}, columns)

    def batch_of(self, rows: Any) -> pa.RecordBatch:
        """Return rows (dicts, dataclasses, a RecordBatch or Table) as one batch in the declared types."""
        schema = pa.schema([pa.field(f.name, f.type) for f in self.schema.fields if not f.hidden])
        if isinstance(rows, pa.Table):
            rows = rows.combine_chunks().to_batches()[0] if rows.num_rows else pa.RecordBatch.from_pylist([], schema=schema)
        try:
            if isinstance(rows, pa.RecordBatch):
                self._known(rows.schema.names)
                columns = [
                    rows.column(f.name).cast(f.type) if f.name in rows.schema.names else pa.nulls(rows.num_rows, f.type) for f in schema
                ]
                return self._with_defaults(pa.RecordBatch.from_arrays(columns, schema=schema))
            values = [_mapping(row) for row in rows]
            for row in values:
                self._known(row)
            columns = [named_column(values, f.name, f.type) for f in schema]
            return self._with_defaults(pa.RecordBatch.from_arrays(columns, schema=schema))
        except NotAValue as error:
            raise DataError(f"a row does not fit source {self.name!r}: {error}", operator=self.name) from None
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
            raise DataError(f"a row does not fit source {self.name!r}: {error}", operator=self.name) from None

    def _known(self, names: Iterable[str]) -> None:
        declared = [f.name for f in self.schema.fields if not f.hidden]
        unknown = sorted(set(names) - set(declared))
        if unknown:
            raise DataError(
                f"source {self.name!r} has no column {unknown[0]!r}",
                operator=self.name,
                field=unknown[0],
                remedy=f"its columns: {', '.join(declared)}",
            )

    def _with_defaults(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        shown = [f for f in self.schema.fields if not f.hidden]
        return pa.RecordBatch.from_arrays([f.filled(batch.column(f.name)) for f in shown], schema=batch.schema)


def _mapping(row: Any) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return dict(row)
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
    if hasattr(row, "_asdict"):
        return dict(row._asdict())
    raise DataError(f"a row is a dict, a dataclass or a named tuple, not {type(row).__name__}")


class _LogReader(SplitReader):
    def __init__(self, source: DriverSource, split: str, position: Mapping[str, Any], columns: Sequence[str]) -> None:
        self.source, self.split, self.columns = source, split, list(columns)
        self.log = source.logs[split]
        self.entry, self.skip = position["entry"], position["skip"]
        self.offset = sum(e.rows.num_rows for e in self.log.entries[: self.entry] if e.rows is not None)

    def read(self, max_rows: int) -> Chunk | End | None:
        if self.entry >= len(self.log.entries):
            return None
        entry, at, skip = self.log.entries[self.entry], self.entry, self.skip
        if entry.end:
            return END
        self.entry, self.skip = self.entry + 1, 0
        if entry.rows is None:
            empty = self._select(self.source.batch_of([]))
            return Chunk(empty, {"entry": at + 1, "skip": 0}, watermark=entry.watermark, idle=entry.idle)
        rows = self._select(entry.rows, entry.offsets).slice(skip)
        self.offset += entry.rows.num_rows
        times = None if entry.timestamps is None else entry.timestamps.slice(skip)
        return Chunk(rows, {"entry": at, "skip": skip}, timestamps=times)

    def _select(self, batch: pa.RecordBatch, offsets: pa.Int64Array | None = None) -> pa.RecordBatch:
        partition = int(self.split) if offsets is None else 0
        if offsets is None:
            offsets = pa.array(range(self.offset, self.offset + batch.num_rows), pa.int64())
        metadata = {
            "_topic": lambda: pa.array([self.source.name] * batch.num_rows, pa.string()),
            "_partition": lambda: pa.array([partition] * batch.num_rows, pa.int64()),
            "_offset": lambda: offsets,
        }
        arrays = [self._column(n, batch) if n in batch.schema.names or n not in metadata else metadata[n]() for n in self.columns]
        if not arrays:
            return pa.RecordBatch.from_struct_array(pa.array([{}] * batch.num_rows, pa.struct([])))
        return pa.RecordBatch.from_arrays(arrays, names=self.columns)

    @staticmethod
    def _column(name: str, batch: pa.RecordBatch) -> pa.Array:
        return batch.column(name) if name in batch.schema.names else no_metadata(name, batch.num_rows)

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected:
        start: dict[str, int] = dict(chunk.position)  # type: ignore[arg-type]
        entries = self.log.entries
        rows = entries[start["entry"]].rows
        assert rows is not None
        before = sum(e.rows.num_rows for e in entries[: start["entry"]] if e.rows is not None)
        raw = json.dumps(python_rows(rows.slice(start["skip"] + row, 1))[0], default=str).encode()
        return Rejected(row, raw, reason, self.source.name, int(self.split), before + start["skip"] + row)

    def position(self, chunk: Chunk, rows: int) -> Json:
        start: dict[str, int] = dict(chunk.position)  # type: ignore[arg-type]
        if chunk.rows.num_rows == 0:
            return start
        if rows == chunk.rows.num_rows:
            return {"entry": start["entry"] + 1, "skip": 0}
        return {"entry": start["entry"], "skip": start["skip"] + rows}


class DriverSink(Sink):
    """Stands in for the sink `name`. `rows` holds (timestamp, row); what no checkpoint covers goes with a crash."""

    gathers = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[tuple[int, dict[str, Any]]] = []
        self._seen: list[bool] = []  # of each row, whether the test has read it
        self._first = 0  # all rows before it have been read
        self._gone: Counter[str] = Counter()  # read, and undone by a crash: they come again

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Cut the list to the length in the checkpoint and append to it."""
        length = state["length"] if isinstance(state, Mapping) else 0
        assert isinstance(length, int)
        self._gone.update(repr(row) for row, seen in zip(self.rows[length:], self._seen[length:], strict=True) if seen)
        del self.rows[length:], self._seen[length:]
        self._first = min(self._first, length)
        return _ListWriter(self)

    def add(self, rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        """Take in rows that were written."""
        self.rows.extend(rows)
        self._seen.extend([False] * len(rows))

    def take(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the rows that have not been taken yet."""
        new = [self.rows[i] for i in range(self._first, len(self.rows)) if not self._seen[i]]
        self._seen[self._first :] = [True] * (len(self.rows) - self._first)
        self._first = len(self.rows)
        return new

    def recognise(self) -> None:
        """Take the rows that have come again after a crash, in whatever order, for those that the test has read before."""
        for i in range(self._first, len(self.rows)):
            text = repr(self.rows[i])
            if not self._seen[i] and self._gone[text]:
                self._gone[text] -= 1
                self._seen[i] = True
        self._gone.clear()


class _ListWriter(SinkWriter):
    def __init__(self, sink: DriverSink) -> None:
        self.sink = sink

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        self.sink.add(list(zip(timestamps.to_pylist(), python_rows(rows), strict=True)))

    def snapshot(self, checkpoint_id: int) -> Json:
        return {"length": len(self.sink.rows)}


def rows_of(value: Any) -> Iterable[Any]:
    """Return what `send_batch` was given as something `batch_of` takes."""
    return value if isinstance(value, pa.RecordBatch | pa.Table) else list(value)
