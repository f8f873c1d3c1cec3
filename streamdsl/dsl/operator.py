"""Operators of one's own: functions of streams, and what `process` accepts beside them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamdsl.errors import TopologyError
from streamdsl.functions import check_function
from streamdsl.processor import Processor, TwoInputProcessor
from streamdsl.schema import Schema

if TYPE_CHECKING:
    from streamdsl.dsl.stream import Stream
    from streamdsl.dsl.windowed import WindowedStream

__all__ = ["BoundOperator", "NativeOperator", "Operator", "is_processor", "is_two_input", "native", "operator", "processor_outputs"]

#: Methods of a `Processor` that users write, and those of them that may yield rows.
_METHODS = ("open", "process", "process_left", "process_right", "process_batch", "process_window", "on_timer", "close")
_YIELDING = frozenset({"process", "process_left", "process_right", "process_window", "on_timer"})


@dataclass(frozen=True, slots=True, eq=False)
class BoundOperator:
    """An operator with its settings, ready for `process`."""

    function: Callable[..., Any]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the function."""
        return str(getattr(self.function, "__name__", "operator"))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.settings.items())})"

    def expand(self, stream: Stream | WindowedStream) -> Stream:
        """Return what the operator makes of the stream."""
        from streamdsl.dsl.stream import Stream

        result = self.function(stream, **self.settings)
        if not isinstance(result, Stream):
            raise TopologyError(
                f"the operator {self.name} returned {result!r}, not a stream",
                remedy="end it with: return stream....",
            )
        return result


class Operator:
    """A function of a stream made an operator by `operator`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        check_function("operator", function, "a function of a stream that returns a stream")
        functools.update_wrapper(self, function)
        self.function = function
        self._signature = inspect.signature(function)
        if not self._signature.parameters:
            raise TopologyError(f"the operator {function.__name__} takes no stream", remedy="give it one parameter")

    def __call__(self, *positional: Any, **settings: Any) -> BoundOperator:
        """Return the operator with its settings; they are keyword arguments."""
        if positional:
            raise TopologyError(
                f"the settings of {self.function.__name__} are given by name",
                remedy=f"write stream.process({self.function.__name__}(limit=3))",
            )
        try:
            self._signature.bind(None, **settings)
        except TypeError as error:
            raise TopologyError(
                f"operator {self.function.__name__}: {error}",
                remedy=f"it is declared as {self.function.__name__}{self._signature}",
            ) from None
        return BoundOperator(self.function, settings)


def operator(function: Callable[..., Any]) -> Operator:
    """Make an operator of a function that takes a stream and returns one.

    It expands into its verbs, so it runs natively and is optimised with the rest.

    Examples
    --------
    >>> @operator
    ... def velocity(transactions, *, limit=3):
    ...     return transactions.with_columns(recent=count()).filter(col("recent") >= limit)
    >>> rows = memory("rows", {"account": str, "at": int}, [{"account": "a", "at": at} for at in (0, 1_000, 99_000)])
    >>> accounts = Topology("t").stream(rows, timestamp="at").key_by("account")
    >>> accounts.window(rolling("60s")).process(velocity(limit=2)).collect().to_pylist()
    [{'account': 'a', 'at': 1000, 'recent': 2}]
    """
    return Operator(function)


@dataclass(frozen=True, slots=True, eq=False)
class NativeOperator:
    """A user's own native operator, see `native`."""

    factory: Callable[[], Any]
    output: Schema | None
    outputs: tuple[tuple[str, Schema], ...] = field(default=())


def native(factory: Callable[[], Any], *, output: Any = None, outputs: Mapping[str, Any] | None = None) -> NativeOperator:
    """Wrap a factory of native operators for `process` (experimental).

    Parameters
    ----------
    factory : callable
        Returns an operator against the shipped ``.pxd`` files, one for each task.
    output : schema, optional
        Columns of its rows (default: those it is given).
    outputs : mapping, optional
        Schemas of its tagged outputs.

    Examples
    --------
    >>> totals = native(lambda: None, output={"account": str, "total": int})  # a real factory: docs/guide/native.md
    >>> print(totals.output)
    account: string not null, total: int64 not null
    """
    check_function("native", factory, "a function that makes the operator")
    tags = tuple((tag, Schema.of(schema)) for tag, schema in (outputs or {}).items())
    return NativeOperator(factory, None if output is None else Schema.of(output), tags)


def is_processor(value: Any) -> bool:
    """Tell whether a value is a `Processor`, class or instance."""
    return isinstance(value, Processor) or (isinstance(value, type) and issubclass(value, Processor))


def is_two_input(value: Any) -> bool:
    """Tell whether a value is a `TwoInputProcessor`, class or instance."""
    return isinstance(value, TwoInputProcessor) or (isinstance(value, type) and issubclass(value, TwoInputProcessor))


def processor_name(value: Any) -> str:
    """Return the name of a processor's class."""
    return str(value.__name__ if isinstance(value, type) else type(value).__name__)


def processor_outputs(value: Any) -> tuple[Schema, tuple[tuple[str, Schema], ...]]:
    """Return the schema of a processor's rows and those of its tagged outputs."""
    _check_methods(value)
    declared = value.output
    if declared is None:
        raise TopologyError(
            f"{processor_name(value)} does not say what its rows look like",
            remedy="set the class attribute output to a dataclass or another schema",
        )
    tags = value.outputs or {}
    for reserved in ("", "late", "dead_letter"):
        if reserved in tags:
            raise TopologyError(f"{processor_name(value)}: the output {reserved!r} is taken", remedy="rename it")
    return Schema.of(declared), tuple((tag, Schema.of(schema)) for tag, schema in tags.items())


def _check_methods(processor: Any) -> None:
    owner = processor if isinstance(processor, type) else type(processor)
    for name in _METHODS:
        base = TwoInputProcessor if issubclass(owner, TwoInputProcessor) else Processor
        if hasattr(base, name) and getattr(owner, name) is not getattr(base, name):
            what = f"process({processor_name(processor)})"
            check_function(what, getattr(processor, name), f"a method {name}", yields=name in _YIELDING)
