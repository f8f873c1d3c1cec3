"""Values of Protobuf that a schema registry describes: Flink has them as bytes, and functions in Python make rows of them and back.

Flink's own format needs the message's Java class, and reads no number of a schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from streamdsl.flink.nodes.python_function import given_columns, taken_columns
from streamdsl.flink.python.function import PythonValues, function_name
from streamdsl.flink.python.wire import Wire, wire
from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.tables.declared import Declared, SinkColumn
from streamdsl.flink.translation import Translation
from streamdsl.flink.types import flink_type
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode
from streamdsl.schema import Field, Schema

__all__ = ["source", "written"]

_VALUE: Final = "_value"
_ROW: Final = "_row"
#: With the types of the connector itself: Flink casts others, and would then call the function twice.
_PLACE: Final = {
    "_partition": "`_partition` INT NOT NULL METADATA FROM 'partition' VIRTUAL",
    "_offset": "`_offset` BIGINT NOT NULL METADATA FROM 'offset' VIRTUAL",
}
_CALL: Final = "(`_value`, `_partition`, `_offset`)"


def source(made: Translation, node: SourceNode, topic: Any, declared: Declared, skips: bool) -> Declared:
    """Describe a topic that is read.

    Where the event time is in the value, a scalar function gives the row as a column of the table, since a watermark needs it there.
    Else a table function gives it behind the table, whose watermarks are then made by the source, those of each partition.
    """
    _check(topic)
    wanted = {*node.columns, *([node.timestamp.column] if node.timestamp else [])}
    own = [field for field in node.declared.fields if not field.hidden]
    columns = Schema(tuple(field for field in own if field.name in wanted) or tuple(own))
    wires = {field.name: _wire(field) for field in columns.fields}
    in_table, of_table = node.timestamp is not None, node.table_keys is not None
    function = PythonValues(
        name=function_name(f"{node.name}_rows", made.plan.numbers[id(node)]),
        step=node.name,
        topic=topic,
        columns=columns,
        way="row" if in_table else "rows",
        skips=skips,
        of_table=of_table,
        time=node.timestamp.column if node.timestamp else None,
    )
    made.function(function, f"source {node.name!r}: decodes Protobuf")
    _tell(made, node, skips)
    call = f"{quoted(function.name)}{_CALL}"
    asked = [name for name in _PLACE if name in node.columns and name not in node.declared]
    lines = [f"{quoted(_VALUE)} BYTES", *(line for name, line in _PLACE.items() if name not in asked)]
    parts = f"S.{quoted(_ROW)}" if in_table else "F"
    none = skips or of_table

    def typed(field: Field) -> str:
        name = quoted(field.name)
        if field.name in wires:
            return f"{wires[field.name].taken(f'{parts}.{name}')} AS {name}"
        return f"CAST({name} AS BIGINT) AS {name}" if field.name in _PLACE else name

    made_of = replace(
        declared,
        metadata={**declared.metadata, **_PLACE},
        lines=[*lines, f"{quoted(_ROW)} AS {call}"] if in_table else lines,
        joined=" AS S" if in_table else f" AS S, LATERAL TABLE({call}) AS F({', '.join(map(quoted, columns.names))})",
        typed_column=typed,
        nan=taken_columns(columns, parts)[1],
        pushed=not in_table,
    )
    if not in_table:
        return made_of
    return replace(
        made_of,
        where=f"S.{quoted(_ROW)} IS NOT NULL" if none else "",
        may_lack_time=none,
        typed_text=lambda name, type_: wires[name].taken(f"{call}.{quoted(name)}"),
    )


def written(made: Translation, node: SinkNode, topic: Any, fields: Sequence[Field], keys: Sequence[Field]) -> list[SinkColumn]:
    """Return the columns of a topic that is written: those of its key, and the value."""
    _check(topic)
    for field in fields:
        _wire(field)
    columns = Schema(tuple(fields))
    name = function_name(f"{node.name}_values", made.plan.numbers[id(node)])
    made.function(PythonValues(name, node.name, topic, columns, "value"), f"sink {node.name!r}: writes Protobuf")
    source_ = made.of(node.inputs[0])
    given = ", ".join(given_columns(columns, source_, quoted(source_.name)))
    primary = " NOT NULL" if node.changes else ""
    own = [SinkColumn(key.name, f"{flink_type(key.type)}{primary}", quoted(key.name)) for key in keys]
    return [*own, SinkColumn(_VALUE, "BYTES", f"{quoted(name)}({given})")]


def _check(topic: Any) -> None:
    for given, wanted in ((topic.registry, "registry"), (topic.message, "message")):
        if given is None:
            raise Refused(f"the topic {topic.topic!r} has Protobuf without {wanted}=", "kafka(..., registry=..., message=...)")


def _wire(field: Field) -> Wire:
    type_: pa.DataType = field.type
    try:
        return wire(field.name, type_)
    except Refused:
        raise Refused(
            f"the column {field.name!r} ({type_}) of Protobuf", "declare it as a plain type, times as pa.timestamp('ms', tz='UTC')"
        ) from None


def _tell(made: Translation, node: SourceNode, skips: bool) -> None:
    made.differs(f"While the registry of {node.name!r} does not answer, tasks wait for it, and checkpoints for them.")
    if skips:
        made.differs(f'errors="skip" of {node.name!r}: each task logs the first value that is no Protobuf; nothing counts them.')
    if node.timestamp is not None:
        made.differs(
            f"Watermarks of {node.name!r} are those of a task, not of a partition: where a task reads several, rows of one that is behind "
            "are late. Give the job as many tasks as the topic has partitions: parallelism.default."
        )
