"""Join: rows of two streams of one key become rows of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from streamdsl.connectors.base import POSITION_COLUMNS
from streamdsl.durations import format_duration
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.key_by import KeyByNode, key_of
from streamdsl.logical.node import Columns, Meaning, Node, StatefulNode, joined, letters, policy_text
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Field, Schema

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = [
    "AsOfJoinNode",
    "BroadcastJoinNode",
    "ConnectNode",
    "ForeignKeyJoinNode",
    "IntervalJoinNode",
    "JoinColumn",
    "JoinNode",
    "TableJoinNode",
    "TablesJoinNode",
    "VersionedJoinNode",
]


@dataclass(frozen=True)
class JoinColumn:
    """A column of the output: that of the left input, of the right one, or of whichever is there."""

    name: str
    left: str | None
    right: str | None


@dataclass(frozen=True, eq=False, kw_only=True)
class JoinNode(StatefulNode):
    """Base. The inputs are a key_by each: left, then right. `how` says which rows come out unmatched: inner, left, right, outer."""

    how: str
    columns: tuple[JoinColumn, ...]

    verb: ClassVar[str] = "join"

    @property
    def sides(self) -> tuple[KeyByNode, KeyByNode]:
        """The key_bys of the left and the right input."""
        return key_of_input(self, 0), key_of_input(self, 1)

    @cached_property
    def key_schema(self) -> Schema:
        return self.sides[0].key_schema

    def keeps(self, side: int) -> bool:
        """Whether rows of a side (0: left, 1: right) come out although they match nothing."""
        return self.how in (("left", "right")[side], "outer")

    def keeps_null(self, side: int) -> bool:
        """Whether rows of a side with a null key come out."""
        return self.keeps(side)

    @cached_property
    def schema(self) -> Schema:
        return Schema(tuple(self._field(column) for column in self.columns))

    def _field(self, column: JoinColumn) -> Field:
        left = None if column.left is None else self.inputs[0].schema.field(column.left)
        right = None if column.right is None else self.inputs[1].schema.field(column.right)
        if left is not None and right is not None:
            return Field(column.name, left.type, left.nullable or right.nullable)
        if left is not None:
            keyed = column.left in self.sides[0].keys and not self.keeps(0)
            return Field(column.name, left.type, (left.nullable and not keyed) or self.keeps(1))
        assert right is not None
        return Field(column.name, right.type, right.nullable or self.keeps(0))

    def kept(self, side: int) -> tuple[str, ...]:
        """Return the columns of an input that are kept while its rows wait, in order."""
        used = dict.fromkeys(name for column in self.columns if (name := (column.left, column.right)[side]) is not None)
        return tuple(used)

    def needs_of(self, port: int, wanted: Columns) -> Columns:
        # The state holds the whole row, whoever reads it today.
        return frozenset(self.kept(port)) | frozenset(self.sides[port].keys)

    def meaning(self, origins: Origins) -> Meaning:
        keys = " = ".join(origins.key(side) for side in self.sides)
        rows = {
            f"{name} rows": origins.rows(self.inputs[side], self.inputs[side].schema.select(self.kept(side)))
            for side, name in enumerate(("left", "right"))
        }
        return {"operator": self.verb, "keys": keys, "how": self.how, **rows}

    def text(self) -> str:
        pairs = zip(self.sides[0].keys, self.sides[1].keys, strict=True)
        return f"{self.how} on {', '.join(a if a == b else f'{a} = {b}' for a, b in pairs)}"


def _removals(origins: Origins, rows: Node, removed: str | None, name: str) -> Meaning:
    """Return what decides which rows of a table are taken away: its filters among it."""
    return {} if removed is None else {f"{name} rows taken away": origins.column(rows, removed)}


def key_of_input(node: JoinNode, side: int) -> KeyByNode:
    """Return the key_by in front of one side."""
    below = node.inputs[side]
    return below if isinstance(below, KeyByNode) else key_of(below)


@dataclass(frozen=True, eq=False, kw_only=True)
class IntervalJoinNode(JoinNode):
    """Pairs with ``-before <= right's time - left's time <= after``; None: whatever the times.

    With `window_ms` pairs whose times lie in one window of that size; the windows begin at `offset_ms` behind the epoch.
    """

    before_ms: int | None
    after_ms: int | None
    grace_ms: int = 0
    window_ms: int = 0
    offset_ms: int = 0

    @property
    def drops_late(self) -> bool:
        return self.before_ms is not None and self.after_ms is not None

    def meaning(self, origins: Origins) -> Meaning:
        bounds: Meaning = {"before (ms)": str(self.before_ms), "after (ms)": str(self.after_ms), "grace (ms)": self.grace_ms}
        if self.window_ms:
            bounds["window"] = f"{self.window_ms} ms from {self.offset_ms}"
        return {**super().meaning(origins), **bounds}

    def text(self) -> str:
        if self.before_ms is None or self.after_ms is None:
            return f"{super().text()} whatever the time"
        grace = f", grace {format_duration(self.grace_ms)}" if self.grace_ms else ""
        if self.window_ms:
            offset = f" from {format_duration(self.offset_ms)} on" if self.offset_ms else ""
            return f"{super().text()} within windows of {format_duration(self.window_ms)}{offset}{grace}"
        return f"{super().text()} from {self.before_ms} ms before to {self.after_ms} ms after{grace}"


@dataclass(frozen=True, eq=False, kw_only=True)
class AsOfJoinNode(JoinNode):
    """Each left row beside the latest right one at or before its time, at most `tolerance_ms` earlier; `how`: inner or left."""

    tolerance_ms: int | None = None
    allow_exact: bool = True

    verb: ClassVar[str] = "join_asof"

    @property
    def drops_late(self) -> bool:
        return True

    def meaning(self, origins: Origins) -> Meaning:
        return {**super().meaning(origins), "tolerance (ms)": str(self.tolerance_ms), "allow_exact": str(self.allow_exact)}

    def text(self) -> str:
        tolerance = "" if self.tolerance_ms is None else f", at most {format_duration(self.tolerance_ms)} earlier"
        return f"{super().text()}{tolerance}{'' if self.allow_exact else ', not at the same time'}"


@dataclass(frozen=True, eq=False, kw_only=True)
class TableJoinNode(JoinNode):
    """Each left row beside the row that a table has for its key then; `how`: inner or left.

    The right input is the table's rows, or its changes. `removed` is its column that says whether a row takes the key's row away.
    """

    removed: str | None = None

    def needs_of(self, port: int, wanted: Columns) -> Columns:
        needed = super().needs_of(port, wanted)
        return needed | {self.removed} if port == 1 and self.removed is not None else needed

    def meaning(self, origins: Origins) -> Meaning:
        return {**super().meaning(origins), **_removals(origins, self.inputs[1], self.removed, "right")}

    def text(self) -> str:
        return f"{super().text()} with a table"


@dataclass(frozen=True, eq=False, kw_only=True)
class VersionedJoinNode(TableJoinNode):
    """The same, with the row that the table had at the left row's time; those that were replaced are kept for `keep_ms`."""

    keep_ms: int

    def meaning(self, origins: Origins) -> Meaning:
        return {**super().meaning(origins), "versions kept (ms)": self.keep_ms}

    def text(self) -> str:
        return f"{super().text()} as of the row's time, versions kept for {format_duration(self.keep_ms)}"


@dataclass(frozen=True, eq=False, kw_only=True)
class BroadcastJoinNode(TableJoinNode):
    """The same, where every task has the whole table: the left rows stay in their tasks."""

    def text(self) -> str:
        return f"{super().text()} that is in every task"


@dataclass(frozen=True, eq=False, kw_only=True)
class ConnectNode(JoinNode):
    """A `TwoInputProcessor` over the rows of two inputs with the same key."""

    processor: Any
    output: Schema
    outputs: tuple[tuple[str, Schema], ...] = ()
    errors: ErrorPolicy | None = None

    verb: ClassVar[str] = "connect"

    @cached_property
    def schema(self) -> Schema:
        return self.output

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return {**dict(self.outputs), **letters(self)}

    def kept(self, side: int) -> tuple[str, ...]:
        return self.inputs[side].schema.visible().names

    def needs_of(self, port: int, wanted: Columns) -> Columns:
        rows = self.inputs[port].schema
        places = frozenset() if self.errors == "skip" else frozenset(name for name in POSITION_COLUMNS if name in rows)
        return frozenset(rows.visible().names) | places | frozenset(self.sides[port].keys)

    def meaning(self, origins: Origins) -> Meaning:
        # The states that it declares are known once it has been opened.
        kept: Meaning = {"operator": self.verb, "keys": " = ".join(origins.key(side) for side in self.sides)}
        for below, name in zip(self.inputs, ("left", "right"), strict=True):
            kept.update({f"{name} {part}": text for part, text in origins.columns(below).items()})
        return kept

    def text(self) -> str:
        owner = self.processor if isinstance(self.processor, type) else type(self.processor)
        return f"{owner.__name__} on {', '.join(self.sides[0].keys)} -> ({', '.join(self.output.visible().names)})"

    def notes(self) -> str:
        return joined(super().notes(), policy_text(self.errors))


@dataclass(frozen=True, eq=False, kw_only=True)
class TablesJoinNode(JoinNode):
    """The rows of two tables that have the same key, as a table. `removed`: by side, as `TableJoinNode.removed`."""

    removed: tuple[str | None, str | None]

    def keeps_null(self, side: int) -> bool:
        return False  # no key, no row of a table

    @cached_property
    def schema(self) -> Schema:
        return Schema((*(self._field(column) for column in self.columns), CHANGE))

    def needs_of(self, port: int, wanted: Columns) -> Columns:
        removed = self.removed[port]
        return super().needs_of(port, wanted) | (frozenset() if removed is None else {removed})

    def meaning(self, origins: Origins) -> Meaning:
        found = super().meaning(origins)
        for below, removed, name in zip(self.inputs, self.removed, ("left", "right"), strict=True):
            found.update(_removals(origins, below, removed, name))
        return found

    def text(self) -> str:
        return f"{super().text()} of two tables"


@dataclass(frozen=True, eq=False, kw_only=True)
class ForeignKeyJoinNode(TablesJoinNode):
    """The rows of a table beside those of another one whose keys they hold; `how`: inner or left.

    The left input comes as rows taken out and put in, and has their `version`; `left_keys` is the left table's own key.
    """

    left_keys: tuple[str, ...]
    version: str

    def keeps_null(self, side: int) -> bool:
        return self.keeps(side)  # a row that names nothing is one of the left table all the same

    def kept(self, side: int) -> tuple[str, ...]:
        names = super().kept(side)
        return names if side else (*self.left_keys, *(name for name in names if name not in self.left_keys))

    def needs_of(self, port: int, wanted: Columns) -> Columns:
        needed = super().needs_of(port, wanted)
        return needed if port else needed | {self.version}

    def text(self) -> str:
        return f"{super().text()}, by a foreign key"
