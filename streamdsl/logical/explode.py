"""Explode: a row for each item of a list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import pyarrow as pa

from streamdsl.logical.node import Columns, Node, joined
from streamdsl.schema import Schema

__all__ = ["ExplodeNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ExplodeNode(Node):
    """Makes a row of each item of the list in `column`; the item is there as text, for a projection to read.

    A list without items makes no row unless `empty_as_null`, a null one with null if `keep_nulls`.
    """

    column: str
    empty_as_null: bool
    keep_nulls: bool

    stateless: ClassVar[bool] = True
    verb: ClassVar[str] = "explode"

    @cached_property
    def schema(self) -> Schema:
        fields = self.inputs[0].schema.fields
        return Schema(tuple(replace(f, type=pa.string(), nullable=True) if f.name == self.column else f for f in fields))

    def needs(self, wanted: Columns) -> Columns:
        return wanted | {self.column}

    def text(self) -> str:
        return joined(self.column, "empty_as_null" if self.empty_as_null else "", "" if self.keep_nulls else "without nulls")
