from array import array
from collections.abc import Callable
from typing import Any, TypeVar

M = TypeVar("M")

def runs(
    messages: list[M],
    partition_of: Callable[[M], int | None],
    offset_of: Callable[[M], int | None],
    value_of: Callable[[M], bytes | None],
    error_of: Callable[[M], Any],
) -> tuple[list[tuple[int, int, array[int], list[bytes | None]]], list[int]]: ...
def bytes_of(values: list[bytes | None]) -> int: ...
def within(values: list[bytes | None], limit: int) -> bool: ...
