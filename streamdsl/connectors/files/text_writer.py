"""Writes CSV and JSON lines exactly once: what is committed is a length, and what stands behind it is cut off.

The state says as well what was written: the format, the columns, a checksum of the last bytes. An output that goes on with other
columns, or in another file, would be no output of either run.
"""

from __future__ import annotations

import base64
import errno
import io
import os
import stat
import zlib
from collections.abc import Mapping
from typing import Any, Final, cast

import pyarrow as pa
import pyarrow.csv as pa_csv

from streamdsl._native.includes.faults import planted
from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.errors import ConnectorError, DataError
from streamdsl.schema import Schema

_BUFFER_BYTES: Final = 1 << 18
_PROBE: Final = 256
REMEDY: Final = "make room on the disk or mend its permissions, and start again: what was committed stays"
#: A disk that takes nothing now may soon take it.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def unwritten(said: str, error: Exception) -> ConnectorError:
    """Return the error of an output that could not be written. Where the disk is full, the run opens it anew, for a while."""
    # pyarrow says the number in its text alone.
    number = getattr(error, "errno", None)
    full = number in _FULL or any(f"[errno {one}]" in str(error) for one in _FULL)
    return ConnectorError(f"{said}: {getattr(error, 'strerror', None) or error}", remedy=REMEDY, reopen=full)


def fsync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    directory = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def described(format: str, schema: Schema) -> dict[str, Any]:
    """Return what decides the meaning of an output: its format, and its columns in their order."""
    return {"format": format, "columns": [[field.name, str(field.type)] for field in schema.fields]}


def check_described(path: str, state: Mapping[str, Any], format: str, schema: Schema) -> None:
    """Refuse to go on with an output that was begun with another format or with other columns.

    Raises
    ------
    ConnectorError
        Shows both.
    """
    now = described(format, schema)
    remedy = (
        "change the topology back, or let the output end here: give the sink another file and another name, and let the state of the old "
        "one go by Config(drop_state=[...])"
    )
    if state["format"] != now["format"]:
        raise ConnectorError(f"{path}: the checkpoint has written {state['format']} here, the sink writes {format} now", remedy=remedy)
    if state["columns"] != now["columns"]:
        before, after = (", ".join(f"{name}: {type_}" for name, type_ in columns) for columns in (state["columns"], now["columns"]))
        raise ConnectorError(f"{path} has the columns ({before}), the sink writes ({after}) now", remedy=remedy)


class TextWriter(SinkWriter):
    """Appends rows to one file. The state is its committed length, and what was written there."""

    def __init__(self, path: str, format: str, schema: Schema, state: Json, delimiter: str = ",") -> None:
        self._path = path
        self._is_csv, self._delimiter = format == "csv", delimiter
        if self._is_csv and delimiter != ",":
            format = f"csv with {delimiter!r} between the fields"
        self._described = described(format, schema)
        self._header = (
            (delimiter.join('"' + name.replace('"', '""') + '"' for name in schema.names) + "\n").encode() if self._is_csv else b""
        )
        if self._is_csv:
            _check_csv(path, schema)
        at = cast(Mapping[str, Any], state or {"length": 0, "probe": 0})
        self._length: int = at["length"]
        if state is not None:
            check_described(path, at, format, schema)
        # Not truncated by opening: until the length is known to fit, nothing of an earlier run may be lost.
        # A file of which something was committed and that is gone is an error, not a new file.
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(path, flags | (0 if self._length else os.O_CREAT), 0o666)
        except FileNotFoundError as error:
            if not self._length:
                raise
            raise ConnectorError(
                f"{path} is gone: the checkpoint has {self._length} bytes in that file (working directory {os.getcwd()})",
                remedy="bring the file back; or, if it was moved on purpose, put an end to this output: give the sink another name, and "
                "let the state of the old one go by Config(drop_state=[...]); or begin anew with an empty state directory",
            ) from error
        try:
            self._tail = self._checked(at["probe"])
            self._cut = False  # what stands behind the length has been cut off
            if state is not None:
                self._cut_off()
        except BaseException:
            os.close(self._fd)
            raise
        self._broken: Exception | None = None
        self._new = True
        self._buffer: list[bytes] = []
        self._buffered = 0
        if self._is_csv and not self._length:
            self._append(self._header)

    def _checked(self, probe: int) -> bytes:
        """Return the last bytes of what was committed, which must be what was written then."""
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise ConnectorError(
                f"{self._path} is not a regular file", remedy="exactly once needs a file that can be truncated; see console()"
            )
        remedy = "restore the file as it was, or start with an empty state directory"
        if found.st_size < self._length:
            raise ConnectorError(
                f"{self._path} was changed: it is {found.st_size} bytes long, the checkpoint has {self._length} bytes in it", remedy=remedy
            )
        first = max(self._length - _PROBE, 0)
        tail = os.pread(self._fd, self._length - first, first)
        if zlib.crc32(tail) != probe:
            raise ConnectorError(
                f"{self._path} was changed: the checkpoint has {self._length} bytes in that file, and they end otherwise", remedy=remedy
            )
        header = os.pread(self._fd, len(self._header), 0) if self._length else self._header
        if header != self._header:
            raise ConnectorError(
                f"{self._path} was changed: it begins with {header.decode(errors='replace')!r}, the header is {self._header.decode()!r}",
                remedy=remedy,
            )
        if planted("output-not-truncated"):
            self._length = found.st_size
        return tail

    def _cut_off(self) -> None:
        """Remove what no checkpoint covers. What an earlier run has left goes with the first write: a start may fail elsewhere."""
        os.ftruncate(self._fd, self._length)
        os.lseek(self._fd, self._length, os.SEEK_SET)
        self._cut = True

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Append rows."""
        if not rows.num_rows:
            return
        try:
            lines = _csv_lines(rows, self._delimiter) if self._is_csv else json_lines(rows)
        except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
            raise DataError(f"a row cannot be written to {self._path}", remedy="mend the row", reason=str(error)) from error
        self._append(lines)

    def _append(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._check_whole()
        joined = b"".join(self._buffer)
        self._tail = (self._tail + joined[-_PROBE:])[-_PROBE:]
        data = memoryview(joined)
        self._buffer.clear()
        self._buffered = 0
        try:
            if not self._cut:
                self._cut_off()
            while data:
                written = os.write(self._fd, data)
                self._length += written
                data = data[written:]
        except OSError as error:
            self._broken = error
            raise unwritten(f"{self._path} cannot be written", error) from error

    def _check_whole(self) -> None:
        """Rows that could not be written are gone: after that no checkpoint may be taken, and the run has to be started again."""
        if self._broken:
            raise unwritten(f"{self._path} could not be written before", self._broken)

    def snapshot(self, checkpoint_id: int) -> Json:
        """Make the file durable and return its length."""
        self.flush()
        try:
            os.fsync(self._fd)
            if self._new:
                fsync_directory(os.path.dirname(self._path))
        except OSError as error:
            # What a failed fsync has not written may be lost although the next one succeeds.
            self._broken = error
            raise unwritten(f"{self._path} cannot be made durable", error) from error
        self._new = False
        return {"length": self._length, "probe": zlib.crc32(self._tail), **self._described}

    def close(self) -> None:
        """Write what is buffered, unless nothing was written before, and close."""
        if self._fd < 0:
            return
        try:
            if self._cut and not self._broken:
                self.flush()
        finally:
            os.close(self._fd)
            self._fd = -1


def _check_csv(path: str, schema: Schema) -> None:
    for field in schema.fields:
        if pa.types.is_nested(field.type):
            raise ConnectorError(
                f"{path}: CSV cannot hold column {field.name!r} of type {field.type}",
                remedy="write JSON lines, Parquet or Arrow, or drop the column",
            )


def _csv_lines(rows: pa.RecordBatch, delimiter: str) -> bytes:
    out = io.BytesIO()
    columns = [_csv_column(column) for column in rows.columns]
    written = pa.RecordBatch.from_arrays(columns, names=rows.schema.names)
    pa_csv.write_csv(written, out, pa_csv.WriteOptions(include_header=False, delimiter=delimiter))
    return out.getvalue()


def _csv_column(column: pa.Array) -> pa.Array:
    """Return a column in a form that CSV has and that is read again as what it was: bytes are base64, decimals have all digits."""
    type_ = column.type
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return pa.array([None if value is None else base64.b64encode(value).decode() for value in column.to_pylist()], pa.string())
    if pa.types.is_decimal(type_):
        return pa.array([None if value is None else f"{value:f}" for value in column.to_pylist()], pa.string())
    if pa.types.is_timestamp(type_):
        return column.cast(pa.int64()).cast(pa.timestamp(type_.unit, "UTC"))
    return column
