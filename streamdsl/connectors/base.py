"""The contract of sources and sinks. A connector is a folder here, or a user's own two classes: they work the same.

The runtime never asks a connector for more than what stands here. Positions and writer states are plain JSON values:
they are kept in the checkpoint's manifest.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, Union

import pyarrow as pa

from streamdsl._native.flow.native_rows import NativeRows
from streamdsl.connectors.transaction import Transaction
from streamdsl.errors import TopologyError
from streamdsl.schema import Schema
from streamdsl.secret import Secret

Json = Union[None, bool, int, float, str, Sequence["Json"], Mapping[str, "Json"]]

#: Where a record stands.
POSITION_COLUMNS: Final = ("_topic", "_partition", "_offset")

#: Columns that every source can add to its rows (hidden: they must be asked for by name).
#: A source that has nothing of the kind gives nulls: files have no keys.
METADATA_COLUMNS: Final = {
    "_topic": pa.string(),
    "_partition": pa.int64(),
    "_offset": pa.int64(),
    "_key": pa.binary(),
    "_timestamp": pa.timestamp("ms", tz="UTC"),
    "_deleted": pa.bool_(),  # of a table: true: the record takes its key's row away, false: it does not, null: its columns say so
    "_headers": pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.string())])),
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that is refused. If it could not be decoded, it stood in front of the row `before_row` of its chunk; else it is that row.

    `raw` is None where the record has no value (a tombstone of Kafka), which is something else than an empty one.
    """

    before_row: int
    raw: bytes | None
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

    rows: pa.RecordBatch | NativeRows
    position: Json
    timestamps: pa.Int64Array | None = None
    rejected: tuple[Rejected, ...] = field(default=())
    watermark: int | None = None  # ms: nothing at or below it follows these rows
    idle: bool | None = None  # True: nothing is expected behind these rows until more is read; False: more is, though there are none


class End:
    """Returned by `SplitReader.read` when the split has ended for good."""


END: Final = End()


@dataclass(frozen=True, slots=True)
class Together:
    """The next rows of several splits in one record batch: `parts` are the splits and their chunks, in the order of the rows.

    The rows of a chunk are a slice of `rows`, without anything rejected among them; `timestamps` are those of all rows, if any.
    """

    rows: pa.RecordBatch | NativeRows
    parts: Sequence[tuple[str, Chunk]]
    timestamps: pa.Int64Array | None = None


class SplitFeed(ABC):
    """What brings the rows of several splits of a task: one consumer of many partitions, say. Used by the thread that reads them."""

    @abstractmethod
    def poll(self) -> Collection[str] | None:
        """Take what has come, and return the splits that have something to read; None: each has to be asked. Must not wait.

        Splits that are not named are read all the same a few times a second: to find out whether they are idle, say.
        """

    def unsure(self) -> Collection[str] | None:
        """Return the splits of which `SplitReader.caught_up` may be false; None, the default: each has to be asked.

        Asked about once a second; of the splits that are idle, those that are named are looked at. Must not wait.
        """
        return None

    def read_together(self, splits: Collection[str], max_rows: int) -> Together | None:
        """Return the next rows of `splits` in one batch: a few rows of each cost as much as those of one then.

        None, the default: they are more than `max_rows`, or something is rejected among them, say; each split is read by itself then.
        """
        return None


class SplitReader(ABC):
    """Reads one split. All methods are called from one thread."""

    @abstractmethod
    def read(self, max_rows: int) -> Chunk | End | None:
        """Return the next rows (about `max_rows`), None when there is nothing to read now, END at the end. Never blocks for long."""

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the position behind the first `rows` rows of `chunk`; `Source.open_split` must accept it."""
        return {"start": chunk.position, "skip": rows}

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected | None:
        """Return the record that row `row` of `chunk` came as, which the runtime refuses for `reason` (it has no event time, say).

        None, the default: there is no such record, and what stands in the row's columns is shown in its place.
        """
        return None

    def start(self) -> Json:
        """Return where reading begins, if it has to be known before anything was read ("the latest" moves on); else None."""
        return None

    def committed(self, position: Json) -> None:
        """The checkpoint with this position has completed: for those who watch (lag tools), not what a restart goes by. Must not wait."""

    def had_ended(self) -> None:
        """The split had ended before this start: it is not read."""

    def caught_up(self) -> bool:
        """Return whether `read` gave nothing because nothing is there: only then may the split become idle.

        A split whose records wait elsewhere (its broker is away, others are read first) is behind, not idle. Must not wait.
        """
        return True

    def feed(self) -> SplitFeed | None:
        """Return what brings the rows of this split and of others: it is asked once for all of them. None: `read` is called for each."""
        return None

    def lag(self) -> int | None:
        """Return how many records are known to wait in the split; None if that is not known. May be called from any thread."""
        return None

    def bytes_read(self) -> tuple[int, int] | None:
        """Return about how many bytes of the split have been read, and how many it has; None if that is not known. From any thread."""
        return None

    def uncommitted(self) -> int | None:
        """Return how many records wait for a transaction of their writer to end; None if that is not known. From any thread."""
        return None

    def close(self) -> None:
        """Release what the reader holds."""


class Source(ABC):
    """What `topology.stream` reads. An immutable description; `open_split` makes the thing that reads.

    Attributes
    ----------
    name : str
        Default name of the stream that reads it.
    schema : Schema
        Columns and types of a row. A row with a null in a column that is not nullable is a bad record.
    bounded : bool
        Whether every split ends.
    errors : "fail" | "skip" | DeadLetter | None
        What becomes of records that cannot be decoded; None: what the stream, the topology or the config says.
    rate : float | None
        Records a second, over all splits; None is as fast as possible.
    idle_timeout, max_ahead : duration, optional
        What counts where the stream that reads it says nothing, see `Topology.stream`; None: never idle, and no limit.
    position_form : str
        What a position is of ("lines of csv files"): one that was taken of another form is refused. Empty: that is not compared.
    partitioned_by : str | None
        Column of text or bytes that says in which split a row lies: Kafka's murmur2 of its bytes (without the sign), modulo the
        number of splits, is the split's place in `splits()`. Rows are held to it, and need not change tasks for its key_by.
    changes : bool
        Whether records are changes of a table: `Topology.table` reads them, and `Topology.stream` does not.
    locates_rows : bool
        Whether its rows tell where they come from (``_topic``, ``_partition``, ``_offset``) at next to no cost: these columns are then
        read wherever rows that come too late are left out, and the log of the first one has them.
    packages : tuple of str
        Distributions that it works through; the worker tells their versions.
    """

    name: str
    schema: Schema
    bounded: bool
    errors: Any = None
    rate: float | None = None
    idle_timeout: Any = None
    max_ahead: Any = None
    position_form: str = ""
    partitioned_by: str | None = None
    changes: bool = False
    locates_rows: bool = False
    packages: tuple[str, ...] = ()

    def of_table(self, keys: Sequence[str], time: str | None) -> Source:
        """Return the source as `Topology.table` reads it: `keys` are the table's columns of the key, `time` is that of the event time.

        The column ``_deleted`` is asked for then: it is true for records that take their key's row away, such as tombstones.
        """
        return self

    def configured(self, config: Any, job: str) -> Self:
        """Return the source as `job` uses it under a `Config` (its default broker, for one); called once before a run."""
        return self

    def parts(self) -> Sequence[Source]:
        """Return the sources that this one reads: itself, unless it is made of others."""
        return (self,)

    def then(self, other: Source) -> Source:
        """Return the source that reads all of this one, then `other`: history first, then live.

        Examples
        --------
        >>> from streamdsl import files, kafka
        >>> files("orders-*.csv", {"id": int}).then(kafka("orders", {"id": int}, start="latest")).name
        'orders'
        """
        from streamdsl.connectors.then import Then

        return Then(self, other)

    @abstractmethod
    def splits(self) -> Sequence[str]:
        """Return the stable names of the splits (files, partitions)."""

    def position_of_added(self, split: str) -> Json:
        """Return where a split begins that has come since the checkpoint; None: where any does.

        A source that begins at what is the latest begins such a split at its beginning all the same: it is new, not old.
        """
        return None

    @abstractmethod
    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Open a split at `position` (None: its beginning); rows have exactly `columns` (metadata columns included), in that order."""

    def would_read(self, file: str) -> bool:
        """Return whether `file`, which need not exist yet, is or would be among what is read."""
        return False

    def probe(self, written: Schema | None = None, keys: Sequence[str] = ()) -> Iterator[str]:
        """Look whether the place is there and fits, without changing it; yield a line for each thing that is right.

        `written` are the columns of the rows that a sink gets, `keys` those of the table's key; None: it is read.

        Raises
        ------
        StreamError
            Something is wrong, and the error says what.
        """
        return iter(())

    def has_more(self, split: str, position: Json) -> bool:
        """Return whether a split that had ended at `position` goes on behind it now: a file has grown.

        Raises
        ------
        ConnectorError
            What was read there is no longer there.
        """
        return False

    def has_new(self, positions: Mapping[str, Json]) -> bool:
        """Return whether there is anything to read that a run has not read whose splits ended at `positions`.

        False, the default: a run that has finished is over for good. A source that knows better says so.
        """
        return False

    def open_splits(self, positions: Mapping[str, Json], columns: Sequence[str], *, own_time: bool) -> Mapping[str, SplitReader]:
        """Open the splits of one task, {split: position}: what they share (a connection) can be shared here.

        `own_time`: event time is the records' own (`Chunk.timestamps`); else a column has it.
        """
        readers: dict[str, SplitReader] = {}
        try:
            for split, position in positions.items():
                readers[split] = self.open_split(split, position, columns)
        except BaseException:
            for reader in readers.values():
                reader.close()
            raise
        return readers


def no_metadata(name: str, rows: int) -> pa.Array:
    """Return a metadata column for a source that has nothing of the kind."""
    return pa.nulls(rows, METADATA_COLUMNS[name])


class SinkWriter(ABC):
    """Writes the rows of one sink task. All methods are called from one thread."""

    def has_room(self) -> bool:
        """Return whether the writer can take more rows now; while it cannot, its task reads nothing."""
        return True

    @abstractmethod
    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Take rows; they count as written once the next checkpoint has completed.

        Raises
        ------
        DataError
            A row cannot be written (it is too large, or its values have no form in the format); none of the call is taken. The
            rows are then handed over again in smaller parts, and the row itself is a matter of the sink's `errors=`.
        """

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
    transactional : bool
        Whether its rows become visible by a `Transaction`. Others can be cut back to a checkpoint, or take rows twice.
    upserts : bool
        Whether a row takes the place of one with the same key, and a row of nulls beside its key takes that away. What only grows,
        such as a file, does not: a table whose rows may be withdrawn is refused there.
    delivery : "exactly_once" | "at_least_once" | None
        What is found there after a crash, as people are told; None: not said.
    packages : tuple of str
        Distributions that it works through; the worker tells their versions.
    """

    name: str
    gathers: bool = True
    transactional: bool = False
    upserts: bool = True
    delivery: Any = None
    packages: tuple[str, ...] = ()

    def configured(self, config: Any, job: str) -> Self:
        """Return the sink as `job` uses it under a `Config`; called once before a run."""
        return self

    def check(self, schema: Schema, keys: Sequence[str]) -> None:
        """Refuse rows of `schema` that the sink cannot write, where the topology is written; `keys` are a table's.

        Raises
        ------
        TopologyError
            A column is missing, or has a type that cannot be written.
        """

    def probe(self, written: Schema | None = None, keys: Sequence[str] = ()) -> Iterator[str]:
        """Look whether the place is there and takes rows of these columns, without changing it: as `Source.probe`."""
        return iter(())

    def overwrites(self, source: Source) -> str:
        """Return what of `source` this sink would write to, "" if nothing: a topology must not read what it writes."""
        return ""

    def collides(self, other: Sink) -> str:
        """Return what this sink and `other` cannot both write, "" if there is no such thing."""
        return ""

    def new_transaction(self, job: str, sinks: Sequence[Sink]) -> Transaction:
        """Return the transaction of `job` for its transactional sinks `sinks`, this one included.

        Raises
        ------
        ConfigError
            They cannot share one: there is one commit point.
        """
        raise NotImplementedError(f"{self!r} is not transactional")

    def open_in(self, transaction: Transaction, schema: Schema, keys: Sequence[str], task: int) -> SinkWriter:
        """Open the writer of a transactional sink, instead of `open_writer`."""
        raise NotImplementedError(f"{self!r} is not transactional")

    @abstractmethod
    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Open the writer of task `task` of `tasks`; `state` is the last completed checkpoint's, None at the beginning.

        What was written behind that checkpoint must disappear (or be overwritten by the same rows). Without a state, what stands there
        is of an earlier run: it goes with the first rows or the first snapshot, because the start may yet fail elsewhere.
        """


class Lookup(ABC):
    """What `stream.join_lookup` asks by key. An immutable description; each task opens a copy in an event loop of its own.

    Attributes
    ----------
    name : str
        For errors and metrics.
    schema : Schema
        Columns of what is found; those of the key may be among them.
    packages : tuple of str
        Distributions that it works through.
    """

    name: str
    schema: Schema
    packages: tuple[str, ...] = ()

    def with_schema(self, schema: Schema) -> Lookup:
        """Return the same look-up with other columns."""
        raise TopologyError(f"the columns of the look-up {self.name!r} are known", remedy="leave schema= out")

    def copy(self) -> Lookup:
        """Return what one task uses."""
        return self

    def probe(self) -> Iterator[str]:
        """Look whether it can be asked, without a key: as `Source.probe`."""

        async def opened() -> None:
            one = self.copy()
            try:
                await one.open()
            finally:
                await one.close()

        asyncio.run(opened())
        yield f"look-up {self.name}: it answers"

    async def open(self) -> None:
        """Connect.

        Raises
        ------
        ConnectorError
        """

    @abstractmethod
    async def get(self, key: Any) -> Any:
        """Return the row of a key (several columns: a tuple), None if there is none."""

    async def get_many(self, keys: Sequence[Any]) -> Sequence[Any]:
        """Return the rows of several keys, in their order; an exception among them is that of its key alone.

        A look-up that has this is asked for many keys at a time.
        """
        return [await self.get(key) for key in keys]

    async def close(self) -> None:
        """Let go of what was opened."""


def check_texts(made: str, remedy: str, **given: Any) -> None:
    """Refuse what is no text where a name or an address is asked for: a list of rows in the place of the name, say.

    Raises
    ------
    TopologyError
        Names the argument and the type that it has.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, (str, Secret)):
            raise TopologyError(f"{made}: {name}= is a text, not a {type(value).__name__}", remedy=remedy)
