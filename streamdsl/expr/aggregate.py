"""Aggregates of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from streamdsl.errors import TopologyError
from streamdsl.expr.expression import Expr, column_or_expr
from streamdsl.expr.no_value import Unfinished
from streamdsl.functions import check_function
from streamdsl.logical.expression import Aggregation
from streamdsl.schema import type_of

__all__ = ["Aggregate"]


@dataclass(frozen=True, slots=True)
class Aggregate(Unfinished):
    """An aggregate of one's own, in Python: call it with the column it reads.

    The functions may change the state that they are given, and return it.

    Parameters
    ----------
    init : callable
        Returns the empty state.
    add : callable
        ``add(state, value)`` returns the state with one value more.
    merge : callable, optional
        ``merge(a, b)`` unites two states of a key; the first record of `a` arrived before that of `b`. Session windows need it.
    result : callable, optional
        ``result(state)`` returns the value of the column; without it the state itself is the value.
    type : type
        Type of the column.
    withdraw : callable, optional
        ``withdraw(state, value)`` returns the state without a value that was added before. Groups of a table need it.

    Examples
    --------
    >>> longest = Aggregate(lambda: "", lambda s, v: max(s, v, key=len), type=str)
    >>> evaluate(longest(col("city")), city=["Ica", None, "Lima"])
    ['Lima']

    A state that is not the value:

    >>> spread = Aggregate(
    ...     init=lambda: [],
    ...     add=lambda seen, value: [min([value, *seen]), max([value, *seen])],
    ...     merge=lambda a, b: [min(a + b), max(a + b)],
    ...     result=lambda seen: seen[1] - seen[0],
    ...     type=float,
    ... )
    >>> evaluate(spread(col("x")), x=[3.0, 1.5, 4.0])
    [2.5]
    """

    remedy: ClassVar[str] = 'call it with the column it reads: longest(col("city"))'
    init: Callable[[], Any]
    add: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any] | None = None
    result: Callable[[Any], Any] | None = None
    type: Any = None
    withdraw: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        check_function("Aggregate", self.init, "a function init()")
        check_function("Aggregate", self.add, "a function add(state, value)")
        if self.merge is not None:
            check_function("Aggregate", self.merge, "a function merge(a, b)")
        if self.withdraw is not None:
            check_function("Aggregate", self.withdraw, "a function withdraw(state, value)")
        if self.result is not None:
            check_function("Aggregate", self.result, "a function result(state)")
        if self.type is None:
            raise TopologyError("Aggregate needs type=, the type of its column")
        type_of(self.type)

    @property
    def result_type(self) -> pa.DataType:
        """Logical type of the column.

        Examples
        --------
        >>> Aggregate(list, lambda seen, value: [*seen, value], type=list[int]).result_type
        ListType(list<item: int64>)
        """
        return type_of(self.type)

    def __call__(self, value: Expr | str) -> Expr:
        """Return the aggregate over a column or expression."""
        return Expr(Aggregation("custom", column_or_expr(value), custom=self))
