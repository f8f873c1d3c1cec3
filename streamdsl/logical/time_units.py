"""Arithmetic of timestamps and durations of any unit; a whole number beside them is milliseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from streamdsl.logical.expression import Typed
from streamdsl.logical.types import (
    INT,
    convert,
    finer,
    in_unit,
    is_integer,
    is_span,
    is_time,
    literal,
    unit_type,
)

if TYPE_CHECKING:
    from streamdsl.logical.bind import Binder


def shifted(binder: Binder, op: str, args: list[Typed]) -> Typed:
    """Timestamps and milliseconds."""
    left, right = (literal(None, INT) if pa.types.is_null(arg.type) else arg for arg in args)
    moments = [arg for arg in (left, right) if is_time(arg.type)]
    if any(not is_time(arg.type) and not is_span(arg.type) and not is_integer(arg.type) for arg in (left, right)):
        binder.wrong(op, args, "a timestamp and a duration", "durations are a timedelta or milliseconds")
    units = [arg.type.unit if is_time(arg.type) or is_span(arg.type) else "ms" for arg in (left, right)]
    unit = finer(*units)
    if (op == "add" and len(moments) == 2) or (op == "sub" and is_time(right.type) and len(moments) == 1):
        binder.wrong(op, args, "a timestamp and a duration", "durations are a timedelta or milliseconds")
    if len(moments) == 2:
        # As whole milliseconds where they are all there is to know.
        unit = finer(unit, "ms")
        result = INT if unit == "ms" else pa.duration(unit)
    else:
        result = unit_type(moments[0].type if moments else pa.duration(unit), unit)
    moved = [in_unit(convert(arg, INT) if is_integer(arg.type) else arg, unit) for arg in (left, right)]
    return binder._strict(op, result, moved)
