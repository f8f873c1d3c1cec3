"""Explode: a row for each item of a list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import pyarrow as pa

from streamdsl.logical.node import Columns, Node, joined
from streamdsl.schema import Field, Schema

__all__ = ["ExplodeNode"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ExplodeNode(Node):
    """Makes a row of each item of the list in `column`; the item is there as text, for a projection to read.

    A list without items makes no row unless `empty_as_null`, a null one with null if `keep_nulls`. `index` is a
    column with the item's place in its list.
    """

    column: str
    empty_as_null: bool
    keep_nulls: bool
    index: str | None = None

    stateless: ClassVar[bool] = True
    verb: ClassVar[str] = "explode"

    @cached_property
    def schema(self) -> Schema:
        fields = self.inputs[0].schema.fields
        made = tuple(replace(f, type=pa.string(), nullable=True) if f.name == self.column else f for f in fields)
        place = () if self.index is None else (Field(self.index, pa.int64()),)
        return Schema((*made, *place))

    def needs(self, wanted: Columns) -> Columns:
        return (wanted - {self.index}) | {self.column}

    def text(self) -> str:
        return joined(
            self.column,
            "" if self.index is None else f"index {self.index}",
            "empty_as_null" if self.empty_as_null else "",
            "" if self.keep_nulls else "without nulls",
        )
