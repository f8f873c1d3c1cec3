"""Prune columns: nothing is read, computed or passed on that nobody reads."""

from __future__ import annotations

import dataclasses

from streamdsl.logical.aggregate import ReduceNode
from streamdsl.logical.join import ConnectNode
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Columns, Node, StatefulNode, positions_of
from streamdsl.logical.output import OutputNode
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.process import NativeNode, ProcessNode
from streamdsl.logical.project import ProjectNode, narrowed
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.source import SourceNode

__all__ = ["prune_columns"]

#: Nodes that read hidden columns only to say where a row came from that they refuse.
_USER_CODE = (PythonFunctionNode, ProcessNode, ReduceNode, ConnectNode)


def prune_columns(plan: LogicalPlan, *, places: bool = True) -> LogicalPlan:
    """Return the plan in which sources read, and projections make, only columns that are used.

    `places`: where late rows came from, and those that a Python function refuses, is used, too.
    """
    wanted = _wanted(plan, places)

    made: dict[int, Node] = {}
    for node in plan.nodes:
        used = wanted[id(node)]
        inputs = [made[id(source)] for source in node.inputs]
        if isinstance(node, MergeNode):
            names = [name for name in node.schema.names if name in used] or list(node.schema.names[:1])
            inputs = [narrowed(source, names) for source in inputs]
        if isinstance(node, NativeNode):
            inputs = [narrowed(inputs[0], node.inputs[0].schema.visible().names)]
        made[id(node)] = _pruned(node.with_inputs(inputs), used)
    return plan.with_sinks(made[id(sink)] for sink in plan.sinks)


def _pruned(node: Node, used: Columns) -> Node:
    if isinstance(node, SourceNode):
        return dataclasses.replace(node, columns=tuple(name for name in node.columns if name in used))
    if isinstance(node, ProjectNode):
        kept = tuple(output for output in node.outputs if output.name in used)
        return _without_noop(dataclasses.replace(node, outputs=kept or node.outputs[:1]))
    return node


def _without_noop(node: ProjectNode) -> Node:
    """A projection that passes its whole input in its order is nothing."""
    schema = node.inputs[0].schema
    same = all(output.unchanged for output in node.outputs) and node.schema == schema
    return node.inputs[0] if same else node


def _wanted(plan: LogicalPlan, places: bool) -> dict[int, Columns]:
    """Return the columns of each node (by its id) that somebody reads."""
    found: dict[int, set[str]] = {id(node): set() for node in plan.nodes}
    located = places and any(isinstance(node, SourceNode) and node.source.locates_rows for node in plan.nodes)
    for node in reversed(plan.nodes):
        used = frozenset(found[id(node)])
        if isinstance(node, OutputNode):
            source = node.inputs[0]
            # What an operator passes out by a tag it has from its own input.
            for upstream in source.inputs:
                found[id(upstream)] |= source.tag_needs(node.tag, used)
            continue
        if isinstance(node, MergeNode):
            used = used or frozenset(node.schema.names[:1])
        if isinstance(node, ProjectNode) and not used:
            used = frozenset(output.name for output in node.outputs[:1])
        if isinstance(node, SourceNode):
            found[id(node)] |= node.needs(used)
            if not found[id(node)]:
                found[id(node)] = {node.columns[0]}
            continue
        for port, source in enumerate(node.inputs):
            needed = node.needs_of(port, used)
            if not places and isinstance(node, _USER_CODE):
                needed -= positions_of(source.schema) - used
            found[id(source)] |= needed
            if located and isinstance(node, StatefulNode) and node.drops_late:
                found[id(source)] |= positions_of(source.schema)
    return {key: frozenset(value) for key, value in found.items()}
