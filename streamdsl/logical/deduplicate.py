"""Deduplicate: of the records of a key that are near one another in time, the first to arrive."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from streamdsl.durations import format_duration
from streamdsl.logical.node import Columns, Meaning, StatefulNode
from streamdsl.schema import Schema

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["DeduplicateNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class DeduplicateNode(StatefulNode):
    """Drops a record if one of its key that was kept lies less than `within_ms` away (None: at any time).

    With a time, records at or below the watermark leave by the tag `late`.
    """

    within_ms: int | None = None

    verb: ClassVar[str] = "deduplicate"

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return {} if self.within_ms is None else {"late": self.inputs[0].schema}

    @property
    def drops_late(self) -> bool:
        return self.within_ms is not None

    def needs(self, wanted: Columns) -> Columns:
        return wanted

    def meaning(self, origins: Origins) -> Meaning:
        found = super().meaning(origins)
        # What has left the state of a shorter time does not come back.
        found["within (ms)"] = "for ever" if self.within_ms is None else self.within_ms
        return found

    def text(self) -> str:
        return "" if self.within_ms is None else f"within {format_duration(self.within_ms)}"
