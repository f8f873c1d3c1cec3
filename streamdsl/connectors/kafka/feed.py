"""One consumer for the partitions of a task: what it brings is kept by partition, in columns, until it is read."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Collection, Mapping
from typing import Any, Final

from streamdsl._native.serdes.messages import runs
from streamdsl.connectors.kafka.clients import (
    CALL_S,
    CLIENT_LOG,
    OFFSET_END,
    Consumer,
    ErrorLog,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
    away,
    log,
    patiently,
    topic_id_of,
    translated,
)
from streamdsl.connectors.kafka.ends import End, Ends, gone, made_anew
from streamdsl.connectors.kafka.topic import Topic

__all__ = ["CHUNK_RECORDS", "Feed", "Records"]

#: Records that are taken from the client at a time, and decoded at a time.
CHUNK_RECORDS: Final = 8192
#: Records of one partition that wait for their turn; then it is paused until few are left.
MOST_WAITING, FEW_WAITING = 65536, 4096
#: How often, and how long after, an offset that is said to be gone is looked for again.
MOST_DOUBTS, DOUBT_S = 3, 0.5
#: How often the topic itself is looked at.
LOOK_S: Final = 5.0
#: How long what is known of a partition's end counts for its lag.
END_KNOWN_S: Final = 5.0


class Records:
    """Records of a partition, in columns: offsets, values, and what else is asked for (``_key``, ``_timestamp``, ``_headers``)."""

    __slots__ = ("extras", "offsets", "values")

    def __init__(self, extras: Collection[str]) -> None:
        self.offsets: array[int] = array("q")
        self.values: list[bytes | None] = []
        self.extras: dict[str, list[Any]] = {name: [] for name in extras}

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, offsets: array[int], values: list[bytes | None], messages: list[Message]) -> None:
        """Add records; `messages` are what the other columns are read from."""
        self.offsets += offsets
        self.values += values
        for name, column in self.extras.items():
            column += map(_READ[name], messages)

    def cut(self, count: int) -> Records:
        """Take the first `count` records away and return them."""
        taken = Records(())
        taken.offsets, self.offsets = self.offsets[:count], self.offsets[count:]
        taken.values, self.values = self.values[:count], self.values[count:]
        taken.extras = {name: column[:count] for name, column in self.extras.items()}
        self.extras = {name: column[count:] for name, column in self.extras.items()}
        return taken


def _headers(message: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": None if value is None else _text(value)} for name, value in message.headers() or ()]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


_READ: Final[Mapping[str, Any]] = {
    "_key": Message.key,
    "_timestamp": lambda message: message.timestamp()[1],
    "_headers": _headers,
}


class Feed:
    """One consumer, and what it has brought for each partition that is not read yet. Used by one thread (but `lag`)."""

    def __init__(self, described: Topic, extras: Collection[str]) -> None:
        self.topic, self.extras = described.topic, tuple(extras)
        self.where = f"the topic {described.topic!r} at {described.broker}"
        self._options = described.client_options()
        #: Which topic of that name it is.
        self.topic_id = topic_id_of(self._options, described.topic)
        self._consumer = Consumer(
            {
                "logger": CLIENT_LOG,
                "queued.max.messages.kbytes": 16384,
                "fetch.wait.max.ms": 100,
                # A full queue is soon half empty: by default the next fetch would wait for a second then.
                "fetch.queue.backoff.ms": 10,
                **self._options,
                "group.id": described.job or "streamdsl",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "error_cb": ErrorLog(self.where),
            }
        )
        self._waiting: dict[int, Records] = {}
        self._paused: set[int] = set()
        self._next: dict[int, int] = {}  # the offset to read next, by partition
        self._ends: dict[int, int] = {}  # where the partition was found to end
        self._doubts: dict[int, int] = {}
        self._again_at: dict[int, float] = {}  # when an offset in doubt is looked for again
        self._came: dict[int, float] = {}  # when something of a partition came last
        watched = described.seen.get("partitions") if described.until is None else None
        self._end_offsets = Ends(self._options, described.topic, self.topic_id, watched, self.where)
        self._look_at = time.monotonic() + LOOK_S
        self._open = 0

    def add(self, partition: int, offset: int) -> None:
        """Have a partition read from `offset`."""
        self._waiting[partition], self._next[partition] = Records(self.extras), offset
        self._came[partition] = time.monotonic()
        self._open += 1

    def begin(self) -> None:
        """Begin to fetch."""
        self._consumer.assign([TopicPartition(self.topic, partition, offset) for partition, offset in self._next.items()])

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset that is kept and the one behind the last."""
        at = TopicPartition(self.topic, partition)
        look = lambda: self._consumer.get_watermark_offsets(at, timeout=CALL_S)  # noqa: E731
        found: tuple[int, int] = patiently(f"reading {self.where}", look, exists=True)
        return found

    def offset_at(self, partition: int, time_ms: int) -> int:
        """Return the first offset whose record is not older than `time_ms`."""
        asked = [TopicPartition(self.topic, partition, time_ms)]
        (found,) = patiently(f"reading {self.where}", lambda: self._consumer.offsets_for_times(asked, timeout=CALL_S), exists=True)
        if found.error is not None:
            raise translated(found.error, f"{self.where}, partition {partition}")
        return self.bounds(partition)[1] if found.offset == OFFSET_END else int(found.offset)

    def take(self, partition: int, most: int) -> Records:
        """Return up to `most` records of a partition, none if there are none now. Never waits."""
        waiting = self._waiting[partition]
        if not waiting:
            self._fetch(most)
        if len(waiting) <= most:
            taken, self._waiting[partition] = waiting, Records(self.extras)
        else:
            taken = waiting.cut(most)
        if partition in self._paused and len(self._waiting[partition]) < FEW_WAITING:
            self._paused.discard(partition)
            self._consumer.resume([TopicPartition(self.topic, partition)])
        return taken

    def position(self, partition: int) -> int:
        """Return the offset that is read next: behind the last record, and behind the markers of transactions that follow it."""
        return max(self._next[partition], self._ends.get(partition, 0))

    def ended(self, partition: int, offset: int) -> bool:
        """Whether everything in front of `offset` has been taken."""
        return not self._waiting[partition] and self.position(partition) >= offset

    def caught_up(self, partition: int) -> bool:
        """Whether nothing waits in the partition, as the cluster itself says: that nothing comes may have other reasons.

        Asks when that is not known of a time behind the last record; the answer is there at a later call.
        """
        if self._waiting[partition]:
            return False
        end = self._end_offsets.of(partition)
        fresh = end is not None and end.asked_at > max(self._came[partition], time.monotonic() - END_KNOWN_S)
        if not fresh:
            self._end_offsets.check()
            self._end_offsets.ask(list(self._next))
        return fresh and end is not None and end.stable <= self.position(partition)

    def _look_at_topic(self) -> None:
        """Find out now and then whether the topic is still the one that it was, with as many partitions."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._end_offsets.check()
            self._end_offsets.ask(list(self._next))

    def _fetch(self, most: int) -> None:
        self._look_at_topic()
        # Thousands of messages are made and let go: the collector would go through all objects of the process meanwhile.
        collecting = gc.isenabled()
        gc.disable()
        try:
            told = self._drain(most)
        finally:
            if collecting:
                gc.enable()
        for error, partition, offset in told:
            self._on_error(error, partition, offset)
        for partition, at in list(self._again_at.items()) if self._again_at else ():
            if time.monotonic() >= at:
                self._look_again(partition)
        for partition, waiting in self._waiting.items():
            if waiting:
                self._next[partition] = waiting.offsets[-1] + 1
                if len(waiting) > MOST_WAITING and partition not in self._paused:
                    # Others are behind in time: this one must not fill the memory meanwhile.
                    self._paused.add(partition)
                    self._consumer.pause([TopicPartition(self.topic, partition)])

    def _drain(self, most: int) -> list[tuple[KafkaError, int, int]]:
        """Take what the client has into the partitions' columns; return what it has to tell."""
        try:
            messages = self._consumer.consume(min(most, CHUNK_RECORDS), 0)
        except KafkaException as error:
            raise translated(error, f"reading {self.where}") from error
        # What a fetch has brought of a partition stands together.
        found, wrong = runs(messages, Message.partition, Message.offset, Message.value, Message.error)
        now = time.monotonic() if found else 0.0
        for first, partition, offsets, values in found:
            self._came[partition] = now
            self._waiting[partition].take(offsets, values, messages[first : first + len(values)] if self.extras else [])
        return [(messages[index].error(), messages[index].partition(), messages[index].offset()) for index in wrong]

    def _on_error(self, error: KafkaError, partition: int, offset: int) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._ends[partition] = offset
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            log.warning("%s, partition %d: offset %d is said to be gone, looking again", self.where, partition, self._next[partition])
            self._again_at[partition] = time.monotonic() + DOUBT_S
        elif not away(error) and code != KafkaError._MAX_POLL_EXCEEDED:
            raise translated(error, f"reading {self.where}, partition {partition}")

    def _look_again(self, partition: int) -> None:
        """Go on at an offset that the cluster says it does not have: a broker that has just come back may say so of one it has.

        Raises
        ------
        ConnectorError
            It is gone indeed.
        """
        del self._again_at[partition]
        if topic_id_of(self._options, self.topic) != self.topic_id:
            raise made_anew(self.topic)
        low, high = self.bounds(partition)
        self._doubts[partition] = self._doubts.get(partition, 0) + 1
        if not low <= self._next[partition] <= high and self._doubts[partition] > MOST_DOUBTS:
            raise gone(self.topic, partition, self._next[partition], (low, high))
        # A partition in error takes no seek: it is let go and taken again.
        self._consumer.incremental_unassign([TopicPartition(self.topic, partition)])
        self._consumer.incremental_assign([TopicPartition(self.topic, partition, self._next[partition])])
        self._paused.discard(partition)

    def committed(self, partition: int, offset: int) -> None:
        """Tell the cluster how far the job is, for lag tools; nothing goes by it, so nobody waits for the answer."""
        try:
            self._consumer.commit(offsets=[TopicPartition(self.topic, partition, offset)], asynchronous=True)
        except KafkaException as error:
            ErrorLog(f"noting the position in {self.where}")(error.args[0])

    def lag(self, partition: int) -> int | None:
        """Return how many offsets lie between what was read and the last committed record, as far as is known. From any thread."""
        end, position = self._end_of(partition), self.position(partition)
        if end is None:
            return len(self._waiting[partition]) if self._ends.get(partition) == position else None
        return max(0, end.stable - position) + len(self._waiting[partition])

    def uncommitted(self, partition: int) -> int | None:
        """Return how many offsets lie behind the last committed record: those of transactions that are open. From any thread."""
        end = self._end_of(partition)
        return None if end is None else max(0, end.high - max(end.stable, self.position(partition)))

    def _end_of(self, partition: int) -> End | None:
        """Return the end that was answered last: that its broker is away does not empty a partition."""
        if not self._open:
            return None
        self._end_offsets.ask(list(self._next), END_KNOWN_S)
        return self._end_offsets.of(partition)

    def close(self) -> None:
        """One reader less; the last one closes the consumer."""
        self._open -= 1
        if self._open == 0:
            self.shut()

    def shut(self) -> None:
        """Close the consumer."""
        self._open = 0
        self._end_offsets.close()
        self._consumer.close()
