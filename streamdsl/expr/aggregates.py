"""Aggregates over the records of a key; part of `Expr`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Union

from streamdsl.errors import TopologyError
from streamdsl.scalars import plain

if TYPE_CHECKING:
    from streamdsl.expr.expression import Expr

__all__ = ["AggregateFunctions"]

#: What tells records with equal ordering values apart.
Ties = Union["Expr", str, Sequence["Expr | str"], None]
#: What stands for a place between two values.
Interpolation = Literal["nearest", "lower", "higher", "midpoint", "linear"]


def _given(what: str, approximate: object) -> bool:
    if not isinstance(approximate, bool):
        raise TopologyError(f"{what}: approximate={approximate!r} is neither True nor False")
    return approximate


class AggregateFunctions:
    """What an expression can be summed up to."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _call(self, op: str, *args: Any, params: tuple[Any, ...] = ()) -> Expr: ...

        def _aggregate(self, kind: str, *, by: Any = None, then_by: Any = None, **params: Any) -> Expr: ...

        def _whole(self, value: Any, name: str, least: int) -> int: ...

    def sum(self) -> Expr:
        """Sum; 0 of nothing.

        Examples
        --------
        >>> evaluate(col("x").sum(), x=[1.5, None])
        [1.5]
        >>> evaluate(col("x").sum().filter(col("x") > 9), x=[1.5, None])
        [0.0]
        """
        return self._aggregate("sum")

    def min(self) -> Expr:
        """Least value.

        Examples
        --------
        >>> evaluate(col("x").min(), x=[2.0, float("nan"), None])
        [2.0]
        """
        return self._aggregate("min")

    def max(self) -> Expr:
        """Greatest value.

        Examples
        --------
        >>> evaluate(col("x").max(), x=[2.0, float("nan"), None])
        [nan]
        """
        return self._aggregate("max")

    def mean(self) -> Expr:
        """Arithmetic mean: `sum() / count()`, bit for bit; of integers from their exact sum.

        Examples
        --------
        >>> evaluate(col("x").mean(), x=[1, 2, None])
        [1.5]
        >>> evaluate(col("x").mean().filter(col("x") > 9), x=[1, 2, None])
        [None]
        """
        return self._aggregate("mean")

    def std(self, ddof: int = 1) -> Expr:
        """Standard deviation (divisor ``n - ddof``), by Welford's recurrence (1962).

        Examples
        --------
        >>> evaluate(col("x").std(), x=[1.0, 3.0, None])
        [1.4142135623730951]
        >>> evaluate(col("x").std(), x=[1.0]), evaluate(col("x").std(ddof=0), x=[1.0])
        ([None], [0.0])
        """
        return self._aggregate("std", ddof=self._whole(ddof, "ddof", 0))

    def var(self, ddof: int = 1) -> Expr:
        """Variance (divisor ``n - ddof``), by Welford's recurrence (1962).

        Examples
        --------
        >>> evaluate(col("x").var(), x=[1.0, 3.0, None])
        [2.0]
        >>> evaluate(col("x").var(), x=[1.0]), evaluate(col("x").var(ddof=0), x=[1.0])
        ([None], [0.0])
        """
        return self._aggregate("var", ddof=self._whole(ddof, "ddof", 0))

    def quantile(self, quantile: float, interpolation: Interpolation = "nearest", *, approximate: bool = False) -> Expr:
        """The value that stands at the part `quantile` (0 to 1) of all values in order, NaN last. Keeps all values.

        Parameters
        ----------
        quantile : float
        interpolation : {"nearest", "lower", "higher", "midpoint", "linear"}
            What stands for a place between two values; in the middle "nearest" takes the higher one.
        approximate : bool
            Keep a t-digest of at most 6 KiB instead of all values. It is exact up to 256 values and interpolates linearly. Beyond,
            the value stands within 1 % of all values from the place asked for, and nearer towards the ends.

        Notes
        -----
        Dunning and Ertl, *Computing Extremely Accurate Quantiles Using t-Digests*, 2019.

        Examples
        --------
        >>> evaluate(col("x").quantile(0.5), x=[1, 2, 9, 10]), evaluate(col("x").quantile(0.5, "linear"), x=[1, 2, 9, 10])
        ([9.0], [5.5])
        >>> evaluate(col("x").quantile(0.99, approximate=True), x=list(range(10_001)))
        [9900.0]
        """
        q = plain(quantile)
        if isinstance(q, bool) or not isinstance(q, (int, float)) or not 0 <= q <= 1:
            raise TopologyError(f"quantile={quantile!r} must be a number from 0 to 1")
        if interpolation not in ("nearest", "lower", "higher", "midpoint", "linear"):
            raise TopologyError(
                f"quantile: interpolation={interpolation!r}", remedy='use "nearest", "lower", "higher", "midpoint" or "linear"'
            )
        if not _given("quantile", approximate):
            return self._aggregate("quantile", q=float(q), interpolation=interpolation)
        if interpolation not in ("nearest", "linear"):
            raise TopologyError(
                f"quantile: interpolation={interpolation!r} beside approximate=True, which interpolates linearly",
                remedy="leave one of them away",
            )
        return self._aggregate("quantile", q=float(q), interpolation="linear", approximate=True)

    def median(self, *, approximate: bool = False) -> Expr:
        """The value in the middle, the mean of the two in the middle of an even number. Keeps all values.

        Parameters
        ----------
        approximate : bool
            As of `quantile`.

        Examples
        --------
        >>> evaluate(col("x").median(), x=[1, 2, 9, None])
        [2.0]
        >>> evaluate(col("x").median(), x=[1, 2])
        [1.5]
        """
        return self.quantile(0.5, "linear", approximate=approximate)

    def product(self) -> Expr:
        """Product; 1 of nothing.

        Examples
        --------
        >>> evaluate(col("x").product(), x=[2, 3, None])
        [6]
        """
        return self._aggregate("product")

    def any(self) -> Expr:
        """Whether one of the values is true; nulls do not count.

        Examples
        --------
        >>> evaluate(col("x").any(), x=[False, None])
        [False]
        """
        return self._call("and", True)._aggregate("max")._call("coalesce", False)

    def all(self) -> Expr:
        """Whether none of the values is false; nulls do not count.

        Examples
        --------
        >>> evaluate(col("x").all(), x=[True, None])
        [True]
        """
        return self._call("and", True)._aggregate("min")._call("coalesce", True)

    def first(self) -> Expr:
        """Value of the record that arrived first.

        Examples
        --------
        >>> evaluate(col("x").first(), x=[None, 2, 3])
        [2]
        """
        return self._aggregate("first")

    def last(self) -> Expr:
        """Value of the record that arrived last.

        Examples
        --------
        >>> evaluate(col("x").last(), x=[2, 3, None])
        [3]
        """
        return self._aggregate("last")

    def to_list(self) -> Expr:
        """All values, by arrival.

        Examples
        --------
        >>> evaluate(col("x").to_list(), x=[3, None, 1])
        [[3, 1]]
        """
        return self._aggregate("to_list")

    def n_unique(self, *, approximate: bool = False) -> Expr:
        """Number of different values. Keeps all of them.

        Parameters
        ----------
        approximate : bool
            Keep a HyperLogLog sketch of at most 4 KiB instead. It is exact up to 256 values; beyond, the standard error is 1.6 %.

        Notes
        -----
        Flajolet et al., *HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm*, 2007.

        Examples
        --------
        >>> evaluate(col("x").n_unique(), x=[1, 1, None, 2])
        [2]
        >>> evaluate(col("x").n_unique(approximate=True), x=list(range(10_000)))
        [10202]
        """
        return self._aggregate("n_unique", approximate=True) if _given("n_unique", approximate) else self._aggregate("n_unique")

    def max_by(self, by: Expr | str, *, then_by: Ties = None) -> Expr:
        """Value of the record whose `by` is greatest.

        Parameters
        ----------
        by : Expr or str
        then_by : Expr or str, or a sequence of them, optional
            Tell records with equal `by` apart: the greatest first one counts, null last, then the second one. Without them, and
            of equal ones, the first to arrive.

        Examples
        --------
        >>> evaluate(col("bidder").max_by("price"), bidder=["Ann", "Bob", "Eve"], price=[7, 9, 9])
        ['Bob']
        >>> evaluate(col("bidder").max_by("price", then_by="bidder"), bidder=["Ann", "Bob", "Eve"], price=[7, 9, 9])
        ['Eve']
        """
        return self._aggregate("max_by", by=by, then_by=then_by)

    def min_by(self, by: Expr | str, *, then_by: Ties = None) -> Expr:
        """Value of the record whose `by` is least, of equal ones the one whose `then_by` is least; see `max_by`.

        Examples
        --------
        >>> evaluate(col("city").min_by("price"), city=["Lima", "Cusco", "Ica"], price=[5, None, 4])
        ['Ica']
        """
        return self._aggregate("min_by", by=by, then_by=then_by)

    def top_k(self, n: int, *, by: Expr | str | None = None, then_by: Ties = None) -> Expr:
        """Values of the `n` records whose `by` (default: the value itself) is greatest, as a list.

        Parameters
        ----------
        n : int
        by : Expr or str, optional
        then_by : Expr or str, or a sequence of them, optional
            Tell records with equal `by` apart: the greatest first one stands first, null last, then the second one. Without them,
            and of equal ones, the first to arrive.

        Examples
        --------
        >>> evaluate(col("x").top_k(2), x=[3, 9, None, 7])
        [[9, 7]]
        >>> evaluate(col("city").top_k(2, by="amount"), city=["Lima", "Ica", "Cusco"], amount=[5, 9, 5])
        [['Ica', 'Lima']]
        """
        return self._aggregate("top_k", by=self if by is None else by, then_by=then_by, n=self._whole(n, "n", 1))

    def lag(self, n: int = 1) -> Expr:
        """Value of the record of this key that came `n` arrivals ago; null at first.

        Examples
        --------
        >>> evaluate(col("x").lag(), x=[1, None, 3])
        [None, 1, None]
        """
        return self._aggregate("lag", n=self._whole(n, "n", 1))
