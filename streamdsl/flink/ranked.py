"""Aggregates of the best rows of a group (max_by, min_by, top_k): rows with a number in their order."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamdsl.flink.aggregates import argument, condition
from streamdsl.flink.expressions import may_be_null, written
from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.flink.translation import conditions, nested, select
from streamdsl.logical.expression import Typed, TypedAggregate
from streamdsl.schema import Schema

__all__ = ["PICKS", "Ranking", "ranked", "rankings"]

#: The column with a row's number among those of its group.
NUMBER: Final = "`_number`"
_MOST_ROWS: Final = 100
#: Aggregates that take a value from the best rows.
PICKS: Final = ("max_by", "min_by", "top_k")


@dataclass(slots=True)
class Ranking:
    """Aggregates that take their values from the same rows in the same order.

    Attributes
    ----------
    order : tuple of str
        What stands behind ORDER BY.
    where : str
        Which rows count, "" if all.
    picks : list
        Each aggregate with the text of its value.
    whole : bool
        Whether a group always has such a row.
    """

    order: tuple[str, ...]
    where: str
    by: Typed
    descending: bool
    whole: bool = True
    picks: list[tuple[TypedAggregate, str]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows of a group are taken."""
        return max(_count(one) for one, _ in self.picks)

    @property
    def numbered(self) -> int:
        """How many rows of a group that never ends are numbered.

        Of the first row by two columns Flink 2.2 does not say that it goes when another one takes its place: what reads it counts both.
        """
        return self.rows if len(self.order) == 1 else max(self.rows, 2)

    def values(self) -> list[str]:
        """Return the values that are taken, as items of a select list."""
        return [f"{text} AS {quoted(one.name)}" for one, text in self.picks]

    def taken(self, rows: int) -> list[str]:
        """Return each aggregate over so many numbered rows, as items of a select list; of more than one row by group."""
        if rows == 1:
            names = [(one, quoted(one.name)) for one, _ in self.picks]
            return [f"ARRAY[{name}] AS {name}" if one.kind == "top_k" else name for one, name in names]
        return [f"{_listed(one)} AS {quoted(one.name)}" for one, _ in self.picks]


def ranked(ranking: Ranking, keys: Sequence[str], table: str, where: str, more: Sequence[str] = (), bounds: Sequence[str] = ()) -> str:
    """Return the query of the rows that are taken, and of their values, by key.

    Parameters
    ----------
    ranking : Ranking
    keys : sequence of str
        Columns of the key.
    table, where : str
        Where the rows are, and which of them count.
    more : sequence of str
        Columns beside the key that a group has.
    bounds : sequence of str
        Those of `more` that tell groups of the same key apart.
    """
    groups = [*map(quoted, keys), *more]
    partition = ", ".join([*bounds, *map(quoted, keys)])
    by = f"PARTITION BY {partition} " if partition else ""
    number = f"ROW_NUMBER() OVER ({by}ORDER BY {', '.join(ranking.order)}) AS {NUMBER}"
    inner = select([*groups, *ranking.values(), number], table, conditions([where, ranking.where]))
    rows = ranking.rows if bounds else ranking.numbered
    rest = f"\nGROUP BY {', '.join(groups)}" if rows > 1 else ""
    return select([*groups, *ranking.taken(rows)], nested(inner), f"{NUMBER} <= {rows}", rest=rest)


def _count(one: TypedAggregate) -> int:
    return int(dict(one.params)["n"]) if one.kind == "top_k" else 1


def _listed(one: TypedAggregate) -> str:
    def at(number: int) -> str:
        return f"FIRST_VALUE({quoted(one.name)}) FILTER (WHERE {NUMBER} = {number})"

    if one.kind != "top_k":
        return at(1)
    listed = ", ".join(at(number) for number in range(1, _count(one) + 1))
    return f"ARRAY_SLICE(ARRAY[{listed}], 1, CAST(LEAST(COUNT(*), {_count(one)}) AS INT))"


def rankings(aggregates: Sequence[TypedAggregate], relation: Relation, schema: Schema) -> tuple[list[Ranking], list[TypedAggregate]]:
    """Return the orders of a group's rows that aggregates take values from, and the aggregates that do not."""
    found: dict[tuple[tuple[str, ...], str], Ranking] = {}
    for one in aggregates:
        if one.kind in PICKS:
            made = _ranking(one, relation, schema)
            ranking = found.setdefault((made.order, made.where), made)
            ranking.picks += made.picks if ranking is not made else []
    rest = [one for one in aggregates if one.kind not in PICKS]
    return list(found.values()), [one for one in rest if not _among(one, found.values(), relation, schema)]


def _ranking(one: TypedAggregate, relation: Relation, schema: Schema) -> Ranking:
    value, where = argument(one, relation, schema), condition(one, relation, schema)
    if value is None or one.by is None or one.argument is None:
        raise Refused(f"{one.kind} of rows", "take its columns one by one")
    if _count(one) > _MOST_ROWS:
        raise Refused(f"top_k of {_count(one)} rows", f"use {_MOST_ROWS} or fewer")
    descending = one.kind != "min_by"
    order = []
    for expression in (one.by, *one.then_by):
        ranked = written(expression, relation, schema)
        if ranked.nan:
            raise Refused(f"{one.kind} by floats that may be NaN", "fill_nan(...) them first")
        last = " NULLS LAST" if may_be_null(expression, relation) else ""
        order.append(f"{ranked.text} {'DESC' if descending else 'ASC'}{last}")
    known = [one.by, one.argument] if one.by is not one.argument else [one.by]
    missing = [f"{written(part, relation, schema).inner} IS NOT NULL" for part in known if may_be_null(part, relation)]
    return Ranking(
        order=tuple(order),
        where=conditions([*dict.fromkeys(missing), f"({where})" if where else ""]),
        by=one.by,
        descending=descending,
        whole=not missing and not where,
        picks=[(one, value.text)],
    )


def _among(one: TypedAggregate, found: Collection[Ranking], relation: Relation, schema: Schema) -> bool:
    """Put the greatest or least value of what rows are ordered by among the values of the first one."""
    if one.kind not in ("min", "max") or one.where is not None or one.argument is None:
        return False
    for ranking in found:
        if ranking.whole and ranking.by == one.argument and ranking.descending == (one.kind == "max"):
            ranking.picks.append((one, written(one.argument, relation, schema).text))
            return True
    return False
