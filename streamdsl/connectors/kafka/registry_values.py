"""Values, and keys of tombstones, that a schema registry describes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import pyarrow as pa

from streamdsl._native.flow.values import NotAValue, converter_of
from streamdsl.connectors.kafka.avro_bounds import AvroBounds
from streamdsl.connectors.kafka.registry import Deadline, away, refused, schema_id_of
from streamdsl.connectors.kafka.values import Rows, ValueDecoder, without_columns
from streamdsl.errors import ConnectorError
from streamdsl.formats.conform import arrow_schema, conform
from streamdsl.formats.units import FirstNumbers
from streamdsl.schema import Field

__all__ = ["Asking", "RegistryKeys", "RegistryValues"]

T = TypeVar("T")

#: How long an id that the registry does not know is asked for: it may come later than the record.
UNKNOWN_S: Final = 60.0
#: Schemas that are remembered as known.
_MOST_KNOWN: Final = 10_000


class Asking(Generic[T]):
    """Reads bytes that begin with the number of a schema, which the registry is asked for once: values of a topic, or its keys."""

    def __init__(self, topic: str, read: Callable[[bytes], T]) -> None:
        self._topic, self._read = topic, read
        self._unknown: dict[int, float] = {}  # ids that the registry did not know, since when
        self._known: set[int] = set()  # ids of which a value was read: the registry need not be asked again
        self._deadline = Deadline()

    def read(self, value: bytes) -> T:
        """Return what a value is; the registry has a few seconds where it is to be asked."""
        number = schema_id_of(value)
        if number is None or number in self._known:
            return self._read(value)
        found = self._deadline.call(lambda: self._read(value))
        self._note_known(number)
        self._unknown.pop(number, None)
        return found

    def _note_known(self, number: int) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(number)

    def expect(self, values: Sequence[bytes]) -> None:
        """Begin to wait for the schemas of all values that are left, not for one behind the other."""
        now = time.monotonic()
        for number in {schema_id_of(value) for value in values} if self._unknown else ():
            if number is not None and number not in self._known:
                self._unknown.setdefault(number, now)

    def left(self, error: Exception, value: bytes) -> str | None:
        """Return why the value cannot be judged now; None if it is a bad one.

        Raises
        ------
        ConnectorError
            The registry refuses us.
        """
        why = refused(error)
        if why is not None:
            raise ConnectorError(
                f"the schema registry of the topic {self._topic!r} refuses to answer: {why}",
                remedy="check the user, the password and the rights in registry=",
            ) from error
        found, number = away(error), schema_id_of(value)
        if found is None:
            if number is not None:
                self._note_known(number)
            return None
        if not found.unknown or number is None:
            return found.why
        now = time.monotonic()
        since = self._unknown.setdefault(number, now)
        return found.why if now - since < UNKNOWN_S else None


class RegistryKeys:
    """Keys of tombstones. Those that do not begin with the number of a schema are not looked at."""

    def __init__(self, topic: str, read: Callable[[bytes], Any]) -> None:
        self._asking = Asking(topic, read)

    def read(self, key: bytes) -> tuple[Any, str | None, str | None]:
        """Return what a key is, why it is a bad one, and why it cannot be judged now."""
        try:
            return self._asking.read(key), None, None
        except Exception as error:  # noqa: BLE001 - whatever a deserializer raises for a hostile key
            why = self._asking.left(error, key)
            return None, f"the key of the tombstone: {type(error).__name__}: {error}", why


class RegistryValues(ValueDecoder):
    """What a deserializer of confluent-kafka makes of each value: dictionaries (Avro) or messages (Protobuf).

    Only what is wrong with a value makes it a bad one. While the registry does not answer, or does not know a schema yet, the
    values from there on are left: `Rows.away` says why, and they are asked for again.
    """

    def __init__(self, fields: Sequence[Field], limit: int, deserialize: Any, topic: str, bounds: AvroBounds | None) -> None:
        super().__init__(fields, limit)
        from confluent_kafka.serialization import MessageField, SerializationContext

        self._deserialize, self._bounds = deserialize, bounds
        self._context = SerializationContext(topic, MessageField.VALUE)
        self._converters = {field.name: converter_of(field.type) for field in fields}
        self._first_numbers = FirstNumbers(fields, f"topic {topic!r}")
        self._asking = Asking(topic, self._decoded)

    def decode_present(self, values: list[bytes]) -> Rows:
        """Deserialize values until the registry fails."""
        bad: dict[int, str] = {}
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        for index, value in enumerate(values):
            try:
                rows.append(self._asking.read(value))
                kept.append(index)
            except Exception as error:  # noqa: BLE001 - whatever a deserializer raises for a hostile value
                why = self._asking.left(error, value)
                if why is not None:
                    self._asking.expect(values[index:])
                    return self._as_rows(rows, kept, bad, index, why)
                bad[index] = f"{type(error).__name__}: {error}"
        return self._as_rows(rows, kept, bad, len(values), None)

    def _decoded(self, value: bytes) -> dict[str, Any]:
        if self._bounds is not None:
            self._bounds.check(value)
        return self._row(self._deserialize(value, self._context))

    def _row(self, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return {field.name: value.get(field.name) for field in self.fields}
        return {
            field.name: getattr(value, field.name, None) if not _has_presence(value, field.name) or value.HasField(field.name) else None
            for field in self.fields
        }

    def _as_rows(self, rows: list[dict[str, Any]], kept: list[int], bad: dict[int, str], taken: int, why: str | None) -> Rows:
        if not self.fields:
            return Rows(without_columns(len(rows)), kept, bad, taken, why)
        for field in self.fields if self._first_numbers else ():
            self._first_numbers.look_at_values(field.name, [row[field.name] for row in rows])
        good: list[list[Any]] = []
        numbers: list[int] = []
        for row, index in zip(rows, kept, strict=True):
            try:
                good.append([self._converted(field.name, row[field.name]) for field in self.fields])
                numbers.append(index)
            except NotAValue as error:
                bad[index] = f"field {error}"
        kept = numbers
        columns = [pa.array([row[place] for row in good], field.type) for place, field in enumerate(self.fields)]
        batch = pa.RecordBatch.from_arrays(columns, schema=arrow_schema(self.fields))
        found, rest, wrong = conform(batch, self.fields, self._first_numbers)
        bad.update({kept[number]: reason for number, reason in wrong.items()})
        return Rows(found, kept if rest is None else [kept[row] for row in rest], bad, taken, why)

    def _converted(self, name: str, value: Any) -> Any:
        try:
            return None if value is None else self._converters[name](value)
        except NotAValue as error:
            raise NotAValue(f"{name!r}{error}") from None


def _has_presence(message: Any, name: str) -> bool:
    described = message.DESCRIPTOR.fields_by_name.get(name)
    return described is not None and bool(described.has_presence)
