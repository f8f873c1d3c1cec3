"""Rows to values that a schema registry describes."""

from __future__ import annotations

import decimal
from collections.abc import Container
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.flow.convert import python_rows
from streamdsl.connectors.kafka.registry import away, refused, serializer
from streamdsl.connectors.kafka.topic import Topic
from streamdsl.errors import ConnectorError, DataError

__all__ = ["SerializedValues"]

_EXACT: Final = decimal.Context(prec=100)


class SerializedValues:
    """Makes values of rows, by a serializer of confluent-kafka; the first one registers the schema."""

    def __init__(self, described: Topic) -> None:
        self._described = described
        self._serialize = serializer(described)
        from confluent_kafka.serialization import MessageField, SerializationContext

        self._context = SerializationContext(described.topic, MessageField.VALUE)

    def values(self, rows: pa.RecordBatch, gone: Container[int] = frozenset()) -> list[bytes | None]:
        """Return the value of each row; rows with a number among `gone` have none.

        Raises
        ------
        DataError
            A row does not fit the schema.
        ConnectorError
            The registry refuses the schema, or does not answer.
        """
        return [None if number in gone else self._serialized(row) for number, row in enumerate(_rows_to_serialize(rows))]

    def _serialized(self, row: dict[str, Any]) -> bytes:
        try:
            return bytes(self._serialize(row, self._context))
        except Exception as error:
            why = refused(error, writing=True)
            if why is not None:
                raise ConnectorError(
                    f"writing to {self._described.topic!r}: the schema registry refuses: {why}",
                    remedy="check the user, the password and the rights in registry=, and subject_schema= or message=",
                ) from error
            found = away(error)
            if found is not None:
                raise ConnectorError(
                    f"writing to {self._described.topic!r}: the schema registry does not answer: {found.why}",
                    remedy="it is tried again; what was committed stays",
                    recoverable=True,
                ) from error
            raise DataError(
                f"a row cannot be written to {self._described.topic!r} as {self._described.format}: {type(error).__name__}: {error}",
                remedy="make the columns those of the schema",
            ) from error


def _rows_to_serialize(rows: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return rows as serializers take them.

    Maps are dicts, and decimals end in no zeros behind the point: Avro's refuses more digits than its schema has.
    """
    found = python_rows(rows)
    wanted = {field.name: field.type for field in rows.schema if _is_rewritten(field.type)}
    for row in found if wanted else ():
        row.update({name: _to_serialize(row[name], type_) for name, type_ in wanted.items()})
    return found


def _is_rewritten(type_: pa.DataType) -> bool:
    if pa.types.is_nested(type_):
        return bool(pa.types.is_map(type_)) or any(_is_rewritten(type_.field(i).type) for i in range(type_.num_fields))
    return bool(pa.types.is_decimal(type_))


def _to_serialize(value: Any, type_: pa.DataType) -> Any:
    if value is None or not _is_rewritten(type_):
        return value
    if pa.types.is_map(type_):
        return {_to_serialize(key, type_.key_type): _to_serialize(item, type_.item_type) for key, item in value}
    if pa.types.is_struct(type_):
        return {name: _to_serialize(item, type_.field(name).type) for name, item in value.items()}
    if isinstance(value, list):
        return [_to_serialize(item, type_.value_type) for item in value]
    short = value.normalize(_EXACT)
    return short if short.as_tuple().exponent <= 0 else short.quantize(1, context=_EXACT)
