"""Gather keyed: key_bys of one stream by the same columns become one, so that each key is looked up once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streamdsl.logical.filter import FilterNode
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.walk import post_order

__all__ = ["gather_keyed"]


def gather_keyed(plan: LogicalPlan) -> LogicalPlan:
    """Return the plan in which stateless steps stand behind a key_by that others of the same stream share.

    ``s.key_by("a")`` and ``s.filter(p).key_by("a")`` become ``k = s.key_by("a")`` and ``k.filter(p)``.
    Identical key_bys are one node already (see `logical.plan`).
    """
    # The side of a join meets the keys of the other side, and shares its lookup with that.
    keyed = [node for node in plan.nodes if isinstance(node, KeyByNode) and not node.joins]
    bases = {(id(node.inputs[0]), node.keys): node for node in keyed}
    moved = {id(node): found for node in keyed if (found := _base(node, bases)) is not None}

    def below(node: Node) -> Sequence[Node]:
        # A base may come later in the order of the plan than what it takes over.
        return (moved[id(node)][0],) if id(node) in moved else node.inputs

    made: dict[int, Node] = {}
    ends: Sequence[Node] = plan.sinks
    for node in post_order(ends, below):
        if id(node) in moved:
            base, steps = moved[id(node)]
            made[id(node)] = made[id(base)]
            for step in steps:
                made[id(node)] = step.with_inputs([made[id(node)]])
        else:
            made[id(node)] = node.with_inputs([made[id(source)] for source in node.inputs])
    return plan.with_sinks(made[id(sink)] for sink in plan.sinks)


def _base(node: KeyByNode, bases: Mapping[tuple[int, tuple[str, ...]], KeyByNode]) -> tuple[KeyByNode, list[Node]] | None:
    """Return the key_by that `node` shares with others, and the steps between them, the lowest first; None if there is none."""
    steps: list[Node] = []
    below = node.inputs[0]
    while _keeps(below, node.keys):
        steps.insert(0, below)
        below = below.inputs[0]
        shared = bases.get((id(below), node.keys))
        if shared is not None:
            return shared, steps
    return None


def _keeps(node: Node, keys: tuple[str, ...]) -> bool:
    if node.dead_letter:
        return False
    if isinstance(node, FilterNode):
        return True
    if isinstance(node, ProjectNode):
        made = {output.name: output for output in node.outputs}
        return all(made[key].unchanged for key in keys)
    return False
