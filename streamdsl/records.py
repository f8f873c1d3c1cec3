"""What classes of other libraries declare: pydantic, attrs, msgspec. None is imported: a class says by itself what it is."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

__all__ = ["Declared", "declared_fields", "polars_schema", "polars_type", "values_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """One field of a class; `default` and `default_factory` are `dataclasses.MISSING` where there is none."""

    name: str
    annotation: Any
    default: Any = dataclasses.MISSING
    default_factory: Any = dataclasses.MISSING


def declared_fields(cls: Any) -> list[Declared] | None:
    """Return the fields of a pydantic model, an attrs class or a msgspec Struct; None: it is none of these.

    Examples
    --------
    >>> declared_fields(int) is None
    True
    """
    if not isinstance(cls, type):
        return None
    if isinstance(getattr(cls, "__pydantic_fields__", None), Mapping):
        return _pydantic(cls)
    if isinstance(getattr(cls, "__attrs_attrs__", None), tuple):
        return _attrs(cls)
    if isinstance(getattr(cls, "__struct_fields__", None), tuple):
        return _msgspec(cls)
    return None


def values_of(row: Any) -> dict[str, Any] | None:
    """Return the fields of an instance of such a class, a dataclass or a named tuple; None: it is none of these."""
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {item.name: getattr(row, item.name) for item in dataclasses.fields(row)}
    if isinstance(row, tuple) and hasattr(row, "_fields"):
        return dict(zip(row._fields, row, strict=True))
    fields = declared_fields(type(row))
    return None if fields is None else {field.name: getattr(row, field.name) for field in fields}


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _default(default: Any, *missing: str) -> Any:
    """Return a default, MISSING where the library has a sign of its own for that."""
    return dataclasses.MISSING if default is Ellipsis or repr(default) in missing else default


def _pydantic(cls: Any) -> list[Declared]:
    hints = _hints(cls)
    return [
        Declared(
            name,
            hints.get(name, info.annotation),
            _default(info.default, "PydanticUndefined"),
            info.default_factory if info.default_factory is not None else dataclasses.MISSING,
        )
        for name, info in cls.__pydantic_fields__.items()
    ]


def _attrs(cls: Any) -> list[Declared]:
    hints = _hints(cls)
    found = []
    for attribute in cls.__attrs_attrs__:
        default = _default(attribute.default, "NOTHING")
        factory = getattr(default, "factory", None)
        if factory is not None:
            # What a factory that takes the instance would give nobody knows without one.
            default = dataclasses.MISSING
            factory = None if attribute.default.takes_self else factory
        annotation = hints.get(attribute.name, attribute.type)
        found.append(Declared(attribute.name, annotation, default, dataclasses.MISSING if factory is None else factory))
    return found


def _msgspec(cls: Any) -> list[Declared]:
    hints, names, defaults = _hints(cls), cls.__struct_fields__, cls.__struct_defaults__
    missing = (dataclasses.MISSING,) * (len(names) - len(defaults))
    found = []
    for name, default in zip(names, (*missing, *defaults), strict=True):
        factory = getattr(default, "factory", None)
        value = dataclasses.MISSING if factory is not None else _default(default, "NODEFAULT", "<msgspec.NODEFAULT>")
        found.append(Declared(name, hints[name], value, dataclasses.MISSING if factory is None else factory))
    return found


# ---------------------------------------------------------------------------------------------------- Polars


def _of_polars(value: Any) -> Any:
    """Return the module of Polars if `value` is its, else None."""
    module = (value if isinstance(value, type) else type(value)).__module__
    return sys.modules.get("polars") if module.partition(".")[0] == "polars" else None


def polars_schema(value: Any) -> pa.Schema | None:
    """Return the Arrow schema of a Polars Schema or frame; None: it is none."""
    polars = _of_polars(value)
    if polars is None:
        return None
    if isinstance(value, polars.LazyFrame):
        value = value.collect_schema()
    elif isinstance(value, polars.DataFrame):
        value = value.schema
    if not isinstance(value, Mapping):
        return None
    return pa.schema([pa.field(name, polars_type(type_)) for name, type_ in value.items()])


def polars_type(value: Any) -> pa.DataType | None:
    """Return the Arrow type of a Polars data type; None: it is none."""
    polars = _of_polars(value)
    if polars is None or not (isinstance(value, polars.DataType) or (isinstance(value, type) and issubclass(value, polars.DataType))):
        return None
    return _usual(polars.Series([], dtype=value).to_arrow().type)


def _usual(type_: pa.DataType) -> pa.DataType:
    """Return a type without the large offsets and views that Polars gives to all texts and lists."""
    if pa.types.is_large_string(type_) or type_ == pa.string_view():
        return pa.string()
    if pa.types.is_large_binary(type_) or type_ == pa.binary_view():
        return pa.binary()
    if pa.types.is_dictionary(type_):
        return _usual(type_.value_type)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return pa.list_(pa.field("item", _usual(type_.value_type), type_.value_field.nullable))
    if pa.types.is_struct(type_):
        fields = [type_.field(i) for i in range(type_.num_fields)]
        return pa.struct([pa.field(field.name, _usual(field.type), field.nullable) for field in fields])
    return type_
