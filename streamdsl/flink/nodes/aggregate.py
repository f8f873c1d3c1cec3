"""Running aggregates: a table with a row for each key."""

from __future__ import annotations

from streamdsl.flink.aggregates import grouped
from streamdsl.flink.quoting import quoted
from streamdsl.flink.relation import Relation
from streamdsl.flink.translation import Translation, select, with_key
from streamdsl.logical.aggregate import AggregateNode

__all__ = ["aggregate"]


def aggregate(made: Translation, node: AggregateNode) -> Relation:
    """GROUP BY the key; the rows change, and have no event time."""
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema
    keys = [quoted(name) for name in node.key_schema.names]
    items = [*keys, *(f"{grouped(one, source, schema)} AS {quoted(one.name)}" for one in node.aggregates)]
    group = f"\nGROUP BY {', '.join(keys)}" if keys else ""
    query = select(items, quoted(source.name), with_key(node), rest=group)
    made.differs("A table may show fewer updates than here, or more: the last row of each key is the same.")
    return made.view(node, query, like=source, time=None, changes=True, nan=frozenset())
