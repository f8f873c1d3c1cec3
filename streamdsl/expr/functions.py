"""Where expressions begin: columns, constants, choices, texts."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from typing import ClassVar, Final

from streamdsl.errors import TopologyError
from streamdsl.expr.expression import Expr, Operand, call, condition_of, node_of
from streamdsl.expr.no_value import Unfinished
from streamdsl.logical.expression import Aggregation, Call, ColumnRef, Constant, Expression

__all__ = [
    "Then",
    "When",
    "arctan2",
    "coalesce",
    "col",
    "concat_str",
    "count",
    "event_time",
    "format",
    "greatest",
    "haversine_km",
    "least",
    "lit",
    "row",
    "when",
]

EARTH_RADIUS_KM: Final = 6371.0


def col(name: str) -> Expr:
    """Return the column `name`.

    Examples
    --------
    >>> evaluate(col("price") * col("n"), price=[2.5, None], n=[2, 3])
    [5.0, None]
    """
    if not isinstance(name, str) or not name:
        raise TopologyError(f"col needs the name of a column, not {name!r}")
    return Expr(ColumnRef(name))


def lit(value: Operand) -> Expr:
    """Return a constant.

    Examples
    --------
    >>> evaluate(lit("n: ") + col("n").cast(str), n=[1, None])
    ['n: 1', None]
    """
    return Expr(node_of(value))


def event_time() -> Expr:
    """Return the event time of the record.

    Examples
    --------
    >>> visits = Topology("t").stream(memory("visits", rows=[{"at": "2026-07-01T12:00:00+02:00"}]), timestamp="at")
    >>> visits.select(event_time().dt.to_string().alias("time")).collect().to_pylist()
    [{'time': '2026-07-01 10:00:00.000+00:00'}]
    """
    return call("time")


def row() -> Expr:
    """Return the whole record, as a struct of its columns.

    Examples
    --------
    >>> evaluate(row().max_by("amount"), city=["Lima", "Ica"], amount=[5, 9])
    [{'city': 'Ica', 'amount': 9}]
    """
    return call("row")


def count() -> Expr:
    """Return the number of records.

    Examples
    --------
    >>> evaluate(count(), x=[1, None, 1])
    [3]
    >>> evaluate(count().filter(col("x").is_null()), x=[1, None, 1])
    [1]
    """
    return Expr(Aggregation("count"))


def coalesce(*values: Operand) -> Expr:
    """Return the first value that is not null.

    Examples
    --------
    >>> evaluate(coalesce(col("nick"), col("name"), "?"), nick=["Al", None, None], name=["Alan", "Ann", None])
    ['Al', 'Ann', '?']
    """
    return _several("coalesce", values)


def concat_str(*values: Operand, separator: str = "", ignore_nulls: bool = False) -> Expr:
    """Return the texts one after another; null if one is null, unless `ignore_nulls` leaves those out.

    Examples
    --------
    >>> evaluate(concat_str(col("a"), col("b"), separator="-"), a=["x", "x"], b=["y", None])
    ['x-y', None]
    >>> evaluate(concat_str(col("a"), col("b"), separator="-", ignore_nulls=True), a=["x", "x"], b=["y", None])
    ['x-y', 'x']
    """
    parts = _several("concat_str", values)
    return Expr(Call("concat_str", parts.node.args if isinstance(parts.node, Call) else (), (separator, ignore_nulls)))


def arctan2(y: Operand, x: Operand) -> Expr:
    """Return the angle of the point (x, y) in radians.

    Examples
    --------
    >>> evaluate(arctan2(col("y"), col("x")).degrees(), y=[1.0, -1.0, 0.0], x=[-1.0, 0.0, 0.0])
    [135.0, -90.0, 0.0]
    """
    return call("arctan2", y, x)


def least(*values: Operand) -> Expr:
    """Return the least of the values; null if one is null.

    Examples
    --------
    >>> evaluate(least(col("a"), col("b"), 5), a=[3, 9, 1], b=[4, 7, None])
    [3, 5, None]
    """
    return _several("least", values)


def greatest(*values: Operand) -> Expr:
    """Return the greatest of the values; null if one is null.

    Examples
    --------
    >>> evaluate(greatest(col("a"), col("b"), 5), a=[3, 9, 1], b=[4, 7, None])
    [5, 9, None]
    """
    return _several("greatest", values)


def _several(op: str, values: tuple[Operand, ...]) -> Expr:
    if not values:
        raise TopologyError(f"{op} needs at least one value")
    return call(op, *values)


@dataclass(frozen=True, slots=True, eq=False)
class When(Unfinished):
    """A condition without its value: go on with `then`.

    Examples
    --------
    >>> evaluate(when(col("n") > 9).then(lit("many")), n=[10, 5, None])
    ['many', None, None]
    """

    remedy: ClassVar[str] = "go on with .then(value)"
    parts: tuple[Expression, ...]

    def then(self, value: Operand) -> Then:
        """Give the value for the last condition."""
        return Then(Call("when", (*self.parts, node_of(value), Constant(None, "None"))))


class Then(Expr):
    """A choice, null where no condition is true; go on with `when` or `otherwise`.

    Examples
    --------
    >>> evaluate(when(col("n") > 9).then(2).when(col("n") > 0).then(1).otherwise(0), n=[10, 5, None])
    [2, 1, 0]
    """

    __slots__ = ()

    def _parts(self) -> tuple[Expression, ...]:
        return self.node.args[:-1] if isinstance(self.node, Call) else ()

    def when(self, condition: Expr) -> When:
        """Add a condition for the rows that are left."""
        return When((*self._parts(), condition_of("when", condition)))

    def otherwise(self, value: Operand) -> Expr:
        """Give the value for all other rows."""
        return Expr(Call("when", (*self._parts(), node_of(value))))


def when(condition: Expr) -> When:
    """Begin a choice: ``when(a).then(x).when(b).then(y).otherwise(z)``; null without `otherwise`.

    Examples
    --------
    >>> size = when(col("n") > 9).then(lit("many")).when(col("n") > 0).then(lit("some")).otherwise("none")
    >>> evaluate(size, n=[10, 5, None])
    ['many', 'some', 'none']
    >>> evaluate(when(col("n") > 9).then(col("n")), n=[10, 5])
    [10, None]
    """
    return When((condition_of("when", condition),))


_SPEC: Final = re.compile(r"(?:,|0?\d*)?(?:\.\d+)?[dfegs%]?", re.ASCII)


def format(template: str, *values: Operand) -> Expr:
    """Return a text made of values; a null shows as "null".

    Parameters
    ----------
    template : str
        ``"{} of {:.2f}"``: one ``{}`` for each value, ``{{`` and ``}}`` for brackets.
    *values : Expr or plain value

    Examples
    --------
    >>> evaluate(format("{} of {:.2f}", col("n"), col("amount")), n=[1, None], amount=[2.5, 10.0])
    ['1 of 2.50', 'null of 10.00']
    """
    pieces: list[str] = [""]
    specs: list[str] = []
    try:
        parsed = list(string.Formatter().parse(template))
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
    return call("format", *values, params=(tuple(pieces), tuple(specs)))


def haversine_km(lat1: Operand, lon1: Operand, lat2: Operand, lon2: Operand) -> Expr:
    """Return the great-circle distance in km of two points in degrees, on a sphere of 6371.0 km.

    Examples
    --------
    >>> evaluate(haversine_km(52.52, 13.405, col("lat"), col("lon")).round(1), lat=[48.8566, None], lon=[2.3522, 0.0])
    [877.5, None]
    """
    a_lat, a_lon, b_lat, b_lon = (Expr(node_of(value)).cast(float) for value in (lat1, lon1, lat2, lon2))
    dp, dl = (b_lat - a_lat).radians(), (b_lon - a_lon).radians()
    h = (dp / 2).sin() ** 2 + a_lat.radians().cos() * b_lat.radians().cos() * (dl / 2).sin() ** 2
    return 2 * EARTH_RADIUS_KM * h.sqrt().arcsin()
