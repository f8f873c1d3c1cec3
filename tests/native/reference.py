"""Expressions row by row in plain Python: what the native programs must agree with."""

from __future__ import annotations

import ctypes
import ctypes.util
import datetime
import math
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from streamdsl.physical.node import Instruction, ProgramSpec
from tests.native import functions, times
from tests.native.functions import Refused

Row = dict[int, Any]
I64 = (-(2**63), 2**63 - 1)
U64 = (0, 2**64 - 1)
WHITE = " \t\n\v\f\r\x1c\x1d\x1e\x1f"
EPOCH = datetime.datetime(1970, 1, 1)
LIBM = ctypes.CDLL(ctypes.util.find_library("m"))


def evaluate(spec: ProgramSpec, index: int, row: Sequence[Any], time: int | None = None) -> Any:
    """Return the value of instruction `index` for one row; Refused if it has none."""
    ins = spec.instructions[index]

    def at(argument: int) -> Any:
        return evaluate(spec, argument, row, time)

    if ins.op == "column":
        return row[ins.params[0]]
    if ins.op == "time":
        return time
    if ins.op == "literal":
        return ins.params[0]
    if ins.op in ("and", "or"):
        return _logic(ins, at)
    if ins.op == "when":
        for k in range(0, len(ins.args) - 1, 2):
            if at(ins.args[k]) is True:
                return at(ins.args[k + 1])
        return at(ins.args[-1])
    if ins.op == "coalesce":
        for arg in ins.args:
            value = at(arg)
            if value is not None:
                return value
        return None
    values = [at(arg) for arg in ins.args]
    if ins.op in SPECIAL:
        return SPECIAL[ins.op](ins, values)
    if any(value is None for value in values):
        return None
    return FUNCTIONS[ins.op](ins, *values)


def same(a: Any, b: Any) -> bool:
    """Equality to the bit, but any NaN is NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or struct.pack("d", a) == struct.pack("d", b)
    return bool(a == b)


def _logic(ins: Instruction, at: Callable[[int], Any]) -> bool | None:
    stop = ins.op == "or"
    unknown = False
    for arg in ins.args:
        value = at(arg)
        if value is stop:
            return stop
        unknown = unknown or value is None
    return None if unknown else not stop


# Numbers -------------------------------------------------------------------------------------------------------


def _within(kind: str, value: int, what: str) -> int:
    least, most = I64 if kind == "i64" else U64
    if not least <= value <= most:
        raise Refused(f"integer overflow in {what}")
    return value


def _arithmetic(compute: Callable[[Any, Any], Any], what: str) -> Callable[..., Any]:
    def apply(ins: Instruction, a: Any, b: Any) -> Any:
        if ins.kind == "f64":
            return compute(float(a), float(b))
        return _within(ins.kind, compute(a, b), what)

    return apply


def libm(name: str, *args: float) -> float:
    function = getattr(LIBM, name)
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_double] * len(args)
    return float(function(*args))


def _ieee(compute: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Python's function, and the C library's where Python raises."""

    def apply(_: Instruction, *args: Any) -> float:
        floats = [float(arg) for arg in args]
        try:
            result = compute(*floats)
        except (ValueError, OverflowError, ZeroDivisionError):
            return libm(name, *floats)
        return libm(name, *floats) if isinstance(result, complex) else float(result)

    return apply


def _libm(name: str) -> Callable[[Instruction, Any], float]:
    return lambda _, x: libm(name, float(x))


def _div(ins: Instruction, a: Any, b: Any) -> float | None:
    x, y = float(a), float(b)
    if y == 0.0:
        if "int" in ins.params:
            return None
        if x == 0.0 or math.isnan(x):
            return math.nan
        return math.copysign(math.inf, x) * math.copysign(1.0, y)
    return x / y


def _floordiv(ins: Instruction, a: Any, b: Any) -> Any:
    if ins.kind == "f64":
        x, y = float(a), float(b)
        return x // y if y != 0.0 else _div(Instruction("div", "f64"), x, y)
    return None if b == 0 else _within(ins.kind, a // b, "floordiv")


def _mod(ins: Instruction, a: Any, b: Any) -> Any:
    if ins.kind == "f64":
        return float(a) % float(b) if float(b) != 0.0 else math.nan
    return None if b == 0 else a % b


def _round(ins: Instruction, x: Any) -> Any:
    if ins.kind != "f64":
        return _within(ins.kind, round(x, ins.params[0]), "round")
    x = float(x)
    try:
        return round(x, ins.params[0]) if math.isfinite(x) else x
    except OverflowError:
        return math.copysign(math.inf, x)


def _sign(ins: Instruction, x: Any) -> Any:
    if ins.kind == "f64":
        x = float(x)
        return x if math.isnan(x) else float((x > 0) - (x < 0))
    return (x > 0) - (x < 0)


def _whole(compute: Callable[[float], Any]) -> Callable[..., Any]:
    def apply(ins: Instruction, x: Any) -> Any:
        if ins.kind != "f64":
            return x
        x = float(x)
        return math.copysign(float(compute(x)), x) if math.isfinite(x) else x

    return apply


def order(x: Any) -> Any:
    """A key that sorts as columns do."""
    if isinstance(x, float):
        return (1, 0.0) if math.isnan(x) else (0, x)
    return x.encode() if isinstance(x, str) else x


def _compare(test: Callable[[Any, Any], bool]) -> Callable[..., bool]:
    def apply(_: Instruction, a: Any, b: Any) -> bool:
        if isinstance(a, float) != isinstance(b, float):
            a, b = float(a), float(b)
        return test(order(a), order(b))

    return apply


def _extreme(first: Callable[..., Any]) -> Callable[..., Any]:
    def apply(ins: Instruction, *values: Any) -> Any:
        if ins.kind == "f64":
            values = tuple(float(value) for value in values)
        best = first(values, key=order)
        # Of equal ones (-0.0 and 0.0) the first counts.
        return next(value for value in values if order(value) == order(best))

    return apply


# Casts ---------------------------------------------------------------------------------------------------------


def _strictly(ins: Instruction, value: Any) -> Any:
    strict = ins.params[0] if ins.params else True
    if value is None and strict:
        raise Refused("does not fit")
    return value


def _to_whole(kind: str) -> Callable[..., Any]:
    least, most = I64 if kind == "i64" else U64

    def apply(ins: Instruction, x: Any) -> Any:
        if isinstance(x, str):
            return _parse_whole(ins, x, kind)
        if isinstance(x, float) and not math.isfinite(x):
            return _strictly(ins, None)
        whole = int(x)
        return _strictly(ins, whole if least <= whole <= most else None)

    return apply


def _parse_whole(ins: Instruction, text: str, kind: str) -> Any:
    stripped = text.strip(WHITE)
    least, most = I64 if kind == "i64" else U64
    whole = int(stripped) if re.fullmatch(r"[+-]?[0-9]+", stripped) else None
    return _strictly(ins, whole if whole is not None and least <= whole <= most else None)


def _parse_float(ins: Instruction, text: str) -> Any:
    stripped = text.strip(WHITE)
    number = r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|inf|infinity)"
    return _strictly(ins, float(stripped) if re.fullmatch(number, stripped, re.ASCII | re.IGNORECASE) else None)


def _to_float(ins: Instruction, x: Any) -> Any:
    return _parse_float(ins, x) if isinstance(x, str) else float(x)


def _to_bool(ins: Instruction, x: Any) -> Any:
    if isinstance(x, str):
        return _strictly(ins, {"true": True, "1": True, "false": False, "0": False}.get(x.strip(WHITE).lower()))
    return bool(x)


def plain_text(x: Any) -> str:
    return ("true" if x else "false") if isinstance(x, bool) else x if isinstance(x, str) else repr(x)


def _to_text(ins: Instruction, x: Any) -> str:
    name = ins.params[0] if ins.params else ""
    if name.startswith("timestamp"):
        return (EPOCH + datetime.timedelta(milliseconds=x)).isoformat(timespec="milliseconds") + "Z"
    if name.startswith("date"):
        return (EPOCH + datetime.timedelta(days=x)).date().isoformat()
    return plain_text(x)


def _check_range(ins: Instruction, x: int) -> int:
    if not ins.params[0] <= x <= ins.params[1]:
        raise Refused("does not fit")
    return x


# Text ----------------------------------------------------------------------------------------------------------


def _slice(ins: Instruction, text: str) -> str:
    offset, length = ins.params
    first = offset if offset >= 0 else len(text) + offset
    last = len(text) if length is None else first + length
    return text[max(first, 0) : max(last, 0)]


def _split_part(ins: Instruction, text: str) -> str:
    parts = text.split(ins.params[0])
    return parts[ins.params[1]] if -len(parts) <= ins.params[1] < len(parts) else ""


def _extract(ins: Instruction, text: str) -> str | None:
    match = re.search(ins.params[0], text)
    return None if match is None else match.group(ins.params[1])


def _format(ins: Instruction, values: list[Any]) -> str:
    pieces, specs = ins.params
    text = pieces[0]
    for piece, spec, value in zip(pieces[1:], specs, values, strict=True):
        try:
            text += "null" if value is None else plain_text(value) if spec == "" else format(value, spec)
        except ValueError:
            raise Refused("format") from None
        text += piece
    return text


def _replace(ins: Instruction, values: list[Any]) -> Any:
    default = values[1] if len(values) > 1 else None
    if values[0] is None:
        return default
    for key, replaced in zip(*ins.params, strict=True):
        if order(key) == order(values[0]):
            return replaced
    if ins.op == "replace_strict":
        raise Refused("replace_strict")
    return default


def _is_in(ins: Instruction, x: Any) -> bool | None:
    if any(value is not None and order(value) == order(x) for value in ins.params[0]):
        return True
    return None if None in ins.params[0] else False


def _calendar(part: Callable[[datetime.datetime], int]) -> Callable[..., int]:
    def apply(_: Instruction, ms: int) -> int:
        return part(EPOCH + datetime.timedelta(milliseconds=ms))

    return apply


SPECIAL: dict[str, Callable[[Instruction, list[Any]], Any]] = {
    "is_null": lambda _, values: values[0] is None,
    "is_not_null": lambda _, values: values[0] is not None,
    "format": _format,
    "replace": _replace,
    "replace_strict": _replace,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": _arithmetic(lambda a, b: a + b, "add"),
    "sub": _arithmetic(lambda a, b: a - b, "sub"),
    "mul": _arithmetic(lambda a, b: a * b, "mul"),
    "div": _div,
    "floordiv": _floordiv,
    "mod": _mod,
    "pow": _ieee(lambda a, b: a**b, "pow"),
    "arctan2": _ieee(math.atan2, "atan2"),
    "neg": lambda ins, x: -float(x) if ins.kind == "f64" else _within(ins.kind, -x, "neg"),
    "abs": lambda ins, x: abs(float(x)) if ins.kind == "f64" else _within(ins.kind, abs(x), "abs"),
    "sign": _sign,
    "round": _round,
    "floor": _whole(math.floor),
    "ceil": _whole(math.ceil),
    **{name: _ieee(getattr(math, name), name) for name in ("sqrt", "exp", "log", "log10", "sin", "cos", "tan")},
    **{f"arc{name}": _ieee(getattr(math, f"a{name}"), f"a{name}") for name in ("sin", "cos", "tan")},
    "radians": lambda _, x: math.radians(float(x)),
    "eq": _compare(lambda a, b: a == b),
    "ne": _compare(lambda a, b: a != b),
    "lt": _compare(lambda a, b: a < b),
    "le": _compare(lambda a, b: a <= b),
    "gt": _compare(lambda a, b: a > b),
    "ge": _compare(lambda a, b: a >= b),
    "least": _extreme(min),
    "greatest": _extreme(max),
    "not": lambda _, x: not x,
    "is_nan": lambda _, x: math.isnan(float(x)),
    "is_finite": lambda _, x: math.isfinite(float(x)),
    "cast_f64": _to_float,
    "cast_i64": _to_whole("i64"),
    "cast_u64": _to_whole("u64"),
    "cast_bool": _to_bool,
    "cast_str": _to_text,
    "parse_i64": _to_whole("i64"),
    "parse_f64": _parse_float,
    "parse_bool": _to_bool,
    "check_range": _check_range,
    "str_to_lowercase": lambda _, x: x.lower(),
    "str_to_uppercase": lambda _, x: x.upper(),
    "str_len_chars": lambda _, x: len(x),
    "str_starts_with": lambda _, x, y: x.startswith(y),
    "str_ends_with": lambda _, x, y: x.endswith(y),
    "str_contains": lambda _, x, y: y in x,
    "str_slice": _slice,
    "str_split_part": _split_part,
    "str_extract": _extract,
    "concat": lambda _, *values: "".join(values),
    "is_in": _is_in,
    "dt_year": _calendar(lambda t: t.year),
    "dt_month": _calendar(lambda t: t.month),
    "dt_day": _calendar(lambda t: t.day),
    "dt_hour": _calendar(lambda t: t.hour),
    "dt_minute": _calendar(lambda t: t.minute),
    "dt_second": _calendar(lambda t: t.second),
    "dt_millisecond": _calendar(lambda t: t.microsecond // 1000),
    "dt_weekday": _calendar(lambda t: t.isoweekday()),
    "dt_ordinal_day": _calendar(lambda t: t.timetuple().tm_yday),
    "dt_date": _calendar(lambda t: t.toordinal() - EPOCH.toordinal()),
    "dt_truncate": lambda ins, ms: ms // ins.params[0] * ins.params[0],
    **functions.FUNCTIONS,
    **times.FUNCTIONS,
    **{name: _libm(known) for name, known in functions.OF_FLOAT.items()},
    "cot": lambda _, x: _div(Instruction("div", "f64"), 1.0, libm("tan", float(x))),
    "degrees": lambda _, x: float(x) * functions.DEGREES,
}
