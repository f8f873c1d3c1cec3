"""Sink: rows go out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from streamdsl.connectors.base import Sink
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.node import Columns, Node

__all__ = ["SinkNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class SinkNode(Node):
    """Writes the visible columns; with `keys` the rows are changes of a table, written as upserts."""

    name: str
    sink: Sink
    keys: tuple[str, ...] = ()
    changes: bool = False

    verb: ClassVar[str] = "sink"

    def needs(self, wanted: Columns) -> Columns:
        visible = frozenset(self.inputs[0].schema.visible().names)
        return visible | {CHANGE.name} if self.changes else visible

    def text(self) -> str:
        shown = ", ".join(self.inputs[0].schema.visible().names)
        return f"{self.name} ({shown})"

    def notes(self) -> str:
        return f"upsert by {', '.join(self.keys) or '(everything)'}" if self.changes else ""
