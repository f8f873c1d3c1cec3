"""Push filters: rows that nobody wants go as early as possible, but never before they have moved the watermark."""

from __future__ import annotations

import dataclasses

from streamdsl.logical.expression import substitute
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.project import ProjectNode

__all__ = ["push_filters"]

#: A predicate larger than this is not written out again.
MAX_WEIGHT = 500


def push_filters(plan: LogicalPlan) -> LogicalPlan:
    """Return the plan with filters in front of projections, key_bys and merges.

    A step with other readers stays where it is: the rows are wanted there. Frames, aggregates, counters and user
    code see every row, so nothing moves past them.
    """
    while True:
        for node in plan.nodes:
            moved = _moved(node, plan)
            if moved is not None:
                plan = _replaced(plan, node, moved)
                break
        else:
            return plan


def _moved(node: Node, plan: LogicalPlan) -> Node | None:
    if not isinstance(node, FilterNode):
        return None
    below = node.inputs[0]
    if node.dead_letter:
        return None  # a dead letter shows the row as the filter reads it
    if len(plan.readers[id(below)]) > 1:
        return None
    if isinstance(below, ProjectNode):
        # A row that a projection refuses must stay an error, although the filter would have dropped it.
        if any(output.value.may_fail for output in below.outputs):
            return None
        (predicate,) = substitute([node.predicate], below.by_name)
        if predicate.weight > MAX_WEIGHT:
            return None
        return below.with_inputs([dataclasses.replace(node, inputs=below.inputs, predicate=predicate)])
    if isinstance(below, KeyByNode) and node.predicate.may_fail:
        # Rows without a key are dropped before the predicate could refuse them.
        return None
    if isinstance(below, (KeyByNode, MergeNode)):
        return below.with_inputs([dataclasses.replace(node, inputs=(source,)) for source in below.inputs])
    return None


def _replaced(plan: LogicalPlan, old: Node, new: Node) -> LogicalPlan:
    made: dict[int, Node] = {}
    for node in plan.nodes:
        made[id(node)] = new if node is old else node.with_inputs([made[id(source)] for source in node.inputs])
    return plan.with_sinks(made[id(sink)] for sink in plan.sinks)
