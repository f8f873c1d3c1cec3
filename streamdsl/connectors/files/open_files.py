"""At most so many files are open at once: a reader that is not in use gives its file back, and opens it again when it reads on."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from streamdsl.errors import ConnectorError

_LIMIT: Final = 64
_NO_DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


class Parkable(ABC):
    """What holds a file: it can let go of it at any time when it is not in use."""

    @abstractmethod
    def unpark(self) -> None:
        """Open the file."""

    @abstractmethod
    def park(self) -> None:
        """Close the file, so that `unpark` goes on from the same place."""


class OpenFiles:
    """The open files of the process that are read, the one that was used longest ago first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._pins: OrderedDict[Parkable, int] = OrderedDict()

    @contextlib.contextmanager
    def use(self, holder: Parkable) -> Iterator[None]:
        """Keep the file of `holder` open meanwhile.

        Raises
        ------
        OSError
            It cannot be opened.
        """
        with self._lock:
            if holder not in self._pins:
                self._open(holder)
            self._pins[holder] += 1
            self._pins.move_to_end(holder)
        try:
            yield
        finally:
            with self._lock:
                self._pins[holder] -= 1

    def close(self, holder: Parkable) -> None:
        """Close the file of `holder` for good."""
        with self._lock:
            if self._pins.pop(holder, None) is not None:
                holder.park()

    def _open(self, holder: Parkable) -> None:
        self._make_room(self._limit - 1)
        try:
            holder.unpark()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS or not self._make_room(len(self._pins) // 2):
                raise
            holder.unpark()
        self._pins[holder] = 0

    def _make_room(self, most: int) -> bool:
        """Close files that are not in use until `most` are left; return whether there were any."""
        spare = [holder for holder, pins in self._pins.items() if not pins][: max(len(self._pins) - most, 0)]
        for holder in spare:
            del self._pins[holder]
            holder.park()
        return bool(spare)


OPEN_FILES: Final = OpenFiles(_LIMIT)


def unopened(path: str, error: OSError) -> ConnectorError:
    """Return what a user is told of a file that cannot be opened for reading."""
    reason = error.strerror or str(error)
    if error.errno in _NO_DESCRIPTORS:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return ConnectorError(
            f"{path} cannot be opened: too many open files (the limit of the process is {soft})",
            remedy="raise the limit (ulimit -n): the process holds other files and connections too",
        )
    remedy = "check the permissions of the file and of the directories above it" if error.errno == errno.EACCES else "check the path"
    return ConnectorError(f"{path} cannot be opened: {reason} (working directory {os.getcwd()})", remedy=remedy)
