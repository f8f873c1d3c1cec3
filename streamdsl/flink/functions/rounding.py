"""Floats rounded to decimal digits: the number itself, half to even.

Flink rounds the shortest decimal text of a float, half up. Of a fraction the two differ only where that text ends in a 5 just behind
the digits that are kept: 2.675 is a little less than its text, and goes down to 2.67. There the exact product with a power of ten
decides, which two floats hold together: what is multiplied is cut into halves of 26 bits, whose products are exact.
"""

from __future__ import annotations

from typing import Final

from streamdsl.flink.values import Value, failing

__all__ = ["MOST_DIGITS", "fixed_text", "rounded"]

#: Twice a power of ten must fit the 26 bits of a half.
MOST_DIGITS: Final = 7
#: 2^27 + 1 cuts a float of 53 bits into two halves.
_CUT: Final = "134217729.0E0"
_SHORTEST: Final = "DECIMAL(38, 20)"


def fixed_text(value: Value, digits: int) -> str:
    """Return the text of a finite float with so many digits behind the point."""
    # A zero may have a sign as well.
    sign = f"CASE WHEN CAST({value.text} AS STRING) LIKE '-%' THEN '-' ELSE '' END"
    return f"{sign} || CAST({rounded(f'ABS({value.text})', digits)} AS STRING)"


def rounded(x: str, digits: int) -> str:
    """Return a float that is not negative as a decimal of so many digits behind the point."""
    # The fraction by itself is exact, and its shortest text has all digits that matter; those of a large float have not.
    whole, fraction = f"CAST(FLOOR({x}) AS BIGINT)", f"({x} - FLOOR({x}))"
    unit = "1" if digits == 0 else f"0.{'0' * (digits - 1)}1"
    upper = f"CAST({fraction} AS DECIMAL({digits + 2}, {digits}))"
    shortest = f"CAST({fraction} AS {_SHORTEST})"
    tie = f"MOD({shortest}, {unit}) = 0.{'0' * digits}5 AND {_goes_down(fraction, whole, shortest, upper, digits)}"
    behind = f"CASE WHEN {tie} THEN CAST({upper} - {unit} AS DECIMAL({digits + 2}, {digits})) ELSE {upper} END"
    lost = failing("too large to be written with all its digits", f"CAST({x} AS STRING)", "BIGINT")
    fitting = f"CASE WHEN {x} < 9.2E18 THEN {whole} ELSE {lost} END"
    return f"({fitting} + {behind})"


def _goes_down(x: str, whole: str, shortest: str, upper: str, digits: int) -> str:
    """Return whether a fraction whose text ends in the middle is less than that, or is it and has an even digit below."""
    factor = f"{2 * 10**digits}.0E0"
    # What the exact number lies above the middle, in units of half a digit.
    high = f"({_CUT} * {x} - ({_CUT} * {x} - {x}))"
    middle = f"CAST({shortest} * {2 * 10**digits} AS DOUBLE)"
    above = f"({x} * {factor} - {middle}) + (({high} * {factor} - {x} * {factor}) + ({x} - {high}) * {factor})"
    odd = f"MOD({whole} + {upper}, 2) <> 0" if digits == 0 else f"MOD({upper}, 0.{'0' * (digits - 1)}2) <> 0"
    return f"({above} < 0 OR ({above} = 0 AND {odd}))"
