"""explode: the list is taken apart as text, then each item becomes a value of its type."""

from __future__ import annotations

import pyarrow as pa

from streamdsl.dsl.written import here
from streamdsl.errors import TopologyError
from streamdsl.logical.bind import Binder
from streamdsl.logical.cast import item_of
from streamdsl.logical.explode import ExplodeNode
from streamdsl.logical.expression import Typed
from streamdsl.logical.node import Node
from streamdsl.logical.project import Output, ProjectNode, passed
from streamdsl.logical.types import is_list

__all__ = ["exploded"]


def exploded(node: Node, column: str, *, empty_as_null: bool, keep_nulls: bool) -> Node:
    """Return `node` with a row for each item of the list in `column`."""
    if not isinstance(column, str):
        raise TopologyError(f"explode needs the name of a column, not {column!r}", remedy="write explode() once for each column")
    binder = Binder(node.schema, "explode")
    field = binder.field(column)
    if not is_list(field.type):
        raise TopologyError(f"explode: {column!r} is no list ({field.type})", remedy='make one, such as col("x").str.split(",")')
    items = ExplodeNode(inputs=(node,), where=here(), column=column, empty_as_null=empty_as_null, keep_nulls=keep_nulls)
    text = Typed("column", pa.string(), params=(column,), nullable=True)
    item = Output(column, item_of(binder, text, field.type), field.hidden)
    outputs = tuple(item if output.name == column else output for output in passed(items.schema))
    return ProjectNode(inputs=(items,), where=here(), outputs=outputs)
