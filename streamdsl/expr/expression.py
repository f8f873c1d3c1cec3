"""`Expr`: one column, computed; operators and methods make new ones."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Union

from streamdsl.errors import TopologyError
from streamdsl.expr.aggregates import AggregateFunctions
from streamdsl.expr.mappings import LITERALS, MISSING, Missing, mapping_of
from streamdsl.expr.no_value import NoValue, Unfinished
from streamdsl.expr.numbers import NumberFunctions
from streamdsl.expr.words import COLUMN_WORDS, EXPRESSION_INSTEAD, unknown_word
from streamdsl.logical.expression import (
    Aggregation,
    Call,
    ColumnRef,
    Constant,
    Expression,
    Named,
    rewrite,
    text_of,
)
from streamdsl.scalars import plain, whole
from streamdsl.schema import type_of
from streamdsl.windows import Frame

#: Columns that tell equal records apart, in one aggregate.
MOST_TIES: Final = 4

if TYPE_CHECKING:
    from streamdsl.expr.lists import ListFunctions
    from streamdsl.expr.structs import StructFunctions
    from streamdsl.expr.text import StringFunctions
    from streamdsl.expr.time import TimeFunctions

__all__ = ["Expr", "Operand", "call", "column_or_expr", "condition_of", "node_of"]

#: What can stand where an expression is expected.
Operand = Union["Expr", int, float, decimal.Decimal, str, bool, bytes, datetime.datetime, datetime.date, datetime.timedelta, None]
# `Expr.str` hides the builtin inside the class.
Text = str

#: Which bounds of an interval belong to it.
Closed = Literal["both", "left", "right", "none"]


def node_of(value: Any) -> Expression:
    """Return the tree of an operand: an `Expr`'s own, a `Constant` for a Python value or a NumPy scalar."""
    if isinstance(value, Expr):
        return value.node
    value = plain(value)
    if isinstance(value, LITERALS):
        return Constant(value, repr(value))
    if isinstance(value, Unfinished):
        raise TopologyError(f"{type(value).__name__} is not an expression yet", remedy=value.remedy)
    raise TopologyError(f"{value!r} is not an expression", remedy="use col(...), lit(...) or a plain value")


def condition_of(what: str, value: Any) -> Expression:
    """Return the tree of a condition, which must be an expression: of a plain bool nobody knows what was meant.

    Parameters
    ----------
    what : str
        Where the condition stands, for the error.
    value : object
    """
    if isinstance(value, Expr):
        return value.node
    if isinstance(value, Unfinished):
        return node_of(value)
    if isinstance(value, bool):
        raise TopologyError(
            f"{what}: {value!r} is a plain bool, not a condition on the rows",
            remedy="Python computes `is None`, `is not None`, `in` and `not` before any row is seen: write .is_null(), .is_not_null(), "
            f".is_in(...) or ~; write lit({value!r}) if the same for all rows is meant",
        )
    raise TopologyError(f"{what}: {value!r} is not a condition", remedy='write an expression such as col("amount") > 10')


def _compared(op: str, value: Expr, other: Any) -> Expr:
    node = node_of(other)
    if isinstance(node, Constant) and node.value is None:
        raise TopologyError(
            f"{Expr(Call(op, (value.node, node)))!r} is null for every row, never true or false",
            remedy="write .is_null() for `== None`, .is_not_null() for `!= None`",
        )
    return Expr(Call(op, (value.node, node)))


def _joined(op: str, left: Any, right: Any) -> Expr:
    return Expr(Call(op, (_side(op, left), _side(op, right))))


def _side(op: str, value: Any) -> Expression:
    if isinstance(value, (Expr, bool)):
        return condition_of("&" if op == "and" else "|", value)
    if isinstance(plain(value), bool):  # NumPy's was computed; a Python bool is what `is None` gives
        return node_of(value)
    raise TopologyError(
        f"{'&' if op == 'and' else '|'} joins conditions, and {value!r} is not one",
        remedy='write brackets around comparisons: (col("a") > 1) & (col("b") < 2)',
    )


def call(op: str, *args: Any, params: tuple[Any, ...] = ()) -> Expr:
    """Return an operation on operands."""
    return Expr(Call(op, tuple(node_of(arg) for arg in args), params))


def column_or_expr(value: Expr | str) -> Expression:
    """Return the tree of an operand of which a string is the name of a column."""
    return ColumnRef(value) if isinstance(value, str) else node_of(value)


class Expr(NoValue, NumberFunctions, AggregateFunctions):
    """One column, computed. Made by `col`, `lit`, `count` and by operators and methods of other expressions.

    Examples
    --------
    >>> (col("amount") * 2 > 10) & col("city").is_not_null()
    ((col("amount") * 2) > 10) & is_not_null(col("city"))
    >>> evaluate(col("x").is_null(), x=[float("nan"), None]), evaluate(col("s").is_not_null(), s=["", None])
    ([False, True], [True, False])
    >>> evaluate(col("x").count(), x=[1, None, 1]), evaluate(col("x").len(), x=[1, None, 1])
    ([2], [3])

    A name for the column:

    >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 2}]))
    >>> rows.select("x", (col("x") * 2).alias("double")).collect().to_pylist()
    [{'x': 2, 'double': 4}]

    Functions of texts, lists, structs and times have a place of their own:

    >>> evaluate(col("s").str.len_chars(), s=["né", None]), evaluate(col("tags").list.first(), tags=[["a", "b"], []])
    ([2, None], ['a', None])
    >>> evaluate(col("home").struct.field("city"), home=[{"city": "Lima"}, None]), evaluate(col("ms").dt.year(), ms=[-1, 0])
    (['Lima', None], [1969, 1970])
    """

    __slots__ = ("node",)
    node: Expression
    instead = EXPRESSION_INSTEAD

    def __init__(self, node: Expression) -> None:
        object.__setattr__(self, "node", node)

    def __setattr__(self, name: Text, value: object) -> NoReturn:
        raise AttributeError("expressions cannot be changed")

    def __copy__(self) -> Expr:
        return self

    def __deepcopy__(self, memo: object) -> Expr:
        return self

    def __reduce__(self) -> Any:
        return type(self), (self.node,)

    def __repr__(self) -> Text:
        return text_of(self.node)

    @staticmethod
    def _whole(value: Any, name: Text, least: int) -> int:
        return whole(value, name, least)

    def _call(self, op: Text, *args: Any, params: tuple[Any, ...] = ()) -> Expr:
        return call(op, self, *args, params=params)

    def __hash__(self) -> int:
        return hash(self.node)

    def _shown(self) -> Text:
        return f"the expression {self!r}"

    if not TYPE_CHECKING:  # a type checker shall find words that are not there

        def __getattr__(self, name):
            unknown_word(self, "", name, COLUMN_WORDS)

    # Arithmetic ------------------------------------------------------------------------------------------------

    def __add__(self, other: Operand) -> Expr:
        return call("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return call("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return call("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return call("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return call("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return call("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return call("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return call("div", other, self)

    def __floordiv__(self, other: Operand) -> Expr:
        return call("floordiv", self, other)

    def __rfloordiv__(self, other: Operand) -> Expr:
        return call("floordiv", other, self)

    def __mod__(self, other: Operand) -> Expr:
        return call("mod", self, other)

    def __rmod__(self, other: Operand) -> Expr:
        return call("mod", other, self)

    def __pow__(self, other: Operand) -> Expr:
        return call("pow", self, other)

    def __rpow__(self, other: Operand) -> Expr:
        return call("pow", other, self)

    def __neg__(self) -> Expr:
        return call("neg", self)

    def __pos__(self) -> Expr:
        return self

    def __abs__(self) -> Expr:
        return call("abs", self)

    # Comparison and logic --------------------------------------------------------------------------------------

    def __eq__(self, other: Operand) -> Expr:  # type: ignore[override]
        return _compared("eq", self, other)

    def __ne__(self, other: Operand) -> Expr:  # type: ignore[override]
        return _compared("ne", self, other)

    def __lt__(self, other: Operand) -> Expr:
        return _compared("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return _compared("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return _compared("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return _compared("ge", self, other)

    def __and__(self, other: Operand) -> Expr:
        return _joined("and", self, other)

    def __rand__(self, other: Operand) -> Expr:
        return _joined("and", other, self)

    def __or__(self, other: Operand) -> Expr:
        return _joined("or", self, other)

    def __ror__(self, other: Operand) -> Expr:
        return _joined("or", other, self)

    def __invert__(self) -> Expr:
        return call("not", self)

    def is_between(self, lower_bound: Operand, upper_bound: Operand, closed: Closed = "both") -> Expr:
        """Whether the value lies between the bounds; `closed` says which bounds count: both, left, right or none.

        Examples
        --------
        >>> evaluate(col("x").is_between(1, 3, closed="left"), x=[1, 3, None])
        [True, False, None]
        """
        if closed not in ("both", "left", "right", "none"):
            raise TopologyError(f"is_between: closed={closed!r}", remedy='use "both", "left", "right" or "none"')
        above = self >= lower_bound if closed in ("both", "left") else self > lower_bound
        return above & (self <= upper_bound if closed in ("both", "right") else self < upper_bound)

    def is_in(self, values: Iterable[Any]) -> Expr:
        """Whether the value is one of `values` (plain values; null gives null).

        Examples
        --------
        >>> evaluate(col("x").is_in([1, 2]), x=[1, 3, None])
        [True, False, None]
        """
        if isinstance(values, (str, bytes, Expr)):
            raise TopologyError(f"is_in needs a list of values, not {values!r}")
        listed = tuple(map(plain, values))
        for value in listed:
            if value is None or not isinstance(value, LITERALS):
                raise TopologyError(f"is_in cannot hold {value!r}", remedy="use plain values, and is_null() for None")
        return call("is_in", self, params=(listed,))

    def is_null(self) -> Expr:
        """Whether there is no value."""
        return call("is_null", self)

    def is_not_null(self) -> Expr:
        """Whether there is a value."""
        return call("is_not_null", self)

    def clip(self, lower_bound: Operand = None, upper_bound: Operand = None) -> Expr:
        """The value, or the bound that it is beyond; a bound that is null is none, NaN stays NaN.

        Examples
        --------
        >>> evaluate(col("x").clip(0, 10), x=[-5, 50, None])
        [0, 10, None]
        >>> evaluate(col("x").clip(upper_bound=col("most")), x=[5, 50], most=[3, None])
        [3, 50]
        """
        bounds = [(test, bound) for test, bound in (("lt", lower_bound), ("gt", upper_bound)) if bound is not None]
        return call("clip", self, *(bound for _, bound in bounds), params=tuple(test for test, _ in bounds)) if bounds else self

    def fill_null(self, value: Operand) -> Expr:
        """The value, or `value` where there is none.

        Examples
        --------
        >>> evaluate(col("x").fill_null(0), x=[float("nan"), None])
        [nan, 0.0]
        """
        return call("coalesce", self, value)

    # Values ----------------------------------------------------------------------------------------------------

    def abs(self) -> Expr:
        """The value without its sign.

        Examples
        --------
        >>> evaluate(col("x").abs(), x=[-2, None])
        [2, None]
        """
        return call("abs", self)

    def cast(self, type: Any, *, strict: bool = True) -> Expr:
        """The value as another type; what does not fit is an error of the record, or null unless `strict`.

        Examples
        --------
        >>> evaluate(col("x").cast(int), x=[2.9, -2.9, None])
        [2, -2, None]
        >>> evaluate(col("s").cast(int, strict=False), s=[" 7 ", "7.5"])
        [7, None]
        """
        return call("cast", self, params=(type_of(type), strict))

    def replace(self, old: Any, new: Any = MISSING) -> Expr:
        """The value that stands for the value; values that are not named stay as they are.

        Parameters
        ----------
        old : mapping, list or plain value
            A mapping of old to new values, or the old values.
        new : list or plain value
            The new values, one for each old one or one for all; without it `old` is a mapping.

        Examples
        --------
        >>> evaluate(col("s").replace({"GB": "UK", None: "?"}), s=["GB", "FR", None])
        ['UK', 'FR', '?']
        """
        return self._replaced("replace", mapping_of("replace", old, new), self)

    def replace_strict(self, old: Any, new: Any = MISSING, *, default: Operand | Missing = MISSING) -> Expr:
        """The value that stands for the value; others become `default`, or are an error of the record without one.

        Parameters
        ----------
        old, new
            As for `replace`; the new values may have another type.
        default : expression or plain value, optional
            For values that are not named, null among them. Without it null stays null.

        Examples
        --------
        >>> evaluate(col("s").replace_strict({"low": 1, "high": 9}, default=0), s=["low", "other", None])
        [1, 0, 0]
        >>> evaluate(col("s").replace_strict({"low": 1, "high": 9}), s=["low", None])
        [1, None]
        """
        return self._replaced("replace_strict", mapping_of("replace_strict", old, new), default)

    def _replaced(self, op: Text, mapping: dict[Any, Any], default: Any) -> Expr:
        of_null = Expr(node_of(mapping.pop(None))) if None in mapping else None
        if mapping:
            others = () if isinstance(default, Missing) else (default,)
            found = call(op if not others else "replace", self, *others, params=(tuple(mapping), tuple(mapping.values())))
        else:
            found = Expr(node_of(self if isinstance(default, Missing) else default))
        return found if of_null is None else Expr(Call("when", (self.is_null().node, of_null.node, found.node)))

    def alias(self, name: Text) -> Expr:
        """The expression with the name of its column."""
        if not isinstance(name, str) or not name:
            raise TopologyError(f"alias needs a name, not {name!r}")
        node = self.node.argument if isinstance(self.node, Named) else self.node
        return Expr(Named(node, name))

    @property
    def str(self) -> StringFunctions:
        """Functions of strings."""
        from streamdsl.expr.text import StringFunctions

        return StringFunctions(self)

    @property
    def list(self) -> ListFunctions:
        """Functions of lists."""
        from streamdsl.expr.lists import ListFunctions

        return ListFunctions(self)

    @property
    def struct(self) -> StructFunctions:
        """Functions of structs."""
        from streamdsl.expr.structs import StructFunctions

        return StructFunctions(self)

    @property
    def dt(self) -> TimeFunctions:
        """Functions of timestamps, dates and integers of milliseconds (UTC)."""
        from streamdsl.expr.time import TimeFunctions

        return TimeFunctions(self)

    # Aggregates ------------------------------------------------------------------------------------------------

    def _aggregate(self, kind: Text, *, by: Expr | Text | None = None, then_by: Any = None, **params: Any) -> Expr:
        ties = () if then_by is None else (then_by,) if isinstance(then_by, (Text, Expr)) else tuple(then_by)
        if len(ties) > MOST_TIES:
            raise TopologyError(f"{kind}: then_by= names {len(ties)} columns, and {MOST_TIES} at most tell equal ones apart")
        first = None if by is None else column_or_expr(by)
        return Expr(Aggregation(kind, self.node, first, tuple(map(column_or_expr, ties)), params=tuple(params.items())))

    def count(self) -> Expr:
        """Number of records with a value."""
        return Expr(Aggregation("count", where=Call("is_not_null", (self.node,))))

    def len(self) -> Expr:
        """Number of records, with or without a value."""
        return Expr(Aggregation("count"))

    def filter(self, condition: Expr) -> Expr:
        """The aggregate over those records for which `condition` is true.

        Examples
        --------
        >>> evaluate(col("x").sum().filter(col("paid")), x=[1, 2, 4], paid=[True, None, True])
        [5]
        """
        node = self.node
        if isinstance(node, Named):
            return Expr(node.argument).filter(condition).alias(node.name)
        if not isinstance(node, Aggregation):
            raise TopologyError(f".filter() belongs to an aggregate, not to {self!r}")
        if node.kind == "lag":
            raise TopologyError("lag() cannot be filtered", remedy="filter the stream first")
        wanted = condition_of("filter", condition)
        return Expr(replace(node, where=wanted if node.where is None else Call("and", (node.where, wanted))))

    def over(self, frame: Frame) -> Expr:
        """The aggregate over the records that `frame` names; one row in, one row out.

        Examples
        --------
        >>> evaluate(col("x").sum().over(expanding()), x=[1, 2, None, 4])
        [1, 3, 3, 7]
        >>> evaluate(col("x") - col("x").mean().over(rolling("2ms", exclude_current=True)), x=[1.0, 2.0, 4.0])
        [None, 1.0, 2.0]
        """
        if not isinstance(frame, Frame):
            raise TopologyError(
                f".over() needs rolling(...) or expanding(), not {frame}",
                remedy="windows with one row per window go to .window(...)",
            )
        found = False

        def framed(node: Expression) -> Expression | None:
            nonlocal found
            if not isinstance(node, Aggregation):
                return None
            found = True
            if node.kind == "lag":
                raise TopologyError("lag() looks at arrivals and has no frame", remedy="write lag() without .over()")
            return node if node.frame is not None else replace(node, frame=frame)

        result = rewrite(self.node, framed)
        if not found:
            raise TopologyError(f".over() belongs to an aggregate, not to {self!r}")
        return Expr(result)
