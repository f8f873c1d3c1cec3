"""Where the stored rows of a table come from: the files of a checkpoint, or the tasks that run."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from streamdsl._native.state.backend import StateBackend
from streamdsl._native.state.murmur2 import shard_of_key
from streamdsl._native.state.restore import open_restored
from streamdsl.checkpoint.manifest import Manifest, StoreEntry
from streamdsl.checkpoint.storage import CheckpointStorage, StoreFiles
from streamdsl.errors import StateError
from streamdsl.runtime.state_rows import RowReader, Stored

__all__ = ["CheckpointRows", "LiveRows", "RowSource"]

#: Rows that a task is asked for between two of its steps.
_ROWS_AT_A_TIME: Final = 256

T = TypeVar("T")


class RowSource(Protocol):
    """What a table is read from."""

    @property
    def as_of(self) -> str:
        """What the rows are consistent with: "checkpoint 7", or "live"."""

    def get(self, reader: RowReader, key: bytes) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the rows of one key."""

    def scan(self, reader: RowReader, prefix: bytes) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield the rows whose stored key begins with `prefix`, in no order."""


class CheckpointRows:
    """The state of a complete checkpoint. Its databases are opened when they are asked for, in copies that go with this object.

    Parameters
    ----------
    storage : CheckpointStorage
    manifest : Manifest
    scratch : Path
        A directory for the copies; does not exist yet.
    verify : bool
        Whether files are compared with their checksums first.
    """

    def __init__(self, storage: CheckpointStorage, manifest: Manifest, scratch: Path, *, verify: bool) -> None:
        self.manifest = manifest
        self._storage, self._scratch, self._verify = storage, scratch, verify
        self._open: dict[str, StateBackend] = {}
        self._lock = threading.Lock()
        scratch.mkdir(mode=0o700)
        self.close = weakref.finalize(self, _let_go, self._open, scratch)

    @property
    def as_of(self) -> str:
        """See `RowSource`."""
        return f"checkpoint {self.manifest.checkpoint_id}"

    def open(self, reader: RowReader) -> None:
        """Open the databases that hold rows of an operator.

        Raises
        ------
        StateError
            There are none, or they are damaged or gone.
        """
        held = [entry for entry in self.manifest.stores if reader.place(entry.description, self.as_of) is not None]
        if not held:
            raise StateError(f"{self.as_of} holds no state of {reader.name!r}", remedy="it was added since: take another checkpoint")
        for entry in held:
            self._backend(entry)

    def _backend(self, entry: StoreEntry) -> StateBackend:
        with self._lock:
            if entry.name not in self._open:
                identity = self.manifest.checkpoint_id
                files = self._storage.files(identity, entry) if self._verify else StoreFiles(self._storage, identity, entry)
                self._open[entry.name] = open_restored(entry.backend, self._scratch / entry.name, files)
            return self._open[entry.name]

    def get(self, reader: RowReader, key: bytes) -> Iterator[tuple[Any, dict[str, Any]]]:
        """See `RowSource`."""
        shard = shard_of_key(key, self.manifest.shards)
        for entry, place in self._places(reader):
            if shard in entry.shards:
                stored = _prefix(shard, place[0]) + key
                value = self._backend(entry).get_many([stored])[0]
                if value is not None:
                    yield from reader.rows([(stored, value)], place)

    def scan(self, reader: RowReader, prefix: bytes) -> Iterator[tuple[Any, dict[str, Any]]]:
        """See `RowSource`."""
        for entry, place in self._places(reader):
            backend = self._backend(entry)
            rows = (pair for shard in entry.shards for pair in backend.scan(_prefix(shard, place[0]) + prefix))
            yield from reader.rows(rows, place)

    def _places(self, reader: RowReader) -> Iterator[tuple[StoreEntry, tuple[int, int, int]]]:
        for entry in self.manifest.stores:
            place = reader.place(entry.description, self.as_of)
            if place is not None:
                yield entry, place


def _let_go(backends: dict[str, StateBackend], scratch: Path) -> None:
    for backend in backends.values():
        backend.close()
    backends.clear()
    shutil.rmtree(scratch, ignore_errors=True)


def _prefix(shard: int, table: int) -> bytes:
    return shard.to_bytes(2, "big") + table.to_bytes(2, "big")


class LiveRows:
    """The state of the tasks that run, each row as it is at the moment it is read. Tasks answer between two steps.

    Parameters
    ----------
    tasks : sequence of Task
    ask : callable
        Calls a function in the thread of a task, between two steps, and returns what it returned.
    """

    as_of = "live"

    def __init__(self, tasks: Sequence[Any], ask: Callable[[Any, Callable[[], Any]], Any]) -> None:
        self._tasks, self._ask = tasks, ask

    def open(self, reader: RowReader) -> None:
        """See `CheckpointRows.open`."""
        if not any(True for _ in self._places(reader)):
            raise StateError(f"no task holds state of {reader.name!r}", remedy="read it as of a checkpoint: live=False")

    def get(self, reader: RowReader, key: bytes) -> Iterator[tuple[Any, dict[str, Any]]]:
        """See `RowSource`."""
        for task, table, place in self._places(reader):
            value = self._ask(task, lambda table=table: table.stored(key))  # type: ignore[misc]
            if value is not None:
                stored = _prefix(shard_of_key(key, table.shards), place[0]) + key
                yield from reader.rows([(stored, value)], place)

    def scan(self, reader: RowReader, prefix: bytes) -> Iterator[tuple[Any, dict[str, Any]]]:
        """See `RowSource`."""
        for task, table, place in self._places(reader):
            yield from reader.rows((row for row in self._all(task, table, reader.name) if row[0].startswith(prefix, 4)), place)

    def _all(self, task: Any, table: Any, name: str) -> Iterator[Stored]:
        slot = 0
        while slot >= 0:
            if table.cold or table.any_cold:
                raise StateError(
                    f"not all rows of {name!r} are in memory: they cannot be read live", remedy="read them as of a checkpoint: live=False"
                )
            found, slot = self._ask(task, lambda slot=slot: table.stored_rows(slot, _ROWS_AT_A_TIME))  # type: ignore[misc]
            yield from found

    def _places(self, reader: RowReader) -> Iterator[tuple[Any, Any, tuple[int, int, int]]]:
        for task in self._tasks:
            place = None if task.store is None else reader.place(task.store.describe(), "the job")
            if place is not None:
                yield task, task.store.tables[place[0]], place
