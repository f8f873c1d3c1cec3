"""How far long work on files is: a line in the log now and then, and none for what takes no time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Final

from streamdsl.checkpoint.manifest import FileEntry

__all__ = ["Progress", "bytes_of"]

_log = logging.getLogger("streamdsl")

#: Work that is over by then is not told of; later there is a line so often.
FIRST_S: Final = 2.0
EVERY_S: Final = 5.0
_MIB: Final = 1 << 20


def bytes_of(files: Iterable[FileEntry]) -> int:
    """Return how many bytes files have."""
    return sum(file.size for file in files)


class Progress:
    """Tells how far work is, while it is entered, at INFO; its end too, if it has told of it before.

    Parameters
    ----------
    what : str
        "checkpoint 7 is verified", as the lines begin.
    total : int
        Bytes.
    now : callable
        Returns seconds, for tests.
    """

    def __init__(self, what: str, total: int, now: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._now = what, total, now
        self._done = 0
        self._began = now()
        self._next = self._began + FIRST_S
        self._told = False

    def __enter__(self) -> Progress:
        return self

    def add(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        now = self._now()
        if now < self._next:
            return
        self._next, self._told = now + EVERY_S, True
        rate = self._done / (now - self._began)
        left = f", about {(self._total - self._done) / rate:,.0f} s left" if 0 < self._done < self._total else ""
        share = f" ({min(self._done / self._total, 1):.0%})" if self._total else ""
        _log.info(
            "%s: %s of %s MiB%s, %s MiB/s%s",
            self._what,
            f"{self._done / _MIB:,.0f}",
            f"{self._total / _MIB:,.0f}",
            share,
            f"{rate / _MIB:,.0f}",
            left,
        )

    def of(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield chunks, and count them as they are taken."""
        for chunk in chunks:
            yield chunk
            self.add(len(chunk))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._told and kind is None:
            _log.info("%s: done in %.0f s", self._what, self._now() - self._began)
