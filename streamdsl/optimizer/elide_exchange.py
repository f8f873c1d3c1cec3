"""Elide exchange: where the rows of one key are in one task already, they stay there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from streamdsl.logical.aggregate import AggregateNode
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.deduplicate import DeduplicateNode
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.frame import FrameNode
from streamdsl.logical.join import BroadcastJoinNode, ConnectNode, JoinNode
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.table import TableNode
from streamdsl.logical.window_aggregate import WindowAggregateNode

__all__ = ["elide_exchange"]

#: What keeps the key's columns as they are, and each row in the task of its key.
_KEYED = (AggregateNode, WindowAggregateNode, FrameNode, TableNode, DeduplicateNode)


@dataclasses.dataclass(frozen=True, slots=True)
class _Partitioning:
    """Rows that are still in the task that read them from `source`, and the columns that name their split."""

    source: SourceNode
    columns: frozenset[str]


def elide_exchange(plan: LogicalPlan) -> LogicalPlan:
    """Return the plan in which key_bys leave rows where they are that are in the task of their key.

    These are rows whose source is partitioned by the key, and in front of a join those that an exchange by the same key has brought
    there before: joins in a row, tables and windows that are joined by their key. Only steps that keep each row in its task, and
    the columns as they are, may stand between the two.
    """
    found: dict[int, _Partitioning | None] = {}
    keyed: dict[int, tuple[str, ...] | None] = {}  # of rows in the task of their key: its columns

    def change(node: Node) -> Node:
        before = [found[id(one)] for one in node.inputs]
        if isinstance(node, KeyByNode):
            one = before[0]
            stays = one is not None and len(node.keys) == 1 and node.keys[0] in one.columns and not node.joins
            node = dataclasses.replace(node, partitioned=stays, in_place=node.joins and keyed[id(node.inputs[0])] == node.keys)
        found[id(node)] = _partitioning(node, before)
        keyed[id(node)] = _keys_in_place(node, [keyed[id(one)] for one in node.inputs])
        return node

    return plan.rewritten(change)


def _partitioning(node: Node, before: list[_Partitioning | None]) -> _Partitioning | None:
    if isinstance(node, SourceNode):
        column = node.source.partitioned_by
        return None if column is None else _Partitioning(node, frozenset([column]))
    first = before[0]
    if first is None or isinstance(node, JoinNode):
        return None
    if isinstance(node, (FilterNode, CounterNode)) or (isinstance(node, PythonFunctionNode) and node.output is None):
        return first
    if isinstance(node, ProjectNode):
        same = (output.name for output in node.outputs if output.value.is_column and output.value.column in first.columns)
        return _Partitioning(first.source, frozenset(same))
    if isinstance(node, MergeNode) and all(one is not None and one.source is first.source for one in before):
        return _Partitioning(first.source, frozenset.intersection(*(one.columns for one in before if one is not None)))
    return None


def _keys_in_place(node: Node, before: Sequence[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """Return the columns of the key in whose task the rows are; None: they are anywhere."""
    if isinstance(node, KeyByNode):
        # The rows of a partitioned source are with the owner of their split, and not by the hash of their key.
        return None if node.partitioned or node.joins else node.keys
    if isinstance(node, JoinNode):
        return _keys_of_join(node)
    if isinstance(node, _KEYED):
        return None if key_of(node).partitioned else key_of(node).keys
    first = before[0] if len(before) == 1 else None
    if first is None:
        return None
    if isinstance(node, (FilterNode, CounterNode)) or (isinstance(node, PythonFunctionNode) and node.output is None):
        return first
    if isinstance(node, ProjectNode):
        names = {output.value.column: output.name for output in node.outputs if output.value.is_column}
        return tuple(names[key] for key in first) if all(key in names for key in first) else None
    return None


def _keys_of_join(node: JoinNode) -> tuple[str, ...] | None:
    if isinstance(node, (BroadcastJoinNode, ConnectNode)):
        return None
    names = []
    for left, right in zip(node.sides[0].keys, node.sides[1].keys, strict=True):
        # Where rows of the right side come alone, the column has their key.
        column = next((one for one in node.columns if one.left == left and (one.right == right or not node.keeps(1))), None)
        if column is None:
            return None
        names.append(column.name)
    return tuple(names)
