"""The only calls that touch the state directory: what a test replaces to lose writes, fail them, or fill the disk.

Directories are 0700, files 0600, whatever the umask. Nothing follows a symbolic link below the state directory.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from streamdsl._native.includes.faults import CHECKED, fault, planted

__all__ = ["FileSystem"]

CHUNK_BYTES = 1 << 20


class FileSystem:
    """The operating system's files. Errors are its own `OSError`."""

    def make_directory(self, path: Path) -> None:
        """Make one directory, which must not exist."""
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)

    def write_new(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Write a file that must not exist, and sync it."""
        descriptor = _create(path)
        try:
            for chunk in chunks:
                _write(descriptor, chunk)
                fault("FP07")
            fault("FP08")
            if not planted("manifest-not-synced"):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def create(self, path: Path) -> int:
        """Make a file that must not exist and return a descriptor to write it with; it is the caller's to close."""
        return _create(path)

    def append(self, path: Path, descriptor: int, data: bytes | memoryview) -> None:
        """Write at the end of `path`, which `create` has made."""
        # A checked build can die in the middle.
        for part in (data[: len(data) // 2], data[len(data) // 2 :]) if CHECKED else (data,):
            _write(descriptor, part)
            fault("FP07")

    def sync_open(self, path: Path, descriptor: int) -> None:
        """Sync `path`, which `create` has made."""
        fault("FP08")
        os.fsync(descriptor)

    def sync_file(self, path: Path) -> None:
        """Sync a file that somebody else wrote, and close it to others."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make the directory's entries durable."""
        fault("FP09")
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def restrict_directory(self, path: Path) -> None:
        """Close a directory that somebody else made to others."""
        os.chmod(path, 0o700)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, replacing the target."""
        os.rename(source, target)

    def link(self, root: Path, parts: Sequence[str], target: Path) -> None:
        """Hard-link the file `parts` below `root`."""
        directory = self._descend(root, parts[:-1])
        try:
            os.link(parts[-1], target, src_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)

    def remove_file(self, path: Path) -> None:
        """Remove a file; one that is not there is fine."""
        path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a directory with all it holds; one that is not there is fine."""
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            pass

    def names(self, path: Path) -> list[str]:
        """Return the entries of a directory, sorted."""
        return sorted(os.listdir(path))

    def stat(self, path: Path) -> os.stat_result:
        """Return what the directory entry says, of a link itself."""
        return os.lstat(path)

    def is_file(self, path: Path) -> bool:
        """Whether there is a regular file, not a link to one."""
        try:
            return stat.S_ISREG(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_directory(self, path: Path) -> bool:
        """Whether there is a directory, not a link to one."""
        try:
            return stat.S_ISDIR(os.lstat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def exists(self, path: Path) -> bool:
        """Whether there is anything of that name, be it a link that leads nowhere."""
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def read(self, root: Path, parts: Sequence[str]) -> Iterator[bytes]:
        """Return the bytes of the regular file `parts` below `root`, in chunks; no component may be a link."""
        descriptor = self.open_read(root, parts)
        try:
            while chunk := os.read(descriptor, CHUNK_BYTES):
                yield chunk
        finally:
            os.close(descriptor)

    def size(self, root: Path, parts: Sequence[str]) -> int:
        """Return the size of the regular file `parts` below `root`."""
        descriptor = self.open_read(root, parts)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def open_read(self, root: Path, parts: Sequence[str]) -> int:
        """Return a descriptor of the regular file `parts` below `root`."""
        directory = self._descend(root, parts[:-1])
        try:
            # O_NONBLOCK: opening a pipe that somebody put there must not wait for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(parts[-1], flags, dir_fd=directory)
        finally:
            os.close(directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(f"{'/'.join(parts)} is not a regular file")
        return descriptor

    def _descend(self, root: Path, parts: Sequence[str]) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        directory = os.open(root, flags)
        for part in parts:
            try:
                below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=directory)
            finally:
                os.close(directory)
            directory = below
        return directory


def _create(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
