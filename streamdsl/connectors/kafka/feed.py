"""One consumer for the partitions of a task: what it brings is kept by partition, in columns, until it is read."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from streamdsl._native.serdes.messages import bytes_of, runs
from streamdsl.connectors.base import SplitFeed, Together
from streamdsl.connectors.kafka.admin import topic_id_of
from streamdsl.connectors.kafka.clients import CALL_S, CLIENT_LOG, ErrorLog, first_and_end, log, made, patiently, with_leaders
from streamdsl.connectors.kafka.confluent import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition
from streamdsl.connectors.kafka.ends import AGAIN, End, Ends, gone, known_for_s, made_anew
from streamdsl.connectors.kafka.failures import away, translated
from streamdsl.connectors.kafka.rights import Access
from streamdsl.connectors.kafka.topic import Topic

__all__ = ["CHUNK_RECORDS", "Feed", "Records", "Unreadable"]

#: Records that are taken from the client at a time, and decoded at a time.
CHUNK_RECORDS: Final = 8192
#: Bytes of a partition that are decoded at a time, at most and at least. Partitions that wait for one another hold a chunk each: together
#: these are half as much as may wait undecoded.
CHUNK_BYTES: Final = 4 << 20
LEAST_CHUNK: Final = 1 << 16
#: What a record takes beside its value: the object, its offset, its place in a list.
RECORD_BYTES: Final = 64
#: Records that are taken from the client at a time while others wait that are not wanted yet.
FEW_RECORDS: Final = 256
#: However many tasks share the memory: so much each may hold, and one answer of a broker.
LEAST_ROOM: Final = 1 << 20
LEAST_FETCH: Final = 1 << 20
#: Of the memory for records that wait: what the client itself may hold.
CLIENT_SHARE: Final = 4
#: How often, and how long after, an offset that is said to be gone is looked for again.
MOST_DOUBTS, DOUBT_S = 3, 0.5
#: How long the client is not asked again that had nothing.
DRY_S: Final = 0.0005
#: How often the cluster is told all positions anew.
NOTE_ALL_S: Final = 3600.0
#: A partition of which something came so lately is not asked for with others: more may follow.
LATELY_S: Final = 1.0
#: The time of a record that has none.
_NO_TIME: Final = -1
#: How often it is looked whether the topic itself has been.
LOOK_S: Final = 1.0


class Unreadable(list[Any]):
    """Headers that cannot be read, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class Records:
    """Records of a partition, in columns: offsets, values, and what else is asked for (``_key``, ``_timestamp``, ``_headers``)."""

    __slots__ = ("bytes", "extras", "offsets", "values")

    def __init__(self, extras: Collection[str]) -> None:
        self.bytes = 0
        self.offsets: array[int] = array("q")
        self.values: list[bytes | None] = []
        self.extras: dict[str, list[Any]] = {name: [] for name in extras}

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, offsets: array[int], values: list[bytes | None], messages: list[Message]) -> None:
        """Add records; `messages` are what the other columns are read from."""
        self.offsets += offsets
        self.values += values
        self.bytes += bytes_of(values) + RECORD_BYTES * len(values)
        for name, column in self.extras.items():
            more = list(map(_READ[name], messages))
            column += more
            self.bytes += _SIZES[name](more)

    def add(self, more: Records) -> None:
        """Add records, perhaps of another partition, with the same columns."""
        self.offsets += more.offsets
        self.values += more.values
        self.bytes += more.bytes
        for name, column in self.extras.items():
            column += more.extras[name]

    def within(self, limit: int) -> int:
        """Return how many of them are about so many bytes: at least one."""
        return len(self) if self.bytes <= limit else max(1, len(self) * limit // self.bytes)

    def cut(self, count: int) -> Records:
        """Take the first `count` records away and return them."""
        taken = Records(())
        taken.bytes = self.bytes * count // max(len(self), 1)
        self.bytes -= taken.bytes
        taken.offsets, self.offsets = self.offsets[:count], self.offsets[count:]
        taken.values, self.values = self.values[:count], self.values[count:]
        taken.extras = {name: column[:count] for name, column in self.extras.items()}
        self.extras = {name: column[count:] for name, column in self.extras.items()}
        return taken


def _headers(message: Any) -> list[dict[str, Any]] | Unreadable:
    try:
        return [{"name": name, "value": None if value is None else _text(value)} for name, value in message.headers() or ()]
    except (UnicodeDecodeError, SystemError) as error:
        # The client decodes names, and of some versions of Python what fails in it comes as a SystemError.
        return Unreadable(f"the name of a header is not UTF-8: {error.__cause__ or error}")


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def _timestamp(message: Any) -> int | None:
    """Return the time of a record in ms; None where it has none, which Kafka writes as -1."""
    at: int = message.timestamp()[1]
    return None if at == _NO_TIME else at


_READ: Final[Mapping[str, Any]] = {
    "_key": Message.key,
    "_timestamp": _timestamp,
    "_headers": _headers,
}


_SIZES: Final[Mapping[str, Any]] = {
    "_key": bytes_of,
    "_timestamp": lambda times: 32 * len(times),
    "_headers": lambda rows: sum(200 + len(header["name"]) + len(header["value"] or "") for row in rows for header in row),
}


class Feed(SplitFeed):
    """One consumer, and what it has brought for each partition that is not read yet. Used by one thread (but `lag`).

    What waits is bounded in bytes, the client's own queue with it. Over the bound nothing more is taken from the client, until those
    that have come are read. Where one is wanted that has not come, the others are paused: it alone is fetched then.
    """

    def __init__(self, described: Topic, extras: Collection[str]) -> None:
        self.topic, self.extras = described.topic, tuple(extras)
        self.where = f"the topic {described.topic!r} at {described.broker}"
        self._options = described.client_options()
        self._access = Access((described.topic,), ("READ",), group=described.job or "streamdsl")
        self._note_log = ErrorLog(f"the consumer group {described.job or 'streamdsl'!r}")
        #: Which topic of that name it is.
        self.topic_id = topic_id_of(self._options, described.topic)
        self._room = self._share(described)
        client_bytes = self._room // CLIENT_SHARE
        self._consumer = made(
            Consumer,
            {
                "logger": CLIENT_LOG,
                "queued.max.messages.kbytes": max(client_bytes >> 10, 1),
                # One answer of a broker, which comes on top of the queue.
                "fetch.max.bytes": max(client_bytes, int(self._options.get("message.max.bytes", 0)), LEAST_FETCH),
                # Each answer names all partitions: of many, where nothing comes, fewer answers.
                "fetch.wait.max.ms": min(max(100, described.seen.get("partitions", 1) // 2), 500),
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
                "on_commit": self._on_noted,
            },
            f"reading {self.where}",
        )
        #: Partitions of which records were taken that their reader has not been able to decode yet.
        self.undecoded: set[int] = set()
        #: Reads several splits at once, see `SplitFeed.read_together`.
        self.reads_together: Callable[[Sequence[str]], Together | None] = lambda splits: None
        #: Columns that are the same in every row of all partitions, as long as was needed so far.
        self.same: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._waiting: dict[int, Records] = {}
        self._ready: dict[str, int] = {}  # the splits to be read: with records, or an end that nobody knows yet
        self._held = 0  # bytes of all that waits
        self._dry_at = float("-inf")  # when the client had nothing last
        self._in_vain: set[int] = set()  # what was wanted, and had not come, since something was read
        self._stuck = False  # one of them was wanted again: by then each has been asked for that is wanted at all
        self._paused: set[int] = set()
        self._next: dict[int, int] = {}  # the offset to read next, by partition
        self._ends: dict[int, int] = {}  # where the partition was found to end
        self._doubts: dict[int, int] = {}
        self._again_at: dict[int, float] = {}  # when an offset in doubt is looked for again
        self._noted: dict[int, int] = {}  # the positions of the last checkpoint
        self._to_note: dict[int, int] = {}  # of them: those that the cluster has not been told
        self._note_all_at = time.monotonic() + NOTE_ALL_S
        self._came: dict[int, float] = {}  # when something of a partition came last
        self._sure, self._sure_until = -1, float("-inf")  # with so many answers, and so long, all were known to be read
        watched = described.seen.get("partitions") if described.until is None else None
        self._end_offsets = Ends(self._options, described.topic, self.topic_id, watched, self.where)
        self._known_s = known_for_s(0)
        self._chunk_bytes = CHUNK_BYTES
        self._look_at = time.monotonic() + self._known_s
        self._open = 0

    @staticmethod
    def _share(described: Topic) -> int:
        """Return how many bytes may wait here: the topic's, divided among the tasks that read it."""
        return max(LEAST_ROOM, described.buffer_memory // described.readers)

    def add(self, split: str, partition: int, offset: int) -> None:
        """Have a partition read from `offset`."""
        self._names[partition] = split
        self._waiting[partition], self._next[partition] = Records(self.extras), offset
        self._came[partition] = time.monotonic()
        self._open += 1

    def begin(self) -> None:
        """Begin to fetch."""
        self._known_s = known_for_s(len(self._next))
        self._chunk_bytes = max(LEAST_CHUNK, min(CHUNK_BYTES, self._room // max(2 * len(self._next), 1)))
        self._consumer.assign([TopicPartition(self.topic, partition, offset) for partition, offset in self._next.items()])

    def bounds(self, partition: int) -> tuple[int, int]:
        """Return the first offset that is kept and the one behind the last."""
        return first_and_end(self._consumer, TopicPartition(self.topic, partition), f"reading {self.where}", self._access)

    def offset_at(self, partition: int, time_ms: int) -> int:
        """Return the first offset whose record is not older than `time_ms`."""
        at = TopicPartition(self.topic, partition, time_ms)

        def look() -> int:
            (found,) = self._consumer.offsets_for_times([at], timeout=CALL_S)
            if found.error is not None:
                raise KafkaException(found.error)
            return int(found.offset)

        doing = f"reading {self.where}, partition {partition}"
        offset = patiently(doing, with_leaders(self._consumer, at, look), exists=True, access=self._access)
        return self.bounds(partition)[1] if offset == OFFSET_END else offset

    def poll(self) -> Collection[str] | None:
        """Take what has come, unless there is something of each partition; None where there is no room: then it matters who is asked."""
        if len(self._ready) == len(self._waiting):
            return self._ready
        if self._held >= self._room:
            return None
        self._fetch(CHUNK_RECORDS)
        return self._ready

    def read_together(self, splits: Collection[str], max_rows: int) -> Together | None:
        """Return the next rows of several splits in one batch, if they are few."""
        waiting = {split: len(self._waiting[self._ready[split]]) for split in splits}
        if sum(waiting.values()) > min(max_rows, CHUNK_RECORDS) or self._held > self._chunk_bytes:
            return None
        found = [split for split, count in waiting.items() if count]
        return self.reads_together(found) if len(found) > 1 else None

    def take(self, partition: int, most: int) -> Records:
        """Return up to `most` records of a partition, none if there are none now. Never waits."""
        waiting = self._waiting[partition]
        if not waiting:
            self._fetch_for(most)
        most = min(most, waiting.within(self._chunk_bytes))
        if len(waiting) <= most:
            taken, self._waiting[partition] = waiting, Records(self.extras)
        else:
            taken = waiting.cut(most)
        if not self._waiting[partition]:
            self._ready.pop(self._names[partition], None)
        if not taken:
            self._stuck |= partition in self._in_vain
            self._in_vain.add(partition)
            return taken
        self._in_vain.clear()
        self._stuck = False
        self._held -= taken.bytes
        if self._paused and self._held < self._room // 2:
            self._resume(list(self._paused))
        elif partition in self._paused and not self._waiting[partition]:
            self._resume([partition])  # it is wanted next, and others may wait for it with all that they have
        return taken

    def _resume(self, partitions: list[int]) -> None:
        self._consumer.resume([TopicPartition(self.topic, number) for number in partitions])
        self._paused.difference_update(partitions)

    def _fetch_for(self, most: int) -> None:
        """Take what has come, as far as there is room for it."""
        if not self._held and time.monotonic() - self._dry_at < DRY_S:
            return  # the client was asked a moment ago, for another partition
        if self._held < self._room:
            self._fetch(most)
        elif self._stuck:
            # Those with records are not wanted yet.
            ahead = [number for number, waiting in self._waiting.items() if waiting and number not in self._paused]
            if ahead:
                self._consumer.pause([TopicPartition(self.topic, number) for number in ahead])
                self._paused.update(ahead)
            self._fetch(FEW_RECORDS)

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
        if self._stale(partition, end, AGAIN * self._known_s):
            self._ask(partition)
        return not self._unsure(partition, end)

    def _stale(self, partition: int, end: End | None, most_s: float) -> bool:
        """Whether the cluster has not told the end within so many seconds, and since the last record came."""
        return end is None or end.asked_at <= self._came[partition] or time.monotonic() - end.asked_at >= most_s

    def _unsure(self, partition: int, end: End | None) -> bool:
        return end is None or self._stale(partition, end, self._known_s) or end.stable > self.position(partition)

    def unsure(self) -> Collection[str]:
        """Return the splits that may have more than was read: all others stay idle."""
        ends = self._end_offsets.known()
        now, told = time.monotonic(), self._end_offsets.answers
        if self._sure == told and now < self._sure_until:
            return ()  # nothing has come and nothing was answered since all were known to be read
        again, counts = now - AGAIN * self._known_s, now - self._known_s
        oldest, behind = now, []
        for number, came in self._came.items():
            end = ends.get(number)
            asked_at = end.asked_at if end is not None and end.asked_at > came else float("-inf")
            oldest = min(oldest, asked_at)
            if end is None or asked_at <= counts or number in self.undecoded or end.stable > self.position(number):
                behind.append(self._names[number])
        if oldest <= again:
            self._ask()
        elif not behind:
            self._sure, self._sure_until = told, oldest + AGAIN * self._known_s
        return behind

    def _ask(self, *wanted: int) -> None:
        """Ask for the ends of partitions: of those that are wanted, and of all that will be."""
        self._end_offsets.check()
        ends, lately = self._end_offsets.known(), time.monotonic() - LATELY_S
        quiet = (number for number, came in self._came.items() if came < lately and not self._waiting[number])
        found = {number for number in quiet if self._stale(number, ends.get(number), AGAIN * self._known_s)}
        if found := found.union(wanted):
            self._end_offsets.ask(found)

    def _look_at_topic(self, now: float) -> None:
        """Find out whether the topic is still the one that it was, with as many partitions."""
        self._look_at = now + LOOK_S
        self._end_offsets.check()
        self._end_offsets.look(self._known_s)

    def _fetch(self, most: int) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at_topic(now)
        if self._to_note or now >= self._note_all_at:
            self._note_positions(now)
        # Thousands of messages are made and let go: the collector would go through all objects of the process meanwhile.
        collecting = gc.isenabled()
        gc.disable()
        try:
            told = self._drain(most, now)
        finally:
            if collecting:
                gc.enable()
        for error, partition, offset in told:
            self._on_error(error, partition, offset)
        for partition, at in list(self._again_at.items()) if self._again_at else ():
            if now >= at:
                self._look_again(partition)

    def _drain(self, most: int, now: float) -> Sequence[tuple[KafkaError, int, int]]:
        """Take what the client has into the partitions' columns; return what it has to tell."""
        try:
            messages = self._consumer.consume(min(most, CHUNK_RECORDS), 0)
        except KafkaException as error:
            raise translated(error, f"reading {self.where}", self._access) from error
        if not messages:
            self._dry_at = now
            return ()
        now = time.monotonic()  # what a client has may take long to be taken
        self._sure = -1
        # What a fetch has brought of a partition stands together.
        found, wrong = runs(messages, Message.partition, Message.offset, Message.value, Message.error)
        for first, partition, offsets, values in found:
            self._came[partition] = now
            waiting = self._waiting[partition]
            before = waiting.bytes
            waiting.take(offsets, values, messages[first : first + len(values)] if self.extras else [])
            self._held += waiting.bytes - before
            self._next[partition] = offsets[-1] + 1
            self._ready[self._names[partition]] = partition
        return [(messages[index].error(), messages[index].partition(), messages[index].offset()) for index in wrong]

    def _on_error(self, error: KafkaError, partition: int, offset: int) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._ends[partition] = offset
            self._ready[self._names[partition]] = partition
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            log.warning("%s, partition %d: offset %d is said to be gone, looking again", self.where, partition, self._next[partition])
            self._again_at[partition] = time.monotonic() + DOUBT_S
        elif not away(error) and code != KafkaError._MAX_POLL_EXCEEDED:
            raise translated(error, f"reading {self.where}, partition {partition}", self._access)

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
        """Have the cluster told how far the job is, for lag tools; nothing goes by it."""
        if self._noted.get(partition) != offset:
            self._noted[partition] = self._to_note[partition] = offset

    def _note_positions(self, now: float) -> None:
        """Tell the cluster positions that it does not know, all in one request; nobody waits for the answer."""
        if now >= self._note_all_at:
            # Those of a partition in which nothing comes would be forgotten otherwise.
            self._note_all_at = now + NOTE_ALL_S
            self._to_note = dict(self._noted)
        if not self._to_note:
            return
        told = [TopicPartition(self.topic, partition, offset) for partition, offset in self._to_note.items()]
        self._to_note.clear()
        try:
            self._consumer.commit(offsets=told, asynchronous=True)
        except KafkaException as error:
            ErrorLog(f"noting the position in {self.where}")(error.args[0])

    def _on_noted(self, error: KafkaError | None, noted: Sequence[TopicPartition]) -> None:
        """Hear what the cluster says of noted positions: where they may not be noted, lag tools see the job stand still."""
        error = error or next((at.error for at in noted if at.error is not None), None)
        if error is not None and not away(error):
            said = translated(error, f"noting the position in {self.where}", self._access)
            self._note_log(KafkaError(error.code(), f"{said.message}; {said.remedy}; only tools that show the lag go by it"))

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
        self._end_offsets.ask(self._next, self._known_s, high=True)
        return self._end_offsets.of(partition)

    def close(self) -> None:
        """One reader less; the last one closes the consumer."""
        self._open -= 1
        if self._open == 0:
            self.shut()

    def shut(self) -> None:
        """Close the consumer."""
        self._note_positions(time.monotonic())
        self._open = 0
        self._end_offsets.close()
        self._consumer.close()
