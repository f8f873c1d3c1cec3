"""Values of records to rows: one decoder for each format, all with the same answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.flow.native_rows import NativeRows
from streamdsl._native.serdes.messages import within
from streamdsl.connectors.kafka.topic import Topic
from streamdsl.errors import TopologyError
from streamdsl.formats.changes import REMOVED, ChangeEvents, Removals, ordered
from streamdsl.formats.conform import arrow_schema, empty_rows
from streamdsl.formats.decode import JsonLines
from streamdsl.schema import Field

__all__ = ["Rows", "ValueDecoder", "decoder_of", "readable_fields", "without_columns"]

_NULL: Final = "the value is null (a tombstone)"


@dataclass(frozen=True, slots=True)
class Rows:
    """What values gave: rows, the number of the value of each row (None: one each), and why the others gave none.

    Of the values only the first `taken` (-1: all) were decoded where `away` says why the others cannot be now.
    """

    rows: pa.RecordBatch | NativeRows
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

    def decode_keyed(self, values: list[bytes | None], keys: Sequence[bytes | None]) -> Rows:
        """Return the rows of `values` beside the records' `keys`; a null takes the row of its key away."""
        return self.decode(values)

    def decode_native(self, values: list[bytes | None]) -> Rows:
        """Return the same as `decode`; the rows may be `NativeRows`."""
        return self.decode(values)

    @abstractmethod
    def decode_present(self, values: list[bytes]) -> Rows:
        """Return the rows of values that are there and not too long."""


class JsonValues(ValueDecoder):
    """A JSON object a value."""

    def __init__(self, fields: Sequence[Field], limit: int, topic: str) -> None:
        super().__init__(fields, limit)
        self._lines = JsonLines(fields, f"topic {topic!r}")

    def decode_present(self, values: list[bytes]) -> Rows:
        """Decode the values as records."""
        return self._decoded(values, native=False)

    def decode_native(self, values: list[bytes | None]) -> Rows:
        """Decode the values as records, which stay native where all are plain."""
        return self._decoded(values, native=True) if within(values, self.limit) else self.decode(values)  # type: ignore[arg-type]

    def _decoded(self, values: list[bytes], *, native: bool) -> Rows:
        if not values:
            return Rows(empty_rows(self.fields), None, {})
        decoded = self._lines.decode_records(values, native=native)
        return Rows(decoded.rows, decoded.kept, {record.index: record.reason for record in decoded.bad})


class TableValues(ValueDecoder):
    """The values of another decoder, and nulls, each of which takes the row of its key away."""

    def __init__(self, inner: ValueDecoder, described: Topic, fields: Sequence[Field]) -> None:
        super().__init__(fields, inner.limit)
        self._inner = inner
        self._removals = Removals(inner.fields, described.table_key, described.table_time, described.topic)
        self._order = [field.name for field in fields]
        self._keys = _registry_keys(described)

    def decode_present(self, values: list[bytes]) -> Rows:
        """Return the rows of values without keys."""
        return self.decode_keyed(list(values), [None] * len(values))

    def _key_row(self, key: bytes | None) -> tuple[bytes | str, str | None]:
        """Return the row of a tombstone's key, or why it is a bad one; and why it cannot be judged now."""
        if self._keys is None or key is None or not key.startswith(b"\0"):
            return self._removals.key_row(key), None
        found, bad, left = self._keys.read(key)
        return self._removals.row_of(found) if bad is None else bad, left

    def decode_keyed(self, values: list[bytes | None], keys: Sequence[bytes | None]) -> Rows:
        """Return the rows of values, and removals."""
        bad: dict[int, str] = {}
        removals: dict[int, bytes] = {}
        why = None
        for index, value in enumerate(values):
            if value is not None:
                continue
            key, why = self._key_row(keys[index])
            if why is not None:
                values = values[:index]
                break
            if isinstance(key, str):
                bad[index] = key
            else:
                removals[index] = key
        present = [index for index, value in enumerate(values) if value is not None]
        found = self._inner.decode([values[index] for index in present])
        bad.update({present[index]: reason for index, reason in found.bad.items()})
        numbers = [present[index] for index in (range(len(present)) if found.of is None else found.of)]
        away = why if found.away is None else found.away
        if not removals and not bad and found.of is None and away is None:
            rest = found.rows.append_column(REMOVED, pa.nulls(found.rows.num_rows, pa.bool_()))
            return Rows(rest.select(self._order), None, {})
        parts, gone = [found.rows], [False] * len(numbers)
        taken = len(values) if found.away is None else present[found.taken]
        removals = {index: key for index, key in removals.items() if index < taken}
        if removals:
            places, decoded = list(removals), self._removals.decode(list(removals.values()))
            bad.update({places[one.index]: one.reason for one in decoded.bad})
            kept = places if decoded.kept is None else [places[index] for index in decoded.kept]
            parts.append(decoded.rows)
            numbers += kept
            gone += [True] * len(kept)
        rows = ordered([b""] * len(values), parts, numbers, gone, {}, self._removals, self._order, rest=None)
        bad = {index: reason for index, reason in bad.items() if index < taken}
        return Rows(rows.rows, rows.kept, bad, -1 if away is None else taken, away)


def _registry_keys(described: Topic) -> Any:
    """Return what reads keys that a schema registry describes (`RegistryKeys`), None without a registry."""
    if described.registry is None:
        return None
    from streamdsl.connectors.kafka.registry import key_reader
    from streamdsl.connectors.kafka.registry_values import RegistryKeys

    return RegistryKeys(described.topic, key_reader(described))


class EventValues(ValueDecoder):
    """A change event a value."""

    def __init__(self, fields: Sequence[Field], described: Topic) -> None:
        super().__init__(fields, described.max_record_bytes)
        self._events = ChangeEvents(fields, described.table_key, described.table_time, described.topic)

    def decode_present(self, values: list[bytes]) -> Rows:
        """Return the rows of events without keys."""
        return self.decode_keyed(list(values), [None] * len(values))

    def decode_keyed(self, values: list[bytes | None], keys: Sequence[bytes | None]) -> Rows:
        """Return the rows that events put in, and removals."""
        long = {
            index: f"the value is {len(value)} bytes long, the limit is {self.limit} (max_record_bytes)"
            for index, value in enumerate(values)
            if value is not None and len(value) > self.limit
        }
        found = self._events.decode_records([b"" if index in long else value for index, value in enumerate(values)], keys)
        bad = {one.index: one.reason for one in found.bad}
        return Rows(found.rows, found.kept, {**bad, **long})


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


def readable_fields(described: Topic) -> dict[str, Field]:
    """Return what the values of a topic may be read as, by name: its columns, and what says that a key's row goes."""
    return {REMOVED: Field(REMOVED, pa.bool_()), **{field.name: field for field in described.schema.fields}}


def decoder_of(described: Topic, fields: Sequence[Field]) -> ValueDecoder:
    """Return the decoder of a topic's values into `fields`."""
    if described.changes:
        return EventValues(fields, described)
    own = [field for field in fields if field.name != REMOVED or REMOVED in described.schema]
    inner = _decoder_of(described, own)
    return inner if len(own) == len(fields) else TableValues(inner, described, fields)


def _decoder_of(described: Topic, fields: Sequence[Field]) -> ValueDecoder:
    limit = described.max_record_bytes
    if described.format == "json":
        return JsonValues(fields, limit, described.topic)
    if described.format == "raw":
        return RawValues(fields, limit)
    if described.format == "arrow":
        from streamdsl.connectors.kafka.arrow_values import ArrowValues

        return ArrowValues(fields, limit, described.topic)
    from streamdsl.connectors.kafka.registry import bounds_of, deserializer
    from streamdsl.connectors.kafka.registry_values import RegistryValues

    return RegistryValues(fields, limit, deserializer(described), described.topic, bounds_of(described))
