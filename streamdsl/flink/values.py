"""Values of expressions as text of Flink SQL, with the type they have there; conversions between types of one value."""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from streamdsl.flink.quoting import text
from streamdsl.flink.refusing import Refused
from streamdsl.flink.types import flink_type
from streamdsl.logical.types import is_date, is_decimal, is_float, is_integer, is_span, is_string, is_time

__all__ = ["TIMES", "Value", "as_type", "constant", "failing", "of_microseconds", "rest_of", "short"]


#: Flink's timestamps are of the years 0 to 9999: their milliseconds lie between these.
TIMES: Final = (-(2**47), 2**48)


@dataclass(frozen=True, slots=True)
class Value:
    """The text of an expression.

    Attributes
    ----------
    text : str
    type : DataType
        What the text is in Flink.
    atom : bool
        Whether it needs no brackets inside another one.
    nan, inf : bool
        Whether a float may be NaN or infinite.
    constant : bool
        Whether it is a literal; `number` is its run-time form.
    least, most : int
        Between which a whole number lies for certain.
    """

    text: str
    type: pa.DataType
    atom: bool = True
    nan: bool = False
    inf: bool = False
    constant: bool = False
    number: Any = None
    least: int = -(2**63)
    most: int = 2**63 - 1

    @property
    def inner(self) -> str:
        """The text as a part of another expression."""
        return self.text if self.atom else f"({self.text})"


def constant(value: Any, type_: pa.DataType) -> Value:
    """Return a literal; `value` is in its run-time form."""
    if value is None:
        wanted = "STRING" if pa.types.is_null(type_) else flink_type(type_)
        return Value(f"CAST(NULL AS {wanted})", type_, constant=True)
    made = Value(_literal(value, type_), type_, constant=True, number=value)
    if is_float(type_):
        return replace(made, nan=math.isnan(value), inf=math.isinf(value))
    return replace(made, least=value, most=value) if is_integer(type_) else made


def _literal(value: Any, type_: pa.DataType) -> str:
    if pa.types.is_boolean(type_):
        return "TRUE" if value else "FALSE"
    if is_float(type_):
        return _float(float(value), flink_type(type_))
    if is_string(type_):
        return f"CAST({text(value)} AS STRING)"
    if is_time(type_):
        return as_type(Value(_whole(value), pa.int64()), type_).text
    if is_date(type_):
        return as_type(Value(_whole(value), pa.int64()), type_).text
    if is_decimal(type_):
        shown = decimal.Decimal(value).scaleb(-type_.scale, decimal.Context(prec=60))
        return f"CAST({text(f'{shown:f}')} AS {flink_type(type_)})"
    if is_integer(type_) or is_span(type_):
        return f"CAST({_whole(value)} AS {'BIGINT' if is_span(type_) else flink_type(type_)})"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    raise Refused(f"a constant of the type {type_}")


def _whole(value: int) -> str:
    if -(2**63) < value < 2**63:
        return str(value)
    # The least number has no literal of its own: its digits alone are too great, and so are those beyond 64 bits.
    return f"CAST('{value}' AS {'BIGINT' if value < 0 else 'DECIMAL(20, 0)'})"


def _float(value: float, type_: str) -> str:
    if math.isnan(value):
        return f"CAST('NaN' AS {type_})"
    if math.isinf(value):
        return f"CAST('{'-' if value < 0 else ''}Infinity' AS {type_})"
    if value == 0 and math.copysign(1, value) < 0:
        return f"CAST('-0.0' AS {type_})"
    mantissa, _, exponent = repr(value).partition("e")
    shown = f"{mantissa if '.' in mantissa else mantissa + '.0'}E{int(exponent or 0)}"
    return shown if type_ == "DOUBLE" else f"CAST({shown} AS {type_})"


def short(value: Value, other: Value) -> str:
    """Return a value as an operand beside `other`: a constant beside what is none takes its type."""
    if value.constant and not other.constant and value.number is not None:
        if is_integer(value.type):
            return _whole(value.number) if value.number >= 0 else f"({_whole(value.number)})"
        # Calcite drops spaces at the end of a plain text where it joins comparisons.
        if is_string(value.type) and not value.number.endswith(" "):
            return text(value.number)
    return value.inner


def rest_of(whole: str, step: int) -> str:
    """Return how much of a whole number is above the next multiple of a step below it; `MOD` of a negative one is negative."""
    # MOD has the type of its second argument: its double may need more than 32 bits, and so may what is made of the rest.
    shift = str(step) if step < 2**30 else f"CAST({step} AS BIGINT)"
    return f"CAST(MOD(MOD({whole}, {step}) + {shift}, {step}) AS BIGINT)"


def failing(message: str, value: str, type_: str) -> str:
    """Return an expression that ends the job with a message and a text: the text is no value of the type, which is none of text."""
    shown = f"CAST({text(message + ': ')} || {value} AS {'BIGINT' if type_ == 'STRING' else type_})"
    return shown if type_ != "STRING" else f"CAST({shown} AS STRING)"


def as_type(value: Value, type_: pa.DataType) -> Value:
    """Return the same value as another type that holds it.

    Raises
    ------
    Refused
        Flink cannot convert it exactly.
    """
    source = value.type
    if source == type_:
        return value
    if value.constant and value.number is None:
        return constant(None, type_)
    if value.constant and not (is_time(type_) or is_date(type_) or is_decimal(type_)) and is_integer(type_) and is_integer(source):
        return constant(value.number, type_)
    whole_source, whole_target = _is_whole(source), _is_whole(type_)
    if whole_source and whole_target:
        return _cast(value, type_)
    if is_time(source) and whole_target:
        finer = 1000 if source.unit == "us" else 1
        return as_type(Value(_count(value, source.unit), pa.int64(), least=TIMES[0] * finer, most=TIMES[1] * finer), type_)
    if whole_source and is_time(type_):
        return _moment(value, type_)
    if is_time(source) and is_time(type_) and source.unit == type_.unit:
        return replace(value, type=type_)
    if is_date(source) and whole_target:
        days = f"CAST(TIMESTAMPDIFF(DAY, DATE '1970-01-01', {value.text}) AS BIGINT)"
        return as_type(Value(days, pa.int64(), least=-(2**31), most=2**31), type_)
    if whole_source and is_date(type_):
        return Value(f"CAST(TIMESTAMPADD(DAY, CAST({value.text} AS INT), DATE '1970-01-01') AS DATE)", type_)
    if is_float(source) and is_float(type_):
        return _cast(value, type_)
    if is_decimal(source) and is_decimal(type_) and type_.scale >= source.scale:
        return _cast(value, type_)
    if (is_integer(source) and is_decimal(type_)) or (is_date(source) and is_date(type_)):
        return _cast(value, type_)
    if is_string(source) and is_string(type_):
        return replace(value, type=type_)
    raise Refused(f"{source} as {type_}", "Flink holds such values in another way: keep the column as it is")


def _is_whole(type_: pa.DataType) -> bool:
    return is_integer(type_) or is_span(type_)


def _cast(value: Value, type_: pa.DataType) -> Value:
    wanted = "BIGINT" if is_span(type_) else flink_type(type_)
    if not is_span(value.type) and flink_type(value.type) == wanted:
        return replace(value, type=type_)
    return replace(value, text=f"CAST({value.text} AS {wanted})", type=type_, atom=True, constant=False)


def _count(value: Value, unit: str) -> str:
    """Return how much of its unit a time is from 1970."""
    seconds = f"EXTRACT(EPOCH FROM {value.text})"
    # Both parts are cut off towards zero: before 1970 the rest is negative, too.
    if unit == "s":
        return seconds
    _check(unit)
    return (
        f"({seconds} * {'1000' if unit == 'ms' else '1000000'} + EXTRACT({'MILLI' if unit == 'ms' else 'MICRO'}SECOND FROM {value.text}))"
    )


def _moment(value: Value, type_: pa.DataType) -> Value:
    if type_.unit == "us":
        return Value(of_microseconds(value.inner), type_)
    moment = f"TO_TIMESTAMP_LTZ({value.text}, {0 if type_.unit == 's' else 3})"
    if type_.unit == "s":
        return Value(f"CAST({moment} AS TIMESTAMP_LTZ(0))", type_)
    _check(type_.unit)
    return Value(moment, type_)


def _check(unit: str) -> None:
    if unit == "ns":
        raise Refused("calculations with timestamps of ns", "declare the column as pa.timestamp('us', tz='UTC') or of 'ms'")


def of_microseconds(whole: str) -> str:
    """Return a time of so many microseconds: Flink makes times of milliseconds only, and reads finer ones from text."""
    rest = rest_of(whole, 1000)
    moment = f"CAST(TO_TIMESTAMP_LTZ(({whole} - {rest}) / 1000, 3) AS TIMESTAMP(3))"
    return f"CAST(CAST(CAST({moment} AS STRING) || LPAD(CAST({rest} AS STRING), 3, '0') AS TIMESTAMP(6)) AS TIMESTAMP_LTZ(6))"
