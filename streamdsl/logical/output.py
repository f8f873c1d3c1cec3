"""Output: the rows that leave a node by a tag."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from streamdsl.logical.node import Node
from streamdsl.schema import Schema

__all__ = ["OutputNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class OutputNode(Node):
    """The output `tag` of its input."""

    tag: str

    verb: ClassVar[str] = "output"

    @cached_property
    def schema(self) -> Schema:
        return self.inputs[0].tags[self.tag]

    def text(self) -> str:
        return self.tag
