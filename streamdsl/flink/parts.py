"""Parts of expressions that several others use, or whose text would stand many times: columns of a query inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from streamdsl.logical.expression import Typed
from streamdsl.logical.types import is_float
from streamdsl.logical.walk import post_order

__all__ = ["taken_out"]

#: A smaller part is written where it is used.
_LEAST_WEIGHT: Final = 6
_MOST_PARTS: Final = 32


def taken_out(roots: Sequence[Typed]) -> tuple[list[Typed], dict[str, Typed]]:
    """Return the expressions over columns for their parts, and the parts by the names of these columns."""
    parts: dict[str, Typed] = {}
    current = list(roots)
    while len(parts) < _MOST_PARTS:
        part = _largest(current)
        if part is None:
            break
        name = f"_part_{len(parts) + 1}"
        parts[name] = part
        column = Typed("column", part.type, params=(name,), nullable=part.nullable)
        current = [_replaced(root, part, column) for root in current]
    return current, parts


def _largest(roots: Sequence[Typed]) -> Typed | None:
    """Return the largest part that stands in more than one place, or is a float that becomes text, or is rounded."""
    used: Counter[Typed] = Counter(roots)
    asked: set[Typed] = set()
    for node in post_order(roots, Typed.parts):
        used.update(node.args)
        if node.op in ("format", "round"):
            asked |= {arg for arg in node.args if is_float(arg.type) and arg.op not in ("column", "literal")}
    several = {node for node, count in used.items() if count > 1 and node.weight >= _LEAST_WEIGHT and node.op != "literal"}
    # What may fail must not be computed for rows for which a choice leaves it out.
    found = sorted((node for node in asked | several if not node.may_fail), key=lambda node: (node.weight, str(node)), reverse=True)
    return found[0] if found else None


def _replaced(root: Typed, part: Typed, column: Typed) -> Typed:
    made: dict[int, Typed] = {}
    for node in post_order([root], Typed.parts):
        if node == part:
            made[id(node)] = column
            continue
        args = tuple(made[id(arg)] for arg in node.args)
        same = all(new is old for new, old in zip(args, node.args, strict=True))
        made[id(node)] = node if same else replace(node, args=args)
    return made[id(root)]
