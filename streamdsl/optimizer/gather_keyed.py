"""Gather keyed: key_bys of one stream by the same columns become one, so that each key is looked up once."""

from __future__ import annotations

from streamdsl.logical.filter import FilterNode
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.project import ProjectNode

__all__ = ["gather_keyed"]


def gather_keyed(plan: LogicalPlan) -> LogicalPlan:
    """Return the plan in which stateless steps stand behind a key_by that others of the same stream share.

    ``s.key_by("a")`` and ``s.filter(p).key_by("a")`` become ``k = s.key_by("a")`` and ``k.filter(p)``.
    Identical key_bys are one node already (see `logical.plan`).
    """
    while True:
        bases = {(id(node.inputs[0]), node.keys): node for node in plan.nodes if isinstance(node, KeyByNode)}
        for node in plan.nodes:
            if not isinstance(node, KeyByNode):
                continue
            moved = _behind(node, bases)
            if moved is not None:
                plan = _replaced(plan, node, moved)
                break
        else:
            return plan


def _behind(node: KeyByNode, bases: dict[tuple[int, tuple[str, ...]], KeyByNode]) -> Node | None:
    """Return the steps in front of `node` put behind the key_by they share with others, if there is one."""
    steps: list[Node] = []
    below = node.inputs[0]
    while _keeps(below, node.keys):
        steps.append(below)
        below = below.inputs[0]
        shared = bases.get((id(below), node.keys))
        if shared is not None:
            result: Node = shared
            for step in reversed(steps):
                result = step.with_inputs([result])
            return result
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


def _replaced(plan: LogicalPlan, old: Node, new: Node) -> LogicalPlan:
    made: dict[int, Node] = {}

    def rebuilt(node: Node) -> Node:
        known = made.get(id(node))
        if known is None:
            known = made[id(node)] = node.with_inputs([rebuilt(source) for source in node.inputs])
        return known

    # The shared key_by may come later in the order of the plan than what it takes over.
    made[id(old)] = rebuilt(new)
    for node in plan.nodes:
        rebuilt(node)
    return plan.with_sinks(made[id(sink)] for sink in plan.sinks)
