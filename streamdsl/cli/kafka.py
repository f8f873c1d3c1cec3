"""What the command line asks of Kafka: which topics a topology names, and what a broker says of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from streamdsl.config import Config
from streamdsl.dsl.topology import Topology
from streamdsl.errors import ConfigError, ConnectorError

__all__ = ["KafkaEnd", "Topic", "admin", "brokers", "create", "metadata", "topics_of"]

_TIMEOUT_S = 10.0
#: What a client needs to connect; the rest of the options speaks to consumers and producers.
_CONNECTING = (
    "bootstrap.",
    "client.",
    "security.",
    "sasl.",
    "ssl.",
    "socket.",
    "broker.",
    "enable.ssl",
    "enable.sasl",
    "https.",
    "oauth_cb",
)


@runtime_checkable
class KafkaEnd(Protocol):
    """What `streamdsl.connectors.kafka` describes; looked at without importing it, so that a topology without Kafka needs no client."""

    topic: str
    broker: str | None
    partitions: int | None
    replication: int

    def client_options(self, config: Config) -> dict[str, Any]:
        """Return librdkafka's options, secrets revealed."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that a topology reads or writes."""

    name: str
    broker: str
    used_as: str
    partitions: int | None
    replication: int
    end: KafkaEnd


def topics_of(topology: Topology, config: Config) -> list[Topic]:
    """Return the topics of the topology's sources and sinks, dead letters included."""
    ends: list[tuple[str, object]] = [(f"source {name!r}", source) for name, source in topology.sources().items()]
    ends += [(f"sink {name!r}", sink) for name, sink in topology.sinks().items()]
    return [
        Topic(end.topic, _broker(end, config), used_as, end.partitions, end.replication, end)
        for used_as, end in ends
        if isinstance(end, KafkaEnd)
    ]


def _broker(end: KafkaEnd, config: Config) -> str:
    broker = end.broker or config.broker
    if broker is None:
        raise ConfigError(
            f"no broker for the topic {end.topic!r}", remedy="say --broker HOST:PORT, or broker= in the configuration or in kafka(...)"
        )
    return broker


def brokers(topics: Sequence[Topic]) -> dict[str, list[Topic]]:
    """Return the topics by their broker."""
    found: dict[str, list[Topic]] = {}
    for topic in topics:
        found.setdefault(topic.broker, []).append(topic)
    return found


def admin(options: Mapping[str, Any]) -> Any:
    """Return an admin client; what librdkafka has to say goes into the log."""
    try:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient
    except ImportError as error:
        raise ConfigError("the Kafka client is not installed", remedy="pip install 'streamdsl[kafka]'") from error
    try:
        chosen = {name: value for name, value in options.items() if name.startswith(_CONNECTING)}
        return AdminClient({**chosen, "logger": logging.getLogger("streamdsl.kafka")})
    except (KafkaException, ValueError, TypeError) as error:
        # The options are not repeated: one of them may be a password.
        raise ConfigError(f"the Kafka client refuses its options: {error}", remedy="see librdkafka's CONFIGURATION.md") from None


def metadata(client: Any, broker: str, timeout_s: float = _TIMEOUT_S) -> Any:
    """Return what the broker says of itself and its topics."""
    from confluent_kafka import KafkaException

    try:
        return client.list_topics(timeout=timeout_s)
    except KafkaException as error:
        raise ConnectorError(
            f"the broker {broker} does not answer: {_said(error)}",
            remedy="check that it runs, its address and the security settings: streamdsl doctor --broker HOST:PORT",
        ) from error


def create(client: Any, topic: Topic, partitions: int) -> bool:
    """Create a topic; return False if somebody has done so meanwhile."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    wanted = NewTopic(topic.name, num_partitions=partitions, replication_factor=topic.replication)
    try:
        client.create_topics([wanted], operation_timeout=_TIMEOUT_S, request_timeout=_TIMEOUT_S)[topic.name].result(2 * _TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise ConnectorError(
            f"the topic {topic.name!r} cannot be created on {topic.broker}: {_said(error)}",
            remedy="check the name, the replication and your rights there",
        ) from error
    return True


def _said(error: Any) -> str:
    """Return librdkafka's words."""
    return str(error.args[0].str())
