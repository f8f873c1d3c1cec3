"""Updates: rows that take the place of rows that left before, and what says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any
from weakref import WeakKeyDictionary

from streamdsl.logical.aggregate import CHANGE, WINDOW_FIELDS, AggregateNode, ReduceNode
from streamdsl.logical.deduplicate import DeduplicateNode
from streamdsl.logical.explode import ExplodeNode
from streamdsl.logical.expression import columns_of
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.join import ConnectNode, IntervalJoinNode, JoinNode, TablesJoinNode
from streamdsl.logical.key_by import key_of
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.output import OutputNode
from streamdsl.logical.process import NativeNode, ProcessNode
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.table import TableNode
from streamdsl.logical.walk import post_order
from streamdsl.logical.window_aggregate import WindowAggregateNode
from streamdsl.windows import Window

__all__ = ["Updates", "updates_of"]


@dataclass(frozen=True, slots=True)
class Updates:
    """What is known of rows of which a later one counts in place of an earlier one.

    `what` names where they come from. `key`: the columns of which the last row counts; None: they are gone. `withdraws`: rows also
    say that an earlier one no longer holds. `op` is the column that says so, None if it is gone. `filtered`: a row may be left out
    although it takes the place of one that was not.
    """

    what: str
    key: tuple[str, ...] | None
    withdraws: bool
    op: str | None
    filtered: bool = False


_KNOWN: WeakKeyDictionary[Node, Updates | None] = WeakKeyDictionary()


def updates_of(node: Node) -> Updates | None:
    """Return what is known of the rows of `node` as updates; None: each row stands for itself."""
    if node not in _KNOWN:
        for one in post_order([node], lambda below: [step for step in below.inputs if step not in _KNOWN]):
            _KNOWN[one] = _made_by(one, next((found for below in one.inputs if (found := _KNOWN[below]) is not None), None))
    return _KNOWN[node]


@singledispatch
def _made_by(node: Node, below: Updates | None) -> Updates | None:
    """Return the updates that a node makes; `below`: those of the first input that has any."""
    return below


def _of_window(window: Window, keys: tuple[str, ...]) -> Updates | None:
    if window.emit == "close" or (window.emit == "on_time" and not window.grace_ms):
        return None
    # The bounds of a count window are the times of its records: they move.
    key = None if window.kind == "count" else (*keys, *(field.name for field in WINDOW_FIELDS))
    return Updates(f"{window} with emit={window.emit}", key, window.withdraws, CHANGE.name if window.withdraws else None)


@_made_by.register
def _window_aggregate(node: WindowAggregateNode, below: Updates | None) -> Updates | None:
    return _of_window(node.window, key_of(node).keys)


@_made_by.register
def _reduce(node: ReduceNode, below: Updates | None) -> Updates | None:
    keys = key_of(node).keys
    if node.window is None:
        return Updates("the changes of a table", keys, False, CHANGE.name)
    return _of_window(node.window, keys)


@_made_by.register
def _process(node: ProcessNode, below: Updates | None) -> Updates | None:
    made = None if node.window is None else _of_window(node.window, key_of(node).keys)
    return None if made is None else _in_columns(made, {name: name for name in node.schema.visible().names})


@_made_by.register
def _aggregate(node: AggregateNode, below: Updates | None) -> Updates | None:
    return Updates("the changes of a table", key_of(node).keys, node.sign is not None, CHANGE.name)


@_made_by.register
def _table(node: TableNode, below: Updates | None) -> Updates | None:
    return Updates("the changes of a table", key_of(node).keys, True, CHANGE.name)


@_made_by.register
def _tables_join(node: TablesJoinNode, below: Updates | None) -> Updates | None:
    return Updates("the changes of a table", node.sides[0].keys, True, CHANGE.name)


@_made_by.register(NativeNode)
@_made_by.register(ConnectNode)
@_made_by.register(DeduplicateNode)
@_made_by.register(IntervalJoinNode)
@_made_by.register(OutputNode)
def _facts(node: Node, below: Updates | None) -> Updates | None:
    # A user's own operator has seen what its rows were; the others take no updates.
    return None


def _in_columns(updates: Updates, names: Mapping[str, str]) -> Updates:
    """Return the updates where columns are called by `names`; one that is not there is gone."""
    key = None if updates.key is None or any(name not in names for name in updates.key) else tuple(names[name] for name in updates.key)
    return replace(updates, key=key, op=None if updates.op is None else names.get(updates.op))


@_made_by.register
def _project(node: ProjectNode, below: Updates | None) -> Updates | None:
    if below is None:
        return None
    names = {output.value.column: output.name for output in reversed(node.outputs) if output.value.is_column}
    names.update({output.name: output.name for output in node.outputs if output.unchanged})
    told = below.op is not None and any(below.op in columns_of(output.value) for output in node.outputs if not output.value.is_column)
    made = _in_columns(below, names)
    return None if told and made.op is None else made


@_made_by.register
def _filter(node: FilterNode, below: Updates | None) -> Updates | None:
    if below is None:
        return None
    read = columns_of(node.predicate)
    if below.op is not None and below.op in read:
        return None
    return below if below.key is not None and read <= set(below.key) else replace(below, filtered=True)


@_made_by.register
def _function(node: PythonFunctionNode, below: Updates | None) -> Updates | None:
    if below is None or node.mode in ("peek", "test"):
        return below
    if node.mode == "filter":
        return replace(below, filtered=True)
    made = _in_columns(below, {name: name for name in node.schema.visible().names})
    # The function has seen what each row was.
    return None if below.op is not None and made.op is None else made


@_made_by.register
def _explode(node: ExplodeNode, below: Updates | None) -> Updates | None:
    return None if below is None else replace(below, key=None)


@_made_by.register
def _merge(node: MergeNode, below: Updates | None) -> Updates | None:
    if below is None:
        return None
    found: list[Any] = [_KNOWN[one] for one in node.inputs]
    made = [one for one in found if one is not None]
    op = below.op if all(one.op == below.op for one in made) else None
    return Updates(below.what, None, any(one.withdraws for one in made), op, any(one.filtered for one in made))


@_made_by.register
def _join(node: JoinNode, below: Updates | None) -> Updates | None:
    left = _KNOWN[node.inputs[0]]
    if left is None:
        return None
    made = _in_columns(left, {column.left: column.name for column in node.columns if column.left is not None})
    return made if node.how == "left" else replace(made, filtered=True)
