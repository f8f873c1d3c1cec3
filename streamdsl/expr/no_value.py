"""What Python asks of a value, of things that have none before the topology runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from streamdsl.errors import TopologyError

__all__ = ["NoValue", "NoValueError", "Unfinished"]


class NoValueError(TopologyError, TypeError):
    """Python asked for a value where there is none before the topology runs. A `TypeError` too, as protocols expect."""


#: What Python's questions are called, and the words of the error.
_QUESTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "has no truth value before it runs": ("__bool__",),
    "has no length before it runs": ("__len__",),
    "cannot be iterated over": ("__iter__", "__reversed__"),
    "cannot be searched by `in`": ("__contains__",),
    "cannot be taken apart by [...]": ("__getitem__",),
    "cannot be changed": ("__setitem__", "__delitem__"),
    "is no Python number before it runs": ("__float__", "__int__", "__complex__", "__index__"),
    "is not rounded by Python": ("__round__", "__floor__", "__ceil__", "__trunc__"),
    "has no such operator": (
        *("__matmul__", "__lshift__", "__rshift__", "__xor__", "__divmod__"),
        *("__rmatmul__", "__rlshift__", "__rrshift__", "__rxor__", "__rdivmod__"),
    ),
}


class NoValue:
    """Base of what a user holds while a topology is built. `instead` tells what to write, by the words of the error."""

    __slots__ = ()
    instead: ClassVar[Mapping[str, str]] = {}

    def _shown(self) -> str:
        """Return what the errors call it."""
        return repr(self)

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        self._refuse("has no value to format before it runs")

    def _refuse(self, words: str) -> NoReturn:
        raise NoValueError(f"{self._shown()} {words}", remedy=self.instead.get(words))


def _refusing(words: str) -> Callable[..., Any]:
    def refuse(self: NoValue, *_: object) -> NoReturn:
        self._refuse(words)

    return refuse


if not TYPE_CHECKING:  # a type checker shall find what is not there
    for _words, _names in _QUESTIONS.items():
        for _name in _names:
            setattr(NoValue, _name, _refusing(_words))


class Unfinished(NoValue):
    """Base of what is not an expression yet; `remedy` says what is missing."""

    __slots__ = ()
    remedy: ClassVar[str] = ""

    def __hash__(self) -> int:
        return id(self)

    def _refuse(self, words: str) -> NoReturn:
        raise NoValueError(f"{type(self).__name__} is not an expression yet", remedy=self.remedy)


if not TYPE_CHECKING:

    def _not_yet(self, *_):
        self._refuse("")

    for _op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or"):
        setattr(Unfinished, f"__{_op}__", _not_yet)
        setattr(Unfinished, f"__r{_op}__", _not_yet)
    for _op in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "invert"):
        setattr(Unfinished, f"__{_op}__", _not_yet)
