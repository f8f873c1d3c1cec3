"""Grace of windows and joins as a watermark that comes so much later: Flink SQL takes no rows behind it."""

from __future__ import annotations

from streamdsl.logical.join import IntervalJoinNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.window_aggregate import WindowAggregateNode

__all__ = ["waits_of"]


def waits_of(plan: LogicalPlan) -> dict[int, int]:
    """Return by how many milliseconds the watermark of each node (by its id) has to be late for what reads it.

    A window that reads windows waits for its own grace behind theirs, here as there.
    """
    found = {id(node): 0 for node in plan.nodes}
    for node in reversed(plan.nodes):
        wait = found[id(node)] + _own(node)
        for source in node.inputs:
            found[id(source)] = max(found[id(source)], wait)
    return found


def _own(node: Node) -> int:
    if isinstance(node, WindowAggregateNode):
        return node.window.grace_ms
    return node.grace_ms if isinstance(node, IntervalJoinNode) else 0
