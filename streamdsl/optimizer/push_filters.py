"""Push filters: rows that nobody wants go as early as possible, but never before they have moved the watermark."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

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
#: So many moves a plan is worth at least, and two for each node beyond: where thousands of filters and projections alternate,
#: each filter would otherwise pass all before it.
LEAST_MOVES = 2000
#: Steps that one filter moves at most.
MAX_STEPS = 200


def push_filters(plan: LogicalPlan) -> LogicalPlan:
    """Return the plan with filters in front of projections, key_bys and merges.

    A step with other readers stays where it is: the rows are wanted there. Frames, aggregates, counters and user
    code see every row, so nothing moves past them.
    """
    made: dict[int, Node] = {}
    shared: set[int] = set()
    left = max(LEAST_MOVES, 2 * len(plan.nodes))
    for node in plan.nodes:
        new = node.with_inputs([made[id(source)] for source in node.inputs])
        if isinstance(new, FilterNode) and not new.dead_letter:  # a dead letter shows the row as the filter reads it
            new, moves = _pushed(new, shared, min(left, MAX_STEPS))
            left -= moves
        made[id(node)] = new
        if len(plan.readers[id(node)]) > 1:
            shared.add(id(new))
    return plan.with_sinks(made[id(sink)] for sink in plan.sinks)


def _pushed(node: FilterNode, shared: Set[int], most: int) -> tuple[Node, int]:
    """Return what stands in the place of `node` when it has moved, and what that cost: a step is one move or more."""
    passed: list[Node] = []
    result: Node = node
    moves = 0
    while moves < most and id(node.inputs[0]) not in shared:
        below = node.inputs[0]
        if isinstance(below, MergeNode):
            branches = [_pushed(replace(node, inputs=(source,)), shared, most - moves - 1) for source in below.inputs]
            result = below.with_inputs([branch for branch, _ in branches])
            moves += sum(steps + 1 for _, steps in branches)
            break
        moved = _before(node, below)
        if moved is None:
            break
        passed.append(below)
        result = node = moved
        moves += 1 + moved.predicate.weight // 8  # a large predicate is dear to write out
    for step in reversed(passed):
        result = step.with_inputs([result])
    return result, moves


def _before(node: FilterNode, below: Node) -> FilterNode | None:
    """Return the filter as it is in front of `below`; None if it cannot stand there."""
    if isinstance(below, ProjectNode):
        # A row that a projection refuses must stay an error, although the filter would have dropped it.
        if any(output.value.may_fail for output in below.outputs):
            return None
        (predicate,) = substitute([node.predicate], below.by_name)
        return None if predicate.weight > MAX_WEIGHT else replace(node, inputs=below.inputs, predicate=predicate)
    # Rows without a key are dropped before the predicate could refuse them.
    if isinstance(below, KeyByNode) and not node.predicate.may_fail:
        return replace(node, inputs=below.inputs)
    return None
