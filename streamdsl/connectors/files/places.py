"""Whether an output is also an input, or the output of somebody else."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from streamdsl.connectors.files.listing import Format, may_become
from streamdsl.errors import ConnectorError

__all__ = ["Place"]


class Place:
    """Where a sink writes: a file, or a directory of parts. It need not exist."""

    def __init__(self, path: str, format: Format) -> None:
        self.is_directory = format in ("parquet", "arrow")
        self.path = os.path.realpath(path)
        # What a pattern would have to match.
        self.file = os.path.join(self.path, f"part-00000001-000.{format}") if self.is_directory else self.path

    def holds(self, file: str) -> bool:
        """Whether `file` is the output, or lies in its directory."""
        found = os.path.realpath(file)
        if _same(self.path, found):
            return True
        return self.is_directory and any(_same(self.path, above) for above in _above(found))

    def collides(self, other: Place) -> bool:
        """Whether one is the other, or lies in the other's directory."""
        return self.holds(other.path) or other.holds(self.path)

    def is_read_by(self, path: str, format: Format) -> bool:
        """Whether the output would be among the files of a source that names `path`, once it exists."""
        if os.path.realpath(path) == self.path:
            return True
        with contextlib.suppress(OSError):  # a directory that cannot be read is told of by the source
            return may_become(path, self.file, format)
        return False

    def among(self, files: Sequence[str]) -> str:
        """Return which of `files` the output is or holds, "" if none."""
        mine = _identity(self.path)
        for file in files:
            if mine is not None and mine == _identity(file):
                return file
        if not self.is_directory:
            return ""
        folders = {os.path.dirname(file): file for file in files}
        return next((file for folder, file in folders.items() if self.holds(folder)), "") or next(
            (file for file in files if os.path.islink(file) and self.holds(file)), ""
        )


def listed(list_files: object) -> Sequence[str]:
    """Return the files of a source; none if they cannot be listed, which the source tells of when it is opened."""
    try:
        return list_files()  # type: ignore[operator,no-any-return]
    except ConnectorError:
        return ()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _same(one: str, other: str) -> bool:
    if one == other:
        return True
    mine, its = _identity(one), _identity(other)
    if mine is not None or its is not None:
        return mine is not None and mine == its
    return one.casefold() == other.casefold() and _ignores_case(one)


def _above(path: str) -> list[str]:
    found = []
    while (above := os.path.dirname(path)) != path:
        found.append(above)
        path = above
    return found


def _ignores_case(path: str) -> bool:
    """Whether the file system of the nearest directory that exists takes upper and lower case as one."""
    nearest = next((above for above in _above(path) if os.path.isdir(above) and above.swapcase() != above), None)
    return nearest is not None and _identity(nearest) == _identity(nearest.swapcase())
