"""Writes rows as records: at once, or within the job's transaction."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any, Final

import pyarrow as pa

from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.kafka.clients import ErrorLog, made
from streamdsl.connectors.kafka.confluent import KafkaException, Producer
from streamdsl.connectors.kafka.failures import translated
from streamdsl.connectors.kafka.layout import Layout
from streamdsl.connectors.kafka.outbox import Deliveries, Outbox, Presence, named_topic_lost, producer_options
from streamdsl.connectors.kafka.rights import Access
from streamdsl.connectors.kafka.transaction import KafkaTransaction
from streamdsl.errors import ConnectorError

__all__ = ["AtLeastOnceWriter", "TransactionalWriter"]

#: Bytes that a writer holds back (behind a barrier, or while the client's own queue is full) before its task is to wait.
OUTBOX_BYTES: Final = 32 << 20
#: How long a snapshot waits for the cluster to take what was written.
FLUSH_S: Final = 30.0


class OutboxWriter(SinkWriter):
    """What the writers share: rows become records, which wait in the outbox for as long as they must."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._outbox = Outbox()

    @abstractmethod
    def _hand_over(self) -> bool:
        """Give the client what it may have now; return whether nothing waits any more."""

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Take rows."""
        self._outbox.add(self._layout.records(rows, timestamps))
        self._hand_over()

    def has_room(self) -> bool:
        """Return whether not too much waits."""
        return self._outbox.bytes < OUTBOX_BYTES or self._hand_over() or self._outbox.bytes < OUTBOX_BYTES

    def flush(self) -> None:
        """Hand over what still waits; the client sends it by itself."""
        if self._outbox:
            self._hand_over()


class AtLeastOnceWriter(OutboxWriter):
    """Writes at once. A checkpoint waits until the cluster has taken everything."""

    def __init__(self, topic: str, options: dict[str, Any], layout: Layout) -> None:
        self._doing = f"writing to the topic {topic!r} at {options['bootstrap.servers']}"
        super().__init__(layout)
        self._topic = topic
        self._written: set[str] = set()  # topics of records that the cluster may not have taken yet
        self._access = Access((topic,), ("WRITE",))
        self._deliveries = Deliveries(self._access, [topic])
        given = {"on_delivery": self._deliveries, "error_cb": ErrorLog(self._doing)}
        self._producer = made(Producer, {**producer_options(options, [layout.limits.topic, layout.largest_batch]), **given}, self._doing)

    def _hand_over(self) -> bool:
        try:
            self._written |= self._outbox.topics
            everything = self._outbox.empty_into(self._producer)
            if everything:
                self._outbox.topics.clear()
            self._producer.poll(0)
        except KafkaException as error:
            # A client that knows already that a topic cannot be written refuses its records at once.
            topic = self._outbox.next_topic
            lost = None if topic in (None, self._topic) else named_topic_lost(self._doing, topic, error.args[0])
            raise lost or translated(error, self._doing, self._access) from error
        self._deliveries.check(self._doing)
        return everything

    def snapshot(self, checkpoint_id: int) -> Json:
        """Wait until the cluster has taken everything."""
        until = time.monotonic() + FLUSH_S
        while not self._hand_over():
            self._producer.poll(0.1)
            self._check_time(until)
        topics = Presence([self._topic], self._written)
        while self._producer.flush(0.5):
            self._deliveries.check(self._doing)
            self._check_time(until)
            try:
                topics.check(self._producer)
            except KafkaException as error:
                failed = translated(error, self._doing, self._access)
                failed.context["lasting"] = True  # the next checkpoint would fail too
                raise failed from error
        self._deliveries.check(self._doing)
        self._written.clear()
        return {"delivery": "at_least_once"}

    def _check_time(self, until: float) -> None:
        if time.monotonic() > until:
            raise ConnectorError(f"{self._doing}: the cluster has not taken everything within {FLUSH_S:.0f} s", remedy="it is tried again")

    def close(self) -> None:
        """Send what is left, for a moment: no checkpoint counts on it."""
        try:
            self._outbox.empty_into(self._producer)
            self._producer.flush(1.0)
        except KafkaException:
            pass  # rows behind the last checkpoint: they come again
        self._producer.purge()


class TransactionalWriter(OutboxWriter):
    """Writes within the job's transaction; rows behind a barrier wait until its checkpoint is settled."""

    def __init__(self, transaction: KafkaTransaction, layout: Layout) -> None:
        super().__init__(layout)
        self._transaction = transaction
        self._behind = 0  # the checkpoint whose barrier has passed and that is not settled; 0: none

    def _hand_over(self) -> bool:
        if self._behind:
            if not self._transaction.settled(self._behind):
                return False
            self._behind = 0
        return self._transaction.take(self._outbox)

    def snapshot(self, checkpoint_id: int) -> Json:
        """Put everything so far into the transaction; what comes now belongs to the next."""
        until = time.monotonic() + FLUSH_S
        while not self._hand_over():
            if time.monotonic() > until:
                raise ConnectorError("the client has not taken everything that was written", remedy="it is tried again")
            time.sleep(0.01)
        self._behind = checkpoint_id
        return {"delivery": "exactly_once"}

    def commit(self, checkpoint_id: int) -> None:
        """The checkpoint is committed: what was held back goes on."""
        self._hand_over()

    def close(self) -> None:
        """Let go; what is not committed is never seen."""
        self._outbox = Outbox()
