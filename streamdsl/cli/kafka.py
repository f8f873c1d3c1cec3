"""What the command line asks of Kafka: which topics a topology names, and what a broker says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamdsl.config import Config
from streamdsl.connectors.kafka import Kafka
from streamdsl.connectors.kafka.rights import Right
from streamdsl.dsl.topology import Topology
from streamdsl.errors import ConnectorError

__all__ = ["Topic", "admin", "allowed", "brokers", "create", "metadata", "rights_of", "topics_of"]

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


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that a topology reads or writes. `options` are those of its clients: not for showing."""

    name: str
    broker: str
    used_as: str
    partitions: int | None
    replication: int
    options: Mapping[str, Any]
    rights: Sequence[Right] = ()


def topics_of(topology: Topology, config: Config) -> list[Topic]:
    """Return the topics of the topology's sources and sinks, dead letters included."""
    ends: list[tuple[str, object]] = [(f"source {name!r}", part) for name, source in topology.sources().items() for part in source.parts()]
    ends += [(f"sink {name!r}", sink) for name, sink in topology.sinks().items()]
    found = []
    for used_as, end in ends:
        if isinstance(end, Kafka):
            options = end.client_options(config)
            rights = _rights(end, topology.name, used_as.startswith("source"))
            found.append(Topic(end.topic, options["bootstrap.servers"], used_as, end.partitions, end.replication, options, rights))
    return found


def _rights(end: Kafka, job: str, reads: bool) -> tuple[Right, ...]:
    """Return what one source or sink of a job needs."""
    from streamdsl.connectors.kafka.markers import markers_topic

    create = ("CREATE",) if end.partitions is not None else ()
    if reads:
        return (Right("topic", end.topic, ("READ", *create)), Right("group", job, ("READ",), "shows lag tools how far the job is"))
    topic = Right("topic", end.topic, ("WRITE", *create), "and the topics that topic_from names" if end.topic_from else "")
    if not end.transactional:
        return (topic,)
    commits = markers_topic(job)
    return (
        topic,
        Right("transactional id", f"streamdsl.{job}", ("WRITE", "DESCRIBE")),
        Right("topic", commits, ("READ", "WRITE", "CREATE"), "the job's commits; CREATE for its first start"),
        Right("group", commits, ("READ",)),
    )


def brokers(topics: Sequence[Topic]) -> dict[str, list[Topic]]:
    """Return the topics by their broker."""
    found: dict[str, list[Topic]] = {}
    for topic in topics:
        found.setdefault(topic.broker, []).append(topic)
    return found


def admin(options: Mapping[str, Any]) -> Any:
    """Return an admin client, and what it says of its connections."""
    from streamdsl.connectors.kafka.admin import admin_client

    return admin_client({name: value for name, value in options.items() if name.startswith(_CONNECTING)})


def metadata(client: Any, broker: str, timeout_s: float = _TIMEOUT_S) -> Any:
    """Return what the broker says of itself and its topics."""
    from streamdsl.connectors.kafka.admin import list_topics
    from streamdsl.connectors.kafka.confluent import KafkaException
    from streamdsl.connectors.kafka.failures import for_good, translated

    try:
        asked, told = client
        return list_topics(asked, told, timeout_s=timeout_s)
    except KafkaException as error:
        if for_good(error.args[0]):
            raise translated(error, f"asking the broker {broker}") from error
        raise ConnectorError(
            f"the broker {broker} does not answer: {error.args[0].str()}",
            remedy="check that it runs, its address and the security settings",
        ) from error


def rights_of(topics: Sequence[Topic]) -> list[Right]:
    """Return what a job needs, each resource once."""
    found: dict[tuple[str, str], Right] = {}
    for right in (right for topic in topics for right in topic.rights):
        known = found.get((right.kind, right.name))
        operations = tuple(dict.fromkeys((*(known.operations if known else ()), *right.operations)))
        found[right.kind, right.name] = Right(right.kind, right.name, operations, known.why if known else right.why)
    return list(found.values())


def allowed(client: Any, topics: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return what this user may do with topics that exist, as far as the cluster tells."""
    from confluent_kafka import TopicCollection

    from streamdsl.connectors.kafka.confluent import KafkaException

    asked, _ = client
    found = {}
    told = asked.describe_topics(TopicCollection(list(topics)), include_authorized_operations=True, request_timeout=_TIMEOUT_S)
    for topic, future in told.items():
        try:
            operations = future.result(_TIMEOUT_S + 1).authorized_operations
        except KafkaException:
            continue  # it may not be described: the metadata have said so
        if operations:
            found[topic] = frozenset(operation.name for operation in operations)
    return found


def create(topic: Topic, partitions: int) -> None:
    """Create a topic and wait until the cluster knows it."""
    from streamdsl.connectors.kafka.admin import create_topic

    create_topic(topic.options, topic.name, partitions, topic.replication)
