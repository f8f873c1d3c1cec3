"""Kafka: topics read exactly, and written at least once or exactly once."""

from streamdsl.connectors.kafka.description import Kafka, kafka

__all__ = ["Kafka", "kafka"]
