"""Elide exchange: where a source is partitioned by the key, the rows of one key are in one task already."""

from __future__ import annotations

import dataclasses

from streamdsl.logical.counter import CounterNode
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.join import JoinNode
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.source import SourceNode

__all__ = ["elide_exchange"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Partitioning:
    """Rows that are still in the task that read them from `source`, and the columns that name their split."""

    source: SourceNode
    columns: frozenset[str]


def elide_exchange(plan: LogicalPlan) -> LogicalPlan:
    """Return the plan in which key_bys of a column that the source is partitioned by leave the rows where they are.

    Only steps that keep each row in its task, and the column as it is, may stand between the two.
    """
    found: dict[int, _Partitioning | None] = {}

    def change(node: Node) -> Node:
        before = [found[id(one)] for one in node.inputs]
        if isinstance(node, KeyByNode):
            one = before[0]
            stays = one is not None and len(node.keys) == 1 and node.keys[0] in one.columns and not node.joins
            node = dataclasses.replace(node, partitioned=stays)
        found[id(node)] = _partitioning(node, before)
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
