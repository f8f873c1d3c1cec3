"""WindowAggregate: many rows in, one row out for each key and window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from streamdsl.logical.aggregate import WINDOW_FIELDS, changes_of
from streamdsl.logical.expression import TypedAggregate, aggregate_may_fail, columns_of
from streamdsl.logical.node import Columns, Meaning, StatefulNode, duration_text, joined, letters, policy_text, window_meaning
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Field, Schema
from streamdsl.windows import Window

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["WindowAggregateNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowAggregateNode(StatefulNode):
    """Aggregates by key and window; rows that no window took leave by the window's tag of late rows."""

    window: Window
    aggregates: tuple[TypedAggregate, ...]
    errors: ErrorPolicy | None = None

    verb: ClassVar[str] = "window_aggregate"

    @cached_property
    def schema(self) -> Schema:
        made = (Field(one.name, one.type, one.nullable) for one in self.aggregates)
        return Schema((*self.key_schema.fields, *WINDOW_FIELDS, *made, *changes_of(self.window)))

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return {self.window.late: self.inputs[0].schema, **letters(self)}

    @property
    def drops_late(self) -> bool:
        return True

    @property
    def refuses(self) -> bool:
        return self.window.refuses or any(aggregate_may_fail(made) for made in self.aggregates)

    def needs(self, wanted: Columns) -> Columns:
        return columns_of(*(part for made in self.aggregates for part in made.expressions())) | self.refused_rows()

    def meaning(self, origins: Origins) -> Meaning:
        aggregates = origins.aggregates(self.aggregates, self.inputs[0])
        return {**super().meaning(origins), **window_meaning(self.window), "aggregates": aggregates}

    def text(self) -> str:
        return f"{self.window}: {'; '.join(map(str, self.aggregates))}"

    def notes(self) -> str:
        emit = "" if self.window.emit == "close" else f"emit={self.window.emit}"
        return joined(emit, duration_text("grace", self.window.grace_ms), super().notes(), policy_text(self.errors))
