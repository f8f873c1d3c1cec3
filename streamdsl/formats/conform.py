"""Columns of a file to columns of the declared types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl._native.flow.convert import python_rows, python_value
from streamdsl.errors import ConnectorError
from streamdsl.formats.units import FirstNumbers
from streamdsl.schema import Field, nearest

_UNITS: Final = {"s": "second", "ms": "millisecond", "us": "microsecond", "ns": "nanosecond"}
_FIRST_DAY: Final = -719_162  # 0001-01-01
_LAST_DAY: Final = 2_932_896  # 9999-12-31
#: An exponent of four digits or more, in a text.
_FAR: Final = "[eE][-+]?0*[1-9][0-9]{3,}"
_FINENESS: Final = ("s", "ms", "us", "ns")


def floored(column: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return `column` as `type_`; times that are finer are floored (a cast would refuse or truncate them)."""
    if column.type.equals(type_):
        return column
    if (
        pa.types.is_timestamp(type_)
        and pa.types.is_timestamp(column.type)
        and _FINENESS.index(column.type.unit) > _FINENESS.index(type_.unit)
    ):
        column = pc.floor_temporal(column, unit=_UNITS[type_.unit])
    if "decimal" in str(type_) and _is_far(column):
        raise pa.ArrowInvalid(f"a text is not {type_}")
    return column.cast(type_)


def _is_far(column: pa.Array) -> bool:
    """Whether a text has an exponent that no decimal has: pyarrow reads beyond its tables for some, and the process ends."""
    type_ = column.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or type_ == pa.string_view():
        return bool(pc.any(pc.match_substring_regex(column.cast(pa.string()), pattern=_FAR)).as_py())
    if pa.types.is_dictionary(type_):
        return _is_far(column.dictionary)
    if pa.types.is_struct(type_):
        return any(map(_is_far, column.flatten()))
    if pa.types.is_map(type_):
        return _is_far(column.keys) or _is_far(column.items)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_):
        return _is_far(column.flatten())
    return False


def bounds_of(type_: pa.DataType) -> tuple[int, int]:
    """Return the least and the greatest value of a type of whole numbers."""
    bits: int = type_.bit_width
    return (0, (1 << bits) - 1) if pa.types.is_unsigned_integer(type_) else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def rows_of(columns: Sequence[pa.Array], fields: Sequence[Field], count: int) -> pa.RecordBatch:
    """Return a batch of `columns`; `count` is the number of rows if there is no column."""
    if not fields:
        return pa.RecordBatch.from_struct_array(pa.repeat(pa.scalar({}, pa.struct([])), count))
    arrays = [field.filled(column) for field, column in zip(fields, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(fields))


def arrow_schema(fields: Sequence[Field]) -> pa.Schema:
    """Return the pyarrow schema of `fields`."""
    return pa.schema([pa.field(field.name, field.type) for field in fields])


def empty_rows(fields: Sequence[Field]) -> pa.RecordBatch:
    """Return no rows of `fields`."""
    return rows_of([pa.array([], field.type) for field in fields], fields, 0)


def check_columns(path: str, known: Sequence[str], declared: Sequence[Field]) -> None:
    """Raise unless the file has each of the `declared` columns that is not optional, one at least, and none of them twice.

    Raises
    ------
    ConnectorError
        Names the file, the columns that are missing, and both lists.
    """
    names = [field.name for field in declared]
    for name in names:
        if known.count(name) > 1:
            raise ConnectorError(f"{path}: column {name!r} exists twice", remedy="rename one of them in the file")
    missing = [field.name for field in declared if field.required and field.name not in known]
    if not missing and (not names or any(name in known for name in names)):
        return
    missing = missing or names
    near = nearest(missing[0], known)
    raise ConnectorError(
        f"{path} has no column {', '.join(map(repr, missing))}; its columns: {', '.join(known) or 'none'}; declared: {', '.join(names)}",
        remedy=_other_columns(known, names)
        or (f"did you mean {near!r}? " if near else "")
        + "rename the column in the schema or in the file, or declare it as optional: `T | None`, or a default in a dataclass",
    )


def _other_columns(known: Sequence[str], names: Sequence[str]) -> str:
    """Say so if the one column that a file seems to have is several, with something else between them."""
    for mark in (";", "\t", "|", ",") if len(known) == 1 else ():
        if mark in known[0] and any(name in (part.strip(' "') for part in known[0].split(mark)) for name in names):
            return f"the file's columns are separated by {mark!r}: give files(..., delimiter={mark!r})"
    return ""


def check_types(path: str, schema: pa.Schema, fields: Sequence[Field]) -> None:
    """Raise unless the columns of a typed file can convert to the declared types."""
    for field in fields:
        if field.name not in schema.names:
            continue
        type_ = schema.field(field.name).type
        try:
            if pa.types.is_boolean(field.type) and not pa.types.is_boolean(type_) and not pa.types.is_string(type_):
                raise pa.ArrowInvalid("all numbers but 0 would be true")
            pa.array([], type_).cast(field.type)
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            raise ConnectorError(
                f"{path}: column {field.name!r} is {type_} and does not convert to {field.type}",
                remedy=f"declare it as {type_} and cast it in the topology",
            ) from None


def conform(
    rows: pa.RecordBatch, fields: Sequence[Field], first_numbers: FirstNumbers
) -> tuple[pa.RecordBatch, list[int] | None, dict[int, str]]:
    """Return `rows` with the declared types.

    Returns
    -------
    rows : pa.RecordBatch
        The good rows.
    kept : list[int] | None
        Their numbers; None means all.
    bad : dict[int, str]
        Why the others are bad.
    """
    bad: dict[int, str] = {}
    columns = []
    for field in fields:
        if field.name not in rows.schema.names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        first_numbers.look_at_column(field.name, rows.column(field.name))
        column = _cast(rows.column(field.name), field, bad)
        if field.required and column.null_count:
            for row in pc.indices_nonzero(column.is_null()).to_pylist():
                bad.setdefault(row, f"field {field.name!r} is null")
        columns.append(column)
    result = rows_of(columns, fields, rows.num_rows)
    if not bad:
        return result, None, bad
    kept = [row for row in range(rows.num_rows) if row not in bad]
    return result.take(pa.array(kept, pa.int64())), kept, bad


def _cast(column: pa.Array, field: Field, bad: dict[int, str]) -> pa.Array:
    try:
        return _within(floored(column, field.type))
    except pa.ArrowInvalid:
        pass
    values = []
    for row in range(len(column)):
        try:
            values.append(_within(floored(column.slice(row, 1), field.type)))
        except pa.ArrowInvalid:
            bad.setdefault(row, f"field {field.name!r}: {shown(column, row)} is not {field.type}")
            values.append(pa.nulls(1, field.type))
    return pa.concat_arrays(values)


def shown(column: pa.Array, row: int) -> str:
    """Return a value as an error shows it; pyarrow has none in Python for some types that it reads."""
    try:
        return repr(python_value(column[row]))
    except NotImplementedError:
        return f"a value of {column.type}"


def _within(column: pa.Array) -> pa.Array:
    """Return a column; refuse days that no calendar has."""
    if pa.types.is_date32(column.type):
        bounds = pc.min_max(column.cast(pa.int32())).as_py()
        if bounds["min"] is not None and not _FIRST_DAY <= bounds["min"] <= bounds["max"] <= _LAST_DAY:
            raise pa.ArrowInvalid("not a day of the years 1 to 9999")
    return column


def raw_row(rows: pa.RecordBatch, row: int) -> bytes:
    """Return a row as JSON text: what a dead letter shows of a record that never was text."""
    value: dict[str, Any] = python_rows(rows.slice(row, 1))[0]
    return json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "backslashreplace")
