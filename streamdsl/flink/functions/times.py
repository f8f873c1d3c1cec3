"""Functions of times. The clock is that of UTC, in which the job runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from streamdsl.flink.functions.kind import Operation
from streamdsl.flink.quoting import quoted, text
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import TIME
from streamdsl.flink.values import Value, as_type
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import INT, TEXT, TIMESTAMP, is_date

__all__ = ["OPERATIONS", "java_format"]

#: The directives of strftime that Java has.
_DIRECTIVES: Final = {
    "Y": "yyyy",
    "m": "MM",
    "d": "dd",
    "H": "HH",
    "M": "mm",
    "S": "ss",
    "y": "yy",
    "j": "DDD",
    "F": "yyyy-MM-dd",
    "T": "HH:mm:ss",
    "R": "HH:mm",
    ".3f": ".SSS",
}
_DIRECTIVE: Final = re.compile(r"%(\.3f|[.:\-]?[36]?[A-Za-z]|%)")


def java_format(form: str) -> str:
    """Return a format of strftime as Java writes it.

    Raises
    ------
    Refused
        It has a directive that Java has not, or not with the same texts.
    """
    parts: list[str] = []
    position = 0
    for match in _DIRECTIVE.finditer(form):
        parts += [_literal(form[position : match.start()]), _directive(form, match[1])]
        position = match.end()
    rest = form[position:]
    if "%" in rest:
        raise Refused(f"the format {form!r}", "end each directive")
    return "".join([*parts, _literal(rest)])


def _directive(form: str, letter: str) -> str:
    if letter == "%":
        return "'%'"
    if letter not in _DIRECTIVES:
        raise Refused(f"%{letter} in the format {form!r}", f"use {', '.join('%' + known for known in _DIRECTIVES)}")
    return _DIRECTIVES[letter]


def _literal(text: str) -> str:
    if not re.search(r"[A-Za-z'\[\]{}#]", text):
        return text
    return "'" + text.replace("'", "''") + "'"


def _moment(value: Value) -> str:
    """Return a time as a timestamp, whichever form it has."""
    return value.text if pa.types.is_timestamp(value.type) else as_type(value, TIMESTAMP).text


def _day(value: Value) -> str:
    return value.text if is_date(value.type) else f"CAST({_moment(value)} AS DATE)"


def _of_day(unit: str) -> Operation:
    def write(node: Typed, args: Sequence[Value]) -> Value:
        # Of the timestamp itself Flink gives other answers before 1970.
        return Value(f"EXTRACT({unit} FROM {_day(args[0])})", INT, least=0, most=9999)

    return write


def _of_clock(per: int, count: int) -> Operation:
    def write(node: Typed, args: Sequence[Value]) -> Value:
        ms = args[0] if pa.types.is_integer(args[0].type) else as_type(args[0], INT)
        round_ = per * count
        within = f"MOD(MOD({ms.inner}, {round_}) + {round_}, {round_})"
        return Value(within if per == 1 else f"{within} / {per}", INT, per == 1, least=0, most=count)

    return write


def _weekday(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"MOD(DAYOFWEEK({_day(args[0])}) + 5, 7) + 1", INT, False, least=1, most=7)


def _date(node: Typed, args: Sequence[Value]) -> Value:
    return Value(_day(args[0]), pa.date32())


def _truncate(node: Typed, args: Sequence[Value]) -> Value:
    (step,) = node.params
    ms = as_type(args[0], INT) if not pa.types.is_integer(args[0].type) else args[0]
    below = f"MOD(MOD({ms.inner}, {step}) + {step}, {step})"
    return Value(f"{ms.inner} - {below}", INT, atom=False)


def _strftime(node: Typed, args: Sequence[Value]) -> Value:
    form, zone, per_ms = node.params
    if zone != "UTC" or per_ms != 1:
        raise Refused(f"strftime in the zone {zone}", "the job runs in UTC: convert the text where it is shown")
    return Value(f"DATE_FORMAT({_moment(args[0])}, {text(java_format(form))})", TEXT)


def _offset(node: Typed, args: Sequence[Value]) -> Value:
    months, days, rest, zone = node.params
    if months or zone != "UTC":
        raise Refused("dt.offset_by of months, or in another zone than UTC", "add a fixed time: col(...) + timedelta(days=30)")
    ms = args[0] if pa.types.is_integer(args[0].type) else as_type(args[0], INT)
    return Value(f"{ms.inner} + {days * 86_400_000 + rest}", INT, atom=False)


def _event_time(node: Typed, args: Sequence[Value]) -> Value:
    return Value(quoted(TIME), TIMESTAMP)


def _refused(what: str, remedy: str) -> Operation:
    def refuse(node: Typed, args: Sequence[Value]) -> Value:
        raise Refused(what, remedy)

    return refuse


_ZONES: Final = _refused("clocks of other zones than UTC", "the job runs in UTC: convert where the time is shown")
_CALENDAR: Final = _refused("dt.is_leap_year(), days_in_month(), iso_year(), month_start() and month_end()", "Flink has no such function")
_PARSING: Final = _refused("texts read as times", "declare the column as a timestamp: Flink reads ISO 8601 from JSON and CSV")

OPERATIONS: Final[dict[str, Operation]] = {
    "dt_year": _of_day("YEAR"),
    "dt_month": _of_day("MONTH"),
    "dt_day": _of_day("DAY"),
    "dt_hour": _of_clock(3_600_000, 24),
    "dt_minute": _of_clock(60_000, 60),
    "dt_second": _of_clock(1_000, 60),
    "dt_quarter": _of_day("QUARTER"),
    "dt_week": _of_day("WEEK"),
    "dt_ordinal_day": _of_day("DOY"),
    "dt_millisecond": _of_clock(1, 1_000),
    "dt_weekday": _weekday,
    "dt_date": _date,
    "dt_truncate": _truncate,
    "dt_strftime": _strftime,
    "dt_offset_by": _offset,
    "time": _event_time,
    **dict.fromkeys(("dt_wall", "dt_instant", "dt_truncate_in"), _ZONES),
    **dict.fromkeys(("dt_is_leap_year", "dt_days_in_month", "dt_iso_year", "dt_month_start", "dt_month_end"), _CALENDAR),
    "str_strptime": _PARSING,
}
