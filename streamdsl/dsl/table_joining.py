"""Checks and plan pieces of joins with tables."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from streamdsl.dsl.changes import rebuilt, retracting, with_removed
from streamdsl.dsl.joining import Keys, Sides, checked_how, own_keys
from streamdsl.dsl.updates import refuse_updates
from streamdsl.dsl.written import here
from streamdsl.errors import TopologyError
from streamdsl.logical.join import (
    BroadcastJoinNode,
    ForeignKeyJoinNode,
    JoinColumn,
    TableJoinNode,
    TablesJoinNode,
    VersionedJoinNode,
)
from streamdsl.logical.key_by import KeyByNode
from streamdsl.logical.node import Node
from streamdsl.logical.project import ProjectNode, passed
from streamdsl.logical.source import SourceNode
from streamdsl.logical.table import VERSION, TableNode
from streamdsl.logical.types import BOOL, literal

__all__ = ["TableSide", "table_joined", "tables_joined"]


@dataclass(frozen=True)
class TableSide:
    """A table that is joined: what makes its changes, and its key."""

    node: Node
    keys: tuple[str, ...]


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
) -> Node:
    """Return the node of a join of a stream with a table, whose key is `keys`."""
    kind = checked_how("join", how, ("inner", "left"))
    refuse_updates("join", left, withdrawn_only=True, table=True)
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
        left_on = own_keys("join", "left", left, keyed)
    origin = _origin(table)
    versioned = origin is not None and origin.keep_ms is not None
    if versioned and origin is not table:
        raise TopologyError(
            "join: rows computed from a versioned table are those of its last version alone",
            remedy="join the versioned table itself, and select(...) or filter(...) the rows of the join",
        )
    right, removed = _rows_of(table, versions=versioned)
    sides = Sides.of("join", left, right, (False, False), None, left_on, keys)
    common: dict[str, Any] = {
        "inputs": (sides.keyed(0, keeps_null=kind == "left"), sides.keyed(1)),
        "where": here(),
        "name": f"{scope}{name or sides.automatic_name()}",
        "named": name is not None,
        "how": kind,
        "columns": sides.columns(kind, suffix),
        "removed": removed,
    }
    if origin is not None and origin.keep_ms is not None:
        return VersionedJoinNode(**common, keep_ms=origin.keep_ms)
    return BroadcastJoinNode(**common) if origin is not None and origin.broadcast else TableJoinNode(**common)


def _origin(table: Node) -> TableNode | None:
    """Return the source's table whose rows these are, computed and filtered or as they came; None: they are of another making."""
    step = table
    while isinstance(step, (TableNode, ProjectNode, KeyByNode)):
        if isinstance(step, TableNode) and (step.keep_ms is not None or step.broadcast):
            return step
        step = step.inputs[0]
    return None


def _rows_of(table: Node, *, versions: bool = False) -> tuple[Node, str | None]:
    """Return the rows that make a table (`versions`: of whatever time), and the column that says whether one takes its key's row away.

    What the table would keep, the join keeps: a table that is only read is not kept twice.
    """
    if isinstance(table, TableNode) and isinstance(table.inputs[0].inputs[0], SourceNode) and (versions or not table.by_time):
        return table.inputs[0].inputs[0], table.removed
    return with_removed(table)


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
