"""Values of topics to rows and back, with what the runtime itself reads and writes them by."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.flow.convert import python_rows
from streamdsl._native.flow.values import converter_of
from streamdsl.errors import DataError, in_one_line, shown
from streamdsl.flink.python.calls import Reader
from streamdsl.flink.python.function import PythonValues
from streamdsl.flink.python.wire import encoder

__all__ = ["Decoding", "Encoding"]

_log = logging.getLogger("streamdsl")
#: So long a registry that does not answer is left alone.
_AGAIN_S: Final = 1.0


class Decoding:
    """Makes rows of values."""

    def __init__(self, made: PythonValues) -> None:
        self._made = made
        self._decoder = made.topic.value_decoder(made.columns.fields)
        # No field of a message is a struct: there is none to make a row of Flink of.
        self._columns = [(field.name, pa.types.is_map(field.type), encoder(field.type, tuple)) for field in made.columns.fields]
        self._skipped = 0
        self._waits = False

    def __call__(self, value: bytes | None, partition: int, offset: int) -> tuple[Any, ...] | None:
        """Return the columns of a value's row; None if it gives none.

        Raises
        ------
        DataError
            It is a bad one, and bad ones are not skipped.
        """
        if value is None and self._made.of_table:
            return None
        found = self._decoded(value)
        reason = found.bad.get(0)
        if reason is None:
            (row,) = python_rows(found.rows)
            if self._made.time is None or row[self._made.time] is not None:
                return tuple(self._sent(row[name], is_map, write) for name, is_map, write in self._columns)
            reason = "the record has no event time"
        if not self._made.skips:
            raise self._failure(value, partition, offset, reason)
        if not self._skipped:
            place = (self._made.topic.topic, partition, offset, shown(value))
            said = "%s: bad records are skipped; the first: %s at %s, partition %d, offset %d: %s"
            _log.warning(said, self._made.step, in_one_line(reason), *place)
        self._skipped += 1
        return None

    def _decoded(self, value: bytes | None) -> Any:
        """Decode a value, as soon as the registry answers."""
        while True:
            found = self._decoder.decode([value])
            if found.away is None:
                self._waits = False
                return found
            if not self._waits:
                _log.warning("%s: the schema registry does not answer yet (%s), trying again", self._made.step, in_one_line(found.away))
            self._waits = True
            time.sleep(_AGAIN_S)

    @staticmethod
    def _sent(value: Any, is_map: bool, write: Callable[[Any], Any] | None) -> Any:
        if value is None:
            return None
        plain = dict(value) if is_map else value
        return plain if write is None else write(plain)

    def _failure(self, value: bytes | None, partition: int, offset: int, reason: str) -> DataError:
        return DataError(
            f"a record cannot be read: {shown(value)}",
            remedy='mend the record, or give the stream errors="skip"',
            operator=self._made.step,
            topic=self._made.topic.topic,
            partition=partition,
            offset=offset,
            reason=reason,
        )


class Encoding:
    """Makes values of rows."""

    def __init__(self, made: PythonValues) -> None:
        self._reader = Reader(made.columns)
        self._fields = [(field, converter_of(field.type)) for field in made.columns.fields]
        self._schema = pa.schema([pa.field(field.name, field.type) for field in made.columns.fields])
        self._serializer = made.topic.value_serializer()

    def __call__(self, *values: Any) -> bytes:
        """Return the value of a row, whose columns are `values`."""
        row = self._reader.row(values)
        arrays = [pa.array([None if row[one.name] is None else convert(row[one.name])], one.type) for one, convert in self._fields]
        (value,) = self._serializer.values(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        return bytes(value)
