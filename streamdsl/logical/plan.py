"""The logical plan: a graph of nodes that ends in sinks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from streamdsl.errors import TopologyError
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node, StatefulNode
from streamdsl.logical.output import OutputNode
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.refusing import with_policies
from streamdsl.logical.sink import SinkNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.walk import post_order
from streamdsl.policies import DeadLetter, ErrorPolicy

__all__ = ["LogicalPlan", "build"]


@dataclass(frozen=True, eq=False)
class LogicalPlan:
    """What a topology means. Nodes are shared, never repeated: equal steps on equal inputs are one node."""

    name: str
    sinks: tuple[SinkNode, ...]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, inputs before what reads them; the order depends on the plan alone."""
        return tuple(post_order(self.sinks, _inputs))

    @cached_property
    def numbers(self) -> dict[int, int]:
        """Position of each node (by its id) in `nodes`."""
        return {id(node): position for position, node in enumerate(self.nodes)}

    @cached_property
    def readers(self) -> dict[int, tuple[Node, ...]]:
        """The nodes that read each node (by its id)."""
        found: dict[int, list[Node]] = {id(node): [] for node in self.nodes}
        for node in self.nodes:
            for source in node.inputs:
                found[id(source)].append(node)
        return {key: tuple(value) for key, value in found.items()}

    @property
    def sources(self) -> tuple[SourceNode, ...]:
        """The sources in use."""
        return tuple(node for node in self.nodes if isinstance(node, SourceNode))

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the nodes that keep state, in plan order."""
        return tuple(node.name for node in self.nodes if isinstance(node, StatefulNode))

    def rewritten(self, change: Callable[[Node], Node]) -> LogicalPlan:
        """Return the plan with `change` applied to every node, from the sources up (inputs are changed already)."""
        made: dict[int, Node] = {}
        for node in self.nodes:
            made[id(node)] = change(node.with_inputs([made[id(source)] for source in node.inputs]))
        return self.with_sinks(made[id(sink)] for sink in self.sinks)

    def with_sinks(self, sinks: Iterable[Node]) -> LogicalPlan:
        """Return the plan that ends in these sinks, equal nodes united."""
        interned = _intern(tuple(sinks))
        return LogicalPlan(self.name, tuple(node for node in interned if isinstance(node, SinkNode)))

    def __str__(self) -> str:
        from streamdsl.logical.describe import describe

        return describe(self)


def build(
    name: str,
    sinks: Sequence[SinkNode],
    *,
    strict_names: bool = False,
    errors: ErrorPolicy = "fail",
) -> LogicalPlan:
    """Return the checked plan of a topology's sinks; dead letters become edges to their sinks.

    `errors` is the policy of sources that have none.

    Raises
    ------
    TopologyError
        There is nothing to do, or two places give one name to different things.
    """
    if not sinks:
        raise TopologyError(f"topology {name!r} writes nothing", remedy="end at least one stream with .to(sink)")
    plan = with_policies(LogicalPlan(name, tuple(sinks)).with_sinks(sinks), errors)
    letters = _dead_letters(plan)
    if letters:
        plan = plan.with_sinks((*plan.sinks, *letters))
    _check_sinks(plan)
    _check_states(plan, strict_names)
    return plan


def _inputs(node: Node) -> tuple[Node, ...]:
    return node.inputs


def _intern(roots: Sequence[Node]) -> list[Node]:
    """Unite nodes that do the same with the same inputs. Sinks stay apart: writing twice is not writing once."""
    known: dict[Hashable, Node] = {}
    made: dict[int, Node] = {}
    for node in post_order(roots, _inputs):
        new = node.with_inputs([made[id(source)] for source in node.inputs])
        if isinstance(new, SinkNode):
            made[id(node)] = new
            continue
        key = (new.identity(), tuple(id(source) for source in new.inputs))
        made[id(node)] = known.setdefault(key, new)
    return [made[id(root)] for root in roots]


def _dead_letters(plan: LogicalPlan) -> list[SinkNode]:
    """Return a sink for each dead letter name, over all that the nodes of the plan refuse."""
    policies: dict[str, DeadLetter] = {}
    outputs: dict[str, list[Node]] = {}
    for node in plan.nodes:
        policy = node.dead_letter
        if policy is None:
            continue
        known = policies.setdefault(policy.name, policy)
        if known.sink is not policy.sink and known.sink != policy.sink:
            raise TopologyError(
                f"two different dead letter sinks are called {policy.name!r}",
                remedy="give one of them another name: dead_letter(sink, name=...)",
            )
        outputs.setdefault(policy.name, []).append(OutputNode(inputs=(node,), where=node.where, tag="dead_letter"))
    sinks = []
    for name, policy in policies.items():
        parts = outputs[name]
        rows = parts[0] if len(parts) == 1 else MergeNode(inputs=tuple(parts))
        # A dead letter that cannot be written has nowhere to go.
        sinks.append(SinkNode(inputs=(rows,), name=name, sink=policy.sink, errors="fail"))
    return sinks


def _check_sinks(plan: LogicalPlan) -> None:
    seen: dict[str, SinkNode] = {}
    for sink in plan.sinks:
        other = seen.setdefault(sink.name, sink)
        if other is not sink:
            raise TopologyError(
                f"two sinks are called {sink.name!r}{_places(other, sink)}",
                remedy="merge the streams before .to(...), or give one of them another name: .to(sink, name=...)",
            )


def _check_states(plan: LogicalPlan, strict_names: bool) -> None:
    seen: dict[str, StatefulNode | PythonFunctionNode] = {}
    for node in plan.nodes:
        if isinstance(node, PythonFunctionNode) and node.calls is not None:
            _check_name(seen.setdefault(node.name, node), node)
        if not isinstance(node, StatefulNode):
            continue
        if strict_names and not node.named:
            raise TopologyError(
                f"{node.verb} keeps state under the automatic name {node.name!r}{_places(node)}",
                remedy="strict_names is on: give it a name of its own with name=",
            )
        _check_name(seen.setdefault(node.name, node), node)


def _check_name(other: StatefulNode | PythonFunctionNode, node: StatefulNode | PythonFunctionNode) -> None:
    if other is not node:
        raise TopologyError(
            f"two operators keep their state under the name {node.name!r}: {other.verb} and {node.verb}{_places(other, node)}",
            remedy="give one of them another name with name=",
        )


def _places(*nodes: Node) -> str:
    known = list(dict.fromkeys(node.where for node in nodes if node.where))
    return f" ({' and '.join(known)})" if known else ""
