"""Which policy for bad records counts at each node (see `streamdsl.policies`)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from streamdsl.logical.node import Node
from streamdsl.logical.source import SourceNode
from streamdsl.policies import ErrorPolicy, checked_policy, strictest

if TYPE_CHECKING:
    from streamdsl.logical.plan import LogicalPlan

__all__ = ["with_policies"]


def with_policies(plan: LogicalPlan, default: ErrorPolicy) -> LogicalPlan:
    """Return the plan in which every node that can refuse a record says what becomes of it; others say "fail".

    A node without a policy has that of its sources, and a source without one `default`.
    """
    inherited: dict[int, ErrorPolicy] = {}

    def change(node: Node) -> Node:
        above = strictest(inherited[id(source)] for source in node.inputs) or default
        own: ErrorPolicy | None = getattr(node, "errors", None)
        if isinstance(node, SourceNode):
            own = own or checked_policy(node.source.errors, f"source {node.name!r}")
            above = own or above
        if hasattr(node, "errors"):
            node = dataclasses.replace(node, errors=(own or above) if node.refuses else "fail")  # type: ignore[call-arg]
        inherited[id(node)] = above
        kept.append(node)
        return node

    kept: list[Node] = []  # ids are of nodes that live
    return plan.rewritten(change)
