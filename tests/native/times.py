"""Functions of times in plain Python and zoneinfo, and with which parameters they are tried."""

from __future__ import annotations

import calendar
import datetime
import re
import zoneinfo
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from streamdsl.physical.node import Instruction
from tests.native.functions import Refused

DAY = 86_400_000
CYCLE = 12_622_780_800_000
EPOCH = datetime.datetime(1970, 1, 1)
ZONES = ["UTC", "Europe/Vienna", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]


def at(ms: int) -> datetime.datetime:
    return EPOCH + datetime.timedelta(milliseconds=ms)


def of(moment: datetime.datetime) -> int:
    return (moment - EPOCH) // datetime.timedelta(milliseconds=1)


def zoned(ms: int, zone: str) -> datetime.datetime:
    """The moment of 400 years before or after shows the same clock; the ends of `datetime` are far away then."""
    while ms > 5 * CYCLE // 2:
        ms -= CYCLE
    ms = max(ms, -5_000_000_000_000)
    return at(ms).replace(tzinfo=datetime.UTC).astimezone(zoneinfo.ZoneInfo(zone))


def offset(ms: int, zone: str) -> int:
    found = zoned(ms, zone).utcoffset()
    assert found is not None
    return round(found.total_seconds()) * 1000


def instants(wall: int, zone: str) -> list[int]:
    offsets = {offset(wall - DAY, zone), offset(wall + DAY, zone)}
    return sorted(wall - o for o in offsets if offset(wall - o, zone) == o)


def kept(ms: int, wall: int, zone: str) -> int:
    """The instant of a wall time that was computed from `ms`: the same offset, if it can be."""
    near = offset(ms, zone)
    if offset(wall - near, zone) == near:
        return wall - near
    found = instants(wall, zone)
    return found[0] if found else wall - offset(wall - DAY, zone)


def on_wall(change: Callable[[Instruction, datetime.datetime], datetime.datetime]) -> Callable[[Instruction, int], int]:
    def apply(ins: Instruction, ms: int) -> int:
        zone = ins.params[-1]
        return kept(ms, of(change(ins, at(ms + offset(ms, zone)))), zone)

    return apply


def _truncated(ins: Instruction, wall: datetime.datetime) -> datetime.datetime:
    number, unit, _ = ins.params
    if unit == "ms":
        return at(of(wall) // number * number)
    day = datetime.datetime(wall.year, wall.month, wall.day)
    if unit == "weeks":
        first = datetime.datetime(1970, 1, 5)
        return first + (day - first) // datetime.timedelta(weeks=number) * datetime.timedelta(weeks=number)
    months = ((wall.year - 1970) * 12 + wall.month - 1) // number * number
    return datetime.datetime(1970 + months // 12, months % 12 + 1, 1)


def _last(moment: datetime.datetime) -> int:
    return calendar.monthrange(moment.year, moment.month)[1]


def _moved(ins: Instruction, ms: int) -> int:
    months, days, rest, zone = ins.params
    if months or days:
        wall = at(ms + offset(ms, zone))
        year, month = divmod(wall.year * 12 + wall.month - 1 + months, 12)
        day = min(wall.day, calendar.monthrange(year, month + 1)[1])
        ms = kept(ms, of(wall.replace(year=year, month=month + 1, day=day) + datetime.timedelta(days=days)), zone)
    return ms + rest


def _instant(ins: Instruction, wall: int) -> int | None:
    zone, ambiguous, missing = ins.params
    found = instants(wall, zone)
    if len(found) == 1:
        return found[0]
    if found and ambiguous in ("earliest", "latest"):
        return found[0 if ambiguous == "earliest" else 1]
    if (ambiguous if found else missing) == "null":
        return None
    raise Refused("instant")


def _strftime(ins: Instruction, units: int) -> str:
    form, zone, per_ms = ins.params
    ms, below = divmod(units, per_ms)
    wall = at(ms + offset(ms, zone))
    known = zoned(ms, zone)
    year, week, weekday = wall.isocalendar()
    minutes = abs(offset(ms, zone)) // 60_000
    fraction = f"{wall.microsecond * 1000 + below * (1_000_000 // per_ms):09}"
    sign = "-" if offset(ms, zone) < 0 else "+"
    shown = {
        "Y": f"{wall.year:04}",
        "G": f"{year:04}",
        "V": f"{week:02}",
        "u": str(weekday),
        "e": f"{wall.day:2}",
        "k": f"{wall.hour:2}",
        ".3f": f".{wall.microsecond // 1000:03}",
        "f": fraction,
        ".6f": f".{fraction[:6]}",
        ".f": f".{fraction}".removesuffix("000").removesuffix("000").removesuffix("000").removesuffix("."),
        "z": f"{sign}{minutes // 60:02}{minutes % 60:02}",
        ":z": f"{sign}{minutes // 60:02}:{minutes % 60:02}",
        "Z": known.tzname(),
        "C": f"{wall.year // 100:02}",
        "s": str(ms // 1000),
        "-d": str(wall.day),
        "F": f"{wall.year:04}-{wall.month:02}-{wall.day:02}",
    }
    return re.sub(
        r"%([.:\-]?[36]?[A-Za-z])", lambda match: shown.get(match[1]) or (match[1] != ".f" and wall.strftime(match[0])) or "", form
    ).replace("%%", "%")


def _strptime(ins: Instruction, text: str) -> int | None:
    """ISO 8601 only."""
    _, zone, strict, ambiguous = ins.params
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|[+-]\d\d:?\d\d)?)?", text)
    try:
        if match is None:
            raise ValueError
        clock, _, fraction = (match[2] or "00:00").partition(".")
        wall = of(datetime.datetime.fromisoformat(f"{match[1]}T{clock}")) + int(f"{fraction:0<3}"[:3])
        if match[3] and match[3] != "Z":
            digits = match[3][1:].replace(":", "")
            return wall - int(match[3][0] + "1") * (int(digits[:2]) * 60 + int(digits[2:])) * 60_000
        if match[3]:
            return wall
        found = instants(wall, zone)
        if len(found) == 1:
            return found[0]
        if found and ambiguous in ("earliest", "latest"):
            return found[0 if ambiguous == "earliest" else 1]
        if found and ambiguous == "null":
            return None
        raise ValueError
    except ValueError:
        if strict:
            raise Refused("strptime") from None
        return None


def _part(part: Callable[[datetime.datetime], Any]) -> Callable[[Instruction, int], Any]:
    return lambda _, ms: part(at(ms))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "dt_wall": lambda ins, ms: ms + offset(ms, ins.params[0]),
    "dt_week": _part(lambda t: t.isocalendar().week),
    "dt_iso_year": _part(lambda t: t.isocalendar().year),
    "dt_quarter": _part(lambda t: (t.month + 2) // 3),
    "dt_days_in_month": _part(_last),
    "dt_is_leap_year": _part(lambda t: calendar.isleap(t.year)),
    "dt_month_start": on_wall(lambda _, t: t.replace(day=1)),
    "dt_month_end": on_wall(lambda _, t: t.replace(day=_last(t))),
    "dt_truncate_in": on_wall(_truncated),
    "dt_offset_by": _moved,
    "dt_instant": _instant,
    "dt_strftime": _strftime,
    "str_strptime": _strptime,
}

#: Times as they are written, with and without what may be left out; some are none.
STAMPS = st.tuples(
    st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2600, 1, 1)),
    st.sampled_from(["", "T%H:%M", " %H:%M:%S", "T%H:%M:%S.%f", "T%H:%M:%S.5", "T%H:%M:", "x", "T%H:%M:%S."]),
    st.sampled_from(["", "", "Z", "+02:00", "-0530", "+2"]),
).map(lambda parts: parts[0].strftime("%Y-%m-%d" + parts[1]) + parts[2])
#: Far from the ends of `datetime`, often next to a change of clocks.
MOMENTS = st.one_of(
    st.integers(-3_000_000_000_000, 200_000_000_000_000),
    st.tuples(st.sampled_from([1_616_893_200_000, 1_635_642_000_000, 1_636_264_800_000, 17_000_000_000_000]), st.integers(-6, 6)).map(
        lambda near: near[0] + near[1] * 1_799_999
    ),
)
_ZONE = st.sampled_from(ZONES)
_ALONE = _ZONE.map(lambda zone: (zone,))
_AMBIGUOUS = st.sampled_from(["raise", "earliest", "latest", "null"])
_STEPS = st.one_of(
    st.tuples(st.sampled_from([1, 7, 60_000, 5_400_000, DAY, 2 * DAY]), st.just("ms"), _ZONE),
    st.tuples(st.integers(1, 5), st.sampled_from(["weeks", "months"]), _ZONE),
)
_LETTERS = [f"%{letter}" for letter in (*"YmdHMSyjbBaAuwVGUWIpkezZCsF", ".3f", ".6f", ".f", "f", "-d", ":z")] + ["é", "%%"]
_FORMATS = st.lists(st.sampled_from(_LETTERS), max_size=5).map(" ".join)

#: (operation, kind, kinds of arguments, parameters)
SIGNATURES: list[tuple[str, str, tuple[str, ...], st.SearchStrategy[tuple[Any, ...]]]] = [
    *((f"dt_{part}", "i64", ("moment",), st.just(())) for part in ("week", "iso_year", "quarter", "days_in_month")),
    *((op, "i64", ("moment",), _ALONE) for op in ("dt_wall", "dt_month_start", "dt_month_end")),
    ("dt_is_leap_year", "bool", ("moment",), st.just(())),
    ("dt_truncate_in", "i64", ("moment",), _STEPS),
    ("dt_offset_by", "i64", ("moment",), st.tuples(st.integers(-30, 30), st.integers(-40, 40), st.integers(-DAY, DAY), _ZONE)),
    ("dt_instant", "i64", ("moment",), st.tuples(_ZONE, _AMBIGUOUS, st.sampled_from(["raise", "null"]))),
    ("dt_strftime", "str", ("moment",), st.tuples(_FORMATS, _ZONE, st.sampled_from([1, 1_000, 1_000_000]))),
    ("str_strptime", "i64", ("stamp",), st.tuples(st.none(), _ZONE, st.booleans(), _AMBIGUOUS)),
]
