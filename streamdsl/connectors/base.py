"""The contract of sources and sinks. A connector is a folder here, or a user's own two classes: they work the same.

The runtime never asks a connector for more than what stands here. Positions and writer states are plain JSON values:
they are kept in the checkpoint's manifest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Union

import pyarrow as pa

from streamdsl.schema import Schema

Json = Union[None, bool, int, float, str, Sequence["Json"], Mapping[str, "Json"]]

#: Columns that every source can add to its rows (hidden: they must be asked for by name).
METADATA_COLUMNS: Final = {"_topic": pa.string(), "_partition": pa.int64(), "_offset": pa.int64()}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be decoded. It stood in front of the row `before_row` of its chunk."""

    before_row: int
    raw: bytes
    reason: str
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Decoded rows. `position` is where reading them again would start; `timestamps` the records' own times (ms), if any.

    The runtime may hand on a chunk in several batches: the position behind its first k rows is
    ``reader.position(chunk, k)``.
    """

    rows: pa.RecordBatch
    position: Json
    timestamps: pa.Int64Array | None = None
    rejected: tuple[Rejected, ...] = field(default=())
    watermark: int | None = None  # ms: nothing at or below it follows these rows
    idle: bool = False  # nothing is expected behind these rows until more is read


class End:
    """Returned by `SplitReader.read` when the split has ended for good."""


END: Final = End()


class SplitReader(ABC):
    """Reads one split. All methods are called from one thread."""

    @abstractmethod
    def read(self, max_rows: int) -> Chunk | End | None:
        """Return the next rows (about `max_rows`), None when there is nothing to read now, END at the end. Never blocks for long."""

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the position behind the first `rows` rows of `chunk`; `Source.open_split` must accept it."""
        return {"start": chunk.position, "skip": rows}

    def close(self) -> None:
        """Release what the reader holds."""


class Source(ABC):
    """What `topology.stream` reads. An immutable description; `open_split` makes the thing that reads.

    Attributes
    ----------
    name : str
        Default name of the stream that reads it.
    schema : Schema
        Columns and types of a row.
    bounded : bool
        Whether every split ends.
    errors : "fail" | "skip" | DeadLetter
        What becomes of records that cannot be decoded.
    rate : float | None
        Records a second, over all splits; None is as fast as possible.
    """

    name: str
    schema: Schema
    bounded: bool
    errors: Any = "fail"
    rate: float | None = None

    @abstractmethod
    def splits(self) -> Sequence[str]:
        """Return the stable names of the splits (files, partitions)."""

    @abstractmethod
    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Open a split at `position` (None: its beginning); rows have exactly `columns` (metadata columns included), in that order."""


class SinkWriter(ABC):
    """Writes the rows of one sink task. All methods are called from one thread."""

    @abstractmethod
    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Take rows; they count as written once the next checkpoint has completed."""

    def flush(self) -> None:
        """Make visible what was written (called when the input pauses)."""

    @abstractmethod
    def snapshot(self, checkpoint_id: int) -> Json:
        """Make everything written so far durable and return what `Sink.open_writer` needs to go on from here.

        If it raises, the checkpoint fails and the run goes on: what was written must be in a later snapshot, or that must raise too.
        """

    def commit(self, checkpoint_id: int) -> None:
        """Called once the checkpoint has completed.

        It stands for all earlier ones too: when two complete close together, or after a crash, this is called for the last one
        or not at all. What has to happen for a checkpoint must be possible in `Sink.open_writer`, from its state.
        """

    def close(self) -> None:
        """Release what the writer holds; uncommitted rows may stay visible."""


class Sink(ABC):
    """What `stream.to` writes. An immutable description; `open_writer` makes the writer.

    Attributes
    ----------
    name : str
        Default name of the sink.
    gathers : bool
        Whether one task writes all rows (a single file) instead of one writer a task.
    """

    name: str
    gathers: bool = True

    @abstractmethod
    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Open the writer of task `task` of `tasks`; `state` is the last completed checkpoint's, None at the beginning.

        What was written behind that checkpoint must disappear (or be overwritten by the same rows).
        """
