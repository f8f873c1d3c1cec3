"""Arithmetic of whole numbers and floats.

Flink's whole numbers wrap around, and here an overflow is an error of the record. So what may overflow is computed with 38 digits
and read again as a number of 64 bits, which fails for one that is too great.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from streamdsl.flink.functions.kind import Operation, call, is_nan
from streamdsl.flink.functions.rounding import MOST_DIGITS, rounded
from streamdsl.flink.refusing import Refused
from streamdsl.flink.values import Value, constant, rest_of, short
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import BOOL, FLOAT, INT, UINT, is_float, is_span, is_time

__all__ = ["OPERATIONS"]

_WIDE: Final = "DECIMAL(38, 0)"
_INFIX: Final = {"add": "+", "sub": "-", "mul": "*"}
#: 2^52: from here on all floats are whole.
_WHOLE_FROM: Final = "4.503599627370496E15"
_INT64: Final = (-(2**63), 2**63 - 1)


def _ends(op: str, left: Value, right: Value) -> list[int]:
    (low, high), (least, most) = (left.least, left.most), (right.least, right.most)
    if op == "add":
        return [low + least, high + most]
    if op == "sub":
        return [low - most, high - least]
    return [a * b for a in (low, high) for b in (least, most)]


def checked(exact: str) -> str:
    """Return a decimal as a whole number of 64 bits, which fails where it is too great.

    A cast from the decimal itself would wrap around, and Flink makes one of two casts: hence TRIM between them.
    """
    return f"CAST(TRIM(CAST({exact} AS STRING)) AS BIGINT)"


def _arithmetic(node: Typed, args: Sequence[Value]) -> Value:
    left, right = args
    sign = _INFIX[node.op]
    if is_float(node.type):
        lost = left.inf or right.inf
        shown = f"{left.inner} {sign} {right.inner}"
        return Value(shown, FLOAT, atom=False, nan=left.nan or right.nan or lost, inf=True)
    if UINT in (left.type, right.type):
        raise Refused(f"{node.op} of uint64", "declare the column as int: Flink has no whole numbers of 64 bits without a sign")
    ends = _ends(node.op, left, right)
    if _INT64[0] <= min(ends) and max(ends) <= _INT64[1]:
        # One side of 64 bits is enough; a constant is written with as many as it needs.
        if not any(arg.type == INT and not arg.constant for arg in args):
            left, right = (left, _widened(right)) if left.constant else (_widened(left), right)
        return Value(f"{short(left, right)} {sign} {short(right, left)}", INT, False, least=min(ends), most=max(ends))
    exact = f"{_wide(left)} {sign} {_wide(right)}"
    return Value(checked(exact), INT)


def _widened(value: Value) -> Value:
    return Value(f"CAST({value.text} AS BIGINT)", INT)


def _wide(value: Value) -> str:
    # 19 digits each: of their product none is lost.
    return str(value.number) if value.constant and value.number is not None else f"CAST({value.text} AS DECIMAL(19, 0))"


def _divide(node: Typed, args: Sequence[Value]) -> Value:
    left, right = args
    if "int" in node.params:
        divisor = right.text if right.constant and right.number else f"NULLIF({right.text}, 0)"
        return Value(f"{left.inner} / {_bracketed(divisor, right)}", FLOAT, atom=False)
    safe = right.constant and right.number not in (None, 0.0) and not right.nan and not right.inf
    lost = left.nan or not safe or (left.inf and right.inf)
    return Value(f"{left.inner} / {right.inner}", FLOAT, atom=False, nan=lost, inf=True)


def _bracketed(text: str, value: Value) -> str:
    return text if value.atom or text.startswith("NULLIF") else f"({text})"


def _whole_only(node: Typed, args: Sequence[Value]) -> None:
    if is_float(node.type):
        raise Refused(f"{'//' if node.op == 'floordiv' else '%'} of floats", "cast to int first, or use / and floor()")
    if UINT in (args[0].type, args[1].type):
        raise Refused(f"{node.op} of uint64", "declare the column as int")


def _floordiv(node: Typed, args: Sequence[Value]) -> Value:
    _whole_only(node, args)
    left, right = args
    if right.constant and right.number and right.number > 0:
        a, b = _big(left), str(right.number)
        if left.least >= 0:
            return Value(f"{a} / {b}", INT, False, least=0, most=left.most // right.number)
        return Value(f"CASE WHEN MOD({a}, {b}) < 0 THEN {a} / {b} - 1 ELSE {a} / {b} END", INT)
    a, b = f"CAST({left.text} AS BIGINT)", f"NULLIF({right.text}, 0)"
    # The least number divided by -1 is one too many.
    exact = f"CASE WHEN {right.inner} = -1 THEN {checked(f'- {_wide_cast(left)}')}"
    return Value(f"{exact} WHEN MOD({a}, {b}) <> 0 AND (MOD({a}, {b}) < 0) <> ({b} < 0) THEN {a} / {b} - 1 ELSE {a} / {b} END", INT)


def _big(value: Value) -> str:
    """Return a whole number as one of 64 bits: Flink calculates with as many bits as its operands have."""
    return value.inner if value.type == INT and not value.constant else f"CAST({value.text} AS BIGINT)"


def _wide_cast(value: Value) -> str:
    return f"CAST({value.text} AS {_WIDE})"


def _mod(node: Typed, args: Sequence[Value]) -> Value:
    _whole_only(node, args)
    left, right = args
    if right.constant and right.number and 0 < right.number < 2**62:
        a, b = left.inner, str(right.number)
        if left.least >= 0:
            return Value(f"CAST(MOD({a}, {b}) AS BIGINT)", INT, least=0, most=right.number)
        return Value(rest_of(a, right.number), INT, least=0, most=right.number)
    a, b = f"CAST({left.text} AS BIGINT)", f"NULLIF({_big(right)}, 0)"
    return Value(f"CASE WHEN MOD({a}, {b}) <> 0 AND (MOD({a}, {b}) < 0) <> ({b} < 0) THEN MOD({a}, {b}) + {b} ELSE MOD({a}, {b}) END", INT)


def _negated(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    if is_float(node.type):
        return Value(f"- {value.inner}" if node.op == "neg" else f"ABS({value.text})", FLOAT, node.op == "abs", value.nan, value.inf)
    if value.type == UINT:
        raise Refused(f"{node.op} of uint64", "declare the column as int")
    if value.least > _INT64[0]:
        if node.op == "neg":
            return Value(f"- {_big(value)}", INT, False, least=-value.most, most=-value.least)
        return Value(f"ABS({_big(value)})", INT, least=0, most=max(abs(value.least), abs(value.most)))
    exact = f"- {_wide_cast(value)}" if node.op == "neg" else f"ABS({_wide_cast(value)})"
    return Value(checked(exact), INT)


def _sign(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    text = f"SIGN({value.text})"
    if is_float(value.type):
        # Of a negative zero Flink gives one back.
        text = f"CASE WHEN {value.inner} = 0 THEN {constant(0.0, value.type).text} ELSE {text} END"
    return Value(text, value.type, nan=value.nan, least=-1, most=1)


def _round(node: Typed, args: Sequence[Value]) -> Value:
    (value,), digits = args, node.params[0]
    if not is_float(node.type):
        raise Refused(f"round({digits}) of whole numbers", "divide, floor and multiply")
    if not 0 <= digits <= MOST_DIGITS:
        raise Refused(f"round({digits}) of floats", f"round to 0 to {MOST_DIGITS} digits")
    x = f"ABS({value.text})"
    if digits == 0:
        down, off = f"FLOOR({x})", f"({x} - FLOOR({x}))"
        odd = f"{down} / 2 <> FLOOR({down} / 2)"
        near = f"CASE WHEN {off} > 0.5E0 OR ({off} = 0.5E0 AND {odd}) THEN {down} + 1 ELSE {down} END"
    else:
        near = f"CAST({rounded(x, digits)} AS DOUBLE)"
    # A zero has a sign, too.
    found = f"CASE WHEN CAST({value.text} AS STRING) LIKE '-%' THEN - ({near}) ELSE {near} END"
    # Larger floats have no digits behind the point; NaN is not below anything.
    shown = f"CASE WHEN ABS({value.text}) < {_WHOLE_FROM} THEN {found} ELSE {value.text} END"
    return Value(shown, FLOAT, nan=value.nan, inf=value.inf)


def _whole(node: Typed, args: Sequence[Value]) -> Value:
    if not is_float(node.type):
        return args[0]
    return Value(call("FLOOR" if node.op == "floor" else "CEIL", args[0].text), FLOAT, nan=args[0].nan, inf=args[0].inf)


#: Functions of floats: Flink's name, and whether the result may be NaN or infinite although the argument is neither.
_OF_FLOAT: Final[dict[str, tuple[str, bool, bool]]] = {
    "sqrt": ("SQRT", True, False),
    "exp": ("EXP", False, True),
    "log": ("LN", True, True),
    "log10": ("LOG10", True, True),
    "sin": ("SIN", False, False),
    "cos": ("COS", False, False),
    "tan": ("TAN", False, False),
    "arcsin": ("ASIN", True, False),
    "arccos": ("ACOS", True, False),
    "arctan": ("ATAN", False, False),
    "sinh": ("SINH", False, True),
    "cosh": ("COSH", False, True),
    "tanh": ("TANH", False, False),
    "radians": ("RADIANS", False, False),
    "degrees": ("DEGREES", False, True),
}
_UNKNOWN: Final = ("log1p", "cbrt", "cot", "arcsinh", "arccosh", "arctanh")


def _of_float(node: Typed, args: Sequence[Value]) -> Value:
    name, nan, inf = _OF_FLOAT[node.op]
    (value,) = args
    if node.op == "sqrt":
        # Flink computes a power of one half, which loses the sign of zero and has one for what is infinitely negative.
        lost = constant(float("nan"), FLOAT).text
        root = f"CASE WHEN {value.inner} = 0 THEN {value.text} WHEN {value.inner} < 0 THEN {lost} ELSE {call(name, value.text)} END"
        return Value(root, FLOAT, nan=True, inf=value.inf)
    # An infinite angle has no sine.
    return Value(call(name, value.text), FLOAT, nan=nan or value.nan or value.inf, inf=inf or value.inf)


def _unknown(node: Typed, args: Sequence[Value]) -> Value:
    raise Refused(f"the function {node.op}()", "Flink has no such function, or one that answers otherwise")


def _power(node: Typed, args: Sequence[Value]) -> Value:
    return Value(call("POWER", *(arg.text for arg in args)), FLOAT, nan=True, inf=True)


def _arctan2(node: Typed, args: Sequence[Value]) -> Value:
    lost = any(arg.nan for arg in args)
    return Value(call("ATAN2", *(arg.text for arg in args)), FLOAT, nan=lost)


def _is_nan(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    if not value.nan:
        return Value(f"CASE WHEN {value.inner} IS NOT NULL THEN FALSE END", BOOL)
    return Value(is_nan(value), BOOL, atom=False)


def _is_finite(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CAST({args[0].text} AS STRING) NOT IN ('NaN', 'Infinity', '-Infinity')", BOOL, atom=False)


def _not_unsigned(node: Typed, args: Sequence[Value]) -> Value:
    raise Refused(f"{node.op} to uint64", "Flink has no whole numbers of 64 bits without a sign: use int")


def span_or_whole(type_: pa.DataType) -> bool:
    """Whether arithmetic of the type is that of whole numbers."""
    return bool(pa.types.is_integer(type_) or is_span(type_) or is_time(type_))


OPERATIONS: Final[dict[str, Operation]] = {
    **dict.fromkeys(_INFIX, _arithmetic),
    "div": _divide,
    "floordiv": _floordiv,
    "mod": _mod,
    "pow": _power,
    **dict.fromkeys(("neg", "abs"), _negated),
    "sign": _sign,
    "round": _round,
    **dict.fromkeys(("floor", "ceil"), _whole),
    **dict.fromkeys(_OF_FLOAT, _of_float),
    **dict.fromkeys(_UNKNOWN, _unknown),
    "arctan2": _arctan2,
    "is_nan": _is_nan,
    "is_finite": _is_finite,
    "cast_u64": _not_unsigned,
}
