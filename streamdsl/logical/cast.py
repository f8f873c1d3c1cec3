"""What `cast` means for each pair of types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from streamdsl.logical.expression import Typed
from streamdsl.logical.types import (
    BOOL,
    DAY_MS,
    FLOAT,
    INT,
    INTEGER_RANGES,
    TEXT,
    UINT,
    convert,
    is_float,
    is_integer,
    is_list,
    is_number,
    is_passed_through,
    is_string,
    is_text,
    is_time,
    literal,
    require_supported,
    retyped,
)

if TYPE_CHECKING:
    from streamdsl.logical.bind import Binder


def item_of(binder: Binder, text: Typed, list_type: pa.DataType) -> Typed:
    """Return an item of a list, which is there as text, as a value of its type."""
    item = list_type.value_type if is_list(list_type) else TEXT
    if is_string(item) or is_passed_through(item):
        return retyped(text, item)
    if is_number(item) or pa.types.is_boolean(item):
        return cast(binder, text, item, True)
    raise binder.error(f"items of {list_type} cannot be taken out of the list", "only texts, numbers, booleans, lists and structs can")


def cast(binder: Binder, value: Typed, target: pa.DataType, strict: bool) -> Typed:
    """Return `value` as `target`; what does not fit is an error of the record, or null unless `strict`."""
    require_supported(target)
    source = value.type
    if source == target:
        return value
    if value.op == "literal" and value.params[0] is None:
        return literal(None, target)
    if is_text(target):
        return retyped(binder.text(value), target)
    if is_integer(target):
        result = _to_integer(value, target, strict)
    elif is_float(target):
        result = _to_float(value, target, strict)
    elif pa.types.is_boolean(target):
        result = _to_bool(value, strict)
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
    elif is_float(source) or source == UINT:
        if target == UINT:
            return value if source == UINT else _checked("cast_u64", UINT, value, strict)
        wide = _checked("cast_i64", INT, value, strict)
    elif pa.types.is_boolean(source):
        wide = _checked("cast_i64", INT, value, True)
    elif is_integer(source) or is_time(source) or pa.types.is_date32(source):
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
    if pa.types.is_boolean(value.type):
        return Typed("cast_f64", target, (value,), nullable=value.nullable)
    if is_text(value.type) or pa.types.is_decimal(value.type):
        return _checked("parse_f64", target, value, strict)
    return None


def _to_bool(value: Typed, strict: bool) -> Typed | None:
    if is_text(value.type):
        return _checked("parse_bool", BOOL, value, strict)
    if is_number(value.type):
        return Typed("cast_bool", BOOL, (value,), nullable=value.nullable)
    return None


def _to_time(value: Typed, target: pa.DataType) -> Typed | None:
    source = value.type
    if is_time(target):
        if is_time(source) or is_integer(source) or pa.types.is_date32(source):
            return retyped(convert(value, target), target)
        if is_float(source):
            return retyped(_checked("cast_i64", INT, convert(value, FLOAT), True), target)
        return None
    if pa.types.is_date32(target):
        if is_time(source):
            days = Typed("floordiv", INT, (retyped(value, INT), literal(DAY_MS, INT)), nullable=value.nullable)
            return retyped(days, target)
        if is_integer(source):
            return retyped(convert(value, INT), target)
        return None
    return retyped(value, target) if is_passed_through(target) and is_passed_through(source) else None
