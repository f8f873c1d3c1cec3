"""Running aggregates: a table with a row for each key."""

from __future__ import annotations

from streamdsl.flink.aggregates import grouped
from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.flink.translation import Translation, select, with_key
from streamdsl.logical.aggregate import AggregateNode
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
    keys = [quoted(name) for name in node.key_schema.names]
    items = [*keys, *(f"{grouped(one, source, schema)} AS {quoted(one.name)}" for one in node.aggregates)]
    group = f"\nGROUP BY {', '.join(keys)}" if keys else ""
    query = select(items, quoted(source.name), with_key(node), rest=group)
    made.differs("A table may show fewer updates than here, or more: the last row of each key is the same.")
    return made.view(node, query, like=source, time=None, changes=True, nan=frozenset())


def _check_withdrawable(node: AggregateNode) -> None:
    """Rows of a table change: what Flink takes out of these aggregates again leaves what is there here as well."""
    for one in node.aggregates:
        known = one.kind in ("count", "sum", "mean", "min", "max", "n_unique")
        drifts = one.kind in ("sum", "mean") and one.argument is not None and is_float(one.argument.type)
        if not known or drifts:
            raise Refused(f"{one} of the rows of a table", "use count, min, max, n_unique, or sum and mean of whole numbers")
