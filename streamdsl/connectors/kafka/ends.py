"""Where partitions end, asked of the cluster without waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamdsl.connectors.kafka.admin import admin_client, id_of
from streamdsl.connectors.kafka.clients import ErrorLog, log
from streamdsl.connectors.kafka.confluent import KafkaException, TopicPartition
from streamdsl.connectors.kafka.failures import translated, unknown_topic
from streamdsl.connectors.kafka.rights import Access
from streamdsl.errors import ConnectorError

__all__ = ["AGAIN", "End", "Ends", "gone", "known_for_s", "made_anew"]

#: How often the cluster is asked at most, and how long an answer may take.
ASK_S: Final = 1.0
ANSWER_S: Final = 5.0
#: How often it is looked at most whether there are answers.
COLLECT_S: Final = 0.005
#: How long what is known of a partition's end counts, and of the topic itself. An answer costs some 100 us a partition: where there are
#: many it counts for so long that asking takes half a per cent of a core.
KNOWN_S: Final = 5.0
KNOWN_S_A_PARTITION: Final = 0.02
#: When it is asked for again, of that time: a partition that stays empty stays known as such.
AGAIN: Final = 0.7
#: A cluster that says so often in a row that there is no such topic has not just forgotten it.
_GONE: Final = 3


@dataclass(frozen=True, slots=True)
class End:
    """The end of a partition: offsets behind the last record that is committed, and behind the last one at all."""

    asked_at: float
    stable: int
    high: int


def known_for_s(partitions: int) -> float:
    """Return how long the ends of so many partitions count as known."""
    return max(KNOWN_S, KNOWN_S_A_PARTITION * partitions)


class Ends:
    """Asks for the ends of partitions with a client of its own, which is made when somebody asks first. From any thread."""

    def __init__(self, options: Mapping[str, Any], topic: str, topic_id: str | None, partitions: int | None, where: str) -> None:
        self._options, self._topic, self._id, self._where = options, topic, topic_id, where
        self._partitions = partitions  # that are read, by whatever task; None: others may be added and are left alone
        self._lock = threading.Lock()
        self._client: Any = None
        self._asked_at = self._high_asked_at = self._looked_at = float("-inf")
        self._pending: list[tuple[int, Any, Any]] = []  # partition, and what will tell its two ends
        self._collected_at = float("-inf")
        self._ends: dict[int, End] = {}
        #: How often an end was told; the reader of one thread sees whether there is news.
        self.answers = 0
        self._described: Any = None  # what will tell whether the topic is there
        self._failed = False  # the end of some partition could not be told
        self._missing = 0  # answers in a row that there is no such topic
        self._lost: ConnectorError | None = None
        self._closed = False

    def of(self, partition: int) -> End | None:
        """Return what was answered last for a partition."""
        with self._lock:
            self._collect()
            return self._ends.get(partition)

    def check(self) -> None:
        """Raise if the topic has been deleted, is another one of its name, or has grown.

        Raises
        ------
        ConnectorError
            The cluster has said so, several times where it knows of none.
        """
        if self._lost is not None:
            raise self._lost

    def known(self) -> Mapping[int, End]:
        """Return what was answered last, of all partitions."""
        with self._lock:
            self._collect()
            return dict(self._ends)

    def look(self, every_s: float) -> None:
        """Ask for the topic itself, unless that was done within `every_s` seconds. Does not wait."""
        now = time.monotonic()
        with self._lock:
            self._collect()
            # That there is no such topic has to be said several times: soon, then.
            if self._closed or now - self._looked_at < (ASK_S if self._missing else every_s):
                return
            self._looked_at = now
            try:
                self._describe()
            except KafkaException as error:
                ErrorLog(f"looking at {self._where}")(error.args[0])

    def ask(self, partitions: Iterable[int], every_s: float = ASK_S, *, high: bool = False) -> None:
        """Ask for the ends of partitions, unless that was done within `every_s` seconds. Does not wait.

        `high`: also for those behind open transactions.
        """
        now = time.monotonic()
        with self._lock:
            self._collect()
            waiting = self._pending and now - self._asked_at < ANSWER_S
            if self._closed or waiting or now - (self._high_asked_at if high else self._asked_at) < every_s:
                return
            self._asked_at = now
            try:
                self._pending = self._asked(list(partitions), high)
                self._high_asked_at = now if high else self._high_asked_at
            except KafkaException as error:
                ErrorLog(f"asking where {self._where} ends")(error.args[0])

    def _admin(self) -> Any:
        if self._client is None:
            self._client, _ = admin_client(self._options)
        return self._client

    def _describe(self) -> None:
        from confluent_kafka import TopicCollection

        if self._described is None or self._described.done():
            self._described = self._admin().describe_topics(TopicCollection([self._topic]), request_timeout=ANSWER_S)[self._topic]

    def _asked(self, partitions: list[int], high: bool) -> list[tuple[int, Any, Any]]:
        from confluent_kafka import IsolationLevel
        from confluent_kafka.admin import OffsetSpec

        if self._failed:
            # The client takes a partition that had no leader once for one that has none, until it hears of the topic again.
            self._failed = False
            self._describe()
        told = []
        for level in (IsolationLevel.READ_COMMITTED, *([IsolationLevel.READ_UNCOMMITTED] if high else [])):
            wanted = {TopicPartition(self._topic, partition): OffsetSpec.latest() for partition in partitions}
            found = self._admin().list_offsets(wanted, isolation_level=level, request_timeout=ANSWER_S)
            told.append({at.partition: future for at, future in found.items()})
        return [(partition, told[0][partition], told[1][partition] if high else None) for partition in partitions]

    def _collect(self) -> None:
        """Take in what has been answered; not for each of many partitions whose end somebody wants to know."""
        now = time.monotonic()
        if (not self._pending and self._described is None) or now - self._collected_at < COLLECT_S:
            return
        self._collected_at = now
        left = []
        for partition, stable, high in self._pending:
            if not (stable.done() and (high is None or high.done())):
                left.append((partition, stable, high))
                continue
            try:
                end = int(stable.result().offset)
                if end < 0:  # so it is answered where the partition has no leader: that is no end
                    self._failed = True
                    continue
                known = self._ends.get(partition)
                highest = int(high.result().offset) if high is not None else end if known is None else known.high
                self._ends[partition] = End(self._asked_at, end, max(end, highest))
                self.answers += 1
            except KafkaException as error:
                self._failed = True
                log.debug("the end of %s, partition %d, is not known: %s", self._where, partition, error)
        self._pending = left
        if self._described is not None and self._described.done():
            described, self._described = self._described, None
            self._look_at(described)

    def _look_at(self, described: Any) -> None:
        try:
            told = described.result()
        except KafkaException as error:
            self._missing = self._missing + 1 if unknown_topic(error.args[0]) else 0
            if self._missing >= _GONE:
                self._lost = translated(error, f"reading {self._where}", Access((self._topic,), ("READ",)))
            return
        self._missing = 0
        if id_of(told) != self._id:
            self._lost = made_anew(self._topic)
        elif self._partitions is not None and len(told.partitions) > self._partitions:
            self._lost = ConnectorError(
                f"{self._where} has {len(told.partitions)} partitions now, and {self._partitions} are read",
                remedy="the job starts again from its last checkpoint, and reads the new ones from their beginning",
                recoverable=True,
            )

    def close(self) -> None:
        """Let the client go; what has not been answered is not waited for."""
        with self._lock:
            self._closed, self._client, self._pending = True, None, []


def made_anew(topic: str) -> ConnectorError:
    """Return the error for a position in a topic that was deleted, and another one of its name that is there now."""
    return ConnectorError(
        f"the topic {topic!r} is another one than the checkpoint has read: it was deleted and made anew since",
        remedy="start with another state directory, which reads the new topic from its beginning, or give the new topic another name",
    )


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
