"""Writes Parquet and Arrow by partition exactly once: in each directory a part for each checkpoint that has rows for it.

An object store without partitions is one directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, cast

import pyarrow as pa

from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.files.partitions import Partitions
from streamdsl.connectors.files.text_writer import REMEDY, check_described, described, fsync_directory
from streamdsl.errors import ConnectorError
from streamdsl.schema import Schema

__all__ = ["LocalPlace", "PartitionedWriter", "Place"]

_PART: Final = re.compile(r"part-(\d+)-\d+-\d+\.(parquet|arrow)")
_GROUP_ROWS: Final = 65_536
#: Files that are open at a time: the largest is finished where another one is needed.
_OPEN_FILES: Final = 64


class Place(ABC):
    """Where parts lie: a directory, or a folder of an object store."""

    @abstractmethod
    def parts(self) -> list[str]:
        """Return all files below, by their paths from here."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove one of them."""

    @abstractmethod
    def workshop(self) -> str:
        """Return a directory of this machine for files that are written; it is emptied."""

    @abstractmethod
    def publish(self, file: str, name: str) -> None:
        """Put a file of the workshop in its place, durably."""


class LocalPlace(Place):
    """A directory of this machine."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def parts(self) -> list[str]:
        """Return all files below."""
        found = []
        for folder, folders, names in os.walk(self._directory):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [os.path.relpath(os.path.join(folder, name), self._directory) for name in names]
        return found

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(os.path.join(self._directory, name))

    def workshop(self) -> str:
        """Return a directory beside the parts: a file gets to its place by one rename."""
        path = os.path.join(self._directory, ".parts")
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path

    def publish(self, file: str, name: str) -> None:
        """Sync a file and rename it."""
        fd = os.open(file, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        target = os.path.join(self._directory, name)
        folder = os.path.dirname(target)
        made = []
        while not os.path.isdir(folder):
            made.append(folder)
            folder = os.path.dirname(folder)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(file, target)
        # A directory that is new has to be there after a loss of power, as its file has.
        for changed in dict.fromkeys([os.path.dirname(target), *(os.path.dirname(one) for one in made)]):
            fsync_directory(changed)


class PartitionedWriter(SinkWriter):
    """Collects rows in files of this machine by directory; they become parts at the snapshot. The state is as that of `PartWriter`."""

    def __init__(self, shown: str, place: Place, format: str, schema: Schema, partitions: Partitions, task: int, state: Json) -> None:
        self._shown, self._place, self._format, self._task = shown, place, format, task
        self._partitions = partitions
        self._described = {**described(format, schema), "by": [*partitions.columns, partitions.period]}
        self._schema = schema.to_arrow()
        at = cast(Mapping[str, Any], state or {"checkpoint": 0, "parts": 0})
        if state is not None:
            check_described(shown, at, format, schema)
            now = self._described["by"]
            if at["by"] != now:
                raise ConnectorError(
                    f"{shown}: the checkpoint has written it by {_words(at['by'])}, and the sink writes by {_words(now)} now",
                    remedy="change the topology back, or name another directory",
                )
        self._restored, self._parts = int(at["checkpoint"]), int(at["parts"])
        self._cut = False
        self._workshop = ""
        self._open: dict[str, _File] = {}
        self._done: list[tuple[str, str]] = []  # (directory, file) of this checkpoint
        self._made = 0
        self._broken = ""
        if state is not None:
            self._tried(self._remove_behind)

    def _tried(self, work: Any) -> None:
        """Do what may fail for good: of what was half written nobody knows what there is, so only a new start has the rows again."""
        self._check_whole()
        try:
            work()
        except (OSError, pa.ArrowException) as error:
            self._broken = getattr(error, "strerror", None) or str(error)
            raise ConnectorError(
                f"{self._shown} cannot be written: {self._broken}", remedy=REMEDY, lasting=True, recoverable=True
            ) from error

    def _check_whole(self) -> None:
        if self._broken:
            raise ConnectorError(
                f"{self._shown} could not be written before: {self._broken}", remedy=REMEDY, lasting=True, recoverable=True
            )

    def _remove_behind(self) -> None:
        """Remove the parts of checkpoints that never completed."""
        for name in self._place.parts():
            match = _PART.fullmatch(os.path.basename(name))
            if match and int(match[1]) > self._restored:
                self._place.remove(name)
        self._workshop = self._place.workshop()
        self._cut = True

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Take rows."""
        if not rows.num_rows:
            return
        table, times = pa.Table.from_batches([rows]).cast(self._schema), pa.chunked_array([timestamps])
        # What is refused is refused now, where it is known which rows it was.
        parted = list(self._partitions.parted(table, times, self._shown))
        if not self._cut:
            # What an earlier run has left goes with the first write: a start may fail elsewhere.
            self._tried(self._remove_behind)
        for directory, part in parted:
            self._tried(lambda directory=directory, part=part: self._file_of(directory).write(part))

    def _file_of(self, directory: str) -> _File:
        file = self._open.get(directory)
        if file is None:
            if len(self._open) >= _OPEN_FILES:
                self._finish(max(self._open, key=lambda one: self._open[one].rows))
            self._made += 1
            file = self._open[directory] = _File(os.path.join(self._workshop, f"{self._task}-{self._made}"), self._format)
        return file

    def _finish(self, directory: str) -> None:
        file = self._open.pop(directory)
        file.finish()
        self._done.append((directory, file.path))

    def snapshot(self, checkpoint_id: int) -> Json:
        """Turn what was written since the last checkpoint into parts."""

        def publish() -> None:
            if not self._cut:
                self._remove_behind()
            for directory in list(self._open):
                self._finish(directory)
            number = 0
            while self._done:
                # What a store does not take now goes with the next checkpoint; what it has taken does not go twice.
                directory, file = self._done[0]
                name = f"part-{checkpoint_id:08}-{self._task:03}-{number:03}.{self._format}"
                self._place.publish(file, f"{directory}/{name}" if directory else name)
                del self._done[0]
                self._parts += 1
                number += 1

        self._tried(publish)
        return {"checkpoint": checkpoint_id, "parts": self._parts, **self._described}

    def close(self) -> None:
        """Drop what no checkpoint has taken."""
        for file in self._open.values():
            with contextlib.suppress(OSError, pa.ArrowException):  # it is thrown away
                file.finish()
        self._open = {}
        if self._workshop:
            shutil.rmtree(self._workshop, ignore_errors=True)


class _File:
    """A file that is written; rows are gathered, so that a row group is worth its name."""

    def __init__(self, path: str, format: str) -> None:
        self.path, self._format, self.rows = path, format, 0
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._sink: Any = None
        self._file: Any = None

    def write(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        self.rows += rows.num_rows
        if self._waiting_rows >= _GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting, self._waiting_rows = [], 0
        if self._file is None:
            self._sink = pa.OSFile(self.path, "wb")
            self._file = self._new_file(rows.schema)
        self._file.write_table(rows)

    def _new_file(self, schema: pa.Schema) -> Any:
        if self._format == "arrow":
            return pa.ipc.new_file(self._sink, schema)
        import pyarrow.parquet as parquet  # noqa: PLR0402

        return parquet.ParquetWriter(self._sink, schema)

    def finish(self) -> None:
        self._write_group()
        self._file.close()
        self._sink.close()


def _words(by: Any) -> str:
    return ", ".join(str(one) for one in by if one) or "nothing"
