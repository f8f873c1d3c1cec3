"""The bytes of a file from any place on, decompressed where it is compressed. Memory is bounded whatever the file holds."""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import zlib
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, Protocol

import pyarrow as pa

from streamdsl.connectors.files.open_files import OPEN_FILES, Parkable, unopened
from streamdsl.errors import ConnectorError

__all__ = ["ByteStream", "changed", "codec_of", "open_bytes"]

_RAW_BYTES: Final = 1 << 16
_SKIP_BYTES: Final = 1 << 20
#: What a decompressor may hold: xz files name the size of their dictionary themselves.
_MEMORY: Final = 1 << 27
#: How compressed files begin. Of those that are not read, users are told what they are.
_MAGIC: Final[dict[bytes, str]] = {
    b"\x1f\x8b": "gzip",
    b"BZh?1AY&SY": "bz2",
    b"BZh?\x17rE8P\x90": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
    b"\x1f\x9d": "compress",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\xff\x06\x00\x00sNaPpY": "snappy",
}
_UNREAD: Final = ("zip", "compress", "7z", "snappy")
_MAGIC_BYTES: Final = max(map(len, _MAGIC))


def changed(path: str, how: str) -> ConnectorError:
    """Return the error of a file that is not the one that a position was taken in."""
    return ConnectorError(
        f"{path} has changed since the checkpoint: {how}",
        remedy="restore the file as it was, or start with an empty state directory",
    )


class ByteStream(Parkable):
    """Reads one file; it is closed when others need its descriptor (see `open_files`).

    Attributes
    ----------
    path : str
    size : int
        Of the file on the disk when it was opened.
    codec : str
        How it is compressed; "" if it is not.
    """

    codec = ""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._identity: tuple[int, int] | None = None
        with OPEN_FILES.use(self):
            self.size = os.fstat(self._fd).st_size

    def unpark(self) -> None:
        """Open the file; another one under its name is an error."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(fd)
        identity = (found.st_dev, found.st_ino)
        try:
            if not stat.S_ISREG(found.st_mode):
                raise ConnectorError(f"{self.path} is not a regular file", remedy="a source must be able to seek in it")
            if self._identity is not None and identity != self._identity:
                raise changed(self.path, "another file has taken its name while it was read")
        except ConnectorError:
            os.close(fd)
            raise
        self._fd, self._identity = fd, identity

    def park(self) -> None:
        """Close the file."""
        os.close(self._fd)
        self._fd = -1

    def raw(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes of the file as it is on the disk."""
        try:
            with OPEN_FILES.use(self):
                return os.pread(self._fd, size, offset)
        except OSError as error:
            if self._fd < 0:
                raise unopened(self.path, error) from error
            raise ConnectorError(f"{self.path} cannot be read at byte {offset}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file for good."""
        OPEN_FILES.close(self)

    @abstractmethod
    def taken(self) -> int:
        """Return how many bytes of the file, as it is on the disk, have been read."""

    @abstractmethod
    def read(self, size: int) -> bytes:
        """Return up to `size` bytes from where the last read ended; none at the end."""

    @abstractmethod
    def seek(self, offset: int, first: int, stop: int) -> bytes:
        """Have the next read begin at `offset`, and return the bytes from `first` (not behind it) to `stop` (not before it)."""


class Plain(ByteStream):
    """A file as it is."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._offset = 0

    def taken(self) -> int:
        """Return how far it has been read."""
        return self._offset

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        data = self.raw(size, self._offset)
        self._offset += len(data)
        return data

    def seek(self, offset: int, first: int, stop: int) -> bytes:
        """Go to `offset`."""
        self._offset = offset
        return self.raw(stop - first, first)


class Compressed(ByteStream):
    """A compressed file, of one or more members."""

    def __init__(self, path: str, codec: str) -> None:
        self.codec = codec
        super().__init__(path)
        self._begin()

    def _begin(self) -> None:
        self._taken = 0  # bytes of the file that were given to the decompressor
        self._unused = b""
        self._back = b""  # bytes that were decompressed and are to be read again
        self._member: _Decompressor | None = None
        self._zstd: Any = None
        if self.codec in ("zstd", "lz4"):
            self._zstd = pa.CompressedInputStream(pa.PythonFile(_Raw(self), mode="r"), self.codec)

    def taken(self) -> int:
        """Return how much was given to the decompressor."""
        return self._taken

    def read(self, size: int) -> bytes:
        """Return the next bytes, decompressed."""
        if self._back:
            data, self._back = self._back[:size], self._back[size:]
            return data
        try:
            return self._decompressed(size) if self._zstd is None else self._zstd.read(size)
        except ConnectorError:
            raise
        except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
            raise ConnectorError(
                f"{self.path} cannot be decompressed ({self.codec}) near byte {self._taken} of the file: {error}",
                remedy="the file is damaged or not complete: restore it, or read it once it has been written",
            ) from error

    def next_raw(self, size: int) -> bytes:
        """Return the next bytes for the decompressor."""
        if self._unused:
            data, self._unused = self._unused, b""
            return data
        data = self.raw(size, self._taken)
        self._taken += len(data)
        return data

    def _decompressed(self, size: int) -> bytes:
        while True:
            if self._member is None:
                data = self.next_raw(_RAW_BYTES).lstrip(b"\0")  # members may be padded
                if not data:
                    if self._taken >= self.size and not self.raw(1, self._taken):
                        return b""
                    continue
                self._unused = data
                self._member = _DECOMPRESSORS[self.codec]()
            data = self.next_raw(_RAW_BYTES) if self._member.needs_input else b""
            if not data and self._member.needs_input:
                raise EOFError("the file ends within its compressed data")
            out = self._member.decompress(data, size)
            if self._member.eof:
                self._unused, self._member = self._member.unused_data + self._unused, None
            if out:
                return out

    def seek(self, offset: int, first: int, stop: int) -> bytes:
        """Decompress from the beginning to `offset`."""
        self._begin()
        self._skip(first)
        found = b""
        while len(found) < stop - first and (part := self.read(stop - first - len(found))):
            found += part
        self._back = found[offset - first :]
        if offset > stop:
            self._skip(offset - stop)
        return found

    def _skip(self, size: int) -> None:
        while size > 0 and (part := self.read(min(size, _SKIP_BYTES))):
            size -= len(part)


class _Raw:
    """The compressed bytes as a file, for pyarrow."""

    closed = False

    def __init__(self, stream: Compressed) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        return self._stream.next_raw(size if size >= 0 else _RAW_BYTES)

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        pass


class _Decompressor(Protocol):
    """What the standard library's decompressors of one member have in common."""

    @property
    def needs_input(self) -> bool: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.needs_input = not self._inner.unconsumed_tail and len(out) < max_length
        return out

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


_DECOMPRESSORS: Final[dict[str, Callable[[], _Decompressor]]] = {
    "gzip": _Gzip,
    "bz2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
}


def codec_of(beginning: bytes) -> str:
    """Return how a file that begins so is compressed; "" if it is not."""
    # The fourth byte of bz2 is its level: without the rest a column name could look like it.
    bz2_like = beginning[:3] + b"?" + beginning[4:] if beginning.startswith(b"BZh") else beginning
    return next((codec for magic, codec in _MAGIC.items() if bz2_like.startswith(magic)), "")


def open_bytes(path: str) -> ByteStream:
    """Open a file, compressed or not: its first bytes tell.

    Raises
    ------
    ConnectorError
        It cannot be opened, is not a regular file, or is compressed in a way that is not read.
    """
    try:
        plain = Plain(path)
    except OSError as error:
        raise unopened(path, error) from error
    codec = codec_of(plain.raw(_MAGIC_BYTES, 0))
    if not codec:
        return plain
    plain.close()
    if codec in _UNREAD:
        raise ConnectorError(f"{path} is compressed ({codec})", remedy="decompress it; .gz, .bz2, .xz, .zst and .lz4 are read as they are")
    return Compressed(path, codec)
