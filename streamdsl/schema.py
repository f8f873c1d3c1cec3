"""Schema: the columns of a stream, their types, whether they may be null."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Union

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl.errors import TopologyError

__all__ = ["DEAD_LETTER_SCHEMA", "Field", "Schema", "nearest", "type_of"]

_PYTHON_TYPES: Final[dict[Any, pa.DataType]] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime.datetime: pa.timestamp("ms", tz="UTC"),
    datetime.date: pa.date32(),
    decimal.Decimal: pa.decimal128(38, 9),
}

_TYPE_NAMES: Final[dict[str, pa.DataType]] = {
    "bool": pa.bool_(),
    "boolean": pa.bool_(),
    "int": pa.int64(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
    "float": pa.float64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "double": pa.float64(),
    "str": pa.string(),
    "string": pa.string(),
    "bytes": pa.binary(),
    "binary": pa.binary(),
    "timestamp": pa.timestamp("ms", tz="UTC"),
    "datetime": pa.timestamp("ms", tz="UTC"),
    "date": pa.date32(),
    "date32": pa.date32(),
}


def type_of(value: Any) -> pa.DataType:
    """Return the logical type meant by a Python type, a pyarrow type or a name such as ``"int64"``.

    Raises
    ------
    TopologyError
        Nothing of the kind is known.
    """
    if isinstance(value, pa.DataType):
        return value
    if isinstance(value, str):
        if value in _TYPE_NAMES:
            return _TYPE_NAMES[value]
        raise TopologyError(f"unknown type {value!r}", remedy=_suggestion(value, _TYPE_NAMES))
    if isinstance(value, type) and value in _PYTHON_TYPES:
        return _PYTHON_TYPES[value]
    origin = typing.get_origin(value)
    if origin in (list, Sequence):
        (item,) = typing.get_args(value)
        return pa.list_(type_of(item))
    if dataclasses.is_dataclass(value):
        return pa.struct([pa.field(f.name, f.type, f.nullable) for f in Schema.of(value).fields])
    raise TopologyError(
        f"{value!r} is not a column type",
        remedy="use int, float, str, bool, bytes, datetime, date, Decimal, list[T], a pyarrow type or its name",
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, if any is close."""
    candidates = list(known)
    folded = {candidate.lower(): candidate for candidate in candidates}
    if name.lower() in folded:
        return folded[name.lower()]
    found = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    return found[0] if found else None


def _suggestion(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = nearest(name, names)
    listed = f"known: {', '.join(names) or 'none'}"
    return f"did you mean {near!r}? {listed}" if near else listed


@dataclass(frozen=True, slots=True)
class Field:
    """One column. Hidden columns exist at run time but are not part of what the user sees or writes.

    `default` stands where an input has no value; without one, a column that is not nullable has to be there.
    """

    name: str
    type: pa.DataType
    nullable: bool = True
    hidden: bool = False
    # Of inputs alone: columns that differ in it are the same columns.
    default: Any = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def required(self) -> bool:
        """Whether each record of an input must have a value."""
        return not self.nullable and self.default is None

    def filled(self, column: pa.Array) -> pa.Array:
        """Return `column` with the default in the place of nulls, if there is one."""
        if self.default is None or not column.null_count:
            return column
        default = pa.scalar(self.default, column.type)
        return pc.if_else(column.is_valid(), column, default)

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + ("" if self.nullable else " not null")


@dataclass(frozen=True, slots=True)
class Schema:
    """Columns of a stream, in order. A value: every method returns a new one.

    Examples
    --------
    >>> Schema.of({"account": str, "amount": float}).names
    ('account', 'amount')
    """

    fields: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for field in self.fields:
            if not field.name:
                raise TopologyError("a column needs a name")
            if field.name in seen:
                raise TopologyError(f"column {field.name!r} exists twice", remedy="rename one of them")
            seen.add(field.name)

    @classmethod
    def of(cls, value: Any) -> Schema:
        """Make a schema of a dataclass, a `pyarrow.Schema`, a mapping name → type, or a `Schema`.

        ``str`` (in a mapping ``"string"`` too) is never null, ``str | None`` may be null. A field of a dataclass with a default
        need not be in an input: the default stands in its place. A `pyarrow.Schema` says itself which columns may be null.
        """
        if isinstance(value, Schema):
            return value
        if isinstance(value, pa.Schema):
            return cls(tuple(Field(f.name, f.type, f.nullable) for f in value))
        if isinstance(value, Mapping):
            return cls(tuple(_field(name, type_, nullable=False) for name, type_ in value.items()))
        if dataclasses.is_dataclass(value):
            owner = value if isinstance(value, type) else type(value)
            hints = typing.get_type_hints(owner)
            return cls(tuple(_with_default(_field(f.name, hints[f.name], nullable=False), f) for f in dataclasses.fields(value)))
        raise TopologyError(
            f"{value!r} is not a schema",
            remedy="give a dataclass, a pyarrow.Schema, or a mapping of column names to types",
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All column names, hidden ones included."""
        return tuple(field.name for field in self.fields)

    def __contains__(self, name: object) -> bool:
        return any(field.name == name for field in self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def index(self, name: str) -> int:
        """Return the position of a column.

        Raises
        ------
        TopologyError
            No such column; names the known ones and the nearest.
        """
        for position, field in enumerate(self.fields):
            if field.name == name:
                return position
        shown = [field.name for field in self.fields if not field.hidden] or list(self.names)
        raise TopologyError(f"unknown column {name!r}", remedy=_suggestion(name, shown), column=name)

    def field(self, name: str) -> Field:
        """Return a column; raises as `index`."""
        return self.fields[self.index(name)]

    def with_fields(self, *fields: Field) -> Schema:
        """Return the schema with fields replaced in place (same name) or appended."""
        new = {field.name: field for field in fields}
        kept = [new.pop(field.name, field) for field in self.fields]
        return Schema((*kept, *new.values()))

    def select(self, names: Iterable[str]) -> Schema:
        """Return the schema of these columns, in this order."""
        return Schema(tuple(self.field(name) for name in names))

    def drop(self, names: Iterable[str]) -> Schema:
        """Return the schema without these columns; each must exist."""
        gone = set(names)
        for name in gone:
            self.index(name)
        return Schema(tuple(field for field in self.fields if field.name not in gone))

    def visible(self) -> Schema:
        """Return the schema without hidden columns."""
        return Schema(tuple(field for field in self.fields if not field.hidden))

    def to_arrow(self) -> pa.Schema:
        """Return all columns as a `pyarrow.Schema`."""
        return pa.schema([pa.field(field.name, field.type, field.nullable) for field in self.fields])

    def __str__(self) -> str:
        return ", ".join(str(field) for field in self.fields)


def _field(name: str, annotation: Any, *, nullable: bool) -> Field:
    if not isinstance(name, str):
        raise TopologyError(f"column names are strings, not {name!r}")
    if isinstance(annotation, Field):
        return dataclasses.replace(annotation, name=name)
    if isinstance(annotation, pa.Field):
        return Field(name, annotation.type, annotation.nullable)
    if isinstance(annotation, str) and annotation.replace(" ", "").endswith("|None"):
        annotation, nullable = annotation.rpartition("|")[0].strip(), True
    if typing.get_origin(annotation) in (Union, types.UnionType):
        inner = [item for item in typing.get_args(annotation) if item is not type(None)]
        if len(inner) != 1 or len(inner) == len(typing.get_args(annotation)):
            raise TopologyError(f"column {name!r}: only `T | None` is a possible union, not {annotation!r}")
        annotation, nullable = inner[0], True
    try:
        return Field(name, type_of(annotation), nullable)
    except TopologyError as error:
        raise TopologyError(f"column {name!r}: {error.message}", remedy=error.remedy) from None


def _with_default(field: Field, declared: dataclasses.Field[Any]) -> Field:
    """Return `field` with the default of a dataclass's field, which must be one of its values."""
    default = declared.default
    if declared.default_factory is not dataclasses.MISSING:
        default = declared.default_factory()
    if default is dataclasses.MISSING or default is None:
        if default is None and not field.nullable:
            raise TopologyError(
                f"column {field.name!r} is never null, and its default is None", remedy=f"declare it as `{field.name}: ... | None = None`"
            )
        return field
    if field.nullable:
        raise TopologyError(
            f"column {field.name!r} may be null, and its default is {default!r}: what a null in an input means is not clear",
            remedy="leave `| None` out (nulls become the default), or leave the default out (they stay null)",
        )
    try:
        pa.scalar(default, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError):
        raise TopologyError(f"column {field.name!r}: its default {default!r} is not {field.type}") from None
    return dataclasses.replace(field, default=default)


#: What a dead letter looks like.
DEAD_LETTER_SCHEMA: Final = Schema(
    (
        Field("value", pa.binary()),
        Field("error", pa.string()),
        Field("operator", pa.string()),
        Field("topic", pa.string()),
        Field("partition", pa.int64()),
        Field("offset", pa.int64()),
        Field("timestamp", pa.timestamp("ms", tz="UTC")),
    )
)
