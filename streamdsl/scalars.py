"""Numbers and moments of other libraries, as Python's own."""

from __future__ import annotations

import enum
from typing import Any, Final

from streamdsl.errors import TopologyError

__all__ = ["plain", "whole"]

_PLAIN: Final = frozenset((bool, int, float, str, bytes))


def plain(value: Any) -> Any:
    """Return a NumPy scalar (or an array without dimensions) as the Python value it stands for; all else as it is.

    NumPy itself is not needed: whatever has `dtype`, `ndim` 0 and `item()` is taken for one. Members of an enum of texts or
    numbers are their values.
    """
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, enum.Enum) and isinstance(value, (str, int, float)):
        return value.value
    dtype = getattr(value, "dtype", None)
    if dtype is None or isinstance(value, type) or getattr(value, "ndim", None) != 0 or not callable(getattr(value, "item", None)):
        return value
    if getattr(dtype, "kind", "") in ("M", "m"):
        # Nanoseconds have no Python value: item() would return a bare number.
        value = value.astype(f"{'datetime64' if dtype.kind == 'M' else 'timedelta64'}[us]")
    return value.item()


def whole(value: Any, name: str, least: int | None = None) -> int:
    """Return a whole number, given as Python's or NumPy's; raise `TopologyError` for all else."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int) or (least is not None and number < least):
        at_least = "" if least is None else f" of at least {least}"
        raise TopologyError(f"{name}={value!r} must be a whole number{at_least}")
    return number
