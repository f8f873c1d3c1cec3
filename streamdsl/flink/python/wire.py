"""Values between Flink and Python: what Flink hands over exactly, and how each side makes its own value of it.

Whole numbers, floats, texts, bytes and booleans go as they are. Times go as milliseconds and dates as days, since Flink's own
conversion is that of Java's calendars; decimals go as text. Lists, structs and maps of plain values go as they are.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from streamdsl.flink.refusing import Refused
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value, as_type
from streamdsl.logical.types import INT, is_date, is_decimal, is_float, is_integer, is_list, is_string, is_time

__all__ = ["Decoder", "Wire", "decoder", "encoder", "wire"]

Decoder = Callable[[Any], Any]

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_EPOCH_DAY: Final = datetime.date(1970, 1, 1).toordinal()
_MILLISECOND: Final = datetime.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Wire:
    """How a column goes between the two.

    Attributes
    ----------
    sql : str
        The type of Flink in which it goes.
    """

    type: pa.DataType
    sql: str

    def given(self, value: Value) -> str:
        """Return a value of Flink as it goes to Python."""
        type_ = self.type
        if is_time(type_) or is_date(type_):
            return as_type(value, INT).text
        if is_decimal(type_) or type_ == pa.uint64():
            return f"CAST({value.text} AS STRING)"
        return value.text if self.sql == flink_type(type_) else f"CAST({value.text} AS {self.sql})"

    def taken(self, text: str) -> str:
        """Return what has come from Python as a value of Flink."""
        type_ = self.type
        if is_time(type_) or is_date(type_):
            return as_type(Value(text, INT), type_).text
        return text if self.sql == flink_type(type_) else f"CAST({text} AS {flink_type(type_)})"


def wire(name: str, type_: pa.DataType) -> Wire:
    """Return how a column goes between Flink and Python.

    Raises
    ------
    Refused
        Flink has no such values, or does not hand them over exactly.
    """
    if is_time(type_) and (type_.unit not in ("s", "ms") or type_.tz not in (None, "UTC")):
        raise Refused(f"the column {name!r} ({type_}) of a Python function", "cast it to pa.timestamp('ms', tz='UTC')")
    if is_time(type_) or is_date(type_) or (is_integer(type_) and type_ != pa.uint64()):
        return Wire(type_, "BIGINT")
    if is_decimal(type_) or type_ == pa.uint64():
        return Wire(type_, "STRING")
    if is_float(type_):
        return Wire(type_, "DOUBLE")
    if pa.types.is_nested(type_):
        _check_items(name, type_)
    return Wire(type_, flink_type(type_))


def _check_items(name: str, type_: pa.DataType) -> None:
    for item in _items(type_):
        if pa.types.is_nested(item):
            _check_items(name, item)
        elif is_time(item) or is_date(item) or is_decimal(item) or item == pa.uint64() or not _plain(item):
            raise Refused(
                f"the column {name!r} ({type_}) of a Python function: {item} inside of a list, struct or map",
                "make a column of it, or a list of int, float, str or bool",
            )


def _plain(type_: pa.DataType) -> bool:
    return is_integer(type_) or is_float(type_) or is_string(type_) or pa.types.is_boolean(type_) or pa.types.is_binary(type_)


def _items(type_: pa.DataType) -> list[pa.DataType]:
    if pa.types.is_struct(type_):
        return [type_.field(i).type for i in range(type_.num_fields)]
    if pa.types.is_map(type_):
        return [type_.key_type, type_.item_type]
    return [type_.value_type]


def decoder(type_: pa.DataType) -> Decoder | None:
    """Return what makes the value that a row shows of what has come from Flink; None where it is that already."""
    if is_time(type_):
        # Seconds come as milliseconds as well.
        return lambda value: _EPOCH + value * _MILLISECOND
    if is_date(type_):
        return lambda value: datetime.date.fromordinal(value + _EPOCH_DAY)
    if is_decimal(type_):
        return decimal.Decimal
    if type_ == pa.uint64():
        return int
    return _nested(type_, decoder, _struct_of) if pa.types.is_nested(type_) else None


def encoder(type_: pa.DataType, row: Callable[..., Any]) -> Decoder | None:
    """Return what makes what goes to Flink of a checked value; `row` makes a struct of its fields."""
    if is_time(type_):
        return lambda value: (value - _EPOCH) // _MILLISECOND
    if is_date(type_):
        return lambda value: value.toordinal() - _EPOCH_DAY
    if is_decimal(type_):
        return lambda value: format(value, "f")
    if type_ == pa.uint64():
        return str
    return _nested(type_, lambda item: encoder(item, row), lambda names, value: row(*(value[name] for name in names)))


def _struct_of(names: list[str], value: Any) -> dict[str, Any]:
    return dict(zip(names, value, strict=True))


def _nested(type_: pa.DataType, of: Callable[[pa.DataType], Decoder | None], struct: Callable[[list[str], Any], Any]) -> Decoder | None:
    """Return what converts nested values from the inside out: their items by `of`, then structs by `struct`."""
    if pa.types.is_struct(type_):
        names = [type_.field(i).name for i in range(type_.num_fields)]
        parts = [_or_null(of(type_.field(i).type)) for i in range(type_.num_fields)]
        return lambda value: _converted(names, parts, struct, value)
    if pa.types.is_map(type_):
        key, item = _or_null(of(type_.key_type)), _or_null(of(type_.item_type))
        return lambda value: {key(name): item(one) for name, one in value.items()}
    if is_list(type_):
        each = _or_null(of(type_.value_type))
        return lambda value: [each(one) for one in value]
    return None


def _converted(names: list[str], parts: list[Decoder], struct: Callable[[list[str], Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return struct(names, {name: part(value[name]) for name, part in zip(names, parts, strict=True)})
    return struct(names, [part(one) for part, one in zip(parts, value, strict=True)])


def _or_null(convert: Decoder | None) -> Decoder:
    if convert is None:
        return lambda value: value
    return lambda value: None if value is None else convert(value)
