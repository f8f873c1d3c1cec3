"""How large a record may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from confluent_kafka.admin import ConfigResource, ResourceType

from streamdsl.connectors.kafka.clients import CALL_S, KafkaException, admin_client, log
from streamdsl.connectors.kafka.outbox import BATCH_OVERHEAD, Record

__all__ = ["Limits", "limits_of"]

#: What a client takes as one record unless told otherwise, as librdkafka does.
DEFAULT_MESSAGE_BYTES: Final = 1_000_000
#: By so much the client's compression may give more bytes than ours does.
_COMPRESSION_SLACK: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a record.

    Attributes
    ----------
    client : int
        Its ``message.max.bytes``.
    topic : int, optional
        Its ``max.message.bytes``, which is that of a batch as it is sent; None: it cannot be read.
    compression : str
        That of the client.
    """

    client: int
    topic: int | None = None
    compression: str = "none"

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
        return Limits(most, int(found["max.message.bytes"].value), compression)
    except (KafkaException, KeyError, TypeError, ValueError, TimeoutError) as error:
        log.debug("the limit of the topic %r cannot be read: %s", topic, error)
        return Limits(most)
