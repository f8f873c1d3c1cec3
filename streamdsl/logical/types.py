"""Type rules: which types meet, and the casts that make them meet."""

from __future__ import annotations

import datetime
import decimal
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
    "checked_decimal",
    "common_type",
    "convert",
    "finer",
    "in_unit",
    "is_date",
    "is_decimal",
    "is_integer",
    "is_number",
    "is_ordered",
    "is_passed_through",
    "is_span",
    "is_text",
    "is_time",
    "literal",
    "literal_of",
    "require_supported",
    "rescaled",
    "retyped",
    "unit_type",
    "whole_decimal",
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

#: Digits that a decimal has at most.
MOST_DIGITS: Final = 38
#: Units of time in a second, coarse ones first.
PER_SECOND: Final[dict[str, int]] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_US: Final = datetime.timedelta(microseconds=1)


def is_integer(type_: pa.DataType) -> bool:
    """Tell whether the type is a whole number."""
    return bool(pa.types.is_integer(type_))


def is_float(type_: pa.DataType) -> bool:
    """Tell whether the type is a floating-point number."""
    return bool(pa.types.is_floating(type_))


def is_number(type_: pa.DataType) -> bool:
    """Tell whether the type is a whole or a floating-point number."""
    return is_integer(type_) or is_float(type_)


def is_decimal(type_: pa.DataType) -> bool:
    """Tell whether the type is an exact decimal number (wider ones than 38 digits are only carried)."""
    return bool(pa.types.is_decimal(type_) and not pa.types.is_decimal256(type_))


def is_time(type_: pa.DataType) -> bool:
    """Tell whether the type is a timestamp."""
    return bool(pa.types.is_timestamp(type_))


def is_span(type_: pa.DataType) -> bool:
    """Tell whether the type is a duration."""
    return bool(pa.types.is_duration(type_))


def is_date(type_: pa.DataType) -> bool:
    """Tell whether the type is a date."""
    return bool(pa.types.is_date(type_))


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
    """Tell whether values of the type are only carried, as text (list, struct, map, decimal256)."""
    return bool(
        pa.types.is_decimal256(type_)
        or pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
        or pa.types.is_struct(type_)
        or pa.types.is_map(type_)
    )


def require_supported(type_: pa.DataType) -> None:
    """Raise `TopologyError` if columns cannot have the type, or one inside it."""
    for inner in (type_.field(i).type for i in range(type_.num_fields)):
        if pa.types.is_null(inner):
            continue  # of a list that is always empty, say
        try:
            require_supported(inner)
        except TopologyError as error:
            error.message += f", inside {type_}"
            raise
    plain = pa.types.is_boolean(type_) or pa.types.is_integer(type_) or type_ in (pa.float32(), pa.float64())
    if is_decimal(type_) and type_.scale < 0:
        raise TopologyError(f"type {type_} is not supported", remedy="a decimal has a scale of 0 at least")
    if plain or is_time(type_) or is_span(type_) or is_date(type_) or is_text(type_) or is_passed_through(type_) or is_decimal(type_):
        return
    raise TopologyError(f"type {type_} is not supported", remedy=_instead_of(type_))


def _instead_of(type_: pa.DataType) -> str:
    if pa.types.is_time(type_):
        return "use int64 for a time of day (milliseconds since midnight), or a string"
    if pa.types.is_dictionary(type_):
        return f"declare it as {type_.value_type}: dictionaries are read as their values"
    for test, instead in ((pa.types.is_string_view, "string"), (pa.types.is_binary_view, "binary"), (pa.types.is_float16, "float32")):
        if test(type_):
            return f"declare it as {instead}: the values are read alike"
    if pa.types.is_fixed_size_binary(type_):
        return "declare it as binary: the values are read alike"
    if pa.types.is_null(type_):
        return "say what it would hold if it had a value, for example string"
    return "use bool, int8-64, uint8-64, float32/64, string, binary, timestamp, duration, date32, decimal, list or struct"


def is_ordered(type_: pa.DataType) -> bool:
    """Tell whether values of the type can be compared."""
    return bool(
        is_number(type_)
        or is_decimal(type_)
        or is_time(type_)
        or is_span(type_)
        or is_text(type_)
        or pa.types.is_boolean(type_)
        or is_date(type_)
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
        return _time_literal((moment - _EPOCH) // _US, TIMESTAMP)
    if isinstance(value, datetime.date):
        return literal((value - _EPOCH.date()).days, pa.date32())
    if isinstance(value, datetime.timedelta):
        whole = value // _US
        return literal(whole // 1000, INT) if whole % 1000 == 0 else literal(whole, pa.duration("us"))
    if isinstance(value, decimal.Decimal):
        return _decimal_literal(value)
    raise TopologyError(f"{value!r} cannot stand in an expression")


def _time_literal(microseconds: int, type_: pa.DataType) -> Typed:
    if microseconds % 1000 == 0:
        return literal(microseconds // 1000, type_)
    return literal(microseconds, unit_type(type_, "us"))


def _decimal_literal(value: decimal.Decimal) -> Typed:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise TopologyError(f"{value!r} is no number", remedy="a decimal is finite")
    whole = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
    scale = max(-exponent, 0)
    precision = max(len(str(whole)), scale, 1)
    if precision > MOST_DIGITS:
        raise TopologyError(f"{value!r} has more than {MOST_DIGITS} digits")
    return literal(-whole if sign else whole, pa.decimal128(precision, scale))


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


def unit_type(type_: pa.DataType, unit: str) -> pa.DataType:
    """Return the timestamp or duration type in another unit."""
    return pa.duration(unit) if is_span(type_) else pa.timestamp(unit, tz=type_.tz)


def finer(a: str, b: str) -> str:
    """Return the finer one of two units of time."""
    return max(a, b, key=PER_SECOND.__getitem__)


def whole_decimal(type_: pa.DataType) -> pa.DataType:
    """Return the decimal type that holds all values of an integer type, or of a decimal one."""
    if is_decimal(type_):
        return pa.decimal128(type_.precision, type_.scale)
    digits = {8: 3, 16: 5, 32: 10, 64: 20 if type_ == UINT else 19}
    return pa.decimal128(digits[type_.bit_width], 0)


def checked_decimal(precision: int, scale: int, what: str) -> pa.DataType:
    """Return the decimal type of a result: at most 38 digits, of which `scale` are behind the point.

    Raises
    ------
    TopologyError
        The digits behind the point alone are more.
    """
    if scale > MOST_DIGITS:
        raise TopologyError(
            f"{what} has {scale} digits behind the point; a decimal has {MOST_DIGITS} at most",
            remedy="cast an operand to a smaller scale: cast(pa.decimal128(38, 9))",
        )
    return pa.decimal128(min(MOST_DIGITS, max(precision, scale, 1)), scale)


def _pair_type(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if a == b:
        return a
    if (is_decimal(a) or is_decimal(b)) and all(is_decimal(type_) or is_integer(type_) for type_ in (a, b)):
        x, y = whole_decimal(a), whole_decimal(b)
        scale = max(x.scale, y.scale)
        return pa.decimal128(min(MOST_DIGITS, max(x.precision - x.scale, y.precision - y.scale) + scale), scale)
    if is_integer(a) and is_integer(b):
        return INT
    if is_number(a) and is_number(b):
        return FLOAT
    if is_date(a) and is_date(b):
        return pa.date32()
    for one, other in ((a, b), (b, a)):
        # A whole number beside a time is milliseconds.
        if (is_time(one) or is_span(one)) and is_integer(other):
            return unit_type(one, finer(one.unit, "ms"))
        if is_time(one) and is_date(other):
            return one
    if (is_time(a) and is_time(b)) or (is_span(a) and is_span(b)):
        return unit_type(a, finer(a.unit, b.unit))
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
        if value.op == "literal" and is_decimal(result) and _fits_decimal(value, result):
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
    if is_decimal(type_) and (is_decimal(source) or is_integer(source)):
        return rescaled(value, type_)
    if (is_time(type_) or is_span(type_)) and (is_time(source) or is_span(source) or is_integer(source)):
        whole = convert(value, INT) if is_integer(source) else value
        return retyped(in_unit(whole, type_.unit), type_)
    if is_float(type_) and is_integer(source):
        return Typed("cast_f64", type_, (value,), nullable=value.nullable)
    if type_ == UINT and is_integer(source):
        return Typed("cast_u64", type_, (value,), (True,), nullable=value.nullable)
    if source == UINT and is_integer(type_):
        return Typed("cast_i64", type_, (value,), (True,), nullable=value.nullable)
    if is_date(source) and is_time(type_):
        return Typed("mul", type_, (retyped(value, INT), literal(86_400 * PER_SECOND[type_.unit], INT)), nullable=value.nullable)
    return retyped(value, type_)


def in_unit(value: Typed, unit: str) -> Typed:
    """Return a time as int64 of another unit, floored where that is coarser; a whole number is milliseconds."""
    given = PER_SECOND[value.type.unit if is_time(value.type) or is_span(value.type) else "ms"]
    wanted, whole = PER_SECOND[unit], retyped(value, INT)
    if given == wanted:
        return whole
    if value.op == "literal":
        number = value.params[0]
        return literal(None if number is None else number * wanted // given, INT)
    op, factor = ("mul", wanted // given) if given < wanted else ("floordiv", given // wanted)
    return Typed(op, INT, (whole, literal(factor, INT)), nullable=value.nullable)


def rescaled(value: Typed, type_: pa.DataType, unfit: int = 1) -> Typed:
    """Return a decimal or a whole number as another decimal type.

    Parameters
    ----------
    unfit : int
        What becomes of a value that has too many digits: 1 an error of the record, 0 null, 2 the greatest or least value,
        which only a comparison may ask for.
    """
    source = value.type
    if value.op == "literal":
        return _converted_literal(value.params[0], source, type_)
    nullable = value.nullable or unfit == 0
    if not is_decimal(source):
        return Typed("dec_cast", type_, (value,), (type_.scale, type_.precision, unfit, str(type_)), nullable=nullable)
    if source.scale == type_.scale and source.precision <= type_.precision:
        return retyped(value, type_)
    params = (type_.scale - source.scale, type_.precision, unfit, str(type_), source.scale)
    return Typed("dec_rescale", type_, (value,), params, nullable=nullable)


def _fits_decimal(value: Typed, type_: pa.DataType) -> bool:
    number = value.params[0]
    if number is None or not (is_decimal(value.type) or is_integer(value.type)):
        return False
    scale = value.type.scale if is_decimal(value.type) else 0
    scaled = number * 10 ** (type_.scale - scale) if type_.scale >= scale else number // 10 ** (scale - type_.scale)
    exact = type_.scale >= scale or scaled * 10 ** (scale - type_.scale) == number
    return bool(exact and abs(scaled) < 10**type_.precision)


def _converted_literal(value: Any, source: pa.DataType, target: pa.DataType) -> Typed:
    if value is None:
        return literal(None, target)
    if is_float(target):
        return literal(float(value), target)
    if is_decimal(target) and (is_decimal(source) or is_integer(source)):
        places = target.scale - (source.scale if is_decimal(source) else 0)
        number, lost = (value * 10**places, 0) if places >= 0 else divmod(value, 10**-places)
        if lost or abs(number) >= 10**target.precision:
            raise TopologyError(f"the constant does not fit {target}")
        return literal(number, target)
    if is_date(source) and is_time(target):
        return literal(value * 86_400 * PER_SECOND[target.unit], target)
    if (is_time(target) or is_span(target)) and (is_time(source) or is_span(source) or is_integer(source)):
        return retyped(in_unit(literal(value, source), target.unit), target)
    if is_integer(target) and is_integer(source) and not fits(value, UINT if target == UINT else INT):
        raise TopologyError(f"{value} does not fit {target}", remedy="calculate with floats: col(...).cast(float)")
    return literal(value, target)
