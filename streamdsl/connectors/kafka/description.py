"""`kafka(...)`: a topic, as a source or as a sink."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, cast

import pyarrow as pa

from streamdsl.config import broker_fault, parse_bytes
from streamdsl.connectors.base import Json, Sink, SinkWriter, Source, SplitReader
from streamdsl.connectors.kafka.topic import Delivery, Format, Timestamps, Topic, why_not_written
from streamdsl.connectors.transaction import Transaction
from streamdsl.durations import Duration, parse_duration
from streamdsl.errors import ConfigError, TopologyError
from streamdsl.schema import DEAD_LETTER_SCHEMA, Field, Schema
from streamdsl.secret import wrapped

__all__ = ["Kafka", "kafka"]

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS: Final = datetime.timedelta(milliseconds=1)
_FORMATS: Final = ("json", "raw", "arrow", "avro", "protobuf", "debezium-json")

#: What the library decides, and what goes wrong if somebody else does.
_RESERVED: Final = {
    "bootstrap.servers": "broker=",
    "group.id": "the job's name",
    "enable.auto.commit": "the checkpoints",
    "enable.auto.offset.store": "the checkpoints",
    "auto.offset.reset": "start=",
    "transactional.id": "the job's name",
    "enable.idempotence": "delivery=",
    "enable.partition.eof": "until=",
    "isolation.level": "isolation is read_committed",
}


class Kafka(Topic, Source, Sink):
    """A topic as a source or as a sink; made by `kafka`."""

    gathers = False
    position_form = "offsets of a Kafka topic"
    locates_rows = True
    packages = ("confluent-kafka",)

    @property
    def bounded(self) -> bool:  # type: ignore[override]
        """Whether reading ends."""
        return self.until is not None

    @property
    def transactional(self) -> bool:  # type: ignore[override]
        """Whether rows become visible by the job's transaction."""
        return self.delivery == "exactly_once"

    # As a source ------------------------------------------------------------------------------------------------

    def splits(self) -> Sequence[str]:
        """Return the partitions, as ``topic/number``."""
        from streamdsl.connectors.kafka.admin import ensure_topic

        count = ensure_topic(self.client_options(), self.topic, self.partitions, self.replication)
        self.seen["partitions"] = count
        return tuple(f"{self.topic}/{number}" for number in range(count))

    def position_of_added(self, split: str) -> Json:
        """Return the beginning: partitions that were added hold nothing older than the job."""
        return {"offset": "beginning"}

    def open_split(self, split: str, position: Json, columns: Sequence[str]) -> SplitReader:
        """Read one partition with a consumer of its own."""
        return self.open_splits({split: position}, columns, own_time=True)[split]

    def open_splits(self, positions: Mapping[str, Json], columns: Sequence[str], *, own_time: bool) -> Mapping[str, SplitReader]:
        """Read partitions with one consumer."""
        from streamdsl.connectors.kafka.reader import open_partitions

        return open_partitions(self, positions, columns, own_time=own_time)

    def value_decoder(self, fields: Sequence[Field]) -> Any:
        """Return what makes rows of values, a `ValueDecoder`; for those who read the records themselves."""
        from streamdsl.connectors.kafka.values import decoder_of

        return decoder_of(self, fields)

    # As a sink --------------------------------------------------------------------------------------------------

    def value_serializer(self) -> Any:
        """Return what makes values of rows, `SerializedValues`; for those who write the records themselves."""
        from streamdsl.connectors.kafka.serialized import SerializedValues

        return SerializedValues(self)

    def check(self, schema: Schema, keys: Sequence[str]) -> None:
        """Refuse what cannot be written: columns that are named and not there, more than one of raw bytes."""
        if self.partitioned_by is not None:
            raise TopologyError(
                f"kafka({self.topic!r}, partitioned_by=...) is a sink, and partitioned_by= is of sources",
                remedy="leave it out: the record key that key= names decides the partition",
            )
        if self.changes:
            raise TopologyError(
                f"kafka({self.topic!r}, format='debezium-json') is a sink, and change events are read only",
                remedy='leave format= out: table.to(kafka("topic")) writes upserts in JSON, and tombstones',
            )
        refused = why_not_written(self.topic)
        if refused is not None:
            raise TopologyError(f"kafka({self.topic!r}) is a sink: {refused}", remedy="write to another topic")
        if self.topic_from is not None and not pa.types.is_string(schema.field(self.topic_from).type):
            type_ = schema.field(self.topic_from).type
            raise TopologyError(
                f"kafka({self.topic!r}, topic_from={self.topic_from!r}): the column is {type_}, and topics have names of text",
                remedy="cast it: with_columns(...) before the sink",
            )
        apart = {*self.headers, *([self.topic_from] if self.topic_from else [])}
        for name in (*(keys or self.key), *apart):
            schema.field(name)
        if self.format != "raw" or schema.names == DEAD_LETTER_SCHEMA.names:
            return
        values = [field for field in schema.fields if field.name not in apart]
        if len(values) != 1 or not (pa.types.is_binary(values[0].type) or pa.types.is_string(values[0].type)):
            raise TopologyError(
                f"kafka({self.topic!r}, format='raw') writes one column of binary or string, not {', '.join(map(str, values))}",
                remedy="select(...) it, or name others as headers= or topic_from=",
            )

    def overwrites(self, source: Source) -> str:
        """Return the topic if `source` reads it: each record would come back without end, unless ``loop=True`` says that it is meant."""
        looped = not self.loop and isinstance(source, Kafka) and (source.broker, source.topic) == (self.broker, self.topic)
        return f"topic {self.topic!r}, without kafka(..., loop=True)" if looped else ""

    def open_writer(self, schema: Schema, keys: Sequence[str], task: int, tasks: int, state: Json) -> SinkWriter:
        """Write at least once."""
        from streamdsl.connectors.kafka.admin import ensure_topic
        from streamdsl.connectors.kafka.layout import Layout
        from streamdsl.connectors.kafka.limits import limits_of
        from streamdsl.connectors.kafka.writer import AtLeastOnceWriter

        ensure_topic(self.client_options(), self.topic, self.partitions, self.replication)
        limits = limits_of(self.client_options(), self.topic)
        return AtLeastOnceWriter(self.topic, self.client_options(), Layout(self, schema, tuple(keys), limits))

    def new_transaction(self, job: str, sinks: Sequence[Sink]) -> Transaction:
        """Return the transaction of the job in this cluster."""
        from streamdsl.connectors.kafka.transaction import KafkaTransaction

        others = [sink for sink in sinks if not isinstance(sink, Kafka) or sink.broker != self.broker]
        if others:
            raise ConfigError(
                f"the sinks {self.name!r} and {others[0].name!r} are exactly once in two clusters: no transaction spans both",
                remedy='give one of them delivery="at_least_once"',
            )
        return KafkaTransaction(job, cast(Sequence[Kafka], sinks))

    def open_in(self, transaction: Transaction, schema: Schema, keys: Sequence[str], task: int) -> SinkWriter:
        """Write within the job's transaction."""
        from streamdsl.connectors.kafka.layout import Layout
        from streamdsl.connectors.kafka.limits import limits_of
        from streamdsl.connectors.kafka.transaction import KafkaTransaction
        from streamdsl.connectors.kafka.writer import TransactionalWriter

        assert isinstance(transaction, KafkaTransaction)
        return TransactionalWriter(transaction, Layout(self, schema, tuple(keys), limits_of(self.client_options(), self.topic)))


def kafka(
    topic: str,
    schema: Any = None,
    *,
    broker: str | None = None,
    format: Format = "json",
    start: Literal["earliest", "latest"] | datetime.datetime | int = "earliest",
    until: Literal["latest"] | None = None,
    delivery: Delivery = "exactly_once",
    partitions: int | None = None,
    replication: int = -1,
    key: str | Sequence[str] | None = None,
    headers: Sequence[str] = (),
    topic_from: str | None = None,
    partitioned_by: str | None = None,
    timestamps: Timestamps = "event",
    registry: str | Mapping[str, Any] | None = None,
    message: Any = None,
    subject_schema: str | None = None,
    options: Mapping[str, Any] | None = None,
    errors: Any = None,
    rate: float | None = None,
    idle_timeout: Duration | None = "5s",
    max_ahead: Duration | None = "1h",
    max_record_bytes: int = 1 << 20,
    buffer_memory: int | str = "32MiB",
    loop: bool = False,
    name: str | None = None,
) -> Kafka:
    """Read or write a Kafka topic.

    Parameters
    ----------
    topic : str
    schema : dataclass, pyarrow.Schema or mapping, optional
        Columns of a source; a sink takes the columns of the stream. The key, the headers and the rest of a record are
        columns as well: ``_key``, ``_headers``, ``_timestamp``, ``_topic``, ``_partition``, ``_offset``.
    broker : str, optional
        ``"host:port"``, several with commas (default: that of the `Config`, else localhost:9092).
    format : "json" | "raw" | "arrow" | "avro" | "protobuf" | "debezium-json"
        What a value is: a JSON object; bytes as they are (one column, binary or string); a stream of Arrow IPC; what a schema
        registry describes; or a change event of Debezium in JSON, which `Topology.table` reads. As a table a record without a value
        takes the row of its key away, in every format.
    start : "earliest", "latest", datetime or int
        Where a source begins when there is no checkpoint; a time (int: ms) is that of the records.
    until : "latest", optional
        End at what is the end of the topic when the source is opened first (default: never end).
    delivery : "exactly_once" | "at_least_once"
        Of a sink: in the job's transaction, visible to ``read_committed`` at each checkpoint; or at once, and perhaps twice after a
        failure.
    partitions, replication : int
        A topic that does not exist is created with so many (without `partitions` it is an error; -1: as many copies as the brokers are
        set to); one that exists must have as many partitions.
    key : str or sequence of str, optional
        Columns that make a sink's record key: one of text or bytes as it is, others as JSON. A table is keyed by its own key.
    headers : sequence of str
        Columns that a sink writes as headers, and not in the value: text, bytes and numbers as they are, others as JSON.
    topic_from : str, optional
        Column that names the topic of each record (null: `topic`); not in the value. Those topics must exist. A name that begins
        with ``__`` or ``streamdsl.`` is an error of the record: such topics are the cluster's and the jobs' own.
    partitioned_by : str, optional
        Column of a source whose text or bytes are the record keys that the topic is partitioned by (``"_key"``: the record keys
        themselves), with Kafka's murmur2, as Java's clients do and librdkafka with ``partitioner=murmur2_random``. A
        ``key_by`` of that column then needs no exchange between tasks. Every record is held to it: one that lies in another
        partition is an error.
    timestamps : "event" | "arrival"
        What a sink gives its records as their time: the rows' event time (or now, where that is still to come), or the time of
        writing. A topic whose retention is shorter than the rows are old loses records with event times at once.
    registry : str or mapping, optional
        URL of the schema registry, or its client's configuration; for Avro and Protobuf.
    message : class, optional
        Generated class of a Protobuf message.
    subject_schema : str, optional
        Avro schema that a sink writes with (JSON text).
    options : mapping, optional
        Options of librdkafka for this topic's clients.
    errors : "fail", "skip" or dead_letter(sink)
        What becomes of records that cannot be decoded.
    rate : float, optional
        Records a second, over all partitions.
    idle_timeout : duration, optional
        A partition that has been read to its end, and has had no records for so long, no longer holds back the watermark; None: it
        always does.
    max_ahead : duration, optional
        A record whose event time is further ahead of the clock is a bad one: it would make all others late. None: it is taken.
    max_record_bytes : int
        A longer value is a bad record.
    buffer_memory : int or str
        Bytes of records of a source that were fetched and wait to be read, over all partitions, those in the client among them.
    loop : bool
        Of a sink: the same topology reads the topic, on purpose (retries, say). Without it, that is an error.
    name : str, optional
        Default: the topic.

    Raises
    ------
    TopologyError
        An argument is not known, or options are set that are not the user's.

    Examples
    --------
    >>> kafka("orders", {"id": "int64", "amount": "float64"}).name
    'orders'
    """
    _check(topic, format, start, until, delivery, errors, rate)
    fault = None if broker is None else broker_fault(broker)
    if fault is not None:
        raise TopologyError(f"kafka({topic!r}): {fault[0]}", remedy=fault[1])
    if timestamps not in ("event", "arrival"):
        raise TopologyError(f"kafka(timestamps={timestamps!r}) is unknown", remedy='use "event" or "arrival"')
    made = dict(options or {})
    for option in made:
        if option in _RESERVED:
            raise TopologyError(f"kafka({topic!r}): option {option!r} is not to be set", remedy=f"it is decided by {_RESERVED[option]}")
    return Kafka(
        name=name or topic,
        schema=Schema.of({"value": bytes}) if schema is None and format == "raw" else Schema() if schema is None else Schema.of(schema),
        topic=topic,
        broker=broker,
        format=format,
        start=_start(topic, start),
        until=until,
        delivery=delivery,
        partitions=partitions,
        replication=replication,
        key=(key,) if isinstance(key, str) else tuple(key or ()),
        headers=tuple(headers),
        topic_from=topic_from,
        partitioned_by=_partitioned_by(topic, partitioned_by),
        timestamps=timestamps,
        registry=wrapped({"url": registry} if isinstance(registry, str) else registry) if registry else None,
        message=message,
        subject_schema=subject_schema,
        options=wrapped(made),
        errors=errors,
        rate=rate,
        idle_timeout=None if idle_timeout is None else parse_duration(idle_timeout, "idle_timeout"),
        max_ahead=None if max_ahead is None else parse_duration(max_ahead, "max_ahead"),
        max_record_bytes=max_record_bytes,
        buffer_memory=_buffer(topic, buffer_memory),
        loop=loop,
        changes=format == "debezium-json",
    )


def _check(topic: str, format: str, start: Any, until: Any, delivery: str, errors: Any, rate: float | None) -> None:
    if not isinstance(topic, str) or not topic:
        raise TopologyError(
            f"kafka({topic!r}) names no topic", remedy='write kafka("orders", ...); one kafka(...) for each topic, then merge'
        )
    if format not in _FORMATS:
        raise TopologyError(f"kafka(format={format!r}) is unknown", remedy=f"known: {', '.join(_FORMATS)}")
    if until not in (None, "latest"):
        raise TopologyError(f"kafka(until={until!r}) is unknown", remedy='use "latest", or leave it out to read for ever')
    if delivery not in ("exactly_once", "at_least_once"):
        raise TopologyError(f"kafka(delivery={delivery!r}) is unknown", remedy='use "exactly_once" or "at_least_once"')
    if isinstance(errors, str) and errors not in ("fail", "skip"):
        raise TopologyError(f"kafka(errors={errors!r}) is unknown", remedy='use "fail", "skip" or dead_letter(sink)')
    if rate is not None and not rate > 0:
        raise TopologyError(f"kafka(rate={rate!r}): a rate is above 0; None is as fast as possible")


def _buffer(topic: str, size: int | str) -> int:
    found = parse_bytes(size)
    if found < 1 << 20:
        raise TopologyError(f"kafka({topic!r}, buffer_memory={size!r}) is less than a MiB", remedy='use more, "64MiB" for one')
    return found


def _partitioned_by(topic: str, column: Any) -> str | None:
    if column is None or isinstance(column, str):
        return column
    raise TopologyError(
        f"kafka({topic!r}, partitioned_by={column!r}): it is the name of one column",
        remedy='if record keys are made of several columns, use partitioned_by="_key" and key_by("_key")',
    )


def _start(topic: str, start: Any) -> str | int:
    if isinstance(start, datetime.datetime):
        if start.tzinfo is None:
            raise TopologyError(f"kafka({topic!r}): start={start} has no time zone", remedy="use datetime(..., tzinfo=timezone.utc)")
        ms = -((_EPOCH - start) // _MS)  # not older than it: a part of a ms counts
        # A cluster takes times before 1970 for something else: -1 is the end of a partition.
        return ms if ms >= 0 else "earliest"
    if start in ("earliest", "latest") or (isinstance(start, int) and not isinstance(start, bool) and 0 <= start < 1 << 63):
        return cast("str | int", start)
    raise TopologyError(f"kafka(start={start!r}) is unknown", remedy='use "earliest", "latest", a datetime or ms since 1970')
