"""Tables: the last row of each key."""

from __future__ import annotations

from collections.abc import Sequence

from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import TIME, Relation
from streamdsl.flink.translation import Translation, columns, partition, select, with_key
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node
from streamdsl.logical.source import SourceNode
from streamdsl.logical.table import VERSION, TableNode
from streamdsl.schema import Schema

__all__ = ["last_rows", "table"]


def table(made: Translation, node: TableNode) -> Relation:
    """The last row of each key: of a table those that are kept, of a stream those of the latest time."""
    keyed = node.inputs[0]
    source = made.of(keyed)
    schema = keyed.schema.visible()
    if source.changes:
        # Which rows go, the column says that the topology has made for it; Flink withdraws them by itself.
        kept = f"NOT {quoted(node.removed)}" if node.removed is not None and not _of_source(keyed) else ""
        return made.view(node, select([*columns(schema, source), *_version(node)], quoted(source.name), kept), like=source)
    if node.version is not None and not node.by_time:
        raise Refused(f"a table ordered by the column {node.version!r}", "Flink keeps the row of the latest event time")
    return last_rows(made, node, source, schema, node.key_schema.names, _version(node))


def _of_source(node: Node) -> bool:
    """Whether rows come from change events, which Flink has applied."""
    return isinstance(node, SourceNode) or (isinstance(node, KeyByNode) and isinstance(node.inputs[0], SourceNode))


def _version(node: TableNode) -> list[str]:
    # Flink takes the old row of a key out by itself: nothing has to tell the two apart.
    return [f"CAST(0 AS BIGINT) AS {quoted(VERSION.name)}"] if node.numbered else []


def last_rows(made: Translation, node: Node, source: Relation, schema: Schema, keys: tuple[str, ...], more: Sequence[str] = ()) -> Relation:
    """Return a view of the last row of each key, which Flink knows as a table with versions."""
    source.need_rowtime("a table")
    names = [*map(quoted, schema.names), quoted(TIME)]
    number = f"ROW_NUMBER() OVER ({partition(keys)}ORDER BY {quoted(TIME)} DESC) AS `_number`"
    ranked = select([*names, number], quoted(source.name), with_key(node) or _not_null(schema, keys))
    made.differs("Tables hold the row of the latest time of each key; here it is the one that came last.")
    made.differs("A record of a table's topic without a value, a tombstone, is skipped by Flink: the key's row stays.")
    name = node.name if isinstance(node, TableNode) else f"{made.plan.numbers[id(node)]}_{source.name}_by_{'_'.join(keys)}"
    return made.view(node, select([*names, *more], f"(\n{ranked}\n)", "`_number` = 1"), like=source, changes=True, name=name)


def _not_null(schema: Schema, keys: tuple[str, ...]) -> str:
    return " AND ".join(f"{quoted(name)} IS NOT NULL" for name in keys if schema.field(name).nullable)
