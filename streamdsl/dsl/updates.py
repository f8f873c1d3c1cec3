"""Rows that take the place of earlier ones: which verbs may take them, and the table that they make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamdsl.dsl.changes import free_name
from streamdsl.dsl.written import here
from streamdsl.errors import TopologyError
from streamdsl.logical.aggregate import CHANGE, AggregateNode
from streamdsl.logical.bind import Binder
from streamdsl.logical.expression import Typed, TypedAggregate, columns_of
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.project import Output, ProjectNode, passed
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.table import TableNode
from streamdsl.logical.types import BOOL, TEXT, is_passed_through, literal
from streamdsl.logical.updates import Updates, updates_of
from streamdsl.logical.walk import post_order

__all__ = ["check_told", "in_order", "last_rows", "refuse_updates", "regrouped_updates", "regroups", "sees_updates", "table_keys"]

_CLOSE = 'use emit="close" before'
_TABLE = "make a table of their last rows with .to_table(), which is exact in everything behind it"


def check_told(verb: str, node: Node) -> None:
    """Refuse rows some of which are withdrawn while no column says which."""
    found = updates_of(node)
    if found is not None and found.withdraws and found.op is None:
        raise TopologyError(
            f"{verb}: the column {CHANGE.name!r} is gone, and without it rows that {found.what} withdraws would count as new ones",
            remedy=f'keep {CHANGE.name!r}, or take the rows that stand first: .filter(col("{CHANGE.name}") != "withdraw")',
        )


def refuse_updates(verb: str, node: Node, *, withdrawn_only: bool = False, table: bool = False) -> None:
    """Refuse updates in a verb that takes each row for itself; `withdrawn_only`: rows that are only replaced may come.

    `table`: the remedy is a table.
    """
    found = updates_of(node)
    if found is None or (withdrawn_only and not found.withdraws) or _tells_by_key(node, found):
        return
    raise TopologyError(
        f"{verb} takes each row as final, and those of {found.what} take the place of earlier ones",
        remedy=f"{_TABLE}, or {_CLOSE}" if table else f"{_CLOSE}" if "emit=" in found.what else _TABLE,
    )


def _tells_by_key(node: Node, found: Updates) -> bool:
    """Whether the rows are apart by what they are: their key reads `op`."""
    return found.op is not None and isinstance(node, KeyByNode) and found.op in node.keys


def sees_updates(node: Node, made: Iterable[TypedAggregate]) -> bool:
    """Whether rows of `node` are updates, and these aggregates do not look at what each one is."""
    found = updates_of(node)
    if found is None or (found.op is not None and found.op in key_of(node).keys):
        return False
    return not all(found.op is not None and found.op in columns_of(*one.expressions()) for one in made)


def regroups(node: Node) -> bool:
    """Whether what `node` aggregates are updates, so that earlier ones have to be taken out again."""
    step = node
    while not isinstance(step, AggregateNode):
        step = step.inputs[0]
    return step.sign is None and sees_updates(step.inputs[0], step.aggregates)


def regrouped_updates(verb: str, node: Node) -> tuple[Node, tuple[str, ...]]:
    """Return the table of the rows that count, and its key."""
    found = updates_of(node)
    assert found is not None
    if found.filtered:
        raise TopologyError(
            f"{verb}: a row of {found.what} that the condition before leaves out may take the place of one that it kept",
            remedy="make a table first, .to_table().filter(...).group_by(...), or " + _CLOSE,
        )
    if found.key is None:
        raise TopologyError(
            f"{verb}: no columns say which earlier row one of {found.what} takes the place of",
            remedy="keep the key's columns, window_start and window_end, or " + _CLOSE,
        )
    return last_rows(node, found.key, None), found.key


def table_keys(node: Node, keyed: bool, key: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the key of the table that `to_table` makes."""
    found = updates_of(node)
    if key is not None:
        keys = (key,) if isinstance(key, str) else tuple(key)
    elif found is not None and found.key is not None:
        keys = found.key
    elif keyed:
        keys = key_of(node).keys
    else:
        raise TopologyError("to_table does not know the key", remedy='name its columns: to_table(key="id")')
    for column in keys:
        if is_passed_through(Binder(node.schema, "to_table").field(column).type):
            raise TopologyError(f"to_table: {column!r} cannot be a key", remedy="take one of its parts")
    if found is not None and found.filtered:
        raise TopologyError(
            f"to_table: a row of {found.what} that the condition before leaves out may take the place of one that it kept",
            remedy="write .to_table(...).filter(...)",
        )
    return keys


def in_order(node: Node, keys: Sequence[str] | None = None) -> Node:
    """Return rows that replace one another, by `keys` (default: by their own), without the key_bys between what made them and `node`.

    A later row of one of `keys` may have another value in a column by which the rows are sent to tasks. Then it may come before
    the earlier one by another way, or be dropped for its null, while the earlier one stays.
    """
    found = updates_of(node)
    if found is None:
        return node
    keys = found.key if keys is None else keys
    if keys is None:
        return node
    steps: list[Node] = []
    step = node
    while isinstance(step, KeyByNode | ProjectNode | FilterNode | PythonFunctionNode) and getattr(step, "calls", None) is None:
        steps.append(step)
        step = step.inputs[0]
    if all(set(one.keys) <= set(keys) for one in steps if isinstance(one, KeyByNode)):
        return node
    for one in reversed(steps):
        step = step if isinstance(one, KeyByNode) else one.with_inputs([step])
    return step


def last_rows(node: Node, keys: Sequence[str], name: str | None) -> TableNode:
    """Return the table of the last row of each key; a row that says that it is withdrawn takes the key's row away."""
    found = updates_of(node)
    node = in_order(node, keys)
    op = None if found is None else found.op
    visible = [field.name for field in node.schema.visible().fields if field.name != op]
    marker = free_name("_removed", node.schema)
    if op is None:
        removed = literal(False, BOOL)
    else:
        removed = Typed("eq", BOOL, (Typed("column", TEXT, params=(op,), nullable=False), literal("withdraw", TEXT)), nullable=False)
    outputs = (*passed(node.schema, visible), Output(marker, removed, hidden=True))
    rows = ProjectNode(inputs=(node,), where=here(), outputs=outputs)
    sources = sorted(one.name for one in post_order([node], lambda below: below.inputs) if isinstance(one, (SourceNode, StatefulNode)))
    return TableNode(
        inputs=(KeyByNode(inputs=(rows,), where=here(), keys=tuple(keys)),),
        where=here(),
        name=name or f"table.{'+'.join(sources)}",
        named=name is not None,
        removed=marker,
    )
