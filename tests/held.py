"""A source that waits for the test: what must happen before the end of a run does not depend on the clock."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from streamdsl.connectors.base import END, Chunk, End, Json, Source, SplitReader


class Held(Source):
    """Another source. It gives so many rows (default: all), and nothing more, not even its end, until `over` is set."""

    bounded = True

    def __init__(self, inner: Source, rows: int | None = None) -> None:
        self.inner, self.rows, self.over = inner, rows, threading.Event()
        self.name, self.schema, self.rate, self.position_form = inner.name, inner.schema, inner.rate, inner.position_form

    def splits(self) -> Sequence[str]:
        return self.inner.splits()

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return HeldReader(self.inner.open_split(split, position, columns), self)


class HeldReader(SplitReader):
    def __init__(self, inner: SplitReader, source: Held) -> None:
        self.inner, self.source, self.left = inner, source, source.rows

    def read(self, max_rows: int) -> Chunk | End | None:
        if self.source.over.is_set():
            return self.inner.read(max_rows)
        if self.left is not None:
            max_rows = min(max_rows, self.left)
        if max_rows == 0:
            return None
        chunk = self.inner.read(max_rows)
        if self.left is not None and isinstance(chunk, Chunk):
            self.left -= chunk.rows.num_rows
            assert self.left >= 0, "the source gave more than it was asked for"
        return None if chunk is END else chunk

    def position(self, chunk: Chunk, rows: int) -> Json:
        return self.inner.position(chunk, rows)

    def close(self) -> None:
        self.inner.close()
