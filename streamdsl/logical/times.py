"""Functions of times bound to a schema. A time is an instant; its type's zone says what its clock shows."""

from __future__ import annotations

import re
import zoneinfo
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamdsl.logical.expression import Typed
from streamdsl.logical.types import (
    BOOL,
    DAY_MS,
    INT,
    PER_SECOND,
    TEXT,
    TIMESTAMP,
    UINT,
    convert,
    finer,
    in_unit,
    is_date,
    is_integer,
    is_time,
    literal,
    retyped,
    unit_type,
)

if TYPE_CHECKING:
    from streamdsl.logical.bind import Binder

__all__ = ["bind_time", "read_time"]

_PARTS: Final = "year month day hour minute second millisecond weekday ordinal_day week iso_year quarter days_in_month"
#: Parts of what the clock shows: their types.
_RESULTS: Final = {**dict.fromkeys((f"dt_{part}" for part in _PARTS.split()), INT), "dt_is_leap_year": BOOL, "dt_date": pa.date32()}
_FIXED: Final = re.compile(r"[+-]\d\d:?\d\d", re.ASCII)


def bind_time(binder: Binder, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
    """Return a function of `.dt` over a timestamp, a date or whole milliseconds."""
    source = args[0].type
    arg = _moment(binder, op, args[0])
    zone = _zone_of(arg.type)
    if op in _RESULTS:
        return _part(op, _in_ms(arg), zone)
    if op == "dt_strftime":
        return _written(arg, params[0], zone)
    if op == "dt_to_string":
        return _written(arg, _shown_by_default(source), zone)
    if op == "dt_timestamp":
        return _since_epoch(arg, params[0])
    if op == "dt_convert_time_zone":
        return retyped(arg, pa.timestamp(_unit_of(arg.type), tz=_checked(binder, params[0])))
    if op == "dt_replace_time_zone":
        return _in_unit_of(arg, _replaced(binder, _in_ms(arg), zone, params), keeps_rest=True)
    if op == "dt_offset_by" and params[2] % 1000:
        arg = _at_least_ms(arg)
    moved = _in_unit_of(arg, _moved(op, _in_ms(arg), zone, params), keeps_rest=op != "dt_truncate")
    if not is_date(source):
        return moved
    days = Typed("floordiv", INT, (retyped(moved, INT), literal(DAY_MS, INT)), nullable=moved.nullable)
    return retyped(days, source)


def read_time(binder: Binder, op: str, args: list[Typed], params: tuple[Any, ...]) -> Typed:
    """Return the time that a text writes; params: format or None, zone or None, strict, ambiguous."""
    form, zone, strict, ambiguous = params
    text = binder.text_argument(op, args)
    zone = _checked(binder, zone) if zone else "UTC"
    nullable = text.nullable or not strict or ambiguous == "null"
    found = Typed("str_strptime", pa.timestamp("ms", tz=zone), (text,), (form, zone, strict, ambiguous), nullable=nullable)
    if op != "str_to_date":
        return found
    days = Typed("floordiv", INT, (retyped(found, INT), literal(DAY_MS, INT)), nullable=nullable)
    return retyped(days, pa.date32())


def _moment(binder: Binder, op: str, arg: Typed) -> Typed:
    """Return a time in its unit, or whole milliseconds, since 1970, UTC."""
    if pa.types.is_null(arg.type):
        return literal(None, TIMESTAMP)
    if is_date(arg.type):
        return convert(arg, TIMESTAMP)
    if not is_time(arg.type) and not is_integer(arg.type):
        binder.wrong(f".dt.{op[3:]}", [arg], "a timestamp, a date or milliseconds")
    return convert(arg, INT) if arg.type == UINT else arg


def _unit_of(type_: pa.DataType) -> str:
    return str(type_.unit) if is_time(type_) else "ms"


def _in_ms(arg: Typed) -> Typed:
    """Return a time in whole milliseconds, floored: the calendar and the clocks of zones do not depend on finer digits."""
    return arg if _unit_of(arg.type) == "ms" else retyped(in_unit(arg, "ms"), unit_type(arg.type, "ms"))


def _in_unit_of(arg: Typed, moved: Typed, *, keeps_rest: bool) -> Typed:
    """Return what became of `_in_ms(arg)` in the unit of `arg`, with the digits below a millisecond if it `keeps_rest`."""
    unit = _unit_of(arg.type)
    if unit == "ms":
        return moved
    back = in_unit(moved, unit)
    per_ms = PER_SECOND[unit] // 1000
    if keeps_rest and per_ms:
        rest = Typed("mod", INT, (retyped(arg, INT), literal(per_ms, INT)), nullable=arg.nullable)
        back = Typed("add", INT, (back, rest), nullable=moved.nullable)
    return retyped(back, unit_type(moved.type, unit))


def _at_least_ms(arg: Typed) -> Typed:
    """Return a time of whole seconds in milliseconds: two units meet in the finer one."""
    return _in_ms(arg) if _unit_of(arg.type) == "s" else arg


def _written(arg: Typed, form: str, zone: str) -> Typed:
    """Return a time as text; a coarser unit than ms is brought to it."""
    unit = finer(_unit_of(arg.type), "ms")
    number = in_unit(arg, unit)
    return Typed("dt_strftime", TEXT, (number,), (form, zone, PER_SECOND[unit] // 1000), nullable=arg.nullable)


def _shown_by_default(type_: pa.DataType) -> str:
    if is_date(type_):
        return "%Y-%m-%d"
    digits = {"s": "", "us": "%.6f", "ns": "%.9f"}.get(_unit_of(type_), "%.3f")
    return f"%Y-%m-%d %H:%M:%S{digits}" + ("%:z" if getattr(type_, "tz", None) else "")


def _zone_of(type_: pa.DataType) -> str:
    return str(type_.tz or "UTC") if is_time(type_) else "UTC"


def _checked(binder: Binder, zone: str) -> str:
    if not _FIXED.fullmatch(zone):
        try:
            zoneinfo.ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise binder.error(f"there is no time zone {zone!r}", 'write "UTC" or a name such as "Europe/Vienna"') from None
    return zone


def _wall(arg: Typed, zone: str) -> Typed:
    """Return what the clocks of the zone show, as milliseconds."""
    number = retyped(arg, INT)
    return number if zone == "UTC" else Typed("dt_wall", INT, (number,), (zone,), nullable=arg.nullable)


def _part(op: str, arg: Typed, zone: str) -> Typed:
    return Typed(op, _RESULTS[op], (arg if zone == "UTC" else _wall(arg, zone),), nullable=arg.nullable)


def _since_epoch(arg: Typed, unit: str) -> Typed:
    if unit != "d":
        return in_unit(arg, unit)
    day = literal(86_400 * PER_SECOND[_unit_of(arg.type)], INT)
    return Typed("floordiv", INT, (retyped(arg, INT), day), nullable=arg.nullable)


def _replaced(binder: Binder, arg: Typed, zone: str, params: tuple[Any, ...]) -> Typed:
    wanted, ambiguous, missing = params
    shown = _wall(arg, zone)
    if wanted is None or wanted == "UTC":
        return retyped(shown, pa.timestamp("ms", tz=wanted))
    wanted = _checked(binder, wanted)
    nullable = arg.nullable or "null" in (ambiguous, missing)
    return Typed("dt_instant", pa.timestamp("ms", tz=wanted), (shown,), (wanted, ambiguous, missing), nullable=nullable)


def _moved(op: str, arg: Typed, zone: str, params: tuple[Any, ...]) -> Typed:
    if op == "dt_truncate":
        step, unit = params
        if unit == "ms" and zone == "UTC":
            return Typed(op, arg.type, (arg,), (step,), nullable=arg.nullable)
        return Typed("dt_truncate_in", arg.type, (arg,), (step, unit, zone), nullable=arg.nullable)
    return Typed(op, arg.type, (arg,), (*params, zone), nullable=arg.nullable)
