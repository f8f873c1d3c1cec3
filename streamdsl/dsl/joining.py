"""Checks and plan pieces of joins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Union

import pyarrow as pa

from streamdsl.dsl.changes import rebuilt, retracting, with_removed
from streamdsl.dsl.written import here
from streamdsl.durations import Duration, parse_duration
from streamdsl.errors import TopologyError
from streamdsl.logical.counter import CounterNode
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.join import AsOfJoinNode, ForeignKeyJoinNode, IntervalJoinNode, JoinColumn, TableJoinNode, TablesJoinNode
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.node import Node
from streamdsl.logical.project import ProjectNode, passed
from streamdsl.logical.python_function import PythonFunctionNode
from streamdsl.logical.source import SourceNode
from streamdsl.logical.table import VERSION, TableNode
from streamdsl.logical.types import BOOL, is_integer, is_passed_through, literal
from streamdsl.logical.walk import post_order
from streamdsl.schema import nearest

__all__ = ["HOWS", "UNSAID", "Keys", "Sides", "TableSide", "Unsaid", "asof_joined", "interval_joined", "table_joined", "tables_joined"]

Keys = Union[str, Sequence[str], None]


@dataclass(frozen=True)
class TableSide:
    """A table that is joined: what makes its changes, and its key."""

    node: Node
    keys: tuple[str, ...]


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
            _names(verb, "left", left, left_on, called) if left_on is not None else _own(verb, "left", left, keyed[0], both),
            _names(verb, "right", right, right_on, called) if right_on is not None else _own(verb, "right", right, keyed[1], both),
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


def _own(verb: str, side: str, node: Node, keyed: bool, called: str = "on") -> tuple[str, ...]:
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
    low = 0 if before is None else _signed(before, f"{verb}: before")
    high = 0 if after is None else _signed(after, f"{verb}: after")
    if -low > high:
        raise TopologyError(
            f"{verb}: no time is from {-low} ms to {high} ms after another",
            remedy="before= and after= may be negative, but -before <= after",
        )
    return low, high


def _signed(value: Any, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().startswith("-"):
        return -parse_duration(value.strip()[1:], what)
    try:
        negative = value.total_seconds() < 0
    except AttributeError:
        negative = False
    return -parse_duration(-value, what) if negative else parse_duration(value, what)


class Unsaid:
    """Stands for a duration that was not given, where None means something."""

    def __repr__(self) -> str:
        return "<not said>"


UNSAID: Final = Unsaid()


def interval_joined(
    sides: Sides, how: Any, within: Any, before: Any, after: Any, grace: Duration, suffix: str, name: str | None, scope: str
) -> IntervalJoinNode:
    """Return the node of a join of two streams."""
    verb = sides.verb
    kind = checked_how(verb, how)
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


def asof_joined(
    sides: Sides, how: Any, tolerance: Duration | None, allow_exact: bool, suffix: str, name: str | None, scope: str
) -> AsOfJoinNode:
    """Return the node of a join with the latest row at the time."""
    kind = checked_how(sides.verb, how, ("left", "inner"))
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


def table_joined(
    left: Node,
    keyed: bool,
    table: Node,
    keys: tuple[str, ...],
    on: Keys,
    left_on: Keys,
    right_on: Keys,
    how: Any,
    suffix: str,
    name: str | None,
    scope: str,
) -> TableJoinNode:
    """Return the node of a join of a stream with a table, whose key is `keys`."""
    kind = checked_how("join", how, ("inner", "left"))
    given = on if right_on is None else right_on
    if given is not None and left_on is None and ((given,) if isinstance(given, str) else tuple(given)) != keys:
        raise TopologyError(
            f"join: the table has one row for each {', '.join(keys) or 'topology'}, not for each {given!r}",
            remedy=f"on={list(keys)!r}, or left_on= where the stream calls it differently",
        )
    if on is None and left_on is None:
        left_on = None if keyed else keys
    elif on is not None:
        left_on = on
    if left_on is None:
        left_on = _own("join", "left", left, keyed)
    right, removed = _rows_of(table)
    sides = Sides.of("join", left, right, (False, False), None, left_on, keys)
    return TableJoinNode(
        inputs=(sides.keyed(0, keeps_null=kind == "left"), sides.keyed(1)),
        where=here(),
        name=f"{scope}{name or sides.automatic_name()}",
        named=name is not None,
        how=kind,
        columns=sides.columns(kind, suffix),
        removed=removed,
    )


def _rows_of(table: Node) -> tuple[Node, str | None]:
    """Return the rows that make a table, and the column that says whether one takes its key's row away.

    What the table would keep, the join keeps: a table that is only read is not kept twice.
    """
    if isinstance(table, TableNode) and not table.by_time:
        return table.inputs[0].inputs[0], table.removed
    return with_removed(table)


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


def tables_joined(left: TableSide, right: TableSide, on: Keys, how: Any, suffix: str, name: str | None) -> Node:
    """Return the node of a join of two tables, each with its key; `on` that is no key of the left one is a key of the right one."""
    given = (on,) if isinstance(on, str) else None if on is None else tuple(on)
    if given is not None and given != left.keys:
        return _foreign_key_joined(left, right, given, how, suffix, name)
    kind = checked_how("join", how)
    left_rows, left_removed = _rows_of(left.node)
    right_rows, right_removed = _rows_of(right.node)
    sides = Sides.of("join", left_rows, right_rows, (False, False), None, left.keys, right.keys)
    return TablesJoinNode(
        inputs=(sides.keyed(0), sides.keyed(1)),
        where=here(),
        name=name or sides.automatic_name(),
        named=name is not None,
        how=kind,
        columns=sides.columns(kind, suffix),
        removed=(left_removed, right_removed),
    )


def _foreign_key_joined(left: TableSide, right: TableSide, on: tuple[str, ...], how: Any, suffix: str, name: str | None) -> Node:
    if how in ("right", "outer"):
        raise TopologyError(
            f"join: how={how!r} has no key where the left table names the right one's by {', '.join(on)}",
            remedy='use "inner" or "left", or begin with the other table',
        )
    kind = checked_how("join", how, ("inner", "left"))
    if len(on) != len(right.keys):
        raise TopologyError(
            f"join: the right table has one row for each {', '.join(right.keys) or 'topology'}, not for each {', '.join(on)}",
            remedy=f"name as many columns of the left table with on= as the right one's key has: {', '.join(right.keys)}",
        )
    right_rows, right_removed = _rows_of(right.node)
    named = Sides.of("join", left.node, right_rows, (False, False), None, on, right.keys)
    title = name or named.automatic_name()
    rows, left_removed = with_removed(_numbered(left, f"{title}.left"))
    sides = dataclasses.replace(named, left=rows)
    columns = sides.columns(kind, suffix)
    joined = ForeignKeyJoinNode(
        inputs=(sides.keyed(0, keeps_null=kind == "left"), sides.keyed(1)),
        where=here(),
        name=title,
        named=name is not None,
        how=kind,
        columns=(*columns, JoinColumn(VERSION.name, VERSION.name, None)),
        removed=(left_removed, right_removed),
        left_keys=left.keys,
        version=VERSION.name,
    )
    changes, removed = with_removed(joined)
    hidden = tuple(dataclasses.replace(one, hidden=one.hidden or one.name == VERSION.name) for one in passed(changes.schema))
    # Each row of the left table has one row here: the one that its last version has.
    return TableNode(
        inputs=(KeyByNode(inputs=(ProjectNode(inputs=(changes,), where=here(), outputs=hidden),), where=here(), keys=left.keys),),
        where=here(),
        name=f"{title}.rows",
        named=name is not None,
        removed=removed,
        version=VERSION.name,
    )


def _numbered(table: TableSide, name: str) -> TableNode:
    """Return the table as rows that are taken out and put in, each with its version."""
    if isinstance(table.node, TableNode):
        return retracting(table.node, name, numbered=True)
    return rebuilt(table.node, table.keys, literal(True, BOOL), None, name, "changes", retracts=True, numbered=True)
