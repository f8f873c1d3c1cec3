"""Own operators in Python: `Processor`, what it is given, and the state it may keep."""

from __future__ import annotations

import datetime
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Union

from streamdsl.durations import Duration
from streamdsl.state import Clock, State

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Context",
    "Counter",
    "Gauge",
    "Metrics",
    "Processor",
    "Row",
    "Timer",
    "TwoInputProcessor",
    "WindowBounds",
]

#: What `process` and its sisters may return: nothing, one row, or rows (a generator is the usual way).
Rows = Union[None, Mapping[str, Any], object, Iterable[Any]]


class Row(Protocol):
    """One row of a stream, read-only: a `Mapping` whose columns are attributes too. It may be kept, copied and pickled.

    Examples
    --------
    >>> rows = Topology("t").stream(memory("rows", {"items": int, "price": "float | None"}, [{"items": 2, "price": None}]))
    >>> def shown(row):
    ...     print(row.price, row["items"], row.get("price", 0), "cost" in row, dict(row) == row.asdict(), len(row))
    ...     print(list(row.keys()), list(row.values()))
    >>> _ = rows.peek(shown).collect()
    None 2 None False True 2
    ['items', 'price'] [2, None]
    """

    def __getattr__(self, name: str) -> Any: ...
    def __getitem__(self, name: str, /) -> Any: ...
    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def keys(self) -> KeysView[str]:
        """Names of the columns."""

    def values(self) -> ValuesView[Any]:
        """Values, in the order of the columns."""

    def items(self) -> ItemsView[str, Any]:
        """Pairs of name and value."""

    def get(self, name: str, default: Any = None, /) -> Any:
        """The value of a column, or `default` where there is no such column."""

    def asdict(self) -> dict[str, Any]:
        """The row as a dict of its own."""


class Timer(Protocol):
    """A timer that fired: the time it was set for (ms), its name and its clock; see `Context`."""

    @property
    def time(self) -> int:
        """The time it was set for (ms)."""

    @property
    def timestamp(self) -> int:
        """The same, as `Context.timestamp` says it."""

    @property
    def name(self) -> str:
        """The name it was set with."""

    @property
    def clock(self) -> Clock:
        """Which clock: "event" or "processing"."""


class WindowBounds(Protocol):
    """A window, half-open: from `start` to before `end` (ms).

    Examples
    --------
    >>> class Sizes(Processor):
    ...     output = {"start": int, "end": int, "rows": int}
    ...
    ...     def process_window(self, key, window, rows, ctx):
    ...         yield {"start": window.start, "end": window.end, "rows": len(rows)}
    >>> visits = Topology("t").stream(memory("visits", {"at": int}, [{"at": 61_000}]), timestamp="at")
    >>> visits.key_by().window(tumbling("1m")).process(Sizes).collect().to_pylist()
    [{'start': 60000, 'end': 120000, 'rows': 1}]
    """

    @property
    def start(self) -> int:
        """The first moment of the window (ms)."""

    @property
    def end(self) -> int:
        """The first moment behind it (ms)."""


class Counter(Protocol):
    """A figure that only grows; see `Metrics`."""

    def inc(self, n: int = 1) -> None:
        """Add to the figure; what a refused record added is taken back."""


class Gauge(Protocol):
    """A figure that is set; see `Metrics`."""

    def set(self, value: float) -> None:
        """Set the figure."""


class Metrics(Protocol):
    """Own figures of a processor; they appear among the operator's metrics.

    Examples
    --------
    >>> class Size(Processor):
    ...     output = {"x": int}
    ...
    ...     def open(self, ctx):
    ...         self.rows, self.largest = ctx.metrics.counter("rows"), ctx.metrics.gauge("largest")
    ...
    ...     def process(self, row, ctx):
    ...         self.rows.inc()
    ...         self.largest.set(row.x)
    >>> topology = Topology("t")
    >>> topology.stream(memory("rows", {"x": int})).key_by().process(Size, name="size").to(memory("out"))
    >>> driver = TopologyTestDriver(topology)
    >>> driver.send_batch("rows", [{"x": 5}, {"x": 7}])
    >>> driver.metrics()["operators"]["size"]
    {'emitted': 0, 'timers_fired': 0, 'rows': 2, 'largest': 7}
    """

    def counter(self, name: str) -> Counter:
        """Return the counter of that name."""

    def gauge(self, name: str) -> Gauge:
        """Return the gauge of that name."""


class Context(Protocol):
    """What a processor knows about the record, key or timer at hand, and what it can do.

    Examples
    --------
    Each visit begins a minute of quiet anew; one that is quiet for so long is told of:

    >>> class Quiet(Processor):
    ...     output = {"user": str}
    ...     outputs = {"seen": {"user": str, "at": int}}
    ...
    ...     def open(self, ctx):
    ...         self.due = ctx.state.value("due", int)
    ...
    ...     def process(self, row, ctx):
    ...         ctx.emit({"user": ctx.key, "at": ctx.timestamp}, to="seen")
    ...         if due := self.due.get():
    ...             ctx.cancel_timer(due, "quiet")
    ...         self.due.set(ctx.timestamp + 60_000)
    ...         ctx.set_timer(ctx.timestamp + 60_000, "quiet")
    ...
    ...     def on_timer(self, timer, ctx):
    ...         yield {"user": f"{ctx.key}: {timer.name} at {timer.time}, {timer.clock} time"}
    >>> topology = Topology("t")
    >>> users = topology.stream(memory("visits", {"user": str}), name="visits").key_by("user").process(Quiet)
    >>> users.to(memory("quiet"))
    >>> users.output("seen").to(memory("seen"))
    >>> driver = TopologyTestDriver(topology)
    >>> driver.send("visits", {"user": "ann"}, timestamp=1_000)
    >>> driver.send("visits", {"user": "ann"}, timestamp=31_000)
    >>> driver.advance_watermark("visits", 91_000)
    >>> driver.read("seen"), driver.read("quiet")
    ([{'user': 'ann', 'at': 1000}, {'user': 'ann', 'at': 31000}], [{'user': 'ann: quiet at 91000, event time'}])
    """

    @property
    def key(self) -> Any:
        """The key: a scalar for one key column, a tuple for several."""

    @property
    def timestamp(self) -> int:
        """Event time of the record, or the time of the timer (ms)."""

    @property
    def watermark(self) -> int | None:
        """No more records at or before it are expected (ms); None before the first one."""

    @property
    def keys(self) -> list[Any]:
        """In `process_batch`: the key of each row."""

    @property
    def timestamps(self) -> list[int]:
        """In `process_batch`: the event time of each row (ms)."""

    @property
    def state(self) -> State:
        """Declares state, in `open`."""

    @property
    def metrics(self) -> Metrics:
        """Figures of your own."""

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
    >>> moves = memory("moves", {"account": str, "amount": float, "at": int}, [{"account": "a", "amount": 5.0, "at": 1_000}])
    >>> Topology("t").stream(moves, timestamp="at").key_by("account").process(Quiet).collect().to_pylist()
    [{'account': 'a', 'moved': 5.0}]
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

        Examples
        --------
        >>> class Totals(Processor):
        ...     output = {"total": int}
        ...
        ...     def open(self, ctx):
        ...         self.total = ctx.state.value("total", int)
        ...
        ...     def process_batch(self, batch, ctx):
        ...         totals = dict(zip(ctx.keys, self.total.get_many(ctx.keys, 0)))
        ...         for key, n in zip(ctx.keys, batch["n"].to_pylist()):
        ...             totals[key] += n  # a key may have several rows
        ...         self.total.set_many(list(totals), list(totals.values()))
        ...         return pa.record_batch({"total": [totals[key] for key in ctx.keys]})
        >>> import pyarrow as pa
        >>> rows = memory("rows", rows=[{"k": "a", "n": 5}, {"k": "b", "n": 1}, {"k": "a", "n": 2}])
        >>> Topology("t").stream(rows).key_by("k").process(Totals).collect()["total"].to_pylist()
        [7, 1, 7]
        """
        raise NotImplementedError

    def on_timer(self, timer: Any, ctx: Any) -> Any:
        """A timer has fired: `timer.time`, `timer.name`; `ctx.key` is its key. Return or yield rows, or nothing."""
        raise NotImplementedError(f"{type(self).__name__} sets timers but has no method on_timer(timer, ctx)")

    @_not_overridden
    def process_window(self, key: Any, window: Any, rows: Any, ctx: Any) -> Any:
        """A window of `key` has closed, with these rows in the order they came. Return or yield rows, or nothing.

        For an example see `WindowedStream.process`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method process_window(key, window, rows, ctx)")

    def close(self) -> None:
        """Called once when the task ends.

        Examples
        --------
        >>> class Watched(Processor):
        ...     output = {"x": int}
        ...
        ...     def open(self, ctx):
        ...         print("open")
        ...
        ...     def process(self, row, ctx):
        ...         return row
        ...
        ...     def close(self):
        ...         print("close")
        >>> Topology("t").stream(memory("rows", rows=[{"x": 5}])).key_by().process(Watched).collect().to_pylist()
        open
        close
        [{'x': 5}]
        """


class TwoInputProcessor:
    """An operator written in Python over two streams, with one state by key. Give it to `a.connect(b).process(...)`.

    It is what `Processor` is, with a method for the rows of each side: state, timers and outputs belong to both.

    Examples
    --------
    Each payment is given half a minute for its order to come:

    >>> class Unordered(TwoInputProcessor):
    ...     output = {"id": int}
    ...
    ...     def open(self, ctx):
    ...         self.ordered = ctx.state.value("ordered", bool)
    ...
    ...     def process_left(self, row, ctx):  # an order
    ...         self.ordered.set(True)
    ...
    ...     def process_right(self, row, ctx):  # a payment
    ...         ctx.set_timer(ctx.timestamp + 30_000)
    ...
    ...     def on_timer(self, timer, ctx):
    ...         if not self.ordered.get(False):
    ...             yield {"id": ctx.key}
    ...
    ...     def close(self):
    ...         pass  # once, when the task ends
    >>> topology = Topology("t")
    >>> orders = topology.stream(memory("orders", {"id": int}, [{"id": 1}]))
    >>> payments = topology.stream(memory("payments", {"id": int}, [{"id": 1}, {"id": 2}]))
    >>> orders.key_by("id").connect(payments.key_by("id")).process(Unordered).collect().to_pylist()
    [{'id': 2}]
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
