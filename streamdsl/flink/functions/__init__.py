"""What each operation of an expression is in Flink SQL: a table of functions, a file for each kind of value."""

from __future__ import annotations

from typing import Final

from streamdsl.flink.functions import choices, decimals, lists, numbers, texts, times
from streamdsl.flink.functions.kind import Operation

__all__ = ["OPERATIONS"]

#: Name of the operation: how it is written.
OPERATIONS: Final[dict[str, Operation]] = {
    **choices.OPERATIONS,
    **numbers.OPERATIONS,
    **decimals.OPERATIONS,
    **texts.OPERATIONS,
    **lists.OPERATIONS,
    **times.OPERATIONS,
}
