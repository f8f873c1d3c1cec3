"""Sinks that look at rows and forget them: what a benchmark's job writes to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from streamdsl.connectors.base import Json, Sink, SinkWriter


class Dropped(Sink):
    """Counts rows and forgets them; remembers when the first ones came. `look` is for those who want to know more of them."""

    def __init__(self, name: str = "dropped") -> None:
        self.name = name
        self.rows, self.first_at = 0, 0.0

    def open_writer(self, schema: Any, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        return _Writer(self)

    def look(self, rows: pa.RecordBatch) -> None:
        """Look at rows that have come."""


class _Writer(SinkWriter):
    def __init__(self, sink: Dropped) -> None:
        self.sink = sink

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        if not self.sink.rows:
            self.sink.first_at = time.monotonic()
        self.sink.rows += rows.num_rows
        self.sink.look(rows)

    def snapshot(self, checkpoint_id: int) -> Json:
        return {"rows": self.sink.rows}
