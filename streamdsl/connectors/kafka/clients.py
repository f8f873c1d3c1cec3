"""What every Kafka client here needs: patience with a broker that is away, and what it says told once."""

from __future__ import annotations

import logging
import re
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from streamdsl.connectors.kafka.confluent import Consumer, KafkaError, KafkaException, TopicPartition
from streamdsl.connectors.kafka.failures import SECURITY, UNKNOWN_TOPIC, away, translated
from streamdsl.connectors.kafka.rights import NOTHING, Access
from streamdsl.errors import ConnectorError, in_one_line

__all__ = [
    "CALL_S",
    "CLIENT_LOG",
    "ErrorLog",
    "LastError",
    "Waiting",
    "first_and_end",
    "made",
    "patiently",
    "short_of_memory",
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

_NO_ANSWER: Final = "check that its brokers run, their address and the security options; what was committed stays"
_NO_MEMORY: Final = (
    "this process has taken nearly all memory that it may (ulimit -v), and a client without memory hears no answers: "
    "allow it more; what was committed stays"
)


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
            if not away(cause) and not (exists and cause.code() in UNKNOWN_TOPIC):
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
        return self.error is not None and self.error.code() in SECURITY

    def __call__(self, error: KafkaError) -> None:
        """Take an error of the client."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN and not self.refused:
            self.error = KafkaError(error.code(), _TIMES.sub("", error.str()))


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
