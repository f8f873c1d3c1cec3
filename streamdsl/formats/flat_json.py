"""The fast way for JSON objects whose columns are all numbers, booleans and texts: most records, and most columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from streamdsl._native.flow.native_rows import NativeRows
from streamdsl._native.serdes.json_reader import JsonReader
from streamdsl.formats.conform import arrow_schema, bounds_of
from streamdsl.schema import Field

__all__ = ["FlatReader"]

_AS_THEY_ARE: Final = (pa.int64(), pa.uint64(), pa.float64(), pa.bool_(), pa.string())


class FlatReader:
    """Reads plain records (see `json_reader.pxd`) and leaves the others."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._schema = arrow_schema(fields)
        read = pa.schema([(field.name, field.type if field.type in _AS_THEY_ARE else pa.int64()) for field in fields])
        self._narrow = [index for index, field in enumerate(fields) if field.type != read.types[index]]
        bounds = [bounds_of(field.type) if type_ == pa.int64() else (0, 0) for field, type_ in zip(fields, read.types, strict=True)]
        self._filled = [index for index, field in enumerate(fields) if field.default is not None]
        self._fields = tuple(fields)
        self._reader = JsonReader(read, [field.required for field in fields], bounds)

    @staticmethod
    def can_read(fields: Sequence[Field]) -> bool:
        """Whether the columns are all of a kind that is read here."""
        return len(fields) > 0 and all(field.type in _AS_THEY_ARE or pa.types.is_integer(field.type) for field in fields)

    def read(self, records: list[bytes]) -> tuple[pa.RecordBatch | NativeRows, list[int]]:
        """Return the rows of the plain records, native if they may stay so, and the numbers of the others."""
        rows, odd = self._reader.read(records)
        if self._narrow or self._filled:
            columns = rows.to_arrow().columns
            for index in self._narrow:
                columns[index] = columns[index].cast(self._schema.types[index])
            for index in self._filled:
                columns[index] = self._fields[index].filled(columns[index])
            return pa.RecordBatch.from_arrays(columns, schema=self._schema), odd
        return rows, odd
