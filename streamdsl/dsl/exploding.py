"""explode and unnest: lists and structs are taken apart as text, then each part becomes a value of its type."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from streamdsl.dsl.written import here
from streamdsl.errors import TopologyError
from streamdsl.logical.bind import Binder
from streamdsl.logical.cast import item_of
from streamdsl.logical.explode import ExplodeNode
from streamdsl.logical.expression import ColumnRef, Typed
from streamdsl.logical.node import Node
from streamdsl.logical.project import Output, ProjectNode, narrowed, passed
from streamdsl.logical.structs import field_of, fields_of
from streamdsl.logical.types import is_list

__all__ = ["exploded", "unnested"]


def exploded(node: Node, column: str, *, empty_as_null: bool, keep_nulls: bool, index: str | None = None) -> Node:
    """Return `node` with a row for each item of the list in `column`."""
    if not isinstance(column, str):
        raise TopologyError(f"explode needs the name of a column, not {column!r}", remedy="write explode() once for each column")
    binder = Binder(node.schema, "explode")
    field = binder.field(column)
    if not is_list(field.type):
        raise TopologyError(f"explode: {column!r} is no list ({field.type})", remedy='make one, such as col("x").str.split(",")')
    if index is not None and (not isinstance(index, str) or not index or index in node.schema.visible()):
        raise TopologyError(f"explode: index={index!r} is no name of a new column", remedy='write index="place"')
    node = node if index is None else narrowed(node, [name for name in node.schema.names if name != index])
    items = ExplodeNode(inputs=(node,), where=here(), column=column, empty_as_null=empty_as_null, keep_nulls=keep_nulls, index=index)
    text = Typed("column", pa.string(), params=(column,), nullable=True)
    item = Output(column, item_of(binder, text, field.type), field.hidden)
    outputs = tuple(item if output.name == column else output for output in passed(items.schema))
    return ProjectNode(inputs=(items,), where=here(), outputs=outputs)


def unnested(node: Node, columns: Sequence[str]) -> Node:
    """Return `node` with the fields of structs in place of the structs."""
    if not columns:
        raise TopologyError("unnest needs the name of a column", remedy='write unnest("address")')
    binder = Binder(node.schema, "unnest")
    outputs: list[Output] = []
    for column in columns:
        if not isinstance(column, str):
            raise TopologyError(f"unnest needs names of columns, not {column!r}", remedy='write unnest("address")')
        if not pa.types.is_struct(binder.field(column).type):
            kind = binder.field(column).type
            raise TopologyError(
                f"unnest: {column!r} is no struct ({kind})", remedy="explode(...) takes lists apart" if is_list(kind) else "leave it out"
            )
    for made in passed(node.schema):
        if made.name not in columns:
            outputs.append(made)
            continue
        for field in fields_of(node.schema.field(made.name).type):
            part = field_of(binder, "struct_field", [binder.bind_value(ColumnRef(made.name))], field.name)
            outputs.append(Output(field.name, part, made.hidden))
    names = [output.name for output in outputs]
    for name in names:
        if names.count(name) > 1:
            raise TopologyError(
                f"unnest: there would be two columns {name!r}",
                remedy=f'rename the one that is there, or take the field out by itself: with_columns(x=col(...).struct.field("{name}"))',
            )
    return ProjectNode(inputs=(node,), where=here(), outputs=tuple(outputs))
