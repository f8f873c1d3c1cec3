"""Filter: keeps the rows for which a condition is true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from streamdsl.logical.expression import Typed, columns_of
from streamdsl.logical.node import Columns, Node

__all__ = ["FilterNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FilterNode(Node):
    """Keeps the rows for which `predicate` is true; false and null rows go."""

    predicate: Typed

    stateless: ClassVar[bool] = True
    verb: ClassVar[str] = "filter"

    def needs(self, wanted: Columns) -> Columns:
        return wanted | columns_of(self.predicate)

    def text(self) -> str:
        return str(self.predicate)
