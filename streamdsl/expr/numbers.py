"""Functions of numbers; part of `Expr`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from streamdsl.scalars import whole

if TYPE_CHECKING:
    from streamdsl.expr.expression import Expr, Operand

__all__ = ["NumberFunctions"]


class NumberFunctions:
    """What an expression of numbers can do beside arithmetic."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _call(self, op: str, *args: Any, params: tuple[Any, ...] = ()) -> Expr: ...

    def is_nan(self) -> Expr:
        """Whether the number is NaN.

        Examples
        --------
        >>> evaluate(col("x").is_nan(), x=[float("nan"), 1.0, None])
        [True, False, None]
        """
        return self._call("is_nan")

    def is_not_nan(self) -> Expr:
        """Whether the number is not NaN.

        Examples
        --------
        >>> evaluate(col("x").is_not_nan(), x=[float("nan"), 1.0, None])
        [False, True, None]
        """
        return ~self._call("is_nan")

    def is_finite(self) -> Expr:
        """Whether the number is neither NaN nor infinite.

        Examples
        --------
        >>> evaluate(col("x").is_finite(), x=[1.0, float("inf"), float("nan"), None])
        [True, False, False, None]
        """
        return self._call("is_finite")

    def is_infinite(self) -> Expr:
        """Whether the number is infinite.

        Examples
        --------
        >>> evaluate(col("x").is_infinite(), x=[1.0, float("-inf"), float("nan"), None])
        [False, True, False, None]
        """
        return self._call("abs") == math.inf

    def fill_nan(self, value: Operand) -> Expr:
        """The number, or `value` where it is NaN; null stays null.

        Examples
        --------
        >>> evaluate(col("x").fill_nan(0), x=[float("nan"), None])
        [0.0, None]
        >>> evaluate(col("x").fill_nan(None), x=[float("nan"), 1.0])
        [None, 1.0]
        """
        return self._call("fill_nan", value)

    def round(self, decimals: int = 0) -> Expr:
        """The number rounded to `decimals`, halves to even, by the digits of the number itself.

        Examples
        --------
        >>> evaluate(col("x").round(), x=[0.5, 1.5, -2.5])
        [0.0, 2.0, -2.0]
        >>> evaluate(col("x").round(2), x=[2.675, None])
        [2.67, None]
        """
        return self._call("round", params=(whole(decimals, "decimals"),))

    def log(self, base: Operand = math.e) -> Expr:
        """Logarithm to a base, the natural one by default.

        Examples
        --------
        >>> evaluate(col("x").log(2), x=[8.0, 0.0, -1.0, None])
        [3.0, -inf, nan, None]
        """
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
        """The value to the power of `exponent`; the same as ``**``.

        Examples
        --------
        >>> evaluate(col("x").pow(0.5), x=[9.0, -9.0, None])
        [3.0, nan, None]
        >>> evaluate(col("n").pow(2), n=[3])
        [9]
        """
        return self._call("pow", exponent)

    def floor(self) -> Expr:
        """The greatest whole number not above.

        Examples
        --------
        >>> evaluate(col("x").floor(), x=[-1.5, None])
        [-2.0, None]
        """
        return self._call("floor")

    def ceil(self) -> Expr:
        """The least whole number not below.

        Examples
        --------
        >>> evaluate(col("x").ceil(), x=[-1.5, None])
        [-1.0, None]
        """
        return self._call("ceil")

    def sign(self) -> Expr:
        """-1, 0 or 1.

        Examples
        --------
        >>> evaluate(col("x").sign(), x=[-2.5, -0.0, float("nan"), None])
        [-1.0, 0.0, nan, None]
        """
        return self._call("sign")

    def sqrt(self) -> Expr:
        """Square root; NaN for negative numbers.

        Examples
        --------
        >>> evaluate(col("x").sqrt(), x=[4.0, -4.0, None])
        [2.0, nan, None]
        """
        return self._call("sqrt")

    def cbrt(self) -> Expr:
        """Cube root.

        Examples
        --------
        >>> evaluate(col("x").cbrt(), x=[-8.0, None])
        [-2.0, None]
        """
        return self._call("cbrt")

    def exp(self) -> Expr:
        """e to the power of the value.

        Examples
        --------
        >>> evaluate(col("x").exp(), x=[0.0, 1000.0, None])
        [1.0, inf, None]
        """
        return self._call("exp")

    def log10(self) -> Expr:
        """Logarithm to base 10.

        Examples
        --------
        >>> evaluate(col("x").log10(), x=[1000.0, 0.0, -1.0, None])
        [3.0, -inf, nan, None]
        """
        return self._call("log10")

    def log1p(self) -> Expr:
        """Natural logarithm of one more than the value.

        Examples
        --------
        >>> evaluate(col("x").log1p(), x=[1e-20, -1.0, -2.0])
        [1e-20, -inf, nan]
        """
        return self._call("log1p")

    def sin(self) -> Expr:
        """Sine of radians.

        Examples
        --------
        >>> evaluate(col("x").sin(), x=[0.0, float("inf"), None])
        [0.0, nan, None]
        """
        return self._call("sin")

    def cos(self) -> Expr:
        """Cosine of radians.

        Examples
        --------
        >>> evaluate(col("x").cos(), x=[0.0, float("inf"), None])
        [1.0, nan, None]
        """
        return self._call("cos")

    def tan(self) -> Expr:
        """Tangent of radians.

        Examples
        --------
        >>> evaluate(col("x").tan(), x=[0.0, float("inf"), None])
        [0.0, nan, None]
        """
        return self._call("tan")

    def cot(self) -> Expr:
        """Cotangent of radians.

        Examples
        --------
        >>> evaluate(col("x").cot(), x=[0.0, None])
        [inf, None]
        """
        return self._call("cot")

    def arcsin(self) -> Expr:
        """Arc sine in radians.

        Examples
        --------
        >>> evaluate(col("x").arcsin(), x=[0.0, 1.5, None])
        [0.0, nan, None]
        """
        return self._call("arcsin")

    def arccos(self) -> Expr:
        """Arc cosine in radians.

        Examples
        --------
        >>> evaluate(col("x").arccos(), x=[1.0, 1.5, None])
        [0.0, nan, None]
        """
        return self._call("arccos")

    def arctan(self) -> Expr:
        """Arc tangent in radians.

        Examples
        --------
        >>> evaluate(col("x").arctan().degrees(), x=[1.0, float("inf"), None])
        [45.0, 90.0, None]
        """
        return self._call("arctan")

    def sinh(self) -> Expr:
        """Hyperbolic sine.

        Examples
        --------
        >>> evaluate(col("x").sinh(), x=[0.0, 1000.0, None])
        [0.0, inf, None]
        """
        return self._call("sinh")

    def cosh(self) -> Expr:
        """Hyperbolic cosine.

        Examples
        --------
        >>> evaluate(col("x").cosh(), x=[0.0, 1000.0, None])
        [1.0, inf, None]
        """
        return self._call("cosh")

    def tanh(self) -> Expr:
        """Hyperbolic tangent.

        Examples
        --------
        >>> evaluate(col("x").tanh(), x=[0.0, 1000.0, None])
        [0.0, 1.0, None]
        """
        return self._call("tanh")

    def arcsinh(self) -> Expr:
        """Inverse hyperbolic sine.

        Examples
        --------
        >>> evaluate(col("x").arcsinh(), x=[0.0, None])
        [0.0, None]
        """
        return self._call("arcsinh")

    def arccosh(self) -> Expr:
        """Inverse hyperbolic cosine.

        Examples
        --------
        >>> evaluate(col("x").arccosh(), x=[1.0, 0.5, None])
        [0.0, nan, None]
        """
        return self._call("arccosh")

    def arctanh(self) -> Expr:
        """Inverse hyperbolic tangent.

        Examples
        --------
        >>> evaluate(col("x").arctanh(), x=[0.0, 1.0, 2.0])
        [0.0, inf, nan]
        """
        return self._call("arctanh")

    def radians(self) -> Expr:
        """Degrees as radians.

        Examples
        --------
        >>> evaluate(col("x").radians(), x=[180.0, None])
        [3.141592653589793, None]
        """
        return self._call("radians")

    def degrees(self) -> Expr:
        """Radians as degrees.

        Examples
        --------
        >>> evaluate(col("x").arctan().degrees(), x=[1.0, None])
        [45.0, None]
        """
        return self._call("degrees")
