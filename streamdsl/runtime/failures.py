"""Errors on their way out of a task: whose fault, which operator, which record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamdsl.errors import DataError, InternalError, RecordError, StreamError

__all__ = ["explained"]


def explained(error: BaseException, tasks: Sequence[Any]) -> BaseException:
    """Return the error that the user sees for one that a task raised; the original is its cause."""
    if isinstance(error, StreamError | MemoryError | KeyboardInterrupt):
        return error
    if isinstance(error, RecordError):
        facts = {"operator": getattr(error, "operator", None), "field": getattr(error, "field", None), "reason": error.reason}
        record = getattr(error, "record", None)
        said = DataError(
            f"a record cannot be processed: {error.reason}" + (f"; the record: {record}" if record else ""),
            remedy="mend the record, or the expression, so that it has an answer for it",
            **{name: value for name, value in facts.items() if value is not None},
        )
    elif isinstance(error, OSError | OverflowError):
        return error
    else:
        said = InternalError(f"{type(error).__name__}: {error}")  # type: ignore[assignment]
    said.__cause__ = error
    return said
