"""Fuse: neighbouring filters become one, neighbouring projections become one."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from streamdsl.logical.expression import Typed, substitute
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.types import BOOL, literal
from streamdsl.policies import ErrorPolicy

__all__ = ["fuse"]

#: An expression larger than this is not written out again.
MAX_WEIGHT = 2000


def fuse(plan: LogicalPlan) -> LogicalPlan:
    """Return the plan with stateless neighbours united, where the first has no other reader."""
    readers = plan.readers
    made: dict[int, Node] = {}
    for node in plan.nodes:
        new = node.with_inputs([made[id(source)] for source in node.inputs])
        if len(node.inputs) == 1 and len(readers[id(node.inputs[0])]) == 1:
            new = _fused(new)
        made[id(node)] = new
    return plan.with_sinks(made[id(sink)] for sink in plan.sinks)


def _fused(node: Node) -> Node:
    below = node.inputs[0]
    if isinstance(node, FilterNode) and isinstance(below, FilterNode) and _agree(node, below):
        both = _and(below.predicate, node.predicate)
        return dataclasses.replace(node, inputs=below.inputs, predicate=both, errors=_policy(node, below))
    if isinstance(node, ProjectNode) and isinstance(below, ProjectNode) and _agree(node, below):
        return _fused_projects(node, below)
    return node


def _and(first: Typed, second: Typed) -> Typed:
    if first.nullable and second.may_fail:
        # Where the first is null its row is gone: the second must not be asked.
        first = Typed("coalesce", BOOL, (first, literal(False, pa.bool_())), nullable=False)
    return Typed("and", BOOL, (first, second), nullable=first.nullable or second.nullable)


def _fused_projects(node: ProjectNode, below: ProjectNode) -> Node:
    used = node.needs(frozenset(node.schema.names))
    # What the first computes and the second does not read would no longer be computed, nor fail.
    if any(output.value.may_fail for output in below.outputs if output.name not in used):
        return node
    values = substitute([output.value for output in node.outputs], below.by_name)
    outputs = tuple(dataclasses.replace(output, value=value) for output, value in zip(node.outputs, values, strict=True))
    if sum(output.value.weight for output in outputs) > MAX_WEIGHT:
        return node
    return dataclasses.replace(node, inputs=below.inputs, outputs=outputs, errors=_policy(node, below))


def _agree(node: FilterNode | ProjectNode, below: FilterNode | ProjectNode) -> bool:
    """Whether a record fares the same in both as in one of them. (A dead letter shows the row as its own step has read it.)"""
    if node.dead_letter or below.dead_letter:
        return False
    return node.errors == below.errors or not (node.refuses and below.refuses)


def _policy(node: FilterNode | ProjectNode, below: FilterNode | ProjectNode) -> ErrorPolicy | None:
    return below.errors if below.refuses else node.errors
