"""Running aggregates: a table with a row for each key."""

from __future__ import annotations

from collections.abc import Sequence

from streamdsl.flink.aggregates import grouped, never_null
from streamdsl.flink.quoting import quoted
from streamdsl.flink.ranked import PICKS, Ranking, ranked, rankings
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.flink.translation import Translation, nested, select, with_key
from streamdsl.logical.aggregate import AggregateNode
from streamdsl.logical.expression import TypedAggregate
from streamdsl.logical.types import is_float

__all__ = ["aggregate"]


def aggregate(made: Translation, node: AggregateNode) -> Relation:
    """GROUP BY the key; the rows change, and have no event time."""
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema
    if node.sign is not None and not source.changes:
        raise Refused("aggregates of rows with a sign", "aggregate the table itself")
    if source.changes:
        _check_withdrawable(node)
    if node.emit != "update":
        made.differs(
            f"emit={node.emit} of a table is not kept: Flink's updates leave as table.exec.mini-batch says; the last ones are the same."
        )
    found, plain = rankings(node.aggregates, source, schema)
    made.differs("A table may show fewer updates than here, or more: the last row of each key is the same.")
    query = _best(made, node, source, found, plain) if found else _groups(node, source, plain)
    filled = {one.name for one in node.aggregates if never_null(one, source)}
    return made.view(node, query, like=source, time=None, changes=True, nan=frozenset(), filled=frozenset(filled))


def _groups(node: AggregateNode, source: Relation, aggregates: Sequence[TypedAggregate]) -> str:
    keys, schema = [quoted(name) for name in node.key_schema.names], node.inputs[0].schema
    items = [*keys, *(f"{grouped(one, source, schema)} AS {quoted(one.name)}" for one in aggregates)]
    group = f"\nGROUP BY {', '.join(keys)}" if keys else ""
    return select(items, quoted(source.name), with_key(node), rest=group)


def _best(made: Translation, node: AggregateNode, source: Relation, found: Sequence[Ranking], plain: Sequence[TypedAggregate]) -> str:
    """Return the best rows of each key, beside its other aggregates."""
    made.differs("Of rows that are equally good for max_by, min_by or top_k, Flink takes the first one to arrive at its task.")
    keys = node.key_schema.names
    if not keys:
        raise Refused(f"{found[0].picks[0][0].kind} of all rows", "give key_by(...) a constant column")
    best = [ranked(ranking, keys, quoted(source.name), with_key(node)) for ranking in found]
    if len(best) == 1 and not plain and found[0].whole:
        return best[0]
    # A key has a row even where none of its rows counts.
    tables = [f"{nested(_groups(node, source, plain) if plain else _keys(node, source))} AS `t0`"]
    for number, query in enumerate(best, 1):
        same = " AND ".join(f"`t0`.{quoted(name)} = `t{number}`.{quoted(name)}" for name in keys)
        tables.append(f"LEFT JOIN {nested(query)} AS `t{number}` ON {same}")
    place = {one.name: number for number, ranking in enumerate(found, 1) for one, _ in ranking.picks}
    names = [*keys, *(one.name for one in node.aggregates)]
    return select([f"`t{place.get(name, 0)}`.{quoted(name)}" for name in names], "\n".join(tables))


def _keys(node: AggregateNode, source: Relation) -> str:
    return select([f"DISTINCT {', '.join(map(quoted, node.key_schema.names))}"], quoted(source.name), with_key(node))


def _check_withdrawable(node: AggregateNode) -> None:
    """Rows of a table change: what Flink takes out of these aggregates again leaves what is there here as well."""
    for one in node.aggregates:
        known = one.kind in ("count", "sum", "mean", "min", "max", "n_unique", *PICKS)
        drifts = one.kind in ("sum", "mean") and one.argument is not None and is_float(one.argument.type)
        if not known or drifts:
            raise Refused(f"{one} of the rows of a table", "use count, min, max, n_unique, max_by, top_k, or sum and mean of whole numbers")
