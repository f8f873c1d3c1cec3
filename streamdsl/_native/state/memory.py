"""State in a dict: small jobs, tests, simulation. A checkpoint is one file with all rows."""

from __future__ import annotations

import struct
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from streamdsl._native.state.backend import CheckpointFiles, CheckpointTarget
from streamdsl.errors import StateError

__all__ = ["MemoryBackend"]

_FILE = "rows"
_MAGIC = b"streamdsl rows 1\n"
_SIZES = struct.Struct("<II")
_CHUNK = 1 << 20


class MemoryBackend:
    """A sorted mapping in memory.

    Parameters
    ----------
    files : CheckpointFiles, optional
        What to begin with.
    """

    incremental = False

    def __init__(self, files: CheckpointFiles | None = None) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._sorted: list[bytes] | None = []
        self._lock = threading.Lock()
        if files is not None:
            self._rows = _decode(b"".join(files.read(_FILE)))
            self._sorted = None

    def apply(self, entries: Sequence[tuple[bytes, bytes | None]]) -> None:
        """See `StateBackend.apply`."""
        rows = self._rows
        with self._lock:
            known = len(rows)
            for key, value in entries:
                if value is None:
                    if rows.pop(key, None) is not None:
                        known = -1
                else:
                    rows[key] = value
            if len(rows) != known:
                self._sorted = None

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """See `StateBackend.get_many`."""
        return [self._rows.get(key) for key in keys]

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See `StateBackend.scan`."""
        rows = self._rows
        with self._lock:
            keys = self._sorted
            if keys is None:
                keys = self._sorted = sorted(rows)
        for at in range(bisect_right(keys, after) if after else bisect_left(keys, prefix), len(keys)):
            if not keys[at].startswith(prefix):
                return
            value = rows.get(keys[at])
            if value is not None:  # else somebody has just removed it
                yield keys[at], value

    def expect(self, memory: int) -> None:
        """See `StateBackend.expect`."""

    def checkpoint(self, target: CheckpointTarget) -> None:
        """See `StateBackend.checkpoint`."""
        target.write_file(_FILE, self._encode())

    def _encode(self) -> Iterator[bytes]:
        chunk = bytearray(_MAGIC)
        for key, value in self.scan(b""):
            chunk += _SIZES.pack(len(key), len(value))
            chunk += key
            chunk += value
            if len(chunk) >= _CHUNK:
                yield bytes(chunk)
                chunk.clear()
        yield bytes(chunk)

    def close(self) -> None:
        """See `StateBackend.close`."""
        self._rows = {}
        self._sorted = []


def _decode(data: bytes) -> dict[bytes, bytes]:
    damaged = StateError(f"the file {_FILE!r} of a checkpoint is damaged", remedy="restore from another checkpoint")
    if not data.startswith(_MAGIC):
        raise damaged
    rows = {}
    at = len(_MAGIC)
    while at < len(data):
        if at + 8 > len(data):
            raise damaged
        key_size, value_size = _SIZES.unpack_from(data, at)
        end = at + 8 + key_size + value_size
        if end > len(data):
            raise damaged
        rows[data[at + 8 : at + 8 + key_size]] = data[at + 8 + key_size : end]
        at = end
    return rows
