"""Checks and plan pieces of `merge` and `branch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from streamdsl.dsl.columns import no_aggregates
from streamdsl.dsl.written import here
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, col, lit
from streamdsl.logical.bind import Binder
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.project import narrowed
from streamdsl.logical.python_function import PythonFunctionNode
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


def branched(node: Node, conditions: Mapping[str, Any], default: str | None, verb: str = "branch") -> dict[str, Node]:
    """Return, for each branch, the node of exactly its rows: the first match wins, null is no match.

    A function is called once for each row that no branch before has taken.
    """
    if not conditions:
        raise TopologyError("branch needs at least one condition")
    if default is not None and default in conditions:
        raise TopologyError(f"branch: {default!r} is a condition and the default", remedy="give default= another name")
    names = node.schema.names
    result: dict[str, Node] = {}
    taken: Expr | None = None  # by the branches before, since the last function
    for name, condition in conditions.items():
        if not isinstance(condition, (Expr, bool)):
            node, taken = _tested(_kept(node, None if taken is None else ~taken, verb), name, condition), None
        matches = _condition(name, condition)
        certain = matches.fill_null(False)
        result[name] = narrowed(_kept(node, matches if taken is None else ~taken & certain, f"branch {name!r}"), names)
        taken = certain if taken is None else taken | certain
    if default is not None and taken is not None:
        result[default] = narrowed(_kept(node, ~taken, verb), names)
    return result


def _condition(name: str, condition: Any) -> Expr:
    if isinstance(condition, bool):
        return lit(condition)
    if not isinstance(condition, Expr):
        return col(_test_column(name))
    no_aggregates("branch", condition.node)
    return condition


def _test_column(name: str) -> str:
    return f"_is_{name}"


def _tested(node: Node, name: str, function: Any) -> Node:
    if not callable(function):
        raise TopologyError(f"branch: {name}={function!r} is not a condition", remedy="give an expression or a function of the row")
    return PythonFunctionNode(inputs=(node,), where=here(), mode="test", function=function, test=_test_column(name))


def _kept(node: Node, condition: Expr | None, verb: str) -> Node:
    if condition is None:
        return node
    return FilterNode(inputs=(node,), where=here(), predicate=Binder(node.schema, verb).bind_bool(condition.node))
