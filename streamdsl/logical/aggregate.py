"""Aggregate and Reduce without a window: a table, one row for each key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from streamdsl.logical.expression import Typed, TypedAggregate, aggregate_may_fail, columns_of
from streamdsl.logical.node import Columns, Meaning, StatefulNode, joined, letters, policy_text, window_meaning
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Field, Schema
from streamdsl.windows import TableEmission, Window

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["CHANGE", "WINDOW_FIELDS", "AggregateNode", "ReduceNode", "changes_of"]

#: What a change row is: "add", "replace" or "withdraw".
CHANGE = Field("op", pa.string(), nullable=False, hidden=True)
WINDOW_FIELDS = (
    Field("window_start", pa.timestamp("ms", tz="UTC"), nullable=False),
    Field("window_end", pa.timestamp("ms", tz="UTC"), nullable=False),
)


def changes_of(window: Window) -> tuple[Field, ...]:
    """Return the column that says what a row of a window is, where rows may be withdrawn; for all to see."""
    return (replace(CHANGE, hidden=False),) if window.withdraws else ()


@dataclass(frozen=True, eq=False, kw_only=True)
class AggregateNode(StatefulNode):
    """Running aggregates by key; a change row for each record, or as `emit` says.

    `sign`: -1 for rows that are withdrawn, 1 for those that are added; without it all are added.
    """

    aggregates: tuple[TypedAggregate, ...]
    errors: ErrorPolicy | None = None
    sign: Typed | None = None
    emit: TableEmission = "update"

    verb: ClassVar[str] = "aggregate"

    @cached_property
    def schema(self) -> Schema:
        made = (Field(one.name, one.type, one.nullable) for one in self.aggregates)
        return Schema((*self.key_schema.fields, *made, CHANGE))

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return letters(self)

    @property
    def refuses(self) -> bool:
        return any(aggregate_may_fail(made) for made in self.aggregates)

    def needs(self, wanted: Columns) -> Columns:
        return columns_of(*self.expressions()) | self.refused_rows()

    def expressions(self) -> tuple[Typed, ...]:
        """Return what it reads from a row."""
        signs = () if self.sign is None else (self.sign,)
        return (*(part for made in self.aggregates for part in made.expressions()), *signs)

    def meaning(self, origins: Origins) -> Meaning:
        found: Meaning = {**super().meaning(origins), "aggregates": origins.aggregates(self.aggregates, self.inputs[0])}
        if self.sign is not None:
            found["sign"] = origins.expression(self.sign, self.inputs[0])
        return found

    def text(self) -> str:
        emit = "" if self.emit == "update" else f" emit {self.emit}"
        return "; ".join(map(str, self.aggregates)) + emit

    def notes(self) -> str:
        return joined(super().notes(), policy_text(self.errors))


@dataclass(frozen=True, eq=False, kw_only=True)
class ReduceNode(StatefulNode):
    """Unites the rows of a key (and window) two by two with a Python function; rows keep their columns. `emit`: without a window."""

    function: Callable[..., Any]
    window: Window | None = None
    errors: ErrorPolicy | None = None
    emit: TableEmission = "update"

    verb: ClassVar[str] = "reduce"

    @cached_property
    def schema(self) -> Schema:
        rows = self.inputs[0].schema.visible()
        rest = tuple(field for field in rows.fields if field.name not in self.key_schema)
        if self.window is None:
            return Schema((*self.key_schema.fields, *rest, CHANGE))
        rest = tuple(field for field in rest if field.name not in {made.name for made in WINDOW_FIELDS})
        return Schema((*self.key_schema.fields, *WINDOW_FIELDS, *rest, *changes_of(self.window)))

    @cached_property
    def tags(self) -> dict[str, Schema]:
        found = {} if self.window is None else {self.window.late: self.inputs[0].schema}
        return {**found, **letters(self)}

    @property
    def drops_late(self) -> bool:
        return self.window is not None

    def needs(self, wanted: Columns) -> Columns:
        return frozenset(self.inputs[0].schema.visible().names)

    def meaning(self, origins: Origins) -> Meaning:
        rows = origins.rows(self.inputs[0], self.inputs[0].schema.visible())
        return {**super().meaning(origins), **window_meaning(self.window), "rows": rows}

    def text(self) -> str:
        over = f" window {self.window}" if self.window else ""
        emit = "" if self.emit == "update" else f" emit {self.emit}"
        return f"{getattr(self.function, '__name__', 'function')}{over}{emit}"

    def notes(self) -> str:
        return joined(super().notes(), policy_text(self.errors))
