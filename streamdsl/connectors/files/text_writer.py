"""Writes CSV and JSON lines exactly once: what is committed is a length, and what stands behind it is cut off."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping
from typing import Final, cast

import pyarrow as pa
import pyarrow.csv as pa_csv

from streamdsl._native.includes.faults import planted
from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.errors import ConnectorError
from streamdsl.schema import Schema

_BUFFER_BYTES: Final = 1 << 18
REMEDY: Final = "make room on the disk or mend its permissions, and start again: what was committed stays"


def fsync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    directory = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class TextWriter(SinkWriter):
    """Appends rows to one file. The state is its committed length."""

    def __init__(self, path: str, is_csv: bool, schema: Schema, state: Json) -> None:
        self._path = path
        self._is_csv = is_csv
        if is_csv:
            _check_csv(path, schema)
        length = 0 if state is None else cast(int, cast(Mapping[str, Json], state)["length"])
        # Not truncated by opening: until the length is known to fit, nothing of an earlier run may be lost.
        # A file of which something was committed and that is gone is an error, not a new file.
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (0 if length else os.O_CREAT), 0o666)
        try:
            self._restore(length)
        except BaseException:
            os.close(self._fd)
            raise
        self._length = length
        self._broken = ""
        self._new = True
        self._buffer: list[bytes] = []
        self._buffered = 0
        if is_csv and not length:
            self._append((",".join('"' + name.replace('"', '""') + '"' for name in schema.names) + "\n").encode())

    def _restore(self, length: int) -> None:
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            raise ConnectorError(
                f"{self._path} is not a regular file", remedy="exactly once needs a file that can be truncated; see console()"
            )
        if found.st_size < length:
            raise ConnectorError(
                f"{self._path} was changed: it is {found.st_size} bytes long, the checkpoint wrote {length}",
                remedy="restore the file as it was, or start with an empty state directory",
            )
        if planted("output-not-truncated"):
            length = found.st_size
        os.ftruncate(self._fd, length)
        os.lseek(self._fd, length, os.SEEK_SET)

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Append rows."""
        if rows.num_rows:
            self._append(_csv_lines(rows) if self._is_csv else json_lines(rows))

    def _append(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        if self._buffered >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._check_whole()
        data = memoryview(b"".join(self._buffer))
        self._buffer.clear()
        self._buffered = 0
        try:
            while data:
                written = os.write(self._fd, data)
                self._length += written
                data = data[written:]
        except OSError as error:
            self._broken = error.strerror or str(error)
            raise ConnectorError(f"{self._path} cannot be written: {self._broken}", remedy=REMEDY) from error

    def _check_whole(self) -> None:
        """Rows that could not be written are gone: after that no checkpoint may be taken, and the run has to be started again."""
        if self._broken:
            raise ConnectorError(f"{self._path} could not be written before: {self._broken}", remedy=REMEDY)

    def snapshot(self, checkpoint_id: int) -> Json:
        """Make the file durable and return its length."""
        self.flush()
        try:
            os.fsync(self._fd)
            if self._new:
                fsync_directory(os.path.dirname(self._path))
        except OSError as error:
            # What a failed fsync has not written may be lost although the next one succeeds.
            self._broken = error.strerror or str(error)
            raise ConnectorError(f"{self._path} cannot be made durable: {self._broken}", remedy=REMEDY) from error
        self._new = False
        return {"length": self._length}

    def close(self) -> None:
        """Write what is buffered and close."""
        if self._fd < 0:
            return
        try:
            if not self._broken:
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


def _csv_lines(rows: pa.RecordBatch) -> bytes:
    out = io.BytesIO()
    pa_csv.write_csv(rows, out, pa_csv.WriteOptions(include_header=False))
    return out.getvalue()
