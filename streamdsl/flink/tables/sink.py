"""CREATE TABLE of a sink, and the INSERT that fills it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamdsl.flink.quoting import options, quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.tables import files, kafka
from streamdsl.flink.translation import Translation, comment, select
from streamdsl.flink.types import flink_type
from streamdsl.logical.sink import SinkNode
from streamdsl.policies import DeadLetter

__all__ = ["write_sink"]


def write_sink(made: Translation, node: SinkNode) -> None:
    """Declare the table that a sink writes, and fill it."""
    if isinstance(node.errors, DeadLetter) or node.errors == "skip":
        raise Refused("errors= of a sink: a row that cannot be written ends a Flink job", 'errors="fail"')
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema.visible()
    if source.changes and not node.changes:
        raise Refused("the changes of a table as a stream", "write the table: table.to(sink)")
    given, constraints, extra = _described(made, node)
    apart = _apart(node.sink)
    fields = [field for field in schema.fields if not (field.name == "op" and source.changes) and field.name not in apart]
    primary = set(node.keys) if constraints else set()
    lines = [f"{quoted(one.name)} {flink_type(one.type)}{' NOT NULL' if one.name in primary else ''}" for one in fields]
    lines += [declaration for declaration, _ in extra] + list(constraints)
    name = made.name_of(node, node.name)
    body = ",\n".join(f"  {line}" for line in lines)
    made.table(name, f"CREATE TEMPORARY TABLE {quoted(name)} (\n{body}\n) {options(given)}", comment(node))
    query = select([*(quoted(one.name) for one in fields), *(value for _, value in extra)], quoted(source.name))
    made.insert(name, f"INSERT INTO {quoted(name)}\n{query}", comment(node))


def _apart(sink: Any) -> set[str]:
    """Return the columns that stand beside the value of a record."""
    if type(sink).__name__ != "Kafka":
        return set()
    return {*sink.headers, *([sink.topic_from] if sink.topic_from else [])}


def _described(made: Translation, node: SinkNode) -> tuple[Mapping[str, str], Sequence[str], Sequence[tuple[str, str]]]:
    kind = type(node.sink).__name__
    if kind == "Kafka":
        return kafka.sink(made, node, node.sink)
    if kind == "Files":
        return files.sink(made, node, node.sink), (), ()
    if kind == "Console":
        return {"connector": "print"}, (), ()
    raise Refused(
        f"the sink {node.name!r} is {kind.lower()}(...), which Flink cannot write",
        f"bind a topic or files in its place: topology.to_flink(bind={{{node.name!r}: kafka(...)}})",
    )
