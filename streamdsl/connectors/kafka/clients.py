"""What every Kafka client here needs: errors in our words, patience with a broker that is away, topics that exist."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from streamdsl.errors import ConnectorError

# The one place that imports the client, for the one who has not installed it.
try:
    from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
except ImportError as missing:  # pragma: no cover - seen by those who installed the library alone
    raise ConnectorError("kafka(...) needs the package confluent-kafka", remedy="pip install 'streamdsl[kafka]'") from missing

__all__ = [
    "CLIENT_LOG",
    "FENCED",
    "OFFSET_END",
    "Consumer",
    "ErrorLog",
    "KafkaError",
    "KafkaException",
    "Producer",
    "TopicPartition",
    "ensure_topic",
    "for_good",
    "partitions_of",
    "patiently",
    "translated",
]

log = logging.getLogger("streamdsl")
#: What librdkafka says of itself.
CLIENT_LOG: Final = logging.getLogger("streamdsl.kafka")

T = TypeVar("T")

#: How long a start waits for a broker that cannot be reached; a run that has been on waits without end (it starts again).
PATIENCE_S: Final = 60.0
#: How long one call may take, and how often it is said what is waited for.
CALL_S: Final = 5.0

_AWAY: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.NETWORK_EXCEPTION,
    }
)
#: Somebody else has the transactional id, or the cluster has taken this one for dead.
FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
_NOT_ALLOWED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
_UNKNOWN_TOPIC: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_SECURITY: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})


def away(error: KafkaError) -> bool:
    """Return whether the error passes when the cluster is well again."""
    return error.code() in _AWAY or bool(error.retriable())


def for_good(error: KafkaError) -> bool:
    """Return whether the cluster says the same to whoever tries again; a fenced worker that did would fence the other in turn."""
    return error.code() in FENCED | _NOT_ALLOWED | _SECURITY | _UNKNOWN_TOPIC | {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD}


def translated(error: Any, doing: str) -> ConnectorError:
    """Return the error for a `KafkaError` (or the exception that holds one); ``context["recoverable"]`` if it passes by itself."""
    found: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    code, said = found.code(), f"{doing}: {found.str()}"
    if code in FENCED:
        return ConnectorError(
            f"{doing}: another worker runs this job now, and this one has been fenced off",
            remedy="leave it: what the other has committed stays. One worker runs a job at a time",
        )
    if code in _NOT_ALLOWED:
        return ConnectorError(said, remedy="give this user the right on the cluster (ACL)")
    if code in _SECURITY:
        return ConnectorError(said, remedy="check the security options: security.protocol, sasl.*, ssl.*")
    if code in _UNKNOWN_TOPIC:
        return ConnectorError(said, remedy="create the topic (streamdsl -A ... topics --create), or mend its name")
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return ConnectorError(said, remedy="raise message.max.bytes here and max.message.bytes of the topic, or write smaller rows")
    if away(found) or found.txn_requires_abort():
        return ConnectorError(said, remedy="it is tried again when the cluster answers; what was committed stays", recoverable=True)
    return ConnectorError(said, remedy="see the cause above; what was committed stays")


def patiently(doing: str, call: Callable[[], T], patience: float = PATIENCE_S, *, exists: bool = False) -> T:
    """Return what `call` returns, trying again while the cluster is away; say so every few seconds.

    `exists`: the topic has just been seen, and a client or a broker that does not know it has not heard of it yet.

    Raises
    ------
    ConnectorError
        It is away for longer than `patience` seconds, or it is not a matter of patience.
    """
    began = said = time.monotonic()
    while True:
        try:
            return call()
        except KafkaException as error:
            now = time.monotonic()
            passes = away(error.args[0]) or (exists and error.args[0].code() in _UNKNOWN_TOPIC)
            if not passes or now - began > patience:
                raise translated(error, doing) from error
            if now - said > CALL_S or said == began:
                said = now
                log.warning("%s: the cluster does not answer yet (%s), trying again", doing, error.args[0].str())
            time.sleep(0.2)


class _Once(logging.Filter):
    """Lets a line of librdkafka pass once in a while: it says some of them many times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be logged; which client thread says it does not matter."""
        text, now = _CLIENT.sub("", record.getMessage()), time.monotonic()
        if _NOT_FOR_THIS.search(text):
            return False
        if now - self._said.get(text, float("-inf")) <= CALL_S:
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[text] = now
        return True


#: The client's name and thread, and how long it tried, in a line of librdkafka.
_CLIENT: Final = re.compile(r"\[[^\]]*\]|\(after [^)]*\)")
#: Options of a `Config` are for all clients; that one of them has no use for some is nothing to be warned of.
_NOT_FOR_THIS: Final = re.compile(r"is a (producer|consumer) property and will be ignored")
CLIENT_LOG.addFilter(_Once())


class ErrorLog:
    """Logs what a client says of its connections, once in a while: librdkafka says it many times a second."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said: dict[int, float] = {}

    def __call__(self, error: KafkaError) -> None:
        """Take an error of the client; those that matter come through its calls as well."""
        now = time.monotonic()
        if now - self._said.get(error.code(), float("-inf")) > CALL_S:
            self._said[error.code()] = now
            log.warning("%s: %s", self._what, error.str())


def partitions_of(options: Mapping[str, Any], topic: str) -> int:
    """Return how many partitions a topic has, 0 if there is no such topic."""
    client = AdminClient({**options, "logger": CLIENT_LOG})

    def look() -> int:
        found = client.list_topics(topic, timeout=CALL_S).topics[topic]
        if found.error is not None:
            if found.error.code() in _UNKNOWN_TOPIC:
                return 0
            raise KafkaException(found.error)
        return len(found.partitions)

    return patiently(f"looking for the topic {topic!r} at {options['bootstrap.servers']}", look)


def ensure_topic(options: Mapping[str, Any], topic: str, partitions: int | None, replication: int) -> int:
    """Return how many partitions a topic has; make it if it is missing and `partitions` are declared.

    Raises
    ------
    ConnectorError
        It does not exist and nobody said how many partitions it is to have, or it has another number.
    """
    found = partitions_of(options, topic)
    if found:
        if partitions is not None and partitions != found:
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
    client = AdminClient({**options, "logger": CLIENT_LOG})
    wanted = NewTopic(topic, num_partitions=partitions, replication_factor=replication, config=dict(settings or {}))
    asked = client.create_topics([wanted], request_timeout=30)

    def made() -> None:
        try:
            asked[topic].result(timeout=30)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise translated(error, f"creating the topic {topic!r}") from error

    made()
    log.info("created the topic %s with %d partitions", topic, partitions)
    until = time.monotonic() + 30
    while partitions_of(options, topic) != partitions and time.monotonic() < until:
        time.sleep(0.05)
