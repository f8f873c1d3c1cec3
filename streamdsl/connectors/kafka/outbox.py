"""Records on their way to a producer, and what all producers of the library have in common."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from streamdsl.connectors.kafka.clients import CLIENT_LOG
from streamdsl.connectors.kafka.confluent import KafkaError, KafkaException, Producer
from streamdsl.connectors.kafka.failures import for_good, translated, unknown_topic
from streamdsl.connectors.kafka.rights import NOTHING, Access
from streamdsl.errors import ConnectorError

__all__ = [
    "BATCH_BYTES",
    "BATCH_OVERHEAD",
    "NOT_OURS",
    "Deliveries",
    "Outbox",
    "Presence",
    "Record",
    "named_topic_gone",
    "named_topic_lost",
    "producer_options",
]

#: Of a topic that rows have named.
NOT_OURS: Final = "may not be written by this user"
#: A cluster that says for so long that there is no such topic has not just forgotten it.
FORGOTTEN_S: Final = 2.0

#: What the client reckons that a record has on the wire beside key, value and headers.
_OVERHEAD: Final = 36
#: What a batch begins with, and what a record has beside lengths, key, value and headers: attributes and the two deltas of the first one.
BATCH_OVERHEAD, _RECORD = 61, 3
#: What the client puts into a batch unless told otherwise.
BATCH_BYTES: Final = 1_000_000


def _sized(length: int) -> int:
    """Return how long a part is with its length in front, a zigzag number of seven bits a byte."""
    return length + max(1, -(-(2 * length).bit_length() // 7))


class Record(NamedTuple):
    """One record to be written; `timestamp` in ms, 0: the client's clock."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: list[tuple[str, bytes | None]] | None

    @property
    def size(self) -> int:
        """Bytes, about."""
        return 100 + len(self.key or b"") + len(self.value or b"")

    @property
    def wire_size(self) -> int:
        """Bytes that the client reckons with when it compares a record with ``message.max.bytes``."""
        return _OVERHEAD + len(self.key or b"") + len(self.value or b"") + self._carried

    @property
    def batch_size(self) -> int:
        """Bytes of a batch that holds nothing else: what a broker compares with ``max.message.bytes`` of the topic."""
        parts = _sized(len(self.key or b"")) + _sized(len(self.value or b"")) + _sized(len(self.headers or ())) - len(self.headers or ())
        return BATCH_OVERHEAD + _sized(_RECORD + parts + self._carried)

    @property
    def _carried(self) -> int:
        return sum(_sized(len(name.encode())) + _sized(len(value or b"")) for name, value in self.headers or ())


def producer_options(options: dict[str, Any], limits: Iterable[int | None]) -> dict[str, Any]:
    """Return what our producers have in common; the partitioner is that of Java clients.

    `limits`: the ``max.message.bytes`` of the topics. No batch is larger: records that fit one by one would be refused together.
    """
    largest = min((limit for limit in limits if limit is not None), default=BATCH_BYTES)
    return {
        # The sink hands over many rows at a time where they come fast; where they do not, the client rounds any time up to a millisecond.
        "linger.ms": 0,
        "logger": CLIENT_LOG,
        "partitioner": "murmur2_random",
        "queue.buffering.max.kbytes": 131072,
        # What replicas may take: less than the silence of a broker, behind which the client hangs up.
        "request.timeout.ms": 15_000,
        **options,
        "batch.size": min(int(options.get("batch.size", BATCH_BYTES)), largest),
        "enable.idempotence": True,
        "delivery.report.only.error": True,
    }


def named_topic_gone(doing: str, topic: str | None, why: str = "is gone") -> ConnectorError:
    """Return the error for a topic that rows have named, and that is gone since, or no longer ours: the next start refuses such rows."""
    return ConnectorError(
        f"{doing}: the topic {topic!r}, which rows have named (topic_from), {why}"
        if topic
        else f"{doing}: a topic that rows have named (topic_from) {why}",
        remedy="it is tried again from the last checkpoint: rows that name it are a matter of errors= of the sink then",
        recoverable=True,
        lasting=True,
    )


def named_topic_lost(doing: str, topic: str | None, cause: KafkaError) -> ConnectorError | None:
    """Return the error for a record of a topic that rows have named, if it failed because of the topic."""
    if unknown_topic(cause):
        return named_topic_gone(doing, topic)
    if cause.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return named_topic_gone(doing, topic, NOT_OURS)
    return None


class Deliveries:
    """Takes the delivery reports: of records that could not be written."""

    def __init__(self, access: Access = NOTHING, own: Collection[str] = ()) -> None:
        self.failed: Any = None
        self._topic: str | None = None
        self._access, self._own = access, own

    @property
    def access(self) -> Access:
        """What was asked of the cluster: where one record has failed, of its topic."""
        return self._access if self._topic is None else replace(self._access, topics=(self._topic,))

    def __call__(self, error: Any, message: Any) -> None:
        """Take one report; only errors are reported."""
        if error is not None and self.failed is None:
            self.failed, self._topic = error, None if message is None else message.topic()

    def check(self, doing: str) -> None:
        """Raise what has failed: those rows are lost to this run, and come again when it starts from its last checkpoint, if that helps."""
        if self.failed is not None:
            lost = None if self._topic in self._own else named_topic_lost(doing, self._topic, self.failed)
            if lost is not None:
                raise lost
            error = translated(self.failed, doing, self.access)
            error.context["recoverable"] = not for_good(self.failed)
            raise error


class Presence:
    """Looks whether topics are still there, while a client has records for them: it would wait for their return.

    `own`: the topics of sinks. Of the others the names come from data.
    """

    def __init__(self, own: Collection[str], topics: Collection[str]) -> None:
        self._own, self._topics = own, sorted({*own, *topics})
        self._missing_since: float | None = None

    def check(self, producer: Producer) -> None:
        """Ask the cluster.

        Raises
        ------
        KafkaException
            For a while now it has said that there is no such topic of a sink.
        ConnectorError
            The same of a topic that data has named: it is tried again, and rows that name it are refused then.
        """
        try:
            # All are listed: to ask for one by name may create it.
            there = producer.list_topics(timeout=1.0).topics
        except KafkaException:
            return  # it does not answer
        missing, now = [topic for topic in self._topics if topic not in there], time.monotonic()
        if not missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        elif now - self._missing_since >= FORGOTTEN_S:
            if not any(topic in self._own for topic in missing):
                raise named_topic_gone("writing", missing[0])
            missing = [topic for topic in missing if topic in self._own]
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, f"there is no topic {missing[0]!r} any more"))


class Outbox:
    """Records that wait for the client to take them, in order."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self.bytes = 0
        #: Topics of records that were added; whoever hands them over empties it.
        self.topics: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._records)

    @property
    def next_topic(self) -> str | None:
        """Topic of the record that is handed over next: the one that the client has just refused, if it has."""
        return self._records[0].topic if self._records else None

    def add(self, records: Collection[Record]) -> None:
        """Hold records back."""
        self._records.extend(records)
        self.bytes += sum([record.size for record in records])
        self.topics.update([record.topic for record in records])

    def empty_into(self, producer: Producer) -> bool:
        """Hand over as much as the client takes; return whether that was all."""
        waiting, produce = self._records, producer.produce
        while waiting:
            topic, key, value, timestamp, headers = record = waiting[0]
            try:
                produce(topic, value, key, timestamp=timestamp, headers=headers or [])
            except BufferError:
                producer.poll(0)
                return False
            waiting.popleft()
            self.bytes -= record.size
        return True
