"""Secrets that nothing shows, and what of a Kafka client's options may be shown."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

__all__ = ["HIDDEN", "Secret", "names_secret", "redacted", "wrapped"]

#: What stands in the place of a secret.
HIDDEN: Final = "***"

#: Options of librdkafka that cannot hold a secret. What is not named here is not shown: a JAAS string, a URL or a
#: command may have a password inside, and tomorrow's option is not known today.
_SHOWN: Final = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "batch.num.messages",
        "batch.size",
        "bootstrap.servers",
        "broker.address.family",
        "check.crcs",
        "client.id",
        "client.rack",
        "compression.codec",
        "compression.level",
        "compression.type",
        "debug",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "enable.ssl.certificate.verification",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.wait.max.ms",
        "group.id",
        "group.protocol",
        "heartbeat.interval.ms",
        "isolation.level",
        "linger.ms",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "max.partition.fetch.bytes",
        "message.max.bytes",
        "message.timeout.ms",
        "metadata.max.age.ms",
        "partitioner",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        "receive.message.max.bytes",
        "reconnect.backoff.max.ms",
        "reconnect.backoff.ms",
        "request.required.acks",
        "request.timeout.ms",
        "retries",
        "retry.backoff.max.ms",
        "retry.backoff.ms",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.oauthbearer.method",
        "security.protocol",
        "session.timeout.ms",
        "socket.connection.setup.timeout.ms",
        "socket.keepalive.enable",
        "socket.timeout.ms",
        "ssl.endpoint.identification.algorithm",
        "statistics.interval.ms",
        "transaction.timeout.ms",
        "transactional.id",
    }
)

#: Names of options that are secrets, those of Kafka's Java clients and of schema registries among them.
_SECRET = re.compile(
    r"passw|passphrase|secret|credential|token(?!\.endpoint)|jaas|private|user\.?info|key\.pem|sasl\.oauthbearer\.config", re.I
)


class Secret:
    """A text that is not shown: only `reveal` gives it.

    Its repr, its str, its format, a copy of it, and a traceback with local variables show ``***``; JSON and pickle refuse it.

    Parameters
    ----------
    value : str

    Examples
    --------
    >>> password = Secret("hunter2")
    >>> password, f"{password}"
    (Secret(***), '***')
    >>> password.reveal()
    'hunter2'
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a secret is a str, not {type(value).__name__}")
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """Return the text, for the one who has to use it.

        Examples
        --------
        >>> password = Secret("hunter2")
        >>> print(password, password.reveal())
        *** hunter2
        """
        return self._value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode("utf-8", "surrogatepass"), other._value.encode("utf-8", "surrogatepass"))

    #: A hash would let guesses be tried.
    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a secret does not change")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled")


def names_secret(option: str) -> bool:
    """Return whether an option of that name holds a secret."""
    return _SECRET.search(option) is not None


def wrapped(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with every text that is a secret by its name as a `Secret`."""
    return {name: Secret(value) if isinstance(value, str) and names_secret(name) else value for name, value in options.items()}


def redacted(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a Kafka client for people to see: what is not known to be harmless shows as ``***``."""
    return {name: value if name in _SHOWN and not isinstance(value, Secret) else HIDDEN for name, value in options.items()}
