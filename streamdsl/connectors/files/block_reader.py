"""What all readers of files share: blocks are handed out in slices, and a position is a block and a number of rows."""

from __future__ import annotations

import array
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl.connectors.base import END, METADATA_COLUMNS, Chunk, End, Json, Rejected, SplitReader, no_metadata
from streamdsl.connectors.files.byte_stream import changed
from streamdsl.formats.conform import raw_row
from streamdsl.formats.decode import BadRecord
from streamdsl.schema import Field, Schema

_MAX_RAW: Final = 65536


@dataclass(frozen=True, slots=True)
class Block:
    """Decoded records from `start` to `after`; `record` is the number of the first one in the file."""

    rows: pa.RecordBatch
    start: Json
    after: Json
    record: int
    kept: list[int] | None = None
    bad: tuple[BadRecord, ...] = ()
    texts: Texts | None = None
    before: bytes = b""  # the last bytes in front of `start`, of text


class Texts:
    """The records of a block as they stand in the file: kept in one piece until one of them is asked for."""

    def __init__(self, block: bytes, split: Callable[[bytes], list[bytes]]) -> None:
        self.block, self._split = block, split
        self._records: list[bytes] | None = None

    def __getitem__(self, index: int) -> bytes:
        if self._records is None:
            self._records = self._split(self.block)
        return self._records[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChunk(Chunk):
    """A slice of a block, from its row `first` on; `after` is the position behind all of it."""

    block: Block
    first: int
    after: Json = field(default=None)


def data_fields(schema: Schema, columns: Sequence[str]) -> list[Field]:
    """Return the fields of `columns` that stand in the file: a declared column is data, whatever it is called."""
    return [schema.field(name) for name in columns if name in schema or name not in METADATA_COLUMNS]


class BlockReader(SplitReader):
    """Hands out blocks in slices.

    The position ``{"start": block, "skip": k}`` means: the first k good rows of the block are done, and so are the
    bad records that stood in front of them. A bad record just in front of row k is not, unless k is the block's end.
    """

    #: What the file is called, where it is read from a copy.
    label = ""

    @property
    def shown(self) -> str:
        """What the file is called."""
        return self.label or self._path

    def __init__(self, path: str, partition: int, columns: Sequence[str], skip: int) -> None:
        self._path = path
        self._partition = partition
        self._columns = tuple(columns)
        self._skip = skip
        self._block: Block | None = None
        self._at = 0
        self._topics = pa.array([], pa.string())
        self._partitions = pa.array([], pa.int64())
        self._count = pa.array([], pa.int64())

    @abstractmethod
    def next_block(self) -> Block | None:
        """Return the next block (perhaps without good rows), None at the end of the file."""

    def read(self, max_rows: int) -> Chunk | End | None:
        """Return up to `max_rows` rows."""
        while self._block is None:
            block = self.next_block()
            if block is None:
                if self._skip:
                    raise changed(self._path, f"it has {self._skip} rows less")
                return END
            self._take(block)
        block = self._block
        first = self._at
        stop = min(first + max(max_rows, 1), block.rows.num_rows)
        last = stop == block.rows.num_rows
        self._at = stop
        if last:
            self._block = None
        return FileChunk(
            block=block,
            first=first,
            rows=self._with_metadata(block, first, stop),
            position={"start": block.start, "skip": first},
            rejected=tuple(
                Rejected(
                    bad.before_row - first,
                    bad.raw[:_MAX_RAW],
                    bad.reason,
                    self.shown,
                    self._partition,
                    block.record + bad.index,
                )
                for bad in block.bad
                if first <= bad.before_row < stop or (last and bad.before_row == stop)
            ),
            after={"start": block.after, "skip": 0} if last else {"start": block.start, "skip": stop},
        )

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the position behind the first `rows` rows of `chunk`."""
        assert isinstance(chunk, FileChunk)
        if rows == chunk.rows.num_rows:
            return chunk.after
        at = cast(Mapping[str, Json], chunk.position)
        return {"start": at["start"], "skip": cast(int, at["skip"]) + rows}

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected:
        """Return the record of a row: as it stands in the file, if that is text."""
        assert isinstance(chunk, FileChunk)
        block, at = chunk.block, chunk.first + row
        index = at if block.kept is None else block.kept[at]
        raw = raw_row(block.rows, at) if block.texts is None else block.texts[index]
        return Rejected(row, raw[:_MAX_RAW], reason, self.shown, self._partition, block.record + index)

    def _take(self, block: Block) -> None:
        """Make `block` the current one, behind what a resumed reader has to skip."""
        rows = block.rows.num_rows
        if self._skip > rows or (self._skip == rows and rows and not any(bad.before_row == rows for bad in block.bad)):
            self._skip -= rows
            return
        self._block, self._at, self._skip = block, self._skip, 0

    def _with_metadata(self, block: Block, first: int, stop: int) -> pa.RecordBatch:
        rows = block.rows.slice(first, stop - first)
        if len(self._columns) == rows.num_columns:
            return rows
        arrays, fields = [], []
        for name in self._columns:
            arrays.append(rows.column(name) if name in rows.schema.names else self._metadata(name, block, first, stop))
            fields.append(pa.field(name, arrays[-1].type))
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _metadata(self, name: str, block: Block, first: int, stop: int) -> pa.Array:
        count = stop - first
        if name == "_topic":
            if len(self._topics) < count:
                self._topics = pa.repeat(pa.scalar(self.shown, pa.string()), count)
            return self._topics.slice(0, count)
        if name == "_partition":
            if len(self._partitions) < count:
                self._partitions = pa.repeat(pa.scalar(self._partition, pa.int64()), count)
            return self._partitions.slice(0, count)
        if name != "_offset":
            return no_metadata(name, count)
        if block.kept is not None:
            return pa.array([block.record + index for index in block.kept[first:stop]], pa.int64())
        if len(self._count) < stop:
            self._count = pa.Array.from_buffers(pa.int64(), stop, [None, pa.py_buffer(array.array("q", range(stop)))])
        return pc.add(self._count.slice(first, count), pa.scalar(block.record, pa.int64()))
