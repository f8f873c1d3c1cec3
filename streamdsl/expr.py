"""Expressions: what is computed from the columns of a row, and aggregates over the records of a key.

An `Expr` is a frozen value; nothing is computed before the topology runs.
"""

from __future__ import annotations

import datetime
import decimal
import re
import string as _string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, Union

import pyarrow as pa

from streamdsl.errors import TopologyError
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
from streamdsl.schema import type_of
from streamdsl.windows import Duration, Frame, parse_duration

__all__ = [
    "Aggregate",
    "Expr",
    "When",
    "coalesce",
    "col",
    "concat",
    "count",
    "event_time",
    "format",
    "greatest",
    "haversine_km",
    "least",
    "lit",
    "when",
]

#: What can stand where an expression is expected.
Operand = Union["Expr", int, float, str, bool, bytes, datetime.datetime, datetime.date, datetime.timedelta, None]
# `Expr.str` hides the builtin inside the class.
Text = str

_LITERALS: Final = (bool, int, float, str, bytes, datetime.datetime, datetime.date, datetime.timedelta, type(None))
EARTH_RADIUS_KM: Final = 6371.0


def node_of(value: Any) -> Expression:
    """Return the tree of an operand: an `Expr`'s own, a `Constant` for a Python value."""
    if isinstance(value, Expr):
        return value.node
    if isinstance(value, _LITERALS):
        return Constant(value, repr(value))
    if isinstance(value, decimal.Decimal):
        raise TopologyError(f"{value!r} cannot be computed with", remedy="decimals pass through; use a float")
    if isinstance(value, When):
        raise TopologyError("when(...).then(...) needs .otherwise(...) to be an expression")
    raise TopologyError(f"{value!r} is not an expression", remedy="use col(...), lit(...) or a plain value")


def _call(op: str, *args: Any, params: tuple[Any, ...] = ()) -> Expr:
    return Expr(Call(op, tuple(node_of(arg) for arg in args), params))


def _column_or_expr(value: Expr | str) -> Expression:
    return ColumnRef(value) if isinstance(value, str) else node_of(value)


class Expr:
    """One column, computed. Made by `col`, `lit`, `count` and by operators and methods of other expressions.

    Examples
    --------
    >>> (col("amount") * 2 > 10) & col("city").is_not_null()
    (col("amount") * 2) > 10 & not_null(col("city"))
    """

    __slots__ = ("node",)
    node: Expression

    def __init__(self, node: Expression) -> None:
        object.__setattr__(self, "node", node)

    def __setattr__(self, name: Text, value: object) -> NoReturn:
        raise AttributeError("expressions cannot be changed")

    def __repr__(self) -> Text:
        return text_of(self.node)

    def __hash__(self) -> int:
        return hash(self.node)

    def __bool__(self) -> NoReturn:
        raise TopologyError(
            f"the expression {self!r} has no truth value before it runs",
            remedy="use & for and, | for or, ~ for not (with brackets around comparisons), between() for a < b < c",
        )

    def __iter__(self) -> NoReturn:
        raise TopologyError(f"the expression {self!r} cannot be iterated over")

    # Arithmetic ------------------------------------------------------------------------------------------------

    def __add__(self, other: Operand) -> Expr:
        return _call("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return _call("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return _call("sub", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return _call("sub", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return _call("mul", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return _call("mul", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return _call("div", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return _call("div", other, self)

    def __floordiv__(self, other: Operand) -> Expr:
        return _call("floordiv", self, other)

    def __rfloordiv__(self, other: Operand) -> Expr:
        return _call("floordiv", other, self)

    def __mod__(self, other: Operand) -> Expr:
        return _call("mod", self, other)

    def __rmod__(self, other: Operand) -> Expr:
        return _call("mod", other, self)

    def __pow__(self, other: Operand) -> Expr:
        return _call("pow", self, other)

    def __rpow__(self, other: Operand) -> Expr:
        return _call("pow", other, self)

    def __neg__(self) -> Expr:
        return _call("neg", self)

    def __pos__(self) -> Expr:
        return self

    def __abs__(self) -> Expr:
        return _call("abs", self)

    # Comparison and logic --------------------------------------------------------------------------------------

    def __eq__(self, other: Operand) -> Expr:  # type: ignore[override]
        return _call("eq", self, other)

    def __ne__(self, other: Operand) -> Expr:  # type: ignore[override]
        return _call("ne", self, other)

    def __lt__(self, other: Operand) -> Expr:
        return _call("lt", self, other)

    def __le__(self, other: Operand) -> Expr:
        return _call("le", self, other)

    def __gt__(self, other: Operand) -> Expr:
        return _call("gt", self, other)

    def __ge__(self, other: Operand) -> Expr:
        return _call("ge", self, other)

    def __and__(self, other: Operand) -> Expr:
        return _call("and", self, other)

    def __rand__(self, other: Operand) -> Expr:
        return _call("and", other, self)

    def __or__(self, other: Operand) -> Expr:
        return _call("or", self, other)

    def __ror__(self, other: Operand) -> Expr:
        return _call("or", other, self)

    def __invert__(self) -> Expr:
        return _call("not", self)

    def between(self, low: Operand, high: Operand) -> Expr:
        """Whether ``low <= value <= high``."""
        return (self >= low) & (self <= high)

    def is_in(self, values: Iterable[Any]) -> Expr:
        """Whether the value is one of `values` (plain values; null gives null)."""
        if isinstance(values, (str, bytes, Expr)):
            raise TopologyError(f"is_in needs a list of values, not {values!r}")
        listed = tuple(values)
        for value in listed:
            if value is None or not isinstance(value, _LITERALS):
                raise TopologyError(f"is_in cannot hold {value!r}", remedy="use plain values, and is_null() for None")
        return _call("is_in", self, params=(listed,))

    def is_null(self) -> Expr:
        """Whether there is no value."""
        return _call("is_null", self)

    def not_null(self) -> Expr:
        """Whether there is a value."""
        return _call("not_null", self)

    def fill_null(self, value: Operand) -> Expr:
        """The value, or `value` where there is none."""
        return _call("coalesce", self, value)

    def is_nan(self) -> Expr:
        """Whether the number is NaN."""
        return _call("is_nan", self)

    def is_finite(self) -> Expr:
        """Whether the number is neither NaN nor infinite."""
        return _call("is_finite", self)

    # Values ----------------------------------------------------------------------------------------------------

    def abs(self) -> Expr:
        """The value without its sign."""
        return _call("abs", self)

    def cast(self, type: Any, *, strict: bool = True) -> Expr:
        """The value as another type; what does not fit is an error of the record, or null unless `strict`."""
        return _call("cast", self, params=(type_of(type), strict))

    def replace(self, mapping: Mapping[Any, Any], *, default: Operand = None) -> Expr:
        """The mapped value; values not in the mapping become `default`."""
        if not mapping:
            raise TopologyError("replace needs a mapping with at least one value")
        for value in (*mapping.keys(), *mapping.values()):
            if not isinstance(value, _LITERALS):
                raise TopologyError(f"replace cannot hold {value!r}", remedy="use plain values")
        if None in mapping:
            raise TopologyError("replace cannot map None", remedy="use fill_null() first")
        return _call("replace", self, default, params=(tuple(mapping), tuple(mapping.values())))

    def round(self, digits: int = 0) -> Expr:
        """The number rounded to `digits` decimals, halves to even."""
        return _call("round", self, params=(digits,))

    def floor(self) -> Expr:
        """The greatest whole number not above."""
        return _call("floor", self)

    def ceil(self) -> Expr:
        """The least whole number not below."""
        return _call("ceil", self)

    def sign(self) -> Expr:
        """-1, 0 or 1."""
        return _call("sign", self)

    def sqrt(self) -> Expr:
        """Square root; NaN for negative numbers."""
        return _call("sqrt", self)

    def exp(self) -> Expr:
        """e to the power of the value."""
        return _call("exp", self)

    def log(self) -> Expr:
        """Natural logarithm."""
        return _call("log", self)

    def log10(self) -> Expr:
        """Logarithm to base 10."""
        return _call("log10", self)

    def sin(self) -> Expr:
        """Sine of radians."""
        return _call("sin", self)

    def cos(self) -> Expr:
        """Cosine of radians."""
        return _call("cos", self)

    def tan(self) -> Expr:
        """Tangent of radians."""
        return _call("tan", self)

    def asin(self) -> Expr:
        """Arc sine in radians."""
        return _call("asin", self)

    def acos(self) -> Expr:
        """Arc cosine in radians."""
        return _call("acos", self)

    def atan(self) -> Expr:
        """Arc tangent in radians."""
        return _call("atan", self)

    def atan2(self, x: Operand) -> Expr:
        """Angle of the point (x, value) in radians."""
        return _call("atan2", self, x)

    def radians(self) -> Expr:
        """Degrees as radians."""
        return _call("radians", self)

    def alias(self, name: Text) -> Expr:
        """The expression with the name of its column."""
        if not isinstance(name, str) or not name:
            raise TopologyError(f"alias needs a name, not {name!r}")
        node = self.node.argument if isinstance(self.node, Named) else self.node
        return Expr(Named(node, name))

    @property
    def str(self) -> StringFunctions:
        """Functions of strings."""
        return StringFunctions(self)

    @property
    def dt(self) -> TimeFunctions:
        """Functions of timestamps, dates and integers of milliseconds (UTC)."""
        return TimeFunctions(self)

    # Aggregates ------------------------------------------------------------------------------------------------

    def _aggregate(self, kind: Text, *, by: Expr | Text | None = None, **params: Any) -> Expr:
        order = None if by is None else _column_or_expr(by)
        return Expr(Aggregation(kind, self.node, order, params=tuple(params.items())))

    def count(self) -> Expr:
        """Number of records with a value."""
        return Expr(Aggregation("count", where=Call("not_null", (self.node,))))

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
        """Arithmetic mean."""
        return self._aggregate("mean")

    def std(self, *, ddof: int = 0) -> Expr:
        """Standard deviation (divisor ``n - ddof``)."""
        return self._aggregate("std", ddof=_whole(ddof, "ddof", 0))

    def var(self, *, ddof: int = 0) -> Expr:
        """Variance (divisor ``n - ddof``)."""
        return self._aggregate("var", ddof=_whole(ddof, "ddof", 0))

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

    def max_by(self, by: Expr | Text) -> Expr:
        """Value of the record whose `by` is greatest."""
        return self._aggregate("max_by", by=by)

    def min_by(self, by: Expr | Text) -> Expr:
        """Value of the record whose `by` is least."""
        return self._aggregate("min_by", by=by)

    def top_k(self, n: int, *, by: Expr | Text | None = None) -> Expr:
        """Values of the `n` records whose `by` (default: the value itself) is greatest, as a list."""
        return self._aggregate("top_k", by=self if by is None else by, n=_whole(n, "n", 1))

    def lag(self, n: int = 1) -> Expr:
        """Value of the record of this key that came `n` arrivals ago; null at first."""
        return self._aggregate("lag", n=_whole(n, "n", 1))

    def filter(self, condition: Operand) -> Expr:
        """The aggregate over those records for which `condition` is true."""
        node = self.node
        if not isinstance(node, Aggregation):
            raise TopologyError(f".filter() belongs to an aggregate, not to {self!r}")
        if node.kind == "lag":
            raise TopologyError("lag() cannot be filtered", remedy="filter the stream first")
        wanted = node_of(condition)
        return Expr(replace(node, where=wanted if node.where is None else Call("and", (node.where, wanted))))

    def over(self, frame: Frame) -> Expr:
        """The aggregate over the records that `frame` names; one row in, one row out."""
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


def _whole(value: int, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TopologyError(f"{name}={value!r} must be a whole number of at least {least}")
    return value


@dataclass(frozen=True, slots=True)
class StringFunctions:
    """Functions of strings: ``col("city").str.lower()``. Lengths and offsets count characters."""

    expr: Expr

    def lower(self) -> Expr:
        """In small letters."""
        return _call("str_lower", self.expr)

    def upper(self) -> Expr:
        """In capital letters."""
        return _call("str_upper", self.expr)

    def strip(self) -> Expr:
        """Without white space at both ends."""
        return _call("str_strip", self.expr)

    def length(self) -> Expr:
        """Number of characters."""
        return _call("str_length", self.expr)

    def starts_with(self, prefix: Operand) -> Expr:
        """Whether the string begins with `prefix`."""
        return _call("str_starts_with", self.expr, prefix)

    def ends_with(self, suffix: Operand) -> Expr:
        """Whether the string ends with `suffix`."""
        return _call("str_ends_with", self.expr, suffix)

    def contains(self, part: Operand) -> Expr:
        """Whether `part` (plain text) occurs in the string."""
        return _call("str_contains", self.expr, part)

    def slice(self, offset: int, length: int | None = None) -> Expr:
        """`length` characters from `offset` on (negative: from the end); None is to the end."""
        return _call("str_slice", self.expr, params=(offset, length))

    def replace(self, old: str, new: str) -> Expr:
        """With every `old` (plain text) replaced by `new`."""
        if not old:
            raise TopologyError("str.replace needs a text to look for")
        return _call("str_replace", self.expr, params=(old, new))

    def split_part(self, separator: str, index: int) -> Expr:
        """Part number `index` (from 0) between separators; null if there are fewer."""
        if not separator:
            raise TopologyError("str.split_part needs a separator")
        return _call("str_split_part", self.expr, params=(separator, index))

    def extract(self, regex: str, group: int = 1) -> Expr:
        """What `group` of the first match holds; null without a match."""
        try:
            groups = re.compile(regex).groups
        except re.error as error:
            raise TopologyError(f"str.extract: {regex!r} is not a regular expression: {error}") from None
        if not 0 <= group <= groups:
            raise TopologyError(f"str.extract: {regex!r} has {groups} groups, not {group}", remedy="group=0 is all of it")
        return _call("str_extract", self.expr, params=(regex, group))


@dataclass(frozen=True, slots=True)
class TimeFunctions:
    """Functions of time in UTC: ``col("event_time").dt.hour()``; integers are milliseconds since 1970."""

    expr: Expr

    def year(self) -> Expr:
        """Year."""
        return _call("dt_year", self.expr)

    def month(self) -> Expr:
        """Month, 1 to 12."""
        return _call("dt_month", self.expr)

    def day(self) -> Expr:
        """Day of the month, 1 to 31."""
        return _call("dt_day", self.expr)

    def hour(self) -> Expr:
        """Hour, 0 to 23."""
        return _call("dt_hour", self.expr)

    def minute(self) -> Expr:
        """Minute, 0 to 59."""
        return _call("dt_minute", self.expr)

    def second(self) -> Expr:
        """Second, 0 to 59."""
        return _call("dt_second", self.expr)

    def weekday(self) -> Expr:
        """Day of the week, 0 = Monday."""
        return _call("dt_weekday", self.expr)

    def truncate(self, step: Duration) -> Expr:
        """The last multiple of `step` since 1970 that is not later."""
        ms = parse_duration(step, "truncate")
        if ms == 0:
            raise TopologyError("dt.truncate needs a step longer than 0")
        return _call("dt_truncate", self.expr, params=(ms,))


def col(name: str) -> Expr:
    """Return the column `name`."""
    if not isinstance(name, str) or not name:
        raise TopologyError(f"col needs the name of a column, not {name!r}")
    return Expr(ColumnRef(name))


def lit(value: Operand) -> Expr:
    """Return a constant."""
    return Expr(node_of(value))


def event_time() -> Expr:
    """Return the event time of the record."""
    return _call("time")


def count() -> Expr:
    """Return the number of records."""
    return Expr(Aggregation("count"))


def coalesce(*values: Operand) -> Expr:
    """Return the first value that is not null."""
    return _several("coalesce", values)


def concat(*values: Operand) -> Expr:
    """Return the texts one after another; null if one is null."""
    return _several("concat", values)


def least(*values: Operand) -> Expr:
    """Return the least of the values that are not null."""
    return _several("least", values)


def greatest(*values: Operand) -> Expr:
    """Return the greatest of the values that are not null."""
    return _several("greatest", values)


def _several(op: str, values: tuple[Operand, ...]) -> Expr:
    if not values:
        raise TopologyError(f"{op} needs at least one value")
    return _call(op, *values)


@dataclass(frozen=True, slots=True)
class When:
    """A choice without its end: go on with `then`, `when` or `otherwise`."""

    parts: tuple[Expression, ...]

    def then(self, value: Operand) -> When:
        """Give the value for the last condition."""
        if len(self.parts) % 2 == 0:
            raise TopologyError("then() follows when()")
        return When((*self.parts, node_of(value)))

    def when(self, condition: Operand) -> When:
        """Add a condition for the rows that are left."""
        if len(self.parts) % 2 == 1:
            raise TopologyError("when(...) needs .then(...) before the next .when(...)")
        return When((*self.parts, node_of(condition)))

    def otherwise(self, value: Operand) -> Expr:
        """Give the value for all other rows."""
        if len(self.parts) % 2 == 1:
            raise TopologyError("when(...) needs .then(...) before .otherwise(...)")
        return Expr(Call("when", (*self.parts, node_of(value))))


def when(condition: Operand) -> When:
    """Begin a choice: ``when(a).then(x).when(b).then(y).otherwise(z)``."""
    return When((node_of(condition),))


_SPEC: Final = re.compile(r"(?:,|0?\d*)?(?:\.\d+)?[dfegs%]?", re.ASCII)


def format(template: str, *values: Operand) -> Expr:
    """Return a text made of values; null if one is null.

    Parameters
    ----------
    template : str
        ``"{} of {:.2f}"``: one ``{}`` for each value, ``{{`` and ``}}`` for brackets.
    *values : Expr or plain value

    Examples
    --------
    >>> format("{} of {:.2f}", col("n"), col("amount"))
    format(col("n"), col("amount"), ('', ' of ', ''), ('', '.2f'))
    """
    pieces: list[str] = [""]
    specs: list[str] = []
    try:
        parsed = list(_string.Formatter().parse(template))
    except ValueError as error:
        raise TopologyError(f"format: {template!r} cannot be read: {error}") from None
    for text, name, spec, conversion in parsed:
        pieces[-1] += text
        if name is None:
            continue
        if name or conversion:
            raise TopologyError(f"format: {template!r} may only hold {{}} and {{:spec}}", remedy="values go by position")
        if not _SPEC.fullmatch(spec or ""):
            raise TopologyError(f"format: {spec!r} is not supported", remedy="use a width, a comma, .2f, d, e, g or %")
        specs.append(spec or "")
        pieces.append("")
    if len(specs) != len(values):
        raise TopologyError(f"format: {template!r} has {len(specs)} places for {len(values)} values")
    return _call("format", *values, params=(tuple(pieces), tuple(specs)))


def haversine_km(lat1: Operand, lon1: Operand, lat2: Operand, lon2: Operand) -> Expr:
    """Return the great-circle distance in km of two points in degrees, on a sphere of 6371.0 km."""
    a_lat, a_lon, b_lat, b_lon = (Expr(node_of(value)).cast(float) for value in (lat1, lon1, lat2, lon2))
    dp, dl = (b_lat - a_lat).radians(), (b_lon - a_lon).radians()
    h = (dp / 2).sin() ** 2 + a_lat.radians().cos() * b_lat.radians().cos() * (dl / 2).sin() ** 2
    return 2 * EARTH_RADIUS_KM * h.sqrt().asin()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate of one's own, in Python: call it with the column it reads.

    Parameters
    ----------
    init : callable
        Returns the empty state.
    add : callable
        ``add(state, value)`` returns the state with one value more.
    merge : callable, optional
        ``merge(a, b)`` unites two states.
    type : type
        Type of the column; the state itself is the value.

    Examples
    --------
    >>> longest = Aggregate(lambda: "", lambda s, v: max(s, v, key=len), type=str)
    >>> longest(col("city"))
    col("city").custom()
    """

    init: Callable[[], Any]
    add: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any] | None = None
    type: Any = None

    def __post_init__(self) -> None:
        if not callable(self.init) or not callable(self.add) or not (self.merge is None or callable(self.merge)):
            raise TopologyError("Aggregate needs functions: init(), add(state, value) and merge(a, b)")
        if self.type is None:
            raise TopologyError("Aggregate needs type=, the type of its column")
        type_of(self.type)

    @property
    def result_type(self) -> pa.DataType:
        """Logical type of the column."""
        return type_of(self.type)

    def __call__(self, value: Expr | str) -> Expr:
        """Return the aggregate over a column or expression."""
        return Expr(Aggregation("custom", _column_or_expr(value), custom=self))
