"""What the cluster is asked of topics: whether they are there, with how many partitions, and to make them."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from streamdsl.connectors.kafka.clients import CALL_S, CLIENT_LOG, LastError, made, patiently
from streamdsl.connectors.kafka.confluent import AdminClient, KafkaError, KafkaException, NewTopic
from streamdsl.connectors.kafka.failures import UNKNOWN_TOPIC, away, translated
from streamdsl.connectors.kafka.rights import Access
from streamdsl.errors import ConnectorError

__all__ = ["admin_client", "create_topic", "ensure_topic", "id_of", "list_topics", "not_writable", "partitions_of", "topic_id_of"]

log = logging.getLogger("streamdsl")


def list_topics(client: AdminClient, told: LastError, topic: str | None = None, timeout_s: float = CALL_S) -> Any:
    """Return what the cluster says of its topics, or of one.

    Raises
    ------
    KafkaException
        It does not answer, for the reason that the client has `told`, or it has refused us, which is not waited for.
    """
    until = time.monotonic() + timeout_s
    while True:
        try:
            return client.list_topics(topic, timeout=max(0.1, min(1.0, until - time.monotonic())))
        except KafkaException as error:
            client.poll(0)
            if not away(error.args[0]):
                raise
            if told.refused or time.monotonic() >= until:
                raise KafkaException(told.error or error.args[0]) from error


def admin_client(options: Mapping[str, Any]) -> tuple[AdminClient, LastError]:
    """Return an admin client and what it says of its connections."""
    told = LastError()
    return made(
        AdminClient, {**options, "logger": CLIENT_LOG, "error_cb": told}, f"asking the cluster at {options['bootstrap.servers']}"
    ), told


def partitions_of(options: Mapping[str, Any], topic: str) -> int:
    """Return how many partitions a topic has, 0 if there is no such topic."""
    client, told = admin_client(options)

    def look() -> int:
        found = list_topics(client, told, topic).topics[topic]
        if found.error is not None:
            if found.error.code() in UNKNOWN_TOPIC:
                return 0
            raise KafkaException(found.error)
        return len(found.partitions)

    access = Access((topic,), ("DESCRIBE",))
    return patiently(f"looking for the topic {topic!r} at {options['bootstrap.servers']}", look, access=access)


def not_writable(options: Mapping[str, Any], topics: Collection[str]) -> list[str]:
    """Return those of the topics that this user may not write, as far as the cluster tells: it does not say which it has refused."""
    from confluent_kafka import TopicCollection
    from confluent_kafka.admin import AclOperation

    client, _ = admin_client(options)
    asked = client.describe_topics(TopicCollection(sorted(topics)), include_authorized_operations=True, request_timeout=CALL_S)
    found = []
    for topic, future in asked.items():
        try:
            operations = future.result(CALL_S + 1).authorized_operations
            refused = bool(operations) and not {AclOperation.WRITE, AclOperation.ALL} & set(operations)
        except KafkaException as error:
            refused = error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
        if refused:
            found.append(topic)
    return found


def id_of(described: Any) -> str | None:
    """Return the id of a topic that the cluster has described; None if it gives none."""
    bits = (described.topic_id.get_most_significant_bits(), described.topic_id.get_least_significant_bits())
    return None if bits == (0, 0) else "".join(f"{part & (2**64 - 1):016x}" for part in bits)


def topic_id_of(options: Mapping[str, Any], topic: str) -> str | None:
    """Return the id that the cluster gave a topic when it was made; None if the cluster gives none (before Kafka 2.8).

    Raises
    ------
    ConnectorError
        There is no such topic, or the cluster does not answer.
    """
    from confluent_kafka import TopicCollection

    client, _ = admin_client(options)

    def look() -> str | None:
        return id_of(client.describe_topics(TopicCollection([topic]), request_timeout=CALL_S)[topic].result(CALL_S + 1))

    access = Access((topic,), ("DESCRIBE",))
    return patiently(f"looking for the topic {topic!r} at {options['bootstrap.servers']}", look, exists=True, access=access)


def ensure_topic(options: Mapping[str, Any], topic: str, partitions: int | None, replication: int) -> int:
    """Return how many partitions a topic has; make it if it is missing and `partitions` are declared. It may have got more since.

    Raises
    ------
    ConnectorError
        It does not exist and nobody said how many partitions it is to have, or it has fewer.
    """
    found = partitions_of(options, topic)
    if found:
        if partitions is not None and partitions < found:
            log.warning("the topic %r has %d partitions, %d are declared: it has grown since it was made", topic, found, partitions)
        if partitions is not None and partitions > found:
            raise ConnectorError(
                f"the topic {topic!r} has {found} partitions, kafka(partitions={partitions}) is declared",
                remedy="declare what it has, or leave partitions= out",
            )
        return found
    if partitions is None:
        raise ConnectorError(
            f"the topic {topic!r} does not exist at {options['bootstrap.servers']}",
            remedy=f"create it, or say how many partitions it is to have: kafka({topic!r}, partitions=...)",
        )
    create_topic(options, topic, partitions, replication)
    return partitions


def create_topic(
    options: Mapping[str, Any], topic: str, partitions: int, replication: int, settings: Mapping[str, str] | None = None
) -> None:
    """Make a topic and wait until the cluster knows it; one that somebody else has just made is as good."""
    client, _ = admin_client(options)
    wanted = NewTopic(topic, num_partitions=partitions, replication_factor=replication, config=dict(settings or {}))
    asked = client.create_topics([wanted], request_timeout=30)

    def made() -> None:
        try:
            asked[topic].result(timeout=30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise translated(error, f"creating the topic {topic!r}", Access((topic,), ("CREATE",))) from error

    made()
    log.info("created the topic %s with %d partitions", topic, partitions)
    until = time.monotonic() + 30
    while partitions_of(options, topic) != partitions and time.monotonic() < until:
        time.sleep(0.05)
