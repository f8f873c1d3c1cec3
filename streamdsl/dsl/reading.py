"""What a topology is told of a source: its columns, its event time, how long versions are kept."""

from __future__ import annotations

import zoneinfo
from typing import Any, Final

import pyarrow as pa

from streamdsl.connectors.base import METADATA_COLUMNS, Source
from streamdsl.durations import parse_duration
from streamdsl.errors import TopologyError
from streamdsl.logical.source import EventTime, readable
from streamdsl.logical.types import is_integer, is_time, require_supported
from streamdsl.schema import Schema

__all__ = ["declared_schema", "event_time_of", "kept_for"]

_SCHEMA: Final = 'give it schema=, a dataclass or a mapping: schema={"account": str, "amount": float}'


def kept_for(versioned: Any) -> int:
    """Return `versioned=` in milliseconds."""
    if isinstance(versioned, bool):
        raise TopologyError(
            f"table: versioned={versioned!r} does not say how long rows that were replaced are kept",
            remedy='give a duration: versioned="1d"',
        )
    return parse_duration(versioned, "table: versioned")


def declared_schema(source: Source, verb: str) -> Schema:
    """Return the columns that a source declares, which must be of types that can be held."""
    if source.schema is None:
        raise TopologyError(f"{verb}: the source {source.name!r} does not say which columns it has", remedy=_SCHEMA)
    declared = Schema.of(source.schema)
    for field in declared.fields:
        try:
            require_supported(field.type)
        except TopologyError as error:
            raise TopologyError(f"{verb}: column {field.name!r}: {error.message}", remedy=error.remedy) from None
    if not declared.fields:
        raise TopologyError(f"{verb}: the source {source.name!r} has a schema without columns", remedy=_SCHEMA)
    return declared


def event_time_of(source: Source, column: str | None, unit: str | None, format: str | None, tz: str | None, verb: str) -> EventTime | None:
    """Return what `timestamp=` and its companions mean; they must fit the column's type."""
    if not isinstance(source, Source):
        raise TopologyError(f"{verb}: {source!r} is not a source", remedy="use kafka(...), files(...) or memory(...)")
    given = {"unit": unit, "format": format, "tz": tz}
    if column is None:
        for name, value in given.items():
            if value is not None:
                raise TopologyError(f"{verb}: {name}={value!r} without timestamp=", remedy="name the column of the event time: timestamp=")
        return None
    if not isinstance(column, str):
        raise TopologyError(
            f"{verb}: timestamp={column!r} is not the name of a column",
            remedy='write timestamp="at", a column of the source',
        )
    declared = declared_schema(source, verb)
    try:
        type_ = readable(declared).field(column).type
    except TopologyError as error:
        raise TopologyError(f"{verb}: timestamp={column!r}: {error.message}", remedy=error.remedy) from None
    if column in METADATA_COLUMNS and column not in declared:
        raise TopologyError(f"{verb}: timestamp={column!r} is not a time")
    if unit is not None and unit not in ("s", "ms", "us", "ns"):
        raise TopologyError(f"{verb}: unit={unit!r} is unknown", remedy='use "s", "ms", "us" or "ns"')
    _check_zone(tz, verb)
    number = (is_integer(type_) and type_ != pa.uint64()) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    allowed = (
        {"tz"}
        if is_time(type_) and type_.tz is None
        else set()
        if is_time(type_)
        else {"unit"}
        if number
        else {"unit", "format", "tz"}
        if pa.types.is_string(type_) or pa.types.is_large_string(type_)
        else None
    )
    told = f"{verb}: timestamp={column!r} is {type_}"
    if allowed is None or (unit is None and number and not is_integer(type_)):
        raise TopologyError(
            told,
            remedy="event time is a timestamp, integers (not uint64) of milliseconds since 1970, a text, "
            'or numbers with unit="s" and the like',
        )
    for name, value in given.items():
        if value is not None and name not in allowed:
            raise TopologyError(f"{told}, and {name}={value!r} says nothing about it", remedy=_UNUSED[name])
    if unit is not None and (format is not None or tz is not None):
        raise TopologyError(f"{verb}: unit= is for numbers, format= and tz= are for texts", remedy="give one of them")
    return EventTime(column, type_, unit, format, tz)


_UNUSED = {
    "unit": "a timestamp has its unit in its type, such as pa.timestamp('s'); leave unit= out",
    "format": "declare the column as text (str) to read it with format=",
    "tz": "tz= is for texts and for timestamps without a zone; leave it out",
}


def _check_zone(tz: str | None, verb: str) -> None:
    if tz is None:
        return
    try:
        zoneinfo.ZoneInfo(tz)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise TopologyError(f"{verb}: tz={tz!r} is no time zone", remedy='use a name such as "Europe/Berlin" or "UTC"') from None
