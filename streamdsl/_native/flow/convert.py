"""Logical Arrow types to the canonical ones that a batch is made of, and back.

Canonical are int64, uint64, float64, bool, string, binary and decimal128. Timestamps and durations are whole numbers in the
unit of their type, dates are days, lists and structs the JSON text of the value, wider decimals their text.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl.errors import DataError

__all__ = ["canonical_kind", "canonical_type", "from_canonical", "python_rows", "python_value", "python_values", "to_canonical"]

_CANONICAL: Final = frozenset({pa.int64(), pa.uint64(), pa.float64(), pa.bool_(), pa.string(), pa.binary()})
#: Units of time in a second.
_PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_KINDS: Final = {"int64": "i64", "uint64": "u64", "double": "f64", "bool": "bool", "string": "str", "binary": "str"}
_EPOCH: Final = datetime.datetime(1970, 1, 1)
#: Floats that are no numbers in JSON, as in the JSON of Protobuf.
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
_WAYS: Final = (pa.ArrowException, ValueError, TypeError, OverflowError, decimal.DecimalException, KeyError)


def canonical_type(type_: pa.DataType) -> pa.DataType:
    """Return the canonical type that carries values of a logical type.

    Raises
    ------
    TypeError
        No column can have this type.
    """
    if _is_canonical(type_):
        return type_
    if _is_narrow_decimal(type_):
        return pa.decimal128(type_.precision, type_.scale)
    if pa.types.is_integer(type_) or _is_time(type_) or pa.types.is_date(type_) or pa.types.is_null(type_):
        return pa.int64()
    if pa.types.is_floating(type_):
        return pa.float64()
    if pa.types.is_large_string(type_) or pa.types.is_decimal(type_) or pa.types.is_nested(type_) or type_ == pa.string_view():
        return pa.string()
    if pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_) or type_ == pa.binary_view():
        return pa.binary()
    if pa.types.is_dictionary(type_):
        return canonical_type(type_.value_type)
    raise TypeError(f"type {type_} is not supported")


def canonical_kind(type_: pa.DataType) -> str:
    """Return the name of the kind of column (see `flow/batch.pxd`) that carries values of a logical type."""
    return _KINDS.get(str(canonical_type(type_)), "dec")


def _is_canonical(type_: pa.DataType) -> bool:
    return type_ in _CANONICAL or bool(pa.types.is_decimal128(type_))


def _is_narrow_decimal(type_: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(type_) and not pa.types.is_decimal256(type_))


def to_canonical(record_batch: pa.RecordBatch, types: list[pa.DataType]) -> pa.RecordBatch:
    """Return the record batch with canonical columns.

    Parameters
    ----------
    record_batch : pa.RecordBatch
        What a decoder made; its types may differ from `types` where a value still has one meaning.
    types : list of pa.DataType
        The logical types that the columns are meant to have.

    Returns
    -------
    pa.RecordBatch
        The same object if nothing had to change.

    Raises
    ------
    DataError
        A value does not fit its logical type; the column is named.
    """
    found = record_batch.schema.types
    if found == types and all(map(_is_canonical, found)):
        return record_batch
    if len(found) != len(types):
        raise TypeError(f"the record batch has {len(found)} columns, not {len(types)}")
    arrays = [_named(_inward, record_batch.schema.names[i], record_batch.column(i), type_) for i, type_ in enumerate(types)]
    return _batch(arrays, pa.schema(zip(record_batch.schema.names, (array.type for array in arrays), strict=True)), record_batch)


def from_canonical(record_batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the record batch with the logical types of `schema`, the way back of `to_canonical`.

    Raises
    ------
    DataError
        A value does not fit its logical type; the column is named.
    """
    if record_batch.schema == schema and all(map(_is_canonical, schema.types)):
        return record_batch
    if len(schema) != record_batch.num_columns:
        raise TypeError(f"the record batch has {record_batch.num_columns} columns, not {len(schema)}")
    arrays = [_named(_outward, field.name, record_batch.column(i), field.type) for i, field in enumerate(schema)]
    return _batch(arrays, schema, record_batch)


def _batch(arrays: list[Any], schema: pa.Schema, source: pa.RecordBatch) -> pa.RecordBatch:
    if not arrays:
        return source  # a record batch without columns still has rows
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _named(convert: Any, name: str, array: Any, type_: pa.DataType) -> Any:
    if array.type == type_ and _is_canonical(type_):
        return array
    try:
        return convert(array, type_)
    except _WAYS as error:
        raise DataError(f"column {name!r}: {array.type} does not become {type_}", field=name, reason=str(error)) from error


def _is_time(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) or pa.types.is_duration(type_))


# Inward ------------------------------------------------------------------------------------------------------


def _inward(array: Any, type_: pa.DataType) -> Any:
    """The canonical array of an array that means values of the logical type `type_`."""
    target = canonical_type(type_)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    source = array.type
    if pa.types.is_null(source):
        return pa.nulls(len(array), target)
    if _is_time(type_):
        return _time_inward(array, type_)
    if pa.types.is_date(type_):
        if pa.types.is_integer(source):
            return array.cast(pa.int64())
        return array.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
    if _is_narrow_decimal(type_):
        return _decimals(array, type_)
    if pa.types.is_decimal(type_):
        return _decimal_texts(array, type_)
    if pa.types.is_nested(type_):
        if _is_text(source):
            return array.cast(pa.string())
        texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in plain_values(array)]
        return pa.array(texts, pa.string())
    if pa.types.is_integer(type_) and source != type_:
        array = array.cast(type_)  # a value outside a narrow type is an error here, not at the sink
    elif pa.types.is_floating(type_) and pa.types.is_integer(source):
        return array.cast(pa.float64(), safe=False)
    elif type_ == pa.float32():
        array = array.cast(type_)
    return array.cast(target)


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or type_ == pa.string_view())


def _decimals(array: Any, type_: pa.DataType) -> Any:
    target = canonical_type(type_)
    if _is_text(array.type) or pa.types.is_floating(array.type):
        exact = [None if value is None else _exact(value, type_.scale) for value in array.to_pylist()]
        return pa.array(exact, target)
    return array.cast(target)


def _decimal_texts(array: Any, type_: pa.DataType) -> Any:
    # The text has the digits of the declared scale, so that equal values have equal texts.
    if _is_text(array.type) or pa.types.is_floating(array.type):
        return pa.array([_decimal_text(value, type_.scale) for value in array.to_pylist()], pa.string())
    scaled = array if array.type == type_ else array.cast(type_)
    return pa.array([None if value is None else f"{value:f}" for value in scaled.to_pylist()], pa.string())


def _exact(value: Any, scale: int) -> decimal.Decimal:
    number = decimal.Decimal(str(value))
    with decimal.localcontext() as context:
        context.prec = 100
        context.traps[decimal.Inexact] = True
        return number.quantize(decimal.Decimal(1).scaleb(-scale))


def _decimal_text(value: Any, scale: int) -> str | None:
    return None if value is None else f"{_exact(value, scale):f}"


def _time_inward(array: Any, type_: pa.DataType) -> Any:
    source = array.type
    if _is_text(source):
        array = _parsed_times(array.cast(pa.string()), type_)
    elif pa.types.is_date(source):
        array = array.cast(pa.timestamp("ms"))
    elif pa.types.is_integer(source):
        return array.cast(pa.int64())  # a whole number for a time counts in its unit
    elif not _is_time(source):
        raise TypeError(f"{source} is not a time")
    return _in_unit(array, type_.unit)


def _parsed_times(texts: Any, type_: pa.DataType) -> Any:
    if not pa.types.is_timestamp(type_):
        raise TypeError("a duration cannot be read from text")
    unit = "ns" if type_.unit == "ns" else "us"
    try:
        return texts.cast(pa.timestamp(unit))
    except pa.ArrowInvalid:
        return texts.cast(pa.timestamp(unit, "UTC"))


def _in_unit(array: Any, unit: str) -> Any:
    """The times as whole numbers of `unit`; finer ones are floored, and what does not fit is refused."""
    numbers = array.cast(pa.int64())
    given, wanted = _PER_SECOND[array.type.unit], _PER_SECOND[unit]
    if given == wanted:
        return numbers
    if given < wanted:
        return pc.multiply_checked(numbers, wanted // given)
    step = given // wanted
    # Arrow's division truncates towards zero; times before 1970 are floored too.
    quotient = pc.divide(numbers, step)
    return pc.subtract(quotient, pc.less(numbers, pc.multiply(quotient, step)).cast(pa.int64()))


# Outward -----------------------------------------------------------------------------------------------------


def _outward(array: Any, type_: pa.DataType) -> Any:
    """The array of the logical type `type_` that a canonical array stands for."""
    if array.type == type_:
        return array
    if pa.types.is_null(type_):
        return pa.nulls(len(array))
    if _is_time(type_):
        return array.cast(pa.int64()).cast(type_)
    if pa.types.is_date32(type_):
        return array.cast(pa.int32()).cast(type_)
    if pa.types.is_date(type_):
        return array.cast(pa.int32()).cast(pa.date32()).cast(type_)
    if pa.types.is_decimal256(type_):
        return pa.array([None if text is None else decimal.Decimal(text) for text in array.to_pylist()], type_)
    if pa.types.is_nested(type_):
        read = [None if text is None else typed_value(json.loads(text), type_) for text in array.to_pylist()]
        return pa.array(read, type_)
    if pa.types.is_dictionary(type_):
        return _outward(array, type_.value_type).dictionary_encode().cast(type_)
    return array.cast(type_)


# Nested values as JSON ---------------------------------------------------------------------------------------


def plain_values(array: Any, *, readable: bool = False) -> list[Any]:
    """Return the values of an array as what JSON can hold.

    Times and dates are whole numbers in the unit of their type, decimals texts, bytes base64, a map a list of
    pairs. NaN and infinities stay floats.

    Parameters
    ----------
    readable : bool
        For readers outside: times and dates are ISO 8601 texts, NaN and infinities texts, a map with text keys an
        object.
    """
    type_ = array.type
    if pa.types.is_struct(type_):
        names = [type_.field(i).name for i in range(type_.num_fields)]
        fields = [plain_values(field, readable=readable) for field in array.flatten()]
        rows = zip(*fields, strict=True) if fields else [()] * len(array)
        valid = array.is_valid().to_pylist()
        return [dict(zip(names, row, strict=True)) if ok else None for ok, row in zip(valid, rows, strict=True)]
    if pa.types.is_map(type_) or _is_list(type_):
        return [_plain_list(scalar, readable) for scalar in array]
    if pa.types.is_dictionary(type_):
        return plain_values(array.cast(type_.value_type), readable=readable)
    if pa.types.is_decimal(type_):
        return [None if value is None else f"{value:f}" for value in array.to_pylist()]
    if _is_bytes(type_):
        return [None if value is None else base64.b64encode(value).decode() for value in array.to_pylist()]
    if pa.types.is_temporal(type_):
        return _plain_times(array, readable)
    if readable and pa.types.is_floating(type_):
        return [value if value is None or math.isfinite(value) else _NOT_FINITE[repr(value)] for value in array.to_pylist()]
    return list(array.to_pylist())


def _plain_times(array: Any, readable: bool) -> list[Any]:
    type_ = array.type
    if readable and pa.types.is_date(type_):
        return [None if value is None else value.isoformat() for value in array.to_pylist()]
    if readable and pa.types.is_timestamp(type_):
        # Arrow's own text has all digits of the unit and no time zone of its own once the type has none.
        texts = array.cast(pa.int64()).cast(pa.timestamp(type_.unit)).cast(pa.string())
        return [None if text is None else f"{text.replace(' ', 'T')}Z" for text in texts.to_pylist()]
    if pa.types.is_date32(type_) or pa.types.is_time32(type_):
        array = array.cast(pa.int32())
    return list(array.cast(pa.int64()).to_pylist())


def _plain_list(scalar: Any, readable: bool) -> list[Any] | dict[str, Any] | None:
    if not scalar.is_valid:
        return None
    values = scalar.values
    if not pa.types.is_map(scalar.type):
        return plain_values(values, readable=readable)
    keys, items = (plain_values(values.field(i), readable=readable) for i in range(2))
    if readable and _is_text(scalar.type.key_type):
        return dict(zip(keys, items, strict=True))
    return [[key, item] for key, item in zip(keys, items, strict=True)]


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_) or type_ == pa.binary_view()
    )


def typed_value(value: Any, type_: pa.DataType) -> Any:
    """Return what `pa.array(..., type_)` takes for a value that came out of JSON (the way back of `plain_values`).

    Times and dates may also be ISO 8601 texts.
    """
    if value is None:
        return None
    if pa.types.is_struct(type_):
        fields = [type_.field(i) for i in range(type_.num_fields)]
        return {field.name: typed_value(value.get(field.name), field.type) for field in fields}
    if pa.types.is_map(type_):
        pairs = value.items() if isinstance(value, dict) else value
        return [(typed_value(key, type_.key_type), typed_value(item, type_.item_type)) for key, item in pairs]
    if _is_list(type_):
        return [typed_value(item, type_.value_type) for item in value]
    if pa.types.is_decimal(type_):
        return decimal.Decimal(str(value))
    if _is_bytes(type_):
        return base64.b64decode(value)
    if isinstance(value, str) and (_is_time(type_) or pa.types.is_date(type_)):
        return _moment(value, type_)
    if pa.types.is_floating(type_) and isinstance(value, int):
        return float(value)
    return value


def _moment(text: str, type_: pa.DataType) -> int:
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    microseconds = (moment - _EPOCH) // datetime.timedelta(microseconds=1)
    if pa.types.is_date32(type_):
        return microseconds // 86_400_000_000
    unit = "ms" if pa.types.is_date64(type_) else type_.unit
    return microseconds * 1000 if unit == "ns" else microseconds // {"s": 1_000_000, "ms": 1000, "us": 1}[unit]


_IN_US = {pa.duration("ns"): pa.duration("us"), pa.time64("ns"): pa.time64("us")}


def python_rows(rows: Any) -> list[dict[str, Any]]:
    """Return the rows of a table or batch as Python values: what `to_pylist` gives, whatever is installed and whatever the times.

    A time, date or duration that Python's `datetime` cannot hold (digits below a microsecond, the years beyond 9999) is a
    whole number in the unit of its column: sent to a column of the same type it is the same value again.
    """
    if not any(_holds_times(field.type) for field in rows.schema):
        return list(rows.to_pylist())
    names = rows.schema.names
    columns = [python_values(column) for column in rows.columns]
    if not columns:
        return list(rows.to_pylist())
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def python_values(array: Any) -> list[Any]:
    """Return the values of an array or a chunked array as `python_rows` does."""
    return [python_value(scalar) for scalar in array] if _holds_times(array.type) else list(array.to_pylist())


def python_value(scalar: Any) -> Any:
    """Return one value as `python_rows` does."""
    type_ = scalar.type
    if not scalar.is_valid or not _holds_times(type_):
        return scalar.as_py()
    if pa.types.is_dictionary(type_):
        return python_value(scalar.value)
    if pa.types.is_struct(type_):
        return {type_.field(i).name: python_value(scalar[i]) for i in range(type_.num_fields)}
    if pa.types.is_map(type_):
        keys, items = (scalar.values.field(i) for i in range(2))
        return list(zip(python_values(keys), python_values(items), strict=True))
    if _is_list(type_):
        return python_values(scalar.values)
    if getattr(type_, "unit", None) == "ns":
        # pyarrow gives pandas' types where pandas is installed, and fails where it is not.
        if scalar.value % 1000:
            return scalar.value
        coarser = pa.timestamp("us", type_.tz) if pa.types.is_timestamp(type_) else _IN_US[type_]
        scalar = pa.scalar(scalar.value // 1000, pa.int64()).cast(coarser)
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return scalar.value * 1000 if scalar.type != type_ else scalar.value


def _holds_times(type_: Any) -> bool:
    if pa.types.is_dictionary(type_):
        return _holds_times(type_.value_type)
    if type_.num_fields:
        return any(_holds_times(type_.field(i).type) for i in range(type_.num_fields))
    return bool(pa.types.is_temporal(type_)) and not pa.types.is_interval(type_)
