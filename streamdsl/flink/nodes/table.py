"""Tables: the last row of each key."""

from __future__ import annotations

from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import TIME, Relation
from streamdsl.flink.translation import Translation, columns, partition, select, with_key
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.expression import Typed
from streamdsl.logical.node import Node
from streamdsl.logical.project import Output, ProjectNode
from streamdsl.logical.table import TableNode
from streamdsl.schema import Schema

__all__ = ["last_rows", "table"]


def table(made: Translation, node: TableNode) -> Relation:
    """The last row of each key by event time."""
    keyed = node.inputs[0]
    kept = _kept(keyed.inputs[0])
    if kept is not None:
        return _filtered(made, node, kept)
    source, schema = made.of(keyed), keyed.schema.visible()
    if node.retracts:
        raise Refused("group_by() of a table that a topic holds", "aggregate a stream of its rows: topology.stream(...).key_by(...)")
    return last_rows(made, node, source, schema, node.key_schema.names)


def last_rows(made: Translation, node: Node, source: Relation, schema: Schema, keys: tuple[str, ...]) -> Relation:
    """Return a view of the last row of each key, which Flink knows as a table with versions."""
    source.need_rowtime("a table")
    names = [*map(quoted, schema.names), quoted(TIME)]
    number = f"ROW_NUMBER() OVER ({partition(keys)}ORDER BY {quoted(TIME)} DESC) AS `_number`"
    ranked = select([*names, number], quoted(source.name), with_key(node) or _not_null(schema, keys))
    made.differs("Tables hold the row of the latest time of each key; here it is the one that came last.")
    made.differs("A row of a table's topic without values beside its key withdraws that key here; in Flink it is a row of nulls.")
    name = node.name if isinstance(node, TableNode) else f"{made.plan.numbers[id(node)]}_{source.name}_by_{'_'.join(keys)}"
    return made.view(node, select(names, f"(\n{ranked}\n)", "`_number` = 1"), like=source, changes=True, name=name)


def _not_null(schema: Schema, keys: tuple[str, ...]) -> str:
    return " AND ".join(f"{quoted(name)} IS NOT NULL" for name in keys if schema.field(name).nullable)


def _kept(node: Node) -> tuple[Node, Typed] | None:
    """Return the table and the condition of Table.filter(), which marks the rows that go as tombstones."""
    if not isinstance(node, ProjectNode) or CHANGE.name not in node.inputs[0].schema:
        return None
    marker: Output = node.outputs[-1]
    if not marker.name.startswith("_kept") or marker.value.op != "when":
        return None
    there, holds = marker.value.args[0].args
    if there.op != "ne" or not there.args[0].is_column or there.args[0].column != CHANGE.name:
        return None
    return node.inputs[0], holds


def _filtered(made: Translation, node: TableNode, kept: tuple[Node, Typed]) -> Relation:
    from streamdsl.flink.expressions import written

    below, holds = kept
    source = made.of(below)
    condition = written(holds, source, below.schema)
    names = columns(below.schema, source)
    return made.view(node, select(names, quoted(source.name), condition.text), like=source)
