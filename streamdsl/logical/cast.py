"""What `cast` means for each pair of types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from streamdsl.logical.expression import Typed
from streamdsl.logical.texts import as_text
from streamdsl.logical.types import (
    BOOL,
    FLOAT,
    INT,
    INTEGER_RANGES,
    PER_SECOND,
    TEXT,
    UINT,
    convert,
    in_unit,
    is_date,
    is_decimal,
    is_float,
    is_integer,
    is_list,
    is_number,
    is_passed_through,
    is_span,
    is_string,
    is_text,
    is_time,
    literal,
    require_supported,
    rescaled,
    retyped,
)

if TYPE_CHECKING:
    from streamdsl.logical.bind import Binder


def item_of(binder: Binder, text: Typed, list_type: pa.DataType) -> Typed:
    """Return an item of a list, which is there as text, as a value of its type."""
    return value_of_text(binder, text, list_type.value_type if is_list(list_type) else TEXT, f"items of {list_type}")


def value_of_text(binder: Binder, text: Typed, item: pa.DataType, what: str) -> Typed:
    """Return a part of a list or struct, which is there as text, as a value of its type; `what` names it in errors."""
    if is_string(item) or is_passed_through(item):
        return retyped(text, item)
    if is_number(item) or is_decimal(item) or pa.types.is_boolean(item):
        return cast(binder, text, item, True)
    if is_time(item) or is_span(item) or pa.types.is_date32(item):
        return retyped(_checked("parse_i64", INT, text, True), item)
    raise binder.error(f"{what} ({item}) cannot be taken out", "texts, numbers, times, booleans, lists and structs can")


def cast(binder: Binder, value: Typed, target: pa.DataType, strict: bool) -> Typed:
    """Return `value` as `target`; what does not fit is an error of the record, or null unless `strict`."""
    require_supported(target)
    source = value.type
    if source == target:
        return value
    if value.op == "literal" and value.params[0] is None:
        return literal(None, target)
    if is_text(target):
        return retyped(as_text(binder, value), target)
    if is_integer(target):
        result = _to_integer(value, target, strict)
    elif is_float(target):
        result = _to_float(value, target, strict)
    elif pa.types.is_boolean(target):
        result = _to_bool(value, strict)
    elif is_decimal(target):
        result = _to_decimal(value, target, strict)
    else:
        result = _to_time(value, target)
    if result is None:
        raise binder.error(f"cannot cast {value} from {source} to {target}")
    return result


def _checked(op: str, type_: pa.DataType, value: Typed, strict: bool) -> Typed:
    return Typed(op, type_, (value,), (strict,), nullable=value.nullable or not strict)


def _to_integer(value: Typed, target: pa.DataType, strict: bool) -> Typed | None:
    source = value.type
    if is_text(source):
        wide = _checked("parse_i64", INT, value, strict)
    elif is_decimal(source):
        op, wide_type = ("dec_to_u64", UINT) if target == UINT else ("dec_to_i64", INT)
        params = (source.scale, 0, int(strict), str(wide_type))
        wide = Typed(op, wide_type, (value,), params, nullable=value.nullable or not strict)
        if target == UINT:
            return wide
    elif is_float(source) or source == UINT:
        if target == UINT:
            return value if source == UINT else _checked("cast_u64", UINT, value, strict)
        wide = _checked("cast_i64", INT, value, strict)
    elif pa.types.is_boolean(source):
        wide = _checked("cast_i64", INT, value, True)
    elif is_time(source) or is_span(source):
        wide = in_unit(value, "ms")
    elif is_integer(source) or is_date(source):
        wide = retyped(value, INT)
    else:
        return None
    if target == UINT:
        return _checked("cast_u64", UINT, wide, strict)
    limits = INTEGER_RANGES.get(str(target))
    inside = INTEGER_RANGES.get(str(source))
    if limits is None or (inside is not None and limits[0] <= inside[0] and inside[1] <= limits[1]):
        return retyped(wide, target)
    if strict:
        return Typed("check_range", target, (wide,), (*limits, str(target)), nullable=wide.nullable)
    low, high = (Typed(op, BOOL, (wide, literal(limit, INT))) for op, limit in zip(("ge", "le"), limits, strict=True))
    return Typed("when", target, (Typed("and", BOOL, (low, high)), retyped(wide, target), literal(None, target)))


def _to_float(value: Typed, target: pa.DataType, strict: bool) -> Typed | None:
    if is_number(value.type):
        return convert(value, target)
    if is_decimal(value.type):
        return Typed("dec_to_f64", target, (value,), (value.type.scale,), nullable=value.nullable)
    if is_span(value.type):
        milliseconds = Typed("cast_f64", FLOAT, (retyped(value, INT),), nullable=value.nullable)
        per_ms = literal(PER_SECOND[value.type.unit] / 1000, FLOAT)
        return retyped(Typed("div", FLOAT, (milliseconds, per_ms), nullable=value.nullable), target)
    if pa.types.is_boolean(value.type):
        return Typed("cast_f64", target, (value,), nullable=value.nullable)
    if is_text(value.type) or pa.types.is_decimal256(value.type):
        return _checked("parse_f64", target, value, strict)
    return None


def _to_bool(value: Typed, strict: bool) -> Typed | None:
    if is_text(value.type):
        return _checked("parse_bool", BOOL, value, strict)
    if is_number(value.type) or is_decimal(value.type):
        return Typed("cast_bool", BOOL, (value,), nullable=value.nullable)
    return None


def _to_decimal(value: Typed, target: pa.DataType, strict: bool) -> Typed | None:
    """Digits that the target has no room for are an error of the record; a float is rounded, half to even."""
    source = value.type
    if is_decimal(source) or (is_integer(source) and value.op != "literal"):
        return rescaled(value, target, int(strict))
    if is_integer(source):
        return convert(value, target)
    if is_text(source) or is_float(source) or pa.types.is_boolean(source) or pa.types.is_decimal256(source):
        params = (target.scale, target.precision, int(strict), str(target))
        return Typed("dec_cast", target, (value,), params, nullable=value.nullable or not strict)
    return None


def _to_time(value: Typed, target: pa.DataType) -> Typed | None:
    source = value.type
    if is_time(target) or is_span(target):
        same = is_span(source) if is_span(target) else is_time(source) or is_date(source)
        if same or is_integer(source):
            return retyped(convert(value, target), target)
        if is_float(source):
            # Milliseconds, with what the unit can hold of their fraction.
            factor = literal(PER_SECOND[target.unit] / 1000, FLOAT)
            units = Typed("mul", FLOAT, (convert(value, FLOAT), factor), nullable=value.nullable)
            return retyped(_checked("cast_i64", INT, convert(value, FLOAT) if target.unit == "ms" else units, True), target)
        return None
    if is_date(target):
        if is_date(source):
            return retyped(value, target)
        if is_time(source):
            day = literal(86_400 * PER_SECOND[source.unit], INT)
            return retyped(Typed("floordiv", INT, (retyped(value, INT), day), nullable=value.nullable), target)
        if is_integer(source):
            return retyped(convert(value, INT), target)
        return None
    return retyped(value, target) if is_passed_through(target) and is_passed_through(source) else None
