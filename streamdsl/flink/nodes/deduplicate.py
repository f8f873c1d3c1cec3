"""Deduplicate: the first row of a key to arrive."""

from __future__ import annotations

from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.flink.translation import Translation, columns, partition, select, with_key
from streamdsl.logical.deduplicate import DeduplicateNode

__all__ = ["deduplicate"]


def deduplicate(made: Translation, node: DeduplicateNode) -> Relation:
    """ROW_NUMBER() = 1 in the order of arrival: rows come once, and never change."""
    if node.within_ms is not None:
        raise Refused(
            f"deduplicate({node.text()}): no function of Flink SQL looks at the last row that was kept",
            "leave within= out and bound Flink's state with table.exec.state.ttl; or write a Processor that keeps the time of the last row",
        )
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema
    names = columns(schema, source)
    number = f"ROW_NUMBER() OVER ({partition(node.key_schema.names)}ORDER BY `_arrival`) AS `_number`"
    arrived = select([*names, "PROCTIME() AS `_arrival`"], quoted(source.name), with_key(node))
    ranked = select([*names, number], f"(\n{arrived}\n)")
    made.differs("deduplicate() keeps every key: Flink forgets them only where table.exec.state.ttl says so.")
    # What is kept is no longer known to be in the order of watermarks.
    time = "value" if source.time else None
    return made.view(node, select(names, f"(\n{ranked}\n)", "`_number` = 1"), like=source, time=time)
