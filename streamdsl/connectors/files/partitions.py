"""Directories by the values of columns, and by time: ``country=CL/date=2024-05-01/part-….parquet``, as Hive and its kin have them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl.errors import ConnectorError, DataError, TopologyError
from streamdsl.formats.conform import floored
from streamdsl.schema import Field, Schema

__all__ = ["PERIODS", "Partitions", "is_partition", "values_of", "with_values"]

_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
#: So long the name of a directory may be, in most file systems.
_NAME_BYTES: Final = 255
_SEGMENT: Final = re.compile(r"([^/=]+)=([^/]*)")
#: What a period is called, and how its directories are made of an event time.
PERIODS: Final[Mapping[str, Mapping[str, str]]] = {"1d": {"date": "%Y-%m-%d"}, "1h": {"date": "%Y-%m-%d", "hour": "%H"}}


class Partitions:
    """How the rows of a sink are spread over directories.

    Parameters
    ----------
    columns : sequence of str
        Columns whose values are in the names of directories, and not in the files.
    period : "1d" | "1h" | None
        Length of time by whose beginning (UTC) there are directories, of the rows' event time.
    """

    def __init__(self, columns: Sequence[str], period: str | None) -> None:
        self.columns, self.period = tuple(columns), period

    def __bool__(self) -> bool:
        return bool(self.columns or self.period)

    def check(self, what: str, schema: Schema) -> None:
        """Refuse columns that are no names of directories.

        Raises
        ------
        TopologyError
            Names the column.
        """
        for name in self.columns:
            kind = schema.field(name).type
            if not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_date32(kind) or pa.types.is_boolean(kind)):
                raise TopologyError(
                    f"{what}: partition_by= names {name!r}, which is {kind}", remedy="partition by text, whole numbers, dates or booleans"
                )
        if len(set(self.columns)) == len(schema):
            raise TopologyError(f"{what}: partition_by= names every column", remedy="a file needs one that is not in its place")
        for name in PERIODS.get(self.period or "", ()):
            if name in schema:
                raise TopologyError(
                    f"{what}: partition_time= makes directories {name}=…, and the rows have a column of that name",
                    remedy=f"rename the column before the sink, or partition by it: partition_by={name!r}",
                )

    def parted(self, rows: pa.Table, times: pa.ChunkedArray, what: str) -> Iterator[tuple[str, pa.Table]]:
        """Yield rows by their directory, "a=1/b=2".

        Raises
        ------
        DataError
            A text that a directory cannot tell from a null, or that is too long for its name.
        """
        if not self:
            yield "", rows
            return
        keys = rows.select(list(self.columns))
        for name in self.columns:
            if pa.types.is_string(keys.column(name).type):
                _check_names(what, name, keys.column(name))
        moments = times.cast(pa.timestamp("ms", "UTC"))
        for name, form in PERIODS.get(self.period or "", {}).items():
            keys = keys.append_column(name, pc.strftime(moments, form))
        kept = rows.select([name for name in rows.schema.names if name not in self.columns])
        names = keys.schema.names
        for values in keys.group_by(names).aggregate([]).to_pylist():
            here = pa.repeat(True, rows.num_rows)
            for name in names:
                column, value = keys.column(name), values[name]
                same = pc.is_null(column) if value is None else pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False)
                here = pc.and_(here, same)
            yield "/".join(f"{quote(name, safe='')}={_text(values[name])}" for name in names), kept.filter(here)


def _check_names(what: str, name: str, column: pa.ChunkedArray) -> None:
    for value in pc.unique(column).to_pylist():
        if value is None:
            continue
        wrong = "an empty text" if not value else f"the text {value!r}, which stands for a null" if value == _NULL else ""
        if len(f"{quote(name, safe='')}={_text(value)}") > _NAME_BYTES:
            wrong = f"a text of {len(value):,} characters"
        if wrong:
            raise DataError(
                f"{what}: column {name!r} is {wrong}, which is no name of a directory",
                remedy=f"give it another value before the sink, or do not partition by {name!r}",
            )


def _text(value: Any) -> str:
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return "true" if value else "false"
    return quote(value.isoformat() if isinstance(value, datetime.date) else str(value), safe="")


def is_partition(name: str) -> bool:
    """Whether a directory has the name of a partition."""
    return _SEGMENT.fullmatch(name) is not None


def values_of(path: str) -> dict[str, str | None]:
    """Return the values in the names of the directories of a file, by column."""
    found = {}
    for segment in path.replace("\\", "/").split("/")[:-1]:
        match = _SEGMENT.fullmatch(segment)
        if match:
            found[unquote(match[1])] = None if match[2] == _NULL else unquote(match[2])
    return found


def with_values(rows: pa.RecordBatch, fields: Sequence[Field], values: Mapping[str, str | None], path: str) -> pa.RecordBatch:
    """Return rows with the columns of their directories.

    Raises
    ------
    ConnectorError
        A value is none of its column's type.
    """
    columns, names = list(rows.columns), list(rows.schema.names)
    for field in fields:
        if field.name in names or field.name not in values:
            continue
        try:
            value = floored(pa.array([values[field.name]], pa.string()), field.type)[0]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ConnectorError(
                f"{path}: the directory says {field.name}={values[field.name]}, which is no {field.type}", remedy="declare another type"
            ) from None
        columns.append(pa.repeat(value, rows.num_rows))
        names.append(field.name)
    return pa.RecordBatch.from_arrays(columns, names=names) if columns else rows
