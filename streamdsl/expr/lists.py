"""Functions of lists: ``col("tags").list.len()``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamdsl.expr.expression import Expr, Operand, call
from streamdsl.expr.no_value import Unfinished
from streamdsl.expr.words import LIST_WORDS, unknown_word
from streamdsl.scalars import whole

__all__ = ["ListFunctions"]


@dataclass(frozen=True, slots=True, eq=False)
class ListFunctions(Unfinished):
    """Functions of lists: ``col("tags").list.len()``; `stream.explode` makes a row of each item."""

    remedy: ClassVar[str] = "go on with one of its functions, such as .list.len()"
    expr: Expr

    if not TYPE_CHECKING:  # a type checker shall find words that are not there

        def __getattr__(self, name):
            unknown_word(self, "list.", name, LIST_WORDS)

    def len(self) -> Expr:
        """Number of items, nulls among them.

        Examples
        --------
        >>> evaluate(col("tags").list.len(), tags=[["a", None], [], None])
        [2, 0, None]
        """
        return call("list_len", self.expr)

    def get(self, index: int, *, null_on_oob: bool = False) -> Expr:
        """Item number `index` (from 0; negative: from the end).

        Parameters
        ----------
        index : int
        null_on_oob : bool
            An index outside the list gives null; otherwise it is an error of the record.

        Examples
        --------
        >>> evaluate(col("tags").list.get(-1, null_on_oob=True), tags=[["a", "b"], [], None])
        ['b', None, None]
        """
        return call("list_get", self.expr, params=(whole(index, "index"), bool(null_on_oob)))

    def first(self) -> Expr:
        """The first item; null if there is none.

        Examples
        --------
        >>> evaluate(col("tags").list.first(), tags=[["a", "b"], [], None])
        ['a', None, None]
        """
        return self.get(0, null_on_oob=True)

    def last(self) -> Expr:
        """The last item; null if there is none.

        Examples
        --------
        >>> evaluate(col("tags").list.last(), tags=[["a", "b"], [], None])
        ['b', None, None]
        """
        return self.get(-1, null_on_oob=True)

    def contains(self, item: Operand) -> Expr:
        """Whether one of the items is `item`.

        Examples
        --------
        >>> evaluate(col("tags").list.contains("a"), tags=[["a", None], ["b", None], None])
        [True, False, None]
        """
        return call("list_contains", self.expr, item)

    def join(self, separator: Operand, *, ignore_nulls: bool = True) -> Expr:
        """The texts of a list one after another; without `ignore_nulls` null if one is null.

        Examples
        --------
        >>> evaluate(col("tags").list.join("-"), tags=[["a", None, "b"], [], None])
        ['a-b', '', None]
        >>> evaluate(col("tags").list.join("-", ignore_nulls=False), tags=[["a", None, "b"]])
        [None]
        """
        return call("list_join", self.expr, separator, params=(bool(ignore_nulls),))
