"""Where checkpoints are kept: a directory, or memory. Nothing else of streamdsl touches their files.

A checkpoint n is taken in four steps: `begin(n)` makes its place, each store's writer fills a target, `publish(n, …)`
puts the manifest in with one rename, and from then on it exists. What was begun and not published is a leftover.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from streamdsl._native.includes.faults import fault, planted
from streamdsl.checkpoint.filesystem import FileSystem
from streamdsl.checkpoint.history import JOURNAL, DirectoryHistory, DirectoryTarget, MemoryHistory, MemoryTarget, StoreHistory, StoreTarget
from streamdsl.checkpoint.manifest import MAX_BYTES, FileEntry, StoreEntry, checksum
from streamdsl.checkpoint.names import check_file_name, check_store_name
from streamdsl.errors import StateError

__all__ = ["CheckpointStorage", "DirectoryStorage", "MemoryStorage", "StoreFiles"]

_log = logging.getLogger("streamdsl")

MANIFEST = "manifest.json"
RETIRED = "manifest.json.retired"
#: These say something about the process or the system, not about the file: no reason to pass a checkpoint over.
_PASSING = frozenset({errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.ENOSPC, errno.ESTALE})
#: RocksDB never writes into these again, so a link is as good as a copy.
_IMMUTABLE = ".sst"


class CheckpointStorage(ABC):
    """Keeps checkpoints. Every failure is a `StateError` or an `OSError`; safe to use from several threads."""

    @abstractmethod
    def begin(self, checkpoint_id: int) -> None:
        """Make room for a checkpoint; its id has never been used."""

    @abstractmethod
    def target(self, checkpoint_id: int, store: str) -> StoreTarget | None:
        """Return where a store puts its files; None when the checkpoint has been discarded."""

    @abstractmethod
    def history(self, store: str, scratch: Path) -> StoreHistory:
        """Return what a store's checkpoints will share. `scratch`: a directory for it alone, does not exist yet."""

    @abstractmethod
    def publish(self, checkpoint_id: int, manifest: bytes) -> None:
        """Make the checkpoint exist: all of it or nothing."""

    @abstractmethod
    def discard(self, checkpoint_id: int) -> None:
        """Give up a checkpoint that was begun. Its id stays used (see `ids`)."""

    @abstractmethod
    def remove(self, checkpoint_id: int) -> None:
        """Forget a checkpoint, manifest first; its id too, so a newer one must exist."""

    @abstractmethod
    def retire(self, checkpoint_id: int) -> None:
        """Take a published checkpoint's manifest away, durably: it is never restored. Its id stays used."""

    @abstractmethod
    def ids(self) -> list[int]:
        """Return all ids in use, ascending: published, begun, discarded."""

    @abstractmethod
    def read_manifest(self, checkpoint_id: int) -> bytes | None:
        """Return the manifest's bytes; None when the checkpoint was never published."""

    @abstractmethod
    def read(self, checkpoint_id: int, store: str, name: str) -> Iterator[bytes]:
        """Return the bytes of a store's file, in chunks."""

    @abstractmethod
    def place(self, checkpoint_id: int, store: str, names: Sequence[str], directory: Path) -> None:
        """Put a store's files into a new directory."""

    def where(self, checkpoint_id: int, *parts: str) -> str:
        """Return what errors call a checkpoint or a file of it."""
        return "/".join((f"checkpoint {checkpoint_id}", *parts))

    def files(self, checkpoint_id: int, entry: StoreEntry, read: Callable[[int], None] = lambda size: None) -> StoreFiles:
        """Return a store's files, each one's size and checksum verified; `read` is told of the bytes.

        Raises
        ------
        StateError
            A file is missing, or is not the one that the manifest names.
        """
        for file in entry.files:
            self._verify(checkpoint_id, entry.name, file, read)
        return StoreFiles(self, checkpoint_id, entry)

    def _verify(self, checkpoint_id: int, store: str, file: FileEntry, read: Callable[[int], None]) -> None:
        where = self.where(checkpoint_id, store, file.name)
        remedy = "restore from another checkpoint, or put the file back from a copy"
        size, digest = 0, checksum()
        try:
            for chunk in self.read(checkpoint_id, store, file.name):
                # What stands behind the end of a journal belongs to later checkpoints.
                part = memoryview(chunk)[: file.size - size] if file.grows else chunk
                size += len(part)
                if size > file.size or not part:
                    break
                digest.update(part)
                read(len(part))
        except OSError as error:
            raise cannot_be_read(where, error, remedy) from error
        if size != file.size:
            more = "more than " if size > file.size else f"{size} instead of "
            raise StateError(f"{where} is damaged: it has {more}{file.size} bytes", remedy=remedy)
        if digest.hexdigest() != file.checksum:
            raise StateError(f"{where} is damaged: its {size} bytes are not those that were written", remedy=remedy)


def cannot_be_read(where: str, error: OSError, remedy: str) -> StateError:
    """Return what a failed read is told as; "final": another try may succeed, so that nothing older may take its place."""
    if error.errno in _PASSING:
        return StateError(f"{where} cannot be read: {error.strerror}", remedy="mend the cause, and start again", final=True)
    return StateError(f"{where} cannot be read: {error.strerror or error}", remedy=remedy)


class StoreFiles:
    """One store's verified files (a `CheckpointFiles`)."""

    def __init__(self, storage: CheckpointStorage, checkpoint_id: int, entry: StoreEntry) -> None:
        self._storage, self._id, self._entry = storage, checkpoint_id, entry

    @property
    def checkpoint_id(self) -> int:
        """The checkpoint that has them."""
        return self._id

    @property
    def has_base(self) -> bool:
        """Whether there is anything that the journal is to be applied to."""
        return bool(self._entry.base)

    @property
    def journal_bytes(self) -> int:
        """Length of the journal; 0: there is none."""
        return 0 if self._entry.journal is None else self._entry.journal.size

    def read_journal(self) -> Iterator[bytes]:
        """Return the bytes of the journal, as many as are this checkpoint's."""
        left = self.journal_bytes
        if self._entry.journal is not None:
            for chunk in self._read(self._entry.journal.name):
                yield chunk[:left]
                left -= min(left, len(chunk))
                if not left:
                    return

    def journal_damaged(self, reason: str) -> StateError:
        """Return what a journal is told with that is not what a journal is."""
        where = self._storage.where(self._id, self._entry.name, JOURNAL)
        return StateError(f"{where} is damaged: {reason}", remedy="restore from another checkpoint")

    def read(self, name: str) -> Iterator[bytes]:
        """Return a file's bytes, in chunks."""
        if all(name != file.name for file in self._entry.files):
            where = self._storage.where(self._id, self._entry.name)
            raise StateError(f"{where} has no file {name!r}", remedy="restore from another checkpoint")
        return self._read(name)

    def _read(self, name: str) -> Iterator[bytes]:
        try:
            yield from self._storage.read(self._id, self._entry.name, name)
        except OSError as error:
            where = self._storage.where(self._id, self._entry.name, name)
            raise StateError(f"{where} cannot be read: {error.strerror or error}", remedy="restore from another checkpoint") from error

    def place(self, directory: Path) -> None:
        """Put the files of the base into a new directory."""
        self._storage.place(self._id, self._entry.name, [file.name for file in self._entry.base], directory)


class DirectoryStorage(CheckpointStorage):
    """Checkpoints in a directory, one below it for each id.

    Parameters
    ----------
    root : Path
        Exists already.
    filesystem : FileSystem, optional
        What does the work.
    links : bool
        Whether `place` may link files that never change; else all are copied (a savepoint is nobody's but its own).
    """

    def __init__(self, root: Path, filesystem: FileSystem | None = None, *, links: bool = True) -> None:
        self.root, self._links = root, links
        self.filesystem = filesystem or FileSystem()
        self._lock = threading.Lock()
        self._open: dict[int, int] = {}  # begun, neither published nor discarded -> targets in use
        self._discarded: dict[int, int] = {}  # targets still in use
        #: By store: immutable files of its last checkpoint; each is hashed once, not at every checkpoint.
        self._known: dict[str, dict[tuple[str | int, ...], FileEntry]] = {}
        #: Files that could not be synced. A second try may succeed although the first has dropped what was to be written.
        self._lost: set[tuple[str | int, ...]] = set()

    def where(self, checkpoint_id: int, *parts: str) -> str:
        """Return the path."""
        return str(self._place(checkpoint_id).joinpath(*parts))

    def _place(self, checkpoint_id: int) -> Path:
        return self.root / str(checkpoint_id)

    def begin(self, checkpoint_id: int) -> None:
        """See `CheckpointStorage.begin`."""
        self.filesystem.make_directory(self._place(checkpoint_id))
        if not planted("checkpoint-directory-not-synced"):
            self.filesystem.sync_directory(self.root)
        with self._lock:
            self._open[checkpoint_id] = 0

    def target(self, checkpoint_id: int, store: str) -> StoreTarget | None:
        """See `CheckpointStorage.target`."""
        check_store_name(store)
        with self._lock:
            if checkpoint_id not in self._open:
                return None
            self._open[checkpoint_id] += 1
        path = self._place(checkpoint_id) / store
        return DirectoryTarget(path, self.filesystem, partial(self.seal, store=store), partial(self.release, checkpoint_id))

    def history(self, store: str, scratch: Path) -> StoreHistory:
        """See `CheckpointStorage.history`."""
        return DirectoryHistory(scratch, self.filesystem, partial(self.seal, store=check_store_name(store)))

    def release(self, checkpoint_id: int) -> None:
        """A target has been closed; the last one of a discarded checkpoint clears up."""
        with self._lock:
            if checkpoint_id in self._open:
                self._open[checkpoint_id] -= 1
                return
            if checkpoint_id not in self._discarded:
                return
            self._discarded[checkpoint_id] -= 1
            if self._discarded[checkpoint_id]:
                return
            del self._discarded[checkpoint_id]
        try:
            self._clear(checkpoint_id)
        except OSError as error:
            _log.warning("what checkpoint %d left cannot be removed, will be tried again: %s", checkpoint_id, error)

    def publish(self, checkpoint_id: int, manifest: bytes) -> None:
        """See `CheckpointStorage.publish`."""
        place = self._place(checkpoint_id)
        temporary = place / (MANIFEST + ".tmp")
        self.filesystem.remove_file(temporary)
        fault("FP10")
        self.filesystem.write_new(temporary, [manifest])
        # The stores' directories first: the manifest must not become visible before what it names.
        if not planted("names-not-synced-before-manifest"):
            self.filesystem.sync_directory(place)
        fault("FP11")
        self.filesystem.rename(temporary, place / MANIFEST)
        fault("FP12")
        if not planted("rename-not-synced"):
            self.filesystem.sync_directory(place)
        with self._lock:
            self._open.pop(checkpoint_id, None)

    def discard(self, checkpoint_id: int) -> None:
        """See `CheckpointStorage.discard`."""
        with self._lock:
            in_use = self._open.pop(checkpoint_id, 0)
            if in_use:
                self._discarded[checkpoint_id] = in_use
                return
        self._clear(checkpoint_id)

    def _clear(self, checkpoint_id: int) -> None:
        place = self._place(checkpoint_id)
        if not self._is_ours(place):
            return
        # A publish that failed half-way must not come back to life: the manifest goes first.
        self._remove_manifest(place)
        for name in self.filesystem.names(place):
            path = place / name
            if self.filesystem.is_directory(path):
                self.filesystem.remove_tree(path)
            else:
                self.filesystem.remove_file(path)

    def _is_ours(self, place: Path) -> bool:
        """Whether it is a directory; a link that somebody put there must not lead what is removed out of the root."""
        return self.filesystem.is_directory(place)

    def _remove_manifest(self, place: Path) -> None:
        if self.filesystem.is_directory(place / MANIFEST):
            self.filesystem.remove_tree(place / MANIFEST)
        else:
            self.filesystem.remove_file(place / MANIFEST)
        self.filesystem.sync_directory(place)

    def remove(self, checkpoint_id: int) -> None:
        """See `CheckpointStorage.remove`."""
        place = self._place(checkpoint_id)
        if self._is_ours(place):
            self._remove_manifest(place)
            fault("FP21")
            self.filesystem.remove_tree(place)
        else:
            self.filesystem.remove_file(place)

    def retire(self, checkpoint_id: int) -> None:
        """See `CheckpointStorage.retire`. The rest of it stays, to be looked at, until the next start."""
        place = self._place(checkpoint_id)
        if self._is_ours(place):
            self.filesystem.rename(place / MANIFEST, place / RETIRED)
            self.filesystem.sync_directory(place)

    def ids(self) -> list[int]:
        """See `CheckpointStorage.ids`."""
        names = self.filesystem.names(self.root)
        return sorted(int(name) for name in names if name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 19)

    def read_manifest(self, checkpoint_id: int) -> bytes | None:
        """See `CheckpointStorage.read_manifest`."""
        data = bytearray()
        try:
            for chunk in self.filesystem.read(self.root, (str(checkpoint_id), MANIFEST)):
                data += chunk
                if len(data) > MAX_BYTES:
                    break  # the parser refuses it; nobody reads all of a file of any size
        except FileNotFoundError:
            return None
        return bytes(data)

    def read(self, checkpoint_id: int, store: str, name: str) -> Iterator[bytes]:
        """See `CheckpointStorage.read`."""
        return self.filesystem.read(self.root, (str(checkpoint_id), check_store_name(store), check_file_name(name)))

    def place(self, checkpoint_id: int, store: str, names: Sequence[str], directory: Path) -> None:
        """See `CheckpointStorage.place`."""
        try:
            self.filesystem.make_directory(directory)
            for name in names:
                parts = (str(checkpoint_id), check_store_name(store), check_file_name(name))
                fault("FP26")
                if self._links and name.endswith(_IMMUTABLE) and self._is_private(parts):
                    self.filesystem.link(self.root, parts, directory / name)
                else:
                    self.filesystem.write_new(directory / name, self.filesystem.read(self.root, parts))
        except OSError as error:
            raise StateError(
                f"{self.where(checkpoint_id, store)} cannot be put into {directory}: {error.strerror or error}",
                remedy="check the permissions and the free space of the state directory",
            ) from error

    def _is_private(self, parts: Sequence[str]) -> bool:
        # A database closes its files to others. A file that somebody linked in from elsewhere is left as it is: copied.
        status = self.filesystem.stat(self.root.joinpath(*parts))
        return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077

    def seal(self, path: Path, store: str) -> tuple[FileEntry, ...]:
        """Sync and describe the files of a target."""
        known = self._known.get(store, {})
        seen: dict[tuple[str | int, ...], FileEntry] = {}
        entries = []
        for name in self.filesystem.names(path):
            check_file_name(name)
            status = self.filesystem.stat(path / name)
            identity = (name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            entry = known.get(identity) if name.endswith(_IMMUTABLE) else None
            if entry is None:
                if not planted("store-files-not-synced"):
                    self._sync(path / name, identity)
                digest = checksum()
                for chunk in self.filesystem.read(path, (name,)):
                    digest.update(chunk)
                entry = FileEntry(name, status.st_size, digest.hexdigest())
            seen[identity] = entry
            entries.append(entry)
        self.filesystem.sync_directory(path)
        self._known[store] = seen
        return tuple(entries)

    def _sync(self, path: Path, identity: tuple[str | int, ...]) -> None:
        if identity in self._lost:
            raise StateError(
                f"{path.name} could not be made durable before, and what it holds may be lost",
                remedy="start again from the last checkpoint; see the system's log about the disk",
            )
        try:
            self.filesystem.sync_file(path)
        except OSError:
            if path.name.endswith(_IMMUTABLE):  # the database goes on with it; all others are new at every checkpoint
                self._lost.add(identity)
            raise


class MemoryStorage(CheckpointStorage):
    """Checkpoints in memory: for tests and simulation. Takes the memory backend only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: set[int] = set()
        self._published: dict[int, bytes] = {}
        self.contents: dict[int, dict[tuple[str, str], bytes | bytearray]] = {}

    def begin(self, checkpoint_id: int) -> None:
        """See `CheckpointStorage.begin`."""
        with self._lock:
            if checkpoint_id in self.contents:
                raise StateError(f"checkpoint {checkpoint_id} has been used before")
            self.contents[checkpoint_id] = {}
            self._begun.add(checkpoint_id)

    def target(self, checkpoint_id: int, store: str) -> StoreTarget | None:
        """See `CheckpointStorage.target`."""
        check_store_name(store)
        with self._lock:
            return MemoryTarget(partial(self._keep, checkpoint_id, store)) if checkpoint_id in self._begun else None

    def _keep(self, checkpoint_id: int, store: str, files: dict[str, bytes | bytearray]) -> None:
        contents = self.contents.get(checkpoint_id)
        if contents is None:
            raise StateError(f"checkpoint {checkpoint_id} has been removed")
        contents.update({(store, name): data for name, data in files.items()})

    def history(self, store: str, scratch: Path) -> StoreHistory:
        """See `CheckpointStorage.history`."""
        return MemoryHistory()

    def publish(self, checkpoint_id: int, manifest: bytes) -> None:
        """See `CheckpointStorage.publish`."""
        with self._lock:
            self._begun.discard(checkpoint_id)
            self._published[checkpoint_id] = manifest

    def discard(self, checkpoint_id: int) -> None:
        """See `CheckpointStorage.discard`."""
        with self._lock:
            self._begun.discard(checkpoint_id)
            self._published.pop(checkpoint_id, None)
            self.contents[checkpoint_id] = {}

    def remove(self, checkpoint_id: int) -> None:
        """See `CheckpointStorage.remove`."""
        with self._lock:
            self._begun.discard(checkpoint_id)
            self._published.pop(checkpoint_id, None)
            self.contents.pop(checkpoint_id, None)

    def retire(self, checkpoint_id: int) -> None:
        """See `CheckpointStorage.retire`."""
        with self._lock:
            self._published.pop(checkpoint_id, None)

    def ids(self) -> list[int]:
        """See `CheckpointStorage.ids`."""
        with self._lock:
            return sorted(self.contents)

    def read_manifest(self, checkpoint_id: int) -> bytes | None:
        """See `CheckpointStorage.read_manifest`."""
        with self._lock:
            return self._published.get(checkpoint_id)

    def read(self, checkpoint_id: int, store: str, name: str) -> Iterator[bytes]:
        """See `CheckpointStorage.read`."""
        try:
            yield bytes(self.contents[checkpoint_id][store, name])
        except KeyError:
            raise FileNotFoundError(2, "No such file", self.where(checkpoint_id, store, name)) from None

    def place(self, checkpoint_id: int, store: str, names: Sequence[str], directory: Path) -> None:
        """See `CheckpointStorage.place`."""
        raise StateError("checkpoints in memory have no files to link", remedy='use state_backend="memory" with them')
