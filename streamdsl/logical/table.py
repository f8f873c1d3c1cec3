"""Table: the last row of each key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.node import Columns, Meaning, StatefulNode
from streamdsl.schema import Schema

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["TableNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TableNode(StatefulNode):
    """Keeps the last row of each key, by arrival, and emits its changes.

    `retracts`: a row that replaces another is told as two changes, the old one withdrawn, the new one added.
    """

    retracts: bool = False

    verb: ClassVar[str] = "table"

    @cached_property
    def schema(self) -> Schema:
        return Schema((*self.inputs[0].schema.visible().fields, CHANGE))

    def needs(self, wanted: Columns) -> Columns:
        # The state holds the whole row, whoever reads it today.
        return frozenset(self.inputs[0].schema.visible().names)

    def meaning(self, origins: Origins) -> Meaning:
        return {**super().meaning(origins), "rows": origins.rows(self.inputs[0], self.inputs[0].schema.visible())}
