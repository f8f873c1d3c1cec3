"""What all logical nodes have. A node is frozen; plans are graphs of nodes, compared by identity."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union

from streamdsl.connectors.base import POSITION_COLUMNS, Sink
from streamdsl.durations import format_duration
from streamdsl.logical.expression import Typed
from streamdsl.policies import DeadLetter, ErrorPolicy
from streamdsl.schema import DEAD_LETTER_SCHEMA, Field, Schema
from streamdsl.windows import Window

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["Columns", "Meaning", "Node", "StatefulNode"]

#: The columns a plan still needs, by name.
Columns = frozenset[str]
#: What decides the meaning of state: part -> text, which must stay the same, or a number, which may become smaller.
Meaning = dict[str, Union[str, int]]
N = TypeVar("N", bound="Node")


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One step of the meaning of a topology.

    `where` is the line that wrote it, for errors; it is no part of what the node means.
    """

    inputs: tuple[Node, ...] = ()
    where: str = field(default="", repr=False)

    #: Rows leave in the order and number they come, each computed from its own columns alone.
    stateless: ClassVar[bool] = False
    verb: ClassVar[str] = ""

    def __post_init__(self) -> None:
        # Now, when those of the inputs are known: asked for later, a long chain would be deeper than Python's stack.
        self.schema  # noqa: B018

    @cached_property
    def schema(self) -> Schema:
        """Columns of the main output, hidden ones included."""
        return self.inputs[0].schema

    @cached_property
    def tags(self) -> dict[str, Schema]:
        """Columns of the other outputs, by tag."""
        return {}

    @property
    def dead_letter(self) -> DeadLetter | None:
        """Where the records go that the node refuses."""
        policy: ErrorPolicy | None = getattr(self, "errors", None)
        return policy if isinstance(policy, DeadLetter) else None

    @property
    def refuses(self) -> bool:
        """Whether a record can fail here; nodes that say so have a field `errors` (None: what is around them decides)."""
        return True

    def needs(self, wanted: Columns) -> Columns:
        """Return the input columns without which the `wanted` output columns cannot be made."""
        return wanted

    def needs_of(self, port: int, wanted: Columns) -> Columns:
        """Return the same for one of several inputs."""
        return self.needs(wanted)

    def tag_needs(self, tag: str, wanted: Columns) -> Columns:
        """Return the input columns without which the `wanted` columns of an output tag cannot be made."""
        return wanted if self.tags[tag] is self.inputs[0].schema else frozenset()

    def refused_rows(self) -> Columns:
        """Return the input columns that a dead letter shows; none if there are no dead letters."""
        return self.rows_of_user_code() if self.dead_letter else frozenset()

    def rows_of_user_code(self) -> Columns:
        """Return the input columns that a user's function sees, and those that say where a record it refuses came from."""
        rows, skips = self.inputs[0].schema, getattr(self, "errors", None) == "skip"
        return frozenset(field.name for field in rows.fields if not field.hidden or (field.name in POSITION_COLUMNS and not skips))

    def with_inputs(self: N, inputs: Sequence[Node]) -> N:
        """Return the node over other inputs; itself if nothing changes."""
        if len(inputs) == len(self.inputs) and all(a is b for a, b in zip(inputs, self.inputs, strict=True)):
            return self
        return replace(self, inputs=tuple(inputs))

    def identity(self) -> tuple[Hashable, ...]:
        """Return what the node means, apart from its inputs: equal nodes do the same."""
        skipped = {"inputs", "where"}
        values = (getattr(self, part.name) for part in dataclasses.fields(self) if part.name not in skipped)
        return (type(self).__name__, *(_hashable(value) for value in values))

    def text(self) -> str:
        """Return the node's own part of a printed plan."""
        return ""

    def notes(self) -> str:
        """Return what stands behind the node in a printed plan."""
        return ""


def positions_of(rows: Schema) -> Columns:
    """Return the hidden columns that say where a row came from."""
    return frozenset(name for name in POSITION_COLUMNS if name in rows and rows.field(name).hidden)


@dataclass(frozen=True, eq=False, kw_only=True)
class StatefulNode(Node):
    """A node that keeps state by key. `name` is the identity of that state; `named` tells who chose it."""

    name: str
    named: bool = False

    @property
    def drops_late(self) -> bool:
        """Whether it leaves rows out because they come too late: the log tells where the first one came from."""
        return False

    @cached_property
    def key_schema(self) -> Schema:
        """Names and types of the key's components."""
        from streamdsl.logical.key_by import key_of

        return key_of(self).key_schema

    def notes(self) -> str:
        return f"[state {self.name}]"

    def meaning(self, origins: Origins) -> Meaning:
        """Return what decides the meaning of the state: a checkpoint keeps it, and a job that goes on is held to it."""
        from streamdsl.logical.key_by import key_of

        return {"operator": self.verb, "keys": origins.key(key_of(self))}


def _hashable(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        # User objects may be mutable: two of them are never taken for one.
        return ("object", id(value))
    if isinstance(value, (Typed, Schema, Field, str, tuple)):
        return value if not isinstance(value, tuple) else tuple(_hashable(item) for item in value)
    return (type(value).__name__, value)


def letters(node: Node) -> dict[str, Schema]:
    """Return the output of the records that the node refuses, by its tag, if they become dead letters."""
    return {"dead_letter": DEAD_LETTER_SCHEMA} if node.dead_letter else {}


def window_meaning(window: Window | None) -> Meaning:
    """Return the parts of a window. Its grace may become smaller: windows that are open close earlier."""
    if window is None:
        return {}
    return {"window": str(window), "emit": str(window.emit), "grace (ms)": window.grace_ms}


def policy_text(policy: ErrorPolicy | None) -> str:
    """Return an error policy for a printed plan; nothing for the default."""
    if policy is None or policy == "fail":
        return ""
    return f"errors={policy}" if isinstance(policy, str) else f"errors=dead_letter({policy.name})"


def sink_text(sink: Sink) -> str:
    """Return the class of a connector for a printed plan."""
    return type(sink).__name__


def joined(*parts: str) -> str:
    """Return the parts that are not empty, with spaces between."""
    return " ".join(part for part in parts if part)


def duration_text(label: str, ms: int | None) -> str:
    """Return ``label=5s``; nothing for None and 0."""
    return f"{label}={format_duration(ms)}" if ms else ""
