"""Functions of structs: ``col("address").struct.field("city")``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamdsl.errors import TopologyError
from streamdsl.expr.expression import Expr, call
from streamdsl.expr.no_value import Unfinished
from streamdsl.expr.words import STRUCT_WORDS, unknown_word

__all__ = ["StructFunctions"]


@dataclass(frozen=True, slots=True, eq=False)
class StructFunctions(Unfinished):
    """Functions of structs: ``col("address").struct.field("city")``; `stream.unnest` makes a column of each field."""

    remedy: ClassVar[str] = 'go on with one of its functions, such as .struct.field("name")'
    expr: Expr

    if not TYPE_CHECKING:  # a type checker shall find words that are not there

        def __getattr__(self, name):
            unknown_word(self, "struct.", name, STRUCT_WORDS)

    def field(self, name: str) -> Expr:
        """The field called `name`; null where the struct is null.

        Examples
        --------
        >>> evaluate(col("home").struct.field("city"), home=[{"city": "Lima"}, {"city": None}, None])
        ['Lima', None, None]
        """
        if not isinstance(name, str):
            raise TopologyError(f"struct.field takes the name of one field, not {name!r}", remedy="call it once for each field")
        return call("struct_field", self.expr, params=(name,))
