"""Functions that users give: refused where they are given if what they return could not be what is needed."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from streamdsl.errors import TopologyError

__all__ = ["check_async_function", "check_function"]

_NOT_PLAIN: Final = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_SILENT: Final = ("RESUME", "CACHE", "PRECALL", "COPY_FREE_VARS", "PUSH_NULL")


def check_function(what: str, function: Any, needs: str, *, yields: bool = False) -> None:
    """Raise if `function` cannot be called, or returns a coroutine or a generator where a value is needed.

    Parameters
    ----------
    what : str
        To what it is given, for the error: a verb.
    function : object
    needs : str
        What it must be, for the error: "a function of the row".
    yields : bool
        Whether it may be a generator, because it returns rows.

    Raises
    ------
    TopologyError
    """
    if not callable(function):
        raise TopologyError(f"{what} needs {needs}, not {function!r}")
    for inner in _unwrapped(function):
        if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
            raise TopologyError(
                f"{what}: {_label(function)} is async, and what it returns would not be awaited",
                remedy="write a plain function (def) and call blocking clients in it",
            )
        if inspect.isgeneratorfunction(inner) and not yields:
            raise TopologyError(
                f"{what}: {_label(function)} is a generator (it has a `yield`) and returns no value",
                remedy="return the value; rows are yielded in flat_map(...) and in Processor.process",
            )


def check_async_function(what: str, function: Any) -> None:
    """Raise if `function` is not a coroutine function (``async def``), an object with such a ``__call__``, or a `functools.partial` of one.

    Raises
    ------
    TopologyError
    """
    if not callable(function):
        raise TopologyError(f"{what} needs an asynchronous function of the row that returns a row, not {function!r}")
    if not any(inspect.iscoroutinefunction(inner) for inner in _unwrapped(function)):
        raise TopologyError(
            f"{what}: {_label(function)} is not asynchronous",
            remedy="write it with async def, and await an asynchronous client in it; map(...) calls plain functions",
        )


def _unwrapped(function: Any) -> list[Callable[..., Any]]:
    """Return the function and those whose result it returns, as far as can be seen.

    Seen are `functools.partial`, methods, `__call__`, caches, and functions that do nothing but call another one.
    """
    found: list[Any] = []
    waiting = [function]
    while waiting:
        one = waiting.pop()
        if any(one is other for other in found):
            continue
        found.append(one)
        if isinstance(one, functools.partial):
            waiting.append(one.func)
        elif inspect.ismethod(one):
            waiting.append(one.__func__)
        elif inspect.isfunction(one):
            waiting += _returned_call(one)
        elif hasattr(one, "__wrapped__"):
            waiting.append(one.__wrapped__)
        elif not isinstance(one, type) and inspect.isfunction(type(one).__call__):
            waiting.append(type(one).__call__)
    return found


def _returned_call(function: Any) -> list[Any]:
    """Return the other function of ``lambda row: other(row)``, if `function` is like that."""
    code = function.__code__
    name = None if code.co_flags & _NOT_PLAIN else _called_name(code)
    if name is None:
        return []
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    try:
        other = cells[name].cell_contents if name in cells else function.__globals__.get(name)
    except ValueError:  # the cell is still empty
        return []
    return [other] if callable(other) else []


def _called_name(code: CodeType) -> str | None:
    """Return the name that is called, if the code makes one call and returns its result."""
    steps = [one for one in dis.get_instructions(code) if one.opname not in _SILENT]
    calls = [one for one in steps if one.opname.startswith("CALL")]
    ends = len(steps) >= 3 and steps[-1].opname == "RETURN_VALUE" and steps[-2] in calls
    if not ends or len(calls) != 1 or steps[0].opname not in ("LOAD_GLOBAL", "LOAD_DEREF"):
        return None
    return str(steps[0].argval)


def _label(function: Any) -> str:
    name = getattr(function, "__qualname__", None) or getattr(function, "func", function)
    return name.rsplit("<locals>.", 1)[-1] if isinstance(name, str) else repr(name)
