"""Jobs that fail on purpose, and what stands around them: gates, so that no test depends on the clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamdsl import Processor, Topology, files, tumbling
from streamdsl.connectors.base import Chunk, End, Json, Sink, SinkWriter, Source, SplitReader

SCHEMA = {"k": str, "v": int, "at": int}
#: Rows of every run here; the one that fails stands at BAD.
ROWS, BAD = 40, 30


def write_csv(path: Path, bad: str | None = None) -> None:
    """Write ROWS records `k{i % 3},{i},{100 i}`; with `bad`, that in the place of record BAD."""
    lines = [f"k{i % 3},{i},{100 * i}" for i in range(ROWS)]
    if bad is not None:
        lines[BAD] = bad
    path.write_text("k,v,at\n" + "\n".join(lines) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class Gate:
    """Lets `rows` rows through; more once a checkpoint has completed that covers them, or never if it is to `hold`."""

    def __init__(self, rows: int, *, hold: bool = False) -> None:
        self.rows, self.hold = rows, hold
        self.read = 0
        self.full: int | None = None  # the first checkpoint that the sink's task came to when all had been read
        self.covered = threading.Event()

    @property
    def closed(self) -> bool:
        return self.read >= self.rows and (self.hold or not self.covered.is_set())

    def snapshot(self, checkpoint_id: int) -> None:
        if self.full is None and self.read >= self.rows:
            self.full = checkpoint_id

    def commit(self, checkpoint_id: int) -> None:
        # Barriers of `full` may have left the source before its last rows; those of the next one have not.
        if self.full is not None and checkpoint_id > self.full:
            self.covered.set()


class GatedSource(Source):
    """Another source, a row at a time; it pauses at the gate's row until a checkpoint covers what came before."""

    def __init__(self, inner: Source, gate: Gate) -> None:
        self.inner, self.gate = inner, gate
        self.name, self.schema, self.bounded = inner.name, inner.schema, inner.bounded

    def splits(self) -> Sequence[str]:
        return self.inner.splits()

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        return GatedReader(self.inner.open_split(split, position, columns), self.gate)


class GatedReader(SplitReader):
    def __init__(self, inner: SplitReader, gate: Gate) -> None:
        self.inner, self.gate = inner, gate

    def read(self, max_rows: int) -> Chunk | End | None:
        if self.gate.closed:
            return None
        chunk = self.inner.read(1)
        if isinstance(chunk, Chunk):
            self.gate.read += chunk.rows.num_rows
        return chunk

    def position(self, chunk: Chunk, rows: int) -> Json:
        return self.inner.position(chunk, rows)

    def close(self) -> None:
        self.inner.close()


class GatedSink(Sink):
    """Another sink, which tells the gate of checkpoints."""

    def __init__(self, inner: Sink, gate: Gate) -> None:
        self.inner, self.gate, self.name = inner, gate, inner.name

    def open_writer(self, schema: Any, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        return _GatedWriter(self.inner.open_writer(schema, keys, task, tasks, state), self.gate)


class _GatedWriter(SinkWriter):
    def __init__(self, inner: SinkWriter, gate: Gate) -> None:
        self.inner, self.gate = inner, gate
        self.write, self.flush, self.close = inner.write, inner.flush, inner.close  # type: ignore[method-assign]

    def write(self, rows: Any, timestamps: Any) -> None:
        raise NotImplementedError

    def snapshot(self, checkpoint_id: int) -> Json:
        self.gate.snapshot(checkpoint_id)
        return self.inner.snapshot(checkpoint_id)

    def commit(self, checkpoint_id: int) -> None:
        self.inner.commit(checkpoint_id)
        self.gate.commit(checkpoint_id)


class Numbering(Processor):
    """Numbers the records of a key: a lost or repeated record shows."""

    output = {"k": str, "v": int, "n": int}

    def open(self, ctx: Any) -> None:
        self.seen = ctx.state.value("seen", int)

    def process(self, row: Any, ctx: Any) -> Any:
        self.seen.set((self.seen.get() or 0) + 1)
        yield {"k": row.k, "v": row.v, "n": self.seen.get()}


def numbered(topology: Topology, source: Source) -> Any:
    """Return the stream of numbered records, and the stream before the key."""
    return topology.stream(source, timestamp="at", name="in")


def check_numbered(rows: Sequence[dict[str, Any]]) -> None:
    """Each record once, each key's numbers without a gap: state and output agree."""
    assert sorted(row["v"] for row in rows) == list(range(ROWS))
    for key in range(3):
        own = [row for row in rows if row["k"] == f"k{key}"]
        assert [row["n"] for row in own] == list(range(1, len(own) + 1))


def streamdsl_threads() -> list[str]:
    """Return the names of the library's threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("streamdsl")]


def windows(place: Path, gate: Gate) -> Topology:
    """Counts by key in windows of 10 records."""
    topology = Topology("job")
    stream = topology.stream(GatedSource(files(place / "in.csv", schema=SCHEMA), gate), timestamp="at", name="in")
    stream.key_by("k").window(tumbling("1s")).count().to(GatedSink(files(place / "out.jsonl"), gate), name="out")
    return topology
