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
from streamdsl.flink.values import Value, as_type, rest_of
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import BOOL, INT, TEXT, TIMESTAMP, is_date

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
_DAY: Final = 86_400_000
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
        ms = _ms(args[0])
        round_ = per * count
        within = rest_of(ms.inner, round_)
        return Value(within if per == 1 else f"{within} / {per}", INT, per == 1, least=0, most=count)

    return write


def _weekday(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CAST(MOD(DAYOFWEEK({_day(args[0])}) + 5, 7) AS BIGINT) + 1", INT, False, least=1, most=7)


def _date(node: Typed, args: Sequence[Value]) -> Value:
    return Value(_day(args[0]), pa.date32())


def _truncate(node: Typed, args: Sequence[Value]) -> Value:
    (step,) = node.params
    ms = _ms(args[0])
    return Value(f"{ms.inner} - {rest_of(ms.inner, step)}", INT, atom=False)


def _strftime(node: Typed, args: Sequence[Value]) -> Value:
    form, zone, per_ms = node.params
    _only_utc("strftime", zone)
    if per_ms != 1:
        raise Refused("strftime of times finer than milliseconds", "cast the column to pa.timestamp('ms', tz='UTC')")
    return Value(f"DATE_FORMAT({_moment(args[0])}, {text(java_format(form))})", TEXT)


def _offset(node: Typed, args: Sequence[Value]) -> Value:
    months, days, rest, zone = node.params
    _only_utc("dt.offset_by()", zone)
    ms = _ms(args[0])
    if not months:
        return Value(f"{ms.inner} + {days * _DAY + rest}", INT, atom=False)
    # A day that the month does not have becomes its last one, as here.
    moved = f"CAST(TIMESTAMPADD(MONTH, {months}, {_day(args[0])}) AS DATE)"
    return Value(f"{_midnight(moved)} + {_of_its_day(ms)} + {days * _DAY + rest}", INT, atom=False)


def _truncate_in(node: Typed, args: Sequence[Value]) -> Value:
    step, unit, zone = node.params
    _only_utc("dt.truncate()", zone)
    if unit == "weeks":
        # Weeks begin on Monday: 1970-01-05 was one.
        ms, week = _ms(args[0]).inner, 7 * step * _DAY
        return Value(f"{ms} - {rest_of(f'{ms} - {4 * _DAY}', week)}", INT, atom=False)
    if unit != "months":
        raise Refused(f"dt.truncate() to steps of {unit}", "use days, weeks, months, quarters or years")
    day = _day(args[0])
    first = f"TIMESTAMPADD(DAY, CAST(1 - EXTRACT(DAY FROM {day}) AS INT), {day})"
    number = f"((EXTRACT(YEAR FROM {day}) - 1970) * 12 + EXTRACT(MONTH FROM {day}) - 1)"
    back = f"CAST({rest_of(number, step)} AS INT)"
    begin = first if step == 1 else f"TIMESTAMPADD(MONTH, - {back}, {first})"
    return Value(_midnight(f"CAST({begin} AS DATE)"), INT)


def _ms(value: Value) -> Value:
    return value if pa.types.is_integer(value.type) else as_type(value, INT)


def _midnight(day: str) -> str:
    """Return when a date begins."""
    return f"{as_type(Value(day, pa.date32()), INT).inner} * {_DAY}"


def _of_its_day(ms: Value) -> str:
    return rest_of(ms.inner, _DAY)


def _only_utc(what: str, zone: str) -> None:
    if zone != "UTC":
        raise Refused(f"{what} in the zone {zone}", "the job runs in UTC: convert where the time is shown")


def _leap(node: Typed, args: Sequence[Value]) -> Value:
    return Value(_is_leap(_day(args[0])), BOOL, atom=False)


def _is_leap(day: str) -> str:
    year = f"EXTRACT(YEAR FROM {day})"
    return f"(MOD({year}, 4) = 0 AND MOD({year}, 100) <> 0) OR MOD({year}, 400) = 0"


def _days_of_month(value: Value) -> str:
    month = f"EXTRACT(MONTH FROM {_day(value)})"
    february = f"CASE WHEN {_is_leap(_day(value))} THEN 29 ELSE 28 END"
    return f"CASE WHEN {month} = 2 THEN {february} WHEN {month} IN (4, 6, 9, 11) THEN 30 WHEN {month} IS NOT NULL THEN 31 END"


def _days_in_month(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CAST({_days_of_month(args[0])} AS BIGINT)", INT, least=28, most=31)


def _end_of_month(node: Typed, args: Sequence[Value]) -> Value:
    _only_utc("dt.month_start() and month_end()", node.params[0])
    last = "1" if node.op == "dt_month_start" else f"({_days_of_month(args[0])})"
    return Value(f"{_ms(args[0]).inner} + ({last} - EXTRACT(DAY FROM {_day(args[0])})) * {_DAY}", INT, atom=False)


def _iso_year(node: Typed, args: Sequence[Value]) -> Value:
    # That of its week's Thursday.
    day = _day(args[0])
    thursday = f"CAST(TIMESTAMPADD(DAY, CAST(3 - MOD(DAYOFWEEK({day}) + 5, 7) AS INT), {day}) AS DATE)"
    return Value(f"EXTRACT(YEAR FROM {thursday})", INT, least=0, most=9999)


def _event_time(node: Typed, args: Sequence[Value]) -> Value:
    return Value(quoted(TIME), TIMESTAMP)


def _refused(what: str, remedy: str) -> Operation:
    def refuse(node: Typed, args: Sequence[Value]) -> Value:
        raise Refused(what, remedy)

    return refuse


_ZONES: Final = _refused("clocks of other zones than UTC", "the job runs in UTC: convert where the time is shown")
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
    "dt_truncate_in": _truncate_in,
    "dt_is_leap_year": _leap,
    "dt_days_in_month": _days_in_month,
    "dt_iso_year": _iso_year,
    **dict.fromkeys(("dt_month_start", "dt_month_end"), _end_of_month),
    **dict.fromkeys(("dt_wall", "dt_instant"), _ZONES),
    "str_strptime": _PARSING,
}
