"""What a topic takes: how large a record may be, how old, and whether it needs a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from confluent_kafka.admin import ConfigResource, ResourceType

from streamdsl._native.serdes.messages import within
from streamdsl.connectors.kafka.admin import admin_client
from streamdsl.connectors.kafka.clients import CALL_S, log
from streamdsl.connectors.kafka.confluent import KafkaException
from streamdsl.connectors.kafka.outbox import BATCH_OVERHEAD, Record

__all__ = ["Limits", "limits_of"]

#: What a client takes as one record unless told otherwise, as librdkafka does.
DEFAULT_MESSAGE_BYTES: Final = 1_000_000
#: By so much the client's compression may give more bytes than ours does.
_COMPRESSION_SLACK: Final = 64
#: More than stands around the key and the value of a record without headers, in a batch that holds nothing else.
_AROUND: Final = 128
#: How long a record may be on its way.
_ON_ITS_WAY_MS: Final = 60_000
#: What a topic says that takes records of any age.
_ANY_MS: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a record may be.

    Attributes
    ----------
    client : int
        Its ``message.max.bytes``.
    topic : int, optional
        Its ``max.message.bytes``, which is that of a batch as it is sent; None: it cannot be read.
    compression : str
        That of the client.
    oldest_ms : int, optional
        How far the time of a record may lie back (``message.timestamp.before.max.ms``); None: any, or it cannot be read.
    compacted : bool
        Whether each record needs a key.
    """

    client: int
    topic: int | None = None
    compression: str = "none"
    oldest_ms: int | None = None
    compacted: bool = False

    def surely_take(self, keys: list[bytes | None] | None, values: list[bytes | None], *, dated: bool) -> bool:
        """Whether `why_not` is None, at a glance, for all records of these keys and values without headers; `dated`: they have times."""
        most = ((self.client if self.topic is None else min(self.client, self.topic)) - _AROUND) // 2
        if (dated and self.oldest_ms is not None) or not within(values, most):
            return False
        return not self.compacted if keys is None else within(keys, most)

    def why_not(self, record: Record, now_ms: int) -> tuple[str, str] | None:
        """Return why the topic would refuse a record, and what to do; None if it takes it."""
        over = self.over(record)
        if over is not None:
            return (
                f"its record takes {over[0]} bytes, {over[1]} are allowed",
                "write smaller rows, or raise message.max.bytes here and max.message.bytes of the topic",
            )
        if self.compacted and record.key is None:
            return (
                "the topic is compacted, and the record has no key",
                "say key=, of columns that are never null; dead letters have no key: their topic needs cleanup.policy=delete",
            )
        back_ms = now_ms - record.timestamp
        # What is nearly too old might be so when it gets there.
        if self.oldest_ms is not None and record.timestamp and back_ms > self.oldest_ms - min(self.oldest_ms // 10, _ON_ITS_WAY_MS):
            return (
                f"its event time lies {back_ms / 1000:,.0f} s back, the topic takes {self.oldest_ms / 1000:,.0f} s",
                'give the records the time of writing, kafka(..., timestamps="arrival"), or raise '
                "message.timestamp.before.max.ms of the topic",
            )
        return None

    def over(self, record: Record) -> tuple[int, int] | None:
        """Return how many bytes a record has and how many are allowed, if it has too many."""
        if record.wire_size > self.client:
            return record.wire_size, self.client
        if self.topic is None or record.batch_size <= self.topic:
            return None
        size = record.batch_size if self.compression == "none" else self._compressed(record)
        return (size, self.topic) if size > self.topic else None

    def _compressed(self, record: Record) -> int:
        headers = b"".join(name.encode() + (value or b"") for name, value in record.headers or ())
        sent = pa.compress((record.key or b"") + (record.value or b"") + headers, codec=self.compression, asbytes=True)
        return min(record.batch_size, BATCH_OVERHEAD + len(sent) + _COMPRESSION_SLACK)


def limits_of(options: Mapping[str, Any], topic: str) -> Limits:
    """Return how many bytes a record of a topic may have: what the client takes, and what the topic does if that can be read."""
    most = int(options.get("message.max.bytes", DEFAULT_MESSAGE_BYTES))
    compression = str(options.get("compression.type", options.get("compression.codec", "none")))
    client, _ = admin_client(options)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        found = client.describe_configs([resource], request_timeout=CALL_S)[resource].result(CALL_S + 1)
        compacted = "cleanup.policy" in found and "compact" in str(found["cleanup.policy"].value)
        return Limits(most, int(found["max.message.bytes"].value), compression, _oldest_of(found), compacted)
    except (KafkaException, KeyError, TypeError, ValueError, TimeoutError) as error:
        log.debug("the limit of the topic %r cannot be read: %s", topic, error)
        return Limits(most)


def _oldest_of(found: Mapping[str, Any]) -> int | None:
    if "message.timestamp.type" in found and found["message.timestamp.type"].value == "LogAppendTime":
        return None  # the broker gives records its own time
    # The second name is that of brokers before Kafka 3.6.
    known = [int(found[name].value) for name in ("message.timestamp.before.max.ms", "message.timestamp.difference.max.ms") if name in found]
    least = min(known, default=_ANY_MS)
    return None if least == _ANY_MS else least
