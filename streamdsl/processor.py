"""Own operators in Python: `Processor`, what it is given, and the state it may keep."""

from __future__ import annotations

import datetime
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, Union, overload

from streamdsl.durations import Duration

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Clock",
    "Context",
    "Counter",
    "Gauge",
    "ListState",
    "MapState",
    "Metrics",
    "Processor",
    "Row",
    "State",
    "Timer",
    "TwoInputProcessor",
    "ValueState",
    "WindowBounds",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

#: Which time a timer or a time to live goes by.
Clock = Literal["event", "processing"]
#: What `process` and its sisters may return: nothing, one row, or rows (a generator is the usual way).
Rows = Union[None, Mapping[str, Any], object, Iterable[Any]]


class Row(Protocol):
    """One row of a stream, read-only: a `Mapping` whose columns are attributes too. It may be kept, copied and pickled."""

    def __getattr__(self, name: str) -> Any: ...
    def __getitem__(self, name: str, /) -> Any: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def keys(self) -> KeysView[str]: ...
    def values(self) -> ValuesView[Any]: ...
    def items(self) -> ItemsView[str, Any]: ...
    def get(self, name: str, default: Any = None, /) -> Any: ...
    def asdict(self) -> dict[str, Any]: ...


class Timer(Protocol):
    """A timer that fired: the time it was set for (ms), its name and its clock."""

    @property
    def time(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def clock(self) -> Clock: ...


class WindowBounds(Protocol):
    """A window, half-open: from `start` to before `end` (ms)."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...


class ValueState(Protocol[T]):
    """One value for each key. Reading gives a copy; only `set` and `clear` write."""

    @property
    def value(self) -> T | None: ...
    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, default: D) -> T | D: ...
    def set(self, value: T, *, ttl: Duration | None = ...) -> None: ...
    def clear(self) -> None: ...
    def get_many(self, keys: Sequence[Any], default: Any = None) -> list[Any]: ...
    def set_many(self, keys: Sequence[Any], values: Sequence[T]) -> None: ...


class ListState(Protocol[T]):
    """A list for each key. With a time to live each element has its own."""

    def append(self, value: T) -> None: ...
    def extend(self, values: Iterable[T]) -> None: ...
    def get(self) -> list[T]: ...
    def set(self, values: Iterable[T]) -> None: ...
    def clear(self) -> None: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T]: ...
    def __getitem__(self, index: int) -> T: ...


class MapState(Protocol[K, V]):
    """A dict for each key, in the order of insertion. With a time to live each entry has its own."""

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def put(self, key: K, value: V, *, ttl: Duration | None = ...) -> None: ...
    def remove(self, key: K) -> None: ...
    def clear(self) -> None: ...
    def items(self) -> list[tuple[K, V]]: ...
    def keys(self) -> list[K]: ...
    def values(self) -> list[V]: ...
    def __contains__(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[K]: ...
    def __getitem__(self, key: K) -> V: ...
    def __setitem__(self, key: K, value: V) -> None: ...
    def __delitem__(self, key: K) -> None: ...


class State(Protocol):
    """Declares state. The name is the identity of the state in a checkpoint; declare in `open`.

    A type is int, float, bool, str, bytes, datetime, date, Decimal, list[T], tuple[...], dict[K, V], a dataclass of those, or
    `T | None`. `ttl` is the default time to live of what is set: a value set at t is gone from t + ttl on, by the record's time
    ("event") or by the wall clock ("processing").
    """

    def value(self, name: str, type: type[T], *, ttl: Duration | None = None, clock: Clock = "event") -> ValueState[T]: ...
    def list(self, name: str, type: type[T], *, ttl: Duration | None = None, clock: Clock = "event") -> ListState[T]: ...
    def map(
        self, name: str, key_type: type[K], value_type: type[V], *, ttl: Duration | None = None, clock: Clock = "event"
    ) -> MapState[K, V]: ...


class Counter(Protocol):
    """A figure that only grows."""

    def inc(self, n: int = 1) -> None: ...


class Gauge(Protocol):
    """A figure that is set."""

    def set(self, value: float) -> None: ...


class Metrics(Protocol):
    """Own figures of a processor; they appear among the operator's metrics."""

    def counter(self, name: str) -> Counter: ...
    def gauge(self, name: str) -> Gauge: ...


class Context(Protocol):
    """What a processor knows about the record, key or timer at hand, and what it can do.

    Attributes
    ----------
    key : Any
        The key: a scalar for one key column, a tuple for several.
    timestamp : int
        Event time of the record, or the time of the timer (ms).
    watermark : int | None
        No more records at or before it are expected (ms); None before the first one.
    keys, timestamps : list
        In `process_batch`: key and event time of each row.
    """

    @property
    def key(self) -> Any: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def watermark(self) -> int | None: ...
    @property
    def keys(self) -> list[Any]: ...
    @property
    def timestamps(self) -> list[int]: ...
    @property
    def state(self) -> State: ...
    @property
    def metrics(self) -> Metrics: ...

    def emit(self, row: Any, *, to: str = "", timestamp: int | None = None, key: Any = ...) -> None:
        """Send a row on: to the main output, or `to` a tagged one; its time is that of the record unless `timestamp` says.

        In `process_batch`, `key` says to which of `keys` the row belongs.
        """

    def set_timer(self, at: int | datetime.datetime, name: str = "", *, clock: Clock = "event", every: Duration | None = None) -> None:
        """Call `on_timer` for this key when the clock passes `at`. Setting (time, name) twice is one call.

        With `every` the timer is set anew each time it fires, on the grid `at + n * every`; firings that were missed are one.
        """

    def cancel_timer(self, at: int | datetime.datetime, name: str = "", *, clock: Clock = "event") -> None:
        """Forget a timer; one that was never set is no error."""


def _not_overridden(function: Any) -> Any:
    # The runtime calls what a subclass overrides, and must be able to tell.
    function.__streamdsl_default__ = True
    return function


class Processor:
    """An operator written in Python, with state by key. Subclass it and give it to `.process(...)`.

    Give the class, or an instance when it has parameters: each task works with its own copy. `output` is the schema of the
    rows (a dataclass, a `pyarrow.Schema`, or a mapping of names to types), `outputs` those of the tagged outputs.
    A row that is returned, yielded or emitted is a mapping, a dataclass instance, another `Row`, or any object with the
    columns as attributes; each value is checked against the schema.

    Examples
    --------
    Say so when an account was quiet for ten minutes, and how much it had moved before:

    >>> from streamdsl.processor import Processor
    >>> class Quiet(Processor):
    ...     output = {"account": str, "moved": float}
    ...
    ...     def open(self, ctx):
    ...         self.moved = ctx.state.value("moved", float)
    ...         self.last = ctx.state.value("last", int)
    ...
    ...     def process(self, row, ctx):
    ...         self.moved.set(self.moved.get(0.0) + row.amount)
    ...         if (last := self.last.get()) is not None:
    ...             ctx.cancel_timer(last + 600_000)
    ...         self.last.set(ctx.timestamp)
    ...         ctx.set_timer(ctx.timestamp + 600_000)
    ...
    ...     def on_timer(self, timer, ctx):
    ...         yield {"account": ctx.key, "moved": self.moved.get(0.0)}
    ...         self.moved.clear()
    """

    output: ClassVar[Any] = None
    outputs: ClassVar[Mapping[str, Any]] = {}

    def open(self, ctx: Any) -> None:
        """Called once in each task, before anything else: declare state and metrics here."""

    def process(self, row: Any, ctx: Any) -> Any:
        """Take one record; return or yield rows, or nothing."""
        raise NotImplementedError(f"{type(self).__name__} has no method process(row, ctx)")

    @_not_overridden
    def process_batch(self, batch: pa.RecordBatch, ctx: Any) -> Any:
        """Take many records, of many keys, instead of `process`. `ctx.keys` and `ctx.timestamps` belong to its rows.

        Return a `pyarrow.RecordBatch` (or Table) or None. With as many rows as came, each row takes time and key of the row
        in its place, so keep their order. A batch of fewer, more or rearranged rows needs an integer column ``_row``, which
        is no output: the number (from 0) of the input row that each row stems from.
        """
        raise NotImplementedError

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        """A timer has fired: `timer.time`, `timer.name`; `ctx.key` is its key. Return or yield rows, or nothing."""
        raise NotImplementedError(f"{type(self).__name__} sets timers but has no method on_timer(timer, ctx)")

    @_not_overridden
    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        """A window of `key` has closed, with these rows in the order they came. Return or yield rows, or nothing."""
        raise NotImplementedError(f"{type(self).__name__} has no method process_window(key, window, rows, ctx)")

    def close(self) -> None:
        """Called once when the task ends."""


class TwoInputProcessor:
    """An operator written in Python over two streams, with one state by key. Give it to `a.connect(b).process(...)`.

    It is what `Processor` is, with a method for the rows of each side: state, timers and outputs belong to both.

    Examples
    --------
    See `KeyedStream.connect`.
    """

    output: ClassVar[Any] = None
    outputs: ClassVar[Mapping[str, Any]] = {}

    def open(self, ctx: Any) -> None:
        """Called once in each task, before anything else: declare state and metrics here."""

    def process_left(self, row: Any, ctx: Any) -> Any:
        """Take one record of the left stream; return or yield rows, or nothing."""
        raise NotImplementedError(f"{type(self).__name__} has no method process_left(row, ctx)")

    def process_right(self, row: Any, ctx: Any) -> Any:
        """Take one record of the right stream; return or yield rows, or nothing."""
        raise NotImplementedError(f"{type(self).__name__} has no method process_right(row, ctx)")

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        """A timer has fired: `timer.time`, `timer.name`; `ctx.key` is its key. Return or yield rows, or nothing."""
        raise NotImplementedError(f"{type(self).__name__} sets timers but has no method on_timer(timer, ctx)")

    def close(self) -> None:
        """Called once when the task ends."""
