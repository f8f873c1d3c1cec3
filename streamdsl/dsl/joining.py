"""Checks and plan pieces of joins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Union

import pyarrow as pa

from streamdsl.dsl.operator import processor_name, processor_outputs
from streamdsl.dsl.updates import refuse_updates
from streamdsl.dsl.written import here
from streamdsl.durations import Duration, parse_duration
from streamdsl.errors import TopologyError
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.join import (
    AsOfJoinNode,
    ConnectNode,
    IntervalJoinNode,
    JoinColumn,
)
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.merge import MergeNode
from streamdsl.logical.node import Node
from streamdsl.logical.project import ProjectNode
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.types import is_integer, is_passed_through
from streamdsl.logical.walk import post_order
from streamdsl.policies import ErrorPolicy, checked_policy
from streamdsl.schema import nearest
from streamdsl.windows import Window

__all__ = [
    "HOWS",
    "UNSAID",
    "Keys",
    "Sides",
    "Unsaid",
    "asof_joined",
    "check_time_column",
    "checked_how",
    "connected",
    "interval_joined",
    "own_keys",
]

Keys = Union[str, Sequence[str], None]


#: Hopping windows that a record may be in: each is a join of its own.
MOST_HOPS: Final = 60
HOWS: Final = ("inner", "left", "right", "outer")
_CALLED_HERE: Final = {"full": "outer", "full_outer": "outer", "fullouter": "outer", "left_outer": "left", "leftouter": "left"}


@dataclass(frozen=True)
class Sides:
    """Two inputs with their keys, checked against each other."""

    verb: str
    left: Node
    right: Node
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]

    @classmethod
    def of(
        cls,
        verb: str,
        left: Node,
        right: Node,
        keyed: tuple[bool, bool],
        on: Keys,
        left_on: Keys,
        right_on: Keys,
        called: tuple[str, str, str] = ("on", "left_on", "right_on"),
    ) -> Sides:
        """Return the inputs by the keys that are given, or by those that they have (`keyed`); `called`: the arguments' names."""
        both, mine, theirs = called
        if on is not None and (left_on is not None or right_on is not None):
            raise TopologyError(
                f"{verb}: {both}= and {mine}=/{theirs}= say the same", remedy=f"give {both}=, or both {mine}= and {theirs}="
            )
        if (left_on is None) != (right_on is None):
            given, other = (mine, theirs) if right_on is None else (theirs, mine)
            raise TopologyError(f"{verb}: {given}= needs {other}=", remedy=f"name the key's columns on the other side: {other}=")
        if on is not None:
            left_on = right_on = on
        keys = (
            _names(verb, "left", left, left_on, called) if left_on is not None else own_keys(verb, "left", left, keyed[0], both),
            _names(verb, "right", right, right_on, called) if right_on is not None else own_keys(verb, "right", right, keyed[1], both),
        )
        if len(keys[0]) != len(keys[1]):
            raise TopologyError(
                f"{verb}: the left key has {len(keys[0])} columns ({', '.join(keys[0])}), the right one {len(keys[1])}"
                f" ({', '.join(keys[1])})",
                remedy=f"name as many on both sides with {mine}= and {theirs}=",
            )
        sides = cls(verb, _unkeyed(left), _unkeyed(right), *keys)
        sides._check_types()
        return sides

    def _check_types(self) -> None:
        for mine, theirs in zip(self.left_keys, self.right_keys, strict=True):
            left, right = self.left.schema.field(mine).type, self.right.schema.field(theirs).type
            if _kind(left) != _kind(right):
                raise TopologyError(
                    f"{self.verb}: the key {mine!r} is {left} on the left, {theirs!r} is {right} on the right",
                    remedy=f"cast one of them: with_columns({mine}=col({mine!r}).cast(...))",
                )

    def keyed(self, side: int, *, keeps_null: bool = False) -> KeyByNode:
        """Return one input by its key; `keeps_null`: rows with a null key come too."""
        node, keys = (self.left, self.left_keys) if side == 0 else (self.right, self.right_keys)
        return KeyByNode(inputs=(node,), where=here(), keys=keys, joins=True, keeps_null=keeps_null)

    def columns(self, how: str, suffix: str, hidden: Sequence[str] = ()) -> tuple[JoinColumn, ...]:
        """Return the columns of the output: those of the left, then the right ones that are no key, with `suffix` where names clash."""
        of_right = dict(zip(self.left_keys, self.right_keys, strict=True))
        both = how in ("right", "outer")
        found = [JoinColumn(name, name, of_right.get(name) if both else None) for name in self.left.schema.visible().names]
        taken = {column.name for column in found}
        for name in self.right.schema.visible().names:
            if name in self.right_keys or name in hidden:
                continue
            shown = name if name not in taken else f"{name}{suffix}"
            if shown in taken:
                raise TopologyError(
                    f"{self.verb}: the column {name!r} of the right side is called like one of the left, and so is {shown!r}",
                    remedy="give another suffix=, or rename(...) it first",
                )
            taken.add(shown)
            found.append(JoinColumn(shown, None, name))
        return tuple(found)

    def automatic_name(self) -> str:
        """Return the name of the state: the verb, the sources of both sides, the key."""
        sides = ("+".join(sorted(one.name for one in _sources(node))) for node in (self.left, self.right))
        return ".".join([self.verb, *sides, "+".join(self.left_keys)])


def _sources(node: Node) -> list[SourceNode]:
    return [one for one in post_order([node], lambda below: below.inputs) if isinstance(one, SourceNode)]


def _kind(type_: pa.DataType) -> object:
    return "integer" if is_integer(type_) and type_ != pa.uint64() else type_


def _names(verb: str, side: str, node: Node, given: Keys, called: tuple[str, str, str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given or ())
    if not names or not all(isinstance(name, str) for name in names):
        raise TopologyError(
            f"{verb}: the key is named by columns, not {given!r}", remedy=f'write {called[0]}="account", or a list of names'
        )
    schema = node.schema
    for name in names:
        if name not in schema:
            near = nearest(name, schema.visible().names)
            raise TopologyError(
                f"{verb}: the {side} side has no column {name!r}",
                remedy=(f"did you mean {near!r}? " if near else "") + f"known: {', '.join(schema.visible().names)};"
                f" {called[1]}= and {called[2]}= name keys that are called differently",
            )
        if is_passed_through(schema.field(name).type):
            raise TopologyError(f"{verb}: {name!r} ({schema.field(name).type}) cannot be a key", remedy="take one of its parts")
    if len(set(names)) != len(names):
        raise TopologyError(f"{verb}: a column of the key is named twice: {', '.join(names)}", remedy="name it once")
    return names


def own_keys(verb: str, side: str, node: Node, keyed: bool, called: str = "on") -> tuple[str, ...]:
    """Return the columns of the key that a stream has, which still hold it."""
    if not keyed:
        raise TopologyError(f"{verb}: the {side} side has no key", remedy=f'name the columns that meet: {called}="account"')
    keys = key_of(node).keys
    step = node
    while not isinstance(step, KeyByNode):
        if isinstance(step, ProjectNode):
            made = {output.name: output for output in step.outputs}
            for key in keys:
                if key not in made or not made[key].unchanged:
                    raise TopologyError(
                        f"{verb}: the {side} side no longer has the column {key!r} of its key as it was",
                        remedy=f"name the columns with {called}=",
                    )
        step = step.inputs[0]
    return keys


def _unkeyed(node: Node) -> Node:
    """Return the rows without the key_by that nothing between it and here needs: a null key may match nothing, but is a row."""
    steps: list[Node] = []
    step = node
    while isinstance(step, (FilterNode, ProjectNode, CounterNode)) or (isinstance(step, PythonFunctionNode) and step.output is None):
        steps.append(step)
        step = step.inputs[0]
    if not isinstance(step, KeyByNode):
        return node
    below = step.inputs[0]
    for one in reversed(steps):
        below = one.with_inputs([below])
    return below


def checked_how(verb: str, how: Any, known: Sequence[str] = HOWS) -> str:
    """Return `how` if the verb knows it."""
    if how not in known:
        hint = _CALLED_HERE.get(str(how).lower().replace(" ", "_").replace("-", "_"))
        remedy = f"write how={hint!r}" if hint in known else f"use {', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
        raise TopologyError(f"{verb}: how={how!r} is unknown", remedy=remedy)
    return str(how)


def bounds_of(verb: str, within: Any, before: Any, after: Any) -> tuple[int | None, int | None]:
    """Return how far in ms a right row may be before and after a left one; None: as far as it likes."""
    if before is None and after is None:
        if within is None:
            return None, None
        if within is UNSAID:
            raise TopologyError(
                f"{verb}: it is not said how far apart in time two rows may be",
                remedy='give within="10m", or before= and after=; within=None keeps the rows of both sides for ever',
            )
        ms = parse_duration(within, f"{verb}: within")
        return ms, ms
    if within is not UNSAID:
        raise TopologyError(f"{verb}: within= and before=/after= say the same", remedy="give one of them")
    low = 0 if before is None else parse_duration(before, f"{verb}: before", signed=True)
    high = 0 if after is None else parse_duration(after, f"{verb}: after", signed=True)
    if -low > high:
        raise TopologyError(
            f"{verb}: no time is from {-low} ms to {high} ms after another",
            remedy="before= and after= may be negative, but -before <= after",
        )
    return low, high


class Unsaid:
    """Stands for a duration that was not given, where None means something."""

    def __repr__(self) -> str:
        return "<not said>"


UNSAID: Final = Unsaid()


def interval_joined(
    sides: Sides, how: Any, within: Any, before: Any, after: Any, grace: Duration, suffix: str, name: str | None, scope: str
) -> Node:
    """Return the node of a join of two streams."""
    verb = sides.verb
    kind = checked_how(verb, how)
    for side in (sides.left, sides.right):
        refuse_updates(verb, side, table=True)
    if isinstance(within, Window):
        return _same_window(sides, kind, within, before, after, grace, suffix, name, scope)
    low, high = bounds_of(verb, within, before, after)
    return IntervalJoinNode(
        inputs=(
            sides.keyed(0, keeps_null=kind in ("left", "outer")),
            sides.keyed(1, keeps_null=kind in ("right", "outer")),
        ),
        where=here(),
        name=f"{scope}{name or sides.automatic_name()}",
        named=name is not None,
        how=kind,
        columns=sides.columns(kind, suffix),
        before_ms=low,
        after_ms=high,
        grace_ms=parse_duration(grace, f"{verb}: grace"),
    )


def _same_window(
    sides: Sides, kind: str, window: Window, before: Any, after: Any, grace: Duration, suffix: str, name: str | None, scope: str
) -> Node:
    """Return the join of rows that lie in one window. Hopping windows are several rows of tumbling ones beside one another."""
    verb = sides.verb
    if before is not None or after is not None:
        raise TopologyError(f"{verb}: within= and before=/after= say the same", remedy="give one of them")
    hops = window.every_ms and window.kind == "hopping"
    if window.kind not in ("tumbling", "hopping") or window.tz is not None or (hops and window.size_ms % window.every_ms):
        raise TopologyError(
            f"{verb}: rows cannot be joined within {window}",
            remedy='use tumbling(size), or hopping(size, every) of whole steps; within="10m" joins rows that are near each other',
        )
    offsets = range(window.offset_ms, window.offset_ms + window.size_ms, window.every_ms) if hops else [window.offset_ms]
    if len(offsets) > MOST_HOPS:
        raise TopologyError(
            f"{verb}: a record is in {len(offsets)} windows of {window}",
            remedy=f"let them begin less often: {MOST_HOPS} windows at most",
        )
    title = f"{scope}{name or sides.automatic_name()}"
    parts = [
        IntervalJoinNode(
            inputs=(sides.keyed(0, keeps_null=kind in ("left", "outer")), sides.keyed(1, keeps_null=kind in ("right", "outer"))),
            where=here(),
            name=title if number == 0 else f"{title}.{number}",
            named=name is not None,
            how=kind,
            columns=sides.columns(kind, suffix),
            before_ms=window.size_ms - 1,
            after_ms=window.size_ms - 1,
            grace_ms=parse_duration(grace, f"{verb}: grace"),
            window_ms=window.size_ms,
            offset_ms=offset,
        )
        for number, offset in enumerate(offsets)
    ]
    return parts[0] if len(parts) == 1 else MergeNode(inputs=tuple(parts), where=here())


def connected(left: Node, right: Node, processor: Any, name: str | None, scope: str, errors: ErrorPolicy | None) -> ConnectNode:
    """Return the node of a `TwoInputProcessor` over two streams with keys."""
    output, outputs = processor_outputs(processor)
    sides = Sides.of("connect", left, right, (True, True), None, None, None)
    title = f"{processor_name(processor)}.{sides.automatic_name()}"
    return ConnectNode(
        inputs=(sides.keyed(0), sides.keyed(1)),
        where=here(),
        name=f"{scope}{name or title}",
        named=name is not None,
        how="inner",
        columns=(),
        processor=processor,
        output=output,
        outputs=outputs,
        errors=checked_policy(errors, "process"),
    )


def asof_joined(
    sides: Sides, how: Any, tolerance: Duration | None, allow_exact: bool, suffix: str, name: str | None, scope: str
) -> AsOfJoinNode:
    """Return the node of a join with the latest row at the time."""
    kind = checked_how(sides.verb, how, ("left", "inner"))
    for side in (sides.left, sides.right):
        refuse_updates(sides.verb, side, withdrawn_only=True)
    return AsOfJoinNode(
        inputs=(sides.keyed(0, keeps_null=kind == "left"), sides.keyed(1)),
        where=here(),
        name=f"{scope}{name or sides.automatic_name()}",
        named=name is not None,
        how=kind,
        columns=sides.columns(kind, suffix),
        tolerance_ms=None if tolerance is None else parse_duration(tolerance, f"{sides.verb}: tolerance"),
        allow_exact=allow_exact,
    )


def check_time_column(verb: str, node: Node, column: str) -> None:
    """Refuse a column that is not the event time: that is what rows are compared by."""
    step, name = node, column
    while True:
        if name not in step.schema:
            near = nearest(name, step.schema.visible().names)
            raise TopologyError(f"{verb}: there is no column {name!r}", remedy=f"did you mean {near!r}?" if near else "leave on= out")
        if isinstance(step, SourceNode):
            if step.timestamp is not None and step.timestamp.column == name:
                return
            break
        if isinstance(step, ProjectNode):
            value = step.by_name[name]
            if not value.is_column:
                break
            name = value.column
        elif len(step.inputs) != 1 or name not in step.inputs[0].schema:
            break
        step = step.inputs[0]
    raise TopologyError(
        f"{verb}: on={column!r} is not the event time of the stream, by which rows are compared",
        remedy="leave on= out, and name it where the stream is read: topology.stream(..., timestamp=...); by= names the key",
    )
