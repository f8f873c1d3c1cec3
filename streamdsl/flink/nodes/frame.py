"""Frames: aggregates OVER the earlier rows of a key, in the order of event time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from streamdsl.flink.aggregates import argument, condition, whole_sum
from streamdsl.flink.functions.decimals import mean
from streamdsl.flink.quoting import interval, quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import FORGOTTEN, TIME, Relation
from streamdsl.flink.translation import Translation, columns, nested, partition, select, with_key
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value
from streamdsl.logical.expression import TypedAggregate
from streamdsl.logical.frame import FrameNode
from streamdsl.logical.types import is_decimal, is_float
from streamdsl.schema import Schema
from streamdsl.windows import Frame

__all__ = ["frame"]

_REMEDY: Final = "use count, sum, mean, min, max, first, last, std, var or lag"


def frame(made: Translation, node: FrameNode) -> Relation:
    """Add a column for each aggregate; those of one frame together, since a query of Flink has one frame."""
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema
    source.need_rowtime("frames")
    _tell(made, node)
    order = f"{partition(node.key_schema.names)}ORDER BY {quoted(TIME)}"
    base = columns(schema, source)
    missing = with_key(node)
    query = select(base, quoted(source.name), missing) if missing else quoted(source.name)
    known = list(base)
    for kind in dict.fromkeys(map(_frame_of, node.aggregates)):
        ones = [one for one in node.aggregates if _frame_of(one) == kind]
        step = _Step(kind, order, source, schema)
        query, known = step.over(ones, query, known)
    return made.view(node, query, like=source)


def _frame_of(one: TypedAggregate) -> Frame | None:
    return None if one.kind == "lag" else one.frame


def _tell(made: Translation, node: FrameNode) -> None:
    made.differs(
        "Frames are in the order of event time: a row sees those with an earlier time, whenever they came; here it sees those that came "
        "before it. Rows of a key that arrive in the order of their times see the same."
    )
    made.differs("Late rows, at or below the watermark, are dropped by all frames, expanding() and lag() too; nothing counts them.")
    made.differs(FORGOTTEN)
    if any(one.is_rolling for one in node.aggregates):
        made.differs("rolling(): rows of a key with the very same time see one another, whichever came first.")


@dataclass(frozen=True, slots=True)
class _Step:
    """The aggregates of one frame, as a query around another."""

    frame: Frame | None
    order: str
    relation: Relation
    schema: Schema

    def over(self, ones: Sequence[TypedAggregate], query: str, known: Sequence[str]) -> tuple[str, list[str]]:
        """Return the query with the columns of the aggregates, and the names of all its columns."""
        if self.frame is not None and self.frame.kind == "rolling" and self.frame.exclude_current:
            made = {one.name: self._without_current(one) for one in ones}
            return self._around(query, known, made)
        if self.frame is None:
            return self._around(query, known, {one.name: self._lag(one) for one in ones})
        if any(one.kind in ("std", "var") for one in ones):
            query, inner = self._around(query, known, self._references(ones))
            query, _ = self._around(query, inner, {one.name: self._aggregate(one) for one in ones})
            # What the deviations were counted from goes again.
            query = select([*(quoted(one.name) for one in ones), *known], nested(query))
        else:
            query, _ = self._around(query, known, {one.name: self._aggregate(one) for one in ones})
        names = [*(quoted(one.name) for one in ones), *known]
        if not self.frame.exclude_current:
            return query, list(names)
        # The row before had seen all rows but this one.
        before = {one.name: self._before(one) for one in ones}
        items = [*(f"{text} AS {quoted(name)}" for name, text in before.items()), *known]
        return select(items, nested(query)), names

    def _around(self, query: str, known: Sequence[str], made: dict[str, str]) -> tuple[str, list[str]]:
        # New columns in front: behind the others, Flink would take the query for one that changes nothing, and mix up its names.
        items = [*(f"{text} AS {quoted(name)}" for name, text in made.items()), *known]
        return select(items, nested(query)), [*map(quoted, made), *known]

    @property
    def _window(self) -> str:
        assert self.frame is not None
        if self.frame.kind == "expanding":
            return f"({self.order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        # Of rolling("60s") a record that is 60 s older is out; Flink's frame would have it in.
        size = self.frame.size_ms - 1
        return f"({self.order} RANGE BETWEEN {interval(size)} PRECEDING AND CURRENT ROW)"

    def _over(self, call: str) -> str:
        return f"{call} OVER {self._window}"

    def _lag(self, one: TypedAggregate) -> str:
        value = argument(one, self.relation, self.schema)
        assert value is not None
        n = dict(one.params).get("n", 1)
        return f"LAG({value.text}, {n}) OVER ({self.order})"

    def _before(self, one: TypedAggregate) -> str:
        lagged = f"LAG({quoted(one.name)}, 1) OVER ({self.order})"
        return f"COALESCE({lagged}, {_of_nothing(one)})" if one.kind in ("count", "sum", "n_unique") else lagged

    def _counted(self, one: TypedAggregate) -> Value | None:
        """Return what is aggregated, null for rows that are not taken."""
        value, where = argument(one, self.relation, self.schema), condition(one, self.relation, self.schema)
        if not where:
            return value
        if value is None:
            return Value(f"CASE WHEN {where} THEN 1 END", one.type)
        return Value(f"CASE WHEN {where} THEN {value.text} END", value.type, nan=value.nan)

    def _references(self, ones: Sequence[TypedAggregate]) -> dict[str, str]:
        found = {}
        for one in ones:
            if one.kind in ("std", "var"):
                value = self._counted(one)
                assert value is not None
                found[_reference(one)] = self._over(f"FIRST_VALUE({value.text})")
        return found

    def _aggregate(self, one: TypedAggregate) -> str:
        value, kind = self._counted(one), one.kind
        if kind == "count":
            return self._over("COUNT(*)" if value is None else f"COUNT({value.text})")
        if value is None:
            raise Refused(f"{kind} of rows in a frame", _REMEDY)
        if kind in ("std", "var"):
            return self._spread(one, value)
        if kind in ("sum", "mean"):
            return self._total(one, value)
        if kind in ("min", "max"):
            return self._over(f"{kind.upper()}({value.text})")
        if kind == "n_unique" and not dict(one.params).get("approximate"):
            return self._over(f"COUNT(DISTINCT {value.text})")
        if kind in ("first", "last") and one.by is None and dict(one.params).get("n", 1) == 1:
            return self._over(f"{kind.upper()}_VALUE({value.text})")
        raise Refused(f"{kind}() in a frame", _REMEDY)

    def _total(self, one: TypedAggregate, value: Value) -> str:
        if is_float(value.type):
            if one.kind == "mean":
                return self._over(f"AVG({value.text})")
            return f"COALESCE({self._over(f'SUM({value.text})')}, CAST(0 AS DOUBLE))"
        if is_decimal(value.type):
            if one.kind == "mean":
                return mean(self._over(f"SUM({value.text})"), self._over(f"COUNT({value.text})"), value.type, one.type)
            return f"COALESCE({self._over(f'SUM({value.text})')}, CAST(0 AS {flink_type(one.type)}))"
        exact = self._over(f"SUM(CAST({value.text} AS DECIMAL(38, 0)))")
        if one.kind == "mean":
            return f"CAST({exact} AS DOUBLE) / NULLIF({self._over(f'COUNT({value.text})')}, 0)"
        return whole_sum(exact)

    def _spread(self, one: TypedAggregate, value: Value) -> str:
        """Return a deviation or variance, counted from the first value: sums of squares alone would lose small differences."""
        away = f"({value.inner} - {quoted(_reference(one))})"
        n = self._over(f"COUNT({value.text})")
        total, squares = self._over(f"SUM({away})"), self._over(f"SUM({away} * {away})")
        ddof = dict(one.params).get("ddof", 1)
        divisor = n if ddof == 0 else f"({n} - {ddof})"
        variance = f"GREATEST({squares} - {total} * {total} / {n}, CAST(0 AS DOUBLE)) / {divisor}"
        enough = f"CASE WHEN {n} > {ddof} THEN {variance} END"
        return f"SQRT({enough})" if one.kind == "std" else enough

    def _without_current(self, one: TypedAggregate) -> str:
        value = self._counted(one)
        if one.kind == "count":
            return f"{self._over('COUNT(*)')} - 1" if value is None else self._others(value)
        if value is None or one.kind not in ("sum", "mean") or is_float(value.type):
            raise Refused(
                f"{one.kind}() over a rolling frame without the current row",
                "count() can, and sum() and mean() of whole numbers and decimals; or take the current row in",
            )
        kind = value.type if is_decimal(value.type) else pa.decimal128(38, 0)
        # What is exact can be taken out again.
        own = f"COALESCE(CAST({value.text} AS {flink_type(kind)}), 0)"
        total = f"({self._over(f'SUM(CAST({value.text} AS {flink_type(kind)}))')} - {own})"
        if one.kind == "sum":
            shown = f"CAST(COALESCE({total}, 0) AS {flink_type(one.type)})"
            return shown if is_decimal(value.type) else whole_sum(total)
        if is_decimal(value.type):
            return mean(total, f"({self._others(value)})", value.type, one.type)
        return f"CAST({total} AS DOUBLE) / NULLIF({self._others(value)}, 0)"

    def _others(self, value: Value) -> str:
        """Return the number of values beside the current one."""
        return f"{self._over(f'COUNT({value.text})')} - CASE WHEN {value.inner} IS NULL THEN 0 ELSE 1 END"


def _reference(one: TypedAggregate) -> str:
    return f"_first_{one.name}"


def _of_nothing(one: TypedAggregate) -> str:
    return f"CAST(0 AS {flink_type(one.type)})"
