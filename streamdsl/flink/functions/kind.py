"""The form of an operation: it gets its bound node and the texts of its arguments, and returns its own text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamdsl.flink.values import Value
from streamdsl.logical.expression import Typed

__all__ = ["Operation", "call", "is_nan"]

Operation = Callable[[Typed, Sequence[Value]], Value]


def call(function: str, *args: str) -> str:
    """Return a call of a function of Flink."""
    return f"{function}({', '.join(args)})"


def is_nan(value: Value) -> str:
    """Return the test for NaN: compared with itself, Flink takes it for equal before it looks."""
    return f"CAST({value.text} AS STRING) = 'NaN'"
