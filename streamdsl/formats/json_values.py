"""Values of parsed JSON as values of a column: what `json_lines` writes, and what others write for it."""

from __future__ import annotations

import base64
import datetime
import decimal
from typing import Any, Final

import pyarrow as pa

from streamdsl.formats.conform import bounds_of
from streamdsl.formats.times import moments_of

__all__ = ["NOT_FINITE", "Digits", "value_of"]

#: Floats that JSON has no numbers for.
NOT_FINITE: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


_MOST_EXPONENT: Final = 308


class Digits(float):
    """A number that is no integer, with its digits as they were written: a decimal needs all of them."""

    text: str

    def __new__(cls, text: str) -> Digits:
        """Read the text. An exponent that no double has is refused, as pyarrow's reader does."""
        digits, _, exponent = text.lower().partition("e")
        if exponent and int(exponent) > _MOST_EXPONENT + len(digits.partition(".")[2]):
            raise ValueError(f"no double has the exponent of {text[:40]}")
        made = super().__new__(cls, text)
        made.text = text
        return made


def value_of(value: Any, type_: pa.DataType) -> Any:
    """Return what `pa.array(..., type_)` takes for a value of parsed JSON.

    Raises
    ------
    ValueError
        It is no value of the type: texts are no numbers, fractions no integers, 1 is not true.
    """
    if value is None:
        return None
    kind = pa.types
    if kind.is_struct(type_):
        found = _checked(value, dict, type_)
        return {field.name: value_of(found.get(field.name), field.type) for field in type_}
    if kind.is_map(type_):
        pairs = list(value.items()) if isinstance(value, dict) else _checked(value, list, type_)
        if any(not isinstance(pair, list | tuple) or len(pair) != 2 or pair[0] is None for pair in pairs):
            raise ValueError(f"{value!r} is not {type_}")
        return [(value_of(key, type_.key_type), value_of(item, type_.item_type)) for key, item in pairs]
    if kind.is_list(type_) or kind.is_large_list(type_) or kind.is_fixed_size_list(type_):
        return [value_of(item, type_.value_type) for item in _checked(value, list, type_)]
    if kind.is_boolean(type_):
        return _checked(value, bool, type_)
    if kind.is_integer(type_):
        least, most = bounds_of(type_)
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{value!r} is not {type_}")
        return value
    if kind.is_floating(type_):
        if isinstance(value, str) and value in NOT_FINITE:
            return NOT_FINITE[value]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{value!r} is not {type_}")
        try:
            return float(value)
        except OverflowError:
            # An integer of hundreds of digits: infinite, as in pyarrow's reader.
            return NOT_FINITE["Infinity" if value > 0 else "-Infinity"]
    return _of_text(value, type_)


def _of_text(value: Any, type_: pa.DataType) -> Any:
    kind = pa.types
    if kind.is_decimal(type_):
        return _decimal(value, type_)
    if kind.is_timestamp(type_):
        if type(value) is int:
            return value
        return moments_of(pa.array([_checked(value, str, type_)]), type_)[0].cast(pa.int64())[0].as_py()
    if kind.is_duration(type_):
        return value_of(value, pa.int64())
    text = _checked(value, str, type_)
    if kind.is_date(type_):
        return datetime.date.fromisoformat(text)
    if kind.is_binary(type_) or kind.is_large_binary(type_):
        return base64.b64decode(text, validate=True)
    return text


def _decimal(value: Any, type_: pa.DataType) -> decimal.Decimal:
    if isinstance(value, Digits):
        text = value.text
    elif isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value)
    else:
        raise ValueError(f"{value!r} is not {type_}")
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise ValueError(f"{value!r} is not {type_}") from None
    # pyarrow reads beyond its tables for some exponents that no decimal has, and the process ends.
    if not number.is_finite() or abs(int(number.as_tuple().exponent)) > _MOST_EXPONENT:
        raise ValueError(f"{value!r} is not {type_}")
    return number


def _checked(value: Any, kind: type, type_: pa.DataType) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{value!r} is not {type_}")
    return value
