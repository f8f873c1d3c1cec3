"""Reads partitions: one consumer for those of a task, a reader for each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa
from confluent_kafka import OFFSET_END, Consumer

from streamdsl.connectors.base import END, METADATA_COLUMNS, Chunk, End, Json, Rejected, SplitReader
from streamdsl.connectors.kafka.clients import (
    CALL_S,
    CLIENT_LOG,
    ErrorLog,
    KafkaError,
    KafkaException,
    TopicPartition,
    away,
    log,
    patiently,
    translated,
)
from streamdsl.connectors.kafka.values import decoder_of
from streamdsl.errors import ConnectorError

if TYPE_CHECKING:
    from streamdsl.connectors.kafka.description import Kafka

__all__ = ["open_partitions"]

#: Records that are decoded at a time, and taken from the client at a time.
CHUNK_RECORDS: Final = 8192
#: Records of one partition that wait for their turn; then it is paused until few are left.
MOST_WAITING, FEW_WAITING = 65536, 4096
#: How often, and how long after, an offset that is said to be gone is looked for again.
MOST_DOUBTS, DOUBT_S = 3, 0.5
#: So much of a bad record is kept: with its headers it must fit into a record again.
_MAX_RAW: Final = 900_000


def open_partitions(
    described: Kafka, positions: Mapping[str, Json], columns: Sequence[str], *, own_time: bool
) -> Mapping[str, SplitReader]:
    """Return the readers of partitions, {split: reader}, behind one consumer.

    Raises
    ------
    ConnectorError
        The cluster cannot be reached, or what a position names is gone from the topic.
    """
    feed = Feed(described)
    try:
        readers = {split: PartitionReader(described, feed, split, position, columns, own_time) for split, position in positions.items()}
        feed.begin()
    except BaseException:
        feed.shut()
        raise
    return readers


class Feed:
    """One consumer, and what it has brought for each partition that is not read yet. Used by one thread (but `lag`)."""

    def __init__(self, described: Kafka) -> None:
        self.topic = described.topic
        self.where = f"the topic {described.topic!r} at {described.broker}"
        self._consumer = Consumer(
            {
                "logger": CLIENT_LOG,
                "queued.max.messages.kbytes": 16384,
                "fetch.wait.max.ms": 100,
                **described.client_options(),
                "group.id": described.job or "streamdsl",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "error_cb": ErrorLog(self.where),
            }
        )
        self._waiting: dict[int, list[Any]] = {}
        self._paused: set[int] = set()
        self._next: dict[int, int] = {}  # the offset to read next, by partition
        self._ends: dict[int, int] = {}  # where the partition was found to end
        self._doubts: dict[int, int] = {}
        self._open = 0

    def add(self, partition: int, offset: int) -> None:
        """Have a partition read from `offset`."""
        self._waiting[partition], self._next[partition] = [], offset
        self._open += 1

    def begin(self) -> None:
        """Begin to fetch."""
        self._consumer.assign([TopicPartition(self.topic, partition, offset) for partition, offset in self._next.items()])

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset that is kept and the one behind the last."""
        at = TopicPartition(self.topic, partition)
        found: tuple[int, int] = patiently(f"reading {self.where}", lambda: self._consumer.get_watermark_offsets(at, timeout=CALL_S))
        return found

    def offset_at(self, partition: int, time_ms: int) -> int:
        """Return the first offset whose record is not older than `time_ms`."""
        asked = [TopicPartition(self.topic, partition, time_ms)]
        (found,) = patiently(f"reading {self.where}", lambda: self._consumer.offsets_for_times(asked, timeout=CALL_S))
        if found.error is not None:
            raise translated(found.error, f"{self.where}, partition {partition}")
        return self.bounds(partition)[1] if found.offset == OFFSET_END else int(found.offset)

    def take(self, partition: int, most: int) -> list[Any]:
        """Return up to `most` records of a partition, none if there are none now. Never waits."""
        waiting = self._waiting[partition]
        if not waiting:
            self._fetch(most)
            waiting = self._waiting[partition]
        taken, self._waiting[partition] = waiting[:most], waiting[most:]
        if partition in self._paused and len(self._waiting[partition]) < FEW_WAITING:
            self._paused.discard(partition)
            self._consumer.resume([TopicPartition(self.topic, partition)])
        return taken

    def ended(self, partition: int, offset: int) -> bool:
        """Whether everything in front of `offset` has been taken."""
        return not self._waiting[partition] and max(self._next[partition], self._ends.get(partition, 0)) >= offset

    def _fetch(self, most: int) -> None:
        try:
            messages = self._consumer.consume(min(most, CHUNK_RECORDS), 0)
        except KafkaException as error:
            raise translated(error, f"reading {self.where}") from error
        for message in messages:
            partition, told = message.partition(), message.error()
            if told is not None:
                self._on_error(told, partition, message.offset())
                continue
            self._waiting[partition].append(message)
        for partition, waiting in self._waiting.items():
            if waiting:
                self._next[partition] = waiting[-1].offset() + 1
                if len(waiting) > MOST_WAITING and partition not in self._paused:
                    # Others are behind in time: this one must not fill the memory meanwhile.
                    self._paused.add(partition)
                    self._consumer.pause([TopicPartition(self.topic, partition)])

    def _on_error(self, error: KafkaError, partition: int, offset: int) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._ends[partition] = offset
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._look_again(partition)
        elif not away(error) and code != KafkaError._MAX_POLL_EXCEEDED:
            raise translated(error, f"reading {self.where}, partition {partition}")

    def _look_again(self, partition: int) -> None:
        """Go on at an offset that the cluster says it does not have: a broker that has just come back may say so of one it has.

        Raises
        ------
        ConnectorError
            It is gone indeed.
        """
        low, high = self.bounds(partition)
        self._doubts[partition] = self._doubts.get(partition, 0) + 1
        if not low <= self._next[partition] <= high and self._doubts[partition] > MOST_DOUBTS:
            raise gone(self.topic, partition, self._next[partition], (low, high))
        log.warning("%s, partition %d: offset %d is said to be gone, looking again", self.where, partition, self._next[partition])
        time.sleep(DOUBT_S)
        self._consumer.seek(TopicPartition(self.topic, partition, self._next[partition]))

    def committed(self, partition: int, offset: int) -> None:
        """Tell the cluster how far the job is, for lag tools; nothing goes by it, so nobody waits for the answer."""
        try:
            self._consumer.commit(offsets=[TopicPartition(self.topic, partition, offset)], asynchronous=True)
        except KafkaException as error:
            ErrorLog(f"noting the position in {self.where}")(error.args[0])

    def lag(self, partition: int) -> int | None:
        """Return how many records wait in a partition, as far as the client knows. From any thread."""
        if not self._open:
            return None
        try:
            _, high = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), cached=True)
        except (KafkaException, RuntimeError):
            return None
        return max(0, high - self._next[partition]) + len(self._waiting[partition]) if high >= 0 else None

    def close(self) -> None:
        """One reader less; the last one closes the consumer."""
        self._open -= 1
        if self._open == 0:
            self.shut()

    def shut(self) -> None:
        """Close the consumer."""
        self._open = 0
        self._consumer.close()


@dataclass(frozen=True, slots=True)
class KafkaChunk(Chunk):
    """Rows of records `offsets` of a partition; `of` is the number of each row's record."""

    offsets: Sequence[int] = ()
    of: Sequence[int] | None = None
    after: Json = field(default=None)


class PartitionReader(SplitReader):
    """Reads one partition.

    The position is ``{"offset": o, "skip": k}``: records in front of offset o are done, and k rows of it (a value of Arrow may
    hold many); with ``"until"`` where reading ends.
    """

    def __init__(self, described: Kafka, feed: Feed, split: str, position: Json, columns: Sequence[str], own_time: bool) -> None:
        self._described, self._feed, self._columns, self._own_time = described, feed, tuple(columns), own_time
        self._topic, self._partition = described.topic, int(split.rpartition("/")[2])
        at = cast("Mapping[str, int] | None", position)
        low, high = feed.bounds(self._partition)
        self._offset = self._first(low, high) if at is None else at["offset"]
        self._skip = 0 if at is None else at.get("skip", 0)
        self._until: int | None = None
        if described.until is not None:
            self._until = at["until"] if at is not None and "until" in at else high
        if not low <= self._offset <= high:
            raise gone(self._topic, self._partition, self._offset, (low, high))
        own = {name for name in columns if name in METADATA_COLUMNS and name not in described.schema}
        self._metadata = own
        self._decoder = decoder_of(described, [described.schema.field(name) for name in columns if name not in own])
        feed.add(self._partition, self._offset)

    def _first(self, low: int, high: int) -> int:
        start = self._described.start
        if start == "earliest":
            return low
        return high if start == "latest" else self._feed.offset_at(self._partition, cast(int, start))

    def start(self) -> Json:
        """Return where reading begins."""
        return self._at(self._offset, self._skip)

    def _at(self, offset: int, skip: int = 0) -> Json:
        at = {"offset": offset, "skip": skip} if skip else {"offset": offset}
        return at if self._until is None else {**at, "until": self._until}

    def read(self, max_rows: int) -> Chunk | End | None:
        """Return what has come of the partition; never waits."""
        if self._until is not None and self._offset >= self._until:
            return END
        messages = self._feed.take(self._partition, min(max_rows, CHUNK_RECORDS))
        if self._until is not None and messages and messages[-1].offset() >= self._until:
            messages = [message for message in messages if message.offset() < self._until]
            if not messages:
                return END
        if not messages:
            return END if self._until is not None and self._feed.ended(self._partition, self._until) else None
        return self._decoded(messages)

    def _decoded(self, messages: list[Any]) -> Chunk:
        offsets = [message.offset() for message in messages]
        found = self._decoder.decode([message.value() for message in messages])
        rows, of = found.rows, found.of
        skip = min(self._skip, rows.num_rows)
        if skip:
            rows, of = rows.slice(skip), (list(range(rows.num_rows)) if of is None else of)[skip:]
        chunk = KafkaChunk(
            rows=self._with_metadata(rows, messages, offsets, of),
            position=self._at(self._offset, self._skip),
            timestamps=self._times(messages, of) if self._own_time else None,
            rejected=self._rejected(found.bad, messages, of, rows.num_rows),
            offsets=offsets,
            of=of,
            after=self._at(offsets[-1] + 1),
        )
        self._offset, self._skip = offsets[-1] + 1, 0
        return chunk

    def _rejected(self, bad: Mapping[int, str], messages: list[Any], of: Sequence[int] | None, rows: int) -> tuple[Rejected, ...]:
        found = []
        row = 0
        for index in sorted(bad):
            if of is None:
                row = index
            else:
                while row < rows and of[row] < index:
                    row += 1
            message = messages[index]
            found.append(Rejected(row, (message.value() or b"")[:_MAX_RAW], bad[index], self._topic, self._partition, message.offset()))
        return tuple(found)

    def _times(self, messages: list[Any], of: Sequence[int] | None) -> pa.Int64Array:
        times = [message.timestamp()[1] for message in messages]
        return pa.array(times if of is None else [times[index] for index in of], pa.int64())

    def _with_metadata(self, rows: pa.RecordBatch, messages: list[Any], offsets: list[int], of: Sequence[int] | None) -> pa.RecordBatch:
        if not self._metadata:
            return rows
        arrays = []
        for name in self._columns:
            if name not in self._metadata:
                arrays.append(rows.column(name))
            elif name == "_topic":
                arrays.append(pa.repeat(pa.scalar(self._topic, pa.string()), rows.num_rows))
            elif name == "_partition":
                arrays.append(pa.repeat(pa.scalar(self._partition, pa.int64()), rows.num_rows))
            else:
                values = offsets if name == "_offset" else [_READ[name](message) for message in messages]
                arrays.append(pa.array(values if of is None else [values[index] for index in of], METADATA_COLUMNS[name]))
        return pa.RecordBatch.from_arrays(arrays, names=list(self._columns))

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
        self._feed.committed(self._partition, cast("Mapping[str, int]", position)["offset"])

    def lag(self) -> int | None:
        """Return how many records wait in the partition."""
        return self._feed.lag(self._partition)

    def close(self) -> None:
        """Let the consumer go, with the last reader of it."""
        self._feed.close()


def _headers(message: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": None if value is None else _text(value)} for name, value in message.headers() or ()]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


_READ: Final = {
    "_key": lambda message: message.key(),
    "_timestamp": lambda message: message.timestamp()[1],
    "_headers": _headers,
}


def gone(topic: str, partition: int, offset: int, bounds: tuple[int, int]) -> ConnectorError:
    """Return the error for a position that the topic does not have."""
    low, high = bounds
    if offset > high:
        return ConnectorError(
            f"the topic {topic!r} ends at offset {high} of partition {partition}, the checkpoint has read up to {offset}: "
            "it is another topic",
            remedy="give the topic another name, or start with another state directory",
        )
    return ConnectorError(
        f"offset {offset} of the topic {topic!r}, partition {partition}, is gone: the topic begins at {low} now (retention)",
        remedy="what lies between cannot be read any more: start with another state directory to go on without it, and raise the "
        "topic's retention.ms",
    )
