"""File systems that misbehave: one fails the k-th call, one writes down every call so that a power cut can be replayed."""

from __future__ import annotations

import errno
import functools
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamdsl.checkpoint.filesystem import FileSystem

CALLS = (
    "make_directory", "write_new", "create", "append", "sync_open", "sync_file", "sync_directory", "rename", "link", "remove_file",
    "remove_tree", "names", "read",
)  # fmt: skip
SECTOR = 512


class FailingFileSystem(FileSystem):
    """Fails calls with an error; `calls` counts them all.

    Parameters
    ----------
    fails : callable
        (number of the call from 0, its name) -> errno, or 0. `write_new` and `append` then leave half of the bytes behind.
    """

    def __init__(self, fails: Callable[[int, str], int] = lambda number, name: 0) -> None:
        self.fails = fails
        self.calls: list[tuple[str, str]] = []

    def _count(self, name: str, path: object) -> int:
        self.calls.append((name, str(path)))
        return self.fails(len(self.calls) - 1, name)

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        wrong = self._count("write_new", path)
        if wrong:
            data = b"".join(chunks)
            Path(path).write_bytes(data[: len(data) // 2])
            raise OSError(wrong, os.strerror(wrong), str(path))
        super().write_new(path, chunks)

    def append(self, path: Path, descriptor: int, data: bytes) -> None:
        wrong = self._count("append", path)
        if wrong:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(wrong, os.strerror(wrong), str(path))
        super().append(path, descriptor, data)

    def read(self, root: Path, parts: Sequence[str]) -> Iterator[bytes]:
        wrong = self._count("read", root.joinpath(*parts))
        if wrong:
            raise OSError(wrong, os.strerror(wrong), str(root.joinpath(*parts)))
        return super().read(root, parts)


def _failing(name: str) -> Any:
    original = getattr(FileSystem, name)

    @functools.wraps(original)
    def call(self: FailingFileSystem, path: Path, *others: Any) -> Any:
        wrong = self._count(name, path)
        if wrong:
            raise OSError(wrong, os.strerror(wrong), str(path))
        return original(self, path, *others)

    return call


for _name in set(CALLS) - {"write_new", "append", "read"}:
    setattr(FailingFileSystem, _name, _failing(_name))

ERRORS = {"no space": errno.ENOSPC, "I/O error": errno.EIO, "interrupted": errno.EINTR}


# --------------------------------------------------------------------- a power cut


@dataclass
class Node:
    """A file or directory on the disk."""

    entries: dict[str, Node] | None = None  # of a directory, as a process sees them
    data: bytes = b""
    synced: bytes | None = None  # what a file surely has; None: nothing but its name
    durable: dict[str, Node] = field(default_factory=dict)  # entries that are surely there
    pending: list[tuple[str, Node | None]] = field(default_factory=list)  # entry changes since the directory was synced

    def set(self, name: str, node: Node | None) -> None:
        assert self.entries is not None
        if node is None:
            del self.entries[name]
        else:
            self.entries[name] = node
        self.pending.append((name, node))


class Disk:
    """What a power cut leaves, by the rules of POSIX: a file's bytes last from fsync on, a name from its directory's fsync on.

    Names of one directory reach the disk one by one and, of one name, in order.
    """

    def __init__(self) -> None:
        self.root = Node(entries={})

    def node(self, path: Sequence[str]) -> Node:
        found = self.root
        for part in path:
            assert found.entries is not None
            found = found.entries[part]
        return found

    def apply(self, operation: tuple[Any, ...]) -> None:
        kind, path, *more = operation
        parent = self.node(path[:-1]) if path else self.root
        if kind == "mkdir":
            parent.set(path[-1], Node(entries={}))
        elif kind == "create":
            parent.set(path[-1], Node())
        elif kind == "write":
            self.node(path).data += more[0]
        elif kind == "fsync":
            node = self.node(path)
            if node.entries is None:
                node.synced = node.data
            else:
                node.durable, node.pending = dict(node.entries), []
        elif kind == "rename":
            node = self.node(path)
            target = more[0]
            if target[:-1] == path[:-1]:
                # One step of a journal: both names change, or neither.
                assert parent.entries is not None
                del parent.entries[path[-1]]
                parent.entries[target[-1]] = node
                parent.pending.append((path[-1] + "\0" + target[-1], node))
            else:
                raise AssertionError("a rename into another directory")
        elif kind == "link":
            self.node(more[0][:-1]).set(more[0][-1], self.node(path))
        elif kind == "unlink":
            parent.set(path[-1], None)
        else:
            raise AssertionError(kind)

    def write_to(self, place: Path, choose: Chooser) -> None:
        """Make the tree that `choose` left, in the empty directory `place`."""
        self._write(self.root, place, choose)

    def _write(self, node: Node, place: Path, choose: Chooser) -> None:
        entries = dict(node.durable)
        for name, changed in node.pending:
            if not choose.entry():
                continue
            if "\0" in name:
                old, new = name.split("\0")
                entries.pop(old, None)
                entries[new] = changed  # type: ignore[assignment]
            elif changed is None:
                entries.pop(name, None)
            else:
                entries[name] = changed
        for name, child in entries.items():
            if child.entries is None:
                (place / name).write_bytes(choose.content(child))
                (place / name).chmod(0o600)
            else:
                (place / name).mkdir(mode=0o700)
                self._write(child, place / name, choose)


class Chooser:
    """Which unsynced changes made it: none, all, all but the n-th, or a seeded mixture; torn files end at a sector."""

    def __init__(self, kind: str, number: int = 0) -> None:
        self.kind, self.number, self.asked = kind, number, 0
        self.draw = random.Random(number)

    def entry(self) -> bool:
        self.asked += 1
        if self.kind in ("none", "torn"):
            return self.kind == "torn"
        if self.kind == "all but one":
            return self.asked - 1 != self.number
        return self.kind == "all" or self.draw.random() < 0.5

    def content(self, node: Node) -> bytes:
        if node.synced == node.data:
            return node.data
        self.asked += 1
        if self.kind == "all":
            return node.data
        if self.kind == "all but one":
            return node.data if self.asked - 1 != self.number else (node.synced or b"")
        if self.kind == "none":
            return node.synced or b""
        # A file that has grown since it was synced: what was synced stays.
        length = max(self.draw.randrange(len(node.data) // SECTOR + 1) * SECTOR, len(node.synced or b""))
        torn = node.data[:length]
        # Blocks may be there as zeros, too: the length was written, the bytes were not.
        return torn if self.draw.random() < 0.5 else torn + bytes(len(node.data) - length)


class RecordingFileSystem(FileSystem):
    """Does the work below `root`, and writes down what reached the kernel, call by call."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log: list[tuple[Any, ...]] = []

    def _note(self, kind: str, path: Path, *more: Any) -> None:
        self.log.append((kind, Path(path).relative_to(self.root).parts, *more))

    def make_directory(self, path: Path) -> None:
        super().make_directory(path)
        self._note("mkdir", path)

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        data = list(chunks)
        super().write_new(path, data)
        self._note("create", path)
        for chunk in data:
            self._note("write", path, bytes(chunk))
        self._note("fsync", path)

    def sync_file(self, path: Path) -> None:
        super().sync_file(path)
        self._note("fsync", path)

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        if path == self.root or self.root in path.parents:
            self._note("fsync", path)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._note("rename", source, target.relative_to(self.root).parts)

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._note("create", path)
        return descriptor

    def append(self, path: Path, descriptor: int, data: bytes) -> None:
        super().append(path, descriptor, data)
        self._note("write", path, bytes(data))

    def sync_open(self, path: Path, descriptor: int) -> None:
        super().sync_open(path, descriptor)
        self._note("fsync", path)

    def link(self, root: Path, parts: Sequence[str], target: Path) -> None:
        super().link(root, parts, target)
        self._note("link", root.joinpath(*parts), target.relative_to(self.root).parts)

    def remove_file(self, path: Path) -> None:
        there = self.exists(path)
        super().remove_file(path)
        if there:
            self._note("unlink", path)

    def remove_tree(self, path: Path) -> None:
        if not self.exists(path):
            return
        for folder, directories, files in os.walk(path, topdown=False):
            for name in [*files, *directories]:
                self._note("unlink", Path(folder) / name)
        self._note("unlink", path)
        super().remove_tree(path)
