"""Exact decimals. Flink drops digits where 38 do not suffice, and rounds halves up: what would meet that is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamdsl.flink.functions.kind import Operation
from streamdsl.flink.refusing import Refused
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import FLOAT, MOST_DIGITS, TEXT, is_decimal, is_integer

__all__ = ["OPERATIONS"]

_INFIX: Final = {"dec_add": "+", "dec_sub": "-", "dec_mul": "*"}
_FEWER: Final = "cast the operands to fewer digits: cast(pa.decimal128(18, 4))"


def _arithmetic(node: Typed, args: Sequence[Value]) -> Value:
    if node.type.precision >= MOST_DIGITS:
        raise Refused(f"{node.op.removeprefix('dec_')} of decimals with {MOST_DIGITS} digits", _FEWER)
    left, right = args
    return Value(f"CAST({left.inner} {_INFIX[node.op]} {right.inner} AS {flink_type(node.type)})", node.type)


def _negated(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    return Value(f"ABS({value.text})" if node.op == "dec_abs" else f"(- {value.inner})", node.type)


def _sign(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CAST(SIGN({args[0].text}) AS BIGINT)", node.type)


def _widened(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    source, target = value.type, node.type
    whole = source.precision - source.scale if is_decimal(source) else 19 if is_integer(source) else None
    if whole is None:
        raise Refused(f"{source} as a decimal", "Flink rounds it otherwise: declare the column as a decimal")
    scale = source.scale if is_decimal(source) else 0
    if target.scale < scale or target.precision - target.scale < whole:
        raise Refused(f"{source} as {target}, which has room for fewer digits", "cast to a decimal with room for all of them")
    return Value(f"CAST({value.text} AS {flink_type(target)})", target)


def _to_float(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CAST({args[0].text} AS DOUBLE)", FLOAT)


def _to_text(node: Typed, args: Sequence[Value]) -> Value:
    return Value(f"CAST({args[0].text} AS STRING)", TEXT)


def _refused(what: str, remedy: str) -> Operation:
    def refuse(node: Typed, args: Sequence[Value]) -> Value:
        raise Refused(what, remedy)

    return refuse


OPERATIONS: Final[dict[str, Operation]] = {
    **dict.fromkeys(_INFIX, _arithmetic),
    **dict.fromkeys(("dec_neg", "dec_abs"), _negated),
    "dec_sign": _sign,
    **dict.fromkeys(("dec_rescale", "dec_cast"), _widened),
    "dec_to_f64": _to_float,
    "dec_to_str": _to_text,
    **dict.fromkeys(
        ("dec_div", "dec_round", "dec_floor", "dec_ceil"),
        _refused("division and rounding of decimals", "Flink rounds halves up: cast to a float, or calculate in cents"),
    ),
    **dict.fromkeys(
        ("dec_floordiv", "dec_mod", "dec_to_i64", "dec_to_u64"),
        _refused("whole parts of decimals", "calculate with whole cents"),
    ),
}
