"""Values of records to rows: one decoder for each format, all with the same answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.serdes.messages import within
from streamdsl.connectors.kafka.topic import Topic
from streamdsl.errors import StreamError, TopologyError
from streamdsl.formats.conform import arrow_schema, conform, empty_rows
from streamdsl.formats.decode import JsonLines
from streamdsl.schema import Field

__all__ = ["Rows", "ValueDecoder", "decoder_of"]

_NULL: Final = "the value is null (a tombstone)"


@dataclass(frozen=True, slots=True)
class Rows:
    """What values gave: rows, the number of the value of each row (None: one each), and why the others gave none."""

    rows: pa.RecordBatch
    of: list[int] | None
    bad: dict[int, str]


class ValueDecoder(ABC):
    """Decodes values into rows of `fields`. A value is good or bad by itself, whatever its neighbours are."""

    def __init__(self, fields: Sequence[Field], limit: int) -> None:
        self.fields = tuple(fields)
        self.limit = limit

    def decode(self, values: list[bytes | None]) -> Rows:
        """Return the rows of `values`; nulls and what is too long are bad."""
        if within(values, self.limit):
            return self.decode_present(values)  # type: ignore[arg-type]
        bad: dict[int, str] = {}
        for index, value in enumerate(values):
            if value is None:
                bad[index] = _NULL
            elif len(value) > self.limit:
                bad[index] = f"the value is {len(value)} bytes long, the limit is {self.limit} (max_record_bytes)"
        numbers = [index for index in range(len(values)) if index not in bad]
        found = self.decode_present([values[index] for index in numbers])  # type: ignore[misc]
        bad.update({numbers[index]: reason for index, reason in found.bad.items()})
        return Rows(found.rows, numbers if found.of is None else [numbers[index] for index in found.of], bad)

    @abstractmethod
    def decode_present(self, values: list[bytes]) -> Rows:
        """Return the rows of values that are there and not too long."""


class JsonValues(ValueDecoder):
    """A JSON object a value."""

    def __init__(self, fields: Sequence[Field], limit: int) -> None:
        super().__init__(fields, limit)
        self._lines = JsonLines(fields)

    def decode_present(self, values: list[bytes]) -> Rows:
        """Decode the values as records."""
        if not values:
            return Rows(empty_rows(self.fields), None, {})
        decoded = self._lines.decode_records(values)
        return Rows(decoded.rows, decoded.kept, {record.index: record.reason for record in decoded.bad})


class RawValues(ValueDecoder):
    """Bytes as they are, or as text."""

    def __init__(self, fields: Sequence[Field], limit: int) -> None:
        super().__init__(fields, limit)
        if len(self.fields) > 1 or any(not _is_bytes(field.type) for field in self.fields):
            raise TopologyError(
                'kafka(format="raw") has one column, of type binary or string', remedy='leave schema= out: {"value": bytes}'
            )

    def decode_present(self, values: list[bytes]) -> Rows:
        """Take the values."""
        if not self.fields:
            return Rows(empty_rows(()), None, {}) if not values else Rows(_without_columns(len(values)), None, {})
        type_ = self.fields[0].type
        column = pa.array(values, pa.binary())
        bad: dict[int, str] = {}
        if pa.types.is_string(type_):
            for index, value in enumerate(values):
                try:
                    value.decode("utf-8")
                except UnicodeDecodeError as error:
                    bad[index] = f"invalid UTF-8 at byte {error.start}"
            if bad:
                column = pa.array([value for index, value in enumerate(values) if index not in bad], pa.binary())
            column = column.cast(pa.string())
        kept = [index for index in range(len(values)) if index not in bad] if bad else None
        return Rows(pa.RecordBatch.from_arrays([column], schema=arrow_schema(self.fields)), kept, bad)


class ArrowValues(ValueDecoder):
    """An IPC stream a value, with any number of rows."""

    def decode_present(self, values: list[bytes]) -> Rows:
        """Read each stream; what it holds is checked before it is used."""
        bad: dict[int, str] = {}
        parts: list[pa.RecordBatch] = []
        of: list[int] = []
        for index, value in enumerate(values):
            try:
                rows = self._read(value)
            except (pa.ArrowException, StreamError, OSError, ValueError, KeyError) as error:
                bad[index] = f"not an Arrow IPC stream: {error}"
                continue
            found, _, wrong = conform(rows, self.fields)
            if wrong:
                bad[index] = next(iter(wrong.values()))
                continue
            parts.append(found)
            of.extend([index] * found.num_rows)
        if not parts:
            return Rows(empty_rows(self.fields), of, bad)
        if not self.fields:
            return Rows(_without_columns(len(of)), of, bad)
        return Rows(pa.Table.from_batches(parts).combine_chunks().to_batches(max_chunksize=None)[0] if of else parts[0], of, bad)

    def _read(self, value: bytes) -> pa.RecordBatch:
        with pa.ipc.open_stream(pa.py_buffer(value)) as stream:
            table = stream.read_all()
        table.validate(full=True)
        for field in self.fields:
            if not field.nullable and field.name not in table.schema.names:
                raise ValueError(f"field {field.name!r} is missing, but must not be null")
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


class RegistryValues(ValueDecoder):
    """What a deserializer of confluent-kafka makes of each value: dictionaries (Avro) or messages (Protobuf)."""

    def __init__(self, fields: Sequence[Field], limit: int, deserialize: Any, topic: str) -> None:
        super().__init__(fields, limit)
        self._deserialize = deserialize
        self._topic = topic

    def decode_present(self, values: list[bytes]) -> Rows:
        """Deserialize each value."""
        from confluent_kafka.serialization import MessageField, SerializationContext

        context = SerializationContext(self._topic, MessageField.VALUE)
        bad: dict[int, str] = {}
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        for index, value in enumerate(values):
            try:
                rows.append(self._row(self._deserialize(value, context)))
                kept.append(index)
            except Exception as error:  # noqa: BLE001 - whatever a deserializer raises for a hostile value
                bad[index] = f"{type(error).__name__}: {error}"
        return self._as_rows(rows, kept, bad)

    def _row(self, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {field.name: value.get(field.name) for field in self.fields}
        return {
            field.name: getattr(value, field.name, None) if not _has_presence(value, field.name) or value.HasField(field.name) else None
            for field in self.fields
        }

    def _as_rows(self, rows: list[dict[str, Any]], kept: list[int], bad: dict[int, str]) -> Rows:
        if not self.fields:
            return Rows(_without_columns(len(rows)), kept, bad)
        schema = arrow_schema(self.fields)
        try:
            batch = pa.RecordBatch.from_pylist(rows, schema=schema)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            good: list[dict[str, Any]] = []
            numbers: list[int] = []
            for row, index in zip(rows, kept, strict=True):
                try:
                    pa.RecordBatch.from_pylist([row], schema=schema)
                except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                    bad[index] = str(error)
                else:
                    good.append(row)
                    numbers.append(index)
            batch, kept = pa.RecordBatch.from_pylist(good, schema=schema), numbers
        found, rest, wrong = conform(batch, self.fields)
        bad.update({kept[number]: reason for number, reason in wrong.items()})
        return Rows(found, kept if rest is None else [kept[row] for row in rest], bad)


def _has_presence(message: Any, name: str) -> bool:
    described = message.DESCRIPTOR.fields_by_name.get(name)
    return described is not None and bool(described.has_presence)


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_string(type_))


def _without_columns(count: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_struct_array(pa.repeat(pa.scalar({}, pa.struct([])), count))


def decoder_of(described: Topic, fields: Sequence[Field]) -> ValueDecoder:
    """Return the decoder of a topic's values into `fields`."""
    limit = described.max_record_bytes
    if described.format == "json":
        return JsonValues(fields, limit)
    if described.format == "raw":
        return RawValues(fields, limit)
    if described.format == "arrow":
        return ArrowValues(fields, limit)
    from streamdsl.connectors.kafka.registry import deserializer

    return RegistryValues(fields, limit, deserializer(described), described.topic)
