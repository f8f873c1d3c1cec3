"""CREATE TABLE of a sink, and the INSERT that fills it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamdsl.flink.quoting import options, quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.tables import files, kafka
from streamdsl.flink.tables.declared import DeclaredSink, SinkColumn
from streamdsl.flink.translation import Translation, comment, select
from streamdsl.flink.types import flink_type
from streamdsl.logical.sink import SinkNode
from streamdsl.policies import DeadLetter
from streamdsl.schema import Field

__all__ = ["write_sink"]


def write_sink(made: Translation, node: SinkNode) -> None:
    """Declare the table that a sink writes, and fill it."""
    if isinstance(node.errors, DeadLetter) or node.errors == "skip":
        raise Refused("errors= of a sink: a row that cannot be written ends a Flink job", 'errors="fail"')
    source, schema = made.of(node.inputs[0]), node.inputs[0].schema.visible()
    if source.changes and not node.changes:
        raise Refused("the changes of a table as a stream", "write the table: table.to(sink)")
    apart = _apart(node.sink)
    fields = [field for field in schema.fields if not (field.name == "op" and source.changes) and field.name not in apart]
    declared = _described(made, node, fields)
    columns = declared.columns
    if columns is None:
        primary = set(node.keys) if declared.constraints else set()
        columns = [SinkColumn(one.name, _type(one, one.name in primary), quoted(one.name)) for one in fields]
    lines = [f"{quoted(one.name)} {one.type}" for one in columns]
    lines += [declaration for declaration, _ in declared.extra] + list(declared.constraints)
    name = made.name_of(node, node.name)
    body = ",\n".join(f"  {line}" for line in lines)
    made.table(name, f"CREATE TEMPORARY TABLE {quoted(name)} (\n{body}\n) {options(declared.options)}", comment(node))
    query = select([*(one.value for one in columns), *(value for _, value in declared.extra)], quoted(source.name))
    made.insert(name, f"INSERT INTO {quoted(name)}\n{query}", comment(node))


def _type(field: Field, primary: bool) -> str:
    return f"{flink_type(field.type)}{' NOT NULL' if primary else ''}"


def _apart(sink: Any) -> set[str]:
    """Return the columns that stand beside the value of a record."""
    if type(sink).__name__ != "Kafka":
        return set()
    return {*sink.headers, *([sink.topic_from] if sink.topic_from else [])}


def _described(made: Translation, node: SinkNode, fields: Sequence[Field]) -> DeclaredSink:
    kind = type(node.sink).__name__
    if kind == "Kafka":
        return kafka.sink(made, node, node.sink, fields)
    if kind == "Files":
        return DeclaredSink(files.sink(made, node, node.sink))
    if kind == "Console":
        return DeclaredSink({"connector": "print"})
    raise Refused(
        f"the sink {node.name!r} is {kind.lower()}(...), which Flink cannot write",
        f"bind a topic or files in its place: topology.to_flink(bind={{{node.name!r}: kafka(...)}})",
    )
