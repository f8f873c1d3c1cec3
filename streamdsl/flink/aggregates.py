"""Aggregates as Flink SQL: of groups and windows, and over frames."""

from __future__ import annotations

from collections.abc import Callable

from streamdsl.flink.expressions import may_be_null, written
from streamdsl.flink.functions.decimals import mean
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import Relation
from streamdsl.flink.types import flink_type
from streamdsl.flink.values import Value
from streamdsl.logical.expression import TypedAggregate
from streamdsl.logical.types import is_decimal, is_float, is_integer, is_span
from streamdsl.schema import Schema

__all__ = ["Over", "argument", "condition", "grouped", "never_null", "whole_sum"]

#: Writes an aggregate function of a text, with what follows it: FILTER or OVER.
Over = Callable[[str], str]

_REMEDY = (
    "use count, sum, mean, min, max, first, last, std, var, n_unique, max_by, top_k or to_list; "
    "or compute it here and hand its topic to Flink"
)


def argument(one: TypedAggregate, relation: Relation, schema: Schema) -> Value | None:
    """Return what an aggregate is over; None: the rows themselves."""
    if one.argument is None:
        return None
    value = written(one.argument, relation, schema)
    if value.nan and one.kind in ("min", "max"):
        raise Refused(f"{one.kind} of floats that may be NaN", "fill_nan(...) them first")
    return value


def condition(one: TypedAggregate, relation: Relation, schema: Schema) -> str:
    """Return which rows an aggregate takes, "" if all."""
    return "" if one.where is None else written(one.where, relation, schema).text


def never_null(one: TypedAggregate, relation: Relation) -> bool:
    """Whether the aggregate of a group that has rows has a value."""
    if not one.nullable:
        return True
    known = (one.argument,) if one.by is None else (one.argument, one.by)
    filled = all(part is not None and not may_be_null(part, relation) for part in known)
    return filled and one.where is None and one.kind not in ("std", "var", "custom")


def grouped(one: TypedAggregate, relation: Relation, schema: Schema) -> str:
    """Return an aggregate of a group of rows, with the type that the plan says."""
    value, where = argument(one, relation, schema), condition(one, relation, schema)
    tail = f" FILTER (WHERE {where})" if where else ""
    return _made(one, value, lambda call: f"{call}{tail}")


def _made(one: TypedAggregate, value: Value | None, over: Over) -> str:
    kind = one.kind
    params = dict(one.params)
    if kind == "count":
        return over("COUNT(*)")
    if value is None:
        raise Refused(f"{kind} of rows", _REMEDY)
    if kind in ("sum", "mean"):
        return _total(one, value, over)
    if kind in ("min", "max"):
        return over(f"{kind.upper()}({value.text})")
    if kind == "n_unique" and not params.get("approximate"):
        return over(f"COUNT(DISTINCT {value.text})")
    if kind in ("first", "last") and one.by is None and params.get("n", 1) == 1:
        # Nulls are passed over, here and there.
        return over(f"{kind.upper()}_VALUE({value.text})")
    if kind in ("std", "var") and params.get("ddof") in (0, 1):
        name = ("STDDEV" if kind == "std" else "VAR") + ("_POP" if params["ddof"] == 0 else "_SAMP")
        return over(f"{name}({value.text})")
    if kind == "to_list" and one.argument is not None and one.argument.nullable:
        raise Refused("to_list() of values that may be null", "fill_null(...) them, or filter(...) them out")
    if kind == "to_list" and not params.get("limit"):
        return over(f"ARRAY_AGG({value.text})")
    raise Refused(f"the aggregate {one.kind}(){' by another column' if one.by is not None else ''}", _REMEDY)


def _total(one: TypedAggregate, value: Value, over: Over) -> str:
    if is_float(value.type):
        if one.kind == "mean":
            return over(f"AVG({value.text})")
        # A sum of nothing is 0.
        return f"COALESCE({over(f'SUM({value.text})')}, CAST(0 AS {flink_type(value.type)}))"
    if is_decimal(value.type):
        if one.kind == "mean":
            return mean(over(f"SUM({value.text})"), over(f"COUNT({value.text})"), value.type, one.type)
        return f"COALESCE({over(f'SUM({value.text})')}, CAST(0 AS {flink_type(one.type)}))"
    if not (is_integer(value.type) or is_span(value.type)):
        raise Refused(f"{one.kind} of {value.type}", _REMEDY)
    exact = over(f"SUM(CAST({value.text} AS DECIMAL(38, 0)))")
    if one.kind == "mean":
        return f"CAST({exact} AS DOUBLE) / {over(f'COUNT({value.text})')}"
    return whole_sum(exact)


def whole_sum(exact: str) -> str:
    """Return a sum of whole numbers, which fails where it does not fit 64 bits; a sum of nothing is 0."""
    return f"COALESCE(CAST(TRIM(CAST({exact} AS STRING)) AS BIGINT), CAST(0 AS BIGINT))"
