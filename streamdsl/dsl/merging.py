"""Checks and plan pieces of `merge` and `branch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamdsl.dsl.columns import Place, judged_by
from streamdsl.dsl.written import here
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr, col, condition_of
from streamdsl.functions import check_function
from streamdsl.logical.bind import Binder
from streamdsl.logical.expression import Expression, Typed
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.project import Output, ProjectNode, narrowed, passed
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.types import literal
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Schema

__all__ = ["branched", "merged"]


def merged(nodes: Sequence[Node], *, union: bool = False) -> Node:
    """Return the union of nodes with equal columns, brought into the order of the first; `union`: nulls for what one lacks."""
    if len(nodes) == 1:
        return nodes[0]
    if union:
        nodes = _widened(nodes)
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


def _widened(nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes with all columns that one of them has, in the order in which they come."""
    fields: dict[str, tuple[Any, int]] = {}
    for number, node in enumerate(nodes, start=1):
        for field in node.schema.visible().fields:
            known, where = fields.setdefault(field.name, (field, number))
            if field.type != known.type:
                raise _other_type(field.name, known.type, where, field.type, number)
    made = []
    for node in nodes:
        lacking = [field for field, _ in fields.values() if field.name not in node.schema.visible()]
        # A hidden column of that name is not the one that others show.
        taken = [output for output in passed(node.schema) if output.name not in {field.name for field in lacking}]
        nulls = [Output(field.name, literal(None, field.type)) for field in lacking]
        made.append(ProjectNode(inputs=(node,), where=here(), outputs=(*taken, *nulls)) if nulls else node)
    return made


def _other_type(name: str, one: Any, where: int, other: Any, number: int) -> TopologyError:
    return TopologyError(
        f"merge: column {name!r} is {one} in stream {where} and {other} in stream {number}",
        remedy=f"cast one of them: with_columns({name}=col({name!r}).cast(...))",
    )


def _check_same(first: Schema, other: Schema, number: int) -> None:
    missing = [name for name in first.names if name not in other]
    extra = [name for name in other.names if name not in first]
    if missing or extra:
        parts = [f"lacks {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"has {', '.join(map(repr, extra))} besides"] if extra else []
        raise TopologyError(
            f"merge: stream {number} {' and '.join(parts)}",
            remedy='bring the streams to the same columns with select(...) or rename(...); with columns="union" what one lacks is null',
        )
    for field in first.fields:
        type_ = other.field(field.name).type
        if type_ != field.type:
            raise _other_type(field.name, field.type, 1, type_, number)


def branched(place: Place, conditions: Mapping[str, Any], default: str | None) -> dict[str, Node]:
    """Return, for each branch, the node of exactly its rows: the first match wins, null is no match.

    Aggregates in conditions see every row. A function is called once for each row that no branch before has taken.
    """
    if not conditions:
        raise TopologyError("branch needs at least one condition")
    if default is not None and default in conditions:
        raise TopologyError(f"branch: {default!r} is a condition and the default", remedy="give default= another name")
    names = place.node.schema.names
    typed = {name: expression for name, condition in conditions.items() if (expression := _expression(name, condition)) is not None}
    node, plain = judged_by(place, list(typed.values()))
    judged = dict(zip(typed, plain, strict=True))
    if len(judged) < len(conditions):
        node = _hiding(node, place.node.schema)
    result: dict[str, Node] = {}
    taken: Expr | None = None  # by the branches before, since the last function
    for name, condition in conditions.items():
        verb = f"branch {name!r}"
        if name in judged:
            matches = Expr(judged[name])
        else:
            column = _free_name(f"_is_{name}", node.schema)
            node, taken = _kept(node, None if taken is None else ~taken, verb, place.errors), None
            node = PythonFunctionNode(inputs=(node,), where=here(), mode="test", function=condition, test=column, errors=place.errors)
            matches = col(column)
        certain = matches.fill_null(False)
        own = matches if taken is None else ~taken & certain
        if Binder(node.schema, verb).bind_bool(own.node).may_fail:
            # Judged once, and not by each of the branches again: a record that fails is refused once.
            column = _free_name(f"_is_{name}", node.schema)
            node = _with_test(node, column, Binder(node.schema, verb).bind_bool(own.fill_null(False).node), place.errors)
            own = certain = col(column)
        result[name] = narrowed(_kept(node, own, verb, place.errors), names)
        taken = certain if taken is None else taken | certain
    if default is not None and taken is not None:
        result[default] = narrowed(_kept(node, ~taken, place.verb, place.errors), names)
    return result


def _hiding(node: Node, seen: Schema) -> Node:
    """Return the node whose columns beyond `seen` are hidden from functions."""
    if node.schema == seen:
        return node
    outputs = (replace(output, hidden=output.hidden or output.name not in seen) for output in passed(node.schema))
    return ProjectNode(inputs=(node,), where=here(), outputs=tuple(outputs))


def _expression(name: str, condition: Any) -> Expression | None:
    """Return the condition if it is an expression; None for a function."""
    if isinstance(condition, Expr) or not callable(condition):
        return condition_of(f"branch: {name}", condition)
    check_function(f"branch: {name}", condition, "a function of the row")
    return None


def _free_name(name: str, schema: Schema) -> str:
    return name if name not in schema else _free_name(f"{name}_", schema)


def _with_test(node: Node, column: str, test: Typed, errors: ErrorPolicy | None) -> Node:
    outputs = (*passed(node.schema), Output(column, test, hidden=True))
    return ProjectNode(inputs=(node,), where=here(), outputs=outputs, errors=errors)


def _kept(node: Node, condition: Expr | None, verb: str, errors: ErrorPolicy | None) -> Node:
    if condition is None:
        return node
    return FilterNode(inputs=(node,), where=here(), predicate=Binder(node.schema, verb).bind_bool(condition.node), errors=errors)
