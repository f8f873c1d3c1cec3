"""Table: the last row of each key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.node import Columns, Meaning, StatefulNode
from streamdsl.schema import Field, Schema

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["VERSION", "TableNode"]

#: The number of the arrival of a row of a table, in whatever task; later ones of a key are greater.
VERSION = Field("_version", pa.int64(), nullable=False, hidden=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class TableNode(StatefulNode):
    """Keeps the last row of each key, by arrival, and emits its changes.

    `retracts`: a row that replaces another is told as two changes, the old one withdrawn, the new one added. `numbered`: rows have
    the column `VERSION`. `removed` is the input column that says whether a row takes the key's row away; where there is none, or
    it says nothing, rows with nothing beside their key do. `version` is the input column by which the key's last row is found in
    place of its arrival; `by_time`: it is the row's event time.

    Of joins with streams: `keep_ms` is how long rows that were replaced are kept (None: they are not), `broadcast`: every task has
    the whole table.
    """

    retracts: bool = False
    numbered: bool = False
    removed: str | None = None
    version: str | None = None
    by_time: bool = False
    keep_ms: int | None = None
    broadcast: bool = False

    verb: ClassVar[str] = "table"

    @cached_property
    def schema(self) -> Schema:
        return Schema((*self.inputs[0].schema.visible().fields, *((VERSION,) if self.numbered else ()), CHANGE))

    def needs(self, wanted: Columns) -> Columns:
        # The state holds the whole row, whoever reads it today.
        hidden = {name for name in (self.removed, self.version) if name is not None}
        return frozenset(self.inputs[0].schema.visible().names) | hidden

    def meaning(self, origins: Origins) -> Meaning:
        kept: Meaning = {**super().meaning(origins), "rows": origins.rows(self.inputs[0], self.inputs[0].schema.visible())}
        if self.removed is not None:
            kept["rows taken away"] = origins.column(self.inputs[0], self.removed)
        return {**kept, "last": "by event time"} if self.by_time else kept
