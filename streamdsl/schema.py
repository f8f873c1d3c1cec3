"""Schema: the columns of a stream, their types, whether they may be null."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import difflib
import enum
import types
import typing
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Union

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl.errors import TopologyError
from streamdsl.records import Declared, declared_fields, polars_schema, polars_type

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


_AS_READ: Final[dict[pa.DataType, pa.DataType]] = {
    pa.string_view(): pa.string(),
    pa.binary_view(): pa.binary(),
    pa.float16(): pa.float32(),
}


def type_of(value: Any) -> pa.DataType:
    """Return the logical type meant by a Python type, a pyarrow type or a name such as ``"int64"``.

    Raises
    ------
    TopologyError
        Nothing of the kind is known.
    """
    if isinstance(value, pa.DataType):
        return _as_read(value)
    if isinstance(value, str):
        if value in _TYPE_NAMES:
            return _TYPE_NAMES[value]
        raise TopologyError(f"unknown type {value!r}", remedy=_suggestion(value, _TYPE_NAMES))
    if isinstance(value, type) and value in _PYTHON_TYPES:
        return _PYTHON_TYPES[value]
    polars = polars_type(value)
    if polars is not None:
        return polars
    found = _composed(value) if typing.get_origin(value) is not None else _of_class(value)
    if found is not None:
        return found
    raise TopologyError(f"{value!r} is not a column type", remedy=_remedy(value))


_ANY_TYPE: Final = (
    "use int, float, str, bool, bytes, datetime, date, Decimal, an Enum, UUID, Literal, a dataclass, list[T], dict[str, T], "
    "a pyarrow type or its name"
)
_REMEDIES: Final[dict[Any, str]] = {
    list: "say of what: list[str]",
    tuple: "say of what: tuple[str, ...]",
    dict: "say of what: dict[str, int]",
    set: "a set has no order: use list[T]",
    frozenset: "a set has no order: use list[T]",
    datetime.time: "use str (ISO 8601), or int for microseconds of the day",
    datetime.timedelta: "use int for milliseconds",
    complex: "use two floats",
    Any: "a column has one type: use str for JSON text",
    object: "a column has one type: use str for JSON text",
}


def _remedy(value: Any) -> str:
    try:
        return _REMEDIES.get(value, _ANY_TYPE)
    except TypeError:  # it cannot be hashed
        return _ANY_TYPE


def _composed(value: Any) -> pa.DataType | None:
    """Return the type of an annotation with arguments."""
    origin, given = typing.get_origin(value), typing.get_args(value)
    if origin is typing.Annotated:
        # Annotated[Decimal, pa.decimal128(18, 2)] says exactly which.
        exact = [item for item in given[1:] if isinstance(item, pa.DataType)]
        return exact[0] if exact else type_of(given[0])
    if origin is typing.Literal:
        return _of_values(value, given)
    if origin in (typing.Required, typing.NotRequired, typing.Final):
        return type_of(given[0])
    if origin in (list, Sequence):
        return pa.list_(_inner(given[0], "item"))
    if origin is tuple and len(given) == 2 and given[1] is Ellipsis:
        return pa.list_(_inner(given[0], "item"))
    if origin is tuple:
        raise TopologyError(f"{value!r} is not a column type", remedy="use a dataclass or a NamedTuple; tuple[T, ...] is a list")
    if origin in (dict, Mapping):
        key = _inner(given[0], "key")
        return pa.map_(key.type, _inner(given[1], "value"))
    if origin in (set, frozenset):
        raise TopologyError(f"{value!r} is not a column type", remedy=_REMEDIES[set])
    return None


def _inner(annotation: Any, name: str) -> pa.Field:
    found = _field(name, annotation, nullable=True)
    return pa.field(name, found.type, found.nullable)


def _of_class(value: Any) -> pa.DataType | None:
    """Return the type of a class: an enum's is that of its values, a record's a struct."""
    if isinstance(value, typing.NewType):
        return type_of(value.__supertype__)
    if not isinstance(value, type):
        return None
    if value is uuid.UUID:
        return pa.string()
    if issubclass(value, enum.Enum):
        return _of_values(value, [member.value for member in value])
    if dataclasses.is_dataclass(value) or typing.is_typeddict(value) or _is_named_tuple(value) or declared_fields(value) is not None:
        return pa.struct([pa.field(f.name, f.type, f.nullable) for f in Schema.of(value).fields])
    return None


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields") and bool(value.__annotations__)


def _of_values(value: Any, values: Iterable[Any]) -> pa.DataType:
    kinds = {type(item.value if isinstance(item, enum.Enum) else item) for item in values} - {type(None)}
    if len(kinds) != 1 or next(iter(kinds)) not in _PYTHON_TYPES:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise TopologyError(
            f"{value!r} has values of the types {shown}", remedy="a column has one type: give all of them texts, or integers"
        )
    return _PYTHON_TYPES[kinds.pop()]


def _as_read(type_: pa.DataType) -> pa.DataType:
    """Return the type of the values where a type says only how they lie in memory: a dictionary of texts is text; also inside others."""
    if pa.types.is_dictionary(type_):
        return _as_read(type_.value_type)
    if pa.types.is_struct(type_):
        return pa.struct([_inner_as_read(type_.field(i)) for i in range(type_.num_fields)])
    if pa.types.is_map(type_):
        return pa.map_(_inner_as_read(type_.key_field), _inner_as_read(type_.item_field), type_.keys_sorted)
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(_inner_as_read(type_.value_field), type_.list_size)
    if pa.types.is_list(type_):
        return pa.list_(_inner_as_read(type_.value_field))
    if pa.types.is_large_list(type_):
        return pa.large_list(_inner_as_read(type_.value_field))
    if pa.types.is_fixed_size_binary(type_) and not pa.types.is_decimal(type_):
        return pa.binary()
    return _AS_READ.get(type_, type_)


def _inner_as_read(field: pa.Field) -> pa.Field:
    return field.with_type(_as_read(field.type))


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

    Examples
    --------
    >>> Schema.of({"age": "int | None"}).field("age")
    Field(name='age', type=DataType(int64), nullable=True, hidden=False)
    >>> import pyarrow as pa
    >>> print(Field("age", pa.int8(), nullable=False))
    age: int8 not null
    >>> Field("age", pa.int8(), default=0).filled(pa.array([None, 7], pa.int8())).to_pylist()
    [0, 7]
    """

    name: str
    type: pa.DataType
    nullable: bool = True
    hidden: bool = False
    # Of inputs alone: columns that differ in it are the same columns.
    default: Any = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def required(self) -> bool:
        """Whether each record of an input must have a value.

        Examples
        --------
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Order:
        ...     id: int
        ...     note: str | None
        ...     currency: str = "EUR"
        >>> [(field.name, field.required) for field in Schema.of(Order).fields]
        [('id', True), ('note', False), ('currency', False)]
        """
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
    >>> import pyarrow as pa
    >>> orders = Schema.of({"id": int, "at": "timestamp", "note": "str | None"})
    >>> print(orders.select(["note", "id"]), "|", orders.drop(["at"]), "|", orders.field("note"), "|", orders.index("at"))
    note: string, id: int64 not null | id: int64 not null, note: string | note: string | 1
    >>> wider = orders.with_fields(*Schema.of({"id": str}).fields, Field("_n", pa.int64(), hidden=True))
    >>> wider.names, wider.visible().names, wider.visible().to_arrow().field("id").type
    (('id', 'at', 'note', '_n'), ('id', 'at', 'note'), DataType(string))
    >>> orders.field("AT")
    Traceback (most recent call last):
        ...
    streamdsl.errors.TopologyError: unknown column 'AT'
      did you mean 'at'? known: id, at, note
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
        """Make a schema of a class of records, a `pyarrow.Schema`, a mapping name → type, a Polars schema, or a `Schema`.

        Classes of records are dataclasses, `TypedDict`, `NamedTuple`, pydantic models, attrs classes and msgspec Structs.

        ``str`` (in a mapping ``"string"`` too) is never null, ``str | None`` may be null. A field of a dataclass with a default
        need not be in an input: the default stands in its place. A `pyarrow.Schema` says itself which columns may be null.

        Examples
        --------
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Order:
        ...     id: int
        ...     note: str | None
        ...     tags: list[str]
        >>> print(Schema.of(Order))
        id: int64 not null, note: string, tags: list<item: string> not null
        """
        if isinstance(value, Schema):
            return value
        if isinstance(value, pa.Schema):
            return cls(tuple(Field(f.name, type_of(f.type), f.nullable) for f in value))
        arrow = polars_schema(value)
        if arrow is None and hasattr(value, "__arrow_c_schema__") and not isinstance(value, pa.DataType | pa.Field):
            arrow = pa.schema(value)
        if arrow is not None:
            return cls.of(arrow)
        if isinstance(value, Mapping):
            return cls(tuple(_field(name, type_, nullable=False) for name, type_ in value.items()))
        if dataclasses.is_dataclass(value):
            owner = value if isinstance(value, type) else type(value)
            hints = typing.get_type_hints(owner, include_extras=True)
            return cls(tuple(_with_default(_field(f.name, hints[f.name], nullable=False), f) for f in dataclasses.fields(value)))
        if typing.is_typeddict(value) or _is_named_tuple(value):
            hints = typing.get_type_hints(value, include_extras=True)
            optional: frozenset[str] = getattr(value, "__optional_keys__", frozenset())
            return cls(tuple(_field(name, hints[name], nullable=name in optional) for name in hints))
        declared = declared_fields(value if isinstance(value, type) else type(value))
        if declared is not None:
            return cls(tuple(_with_default(_field(one.name, one.annotation, nullable=False), one) for one in declared))
        raise TopologyError(
            f"{value!r} is not a schema",
            remedy="give a dataclass or another class of records, a pyarrow.Schema, or a mapping of column names to types",
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
        return Field(name, type_of(annotation.type), annotation.nullable)
    if isinstance(annotation, str) and annotation.replace(" ", "").endswith("|None"):
        annotation, nullable = annotation.rpartition("|")[0].strip(), True
    if typing.get_origin(annotation) is typing.Annotated and typing.get_origin(typing.get_args(annotation)[0]) in (Union, types.UnionType):
        union, *notes = typing.get_args(annotation)
        if type(None) in typing.get_args(union) and len(typing.get_args(union)) == 2:
            (kept,) = [item for item in typing.get_args(union) if item is not type(None)]
            annotation, nullable = typing.Annotated[(kept, *notes)], True
    if typing.get_origin(annotation) is typing.Literal and None in typing.get_args(annotation):
        nullable = True
    if typing.get_origin(annotation) in (Union, types.UnionType):
        inner = [item for item in typing.get_args(annotation) if item is not type(None)]
        if len(inner) != 1 or len(inner) == len(typing.get_args(annotation)):
            raise TopologyError(f"column {name!r}: only `T | None` is a possible union, not {annotation!r}")
        annotation, nullable = inner[0], True
    try:
        return Field(name, type_of(annotation), nullable)
    except TopologyError as error:
        raise TopologyError(f"column {name!r}: {error.message}", remedy=error.remedy) from None


def _plain_default(value: Any) -> Any:
    """Return the value that an enum's member, a UUID or a dataclass stands for in a column."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, uuid.UUID):
        return str(value)
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _with_default(field: Field, declared: dataclasses.Field[Any] | Declared) -> Field:
    """Return `field` with the default of a dataclass's field, which must be one of its values."""
    default = declared.default
    if declared.default_factory is not dataclasses.MISSING:
        default = declared.default_factory()
    default = _plain_default(default)
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
