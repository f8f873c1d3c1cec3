"""Aggregates bound to a schema: argument casts and result types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from streamdsl.errors import TopologyError
from streamdsl.logical.expression import (
    Aggregation,
    Call,
    ColumnRef,
    Expression,
    Typed,
    TypedAggregate,
    aggregations,
    column_names,
    rewrite,
    text_of,
)
from streamdsl.logical.types import FLOAT, INT, UINT, convert, is_date, is_decimal, is_float, is_number, is_ordered, is_span, retyped

if TYPE_CHECKING:
    from streamdsl.logical.bind import Binder

__all__ = ["Splitter", "bind_aggregate", "check_mergeable", "check_withdrawable", "mergeable", "slug_of"]

#: Aggregates that always have a value.
_NEVER_NULL: Final = frozenset({"count", "sum", "product", "n_unique"})


def bind_aggregate(binder: Binder, name: str, node: Aggregation) -> TypedAggregate:
    """Return the aggregate with typed arguments, as the column `name`."""
    for part in (node.argument, node.by, *node.then_by, node.where):
        if part is not None and any(aggregations(part)):
            raise binder.error(
                f"{text_of(node)} is an aggregate of an aggregate",
                "compute the inner one with with_columns first",
            )
    argument = None if node.argument is None else binder.bind_value(node.argument)
    by = None if node.by is None else binder.bind_value(node.by)
    then_by = tuple(binder.bind_value(part) for part in node.then_by)
    where = None if node.where is None else binder.bind_bool(node.where)
    for rank in (by, *then_by):
        if rank is not None and not is_ordered(rank.type):
            raise binder.error(f"{node.kind} cannot order by {rank} ({rank.type})")
    _check_rolling(binder, node)
    argument, type_ = _typed(binder, node, argument)
    return TypedAggregate(
        name=name,
        kind=node.kind,
        type=type_,
        nullable=node.kind not in _NEVER_NULL,
        argument=argument,
        by=by,
        then_by=then_by,
        where=where,
        params=node.params,
        frame=node.frame,
        custom=node.custom,
    )


def _check_rolling(binder: Binder, node: Aggregation) -> None:
    """Refuse what keeps no record apart: a rolling frame takes records out again."""
    if node.frame is None or node.frame.kind != "rolling":
        return
    if dict(node.params).get("approximate"):
        raise binder.error(f"{node.kind}(approximate=True) cannot roll: no value leaves a sketch again", "leave approximate= away")
    if node.then_by:
        raise binder.error(f"{node.kind}(then_by=) cannot roll", "order by one column, or use expanding() or a window")


def mergeable(made: TypedAggregate) -> bool:
    """Whether two states of the aggregate can become one."""
    return made.kind != "lag" and (made.kind != "custom" or made.custom.merge is not None)


def check_mergeable(verb: str, window: object, aggregates: Iterable[TypedAggregate]) -> None:
    """Refuse aggregates whose states cannot be merged, where the window asks for it.

    Raises
    ------
    TopologyError
        It names the column and what to give.
    """
    for made in aggregates:
        if not mergeable(made):
            raise TopologyError(
                f"{verb}: {window} merges windows, and the states of {made} cannot be merged",
                remedy="give Aggregate(..., merge=...)" if made.kind == "custom" else "use another aggregate",
            )


def check_withdrawable(verb: str, aggregates: Iterable[TypedAggregate]) -> None:
    """Refuse aggregates out of which no value can be taken again, where rows may be withdrawn.

    Raises
    ------
    TopologyError
        It names the column and what to give.
    """
    for made in aggregates:
        if dict(made.params).get("approximate"):
            raise TopologyError(
                f"{verb}: {made}: the rows of a table change, and no value leaves a sketch again",
                remedy="leave approximate= away",
            )
        if made.kind == "custom" and made.custom.withdraw is None:
            raise TopologyError(
                f"{verb}: {made}: the rows of a table change, and this Aggregate cannot give a value back",
                remedy="give Aggregate(..., withdraw=...); or aggregate rows that stay, such as those of windows",
            )


def _typed(binder: Binder, node: Aggregation, argument: Typed | None) -> tuple[Typed | None, pa.DataType]:
    kind = node.kind
    if argument is None:
        return None, INT
    if kind in ("sum", "mean", "std", "var", "quantile", "product"):
        if pa.types.is_boolean(argument.type):
            argument = Typed("cast_i64", INT, (argument,), (True,), nullable=argument.nullable)
        if is_decimal(argument.type) and kind in ("sum", "mean"):
            return argument, _decimal_total(kind, argument.type)
        if is_decimal(argument.type):
            argument = Typed("dec_to_f64", FLOAT, (argument,), (argument.type.scale,), nullable=argument.nullable)
        if is_span(argument.type) and kind == "sum":
            return retyped(argument, INT), argument.type
        if not is_number(argument.type):
            raise binder.error(f"{kind} needs numbers, not {argument} ({argument.type})")
        if kind == "product" and not is_float(argument.type):
            return retyped(convert(argument, INT), INT), INT
        if kind in ("sum", "mean") and not is_float(argument.type):
            target = UINT if argument.type == UINT else INT
            return retyped(argument, target), target if kind == "sum" else FLOAT
        return retyped(convert(argument, FLOAT), FLOAT), FLOAT
    if kind in ("min", "max", "n_unique") and not is_ordered(argument.type):
        raise binder.error(f"{kind} cannot compare {argument} ({argument.type})")
    if kind == "n_unique":
        return argument, INT
    if kind in ("to_list", "top_k"):
        return argument, pa.list_(pa.date32() if is_date(argument.type) else argument.type)
    if kind == "custom":
        result: Any = node.custom.result_type
        return argument, result
    return argument, argument.type


def _decimal_total(kind: str, type_: pa.DataType) -> pa.DataType:
    """Return the type of a sum, and of a mean: four digits more behind the point, as many as fit."""
    if kind == "sum":
        return pa.decimal128(38, type_.scale)
    scale = max(type_.scale, min(type_.scale + 4, 38 - (type_.precision - type_.scale)))
    return pa.decimal128(min(38, type_.precision - type_.scale + scale), scale)


def slug_of(node: Aggregation) -> str:
    """Return a short name for an aggregate, from its kind, its columns and its frame."""
    parts = [node.kind, *column_names(node)]
    parts += [str(value) for name, value in node.params if value not in (0, 1) or (name == "n" and value != 1)]
    if node.frame is not None:
        parts.append(node.frame.slug)
    return "_".join(parts)


class Splitter:
    """Takes aggregates out of expressions: each becomes a column of its own, equal ones the same column.

    Parameters
    ----------
    taken : iterable of str
        Names that the columns must not have.
    columns : sequence of str
        What row() means: aggregates add columns that are not of the row.

    Attributes
    ----------
    found : dict
        The aggregates by the names of their columns, in the order in which they were found.
    """

    def __init__(self, taken: Iterable[str], columns: Sequence[str]) -> None:
        self.found: dict[str, Aggregation] = {}
        self._taken = set(taken)
        self._row = Call("row", tuple(map(ColumnRef, columns)))
        self._names: dict[Aggregation, str] = {}

    def add(self, name: str, aggregate: Aggregation) -> None:
        """Give an aggregate a column whose name is chosen."""
        self.found[name] = aggregate
        self._names.setdefault(aggregate, name)

    def split(self, node: Expression) -> Expression:
        """Return the expression over the columns of its aggregates."""
        return rewrite(node, self._replaced)

    def _replaced(self, part: Expression) -> Expression | None:
        if isinstance(part, Call) and part.op == "row":
            return self._row
        if not isinstance(part, Aggregation):
            return None
        if part not in self._names:
            base = f"_{slug_of(part)}"
            name, number = base, 2
            while name in self._taken or name in self.found:
                name, number = f"{base}_{number}", number + 1
            self.add(name, part)
        return ColumnRef(self._names[part])
