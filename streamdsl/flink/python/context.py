"""What a processor is given on Flink: the same words, over the state and the timers of a keyed process function."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from streamdsl._native.rows.row_writer import RowWriter
from streamdsl.errors import StateError
from streamdsl.flink.python.calls import Writer
from streamdsl.schema import Schema

__all__ = ["Emitted", "FlinkContext", "Keyed"]

#: Types whose values are checked and converted as in a column.
_PLAIN: Final = (int, float, bool, str, bytes, datetime.datetime, datetime.date)
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
#: What is emitted: the tag of the output, its values, and the event time.
Emitted = tuple[str, tuple[Any, ...], int]


class Keyed(Protocol):
    """What Flink has for the key at hand."""

    def declare(self, name: str) -> None: ...
    def load(self, name: str) -> Any: ...
    def save(self, name: str, value: Any) -> None: ...
    def set_timer(self, at: int) -> None: ...
    def drop_timer(self, at: int) -> None: ...
    def counter(self, name: str) -> Any: ...


class FlinkContext:
    """The `ctx` of a processor; see `streamdsl.processor.Context`."""

    #: The names of the timers of a key, by their times.
    TIMERS: Final = "timers"

    def __init__(self, step: str, keyed: Keyed, writers: dict[str, Writer]) -> None:
        self.step, self.keyed = step, keyed
        self.key: Any = None
        self.timestamp = 0
        self.watermark: int | None = None
        self.state = _State(self)
        self.metrics = _Metrics(keyed)
        self._writers = writers
        self._emitted: list[Emitted] = []
        keyed.declare(self.TIMERS)

    def emit(self, row: Any, *, to: str = "", timestamp: int | None = None, key: Any = None) -> None:
        """Send a row on."""
        if to not in self._writers:
            known = ", ".join(repr(tag) for tag in self._writers if tag) or "none"
            raise StateError(f"{self.step}: there is no output {to!r}", remedy=f"declare it in outputs; known: {known}")
        self._emitted.append((to, self._writers[to].values(row), self.timestamp if timestamp is None else timestamp))

    def taken(self) -> list[Emitted]:
        """Return what has been emitted since the last call."""
        found, self._emitted = self._emitted, []
        return found

    def set_timer(self, at: int | datetime.datetime, name: str = "", *, clock: str = "event", every: Any = None) -> None:
        """Call `on_timer` for this key when the watermark passes `at`."""
        if clock != "event" or every is not None:
            raise self._unlike(
                f"set_timer({'every=' if every is not None else f'clock={clock!r}'})", "set timers of event time, one by one"
            )
        time, timers = _ms(at), dict(self.keyed.load(self.TIMERS) or {})
        if time not in timers:
            self.keyed.set_timer(time)
        if name not in timers.get(time, ()):
            self.keyed.save(self.TIMERS, {**timers, time: [*timers.get(time, ()), name]})

    def cancel_timer(self, at: int | datetime.datetime, name: str = "", *, clock: str = "event") -> None:
        """Forget a timer."""
        time, timers = _ms(at), dict(self.keyed.load(self.TIMERS) or {})
        if clock != "event" or name not in timers.get(time, ()):
            return
        timers[time] = [one for one in timers[time] if one != name]
        if not timers[time]:
            del timers[time]
            self.keyed.drop_timer(time)
        self.keyed.save(self.TIMERS, timers or None)

    def fired(self, at: int) -> list[str]:
        """Return the names of the timers of a time, which are set no longer."""
        timers = dict(self.keyed.load(self.TIMERS) or {})
        names: list[str] = timers.pop(at, [])
        self.keyed.save(self.TIMERS, timers or None)
        return names

    def _unlike(self, what: str, remedy: str) -> StateError:
        return StateError(f"{self.step}: {what} is not to be had on Flink", remedy=remedy)


def _ms(at: int | datetime.datetime) -> int:
    if not isinstance(at, datetime.datetime):
        return int(at)
    moment = at if at.tzinfo is not None else at.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH) // datetime.timedelta(milliseconds=1)


class _Metrics:
    def __init__(self, keyed: Keyed) -> None:
        self._keyed = keyed

    def counter(self, name: str) -> Any:
        return self._keyed.counter(name)

    def gauge(self, name: str) -> Any:
        return _Gauge()


class _Gauge:
    """Flink asks for gauges; a figure that is set is shown nowhere."""

    def set(self, value: float) -> None:
        """Take a figure."""


class _State:
    def __init__(self, ctx: FlinkContext) -> None:
        self._ctx = ctx

    def value(self, name: str, type: Any, *, ttl: Any = None, clock: str = "event") -> _Value:
        return _Value(self._declared(name, ttl), name, _check(name, type))

    def list(self, name: str, type: Any, *, ttl: Any = None, clock: str = "event") -> _List:
        return _List(self._declared(name, ttl), name, _check(name, type))

    def map(self, name: str, key_type: Any, value_type: Any, *, ttl: Any = None, clock: str = "event") -> _Map:
        return _Map(self._declared(name, ttl), name, _check(name, value_type), _check(name, key_type))

    def _declared(self, name: str, ttl: Any) -> FlinkContext:
        if ttl is not None:
            raise self._ctx._unlike(f"state {name!r} with ttl=", "clear it with a timer, or run this part here")
        self._ctx.keyed.declare(f"state.{name}")
        return self._ctx


def _check(name: str, type_: Any) -> Any:
    """Return what checks a value of state, and copies it."""
    if type_ not in _PLAIN:
        return copy.deepcopy
    writer = RowWriter(name, Schema.of({name: type_}))
    return lambda value: writer.checked({name: value})[0]


class _Handle:
    def __init__(self, ctx: FlinkContext, name: str, check: Any, check_key: Any = None) -> None:
        self._ctx, self._name, self._check, self._check_key = ctx, f"state.{name}", check, check_key

    def _load(self) -> Any:
        return self._ctx.keyed.load(self._name)

    def _save(self, value: Any) -> None:
        self._ctx.keyed.save(self._name, value)

    def _no_ttl(self, ttl: Any) -> None:
        if ttl is not None:
            raise self._ctx._unlike("a value with ttl=", "clear it with a timer, or run this part here")

    def clear(self) -> None:
        """Forget it."""
        self._save(None)


class _Value(_Handle):
    @property
    def value(self) -> Any:
        return self.get()

    def get(self, default: Any = None) -> Any:
        found = self._load()
        return default if found is None else found[0]

    def set(self, value: Any, *, ttl: Any = None) -> None:
        self._no_ttl(ttl)
        self._save((self._check(value),))


class _List(_Handle):
    def get(self) -> list[Any]:
        return list(self._load() or ())

    def append(self, value: Any) -> None:
        self._save([*self.get(), self._check(value)])

    def extend(self, values: Iterable[Any]) -> None:
        self._save([*self.get(), *map(self._check, values)])

    def set(self, values: Iterable[Any]) -> None:
        self._save([self._check(value) for value in values] or None)

    def __len__(self) -> int:
        return len(self.get())

    def __iter__(self) -> Iterator[Any]:
        return iter(self.get())

    def __getitem__(self, index: int) -> Any:
        return self.get()[index]


class _Map(_Handle):
    def _dict(self) -> dict[Any, Any]:
        return dict(self._load() or {})

    def get(self, key: Any, default: Any = None) -> Any:
        return self._dict().get(key, default)

    def put(self, key: Any, value: Any, *, ttl: Any = None) -> None:
        self._no_ttl(ttl)
        self._save({**self._dict(), self._check_key(key): self._check(value)})

    def remove(self, key: Any) -> None:
        found = self._dict()
        found.pop(key, None)
        self._save(found or None)

    def items(self) -> list[tuple[Any, Any]]:
        return list(self._dict().items())

    def keys(self) -> list[Any]:
        return list(self._dict())

    def values(self) -> list[Any]:
        return list(self._dict().values())

    def __contains__(self, key: object) -> bool:
        return key in self._dict()

    def __len__(self) -> int:
        return len(self._dict())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._dict())

    def __getitem__(self, key: Any) -> Any:
        return self._dict()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: Any) -> None:
        found = self._dict()
        del found[key]
        self._save(found or None)
