"""`memory(...)`: rows that are given or collected."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow as pa

from streamdsl._native.flow.convert import python_rows
from streamdsl._native.flow.values import NotAValue, named_column
from streamdsl.connectors.base import (
    END,
    METADATA_COLUMNS,
    Chunk,
    End,
    Json,
    Rejected,
    Sink,
    SinkWriter,
    Source,
    SplitReader,
    check_texts,
    no_metadata,
)
from streamdsl.errors import ConnectorError, TopologyError
from streamdsl.formats.units import FirstNumbers
from streamdsl.records import values_of
from streamdsl.schema import Schema

__all__ = ["Memory", "memory"]


_INDEX = re.compile(r"__index_level_\d+__")


class Store:
    """What the writers of one sink have collected, by task; safe to read while they write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: dict[int, list[pa.RecordBatch]] = {}
        self._schema: pa.Schema | None = None

    def open(self, task: int, schema: pa.Schema, rows: int) -> None:
        """Keep the first `rows` rows of `task`."""
        with self._lock:
            self._schema = schema
            held = self._batches.get(task, [])
            if sum(batch.num_rows for batch in held) < rows:
                raise ConnectorError(
                    f"the collected rows are gone: the checkpoint wrote {rows}",
                    remedy="restore with the same memory() object, or start with an empty state directory",
                )
            kept = []
            for batch in held:
                if rows:
                    kept.append(batch.slice(0, rows))
                    rows -= kept[-1].num_rows
            self._batches[task] = kept

    def append(self, task: int, rows: pa.RecordBatch) -> None:
        """Add rows of `task`."""
        with self._lock:
            self._batches[task].append(pa.RecordBatch.from_arrays(rows.columns, schema=self._schema))

    def table(self, schema: pa.Schema) -> pa.Table:
        """Return everything, task by task."""
        with self._lock:
            batches = [batch for task in sorted(self._batches) for batch in self._batches[task]]
            return pa.Table.from_batches(batches, self._schema if self._schema is not None else schema)


@dataclass(frozen=True, eq=False)
class Memory(Source, Sink):
    """Rows in memory; made by `memory`."""

    name: str
    schema: Schema
    given: pa.RecordBatch | None = None
    split_count: int = 1
    inferred: bool = False  # nobody declared the schema: it is that of the rows
    store: Store = field(default_factory=Store)

    bounded = True
    gathers = True
    errors = None
    rate = None
    position_form = "rows in memory"

    def with_schema(self, schema: Any) -> Memory:
        """Return the same rows with the columns of `schema`."""
        declared = Schema.of(schema)
        return replace(self, schema=declared, given=_typed(self.name, self.given, declared), inferred=False)

    def splits(self) -> Sequence[str]:
        """Return the names of the splits."""
        return tuple(str(number) for number in range(self.split_count))

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Read the rows that were given; without any, those that were collected."""
        number = int(split)
        rows = self._present()
        if self.split_count > 1:
            rows = rows.take(pa.array(range(number, rows.num_rows, self.split_count), pa.int64()))
        return MemoryReader(self.name, number, rows, _row_of(position), columns, self.schema)

    def _present(self) -> pa.RecordBatch:
        if self.given is not None:
            return self.given
        table = self.table().combine_chunks()
        return table.to_batches()[0] if table.num_rows else empty(table.schema)

    def has_more(self, split: str, position: Json) -> bool:
        """Return whether rows have been added behind those that a split had."""
        return len(range(int(split), self._present().num_rows, self.split_count)) > _row_of(position)

    def has_new(self, positions: Mapping[str, Json]) -> bool:
        """Return whether rows have been added."""
        return any(name not in positions or self.has_more(name, positions[name]) for name in self.splits())

    def overwrites(self, source: Source) -> str:
        """Refuse to collect rows under the very object that is read: what it reads would depend on how far it has come."""
        return self.name if isinstance(source, Memory) and source.store is self.store and source.given is None else ""

    def collides(self, other: Sink) -> str:
        """Refuse to collect the rows of two sinks under one object."""
        return self.name if isinstance(other, Memory) and other.store is self.store else ""

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Collect rows behind those of the checkpoint."""
        at = cast(Mapping[str, Any], state or {"rows": 0, "columns": None})
        visible = schema.visible()
        columns = [f"{item.name}: {item.type}" for item in visible.fields]
        if state is not None and at["columns"] != columns:
            raise ConnectorError(
                f"memory({self.name!r}) has collected rows of ({', '.join(at['columns'])}), the sink writes ({', '.join(columns)}) now",
                remedy="change the topology back, or collect under another name and let the old state go by Config(drop_state=[...])",
            )
        self.store.open(task, visible.to_arrow(), at["rows"])
        return MemoryWriter(self.store, task, at["rows"], columns)

    def table(self) -> pa.Table:
        """Return the rows that were collected."""
        return self.store.table(self.schema.to_arrow())

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows that were collected, as dictionaries."""
        return python_rows(self.table())


def _row_of(position: Json) -> int:
    at = cast(Mapping[str, int], position or {"start": 0, "skip": 0})
    return at["start"] + at["skip"]


class MemoryReader(SplitReader):
    """Hands out slices of the rows, without a copy."""

    def __init__(self, name: str, split: int, rows: pa.RecordBatch, at: int, columns: Sequence[str], schema: Schema) -> None:
        self._name = name
        self._schema = schema
        self._split = split
        self._rows = rows
        self._at = at
        self._columns = tuple(columns)

    def read(self, max_rows: int) -> Chunk | End | None:
        """Return up to `max_rows` rows."""
        if self._at >= self._rows.num_rows:
            return END
        first = self._at
        rows = self._rows.slice(first, max(max_rows, 1))
        self._at += rows.num_rows
        arrays = [self._column(name, rows, first) for name in self._columns]
        fields = [pa.field(name, column.type) for name, column in zip(self._columns, arrays, strict=True)]
        if not arrays:
            return Chunk(pa.RecordBatch.from_struct_array(pa.repeat(pa.scalar({}, pa.struct([])), rows.num_rows)), first)
        return Chunk(pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)), first)

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected:
        """Return the row as JSON, with its number in the split."""
        at = cast(int, chunk.position) + row
        raw = json.dumps(python_rows(self._rows.slice(at, 1))[0], default=str).encode()
        return Rejected(row, raw, reason, self._name, self._split, at)

    def _column(self, name: str, rows: pa.RecordBatch, first: int) -> pa.Array:
        if name in self._schema or name not in METADATA_COLUMNS:
            return rows.column(name)
        if name == "_offset":
            return pa.array(range(first, first + rows.num_rows), pa.int64())
        if name not in ("_topic", "_partition"):
            return no_metadata(name, rows.num_rows)
        value = self._name if name == "_topic" else self._split
        return pa.repeat(pa.scalar(value, METADATA_COLUMNS[name]), rows.num_rows)


class MemoryWriter(SinkWriter):
    """Collects the rows of one task. The state is their number, and the columns."""

    def __init__(self, store: Store, task: int, rows: int, columns: list[str]) -> None:
        self._columns = columns
        self._store = store
        self._task = task
        self._rows = rows

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Collect rows."""
        if rows.num_rows:
            self._store.append(self._task, rows)
            self._rows += rows.num_rows

    def snapshot(self, checkpoint_id: int) -> Json:
        """Return how many rows there are, and of which columns."""
        return {"rows": self._rows, "columns": self._columns}


def memory(name: str, schema: Any = None, rows: Any = None, splits: int = 1) -> Memory:
    """Read rows that are given, or collect rows.

    Parameters
    ----------
    name : str
        Name of the source or sink.
    schema : dataclass, pyarrow.Schema or mapping, optional
        Columns of the source; default: of the rows.
    rows : list of records, data frame, pyarrow Table or RecordBatch, optional
        What a source reads: dicts, or instances of any class that can be a schema; a frame of pandas or Polars, a result of DuckDB,
        whatever has ``__arrow_c_stream__``. Without, it reads what was collected under the same object. A null in a column that is never
        null is a bad record when it is read: ``errors=`` says what becomes of it.
    splits : int
        The rows are dealt out to so many splits: row i belongs to split i mod splits.

    Raises
    ------
    TopologyError
        The rows do not fit the schema.

    Examples
    --------
    >>> memory("numbers", {"n": "int64"}, [{"n": 1}, {"n": 2}]).schema.names
    ('n',)
    """
    check_texts("memory", 'write memory("orders", rows=[...])', name=name)
    if not name:
        raise TopologyError("memory() needs a name", remedy='write memory("orders", rows=[...])')
    if splits < 1:
        raise TopologyError(f"memory(splits={splits}): at least 1")
    declared = None if schema is None else Schema.of(schema)
    if rows is None:
        return Memory(name, declared or Schema(), split_count=splits)
    table = _frame(rows)
    if table is not None:
        rows = _batch(table)
    if not isinstance(rows, pa.RecordBatch):
        rows, declared = _from_python(name, rows, declared)
    return Memory(name, declared or Schema.of(rows.schema), _typed(name, rows, declared), splits, inferred=schema is None)


def _frame(rows: Any) -> pa.Table | None:
    """Return a data frame of any library, or the result of a query, as a table; None: it is none."""
    if isinstance(rows, (pa.RecordBatch, list, tuple, dict, str, bytes)):
        return None
    if isinstance(rows, pa.Table):
        return rows
    if hasattr(rows, "collect_schema") and hasattr(rows, "collect"):  # a lazy frame of Polars
        rows = rows.collect()
    if not hasattr(rows, "__arrow_c_stream__") and not hasattr(rows, "__arrow_c_array__"):
        for name in ("fetch_arrow_table", "to_arrow_table", "to_arrow"):  # of DuckDB, for one
            if hasattr(rows, name):
                rows = getattr(rows, name)()
                break
        else:
            return None
    try:
        table = pa.table(rows)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise TopologyError(
            f"memory(): {type(rows).__name__} does not become a table: {error}", remedy="give a frame with named columns"
        ) from error
    # What pandas makes of an index without a name; one with a name is a column.
    return table.drop_columns([name for name in table.column_names if _INDEX.fullmatch(name)])


def empty(schema: pa.Schema) -> pa.RecordBatch:
    """Return no rows of `schema`."""
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else empty(table.schema)


def _from_python(name: str, rows: Iterable[Any], schema: Schema | None) -> tuple[pa.RecordBatch, Schema]:
    listed = list(rows)
    if schema is None:
        if not listed:
            raise TopologyError(f"memory({name!r}): no rows to take the columns from", remedy="give schema=")
        if not isinstance(listed[0], Mapping) and values_of(listed[0]) is not None and not hasattr(listed[0], "_fields"):
            schema = Schema.of(listed[0])
    values = [_as_dict(name, number, row, schema) for number, row in enumerate(listed)]
    try:
        if schema is None:
            batch = pa.RecordBatch.from_pylist(values)
            return batch, Schema.of(batch.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise TopologyError(f"memory({name!r}): the rows have no common schema: {error}", remedy="give schema=") from error
    first_numbers = FirstNumbers(schema.fields, f"memory({name!r})")
    for item in schema.fields:
        first_numbers.look_at_values(item.name, [row.get(item.name) for row in values])
    try:
        return pa.RecordBatch.from_arrays(
            [named_column(values, field.name, field.type) for field in schema.fields],
            schema=pa.schema([(field.name, field.type) for field in schema.fields]),
        ), schema
    except NotAValue as error:
        raise TopologyError(f"memory({name!r}): the rows do not fit the schema: {error}") from None


def _as_dict(name: str, number: int, row: Any, schema: Schema | None) -> Mapping[str, Any]:
    values: Mapping[str, Any] | None = row if isinstance(row, Mapping) else values_of(row)
    if values is None:
        raise TopologyError(f"memory({name!r}): row {number} is {row!r}, not a dict or an instance of a class of records")
    if schema is not None:
        for key in values:
            schema.index(key)
    return values


def _typed(name: str, rows: pa.RecordBatch | None, schema: Schema | None) -> pa.RecordBatch | None:
    """Return `rows` with the columns of `schema`, or raise. A null in a column that is never null is a bad record once it is read."""
    if rows is None or schema is None:
        return rows
    columns = []
    first_numbers = FirstNumbers(schema.fields, f"memory({name!r})")
    for item in schema.fields:
        if item.name not in rows.schema.names:
            column = pa.nulls(rows.num_rows, item.type)
        else:
            first_numbers.look_at_column(item.name, rows.column(item.name))
            try:
                column = rows.column(item.name).cast(item.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise TopologyError(f"memory({name!r}): column {item.name!r} is not {item.type}: {error}") from error
        columns.append(item.filled(column))
    fields = pa.schema([(item.name, item.type) for item in schema.fields])
    return pa.RecordBatch.from_arrays(columns, schema=fields) if columns else rows.select([])
