"""Sink: rows go out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from streamdsl.connectors.base import Sink
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.node import Columns, Node, joined, letters, policy_text
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Schema

__all__ = ["SinkNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class SinkNode(Node):
    """Writes the visible columns; with `keys` the rows are changes of a table, written as upserts.

    `withdraws`: they may also go.
    """

    name: str
    sink: Sink
    keys: tuple[str, ...] = ()
    changes: bool = False
    withdraws: bool = False
    errors: ErrorPolicy | None = None

    verb: ClassVar[str] = "sink"

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return letters(self)

    def needs(self, wanted: Columns) -> Columns:
        visible = frozenset(self.inputs[0].schema.visible().names) | self.refused_rows()
        return visible | {CHANGE.name} if self.changes else visible

    def text(self) -> str:
        shown = ", ".join(self.inputs[0].schema.visible().names)
        return f"{self.name} ({shown})"

    def notes(self) -> str:
        return joined(f"upsert by {', '.join(self.keys) or '(everything)'}" if self.changes else "", policy_text(self.errors))
