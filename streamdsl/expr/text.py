"""Functions of strings: ``col("city").str.to_lowercase()``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamdsl.errors import TopologyError
from streamdsl.expr.expression import Expr, Operand, call, whole
from streamdsl.expr.words import TEXT_WORDS, unknown_word

__all__ = ["StringFunctions"]


@dataclass(frozen=True, slots=True)
class StringFunctions:
    """Functions of strings: ``col("city").str.to_lowercase()``. Lengths and offsets count characters."""

    expr: Expr

    if not TYPE_CHECKING:  # a type checker shall find words that are not there

        def __getattr__(self, name):
            unknown_word(self, "str.", name, TEXT_WORDS)

    def to_lowercase(self) -> Expr:
        """In small letters."""
        return call("str_to_lowercase", self.expr)

    def to_uppercase(self) -> Expr:
        """In capital letters."""
        return call("str_to_uppercase", self.expr)

    def strip_chars(self) -> Expr:
        """Without white space at both ends."""
        return call("str_strip_chars", self.expr)

    def len_chars(self) -> Expr:
        """Number of characters."""
        return call("str_len_chars", self.expr)

    def starts_with(self, prefix: Operand) -> Expr:
        """Whether the string begins with `prefix`."""
        return call("str_starts_with", self.expr, prefix)

    def ends_with(self, suffix: Operand) -> Expr:
        """Whether the string ends with `suffix`."""
        return call("str_ends_with", self.expr, suffix)

    def contains(self, part: Operand) -> Expr:
        """Whether `part` (plain text) occurs in the string."""
        return call("str_contains", self.expr, part)

    def slice(self, offset: int, length: int | None = None) -> Expr:
        """`length` characters from `offset` on (negative: from the end); None is to the end."""
        return call("str_slice", self.expr, params=(whole(offset, "offset"), None if length is None else whole(length, "length")))

    def replace(self, old: str, new: str) -> Expr:
        """With every `old` (plain text) replaced by `new`."""
        if not old:
            raise TopologyError("str.replace needs a text to look for")
        return call("str_replace", self.expr, params=(old, new))

    def split_part(self, separator: str, index: int) -> Expr:
        """Part number `index` (from 0) between separators; "" if there are fewer."""
        if not separator:
            raise TopologyError("str.split_part needs a separator")
        return call("str_split_part", self.expr, params=(separator, whole(index, "index")))

    def extract(self, regex: str, group: int = 1) -> Expr:
        """What `group` of the first match holds; null without a match."""
        try:
            groups = re.compile(regex).groups
        except re.error as error:
            raise TopologyError(f"str.extract: {regex!r} is not a regular expression: {error}") from None
        group = whole(group, "group")
        if not 0 <= group <= groups:
            raise TopologyError(f"str.extract: {regex!r} has {groups} groups, not {group}", remedy="group=0 is all of it")
        return call("str_extract", self.expr, params=(regex, group))
