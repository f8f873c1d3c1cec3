"""What every Kafka client here needs: errors in our words, patience with a broker that is away, topics that exist."""

from __future__ import annotations

import logging
import re
import resource
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from streamdsl.connectors.kafka.rights import NOTHING, Access
from streamdsl.errors import ConnectorError, in_one_line

# The one place that imports the client, for the one who has not installed it.
try:
    from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
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
    "Message",
    "Producer",
    "TopicPartition",
    "Waiting",
    "admin_client",
    "ensure_topic",
    "first_and_end",
    "for_good",
    "id_of",
    "list_topics",
    "made",
    "not_writable",
    "partitions_of",
    "patiently",
    "topic_id_of",
    "translated",
    "unknown_topic",
    "with_leaders",
]

log = logging.getLogger("streamdsl")
#: What librdkafka says of itself.
CLIENT_LOG: Final = logging.getLogger("streamdsl.kafka")

#: Of its address space: so much is nearly all.
NEARLY: Final = 0.9
T = TypeVar("T")

#: Options whose values may be told. Any other may hold a secret.
_SAYABLE: Final = frozenset(
    {
        *("acks", "bootstrap.servers", "client.id", "group.id", "transactional.id", "security.protocol", "sasl.mechanism"),
        *("sasl.mechanisms", "auto.offset.reset", "isolation.level", "compression.type", "compression.codec", "partitioner"),
    }
)
#: How long a start waits for a broker that cannot be reached; a run that has been on waits without end (it starts again).
PATIENCE_S: Final = 60.0
#: How long one call may take.
CALL_S: Final = 5.0
#: How long one of several calls in a row may take: between them a signal is heard.
SHORT_CALL_S: Final = 1.0
#: How often it is said again what is waited for.
SAY_S: Final = 30.0

_AWAY: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._WAIT_COORD,
        KafkaError._WAIT_CACHE,
        KafkaError._RESOLVE,
        # What a client calls its connection to a broker that is no longer where it was, or that it has let go.
        KafkaError._DESTROY,
        KafkaError._DESTROY_BROKER,
        KafkaError._FAIL,
        KafkaError._NODE_UPDATE,
        KafkaError._UNKNOWN_BROKER,
        KafkaError._OUTDATED,
        KafkaError._RETRY,
        KafkaError._ISR_INSUFF,
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
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.NOT_CONTROLLER,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
#: Somebody else has the transactional id, or the cluster has taken this one for dead.
FENCED: Final = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
#: What a right is missing on.
_NOT_ALLOWED: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
}
_PURGED: Final = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_UNKNOWN_TOPIC: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
_SECURITY: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
#: What the cluster has against a record, and would have against it again.
_REFUSED: Final = {
    KafkaError.MSG_SIZE_TOO_LARGE: "raise message.max.bytes here and max.message.bytes of the topic, or write smaller rows",
    KafkaError.RECORD_LIST_TOO_LARGE: "raise segment.bytes of the topic, or set a smaller batch.size in options=",
    KafkaError.INVALID_TIMESTAMP: 'give the records the time of writing, kafka(..., timestamps="arrival"), or mend '
    "message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic, or the clock of this machine or the broker",
    KafkaError.INVALID_RECORD: "a compacted topic takes no record without a key: say key=, or set cleanup.policy=delete of the topic, "
    "as for dead letters, which have none",
    KafkaError.INVALID_REQUIRED_ACKS: "take acks out of options=",
    KafkaError.UNSUPPORTED_COMPRESSION_TYPE: "choose another compression.type in options=",
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT: "raise message.format.version of the topic: headers and transactions need 2 at least",
    KafkaError.POLICY_VIOLATION: "the cluster has a rule of its own against it: ask who runs it",
}
_FOR_GOOD: Final = FENCED | _NOT_ALLOWED.keys() | _SECURITY | _UNKNOWN_TOPIC | _REFUSED.keys()


_NO_ANSWER: Final = "check that its brokers run, their address and the security options; what was committed stays"
_NO_MEMORY: Final = (
    "this process has taken nearly all memory that it may (ulimit -v), and a client without memory hears no answers: "
    "allow it more; what was committed stays"
)
_NO_RESOURCE: Final = (
    "the client got no memory or no thread from the system: raise the limits of this process (ulimit -v, ulimit -u, its cgroup); "
    "what was committed stays"
)
_TLS_REMEDY: Final = (
    "check ssl.ca.location (whose certificates are trusted), ssl.certificate.location and ssl.key.* (who we are), the host names in "
    "bootstrap.servers, and whether the port speaks TLS: security.protocol"
)
_SASL_REMEDY: Final = "check sasl.username and sasl.password (STREAMDSL_KAFKA__SASL_PASSWORD), sasl.mechanisms and security.protocol"


def away(error: KafkaError) -> bool:
    """Return whether the error passes when the cluster is well again."""
    return error.code() in _AWAY or bool(error.retriable())


def unknown_topic(error: KafkaError) -> bool:
    """Return whether the cluster says that it has no such topic."""
    return error.code() in _UNKNOWN_TOPIC


def for_good(error: KafkaError) -> bool:
    """Return whether the cluster says the same to whoever tries again; a fenced worker that did would fence the other in turn."""
    return error.code() in _FOR_GOOD


def translated(error: Any, doing: str, access: Access = NOTHING) -> ConnectorError:
    """Return the error for a `KafkaError` (or the exception that holds one); ``context["recoverable"]`` if it passes by itself.

    `access`: what was asked of the cluster, to be named where it is not allowed. ``context["lasting"]``: a second try fails the same way.
    """
    found: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    said = _translated(found, doing, access)
    if for_good(found):
        said.context["lasting"] = True
    return said


def _translated(found: KafkaError, doing: str, access: Access) -> ConnectorError:
    code, said = found.code(), f"{doing}: {found.str()}"
    if code in FENCED:
        return ConnectorError(
            f"{doing}: another worker runs this job now, and this one has been fenced off",
            remedy="leave it: what the other has committed stays. One worker runs a job at a time",
        )
    if code in _NOT_ALLOWED:
        missing = access.missing(_NOT_ALLOWED[code])
        return ConnectorError(
            said, remedy=f"give this user (ACL): {missing or 'the right that the cluster names'}; streamdsl doctor lists what a job needs"
        )
    if code == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        return ConnectorError(
            said,
            remedy="transaction.timeout.ms is above the brokers' transaction.max.timeout.ms: raise that, take checkpoints more often, "
            'or set options={"transaction.timeout.ms": ...} of the sink',
        )
    if code == KafkaError._CRIT_SYS_RESOURCE:
        return ConnectorError(said, remedy=_NO_RESOURCE)
    if code in _PURGED:
        transaction = access.missing("transactional id")
        return ConnectorError(
            f"{said}: the client has thrown away what it had not written",
            remedy="it is tried again from the last checkpoint. If it comes again, look whether this user may still write: "
            f"{access.missing('topic') or 'WRITE on the topic'}" + (f", and {transaction}" if transaction else ""),
            recoverable=True,
        )
    if code == KafkaError._SSL:
        return ConnectorError(said, remedy=_TLS_REMEDY)
    if code in _SECURITY:
        return ConnectorError(said, remedy=_SASL_REMEDY)
    if code in _UNKNOWN_TOPIC:
        return ConnectorError(said, remedy="create the topic (streamdsl -A ... topics --create), or mend its name")
    if code in _REFUSED:
        return ConnectorError(said, remedy=_REFUSED[code])
    if away(found) or found.txn_requires_abort():
        return ConnectorError(said, remedy="it is tried again when the cluster answers; what was committed stays", recoverable=True)
    return ConnectorError(said, remedy="see the cause above; what was committed stays")


def short_of_memory() -> bool:
    """Whether the address space of this process is nearly used up: the client's threads and connections fail then, without a word."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm.exists():
        return False
    return int(statm.read_text().split()[0]) * resource.getpagesize() > NEARLY * limit


def patiently(doing: str, call: Callable[[], T], patience: float = PATIENCE_S, *, exists: bool = False, access: Access = NOTHING) -> T:
    """Return what `call` returns, trying again while the cluster is away; say so every few seconds.

    `exists`: the topic has just been seen, and a client or a broker that does not know it has not heard of it yet.

    Raises
    ------
    ConnectorError
        It is away for longer than `patience` seconds, or it is not a matter of patience.
    """
    waiting = Waiting(doing)
    while True:
        try:
            found = call()
        except KafkaException as error:
            cause = error.args[0]
            if not away(cause) and not (exists and cause.code() in _UNKNOWN_TOPIC):
                raise translated(cause, doing, access) from error
            if waiting.seconds > patience:
                raise ConnectorError(
                    f"{doing}: the cluster has not answered for {waiting.seconds:.0f} s ({cause.str()})",
                    remedy=_NO_MEMORY if short_of_memory() else _NO_ANSWER,
                    recoverable=True,
                ) from error
            waiting.say(cause.str())
            time.sleep(0.2)
        else:
            waiting.over()
            return found


def with_leaders(client: Any, at: TopicPartition, call: Callable[[], T]) -> Callable[[], T]:
    """Return `call`, for `patiently`: from the second time on the client first asks the cluster who leads the partition.

    A client that was told once that nobody leads it takes that for final, and goes on saying so from memory.
    """
    tried = False

    def ask() -> T:
        nonlocal tried
        if tried:
            told = client.list_topics(at.topic, timeout=SHORT_CALL_S).topics[at.topic]
            partition = told.partitions.get(at.partition)
            if told.error is not None:
                raise KafkaException(told.error)
            if partition is not None and partition.leader < 0:
                raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
        tried = True
        return call()

    return ask


def first_and_end(consumer: Consumer, at: TopicPartition, doing: str, access: Access, patience: float = PATIENCE_S) -> tuple[int, int]:
    """Return the first offset that a partition keeps, and the one behind the last. The topic is there.

    Raises
    ------
    ConnectorError
        As `patiently`.
    """
    look = with_leaders(consumer, at, lambda: consumer.get_watermark_offsets(at, timeout=CALL_S))
    found: tuple[int, int] = patiently(doing, look, patience, exists=True, access=access)
    return found


class Waiting:
    """Says what is waited for, at once or after a while, then every half a minute, and when it is over."""

    def __init__(self, doing: str, who: str = "the cluster", silent_s: float = 0.0) -> None:
        self._doing, self._who = doing, who
        self._began = time.monotonic()
        self._next = self._began + silent_s
        self._said = False

    @property
    def seconds(self) -> float:
        """How long already."""
        return time.monotonic() - self._began

    def say(self, why: str) -> None:
        """Say that it is being waited, if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._next, self._said = now + SAY_S, True
            log.warning("%s: %s does not answer yet (%s), trying again", self._doing, self._who, in_one_line(why))

    def over(self) -> None:
        """Say that it has answered, to whoever has been told that it did not."""
        if self._said:
            log.warning("%s: %s has answered, after %.0f s", self._doing, self._who, self.seconds)
            self._said = False
        self._began = self._next = time.monotonic()


class _Quiet(logging.Filter):
    """Keeps librdkafka to itself unless somebody looks for a fault (level DEBUG): what matters of it comes as errors, and is told once."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be logged."""
        # What it says of options is told nowhere else. Those of a `Config` are for all clients; that one has no use for some is no news.
        told = record.getMessage().startswith("CONFWARN") and not _NOT_FOR_THIS.search(record.getMessage())
        return told or CLIENT_LOG.isEnabledFor(logging.DEBUG)


_NOT_FOR_THIS: Final = re.compile(r"is a (producer|consumer) property and will be ignored")
CLIENT_LOG.addFilter(_Quiet())


@dataclass(slots=True)
class _Trouble:
    """Something that is the matter with a broker: since when, when it was heard of last, and when it was said."""

    since: float
    heard: float
    said: float


class ErrorLog:
    """Logs what a client says of its connections: what is the matter with a broker once, and then every half a minute while it lasts.

    All clients of the process lose a broker at the same time, and are one voice here.
    """

    _troubles: ClassVar[dict[tuple[int, str], _Trouble]] = {}

    def __init__(self, what: str) -> None:
        self._what = what

    def __call__(self, error: KafkaError) -> None:
        """Take an error of the client; those that matter come through its calls as well."""
        code, text, now = error.code(), in_one_line(_TIMES.sub("", error.str())), time.monotonic()
        if code == KafkaError._ALL_BROKERS_DOWN:
            return  # each of them has said so for itself
        found = _ADDRESS.search(text)
        key = (code, found[0] if found else text)
        trouble = self._troubles.get(key)
        if trouble is None or now - trouble.heard > CALL_S:
            if len(self._troubles) > 1000:
                self._troubles.clear()
            trouble = self._troubles[key] = _Trouble(now, now, float("-inf"))
        trouble.heard = now
        if now - trouble.said < SAY_S:
            return
        trouble.said = now
        lasting = f", for {now - trouble.since:.0f} s" if now > trouble.since else ""
        if found and code == KafkaError._TRANSPORT:
            log.warning("%s: the broker %s cannot be reached (%s)%s; it is tried again", self._what, found[0], _reason(text), lasting)
        else:
            log.warning("%s: %s%s", self._what, text, lasting)


#: The address of a broker, and how long the client tried, in what it says.
_ADDRESS: Final = re.compile(r"[\w.-]+:\d+|\[[0-9a-fA-F:]+\]:\d+")
_TIMES: Final = re.compile(r" ?\(after [^)]*\)")


def _reason(text: str) -> str:
    """Return what follows the names of the client's thread and the broker."""
    return text.rpartition(": ")[2]


class LastError:
    """Keeps what a client says of its connections for whoever calls it: the calls themselves only know that nobody answers."""

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    @property
    def refused(self) -> bool:
        """Whether it is what the cluster has against us, or we against it."""
        return self.error is not None and self.error.code() in _SECURITY

    def __call__(self, error: KafkaError) -> None:
        """Take an error of the client."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN and not self.refused:
            self.error = KafkaError(error.code(), _TIMES.sub("", error.str()))


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


def made(kind: Callable[[dict[str, Any]], T], options: dict[str, Any], doing: str) -> T:
    """Return a client of that kind.

    Raises
    ------
    ConnectorError
        It does not take an option.
    """
    try:
        return kind(options)
    except (KafkaException, TypeError, ValueError) as error:
        cause = error.args[0] if error.args else error
        said = cause.str() if isinstance(cause, KafkaError) else str(cause)
        raise ConnectorError(
            f"{doing}: the client does not take an option: {_without_secrets(said.strip(), options)}",
            remedy="mend options= of this source or sink, or the options for Kafka in the Config or the environment",
        ) from None


def _without_secrets(said: str, options: Mapping[str, Any]) -> str:
    """Return what the client says, without values that nobody else may know: it repeats some of what it does not take."""
    for name, value in options.items():
        if isinstance(value, str) and value and name not in _SAYABLE and not name.endswith(".location"):
            said = said.replace(value, "…")
    return said


def partitions_of(options: Mapping[str, Any], topic: str) -> int:
    """Return how many partitions a topic has, 0 if there is no such topic."""
    client, told = admin_client(options)

    def look() -> int:
        found = list_topics(client, told, topic).topics[topic]
        if found.error is not None:
            if found.error.code() in _UNKNOWN_TOPIC:
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
