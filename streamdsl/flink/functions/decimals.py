"""Exact decimals. Flink drops digits where 38 do not suffice, which is refused, and rounds halves up, which is mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from streamdsl.flink.functions.kind import Operation
from streamdsl.flink.refusing import Refused
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import FLOAT, INT, MOST_DIGITS, TEXT, is_decimal, is_integer

__all__ = ["OPERATIONS", "mean"]

_INFIX: Final = {"dec_add": "+", "dec_sub": "-", "dec_mul": "*"}
#: Of the values of a mean: sums of a thousand million of them have 27 digits, and their multiple without a point fits 38.
_MOST_DIGITS_OF_MEAN: Final = 18
_MOST_PLACES_OF_MEAN: Final = 9
#: What a whole number of 64 bits always has room for.
_DIGITS_OF_INT: Final = 18
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
    return Value(f"CAST(SIGN({args[0].text}) AS BIGINT)", INT, least=-1, most=1)


def _widened(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    source, target = value.type, node.type
    most = len(str(max(-value.least, value.most)))
    whole = source.precision - source.scale if is_decimal(source) else most if is_integer(source) else None
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


def _divided(node: Typed, args: Sequence[Value]) -> Value:
    left, right = args
    type_, digits = node.type, right.type.precision
    fits = type_.precision + digits + 2 <= MOST_DIGITS and digits + type_.scale + 3 <= MOST_DIGITS
    if not fits or _flinks_quotient(left.type, right.type) != (type_.precision, type_.scale):
        raise Refused(f"{left.type} / {right.type}, a quotient of many digits", _FEWER)
    divisor = right.inner if right.constant and right.number else f"NULLIF({right.text}, 0)"
    quotient, unit = f"({left.inner} / {divisor})", _unit(type_.scale)
    # Flink rounds halves up: one digit less where the half is exact and the last digit odd.
    half = f"ABS({quotient} * {right.inner} - {left.inner}) = ABS({right.text}) * {_unit(type_.scale + 1, 5)}"
    return Value(f"CAST({_even(quotient, half, unit, quotient)} AS {flink_type(type_)})", type_)


def _flinks_quotient(left: pa.DataType, right: pa.DataType) -> tuple[int, int]:
    """Return the precision and the scale of a quotient, those of SQL."""
    scale = max(6, left.scale + right.precision + 1)
    return left.precision - left.scale + right.scale + scale, scale


def _rounded(node: Typed, args: Sequence[Value]) -> Value:
    (value,), type_, (drop, _, back) = args, node.type, node.params
    if back:
        raise Refused("rounding of decimals to tens or hundreds", "divide, round and multiply")
    digits, unit = value.type.scale - drop, _unit(value.type.scale - drop)
    rounded = f"ROUND({value.text}, {digits})"
    half = f"MOD(ABS({value.text}), {unit}) = {_unit(digits + 1, 5)}"
    return Value(f"CAST({_even(rounded, half, unit, value.inner)} AS {flink_type(type_)})", type_)


def _unit(digits: int, number: int = 1) -> str:
    return str(number) if digits == 0 else f"0.{number:0{digits}}"


def _even(rounded: str, half: str, unit: str, sign: str) -> str:
    """Return what was rounded, halves up, with an even last digit where it was the half of one."""
    odd = f"MOD({rounded}, {_twice(unit)}) <> 0"
    return f"CASE WHEN {half} AND {odd} THEN {rounded} - CASE WHEN {sign} < 0 THEN - {unit} ELSE {unit} END ELSE {rounded} END"


def _twice(unit: str) -> str:
    return f"{unit[:-1]}2"


def _whole(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    return Value(f"CAST({node.op.removeprefix('dec_').upper()}({value.text}) AS {flink_type(node.type)})", node.type)


def _to_whole(node: Typed, args: Sequence[Value]) -> Value:
    (value,) = args
    if value.type.precision - value.type.scale > _DIGITS_OF_INT:
        raise Refused(
            f"{value.type} as a whole number of 64 bits, which may be too small for it", "cast to fewer digits: cast(pa.decimal128(18, 2))"
        )
    return Value(f"CAST(TRUNCATE({value.text}, 0) AS BIGINT)", INT)


def mean(total: str, count: str, argument: pa.DataType, type_: pa.DataType) -> str:
    """Return the mean of decimals, half to even, from their sum and count.

    Raises
    ------
    Refused
        Sums might need more digits than Flink has.
    """
    if argument.precision > _MOST_DIGITS_OF_MEAN or type_.scale > _MOST_PLACES_OF_MEAN:
        raise Refused(
            f"the mean of {argument}, whose sum has many digits", f"cast to fewer: cast(pa.decimal128(15, {min(argument.scale, 4)}))"
        )
    # As whole numbers of units of the last digit: a remainder is exact, a quotient of Flink is not.
    unscaled = f"CAST({total} AS DECIMAL(27, {argument.scale})) * 1{'0' * type_.scale}"
    whole, n = f"CAST({unscaled} AS DECIMAL(38, 0))", f"CAST(NULLIF({count}, 0) AS DECIMAL(19, 0))"
    rest = f"MOD({whole}, {n})"
    down = f"CAST(({whole} - {rest}) / {n} AS DECIMAL(27, 0))"
    up = f"ABS({rest}) * 2 > {n} OR (ABS({rest}) * 2 = {n} AND MOD({down}, 2) <> 0)"
    rounded = f"CAST({down} + CASE WHEN {up} THEN CASE WHEN {total} < 0 THEN -1 ELSE 1 END ELSE 0 END AS DECIMAL(27, 0))"
    return f"CAST({rounded} * {_unit(type_.scale)} AS {flink_type(type_)})"


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
    "dec_to_i64": _to_whole,
    "dec_to_str": _to_text,
    "dec_div": _divided,
    "dec_round": _rounded,
    **dict.fromkeys(("dec_floor", "dec_ceil"), _whole),
    **dict.fromkeys(
        ("dec_floordiv", "dec_mod", "dec_to_u64"),
        _refused("// and % of decimals, and decimals as uint64", "calculate with whole cents: (col(...) * 100).cast(int)"),
    ),
}
