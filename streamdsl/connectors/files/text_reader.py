"""Reads CSV and JSON lines in blocks of whole records."""

from __future__ import annotations

import csv
import functools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from streamdsl.connectors.base import METADATA_COLUMNS, Chunk, Json
from streamdsl.connectors.files.block_reader import Block, BlockReader, FileChunk, Texts, data_fields
from streamdsl.connectors.files.byte_stream import ByteStream, changed, open_bytes
from streamdsl.errors import ConnectorError
from streamdsl.formats.changes import REMOVED, ChangeEvents
from streamdsl.formats.conform import check_columns, empty_rows
from streamdsl.formats.cutter import cut_csv, cut_lines
from streamdsl.formats.decode import BadRecord, Csv, JsonLines, TextDecoder
from streamdsl.schema import Field, Schema

_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_TYPED: Final = {b"PAR1": "parquet", b"ARROW1": "arrow"}
_PROBE: Final = 256
#: So much is read for the header: of many files, the rest is read only when it is their turn.
_HEADER_BYTES: Final = 4096
_SKIP_BYTES: Final = 1 << 20


class TextReader(BlockReader):
    """One file of CSV or JSON lines; with `changes`, the key and the time column of a table, these are change events.

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
        delimiter: str = ",",
        changes: tuple[Sequence[str], str | None] | None = None,
    ) -> None:
        at = cast(Mapping[str, Json], position or {})
        super().__init__(path, partition, columns, cast(int, at.get("skip", 0)))
        self._limit = limit
        self._block_bytes = min(block_bytes, limit + 1)
        self._stream: ByteStream = open_bytes(path)
        self._schema = schema
        self._pending = b""
        self._before = b""  # the last bytes that were consumed
        self._at_end = False
        self._offset = 0
        self._record = 0
        self._names_seen = is_csv
        self._delimiter = delimiter
        self._headed = True
        try:
            self._decoder: TextDecoder
            self._cut: Callable[[bytes], tuple[int, bool]]
            self._open(schema, columns, is_csv, changes)
            self._beginning = self._offset
            if "start" in at:
                self._seek(cast(Mapping[str, Json], at["start"]))
        except BaseException:
            self._stream.close()
            raise

    def _open(self, schema: Schema, columns: Sequence[str], is_csv: bool, changes: tuple[Sequence[str], str | None] | None) -> None:
        self._fill(_PROBE)
        if self._pending.startswith(_UTF16):
            raise ConnectorError(f"{self._path} is UTF-16", remedy="convert it to UTF-8, for instance with iconv")
        for magic, format in _TYPED.items():
            if self._pending.startswith(magic):
                raise ConnectorError(f"{self._path} is a file of {format}, not of text", remedy=f'give files(..., format="{format}")')
        if self._pending.startswith(_BOM):
            self._consume(len(_BOM))
        fields = data_fields(schema, columns)
        if changes is not None:
            if REMOVED in columns and REMOVED not in schema:
                fields.append(Field(REMOVED, METADATA_COLUMNS[REMOVED]))
            self._cut, self._decoder = cut_lines, ChangeEvents(fields, *changes, self._path)
            self._least_bytes = len(b"{}\n")
            return
        if not is_csv:
            self._cut, self._decoder = cut_lines, JsonLines(fields, self._path)
            self._least_bytes = len(b"{}\n")
            return
        header = self._header()
        self._headed = bool(header)
        if header:
            check_columns(self._path, header, self._schema.fields)
        self._cut = functools.partial(cut_csv, delimiter=self._delimiter.encode())
        self._decoder = Csv(fields, header, self._path, self._delimiter)
        self._least_bytes = max(len(header), 1)  # of a good record: its commas and its line end

    def _header(self) -> list[str]:
        line, delimiter = b"", self._delimiter.encode()
        while not line:
            size = _HEADER_BYTES
            self._fill(size)
            if not self._pending:
                return []
            end, open_quote = cut_first(self._pending, delimiter)
            while not end and not self._at_end and len(self._pending) <= self._limit:
                size = min(2 * size, self._limit + 1)
                self._fill(size)
                end, open_quote = cut_first(self._pending, delimiter)
            if not end:
                if open_quote or not self._at_end or len(self._pending) > self._limit:
                    raise ConnectorError(f"{self._path} does not begin with a CSV header")
                end = len(self._pending)
            line = self._pending[:end].strip(b"\r\n")
            self._consume(end)
        if b"\r" in line and b'"' not in line:
            raise ConnectorError(f"{self._path} ends its lines with CR alone", remedy="convert its line ends to LF or CRLF")
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            raise ConnectorError(f"{self._path}: the header is not UTF-8", remedy="convert the file to UTF-8") from None
        return [name.strip() for name in next(csv.reader([text], delimiter=self._delimiter), [])]

    def _seek(self, start: Mapping[str, Json]) -> None:
        offset = cast(int, start["bytes"])
        first, stop, checksum = cast(Sequence[int], start["probe"])
        found = self._stream.seek(offset, first, stop)
        if len(found) < stop - first:
            raise changed(self._path, f"it is {first + len(found)} bytes long, the position is {stop}")
        if zlib.crc32(found) != checksum:
            raise changed(self._path, f"other bytes stand in front of position {stop}")
        self._offset, self._record = offset, cast(int, start["record"])
        self._before = found[: offset - first]
        self._pending, self._at_end = b"", False
        self._names_seen |= offset > self._beginning
        if offset and not self._before.endswith(b"\n") and self._beginning != offset:
            self._fill(1)
            if self._pending and not self._pending.startswith((b"\n", b"\r")):
                raise changed(self._path, f"its record {self._record - 1} had no line end when it was read, and goes on now")

    def _start(self) -> Json:
        """Return where the next block begins, with a checksum of the bytes in front of it."""
        start: dict[str, Json] = {
            "bytes": self._offset,
            "record": self._record,
            "probe": [self._offset - len(self._before), self._offset, zlib.crc32(self._before)],
        }
        if self._stream.codec:
            start["packed"] = self._stream.size
        return start

    def start(self) -> Json:
        """Return where the records begin: a file that has none has been read as well. Without a header, that is not known yet."""
        return {"start": self._start(), "skip": 0} if self._headed else None

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the position behind the first `rows` rows of `chunk`; its checksum is of bytes that have been read for good.

        What comes behind may change: a record that stopped the run is mended there.
        """
        at = cast(Mapping[str, Json], super().position(chunk, rows))
        skip, start = cast(int, at["skip"]), cast(Mapping[str, Json], at["start"])
        if not skip:
            return at
        assert isinstance(chunk, FileChunk)
        block = chunk.block
        text = b"" if block.texts is None else block.texts.block[: min(skip * self._least_bytes, _PROBE)]
        offset = cast(int, start["bytes"])
        probe = [offset - len(block.before), offset + len(text), zlib.crc32(block.before + text)]
        return {"start": {**start, "probe": probe}, "skip": skip}

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
        record, before = self._record, self._before
        if not self._names_seen and decoded.records:
            self._look_for_names(text)
        self._consume(len(text))
        self._record += decoded.records
        return Block(decoded.rows, start, self._start(), record, decoded.kept, decoded.bad, Texts(text, self._decoder.split), before)

    def _look_for_names(self, text: bytes) -> None:
        """Refuse a file of JSON in which none of the declared columns ever appears: it is another file."""
        self._names_seen = True
        names = [name for name in self._schema.names if name not in METADATA_COLUMNS]
        marks = [json.dumps(name, ensure_ascii=ascii).encode() for name in names for ascii in (True, False)]
        marks.append(b"\\u")  # a name may be written with escapes
        if not names or any(mark in text for mark in marks):
            return
        first = self._decoder.split(text)[0]
        try:
            found = json.loads(first)
        except ValueError:
            return  # no JSON: a bad record says so
        if not isinstance(found, dict):
            return
        rest, overlap = open_bytes(self._path), max(map(len, marks))
        try:
            window = b""
            while part := rest.read(_SKIP_BYTES):
                window = window[-overlap:] + part
                if any(mark in window for mark in marks):
                    return
        finally:
            rest.close()
        raise ConnectorError(
            f"{self._path} has none of the declared columns {', '.join(names)}; its first record has {', '.join(found) or 'none'}",
            remedy="check the path and the schema: names are compared with upper and lower case",
        )

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
            self._consume(len(window))
            self._fill(_SKIP_BYTES)
            while not end and self._pending:
                end = self._pending.find(b"\n") + 1
                self._consume(end or len(self._pending))
                self._fill(0 if end else _SKIP_BYTES)
        record = self._record
        self._record += 1
        bad = BadRecord(0, 0, raw.rstrip(b"\r\n"), reason)
        return Block(empty_rows(self._decoder.fields), start, self._start(), record, [], (bad,))

    def _fill(self, size: int) -> None:
        parts = [self._pending]
        missing = size - len(self._pending)
        while missing > 0 and not self._at_end:
            part = self._stream.read(missing)
            self._at_end = not part
            parts.append(part)
            missing -= len(part)
        if len(parts) > 1:
            self._pending = b"".join(parts)

    def _consume(self, size: int) -> None:
        self._before = (self._before + self._pending[max(size - _PROBE, 0) : size])[-_PROBE:]
        self._pending = self._pending[size:]
        self._offset += size

    def bytes_read(self) -> tuple[int, int]:
        """Return how far the file has been read, as it is on the disk."""
        return min(self._stream.taken(), self._stream.size), self._stream.size

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def cut_first(text: bytes, delimiter: bytes = b",") -> tuple[int, bool]:
    """Return the length of the first CSV record of `text` with its line end (0: it does not end)."""
    end = -1
    while True:
        end = text.find(b"\n", end + 1)
        if end < 0:
            return 0, cut_csv(text, delimiter)[1]
        if cut_csv(text[: end + 1], delimiter)[0] == end + 1:
            return end + 1, False
