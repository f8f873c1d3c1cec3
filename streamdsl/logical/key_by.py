"""KeyBy: rows of one key come together, and meet the state of their key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from streamdsl.errors import InternalError
from streamdsl.logical.node import Columns, Node
from streamdsl.schema import Field, Schema

__all__ = ["KeyByNode", "key_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class KeyByNode(Node):
    """Gives each row the key made of the columns `keys`; rows with a null component are dropped and counted.

    `partitioned`: rows of one key come from one split, by the source's own partitioning, and need not change tasks.
    `joins`: it is one side of a join, whose keys meet those of the other; with `keeps_null` rows with a null key go on to it.
    `in_place`: its rows are in the task of their key already.
    """

    keys: tuple[str, ...]
    partitioned: bool = False
    joins: bool = False
    keeps_null: bool = False
    in_place: bool = False

    verb: ClassVar[str] = "key_by"

    @cached_property
    def key_schema(self) -> Schema:
        """Names and types of the key's components."""
        fields = (self.inputs[0].schema.field(name) for name in self.keys)
        return Schema(tuple(Field(field.name, field.type, nullable=False) for field in fields))

    def needs(self, wanted: Columns) -> Columns:
        return wanted | frozenset(self.keys)

    def text(self) -> str:
        return ", ".join(self.keys) or "(everything)"

    def notes(self) -> str:
        if self.partitioned:
            return "[no exchange: the source is partitioned by it]"
        return "[no exchange: the rows are there]" if self.in_place else ""


def key_of(node: Node) -> KeyByNode:
    """Return the key_by whose keys the rows in front of `node` still have."""
    passed: list[Node] = []
    step = node
    while not isinstance(step, KeyByNode):
        known = step.__dict__.get("_key_by")
        if known is not None:
            step = known
            break
        if len(step.inputs) != 1:
            raise InternalError(f"{node.verb} stands on a stream without a key")
        passed.append(step)
        step = step.inputs[0]
    assert isinstance(step, KeyByNode)
    for one in passed:
        # As a cached property, but found for a whole chain at once.
        one.__dict__["_key_by"] = step
    return step
