"""Checks and plan pieces of `merge` and `branch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamdsl.dsl.written import here
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, lit
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.project import narrowed
from streamdsl.schema import Schema

__all__ = ["branched", "merged"]


def merged(nodes: Sequence[Node]) -> Node:
    """Return the union of nodes with equal columns, brought into the order of the first."""
    if len(nodes) == 1:
        return nodes[0]
    first = nodes[0].schema
    for number, node in enumerate(nodes[1:], start=2):
        _check_same(first.visible(), node.schema.visible(), number)
    # Hidden columns go on only where every stream still has them.
    names = [
        field.name
        for field in first.fields
        if not field.hidden
        or all(
            field.name in node.schema and node.schema.field(field.name).hidden and node.schema.field(field.name).type == field.type
            for node in nodes
        )
    ]
    return MergeNode(inputs=tuple(narrowed(node, names) for node in nodes), where=here())


def _check_same(first: Schema, other: Schema, number: int) -> None:
    missing = [name for name in first.names if name not in other]
    extra = [name for name in other.names if name not in first]
    if missing or extra:
        parts = [f"lacks {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"has {', '.join(map(repr, extra))} besides"] if extra else []
        raise TopologyError(
            f"merge: stream {number} {' and '.join(parts)}",
            remedy="bring the streams to the same columns with select(...) or rename(...)",
        )
    for field in first.fields:
        type_ = other.field(field.name).type
        if type_ != field.type:
            raise TopologyError(
                f"merge: column {field.name!r} is {field.type} in stream 1 and {type_} in stream {number}",
                remedy=f"cast one of them: with_columns({field.name}=col({field.name!r}).cast(...))",
            )


def branched(conditions: Mapping[str, Expr], default: str | None) -> dict[str, Expr]:
    """Return, for each branch, the condition of exactly its rows: the first match wins, null is no match."""
    if not conditions:
        raise TopologyError("branch needs at least one condition")
    if default is not None and default in conditions:
        raise TopologyError(f"branch: {default!r} is a condition and the default", remedy="give default= another name")
    result: dict[str, Expr] = {}
    earlier: Expr | None = None
    for name, condition in conditions.items():
        if not isinstance(condition, (Expr, bool)):
            raise TopologyError(f"branch: {name}={condition!r} is not an expression")
        matches = lit(condition) if isinstance(condition, bool) else condition
        certain = matches.fill_null(False)
        result[name] = matches if earlier is None else ~earlier & certain
        earlier = certain if earlier is None else earlier | certain
    if default is not None and earlier is not None:
        result[default] = ~earlier
    return result
