"""Functions of numbers; part of `Expr`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamdsl.expr.expression import Expr, Operand

__all__ = ["NumberFunctions"]


class NumberFunctions:
    """What an expression of numbers can do beside arithmetic."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _call(self, op: str, *args: Any, params: tuple[Any, ...] = ()) -> Expr: ...

    def is_nan(self) -> Expr:
        """Whether the number is NaN."""
        return self._call("is_nan")

    def is_not_nan(self) -> Expr:
        """Whether the number is not NaN."""
        return ~self._call("is_nan")

    def is_finite(self) -> Expr:
        """Whether the number is neither NaN nor infinite."""
        return self._call("is_finite")

    def is_infinite(self) -> Expr:
        """Whether the number is infinite."""
        return self._call("abs") == math.inf

    def fill_nan(self, value: Operand) -> Expr:
        """The number, or `value` where it is NaN; null stays null."""
        return self._call("fill_nan", value)

    def round(self, decimals: int = 0) -> Expr:
        """The number rounded to `decimals`, halves to even, by the digits of the number itself."""
        from streamdsl.expr.expression import whole

        return self._call("round", params=(whole(decimals, "decimals"),))

    def log(self, base: Operand = math.e) -> Expr:
        """Logarithm to a base, the natural one by default."""
        found = self._call("log")
        if isinstance(base, bool) or not isinstance(base, (int, float)):
            return found / self._of(base)._call("log")
        if base == math.e:
            return found
        return found / (math.log(base) if base > 0 else math.nan)

    @staticmethod
    def _of(value: Operand) -> Expr:
        from streamdsl.expr.functions import lit

        return lit(value)

    def pow(self, exponent: Operand) -> Expr:
        """The value to the power of `exponent`; the same as ``**``."""
        return self._call("pow", exponent)

    def floor(self) -> Expr:
        """The greatest whole number not above."""
        return self._call("floor")

    def ceil(self) -> Expr:
        """The least whole number not below."""
        return self._call("ceil")

    def sign(self) -> Expr:
        """-1, 0 or 1."""
        return self._call("sign")

    def sqrt(self) -> Expr:
        """Square root; NaN for negative numbers."""
        return self._call("sqrt")

    def cbrt(self) -> Expr:
        """Cube root."""
        return self._call("cbrt")

    def exp(self) -> Expr:
        """e to the power of the value."""
        return self._call("exp")

    def log10(self) -> Expr:
        """Logarithm to base 10."""
        return self._call("log10")

    def log1p(self) -> Expr:
        """Natural logarithm of one more than the value."""
        return self._call("log1p")

    def sin(self) -> Expr:
        """Sine of radians."""
        return self._call("sin")

    def cos(self) -> Expr:
        """Cosine of radians."""
        return self._call("cos")

    def tan(self) -> Expr:
        """Tangent of radians."""
        return self._call("tan")

    def cot(self) -> Expr:
        """Cotangent of radians."""
        return self._call("cot")

    def arcsin(self) -> Expr:
        """Arc sine in radians."""
        return self._call("arcsin")

    def arccos(self) -> Expr:
        """Arc cosine in radians."""
        return self._call("arccos")

    def arctan(self) -> Expr:
        """Arc tangent in radians."""
        return self._call("arctan")

    def sinh(self) -> Expr:
        """Hyperbolic sine."""
        return self._call("sinh")

    def cosh(self) -> Expr:
        """Hyperbolic cosine."""
        return self._call("cosh")

    def tanh(self) -> Expr:
        """Hyperbolic tangent."""
        return self._call("tanh")

    def arcsinh(self) -> Expr:
        """Inverse hyperbolic sine."""
        return self._call("arcsinh")

    def arccosh(self) -> Expr:
        """Inverse hyperbolic cosine."""
        return self._call("arccosh")

    def arctanh(self) -> Expr:
        """Inverse hyperbolic tangent."""
        return self._call("arctanh")

    def radians(self) -> Expr:
        """Degrees as radians."""
        return self._call("radians")

    def degrees(self) -> Expr:
        """Radians as degrees."""
        return self._call("degrees")
