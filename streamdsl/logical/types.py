"""Type rules: which types meet, and the casts that make them meet."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from streamdsl.errors import TopologyError
from streamdsl.logical.expression import Typed

__all__ = [
    "BOOL",
    "DAY_MS",
    "FLOAT",
    "INT",
    "INTEGER_RANGES",
    "TEXT",
    "TIMESTAMP",
    "UINT",
    "common_type",
    "convert",
    "is_integer",
    "is_number",
    "is_ordered",
    "is_passed_through",
    "is_text",
    "is_time",
    "literal",
    "literal_of",
    "require_supported",
    "retyped",
]

BOOL: Final = pa.bool_()
INT: Final = pa.int64()
UINT: Final = pa.uint64()
FLOAT: Final = pa.float64()
TEXT: Final = pa.string()
NULL: Final = pa.null()
TIMESTAMP: Final = pa.timestamp("ms", tz="UTC")
DAY_MS: Final = 86_400_000

#: Ranges of the integer types narrower than their run-time form.
INTEGER_RANGES: Final[dict[str, tuple[int, int]]] = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint8": (0, 2**8 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
}

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS: Final = datetime.timedelta(milliseconds=1)


def is_integer(type_: pa.DataType) -> bool:
    """Tell whether the type is a whole number."""
    return bool(pa.types.is_integer(type_))


def is_float(type_: pa.DataType) -> bool:
    """Tell whether the type is a floating-point number."""
    return bool(pa.types.is_floating(type_))


def is_number(type_: pa.DataType) -> bool:
    """Tell whether one can calculate with the type."""
    return is_integer(type_) or is_float(type_)


def is_time(type_: pa.DataType) -> bool:
    """Tell whether the type is a timestamp."""
    return bool(pa.types.is_timestamp(type_))


def is_string(type_: pa.DataType) -> bool:
    """Tell whether the type is text."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def is_binary(type_: pa.DataType) -> bool:
    """Tell whether the type is bytes."""
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def is_text(type_: pa.DataType) -> bool:
    """Tell whether the type is text or bytes."""
    return is_string(type_) or is_binary(type_)


def is_list(type_: pa.DataType) -> bool:
    """Tell whether values of the type are lists."""
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def is_passed_through(type_: pa.DataType) -> bool:
    """Tell whether values of the type are only carried, as text (decimal, list, struct, map)."""
    return bool(
        pa.types.is_decimal(type_)
        or pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
        or pa.types.is_struct(type_)
        or pa.types.is_map(type_)
    )


def require_supported(type_: pa.DataType) -> None:
    """Raise `TopologyError` if columns cannot have the type."""
    plain = pa.types.is_boolean(type_) or pa.types.is_integer(type_) or type_ in (pa.float32(), pa.float64())
    if plain or is_time(type_) or pa.types.is_date32(type_) or is_text(type_) or is_passed_through(type_):
        return
    raise TopologyError(
        f"type {type_} is not supported",
        remedy="use bool, int8-64, uint8-64, float32/64, string, binary, timestamp, date32, decimal, list or struct",
    )


def is_ordered(type_: pa.DataType) -> bool:
    """Tell whether values of the type can be compared."""
    return bool(
        is_number(type_)
        or is_time(type_)
        or is_text(type_)
        or pa.types.is_boolean(type_)
        or pa.types.is_date32(type_)
        or pa.types.is_null(type_)
    )


def literal(value: Any, type_: pa.DataType) -> Typed:
    """Return a constant; `value` is in its run-time form."""
    return Typed("literal", type_, params=(value,), nullable=value is None)


def literal_of(value: Any) -> Typed:
    """Return the constant for a Python value; None has the null type until it meets another."""
    if value is None:
        return literal(None, NULL)
    if isinstance(value, bool):
        return literal(value, BOOL)
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return literal(value, INT)
        if 0 <= value < 2**64:
            return literal(value, UINT)
        raise TopologyError(f"{value} does not fit 64 bits")
    if isinstance(value, float):
        return literal(value, FLOAT)
    if isinstance(value, str):
        return literal(value, TEXT)
    if isinstance(value, bytes):
        return literal(value, pa.binary())
    if isinstance(value, datetime.datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return literal((moment - _EPOCH) // _MS, TIMESTAMP)
    if isinstance(value, datetime.date):
        return literal((value - _EPOCH.date()).days, pa.date32())
    if isinstance(value, datetime.timedelta):
        return literal(value // _MS, INT)
    raise TopologyError(f"{value!r} cannot stand in an expression")


def retyped(value: Typed, type_: pa.DataType) -> Typed:
    """Return the same run-time value under another logical type of the same kind."""
    return value if value.type == type_ else replace(value, type=type_)


def fits(value: Any, type_: pa.DataType) -> bool:
    """Tell whether a whole number is in the range of an integer type."""
    if not is_integer(type_) or isinstance(value, bool) or not isinstance(value, int):
        return False
    bits = type_.bit_width
    signed = bool(pa.types.is_signed_integer(type_))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    return bool(low <= value < high)


def _pair_type(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a == b:
        return a
    if is_integer(a) and is_integer(b):
        return INT
    if is_number(a) and is_number(b):
        return FLOAT
    if is_time(a) and (is_time(b) or is_integer(b) or pa.types.is_date32(b)):
        return a
    if is_time(b) and (is_integer(a) or pa.types.is_date32(a)):
        return b
    if is_string(a) and is_string(b):
        return TEXT
    if is_binary(a) and is_binary(b):
        return pa.binary()
    return None


def common_type(values: Sequence[Typed]) -> pa.DataType | None:
    """Return the type in which all values can meet, None if there is none; literals adapt to the columns' type."""
    typed = [value for value in values if not pa.types.is_null(value.type)]
    columns = [value for value in typed if value.op != "literal"] or typed
    if not columns:
        return NULL
    result: pa.DataType | None = columns[0].type
    for value in columns[1:]:
        result = None if result is None else _pair_type(result, value.type)
    for value in typed:
        if result is None:
            return None
        if value.op == "literal" and fits(value.params[0], result):
            continue
        if value.op == "literal" and is_float(result) and is_number(value.type):
            continue
        result = _pair_type(result, value.type)
    return result


def convert(value: Typed, type_: pa.DataType) -> Typed:
    """Return the value as `type_`, where `common_type` gave it."""
    source = value.type
    if source == type_:
        return value
    if value.op == "literal":
        return _converted_literal(value.params[0], source, type_)
    if is_float(type_) and is_integer(source):
        return Typed("cast_f64", type_, (value,), nullable=value.nullable)
    if type_ == UINT and is_integer(source):
        return Typed("cast_u64", type_, (value,), (True,), nullable=value.nullable)
    if source == UINT and (is_integer(type_) or is_time(type_)):
        return Typed("cast_i64", type_, (value,), (True,), nullable=value.nullable)
    if pa.types.is_date32(source) and is_time(type_):
        return Typed("mul", type_, (retyped(value, INT), literal(DAY_MS, INT)), nullable=value.nullable)
    return retyped(value, type_)


def _converted_literal(value: Any, source: pa.DataType, target: pa.DataType) -> Typed:
    if value is None:
        return literal(None, target)
    if is_float(target):
        return literal(float(value), target)
    if pa.types.is_date32(source) and is_time(target):
        return literal(value * DAY_MS, target)
    if is_integer(target) and is_integer(source) and not fits(value, UINT if target == UINT else INT):
        raise TopologyError(f"{value} does not fit {target}", remedy="calculate with floats: col(...).cast(float)")
    return literal(value, target)
