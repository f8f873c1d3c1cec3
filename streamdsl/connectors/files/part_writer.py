"""Writes Parquet and Arrow IPC exactly once: a directory with one part file per checkpoint."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Mapping
from typing import Any, Final, cast

import pyarrow as pa

from streamdsl._native.includes.faults import planted
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.files.text_writer import check_described, described, fsync_directory, unwritten
from streamdsl.errors import ConnectorError
from streamdsl.schema import Schema

log = logging.getLogger("streamdsl")

_PART: Final = re.compile(r"part-(\d+)-(\d+)\.(parquet|arrow)")
_TEMPORARY: Final = re.compile(r"\.part-\d+\.tmp")
_GROUP_ROWS: Final = 65536


def part_names(directory: str) -> list[str]:
    """Return the names of the part files in `directory`, in the order they were written."""
    found = [(int(match[1]), int(match[2]), match[0]) for match in map(_PART.fullmatch, os.listdir(directory)) if match]
    return [name for _, _, name in sorted(found)]


class PartWriter(SinkWriter):
    """Collects rows in a temporary file, which becomes a part at the snapshot. The state is the checkpoint's id, and what was written."""

    def __init__(self, directory: str, format: str, schema: Schema, task: int, state: Json) -> None:
        self._directory = directory
        self._is_parquet = format == "parquet"
        self._described = described(format, schema)
        self._schema = schema.to_arrow()
        self._task = task
        self._temporary = os.path.join(directory, f".part-{task}.tmp")
        self._file: Any = None
        self._sink: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._broken: Exception | None = None
        if os.path.exists(directory) and not os.path.isdir(directory):
            raise ConnectorError(f"{directory} is a file; as a sink it is a directory of part files", remedy="remove it or name another")
        at = cast(Mapping[str, Any], state or {"checkpoint": 0, "parts": 0, "last": ""})
        self._restored: int = at["checkpoint"]
        self._parts: int = at["parts"]
        self._last: str = at["last"]
        self._cut = False  # what no checkpoint covers has been removed
        if state is not None:
            check_described(directory, at, format, schema)
            self._check_there()
        os.makedirs(directory, exist_ok=True)
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), directory)
        if state is not None:
            self._remove_behind()

    def _check_there(self) -> None:
        """Refuse to go on without the parts; old ones may have been taken away by who reads them."""
        if not self._parts or os.path.exists(os.path.join(self._directory, self._last)):
            return
        if os.path.isdir(self._directory):
            log.warning("%s: the last part, %s, is gone; the output goes on behind it", self._directory, self._last)
            return
        raise ConnectorError(
            f"{self._directory} is gone: the checkpoint has {self._parts} parts in that directory (working directory {os.getcwd()})",
            remedy="bring the directory back; or, if it was moved on purpose, put an end to this output: give the sink another name, and "
            "let the state of the old one go by Config(drop_state=[...]); or begin anew with an empty state directory",
        )

    def _remove_behind(self) -> None:
        """Remove the parts of checkpoints that never completed, and what was being written."""
        self._cut = True
        for name in os.listdir(self._directory):
            match = _PART.fullmatch(name)
            if (match and int(match[1]) > self._restored and not planted("uncommitted-parts-kept")) or _TEMPORARY.fullmatch(name):
                os.unlink(os.path.join(self._directory, name))

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Take rows."""
        self._check_whole()
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        if self._waiting_rows >= _GROUP_ROWS:
            try:
                self._write_group()
            except (OSError, pa.ArrowException) as error:
                raise self._failed(error) from error

    def _failed(self, error: Exception) -> ConnectorError:
        self._broken = error
        return unwritten(f"{self._directory} cannot be written", error)

    def _check_whole(self) -> None:
        """Rows that could not be written are gone: after that no checkpoint may be taken, and the run has to be started again."""
        if self._broken:
            raise unwritten(f"{self._directory} could not be written before", self._broken)

    def _write_group(self) -> None:
        if not self._cut:
            # What an earlier run has left goes with the first write: a start may fail elsewhere.
            self._remove_behind()
        if not self._waiting_rows:
            return
        rows = pa.Table.from_batches(self._waiting).cast(self._schema).combine_chunks()
        self._waiting, self._waiting_rows = [], 0
        if self._file is None:
            self._sink = pa.OSFile(self._temporary, "wb")
            self._file = self._new_file()
        self._file.write_table(rows)

    def _new_file(self) -> Any:
        if not self._is_parquet:
            return pa.ipc.new_file(self._sink, self._schema)
        import pyarrow.parquet as pq

        return pq.ParquetWriter(self._sink, self._schema)

    def snapshot(self, checkpoint_id: int) -> Json:
        """Turn what was written since the last checkpoint into a part."""
        self._check_whole()
        try:
            self._write_group()
            if self._file is not None:
                self._file.close()
                self._sink.close()
                self._file = None
                self._publish(checkpoint_id)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(error) from error
        return {"checkpoint": checkpoint_id, "parts": self._parts, "last": self._last, **self._described}

    def _publish(self, checkpoint_id: int) -> None:
        suffix = "parquet" if self._is_parquet else "arrow"
        fd = os.open(self._temporary, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self._last = f"part-{checkpoint_id:08}-{self._task:03}.{suffix}"
        os.rename(self._temporary, os.path.join(self._directory, self._last))
        self._parts += 1
        fsync_directory(self._directory)

    def close(self) -> None:
        """Drop what no checkpoint has taken."""
        if self._file is not None:
            file, self._file = self._file, None
            with contextlib.suppress(OSError, pa.ArrowException):  # it is thrown away, its end with it
                file.close()
                self._sink.close()
            os.unlink(self._temporary)
