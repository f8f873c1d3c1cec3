"""Whole numbers for times: those of another unit are refused before they become days of 1970."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl.errors import DataError
from streamdsl.schema import Field

__all__ = ["PER_SECOND", "WHOLE_NUMBER", "FirstNumbers", "other_unit"]

WHOLE_NUMBER: Final = r"^-?[0-9]{1,19}$"
PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
#: Seconds from the year 2000 to 2100: what a count of another unit looks like in that unit.
_PLAUSIBLE: Final = (946_684_800, 4_102_444_800)
_NAMES: Final = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}


def other_unit(numbers: pa.Int64Array, unit: str) -> tuple[str, str] | None:
    """Judge whole numbers that are to count in `unit`.

    Returns
    -------
    tuple[str, str] | None
        The unit that all of them look like ("day": dates without dashes), and the same in words. None: nothing is strange.
    """
    bounds = pc.min_max(numbers).as_py()
    if bounds["min"] is None:
        return None
    meant = f"as {_NAMES[unit]}, {bounds['min']} would be {_in_words(bounds['min'], unit)}"
    if _are_dates(numbers, bounds["min"], bounds["max"]):
        return "day", f"look like dates: {meant}"
    for other in ("s", "ms", "us", "ns"):
        least, most = (second * PER_SECOND[other] for second in _PLAUSIBLE)
        if other != unit and least <= bounds["min"] and bounds["max"] <= most:
            shown = f"as {_NAMES[other]} it is {_in_words(bounds['min'], other)}"
            return other, f"look like {_NAMES[other]}: {meant}, {shown}"
    return None


def _are_dates(numbers: pa.Int64Array, least: int, most: int) -> bool:
    """Whether all of them are days of the years 1900 to 2100, written without dashes."""
    if not 1900_01_01 <= least <= most <= 2100_12_31:
        return False
    try:
        pc.strptime(pc.cast(numbers, pa.string()), "%Y%m%d", "s")
    except pa.ArrowInvalid:
        return False
    return True


def _in_words(number: int, unit: str) -> str:
    try:
        return f"{datetime.datetime.fromtimestamp(number / PER_SECOND[unit], datetime.UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "far beyond the year 9999"


class FirstNumbers:
    """Judges the first whole numbers that come for each column of times, also within lists and structs.

    Only the first ones: whether a later record is good must not depend on its neighbours. What is a time already
    (a date and a clock, a type of the format itself) is never judged.
    """

    def __init__(self, fields: Sequence[Field], where: str) -> None:
        self._where = where
        self._open = {field.name: field.type for field in fields if _has_times(field.type)}

    def __bool__(self) -> bool:
        """Whether a column is still to be judged."""
        return bool(self._open)

    def look_at_texts(self, name: str, texts: pa.Array) -> None:
        """Judge the texts of a column that are whole numbers."""
        if name in self._open:
            numbers = texts.filter(pc.fill_null(pc.match_substring_regex(texts, WHOLE_NUMBER), False))
            try:
                self._look(name, [(repr(name), self._open[name], numbers.cast(pa.int64()))])
            except pa.ArrowInvalid:
                pass  # one that does not fit is a bad record

    def look_at_column(self, name: str, column: pa.Array) -> None:
        """Judge a column whose type may be of whole numbers where times are wanted."""
        if name in self._open:
            self._look(name, _counts_in(repr(name), column, self._open[name]))

    def look_at_values(self, name: str, values: Iterable[Any]) -> None:
        """Judge the Python values of a column."""
        if name in self._open:
            self._look(name, _counts_of(repr(name), [value for value in values if value is not None], self._open[name]))

    def _look(self, name: str, found: Iterable[tuple[str, pa.DataType, pa.Array]]) -> None:
        seen = False
        for path, type_, numbers in found:
            seen = seen or len(numbers) > numbers.null_count
            judged = other_unit(numbers, type_.unit)
            if judged is not None:
                unit, words = judged
                raise DataError(f"{self._where}: the numbers in column {path} {words}", remedy=_remedy(path, type_, unit), field=name)
        if seen:
            del self._open[name]


def _remedy(path: str, type_: pa.DataType, unit: str) -> str:
    right = f"if they are {_NAMES[type_.unit]}, declare it as int and cast it in the topology"
    if unit == "day":
        return f'declare {path} as str, and read it by str.to_datetime("%Y%m%d") in the topology; {right}'
    zone = "" if type_.tz is None else f', "{type_.tz}"'
    return f'declare {path} in that unit: pa.timestamp("{unit}"{zone}); {right}'


def _has_times(type_: pa.DataType) -> bool:
    if pa.types.is_nested(type_):
        return any(_has_times(type_.field(i).type) for i in range(type_.num_fields))
    return bool(pa.types.is_timestamp(type_))


def _counts_in(path: str, column: pa.Array, type_: pa.DataType) -> Iterator[tuple[str, pa.DataType, pa.Array]]:
    """Yield the whole numbers of a column that stand where `type_` has times."""
    if pa.types.is_timestamp(type_):
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_integer(column.type):
            try:
                yield path, type_, column.cast(pa.int64())
            except pa.ArrowInvalid:
                return  # one that does not fit is a bad record
    elif pa.types.is_struct(type_) and pa.types.is_struct(column.type):
        parts = column.flatten()
        for field in type_:
            place = column.type.get_field_index(field.name)
            if place >= 0:
                yield from _counts_in(f"{path}.{field.name}", parts[place], field.type)
    elif _is_list(type_) and _is_list(column.type):
        yield from _counts_in(path, column.flatten(), type_.value_type)


def _counts_of(path: str, values: list[Any], type_: pa.DataType) -> Iterator[tuple[str, pa.DataType, pa.Array]]:
    """Yield the integers among Python values that stand where `type_` has times."""
    if pa.types.is_timestamp(type_):
        numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63]
        yield path, type_, pa.array(numbers, pa.int64())
    elif pa.types.is_struct(type_):
        for field in type_:
            inner = [value.get(field.name) for value in values if isinstance(value, Mapping)]
            yield from _counts_of(f"{path}.{field.name}", [value for value in inner if value is not None], field.type)
    elif pa.types.is_map(type_):
        items = [item for value in values if isinstance(value, Mapping) for item in value.values() if item is not None]
        yield from _counts_of(path, items, type_.item_type)
    elif _is_list(type_):
        yield from _counts_of(path, [item for value in values if isinstance(value, list | tuple) for item in value], type_.value_type)


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))
