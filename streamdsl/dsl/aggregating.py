"""Plan pieces of aggregate, count, reduce and process: running or by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamdsl.dsl.columns import Item, aggregate_items, automatic_name, policy_of, state_name, with_name
from streamdsl.dsl.operator import NativeOperator, processor_name, processor_outputs
from streamdsl.dsl.updates import refuse_updates, sees_updates
from streamdsl.dsl.written import arguments, here, slug
from streamdsl.errors import TopologyError
from streamdsl.expr import Expr
from streamdsl.functions import check_function
from streamdsl.logical.aggregate import AggregateNode, ReduceNode
from streamdsl.logical.aggregates import Splitter, check_mergeable, check_withdrawable
from streamdsl.logical.bind import Binder
from streamdsl.logical.expression import Aggregation, ColumnRef, Typed, TypedAggregate, own_column_names, text_of
from streamdsl.logical.key_by import key_of
from streamdsl.logical.node import Node
from streamdsl.logical.process import NativeNode, ProcessNode
from streamdsl.logical.project import Output, ProjectNode, passed
from streamdsl.logical.window_aggregate import WindowAggregateNode
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.windows import TableEmission, Window

__all__ = ["Grouping", "aggregated", "processed", "reduced"]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Rows by key, and by window if there is one, as a verb finds them. `sign`: -1 for those that are withdrawn, else 1."""

    node: Node
    verb: str
    scope: str
    name: str | None
    window: Window | None
    errors: ErrorPolicy | None = None
    sign: Typed | None = None
    emit: TableEmission = "update"

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the key's components."""
        return key_of(self.node).keys

    def state_name(self, automatic: str) -> str:
        """Return the identity of the state, with the names of the operators around it."""
        return f"{self.scope}{self.name or automatic}"


def aggregated(
    grouping: Grouping,
    columns: Sequence[Expr],
    name: str | Expr | None,
    errors: ErrorPolicy | Expr | None,
    named: dict[str, Any],
) -> tuple[Node, str]:
    """Return the node of aggregates, and its arguments as text."""
    state, named = state_name(name, named)
    policy, named = policy_of(grouping.verb, errors, named)
    grouping = replace(grouping, name=state, errors=policy)
    items = aggregate_items(grouping.verb, columns, named)
    reserved = (*grouping.keys, "op") if grouping.window is None else (*grouping.keys, "window_start", "window_end", *_change(grouping))
    for item in items:
        if item.name in reserved:
            raise TopologyError(f"{grouping.verb}: the column {item.name!r} is there already", remedy="give the aggregate another name")
    # Aggregates alone are the columns of the node; all else is computed from its columns.
    direct = {item.name: item.value for item in items if isinstance(item.value, Aggregation)}
    taken = (*grouping.node.schema.names, *(item.name for item in items), *reserved)
    splitter = Splitter(taken, grouping.node.schema.visible().names)
    for key, value in direct.items():
        splitter.add(key, value)
    plain = {item.name: ColumnRef(item.name) if item.name in direct else splitter.split(item.value) for item in items}
    binder = Binder(grouping.node.schema, grouping.verb)
    made = tuple(binder.bind_aggregate(key, value) for key, value in splitter.found.items())
    if grouping.window is not None and grouping.window.kind == "session":
        check_mergeable(grouping.verb, grouping.window, made)
    if grouping.sign is not None:
        check_withdrawable(grouping.verb, made)
    elif grouping.window is not None and sees_updates(grouping.node, made):
        refuse_updates(f"{grouping.verb} over {grouping.window}", grouping.node)
    slot = "" if grouping.window is None else grouping.window.slug
    kind = "aggregate" if grouping.window is None else "window"
    node = _aggregate_node(grouping, made, grouping.state_name(automatic_name(kind, grouping.keys, items, slot)))
    shown = arguments(*columns, **with_name(state, named, policy))
    for item in items:
        _check_names(grouping, node, item, reserved)
    if len(direct) == len(items):
        return node, shown
    outer = Binder(node.schema, grouping.verb)
    computed = [Output(key, outer.bind_value(value)) for key, value in plain.items()]
    frame = passed(node.schema, [field for field in node.schema.names if field in reserved])
    outputs = [*(old for old in frame if not old.hidden), *computed, *(old for old in frame if old.hidden)]
    return ProjectNode(inputs=(node,), where=here(), outputs=tuple(outputs), errors=policy), shown


def _change(grouping: Grouping) -> tuple[str, ...]:
    """Return the name of the column that says what a row is, if there is one."""
    return ("op",) if grouping.window is None or grouping.window.withdraws else ()


def _check_names(grouping: Grouping, node: Node, item: Item, reserved: Sequence[str]) -> None:
    """Beside aggregates there are the key's columns and the window's bounds: of all else there are many values."""
    known = [name for name in node.schema.visible().names if name in reserved]
    for name in own_column_names(item.value):
        if name not in known:
            raise TopologyError(
                f'{grouping.verb}: {item.name} = {text_of(item.value)}: col("{name}") stands outside an aggregate',
                remedy=f'write col("{name}").last() or another aggregate'
                + (f"; what is there beside aggregates: {', '.join(known)}" if known else ""),
            )


def _aggregate_node(grouping: Grouping, made: tuple[TypedAggregate, ...], name: str) -> Node:
    common: dict[str, Any] = {"inputs": (grouping.node,), "where": here(), "name": name, "named": grouping.name is not None}
    if grouping.window is None:
        return AggregateNode(**common, aggregates=made, errors=grouping.errors, sign=grouping.sign, emit=grouping.emit)
    return WindowAggregateNode(**common, window=grouping.window, aggregates=made, errors=grouping.errors)


def reduced(grouping: Grouping, function: Callable[[Any, Any], Any], errors: ErrorPolicy | None, emit: TableEmission = "update") -> Node:
    """Return the node of a reduction."""
    check_function("reduce", function, "a function of two rows that returns a row")
    refuse_updates("reduce", grouping.node, table=grouping.window is None)
    for name in grouping.keys:
        if name not in grouping.node.schema:
            raise TopologyError(f"reduce: the key column {name!r} is gone", remedy="keep it, or key_by again")
    if "op" in _change(grouping) and "op" in grouping.node.schema.visible():
        raise TopologyError("reduce: the rows have a column 'op', which is what the result calls its changes", remedy="rename it before")
    label = str(getattr(function, "__name__", "function")).strip("<>")
    slot = "" if grouping.window is None else grouping.window.slug
    return ReduceNode(
        inputs=(grouping.node,),
        where=here(),
        name=grouping.state_name(slug(["reduce", "+".join(grouping.keys) or "all", label, slot])),
        named=grouping.name is not None,
        function=function,
        window=grouping.window,
        errors=checked_policy(errors, "reduce"),
        emit=emit,
    )


def processed(grouping: Grouping, operator: Any, errors: ErrorPolicy | None) -> Node:
    """Return the node of a `Processor` or native operator."""
    policy = checked_policy(errors, "process")
    keys = "+".join(grouping.keys) or "all"
    slot = "" if grouping.window is None else grouping.window.slug
    if isinstance(operator, NativeOperator):
        if policy is not None or grouping.window is not None:
            raise TopologyError("process(native(...)) takes neither errors= nor a window")
        label = str(getattr(operator.factory, "__name__", "factory")).strip("<>")
        return NativeNode(
            inputs=(grouping.node,),
            where=here(),
            name=grouping.state_name(slug(["native", keys, label])),
            named=grouping.name is not None,
            factory=operator.factory,
            output=operator.output or grouping.node.schema.visible(),
            outputs=operator.outputs,
        )
    if grouping.window is not None and grouping.window.withdraws:
        raise TopologyError(
            f"process: {grouping.window} with emit={grouping.window.emit} takes rows back, and what a Processor has made cannot be",
            remedy='use emit="close", or aggregate(...) or reduce(...)',
        )
    if grouping.window is not None and hasattr(operator.process_window, "__streamdsl_default__"):
        raise TopologyError(f"{processor_name(operator)} has no process_window(key, window, rows, ctx)")
    if grouping.window is not None:
        refuse_updates(f"process over {grouping.window}", grouping.node)
    output, outputs = processor_outputs(operator)
    return ProcessNode(
        inputs=(grouping.node,),
        where=here(),
        name=grouping.state_name(slug(["process", keys, processor_name(operator), slot])),
        named=grouping.name is not None,
        processor=operator,
        output=output,
        outputs=outputs,
        window=grouping.window,
        errors=policy,
    )
