"""Durations as people write them: the one parser of the library, for windows, settings, times to live and timers."""

from __future__ import annotations

import datetime
import functools
import operator
import re
from fractions import Fraction
from typing import Any, Final, Union

from streamdsl.errors import TopologyError

__all__ = ["MAX_DURATION_MS", "Duration", "format_duration", "parse_duration"]

Duration = Union[str, int, datetime.timedelta]

#: Longer durations do not fit the arithmetic of event times.
MAX_DURATION_MS: Final = 2**62

_UNITS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([^\W\d_]*)\s*", re.ASCII)
_MS: Final = datetime.timedelta(milliseconds=1)
_REMEDY: Final = 'write "100ms", "60s", "5m", "1h" or "2d", a timedelta, or an int of milliseconds'
_UNCLEAR: Final = {
    "M": 'a month or a minute? Write "{}m" for minutes, "30d" for a month',
    "MS": 'write "{}ms" for milliseconds',
    "us": "event time is in milliseconds",
    "ns": "event time is in milliseconds",
    **dict.fromkeys(("mo", "month", "months", "q"), 'months are not equally long: write days, "30d"'),
    **dict.fromkeys(("y", "Y", "year", "years"), 'years are not equally long: write days, "365d"'),
    **dict.fromkeys(("ms.", "msec", "millis", "milliseconds"), 'write "{}ms"'),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), 'write "{}s"'),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 'write "{}m"'),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), 'write "{}h"'),
    **dict.fromkeys(("day", "days"), 'write "{}d"'),
    **dict.fromkeys(("week", "weeks"), 'write "{}w"'),
}


def parse_duration(value: Duration, what: str = "duration", *, saturate: bool = False, signed: bool = False) -> int:
    """Return a duration in milliseconds.

    Parameters
    ----------
    value : str | int | timedelta
        ``"60s"``, ``"5m"``, ``"1h"``, ``"2d"``, ``"100ms"``, ``"1h30m"``, ``"1.5s"``; an int is milliseconds.
        Units are small letters; each occurs once.
    what : str
        What the duration is for; stands in the error.
    saturate : bool
        Take one that is longer than there are times as the longest, rather than as an error.
    signed : bool
        It may be negative: ``"-8h"``.

    Raises
    ------
    TopologyError
        The text cannot be read, the duration is too long, or it is negative and not `signed`.

    Examples
    --------
    >>> parse_duration("1h30m"), parse_duration("-8h", signed=True)
    (5400000, -28800000)
    """
    text = value.strip() if signed and isinstance(value, str) else ""
    ms = -_milliseconds(text[1:], what) if text.startswith("-") else _milliseconds(value, what)
    if ms < 0 and not signed:
        raise TopologyError(f"{what} {value!r} is negative")
    if abs(ms) > MAX_DURATION_MS and not saturate:
        raise TopologyError(f"{what} {value!r} is too long", remedy=f"the longest is {MAX_DURATION_MS} ms")
    return min(ms, 2**63 - 1)


def _milliseconds(value: Any, what: str) -> int:
    if isinstance(value, str):
        return _parse_text(value, what)
    if type(value).__name__ == "timedelta64":  # NumPy's; finer ones have no timedelta
        value = value.item()
        if not isinstance(value, datetime.timedelta):
            raise TopologyError(f"{what} {value!r} of NumPy is not a duration of milliseconds", remedy=_REMEDY)
    if isinstance(value, datetime.timedelta):
        ms = value // _MS
        if _MS * ms != value:
            raise _too_fine(value, what)
        return int(ms)
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise _bad_duration(value, what) from None


@functools.lru_cache(maxsize=256)
def _parse_text(text: str, what: str) -> int:
    position, total, seen = 0, Fraction(0), set[str]()
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            raise _bad_duration(text, what)
        number, unit = match.groups()
        if unit not in _UNITS:
            raise _bad_unit(text, number, unit, what)
        if unit in seen:
            raise TopologyError(f"{what} {text!r} is not a duration: it has the unit {unit!r} twice")
        seen.add(unit)
        total += Fraction(number) * _UNITS[unit]
        position = match.end()
    if not seen:
        raise _bad_duration(text, what)
    if total.denominator != 1:
        raise _too_fine(text, what)
    return int(total)


def _bad_unit(text: str, number: str, unit: str, what: str) -> TopologyError:
    if not unit:
        return TopologyError(f"{what} {text!r} is not a duration: it has no unit", remedy=_REMEDY)
    hint = _UNCLEAR.get(unit) or _UNCLEAR.get(unit.lower())
    if hint is None and unit.lower() in _UNITS:
        hint = f'units are small letters: write "{{}}{unit.lower()}"'
    return TopologyError(f"{what} {text!r} is not a duration: the unit {unit!r} is not known", remedy=(hint or _REMEDY).format(number))


def _too_fine(value: object, what: str) -> TopologyError:
    return TopologyError(f"{what} {value!r} is finer than a millisecond", remedy="event time is in milliseconds")


def _bad_duration(value: object, what: str) -> TopologyError:
    return TopologyError(f"{what} {value!r} is not a duration", remedy=_REMEDY)


def format_duration(ms: int) -> str:
    """Return a duration as people write it: ``format_duration(60_000)`` is ``"1m"``."""
    if ms == 0:
        return "0s"
    for unit in ("d", "h", "m", "s"):
        if ms % _UNITS[unit] == 0:
            return f"{ms // _UNITS[unit]}{unit}"
    return f"{ms}ms"
