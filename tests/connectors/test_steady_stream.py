"""A stream that never pauses: what comes of it is seen while it flows, however little it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from streamdsl import Config, Schema, Topology, col
from streamdsl.connectors.base import Chunk, End, Json, Sink, SinkWriter, Source, SplitReader

#: One row in so many is written: the first, and none of them fills a sink's buffer within the test's time.
RARE = 10_000_000


class Steady(Source):
    """Has rows, always as many, whenever it is asked."""

    name = "steady"
    bounded = False

    def __init__(self, rows: int) -> None:
        self.schema = Schema.of({"n": int})
        self.rows = rows

    def splits(self) -> Sequence[str]:
        return ["all"]

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return _SteadyReader(self.rows)


class _SteadyReader(SplitReader):
    def __init__(self, rows: int) -> None:
        self.rows, self.n = rows, 0

    def read(self, max_rows: int) -> Chunk | End | None:
        first, self.n = self.n, self.n + self.rows
        return Chunk(pa.RecordBatch.from_pydict({"n": pa.array(range(first, self.n), pa.int64())}), first)

    def position(self, chunk: Chunk, rows: int) -> Json:
        return self.n

    def close(self) -> None: ...


class Noticing(Sink):
    """Says that rows have come, and that they have been flushed."""

    name = "noticing"

    def __init__(self) -> None:
        self.flushed = threading.Event()

    def open_writer(self, schema: Any, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        return _NoticingWriter(self.flushed)


class _NoticingWriter(SinkWriter):
    def __init__(self, flushed: threading.Event) -> None:
        self._flushed, self._written = flushed, False

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        self._written = True

    def flush(self) -> None:
        if self._written:
            self._flushed.set()

    def snapshot(self, checkpoint_id: int) -> Json:
        return None

    def commit(self, checkpoint_id: int) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("rows", [1, 2048])
def test_few_rows_of_a_stream_that_never_pauses(rows: int) -> None:
    sink = Noticing()
    topology = Topology("job")
    topology.stream(Steady(rows), name="in").filter(col("n") % RARE == 0).to(sink, name="out")
    run = topology.start(Config(checkpoint_interval="1h"))
    try:
        assert sink.flushed.wait(30), "the first row is to be handed over although the stream goes on"
    finally:
        run.abandon(10)
