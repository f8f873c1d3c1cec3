"""Walking over expressions and plans: graphs whose parts may be shared, and deeper than Python's stack.

No function here recurses, and each visits a shared part once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

__all__ = ["Shared", "post_order", "same"]

T = TypeVar("T")


def post_order(roots: Iterable[T], parts: Callable[[T], Sequence[T]]) -> list[T]:
    """Return everything below `roots`, each object once: parts before what they are part of, left to right."""
    done: dict[int, T] = {}
    for root in roots:
        waiting: list[tuple[T, bool]] = [(root, False)]
        while waiting:
            node, ready = waiting.pop()
            if id(node) in done:
                continue
            below = () if ready else parts(node)
            if not below:
                done[id(node)] = node
                continue
            waiting.append((node, True))
            waiting.extend((part, False) for part in reversed(below))
    return list(done.values())


def same(a: T, b: T, alike: Callable[[T, T], bool], parts: Callable[[T], Sequence[T]]) -> bool:
    """Tell whether two graphs are equal; `alike` compares two nodes without their parts."""
    seen: set[tuple[int, int]] = set()
    waiting = [(a, b)]
    while waiting:
        left, right = waiting.pop()
        if left is right or (id(left), id(right)) in seen:
            continue
        seen.add((id(left), id(right)))
        ours, theirs = parts(left), parts(right)
        if len(ours) != len(theirs) or not alike(left, right):
            return False
        waiting.extend(zip(ours, theirs, strict=True))
    return True


class _At(NamedTuple):
    """Stands in a flattened graph for the part with this number."""

    number: int


class Shared:
    """Base of frozen dataclasses that are made of one another: hashed once, compared and pickled without recursion.

    A subclass is a dataclass with ``eq=False`` that says what its `parts` are and what it `says` beside them.
    """

    __slots__ = ("key",)
    key: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", hash((type(self).__name__, self.says(), tuple(part.key for part in self.parts()))))

    def parts(self) -> tuple[Any, ...]:
        """Return the direct parts, in order."""
        return ()

    def says(self) -> tuple[Any, ...]:
        """Return what tells the node from others with equal parts; hashable."""
        raise NotImplementedError

    def __hash__(self) -> int:
        return self.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shared) and same(self, other, _alike, _parts)

    def __copy__(self) -> Shared:
        return self

    def __deepcopy__(self, memo: object) -> Shared:
        return self

    def __reduce__(self) -> Any:
        nodes = post_order([self], _parts)
        numbers = {id(node): number for number, node in enumerate(nodes)}
        return _assembled, (tuple((type(node), _fields(node, numbers)) for node in nodes),)


def _parts(node: Shared) -> tuple[Shared, ...]:
    return node.parts()


def _alike(a: Shared, b: Shared) -> bool:
    return a.key == b.key and type(a) is type(b) and a.says() == b.says()


def _fields(node: Any, numbers: dict[int, int]) -> tuple[Any, ...]:
    return tuple(_packed(getattr(node, field.name), numbers) for field in dataclasses.fields(node) if field.init)


def _packed(value: Any, numbers: dict[int, int]) -> Any:
    if isinstance(value, Shared):
        return _At(numbers[id(value)])
    if type(value) is tuple and any(isinstance(item, Shared) for item in value):
        return tuple(_packed(item, numbers) for item in value)
    return value


def _assembled(flat: tuple[tuple[Any, tuple[Any, ...]], ...]) -> Any:
    made: list[Any] = []
    for kind, values in flat:
        made.append(kind(*(_unpacked(value, made) for value in values)))
    return made[-1]


def _unpacked(value: Any, made: list[Any]) -> Any:
    if isinstance(value, _At):
        return made[value.number]
    if type(value) is tuple and any(isinstance(item, _At) for item in value):
        return tuple(_unpacked(item, made) for item in value)
    return value
