"""Values of records to rows: one decoder for each format, all with the same answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from streamdsl._native.serdes.messages import within
from streamdsl.connectors.kafka.topic import Topic
from streamdsl.errors import TopologyError
from streamdsl.formats.conform import arrow_schema, empty_rows
from streamdsl.formats.decode import JsonLines
from streamdsl.schema import Field

__all__ = ["Rows", "ValueDecoder", "decoder_of", "without_columns"]

_NULL: Final = "the value is null (a tombstone)"


@dataclass(frozen=True, slots=True)
class Rows:
    """What values gave: rows, the number of the value of each row (None: one each), and why the others gave none.

    Of the values only the first `taken` (-1: all) were decoded where `away` says why the others cannot be now.
    """

    rows: pa.RecordBatch
    of: list[int] | None
    bad: dict[int, str]
    taken: int = -1
    away: str | None = None


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
        of = numbers if found.of is None else [numbers[index] for index in found.of]
        if found.away is None:
            return Rows(found.rows, of, bad)
        taken = numbers[found.taken]
        return Rows(found.rows, of, {index: why for index, why in bad.items() if index < taken}, taken, found.away)

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
            return Rows(empty_rows(()), None, {}) if not values else Rows(without_columns(len(values)), None, {})
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


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_string(type_))


def without_columns(count: int) -> pa.RecordBatch:
    """Return `count` rows of no columns."""
    return pa.RecordBatch.from_struct_array(pa.repeat(pa.scalar({}, pa.struct([])), count))


def decoder_of(described: Topic, fields: Sequence[Field]) -> ValueDecoder:
    """Return the decoder of a topic's values into `fields`."""
    limit = described.max_record_bytes
    if described.format == "json":
        return JsonValues(fields, limit)
    if described.format == "raw":
        return RawValues(fields, limit)
    if described.format == "arrow":
        from streamdsl.connectors.kafka.arrow_values import ArrowValues

        return ArrowValues(fields, limit)
    from streamdsl.connectors.kafka.registry import bounds_of, deserializer
    from streamdsl.connectors.kafka.registry_values import RegistryValues

    return RegistryValues(fields, limit, deserializer(described), described.topic, bounds_of(described))
