"""Merge: streams of the same columns become one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from streamdsl.logical.node import Node
from streamdsl.schema import Field, Schema

__all__ = ["MergeNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class MergeNode(Node):
    """Rows of all inputs, which have the same columns in the same order."""

    verb: ClassVar[str] = "merge"

    @cached_property
    def schema(self) -> Schema:
        rows = zip(*(node.schema.fields for node in self.inputs), strict=True)
        return Schema(tuple(Field(same[0].name, same[0].type, any(f.nullable for f in same), all(f.hidden for f in same)) for same in rows))
