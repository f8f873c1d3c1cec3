"""The offsets of time zones, as numbers that native code finds its way in."""

from __future__ import annotations

import datetime
import functools
import zoneinfo
from typing import Final

__all__ = ["transitions"]

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_FIRST_YEAR: Final = 1840
#: From 2100 on rules alone hold, and they are the same every 400 years: native code finds later moments in those of 2100 to 2500.
_LAST_YEAR: Final = 2501
#: No zone has had an offset for a shorter time than this one, but for a few before there were computers.
_STEP: Final = datetime.timedelta(days=5)
_SECOND: Final = datetime.timedelta(seconds=1)


@functools.lru_cache(maxsize=64)
def transitions(tz: str) -> tuple[tuple[int, int], ...]:
    """Return (moment, offset from UTC in ms from there on), ascending; the first offset holds for all that was before, too.

    The last 400 years stand for all that come behind them.

    Examples
    --------
    >>> transitions("Europe/Berlin")[-1][1]
    3600000
    """
    zone = zoneinfo.ZoneInfo(tz)

    def offset(moment: datetime.datetime) -> datetime.timedelta:
        found = moment.astimezone(zone).utcoffset()
        return datetime.timedelta(0) if found is None else found

    at = datetime.datetime(_FIRST_YEAR, 1, 1, tzinfo=datetime.UTC)
    end = datetime.datetime(_LAST_YEAR, 1, 1, tzinfo=datetime.UTC)
    before = offset(at)
    found = [(_ms(at - _EPOCH), _ms(before))]
    while at < end:
        later = at + _STEP
        after = offset(later)
        if after != before:
            low, high = at, later
            while high - low > _SECOND:
                middle = low + (high - low) / 2
                middle = middle.replace(microsecond=0)
                if middle <= low:
                    break
                if offset(middle) == before:
                    low = middle
                else:
                    high = middle
            after = offset(high)
            found.append((_ms(high - _EPOCH), _ms(after)))
            at, before = high, after
        else:
            at = later
    return tuple(found)


def _ms(span: datetime.timedelta) -> int:
    return span // datetime.timedelta(milliseconds=1)
