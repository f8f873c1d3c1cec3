"""Values on their way into a table and out of one: none is changed on the way without a word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from io import BytesIO
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from streamdsl._native.serdes.json_writer import json_lines
from streamdsl.connectors.postgres.columns import Target
from streamdsl.errors import DataError
from streamdsl.formats.conform import floored
from streamdsl.formats.json_values import Digits, value_of
from streamdsl.schema import Field

__all__ = ["Unreadable", "as_csv", "check_exact", "read_column", "shown"]

_UNITS_PER_S: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: What PostgreSQL has of a second.
_MICRO: Final = 6
#: Of a value that does not fit, so much is shown.
_SHOWN: Final = 80


class Unreadable:
    """A value that Python has no object for, such as a time before the year 1."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def as_csv(rows: pa.RecordBatch) -> bytes:
    """Return rows as COPY reads them: what is null is empty, and every value is quoted."""
    columns = [_plain(column) for column in rows.columns]
    out = BytesIO()
    options = pa_csv.WriteOptions(include_header=False, quoting_style="all_valid")
    pa_csv.write_csv(pa.RecordBatch.from_arrays(columns, names=rows.schema.names), out, options)
    return out.getvalue()


def _plain(column: pa.Array) -> pa.Array:
    kind = pa.types
    if kind.is_nested(column.type):
        return _as_json(column)
    if kind.is_binary(column.type) or kind.is_large_binary(column.type):
        return pa.array([None if value is None else "\\x" + value.hex() for value in column.to_pylist()], pa.string())
    if kind.is_decimal(column.type):
        return pc.cast(column, pa.string())
    if kind.is_timestamp(column.type) and column.type.tz not in (None, "UTC"):
        # The same instant: a column without a zone would take the local hour for it.
        return column.cast(pa.timestamp(column.type.unit, "UTC"))
    return column


def _as_json(column: pa.Array) -> pa.Array:
    before, behind = b'{"c":', b"}"
    lines = json_lines(pa.RecordBatch.from_arrays([column], names=["c"])).split(b"\n")
    texts = [line[len(before) : -len(behind)].decode() for line in lines[: len(column)]]
    return pa.array([text if column[row].is_valid else None for row, text in enumerate(texts)], pa.string())


def check_exact(rows: pa.RecordBatch, target: Target, doing: str) -> None:
    """Refuse values that the table would round or cut.

    Raises
    ------
    DataError
        Names the column, and the first such value.
    """
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        kept = target.columns[name]
        same = _unchanged(column, kept.type, kept.modifier)
        if same is None:
            continue
        changed = pc.indices_nonzero(pc.invert(pc.fill_null(same, True)))
        if len(changed):
            value = column.slice(changed[0].as_py(), 1).cast(pa.string())[0]
            raise DataError(
                f"{doing}: column {name!r} is {kept.described} in the table, which would change {shown(value)}",
                remedy=f"round or cut it before the sink, with_columns({name}=…), or give the table's column a wider type",
            )


def _unchanged(column: pa.Array, type_: str, modifier: int) -> pa.Array | None:
    """Return for each value whether the table keeps it as it is; None: all of them."""
    kind = pa.types
    if type_ == "numeric" and modifier >= 0:
        scale = (((modifier - 4) & 0x7FF) ^ 0x400) - 0x400
        if kind.is_decimal(column.type) and column.type.scale > scale:
            return pc.equal(pc.round(column, ndigits=scale), column)
        if kind.is_floating(column.type):
            return _has_digits(column.cast(pa.float64()), scale)
    if kind.is_timestamp(column.type):
        per_unit = _UNITS_PER_S[column.type.unit] // 10 ** min(modifier if modifier >= 0 else _MICRO, _MICRO)
        if per_unit > 1:
            numbers = column.cast(pa.int64())
            return pc.equal(pc.multiply(pc.divide(numbers, per_unit), per_unit), numbers)
    if type_ == "character varying" and modifier >= 0 and kind.is_string(column.type):
        # It cuts spaces at the end; all else it refuses by itself.
        text = pc.utf8_rtrim_whitespace(column)
        return pc.or_(pc.less_equal(pc.utf8_length(column), modifier - 4), pc.greater(pc.utf8_length(text), modifier - 4))
    return None


def _has_digits(column: pa.Array, scale: int) -> pa.Array:
    same = pc.or_(pc.equal(pc.round(column, ndigits=scale), column), pc.invert(pc.is_finite(column)))
    if pc.all(same).as_py() is not False:
        return same
    # Near the end of a double's digits only the text of it tells.
    return pa.array(
        [None if x is None else yes or round(x, scale) == x for x, yes in zip(column.to_pylist(), same.to_pylist(), strict=True)]
    )


def shown(value: Any) -> str:
    """Return a value as an error shows it."""
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def read_column(values: Sequence[Any], field: Field, bad: dict[int, str]) -> pa.Array:
    """Return what was fetched as a column; `bad` gets the rows whose value is none of its type."""
    try:
        column = _converted(values, field.type)
    except (ValueError, TypeError, OverflowError, pa.ArrowException):
        parts = []
        for row, value in enumerate(values):
            try:
                parts.append(_converted([value], field.type))
            except (ValueError, TypeError, OverflowError, pa.ArrowException):
                bad.setdefault(row, f"field {field.name!r}: {shown(value)} is not {field.type}")
                parts.append(pa.nulls(1, field.type))
        column = pa.concat_arrays(parts)
    if field.required and column.null_count:
        for row in pc.indices_nonzero(column.is_null()).to_pylist():
            bad.setdefault(row, f"field {field.name!r} is null")
    return field.filled(column)


def _converted(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    kind = pa.types
    if kind.is_integer(type_):
        values = [value if value is None or type(value) is int else _whole(value) for value in values]
    elif kind.is_floating(type_):
        values = [float_of(value) if isinstance(value, Decimal) else value for value in values]
    elif kind.is_nested(type_):
        values = [None if value is None else value_of(json.loads(value, parse_float=Digits), type_) for value in values]
    elif kind.is_timestamp(type_):
        return floored(pa.array(values, pa.timestamp("us", type_.tz)), type_)
    return pa.array(values, type_)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or value != (whole := int(value)):
        raise ValueError(f"{value} is no whole number")
    return whole


def float_of(value: Decimal) -> float:
    """Return the nearest float.

    Raises
    ------
    OverflowError
        It is beyond all of them.
    """
    near = float(value)
    if value.is_finite() and near in (float("inf"), float("-inf")):
        raise OverflowError(f"{value} is too large for a float")
    return near
