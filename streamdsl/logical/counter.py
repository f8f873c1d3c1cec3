"""Counter: rows pass, those that match are counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from streamdsl.logical.expression import Typed, columns_of
from streamdsl.logical.node import Columns, Node, letters, policy_text
from streamdsl.policies import ErrorPolicy
from streamdsl.schema import Schema

__all__ = ["CounterNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CounterNode(Node):
    """Counts under `metric` the rows for which `predicate` is true."""

    metric: str
    predicate: Typed
    errors: ErrorPolicy | None = None

    verb: ClassVar[str] = "counter"

    @cached_property
    def tags(self) -> dict[str, Schema]:
        return letters(self)

    @property
    def refuses(self) -> bool:
        return self.predicate.may_fail

    def needs(self, wanted: Columns) -> Columns:
        return wanted | columns_of(self.predicate) | self.refused_rows()

    def text(self) -> str:
        return f"{self.metric} where {self.predicate}"

    def notes(self) -> str:
        return policy_text(self.errors)
