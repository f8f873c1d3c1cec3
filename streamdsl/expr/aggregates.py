"""Aggregates over the records of a key; part of `Expr`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from streamdsl.errors import TopologyError
from streamdsl.scalars import plain

if TYPE_CHECKING:
    from streamdsl.expr.expression import Expr

__all__ = ["AggregateFunctions"]

#: What stands for a place between two values.
Interpolation = Literal["nearest", "lower", "higher", "midpoint", "linear"]


class AggregateFunctions:
    """What an expression can be summed up to."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _call(self, op: str, *args: Any, params: tuple[Any, ...] = ()) -> Expr: ...

        def _aggregate(self, kind: str, *, by: Any = None, **params: Any) -> Expr: ...

        def _whole(self, value: Any, name: str, least: int) -> int: ...

    def sum(self) -> Expr:
        """Sum; 0 of nothing."""
        return self._aggregate("sum")

    def min(self) -> Expr:
        """Least value."""
        return self._aggregate("min")

    def max(self) -> Expr:
        """Greatest value."""
        return self._aggregate("max")

    def mean(self) -> Expr:
        """Arithmetic mean: `sum() / count()`, bit for bit; of integers from their exact sum."""
        return self._aggregate("mean")

    def std(self, ddof: int = 1) -> Expr:
        """Standard deviation (divisor ``n - ddof``)."""
        return self._aggregate("std", ddof=self._whole(ddof, "ddof", 0))

    def var(self, ddof: int = 1) -> Expr:
        """Variance (divisor ``n - ddof``)."""
        return self._aggregate("var", ddof=self._whole(ddof, "ddof", 0))

    def quantile(self, quantile: float, interpolation: Interpolation = "nearest") -> Expr:
        """The value that stands at the part `quantile` (0 to 1) of all values in order, NaN last. Keeps all values.

        Parameters
        ----------
        quantile : float
        interpolation : {"nearest", "lower", "higher", "midpoint", "linear"}
            What stands for a place between two values; in the middle "nearest" takes the higher one.
        """
        q = plain(quantile)
        if isinstance(q, bool) or not isinstance(q, (int, float)) or not 0 <= q <= 1:
            raise TopologyError(f"quantile={quantile!r} must be a number from 0 to 1")
        if interpolation not in ("nearest", "lower", "higher", "midpoint", "linear"):
            raise TopologyError(
                f"quantile: interpolation={interpolation!r}", remedy='use "nearest", "lower", "higher", "midpoint" or "linear"'
            )
        return self._aggregate("quantile", q=float(q), interpolation=interpolation)

    def median(self) -> Expr:
        """The value in the middle, the mean of the two in the middle of an even number. Keeps all values."""
        return self.quantile(0.5, "linear")

    def product(self) -> Expr:
        """Product; 1 of nothing."""
        return self._aggregate("product")

    def any(self) -> Expr:
        """Whether one of the values is true; nulls do not count."""
        return self._call("and", True)._aggregate("max")._call("coalesce", False)

    def all(self) -> Expr:
        """Whether none of the values is false; nulls do not count."""
        return self._call("and", True)._aggregate("min")._call("coalesce", True)

    def first(self) -> Expr:
        """Value of the record that arrived first."""
        return self._aggregate("first")

    def last(self) -> Expr:
        """Value of the record that arrived last."""
        return self._aggregate("last")

    def to_list(self) -> Expr:
        """All values, by arrival."""
        return self._aggregate("to_list")

    def n_unique(self) -> Expr:
        """Number of different values."""
        return self._aggregate("n_unique")

    def max_by(self, by: Expr | str) -> Expr:
        """Value of the record whose `by` is greatest."""
        return self._aggregate("max_by", by=by)

    def min_by(self, by: Expr | str) -> Expr:
        """Value of the record whose `by` is least."""
        return self._aggregate("min_by", by=by)

    def top_k(self, n: int, *, by: Expr | str | None = None) -> Expr:
        """Values of the `n` records whose `by` (default: the value itself) is greatest, as a list."""
        return self._aggregate("top_k", by=self if by is None else by, n=self._whole(n, "n", 1))

    def lag(self, n: int = 1) -> Expr:
        """Value of the record of this key that came `n` arrivals ago; null at first."""
        return self._aggregate("lag", n=self._whole(n, "n", 1))
