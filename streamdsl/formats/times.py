"""Texts and numbers to times: what CSV, JSON and event time have in common.

A text is ISO 8601: a date, or a date and a time with or without a zone. Without a zone it is UTC. Digits that are finer than
the wanted unit are floored. A whole number counts in the wanted unit since 1970.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from streamdsl.errors import DataError
from streamdsl.formats.conform import floored
from streamdsl.formats.units import PER_SECOND, WHOLE_NUMBER, other_unit

__all__ = ["EventTimes", "moments_of", "say_naive"]

log = logging.getLogger("streamdsl")

_DATE: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_ZONE: Final = r"[T ][0-9]{2}(:?[0-9]{2})?.*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
#: What a timestamp of nanoseconds reaches, in microseconds.
_FIRST_US: Final = -9_223_372_036_854_776
_LAST_US: Final = 9_223_372_036_854_775
_told: set[str] = set()


def moments_of(texts: pa.Array, type_: pa.DataType) -> tuple[pa.Array, bool]:
    """Return texts as a column of a timestamp type, and whether any had no zone.

    Raises
    ------
    pyarrow.ArrowInvalid
        One of them is no time.
    """
    nothing = pa.scalar(None, pa.string())
    texts = texts.cast(pa.string())
    numeric = pc.match_substring_regex(texts, WHOLE_NUMBER)
    counted = None
    if pc.any(numeric).as_py():
        counted = pc.if_else(numeric, texts, nothing).cast(pa.int64()).cast(type_)
        texts = pc.if_else(numeric, nothing, texts)
    digits = 9 if type_.unit == "ns" else 6
    texts = pc.replace_substring_regex(texts, rf"[.,]([0-9]{{{digits}}})[0-9]+", r".\1")
    texts = pc.if_else(pc.match_substring_regex(texts, _DATE), pc.binary_join_element_wise(texts, "00:00:00", "T"), texts)
    zoned = pc.match_substring_regex(texts, _ZONE)
    naive = pc.any(pc.invert(zoned)).as_py() is True
    if naive:
        texts = pc.if_else(zoned, texts, pc.binary_join_element_wise(texts, "Z", ""))
    read = _nanoseconds(texts) if digits == 9 else texts.cast(pa.timestamp("us", "UTC"))
    moments = floored(read, _utc(type_)).cast(type_)
    return moments if counted is None else pc.coalesce(counted, moments), naive


def _nanoseconds(texts: pa.Array) -> pa.Array:
    """Return texts with zones as times of nanoseconds."""
    try:
        return texts.cast(pa.timestamp("ns", "UTC"))
    except pa.ArrowInvalid:
        # In the first second of the type the whole seconds overflow, although the time does not.
        whole = pc.replace_substring_regex(texts, r"([.,][0-9]{6})[0-9]+", r"\1")
        coarse = whole.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        if pc.any(pc.or_(pc.less(coarse, _FIRST_US), pc.greater(coarse, _LAST_US))).as_py() is True:
            raise
        rest = pc.replace_substring_regex(texts, r"^.*[.,][0-9]{6}([0-9]+).*$", r"\1")
        rest = pc.if_else(pc.match_substring_regex(rest, r"^[0-9]{1,3}$"), pc.utf8_rpad(rest, 3, "0"), "0").cast(pa.int64())
        found = pc.add(pc.multiply(coarse, 1_000), rest)  # wraps around, and back
        if pc.any(pc.not_equal(pc.sign(found), pc.sign(coarse)).filter(pc.greater(pc.abs(coarse), 1))).as_py() is True:
            raise
        return found.cast(pa.timestamp("ns", "UTC"))


def _utc(type_: pa.DataType) -> pa.DataType:
    return pa.timestamp(type_.unit, "UTC")


def say_naive(column: str, where: str) -> None:
    """Say once for each column that its times have no zone."""
    if column not in _told:
        _told.add(column)
        log.warning("%s: the times in column %r have no zone and are taken as UTC", where, column)


@dataclass(frozen=True)
class EventTimes:
    """How a column of a source gives event times (ms): `type` is the declared one, the rest what `stream(...)` was told."""

    source: str
    column: str
    type: pa.DataType
    unit: str | None = None
    format: str | None = None
    tz: str | None = None

    def check(self, column: pa.Array) -> bool:
        """Refuse integers, also as texts, that are plausible in another unit than milliseconds, or as dates without dashes.

        Returns
        -------
        bool
            False if there is nothing to judge by.

        Raises
        ------
        DataError
            Names the unit or the format.
        """
        if self.unit is not None or self.format is not None or pa.types.is_timestamp(self.type):
            return True
        numbers = _whole_numbers(column)
        if numbers is None:
            return True
        if len(numbers) == numbers.null_count:
            return False
        judged = other_unit(numbers, "ms")
        if judged is not None:
            unit, words = judged
            raise DataError(
                f"the times in column {self.column!r} {words}",
                remedy=f'declare the column as str and give the format: timestamp={self.column!r}, format="%Y%m%d" '
                '(or unit="ms", if it is milliseconds)'
                if unit == "day"
                else f'give the unit: timestamp={self.column!r}, unit="{unit}" (or unit="ms", if it is milliseconds)',
                operator=self.source,
                field=self.column,
            )
        return True

    def of(self, column: pa.Array) -> pa.Int64Array:
        """Return the event times (ms) of a column; null where it has none."""
        if pa.types.is_timestamp(column.type):
            return self._from_clock(column)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return _each_if_needed(column, self._from_texts)
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        if pa.types.is_floating(column.type):
            return self._from_floats(column.cast(pa.float64()))
        return _each_if_needed(column.cast(pa.int64()), lambda part: _ms(part.cast(pa.timestamp(self.unit or "ms"))))

    def _from_floats(self, column: pa.Array) -> pa.Array:
        # By microseconds: 1710037800.123 s is a little less in binary.
        scaled = pc.round(pc.multiply(column, 1e6 / PER_SECOND[self.unit or "ms"]))
        good = pc.and_(pc.is_finite(column), pc.less(pc.abs(scaled), 9e18))
        return _ms(pc.if_else(good, scaled, pa.scalar(None, pa.float64())).cast(pa.int64()).cast(pa.timestamp("us")))

    def _from_clock(self, column: pa.Array) -> pa.Array:
        if self.tz is not None and column.type.tz is None:
            # The hour that is skipped in spring is its end; of the one that comes twice in autumn it is the first.
            column = pc.assume_timezone(column, self.tz, ambiguous="earliest", nonexistent="latest")
        return _ms(column)

    def _from_texts(self, texts: pa.Array) -> pa.Array:
        if self.format is not None:
            return self._from_clock_and_zone(texts)
        if self.unit is not None:
            return self._from_floats(texts.cast(pa.float64()))
        if self.tz is None:
            moments, naive = moments_of(texts, pa.timestamp("ms", "UTC"))
            if naive:
                say_naive(self.column, self.source)
            return _ms(moments)
        zoned = pc.match_substring_regex(texts, _ZONE)
        nothing = pa.scalar(None, pa.string())
        local = moments_of(pc.if_else(zoned, nothing, texts), pa.timestamp("us"))[0]
        return pc.coalesce(self._from_clock(local), _ms(moments_of(pc.if_else(zoned, texts, nothing), pa.timestamp("ms", "UTC"))[0]))

    def _from_clock_and_zone(self, texts: pa.Array) -> pa.Array:
        assert self.format is not None
        read = [None if text is None else datetime.datetime.strptime(text, self.format) for text in texts.to_pylist()]
        zoned = [moment if moment is not None and moment.utcoffset() is not None else None for moment in read]
        naive = [moment if moment is not None and moment.utcoffset() is None else None for moment in read]
        if self.tz is None and any(moment is not None for moment in naive):
            say_naive(self.column, self.source)
        return pc.coalesce(_ms(pa.array(zoned, pa.timestamp("us", "UTC"))), self._from_clock(pa.array(naive, pa.timestamp("us"))))


def _whole_numbers(column: pa.Array) -> pa.Int64Array | None:
    """Return a column of integers, or of texts that are all whole numbers, as integers; None: it is something else."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64())
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return None
    if pc.all(pc.match_substring_regex(column, WHOLE_NUMBER)).as_py() is not True:
        return None
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:  # one that does not fit is a bad record
        return None


def _ms(moments: pa.Array) -> pa.Int64Array:
    """Return timestamps as milliseconds, floored."""
    naive = moments.cast(pa.int64()).cast(pa.timestamp(moments.type.unit))
    return floored(naive, pa.timestamp("ms")).cast(pa.int64())


def _each_if_needed(column: pa.Array, convert: Callable[[Any], pa.Array]) -> pa.Array:
    """Convert a column; where that fails, row by row: those that fail are null."""
    try:
        return convert(column)
    except (pa.ArrowInvalid, ValueError):
        pass
    parts = []
    for row in range(len(column)):
        try:
            parts.append(convert(column.slice(row, 1)))
        except (pa.ArrowInvalid, ValueError):
            parts.append(pa.nulls(1, pa.int64()))
    return pa.concat_arrays(parts)
