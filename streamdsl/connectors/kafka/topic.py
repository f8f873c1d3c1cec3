"""What a topic is to a job: all that `kafka(...)` was told, and how its clients are made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self

from streamdsl.durations import Duration
from streamdsl.schema import Schema
from streamdsl.secret import Secret, redacted

__all__ = ["LARGEST_BATCH", "Delivery", "Format", "Timestamps", "Topic", "why_not_written"]

#: Of what was seen: the smallest limit of a topic that rows have named.
LARGEST_BATCH: Final = "largest batch"

Format = Literal["json", "raw", "arrow", "avro", "protobuf", "debezium-json"]
Delivery = Literal["exactly_once", "at_least_once"]
Timestamps = Literal["event", "arrival"]

#: So long a broker may be silent before it is asked again, or another one: a host that is gone closes no connections.
SILENT_MS: Final = 20_000
_DEFAULT_BROKER: Final = "localhost:9092"
#: Topics of the cluster itself (offsets, transactions) and of jobs (their commits).
_INTERNAL: Final = ("__", "streamdsl.")
_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def why_not_written(topic: str) -> str | None:
    """Return why no sink may write to `topic`; None if one may."""
    if topic.startswith(_INTERNAL):
        return f"topics that begin with {' or '.join(map(repr, _INTERNAL))} belong to the cluster and to jobs' commits"
    if topic in (".", "..") or not _LEGAL.fullmatch(topic):
        return "a topic's name has 1 to 249 letters, digits, '.', '_' and '-'"
    return None


@dataclass(frozen=True, eq=False)
class Topic:
    """A topic; `kafka` says what the fields are."""

    name: str
    schema: Schema
    topic: str
    broker: str | None = None
    format: Format = "json"
    start: str | int = "earliest"
    until: str | None = None
    delivery: Delivery = "exactly_once"
    partitions: int | None = None
    replication: int = -1
    key: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    topic_from: str | None = None
    partitioned_by: str | None = None
    timestamps: Timestamps = "event"
    registry: Mapping[str, Any] | None = field(default=None, repr=False)
    message: Any = None
    subject_schema: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    errors: Any = None
    rate: float | None = None
    idle_timeout: Duration | None = "5s"
    max_ahead: Duration | None = "1h"
    max_record_bytes: int = 1 << 20
    buffer_memory: int = 32 << 20
    loop: bool = False
    #: Of a table that reads the topic: its key, and the column of the event time.
    table_key: tuple[str, ...] = ()
    table_time: str | None = None
    changes: bool = False
    #: How many partitions were there when somebody looked last, and `LARGEST_BATCH`.
    seen: dict[str, int] = field(default_factory=dict, repr=False)
    job: str = ""
    config: Any = field(default=None, repr=False)

    def of_table(self, keys: Sequence[str], time: str | None) -> Self:
        """Return the same topic as a table reads it: nulls take the rows of their keys away."""
        return replace(self, table_key=tuple(keys), table_time=time)

    def with_schema(self, schema: Any) -> Self:
        """Return the same topic with the columns of `schema`."""
        return replace(self, schema=Schema.of(schema))

    def configured(self, config: Any, job: str) -> Self:
        """Return the topic as `job` uses it: with the broker and the options of the `Config` where it has none of its own."""
        mine = self.broker is None or self.broker == config.broker
        broker = self.broker or config.broker or config.kafka.get("bootstrap.servers") or _DEFAULT_BROKER
        # Options of the Config go with its broker: secrets of one cluster are not for another.
        shared = {k: v for k, v in config.kafka.items() if k != "bootstrap.servers"} if mine else {}
        return replace(self, broker=broker, options={**shared, **self.options}, job=job, config=config, seen={})

    def client_options(self, config: Any = None) -> dict[str, Any]:
        """Return what a librdkafka client is made with, secrets in plain text: not for showing."""
        described = self.configured(config, self.job) if config is not None else self
        plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in described.options.items()}
        return {
            "client.id": "streamdsl",
            "reconnect.backoff.max.ms": 2000,
            "socket.timeout.ms": SILENT_MS,
            **plain,
            "bootstrap.servers": described.broker or _DEFAULT_BROKER,
        }

    @property
    def readers(self) -> int:
        """How many tasks read the topic, each with a consumer of its own."""
        return max(1, min(self.config.parallelism if self.config is not None else 1, self.seen.get("partitions", 1)))

    def shown(self) -> dict[str, Any]:
        """Return the options for people to see."""
        return redacted(self.client_options())
