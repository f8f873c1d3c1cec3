"""Names of key lookups: the table of keys is state, so its name must not depend on positions in the plan."""

from __future__ import annotations

from streamdsl.errors import TopologyError
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.source import SourceNode

__all__ = ["lookup_names"]


def lookup_names(plan: LogicalPlan) -> dict[int, str]:
    """Return the name of each key_by (by its id): its columns, its sources; among equals, the state behind it."""
    groups: dict[str, list[KeyByNode]] = {}
    for node in plan.nodes:
        if isinstance(node, KeyByNode):
            sources = "+".join(sorted({source.name for source in _sources(node)}))
            groups.setdefault(f"keys.{'+'.join(node.keys) or 'all'}.{sources}", []).append(node)
    names: dict[int, str] = {}
    for name, nodes in groups.items():
        for node in nodes:
            names[id(node)] = name if len(nodes) == 1 else f"{name}.{_first_state(node, plan)}"
    if len(set(names.values())) != len(names):
        raise TopologyError("two key_bys cannot be told apart", remedy="name the operators behind them with name=")
    return names


def _sources(node: Node) -> list[SourceNode]:
    found: list[SourceNode] = []
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        step = waiting.pop()
        if id(step) in seen:
            continue
        seen.add(id(step))
        if isinstance(step, SourceNode):
            found.append(step)
        waiting.extend(step.inputs)
    return found


def _first_state(node: KeyByNode, plan: LogicalPlan) -> str:
    """The least name of the state kept by these keys; a key_by without state needs no lasting name."""
    names = [other.name for other in plan.nodes if isinstance(other, StatefulNode) and key_of(other) is node]
    return min(names) if names else f"stateless.{plan.numbers[id(node)]}"
