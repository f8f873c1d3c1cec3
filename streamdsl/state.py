"""The state that a `Processor` may keep for each key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol, TypeVar, overload

from streamdsl.durations import Duration

__all__ = ["Clock", "ListState", "MapState", "State", "ValueState"]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

#: Which time a timer or a time to live goes by.
Clock = Literal["event", "processing"]


class ValueState(Protocol[T]):
    """One value for each key. Reading gives a copy; only `set` and `clear` write.

    `get_many` and `set_many` belong to `process_batch`: one call for many keys, see `Processor.process_batch`.

    Examples
    --------
    >>> class Latest(Processor):
    ...     output = {"seen": "int | None", "default": int}
    ...
    ...     def open(self, ctx):
    ...         self.last = ctx.state.value("last", int, ttl="1h")
    ...
    ...     def process(self, row, ctx):
    ...         yield {"seen": self.last.value, "default": self.last.get(0)}
    ...         self.last.set(row.n) if row.n else self.last.clear()
    >>> rows = Topology("t").stream(memory("rows", {"k": str, "n": int}, [{"k": "a", "n": n} for n in (5, 0, 7)]))
    >>> rows.key_by("k").process(Latest).collect().to_pylist()
    [{'seen': None, 'default': 0}, {'seen': 5, 'default': 5}, {'seen': None, 'default': 0}]
    """

    @property
    def value(self) -> T | None:
        """The value of the key; None where there is none."""

    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, default: D) -> T | D: ...
    def set(self, value: T, *, ttl: Duration | None = ...) -> None:
        """Write the value; `ttl` in place of the one that was declared."""

    def clear(self) -> None:
        """Forget the value."""

    def get_many(self, keys: Sequence[Any], default: Any = None) -> list[Any]:
        """Return the values of many keys, `default` where there is none."""

    def set_many(self, keys: Sequence[Any], values: Sequence[T]) -> None:
        """Write the values of many keys."""


class ListState(Protocol[T]):
    """A list for each key. With a time to live each element has its own.

    Examples
    --------
    >>> class Recent(Processor):
    ...     output = {"recent": list[int]}
    ...
    ...     def open(self, ctx):
    ...         self.recent = ctx.state.list("recent", int, ttl="10ms")
    ...
    ...     def process(self, row, ctx):
    ...         self.recent.append(row.at)
    ...         yield {"recent": self.recent.get()}
    >>> rows = memory("rows", {"at": int}, [{"at": 1}, {"at": 9}, {"at": 12}])
    >>> Topology("t").stream(rows, timestamp="at").key_by().process(Recent).collect()["recent"].to_pylist()
    [[1], [1, 9], [9, 12]]
    """

    def append(self, value: T) -> None:
        """Add a value."""

    def extend(self, values: Iterable[T]) -> None:
        """Add values."""

    def get(self) -> list[T]:
        """Return a copy of the list; empty where there is none."""

    def set(self, values: Iterable[T]) -> None:
        """Write the whole list."""

    def clear(self) -> None:
        """Forget the list."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[T]: ...
    def __getitem__(self, index: int) -> T: ...


class MapState(Protocol[K, V]):
    """A dict for each key, in the order of insertion. With a time to live each entry has its own.

    Examples
    --------
    >>> class Basket(Processor):
    ...     output = {"items": str}
    ...
    ...     def open(self, ctx):
    ...         self.items = ctx.state.map("items", str, int)
    ...
    ...     def process(self, row, ctx):
    ...         self.items[row.item] = self.items.get(row.item, 0) + row.n
    ...         if not self.items[row.item]:
    ...             self.items.remove(row.item)
    ...         yield {"items": str(dict(self.items.items()))}
    >>> bought = [{"item": "pen", "n": 2}, {"item": "cup", "n": 1}, {"item": "pen", "n": -2}]
    >>> Topology("t").stream(memory("bought", rows=bought)).key_by().process(Basket).collect()["items"].to_pylist()
    ["{'pen': 2}", "{'pen': 2, 'cup': 1}", "{'cup': 1}"]
    """

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def put(self, key: K, value: V, *, ttl: Duration | None = ...) -> None:
        """Write an entry; `ttl` in place of the one that was declared. ``state[key] = value`` does without one."""

    def remove(self, key: K) -> None:
        """Forget an entry; one that is not there is no error."""

    def clear(self) -> None:
        """Forget all entries."""

    def items(self) -> list[tuple[K, V]]:
        """Return all entries."""

    def keys(self) -> list[K]:
        """Return all keys."""

    def values(self) -> list[V]:
        """Return all values."""

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

    Examples
    --------
    `value`, `list` and `map` are shown at `ValueState`, `ListState` and `MapState`. A dataclass is one value:

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Seen:
    ...     times: int = 0
    >>> class Count(Processor):
    ...     output = {"times": int}
    ...
    ...     def open(self, ctx):
    ...         self.seen = ctx.state.value("seen", Seen)
    ...
    ...     def process(self, row, ctx):
    ...         seen = self.seen.get(Seen())
    ...         seen.times += 1
    ...         self.seen.set(seen)  # without it nothing is kept
    ...         yield {"times": seen.times}
    >>> rows = Topology("t").stream(memory("rows", rows=[{"x": 1}, {"x": 2}]))
    >>> rows.key_by().process(Count).collect()["times"].to_pylist()
    [1, 2]
    """

    def value(self, name: str, type: type[T], *, ttl: Duration | None = None, clock: Clock = "event") -> ValueState[T]:
        """Declare one value for each key."""

    def list(self, name: str, type: type[T], *, ttl: Duration | None = None, clock: Clock = "event") -> ListState[T]:
        """Declare a list for each key."""

    def map(
        self, name: str, key_type: type[K], value_type: type[V], *, ttl: Duration | None = None, clock: Clock = "event"
    ) -> MapState[K, V]:
        """Declare a dict for each key."""
