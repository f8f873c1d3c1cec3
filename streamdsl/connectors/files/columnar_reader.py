"""Reads Arrow IPC (memory-mapped, without a copy where the types agree) and Parquet files."""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import pyarrow as pa

from streamdsl.connectors.base import Json
from streamdsl.connectors.files.block_reader import Block, BlockReader, data_fields
from streamdsl.connectors.files.byte_stream import changed, codec_of
from streamdsl.connectors.files.open_files import OPEN_FILES, Parkable, unopened
from streamdsl.connectors.files.partitions import values_of, with_values
from streamdsl.errors import ConnectorError
from streamdsl.formats.conform import check_columns, check_types, conform, raw_row
from streamdsl.formats.decode import BadRecord
from streamdsl.formats.units import FirstNumbers
from streamdsl.schema import Schema

_ARROW_MAGIC: Final = b"ARROW1"
_MAGIC_BYTES: Final = 16
_PARQUET_ROWS: Final = 65536


class ColumnarReader(BlockReader, Parkable):
    """One typed file: a sequence of units (record batches, row groups), each in one or more blocks."""

    def __init__(self, path: str, partition: int, schema: Schema, columns: Sequence[str], position: Json, place: str = "") -> None:
        at = cast(Mapping[str, Json], position or {})
        super().__init__(path, partition, columns, cast(int, at.get("skip", 0)))
        self._fields = data_fields(schema, columns)
        self._first_numbers = FirstNumbers(self._fields, path)
        self._size = os.stat(path).st_size
        start = cast(Mapping[str, Any], at.get("start") or {"unit": 0, "row": 0, "record": 0, "bytes": self._size})
        if start["bytes"] != self._size:
            raise changed(path, f"it was {start['bytes']} bytes long and is {self._size}")
        self._record: int = start["record"]
        self._next: tuple[int, int] = (start["unit"], start["row"])
        self._blocks: Iterator[tuple[pa.RecordBatch, tuple[int, int]]] | None = None
        self._wanted: list[str] = []
        self._found: pa.Schema | None = None
        self._values: dict[str, str | None] = {}
        with self._opened():
            found = self._found
        assert found is not None
        # What the file does not have, the names of its directories may.
        self._values = {name: value for name, value in values_of(place or path).items() if name not in found.names}
        try:
            check_columns(path, [*found.names, *self._values], schema.fields)
            check_types(path, found, self._fields)
        except BaseException:
            self.close()
            raise
        self._wanted = [field.name for field in self._fields if field.name in found.names]

    @contextlib.contextmanager
    def _opened(self) -> Iterator[None]:
        try:
            with OPEN_FILES.use(self):
                yield
        except pa.ArrowInvalid as error:
            raise self._unreadable(error) from error
        except OSError as error:
            raise self._unreadable(error) if error.errno is None else unopened(self._path, error) from error

    def unpark(self) -> None:
        """Open the file."""
        found = self._open_file()
        if self._found is not None and not found.equals(self._found):
            self.park()
            raise changed(self._path, "another file has taken its name while it was read")
        self._found, self._blocks = found, None

    def bytes_read(self) -> tuple[int, int]:
        """Return how far the file has been read, by its units or rows; how many a stream of Arrow has is not known before its end."""
        return int(self._size * min(self._share(), 1.0)), self._size

    def close(self) -> None:
        """Close the file for good."""
        OPEN_FILES.close(self)

    @abstractmethod
    def _open_file(self) -> pa.Schema:
        """Open the file and return its schema."""

    @abstractmethod
    def _read_from(self, unit: int, row: int) -> Iterator[tuple[pa.RecordBatch, tuple[int, int]]]:
        """Yield rows from a place on, each with the place behind them."""

    @abstractmethod
    def _share(self) -> float:
        """Return which share of the file has been read. The file may be closed."""

    def _start(self) -> Json:
        unit, row = self._next
        return {"unit": unit, "row": row, "record": self._record, "bytes": self._size}

    def next_block(self) -> Block | None:
        """Return the next batch of rows."""
        start = self._start()
        with self._opened():
            if self._blocks is None:
                self._blocks = self._read_from(*self._next)
            rows, self._next = next(self._blocks, (None, self._next))
            if rows is None:
                return None
            # What stands in a file is not trusted: lengths and offsets in it may be anything.
            rows.validate(full=True)
        if self._values:
            rows = with_values(rows, self._fields, self._values, self._path)
        good, kept, bad = conform(rows, self._fields, self._first_numbers)
        record = self._record
        self._record += rows.num_rows
        return Block(good, start, self._start(), record, kept, tuple(_bad_records(rows, bad)))

    def _unreadable(self, error: Exception) -> ConnectorError:
        with open(self._path, "rb") as file:
            codec = codec_of(file.read(_MAGIC_BYTES))
        if codec:
            return ConnectorError(
                f"{self._path} is compressed ({codec}) as a whole: Parquet and Arrow are not read so",
                remedy="decompress it: both can compress their columns by themselves",
            )
        return ConnectorError(
            f"{self._path} cannot be read (record {self._record}): {error}",
            remedy="check the format= of files(...) and whether the file is complete",
        )


def _bad_records(rows: pa.RecordBatch, bad: dict[int, str]) -> Iterator[BadRecord]:
    for number, row in enumerate(sorted(bad)):
        yield BadRecord(row, row - number, raw_row(rows, row), bad[row])


class ArrowReader(ColumnarReader):
    """Arrow IPC, file or stream format."""

    _batches = 0

    def _open_file(self) -> pa.Schema:
        self._map = pa.memory_map(self._path)
        if self._map.read(len(_ARROW_MAGIC)) == _ARROW_MAGIC:
            self._file: Any = pa.ipc.open_file(self._map)
            self._is_stream = False
            self._batches = self._file.num_record_batches
        else:
            self._map.seek(0)
            self._file = pa.ipc.open_stream(self._map)
            self._is_stream = True
        return self._file.schema

    def _share(self) -> float:
        return self._next[0] / self._batches if self._batches else 0.0

    def _read_from(self, unit: int, row: int) -> Iterator[tuple[pa.RecordBatch, tuple[int, int]]]:
        if self._is_stream:
            for number, rows in enumerate(self._file):
                if number >= unit:
                    yield self._chosen(rows), (number + 1, 0)
            return
        for number in range(unit, self._file.num_record_batches):
            yield self._chosen(self._file.get_batch(number)), (number + 1, 0)

    def _chosen(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        # A batch without columns would lose its number of rows.
        return rows.select(self._wanted) if self._wanted else rows

    def park(self) -> None:
        """Let go of the file; rows that were read keep their memory map."""
        self._blocks = self._file = None
        self._map.close()


class ParquetReader(ColumnarReader):
    """Parquet, row group by row group."""

    def _open_file(self) -> pa.Schema:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(self._path, memory_map=True)
        schema: pa.Schema = self._file.schema_arrow
        self._rows = self._file.metadata.num_rows
        return schema

    def _share(self) -> float:
        return self._record / self._rows if self._rows else 0.0

    def _read_from(self, unit: int, row: int) -> Iterator[tuple[pa.RecordBatch, tuple[int, int]]]:
        wanted = self._wanted or self._file.schema_arrow.names[:1]
        for group in range(unit, self._file.num_row_groups):
            at = 0
            total = self._file.metadata.row_group(group).num_rows
            for rows in self._file.iter_batches(_PARQUET_ROWS, [group], columns=wanted, use_threads=False):
                at += rows.num_rows
                fresh = min(at - row, rows.num_rows)
                if fresh > 0:
                    yield rows.slice(rows.num_rows - fresh), ((group + 1, 0) if at == total else (group, at))
            row = 0

    def park(self) -> None:
        """Close the file."""
        self._blocks = None
        self._file.close()
