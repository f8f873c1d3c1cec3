"""What Python asks of a frame or a list, of streams, tables and topologies: they describe, and have no rows yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, TypeVar

from streamdsl.expr.no_value import NoValue, NoValueError

__all__ = ["Unrun"]

U = TypeVar("U", bound="Unrun")

_INSTEAD: Final[Mapping[str, str]] = {
    "has no truth value before it runs": "whether there are rows is known when it has run: .collect().num_rows",
    "has no value to format before it runs": "use str(...) for its columns",
    "has no length before it runs": "use .collect().num_rows, or .key_by().count() for a count that goes on",
    "cannot be iterated over": "use .collect().to_pylist(), .head(10), or .map(...) and .peek(...) for each row as it comes",
    "cannot be searched by `in`": "use .schema.names for its columns, .filter(...) for its rows",
    "cannot be taken apart by [...]": 'use col("name") in a verb, .select("name"), .filter(...), .head(10)',
    "cannot be changed": 'each verb returns a new one: rows = rows.with_columns(name=col("x") * 2)',
    "is no Python number before it runs": "use .collect() for its rows",
    "is not rounded by Python": 'use .with_columns(x=col("x").round(2))',
    "has no such operator": 'operators work on columns: .with_columns(y=col("x") + 1); .merge(other) unites streams',
}


class Unrun(NoValue):
    """Base of streams, tables and what stands between their verbs."""

    instead = _INSTEAD
    #: Attributes without an underscore that it sets itself.
    _own: ClassVar[frozenset[str]] = frozenset()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and name not in self._own:
            raise NoValueError(f"{self._shown()} cannot be changed: .{name} = ...", remedy=self.instead["cannot be changed"])
        object.__setattr__(self, name, value)

    def __copy__(self: U) -> U:
        return self

    def __deepcopy__(self: U, memo: object) -> U:
        return self

    def __reduce__(self) -> NoReturn:
        raise NoValueError(
            f"{self._shown()} cannot be copied or pickled",
            remedy="build the topology in a function, and call that where it is wanted",
        )


def _refusing(words: str) -> Callable[..., Any]:
    def refuse(self: Unrun, *_: object) -> NoReturn:
        self._refuse(words)

    return refuse


if not TYPE_CHECKING:  # a type checker shall find what is not there
    for _op in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or"):
        for _name in (f"__{_op}__", f"__r{_op}__"):
            setattr(Unrun, _name, _refusing("has no such operator"))
    for _op in ("lt", "le", "gt", "ge", "neg", "pos", "abs", "invert"):
        setattr(Unrun, f"__{_op}__", _refusing("has no such operator"))
