"""What the errors of a client mean: which pass by themselves, which are for good, and what to do about them."""

from __future__ import annotations

from typing import Any, Final

from streamdsl.connectors.kafka.confluent import KafkaError, KafkaException
from streamdsl.connectors.kafka.rights import NOTHING, Access
from streamdsl.errors import ConnectorError

__all__ = ["FENCED", "SECURITY", "UNKNOWN_TOPIC", "away", "for_good", "translated", "unknown_topic"]

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
UNKNOWN_TOPIC: Final = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
SECURITY: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
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
_FOR_GOOD: Final = FENCED | _NOT_ALLOWED.keys() | SECURITY | UNKNOWN_TOPIC | _REFUSED.keys()

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
    return error.code() in UNKNOWN_TOPIC


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
    if code in SECURITY:
        return ConnectorError(said, remedy=_SASL_REMEDY)
    if code in UNKNOWN_TOPIC:
        return ConnectorError(said, remedy="create the topic (streamdsl -A ... topics --create), or mend its name")
    if code in _REFUSED:
        return ConnectorError(said, remedy=_REFUSED[code])
    if away(found) or found.txn_requires_abort():
        return ConnectorError(said, remedy="it is tried again when the cluster answers; what was committed stays", recoverable=True)
    return ConnectorError(said, remedy="see the cause above; what was committed stays")
