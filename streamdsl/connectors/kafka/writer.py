"""Writes rows as records: at once, or within the job's transaction."""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.base import Json, SinkWriter
from streamdsl.connectors.kafka.clients import (
    CLIENT_LOG,
    ErrorLog,
    KafkaException,
    Producer,
    for_good,
    translated,
)
from streamdsl.errors import ConnectorError
from streamdsl.schema import DEAD_LETTER_SCHEMA, Schema

if TYPE_CHECKING:
    from streamdsl.connectors.kafka.description import Kafka
    from streamdsl.connectors.kafka.transaction import KafkaTransaction

__all__ = ["AtLeastOnceWriter", "Deliveries", "Layout", "Record", "TransactionalWriter", "producer_options"]

#: Bytes that a writer holds back (behind a barrier, or while the client's own queue is full) before its task is to wait.
OUTBOX_BYTES: Final = 32 << 20
#: How long a snapshot waits for the cluster to take what was written.
FLUSH_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Record:
    """One record to be written; `timestamp` in ms, 0: the client's clock."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: list[tuple[str, bytes | None]] | None

    @property
    def size(self) -> int:
        """Bytes, about."""
        return 100 + len(self.key or b"") + len(self.value or b"")


def producer_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return what our producers have in common; the partitioner is that of Java clients."""
    return {
        "linger.ms": 1,
        "logger": CLIENT_LOG,
        "partitioner": "murmur2_random",
        "queue.buffering.max.kbytes": 131072,
        # What replicas may take: less than the silence of a broker, behind which the client hangs up.
        "request.timeout.ms": 15_000,
        **options,
        "enable.idempotence": True,
        "delivery.report.only.error": True,
    }


class Deliveries:
    """Takes the delivery reports: of records that could not be written."""

    def __init__(self) -> None:
        self.failed: Any = None

    def __call__(self, error: Any, message: Any) -> None:
        """Take one report; only errors are reported."""
        if error is not None and self.failed is None:
            self.failed = error

    def check(self, doing: str) -> None:
        """Raise what has failed: those rows are lost to this run, and come again when it starts from its last checkpoint, if that helps."""
        if self.failed is not None:
            error = translated(self.failed, doing)
            error.context["recoverable"] = not for_good(self.failed)
            raise error


class Layout:
    """How rows become records."""

    def __init__(self, described: Kafka, schema: Schema, keys: tuple[str, ...]) -> None:
        visible = schema.visible()
        self._described = described
        self._dead = visible.names == DEAD_LETTER_SCHEMA.names
        self._keys = keys or described.key
        # A table's row is withdrawn by a record without a value.
        self._others = tuple(name for name in visible.names if name not in keys) if keys else ()
        apart = {*described.headers, *([described.topic_from] if described.topic_from else [])}
        self._values = [name for name in visible.names if name not in apart]
        self._serialize: Any = None
        if described.format in ("avro", "protobuf") and not self._dead:
            from streamdsl.connectors.kafka.registry import serializer

            self._serialize = serializer(described)

    def records(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> Iterator[Record]:
        """Return a record for each row (one for all with Arrow)."""
        if not rows.num_rows:
            return iter(())
        if self._dead:
            return self._dead_letters(rows, timestamps)
        if self._described.format == "arrow":
            return iter([Record(self._described.topic, None, self._stream(rows), 0, None)])
        return self._each(rows, timestamps)

    def _each(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> Iterator[Record]:
        topic, columns = self._described.topic, self._described.headers
        count = rows.num_rows
        topics = rows.column(self._described.topic_from).to_pylist() if self._described.topic_from else None
        headers = [rows.column(name).to_pylist() for name in columns]
        keys = self._keys_of(rows) if self._keys else [None] * count
        values = self._values_of(rows)
        times = timestamps.to_pylist() if self._described.timestamps == "event" else [0] * count
        for row in range(count):
            carried = [(name, _bytes(column[row])) for name, column in zip(columns, headers, strict=True)] or None
            yield Record((topics[row] if topics else None) or topic, keys[row], values[row], max(times[row] or 0, 0), carried)

    def _keys_of(self, rows: pa.RecordBatch) -> list[bytes | None]:
        columns = [rows.column(name) for name in self._keys]
        if len(columns) == 1:
            if pa.types.is_string(columns[0].type) or pa.types.is_binary(columns[0].type):
                return [_bytes(value) for value in columns[0].to_pylist()]
            return [None if value is None else _json(value) for value in columns[0].to_pylist()]
        listed = rows.select(list(self._keys)).to_pylist()
        return [_json(row) for row in listed]

    def _values_of(self, rows: pa.RecordBatch) -> list[bytes | None]:
        values: list[bytes | None]
        selected = rows if len(self._values) == rows.num_columns else rows.select(self._values)
        if self._described.format == "raw":
            return [_bytes(value) for value in selected.column(0).to_pylist()]
        if self._serialize is not None:
            from confluent_kafka.serialization import MessageField, SerializationContext

            context = SerializationContext(self._described.topic, MessageField.VALUE)
            values = [self._serialized(row, context) for row in selected.to_pylist()]
        else:
            values = list(json_lines(selected).split(b"\n")[: rows.num_rows])
        if self._others:
            columns = [rows.column(name) for name in self._others]
            for row in range(rows.num_rows):
                if not any(column[row].is_valid for column in columns):
                    values[row] = None
        return values

    def _serialized(self, row: dict[str, Any], context: Any) -> bytes:
        try:
            return bytes(self._serialize(row, context))
        except Exception as error:
            raise ConnectorError(
                f"a row cannot be written to {self._described.topic!r} as {self._described.format}: {type(error).__name__}: {error}",
                remedy="make the columns those of the schema",
            ) from error

    @staticmethod
    def _stream(rows: pa.RecordBatch) -> bytes:
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, rows.schema) as stream:
            stream.write_batch(rows)
        return bytes(out.getvalue().to_pybytes())

    def _dead_letters(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> Iterator[Record]:
        """A record that could not be processed goes on as it came; what was wrong stands in the headers."""
        for row in rows.to_pylist():
            facts = {name: row[name] for name in ("error", "operator", "topic", "partition", "offset")}
            headers = [
                (f"streamdsl.{name}", str(value).encode("utf-8", "backslashreplace")) for name, value in facts.items() if value is not None
            ]
            yield Record(self._described.topic, None, row["value"], 0, headers)  # type: ignore[arg-type]


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "backslashreplace")


def _json(value: Any) -> bytes:
    return json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


class Outbox:
    """Records that wait for the client to take them, in order."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._records)

    def add(self, records: Iterable[Record]) -> None:
        """Hold records back."""
        for record in records:
            self._records.append(record)
            self.bytes += record.size

    def empty_into(self, producer: Producer) -> bool:
        """Hand over as much as the client takes; return whether that was all."""
        while self._records:
            record = self._records[0]
            try:
                producer.produce(record.topic, record.value, record.key, timestamp=record.timestamp, headers=record.headers or [])
            except BufferError:
                producer.poll(0)
                return False
            self._records.popleft()
            self.bytes -= record.size
        return True


class OutboxWriter(SinkWriter):
    """What the writers share: rows become records, which wait in the outbox for as long as they must."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._outbox = Outbox()

    @abstractmethod
    def _hand_over(self) -> bool:
        """Give the client what it may have now; return whether nothing waits any more."""

    def write(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> None:
        """Take rows."""
        self._outbox.add(self._layout.records(rows, timestamps))
        self._hand_over()

    def has_room(self) -> bool:
        """Return whether not too much waits."""
        return self._hand_over() or self._outbox.bytes < OUTBOX_BYTES

    def flush(self) -> None:
        """Hand over what can be; the client sends it by itself."""
        self._hand_over()


class AtLeastOnceWriter(OutboxWriter):
    """Writes at once. A checkpoint waits until the cluster has taken everything."""

    def __init__(self, topic: str, options: dict[str, Any], layout: Layout) -> None:
        self._doing = f"writing to the topic {topic!r} at {options['bootstrap.servers']}"
        super().__init__(layout)
        self._deliveries = Deliveries()
        self._producer = Producer({**producer_options(options), "on_delivery": self._deliveries, "error_cb": ErrorLog(self._doing)})

    def _hand_over(self) -> bool:
        try:
            everything = self._outbox.empty_into(self._producer)
            self._producer.poll(0)
        except KafkaException as error:
            raise translated(error, self._doing) from error
        self._deliveries.check(self._doing)
        return everything

    def snapshot(self, checkpoint_id: int) -> Json:
        """Wait until the cluster has taken everything."""
        until = time.monotonic() + FLUSH_S
        while not self._hand_over():
            self._producer.poll(0.1)
            self._check_time(until)
        while self._producer.flush(0.5):
            self._deliveries.check(self._doing)
            self._check_time(until)
        self._deliveries.check(self._doing)
        return {"delivery": "at_least_once"}

    def _check_time(self, until: float) -> None:
        if time.monotonic() > until:
            raise ConnectorError(f"{self._doing}: the cluster has not taken everything within {FLUSH_S:.0f} s", remedy="it is tried again")

    def close(self) -> None:
        """Send what is left, for a moment: no checkpoint counts on it."""
        try:
            self._outbox.empty_into(self._producer)
            self._producer.flush(1.0)
        except KafkaException:
            pass  # rows behind the last checkpoint: they come again
        self._producer.purge()


class TransactionalWriter(OutboxWriter):
    """Writes within the job's transaction; rows behind a barrier wait until its checkpoint is settled."""

    def __init__(self, transaction: KafkaTransaction, layout: Layout) -> None:
        super().__init__(layout)
        self._transaction = transaction
        self._behind = 0  # the checkpoint whose barrier has passed and that is not settled; 0: none

    def _hand_over(self) -> bool:
        if self._behind:
            if not self._transaction.settled(self._behind):
                return False
            self._behind = 0
        return self._transaction.take(self._outbox)

    def snapshot(self, checkpoint_id: int) -> Json:
        """Put everything so far into the transaction; what comes now belongs to the next."""
        until = time.monotonic() + FLUSH_S
        while not self._hand_over():
            if time.monotonic() > until:
                raise ConnectorError("the client has not taken everything that was written", remedy="it is tried again")
            time.sleep(0.01)
        self._behind = checkpoint_id
        return {"delivery": "exactly_once"}

    def commit(self, checkpoint_id: int) -> None:
        """The checkpoint is committed: what was held back goes on."""
        self._hand_over()

    def close(self) -> None:
        """Let go; what is not committed is never seen."""
        self._outbox = Outbox()
