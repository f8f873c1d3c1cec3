"""What a pass must not change, checked after every pass."""

from __future__ import annotations

from streamdsl.errors import InternalError
from streamdsl.logical.aggregate import AggregateNode
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.expression import Typed, columns_of
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.frame import FrameNode
from streamdsl.logical.join import JoinNode
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.plan import LogicalPlan
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.window_aggregate import WindowAggregateNode

__all__ = ["verify"]


def verify(before: LogicalPlan, after: LogicalPlan, title: str) -> None:
    """Raise `InternalError` if `after` does not mean what `before` does.

    The sinks get the same columns, the state has the same names, and every expression finds its columns with the
    types it was bound to.
    """
    old = [(sink.name, sink.keys, sink.inputs[0].schema.visible()) for sink in before.sinks]
    new = [(sink.name, sink.keys, sink.inputs[0].schema.visible()) for sink in after.sinks]
    if old != new:
        raise InternalError(f"optimiser pass {title} changed what the sinks get: {old} became {new}")
    if sorted(before.state_names) != sorted(after.state_names):
        raise InternalError(f"optimiser pass {title} changed the state: {before.state_names}, {after.state_names}")
    for node in after.nodes:
        _verify_node(node, title)


def _expressions(node: Node) -> tuple[Typed, ...]:
    if isinstance(node, (FilterNode, CounterNode)):
        return (node.predicate,)
    if isinstance(node, ProjectNode):
        return tuple(output.value for output in node.outputs)
    if isinstance(node, AggregateNode):
        return node.expressions()
    if isinstance(node, (FrameNode, WindowAggregateNode)):
        return tuple(part for made in node.aggregates for part in made.expressions())
    return ()


def _verify_node(node: Node, title: str) -> None:
    schema = node.schema
    for expression in _expressions(node):
        missing = [name for name in columns_of(expression) if name not in node.inputs[0].schema]
        if missing:
            raise InternalError(f"optimiser pass {title}: {node.verb} {node.text()} lost its columns {missing}")
    if isinstance(node, JoinNode):
        for side, one in enumerate(node.inputs):
            missing = [name for name in (*node.kept(side), *node.sides[side].keys) if name not in one.schema]
            if missing:
                raise InternalError(f"optimiser pass {title}: {node.verb} {node.text()} lost its columns {missing}")
    if isinstance(node, MergeNode):
        shapes = {tuple((field.name, field.type) for field in one.schema.fields) for one in node.inputs}
        if len(shapes) != 1:
            raise InternalError(f"optimiser pass {title}: a merge of different columns: {shapes}")
    if not schema.fields and node.verb == "sink":
        raise InternalError(f"optimiser pass {title}: a sink without columns")
