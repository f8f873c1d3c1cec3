"""Calls of a topology's functions with what comes from Flink: the same rows, the same checks, the same errors as here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from streamdsl._native.flow.values import converter_of
from streamdsl._native.operators.user_code import judgement, results_of
from streamdsl._native.rows.row import Row, RowShape, row_of
from streamdsl._native.rows.row_results import BadRow
from streamdsl._native.rows.row_writer import RowWriter
from streamdsl.errors import UserCodeError
from streamdsl.flink.python.function import PythonFunction
from streamdsl.flink.python.wire import decoder, encoder
from streamdsl.schema import Schema

__all__ = ["Calls", "Reader", "Writer", "failure"]

_log = logging.getLogger("streamdsl")


class Reader:
    """Makes rows of the values that come from Flink."""

    def __init__(self, schema: Schema) -> None:
        self.names = schema.names
        self._shape = RowShape(schema)
        self._decoders = [decoder(field.type) for field in schema.fields]

    def row(self, values: Iterable[Any]) -> Row:
        """Return a row."""
        pairs = zip(self.names, self._decoders, values, strict=True)
        return row_of(self._shape, {name: value if read is None or value is None else read(value) for name, read, value in pairs})


class Writer:
    """Makes what goes to Flink of the rows that user code returns."""

    def __init__(self, operator: str, schema: Schema, row: Callable[..., Any]) -> None:
        self._writer = RowWriter(operator, SimpleNamespace(fields=schema.visible().fields))
        self._encoders = [encoder(field.type, row) for field in schema.visible().fields]

    def values(self, result: Any) -> tuple[Any, ...]:
        """Return the values of a result; raise `BadRow` if it is no row of the schema."""
        checked = self._writer.checked(result)
        pairs = zip(self._encoders, checked, strict=True)
        return tuple(value if write is None or value is None else write(value) for write, value in pairs)


def failure(step: str, doing: str, error: Exception, row: Any = None, key: Any = None) -> UserCodeError:
    """Return the error for what user code raised."""
    what = str(error) if isinstance(error, BadRow) else f"{type(error).__name__}: {error}"
    message = f"{step}: {doing} failed: {what}"
    if row is not None:
        message = f"{message}; row {dict(row)!r}"
    if key is not None:
        message = f"{message}; key {key!r}"
    field = getattr(error, "field", None) if isinstance(error, BadRow) else None
    return UserCodeError(message, remedy='Mend the function, or choose errors="skip".', operator=step, field=field)


class Calls:
    """Calls a function row by row.

    Parameters
    ----------
    made : PythonFunction
    row : callable
        Makes a struct of Flink of its fields.
    """

    def __init__(self, made: PythonFunction, row: Callable[..., Any] = lambda *values: values) -> None:
        self._made = made
        self._function = made.function
        self._reader = Reader(made.given)
        self._writer = Writer(made.step, made.made, row)
        self._skipped = 0
        self._call = {
            "map": self._map,
            "flat_map": self._flat_map,
            "filter": self._filter,
            "peek": self._peek,
            "test": self._test,
            "batches": self._batch,
        }[made.mode]
        fields = made.given.fields
        self._columns = [(field, converter_of(field.type)) for field in fields] if made.mode == "batches" else []

    def __call__(self, *values: Any) -> list[tuple[Any, ...]]:
        """Return the rows that become of a row, whose columns are `values`."""
        row = self._reader.row(values)
        try:
            return list(self._call(row))
        except Exception as error:  # whatever user code raises
            failed = failure(self._made.step, "the function", error, row)
            if not self._made.skips:
                raise failed from error
            if not self._skipped:
                _log.warning("%s: bad records are skipped; the first: %s", self._made.step, failed.message)
            self._skipped += 1
            return []

    def _map(self, row: Row) -> Iterator[tuple[Any, ...]]:
        result = self._function(row)
        results_of(result)
        if result is None:
            raise BadRow("map returned None; it returns a row (flat_map may return none, filter drops rows)")
        yield self._writer.values(result)

    def _flat_map(self, row: Row) -> Iterator[tuple[Any, ...]]:
        for result in results_of(self._function(row)):
            yield self._writer.values(result)

    def _filter(self, row: Row) -> Iterator[tuple[Any, ...]]:
        if judgement(self._function(row)):
            yield (True,)

    def _test(self, row: Row) -> Iterator[tuple[Any, ...]]:
        yield (judgement(self._function(row)),)

    def _peek(self, row: Row) -> Iterator[tuple[Any, ...]]:
        results_of(self._function(row))
        yield (True,)

    def _batch(self, row: Row) -> Iterator[tuple[Any, ...]]:
        arrays = [pa.array([None if row[f.name] is None else convert(row[f.name])], f.type) for f, convert in self._columns]
        schema = pa.schema([pa.field(f.name, f.type, nullable=f.nullable) for f, _ in self._columns])
        result = self._function(pa.RecordBatch.from_arrays(arrays, schema=schema))
        results_of(result)
        if result is None:
            return
        if not isinstance(result, pa.RecordBatch | pa.Table):
            raise BadRow(f"the function of a batch returns a RecordBatch, not {type(result).__name__}")
        if "_row" in result.schema.names:
            result = result.drop_columns(["_row"])
        elif result.num_rows != 1:
            raise BadRow(f"a batch of 1 row came back as one of {result.num_rows}; add the column _row, the number of the input row")
        for item in result.to_pylist():
            yield self._writer.values(item)
