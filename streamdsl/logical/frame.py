"""Frame: aggregates over the earlier records of the row's key; one row in, one row out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from streamdsl.logical.expression import TypedAggregate, aggregate_may_fail, columns_of
from streamdsl.logical.node import Columns, Meaning, StatefulNode, joined, letters, policy_text
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Field, Schema

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["FrameNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameNode(StatefulNode):
    """Appends one column an aggregate; rows too late for a rolling frame leave by the tag `late`."""

    aggregates: tuple[TypedAggregate, ...]
    errors: ErrorPolicy | None = None

    verb: ClassVar[str] = "frame"

    @cached_property
    def schema(self) -> Schema:
        added = (Field(made.name, made.type, made.nullable) for made in self.aggregates)
        return Schema((*self.inputs[0].schema.fields, *added))

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return {"late": self.inputs[0].schema, **letters(self)}

    @property
    def drops_late(self) -> bool:
        return any(one.is_rolling for one in self.aggregates)

    @property
    def refuses(self) -> bool:
        return any(aggregate_may_fail(made) for made in self.aggregates)

    def needs(self, wanted: Columns) -> Columns:
        own = frozenset(made.name for made in self.aggregates)
        read = columns_of(*(part for made in self.aggregates for part in made.expressions()))
        return (wanted - own) | read | self.refused_rows()

    def meaning(self, origins: Origins) -> Meaning:
        below = self.inputs[0]
        found = super().meaning(origins)
        rolling = [one for one in self.aggregates if one.is_rolling]
        running = [one for one in self.aggregates if not one.is_rolling]
        if running:
            found["aggregates"] = origins.aggregates(running, below)
        if rolling:
            # The records themselves are kept: what is computed of them may change, what is gone does not come back.
            found["kept of each record"] = origins.cells(rolling, below)
            found["rolling (ms)"] = max(one.frame.size_ms for one in rolling if one.frame is not None)
        return found

    def text(self) -> str:
        return "; ".join(map(str, self.aggregates))

    def notes(self) -> str:
        return joined(super().notes(), policy_text(self.errors))
