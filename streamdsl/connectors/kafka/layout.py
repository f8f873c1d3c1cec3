"""How rows become records."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import starmap
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.flow.convert import python_rows, python_values
from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.kafka.limits import Limits, limits_of
from streamdsl.connectors.kafka.outbox import BATCH_BYTES, NOT_OURS, Record
from streamdsl.connectors.kafka.topic import LARGEST_BATCH, Topic, why_not_written
from streamdsl.errors import ConnectorError, DataError
from streamdsl.schema import DEAD_LETTER_SCHEMA, Schema

__all__ = ["Layout"]

#: How long what is known of a topic that data names counts, and of how many it is kept.
_KNOWN_S: Final = 30.0
_MOST_KNOWN: Final = 10_000
#: What a header takes that says how many bytes there were before a value was cut.
_CUT_BYTES: Final = 100


@dataclass(frozen=True, slots=True)
class _Named:
    """A topic that data has named: when it was looked at, why it refuses, and what it takes."""

    looked_at: float
    refused: str | None
    limits: Limits


class Layout:
    """How rows become records. `limits`: what the client and the topic take as one record."""

    def __init__(self, described: Topic, schema: Schema, keys: tuple[str, ...], limits: Limits) -> None:
        self.limits = limits
        #: The smallest limit of a topic that rows have named, as far as is known.
        self.largest_batch = described.seen.get(LARGEST_BATCH)
        self._known: dict[str, _Named] = {}  # topics that data named
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
            from streamdsl.connectors.kafka.serialized import SerializedValues

            self._serialize = SerializedValues(described)

    def records(self, rows: pa.RecordBatch, timestamps: pa.Int64Array) -> list[Record]:
        """Return a record for each row (one for all with Arrow).

        Raises
        ------
        DataError
            A row cannot become one: it is too large, does not fit the schema, or names a topic that refuses it.
        """
        if not rows.num_rows:
            return []
        if self._dead:
            return self._checked(list(self._dead_letters(rows, timestamps)))
        if self._described.format == "arrow":
            return self._checked([Record(self._described.topic, None, self._stream(rows), 0, None)])
        topics, headers = self._topics_of(rows), self._headers_of(rows)
        keys, values, times = self._keys_of(rows) if self._keys else None, self._values_of(rows), self._times(timestamps)
        default, without = self._described.topic, [None] * rows.num_rows
        named = [default if topic is None else topic for topic in topics or without]
        records = list(starmap(Record, zip(named, keys or without, values, times, headers or without, strict=True)))
        sure = not topics and not headers and self.limits.surely_take(keys, values, dated=self._described.timestamps == "event")
        return records if sure else self._checked(records)

    def _checked(self, records: list[Record]) -> list[Record]:
        now = int(time.time() * 1000)
        for row, record in enumerate(records):
            refused = self._limits_of(record).why_not(record, now)
            if refused is not None:
                raise DataError(
                    f"the sink {self._described.name!r} cannot write row {row} of its batch to the topic {record.topic!r}: {refused[0]}",
                    remedy=refused[1],
                )
        return records

    def _limits_of(self, record: Record) -> Limits:
        named = self._known.get(record.topic)
        return self.limits if named is None else named.limits

    def _headers_of(self, rows: pa.RecordBatch) -> list[list[tuple[str, bytes | None]]] | None:
        names = self._described.headers
        if not names:
            return None
        columns = [map(_header, rows.column(name).to_pylist()) for name in names]
        return [list(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _times(self, timestamps: pa.Int64Array) -> list[int]:
        """Return the records' times in ms: event time, but never one to come, which brokers refuse (KIP-937).

        Kafka has no times before 1970, and 0 is the clock's: who reads what was written at one of these would take it for new.
        """
        if self._described.timestamps != "event":
            return [0] * len(timestamps)
        now = int(time.time() * 1000)
        return [0 if at is None else min(max(at, 1), now) for at in timestamps.to_pylist()]

    def _topics_of(self, rows: pa.RecordBatch) -> list[str | None] | None:
        """Return the topic of each row.

        Raises
        ------
        DataError
            A row names one that no sink may write to, or that is not there.
        """
        column = self._described.topic_from
        if column is None:
            return None
        topics: list[str | None] = rows.column(column).to_pylist()
        for topic in {topic for topic in topics if topic is not None}:
            refused = (why_not_written(topic) or self._refuses(topic)) if topic else "a topic has a name"
            if refused is not None:
                raise DataError(
                    f"the sink {self._described.name!r} cannot write row {topics.index(topic)} of its batch: "
                    f"column {column!r} names the topic {topic!r}, and {refused}",
                    remedy=f"filter such rows, or replace the values of {column!r}, before the sink",
                )
        return topics

    def _refuses(self, topic: str) -> str | None:
        """Return why the cluster takes no record of a topic that data names: it has none, or it is not ours to write."""
        from streamdsl.connectors.kafka.admin import not_writable, partitions_of

        now = time.monotonic()
        known = self._known.get(topic)
        if known is not None and now - known.looked_at < _KNOWN_S:
            return known.refused
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        options, limits = self._described.client_options(), self.limits
        try:
            refused = None if partitions_of(options, topic) else "there is no such topic"
            if refused is None and topic != self._described.topic:
                refused = f"it {NOT_OURS}: WRITE on it is missing" if not_writable(options, [topic]) else None
                limits = limits_of(options, topic)
        except ConnectorError as error:
            if error.context.get("recoverable"):
                raise
            refused = error.message
        self._known[topic] = _Named(now, refused, limits)
        self._expect_batches_of(limits)
        return refused

    def _expect_batches_of(self, limits: Limits) -> None:
        """See that the client makes no batch that a topic refuses: it is told of a smaller one where it is made.

        Raises
        ------
        ConnectorError
            This client was made for larger ones.
        """
        largest = min(limit for limit in (self.limits.topic, self._described.seen.get(LARGEST_BATCH), BATCH_BYTES) if limit is not None)
        if limits.topic is not None and limits.topic < largest:
            self._described.seen[LARGEST_BATCH] = limits.topic
            raise ConnectorError(
                f"writing to {self._described.topic!r}: a topic that rows have named (topic_from) takes batches of {limits.topic} bytes, "
                f"and the client makes larger ones",
                remedy="it is made anew, for smaller ones, and goes on from the last checkpoint",
                recoverable=True,
                lasting=True,
            )

    def _keys_of(self, rows: pa.RecordBatch) -> list[bytes | None]:
        columns = [rows.column(name) for name in self._keys]
        if len(columns) == 1:
            if _is_bytes(columns[0]):
                return list(columns[0].cast(pa.binary()).to_pylist())
            return [None if value is None else _json(value) for value in python_values(columns[0])]
        listed = python_rows(rows.select(list(self._keys)))
        return [_json(row) for row in listed]

    def _values_of(self, rows: pa.RecordBatch) -> list[bytes | None]:
        values: list[bytes | None]
        selected = rows if len(self._values) == rows.num_columns else rows.select(self._values)
        if self._described.format == "raw" and _is_bytes(selected.column(0)):
            return list(selected.column(0).cast(pa.binary()).to_pylist())
        if self._described.format == "raw":
            return [_bytes(value) for value in selected.column(0).to_pylist()]
        columns = [rows.column(name) for name in self._others]
        gone = {row for row in range(rows.num_rows) if not any(column[row].is_valid for column in columns)} if columns else frozenset()
        if self._serialize is not None:
            # A row that goes has nulls, which its schema may not have.
            values = self._serialize.values(selected, gone)
        else:
            values = list(json_lines(selected).split(b"\n")[: rows.num_rows])
            for row in gone:
                values[row] = None
        return values

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
            record = Record(self._described.topic, None, row["value"], 0, headers)  # type: ignore[arg-type]
            over = self.limits.over(record)
            if over is not None and record.value:
                cut = record.value[: max(0, len(record.value) - (record.batch_size - over[1]) - _CUT_BYTES)]
                record = record._replace(value=cut, headers=[*headers, ("streamdsl.bytes", str(len(record.value)).encode())])
            yield record


def _is_bytes(column: pa.Array) -> bool:
    return bool(pa.types.is_string(column.type) or pa.types.is_binary(column.type))


def _bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "backslashreplace")


def _header(value: Any) -> bytes | None:
    return _json(value) if isinstance(value, bool | list | dict) else _bytes(value)


def _json(value: Any) -> bytes:
    return json.dumps(value, default=str, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
