"""Names of key lookups: the table of keys is state, so its name must not depend on positions in the plan."""

from __future__ import annotations

from streamdsl.errors import TopologyError
from streamdsl.logical.join import JoinNode
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.node import StatefulNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.source import SourceNode

__all__ = ["lookup_names"]


def lookup_names(plan: LogicalPlan) -> dict[int, str]:
    """Return the name of each key_by (by its id): its columns, its sources; among equals, the state behind it."""
    sources: dict[int, frozenset[str]] = {}
    states: dict[int, list[str]] = {}
    groups: dict[str, list[KeyByNode]] = {}
    for node in plan.nodes:
        below = [sources[id(one)] for one in node.inputs]
        sources[id(node)] = below[0] if len(below) == 1 else frozenset().union(*below)
        if isinstance(node, SourceNode):
            sources[id(node)] = frozenset((node.name,))
        elif isinstance(node, (JoinNode, KeyByNode)) and getattr(node, "joins", True):
            continue  # the lookups of a join are called by its name
        elif isinstance(node, KeyByNode):
            read = "+".join(sorted(sources[id(node)]))
            groups.setdefault(f"keys.{'+'.join(node.keys) or 'all'}.{read}", []).append(node)
        elif isinstance(node, StatefulNode):
            states.setdefault(id(key_of(node)), []).append(node.name)
    names: dict[int, str] = {}
    for name, nodes in groups.items():
        for node in nodes:
            # Among equals by the least name of the state behind; without state a name need not last.
            behind = min(states.get(id(node), [f"stateless.{plan.numbers[id(node)]}"]))
            names[id(node)] = name if len(nodes) == 1 else f"{name}.{behind}"
    if len(set(names.values())) != len(names):
        raise TopologyError("two key_bys cannot be told apart", remedy="name the operators behind them with name=")
    return names
