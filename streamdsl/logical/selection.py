"""Which rows of each source reach an operator: the conditions on the way, as text that does not depend on their order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamdsl.logical.expression import Typed
from streamdsl.logical.filter import FilterNode
from streamdsl.logical.node import Node
from streamdsl.logical.source import SourceNode

if TYPE_CHECKING:
    from streamdsl.logical.meaning import Origins

__all__ = ["Selection", "Selections"]

#: Conditions of so many characters are told; of more, a digest.
_LONGEST: Final = 160


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that hold together. `told`: those that are told; `others` and `digest`: how many more there are, and their sum."""

    told: frozenset[str] = frozenset()
    others: int = 0
    digest: int = 0

    def and_(self, conditions: Iterable[str]) -> Selection:
        """Return the selection under more conditions; one that is told already says nothing."""
        told, others, digest = self.told, self.others, self.digest
        size = sum(map(len, told))
        for condition in conditions:
            if condition in told:
                continue
            if others or size + len(condition) > _LONGEST:
                # All go into the sum: which ones come first depends on how the topology is written.
                digest += sum(map(_number, told)) + _number(condition)
                others += len(told) + 1
                told, size = frozenset(), 0
            else:
                told, size = told | {condition}, size + len(condition)
        return Selection(told, others, digest % (1 << 64))

    def __str__(self) -> str:
        if self.others:
            return f"{self.others} conditions #{self.digest:016x}"
        return " and ".join(sorted(self.told)) or "all"


ALL: Final = Selection()


class Selections:
    """The selections in front of nodes, by source. Nodes are added in the order of the plan: inputs first."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._found: dict[int, Mapping[str, Selection]] = {}

    def add(self, node: Node) -> None:
        """Take the next node."""
        self._found[id(node)] = self._behind(node)

    def parts(self, node: Node) -> dict[str, str]:
        """Return what decides which rows reach `node`: a part of its meaning for each source."""
        return {f"rows of {source!r}": str(selection) for source, selection in self._in_front(node).items()}

    def _behind(self, node: Node) -> Mapping[str, Selection]:
        if isinstance(node, SourceNode):
            return {node.name: ALL}
        before = self._in_front(node)
        if not isinstance(node, FilterNode):
            return before
        conditions = [self._origins.expression(part, node.inputs[0]) for part in _conjuncts(node.predicate)]
        return {source: selection.and_(conditions) for source, selection in before.items()}

    def _in_front(self, node: Node) -> Mapping[str, Selection]:
        if len(node.inputs) == 1:
            return self._found[id(node.inputs[0])]
        by_source: dict[str, set[Selection]] = {}
        for below in node.inputs:
            for source, selection in self._found[id(below)].items():
                by_source.setdefault(source, set()).add(selection)
        return {source: _either(ways) for source, ways in by_source.items()}


def _either(ways: set[Selection]) -> Selection:
    """Return the selection of rows that come by one way or another."""
    if len(ways) == 1:
        return next(iter(ways))
    return ALL.and_([" or ".join(sorted(f"({way})" for way in ways))])


def _conjuncts(predicate: Typed) -> Iterator[Typed]:
    waiting = [predicate]
    while waiting:
        at = waiting.pop()
        if at.op == "and":
            waiting.extend(at.args)
        elif at.op == "coalesce" and at.args[-1].op == "literal" and at.args[-1].params[0] is False:
            waiting.extend(at.args[:-1])  # filters that were made one: null is as good as false
        else:
            yield at


def _number(condition: str) -> int:
    return int.from_bytes(hashlib.blake2b(condition.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
