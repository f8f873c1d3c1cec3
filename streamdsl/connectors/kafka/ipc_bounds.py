"""What an Arrow IPC stream says that it holds, read from its metadata before anything is decompressed or allocated.

The layout is Arrow's `Message.fbs` in FlatBuffers (https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["MOST_BYTES", "MOST_ROWS", "check_expanded", "check_stream"]

#: Rows of one value, and bytes that it may take in memory.
MOST_ROWS: Final = 1 << 20
MOST_BYTES: Final = 64 << 20
#: Elements of all its columns and their children: a null takes no byte, and still is one.
_MOST_ELEMENTS: Final = 8 << 20

_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2


class _Table:
    """A FlatBuffers table: fields by their number."""

    __slots__ = ("_at", "_data", "_fields")

    def __init__(self, data: memoryview, at: int) -> None:
        self._data, self._at = data, at
        vtable = at - _read(data, "<i", at)
        size = _read(data, "<H", vtable)
        self._fields = struct.unpack_from(f"<{max(size - 4, 0) // 2}H", data, vtable + 4)

    def number(self, field: int, format_: str) -> int:
        """Return a scalar, 0 where the field is left out."""
        offset = self._offset(field)
        return _read(self._data, format_, self._at + offset) if offset else 0

    def table(self, field: int) -> _Table:
        """Return a table that a field refers to."""
        offset = self._offset(field)
        if not offset:
            raise ValueError("a message without its header")
        at = self._at + offset
        return _Table(self._data, at + _read(self._data, "<I", at))

    def pairs(self, field: int) -> Iterator[tuple[int, int]]:
        """Yield a vector of structs of two int64."""
        offset = self._offset(field)
        if not offset:
            return
        at = self._at + offset
        at += _read(self._data, "<I", at)
        count = _read(self._data, "<I", at)
        if count * 16 > len(self._data):
            raise ValueError("a vector longer than its message")
        yield from struct.iter_unpack("<qq", self._data[at + 4 : at + 4 + 16 * count])

    def _offset(self, field: int) -> int:
        return self._fields[field] if field < len(self._fields) else 0


def _read(data: memoryview, format_: str, at: int) -> int:
    if at < 0:
        raise ValueError("an offset in front of its message")
    found: int = struct.unpack_from(format_, data, at)[0]
    return found


def check_stream(value: pa.Buffer) -> None:
    """Raise unless the batches of a stream are within the bounds.

    Raises
    ------
    ValueError
        It says that it holds more, or it is not laid out as a stream.
    """
    rows = elements = size = 0
    messages = pa.ipc.MessageReader.open_stream(value)
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        if message.type == "schema":
            continue
        try:
            more = _described(memoryview(message.metadata), memoryview(message.body))
        except (struct.error, IndexError) as error:
            raise ValueError(f"a message is damaged: {error}") from None
        rows, elements, size = (a + b for a, b in zip((rows, elements, size), more, strict=True))
        if rows > MOST_ROWS or elements > _MOST_ELEMENTS:
            raise ValueError(f"it says that it holds {rows} rows of {elements} elements; {MOST_ROWS} and {_MOST_ELEMENTS} are allowed")
        if size > MOST_BYTES:
            raise ValueError(f"it says that it takes {size} bytes, {MOST_BYTES} are allowed")


def _described(metadata: memoryview, body: memoryview) -> tuple[int, int, int]:
    """Return the rows, elements and bytes that a batch says it has."""
    message = _Table(metadata, _read(metadata, "<I", 0))
    kind, batch = message.number(1, "<B"), message.table(2)
    if kind == _DICTIONARY_BATCH:
        batch = batch.table(1)
    elif kind != _RECORD_BATCH:
        raise ValueError(f"a message of kind {kind}")
    compressed = batch.number(3, "<H") != 0
    rows = batch.number(0, "<q")
    nodes = [length for length, _ in batch.pairs(1)]
    size = 0
    for offset, length in batch.pairs(2):
        held = length
        if compressed and length >= 8:
            said = _read(body, "<q", offset)
            held = length if said == -1 else said
        if held < 0:
            raise ValueError("a buffer of a negative size")
        size += held
    if rows < 0 or any(length < 0 for length in nodes):
        raise ValueError("a column of a negative length")
    return (0 if kind == _DICTIONARY_BATCH else rows), sum(nodes), size


def check_expanded(rows: pa.RecordBatch) -> None:
    """Raise if columns whose values share bytes (dictionaries, views) take more than the bound when each value has its own.

    Raises
    ------
    ValueError
        They do, or they are nested where it cannot be told.
    """
    size = 0
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            size += _expanded(column)
        elif _is_view(column.type):
            size += pc.sum(pc.binary_length(column)).as_py() or 0
        elif _shares(column.type):
            raise ValueError(f"column {name!r} is {column.type}: dictionaries, views and runs are read at the top level only")
    if size > MOST_BYTES:
        raise ValueError(f"its columns take {size} bytes when they are read, {MOST_BYTES} are allowed")


def _expanded(column: pa.DictionaryArray) -> int:
    values = column.dictionary
    if _shares(values.type):
        raise ValueError(f"a dictionary of {values.type}")
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type) or pa.types.is_large_string(values.type)):
        # The widest value for each row: never too little.
        return int(len(column) * (values.nbytes // max(len(values), 1) + 16))
    return int(pc.sum(pc.binary_length(values).take(column.indices)).as_py() or 0)


def _is_view(type_: pa.DataType) -> bool:
    return str(type_) in ("string_view", "binary_view")


def _shares(type_: pa.DataType) -> bool:
    text = str(type_)
    return any(word in text for word in ("dictionary<", "_view", "run_end_encoded<"))
