"""A disk in memory behind `FileSystem`: it knows what is durable, fails calls, and loses in a power cut what was not synced.

Two things only are durable: the bytes of a file at its last sync, and the names in a directory at its last sync. Everything since
then is *pending*, and a power cut keeps any part of it. A new primitive (append, truncate, …) changes `File.data` or calls
`Directory.change`, and is done: what a cut leaves follows from the two.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PosixPath
from typing import Any, Union

from streamdsl.checkpoint.filesystem import FileSystem

__all__ = ["Crashed", "Directory", "DiskPath", "File", "SimulatedDisk"]

SECTOR = 512
#: What a power cut keeps of the pending changes: nothing, everything, of each its own throw, or files torn at a sector.
CUTS = ("none", "all", "some", "torn")


class Crashed(BaseException):
    """The process died in the middle of a call. Not an `Exception`: nothing may handle it."""


class DiskPath(PosixPath):
    """A path that remembers the ones below it: making paths would take a tenth of a campaign."""

    __slots__ = ("_below",)

    def __truediv__(self, name: Any) -> DiskPath:
        try:
            below: dict[Any, DiskPath] = self._below
        except AttributeError:
            below = self._below = {}
        found = below.get(name)
        if found is None:
            found = below[name] = super().__truediv__(name)
        return found


class File:
    """The bytes of a file, under however many names."""

    __slots__ = ("data", "durable", "lost", "number")

    def __init__(self, number: int, data: bytes = b"", durable: bytes = b"") -> None:
        self.number, self.data, self.durable = number, data, durable
        self.lost = False  # a sync has failed: the system has dropped what was to be written, and later syncs do not bring it back

    def sync(self) -> None:
        if not self.lost:
            self.durable = self.data

    def after_cut(self, draw: random.Random, cut: str) -> bytes:
        """Return what a power cut leaves, sector by sector."""
        old, new = self.durable, self.data
        if old == new or cut == "none" or self.lost:
            return old
        if cut == "all" or (cut == "some" and draw.random() < 0.5):
            return new
        # The length was written or not, and of each sector its new bytes, or what was there before: zeros behind the old end.
        if len(new) > len(old):
            length = draw.choice([len(old), len(new), max(len(old), (draw.randrange(len(old), len(new)) // SECTOR) * SECTOR)])
        else:
            length = draw.choice([len(old), len(new)])
        found = bytearray(max(length, 0))
        for at in range(0, length, SECTOR):
            kept = new if draw.random() < 0.6 else old
            part = kept[at : min(at + SECTOR, length)]
            found[at : at + len(part)] = part
        return bytes(found)


class Directory:
    """Names: as a process sees them, those that are durable, and what has changed since, in order."""

    __slots__ = ("durable", "entries", "pending")

    def __init__(self) -> None:
        self.entries: dict[str, Node] = {}
        self.durable: dict[str, Node] = {}
        #: One change each, all of it or nothing: names and what they now stand for (None: removed).
        self.pending: list[tuple[tuple[str, Node | None], ...]] = []

    def change(self, *changes: tuple[str, Node | None]) -> None:
        for name, node in changes:
            if node is None:
                del self.entries[name]
            else:
                self.entries[name] = node
        self.pending.append(changes)

    def sync(self) -> None:
        self.durable, self.pending = dict(self.entries), []

    def after_cut(self, draw: random.Random, cut: str, files: dict[int, File]) -> Directory:
        left = dict(self.durable)
        for changes in self.pending:
            if cut in ("all", "torn") or (cut == "some" and draw.random() < 0.5):
                for name, node in changes:
                    if node is None:
                        left.pop(name, None)
                    else:
                        left[name] = node
        found = Directory()
        for name, node in left.items():
            if isinstance(node, Directory):
                found.entries[name] = node.after_cut(draw, cut, files)
            elif node.number in files:
                found.entries[name] = files[node.number]
            else:
                data = node.after_cut(draw, cut)
                found.entries[name] = files[node.number] = File(node.number, data, data)
        found.durable = dict(found.entries)
        return found


Node = Union[File, Directory]


class SimulatedDisk(FileSystem):
    """Files in memory. `calls` counts the calls that touch the disk; some of them can be made to fail.

    Attributes
    ----------
    errors : dict
        Number of a call -> errno that it fails with.
    bad_reads : frozenset
        Numbers of the reads, from the start on, that find a bad block.
    bad_appends : frozenset
        Numbers of the appends and of the syncs of open files, from the start on, that fail.
    full : range
        Calls between which the disk has no room left.
    crash_at : int
        Number of the call in the middle of which the process dies; -1: none.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._numbers = 0
        self.root = Directory()
        self.calls = self.reads = self.appends = 0
        self.bad_reads: frozenset[int] = frozenset()
        self.bad_appends: frozenset[int] = frozenset()
        self.errors: dict[int, int] = {}
        self.full = range(0)
        self.crash_at = -1
        self.failures: list[int] = []  # numbers of the calls that have failed
        self.dead = self.unread = False

    @property
    def failed(self) -> int:
        """How many calls have failed."""
        return len(self.failures)

    # What happens to it ------------------------------------------------------------------------------------------

    def power_cut(self, cut: str) -> None:
        """Lose what was pending, as `cut` (one of `CUTS`) says."""
        self.root = self.root.after_cut(self._draw, cut, {})

    def calm(self) -> None:
        """The process is started again; nothing fails from here on."""
        self.dead, self.crash_at, self.errors, self.full = False, -1, {}, range(0)
        self.reads, self.bad_reads, self.unread = 0, frozenset(), False
        self.appends, self.bad_appends = 0, frozenset()

    def paths(self) -> list[str]:
        """Return every file there is, sorted."""

        def below(directory: Directory, prefix: str) -> Iterator[str]:
            for name, node in directory.entries.items():
                if isinstance(node, Directory):
                    yield from below(node, f"{prefix}{name}/")
                else:
                    yield prefix + name

        return sorted(below(self.root, "/"))

    # What every call does first ------------------------------------------------------------------------------------

    def _call(self, path: object, *, grows: bool = False) -> None:
        if self.dead:
            raise Crashed
        self.calls += 1
        if self.calls == self.crash_at:
            self.dead = True
            raise Crashed
        wrong = self.errors.get(self.calls, 0)
        if grows and self.calls in self.full:
            wrong = errno.ENOSPC
        elif wrong == errno.ENOSPC and not grows:
            wrong = 0
        if wrong:
            self.failures.append(self.calls)
            raise OSError(wrong, os.strerror(wrong), str(path))

    def _find(self, path: Path | Sequence[str]) -> Node:
        node: Any = self.root
        try:
            for part in path.parts[1:] if isinstance(path, Path) else path[1:]:
                node = node.entries[part]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
        except AttributeError:  # a file has no entries
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
        return node  # type: ignore[no-any-return]

    def _directory(self, path: Path | Sequence[str]) -> Directory:
        node = self._find(path)
        if not isinstance(node, Directory):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return node

    def _file(self, path: Path | Sequence[str]) -> File:
        node = self._find(path)
        if not isinstance(node, File):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return node

    def _new(self, path: Path) -> Directory:
        """Return the directory in which `path` is about to be made."""
        directory = self._directory(path.parts[:-1])
        if path.parts[-1] in directory.entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        return directory

    # The calls ---------------------------------------------------------------------------------------------------

    def make_directory(self, path: Path) -> None:
        self._call(path, grows=True)
        self._new(path).change((path.parts[-1], Directory()))

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        directory = self._new(path)
        self._numbers += 1
        file = File(self._numbers)
        try:
            self._call(path, grows=True)
        except (OSError, Crashed):
            if not (self.dead and self.calls != self.crash_at):
                # It got half-way.
                file.data = data[: len(data) // 2]
                directory.change((path.parts[-1], file))
            raise
        file.data = data
        directory.change((path.parts[-1], file))
        self._sync(path, file)

    def create(self, path: Path) -> int:
        directory = self._new(path)
        self._call(path, grows=True)
        self._numbers += 1
        directory.change((path.parts[-1], File(self._numbers)))
        return -1  # a simulated file has no descriptor

    def append(self, path: Path, descriptor: int, data: bytes) -> None:
        file = self._file(path)
        self._append()
        try:
            self._call(path, grows=True)
        except (OSError, Crashed):
            if not (self.dead and self.calls != self.crash_at):
                file.data += data[: len(data) // 2]  # it got half-way
            raise
        file.data += data

    def _append(self) -> None:
        self.appends += 1
        if self.appends in self.bad_appends:
            self.errors[self.calls + 1] = errno.EIO

    def sync_open(self, path: Path, descriptor: int) -> None:
        self._append()
        self._sync(path, self._file(path))

    def sync_file(self, path: Path) -> None:
        self._sync(path, self._file(path))

    def _sync(self, path: Path, file: File) -> None:
        try:
            self._call(path)
        except OSError:
            file.lost = True
            raise
        file.sync()

    def sync_directory(self, path: Path) -> None:
        directory = self._directory(path)
        self._call(path)
        directory.sync()

    def restrict_directory(self, path: Path) -> None:
        self._directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._call(source)
        assert source.parts[:-1] == target.parts[:-1], "a rename into another directory would be two changes"
        directory = self._directory(source.parts[:-1])
        directory.change((target.parts[-1], self._find(source)), (source.parts[-1], None))

    def link(self, root: Path, parts: Sequence[str], target: Path) -> None:
        self._call(target, grows=True)
        self._new(target).change((target.parts[-1], self._file((*root.parts, *parts))))

    def remove_file(self, path: Path) -> None:
        self._call(path)
        directory = self._directory(path.parts[:-1])
        if path.parts[-1] in directory.entries:
            directory.change((path.parts[-1], None))

    def remove_tree(self, path: Path) -> None:
        self._call(path)
        parent = self._directory(path.parts[:-1])
        node = parent.entries.get(path.parts[-1])
        if node is None:
            return
        if isinstance(node, Directory):
            for name in list(node.entries):
                self.remove_tree(path / name)
        parent.change((path.parts[-1], None))

    def names(self, path: Path) -> list[str]:
        self._call(path)
        return sorted(self._directory(path).entries)

    def stat(self, path: Path) -> os.stat_result:
        node = self._find(path)
        if isinstance(node, Directory):
            return os.stat_result((stat.S_IFDIR | 0o700, 0, 1, 1, os.geteuid(), 0, 0, 0, 0, 0))
        # Size and time of change alone tell versions of a file apart; the time here is how much was written.
        length = len(node.data)
        return os.stat_result((stat.S_IFREG | 0o600, node.number, 1, 1, os.geteuid(), 0, length, 0, length, 0))

    def is_file(self, path: Path) -> bool:
        return isinstance(self._there(path), File)

    def is_directory(self, path: Path) -> bool:
        return isinstance(self._there(path), Directory)

    def exists(self, path: Path) -> bool:
        return self._there(path) is not None

    def _there(self, path: Path) -> Node | None:
        try:
            return self._find(path)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read(self, root: Path, parts: Sequence[str]) -> Iterator[bytes]:
        self.reads += 1
        try:
            self._call("/".join(parts))
        except OSError:
            self.unread = True
            raise
        if self.reads in self.bad_reads:
            self.unread = True
            self.failures.append(self.calls)
            raise OSError(errno.EIO, os.strerror(errno.EIO), "/".join(parts))
        yield self._file((*root.parts, *parts)).data

    def size(self, root: Path, parts: Sequence[str]) -> int:
        return len(self._file((*root.parts, *parts)).data)

    def open_read(self, root: Path, parts: Sequence[str]) -> int:
        raise AssertionError("a simulated file has no descriptor: read it with read()")
