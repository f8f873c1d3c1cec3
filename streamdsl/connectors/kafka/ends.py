"""Where partitions end, asked of the cluster without waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamdsl.connectors.kafka.clients import (
    ErrorLog,
    KafkaError,
    KafkaException,
    TopicPartition,
    admin_client,
    log,
    translated,
    unknown_topic,
)

__all__ = ["End", "Ends"]

#: How often the cluster is asked at most, and how long an answer may take.
ASK_S: Final = 1.0
ANSWER_S: Final = 5.0
#: A cluster that says so often in a row that there is no such topic has not just forgotten it.
_GONE: Final = 3


@dataclass(frozen=True, slots=True)
class End:
    """The end of a partition: offsets behind the last record that is committed, and behind the last one at all."""

    asked_at: float
    stable: int
    high: int


class Ends:
    """Asks for the ends of partitions with a client of its own, which is made when somebody asks first. From any thread."""

    def __init__(self, options: Mapping[str, Any], topic: str, where: str) -> None:
        self._options, self._topic, self._where = options, topic, where
        self._lock = threading.Lock()
        self._client: Any = None
        self._asked_at = float("-inf")
        self._pending: list[tuple[int, Any, Any]] = []  # partition, and what will tell its two ends
        self._ends: dict[int, End] = {}
        self._missing = 0  # answers in a row that there is no such topic
        self._missed: KafkaError | None = None
        self._counted_at = self._asked_at
        self._closed = False

    def of(self, partition: int) -> End | None:
        """Return what was answered last for a partition."""
        with self._lock:
            self._collect()
            return self._ends.get(partition)

    def check(self) -> None:
        """Raise if the topic has been deleted.

        Raises
        ------
        ConnectorError
            The cluster has said so several times.
        """
        if self._missing >= _GONE and self._missed is not None:
            raise translated(self._missed, f"reading {self._where}")

    def ask(self, partitions: Iterable[int], every_s: float = ASK_S) -> None:
        """Ask for the ends of partitions, unless that was done within `every_s` seconds. Does not wait."""
        now = time.monotonic()
        with self._lock:
            self._collect()
            waiting = self._pending and now - self._asked_at < ANSWER_S
            if self._closed or waiting or now - self._asked_at < every_s:
                return
            self._asked_at = now
            try:
                self._pending = self._asked(list(partitions))
            except KafkaException as error:
                ErrorLog(f"asking where {self._where} ends")(error.args[0])

    def _asked(self, partitions: list[int]) -> list[tuple[int, Any, Any]]:
        from confluent_kafka import IsolationLevel
        from confluent_kafka.admin import OffsetSpec

        if self._client is None:
            self._client, _ = admin_client(self._options)
        told = []
        for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
            wanted = {TopicPartition(self._topic, partition): OffsetSpec.latest() for partition in partitions}
            found = self._client.list_offsets(wanted, isolation_level=level, request_timeout=ANSWER_S)
            told.append({at.partition: future for at, future in found.items()})
        return [(partition, told[0][partition], told[1][partition]) for partition in partitions]

    def _collect(self) -> None:
        left = []
        for partition, stable, high in self._pending:
            if not (stable.done() and high.done()):
                left.append((partition, stable, high))
                continue
            try:
                self._ends[partition] = End(self._asked_at, int(stable.result().offset), int(high.result().offset))
                self._missing = 0
            except KafkaException as error:
                if unknown_topic(error.args[0]) and self._counted_at != self._asked_at:
                    self._missed, self._counted_at = error.args[0], self._asked_at
                    self._missing += 1
                log.debug("the end of %s, partition %d, is not known: %s", self._where, partition, error)
        self._pending = left

    def close(self) -> None:
        """Let the client go; what has not been answered is not waited for."""
        with self._lock:
            self._closed, self._client, self._pending = True, None, []
