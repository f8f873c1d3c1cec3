"""Counter: rows pass, those that match are counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from streamdsl.logical.expression import Typed, columns_of
from streamdsl.logical.node import Columns, Node

__all__ = ["CounterNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CounterNode(Node):
    """Counts under `metric` the rows for which `predicate` is true."""

    metric: str
    predicate: Typed

    verb: ClassVar[str] = "counter"

    def needs(self, wanted: Columns) -> Columns:
        return wanted | columns_of(self.predicate)

    def text(self) -> str:
        return f"{self.metric} where {self.predicate}"
