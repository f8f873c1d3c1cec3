"""Values of Avro that a schema registry describes: what Flink reads and writes of them, and how columns are made of that.

Flink derives the schema with which it reads from the columns. Avro widens numbers on the way, and looks at no logical types: whole
numbers are read with 64 bits, floats as doubles, and a view gives each column its own type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from streamdsl.flink.quoting import quoted, text
from streamdsl.flink.refusing import Refused
from streamdsl.flink.tables.declared import SinkColumn
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import failing, of_microseconds
from streamdsl.logical.types import is_date, is_decimal, is_float, is_integer, is_list, is_string, is_time
from streamdsl.schema import Field

__all__ = ["read_column", "read_type", "written"]

_BITS_64: Final = (pa.int64(), pa.uint32())
_PLAIN: Final = {"int": "INT", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "boolean": "BOOLEAN", "string": "STRING"}
_NUMBERS: Final = ("int", "long", "float", "double")


def read_type(name: str, type_: pa.DataType, inside: bool = False) -> str:
    """Return the type with which Flink reads a column, or what is inside of one.

    Raises
    ------
    Refused
        Flink reads something else, or something of another value.
    """
    if is_time(type_):
        if type_.unit == "us" and not inside:
            return "BIGINT"  # Flink takes what it reads as a timestamp for milliseconds
        if type_.unit != "ms":
            raise Refused(f"the column {name!r} ({type_}) of Avro", "declare it as pa.timestamp('ms', tz='UTC')")
        return "TIMESTAMP(3)"
    if is_integer(type_):
        if inside and type_ not in (pa.int64(), pa.int32(), pa.uint32()):
            raise Refused(f"the column {name!r} ({type_} inside of another type) of Avro", "declare it as int")
        return "INT" if inside and type_ == pa.int32() else "BIGINT"
    if is_float(type_) and not inside:
        return "DOUBLE"
    if is_list(type_):
        return f"ARRAY<{read_type(name, type_.value_type, True)}>"
    if pa.types.is_struct(type_):
        fields = (type_.field(i) for i in range(type_.num_fields))
        return f"ROW<{', '.join(f'{quoted(one.name)} {read_type(name, one.type, True)}' for one in fields)}>"
    if pa.types.is_map(type_):
        if not is_string(type_.key_type):
            raise Refused(f"the column {name!r} ({type_}) of Avro, whose maps have texts as keys", "declare it as a map of texts")
        return f"MAP<STRING, {read_type(name, type_.item_type, True)}>"
    return flink_type(type_)


def read_column(name: str, type_: pa.DataType) -> str:
    """Return a column of its own type, made of what Flink reads."""
    column, wanted = quoted(name), flink_type(type_)
    if read_type(name, type_) == wanted:
        return column
    if is_time(type_) and type_.unit == "us":
        return of_microseconds(column)
    if is_integer(type_):
        signed = pa.types.is_signed_integer(type_)
        least, most = (-(2 ** (type_.bit_width - 1)), 2 ** (type_.bit_width - 1) - 1) if signed else (0, 2**type_.bit_width - 1)
        lost = failing(f"{name} does not fit {type_}", f"CAST({column} AS STRING)", wanted)
        inside = f"{column} BETWEEN {least} AND {most}" if most < 2**63 else f"{column} >= 0"
        return f"CASE WHEN {inside} THEN CAST({column} AS {wanted}) WHEN {column} IS NOT NULL THEN {lost} END"
    return f"CAST({column} AS {wanted})"


def written(topic: Any, fields: Sequence[Field]) -> list[SinkColumn]:
    """Return the columns of a sink in the order of its Avro schema: Flink writes with that schema where its columns are the same.

    Raises
    ------
    Refused
        There is no schema, it is none of a record, or Flink cannot write a column with it.
    """
    if topic.subject_schema is None:
        raise Refused(f"the topic {topic.topic!r} is written as Avro without a schema", "kafka(..., subject_schema=...)")
    schema = _Schema(topic.topic)
    try:
        record = json.loads(topic.subject_schema)
    except ValueError:
        record = None
    if not isinstance(record, Mapping) or record.get("type") != "record":
        raise Refused(f"the Avro schema of the topic {topic.topic!r} is none of a record", "give subject_schema= one of a record")
    schema.know(record, "")
    known = {field.name: field for field in fields}
    return [schema.column(one, known.get(str(one["name"]))) for one in record["fields"]]


class _Schema:
    """The schema of a topic; it knows the types that were named so far."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._named: dict[str, Any] = {}

    def know(self, schema: Any, space: str) -> None:
        """Remember the types that a schema names."""
        if isinstance(schema, list):
            for one in schema:
                self.know(one, space)
        if not isinstance(schema, dict):
            return
        space = schema.get("namespace", space)
        if "name" in schema:
            self._named[schema["name"]] = self._named[f"{space}.{schema['name']}"] = schema
        for one in schema.get("fields", ()):
            self.know(one["type"], space)
        for part in ("items", "values", "type"):
            self.know(schema.get(part), space)

    def column(self, described: Mapping[str, Any], field: Field | None) -> SinkColumn:
        """Return the column of a field of the schema."""
        name = str(described["name"])
        if field is None:
            return SinkColumn(name, self._type(name, None, described["type"]), self._default(name, described))
        wanted = self._type(name, field.type, described["type"])
        # Flink casts the parts of a row only as if they may be null; that they are not, it looks at when it writes them.
        plain = wanted.replace(" NOT NULL", "")
        return SinkColumn(name, wanted, quoted(name) if plain == flink_type(field.type) else f"CAST({quoted(name)} AS {plain})")

    def _default(self, name: str, described: Mapping[str, Any]) -> str:
        """Return what stands for a column that the rows do not have."""
        wanted = self._type(name, None, described["type"]).removesuffix(" NOT NULL")
        value = described.get("default", described)
        if value is None:
            return f"CAST(NULL AS {wanted})"
        if isinstance(value, bool | int | float) and wanted in _PLAIN.values():
            return f"CAST({str(value).upper()} AS {wanted})"
        if isinstance(value, str) and wanted == "STRING":
            return text(value)
        raise Refused(f"the field {name!r} of the Avro schema of {self.topic!r}: the rows have none", "add the column: with_columns(...)")

    def _type(self, name: str, type_: pa.DataType | None, schema: Any) -> str:
        """Return the type of Flink that is the same as the one of Avro; None as the type fits all."""
        if isinstance(schema, list):
            kinds = [one for one in schema if one != "null"]
            if len(kinds) != 1:
                raise Refused(f"the field {name!r} of the Avro schema of {self.topic!r}: a union of several types", "give it one type")
            found = self._type(name, type_, kinds[0])
            return found.removesuffix(" NOT NULL") if len(schema) > 1 else found
        if isinstance(schema, str):
            schema = self._named.get(schema, {"type": schema})
        return f"{self._plain(name, type_, schema)} NOT NULL"

    def _plain(self, name: str, type_: pa.DataType | None, schema: Mapping[str, Any]) -> str:
        kind, logical = schema["type"], schema.get("logicalType")
        if not isinstance(kind, str):
            return self._type(name, type_, kind).removesuffix(" NOT NULL")
        if kind == "array":
            self._check(name, type_, type_ is None or is_list(type_), kind)
            return f"ARRAY<{self._type(name, None if type_ is None else type_.value_type, schema['items'])}>"
        if kind == "map":
            self._check(name, type_, type_ is None or pa.types.is_map(type_), kind)
            return f"MAP<STRING NOT NULL, {self._type(name, None if type_ is None else type_.item_type, schema['values'])}>"
        if kind == "record":
            return self._record(name, type_, schema)
        if logical == "decimal" and kind == "bytes":
            return self._decimal(name, type_, schema)
        if logical == "timestamp-millis":
            self._check(name, type_, type_ is None or (is_time(type_) and type_.unit in ("s", "ms")), logical)
            return "TIMESTAMP(3)"
        if logical == "date":
            self._check(name, type_, type_ is None or is_date(type_), logical)
            return "DATE"
        if kind in ("enum", "fixed") or (logical is not None and logical != "uuid"):
            said = "Flink does not write it, or not with the same value"
            raise Refused(
                f"the field {name!r} of the Avro schema of {self.topic!r}: {logical or kind}: {said}",
                "take timestamp-millis, date, decimal, bytes or string",
            )
        if kind == "bytes":
            self._check(name, type_, type_ is None or pa.types.is_binary(type_) or pa.types.is_large_binary(type_), kind)
            return "BYTES"
        if kind not in _PLAIN:
            raise Refused(
                f"the field {name!r} of the Avro schema of {self.topic!r}: the type {kind!r}", "write the type itself into the schema"
            )
        self._check(name, type_, type_ is None or _fits(type_, kind), kind)
        return _PLAIN[kind]

    def _record(self, name: str, type_: pa.DataType | None, schema: Mapping[str, Any]) -> str:
        members = {str(one["name"]): one["type"] for one in schema["fields"]}
        same = type_ is None or (pa.types.is_struct(type_) and [type_.field(i).name for i in range(type_.num_fields)] == [*members])
        self._check(name, type_, same, "record of other fields, or of another order")
        types = {one: None if type_ is None else type_.field(one).type for one in members}
        return f"ROW<{', '.join(f'{quoted(one)} {self._type(name, types[one], kind)}' for one, kind in members.items())}>"

    def _decimal(self, name: str, type_: pa.DataType | None, schema: Mapping[str, Any]) -> str:
        precision, scale = int(schema["precision"]), int(schema.get("scale", 0))
        room = type_ is None or (is_decimal(type_) and scale >= type_.scale and precision - scale >= type_.precision - type_.scale)
        self._check(name, type_, room, f"decimal of {precision} digits, {scale} of them behind the point")
        return f"DECIMAL({precision}, {scale})"

    def _check(self, name: str, type_: pa.DataType | None, fits: bool, kind: str) -> None:
        if not fits:
            raise Refused(
                f"the field {name!r} of the Avro schema of {self.topic!r}: {kind} for values of {type_}",
                "cast(...) the column to that type",
            )


def _fits(type_: pa.DataType, kind: str) -> bool:
    if is_integer(type_):
        return type_ != pa.uint64() and kind in (_NUMBERS[1:] if type_ in _BITS_64 else _NUMBERS)
    if is_float(type_):
        return kind in ("float", "double")
    return kind == ("boolean" if pa.types.is_boolean(type_) else "string" if is_string(type_) else "")
