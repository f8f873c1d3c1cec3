"""Printing a logical plan: a line for each node, numbered, inputs by their numbers."""

from __future__ import annotations

from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan

__all__ = ["describe"]


def describe(plan: LogicalPlan) -> str:
    """Return the plan as text.

    ``%3 = filter %2: amount > 10.0`` is node 3, which filters what node 2 gives.
    """
    return "\n".join(_line(node, plan) for node in plan.nodes)


def _line(node: Node, plan: LogicalPlan) -> str:
    read = ", ".join(f"%{plan.numbers[id(source)]}" for source in node.inputs)
    head = f"%{plan.numbers[id(node)]} = {node.verb}{' ' + read if read else ''}"
    text = node.text()
    if text:
        head = f"{head}: {text}" if read else f"{head} {text}"
    notes = node.notes()
    return f"{head}  {notes}" if notes else head
