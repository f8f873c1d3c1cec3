"""Reads one version of a table, file by file, in the order in which the files were added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import pyarrow as pa

from streamdsl.connectors.base import END, METADATA_COLUMNS, Chunk, End, Json, Rejected, SplitReader, no_metadata
from streamdsl.connectors.delta.clients import asked, opened
from streamdsl.errors import ConnectorError
from streamdsl.formats.conform import check_columns, check_types, conform, raw_row
from streamdsl.formats.units import FirstNumbers

if TYPE_CHECKING:
    from streamdsl.connectors.delta.description import Delta

__all__ = ["TableReader"]

_BATCH_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Part(Chunk):
    """Good rows; `kept` are their numbers among all from the position on (None: they are all), and `end` is the place behind."""

    kept: tuple[int, ...] | None = None
    end: Json = None


class TableReader(SplitReader):
    """A position is a version, a file's number in it, a row of it, and how many rows were before."""

    def __init__(self, described: Delta, position: Json, columns: Sequence[str]) -> None:
        self._described, self._columns = described, tuple(columns)
        self._doing = f"reading the table {described.uri}"
        at = cast(Mapping[str, Any], position or {"version": described.version, "file": 0, "row": 0, "record": 0})
        table = opened(described.uri, described.options, self._doing, at["version"])
        if table is None:
            raise ConnectorError(f"{self._doing}: there is no table", remedy="check the address and storage_options=")
        self._version: int = table.version()
        self._file, self._row, self._record = at["file"], at["row"], at["record"]
        self._own = [field for field in described.schema.fields if field.name in columns]
        dataset = asked(self._doing, table.to_pyarrow_dataset)
        self._schema: pa.Schema = dataset.schema
        check_columns(described.uri, self._schema.names, described.schema.fields)
        check_types(described.uri, self._schema, self._own)
        self._first_numbers = FirstNumbers(self._own, described.uri)
        self._wanted = [field.name for field in self._own if field.name in self._schema.names]
        self._fragments = asked(self._doing, lambda: _in_order(table, dataset))
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._rest: pa.RecordBatch | None = None

    def read(self, max_rows: int) -> Chunk | End | None:
        """Return the next rows."""
        rows = asked(self._doing, self._next_rows)
        if rows is None:
            return END
        taken = rows.slice(0, max(max_rows, 1))
        self._rest = rows.slice(taken.num_rows) if rows.num_rows > taken.num_rows else None
        start, record = self._place(), self._record
        self._row += taken.num_rows
        self._record += taken.num_rows
        good, kept, bad = conform(taken, self._own, self._first_numbers)
        rejected = tuple(self._rejected(taken, row, row - number, record, bad[row]) for number, row in enumerate(sorted(bad)))
        numbers = [record + row for row in (range(taken.num_rows) if kept is None else kept)]
        return Part(
            self._with_metadata(good, numbers),
            start,
            rejected=rejected,
            kept=None if kept is None else tuple(kept),
            end=self._place(),
        )

    def _place(self) -> dict[str, int]:
        return {"version": self._version, "file": self._file, "row": self._row, "record": self._record}

    def _next_rows(self) -> pa.RecordBatch | None:
        while self._rest is None:
            if self._batches is None:
                if self._file == len(self._fragments):
                    return None
                fragment = self._fragments[self._file]
                # Without a column nothing would say how many rows there are.
                wanted = self._wanted or self._schema.names[:1]
                self._batches = iter(fragment.to_batches(schema=self._schema, columns=wanted, batch_size=_BATCH_ROWS, use_threads=False))
                self._skip = self._row
            batch = next(self._batches, None)
            if batch is None:
                self._batches, self._file, self._row = None, self._file + 1, 0
                continue
            fresh = batch.slice(min(self._skip, batch.num_rows))
            self._skip -= batch.num_rows - fresh.num_rows
            if fresh.num_rows:
                self._rest = fresh
        return self._rest

    def _with_metadata(self, rows: pa.RecordBatch, numbers: list[int]) -> pa.RecordBatch:
        arrays = []
        for name in self._columns:
            if name in rows.schema.names:
                arrays.append(rows.column(name))
            elif name == "_topic":
                arrays.append(pa.repeat(pa.scalar(self._described.name, pa.string()), len(numbers)))
            elif name == "_partition":
                arrays.append(pa.repeat(pa.scalar(0, pa.int32()), len(numbers)))
            elif name == "_offset":
                arrays.append(pa.array(numbers, pa.int64()))
            else:
                assert name in METADATA_COLUMNS
                arrays.append(no_metadata(name, len(numbers)))
        if not arrays:
            return pa.RecordBatch.from_struct_array(pa.repeat(pa.scalar({}, pa.struct([])), len(numbers)))
        return pa.RecordBatch.from_arrays(arrays, names=list(self._columns))

    def _rejected(self, rows: pa.RecordBatch, row: int, before: int, record: int, reason: str) -> Rejected:
        return Rejected(before, raw_row(rows, row), reason, self._described.uri, 0, record + row)

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the place behind the first `rows` good rows."""
        part = cast(Part, chunk)
        if rows == chunk.rows.num_rows:
            return part.end
        taken = 0 if not rows else rows if part.kept is None else part.kept[rows - 1] + 1
        start = cast(Mapping[str, int], chunk.position)
        return {**start, "row": start["row"] + taken, "record": start["record"] + taken}

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected:
        """Return a good row as JSON, with its number."""
        part = cast(Part, chunk)
        at = row if part.kept is None else part.kept[row]
        record = cast(Mapping[str, int], chunk.position)["record"]
        return Rejected(row, raw_row(chunk.rows, row), reason, self._described.uri, 0, record + at)

    def close(self) -> None:
        """Let the file go."""
        self._batches = self._rest = None


def _in_order(table: Any, dataset: Any) -> list[Any]:
    """Return the files of a table, those first that were added first."""
    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    added = {unquote(action["path"]): action["modification_time"] for action in actions}

    def order(fragment: Any) -> tuple[int, str]:
        at = added.get(unquote(fragment.path))
        return (0 if at is None else int(at.timestamp() * 1000) if hasattr(at, "timestamp") else int(at), fragment.path)

    return sorted(dataset.get_fragments(), key=order)
