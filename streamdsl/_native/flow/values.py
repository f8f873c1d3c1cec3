"""Python values to columns and back: what a value of a type is, and what is refused.

Nothing is rounded, cut or parsed on the way: an integer column takes integers, a float column floats and the integers
that a float holds exactly, a text column texts. The same rules hold wherever Python values become columns: rows in
memory, rows of a test, and what functions return.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, Final

import pyarrow as pa

from streamdsl._native.flow.convert import plain_values
from streamdsl.errors import DataError

__all__ = ["NotAValue", "converter_of", "json_text_of", "named_column", "reader_of", "shortened", "time_bounds", "unwrapped"]

Converter = Callable[[Any], Any]

_EPOCH: Final = datetime.datetime(1970, 1, 1)
_EPOCH_UTC: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_EPOCH_DAY: Final = datetime.date(1970, 1, 1).toordinal()
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
#: Units of a type of times in a second.
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_FIRST_SECOND: Final = -62_135_596_800  # 0001-01-01
_LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59
_FLOAT32_LIMIT: Final = 2.0**128 - 2.0**103  # what rounds to infinity begins here
_EXACT: Final = decimal.Context(prec=100, traps=[decimal.Inexact, decimal.InvalidOperation])


class NotAValue(ValueError):
    """A Python value is none of its column's type."""


def shortened(value: Any) -> str:
    """Return the repr of a value, of readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def unwrapped(value: Any) -> Any:
    """Return the Python value that an enum member, a UUID, or a scalar of pyarrow or NumPy stands for; others as they are."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, pa.Scalar):
        return value.as_py()
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind is None or getattr(value, "shape", None) != ():
        return value
    # As nanoseconds a NumPy time is an integer, which could be of any unit.
    return value.astype(f"{kind}8[us]").item() if kind in "mM" else value.item()


def named_column(rows: Iterable[Mapping[str, Any]], name: str, type_: pa.DataType) -> pa.Array:
    """Return what Python rows have under `name` as a column; null where they have nothing.

    Raises
    ------
    NotAValue
        A value is none of the type; the error names row and column.
    """
    convert = converter_of(type_)
    converted = []
    for place, row in enumerate(rows):
        value = row.get(name)
        try:
            converted.append(None if value is None else convert(value))
        except NotAValue as error:
            raise NotAValue(f"in row {place} the column {name!r}{error}") from None
    return pa.array(converted, type_)


def json_text_of(value: Any, type_: pa.DataType, convert: Converter) -> str:
    """Return the JSON text that carries a nested value in a batch; equal values have equal texts."""
    (plain,) = plain_values(pa.array([convert(value)], type_))
    return json.dumps(plain, ensure_ascii=False)


def refused(value: Any, type_: pa.DataType, why: str = "") -> NotAValue:
    """Return the error for a value; a path and a colon are put in front of its text by those around it."""
    what = f" is {shortened(value)} of type {type(value).__name__}, which is not a value of type {type_}"
    return NotAValue(what + (f": {why}" if why else ""))


def time_bounds(type_: pa.DataType) -> tuple[int, int]:
    """Return the least and the greatest number of a type of timestamps: the years 1 to 9999, as far as 64 bits go."""
    per_second = _PER_SECOND[type_.unit]
    least, most = _FIRST_SECOND * per_second, (_LAST_SECOND + 1) * per_second - 1
    return max(least, -(2**63)), min(most, 2**63 - 1)


# Into columns --------------------------------------------------------------------------------------------------------


def converter_of(type_: pa.DataType) -> Converter:
    """Return the function that turns a Python value (not None) into what `pa.array(..., type_)` takes as it is.

    It raises `NotAValue` for what is no value of the type.
    """
    if pa.types.is_struct(type_):
        return _struct(type_)
    if pa.types.is_map(type_):
        return _map(type_)
    if _is_list(type_):
        return _list(type_)
    for applies, make in _MAKERS:
        if applies(type_):
            checked = make(type_)
            break
    else:
        raise TypeError(f"type {type_} is not supported")

    def convert(value: Any) -> Any:
        try:
            return checked(value)
        except NotAValue:
            plain = unwrapped(value)
            if plain is value or plain is None:
                raise
            return checked(plain)

    return convert


def _bool(type_: pa.DataType) -> Converter:
    def convert(value: Any) -> bool:
        if type(value) is not bool:
            raise refused(value, type_)
        return value

    return convert


def _integer(type_: pa.DataType) -> Converter:
    bits = type_.bit_width
    least, most = (0, 2**bits - 1) if pa.types.is_unsigned_integer(type_) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def convert(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise refused(value, type_)
        if not least <= value <= most:
            raise NotAValue(f" is {shortened(value)}, which is out of range of {type_}")
        return int(value)

    return convert


def _float(type_: pa.DataType) -> Converter:
    narrow = type_ == pa.float32()

    def convert(value: Any) -> float:
        if isinstance(value, float):
            number = float(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                raise refused(value, type_, "it is too great") from None
            if int(number) != value:
                raise refused(value, type_, "a float does not hold it exactly")
        else:
            raise refused(value, type_)
        if narrow and math.isfinite(number) and abs(number) >= _FLOAT32_LIMIT:
            raise NotAValue(f" is {shortened(value)}, which is out of range of {type_}")
        return number

    return convert


def _text(type_: pa.DataType) -> Converter:
    def convert(value: Any) -> str:
        if not isinstance(value, str) or isinstance(value, enum.Enum):
            raise refused(value, type_)
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise refused(value, type_, "it has half of a surrogate pair") from None
        return value

    return convert


def _bytes(type_: pa.DataType) -> Converter:
    def convert(value: Any) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise refused(value, type_)
        return bytes(value)

    return convert


def _nanoseconds(value: Any, kind: str) -> int | None:
    """Return the count of a time of NumPy or pyarrow in nanoseconds, which Python's own types cannot hold; None for others."""
    if isinstance(value, pa.TimestampScalar if kind == "M" else pa.DurationScalar):
        return int(value.value) if value.is_valid and value.type.unit == "ns" else None
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "str", "")[1:] != f"{kind}8[ns]" or getattr(value, "shape", None) != ():
        return None
    count = int(value.astype("int64"))
    return None if count == -(2**63) else count  # which is NaT


def _timestamp(type_: pa.DataType) -> Converter:
    unit = type_.unit
    least, most = time_bounds(type_)

    def convert(value: Any) -> int:
        if isinstance(value, datetime.datetime):
            microseconds = (value.replace(tzinfo=None) - _EPOCH if value.utcoffset() is None else value - _EPOCH_UTC) // _MICROSECOND
            if unit == "ns":
                number = microseconds * 1_000 + int(getattr(value, "nanosecond", 0))  # pandas has them
            else:
                number = microseconds // (1_000_000 // _PER_SECOND[unit])
        elif isinstance(value, int) and not isinstance(value, bool):
            number = int(value)
        elif (nanoseconds := _nanoseconds(value, "M")) is not None:
            number = nanoseconds // (1_000_000_000 // _PER_SECOND[unit])
        else:
            raise refused(value, type_)
        if not least <= number <= most:
            raise NotAValue(f" is {shortened(value)}, which is out of range of {type_}")
        return number

    return convert


def _duration(type_: pa.DataType) -> Converter:
    def convert(value: Any) -> int:
        if isinstance(value, datetime.timedelta):
            number = value // _MICROSECOND
            if type_.unit == "ns":
                number = number * 1_000 + int(getattr(value, "nanoseconds", 0))  # pandas has them
            else:
                number //= 1_000_000 // _PER_SECOND[type_.unit]
        elif isinstance(value, int) and not isinstance(value, bool):
            number = int(value)
        elif (nanoseconds := _nanoseconds(value, "m")) is not None:
            number = nanoseconds // (1_000_000_000 // _PER_SECOND[type_.unit])
        else:
            raise refused(value, type_)
        if not -(2**63) <= number < 2**63:
            raise NotAValue(f" is {shortened(value)}, which is out of range of {type_}")
        return number

    return convert


def _date(type_: pa.DataType) -> Converter:
    """A whole number is days; `pa.array` takes those of `date64` as milliseconds."""
    per_day = _per_day(type_)

    def convert(value: Any) -> int:
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            return (value.toordinal() - _EPOCH_DAY) * per_day
        if not isinstance(value, int) or isinstance(value, bool):
            raise refused(value, type_)
        if not _FIRST_SECOND // 86_400 <= value <= _LAST_SECOND // 86_400:
            raise NotAValue(f" is {shortened(value)}, which is out of range of {type_}")
        return int(value) * per_day

    return convert


def _per_day(type_: pa.DataType) -> int:
    return 1 if pa.types.is_date32(type_) else 86_400_000


def _decimal(type_: pa.DataType) -> Converter:
    one = decimal.Decimal(1).scaleb(-type_.scale)
    whole_digits = type_.precision - type_.scale

    def convert(value: Any) -> decimal.Decimal:
        if isinstance(value, bool) or not isinstance(value, decimal.Decimal | int):
            raise refused(value, type_)
        try:
            number = decimal.Decimal(value).quantize(one, context=_EXACT)
        except ArithmeticError:
            number = decimal.Decimal("NaN")
        if not number.is_finite() or number.adjusted() >= whole_digits:
            raise NotAValue(f" is {shortened(value)}, which does not fit {type_}")
        return number

    return convert


def _nullable(convert: Converter, nullable: bool) -> Converter:
    def checked(value: Any) -> Any:
        if value is None:
            if not nullable:
                raise NotAValue(" is null, but is declared not null")
            return None
        return convert(value)

    return checked


def _list(type_: pa.DataType) -> Converter:
    item = _nullable(converter_of(type_.value_type), type_.value_field.nullable)
    size = type_.list_size if pa.types.is_fixed_size_list(type_) else None

    def convert(value: Any) -> list[Any]:
        value = _listed(value, type_)
        if size is not None and len(value) != size:
            raise refused(value, type_, f"it has {len(value)} items")
        items = []
        for place, one in enumerate(value):
            try:
                items.append(item(one))
            except NotAValue as error:
                raise NotAValue(f"[{place}]{error}") from None
        return items

    return convert


def _listed(value: Any, type_: pa.DataType) -> Sequence[Any]:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, Set):
        try:
            return sorted(value)  # in an order that is the same in every process
        except TypeError:
            raise refused(value, type_, "a set whose items have no order") from None
    if isinstance(value, pa.Array | pa.ListScalar) or (hasattr(value, "dtype") and hasattr(value, "tolist")):
        found = value.as_py() if isinstance(value, pa.Scalar) else value.tolist()
        if isinstance(found, list):
            return found
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return value
    raise refused(value, type_)


def _struct(type_: pa.DataType) -> Converter:
    fields = [type_.field(i) for i in range(type_.num_fields)]
    members = {field.name: _nullable(converter_of(field.type), field.nullable) for field in fields}

    def convert(value: Any) -> dict[str, Any]:
        found = _mapped(value, type_)
        for name in found:
            if name not in members:
                raise refused(value, type_, f"there is no field {name!r}; its fields: {', '.join(members)}")
        made = {}
        for name, member in members.items():
            try:
                made[name] = member(found.get(name))
            except NotAValue as error:
                raise NotAValue(f".{name}{error}") from None
        return made

    return convert


def _mapped(value: Any, type_: pa.DataType) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        named: Mapping[Any, Any] = value._asdict()
        return named
    if isinstance(value, pa.StructScalar):
        scalar: Mapping[Any, Any] = value.as_py()
        return scalar
    raise refused(value, type_)


def _map(type_: pa.DataType) -> Converter:
    key = _nullable(converter_of(type_.key_type), False)
    item = _nullable(converter_of(type_.item_type), type_.item_field.nullable)

    def convert(value: Any) -> list[tuple[Any, Any]]:
        if isinstance(value, pa.MapScalar):
            value = value.as_py()
        if isinstance(value, Mapping):
            pairs = list(value.items())
        elif isinstance(value, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
            pairs = [tuple(pair) for pair in value]
        else:
            raise refused(value, type_)
        made = []
        for at, one in pairs:
            try:
                made.append((key(at), item(one)))
            except NotAValue as error:
                raise NotAValue(f"[{at!r}]{error}") from None
        return made

    return convert


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


_MAKERS: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Converter]], ...]] = (
    (pa.types.is_boolean, _bool),
    (pa.types.is_integer, _integer),
    (pa.types.is_floating, _float),
    (_is_text, _text),
    (_is_bytes, _bytes),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_duration, _duration),
    (pa.types.is_date, _date),
    (pa.types.is_decimal, _decimal),
)


# Out of batches ------------------------------------------------------------------------------------------------------


def reader_of(type_: pa.DataType) -> Converter | None:
    """Return the function that turns parsed JSON of a batch into Python values; None where they are that already.

    Times become `datetime` in UTC, dates `date`, decimals `Decimal`, bytes `bytes`, maps dicts.
    """
    if pa.types.is_struct(type_):
        members = {type_.field(i).name: reader_of(type_.field(i).type) for i in range(type_.num_fields)}
        wanted = {name: _or_null(read) for name, read in members.items() if read is not None}
        if not wanted:
            return None
        return lambda value: {name: wanted[name](item) if name in wanted else item for name, item in value.items()}
    if pa.types.is_map(type_):
        key, item = _or_null(reader_of(type_.key_type)), _or_null(reader_of(type_.item_type))
        return lambda value: {key(at): item(one) for at, one in (value.items() if isinstance(value, dict) else value)}
    if _is_list(type_):
        read = reader_of(type_.value_type)
        if read is None:
            return None
        one = _or_null(read)
        return lambda value: [one(item) for item in value]
    if pa.types.is_decimal(type_):
        return decimal.Decimal
    if _is_bytes(type_):
        return base64.b64decode
    if pa.types.is_date(type_):
        per_day = _per_day(type_)
        return lambda number: datetime.date.fromordinal(number // per_day + _EPOCH_DAY)
    if pa.types.is_timestamp(type_):
        span = _span_reader(type_)
        return lambda number: _EPOCH_UTC + span(number)
    if pa.types.is_duration(type_):
        return _span_reader(type_)
    return None


def _span_reader(type_: pa.DataType) -> Converter:
    per_second = _PER_SECOND[type_.unit]

    def read(number: int) -> datetime.timedelta:
        microseconds, lost = divmod(number * 1_000_000, per_second)
        if lost:
            raise DataError(
                f"{number} of type {type_} has digits below a microsecond, which Python cannot hold",
                remedy='declare the type with the unit "us"',
            )
        return datetime.timedelta(microseconds=microseconds)

    return read


def _or_null(read: Converter | None) -> Converter:
    if read is None:
        return lambda value: value
    return lambda value: None if value is None else read(value)
