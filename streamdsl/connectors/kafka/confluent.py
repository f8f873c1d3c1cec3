"""The client library, imported in one place for the one who has not installed it."""

from __future__ import annotations

from streamdsl.errors import ConnectorError

try:
    from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError as missing:  # pragma: no cover - seen by those who installed the library alone
    raise ConnectorError("kafka(...) needs the package confluent-kafka", remedy="pip install 'streamdsl[kafka]'") from missing

__all__ = [
    "OFFSET_END",
    "AdminClient",
    "Consumer",
    "KafkaError",
    "KafkaException",
    "Message",
    "NewTopic",
    "Producer",
    "TopicPartition",
]
