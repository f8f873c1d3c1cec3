"""Expressions: what is computed from the columns of a row, and aggregates over the records of a key.

An `Expr` is a frozen value; nothing is computed before the topology runs.
"""

from __future__ import annotations

from streamdsl.expr.aggregate import Aggregate
from streamdsl.expr.expression import Expr, Operand, condition_of, node_of
from streamdsl.expr.functions import (
    Then,
    When,
    arctan2,
    coalesce,
    col,
    concat_str,
    count,
    event_time,
    format,
    greatest,
    haversine_km,
    least,
    lit,
    row,
    when,
)

__all__ = [
    "Aggregate",
    "Expr",
    "Operand",
    "Then",
    "When",
    "arctan2",
    "coalesce",
    "col",
    "concat_str",
    "condition_of",
    "count",
    "event_time",
    "format",
    "greatest",
    "haversine_km",
    "least",
    "lit",
    "node_of",
    "row",
    "when",
]
