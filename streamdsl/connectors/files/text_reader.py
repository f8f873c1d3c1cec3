"""Reads CSV and JSON lines in blocks of whole records."""

from __future__ import annotations

import csv
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, Final, cast

from streamdsl.connectors.base import Chunk, Json
from streamdsl.connectors.files.block_reader import Block, BlockReader, Texts, changed, data_fields
from streamdsl.errors import ConnectorError
from streamdsl.formats.conform import check_columns, empty_rows
from streamdsl.formats.cutter import cut_csv, cut_lines
from streamdsl.formats.decode import BadRecord, Csv, JsonLines, TextDecoder
from streamdsl.schema import Schema

_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_PROBE: Final = 256
_SKIP_BYTES: Final = 1 << 20


class TextReader(BlockReader):
    """One file of CSV or JSON lines.

    A record longer than `limit` bytes is rejected without being held in memory. A quoted field that does not end
    within `limit` bytes (or before the file's end) costs the line it begins in, not the rest of the file.
    """

    def __init__(
        self,
        path: str,
        partition: int,
        schema: Schema,
        columns: Sequence[str],
        position: Json,
        *,
        is_csv: bool,
        block_bytes: int,
        limit: int,
    ) -> None:
        at = cast(Mapping[str, Json], position or {})
        super().__init__(path, partition, columns, cast(int, at.get("skip", 0)))
        self._limit = limit
        self._block_bytes = min(block_bytes, limit + 1)
        self._file: BinaryIO = open(path, "rb", buffering=0)  # noqa: SIM115 - close() closes it
        self._pending = b""
        self._at_end = False
        self._offset = 0
        self._record = 0
        try:
            self._decoder: TextDecoder
            self._cut: Callable[[bytes], tuple[int, bool]]
            self._open(schema, columns, is_csv)
            if "start" in at:
                self._seek(cast(Mapping[str, Json], at["start"]))
        except BaseException:
            self._file.close()
            raise

    def _open(self, schema: Schema, columns: Sequence[str], is_csv: bool) -> None:
        self._fill(len(_BOM))
        if self._pending.startswith(_UTF16):
            raise ConnectorError(f"{self._path} is UTF-16", remedy="convert it to UTF-8, for instance with iconv")
        if self._pending.startswith(_BOM):
            self._consume(len(_BOM))
        fields = data_fields(schema, columns)
        if not is_csv:
            self._cut, self._decoder = cut_lines, JsonLines(fields)
            self._least_bytes = len(b"{}\n")
            return
        header = self._header()
        check_columns(self._path, header or [field.name for field in fields], fields)
        self._cut, self._decoder = cut_csv, Csv(fields, header, self._path)
        self._least_bytes = max(len(header), 1)  # of a good record: its commas and its line end

    def _header(self) -> list[str]:
        while True:
            self._fill(self._limit + 1)
            end, open_quote = cut_first(self._pending)
            if not end:
                if open_quote or not self._at_end or len(self._pending) > self._limit:
                    raise ConnectorError(f"{self._path} does not begin with a CSV header")
                end = len(self._pending)
            line = self._pending[:end].strip(b"\r\n")
            self._consume(end)
            if line or not self._pending:
                break
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise ConnectorError(f"{self._path}: the header is not UTF-8", remedy="convert the file to UTF-8") from None
        return [name.strip() for name in next(csv.reader([text]), [])]

    def _seek(self, start: Mapping[str, Json]) -> None:
        offset = cast(int, start["bytes"])
        size = os.fstat(self._file.fileno()).st_size
        first, stop, checksum = cast(Sequence[int], start["probe"])
        if size < stop:
            raise changed(self._path, f"it is {size} bytes long, the position is {stop}")
        if self._checksum(first, stop) != checksum:
            raise changed(self._path, f"other bytes stand in front of position {stop}")
        self._file.seek(offset)
        self._offset, self._record = offset, cast(int, start["record"])
        self._pending, self._at_end = b"", False

    def _start(self) -> Json:
        """Return where the next block begins, with a checksum of the bytes in front of it."""
        first = max(self._offset - _PROBE, 0)
        return {
            "bytes": self._offset,
            "record": self._record,
            "probe": [first, self._offset, self._checksum(first, self._offset)],
        }

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the position behind the first `rows` rows of `chunk`; its checksum is of bytes that have been read for good.

        What comes behind may change: a record that stopped the run is mended there.
        """
        at = cast(Mapping[str, Json], super().position(chunk, rows))
        skip, start = cast(int, at["skip"]), cast(Mapping[str, Json], at["start"])
        if not skip:
            return at
        offset = cast(int, start["bytes"])
        first, stop = max(offset - _PROBE, 0), offset + min(skip * self._least_bytes, _PROBE)
        return {"start": {**start, "probe": [first, stop, self._checksum(first, stop)]}, "skip": skip}

    def _checksum(self, first: int, stop: int) -> int:
        return zlib.crc32(os.pread(self._file.fileno(), stop - first, first))

    def next_block(self) -> Block | None:
        """Return the next block of whole records."""
        start = self._start()
        size = self._block_bytes
        while True:
            self._fill(size)
            if not self._pending:
                return None
            window = self._pending[:size]
            cut, open_quote = self._cut(window)
            if self._at_end and len(self._pending) <= size and not open_quote and len(window) - cut <= self._limit:
                cut = len(window)
            if cut:
                return self._decoded(window[:cut], start)
            if size > self._limit or (self._at_end and len(self._pending) <= size):
                return self._broken(window, open_quote, start)
            size = min(2 * size, self._limit + 1)

    def _decoded(self, text: bytes, start: Json) -> Block:
        decoded = self._decoder.decode_block(text)
        record = self._record
        self._consume(len(text))
        self._record += decoded.records
        return Block(decoded.rows, start, self._start(), record, decoded.kept, decoded.bad, Texts(text, self._decoder.split))

    def _broken(self, window: bytes, open_quote: bool, start: Json) -> Block:
        """Reject one line that is too long, or in which a quoted field begins that does not end."""
        end = window.find(b"\n") + 1
        if end or len(window) <= self._limit:
            reason = "a quoted field begins here and does not end" if open_quote else "not a whole record"
            raw = window[: end or len(window)]
            self._consume(len(raw))
        else:
            reason = f"the record is longer than {self._limit} bytes"
            raw = window
            while not end and self._pending:
                self._consume(len(self._pending))
                self._fill(_SKIP_BYTES)
                end = self._pending.find(b"\n") + 1
            self._consume(end)
        record = self._record
        self._record += 1
        bad = BadRecord(0, 0, raw.rstrip(b"\r\n"), reason)
        return Block(empty_rows(self._decoder.fields), start, self._start(), record, [], (bad,))

    def _fill(self, size: int) -> None:
        parts = [self._pending]
        missing = size - len(self._pending)
        while missing > 0 and not self._at_end:
            try:
                part = self._file.read(missing)
            except OSError as error:
                raise ConnectorError(f"{self._path} cannot be read at byte {self._offset}: {error.strerror}") from error
            self._at_end = not part
            parts.append(part)
            missing -= len(part)
        if len(parts) > 1:
            self._pending = b"".join(parts)

    def _consume(self, size: int) -> None:
        self._pending = self._pending[size:]
        self._offset += size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def cut_first(text: bytes) -> tuple[int, bool]:
    """Return the length of the first CSV record of `text` with its line end (0: it does not end)."""
    end = -1
    while True:
        end = text.find(b"\n", end + 1)
        if end < 0:
            return 0, cut_csv(text)[1]
        if cut_csv(text[: end + 1])[0] == end + 1:
            return end + 1, False
