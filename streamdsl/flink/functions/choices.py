"""Comparison, logic, choice, and casts between kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from streamdsl.flink.functions.kind import Operation, is_nan
from streamdsl.flink.refusing import Refused
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value, as_type, constant, failing, short
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import BOOL, FLOAT, INT, TEXT, is_date, is_float, is_integer, is_string, is_time

__all__ = ["OPERATIONS"]

_SIGNS: Final = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def _compared(node: Typed, args: Sequence[Value]) -> Value:
    left, right = args
    sign = _SIGNS[node.op]
    if left.text == right.text and not left.constant:
        # Flink would not look at the values at all; of one that is there the answer is known.
        always = "TRUE" if node.op in ("eq", "le", "ge") else "FALSE"
        return Value(f"CASE WHEN {left.inner} IS NOT NULL THEN {always} END", BOOL)
    if pa.types.is_binary(left.type) or pa.types.is_large_binary(left.type):
        raise Refused(f"{node.op} of bytes", "compare texts")
    plain = f"{short(left, right)} {sign} {short(right, left)}"
    if not left.nan and not right.nan:
        return Value(plain, BOOL, atom=False)
    return Value(_with_nan(node.op, left, right, plain), BOOL)


def _with_nan(op: str, left: Value, right: Value, plain: str) -> str:
    """NaN equals itself and is greater than all numbers."""
    first, second = left.nan, right.nan
    # What the comparison says where the left, the right, or both are NaN.
    one = {"eq": "FALSE", "ne": "TRUE", "lt": "FALSE", "le": "FALSE", "gt": "TRUE", "ge": "TRUE"}[op]
    other = {"eq": "FALSE", "ne": "TRUE", "lt": "TRUE", "le": "TRUE", "gt": "FALSE", "ge": "FALSE"}[op]
    both = "TRUE" if op in ("eq", "le", "ge") else "FALSE"
    parts = [f"WHEN {left.inner} IS NULL OR {right.inner} IS NULL THEN CAST(NULL AS BOOLEAN)"]
    if first and second:
        parts.append(f"WHEN {is_nan(left)} AND {is_nan(right)} THEN {both}")
    if first:
        parts.append(f"WHEN {is_nan(left)} THEN {one}")
    if second:
        parts.append(f"WHEN {is_nan(right)} THEN {other}")
    return f"CASE {' '.join(parts)} ELSE {plain} END"


def _logic(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f" {node.op.upper()} ".join(arg.inner for arg in args), BOOL, atom=False)


def _not(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"NOT {args[0].inner}", BOOL, atom=False)


def _null_test(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"{args[0].inner} IS {'NOT ' if node.op == 'is_not_null' else ''}NULL", BOOL, atom=False)


def _when(node: Typed, args: Sequence[Value]) -> Value:
    args = _alike(args)
    pairs = list(zip(args[:-1:2], args[1::2], strict=True))
    # A condition that never holds comes from a table's changes, of which Flink takes care itself.
    pairs = [(condition, value) for condition, value in pairs if condition.text != "FALSE"]
    values = [*(value for _, value in pairs), args[-1]]
    if not pairs:
        return args[-1]
    text = " ".join(f"WHEN {condition.text} THEN {value.text}" for condition, value in pairs)
    return Value(f"CASE {text} ELSE {args[-1].text} END", _type_of(values), nan=_any_nan(values), inf=_any_inf(values))


def _alike(values: Sequence[Value]) -> Sequence[Value]:
    """Return values of which numbers have 64 bits where one has: Flink may take the fewer of a choice, or more than is known of it."""
    if len({value.type for value in values if is_integer(value.type)}) > 1:
        values = [as_type(value, INT) if is_integer(value.type) else value for value in values]
    if not any(value.type == FLOAT for value in values):
        return values
    return [as_type(value, FLOAT) if is_float(value.type) else value for value in values]


def _type_of(values: Sequence[Value]) -> pa.DataType:
    """Return the type that all have; the plan may know the choice under another one, as a date by its number of days."""
    return next((value.type for value in values if not pa.types.is_null(value.type)), values[0].type)


def _any_nan(values: Sequence[Value]) -> bool:
    return any(value.nan for value in values)


def _any_inf(values: Sequence[Value]) -> bool:
    return any(value.inf for value in values)


def _coalesce(node: Typed, args: Sequence[Value]) -> Value:
    args = _alike(args)
    type_, nan, inf = _type_of(args), _any_nan(args), _any_inf(args)
    if not any(part.may_fail for part in node.args[1:]):
        return Value(f"COALESCE({', '.join(arg.text for arg in args)})", type_, nan=nan, inf=inf)
    # COALESCE computes all of them, also those that are not asked for; CASE does not.
    first = " ".join(f"WHEN {arg.inner} IS NOT NULL THEN {arg.text}" for arg in args[:-1])
    return Value(f"CASE {first} ELSE {args[-1].text} END", type_, nan=nan, inf=inf)


def _extreme(node: Typed, args: Sequence[Value]) -> Value:
    if _any_nan(args):
        raise Refused(f"{node.op} of floats that may be NaN", "fill_nan(...) them first")
    args = _alike(args)
    type_ = _type_of(args)
    if not (is_float(type_) or is_integer(type_) or is_time(type_)):
        raise Refused(f"{node.op} of {type_}", "write when(a < b).then(a).otherwise(b)")
    return Value(f"{node.op.upper()}({', '.join(arg.text for arg in args)})", type_, inf=_any_inf(args))


def _is_in(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    if value.nan:
        raise Refused("is_in of floats that may be NaN", "fill_nan(...) them first")
    listed = node.params[0]
    if not listed:
        return Value(f"CASE WHEN {value.inner} IS NOT NULL THEN FALSE END", BOOL)
    shown = [short(constant(item, value.type), value) for item in listed]
    return Value(f"{value.inner} IN ({', '.join(shown)})", BOOL, atom=False)


def _replace(node: Typed, args: Sequence[Value]) -> Value:
    value, others = args[0], args[1:]
    if value.nan or is_float(value.type):
        raise Refused(f"{node.op} of floats", "compare with is_between(...)")
    keys = [constant(key, value.type) for key in node.params[0]]
    news = [constant(new, node.type) for new in node.params[1]]
    pairs = " ".join(f"WHEN {value.inner} = {short(key, value)} THEN {new.text}" for key, new in zip(keys, news, strict=True))
    if node.op == "replace":
        rest = others[0] if others else constant(None, node.type)
        if is_integer(rest.type) and is_integer(node.type):
            rest = as_type(rest, node.type)
        return Value(f"CASE {pairs} ELSE {rest.text} END", node.type, nan=_any_nan(others), inf=_any_inf(others))
    lost = failing("replace_strict does not know", _shown(value), flink_type(node.type))
    return Value(f"CASE {pairs} WHEN {value.inner} IS NOT NULL THEN {lost} END", node.type)


def _shown(value: Value) -> str:
    return value.inner if is_string(value.type) else f"CAST({value.text} AS STRING)"


def _to_text(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    if pa.types.is_boolean(value.type):
        return Value(f"CASE WHEN {value.text} THEN 'true' WHEN NOT {value.inner} THEN 'false' END", TEXT)
    if is_integer(value.type) or is_date(value.type):
        return Value(f"CAST({value.text} AS STRING)", TEXT)
    if is_time(value.type) and value.type.unit in ("s", "ms"):
        return Value(f"DATE_FORMAT({value.text}, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z''')", TEXT)
    raise Refused(f"the text of {value.type}", 'format("{:.2f}", ...) gives a float a number of digits')


def _to_whole(node: Typed, args: Sequence[Value]) -> Value:
    (value,), strict = args, bool(node.params and node.params[0])
    if pa.types.is_boolean(value.type):
        return Value(f"CASE WHEN {value.text} THEN 1 WHEN NOT {value.inner} THEN 0 END", pa.int32(), least=0, most=1)
    if not is_float(value.type):
        raise Refused(f"{node.op} of {value.type}", "Flink has no whole numbers of 64 bits without a sign: declare the column as int")
    lost = failing("no whole number of 64 bits", f"CAST({value.text} AS STRING)", "BIGINT") if strict else "CAST(NULL AS BIGINT)"
    inside = f"{value.inner} >= -9.223372036854775808E18 AND {value.inner} < 9.223372036854775808E18"
    # NaN is in no range.
    return Value(f"CASE WHEN {inside} THEN CAST({value.text} AS BIGINT) WHEN {value.inner} IS NOT NULL THEN {lost} END", INT)


def _to_float(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    if pa.types.is_boolean(value.type):
        return Value(f"CASE WHEN {value.text} THEN 1.0E0 WHEN NOT {value.inner} THEN 0.0E0 END", FLOAT)
    if value.constant and is_integer(value.type) and value.number is not None:
        return constant(float(value.number), FLOAT)
    return Value(f"CAST({value.text} AS DOUBLE)", FLOAT, nan=value.nan, inf=value.inf)


def _to_bool(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"{args[0].inner} <> 0", BOOL, atom=False)


def _check_range(node: Typed, args: Sequence[Value]) -> Value:
    low, high, name = node.params
    (value,) = args
    wanted = flink_type(node.type)
    lost = failing(f"does not fit {name}", f"CAST({value.text} AS STRING)", wanted)
    inside = f"{value.inner} BETWEEN {low} AND {high}"
    return Value(
        f"CASE WHEN {inside} THEN CAST({value.text} AS {wanted}) WHEN {value.inner} IS NOT NULL THEN {lost} END",
        node.type,
        least=low,
        most=high,
    )


OPERATIONS: Final[dict[str, Operation]] = {
    **dict.fromkeys(_SIGNS, _compared),
    **dict.fromkeys(("and", "or"), _logic),
    "not": _not,
    **dict.fromkeys(("is_null", "is_not_null"), _null_test),
    "when": _when,
    "coalesce": _coalesce,
    **dict.fromkeys(("least", "greatest"), _extreme),
    "is_in": _is_in,
    **dict.fromkeys(("replace", "replace_strict"), _replace),
    "cast_str": _to_text,
    "cast_i64": _to_whole,
    "cast_f64": _to_float,
    "cast_bool": _to_bool,
    "check_range": _check_range,
}
