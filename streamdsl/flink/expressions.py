"""Bound expressions as text of Flink SQL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa

from streamdsl.flink.functions import OPERATIONS
from streamdsl.flink.quoting import quoted
from streamdsl.flink.refusing import Refused
from streamdsl.flink.relation import TIME, Relation
from streamdsl.flink.values import Value, as_type, constant
from streamdsl.logical.aggregate import CHANGE
from streamdsl.logical.expression import Typed
from streamdsl.logical.types import FLOAT, INTEGER_RANGES, is_float, is_string, is_text
from streamdsl.logical.walk import post_order
from streamdsl.schema import Schema

__all__ = ["may_be_null", "written"]

#: A longer text is refused: parts that several others use are written out for each of them, and Flink's planner takes minutes.
_LONGEST: Final = 50_000


def written(root: Typed, relation: Relation, schema: Schema) -> Value:
    """Return an expression over the rows of `relation`, whose columns are `schema`.

    Raises
    ------
    Refused
        A part of it has no equal in Flink.
    """
    made: dict[int, Value] = {}
    bare: set[int] = set()  # what is made of constants alone
    for node in post_order([root], Typed.parts):
        if node.op == "literal" or (node.args and all(id(arg) in bare for arg in node.args)):
            bare.add(id(node))
            _check_bare(node)
        value = _value(node, [made[id(arg)] for arg in node.args], relation, schema)
        if len(value.text) > _LONGEST:
            raise Refused(f"an expression of {root.weight} parts, which share one another", "make columns of its parts first")
        made[id(node)] = _as_node(value, node)
    return made[id(root)]


def _value(node: Typed, args: Sequence[Value], relation: Relation, schema: Schema) -> Value:
    if node.is_column:
        return _column(node.column, relation, schema)
    if node.op == "literal":
        return constant(node.params[0], FLOAT if node.type == pa.float32() else node.type)
    if node.op == "time" and relation.time is None:
        raise Refused("event_time()", "the source has none: give topology.stream(..., timestamp=...)")
    if _asks_for_withdrawn(node) and relation.changes:
        # Flink withdraws rows by itself; no statement sees those that go.
        return Value("FALSE" if node.op == "eq" else "TRUE", pa.bool_())
    if node.op.startswith("parse_") and not is_text(args[0].type):
        return args[0]  # an item of a list: it is there as it is
    operation = OPERATIONS.get(node.op)
    if operation is None:
        raise Refused(f"the function {node.op}()", "Flink has no function with the same answers")
    return operation(node, args)


def _check_bare(node: Typed) -> None:
    """Refuse what Flink's planner computes itself and otherwise: it knows no negative zero, and fails for what is no number."""
    if node.op == "literal":
        if is_float(node.type) and node.params[0] == 0 and math.copysign(1, node.params[0]) < 0:
            raise Refused("-0.0 as a constant", "write 0.0: Flink's planner takes one for the other")
    elif is_float(node.type) or node.op.startswith("parse_"):
        raise Refused(f"{node}: numbers made of constants alone", "write the value")


def _column(name: str, relation: Relation, schema: Schema) -> Value:
    if name == CHANGE.name and relation.changes:
        return Value(quoted(CHANGE.name), CHANGE.type)
    type_ = relation.items.get(name, schema.field(name).type)
    least, most = INTEGER_RANGES.get(str(type_), (-(2**63), 2**63 - 1))
    return Value(quoted(name), type_, nan=is_float(type_) and name in relation.nan, least=least, most=most)


def may_be_null(node: Typed, relation: Relation) -> bool:
    """Whether an expression over the rows of `relation` may be null."""
    return node.nullable and not (node.is_column and node.column in relation.filled)


def _asks_for_withdrawn(node: Typed) -> bool:
    if node.op not in ("eq", "ne") or not node.args[0].is_column:
        return False
    return node.args[0].column == CHANGE.name and node.args[1].params == ("withdraw",)


def _as_node(value: Value, node: Typed) -> Value:
    """Return the value with the type that the plan says."""
    if pa.types.is_null(node.type):
        return value
    if is_string(node.type) and not is_text(value.type):
        return value  # an item of a list, which the plan reads from text
    if node.type == pa.float32() and is_float(value.type):
        # Calculations are those of 64 bits; what is stored is rounded.
        return value
    if value.constant and value.number is not None and value.type == node.type:
        return value
    converted = as_type(value, node.type)
    return converted if converted.type == node.type else replace(converted, type=node.type)


def event_time() -> str:
    """Return the column of the event time."""
    return quoted(TIME)
