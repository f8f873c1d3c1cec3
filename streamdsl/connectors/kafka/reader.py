"""Reads partitions: one consumer for those of a task, a reader for each."""

from __future__ import annotations

import bisect
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, cast

import pyarrow as pa

from streamdsl._native.flow.native_rows import NativeRows
from streamdsl.connectors.base import END, METADATA_COLUMNS, Chunk, End, Json, Rejected, SplitReader, Together
from streamdsl.connectors.kafka.clients import Waiting
from streamdsl.connectors.kafka.ends import gone, made_anew
from streamdsl.connectors.kafka.feed import CHUNK_RECORDS, Feed, Records, Unreadable
from streamdsl.connectors.kafka.topic import Topic
from streamdsl.connectors.kafka.values import decoder_of, readable_fields
from streamdsl.formats.changes import REMOVED

__all__ = ["open_partitions"]

#: How long the schema registry is left alone when it has not answered.
REGISTRY_AGAIN_S: Final = 0.5
#: So much of a bad record is kept: with its headers it must fit into a record again.
_MAX_RAW: Final = 900_000
#: Columns that are the same in every row are made for at least so many rows, and cut.
LEAST_SAME: Final = 256
_NONE: Final[Mapping[int, str]] = {}
#: Columns that are the same in all rows, or are there as numbers: native rows take them as they are.
_NATIVE: Final = {"_topic", "_partition", "_offset"}
AnyRows: TypeAlias = pa.RecordBatch | NativeRows


def open_partitions(
    described: Topic, positions: Mapping[str, Json], columns: Sequence[str], *, own_time: bool
) -> Mapping[str, SplitReader]:
    """Return the readers of partitions, {split: reader}, behind one consumer.

    Raises
    ------
    ConnectorError
        The cluster cannot be reached, or what a position names is gone from the topic.
    """
    extras = {name for name in ("_key", "_timestamp", "_headers") if name in columns and name not in described.schema}
    if REMOVED in columns and REMOVED not in described.schema:
        extras.add("_key")  # tombstones are of a key
    feed = Feed(described, extras | {"_timestamp"} if own_time else extras)
    try:
        readers = {split: PartitionReader(described, feed, split, position, columns, own_time) for split, position in positions.items()}
        feed.reads_together = ReadsTogether(readers).read
        feed.begin()
    except BaseException:
        feed.shut()
        raise
    return readers


@dataclass(frozen=True, slots=True)
class KafkaChunk(Chunk):
    """Rows of records `offsets` of a partition, whose values are `values`; `of` is the number of each row's record."""

    offsets: Sequence[int] = ()
    values: Sequence[bytes | None] = ()
    of: Sequence[int] | None = None
    after: Json = field(default=None)


class ReadsTogether:
    """Decodes what has come of several partitions in one go."""

    def __init__(self, readers: Mapping[str, PartitionReader]) -> None:
        self._readers = readers

    def read(self, splits: Sequence[str]) -> Together | None:
        """Return the rows of splits of which something has come; None: each has to be read by itself."""
        readers = [self._readers[split] for split in splits]
        if any(reader.apart() for reader in readers):
            return None
        taken = [reader.take() for reader in readers]
        records, partitions = Records(taken[0].extras), array("q")
        for reader, some in zip(readers, taken, strict=True):
            records.add(some)
            partitions += array("q", (reader.partition,)) * len(some)
        # Always the same one: its rows have one schema.
        found = next(iter(self._readers.values())).rows_of(records, partitions)
        if found is None:
            for reader, some in zip(readers, taken, strict=True):
                reader.put_back(some)
            return None
        rows, times = found
        parts, first = [], 0
        for split, reader, some in zip(splits, readers, taken, strict=True):
            parts.append((split, reader.part_of(rows, some, first)))
            first += len(some)
        return Together(rows, parts, times)


class PartitionReader(SplitReader):
    """Reads one partition.

    The position is ``{"offset": o, "skip": k}``: records in front of offset o are done, and k rows of it (a value of Arrow may
    hold many); with ``"until"`` where reading ends, and ``"topic"``, the id of the topic.
    """

    def __init__(self, described: Topic, feed: Feed, split: str, position: Json, columns: Sequence[str], own_time: bool) -> None:
        self._described, self._feed, self._columns, self._own_time = described, feed, tuple(columns), own_time
        self._topic, self.partition = described.topic, int(split.rpartition("/")[2])
        at = cast("Mapping[str, Any] | None", position)
        if at is not None and feed.topic_id is not None and at.get("topic", feed.topic_id) != feed.topic_id:
            raise made_anew(self._topic)
        low, high = feed.bounds(self.partition)
        begins = low if at is not None and at["offset"] == "beginning" else None
        self._offset = self._first(low, high) if at is None else at["offset"] if begins is None else begins
        self._skip = 0 if at is None else at.get("skip", 0)
        self._until: int | None = None
        if described.until is not None:
            self._until = at["until"] if at is not None and "until" in at else high
        if not low <= self._offset <= high:
            raise gone(self._topic, self.partition, self._offset, (low, high))
        own = {name for name in columns if name in METADATA_COLUMNS and name not in described.schema}
        # What takes a row away is known to whoever reads the values.
        self._of_table = bool(described.table_key) and REMOVED in own
        own -= {REMOVED} if self._of_table else set()
        #: Where columns that no value has are put among the others, the first one first.
        self._metadata = [(place, pa.field(name, METADATA_COLUMNS[name])) for place, name in enumerate(columns) if name in own]
        #: The same, if they can be added to native rows; else none.
        self._places = [(place, one.name) for place, one in self._metadata if one.name in _NATIVE]
        self._places = self._places if len(self._places) == len(self._metadata) else []
        self._topic_bytes = self._topic.encode()
        self._schema: pa.Schema | None = None  # of the rows with these columns
        self._same: dict[str, pa.Array] = {}  # columns that are the same in every row, as long as was needed so far
        known = readable_fields(described)
        self._decoder = decoder_of(described, [known[name] for name in columns if name not in own])
        self._held: Records | None = None  # what cannot be decoded until the schema registry answers
        self._again_at = 0.0
        self._away = Waiting(f"reading {feed.where}, partition {self.partition}", "the schema registry")
        feed.add(split, self.partition, self._offset)

    def _first(self, low: int, high: int) -> int:
        start = self._described.start
        if start == "earliest":
            return low
        return high if start == "latest" else self._feed.offset_at(self.partition, cast(int, start))

    def start(self) -> Json:
        """Return where reading begins."""
        return self._at(self._offset, self._skip)

    def _at(self, offset: int, skip: int = 0) -> Json:
        return {
            "offset": offset,
            **({"skip": skip} if skip else {}),
            **({} if self._until is None else {"until": self._until}),
            **({} if self._feed.topic_id is None else {"topic": self._feed.topic_id}),
        }

    def read(self, max_rows: int) -> Chunk | End | None:
        """Return what has come of the partition; never waits."""
        if self._until is not None and self._offset >= self._until:
            return END
        if self._held is not None:
            return self._decoded(self._held) if time.monotonic() >= self._again_at else None
        records = self._feed.take(self.partition, min(max_rows, CHUNK_RECORDS))
        if self._until is not None and records and records.offsets[-1] >= self._until:
            records = records.cut(bisect.bisect_left(records.offsets, self._until))
            if not records:
                return END
        if records:
            return self._decoded(records)
        if self._until is not None and self._feed.ended(self.partition, self._until):
            return END
        position = self._feed.position(self.partition)
        return self._moved(position) if self._until is None and position > self._offset and not self._skip else None

    def feed(self) -> Feed:
        """Return the consumer of the task."""
        return self._feed

    def caught_up(self) -> bool:
        """Whether the cluster says that the partition has been read to its end."""
        return self._held is None and self._feed.caught_up(self.partition)

    def apart(self) -> bool:
        """Whether the partition has to be read by itself now."""
        return self._held is not None or self._skip > 0 or self._until is not None or self._of_table

    def take(self) -> Records:
        """Take what has come."""
        return self._feed.take(self.partition, CHUNK_RECORDS)

    def put_back(self, records: Records) -> None:
        """Have what was taken read by itself."""
        self._held, self._again_at = records, float("-inf")
        self._feed.undecoded.add(self.partition)

    def rows_of(self, records: Records, partitions: array[int]) -> tuple[AnyRows, pa.Int64Array | None] | None:
        """Return records of this partition and others as rows, with their times; None unless each is a good one of one row."""
        if any(isinstance(one, Unreadable) for one in records.extras.get("_headers", ())):
            return None
        found = self._decoder.decode_native(records.values)
        if found.bad or found.of is not None or found.away is not None:
            return None
        return self._with_metadata(found.rows, records, None, partitions), self._times(records, None) if self._own_time else None

    def part_of(self, rows: AnyRows, records: Records, first: int) -> KafkaChunk:
        """Return the partition's part of rows that were decoded together, from `first` on."""
        return self._chunk(rows.slice(first, len(records)), records)

    def _moved(self, offset: int) -> Chunk:
        """Return no rows: what lies in front of `offset` are ends of transactions. Whoever starts there asks for no offset that expires."""
        self._offset = offset
        values = Records(self._feed.extras)
        chunk = self._decoded(values)
        assert isinstance(chunk, KafkaChunk)
        return replace(chunk, after=self._at(offset))

    def _decoded(self, records: Records) -> Chunk | None:
        unreadable = {i: one.reason for i, one in enumerate(records.extras.get("_headers", ())) if isinstance(one, Unreadable)}
        values = [None if i in unreadable else value for i, value in enumerate(records.values)] if unreadable else records.values
        if self._of_table:
            keys = [None if i in unreadable else key for i, key in enumerate(records.extras["_key"])]
            found = self._decoder.decode_keyed(values, keys)
        else:
            found = self._decoder.decode_native(values)
        for index in unreadable.keys() & found.bad.keys():
            found.bad[index] = unreadable[index]
        self._held = None
        self._feed.undecoded.discard(self.partition)
        if found.away is None:
            self._away.over()
        else:
            self._feed.undecoded.add(self.partition)
            self._away.say(found.away)
            self._again_at = time.monotonic() + REGISTRY_AGAIN_S
            good = records.cut(found.taken)
            records, self._held = good, records
            if not good:
                return None
        rows, of = found.rows, found.of
        skip = min(self._skip, rows.num_rows)
        if skip:
            rows, of = rows.slice(skip), (list(range(rows.num_rows)) if of is None else of)[skip:]
        times = self._times(records, of) if self._own_time else None
        return self._chunk(self._with_metadata(rows, records, of), records, of, times, found.bad)

    def _chunk(
        self,
        rows: AnyRows,
        records: Records,
        of: Sequence[int] | None = None,
        times: pa.Int64Array | None = None,
        bad: Mapping[int, str] = _NONE,
    ) -> KafkaChunk:
        """Return the chunk of `records`, and go on behind it."""
        offsets = records.offsets
        chunk = KafkaChunk(
            rows=rows,
            position=self._at(self._offset, self._skip),
            timestamps=times,
            rejected=self._rejected(bad, records, of, rows.num_rows) if bad else (),
            offsets=offsets,
            values=records.values,
            of=of,
            after=self._at(offsets[-1] + 1) if offsets else None,
        )
        if offsets:
            self._offset, self._skip = offsets[-1] + 1, 0
        return chunk

    def _rejected(self, bad: Mapping[int, str], records: Records, of: Sequence[int] | None, rows: int) -> tuple[Rejected, ...]:
        found = []
        row = 0
        for index in sorted(bad):
            if of is None:
                row = index
            else:
                while row < rows and of[row] < index:
                    row += 1
            found.append(self._refused(row, records.values[index], bad[index], records.offsets[index]))
        return tuple(found)

    def rejected(self, chunk: Chunk, row: int, reason: str) -> Rejected:
        """Return the record that gave a row."""
        assert isinstance(chunk, KafkaChunk)
        index = row if chunk.of is None else chunk.of[row]
        return self._refused(row, chunk.values[index], reason, chunk.offsets[index])

    def _refused(self, row: int, raw: bytes | None, reason: str, offset: int) -> Rejected:
        if raw is not None and len(raw) > _MAX_RAW:
            reason += f"; the first {_MAX_RAW} of its {len(raw)} bytes are kept"
            raw = raw[:_MAX_RAW]
        return Rejected(row, raw, reason, self._topic, self.partition, offset)

    @staticmethod
    def _times(records: Records, of: Sequence[int] | None) -> pa.Int64Array:
        times = records.extras["_timestamp"]
        return pa.array(times if of is None else [times[index] for index in of], pa.int64())

    def _with_metadata(self, rows: AnyRows, records: Records, of: Sequence[int] | None, partitions: array[int] | None = None) -> AnyRows:
        """Add the columns that no value has; `partitions`: those of the records, if they are not all of this one."""
        if not self._metadata:
            return rows
        if isinstance(rows, NativeRows) and self._places:
            if self._schema is None:
                self._schema = self._schema_of(rows)
            values = {"_topic": self._topic_bytes, "_partition": partitions or self.partition, "_offset": records.offsets}
            return rows.with_columns([(place, values[name]) for place, name in self._places], self._schema)
        columns = rows.columns
        for place, field_ in self._metadata:
            if field_.name == "_partition" and partitions is not None:
                column = _numbers(field_.type, partitions)
            else:
                column = self._metadata_column(field_, rows.num_rows, records, of)
            columns.insert(place, column)
        if self._schema is None:
            self._schema = self._schema_of(rows)
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _schema_of(self, rows: AnyRows) -> pa.Schema:
        schema = rows.schema
        for place, field_ in self._metadata:
            schema = schema.insert(place, field_)
        return schema

    def _metadata_column(self, asked: pa.Field, count: int, records: Records, of: Sequence[int] | None) -> pa.Array:
        name, type_ = asked.name, asked.type
        if name in ("_topic", "_partition"):
            value: str | int = self._topic if name == "_topic" else self.partition
            same = self._feed.same if name == "_topic" else self._same
            column = same.get(name)
            if column is None or len(column) < count:
                column = same[name] = pa.repeat(pa.scalar(value, type_), max(count, LEAST_SAME))
            return column.slice(0, count)
        if name == "_offset" and of is None:
            return _numbers(type_, records.offsets)
        values = records.offsets if name == "_offset" else records.extras[name]
        return pa.array(values if of is None else [values[index] for index in of], type_)

    def position(self, chunk: Chunk, rows: int) -> Json:
        """Return the position behind the first `rows` rows of `chunk`."""
        assert isinstance(chunk, KafkaChunk)
        if rows == chunk.rows.num_rows:
            return chunk.after
        if rows == 0:
            return chunk.position
        if chunk.of is None:
            return self._at(chunk.offsets[rows])
        last = chunk.of[rows - 1]
        if chunk.of[rows] != last:
            return self._at(chunk.offsets[last] + 1)
        skip = rows - chunk.of.index(last)
        before = cast("Mapping[str, int]", chunk.position)
        # The first record of the chunk may itself have been begun before.
        return self._at(chunk.offsets[last], skip + (before.get("skip", 0) if last == chunk.of[0] else 0))

    def committed(self, position: Json) -> None:
        """Note the position in the cluster, for lag tools."""
        self._feed.committed(self.partition, cast("Mapping[str, int]", position)["offset"])

    def lag(self) -> int | None:
        """Return how many committed records wait in the partition, ends of transactions among them."""
        return self._feed.lag(self.partition)

    def uncommitted(self) -> int | None:
        """Return how many records of open transactions follow."""
        return self._feed.uncommitted(self.partition)

    def close(self) -> None:
        """Let the consumer go, with the last reader of it."""
        self._feed.close()


def _numbers(type_: pa.DataType, numbers: array[int]) -> pa.Array:
    return pa.Array.from_buffers(type_, len(numbers), [None, pa.py_buffer(numbers)])
