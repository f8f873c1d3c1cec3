"""Exact arithmetic of decimals: which precision and scale a result has.

The rules are those of SQL and Arrow, up to 38 digits: a sum has the greater scale, a product the sum of the scales. No digit is
dropped to make room for others: what needs more than 38 digits is an error of the record. A quotient is rounded, half to even.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamdsl.logical.expression import Typed
from streamdsl.logical.types import (
    INT,
    MOST_DIGITS,
    checked_decimal,
    is_decimal,
    is_float,
    is_integer,
    literal,
    rescaled,
    retyped,
    whole_decimal,
)

if TYPE_CHECKING:
    from streamdsl.logical.bind import Binder

_FIXED_SPEC: Final = re.compile(r"\.(\d{1,2})f", re.ASCII)


def operands(binder: Binder, op: str, args: list[Typed]) -> list[Typed]:
    """Return operands of which one is a decimal, whole numbers as decimals too."""
    for arg in args:
        if is_float(arg.type):
            remedy = 'write Decimal("1.5") for a constant; cast a column: .cast(float) or .cast(pa.decimal128(18, 2))'
            binder.wrong(op, args, "decimals on both sides, or floats on both", remedy)
        if not is_decimal(arg.type) and not is_integer(arg.type) and not pa.types.is_null(arg.type):
            binder.wrong(op, args, "numbers")
    return [_operand(arg) for arg in args]


def _operand(arg: Typed) -> Typed:
    if pa.types.is_null(arg.type):
        return literal(None, pa.decimal128(1, 0))
    if is_integer(arg.type) and arg.op == "literal":
        digits = len(str(abs(arg.params[0]))) if arg.params[0] is not None else 1
        return retyped(arg, pa.decimal128(digits, 0))
    return rescaled(arg, whole_decimal(arg.type))


def arithmetic(binder: Binder, op: str, args: list[Typed]) -> Typed:
    """Exact: a sum and a product have all their digits; what needs more than 38 of them is an error of the record."""
    if op == "pow":
        base, exponent = args
        if exponent.op == "literal" and is_integer(exponent.type) and exponent.params[0] is not None and exponent.params[0] >= 0:
            return _power(binder, operands(binder, op, [base])[0], exponent.params[0])
        binder.wrong(op, args, "a whole number as exponent", "write .cast(float) to leave exact decimals")
    left, right = operands(binder, op, args)
    a, b = left.type, right.type
    if op == "mul":
        return _result(binder, op, checked_decimal(a.precision + b.precision, a.scale + b.scale, op), [left, right])
    scale = max(a.scale, b.scale)
    whole = max(a.precision - a.scale, b.precision - b.scale)
    same = [rescaled(arg, checked_decimal(arg.type.precision - arg.type.scale + scale, scale, op)) for arg in (left, right)]
    if op == "floordiv":
        type_ = checked_decimal(a.precision - a.scale + b.scale + 1, 0, op)
    elif op == "mod":
        type_ = checked_decimal(b.precision - b.scale + scale, scale, op)
    else:
        type_ = checked_decimal(whole + scale + 1, scale, op)
    result = _result(binder, op, type_, same)
    return replace(result, nullable=True) if op in ("floordiv", "mod") else result


def _result(binder: Binder, op: str, type_: pa.DataType, args: list[Typed], first: int = 0) -> Typed:
    return binder._strict(f"dec_{op}", type_, args, (first, type_.precision))


def _power(binder: Binder, base: Typed, exponent: int) -> Typed:
    result = literal(1, pa.decimal128(1, 0))
    for _ in range(exponent):
        result = arithmetic(binder, "mul", [result, base])
    return result


def quotient(binder: Binder, op: str, args: list[Typed]) -> Typed:
    """Rounded half to even to max(6, s1 + p2 + 1) digits behind the point, fewer where 38 digits do not suffice."""
    left, right = operands(binder, op, args)
    a, b = left.type, right.type
    whole = a.precision - a.scale + b.scale
    least = max(6, a.scale, b.scale)
    scale = max(6, a.scale + b.precision + 1)
    scale = min(max(min(scale, 38 - whole), least), 38, 38 + a.scale - b.scale)
    type_ = checked_decimal(whole + scale, scale, op)
    result = _result(binder, op, type_, [left, right], scale - a.scale + b.scale)
    return replace(result, nullable=True)


def unary(binder: Binder, op: str, value: Typed, params: tuple[Any, ...]) -> Typed:
    type_ = value.type
    if op == "sign":
        return binder._strict("dec_sign", INT, [value])
    if op == "neg" and value.op == "literal" and value.params[0] is not None:
        return literal(-value.params[0], type_)
    if op in ("neg", "abs"):
        return _result(binder, op, type_, [value])
    digits = params[0] if op == "round" else 0
    if digits >= type_.scale:
        return value
    scale = max(0, digits)
    drop, back = min(type_.scale - digits, 76), max(0, -digits)
    result = checked_decimal(type_.precision - type_.scale + scale + 1, scale, op)
    # One digit more: 9.95 rounds to 10.0.
    return binder._strict(f"dec_{op}", result, [value], (drop, result.precision, min(back, 38)))


def comparable(binder: Binder, op: str, args: list[Typed]) -> list[Typed]:
    """Return the values in one type. Of decimals nothing is lost, whatever their scales: a value beyond 38 digits saturates."""
    typed = operands(binder, op, args)
    scale = max(arg.type.scale for arg in typed)
    columns = [arg for arg in typed if arg.op != "literal"]
    if columns and all(_at_scale(arg, columns[0].type.scale) is not None for arg in typed if arg.op == "literal"):
        scale = max(arg.type.scale for arg in columns)
    whole = pa.decimal128(38, scale)
    return [_at_scale(arg, scale) or rescaled(arg, whole, 2) for arg in typed]


def formatted(binder: Binder, value: Typed, spec: str) -> Typed:
    """Return the decimal with the digits that a format spec asks for."""
    fixed = _FIXED_SPEC.fullmatch(spec)
    if fixed is None:
        if spec not in ("", "s"):
            raise binder.error(f"format: {{:{spec}}} does not fit {value} ({value.type})", "use {} or {:.2f}, or cast it to a float")
        return value
    rounded = unary(binder, "round", value, (int(fixed[1]),))
    places = min(int(fixed[1]), MOST_DIGITS)
    if rounded.type.scale >= places:
        return rounded
    return rescaled(rounded, checked_decimal(rounded.type.precision - rounded.type.scale + places, places, "format"))


def _at_scale(value: Typed, scale: int) -> Typed | None:
    """Return a constant at another scale, None where that would lose digits; beyond all decimals if it has too many."""
    if value.op != "literal":
        return None
    number = value.params[0]
    if number is None:
        return literal(None, pa.decimal128(38, scale))
    places = scale - value.type.scale
    whole, lost = (number * 10**places, 0) if places >= 0 else divmod(number, 10**-places)
    beyond = 10**MOST_DIGITS + 1
    return None if lost else literal(max(-beyond, min(whole, beyond)), pa.decimal128(MOST_DIGITS, scale))
