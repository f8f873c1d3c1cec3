"""What consecutive checkpoints of a store share: a base and the journal behind it.

Both stand in a scratch directory that goes with the process (`live/<incarnation>/<store>.history` of a state directory), and
every checkpoint has hard links to them. So a checkpoint is whole by itself, removing it is removing its directory, and the file
system frees a file when the last checkpoint that needs it goes: there is nothing to count, and no crash can miscount it.

The journal grows on behind the checkpoints that have it: each names a length and the checksum of so many bytes.
"""

from __future__ import annotations

import contextlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path

from streamdsl._native.includes.faults import fault, planted
from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.manifest import FileEntry, checksum
from streamdsl.checkpoint.names import check_file_name
from streamdsl.errors import StateError

__all__ = ["JOURNAL", "DirectoryHistory", "DirectoryTarget", "MemoryHistory", "MemoryTarget", "StoreHistory", "StoreTarget"]

_log = logging.getLogger("streamdsl")

JOURNAL = "journal"


class StoreTarget(ABC):
    """Where one store puts files (a `CheckpointTarget`): for a checkpoint, or a base for many."""

    path: Path | None = None

    @abstractmethod
    def write_file(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write one file, durably."""

    @abstractmethod
    def seal(self) -> tuple[FileEntry, ...]:
        """Make everything durable and return the files with sizes and checksums."""

    @abstractmethod
    def close(self) -> None:
        """Let go, sealed or not."""


class StoreHistory(ABC):
    """One store's base and journal. Used by one thread at a time; failures are a `StateError` or an `OSError`.

    Attributes
    ----------
    whole : bool
        Whether base and journal together are all that has been appended. If not, only a new base helps.
    base_bytes, journal_bytes : int
    """

    def __init__(self) -> None:
        self.whole = True
        self.base_bytes = self.journal_bytes = 0
        self._files: tuple[FileEntry, ...] = ()
        self._digest = checksum()

    def append(self, entries: bytes | memoryview) -> None:
        """Add to the journal's end; not durable yet. One that cannot be written is given up."""
        try:
            self._write(entries)
        except BaseException:
            if not planted("journal-not-whole"):
                self.give_up_journal()
            raise
        self._digest.update(entries)
        self.journal_bytes += len(entries)

    def sync(self) -> None:
        """Make the journal durable, or give it up: what one fsync has lost, the next would not tell of."""
        try:
            self._sync()
        except BaseException:
            self.give_up_journal()
            raise

    def give_up_journal(self) -> None:
        """No checkpoint will have this journal any more; those that have it keep it."""
        self.whole = False
        self._drop_journal()
        self.journal_bytes = 0
        self._digest = checksum()

    def adopt(self, base: StoreTarget) -> None:
        """Take a base that has been filled; a new journal begins behind it."""
        files = base.seal()
        fault("FP47")
        self._take(base)
        fault("FP49")
        self._files = files
        self.base_bytes = sum(file.size for file in files)
        self.give_up_journal()
        self.whole = True

    def share(self, target: StoreTarget) -> tuple[FileEntry, ...]:
        """Put the base and the journal into a checkpoint and return its files."""
        journal = [FileEntry(JOURNAL, self.journal_bytes, self._digest.hexdigest(), grows=True)] if self.journal_bytes else []
        files = (*self._files, *journal)
        self._share(target, files)
        return files

    @abstractmethod
    def new_base(self) -> StoreTarget:
        """Return an empty target for a base; unless it is adopted, closing it removes what was written."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the journal. May be called twice."""

    @abstractmethod
    def _write(self, entries: bytes | memoryview) -> None: ...

    @abstractmethod
    def _sync(self) -> None: ...

    @abstractmethod
    def _drop_journal(self) -> None: ...

    @abstractmethod
    def _take(self, base: StoreTarget) -> None: ...

    @abstractmethod
    def _share(self, target: StoreTarget, files: tuple[FileEntry, ...]) -> None: ...


class DirectoryTarget(StoreTarget):
    """A directory, made by whoever writes first.

    Parameters
    ----------
    path : Path
        Does not exist yet; its parent does.
    filesystem : FileSystem
    seal : callable
        (path) -> its files, durable.
    on_close : callable
        Called once.
    """

    def __init__(
        self, path: Path, filesystem: FileSystem, seal: Callable[[Path], tuple[FileEntry, ...]], on_close: Callable[[], None]
    ) -> None:
        self.path: Path = path
        self._filesystem, self._seal, self._on_close = filesystem, seal, on_close
        self._closed = False

    def write_file(self, name: str, chunks: Iterable[bytes]) -> None:
        """See `StoreTarget.write_file`."""
        if not self._filesystem.exists(self.path):
            self._filesystem.make_directory(self.path)
        self._filesystem.write_new(self.path / check_file_name(name), chunks)

    def seal(self) -> tuple[FileEntry, ...]:
        """See `StoreTarget.seal`."""
        self._filesystem.restrict_directory(self.path)
        return self._seal(self.path)

    def close(self) -> None:
        """See `StoreTarget.close`."""
        if not self._closed:
            self._closed = True
            self._on_close()


class DirectoryHistory(StoreHistory):
    """Base and journal as files.

    Parameters
    ----------
    scratch : Path
        Directory for them alone, in the file system of the checkpoints; made when it is needed.
    filesystem : FileSystem
    seal : callable
        (directory) -> its files, durable.
    """

    def __init__(self, scratch: Path, filesystem: FileSystem, seal: Callable[[Path], tuple[FileEntry, ...]]) -> None:
        super().__init__()
        self._scratch, self._filesystem, self._seal = scratch, filesystem, seal
        self._made = False
        self._number = 0  # of the last base or journal: no name is used twice
        self._base: Path | None = None
        self._journal: Path | None = None
        self._descriptor = -1

    def _next(self, kind: str) -> Path:
        if not self._made:
            self._filesystem.make_directory(self._scratch)
            self._made = True
        self._number += 1
        return self._scratch / f"{kind}-{self._number}"

    def _write(self, entries: bytes | memoryview) -> None:
        if self._journal is None:
            journal = self._next(JOURNAL)
            self._descriptor = self._filesystem.create(journal)
            self._journal = journal
        self._filesystem.append(self._journal, self._descriptor, entries)

    def _sync(self) -> None:
        if self._journal is not None and not planted("journal-not-synced"):
            self._filesystem.sync_open(self._journal, self._descriptor)

    def _drop_journal(self) -> None:
        self.close()
        journal, self._journal = self._journal, None
        if journal is not None:
            self._remove(journal)

    def new_base(self) -> StoreTarget:
        """See `StoreHistory.new_base`."""
        path = self._next("base")
        return DirectoryTarget(path, self._filesystem, self._seal, lambda: None if path == self._base else self._remove(path))

    def _take(self, base: StoreTarget) -> None:
        old, self._base = self._base, base.path
        if old is not None:
            fault("FP48")
            self._remove(old)

    def _remove(self, path: Path) -> None:
        # Scratch: the next start clears it.
        try:
            if self._filesystem.is_directory(path):
                self._filesystem.remove_tree(path)
            else:
                self._filesystem.remove_file(path)
        except OSError as error:
            _log.warning("%s is not needed any more and cannot be removed; the next start removes it: %s", path, error)

    def _share(self, target: StoreTarget, files: tuple[FileEntry, ...]) -> None:
        assert target.path is not None
        self._filesystem.make_directory(target.path)
        for file in files:
            source = self._journal if file.grows else self._base
            assert source is not None
            parts = (source.name,) if file.grows else (source.name, file.name)
            fault("FP44")
            self._filesystem.link(self._scratch, parts, target.path / file.name)
        fault("FP45")
        self._filesystem.sync_directory(target.path)

    def close(self) -> None:
        """See `StoreHistory.close`."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # What it should have written and could not, the fsync before has told.
            with contextlib.suppress(OSError):
                os.close(descriptor)


class MemoryTarget(StoreTarget):
    """A mapping of names to contents."""

    def __init__(self, keep: Callable[[dict[str, bytes | bytearray]], None] = lambda files: None) -> None:
        self.files: dict[str, bytes | bytearray] = {}
        self.keep = keep

    def write_file(self, name: str, chunks: Iterable[bytes]) -> None:
        """See `StoreTarget.write_file`."""
        self.files[check_file_name(name)] = b"".join(chunks)

    def seal(self) -> tuple[FileEntry, ...]:
        """See `StoreTarget.seal`."""
        self.keep(self.files)
        return tuple(FileEntry(name, len(data), checksum(bytes(data)).hexdigest()) for name, data in sorted(self.files.items()))

    def close(self) -> None:
        """See `StoreTarget.close`."""


class MemoryHistory(StoreHistory):
    """Base and journal in memory. Checkpoints have the growing journal itself, as they have the file elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._base: dict[str, bytes | bytearray] = {}
        self._journal = bytearray()

    def _write(self, entries: bytes | memoryview) -> None:
        self._journal += entries

    def _sync(self) -> None:
        pass

    def _drop_journal(self) -> None:
        self._journal = bytearray()

    def new_base(self) -> StoreTarget:
        """See `StoreHistory.new_base`."""
        return MemoryTarget()

    def _take(self, base: StoreTarget) -> None:
        if not isinstance(base, MemoryTarget):
            raise StateError("checkpoints in memory take a base in memory", remedy='use state_backend="memory" with them')
        self._base = dict(base.files)

    def _share(self, target: StoreTarget, files: tuple[FileEntry, ...]) -> None:
        assert isinstance(target, MemoryTarget)
        for file in files:
            target.files[file.name] = self._journal if file.grows else self._base[file.name]
        target.keep(target.files)

    def close(self) -> None:
        """See `StoreHistory.close`."""
